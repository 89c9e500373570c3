"""Expressions whose duals have a closed form: gain f(stretch z + shift) + offset for an f with one (THEORY §4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import sympy as sp

from graphon_theory.activations.closed import closed_duals
from graphon_theory.activations.closed.affine_forms import affine
from graphon_theory.activations.closed.closed_duals import ClosedForm
from graphon_theory.arrays import Function
from graphon_theory.numerics import expressions

_WAVES = {sp.erf: closed_duals.ERF, sp.sin: closed_duals.SIN, sp.cos: closed_duals.COS}
_PEELS = 8  # sums in products in sums that are looked into


class Variant(NamedTuple):
    """A closed form, whether phi(t z) = t phi(z) for t > 0, and the two values of a phi that only jumps at 0."""

    form: ClosedForm
    homogeneous: bool = False
    levels: tuple[float, float] | None = None


def variant_of(expr: sp.Expr, phi: Function) -> Variant | None:
    """What is known of ``expr``, an expression in z whose values are ``phi``; None where no closed form is."""
    lines = _lines(expr)
    if lines is not None:
        return _of_lines(*lines, phi)
    z = expressions.symbol("z")
    gain, offset, core = sp.Integer(1), sp.Integer(0), expr
    for _ in range(_PEELS):
        added, rest = core.as_independent(z, as_Add=True)
        factor, rest = rest.as_independent(z, as_Add=False)
        gain, offset, core, before = gain * factor, offset + gain * added, rest, core
        if core == before:
            break
    found = _sum_of_waves(core, z) if core.is_Add else _core(core, z)
    if found is None:
        return None
    form, more, stretch, shift = found
    numbers = float(gain) * more, stretch, float(offset), shift
    if not all(map(math.isfinite, numbers)) or not numbers[0] or not stretch:
        return None
    if numbers == (1.0, 1.0, 0.0, 0.0) and form is not closed_duals.GROWING:
        return Variant(form)
    return Variant(affine(form, phi, *numbers, imaginary=form is closed_duals.GROWING))


def _core(core: sp.Expr, z: sp.Symbol) -> tuple[ClosedForm, float, float, float] | None:
    """(f, gain, stretch, shift) of an expression without factors or terms of its own."""
    if core.func in _WAVES:
        form = _WAVES[core.func]
        powers = _powers(core.args[0], z)
        if powers is None or powers[2] or (powers[0] and not form.takes_means):
            return None
        return form, 1.0, powers[1], powers[0]
    if isinstance(core, sp.exp):
        powers = _powers(core.args[0], z)
        if powers is None or (powers[1] and powers[2] > 0) or powers[0] > 700:
            return None
        if not powers[2]:
            return closed_duals.EXP, math.exp(powers[0]), powers[1], 0.0
        stretch = math.sqrt(2 * abs(powers[2]))
        if powers[2] > 0:
            return closed_duals.GROWING, math.exp(powers[0]), stretch, 0.0
        shift = -powers[1] / stretch  # a + b z - (s z)^2 / 2 is a + b^2 / 2 s^2 - (s z - b / s)^2 / 2
        top = powers[0] + 0.5 * shift * shift
        return (closed_duals.GAUSSIAN, math.exp(top), stretch, shift) if top < 700 else None
    if (
        isinstance(core, sp.Mul) and len(core.args) == 2 and z in core.args
    ):  # z (1 + erf(a z / sqrt 2)) is 2 gelu(a z) / a
        gate = core.args[1] if core.args[0] == z else core.args[0]
        error = gate - 1
        if isinstance(error, sp.erf):
            powers = _powers(error.args[0], z)
            if powers is not None and powers[1] and not powers[0] and not powers[2]:
                stretch = math.sqrt(2) * powers[1]
                return closed_duals.GELU, 2 / stretch, stretch, 0.0
    return None


def _sum_of_waves(total: sp.Expr, z: sp.Symbol) -> tuple[ClosedForm, float, float, float] | None:
    """Sines and cosines of one frequency are one sine: Im exp(i s z) sum g exp(i t) of all g sin(s z + t)."""
    frequency, phasor = None, 0j
    for term in total.args:
        gain, rest = term.as_independent(z, as_Add=False)
        if rest.func not in (sp.sin, sp.cos):
            return None
        powers = _powers(rest.args[0], z)
        if powers is None or powers[2] or not powers[1] or abs(powers[1]) != (frequency or abs(powers[1])):
            return None
        frequency, sign = abs(powers[1]), math.copysign(1.0, powers[1])
        # cos x = sin(x + pi / 2), and cosines are even, sines odd in the sign of z
        turn = powers[0] if rest.func is sp.sin else sign * powers[0] + 0.5 * math.pi
        size = float(gain)
        if rest.func is sp.sin:
            turn, size = sign * turn, sign * size
        phasor += size * complex(math.cos(turn), math.sin(turn))
    if frequency is None or not phasor:
        return None
    return closed_duals.SIN, abs(phasor), frequency, math.atan2(phasor.imag, phasor.real)


def _powers(expr: sp.Expr, z: sp.Symbol) -> tuple[float, float, float] | None:
    """Coefficients of 1, z, z^2; None for anything else."""
    if not expr.is_polynomial(z):
        return None
    coefficients = sp.Poly(expr, z).all_coeffs()[::-1]
    if len(coefficients) > 3:
        return None
    first, second, third = (float(c) for c in (*coefficients, 0, 0)[:3])
    return first, second, third


def _lines(expr: sp.Expr) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """(intercept, slope) of straight lines on the two sides of 0: derived by SymPy on either side."""
    size = sp.Symbol("size", positive=True)
    found = []
    for sign in (-1, 1):
        value = expr.subs(expressions.symbol("z"), sign * size)
        powers = _powers(value.simplify() if value.free_symbols else value, size)
        if powers is None or powers[2] or not all(map(math.isfinite, powers)):
            return None
        found.append((powers[0], sign * powers[1]))
    return found[0], found[1]


def _of_lines(left: tuple[float, float], right: tuple[float, float], phi: Function) -> Variant | None:
    (low, alpha), (high, beta) = left, right
    if alpha == beta == 0:
        return (
            None if low == high else Variant(affine(closed_duals.STEP, phi, high - low, 1.0, low), False, (low, high))
        )
    if low != high:
        return None
    form = closed_duals.rectifier(alpha, beta)
    return Variant(affine(form, phi, 1.0, 1.0, low) if low else form, not low)
