"""The data that TOML holds of a network: stages, graphons and activations to plain values and back.

Nothing is evaluated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

import tomli_w

from graphon_theory.activations.activation import Activation
from graphon_theory.errors import GraphonError, SpecError, shown, shown_text
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, StepGraphon
from graphon_theory.networks.connectivity import Connectivity, Known
from graphon_theory.networks.stages import SCALES, Dense, LayerNorm, Pointwise, Residual, Stage
from graphon_theory.numerics import expressions

T = TypeVar("T")

_MAX_TABLE = 4_096  # entries of an array written to TOML
_SHORT_TABLE = 36  # of one that stands in a text for people where the whole is long

_ROW = re.compile(r"\[\n((?: +[-+0-9.einfa]+,\n)+) *\]")  # of numbers; in strings there is no end of a line


def toml_text(table: Mapping[str, Any]) -> str:
    """TOML, with rows of numbers on one line each rather than a line a number."""
    return _ROW.sub(lambda row: f"[{', '.join(row[1].replace(',', ' ').split())}]", tomli_w.dumps(table))


def activation_spec(activation: Activation) -> Any:
    """An activation as TOML data: its name, or a table with its expression."""
    if activation.named:
        return activation.name
    if activation.expression is None:
        raise SpecError(f"activation: {activation!r}: a callable cannot be written as text; use an expression in z.")
    return {"expression": expressions.text(activation.expression)}


def activation_summary(activation: Activation) -> str:
    return activation.name


def activation_from_spec(value: Any) -> Any:
    if isinstance(value, list):
        return [activation_from_spec(one) for one in value]
    if not isinstance(value, dict):
        return value
    refuse_unknown(value, {"expression"}, "activation")
    if not isinstance(value.get("expression"), str):
        raise SpecError('activation: expected a name, or a table such as {expression = "Max(z, z**2/10)"}.')
    return Activation(value["expression"])


def graphon_spec(graphon: Graphon) -> Any:
    """A graphon as TOML data: a number, an expression's text, or a table of values and edges."""
    if isinstance(graphon, ConstantGraphon):
        return graphon.p
    if isinstance(graphon, StepGraphon):
        if graphon.values.size > _MAX_TABLE:
            raise SpecError(
                f"{graphon!r}: {graphon.values.size} entries, at most {_MAX_TABLE} are written as text; "
                "network.save(path) with a name in .npz holds them."
            )
        return {key: getattr(graphon, key).tolist() for key in ("values", "u_edges", "v_edges")}
    if isinstance(graphon, AnalyticGraphon):
        text = expressions.text(graphon.expr)
        try:
            expressions.parse(text, ("u", "v"))
        except GraphonError as error:
            raise SpecError(f"the expression cannot be written as text that would be read back: {error}") from None
        return text
    raise SpecError(f"{graphon!r}: a callable cannot be written as text; use an AnalyticGraphon or a StepGraphon.")


def graphon_summary(graphon: Graphon) -> Any:
    try:
        return graphon_spec(graphon)
    except SpecError:
        return short(graphon)


def graphon_digest(graphon: Graphon) -> Any:
    """As `graphon_summary`, but larger tables by shape and hash."""
    large = isinstance(graphon, StepGraphon) and graphon.values.size > _SHORT_TABLE
    return short(graphon) if large else graphon_summary(graphon)


def short(graphon: Graphon) -> str:
    """A step function by shape and hash, others as they show themselves."""
    if not isinstance(graphon, StepGraphon):
        return repr(graphon)
    data = b"".join(a.tobytes() for a in (graphon.values, graphon.u_edges, graphon.v_edges))
    return f"step function, shape {graphon.values.shape}, sha256 {hashlib.sha256(data).hexdigest()[:16]}"


def known_spec(known: Known) -> Any:
    raise SpecError(
        f"{known!r}: what is known of single units is not written as text; network.save(path) with a name in .npz "
        "holds it."
    )


def known_summary(known: Known) -> Any:
    digest = hashlib.sha256()
    for graphon in known.graphons:
        digest.update(str(short(graphon)).encode())
    return f"{len(known.profiles)} profiles, sha256 {digest.hexdigest()[:16]}"


def graphon_from_spec(value: Any, where: str) -> Graphon:
    try:
        if isinstance(value, dict):
            refuse_unknown(value, {"values", "u_edges", "v_edges"}, where)
            if "values" not in value:
                raise SpecError("values are missing from the step function")
            return StepGraphon(**value)
        if isinstance(value, str):
            return AnalyticGraphon(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return ConstantGraphon(value)
        if isinstance(value, list):
            return StepGraphon(value)
    except GraphonError as error:
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}: {error}.") from None
    raise SpecError(f"{where}: expected a number, an expression's text or a table of values, got {shown(value)}.")


def refuse_unknown(table: Any, known: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise SpecError(f"{where}: expected a table, got {shown(table)}.")
    unknown = sorted(set(table) - known)
    if unknown:
        near = [(key, found[0]) for key in unknown if (found := get_close_matches(key, known, 1))]
        hint = "".join(f"; did you mean {there} for {key[:40]}?" for key, there in near[:1])
        names = shown_text(", ".join(unknown))
        raise SpecError(f"{where}: unknown keys {names}; known are {', '.join(sorted(known))}{hint or '.'}")


# --- layers and stages ------------------------------------------------------------------------------------------------


class Writers(NamedTuple):
    """How the parts of a network become plain values."""

    graphon: Callable[[Graphon], Any]
    activation: Callable[[Activation], Any]
    known: Callable[[Known], Any]


SPECS = Writers(graphon_spec, activation_spec, known_spec)  # to be read back; SpecError where text does not hold a part
SUMMARIES = Writers(graphon_summary, activation_summary, known_summary)  # for people
SHORT_SUMMARIES = SUMMARIES._replace(graphon=graphon_digest)  # where even those are long


def connectivity_spec(layer: Connectivity, write: Writers) -> dict[str, Any]:
    table = {"mask": write.graphon(layer.mask)}
    if layer.variance is not layer.mask:
        table["variance"] = write.graphon(layer.variance)
    if layer.has_drift:
        table["drift"] = write.graphon(layer.drift)
    if layer.known is not None:
        table["known"] = write.known(layer.known)
    return table


def connectivity_from_spec(table: Any, where: str) -> Connectivity:
    refuse_unknown(table, {*_GRAPHONS, "known"}, where)
    if "mask" not in table:
        raise SpecError(f"{where}: the mask is missing; write mask = 0.5, text or a table of values.")
    read = {key: value for key, value in table.items() if key != "known"}
    parts: dict[str, Any] = {key: graphon_from_spec(value, f"{where}, {key}") for key, value in read.items()}
    if "known" in table:
        parts["known"] = _known_from_spec(table["known"], f"{where}, known")
    return _made(Connectivity, parts, where)


def _known_from_spec(table: Any, where: str) -> Known:
    single = ("bias_mean", "returning")
    refuse_unknown(table, {"profiles", "bias", "gradients", "coordinates", "senders", *single}, where)
    parts: dict[str, Any] = {}
    for key, value in table.items():
        if key == "senders":
            parts[key] = value
            continue
        if key not in single and not isinstance(value, list):
            raise SpecError(f"{where}, {key}: expected a list of graphons, got {shown(value)}.")
        several = value if isinstance(value, list) and key not in single else [value]
        read = [graphon_from_spec(one, f"{where}, {key}") for one in several]
        parts[key] = read[0] if key in single else read
    if "profiles" not in parts:
        raise SpecError(f"{where}: the profiles are missing.")
    return _made(Known, parts, where)


def stage_spec(stage: Stage, write: Writers) -> dict[str, Any]:
    if isinstance(stage, Dense):
        scales = {name: getattr(stage, name) for name in SCALES if getattr(stage, name) is not None}
        return {"kind": "dense", **connectivity_spec(stage.connectivity, write), **scales}
    if isinstance(stage, Pointwise):
        given = {} if stage.activation is None else {"activation": write.activation(stage.activation)}
        return {"kind": "pointwise", **given}
    if isinstance(stage, LayerNorm):
        return {"kind": "layer_norm", "epsilon": stage.epsilon}
    return {"kind": "residual", "scale": stage.scale, "stage": [stage_spec(one, write) for one in stage.stages]}


def stage_from_spec(table: Any, where: str) -> Stage:
    kind = table.get("kind") if isinstance(table, dict) else None
    keys = _STAGE_KEYS.get(kind) if isinstance(kind, str) else None
    if keys is None:
        raise SpecError(f"{where}: expected a table with a kind, one of {', '.join(_STAGE_KEYS)}, got {shown(table)}.")
    refuse_unknown(table, {"kind", *keys}, where)
    given = {key: value for key, value in table.items() if key != "kind"}
    if kind == "dense":
        held = (*_GRAPHONS, "known")
        connectivity = connectivity_from_spec({key: given[key] for key in held if key in given}, where)
        return _made(Dense, {"connectivity": connectivity, **{k: given[k] for k in SCALES if k in given}}, where)
    if kind == "pointwise":
        return _made(Pointwise, {key: activation_from_spec(value) for key, value in given.items()}, where)
    if kind == "layer_norm":
        return _made(LayerNorm, given, where)
    inner = given.pop("stage", None)
    if not isinstance(inner, list):
        raise SpecError(f"{where}: a residual has [[stage.stage]] tables, its branch.")
    branch = [stage_from_spec(one, f"{where}, stage {number}") for number, one in enumerate(inner, 1)]
    return _made(lambda **scale: Residual(*branch, **scale), given, where)


_GRAPHONS = ("mask", "variance", "drift")
_STAGE_KEYS: dict[str, tuple[str, ...]] = {
    "dense": (*_GRAPHONS, "known", *SCALES),
    "pointwise": ("activation",),
    "residual": ("scale", "stage"),
    "layer_norm": ("epsilon",),
}


def _made(make: Callable[..., T], parts: dict[str, Any], where: str) -> T:
    try:
        return make(**parts)
    except GraphonError as error:
        raise type(error)(f"{where}: {error}") from None
