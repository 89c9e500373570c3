"""What the channel upstream of THEORY §10 is worth in the limit of saliency pruning, by layer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.networks.connectivity import Connectivity, Known
from graphon_theory.networks.network import Network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import ratio_of_means, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import as_tensor, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

BATCH, PROBES, HIDDEN = 200, 40, 3
KINDS = ("without", "with", "own")
QUICK: dict[str, Any] = {"densities": [0.2], "widths": [32], "seeds": 3, "positions": 32}


def without_channel(network: Network) -> Network:
    """A network of ``gt.saliency_network`` whose positions tell nothing of what comes back to them."""

    def stripped(layer: Connectivity) -> Connectivity:
        known = layer.known
        if known is not None:
            known = Known(known.profiles, known.bias, known.bias_mean)
        return Connectivity(layer.mask, layer.variance, layer.drift, known=known)

    return network.with_layers([stripped(layer) for layer in network.layers])


def upstream_experiment(
    out: str | os.PathLike[str],
    densities: Sequence[float],
    widths: Sequence[int],
    seeds: int,
    *,
    hidden: int = HIDDEN,
    networks: bool = False,
    positions: int = 512,
    activation: str = "relu",
    loss: str = "cross_entropy",
    data: Data | None = None,
    source: str = "digits",
    device: str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """What the channel upstream adds to the trace of ``gt.saliency_network`` below its last hidden layer.

    Bias-free networks with ``hidden`` hidden layers pruned on 200 inputs (fewer where there are not 240), kernels of 40
    others; ``seeds`` limits with positions of their own for each width and density. ``data`` = (x, labels or targets),
    called ``source`` in what is kept, digits if None; labels become indicators for the loss "squared". Limits, and
    networks, are kept as they finish. Prints a table, writes ``upstream.nc``.

    Returns a Dataset over "density", "width" and "seed": ``added``, the share of the trace that the channel adds;
    and with "layer" ``factor``, what it multiplies the layer's own trace by. With ``networks`` as many are drawn and
    pruned (on ``device``), and over "density", "width" and "layer" there are ``ratio``, their mean trace over that of
    limits without the channel, and ``ratio_with`` over that with it, over "density" and "width" ``whole`` and
    ``whole_with``, the same of all layers together, and ``square``, the mean of f^2 over that of limits; the error of
    each has ``_error`` to its name.
    """
    results = results_in(out, console)
    batch, probe, outputs = pruned_and_probed(digits() if data is None else data, loss)
    settings = {"hidden": hidden, "positions": positions, "activation": activation, "loss": loss, "data": source}
    over: dict[str, Sequence[Any]] = {"density": list(densities), "width": list(widths), "seed": range(seeds)}

    def make(one: Mapping[str, Any]) -> Dataset:
        width, seed = one["width"], one["seed"]
        counts = (probe.shape[1], *[width] * hidden, outputs)
        plain = Network([1.0] * (hidden + 1), activation=activation, outputs=outputs)
        rng = np.random.default_rng([seed, width])
        limit = gt.saliency_network(plain, *batch, one["density"], counts, loss=loss, positions=positions, rng=rng)
        kernels = [gt.limit_kernel(one, probe, contributions=True) for one in (without_channel(limit), limit)]
        second = kernels[1].nngp.values.reshape(outputs, len(probe), -1)
        squares = [np.einsum("oii->", second) + float((kernels[1]["mean"] ** 2).sum())]
        if networks:
            model = dense(counts, [seed, width], activation=activation).to(device)
            prune(model, "snip", one["density"], batch, loss=loss)
            kernels.append(empirical_kernel(model, probe, per_layer=True))
            with torch.no_grad():
                squares.append(float((model(as_tensor(model, probe, "x")) ** 2).sum()))
        traces = [layer_traces(kernel, outputs) for kernel in kernels]
        return Dataset({"trace": (("kind", "layer"), traces), "square": ("side", squares)})

    parts = Parts(results.folder, "upstream", {**settings, "networks": networks})
    measured = parts.over(over, make, progress=progress)
    traces = measured.trace.transpose("kind", *over, "layer").values
    without, with_it = traces[:2].sum(-1)
    layers = range(1, hidden + 2)
    found = Dataset(
        {"added": (tuple(over), with_it / without - 1), "factor": ((*over, "layer"), traces[1] / traces[0])},
        {"density": list(densities), "width": list(widths), "layer": layers},
        settings,
    )
    if networks:
        squares = measured.square.transpose("side", *over).values[..., None]
        pairs = {
            "ratio": (traces[2], traces[0]),
            "ratio_with": (traces[2], traces[1]),
            "whole": (traces[2].sum(-1, keepdims=True), without[..., None]),
            "whole_with": (traces[2].sum(-1, keepdims=True), with_it[..., None]),
            "square": (squares[1], squares[0]),
        }
        for name, both in pairs.items():
            dims = ("density", "width", *(["layer"] if name.startswith("ratio") else []))
            for title, values in zip((name, f"{name}_error"), ratio_of_means(*both, axis=-2), strict=True):
                found[title] = dims, values if "layer" in dims else values[..., 0]
    return results.finish(found, "upstream", [_table(found, seeds, networks=networks)])


def pruned_and_probed(data: Data, loss: str) -> tuple[Data, FloatArray, int]:
    """The batch to prune on, labels as indicators for the squared loss, the inputs of kernels, and how many outputs."""
    x, labels = data
    count = min(BATCH, len(x) - PROBES)
    outputs = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    targets = np.eye(outputs)[labels] if loss == "squared" and labels.ndim == 1 else labels
    return (x[:count], targets[:count]), x[count : count + PROBES], outputs


def layer_traces(kernel: Dataset, outputs: int) -> FloatArray:
    """Traces of NTK_l over the inputs, meaned over outputs."""
    values = kernel.ntk_layer.transpose("layer", ..., "x", "x2").values
    found: FloatArray = np.einsum("loii->l", values.reshape(len(values), outputs, *values.shape[-2:])) / outputs
    return found


def _table(found: Dataset, seeds: int, *, networks: bool) -> Table:
    settings = ", ".join(str(found.attrs[name]) for name in ("data", "activation", "loss"))
    caption = "added to the trace; factor by layer" + ("; own / limit: all layers, each, f^2" if networks else "")
    heads = ("density", "width", "added ± error", *(f"layer {n}" for n in found.layer.values), "f^2")
    table = table_of(f"the channel upstream: {settings}, {seeds} limits each", heads, caption=caption)
    for density in found.density.values:
        for width in found.width.values:
            row = found.sel(density=density, width=width)
            error = float(row.added.std("seed", ddof=1)) / seeds**0.5
            cells = [f"{factor:.3f}" for factor in row.factor.mean("seed").values]
            table.add_row(f"{density:g}", f"{width:,}", f"{float(row.added.mean()):+.2%} ± {error:.2%}", *cells)
            for end, title in (("", "own / limit without"), ("_with", "with")) if networks else ():
                cells = [_cell(row, f"whole{end}"), *(_cell(row.sel(layer=n), f"ratio{end}") for n in row.layer.values)]
                table.add_row("", title, *cells, _cell(row, "square") if end else "")
    return table


def _cell(row: Dataset, name: str) -> str:
    return f"{float(row[name]):.2f} ± {float(row[f'{name}_error']):.2f}"
