"""Weights given the labels of both ends, against integrals and draws; traces against networks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from graphon_theory.activations.activation import as_activation
from graphon_theory.pruning.saliency_networks import leading_modes
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.labelled_data import labelled_data
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.label_laws import label_traces, surviving_moments, told_by_labels


@pytest.mark.parametrize("mean", [0.0, 0.3, -1.2])
@pytest.mark.parametrize("deviation", [1.0, 0.2])
@pytest.mark.parametrize("threshold", [0.0, 0.7, 2.5, np.inf])
def test_moments_are_integrals(mean: float, deviation: float, threshold: float) -> None:
    found = surviving_moments(*(np.array([[value]]) for value in (mean, deviation, min(threshold, 1e3))))
    far = max(abs(mean) + 12 * deviation, 1.0)
    for power, value in enumerate(found):
        said = sum(
            quad(lambda w, p=power: w**p * norm.pdf(w, mean, deviation), *ends, points=[mean], epsabs=1e-13)[0]
            for ends in ((-far, -threshold), (threshold, far))
            if threshold < far
        )
        assert value.item() == pytest.approx(said, abs=1e-11)


def test_labels_tell_what_draws_with_the_same_labels_have() -> None:
    rng = np.random.default_rng(0)
    n_in, n_out, draws = 60, 40, 20_000
    features, gradients = rng.normal(size=(n_in, 5)) * 0.5 + 0.5, rng.normal(size=(n_out, 4))
    weights, thresholds = rng.standard_normal((n_out, n_in)), rng.uniform(0.3, 2.5, (n_out, n_in))
    told = told_by_labels(weights, thresholds, features, gradients)
    below, above = leading_modes(features), leading_modes(gradients)
    sums = np.zeros((3, n_out, n_in))
    pairs = np.zeros((n_in, n_in))  # of the first receiver's weights
    for _ in range(draws):
        fresh = rng.standard_normal((n_out, n_in)) - weights
        fresh -= (fresh @ below) @ below.T
        fresh -= above @ (above.T @ fresh)
        w = weights + fresh
        kept = np.where(np.abs(w) > thresholds, w, 0.0)
        sums += [kept != 0, kept, kept**2]
        pairs += np.outer(kept[0], kept[0])
    for found, total in zip((told.kept, told.mean, told.square), sums, strict=True):
        assert np.abs(found - total / draws).max() < 6 * np.sqrt(10 / draws)
        assert np.abs((found - total / draws).mean()) < 1e-3
    covariance = pairs / draws - np.outer(told.mean[0], told.mean[0])
    profiles = told.forward[0][:, None] * told.features
    off = ~np.eye(n_in, dtype=bool)
    said = -(profiles @ profiles.T / n_in)[off]
    assert np.polyfit(said, covariance[off], 1)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_networks_have_the_traces_that_their_labels_say(activation: str) -> None:
    x, y = labelled_data("classification")
    batch, probe = (x[:100], y[:100]), x[100:110]
    own, said = [], []
    for seed in range(4):
        model = dense((x.shape[1], 128, 128, 128, 3), seed, activation=activation, weight_variance=2.0)
        weights = [w.detach().double().numpy() for w in model.weights]
        said.append(label_traces(weights, as_activation(activation), 2.0, batch, 0.2, probe, "cross_entropy").layers)
        prune(model, "snip", 0.2, batch)
        kernel = empirical_kernel(model.double(), probe, per_layer=True).ntk_layer
        own.append(np.einsum("loii->l", kernel.transpose("layer", "output", "x", "x2").values) / 3)
    ratio = np.sum(own, 0) / np.sum(said, 0)
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    assert np.sum(own) / np.sum(said) == pytest.approx(1, abs=0.08)


def test_a_dense_layer_is_what_it_is() -> None:
    """At density 1 nothing is pruned: E[m w] and E[m w^2] are those of the weights, in total the dense trace."""
    x, y = digits()
    batch, probe = (x[:60], y[:60]), x[60:70]
    model = dense((64, 96, 96, 10), 3, weight_variance=2.0)
    weights = [w.detach().double().numpy() for w in model.weights]
    said = label_traces(weights, as_activation("relu"), 2.0, batch, 1.0, probe, "cross_entropy")
    kernel = empirical_kernel(model.double(), probe, per_layer=True).ntk_layer
    own = np.einsum("loii->l", kernel.transpose("layer", "output", "x", "x2").values) / 10
    np.testing.assert_allclose(said.layers[0], own[0], rtol=0.1)
    np.testing.assert_allclose(said.layers[-1], own[-1], rtol=0.05)
    assert said.layers.sum() == pytest.approx(own.sum(), rel=0.05)
