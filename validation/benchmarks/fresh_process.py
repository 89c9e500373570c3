"""What a new process pays: seconds to import, seconds to a first kernel, and the memory of a large one.

Prints one JSON object. With the argument "memory", also the growth of the peak resident set in a call for N = 2,000
after one for N = 100, beyond inputs and results, for dense connections and for 64 positions (Linux only).
"""

from __future__ import annotations

import time

start = time.perf_counter()
import graphon_theory as gt  # noqa: E402

imported = time.perf_counter() - start

import json  # noqa: E402
import re  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

MIB = 2**20


def resident(what: str) -> float:
    """MiB: "VmRSS" now, or "VmHWM" at most so far."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


def growth(network: gt.Network, x: np.ndarray) -> float:
    """MiB of a call's peak above what was resident before, beyond its results; inputs are there already."""
    gt.limit_kernel(network, x[:100])
    before = resident("VmRSS")
    kernel = gt.limit_kernel(network, x)
    return resident("VmHWM") - before - (kernel.nngp.nbytes + kernel.ntk.nbytes) / MIB


rng = np.random.default_rng(0)
x = rng.standard_normal((2000, 64))
values = rng.uniform(0.1, 1.0, (4, 4))
network = gt.Network([rng.uniform(0.1, 1.0, (4, 64)), values, values, values[:1]], bias_variance=0.1)
gt.limit_kernel(network, x[:100])
report = {"import": imported, "first": time.perf_counter() - start}
if "memory" in sys.argv:
    large = [rng.uniform(0.1, 1.0, shape) for shape in ((64, 64), (64, 64), (64, 64), (1, 64))]
    report["dense"] = growth(gt.Network([1.0] * 4), x)
    report["64 positions"] = growth(gt.Network(large, bias_variance=0.1), x)
print(json.dumps(report))
