"""The engine against answers that owe it nothing: another library's step networks, and mpmath."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from tests.oracle import CASES, X2, X, network_of
from tests.reference import classical_ntk, classical_tolerance, coincidence_inputs, relative_error

NAMES = list(CASES)
TOLERANCE = 1e-12


def _blocks(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return array.reshape(-1, *array.shape[-2:])


def test_the_data_are_all_there() -> None:
    assert len(CASES) == 32
    assert {case.activation for case in CASES.values()} == {"relu", "erf", "gelu", "sin"}


@pytest.mark.parametrize("name", NAMES)
def test_kernels_agree_with_another_library(name: str) -> None:
    case = CASES[name]
    network = network_of(case)
    square, cross = gt.limit_kernel(network, X), gt.limit_kernel(network, X, X2)
    for key in ("nngp", "ntk"):
        assert relative_error(square[key].values, case.arrays[key]).max() <= TOLERANCE
        np.testing.assert_allclose(square[key].values, case.arrays[key], rtol=TOLERANCE)
        np.testing.assert_allclose(cross[key].values, case.arrays[f"{key}_x2"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_and_block_agrees(name: str) -> None:
    """K^l(u) of a hidden block is the output of the network that ends there, with that block as readout."""
    case = CASES[name]
    for depth in range(1, len(case.layers)):
        kernel = gt.limit_kernel(network_of(case, depth), X)
        for key, layers in (("nngp", "sigma_layers"), ("ntk", "theta_layers")):
            want = case.arrays[layers][depth - 1]
            assert relative_error(_blocks(kernel[key].values), want).max() <= TOLERANCE


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize(("activation", "bias"), [("relu", 0.0), ("relu", 0.25), ("erf", 0.0), ("erf", 0.25)])
def test_dense_is_the_classical_ntk(activation: str, bias: float, depth: int) -> None:
    """W = V = 1 [J], at random, duplicate, scaled, nearly coincident, opposite and zero inputs."""
    x = coincidence_inputs(4, seed=1)
    network = gt.Network([1.0] * depth, activation=activation, bias_variance=bias)
    kernel = gt.limit_kernel(network, x)
    tolerance = classical_tolerance(x, bias_variance=bias)
    exact = classical_ntk(x, depth, bias_variance=bias, activation=activation)
    for key, want in zip(("nngp", "ntk"), exact, strict=True):
        got = kernel[key].values
        assert np.all(relative_error(got, want) <= tolerance)
        # row 4 duplicates row 0, and is treated the same to the last bit
        assert got[0, 4] == got[0, 0] == got[4, 4]
        np.testing.assert_array_equal(got[4, 8:], got[0, 8:])
