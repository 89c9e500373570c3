"""Estimates of one layer: plain loops, known graphons, and nulls that hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import graphon_theory as gt
from graphon_theory.estimation.mask_estimates import _drawn_distances, cuts, sorted_distances

METHODS = ("sas", "sba", "usvt", "neighbourhood")


def test_sas_is_sort_and_average() -> None:
    mask = np.random.default_rng(0).random((50, 70)) < 0.3
    found = gt.estimate_graphon(mask, (5, 7), draws=0)
    ordered = mask[np.argsort(mask.sum(axis=1), kind="stable")][:, np.argsort(mask.sum(axis=0), kind="stable")]
    wanted = [[ordered[10 * a : 10 * a + 10, 10 * b : 10 * b + 10].mean() for b in range(7)] for a in range(5)]
    np.testing.assert_allclose(found.values, wanted, rtol=1e-15)
    assert isinstance(found, gt.StepGraphon)
    assert found.null is None
    assert found.mean() == pytest.approx(mask.mean(), rel=1e-14)


def test_bins_that_do_not_divide_the_units_keep_the_density() -> None:
    mask = np.random.default_rng(1).random((53, 71)) < np.linspace(0, 1, 71) ** 2
    for method in METHODS:
        found = gt.estimate_graphon(mask, (6, 9), method, draws=0)
        if method in ("sas", "sba"):
            assert found.mean() == pytest.approx(mask.mean(), rel=1e-13)
        assert np.allclose(np.round(found.u_edges * 53), found.u_edges * 53, atol=1e-9)  # edges lie between units
    assert np.diff(cuts(53, 6)).min() == 8
    assert np.diff(cuts(53, 6)).max() == 9


@pytest.mark.parametrize("kind", ["packed", "sparse"])
def test_formats_give_one_estimate(kind: str) -> None:
    mask = np.random.default_rng(2).random((40, 30)) < 0.4
    other: Any = gt.PackedMask.pack(mask) if kind == "packed" else sp.csr_array(mask)
    assert gt.estimate_graphon(mask, 6) == gt.estimate_graphon(other, 6)


@pytest.mark.parametrize("method", METHODS)
def test_a_smooth_asymmetric_graphon_comes_back(method: str) -> None:
    """From shuffled masks, in canonical order (both degrees rising), better with more units."""
    truth = gt.AnalyticGraphon("0.1 + 0.6*u*v**2 + 0.2*v")
    errors = []
    for n in (150, 900):
        rng = np.random.default_rng(3)
        mask = truth.sample(n, n + 50, rng)
        mask = mask[rng.permutation(n)][:, rng.permutation(n + 50)]
        found = gt.estimate_graphon(mask, 10, method, draws=0)
        errors.append(gt.l2_distance(found, truth.to_step(10)))
        assert gt.l2_distance(found.T, truth) > 0.1
    assert errors[1] < errors[0]
    assert errors[1] < 0.03  # blocks of "sba" need not be the truth's bins; "usvt" loses modes in the noise


@pytest.mark.parametrize("method", METHODS)
def test_structure_stands_out_from_its_null_and_noise_does_not(method: str) -> None:
    rng = np.random.default_rng(4)
    noise = gt.estimate_graphon(rng.random((150, 200)) < 0.2, 12, method).null
    assert noise is not None
    assert abs(noise.z) < 4
    structure = gt.estimate_graphon(rng.random((150, 200)) < np.linspace(0.1, 0.3, 200), 12, method).null
    assert structure is not None
    assert structure.z > 10


@pytest.mark.parametrize(
    ("shape", "p", "bins"),
    [
        ((300, 200), 0.2, (16, 16)),
        ((100, 100), 0.05, (10, 10)),
        ((50, 400), 0.02, (7, 20)),
        ((200, 300), 0.9, (16, 4)),
    ],
)
def test_null_from_degrees_is_that_of_whole_masks(shape: tuple[int, int], p: float, bins: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    quick = sorted_distances(shape, p, bins, 2000, rng)
    drawn = _drawn_distances(shape, p, bins, "sas", 0.0, 150, rng)
    assert abs(quick.mean() - drawn.mean()) < 3 * drawn.std() / math.sqrt(150) + 0.003 * drawn.mean()
    assert 0.75 < quick.std() / drawn.std() < 1.33


def test_null_with_many_bins_is_the_formula_of_the_theory() -> None:
    shape, p, bins = (1500, 1000), 0.2, (200, 200)
    formula = math.sqrt(p * (1 - p) * (1 / 1000 + 1 / 1500 + 200 * 200 / (1500 * 1000)))
    quick = sorted_distances(shape, p, bins, 50, np.random.default_rng(6))
    assert quick.mean() == pytest.approx(formula, rel=0.005)


def test_default_bin_rule() -> None:
    assert gt.estimate_graphon(np.eye(200, 90), None, draws=0).values.shape == (14, 9)


def test_dense_masks_have_no_structure_in_any_method() -> None:
    for method in METHODS:
        found = gt.estimate_graphon(np.ones((30, 40)), 5, method, draws=3)
        assert found.values == pytest.approx(1.0)
        assert found.null is not None
        assert found.null.distance < 1e-7
        assert found.null.z == 0.0


def test_total_variation_smoothing_lowers_the_error_of_blocks() -> None:
    pytest.importorskip("skimage")
    truth = gt.StepGraphon([[0.1, 0.2], [0.3, 0.6]])
    mask = truth.sample(256, 256, np.random.default_rng(7))
    rough, smooth = (gt.estimate_graphon(mask, 64, smoothing=s, draws=0) for s in (0.0, 0.1))
    assert gt.l2_distance(smooth, truth) < 0.6 * gt.l2_distance(rough, truth)
    with_null = gt.estimate_graphon(mask, 64, smoothing=0.1, draws=5).null
    assert with_null is not None
    assert with_null.z > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bins": 64}, r"bins: a mask of shape \(20, 30\) cannot fill 64 x 64 bins"),
        ({"bins": 0}, r"bins: expected a positive whole number"),
        ({"bins": (3, 4, 5)}, r"bins: expected a positive whole number, a pair"),
        ({"bins": 2.0}, r"bins: expected a positive whole number"),
        ({"bins": 4, "method": "sort"}, r"method: expected one of sas, sba, usvt, neighbourhood, got 'sort'"),
        ({"bins": 4, "smoothing": -1.0}, r"smoothing: expected a weight >= 0"),
        ({"bins": 4, "smoothing": "much"}, r"smoothing: expected a weight >= 0"),
        ({"bins": 4, "draws": 1}, r"draws: expected 0 for no null, or at least 2"),
        ({"bins": 4, "draws": 2.5}, r"draws: expected 0 for no null, or at least 2"),
        ({"bins": 4, "rng": "seed"}, r"rng: expected a numpy Generator or a seed"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.InputError, match=message):
        gt.estimate_graphon(np.ones((20, 30)), **arguments)


def test_dead_masks_and_layers_too_large_for_pairs_are_refused() -> None:
    with pytest.raises(gt.InputError, match="mask is dead: its density is 0"):
        gt.estimate_graphon(np.zeros((20, 30)), 4)
    with pytest.raises(gt.InputError, match=r"method: 'sba' compares .* at most 6000 a side, got shape \(2, 6001\)"):
        gt.estimate_graphon(np.ones((2, 6001)), 2, "sba")
