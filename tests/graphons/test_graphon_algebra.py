"""Sums, differences and products of graphons: the values are those, and so are kinds, breaks and means."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.errors import GraphonError

STEP = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 1])
FINE = gt.StepGraphon([[0.1, 0.5, 0.25]], v_edges=[0, 0.2, 0.5, 1])
MIN = gt.AnalyticGraphon("min(u, v)")
SMOOTH = gt.AnalyticGraphon("exp(-3*(u - v)**2)*(1 - u/2)")


def wave(u: Any, v: Any) -> Any:
    return np.where(u < 0.4, np.cos(u - 2 * v) ** 2, v / 2)


CALLED = gt.FunctionGraphon(wave, u_edges=(0, 0.4, 1))
KINDS = {
    "constant": gt.ConstantGraphon(0.3),
    "step": STEP,
    "fine": FINE,
    "kink": MIN,
    "smooth": SMOOTH,
    "called": CALLED,
}
SIGNS: tuple[Callable[[Any, Any], Any], ...] = (operator.add, operator.sub, operator.mul)
AT = np.random.default_rng(0).random((2, 400))
NUMBERS = (0.25, 2, np.float64(0.5), np.float32(0.5), np.int64(3), Fraction(1, 4))


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_values_breaks_and_transposes_of_pairs(one: str, other: str) -> None:
    a, b = KINDS[one], KINDS[other]
    for sign in SIGNS:
        made = sign(a, b)
        np.testing.assert_allclose(made(*AT), sign(a(*AT), b(*AT)), rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(made.T(*AT), made(AT[1], AT[0]), rtol=1e-14, atol=1e-15)
        if one != other:  # W - W and the like are simplified
            assert set(made.u_breaks) >= {*a.u_breaks, *b.u_breaks} - {0.5}
            assert set(made.v_breaks) >= {*a.v_breaks, *b.v_breaks} - {0.5}
        again = pickle.loads(pickle.dumps(made))
        assert again == made
        assert hash(again) == hash(made)
        assert copy.deepcopy(made) is made


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda one: type(one).__name__)
def test_numbers_on_either_side(name: str, number: Any) -> None:
    graphon, value = KINDS[name], float(number)
    for sign in SIGNS:
        np.testing.assert_allclose(sign(graphon, number)(*AT), sign(graphon(*AT), value), rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(sign(number, graphon)(*AT), sign(value, graphon(*AT)), rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal((-graphon)(*AT), -graphon(*AT))


def test_steps_stay_steps_on_the_edges_of_both() -> None:
    made = STEP * FINE + 0.5
    assert isinstance(made, gt.StepGraphon)
    np.testing.assert_array_equal(made.u_edges, [0, 0.3, 1])
    np.testing.assert_array_equal(made.v_edges, [0, 0.2, 0.5, 1])
    wanted = np.array([[0.9 * 0.1, 0.9 * 0.5, 0.1 * 0.25], [0.2 * 0.1, 0.2 * 0.5, 0.6 * 0.25]]) + 0.5
    np.testing.assert_array_equal(made.values, wanted)
    assert made.mean() == pytest.approx(float(np.diff(made.u_edges) @ wanted @ np.diff(made.v_edges)), abs=1e-15)
    assert isinstance(0.5 * gt.ConstantGraphon(0.3), gt.ConstantGraphon)
    assert gt.Network([made * 0.5]) == gt.Network.from_toml(gt.Network([made * 0.5]).to_toml())
    assert 2 * STEP == STEP + STEP == STEP * 2
    assert 1 - (1 - gt.StepGraphon([[0.5, 0.25]])) == gt.StepGraphon([[0.5, 0.25]])


def test_formulas_stay_formulas() -> None:
    assert 0.5 * MIN + 0.1 == gt.AnalyticGraphon("0.5*min(u, v) + 0.1") == 0.1 + MIN * 0.5
    made = 0.5 * MIN + 0.25 * (1 - SMOOTH)
    assert isinstance(made, gt.AnalyticGraphon)
    assert len(made.switches) == 1  # the diagonal kink
    assert gt.Network.from_toml(gt.Network([made]).to_toml()) == gt.Network([made])
    assert isinstance(MIN * gt.ConstantGraphon(0.5), gt.AnalyticGraphon)
    assert gt.ConstantGraphon(0.0) == MIN - MIN


def test_what_is_no_more_than_a_limit_of_size_is_still_a_graphon() -> None:
    long = gt.AnalyticGraphon(" + ".join(f"u**{k}*v/{k + 1}" for k in range(1, 60)))
    made: gt.Graphon = long
    for _ in range(40):
        made = made * gt.AnalyticGraphon("sin(u*v + 1)") + long * long
    np.testing.assert_allclose((made + 1)(*AT), made(*AT) + 1, rtol=1e-14)


def test_means_of_mixtures_are_exact() -> None:
    made = STEP * MIN  # int of min(u, v) over [a, b] x [c, d], by its parts

    def integral(a: float, b: float, c: float, d: float) -> float:
        def whole(x: float, y: float) -> float:  # over [0, x] x [0, y]
            low, high = min(x, y), max(x, y)
            return low**2 * high / 2 - low**3 / 6

        return whole(b, d) - whole(a, d) - whole(b, c) + whole(a, c)

    wanted = 0.9 * integral(0, 0.3, 0, 0.5) + 0.1 * integral(0, 0.3, 0.5, 1)
    wanted += 0.2 * integral(0.3, 1, 0, 0.5) + 0.6 * integral(0.3, 1, 0.5, 1)
    assert made.mean() == pytest.approx(wanted, rel=1e-14)
    assert (CALLED + STEP).mean() == pytest.approx(CALLED.mean() + STEP.mean(), rel=1e-13)
    assert float((STEP + MIN).degrees(1)(0.2)) == pytest.approx(0.5 * 0.9 + 0.5 * 0.1 + 0.2 - 0.02, rel=1e-14)


def test_kernels_of_mixtures_are_those_of_formulas() -> None:
    x = np.random.default_rng(1).standard_normal((3, 4))
    mixed = gt.FunctionGraphon(lambda u, v: 0.4 * v + 0.0 * u) + MIN * 0.5
    formula = gt.AnalyticGraphon("0.4*v + 0.5*min(u, v)")
    one, other = (gt.limit_kernel(gt.Network([1.0, w, 1.0], bias_variance=0.1), x).ntk for w in (mixed, formula))
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("wrong", [np.ones(3), "u", None, True, 1j, [0.5]])
def test_other_things_are_not_combined(wrong: Any) -> None:
    for sign in SIGNS:
        with pytest.raises(TypeError):
            sign(STEP, wrong)
        with pytest.raises(TypeError):
            sign(wrong, STEP)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(GraphonError, match="expected a finite number"):
        STEP * np.inf
    with pytest.raises(GraphonError, match="expected finite numbers"):
        (STEP * 1e200) * (STEP * 1e200)
    with pytest.raises(GraphonError, match="must be finite"):
        ((CALLED + 1) * 1e200 * (CALLED + 1) * 1e200)(0.2, 0.1)
