"""limit_kernel against the table of problems, the plain loops of THEORY §3, and the facts the theory states."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.recursion import Recursion
from tests.problem_parts import Problem
from tests.problems import BLACK_BOXES, PROBLEMS, SLOW
from tests.reference import Layer, limit_reference, relative_error

RTOL = 1e-10  # limit_kernel's default


def _inputs(n: int = 6, d: int = 5, seed: int = 0) -> NDArray[np.float64]:
    x = np.random.default_rng(seed).standard_normal((n, d))
    x[-1] = x[0]
    x[-2] = -x[1]
    x[-3] = 0.0
    return x


def _assert_resolved(problem: Problem, kernel: xr.Dataset) -> None:
    error = max(relative_error(kernel[key].values, getattr(problem, key)).max() for key in ("nngp", "ntk"))
    assert error <= RTOL
    assert error <= kernel.attrs["quadrature_error"]


def cases(problems: Sequence[Problem]) -> list[Any]:
    return [pytest.param(p, id=p.name, marks=[pytest.mark.slow] if p.name in SLOW else []) for p in problems]


@pytest.mark.parametrize("problem", cases(PROBLEMS))
def test_table_of_problems(problem: Problem) -> None:
    kernel = gt.limit_kernel(problem.network(), problem.x)
    _assert_resolved(problem, kernel)
    assert len(kernel.attrs["nodes"]) == problem.network().depth - 1


@pytest.mark.parametrize("problem", cases(BLACK_BOXES))
def test_black_boxes_are_right_or_refused(problem: Problem) -> None:
    """A QuadratureError that names the layer is an answer too; a wrong number is not."""
    kernel: xr.Dataset | None = None
    with contextlib.suppress(gt.QuadratureError):
        kernel = gt.limit_kernel(problem.network(), problem.x)
    if kernel is None:
        with pytest.raises(gt.QuadratureError, match="layer"):
            gt.limit_kernel(problem.network(), problem.x)
    else:
        _assert_resolved(problem, kernel)


@pytest.mark.parametrize("problem", [pytest.param(p, id=p.name) for p in PROBLEMS if p.network().depth > 1][::4])
def test_layer_contributions(problem: Problem) -> None:
    kernel = gt.limit_kernel(problem.network(), problem.x, contributions=True)
    total = kernel.ntk_layer.sum("layer")
    assert relative_error(total.values, kernel.ntk.values).max() <= 1e-14
    scale = np.sqrt(np.einsum("...ii->...i", problem.ntk))
    bound = scale[..., :, None] * scale[..., None, :]
    assert (np.abs(kernel.ntk_layer.values - problem.ntk_layer) <= 1e-10 * bound).all()


@pytest.mark.parametrize("activation", ["relu", "erf", "identity"])
def test_naive_loops_of_an_asymmetric_network(activation: str) -> None:
    """Two hidden layers, V != W everywhere, unequal asymmetric blocks, biases, two outputs."""
    rng = np.random.default_rng(3)
    edges = [np.array([0, 0.2, 0.5, 1.0]), np.array([0, 0.7, 1.0])]
    sizes = [(3, 5), (2, 3), (2, 2)]
    masks = [rng.uniform(0.1, 0.9, s) for s in sizes]
    variances = [m * rng.uniform(0.5, 3, m.shape) for m in masks]
    rows, columns = [edges[0], edges[1], None], [None, edges[0], edges[1]]
    layers = [
        gt.Connectivity(gt.StepGraphon(m, u, v), gt.StepGraphon(s, u, v))
        for m, s, u, v in zip(masks, variances, rows, columns, strict=True)
    ]
    scales = (1.5, 2.0, 0.7)
    network = gt.Network(layers, activation, scales, 0.3, outputs=2)
    x, x2 = _inputs(), _inputs(seed=1)[:4]
    kernel = gt.limit_kernel(network, x, x2, contributions=True)

    weights = [np.full(5, 0.2), np.diff(edges[0]), np.diff(edges[1])]
    loops = [Layer(mask=m * w, variance=v * w) for m, v, w in zip(masks, variances, weights, strict=True)]
    expected = limit_reference(loops, x, x2, activation=activation, weight_variance=scales, bias_variance=0.3)
    for key in ("nngp", "ntk", "ntk_layer"):
        np.testing.assert_allclose(kernel[key].values, getattr(expected, key), rtol=1e-12, atol=1e-14)


def test_magnitude_against_random_pruning() -> None:
    """All layers pruned, no bias, ReLU: NTK ratio (V / W)^(L - 1), THEORY §3."""
    x = _inputs()
    for depth in (2, 3, 5):
        magnitude = gt.limit_kernel(gt.Network([gt.magnitude_pruning(0.2)] * depth), x).ntk.values
        random = gt.limit_kernel(gt.Network([gt.random_pruning(0.2)] * depth), x).ntk.values
        np.testing.assert_allclose(magnitude, 3.2491016203854452 ** (depth - 1) * random, rtol=1e-13)
        dense = gt.limit_kernel(gt.Network([1.0] * depth), x).ntk.values
        np.testing.assert_allclose(random, 0.2**depth * dense, rtol=1e-13)


def test_relabelling_a_hidden_layer_changes_nothing() -> None:
    """Columns of W^{l+1} and rows of W^l permuted together."""
    rng = np.random.default_rng(5)
    first, second, last = rng.uniform(size=(4, 3)), rng.uniform(size=(2, 4)), rng.uniform(size=(1, 2))
    order = rng.permutation(4)
    x = _inputs(d=3)
    plain = gt.limit_kernel(gt.Network([first, second, last], "erf", 1.5, 0.1), x)
    mixed = gt.limit_kernel(gt.Network([first[order], second[:, order], last], "erf", 1.5, 0.1), x)
    np.testing.assert_allclose(mixed.ntk.values, plain.ntk.values, rtol=1e-14)


def test_refining_a_step_graphon_changes_nothing() -> None:
    coarse = np.array([[0.9, 0.1], [0.2, 0.6]])
    fine = np.kron(coarse, np.ones((3, 2)))
    x = _inputs()
    a = gt.limit_kernel(gt.Network([1.0, coarse, coarse.T, 1.0], bias_variance=0.1), x)
    b = gt.limit_kernel(gt.Network([1.0, fine, coarse.T, 1.0], bias_variance=0.1), x)
    np.testing.assert_allclose(b.ntk.values, a.ntk.values, rtol=1e-14)


def test_step_approximations_converge_at_second_order() -> None:
    """Cell averages of a smooth graphon: the kernel's error falls like n^-2."""
    smooth = gt.AnalyticGraphon("exp(-2*(u - 0.3*v)**2)")
    x = _inputs()
    exact = gt.limit_kernel(gt.Network([1.0, smooth, smooth, 1.0], bias_variance=0.1), x).ntk.values
    errors = []
    for n in (4, 8, 16, 32):
        step = smooth.to_step(n)
        errors.append(
            np.abs(gt.limit_kernel(gt.Network([1.0, step, step, 1.0], bias_variance=0.1), x).ntk - exact).max()
        )
    rates = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(rates, 2.0, atol=0.1)


@pytest.mark.parametrize("mask", ["min(u, v)", "abs(u - v)", "Heaviside(u - v)"])
def test_kinked_graphons_converge_spectrally(mask: str) -> None:
    """Product integration: each looser tolerance is met with room, and nodes grow like the digits asked for."""
    network = gt.Network([1.0, "0.2 + u/2", mask, 1.0], "erf", bias_variance=0.1)
    x = _inputs()
    best = gt.limit_kernel(network, x, rtol=1e-13).ntk.values
    nodes, errors = [], []
    for rtol in (1e-2, 1e-5, 1e-8, 1e-11):
        kernel = gt.limit_kernel(network, x, rtol=rtol)
        errors.append(relative_error(kernel.ntk.values, best).max())
        nodes.append(max(kernel.attrs["nodes"]))
        assert errors[-1] <= max(rtol, 1e-13)
    assert nodes[-1] <= 80  # an algebraic rule of order 2 would need 10^5


def test_outputs_have_their_own_rows() -> None:
    readout = np.array([[0.1, 0.9], [0.8, 0.3], [0.5, 0.5]])
    hidden = np.array([[0.9, 0.1], [0.2, 0.6]])
    x = _inputs()
    together = gt.limit_kernel(gt.Network([1.0, hidden, readout], bias_variance=0.1, outputs=3), x)
    assert together.ntk.dims == ("output", "x", "x2")
    assert together["mean"].dims == ("output", "x")
    for o in range(3):
        alone = gt.limit_kernel(gt.Network([1.0, hidden, readout[o : o + 1]], bias_variance=0.1), x)
        np.testing.assert_allclose(together.ntk.values[o], alone.ntk.values, rtol=1e-14)


def test_cross_kernel_agrees_with_the_square_one() -> None:
    network = gt.Network([1.0, "min(u, v)", "0.3 + u*v/2"], bias_variance=0.1)
    x = np.random.default_rng(0).standard_normal((70, 4))
    square, cross = gt.limit_kernel(network, x), gt.limit_kernel(network, x, x)
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(cross[key].values, square[key].values, rtol=1e-13)
        part = gt.limit_kernel(network, x[:9], x[5:])[key].values
        np.testing.assert_allclose(part, square[key].values[:9, 5:], rtol=1e-9)


def test_threads_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 7))
    blocks = rng.uniform(0.1, 0.9, (5, 5))
    network = gt.Network([blocks[:, :1], blocks, blocks[:1]], "erf", bias_variance=0.2)
    one, two = (gt.limit_kernel(network, x, threads=n) for n in (1, 2))
    for key in ("nngp", "ntk"):
        np.testing.assert_array_equal(one[key].values, two[key].values)
        np.testing.assert_array_equal(one[key].values, one[key].values.T)


def test_duplicates_are_exact_and_kernels_positive() -> None:
    x = np.random.default_rng(1).standard_normal((300, 6))
    x[100:200] = x[:100]
    kernel = gt.limit_kernel(gt.Network([1.0, "exp(-2*(u-v)**2)", 1.0]), x)
    for key in ("nngp", "ntk"):
        k = kernel[key].values
        np.testing.assert_array_equal(np.diag(k[:100, 100:200]), np.diag(k)[:100])
        np.testing.assert_allclose(k[:100, 200:], k[100:200, 200:], rtol=1e-14)
        assert np.linalg.eigvalsh(k)[0] >= -1e-12 * np.trace(k)


def test_zero_inputs_and_dead_layers_give_zeros_not_nan() -> None:
    x = np.array([[0.0, 0.0], [1.0, 2.0], [-1.0, -2.0], [2.0, 4.0]])
    kernel = gt.limit_kernel(gt.Network([1.0, "max(0, u - 1/2)", 1.0]), x)
    assert np.isfinite(kernel.ntk.values).all()
    assert not kernel.ntk.values[0].any()
    dead = gt.limit_kernel(gt.Network([1.0, 0.0, 1.0]), x)
    assert not dead.ntk.values.any()


def test_collinear_inputs_are_coincident() -> None:
    """ReLU without bias is homogeneous: Theta(x, 3x) = 3 Theta(x, x), with no loss at |rho| = 1."""
    x = np.random.default_rng(2).standard_normal((5, 64))
    kernel = gt.limit_kernel(gt.Network([1.0, 0.4, 0.7, 1.0]), x, 3 * x)
    own = gt.limit_kernel(gt.Network([1.0, 0.4, 0.7, 1.0]), x)
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(np.diag(kernel[key].values), 3 * np.diag(own[key].values), rtol=1e-14)


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_float32_keeps_its_stated_error(bias: float) -> None:
    x = np.random.default_rng(6).standard_normal((400, 8))
    blocks = np.random.default_rng(7).uniform(0.1, 0.9, (6, 6))
    network = gt.Network([1.0, blocks, blocks.T, 1.0], bias_variance=bias)
    single, double = (gt.limit_kernel(network, x, dtype=t) for t in (np.float32, np.float64))
    for key in ("nngp", "ntk"):
        assert single[key].dtype == np.float32
        error = relative_error(single[key].values, double[key].values).max()
        assert 1e-12 < error <= single.attrs["quadrature_error"] <= 1e-4
        assert error <= 2e-6
    assert {single.attrs["route"], double.attrs["route"]} == {"general" if bias else "zonal"}
    with pytest.raises(gt.InputError, match="dtype: expected float64 or float32, got float16"):
        gt.limit_kernel(network, x, dtype=np.float16)


def test_an_interrupt_stops_the_work_within_a_second() -> None:
    code = (
        "import signal, numpy as np, graphon_theory as gt\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job inherits none
        "x = np.random.default_rng(0).standard_normal((20000, 16))\n"
        "b = np.random.default_rng(0).uniform(.1, .9, (64, 64))\n"
        "net = gt.Network([b, b, b, 1.0], 'erf', bias_variance=.1)\n"
        "gt.limit_kernel(net, x[:50])\n"
        "print('ready', flush=True)\n"
        "gt.limit_kernel(net, x)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(2.0)  # well inside the work, which takes minutes
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in error


def test_low_rank_input_layer_keeps_coincident_inputs() -> None:
    """64 inputs under a smooth graphon: a few Gram matrices serve all nodes, and collinear inputs stay collinear."""
    x = np.random.default_rng(4).standard_normal((12, 64))
    x[1], x[2], x[3] = -x[0], 3 * x[0], x[4]
    network = gt.Network(["exp(-(u - v)**2/2)", "exp(-2*(u - v)**2)", 1.0], bias_variance=0.0)
    got = gt.limit_kernel(network, x)
    grid = discretise(network, x, RTOL)
    assert Recursion(grid.operators, network.activation, x).input_step.layer.terms > 1  # the low rank is used
    loops = [Layer(mask=op.variance.tolist()) for op in grid.operators]
    expected = limit_reference(loops, x, activation="relu", weight_variance=1.0)
    collinear = np.zeros((12, 12), dtype=bool)  # float loops, without a notion of coincidence, lose half the digits
    collinear[:3, :3] = True
    for key in ("nngp", "ntk"):
        k = got[key].values
        assert relative_error(k, getattr(expected, key)[0])[~collinear].max() <= 1e-12
        np.testing.assert_allclose(k[0, 2], 3 * k[0, 0], rtol=1e-13)
        np.testing.assert_allclose(k[1, 2], 3 * k[0, 1], rtol=1e-13)


def test_standard_parameterization_rescales_each_layer() -> None:
    masks = ["0.2 + 0.5*u*v", "min(u, v)", 0.6]
    x = _inputs(d=4)
    scales, bias, widths = (1.5, 2.0, 0.8), 0.25, (4, 300, 500)
    ntk = gt.limit_kernel(gt.Network(masks, "erf", scales, 0.0), x, contributions=True)
    standard = gt.limit_kernel(gt.Network(masks, "erf", scales, 0.0, "standard", widths), x, contributions=True)
    for layer in range(3):
        factor = widths[layer] / scales[layer]
        np.testing.assert_allclose(standard.ntk_layer[layer], factor * ntk.ntk_layer[layer], rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(standard.nngp.values, ntk.nngp.values)
    # the bias term alone: the output bias adds 1 to the NTK in standard and sigma_b^2 in NTK parameterization
    one = gt.Network([masks[0]], "erf", scales[0], bias, "standard", widths[:1])
    free = gt.Network([masks[0]], "erf", scales[0], 0.0, "standard", widths[:1])
    np.testing.assert_allclose(gt.limit_kernel(one, x).ntk - gt.limit_kernel(free, x).ntk, 1.0, rtol=1e-13)


def test_density_integrates_to_the_layers_weight_term() -> None:
    network = gt.Network([1.0, "min(u, v)", gt.magnitude_pruning(0.3)], "relu", 2.0, 0.0)
    x = _inputs()
    shares = gt.limit_kernel(network, x, contributions=True).ntk_layer
    for layer in (1, 2, 3):
        density = gt.kernel_density(network, x[0], x[1], layer)
        total = (density.density * density.u_weight * density.v_weight).sum()
        np.testing.assert_allclose(float(total), shares.values[layer - 1, 0, 1], rtol=1e-12)
    middle = gt.kernel_density(network, x[0], x[0], 2)
    assert middle.density.dims == ("u", "v")
    assert float(middle.density.isel(u=0).max()) < float(middle.density.isel(u=-1).max())  # hubs at large u


def test_labels_come_through() -> None:
    x = xr.DataArray(np.eye(3), dims=("digit", "pixel"), coords={"digit": [10, 20, 30]})
    kernel = gt.limit_kernel(gt.Network([0.5, 0.5], bias_variance=0.1), x)
    assert kernel.ntk.dims == ("x", "x2")
    assert kernel.x.values.tolist() == [10, 20, 30]
    assert gt.Network.from_toml(kernel.attrs["network"]).depth == 2
    assert kernel.attrs["graphon_theory"] == gt.__version__


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[np.nan, 1.0]]), r"x: 1 of 2 values are not finite"),
        (np.ones(3), r"x: expected shape \(samples, inputs\), got shape \(3,\)"),
        (np.ones((2, 3, 4)), "flatten all but the first axis"),
        (np.ones((0, 3)), "at least one sample"),
        (np.array([["a"]]), "expected real numbers"),
        (np.full((1, 2), 1e200), "overflow"),
    ],
)
def test_bad_inputs_are_refused(x: NDArray[np.generic], message: str) -> None:
    with pytest.raises(gt.InputError, match=message):
        gt.limit_kernel(gt.Network([0.5, 0.5]), x)


def test_data_and_network_must_fit() -> None:
    x = np.ones((2, 3))
    with pytest.raises(gt.InputError, match=r"x2: expected 3 inputs like x, got shape \(2, 4\)"):
        gt.limit_kernel(gt.Network([0.5, 0.5]), x, np.ones((2, 4)))
    with pytest.raises(gt.NetworkError, match="n_0 must equal the number of inputs"):
        gt.limit_kernel(gt.Network([0.5, 0.5], parameterization="standard", widths=(4, 100)), x)
    with pytest.raises(gt.InputError, match="rtol"):
        gt.limit_kernel(gt.Network([0.5]), x, rtol=0.0)
    with pytest.raises(gt.NetworkError, match="expected a Network"):
        gt.limit_kernel([0.5, 0.5], x)  # type: ignore[arg-type]
    with pytest.raises(gt.NetworkError, match=r"layer: expected 1\.\.2, got 3"):
        gt.kernel_density(gt.Network([0.5, 0.5]), x[0], x[0], 3)


def test_noise_is_refused_naming_the_layer() -> None:
    """A graphon that is a different number at every call has no integral."""
    rng = np.random.default_rng(0)
    noise = gt.FunctionGraphon(lambda u, v: rng.random(u.shape))
    with pytest.raises(gt.QuadratureError, match="layer 2"):
        gt.limit_kernel(gt.Network([1.0, noise, 1.0]), _inputs())


@pytest.mark.slow
def test_unreachable_tolerance_names_the_hint() -> None:
    def rough(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        total = sum(0.5**k * np.abs(np.sin(2.0**k * np.pi * u)) for k in range(24))
        return np.asarray(total * (0.4 + 0.1 * v))

    with pytest.raises(gt.QuadratureError, match=r"layer 2.*(diagonal=True|u_edges)"):
        gt.limit_kernel(gt.Network([1.0, gt.FunctionGraphon(rough), 1.0]), _inputs(), rtol=1e-12)


def test_contributions_of_coincident_inputs_add_up() -> None:
    """Cdot is steepest at rho = 1: the adjoint pass must see identical inputs as identical."""
    x = np.random.default_rng(6).standard_normal((5, 7))
    x[3] = x[0]
    got = gt.limit_kernel(
        gt.Network(["exp(-(u - v)**2)", "exp(-2*(u - v)**2)", "Min(u, v)", 1.0]), x, contributions=True
    )
    np.testing.assert_allclose(got["ntk_layer"].sum("layer"), got["ntk"], rtol=2e-14)


@pytest.mark.parametrize(
    ("network", "options", "size", "message"),
    [
        (gt.Network([1.0] * 100, weight_variance=1e4), {}, 1.0, "layer 81: the tangent kernel reaches"),
        (gt.Network([1.0] * 100, weight_variance=1e-4), {}, 1.0, "layer 70: the variance of signals falls to"),
        (gt.Network([0.5] * 60, "erf", weight_variance=1e-6), {}, 1.0, "layer 49: the variance of signals falls"),
        (gt.Network([0.5] * 20, weight_variance=200.0), {"dtype": np.float32}, 1.0, "or compute in float64"),
        (gt.Network([1.0, 1.0]), {}, 1e-160, "underflows when squared"),
    ],
)
def test_what_no_number_holds_is_refused_by_layer(
    network: gt.Network, options: dict[str, Any], size: float, message: str
) -> None:
    x = size * np.random.default_rng(0).standard_normal((4, 3))
    with pytest.raises((gt.InputError, gt.NetworkError), match=message):
        gt.limit_kernel(network, x, **options)
