"""Networks pruned by SNIP beside what the labels of their units say at their own width."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.pruning.single_units import pruned_units
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.labelled_data import labelled_data
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.training.losses import Data


def traces(model: MaskedMLP, activation: str, density: float, batch: Data, probe: np.ndarray) -> np.ndarray:
    """By layer: of the pruned network, and what the labels of the dense one said; (2, L)."""
    weights = [w.detach().double().numpy() for w in model.weights]
    outputs = len(weights[-1])
    plain = gt.Network([1.0] * len(weights), activation, 2.0, outputs=outputs)
    targets = np.eye(outputs)[batch[1]].T
    law = pruned_units(plain, weights, batch[0], targets, density, loss="cross_entropy")
    if density < 1:
        prune(model, "snip", density, batch)
    kernels = [empirical_kernel(model.double(), probe, per_layer=True), gt.limit_kernel(law, probe, contributions=True)]
    layers = [one.ntk_layer.transpose("layer", "output", "x", "x2").values for one in kernels]
    return np.array([np.einsum("loii->l", values) / outputs for values in layers])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_networks_have_the_traces_that_their_labels_say(activation: str) -> None:
    x, y = labelled_data("classification")
    batch, probe = (x[:100], y[:100]), x[100:110]
    found = []
    for seed in range(4):
        model = dense((x.shape[1], 128, 128, 128, 3), seed, activation=activation, weight_variance=2.0)
        found.append(traces(model, activation, 0.2, batch, probe))
    own, said = np.sum(found, 0)
    np.testing.assert_allclose(own / said, 1, atol=0.15)
    assert own.sum() / said.sum() == pytest.approx(1, abs=0.08)


def test_a_dense_layer_is_what_it_is() -> None:
    """At density 1 nothing is pruned: E[m w] and E[m w^2] are those of the weights, in total the dense trace."""
    x, y = digits()
    model = dense((64, 96, 96, 10), 3, weight_variance=2.0)
    own, said = traces(model, "relu", 1.0, (x[:60], y[:60]), x[60:70])
    np.testing.assert_allclose(said[0], own[0], rtol=0.1)
    np.testing.assert_allclose(said[-1], own[-1], rtol=0.05)
    assert said.sum() == pytest.approx(own.sum(), rel=0.05)
