"""Compiled duals of any activation from a table of its heat flow, one line of quadrature a pair.

With S(x, tau) = E[phi(x + tau e)] and S1 the same of phi', e ~ N(0, 1), and rho = +-a, sigma^2 = 1 - a^2,

    f = mu1 +- s1 c,   f' = mu2 + s2 (a c + sigma e)      with independent N(0, 1) c, e,
    C = int N(c) phi(mu1 +- s1 c) S(mu2 + a s2 c, s2 sigma) dc,       Cdot likewise with phi' and S1.

The table holds S and S1 as polynomials on cells. A *list* is a row of adjoining cells that covers the x axis, for one
octave of s, which sets the accuracy wanted near 0, and one half-octave of tau, or tau = 0, where S is phi. The
quadrature walks the lists of both inputs in step; between two edges everything is smooth, and ``NODES`` Gauss-Legendre
nodes do. ``graphon_theory.activations.heat.heat_flows`` builds the table and says what its entries mean.

Layout of ``table`` (all of it float64, positions counted from its start, entry 0 the tolerance of coincidence):

    1..3   octave of the smallest s, number of octaves of s, start of the directory
    directory: for each octave of s least and largest c that count, then start and length of 1 + SLABS lists: for
          tau = 0, and for tau in [2^(-k/2), 2^(-(k-1)/2)) times the top 2^(octave + 1) of the octave, k = 1 ... SLABS
    list: positions of cells
    cell: left edge a + b tau as (a, b), right edge likewise, centre and 1 / half-width of the variable of tau,
          1 where that variable is tau^2, number n of its powers; then (n, 2 TERMS) coefficients, TERMS of S and TERMS
          of S1 in a row: powers of that variable by powers of x, both mapped to [-1, 1]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

# Coefficients of a cell in x; five groups of four, which a vector takes at a time. Fewer make more cells, more make
# every one slower, and lose digits in powers of x.
TERMS = 20
# Gauss-Legendre nodes between two edges: right for degree 31, the product of two cells of which the upper coefficients
# are at rounding, times N(c) on ``WIDEST`` at most.
NODES = 16
HEAD = 8  # entries of a cell before its coefficients, as listed above
SLABS = 52  # half-octaves of tau below the top of an octave of s: to sigma = 2^-26, where 1 - rho^2 is at eps
ENTRY = 2 + 2 * (1 + SLABS)  # entries of the directory for one octave of s
WIDEST = 5.0  # standard deviations between two edges: 16 nodes integrate N(c) over 5 to 3e-16
FLAT = 5.0  # standard deviations from which on N(c) falls faster than over ``WIDEST`` at its middle
# Largest exponent by which N(c) may fall between two edges from there on: 16 nodes integrate exp(-20 x) on [0, 1] to
# rounding of its largest value.
STEEPEST = 20.0

_X, _W = np.polynomial.legendre.leggauss(NODES)
_W = _W / math.sqrt(2 * math.pi)
_POWERS = 2.0 ** np.arange(-1022, 1.0)

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(**_options)
def entry_of(table: FloatArray, s: float) -> int:
    """Place of the directory for this s."""
    octave = math.frexp(s)[1] - 1 - int(table[1])
    return int(table[3]) + ENTRY * min(max(octave, 0), int(table[2]) - 1)


@njit(**_options)
def slab_of(table: FloatArray, entry: int, tau: float) -> int:
    """Which list of an entry of the directory serves this tau; 0 where it is too small to tell from 0."""
    octave = int(table[1]) + (entry - int(table[3])) // ENTRY
    m, e = math.frexp(tau)
    k = 2 * (octave + 1 - e) + (1 if m >= 0.7071067811865476 else 2)
    return max(k, 1) if k <= SLABS else 0


@njit(**_options)
def find(table: FloatArray, start: int, count: int, x: float, tau: float) -> int:
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
def enter(table: FloatArray, cell: int, tau: float, poly: FloatArray) -> None:
    """Coefficients in x of S and S1 at this tau into poly; the centre and scale of x behind them."""
    left = table[cell] + table[cell + 1] * tau
    right = table[cell + 2] + table[cell + 3] * tau
    count = int(table[cell + 7])
    u = ((tau * tau if table[cell + 6] == 1.0 else tau) - table[cell + 4]) * table[cell + 5]
    last = cell + HEAD + (count - 1) * 2 * TERMS
    for j in range(0, 2 * TERMS, 4):
        row = table[last + j :]
        a, b, c, d = row[0], row[1], row[2], row[3]
        for k in range(1, count):
            row = table[last + j - k * 2 * TERMS :]
            a, b, c, d = a * u + row[0], b * u + row[1], c * u + row[2], d * u + row[3]
        poly[j], poly[j + 1], poly[j + 2], poly[j + 3] = a, b, c, d
    poly[2 * TERMS] = 0.5 * (left + right)
    poly[2 * TERMS + 1] = 2.0 / (right - left)


@njit(**_options)
def gauss_nodes(c0: float, c1: float, nodes: FloatArray, weights: FloatArray) -> None:
    """Nodes between c0 and c1, and their weights times N(c) = exp(-c^2 / 2) / sqrt(2 pi).

    The exponential is written out (2^(k + f), |f| <= 1/2, a Taylor polynomial in f), as the compiler then takes
    several nodes at a time.
    """
    middle, half = 0.5 * (c0 + c1), 0.5 * (c1 - c0)
    for j in range(NODES):
        c = middle + half * _X[j]
        y = max(c * c * (-0.5 * 1.4426950408889634), -1021.0)
        k = math.floor(y + 0.5)
        f = y - k
        e = 1.3691488853904124e-12
        e = e * f + 2.5678435993488196e-11
        e = e * f + 4.44553827187081e-10
        e = e * f + 7.054911620801121e-09
        e = e * f + 1.0178086009239696e-07
        e = e * f + 1.3215486790144305e-06
        e = e * f + 1.5252733804059838e-05
        e = e * f + 0.00015403530393381606
        e = e * f + 0.0013333558146428441
        e = e * f + 0.009618129107628477
        e = e * f + 0.055504108664821576
        e = e * f + 0.2402265069591007
        e = e * f + 0.6931471805599453
        e = e * f + 1.0
        nodes[j] = c
        weights[j] = half * _W[j] * e * _POWERS[int(k) + 1022]


@njit(**_options)
def values_at(poly: FloatArray, mean: float, slope: float, c: FloatArray, s: FloatArray, d: FloatArray) -> None:
    """Both polynomials at mean + slope c, by Horner's rule written out so that all nodes are taken at once."""
    scale = poly[2 * TERMS + 1]
    shift, slope = (mean - poly[2 * TERMS]) * scale, slope * scale
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 = (
        poly[0],
        poly[1],
        poly[2],
        poly[3],
        poly[4],
        poly[5],
        poly[6],
        poly[7],
        poly[8],
        poly[9],
    )
    a10, a11, a12, a13, a14, a15, a16, a17, a18, a19 = (
        poly[10],
        poly[11],
        poly[12],
        poly[13],
        poly[14],
        poly[15],
        poly[16],
        poly[17],
        poly[18],
        poly[19],
    )
    b0, b1, b2, b3, b4, b5, b6, b7, b8, b9 = (
        poly[20],
        poly[21],
        poly[22],
        poly[23],
        poly[24],
        poly[25],
        poly[26],
        poly[27],
        poly[28],
        poly[29],
    )
    b10, b11, b12, b13, b14, b15, b16, b17, b18, b19 = (
        poly[30],
        poly[31],
        poly[32],
        poly[33],
        poly[34],
        poly[35],
        poly[36],
        poly[37],
        poly[38],
        poly[39],
    )
    for j in range(NODES):
        v = shift + slope * c[j]
        p, q = a19, b19
        p, q = p * v + a18, q * v + b18
        p, q = p * v + a17, q * v + b17
        p, q = p * v + a16, q * v + b16
        p, q = p * v + a15, q * v + b15
        p, q = p * v + a14, q * v + b14
        p, q = p * v + a13, q * v + b13
        p, q = p * v + a12, q * v + b12
        p, q = p * v + a11, q * v + b11
        p, q = p * v + a10, q * v + b10
        p, q = p * v + a9, q * v + b9
        p, q = p * v + a8, q * v + b8
        p, q = p * v + a7, q * v + b7
        p, q = p * v + a6, q * v + b6
        p, q = p * v + a5, q * v + b5
        p, q = p * v + a4, q * v + b4
        p, q = p * v + a3, q * v + b3
        p, q = p * v + a2, q * v + b2
        p, q = p * v + a1, q * v + b1
        p, q = p * v + a0, q * v + b0
        s[j], d[j] = p, q


@njit(**_options)
def _pair(
    table: FloatArray,
    mean1: float,
    s1: float,
    mean2: float,
    s2: float,
    direction: int,
    size: float,
    sigma: float,
    poly: FloatArray,
    work: FloatArray,
) -> tuple[float, float]:
    """C and Cdot at rho = direction * size, sigma = sqrt(1 - rho^2), for s1, s2 > 0 and rho != 0."""
    entry1, entry2 = entry_of(table, s1), entry_of(table, s2)
    c0 = min(table[entry1] if direction > 0 else -table[entry1 + 1], table[entry2])
    end = max(table[entry1 + 1] if direction > 0 else -table[entry1], table[entry2 + 1])
    tau = s2 * sigma
    slab = slab_of(table, entry2, tau) if tau > 0.0 else 0
    tau = tau if slab > 0 else 0.0
    start1, count1 = int(table[entry1 + 2]), int(table[entry1 + 3])
    start2, count2 = int(table[entry2 + 2 + 2 * slab]), int(table[entry2 + 3 + 2 * slab])
    slope1, slope2 = direction * s1, size * s2
    inverse1, inverse2 = 1.0 / slope1, 1.0 / slope2
    # beyond its list S is not known; ``heat_tables`` makes lists long enough for what counts
    first, last = int(table[start2]), int(table[start2 + count2 - 1])
    c0 = max(c0, (table[first] + table[first + 1] * tau - mean2) * inverse2)
    end = min(end, (table[last + 2] + table[last + 3] * tau - mean2) * inverse2)
    i = find(table, start1, count1, mean1 + slope1 * c0, 0.0)
    j = find(table, start2, count2, mean2 + slope2 * c0, tau)
    c, weights, phi, dphi, s, ds = work[0], work[1], work[2], work[3], work[4], work[5]
    poly1, poly2, sums, slopes = poly[0], poly[1], work[6], work[7]
    for k in range(NODES):
        sums[k] = slopes[k] = 0.0
    edge1 = edge2 = c0
    while True:
        while edge1 <= c0:  # leave cells that end before c0
            cell = int(table[start1 + i])
            edge1 = (table[cell + 1 + direction] - mean1) * inverse1
            if i == (count1 - 1 if direction > 0 else 0):
                edge1 = math.inf
            if edge1 > c0:
                enter(table, cell, 0.0, poly1)
            i += direction
        while edge2 <= c0:
            cell = int(table[start2 + j])
            edge2 = (table[cell + 2] + table[cell + 3] * tau - mean2) * inverse2
            if j == count2 - 1:
                edge2 = math.inf
            if edge2 > c0:
                enter(table, cell, tau, poly2)
            j += 1
        c1 = min(edge1, edge2, end)
        widest = min(WIDEST, STEEPEST / abs(c0)) if abs(c0) > FLAT else WIDEST
        if c1 - c0 > widest:
            c1 = c0 + (c1 - c0) / math.ceil((c1 - c0) / widest)
        gauss_nodes(c0, c1, c, weights)
        values_at(poly1, mean1, slope1, c, phi, dphi)
        values_at(poly2, mean2, slope2, c, s, ds)
        for k in range(NODES):
            sums[k] += weights[k] * (phi[k] * s[k])
            slopes[k] += weights[k] * (dphi[k] * ds[k])
        if c1 >= end:
            break
        c0 = c1
    total = total_slope = 0.0
    for k in range(NODES):
        total += sums[k]
        total_slope += slopes[k]
    return total, total_slope


@njit(**_options)
def _point(table: FloatArray, mean: float, poly: FloatArray, work: FloatArray, out: FloatArray) -> None:
    """phi, phi', phi^2, phi'^2 at a place; at an edge the mean of both sides."""
    start, count = int(table[int(table[3]) + 2]), int(table[int(table[3]) + 3])
    i = find(table, start, count, mean, 0.0)
    for k in range(4):
        out[k] = 0.0
    sides = 2 if i > 0 and table[int(table[start + i])] == mean else 1
    for side in range(sides):
        enter(table, int(table[start + i - side]), 0.0, poly[0])
        for k in range(NODES):
            work[0, k] = 0.0
        values_at(poly[0], mean, 0.0, work[0], work[2], work[3])
        for k in range(2):
            out[k] += work[2 + k, 0] / sides
            out[2 + k] += work[2 + k, 0] ** 2 / sides


@njit(**_options)
def _single(
    table: FloatArray, mean: float, s: float, reach: float, poly: FloatArray, work: FloatArray, out: FloatArray
) -> None:
    """E[phi], E[phi'], E[phi^2], E[phi'^2] of N(mean, s^2); c from -reach to reach at least."""
    if s == 0.0:
        _point(table, mean, poly, work, out)
        return
    entry = entry_of(table, s)
    start, count = int(table[entry + 2]), int(table[entry + 3])
    c0, end = min(-reach, table[entry]), max(reach, table[entry + 1])
    i = find(table, start, count, mean + s * c0, 0.0)
    c, weights, phi, dphi = work[0], work[1], work[2], work[3]
    a = b = a2 = b2 = 0.0
    edge = c0
    while True:
        while edge <= c0:
            cell = int(table[start + i])
            edge = (table[cell + 2] - mean) / s
            if i == count - 1:
                edge = math.inf
            if edge > c0:
                enter(table, cell, 0.0, poly[0])
            i += 1
        c1 = min(edge, end)
        widest = min(WIDEST, STEEPEST / abs(c0)) if abs(c0) > FLAT else WIDEST
        if c1 - c0 > widest:
            c1 = c0 + (c1 - c0) / math.ceil((c1 - c0) / widest)
        gauss_nodes(c0, c1, c, weights)
        values_at(poly[0], mean, s, c, phi, dphi)
        for k in range(NODES):
            a += weights[k] * phi[k]
            b += weights[k] * dphi[k]
            a2 += weights[k] * (phi[k] * phi[k])
            b2 += weights[k] * (dphi[k] * dphi[k])
        if c1 >= end:
            break
        c0 = c1
    out[0], out[1], out[2], out[3] = a, b, a2, b2


@njit(**_options)
def expectations(table: FloatArray, mean: FloatArray, s: FloatArray, reach: float, out: FloatArray) -> None:
    """Rows of out: E[phi], E[phi'], E[phi^2], E[phi'^2] at each N(mean, s^2)."""
    poly, work, four = np.empty((2, 2 * TERMS + 2)), np.empty((8, NODES)), np.empty(4)
    for k in range(mean.size):
        _single(table, mean[k], s[k], reach, poly, work, four)
        for r in range(4):
            out[r, k] = four[r]


@njit(**_options)
def pairs(
    table: FloatArray, f1: FloatArray, f2: FloatArray, rho: FloatArray, gap: FloatArray, c: FloatArray, dot: FloatArray
) -> None:
    """C and Cdot of pairs given one by one: features (7, n) as the block's, rho, and 1 - |rho|."""
    poly, work = np.empty((2, 2 * TERMS + 2)), np.empty((8, NODES))
    for k in range(rho.size):
        c[k], dot[k] = _dual(table, f1[:, k], f2[:, k], rho[k], gap[k], poly, work)


@njit(**_options)
def _dual(
    table: FloatArray, f1: FloatArray, f2: FloatArray, rho: float, gap: float, poly: FloatArray, work: FloatArray
) -> tuple[float, float]:
    """C and Cdot from the features of both."""
    s1, s2 = float(f1[1]), float(f2[1])
    if s1 == 0.0 or s2 == 0.0 or abs(rho) < 1e-18:
        return float(f1[2]) * float(f2[2]), float(f1[3]) * float(f2[3])
    direction = 1 if rho > 0.0 else -1
    sigma = math.sqrt(gap * (2.0 - gap))
    if s1 <= s2:  # the sharper structure in c goes where it is smoothed
        c, dot = _pair(table, float(f1[0]), s1, float(f2[0]), s2, direction, 1.0 - gap, sigma, poly, work)
    else:
        c, dot = _pair(table, float(f2[0]), s2, float(f1[0]), s1, direction, 1.0 - gap, sigma, poly, work)
    return c * (float(f1[5]) * float(f2[5])), dot * (float(f1[6]) * float(f2[6]))


@njit(**_options)
def heat_flow_block(
    state: FloatArray,
    masked: FloatArray,
    shared: bool,
    bias: float,
    trained_bias: float,
    f1: FloatArray,
    f2: FloatArray,
    i0: int,
    j0: int,
    out: FloatArray,
    parameters: FloatArray,
) -> None:
    """Any phi, by its heat flow; signature as in ``closed/rectifier_blocks``, own parameters: the table.

    K is the covariance, out[:, 0] the raw moment E[phi phi']. Features: mean, s = sqrt(q) (or the least s of the
    table), E[phi], E[phi'], 1 / sqrt(q) (0 where q = 0), and by what C and Cdot at q differ from those at that s.
    """
    positions, _, n1, n2 = state.shape
    poly, work = np.empty((2, 2 * TERMS + 2)), np.empty((8, NODES))
    coincident = parameters[0]
    for p in range(positions):
        for i in range(n1):
            inverse_i = float(f1[p, 4, i0 + i])
            for j in range(n2):
                k = float(state[p, 0, i, j])
                t = float(state[p, 1, i, j]) + (k if shared else float(masked[p, i, j])) + trained_bias
                k = k + bias
                rho = k * (inverse_i * float(f2[p, 4, j0 + j]))
                gap = 1.0 - abs(rho)
                gap = gap if gap > coincident else 0.0
                c, dot = _dual(parameters, f1[p, :, i0 + i], f2[p, :, j0 + j], rho, gap, poly, work)
                out[p, 0, i, j] = c
                out[p, 1, i, j] = dot * t
