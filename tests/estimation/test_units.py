"""Dead units and effective connections, against paths walked one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphon_theory as gt


def alive_by_walking(masks: list[np.ndarray]) -> list[set[int]]:
    """Units met on any path from an input to an output, by listing all paths."""
    sizes = [masks[0].shape[1], *(mask.shape[0] for mask in masks)]
    alive: list[set[int]] = [set() for _ in sizes]
    for path in itertools.product(*map(range, sizes)):
        if all(masks[k][path[k + 1], path[k]] for k in range(len(masks))):
            for k, unit in enumerate(path):
                alive[k].add(unit)
    return alive


@pytest.mark.parametrize("seed", range(6))
def test_units_are_those_on_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random(shape) < 0.3 for shape in ((5, 4), (6, 5), (3, 6))]
    if not all(mask.any() for mask in masks):
        pytest.skip("a layer is empty")
    report = gt.trace_units(masks)
    alive = alive_by_walking(masks)
    assert [set(np.flatnonzero(one)) for one in report.alive] == alive
    assert report.dead == tuple(size - len(one) for size, one in zip((4, 5, 6, 3), alive, strict=True))
    assert report.connected == bool(alive[0])


def test_effective_connections_and_the_text_of_the_report() -> None:
    first = np.array([[1, 0], [0, 0], [0, 1]])  # unit 1 hears nothing
    second = np.array([[1, 1, 0]])  # unit 2 is not heard
    report = gt.trace_units([first, second])
    assert report.density == (2 / 6, 2 / 3)
    assert report.effective_density == (1 / 6, 1 / 3)
    assert report.dead == (1, 2, 0)
    assert "units 1: 1 of 3 alive, 1 unreached, 1 unheard" in str(report)
    assert "layer 2: density 0.6667, effective 0.3333" in str(report)
