"""Predicted test errors against kernel regression that was done, and against the limits where they are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import ConvergenceError, InputError, KernelError
from graphon_theory.networks.network import Network
from graphon_theory.spectra.zonal_spectra import zonal_spectrum
from graphon_theory.training.generalisation import (
    LearningCurveWarning,
    eigenlearning,
    learning_curve,
    measured_learning_curve,
)

Array = NDArray[np.float64]
NETWORK = Network([1.0, [[0.9, 0.1], [0.2, 0.6]], 1.0], bias_variance=0.1)


@pytest.fixture(scope="module")
def sample() -> tuple[Array, Array]:
    """A kernel of 300 inputs of different norms and two noisy targets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5))
    y = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1) + 0.1 * rng.standard_normal((300, 2))
    return limit_kernel(NETWORK, x).ntk.values, y


@pytest.mark.parametrize("ridge", [0.0, 0.003])
def test_learning_curve_is_measured(sample: tuple[Array, Array], ridge: float) -> None:
    kernel, y = sample
    sizes = [20, 80, 200]
    predicted = learning_curve(kernel, y, sizes, ridge=ridge)
    measured = measured_learning_curve(kernel, y, sizes, ridge=ridge, repeats=40)
    # asymptotic in n: 10% at n = 20, then 4%, beside four standard errors of the measurement
    allowed = 4 * measured.test_error_error / measured.test_error + np.array([0.10, 0.04, 0.04])
    assert (np.abs(predicted.test_error / measured.test_error - 1) < allowed).all()
    assert (predicted.spectral_error < predicted.test_error).all()  # inputs differ: one kappa for all is too low
    if ridge:
        allowed = 4 * measured.train_error_error / measured.train_error + 0.05
        assert (np.abs(predicted.train_error / measured.train_error - 1) < allowed).all()
    else:
        np.testing.assert_allclose(predicted.train_error, 0.0, atol=1e-20)


def test_inputs_that_are_all_alike_need_no_resolution() -> None:
    # a circulant kernel: every input has the same neighbourhood, so all sigma are equal
    angle = 2 * np.pi * np.arange(120) / 120
    kernel = np.exp(np.cos(angle[:, None] - angle)) + 0.05 * np.eye(120)
    found = learning_curve(kernel, np.sin(3 * angle), [15, 60])
    np.testing.assert_allclose(found.test_error, found.spectral_error, rtol=1e-7)


def test_learnability_counts_the_inputs(sample: tuple[Array, Array]) -> None:
    kernel, y = sample
    found = learning_curve(kernel, y, [30, 150], resolved=False)
    np.testing.assert_allclose(found.learnability.sum("mode"), [30, 150], rtol=1e-9)
    assert "test_error" not in found
    one = learning_curve(kernel, y[:, 0], [30], resolved=False), learning_curve(kernel, y[:, 1], [30], resolved=False)
    assert float(one[0].spectral_error[0] + one[1].spectral_error[0]) == pytest.approx(float(found.spectral_error[0]))


def test_one_held_out_input_is_leave_one_out(sample: tuple[Array, Array]) -> None:
    # n = N - 1: the exact leave-one-out error, (y_i - f_i) = [K^-1 y]_i / [K^-1]_ii
    kernel, y = sample
    inverse = np.linalg.inv(kernel)
    exact = np.mean(np.sum((inverse @ y / np.diagonal(inverse)[:, None]) ** 2, axis=1))
    found = learning_curve(kernel, y, [len(kernel) - 1])
    assert float(found.test_error[0]) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_eigenlearning_on_the_sphere(noise: float) -> None:
    # spectrum by Funk and Hecke, a target of degrees 1 and 2, regression on fresh points: no sample in the prediction
    d, sizes = 6, [30, 120, 400]
    spectrum = zonal_spectrum(NETWORK, d, 60)
    keep = spectrum.eigenvalue.values > spectrum.error.values
    power = np.zeros(int(keep.sum()))
    power[1], power[2] = 1.0, 0.5
    predicted = eigenlearning(
        spectrum.eigenvalue[keep], power, sizes, multiplicity=spectrum.multiplicity[keep], ridge=1e-3, noise=noise
    )
    rng, errors, trains = np.random.default_rng(2), np.empty((3, 25)), np.empty((3, 25))
    for row, n in enumerate(sizes):
        for repeat in range(25):
            x = rng.standard_normal((n + 300, d))
            x *= np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)
            # x_1 has mean square 1; x_1 x_2 has mean square d^2 / (d (d + 2))
            y = x[:, 0] + np.sqrt(0.5 * (d + 2) / d) * x[:, 1] * x[:, 2]
            noisy = y[:n] + np.sqrt(noise) * rng.standard_normal(n)
            kernel = limit_kernel(NETWORK, x).ntk.values
            weights = np.linalg.solve(kernel[:n, :n] + 1e-3 * n * np.eye(n), noisy)
            errors[row, repeat] = np.mean((kernel[n:, :n] @ weights - y[n:]) ** 2)
            trains[row, repeat] = np.mean((kernel[:n, :n] @ weights - noisy) ** 2)
    for found, real in ((predicted.test_error, errors), (predicted.train_error, trains)):
        error = real.std(axis=1, ddof=1) / np.sqrt(25)
        assert (np.abs(found - real.mean(axis=1)) < 4 * error + 0.05 * real.mean(axis=1)).all()


def test_eigenlearning_knows_its_limits() -> None:
    values, power = np.array([1.0, 0.5, 0.25, 0.1]), np.array([1.0, 0.0, 0.0, 0.0])
    found = eigenlearning(values, power, [1, 2, 3])
    np.testing.assert_allclose(found.learnability.sum("mode"), [1, 2, 3], rtol=1e-12)
    copies = eigenlearning([1.0, 0.5], [1.0, 0.2], [2], multiplicity=[1, 3])
    spread = eigenlearning([1.0, 0.5, 0.5, 0.5], [1.0, 0.1, 0.1, 0.0], [2])
    assert float(copies.test_error[0]) == pytest.approx(float(spread.test_error[0]), rel=1e-12)
    ridged = eigenlearning(values, power, [10], ridge=0.01)
    assert float(ridged.learnability.sum() + 10 * 0.01 / ridged.kappa[0]) == pytest.approx(10, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [4]}, r"sizes: 4 inputs without ridge need more than the 4 modes given"),
        ({"sizes": [2, 1]}, "sizes: expected increasing whole numbers from 1, got"),
        ({"sizes": [0.5]}, "sizes: expected increasing whole numbers from 1, got"),
        ({"eigenvalue": [1.0, 0.0, 1.0, 1.0]}, r"eigenvalue: expected positive numbers, got 0 at \[1\]"),
        ({"target_power": [1.0]}, r"target_power: expected 4 numbers, one a mode"),
        ({"target_power": [1.0, -1.0, 0, 0]}, r"target_power: expected no negative numbers, got -1 at \[1\]"),
        ({"noise": -1.0}, "noise: expected a number of at least 0"),
        ({"ridge": np.inf}, "ridge: expected a number of at least 0"),
    ],
)
def test_eigenlearning_refuses(options: dict[str, Any], message: str) -> None:
    given = {"eigenvalue": [1.0, 0.5, 0.25, 0.1], "target_power": [1.0, 0.0, 0.0, 0.0], "sizes": [1]}
    with pytest.raises(InputError, match=message):
        eigenlearning(**{**given, **options})


def test_curves_refuse(sample: tuple[Array, Array]) -> None:
    kernel, y = sample
    with pytest.raises(InputError, match="sizes: expected increasing whole numbers from 1 to 299"):
        learning_curve(kernel, y, [300])
    with pytest.raises(InputError, match="sizes: 3 inputs without ridge need a kernel of rank above that, got 2"):
        learning_curve(np.diag([2.0, 1.0, 0.0, 0.0]), np.ones(4), [3])
    with pytest.raises(InputError, match="repeats: expected a whole number of at least 2"):
        measured_learning_curve(kernel, y, [10], repeats=1)
    with pytest.raises(KernelError, match="symmetric"):
        measured_learning_curve(np.random.default_rng(0).random((9, 9)), np.ones(9), [3])
    with pytest.raises(KernelError, match="positive semi-definite"):
        measured_learning_curve(-kernel, y, [10])
    with pytest.raises(InputError, match="rng: expected a seed"):
        measured_learning_curve(kernel, y, [10], rng=-1)


def test_copies_among_the_inputs_are_measured_and_named(sample: tuple[Array, Array]) -> None:
    kernel, y = sample
    twice = np.r_[0:100, 0:100]
    doubled = kernel[np.ix_(twice, twice)]
    measured = measured_learning_curve(doubled, y[twice], [60], repeats=4)  # no warning of a singular matrix
    assert 0 < float(measured.test_error[0]) < np.mean(np.sum(y**2, axis=1))
    with pytest.raises(ConvergenceError, match="inputs that coincide"):
        learning_curve(doubled, y[twice], [90])


# --- sizes at which Newton's method from one sigma for all does not settle


def of_sklearn(name: str) -> tuple[Array, Array]:
    """Kernel of a data set with standardised columns, and its classes as centred indicators."""
    from sklearn import datasets

    data = getattr(datasets, name)()
    x = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    y = np.eye(data.target.max() + 1)[data.target]
    network = Network([1.0, 1.0, 1.0], bias_variance=0.1)
    return limit_kernel(network, x).ntk.values, y - y.mean(axis=0)


def by_damped_iteration(kernel: Array, y: Array, n: int, delta: float) -> float:
    """Held-out error from sigma <- (1 - n/N) / G_ii + delta, repeated, and its answer to K + t K^2 by differences."""
    size, share = len(kernel), n / len(kernel)

    def solve(matrix: Array) -> Array:
        sigma = (np.diagonal(matrix) + delta) / share
        for _ in range(5000):
            after = (1 - share) / np.diagonal(np.linalg.inv(matrix + np.diag(sigma))) + delta
            move, sigma = np.abs(after / sigma - 1).max(), after
            if move < 1e-12:
                return sigma
        raise AssertionError("the iteration does not settle")

    step = 1e-6 / np.linalg.norm(kernel, 2)
    sigma, (up, down) = solve(kernel), (solve(kernel + sign * step * kernel @ kernel) for sign in (1, -1))
    inverse = np.linalg.inv(kernel + np.diag(sigma))
    by_one = np.linalg.inv(np.eye(size) - ((1 - share) / np.diagonal(inverse) ** 2)[:, None] * inverse**2) @ (
        (1 - share) / np.diagonal(inverse) ** 2 * np.sum(inverse**2, axis=1)
    )
    left = np.sum((inverse @ y) ** 2, axis=1)
    return float((sigma**2 + (up - down) / (2 * step) - delta**2 * (1 + by_one)) @ left) / (size - n)


@pytest.mark.parametrize(("n", "ridge"), [(20, 0.0), (20, 1e-3), (60, 0.0)])
def test_small_samples_of_iris_by_damped_iteration(n: int, ridge: float) -> None:
    kernel, y = of_sklearn("load_iris")
    found = float(learning_curve(kernel, y, [n], ridge=ridge).test_error[0])
    assert found == pytest.approx(by_damped_iteration(kernel, y, n, n * ridge), rel=1e-6)
    if (n, ridge) == (20, 0.0):
        assert found == pytest.approx(0.160307522, rel=1e-8)


def test_small_samples_of_breast_cancer_are_measured() -> None:
    kernel, y = of_sklearn("load_breast_cancer")
    sizes = [10, 20, 40]
    predicted = learning_curve(kernel, y, sizes)
    measured = measured_learning_curve(kernel, y, sizes, repeats=60)
    allowed = 4 * measured.test_error_error / measured.test_error + 0.08
    assert (np.abs(predicted.test_error / measured.test_error - 1) < allowed).all()


def test_copies_with_the_same_targets_are_no_hindrance() -> None:
    # iris holds one flower twice: from half the sample on, one of the two is as good as always drawn
    kernel, y = of_sklearn("load_iris")
    sizes = [75, 100, 140]
    predicted = learning_curve(kernel, y, sizes)
    measured = measured_learning_curve(kernel, y, sizes, repeats=100)
    allowed = 4 * measured.test_error_error / measured.test_error + 0.04
    assert (np.abs(predicted.test_error / measured.test_error - 1) < allowed).all()
    np.testing.assert_allclose(predicted.train_error, 0.0, atol=1e-9)


def test_a_bad_size_does_not_lose_the_others() -> None:
    kernel, y = of_sklearn("load_iris")
    with pytest.warns(LearningCurveWarning, match="size 149 is left out. sizes: 149 inputs without ridge"):
        found = learning_curve(kernel, y, [20, 149])
    assert found["size"].values.tolist() == [20]
    assert found.learnability.shape == (1, 150)
    assert float(found.test_error[0]) == float(learning_curve(kernel, y, [20]).test_error[0])
    with pytest.raises(InputError, match="149 inputs without ridge"):
        learning_curve(kernel, y, [149])
    unlike = y + np.random.default_rng(0).standard_normal(y.shape)
    with pytest.warns(LearningCurveWarning, match="size 80 is left out. kernel: inputs with other targets are drawn"):
        found = learning_curve(kernel, unlike, [40, 80])
    assert found["size"].values.tolist() == [40]
    with pytest.raises(ConvergenceError, match="inputs that coincide"):
        learning_curve(kernel, unlike, [80])
    assert learning_curve(kernel, unlike, [80], ridge=1e-3)["size"].values.tolist() == [80]
    assert learning_curve(kernel, unlike, [80], resolved=False)["size"].values.tolist() == [80]


def test_an_input_without_any_kernel_is_never_learned(sample: tuple[Array, Array]) -> None:
    kernel, y = sample[0][:60, :60].copy(), sample[1][:60].copy()
    kernel[7] = kernel[:, 7] = 0.0
    rest = np.delete(np.arange(60), 7)
    found = learning_curve(kernel, y, [30])
    others = learning_curve(kernel[np.ix_(rest, rest)], y[rest], [29])
    share = float(np.sum(y[7] ** 2))
    assert float(found.test_error[0]) == pytest.approx((59 * float(others.test_error[0]) + share) / 60, rel=0.02)
