"""The bivariate normal distribution, and rectifiers about non-zero means through it (THEORY §4)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}
_ORDERS = (6, 12, 20)
_RULES = [np.polynomial.legendre.leggauss(n) for n in _ORDERS]
_NODES = np.concatenate([x for x, _ in _RULES])
_WEIGHTS = np.concatenate([w for _, w in _RULES])
_TAIL = 4.0
_TWO_PI = 2.0 * math.pi


@njit(**_options)
def normal_cdf(x: float) -> float:
    """Phi(x), to relative precision in the lower tail."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@njit(**_options)
def bivariate_cdf(h: float, k: float, rho: float, gap: float) -> float:
    """P(X <= h, Y <= k) for standard normals of correlation rho, 1 - |rho| = gap; absolute error about 1e-15.

    Method of Drezner and Wesolowsky (1990) as refined by Genz (2004): Gauss-Legendre in the angle of the correlation
    for |rho| < 0.925, an expansion about |rho| = 1 beyond.
    """
    if abs(rho) < 0.925:
        first, count = (0, 6) if abs(rho) < 0.3 else ((6, 12) if abs(rho) < 0.75 else (18, 20))
        if max(abs(h), abs(k)) > _TAIL:  # to relative precision as well
            first, count = 18, 20
        squares, angle, total = 0.5 * (h * h + k * k), math.asin(rho), 0.0
        for n in range(first, first + count):
            sine = math.sin(0.5 * angle * (1.0 + _NODES[n]))
            total += _WEIGHTS[n] * math.exp((sine * h * k - squares) / (1.0 - sine * sine))
        return normal_cdf(h) * normal_cdf(k) + total * angle / (2.0 * _TWO_PI)
    # as upper tail probabilities at -h, -k
    h, k = -h, -k if rho >= 0.0 else k
    product, total = h * k, 0.0
    if gap > 0.0:
        square = gap * (2.0 - gap)
        a = math.sqrt(square)
        apart = (h - k) * (h - k)
        c, d = (4.0 - product) / 8.0, (12.0 - product) / 16.0
        exponent = -0.5 * (apart / square + product)
        if exponent > -700.0:
            series = 1.0 - c * (apart - square) * (1.0 - d * apart / 5.0) / 3.0 + c * d * square * square / 5.0
            total = a * math.exp(exponent) * series
        if product > -700.0:
            b = math.sqrt(apart)
            tail = math.sqrt(_TWO_PI) * normal_cdf(-b / a) * b
            total -= math.exp(-0.5 * product) * tail * (1.0 - c * apart * (1.0 - d * apart / 5.0) / 3.0)
        for n in range(18, 38):
            x = 0.5 * a * (1.0 + _NODES[n])
            x *= x
            root = math.sqrt(1.0 - x)
            exponent = -0.5 * (apart / x + product)
            if exponent > -700.0:
                near = math.exp(-product * x / (2.0 * (1.0 + root) * (1.0 + root))) / root
                total += 0.5 * a * _WEIGHTS[n] * math.exp(exponent) * (near - (1.0 + c * x * (1.0 + d * x)))
        total /= -_TWO_PI
    if rho >= 0.0:
        return total + normal_cdf(-max(h, k))
    between = max(0.0, normal_cdf(k) - normal_cdf(h)) if h < 0.0 else max(0.0, normal_cdf(-h) - normal_cdf(-k))
    return between - total


@njit(**_options)
def rectified_pair(
    mean1: float, mean2: float, root1: float, root2: float, k: float, coincident: float
) -> tuple[float, float]:
    """E[z+ z'+] and P(z > 0, z' > 0) for means, deviations and covariance k.

    E[z+ z'+] = (mu mu' + K) P + mu s' n(h') N((h - rho h') / t) + mu' s n(h) N((h' - rho h) / t) + s s' t n2,
    h = mu / s, t = sqrt(1 - rho^2), n and N the normal density and distribution, n2 = n(h) n((h' - rho h) / t).
    A mean exactly at the kink with zero variance counts half.
    """
    if root1 == 0.0 or root2 == 0.0:
        one = _open(mean1, root1)
        two = _open(mean2, root2)
        return _rectified(mean1, root1) * _rectified(mean2, root2), one * two
    rho = k / (root1 * root2)
    gap = 1.0 - abs(rho)
    if gap <= coincident:
        gap = 0.0
        rho = 1.0 if rho > 0.0 else -1.0
    h1, h2 = mean1 / root1, mean2 / root2
    both = bivariate_cdf(h1, h2, rho, gap)
    # h - rho h' without cancellation where rho is near +-1
    sign = 1.0 if rho >= 0.0 else -1.0
    apart1, apart2 = (h1 - sign * h2) + sign * gap * h2, (h2 - sign * h1) + sign * gap * h1
    t = math.sqrt(gap * (2.0 - gap))
    value = (mean1 * mean2 + k) * both
    value += mean1 * root2 * density(h2) * step_or_cdf(apart1, t)
    value += mean2 * root1 * density(h1) * step_or_cdf(apart2, t)
    if t > 0.0:
        value += root1 * root2 * t * density(h1) * density(apart2 / t)
    return value, both


@njit(**_options)
def density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(_TWO_PI)


@njit(**_options)
def step_or_cdf(x: float, t: float) -> float:
    if t > 0.0:
        return normal_cdf(x / t)
    return 1.0 if x > 0.0 else (0.0 if x < 0.0 else 0.5)


@njit(**_options)
def _open(mean: float, root: float) -> float:
    return step_or_cdf(mean, root)


@njit(**_options)
def _rectified(mean: float, root: float) -> float:
    """E[z+]."""
    if root == 0.0:
        return max(mean, 0.0)
    return mean * normal_cdf(mean / root) + root * density(mean / root)


@njit(**_options)
def rectifier_about_means(
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
    """phi(z) = beta z for z > 0, alpha z for z < 0, about means; own parameters (alpha, beta - alpha, 0).

    With a jump instead of a kink, phi(z) = 1[z > 0]: own parameters (0, 1, 1).
    Features: mu, sqrt(q), E[z+], P(z > 0).
    """
    positions, _, n1, n2 = state.shape
    coincident, alpha, bent, jump = parameters[0], parameters[1], parameters[2], parameters[3] > 0.5
    for p in range(positions):
        for i in range(n1):
            mean_i, root_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i]
            rectified_i, open_i = f1[p, 2, i0 + i], f1[p, 3, i0 + i]
            for j in range(n2):
                k = state[p, 0, i, j]
                t = state[p, 1, i, j] + (k if shared else masked[p, i, j]) + trained_bias
                k = k + bias
                mean_j, root_j = f2[p, 0, j0 + j], f2[p, 1, j0 + j]
                rectified_j, open_j = f2[p, 2, j0 + j], f2[p, 3, j0 + j]
                value, both = rectified_pair(mean_i, mean_j, root_i, root_j, k, coincident)
                if jump:
                    dead = (root_i == 0.0 and mean_i <= 0.0) or (root_j == 0.0 and mean_j <= 0.0)
                    out[p, 0, i, j] = 0.0 if dead else both
                    out[p, 1, i, j] = 0.0
                else:
                    # E[z z'+] = mu E[z'+] + K P(z' > 0)
                    crossed = mean_i * rectified_j + k * open_j + mean_j * rectified_i + k * open_i
                    out[p, 0, i, j] = (
                        alpha * alpha * (mean_i * mean_j + k) + alpha * bent * crossed + bent * bent * value
                    )
                    out[p, 1, i, j] = (alpha * alpha + alpha * bent * (open_i + open_j) + bent * bent * both) * t
