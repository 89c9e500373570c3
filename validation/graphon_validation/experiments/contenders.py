"""Networks of one budget whose masks come from different methods, made comparable: every signal has variance 1."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation
from graphon_theory.data.checks import one_of
from graphon_theory.networks.network import Network
from graphon_theory.signals.block_maps import Moments
from graphon_validation.experiments.tasks import Task
from graphon_validation.networks.masked_mlps import MaskedMLP, build
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import mixture

CONTENDERS = ("designed", "random", "erk", "magnitude", "snip", "grasp", "synflow", "ntk_sap", "imp", "dense")
ONE_SHOT = ("random", "erk", "magnitude", "snip", "grasp", "synflow", "ntk_sap")  # masks at the start, none designed
PRUNED = ("random", "magnitude", "snip", "synflow", "grasp")  # those that experiments on kernels compare
HIDDEN = 2  # layers
BIAS_VARIANCE = 0.1
ROUNDS = 20  # of NTK-SAP, a fifth of the paper's, which take longer than all else together
IMP_ROUNDS = 4  # of iterative magnitude pruning; together they train as long as every network does afterwards
LABELS = {
    "erk": "ERK",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "ntk_sap": "NTK-SAP",
    "imp": "iterative magnitude",
    "set": "SET",
    "rigl": "RigL",
}


def called(method: Any) -> str:
    """A method as tables and figures call it."""
    return LABELS.get(str(method), str(method))


@dataclass(frozen=True)
class Arena:
    """What all contenders share: task, width of the two hidden ReLU layers, density; steps of gradient descent, and at
    which ``share`` of the critical rate; how many ``rows`` of the input mask predictions draw; on which ``device``
    networks are."""

    task: Task
    width: int
    density: float
    steps: int
    share: float
    rows: int = 512
    device: str = "cpu"

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.task.x.shape[1], *[self.width] * HIDDEN, self.task.y.shape[1])

    @property
    def dense(self) -> Network:
        return Network([1.0] * (HIDDEN + 1), bias_variance=BIAS_VARIANCE, outputs=self.widths[-1])

    def balanced(self, layers: list[Any]) -> Network:
        """The network of these layers with variance 1 at every position."""
        return gt.balanced(self.dense.changed(layers=tuple(layers)), self.task.mean_square, by="position")

    def law(self, method: str, designed: Network | None = None) -> Network | None:
        """The law of a method's masks and weights; None where what is known of it is no graphon of this package."""
        if method == "designed":
            return designed
        if method == "random":
            return self.balanced([gt.random_pruning(self.density)] * (HIDDEN + 1))
        if method == "erk":
            return self.balanced([gt.random_pruning(p) for p in gt.erk_densities(self.widths, self.density)])
        if method == "magnitude":
            return self.balanced([gt.magnitude_pruning(self.density)] * (HIDDEN + 1))
        return self.balanced([1.0] * (HIDDEN + 1)) if method == "dense" else None

    def with_rows(self, law: Network) -> Network:
        """The law with drawn rows of its input mask as positions, each balanced: where wide networks of so few inputs
        tend, which is not the limit of the means (THEORY §9). Given its mask a row's weights are taken as Gaussian."""
        return gt.balanced(mixture(law, self.widths[0], self.rows), self.task.mean_square, by="position")


def contender(method: str, arena: Arena, seed: int, designed: Network | None = None) -> MaskedMLP:
    """A network of the method's masks, float32, each receiver's weights rescaled so that its signal has variance 1.

    "designed", "random" and "erk" draw masks with exact budgets from their law (``gt.sample_masks``) and weights after
    them; the others prune a dense network of the same seed, with one threshold for all layers and the loss that is
    trained on, and keep its weights. NTK-SAP takes 20 rounds, iterative magnitude pruning 4. "dense" keeps everything.
    """
    one_of("method", method, CONTENDERS)
    draw = [seed, arena.width]
    if method in ("designed", "random", "erk"):
        law = arena.law(method, designed)
        assert law is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gt.DeadUnitsWarning)  # `dead_units` counts those of every method
            masks = gt.sample_masks(law, arena.widths, np.random.default_rng(draw))
        model = build(law, arena.widths, draw, arena.device, torch.float32, masks=masks)
    else:
        model = build(arena.dense, arena.widths, draw, arena.device, torch.float32)
        if method != "dense":
            prune(model, method, arena.density, (arena.task.x, arena.task.y), rng=[*draw, 1], **_options(method, arena))
    balance(model, arena.task.mean_square)
    return model


def _options(method: str, arena: Arena) -> dict[str, Any]:
    if method in ("snip", "grasp"):
        return {"loss": "squared"}
    if method == "ntk_sap":
        return {"rounds": ROUNDS}
    if method != "imp":
        return {}
    kernel = gt.limit_kernel(arena.dense.changed(outputs=1), arena.task.x).ntk
    rate = arena.share * gt.critical_learning_rate(kernel)
    return {"rounds": IMP_ROUNDS, "loss": "squared", "steps": arena.steps // IMP_ROUNDS, "learning_rate": rate}


def dead_units(model: MaskedMLP) -> list[int]:
    """Of every hidden layer, how many units receive nothing or send nothing."""
    masks = model.masks
    pairs = itertools.pairwise(masks)
    return [int((~below.any(1) | ~above.any(0)).sum()) for below, above in pairs]


@torch.no_grad()
def balance(model: MaskedMLP, mean_square: float) -> None:
    """Rescale every receiver's weights, in place, so that its signal has variance 1: `gt.balanced` of what was drawn.

    What reaches receiver i is sigma_w^2 / n sum_j m_ij w_ij^2 E[phi_j^2], with ``mean_square`` for every input and
    signals of variance 1 below, less for senders that hear their bias alone. Receivers without connections stay.
    """
    sent = torch.full((model.widths[0],), float(mean_square), dtype=torch.float64, device=model.weights[0].device)
    for number, layer in enumerate(model.linears):
        reach = (layer.mask * layer.weight.double().square()).mul_(layer.scale**2) @ sent
        bias = layer.bias_variance
        gain = torch.where(reach > 0, ((1 - bias) / reach.clamp_min(math.ulp(0.0))).sqrt(), torch.ones_like(reach))
        layer.weight.mul_(gain[:, None].to(layer.weight.dtype))
        if number < len(model.linears) - 1:
            moments = Moments(as_activation(model.activations[number]))
            alive, dead = (float(moments(np.array([k]))[0][0]) for k in (1.0, bias))
            sent = torch.where(reach > 0, alive, dead).double()
