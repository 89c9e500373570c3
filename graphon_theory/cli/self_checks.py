"""``doctor``: what is installed, what the machine has, and a few results against answers that are known."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
import typer

from graphon_theory.cli.displays import print_json, say, show, table, working
from graphon_theory.cli.options import Json
from graphon_theory.data.versions import __version__

_CORE = ("numpy", "scipy", "numba", "xarray", "sympy", "mpmath", "rich", "typer", "threadpoolctl", "tomli-w")
_EXTRAS = {
    "scikit-learn": "examples",
    "matplotlib": "examples",
    "scikit-image": "estimation",
    "zarr": "scale",
    "dask": "scale",
    "torch": "validation",
    "safetensors": "validation",
}
_GPU = (
    "import torch; n = torch.cuda.device_count(); print(*(torch.cuda.get_device_name(k) for k in range(n)), sep='\\n')"
)


def doctor(as_json: Json = False) -> None:
    """Say what is installed and what the machine has, and check the arithmetic against known answers."""
    with working("self-check"):
        packages, machine = dict(_packages()), dict(_machine())
        checks = [(name, *_timed(check)) for name, check in _CHECKS.items()]
    failed = [name for name, error, bound, _ in checks if not error <= bound]
    if as_json:
        results = {name: {"error": error, "allowed": bound, "seconds": took} for name, error, bound, took in checks}
        print_json({"packages": packages, "machine": machine, "checks": results, "failed": failed})
    else:
        made = table("Packages", "package", "version")
        made.columns[0].justify = made.columns[1].justify = "left"
        for name, found in packages.items():
            made.add_row(name, found)
        show(made)
        made = table("Machine", "", "")
        made.show_header = False
        made.columns[0].justify = made.columns[1].justify = "left"
        for name, found in machine.items():
            made.add_row(name, found)
        show(made)
        made = table("Against known answers", "check", "error", "allowed", "seconds", "")
        made.columns[0].justify = "left"
        for name, error, bound, took in checks:
            made.add_row(name, f"{error:.1e}", f"{bound:.0e}", f"{took:.1f}", "ok" if error <= bound else "FAILED")
        show(made)
        say(f"{', '.join(failed)}: wrong on this machine; report it with the above" if failed else "all is well")
    if failed:
        raise typer.Exit(1)


def _packages() -> Iterator[tuple[str, str]]:
    yield "graphon-theory", __version__
    yield "python", platform.python_version()
    for name in _CORE:
        yield name, _version(name) or "missing"
    for name, extra in _EXTRAS.items():
        yield name, _version(name) or f"not installed: pip install 'graphon-theory[{extra}]'"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine() -> Iterator[tuple[str, str]]:
    from graphon_theory.data.memory import available_memory
    from graphon_theory.engine.tile_loops import default_threads

    yield "system", f"{platform.system()} {platform.machine()}"
    yield "processors", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    yield "threads", f"{default_threads()} (NUMBA_NUM_THREADS sets them)"
    free = available_memory()
    yield "free memory", "unknown" if math.isinf(free) else f"{free / (1 << 30):.1f} GiB"
    yield "GPU", _gpu()
    yield "compiled code", _kept_code()


def _kept_code() -> str:
    """Where Numba keeps what it compiles, of the package's own functions."""
    from graphon_theory.engine import tile_loops

    stats = [getattr(one, "stats", None) for one in vars(tile_loops).values()]
    kept = [path for one in stats if (path := getattr(one, "cache_path", None))]
    return str(kept[0]) if kept else "kept nowhere: every process compiles anew"


def _gpu() -> str:
    """By torch, in a process of its own: the theory never imports it."""
    if find_spec("torch") is None:
        return "not asked: torch is not installed"
    try:
        done = subprocess.run([sys.executable, "-c", _GPU], capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return "torch did not answer within a minute"
    if done.returncode:
        return "torch does not start"
    return ", ".join(done.stdout.split("\n")).strip(", ") or "none that torch sees"


def _timed(check: Callable[[], tuple[float, float]]) -> tuple[float, float, float]:
    began = time.perf_counter()
    try:
        error, bound = check()
    except Exception:  # a broken installation may fail anywhere, and the others still have something to say
        error, bound = math.inf, 0.0
    return error, bound, time.perf_counter() - began


def _arc_cosine() -> tuple[float, float]:
    """K and T of a ReLU network with two layers in closed form (Cho and Saul 2009)."""
    from graphon_theory.engine.limits import limit_kernel
    from graphon_theory.networks.network import Network

    x = np.random.default_rng(0).standard_normal((20, 5))
    found = limit_kernel(Network([1.0, 1.0]), x)
    k = 2 * x @ x.T / 5
    size = np.sqrt(np.outer(np.diag(k), np.diag(k)))
    angle = np.arccos(np.clip(k / size, -1, 1))
    nngp = size / np.pi * (np.sin(angle) + (np.pi - angle) * np.cos(angle))
    ntk = nngp + k * (np.pi - angle) / np.pi
    np.fill_diagonal(ntk, 2 * np.diag(k))
    errors = [np.abs(found.nngp - nngp) / size, np.abs(found.ntk - ntk) / size]
    return float(np.max(errors)), 1e-7  # arccos of what is near 1 is known to half the digits


def _blocks() -> tuple[float, float]:
    """A linear network of blocks, whose kernels are sums over its blocks."""
    from graphon_theory.engine.limits import limit_kernel
    from graphon_theory.networks.network import Network

    x = np.random.default_rng(1).standard_normal((10, 3))
    mask, first = np.array([[0.9, 0.1], [0.2, 0.6]]), x @ x.T / 3
    found = limit_kernel(Network([1.0, mask, 1.0], "identity", 1.0), x)
    sums = mask.mean(axis=1).mean()
    return float(np.abs(found.ntk - 3 * sums * first).max() / np.abs(first).max()), 1e-12


def _quadrature() -> tuple[float, float]:
    """A linear network of exp(-(u - v)^2), whose kernel is its double integral."""
    from graphon_theory.engine.limits import limit_kernel
    from graphon_theory.networks.network import Network

    x = np.array([[1.0, 2.0]])
    found = limit_kernel(Network([1.0, "exp(-(u - v)**2)", 1.0], "identity", 1.0), x)
    integral = math.sqrt(math.pi) * math.erf(1.0) - 1 + math.exp(-1.0)
    return abs(float(found.nngp[0, 0]) / (2.5 * integral) - 1), 1e-10


def _spectrum() -> tuple[float, float]:
    """Singular values of Min(u, v): 4 / ((2 k - 1)^2 pi^2)."""
    from graphon_theory.graphons.analytic import AnalyticGraphon
    from graphon_theory.spectra.graphon_spectra import graphon_spectrum

    found = graphon_spectrum(AnalyticGraphon("Min(u, v)"), 5).singular_value.values
    wanted = 4 / ((2 * np.arange(1, 6) - 1) ** 2 * np.pi**2)
    return float(np.abs(found / wanted - 1).max()), 1e-8


def _training() -> tuple[float, float]:
    """Gradient flow against the exponential of the kernel."""
    from scipy.linalg import expm

    from graphon_theory.training.dynamics import gradient_flow

    rng = np.random.default_rng(2)
    root, y = rng.standard_normal((6, 9)), rng.standard_normal(6)
    kernel = root @ root.T
    found = gradient_flow(kernel, y, [0.3]).prediction.values[0]
    return float(np.abs(found - (y - expm(-0.3 * kernel / 6) @ y)).max()), 1e-10


_CHECKS: dict[str, Callable[[], tuple[float, float]]] = {
    "ReLU kernels in closed form": _arc_cosine,
    "blocks, summed by hand": _blocks,
    "a smooth graphon's integral": _quadrature,
    "the spectrum of Min(u, v)": _spectrum,
    "gradient flow by exponentials": _training,
}
