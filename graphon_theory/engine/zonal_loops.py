"""A pair of polynomials in w = cos(theta/2) - sin(theta/2), evaluated over a tile of Gram entries.

Horner's rule where monomial coefficients decay, Clenshaw's recurrence for Chebyshev coefficients where they may not.
"""

from __future__ import annotations

import math
from typing import Any

from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

STRIDE = 7  # coefficients of one pass over a row: enough arithmetic a load, few enough registers


_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(**_options)
def _correlations(row: FloatArray, inverse: float, inverses: FloatArray, coincident: float, w: FloatArray) -> None:
    """w of a row of Gram entries, in its own precision."""
    real = w.dtype.type
    zero, half, one, least = real(0.0), real(0.5), real(1.0), real(coincident)
    for j in range(len(row)):
        c = row[j] * (inverse * inverses[j])
        gap = one - abs(c)
        gap = gap if gap > least else zero
        near, far = math.sqrt(half * gap), math.sqrt(one - half * gap)
        w[j] = far - near if c >= zero else near - far


@njit(**_options)
def zonal_tile(
    gram: FloatArray,
    roots1: FloatArray,
    roots2: FloatArray,
    i0: int,
    j0: int,
    upper: bool,
    coefficients: FloatArray,
    coincident: float,
    out: FloatArray,
    w: FloatArray,
) -> None:
    """out[f, i, j] = sqrt(g_i g_j) p_f(w) for two functions f, with cos theta = gram[i, j] / sqrt(g_i g_j).

    All arrays are of one precision, which is that of the arithmetic.

    ``roots`` (2, N) hold sqrt(g) and its inverse (0 where g = 0); ``coefficients`` (2, n), highest first, n - 1 a
    multiple of 7; ``coincident``: |cos theta| this close to 1 counts as 1; ``w`` (n2,) is scratch. ``upper``: nothing
    below the diagonal of the kernel is needed.
    """
    n1, n2 = gram.shape
    terms = coefficients.shape[1]
    for i in range(n1):
        first = max(0, i0 + i - j0) if upper else 0
        root, roots = roots1[0, i0 + i], roots2[0, j0 + first : j0 + n2]
        x, a, b = w[first:n2], out[0, i, first:], out[1, i, first:]
        _correlations(gram[i, first:], roots1[1, i0 + i], roots2[1, j0 + first : j0 + n2], coincident, x)
        for j in range(len(x)):
            a[j] = coefficients[0, 0]
            b[j] = coefficients[1, 0]
        for k in range(1, terms, STRIDE):
            a0, a1, a2, a3, a4, a5, a6 = coefficients[0, k : k + STRIDE]
            b0, b1, b2, b3, b4, b5, b6 = coefficients[1, k : k + STRIDE]
            for j in range(len(x)):
                z = x[j]
                a[j] = ((((((a[j] * z + a0) * z + a1) * z + a2) * z + a3) * z + a4) * z + a5) * z + a6
                b[j] = ((((((b[j] * z + b0) * z + b1) * z + b2) * z + b3) * z + b4) * z + b5) * z + b6
        for j in range(len(x)):
            scale = root * roots[j]
            a[j] *= scale
            b[j] *= scale


@njit(**_options)
def chebyshev_tile(
    gram: FloatArray,
    roots1: FloatArray,
    roots2: FloatArray,
    i0: int,
    j0: int,
    upper: bool,
    coefficients: FloatArray,
    coincident: float,
    out: FloatArray,
    w: FloatArray,
) -> None:
    """As :func:`zonal_tile` for p_f = sum_n a_n T_n, without the factor sqrt(g_i g_j).

    ``coefficients`` (2, n), highest first, n odd; ``w`` (5 n2,) is scratch.
    """
    n1, n2 = gram.shape
    last = coefficients.shape[1] - 1
    x, a1, a2, b1, b2 = w[:n2], w[n2 : 2 * n2], w[2 * n2 : 3 * n2], w[3 * n2 : 4 * n2], w[4 * n2 : 5 * n2]
    for i in range(n1):
        if upper and i0 + i >= j0 + n2:
            break
        _correlations(gram[i], roots1[1, i0 + i], roots2[1, j0 : j0 + n2], coincident, x)
        for j in range(n2):
            a1[j] = a2[j] = b1[j] = b2[j] = 0.0
        for k in range(0, last, 2):
            p0, p1, r0, r1 = coefficients[0, k], coefficients[0, k + 1], coefficients[1, k], coefficients[1, k + 1]
            for j in range(n2):
                twice = 2.0 * x[j]
                a2[j] = p0 + twice * a1[j] - a2[j]
                b2[j] = r0 + twice * b1[j] - b2[j]
                a1[j] = p1 + twice * a2[j] - a1[j]
                b1[j] = r1 + twice * b2[j] - b1[j]
        for j in range(n2):
            out[0, i, j] = coefficients[0, last] + x[j] * a1[j] - a2[j]
            out[1, i, j] = coefficients[1, last] + x[j] * b1[j] - b2[j]
