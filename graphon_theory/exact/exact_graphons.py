"""Exact integrals of graphons: SymPy numbers and functions instead of quadrature (THEORY §3, §6).

A graphon acts exactly on a :class:`~graphon_theory.profiles.Profile` where each of its rectangles is a finite sum of
f(u) g(v): steps, separable formulas, and formulas with |u - v|, min(u, v) or the like, whose two triangles are such
sums. Floats are read as :func:`graphon_theory.exact.profiles.rational` does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import sympy as sp
from sympy.simplify.fu import TR8  # noqa: TID251 - takes no text

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import truth
from graphon_theory.errors import ClosedFormError, GraphonError, shown
from graphon_theory.exact.profiles import Profile, T, antiderivative, confirmed, integral, merged, rational, tidy, value
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.conversions import as_graphon
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, StepGraphon
from graphon_theory.numerics import expressions

U, V = expressions.symbol("u"), expressions.symbol("v")
MAX_BLOCKS = 65_536  # entries of a step graphon that are read exactly
_ONE = sp.Integer(1)
_RANK = 24  # terms f(u) g(v) of a rectangle


def exact_edges(graphon: Graphon, axis: int) -> tuple[sp.Expr, ...]:
    """Breaks in u (``axis=0``) or in v (1) as exact numbers. Raises ClosedFormError where one cannot be read."""
    floats = graphon.u_breaks if axis == 0 else graphon.v_breaks
    if isinstance(graphon, StepGraphon):
        n = len(floats) - 1
        if np.array_equal(floats, np.linspace(0.0, 1.0, n + 1)):
            return tuple(sp.Rational(i, n) for i in range(n + 1))
        return tuple(rational(e) for e in floats)
    name = "uv"[axis]
    switches = [s for s in _switches(graphon) if {x.name for x in s.free_symbols} == {name}]
    return tuple(sp.Integer(int(e)) if e in (0.0, 1.0) else _exact_root(e, switches, graphon) for e in floats)


def _switches(graphon: Graphon) -> list[sp.Expr]:
    if not isinstance(graphon, AnalyticGraphon):
        raise ClosedFormError(f"{graphon!r}: a callable has no exact integrals; write it as an expression or a table.")
    return expressions.switches(_without_floats(graphon.expr))


def _without_floats(expr: sp.Basic) -> Any:
    return expr.xreplace({f: rational(float(f)) for f in expr.atoms(sp.Float)})


def _exact_root(near: float, switches: list[sp.Expr], graphon: Graphon) -> sp.Expr:
    guess = rational(near)
    for switch in switches:
        (symbol,) = switch.free_symbols
        if switch.subs(symbol, guess).is_zero:
            return guess
        if switch.is_polynomial(symbol):
            for root in sp.real_roots(switch, symbol):
                if abs(value(root) - near) < 1e-13:
                    return root
    raise ClosedFormError(f"{graphon!r}: its break near {near:.6g} is no number that can be written down.")


def resolved(graphon: AnalyticGraphon, u: float, v: float) -> sp.Expr:
    """The formula near (u, v): every |s|, min, max, Heaviside and Piecewise replaced by the branch taken there."""
    at = {"u": u, "v": v}

    def walk(node: Any) -> Any:
        if node.is_Atom:
            return node
        if isinstance(node, sp.Piecewise):
            for branch, condition in node.args:
                if bool(expressions.evaluate(condition, at)):
                    return walk(branch)
            raise GraphonError(f"{graphon!r}: no branch of the Piecewise holds at u={u:.6g}, v={v:.6g}.")
        if isinstance(node, (sp.Abs, sp.Heaviside, sp.Min, sp.Max)):
            sizes = [float(expressions.evaluate(arg, at)) for arg in node.args]
            if isinstance(node, sp.Heaviside):
                return sp.Integer(int(sizes[0] > 0))
            if isinstance(node, sp.Abs):
                return walk(node.args[0]) * (1 if sizes[0] >= 0 else -1)
            return walk(node.args[int(np.argmin(sizes) if isinstance(node, sp.Min) else np.argmax(sizes))])
        return node.func(*map(walk, node.args))

    return walk(_without_floats(graphon.expr))


_POSITIVE = {U: sp.Symbol("u", positive=True), V: sp.Symbol("v", positive=True)}


@lru_cache(maxsize=1024)
def separated(expr: sp.Expr) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
    """expr(u, v) = sum of f(u) g(v), as pairs of expressions in :data:`T`. Raises ClosedFormError if none is found."""
    u, v = _POSITIVE.values()
    plain = expr.xreplace(_POSITIVE)
    one = _factors(plain, u, v) or _product_by_values(expr)
    if one is not None:
        return ((one[0].subs(u, T), one[1].subs(v, T)),)
    groups: dict[sp.Expr, sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(_angles_apart(TR8(sp.expand(plain)), u, v))):
        pair = _factors(term, u, v)
        if pair is None:
            raise ClosedFormError(f"{expr} is not found to be a finite sum of products f(u) g(v).")
        groups[pair[0]] = groups.get(pair[0], sp.Integer(0)) + pair[1]
    if len(groups) > _RANK:
        raise ClosedFormError(f"{expr} has more than {_RANK} terms f(u) g(v).")
    return tuple((f.subs(u, T), g.subs(v, T)) for f, g in groups.items() if g != 0)


def _angles_apart(expr: sp.Expr, u: sp.Symbol, v: sp.Symbol) -> sp.Expr:
    """sin and cos of a(u) + b(v) by the addition theorems."""

    def apart(node: sp.Expr) -> sp.Expr:
        b, a = sp.expand(node.args[0]).as_independent(u, as_Add=True)
        if not b.has(v) or a.has(v):
            return node
        if isinstance(node, sp.sin):
            return sp.sin(a) * sp.cos(b) + sp.cos(a) * sp.sin(b)
        return sp.cos(a) * sp.cos(b) - sp.sin(a) * sp.sin(b)

    return expr.replace(lambda node: isinstance(node, (sp.sin, sp.cos)), apart)


def _factors(term: sp.Expr, u: sp.Symbol, v: sp.Symbol) -> tuple[sp.Expr, sp.Expr] | None:
    """f(u) and g(v) of a product whose factors show it; constants go with g."""
    left, right = sp.Integer(1), sp.Integer(1)
    for factor in sp.Mul.make_args(sp.expand_power_exp(sp.expand_power_base(term))):
        if not factor.has(u):
            right *= factor
        elif not factor.has(v):
            left *= factor
        else:
            return None
    return left, right


def _product_by_values(expr: sp.Expr) -> tuple[sp.Expr, sp.Expr] | None:
    """f(u) g(v) where the expression is such a product without showing it: expr(u, v0) expr(u0, v) / expr(u0, v0)."""
    u0, v0 = sp.Rational(13, 31), sp.Rational(17, 29)
    middle = expr.subs({U: u0, V: v0})
    if middle.is_zero is not False:
        return None
    left, right = expr.subs(V, v0) / middle, expr.subs(U, u0)
    points = np.random.default_rng(0).integers(1, 997, (12, 2))
    for p, q in points:
        a, b = sp.Rational(int(p), 997), sp.Rational(int(q), 997)
        full = sp.N(expr.subs({U: a, V: b}), 30)
        if abs(full - sp.N(left.subs(U, a) * right.subs(V, b), 30)) > 1e-22 * (abs(full) + abs(sp.N(middle, 30))):
            return None
    return left.xreplace(_POSITIVE), right.xreplace(_POSITIVE)


def act(graphon: Graphon, profile: Profile) -> Profile:
    """u -> int W(u, v) a(v) dv, exactly. Raises ClosedFormError where no exact form is found."""
    if isinstance(graphon, StepGraphon):
        _check_size(graphon)
        masses = [profile.integral(None, p, q) for p, q in pairwise(exact_edges(graphon, 1))]
        rows = ([rational(x) for x in row] for row in graphon.values)
        exprs = tuple(sp.expand(sp.Add(*(w * m for w, m in zip(row, masses, strict=True)))) for row in rows)
        return Profile(exact_edges(graphon, 0), exprs)
    formula, diagonal = _readable(graphon)
    u_edges, v_edges = exact_edges(formula, 0), merged(exact_edges(formula, 1), profile.edges)
    if diagonal:
        u_edges = v_edges = merged(u_edges, v_edges)
    pieces = []
    for p, q in pairwise(u_edges):
        total = sp.Integer(0)
        for s, t in pairwise(v_edges):
            a = profile.on(s, t)
            if diagonal and (s, t) == (p, q):
                total += _triangles(formula, a, p, q)
                continue
            for f, g in separated(resolved(formula, _middle(p, q), _middle(s, t))):
                total += f * integral(sp.expand(g * a), s, t)
        pieces.append(sp.expand(total))
    return Profile(u_edges, tuple(pieces))


def _check_size(graphon: StepGraphon) -> None:
    if graphon.values.size > MAX_BLOCKS:
        raise ClosedFormError(f"{graphon!r}: more than {MAX_BLOCKS} blocks are not read exactly.")


def _readable(graphon: Graphon) -> tuple[AnalyticGraphon, bool]:
    """The graphon as a formula, and whether it has a kink or jump on the diagonal; other curves are refused."""
    curves = [s for s in _switches(graphon) if len(s.free_symbols) == 2 and not _is_monomial(s)]
    for switch in curves:
        if not switch.is_polynomial(U, V) or sp.Poly(switch, U, V).total_degree() != 1 or switch.subs(U, V) != 0:
            shown = sp.sstr(sp.Eq(switch, 0))
            raise ClosedFormError(f"{graphon!r}: its kink along {shown} is not the diagonal.")
    assert isinstance(graphon, AnalyticGraphon)
    return graphon, bool(curves)


def _is_monomial(switch: sp.Expr) -> bool:
    """Whether ``switch`` is a multiple of a power of u times one of v, which vanishes on the border only."""
    return all(not factor.free_symbols or factor.as_base_exp()[0] in (U, V) for factor in sp.Mul.make_args(switch))


def _middle(a: sp.Expr, b: sp.Expr) -> float:
    return value(a + b) / 2


def _triangles(graphon: AnalyticGraphon, a: sp.Expr, p: sp.Expr, q: sp.Expr) -> sp.Expr:
    """int_p^q W(u, v) a(v) dv for u in [p, q]: below the diagonal to v = u, above from there."""
    low, high = (2 * value(p) + value(q)) / 3, (value(p) + 2 * value(q)) / 3
    total = sp.Integer(0)
    for u, v, start, stop in ((high, low, p, T), (low, high, T, q)):
        for f, g in separated(resolved(graphon, u, v)):
            body = sp.expand(g * a)
            found = antiderivative(body)
            middle = (p + q) / 2
            if found is None or not confirmed(found.subs(T, middle) - found.subs(T, p), body, p, middle):
                raise ClosedFormError(f"int {body} dt has no closed form that is found.")
            total += f * (found.subs(T, stop) - found.subs(T, start))
    return total


def exact_mean(graphon: Graphon) -> sp.Expr:
    """The double integral of W, the density of the layer, as an exact number.

    Raises ClosedFormError where no exact form is found (callables, kinks off the diagonal, such formulas as
    exp(-(u - v)^2)): use ``graphon.mean()``.
    """
    return tidy(act(as_graphon(graphon), Profile.constant()).integral())


def exact_degrees(graphon: Graphon, axis: int) -> sp.Expr:
    """The degree function left when ``axis`` is integrated out: an expression in u (axis=1) or in v (axis=0).

    Raises ClosedFormError as :func:`exact_mean`.
    """
    graphon = as_graphon(graphon)
    if not isinstance(axis, int | np.integer) or axis not in (0, 1):
        raise GraphonError(f"axis: expected 1 (integrate over v) or 0 (integrate over u), got {shown(axis)}.")
    profile = act(graphon if axis == 1 else graphon.T, Profile.constant())
    return tidy(profile.expression(U if axis == 1 else V))


def exact_product(outer: Graphon, inner: Graphon) -> sp.Expr:
    """The graphon of two layers in a row, int outer(u, w) inner(w, v) dw, as an expression in u and v.

    Both must be of finite rank. Raises ClosedFormError otherwise.
    """
    first, second = FiniteRank.of(as_graphon(outer)), FiniteRank.of(as_graphon(inner))
    total = sp.Integer(0)
    for (f, g), (h, k) in product(first.terms, second.terms):
        weight = g.times(h).integral()
        if weight != 0:
            total += weight * f.expression(U) * k.expression(V)
    return tidy(total)


def exact_spectrum(graphon: Graphon, *, singular: bool = True) -> dict[sp.Expr, int]:
    """Nonzero singular values (or eigenvalues) of T_W with their multiplicities, largest magnitude first (THEORY §6).

    With W = sum_r f_r(u) g_r(v), eigenvalues are those of the matrix int g_r f_s, squared singular values those of
    (int f_r f_s)(int g_r g_s). Raises ClosedFormError for graphons not of finite rank, and where the characteristic
    polynomial has no roots that can be written down.
    """
    truth("singular", singular)
    terms = FiniteRank.of(as_graphon(graphon)).terms
    count = range(len(terms))

    def gram(i: int, j: int) -> sp.Matrix:
        return sp.Matrix([[terms[r][i].times(terms[s][j]).integral() for s in count] for r in count])

    matrix = gram(0, 0) * gram(1, 1) if singular else gram(1, 0)
    found = _roots(matrix.applyfunc(sp.expand))
    out = {sp.sqrt(x) if singular else x: n for x, n in found.items() if x != 0}
    return dict(sorted(out.items(), key=lambda item: -abs(complex(sp.N(item[0], 25)))))


def _roots(matrix: sp.Matrix) -> dict[sp.Expr, int]:
    rank = matrix.shape[0]
    if rank > 2 and not all(entry.is_Rational for entry in matrix):
        raise ClosedFormError(
            f"graphon: a sum of {rank} products f(u) g(v) whose integrals are not all rational; its singular values "
            "would fill pages. Use graphon_spectrum."
        )
    symbol = sp.Symbol("lambda")
    polynomial = sp.Poly(matrix.charpoly(symbol).as_expr(), symbol)
    if rank <= 2:
        return {tidy(x): n for x, n in sp.roots(polynomial).items()}
    return dict(Counter(polynomial.all_roots()))


@dataclass(frozen=True)
class FiniteRank:
    """W(u, v) = sum over terms of f(u) g(v)."""

    terms: tuple[tuple[Profile, Profile], ...]

    @classmethod
    def of(cls, graphon: Graphon) -> FiniteRank:
        """Raises ClosedFormError where no such sum is found."""
        u_edges, v_edges = exact_edges(graphon, 0), exact_edges(graphon, 1)
        if isinstance(graphon, StepGraphon):
            _check_size(graphon)
            if graphon.values.shape[0] > graphon.values.shape[1]:
                return cls(tuple((f, g) for g, f in cls.of(graphon.T).terms))
            rows = (Profile(v_edges, tuple(rational(x) for x in row)) for row in graphon.values)
            return cls(tuple((_indicator(u_edges, i), row) for i, row in enumerate(rows)))
        formula, diagonal = _readable(graphon)
        if diagonal:
            raise ClosedFormError(f"{graphon!r}: a kink on the diagonal is not of finite rank.")
        terms = []
        for (i, (p, q)), (j, (s, t)) in product(enumerate(pairwise(u_edges)), enumerate(pairwise(v_edges))):
            for f, g in separated(resolved(formula, _middle(p, q), _middle(s, t))):
                terms.append((_indicator(u_edges, i, f), _indicator(v_edges, j, g)))
        return cls(tuple(terms))

    def on(self, p: sp.Expr, q: sp.Expr) -> dict[sp.Expr, Profile]:
        """For u in [p, q], the functions f(u) without their constants, each with its g(v)."""
        out: dict[sp.Expr, Profile] = {}
        for f, g in self.terms:
            number, shape = f.on(p, q).as_independent(T, as_Add=False)
            if number == 0:
                continue
            scaled = Profile(g.edges, tuple(number * e for e in g.exprs))
            out[shape] = out[shape].plus(scaled) if shape in out else scaled
        return out


def _indicator(edges: tuple[sp.Expr, ...], piece: int, expr: sp.Expr = _ONE) -> Profile:
    """``expr`` on one piece, 0 on the others."""
    return Profile(edges, tuple(expr if k == piece else sp.Integer(0) for k in range(len(edges) - 1)))


def profile_graphon(profile: Profile) -> Graphon:
    """The graphon c(v), the same for every receiver, of a profile of senders."""
    if profile.is_step:
        values = np.array([[value(expr) for expr in profile.exprs]])
        return ConstantGraphon(values[0, 0]) if values.size == 1 else StepGraphon(values, None, _floats(profile.edges))
    return AnalyticGraphon(profile.expression(V))


def _floats(edges: tuple[sp.Expr, ...]) -> FloatArray:
    return np.array([value(e) for e in edges])
