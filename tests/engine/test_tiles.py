"""Tiles: their places and their threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from graphon_theory.engine import threads, tiles
from graphon_theory.engine.tile_loops import place

FloatArray = NDArray[np.float64]


@pytest.mark.parametrize("corner", [(0, 0), (10, 3), (3, 40), (60, 8), (0, 8), (40, 40)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_tile_goes_to_its_place_and_its_mirror_image(corner: tuple[int, int], mirrored: bool) -> None:
    values = np.random.default_rng(0).random((2, 2, 37, 53))
    results = np.full((2, 2, 120, 120), np.nan)
    place(values, results[0], results[1], *corner, mirrored)
    expected = np.full_like(results, np.nan)
    for part in range(2):
        for i in range(37):
            for j in range(53):
                row, column = corner[0] + i, corner[1] + j
                if not mirrored or column >= row:
                    expected[part, :, row, column] = values[:, part, i, j]
                if mirrored and column >= row:
                    expected[part, :, column, row] = values[:, part, i, j]
    np.testing.assert_array_equal(results, expected)


@pytest.mark.parametrize(("n", "plan"), [(50, (7, 20, 1000)), (50, (20, 7, 21)), (1, (8, 8, 8)), (33, (16, 16, 16))])
def test_tiles_cover_every_pair_once(n: int, plan: tuple[int, int, int]) -> None:
    def ones(work: None, tile: tiles.Tile) -> FloatArray:
        out = np.ones((1, 2, tile.i1 - tile.i0, tile.j1 - tile.j0))
        done.append(tile)
        return out

    done: list[tiles.Tile] = []
    seen: list[tuple[int, int]] = []
    x = np.zeros((n, 1))
    options = {"threads": 1, "progress": lambda a, b: seen.append((a, b))}
    square = tiles.fill(x, None, 1, float, tiles.Plan(*plan), lambda *_: ones, lambda: None, **options)  # type: ignore[arg-type]
    assert all((kernel == 1).all() for kernel in square)
    assert seen[-1] == (n * (n + 1) // 2,) * 2
    cross = tiles.fill(x, x[:9], 1, float, tiles.Plan(*plan), lambda *_: ones, lambda: None, threads=1)
    assert all((kernel == 1).all() for kernel in cross)
    assert cross[0].shape == (1, n, len(x[:9]))


def test_blas_gets_its_threads_back_when_the_last_limit_ends() -> None:
    def counts() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = counts()
    with threads.single_threaded_blas():
        with threads.single_threaded_blas():
            assert set(counts()) <= {1}
        assert set(counts()) <= {1}
    assert counts() == before


def test_an_error_in_any_thread_stops_all_and_is_raised() -> None:
    done = []

    def one(work: None, tile: int) -> int:
        if tile == 3:
            raise ValueError("three")
        done.append(tile)
        return 1

    with pytest.raises(ValueError, match="three"):
        threads.run_tiles(iter(range(10_000)), one, lambda: None, 2, None)
    assert len(done) < 10_000


def test_callers_in_several_threads_do_not_wait_for_one_another() -> None:
    gate = threading.Barrier(2, timeout=30)

    def call(first: int) -> int:
        def one(work: None, tile: int) -> int:
            if tile == first:
                gate.wait()
            return 1

        return threads.run_tiles(iter(range(5)), one, lambda: None, 2, None)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, (0, 0))) == [5, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_results_start_with_a_large_page(dtype: type) -> None:
    large = tiles._empty((2, 900, 900), dtype)
    assert large.shape == (2, 900, 900)
    assert large.dtype == dtype
    assert large.flags.c_contiguous
    assert large.flags.writeable
    assert large.ctypes.data % (1 << 21) == 0
