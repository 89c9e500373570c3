"""Compiled loops over pairs by their angles, for inputs that covariances no longer tell apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.numerics.compilation import njit

_LANES = 32  # pairs that go through a layer together

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}


@njit(**_options)
def _angular(jumps: bool, first: float, second: float, gap: float, opposite: bool) -> tuple[float, float]:
    """(gamma, Cdot) at 1 - rho = ``gap``, or at 1 + rho = ``gap`` where ``opposite``; C = sqrt(C11 C22) (1 - gamma).

    Two lines through 0 of slopes alpha, beta (``first`` alpha beta, ``second`` (beta - alpha)^2):
    gamma = gap - kappa (sin theta - theta cos theta), kappa = second / (2 pi (first + second / 2)),
    Cdot = first + second (pi - theta) / 2 pi. A jump at 0 between values a, b (``first`` (a^2 + b^2) / 2, ``second``
    (b - a)^2): gamma = second theta / (2 pi first), Cdot = 0.
    """
    theta, sign = 2.0 * math.asin(math.sqrt(min(0.5 * gap, 1.0))), 1.0
    mean = first if jumps else first + 0.5 * second
    if opposite:
        if not jumps and first == -0.25 * second:  # even: x and -x are one input, whose phi' are opposite
            sign = -1.0
        else:
            theta, gap = math.pi - theta, 2.0 - gap
    if mean == 0.0:
        return 0.0, 0.0
    if jumps:
        return second * theta / (2.0 * math.pi * mean), 0.0
    if theta < 0.1:  # sin theta - theta cos theta without cancellation
        square = theta * theta
        lift = theta * square * (1.0 / 3.0 - square * (1.0 / 30.0 - square * (1.0 / 840.0 - square / 45360.0)))
    else:
        lift = math.sin(theta) - theta * math.cos(theta)
    return gap - second * lift / (2.0 * math.pi * mean), sign * (first + second * (0.5 - theta / (2.0 * math.pi)))


@njit(nogil=True, cache=True, error_model="numpy")
def _rest(y: float, c: float, x: float) -> float:
    """y - c x to rounding of its exact value (Dekker's product; without fast-math)."""
    product = c * x
    t = 134217729.0 * c
    c_high = t - (t - c)
    s = 134217729.0 * x
    x_high = s - (s - x)
    c_low, x_low = c - c_high, x - x_high
    error = ((c_high * x_high - product) + c_high * x_low + c_low * x_high) + c_low * x_low
    return (y - product) - error


@njit(**_options)
def input_gap(variance: FloatArray, bias: float, x: FloatArray, y: FloatArray) -> tuple[float, bool]:
    """1 - |rho| at one position of the first layer, to rounding of itself, and whether rho is negative.

    With c the projection of y on x, the rest r = y - c x of every input is right to rounding however close y and c x
    are, and sin^2 = (|x|^2 |r|^2 - (x r)^2) / (|x|^2 |y|^2) in the layer's scalar product.
    """
    xx, yy, xy = bias, bias, bias
    for j in range(len(x)):
        w = variance[j]
        xx += w * x[j] * x[j]
        yy += w * y[j] * y[j]
        xy += w * x[j] * y[j]
    c = xy / xx
    rest = 1.0 - c
    rr, xr = bias * rest * rest, bias * rest
    for j in range(len(x)):
        rest, w = _rest(y[j], c, x[j]), variance[j]
        rr += w * rest * rest
        xr += w * x[j] * rest
    square = min(max((rr - xr * (xr / xx)) / yy, 0.0), 1.0)
    if square > 0.5:  # far from close: rho itself is known better
        return 1.0 - min(abs(xy) / math.sqrt(xx * yy), 1.0), xy < 0.0
    return square / (1.0 + math.sqrt(1.0 - square)), xy < 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def squares_above(
    matrix: FloatArray,
    roots: FloatArray,
    inverse: FloatArray,
    rows: IntArray,
    columns: IntArray,
    out: FloatArray,
) -> None:
    """int V (r / s - r' / s')^2 of pairs of inputs (rows, columns), into ``out`` (receiving, pairs).

    ``matrix``: V (receiving, sending); ``roots`` r (sending, N) and ``inverse`` 1 / s (receiving, N). Lanes of pairs go
    through a layer together, each in the same way wherever it stands: a pair has one value in every batch. Without
    fast-math it has the same one from its other side.
    """
    n, m = matrix.shape
    padded = (m + 3) // 4 * 4
    left, right = np.zeros((padded, _LANES)), np.zeros((padded, _LANES))
    ours, theirs, total, weights = np.empty(_LANES), np.empty(_LANES), np.empty(_LANES), np.zeros(padded)
    for start in range(0, len(rows), _LANES):
        count = min(_LANES, len(rows) - start)
        for k in range(_LANES):  # the last pair again where there are no more
            p = start + min(k, count - 1)
            for v in range(m):
                left[v, k], right[v, k] = roots[v, rows[p]], roots[v, columns[p]]
        for u in range(n):
            weights[:m] = matrix[u]
            for k in range(_LANES):
                p = start + min(k, count - 1)
                ours[k], theirs[k], total[k] = inverse[u, rows[p]], inverse[u, columns[p]], 0.0
            for v in range(0, padded, 4):
                a, b, c, d = weights[v], weights[v + 1], weights[v + 2], weights[v + 3]
                if a != 0.0 or b != 0.0 or c != 0.0 or d != 0.0:
                    for k in range(_LANES):
                        s, t = ours[k], theirs[k]
                        one, two = left[v, k] * s - right[v, k] * t, left[v + 1, k] * s - right[v + 1, k] * t
                        three, four = left[v + 2, k] * s - right[v + 2, k] * t, left[v + 3, k] * s - right[v + 3, k] * t
                        total[k] += (a * (one * one) + b * (two * two)) + (c * (three * three) + d * (four * four))
            for k in range(count):
                out[u, start + k] = total[k]


@njit(**_options)
def products(matrix: FloatArray, values: FloatArray, out: FloatArray) -> None:
    """``matrix @ values`` (receiving, pairs), where a pair has one value in every batch, unlike with BLAS."""
    n, m = matrix.shape
    padded = (m + 7) // 8 * 8
    lanes, total, row = np.zeros((padded, _LANES)), np.empty(_LANES), np.zeros(padded)
    pairs = values.shape[1]
    for start in range(0, pairs, _LANES):
        count = min(_LANES, pairs - start)
        for v in range(m):
            for k in range(_LANES):
                lanes[v, k] = values[v, start + min(k, count - 1)]
        for u in range(n):
            row[:m] = matrix[u]
            for k in range(_LANES):
                total[k] = 0.0
            for v in range(0, padded, 8):
                a, b, c, d = row[v], row[v + 1], row[v + 2], row[v + 3]
                e, f, g, h = row[v + 4], row[v + 5], row[v + 6], row[v + 7]
                if a != 0.0 or b != 0.0 or c != 0.0 or d != 0.0 or e != 0.0 or f != 0.0 or g != 0.0 or h != 0.0:
                    for k in range(_LANES):
                        low = (a * lanes[v, k] + b * lanes[v + 1, k]) + (c * lanes[v + 2, k] + d * lanes[v + 3, k])
                        high = (e * lanes[v + 4, k] + f * lanes[v + 5, k]) + (g * lanes[v + 6, k] + h * lanes[v + 7, k])
                        total[k] += low + high
            for k in range(count):
                out[u, start + k] = total[k]


@njit(**_options)
def near_pairs(
    left: FloatArray,
    right: FloatArray,
    starts: IntArray,
    stops: IntArray,
    row: int,
    radius: float,
    rows: IntArray,
    columns: IntArray,
) -> tuple[int, int]:
    """Pairs of points (N, K) whose coordinates all differ by at most ``radius``, from ``row`` of ``left`` on.

    Those of row i are looked for between ``starts[i]`` and ``stops[i]`` of ``right``. They go to ``rows`` and
    ``columns`` until a row might not fit; returns their number and the row to go on from.
    """
    count = 0
    while row < len(left):
        if count + stops[row] - starts[row] > len(rows):
            break
        for j in range(starts[row], stops[row]):
            near = True
            for k in range(1, left.shape[1]):
                if abs(left[row, k] - right[j, k]) > radius:
                    near = False
                    break
            if near:
                rows[count], columns[count] = row, j
                count += 1
        row += 1
    return count, row


@njit(**_options)
def _seen(weights: FloatArray, x: FloatArray, out: FloatArray) -> FloatArray:
    """The columns of x (N, d) that a position sees: x itself, or copies in the first columns of ``out``."""
    count = 0
    for j in range(len(weights)):
        count += weights[j] != 0.0
    if count == len(weights):
        return x
    count = 0
    for j in range(len(weights)):
        if weights[j] != 0.0:
            for i in range(len(x)):
                out[i, count] = x[i, j]
            count += 1
    return out[:, :count]


@njit(**_options)
def input_gaps(
    variances: FloatArray,
    bias: float,
    x: FloatArray,
    y: FloatArray,
    roots_x: FloatArray,
    roots_y: FloatArray,
    rows: IntArray,
    columns: IntArray,
    out: FloatArray,
) -> None:
    """The smallest 1 - |rho| of pairs over the positions of the first layer; 1 where a position is dead for one."""
    left, right = np.empty_like(x), np.empty_like(y)
    out[:] = 1.0
    for u in range(len(variances)):
        variance = variances[u][variances[u] != 0.0]
        ours, theirs = _seen(variances[u], x, left), _seen(variances[u], y, right)
        for p in range(len(rows)):
            i, j = rows[p], columns[p]
            if roots_x[i, u] > 0.0 and roots_y[j, u] > 0.0:
                out[p] = min(out[p], input_gap(variance, bias, ours[i], theirs[j])[0])


@njit(**_options)
def first_gaps(
    variances: FloatArray,
    bias: float,
    x: FloatArray,
    rows: IntArray,
    columns: IntArray,
    gaps: FloatArray,
    opposite: FloatArray,
) -> None:
    """1 - |rho| (positions, pairs) behind the first layer, and 1.0 where rho is negative."""
    room = np.empty_like(x)
    for u in range(len(variances)):
        variance, seen = variances[u][variances[u] != 0.0], _seen(variances[u], x, room)
        for p in range(len(rows)):
            gaps[u, p], negative = input_gap(variance, bias, seen[rows[p]], seen[columns[p]])
            opposite[u, p] = 1.0 if negative else 0.0


@njit(**_options)
def angular_duals(
    jumps: bool,
    first: float,
    second: float,
    gaps: FloatArray,
    opposite: FloatArray,
    gammas: FloatArray,
    dots: FloatArray,
) -> None:
    """gamma and Cdot of every gap (positions, pairs)."""
    for u in range(gaps.shape[0]):
        for p in range(gaps.shape[1]):
            gammas[u, p], dots[u, p] = _angular(jumps, first, second, gaps[u, p], opposite[u, p] != 0.0)
