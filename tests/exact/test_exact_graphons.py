"""Exact means, degrees, products and spectra against quadrature and known numbers; floats read as written."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import graphon_theory as gt
from graphon_theory.exact.exact_graphons import FiniteRank, act
from graphon_theory.exact.profiles import Profile, T, integral, merged, rational, value
from graphon_theory.numerics import expressions

STEP = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6], [0.5, 0.3]], [0, 0.3, 0.4, 1], [0, 0.6, 1])
FORMULAS = (
    "u*v",
    "exp(-u - 2*v)",
    "0.3 + u*v**2/2",
    "min(u, v)",
    "abs(u - v)*u",
    "Heaviside(u - v)",
    "cos(u - 2*v)**2",
    "abs(u - 0.3)*v",
    "1/((1 + u)*(1 + v**3))",
    "sqrt(u*v)",
    "v*exp(-u**2)",
    "u*log(1 + v)",
    "Piecewise((u*v, u < 0.5), (v**2, True))",
    "u + v + u*v + 1",
    "sinh(u)*abs(v**2 - 0.5)",
)
GRAPHONS = {text: gt.as_graphon(text) for text in FORMULAS} | {"step": STEP, "constant": gt.ConstantGraphon(0.2)}


@pytest.mark.parametrize("name", GRAPHONS)
def test_mean_and_degrees_equal_quadrature(name: str) -> None:
    graphon = GRAPHONS[name]
    mean = gt.exact_mean(graphon)
    assert not mean.has(sp.Float)
    assert value(mean) == pytest.approx(graphon.mean(), rel=1e-13)
    points = np.array([0.05, 0.35, 0.45, 0.77, 0.95])
    for axis, symbol in ((1, "u"), (0, "v")):
        exact = gt.exact_degrees(graphon, axis)
        assert {s.name for s in exact.free_symbols} <= {symbol}
        found = [value(exact.subs(expressions.symbol(symbol), sp.Rational(str(p)))) for p in points]
        np.testing.assert_allclose(found, graphon.degrees(axis)(points), rtol=1e-12)


def test_numbers_known_by_hand() -> None:
    u = expressions.symbol("u")
    assert gt.exact_mean(gt.as_graphon("min(u, v)")) == sp.Rational(1, 3)
    assert sp.expand(gt.exact_degrees(gt.as_graphon("min(u, v)"), 1) - (u - u**2 / 2)) == 0
    assert gt.exact_mean(STEP) == sp.Rational(231, 500)  # .3(.54+.04) + .1(.12+.24) + .6(.3+.12)
    assert gt.exact_mean(gt.as_graphon("1/((1 + u)*(1 + v))")) == sp.log(2) ** 2
    assert gt.exact_spectrum(gt.as_graphon("u*v")) == {sp.Rational(1, 3): 1}
    assert gt.exact_spectrum(gt.StepGraphon([[0.5, 0.0], [0.0, 0.5]])) == {sp.Rational(1, 4): 2}
    nilpotent = gt.StepGraphon([[0.0, 0.8], [0.0, 0.0]])
    assert gt.exact_spectrum(nilpotent, singular=False) == {}
    assert gt.exact_spectrum(nilpotent) == {sp.Rational(2, 5): 1}


@pytest.mark.parametrize("name", ["u*v", "exp(-u - 2*v)", "0.3 + u*v**2/2", "step", "abs(u - 0.3)*v", "sqrt(u*v)"])
def test_spectrum_equals_fine_matrices(name: str) -> None:
    graphon = GRAPHONS[name]
    found = gt.exact_spectrum(graphon)
    exact = sorted((value(s) for s, n in found.items() for _ in range(n)), reverse=True)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    cuts = np.unique(np.concatenate([graphon.u_breaks, graphon.v_breaks]))
    points = np.concatenate([a + (b - a) * (nodes + 1) / 2 for a, b in pairwise(cuts)])
    roots = np.sqrt(np.concatenate([(b - a) * weights / 2 for a, b in pairwise(cuts)]))
    matrix = roots[:, None] * graphon(points[:, None], points) * roots
    numeric = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(exact, numeric[: len(exact)], rtol=1e-6 if name == "sqrt(u*v)" else 1e-10)
    assert numeric[len(exact)] < 1e-12
    eigen = sorted((abs(complex(sp.N(s, 20))) for s in gt.exact_spectrum(graphon, singular=False)), reverse=True)
    numeric = np.sort(np.abs(np.linalg.eigvals(matrix)))[::-1]
    np.testing.assert_allclose(eigen, numeric[: len(eigen)], rtol=1e-6 if name == "sqrt(u*v)" else 1e-9)


def test_a_rational_spectrum_of_higher_rank() -> None:
    found = gt.exact_spectrum(gt.StepGraphon([[0.9, 0.1, 0.3], [0.2, 0.6, 0.4], [0.5, 0.3, 0.8]]))
    table = np.array([[0.9, 0.1, 0.3], [0.2, 0.6, 0.4], [0.5, 0.3, 0.8]]) / 3
    np.testing.assert_allclose([value(s) for s in found], np.linalg.svd(table, compute_uv=False), rtol=1e-12)


def test_product_is_the_graphon_of_two_layers() -> None:
    outer, inner = GRAPHONS["exp(-u - 2*v)"], STEP
    exact = gt.exact_product(outer, inner)
    u, v = (expressions.symbol(s) for s in "uv")
    for a, b in ((0.2, 0.3), (0.7, 0.9)):
        grid = (np.arange(20_000) + 0.5) / 20_000
        numeric = float((outer(a, grid) * inner(grid, b)).mean())
        assert float(exact.subs({u: a, v: b})) == pytest.approx(numeric, rel=1e-7)
    assert gt.exact_product(gt.as_graphon("u*v"), gt.as_graphon("u*v")) == u * v / 3
    assert gt.exact_product(gt.as_graphon("u**2*v"), gt.as_graphon("u*v**3")) == u**2 * v**3 / 3


@pytest.mark.parametrize("text", ["min(u, v)", "Heaviside(u - v)*v"])
def test_kinks_act_exactly_on_steps_and_on_themselves(text: str) -> None:
    graphon = gt.as_graphon(text)
    start = Profile((sp.Integer(0), sp.Rational(2, 5), sp.Integer(1)), (sp.Integer(1), T / 2))
    once = act(graphon, start)
    twice = act(graphon, once)
    grid = (np.arange(4000) + 0.5) / 4000
    first = np.where(grid < 0.4, 1.0, grid / 2)
    points = np.array([0.11, 0.4, 0.83])
    numeric = graphon(grid[:, None], grid[None, :]) @ first / 4000
    second = graphon(points[:, None], grid) @ numeric / 4000
    exact = [value(twice.expression(T).subs(T, sp.Rational(str(p)))) for p in points]
    np.testing.assert_allclose(exact, second, rtol=2e-3)
    assert not any(e.has(sp.Integral) for e in twice.exprs)


@pytest.mark.parametrize(
    ("graphon", "message"),
    [
        (gt.FunctionGraphon(lambda u, v: u * v), "a callable has no exact integrals"),
        (gt.as_graphon("exp(-3*(u - v)**2)"), "finite sum of products"),
        (gt.as_graphon("abs(u - v**2)"), "not the diagonal"),
        (gt.StepGraphon(np.full((300, 300), 0.5)), "more than 65536 blocks"),
        (gt.as_graphon("abs(exp(u) - 2)*v"), "no number that can be written down"),
    ],
)
def test_no_exact_form_is_said(graphon: gt.Graphon, message: str) -> None:
    with pytest.raises(gt.ClosedFormError, match=message):
        gt.exact_mean(graphon)


def test_spectrum_refuses_what_is_not_of_small_rank() -> None:
    with pytest.raises(gt.ClosedFormError, match="not of finite rank"):
        gt.exact_spectrum(gt.as_graphon("min(u, v)"))
    with pytest.raises(gt.ClosedFormError, match="not all rational"):
        gt.exact_spectrum(gt.as_graphon("cos(u - 2*v)**2"))
    with pytest.raises(gt.GraphonError, match="axis"):
        gt.exact_degrees(STEP, 2)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_a_float_is_read_as_a_number_that_rounds_to_it(x: float) -> None:
    assert float(Fraction(int(rational(x).p), int(rational(x).q))) == x
    assert value(rational(x)) == x


def test_floats_are_read_as_written() -> None:
    assert rational(0.1) == sp.Rational(1, 10)
    assert rational(1 / 3) == sp.Rational(1, 3)
    assert rational(0.1 + 0.2) == sp.Rational("0.30000000000000004")
    assert rational(1e-12) == sp.Rational(1, 10**12)


@pytest.mark.parametrize(
    "text",
    [
        "t**3",
        "1/(1 + t)",
        "exp(-2*t)*t**2",
        "t*log(t)",
        "sqrt(1 + t)*t",
        "cos(3*t)**2*t",
        "1/(1 + t**3)",
        "exp(sin(t))",
        "1/sqrt(1 - t**2)",
        "exp(-t**2)*t**3",
        "tanh(t)",
        "cosh(t)**2",
        "log(2 + t)/(1 + t)",
        "erf(t)",
    ],
)
def test_integrals_equal_multiprecision_quadrature(text: str) -> None:
    expr = sp.sympify(text, locals={"t": T})
    exact = integral(expr, sp.Integer(0), sp.Integer(1))
    assert value(exact) == pytest.approx(float(sp.Integral(expr, (T, 0, 1)).evalf(20)), rel=1e-14)


def test_profiles() -> None:
    step = Profile((sp.Integer(0), sp.Rational(1, 3), sp.Integer(1)), (sp.Integer(2), sp.Integer(-1)))
    line = Profile((sp.Integer(0), sp.Integer(1)), (T,))
    assert step.integral() == 0
    assert step.integral(T) == sp.Rational(1, 9) - sp.Rational(4, 9)
    assert step.times(line).integral() == step.integral(T)
    assert step.plus(line).integral(None, sp.Rational(1, 3), 1) == -sp.Rational(2, 3) + sp.Rational(4, 9)
    assert step.is_step
    assert not line.is_step
    assert merged(step.edges, line.edges) == step.edges


def test_finite_rank_sums_to_the_graphon() -> None:
    u, v = (expressions.symbol(s) for s in "uv")
    for name in ("step", "cos(u - 2*v)**2", "Piecewise((u*v, u < 0.5), (v**2, True))", "u + v + u*v + 1"):
        graphon = GRAPHONS[name]
        terms = FiniteRank.of(graphon).terms
        for a, b in ((0.21, 0.33), (0.36, 0.9), (0.8, 0.1)):
            at = {u: sp.Rational(str(a)), v: sp.Rational(str(b))}
            total = sum(value((f.expression(u) * g.expression(v)).subs(at)) for f, g in terms)
            assert total == pytest.approx(float(graphon(a, b)), rel=1e-13)
