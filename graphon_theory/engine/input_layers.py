"""The first layer through few weighted Gram matrices of the inputs (THEORY §3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.products import LOW_RANK, truncated

_WRITTEN = 8  # multiplications that cost as much as one number of a Gram matrix written and read

_Form = tuple[FloatArray, tuple[slice, ...] | None, FloatArray, int]  # profiles, supports, weights, terms


@dataclass(frozen=True)
class InputLayer:
    """The first layer through a few weighted Gram matrices: V = variance_weights @ profiles, W likewise.

    Rows of ``profiles`` (R, d) are the distinct rows of the two operator matrices, up to factors, or a basis of them.
    ``supports``: where each profile is not zero, if that is one block of inputs each. ``mask_weights`` is None where it
    equals ``variance_weights``.
    """

    profiles: FloatArray
    supports: tuple[slice, ...] | None
    variance_weights: FloatArray
    mask_weights: FloatArray | None
    terms: int  # products whose roundings a moment gathers, for telling coincident inputs

    def astype(self, dtype: DTypeLike) -> InputLayer:
        mask = None if self.mask_weights is None else self.mask_weights.astype(dtype)
        profiles, weights = self.profiles.astype(dtype), self.variance_weights.astype(dtype)
        return replace(self, profiles=profiles, variance_weights=weights, mask_weights=mask)

    @classmethod
    def of(cls, op: LayerOperator) -> InputLayer:
        rows = op.variance if op.mask is None else np.concatenate([op.variance, op.mask])
        d, n = rows.shape[1], len(op.variance)
        profiles, weights = _proportional_rows(rows)
        forms: list[_Form] = [(profiles, None, weights, 1)]
        blocks, block_weights = _column_blocks(rows)
        ends = [*(int(row.argmax()) for row in blocks != 0), d]
        forms.append((blocks, tuple(slice(*pair) for pair in pairwise(ends)), block_weights, len(blocks)))
        if min(profiles.shape) >= LOW_RANK:  # rows that span a small space
            left, right = truncated(profiles)
            forms.append((right, None, weights @ left, (4 + len(right)) ** 2))

        def cost(form: _Form) -> int:
            """Multiplications a pair, and what it takes to write a Gram matrix down."""
            profiles, supports, weights, _ = form
            products = profiles.size if supports is None else d
            return products + int(np.count_nonzero(weights)) + _WRITTEN * len(profiles)

        profiles, supports, weights, terms = min(forms, key=cost)
        return cls(profiles, supports, weights[:n], None if op.mask is None else weights[n:], terms)

    @cached_property
    def separate(self) -> FloatArray | None:
        """The diagonal of ``variance_weights`` (R, 1) where every position has a profile of its own."""
        weights = self.variance_weights
        diagonal = np.diagonal(weights)
        return (
            diagonal[:, None]
            if weights.shape[0] == weights.shape[1] and np.array_equal(weights, np.diag(diagonal))
            else None
        )

    def gram(self, x1: FloatArray, x2: FloatArray, out: FloatArray) -> None:
        """sum_j profiles[r, j] x1[i, j] x2[i', j] into ``out`` (R, n1, n2)."""
        if self.supports is None:
            weighted = self.profiles[:, None, :] * x1
            np.matmul(weighted.reshape(-1, x1.shape[1]), x2.T, out=out.reshape(-1, len(x2)))
            return
        for profile, columns, products in zip(self.profiles, self.supports, out, strict=True):
            np.matmul(profile[columns] * x1[:, columns], x2[:, columns].T, out=products)


def _proportional_rows(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(profiles, weights), rows = weights @ profiles to a bit or two: distinct rows scaled to 1, and their scales."""
    scales = np.abs(rows).max(axis=1)
    unit = rows / np.where(scales > 0, scales, 1.0)[:, None]
    seen: dict[bytes, int] = {}  # distinct rows in order, by their bytes
    which = [seen.setdefault(row.tobytes(), len(seen)) for row in np.round(unit, 14) + 0.0]
    weights = np.zeros((len(rows), len(seen)))
    weights[np.arange(len(rows)), which] = scales
    first = np.unique(which, return_index=True)[1]
    return unit[first], weights


def _column_blocks(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(blocks, weights), rows = weights @ blocks: neighbouring columns that are equal, but for roundings."""
    different = np.abs(np.diff(rows)) > 8 * np.finfo(float).eps * np.abs(rows[:, 1:])
    block = np.append(0, np.cumsum(different.any(axis=0)))
    starts = np.searchsorted(block, np.arange(block[-1] + 1))
    return (block == block[starts][:, None]).astype(float), rows[:, starts]
