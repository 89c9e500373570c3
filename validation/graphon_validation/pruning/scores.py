"""Scores by which connections are pruned: the higher, the more worth keeping.

A method is one function (model, data, rng, **options) -> one score tensor per layer, shaped as its weight.
It sees the model as it is, masks included; :func:`graphon_validation.prune` thresholds the scores.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphon_theory.errors import InputError
from graphon_theory.networks.stages import Fork, Join, Weights
from graphon_validation.networks.masked_mlps import MaskedMLP
from graphon_validation.training.losses import Data, as_data, loss_sum
from graphon_validation.training.trainers import train

Score = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Method:
    """A score function with what it needs and how many rounds it takes by default."""

    score: Score
    needs_data: bool = False
    rounds: int = 1


METHODS: dict[str, Method] = {}


def register(name: str, *, needs_data: bool = False, rounds: int = 1) -> Callable[[Score], Score]:
    """Make a score function available to ``prune`` under ``name``."""

    def keep(score: Score) -> Score:
        METHODS[name] = Method(score, needs_data, rounds)
        return score

    return keep


def one_shot_methods() -> list[str]:
    """Names of the methods that do not train on the way."""
    return sorted(set(METHODS) - {"imp"})


@register("random")
def random(model: MaskedMLP, data: Data | None, rng: np.random.Generator) -> list[Tensor]:
    """Uniform draws: every set of connections of the right size is equally likely."""
    return [torch.from_numpy(rng.random(tuple(weight.shape))).to(weight.device) for weight in model.weights]


@register("magnitude")
def magnitude(model: MaskedMLP, data: Data | None, rng: np.random.Generator) -> list[Tensor]:
    """|w| of the stored parameter (Han et al., 2015).

    In the ntk parameterization all layers' weights have the same law, so a global threshold prunes all
    layers alike; in the standard one a layer with more inputs has smaller weights and loses more of them.
    """
    return [weight.detach().abs() for weight in model.weights]


@register("snip", needs_data=True)
def snip(
    model: MaskedMLP,
    data: Data | None,
    rng: np.random.Generator,
    *,
    loss: str = "cross_entropy",
    batch_size: int = 256,
) -> list[Tensor]:
    """|w dL/dw|, L the mean loss over the data (SNIP: Lee, Ajanthan and Torr, ICLR 2019, arXiv 1810.02340).

    dL/dm = w dL/d(m w), the effect of the connection's mask. The paper divides by the sum over all
    connections, which changes no order. ``loss`` is "cross_entropy" of labels, or "squared", 1/(2N) sum (f
    - y)^2.
    """
    products = _products(model)
    gradients = _summed_gradients(_losses(model, products, data, loss, batch_size, 1.0), products)
    return [g.mul_(product.detach()).abs_() for product, g in zip(products, gradients, strict=True)]


@register("grasp", needs_data=True)
def grasp(
    model: MaskedMLP,
    data: Data | None,
    rng: np.random.Generator,
    *,
    loss: str = "cross_entropy",
    temperature: float = 200.0,
    batch_size: int = 256,
) -> list[Tensor]:
    """w (H g), g and H the gradient and Hessian of the loss in the weights (GraSP: Wang, Zhang and Grosse,
    ICLR 2020).

    The paper (arXiv 2002.07376) scores -w (H g) and its code removes the highest; kept here are the highest
    of w (H g), the same connections. Outputs are divided by ``temperature``, 200 in the paper's code. H g
    is exact over all the data: one pass for g, one for the derivative of g . (g held fixed). Biases stay
    out of both.
    """
    products = _products(model)
    gradients = _summed_gradients(_losses(model, products, data, loss, batch_size, temperature), products)
    for gradient, mask in zip(gradients, model.masks, strict=True):
        gradient *= mask
    curvatures = [torch.zeros_like(product) for product in products]
    for part in _losses(model, products, data, loss, batch_size, temperature):
        own = torch.autograd.grad(part, products, create_graph=True)
        inner = torch.stack([(a * b).sum() for a, b in zip(own, gradients, strict=True)]).sum()
        for total, curvature in zip(curvatures, torch.autograd.grad(inner, products), strict=True):
            total += curvature
    return [(product.detach() * c) for product, c in zip(products, curvatures, strict=True)]


@register("ntk_sap", rounds=100)
def ntk_sap(
    model: MaskedMLP,
    data: Data | None,
    rng: np.random.Generator,
    *,
    noise: float = 0.01,
    samples: int = 5,
    batch_size: int = 256,
) -> list[Tensor]:
    """|sum_r d/dm |f(z_r; m w_r) - f(z_r; m (w_r + noise v_r))|^2| (NTK-SAP: Wang et al., ICLR 2023).

    The squared difference under a random step of the weights estimates noise^2 times the trace of the
    tangent kernel (arXiv 2304.02840); its derivative by a connection's mask is that connection's worth. As
    in the paper's code, weights w_r, steps v_r and inputs z_r (``batch_size`` standard normal ones) are new
    in each of ``samples`` repetitions, so the score knows neither the network's own weights nor any data.
    v_r is N(0, 1) in units of the dense deviation, which treats both parameterizations alike; the code adds
    the same noise to all layers whatever their deviation. Biases are the network's own and take no step.
    """
    if noise <= 0 or samples < 1 or batch_size < 1:
        raise InputError(
            f"ntk_sap: expected noise > 0, samples and batch_size of at least 1, got {noise}, {samples}, {batch_size}."
        )
    gates = [mask.to(weight.dtype).requires_grad_() for mask, weight in zip(model.masks, model.weights, strict=True)]
    totals = [torch.zeros_like(gate) for gate in gates]
    for _ in range(samples):
        drawn = ntk_sap_draws(model, rng, batch_size)
        plain = model.forward_with(drawn.inputs, [g * w for g, w in zip(gates, drawn.weights, strict=True)])
        moved = model.forward_with(
            drawn.inputs, [g * (w + noise * v) for g, w, v in zip(gates, drawn.weights, drawn.steps, strict=True)]
        )
        change = (plain - moved).square().sum()
        for total, gradient in zip(totals, torch.autograd.grad(change, gates), strict=True):
            total += gradient
    return [total.abs_() for total in totals]


@dataclass(frozen=True)
class NtkSapDraw:
    """Inputs (batch, d), weights and steps of one repetition of :func:`ntk_sap`."""

    inputs: Tensor
    weights: list[Tensor]
    steps: list[Tensor]


def ntk_sap_draws(model: MaskedMLP, rng: np.random.Generator, batch_size: int) -> NtkSapDraw:
    """Fresh standard normal inputs, and weights and steps of the dense laws."""
    first = model.weights[0]

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).to(first.device, first.dtype)

    inputs = normal(batch_size, model.widths[0])
    weights = [layer.sample(rng).to(first.device, first.dtype) for layer in model.linears]
    steps = [layer.dense_std * normal(*layer.weight.shape) for layer in model.linears]
    return NtkSapDraw(inputs, weights, steps)


@register("imp", needs_data=True, rounds=10)
def imp(model: MaskedMLP, data: Data | None, rng: np.random.Generator, **options: Any) -> list[Tensor]:
    """|w| after training: iterative magnitude pruning with rewinding (Frankle and Carbin, ICLR 2019).

    Each round trains a copy by :func:`graphon_validation.train` (``options`` go there; ``steps`` is needed) and
    scores the trained weights; the network itself keeps those it had, which is rewinding. Train it for some steps
    before pruning to rewind to a later point (Frankle et al., ICML 2020). With the default of ten rounds the
    fraction kept in each is density^(1/10).
    """
    copied = copy.deepcopy(model)
    train(copied, data, **{"seed": int(rng.integers(2**31)), "progress": False, **options})
    return [weight.detach().abs() for weight in copied.weights]


@register("synflow", rounds=100)
@torch.no_grad()
def synflow(model: MaskedMLP, data: Data | None, rng: np.random.Generator) -> list[Tensor]:
    """|w| dR/d|w| / R, R = 1^T |M^L w^L| ... |M^1 w^1| 1 (SynFlow: Tanaka et al., NeurIPS 2020, arXiv
    2006.05467).

    The paper's definition: biases take no part (its code takes their absolute value and adds them) and
    neither does the activation. Residual branches add their paths to those of the shortcut, times |scale|, and a
    LayerNorm passes paths on as they come. Flows are kept as a vector and the logarithm of its size, and scores are
    divided by R: nothing overflows in deep wide networks. Of a plain network each layer's scores then sum to 1.

    Raises InputError when no path of surviving connections leads from the inputs to the outputs.
    """
    sizes = [(layer.weight * layer.mask).abs_() for layer in model.linears]
    ahead, kept = [], []
    flow = _Flow(torch.ones_like(sizes[0][0]))
    for part in model.outline:
        if isinstance(part, Weights):
            ahead.append(flow)
            flow = flow.through(sizes[part.number - 1])
        elif isinstance(part, Fork):
            kept.append(flow)
        elif isinstance(part, Join):
            flow = kept.pop().plus(flow, abs(part.scale))
    total = _Flow(flow.vector.sum(), flow.log)
    if total.vector == 0:
        raise InputError(
            "prune: no path of surviving connections leads from the inputs to the outputs, so SynFlow has nothing "
            "to keep; use a higher density or more rounds."
        )
    flow = _Flow(torch.ones_like(sizes[-1][:, 0]))
    for part in reversed(model.outline):
        if isinstance(part, Weights):
            size, below = sizes[part.number - 1], ahead[part.number - 1]
            back = size.T @ flow.vector
            through = back @ below.vector  # of all paths, unless some go around this layer
            if kept:
                through = total.vector * math.exp(total.log - flow.log - below.log)
            # the layer's scores, in the memory of its sizes
            size.mul_((flow.vector / through)[:, None]).mul_(below.vector)
            flow = _Flow(back, flow.log).normalised()
        elif isinstance(part, Join):
            kept.append(flow)
            flow = flow.times(abs(part.scale))
        elif isinstance(part, Fork):
            flow = kept.pop().plus(flow, 1.0)
    return sizes


@dataclass(frozen=True)
class _Flow:
    """vector exp(log), the vector's largest entry 1 (or 0)."""

    vector: Tensor
    log: float = 0.0

    def through(self, matrix: Tensor) -> _Flow:
        return _Flow(matrix @ self.vector, self.log).normalised()

    def times(self, factor: float) -> _Flow:
        return _Flow(factor * self.vector, self.log).normalised()

    def plus(self, other: _Flow, factor: float) -> _Flow:
        log = max(self.log, other.log)
        one, two = math.exp(self.log - log), factor * math.exp(other.log - log)
        return _Flow(one * self.vector + two * other.vector, log).normalised()

    def normalised(self) -> _Flow:
        top = float(self.vector.max())
        return _Flow(self.vector / top, self.log + math.log(top)) if top > 0 else _Flow(self.vector)


def _products(model: MaskedMLP) -> list[Tensor]:
    """M * w as leaves: a derivative by them is one by every connection, whether its parameter trains or not."""
    return [(layer.weight * layer.mask).detach().requires_grad_() for layer in model.linears]


def _summed_gradients(parts: Iterator[Tensor], products: list[Tensor]) -> list[Tensor]:
    totals: list[Tensor] = []
    for part in parts:
        gradients = torch.autograd.grad(part, products)
        if totals:
            for total, gradient in zip(totals, gradients, strict=True):
                total += gradient
        else:
            totals = list(gradients)
    return totals


def _losses(
    model: MaskedMLP, products: list[Tensor], data: Data | None, loss: str, batch_size: int, temperature: float
) -> Iterator[Tensor]:
    """The mean loss over the data as a sum of parts, one per batch."""
    assert data is not None
    inputs, targets = as_data(model, data, loss)
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}.")
    for start in range(0, len(inputs), batch_size):
        outputs = model.forward_with(inputs[start : start + batch_size], products) / temperature
        yield loss_sum(outputs, targets[start : start + batch_size], loss) / len(inputs)
