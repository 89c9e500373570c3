"""Hermite series of dual activations on blocks; signature as in ``closed/rectifier_blocks``."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(**_options)
def hermite_block(
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
    """C = m m' + sqrt(q11 q22) sum_n c_n c'_n rho^(n + 1),   Cdot = sum_n (n + 1) c_n c'_n rho^n = P + rho P'.

    c_n = E[phi' h_n] / sqrt(n + 1) with h_n the normalised Hermite polynomials about each input's mean (THEORY §4).
    Where only every second coefficient is there (even or odd phi), n runs over ``offset``, ``offset`` + 2, ...:
    own parameters (stride, offset). Features: m, sqrt(q), 1 / sqrt(q) (0 where q = 0), then the coefficients kept.
    """
    positions, _, n1, n2 = state.shape
    coincident, stride, offset = parameters[0], int(parameters[1]), int(parameters[2])
    terms = f1.shape[1] - 3
    rho, step = np.empty(n2, state.dtype), np.empty(n2, state.dtype)
    value, slope = np.empty(n2, state.dtype), np.empty(n2, state.dtype)
    for p in range(positions):
        for i in range(n1):
            mean_i, root_i, inverse_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i], f1[p, 2, i0 + i]
            for j in range(n2):
                r = (state[p, 0, i, j] + bias) * (inverse_i * f2[p, 2, j0 + j])
                size = 1.0 if 1.0 - abs(r) <= coincident else abs(r)
                r = size if r >= 0.0 else -size
                rho[j] = r
                step[j] = r if stride == 1 else r * r
                value[j] = 0.0
                slope[j] = 0.0
            # Horner for the series and its derivative in the step, four coefficients a pass
            n = terms
            while n % 4:
                n -= 1
                c = f1[p, 3 + n, i0 + i]
                for j in range(n2):
                    slope[j] = slope[j] * step[j] + value[j]
                    value[j] = value[j] * step[j] + c * f2[p, 3 + n, j0 + j]
            while n:
                n -= 4
                c0, c1, c2, c3 = (
                    f1[p, 3 + n, i0 + i],
                    f1[p, 4 + n, i0 + i],
                    f1[p, 5 + n, i0 + i],
                    f1[p, 6 + n, i0 + i],
                )
                for j in range(n2):
                    x, v, d = step[j], value[j], slope[j]
                    d = d * x + v
                    v = v * x + c3 * f2[p, 6 + n, j0 + j]
                    d = d * x + v
                    v = v * x + c2 * f2[p, 5 + n, j0 + j]
                    d = d * x + v
                    v = v * x + c1 * f2[p, 4 + n, j0 + j]
                    d = d * x + v
                    v = v * x + c0 * f2[p, 3 + n, j0 + j]
                    value[j] = v
                    slope[j] = d
            for j in range(n2):
                k = state[p, 0, i, j]
                t = state[p, 1, i, j] + (k if shared else masked[p, i, j]) + trained_bias
                shift = rho[j] if offset == 1 else 1.0
                dot = ((1.0 + offset) * value[j] + stride * step[j] * slope[j]) * shift
                out[p, 0, i, j] = mean_i * f2[p, 0, j0 + j] + root_i * f2[p, 1, j0 + j] * rho[j] * shift * value[j]
                out[p, 1, i, j] = dot * t
