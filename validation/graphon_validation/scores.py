"""Scores by which connections are pruned: the higher, the more worth keeping.

A method is one function (model, data, rng, **options) -> one score tensor per layer, shaped as its weight.
It sees the model as it is, masks included; :func:`graphon_validation.prune` thresholds the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graphon_theory import results
from graphon_theory.errors import InputError
from graphon_validation.models import MaskedMLP

Data = tuple[Any, Any]  # (x of shape (N, d), labels of shape (N,) or targets of shape (N, outputs))


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
    gradients = [torch.zeros_like(weight) for weight in model.weights]
    for part in _losses(model, data, loss, batch_size, 1.0):
        for total, gradient in zip(gradients, torch.autograd.grad(part, model.weights), strict=True):
            total += gradient
    return [(weight * g).detach().abs() for weight, g in zip(model.weights, gradients, strict=True)]


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
    gradients = [torch.zeros_like(weight) for weight in model.weights]
    for part in _losses(model, data, loss, batch_size, temperature):
        for total, gradient in zip(gradients, torch.autograd.grad(part, model.weights), strict=True):
            total += gradient
    products = [torch.zeros_like(weight) for weight in model.weights]
    for part in _losses(model, data, loss, batch_size, temperature):
        own = torch.autograd.grad(part, model.weights, create_graph=True)
        inner = sum(((a * b).sum() for a, b in zip(own, gradients, strict=True)), torch.zeros(()))
        for total, product in zip(products, torch.autograd.grad(inner, model.weights), strict=True):
            total += product
    return [(weight * p).detach() for weight, p in zip(model.weights, products, strict=True)]


@register("synflow", rounds=100)
@torch.no_grad()
def synflow(model: MaskedMLP, data: Data | None, rng: np.random.Generator) -> list[Tensor]:
    """|w| dR/d|w| / R, R = 1^T |M^L w^L| ... |M^1 w^1| 1 (SynFlow: Tanaka et al., NeurIPS 2020, arXiv
    2006.05467).

    The paper's definition: biases take no part (its code takes their absolute value and adds them) and
    neither does the activation. Each layer's scores sum to R, so dividing a layer by its sum divides all by
    R, whatever the scale at which the signals are kept: nothing overflows in deep wide networks.

    Raises InputError when no path of surviving connections leads from the inputs to the outputs.
    """
    sizes = [(layer.weight * layer.mask).abs() for layer in model.linears]
    ahead = [torch.ones_like(sizes[0][0])]
    for size in sizes[:-1]:
        ahead.append(_normalised(size @ ahead[-1]))
    behind = torch.ones_like(sizes[-1][:, 0])
    scores = []
    for size, flow in zip(reversed(sizes), reversed(ahead), strict=True):
        score = size * behind[:, None] * flow
        total = score.sum()
        if total == 0:
            raise InputError(
                "prune: no path of surviving connections leads from the inputs to the outputs, so SynFlow has nothing "
                "to keep; use a higher density or more rounds."
            )
        scores.append(score / total)
        behind = _normalised(size.T @ behind)
    return scores[::-1]


def _normalised(vector: Tensor) -> Tensor:
    top = vector.max()
    return vector / top if top > 0 else vector


def _losses(model: MaskedMLP, data: Data | None, loss: str, batch_size: int, temperature: float) -> Iterator[Tensor]:
    """The mean loss over the data as a sum of parts, one per batch."""
    assert data is not None
    weight = model.weights[0]
    x = results.as_inputs(data[0], "data")
    inputs = torch.from_numpy(x).to(weight.device, weight.dtype)
    targets = _targets(data[1], loss, len(x), model.widths[-1])
    targets = targets.to(weight.device, weight.dtype if targets.is_floating_point() else None)
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}.")
    for start in range(0, len(x), batch_size):
        outputs = model(inputs[start : start + batch_size]) / temperature
        target = targets[start : start + batch_size]
        if loss == "cross_entropy":
            part = F.cross_entropy(outputs, target, reduction="sum")
        else:
            part = 0.5 * (outputs - target).square().sum()
        yield part / len(x)


def _targets(labels: Any, loss: str, count: int, outputs: int) -> Tensor:
    array = np.asarray(getattr(labels, "values", labels))
    if loss == "cross_entropy":
        if outputs < 2:
            raise InputError('loss: cross-entropy needs at least two outputs, the network has one; use loss="squared".')
        if array.dtype.kind not in "iu" or array.shape != (count,):
            raise InputError(f"data: expected {count} integer labels, got {array.dtype} of shape {array.shape}.")
        if array.min() < 0 or array.max() >= outputs:
            raise InputError(
                f"data: expected labels in 0..{outputs - 1}, got {array.min()}..{array.max()}; give the network "
                "one output per class."
            )
        return torch.from_numpy(array.astype(np.int64))
    if loss != "squared":
        raise InputError(f'loss: expected "cross_entropy" or "squared", got {loss!r}.')
    if array.shape == (count,) and outputs == 1:
        array = array[:, None]
    if array.shape != (count, outputs) or not np.isfinite(array.astype(float)).all():
        raise InputError(f"data: expected finite targets of shape ({count}, {outputs}), got {array.shape}.")
    return torch.from_numpy(array.astype(float))
