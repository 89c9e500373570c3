"""Angles of close inputs through stages: against the engine where inputs are far apart, and where rounding is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.close_stages import AngularStages
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.recursion import Recursion

D = 4
EDGES = [0.0, 0.3, 0.6, 1.0]
RNG = np.random.default_rng(3)
MASKS = [RNG.uniform(0.2, 0.9, (3, 3)) * (np.arange(3) != 1)[:, None] ** k for k in (0, 0, 1)]  # one with a dead block


def _layer(index: int) -> gt.Connectivity:
    mask = MASKS[index]
    return gt.Connectivity(gt.StepGraphon(mask, EDGES, EDGES), gt.StepGraphon(1.3 * mask**2, EDGES, EDGES))


def _stages(kind: str, phi: str, bias: float) -> gt.Network:
    first = gt.Dense(gt.StepGraphon(RNG.uniform(0.2, 0.9, (3, D)), EDGES))
    one, two, three = (gt.Dense(_layer(k), 1.5) for k in range(3))
    bent, line = gt.Pointwise(phi), gt.Pointwise("identity")
    last = gt.Dense(gt.StepGraphon([[0.4, 0.9, 0.2], [0.8, 0.3, 0.5]], [0, 0.5, 1], EDGES))
    middle: dict[str, list[Any]] = {
        "shortcuts": [gt.Residual(bent, one, line, two, scale=-0.7), gt.Residual(bent, three), bent],
        "nested": [gt.Residual(bent, one, gt.Residual(bent, two, scale=0.5), bent, three), bent],
        "norms": [gt.LayerNorm(0.02), bent, one, gt.LayerNorm(0.0), bent, two, gt.LayerNorm(0.1), bent],
        "norms behind": [bent, gt.LayerNorm(0.02), one, bent, gt.LayerNorm(0.1), two, bent],
        "of their own": [bent, one, gt.Pointwise("leaky_relu"), two, line, three, bent],
    }
    return gt.Network([first, *middle[kind], last], bias_variance=bias, outputs=2)


def _angular(network: gt.Network, x: FloatArray, pairs: list[tuple[int, int]]) -> tuple[FloatArray, FloatArray]:
    grid = discretise(network, x, 1e-10)
    made = AngularStages.of(Recursion(grid.operators, network.outline, x, weights=grid.weights))
    assert made is not None
    i, j = np.array(pairs).T
    return made.kernels(x, x, i, j, None, True)


@pytest.mark.parametrize(("phi", "bias"), [("relu", 0.2), ("abs", 0.0), ("step", 0.2)])
@pytest.mark.parametrize("kind", ["shortcuts", "nested", "norms", "norms behind", "of their own"])
def test_far_pairs_are_those_of_the_engine(kind: str, phi: str, bias: float) -> None:
    network = _stages(kind, phi, bias)
    x = np.random.default_rng(1).standard_normal((5, D))
    x[4] = -0.5 * x[0]
    pairs = [(0, 1), (1, 2), (3, 0), (2, 3), (1, 4)]
    nngp, parts = _angular(network, x, pairs)
    kern = gt.limit_kernel(network, x, contributions=True)
    for p, (i, j) in enumerate(pairs):
        for found, want, own in (
            (nngp[:, p], kern.nngp.values, kern.nngp.values),
            (parts[:, :, p], kern.ntk_layer.values, kern.ntk.values),
        ):
            scale = np.sqrt(own[:, i, i] * own[:, j, j])
            assert np.abs((found - want[..., i, j]) / scale).max() < 1e-13


@pytest.mark.parametrize("kind", ["shortcuts", "of their own"])
def test_a_pair_has_one_value_in_every_batch(kind: str) -> None:
    network = _stages(kind, "relu", 0.2)
    x = np.random.default_rng(1).standard_normal((9, D))
    pairs = [(i, j) for i in range(9) for j in range(i)]
    whole = _angular(network, x, pairs)
    for some in (pairs[3:4], pairs[::5], pairs[20:]):
        places = [pairs.index(pair) for pair in some]
        for found, want in zip(_angular(network, x, some), whole, strict=True):
            np.testing.assert_array_equal(found, want[..., places])


@pytest.mark.parametrize("kind", ["shortcuts", "nested", "norms", "of their own"])
def test_parallel_inputs_are_one(kind: str) -> None:
    """Without biases lines through 0 make of c x what they make of x: 1 - rho stays 0 to its own rounding."""
    network = _stages(kind, "relu", 0.0)
    x = np.random.default_rng(2).standard_normal((1, D)) * np.array([[1.0], [1.7]])
    nngp, parts = _angular(network, x, [(0, 1)])
    kern = gt.limit_kernel(network, x)
    for found, want in ((nngp[:, 0], kern.nngp.values), (parts.sum(axis=0)[:, 0], kern.ntk.values)):
        if kind != "norms":  # where epsilon knows the size
            np.testing.assert_allclose(found, 1.7 * want[:, 0, 0], rtol=1e-13)
        np.testing.assert_allclose(found, want[:, 0, 1], rtol=1e-13)


def test_smooth_networks_and_drift_are_not_taken() -> None:
    x = np.random.default_rng(1).standard_normal((3, D))
    drifting = gt.Connectivity(0.5, 0.5, 0.1)
    for network in (
        gt.Network([0.5, gt.Residual(gt.Pointwise("erf"), gt.Dense(0.5)), gt.Pointwise("relu"), gt.Dense(0.5)]),
        gt.Network([0.5, gt.Residual(gt.Pointwise("relu"), gt.Dense(drifting)), gt.Pointwise("relu"), gt.Dense(0.5)]),
        gt.Network(
            [0.5, gt.Residual(gt.Pointwise("identity"), gt.Dense(0.5)), gt.Pointwise("identity"), gt.Dense(0.5)]
        ),
    ):
        grid = discretise(network, x, 1e-10)
        assert AngularStages.of(Recursion(grid.operators, network.outline, x, weights=grid.weights)) is None


@pytest.mark.parametrize("size", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_lines_and_shortcuts_hand_on_what_is_close_and_what_is_opposite(sign: float, size: float) -> None:
    """Of linear stages K2 = g K1 and T2 = h K1: the plain network of K2, its carried tangent h / g times as large."""
    a, side = np.random.default_rng(4).standard_normal((2, 6))
    x = np.array([a, sign * (a + size * side)])
    line, bent, last = gt.Pointwise("identity"), gt.Pointwise("relu"), gt.Dense(1.0)
    for middle, g, h in (
        ([line, gt.Dense(1.0, 1.5)], 1.5, 3.0),
        ([gt.Residual(line, gt.Dense(1.0, 1.5), scale=-2.0)], 7.0, 13.0),
        ([gt.Residual(line, gt.Dense(1.0, 0.5)), line, gt.Dense(1.0, 2.0)], 3.0, 7.0),
    ):
        found = gt.limit_kernel(gt.Network([gt.Dense(1.0, 0.8), *middle, bent, last]), x)
        plain = gt.limit_kernel(gt.Network([gt.Dense(1.0, 0.8 * g), bent, last]), x)
        scale = float(np.sqrt(plain.nngp[0, 0] * plain.nngp[1, 1]))
        np.testing.assert_allclose(found.nngp, plain.nngp, rtol=0, atol=2e-15 * scale)
        carried, expected = (kern.ntk - kern.nngp for kern in (found, plain))
        np.testing.assert_allclose(carried, h / g * expected, rtol=0, atol=2e-14 * scale)
