"""The variance map of all positions, its fixed points and radii, against loops and known numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation
from graphon_theory.signals.block_maps import Moments

STEP = gt.StepGraphon([[0.9, 0.1, 0.4], [0.3, 0.8, 0.2]], [0, 0.3, 1], [0, 0.2, 0.6, 1])  # rows and columns unlike
OWN = gt.Connectivity(STEP, gt.StepGraphon(1.5 * STEP.values**2, STEP.u_edges, STEP.v_edges))


def second_moment(name: str, k: float, derivative: bool = False) -> float:
    """E[phi(sqrt(k) z)^2] by quadrature on both half lines."""
    phi = as_activation(name).derivative if derivative else as_activation(name)

    def integrand(z: float) -> float:
        return float(phi(np.array([math.sqrt(k) * z]))[0] ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi))

    return float(quad(integrand, -12, 0, epsabs=1e-14)[0] + quad(integrand, 0, 12, epsabs=1e-14)[0])


@pytest.mark.parametrize("name", ["erf", "relu", "gelu", "tanh"])
def test_forward_map_equals_loops(name: str) -> None:
    network = gt.Network([gt.Connectivity(0.5, 0.7), OWN, STEP, 1.0], name, [1.5, 2.0, 3.0, 1.0], 0.1)
    q = 0.8
    found = gt.criticality(network, q, positions=[0.1, 0.5, 0.9])
    below = dict.fromkeys((0.1, 0.4, 0.8), 1.5 * 0.7 * q + 0.1)
    np.testing.assert_allclose(found.variance.values[0], 1.5 * 0.7 * q + 0.1, rtol=1e-14)
    lengths = {0.1: 0.2, 0.4: 0.4, 0.8: 0.4}  # of the column blocks, by a position in each
    for layer, sigma, graphon in ((1, 2.0, OWN.variance), (2, 3.0, STEP)):
        rows = {}
        for u in (0.1, 0.5, 0.9):
            total = 0.0
            # the layer below is constant on the row blocks [0, .3], [.3, 1]: cut the columns there too
            for low, high in ((0, 0.2), (0.2, 0.3), (0.3, 0.6), (0.6, 1)):
                v = (low + high) / 2
                k = below[min(below, key=lambda key: abs(key - v))] if layer == 1 else below[0.1 if v < 0.3 else 0.5]
                total += (high - low) * float(graphon(u, v)) * second_moment(name, k)
            rows[u] = sigma * total + 0.1
        np.testing.assert_allclose(found.variance.values[layer], list(rows.values()), rtol=1e-9)
        below = rows
    assert sum(lengths.values()) == 1
    kernel = gt.limit_kernel(network, np.full((1, 3), math.sqrt(q)))
    assert found.attrs["output_variance"] == pytest.approx(float(kernel.nngp[0, 0]), rel=1e-9)


def test_dense_relu_is_critical_at_two() -> None:
    found = gt.criticality(gt.Network([1.0] * 4), 0.7)
    np.testing.assert_allclose(found.variance, 1.4, rtol=1e-14)
    np.testing.assert_allclose(found.gradient, 1.0, rtol=1e-14)
    np.testing.assert_allclose(found.chi, 1.0, rtol=1e-14)
    np.testing.assert_allclose(found.jacobian_radius, 1.0, rtol=1e-14)
    np.testing.assert_allclose(found.fixed_point, 1.4, rtol=1e-12)
    assert found.variance.dims == ("layer", "u")
    assert found.fixed_point.dims == ("repeated", "u")
    assert found.layer.values.tolist() == [1, 2, 3]
    assert found.repeated.values.tolist() == [2, 3]


@pytest.mark.parametrize(("sigma", "limit"), [(1.0, 0.0), (8.0, np.inf)])
def test_bias_free_relu_dies_or_explodes_at_the_spectral_radius(sigma: float, limit: float) -> None:
    """min(u, v) has the largest eigenvalue 4 / pi^2 (THEORY §6), so chi = sigma_w^2 2 / pi^2."""
    found = gt.criticality(gt.Network([1.0, "min(u, v)", 1.0], "relu", sigma))
    assert float(found.chi[0]) == pytest.approx(2 * sigma / math.pi**2, rel=1e-12)
    assert (found.fixed_point == limit).all()


def test_bias_and_homogeneous_is_a_linear_equation() -> None:
    """K = b + (sigma_w^2 / 2) int u v K(v) dv for V = u v: K = b + u c, c = s (b/2 + c/3)."""
    found = gt.criticality(gt.Network([1.0, "u*v", 1.0], bias_variance=0.3), positions=[0.25, 1.0])
    c = 0.3 / 2 / (1 - 1 / 3)
    np.testing.assert_allclose(found.fixed_point[0], [0.3 + 0.25 * c, 0.3 + c], rtol=1e-12)
    assert float(found.chi[0]) == pytest.approx(1 / 3, rel=1e-12)
    growing = gt.criticality(gt.Network([1.0, "u*v", 1.0], weight_variance=6.0, bias_variance=0.3))
    assert np.isinf(growing.fixed_point).all()


@pytest.mark.parametrize("name", ["erf", "gelu", "tanh"])
def test_dense_fixed_point_solves_the_scalar_equation(name: str) -> None:
    network = gt.Network([1.0, 0.5, 1.0], name, 2.5, 0.2)
    found = gt.criticality(network)
    k = float(found.fixed_point[0, 0])
    assert k == pytest.approx(1.25 * second_moment(name, k) + 0.2, rel=1e-9)
    assert float(found.chi[0]) == pytest.approx(1.25 * second_moment(name, k, derivative=True), rel=1e-8)
    h = 1e-4 * k
    slope = (second_moment(name, k + h) - second_moment(name, k - h)) / (2 * h)
    assert float(found.jacobian_radius[0]) == pytest.approx(1.25 * slope, rel=1e-5)


def test_subcritical_odd_network_forgets() -> None:
    """erf without bias: chi at 0 is (4 / pi) sigma_w^2 rho(V), and below 1 nothing survives."""
    graphon = gt.StepGraphon([[0.2, 0.1], [0.3, 0.1]])
    found = gt.criticality(gt.Network([1.0, graphon, 1.0], "erf", 1.5))
    radius = max(abs(np.linalg.eigvals(graphon.values / 2)))
    assert float(found.chi[0]) == pytest.approx(6 / math.pi * radius, rel=1e-10)
    assert (found.fixed_point == 0).all()


def test_gradient_is_the_adjoint_of_the_kernel() -> None:
    """int B^l = d NTK_l / d sigma_b^2-share: with biases NTK_l's bias term is sigma_b^2 int B^l (THEORY §3)."""
    network = gt.Network([0.6, OWN, STEP, 0.8], "erf", 1.7, 0.1, outputs=2)
    x = np.full((1, 3), 1.1)
    found = gt.criticality(network, 1.21)
    total = gt.limit_kernel(network, x, contributions=True).ntk_layer
    for layer in (1, 2, 3):
        weight_term = 0.0
        for output in (0, 1):
            density = gt.kernel_density(network, x[0], x[0], layer, output=output)
            weight_term += float((density.density * density.u_weight * density.v_weight).sum()) / 2
        share = float(total.sel(layer=layer).isel(x=0, x2=0).mean("output"))
        assert 0.1 * float(found.gradient.sel(layer=layer)) == pytest.approx(share - weight_term, rel=1e-10)


def test_smooth_graphons_report_an_error_not_below_the_true_one() -> None:
    network = gt.Network([1.0, "exp(-3*(u - v)**2)", 1.0], "erf", 5.0, 0.1)
    loose, tight = gt.criticality(network, rtol=1e-4), gt.criticality(network, rtol=1e-9)
    for name in ("variance", "gradient", "fixed_point", "chi", "jacobian_radius"):
        off = float(np.abs(loose[name] - tight[name]).max() / np.abs(tight[name]).max())
        assert off <= loose.attrs["quadrature_error"] + tight.attrs["quadrature_error"]


def test_derivative_of_the_second_moment() -> None:
    k = np.array([1e-6, 0.3, 2.0, 50.0])
    moments = Moments(as_activation("erf"))
    want = 4 / math.pi / ((1 + 2 * k) * np.sqrt(1 + 4 * k))  # d/dk (2/pi) asin(2k/(1+2k))
    np.testing.assert_allclose(moments.derivative(k), want, rtol=1e-11)


BAD: list[tuple[Any, Any, dict[str, Any], str]] = [
    (gt.Network([1.0, gt.Connectivity(0.5, 0.5, 0.1), 1.0]), 1.0, {}, "carries drift"),
    ([1.0], 1.0, {}, "expected a Network"),
    (gt.Network([1.0, 1.0]), 0.0, {}, "q: expected the positive"),
    (gt.Network([1.0, 1.0]), "1", {}, "q: expected the positive"),
    (gt.Network([1.0, 1.0]), 1.0, {"positions": [0.2, 1.2]}, "positions: expected numbers"),
]


@pytest.mark.parametrize(("network", "q", "options", "message"), BAD)
def test_bad_input_is_refused(network: Any, q: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.criticality(network, q, **options)
