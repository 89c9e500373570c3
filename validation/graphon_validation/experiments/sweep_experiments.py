"""Sweeps over width: drawn networks against their limit, by name on the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray
from rich.console import Console
from xarray import Dataset

from graphon_theory.data.array_files import read_array
from graphon_theory.data.checks import as_inputs, whole_numbers
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, SpecError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.pruning.laws import magnitude_pruning, random_pruning
from graphon_validation.experiments.digits import upsampled_digits
from graphon_validation.experiments.parts import Parts, every
from graphon_validation.experiments.summaries import comparison_tables, results_in
from graphon_validation.networks.masked_mlps import build, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.eigenvalue_gaps import eigenvalue_gaps, gap_table
from graphon_validation.studies.sign_tests import applicability, applicability_table
from graphon_validation.studies.sweep_comparisons import compare
from graphon_validation.studies.sweeps import width_sweep

INPUTS, SAMPLES = 8, 6
ENTRIES = [(0, 0), (0, 5), (3, 5)]
DENSITY = 0.2
QUICK: dict[str, Any] = {"widths": [32, 64], "seeds": 4}
GAP_QUICK: dict[str, Any] = {"widths": [48], "seeds": 3, "samples": 12}


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


def kept_sweep(
    parts: Parts,
    name: str,
    network: Network,
    x: NDArray[np.float64],
    widths: Sequence[int],
    seeds: int,
    *,
    progress: bool,
    **options: Any,
) -> Dataset:
    """What :func:`width_sweep` gives of the network called ``name``, every width kept as it finishes."""
    described = [
        {"network": name, "width": width, "seeds": seeds} for width in whole_numbers("widths", widths, distinct=True)
    ]

    def make(one: Mapping[str, Any]) -> Dataset:
        return width_sweep(network, x, widths=[one["width"]], seeds=range(seeds), progress=progress, **options)

    return xarray.concat(parts.all(described, make, progress=False), "width")  # bars of networks are those of the sweep


def width_sweep_experiment(
    out: str | os.PathLike[str],
    widths: Sequence[int],
    seeds: int,
    *,
    console: Console | None = None,
    progress: bool = True,
) -> dict[str, Dataset]:
    """Masks drawn from a structured network, then magnitude masks with their own weights.

    Each is held against its limit. Writes ``width-sweep-NAME.nc`` for each comparison: drawn, magnitude
    (against (W, V)) and
    magnitude-as-random (the same networks against (W, W), which must fail). Widths are kept as they finish. Returns
    the comparisons by name.
    """
    results = results_in(out, console)
    x = gaussian_inputs()
    structured = structured_network()
    dense_network, paired, unpaired = magnitude_networks()
    pruning: dict[str, Any] = {"method": "magnitude", "density": DENSITY, "scope": "layer", "layers": [1, 2]}
    parts = Parts(results.folder, "width-sweep", {"density": DENSITY})
    drawn = kept_sweep(parts, "drawn", structured, x, widths, seeds, progress=progress)
    pruned = kept_sweep(parts, "magnitude", dense_network, x, widths, seeds, progress=progress, prune=pruning)
    n = max(widths)
    probe = prune(build(dense_network, (INPUTS, *[n] * (dense_network.depth - 1), 1), 0), **pruning)
    results.console.print(applicability_table(applicability(probe, x), f"magnitude, width {n:,}, density {DENSITY:g}"))
    found: dict[str, Dataset] = {}
    for name, title, real, network in (
        ("drawn", "masks drawn from step graphons, against (W, W)", drawn, structured),
        ("magnitude", "magnitude masks, own weights, against (W, V)", pruned, paired),
        ("magnitude-as-random", "the same magnitude networks against (W, W): must fail", pruned, unpaired),
    ):
        found[name] = compare(real, limit_kernel(network, x), ENTRIES)
        whole = merged(real, found[name])
        results.finish(whole, f"width-sweep-{name}", comparison_tables(found[name], title))
    return found


def three_block_experiment(
    out: str | os.PathLike[str],
    widths: Sequence[int],
    seeds: int,
    *,
    console: Console | None = None,
    progress: bool = True,
) -> dict[str, Dataset]:
    """Networks drawn from three-block (W, V) and (W, V, D) against their limits, trace and three entries.

    The (W, V, D) networks are also held against (W, V), which must fail. Widths are kept as they finish. Writes
    ``three-blocks-NAME.nc``.
    """
    results = results_in(out, console)
    x = gaussian_inputs()
    plain, drifting = three_block_network(), three_block_network(drift=True)
    parts = Parts(results.folder, "three-blocks", {})
    sweeps = {
        one: kept_sweep(parts, name, one, x, widths, seeds, progress=progress)
        for name, one in (("w-v", plain), ("w-v-d", drifting))
    }
    found: dict[str, Dataset] = {}
    for name, title, drawn, theory in (
        ("w-v", "drawn from three-block (W, V), against (W, V)", plain, plain),
        ("w-v-d", "drawn from three-block (W, V, D), against (W, V, D)", drifting, drifting),
        ("w-v-d-as-w-v", "the same networks with drift, against (W, V): must fail", drifting, plain),
    ):
        found[name] = compare(sweeps[drawn], limit_kernel(theory, x), ENTRIES)
        whole = merged(sweeps[drawn], found[name])
        results.finish(whole, f"three-blocks-{name}", comparison_tables(found[name], title))
    return found


def magnitude_gap_experiment(
    out: str | os.PathLike[str],
    widths: Sequence[int],
    seeds: int,
    *,
    samples: int = 64,
    console: Console | None = None,
    progress: bool = True,
) -> dict[tuple[int, str], Dataset]:
    """ln gap magnitude - random at density 0.2, four hidden layers, 784 inputs, 10 outputs (THEORY §2).

    On handwritten digits interpolated to 28 x 28, and on normal inputs. The table says which layers were pruned; for
    "all layers, Glorot" weights are Glorot uniform and one threshold serves all layers, elsewhere they are N(0, 1)
    with a threshold in each. Writes ``magnitude-gap-WIDTH-INPUTS.nc``. Gaps are kept as they finish. Returns them by
    (width, inputs).
    """
    results = results_in(out, console)
    inputs = {
        "digits": upsampled_digits(samples),
        "normal": np.random.default_rng(0).standard_normal((samples, 784)),
    }

    def tested(one: Mapping[str, Any]) -> Dataset:
        model = prune(dense((784, *[one["width"]] * 4, 10), [0, one["width"]]), "magnitude", DENSITY, scope="layer")
        return applicability(model, inputs["digits"])

    def gaps(one: Mapping[str, Any]) -> Dataset:
        counts = (784, *[one["width"]] * 4, 10)
        return eigenvalue_gaps(inputs[one["inputs"]], widths=counts, density=DENSITY, seeds=range(seeds))

    widths = list(whole_numbers("widths", widths, distinct=True))
    parts = Parts(results.folder, "magnitude-gap", {"density": DENSITY, "samples": samples})
    tests = parts.all(every({"width": widths}), tested, "the sign test", progress=progress)
    described = every({"width": widths, "inputs": list(inputs), "seeds": [seeds]})
    found = {}
    for one, gap in zip(described, parts.all(described, gaps, progress=progress), strict=True):
        coords = {name: gap[name] for name in ("setting", "quantity", "seed")}  # files do not keep their order
        found[one["width"], one["inputs"]] = gap.assign_coords(coords)
    for width, test in zip(widths, tests, strict=True):
        title = f"magnitude, width {width:,}, density {DENSITY:g}"
        results.console.print(applicability_table(test, title))
        for name in inputs:
            table = gap_table(found[width, name], f"ln gap magnitude - random, width {width:,}, {name} inputs")
            results.finish(found[width, name], f"magnitude-gap-{width}-{name}", [table])
    return found


def quickstart_sweep(network: Path, inputs: Path, widths: Sequence[int], seeds: int, out: Path) -> Dataset:
    """A short sweep of the network in a TOML file on the inputs in another file, for the quickstart's table.

    Writes ``quickstart-sweep.nc``: the kernels and their comparison with the limit. Raises SpecError or
    InputError when a file cannot be read.
    """
    try:
        text = network.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--network: cannot read {network}: {error}.") from None
    try:
        x = as_inputs(read_array(inputs), "--inputs")
    except OSError as error:
        raise InputError(f"--inputs: cannot read {inputs}: {error}.") from None
    net = Network.from_toml(text)
    real = width_sweep(net, x, widths=widths, seeds=range(seeds))
    return results_in(out).finish(merged(real, compare(real, limit_kernel(net, x))), "quickstart-sweep")


def merged(real: Dataset, found: Dataset) -> Dataset:
    """A comparison with the kernels that it compares."""
    return found.assign(ntk=real.ntk).assign_attrs({**real.attrs, **found.attrs})
