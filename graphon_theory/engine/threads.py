"""Threads that share tiles, each with single-threaded BLAS: numbers do not depend on how many there are."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from graphon_theory.data.checks import truth, whole_number
from graphon_theory.engine.tile_loops import default_threads
from graphon_theory.errors import InputError

_MOST = 1024  # threads: those of the largest machines; a million would take all the memory for their stacks
_PATIENCE = 2.0  # seconds from which progress is shown, whatever they are spent on
Progress = Callable[[int, int], None]  # pairs done, pairs in all


@cache
def _blas() -> list[Any]:
    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


_limit = threading.Lock()
_limits: list[list[int]] = []  # of nested limits, the numbers of threads before; only the outermost changes them


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """BLAS on one thread: its workers would go on spinning beside the threads that share the tiles."""
    with _limit:
        before = [library.num_threads for library in _blas()]
        _limits.append(before)
        for library, count in zip(_blas(), before, strict=True):
            if count != 1:
                library.set_num_threads(1)
    try:
        yield
    finally:
        with _limit:
            outermost = _limits[0]
            _limits.pop()
            if not _limits:
                for library, count in zip(_blas(), outermost, strict=True):
                    if count != 1:
                        library.set_num_threads(count)


def checked_threads(threads: int | None) -> int | None:
    """How many threads share the tiles, None for the default. Raises InputError for more than any machine feeds."""
    return None if threads is None else whole_number("threads", threads, 1, _MOST)


def checked_progress(progress: bool | Progress | None) -> bool | Progress | None:
    """What :class:`ProgressBar` takes. Raises InputError for anything but a truth value, None or a function of two."""
    if not callable(progress):
        return None if progress is None else truth("progress", progress)
    try:
        inspect.signature(progress).bind(0, 1)
    except TypeError:
        raise InputError(
            "progress: expected True, False, None or a function of the pairs done and those in all, got "
            f"{type(progress).__name__}, which does not take two numbers."
        ) from None
    except ValueError:  # compiled functions need not tell
        pass
    return progress


_pools: dict[int, ThreadPoolExecutor] = {}  # by the number of threads beside the caller's; kept, for starting is slow
os.register_at_fork(after_in_child=_pools.clear)


def _pool(count: int) -> ThreadPoolExecutor:
    return _pools.setdefault(count, ThreadPoolExecutor(count, thread_name_prefix="tiles"))


def run_tiles(
    tiles: Iterator[Any],
    one: Callable[[Any, Any], int],
    workspace: Callable[[], Any],
    threads: int | None,
    progress: Callable[[int], None] | None,
) -> int:
    """Run ``one`` on every tile with a few threads, each with a workspace of its own; the sum of what it returns.

    The calling thread is one of them. An interrupt reaches it between two tiles, and stops the others at their next.
    """
    lock, stop = threading.Lock(), threading.Event()
    done = 0

    def worker(report: Callable[[int], None] | None = None) -> None:
        nonlocal done
        try:
            work = workspace()
            while not stop.is_set():
                with lock:
                    tile = next(tiles, None)
                if tile is None:
                    return
                count = one(work, tile)
                with lock:
                    done += count
                if report is not None:
                    report(done)
        except BaseException:
            stop.set()
            raise

    count = threads or default_threads()
    with single_threaded_blas():
        others = [_pool(count - 1).submit(worker) for _ in range(count - 1)]
        try:
            worker(progress)
        finally:
            unfinished = [other for other in others if not other.cancel()]
            wait(unfinished)
        for other in unfinished:
            other.result()
    return done


class ProgressBar:
    """A rich progress bar on standard error: at once (True), never (False), or after a while (None).

    Entering gives the function to report to, which may be the caller's own.
    """

    def __init__(self, shown: bool | Progress | None, label: str = "limit kernel") -> None:
        self.shown, self.label = shown, label
        self.bar: Any = None
        self.began = time.perf_counter()

    def __enter__(self) -> Progress | None:
        if callable(self.shown):
            return self.shown
        return None if self.shown is False else self._report

    def _report(self, done: int, total: int) -> None:
        if self.bar is None:
            if self.shown is None and time.perf_counter() - self.began < _PATIENCE:
                return
            from rich.console import Console
            from rich.progress import Progress as RichProgress

            where = Console(stderr=True)
            self.bar = RichProgress(console=where, transient=True, disable=not (self.shown or where.is_terminal))
            self.bar.add_task(self.label, total=1.0)
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=done / max(total, 1))

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
