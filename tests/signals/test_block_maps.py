"""Variances along stages, and what residual blocks make of them: against loops and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray

W = gt.StepGraphon([[0.9, 0.2], [0.3, 0.6]], [0, 0.4, 1], [0, 0.4, 1])
LENGTHS = np.array([0.4, 0.6])
POINTS = [0.1, 0.7]


def _relu_block(k: FloatArray, scale: float, bias: float) -> FloatArray:
    """K + s^2 (2 int V K / 2 + sigma_b^2) on the two blocks."""
    return k + scale**2 * (np.asarray(W.values) @ (LENGTHS * k) + bias)


@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_variances_and_radii_of_relu_blocks(bias: float) -> None:
    block = gt.Residual(gt.Pointwise("relu"), gt.Dense(W), scale=0.5)
    stages = [gt.Dense(W, 2.0), block, block, gt.Pointwise("relu"), gt.Dense(1.0)]
    found = gt.criticality(gt.Network(stages, bias_variance=bias), 1.5, positions=POINTS)
    k = 2 * 1.5 * np.asarray(W.values) @ LENGTHS + bias
    matrix = np.eye(2) + 0.25 * np.asarray(W.values) * LENGTHS
    assert found.repeated.values.tolist() == [2, 3]
    for layer in range(3):
        np.testing.assert_allclose(found.variance[layer], k, rtol=1e-13)
        k = _relu_block(k, 0.5, bias)
    radius = np.abs(np.linalg.eigvals(matrix)).max()
    np.testing.assert_allclose(found.chi, radius, rtol=1e-12)
    np.testing.assert_allclose(found.jacobian_radius, radius, rtol=1e-8)
    assert np.isinf(found.fixed_point).all()
    last = found.variance[2].values
    assert found.attrs["output_variance"] == pytest.approx(2 * LENGTHS @ last / 2 + bias, rel=1e-13)


def test_a_block_that_is_normalised_first() -> None:
    """x + s f(LayerNorm(x)): chi and the Jacobian's radius against differences of the kernel's own diagonal."""
    block = gt.Residual(gt.LayerNorm(0.1), gt.Pointwise("erf"), gt.Dense(W, 1.7), scale=0.8)
    network = gt.Network([gt.Dense(W, 1.3), block, gt.Pointwise("erf"), gt.Dense(1.0)])
    found = gt.criticality(network, 1.2, positions=POINTS)
    values = np.asarray(W.values)

    def mapped(k: FloatArray) -> FloatArray:
        normed = k / (LENGTHS @ k + 0.1)
        c = 2 / np.pi * np.arcsin(2 * normed / (1 + 2 * normed))
        return k + 0.64 * 1.7 * values @ (LENGTHS * c)

    k = 1.3 * 1.2 * values @ LENGTHS
    np.testing.assert_allclose(found.variance[1], mapped(k), rtol=1e-13)
    steps = 1e-5 * np.eye(2)
    jacobian = np.array([(mapped(k + step) - mapped(k - step)) / 2e-5 for step in steps]).T
    normed = k / (LENGTHS @ k + 0.1)
    slope = 4 / np.pi / np.sqrt((1 + 2 * normed) ** 2 - 4 * normed**2) / (LENGTHS @ k + 0.1)
    chi = np.eye(2) + 0.64 * 1.7 * values * (LENGTHS * slope)
    assert float(found.jacobian_radius[0]) == pytest.approx(np.abs(np.linalg.eigvals(jacobian)).max(), rel=1e-8)
    assert float(found.chi[0]) == pytest.approx(np.abs(np.linalg.eigvals(chi)).max(), rel=1e-12)


def test_activations_and_biases_per_layer() -> None:
    network = gt.Network([W, W, W, 1.0], ["relu", "erf", "relu"], 1.5, [0.1, 0.0, 0.3, 0.2])
    found = gt.criticality(network, positions=POINTS)
    k = 1.5 * np.asarray(W.values) @ LENGTHS + 0.1
    for layer, bias in ((0, 0.0), (1, 0.3), (2, 0.0)):
        np.testing.assert_allclose(found.variance[layer], k, rtol=1e-13)
        c = k / 2 if layer == 0 else 2 / np.pi * np.arcsin(2 * k / (1 + 2 * k))
        k = 1.5 * np.asarray(W.values) @ (LENGTHS * c) + bias
    assert found.repeated.values.tolist() == [2, 3]
    balanced = gt.balanced(network)
    variances = gt.criticality(balanced, positions=[0.2, 0.7]).variance.values @ LENGTHS
    np.testing.assert_allclose(variances, 1.0, rtol=1e-12)
    critical = gt.criticality(gt.balanced(network.changed(bias_variance=0.05), goal="chi"))
    np.testing.assert_allclose(critical.chi, 1.0, rtol=1e-8)


def test_balanced_gives_every_layer_of_a_branch_variance_1() -> None:
    block = gt.Residual(gt.LayerNorm(), gt.Dense(W), gt.Pointwise("relu"), gt.Dense(0.2), scale=0.5)
    network = gt.balanced(gt.Network([gt.Dense(W), block, gt.Pointwise("relu"), gt.Dense(0.3)], bias_variance=0.1))
    found = gt.criticality(network, positions=[0.2, 0.7])
    np.testing.assert_allclose(found.variance.values @ LENGTHS, [1.0, 1.0, 1.25], rtol=1e-12)
    assert found.attrs["output_variance"] == pytest.approx(1.0, rel=1e-12)


DEAD = gt.StepGraphon([[0.9, 0.2], [0.0, 0.0], [0.3, 0.6]], [0, 0.3, 0.7, 1], [0, 0.4, 1])


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_by_position_every_layer_adds_variance_1(bias: float) -> None:
    """At every position, formulas among the layers; a position without connections keeps its shortcut and its bias."""
    block = gt.Residual(gt.Pointwise("erf"), gt.Dense(W), gt.Pointwise("relu"), gt.Dense("0.2 + u*v/2"), scale=0.5)
    stages = [gt.Dense(W), block, gt.Residual(gt.LayerNorm(), gt.Pointwise("relu"), gt.Dense(DEAD), scale=2.0)]
    network = gt.Network([*stages, gt.Pointwise("erf"), gt.Dense("0.3 + v/2"), gt.Pointwise("relu"), gt.Dense(W)],
                         bias_variance=bias, weight_variance=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], outputs=2)  # fmt: skip
    points = [0.1, 0.35, 0.6, 0.9]
    found = gt.criticality(gt.balanced(network, 1.5, by="position"), 1.5, positions=points)
    last = 1.25 + 4 * np.where(np.isin(points, [0.35, 0.6]), bias, 1.0)
    even = np.ones(4)
    np.testing.assert_allclose(found.variance, np.array([even, even, 1.25 * even, last, even]), rtol=1e-9)
    assert found.attrs["output_variance"] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_branches_at_chi_1(bias: float) -> None:
    """chi of a block is 1 + s^2; layers outside, and those of a branch but its last, keep their mean variance."""
    one = gt.Residual(gt.Pointwise("relu"), gt.Dense(W), scale=0.5)
    two = gt.Residual(gt.LayerNorm(), gt.Pointwise("erf"), gt.Dense("0.2 + u*v/2"), gt.Pointwise("erf"), gt.Dense(W))
    inner = gt.Residual(gt.Residual(gt.Pointwise("relu"), gt.Dense(W), scale=0.3), gt.Pointwise("erf"), gt.Dense(W))
    network = gt.Network([gt.Dense(W), one, two, inner, gt.Pointwise("relu"), gt.Dense(1.0)], bias_variance=bias)
    balanced = gt.balanced(network, goal="chi")
    found = gt.criticality(balanced, positions=[0.2, 0.7])
    np.testing.assert_allclose(found.chi, [1.25, 2.0, 2.0], rtol=1e-9)
    assert found.variance[0].values @ LENGTHS == pytest.approx(1.0, rel=1e-12)
    assert found.attrs["output_variance"] == pytest.approx(1.0, rel=1e-12)
    for number in (1, 3, 5, 7):  # all but the last of every branch
        assert balanced.weight_variance[number - 1] != network.weight_variance[number - 1]
    he = gt.balanced(gt.Network([1.0, gt.Dense(0.2), *[gt.Residual(gt.Pointwise("relu"), gt.Dense(0.2))] * 2, 1.0]),
                     goal="chi")  # fmt: skip
    np.testing.assert_allclose(he.weight_variance[2:4], 2 / 0.2, rtol=1e-12)


def test_what_is_not_derived_for_stages_is_refused() -> None:
    block = gt.Residual(gt.Pointwise("relu"), gt.Dense(W))
    network = gt.Network([gt.Dense(W), block, gt.Pointwise("relu"), gt.Dense(1.0)])
    normed = gt.Network([gt.Dense(W), gt.LayerNorm(), gt.Pointwise("relu"), gt.Dense(1.0)])
    with pytest.raises(gt.NetworkError, match=r"goal: .* the network has neither"):
        gt.balanced(normed, goal="chi")
    behind = gt.Residual(gt.Pointwise("relu"), gt.Dense(W), gt.LayerNorm())
    with pytest.raises(gt.NetworkError, match="goal: a branch goes on behind its last layer, 2"):
        gt.balanced(gt.Network([gt.Dense(W), behind, gt.Pointwise("relu"), gt.Dense(1.0)]), goal="chi")
    x = np.ones((4, 3))
    with pytest.raises(gt.NetworkError, match="network: it has a Residual stage, for which this is not derived"):
        gt.saliency_network(network, x, np.zeros(4, dtype=int), 0.5, (3, 20, 20, 1))
    reason = gt.scalar_reduction(network).reason
    assert "a residual branch adds its own correlations to those of its shortcut" in reason
    assert "LayerNorm" in gt.scalar_reduction(normed).reason
