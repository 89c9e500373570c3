"""What a method's masks do to training, beside what their kernels say at the start ([GL]'s tables, on any data)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from xarray import Dataset

from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.drawings import training_figure
from graphon_validation.experiments.parts import Parts, every, gathered, one_kind
from graphon_validation.experiments.summaries import energy, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data
from graphon_validation.training.trainers import train

DENSITIES = (0.4, 0.3, 0.2, 0.1)
STEPS = (0, 10, 20, 30, 50, 100, 200)
UNPRUNED = "dense"
PROBES, SCORED = 100, 256  # inputs of the kernel, and of the scores that need data
HELD_OUT = 5  # one input in so many
QUICK: dict[str, Any] = {
    "widths": [32],
    "seeds": 2,
    "densities": [0.2],
    "hidden": 2,
    "learning_rate": [1e-2],
}


def training_experiment(
    out: str | os.PathLike[str],
    methods: Sequence[str],
    densities: Sequence[float],
    widths: Sequence[int],
    seeds: int,
    *,
    hidden: int = 4,
    learning_rate: float | Sequence[float] = 1e-3,
    init: str = "he",
    batch_size: int = 128,
    data: Data | None = None,
    source: str = "digits",
    unpruned: bool = False,
    device: torch.device | str | None = None,
    only: str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset | None:
    """Pruned networks trained by Adam on cross-entropy, and their tangent kernels before the first step.

    All layers are pruned with one threshold at initialisation; networks of one seed share their dense weights and
    batches, so that methods differ by their masks alone. A fifth of the data is held out: it gives the inputs of the
    kernels and the test accuracy. ``data`` = (x, labels), called ``source`` in what is kept; digits if None.
    ``unpruned``: the dense networks train too. ``device`` is where networks live; ``only="networks"`` keeps what they
    gave and returns None, so that several processes may share the work, and a last one prints.

    Prints one table for each width and density, and the rank correlation, over methods and seeds, of top-10 energy and
    of the kernel's trace with the loss at step 20; with several densities or rates also the loss after the last step
    over densities. Writes ``training.nc`` and ``training.png``; networks are kept as they finish, so that a run that
    was killed goes on.

    Returns a Dataset ``curve`` ("rate", "pruning", "density", "width", "seed", "step"), the loss on all the data after
    every step for each ``learning_rate``, ``test_accuracies`` at the end; ``loss`` and ``test_accuracy``, the same at
    the first of the rates and at some steps ("time"); and of the kernels, summed over outputs, ``trace``, ``energy5``
    and ``energy10``; with ``unpruned`` also ``dense`` ("rate", "width", "seed", "step"), their curves.

    Raises InputError for no or repeated methods, fewer than 2 seeds, and what :func:`prune` and :func:`train` raise.
    """
    results = results_in(out, console, figures=one_kind(only) is None)
    if seeds < 2:
        raise InputError(f"seeds: expected at least 2, got {seeds}.")
    rates = [float(one) for one in np.atleast_1d(learning_rate)]
    for name, given in (("methods", methods), ("densities", densities), ("widths", widths), ("learning_rate", rates)):
        if not len(given) or len(set(given)) < len(given):
            raise InputError(f"{name}: expected at least one, all different, got {list(given)}.")
    x, labels = digits() if data is None else data
    held = np.arange(len(x)) % HELD_OUT == 0
    own, test = (x[~held], labels[~held]), (x[held], labels[held])
    shared = {"hidden": hidden, "init": init, "batch_size": batch_size}
    parts = Parts(results.folder, "training", {**shared, "data": source})
    over: dict[str, Sequence[Any]] = {
        "pruning": list(methods),
        "density": list(densities),
        "width": list(widths),
        "seed": range(seeds),
    }

    def network(one: Mapping[str, Any]) -> MaskedMLP:
        counts, seed = (x.shape[1], *[one["width"]] * hidden, int(labels.max()) + 1), one["seed"]
        model = dense(counts, [seed, one["width"]], init=init, device=device)
        if one["pruning"] == UNPRUNED:
            return model
        return prune(
            model, one["pruning"], one["density"], (own[0][:SCORED], own[1][:SCORED]), rng=[seed, one["width"], 1]
        )

    def kernel(one: Mapping[str, Any]) -> Dataset:
        own = empirical_kernel(network(one), test[0][:PROBES]).ntk.values.sum(0)
        return Dataset({"trace": np.trace(own), "energy5": energy(own, 5), "energy10": energy(own, 10)})

    def trained(one: Mapping[str, Any]) -> Dataset:
        model = network(one).float()
        seen = train(
            model,
            own,
            steps=STEPS[-1],
            learning_rate=one["rate"],
            loss="cross_entropy",
            optimizer="adam",
            batch_size=batch_size,
            record=1,
            seed=one["seed"],
            progress=False,
        )
        with torch.no_grad():
            guessed = model(as_tensor(model, test[0], "test")).argmax(1).cpu().numpy()
        accuracy = float(np.mean(guessed == test[1]))
        steps = seen.time.values.astype(np.int64)
        return Dataset({"curve": ("step", seen.loss.values), "test_accuracies": accuracy}, {"step": steps})

    kernels = parts.over(over, kernel, "kernels", progress=progress)
    with_rates: dict[str, Sequence[Any]] = {"rate": rates, **over}
    trainings = parts.all(every(with_rates), trained, "training", progress=progress)
    whole: dict[str, Sequence[Any]] = {
        "rate": rates,
        "pruning": [UNPRUNED],
        "density": [1.0],
        "width": list(widths),
        "seed": range(seeds),
    }
    uncut = parts.all(every(whole), trained, "dense", progress=progress) if unpruned else []
    if only is not None:
        return None
    curves = gathered(trainings, with_rates)
    first = curves.isel(rate=0, drop=True)
    found = Dataset(
        {
            "loss": first.curve.sel(step=list(STEPS)).rename(step="time"),
            "test_accuracy": first.test_accuracies,
            **kernels.data_vars,
            **curves.data_vars,
        },
        attrs={**shared, "learning_rate": rates[0], "inputs": len(own[0]), "data": source},
    ).drop_vars("seed")
    if unpruned:
        found["dense"] = gathered(uncut, whole).curve.isel(pruning=0, density=0, drop=True).drop_vars("seed")
    tables = []
    for width in widths:
        tables += [_table(found.sel(width=width, density=density)) for density in densities]
        if len(densities) > 1 or len(rates) > 1:
            tables.append(_last_losses(found.sel(width=width)))
    return results.finish(found, "training", tables, figure=training_figure)


def _last_losses(found: Dataset) -> Table:
    """Loss after the last step: methods and rates against densities."""
    title = f"loss after step {STEPS[-1]}, width {int(found.width):,}, mean ± error over seeds"
    heads = ("method", "rate", *(f"density {density:g}" for density in found.density.values))
    table = table_of(title, heads, words=["method"])
    last = found.curve.isel(step=-1)
    for method in found.pruning.values:
        for rate in found.rate.values:
            row = last.sel(pruning=method, rate=rate)
            errors = row.std("seed", ddof=1).values / row.sizes["seed"] ** 0.5
            cells = zip(row.mean("seed").values, errors, strict=True)
            table.add_row(str(method), f"{rate:g}", *(f"{mean:.3f} ± {error:.3f}" for mean, error in cells))
    if "dense" in found:
        last = found.dense.isel(step=-1)
        means = (f"{rate:g}: {float(last.sel(rate=rate).mean()):.3f}" for rate in found.rate.values)
        table.caption = f"dense networks, by rate: {', '.join(means)}"
    return table


def _table(found: Dataset) -> Table:
    title = f"width {int(found.width):,}, density {float(found.density):g}, {found.sizes['seed']} seeds"
    heads = ("method", "trace", "top 5", "top 10", *map(str, STEPS[1:]), "test")
    table = table_of(title, heads, words=["method"])
    for method in found.pruning.values:
        row = found.sel(pruning=method)
        table.add_row(
            str(method),
            f"{float(row.trace.mean()):.2g}",
            f"{float(row.energy5.mean()):.3f}",
            f"{float(row.energy10.mean()):.3f}",
            *(f"{loss:.3f}" for loss in row.loss.mean("seed").values[1:]),
            f"{float(row.test_accuracy.mean()):.1%}",
        )
    spread = float(found.loss.std("seed", ddof=1).max())
    early = found.loss.sel(time=20).values.ravel()
    ranks = [float(stats.spearmanr(found[name].values.ravel(), early).statistic) for name in ("energy10", "trace")]
    table.caption = (
        f"10 to {STEPS[-1]}: loss at that step, its standard deviation over seeds at most {spread:.2g}\n"
        f"rank correlation with the loss at step 20: top-10 energy {ranks[0]:+.2f}, trace {ranks[1]:+.2f}"
    )
    return table
