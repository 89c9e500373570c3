"""Graphons: values, transposes, averages, where they break."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.numerics.quadratures import LEFT, PLAIN, RIGHT, Panels

FloatArray = NDArray[np.float64]

# three blocks a side, unequal, no symmetry anywhere: every exchange of axes shows
VALUES = np.array([[0.9, 0.1, 0.4], [0.2, 0.6, 0.0], [0.35, 1.0, 0.75]])
U_EDGES, V_EDGES = np.array([0.0, 0.3, 0.45, 1.0]), np.array([0.0, 0.5, 0.6, 1.0])
STEP = gt.StepGraphon(VALUES, U_EDGES, V_EDGES)
SMOOTH = gt.AnalyticGraphon("(1 + u)*exp(-2*v)/3 + u**2*v/4")


def asymmetric(u: FloatArray, v: FloatArray) -> FloatArray:
    return (1 + u) * np.exp(-2 * v) / 3 + u**2 * v / 4


FUNCTION = gt.FunctionGraphon(asymmetric)
KINKED = gt.AnalyticGraphon("Min(u, 2*v)/2 + Heaviside(v - u**2)/4")
EVERY = {
    "constant": gt.ConstantGraphon(0.3),
    "step": STEP,
    "smooth": SMOOTH,
    "kinked": KINKED,
    "function": FUNCTION,
    "undeclared": gt.FunctionGraphon(lambda u, v: np.minimum(u, 2 * v) / 2 + (v > u**2) / 4),
    "diagonal": gt.FunctionGraphon(lambda u, v: np.where(u < v, u, 1 - v**2), diagonal=True),
}
every = pytest.mark.parametrize("graphon", EVERY.values(), ids=EVERY)
# black boxes without declared breaks are averaged slowly
every_quick = pytest.mark.parametrize(
    "graphon",
    [pytest.param(one, id=name, marks=[pytest.mark.slow] * (name == "undeclared")) for name, one in EVERY.items()],
)
UU, VV = (a.ravel() for a in np.meshgrid([0.0, 0.11, 0.29, 0.52, 0.77, 1.0], [0.0, 0.07, 0.3, 0.55, 0.83, 1.0]))


def brute_mean(graphon: gt.Graphon, u0: float, u1: float, v0: float, v1: float, n: int = 400) -> float:
    """A midpoint rule: slow and rough, knowing nothing."""
    s = (np.arange(n) + 0.5) / n
    return float(graphon((u0 + (u1 - u0) * s)[:, None], v0 + (v1 - v0) * s).mean())


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_step_graphon_is_its_blocks_rows_receiving() -> None:
    middles_u, middles_v = (U_EDGES[:-1] + U_EDGES[1:]) / 2, (V_EDGES[:-1] + V_EDGES[1:]) / 2
    np.testing.assert_array_equal(STEP(middles_u[:, None], middles_v), VALUES)
    # block i is [edge, next edge), the last one closed
    assert STEP(0.3, 0.5) == VALUES[1, 1]
    assert STEP(np.nextafter(0.3, 0), np.nextafter(0.5, 0)) == VALUES[0, 0]
    assert STEP(1.0, 1.0) == VALUES[2, 2]
    assert STEP(0.0, 0.0) == VALUES[0, 0]


def test_edges_left_out_are_equal_blocks() -> None:
    graphon = gt.StepGraphon([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    np.testing.assert_allclose(graphon.u_edges, [0, 0.5, 1], rtol=1e-15)
    np.testing.assert_allclose(graphon.v_edges, [0, 0.25, 0.5, 0.75, 1], rtol=1e-15)
    assert graphon(0.6, 0.3) == 0.6


def test_values_are_copied_and_held_fast() -> None:
    table = np.array([[0.1, 0.2]])
    graphon = gt.StepGraphon(table)
    table[0, 0] = 7.0
    assert graphon(0.1, 0.1) == 0.1
    with pytest.raises(ValueError, match="read-only"):
        graphon.values[0, 0] = 1.0


@every
def test_calls_broadcast(graphon: gt.Graphon) -> None:
    table = graphon(np.linspace(0, 1, 4)[:, None], np.linspace(0, 1, 5))
    assert table.shape == (4, 5)
    assert table.dtype == np.float64
    assert graphon(0.3, [0.1, 0.9]).shape == (2,)
    assert graphon(0.3, 0.4).shape == ()
    assert table[2, 3] == graphon(2 / 3, 0.75)
    assert graphon(np.zeros((0, 2)), 0.5).shape == (0, 2)


def test_analytic_and_function_agree_with_the_formula() -> None:
    np.testing.assert_allclose(SMOOTH(UU, VV), asymmetric(UU, VV), rtol=1e-15)
    np.testing.assert_array_equal(FUNCTION(UU, VV), asymmetric(UU, VV))


@every
@pytest.mark.parametrize("bad", [-1e-9, 1.0000001, np.nan, np.inf])
def test_positions_outside_the_unit_interval_are_refused(graphon: gt.Graphon, bad: float) -> None:
    with pytest.raises(gt.GraphonError, match=r"u: positions must lie in \[0, 1\], got .*; rescale the positions"):
        graphon([0.5, bad], 0.5)
    with pytest.raises(gt.GraphonError, match=r"v: positions must lie in \[0, 1\]"):
        graphon(0.5, [0.5, bad])


# --- transpose and equality -------------------------------------------------------------------------------------------


@every
def test_transpose_exchanges_the_arguments(graphon: gt.Graphon) -> None:
    np.testing.assert_allclose(graphon.T(UU, VV), graphon(VV, UU), rtol=1e-15)
    assert graphon == graphon.T.T
    np.testing.assert_array_equal(graphon.T.u_breaks, graphon.v_breaks)


def test_transpose_of_an_asymmetric_graphon_is_another_one() -> None:
    for graphon in (STEP, SMOOTH, KINKED, FUNCTION):
        assert graphon != graphon.T
        assert np.abs(graphon.T(UU, VV) - graphon(UU, VV)).max() > 0.1


def test_equality_means_one_function() -> None:
    big = np.arange(25.0).reshape(5, 5) / 25
    assert gt.StepGraphon(big) == gt.StepGraphon(big.copy())
    assert hash(gt.StepGraphon(big)) == hash(gt.StepGraphon(big.copy()))
    assert gt.StepGraphon(big) != gt.StepGraphon(big, u_edges=[0, 0.1, 0.2, 0.3, 0.4, 1])
    assert gt.StepGraphon(big) != gt.StepGraphon(big.T)
    assert gt.StepGraphon([[0.5, 0.25]]) != gt.StepGraphon([[0.5], [0.25]])
    assert gt.StepGraphon([[0.5, 0.5]]) == gt.StepGraphon([[0.5], [0.5]])  # both are 0.5 everywhere
    assert gt.ConstantGraphon(0.5) == gt.ConstantGraphon(0.5) != gt.ConstantGraphon(0.6)
    assert gt.ConstantGraphon(0.0) == gt.ConstantGraphon(-0.0)
    assert gt.AnalyticGraphon("v + u") == gt.AnalyticGraphon("u + v") != gt.AnalyticGraphon("u - v")
    first: Callable[..., Any] = lambda u, v: u  # noqa: E731
    second: Callable[..., Any] = lambda u, v: v  # noqa: E731
    assert gt.FunctionGraphon(first) == gt.FunctionGraphon(first) != gt.FunctionGraphon(second)
    assert gt.FunctionGraphon(first) != gt.FunctionGraphon(first, diagonal=True)
    assert gt.ConstantGraphon(0.5) != 0.5


# --- averages ---------------------------------------------------------------------------------------------------------


@every
def test_row_means_average_over_sending_cells(graphon: gt.Graphon) -> None:
    edges = np.array([0.0, 0.13, 0.5, 0.81, 1.0])
    u = np.array([0.02, 0.31, 0.5, 0.97])
    means = graphon.row_means(u, edges)
    assert means.shape == (4, 4)
    n = 4000
    s = (np.arange(n) + 0.5) / n
    for j in range(4):
        v = edges[j] + (edges[j + 1] - edges[j]) * s
        np.testing.assert_allclose(means[:, j], graphon(u[:, None], v).mean(axis=1), rtol=0, atol=3e-4)


@every_quick
def test_cell_means_average_over_rectangles(graphon: gt.Graphon) -> None:
    u_edges, v_edges = np.array([0.0, 0.25, 0.7, 1.0]), np.array([0.1, 0.55, 0.9])
    means = graphon.cell_means(u_edges, v_edges)
    assert means.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            rough = brute_mean(graphon, u_edges[i], u_edges[i + 1], v_edges[j], v_edges[j + 1])
            assert means[i, j] == pytest.approx(rough, abs=2e-3)
    np.testing.assert_allclose(graphon.T.cell_means(v_edges, u_edges), means.T, rtol=1e-14, atol=1e-15)


def test_step_averages_are_exact() -> None:
    """Cells across blocks: overlaps times values, by fractions."""
    u = [Fraction(str(e)) for e in U_EDGES]
    v = [Fraction(str(e)) for e in V_EDGES]
    cells = [Fraction(0), Fraction(1, 10), Fraction(2, 5), Fraction(9, 10), Fraction(1)]

    def shares(blocks: list[Fraction]) -> list[list[Fraction]]:
        return [
            [max(Fraction(0), min(b, d) - max(a, c)) / (b - a) for c, d in pairwise(blocks)] for a, b in pairwise(cells)
        ]

    table = [[Fraction(str(x)) for x in row] for row in VALUES]
    wanted = [
        [sum(p * q * table[i][j] for i, p in enumerate(row) for j, q in enumerate(column)) for column in shares(v)]
        for row in shares(u)
    ]
    edges = [float(c) for c in cells]
    np.testing.assert_allclose(STEP.cell_means(edges, edges), np.array(wanted, dtype=float), rtol=2e-15)
    assert STEP.mean() == pytest.approx(np.diff(U_EDGES) @ VALUES @ np.diff(V_EDGES), rel=1e-15)


def exact_cells(graphon: sp.Expr, n: int) -> FloatArray:
    """Cell averages by symbolic integration."""
    u, v = sp.symbols("u v", real=True)
    out = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            inner = sp.integrate(graphon, (v, sp.Rational(j, n), sp.Rational(j + 1, n)))
            out[i, j] = float(n * n * sp.integrate(inner, (u, sp.Rational(i, n), sp.Rational(i + 1, n))))
    return out


def test_to_step_of_the_minimum_is_cell_averages_not_samples() -> None:
    """min(u, v) off the diagonal averages like a sample; on it, it is h/6 below the middle of the cell."""
    n = 4
    step = gt.AnalyticGraphon("Min(u, v)").to_step(n)
    u, v = sp.symbols("u v", real=True)
    exact = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            ((a, b), (c, d)) = ((sp.Rational(k, n), sp.Rational(k + 1, n)) for k in (i, j))
            if i != j:
                exact[i, j] = n * n * sp.integrate(u if i < j else v, (u, a, b), (v, c, d))
            else:
                exact[i, j] = n * n * 2 * sp.integrate(sp.integrate(u, (u, a, v)), (v, a, b))
    assert isinstance(step, gt.StepGraphon)
    np.testing.assert_allclose(step.values, exact, rtol=0, atol=5e-16)
    middles = (np.arange(n) + 0.5) / n
    samples = np.minimum(middles[:, None], middles)
    np.testing.assert_allclose(samples - step.values, np.eye(n) / (6 * n), rtol=0, atol=5e-16)


def test_to_step_of_a_smooth_asymmetric_graphon() -> None:
    u, v = sp.symbols("u v", real=True)
    exact = exact_cells((1 + u) * sp.exp(-2 * v) / 3 + u**2 * v / 4, 3)
    np.testing.assert_allclose(SMOOTH.to_step(3).values, exact, rtol=1e-15)
    np.testing.assert_allclose(FUNCTION.to_step(3).values, exact, rtol=1e-15)
    assert np.abs(exact - exact.T).max() > 0.1


MEANS = {
    "Min(u, v)": sp.Rational(1, 3),
    "Abs(u - v)": sp.Rational(1, 3),
    "Heaviside(u - v)": sp.Rational(1, 2),
    "sqrt(Abs(u - v))": sp.Rational(8, 15),
    "Max(0, u + v - 1)": sp.Rational(1, 6),
    "sqrt(u)*v": sp.Rational(1, 3),
    "Piecewise((1, (u - 1/2)**2 + (v - 1/2)**2 < 1/8), (0, True))": sp.pi / 8,
    "Piecewise((1, (u - v)**2 < 1/1000000), (1/10, True))": sp.Rational(1, 10) + sp.Rational(17991, 10**7),
    "exp(-50*Abs(u - v))": 2 * (49 + sp.exp(-50)) / 2500,
    "Heaviside(u - 1/3)*v + Piecewise((u, v < 1/7), (0, True))": sp.Rational(1, 3) + sp.Rational(1, 14),
}


@pytest.mark.parametrize("expression", MEANS)
def test_mean_is_the_double_integral(expression: str) -> None:
    assert gt.AnalyticGraphon(expression).mean() == pytest.approx(float(MEANS[expression]), rel=2e-15)


@every
def test_degrees_integrate_one_axis_out(graphon: gt.Graphon) -> None:
    received, sent = graphon.degrees(axis=1), graphon.degrees(axis=0)
    points = np.array([[0.05, 0.4], [0.66, 0.98]])
    assert received(points).shape == (2, 2)
    s = (np.arange(4000) + 0.5) / 4000
    np.testing.assert_allclose(received(points), graphon(points[..., None], s).mean(axis=-1), rtol=0, atol=3e-4)
    np.testing.assert_allclose(sent(points), graphon(s, points[..., None]).mean(axis=-1), rtol=0, atol=3e-4)
    assert received(0.4) == pytest.approx(float(received(points)[0, 1]), rel=1e-15)


def test_degrees_of_an_asymmetric_step_graphon_are_exact() -> None:
    np.testing.assert_allclose(STEP.degrees(1)([0.1, 0.4, 0.9]), VALUES @ np.diff(V_EDGES), rtol=1e-15)
    np.testing.assert_allclose(STEP.degrees(0)([0.1, 0.55, 0.9]), np.diff(U_EDGES) @ VALUES, rtol=1e-15)


@every_quick
def test_averaged_rows_average_row_integrals_over_receiving_cells(graphon: gt.Graphon) -> None:
    """(A g) over a cell, for g in the panels' spaces, against many rows of the operator itself."""
    panels = Panels(
        np.array([0.0, 0.4, 0.8]), np.array([0.4, 0.8, 1.0]), np.array([4, 3, 5]), np.array([0, LEFT, RIGHT])
    )
    u_edges = np.array([0.0, 0.35, 0.5, 1.0])
    got = graphon.averaged_rows(u_edges, panels)
    assert got.shape == (3, 12)
    n = 200
    s = (np.arange(n) + 0.5) / n
    for i in range(3):
        rows = graphon.row_integrals(u_edges[i] + (u_edges[i + 1] - u_edges[i]) * s, panels)
        np.testing.assert_allclose(got[i], rows.mean(axis=0), rtol=0, atol=5e-4)
    np.testing.assert_allclose(got.sum(axis=1), graphon.cell_means(u_edges, [0, 1])[:, 0], rtol=0, atol=1e-14)


def test_row_integrals_split_curves_that_bend() -> None:
    """Min(u, 2v)/2 + Heaviside(v - u^2)/4: pieces end at v = u/2 and v = u^2."""
    u = np.array([0.0, 0.2, 0.6, 0.9, 1.0])
    panels = Panels(np.array([0.0, 0.5]), np.array([0.5, 1.0]), np.array([5, 3]), np.array([PLAIN, PLAIN]))
    matrix = KINKED.row_integrals(u, panels)
    for degree in range(3):
        p = degree + 1
        exact = (u / 2) ** (p + 1) / (p + 1) + u / 2 * (1 - (u / 2) ** p) / p + (1 - u ** (2 * p)) / p / 4
        np.testing.assert_allclose(matrix @ panels.nodes() ** degree, exact, rtol=0, atol=2e-16)


def test_breaks_of_an_expression_are_found_not_declared() -> None:
    graphon = gt.AnalyticGraphon("Heaviside(u - 1/3) + Abs(v**2 - 1/4) + sqrt(Abs(sin(7*u))) + Min(u, v)")
    np.testing.assert_allclose(graphon.u_breaks, [0, 1 / 3, np.pi / 7, 2 * np.pi / 7, 1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(graphon.v_breaks, [0, 0.5, 1], rtol=0, atol=1e-16)
    roots = graphon.v_roots(np.array([0.25, 0.75]))
    np.testing.assert_allclose(roots[:, 0], [0.25, 0.75], rtol=1e-15)
    assert gt.AnalyticGraphon("0.25").constant_in_u
    assert gt.AnalyticGraphon("exp(-u)").constant_in_v
    assert not gt.AnalyticGraphon("exp(-u)").constant_in_u


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("v_edges", lambda edges: SMOOTH.row_means([0.5], edges)),
        ("u_edges", lambda edges: SMOOTH.averaged_rows(edges, Panels.constant(np.array([0.0, 1.0])))),
        ("u_edges", lambda edges: STEP.cell_means(edges, [0, 1])),
        ("v_edges", lambda edges: STEP.cell_means([0, 1], edges)),
    ],
)
@pytest.mark.parametrize("edges", [[0, 0.5, 0.4, 1], [0, 1.5], [-0.1, 1], [0.5], [0, np.nan, 1], [[0, 1]], ["a", "b"]])
def test_cells_must_be_increasing_within_the_unit_interval(
    name: str, call: Callable[..., object], edges: object
) -> None:
    with pytest.raises(gt.GraphonError, match=f"{name}: expected"):
        call(edges)


@pytest.mark.parametrize("axis", [2, -1, None, "u"])
def test_degrees_name_their_axis(axis: Any) -> None:
    with pytest.raises(gt.GraphonError, match=r"axis: expected 1 \(integrate over v\) or 0"):
        STEP.degrees(axis)


@pytest.mark.parametrize("n", [0, -3, 2.0, "4", True, None])
def test_to_step_wants_a_number_of_blocks(n: Any) -> None:
    with pytest.raises(gt.GraphonError, match="n: expected a positive number of blocks, got"):
        STEP.to_step(n)


# --- properties -------------------------------------------------------------------------------------------------------

reals = st.floats(-1e3, 1e3)
sizes = st.integers(1, 5)


@st.composite
def steps(draw: st.DrawFn) -> gt.StepGraphon:
    rows, columns = draw(sizes), draw(sizes)
    values = draw(st.lists(reals, min_size=rows * columns, max_size=rows * columns))

    def edges(n: int) -> list[float]:
        inner = draw(st.lists(st.floats(0.001, 0.999), min_size=n - 1, max_size=n - 1, unique=True))
        return [0.0, *sorted(inner), 1.0]

    return gt.StepGraphon(np.reshape(values, (rows, columns)), edges(rows), edges(columns))


@given(steps())
@settings(max_examples=60, deadline=None)
def test_step_averages_refine_consistently(graphon: gt.StepGraphon) -> None:
    """Averages over the own blocks are the values; averages of averages are averages; the transpose commutes."""
    tolerance = 1e-12 * max(1.0, float(np.abs(graphon.values).max()))
    own = graphon.cell_means(graphon.u_edges, graphon.v_edges)
    np.testing.assert_allclose(own, graphon.values, rtol=0, atol=tolerance)
    fine = graphon.to_step(6).values
    np.testing.assert_allclose(
        graphon.to_step(3).values, fine.reshape(3, 2, 3, 2).mean(axis=(1, 3)), rtol=0, atol=tolerance
    )
    np.testing.assert_allclose(graphon.T.to_step(6).values, fine.T, rtol=0, atol=tolerance)
    assert graphon.mean() == pytest.approx(fine.mean(), abs=tolerance)
    assert graphon.extremes() == (graphon.values.min(), graphon.values.max())
