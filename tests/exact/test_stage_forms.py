"""Closed forms of stages, and routes that hold for them, against the engine's general way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt

S = gt.StepGraphon([[0.3, 0.8], [0.5, 0.1]], [0, 0.4, 1], [0, 0.4, 1])
INPUTS = gt.StepGraphon([[0.5], [0.9]], [0, 0.4, 1])
X = np.random.default_rng(5).standard_normal((3, 4))

NETWORKS: dict[str, Any] = {
    "biases and activations": gt.Network(
        [1.0, S, 1.0], ["relu", "erf"], [2.0, 1.5, 1.0], [0.1, 0.0, 0.3], trained_bias_variance=[0.1, 0.5, 0.0]
    ),
    "shortcut and norm": gt.Network(
        [
            gt.Dense(INPUTS),
            gt.Residual(gt.Pointwise("relu"), gt.Dense(S), scale=0.5),
            gt.LayerNorm(0.1),
            gt.Pointwise("erf"),
            gt.Dense(1.0),
        ],
        bias_variance=0.1,
    ),
    "branch of other blocks": gt.Network(
        [
            gt.Dense(INPUTS),
            gt.Residual(gt.Pointwise("erf"), gt.Dense(S), gt.Pointwise("relu"), gt.Dense("u*v")),
            gt.Pointwise("identity"),
            gt.Dense(1.0),
        ],
    ),
    "homogeneous": gt.Network([0.5, 0.2, S, 1.0], ["relu", "abs", "leaky_relu"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_forms_of_stages_are_their_kernels(name: str) -> None:
    network = NETWORKS[name]
    found, kernel = gt.closed_form(network).evaluate(X), gt.limit_kernel(network, X)
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(found[key], kernel[key], rtol=1e-11)


def test_a_norm_behind_an_activation_has_no_form() -> None:
    network = gt.Network([gt.Dense(S), gt.Pointwise("relu"), gt.LayerNorm(), gt.Dense(1.0)])
    with pytest.raises(gt.ClosedFormError, match="layer 1: a LayerNorm behind an activation has no closed form here"):
        gt.closed_form(network)


def test_shortcuts_keep_homogeneity_and_zonal_spectra() -> None:
    """Without biases the kernel is |x| |x'| times a function of the angle; degrees' eigenvalues sum to the trace."""
    block = gt.Residual(gt.Pointwise("relu"), gt.Dense(S), scale=0.7)
    network = gt.Network([gt.Dense("0.3 + u/2"), block, block, gt.Pointwise("abs"), gt.Dense(1.0)])
    scales = np.array([[1.0], [3.0], [0.2]])
    one, other = gt.limit_kernel(network, X), gt.limit_kernel(network, scales * X)
    np.testing.assert_allclose(other.ntk, scales * scales.T * one.ntk, rtol=1e-11)
    spectrum = gt.zonal_spectrum(network, 3, 40)
    assert 0.98 < float(spectrum.energy[-1]) <= 1.0
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    np.testing.assert_allclose(gt.limit_kernel(network, X @ rotation).ntk, one.ntk, rtol=1e-11)
