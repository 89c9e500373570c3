"""Roots of switching functions s(u, v), along which graphons kink or jump."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graphon_theory.arrays import FloatArray

Switch = Callable[[FloatArray, FloatArray], FloatArray]
_GOLDEN = 0.5 * (5**0.5 - 1)


def transposed(s: Switch) -> Switch:
    """(u, v) -> s(v, u)."""

    def swapped(u: FloatArray, v: FloatArray) -> FloatArray:
        return s(v, u)

    return swapped


def roots_on_unit(s: Switch, x: FloatArray, grid: int = 257) -> FloatArray:
    """For every x, the sign changes of y -> s(x, y) on [0, 1], to rounding: (len(x), c), NaN where there is none.

    A change of sign is looked for between neighbouring points of a uniform grid, and at the bottom of every dip of
    |s| there, so that two roots may lie close together. More than that within 1/grid can be missed.
    """
    y = np.linspace(0.0, 1.0, grid)
    # off the nodes of round numbers, so that a root at 1/2 is crossed rather than struck
    y[1:-1] += (0.5 / grid) * np.sin(np.arange(1, grid - 1) * 2.399963)
    values = s(x[:, None], y[None, :])
    sign = np.sign(np.where(np.isfinite(values), values, 0.0))
    row, piece = np.nonzero(sign[:, 1:] * sign[:, :-1] < 0)
    dip, left, bottom, right = _dips(s, x, y, values, sign)
    row = np.concatenate([row, dip, dip])
    lo, hi = np.concatenate([y[piece], left, bottom]), np.concatenate([y[piece + 1], bottom, right])
    order = np.lexsort((lo, row))
    row, lo, hi = row[order], lo[order], hi[order]
    counts = np.bincount(row, minlength=len(x))
    out = np.full((len(x), int(counts.max(initial=0))), np.nan)
    if not len(row):
        return out
    low = np.sign(s(x[row], lo))
    for _ in range(60):
        middle = 0.5 * (lo + hi)
        value = np.asarray(s(x[row], middle))
        same = np.sign(value) == low
        lo, hi = np.where(same, middle, lo), np.where(same, hi, middle)
    slot = np.arange(len(row)) - np.concatenate([[0], np.cumsum(counts)])[row]
    out[row, slot] = 0.5 * (lo + hi)
    return out


def _dips(
    s: Switch, x: FloatArray, y: FloatArray, values: FloatArray, sign: FloatArray
) -> tuple[NDArray[np.intp], FloatArray, FloatArray, FloatArray]:
    """Rows, left ends, bottoms and right ends where s changes sign twice between neighbours of a point of the grid."""
    size = np.pad(np.abs(values), ((0, 0), (1, 1)), constant_values=np.inf)
    ends = np.pad(sign, ((0, 0), (1, 1)), mode="edge")
    low = (size[:, 1:-1] <= size[:, :-2]) & (size[:, 1:-1] < size[:, 2:])
    row, k = np.nonzero(low & (sign != 0) & (sign == ends[:, :-2]) & (sign == ends[:, 2:]))
    left, right, above = y[np.maximum(k - 1, 0)], y[np.minimum(k + 1, len(y) - 1)], sign[row, k]
    a, b = left, right
    for _ in range(48 if len(row) else 0):  # golden sections
        c, d = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
        lower = above * s(x[row], c) < above * s(x[row], d)
        a, b = np.where(lower, a, c), np.where(lower, d, b)
    bottom = 0.5 * (a + b)
    double = above * s(x[row], bottom) < 0 if len(row) else np.zeros(0, dtype=bool)
    return row[double], left[double], bottom[double], right[double]


def births(roots: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Positions u at which the number of kink points v changes: curves that start, end or leave the square."""
    u = np.linspace(0.0, 1.0, 258)[:-1] + 0.00137
    u = u[u < 1]
    counts = np.isfinite(roots(u)).sum(1)
    change = np.flatnonzero(np.diff(counts))
    low, high, before = u[change], u[change + 1], counts[change]
    for _ in range(52 if len(change) else 0):
        middle = 0.5 * (low + high)
        same = np.isfinite(roots(middle)).sum(1) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return 0.5 * (low + high)
