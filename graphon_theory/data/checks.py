"""Checks at the door: arrays taken off their labels, finite and of the right shape, and the small arguments.

One rule everywhere: the message names the argument, what was expected, what came and what to change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.labels import OUTPUT, Labels, by_kernel, by_rows, labels_of, refuse_other_labels
from graphon_theory.errors import InputError, KernelError

if TYPE_CHECKING:
    import xarray as xr

# Squares of targets and sums of them must be numbers; the rest is room for what multiplies them.
_LARGEST = 1e150
UNLABELLED = Labels("", None)


def as_inputs(
    x: ArrayLike | xr.DataArray, name: str = "x", *, like: ArrayLike | xr.DataArray | None = None
) -> FloatArray:
    """Take a data matrix (N, d) off its labels: a C-contiguous float64 array, checked to be finite.

    Raises InputError when the rank is not 2, the array is empty, the type is not real, a value is NaN or infinite, or
    its columns are labelled otherwise than those of ``like``, the inputs ``x`` that it goes with.
    """
    arranged = by_rows(x, like)
    array = np.asarray(arranged)
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
    if like is not None:
        refuse_other_labels(Labels(name, labels_of(arranged, 1)), Labels("x", labels_of(by_rows(like), 1)), "columns")
    return out


def as_kernel(kernel: ArrayLike | xr.DataArray, name: str = "kernel", *, square: bool = True) -> FloatArray:
    """Take a kernel matrix (N, N2) off its labels: float64, finite, square if asked.

    Raises KernelError otherwise, InputError where rows and columns of a square one are labelled otherwise. A leading
    output dimension must be selected away first.
    """
    if hasattr(kernel, "data_vars"):
        has = ", ".join(map(str, kernel.data_vars))
        raise KernelError(f"{name}: expected one kernel, got a Dataset of {has}; pass one of them, as in kern.ntk.")
    dims = getattr(kernel, "dims", None)
    kernel = by_kernel(kernel)
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
    if square:
        refuse_other_labels(Labels(name, labels_of(kernel)), Labels("its columns", labels_of(kernel, 1)), "rows")
    return matrix


def as_cross_kernel(
    kernel: ArrayLike | xr.DataArray, name: str, training: Labels, size: int
) -> tuple[FloatArray, Labels]:
    """A kernel of new by training inputs (M, N), and the labels of the new ones.

    Raises KernelError for anything else, InputError where its columns are labelled otherwise than the training inputs.
    """
    matrix = as_kernel(kernel, name, square=False)
    if matrix.shape[1] != size:
        raise KernelError(
            f"{name}: expected {size} columns, one per training input, got shape {matrix.shape}; pass "
            "limit_kernel(network, x_new, x).ntk."
        )
    arranged = by_kernel(kernel)
    refuse_other_labels(Labels(name, labels_of(arranged, 1)), training, "columns, the training inputs,")
    return matrix, Labels(name, labels_of(arranged, 0))


def as_generator(rng: Any) -> np.random.Generator:
    """A Generator from one or from a seed. Raises InputError otherwise."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise InputError(f"rng: expected a numpy Generator or a seed, got {rng!r} ({error}).") from None


def checked_clock(times: Sequence[float] | None, count: int) -> FloatArray:
    clock = np.arange(count, dtype=float) if times is None else np.asarray(times, dtype=float)
    if clock.shape != (count,) or not np.isfinite(clock).all() or not (np.diff(clock) > 0).all():
        raise InputError(f"times: expected {count} increasing finite numbers, one for each mask, got {times!r}.")
    return clock


def checked_count(count: int | None, size: int) -> int:
    if count is None:
        return size
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= size:
        raise InputError(f"count: expected a whole number from 1 to {size} (the kernel's size) or None, got {count!r}.")
    return int(count)


def checked_weights(weights: ArrayLike | xr.DataArray, size: int, inputs: Labels = UNLABELLED) -> FloatArray:
    """The sample's law: (size,) positive numbers, divided by their sum. Raises InputError."""
    law = np.asarray(weights)
    if law.shape != (size,) or law.dtype.kind not in "fiu":
        raise InputError(f"weights: expected {size} numbers, one an input, got shape {law.shape} of {law.dtype}.")
    law = law.astype(np.float64)
    bad = np.flatnonzero(~((law > 0) & np.isfinite(law)))
    if len(bad):
        raise InputError(
            f"weights: expected positive numbers, but {len(bad)} of {size} are not, the first is {law[bad[0]]} at "
            f"[{bad[0]}]; leave out inputs that do not count."
        )
    refuse_other_labels(Labels("weights", labels_of(weights)), inputs, "rows")
    return np.asarray(law / law.sum())


def checked_targets(y: ArrayLike | xr.DataArray, size: int, name: str = "y", inputs: Labels = UNLABELLED) -> FloatArray:
    """Targets (size,) or (size, targets) as float64, of the ``inputs``. Raises InputError.

    Also where squares of them are no numbers: beyond 1e150, or all of them below 1e-150 and not zero.
    """
    arranged = by_rows(y)
    targets = np.asarray(arranged)
    if targets.dtype.kind not in "fiub":
        raise InputError(
            f"{name}: expected real numbers, got dtype {targets.dtype}; encode labels as numbers (one-hot)."
        )
    if targets.ndim not in (1, 2) or len(targets) != size or 0 in targets.shape:
        raise InputError(
            f"{name}: expected shape ({size},) or ({size}, targets), one row per training input, got shape "
            f"{targets.shape}."
        )
    targets = targets.astype(np.float64)
    if not np.isfinite(targets).all():
        bad = int(np.sum(~np.isfinite(targets)))
        raise InputError(f"{name}: {bad} of {targets.size} values are not finite; drop or impute those samples.")
    largest = _largest(targets, name)
    if 0 < largest < 1 / _LARGEST:
        raise InputError(f"{name}: its largest entry, {largest:.3g}, is so small that its square is 0; divide by it.")
    refuse_other_labels(Labels(name, labels_of(arranged)), inputs, "rows")
    return targets


def checked_like(
    values: ArrayLike | xr.DataArray,
    shape: tuple[int, ...],
    name: str,
    inputs: Labels = UNLABELLED,
    targets: Labels = UNLABELLED,
) -> FloatArray:
    """Finite float64 values of exactly this shape, of these inputs (and targets). Raises InputError."""
    arranged = by_rows(values)
    array = np.asarray(arranged)
    if array.shape != shape or array.dtype.kind not in "fiub":
        raise InputError(f"{name}: expected real numbers of shape {shape}, got shape {array.shape} of {array.dtype}.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{name}: {int(np.sum(~np.isfinite(array)))} of {array.size} values are not finite.")
    _largest(array, name)
    refuse_other_labels(Labels(name, labels_of(arranged)), inputs, "rows")
    refuse_other_labels(Labels(name, labels_of(arranged, 1)), targets, "targets")
    return array


def _largest(values: FloatArray, name: str) -> float:
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise InputError(
            f"{name}: its largest entry, {largest:.3g}, is so large that its square is no number; divide by it."
        )
    return largest


def refuse_overflow(values: FloatArray | float, name: str) -> None:
    """Raise InputError where a result computed from finite targets is not finite."""
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise InputError(
            f"y: {bad} of {np.size(values)} values of {name} are beyond the largest number; divide the targets by "
            "their largest entry."
        )


def checked_times(times: ArrayLike, name: str = "times") -> FloatArray:
    """Increasing moments from 0 on, infinity allowed. Raises InputError."""
    moments = np.atleast_1d(np.asarray(times))
    if moments.ndim != 1 or not moments.size or moments.dtype.kind not in "fiu":
        raise InputError(
            f"{name}: expected a list of real numbers, got shape {moments.shape} of dtype {moments.dtype}."
        )
    moments = moments.astype(np.float64)
    if np.isnan(moments).any():
        raise InputError(f"{name}: {int(np.isnan(moments).sum())} of {len(moments)} are NaN; leave them out.")
    if moments.min() < 0:
        raise InputError(f"{name}: expected no negative time, got {moments.min():.6g}; training starts at 0.")
    falls = np.flatnonzero(~(moments[1:] > moments[:-1]))
    if len(falls):
        at = int(falls[0]) + 1
        raise InputError(
            f"{name}: expected increasing times, but {name}[{at}] = {moments[at]:.6g} follows "
            f"{moments[at - 1]:.6g}; pass numpy.unique({name})."
        )
    return moments


def checked_steps(steps: ArrayLike, name: str = "steps") -> FloatArray:
    """Increasing whole numbers from 0 on. Raises InputError."""
    counts = checked_times(steps, name)
    bad = np.flatnonzero((counts != np.floor(counts)) | (counts > 2**53))
    if len(bad):
        raise InputError(f"{name}: expected whole numbers, got {counts[bad[0]]:.6g} at [{bad[0]}].")
    return counts


def checked_positive(value: float, name: str, *, zero: bool = False) -> float:
    """A finite number > 0, or >= 0. Raises InputError."""
    number = np.asarray(value)  # a number, or a result without dimensions
    real = number.ndim == 0 and number.dtype.kind in "fiu"
    if not real or not (0 < number < math.inf or (zero and number == 0)):
        raise InputError(f"{name}: expected a {'number of at least 0' if zero else 'positive number'}, got {value!r}.")
    return float(number)
