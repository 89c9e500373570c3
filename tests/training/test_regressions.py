"""Kernel regression, the NNGP posterior and the ensemble of trained networks against plain linear algebra."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.stats import multivariate_normal

import graphon_theory as gt
from graphon_theory.errors import InputError, KernelError
from graphon_theory.training.dynamics import gradient_descent, gradient_flow
from graphon_theory.training.ensembles import training_ensemble
from graphon_theory.training.regressions import kernel_regression, nngp_posterior

Array = NDArray[np.float64]
SIZE, NEW = 9, 4


def rbf(x: Array, x2: Array, length: float) -> Array:
    return 2.0 * np.exp(-((x[:, None] - x2) ** 2).sum(-1) / (2 * length**2))


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """Two different kernels as NTK and NNGP on 9 inputs and 4 new ones, two targets."""
    rng = np.random.default_rng(3)
    x, new = rng.standard_normal((SIZE, 3)), rng.standard_normal((NEW, 3))

    def kernels(a: Array, b: Array) -> xr.Dataset:
        return xr.Dataset({"ntk": (("x", "x2"), rbf(a, b, 1.1)), "nngp": (("x", "x2"), 0.4 * rbf(a, b, 1.9))})

    return {
        "kernels": kernels(x, x),
        "test": kernels(new, x),
        "test_variance": np.full(NEW, 0.8),
        "y": rng.standard_normal((SIZE, 2)),
        "joint": 0.4 * rbf(np.vstack([x, new]), np.vstack([x, new]), 1.9),
    }


@pytest.mark.parametrize("ridge", [0.0, 0.03])
def test_kernel_regression(data: dict[str, Any], ridge: float) -> None:
    kernel, cross, y = data["kernels"].ntk.values, data["test"].ntk.values, data["y"]
    found = kernel_regression(kernel, y, cross, ridge=ridge)
    solved = np.linalg.solve(kernel + SIZE * ridge * np.eye(SIZE), y)
    np.testing.assert_allclose(found.prediction, kernel @ solved, atol=1e-11)
    np.testing.assert_allclose(found.test_prediction, cross @ solved, atol=1e-10)
    for i in range(SIZE):
        rest = np.delete(np.arange(SIZE), i)
        own = kernel[np.ix_(rest, rest)] + (SIZE - 1) * ridge * np.eye(SIZE - 1)
        np.testing.assert_allclose(found.left_out[i], kernel[i, rest] @ np.linalg.solve(own, y[rest]), atol=1e-9)
    flow = gradient_flow(kernel, y, [math.inf], test_kernel=cross, ridge=ridge)
    np.testing.assert_allclose(found.test_prediction, flow.test_prediction[0], atol=1e-12)
    one = kernel_regression(kernel, y[:, 0], cross, ridge=ridge)
    np.testing.assert_allclose(one.test_prediction, found.test_prediction[:, 0], atol=1e-12)


def test_a_singular_kernel_has_no_left_out_predictions() -> None:
    kernel = np.ones((3, 3))
    found = kernel_regression(kernel, [1.0, 2.0, 3.0], [[1.0, 1.0, 1.0]])
    np.testing.assert_allclose(found.test_prediction, [2.0], atol=1e-14)
    assert np.isnan(found.left_out).all()


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_nngp_posterior(data: dict[str, Any], noise: float) -> None:
    nngp, cross, y = data["kernels"].nngp.values, data["test"].nngp.values, data["y"]
    found = nngp_posterior(nngp, y, cross, data["test_variance"], noise=noise)
    noisy = nngp + noise * np.eye(SIZE)
    np.testing.assert_allclose(found["mean"], cross @ np.linalg.solve(noisy, y), atol=1e-9)
    explained = np.sum(cross * np.linalg.solve(noisy, cross.T).T, axis=1)
    np.testing.assert_allclose(found.variance, 0.8 - explained, atol=1e-10)
    evidence = sum(multivariate_normal(cov=noisy).logpdf(y[:, k]) for k in range(2))
    assert found.attrs["log_evidence"] == pytest.approx(evidence, rel=1e-8)
    assert float(found.variance.min()) >= 0


def test_posterior_at_the_training_inputs_is_certain(data: dict[str, Any]) -> None:
    nngp, y = data["kernels"].nngp.values, data["y"]
    found = nngp_posterior(nngp, y, nngp, np.diagonal(nngp))
    np.testing.assert_allclose(found["mean"], y, atol=1e-9)
    np.testing.assert_allclose(found.variance, 0.0, atol=1e-10)


def test_posterior_refuses_kernels_that_do_not_belong_together(data: dict[str, Any]) -> None:
    nngp, cross, y = data["kernels"].nngp.values, data["test"].nngp.values, data["y"]
    with pytest.raises(KernelError, match=r"test_variance: 0.01 at \[\d\] is .* less than what the training inputs"):
        nngp_posterior(nngp, y, cross, np.full(NEW, 0.01))
    with pytest.raises(InputError, match=r"test_variance: expected real numbers of shape \(4,\)"):
        nngp_posterior(nngp, y, cross, np.ones(3))
    with pytest.raises(InputError, match="noise: expected a number of at least 0"):
        nngp_posterior(nngp, y, cross, data["test_variance"], noise=-1.0)


@pytest.mark.parametrize("ridge", [0.0, 0.05])
@pytest.mark.parametrize("descent", [False, True])
def test_ensemble_against_the_linear_map_written_out(data: dict[str, Any], ridge: float, descent: bool) -> None:
    kernel, cross, y = data["kernels"].ntk.values, data["test"].ntk.values, data["y"]
    rate, times = 0.6, [0, 1, 7, 60]
    found = training_ensemble(
        data["kernels"], y, times, test=data["test"], test_variance=data["test_variance"], learning_rate=rate,
        ridge=ridge, descent=descent,
    )  # fmt: skip
    rows = np.vstack([kernel, cross]) / SIZE
    # (f, f_0, y) with df/dt = rate (rows (y - f_train) - ridge (f - f_0)) on old and new inputs
    every = SIZE + NEW
    slope = np.zeros((2 * every + SIZE, 2 * every + SIZE))
    slope[:every, :SIZE] -= rows
    slope[:every, :every] -= ridge * np.eye(every)
    slope[:every, every : 2 * every] = ridge * np.eye(every)
    slope[:every, 2 * every :] = rows
    for row, time in enumerate(times):
        moved = (
            np.linalg.matrix_power(np.eye(len(slope)) + rate * slope, time) if descent else expm(rate * time * slope)
        )
        keep, lift = moved[:every, :every] + moved[:every, every : 2 * every], moved[:every, 2 * every :]
        mean, variance = lift @ y, np.diagonal(keep @ data["joint"] @ keep.T)
        np.testing.assert_allclose(found["mean"][row], mean[:SIZE], atol=1e-9)
        np.testing.assert_allclose(found.test_mean[row], mean[SIZE:], atol=1e-9)
        np.testing.assert_allclose(found["std"][row] ** 2, variance[:SIZE], atol=1e-9)
        np.testing.assert_allclose(found.test_std[row] ** 2, variance[SIZE:], atol=1e-9)


def test_ensemble_is_the_law_of_flows_from_drawn_starts(data: dict[str, Any]) -> None:
    kernel, cross, y = data["kernels"].ntk.values, data["test"].ntk.values, data["y"][:, 0]
    rng, draws, times = np.random.default_rng(1), 400, [0.0, 2.0, 20.0]
    starts = np.linalg.cholesky(data["joint"] + 1e-12 * np.eye(SIZE + NEW)) @ rng.standard_normal((SIZE + NEW, draws))
    flows = [
        gradient_flow(kernel, y, times, test_kernel=cross, initial=s[:SIZE], test_initial=s[SIZE:]) for s in starts.T
    ]
    tests = np.array([flow.test_prediction.values for flow in flows])
    losses = np.array([flow.loss.values for flow in flows])
    law = training_ensemble(data["kernels"], y, times, test=data["test"], test_variance=data["test_variance"])
    z = (tests.mean(axis=0) - law.test_mean) / (law.test_std / np.sqrt(draws))
    assert float(np.abs(z).max()) < 4
    ratio = tests.var(axis=0, ddof=1) / law.test_std**2
    assert float(np.abs(ratio - 1).max()) < 4.5 * np.sqrt(2 / draws)
    loss_z = (losses.mean(axis=0) - law.loss) / (losses.std(axis=0, ddof=1) / np.sqrt(draws))
    assert float(np.abs(loss_z).max()) < 4


def test_ensemble_starts_from_the_prior_and_its_mean(data: dict[str, Any]) -> None:
    means = np.linspace(-1, 1, SIZE)
    kernels = data["kernels"].assign(mean=("x", means))
    test = data["test"].assign(mean=("x", np.array([3.0, 2.0, 1.0, 0.5])))
    law = training_ensemble(kernels, data["y"], [0.0, 5.0], test=test, test_variance=data["test_variance"])
    np.testing.assert_allclose(law["mean"][0], np.stack([means, means], axis=1), atol=1e-12)
    np.testing.assert_allclose(law.test_mean[0, :, 1], [3.0, 2.0, 1.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(law["std"][0], np.sqrt(0.8), rtol=1e-12)
    np.testing.assert_allclose(law.test_std[0], np.sqrt(0.8), rtol=1e-12)
    flow = gradient_flow(
        kernels.ntk, data["y"], [5.0], test_kernel=test.ntk, initial=law["mean"][0], test_initial=law.test_mean[0]
    )
    np.testing.assert_allclose(law.test_mean[1], flow.test_prediction[0], atol=1e-12)


def test_descending_ensemble_has_the_mean_of_descent(data: dict[str, Any]) -> None:
    law = training_ensemble(data["kernels"], data["y"], [0, 3, 40], learning_rate=0.5, descent=True)
    path = gradient_descent(data["kernels"].ntk, data["y"], [0, 3, 40], learning_rate=0.5)
    np.testing.assert_allclose(law["mean"], path.prediction, atol=1e-13)


def test_ensemble_refuses(data: dict[str, Any]) -> None:
    kernels, y = data["kernels"], data["y"]
    with pytest.raises(InputError, match="kernels: expected the Dataset of limit_kernel"):
        training_ensemble(kernels.ntk, y, [1.0])
    with pytest.raises(InputError, match="test, test_variance: expected limit_kernel"):
        training_ensemble(kernels, y, [1.0], test=data["test"])
    with pytest.raises(InputError, match="test: expected limit_kernel"):
        training_ensemble(kernels, y, [1.0], test_variance=data["test_variance"])
    with pytest.raises(InputError, match="is not below the largest stable step"):
        training_ensemble(kernels, y, [1], learning_rate=1e3, descent=True)
    with pytest.raises(KernelError, match="test_variance: leaves a variance of -"):
        training_ensemble(kernels, y, [1.0], test=data["test"], test_variance=np.full(NEW, 1e-3))


def test_a_noise_below_rounding_is_none(data: dict[str, Any]) -> None:
    kernel, y = np.kron(data["kernels"].nngp.values[:4, :4], np.ones((2, 2))), np.repeat(data["y"][:4], 2, axis=0)
    found = nngp_posterior(kernel, y, kernel, np.diagonal(kernel), noise=1e-17)
    assert "log_evidence" not in found.attrs
    assert np.isnan(kernel_regression(kernel, y, kernel, ridge=1e-18).left_out).all()
    assert np.isfinite(kernel_regression(kernel, y, kernel, ridge=1e-9).left_out).all()


def test_ensemble_refuses_priors_that_are_none(data: dict[str, Any]) -> None:
    kernels, y = data["kernels"], data["y"]
    with pytest.raises(KernelError, match="positive semi-definite"):
        training_ensemble(kernels.assign(nngp=-kernels.nngp), y, [1.0])
    with pytest.raises(KernelError, match="symmetric"):
        training_ensemble(kernels.assign(nngp=kernels.nngp + np.triu(np.ones(kernels.nngp.shape), 1)), y, [1.0])
    with pytest.raises(InputError, match="times: expected whole numbers"):
        training_ensemble(kernels, y, [0.5], descent=True)
    with pytest.raises(InputError, match=r"y: expected shape"):
        training_ensemble(kernels.assign(mean=("x", np.ones(len(y)))), y[:-1], [1.0])


# --- covariances ------------------------------------------------------------------------------------------------------


def among() -> tuple[gt.Network, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    network = gt.Network([1.0, 1.0, 1.0], bias_variance=0.1)
    return network, rng.standard_normal((7, 3)), rng.standard_normal((4, 3)), rng.standard_normal(7)


def test_posterior_covariance_is_that_of_the_gaussian() -> None:
    network, x, new, y = among()
    k, cross, own = (gt.limit_kernel(network, *args).nngp for args in ((x,), (new, x), (new,)))
    found = gt.nngp_posterior(k, y, cross, own, noise=0.2, covariance=True)
    inverse = np.linalg.inv(k.values + 0.2 * np.eye(7))
    want = own.values - cross.values @ inverse @ cross.values.T
    np.testing.assert_allclose(found.covariance, want, atol=1e-10)
    plain = gt.nngp_posterior(k, y, cross, np.diagonal(own), noise=0.2)
    np.testing.assert_allclose(found.variance, plain.variance, atol=1e-10)


def test_regression_covariance_is_that_of_the_gaussian() -> None:
    network, x, new, y = among()
    k, cross, own = (gt.limit_kernel(network, *args).ntk for args in ((x,), (new, x), (new,)))
    found = gt.kernel_regression(k, y, cross, ridge=0.03, covariance=True, test_variance=own)
    inverse = np.linalg.inv(k.values + 7 * 0.03 * np.eye(7))
    np.testing.assert_allclose(found.test_covariance, own.values - cross.values @ inverse @ cross.values.T, atol=1e-10)
    with pytest.raises(gt.InputError, match="test_variance: covariances need the kernel of the new inputs"):
        gt.kernel_regression(k, y, cross, covariance=True)
    with pytest.raises(gt.InputError, match="test_variance: of use with covariance=True only"):
        gt.kernel_regression(k, y, cross, test_variance=own)


def test_ensemble_covariance_is_that_of_the_linear_map() -> None:
    """f_t = f_0 + A_t (y - f_0(X)) as one matrix on f_0 at all inputs."""
    network, x, new, y = among()
    both = np.vstack([x, new])
    joint, theta = (gt.limit_kernel(network, both)[kind].values for kind in ("nngp", "ntk"))
    kernels, test = gt.limit_kernel(network, x), gt.limit_kernel(network, new, x)
    own = gt.limit_kernel(network, new).nngp
    found = gt.training_ensemble(kernels, y, [0, 2.5, np.inf], test=test, test_variance=own, covariance=True)
    values, vectors = np.linalg.eigh(theta[:7, :7])
    for row, time in enumerate((0.0, 2.5, np.inf)):
        with np.errstate(invalid="ignore"):
            learned = vectors @ np.diag(-np.expm1(-values / 7 * time) if time else 0 * values) @ vectors.T
        move = theta[:, :7] @ np.linalg.inv(theta[:7, :7]) @ learned
        whole = np.eye(11) - np.hstack([move, np.zeros((11, 4))])
        want = whole @ joint @ whole.T
        np.testing.assert_allclose(found.covariance[row], want[:7, :7], atol=1e-8)
        np.testing.assert_allclose(found.test_covariance[row], want[7:, 7:], atol=1e-8)
        np.testing.assert_allclose(found.test_std[row] ** 2, np.diag(want[7:, 7:]), atol=1e-8)
