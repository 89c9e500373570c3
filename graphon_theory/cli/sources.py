"""What the commands read: networks, kernels and arrays, with the file's name in every error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphon_theory.cli.options import Kind, Parameterization
from graphon_theory.data.archives import is_archive
from graphon_theory.data.array_files import ARRAYS, read_array
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from graphon_theory.networks.network import Network

SOURCE = "a network (.toml, with --inputs) or a kernel file (.nc) written by `graphon-theory kernel`"


def is_network(path: Path) -> bool:
    """Whether a file holds a network: text by its name, arrays beside it by what is in it."""
    if path.suffix.lower() == ".toml":
        return True
    if path.suffix.lower() != ".npz" or not path.exists() or not is_archive(path):
        return False
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as archive:
            return "network.toml" in archive.namelist()
    except BadZipFile:
        return False


def read_network_as(
    path: Path, parameterization: Parameterization | None = None, widths: list[int] | None = None
) -> Network:
    """The network of a file, in the parameterization that was asked for."""
    from graphon_theory.networks.network import Network

    network = Network.load(path)
    asked: dict[str, Any] = {}
    if parameterization:
        asked["parameterization"] = parameterization.value
    if widths:
        asked["widths"] = widths
    return dataclasses.replace(network, **asked) if asked else network


def chosen_kernel(
    source: Path,
    inputs: Path | None,
    kind: Kind,
    output: int | None,
    rtol: float,
    parameterization: Parameterization | None,
    widths: list[int] | None,
    progress: Callable[[int, int], None] | None,
) -> xr.DataArray:
    """The kernel of a file, or of a network on inputs; of one output where one was asked for."""
    if is_network(source):
        if inputs is None:
            raise InputError(f"--inputs: {source} is a network, so it needs --inputs FILE as well.")
        from graphon_theory.engine.limits import limit_kernel

        network = read_network_as(source, parameterization, widths)
        kernels = limit_kernel(network, read_array(inputs, "x"), rtol=rtol, progress=progress)
    elif source.suffix.lower() in ARRAYS:
        what = "expected a netCDF-3 file of a kernel, or a network as .toml, but it holds arrays"
        raise InputError(f"{source}: {what}; inputs go beside a network, as --inputs.")
    elif parameterization or widths:
        raise InputError(
            f"--parameterization: {source} holds a kernel, whose parameterization is settled; pass the network."
        )
    else:
        kernels = load_dataset(source)
    if kind.value not in kernels:
        has = ", ".join(map(str, kernels.data_vars))
        raise InputError(f"{source}: holds no {kind.value}, only {has}; pass {SOURCE}.")
    kernel = kernels[kind.value]
    outputs = kernel.sizes.get("output", 1)
    if output is not None and not 0 <= output < outputs:
        raise InputError(f"--output: expected 0 to {outputs - 1}, got {output}.")
    return kernel.isel(output=output) if "output" in kernel.dims and output is not None else kernel
