"""Compiled duals of any activation from a table of its heat flow, one line of quadrature a pair.

With S(x, tau) = E[phi(x + tau e)] and S1 the same of phi', e ~ N(0, 1), and rho = +-a, sigma^2 = 1 - a^2,

    f = mu1 +- s1 c,   f' = mu2 + s2 (a c + sigma e)      with independent N(0, 1) c, e,
    C = int N(c) phi(mu1 +- s1 c) S(mu2 + a s2 c, s2 sigma) dc,       Cdot likewise with phi' and S1.

The table holds S and S1 as polynomials on cells. A *list* is a row of adjoining cells that covers the x axis: one list
for every octave of tau, and one for every octave of s at tau = 0, where phi itself is wanted to the accuracy of that
scale. The quadrature walks both lists in step; between two edges everything is smooth, and ``NODES`` Gauss-Legendre
nodes do. ``graphon_theory.heat_flows`` builds the table and says what its entries mean.

Layout of ``table`` (all of it float64, positions counted from its start, entry 0 the tolerance of coincidence):

    1..3   octave of the first list at tau = 0, their number, start of their directory
    4..6   the same for the lists at tau > 0
    directory entry: start and length of the list, least and largest c that count (the latter for tau = 0 alone)
    list: positions of cells
    cell: left edge a + b tau as (a, b), right edge likewise, centre and 1 / half-width of the variable of tau,
          1 where that variable is tau^2, number n of its powers; then (n, TERMS) coefficients of S and as many of S1:
          powers of that variable by powers of x, both mapped to [-1, 1]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, np.dtype[np.float64]]

TERMS = 20  # coefficients of a cell in x
NODES = 16  # Gauss-Legendre nodes between two edges
HEAD = 8  # entries of a cell before its coefficients
ENTRY = 4  # entries of a directory for one list
_WIDEST = 5.0  # standard deviations between two edges: N(c) itself must be smooth there

_X, _W = np.polynomial.legendre.leggauss(NODES)
_W = _W / math.sqrt(2 * math.pi)
_POWERS = 2.0 ** np.arange(-1022, 1.0)
_EXP2 = np.array([math.log(2.0) ** k / math.factorial(k) for k in range(14)])  # 2^f, |f| <= 1/2

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(**_options)
def _octave(x: float) -> int:
    """floor(log2 x)."""
    return math.frexp(x)[1] - 1


@njit(**_options)
def _find(table: Array, start: int, count: int, x: float, tau: float) -> int:
    """Place in the list of the first cell whose right edge lies beyond x; the last one if there is none."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        cell = int(table[start + middle])
        if table[cell + 2] + table[cell + 3] * tau > x:
            high = middle
        else:
            low = middle + 1
    return low


@njit(**_options)
def _enter(table: Array, cell: int, tau: float, poly: Array, row: int) -> None:
    """Coefficients in x of S and S1 at this tau into poly[row], poly[row + 1]; centre and scale behind them."""
    left = table[cell] + table[cell + 1] * tau
    right = table[cell + 2] + table[cell + 3] * tau
    count = int(table[cell + 7])
    u = ((tau * tau if table[cell + 6] == 1.0 else tau) - table[cell + 4]) * table[cell + 5]
    for k in range(2):
        at = cell + HEAD + (k + 1) * count * TERMS
        for j in range(TERMS):
            poly[row + k, j] = table[at - TERMS + j]
        for _ in range(count - 1):
            at -= TERMS
            for j in range(TERMS):
                poly[row + k, j] = poly[row + k, j] * u + table[at - TERMS + j]
    poly[row, TERMS] = 0.5 * (left + right)
    poly[row, TERMS + 1] = 2.0 / (right - left)


@njit(**_options)
def _gauss(c0: float, c1: float, work: Array) -> None:
    """Nodes between c0 and c1 into work[0], their weights times N(c) into work[1]."""
    middle, half = 0.5 * (c0 + c1), 0.5 * (c1 - c0)
    for j in range(NODES):
        c = middle + half * _X[j]
        work[0, j] = c
        y = max(c * c * (-0.5 * 1.4426950408889634), -1021.0)
        k = math.floor(y + 0.5)
        f = y - k
        e = _EXP2[13]
        for i in range(12, -1, -1):
            e = e * f + _EXP2[i]
        work[1, j] = half * _W[j] * e * _POWERS[int(k) + 1022]


@njit(**_options)
def _values(poly: Array, row: int, mean: float, slope: float, work: Array, at: int) -> None:
    """Both polynomials of poly[row:row + 2] at mean + slope c into work[at], work[at + 1]."""
    scale = poly[row, TERMS + 1]
    shift, slope = (mean - poly[row, TERMS]) * scale, slope * scale
    for j in range(NODES):
        v = shift + slope * work[0, j]
        s, d = poly[row, TERMS - 1], poly[row + 1, TERMS - 1]
        for k in range(TERMS - 2, -1, -1):
            s = s * v + poly[row, k]
            d = d * v + poly[row + 1, k]
        work[at, j] = s
        work[at + 1, j] = d


@njit(**_options)
def _pair(
    table: Array,
    mean1: float,
    s1: float,
    mean2: float,
    s2: float,
    direction: int,
    size: float,
    sigma: float,
    poly: Array,
    work: Array,
) -> tuple[float, float]:
    """C and Cdot at rho = direction * size, sigma = sqrt(1 - rho^2), for s1, s2 > 0 and rho != 0."""
    first = int(table[3]) + ENTRY * min(max(_octave(s1) - int(table[1]), 0), int(table[2]) - 1)
    second = int(table[3]) + ENTRY * min(max(_octave(s2) - int(table[1]), 0), int(table[2]) - 1)
    end = max(table[first + 3] if direction > 0 else -table[first + 2], table[second + 3])
    c0 = min(table[first + 2] if direction > 0 else -table[first + 3], table[second + 2])
    tau = s2 * sigma
    if tau >= 2.0 ** table[4]:
        second = int(table[6]) + ENTRY * min(_octave(tau) - int(table[4]), int(table[5]) - 1)
    else:
        tau = 0.0
    start1, count1 = int(table[first]), int(table[first + 1])
    start2, count2 = int(table[second]), int(table[second + 1])
    slope1, slope2 = direction * s1, size * s2
    inverse1, inverse2 = 1.0 / slope1, 1.0 / slope2
    i = _find(table, start1, count1, mean1 + slope1 * c0, 0.0)
    j = _find(table, start2, count2, mean2 + slope2 * c0, tau)
    c = dot = 0.0
    edge1 = edge2 = c0
    while True:
        while edge1 <= c0:  # leave cells that end before c0
            cell = int(table[start1 + i])
            edge1 = (table[cell + 1 + direction] - mean1) * inverse1
            last = i == (count1 - 1 if direction > 0 else 0)
            if last:
                edge1 = math.inf
            if edge1 > c0:
                _enter(table, cell, 0.0, poly, 0)
            if not last:
                i += direction
        while edge2 <= c0:
            cell = int(table[start2 + j])
            edge2 = (table[cell + 2] + table[cell + 3] * tau - mean2) * inverse2
            if j == count2 - 1:
                edge2 = math.inf
            if edge2 > c0:
                _enter(table, cell, tau, poly, 2)
            j += 1
        c1 = min(edge1, edge2, end)
        if c1 - c0 > _WIDEST:
            c1 = c0 + (c1 - c0) / math.ceil((c1 - c0) / _WIDEST)
        _gauss(c0, c1, work)
        _values(poly, 0, mean1, slope1, work, 2)
        _values(poly, 2, mean2, slope2, work, 4)
        for k in range(NODES):
            c += work[1, k] * (work[2, k] * work[4, k])
            dot += work[1, k] * (work[3, k] * work[5, k])
        if c1 >= end:
            return c, dot
        c0 = c1


@njit(**_options)
def _point(table: Array, mean: float, poly: Array, work: Array, out: Array) -> None:
    """phi, phi', phi^2, phi'^2 at a place; at an edge the mean of both sides."""
    first = int(table[3])
    start, count = int(table[first]), int(table[first + 1])
    i = _find(table, start, count, mean, 0.0)
    for k in range(4):
        out[k] = 0.0
    sides = 2 if i > 0 and table[int(table[start + i])] == mean else 1
    for side in range(sides):
        _enter(table, int(table[start + i - side]), 0.0, poly, 0)
        work[0, 0] = 0.0
        _values(poly, 0, mean, 0.0, work, 2)
        for k in range(2):
            out[k] += work[2 + k, 0] / sides
            out[2 + k] += work[2 + k, 0] ** 2 / sides


@njit(**_options)
def _single(table: Array, mean: float, s: float, reach: float, poly: Array, work: Array, out: Array) -> None:
    """E[phi], E[phi'], E[phi^2], E[phi'^2] of N(mean, s^2); c from -reach to reach at least."""
    if s == 0.0:
        _point(table, mean, poly, work, out)
        return
    first = int(table[3]) + ENTRY * min(max(_octave(s) - int(table[1]), 0), int(table[2]) - 1)
    start, count = int(table[first]), int(table[first + 1])
    c0, end = min(-reach, table[first + 2]), max(reach, table[first + 3])
    i = _find(table, start, count, mean + s * c0, 0.0)
    a = b = a2 = b2 = 0.0
    edge = c0
    while True:
        while edge <= c0:
            cell = int(table[start + i])
            edge = (table[cell + 2] - mean) / s
            if i == count - 1:
                edge = math.inf
            if edge > c0:
                _enter(table, cell, 0.0, poly, 0)
            i += 1
        c1 = min(edge, end)
        if c1 - c0 > _WIDEST:
            c1 = c0 + (c1 - c0) / math.ceil((c1 - c0) / _WIDEST)
        _gauss(c0, c1, work)
        _values(poly, 0, mean, s, work, 2)
        for k in range(NODES):
            a += work[1, k] * work[2, k]
            b += work[1, k] * work[3, k]
            a2 += work[1, k] * (work[2, k] * work[2, k])
            b2 += work[1, k] * (work[3, k] * work[3, k])
        if c1 >= end:
            break
        c0 = c1
    out[0], out[1], out[2], out[3] = a, b, a2, b2


@njit(**_options)
def expectations(table: Array, mean: Array, s: Array, reach: float, out: Array) -> None:
    """Rows of out: E[phi], E[phi'], E[phi^2], E[phi'^2] at each N(mean, s^2)."""
    poly, work, four = np.empty((4, TERMS + 2)), np.empty((6, NODES)), np.empty(4)
    for k in range(mean.size):
        _single(table, mean[k], s[k], reach, poly, work, four)
        for r in range(4):
            out[r, k] = four[r]


@njit(**_options)
def pairs(table: Array, f1: Array, f2: Array, rho: Array, gap: Array, c: Array, dot: Array) -> None:
    """C and Cdot of pairs given one by one: features (4, n) as the block's without 1 / s, rho, and 1 - |rho|."""
    poly, work = np.empty((4, TERMS + 2)), np.empty((6, NODES))
    for k in range(rho.size):
        c[k], dot[k] = _dual(table, f1[:, k], f2[:, k], rho[k], gap[k], poly, work)


@njit(**_options)
def _dual(table: Array, f1: Array, f2: Array, rho: float, gap: float, poly: Array, work: Array) -> tuple[float, float]:
    """C and Cdot from the features (mean, s, E[phi], E[phi']) of both."""
    s1, s2 = float(f1[1]), float(f2[1])
    if s1 == 0.0 or s2 == 0.0 or abs(rho) < 1e-18:
        return float(f1[2]) * float(f2[2]), float(f1[3]) * float(f2[3])
    direction = 1 if rho > 0.0 else -1
    sigma = math.sqrt(gap * (2.0 - gap))
    if s1 <= s2:  # the sharper structure in c goes where it is smoothed
        return _pair(table, float(f1[0]), s1, float(f2[0]), s2, direction, 1.0 - gap, sigma, poly, work)
    return _pair(table, float(f2[0]), s2, float(f1[0]), s1, direction, 1.0 - gap, sigma, poly, work)


@njit(**_options)
def heat_flow_block(
    state: Array,
    extra: Array,
    shared: bool,
    bias: float,
    own_bias: float,
    f1: Array,
    f2: Array,
    i0: int,
    j0: int,
    out: Array,
    parameters: Array,
) -> None:
    """Any phi, by its heat flow; signature as in ``_kernels.duals``, own parameters: the table.

    K is the covariance, out[:, 0] the raw moment E[phi phi']. Features: mean, s = sqrt(q), E[phi], E[phi'], and 1 / s
    (0 where q = 0).
    """
    positions, _, n1, n2 = state.shape
    poly, work = np.empty((4, TERMS + 2)), np.empty((6, NODES))
    coincident = parameters[0]
    for p in range(positions):
        for i in range(n1):
            inverse_i = float(f1[p, 4, i0 + i])
            for j in range(n2):
                k = float(state[p, 0, i, j])
                t = float(state[p, 1, i, j]) + (k if shared else float(extra[p, i, j])) + own_bias
                k = k + bias
                rho = k * (inverse_i * float(f2[p, 4, j0 + j]))
                gap = 1.0 - abs(rho)
                gap = gap if gap > coincident else 0.0
                c, dot = _dual(parameters, f1[p, :, i0 + i], f2[p, :, j0 + j], rho, gap, poly, work)
                out[p, 0, i, j] = c
                out[p, 1, i, j] = dot * t
