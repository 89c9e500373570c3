"""Masks of every format give the same counts, and what is no mask is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import graphon_theory as gt
from graphon_theory.estimation import masks as module
from graphon_theory.estimation.masks import as_mask, as_masks, as_weights


def example() -> np.ndarray:
    return np.random.default_rng(0).random((23, 37)) < 0.3


def torch_tensor(mask: np.ndarray) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(mask).requires_grad_(False)


FORMATS: dict[str, Callable[[np.ndarray], Any]] = {
    "bool": lambda m: m,
    "float": lambda m: m.astype(np.float32),
    "nested lists": lambda m: m.astype(int).tolist(),
    "packed": gt.PackedMask.pack,
    "csr": sp.csr_array,
    "coo": lambda m: sp.coo_matrix(m.astype(np.int8)),
    "torch": torch_tensor,
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("run", [7, 1 << 20])
def test_every_format_counts_alike(kind: str, run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RUN", run * 37)
    dense = example()
    mask = as_mask(FORMATS[kind](dense))
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(0, 4, 23), rng.integers(0, 3, 37)
    assert mask.shape == dense.shape
    assert mask.count() == dense.sum()
    np.testing.assert_array_equal(mask.dense(), dense)
    np.testing.assert_array_equal(mask.degrees()[0], dense.sum(axis=1))
    np.testing.assert_array_equal(mask.degrees()[1], dense.sum(axis=0))
    for a in range(4):
        np.testing.assert_array_equal(mask.column_counts(rows, 4)[:, a], dense[rows == a].sum(axis=0))
        for b in range(3):
            assert mask.block_counts(rows, 4, columns, 3)[a, b] == dense[np.ix_(rows == a, columns == b)].sum()
    for b in range(3):
        np.testing.assert_array_equal(mask.row_counts(columns, 3)[:, b], dense[:, columns == b].sum(axis=1))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((2, 3), 0.5), r"mask: expected zeros and ones, got 0.5 at \[0, 0\] \(and 5 more"),
        (np.array([[0, 1], [1, 2]]), r"got 2 at \[1, 1\]"),
        (np.array([[0, np.nan]]), r"got nan at \[0, 1\]"),
        (np.zeros(3), r"mask: expected a mask \(receiving units, sending units\), got shape \(3,\)"),
        (np.zeros((0, 3)), r"mask: the layer is empty, shape \(0, 3\)"),
        (np.array([["a"]]), r"mask: expected a mask of zeros and ones, got dtype"),
        ([[1, 0], [1]], r"mask: expected a 2-D array"),
        (sp.csr_array(np.array([[0, 3.0]])), r"expected zeros and ones, got 3.0 among the stored entries"),
        (sp.csr_array((0, 4)), r"mask: the layer is empty"),
    ],
)
def test_what_is_no_mask_is_refused(mask: Any, message: str) -> None:
    with pytest.raises(gt.InputError, match=message):
        as_mask(mask)


def test_duplicate_entries_of_a_sparse_matrix_add_up_before_they_are_judged() -> None:
    twice = sp.coo_array((np.ones(2), ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(gt.InputError, match=r"got 2.0"):
        as_mask(twice)


def test_packed_bits_must_fit_the_columns() -> None:
    with pytest.raises(gt.InputError, match=r"bits: 17 columns are packed in a uint8 array \(rows, 3\), got uint8"):
        gt.PackedMask(np.zeros((4, 2), np.uint8), 17)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([], r"masks: expected a list of masks"),
        (np.ones((2, 2)), r"masks: expected a list of masks from input to output, got ndarray"),
        ([np.ones((3, 2)), np.ones((4, 5))], r"layer 1 has 3 receiving units, but layer 2 has 5 sending ones"),
        ([np.ones((3, 2)), np.zeros((4, 3))], r"layer 2 is dead: its density is 0, none of the 4 x 3 connections"),
        ([np.ones((3, 2)), np.full((4, 3), 2)], r"masks\[1\]: expected zeros and ones"),
    ],
)
def test_networks_that_are_none_are_refused(masks: Any, message: str) -> None:
    with pytest.raises(gt.InputError, match=message):
        as_masks(masks)


def test_weights_at_the_door() -> None:
    with pytest.raises(gt.InputError, match=r"weights: 1 of 6 are not finite, the first is nan at \[1, 2\]"):
        as_weights([[0, 1, 2], [3, 4, np.nan]], (2, 3))
    with pytest.raises(gt.InputError, match=r"expected the mask's shape \(2, 3\), got \(3, 2\)"):
        as_weights(np.zeros((3, 2)), (2, 3))
    with pytest.raises(gt.InputError, match="expected real numbers, got dtype complex"):
        as_weights(np.zeros((2, 3), complex), (2, 3))


def test_torch_weights_come_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    weights = torch.randn(3, 4, requires_grad=True)
    np.testing.assert_array_equal(as_weights(weights, (3, 4)), weights.detach().numpy())
    assert as_weights(weights.bfloat16(), (3, 4)).dtype == np.float32
