"""Scores equal their definitions, written down independently and differentiated by autograd in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import graphon_validation as gv
from graphon_theory.errors import InputError
from graphon_validation.pruning.scores import METHODS, ntk_sap_draws
from tests.validation.helpers import inputs, random_model

TOLERANCE = 1e-10
Data = tuple[NDArray[np.float64], NDArray[np.int64]]


def small(activation: str = "erf") -> gv.MaskedMLP:
    return random_model((4, 6, 5, 3), (1.0, 0.7, 0.8), activation)


def digits(count: int = 11) -> Data:
    return inputs(count, 4), np.arange(count) % 3


def scores(name: str, model: gv.MaskedMLP, data: Data | None = None, **options: object) -> list[Tensor]:
    return METHODS[name].score(model, data, np.random.default_rng(0), **options)


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        value = other.detach()
        torch.testing.assert_close(one, value, rtol=TOLERANCE, atol=TOLERANCE * float(value.abs().max()))


def outputs(model: gv.MaskedMLP, weights: list[Tensor], x: NDArray[np.float64]) -> Tensor:
    """THEORY §1 with ``weights`` as the effective masked weights M w."""
    a = torch.from_numpy(x).T
    for index, (layer, weight) in enumerate(zip(model.linears, weights, strict=True)):
        assert layer.bias is not None
        h = math.sqrt((1.5 + 0.1 * index) / weight.shape[1]) * weight @ a
        h = h + math.sqrt(0.3) * layer.bias.detach()[:, None]
        a = torch.erf(h)
    return h.T


def mean_loss(f: Tensor, labels: NDArray[np.int64]) -> Tensor:
    picked = torch.log_softmax(f, dim=1)[torch.arange(len(f)), torch.from_numpy(labels)]
    return -picked.mean()


@pytest.mark.parametrize("batch_size", [256, 4])
def test_snip_is_the_derivative_by_the_mask(batch_size: int) -> None:
    model, (x, labels) = small(), digits()
    gates = [mask.double().requires_grad_() for mask in model.masks]
    gated = [gate * weight.detach() for gate, weight in zip(gates, model.weights, strict=True)]
    expected = torch.autograd.grad(mean_loss(outputs(model, gated, x), labels), gates)
    # the derivative exists for pruned connections as well; they have no score, being no candidates
    masked = [(g * mask).abs() for g, mask in zip(expected, model.masks, strict=True)]
    assert_close(scores("snip", model, (x, labels), batch_size=batch_size), masked)


@pytest.mark.parametrize("batch_size", [256, 4])
def test_grasp_is_the_hessian_times_the_gradient(batch_size: int) -> None:
    model, (x, labels) = small(), digits()
    shapes = [weight.shape for weight in model.weights]
    sizes = [shape.numel() for shape in shapes]
    flat = torch.cat([weight.detach().flatten() for weight in model.weights])

    def loss(values: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(values.split(sizes), shapes, strict=True)]
        masked = [part * mask for part, mask in zip(parts, model.masks, strict=True)]
        return mean_loss(outputs(model, masked, x) / 200.0, labels)

    gradient = torch.func.grad(loss)(flat)
    hessian = torch.autograd.functional.hessian(loss, flat)
    expected = (flat * (hessian @ gradient)).split(sizes)
    found = scores("grasp", model, (x, labels), batch_size=batch_size)
    assert_close(found, [part.view(shape) for part, shape in zip(expected, shapes, strict=True)])


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_ntk_sap_is_the_derivative_of_the_squared_change(parameterization: str) -> None:
    model = random_model((4, 6, 5, 3), (1.0, 0.7, 0.8), parameterization=parameterization)
    noise, repetitions, batch = 0.05, 3, 6
    found = METHODS["ntk_sap"].score(
        model, None, np.random.default_rng(7), noise=noise, samples=repetitions, batch_size=batch
    )
    rng = np.random.default_rng(7)
    expected = [torch.zeros_like(weight) for weight in model.weights]
    for _ in range(repetitions):
        drawn = ntk_sap_draws(model, rng, batch)
        gates = [mask.double().requires_grad_() for mask in model.masks]
        ends = []
        for factor in (0.0, noise):
            a = drawn.inputs.T
            for index, layer in enumerate(model.linears):
                n_in = layer.weight.shape[1]
                w = gates[index] * (drawn.weights[index] + factor * drawn.steps[index])
                scale, bias_scale = (1.0, 1.0)
                if parameterization == "ntk":
                    scale, bias_scale = math.sqrt((1.5 + 0.1 * index) / n_in), math.sqrt(0.3)
                assert layer.bias is not None
                h = scale * (w @ a) + bias_scale * layer.bias.detach()[:, None]
                a = torch.erf(h)
            ends.append(h)
        for total, gradient in zip(expected, torch.autograd.grad(((ends[0] - ends[1]) ** 2).sum(), gates), strict=True):
            total += gradient
    assert_close(found, [total.abs() for total in expected])
    stds = [layer.dense_std for layer in model.linears]
    drawn = ntk_sap_draws(model, rng, 2)
    for parts in (drawn.weights, drawn.steps):
        sizes = [float(part.std()) / std for part, std in zip(parts, stds, strict=True)]
        assert all(0.4 < size < 1.6 for size in sizes)


def test_ntk_sap_sees_neither_weights_nor_data() -> None:
    masks = []
    for seed in (0, 1):
        model = random_model((4, 30, 30, 3), (1.0, 1.0, 1.0), bias_variance=0.0, seed=seed)
        masks.append(gv.prune(model, "ntk_sap", 0.3, rounds=3, rng=5).masks)
    assert all(torch.equal(one, two) for one, two in zip(*masks, strict=True))
    with pytest.raises(InputError, match="noise > 0"):
        gv.prune(small(), "ntk_sap", 0.3, noise=0.0)


def test_scores_do_not_need_parameters_that_train() -> None:
    model, data = small(), digits()
    expected = {name: scores(name, model, data) for name in ("snip", "grasp")}
    gv.choose_trained(model, ["none", "biases", "none"])
    for name, value in expected.items():
        assert_close(scores(name, model, data), value)


def test_synflow_is_the_derivative_of_the_flow() -> None:
    model = small()
    weights = [
        (weight * mask).detach().requires_grad_() for weight, mask in zip(model.weights, model.masks, strict=True)
    ]
    signal = torch.ones(4, dtype=torch.float64)
    for weight in weights:
        signal = weight.abs() @ signal
    flow = signal.sum()
    gradients = torch.autograd.grad(flow, weights)
    expected = [(w * g).abs() / flow for w, g in zip(weights, gradients, strict=True)]
    assert_close(scores("synflow", model), expected)


def test_synflow_conserves_flow_per_layer_and_unit() -> None:
    found = scores("synflow", small())
    for layer in found:
        assert abs(float(layer.sum()) - 1) < 1e-13
    for below, above in itertools.pairwise(found):
        torch.testing.assert_close(below.sum(1), above.sum(0), rtol=1e-12, atol=1e-15)


def test_synflow_does_not_overflow_where_the_flow_does() -> None:
    model = random_model((10, *(300,) * 200, 1), (1.0,) * 201)
    flow = torch.ones(10, dtype=torch.float64)
    for weight in model.weights:
        flow = weight.detach().abs() @ flow
    assert not torch.isfinite(flow).all()
    assert all(torch.isfinite(layer).all() for layer in scores("synflow", model))


def test_synflow_prunes_far_without_collapse_where_one_shot_magnitude_collapses() -> None:
    model = random_model((20, 60, 60, 3), (1.0, 1.0, 1.0))
    model.weights[2].data.mul_(0.01)
    with pytest.warns(gv.LayerCollapseWarning):
        gv.prune(model, "magnitude", 0.01)
    model = random_model((20, 60, 60, 3), (1.0, 1.0, 1.0))
    model.weights[2].data.mul_(0.01)
    gv.prune(model, "synflow", 0.01)
    assert sum(int(mask.sum()) for mask in model.masks) == round(0.01 * (1200 + 3600 + 180))
    assert all(mask.any() for mask in model.masks)


def test_synflow_without_any_path_says_so() -> None:
    model = small()
    model.masks[1].fill_(False)
    with pytest.raises(InputError, match="no path"):
        scores("synflow", model)


def test_scores_decide_what_prune_keeps() -> None:
    for name in ("snip", "grasp"):
        model, data = small(), digits()
        expected = torch.cat([s[m] for s, m in zip(scores(name, model, data), model.masks, strict=True)])
        before = [mask.clone() for mask in model.masks]
        gv.prune(model, name, 0.3, data)
        score = scores(name, random_model((4, 6, 5, 3), (1.0, 0.7, 0.8)), data)
        kept = torch.cat([s[m] for s, m in zip(score, model.masks, strict=True)])
        assert len(kept) == round(0.3 * sum(mask.numel() for mask in before))
        assert set(kept.tolist()) == set(expected.sort(descending=True).values[: len(kept)].tolist())


def test_squared_loss() -> None:
    model, (x, labels) = small(), digits()
    targets = np.eye(3)[labels]
    weights = [(w.detach() * m).requires_grad_() for w, m in zip(model.weights, model.masks, strict=True)]
    residual = outputs(model, weights, x) - torch.from_numpy(targets)
    gradients = torch.autograd.grad(residual.square().sum() / (2 * len(x)), weights)
    expected = [(w * g).abs() for w, g in zip(weights, gradients, strict=True)]
    found = METHODS["snip"].score(model, (x, targets), np.random.default_rng(0), loss="squared")
    assert_close(found, expected)


def test_bad_data_are_refused() -> None:
    model, (x, labels) = small(), digits()
    with pytest.raises(InputError, match=r"pass data=\(x, labels\)"):
        gv.prune(model, "snip", 0.5)
    for wrong, message in (
        (labels[:-1], "expected 11 integer labels"),
        (labels.astype(float), "integer labels"),
        (labels + 1, r"labels in 0..2, got 1..3"),
    ):
        with pytest.raises(InputError, match=message):
            gv.prune(model, "snip", 0.5, (x, wrong))
    with pytest.raises(InputError, match='use loss="squared"'):
        gv.prune(random_model((4, 5, 1), (1.0, 1.0)), "snip", 0.5, (x, labels))
    with pytest.raises(InputError, match="loss: expected"):
        gv.prune(model, "snip", 0.5, (x, labels), loss="hinge")
    with pytest.raises(InputError, match="batch_size"):
        gv.prune(model, "snip", 0.5, (x, labels), batch_size=0)
    with pytest.raises(InputError, match=r"finite targets of shape \(11, 3\)"):
        gv.prune(model, "snip", 0.5, (x, labels), loss="squared")
