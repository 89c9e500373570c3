"""The zonal route against the general one, and when it is taken."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.recursion import Recursion, kernels
from graphon_theory.engine.zonal import ZonalKernel
from tests.reference import relative_error

BLOCKS = np.random.default_rng(0).uniform(0.1, 0.9, (4, 4))
PROFILE = np.array([[0.9, 0.2, 0.5, 0.7, 0.4, 0.8]])


def _inputs(sphere: bool) -> NDArray[np.float64]:
    x = np.random.default_rng(1).standard_normal((60, 6))
    x[1], x[2], x[3] = -x[0], 2 * x[0], x[4]
    if sphere:
        x /= np.sqrt((x * x) @ PROFILE[0])[:, None]
    else:
        x[5] = 0.0
    return x


NETWORKS = {
    "dense": gt.Network([1.0] * 4),
    "deep": gt.Network([1.0] * 11),
    "shallow": gt.Network([0.3, 0.7]),
    "blocks": gt.Network([np.outer(BLOCKS[0], PROFILE[0]), BLOCKS, gt.magnitude_pruning(0.2), BLOCKS[:3]], outputs=3),
    "identity": gt.Network([PROFILE, BLOCKS, BLOCKS, 1.0], "identity"),
    "kinked": gt.Network([PROFILE, "min(u, v)", "abs(u - v)", 1.0]),
}
ON_SPHERE = {
    "erf": gt.Network([PROFILE, BLOCKS, BLOCKS.T, BLOCKS[:2]], "erf", 1.5, 0.1, outputs=2),
    "relu with bias": gt.Network([PROFILE, "min(u, v)", BLOCKS, 1.0], "relu", 2.0, 0.1),
    "standard": gt.Network([PROFILE, BLOCKS, "0.2 + u*v/2", 1.0], "erf", 1.5, 0.1, "standard", (6, 100, 200, 300)),
}


@pytest.mark.parametrize("name", [*NETWORKS, *ON_SPHERE])
def test_agrees_with_the_general_route(name: str) -> None:
    sphere = name in ON_SPHERE
    network = ON_SPHERE[name] if sphere else NETWORKS[name]
    x = _inputs(sphere)
    recursion = Recursion(discretise(network, x, 1e-10).operators, network.activation, x)
    zonal = ZonalKernel.of(recursion, x)
    assert zonal is not None
    assert zonal.homogeneous is not sphere
    close = 1e-12 if sphere else 1e-14
    for other in (None, x[7:30]):
        for got, want in zip(zonal.kernels(recursion, x, other), kernels(recursion, x, other), strict=True):
            if other is None:
                # collinear pairs apart, where the general route itself is a rounding away from coincidence
                assert relative_error(got, want).max() <= (2e-8 if sphere else close)
                assert np.median(relative_error(got, want)) <= close
                np.testing.assert_array_equal(got, got.transpose(0, 2, 1))
            else:
                scale = np.abs(want).max()
                assert np.abs(got - want).max() <= close * scale


@pytest.mark.parametrize(
    ("network", "sphere"),
    [
        (gt.Network([1.0, BLOCKS, BLOCKS, 1.0], bias_variance=0.1), False),  # bias
        (gt.Network([1.0, BLOCKS, BLOCKS, 1.0], "erf"), False),  # not homogeneous
        (gt.Network([BLOCKS, BLOCKS, 1.0]), False),  # inputs treated differently at different positions
        (gt.Network([BLOCKS, BLOCKS, 1.0]), True),
        (gt.Network([gt.Connectivity(PROFILE, np.ones_like(PROFILE)), BLOCKS, 1.0]), False),  # V and W unlike
        (gt.Network([PROFILE]), False),  # no hidden layer
    ],
)
def test_not_taken_where_a_premise_fails(network: gt.Network, sphere: bool) -> None:
    x = _inputs(sphere)
    recursion = Recursion(discretise(network, x, 1e-10).operators, network.activation, x)
    assert ZonalKernel.of(recursion, x) is None


def test_route_is_named_and_agrees_across_the_threshold() -> None:
    x = np.random.default_rng(2).standard_normal((400, 5))
    network = gt.Network([1.0, BLOCKS, BLOCKS, 1.0])
    large, small = gt.limit_kernel(network, x), gt.limit_kernel(network, x[:50])
    assert (large.attrs["route"], small.attrs["route"]) == ("zonal", "scalar")
    np.testing.assert_allclose(large.ntk.values[:50, :50], small.ntk.values, rtol=1e-12, atol=1e-14)
    sphere = x / np.linalg.norm(x, axis=1, keepdims=True)
    curved = gt.Network([1.0, BLOCKS, BLOCKS, 1.0], "erf", bias_variance=0.1)
    large, small = gt.limit_kernel(curved, sphere), gt.limit_kernel(curved, sphere[:50])
    assert (large.attrs["route"], small.attrs["route"]) == ("zonal", "general")
    np.testing.assert_allclose(large.ntk.values[:50, :50], small.ntk.values, rtol=1e-12, atol=1e-13)


def test_float32_takes_the_zonal_route_as_float64_does() -> None:
    x = np.random.default_rng(3).standard_normal((400, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    network = gt.Network([1.0, BLOCKS, BLOCKS, 1.0], "erf", bias_variance=0.1)
    single, double = (gt.limit_kernel(network, x, dtype=dtype) for dtype in (np.float32, np.float64))
    assert (single.attrs["route"], double.attrs["route"]) == ("zonal", "zonal")
    for key in ("nngp", "ntk"):
        assert single[key].dtype == np.float32
        np.testing.assert_allclose(single[key].values, double[key].values, rtol=0, atol=1e-6 * double[key].values.max())


@pytest.mark.parametrize(("activation", "depth"), [("relu", 11), ("relu", 12), ("relu", 30), ("abs", 7), ("abs", 14)])
def test_deep_networks_keep_their_stated_error(activation: str, depth: int) -> None:
    """Coefficients in w grow with depth and cancel: from where that would cost digits the general route is taken."""
    x = np.random.default_rng(4).standard_normal((320, 5))
    network = gt.Network([0.5] * depth, activation)
    exact = gt.limit_kernel(network, x[:100])
    assert exact.attrs["route"] == "scalar"
    for dtype in ("float64", "float32"):
        found = gt.limit_kernel(network, x, dtype=dtype)
        assert dtype == "float32" or (found.attrs["route"] == "zonal") == (depth in (7, 11))
        for key in ("nngp", "ntk"):
            error = relative_error(found[key].values[:100, :100], exact[key].values).max()
            assert error <= found.attrs["quadrature_error"]
