"""A limit kernel as a kernel of GPyTorch, whose hyperparameters train by the exact derivative of the kernel."""

from __future__ import annotations

from typing import Any

import gpytorch
import numpy as np
import torch
from torch import Tensor

from graphon_theory.data.checks import instance, one_of
from graphon_theory.designs.kernel_gradients import check_differentiable, kernel_gradient
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.networks.network import Network

_BLOCK = 256  # inputs whose variances are taken together: kernels between them are computed, diagonals kept


class GraphonGPyTorchKernel(gpytorch.kernels.Kernel):
    """The limit kernel of a sparse network in GPyTorch.

    ``network``: one output; ``kernel``: "nngp", the covariance of wide networks' outputs at the start, or "ntk".
    Parameters: ``weight_variance`` (L,) and, where the network has biases, ``bias_variance`` (L,): those of the network
    at first, kept positive, with exact gradients by :func:`graphon_theory.kernel_gradient`. Biases are there in all
    layers or in none: a variance trained in its logarithm does not leave 0.

    The kernel is computed on the CPU in float64 and comes in the inputs' dtype and on their device; it has no gradient
    in the inputs (N, d). A derivative takes a few times as long as the kernel.

    Raises NetworkError and InputError for what does not fit.
    """

    has_lengthscale = False
    is_stationary = False

    def __init__(self, network: Network, kernel: str = "nngp", **options: Any) -> None:
        super().__init__(**options)
        given = instance("network", network, Network)
        self.kind = one_of("kernel", kernel, ("nngp", "ntk"))
        if given.outputs != 1:
            raise NetworkError(
                f"network: expected one output, whose kernel all targets share, got {given.outputs}; "
                "dataclasses.replace(network, outputs=1)."
            )
        check_differentiable(given)
        self.base = given
        values = {"weight_variance": given.weight_variance}
        if any(given.bias_variances):
            values["bias_variance"] = given.bias_variances
        self.names = tuple(values)
        for name, numbers in values.items():
            if min(numbers) <= 0:
                raise NetworkError(f"network: {name} of every layer must be above 0 to train, got {list(numbers)}.")
            constraint = gpytorch.constraints.Positive()
            start = constraint.inverse_transform(torch.tensor(numbers, dtype=torch.float64))
            self.register_parameter(f"raw_{name}", torch.nn.Parameter(start))
            self.register_constraint(f"raw_{name}", constraint)

    @property
    def weight_variance(self) -> Tensor:
        """sigma_w^2 (L,)."""
        return self._variances("weight_variance")

    @property
    def bias_variance(self) -> Tensor:
        """sigma_b^2 (L,); zeros where the network has no biases."""
        return self._variances("bias_variance")

    def _variances(self, name: str) -> Tensor:
        if name not in self.names:
            return torch.zeros_like(self.raw_weight_variance)
        found: Tensor = getattr(self, f"raw_{name}_constraint").transform(getattr(self, f"raw_{name}"))
        return found

    @property
    def network(self) -> Network:
        """The network at the variances that stand."""
        return _at(self.base, self.names, [self._variances(name).detach() for name in self.names])

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """K(x1, x2) (N, M), or its diagonal (N,)."""
        for name, one in (("x1", x1), ("x2", x2)):
            if one.dim() != 2:
                raise InputError(
                    f"{name}: expected inputs (N, d), got shape {tuple(one.shape)}; batches are not taken."
                )
            if one.requires_grad:
                raise InputError(f"{name}: the kernel has no gradient in its inputs; detach them.")
        variances = [self._variances(name) for name in self.names]
        if not diag:
            found: Tensor = _LimitKernel.apply(self.base, self.kind, self.names, x1, x2, *variances)
            return found
        starts = range(0, len(x1), _BLOCK)
        blocks = [
            _LimitKernel.apply(self.base, self.kind, self.names, x1[k : k + _BLOCK], x2[k : k + _BLOCK], *variances)
            for k in starts
        ]
        return torch.cat([block.diagonal() for block in blocks])


def _at(network: Network, names: tuple[str, ...], variances: list[Tensor]) -> Network:
    return network.changed(**{name: one.tolist() for name, one in zip(names, variances, strict=True)})


class _LimitKernel(torch.autograd.Function):
    """The kernel, and the way back to the variances by kernel_gradient."""

    @staticmethod
    def forward(
        ctx: Any, base: Network, kind: str, names: tuple[str, ...], x1: Tensor, x2: Tensor, *variances: Tensor
    ) -> Tensor:
        first, second = (one.detach().cpu().double().numpy() for one in (x1, x2))
        same = first.shape == second.shape and np.array_equal(first, second)
        ctx.problem = _at(base, names, list(variances)), first, None if same else second
        ctx.kind, ctx.names = kind, names
        values = limit_kernel(ctx.problem[0], first, ctx.problem[2], progress=False)[kind].values
        return torch.as_tensor(values, dtype=x1.dtype, device=x1.device)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        network, first, second = ctx.problem
        (cotangent,) = cotangents
        given: Any = {ctx.kind: cotangent.detach().cpu().double().numpy()}
        found = kernel_gradient(network, first, second, **given)
        slopes = [torch.tensor(np.array(getattr(found, name))) for name in ctx.names]
        return None, None, None, None, None, *slopes
