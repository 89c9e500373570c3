"""Exact functions of one position, and their integrals: a SymPy expression on each piece of [0, 1].

Floats are read as the number one would have written: the fraction with a denominator up to 10^6 that rounds to the
float, if there is one, else the float's shortest decimal. Both round to the very same float.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import sympy as sp
from scipy.integrate import quad
from sympy.integrals.manualintegrate import manualintegrate
from sympy.integrals.rationaltools import ratint
from sympy.simplify.fu import TR8  # noqa: TID251 - takes no text

from graphon_theory.numerics import expressions

T = sp.Symbol("t", positive=True)  # the one position of a Profile
_DENOMINATOR = 10**6
_LONG = 16  # operations of a term whose antiderivative is looked for
_CHECKED = 1e-9  # agreement of an antiderivative with quadrature, which catches a wrong branch


def rational(x: float) -> sp.Rational:
    """The number one would have written for the float ``x``; rounds to ``x``."""
    short = Fraction(float(x)).limit_denominator(_DENOMINATOR)
    read = short if float(short) == float(x) else Fraction(repr(float(x)))
    return sp.Rational(read.numerator, read.denominator)


@lru_cache(maxsize=65_536)
def value(number: sp.Expr) -> float:
    """An exact number in floating point, to its last digit or two."""
    return int(number.p) / int(number.q) if number.is_Rational else float(sp.N(number, 25))


@dataclass(frozen=True)
class Profile:
    """A function of one position: ``exprs[i]`` (in :data:`T`) on the piece from ``edges[i]`` to ``edges[i+1]``."""

    edges: tuple[sp.Expr, ...]
    exprs: tuple[sp.Expr, ...]

    @classmethod
    def constant(cls, number: int | sp.Expr = 1) -> Profile:
        return cls((sp.Integer(0), sp.Integer(1)), (sp.Integer(0) + number,))

    def on(self, a: sp.Expr, b: sp.Expr) -> sp.Expr:
        """The expression on [a, b], which no edge cuts."""
        middle = value(a + b) / 2
        for expr, (low, high) in zip(self.exprs, pairwise(self.edges), strict=True):
            if value(low) <= middle <= value(high):
                return expr
        raise AssertionError("positions lie in [0, 1]")

    def integral(self, weight: sp.Expr | None = None, a: int | sp.Expr = 0, b: int | sp.Expr = 1) -> sp.Expr:
        """int weight(t) f(t) dt from ``a`` to ``b``; weight is 1 if left out."""
        low, high = sp.Integer(0) + a, sp.Integer(0) + b
        cuts = merged((low, high), [e for e in self.edges if value(low) < value(e) < value(high)])
        other = sp.Integer(1) if weight is None else weight
        return sp.Add(*(integral(sp.expand(other * self.on(p, q)), p, q) for p, q in pairwise(cuts)))

    def times(self, other: Profile) -> Profile:
        edges = merged(self.edges, other.edges)
        exprs = tuple(sp.expand(self.on(p, q) * other.on(p, q)) for p, q in pairwise(edges))
        return Profile(edges, exprs)

    def plus(self, other: Profile) -> Profile:
        edges = merged(self.edges, other.edges)
        return Profile(edges, tuple(sp.expand(self.on(p, q) + other.on(p, q)) for p, q in pairwise(edges)))

    def expression(self, symbol: sp.Symbol) -> sp.Expr:
        """As one SymPy expression in ``symbol``, a Piecewise if there are several pieces."""
        parts = [expr.xreplace({T: symbol}) for expr in self.exprs]
        if len(set(parts)) == 1:
            return parts[0]
        *early, last = zip(parts, self.edges[1:], strict=True)
        return sp.Piecewise(*((part, symbol < edge) for part, edge in early), (last[0], True))

    @property
    def is_step(self) -> bool:
        return not any(T in expr.free_symbols for expr in self.exprs)

    @property
    def is_zero(self) -> bool:
        return all(expr.is_zero for expr in self.exprs)


def merged(*edges: Any) -> tuple[sp.Expr, ...]:
    """All edges in order, each once."""
    out: list[sp.Expr] = []
    for edge in sorted((e for several in edges for e in several), key=value):
        if not out or value(edge) - value(out[-1]) > 1e-15:
            out.append(edge)
    return tuple(out)


@lru_cache(maxsize=4096)
def integral(expr: sp.Expr, a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """int expr dt over [a, b]: in closed form, or an unevaluated Integral (an exact number all the same)."""
    if T not in expr.free_symbols:
        return expr * (b - a)
    if expr.has(sp.Integral):  # numbers of layers below
        split = (term.as_independent(T, as_Add=False) for term in sp.Add.make_args(sp.expand(expr)))
        return sp.Add(*(number * integral(rest, a, b) for number, rest in split))
    found = antiderivative(expr)
    if found is not None:
        area = sp.expand(_end(found, b, "-") - _end(found, a, "+"))
        if area.is_Rational or confirmed(area, expr, a, b):
            return area
    return sp.Integral(expr, (T, a, b))


def _end(found: sp.Expr, at: sp.Expr, side: str) -> sp.Expr:
    value_there = found.subs(T, at)
    return sp.limit(found, T, at, side) if value_there.has(sp.nan, sp.zoo) else value_there


@lru_cache(maxsize=4096)
def antiderivative(expr: sp.Expr) -> sp.Expr | None:
    if expr.is_polynomial(T):
        return sp.Poly(expr, T).integrate().as_expr()
    if expr.is_rational_function(T):
        return _if_plain(ratint(sp.together(expr), T))
    # products of sines become sines of sums; what is then not short would keep the search busy for minutes
    plain = TR8(sp.expand(expr.replace(sp.sinh, _sinh).replace(sp.cosh, _cosh)))
    terms = sp.Add.make_args(sp.expand(plain))
    if plain.has(sp.tan, sp.tanh) or any(_is_long(term.as_independent(T, as_Add=False)[1]) for term in terms):
        return None
    return _if_plain(sp.Add(*(manualintegrate(term, T) for term in terms)))


def _is_long(term: sp.Expr) -> bool:
    """Many factors, or a function over a polynomial."""
    _, below = sp.fraction(sp.powdenest(term))
    quotient = below.is_polynomial(T) and T in below.free_symbols and not term.is_algebraic_expr(T)
    return bool(quotient or sp.count_ops(term) > _LONG)


def _sinh(x: sp.Expr) -> sp.Expr:
    return (sp.exp(x) - sp.exp(-x)) / 2


def _cosh(x: sp.Expr) -> sp.Expr:
    return (sp.exp(x) + sp.exp(-x)) / 2


def _if_plain(found: sp.Expr) -> sp.Expr | None:
    """Real and finished, or None."""
    return None if found.has(sp.Integral, sp.I, sp.nan, sp.zoo, sp.RootSum) else found


def confirmed(area: sp.Expr, expr: sp.Expr, a: sp.Expr, b: sp.Expr) -> bool:
    """Whether quadrature agrees: an antiderivative may jump between branches inside [a, b]."""
    try:
        claimed = value(area)
    except (TypeError, ValueError):
        return False

    def size(t: float) -> float:
        return abs(float(expressions.evaluate(expr, {"t": t})))

    def at(t: float) -> float:
        return float(expressions.evaluate(expr, {"t": t}))

    low, high = value(a), value(b)
    found, _ = quad(at, low, high, limit=200)
    scale, _ = quad(size, low, high, limit=200)
    return bool(abs(found - claimed) <= _CHECKED * scale)


def tidy(expr: sp.Expr) -> sp.Expr:
    """Simplified where that is quick."""
    return expr.simplify() if sp.count_ops(expr) <= 60 and not expr.has(sp.Integral) else expr
