"""Operator matrices: which axis is integrated, by what it is multiplied, what both ends hold (THEORY §3, §5)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.engine.operators import Layer, Scales
from graphon_theory.numerics.quadratures import LEFT, PLAIN, Panels

FloatArray = NDArray[np.float64]

W = gt.StepGraphon([[0.9, 0.1, 0.4], [0.2, 0.6, 0.3]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 0.6, 1])
V = gt.StepGraphon(W.values * [[2.0], [0.5]] + 0.05, W.u_edges, W.v_edges)
SMOOTH = gt.AnalyticGraphon("(1 + u)*exp(-2*v)/3 + u**2*v/4")
PLAIN_PANELS = Panels(np.array([0.0, 0.5]), np.array([0.5, 1.0]), np.array([6, 5]), np.array([PLAIN, LEFT]))
NTK = Scales.of(2.0, 0.1, None)
STANDARD = Scales.of(2.0, 0.1, 500)


def layer(mask: object, variance: object | None = None, scales: Scales = NTK, number: int = 3) -> Layer:
    return Layer(gt.Connectivity(mask, variance), scales, number)


# --- scales -----------------------------------------------------------------------------------------------------------


def test_scales_of_both_parameterizations() -> None:
    """NTK: sigma_w^2 and sigma_b^2 everywhere. Standard: the fan-in and 1 in T's own terms, K unchanged."""
    assert Scales(variance=2.0, mask=2.0, bias=0.1, trained_bias=0.1) == NTK
    assert Scales(variance=2.0, mask=500.0, bias=0.1, trained_bias=1.0) == STANDARD
    assert Scales.of(2.0, 0.0, 500).trained_bias == 0.0  # no biases, no bias parameters


# --- the first layer --------------------------------------------------------------------------------------------------


def test_inputs_are_atoms_that_hold_the_means_of_their_cells() -> None:
    """(A g)_i = sigma_w^2 / d sum_j W(u_i, cell j) g_j: rows receive."""
    points = np.array([0.1, 0.9, 0.5])
    op = layer(W).from_inputs(points, 4)
    # cell 3 of 4, [0.5, 0.75], is 2/5 block 2 and 3/5 block 3
    rows = [[0.9, 0.9, 0.4 * 0.1 + 0.6 * 0.4, 0.4], [0.2, 0.2, 0.4 * 0.6 + 0.6 * 0.3, 0.3]]
    np.testing.assert_allclose(op.variance, 2.0 / 4 * np.array([rows[0], rows[1], rows[1]]), rtol=1e-14)
    assert op.mask is None
    assert op.mask_matrix is op.variance
    assert (op.bias, op.trained_bias) == (0.1, 0.1)


def test_one_input_sees_the_whole_row() -> None:
    points = np.array([0.0, 0.25, 1.0])
    op = layer(SMOOTH).from_inputs(points, 1)
    np.testing.assert_allclose(op.variance[:, 0], 2.0 * SMOOTH.degrees(axis=1)(points), rtol=1e-14)


# --- hidden layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphon", [W, SMOOTH], ids=["step", "smooth"])
def test_hidden_layers_integrate_over_the_sending_side(graphon: gt.Graphon) -> None:
    points = np.array([0.1, 0.4, 0.95])
    op = layer(graphon).hidden(points, PLAIN_PANELS)
    assert op.variance.shape == (3, PLAIN_PANELS.size)
    v = PLAIN_PANELS.nodes()
    for g in (np.ones_like, lambda v: v, lambda v: v**2):
        fine = Panels.constant(np.unique(np.concatenate([np.linspace(0, 1, 2001), graphon.v_breaks])))
        rough = graphon(points[:, None], fine.nodes()) @ (fine.weights() * g(fine.nodes()))
        np.testing.assert_allclose(op.variance @ g(v), 2.0 * rough, rtol=0, atol=1e-6)
    np.testing.assert_allclose(op.variance.sum(axis=1), 2.0 * graphon.degrees(axis=1)(points), rtol=1e-14)
    assert np.abs(op.variance.sum(axis=1) - 2.0 * graphon.degrees(axis=0)(points)).max() > 0.05


def test_the_own_term_uses_the_mask_and_signals_the_variance() -> None:
    points = np.array([0.1, 0.9])
    ends = Panels.constant(np.array([0.0, 1.0]))
    op = layer(W, V).hidden(points, ends)
    assert op.mask is not None
    np.testing.assert_allclose(op.variance[:, 0], 2.0 * V.degrees(1)(points), rtol=1e-14)
    np.testing.assert_allclose(op.mask[:, 0], 2.0 * W.degrees(1)(points), rtol=1e-14)
    assert op.mask_matrix is op.mask


def test_standard_parameterization_multiplies_the_own_term_by_the_fan_in() -> None:
    points = np.array([0.1, 0.9])
    ends = Panels.constant(np.array([0.0, 1.0]))
    for variance in (None, V):
        ntk, standard = (layer(W, variance, scales).hidden(points, ends) for scales in (NTK, STANDARD))
        np.testing.assert_allclose(standard.variance, ntk.variance, rtol=1e-15)
        np.testing.assert_allclose(standard.mask_matrix, 250.0 * ntk.mask_matrix, rtol=1e-14)
        assert (standard.bias, standard.trained_bias) == (0.1, 1.0)


def test_a_fan_in_of_sigma_squared_needs_no_second_matrix() -> None:
    op = layer(W, None, Scales.of(2.0, 0.0, 2)).hidden(np.array([0.5]), PLAIN_PANELS)
    assert op.mask is None


# --- the last layer ---------------------------------------------------------------------------------------------------


def test_outputs_are_atoms_too() -> None:
    ends = Panels.constant(np.array([0.0, 0.5, 0.6, 1.0]))
    op = layer(W).to_outputs(2, ends)
    first, second = W.values
    weights = np.diff(W.v_edges)
    # output 0 is the cell [0, 0.5]: 3/5 of it in the first row block
    np.testing.assert_allclose(op.variance[0], 2.0 * weights * (0.6 * first + 0.4 * second), rtol=1e-14)
    np.testing.assert_allclose(op.variance[1], 2.0 * weights * second, rtol=1e-14)


def test_one_output_is_the_mean_over_all_rows() -> None:
    op = layer(SMOOTH).to_outputs(1, PLAIN_PANELS)
    assert op.variance.shape == (1, PLAIN_PANELS.size)
    assert op.variance.sum() == pytest.approx(2.0 * SMOOTH.mean(), rel=1e-14)
    # int int W(u, v) v du dv = 2 (1 - 3 exp(-2)) / 4 / 3 * 3/2 + 1/36
    exact = 0.5 * (1 - 3 * np.exp(-2)) / 4 + 1 / 36
    assert float(op.variance[0] @ PLAIN_PANELS.nodes()) == pytest.approx(2.0 * exact, rel=1e-14)


def test_a_network_without_hidden_layers_has_both_ends_in_one() -> None:
    op = layer(W, V).inputs_to_outputs(2, 5)
    cells = [np.linspace(0, 1, n + 1) for n in (2, 5)]
    np.testing.assert_allclose(op.variance, 2.0 / 5 * V.cell_means(*cells), rtol=1e-14)
    np.testing.assert_allclose(op.mask_matrix, 2.0 / 5 * W.cell_means(*cells), rtol=1e-14)


# --- what a layer says of itself --------------------------------------------------------------------------------------


def test_constant_in_u_means_one_node_a_panel_is_exact() -> None:
    assert layer(W, V).constant_in_u
    assert layer(0.5).constant_in_u
    assert layer("exp(-v)").constant_in_u
    assert not layer("exp(-u)").constant_in_u
    assert not layer("Heaviside(u - v)").constant_in_u
    assert not layer(W, gt.FunctionGraphon(lambda u, v: 1.0 + 0 * u)).constant_in_u


def test_edges_are_those_of_both_graphons() -> None:
    assert layer("1 - Abs(u - 1/4)/2", "2 - Abs(u - 3/4)").u_edges.tolist() == [0.0, 0.25, 0.75, 1.0]
    assert layer(W).graphons == (W,)
    assert layer(W, V).graphons == (V, W)


def test_a_failing_integral_names_the_layer() -> None:
    rough = gt.FunctionGraphon(lambda u, v: np.sin(1e8 * v) ** 2)
    with pytest.raises(gt.QuadratureError, match=r"^layer 3: FunctionGraphon.* does not settle"):
        layer(rough).hidden(np.array([0.5]), Panels.constant(np.array([0.0, 1.0])))
