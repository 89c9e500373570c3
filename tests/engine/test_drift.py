"""Drift D: means through the recursion against plain loops, with duals about non-zero means by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation
from tests.reference import Layer, limit_reference, weighted
from tests.reference_duals import FLOAT, Duals

FloatArray = NDArray[np.float64]
Function = Callable[[Any], Any]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
FUNCTIONS: dict[str, tuple[Function, Function, tuple[float, ...]]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, (0.0,)),
    "abs": (np.abs, np.sign, (0.0,)),
    "step": (lambda z: (z > 0) * 1.0, lambda z: 0.0 * z, (0.0,)),
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-z * z), ()),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2, ()),
    "sin": (np.sin, np.cos, ()),
    "gaussian": (lambda z: np.exp(-z * z / 2), lambda z: -z * np.exp(-z * z / 2), ()),
    "identity": (lambda z: z, np.ones_like, ()),
}


def rule(splits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and Gaussian weights (rows, n) on unit panels of [-9, 9], split at each row's ``splits`` (rows, k)."""
    units = np.broadcast_to(np.linspace(-9.0, 9.0, 19), (len(splits), 19))
    edges = np.sort(np.concatenate([units, np.clip(splits, -9.0, 9.0)], axis=1), axis=1)
    half, middle = np.diff(edges)[:, :, None] / 2, (edges[:, 1:] + edges[:, :-1])[:, :, None] / 2
    z = (middle + half * NODES).reshape(len(splits), -1)
    return z, (half * WEIGHTS).reshape(len(splits), -1) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def duals(name: str) -> Duals:
    """E phi and E phi phi' about any means, f first and f' given f; panels split at the kinks and around them."""
    phi, slope, kinks = FUNCTIONS[name]
    places = np.array(kinks)

    def mean(_: Any, mu: float, q: float) -> float:
        z, w = rule(((places - mu) / np.sqrt(q))[None])
        return float((phi(mu + np.sqrt(q) * z) * w).sum())

    def pair(_: Any, mu1: float, mu2: float, q: tuple[float, float, float]) -> tuple[float, float]:
        q12, q11, q22 = q
        s1, rest = np.sqrt(q11), np.sqrt(max(q22 - q12 * q12 / q11, 0.0))
        sign = np.sign(q12)
        if rest < 1e-7 * np.sqrt(q22):
            z, w = rule(np.concatenate([(places - mu1) / s1, sign * (places - mu2) / np.sqrt(q22)])[None])
            other = mu2 + sign * np.sqrt(q22) * z
            return tuple(float((g(mu1 + s1 * z) * g(other) * w).sum()) for g in (phi, slope))  # type: ignore[return-value]
        near = (places - mu2) / (q12 / s1) if q12 else places[:0]
        width = rest / max(abs(q12 / s1), 1e-9)
        around = (near[:, None] + width * np.array([-6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6.0])).ravel()
        z, w = rule(np.concatenate([(places - mu1) / s1, around])[None])
        z, w = z[0], w[0]
        centre = mu2 + q12 / s1 * z
        y, v = rule((places - centre[:, None]) / rest)
        inner = centre[:, None] + rest * y
        return tuple(float((g(mu1 + s1 * z) * w * (g(inner) * v).sum(1)).sum()) for g in (phi, slope))  # type: ignore[return-value]

    return Duals(mean, pair)


# --- duals about means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_duals_about_means(name: str) -> None:
    rng = np.random.default_rng(3)
    activation, reference = as_activation(name), duals(name)
    for rho in (0.0, 0.4, -0.8, 0.97, 1.0, -1.0):
        q11, q22 = rng.uniform(0.2, 3.0, 2)
        m1, m2 = rng.normal(0, 1.2, 2)
        q = (float(rho * np.sqrt(q11 * q22)), float(q11), float(q22))
        got, want = activation.duals(*q, m1, m2), reference.pair(FLOAT, m1, m2, q)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-12 * max(1.0, q11, q22))
        assert float(activation.mean(m1, q11)) == pytest.approx(reference.mean(FLOAT, m1, q11), abs=1e-13)


@pytest.mark.parametrize("name", [*FUNCTIONS, "gelu", "silu"])
def test_sure_inputs_about_means(name: str) -> None:
    """Zero variance: f = mu exactly."""
    activation = as_activation(name)
    c, dot = activation.duals(0.0, 0.0, 1.3, 0.4, -0.2)
    assert float(c) == pytest.approx(float(activation(0.4)) * float(activation.mean(-0.2, 1.3)), rel=1e-12, abs=1e-14)
    assert np.isfinite(dot)
    assert float(activation.duals(0.0, 0.0, 0.0, 0.4, -0.2)[0]) == pytest.approx(
        float(activation(0.4)) * float(activation(-0.2)), rel=1e-13, abs=1e-14
    )


# --- the recursion ----------------------------------------------------------------------------------------------------

X = np.random.default_rng(11).standard_normal((3, 4))
MASKS = ([[0.9, 0.4, 0.6, 0.8], [0.3, 0.7, 1.0, 0.2]], [[0.8, 0.3], [0.5, 0.9], [0.2, 0.6]], [[0.7, 0.4, 0.9]])
VARIANCES = ([[1.1, 0.6, 0.7, 0.8], [0.5, 0.7, 1.4, 0.3]], [[1.0, 0.4], [0.9, 0.9], [0.2, 0.7]], [[0.7, 0.5, 0.8]])
DRIFTS = ([[0.5, -0.7, 0.2, 0.9], [-0.6, 0.8, 0.1, 0.3]], [[0.8, -0.5], [-0.3, 0.4], [0.2, 1.0]], [[0.3, -0.8, 0.5]])


def step_network(activation: str, drifts: tuple[Any, ...] = DRIFTS, **options: Any) -> gt.Network:
    layers = [gt.Connectivity(*three) for three in zip(MASKS, VARIANCES, drifts, strict=True)]
    return gt.Network(layers, activation, (2.0, 1.5, 1.2), **options)


def loops(drifts: tuple[Any, ...] = DRIFTS) -> list[Layer]:
    widths = (4, 2, 3)
    weights = [[1 / n] * n for n in widths]
    return [
        Layer(weighted(m, w), weighted(v, w), None if d is None else weighted(d, w))
        for m, v, d, w in zip(MASKS, VARIANCES, drifts, weights, strict=True)
    ]


@pytest.mark.parametrize("bias", [0.0, 0.15])
@pytest.mark.parametrize("activation", ["relu", "erf", "tanh", "abs", "sin"])
def test_naive_loops_with_asymmetric_step_drift(activation: str, bias: float) -> None:
    network = step_network(activation, bias_variance=bias)
    got = gt.limit_kernel(network, X, contributions=True)
    want = limit_reference(
        loops(), X, activation=duals(activation), weight_variance=(2.0, 1.5, 1.2), bias_variance=bias
    )
    for key, values in (("nngp", want.nngp), ("ntk", want.ntk)):
        np.testing.assert_allclose(got[key], values[0], rtol=0, atol=1e-11 * np.abs(values).max())
    np.testing.assert_allclose(got["mean"], want.mean[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["ntk_layer"], want.ntk_layer[:, 0], rtol=0, atol=1e-11 * np.abs(want.ntk).max())
    np.testing.assert_allclose(got["ntk_layer"].sum("layer"), got["ntk"], rtol=1e-12)


def test_every_activation_carries_drift() -> None:
    """All names go through the recursion with drift, agree for (x, x) and (x, x2), and are symmetric."""
    for name in (
        "leaky_relu",
        "identity",
        "step",
        "cos",
        "exp",
        "gaussian",
        "gelu",
        "sigmoid",
        "silu",
        "softplus",
        "elu",
    ):
        network = step_network(name, bias_variance=0.1)
        square, cross = gt.limit_kernel(network, X), gt.limit_kernel(network, X, X[:2] + 0.0)
        for key in ("nngp", "ntk"):
            np.testing.assert_allclose(square[key], square[key].T, rtol=1e-12)
            np.testing.assert_allclose(cross[key], square[key][:, :2], rtol=1e-10)
        assert square["ntk"].values[0, 0] > 0


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
def test_naive_loops_with_analytic_drift(activation: str) -> None:
    """Asymmetric smooth D, V and W, the loops on Gauss-Legendre nodes of their own."""
    mask, variance, drift = "exp(-(u + 2*v)/2)", "exp(-u)*(1 + v)/2", "u - v**2 + 1/4"
    network = gt.Network(
        [gt.Connectivity(1.0, drift="u - v"), gt.Connectivity(mask, variance, drift), 1.0],
        activation,
        bias_variance=0.05,
    )
    got = gt.limit_kernel(network, X)
    z, w = np.polynomial.legendre.leggauss(10)
    u, w = (z + 1) / 2, (w / 2).tolist()
    a, b = u[:, None], u[None, :]
    cells = (np.arange(4) + 0.5) / 4
    first = Layer(weighted(np.ones((10, 4)), [0.25] * 4), None, weighted(a - cells, [0.25] * 4))
    middle = Layer(
        weighted(np.exp(-(a + 2 * b) / 2), w),
        weighted(np.exp(-a) * (1 + b) / 2, w),
        weighted(a - b**2 + 0.25, w),
    )
    last = Layer(weighted(np.ones((1, 10)), w))
    want = limit_reference(
        [first, middle, last], X[:2], activation=duals(activation), weight_variance=2.0, bias_variance=0.05
    )
    for key, values in (("nngp", want.nngp), ("ntk", want.ntk)):
        error = np.abs(got[key].values[:2, :2] - values[0]) / np.abs(values).max()
        assert error.max() <= max(1e-10, got.attrs["quadrature_error"])


def test_no_drift_is_the_centred_network() -> None:
    """D = 0 given as such takes the centred path to the last bit; a vanishing D tends to it."""
    zero = tuple(np.zeros_like(np.array(d)) for d in DRIFTS)
    plain = gt.Network([gt.Connectivity(m, v) for m, v in zip(MASKS, VARIANCES, strict=True)], "relu", (2.0, 1.5, 1.2))
    small = tuple(1e-9 * np.array(d) for d in DRIFTS)
    centred = gt.limit_kernel(plain, X)
    for drifts, tolerance in ((zero, 0.0), (small, 1e-8)):
        got = gt.limit_kernel(step_network("relu", drifts), X)
        for key in ("nngp", "ntk"):
            np.testing.assert_allclose(got[key], centred[key], rtol=tolerance, atol=0)
    assert not centred["mean"].any()


def test_identical_rows_and_more_threads() -> None:
    x = np.concatenate([X, X[:1], 2 * X[:1], -X[:1], 0 * X[:1]])
    network = step_network("relu", bias_variance=0.1)
    one, two = (gt.limit_kernel(network, x, threads=n) for n in (1, 2))
    for key in ("nngp", "ntk", "mean"):
        np.testing.assert_array_equal(one[key], two[key])
        assert np.isfinite(one[key]).all()
    assert one.ntk.values[0, 3] == one.ntk.values[0, 0] == one.ntk.values[3, 3]
    np.testing.assert_array_equal(one.ntk.values[3], one.ntk.values[0])


def test_kernel_density_with_drift() -> None:
    network = step_network("tanh", bias_variance=0.1)
    parts = gt.limit_kernel(network, X, contributions=True)["ntk_layer"]
    for layer in (1, 2, 3):
        density = gt.kernel_density(network, X[0], X[1], layer)
        total = (density["density"] * density["u_weight"] * density["v_weight"]).sum()
        without = gt.kernel_density(gt.Network(network.layers, "tanh", (2.0, 1.5, 1.2), 0.1), X[0], X[1], layer)
        assert float(total) == pytest.approx(
            float((without["density"] * without["u_weight"] * without["v_weight"]).sum()), rel=1e-14
        )
        assert float(total) <= float(parts[layer - 1, 0, 1]) + abs(float(parts[layer - 1, 0, 1]))


def test_a_mean_beyond_the_second_moment_is_refused() -> None:
    network = gt.Network([gt.Connectivity(0.5, 0.5, drift=1.5), 1.0])
    with pytest.raises(
        gt.ConnectivityError, match=r"layer 1: drift: D\^2 must not exceed d W V .* got D = 1.5 at input 0"
    ):
        gt.limit_kernel(network, X)
