"""Exact kernels on the CPU and on a CUDA device: seconds at widths 4,096 and 10,000.

    python validation/benchmarks/bench_devices.py [--inputs 256] [--widths 4096 10000] [--density 0.2]

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

from graphon_theory.networks.network import Network
from graphon_validation import build, empirical_kernel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--widths", type=int, nargs="+", default=None)
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


if __name__ == "__main__":
    main()
