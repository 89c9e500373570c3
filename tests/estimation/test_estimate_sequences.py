"""Estimated networks as sequences of layers: parts of one are estimates of these layers."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.estimation.masks import as_mask
from tests.networks.things import estimated


def test_estimates_are_sequences_of_layers() -> None:
    found = estimated()
    layers = list(found)
    assert len(found) == 4
    assert all(isinstance(layer, gt.Connectivity) for layer in layers)
    assert (found[0], found[-1]) == (layers[0], layers[3])
    assert found == layers
    assert found == tuple(layers)
    assert found != layers[:3]
    assert found[1] in found
    assert found.index(layers[2]) == 2
    assert list(reversed(found)) == layers[::-1]
    assert gt.Network(found, outputs=2) == gt.Network(layers, outputs=2)
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 3), (2, None), (-2, None), (0, 4), (3, 1), (4, 9)])
def test_parts_of_an_estimate_are_estimates_of_these_layers(first: int, last: int | None) -> None:
    found = estimated(blocks="auto")
    part = found[first:last]
    assert type(part) is type(found)
    kept = list(range(4))[first:last]
    units = list(range(kept[0], kept[-1] + 2)) if kept else list(range(5))[first:][:1]
    assert part == [found[k] for k in kept]
    assert part.coherence == tuple(found.coherence[k] for k in kept)
    assert part.drift == tuple(found.drift[k] for k in kept)
    assert part.blocks == tuple(found.blocks[k] for k in units)
    for name in ("labels", "positions"):
        np.testing.assert_equal(getattr(part, name), tuple(getattr(found, name)[k] for k in units))
    np.testing.assert_equal(part.units.alive, [found.units.alive[k] for k in units])
    assert part.units.density == tuple(found.units.density[k] for k in kept)
    assert part.units.effective_density == tuple(found.units.effective_density[k] for k in kept)
    assert part.held_out == found.held_out
    for layer, (w, rows, columns) in enumerate(zip(part, part.labels[1:], part.labels, strict=False)):
        assert w.mask.values.shape == (rows.max() + 1, columns.max() + 1), layer


def test_layers_that_are_not_neighbours_are_no_estimate() -> None:
    found = estimated()
    for step in (-1, 2):
        with pytest.raises(gt.InputError, match=f"expected neighbouring layers, got every {step}"):
            found[::step]
    assert found.layers[::2] == (found[0], found[2])


def test_without_weights_there_is_neither_coherence_nor_drift() -> None:
    found = gt.estimate_network([np.ones((4, 3)), np.ones((1, 4))], blocks=2)
    assert (found.coherence, found.drift, found.held_out) == (None, None, None)
    assert (found[:1].coherence, found[:1].drift) == (None, None)


def test_an_estimate_s_transpose_is_the_estimate_of_the_transpose() -> None:
    mask = np.random.default_rng(1).random((40, 30)) < 0.3
    one, other = gt.estimate_graphon(mask, (4, 3), draws=0).T, gt.estimate_graphon(mask.T, (3, 4), draws=0)
    assert one == other
    np.testing.assert_array_equal(one.row_labels, other.row_labels)
    np.testing.assert_array_equal(one.column_labels, other.column_labels)
    assert as_mask(mask.T).shape == (len(one.row_labels), len(one.column_labels))
