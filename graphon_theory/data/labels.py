"""Names of dimensions and coordinates, labels of arguments, and how plain arrays become labelled results.

xarray is put on at the door and taken off at the door: only this module knows the names. Labels of arguments follow one
rule (docs/conventions.md): `by_rows` and `by_kernel` put axes in the expected order where their names say so,
`labels_of` reads what an axis carries, `refuse_other_labels` compares, and `coords_of` hands them on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphon_theory.errors import InputError

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
X_TEST2 = "x_test2"  # new inputs, columns of a covariance between them
DEGREE = "degree"  # of spherical harmonics, from 0
RADIAL = "radial"  # eigenmodes of one degree, counted 1.. from the largest
RIDGE = "ridge"  # of kernel regression
SIZE = "size"  # of a training set
ITERATION = "iteration"  # of an optimiser

Variables = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


# Where a named axis stands among others: lower first, names that say nothing between, equal ones as they come.
_NEW_INPUTS = (X_TEST, "x_new")
_ROWS = {**dict.fromkeys((*_NEW_INPUTS, X, X2), -1), **dict.fromkeys((TARGET, OUTPUT), 1)}
_KERNEL = {**dict.fromkeys(_NEW_INPUTS, -1), X2: 1}


class Labels(NamedTuple):
    """What an axis of an argument carries: the argument's name, for messages, and its labels or None."""

    name: str
    values: NDArray[Any] | None


def by_rows(x: Any, like: Any = None) -> Any:
    """Inputs or targets with samples in rows, where the names of a DataArray's dimensions say that they are not.

    Dimensions called "x", "x2", "x_test" or "x_new" count samples, "target" and "output" come last. ``like``: another
    such array, whose own names then say it too.
    """
    if hasattr(x, "data_vars"):  # a Dataset has dimensions, and no rows
        return x
    if like is not None and hasattr(x, "dims") and getattr(like, "dims", None) == x.dims[::-1] != x.dims:
        return by_rows(x.transpose(*x.dims[::-1]))
    return _in_order(x, _ROWS)


def by_kernel(kernel: Any) -> Any:
    """A kernel, new inputs in rows by training inputs, where the names of a DataArray's dimensions say that it is not.

    "x_test" and "x_new" count rows, "x2" columns; "x" and names of one's own stand where they stand.
    """
    return _in_order(kernel, _KERNEL)


def _in_order(array: Any, ranks: dict[str, int]) -> Any:
    if not hasattr(array, "dims") or hasattr(array, "data_vars") or len(array.dims) != 2:
        return array
    return array.transpose(*sorted(array.dims, key=lambda name: ranks.get(name, 0)))


def labels_of(x: Any, axis: int = 0) -> NDArray[Any] | None:
    """The labels along an axis: the coordinate of a DataArray, the index or columns of a DataFrame; None without."""
    if hasattr(x, "dims") and hasattr(x, "coords") and not hasattr(x, "data_vars"):
        if axis >= len(x.dims) or x.dims[axis] not in x.coords:
            return None
        return np.asarray(x.coords[x.dims[axis]].values)
    if hasattr(x, "iloc") and axis < np.ndim(x):
        return np.asarray(x.columns if axis else x.index)
    return None


def samples_of(x: Any, name: str = "x") -> Labels:
    """The labels of the samples of inputs or targets."""
    return Labels(name, labels_of(by_rows(x)))


def inputs_of(kernel: Any, name: str = "kernel") -> Labels:
    """The labels of the inputs of a square kernel."""
    arranged = by_kernel(kernel)
    rows = labels_of(arranged)
    return Labels(name, labels_of(arranged, 1) if rows is None else rows)


def refuse_other_labels(one: Labels, other: Labels, of: str) -> None:
    """Raise InputError where both carry labels, and they differ; ``of`` is what the axis of the first counts."""
    if one.values is None or other.values is None or len(one.values) != len(other.values):
        return  # lengths are the business of the checks of shapes
    pairs = enumerate(zip(one.values, other.values, strict=True))
    first = next(((k, here, there) for k, (here, there) in pairs if not _alike(here, there)), None)
    if first is not None:
        place, here, there = first
        raise InputError(
            f"{one.name}: the labels of its {of} differ from those of {other.name}, first at [{place}]: {here!s:.40} "
            f"and {there!s:.40}; select or reindex one like the other, or pass the plain values of one, which go by "
            "position."
        )


def _alike(here: Any, there: Any) -> bool:
    try:
        return here is there or bool(here == there) or bool(here != here and there != there)  # NaN is like NaN
    except (TypeError, ValueError):
        return False


def coords_of(x: Any, dim: str, axis: int = 0) -> dict[str, Any]:
    """The labels along an axis of ``x`` as the coordinate ``dim``, if it has any."""
    labels = labels_of(x, axis)
    return {} if labels is None else {dim: labels}


def coords_of_inputs(x: Any, x2: Any = None) -> dict[str, Any]:
    """The labels of the samples of ``x`` and ``x2`` (``x`` again, if None) as coordinates of a kernel between them."""
    return {**coords_of(by_rows(x), X), **coords_of(by_rows(x if x2 is None else x2, x), X2)}


def dataset(
    variables: Variables,
    coords: dict[str, Any] | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Label arrays: ``variables`` maps a name to (dims, array); ``attrs`` get the package's version too."""
    import xarray as xr

    from graphon_theory import __version__

    return xr.Dataset(variables, coords=coords or {}, attrs={**(attrs or {}), "graphon_theory": __version__})
