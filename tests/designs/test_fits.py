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


def test_what_is_refused() -> None:
    x, y = np.eye(3), np.ones(3)
    with pytest.raises(NetworkError, match="one output"):
        gt.fit(gt.Network([0.5], outputs=2), x, y)
    with pytest.raises(InputError, match="noise"):
        gt.fit(gt.Network([0.5]), x, y, noise=0.0)
    with pytest.raises(InputError, match="y: expected shape"):
        gt.fit(gt.Network([0.5]), x, y[:2])
