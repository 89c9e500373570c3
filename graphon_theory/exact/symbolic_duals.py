"""Dual activations as SymPy expressions, written down apart from the compiled ones (THEORY §4).

    C(q11, q12, q22) = E[phi(f) phi(f')],   Cdot = E[phi'(f) phi'(f')],   (f, f') ~ N(0, [[q11, q12], [q12, q22]])

Sources: rectifiers, Cho & Saul 2009, with phi = linear + bent relu split as in :func:`rectifier`; erf, Williams 1997;
GELU, from E[erf erf'] by two integrations by parts; sin, cos and exp, from the characteristic function of a Gaussian;
exp(-z^2/2), by completing the square; powers, by Isserlis' theorem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from graphon_theory.activations.activation import Activation
from graphon_theory.exact.profiles import rational

Duals = Callable[[sp.Expr, sp.Expr, sp.Expr], tuple[sp.Expr, sp.Expr]]  # q11, q12, q22 -> C, Cdot


@dataclass(frozen=True)
class SymbolicDual:
    """The duals, and n where phi(t z) = t^n phi(z) for t > 0 (so C has degree n in the moments, Cdot n - 1)."""

    duals: Duals
    degree: int | None = None


def rectifier(alpha: sp.Expr, beta: sp.Expr) -> SymbolicDual:
    """phi(z) = alpha z for z < 0 and beta z for z > 0.

    phi = (alpha + beta)/2 z + (beta - alpha)/2 |z|, two parts that do not correlate, and E[|f| |f'|] = (2/pi) (sqrt(q11
    q22 - q12^2) + q12 (pi/2 - theta)), theta the angle between f and f'.
    """
    even, odd = ((alpha + beta) / 2) ** 2, ((beta - alpha) / 2) ** 2

    def duals(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        if odd == 0:
            return even * q12, even
        sine = sp.sqrt(q11 * q22 - q12**2)
        theta = sp.atan2(sine, q12)
        straight = 2 * odd / sp.pi * (sine + q12 * (sp.pi / 2 - theta))
        return even * q12 + straight, even + 2 * odd / sp.pi * (sp.pi / 2 - theta)

    return SymbolicDual(duals, 1)


def _step(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    return sp.Rational(1, 2) - sp.atan2(sp.sqrt(q11 * q22 - q12**2), q12) / (2 * sp.pi), sp.Integer(0)


def _erf(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    a, b = 1 + 2 * q11, 1 + 2 * q22
    return 2 / sp.pi * sp.asin(2 * q12 / sp.sqrt(a * b)), 4 / sp.pi / sp.sqrt(a * b - 4 * q12**2)


def _sin(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    damping = sp.exp(-(q11 + q22) / 2)
    return damping * sp.sinh(q12), damping * sp.cosh(q12)


def _cos(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    return _sin(q11, q12, q22)[::-1]


def _exp(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    both = sp.exp((q11 + q22) / 2 + q12)
    return both, both


def _gaussian(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    delta = (1 + q11) * (1 + q22) - q12**2
    return 1 / sp.sqrt(delta), q12 / delta ** sp.Rational(3, 2)


def _gelu(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    # phi = z/2 + z erf(z / sqrt 2) / 2, an odd and an even part; by parts twice, with h = erf(. / sqrt 2),
    # E[f f' h h'] = q12 E[h h'] + (2 / (pi sqrt delta)) (q11 q22 + q12^2 p)
    a, b = 1 + q11, 1 + q22
    delta = a * b - q12**2
    p = 1 / a + 1 / b - 1
    angle = sp.asin(q12 / sp.sqrt(a * b))
    rest = q11 * q22 + q12**2 * p
    dual = q12 / 4 + (q12 * angle + rest / sp.sqrt(delta)) / (2 * sp.pi)
    slope = (angle + (q12 + 2 * q12 * p) / sp.sqrt(delta) + q12 * rest / delta ** sp.Rational(3, 2)) / (2 * sp.pi)
    return dual, sp.Rational(1, 4) + slope


_NAMED = {
    "relu": rectifier(sp.Integer(0), sp.Integer(1)),
    "leaky_relu": rectifier(sp.Rational(1, 100), sp.Integer(1)),
    "abs": rectifier(sp.Integer(-1), sp.Integer(1)),
    "identity": rectifier(sp.Integer(1), sp.Integer(1)),
    "step": SymbolicDual(_step, 0),
    "erf": SymbolicDual(_erf),
    "sin": SymbolicDual(_sin),
    "cos": SymbolicDual(_cos),
    "exp": SymbolicDual(_exp),
    "gaussian": SymbolicDual(_gaussian),
    "gelu": SymbolicDual(_gelu),
}


def symbolic_dual(activation: Activation) -> SymbolicDual | None:
    """The duals of an activation in closed form, or None: named ones, two straight lines, and polynomials in z."""
    if activation.named:
        return _NAMED.get(activation.name)
    expr = activation.expression
    if expr is None:
        return None
    (z,) = expr.free_symbols or {sp.Symbol("z")}
    if expr.is_polynomial(z):
        return _polynomial(sp.Poly(expr, z))
    if activation.homogeneous:
        alpha, beta = (rational(float(side * activation(side))) for side in (-1.0, 1.0))
        return rectifier(alpha, beta)
    return None


def _polynomial(polynomial: sp.Poly) -> SymbolicDual:
    """Isserlis: E[f^m f'^n] = sum_j m! n! / (j! a! b! 2^(a+b)) q12^j q11^a q22^b, a = (m - j)/2, b = (n - j)/2."""
    slope = polynomial.diff()

    def product(p: sp.Poly, q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> sp.Expr:
        total = sp.Integer(0)
        for (m,), left in p.terms():
            for (n,), right in p.terms():
                for j in range(min(m, n) + 1):
                    if (m - j) % 2 or (n - j) % 2:
                        continue
                    a, b = (m - j) // 2, (n - j) // 2
                    ways = sp.factorial(m) * sp.factorial(n) / (sp.factorial(j) * sp.factorial(a) * sp.factorial(b))
                    weight = _exact(left) * _exact(right) * ways / 2 ** (a + b)
                    total += weight * q12**j * q11**a * q22**b
        return total

    def duals(q11: sp.Expr, q12: sp.Expr, q22: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        return product(polynomial, q11, q12, q22), product(slope, q11, q12, q22)

    (lowest, *_), (highest, *_) = polynomial.monoms()[-1], polynomial.monoms()[0]
    return SymbolicDual(duals, highest if lowest == highest else None)


def _exact(coefficient: sp.Expr) -> sp.Expr:
    return rational(float(coefficient)) if coefficient.is_Float else coefficient
