"""Pairs of inputs so close that their covariance does not tell them apart, computed by their angles.

A covariance in floating point knows an angle theta to eps / theta, and a kinked phi makes of that an error of the
kernel (THEORY §4). Pairs at an angle below some radius, at any position of the first layer, go through a recursion of
their own that carries 1 - rho as sums of squares (``close_stages``), so that small angles are right to rounding of
themselves. What is left in the other pairs is measured: a pair at the radius goes through the network beside copies of
itself whose covariances are moved by their rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.engine.close_stages import AngularStages
from graphon_theory.engine.discretisation import FLOOR
from graphon_theory.engine.neighbours import Neighbours, gaps_of
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.steps import Before, DualStep, Fresh
from graphon_theory.engine.threads import run_tiles
from graphon_theory.engine.tiles import Tile

_BATCH = 1 << 17  # pairs taken together
_VALUES = 1 << 22  # numbers of their inputs held together
_BEYOND = 2.0  # tolerances by which covariances are moved: past the one below which pairs count as coincident
_WITNESSES = 3  # inputs beside which one at the radius is put


class ClosePairs:
    """The close pairs of x and x2 (x with itself where x2 is None), within ``radius`` or what the search can afford."""

    def __init__(self, recursion: Recursion, x: FloatArray, x2: FloatArray | None, radius: float | None = None) -> None:
        self.recursion, self.x, self.other, self.symmetric = recursion, x, x if x2 is None else x2, x2 is None
        self.stages = AngularStages.of(recursion)
        self.neighbours = Neighbours(recursion.operators[0], x, x2, radius)

    @property
    def angular(self) -> bool:
        """Whether pairs are computed by their angles at all."""
        return self.stages is not None

    def _batches(self) -> Iterator[tuple[IntArray, IntArray]]:
        hidden = sum(len(op.variance) for op in self.recursion.operators[:-1])
        most = max(256, min(_BATCH, _VALUES // (2 * hidden + self.x.shape[1])))
        return ((rows, columns) for rows, columns, _ in self.neighbours.batches(most))

    def refine(
        self,
        nngp: FloatArray,
        ntk: FloatArray,
        layers: FloatArray | None,
        *,
        threads: int | None = None,
    ) -> None:
        """Put the right values of close pairs into NNGP, NTK (outputs, N, N2) and the NTK of layers (L, ...)."""
        if self.stages is None or not self.neighbours.looked_at:
            return
        computed = self.stages.kernels

        def one(_: None, pairs: tuple[IntArray, IntArray]) -> int:
            (i, rows), (j, columns) = (np.unique(k, return_inverse=True) for k in pairs)
            x, y = self.x[i], self.other[j]
            out, parts = computed(x, y, rows, columns, None, layers is not None)
            i, j = pairs
            for a, b in ((i, j), (j, i)) if self.symmetric else ((i, j),):
                nngp[:, a, b], ntk[:, a, b] = out, parts.sum(axis=0)
                if layers is not None:
                    layers[:, :, a, b] = parts
            return len(i)

        batches = self._batches()
        first = next(batches, None)
        if first is not None:
            run_tiles(itertools.chain([first], batches), one, lambda: None, threads, None)

    def left_over(self) -> float:
        """What rounding of covariances does to the kernel of pairs that are not taken, relative to its diagonal."""
        kinked = any(step.activation.kinked for step in self.recursion.dual_steps)
        if not self.angular and kinked:  # none is taken: the closest is the worst
            pair = self.neighbours.closest()
            if pair is not None:
                return rounding_error(self.recursion, self.x[[pair[0]]], self.other[[pair[1]]])
        if self.neighbours.radius >= math.pi:
            return 0.0
        return self._error_at(self.neighbours.radius) if self.angular or kinked else self._of_smooth()

    def _of_smooth(self) -> float:
        """What rounding does where phi is smooth: at the radius, but at the angle of the closest pair where phi is so
        steep, for these variances, that kernels differ between pairs that covariances do not tell apart."""
        recursion, radius = self.recursion, self.neighbours.radius
        known = max((float(step.parameters[0]) for step in recursion.dual_steps), default=0.0)
        least = math.sqrt(2 * (known + _of_products(recursion, self.x)))  # below it pairs can count as coincident
        floor = FLOOR * len(recursion.operators) * float(np.finfo(recursion.dtype).eps) / EPS
        if self._error_at(least) <= floor:
            return self._error_at(radius)
        pair = self.neighbours.closest()
        if pair is None:
            return self._error_at(radius)
        gap = self.neighbours.gaps(*(np.array([k]) for k in pair))[0]
        angle = max(least, math.sqrt(2 * max(0.0, float(gap))))
        return self._error_at(min(radius, angle)) + floor

    def _error_at(self, angle: float) -> float:
        """What rounding does to the kernel of pairs at an angle."""
        x, y = self._witnesses(angle)
        if not len(x):
            return 0.0
        if self.stages is None:
            return rounding_error(self.recursion, x, y)
        return self._angular_error(self.stages, x, y)

    def _angular_error(self, stages: AngularStages, x: FloatArray, y: FloatArray) -> float:
        """As :func:`rounding_error`, by the angles of the pairs: every 1 - rho is moved by the rounding of rho."""
        count = len(x)
        every = np.concatenate([x, y])
        kinked = [step for step in self.recursion.dual_steps if step.activation.kinked]
        tolerance = max(float(step.parameters[0]) for step in kinked) + _of_products(self.recursion, x)
        each, alone = np.tile(np.arange(count), 3), np.arange(2 * count)
        rows, columns = np.concatenate([alone, each]), np.concatenate([alone, each + count])
        shifts = np.repeat([0.0, -tolerance, tolerance], [3 * count, count, count])
        nngp, parts = stages.kernels(every, every, rows, columns, shifts)
        worst = 0.0
        for values in (nngp, parts.sum(axis=0)):
            left, right, found, *moved = np.split(values, 5, axis=1)
            scale = np.sqrt(np.abs(left)) * np.sqrt(np.abs(right))
            move = np.abs(np.stack(moved) - found).max(axis=0)
            worst = max(worst, float(np.divide(move, scale, out=np.zeros_like(move), where=scale > 0).max()))
        return worst

    def _witnesses(self, angle: float) -> tuple[FloatArray, FloatArray]:
        """Inputs of all sizes, each beside one at an angle."""
        norms = np.einsum("nd,nd->n", self.x, self.x)
        alive = np.flatnonzero(norms > 0)
        if not len(alive):
            return self.x[:0], self.x[:0]
        ranks = np.linspace(0, len(alive) - 1, _WITNESSES).astype(int)
        chosen = dict.fromkeys(alive[np.argpartition(norms[alive], ranks)[ranks]].tolist())
        x = self.x[list(chosen)]
        side = _sideways(*x.shape)
        step = side * (1e-3 * np.sqrt(norms[list(chosen)]))[:, None]
        each = np.arange(len(x))
        angles = np.sqrt(2 * gaps_of(self.recursion.operators[0], x, x + step, each, each))
        found = angles > 0
        return x[found], (x + step * (angle / np.where(found, angles, 1.0))[:, None])[found]


@lru_cache(maxsize=8)
def _sideways(count: int, dimensions: int) -> FloatArray:
    """Unit vectors (count, dimensions) in no particular direction, the same at all times."""
    side = np.random.default_rng((0x5EED, 271828)).standard_normal((count, dimensions))
    return side / np.linalg.norm(side, axis=1, keepdims=True)


def _of_products(recursion: Recursion, x: FloatArray) -> float:
    """What sums of d products of inputs, one after the other, lose of |rho|: twice what is met with, about."""
    return math.sqrt(x.shape[1]) * float(np.finfo(recursion.dtype).eps)


def rounding_error(recursion: Recursion, x: FloatArray, y: FloatArray) -> float:
    """By how much the kernels of the pairs (x_k, y_k) move when every covariance is moved by its rounding, either way.

    Relative to the roots of the pairs' diagonals; the rounding is that of products of inputs and twice what
    ``DualPass.parameters`` holds to be known, so that pairs which count as coincident are seen at the angle from which
    they no longer do.
    """
    count, three = len(x), np.concatenate([y, y, y])
    tile = Tile(0, count, 0, 3 * count, upper=False)
    one, other = (recursion.diagonal(z, pairs=np.float64) for z in (x, three))
    signs = np.repeat([0.0, -1.0, 1.0], count)
    products = _of_products(recursion, x)
    tolerances = iter([_BEYOND * step.parameters[0] + products for step in recursion.dual_steps])
    field: Any = None
    for step, left, right in zip(recursion.steps, one.features, other.features, strict=True):
        if isinstance(step, DualStep):
            field.settle().state[:, 0] *= 1.0 + next(tolerances) * signs
        field = step.on_pairs(field, left, right, tile, Fresh())
    assert isinstance(field, Before)
    field.settle()
    pairs = np.arange(count)
    worst = 0.0
    for part, (a, b) in enumerate(((one.nngp, other.nngp), (one.ntk, other.ntk))):
        values = np.stack([field.state[:, part, pairs, k * count + pairs] for k in range(3)])
        scale = np.sqrt(np.abs(a)) * np.sqrt(np.abs(b[:, :count]))
        move = np.abs(values[1:] - values[0]).max(axis=0)
        worst = max(worst, float(np.divide(move, scale, out=np.zeros_like(move), where=scale > 0).max()))
    return worst
