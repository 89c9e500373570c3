"""q11 q22 - q12^2 to rounding of its exact value, in NumPy: compiled with fast-math it would cancel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphon_theory.arrays import FloatArray

_SPLIT = 2.0**27 + 1  # Veltkamp's constant for 53 bits


def scaled(
    q12: FloatArray, q11: FloatArray, q22: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int64]]:
    """q11 q22 - q12^2 (at least 0), q11 q22 and q12, the last times 2^-e and the others times 4^-e; then 2 e.

    By two-products; each variance is scaled to [1, 4) by even powers of two, so that no product over- or underflows.
    """
    e1, e2 = (2 * (np.frexp(np.where(q > 0, q, 1.0))[1] // 2) for q in (q11, q22))
    cross = np.ldexp(q12, -(e1 + e2) // 2)
    high, low = two_product(np.ldexp(q11, -e1), np.ldexp(q22, -e2))
    high2, low2 = two_product(cross, cross)
    return np.maximum(((high - high2) + low) - low2, 0.0), high, cross, e1 + e2


def two_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """a b = high + low exactly (Veltkamp, Dekker)."""
    high = a * b
    ah, bh = (x * _SPLIT - (x * _SPLIT - x) for x in (a, b))
    al, bl = a - ah, b - bh
    return high, ((ah * bh - high) + ah * bl + al * bh) + al * bl
