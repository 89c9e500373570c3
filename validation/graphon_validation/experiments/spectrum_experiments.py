"""Spectra of pruned networks' kernels against sparsity, real networks and their limits side by side ([GL]'s tables)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.data.checks import check_installed, share_kept, whole_number
from graphon_theory.data.files import save_dataset
from graphon_theory.errors import InputError
from graphon_validation.experiments.contenders import LABELS
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.drawings import spectrum_figure
from graphon_validation.experiments.parts import Parts, every, gathered, results_folder
from graphon_validation.experiments.summaries import different, wide_console
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.pruning.scores import METHODS
from graphon_validation.studies.protocols import law_network, theories
from graphon_validation.training.losses import Data

PRUNED = ("random", "magnitude", "synflow", "snip", "grasp")
DENSITIES = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
MODES = 10
BATCH = 200  # inputs for the scores that need data; the kernels' are others
SIDES = ("finite", "limit")
FIGURES = ("energy5", "energy10", "effective_rank", "gap", "decay")
QUICK: dict[str, Any] = {"width": 32, "samples": 40, "seeds": 2, "hidden": 2}


def spectrum_experiment(
    out: str | os.PathLike[str],
    methods: Sequence[str] = PRUNED,
    densities: Sequence[float] = DENSITIES,
    seeds: int = 3,
    *,
    width: int = 512,
    hidden: int = 4,
    samples: int = 256,
    data: Data | None = None,
    source: str = "digits",
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Eigenvalues, energies, effective rank, gap and decay of tangent kernels over densities: finite and limit.

    Bias-free ReLU networks with ``hidden`` hidden layers, all layers pruned at the start by one threshold; the kernel
    of the first output on ``samples`` inputs that pruning did not see. The limit is that of the method's law at the
    layers' own densities (random, magnitude), else of (W, V) estimated from masks and weights with 8 blocks.
    Eigenvalues are of the operator, the matrix over N. ``data`` = (x, labels), called ``source`` in what is kept;
    digits if None.

    Prints a table, writes ``spectrum.nc`` and ``spectrum.png``; networks are kept as they finish.

    Returns a Dataset over "pruning", "density", "seed" and "side" ("finite", "limit"): ``log_eigenvalue`` ("mode"), the
    natural logarithm, ``energy5`` and ``energy10``, the shares of the trace in the first 5 and 10 modes,
    ``effective_rank``, ``gap`` (lambda_1 / lambda_2) and ``decay``, the exponent.
    """
    folder = results_folder(out)
    check_installed("the figure", {"matplotlib": "matplotlib"}, "examples")  # before all that takes long
    console = console or wide_console()
    methods = different("methods", methods, sorted(set(METHODS) - {"imp"}))
    densities = [share_kept("densities", one) for one in densities]
    if not densities or len(set(densities)) < len(densities):
        raise InputError(f"densities: expected at least one, all different, got {densities}.")
    for name, value, least in (
        ("width", width, 1),
        ("hidden", hidden, 1),
        ("seeds", seeds, 1),
        ("samples", samples, 30),
    ):
        whole_number(name, value, least)
    x, labels = digits() if data is None else data
    settings = {"width": width, "hidden": hidden, "samples": samples, "data": source}
    parts = Parts(folder, "spectrum", settings)
    over: dict[str, Sequence[Any]] = {"pruning": methods, "density": densities, "seed": range(seeds)}

    def make(one: Mapping[str, Any]) -> Dataset:
        model = dense((x.shape[1], *[width] * hidden, int(labels.max()) + 1), [one["seed"], width])
        prune(model, one["pruning"], one["density"], (x[:BATCH], labels[:BATCH]), rng=[one["seed"], width, 1])
        return _spectra(model, one["pruning"], x[BATCH : BATCH + samples])

    result = gathered(parts.all(every(over), make, progress=progress), over).assign_coords(side=list(SIDES))
    result.attrs = {**settings, "verdict": verdict(result)}
    save_dataset(result, folder / "spectrum.nc")
    spectrum_figure(result, folder / "spectrum.png")
    console.print(spectrum_table(result))
    console.print(result.attrs["verdict"])
    return result


def verdict(found: Dataset) -> str:
    """How far top-10 energies of networks and their limits are apart, by method."""
    apart = abs(found.energy10.mean("seed").diff("side").isel(side=0)).max("density")
    texts = (
        f"{LABELS.get(str(name), str(name))} {float(apart.sel(pruning=name)):.3f}" for name in found.pruning.values
    )
    return f"top-10 energy, finite against limit, largest difference over densities: {', '.join(texts)}."


def spectrum_table(found: Dataset) -> Table:
    """One row for each method, density and side."""
    over = f"width {found.attrs['width']:,}, {found.attrs['hidden']} hidden layers, {found.attrs['samples']} inputs"
    table = Table(title=f"spectra, {over}, {found.sizes['seed']} seeds; means")
    heads = ("masks", "density", "side", "ln of eigenvalues 1, 2, 5, 10", "top 5", "top 10", "rank", "gap", "decay")
    for head in heads:
        table.add_column(head, justify="left" if head in ("masks", "side") else "right")
    for name in found.pruning.values:
        for density in found.density.values:
            for side in found.side.values:
                one = found.sel(pruning=name, density=density, side=side).mean("seed")
                logs = (f"{float(one.log_eigenvalue.sel(mode=mode)):.2f}" for mode in (1, 2, 5, 10))
                table.add_row(
                    LABELS.get(str(name), str(name)),
                    f"{density:g}",
                    str(side),
                    " ".join(logs),
                    *(f"{float(one[name]):.3f}" for name in ("energy5", "energy10")),
                    *(f"{float(one[name]):.2f}" for name in ("effective_rank", "gap", "decay")),
                )
    return table


def _spectra(model: MaskedMLP, method: str, x: Any) -> Dataset:
    """Of a pruned network and of its limit."""
    law = law_network(model, method)
    if law is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights whose sizes tell what pruning did, and of drift left out
            law = theories(model, blocks=8, names=["(W, V)"])["(W, V)"]
    limit = gt.limit_kernel(law, x).ntk
    kernels = [empirical_kernel(model, x, outputs=[0]).ntk, limit]
    spectra = [gt.spectrum(kernel.values.reshape(-1, len(x), len(x))[0]) for kernel in kernels]
    values = {
        "log_eigenvalue": (("side", "mode"), np.log([one.eigenvalue.values[:MODES] for one in spectra])),
        "energy5": ("side", [float(one.energy[4]) for one in spectra]),
        "energy10": ("side", [float(one.energy[9]) for one in spectra]),
        "effective_rank": ("side", [one.attrs["effective_rank"] for one in spectra]),
        "gap": ("side", [one.attrs["gap"] for one in spectra]),
        "decay": ("side", [one.attrs["decay_exponent"] for one in spectra]),
    }
    return Dataset(values, {"mode": np.arange(1, MODES + 1)})
