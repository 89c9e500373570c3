"""Dynamic masks: connections dropped and grown during training, as many as before (SET, RigL)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphon_theory.data.checks import one_of, share_kept, truth, whole_numbers
from graphon_theory.errors import InputError, shown
from graphon_validation.networks.masked_mlps import MaskedMLP
from graphon_validation.networks.selections import keep_best

METHODS = ("set", "rigl")


@dataclass(frozen=True)
class Rewiring:
    """When and how masks change during training; the number of connections of every layer stays.

    Every ``every`` steps before step ``until`` each layer drops its smallest |w| and grows as many connections.

    - "set" (Mocanu et al., Nature Communications 2018): ``fraction`` of the connections, grown at random among all
      that are not active, with new weights from the dense law. The paper drops the smallest of either sign apart;
      here one threshold on |w| serves both, as in later implementations.
    - "rigl" (Evci et al., ICML 2020): fraction/2 (1 + cos(pi t / until)), grown where |dL/d(m w)| over the step's
      batch is largest, with weight 0. Just dropped connections may regrow (``regrow``), as in the authors' code,
      and then keep their weight: they were not dropped at all.

    ``layers`` are the layers to rewire (indices from 0; None: all with pruned connections).
    Raises InputError for values out of range.
    """

    method: str
    every: int = 100
    until: int = 75_000
    fraction: float = 0.3
    regrow: bool = True
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        truth("regrow", self.regrow)
        if self.layers is not None:
            whole_numbers("layers", self.layers, 0, distinct=True, expected="different layers, counted from 0")
        expected = "whole steps of at least 1 and a fraction in (0, 1)"
        whole_numbers("every, until, fraction", (self.every, self.until), expected=expected)
        fraction = share_kept("every, until, fraction", self.fraction, expected=expected)
        object.__setattr__(self, "fraction", fraction)
        if fraction == 1:
            raise InputError(f"every, until, fraction: expected {expected}, got 1.")

    def due(self, step: int) -> bool:
        """Whether masks change before step ``step`` (counted from 0)."""
        return 0 < step < self.until and step % self.every == 0

    def share(self, step: int) -> float:
        """The fraction of connections to drop at ``step``."""
        if self.method == "set":
            return self.fraction
        return self.fraction / 2 * (1 + math.cos(math.pi * step / self.until))


def check_rewiring(model: MaskedMLP, plan: object) -> None:
    """Raise InputError unless ``plan`` can change this network's masks."""
    if not isinstance(plan, Rewiring):
        raise InputError(f"rewiring: expected a Rewiring, got {shown(plan)}.")
    depth = len(model.linears)
    chosen = range(depth) if plan.layers is None else plan.layers
    if not chosen or not set(chosen) <= set(range(depth)):
        raise InputError(f"rewiring: expected layers in 0..{depth - 1}, got {plan.layers}.")
    if all(bool(model.masks[index].all()) for index in chosen):
        raise InputError(
            "rewiring: none of its layers has pruned connections, so there is nothing to rewire; prune first."
        )


@torch.no_grad()
def rewire(
    model: MaskedMLP, plan: Rewiring, step: int, gradients: list[Tensor] | None, rng: np.random.Generator
) -> list[Tensor]:
    """Change the masks in place by ``plan``; returns for each layer which connections are new (bool).

    ``gradients`` are dL/d(m w) of every connection, needed by "rigl".
    """
    grown = []
    for index, (layer, stream) in enumerate(zip(model.linears, rng.spawn(len(model.linears)), strict=True)):
        old = layer.mask.clone()
        alive = int(old.sum())
        chosen = plan.layers is None or index in plan.layers
        count = min(round(plan.share(step) * alive), old.numel() - alive) if chosen else 0
        if count == 0:
            grown.append(torch.zeros_like(old))
            continue
        kept = keep_best([layer.weight.abs()], [old], alive - count)[0][0] if alive > count else torch.zeros_like(old)
        free = ~kept if plan.regrow else ~old
        if plan.method == "rigl":
            assert gradients is not None
            score = gradients[index].abs()
        else:
            score = torch.from_numpy(stream.random(tuple(old.shape))).to(old.device)
        ((added,), _) = keep_best([score], [free], count)
        layer.mask.copy_(kept | added)
        new = added & ~old
        if plan.method == "rigl":
            layer.weight.masked_fill_(new, 0.0)
        else:
            fresh = layer.sample(stream).to(layer.weight.device)
            layer.weight.copy_(torch.where(new, fresh, layer.weight))
        grown.append(new)
    return grown
