"""Test errors of kernel regression on handwritten digits: predicted from the kernel and targets, and measured.

    python validation/benchmarks/bench_generalisation.py [--sizes 50 100 250 500 1000] [--repeats 20]

Training sets of n are drawn without replacement, and the others are the test set; targets are ten centred one-hot
columns, and the error is the mean square, summed over them. "spectrum" uses eigenvalues and the target's power in them
alone, "resolved" also solves for one effective ridge an input (``gt.learning_curve``). Once with the 1,797 digits as
the population, where n is most of it in the end, once with 5,000 of them and their shifts, by the spectrum.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import graphon_theory as gt
from benchmarks.common import machine
from graphon_validation.experiments.digits import digits, shifted_digits

FloatArray = NDArray[np.float64]


def networks() -> dict[str, gt.Network]:
    """Dense, asymmetric blocks of unequal size, and smooth graphons under another activation."""
    blocks = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 1])
    smooth = gt.AnalyticGraphon("exp(-3*(u - v)**2) * (1 - u/2)")
    return {
        "dense, relu": gt.Network([1.0] * 4, bias_variance=0.1),
        "step, relu": gt.Network([1.0, blocks, blocks.T, 1.0], bias_variance=0.1),
        "smooth, erf": gt.Network([1.0, smooth, smooth.T, 1.0], "erf", bias_variance=0.1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 250, 500, 1000])
    parser.add_argument("--repeats", type=int, default=20)
    chosen = parser.parse_args()
    console = Console(width=110)
    populations = {"1,797 digits": digits(), "5,000 digits and shifts": shifted_digits(5000)}
    for name, (x, labels) in populations.items():
        y = np.eye(10)[labels]
        y -= y.mean(axis=0)
        console.print(_compared(name, x, y, chosen.sizes, chosen.repeats, resolved=len(x) < 2000))
    console.print(machine(), highlight=False)


def _compared(name: str, x: FloatArray, y: FloatArray, sizes: list[int], repeats: int, resolved: bool) -> Table:
    table = Table(title=f"mean square error on the rest of {name}, {repeats} training sets a size")
    kinds = {"spectrum": "spectral_error"} | ({"resolved": "test_error"} if resolved else {})
    for heading in ("network", "n", "measured ± error", *(f"{kind} / measured" for kind in kinds), "seconds"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    worst = dict.fromkeys(kinds, 0.0)
    for label, network in networks().items():
        kernel = gt.limit_kernel(network, x).ntk
        start = time.perf_counter()
        found = gt.learning_curve(kernel, y, sizes, resolved=resolved)
        seconds = time.perf_counter() - start
        real = gt.measured_learning_curve(kernel, y, sizes, repeats=repeats)
        for n in sizes:
            measured, error = (float(real[key].sel(size=n)) for key in ("test_error", "test_error_error"))
            ratios = {kind: float(found[key].sel(size=n)) / measured for kind, key in kinds.items()}
            worst = {kind: max(worst[kind], abs(ratio - 1)) for kind, ratio in ratios.items()}
            shares = (f"{ratio:.3f}" for ratio in ratios.values())
            table.add_row(label, f"{n:,}", f"{measured:.4f} ± {error:.4f}", *shares, f"{seconds / len(sizes):.1f}")
        table.add_section()
    table.caption = "off at most: " + ", ".join(f"{kind} {value:.1%}" for kind, value in worst.items())
    return table


if __name__ == "__main__":
    main()
