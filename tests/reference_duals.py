"""Two kinds of number, and in them the means and duals of activations, in closed form and by quadrature."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from mpmath.calculus.quadrature import GaussLegendre

Pair = tuple[Any, Any, Any]  # (q12, q11, q22)


# --- two kinds of number --------------------------------------------------------------------------


@dataclass(frozen=True)
class Arithmetic:
    """The handful of operations the loops need, in one kind of number."""

    name: str
    number: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    atan2: Callable[[Any, Any], Any]
    pi: Any
    determinant: Callable[[Any, Any, Any], Any]  # q11 q22 - q12^2, without cancellation


def _exact_determinant(q12: float, q11: float, q22: float) -> float:
    """q11 q22 - q12^2 of three floats, rounded once: near |rho| = 1 the plain difference is all rounding."""
    return float(Fraction(q11) * Fraction(q22) - Fraction(q12) ** 2)


FLOAT = Arithmetic("float", float, math.sqrt, math.exp, math.atan2, math.pi, _exact_determinant)


def multiprecision(digits: int = 40) -> Arithmetic:
    """mpmath numbers in a context of their own, so that the global precision stays as it is."""
    mp = mpmath.MPContext()
    mp.dps = digits
    return Arithmetic(
        name=f"mpmath[{digits}]",
        number=lambda value: mp.mpf(value.item() if isinstance(value, np.generic) else value),
        sqrt=mp.sqrt,
        exp=mp.exp,
        atan2=mp.atan2,
        pi=+mp.pi,
        determinant=lambda q12, q11, q22: q11 * q22 - q12 * q12,
    )


# --- activations: mean, C and Cdot (THEORY §4) ----------------------------------------------------


@dataclass(frozen=True)
class Duals:
    """mean(a, mu, q) = E phi(mu + f);  pair(a, mu1, mu2, (q12, q11, q22)) = (E phi phi', E dphi dphi')."""

    mean: Callable[[Arithmetic, Any, Any], Any]
    pair: Callable[[Arithmetic, Any, Any, Pair], tuple[Any, Any]]


def _centred(name: str, form: Callable[[Arithmetic, Pair], tuple[Any, Any]]) -> Duals:
    def mean(a: Arithmetic, mu: Any, q: Any) -> Any:
        raise ValueError(f"{name}: the closed form is centred; use quadrature_duals with drift")

    def pair(a: Arithmetic, mu1: Any, mu2: Any, q: Pair) -> tuple[Any, Any]:
        if mu1 != 0 or mu2 != 0:
            raise ValueError(f"{name}: the closed form is centred; use quadrature_duals with drift")
        return form(a, q)

    return Duals(mean, pair)


def _relu(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """[CS]: with the angle t, 2 pi C = sqrt(q11 q22) sin t + q12 (pi - t) and 2 pi Cdot = pi - t.

    A variance of zero means f = 0 surely, and phi'(0) = 0 as everywhere in this project's step 1[z > 0].
    """
    q12, q11, q22 = q
    if q11 == 0 or q22 == 0:
        return a.number(0), a.number(0)
    determinant = a.determinant(q12, q11, q22)
    root = a.sqrt(determinant) if determinant > 0 else a.number(0)
    opening = a.pi - a.atan2(root, q12)
    return (root + q12 * opening) / (2 * a.pi), opening / (2 * a.pi)


def _erf(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """[W]: C = (2/pi) asin(2 q12 / sqrt((1 + 2 q11)(1 + 2 q22))), Cdot = dC/dq12."""
    q12, q11, q22 = q
    root = a.sqrt(a.determinant(2 * q12, 1 + 2 * q11, 1 + 2 * q22))
    return 2 / a.pi * a.atan2(2 * q12, root), 4 / (a.pi * root)


def _rectifier(alpha: float, beta: float) -> Callable[[Arithmetic, Pair], tuple[Any, Any]]:
    """phi = beta relu(z) - alpha relu(-z): the four pairs of half-lines, each a relu pair at rho or -rho."""

    def form(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
        q12, q11, q22 = q
        up, down = a.number(beta), a.number(alpha)
        same, same_dot = _relu(a, (q12, q11, q22))
        across, across_dot = _relu(a, (-q12, q11, q22))
        squares, twice = up * up + down * down, 2 * up * down
        return squares * same - twice * across, squares * same_dot + twice * across_dot

    return form


def _step(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    return _relu(a, q)[1], a.number(0)


def _exponentials(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """E exp(i(f - f')) and E exp(i(f + f')): the characteristic function."""
    q12, q11, q22 = q
    minus, plus = (a.exp(-(q11 + q22 - sign * 2 * q12) / 2) for sign in (1, -1))
    return minus, plus


def _sin(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    minus, plus = _exponentials(a, q)
    return (minus - plus) / 2, (minus + plus) / 2


def _cos(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    minus, plus = _exponentials(a, q)
    return (minus + plus) / 2, (minus - plus) / 2


def _exp(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    value = a.exp((q[1] + q[2] + 2 * q[0]) / 2)
    return value, value


def _gaussian(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """1 / sqrt(det(1 + Q)) and its slope in q12."""
    q12, q11, q22 = q
    det = (1 + q11) * (1 + q22) - q12 * q12
    return 1 / a.sqrt(det), q12 / (det * a.sqrt(det))


def _gelu(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """E[f f' Phi(f) Phi(f')] by integration by parts: E[f f' G] = q12 E G + sum_kl Q_1k Q_2l E d_k d_l G."""
    q12, q11, q22 = q
    det = (1 + q11) * (1 + q22) - q12 * q12
    root = a.sqrt(det)
    gates = (a.pi / 2 + a.atan2(q12, root)) / (2 * a.pi)
    density = 1 / (2 * a.pi * root)
    first, second = -q12 / (1 + q11) * density, -q12 / (1 + q22) * density  # E of the second derivatives in f, in f'
    value = q12 * gates + q11 * q12 * first + q12 * q22 * second + (q11 * q22 + q12 * q12) * density
    # E[phi' phi'], phi' = Phi + f n(f): gates, E[f n Phi] twice, E[f f' n n']
    return value, gates - first - second + q12 / det * density


def _identity_pair(a: Arithmetic, mu1: Any, mu2: Any, q: Pair) -> tuple[Any, Any]:
    return q[0] + mu1 * mu2, a.number(1)


DUALS: dict[str, Duals] = {
    "relu": _centred("relu", _relu),
    "erf": _centred("erf", _erf),
    "identity": Duals(lambda a, mu, q: mu, _identity_pair),
    "leaky_relu": _centred("leaky_relu", _rectifier(0.01, 1.0)),
    "abs": _centred("abs", _rectifier(-1.0, 1.0)),
    "step": _centred("step", _step),
    "sin": _centred("sin", _sin),
    "cos": _centred("cos", _cos),
    "exp": _centred("exp", _exp),
    "gaussian": _centred("gaussian", _gaussian),
    "gelu": _centred("gelu", _gelu),
}


def quadrature_duals(
    phi: Callable[[Any], Any],
    derivative: Callable[[Any], Any],
    kinks: Sequence[float] = (),
    digits: int = 15,
) -> Duals:
    """Duals of any activation about any means, by nested Gauss-Legendre in mpmath, split at the kinks: slow.

    ``phi`` and ``derivative`` (almost everywhere) act on mpmath numbers. With 1 - |rho| below about 1e-4, and
    not zero, the outer integrand has a layer of width sqrt(1 - rho^2) and digits are lost. ``digits`` up to
    40.
    """
    mp = mpmath.MPContext()
    mp.dps = digits
    reach = mp.sqrt(2 * mp.log(10) * (digits + 3))  # the Gaussian beyond it is below the last digit

    # 48 Gauss-Legendre nodes resolve a Gaussian on half of that range to 16 digits, 96 to 40
    rule = GaussLegendre(mp).calc_nodes(5 if digits <= 16 else 6, mp.prec + 20)

    def expect(f: Callable[[Any], Any], splits: Sequence[Any]) -> Any:
        inner = sorted({s for s in splits if -reach < s < reach} | {mp.mpf(0)})
        total = mp.mpf(0)
        for a, b in itertools.pairwise([-reach, *inner, reach]):
            half, middle = (b - a) / 2, (a + b) / 2
            for node, weight in rule:
                z = middle + half * node
                total += half * weight * mp.exp(-z * z / 2) * f(z)
        return total / mp.sqrt(2 * mp.pi)

    def splits_of(mu: Any, scale: Any) -> list[Any]:
        return [(mp.mpf(k) - mu) / scale for k in kinks]

    def one(g: Callable[[Any], Any], mu: Any, q: Any) -> Any:
        mu, scale = mp.mpf(mu), mp.sqrt(q)
        return g(mu) if scale == 0 else expect(lambda z: g(mu + scale * z), splits_of(mu, scale))

    def two(g: Callable[[Any], Any], mu1: Any, mu2: Any, q: Pair) -> Any:
        q12, q11, q22 = (mp.mpf(value) for value in q)
        m1, m2 = mp.mpf(mu1), mp.mpf(mu2)
        if q11 == 0:
            return g(m1) * one(g, m2, q22)
        if q22 == 0:
            return g(m2) * one(g, m1, q11)
        s1, s2 = mp.sqrt(q11), mp.sqrt(q22)
        rho = q12 / (s1 * s2)
        rest = 1 - rho * rho
        outer = splits_of(m1, s1)
        if rest <= 8 * mp.eps:
            sign = mp.sign(rho)
            both = outer + [sign * s for s in splits_of(m2, s2)]
            return expect(lambda z: g(m1 + s1 * z) * g(m2 + s2 * sign * z), both)
        if rho != 0:  # where the inner kink passes through the middle of the inner Gaussian
            outer = outer + [s / rho for s in splits_of(m2, s2)]

        def given(z: Any) -> Any:
            return g(m1 + s1 * z) * one(g, m2 + s2 * rho * z, q22 * rest)

        return expect(given, outer)

    return Duals(
        mean=lambda a, mu, q: a.number(one(phi, mu, q)),
        pair=lambda a, mu1, mu2, q: (a.number(two(phi, mu1, mu2, q)), a.number(two(derivative, mu1, mu2, q))),
    )
