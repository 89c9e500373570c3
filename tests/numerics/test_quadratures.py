"""Quadrature rules: exact to what they state and not beyond, on panels anywhere, split where the integrand breaks."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import QuadratureError
from graphon_theory.numerics.quadratures import (
    LEFT,
    PLAIN,
    RIGHT,
    Panels,
    gauss,
    lagrange,
    legendre_transform,
    local,
    place,
    product_integrals,
)
from graphon_theory.numerics.roots import roots_on_unit, transposed

KINDS = {"plain": PLAIN, "left": LEFT, "right": RIGHT}
NONE = np.zeros((1, 0))
ENDS = np.array([0.0, 1.0])


def panels(*rows: tuple[float, float, int, int]) -> Panels:
    a, b, m, kind = zip(*rows, strict=True)
    return Panels(np.array(a), np.array(b), np.array(m, dtype=np.intp), np.array(kind, dtype=np.intp))


# --- Gauss-Legendre and its bases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3, 6, 10, 16, 34])
def test_gauss_is_exact_to_degree_2m_minus_1_and_not_beyond(m: int) -> None:
    s, w = gauss(m)
    for degree in range(2 * m):
        assert w @ s**degree == pytest.approx(1 / (degree + 1), rel=1e-14)
    # int s^2m exceeds the rule by (m!)^4 / ((2m + 1) (2m)!^2)
    miss = math.factorial(m) ** 4 / ((2 * m + 1) * math.factorial(2 * m) ** 2)
    if miss > 1e-13:
        assert 1 / (2 * m + 1) - w @ s ** (2 * m) == pytest.approx(miss, rel=1e-2)


@pytest.mark.parametrize("m", [1, 2, 5, 12])
def test_lagrange_basis_reproduces_polynomials_and_strikes_its_nodes(m: int) -> None:
    s, _ = gauss(m)
    np.testing.assert_array_equal(lagrange(m, s), np.eye(m))
    points = np.array([[0.0, 1e-300, 0.123], [0.5, 1.0, s[0] + 1e-15]])
    assert lagrange(m, points).shape == (2, 3, m)
    for degree in range(m):
        np.testing.assert_allclose(lagrange(m, points) @ s**degree, points**degree, rtol=0, atol=1e-13)
    assert np.abs(lagrange(m, points) @ s**m - points**m).max() > 1e-9 / 4**m  # one degree more is not reproduced


def test_legendre_transform_gives_orthonormal_coefficients() -> None:
    s, _ = gauss(6)
    series = np.polynomial.Legendre([1.0, -2.0, 0.5, 0.0, 3.0, -0.25], domain=[0, 1])
    got = legendre_transform(6) @ series(s)
    np.testing.assert_allclose(got, series.coef / np.sqrt(2 * np.arange(6) + 1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_maps_keep_their_ends_and_invert(kind: int) -> None:
    a, b = 0.3, 0.55
    s = np.array([0.0, 1e-9, 0.2, 0.5, 0.9, 1.0])
    v = place(s, a, b, kind)
    assert v[0] == a
    assert v[-1] == b
    assert (np.diff(v) >= 0).all()
    back = local(v, np.full(6, a), np.full(6, b), kind)
    # near the end of the square-root map positions that differ by 1e-18 are one number
    np.testing.assert_allclose(back, s, rtol=0, atol=1e-14 if kind == PLAIN else 3e-8)


# --- panels as a rule -------------------------------------------------------------------------------------------------


def test_panels_integrate_their_own_spaces_and_no_more() -> None:
    """Plain: polynomials of degree 2m - 1; mapped: of degree 2m - 2 in the root of the distance from the end."""
    rule = panels((0.0, 0.3, 4, PLAIN), (0.3, 0.55, 5, LEFT), (0.55, 1.0, 6, RIGHT))
    v, w = rule.nodes(), rule.weights()
    assert rule.size == len(v) == len(w) == 15
    np.testing.assert_array_equal(rule.offsets, [0, 4, 9, 15])
    plain, left, right = (slice(0, 4), slice(4, 9), slice(9, 15))

    assert w[plain] @ v[plain] ** 7 == pytest.approx(0.3**8 / 8, rel=1e-14)
    assert abs(w[plain] @ v[plain] ** 8 / (0.3**9 / 9) - 1) > 1e-5

    for part, end, length, size in ((left, 0.3, 0.25, 5), (right, 1.0, 0.45, 6)):
        for power in range(2 * size):
            exact = length ** (1 + power / 2) / (1 + power / 2)
            error = abs(w[part] @ np.abs(v[part] - end) ** (power / 2) / exact - 1)
            assert error < 1e-14 if power < 2 * size - 1 else error > 1e-8
    assert abs(w[plain] @ np.sqrt(v[plain]) / (0.3**1.5 / 1.5) - 1) > 1e-4  # the plain panel knows no square roots


def test_constant_panels_are_the_block_rule() -> None:
    edges = np.array([0.0, 0.2, 0.7, 1.0])
    rule = Panels.constant(edges)
    np.testing.assert_allclose(rule.nodes(), [0.1, 0.45, 0.85], rtol=1e-15)
    np.testing.assert_allclose(rule.weights(), np.diff(edges), rtol=1e-15)


# --- product integration ----------------------------------------------------------------------------------------------


def integrals(
    f: object, rule: Panels, breaks: FloatArray = ENDS, roots: FloatArray = NONE, *, constant: bool = False
) -> FloatArray:
    assert callable(f)
    return product_integrals(lambda row, v: f(v) + 0.0 * row, len(roots), rule, breaks, roots, constant=constant)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("m", [1, 2, 5, 8])
def test_product_integrals_of_one_are_the_weights(m: int, kind: int) -> None:
    rule = panels((0.0, 0.4, m, kind), (0.4, 1.0, m + 1, PLAIN))
    for constant in (True, False):
        np.testing.assert_allclose(
            integrals(np.ones_like, rule, constant=constant)[0], rule.weights(), rtol=0, atol=5e-16
        )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_product_integrals_are_exact_on_the_basis(kind: int) -> None:
    """int f g for g in the panel's space and any smooth f, against mpmath."""
    a, b, m = 0.25, 0.7, 5
    rule = panels((0.0, a, 2, PLAIN), (a, b, m, kind), (b, 1.0, 3, PLAIN))
    s, _ = gauss(m)
    matrix = integrals(lambda v: np.exp(-3 * v) * np.cos(20 * v), rule)[0, 2:7]
    mp = mpmath.MPContext()
    mp.dps = 25
    for degree in range(m):

        def integrand(t: mpmath.mpf, degree: int = degree) -> mpmath.mpf:
            v, slope = {
                PLAIN: (a + (b - a) * t, 1),
                LEFT: (a + (b - a) * t**2, 2 * t),
                RIGHT: (b - (b - a) * (1 - t) ** 2, 2 * (1 - t)),
            }[kind]
            return mp.exp(-3 * v) * mp.cos(20 * v) * (t - mp.mpf("0.3")) ** degree * slope * (mp.mpf(b) - a)

        exact = mp.quad(integrand, [0, 0.5, 1])
        assert matrix @ (s - 0.3) ** degree == pytest.approx(float(exact), abs=1e-16)


def test_rule_for_constants_is_exact_for_constants_and_not_for_lines() -> None:
    """``constant=True`` uses just enough points: exact for a function constant between its breaks, wrong for others."""
    for m in (1, 3, 5):  # odd: the rule has (m + 1) / 2 points, degree m in all, of which the basis takes m - 1
        rule = panels((0.0, 0.6, m, PLAIN), (0.6, 1.0, m, LEFT))
        breaks = np.array([0.0, 0.25, 0.8, 1.0])

        def steps(v: FloatArray) -> FloatArray:
            return np.where(v < 0.25, 2.0, np.where(v < 0.8, -1.0, 0.5))

        adaptive = integrals(steps, rule, breaks)
        np.testing.assert_allclose(integrals(steps, rule, breaks, constant=True), adaptive, rtol=0, atol=3e-16)

        def parabola(v: FloatArray) -> FloatArray:
            return v * v

        wrong = np.abs(integrals(parabola, rule, constant=True) - integrals(parabola, rule)).max()
        assert wrong > 1e-5


def test_diagonal_is_split_row_by_row() -> None:
    """A[i] g = int |u_i - v| g(v) dv for polynomials g, each row with a kink of its own inside a panel."""
    u: FloatArray = np.array([0.0, 0.1, 0.37, 0.5, 0.77, 1.0])
    rule = panels((0.0, 0.5, 6, PLAIN), (0.5, 1.0, 4, PLAIN))
    matrix = product_integrals(
        lambda row, v: np.maximum(u[row] - v, v - u[row]), len(u), rule, ENDS, u[:, None], constant=False
    )
    for degree in range(4):
        p = degree + 1
        exact = 2 * u ** (p + 1) / (p * (p + 1)) + 1 / (p + 1) - u / p
        np.testing.assert_allclose(matrix @ rule.nodes() ** degree, exact, rtol=0, atol=2e-16)
    jump = product_integrals(
        lambda row, v: np.heaviside(v - u[row], 0.5), len(u), rule, ENDS, u[:, None], constant=True
    )
    unit = np.finfo(float).eps  # of each integral: NumPy's weights differ in their last digits from release to release
    for degree in range(4):
        sums = [math.fsum(row) for row in jump * rule.nodes() ** degree]
        np.testing.assert_allclose(sums, (1 - u ** (degree + 1)) / (degree + 1), rtol=unit)


def test_undeclared_breaks_are_found_by_bisection() -> None:
    """A jump, a kink and a root at places nobody named: to rounding all the same, only slower."""
    where = 1 / np.pi
    rule = panels((0.0, 0.55, 7, PLAIN), (0.55, 1.0, 3, PLAIN))
    g = rule.nodes()
    mp = mpmath.MPContext()
    root = float(mp.quad(lambda v: mp.sqrt(abs(v - where)) * v * v, [0, where, 1]))
    for f, exact in (
        (lambda v: (v < where) * 1.0, where**3 / 3),
        (lambda v: np.abs(v - where), where**4 / 6 + 1 / 4 - where / 3),
        (lambda v: np.sqrt(np.abs(v - where)), root),
    ):
        got = float((integrals(f, rule) @ g**2)[0])
        assert got == pytest.approx(exact, abs=2e-15)


def test_rows_do_not_mix() -> None:
    """Each row has its function, its breaks and its scale: a large row must not spoil a small one."""
    scales: FloatArray = np.array([1e12, 1.0, 1e-12])
    rule = panels((0.0, 1.0, 4, PLAIN))
    matrix = product_integrals(lambda row, v: scales[row] * np.exp(row * v), 3, rule, ENDS, np.zeros((3, 0)))
    wanted = scales * np.array([1.0, math.e - 1, (math.e**2 - 1) / 2])
    np.testing.assert_allclose(matrix.sum(axis=1), wanted, rtol=1e-15)


def test_many_breaks_cost_no_cube_of_memory() -> None:
    """A step function of 1,500 blocks on as many panels and rows: a table over all three would hold 27 GB."""
    n = 1_500
    edges = np.linspace(0.0, 1.0, n + 1)
    rng = np.random.default_rng(0)
    values = rng.random(n)

    def steps(row: object, v: FloatArray) -> FloatArray:
        return values[np.clip(np.searchsorted(edges, v, side="right") - 1, 0, n - 1)]

    got = product_integrals(steps, 400, Panels.constant(edges), edges, np.zeros((400, 0)), constant=True)
    np.testing.assert_allclose(got, np.broadcast_to(values / n, (400, n)), rtol=1e-12)


UNRESOLVED = {
    "pole": (lambda v: 1 / np.abs(v - 0.3), "0.3"),
    "integrable pole": (lambda v: np.abs(v - 0.3) ** -0.6, "0.3"),
    "pole at an end": (lambda v: 1 / v, "[0-9.e-]+"),
    "oscillation": (lambda v: 1e3 * np.sin(1e6 * v**2), "[0-9.]+"),
    "noise": (lambda v: np.sin(1e9 * np.sin(1e9 * v)), "[0-9.e-]+"),
}


@pytest.mark.parametrize("name", UNRESOLVED)
def test_what_cannot_be_resolved_is_refused_by_place(name: str) -> None:
    f, position = UNRESOLVED[name]
    with pytest.raises(QuadratureError, match=rf"spiky: the integral near position {position} .* Declare its breaks"):
        product_integrals(lambda row, v: f(v), 1, Panels.constant(ENDS), ENDS, NONE, what="spiky")


def test_a_logarithm_is_unbounded_but_settles() -> None:
    rule = panels((0.0, 1.0, 3, PLAIN))
    got = integrals(lambda v: np.log(np.abs(v - 0.3)), rule)[0].sum()
    assert got == pytest.approx(0.3 * math.log(0.3) + 0.7 * math.log(0.7) - 1, abs=1e-14)


# --- roots of switching functions -------------------------------------------------------------------------------------


def test_roots_are_found_to_rounding_for_every_row() -> None:
    x = np.array([0.0, 0.2, 0.5, 0.9])
    found = roots_on_unit(lambda x, y: (y - x) * (y - 1 + x / 3), x)
    assert found.shape == (4, 2)
    np.testing.assert_allclose(
        np.sort(found[1:], axis=1), np.sort([[0.2, 1 - 0.2 / 3], [0.5, 1 - 0.5 / 3], [0.9, 0.7]]), rtol=1e-15
    )
    np.testing.assert_allclose(found[3][np.isfinite(found[3])].max(), 0.9, rtol=2e-16)
    # a root on an end of [0, 1] splits nothing
    assert np.isnan(found[0]).all()
    assert roots_on_unit(lambda x, y: y + 1 + x, x).shape == (4, 0)


@given(st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=50)
def test_a_single_root_anywhere_is_found(where: float) -> None:
    found = roots_on_unit(lambda x, y: np.tanh(50 * (y - x)), np.array([where]))
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(where, abs=1e-15)


@pytest.mark.parametrize("half", [0.05, 1e-3, 1e-5, 1e-7])
def test_two_roots_may_lie_closer_than_the_grid(half: float) -> None:
    """A narrow band |x - y| < half: both of its edges, also in the first and the last cell of the grid."""
    x = np.array([1.5 * half, 0.0011, 0.3, 0.77, 0.9993, 1 - 1.5 * half])
    x = x[(x > half) & (x < 1 - half)]
    found = roots_on_unit(lambda x, y: (x - y) ** 2 - half**2, x)
    assert found.shape == (len(x), 2)
    np.testing.assert_allclose(found, x[:, None] + half * np.array([-1, 1]), rtol=0, atol=1e-15 + 1e-16 / half)
    assert roots_on_unit(lambda x, y: (x - y) ** 2 + half**2, x).shape == (len(x), 0)


def test_transposed_switch_exchanges_its_arguments() -> None:
    swapped = transposed(lambda u, v: u - 2 * v)
    assert swapped(np.array(1.0), np.array(5.0)) == 3.0
