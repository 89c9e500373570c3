"""How far kernels of drawn networks move in training, beside what is said of it beforehand (THEORY §7)."""

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
from graphon_theory.data.checks import positive_number, share_kept, whole_number, whole_numbers
from graphon_theory.errors import ConvergenceError
from graphon_theory.networks.network import Network
from graphon_validation.experiments.labelled_data import labelled_data
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different, different_numbers, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import build
from graphon_validation.studies.tables import table_of

SETS = ("digits", "breast_cancer", "wine", "classification")
LEFT = 0.1  # of the loss, at which training stops
INPUTS, SHARE, STEPS = 30, 0.2, 4000  # to train on; of 1 / lambda_1, the rate; at most
FACTOR = 2.0  # within which a change is said rightly
QUICK: dict[str, Any] = {"sets": ["wine"], "widths": [64], "variances": [2.0], "densities": [0.5], "layers": [2]}


def kernel_motion_experiment(
    out: str | os.PathLike[str],
    sets: Sequence[str] = SETS,
    widths: Sequence[int] = (128, 512),
    seeds: int = 4,
    *,
    variances: Sequence[float] = (2.0, 4.0, 10.0),
    densities: Sequence[float] = (1.0, 0.5, 0.2),
    layers: Sequence[int] = (2, 3),
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """The change of lambda_1 while drawn ReLU networks learn, beside ``kernel_change`` of :func:`gradient_flow`.

    Random masks behind a dense input layer; targets of +-1 (the upper half of the classes or not) on 30 inputs of a
    data set, learned by full-batch gradient descent until a tenth of the squared loss is left; outputs at the start are
    taken off. Every network learns the targets and their opposite: what is odd in the outputs at the start cancels to
    first order. ``variances`` are sigma_w^2, ``layers`` numbers of weight layers. Networks are kept as they finish.

    Prints a table and a verdict; writes ``kernel-motion.nc``.

    Returns a Dataset over "set", "layers", "variance", "density", "width" and "seed": ``said``, the same for all
    seeds, and ``changed``, the relative change of lambda_1, mean over both signs. Raises ConvergenceError for a network
    that does not learn as much in 4,000 steps.
    """
    results = results_in(out, console)
    sets = different("sets", sets, SETS)
    over: dict[str, Sequence[Any]] = {
        "set": sets,
        "layers": list(whole_numbers("layers", layers, 2, distinct=True)),
        "variance": different_numbers("variances", variances, positive_number),
        "density": different_numbers("densities", densities, share_kept),
        "width": list(whole_numbers("widths", widths, distinct=True)),
        "seed": range(whole_number("seeds", seeds, 2)),
    }

    def make(one: Mapping[str, Any]) -> Dataset:
        x, y = halves(one["set"])
        network = Network([1.0, *[one["density"]] * (one["layers"] - 1)], weight_variance=one["variance"])
        said = gt.compare_networks({"one": network}, x, y, level=LEFT, width=one["width"]).kernel_change[0]
        return Dataset({"said": float(said), "changed": measured_change(network, x, y, one["width"], one["seed"])})

    settings = {"inputs": INPUTS, "left": LEFT}
    found = Parts(results.folder, "kernel-motion", settings).over(over, make, progress=progress).assign_attrs(settings)
    return results.finish(found, "kernel-motion", [motion_table(found)], verdict=verdict(found))


def halves(name: str) -> tuple[FloatArray, FloatArray]:
    """Inputs of a data set, standardised or as they are, and which half of the classes they are of, +-1."""
    x, labels = labelled_data(name)
    y = np.where(labels[:INPUTS] >= (labels.max() + 1) / 2, 1.0, -1.0)
    return x[:INPUTS], y


def measured_change(network: Network, x: FloatArray, y: FloatArray, width: int, seed: int) -> float:
    """The relative change of lambda_1 of a drawn network until ``LEFT`` of the loss is left, mean over both signs."""
    changes = []
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)[:, None]
    for sign in (1, -1):
        model = build(network, (x.shape[1], *[width] * (network.depth - 1), 1), seed)
        before = float(gt.spectrum(empirical_kernel(model, x).ntk, 1).eigenvalue[0])
        start = model(inputs).detach()
        engine = torch.optim.SGD(model.parameters(), lr=SHARE / before)
        for _ in range(STEPS):
            engine.zero_grad()
            left = model(inputs) - start - sign * targets
            if float(left.detach().square().mean()) < LEFT * float(targets.square().mean()):
                break
            (left.square().sum() / (2 * len(x))).backward()
            engine.step()
        else:
            raise ConvergenceError(f"steps: {STEPS:,} of gradient descent leave more than {LEFT:g} of the loss.")
        after = float(gt.spectrum(empirical_kernel(model, x).ntk, 1).eigenvalue[0])
        changes.append(after / before - 1)
    return float(np.mean(changes))


def compared(found: Dataset) -> Dataset:
    """``said``, the mean ``changed`` and its error by setting; ``within``: apart by less than the factor or 2 errors.

    A change is within where said * FACTOR and said / FACTOR, each two errors wider, hold the measured one.
    """
    said, mean = found.said.mean("seed"), found.changed.mean("seed")
    error = found.changed.std("seed", ddof=1) / found.sizes["seed"] ** 0.5
    within = (mean > said / FACTOR - 2 * error) & (mean < said * FACTOR + 2 * error)
    return Dataset({"said": said, "changed": mean, "error": error, "within": within})


def verdict(found: Dataset) -> str:
    """In how many settings the change is said within the factor, of all and of those where it is plainly seen."""
    one = compared(found)
    ratio = one.said / one.changed
    plain = (one.changed > 4 * one.error) & (one.changed > 0.01)
    inside = ((ratio > 1 / FACTOR) & (ratio < FACTOR)).where(plain)
    said = f"within {FACTOR:g} times, two errors allowed: {int(one.within.sum())} of {one.within.size} settings"
    if not bool(plain.any()):
        return f"{said}."
    some = ratio.where(plain)
    least, most, middle = (float(value) for value in (some.min(), some.max(), some.median()))
    return (
        f"{said}; of {int(plain.sum())} whose change is over 1% and 4 errors {int(inside.sum())} without allowance: "
        f"said over measured {least:.2f} to {most:.2f}, median {middle:.2f}."
    )


def motion_table(found: Dataset) -> Table:
    """A row for each data set, depth, variance and density; said / measured for each width."""
    one = compared(found)
    widths = [int(width) for width in found.width.values]
    title = f"change of lambda_1 until {LEFT:g} of the loss is left: said / measured, {found.sizes['seed']} networks"
    heads = ("inputs", "layers", "variance", "density", *(f"width {width:,}" for width in widths))
    table = table_of(title, heads, words=["inputs"])
    for place in np.ndindex(*(found.sizes[name] for name in ("set", "layers", "variance", "density"))):
        row = one.isel(dict(zip(("set", "layers", "variance", "density"), place, strict=True)))
        cells = (
            f"{float(row.said[k]):.4f} / {float(row.changed[k]):.4f} ± {float(row.error[k]):.4f}"
            for k in range(len(widths))
        )
        table.add_row(
            str(row.set.item()), f"{int(row.layers)}", f"{float(row.variance):g}", f"{float(row.density):g}", *cells
        )
    return table
