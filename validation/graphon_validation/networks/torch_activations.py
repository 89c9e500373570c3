"""The named activations of THEORY §4 as torch functions, and their almost-everywhere derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphon_theory.activations.activation import Activation, as_activation
from graphon_theory.errors import ActivationError, shown

TorchActivation = Callable[[Tensor], Tensor]


def _step(z: Tensor) -> Tensor:
    # 0 * z ties the result to z, so that backpropagation sees the derivative 0 instead of no graph at all.
    return (z > 0).to(z.dtype) + 0.0 * z


def _softplus(z: Tensor) -> Tensor:
    # torch's own softplus turns linear at z = 20, an error of 2e-9.
    return torch.logaddexp(z, torch.zeros_like(z))


TABLE: dict[str, TorchActivation] = {
    "relu": torch.relu,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.01),
    "abs": torch.abs,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "gelu": F.gelu,  # the erf form, z Phi(z)
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": _softplus,
    "elu": F.elu,
    "exp": torch.exp,
    "gaussian": lambda z: torch.exp(-0.5 * z**2),
    "identity": lambda z: z,
    "step": _step,
}


def torch_activation(activation: Any) -> TorchActivation:
    """The torch function of an activation given by name or as a ``graphon_theory.Activation``.

    Raises ActivationError when the name is not in the table, or an Activation of the user's own has such a name.
    """
    name = activation if isinstance(activation, str) else getattr(activation, "name", None)
    if name not in TABLE or (isinstance(activation, Activation) and activation is not as_activation(name)):
        raise ActivationError(
            f"activation: no torch function for {shown(activation)}; finite networks know {', '.join(sorted(TABLE))}."
        )
    return TABLE[name]
