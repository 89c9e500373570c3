"""Laws and estimates against masks that pruning methods really make."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import graphon_theory as gt
import graphon_validation as gv
from graphon_validation import MaskedMLP


@pytest.mark.parametrize("density", [0.2, 0.02])
def test_global_magnitude_law_gives_a_real_masks_densities(density: float) -> None:
    """He-initialised 784-1024-1024-10: every layer within three binomial standard errors."""
    widths = (784, 1024, 1024, 10)
    net = gt.Network([1.0] * 3, parameterization="standard", widths=widths[:-1], weight_variance=2.0, outputs=10)
    model = gv.prune(gv.build(net, widths, 0, dtype=torch.float32), "magnitude", density)
    for number, (mask, weight, law) in enumerate(
        zip(model.masks, model.weights, gt.prune_globally("he", density, widths), strict=True)
    ):
        p, kept = law.mask.mean(), mask.numpy()
        assert abs(kept.mean() - p) <= 3 * math.sqrt(p * (1 - p) / kept.size)
        squares = np.where(kept, weight.detach().numpy().astype(float) ** 2, 0.0) * widths[number] / 2
        assert abs(squares.mean() - law.variance.mean()) <= 3 * squares.std() / math.sqrt(kept.size)


def pruned(method: str, width: int = 256) -> MaskedMLP:
    """Three hidden layers at density 0.2, on blobs of ten classes."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 200)
    x = rng.standard_normal((10, 64))[labels] + rng.standard_normal((200, 64))
    model = gv.build(gt.Network([1.0] * 4, outputs=10), (64, width, width, width, 10), 2)
    return gv.prune(model, method, 0.2, (x, labels), rng=3)


@pytest.mark.parametrize(("method", "coherent"), [("random", False), ("magnitude", False), ("snip", True)])
def test_coherence_tells_methods_that_look_at_data(method: str, coherent: bool) -> None:
    model = pruned(method)
    found = [gt.coherence(mask, weight) for mask, weight in zip(model.masks, model.weights, strict=True)]
    if coherent:
        # inputs of either sign leave the input layer a mean of either sign, which the whole layer's value does not show
        assert min(one.z for one in found[1:-1]) > 5
        assert all(0.3 < one.value < 0.8 for one in found[1:-1])
    else:
        assert max(abs(one.z) for one in found) < 3


def test_estimates_take_torch_masks_and_weights() -> None:
    model = pruned("snip")
    found = gt.estimate_network(model.masks, model.weights, blocks=4)
    assert [layer.has_drift for layer in found] == [True, True, True, False]
    for layer, mask, weight in zip(found, model.masks, model.weights, strict=True):
        kept = np.where(mask.numpy(), weight.detach().numpy(), 0.0)
        assert layer.mask.mean() == pytest.approx(mask.double().mean().item(), rel=1e-12)
        assert layer.variance.mean() == pytest.approx((kept**2).mean(), rel=1e-12)
    report = gt.trace_units(model.masks)
    assert report.density == pytest.approx([mask.double().mean().item() for mask in model.masks])
    gt.estimate_graphon(model.masks[1], 16)


@pytest.mark.slow
def test_joint_blocks_explain_a_pruned_network_with_fresh_weights() -> None:
    """SNIP at 5% in the hidden layers, weights drawn again: joint blocks do; one block does not, nor sorted layers."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 10, 256)
    centres = rng.standard_normal((10, 64))
    x = centres[labels] + 0.7 * rng.standard_normal((256, 64))
    test = centres[rng.integers(0, 10, 24)] + 0.7 * rng.standard_normal((24, 64))
    n = 1024
    model = gv.build(gt.Network([1.0] * 4, outputs=10), (64, n, n, n, 10), 5)
    gv.prune(model, "snip", 0.05, (x, labels), rng=6, layers=(1, 2))
    kernels = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        for weight in model.weights:
            weight.data.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        kernels.append(gv.empirical_kernel(model, test).ntk.values)
    mean = np.mean(kernels, axis=(0, 1))

    def error(layers: list[object]) -> float:
        limit = gt.limit_kernel(gt.Network(layers, outputs=10), test).ntk.values[0]
        return float(np.linalg.norm(limit - mean) / np.linalg.norm(mean))

    joint, one = (error(list(gt.estimate_network(model.masks, blocks=b, inputs=1))) for b in (16, 1))
    separate = error([1.0, *(gt.estimate_graphon(mask, 64, draws=0) for mask in model.masks[1:3]), 1.0])
    assert joint < 0.08  # the mean of six networks is itself off by some 5%
    assert one > 0.12
    assert separate > 0.25
