"""Protocols keep what they say and draw the rest anew; theories put the pieces back one at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.pruning.laws import INITS
from graphon_validation.studies.protocols import rows_as_positions
from tests.validation.helpers import inputs, random_model


def magnitude_model(width: int = 120, init: str = "ntk", seed: int = 0) -> gv.MaskedMLP:
    model = gv.dense((6, width, width, 2), seed, init=init, bias_variance=0.2)
    return gv.prune(model, "magnitude", 0.3, scope="layer", layers=[1, 2])


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("init", ["ntk", "he", "lecun", "torch"])
def test_initial_laws(init: str) -> None:
    model = gv.dense((50, 300, 200, 3), 1, init=init, bias_variance=0.2)
    law, deviation = INITS[init]
    for layer, weight in zip(model.linears, model.weights, strict=True):
        n_out, n_in = weight.shape
        std = deviation(n_in, n_out)
        assert layer.dense_std == pytest.approx(std)
        values = weight.detach().numpy() / std
        fourth = {"normal": 3.0, "uniform": 1.8}[law]
        for power, expected, variance in ((1, 0, 1), (2, 1, fourth - 1)):
            assert abs((values**power).mean() - expected) < 4.5 * math.sqrt(variance / values.size)
        assert layer.bias is not None
        assert float(layer.bias.detach().std()) == pytest.approx(1.0 if init == "ntk" else math.sqrt(0.2), rel=0.5)
    if init == "torch":  # U(-1/sqrt(n), 1/sqrt(n)): variance 1/(3n)
        assert float(model.weights[1].detach().abs().max()) <= 1 / math.sqrt(300)
        assert float(model.weights[1].detach().var()) == pytest.approx(1 / 900, rel=0.05)
    assert same(model.weights, gv.dense((50, 300, 200, 3), 1, init=init, bias_variance=0.2).weights)


def test_he_and_ntk_are_one_network_in_two_parameterizations() -> None:
    """The same draws: He's weights are the ntk ones times sqrt(2 / n_in), and the outputs agree."""
    ntk, he = (gv.dense((6, 40, 30, 2), 3, init=init) for init in ("ntk", "he"))
    x = torch.from_numpy(inputs(5, 6))
    torch.testing.assert_close(ntk(x), he(x), rtol=1e-12, atol=1e-12)


def test_protocols_keep_what_they_say() -> None:
    model = magnitude_model()
    before = [weight.detach().clone() for weight in model.weights]
    own = gv.apply_protocol(model, "own", 0)
    assert same(own.masks, model.masks)
    assert same(own.weights, model.weights)
    signs = gv.apply_protocol(model, "signs", 0)
    assert same(signs.masks, model.masks)
    assert same([w.abs() for w in signs.weights], [w.abs() for w in model.weights])
    changed = torch.cat([(a * b < 0).flatten() for a, b in zip(signs.weights, model.weights, strict=True)])
    assert abs(float(changed.double().mean()) - 0.5) < 4 / math.sqrt(4 * len(changed))
    redrawn = gv.apply_protocol(model, "redrawn", 0)
    assert same(redrawn.masks, model.masks)
    # weights that know nothing of the mask: variance 1 on it, where their own have V / W
    kept = redrawn.weights[1][redrawn.masks[1]].detach()
    assert abs(float(kept.var()) - 1) < 4 * math.sqrt(2 / len(kept))
    assert float(model.weights[1][model.masks[1]].detach().var()) > 2
    network = gt.Network([1.0, 0.4, 0.7], bias_variance=0.2, outputs=2)
    drawn = gv.apply_protocol(model, "drawn", 0, network)
    assert drawn.widths == model.widths
    assert abs(float(drawn.masks[1].double().mean()) - 0.4) < 0.02
    for one in (own, signs, redrawn, drawn):
        assert not same(one.weights, before) or one is own
    assert same(model.weights, before)


@pytest.mark.parametrize("init", ["ntk", "torch"])
def test_theories_go_from_coarse_to_fine(init: str) -> None:
    model = magnitude_model(init=init)
    found = gv.theories(model, blocks=3)
    assert list(found) == ["layers", "(W, W)", "(W, V)", "(W, V, D)"]
    for network in found.values():
        assert network.layers[0].mask == gt.ConstantGraphon(1.0)  # nobody pruned it
        assert network.bias_variance == 0.2
        assert network.weight_variance == pytest.approx([layer.weight_variance for layer in model.linears])
    mask, weight = model.masks[1].numpy(), model.weights[1].detach().numpy() / model.linears[1].dense_std
    constants = found["layers"].layers[1]
    assert constants.mask.mean() == pytest.approx(mask.mean())
    assert constants.variance.mean() == pytest.approx((mask * weight**2).mean())
    assert found["(W, W)"].layers[1].variance is found["(W, W)"].layers[1].mask
    assert found["(W, V)"].layers[1].variance.mean() == pytest.approx((mask * weight**2).mean())
    assert not found["(W, V)"].has_drift
    assert found["(W, V)"].layers[1].mask.mean() == pytest.approx(mask.mean())


def test_laws_are_those_of_the_layers_own_densities() -> None:
    model = magnitude_model(init="torch")
    network = gv.law_network(model, "magnitude")
    assert network is not None
    assert network.layers[1] == gt.magnitude_pruning(0.3, "uniform")
    assert gv.law_network(model, "snip") is None
    kept = gv.theories(model, names=["layers"])["layers"].layers[1]
    assert kept.variance.mean() == pytest.approx(network.layers[1].variance.mean(), rel=0.02)


def expected_over_signs(model: gv.MaskedMLP, x: np.ndarray) -> float:
    """E trace of one output's NTK over new signs, ReLU without bias: gates are fair coins, so paths just add up."""
    masks = [layer.scale**2 * layer.mask.double().numpy() for layer in model.linears]
    squares = [layer.effective_weight().detach().numpy() ** 2 for layer in model.linears]
    back = [np.full(model.widths[-1], 1 / model.widths[-1])]
    for square in squares[:0:-1]:
        back.insert(0, back[0] @ square / 2)
    total, signal = 0.0, (x**2).sum(0)
    for index, (mask, square) in enumerate(zip(masks, squares, strict=True)):
        total += float(back[index] @ mask @ signal)
        signal = square @ signal / 2
    return total


@pytest.mark.slow
def test_dense_layers_have_the_variance_that_masks_know() -> None:
    """SynFlow keeps more connections of units with large dense weights: V = 1 in dense layers misses percents."""
    off, without, sampled = [], [], []
    x = inputs(12, 16)
    for seed in range(4):
        model = gv.dense((16, 256, 256, 256, 10), seed)
        gv.prune(model, "synflow", 0.2, layers=[1, 2])
        expected = expected_over_signs(model, x)
        network = gv.theories(model, blocks=16, names=["(W, V)"])["(W, V)"]
        plain = gt.Network([1.0, *network.layers[1:-1], 1.0], outputs=10)
        traces = [np.trace(gt.limit_kernel(one, x).ntk.mean("output")) for one in (network, plain)]
        off.append(traces[0] / expected - 1)
        without.append(traces[1] / expected - 1)
        for redraw in range(8):
            signs = gv.apply_protocol(model, "signs", [seed, redraw])
            sampled.append(np.trace(gv.empirical_kernel(signs, x).ntk.mean("output")) / expected - 1)
    assert np.abs(off).max() < 0.01
    assert np.mean(without) < -0.02
    assert max(without) < 0
    assert abs(np.mean(sampled)) < 4 * np.std(sampled) / math.sqrt(len(sampled))  # the oracle itself


def test_input_rows_are_the_units_own() -> None:
    model = gv.prune(random_model((6, 50, 40, 1), (1.0, 1.0, 1.0), "relu"), "random", 0.4, scope="layer", rng=0)
    network = gv.theories(model, blocks=2, names=["(W, V)"], input_rows=True)["(W, V)"]
    rows = network.layers[0].mask
    assert isinstance(rows, gt.StepGraphon)
    assert rows.values.shape == (50, 6)
    assert sorted(map(tuple, rows.values)) == sorted(map(tuple, model.masks[0].double().numpy()))

    x = inputs(5, 6)
    connectivity = rows_as_positions(model.masks[0].numpy(), model.weights[0].detach().numpy(), "(W, V)")
    assert isinstance(connectivity.variance, gt.StepGraphon)
    squares = (model.weights[0] * model.masks[0]).detach().numpy() ** 2
    np.testing.assert_array_equal(connectivity.variance.values, squares)
    # sizes are known, signs are not: sqrt(d) w with new signs
    assert isinstance(connectivity.drift, gt.StepGraphon)
    own = (model.weights[0] * model.masks[0]).detach().numpy()
    np.testing.assert_allclose(np.abs(connectivity.drift.values), math.sqrt(6) * np.abs(own))
    flipped = (connectivity.drift.values * own < 0).sum() / model.masks[0].sum()
    assert 0.3 < flipped < 0.7
    whole = rows_as_positions(model.masks[0].numpy(), model.weights[0].detach().numpy(), "(W, V, D)").drift
    assert isinstance(whole, gt.StepGraphon)
    np.testing.assert_allclose(whole.values, math.sqrt(6) * own)
    assert np.isfinite(gt.limit_kernel(network, x).ntk).all()


def test_a_masked_input_layer_tends_to_the_mixture_and_not_to_the_kernel_of_the_means() -> None:
    """THEORY §9, finite d: width cannot mend it, sampled rows do."""
    network = gt.Network([0.3, 1.0], weight_variance=[2.0, 1.0])
    x = inputs(4, 5)
    real = gv.width_sweep(network, x, widths=[4000], seeds=range(12), progress=False)
    found = gv.compare(real, gt.limit_kernel(gv.mixture(network, 5, 4000, rng=1), x), [(0, 1), (1, 3)])
    plain = gv.compare(real, gt.limit_kernel(network, x), [(0, 1), (1, 3)])
    assert np.abs(plain.z).max() > 6
    assert np.abs(found.z).max() < 5  # the rows' own sampling error, of the size of one network's, stands beside it
    assert np.abs(found["error"]).max() < 0.3 * np.abs(plain["error"]).max()
    full = gt.Network([1.0, 0.5])
    assert gv.mixture(full, 5) is full


@pytest.mark.slow
def test_a_magnitude_mask_on_few_inputs_tends_to_rows_of_weights_and_not_of_masks() -> None:
    """Surviving weights are not Gaussian, and neither are sums of one or two of them."""
    law = gt.magnitude_pruning(0.2)
    network, x = gt.Network([law, 1.0]), inputs(4, 5)
    prune = {"method": "magnitude", "density": 0.2, "layers": [0]}
    real = gv.width_sweep(gt.Network([1.0, 1.0]), x, widths=[4000], seeds=range(30), prune=prune, progress=False)
    entries = [(0, 2), (1, 3)]

    def rows(weights: str | None) -> xr.Dataset:
        kernels = [
            gt.limit_kernel(gv.mixture(network, 5, 4000, weights=weights, rng=[seed, 7]), x).ntk.values
            for seed in range(30)
        ]
        return xr.Dataset({"ntk": (real.ntk.dims, np.array(kernels)[None])}, real.coords)

    of_weights, of_masks = (gv.compare(real, rows(weights), entries) for weights in ("normal", None))
    assert np.abs(of_weights.z).max() < 4
    assert np.abs(of_masks.z).max() > 5
    with pytest.raises(InputError, match="not what magnitude pruning leaves of uniform weights"):
        gv.mixture(network, 5, weights="uniform")
    with pytest.raises(InputError, match="not what magnitude pruning leaves of normal weights"):
        gv.mixture(gt.Network([0.2, 1.0]), 5, weights="normal")
    step = gt.Network([gt.Connectivity(gt.StepGraphon([[1.0, 0.0]])), 1.0])
    sampled = gv.mixture(step, 4, 8, weights="normal").layers[0]
    assert isinstance(sampled.mask, gt.StepGraphon)
    np.testing.assert_array_equal(sampled.mask.values, np.tile([1.0, 1, 0, 0], (8, 1)))


def test_sweeps_by_protocol_follow_their_theories() -> None:
    """Magnitude masks: own weights and redrawn signs follow (W, V), redrawn weights (W, W)."""
    x = inputs(4, 5)
    dense = gt.Network([1.0, 1.0, 1.0], "erf", bias_variance=0.1)
    law = gt.magnitude_pruning(0.2)
    limits = {
        "(W, V)": gt.limit_kernel(gt.Network([1.0, law, 1.0], "erf", bias_variance=0.1), x),
        "(W, W)": gt.limit_kernel(gt.Network([1.0, 0.2, 1.0], "erf", bias_variance=0.1), x),
    }
    prune = {"method": "magnitude", "density": 0.2, "layers": [1]}
    expected = {"own": "(W, V)", "signs": "(W, V)", "redrawn": "(W, W)"}
    for protocol, theory in expected.items():
        real = gv.width_sweep(
            dense, x, widths=(64, 128, 256), seeds=range(16), prune=prune, protocol=protocol, progress=False
        )
        for name, kern in limits.items():
            z = np.abs(gv.compare(real, kern).fitted_z)
            assert (z < 3.5).all() if name == theory else z.max() > 6, (protocol, name)
        assert real.attrs["protocol"] == protocol
    with pytest.raises(InputError, match="protocol: expected"):
        gv.width_sweep(dense, x, widths=[8], seeds=[0], protocol="signs", progress=False)
    with pytest.raises(InputError, match="protocol: expected"):
        gv.width_sweep(dense, x, widths=[8], seeds=[0], prune=prune, protocol="drawn", progress=False)


def test_what_trains_is_what_the_kernel_sums() -> None:
    model, x = random_model((5, 20, 15, 2), (1.0, 0.4, 0.7)), inputs(4, 5)
    layers = gv.empirical_kernel(model, x, per_layer=True).ntk_layer
    only = gv.empirical_kernel(gv.choose_trained(model, ["none", "all", "none"]), x)
    xr.testing.assert_allclose(only.ntk, layers.sel(layer=2).drop_vars("layer"))
    biases = gv.empirical_kernel(gv.choose_trained(model, ["biases", "biases", "biases"]), x).ntk
    weights = gv.empirical_kernel(gv.choose_trained(model, ["weights", "weights", "weights"]), x).ntk
    np.testing.assert_allclose((biases + weights).values, layers.sum("layer").values, rtol=1e-12)
    # the oracle: torch's own derivatives by the parameters that train
    outputs = model(torch.from_numpy(x))
    gv.choose_trained(model, ["none", "weights", "biases"])
    outputs = model(torch.from_numpy(x))
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(outputs[i, 1], parameters, retain_graph=True)])
        for i in range(4)
    ]
    jacobian = torch.stack(rows).numpy()
    found = gv.empirical_kernel(model, x).ntk.sel(output=1)
    np.testing.assert_allclose(found.values, jacobian @ jacobian.T, rtol=1e-12)
    swept = gv.width_sweep(
        gt.Network([1.0, 0.5, 1.0]), x, widths=[16], seeds=[0], trained=["none", "none", "all"], progress=False
    )
    whole = gv.width_sweep(gt.Network([1.0, 0.5, 1.0]), x, widths=[16], seeds=[0], progress=False)
    assert (np.diagonal(swept.ntk.values[0, 0]) < np.diagonal(whole.ntk.values[0, 0])).all()


def test_what_makes_no_sense_is_refused() -> None:
    model = magnitude_model(20)
    with pytest.raises(InputError, match="protocol: expected one of drawn, redrawn, signs, own"):
        gv.apply_protocol(model, "mine", 0)
    with pytest.raises(InputError, match="pass the Network"):
        gv.apply_protocol(model, "drawn", 0)
    with pytest.raises(InputError, match="names: expected"):
        gv.theories(model, names=["(V)"])
    with pytest.raises(InputError, match="parts: expected 3"):
        gv.choose_trained(model, ["all"])
    with pytest.raises(NetworkError, match="init: expected"):
        gv.dense((3, 4), 0, init="best")
    with pytest.raises(NetworkError, match="widths: expected"):
        gv.dense((3, 0), 0)


def test_drawn_is_another_draw_than_the_network_itself() -> None:
    network = gt.Network([1.0, 0.4, 1.0])
    widths = (4, 30, 30, 1)
    model = gv.build(network, widths, 0)
    again = gv.apply_protocol(model, "drawn", 0, network)
    for one, two in zip(model.weights, again.weights, strict=True):
        assert (
            abs(float(torch.corrcoef(torch.stack([one.detach().flatten(), two.detach().flatten()]))[0, 1]))
            < 4 / one.numel() ** 0.5
        )
    assert not torch.equal(model.masks[1], again.masks[1])
