"""Limit kernels on disk: tiles that are missing in a store are computed, the others are left as they are."""

from __future__ import annotations

import os
import threading

from graphon_theory.data.checks import whole_number
from graphon_theory.data.tile_stores import Problem, TileStore
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.engine.threads import Progress, run_tiles

TILE = 2048  # rows and columns of a tile, where nothing is said


def filled_store(
    ready: PreparedKernel,
    store: str | os.PathLike[str],
    tile: int | None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> TileStore:
    """The store of a problem with all its tiles, of which those that are there and whole are not computed again.

    Raises InputError where the path holds something else, or the disk refuses.
    """
    side = whole_number("tile", TILE if tile is None else tile)
    shape = (ready.recursion.outputs, len(ready.x), len(ready.columns))
    identity = f"{ready.identity()} in tiles of {side}"
    opened = TileStore.of(store, Problem(identity, shape, ready.recursion.dtype, side, ready.x2 is None, ready.attrs))
    total, done, lock = sum(1 for _ in opened.tiles), 0, threading.Lock()

    def one(_: None, tile: tuple[int, int]) -> int:
        nonlocal done
        if not opened.is_whole(*tile):
            opened.write(*tile, ready.block(*opened.place(*tile)))
        with lock:
            done += 1
        if progress is not None:
            progress(done, total)
        return 1

    run_tiles(opened.tiles, one, lambda: None, threads, None)
    opened.finish(ready.recursion.means(ready.x))
    return opened
