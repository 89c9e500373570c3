"""Networks estimated from their masks and weights: known blocks come back, one position per unit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.estimation.masks import as_mask
from graphon_theory.estimation.network_estimates import _noise_edge, block_moments, shrink_drift

BoolArray = NDArray[np.bool_]
EDGES = [0, 0.3, 0.6, 1]
PLANTED = (
    gt.StepGraphon([[0.5, 0.2, 0.1], [0.1, 0.3, 0.2], [0.2, 0.1, 0.6]], EDGES, EDGES),
    gt.StepGraphon([[0.6, 0.1, 0.2], [0.1, 0.4, 0.1], [0.3, 0.2, 0.5]], EDGES, EDGES),
    gt.ConstantGraphon(1.0),
)


def shuffled(widths: tuple[int, ...], seed: int, laws: Any = PLANTED) -> tuple[list[BoolArray], list[Any]]:
    """Masks of the planted network, hidden units in random order, and each unit's true block."""
    rng = np.random.default_rng(seed)
    masks = [law.sample(n_out, n_in, rng) for law, (n_in, n_out) in zip(laws, itertools.pairwise(widths), strict=True)]
    orders = [np.arange(n) for n in widths]
    for layer in range(1, len(widths) - 1):
        orders[layer] = rng.permutation(widths[layer])
    masks = [mask[np.ix_(orders[k + 1], orders[k])] for k, mask in enumerate(masks)]
    blocks = [np.searchsorted(EDGES, (o + 0.5) / len(o), side="right") - 1 for o in orders]
    return masks, blocks


def same_partition(a: Any, b: Any) -> bool:
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_planted_blocks_are_recovered_exactly(seed: int) -> None:
    masks, blocks = shuffled((60, 300, 250, 1), seed)
    found = gt.estimate_network(masks, blocks=3)
    assert found.blocks == (60, 3, 3, 1)
    for layer in (1, 2):
        assert same_partition(found.labels[layer], blocks[layer])


def test_blocks_of_equal_degrees_are_recovered_too() -> None:
    """Where degrees tell nothing and each unit is known by whom it is connected with."""
    swap = gt.StepGraphon([[0.4, 0.1], [0.1, 0.4]])
    rng = np.random.default_rng(4)
    order = rng.permutation(240)
    truth = (order >= 120).astype(int)
    first, second = (law.sample(n, m, rng) for law, n, m in ((swap, 240, 200), (swap, 220, 240)))
    found = gt.estimate_network([first[order], second[:, order], np.ones((1, 220))], blocks=2)
    assert same_partition(found.labels[1], truth)
    assert found[0].mask.mean() == pytest.approx(first.mean(), rel=1e-13)


@pytest.mark.parametrize(("p", "q", "exact"), [(0.36, 0.12, True), (0.2, 0.17, False)])
def test_recovery_where_information_theory_promises_it(p: float, q: float, exact: bool) -> None:
    """Exact where a unit's pairs tell more than ln n nats apart, not where no method could (Abbe and Sandon 2015).

    Two blocks with densities p, q within and between: errors are as rare as exp(-I), I = -pairs ln(sqrt(p q) +
    sqrt((1 - p) (1 - q))), and none is expected among n units if I > ln n.
    """
    n_in, n, n_out = 200, 240, 220
    information = -(n_in + n_out) * math.log(math.sqrt(p * q) + math.sqrt((1 - p) * (1 - q)))
    assert (information > 2 * math.log(n)) == exact
    law = gt.StepGraphon([[p, q], [q, p]])
    for seed in range(3):
        rng = np.random.default_rng(seed)
        order = rng.permutation(n)
        first, second = law.sample(n, n_in, rng)[order], law.sample(n_out, n, rng)[:, order]
        found = gt.estimate_network([first, second, np.ones((1, n_out))], blocks=2)
        assert same_partition(found.labels[1], order >= n // 2) == exact


def test_block_count_by_held_out_likelihood() -> None:
    masks, _ = shuffled((50, 240, 200, 1), 5)
    found = gt.estimate_network(masks, blocks="auto")
    assert found.held_out is not None
    assert max(found.held_out, key=lambda b: found.held_out[b]) == 3  # type: ignore[index]
    assert found.blocks == (50, 3, 3, 1)
    noise = [np.random.default_rng(6).random(shape) < 0.2 for shape in ((150, 40), (150, 150), (20, 150))]
    assert max(gt.estimate_network(noise, blocks="auto").blocks[1:3]) <= 2


def test_tables_are_means_over_the_found_blocks() -> None:
    masks, _ = shuffled((20, 70, 50, 3), 7)
    rng = np.random.default_rng(8)
    weights = [0.5 * rng.standard_normal(mask.shape) for mask in masks]
    found = gt.estimate_network(masks, weights, blocks=3, dense_std=[0.5, 1.0, 2.0])
    assert found.drift is not None
    for k, (layer, mask, weight) in enumerate(zip(found, masks, weights, strict=True)):
        rows, columns = found.labels[k + 1], found.labels[k]
        for a, b in itertools.product(range(rows.max() + 1), range(columns.max() + 1)):
            here = np.ix_(rows == a, columns == b)
            kept = np.where(mask[here], weight[here], 0.0)
            u = found.positions[k + 1][rows == a][0]
            v = found.positions[k][columns == b][0]
            assert layer.mask(u, v) == pytest.approx(mask[here].mean(), rel=1e-13)
            assert layer.variance(u, v) == pytest.approx((kept**2).mean() / (0.5, 1.0, 2.0)[k] ** 2, rel=1e-13)
            raw = math.sqrt(mask.shape[1]) * kept.mean()
            root = math.sqrt((kept**2).mean())
            assert found.drift[k].raw[a, b] * root == pytest.approx(raw, rel=1e-9, abs=1e-13)


def test_one_position_per_unit_inputs_and_outputs_in_order() -> None:
    masks, _ = shuffled((20, 70, 50, 3), 9)
    found = gt.estimate_network(masks, blocks=4)
    for below, above in itertools.pairwise(found):
        np.testing.assert_array_equal(below.mask.u_breaks, above.mask.v_breaks)
    np.testing.assert_array_equal(found.labels[0], np.arange(20))
    np.testing.assert_array_equal(found.positions[3], (np.arange(3) + 0.5) / 3)
    for positions in found.positions:
        assert sorted(positions) == pytest.approx((np.arange(len(positions)) + 0.5) / len(positions))
    grouped = gt.estimate_network(masks, blocks=4, inputs=5)
    assert grouped[0].mask.v_breaks == pytest.approx(np.linspace(0, 1, 6))
    assert grouped[0].mask.mean() == pytest.approx(masks[0].mean())


def test_the_result_makes_a_network() -> None:
    masks, _ = shuffled((20, 70, 50, 3), 10)
    net = gt.Network(gt.estimate_network(masks, blocks=3), outputs=3)
    assert net.depth == 3
    assert gt.Network.from_toml(net.to_toml()) == net


@pytest.mark.slow
def test_kernel_of_a_planted_network_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Within half a percent jointly; sorted layer by layer it does not."""
    widths = (900, 1000, 1000, 1)
    rng = np.random.default_rng(11)
    # unequal scales along the order of the inputs, so that a lost order shows
    x = rng.standard_normal((12, 900)) * np.linspace(0.2, 2, 900) ** 2
    truth = gt.limit_kernel(gt.Network(list(PLANTED)), x).ntk.values
    masks, blocks = shuffled(widths, 12)

    def error(layers: Any) -> float:
        kernel = gt.limit_kernel(gt.Network(list(layers)), x).ntk.values
        return float(np.linalg.norm(kernel - truth) / np.linalg.norm(truth))

    joint = gt.estimate_network(masks, blocks=3)
    for layer in (1, 2):
        assert same_partition(joint.labels[layer], blocks[layer])
    separate = [gt.estimate_graphon(mask, 64, draws=0) for mask in masks[:2]]
    errors = {
        "joint, inputs as atoms": error(joint),
        "joint, 30 groups of inputs": error(gt.estimate_network(masks, blocks=3, inputs=30)),
        "layers sorted separately": error([*separate, 1.0]),
    }
    with capsys.disabled():
        print("\n", errors)
    assert errors["joint, inputs as atoms"] < 0.005
    assert errors["joint, 30 groups of inputs"] < 0.005
    assert errors["layers sorted separately"] > 0.05


# --- units on no path


def test_dead_units_have_blocks_of_their_own() -> None:
    rng = np.random.default_rng(13)
    masks = [rng.random((40, 10)) < 0.5, rng.random((30, 40)) < 0.5, rng.random((4, 30)) < 0.8]
    masks[0][:3] = False  # units 0-2 of the first hidden layer hear nothing
    masks[1][:, 5:9] = False  # units 5-8 are heard by none
    found = gt.estimate_network(masks, blocks=2)
    labels = found.labels[1]
    unreached, unheard = set(labels[:3].tolist()), set(labels[5:9].tolist())
    assert len(unreached) == len(unheard) == 1
    assert unreached.isdisjoint(unheard)
    assert not (unreached | unheard) & set(labels[[3, 4, *range(9, 40)]].tolist())
    assert found.units.dead[1] == 7
    at = found.positions[1]
    assert found[0].mask(at[0], 0.5) == 0
    assert found[1].mask(0.5, at[6]) == 0
    assert found[1].mask(0.1, at[0]) > 0  # it sends, but nothing comes


# --- weights with a mean


def drifting(n: int, n_in: int, spread: float, mean: float, seed: int) -> tuple[BoolArray, Any, Any]:
    """A layer of 8 x 8 blocks whose D / sqrt(V) is N(mean, spread^2), and the true values."""
    rng = np.random.default_rng(seed)
    mask = rng.random((n, n_in)) < 0.25
    delta = np.clip(mean + spread * rng.standard_normal((8, 8)), -6, 6)
    rows, columns = (np.arange(n) * 8) // n, (np.arange(n_in) * 8) // n_in
    w = rng.standard_normal((n, n_in))
    shift = delta / np.sqrt(0.25 * n_in - delta**2)  # so that sqrt(n_in) E m w = delta sqrt(E m w^2)
    return mask, w + shift[np.ix_(rows, columns)], (delta, rows, columns)


def test_standard_error_of_block_means() -> None:
    """B sqrt(V / n) with B blocks a side: the deviation of raw D over seeds."""
    n, raw = 160, []
    for seed in range(40):
        mask, w, (_, rows, columns) = drifting(n, n, 0.0, 0.0, seed)
        moments = block_moments(as_mask(mask), w, rows, columns)
        raw.append(math.sqrt(n) * moments.first)
        if seed == 0:
            wanted = 8 * np.sqrt(moments.square.mean() / n)
            estimate = shrink_drift(moments, n)
            np.testing.assert_allclose(estimate.error * np.sqrt(moments.square), wanted, rtol=0.35)
    assert np.std(raw) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(("spread", "mean"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.6), (0.8, 0.3), (3.0, 0.0)])
def test_shrinking_brings_the_drift_closer_to_the_truth(spread: float, mean: float) -> None:
    """Better than none, and than raw means unless the drift is strong and of full rank, which pays a little."""
    loss = np.zeros(3)
    for seed in range(12):
        mask, w, (delta, rows, columns) = drifting(200, 200, spread, mean, seed)
        estimate = shrink_drift(block_moments(as_mask(mask), w, rows, columns), 200)
        for k, candidate in enumerate((estimate.shrunk, estimate.raw, np.zeros((8, 8)))):
            loss[k] += ((candidate - delta) ** 2).mean() / 12
    assert loss[0] < loss[1] * (1.2 if spread == 3.0 else 1.02)
    assert loss[0] < max(loss[2] * 1.02, 0.02)
    if spread == 3.0:
        assert loss[0] < 0.1 * loss[2]
    if spread == 0.0:  # a constant has one mode: 15 of 64 degrees of freedom keep their noise
        assert loss[0] < (0.1 if mean == 0.0 else 0.3) * loss[1]


@pytest.mark.parametrize(("a", "b"), [(8, 8), (3, 64), (1, 30)])
def test_noise_alone_rarely_passes_for_a_mode(a: int, b: int) -> None:
    rng = np.random.default_rng(20)
    beyond = sum(np.linalg.norm(rng.standard_normal((a, b)), 2) > _noise_edge(a, b) for _ in range(4000))
    assert beyond <= 12  # one in a thousand is meant


def test_drift_of_one_mode_is_found_as_one() -> None:
    rng = np.random.default_rng(21)
    rows, columns = np.arange(240) // 15, np.arange(200) // 4  # 16 x 50 blocks
    delta = np.outer(rng.standard_normal(16), rng.standard_normal(50))
    w = rng.standard_normal((240, 200)) + delta[np.ix_(rows, columns)] / math.sqrt(200)
    estimate = shrink_drift(block_moments(as_mask(np.ones(w.shape)), w, rows, columns), 200)
    assert estimate.modes == 1
    assert estimate.spread == 0.0
    raw, shrunk = (((one - delta) ** 2).mean() for one in (estimate.raw, estimate.shrunk))
    assert shrunk < 0.15 * raw  # (16 + 50) of 800 degrees of freedom keep their noise, and V is a little above 1


def test_weights_without_a_mean_get_no_drift() -> None:
    masks, _ = shuffled((30, 120, 100, 1), 14)
    rng = np.random.default_rng(15)
    found = gt.estimate_network(masks, [rng.standard_normal(mask.shape) for mask in masks], blocks=3)
    assert found.coherence is not None
    assert all(abs(one.z) < 3.5 for one in found.coherence)
    assert not any(layer.has_drift for layer in found)


def test_a_planted_drift_is_found_and_its_absence_warned_of() -> None:
    masks, _ = shuffled((30, 120, 100, 1), 16)
    rng = np.random.default_rng(17)
    weights = [rng.standard_normal(mask.shape) for mask in masks]
    weights[1] = weights[1] + 2.0 / math.sqrt(120)
    found = gt.estimate_network(masks, weights, blocks=3)
    wanted = 2.0 * masks[1].mean()
    assert found[1].drift.mean() == pytest.approx(wanted, abs=4 * math.sqrt(masks[1].mean() / 100))
    with pytest.warns(gt.CoherenceWarning, match="layer 2: the surviving weights have a mean"):
        without = gt.estimate_network(masks, weights, blocks=3, drift=False)
    assert not any(layer.has_drift for layer in without)


# --- the unit of the weights


def drawn(shapes: list[tuple[int, int]], density: float, rule: str, law: str) -> tuple[list[BoolArray], list[Any]]:
    """Masks of random or magnitude pruning and weights of variance 1."""
    rng = np.random.default_rng(22)
    laws: dict[str, Any] = {
        "normal": rng.standard_normal,
        "uniform": lambda shape: math.sqrt(3) * rng.uniform(-1, 1, shape),
        "laplace": lambda shape: rng.laplace(scale=math.sqrt(0.5), size=shape),
    }
    weights = [laws[law](shape) for shape in shapes]
    if rule == "random":
        return [rng.random(shape) < density for shape in shapes], weights
    return [np.abs(w) >= np.quantile(np.abs(w), 1 - density) for w in weights], weights


SHAPES = [(120, 40), (80, 120), (5, 80)]


@pytest.mark.parametrize("law", ["normal", "uniform", "laplace"])
@pytest.mark.parametrize("rule", ["random", "magnitude"])
@pytest.mark.parametrize("density", [1.0, 0.5, 0.1])
def test_weights_of_unit_variance_are_believed(density: float, rule: str, law: str) -> None:
    masks, weights = drawn(SHAPES, density, rule, law)
    found = gt.estimate_network(masks, weights, blocks=1)  # warnings are errors here
    for layer in found:
        assert 0.7 < layer.variance.mean() / layer.mask.mean() < 9


@pytest.mark.parametrize("rule", ["random", "magnitude"])
@pytest.mark.parametrize("density", [1.0, 0.2, 0.05])
@pytest.mark.parametrize("init", ["torch", "he", "xavier", "ten"])
def test_weights_in_another_unit_are_warned_of(density: float, rule: str, init: str) -> None:
    masks, weights = drawn(SHAPES, density, rule, "normal")
    deviations = {"torch": lambda n: (3 * n) ** -0.5, "he": lambda n: (2 / n) ** 0.5, "xavier": lambda n: n**-0.5}
    stds = [deviations.get(init, lambda n: 10.0)(shape[1]) for shape in SHAPES]
    scaled = [w * std for w, std in zip(weights, stds, strict=True)]
    with pytest.warns(gt.WeightScaleWarning, match=r"contradict dense weights of variance 1 \(layer 1: .*dense_std="):
        wrong = gt.estimate_network(masks, scaled, blocks=2, drift=False)
    right = gt.estimate_network(masks, scaled, 2, stds, drift=False)  # said, and then believed
    for ours, theirs, std, plain in zip(wrong, right, stds, weights, strict=True):
        assert ours.variance.mean() == pytest.approx(theirs.variance.mean() * std**2, rel=1e-12)
        assert plain.shape


def test_the_bounds_are_those_of_magnitude_pruning() -> None:
    """In layer 1 at density .2: 1 to 3.2491016 (V / W of the largest of normal weights), stated with what came."""
    masks, weights = drawn([(1000, 50), (3, 1000)], 0.2, "random", "normal")
    scaled = [weights[0] / 45, weights[1]]
    with pytest.warns(gt.WeightScaleWarning) as caught:
        gt.estimate_network(masks, scaled, blocks=1)
    density = masks[0].mean()
    square = float((scaled[0] ** 2)[masks[0]].mean())
    largest = gt.magnitude_pruning(density).variance.mean() / density
    told = str(caught[0].message)
    assert f"(layer 1: {square:.3g} instead of 1 to {largest:.3g})" in told
    assert f"{math.sqrt(square):.3g}" in told
    assert caught[0].filename == __file__


def test_few_survivors_are_no_contradiction() -> None:
    rng = np.random.default_rng(23)
    for _ in range(200):  # a mean of squares of six weights is below a half one time in eight
        gt.estimate_network([np.ones((2, 3)), np.ones((3, 2))], [rng.standard_normal(s) for s in ((2, 3), (3, 2))])


# --- the door


def good() -> dict[str, Any]:
    rng = np.random.default_rng(19)
    masks = [rng.random(shape) < 0.7 for shape in ((12, 8), (10, 12), (2, 10))]
    return {"masks": masks, "weights": [rng.standard_normal(m.shape) for m in masks]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": [np.ones((3, 2)), np.ones((2, 4))], "weights": None}, r"layer 1 has 3 receiving units, but layer 2"),
        ({"masks": [np.ones((3, 2)), np.zeros((2, 3))], "weights": None}, r"layer 2 is dead"),
        ({"masks": [[[1, 0], [0, 0]], [[0, 1]]], "weights": None}, r"no path of surviving connections"),
        ({"masks": [np.full((3, 2), 0.3), np.ones((2, 3))], "weights": None}, r"masks\[0\]: expected zeros and ones"),
        ({"masks": [np.ones((0, 2)), np.ones((2, 0))], "weights": None}, r"masks\[0\]: the layer is empty"),
        ({"weights": [np.ones((12, 8))]}, r"weights: expected a list of 3 arrays, one for each mask, got 1"),
        ({"weights": "nan"}, r"weights\[1\]: 1 of 120 are not finite, the first is nan at \[2, 3\]"),
        ({"dense_std": 0.0}, r"dense_std: expected positive deviations"),
        ({"dense_std": ["a", 1, 1]}, r"dense_std: expected positive deviations"),
        ({"rng": "seed"}, r"rng: expected a numpy Generator or a seed"),
        ({"dense_std": [1.0]}, r"dense_std: expected one positive number, or 3"),
        ({"blocks": 0}, r'blocks: expected a positive whole number or "auto", got 0'),
        ({"blocks": "many"}, r"blocks: expected a positive whole number"),
        ({"inputs": 9}, r"inputs: 8 inputs cannot form 9 groups"),
        ({"starts": 0}, r"starts: expected a positive whole number"),
    ],
)
def test_bad_networks_are_refused(change: dict[str, Any], message: str) -> None:
    arguments = {**good(), **change}
    if arguments["weights"] == "nan":
        weights = good()["weights"]
        weights[1][2, 3] = np.nan
        arguments["weights"] = weights
    masks = arguments.pop("masks")
    with pytest.raises(gt.InputError, match=message):
        gt.estimate_network(masks, **arguments)
