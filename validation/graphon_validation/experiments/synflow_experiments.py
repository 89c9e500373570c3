"""Networks pruned by SynFlow against the law of its rounds (THEORY §14)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.files import save_dataset
from graphon_theory.data.labels import Variables
from graphon_theory.errors import InputError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.summaries import wide_console
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import theories

PROBES, TOP, BLOCKS = 40, 10, 8
KINDS = ("own", "law", "(W, V)")


def synflow_law_experiment(
    out: Path,
    widths: Sequence[int],
    seeds: int,
    *,
    densities: Sequence[float] = (0.3, 0.1, 0.03, 0.01),
    rounds: Sequence[int] = (10, 30, 100),
    hidden: Sequence[int] = (2, 4),
    inputs: Sequence[int] = (64, 784),
    outputs: int = 10,
    positions: int = 256,
    console: Console | None = None,
) -> Dataset:
    """SynFlow-pruned ReLU networks beside ``gt.synflow_network`` drawn as often: their masks, and their kernels.

    Kernels are those of 40 inputs: digits where ``inputs`` is 64, else standard normal ones. (W, V) of every network's
    own masks, by blocks of units with input rows as positions, stands beside: where it is off, no law of W and V is
    due to be right. Prints a table per setting, writes ``synflow-law.nc``.

    Returns a Dataset over "setting" (coordinates ``inputs``, ``hidden``, ``width``, ``density``, ``rounds``), "kind"
    and "seed": by "layer" ``kept`` (density), ``inner`` (density between units that are alive), ``row_spread`` and
    ``column_spread`` (deviation over mean of the degrees of these), by "unit_layer" ``alive`` (share of hidden units),
    NaN beyond a network's depth and for "(W, V)"; ``trace``, ``energy`` (share of the top ten).

    Raises InputError for fewer than 3 seeds.
    """
    console = console or wide_console()
    if seeds < 3:
        raise InputError(f"seeds: expected at least 3, got {seeds}.")
    settings = [
        (d, depth, width, density, count)
        for d in inputs
        for depth in hidden
        for width in widths
        for density in densities
        for count in rounds
    ]
    deepest = max(hidden) + 1
    masks = np.full((5, len(settings), len(KINDS), seeds, deepest), np.nan)
    kernels = np.empty((2, len(settings), len(KINDS), seeds))
    for i, (d, depth, width, density, count) in enumerate(settings):
        counts = (d, *[width] * depth, outputs)
        plain = Network([1.0] * (depth + 1), outputs=outputs)
        x = digits()[0][:PROBES] if d == digits()[0].shape[1] else np.random.default_rng(0).normal(size=(PROBES, d))
        for seed in range(seeds):
            law = gt.synflow_network(plain, density, counts, rounds=count, positions=positions, rng=seed)
            model = dense(counts, [seed, width], dtype=torch.float32)
            prune(model, "synflow", density, rounds=count)
            estimated = theories(model, blocks=BLOCKS, names=["(W, V)"], input_rows=True)["(W, V)"]
            drawn = [mask.double().numpy() for mask in model.masks]
            for k, one in ((0, drawn), (1, drawn_densities(law))):
                masks[:, i, k, seed, : depth + 1] = mask_figures(one, counts)
            exact = empirical_kernel(model.double(), x), gt.limit_kernel(law, x), gt.limit_kernel(estimated, x)
            for k, kernel in enumerate(exact):
                values = np.linalg.eigvalsh(kernel.ntk.mean("output").values)[::-1]
                kernels[:, i, k, seed] = values.sum(), values[:TOP].sum() / values.sum()
        console.print(
            _table(masks[:, i, :2], kernels[:, i], f"SynFlow, widths {counts}, density {density:g}, {count} rounds")
        )
    over = ("setting", "kind", "seed")
    names = ("kept", "inner", "row_spread", "column_spread", "alive")
    variables: Variables = {name: ((*over, "layer"), values) for name, values in zip(names, masks, strict=True)}
    variables |= {name: (over, values) for name, values in zip(("trace", "energy"), kernels, strict=True)}
    axes = dict(zip(("inputs", "hidden", "width", "density", "rounds"), zip(*settings, strict=True), strict=True))
    found = Dataset(
        variables,
        {"kind": list(KINDS), **{name: ("setting", list(values)) for name, values in axes.items()}},
        {"positions": positions, "outputs": outputs},
    )
    save_dataset(found, out / "synflow-law.nc")
    return found


def drawn_densities(network: Network) -> list[FloatArray]:
    """W of every layer between drawn positions."""
    return [layer.mask.values for layer in network.layers if isinstance(layer.mask, StepGraphon)]


def mask_figures(masks: Sequence[FloatArray], counts: Sequence[int]) -> FloatArray:
    """Figures by weight layer (5, layers): see :func:`synflow_law_experiment`; ``alive`` is of the units it sends to.

    ``masks``: 0 and 1, or densities between positions. A unit is alive that is due at least one connection of the layer
    below and one of the layer above, .7 of it where densities are means: half a unit is told dead.
    """
    alive = [np.ones(masks[0].shape[1], bool)]
    for below, above, sending, receiving in zip(masks, masks[1:], counts, counts[2:], strict=False):
        alive.append((below.mean(1) * sending > 0.7) & (above.mean(0) * receiving > 0.7))
    alive.append(np.ones(len(masks[-1]), bool))
    figures = []
    for mask, senders, receivers in zip(masks, alive, alive[1:], strict=False):
        rows, columns = mask.mean(1)[receivers], mask.mean(0)[senders]
        inner = mask[np.ix_(receivers, senders)].mean()
        spreads = rows.std() / rows.mean(), columns.std() / columns.mean()
        figures.append((mask.mean(), inner, *spreads, receivers.mean()))
    return np.array(figures).T


def _table(masks: FloatArray, kernels: FloatArray, title: str) -> Table:
    """``masks`` (5, own | law, seeds, layers) and ``kernels`` (2, own | law | (W, V), seeds), as their means."""
    table = Table(title=title, caption="by layer: own / law; spreads: deviation over mean of degrees among the alive")
    for heading in ("of", "own / law"):
        table.add_column(heading)
    names = ("density", "among the alive", "spread of rows", "spread of columns", "alive above")
    for name, (own, law) in zip(names, masks.mean(2), strict=True):
        pairs = zip(own, law, strict=True)
        table.add_row(name, ", ".join(f"{a:.3f} / {b:.3f}" for a, b in pairs if not np.isnan(a)))
    (own, law, plain), energy = kernels[0], kernels[1].mean(1)
    for name, other in (("law", law), ("(W, V)", plain)):
        table.add_row(f"trace, own / {name}", _ratio(own, other))
    table.add_row("top-10 energy", ", ".join(f"{kind} {one:.3f}" for kind, one in zip(KINDS, energy, strict=True)))
    return table


def _ratio(own: FloatArray, other: FloatArray) -> str:
    ratio = own.mean() / other.mean()
    parts = [values.std(ddof=1) / values.mean() / np.sqrt(values.size) for values in (own, other)]
    return f"{ratio:.3f} ± {ratio * np.hypot(*parts):.3f}"
