"""Saliency, N:M, unit and global pruning: closed form against Monte Carlo, against real masks, and at the door."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.pruning.weight_laws import LAWS, weight_law

FloatArray = NDArray[np.float64]
SAMPLES = 10_000_000


def monte_carlo_scores(
    law: gt.Connectivity, kept: NDArray[np.bool_], w: FloatArray, u: FloatArray, v: FloatArray
) -> FloatArray:
    """z-scores of W and V over four cells of positions (and of the mean weight against D = 0)."""
    z = []
    for (u_low, u_high), (v_low, v_high) in itertools.product(((0, 0.3), (0.3, 1)), ((0, 0.6), (0.6, 1))):
        here = (u >= u_low) & (u < u_high) & (v >= v_low) & (v < v_high)
        for graphon, power in ((law.mask, 0), (law.variance, 2), (law.drift, 1)):
            wanted = graphon.cell_means([u_low, u_high], [v_low, v_high])[0, 0]
            sample = np.where(kept[here], w[here] ** power, 0.0)
            error = sample.std() / math.sqrt(len(sample))
            z.append((sample.mean() - wanted) / error if error else (sample.mean() - wanted) / 1e-15)
    return np.array(z)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(
    ("density", "samples"),
    [pytest.param(0.2, SAMPLES // 20, id="quick"), pytest.param(0.2, SAMPLES, id="full", marks=pytest.mark.slow)],
)
def test_saliency_law_is_what_monte_carlo_finds(name: str, density: float, samples: int) -> None:
    def row(u: FloatArray) -> FloatArray:
        return 0.3 + u**2

    def column(v: FloatArray) -> FloatArray:
        return 1.4 - v

    rng = np.random.default_rng(5)
    law = gt.saliency_pruning(row, column, density, name)
    u, v = rng.random(samples), rng.random(samples)
    w = weight_law(name).draw(rng, samples)
    score = np.abs(w) * row(u) * column(v)
    tau = np.quantile(score, 1 - density)  # its own error, of order samples^(-1/2), is that of the density
    z = monte_carlo_scores(law, score > tau, w, u, v)
    assert len(z) == 12
    assert np.abs(z).max() < 3, z


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("samples", [SAMPLES // 20, pytest.param(SAMPLES, marks=pytest.mark.slow)])
def test_magnitude_law_is_what_monte_carlo_finds(name: str, samples: int) -> None:
    w = weight_law(name).draw(np.random.default_rng(6), samples)
    law = gt.magnitude_pruning(0.3, name)
    kept = np.abs(w) > weight_law(name).threshold(0.3)
    for sample, wanted in ((kept * 1.0, 0.3), (kept * w * w, law.variance.mean()), (kept * w, 0.0)):
        assert abs(sample.mean() - wanted) < 3 * sample.std() / math.sqrt(samples)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 8), (3, 5)])
def test_n_m_law_is_what_monte_carlo_finds(name: str, n: int, m: int) -> None:
    groups = 60_000
    w = weight_law(name).draw(np.random.default_rng(71), groups * m).reshape(groups, m)
    law = gt.n_m_pruning(n, m, name)
    squares = np.sort(w * w, axis=1)[:, -n:].sum(axis=1) / m
    assert law.mask.mean() == n / m
    assert abs(squares.mean() - law.variance.mean()) < 3 * squares.std() / math.sqrt(groups)


def test_n_m_law_lies_between_random_and_magnitude() -> None:
    assert gt.n_m_pruning(4, 4) == gt.Connectivity(1.0)
    moments = [gt.n_m_pruning(m // 4, m).variance.mean() for m in (4, 8, 64, 1024)]
    limit = gt.magnitude_pruning(0.25).variance.mean()
    assert np.all(np.diff([0.25, *moments, limit]) > 0)
    assert limit - moments[-1] < 1e-3
    assert gt.n_m_pruning(2, 4, "uniform").variance.mean() == pytest.approx(0.8, abs=1e-14)  # E[p(3 - 3p + p^2)]


def test_unit_pruning_by_norm_is_what_monte_carlo_finds() -> None:
    n, units, share = 50, 40_000, 0.3
    squares = (np.random.default_rng(8).standard_normal((units, n)) ** 2).mean(axis=1)
    kept = np.sort(squares)[-round(share * units) :]
    law = gt.unit_pruning(share, 0.5, fan_in=n)
    assert law.mask.mean() == pytest.approx(share * 0.5, abs=1e-16)
    ratio = law.variance.mean() / law.mask.mean()
    # the mean of the best share has the variance of max(X, q) - q about it, over the share
    assert abs(kept.mean() - ratio) < 3 * np.maximum(squares, kept[0]).std() / (share * math.sqrt(units))
    assert law.mask(0.2, 0.4) == 1
    assert law.mask(0.2, 0.6) == law.mask(0.4, 0.4) == law.variance(0.4, 0.4) == 0
    plain = gt.unit_pruning(share, 0.5)
    assert plain.variance is plain.mask


def test_saliency_threshold_is_solved_to_rounding() -> None:
    for name, density in zip(LAWS, (0.02, 0.9, 0.2), strict=True):
        for row, column in ((np.sqrt, lambda v: 2 - v), ("exp(-2*u)", "1 + v**2"), ([1, 4, 2], [1, 3])):
            law = gt.saliency_pruning(row, column, density, name)
            assert abs(law.mask.mean() - density) < 2e-14
            assert law.mask.T(0.2, 0.9) == law.mask(0.9, 0.2)


def test_factors_of_every_kind_mean_the_same() -> None:
    import sympy as sp

    u = sp.Symbol("u")
    laws = [
        gt.saliency_pruning(row, column, 0.3)
        for row, column in (
            (lambda u: 1 + u, lambda v: 2 - v),
            ("1 + u", "2 - v"),
            (1 + u, gt.AnalyticGraphon("2 - v")),
        )
    ]
    at = np.linspace(0, 1, 7)
    for law in laws[1:]:
        for one, other in ((law.mask, laws[0].mask), (law.variance, laws[0].variance)):
            np.testing.assert_allclose(one(at[:, None], at), other(at[:, None], at), rtol=1e-13)


def test_factors_on_blocks_give_step_graphons_and_constant_ones_magnitude_pruning() -> None:
    law = gt.saliency_pruning([1, 2, 4], [3, 1], 0.25)
    assert isinstance(law.mask, gt.StepGraphon)
    assert law.mask.values.shape == (3, 2)
    flat = gt.saliency_pruning(7, "3", 0.25)
    magnitude = gt.magnitude_pruning(0.25)
    assert flat.mask.mean() == pytest.approx(0.25, rel=1e-14)
    assert flat.variance.mean() == pytest.approx(magnitude.variance.mean(), rel=1e-14)


def test_nothing_survives_where_a_factor_is_zero() -> None:
    law = gt.saliency_pruning([0, 1], 1, 0.4)
    assert law.mask(0.2, 0.5) == law.variance(0.2, 0.5) == 0
    assert law.mask(0.7, 0.5) == pytest.approx(0.8)
    assert gt.saliency_pruning([0, 1], 1, 0.5).mask(0.7, 0.5) == 1
    with pytest.raises(gt.ConnectivityError, match=r"density: 0.6 cannot be reached, since only 0.5"):
        gt.saliency_pruning([0, 1], 1, 0.6)


def test_saliency_laws_go_through_the_limit_kernel() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3))
    law = gt.saliency_pruning(lambda u: 0.5 + u, lambda v: 1.5 - v, 0.3)
    smooth = gt.limit_kernel(gt.Network([1.0, law, law, 1.0]), x, rtol=1e-8).ntk.values
    steps = []
    for n in (8, 16):
        step = gt.Connectivity(law.mask.to_step(n), law.variance.to_step(n))
        steps.append(np.abs(gt.limit_kernel(gt.Network([1.0, step, step, 1.0]), x).ntk.values / smooth - 1).max())
    assert steps[0] < 0.02
    assert 3 < steps[0] / steps[1] < 5  # second order in the blocks


# --- one threshold over all layers


INIT_DEVIATION: dict[str, Callable[[int], float]] = {
    "he": lambda n: math.sqrt(2 / n),
    "lecun": lambda n: math.sqrt(1 / n),
    "torch": lambda n: math.sqrt(1 / (3 * n)),
    "ntk": lambda n: 1.0,
}


@pytest.mark.parametrize("init", INIT_DEVIATION)
@pytest.mark.parametrize("density", [0.2, 0.02])
def test_global_threshold_gives_a_real_magnitude_masks_densities(init: str, density: float) -> None:
    widths = (784, 1024, 1024, 10)
    rng = np.random.default_rng(11)
    law = weight_law("uniform" if init == "torch" else "normal")
    weights = [INIT_DEVIATION[init](n) * law.draw(rng, n * m) for n, m in itertools.pairwise(widths)]
    magnitudes = np.abs(np.concatenate(weights))
    tau = np.partition(magnitudes, -round(density * len(magnitudes)))[-round(density * len(magnitudes))]
    for index, (layer, w) in enumerate(zip(gt.prune_globally(init, density, widths), weights, strict=True)):
        p = layer.mask.mean()
        kept = np.abs(w) >= tau
        assert abs(kept.mean() - p) <= 3 * math.sqrt(p * (1 - p) / len(w)), (init, index)
        squares = np.where(kept, (w / INIT_DEVIATION[init](widths[index])) ** 2, 0.0)
        assert abs(squares.mean() - layer.variance.mean()) <= 3 * squares.std() / math.sqrt(len(w)) + 1e-15


def test_global_threshold_weighs_layers_by_their_connections() -> None:
    widths = (30, 80, 50, 5)
    laws = [gt.Saliency(lambda u: 1 + u, 2.0, init="torch"), None, gt.Saliency([1, 3], init=0.4, weights="uniform")]
    layers = gt.prune_globally(laws, 0.3, widths)
    kept = 30 * 80 * layers[0].mask.mean() + 50 * 5 * layers[2].mask.mean()
    assert kept == pytest.approx(0.3 * (30 * 80 + 50 * 5), rel=1e-13)
    assert layers[1] == gt.Connectivity(1.0)


def test_at_equal_scales_one_threshold_is_magnitude_pruning_of_each_layer() -> None:
    for layer in gt.prune_globally("ntk", 0.2, (7, 300, 20)):
        assert layer.mask.mean() == pytest.approx(0.2, rel=1e-14)
        assert layer.variance.mean() == pytest.approx(gt.magnitude_pruning(0.2).variance.mean(), rel=1e-14)


def test_unequal_fan_ins_give_layers_their_own_ratio_of_variance_to_mask() -> None:
    ratios = [layer.variance.mean() / layer.mask.mean() for layer in gt.prune_globally("he", 0.2, (784, 1024, 256, 10))]
    assert np.all(np.abs(np.diff(ratios)) > 0.05)


def test_erk_densities() -> None:
    widths, density = (784, 300, 100, 10), 0.1
    p = np.array(gt.erk_densities(widths, density))
    sizes = np.array([784 * 300, 300 * 100, 1000])
    assert p @ sizes == pytest.approx(density * sizes.sum(), rel=1e-14)
    shape = np.array([1084 / (784 * 300), 400 / 30000, 110 / 1000])
    free = p < 1
    assert free.sum() == 2
    assert np.ptp(p[free] / shape[free]) < 1e-12
    assert gt.erk_densities((100, 100, 100), 0.2) == pytest.approx((0.2, 0.2))
    assert gt.erk_densities((100, 100, 10), 1.0) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gt.saliency_pruning("u - 0.5", 1, 0.2), r"row_factor: .* >= 0 .* reaches -0.5"),
        (lambda: gt.saliency_pruning(1, [0, 0], 0.2), r"column_factor: .* is 0 everywhere"),
        (lambda: gt.saliency_pruning("v", 1, 0.2), r"row_factor: expected an expression in u alone"),
        (lambda: gt.saliency_pruning(1, gt.AnalyticGraphon("u"), 0.2), r"column_factor: .* function of v alone"),
        (lambda: gt.saliency_pruning([[1, 2]], 1, 0.2), r"row_factor: .* 1-D array, got shape \(1, 2\)"),
        (lambda: gt.saliency_pruning("log(u)", 1, 0.2), r"row_factor: "),
        (lambda: gt.saliency_pruning(1, 1, 1.2), r"density: .* in \(0, 1\], got 1.2"),
        (lambda: gt.saliency_pruning(1, 1, 0.2, "cauchy"), r"weights: expected the law"),
        (lambda: gt.n_m_pruning(3, 2), r"n, m: .* 0 < n <= m .* got 3, 2"),
        (lambda: gt.n_m_pruning(2.0, 4), r"n, m: expected whole numbers"),  # type: ignore[arg-type]
        (lambda: gt.unit_pruning(0.0), r"rows: .* in \(0, 1\], got 0.0"),
        (lambda: gt.unit_pruning(0.5, fan_in=0), r"fan_in: expected a positive whole number"),
        (lambda: gt.prune_globally(["he"], 0.2, (3, 4, 5)), r"laws: 3 widths mean 2 layers, got 1 laws"),
        (lambda: gt.prune_globally(["he", "xavier"], 0.2, (3, 4, 5)), r"laws: layer 2: init: expected one of ntk"),
        (lambda: gt.prune_globally([None, None], 0.2, (3, 4, 5)), r"laws: every layer is None"),
        (lambda: gt.prune_globally([0.2, 0.2], 0.2, (3, 4, 5)), r"laws: layer 1: expected a Saliency"),  # type: ignore[list-item]
        (lambda: gt.prune_globally("he", 0.2, (3,)), r"widths: expected all unit counts"),
        (lambda: gt.prune_globally("he", 0.2, (3, 0)), r"widths: expected a positive whole number"),
    ],
)
def test_bad_laws_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(gt.ConnectivityError, match=message):
        call()
