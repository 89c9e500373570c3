"""What large kernels cost: seconds, peak memory and residuals, one run of each figure in a process of its own.

    python -m benchmarks.bench_scale spectrum --size 20000 --count 20
    python -m benchmarks.bench_scale bounds --size 20000
    python -m benchmarks.bench_scale bounds --size 20000 --bound 3
    python -m benchmarks.bench_scale large --size 60000 --count 100
    python -m benchmarks.bench_scale regression --size 20000
    python -m benchmarks.bench_scale solvers --size 8000 --count 50

``spectrum``: the kernel of warped digits (28 x 28, constant graphons, float32), the top of its spectrum, and both at
once by products. ``bounds``: the same by products within three bounds of memory (1/4, 6/10 and 14/10 of what all tiles
take), or within one of them alone, and what was taken at most, and beyond what the process held before.
``large``: by products alone. ``regression``: ten targets at three ridges, and the test error, beside that of 1,000
landmarks. ``solvers``: the same modes from products with kept tiles, by this package, by SciPy's ARPACK and LOBPCG, and
by a randomised subspace iteration.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console

import graphon_theory as gt
from benchmarks.common import FloatArray, machine

_NETWORKS = {
    "constant": gt.Network([0.5] * 4),
    "blocks": gt.Network([0.5, *[gt.StepGraphon(0.2 + 0.6 * np.eye(4))] * 2, 0.5], bias_variance=0.1),
}
_RIDGES = (1e-2, 1e-3, 1e-4)
_BOUNDS = (0.25, 0.6, 1.4)  # of memory, as shares of all tiles
_TESTS = 5000
_LANDMARKS = 1000


def inputs(size: int) -> tuple[FloatArray, Any]:
    """Warped digits, centred, of mean square 1, and their labels."""
    x, labels = gt.datasets.digits(28, size, rng=0)
    x -= x.mean()
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True)), labels


def peak() -> float:
    """GiB that the process has held at most."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    """One figure, in this process."""
    network = _NETWORKS[chosen.network]
    x, labels = inputs(chosen.size + (_TESTS if chosen.one == "regression" else 0))
    gt.spectrum(gt.kernel_operator(network, x[:1200], dtype="float32"), 2)  # compiled code is loaded
    found: dict[str, Any] = {"peak before": peak()}
    clock = time.perf_counter()

    def lap() -> float:
        nonlocal clock
        before, clock = clock, time.perf_counter()
        return clock - before

    if chosen.one == "kernel":
        kernel = gt.limit_kernel(network, x, dtype="float32").ntk
        found["kernel"] = lap()
        modes = gt.spectrum(kernel, chosen.count)
        found |= {"spectrum": lap(), "residual": float(modes.residual.max())}
    elif chosen.one == "products":
        operator = gt.kernel_operator(network, x, dtype="float32", memory=chosen.memory)
        modes = gt.spectrum(operator, chosen.count)
        found |= {"spectrum": lap(), "residual": float(modes.residual.max()), "products": modes.attrs["products"]}
        found |= {"energy": float(modes.energy[-1]), "kept": operator.kept_share}
        found["kernels computed"] = operator.pairs_computed / (chosen.size**2 / 2)
    elif chosen.one == "solvers":
        found |= solvers(gt.kernel_operator(network, x, dtype="float32"), chosen.count)
    else:
        train, new = x[: chosen.size], x[chosen.size :]
        y = np.eye(10)[labels] - 0.1
        operator = gt.kernel_operator(network, train, dtype="float32", memory=chosen.memory)
        cross = gt.kernel_operator(network, new, train, dtype="float32", memory=chosen.memory)
        fit = gt.kernel_regression(operator, y[: chosen.size], cross, ridge=_RIDGES, tolerance=1e-6)
        found |= {
            "regression": lap(),
            "residual": float(fit.residual.max()),
            "iterations": fit.iterations.max("target"),
        }
        found["iterations"] = found["iterations"].values.tolist()
        hits = fit.test_prediction.values.argmax(axis=2) == labels[chosen.size :]
        found["test accuracy"] = hits.mean(axis=1).tolist()
        error = np.mean((fit.test_prediction.values - y[chosen.size :]) ** 2, axis=(1, 2))
        found["test error"] = (10 * error).tolist()
        lap()
        few = gt.nystrom_kernel(network, train, _LANDMARKS, dtype="float32")
        # F F^T + ridge I is inverted by F^T F, so that all ridges cost one factor and small systems
        gram, heard, other = few.factor.T @ few.factor, few.factor.T @ y[: chosen.size], few.features(new)
        shifts = [ridge * chosen.size * np.eye(len(gram)) for ridge in _RIDGES]
        told = np.stack([other @ np.linalg.solve(gram + shift, heard) for shift in shifts])
        missed = np.sum((told - y[chosen.size :]) ** 2, axis=2)
        found |= {"landmarks": lap(), "pairs off by": [few.error, few.attrs["standard_error"]]}
        found["test error by landmarks"] = missed.mean(axis=1).tolist()
        found["its standard error"] = (missed.std(axis=1) / np.sqrt(_TESTS)).tolist()
    most = peak()
    return found | {"peak": most, "peak beyond that": most - found["peak before"]}


def solvers(operator: Any, count: int) -> dict[str, Any]:
    """Seconds, products with a vector, and the largest residual over the largest eigenvalue, of each solver."""
    from scipy.sparse.linalg import eigsh, lobpcg

    columns, made = 0, operator._matmat

    def product(block: FloatArray) -> FloatArray:
        nonlocal columns
        columns += block.shape[1]
        return np.asarray(made(block))

    operator._matmat = product
    operator._matvec = lambda v: product(np.reshape(v, (-1, 1)))[:, 0]
    start = np.random.default_rng(0).standard_normal((operator.shape[0], count))
    operator @ start[:, 0]  # tiles are made and kept

    def randomised() -> tuple[FloatArray, FloatArray]:
        """Halko, Martinsson and Tropp (2011): 10 more vectors than modes, 4 powers, then Rayleigh and Ritz."""
        wide = np.random.default_rng(0).standard_normal((operator.shape[0], count + 10))
        for _ in range(4):
            wide = np.linalg.qr(operator @ wide)[0]
        values, vectors = np.linalg.eigh(wide.T @ (operator @ wide))
        return values[-count:], (wide @ vectors)[:, -count:]

    def own() -> tuple[FloatArray, FloatArray]:
        modes = gt.spectrum(operator, count)
        return modes.eigenvalue.values * operator.shape[0], modes.eigenfunction.values / np.sqrt(operator.shape[0])

    tried = {
        "graphon_theory": own,
        "eigsh (ARPACK)": lambda: eigsh(operator, count, tol=1e-7),
        "lobpcg": lambda: lobpcg(operator, start.copy(), largest=True, tol=1e-7 * operator.trace, maxiter=40),
        "randomised": randomised,
    }
    found = {}
    for name, solve in tried.items():
        columns, began = 0, time.perf_counter()
        values, vectors = solve()
        seconds = time.perf_counter() - began
        vectors = vectors / np.linalg.norm(vectors, axis=0)
        off = np.linalg.norm(operator @ vectors - vectors * values, axis=0).max() / np.max(values)
        found[name] = [seconds, float(columns), float(off)]
    return found


def in_process(chosen: argparse.Namespace, one: str, memory: float | None = None) -> dict[str, Any]:
    """One figure in a process of its own."""
    options = ["--size", str(chosen.size), "--count", str(chosen.count), "--network", chosen.network, "--one", one]
    options += [] if memory is None else ["--memory", str(memory)]
    command = [sys.executable, "-m", "benchmarks.bench_scale", chosen.what, *options]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("spectrum", "bounds", "large", "regression", "solvers"))
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--network", choices=tuple(_NETWORKS), default="constant")
    parser.add_argument("--memory", type=float)
    parser.add_argument("--bound", type=int, choices=range(1, len(_BOUNDS) + 1), help="one of the three alone")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bound and chosen.what != "bounds":
        parser.error("argument --bound: it is one of those that bounds measures")
    if chosen.one:
        print(json.dumps(measured(chosen)))
        return
    console = Console(width=110)
    packed = 4 * chosen.size**2 / 2
    shares = _BOUNDS if chosen.bound is None else _BOUNDS[chosen.bound - 1 : chosen.bound]
    plans: dict[str, list[tuple[str, float | None]]] = {
        "spectrum": [("kernel", None), ("products", chosen.memory)],
        "bounds": [("products", share * packed) for share in shares],
        "large": [("products", chosen.memory)],
        "regression": [("regression", chosen.memory)],
        "solvers": [("solvers", chosen.memory)],
    }
    for one, memory in plans[chosen.what]:
        bound = "" if memory is None else f", within {memory / 2**30:.2f} GiB"
        console.print(f"{one}, {chosen.network}, N = {chosen.size:,}{bound}", highlight=False)
        for name, value in in_process(chosen, one, memory).items():
            shown = [f"{v:.4g}" for v in value] if isinstance(value, list) else f"{value:.4g}"
            console.print(f"  {name}: {shown}", highlight=False)
    console.print(machine(), highlight=False)


if __name__ == "__main__":
    main()
