"""Cross-entropy of wide networks under full-batch gradient descent, beside that of their limits (THEORY §7)."""

from __future__ import annotations

import itertools
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
from graphon_theory.data.checks import positive_number, share_kept, whole_number
from graphon_theory.networks.network import Network
from graphon_validation.experiments.contenders import called
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.drawings import cross_entropy_figure
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different, different_numbers, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor, build, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data
from graphon_validation.training.trainers import train

KINDS = ("dense", "random", "snip")
BATCH, INPUTS, CLASSES, HIDDEN = 200, 60, 10, 2
SHARE = 0.5  # of the critical rate of the limit, on squared loss
_MOST = 100_000
VARIANCES = (2.0, 4.0)
QUICK: dict[str, Any] = {"width": 64, "seeds": 2, "steps": 20, "positions": 64}


def cross_entropy_experiment(
    out: str | os.PathLike[str],
    kinds: Sequence[str] = KINDS,
    seeds: int = 6,
    *,
    width: int = 2048,
    density: float = 0.2,
    variances: Sequence[float] = VARIANCES,
    steps: int = 200,
    positions: int = 512,
    device: torch.device | str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Full-batch gradient descent on cross-entropy, networks beside :func:`gradient_descent` on their limit kernels.

    Bias-free ReLU networks with two hidden layers, ten outputs and 60 digits to learn. Kinds: "dense"; "random", all
    layers but the first at ``density``, weight variances over it; "snip", all layers pruned together on 200 other
    digits, its limit :func:`saliency_network` with ``positions`` units drawn anew for every network, whose outputs have
    kernels of their own. ``variances`` are sigma_w^2 of all layers: the larger, the larger are outputs and the less
    kernels move for these to change. The rate is half the critical one of the limit, limits start where the network
    does. Networks are float32 and live on ``device``; they are kept as they finish.

    Prints a table and a verdict; writes ``cross-entropy.nc`` and ``cross-entropy.png``.

    Returns a Dataset over "variance", "kind" and "seed": ``loss`` and ``limit`` ("step"), the curves; ``changed``, the
    relative change of the largest eigenvalue of the first output's kernel in training, and ``trace``, its trace at the
    start over that of the limit.
    """
    results = results_in(out, console, figures=True)
    kinds = different("kinds", kinds, KINDS)
    density = share_kept("density", density)
    for name, count, least in (("seeds", seeds, 2), ("width", width, 1), ("steps", steps, 1)):
        whole_number(name, count, least, _MOST)
    whole_number("positions", positions, 2, _MOST)
    over: dict[str, Sequence[Any]] = {
        "variance": different_numbers("variances", variances, positive_number),
        "kind": kinds,
        "seed": range(seeds),
    }
    x, labels = digits()
    batch, own = ((x[part], labels[part]) for part in (slice(BATCH), slice(BATCH, BATCH + INPUTS)))
    counts = (x.shape[1], *[width] * HIDDEN, CLASSES)

    def make(one: Mapping[str, Any]) -> Dataset:
        model, law = _pair(one["kind"], counts, density, one["variance"], one["seed"], batch, positions)
        return _trained(model.to(device), law, own, steps)

    settings: dict[str, Any] = {"width": width, "density": density, "steps": steps, "positions": positions}
    found = Parts(results.folder, "cross-entropy", settings).over(over, make, progress=progress).assign_attrs(settings)
    table = cross_entropy_table(found)
    return results.finish(found, "cross-entropy", [table], verdict=verdict(found), figure=cross_entropy_figure)


def _pair(
    kind: str, counts: Sequence[int], density: float, variance: float, seed: int, batch: Data, positions: int
) -> tuple[MaskedMLP, Network]:
    """A network that is drawn, and its limit."""
    if kind == "snip":
        model = dense(counts, [seed, counts[1]], weight_variance=variance, dtype=torch.float32)
        plain = Network([1.0] * (HIDDEN + 1), weight_variance=variance, outputs=CLASSES)
        law = gt.saliency_network(plain, *batch, density, counts, positions=positions, rng=seed)
        return prune(model, "snip", density, batch), law
    kept = 1.0 if kind == "dense" else density
    law = Network([1.0, *[kept] * HIDDEN], weight_variance=[variance, *[variance / kept] * HIDDEN], outputs=CLASSES)
    return build(law, counts, seed, dtype=torch.float32), law


def _trained(model: MaskedMLP, law: Network, data: Data, steps: int) -> Dataset:
    x, labels = data
    limit = gt.limit_kernel(law, x).ntk
    rate = SHARE * gt.critical_learning_rate(limit)
    with torch.no_grad():
        start = model(as_tensor(model, x, "x")).double().cpu().numpy()
    before = empirical_kernel(model, x, outputs=[0]).ntk.values[0]
    seen = train(model, (x, labels), steps=steps, learning_rate=rate, loss="cross_entropy", record=1, progress=False)
    after = empirical_kernel(model, x, outputs=[0]).ntk.values[0]
    said = gt.gradient_descent(
        limit, labels, np.arange(steps + 1), learning_rate=rate, loss="cross_entropy", initial=start
    )
    first, last = (float(np.linalg.eigvalsh(kernel.astype(float))[-1]) for kernel in (before, after))
    return Dataset(
        {
            "loss": ("step", seen.loss.values),
            "limit": ("step", said.loss.values),
            "changed": last / first - 1,
            "trace": float(np.trace(before) / np.trace(limit.values[0])),
        },
        {"step": np.arange(steps + 1)},
    )


def apart(found: Dataset) -> tuple[FloatArray, FloatArray]:
    """By variance, kind and step: ln of networks' losses over their limits', mean over seeds, and their spread."""
    logs = np.log(found.loss / found.limit).mean("seed")
    spread = np.log(found.loss).std("seed", ddof=1)
    order = "variance", "kind", "step"
    return np.asarray(logs.transpose(*order)), np.asarray(spread.transpose(*order))


def verdict(found: Dataset) -> str:
    """The largest distance of the mean curves in logarithms, and beside it the spread of networks."""
    texts = []
    for variance, *both in zip(found.variance.values, *apart(found), strict=True):
        for kind, off, spread in zip(found.kind.values, *both, strict=True):
            worst = int(np.abs(off).argmax())
            inside = np.abs(off)[1:] <= np.maximum(spread, np.log1p(1e-6))[1:]
            texts.append(
                f"{called(kind)}, variance {variance:g}, {off[worst]:+.3f} at step {worst} (spread over networks "
                f"{spread[worst]:.3f}; within it at {np.mean(inside):.0%} of the steps)"
            )
    return f"ln of loss over that of the limit, at most: {'; '.join(texts)}."


def cross_entropy_table(found: Dataset) -> Table:
    """Losses of networks and limits at some steps, means over seeds."""
    last = int(found.step.values[-1])
    steps = [step for step in (0, 1, 3, 10, 30, 100, 300, 1000) if step < last] + [last]
    title = f"cross-entropy, width {found.attrs['width']:,}, {found.sizes['seed']} networks: networks / limits"
    table = table_of(
        title, ("variance", "kind", *(f"step {step}" for step in steps), "kernel moved", "trace"), words=["kind"]
    )
    for variance, kind in itertools.product(found.variance.values, found.kind.values):
        one = found.sel(variance=variance, kind=kind).mean("seed")
        cells = (f"{float(one.loss.sel(step=step)):.3f} / {float(one.limit.sel(step=step)):.3f}" for step in steps)
        table.add_row(f"{variance:g}", called(kind), *cells, f"{float(one.changed):+.3f}", f"{float(one.trace):.3f}")
    return table
