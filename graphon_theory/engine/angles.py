"""Small angles between inputs, carried through layers as 1 - rho, where duals hang on the angle alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.engine import close_loops
from graphon_theory.engine.operators import LayerOperator


class AngularForm(NamedTuple):
    """C = sqrt(C11 C22) (1 - gamma) and Cdot as functions of the angle, as ``close_loops`` reads them.

    Lines of slopes alpha, beta through 0: (False, alpha beta, (beta - alpha)^2); a jump at 0 between values a and b:
    (True, (a^2 + b^2) / 2, (b - a)^2).
    """

    jumps: bool
    first: float
    second: float

    @classmethod
    def of(cls, activation: Activation) -> AngularForm | None:
        """None where phi is smooth, or kinked in another way."""
        if activation.homogeneous and len(activation.parameters) == 2 and activation.parameters[1] > 0:
            return cls(False, *activation.parameters)
        if activation.levels is not None and float(activation(0.0)) == 0:  # else dead positions are no right angles
            low, high = activation.levels
            return cls(True, 0.5 * (low * low + high * high), (high - low) ** 2)
        return None

    def duals(self, gaps: FloatArray, opposite: FloatArray) -> tuple[FloatArray, FloatArray]:
        """gamma and Cdot (positions, pairs) at 1 - |rho|; ``opposite`` is 1 where rho is negative."""
        gammas, dots = np.empty_like(gaps), np.empty_like(gaps)
        close_loops.angular_duals(*self, np.ascontiguousarray(gaps), np.ascontiguousarray(opposite), gammas, dots)
        return gammas, dots


def first_gaps(op: LayerOperator, x: FloatArray, rows: IntArray, columns: IntArray) -> tuple[FloatArray, FloatArray]:
    """1 - |rho| (positions, pairs) behind the first layer, and 1 where rho is negative."""
    gaps, opposite = np.empty((2, len(op.variance), len(rows)))
    variance = np.ascontiguousarray(op.variance)
    close_loops.first_gaps(variance, op.bias, np.ascontiguousarray(x), rows, columns, gaps, opposite)
    return gaps, opposite


def gaps_above(
    op: LayerOperator,
    below: FloatArray,
    here: FloatArray,
    sides: Sequence[FloatArray],
    rows: IntArray,
    columns: IntArray,
) -> Iterator[FloatArray]:
    """1 - rho (receiving, pairs) behind a weight layer, from ``sides`` = (1 - rho, ...) below; then 1 + rho likewise.

        1 - rho = (1/2) [int V (r / s - r' / s')^2 + sigma_b^2 (1 / s - 1 / s')^2] + int V r r' (1 - rho) / (s s'),

    a sum without cancellation; for 1 + rho the inverses in the bias' part are added. ``below`` (sending, N): the roots
    r of C; ``here`` (receiving, N): the roots s of K.
    """
    size = np.sqrt((below * below).sum(axis=0))  # of an input's own signals: what is left is neither large nor small
    size = np.where(size > 0, size, 1.0)
    roots, plain = below / size, np.divide(1.0, here, out=np.zeros_like(here), where=here > 0)
    inverse = size * plain
    squares = np.empty((len(here), len(rows)))
    variance = np.ascontiguousarray(op.variance)
    close_loops.squares_above(variance, roots, inverse, rows, columns, squares)
    both = roots[:, rows] * roots[:, columns]
    scale = inverse[:, rows] * inverse[:, columns]
    dead = (here[:, rows] == 0) | (here[:, columns] == 0)  # at a right angle to everything
    for side, sign in zip(sides, (-1.0, 1.0), strict=False):
        ends = math.sqrt(op.bias) * (plain[:, rows] + sign * plain[:, columns])
        gaps = 0.5 * (squares + ends**2) + scale * products(variance, both * side)
        yield np.clip(np.where(dead, 1.0, gaps), 0.0, 2.0)


def products(matrix: FloatArray, values: FloatArray) -> FloatArray:
    """``matrix @ values`` (receiving, pairs); a pair's numbers do not depend on those beside it."""
    out = np.empty((len(matrix), values.shape[1]))
    close_loops.products(np.ascontiguousarray(matrix), np.ascontiguousarray(values), out)
    return out


def gaps_of_sum(
    parts: tuple[FloatArray, FloatArray],
    whole: FloatArray,
    gaps: tuple[FloatArray, FloatArray],
    rows: IntArray,
    columns: IntArray,
) -> FloatArray:
    """1 - rho (positions, pairs) of a sum of two independent parts, from theirs.

    ``parts`` and ``whole`` (positions, N): square roots of their variances.
    """
    inverse = np.divide(1.0, whole, out=np.zeros_like(whole), where=whole > 0)
    out = np.zeros_like(gaps[0])
    for part, gap in zip(parts, gaps, strict=True):
        left, right = part[:, rows] * inverse[:, rows], part[:, columns] * inverse[:, columns]
        out += 0.5 * (left - right) ** 2 + left * right * gap
    out[(whole[:, rows] == 0) | (whole[:, columns] == 0)] = 1.0  # dead for one of the two
    return np.clip(out, 0.0, 2.0)
