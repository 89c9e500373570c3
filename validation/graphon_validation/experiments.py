"""Experiments by name: ``python -m graphon_validation EXPERIMENT --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from xarray import Dataset

from graphon_theory.errors import GraphonError, InputError, SpecError
from graphon_theory.graphons import StepGraphon
from graphon_theory.limits import limit_kernel
from graphon_theory.networks import Network
from graphon_theory.pruning import magnitude_pruning, random_pruning
from graphon_theory.results import save_dataset
from graphon_validation.comparison import compare
from graphon_validation.sweeps import width_sweep

INPUTS, SAMPLES = 8, 6
ENTRIES = [(0, 0), (0, 5), (3, 5)]
DENSITY = 0.2


def structured_network() -> Network:
    """Dense inputs, asymmetric unequal step blocks in the hidden layers and the readout, biases, erf.

    The input layer is full because a masked one is O(1/d) off at any width (THEORY §9). Block edges are
    eighths: at widths that are multiples of 8 every block has exactly its share of units, so that the
    finite-width bias is a smooth c/n instead of jumping with the rounding of block sizes. The blocks make a
    core that most paths go through, so the structure shows: constant layers of the same densities have a
    kernel a third smaller.
    """
    first = StepGraphon([[1.0, 0.8], [0.05, 0.02]], [0, 0.375, 1], [0, 0.375, 1])
    second = StepGraphon([[1.0, 0.05], [0.8, 0.02], [0.05, 0.2]], [0, 0.25, 0.5, 1], [0, 0.375, 1])
    readout = StepGraphon([[1.0, 0.3, 0.05]], v_edges=[0, 0.25, 0.5, 1])
    return Network([1.0, first, second, readout], activation="erf", weight_variance=2.0, bias_variance=0.1)


def magnitude_networks(density: float = DENSITY) -> tuple[Network, Network, Network]:
    """(dense, (W, V), (W, W)): two hidden layers of magnitude masks between dense ends, biases, erf."""

    def network(*hidden: Any) -> Network:
        return Network([1.0, *hidden, 1.0], activation="erf", weight_variance=2.0, bias_variance=0.1)

    magnitude, random = magnitude_pruning(density), random_pruning(density)
    return network(1.0, 1.0), network(magnitude, magnitude), network(random, random)


def gaussian_inputs(seed: int = 0) -> NDArray[np.float64]:
    """Six inputs of eight standard normals."""
    return np.random.default_rng(seed).standard_normal((SAMPLES, INPUTS))


def width_sweep_experiment(
    out: Path, widths: Sequence[int], seeds: int, *, console: Console | None = None
) -> dict[str, Dataset]:
    """Masks drawn from a structured network, then magnitude masks with their own weights.

    Each is held against its limit. Writes ``width-sweep-NAME.nc`` for each comparison: drawn, magnitude
    (against (W, V)) and
    magnitude-as-random (the same networks against (W, W), which must fail). Returns the comparisons by
    name.
    """
    console = console or _wide_console()
    x = gaussian_inputs()
    structured = structured_network()
    dense, paired, unpaired = magnitude_networks()
    pruning = {"method": "magnitude", "density": DENSITY, "scope": "layer", "layers": [1, 2]}
    drawn = width_sweep(structured, x, widths=widths, seeds=range(seeds))
    pruned = width_sweep(dense, x, widths=widths, seeds=range(seeds), prune=pruning)
    found: dict[str, Dataset] = {}
    for name, title, real, network in (
        ("drawn", "masks drawn from step graphons, against (W, W)", drawn, structured),
        ("magnitude", "magnitude masks, own weights, against (W, V)", pruned, paired),
        ("magnitude-as-random", "the same magnitude networks against (W, W): must fail", pruned, unpaired),
    ):
        found[name] = compare(real, limit_kernel(network, x), ENTRIES)
        save_dataset(_merged(real, found[name]), out / f"width-sweep-{name}.nc")
        for table in comparison_tables(found[name], title):
            console.print(table)
    return found


def quickstart_sweep(network: Path, inputs: Path, widths: Sequence[int], seeds: int, out: Path) -> Dataset:
    """A short sweep of the network in a TOML file on the inputs in a .npy file, for the quickstart's table.

    Writes ``quickstart-sweep.nc``: the kernels and their comparison with the limit. Raises SpecError or
    InputError when a file cannot be read.
    """
    try:
        text = network.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--network: cannot read {network}: {error}.") from None
    try:
        x = np.load(inputs, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--inputs: cannot read {inputs} as .npy: {error}.") from None
    net = Network.from_toml(text)
    real = width_sweep(net, x, widths=widths, seeds=range(seeds))
    result = _merged(real, compare(real, limit_kernel(net, x)))
    save_dataset(result, out / "quickstart-sweep.nc")
    return result


def comparison_tables(found: Dataset, title: str) -> tuple[Table, Table]:
    """What :func:`compare` found, for the terminal: one row per tested quantity, one per width."""
    names = [str(name) for name in found["quantity"].values]
    tested = Table(title=title, caption="fit: mean over seeds = k + c/n; z of k in standard errors")
    for heading in ("quantity", "limit", "k ± error", "z of k", "c ± error"):
        tested.add_column(heading, justify="left" if heading == "quantity" else "right")
    for name in names:
        row = found.sel(quantity=name)
        tested.add_row(
            name,
            f"{float(row.limit):.6g}",
            f"{float(row.fitted):.6g} ± {float(row.fitted_error):.2g}",
            f"{float(row.fitted_z):+.2f}",
            f"{float(row.bias):+.3g} ± {float(row.bias_error):.2g}",
        )
    slope = f"{float(found.spread_slope):+.3f} ± {float(found.spread_slope_error):.3f}"
    wide = Table(
        caption=f"z and rest (after c/n) in the order {', '.join(names)}\n"
        f"log-log slope of the spread: {slope} (theory: -1/2)"
    )
    for heading in ("width", "z", "rest", "scale ± error", "shape (noise)", "spread ± error"):
        wide.add_column(heading, justify="right")
    for width in found["width"].values:
        row = found.sel(width=width)
        wide.add_row(
            f"{int(width):,}",
            *(" ".join(f"{z:+.1f}" for z in row[key].values) for key in ("z", "residual_z")),
            f"{float(row.scale):.4f} ± {float(row.scale_error):.4f}",
            f"{float(row.shape_error):.4f} ({float(row.shape_noise):.4f})",
            f"{float(row.spread):.4f} ± {float(row.spread_error):.4f}",
        )
    return tested, wide


def _wide_console() -> Console:
    """The terminal, or 110 columns where output goes to a file: rich would fold the tables at 80."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def _merged(real: Dataset, found: Dataset) -> Dataset:
    return found.assign(ntk=real.ntk).assign_attrs({**real.attrs, **found.attrs})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m graphon_validation", description=__doc__)
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    sweep = commands.add_parser("width-sweep", help="drawn and pruned networks against their limits")
    quick = commands.add_parser("quickstart-sweep", help="a short sweep of a network given as TOML")
    quick.add_argument("--network", type=Path, required=True, help="TOML file of the network")
    quick.add_argument("--inputs", type=Path, required=True, help=".npy file of inputs (samples, inputs)")
    for command, widths, seeds in ((sweep, [128, 256, 512, 1024, 2048], 32), (quick, [64, 256], 8)):
        command.add_argument("--out", type=Path, required=True, help="folder for the results")
        command.add_argument("--widths", type=int, nargs="+", default=widths, help="hidden widths")
        command.add_argument("--seeds", type=int, default=seeds, help="networks per width (at least 3)")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.experiment == "width-sweep":
            width_sweep_experiment(chosen.out, chosen.widths, chosen.seeds)
        else:
            quickstart_sweep(chosen.network, chosen.inputs, chosen.widths, chosen.seeds, chosen.out)
    except GraphonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
