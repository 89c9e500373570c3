"""Where an activation given by an expression is not smooth, and its derivative elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

import numpy as np
import sympy as sp

from graphon_theory.arrays import FloatArray, Function
from graphon_theory.errors import ActivationError, ExpressionError, shown
from graphon_theory.numerics import expressions

_RANGE = 1e6  # kinks of an expression are looked for in [-_RANGE, _RANGE]
_MOST_KINKS = 64
_MOST_GIVEN = 10_000  # of a callable


def sorted_kinks(kinks: Iterable[float]) -> tuple[float, ...]:
    try:
        places = sorted({float(k) for k in islice(kinks, _MOST_GIVEN + 1)})
    except Exception:  # other libraries' numbers raise what they like
        raise ActivationError(f"kinks: expected numbers, got {shown(kinks)}.") from None
    if len(places) > _MOST_GIVEN:
        raise ActivationError(f"kinks: expected at most {_MOST_GIVEN:,} places, got more.")
    if not all(map(math.isfinite, places)):
        raise ActivationError(f"kinks: expected finite places, got {places}.")
    return tuple(places)


# --- expressions ------------------------------------------------------------------------------------------------------


def evaluator(expr: sp.Expr) -> Function:
    def phi(z: FloatArray) -> FloatArray:
        return np.asarray(expressions.evaluate(expr, {"z": z}), dtype=float) + 0.0 * z

    return phi


def derivative_of(expr: sp.Expr) -> sp.Expr:
    """phi', almost everywhere: what happens at single points is left out."""
    slope = sp.diff(expr, expressions.symbol("z"))
    slope = slope.replace(sp.DiracDelta, lambda *_: sp.Integer(0))
    slope = slope.replace(sp.sign, lambda x: 2 * sp.Heaviside(x) - 1)
    try:
        return expressions.parse(slope, ("z",))
    except ExpressionError as error:
        raise ActivationError(
            f"function: the derivative of {expr} cannot be taken ({error}); pass a callable."
        ) from None


def kinks_of(expr: sp.Expr) -> tuple[float, ...]:
    """Zeros of every function whose sign phi hangs on."""
    z = expressions.symbol("z")
    found: set[float] = set()
    for switch in expressions.switches(expr):
        if switch.is_polynomial(z):
            roots = [complex(root) for root in sp.Poly(switch, z).nroots(n=30, maxsteps=200)]
            found.update(r.real for r in roots if abs(r.imag) <= 1e-12 * max(1.0, abs(r)))
        else:
            found.update(_sign_changes(evaluator(switch)))
    merged: list[float] = []
    for place in sorted(found):
        if not merged or place - merged[-1] > 1e-12 * max(1.0, abs(place)):
            merged.append(place)
    if len(merged) > _MOST_KINKS:
        raise ActivationError(
            f"function: {expr} has more than {_MOST_KINKS} kinks; the duals of so many are out of reach."
        )
    return tuple(merged)


def _sign_changes(function: Function) -> list[float]:
    """Zeros of a function on [-1e6, 1e6], from a grid that is finest near 0."""
    steps = np.linspace(0.0, np.arcsinh(_RANGE * 1e3), 20_011)[1:]
    grid = 1e-3 * np.sinh(steps)
    grid = np.concatenate([-grid[::-1], [0.0], grid])
    values = function(grid)
    zeros = grid[values == 0].tolist()
    sign = np.sign(np.where(np.isfinite(values), values, 0.0))
    at = np.flatnonzero(sign[1:] * sign[:-1] < 0)
    low, high, below = grid[at], grid[at + 1], sign[at]
    for _ in range(80):
        middle = 0.5 * (low + high)
        left = np.sign(function(middle)) == below
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return [*zeros[: _MOST_KINKS + 1], *(0.5 * (low + high)).tolist()]
