"""A pair of polynomials in w = cos(theta/2) - sin(theta/2), evaluated over a tile of Gram entries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, np.dtype[np.float64]]

STRIDE = 4  # coefficients of one pass over a row: enough arithmetic a load, few enough registers


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def zonal_tile(
    gram: Array,
    roots1: Array,
    roots2: Array,
    i0: int,
    j0: int,
    coefficients: Array,
    coincident: float,
    out: Array,
    w: Array,
) -> None:
    """out[f, i, j] = sqrt(g_i g_j) p_f(w) for two functions f, with cos theta = gram[i, j] / sqrt(g_i g_j).

    ``roots`` (2, N) hold sqrt(g) and its inverse (0 where g = 0); ``coefficients`` (2, n), highest first, n a multiple
    of 4; ``coincident``: |cos theta| this close to 1 counts as 1; ``w`` (n2,) is scratch.
    """
    n1, n2 = gram.shape
    terms = coefficients.shape[1]
    for i in range(n1):
        root, inverse = roots1[0, i0 + i], roots1[1, i0 + i]
        for j in range(n2):
            c = gram[i, j] * (inverse * roots2[1, j0 + j])
            gap = 1.0 - abs(c)
            gap = gap if gap > coincident else 0.0
            near, far = math.sqrt(0.5 * gap), math.sqrt(1.0 - 0.5 * gap)
            w[j] = far - near if c >= 0.0 else near - far
            out[0, i, j] = 0.0
            out[1, i, j] = 0.0
        for k in range(0, terms, STRIDE):
            a0, a1, a2, a3 = coefficients[0, k], coefficients[0, k + 1], coefficients[0, k + 2], coefficients[0, k + 3]
            b0, b1, b2, b3 = coefficients[1, k], coefficients[1, k + 1], coefficients[1, k + 2], coefficients[1, k + 3]
            for j in range(n2):
                x = w[j]
                out[0, i, j] = (((out[0, i, j] * x + a0) * x + a1) * x + a2) * x + a3
                out[1, i, j] = (((out[1, i, j] * x + b0) * x + b1) * x + b2) * x + b3
        for j in range(n2):
            scale = root * roots2[0, j0 + j]
            out[0, i, j] *= scale
            out[1, i, j] *= scale
