"""The largest rate that torch.optim.SGD survives, beside those that the limit kernel gives.

    python -m benchmarks.bench_learning_rates                      the three pruned networks of the documentation
    python -m benchmarks.bench_learning_rates --networks all --out DIR

Networks of ``torch.nn.Linear`` as torch draws them, pruned by ``global_unstructured`` and L1, trained on 1,500 digits
for 300 steps. A rate is survived when the mean loss of the last fifth of the batches is below the loss at the start;
the limit is bisected to 4%. With ``--out`` the table goes to ``DIR/rates.nc``, which
``python -m tests.tools.results DIR`` writes into docs/results.md.
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import prune

import graphon_theory as gt
import graphon_validation as gv
from benchmarks.common import FloatArray
from graphon_theory.data.files import save_dataset

LOSSES = ("squared", "cross_entropy")
BATCHES = (32, 128)
TRAIN, KERNEL, STEPS = 1500, 300, 300  # inputs trained on, inputs of the kernel, steps
_CLOSE = 1.04  # ratio of rates at which bisection ends
_LEAST, _MOST = 0.25, 16.0  # of the critical rate, between which the limit is looked for


class Case(NamedTuple):
    widths: tuple[int, ...]
    pruned: float
    data: str
    activation: type[nn.Module] = nn.ReLU


NETWORKS = {
    "784-512-512-10": Case((784, 512, 512, 10), 0.85, "pixels"),
    "784-300-100-10": Case((784, 300, 100, 10), 0.9, "pixels"),
    "64-256-256-256-10": Case((64, 256, 256, 256, 10), 0.8, "small"),
    "64-1024-1024-10": Case((64, 1024, 1024, 10), 0.85, "small"),
    "784-512-512-10, standardised": Case((784, 512, 512, 10), 0.85, "standardised"),
    "784-512-512-512-10, standardised": Case((784, 512, 512, 512, 10), 0.5, "standardised"),
    "784-512-512-10, dense": Case((784, 512, 512, 10), 0.0, "pixels"),
    "784-512-512-10, dense, standardised": Case((784, 512, 512, 10), 0.0, "standardised"),
    "64-512-512-512-512-10": Case((64, 512, 512, 512, 512, 10), 0.8, "small"),
    "64-256-256-10, tanh": Case((64, 256, 256, 10), 0.5, "small", nn.Tanh),
    "784-300-300-10, tanh": Case((784, 300, 300, 10), 0.8, "pixels", nn.Tanh),
}
PRUNED = tuple(NETWORKS)[:3]


def digits(kind: str, count: int = TRAIN) -> tuple[FloatArray, Any]:
    """Digits of 784 pixels from 0 to 1, the same standardised, or scikit-learn's own of 64."""
    x, labels = gt.datasets.digits(8 if kind == "small" else 28, count, rng=0)
    return ((x - x.mean()) / x.std() if kind == "standardised" else x), labels


def network(case: Case, seed: int = 0) -> nn.Sequential:
    """As torch draws it, pruned over all layers together."""
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b) for a, b in zip(case.widths, case.widths[1:], strict=False)]
    parts = [part for layer in layers for part in (layer, case.activation())][:-1]
    if case.pruned:
        prune.global_unstructured([(one, "weight") for one in layers], prune.L1Unstructured, amount=case.pruned)
    return nn.Sequential(*parts)


def loss_of(name: str, outputs: Tensor, labels: Tensor) -> Tensor:
    """The package's squared loss on one-hot targets, or torch's cross-entropy."""
    if name == "cross_entropy":
        return nn.functional.cross_entropy(outputs, labels)
    return 0.5 * ((outputs - nn.functional.one_hot(labels, outputs.shape[1])) ** 2).sum(dim=1).mean()


def survives(
    case: Case, x: Tensor, labels: Tensor, *, loss: str, rate: float, batch: int, steps: int = STEPS, seed: int = 0
) -> bool:
    """Whether plain SGD ends below where it started."""
    model = network(case, seed)
    engine = torch.optim.SGD(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    start = float(loss_of(loss, model(x), labels).detach())
    order, seen = torch.randperm(len(x), generator=generator), 0
    losses = []
    for _ in range(steps):
        if seen + batch > len(x):
            order, seen = torch.randperm(len(x), generator=generator), 0
        chosen = order[seen : seen + batch]
        seen += batch
        value = loss_of(loss, model(x[chosen]), labels[chosen])
        losses.append(float(value.detach()))
        if not math.isfinite(losses[-1]):
            return False
        engine.zero_grad()
        value.backward()
        engine.step()
    return float(np.mean(losses[-max(1, steps // 5) :])) < start


def limit(case: Case, x: Tensor, labels: Tensor, first: float, **given: Any) -> float:
    """The largest rate survived, by bisection in its logarithm; ``first`` is where to look."""
    low, high = _LEAST * first, _MOST * first
    while high / low > _CLOSE:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if survives(case, x, labels, rate=middle, **given) else (low, middle)
    return low


def measured(name: str, steps: int = STEPS, count: int = TRAIN, seeds: int = 1) -> xr.Dataset:
    """``critical``, ``divergence``, ``expected`` ("batch") and ``survived`` ("loss", "batch", "seed") of a network."""
    torch.set_num_threads(1)
    case = NETWORKS[name]
    inputs, labels = digits(case.data, count)
    x, y = torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(labels)
    network_of_limit = gv.theories(gv.from_torch(network(case)), blocks=4)["(W, V)"]
    kernel = gt.limit_kernel(network_of_limit, inputs[:KERNEL], progress=False).ntk
    critical = gt.critical_learning_rate(kernel)
    targets = np.eye(case.widths[-1])[labels[:KERNEL]]
    start = network(case)(x[:KERNEL]).detach().numpy()
    expected = [
        gt.divergence_learning_rate(kernel, network_of_limit, targets, batch=batch, steps=steps, initial=start)
        for batch in BATCHES
    ]
    survived = np.empty((len(LOSSES), len(BATCHES), seeds))
    for loss, batch, seed in np.ndindex(survived.shape):
        given = {"loss": LOSSES[loss], "batch": BATCHES[batch], "steps": steps, "seed": seed}
        survived[loss, batch, seed] = limit(case, x, y, critical, **given)
    return xr.Dataset(
        {
            "critical": critical,
            "divergence": gt.divergence_learning_rate(kernel, network_of_limit),
            "expected": ("batch", expected),
            "pruned": 100 * case.pruned,
            "survived": (("loss", "batch", "seed"), survived),
        },
        {"network": name, "loss": list(LOSSES), "batch": list(BATCHES), "seed": np.arange(seeds)},
        {"steps": steps, "train": count},
    )


def table(found: xr.Dataset) -> Table:
    """Rates by network; what is measured as a range over seeds."""
    made = Table(title=f"Largest rates of SGD, {found.attrs['steps']} steps")
    columns = [f"{loss}, {batch}" for loss in found.loss.values for batch in found.batch.values]
    batches = [f"in batches of {batch}" for batch in found.batch.values]
    for heading in ("network", "loss rises", "diverges", *batches, *columns):
        made.add_column(heading, justify="left" if heading == "network" else "right")
    for name in found.network.values:
        one = found.sel(network=name)
        cells = (one.survived.sel(loss=loss, batch=batch) for loss in found.loss.values for batch in found.batch.values)
        spans = (f"{float(cell.min()):.2g}-{float(cell.max()):.2g}" for cell in cells)
        rates = (float(rate) for rate in (one.critical, one.divergence, *one.expected))
        made.add_row(str(name), *(f"{rate:.3g}" for rate in rates), *spans)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", default="pruned", choices=("pruned", "all"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=1, help="networks and orders of batches")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, metavar="DIR")
    chosen = parser.parse_args()
    names = PRUNED if chosen.networks == "pruned" else tuple(NETWORKS)
    one = partial(measured, steps=chosen.steps, seeds=chosen.seeds)
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        found = xr.concat(list(pool.map(one, names)), "network")
    Console(width=120).print(table(found))
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        save_dataset(found, chosen.out / "rates.nc")


if __name__ == "__main__":
    main()
