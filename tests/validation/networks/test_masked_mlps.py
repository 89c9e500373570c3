"""Drawn networks have the moments of (W, V, D), one position per unit, and masks that hold in training."""

from __future__ import annotations

import copy
import math
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import ActivationError, ConnectivityError, NetworkError
from graphon_validation.networks.masked_layers import MaskedLinear
from graphon_validation.networks.torch_activations import TABLE, torch_activation
from tests.validation.helpers import inputs, random_model, value_and_derivative

# Asymmetric in every graphon; D^2 < n W V at the widths below.
W = gt.AnalyticGraphon("0.2 + 0.7*u*(1 - v)")
V = gt.AnalyticGraphon("(0.2 + 0.7*u*(1 - v))*(0.5 + 2*v**2)")
D = gt.AnalyticGraphon("(0.2 + 0.7*u*(1 - v))*(2*u - v)")
HIDDEN = gt.Connectivity(W, V, D)


def w(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.2 + 0.7 * u * (1 - v)


def second(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    return w(u, v) * (0.5 + 2 * v**2)


def drift(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    return w(u, v) * (2 * u - v)


def block_z(sample: NDArray[np.float64], expected: NDArray[np.float64], variance: NDArray[np.float64]) -> float:
    """Largest |z| of the sums over a 4 x 4 grid of blocks."""

    def sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = np.array_split(values, min(4, len(values)), axis=0)
        return np.array([[b.sum() for b in np.array_split(r, min(4, r.shape[1]), axis=1)] for r in rows])

    return float(np.abs(sums(sample - expected) / np.sqrt(sums(variance))).max())


def moments_z(
    mask: torch.Tensor, weight: torch.Tensor, p: NDArray[np.float64], v: NDArray[np.float64], d: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Largest z of m, m w^2 and sqrt(n) m w against W, V, D, given as matrices of the layer's shape."""
    m, n_in = mask.numpy().astype(float), mask.shape[1]
    values = weight.detach().numpy()
    mean, square = d / (math.sqrt(n_in) * p), v / p
    var = square - mean**2
    fourth = 3 * var**2 + 6 * var * mean**2 + mean**4
    return (
        block_z(m, p, p * (1 - p)),
        block_z(m * values**2, v, p * fourth - v**2),
        block_z(math.sqrt(n_in) * m * values, d, n_in * (v - d**2 / n_in)),
    )


def test_hidden_layers_have_the_moments_of_w_v_d_at_grid_positions() -> None:
    network = gt.Network([1.0, HIDDEN, 1.0], weight_variance=1.7)
    model = gv.build(network, (3, 500, 600, 1), seed=0)
    u, v = model.positions[2][:, None], model.positions[1][None, :]
    np.testing.assert_allclose(model.positions[1], (np.arange(500) + 0.5) / 500)
    assert max(moments_z(model.masks[1], model.weights[1], w(u, v), second(u, v), drift(u, v))) < 4
    # the same sample against the transposed law is far off: the axes are not swapped
    assert min(moments_z(model.masks[1], model.weights[1], w(v, u), second(v, u), drift(v, u))) > 6


def test_inputs_and_outputs_take_cell_means() -> None:
    slow = gt.Connectivity(W, V, gt.AnalyticGraphon("(0.1 + 0.35*u*(1 - v))*(2*u - v)"))  # three inputs carry D/2
    network = gt.Network([slow, HIDDEN], outputs=2)
    model = gv.build(network, (3, 4000, 2), seed=1)
    hidden = model.positions[1]
    fine = (np.arange(3000) + 0.5) / 3000  # a midpoint rule, O(1e-7) off the means
    u, v = np.meshgrid(hidden, fine, indexing="ij")
    p, square, mean = (f(u, v).reshape(4000, 3, 1000).mean(2) for f in (w, second, drift))
    assert max(moments_z(model.masks[0], model.weights[0], p, square, mean / 2)) < 4
    u, v = np.meshgrid(fine, hidden, indexing="ij")
    last = [f(u, v).reshape(2, 1500, 4000).mean(1) for f in (w, second, drift)]
    assert max(moments_z(model.masks[1], model.weights[1], *last)) < 4


def test_cells_are_averaged_not_sampled_at_their_middles() -> None:
    narrow = gt.StepGraphon([[1.0, 0.0]], v_edges=[0, 0.1, 1])  # nothing at the middles of two cells
    model = gv.build(gt.Network([narrow, narrow.T], outputs=2), (2, 5000, 2), seed=0)
    for cells in (model.masks[0].T, model.masks[1]):
        assert abs(float(cells[0].double().mean()) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 5000)
        assert not cells[1].any()


def test_a_single_layer_takes_means_over_rectangles() -> None:
    network = gt.Network([gt.StepGraphon([[0.0, 1.0], [1.0, 0.0]])], outputs=2)
    model = gv.build(network, (4, 2), seed=0)
    assert model.masks[0].tolist() == [[False, False, True, True], [True, True, False, False]]


def test_surviving_weights_without_drift_are_normal_with_variance_v_over_w() -> None:
    magnitude = gt.magnitude_pruning(0.2)
    model = gv.build(gt.Network([1.0, magnitude, 1.0]), (2, 700, 700, 1), seed=3)
    kept = model.weights[1][model.masks[1]].detach().numpy()
    ratio = 3.2491016
    z = kept / math.sqrt(ratio)
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((z**power).mean() - expected) < 4 * math.sqrt(variance / z.size)


def test_dense_layers_are_standard_normal_and_full() -> None:
    model = gv.build(gt.Network([1.0, 1.0]), (50, 400, 1), seed=0)
    assert all(mask.all() for mask in model.masks)
    values = model.weights[0].detach().numpy()
    assert abs(values.mean()) < 4 / math.sqrt(values.size)
    assert abs(values.var() - 1) < 4 * math.sqrt(2 / values.size)


def test_same_seed_same_network_and_streams_do_not_mix() -> None:
    plain = gv.build(gt.Network([1.0, W, 1.0], bias_variance=0.1), (3, 20, 30, 1), seed=5)
    again = gv.build(gt.Network([1.0, W, 1.0], bias_variance=0.1), (3, 20, 30, 1), seed=5)
    other = gv.build(gt.Network([1.0, W, 1.0], bias_variance=0.1), (3, 20, 30, 1), seed=6)
    paired = gv.build(gt.Network([1.0, gt.Connectivity(W, V), 1.0], bias_variance=0.1), (3, 20, 30, 1), seed=5)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, other.state_dict()[name]) == name.endswith(("0.mask", "2.mask"))
    # another V changes the surviving weights of its layer, and nothing else
    assert torch.equal(plain.masks[1], paired.masks[1])
    assert torch.equal(plain.weights[2], paired.weights[2])
    assert not torch.equal(plain.weights[1], paired.weights[1])


def test_float32_is_the_same_network_rounded() -> None:
    network = gt.Network([1.0, W, 1.0])
    exact = gv.build(network, (3, 20, 30, 1), seed=5)
    rounded = gv.build(network, (3, 20, 30, 1), seed=5, dtype=torch.float32)
    assert rounded.weights[1].dtype == torch.float32
    assert torch.equal(rounded.weights[1], exact.weights[1].float())


def test_forward_is_theory_section_1() -> None:
    network = gt.Network([W, W, W], activation="erf", weight_variance=[1.0, 2.0, 3.0], bias_variance=0.4, outputs=2)
    model = gv.build(network, (3, 6, 5, 2), seed=0)
    x = inputs(4, 3)
    a = x
    for index, layer in enumerate(model.linears):
        m, weight = layer.mask.numpy(), layer.weight.detach().numpy()
        assert layer.bias is not None
        h = np.sqrt((index + 1) / weight.shape[1]) * a @ (m * weight).T
        h += math.sqrt(0.4) * layer.bias.detach().numpy()
        a = np.vectorize(math.erf)(h)
    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), h, rtol=1e-13)


def test_standard_parameterization_is_the_same_function_class() -> None:
    ntk = gv.build(gt.Network([W, W], "relu", 1.3, 0.4), (3, 40, 1), seed=0)
    standard = gv.build(gt.Network([W, W], "relu", 1.3, 0.4, "standard", widths=(3, 40)), (3, 40, 1), seed=0)
    x = torch.from_numpy(inputs(4, 3))
    torch.testing.assert_close(ntk(x), standard(x), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(standard.weights[1], ntk.weights[1] * math.sqrt(1.3 / 40))
    assert standard.linears[0].scale == 1.0


def test_pruned_weights_have_no_gradient_and_no_effect() -> None:
    model = random_model((4, 15, 12, 3), (0.5, 0.3, 0.5), "relu")
    x = torch.from_numpy(inputs(6, 4))
    before = model(x)
    before.square().sum().backward()
    for mask, weight in zip(model.masks, model.weights, strict=True):
        assert weight.grad is not None
        assert (weight.grad[~mask] == 0).all()
        assert (weight.grad[mask] != 0).any()
        weight.data[~mask] = 1e6
    assert torch.equal(model(x), before)


@pytest.mark.parametrize(
    ("name", "parameterization"), [*((name, "ntk") for name in sorted(TABLE)), ("erf", "standard")]
)
def test_models_come_back_from_copies_and_pickles(name: str, parameterization: str) -> None:
    model = random_model((5, 7, 6, 2), (0.6, 0.5, 1.0), name, parameterization=parameterization)
    gv.choose_trained(model, ["all", "biases", "none"])
    x = inputs(4, 5)
    wanted = gv.empirical_kernel(model, x)
    for again in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (again.activation, again.widths) == (model.activation, model.widths)
        for one, other in zip(again.linears, model.linears, strict=True):
            for part in ("law", "weight_variance", "bias_variance", "parameterization", "scale", "bias_scale"):
                assert getattr(one, part) == getattr(other, part)
            assert one.weight.requires_grad == other.weight.requires_grad
            torch.testing.assert_close(one.mask, other.mask, rtol=0, atol=0)
        np.testing.assert_array_equal(again.positions[1], model.positions[1])
        assert gv.empirical_kernel(again, x).identical(wanted)
    layer = pickle.loads(pickle.dumps(model.linears[1]))
    torch.testing.assert_close(layer(torch.ones(3, 7).double()), model.linears[1](torch.ones(3, 7).double()))


def test_copies_of_a_model_have_weights_of_their_own() -> None:
    model = random_model((5, 7, 2), (0.6, 1.0), "leaky_relu")
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.weights[0].zero_()
        again.masks[0].fill_(False)
    assert model.weights[0].abs().min() > 0
    assert model.masks[0].any()


def test_models_travel_between_processes() -> None:
    model = random_model((5, 7, 2), (0.6, 1.0), "gaussian")
    x = inputs(4, 5)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(gv.empirical_kernel, (model, x))
    assert found.identical(gv.empirical_kernel(model, x))


def test_masks_are_buffers_that_travel_with_the_state() -> None:
    model = random_model((4, 15, 1), (0.5, 0.3))
    assert {name for name, _ in model.named_buffers()} == {"layers.0.mask", "layers.1.mask"}
    assert not any(name.endswith("mask") for name, _ in model.named_parameters())
    other = random_model((4, 15, 1), (0.5, 0.3), seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.masks[1], model.masks[1])
    assert other.linears[0].bias is not None
    assert random_model((4, 15, 1), (0.5, 0.3), bias_variance=0.0).linears[0].bias is None


@pytest.mark.parametrize("name", ["relu", "erf", "identity"])
def test_activations_agree_with_the_theory(name: str) -> None:
    z = np.linspace(-3, 3, 26)
    activation = gt.Network([1.0], activation=name).activation
    value, slope = value_and_derivative(torch_activation(activation), torch.from_numpy(z))
    np.testing.assert_allclose(value.numpy(), activation(z), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(slope.numpy(), activation.derivative(z), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_derivatives_are_finite_differences_away_from_kinks(name: str) -> None:
    z = torch.tensor([-2.3, -0.7, 0.4, 1.9, 25.0], dtype=torch.float64)
    h = 1e-5
    phi = torch_activation(name)
    _, slope = value_and_derivative(phi, z)
    difference = (phi(z + h) - phi(z - h)) / (2 * h)
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-8)


def test_activation_definitions() -> None:
    z = torch.tensor([-1.5, 2.0], dtype=torch.float64)
    expected = {
        "leaky_relu": [-0.015, 2.0],
        "gelu": [-1.5 * 0.06680720126885807, 2 * 0.9772498680518208],
        "softplus": [math.log1p(math.exp(-1.5)), math.log1p(math.exp(2.0))],
        "silu": [-1.5 / (1 + math.exp(1.5)), 2 / (1 + math.exp(-2))],
        "elu": [math.expm1(-1.5), 2.0],
        "gaussian": [math.exp(-1.125), math.exp(-2.0)],
        "step": [0.0, 1.0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(torch_activation(name)(z).numpy(), values, rtol=1e-14)
    high = torch.tensor([25.0], dtype=torch.float64)  # where torch's softplus has turned linear
    assert float(torch_activation("softplus")(high)) > 25.0


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((3, 20, 1), r"expected 4 unit counts \(n_0, ..., n_3\), got 3"),
        ((3, 20, 0, 1), "positive integers"),
        ((3, 20, 2.5, 1), "positive integers"),
        ((3, 20, 20, 2), r"the last is 2, but the network has 1 outputs"),
    ],
)
def test_widths_that_do_not_fit_are_refused(widths: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        gv.build(gt.Network([1.0, 1.0, 1.0]), widths, seed=0)


def test_a_drift_too_large_for_the_width_is_refused_and_the_mend_works() -> None:
    strong = gt.Connectivity(0.5, 0.5, 3.0)  # D^2 / (W V) = 36
    network = gt.Network([1.0, strong, 1.0])
    with pytest.raises(ConnectivityError, match=r"layer 2: drift: with 20 .* at least 36 units"):
        gv.build(network, (3, 20, 20, 1), seed=0)
    model = gv.build(network, (3, 36, 36, 1), seed=0)
    kept = model.weights[1][model.masks[1]].detach()
    torch.testing.assert_close(kept, torch.ones_like(kept))  # mean 1, second moment 1: no spread is left


def test_layers_that_do_not_fit_are_refused() -> None:
    def layer(n_out: int, n_in: int) -> MaskedLinear:
        return MaskedLinear(torch.zeros(n_out, n_in))

    with pytest.raises(NetworkError, match="layer 1 has 4 units, but layer 2 takes 5"):
        gv.MaskedMLP([layer(4, 3), layer(1, 5)])
    with pytest.raises(NetworkError, match="at least one"):
        gv.MaskedMLP([])
    with pytest.raises(ActivationError, match="no torch function for 'swish'"):
        gv.MaskedMLP([layer(4, 3)], "swish")
    with pytest.raises(NetworkError, match="bool tensor"):
        MaskedLinear(torch.zeros(4, 3), torch.ones(4, 3))
    with pytest.raises(NetworkError, match="bias"):
        MaskedLinear(torch.zeros(4, 3), bias=torch.zeros(4))
    with pytest.raises(NetworkError, match=r"expected shape \(4,\)"):
        MaskedLinear(torch.zeros(4, 3), bias=torch.zeros(3), bias_variance=1.0)
    with pytest.raises(NetworkError, match="parameterization"):
        MaskedLinear(torch.zeros(4, 3), parameterization="mup")


def test_without_torch_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; import graphon_validation"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: graphon_validation" in done.stderr
    assert "pip install 'graphon-theory[validation]'" in done.stderr


def test_build_refuses_what_is_known_of_single_units() -> None:
    layer = gt.Connectivity(1.0, known=gt.Known([0.5]))
    with pytest.raises(gt.ConnectivityError, match=r"layer 2: known: .* draw a dense network and prune"):
        gv.build(gt.Network([1.0, layer, 1.0]), (4, 8, 8, 1), 0)


def test_given_masks_get_weights_of_the_law() -> None:
    """Masks of sample_masks are kept as they are; squares of their weights have the mean V / W of their block."""
    law = gt.Connectivity(gt.StepGraphon([[0.2, 0.6], [0.4, 0.1]]), gt.StepGraphon([[0.6, 0.6], [0.1, 0.4]]))
    network, widths = gt.Network([1.0, law, 1.0]), (4, 400, 400, 1)
    masks = gt.sample_masks(network, widths, 0)
    model = gv.build(network, widths, 3, masks=masks)
    for mask, given in zip(model.masks, masks, strict=True):
        assert np.array_equal(mask.numpy(), given)
    weight, kept = model.weights[1].detach().numpy(), masks[1]
    for rows, columns, ratio in ((0, 0, 3.0), (0, 1, 1.0), (1, 0, 0.25), (1, 1, 4.0)):
        block = np.s_[200 * rows : 200 * rows + 200, 200 * columns : 200 * columns + 200]
        squares = weight[block][kept[block]] ** 2 / ratio
        assert abs(squares.mean() - 1) < 4 * np.sqrt(2 / squares.size)
    # streams do not mix: other masks leave dense layers and biases as they were
    assert torch.equal(model.weights[0], gv.build(network, widths, 3).weights[0])
    with pytest.raises(NetworkError, match="masks: expected a list of 3"):
        gv.build(network, widths, 3, masks=masks[:2])
    with pytest.raises(NetworkError, match=r"masks\[1\]: expected booleans"):
        gv.build(network, widths, 3, masks=[masks[0], masks[1].astype(float), masks[2]])
    with pytest.raises(ConnectivityError, match=r"layer 1: masks: expected a mask of shape \(400, 4\)"):
        gv.build(network, widths, 3, masks=[masks[0].T, *masks[1:]])
    with pytest.raises(ConnectivityError, match="layer 1: masks: a connection is kept where W is 0"):
        gv.build(gt.Network([gt.StepGraphon([[0.0, 1.0]])]), (2, 1), 3, masks=[np.ones((1, 2), bool)])


def test_activations_are_counted_before_they_are_read() -> None:
    with pytest.raises(NetworkError, match="expected 1, one between layers, got 1000000000"):
        gv.dense((3, 4, 1), 0, activation=range(10**9))
