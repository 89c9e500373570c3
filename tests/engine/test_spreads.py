"""Errors of the duals on their way through a network: the estimate holds where kinks and close inputs enlarge them."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.spreads import spread


def inputs(near: float) -> FloatArray:
    """Three normal inputs, the last one ``near`` the first."""
    x = np.random.default_rng(0).standard_normal((3, 6))
    x[2] = x[0] + near * x[2]
    return x


TABLED = gt.Activation(lambda z: np.maximum(z, 0.0), kinks=(0,))  # relu, by tables of its heat flow


@pytest.mark.parametrize("depth", [3, pytest.param(5, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("near", [1e-2, 1e-4, 1e-6])
def test_tables_of_a_kink_stay_within_what_is_reported(depth: int, near: float) -> None:
    """Against the closed form. Four times the sum of the duals' errors is passed up to a hundredfold."""
    x, layers = inputs(near), [1.0] * depth
    got, want = (gt.limit_kernel(gt.Network(layers, phi), x) for phi in (TABLED, "relu"))
    errors = []
    for key in ("nngp", "ntk"):
        root = np.sqrt(np.diag(want[key].values))
        errors.append((np.abs(got[key].values - want[key].values) / np.outer(root, root)).max())
    assert max(errors) <= got.attrs["quadrature_error"] <= 1e3 * max(errors) + 1e-11


def test_the_bound_grows_as_close_inputs_are_driven_apart() -> None:
    """In proportion to 1/distance for a kink; near the sum of the errors in an orderly smooth network."""
    network = gt.Network([1.0, 1.0, 1.0], TABLED)
    found = []
    for near in (1e-4, 1e-6):
        x = inputs(near)
        found.append(spread(Recursion(discretise(network, x, 1e-10).operators, network.activation, x), x))
    assert 30 < found[1] / found[0] < 300
    smooth = gt.Network([1.0] * 5, "tanh", 1.0)
    x = np.random.default_rng(1).standard_normal((3, 6))
    recursion = Recursion(discretise(smooth, x, 1e-10).operators, smooth.activation, x)
    assert 0 < spread(recursion, x) < 2 * recursion.dual_error
