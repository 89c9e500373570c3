"""Tiles of input pairs: sharing them among threads, and putting them where they belong in the results.

BLAS runs single-threaded inside a tile. Tiles depend on the problem alone, so the numbers do not depend on the number
of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.threads import Progress, run_tiles
from graphon_theory.engine.tile_loops import LANES, place

_PAGE = 1 << 21  # bytes of a large page (Linux)
_LARGE = 1 << 22  # bytes from which NumPy asks for them


class Tile(NamedTuple):
    """Rows i0..i1 and columns j0..j1; ``upper``: nothing below the diagonal i = j is needed."""

    i0: int
    i1: int
    j0: int
    j1: int
    upper: bool

    @property
    def sides(self) -> tuple[slice, slice]:
        """Its rows and its columns."""
        return slice(self.i0, self.i1), slice(self.j0, self.j1)


class Plan(NamedTuple):
    """How a kernel is cut up: rows and columns of a tile, and the inputs whose features are held at a time."""

    rows: int
    columns: int
    held: int

    @property
    def block(self) -> int:
        """Inputs of a block: about ``held``, whole tiles."""
        step = max(self.rows, self.columns)
        return max(1, self.held // step) * step


# (workspace, tile) -> NNGP and NTK (outputs, 2, n1, n2), above the diagonal at least
TileFunction = Callable[[Any, Tile], FloatArray]


def fill(
    x: FloatArray,
    x2: FloatArray | None,
    outputs: int,
    dtype: DTypeLike,
    plan: Plan,
    prepare: Callable[[slice, slice], TileFunction],
    workspace: Callable[[], Any],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK (outputs, N, N2) tile by tile; the upper triangle only where x2 is None, mirrored.

    ``prepare`` makes of two blocks of inputs the function that computes a tile within them. ``workspace`` makes the
    scratch of one thread.
    """
    symmetric = x2 is None
    n, n2 = len(x), len(x if x2 is None else x2)
    nngp, ntk = _empty((outputs, n, n2), dtype), _empty((outputs, n, n2), dtype)
    total = n * (n + 1) // 2 if symmetric else n * n2
    before = 0
    for rows, columns in _blocks(n, n2, plan, symmetric):
        one = prepare(rows, columns)
        diagonal = symmetric and rows == columns
        tiles = _tiles(rows.stop - rows.start, columns.stop - columns.start, plan, diagonal)

        def run(work: Any, tile: Tile, one: TileFunction = one, i: int = rows.start, j: int = columns.start) -> int:
            place(one(work, tile), nngp, ntk, i + tile.i0, j + tile.j0, symmetric)
            return _pairs(tile)

        def report(done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        before += run_tiles(tiles, run, workspace, threads, report)
    return nngp, ntk


def _empty(shape: tuple[int, ...], dtype: DTypeLike) -> FloatArray:
    """An array not yet written to; a large one starts with a page of the large kind, so that it costs few faults."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    room = np.empty(size + 2 * _PAGE, np.uint8)
    start = -room.ctypes.data % _PAGE
    return room[start : start + size].view(dtype).reshape(shape)


def _blocks(n: int, n2: int, plan: Plan, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows and columns; for a symmetric kernel the same for both."""
    size = plan.block
    for i in range(0, n, size):
        for j in range(i if symmetric else 0, n2, size):
            yield slice(i, min(i + size, n)), slice(j, min(j + size, n2))


def _tiles(n: int, n2: int, plan: Plan, upper: bool) -> Iterator[Tile]:
    """The tiles of a block, largest first: what edges and the diagonal cut off fills the threads' last gaps."""
    tiles = [
        Tile(i, min(i + plan.rows, n), max(j, i // LANES * LANES) if upper else j, min(j + plan.columns, n2), upper)
        for i in range(0, n, plan.rows)
        for j in range(0, n2, plan.columns)
        if not upper or j + plan.columns > i
    ]
    return iter(sorted((tile for tile in tiles if _pairs(tile)), key=_pairs, reverse=True))


def _pairs(tile: Tile) -> int:
    """Pairs that a tile has to fill."""
    if not tile.upper:
        return (tile.i1 - tile.i0) * (tile.j1 - tile.j0)
    i0, i1, j0, j1, _ = tile
    before, after = max(0, min(i1, j0) - i0), max(0, min(i1, j1) - max(i0, j0))  # rows above the diagonal; cut by it
    return before * (j1 - j0) + after * (j1 - max(i0, j0)) - after * (after - 1) // 2


def identical_rows(x: FloatArray, x2: FloatArray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index arrays (i, j) of every pair of identical rows, x[i] == x2[j]."""
    # equal rows have equal keys, so that only rows sharing one need to be compared
    first = row_keys(x)
    order1 = np.argsort(first, kind="stable")
    if x is x2:
        in_order = first[order1]
        if (in_order[1:] != in_order[:-1]).all():  # all differ, which is the rule
            yield order1, order1
            return
        second, order2 = first, order1
    else:
        second = row_keys(x2)
        order2 = np.argsort(second, kind="stable")
    shared, start1, count1 = np.unique(first[order1], return_index=True, return_counts=True)
    start2 = np.searchsorted(second[order2], shared, side="left")
    count2 = np.searchsorted(second[order2], shared, side="right") - start2
    single = (count1 == 1) & (count2 == 1)
    yield _equal(x, x2, order1[start1[single]], order2[start2[single]])
    for a, n, b, m in zip(start1[~single], count1[~single], start2[~single], count2[~single], strict=True):
        yield _equal(x, x2, np.repeat(order1[a : a + n], m), np.tile(order2[b : b + m], n))


def row_keys(x: FloatArray) -> FloatArray:
    """One number a row (N,), equal for equal rows and practically never otherwise."""
    return np.add.reduce(x * _direction(x.shape[1]), axis=1)


@lru_cache(maxsize=8)
def _direction(dimensions: int) -> FloatArray:
    """A direction (dimensions,) in no special position, the same at all times."""
    return np.random.default_rng(0).standard_normal(dimensions)


def _equal(x: FloatArray, x2: FloatArray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    same = i == j if x is x2 else np.zeros(len(i), dtype=bool)
    rest = np.flatnonzero(~same)
    same[rest] = (x[i[rest]] == x2[j[rest]]).all(axis=1)
    return i[same], j[same]
