"""Graphons given by an expression: breaks, kinks and jumps are found in it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import numpy as np
import sympy as sp

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import ExpressionError
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, Operation, StepGraphon
from graphon_theory.numerics import expressions
from graphon_theory.numerics.features import FormulaFeatures
from graphon_theory.numerics.roots import roots_on_unit


class AnalyticGraphon(Graphon):
    """W(u, v) given by a SymPy expression in symbols named u and v, or by its text.

    Breaks, kinks and jumps are found in the expression (|s|, min, max, Heaviside, Piecewise, roots and
    logarithms), not declared, and so are narrow bumps, bands and edges of exp, tanh, erf and powers. Raises
    ExpressionError for anything outside the whitelist of :mod:`graphon_theory.numerics.expressions`.
    """

    def __init__(self, expr: str | sp.Basic) -> None:
        self.expr: sp.Expr = expressions.parse(expr, ("u", "v"))
        names = {s.name for s in self.expr.free_symbols}
        breaks: dict[str, set[float]] = {"u": {0.0, 1.0}, "v": {0.0, 1.0}}
        curves = []
        for switch in expressions.switches(self.expr):
            free = {s.name for s in switch.free_symbols}
            if len(free) == 1:
                breaks[free.pop()].update(_roots_in_one(switch))
            else:
                curves.append(_Curve(switch))
        self.switches = tuple(curves)
        self.u_breaks = np.array(sorted(breaks["u"]))
        self.v_breaks = np.array(sorted(breaks["v"]))
        self.constant_in_u = "u" not in names
        self.constant_in_v = "v" not in names
        self((0.3137, 0.6863), (0.7219, 0.2781))  # complete by now; what is not finite in the open square is refused

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        return np.asarray(self._program({"u": u, "v": v}), dtype=float)

    @cached_property
    def _program(self) -> expressions.Program:
        return expressions.Program(self.expr)

    @cached_property
    def _features(self) -> FormulaFeatures:
        return FormulaFeatures(self.expr)

    def marks(self, *, of_v: bool) -> FloatArray:
        return self._features.fixed(of_v=of_v)

    def creases(self, u: FloatArray, *, flanks: bool = False) -> FloatArray:
        return np.concatenate([self.v_roots(u), self._features.curves(u, of_v=True, flanks=flanks)], axis=1)

    def curves(self, u: FloatArray) -> FloatArray:
        return self.creases(u)

    @property
    def creased(self) -> bool:
        return bool(self.switches) or self._features.any_curves

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return (self.expr,)

    @property
    def _key(self) -> tuple[Any, ...]:
        if self.expr.free_symbols:
            return super()._key
        return ConstantGraphon(float(expressions.evaluate(self.expr, {})))._key

    def _plainly(self, operation: Operation, one: Graphon, other: Graphon) -> Graphon | None:
        terms = [_expression_of(part) for part in (one, other)]
        if None in terms:
            return None
        try:
            # as its text is read: SymPy multiplies numbers out there, and files should give back what was saved
            return AnalyticGraphon(expressions.text(operation(*terms)))
        except ExpressionError:  # a formula beyond the limits of size
            return None

    @cached_property
    def _transposed(self) -> AnalyticGraphon:
        u, v = expressions.symbol("u"), expressions.symbol("v")
        return AnalyticGraphon(self.expr.xreplace({u: v, v: u}))

    @property
    def T(self) -> AnalyticGraphon:
        return self._transposed

    def __repr__(self) -> str:
        return f"AnalyticGraphon({expressions.text(self.expr)!r})"

    def _latex(self) -> str:
        return cast(str, sp.latex(self.expr))


def _expression_of(graphon: Graphon) -> sp.Expr | None:
    """The formula of a graphon, or of a number that stands everywhere."""
    if isinstance(graphon, AnalyticGraphon):
        return graphon.expr
    if isinstance(graphon, StepGraphon) and graphon.values.size == 1:
        value = float(graphon.values[0, 0])
        whole = value.is_integer() and abs(value) < expressions.MAX_INTEGER
        return sp.Integer(int(value)) if whole else sp.Float(value)
    return None


class _Curve:
    """A switch s(u, v) of an expression, evaluated with NumPy."""

    def __init__(self, switch: sp.Expr) -> None:
        self._program = expressions.Program(switch)

    def __call__(self, u: FloatArray, v: FloatArray) -> FloatArray:
        return np.asarray(self._program({"u": u, "v": v}), dtype=float)


def _roots_in_one(switch: sp.Expr) -> list[float]:
    """Roots in (0, 1) of a switch of one position."""
    (name,) = (s.name for s in switch.free_symbols)
    program = expressions.Program(switch)

    def value(_: FloatArray, y: FloatArray) -> FloatArray:
        return np.asarray(program({name: y}), dtype=float) + 0.0 * y

    found = roots_on_unit(value, np.zeros(1), grid=4097)[0]
    # a root such as 1/2 comes out of the bisection one rounding away from the number the user wrote
    return [float(round(x, 14)) if abs(x - round(x, 14)) < 3e-16 else float(x) for x in found]
