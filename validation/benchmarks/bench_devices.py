"""Exact kernels on the CPU and on a CUDA device: seconds at widths 4,096 and 10,000; then limit kernels on both.

    python validation/benchmarks/bench_devices.py [--inputs 256] [--widths 4096 10000] [--density 0.2] [--limits 20000]

Three hidden layers, the two middle masks at the given density, dense ends, ReLU, float32. Without a CUDA device
the CPU's column stands alone, at width 1,024 unless widths are given.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from graphon_theory import Network, StepGraphon, limit_kernel
from graphon_validation import build, device_kernel, empirical_kernel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--widths", type=int, nargs="+", default=None)
    parser.add_argument("--limits", type=int, default=None, help="inputs of the limit kernels")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    p = options.density
    x = np.random.default_rng(0).standard_normal((options.inputs, 64))
    table = Table(title=f"{options.inputs} inputs, three hidden layers, density {p:g}, float32")
    for heading in ("width", *(["CPU (s)", "GPU (s)", "ratio", "difference"] if gpu else ["CPU (s)"])):
        table.add_column(heading, justify="right")
    for width in options.widths or ([4096, 10000] if gpu else [1024]):
        model = build(Network([1.0, p, p, 1.0]), (64, *[width] * 3, 1), seed=0, dtype=torch.float32)
        found, seconds = [], []
        for device in ("cpu", "cuda") if gpu else ("cpu",):
            model.to(device)
            empirical_kernel(model, x[:8])  # warm up
            start = time.perf_counter()
            found.append(empirical_kernel(model, x).ntk.values)  # ends on the CPU, so the device is waited for
            seconds.append(time.perf_counter() - start)
        row = [f"{width:,}", *(f"{value:.2f}" for value in seconds)]
        if gpu:
            difference = np.abs(found[0] - found[1]).max() / np.abs(found[0]).max()
            row += [f"{seconds[0] / seconds[1]:.1f}", f"{difference:.1e}"]
        table.add_row(*row)
    name = torch.cuda.get_device_name() if gpu else "no CUDA device here"
    table.caption = f"{torch.get_num_threads()} CPU threads; {name}; torch {torch.__version__}"
    Console().print(table)

    Console().print(limit_table(options.limits or (20_000 if gpu else 1_000), gpu))


def limit_table(size: int, gpu: bool) -> Table:
    """``gt.limit_kernel`` beside ``gv.device_kernel``, float32, 784 inputs: constant graphons and four blocks."""
    x = np.random.default_rng(0).standard_normal((size, 784))
    blocks = StepGraphon(0.2 + 0.6 * np.eye(4))
    networks = {"constant": Network([0.5] * 4), "four blocks": Network([0.5, blocks, blocks, 0.5], bias_variance=0.1)}
    table = Table(title=f"limit kernels, {size:,} inputs, float32")
    place = "cuda" if gpu else "cpu"
    for heading in ("graphons", "engine (s)", f"torch, {place} (s)", "ratio", "difference"):
        table.add_column(heading, justify="right")
    for name, network in networks.items():
        limit_kernel(network, x[:2000], dtype="float32"), device_kernel(network, x[:2000], device=place)  # warm up
        start = time.perf_counter()
        one = limit_kernel(network, x, dtype="float32").ntk.values
        middle = time.perf_counter()
        other = device_kernel(network, x, device=place).ntk.values
        engine, torch_s = middle - start, time.perf_counter() - middle
        difference = np.abs(one - other).max() / np.abs(one).max()
        table.add_row(name, f"{engine:.2f}", f"{torch_s:.2f}", f"{engine / torch_s:.1f}", f"{difference:.1e}")
    return table


if __name__ == "__main__":
    main()
