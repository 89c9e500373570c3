"""Exact masked kernels against torch.func jacobians: time, peak memory and difference.

    python validation/benchmarks/bench_empirical_kernel.py [--inputs 256] [--width 2048] [--density 0.2]

The network has three hidden layers, the two middle masks at the given density, dense ends, ReLU, no bias.
Jacobians are taken by ``rows`` rows of one layer's weight at a time and multiplied at once, which is kinder to
them than all at once: at the default a whole layer's jacobian holds inputs x width^2 numbers (8.6 GB, twice while
it is taken). CPU seconds are what a busy machine leaves comparable.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import functional_call, grad, vmap

from graphon_theory.networks import Network
from graphon_validation import MaskedMLP, build, empirical_kernel


def jacobian_kernel(model: MaskedMLP, x: Tensor, rows: int) -> np.ndarray:
    """sum over layers of J J^T, J = d f / d weight by automatic differentiation."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    total = torch.zeros(len(x), len(x), dtype=x.dtype)
    for name, weight in parameters.items():
        for start in range(0, len(weight), rows):
            stop = min(start + rows, len(weight))

            def output(part: Tensor, one: Tensor, name: str = name, start: int = start, stop: int = stop) -> Tensor:
                weight = torch.cat([parameters[name][:start], part, parameters[name][stop:]])
                found: Tensor = functional_call(model, {**parameters, name: weight}, (one[None],))
                return found[0, 0]

            jacobian = vmap(grad(output), (None, 0))(weight[start:stop], x).flatten(1)
            total += jacobian @ jacobian.T
            del jacobian
    return total.numpy()


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float, float]:
    """(result, seconds, CPU seconds, peak resident GiB so far)."""
    start, busy = time.perf_counter(), time.process_time()
    result = work()
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return result, seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--rows", type=int, default=512, help="rows of a weight in one jacobian")
    options = parser.parse_args()
    n, p = options.width, options.density
    model = build(Network([1.0, p, p, 1.0]), (64, n, n, n, 1), seed=0)
    x = np.random.default_rng(0).standard_normal((options.inputs, 64))
    _, _, _, before = timed(lambda: empirical_kernel(model, x[:8]).ntk.values)  # warm up the libraries
    exact, *fast = timed(lambda: empirical_kernel(model, x).ntk.values)
    oracle, *slow = timed(lambda: jacobian_kernel(model, torch.from_numpy(x), options.rows))
    table = Table(title=f"{options.inputs} inputs, three hidden layers of {n:,}, density {p:g}, float64")
    for heading in ("", "seconds", "CPU seconds", "peak memory (GiB)"):
        table.add_column(heading, justify="right")
    table.add_row("network and libraries", "", "", f"{before:.2f}")
    table.add_row("empirical_kernel", *(f"{value:.2f}" for value in fast))
    table.add_row("torch.func jacobians", *(f"{value:.2f}" for value in slow))
    difference = np.abs(exact - oracle).max() / np.abs(oracle).max()
    table.caption = (
        f"ratio {slow[0] / fast[0]:.1f} in seconds, {slow[1] / fast[1]:.1f} in CPU seconds; largest difference "
        f"{difference:.1e} of the largest entry; jacobians by {options.rows} rows; {torch.get_num_threads()} threads"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
