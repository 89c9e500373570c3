"""What a method's masks do to training, beside what their kernels say at the start ([GL]'s tables, on any data)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from xarray import Dataset

from graphon_theory.data.files import save_dataset
from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.summaries import wide_console
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.training.losses import Data
from graphon_validation.training.trainers import train

METHODS = ("random", "magnitude", "snip", "synflow")
STEPS = (0, 10, 20, 30, 50, 100, 200)
PROBES, SCORED = 100, 256  # inputs of the kernel, and of the scores that need data
HELD_OUT = 5  # one input in so many


def training_experiment(
    out: Path,
    methods: Sequence[str],
    densities: Sequence[float],
    widths: Sequence[int],
    seeds: int,
    *,
    hidden: int = 4,
    learning_rate: float = 1e-3,
    init: str = "he",
    batch_size: int = 128,
    data: Data | None = None,
    console: Console | None = None,
) -> Dataset:
    """Pruned networks trained by Adam on cross-entropy, and their tangent kernels before the first step.

    All layers are pruned with one threshold at initialisation; networks of one seed share their dense weights and
    batches, so that methods differ by their masks alone. A fifth of the data is held out: it gives the inputs of the
    kernels and the test accuracy.

    Prints one table for each width and density, and the rank correlation, over methods and seeds, of top-10 energy and
    of the kernel's trace with the loss at step 20. Writes ``training.nc``.

    Returns a Dataset ``loss`` ("pruning", "density", "width", "seed", "time"), ``test_accuracy`` at the end, and of the
    kernels, summed over outputs, ``trace``, ``energy5`` and ``energy10``.

    Raises InputError for no or repeated methods, fewer than 2 seeds, and what :func:`prune` and :func:`train` raise.
    """
    console = console or wide_console()
    if seeds < 2:
        raise InputError(f"seeds: expected at least 2, got {seeds}.")
    for name, given in (("methods", methods), ("densities", densities), ("widths", widths)):
        if not given or len(set(given)) < len(given):
            raise InputError(f"{name}: expected at least one, all different, got {list(given)}.")
    x, labels = digits() if data is None else data
    held = np.arange(len(x)) % HELD_OUT == 0
    own, test = (x[~held], labels[~held]), (x[held], labels[held])
    classes = int(labels.max()) + 1
    shape = len(methods), len(densities), len(widths), seeds
    loss, accuracy, figures = np.empty((*shape, len(STEPS))), np.empty(shape), np.empty((3, *shape))
    for at in track(list(np.ndindex(shape)), "networks", console=Console(stderr=True)):
        method, density, width, seed = methods[at[0]], densities[at[1]], widths[at[2]], at[3]
        model = dense((x.shape[1], *[width] * hidden, classes), [seed, width], init=init)
        prune(model, method, density, (own[0][:SCORED], own[1][:SCORED]), rng=[seed, width, 1])
        kernel = empirical_kernel(model, test[0][:PROBES]).ntk
        values = np.linalg.eigvalsh(kernel.values.sum(0))[::-1]
        figures[(slice(None), *at)] = values.sum(), values[:5].sum() / values.sum(), values[:10].sum() / values.sum()
        seen = train(
            model.float(),
            own,
            steps=STEPS[-1],
            learning_rate=learning_rate,
            loss="cross_entropy",
            optimizer="adam",
            batch_size=batch_size,
            test=test,
            record=10,
            seed=seed,
            progress=False,
        )
        loss[at], accuracy[at] = seen.loss.sel(time=list(STEPS)), seen.test_accuracy[-1]
    over = ("pruning", "density", "width", "seed")
    found = Dataset(
        {
            "loss": ((*over, "time"), loss),
            "test_accuracy": (over, accuracy),
            **{name: (over, figures[i]) for i, name in enumerate(("trace", "energy5", "energy10"))},
        },
        {"pruning": list(methods), "density": list(densities), "width": list(widths), "time": list(STEPS)},
        {
            "hidden": hidden,
            "learning_rate": learning_rate,
            "init": init,
            "batch_size": batch_size,
            "inputs": len(own[0]),
        },
    )
    save_dataset(found, out / "training.nc")
    for width in widths:
        for density in densities:
            console.print(_table(found.sel(width=width, density=density)))
    return found


def _table(found: Dataset) -> Table:
    table = Table(title=f"width {int(found.width):,}, density {float(found.density):g}, {found.sizes['seed']} seeds")
    for heading in ("method", "trace", "top 5", "top 10", *map(str, STEPS[1:]), "test"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
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
