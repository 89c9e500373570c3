"""Networks pruned by SynFlow against the law of its rounds (THEORY §14)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.labels import Variables
from graphon_theory.errors import InputError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.parts import Parts, every
from graphon_validation.experiments.summaries import energy, ratio_of_means, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import theories
from graphon_validation.studies.tables import table_of

PROBES, TOP, BLOCKS = 40, 10, 8
QUICK: dict[str, Any] = {
    "widths": [256],
    "seeds": 3,
    "densities": [0.3],
    "rounds": [10],
    "hidden": [2],
    "inputs": [64],
}
KINDS = ("own", "law", "(W, V)", "over signs")
GROUPS = 3  # of units by label, of the blocks of W that are compared
MASK_FIGURES = ("kept", "inner", "row_spread", "column_spread", "alive")
KERNEL_FIGURES = ("trace", "energy")


def synflow_law_experiment(
    out: str | os.PathLike[str],
    widths: Sequence[int],
    seeds: int,
    *,
    densities: Sequence[float] = (0.3, 0.1, 0.03, 0.01),
    rounds: Sequence[int] = (10, 30, 100),
    hidden: Sequence[int] = (2, 4),
    inputs: Sequence[int] = (64, 784),
    outputs: int = 10,
    device: str | None = None,
    finished: bool = False,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """SynFlow-pruned ReLU networks beside ``gt.synflow_network`` drawn as often: their masks, and their kernels.

    Kernels are those of 40 inputs: digits where ``inputs`` is 64, else standard normal ones. Laws have a position per
    unit, and the signs of the weights from the inputs, so that their kernels fluctuate like those of networks; "over
    signs" is what they are without. (W, V) of every network's own masks, by blocks of units with input rows and new
    signs as positions, stands beside: where it is off, no law of W and V is due to be right. Networks are drawn on the
    CPU and pruned on ``device``. Pairs of a network and a law are kept as they finish, and several processes may share
    a folder; ``finished``: gather the settings that are complete there, and compute nothing. Prints a table per
    setting, writes ``synflow-law.nc``.

    Returns a Dataset over "setting" (coordinates ``inputs``, ``hidden``, ``width``, ``density``, ``rounds``), "kind"
    and "seed": by "layer" ``kept`` (density), ``inner`` (density between units that are alive), ``row_spread`` and
    ``column_spread`` (deviation over mean of the degrees of these) and ``alive`` (share of the units that it leads to),
    ``block`` ("layer", "receiving", "sending"), the density between thirds of the hidden units, which are sorted by
    what they receive from the layer below a sender and send above a receiver, NaN beyond a network's depth, for
    the other kinds and, of blocks, at both ends; ``trace``, ``energy`` (share of the top ten).

    Raises InputError for fewer than 3 seeds, and where nothing is finished.
    """
    results = results_in(out, console)
    if seeds < 3:
        raise InputError(f"seeds: expected at least 3, got {seeds}.")
    over = {"inputs": inputs, "hidden": hidden, "width": widths, "density": densities, "rounds": rounds}
    parts = Parts(results.folder, "synflow-law", {"outputs": outputs})
    settings = every(over)
    if finished:
        settings = [one for one in settings if all(parts.path({**one, "seed": seed}).exists() for seed in range(seeds))]
        if not settings:
            raise InputError(f"finished: no setting is complete in {out}; run them first.")
    pairs = [{**one, "seed": seed} for one in settings for seed in range(seeds)]
    made = parts.all(pairs, lambda one: _pair(one, outputs, device), progress=progress)
    deepest = max(one["hidden"] for one in settings) + 1
    made = [one.reindex(layer=range(1, deepest + 1)) for one in made]
    each = [xarray.concat(made[i : i + seeds], "seed") for i in range(0, len(made), seeds)]
    found = xarray.concat(each, "setting").transpose("setting", "kind", "seed", ...)
    found = found.assign_coords({name: ("setting", [one[name] for one in settings]) for name in over})
    found.attrs = {"outputs": outputs}
    return results.finish(found, "synflow-law", [_table(found.isel(setting=k)) for k in range(len(settings))])


def _pair(one: Mapping[str, Any], outputs: int, device: str | None) -> Dataset:
    """A network that is drawn and pruned, and a law, with this seed."""
    counts = (one["inputs"], *[one["width"]] * one["hidden"], outputs)
    plain = Network([1.0] * (len(counts) - 1), outputs=outputs)
    x, seed = digits()[0][:PROBES], one["seed"]
    if x.shape[1] != one["inputs"]:
        x = np.random.default_rng(0).normal(size=(PROBES, one["inputs"]))
    law = gt.synflow_network(
        plain, one["density"], counts, rounds=one["rounds"], positions=one["width"], signs=True, rng=seed
    )
    first, *others = law.layers
    over = law.with_layers([gt.Connectivity(first.mask, first.variance), *others])
    model = dense(counts, [seed, one["width"]], dtype=torch.float32)
    model = prune(model.to(device), "synflow", one["density"], rounds=one["rounds"])
    estimated = theories(model, blocks=BLOCKS, names=["(W, V)"], input_rows=True, starts=1)["(W, V)"]
    layers = range(1, len(counts))
    masks = np.full((len(MASK_FIGURES), len(KINDS), len(layers)), np.nan)
    blocks = np.full((len(KINDS), len(layers), GROUPS, GROUPS), np.nan)
    for k, drawn in enumerate(([mask.cpu().double().numpy() for mask in model.masks], drawn_densities(law))):
        masks[:, k] = mask_figures(drawn, counts)
        blocks[k, 1:-1] = label_blocks(drawn)
    kernels = []
    for kernel in empirical_kernel(model.double(), x), *[gt.limit_kernel(of, x) for of in (law, estimated, over)]:
        values = kernel.ntk.mean("output").values
        kernels.append((np.trace(values), energy(values, TOP)))
    variables: Variables = {name: (("kind", "layer"), values) for name, values in zip(MASK_FIGURES, masks, strict=True)}
    variables |= {"block": (("kind", "layer", "receiving", "sending"), blocks)}
    variables |= {name: (("kind",), values) for name, values in zip(KERNEL_FIGURES, np.transpose(kernels), strict=True)}
    return Dataset(variables, {"kind": list(KINDS), "layer": layers})


def label_blocks(masks: Sequence[FloatArray]) -> FloatArray:
    """Mean densities between thirds of hidden units, of the layers between them: (layers, receiving, sending).

    Senders are sorted by the share of their connections from below, receivers by those above: labels that both a mask
    and a law have, and that layer itself does not make.
    """
    found = []
    for below, mask, above in zip(masks, masks[1:], masks[2:], strict=False):
        rows = np.array_split(np.argsort(above.mean(0), kind="stable"), GROUPS)
        columns = np.array_split(np.argsort(below.mean(1), kind="stable"), GROUPS)
        found.append([[mask[np.ix_(row, column)].mean() for column in columns] for row in rows])
    return np.array(found).reshape(-1, GROUPS, GROUPS)


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


def _table(one: Dataset) -> Table:
    """Of one setting, by means over seeds."""
    hidden = int(one.hidden)
    counts = (int(one.inputs), *[int(one.width)] * hidden, one.attrs["outputs"])
    title = f"SynFlow, widths {counts}, density {float(one.density):g}, {int(one.rounds)} rounds"
    caption = "by layer: own / law; spreads: deviation over mean of degrees among the alive"
    table = table_of(title, ("of", "own / law"), words=("of", "own / law"), caption=caption)
    mean = one.mean("seed")
    titles = ("density", "among the alive", "spread of rows", "spread of columns", "alive above")
    for name, title in zip(MASK_FIGURES, titles, strict=True):
        own, law = mean[name].isel(layer=slice(hidden + 1)).values[:2]
        table.add_row(title, ", ".join(f"{a:.3f} / {b:.3f}" for a, b in zip(own, law, strict=True)))
    if hidden > 1:
        own, law = mean.block.isel(layer=slice(1, hidden)).values[:2]
        apart = np.abs(own - law).max((1, 2)) / own.mean((1, 2))
        of = "blocks by label, largest difference over the density"
        table.add_row(of, ", ".join(f"{part:.2f}" for part in apart))
    own, law, plain, over = one.trace.values
    for name, other in (("law", law), ("law over signs", over), ("(W, V)", plain)):
        table.add_row(f"trace, own / {name}", _ratio(own, other))
    shares = zip(KINDS, mean.energy.values, strict=True)
    table.add_row("top-10 energy", ", ".join(f"{kind} {share:.3f}" for kind, share in shares))
    return table


def _ratio(own: FloatArray, other: FloatArray) -> str:
    ratio, error = ratio_of_means(own, other)
    return f"{ratio:.3f} ± {error:.3f}"
