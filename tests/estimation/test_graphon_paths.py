"""Masks in time: one order of units for all times, and steps that mean something."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt

BoolArray = NDArray[np.bool_]


def nested(n_out: int, n_in: int, densities: tuple[float, ...], seed: int) -> list[BoolArray]:
    """Masks of iterative pruning by a score with structure: each is part of the one before."""
    rng = np.random.default_rng(seed)
    score = rng.random((n_out, n_in)) * np.linspace(0.5, 2, n_out)[rng.permutation(n_out), None]
    return [score > np.quantile(score, 1 - p) for p in densities]


def test_path_is_block_means_in_one_order() -> None:
    masks = nested(40, 60, (0.8, 0.4, 0.2), 0)
    path = gt.graphon_path(masks, (0, 10, 30), bins=(4, 5))
    total = np.sum(masks, axis=0)
    rows, columns = np.argsort(total.sum(axis=1), kind="stable"), np.argsort(total.sum(axis=0), kind="stable")
    for t, mask in enumerate(masks):
        wanted = mask[rows][:, columns].reshape(4, 10, 5, 12).mean(axis=(1, 3))
        np.testing.assert_allclose(path.graphon.values[t], wanted, rtol=1e-14)
    assert path.graphon.dims == ("time", "u", "v")
    assert path.time.values.tolist() == [0, 10, 30]
    np.testing.assert_allclose(path.density.values, [mask.mean() for mask in masks])
    np.testing.assert_allclose(path.changed.values, [0, (masks[0] ^ masks[1]).mean(), (masks[1] ^ masks[2]).mean()])
    difference = path.graphon.values[1] - path.graphon.values[0]
    assert path.step.values[1] == pytest.approx(math.sqrt((difference**2).mean()), rel=1e-13)
    assert path.step.values[0] == path.step_cut_upper.values[0] == 0
    assert 0 < path.step_cut_lower.values[1] <= path.step_cut_upper.values[1] <= path.step.values[1] * (1 + 1e-12)
    # nested masks lose connections everywhere, so the whole square is the best set
    assert path.step_cut_lower.values[1] == pytest.approx(path.density.values[0] - path.density.values[1], rel=1e-12)


def test_noise_of_independent_masks() -> None:
    rng = np.random.default_rng(1)
    path = gt.graphon_path([rng.random((200, 300)) < 0.2 for _ in range(12)], bins=(20, 30))
    assert path.step.values[1:].mean() == pytest.approx(path.noise.values[1:].mean(), rel=0.05)


def test_equal_masks_do_not_step() -> None:
    mask = nested(30, 30, (0.3,), 2)[0]
    path = gt.graphon_path([mask, gt.PackedMask.pack(mask)], bins=5)
    assert path.step.values[1] == path.changed.values[1] == path.step_cut_upper.values[1] == 0


def networks() -> list[list[BoolArray]]:
    shapes = ((60, 8), (50, 60), (2, 50))
    layers = [nested(n_out, n_in, (0.9, 0.5, 0.3), seed) for seed, (n_out, n_in) in enumerate(shapes)]
    return [list(one) for one in zip(*layers, strict=True)]


def test_network_path_keeps_units_in_their_blocks() -> None:
    history = networks()
    found = gt.network_path(history, blocks=3)
    assert len(found) == 3
    for one, masks in zip(found, history, strict=True):
        for k in (0, 1, 2, 3):
            np.testing.assert_array_equal(one.labels[k], found[0].labels[k])
        for layer, mask in zip(one, masks, strict=True):
            assert layer.mask.mean() == pytest.approx(mask.mean(), rel=1e-13)
        assert one.units.density == pytest.approx([mask.mean() for mask in masks])
    alone = gt.estimate_network(history[0], blocks=3)
    assert alone.units.density == found[0].units.density


def test_network_path_with_weights_takes_those_of_each_time() -> None:
    history = networks()
    rng = np.random.default_rng(3)
    weights = [[(1 + t) * rng.standard_normal(mask.shape) for mask in masks] for t, masks in enumerate(history)]
    found = gt.network_path(history, weights, blocks=2)
    ratios = [one[1].variance.mean() / one[1].mask.mean() for one in found]
    assert ratios == pytest.approx([1, 4, 9], rel=0.15)


def test_spectrum_along_a_path() -> None:
    x = np.random.default_rng(4).standard_normal((12, 8))
    found = gt.network_path(networks(), blocks=3)
    path = gt.spectrum_path(found, x, (1, 2, 5), count=4, outputs=2)
    assert path.eigenvalue.dims == ("time", "mode")
    assert path.density.dims == ("time", "layer")
    for t, one in enumerate(found):
        modes = gt.spectrum(gt.limit_kernel(gt.Network(list(one), outputs=2), x).ntk.isel(output=0), 4)
        np.testing.assert_allclose(path.eigenvalue.values[t], modes.eigenvalue.values, rtol=1e-12)
        np.testing.assert_allclose(path.energy.values[t], modes.energy.values, rtol=1e-12)
    assert np.all(np.diff(path.trace.values) < 0)  # fewer connections, a smaller kernel


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gt.graphon_path([]), "masks: expected at least one mask"),
        (lambda: gt.graphon_path(np.eye(3)), "masks: expected a sequence of masks"),  # type: ignore[arg-type]
        (lambda: gt.graphon_path([np.eye(4), np.eye(3)], bins=2), r"got \(4, 4\) at time 0 and \(3, 3\) at time 1"),
        (lambda: gt.graphon_path([np.eye(4), np.zeros((4, 4))], bins=2), r"masks\[1\] is dead"),
        (lambda: gt.graphon_path([np.eye(4)] * 2, (1, 1), 2), "times: expected 2 increasing finite numbers"),
        (lambda: gt.network_path([]), "masks: expected the masks of at least one time"),
        (lambda: gt.network_path([[np.eye(3)], [np.eye(4)]]), "the network at time 1 has layers of shape"),
        (lambda: gt.network_path([[np.eye(3)]], []), "weights: expected weights at each of 1 times, got 0"),
        (lambda: gt.spectrum_path([[1.0]], np.eye(2), (1, 2)), "times: expected 1 increasing"),
    ],
)
def test_bad_paths_are_refused(call: Any, message: str) -> None:
    with pytest.raises(gt.InputError, match=message):
        call()
