"""The exact way back from cotangents of the kernels to those of every layer's matrices (THEORY §12).

Tiles of pairs go forward, and back through the steps' ``pull``; nothing of a tile outlives it but the sums. What pairs
put on the variances and means of single inputs goes down through the recursion of every input with itself at the end.
Sums of groups of tiles are added in one order, whichever thread finishes first, so that the numbers do not depend on
the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.cotangents import LayerSums, Moved, Sums, Way
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.stage_steps import NormStep
from graphon_theory.engine.steps import Before, Buffers, Features, Field, Fresh
from graphon_theory.engine.threads import Progress, run_tiles
from graphon_theory.engine.tiles import Tile, row_keys

_CACHE = 8_000_000  # bytes of fields of a tile, forward and back: larger ones leave the cache, smaller ones cost calls
_SIDES = 16, 256  # smallest and largest side of a tile
_GROUP = 8  # tiles whose sums are kept by themselves


def operator_gradients(
    recursion: Recursion,
    x: FloatArray,
    nngp: FloatArray | None,
    ntk: FloatArray | None,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[LayerSums]:
    """The derivative of sum(nngp NNGP) + sum(ntk NTK) in the matrices and biases of every weight layer.

    ``nngp``, ``ntk``: cotangents (outputs, N, N), None for zero. The kernels are symmetric: (i, j) and (j, i) count
    together. Identical inputs have one kernel, and are one input here; every input with itself is a function of its own
    variances and means alone, and never of a pair.
    """
    x, cotangents = _distinct(x, (nngp, ntk))
    total = [step.sums(len(x)) for step in recursion.steps]
    held = recursion.held_inputs
    pairs, before = len(x) * (len(x) - 1) // 2, 0
    for i in range(0, len(x), held):
        for j in range(i, len(x), held):
            rows, columns = slice(i, min(i + held, len(x))), slice(j, min(j + held, len(x)))
            left = recursion.diagonal(x[rows], pairs=np.float64).features
            right = left if rows == columns else recursion.diagonal(x[columns], pairs=np.float64).features

            def report(done: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, pairs)

            before += _Block(recursion, left, right, rows, columns, cotangents).run(total, threads, report)
    for start in range(0, len(x), held):
        _inputs(recursion, x, cotangents, slice(start, start + held), total)
    return [sums for sums in total if isinstance(sums, LayerSums)]


def _distinct(
    x: FloatArray, cotangents: tuple[FloatArray | None, ...]
) -> tuple[FloatArray, tuple[FloatArray | None, ...]]:
    """Distinct rows of x, and cotangents added up over rows that are equal to the last bit."""
    keys = row_keys(x)
    if len(np.unique(keys)) == len(x):
        return x, cotangents
    rows, which = np.unique(x + 0.0, axis=0, return_inverse=True)
    which = which.ravel()
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(len(rows)))

    def folded(values: FloatArray | None) -> FloatArray | None:
        if values is None:
            return None
        over_rows = np.add.reduceat(values[:, order], starts, axis=1)
        out: FloatArray = np.add.reduceat(over_rows[:, :, order], starts, axis=2)
        return out

    return rows, tuple(folded(values) for values in cotangents)


class _Block:
    """The pairs of two blocks of inputs whose features are held, or those above the diagonal of one."""

    def __init__(
        self,
        recursion: Recursion,
        left: list[Features],
        right: list[Features],
        rows: slice,
        columns: slice,
        cotangents: tuple[FloatArray | None, ...],
    ) -> None:
        self.recursion, self.left, self.right = recursion, left, right
        self.rows, self.columns, self.cotangents = rows, columns, cotangents
        self.symmetric = rows == columns

    def run(self, total: list[Sums], threads: int | None, report: Any) -> int:
        """Add the block's sums to ``total``; the number of pairs."""
        lock, waiting, following = threading.Lock(), dict[int, list[Sums]](), 0

        def one(work: list[Buffers], group: tuple[int, list[Tile]]) -> int:
            nonlocal following
            number, tiles = group
            sums = self._sums()
            count = sum(self._tile(tile, sums, work) for tile in tiles)
            with lock:
                waiting[number] = sums
                while following in waiting:
                    for into, part in zip(total, waiting.pop(following), strict=True):
                        self._put(into, part)
                    following += 1
            return count

        steps = len(self.recursion.steps)
        return run_tiles(self._groups(), one, lambda: [Buffers(np.float64) for _ in range(steps)], threads, report)

    def _sums(self) -> list[Sums]:
        """Of inputs that stand on either side: one after the other, or the same."""
        n1, n2 = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        count, columns = (n1, 0) if self.symmetric else (n1 + n2, n1)
        return [step.sums(count, columns) for step in self.recursion.steps]

    def _put(self, into: Sums, part: Sums) -> None:
        if not isinstance(part, Moved):
            into.add(part)
            return
        assert isinstance(into, Moved)
        n1 = self.rows.stop - self.rows.start
        into.values[..., self.rows] += part.values[..., :n1]
        if not self.symmetric:
            into.values[..., self.columns] += part.values[..., n1:]

    def _groups(self) -> Iterator[tuple[int, list[Tile]]]:
        n1, n2 = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        side = self._side()
        tiles = [
            Tile(i, min(i + side, n1), j, min(j + side, n2), upper=self.symmetric and i == j)
            for i in range(0, n1, side)
            for j in range(i if self.symmetric else 0, n2, side)
        ]
        return iter([(n, tiles[k : k + _GROUP]) for n, k in enumerate(range(0, len(tiles), _GROUP))])

    def _side(self) -> int:
        """Side of a tile whose fields, forward and back, stay in the cache; a function of the problem alone."""
        operators = self.recursion.operators
        values = 6 * sum(len(op.variance) for op in operators) + operators[0].variance.shape[1]
        side = int(np.sqrt(_CACHE / (8 * values))) // 8 * 8
        return max(_SIDES[0], min(_SIDES[1], side))

    def _tile(self, tile: Tile, sums: list[Sums], work: list[Buffers]) -> int:
        above = self._above(tile)
        if not above.any():
            return 0
        steps = self.recursion.steps
        field: Any = None
        below: list[Any] = []
        for step, left, right, room in zip(steps, self.left, self.right, work, strict=True):
            below.append(field)
            if isinstance(step, NormStep):  # it writes where its field lies, which its way back reads
                kept = room.view("arriving", *field.state.shape)
                kept[...] = field.state
                field = replace(field, state=kept)
            field = step.on_pairs(field, left, right, tile, room)
            if isinstance(field, Before):
                field.settle()
        shelf: list[FloatArray] = []
        for n in range(len(steps) - 1, -1, -1):
            above = steps[n].pull(above, below[n], self.left[n], self.right[n], tile, Way(sums[n], work[n], shelf))
        return (tile.i1 - tile.i0) * (tile.j1 - tile.j0)

    def _above(self, tile: Tile) -> FloatArray:
        """K', T' (outputs, 2, n1, n2) of the outputs: both sides of the diagonal together, none on it."""
        i = slice(self.rows.start + tile.i0, self.rows.start + tile.i1)
        j = slice(self.columns.start + tile.j0, self.columns.start + tile.j1)
        out = np.zeros((self.recursion.outputs, 2, tile.i1 - tile.i0, tile.j1 - tile.j0))
        for part, values in enumerate(self.cotangents):
            if values is not None:
                out[:, part] = values[:, i, j] + values[:, j, i].transpose(0, 2, 1)
        if tile.upper:
            out *= np.triu(np.ones(out.shape[2:]), 1)
        return out


def _inputs(
    recursion: Recursion, x: FloatArray, cotangents: tuple[FloatArray | None, ...], part: slice, total: list[Sums]
) -> None:
    """The way back of every input with itself, with what the pairs have put on it."""
    below, field = [], Field.of_inputs(x[part])
    for step in recursion.steps:
        below.append(field)
        field = step.on_inputs(field)
    zero = np.zeros_like(field.second)
    diagonals = [
        zero if values is None else np.diagonal(values, axis1=1, axis2=2)[:, part].copy() for values in cotangents
    ]
    above, shelf = Field(diagonals[0], diagonals[1], np.zeros_like(zero)), list[Field]()
    for n in range(len(below) - 1, -1, -1):
        sums: Any = total[n]
        own = Moved(sums.values[..., part]) if isinstance(sums, Moved) else sums
        above = recursion.steps[n].pull_inputs(above, below[n], Way(own, Fresh(), shelf))
