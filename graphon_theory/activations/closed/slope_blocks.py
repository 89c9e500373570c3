"""The way back through closed-form duals, on (positions x pairs) blocks (THEORY §12).

Every block has the signature

    back(state, f1, f2, i0, j0, above, sums1, sums2, parameters)

``state`` (P, 2, n1, n2) holds K and T before the activation, ``above`` the cotangents C' and S' of what is behind it
(S = E T, E = Cdot), which become K' and T' in place:

    T' = E S',   E' = S' T,   K' = C' dC/dK + E' dE/dK.

What the variances and means of single inputs get is added to ``sums1`` (P, 2, n1) and ``sums2`` (P, 2, n2), rows q'
and mu': C' dC/dq + E' dE/dq and C' dC/dmu + E' dE/dmu. Features, the tile's corner and the first parameter are those
of the forward blocks (``closed/rectifier_blocks``). At a kink dE/dK is infinite where |rho| = 1; a pair that counts as
coincident is a function of its variances alone there, and gets half of that function's slope on either side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphon_theory.activations.closed.arctangents import acute_ratio
from graphon_theory.activations.closed.bivariate_normals import bivariate_cdf, density, step_or_cdf
from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
ERF, GELU, SIN, COS, EXP, GAUSSIAN = (float(kind) for kind in range(6))  # the first own parameter of smooth_back


@njit(**{**_options, "fastmath": True})
def total(values: FloatArray) -> float:
    """The sum of an array, several lanes at a time; the order depends on the length alone."""
    out = 0.0
    for j in range(len(values)):
        out += values[j]
    return out


@njit(**_options)
def rectifier_back(
    state: FloatArray,
    f1: FloatArray,
    f2: FloatArray,
    i0: int,
    j0: int,
    above: FloatArray,
    sums1: FloatArray,
    sums2: FloatArray,
    parameters: FloatArray,
) -> None:
    """phi(z) = beta z for z > 0, alpha z for z < 0; own parameters (alpha beta, (beta - alpha)^2).

    With b = (beta - alpha)^2 / 2 pi:  dC/dK = E,  dC/dq = b s s' sin theta / 2 q,  dE/dK = F = b / (s s' sin theta),
    dE/dq = -F K / 2 q. Features: s = sqrt(q), 1 / s (0 where q = 0).
    """
    positions, _, n1, n2 = state.shape
    coincident, linear, bent = 0.5 * parameters[0], parameters[1], parameters[2] / (2 * math.pi)
    both, columns = np.empty(n2), np.empty(n2)
    for p in range(positions):
        roots, inverses = f2[p, 0, j0 : j0 + n2], f2[p, 1, j0 : j0 + n2]
        columns[:] = 0.0
        for i in range(n1):
            root_i, inverse_i = bent * f1[p, 0, i0 + i], f1[p, 1, i0 + i]
            signal, tangent, dual, carried = state[p, 0, i], state[p, 1, i], above[p, 0, i], above[p, 1, i]
            for j in range(n2):
                k, c, s = signal[j], dual[j], carried[j]
                scale = inverse_i * inverses[j]
                rho = k * scale
                cosine = abs(rho)  # of the acute angle between the lines
                y = 0.5 - 0.5 * cosine
                near, far = math.sqrt(y if y > coincident else 0.0), math.sqrt(2.0 + 2.0 * cosine)
                lift = math.pi if rho >= 0.0 else 0.0
                slope = linear + bent * abs(lift - near * acute_ratio(far))
                sine = near * far
                bend = s * tangent[j] * (bent * scale / sine if sine > 0.0 else 0.0)  # E' F
                moved = c * (root_i * roots[j] * sine) - bend * k
                both[j] = moved
                columns[j] += moved
                dual[j] = c * slope + bend
                carried[j] = s * slope
            sums1[p, 0, i] += 0.5 * inverse_i * inverse_i * total(both)
        for j in range(n2):
            sums2[p, 0, j] += 0.5 * inverses[j] * inverses[j] * columns[j]


@njit(**_options)
def step_back(
    state: FloatArray,
    f1: FloatArray,
    f2: FloatArray,
    i0: int,
    j0: int,
    above: FloatArray,
    sums1: FloatArray,
    sums2: FloatArray,
    parameters: FloatArray,
) -> None:
    """phi(z) = 1[z > 0]: dC/dK = 1 / (2 pi s s' sin theta), dC/dq = -K dC/dK / 2 q, E = 0. Features: 1 / s."""
    positions, _, n1, n2 = state.shape
    coincident = parameters[0]
    for p in range(positions):
        for i in range(n1):
            inverse_i = f1[p, 0, i0 + i]
            for j in range(n2):
                k, inverse_j = state[p, 0, i, j], f2[p, 0, j0 + j]
                scale = inverse_i * inverse_j
                gap = 1.0 - abs(k * scale)
                slope = scale / (2.0 * math.pi * math.sqrt(gap * (2.0 - gap))) if gap > coincident else 0.0
                slope *= above[p, 0, i, j]
                sums1[p, 0, i] -= 0.5 * slope * k * inverse_i * inverse_i
                sums2[p, 0, j] -= 0.5 * slope * k * inverse_j * inverse_j
                above[p, 0, i, j] = slope
                above[p, 1, i, j] = 0.0


@njit(**_options)
def identity_back(
    state: FloatArray,
    f1: FloatArray,
    f2: FloatArray,
    i0: int,
    j0: int,
    above: FloatArray,
    sums1: FloatArray,
    sums2: FloatArray,
    parameters: FloatArray,
) -> None:
    """phi(z) = z: C = K, E = 1, so that nothing changes."""


@njit(**_options)
def rectifier_about_means_back(
    state: FloatArray,
    f1: FloatArray,
    f2: FloatArray,
    i0: int,
    j0: int,
    above: FloatArray,
    sums1: FloatArray,
    sums2: FloatArray,
    parameters: FloatArray,
) -> None:
    """phi(z) = alpha z + (beta - alpha) z+ about means; own parameters (alpha, beta - alpha, 0), of 1[z > 0] (0, 1, 1).

    With P = P(f, f' > 0), p_2 the density of (f, f') at (0, 0), A = E[delta(f) 1(f' > 0)] and A' the same exchanged:

        dP/dK = p_2,   dP/dmu = A,   dP/dq = -(A mu + K p_2) / 2 q
        E[z+ z'+]:   d/dK = P,   d/dmu = E[1(f > 0) f'+] = mu' P + q' A' + K A,   d/dq = E[delta(f) f'+] / 2

    Features: mu, s, E[z+], P(z > 0).
    """
    positions, _, n1, n2 = state.shape
    coincident, alpha, bent, jump = parameters[0], parameters[1], parameters[2], parameters[3] > 0.5
    for p in range(positions):
        for i in range(n1):
            mean_i, root_i, plus_i, open_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i], f1[p, 2, i0 + i], f1[p, 3, i0 + i]
            at_i = density(mean_i / root_i) / root_i if root_i > 0.0 else 0.0  # density of f at 0
            q_i = root_i * root_i
            drop_i = -0.5 * at_i * mean_i / q_i if root_i > 0.0 else 0.0  # d P(f > 0) / dq
            for j in range(n2):
                k, t, c, s = state[p, 0, i, j], state[p, 1, i, j], above[p, 0, i, j], above[p, 1, i, j]
                mean_j, root_j, plus_j, open_j = f2[p, 0, j0 + j], f2[p, 1, j0 + j], f2[p, 2, j0 + j], f2[p, 3, j0 + j]
                at_j = density(mean_j / root_j) / root_j if root_j > 0.0 else 0.0
                q_j = root_j * root_j
                drop_j = -0.5 * at_j * mean_j / q_j if root_j > 0.0 else 0.0
                if root_i == 0.0 or root_j == 0.0:
                    both, joint = open_i * open_j, 0.0
                    a_i, a_j = at_i * open_j, at_j * open_i
                    both_i, both_j = drop_i * open_j, drop_j * open_i
                    half_i, half_j = 0.5 * at_i * plus_j, 0.5 * at_j * plus_i
                    plus_open_i, plus_open_j = open_i * plus_j, plus_i * open_j
                else:
                    rho = k / (root_i * root_j)
                    gap = 1.0 - abs(rho)
                    if gap <= coincident:
                        gap = 0.0
                        rho = 1.0 if rho > 0.0 else -1.0
                    sign = 1.0 if rho >= 0.0 else -1.0
                    h_i, h_j = mean_i / root_i, mean_j / root_j
                    apart_i = (h_i - sign * h_j) + sign * gap * h_j  # h - rho h'
                    apart_j = (h_j - sign * h_i) + sign * gap * h_i
                    sine = math.sqrt(gap * (2.0 - gap))
                    both = bivariate_cdf(h_i, h_j, rho, gap)
                    a_i, a_j = at_i * step_or_cdf(apart_j, sine), at_j * step_or_cdf(apart_i, sine)
                    joint = at_i * density(apart_j / sine) / (root_j * sine) if sine > 0.0 else 0.0
                    if sine == 0.0 and (apart_i == 0.0 or apart_j == 0.0):
                        both_i, both_j = 0.5 * drop_i, 0.5 * drop_j
                    else:
                        both_i, both_j = (
                            -0.5 * (a_i * mean_i + k * joint) / q_i,
                            -0.5 * (a_j * mean_j + k * joint) / q_j,
                        )
                    # E[f'+ | f = 0], f' then being N(s' apart', (s' sine)^2)
                    half_i = 0.5 * (a_i * root_j * apart_j + q_j * (sine * sine) * joint)
                    half_j = 0.5 * (a_j * root_i * apart_i + q_i * (sine * sine) * joint)
                    plus_open_i, plus_open_j = mean_j * both + q_j * a_j + k * a_i, mean_i * both + q_i * a_i + k * a_j
                if jump:
                    sums1[p, 0, i] += c * both_i
                    sums2[p, 0, j] += c * both_j
                    sums1[p, 1, i] += c * a_i
                    sums2[p, 1, j] += c * a_j
                    above[p, 0, i, j] = c * joint
                    above[p, 1, i, j] = 0.0
                    continue
                one, two, e = alpha * bent, bent * bent, s * t
                slope = alpha * alpha + one * (open_i + open_j) + two * both
                # E[z z'+] = mu E[z'+] + K P(z' > 0), and exchanged
                sums1[p, 0, i] += c * (one * (0.5 * at_i * mean_j + k * drop_i) + two * half_i) + e * (
                    one * drop_i + two * both_i
                )
                sums2[p, 0, j] += c * (one * (0.5 * at_j * mean_i + k * drop_j) + two * half_j) + e * (
                    one * drop_j + two * both_j
                )
                sums1[p, 1, i] += c * (
                    alpha * alpha * mean_j + one * (plus_j + mean_j * open_i + k * at_i) + two * plus_open_i
                ) + e * (one * at_i + two * a_i)
                sums2[p, 1, j] += c * (
                    alpha * alpha * mean_i + one * (plus_i + mean_i * open_j + k * at_j) + two * plus_open_j
                ) + e * (one * at_j + two * a_j)
                above[p, 0, i, j] = c * slope + e * two * joint
                above[p, 1, i, j] = s * slope


@njit(**_options)
def smooth_back(
    state: FloatArray,
    f1: FloatArray,
    f2: FloatArray,
    i0: int,
    j0: int,
    above: FloatArray,
    sums1: FloatArray,
    sums2: FloatArray,
    parameters: FloatArray,
) -> None:
    """The closed forms of smooth activations; own parameter: which one. Features as in ``closed/smooth_blocks``."""
    positions, _, n1, n2 = state.shape
    coincident, kind = parameters[0], parameters[1]
    for p in range(positions):
        for i in range(n1):
            one = f1[p, :, i0 + i]
            for j in range(n2):
                two, k = f2[p, :, j0 + j], state[p, 0, i, j]
                c, s = above[p, 0, i, j], above[p, 1, i, j]
                e = s * state[p, 1, i, j]
                if kind == ERF:
                    c_k, e_k, c_1, c_2, e_1, e_2 = _erf(k, one[0], two[0], _gap(k * (one[1] * two[1]), coincident))
                    slope, c_m1, c_m2, e_m1, e_m2 = c_k, 0.0, 0.0, 0.0, 0.0
                elif kind == GELU:
                    c_k, e_k, c_1, c_2, e_1, e_2 = _gelu(k, one[0], two[0], _gap(k * (one[1] * two[1]), coincident))
                    slope, c_m1, c_m2, e_m1, e_m2 = c_k, 0.0, 0.0, 0.0, 0.0
                elif kind == GAUSSIAN:
                    gap = _gap(k * (one[1] * two[1]), coincident)
                    c_k, e_k, c_1, c_2, e_1, e_2, c_m1, c_m2, e_m1, e_m2 = _gaussian(
                        k, one[0], two[0], one[2], two[2], gap
                    )
                    slope = c_k
                elif kind == EXP:
                    slope = c_k = e_k = c_m1 = c_m2 = e_m1 = e_m2 = math.exp(one[0] + two[0] + k)
                    c_1 = c_2 = e_1 = e_2 = 0.5 * slope
                else:
                    sines, cosines, minus, plus = _waves(
                        k, one[0], two[0], one[2], one[3], two[2], two[3], _gap(k * (one[1] * two[1]), coincident)
                    )
                    # d/dmu of sin sin' is cos sin', of cos cos' is -sin cos'; minus and plus are half their sums
                    c_m1, c_m2 = (plus - minus, plus + minus) if kind == SIN else (-(plus + minus), minus - plus)
                    e_m1, e_m2 = (-(plus + minus), minus - plus) if kind == SIN else (plus - minus, plus + minus)
                    value, slope = (sines, cosines) if kind == SIN else (cosines, sines)
                    c_k, e_k, c_1, c_2, e_1, e_2 = slope, value, -0.5 * value, -0.5 * value, -0.5 * slope, -0.5 * slope
                sums1[p, 0, i] += c * c_1 + e * e_1
                sums2[p, 0, j] += c * c_2 + e * e_2
                sums1[p, 1, i] += c * c_m1 + e * e_m1
                sums2[p, 1, j] += c * c_m2 + e * e_m2
                above[p, 0, i, j] = c * c_k + e * e_k
                above[p, 1, i, j] = s * slope


@njit(inline="always")
def _gap(rho: float, coincident: float) -> float:
    gap = 1.0 - abs(rho)
    return gap if gap > coincident else 0.0


_Six = tuple[float, float, float, float, float, float]


@njit(**_options)
def _erf(k: float, q1: float, q2: float, gap: float) -> _Six:
    """With a = 1 + 2 q, D = a a' - 4 K^2 and E = (4 / pi) / sqrt D:

    dC/dK = E,  dC/dq = -E K / a,  dE/dK = 4 E K / D,  dE/dq = -E a' / D.
    """
    a, b = 1.0 + 2.0 * q1, 1.0 + 2.0 * q2
    det = 1.0 + 2.0 * (q1 + q2) + 4.0 * (q1 * q2) * (gap * (2.0 - gap))
    e = (4.0 / math.pi) / math.sqrt(det)
    return e, 4.0 * e * k / det, -e * k / a, -e * k / b, -e * b / det, -e * a / det


@njit(**_options)
def _gelu(k: float, q1: float, q2: float, gap: float) -> _Six:
    """The derivatives of what ``gelu_block`` holds: with a = 1 + q, A = a a', D = A - K^2, h = 1 / (2 pi A sqrt D),

    C = K g + (q q' D + K^2) h,   E = g + K R h,   R = 3 + q + q' + K^2 / D.
    """
    a, b = 1.0 + q1, 1.0 + q2
    both, product = a * b, q1 * q2
    det = 1.0 + (q1 + q2) + product * (gap * (2.0 - gap))
    root = math.sqrt(det)
    h = 1.0 / (2.0 * math.pi * both * root)
    gate = 0.25 + math.atan2(k, root) / (2.0 * math.pi)
    gate_k, gate_1, gate_2 = both * h, -0.5 * k * b * h, -0.5 * k * a * h
    ratio = k * k / det
    rest = 3.0 + q1 + q2 + ratio
    h_k, h_1, h_2 = h * k / det, -h * (1.0 / a + 0.5 * b / det), -h * (1.0 / b + 0.5 * a / det)
    e = gate + k * rest * h
    e_k = gate_k + rest * h + k * ((2.0 * k / det) * (1.0 + ratio) * h + rest * h_k)
    e_1 = gate_1 + k * ((1.0 - ratio * b / det) * h + rest * h_1)
    e_2 = gate_2 + k * ((1.0 - ratio * a / det) * h + rest * h_2)
    top = product * det + k * k
    c_1 = k * gate_1 + (q2 * det + product * b) * h + top * h_1
    c_2 = k * gate_2 + (q1 * det + product * a) * h + top * h_2
    return e, e_k, c_1, c_2, e_1, e_2


@njit(**_options)
def _gaussian(
    k: float, q1: float, q2: float, mean1: float, mean2: float, gap: float
) -> tuple[float, float, float, float, float, float, float, float, float, float]:
    """With P = (1 + Q)^-1, n = P mu, C = sqrt(det P) exp(-mu n / 2) and G = n n' - P_12:

    dC/dK = E = C G,  dC/dq = C (n^2 - P_11) / 2,  dC/dmu = -C n, and dE = G dC + C dG with dP = -P dQ P.
    """
    det = 1.0 + (q1 + q2) + (q1 * q2) * (gap * (2.0 - gap))
    p11, p22, p12 = (1.0 + q2) / det, (1.0 + q1) / det, -k / det
    n1, n2 = p11 * mean1 + p12 * mean2, p12 * mean1 + p22 * mean2
    c = math.exp(-0.5 * (mean1 * n1 + mean2 * n2)) / math.sqrt(det)
    g = n1 * n2 - p12
    c_k, c_1, c_2, c_m1, c_m2 = c * g, 0.5 * c * (n1 * n1 - p11), 0.5 * c * (n2 * n2 - p22), -c * n1, -c * n2
    g_k = -(p11 * n2 + p12 * n1) * n2 - n1 * (p12 * n2 + p22 * n1) + p11 * p22 + p12 * p12
    g_1, g_2 = p11 * p12 - n1 * (p11 * n2 + p12 * n1), p22 * p12 - n2 * (p22 * n1 + p12 * n2)
    g_m1, g_m2 = p11 * n2 + p12 * n1, p22 * n1 + p12 * n2
    return (
        c_k,
        g * c_k + c * g_k,
        c_1,
        c_2,
        g * c_1 + c * g_1,
        g * c_2 + c * g_2,
        c_m1,
        c_m2,
        g * c_m1 + c * g_m1,
        g * c_m2 + c * g_m2,
    )


@njit(**_options)
def _waves(
    k: float, root1: float, root2: float, cos1: float, sin1: float, cos2: float, sin2: float, gap: float
) -> tuple[float, float, float, float]:
    """E[sin sin'], E[cos cos'], and half of E[sin(f - f')] and of E[sin(f + f')]."""
    least = (root1 - root2) * (root1 - root2) + 2.0 * root1 * root2 * gap
    near = math.exp(-0.5 * least)  # the larger of the two exponentials
    lost = -near * math.expm1(-2.0 * abs(k))
    full = 2.0 * near - lost
    difference = lost if k >= 0.0 else -lost
    cosines, sines = 0.5 * cos1 * cos2, 0.5 * sin1 * sin2
    apart, together = 0.5 * (full + difference), 0.5 * (full - difference)  # exp(-Var(f -+ f') / 2)
    minus = 0.5 * apart * (sin1 * cos2 - cos1 * sin2)
    plus = 0.5 * together * (sin1 * cos2 + cos1 * sin2)
    return cosines * difference + sines * full, cosines * full + sines * difference, minus, plus
