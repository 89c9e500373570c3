"""Errors of the duals on their way through a network: docs/quadrature.md's bound holds and is near what happens."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation
from graphon_theory.arrays import EPS
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.samples import Sample
from tests.reference import Duals, Layer, limit_reference, weighted
from tests.tools.dual_spreads import SMALL, Blocks, Signs, inputs, measured, real, spread

FloatArray = NDArray[np.float64]
CASES = [
    ("tanh", 1.0, 0.0, 9, None),
    ("tanh", 2.0, 0.1, 9, 1e-2),
    ("tanh", 9.0, 0.1, 5, 1e-2),
    ("erf", 4.0, 0.1, 5, 1e-3),
    ("gelu", 2.0, 0.0, 9, 1e-2),
    ("silu", 2.0, 0.1, 5, None),
    ("sin", 2.0, 0.3, 4, 1e-2),
    ("relu", 2.0, 0.1, 5, 0.3),
]


def random_signs(n: int, rng: np.random.Generator) -> Signs:
    one, two = (np.where(np.triu(rng.random((n, n))) > 0.5, 1.0, -1.0) for _ in range(2))
    return np.triu(one) + np.triu(one, 1).T, np.triu(two) + np.triu(two, 1).T


@pytest.mark.parametrize(("name", "sw2", "sb2", "depth", "near"), CASES)
def test_no_signs_of_the_errors_exceed_the_bound(
    name: str, sw2: float, sb2: float, depth: int, near: float | None
) -> None:
    """All layers of three-block networks at once, signs drawn anew for every layer and pair."""
    rng = np.random.default_rng(depth)
    x = inputs(near)
    blocks = Blocks.random(as_activation(name), depth, x.shape[1], sw2, sb2, rng, blocks=3)
    bound = spread(blocks.recursion(x), x, [SMALL] * (depth - 1)) / SMALL
    several = [{layer: random_signs(len(x), rng) for layer in range(depth - 1)} for _ in range(20)]
    assert max(blocks.moves(x, several)) <= bound * (1 + 1e-4)


@pytest.mark.parametrize(("name", "sw2", "sb2", "depth", "near"), CASES)
def test_some_signs_come_near_the_bound(name: str, sw2: float, sb2: float, depth: int, near: float | None) -> None:
    """One position, one layer at a time: what its errors come to with signs that work together."""
    x = inputs(near)
    blocks = Blocks.random(as_activation(name), depth, x.shape[1], sw2, sb2, np.random.default_rng(0))
    recursion = blocks.recursion(x)
    for layer, most in enumerate(measured(blocks, x)):
        errors = [SMALL * (layer == other) for other in range(depth - 1)]
        bound = spread(recursion, x, errors) / SMALL
        assert most <= bound * (1 + 1e-4)
        assert most >= 0.6 * bound


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_means_have_errors_too(sign: float) -> None:
    """A network with drift in plain loops, whose m, C and Cdot are all moved."""
    name, share = "tanh", 1e-7
    activation = as_activation(name)
    w = [[[0.9, 0.6, 0.6], [0.4, 0.7, 1.0]], [[0.8, 0.3], [0.5, 0.9]], [[0.7, 0.4]]]
    d = [[[0.5, -0.7, 0.2], [-0.4, 0.8, 0.1]], [[0.6, -0.5], [-0.3, 0.4]], [[0.3, -0.4]]]

    def duals(share: float) -> Duals:
        def second(mu: float, q: float) -> FloatArray:
            return np.array(activation.duals(q, q, q, mu, mu))

        def pair(_: object, mu1: float, mu2: float, q: tuple[float, float, float]) -> tuple[float, float]:
            one, two = second(mu1, q[1]), second(mu2, q[2])
            got = np.array(activation.duals(*q, mu1, mu2)) + share * np.sqrt(one * two)
            return float(got[0]), float(got[1])

        def mean(_: object, mu: float, q: float) -> float:
            return float(activation.mean(mu, q)) + share * float(np.sqrt(second(mu, q)[0]))

        return Duals(mean, pair)

    x = inputs(0.1, 3)
    layers = [
        Layer(weighted(m, [1 / len(m[0])] * len(m[0])), None, weighted(e, [1 / len(m[0])] * len(m[0])))
        for m, e in zip(w, d, strict=True)
    ]
    network = gt.Network([gt.Connectivity(m, m, e) for m, e in zip(w, d, strict=True)], name, 1.5, 0.1)
    still, moved = (
        limit_reference(layers, x, activation=duals(by), weight_variance=1.5, bias_variance=0.1)
        for by in (0.0, sign * share)
    )
    recursion = Recursion(discretise(network, x, 1e-10).operators, network.activation, x)
    bound = spread(recursion, x, [share] * 2)
    for key in ("nngp", "ntk"):
        old, new = getattr(still, key)[0], getattr(moved, key)[0]
        root = np.sqrt(np.diagonal(old))
        move = (np.abs(new - old) / np.outer(root, root)).max()
        assert move <= bound * (1 + 1e-4)
        assert move >= 0.01 * bound


@pytest.mark.parametrize(
    ("name", "sw2", "sb2", "depth", "near"),
    [("erf", 2.0, 0.1, 5, 1e-2), ("erf", 9.0, 0.1, 9, 1e-4), ("relu", 2.0, 0.0, 3, 1e-4), ("relu", 2.0, 0.0, 6, 1e-6)],
)
def test_errors_of_series_and_tables_stay_within_the_bound(
    name: str, sw2: float, sb2: float, depth: int, near: float
) -> None:
    """Against closed forms. What roundings do to close inputs is counted apart, as the engine counts it."""
    x = inputs(near)
    error, _, bound = real(name, depth, sw2, sb2, x)
    sine = Sample.of(x).sine
    assert 0 < error <= bound + 64 * EPS * depth + 2 * EPS / sine


def test_a_factor_of_four_covers_orderly_networks_and_not_chaotic_ones() -> None:
    """What the kernel's estimate allows for each layer, against the bound; kinks and close inputs are worse still."""
    for name, sw2, sb2, depth, near, enough in (
        ("tanh", 2.0, 0.1, 9, None, True),
        ("tanh", 2.0, 0.1, 9, 1e-2, True),
        ("silu", 2.0, 0.1, 9, 1e-2, True),
        ("tanh", 4.0, 0.0, 9, 1e-2, False),
        ("tanh", 9.0, 0.1, 5, 1e-2, False),
    ):
        x = inputs(near)
        blocks = Blocks.random(as_activation(name), depth, x.shape[1], sw2, sb2, np.random.default_rng(0))
        bound = spread(blocks.recursion(x), x, [SMALL] * (depth - 1)) / SMALL
        assert (bound <= 4 * (depth - 1)) is enough, (name, sw2, near, bound)
