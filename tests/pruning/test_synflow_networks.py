"""SynFlow's law: what must hold whatever finite networks say. Real masks stand in tests/validation."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

import graphon_theory as gt
from graphon_theory.pruning.synflow_layers import Ends, Fluctuations
from graphon_theory.pruning.synflow_networks import _Pruning

WIDTHS = (6, 200, 300, 200, 3)
DENSE = gt.Network([1.0] * 4, outputs=3)


def values(layer: gt.Connectivity) -> np.ndarray:
    assert isinstance(layer.mask, gt.StepGraphon)
    return layer.mask.values


@pytest.mark.parametrize(("density", "rounds"), [(0.5, 1), (0.1, 1), (0.2, 7)])
def test_the_threshold_keeps_the_density(density: float, rounds: int) -> None:
    network = gt.synflow_network(DENSE, density, WIDTHS, rounds=rounds, positions=96)
    sizes = [a * b for a, b in pairwise(WIDTHS)]
    kept = sum(n * values(layer).mean() for n, layer in zip(sizes, network.layers, strict=True)) / sum(sizes)
    assert kept == pytest.approx(density, rel=2e-3)
    assert all(values(layer).max() <= 1 for layer in network.layers)


@pytest.mark.parametrize(
    "widths", [(27, 19, 8, 116, 110, 3), (17, 14, 77, 9), (784, 40, 40, 10), (6, math.inf, math.inf, 3)]
)
@pytest.mark.parametrize(("share", "rounds", "positions"), [(0.72, 3, 3), (0.05, 12, 12), (0.01, 1, 30)])
def test_every_round_leaves_its_share(widths: tuple[float, ...], share: float, rounds: int, positions: int) -> None:
    """To rounding, but for one connection of an end layer; also where few units make thresholds and counts unsteady."""
    pruning = _Pruning(widths, positions, np.random.default_rng(1), even=math.inf in widths)
    ends = [pruning.counts[k] / layer.sizes.size for k, layer in enumerate(pruning.layers) if isinstance(layer, Ends)]
    one = max(ends) / pruning.counts.sum()
    for number in range(1, rounds + 1):
        below, above = pruning.prune(share ** (number / rounds))
        masks = [layer.connectivity(a, b) for layer, a, b in zip(pruning.layers, below, above, strict=True)]
        kept = pruning.counts @ [values(mask).mean() for mask in masks] / pruning.counts.sum()
        assert abs(kept - share ** (number / rounds)) <= one + 1e-7


def test_units_without_paths_go_first() -> None:
    """More than a round may leave has no path; what has one stays."""
    network = gt.synflow_network(
        gt.Network([1.0, 1.0], outputs=6), 0.0361, (18, 39, 6), rounds=20, positions=11, rng=683177
    )
    first, last = map(values, network.layers)
    np.testing.assert_array_equal(first.any(axis=1), last.any(axis=0))


def test_one_input_and_one_output_keep_the_same_units() -> None:
    """The only path of a unit has one score in both layers, and its units are the best products |w_1 w_2|."""
    network = gt.synflow_network(gt.Network([1.0, 1.0]), 0.3, (1, 500, 1), rounds=1, positions=400)
    first, last = network.layers
    np.testing.assert_array_equal(values(first)[:, 0], values(last)[0])
    assert values(first).mean() == pytest.approx(0.3, abs=1 / 400)
    products = first.variance.values[:, 0] * last.variance.values[0]  # type: ignore[attr-defined]
    assert (products > 0).sum() == 120


def test_a_network_of_one_layer_is_pruned_by_size() -> None:
    (layer,) = gt.synflow_network(gt.Network([1.0], outputs=40), 0.25, (50, 40), rounds=3).layers
    squares = layer.variance.values  # type: ignore[attr-defined]
    assert values(layer).mean() == pytest.approx(0.25, abs=1e-3)
    assert squares[squares > 0].min() == pytest.approx(ndtri(1 - 0.125) ** 2, rel=0.1)


def test_without_end_the_middle_is_even_and_the_ends_are_dense() -> None:
    wide = (6, *[math.inf] * 5, 3)
    network = gt.synflow_network(gt.Network([1.0] * 6, outputs=3), 0.1, wide, rounds=1, positions=64)
    first, *middle, last = map(values, network.layers)
    assert first.min() == last.min() == 1.0
    assert np.mean([layer.mean() for layer in middle]) == pytest.approx(0.1, rel=1e-5)
    for even in middle[1:-1]:
        assert np.ptp(even) < 1e-12
    # positions next to the ends are told by the weights there: more mass, more connections
    mass = np.sqrt(network.layers[0].variance.values).sum(1)  # type: ignore[attr-defined]
    order = np.argsort(mass)
    assert (np.diff(middle[0][0][order]) > 0).all()
    # G of one round: T^2 at the density of the middle; the layers beyond it have thresholds that vary
    t = ndtri(1 - middle[1][0, 0] / 2)
    assert network.amplification.gains[1] == pytest.approx(t**2, rel=0.02)  # of labels drawn anew


def test_wide_networks_come_to_the_limit_of_a_round() -> None:
    dense = gt.Network([1.0] * 5, outputs=3)
    far = gt.synflow_network(dense, 0.2, (6, *[10**14] * 4, 3), rounds=2, positions=48)
    limit = gt.synflow_network(dense, 0.2, (6, *[math.inf] * 4, 3), rounds=2, positions=48)
    assert values(far.layers[2]).std() < 1e-5
    for one, other in zip(far.layers, limit.layers, strict=True):
        assert values(one).mean() == pytest.approx(values(other).mean(), rel=0.05)  # labels are drawn


def test_rounds_amplify() -> None:
    def spread(rounds: int) -> float:
        network = gt.synflow_network(gt.Network([1.0] * 6), 0.05, (6, *[2000] * 5, 1), rounds=rounds, positions=64)
        w = values(network.layers[2])
        return float(w.std() / w.mean())

    assert spread(12) > 3 * spread(1)
    gains = [
        gt.synflow_network(gt.Network([1.0] * 6), 0.05, (6, *[2000] * 5, 1), rounds=r, positions=4).amplification.gain
        for r in (1, 4, 12)
    ]
    assert gains == sorted(gains)
    assert gains[2] > 100


def test_what_synflow_does_not_see_changes_nothing() -> None:
    other = gt.Network([1.0] * 4, "tanh", [1.0, 2.0, 3.0, 4.0], 0.3, outputs=3)
    one = gt.synflow_network(DENSE, 0.2, WIDTHS, rounds=2, positions=16)
    two = gt.synflow_network(other, 0.2, WIDTHS, rounds=2, positions=16)
    assert one.layers == two.layers
    assert (two.activation.name, two.weight_variance, two.bias_variance) == ("tanh", (1.0, 2.0, 3.0, 4.0), 0.3)
    standard = gt.Network([1.0] * 4, parameterization="standard", widths=WIDTHS[:-1], outputs=3)
    assert gt.synflow_network(standard, 0.2, WIDTHS, rounds=2, positions=16).layers == one.layers


def test_the_seed_decides() -> None:
    one, two, three = (gt.synflow_network(DENSE, 0.2, WIDTHS, rounds=2, positions=8, rng=s) for s in (0, 0, 1))
    assert one == two
    assert one.layers != three.layers


def test_the_result_is_a_network_that_knows_its_rounds() -> None:
    network = gt.synflow_network(DENSE, 0.2, WIDTHS, rounds=2, positions=8)
    assert isinstance(network, gt.Network)
    assert f"amplified {network.amplification.gain:.3g} times" in repr(network)
    assert pickle.loads(pickle.dumps(network)) == network
    changed: Any = network.changed(bias_variance=0.1)
    assert changed.bias_variance == 0.1
    assert changed.amplification == network.amplification
    assert gt.limit_kernel(network, np.eye(6)).ntk.shape == (3, 6, 6)


def test_signs_are_those_of_the_weights_from_the_inputs() -> None:
    plain, told = (
        gt.synflow_network(DENSE, 0.2, WIDTHS, rounds=3, positions=64, rng=5, signs=signs) for signs in (False, True)
    )
    assert told.layers[1:] == plain.layers[1:]
    first, known = plain.layers[0], told.layers[0]
    assert (known.mask, known.variance) == (first.mask, first.variance)
    assert isinstance(known.drift, gt.StepGraphon)
    assert isinstance(known.variance, gt.StepGraphon)
    np.testing.assert_allclose(known.drift.values**2, 6 * known.variance.values, rtol=1e-14)
    up, kept = int((known.drift.values > 0).sum()), int(values(known).sum())
    assert abs(up - kept / 2) < 4 * math.sqrt(kept) / 2
    # one unit that hears one input has it, or nothing
    alone = gt.synflow_network(gt.Network([1.0, 1.0]), 1.0, (1, 8, 1), positions=1, signs=True)
    pair = gt.limit_kernel(alone, np.array([[1.0], [-1.0]])).nngp.values
    assert sorted(np.diag(pair) > 0) == [False, True]


def test_without_signs_the_kernel_is_the_mean_over_them() -> None:
    x = np.random.default_rng(1).normal(size=(5, 60))
    dense, widths = gt.Network([1.0] * 3, outputs=3), (60, 64, 64, 3)
    plain = gt.limit_kernel(gt.synflow_network(dense, 0.3, widths, rounds=3, positions=64), x).ntk.values
    law = gt.synflow_network(dense, 0.3, widths, rounds=3, positions=64, signs=True)
    first, rng = law.layers[0], np.random.default_rng(2)
    assert isinstance(first.drift, gt.StepGraphon)
    drawn = []
    for _ in range(40):
        signs = 2.0 * rng.integers(2, size=values(first).shape) - 1
        drift = gt.StepGraphon(first.drift.values * signs)
        layers = [gt.Connectivity(first.mask, first.variance, drift), *law.layers[1:]]
        drawn.append(gt.limit_kernel(law.with_layers(layers), x).ntk.values)
    error = np.std(drawn, 0, ddof=1) / math.sqrt(len(drawn))
    assert np.abs((np.mean(drawn, 0) - plain) / error).max() < 4


def test_full_density_is_the_dense_network() -> None:
    network = gt.synflow_network(DENSE, 1.0, WIDTHS, positions=8)
    assert all((values(layer) == 1).all() for layer in network.layers)
    assert network.amplification.gain == 1.0


@pytest.mark.parametrize("power", [0, 1, 2])
def test_fluctuations_are_those_of_drawn_weights(power: int) -> None:
    """Deviation and correlation of sums of |w|^power over weights above two thresholds."""
    units, count = 4000, 300
    made = Fluctuations(units, count, np.random.default_rng(1))
    sizes = np.abs(np.random.default_rng(2).standard_normal((units, count)))
    thresholds = (0.4, 1.3)
    sums = np.array([np.where(sizes > t, sizes**power, 0.0).sum(1) for t in thresholds])
    each = np.arange(units)

    def at(power: int, threshold: float) -> np.ndarray:
        """At the E[|w|; |w| > t] of that threshold."""
        return made.at(power, np.full(units, np.sqrt(2 / np.pi) * np.exp(-(threshold**2) / 2)), each)

    found = np.array([at(power, t) for t in thresholds])
    assert np.abs(found.std(1) - 1).max() < 4 * (2 * units) ** -0.5 + 0.01  # linear between edges loses a hundredth
    want = np.corrcoef(sums)[0, 1]
    assert abs(np.corrcoef(found)[0, 1] - want) < 4 * (1 - want**2) * (2 / units) ** 0.5
    # counts, sizes and squares of one unit go together
    both = np.corrcoef(at(0, 1.3), found[1])[0, 1]
    want = np.corrcoef((sizes > 1.3).sum(1), sums[1])[0, 1]
    assert abs(both - want) < 4 * (1 - want**2) * (2 / units) ** 0.5 + 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": gt.Network([1.0, 0.5, 1.0, 1.0], outputs=3)}, "expected a dense network, but layer 2 is"),
        ({"network": 3}, "network: expected a Network"),
        (
            {
                "network": gt.Network([1.0, gt.Residual(gt.Pointwise("relu"), 1.0), 1.0], outputs=3),
                "widths": (6, 9, 9, 3),
            },
            "it has a Residual stage, for which this is not derived",
        ),
        (
            {"network": gt.Network([1.0] * 2, parameterization="standard", widths=(6, 9), outputs=3)},
            r"widths: expected 3 unit counts \(n_0, ..., n_2\)",
        ),
        (
            {
                "network": gt.Network([1.0] * 2, parameterization="standard", widths=(6, 9), outputs=3),
                "widths": (6, 8, 3),
            },
            "widths: expected the network's own",
        ),
        ({"widths": (6, 200, 200, 200, 4)}, "widths: expected 5 unit counts"),
        ({"widths": (6, math.inf, 200, math.inf, 3)}, "widths: expected 5 unit counts"),
        ({"widths": (math.inf, 200, 200, 200, 3)}, "widths: expected 5 unit counts"),
        ({"widths": "wide"}, "widths: expected 5 unit counts"),
        ({"density": 0.0}, "density: expected a share"),
        ({"density": 1e-5}, "density: "),
        ({"rounds": 0}, "rounds: expected"),
        ({"rounds": 2.5}, "rounds: expected"),
        ({"positions": 0}, "positions: expected a positive whole number, got 0"),
        ({"signs": 1}, "signs: expected"),
        ({"rng": "seed"}, "rng: expected a numpy Generator or a seed"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"network": DENSE, "density": 0.2, "widths": WIDTHS, "rounds": 2, "positions": 32}
    with pytest.raises(gt.GraphonError, match=message):
        gt.synflow_network(**(arguments | change))


def test_units_that_are_as_good_as_dead_are_dead() -> None:
    """With signs drawn their tangent kernel fell to 1e-300, and the limit kernel was refused."""
    plain = gt.Network([1.0] * 5, outputs=10)
    law = gt.synflow_network(plain, 0.1, (64, 128, 128, 128, 128, 10), rounds=10, positions=128, signs=True, rng=3)
    for layer in law.layers:
        shares = values(layer)
        assert shares[shares > 0].min() > 1e-32
    assert np.trace(gt.limit_kernel(law, np.random.default_rng(0).normal(size=(5, 64))).ntk.mean("output")) > 0
