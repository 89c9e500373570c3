"""Masks with exact budgets: counts, probabilities of entries, dead units."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.errors import NetworkError

W = gt.StepGraphon([[0.9, 0.05, 0.3], [0.2, 0.6, 0.0]], [0, 0.3, 1], [0, 0.5, 0.6, 1])


def test_budgets_are_met_exactly_in_every_layer() -> None:
    network = gt.Network([W, "exp(-3*(u - v)**2)/3", 0.4])
    widths = (23, 41, 37, 1)
    for seed in range(5):
        masks = gt.sample_masks(network, widths, seed)
        assert [m.shape for m in masks] == [(41, 23), (37, 41), (1, 37)]
        u, v = (np.arange(41) + 0.5) / 41, (np.arange(37) + 0.5) / 37
        expected = [
            W.row_means(u, np.linspace(0, 1, 24)).sum(),
            network.layers[1].mask(v[:, None], u[None, :]).sum(),
            0.4 * 37,
        ]
        assert [int(m.sum()) for m in masks] == [round(float(e)) for e in expected]


def test_entries_are_kept_with_their_probabilities() -> None:
    network = gt.Network([W, 0.5])
    draws, widths = 600, (10, 10, 1)
    rng = np.random.default_rng(0)
    mean = np.mean([gt.sample_masks(network, widths, rng)[0] for _ in range(draws)], axis=0)
    p = W.row_means((np.arange(10) + 0.5) / 10, np.linspace(0, 1, 11))
    p = p * round(p.sum()) / p.sum()
    score = (mean - p) / np.sqrt(np.maximum(p * (1 - p), 1e-12) / draws)
    free = (p > 0.01) & (p < 0.99)
    assert np.abs(score[free]).max() < 4.5
    assert (mean[p == 0] == 0).all()


def test_rows_of_a_block_have_the_same_fan_in_but_for_one() -> None:
    masks = gt.sample_masks(gt.Network([1.0, 0.077, 0.5]), (4, 300, 200, 1), 3)
    counts = masks[1].sum(axis=1)
    assert counts.max() - counts.min() <= 1


def test_dead_units_are_reported() -> None:
    with pytest.warns(gt.DeadUnitsWarning, match=r"units receive nothing"):
        gt.sample_masks(gt.Network([0.01, 0.5]), (10, 50, 1), 0)


def test_what_is_refused() -> None:
    with pytest.raises(NetworkError, match="widths: expected 3 unit counts"):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4), 0)
    with pytest.raises(NetworkError, match="the network has 1 outputs"):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4, 2), 0)
