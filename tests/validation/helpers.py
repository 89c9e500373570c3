"""Networks with given weights, and the tangent kernel by torch.func: the oracle of the tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from graphon_validation import MaskedLinear, MaskedMLP
from graphon_validation.networks.torch_activations import TorchActivation


def random_model(
    widths: Sequence[int],
    densities: Sequence[float],
    activation: str = "erf",
    *,
    bias_variance: float = 0.3,
    parameterization: str = "ntk",
    patterns: int | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> MaskedMLP:
    """Gaussian parameters and random masks; with ``patterns``, that many different rows in each mask."""
    rng = torch.Generator().manual_seed(seed)
    layers = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        mask = torch.rand(n_out, n_in, generator=rng) < densities[index]
        if patterns is not None:
            mask = mask[torch.arange(n_out) % patterns]
        weight = torch.randn(n_out, n_in, generator=rng, dtype=torch.float64)
        bias = torch.randn(n_out, generator=rng, dtype=torch.float64)
        layers.append(
            MaskedLinear(
                weight.to(dtype),
                mask,
                bias.to(dtype) if bias_variance else None,
                weight_variance=1.5 + 0.1 * index,
                bias_variance=bias_variance,
                parameterization=parameterization,
            )
        )
    return MaskedMLP(layers, activation)


def jacobian_kernels(
    model: MaskedMLP, x: NDArray[np.float64], x2: NDArray[np.float64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Kernel (outputs, N, N2) of every parameter by name, from jacobians."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def outputs(values: dict[str, Tensor], one: Tensor) -> Tensor:
        found: Tensor = functional_call(model, values, (one[None],))
        return found[0]

    def jacobian(inputs: NDArray[np.float64]) -> dict[str, Tensor]:
        tensor = torch.from_numpy(inputs).to(model.weights[0].dtype)
        found: dict[str, Tensor] = vmap(jacrev(outputs), (None, 0))(parameters, tensor)
        return found

    left = jacobian(x)
    right = left if x2 is None else jacobian(x2)
    return {
        name: torch.einsum("nop,mop->onm", left[name].flatten(2), right[name].flatten(2)).double().numpy()
        for name in left
    }


def layer_kernels(
    model: MaskedMLP, x: NDArray[np.float64], x2: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(outputs, L, N, N2): each layer's weights and biases together."""
    found = jacobian_kernels(model, x, x2)
    layers = []
    for index, layer in enumerate(model.linears):
        kernel = found[f"layers.{index}.weight"]
        if layer.bias is not None:
            kernel = kernel + found[f"layers.{index}.bias"]
        layers.append(kernel)
    return np.stack(layers, axis=1)


def inputs(count: int, dimension: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, dimension))


def value_and_derivative(phi: TorchActivation, z: Tensor) -> tuple[Tensor, Tensor]:
    """phi(z) and phi'(z), elementwise, by torch's own rules (relu'(0) = 0)."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = phi(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope
