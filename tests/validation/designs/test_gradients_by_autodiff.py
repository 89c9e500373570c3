"""kernel_gradient against torch's automatic differentiation of the same recursion, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import graphon_theory as gt

Duals = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def relu(k: torch.Tensor, q1: torch.Tensor, q2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = torch.sqrt(q1 * q2)
    angle = torch.acos(k / scale)
    return scale * (torch.sin(angle) + (math.pi - angle) * torch.cos(angle)) / (2 * math.pi), (math.pi - angle) / (
        2 * math.pi
    )


def erf(k: torch.Tensor, q1: torch.Tensor, q2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    det = (1 + 2 * q1) * (1 + 2 * q2)
    return (2 / math.pi) * torch.asin(2 * k / torch.sqrt(det)), (4 / math.pi) / torch.sqrt(det - 4 * k * k)


def tanh(k: torch.Tensor, q1: torch.Tensor, q2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By the trapezoidal rule in both normals, which converges exponentially for analytic integrands."""
    z = torch.arange(-9.0, 9.01, 0.15, dtype=torch.float64)
    w = torch.exp(-0.5 * z * z)
    w = w / w.sum()
    s1, s2 = torch.sqrt(q1), torch.sqrt(q2)
    rho = k / (s1 * s2)
    f1 = s1[..., None, None] * z[:, None]
    f2 = s2[..., None, None] * (rho[..., None, None] * z[:, None] + torch.sqrt(1 - rho**2)[..., None, None] * z)
    weights = w[:, None] * w
    t1, t2 = torch.tanh(f1), torch.tanh(f2)
    return (weights * t1 * t2).sum((-1, -2)), (weights * (1 - t1**2) * (1 - t2**2)).sum((-1, -2))


def alone(duals: Duals, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E[phi^2] and E[phi'^2]."""
    if duals is relu:
        return q / 2, torch.full_like(q, 0.5)
    if duals is erf:
        return (2 / math.pi) * torch.asin(2 * q / (1 + 2 * q)), (4 / math.pi) / torch.sqrt(1 + 4 * q)
    z = torch.arange(-9.0, 9.01, 0.15, dtype=torch.float64)
    w = torch.exp(-0.5 * z * z) / torch.exp(-0.5 * z * z).sum()
    t = torch.tanh(torch.sqrt(q)[..., None] * z)
    return (w * t * t).sum(-1), (w * (1 - t * t) ** 2).sum(-1)


def kernels(
    masks: list[torch.Tensor],
    variances: list[torch.Tensor],
    sigmas: torch.Tensor,
    biases: torch.Tensor,
    x: torch.Tensor,
    duals: Duals,
    epsilon: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """NNGP and NTK (N, N) of equal blocks; pairs above the diagonal and every input with itself apart.

    ``epsilon``: of a LayerNorm before every activation; None for none.
    """
    n, d = x.shape
    i, j = np.triu_indices(n, 1)
    c, q = (x[i] * x[j]).T, (x * x).T
    s, p = torch.zeros_like(c), torch.zeros_like(q)
    for number, (w, v) in enumerate(zip(masks, variances, strict=True)):
        share = sigmas[number] / (d if number == 0 else w.shape[1])
        k, own = share * v @ c + biases[number], share * v @ q + biases[number]
        t = share * (w @ c + v @ s) + biases[number]
        t_own = share * (w @ q + v @ p) + biases[number]
        if number + 1 == len(masks):
            break
        if epsilon is not None:
            r = 1 / torch.sqrt(own.mean(0) + epsilon)
            k, t, own, t_own = k * r[i] * r[j], t * r[i] * r[j], own * r * r, t_own * r * r
        c, dot = duals(k, own[:, i], own[:, j])
        q, dot_own = alone(duals, own)
        s, p = dot * t, dot_own * t_own
    out = []
    for pairs, diagonal in ((k, own), (t, t_own)):
        matrix = torch.diag(diagonal[0])
        matrix[i, j] = pairs[0]
        matrix[j, i] = pairs[0]
        out.append(matrix)
    return out[0], out[1]


@pytest.mark.parametrize("seed", range(20))
def test_the_way_back_is_that_of_autodiff(seed: int) -> None:
    rng = np.random.default_rng(seed)
    duals = (relu, erf, tanh)[seed % 3]
    d, n = int(rng.integers(3, 6)), 4
    depth = 2 if duals is tanh else int(rng.integers(2, 5))
    sizes = [d, *rng.integers(2, 5, depth - 1), 1]
    masks = [rng.uniform(0.2, 0.9, shape) for shape in zip(sizes[1:], sizes, strict=False)]
    variances = [m * rng.uniform(0.6, 1.5, m.shape) for m in masks]
    sigmas, bias = rng.uniform(0.8, 2.0, depth), float(rng.uniform(0, 0.4))
    x = rng.standard_normal((n, d))
    ntk, nngp = rng.standard_normal((2, n, n))
    leaves = [torch.tensor(a, requires_grad=True) for a in (*masks, *variances, sigmas, np.full(depth, bias))]
    epsilon = 0.1 if seed % 2 else None
    given = leaves[:depth], leaves[depth : 2 * depth], leaves[-2], leaves[-1]
    k, t = kernels(*given, torch.tensor(x), duals, epsilon)
    (torch.tensor(ntk) * t + torch.tensor(nngp) * k).sum().backward()
    dense = [gt.Dense(gt.Connectivity(w, v), float(s), bias) for w, v, s in zip(masks, variances, sigmas, strict=True)]
    between = [*([] if epsilon is None else [gt.LayerNorm(epsilon)]), gt.Pointwise(duals.__name__)]
    network = gt.Network([*(stage for layer in dense[:-1] for stage in (layer, *between)), dense[-1]])
    np.testing.assert_allclose(gt.limit_kernel(network, x).ntk.values, t.detach().numpy(), rtol=1e-11)
    got = gt.kernel_gradient(network, x, ntk=ntk, nngp=nngp)
    found = [*got.mask, *got.variance, got.weight_variance, got.bias_variance]
    for leaf, values in zip(leaves, found, strict=True):
        assert leaf.grad is not None
        assert values is not None
        expected = leaf.grad.numpy()
        np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
