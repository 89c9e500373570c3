"""Sums over paths are the mean over all signs, and what they are refused for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_validation as gv
from graphon_theory.errors import NetworkError
from graphon_validation.experiments.path_experiments import path_sum, squared_layers


def trace_by_loops(weights: list[NDArray[np.float64]], masks: list[NDArray[np.bool_]], x: NDArray[np.float64]) -> float:
    """sum_l |gradient of f at layer l's surviving weights|^2 of a ReLU network with one output and one input."""
    signals, total = [x], 0.0
    for w in weights[:-1]:
        signals.append(np.maximum(w @ signals[-1], 0.0))
    back = np.ones(1)
    for w, mask, signal in zip(weights[::-1], masks[::-1], signals[::-1], strict=True):
        total += float((np.outer(back, signal) ** 2)[mask].sum())
        back = (w.T @ back) * (signal > 0)
    return total


def test_the_sum_over_paths_is_the_mean_over_all_signs() -> None:
    """Every sign pattern of eleven weights, one of them pruned: exact."""
    rng = np.random.default_rng(0)
    shapes = ((2, 2), (2, 2), (1, 2))
    sizes = [rng.uniform(0.3, 2.0, shape) for shape in shapes]
    masks = [np.ones(shape, dtype=bool) for shape in shapes]
    masks[1][0, 1] = False
    sizes[1][0, 1] = 0.0
    x = np.array([[0.7, -1.3]])
    count = sum(size.size for size in sizes)
    total = 0.0
    for signs in itertools.product((-1.0, 1.0), repeat=count):
        parts = np.split(np.array(signs), np.cumsum([size.size for size in sizes])[:-1])
        weights = [size * part.reshape(size.shape) for size, part in zip(sizes, parts, strict=True)]
        total += trace_by_loops(weights, masks, x[0])
    layers = [(mask.astype(float), size**2) for mask, size in zip(masks, sizes, strict=True)]
    assert path_sum(layers, x) == pytest.approx(total / 2**count, rel=1e-12)


def test_networks_with_redrawn_signs_scatter_around_their_sum() -> None:
    x = np.random.default_rng(1).standard_normal((3, 6))
    model = gv.prune(gv.dense((6, 24, 20, 2), 0), "magnitude", 0.4, layers=[1])
    traces = [
        float(np.einsum("oii->", gv.empirical_kernel(gv.apply_protocol(model, "signs", seed), x).ntk.values))
        for seed in range(200)
    ]
    error = np.std(traces, ddof=1) / np.sqrt(len(traces))
    assert abs(np.mean(traces) - path_sum(squared_layers(model), x)) < 4 * error
    assert error < 0.05 * np.mean(traces)


def test_gates_that_are_no_fair_coins_are_refused() -> None:
    for options in ({"activation": "erf"}, {"bias_variance": 0.1}):
        with pytest.raises(NetworkError, match="fair coins"):
            squared_layers(gv.dense((3, 4, 1), 0, **options))
