"""Masks with exact budgets: counts, probabilities of entries, dead units."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import brentq

import graphon_theory as gt
from graphon_theory.errors import InputError, NetworkError

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


def test_n_of_m_keeps_the_budget_and_the_pattern() -> None:
    crowded = gt.StepGraphon([[0.9, 0.05, 0.3], [0.2, 0.6, 0.0]], [0, 0.5, 1], [0, 0.25, 0.5, 1])
    network = gt.Network([0.3, crowded, 0.4])
    widths = (10, 24, 40, 1)
    for seed in range(4):
        masks = gt.sample_masks(network, widths, seed, pattern="2:4")
        for mask, expected in zip(masks, (0.3 * 240, crowded.mean() * 960, 0.4 * 40), strict=True):
            assert int(mask.sum()) == round(float(expected))
            groups = np.add.reduceat(mask, np.arange(0, mask.shape[1], 4), axis=1, dtype=int)
            assert groups.max() <= 2
        assert not masks[1][20:, 12:].any()  # what the graphon keeps empty


def test_n_of_m_moves_odds_by_one_factor_where_groups_are_not_full() -> None:
    crowded = gt.StepGraphon([[0.9, 0.1, 0.3]], [0, 1], [0, 0.25, 0.5, 1])
    network, rng = gt.Network([0.5, crowded, 0.5]), np.random.default_rng(0)
    draws = [gt.sample_masks(network, (3, 16, 50, 1), rng, pattern=[None, "2:4", None])[1] for _ in range(40)]
    mean = np.mean(draws, axis=(0, 1)).reshape(4, 4).mean(axis=1)  # of 40 x 50 rows
    assert mean[0] == 0.5  # the full group
    p = np.array([0.1, 0.3, 0.3])
    factor = brentq(lambda f: float((f * p / (1 - p + f * p)).sum()) - 1.1, 1.0, 50.0)  # 6.4 a row, 2 of them there
    expected = factor * p / (1 - p + factor * p)
    assert np.abs(mean[1:] - expected).max() < 4.5 * 0.5 / np.sqrt(40 * 50 * 4)


def test_tiles_are_kept_whole() -> None:
    network = gt.Network([0.5, gt.StepGraphon([[0.8, 0.5], [0.6, 0.6]]), 0.5])
    mask = gt.sample_masks(network, (8, 32, 64, 1), 3, pattern=[None, "8x4", None])[1]
    tiles = mask.reshape(8, 8, 8, 4)
    np.testing.assert_array_equal(tiles.any(axis=(1, 3)), tiles.all(axis=(1, 3)))
    assert abs(int(mask.sum()) - 0.625 * mask.size) <= 16


def test_units_that_would_be_read_are_read() -> None:
    network = gt.Network([1.0, 0.02, 0.5])  # 4 readers of every unit expected: some would have none
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = [gt.sample_masks(network, (3, 100, 200, 1), rng)[1] for _ in range(20)]
    assert all(mask.any(axis=0).all() and mask.sum() == 400 for mask in masks)
    counts = np.sum(masks, axis=(0, 1))  # 80 expected of each: no column is favoured
    assert np.abs(counts - 80).max() < 4.5 * np.sqrt(80)


def test_what_is_refused() -> None:
    with pytest.raises(NetworkError, match="widths: expected 3 unit counts"):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4), 0)
    with pytest.raises(InputError, match='pattern: expected "n:m"'):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4, 1), 0, pattern="2/4")
    with pytest.raises(InputError, match="at most 4 of 4 can be kept"):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4, 1), 0, pattern="5:4")
    with pytest.raises(InputError, match="one a layer, that is 2"):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4, 1), 0, pattern=["2:4"])
    with pytest.raises(NetworkError, match="layer 1 has 12 connections to place, and 2 of every 4 leave room for 8"):
        gt.sample_masks(gt.Network([0.75, 0.5]), (4, 4, 1), 0, pattern="2:4")
    with pytest.raises(NetworkError, match="not made of tiles 3 x 2"):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4, 1), 0, pattern="3x2")
    with pytest.raises(NetworkError, match="the network has 1 outputs"):
        gt.sample_masks(gt.Network([0.5, 0.5]), (4, 4, 2), 0)
