"""Names of dimensions and coordinates, and how plain arrays become labelled results.

xarray is put on at the door and taken off at the door: only this module knows the names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphon_theory.errors import InputError, KernelError

if TYPE_CHECKING:
    import xarray as xr

X = "x"  # inputs, rows of a kernel
X2 = "x2"  # inputs, columns of a kernel
OUTPUT = "output"  # outputs of the network
LAYER = "layer"  # weight layers, counted 1..L from the input
MODE = "mode"  # eigenmodes, counted 1.. from the largest
TIME = "time"  # training time
U = "u"  # receiving positions
V = "v"  # sending positions
NETWORK = "network"  # networks compared with each other
REPEATED = "repeated"  # layers between hidden ones, 2..L-1, each as if repeated for ever
WIDTH = "width"  # hidden width of a finite network
SEED = "seed"  # of a finite network
TARGET = "target"  # columns of the training targets
X_TEST = "x_test"  # new inputs, rows of a test kernel
DEGREE = "degree"  # of spherical harmonics, from 0
RADIAL = "radial"  # eigenmodes of one degree, counted 1.. from the largest
SIZE = "size"  # of a training set

FloatArray = NDArray[np.float64]
Variables = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


def as_inputs(x: ArrayLike | xr.DataArray, name: str = "x") -> FloatArray:
    """Take a data matrix (N, d) off its labels: a C-contiguous float64 array, checked to be finite.

    Raises InputError when the rank is not 2, the array is empty, the type is not real, or a value is NaN or
    infinite.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: expected real numbers, got dtype {array.dtype}; convert it to float first.")
    if array.ndim != 2:
        hint = f"use {name}[:, None] or {name}[None, :]" if array.ndim == 1 else "flatten all but the first axis"
        raise InputError(f"{name}: expected shape (samples, inputs), got shape {array.shape}; {hint}.")
    if 0 in array.shape:
        raise InputError(f"{name}: expected at least one sample and one input, got shape {array.shape}.")
    out: FloatArray = np.ascontiguousarray(array, dtype=np.float64)
    bad = np.argwhere(~np.isfinite(out))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        raise InputError(
            f"{name}: {len(bad)} of {out.size} values are not finite, the first is {out[row, column]} at "
            f"[{row}, {column}]; drop or impute those samples."
        )
    return out


def as_kernel(kernel: ArrayLike | xr.DataArray, name: str = "kernel", *, square: bool = True) -> FloatArray:
    """Take a kernel matrix (N, N2) off its labels: float64, finite, square if asked.

    Raises KernelError otherwise. A leading output dimension must be selected away first.
    """
    if hasattr(kernel, "data_vars"):
        has = ", ".join(map(str, kernel.data_vars))
        raise KernelError(f"{name}: expected one kernel, got a Dataset of {has}; pass one of them, as in kern.ntk.")
    dims = getattr(kernel, "dims", None)
    try:
        matrix = np.asarray(kernel)
    except ValueError as error:
        raise KernelError(f"{name}: expected a matrix of numbers, but it cannot be made one ({error}).") from None
    if matrix.dtype.kind not in "fiub":
        raise KernelError(f"{name}: expected real numbers, got dtype {matrix.dtype}.")
    matrix = matrix.astype(np.float64, copy=False)
    if matrix.ndim != 2:
        hint = "; select one output first, as in kernel.isel(output=0)" if dims and OUTPUT in dims else ""
        raise KernelError(f"{name}: expected a matrix, got shape {matrix.shape}{hint}.")
    if 0 in matrix.shape:
        raise KernelError(f"{name}: expected at least one input, got shape {matrix.shape}.")
    if square and matrix.shape[0] != matrix.shape[1]:
        raise KernelError(
            f"{name}: expected a square matrix, got shape {matrix.shape}; pass the kernel of the training "
            "inputs with themselves."
        )
    finite = np.isfinite(matrix)
    if not finite.all():
        raise KernelError(
            f"{name}: {int(matrix.size - finite.sum())} of {matrix.size} entries are not finite; recompute the kernel."
        )
    return matrix


def coords_of(x: Any, dim: str, axis: int = 0) -> dict[str, Any]:
    """The coordinates along an axis of ``x`` (the samples) under the name ``dim``, if it is labelled."""
    if not hasattr(x, "dims") or not hasattr(x, "coords"):
        return {}
    own = x.dims[axis]
    return {dim: np.asarray(x.coords[own].values)} if own in x.coords else {}


def dataset(
    variables: Variables,
    coords: dict[str, Any] | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Label arrays: ``variables`` maps a name to (dims, array); ``attrs`` get the package's version too."""
    import xarray as xr

    from graphon_theory import __version__

    return xr.Dataset(variables, coords=coords or {}, attrs={**(attrs or {}), "graphon_theory": __version__})


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to: it becomes ``path`` if the block ends well, else it goes."""
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.stem}.{os.getpid()}.part{final.suffix}")
    try:
        yield part
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def save_dataset(data: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write ``data`` as netCDF-3 (64-bit offsets) with SciPy; never leaves a partial file."""
    with whole_file(path) as part:
        data.to_netcdf(part, engine="scipy", format="NETCDF3_64BIT")


def load_dataset(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read what `save_dataset` wrote, wholly into memory. Raises InputError when the file cannot be read."""
    import xarray as xr

    try:
        return xr.load_dataset(path, engine="scipy")
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{os.fspath(path)}: expected a netCDF-3 file written by graphon-theory, but it cannot be read ({error})."
        ) from None
