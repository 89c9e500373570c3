"""Close inputs: which pairs lie at a small angle at some position of the first layer, found without forming all pairs.

An angle is measured in the layer's own scalar product, biases included. Inputs become unit vectors, seen through a few
orthonormal directions; close ones are close in each, and are looked for along the first in sorted order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.engine import close_loops
from graphon_theory.engine.operators import LayerOperator

_RADII = (1e-2, 1e-3, 1e-4, 1e-5)  # angles below which pairs are close: the first whose search is cheap
_CHEAP = 0.05  # share of all pairs that a search may look at
_FEW = 20_000  # pairs that it may look at in any case
_ALIKE = 1e-2  # least ratio of a row's weights for which one metric serves all positions
_METRICS = 16  # metrics at most, one a position
_COORDINATES = 16  # of the projections by which close inputs are found
_BATCH = 1 << 17  # pairs taken together


@dataclass(frozen=True)
class Metric:
    """Inputs as unit vectors (sqrt(w) x, sqrt(b)) / length, by a few coordinates in which close ones are close.

    An angle at any position of the layer is at least ``ratio`` times the angle here.
    """

    weights: FloatArray  # (d,)
    bias: float
    ratio: float

    def points(self, x: FloatArray) -> tuple[FloatArray, float]:
        """(N, K), inputs of length 0 apart from all others; and half the least distance between opposite ones."""
        vectors = x if (self.weights == 1).all() else x * np.sqrt(self.weights)
        length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors) + self.bias)
        inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
        basis = _basis(len(self.weights) + 1)
        points = (vectors @ basis[:-1] + math.sqrt(self.bias) * basis[-1]) * inverse[:, None]
        points[length == 0] = 9.0
        return points, math.sqrt(self.bias) * float(inverse.min(initial=1.0))


@lru_cache(maxsize=8)
def _basis(dimensions: int) -> FloatArray:
    """Orthonormal directions (dimensions, K), the same at all times."""
    directions = np.random.default_rng(0).standard_normal((dimensions, min(dimensions, _COORDINATES)))
    return np.linalg.qr(directions)[0]


def metrics_of(first: LayerOperator) -> list[Metric]:
    """Metrics that between them see every pair that is close at some position of the first layer."""
    rows = np.maximum(first.variance, 0.0)
    middle = float(rows.mean()) or 1.0
    lowest, highest = rows.min(axis=1), rows.max(axis=1)
    if first.bias > 0:
        lowest, highest = np.minimum(lowest, middle), np.maximum(highest, middle)
    ratio = float((lowest / np.where(highest > 0, highest, 1.0)).min())
    if ratio >= _ALIKE:
        return [Metric(np.ones(rows.shape[1]), first.bias / middle, ratio)]
    rows = np.unique(rows, axis=0)
    some = rows[np.unique(np.linspace(0, len(rows) - 1, _METRICS).astype(int))]
    return [Metric(row, first.bias, 1.0) for row in some]


@dataclass(frozen=True)
class Sorted:
    """Points (N, K) in the order of their first coordinate."""

    points: FloatArray
    order: IntArray
    apart: float  # half the least distance between opposite ones

    @classmethod
    def of(cls, points: FloatArray, apart: float) -> Sorted:
        order = np.argsort(points[:, 0])
        return cls(points[order], order, apart)

    @property
    def key(self) -> FloatArray:
        return self.points[:, 0]

    @property
    def opposite(self) -> Sorted:
        return Sorted(-self.points[::-1], self.order[::-1], self.apart)


@dataclass(frozen=True)
class Windows:
    """Sorted points of both sides, and for every row of the left the columns of the right that may be close."""

    left: FloatArray
    right: FloatArray
    row_order: IntArray
    column_order: IntArray
    starts: IntArray
    stops: IntArray
    radius: float

    @classmethod
    def of(cls, left: Sorted, right: Sorted, radius: float, *, upper: bool) -> Windows:
        """``upper``: both sides are the same and a pair is wanted once."""
        starts = np.arange(1, len(left.key) + 1) if upper else np.searchsorted(right.key, left.key - radius, "left")
        stops = np.searchsorted(right.key, left.key + radius, "right")
        return cls(left.points, right.points, left.order, right.order, starts, np.maximum(starts, stops), radius)

    @property
    def looked_at(self) -> int:
        return int((self.stops - self.starts).sum())

    def pairs(self, most: int) -> Iterator[tuple[IntArray, IntArray]]:
        """Candidates in batches of up to ``most`` (more where one row has more)."""
        counts = self.stops - self.starts
        room = max(min(most, int(counts.sum())), int(counts.max(initial=0)))
        rows, columns = np.empty((2, room), dtype=np.intp)
        row = 0
        while row < len(self.left):
            count, row = close_loops.near_pairs(
                self.left, self.right, self.starts, self.stops, row, self.radius, rows, columns
            )
            if count:
                yield self.row_order[rows[:count]], self.column_order[columns[:count]]


class Neighbours:
    """The pairs of x and x2 (of x alone where that is None) at an angle below a radius that the search can afford."""

    def __init__(
        self, first: LayerOperator, x: FloatArray, x2: FloatArray | None = None, radius: float | None = None
    ) -> None:
        self.first, self.x, self.other, self.symmetric = first, x, x if x2 is None else x2, x2 is None
        self.windows: list[Windows] = []
        sides = [
            (m.ratio, Sorted.of(*m.points(x)), None if x2 is None else Sorted.of(*m.points(x2)))
            for m in metrics_of(first)
        ]
        affordable = max(_FEW, _CHEAP * len(x) * len(self.other))
        for self.radius in _RADII if radius is None else (radius,):
            self.windows = [w for side in sides for w in _windows(*side, self.radius)]
            if self.looked_at <= affordable:
                break

    @property
    def looked_at(self) -> int:
        """Candidates of the search."""
        return sum(w.looked_at for w in self.windows)

    def batches(self, most: int = _BATCH) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
        """(rows, columns, 1 - |rho|) of close pairs of inputs that are not identical; some come more than once."""
        limit = 0.5 * self.radius**2
        for window in self.windows:
            for rows, columns in window.pairs(most):
                gaps = self.gaps(rows, columns)
                near = gaps <= limit
                alike = np.flatnonzero(gaps < EPS**2)  # identical inputs are one input, not a pair
                near[alike] = (self.x[rows[alike]] != self.other[columns[alike]]).any(axis=1)
                if near.any():
                    yield rows[near], columns[near], gaps[near]

    def gaps(self, rows: IntArray, columns: IntArray) -> FloatArray:
        """1 - |rho| of pairs, the smallest over the positions of the first layer."""
        (i, rows), (j, columns) = (np.unique(k, return_inverse=True) for k in (rows, columns))
        return gaps_of(self.first, self.x[i], self.other[j], rows, columns)

    def closest(self) -> tuple[int, int] | None:
        """The closest pair below the radius, None if there is none."""
        best, found = math.inf, None
        for rows, columns, gaps in self.batches():
            at = int(gaps.argmin())
            if gaps[at] < best:
                best, found = float(gaps[at]), (int(rows[at]), int(columns[at]))
        return found


def gaps_of(first: LayerOperator, x: FloatArray, y: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """1 - |rho| of the pairs (x[rows], y[columns]), the smallest over the positions of the first layer."""
    out = np.empty(len(rows))
    roots = [np.sqrt(np.maximum((z * z) @ first.variance.T + first.bias, 0.0)) for z in (x, y)]
    close_loops.input_gaps(first.variance, first.bias, x, y, roots[0], roots[1], rows, columns, out)
    return out


def _windows(ratio: float, left: Sorted, right: Sorted | None, radius: float) -> Iterator[Windows]:
    """Windows for inputs at a small angle, and for those nearly opposite where there can be any."""
    reach = min(radius / ratio, 4.0)
    other = left if right is None else right
    yield Windows.of(left, other, reach, upper=right is None)
    if left.apart + other.apart <= reach:
        yield Windows.of(left, other.opposite, reach, upper=False)
