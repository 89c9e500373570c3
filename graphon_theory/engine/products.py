"""Multiplication by operator matrices, through a low rank where that saves work (THEORY §5)."""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import FloatArray

WORK = 2_500_000_000  # multiplications in one call, at most: an interrupt waits for its end
LOW_RANK = 16  # positions from which a low rank of an operator is looked for
_SKETCHED = 512  # positions from which it is looked for by random vectors: a decomposition cannot be interrupted


def truncated(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """matrix = left @ right by a singular value decomposition cut at rounding level, each row to its own scale.

    Of a large matrix only what its action on a few random vectors spans is decomposed, if that is all there is;
    otherwise the factors are (matrix, identity) and save nothing.
    """
    scales = np.abs(matrix).max(axis=1, keepdims=True)
    scaled = matrix / np.where(scales > 0, scales, 1.0)
    if min(matrix.shape) <= _SKETCHED:
        left, right = _cut(scaled)
        return scales * left, right
    step = [-(-n // (_SKETCHED // 2)) for n in matrix.shape]
    some = len(_cut(scaled[:: step[0], :: step[1]])[1])  # the rank of the whole is at least that of a part
    if some <= _SKETCHED // 8:
        directions = np.random.default_rng(0).standard_normal((matrix.shape[1], 2 * some + 16))
        basis = np.linalg.qr(_in_parts(scaled, directions))[0]
        inside = _in_parts(np.ascontiguousarray(scaled.T), basis).T
        left, right = _cut(inside)
        missed = np.abs(scaled - _in_parts(basis, inside)).max()
        if missed <= np.finfo(float).eps * np.sqrt(matrix.size):  # as a full decomposition would
            return scales * (basis @ left), right
    return matrix, np.eye(matrix.shape[1])


def _cut(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """left @ right = matrix with as many columns and rows as singular values above rounding."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = max(1, int((s > 4 * np.finfo(float).eps * s[0]).sum()))
    return u[:, :rank] * s[:rank], vt[:rank]


def _in_parts(matrix: FloatArray, values: FloatArray) -> FloatArray:
    """matrix @ values, by so few rows at a time that an interrupt does not wait."""
    rows = max(1, WORK // values.size)
    return np.concatenate([matrix[start : start + rows] @ values for start in range(0, len(matrix), rows)])


class Product:
    """Multiplication by an operator matrix, through its low rank where that saves work (and is looked for)."""

    def __init__(self, matrix: FloatArray, *, factored: bool = True) -> None:
        self.matrix = matrix
        self.factors: tuple[FloatArray, FloatArray] | None = None
        rows, columns = matrix.shape
        if factored and min(rows, columns) >= LOW_RANK:
            left, right = truncated(matrix)
            if len(right) * (rows + columns) <= 0.6 * rows * columns:
                self.factors = np.ascontiguousarray(left), np.ascontiguousarray(right)

    def astype(self, dtype: DTypeLike) -> Product:
        out = copy(self)
        out.matrix = self.matrix.astype(dtype, copy=False)
        if self.factors is not None:
            left, right = self.factors
            out.factors = left.astype(dtype, copy=False), right.astype(dtype, copy=False)
        return out

    @property
    def rank(self) -> int:
        """Rows of scratch that a product needs; 0 without factors."""
        return 0 if self.factors is None else len(self.factors[1])

    def __call__(self, values: FloatArray) -> FloatArray:
        """matrix @ values."""
        if self.factors is None:
            return self.matrix @ values
        return self.factors[0] @ (self.factors[1] @ values)

    def into(self, values: FloatArray, out: FloatArray, scratch: FloatArray) -> None:
        """out = matrix @ values."""
        if self.matrix.size == 1:
            np.multiply(values, self.matrix[0, 0], out=out)
            return
        if self.factors is None:
            np.matmul(self.matrix, values, out=out)
            return
        left, right = self.factors
        middle = scratch[: len(right) * values.shape[1]].reshape(len(right), -1)
        np.matmul(right, values, out=middle)
        np.matmul(left, middle, out=out)
