"""Exact masked kernels against torch.func jacobians: time, peak memory and difference.

    python validation/benchmarks/bench_empirical_kernel.py [--inputs 128] [--width 2048] [--density 0.2]

The network has three hidden layers, the two middle masks at the given density, dense ends, ReLU, no bias.
Jacobians are taken and multiplied one layer at a time, which is kinder to them than all layers at once: a
layer's jacobian alone holds inputs x width^2 numbers (4.3 GB at the default, 8.6 GB for 256 inputs). Derivatives by
a part of a weight would save nothing: autodiff forms the whole one first. CPU seconds are what a busy machine leaves
comparable.
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

from graphon_theory.networks.network import Network
from graphon_validation import MaskedMLP, build, empirical_kernel

_CHUNK = 32  # inputs whose jacobian is taken at a time


def jacobian_kernel(model: MaskedMLP, x: Tensor) -> np.ndarray:
    """sum over layers of J J^T, J = d f / d weight by automatic differentiation."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    total = torch.zeros(len(x), len(x), dtype=x.dtype)
    for name in parameters:

        def output(value: Tensor, one: Tensor, name: str = name) -> Tensor:
            found: Tensor = functional_call(model, {**parameters, name: value}, (one[None],))
            return found[0, 0]

        jacobian = torch.empty(len(x), parameters[name].numel(), dtype=x.dtype)
        for start in range(0, len(x), _CHUNK):  # taken whole it would be held twice
            some = slice(start, start + _CHUNK)
            jacobian[some] = vmap(grad(output), (None, 0))(parameters[name], x[some]).flatten(1)
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
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--density", type=float, default=0.2)
    options = parser.parse_args()
    n, p = options.width, options.density
    model = build(Network([1.0, p, p, 1.0]), (64, n, n, n, 1), seed=0)
    x = np.random.default_rng(0).standard_normal((options.inputs, 64))
    _, _, _, before = timed(lambda: empirical_kernel(model, x[:8]).ntk.values)  # warm up the libraries
    exact, *fast = timed(lambda: empirical_kernel(model, x).ntk.values)
    oracle, *slow = timed(lambda: jacobian_kernel(model, torch.from_numpy(x)))
    table = Table(title=f"{options.inputs} inputs, three hidden layers of {n:,}, density {p:g}, float64")
    for heading in ("", "seconds", "CPU seconds", "peak memory (GiB)"):
        table.add_column(heading, justify="right")
    table.add_row("network and libraries", "", "", f"{before:.2f}")
    table.add_row("empirical_kernel", *(f"{value:.2f}" for value in fast))
    table.add_row("torch.func jacobians", *(f"{value:.2f}" for value in slow))
    difference = np.abs(exact - oracle).max() / np.abs(oracle).max()
    table.caption = (
        f"ratio {slow[0] / fast[0]:.1f} in seconds, {slow[1] / fast[1]:.1f} in CPU seconds; largest difference "
        f"{difference:.1e} of the largest entry; {torch.get_num_threads()} threads"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
