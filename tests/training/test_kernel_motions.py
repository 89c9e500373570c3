"""How far kernels are said to move. Drawn networks stand in tests/validation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((8, 5)), RNG.standard_normal((8, 2))


def flow(network: gt.Network, width: float, y: NDArray[np.float64] = Y, depth: int | None = None):  # type: ignore[no-untyped-def]
    kernels = gt.limit_kernel(network, X)
    depth = network.depth if depth is None else depth
    return gt.gradient_flow(kernels.ntk, y, [0, 1, np.inf], width=width, nngp=kernels.nngp, depth=depth)


def test_the_distance_is_what_parameters_move() -> None:
    """A linear model f = J theta: flow ends in the least |theta - theta_0| that fits, J^+ y."""
    jacobian = RNG.standard_normal((8, 20))
    kernel = jacobian @ jacobian.T
    found = gt.gradient_flow(kernel, Y, [0, np.inf], width=10, nngp=kernel, depth=1)
    assert float(found.squared_distance[0]) == 0.0
    least = np.linalg.pinv(jacobian) @ Y
    assert float(found.squared_distance[1]) == pytest.approx((least**2).sum())
    np.testing.assert_array_equal(found.kernel_change, 0.0)  # linear in its parameters: nothing moves


def test_the_change_is_one_of_scale() -> None:
    """Twice the targets are four times the distance; a hundred times the output scale a hundredth of a hundredth."""
    network = gt.Network([1.0, 1.0, 1.0])
    near, far = flow(network, 1e6), flow(network, 1e6, 2 * Y)
    assert float(far.kernel_change[1] / near.kernel_change[1]) == pytest.approx(4, rel=1e-3)
    loud = gt.Network([1.0, 1.0, 1.0], weight_variance=[2.0, 2.0, 200.0])
    kernels, louder = gt.limit_kernel(network, X), gt.limit_kernel(loud, X)
    np.testing.assert_allclose(louder.nngp, 100 * kernels.nngp)
    assert float(flow(loud, 1e6).kernel_change[2] / near.kernel_change[2]) == pytest.approx(0.01, rel=1e-3)
    assert float(near.kernel_change[2] / flow(network, 1e7).kernel_change[2]) == pytest.approx(10, rel=1e-3)


def test_networks_side_by_side() -> None:
    networks = {"dense": gt.Network([1.0] * 3), "thin": gt.Network([0.2] * 3)}
    found = gt.compare_networks(networks, X, Y, width=500)
    dense, thin = found.kernel_change.values
    assert thin > 100 * dense  # smaller outputs, and fewer units that are read
    kernels = gt.limit_kernel(networks["thin"], X)
    time = float(found.time_to_loss[1])
    one = gt.gradient_flow(kernels.ntk, Y, [time], width=100, nngp=kernels.nngp, depth=3)
    assert float(one.kernel_change[0]) == pytest.approx(thin)
    assert "kernel_change" not in gt.compare_networks(networks, X, Y)


def test_refusals() -> None:
    kernel = X @ X.T
    with pytest.raises(gt.InputError, match="width, nngp, depth: give all three, or none"):
        gt.gradient_flow(kernel, Y, [1.0], width=10)
    with pytest.raises(gt.InputError, match="width: expected"):
        gt.gradient_flow(kernel, Y, [1.0], width=-1, nngp=kernel, depth=2)
    with pytest.raises(gt.KernelError, match="nngp: it is zero"):
        gt.gradient_flow(kernel, Y, [1.0], width=9, nngp=np.zeros((8, 8)), depth=2)
    with pytest.raises(gt.InputError, match="nngp: expected the NNGP of the same 8 inputs"):
        gt.gradient_flow(kernel, Y, [1.0], width=9, nngp=np.eye(3), depth=2)
