"""Blocks of the units of a residual stream, which several weight layers write to and read (THEORY §8, §11)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.estimation.masks import Ends, as_mask
from graphon_theory.estimation.units import trace

PLACES = [(0, 1), (1, 2), (2, 1), (1, 1), (1, 3)]
UNITS = (6, 240, 150, 3)


def drawn(seed: int = 0) -> tuple[list[Any], list[IntArray], list[FloatArray]]:
    """Masks between blocks of units in no order, the blocks of every layer of units, and the densities between them."""
    rng = np.random.default_rng(seed)
    blocks = [np.arange(6), *(rng.permutation(np.arange(n) % 3) for n in UNITS[1:3]), np.arange(3)]
    densities = [rng.uniform(0.05, 0.95, (int(blocks[b].max()) + 1, int(blocks[a].max()) + 1)) for a, b in PLACES]
    masks = []
    for (a, b), p in zip(PLACES, densities, strict=True):
        masks.append(rng.random((UNITS[b], UNITS[a])) < p[np.ix_(blocks[b], blocks[a])])
    return masks, blocks, densities


def test_units_of_a_stream_have_one_block_in_all_layers() -> None:
    masks, blocks, densities = drawn()
    found = gt.estimate_network(masks, blocks=3, places=PLACES)
    names = []
    for got, true in zip(found.labels, blocks, strict=True):
        pairs = set(zip(got.tolist(), true.tolist(), strict=True))
        assert len(pairs) == true.max() + 1  # the same blocks, by other names
        names.append([old for _, old in sorted(pairs)])
    for layer, p, (a, b) in zip(found, densities, PLACES, strict=True):
        values = layer.mask.values  # type: ignore[attr-defined]
        counts = np.outer(np.bincount(blocks[b]), np.bincount(blocks[a]))[np.ix_(names[b], names[a])]
        chance = p[np.ix_(names[b], names[a])]
        z = (values - chance) / np.sqrt(chance * (1 - chance) / counts)
        assert np.abs(z).max() < 4.5
    dense = [gt.Dense(layer) for layer in found]
    relu = gt.Pointwise("relu")
    stages = [dense[0], gt.Residual(relu, dense[1], relu, dense[2]), gt.Residual(relu, dense[3]), relu, dense[4]]
    assert gt.Network(stages, outputs=3).depth == 5
    with pytest.raises(gt.InputError, match="layers of a residual network are no chain"):
        found[1:3]


def test_the_count_of_blocks_is_found() -> None:
    masks, _, _ = drawn(1)
    assert gt.estimate_network(masks, blocks="auto", places=PLACES).blocks == (6, 3, 3, 3)


def test_a_chain_is_what_it_was() -> None:
    rng = np.random.default_rng(2)
    masks = [rng.random(shape) < 0.4 for shape in ((30, 5), (20, 30), (2, 20))]
    one, two = (gt.estimate_network(masks, blocks=2, places=p) for p in (None, [(0, 1), (1, 2), (2, 3)]))
    assert one == two
    assert one.log_likelihood == two.log_likelihood


def test_what_one_layer_reaches_is_reached() -> None:
    """The stream's second unit hears its branch alone, the third speaks to nobody."""
    masks = [np.array([[1], [0], [1]]), np.array([[1, 0, 0]]), np.array([[0], [1], [0]]), np.array([[1, 1, 0]])]
    ends = [Ends(*pair) for pair in ((0, 1), (1, 2), (2, 1), (1, 3))]
    report = trace([as_mask(mask.astype(bool)) for mask in masks], ends)
    assert [one.tolist() for one in report.reached] == [[True], [True, True, True], [True], [True]]
    assert [one.tolist() for one in report.heard] == [[True], [True, True, False], [True], [True]]
    assert report.effective_density == pytest.approx((1 / 3, 1 / 3, 1 / 3, 2 / 3))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (3, "places: expected a list of pairs"),
        ([(0, 1), (1, 2.0)], "places: expected a list of pairs"),
        ([(0, 1), (1, 2), (2, 1), (1, 1)], "places: expected a pair for each of 5 masks, got 4|the outputs"),
        ([(0, 1), (2, 2), (2, 1), (1, 1), (1, 3)], r"places\[1\]: expected units that masks before it reach, 0 to 1"),
        ([(0, 1), (1, 2), (2, 1), (1, 1), (1, 2)], r"places\[4\]: .*the last mask leads to units of its own"),
        ([(0, 1), (1, 2), (2, 1), (1, 2), (1, 3)], "layer 2 has 150 receiving units, but layer 4 has 240 receiving"),
    ],
)
def test_places_that_do_not_fit(places: Any, message: str) -> None:
    with pytest.raises(gt.InputError, match=message):
        gt.estimate_network(drawn()[0], blocks=2, places=places)
