"""Compiled dual activations on (positions x pairs) blocks: one pass turns (K, T) into (C, Cdot T).

Every block kernel has the signature

    kernel(state, masked, shared, bias, trained_bias, f1, f2, i0, j0, out, parameters)

``state`` (P, 2, n1, n2) holds the two products of the layer below, A_V C and A_V (Cdot T); ``masked`` (P, n1, n2) holds
A_W C where W differs from V and is not read where ``shared`` says that they agree. The kernel forms

    K = state[:, 0] + bias,      T = state[:, 1] + (A_W C) + trained_bias

and writes C(K) into out[:, 0] and Cdot(K) T into out[:, 1]. ``f1`` (P, F, N1) and ``f2`` (P, F, N2) are features of the
variances (square roots and the like), formed once for all inputs; the tile starts at (i0, j0). ``parameters`` starts
with the distance of |rho| from 1 under which a pair counts as coincident (a Gram matrix knows no better: THEORY §4),
then come the activation's own.

Rows are taken out before the loop over pairs: an index that is a sum may be negative to the compiler, which then
gathers the numbers one by one (half the speed).
"""

from __future__ import annotations

import math
from typing import Any

from graphon_theory.activations.closed.arctangents import acute_ratio, arctangent_ratio
from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(**_options)
def rectifier_block(
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
    """phi(z) = beta z for z > 0, alpha z for z < 0; own parameters (alpha beta, (beta - alpha)^2).

    With cos theta = rho and R = sqrt(q11 q22) (sin theta + (pi - theta) cos theta) / 2 pi:
    C = alpha beta K + (beta - alpha)^2 R,  Cdot = alpha beta + (beta - alpha)^2 (pi - theta) / 2 pi  [CS].
    With s, c the sine and twice the cosine of half the acute angle a between the lines, a = s r(c) and
    sin theta + (pi - theta) cos theta = s (c - r(c) cos a) + (pi cos a where rho >= 0): no division, no cancellation.
    Features: sqrt(q), 1 / sqrt(q) (0 where q = 0). All arithmetic is in the precision of the pairs.
    """
    positions, _, n1, n2 = state.shape
    real = state.dtype.type
    zero, half, two, pi = real(0.0), real(0.5), real(2.0), real(math.pi)
    coincident, linear, bent = real(0.5 * parameters[0]), real(parameters[1]), real(parameters[2] / (2 * math.pi))
    added, trained = real(bias), real(trained_bias)
    for p in range(positions):
        roots, inverses = f2[p, 0, j0 : j0 + n2], f2[p, 1, j0 : j0 + n2]
        for i in range(n1):
            root_i, inverse_i = bent * f1[p, 0, i0 + i], f1[p, 1, i0 + i]
            signal, tangent, dual, carried = state[p, 0, i], state[p, 1, i], out[p, 0, i], out[p, 1, i]
            product = signal if shared else masked[p, i]
            for j in range(n2):
                k = signal[j] + added
                t = tangent[j] + (product[j] + trained)
                rho = k * (inverse_i * inverses[j])
                cosine = abs(rho)  # of a
                y = half - half * cosine
                near, far = math.sqrt(y if y > coincident else zero), math.sqrt(two + two * cosine)
                ratio = acute_ratio(far)
                lift = pi if rho >= zero else zero
                r = near * (far - ratio * cosine) + lift * cosine
                dual[j] = linear * k + (root_i * roots[j]) * r
                carried[j] = (linear + bent * abs(lift - near * ratio)) * t


@njit(**_options)
def erf_block(
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
    """phi = erf: C = (2/pi) arcsin(2 K / sqrt((1 + 2 q11)(1 + 2 q22))) and Cdot = (4/pi) / sqrt(det(1 + 2 q)) [W].

    The determinant is 1 + 2 q11 + 2 q22 + 4 q11 q22 (1 - rho^2), free of cancellation, and is taken over (1 + 2 q11)
    (1 + 2 q22), whose parts no variance makes overflow; the arcsine is taken from its sine and cosine together.
    Features: q, 1 / sqrt(q) (0 where q = 0), 1 / sqrt(1 + 2 q). All arithmetic is in the precision of the pairs.
    """
    positions, _, n1, n2 = state.shape
    real = state.dtype.type
    zero, one, two, gain = real(0.0), real(1.0), real(2.0), real(4.0 / math.pi)
    coincident, added, trained = real(parameters[0]), real(bias), real(trained_bias)
    for p in range(positions):
        variances, inverses, scales = f2[p, 0, j0 : j0 + n2], f2[p, 1, j0 : j0 + n2], f2[p, 2, j0 : j0 + n2]
        for i in range(n1):
            q_i, inverse_i, scale_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i], f1[p, 2, i0 + i]
            rest_i = scale_i * scale_i  # 1 / (1 + 2 q), and 2 q / (1 + 2 q)
            share_i = two * q_i * rest_i
            signal, tangent, dual, carried = state[p, 0, i], state[p, 1, i], out[p, 0, i], out[p, 1, i]
            product = signal if shared else masked[p, i]
            for j in range(n2):
                k = signal[j] + added
                t = tangent[j] + (product[j] + trained)
                rho = k * (inverse_i * inverses[j])
                gap = one - abs(rho)
                gap = gap if gap > coincident else zero
                scale, rest_j = scale_i * scales[j], scales[j] * scales[j]
                share_j = two * variances[j] * rest_j
                cosine = math.sqrt(rest_i * (rest_j + share_j) + share_i * (rest_j + share_j * (gap * (two - gap))))
                half = (two * k * scale) / (one + cosine)
                dual[j] = gain * half * arctangent_ratio(half * half)
                carried[j] = gain * scale / cosine * t


@njit(**_options)
def identity_block(
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
    """phi(z) = z: C = K, Cdot = 1."""
    positions, _, n1, n2 = state.shape
    for p in range(positions):
        for i in range(n1):
            signal, tangent, dual, carried = state[p, 0, i], state[p, 1, i], out[p, 0, i], out[p, 1, i]
            product = signal if shared else masked[p, i]
            for j in range(n2):
                carried[j] = tangent[j] + (product[j] + trained_bias)
                dual[j] = signal[j] + bias
