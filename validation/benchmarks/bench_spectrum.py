"""The largest modes of a large kernel against all eigenvalues by LAPACK: seconds, ratio and residuals.

8,000 handwritten digits (shifted copies with a little noise) and as many Gaussian inputs in 64 dimensions, whose modes
crowd (2,079 of nearly one eigenvalue): what limits the search is how close eigenvalues lie at the last mode wanted.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import machine
from graphon_theory import limit_kernel, spectrum
from graphon_theory.networks.network import Network
from graphon_validation.experiments.digits import shifted_digits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8000)
    parser.add_argument("--count", type=int, default=100)
    chosen = parser.parse_args()
    size, count = chosen.size, chosen.count
    inputs = {
        "digits": shifted_digits(size)[0],
        "Gaussian, d = 64": np.random.default_rng(0).standard_normal((size, 64)),
    }
    network = Network([1.0] * 4, bias_variance=0.1)
    table = Table(title=f"{count} largest modes of {size:,} x {size:,} NTKs, wall seconds, one run")
    for heading in ("inputs", "eigvalsh", "spectrum", "ratio", "largest residual / lambda_1", "eigenvalues off"):
        table.add_column(heading, justify="left" if heading == "inputs" else "right")
    for name, x in inputs.items():
        kernel = limit_kernel(network, x).ntk.values
        start = time.perf_counter()
        modes = spectrum(kernel, count)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        values = np.linalg.eigvalsh(kernel)[::-1] / size
        whole = time.perf_counter() - start
        off = float(np.abs(modes.eigenvalue.values - values[:count]).max() / values[0])
        residual = float(modes.residual.max())
        table.add_row(name, f"{whole:.1f}", f"{ours:.1f}", f"{whole / ours:.1f}", f"{residual:.1e}", f"{off:.1e}")
    console = Console(width=110)
    console.print(table)
    console.print(machine(), highlight=False)


if __name__ == "__main__":
    main()
