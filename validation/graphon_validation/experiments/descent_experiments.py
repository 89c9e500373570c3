"""Gradient descent of pruned networks against the curve that kernels predict, where training is lazy and where not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.data.checks import positive_number, share_kept, whole_number
from graphon_theory.networks.network import Network
from graphon_validation.experiments.contenders import PRUNED, called
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.drawings import descent_figure
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different, different_numbers, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.pruning.scores import one_shot_methods
from graphon_validation.studies.protocols import law_network, theories
from graphon_validation.studies.tables import table_of
from graphon_validation.training.trainers import train

SCALES = (0.1, 1.0, 5.0)  # of the targets: lazy, between, and not
LAZY = 0.1  # a change of the kernel below which its curve is said to hold
HIDDEN, INPUTS, BATCH = 3, 100, 200
_MOST = 100_000  # steps, seeds or units
SHARE = 0.5  # of the critical rate of the network's own kernel
QUICK: dict[str, Any] = {"width": 48, "seeds": 2, "steps": 20}


def descent_experiment(
    out: str | os.PathLike[str],
    methods: Sequence[str] = PRUNED,
    scales: Sequence[float] = SCALES,
    seeds: int = 3,
    *,
    width: int = 1024,
    density: float = 0.2,
    steps: int = 200,
    device: torch.device | str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Full-batch gradient descent on squared loss beside the curves of two kernels: the network's own, and the limit.

    Bias-free ReLU networks (ntk parameterization) with three hidden layers and one output, the layers between hidden
    units pruned, on 100 digits; targets are ``scales`` times +-1 (5 to 9 or not), f(0) taken off, the rate half the
    critical one of the network's own kernel. Before training the limit says by ``kernel_change``
    (:func:`graphon_theory.gradient_flow`) how far the kernel's largest eigenvalue will move; below 0.1 training is
    called lazy, and its own kernel's curve is due to hold. The limit is the method's law (random, magnitude) or (W, V)
    with 8 blocks of the network's masks and weights.

    Prints a table and a verdict; writes ``descent.nc`` and ``descent.png``; networks are kept as they finish.

    Returns a Dataset over "pruning", "scale" and "seed": ``said`` and ``changed``, the change of the largest
    eigenvalue, as estimated and measured; ``loss``, ``own`` and ``limit`` ("step"), the curves over the loss at the
    start; ``off_own`` and ``off_limit``, the largest distance of the loss from each.
    """
    results = results_in(out, console, figures=True)
    methods = different("methods", methods, one_shot_methods())
    scales = different_numbers("scales", scales, positive_number)
    density = share_kept("density", density)
    for name, count in (("seeds", seeds), ("width", width), ("steps", steps)):
        whole_number(name, count, 1, _MOST)
    x, labels = digits()
    batch, inputs = (x[:BATCH], labels[:BATCH]), x[BATCH : BATCH + INPUTS]
    y = np.where(labels[BATCH : BATCH + INPUTS] >= 5, 1.0, -1.0)
    counts = (x.shape[1], *[width] * HIDDEN, 1)

    def make(one: Mapping[str, Any]) -> Dataset:
        model = _pruned(counts, one["pruning"], density, one["seed"], batch, device)
        law = law_network(model, one["pruning"])
        if law is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of drift left out, which is what is to be seen
                law = theories(model, blocks=8, names=["(W, V)"])["(W, V)"]
        return _trained(model, law, inputs, one["scale"] * y, steps)

    settings: dict[str, Any] = {"width": width, "density": density, "steps": steps, "share": SHARE}
    over: dict[str, Sequence[Any]] = {"pruning": methods, "scale": scales, "seed": range(seeds)}
    found = Parts(results.folder, "descent", settings).over(over, make, progress=progress).assign_attrs(settings)
    return results.finish(found, "descent", [descent_table(found)], verdict=verdict(found), figure=descent_figure)


def _pruned(
    counts: Sequence[int], method: str, density: float, seed: int, batch: Any, device: torch.device | str | None
) -> MaskedMLP:
    """A network of one output, pruned by a method that sees classes: the last layer is that of the first class."""
    classes = dense((*counts[:-1], 10), [seed, counts[1]], device=device)
    prune(classes, method, density, batch, layers=range(1, HIDDEN), rng=[seed, counts[1], 1])
    model = dense(counts, [seed, counts[1]], device=device)
    with torch.no_grad():
        for own, other in zip(model.linears, classes.linears, strict=True):
            own.weight.copy_(other.weight[: len(own.weight)])
            own.mask.copy_(other.mask[: len(own.mask)])
    return model


def _trained(model: MaskedMLP, law: Network, x: Any, y: Any, steps: int) -> Dataset:
    times = np.arange(steps + 1)
    before = empirical_kernel(model, x).ntk.values
    limit = gt.limit_kernel(law, x)
    rate = SHARE * gt.critical_learning_rate(before)
    with torch.no_grad():
        start = model(as_tensor(model, x, "x")).double().cpu().numpy()[:, 0]
    curves = [gt.gradient_descent(kernel, y, times, learning_rate=rate).loss.values for kernel in (before, limit.ntk)]
    units = float(model.widths[-2] * model.masks[-1].double().mean())
    flow = gt.gradient_flow(
        limit.ntk, y, times[1:], learning_rate=rate, width=units, nngp=limit.nngp, depth=len(model.linears)
    )
    seen = train(model, (x, y + start), steps=steps, learning_rate=rate, record=1, progress=False)
    loss = seen.loss.values
    after = empirical_kernel(model, x).ntk.values
    first, last = (float(np.linalg.eigvalsh(kernel)[-1]) for kernel in (before, after))
    own, ideal = (curve / curve[0] for curve in curves)
    loss = loss / loss[0]
    return Dataset(
        {
            "said": float(flow.kernel_change[-1]),
            "changed": last / first - 1,
            "loss": ("step", loss),
            "own": ("step", own),
            "limit": ("step", ideal),
            "off_own": float(abs(loss - own).max()),
            "off_limit": float(abs(loss - ideal).max()),
        },
        {"step": times},
    )


def verdict(found: Dataset) -> str:
    """Where the estimate says lazy, and where not: how far the loss is from the curve of the network's own kernel."""
    said, off = found.said.mean("seed"), found.off_own.mean("seed")
    lazy = said < LAZY
    texts = []
    for name, chosen in (("lazy", lazy), ("not", ~lazy)):
        if bool(chosen.any()):
            some = off.where(chosen)
            texts.append(
                f"said to be {name}: {int(chosen.sum())} cases, off by {float(some.min()):.2g} to "
                f"{float(some.max()):.2g} of the loss at the start"
            )
    return f"loss against the curve of the network's own kernel; {'; '.join(texts)}."


def descent_table(found: Dataset) -> Table:
    title = f"gradient descent, width {found.attrs['width']:,}, density {found.attrs['density']:g}"
    title = f"{title}, {found.attrs['steps']} steps, means over {found.sizes['seed']} seeds"
    heads = ("masks", "targets", "kernel change: said", "measured", "loss at the end", "off own kernel", "off limit")
    table = table_of(title, heads, words=["masks"])
    for name in found.pruning.values:
        for scale in found.scale.values:
            one = found.sel(pruning=name, scale=scale).mean("seed")
            table.add_row(
                called(name),
                f"{scale:g}",
                f"{float(one.said):.3f}",
                f"{float(one.changed):+.3f}",
                f"{float(one.loss[-1]):.3g}",
                f"{float(one.off_own):.3g}",
                f"{float(one.off_limit):.3g}",
            )
    return table
