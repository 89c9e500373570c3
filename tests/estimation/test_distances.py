"""Distances: closed forms, brute force, and bounds that hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.estimation.cut_norms import balanced, enumerate_cut_norm, relax_cut_norm, spectral_norm_bound

FloatArray = NDArray[np.float64]


def brute_force(matrix: FloatArray) -> float:
    """Largest |sum over S x T|, all S and, given S, the best T."""
    best = 0.0
    for chosen in itertools.product((0.0, 1.0), repeat=matrix.shape[0]):
        totals = np.array(chosen) @ matrix
        best = max(best, totals[totals > 0].sum(), -totals[totals < 0].sum())
    return best


def random_matrix(seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 13, 2)
    kinds: list[Callable[[], FloatArray]] = [
        lambda: rng.standard_normal((n, m)),
        lambda: rng.random((n, m)) - 0.5,
        lambda: rng.integers(-1, 2, (n, m)).astype(float),
        lambda: rng.random((n, m)) - rng.random((n, 1)),
    ]
    return kinds[seed % 4]()


def test_cut_norm_bounds_hold_brute_force_on_200_matrices() -> None:
    widths = []
    for seed in range(200):
        matrix = random_matrix(seed)
        wanted = brute_force(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
        lower, upper, (rows, columns) = relax_cut_norm(matrix, np.random.default_rng(seed), 32)
        assert lower <= wanted * (1 + 1e-15)
        assert upper >= wanted
        assert abs(matrix[np.ix_(rows, columns)].sum()) >= lower
        if wanted:
            widths.append((upper - lower) / wanted)
            assert lower > 0.999 * wanted  # the search finds the best sets of so small matrices
        exact = enumerate_cut_norm(matrix)
        assert exact[0] <= wanted * (1 + 1e-15)
        assert exact[1] >= wanted
        assert exact[1] - exact[0] <= 1e-12 * max(wanted, 1e-300) + 1e-300
    print(f"relative width: mean {np.mean(widths):.4f}, largest {np.max(widths):.4f}")
    assert np.mean(widths) < 0.05
    assert np.max(widths) < 0.3  # the relaxation may be off by 0.783


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.floats(-1e3, 1e3, width=32)))
def test_cut_norm_bounds_hold_on_any_matrix(matrix: FloatArray) -> None:
    wanted = brute_force(matrix)
    lower, upper, _ = relax_cut_norm(matrix, np.random.default_rng(0), 8)
    assert lower <= wanted * (1 + 1e-12)
    assert upper >= wanted * (1 - 1e-15)


@pytest.mark.parametrize("size", [5, 20])
@pytest.mark.parametrize("scale", [1e-200, 1e300])
def test_cut_norm_bounds_scale(size: int, scale: float) -> None:
    matrix = np.random.default_rng(4).standard_normal((size, 30)) / 8
    assert gt.cut_norm(scale * matrix) == pytest.approx([scale * x for x in gt.cut_norm(matrix)], rel=1e-7)


def test_balancing_keeps_the_cut_norm() -> None:
    for seed in range(20):
        matrix = random_matrix(seed)[:6, :6]
        extended = balanced(matrix)
        np.testing.assert_allclose(extended.sum(axis=0), 0, atol=1e-13)
        np.testing.assert_allclose(extended.sum(axis=1), 0, atol=1e-13)
        assert brute_force(extended) == pytest.approx(brute_force(matrix), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("shape", [(3, 5), (80, 60), (120, 300)])
def test_spectral_bound_is_above_and_close(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape)
    exact = np.linalg.norm(matrix, 2)
    assert exact <= spectral_norm_bound(matrix) <= exact * (1 + 1e-7)
    assert spectral_norm_bound(np.zeros(shape)) == 0.0


def test_cut_norm_of_graphons_is_weighted_by_lengths() -> None:
    graphon = gt.StepGraphon([[2.0, -1.0], [-3.0, 0.5]], [0, 0.3, 1], [0, 0.6, 1])
    found = gt.cut_norm(graphon)
    assert found.lower == pytest.approx(3 * 0.7 * 0.6, rel=1e-14)
    assert found.upper == pytest.approx(found.lower, rel=1e-12)
    assert found.rows.tolist() == [False, True]
    assert found.columns.tolist() == [True, False]
    lower, upper = gt.cut_norm(graphon, graphon)
    assert lower == upper == 0.0
    assert gt.cut_norm(gt.ConstantGraphon(0.7), 0.2)[0] == pytest.approx(0.5)


def test_cut_norm_of_smooth_graphons_is_bracketed() -> None:
    """u - v: the best sets are u > v's thresholds; S = [a, 1], T = [0, b] give (1 - a) b ((1 + a) - b) / 2."""
    grid = np.linspace(0, 1, 401)
    a, b = np.meshgrid(grid, grid)
    wanted = float(((1 - a) * b * (1 + a - b) / 2).max())
    lower, upper = gt.cut_norm(gt.AnalyticGraphon("u"), gt.AnalyticGraphon("v"))
    assert lower <= wanted <= upper
    assert upper < 1.2 * wanted


@pytest.mark.slow
def test_cut_norm_of_kinked_graphons_is_bracketed() -> None:
    kinked_lower, kinked_upper = gt.cut_norm("min(u, v)", "u*v")  # positive: the whole square is best
    assert kinked_lower <= 1 / 3 - 1 / 4 <= kinked_upper


def test_cut_norm_lies_below_operator_norm_below_l2() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((30, 40)) < 0.3, rng.random((30, 40)) < 0.3
    found = gt.cut_norm(first, second)
    assert 0 < found.lower <= found.upper
    assert found.relative_width < 0.4
    difference = first * 1.0 - second
    sets = difference[np.ix_(found.rows, found.columns)].sum() / 1200
    assert abs(sets) == pytest.approx(found.lower, rel=1e-10)
    assert found.lower <= gt.operator_norm(first, second) <= gt.l2_distance(first, second)


@pytest.mark.slow
def test_cut_norm_of_a_large_difference_of_masks() -> None:
    rng = np.random.default_rng(2)
    first, second = (rng.random((2000, 2000)) < p for p in (np.linspace(0.1, 0.3, 2000)[:, None], 0.2))
    found = gt.cut_norm(first, second)
    # E a - b is linear in u: rows beyond the middle give (1/2)(1/20), the noise adds to it
    assert 0.0245 < found.lower <= found.upper < 0.03
    assert found.relative_width < 0.05


def test_l2_distance_of_steps_with_different_edges() -> None:
    one = gt.StepGraphon([[1.0, 0.0]], [0, 1], [0, 0.3, 1])
    other = gt.StepGraphon([[0.5], [0.25]], [0, 0.4, 1], [0, 1])
    by_hand = 0.3 * (0.4 * 0.25 + 0.6 * 0.5625) + 0.7 * (0.4 * 0.25 + 0.6 * 0.0625)
    assert gt.l2_distance(one, other) == pytest.approx(math.sqrt(by_hand), rel=1e-14)


def test_l2_distance_by_quadrature() -> None:
    assert gt.l2_distance("u", "v") == pytest.approx(math.sqrt(1 / 6), rel=1e-13)
    assert gt.l2_distance("min(u, v)", 0) == pytest.approx(math.sqrt(1 / 6), rel=1e-12)
    half = gt.StepGraphon([[0.0, 1.0]])
    assert gt.l2_distance(half, "v") == pytest.approx(math.sqrt(1 / 12), rel=1e-13)
    assert gt.l2_distance("v", half) == gt.l2_distance(half, "v")


def test_operator_norm_of_steps() -> None:
    rank_one = gt.StepGraphon(np.outer([1.0, 3.0], [2.0, 5.0]), [0, 0.2, 1], [0, 0.7, 1])
    wanted = math.sqrt(0.2 * 1 + 0.8 * 9) * math.sqrt(0.7 * 4 + 0.3 * 25)
    assert gt.operator_norm(rank_one) == pytest.approx(wanted, rel=1e-13)
    with pytest.raises(gt.GraphonError, match="operator_norm: expected step graphons"):
        gt.operator_norm("u*v")


# --- relabelling


def test_alignment_undoes_a_relabelling() -> None:
    rng = np.random.default_rng(3)
    mask = gt.AnalyticGraphon("0.05 + 0.9*u*exp(-2*v)").sample(60, 80, rng)
    rows, columns = rng.permutation(60), rng.permutation(80)
    shuffled = mask[np.ix_(rows, columns)]
    found = gt.align(mask, shuffled)
    assert found.unaligned > 0.3
    assert found.distance == 0.0
    np.testing.assert_array_equal(shuffled[np.ix_(found.rows, found.columns)], mask)


def test_alignment_never_makes_things_worse() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a, b = rng.random((7, 9)), rng.random((7, 9))
        found = gt.align(a, b)
        assert found.distance <= found.unaligned
        assert found.distance == pytest.approx(gt.l2_distance(a, b[np.ix_(found.rows, found.columns)]), rel=1e-13)


def test_cut_distance_bounds_hold_brute_force_over_relabellings() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        a, b = rng.random((3, 4)), rng.random((3, 4))
        wanted = min(
            brute_force((a - b[list(rows)][:, list(columns)]) / 12)
            for rows in itertools.permutations(range(3))
            for columns in itertools.permutations(range(4))
        )
        lower, upper = gt.cut_distance(a, b)
        assert lower <= wanted <= upper * (1 + 1e-14)
    shuffled = a[rng.permutation(3)][:, rng.permutation(4)]
    assert gt.cut_distance(a, shuffled)[1] < 1e-14


def test_bad_sides_are_refused() -> None:
    with pytest.raises(gt.GraphonError, match="a, b: expected equally many blocks"):
        gt.align(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(gt.GraphonError, match="b: expected a mask or a step graphon with equal blocks"):
        gt.align(np.ones((2, 2)), gt.StepGraphon(np.ones((2, 2)), [0, 0.3, 1]))
    with pytest.raises(gt.InputError, match="starts: expected a positive whole number"):
        gt.cut_norm(np.ones((2, 2)), starts=0)
    with pytest.raises(gt.GraphonError, match="b: "):
        gt.cut_norm(1.0, "import os")
