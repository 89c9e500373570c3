"""Networks of stages in torch: kernels by jacobians, pruning beside shortcuts, draws held against their limits."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.arrays import FloatArray
from graphon_theory.errors import NetworkError
from graphon_theory.networks.stages import Join, Norm, Phi, Weights
from graphon_validation.networks.masked_layers import MaskedLinear
from graphon_validation.networks.masked_mlps import run
from graphon_validation.pruning.pruners import BranchLostWarning
from graphon_validation.pruning.scores import METHODS
from graphon_validation.studies.protocols import network_like
from tests.validation.helpers import inputs, jacobian_kernels

WIDTHS = (5, 40, 30, 20, 2)
DATA = (inputs(12, 5), np.arange(12) % 2)


def mixed(density: float = 1.0) -> gt.Network:
    """Every stage there is, activations and biases of their own."""
    return gt.Network(
        [
            gt.Dense(1.0),
            gt.Pointwise("relu"),
            gt.Dense(density, bias_variance=0.1),
            gt.Residual(
                gt.LayerNorm(),
                gt.Pointwise("tanh"),
                gt.Dense(density),
                gt.Pointwise("erf"),
                gt.LayerNorm(0.1),
                gt.Dense(density, bias_variance=0.0, trained_bias_variance=1.0),
                scale=-0.7,
            ),
            gt.Pointwise("relu"),
            gt.Dense(1.0, bias_variance=0.3, trained_bias_variance=0.0),
        ],
        outputs=2,
    )


def test_kernels_are_those_of_jacobians() -> None:
    model = gv.build(mixed(0.5), WIDTHS, 3)
    assert model.widths == WIDTHS
    assert [layer.bias is not None for layer in model.linears] == [False, True, False, True, True]
    one, two = inputs(6, 5), inputs(4, 5, seed=1)
    for x2 in (None, two):
        got = gv.empirical_kernel(model, one, x2).ntk.values
        by_name = jacobian_kernels(model, one, x2)
        wanted = np.sum([by_name[name] for name, value in model.named_parameters() if value.requires_grad], axis=0)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def test_biases_start_where_they_are_told_and_train_as_they_are_told() -> None:
    model = gv.build(mixed(), WIDTHS, 0)
    _, starts, _, zero, fixed = model.linears
    assert starts.bias is not None
    assert zero.bias is not None
    assert fixed.bias is not None
    assert zero.bias.count_nonzero() == 0
    assert zero.bias_scale == 1.0
    assert zero.bias.requires_grad
    assert fixed.bias.count_nonzero() == 2
    assert not fixed.bias.requires_grad
    assert starts.bias_scale == pytest.approx(0.1**0.5)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_prunes_beside_shortcuts(method: str) -> None:
    model = gv.build(mixed(), WIDTHS, 3)
    options: dict[str, Any] = {"steps": 2, "learning_rate": 0.01, "loss": "cross_entropy"} if method == "imp" else {}
    gv.prune(model, method, 0.4, DATA, rng=0, rounds=2, **options)
    kept = sum(int(mask.sum()) for mask in model.masks)
    assert kept == round(0.4 * sum(mask.numel() for mask in model.masks))


def test_synflow_adds_the_paths_of_shortcuts() -> None:
    """|w| dR/d|w| / R by autograd of the sum over paths itself."""
    model = gv.build(mixed(0.5), WIDTHS, 1)
    sizes = [(w * m).abs().detach().requires_grad_() for w, m in zip(model.weights, model.masks, strict=True)]
    linear = [part for part in model.outline if not isinstance(part, Phi | Norm)]
    paths = tuple(part._replace(scale=abs(part.scale)) if isinstance(part, Join) else part for part in linear)
    total = run(paths, torch.ones(5, dtype=torch.float64), lambda index, a: sizes[index] @ a).sum()
    wanted = [s * g / total for s, g in zip(sizes, torch.autograd.grad(total, sizes), strict=True)]
    found = METHODS["synflow"].score(model, None, np.random.default_rng(0))
    for score, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(score, right.detach(), rtol=1e-12, atol=0)


def test_a_branch_that_loses_all_weights_is_reported_and_its_shortcut_remains() -> None:
    model = gv.build(mixed(), WIDTHS, 3)
    with torch.no_grad():
        for index in (2, 3):
            model.weights[index].mul_(1e-9)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gv.prune(model, "magnitude", 0.4)
    assert {one.category for one in caught} == {BranchLostWarning}
    x = torch.from_numpy(inputs(3, 5))
    assert float(model(x).detach().std(0).min()) > 0


def test_the_network_of_a_model_is_the_one_it_was_drawn_from() -> None:
    network = mixed(0.5)
    model = gv.build(network, WIDTHS, 0)
    again = network_like(model, network.layers)
    x = inputs(5, 5)
    np.testing.assert_allclose(gt.limit_kernel(again, x).ntk, gt.limit_kernel(network, x).ntk, rtol=1e-13)
    assert set(gv.theories(model, names=("layers",))) == {"layers"}


def test_theories_of_a_residual_stream_find_its_blocks() -> None:
    """Units in no order: estimates have the limit of the graphons that masks were drawn from, constants do not."""
    hubs = gt.StepGraphon([[0.9, 0.3], [0.3, 0.05]], [0, 0.25, 1], [0, 0.25, 1])
    one = gt.Residual(gt.Pointwise("relu"), gt.Dense(hubs, 4.0))
    last = gt.Dense(gt.StepGraphon([[0.8, 0.1]], None, [0, 0.25, 1]), bias_variance=0.1)
    branch = gt.Residual(gt.Pointwise("relu"), gt.Dense(hubs), gt.Pointwise("relu"), gt.Dense(hubs, 8.0), scale=0.5)
    network = gt.Network([gt.Dense(1.0), one, branch, gt.Pointwise("relu"), last])
    model = gv.build(network, (6, 400, 300, 1), 5)
    orders = [
        torch.arange(6),
        *(torch.randperm(n, generator=torch.manual_seed(0)) for n in (400, 300)),
        torch.arange(1),
    ]
    ends = [(part.source, part.place) for part in model.outline if isinstance(part, Weights)]
    with torch.no_grad():
        for layer, (source, place) in zip(model.linears, ends, strict=True):
            for values in (layer.mask, layer.weight):
                values.copy_(values[orders[place]][:, orders[source]].clone())
    x = inputs(5, 6)
    want = gt.limit_kernel(network, x).ntk.values
    found = gv.theories(model, blocks=2)
    off = {
        name: np.linalg.norm(gt.limit_kernel(one, x).ntk.values - want) / np.linalg.norm(want)
        for name, one in found.items()
    }
    assert max(off["(W, W)"], off["(W, V)"]) < 0.06
    assert off["layers"] > 4 * off["(W, V)"]


def test_sound_masks_pass_and_masks_that_know_signs_do_not() -> None:
    model = gv.build(mixed(0.5), (5, 300, 300, 300, 2), 4)
    sound = gv.applicability(model, DATA[0])
    assert list(sound.layer.values) == [1, 2, 3, 4]
    assert float(np.abs(sound.z).max()) < 4
    knowing = copy.deepcopy(model)
    with torch.no_grad():
        layer = knowing.linears[1]
        layer.mask &= layer.weight > -0.3
    assert abs(float(gv.applicability(knowing, DATA[0]).sel(layer=2).z)) > 6


def test_training_goes_through_stages() -> None:
    model = gv.build(mixed(0.5), WIDTHS, 0)
    before = [mask.clone() for mask in model.masks]
    history = gv.train(model, DATA, steps=30, learning_rate=0.02, optimizer="adam", loss="cross_entropy", seed=0)
    assert float(history.loss[-1]) < 0.8 * float(history.loss[0])
    assert all(torch.equal(a, b) for a, b in zip(before, model.masks, strict=True))


def test_layers_of_other_units_do_not_fit() -> None:
    model = gv.build(mixed(), WIDTHS, 0)
    layers = model.linears
    layers[3] = MaskedLinear(torch.zeros(31, 20, dtype=torch.float64))
    with pytest.raises(NetworkError, match="layer 2 has 30 units, but layer 4 has 31"):
        gv.MaskedMLP(layers, outline=model.outline)
    with pytest.raises(NetworkError, match="layers: expected 5"):
        gv.MaskedMLP(layers[:4], outline=model.outline)
    with pytest.raises(NetworkError, match="activation: expected 2"):
        gv.MaskedMLP(layers[:3], ["relu"] * 4)


def test_torch_draws_its_own_biases() -> None:
    model = gv.dense((7, 400, 300, 2), 0, init="torch", bias_variance=None)
    for layer, n in zip(model.linears, (7, 400, 300), strict=True):
        assert layer.bias is not None
        assert float(layer.bias.detach().abs().max()) <= n**-0.5
        assert layer.bias_variance == pytest.approx(1 / (3 * n))
        assert layer.trained_bias_variance == 1.0
    zero = gv.dense((7, 40, 2), 0, init="he", bias_variance=None)
    assert all(layer.bias is not None and layer.bias.count_nonzero() == 0 for layer in zero.linears)
    with pytest.raises(NetworkError, match="bias_variance: expected one number or 2"):
        gv.dense((7, 40, 2), 0, bias_variance=[0.1])


def _scores(network: gt.Network, widths: tuple[int, ...], x: FloatArray, seeds: int) -> FloatArray:
    """z of the trace and of three entries named beforehand."""
    drawn = np.stack([gv.empirical_kernel(gv.build(network, widths, s), x).ntk.values for s in range(seeds)])
    limit = gt.limit_kernel(network, x).ntk.values
    picks = [(lambda k: np.trace(k, axis1=-2, axis2=-1)), *(lambda k, i=i, j=j: k[..., i, j] for i, j in PAIRS)]
    found = [(pick(drawn), pick(limit)) for pick in picks]
    return np.array([(d.mean() - t) / (d.std(ddof=1) / seeds**0.5) for d, t in found])


PAIRS = [(0, 0), (0, 5), (3, 5)]
BLOCKS = gt.StepGraphon([[0.9, 0.2, 0.1], [0.3, 0.6, 0.2], [0.1, 0.5, 0.8]])
ARCHITECTURES = {
    "residual": [
        gt.Dense(1.0),
        gt.Residual(gt.Pointwise("relu"), gt.Dense(BLOCKS), gt.Pointwise("relu"), gt.Dense(BLOCKS), scale=0.6),
        gt.Pointwise("relu"),
        gt.Dense(1.0),
    ],
    "LayerNorm": [
        *(gt.Dense(1.0), gt.LayerNorm(), gt.Pointwise("relu"), gt.Dense(BLOCKS), gt.LayerNorm(), gt.Pointwise("relu")),
        *(gt.Dense(BLOCKS, bias_variance=0.2), gt.Pointwise("erf"), gt.Dense(1.0)),
    ],
}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_draws_scatter_around_the_limit(name: str) -> None:
    network = gt.Network(ARCHITECTURES[name])
    n = 700
    widths = (6, *[n] * (max(part.place for part in network.outline if hasattr(part, "place")) - 1), 1)
    scores = _scores(network, widths, inputs(6, 6), 12)
    assert np.abs(scores).max() < 5  # O(1/n) terms stay in


@pytest.mark.slow
def test_a_default_torch_network_has_its_limit() -> None:
    """nn.Linear's own initialisation, torch's parameterization: kernels of 32 networks of width 1,024."""
    widths = (6, 1024, 1024, 1)
    model = gv.dense(widths, 0, init="torch", bias_variance=None)
    network = network_like(model, [1.0, 1.0, 1.0])
    x = inputs(6, 6)
    drawn = []
    for seed in range(32):
        one = gv.dense(widths, seed, init="torch", bias_variance=None)
        drawn.append(gv.empirical_kernel(one, x).ntk.values)
    limit = gt.limit_kernel(network, x).ntk.values
    kernels = np.stack(drawn)
    error = kernels.std(axis=0, ddof=1) / 32**0.5
    z = (kernels.mean(axis=0) - limit) / error
    assert np.abs(z).max() < 5
    assert max(abs(float(z[pair])) for pair in PAIRS) < 3
    traces = np.trace(kernels, axis1=1, axis2=2)
    assert abs(traces.mean() - np.trace(limit)) < 3 * traces.std(ddof=1) / 32**0.5
