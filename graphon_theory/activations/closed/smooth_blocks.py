"""Closed-form duals on (positions x pairs) blocks; signature and conventions of ``closed/rectifier_blocks``.

Where the features hold a mean mu of every input, the block is right about non-zero means too (THEORY §4).
With rho = K / sqrt(q11 q22) and ``gap`` its distance from +-1, q11 q22 - K^2 = q11 q22 gap (2 - gap) does not cancel.
"""

from __future__ import annotations

import math
from typing import Any

from graphon_theory.activations.closed.arctangents import arctangent_ratio
from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(inline="always")
def _gap(rho: float, coincident: float) -> float:
    gap = 1.0 - abs(rho)
    return gap if gap > coincident else 0.0


@njit(**_options)
def step_block(
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
    """phi(z) = 1[z > 0]: C = (pi - theta) / 2 pi, 0 where a variance is; Cdot = 0. Features: 1 / sqrt(q)."""
    positions, _, n1, n2 = state.shape
    coincident = parameters[0]
    for p in range(positions):
        for i in range(n1):
            inverse_i = f1[p, 0, i0 + i]
            for j in range(n2):
                inverse = inverse_i * f2[p, 0, j0 + j]
                rho = (state[p, 0, i, j] + bias) * inverse
                gap = _gap(rho, coincident)
                y = gap / (2.0 - gap)
                acute = 2.0 * math.sqrt(y) * arctangent_ratio(y)
                supplement = math.pi - acute if rho >= 0.0 else acute
                out[p, 0, i, j] = supplement / (2.0 * math.pi) if inverse > 0.0 else 0.0
                out[p, 1, i, j] = 0.0


@njit(**_options)
def gelu_block(
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
    """phi(z) = z Phi(z). With A = (1 + q11)(1 + q22), D = A - K^2 and g = 1/4 + arcsin(K / sqrt A) / 2 pi:

    C = K g + (q11 q22 D + K^2) / (2 pi A sqrt D),   Cdot = g + K (3 + q11 + q22 + K^2 / D) / (2 pi A sqrt D)

    (Gaussian integration by parts, twice). Features: q, 1 / sqrt(q) (0 where q = 0), 1 / sqrt(1 + q).
    """
    positions, _, n1, n2 = state.shape
    coincident = parameters[0]
    for p in range(positions):
        for i in range(n1):
            q_i, inverse_i, scale_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i], f1[p, 2, i0 + i]
            for j in range(n2):
                k = state[p, 0, i, j]
                t = state[p, 1, i, j] + (k if shared else masked[p, i, j]) + trained_bias
                k = k + bias
                q_j = f2[p, 0, j0 + j]
                gap = _gap(k * (inverse_i * f2[p, 1, j0 + j]), coincident)
                product = q_i * q_j
                det = 1.0 + (q_i + q_j) + product * (gap * (2.0 - gap))
                scale = scale_i * f2[p, 2, j0 + j]
                root = math.sqrt(det)
                half = (k * scale) / (1.0 + root * scale)
                gate = 0.25 + half * arctangent_ratio(half * half) / math.pi
                density = scale * scale / (2.0 * math.pi * root)
                out[p, 0, i, j] = k * gate + (product * det + k * k) * density
                out[p, 1, i, j] = (gate + k * (3.0 + q_i + q_j + k * k / det) * density) * t


@njit(**_options)
def wave_block(
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
    """phi = sin (own parameter 0) or cos (1). With E(-) and E(+) = exp(-Var(f -+ f') / 2):

    E[sin sin] = (cos mu cos mu' (E(-) - E(+)) + sin mu sin mu' (E(-) + E(+))) / 2, E[cos cos] with the signs exchanged.
    Features: sqrt(q), 1 / sqrt(q) (0 where q = 0), cos mu, sin mu.
    """
    positions, _, n1, n2 = state.shape
    coincident, cosine = parameters[0], parameters[1] > 0.5
    for p in range(positions):
        for i in range(n1):
            root_i, inverse_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i]
            cos_i, sin_i = f1[p, 2, i0 + i], f1[p, 3, i0 + i]
            for j in range(n2):
                k = state[p, 0, i, j]
                t = state[p, 1, i, j] + (k if shared else masked[p, i, j]) + trained_bias
                k = k + bias
                root_j = f2[p, 0, j0 + j]
                rho = k * (inverse_i * f2[p, 1, j0 + j])
                gap = _gap(rho, coincident)
                # the smaller of the two variances of f -+ f', and the larger exponential
                least = (root_i - root_j) * (root_i - root_j) + 2.0 * root_i * root_j * gap
                near = math.exp(-0.5 * least)
                lost = -near * math.expm1(-2.0 * abs(k))  # near - far
                total = 2.0 * near - lost
                difference = lost if k >= 0.0 else -lost
                both_cos, both_sin = 0.5 * cos_i * f2[p, 2, j0 + j], 0.5 * sin_i * f2[p, 3, j0 + j]
                sines = both_cos * difference + both_sin * total
                cosines = both_cos * total + both_sin * difference
                out[p, 0, i, j] = cosines if cosine else sines
                out[p, 1, i, j] = (sines if cosine else cosines) * t


@njit(**_options)
def exponential_block(
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
    """phi = exp: C = Cdot = exp(mu + mu' + (q11 + q22) / 2 + K). Features: mu + q / 2."""
    positions, _, n1, n2 = state.shape
    for p in range(positions):
        for i in range(n1):
            exponent_i = f1[p, 0, i0 + i]
            for j in range(n2):
                k = state[p, 0, i, j]
                t = state[p, 1, i, j] + (k if shared else masked[p, i, j]) + trained_bias
                c = math.exp(exponent_i + f2[p, 0, j0 + j] + (k + bias))
                out[p, 0, i, j] = c
                out[p, 1, i, j] = c * t


@njit(**_options)
def gaussian_block(
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
    """phi(z) = exp(-z^2 / 2). With D = det(1 + Q) and n = (1 + Q)^-1 (mu, mu'):

    C = exp(-(mu n_1 + mu' n_2) / 2) / sqrt D,   Cdot = (K / D + n_1 n_2) C.
    Features: q, 1 / sqrt(q) (0 where q = 0), mu.
    """
    positions, _, n1, n2 = state.shape
    coincident = parameters[0]
    for p in range(positions):
        for i in range(n1):
            q_i, inverse_i, mean_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i], f1[p, 2, i0 + i]
            for j in range(n2):
                k = state[p, 0, i, j]
                t = state[p, 1, i, j] + (k if shared else masked[p, i, j]) + trained_bias
                k = k + bias
                q_j, mean_j = f2[p, 0, j0 + j], f2[p, 2, j0 + j]
                gap = _gap(k * (inverse_i * f2[p, 1, j0 + j]), coincident)
                det = 1.0 + (q_i + q_j) + (q_i * q_j) * (gap * (2.0 - gap))
                tilted_i = ((1.0 + q_j) * mean_i - k * mean_j) / det
                tilted_j = ((1.0 + q_i) * mean_j - k * mean_i) / det
                c = math.exp(-0.5 * (mean_i * tilted_i + mean_j * tilted_j)) / math.sqrt(det)
                out[p, 0, i, j] = c
                out[p, 1, i, j] = (k / det + tilted_i * tilted_j) * c * t
