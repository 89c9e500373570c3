"""Does the best learning rate stay where it is as networks get sparser, with and without a rule (THEORY §13)?"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.data.checks import share_kept, whole_number
from graphon_theory.errors import InputError
from graphon_theory.networks.network import Network
from graphon_validation.experiments.contenders import BIAS_VARIANCE, called
from graphon_validation.experiments.drawings import transfer_figure
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different, different_numbers, results_in
from graphon_validation.experiments.tasks import Task
from graphon_validation.experiments.tasks import task as named_task
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor, build, checked_place
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import theories
from graphon_validation.studies.tables import table_of
from graphon_validation.training.trainers import OPTIMIZERS, train

LAWS = ("random", "magnitude", "synflow", "step")
RULES = ("none", "1/density", "transfer")
DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
HIDDEN = 3  # layers; the two weight layers between them are pruned
STEP = ((1.6, 0.4), (0.8, 1.2))  # blocks of the step graphon, in units of the density
BAR = 1.5  # drift that a rule should not exceed
QUICK: dict[str, Any] = {"width": 32, "steps": 6, "train": 30, "seeds": 1, "densities": (0.5, 0.25)}
_COARSE, _MIDDLE, _FINE = 4.0, 2.0, 2**0.25  # ratios of neighbouring rates, from the first look to the last
_FARTHEST = 4.0**10


@dataclass(frozen=True)
class _Setting:
    """One law at one density: the model of a seed, and its law for the rule."""

    law: str
    density: float
    widths: tuple[int, ...]
    device: str = "cpu"

    @property
    def dense(self) -> Network:
        return Network([1.0] * (HIDDEN + 1), bias_variance=BIAS_VARIANCE)

    def network(self) -> Network | None:
        """(W, V) of the law; None where it is read from the masks."""
        if self.law == "synflow":
            return None
        middle: Any = {
            "random": self.density,
            "magnitude": gt.magnitude_pruning(self.density),
            "step": gt.StepGraphon(self.density * np.array(STEP)),
        }[self.law]
        return self.dense.changed(layers=(1.0, *[middle] * (HIDDEN - 1), 1.0))

    def model(self, seed: int) -> MaskedMLP:
        """At the dense network's weight variances."""
        draw, law = [seed, self.widths[1]], self.network()
        if self.law in ("random", "step"):
            assert law is not None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", gt.DeadUnitsWarning)
                masks = gt.sample_masks(law, self.widths, np.random.default_rng(draw))
            return build(law, self.widths, draw, self.device, masks=masks)
        model = build(self.dense, self.widths, draw, self.device)
        return prune(model, self.law, self.density, layers=range(1, HIDDEN))

    def rule(self, rule: str, model: MaskedMLP, mean_square: float) -> tuple[list[float], list[float]]:
        """Weight variances and factors on the learning rate, one a layer."""
        usual, even = list(self.dense.weight_variance), [1.0] * (HIDDEN + 1)
        if rule == "none":
            return usual, even
        if rule == "1/density":
            return [v / (self.density if 0 < k < HIDDEN else 1.0) for k, v in enumerate(usual)], even
        law = self.network() or theories(model, blocks=8, names=["(W, V)"])["(W, V)"]
        found = gt.transfer(law, self.dense, mean_square)
        return list(found.network.weight_variance), found.learning_rate.tolist()


def transfer_experiment(
    out: str | os.PathLike[str],
    *,
    laws: Sequence[str] = LAWS,
    densities: Sequence[float] = DENSITIES,
    rules: Sequence[str] = RULES,
    optimizers: Sequence[str] = OPTIMIZERS,
    seeds: int = 2,
    width: int = 512,
    steps: int = 40,
    train: int = 200,
    device: str = "cpu",
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """The best learning rate over densities, and its drift in factors: with no rule, with 1/density, with gt.transfer.

    ReLU networks with three hidden layers, the two weight layers between them pruned to one density, on the task
    "isotropic"; f(0) is taken off. The best rate is the one with the least training loss after ``steps`` full-batch
    steps, found to a quarter of an octave and then by a parabola. Rules:

    - "none": weight variances and rates of the dense network;
    - "1/density": weight variances of pruned layers over their density, what muP's rule comes to for random masks;
    - "transfer": variances and a factor on the rate for every layer by ``gt.transfer``, from the law of the masks,
      which for SynFlow is estimated from masks and weights.

    Adam takes the same factors, which are made for gradient descent: it is reported as found. Prints a table and a
    verdict, writes ``transfer.nc`` and ``transfer.png``; networks are kept as they finish, and train on ``device``.

    Returns a Dataset ``best_rate`` ("optimizer", "rule", "pruning", "density", "seed"), ``best_loss``, and ``drift``
    ("optimizer", "rule", "pruning"), the largest over the least of the rates, geometric means over seeds.
    """
    results = results_in(out, console, figures=True)
    laws, rules = different("laws", laws, LAWS), different("rules", rules, RULES)
    optimizers = different("optimizers", optimizers, OPTIMIZERS)
    densities = different_numbers("densities", densities, share_kept)
    if len(densities) < 2:
        raise InputError(f"densities: expected at least two, got {densities}.")
    for label, value in (("width", width), ("steps", steps), ("seeds", seeds)):
        whole_number(label, value, 1)
    checked_place(device, None)
    task = named_task("isotropic", train=train)
    settings = {"width": width, "steps": steps, "train": train, "task": task.name}
    parts = Parts(results.folder, "transfer", settings)
    over: dict[str, Sequence[Any]] = {
        "optimizer": optimizers,
        "rule": rules,
        "pruning": laws,
        "density": densities,
        "seed": range(seeds),
    }
    found = parts.over(over, lambda one: _best(task, one, width, steps, device), progress=progress)
    means = np.exp(np.log(found.best_rate).mean("seed"))
    found = found.assign(drift=means.max("density") / means.min("density")).assign_attrs(settings)
    tables = [transfer_table(found, optimizer) for optimizer in optimizers]
    return results.finish(found, "transfer", tables, verdict=verdict(found), figure=transfer_figure)


def verdict(found: Dataset) -> str:
    """The largest drift of every rule."""
    texts = []
    for optimizer in found.optimizer.values:
        one = found.drift.sel(optimizer=optimizer)
        worst = ", ".join(f"{rule} {float(one.sel(rule=rule).max()):.3g}" for rule in found.rule.values)
        texts.append(f"{_OPTIMIZERS[str(optimizer)]}: largest drift by rule: {worst}")
    return f"{'; '.join(texts)} (a rule should stay below {BAR})."


def transfer_table(found: Dataset, optimizer: str) -> Table:
    """Best rates over densities, and their drift."""
    over = f"width {found.attrs['width']}, {found.sizes['seed']} seeds, {found.attrs['steps']} steps"
    heads = ("masks", "rule", *(f"{p:g}" for p in found.density.values), "drift")
    table = table_of(f"best rate of {_OPTIMIZERS[optimizer]}, {over}", heads, words=["masks", "rule"])
    for law in found.pruning.values:
        for rule in found.rule.values:
            one = found.sel(optimizer=optimizer, pruning=law, rule=rule)
            means = np.exp(np.log(one.best_rate).mean("seed")).values
            table.add_row(
                called(law),
                str(rule),
                *(f"{rate:.3g}" for rate in means),
                f"{float(one.drift):.3g}",
            )
    return table


_OPTIMIZERS = {"gd": "gradient descent", "adam": "Adam"}


def _best(task: Task, one: Mapping[str, Any], width: int, steps: int, device: str) -> Dataset:
    setting = _Setting(one["pruning"], one["density"], (task.x.shape[1], *[width] * HIDDEN, 1), device)
    model = setting.model(one["seed"])
    variances, factors = setting.rule(one["rule"], model, task.mean_square)
    for layer, variance in zip(model.linears, variances, strict=True):
        layer.weight_variance = variance
    model.float()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    targets = task.y + model(as_tensor(model, task.x, "x")).detach().double().cpu().numpy()
    batch = len(task.x) if one["optimizer"] == "adam" else None

    def loss(rate: float) -> float:
        model.load_state_dict(start)
        try:
            seen = train(
                model,
                (task.x, targets),
                steps=steps,
                learning_rate=[rate * factor for factor in factors],
                optimizer=one["optimizer"],
                record=max(1, steps // 4),
                batch_size=batch,
                progress=False,
            )
        except InputError:  # the loss is beyond the largest number
            return math.inf
        return float(seen.loss[-1])

    rate, least = best_rate(loss)
    return Dataset({"best_rate": rate, "best_loss": least})


def best_rate(loss: Callable[[float], float]) -> tuple[float, float]:
    """The rate of the least loss, infinite ones included, and that loss: ever finer steps, at the end a parabola.

    Rates are looked at in ratios of 4 from 1 on, until the least has higher ones on both sides, then in ratios of 2 and
    2^(1/4) around the least. Raises InputError where the least is beyond 4^10 on either side.
    """
    seen: dict[int, float] = {}  # by the exponent of the finest ratio
    coarse, middle = (round(math.log(ratio) / math.log(_FINE)) for ratio in (_COARSE, _MIDDLE))

    def at(place: int) -> float:
        if place not in seen:
            seen[place] = loss(_FINE**place)
        return seen[place]

    least = 0
    while at(least) == math.inf or at(least) > min(at(least - coarse), at(least + coarse)):
        least = min((least - coarse, least + coarse), key=at)  # where both are infinite, down
        if _FINE ** abs(least) > _FARTHEST:
            raise InputError(f"steps: the loss is least at a rate beyond {_FINE**least:.3g}; train for more steps.")
    for reach, step in ((coarse, middle), (middle, 1)):
        least = min(range(least - reach, least + reach + 1, step), key=at)
    around = [at(least + k) for k in (-1, 0, 1)]
    shift = 0.0
    if all(0 < value < math.inf for value in around):
        below, here, above = map(math.log, around)
        if (bend := above - 2 * here + below) > 0:
            shift = min(max(0.5 * (below - above) / bend, -1.0), 1.0)
    return _FINE ** (least + shift), at(least)
