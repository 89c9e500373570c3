"""Expressions whose values are numbers where steps on the way overflow: against mpmath, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.numerics import expressions
from graphon_theory.numerics.wide_numbers import Wide, add, multiply, whole_power

PLACES = np.array([-1e6, -1024.0, -800.0, -37.0, -1.0, 0.0, 3.0, 40.0, 720.0, 1024.0, 1e6])
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "z/(1 + exp(-z))": lambda z: z / (1 + mp.exp(-z)),
    "z*1/(1 + exp(-z))": lambda z: z / (1 + mp.exp(-z)),
    "log(1 + exp(z))": lambda z: mp.log(1 + mp.exp(z)),
    "2*log(1 + exp(2*z - 1)) - 1": lambda z: 2 * mp.log(1 + mp.exp(2 * z - 1)) - 1,
    "(exp(z) - exp(-z))/(exp(z) + exp(-z))": mp.tanh,
    "log(cosh(z))": lambda z: mp.log(mp.cosh(z)),
    "sinh(z)/cosh(z)": mp.tanh,
    "z*tanh(log(1 + exp(z)))": lambda z: z * mp.tanh(mp.log(1 + mp.exp(z))),
    "exp(z)**1.5/(1 + exp(z)**1.5)": lambda z: 1 / (1 + mp.exp(-1.5 * z)),
    "exp(z)/sqrt(1 + exp(2*z))": lambda z: mp.exp(z) / mp.sqrt(1 + mp.exp(2 * z)),
    "Piecewise((exp(z)/(1 + exp(z)), z > -5), (0.0, True))": lambda z: 1 / (1 + mp.exp(-z)) if z > -5 else mp.mpf(0),
}


@pytest.mark.parametrize("text", FUNCTIONS)
def test_what_overflows_on_the_way_is_what_it_is(text: str) -> None:
    phi = gt.Activation(text)
    with mp.workdps(40):
        want = [FUNCTIONS[text](mp.mpf(float(z))) for z in PLACES]
        slope = [mp.diff(FUNCTIONS[text], mp.mpf(float(z)) + mp.mpf(10) ** -25) for z in PLACES]
    np.testing.assert_allclose(phi(PLACES), np.array(want, dtype=float), rtol=1e-15, atol=1e-14)
    np.testing.assert_allclose(phi.derivative(PLACES), np.array(slope, dtype=float), rtol=1e-14, atol=1e-14)


def test_what_is_infinite_stays_so() -> None:
    for text in ("exp(z)", "1/(z - 1000)", "log(z - 1000)"):
        expr = expressions.parse(text, ("z",))
        assert not np.isfinite(expressions.evaluate(expr, {"z": np.array([1000.0])}))[0]


def test_shapes_are_those_of_the_values() -> None:
    """One position in a row, the other in a column, and an expression of one of them."""
    u, v = np.array([[0.1], [0.9]]), np.array([0.2, 0.4, 0.8])
    expr = expressions.parse("exp(2000*u)/(1 + exp(2000*u))", ("u", "v"))
    np.testing.assert_array_equal(expressions.evaluate(expr, {"u": u, "v": v}) + 0 * v, np.ones((2, 3)))
    assert float(expressions.evaluate(expr, {"u": 0.9, "v": 0.1})) == 1.0


def test_arithmetic_of_wide_numbers() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50)) * 10.0 ** rng.integers(-200, 200, (2, 50))
    b[:3] = 0.0
    np.testing.assert_array_equal(add(Wide.of(a), Wide.of(b)).plain, a + b)
    np.testing.assert_allclose(multiply(whole_power(Wide.of(a), 7), whole_power(Wide.of(a), -6)).plain, a, rtol=4e-15)
    assert not multiply(Wide.of(a), Wide.of(0 * b)).plain.any()


@pytest.mark.parametrize("k", [30.0, 3_000.0, 30_000.0])
def test_steep_edges_are_written_as_they_are_meant(k: float) -> None:
    """1 / (1 + exp(k (u - c))): SymPy alone splits exp(-k c) off, which is no number from k = 1,000 on."""
    graphon = gt.AnalyticGraphon(f"1/(1 + exp({k}*(u - 0.777)))")
    assert gt.AnalyticGraphon(repr(graphon).split("'")[1]) == graphon
    want = 1 - (np.logaddexp(0, k * 0.223) - np.logaddexp(0, -k * 0.777)) / k
    assert float(graphon.mean()) == pytest.approx(want, rel=1e-13)
    x = np.array([[1.0, 2.0], [0.5, -1.0]])
    found = gt.limit_kernel(gt.Network([graphon, 1.0], "identity", weight_variance=1.0), x)
    error = np.abs(found.nngp.values - want * x @ x.T / 2).max()
    assert error <= found.attrs["quadrature_error"] * 2.5 <= 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "name"),
    [("z/(1 + exp(-z))", "silu"), ("log(1 + exp(z))", "softplus"), ("1/(1 + exp(-z))", "sigmoid")],
)
def test_text_forms_of_named_activations_take_any_input(text: str, name: str) -> None:
    """One input of size 1e6 among ordinary ones: the kernel of the named one, to rounding."""
    x = np.array([[1.0, 0.5], [0.3, -0.2], [1e6, 0.0]])
    found, wanted = (
        gt.limit_kernel(gt.Network([1.0, 1.0, 1.0], one, 1.5, 0.1), x).ntk.values for one in (gt.Activation(text), name)
    )
    np.testing.assert_allclose(found, wanted, rtol=2e-12)
