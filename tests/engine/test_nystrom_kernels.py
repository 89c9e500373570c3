"""Kernels by landmarks, against the formula on whole kernels, and the error that they state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt

NETWORK = gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5], "erf", bias_variance=0.1)
X = np.random.default_rng(0).standard_normal((200, 2))
NEW = np.random.default_rng(1).standard_normal((30, 2))


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_it_is_nystroms_formula(kernel: str) -> None:
    made = gt.nystrom_kernel(NETWORK, X, 25, kernel=kernel, rng=3)
    at = np.sort(np.random.default_rng(3).permutation(200)[:25])
    whole, cross = gt.limit_kernel(NETWORK, X)[kernel].values, gt.limit_kernel(NETWORK, NEW, X)[kernel].values
    inverse = np.linalg.pinv(whole[np.ix_(at, at)], rcond=1e-12, hermitian=True)
    expected = whole[:, at] @ inverse @ whole[at]
    np.testing.assert_allclose(made @ np.eye(200), expected, atol=1e-8)
    np.testing.assert_allclose(made.between(NEW) @ np.eye(200), cross[:, at] @ inverse @ whole[at], atol=1e-8)
    np.testing.assert_allclose(made.between(NEW).T @ np.eye(30), (made.between(NEW) @ np.eye(200)).T, atol=1e-12)
    np.testing.assert_allclose(made.diagonal(), np.diagonal(expected), atol=1e-8)
    assert np.linalg.eigvalsh(whole - expected)[0] > -1e-8


def test_the_stated_error_is_that_of_all_pairs() -> None:
    """Ten draws of pairs: errors lie about the exact root mean square by their standard errors."""
    whole = gt.limit_kernel(NETWORK, X).ntk.values
    root = np.sqrt(np.diagonal(whole))
    scores = []
    for seed in range(10):
        made = gt.nystrom_kernel(NETWORK, X, 12, pairs=400, rng=seed)
        rest = np.random.default_rng(seed).permutation(200)[12:]
        missed = ((whole - made @ np.eye(200)) / np.outer(root, root))[np.ix_(rest, rest)]
        exact = np.sqrt(np.mean(missed[~np.eye(188, dtype=bool)] ** 2))
        scores.append((made.error - exact) / made.standard_error)
    assert abs(np.mean(scores)) < 3 / np.sqrt(10) + 0.5  # heavy tails make a root of few pairs a little low
    assert 0.3 < np.std(scores) < 3
    few, many = (gt.nystrom_kernel(NETWORK, X, count).error for count in (5, 60))
    assert many < 0.1 * few


def test_what_takes_kernels_takes_it() -> None:
    y = np.sin(X[:, 0])
    made = gt.nystrom_kernel(NETWORK, X, 60)
    kernel, cross = made @ np.eye(200), made.between(NEW) @ np.eye(200)
    kernel = (kernel + kernel.T) / 2
    found = gt.kernel_regression(made, y, made.between(NEW), ridge=1e-2)
    expected = gt.kernel_regression(kernel, y, cross, ridge=1e-2)
    np.testing.assert_allclose(found.test_prediction, expected.test_prediction, atol=1e-6)
    modes = gt.spectrum(made, 3)
    np.testing.assert_allclose(modes.eigenvalue, gt.spectrum(kernel, 3).eigenvalue, rtol=1e-10)


def test_refuses() -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"landmarks": 0}, "landmarks"),
        ({"landmarks": 199}, "landmarks: 199 leave fewer than 2"),
        ({"pairs": 1}, "pairs"),
        ({"kernel": "both"}, "kernel"),
        ({"rng": -1}, "rng"),
        ({"dtype": "float16"}, "dtype"),
    )
    for options, message in cases:
        with pytest.raises(gt.InputError, match=message):
            gt.nystrom_kernel(NETWORK, X, **{"landmarks": 5, **options})
    with pytest.raises(gt.InputError, match=rf"x: expected {X.shape[1]} inputs like those of the kernel"):
        gt.nystrom_kernel(NETWORK, X, 5).between(np.ones((3, X.shape[1] + 1)))
