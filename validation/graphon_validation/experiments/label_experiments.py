"""SNIP-pruned networks beside what the labels of their units say, at the width that they have (THEORY §10)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from xarray import Dataset

from graphon_theory import Network, limit_kernel
from graphon_theory.data.checks import share_kept, whole_number, whole_numbers
from graphon_theory.pruning.single_units import pruned_units
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different_numbers, results_in
from graphon_validation.experiments.upstream_experiments import layer_traces, pruned_and_probed
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import as_tensor, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

VARIANCE = 2.0
QUICK: dict[str, Any] = {"densities": [0.2], "widths": [32], "seeds": 3, "hidden": 2}


def label_experiment(
    out: str | os.PathLike[str],
    densities: Sequence[float],
    widths: Sequence[int],
    seeds: int,
    data: Data,
    *,
    hidden: int = 4,
    activation: str = "relu",
    loss: str = "cross_entropy",
    source: str = "digits",
    device: str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Traces of SNIP-pruned networks over their means given the labels of the dense networks that they come from.

    Bias-free networks with ``hidden`` hidden layers, sigma_w^2 = 2, pruned on 200 inputs (fewer where there are not
    240) of ``data`` = (x, labels or targets), called ``source`` in what is kept; kernels of 40 others. Labels are of
    the same dense network, so that what is compared differs by what labels do not tell alone. Networks are kept as they
    finish. Prints a table, writes ``labels.nc``.

    Returns a Dataset over "density", "width" and "seed": ``trace`` ("side": "own", "labels"; "layer"), and ``square``
    ("side"), the sum of f^2. Raises InputError for fewer than 3 seeds.
    """
    results = results_in(out, console)
    over: dict[str, Sequence[Any]] = {
        "density": different_numbers("densities", densities, share_kept),
        "width": list(whole_numbers("widths", widths, distinct=True)),
        "seed": range(whole_number("seeds", seeds, 3)),
    }
    whole_number("hidden", hidden)
    batch, probe, outputs = pruned_and_probed(data, loss)
    targets = np.eye(outputs)[batch[1]].T if loss == "cross_entropy" else np.reshape(batch[1], (-1, outputs)).T

    def make(one: Mapping[str, Any]) -> Dataset:
        counts = (probe.shape[1], *[one["width"]] * hidden, outputs)
        model = dense(
            counts, [one["seed"], one["width"]], activation=activation, weight_variance=VARIANCE, dtype=torch.float64
        )
        weights = [w.detach().numpy() for w in model.weights]
        plain = Network([1.0] * (hidden + 1), activation, VARIANCE, outputs=outputs)
        law = pruned_units(plain, weights, batch[0], targets, one["density"], loss=loss)
        kernels = limit_kernel(law, probe, contributions=True, progress=False)
        said = float((kernels["mean"] ** 2).sum() + np.einsum("oii->", kernels.nngp.values))
        prune(model.to(device), "snip", one["density"], batch, loss=loss)
        traces = [layer_traces(of, outputs) for of in (empirical_kernel(model, probe, per_layer=True), kernels)]
        with torch.no_grad():
            own = float((model(as_tensor(model, probe, "x")) ** 2).sum())
        return Dataset({"trace": (("side", "layer"), traces), "square": ("side", [own, said])})

    settings = {"hidden": hidden, "activation": activation, "loss": loss, "data": source}
    found = Parts(results.folder, "labels", settings).over(over, make, progress=progress)
    found = found.assign_coords(side=["own", "labels"], layer=range(1, hidden + 2)).assign_attrs(settings)
    return results.finish(found, "labels", [_table(found)])


def own_over_labels(found: Dataset) -> Dataset:
    """Mean over seeds over mean, of ``each`` layer, the ``whole`` and the ``square``, with errors ("_error").

    Errors are those of what each network is off by: both are of the same dense networks.
    """
    pairs = {"each": found.trace, "whole": found.trace.sum("layer"), "square": found.square}
    made = {}
    for name, values in pairs.items():
        own, said = values.sel(side="own", drop=True), values.sel(side="labels", drop=True)
        ratio = own.mean("seed") / said.mean("seed")
        made[name] = ratio
        off = (own - ratio * said).std("seed", ddof=1) / said.mean("seed")
        made[f"{name}_error"] = off / found.sizes["seed"] ** 0.5
    return Dataset(made)


def _table(found: Dataset) -> Table:
    said = own_over_labels(found)
    settings = ", ".join(str(found.attrs[name]) for name in ("data", "activation", "loss"))
    heads = ("density", "width", "all layers", *(f"layer {n}" for n in found.layer.values), "f^2")
    title = f"SNIP given labels: {settings}, {found.sizes['seed']} networks each"
    table = table_of(title, heads, caption="own trace over its mean given the labels")
    for density in found.density.values:
        for width in found.width.values:
            row = said.sel(density=density, width=width)
            cells = [_cell(row.sel(layer=n), "each") for n in row.layer.values]
            table.add_row(f"{density:g}", f"{width:,}", _cell(row, "whole"), *cells, _cell(row, "square"))
    return table


def _cell(row: Dataset, name: str) -> str:
    return f"{float(row[name]):.3f} ± {float(row[f'{name}_error']):.3f}"
