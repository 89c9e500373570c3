"""Networks of single units, told by labels: moments, kernels against loops, and what must hold for any of them."""

from __future__ import annotations

import dataclasses
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import graphon_theory as gt
from graphon_theory.pruning.single_units import _between, leading_modes, surviving_moments
from tests.unit_loops import unit_traces

RNG = np.random.default_rng(2)
X, PROBE = RNG.standard_normal((14, 6)), RNG.standard_normal((5, 6))
LABELS, TARGETS = RNG.integers(0, 3, 14), RNG.standard_normal((14, 3))


def made(
    activation: str = "relu", widths: tuple[int, ...] = (6, 24, 20, 28, 3), density: float = 0.4, **options: Any
) -> gt.Network:
    network = gt.Network([1.0] * (len(widths) - 1), activation, 2.0, outputs=3)
    y = TARGETS if options.get("loss") == "squared" else LABELS
    return gt.saliency_network(network, X, y, density, widths, positions="units", **options)


@pytest.mark.parametrize("mean", [0.0, 0.3, -1.2])
@pytest.mark.parametrize("deviation", [1.0, 0.2])
@pytest.mark.parametrize("threshold", [0.0, 0.7, 2.5, np.inf])
def test_moments_are_integrals(mean: float, deviation: float, threshold: float) -> None:
    found = surviving_moments(*(np.array([[value]]) for value in (mean, deviation, min(threshold, 1e3))))
    far = max(abs(mean) + 12 * deviation, 1.0)
    for power, value in enumerate(found):
        said = sum(
            quad(lambda w, p=power: w**p * norm.pdf(w, mean, deviation), *ends, points=[mean], epsabs=1e-13)[0]
            for ends in ((-far, -threshold), (threshold, far))
            if threshold < far
        )
        assert value.item() == pytest.approx(said, abs=1e-11)


def test_labels_tell_what_draws_with_the_same_labels_have() -> None:
    rng = np.random.default_rng(0)
    n_in, n_out, draws = 60, 40, 20_000
    features, gradients = rng.normal(size=(n_in, 5)) * 0.5 + 0.5, rng.normal(size=(n_out, 4))
    weights, thresholds = rng.standard_normal((n_out, n_in)), rng.uniform(0.3, 2.5, (n_out, n_in))
    layer: Any = _between(weights, thresholds, features, gradients, None)
    mean = layer.drift.values / np.sqrt(n_in)
    below, above = leading_modes(features), leading_modes(gradients)
    sums = np.zeros((3, n_out, n_in))
    receiver, sender = np.zeros((n_in, n_in)), np.zeros((n_out, n_out))  # of one unit's weights
    for _ in range(draws):
        fresh = rng.standard_normal((n_out, n_in)) - weights
        fresh -= (fresh @ below) @ below.T
        fresh -= above @ (above.T @ fresh)
        w = weights + fresh
        kept = np.where(np.abs(w) > thresholds, w, 0.0)
        sums += [kept != 0, kept, kept**2]
        receiver += np.outer(kept[0], kept[0])
        sender += np.outer(kept[:, 0], kept[:, 0])
    for found, total in zip((layer.mask.values, mean, layer.variance.values), sums, strict=True):
        assert np.abs(found - total / draws).max() < 6 * np.sqrt(10 / draws)
        assert np.abs((found - total / draws).mean()) < 1e-3
    forward = np.array([one.values[0] for one in layer.known.profiles])
    backward = np.array([(layer.known.returning.values * one.values)[:, 0] for one in layer.known.gradients])
    for products, known, own in ((receiver, forward, mean[0]), (sender, backward, mean[:, 0])):
        covariance, off = products / draws - np.outer(own, own), ~np.eye(len(own), dtype=bool)
        said = -(known.T @ known / len(own))[off]
        assert np.polyfit(said, covariance[off], 1)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize(
    ("activation", "widths", "density"),
    [("relu", (6, 24, 20, 28, 3), 0.4), ("relu", (6, 24, 20, 3), 0.2), ("tanh", (6, 18, 22, 20, 16, 3), 0.5)],
)
def test_kernels_are_sums_over_units(activation: str, widths: tuple[int, ...], density: float, loss: str) -> None:
    network = made(activation, widths, density, loss=loss)
    said, kernels = unit_traces(network, PROBE), gt.limit_kernel(network, PROBE, contributions=True)
    found = np.einsum("loii->l", kernels.ntk_layer.values) / 3
    np.testing.assert_allclose(found, said.layers, rtol=1e-9)
    assert np.einsum("oii->", kernels.ntk.values) / 3 == pytest.approx(said.layers.sum(), rel=1e-9)
    squares = float((kernels["mean"].values ** 2).sum() + np.einsum("oii->", kernels.nngp.values))
    assert squares == pytest.approx(said.square, rel=1e-9)


def test_pairs_are_what_single_inputs_say() -> None:
    """Signals of the identity are linear in the inputs, so that kernels of sums are sums of kernels."""
    network = made("identity")
    one, two = PROBE[:2]
    kernels = gt.limit_kernel(network, np.array([one, two, one + two]))
    for values in (kernels.nngp.values, kernels.ntk.values):
        np.testing.assert_allclose(values[:, 2, 2], values[:, 0, 0] + 2 * values[:, 0, 1] + values[:, 1, 1], rtol=1e-11)
        np.testing.assert_allclose(values[:, 0, 2], values[:, 0, 0] + values[:, 0, 1], rtol=1e-10)


def test_blocks_of_inputs_and_other_inputs_have_the_kernels_of_the_whole() -> None:
    network = made("tanh")
    whole = gt.limit_kernel(network, np.vstack([PROBE, X]))
    part = gt.limit_kernel(network, PROBE, X)
    np.testing.assert_allclose(part.ntk.values, whole.ntk.values[:, : len(PROBE), len(PROBE) :], rtol=1e-11)
    np.testing.assert_allclose(part.nngp.values, whole.nngp.values[:, : len(PROBE), len(PROBE) :], rtol=1e-10)
    narrow = gt.limit_kernel(network, PROBE, dtype="float32")
    np.testing.assert_allclose(narrow.ntk.values, whole.ntk.values[:, : len(PROBE), : len(PROBE)], rtol=1e-4)


def test_masks_keep_the_density_and_seeds_decide(tmp_path: Path) -> None:
    network, widths = made(), (6, 24, 20, 28, 3)
    assert network == made()
    assert network != made(rng=1)
    sizes = [a * b for a, b in pairwise(widths)]
    kept = sum(n * layer.mask.mean() for n, layer in zip(sizes, network.layers, strict=True)) / sum(sizes)
    assert kept == pytest.approx(0.4, abs=0.05)  # of one network's labels, on average over its weights
    assert pickle.loads(pickle.dumps(network)) == network
    network.save(tmp_path / "network.npz")
    assert gt.Network.load(tmp_path / "network.npz") == network


def test_everything_kept_is_the_dense_network() -> None:
    network: Any = made("relu", density=1.0)
    assert all((layer.mask.values == 1).all() for layer in network.layers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": "unit"}, "positions: expected one of units, got 'unit'; did you mean 'units'"),
        ({"network": gt.Network([1.0] * 3, "relu", 2.0, 0.1, outputs=3)}, "derived for networks without biases"),
        ({"network": gt.Network([1.0] * 2, outputs=3), "widths": (6, 9, 3)}, "at least two hidden layers"),
        ({"density": 0.0}, "density: expected"),
        ({"widths": (6, 9, 3)}, "widths: expected 4 unit counts"),
        ({"modes": 0}, "modes: expected"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "network": gt.Network([1.0] * 3, outputs=3),
        "density": 0.4,
        "widths": (6, 9, 8, 3),
        "modes": None,
    }
    arguments |= {"positions": "units"} | change
    with pytest.raises(gt.GraphonError, match=message):
        gt.saliency_network(x=X, y=LABELS, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"senders": 0}, "senders: expected a positive whole number, got 0"),
        ({"senders": 2.5}, "senders: expected a positive whole number, got 2.5"),
        ({"returning": 0.5}, "returning: it belongs to single units"),
        ({"senders": 4, "returning": "1/0"}, "returning"),
    ],
)
def test_what_is_known_of_single_units_is_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.Known([], **arguments)


@pytest.mark.parametrize(
    ("cells", "known", "message"),
    [
        ((1, 3), {"senders": 4}, "expected the graphons of 4 single units as step functions of as many equal cells"),
        ((4, 4), {"profiles": [5.0], "senders": 4}, "explain [0-9.]+ times the variance that the weights have"),
        (
            (4, 4),
            {"gradients": [1.0], "senders": 4, "returning": 9.0},
            "a mode of the gradients explains [0-9.]+ times",
        ),
    ],
)
def test_units_know_no_more_than_there_is(cells: tuple[int, int], known: dict[str, Any], message: str) -> None:
    layer = gt.Connectivity(0.5, 0.5, gt.StepGraphon(np.full(cells, 0.1) + 0.01 * np.arange(cells[1])),
                            known=gt.Known(**{"profiles": [], **known}))  # fmt: skip
    last = gt.Connectivity(1.0, 1.0, 0.1, known=gt.Known([], gradients=[1.0], coordinates=[1.0], senders=4))
    network = gt.Network([gt.StepGraphon(np.full((4, 6), 0.5)), layer, last])
    with pytest.raises(gt.ConnectivityError, match=f"layer [23]: known: (the coordinates )?{message}"):
        gt.limit_kernel(network, PROBE)


def test_inputs_and_other_widths_are_refused() -> None:
    first = gt.Connectivity(0.5, 0.5, 0.1, known=gt.Known([], senders=6))
    with pytest.raises(gt.ConnectivityError, match="inputs are single units already"):
        gt.limit_kernel(gt.Network([first, 1.0]), PROBE)
    other = dataclasses.replace(made(), parameterization="standard", widths=(6, 48, 40, 56))
    with pytest.raises(gt.ConnectivityError, match="expected as many single units as the network's widths say, 48"):
        gt.limit_kernel(other, PROBE)


def test_scores_of_nothing_are_refused() -> None:
    network = gt.Network([1.0] * 3, "step", outputs=3)
    for x, density in ((X, 0.4), (0 * X, 0.4)):
        with pytest.raises(gt.ConnectivityError, match=r"density: 0\.4 cannot be reached, since only"):
            gt.saliency_network(network, x, LABELS, density, (6, 24, 20, 3), positions="units")


def test_the_scale_of_inputs_changes_no_mask() -> None:
    network = gt.Network([1.0] * 4, "relu", outputs=3)
    one, other = (
        gt.saliency_network(network, size * X, 0 * TARGETS, 0.4, (6, 24, 20, 28, 3), loss="squared", positions="units")
        for size in (1.0, 2.0**-90)
    )
    for a, b in zip(one.layers, other.layers, strict=True):
        np.testing.assert_allclose(b.mask.values, a.mask.values, rtol=1e-9, atol=1e-12)  # type: ignore[attr-defined]
