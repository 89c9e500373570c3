"""One masked linear layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphon_theory.arrays import FloatArray
from graphon_theory.data import checks
from graphon_theory.errors import NetworkError

PARAMETERIZATIONS = ("ntk", "standard")
LAWS = ("normal", "uniform")

# Weights drawn at a time.
_CHUNK = 1 << 21


@contextmanager
def autograd() -> Iterator[None]:
    """With derivatives, also where the caller has turned them off by torch.no_grad or torch.inference_mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _differentiable(tensor: Tensor) -> Tensor:
    """The tensor itself; a copy of one made under torch.inference_mode, which would have no derivatives for ever."""
    if not tensor.is_inference():
        return tensor
    with autograd():
        return tensor.clone()


class MaskedLinear(nn.Module):
    """h = scale * (M * w) a + bias_scale * b, with the mask M a buffer (THEORY §1).

    ============  =========================  ==============
    .             ``scale``                  ``bias_scale``
    ============  =========================  ==============
    ntk           sigma_w / sqrt(n_in)       sigma_b
    standard      1                          1
    ============  =========================  ==============

    ``weight`` and ``mask`` have shape (out, in), rows receiving. The mask multiplies the weight in the
    forward pass, so a pruned weight has gradient exactly 0 whatever value it keeps. ``law`` is the law of the dense
    weights, of variance ``dense_std``^2: what :meth:`draw_again` draws. ``bias_law`` is that of biases.

    ``trained_bias_variance`` is what biases add to the tangent kernel where that differs from the ``bias_variance``
    that they add to the signals (THEORY §11): ``bias_scale`` is its root, and b has variance bias_variance /
    bias_scale^2. Biases that start at 0 and train have 0 and 1; with 0 here biases do not train. ``bias`` is None
    where both are 0.

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
        law: str = "normal",
        trained_bias_variance: float | None = None,
        bias_law: str = "normal",
    ) -> None:
        super().__init__()
        tensors = {"weight": weight, "mask": mask, "bias": bias}
        for name, tensor in tensors.items():
            if not (isinstance(tensor, Tensor) or (tensor is None and name != "weight")):
                raise NetworkError(f"{name}: expected a torch tensor, got {type(tensor).__name__}.")
            if tensor is not None and (tensor.layout != torch.strided or tensor.is_quantized):
                raise NetworkError(f"{name}: expected a dense tensor, got {tensor.dtype} of layout {tensor.layout}.")
            if tensor is not None and name != "mask" and not tensor.is_floating_point():
                raise NetworkError(f"{name}: expected a tensor of real numbers, got {tensor.dtype}.")
            if tensor is not None and tensor.device != weight.device:
                raise NetworkError(f"{name}: expected a tensor on {weight.device}, as weight, got {tensor.device}.")
        weight_variance = checks.positive_number(
            "weight_variance", weight_variance, error=NetworkError, expected="a finite number, positive"
        )
        bias_variance = checks.positive_number(
            "bias_variance", bias_variance, zero=True, error=NetworkError, expected="a finite number, at least 0"
        )
        if weight.ndim != 2:
            raise NetworkError(f"weight: expected shape (out, in), got {tuple(weight.shape)}.")
        if mask is None:
            mask = torch.ones_like(weight, dtype=torch.bool)
        if mask.shape != weight.shape or mask.dtype != torch.bool:
            raise NetworkError(
                f"mask: expected a bool tensor of the weight's shape {tuple(weight.shape)}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}."
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise NetworkError(f"bias: expected shape ({weight.shape[0]},), got {tuple(bias.shape)}.")
        checks.one_of("parameterization", parameterization, PARAMETERIZATIONS, error=NetworkError)
        if trained_bias_variance is None:
            trained_bias_variance = bias_variance if parameterization == "ntk" else float(bias_variance > 0)
        trained_bias_variance = checks.positive_number(
            "trained_bias_variance",
            trained_bias_variance,
            zero=True,
            error=NetworkError,
            expected="a finite number >= 0",
        )
        if (bias is not None) != (bias_variance > 0 or trained_bias_variance > 0):
            raise NetworkError(
                "bias: give it exactly when bias_variance or trained_bias_variance > 0 (both 0 means no bias "
                f"parameters), got {bias_variance}, {trained_bias_variance} and bias "
                f"{'given' if bias is not None else 'left out'}."
            )
        self.law = checks.one_of("law", law, LAWS, error=NetworkError)
        self.bias_law = checks.one_of("bias_law", bias_law, LAWS, error=NetworkError)
        self.weight_variance = weight_variance
        self.bias_variance = bias_variance
        self.trained_bias_variance = trained_bias_variance
        self.parameterization = parameterization
        self.weight = nn.Parameter(_differentiable(weight))
        self.bias = None
        if bias is not None:
            self.bias = nn.Parameter(_differentiable(bias), requires_grad=trained_bias_variance > 0)
        self.register_buffer("mask", _differentiable(mask))

    @property
    def scale(self) -> float:
        """What multiplies the masked weight in the forward pass."""
        if self.parameterization == "standard":
            return 1.0
        return math.sqrt(self.weight_variance / self.weight.shape[1])

    @property
    def bias_scale(self) -> float:
        """What multiplies the bias in the forward pass."""
        return math.sqrt(self.trained_bias_variance or self.bias_variance)

    @property
    def bias_std(self) -> float:
        """Standard deviation of a bias parameter."""
        return math.sqrt(self.bias_variance) / self.bias_scale if self.bias_scale else 0.0

    @property
    def dense_std(self) -> float:
        """Standard deviation of a dense weight: 1, or sigma_w / sqrt(n_in) in the standard parameterization."""
        if self.parameterization == "standard":
            return math.sqrt(self.weight_variance / self.weight.shape[1])
        return 1.0

    def sample(self, rng: np.random.Generator) -> Tensor:
        """Weights drawn from the dense law, in the weight's dtype, on the CPU."""
        out = torch.empty(self.weight.shape, dtype=self.weight.dtype)
        for rows in out.split(max(1, _CHUNK // out.shape[1])):
            rows.copy_(torch.from_numpy(self.dense_std * _draw(rng, self.law, tuple(rows.shape))))
        return out

    @torch.no_grad()
    def draw_again(self, rng: np.random.Generator) -> None:
        """New weights and biases from the dense laws, pruned weights included; the mask stays."""
        self.weight.copy_(self.sample(rng))
        self.draw_biases_again(rng)

    @torch.no_grad()
    def draw_biases_again(self, rng: np.random.Generator) -> None:
        """New biases from their law, where there are any."""
        if self.bias is not None:
            self.bias.copy_(torch.from_numpy(self.bias_std * _draw(rng, self.bias_law, (len(self.bias),))))

    @torch.no_grad()
    def draw_signs_again(self, rng: np.random.Generator) -> None:
        """New signs for weights and biases; their sizes and the mask stay."""
        height = max(1, _CHUNK // self.weight.shape[1])
        for rows in (*self.weight.split(height), *([] if self.bias is None else [self.bias])):
            rows.mul_(torch.from_numpy(2 * rng.integers(2, size=tuple(rows.shape), dtype=np.int8) - 1).to(rows.device))

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


def _draw(rng: np.random.Generator, law: str, shape: tuple[int, ...]) -> FloatArray:
    """Of variance 1."""
    return rng.standard_normal(shape) if law == "normal" else rng.uniform(-(3**0.5), 3**0.5, shape)
