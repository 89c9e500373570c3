"""Polynomials through Chebyshev points: coefficients, powers, slopes, and how well they are what they interpolate."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from graphon_theory.activations.heat.heat_blocks import TERMS
from graphon_theory.arrays import FloatArray

ROUNDING = 2.5e-16  # of one value of phi: a little over eps, libm's half unit in the last place and the product's
CHECKS = np.array([-1 + 1e-7, -0.6123, 0.2345, 1 - 1e-7])  # places of an interval where its polynomial is held to phi


@cache
def chebyshev(n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """n Chebyshev points of [-1, 1], the matrix from values there to coefficients, and the one from these to powers."""
    points: FloatArray = np.array([math.cos(math.pi * (k + 0.5) / n) for k in range(n)])
    transform: FloatArray = np.array(np.polynomial.chebyshev.chebvander(points, n - 1).T * (2.0 / n), dtype=float)
    transform[0] *= 0.5
    powers: FloatArray = np.zeros((n, n))
    for k in range(n):
        powers[: k + 1, k] = np.polynomial.chebyshev.cheb2poly(np.eye(n)[k])[: k + 1]
    return points, transform, powers


@cache
def slope_matrix(n: int) -> FloatArray:
    """The matrix from Chebyshev coefficients to those of the derivative."""
    out: FloatArray = np.zeros((n, n))
    for k in range(1, n):
        out[:k, k] = np.polynomial.chebyshev.chebder(np.eye(n)[k])[:k]
    return out


def evenly_large(values: FloatArray) -> FloatArray:
    """The least, over the thirds of the last axis, of the largest |value|: what an interval reaches all over."""
    parts = np.array_split(np.abs(values), 3, axis=-1)
    out: FloatArray = np.min([part.max(axis=-1) for part in parts], axis=0)
    return out


def quality_of(
    y: FloatArray, half: FloatArray, values: FloatArray, coefficients: FloatArray, slopes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Misfit and noise of polynomials on intervals of half-width ``half``, sampled at ``y``."""
    checks = np.polynomial.chebyshev.chebvander(CHECKS, TERMS - 1).T
    between = np.abs(coefficients @ checks - values[:, TERMS:]).max(1)
    misfit: FloatArray = np.maximum(np.abs(coefficients[:, -2:]).max(1), between)
    steepest = np.abs(slopes @ np.polynomial.chebyshev.chebvander(CHECKS, TERMS - 1).T).max(1)
    place = np.abs(y).max(1)
    # no excuse on narrow intervals, where a jump would pass for a steep slope
    place = np.where(half > 2.0**-34 * place, place, 0.0)
    noise: FloatArray = ROUNDING * (4 * np.abs(values).max(1) + place * steepest)
    return misfit, noise
