"""Experiments by name: ``python -m graphon_validation EXPERIMENT --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from xarray import Dataset

from graphon_theory.connectivity import Connectivity
from graphon_theory.errors import GraphonError, InputError, SpecError
from graphon_theory.graphons import StepGraphon
from graphon_theory.limits import limit_kernel
from graphon_theory.networks import Network
from graphon_theory.pruning import magnitude_pruning, random_pruning
from graphon_theory.results import save_dataset
from graphon_validation.comparison import compare
from graphon_validation.digits import upsampled_digits
from graphon_validation.eigenvalue_gaps import eigenvalue_gaps, gap_table
from graphon_validation.idx_files import load_data
from graphon_validation.models import build, dense
from graphon_validation.protocol_experiments import protocol_experiment
from graphon_validation.pruning import prune
from graphon_validation.reports import comparison_tables, wide_console
from graphon_validation.saliency_experiments import saliency_experiment
from graphon_validation.scores import METHODS
from graphon_validation.sign_tests import applicability, applicability_table
from graphon_validation.sweeps import distinct, width_sweep
from graphon_validation.training_experiments import METHODS as TRAINED
from graphon_validation.training_experiments import training_experiment

INPUTS, SAMPLES = 8, 6
ENTRIES = [(0, 0), (0, 5), (3, 5)]
DENSITY = 0.2
ONE_SHOT = sorted(set(METHODS) - {"imp"})


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


def three_block_network(drift: bool = False) -> Network:
    """Three unequal blocks in every hidden layer, V unlike W, with ``drift`` coherences D / sqrt(V) up to 0.8.

    Asymmetric, dense inputs, ReLU, biases; block edges are eighths (see :func:`structured_network`).
    """
    edges = [0, 0.25, 0.625, 1]
    w = np.array([[0.9, 0.2, 0.4], [0.1, 0.6, 0.3], [0.5, 0.15, 0.8]])
    ratio = np.array([[1.0, 2.5, 1.5], [3.0, 1.2, 2.0], [1.3, 2.8, 0.7]])
    coherence = np.array([[0.6, 0.2, 0.8], [0.5, 0.7, -0.3], [0.1, 0.8, 0.6]])

    def layer(w: NDArray[np.float64], ratio: NDArray[np.float64], c: NDArray[np.float64], *rows: Any) -> Connectivity:
        v = w * ratio
        graphons = (w, v, c * np.sqrt(v)) if drift else (w, v)
        return Connectivity(*(StepGraphon(values, *rows) for values in graphons))

    hidden = layer(w, ratio, coherence, edges, edges)
    turned = layer(w.T, ratio[::-1], coherence.T, edges, edges)
    readout = layer(w[:1], ratio[:1], coherence[:1], [0, 1], edges)
    return Network([1.0, hidden, turned, readout], activation="relu", weight_variance=1.5, bias_variance=0.1)


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
    console = console or wide_console()
    x = gaussian_inputs()
    structured = structured_network()
    dense_network, paired, unpaired = magnitude_networks()
    pruning: dict[str, Any] = {"method": "magnitude", "density": DENSITY, "scope": "layer", "layers": [1, 2]}
    drawn = width_sweep(structured, x, widths=widths, seeds=range(seeds))
    pruned = width_sweep(dense_network, x, widths=widths, seeds=range(seeds), prune=pruning)
    n = max(widths)
    probe = prune(build(dense_network, (INPUTS, *[n] * (dense_network.depth - 1), 1), 0), **pruning)
    console.print(applicability_table(applicability(probe, x), f"magnitude, width {n:,}, density {DENSITY:g}"))
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


def three_block_experiment(
    out: Path, widths: Sequence[int], seeds: int, *, console: Console | None = None
) -> dict[str, Dataset]:
    """Networks drawn from three-block (W, V) and (W, V, D) against their limits, trace and three entries.

    The (W, V, D) networks are also held against (W, V), which must fail. Writes ``three-blocks-NAME.nc``.
    """
    console = console or wide_console()
    x = gaussian_inputs()
    plain, drifting = three_block_network(), three_block_network(drift=True)
    sweeps = {one: width_sweep(one, x, widths=widths, seeds=range(seeds)) for one in (plain, drifting)}
    found: dict[str, Dataset] = {}
    for name, title, drawn, theory in (
        ("w-v", "drawn from three-block (W, V), against (W, V)", plain, plain),
        ("w-v-d", "drawn from three-block (W, V, D), against (W, V, D)", drifting, drifting),
        ("w-v-d-as-w-v", "the same networks with drift, against (W, V): must fail", drifting, plain),
    ):
        found[name] = compare(sweeps[drawn], limit_kernel(theory, x), ENTRIES)
        save_dataset(_merged(sweeps[drawn], found[name]), out / f"three-blocks-{name}.nc")
        for table in comparison_tables(found[name], title):
            console.print(table)
    return found


def magnitude_gap_experiment(
    out: Path, widths: Sequence[int], seeds: int, *, samples: int = 64, console: Console | None = None
) -> dict[tuple[int, str], Dataset]:
    """ln gap magnitude - random at density 0.2, four hidden layers, 784 inputs, 10 outputs (THEORY §2).

    On handwritten digits interpolated to 28 x 28, and on normal inputs. The table says which layers were pruned; for
    "all layers, Glorot" weights are Glorot uniform and one threshold serves all layers, elsewhere they are N(0, 1)
    with a threshold in each. Writes ``magnitude-gap-WIDTH-INPUTS.nc``. Returns the gaps by (width, inputs).
    """
    console = console or wide_console()
    inputs = {
        "digits": upsampled_digits(samples),
        "normal": np.random.default_rng(0).standard_normal((samples, 784)),
    }
    found: dict[tuple[int, str], Dataset] = {}
    for width in widths:
        model = prune(dense((784, *[width] * 4, 10), [0, width]), "magnitude", DENSITY, scope="layer")
        title = f"magnitude, width {width:,}, density {DENSITY:g}"
        console.print(applicability_table(applicability(model, inputs["digits"]), title))
        for name, x in inputs.items():
            one = eigenvalue_gaps(x, widths=(784, *[width] * 4, 10), density=DENSITY, seeds=range(seeds))
            save_dataset(one, out / f"magnitude-gap-{width}-{name}.nc")
            console.print(gap_table(one, f"ln gap magnitude - random, width {width:,}, {name} inputs"))
            found[width, name] = one
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


def _merged(real: Dataset, found: Dataset) -> Dataset:
    return found.assign(ntk=real.ntk).assign_attrs({**real.attrs, **found.attrs})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        distinct("widths", chosen.widths, 1)
        if chosen.seeds < chosen.least_seeds:
            raise InputError(
                f"--seeds: expected at least {chosen.least_seeds} networks for errors, got {chosen.seeds}."
            )
        chosen.run(chosen)
    except GraphonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m graphon_validation", description=__doc__)
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")

    def command(
        name: str, text: str, run: Callable[[argparse.Namespace], object], widths: list[int], seeds: int, least: int = 3
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text)
        made.add_argument("--out", type=Path, required=True, help="folder for the results")
        made.add_argument("--widths", type=int, nargs="+", default=widths, help="hidden widths")
        made.add_argument("--seeds", type=int, default=seeds, help=f"networks per width (at least {least})")
        made.set_defaults(run=run, least_seeds=least)
        return made

    text = "drawn and pruned networks against their limits"
    widths = [128, 256, 512, 1024, 2048]
    command("width-sweep", text, lambda c: width_sweep_experiment(c.out, c.widths, c.seeds), widths, 32)
    text = "networks drawn from three-block (W, V) and (W, V, D)"
    command("three-blocks", text, lambda c: three_block_experiment(c.out, c.widths, c.seeds), [256, 1024, 4096], 32)
    text = "eigenvalues under magnitude pruning over those under random"
    command("magnitude-gap", text, lambda c: magnitude_gap_experiment(c.out, c.widths, c.seeds), [1024], 24)
    quick = command("quickstart-sweep", "a short sweep of a network given as TOML", _quickstart, [64, 256], 8)
    quick.add_argument("--network", type=Path, required=True, help="TOML file of the network")
    quick.add_argument("--inputs", type=Path, required=True, help=".npy file of inputs (samples, inputs)")

    text = "pruned networks: four protocols against every theory"
    protocols = command("protocols", text, _protocols, [256, 512, 1024], 8)
    protocols.add_argument("--method", choices=ONE_SHOT, default="magnitude")
    protocols.add_argument("--density", type=float, default=DENSITY)
    protocols.add_argument("--blocks", type=int, default=8, help="blocks of units per hidden layer")
    protocols.add_argument("--hidden", type=int, default=3, help="hidden layers")
    protocols.add_argument("--prune-input", action="store_true", help="prune the input layer too")

    text = "networks pruned by SNIP against gt.saliency_network"
    saliency = command("saliency", text, _saliency, [512, 1024, 2048], 8)
    saliency.add_argument("--density", type=float, default=DENSITY)
    saliency.add_argument("--loss", choices=["cross_entropy", "squared"], default="cross_entropy")
    saliency.add_argument("--activation", default="relu")
    saliency.add_argument("--bias-variance", type=float, default=0.0)
    saliency.add_argument("--hidden", type=int, default=3, help="hidden layers")
    saliency.add_argument("--positions", type=int, default=512, help="units drawn per hidden layer")

    text = "pruned networks trained by Adam, beside their kernels at the start"
    training = command("training", text, _training, [1024], 3, least=2)
    training.add_argument("--methods", nargs="+", choices=ONE_SHOT, default=TRAINED)
    training.add_argument("--densities", type=float, nargs="+", default=[DENSITY])
    training.add_argument("--learning-rate", type=float, default=1e-3)
    training.add_argument("--init", default="he", help="law of the dense weights (gv.dense)")
    training.add_argument("--hidden", type=int, default=4, help="hidden layers")
    for one in (protocols, saliency, training):
        one.add_argument("--data", default="digits", help="digits, or idx:FOLDER for MNIST's files")
    return parser


def _quickstart(chosen: argparse.Namespace) -> None:
    quickstart_sweep(chosen.network, chosen.inputs, chosen.widths, chosen.seeds, chosen.out)


def _protocols(chosen: argparse.Namespace) -> None:
    if chosen.hidden < 2 and not chosen.prune_input:
        raise InputError("--hidden: with one hidden layer only the input layer is left to prune; add --prune-input.")
    options = {"blocks": chosen.blocks, "hidden": chosen.hidden, "prune_input": chosen.prune_input}
    data = load_data(chosen.data)
    protocol_experiment(chosen.out, chosen.method, chosen.density, chosen.widths, chosen.seeds, data=data, **options)


def _saliency(chosen: argparse.Namespace) -> None:
    names = ("hidden", "activation", "bias_variance", "loss", "positions")
    options = {name: getattr(chosen, name) for name in names}
    data = load_data(chosen.data)
    saliency_experiment(chosen.out, chosen.density, chosen.widths, chosen.seeds, data=data, **options)


def _training(chosen: argparse.Namespace) -> None:
    options = {name: getattr(chosen, name) for name in ("hidden", "learning_rate", "init")}
    data = load_data(chosen.data)
    training_experiment(chosen.out, chosen.methods, chosen.densities, chosen.widths, chosen.seeds, data=data, **options)
