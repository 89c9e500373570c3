"""One masked linear layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphon_theory.errors import NetworkError

PARAMETERIZATIONS = ("ntk", "standard")


class MaskedLinear(nn.Module):
    """h = scale * (M * w) a + bias_scale * b, with the mask M a buffer (THEORY §1).

    ============  =========================  ==============
    .             ``scale``                  ``bias_scale``
    ============  =========================  ==============
    ntk           sigma_w / sqrt(n_in)       sigma_b
    standard      1                          1
    ============  =========================  ==============

    ``weight`` and ``mask`` have shape (out, in), rows receiving. The mask multiplies the weight in the
    forward pass, so a pruned weight has gradient exactly 0 whatever value it keeps. ``bias`` is None where
    ``bias_variance`` is 0.

    Raises NetworkError when shapes, variances or the parameterization do not fit together.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    mask: Tensor

    def __init__(
        self,
        weight: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        weight_variance: float = 2.0,
        bias_variance: float = 0.0,
        parameterization: str = "ntk",
    ) -> None:
        super().__init__()
        if weight.ndim != 2:
            raise NetworkError(f"weight: expected shape (out, in), got {tuple(weight.shape)}.")
        if mask is None:
            mask = torch.ones_like(weight, dtype=torch.bool)
        if mask.shape != weight.shape or mask.dtype != torch.bool:
            raise NetworkError(
                f"mask: expected a bool tensor of the weight's shape {tuple(weight.shape)}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}."
            )
        if (bias is not None) != (bias_variance > 0):
            raise NetworkError(
                "bias: give it exactly when bias_variance > 0 (bias_variance = 0 means no bias parameters), "
                f"got bias_variance = {bias_variance} and bias {'given' if bias is not None else 'left out'}."
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise NetworkError(f"bias: expected shape ({weight.shape[0]},), got {tuple(bias.shape)}.")
        if parameterization not in PARAMETERIZATIONS:
            raise NetworkError(f"parameterization: expected one of {PARAMETERIZATIONS}, got {parameterization!r}.")
        self.weight_variance = float(weight_variance)
        self.bias_variance = float(bias_variance)
        self.parameterization = parameterization
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias) if bias is not None else None
        self.register_buffer("mask", mask)

    @property
    def scale(self) -> float:
        """What multiplies the masked weight in the forward pass."""
        if self.parameterization == "standard":
            return 1.0
        return math.sqrt(self.weight_variance / self.weight.shape[1])

    @property
    def bias_scale(self) -> float:
        """What multiplies the bias in the forward pass."""
        return 1.0 if self.parameterization == "standard" else math.sqrt(self.bias_variance)

    def effective_weight(self) -> Tensor:
        """scale * M * w, the matrix that signals pass through."""
        return (self.weight * self.mask).mul_(self.scale)

    def forward(self, a: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias_scale * self.bias
        return F.linear(a, self.effective_weight(), bias)

    def extra_repr(self) -> str:
        n_out, n_in = self.weight.shape
        density = float(self.mask.double().mean())
        return f"in={n_in}, out={n_out}, density={density:.4g}, bias={self.bias is not None}"
