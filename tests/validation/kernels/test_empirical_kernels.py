"""Empirical kernels equal torch.func jacobians, whatever the route."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError, NetworkError
from graphon_validation.kernels import grams
from tests.validation.helpers import inputs, jacobian_kernels, layer_kernels, random_model

ROUTES = ("pairs", "gather", "shared")
TOLERANCE = 1e-12


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make one route look cheapest, so that small networks take it."""
    chosen: str = request.param
    for name in ROUTES:
        monkeypatch.setattr(grams._Work, name, 0.0 if name == chosen else 1.0)
    return chosen


def assert_equal_kernels(model: gv.MaskedMLP, count: int = 7, memory: int = 1 << 28) -> None:
    for x2 in (None, inputs(4, model.widths[0], seed=1)):
        x = inputs(count, model.widths[0])
        expected = layer_kernels(model, x, x2)
        found = gv.empirical_kernel(model, x, x2, per_layer=True, memory=memory)
        if model.widths[-1] == 1:
            expected = expected[0]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found.ntk_layer.values, expected, rtol=0, atol=TOLERANCE * scale)
        np.testing.assert_allclose(
            found.ntk.values, expected.sum(-3), rtol=0, atol=TOLERANCE * np.abs(expected.sum(-3)).max()
        )


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_kernel_of_a_drawn_network_is_that_of_jacobians(route: str, activation: str, outputs: int) -> None:
    w = gt.AnalyticGraphon("0.2 + 0.7*u*(1 - v)")
    v = gt.AnalyticGraphon("(0.2 + 0.7*u*(1 - v))*(1.5 + u)")
    network = gt.Network(
        [0.6, gt.Connectivity(w, v), gt.StepGraphon([[1.0, 0.3, 0.9], [0.2, 0.7, 0.1]], [0, 0.3, 1]), w],
        activation=activation,
        weight_variance=[1.0, 2.0, 1.5, 0.7],
        bias_variance=0.3,
        outputs=outputs,
    )
    assert_equal_kernels(gv.build(network, (5, 20, 30, 25, outputs), seed=1))


@pytest.mark.parametrize("densities", [(1.0, 0.9, 0.05, 1.0), (0.2, 0.6, 1.0, 0.5), (0.0, 0.5, 0.5, 0.5)])
@pytest.mark.parametrize("patterns", [None, 3])
def test_dense_sparse_empty_and_repeated_rows(route: str, densities: tuple[float, ...], patterns: int | None) -> None:
    assert_equal_kernels(random_model((5, 20, 30, 25, 2), densities, patterns=patterns))


def test_many_inputs_take_several_tiles(route: str) -> None:
    assert_equal_kernels(random_model((5, 12, 14, 3), (1.0, 0.4, 0.8)), count=2 * grams._TILE + 5)


def test_the_memory_bound_changes_nothing(route: str) -> None:
    assert_equal_kernels(random_model((5, 20, 30, 3), (0.5, 0.4, 0.8)), memory=1 << 10)


def test_the_standard_parameterization() -> None:
    model = random_model((5, 12, 14, 2), (0.6, 0.4, 0.8), "relu", parameterization="standard")
    assert_equal_kernels(model)


@pytest.mark.parametrize("activation", ["gelu", "step", "gaussian", "identity"])
def test_other_activations(activation: str) -> None:
    assert_equal_kernels(random_model((5, 12, 14, 1), (0.6, 0.4, 0.8), activation))


def test_float32_keeps_its_own_precision() -> None:
    model = random_model((5, 40, 40, 1), (1.0, 0.4, 1.0), dtype=torch.float32)
    exact = random_model((5, 40, 40, 1), (1.0, 0.4, 1.0))
    x = inputs(6, 5)
    found, expected = gv.empirical_kernel(model, x), gv.empirical_kernel(exact, x)
    error = np.abs(found.ntk - expected.ntk).max() / np.abs(expected.ntk).max()
    assert 1e-12 < error < 1e-5
    assert found.attrs["dtype"] == "float32"


def test_what_a_pruned_weight_holds_does_not_matter() -> None:
    model = random_model((5, 12, 14, 1), (0.6, 0.4, 0.8))
    x = inputs(6, 5)
    before = gv.empirical_kernel(model, x).ntk
    for mask, weight in zip(model.masks, model.weights, strict=True):
        weight.data[~mask] = 1e9
    xr.testing.assert_equal(before, gv.empirical_kernel(model, x).ntk)
    # the oracle agrees that no gradient reaches them: it would show in their kernel
    assert np.isfinite(jacobian_kernels(model, x)["layers.1.weight"]).all()


def test_dims_and_labels_are_those_of_limit_kernel() -> None:
    x = xr.DataArray(inputs(3, 5), dims=("digit", "pixel"), coords={"digit": [7, 8, 9]})
    x2 = inputs(2, 5, seed=1)
    for outputs in (1, 3):
        network = gt.Network([1.0, 1.0], outputs=outputs)
        model = gv.build(network, (5, 8, outputs), seed=0)
        for other in (None, x2):
            found, limit = gv.empirical_kernel(model, x, other).ntk, gt.limit_kernel(network, x, other).ntk
            assert found.dims == limit.dims
            assert found.shape == limit.shape
            assert set(found.coords) == set(limit.coords)
            xr.testing.assert_equal(found.x, limit.x)
    assert gv.empirical_kernel(model, x, per_layer=True).ntk_layer.dims == ("output", "layer", "x", "x2")


def test_the_kernel_is_symmetric_to_the_last_bit() -> None:
    model = random_model((5, 60, 60, 1), (1.0, 0.4, 1.0))
    kernel = gv.empirical_kernel(model, inputs(150, 5)).ntk.values
    np.testing.assert_array_equal(kernel, kernel.T)


def test_inputs_that_do_not_fit_are_refused() -> None:
    model = random_model((5, 6, 1), (1.0, 1.0))
    with pytest.raises(InputError, match=r"x: the network takes 5 inputs, got 4 columns"):
        gv.empirical_kernel(model, inputs(3, 4))
    with pytest.raises(InputError, match=r"x2: the network takes 5 inputs"):
        gv.empirical_kernel(model, inputs(3, 5), inputs(3, 4))
    with pytest.raises(InputError, match=r"x: .*not finite"):
        gv.empirical_kernel(model, np.full((2, 5), np.nan))


def test_limits_take_tensors() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = gt.Network([1.0, 0.5, 1.0])
    np.testing.assert_array_equal(gt.limit_kernel(network, x).ntk, gt.limit_kernel(network, x.numpy()).ntk)


def test_chosen_outputs_are_those_of_all() -> None:
    model = random_model((5, 20, 30, 4), (1.0, 0.4, 0.6))
    every = gv.empirical_kernel(model, inputs(6, 5), per_layer=True)
    some = gv.empirical_kernel(model, inputs(6, 5), outputs=[3, 1], per_layer=True)
    assert some.output.values.tolist() == [3, 1]
    np.testing.assert_allclose(some.ntk_layer, every.ntk_layer[[3, 1]], rtol=1e-12)
    np.testing.assert_allclose(some.ntk, every.ntk[[3, 1]], rtol=1e-12)
    for wrong in ([], [4], [1, 1], [-1]):
        with pytest.raises(InputError, match=r"outputs: expected different indices in 0..3"):
            gv.empirical_kernel(model, inputs(6, 5), outputs=wrong)


def test_kernels_that_are_not_finite_are_refused() -> None:
    model = random_model((5, 20, 2), (1.0, 1.0))
    with torch.no_grad():
        model.weights[0][0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        gv.empirical_kernel(model, inputs(6, 5))
    with pytest.raises(NetworkError, match="not finite"):
        gv.applicability(model, inputs(6, 5))
    for variance in (-1.0, float("nan"), 0.0):
        with pytest.raises(NetworkError, match="weight_variance: expected a finite number, positive"):
            gv.dense((5, 4, 1), 0, weight_variance=variance)
    with pytest.raises(InputError, match="memory"):
        gv.empirical_kernel(random_model((5, 20, 2), (1.0, 1.0)), inputs(6, 5), memory=-5)


def test_activations_of_the_users_own_are_not_taken_for_others_of_that_name() -> None:
    def gelu(z: np.ndarray) -> np.ndarray:
        return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))

    for own in (gt.Activation(gelu), gt.Activation("z**3", name="relu")):
        with pytest.raises(gt.ActivationError, match="no torch function"):
            gv.build(gt.Network([1.0, 1.0], own), (3, 4, 1), 0)
    assert gv.build(gt.Network([1.0, 1.0], "gelu"), (3, 4, 1), 0).activation == "gelu"


# --- between outputs, and products ------------------------------------------------------------------------------------


def whole_jacobian(model: gv.MaskedMLP, x: np.ndarray) -> list[np.ndarray]:
    """d f_o(x_n) by every parameter, (N, k, parameters), one array per parameter."""
    names = [name for name, one in model.named_parameters() if one.requires_grad]
    found = torch.autograd.functional.jacobian(
        lambda *given: torch.func.functional_call(model, dict(zip(names, given, strict=True)), torch.from_numpy(x)),
        tuple(one.detach() for one in model.parameters() if one.requires_grad),
    )
    return [one.reshape(*one.shape[:2], -1).numpy() for one in found]


@pytest.mark.parametrize("activation", ["relu", "gelu", "erf"])
def test_kernels_between_outputs_are_those_of_jacobians(activation: str) -> None:
    model = random_model((4, 12, 10, 3), (0.9, 0.4, 0.7), activation)
    x, x2 = inputs(5, 4), inputs(3, 4, seed=1)
    one, two = whole_jacobian(model, x), whole_jacobian(model, x2)
    for other, right in ((None, one), (x2, two)):
        want = sum(np.einsum("nap,mbp->abnm", a, b) for a, b in zip(one, right, strict=True))
        found = gv.empirical_kernel(model, x, other, outputs="all", per_layer=True)
        assert found.ntk.dims == ("output", "output2", "x", "x2")
        np.testing.assert_allclose(found.ntk, want, atol=1e-12 * np.abs(want).max())
        np.testing.assert_allclose(found.ntk_layer.sum("layer"), found.ntk, atol=1e-12 * np.abs(want).max())
        own = gv.empirical_kernel(model, x, other).ntk.values
        np.testing.assert_allclose(np.einsum("oonm->onm", found.ntk.values), own, atol=1e-12 * np.abs(want).max())


@pytest.mark.parametrize("activation", ["relu", "gelu", "erf", "tanh"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_products_need_no_kernel(activation: str, outputs: int) -> None:
    model = random_model((4, 12, 10, outputs), (0.9, 0.4, 0.7), activation)
    model.linears[0].weight.requires_grad_(False)
    x, x2 = inputs(5, 4), inputs(3, 4, seed=1)
    for other, count in ((None, 5), (x2, 3)):
        kernel = gv.empirical_kernel(model, x, other, outputs="all").ntk.values
        vectors = inputs(count, outputs, seed=2)
        found = gv.kernel_product(model, x, vectors, other)
        want = np.einsum("abnm,mb->na", kernel, vectors)
        np.testing.assert_allclose(found, want, atol=1e-12 * np.abs(want).max())
    if outputs == 1:
        np.testing.assert_array_equal(gv.kernel_product(model, x, vectors[:, 0], x2), found.values[:, 0])


def test_products_and_outputs_that_do_not_fit_are_refused() -> None:
    model = random_model((4, 12, 3), (0.9, 0.4))
    with pytest.raises(InputError, match=r"vectors: expected real numbers of shape \(5, 3\)"):
        gv.kernel_product(model, inputs(5, 4), np.ones(5))
    with pytest.raises(InputError, match="outputs: expected indices of outputs"):
        gv.empirical_kernel(model, inputs(5, 4), outputs="each")
