"""fit: it climbs to where the evidence is flat, and agrees with the posterior's own evidence."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.errors import InputError, NetworkError


def test_the_evidence_is_largest_at_the_fit() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 3))
    truth = gt.Network([0.5, 0.5], weight_variance=[3.0, 6.0], bias_variance=0.4, activation="erf")
    kern = gt.limit_kernel(truth, x).nngp.values
    y = np.linalg.cholesky(kern + 0.01 * np.eye(30)) @ rng.standard_normal(30)
    network = gt.Network([0.5, 0.5], weight_variance=1.0, bias_variance=0.1, activation="erf")
    found = gt.fit(network, x, y, noise=0.01)

    def evidence(one: gt.Network) -> float:
        nngp = gt.limit_kernel(one, x).nngp.values
        return float(gt.nngp_posterior(nngp, y, nngp[:1], np.diagonal(nngp)[:1], noise=0.01).attrs["log_evidence"])

    assert found.start == pytest.approx(evidence(network), rel=1e-9)
    assert found.log_evidence == pytest.approx(evidence(found.network), rel=1e-9)
    assert found.log_evidence > evidence(truth) - 1e-6
    for step in (0.97, 1.03):
        weights = [step * v for v in found.network.weight_variance]
        assert evidence(found.network.changed(weight_variance=weights)) < found.log_evidence


def test_biases_that_are_not_there_stay_away() -> None:
    x, y = np.eye(4), np.array([1.0, -1.0, 0.5, 2.0])
    found = gt.fit(gt.Network([0.5, 0.5]), x, y, kernel="ntk", iterations=5)
    assert found.network.bias_variances == (0.0, 0.0)
    assert found.log_evidence >= found.start


def test_densities_are_found_by_what_they_do_to_the_ntk() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((25, 3))
    step = gt.StepGraphon([[0.6, 0.2], [0.3, 0.5]])
    network = gt.Network([gt.Connectivity(0.3, 0.3), step, gt.Connectivity("0.4*exp(-v)", "0.3")], bias_variance=0.1)
    y = np.sin(2 * x[:, 0]) + 0.1 * rng.standard_normal(25)
    found = gt.fit(network, x, y, noise=0.01, kernel="ntk", densities=True)
    alone = gt.fit(network, x, y, noise=0.01, kernel="ntk")
    assert found.log_evidence > alone.log_evidence + 0.1

    def evidence(one: gt.Network) -> float:
        kern = gt.limit_kernel(one, x).ntk.values + 0.01 * np.eye(25)
        fit, log_det = y @ np.linalg.solve(kern, y), np.linalg.slogdet(kern)[1]
        return -0.5 * float(fit + log_det + 25 * np.log(2 * np.pi))

    assert found.log_evidence == pytest.approx(evidence(found.network), rel=1e-9)
    for layer, before in zip(found.network.layers, network.layers, strict=True):
        assert layer.variance == before.variance
        assert layer.mask.extremes()[1] <= 1
    mask = found.network.layers[1].mask
    assert isinstance(mask, gt.StepGraphon)
    np.testing.assert_allclose(mask.values / step.values, mask.values[0, 0] / 0.6, rtol=1e-12)
    lowest, highest = 0.6 * np.exp(-7), 1.0  # of the densest cell, as far as it may move
    tried = [f for f in (0.9, 1.1) if lowest <= f * mask.values[0, 0] <= highest]
    assert tried
    for factor in tried:
        moved = gt.Connectivity(gt.StepGraphon(factor * mask.values), step)
        changed = found.network.with_layers([found.network.layers[0], moved, found.network.layers[2]])
        assert evidence(changed) < found.log_evidence


def test_what_is_refused() -> None:
    x, y = np.eye(3), np.ones(3)
    with pytest.raises(NetworkError, match="one output"):
        gt.fit(gt.Network([0.5], outputs=2), x, y)
    with pytest.raises(InputError, match="densities: the NNGP does not see them"):
        gt.fit(gt.Network([0.5]), x, y, densities=True)
    with pytest.raises(NetworkError, match="layer 1: its mask graphon is 0"):
        gt.fit(gt.Network([0.0, 0.5], bias_variance=0.1), x, y, kernel="ntk", densities=True)
    with pytest.raises(NetworkError, match="layer 1: densities are found for weights without a mean"):
        gt.fit(gt.Network([gt.Connectivity(0.5, 0.5, 0.1), 0.5]), x, y, kernel="ntk", densities=True)
    with pytest.raises(InputError, match="noise"):
        gt.fit(gt.Network([0.5]), x, y, noise=0.0)
    with pytest.raises(InputError, match="y: expected shape"):
        gt.fit(gt.Network([0.5]), x, y[:2])
