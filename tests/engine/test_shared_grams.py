"""Shared Gram tiles: the same bits as without, within the bound of memory, whoever comes first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.engine import recursion, shared_grams, steps
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.engine.shared_grams import SharedGrams

RNG = np.random.default_rng(0)
X, FEW = RNG.standard_normal((330, 130)), 70  # enough for the zonal route; inputs of all others
X2 = RNG.standard_normal((310, 130))
UNEVEN = gt.StepGraphon(RNG.uniform(0.1, 0.9, (3, 2)), v_edges=[0.0, 0.25, 1.0])
NETWORKS = {
    "thin": gt.Network([0.1] * 3),  # zonal
    "full": gt.Network([1.0] * 3),
    "deep": gt.Network([0.4] * 5, "erf", bias_variance=0.1),
    "two inputs": gt.Network([UNEVEN, 0.5, 0.5], bias_variance=0.2),
    "two inputs again": gt.Network([UNEVEN, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5]),
    "three blocks": gt.Network([1.0, gt.StepGraphon(RNG.uniform(0.1, 0.9, (3, 3))), 0.5], bias_variance=0.1),
    "wide": gt.Network([0.3, gt.StepGraphon(RNG.uniform(0.1, 0.9, (20, 20))), 0.5], bias_variance=0.1),
    "residual": gt.Network([gt.Dense(0.5), gt.Residual(gt.Pointwise("relu"), gt.Dense(0.7)), gt.Dense(1.0)]),
}


def whole(
    name: str, grams: SharedGrams | None = None, x2: Any = None, dtype: Any = "float64", size: int = len(X)
) -> list[np.ndarray[Any, Any]]:
    second = None if x2 is None else x2[:size]
    nngp, ntk, _ = PreparedKernel.of(NETWORKS[name], X[:size], second, 1e-8, np.dtype(dtype)).whole(grams=grams)
    return [nngp, ntk]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("x2", [None, X2])
def test_shared_tiles_are_those_of_each_network(dtype: str, x2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_grams, "_WORTH", 1)
    for size, names in ((len(X), ["thin", "full"]), (FEW, [*NETWORKS])):
        alone = {name: whole(name, None, x2, dtype, size) for name in names}
        for memory in (1e9, 2e4, 0.0):
            grams = SharedGrams(memory)
            for name in [*names, *names]:
                for got, expected in zip(whole(name, grams, x2, dtype, size), alone[name], strict=True):
                    np.testing.assert_array_equal(got, expected)
            assert grams.held <= memory
            assert (grams.held == 0) == (memory == 0 or (memory < 1e9 and size == len(X)))  # smaller than a tile


def test_constants_of_all_densities_form_one_gram_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    formed: list[int] = []
    gram = steps.InputStep.gram

    def counted(self: Any, x1: Any, x2: Any, tile: Any, work: Any) -> Any:
        before = grams.held
        out = gram(self, x1, x2, tile, work)
        formed.append(grams.held - before)
        return out

    monkeypatch.setattr(steps.InputStep, "gram", counted)
    grams = SharedGrams(1e9)
    whole("thin", grams)
    held = grams.held
    assert 330 * 331 / 2 * 8 <= held <= 330 * 330 * 8  # the tiles above the diagonal
    formed.clear()
    whole("full", grams)
    assert formed
    assert not any(formed)


def test_blocks_of_inputs_have_their_own_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recursion, "_FEATURES", 20_000)
    network = NETWORKS["wide"]
    ready = PreparedKernel.of(network, X[:FEW], None, 1e-8, np.dtype(float))
    assert ready.recursion.plan(FEW, FEW).block < FEW
    grams, expected = SharedGrams(1e9), ready.whole()
    for _ in range(2):
        for got, want in zip(ready.whole(grams=grams)[:2], expected[:2], strict=True):
            np.testing.assert_array_equal(got, want)


def test_threads_share() -> None:
    """Networks at the same time: no tile is counted twice."""
    grams, names = SharedGrams(1e9), ["thin", "full", "thin", "full"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: whole(name, grams), names))
    for name, kernels in zip(names, found, strict=True):
        for got, expected in zip(kernels, whole(name), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert grams.held == sum(tile.nbytes for tile in grams._tiles.values())


def test_what_is_formed_as_soon_as_read_is_not_kept() -> None:
    few = SharedGrams(1e9)
    ready = PreparedKernel.of(NETWORKS["thin"], X[:, :60], None, 1e-8, np.dtype(float))
    ready.whole(grams=few)
    assert few.held == 0
