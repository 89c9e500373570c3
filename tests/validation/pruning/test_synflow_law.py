"""Masks that SynFlow leaves of drawn networks, beside the law that draws none (THEORY §14)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError
from graphon_validation.experiments.synflow_experiments import (
    drawn_densities,
    label_blocks,
    mask_figures,
    synflow_law_experiment,
)


def figures(masks: Sequence[np.ndarray], counts: Sequence[int]) -> np.ndarray:
    """Densities, densities among the alive, spreads of degrees, shares alive; connections by what senders receive."""
    order = np.argsort(masks[0].mean(1), kind="stable")
    blocks = [part.mean() for part in np.array_split(masks[1].mean(0)[order], 3)]
    return np.append(mask_figures(masks, counts), blocks)


def scores(counts: tuple[int, ...], density: float, rounds: int, seeds: int, positions: int) -> np.ndarray:
    dense = gt.Network([1.0] * (len(counts) - 1), outputs=counts[-1])
    law, real = [], []
    for seed in range(seeds):
        found = gt.synflow_network(dense, density, counts, rounds=rounds, positions=positions, rng=seed)
        law.append(figures(drawn_densities(found), counts))
        model = gv.dense(counts, [seed, 1], dtype=torch.float32)
        gv.prune(model, "synflow", density, rounds=rounds)
        real.append(figures([mask.double().numpy() for mask in model.masks], counts))
    one, two = np.array(law), np.array(real)
    error = np.hypot(one.std(0, ddof=1), two.std(0, ddof=1)) / np.sqrt(seeds)
    moves = error > 1e-12
    assert np.allclose(one[:, ~moves], two[:, ~moves])
    return np.asarray((one.mean(0) - two.mean(0))[moves] / error[moves])


def test_masks_of_small_networks() -> None:
    found = scores((16, 160, 160, 160, 5), 0.3, 4, 6, 160)
    assert len(found) > 15
    assert np.abs(found).max() < 4
    assert np.abs(found).mean() < 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "density", "rounds"),
    [((16, 192, 192, 5), 0.2, 10), ((16, 128, 256, 128, 5), 0.3, 1), ((64, 512, 512, 10), 0.1, 30)],
)
def test_masks_of_other_networks(counts: tuple[int, ...], density: float, rounds: int) -> None:
    found = scores(counts, density, rounds, 6, 256)
    # the ends' other degrees are means over positions here, over units there
    assert np.median(np.abs(found)) < 1.5


@pytest.mark.slow
def test_densities_and_kernels_of_wide_networks() -> None:
    counts, density = (64, 1024, 1024, 1024, 1024, 10), 0.1
    dense, x = gt.Network([1.0] * 5, outputs=10), np.random.default_rng(0).standard_normal((30, 64))
    kept, alive, trace, energy = [], [], [], []
    for seed in range(4):
        law = gt.synflow_network(dense, density, counts, rng=seed)
        model = gv.dense(counts, [seed, 1], dtype=torch.float32)
        gv.prune(model, "synflow", density)
        pair = drawn_densities(law), [mask.double().numpy() for mask in model.masks]
        both = [mask_figures(masks, counts) for masks in pair]
        kept.append([one[0] for one in both])
        alive.append([one[4] for one in both])
        kernels = gt.limit_kernel(law, x), gv.empirical_kernel(model.double(), x)
        modes = [np.linalg.eigvalsh(kernel.ntk.mean("output").values)[::-1] for kernel in kernels]
        trace.append([one.sum() for one in modes])
        energy.append([one[:10].sum() / one.sum() for one in modes])
    of_law, of_masks = np.mean(kept, 0)
    np.testing.assert_allclose(of_law, of_masks, rtol=0.1)
    alive_of_law, alive_of_masks = np.mean(alive, 0)
    np.testing.assert_allclose(alive_of_law, alive_of_masks, atol=0.05)
    error = np.std(np.divide(*np.array(trace).T), ddof=1) / 2
    assert abs(np.divide(*np.mean(trace, 0)) - 1) < 0.1 + 2 * error
    assert abs(np.subtract(*np.mean(energy, 0))) < 0.02


def test_blocks_by_label() -> None:
    below = np.array([[1, 1], [0, 0], [1, 0]])  # the middle sender hears least, the first most
    above = np.array([[1, 0, 0], [1, 0, 1]])
    mask = np.arange(9.0).reshape(3, 3)
    (found,) = label_blocks([below, mask, above])
    assert found.tolist() == mask[np.ix_([1, 2, 0], [1, 2, 0])].tolist()
    wide = [np.repeat(np.repeat(one, 4, 0), 4, 1) for one in (below, mask, above)]
    assert np.array_equal(label_blocks(wide)[0], found)


@pytest.mark.slow
def test_an_experiment_goes_on_where_it_was(tmp_path: Path) -> None:
    options: dict[str, Any] = {"densities": [0.3], "rounds": [2], "outputs": 3, "progress": False}
    first = synflow_law_experiment(tmp_path, [24], 3, hidden=[1], inputs=[6], **options)
    both = synflow_law_experiment(tmp_path, [24], 3, hidden=[1, 2], inputs=[6], **options)
    assert both.sizes["layer"] == 3
    assert first.kept.equals(both.kept.isel(setting=[0], layer=slice(2)))
    assert np.isnan(both.kept.values[0, :, :, 2]).all()
    there = synflow_law_experiment(tmp_path, [24, 32], 3, hidden=[1, 2], inputs=[6], finished=True, **options)
    xarray.testing.assert_identical(there, both)
    with pytest.raises(InputError, match="finished"):
        synflow_law_experiment(tmp_path / "empty", [24], 3, inputs=[6], finished=True, **options)
    with pytest.raises(InputError, match="seeds"):
        synflow_law_experiment(tmp_path, [24], 2, inputs=[6], **options)
