"""Connectivity: (W, V, D) of a layer and what they owe each other (THEORY §2)."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt

MASK = gt.StepGraphon([[0.9, 0.0, 0.4], [0.2, 0.6, 0.1]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 0.6, 1])
VARIANCE = gt.StepGraphon(MASK.values * [[1.5], [0.7]], MASK.u_edges, MASK.v_edges)
DRIFT = gt.StepGraphon(MASK.values * [[0.5], [-2.0]], MASK.u_edges, MASK.v_edges)


# --- what is held -----------------------------------------------------------------------------------------------------


def test_three_graphons_are_held_as_given() -> None:
    layer = gt.Connectivity(MASK, VARIANCE, DRIFT)
    assert layer.mask is MASK
    assert layer.variance is VARIANCE
    assert layer.drift is DRIFT
    assert layer.has_drift


def test_variance_left_out_is_the_mask_and_drift_left_out_is_zero() -> None:
    layer = gt.Connectivity(MASK)
    assert layer.variance is layer.mask
    assert layer.drift == gt.ConstantGraphon(0.0)
    assert not layer.has_drift


def test_saying_the_defaults_is_the_same_as_leaving_them_out() -> None:
    same = gt.StepGraphon(MASK.values, MASK.u_edges, MASK.v_edges)
    said = gt.Connectivity(MASK, same, 0.0)
    assert said == gt.Connectivity(MASK)
    assert said.variance is said.mask
    assert repr(said) == repr(gt.Connectivity(MASK))


def test_a_zero_step_drift_is_no_drift() -> None:
    assert not gt.Connectivity(MASK, drift=[[0.0, 0.0]]).has_drift


@pytest.mark.parametrize("mask", [0.5, [[0.1, 0.9]], "exp(-u - v)", lambda u, v: u * v, gt.ConstantGraphon(1.0)])
def test_anything_as_graphon_takes_will_do(mask: Any) -> None:
    assert gt.Connectivity(mask).mask == gt.as_graphon(mask)
    assert gt.Connectivity(mask, mask).variance == gt.as_graphon(mask)


def test_equality_sees_values_edges_and_functions() -> None:
    big = np.arange(1.0, 26.0).reshape(5, 5) / 25
    assert gt.Connectivity(big) == gt.Connectivity(big.copy())
    assert hash(gt.Connectivity(big)) == hash(gt.Connectivity(big.copy()))
    assert gt.Connectivity(big) != gt.Connectivity(gt.StepGraphon(big, u_edges=[0, 0.1, 0.2, 0.3, 0.4, 1]))
    assert gt.Connectivity(lambda u, v: u) != gt.Connectivity(lambda u, v: v)
    assert gt.Connectivity(MASK) != gt.Connectivity(MASK, VARIANCE) != gt.Connectivity(MASK, VARIANCE, DRIFT)
    assert gt.Connectivity(0.5) != 0.5


def test_it_is_immutable_and_travels_between_processes() -> None:
    layer = gt.Connectivity(MASK, VARIANCE, DRIFT)
    for name in ("mask", "variance", "drift"):
        with pytest.raises(AttributeError):
            setattr(layer, name, MASK)
    again = pickle.loads(pickle.dumps(layer))
    assert again == layer
    assert not pickle.loads(pickle.dumps(gt.Connectivity(0.5))).has_drift


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(gt.Connectivity(0.5)) == "Connectivity(ConstantGraphon(0.5))"
    assert repr(gt.Connectivity(0.5, 0.7)) == "Connectivity(ConstantGraphon(0.5), variance=ConstantGraphon(0.7))"
    assert repr(gt.Connectivity(0.5, drift=-1)) == "Connectivity(ConstantGraphon(0.5), drift=ConstantGraphon(-1.0))"


# --- the mask is a density --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (1.2, r"\[1\.2, 1\.2\]"),
        (-0.1, r"\[-0\.1, -0\.1\]"),
        (1 + 1e-11, r"\[1\.00000000001, 1\.00000000001\]"),
        ([[0.5, 1.5]], r"\[0\.5, 1\.5\]"),
        ("u + v", r"\[.*, 1\.99.*\]"),
        ("Heaviside(u - 1/2) - Heaviside(v - 1/3)", r"\[-1, 1\]"),
        ("Piecewise((2, Abs(u - 0.3) < 0.01), (0.5, True))", r"\[0\.5, 2\]"),
        (lambda u, v: 3 * u, r"\[.*, 2\.99.*\]"),
    ],
)
def test_masks_outside_the_unit_interval_are_refused(mask: Any, found: str) -> None:
    message = (
        rf"mask: a density of connections must lie in \[0, 1\], got values in {found} from .*; rescale the graphon"
    )
    with pytest.raises(gt.ConnectivityError, match=message):
        gt.Connectivity(mask)
    with pytest.raises(gt.ConnectivityError, match=f"layers: layer 2: {message}"):
        gt.Network([1.0, mask])


@pytest.mark.parametrize(
    "mask",
    [
        float("nan"),
        [[0.5, np.nan]],
        lambda u, v: np.where(u < 0.2, np.nan, 0.5),
        "Piecewise((1, u > v), (sqrt(u - 1), True))",
    ],
)
def test_masks_with_nan_are_refused(mask: Any) -> None:
    with pytest.raises(gt.GraphonError, match=r"nan"):
        gt.Connectivity(mask)
    with pytest.raises(gt.GraphonError, match=r"^layers: layer 1: mask: .*nan"):
        gt.Network([mask])


def test_a_slack_of_rounding_is_allowed() -> None:
    for p in (1 + 5e-13, -5e-13):
        assert gt.Connectivity(p).mask == gt.ConstantGraphon(p)


def test_graphons_that_are_no_masks_may_leave_the_unit_interval() -> None:
    assert gt.ConstantGraphon(-7.0).mean() == -7.0
    layer = gt.Connectivity(0.5, 40.0, -3.0)
    assert layer.variance.mean() == 40.0


# --- the three agree --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [-0.1, [[0.5, -1e-9]], "u - 1/2", lambda u, v: u * v - 0.25])
def test_negative_second_moments_are_refused(variance: Any) -> None:
    with pytest.raises(
        gt.ConnectivityError, match=r"variance: a second moment cannot be negative, got -.* E\[m w\^2\]"
    ):
        gt.Connectivity(0.5, variance)


@pytest.mark.parametrize(
    "mask",
    [
        [[0.0, 0.5]],
        "Heaviside(u - 1/3)/2",
        # cells of the two that overlap in less than a tenth of either
        gt.StepGraphon([[1.0, 0.0, 1.0]], v_edges=[0, 0.48, 0.5, 1]),
    ],
)
def test_nothing_survives_where_no_connection_does(mask: Any) -> None:
    half = gt.StepGraphon([[1.0, 1.0]], v_edges=[0, 0.49, 1])
    with pytest.raises(
        gt.ConnectivityError, match=r"variance: .* is not zero where no connection survives \(mask = 0\)"
    ):
        gt.Connectivity(mask, half)
    with pytest.raises(
        gt.ConnectivityError, match=r"drift: .* where no connection survives .* multiply it by the mask"
    ):
        gt.Connectivity(mask, None, half)


@pytest.mark.parametrize(
    "variance",
    [0.0, [[0.0, 0.5]], "Heaviside(v - 1/3)", gt.StepGraphon([[1.0, 0.0, 1.0]], v_edges=[0, 0.48, 0.5, 1])],
)
def test_connections_that_survive_have_a_second_moment(variance: Any) -> None:
    half = gt.StepGraphon([[0.5, 0.6]], v_edges=[0, 0.49, 1])
    with pytest.raises(
        gt.ConnectivityError, match=r"variance: .* is zero where connections survive .* as at u=.*, v=.*;"
    ):
        gt.Connectivity(half, variance)


def test_the_place_of_a_contradiction_is_named() -> None:
    with pytest.raises(gt.ConnectivityError, match=r"as at u=0\.9, v=0\.3; multiply it by the mask's support"):
        gt.Connectivity(
            gt.StepGraphon([[0.5, 0.5], [0.0, 0.5]], [0, 0.8, 1], [0, 0.6, 1]),
            gt.StepGraphon([[1.0]]),
        )


@pytest.mark.parametrize("name", ["variance", "drift"])
@pytest.mark.parametrize(
    "bad", [float("inf"), [[np.nan]], "v +", lambda u, v: np.where(v > 0.9, np.inf, 0.1), object()]
)
def test_variance_and_drift_are_named_when_they_are_no_graphons(name: str, bad: Any) -> None:
    with pytest.raises(gt.GraphonError, match=f"^{name}: "):
        gt.Connectivity(0.5, **{name: bad})


def test_consistent_triples_are_accepted() -> None:
    for layer in (
        gt.Connectivity(MASK, VARIANCE, DRIFT),
        gt.Connectivity("Heaviside(u - v)/2", "3*Heaviside(u - v)", "-Heaviside(u - v)*u"),
        gt.Connectivity("exp(-100*(u - v)**2)", "2*exp(-100*(u - v)**2)"),
        gt.Connectivity("Max(0, u + v - 1)", "Max(0, u + v - 1)*(1 + u)"),
        gt.magnitude_pruning(1e-300),
    ):
        assert layer.variance is not layer.mask


def test_many_blocks_are_checked_quickly_and_completely() -> None:
    """600 x 600 blocks, one of them wrong: the check looks into every block, and into nothing else."""
    values = np.full((600, 600), 0.5)
    variance = values.copy()
    gt.Connectivity(values, gt.StepGraphon(variance + 0.1))
    variance[417, 23] = 0.0
    with pytest.raises(gt.ConnectivityError, match=r"is zero where connections survive .* u=0\.69583.*, v=0\.039166"):
        gt.Connectivity(values, variance)
