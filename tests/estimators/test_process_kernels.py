"""The Gaussian process kernel: its gradient against kernel_gradient, its process against nngp_posterior and fit."""

from __future__ import annotations

import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.errors import InputError, NetworkError

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel

RNG = np.random.default_rng(2)
X, NEW = RNG.standard_normal((12, 3)), RNG.standard_normal((5, 3))
Y = np.sin(X[:, 0]) + 0.3 * X[:, 1]
NETWORK = gt.Network([1.0, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 1.0], "erf", bias_variance=0.2)


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
@pytest.mark.parametrize("variances", [(1.7, 0.2), ([1.7, 1.1, 0.8], [0.2, 0.3, 0.1]), (1.3, 0.0)])
def test_the_gradient_is_that_of_kernel_gradient(kind: str, variances: Any) -> None:
    weights, biases = variances
    kernel = gt.GraphonGPKernel(NETWORK, weights, biases, kernel=kind)
    value, slope = kernel(X, eval_gradient=True)
    network = NETWORK.changed(weight_variance=weights, bias_variance=biases)
    np.testing.assert_allclose(value, gt.limit_kernel(network, X)[kind].values, rtol=1e-13)
    cotangent = RNG.standard_normal((len(X), len(X)))
    given: dict[str, Any] = {kind: cotangent}
    exact = gt.kernel_gradient(network, X, **given)
    logs = [exact.bias_variance * network.bias_variances] if biases else []  # scikit-learn goes by the names' order
    logs.append(exact.weight_variance * network.weight_variance)
    expected = np.concatenate(logs) if np.ndim(weights) else np.array([one.sum() for one in logs])
    found = np.einsum("ij,ijk->k", cotangent, slope)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
    assert slope.shape[2] == len(kernel.theta) == len(kernel.bounds)


def test_the_process_is_that_of_nngp_posterior() -> None:
    kernel = gt.GraphonGPKernel(NETWORK, 1.5, 0.2)
    process = GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None).fit(X, Y)
    network = NETWORK.changed(weight_variance=1.5, bias_variance=0.2)
    kern, cross = gt.limit_kernel(network, X).nngp, gt.limit_kernel(network, NEW, X).nngp
    prior = np.diagonal(gt.limit_kernel(network, NEW).nngp)
    expected = gt.nngp_posterior(kern, Y, cross, prior, noise=0.05)
    mean, deviation = process.predict(NEW, return_std=True)
    np.testing.assert_allclose(mean, expected["mean"], rtol=1e-9)
    np.testing.assert_allclose(deviation**2, expected.variance, rtol=1e-7)


def test_the_optimiser_ends_where_fit_ends() -> None:
    reach = np.exp([-7.0, 7.0])  # that of fit
    kernel = gt.GraphonGPKernel(
        NETWORK, [1.5] * 3, [0.2] * 3, weight_variance_bounds=1.5 * reach, bias_variance_bounds=0.2 * reach
    )
    process = GaussianProcessRegressor(kernel, alpha=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some variance may end at its bound
        process.fit(X, Y)
    ended = NETWORK.changed(
        weight_variance=process.kernel_.weight_variance.tolist(), bias_variance=process.kernel_.bias_variance.tolist()
    )
    kern = gt.limit_kernel(ended, X).nngp.values + 0.05 * np.eye(len(X))
    evidence = -0.5 * (Y @ np.linalg.solve(kern, Y) + np.linalg.slogdet(2 * np.pi * kern)[1])
    assert process.log_marginal_likelihood_value_ == pytest.approx(evidence, rel=1e-9)
    found = gt.fit(NETWORK.changed(weight_variance=1.5, bias_variance=0.2), X, Y, noise=0.05)
    assert process.log_marginal_likelihood_value_ == pytest.approx(found.log_evidence, abs=1e-3)
    assert process.log_marginal_likelihood_value_ > process.log_marginal_likelihood(kernel.theta) + 0.01


def test_it_is_a_kernel_of_scikit_learn() -> None:
    kernel = gt.GraphonGPKernel(NETWORK, kernel="ntk")
    assert clone(kernel) == kernel == pickle.loads(pickle.dumps(kernel))
    assert clone(kernel) != gt.GraphonGPKernel(NETWORK)
    moved = kernel.clone_with_theta(kernel.theta + 1)
    assert moved.weight_variance == pytest.approx(2.0 * math.e)
    assert not kernel.is_stationary()
    assert "ntk" in repr(kernel)
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(kernel(X)), rtol=1e-13)
    both = ConstantKernel(0.5) * kernel + WhiteKernel(0.1)
    np.testing.assert_allclose(both(X), 0.5 * kernel(X) + 0.1 * np.eye(len(X)), rtol=1e-13)
    fixed = gt.GraphonGPKernel(NETWORK, weight_variance_bounds="fixed", bias_variance_bounds="fixed")
    assert fixed(X, eval_gradient=True)[1].shape == (len(X), len(X), 0)
    np.testing.assert_allclose(gt.GraphonGPKernel()(X, NEW).shape, (len(X), len(NEW)))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"network": "relu"}, InputError, "network: expected a Network"),
        ({"network": NETWORK.changed(outputs=2)}, NetworkError, "one output"),
        ({"kernel": "rbf"}, InputError, "kernel"),
        ({"weight_variance": [1.0, 2.0]}, NetworkError, "weight_variance"),
        ({"weight_variance": -1.0}, NetworkError, "weight_variance"),
    ],
)
def test_parameters_that_do_not_fit(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        gt.GraphonGPKernel(**given)(X)


def test_hyperparameters_that_cannot_move() -> None:
    with pytest.raises(InputError, match="leave Y out"):
        gt.GraphonGPKernel()(X, NEW, eval_gradient=True)
    with pytest.raises(InputError, match="no logarithm"):
        gt.GraphonGPKernel(bias_variance=[0.1, 0.0, 0.1]).theta  # noqa: B018
    with pytest.raises(InputError, match="at least 0"):
        gt.GraphonGPKernel(weight_variance=[1.0, -1.0, 1.0]).theta  # noqa: B018
