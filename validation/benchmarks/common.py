"""What the benchmarks share: fair timing, errors on one scale, tables, and the words about the machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import numba
import numpy as np
import threadpoolctl
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_PAUSE = 0.05  # seconds


def fastest(contenders: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Least seconds of each contender over rounds in which all take their turn, after one round of warming up.

    Taking turns spreads what else the machine does over all of them; the least time is the one it disturbed least.
    Results are dropped before the next contender starts, so every call allocates its own, and each starts after a
    pause: OpenBLAS keeps its threads spinning for tens of milliseconds, which would be the next one's loss.
    """
    for work in contenders.values():
        work()
    best = dict.fromkeys(contenders, np.inf)
    for _ in range(repetitions):
        for name, work in contenders.items():
            time.sleep(_PAUSE)
            start = time.perf_counter()
            result = work()
            best[name] = min(best[name], time.perf_counter() - start)
            del result
    return best


def relative_error(values: FloatArray, reference: FloatArray, scale: FloatArray) -> float:
    """Largest |values - reference| / scale; for kernels, scale = sqrt(K_ii K_jj)."""
    return float((np.abs(values - reference) / scale).max())


def kernel_scale(kernel: FloatArray) -> FloatArray:
    """sqrt(K_ii K_jj) of a square kernel."""
    root = np.sqrt(np.diagonal(kernel))
    return np.outer(root, root)


def machine(extra: Mapping[str, str] | None = None) -> str:
    """Cores, threads and versions: what decides the numbers, and nothing that names the machine."""
    blas = {
        f"{p['internal_api']} {p['version']}": p["num_threads"]
        for p in threadpoolctl.threadpool_info()
        if p["user_api"] == "blas"
    }
    threads = ", ".join(f"{name} with {count} threads" for name, count in blas.items())
    packages = {name: version(name) for name in ("numpy", "scipy", "numba")} | dict(extra or {})
    libraries = ", ".join(f"{name} {number}" for name, number in packages.items())
    compiled = int(vars(numba.config)["NUMBA_NUM_THREADS"])
    return (
        f"{os.cpu_count()} cores ({platform.machine()}); the engine on {compiled} threads, {threads}; "
        f"Python {platform.python_version()}, {libraries}."
    )


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the documentation, first column to the left and the others to the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def duration(seconds: float) -> str:
    """Three digits, in ms below one second."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
