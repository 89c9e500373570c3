"""Networks in files: TOML as text, or with large arrays beside it.

A binary file holds what the text would (``network.toml``), where an array of numbers is a reference,
``{array = "a0"}``, to a .npy beside it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphon_theory.arrays import FloatArray
from graphon_theory.data.archives import is_archive, read_archive, write_archive
from graphon_theory.data.files import file_path, whole_file
from graphon_theory.errors import GraphonError, SpecError, shown_text
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, StepGraphon
from graphon_theory.networks.connectivity import Known
from graphon_theory.networks.specs import SPECS, Writers, activation_spec, graphon_spec, toml_text

_MEMBER = "network.toml"
SUFFIXES = (".toml", ".npz")


def write_network(path: str | os.PathLike[str], to_dict: Callable[[Writers], dict[str, Any]]) -> None:
    """Write the data of a network, as text (.toml) or with its arrays beside (.npz), whole or not at all."""
    suffix = file_path("path", path, error=SpecError).suffix.lower()
    if suffix not in SUFFIXES:
        raise SpecError(
            f"path: expected a name that ends in .toml (text) or .npz (with arrays of any size), got "
            f"{shown_text(os.fspath(path))}."
        )
    if suffix == ".toml":
        text = toml_text(to_dict(SPECS))
        with whole_file(path) as part:
            part.write_text(text, encoding="utf-8")
        return
    arrays: dict[str, FloatArray] = {}

    def graphon(one: Graphon) -> Any:
        if not isinstance(one, StepGraphon) or isinstance(one, ConstantGraphon):
            return graphon_spec(one)
        table = {}
        for key in ("values", "u_edges", "v_edges"):
            name = f"a{len(arrays)}"
            arrays[name] = getattr(one, key)
            table[key] = {"array": name}
        return table

    def known(one: Known) -> Any:
        units = {} if one.senders is None else {"senders": one.senders}
        if one.returning is not None:
            units["returning"] = graphon(one.returning)
        return {
            **units,
            "profiles": [graphon(profile) for profile in one.profiles],
            "bias": [graphon(share) for share in one.bias],
            "bias_mean": graphon(one.bias_mean),
            "gradients": [graphon(mode) for mode in one.gradients],
            "coordinates": [graphon(share) for share in one.coordinates],
        }

    text = toml_text(to_dict(Writers(graphon, activation_spec, known)))
    write_archive(path, _MEMBER, text, arrays)


def read_network(path: Path) -> dict[str, Any]:
    """The data of a network's file, of either kind by its content. Raises SpecError; OSError where there is none."""
    if is_archive(path):
        text, arrays = read_archive(path, _MEMBER)
        return _with_arrays(parsed(text), arrays)
    try:
        return parsed(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SpecError("expected a network as TOML text, but this is no UTF-8 text.") from None


def parsed(text: str) -> dict[str, Any]:
    """TOML as plain values. Raises SpecError."""
    try:
        return tomllib.loads(text)
    except (RecursionError, ValueError) as error:
        raise SpecError(f"text: not valid TOML ({error}).") from None


def _with_arrays(value: Any, arrays: dict[str, FloatArray]) -> Any:
    """``value`` with every reference replaced by its array."""
    if isinstance(value, list):
        return [_with_arrays(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"array"}:
        name = value["array"]
        if not isinstance(name, str) or name not in arrays:
            raise SpecError(f"{_MEMBER}: refers to an array {shown_text(str(name))} that the file does not hold.")
        return arrays[name]
    return {key: _with_arrays(one, arrays) for key, one in value.items()}


def named_after(path: Path, error: GraphonError) -> GraphonError:
    """The error with the file's name before it."""
    return type(error)(f"{shown_text(str(path))}: {error}")
