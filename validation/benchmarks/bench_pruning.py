"""Time and peak memory of pruning wide networks: one method in one process, so that peaks do not mix.

    python validation/benchmarks/bench_pruning.py snip [--width 10000] [--density 0.2] [--threads 2] [--device cuda]

Three hidden layers, d = 784, ten outputs, float32, random inputs and labels where a method needs data (a batch
of 256). SynFlow takes its 100 rounds. On a CUDA device the peak is that of the device's memory. `make bench` runs
it without arguments: SNIP and SynFlow at width 2,048.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from graphon_validation import MaskedMLP, dense, prune

INPUTS, OUTPUTS, BATCH = 784, 10, 256


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, INPUTS)), rng.integers(OUTPUTS, size=BATCH)


def network(width: int, device: str) -> MaskedMLP:
    return dense((INPUTS, width, width, width, OUTPUTS), 0, device=device, dtype=torch.float32)


def peak(device: str) -> float:
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", default=["snip", "synflow"])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=None, help="torch's threads (default: its own choice)")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    table = Table(title=f"three hidden layers of {options.width:,}, density {options.density:g}, float32")
    for heading in ("method", "seconds", "CPU seconds", "density reached", "per layer", "peak so far (GiB)"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in options.methods:
        model = network(options.width, options.device)
        wall, busy = time.perf_counter(), time.process_time()
        prune(model, method, options.density, data() if method in ("snip", "grasp") else None, rng=0)
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        kept, total = sum(int(m.sum()) for m in model.masks), sum(m.numel() for m in model.masks)
        table.add_row(
            method,
            f"{wall:.1f}",
            f"{busy:.1f}",
            f"{kept / total:.8f}",
            " ".join(f"{float(m.float().mean()):.3f}" for m in model.masks),
            f"{peak(options.device):.2f}",
        )
        del model
    place = "" if torch.device(options.device).type == "cpu" else f"{torch.cuda.get_device_name()}; "
    table.caption = f"{place}{torch.get_num_threads()} threads; torch {torch.__version__}"
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
