"""Compiled recursion of single pairs by their angles, for inputs that covariances no longer tell apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.numerics.compilation import njit

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


@njit(**_options)
def close_pairs(
    jumps: bool,
    first: float,
    second: float,
    sizes: IntArray,
    matrices: FloatArray,
    biases: FloatArray,
    x: FloatArray,
    y: FloatArray,
    roots_x: FloatArray,
    roots_y: FloatArray,
    duals_x: FloatArray,
    duals_y: FloatArray,
    rows: IntArray,
    columns: IntArray,
    shifts: FloatArray,
    nngp: FloatArray,
    shares: FloatArray,
) -> None:
    """NNGP (outputs, pairs) and the NTK's share of every layer (L, outputs, pairs) of the pairs (rows, columns).

    ``sizes`` (L + 1): inputs, positions of every layer, outputs. ``matrices``: of every layer V, then W, row by row;
    ``biases`` (L, 2): K's, T's. ``roots_x`` (N, positions of all hidden layers): square roots of K(x, x); ``duals_x``:
    of C(x, x). What is carried is 1 - rho at every position,

        1 - rho = (1/2) int V (r / s - r' / s')^2 + (1/2) sigma_b^2 (1 / s - 1 / s')^2 + int V r r' gamma / (s s'),

    r, r' the roots of C below, s, s' those of K here: a sum without cancellation, so that angles are right to rounding
    of 1, where a covariance knows the square root of that. ``shifts`` (pairs,) are added to every one of a pair: what
    would an error do?
    """
    depth = len(sizes) - 1
    hidden = 0
    for layer in range(1, depth):
        hidden += sizes[layer]
    gaps, dots, seconds = np.empty(hidden + 1), np.empty(hidden + 1), np.empty(hidden + 1)
    most = sizes[1:].max()
    beta, above = np.empty(most), np.empty(most)
    outputs = sizes[depth]
    for p in range(len(rows)):
        i, j = rows[p], columns[p]
        a, b, c, e = x[i], y[j], roots_x[i], roots_y[j]
        r, q = duals_x[i], duals_y[j]
        # forward: gaps, then C and Cdot of every hidden layer
        start, here, below = 0, 0, 0
        for layer in range(depth):
            n, m = sizes[layer + 1], sizes[layer]
            bias = biases[layer, 0]
            for u in range(n):
                row = start + u * m
                if layer == depth - 1:
                    total = bias
                    for v in range(m):
                        total += matrices[row + v] * (a[v] * b[v] if layer == 0 else seconds[below + v])
                    nngp[u, p] = total
                    continue
                s, t = c[here + u], e[here + u]
                if s == 0.0 or t == 0.0:  # a dead position, at a right angle to everything
                    gaps[here + u], dots[here + u] = _angular(jumps, first, second, 1.0, False)
                    seconds[here + u] = 0.0
                    continue
                opposite = False
                if layer == 0:
                    gap, opposite = input_gap(matrices[row : row + m], bias, a, b)
                else:
                    gap = bias * (1.0 / s - 1.0 / t) ** 2
                    for v in range(m):
                        left, right = r[below + v] / s, q[below + v] / t
                        step = left - right
                        gap += matrices[row + v] * (step * step + 2.0 * left * right * gaps[below + v])
                    gap = min(max(0.5 * gap, 0.0), 2.0)
                gap = min(max(gap + shifts[p], 0.0), 2.0)
                gamma, dots[here + u] = _angular(jumps, first, second, gap, opposite)
                gaps[here + u] = gamma
                seconds[here + u] = r[here + u] * q[here + u] * (1.0 - gamma)
            below = here
            if layer < depth - 1:
                here += n
            start += 2 * n * m
        # backward: the share of every layer
        for o in range(outputs):
            for u in range(outputs):
                beta[u] = 1.0 if u == o else 0.0
            end, here = start, hidden
            for layer in range(depth - 1, -1, -1):
                n, m = sizes[layer + 1], sizes[layer]
                matrix = end - 2 * n * m
                low = here - m if layer else 0
                share = 0.0
                for u in range(n):
                    row = matrix + n * m + u * m
                    total = biases[layer, 1]
                    for v in range(m):
                        total += matrices[row + v] * (a[v] * b[v] if layer == 0 else seconds[low + v])
                    share += beta[u] * total
                shares[layer, o, p] = share
                if layer:
                    for v in range(m):
                        total = 0.0
                        for u in range(n):
                            total += matrices[matrix + u * m + v] * beta[u]
                        above[v] = total * dots[low + v]
                    for v in range(m):
                        beta[v] = above[v]
                here, end = low, matrix


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
    for p in range(len(rows)):
        i, j = rows[p], columns[p]
        least = 1.0
        for u in range(len(variances)):
            a, b = roots_x[i, u], roots_y[j, u]
            if a > 0.0 and b > 0.0:
                least = min(least, input_gap(variances[u], bias, x[i], y[j])[0])
        out[p] = least


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
    for u in range(len(variances)):
        for p in range(len(rows)):
            gaps[u, p], negative = input_gap(variances[u], bias, x[rows[p]], x[columns[p]])
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
