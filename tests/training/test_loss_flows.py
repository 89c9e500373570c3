"""Flow and descent on other losses against plain explicit integration and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory as gt

Array = NDArray[np.float64]
RNG = np.random.default_rng(3)
X, NEW = RNG.standard_normal((10, 4)), RNG.standard_normal((4, 4))
LABELS = RNG.integers(0, 3, 10)


def gaussian(x: Array, x2: Array) -> Array:
    return 2.0 * np.exp(-((x[:, None] - x2) ** 2).sum(-1) / 4)


KERNEL, CROSS = gaussian(X, X), gaussian(NEW, X)
SCALES = np.array([0.5, 1.0, 3.0])  # of the outputs' own kernels: sums of two shapes, so that they share no modes
OWN, OWN_CROSS = (np.array([c * gaussian(x / c, X / c) + 0.2 * x @ X.T for c in SCALES]) for x in (X, NEW))


def slope(f: Array) -> Array:
    """dL/df of the mean cross-entropy, by its definition."""
    powers = np.exp(f)
    found = powers / powers.sum(1, keepdims=True)
    for row, label in enumerate(LABELS):
        found[row, label] -= 1
    return found / len(f)


def value(f: Array, labels: NDArray[np.int64]) -> float:
    return float(
        np.mean([-np.log(np.exp(row)[label] / np.exp(row).sum()) for row, label in zip(f, labels, strict=True)])
    )


def by(kernel: Array, slopes: Array) -> Array:
    """K slopes, column by column where every output has a kernel of its own."""
    if kernel.ndim == 2:
        return kernel @ slopes
    return np.stack([own @ column for own, column in zip(kernel, slopes.T, strict=True)], axis=1)


def runge_kutta(
    f: Array, g: Array, time: float, steps: int, kernel: Array = KERNEL, cross: Array = CROSS
) -> tuple[Array, Array]:
    """Both in time: df/dt = -K dL/df(f), dg/dt = -K' dL/df(f)."""
    h = time / steps
    for _ in range(steps):
        k1 = slope(f)
        k2 = slope(f - h / 2 * by(kernel, k1))
        k3 = slope(f - h / 2 * by(kernel, k2))
        k4 = slope(f - h * by(kernel, k3))
        mean = (k1 + 2 * k2 + 2 * k3 + k4) / 6
        f, g = f - h * by(kernel, mean), g - h * by(cross, mean)
    return f, g


def test_outputs_with_kernels_of_their_own() -> None:
    f0, g0 = RNG.standard_normal((10, 3)), RNG.standard_normal((4, 3))
    given: dict[str, Any] = {"loss": "cross_entropy", "test_kernel": OWN_CROSS}
    found = gt.gradient_flow(OWN, LABELS, [2.0], initial=f0, test_initial=g0, **given)
    f, g = runge_kutta(f0, g0, 2.0, 400, OWN, OWN_CROSS)
    np.testing.assert_allclose(found.prediction[0], f, atol=1e-8)
    np.testing.assert_allclose(found.test_prediction[0], g, atol=1e-8)
    f, g = np.zeros((10, 3)), np.zeros((4, 3))
    for _ in range(20):
        change = slope(f)
        f, g = f - 0.1 * by(OWN, change), g - 0.1 * by(OWN_CROSS, change)
    steps = gt.gradient_descent(OWN, LABELS, [20], learning_rate=0.1, **given)
    np.testing.assert_allclose(steps.prediction[0], f, atol=1e-12)
    np.testing.assert_allclose(steps.test_prediction[0], g, atol=1e-12)


@pytest.mark.parametrize("start", [False, True])
def test_cross_entropy_flow_is_the_fine_explicit_one(start: bool) -> None:
    f0 = RNG.standard_normal((10, 3)) if start else np.zeros((10, 3))
    g0 = RNG.standard_normal((4, 3)) if start else np.zeros((4, 3))
    given: dict[str, Any] = {"initial": f0, "test_initial": g0} if start else {}
    found = gt.gradient_flow(
        KERNEL, LABELS, [0, 3, 40], loss="cross_entropy", test_kernel=CROSS, y_test=[0, 1, 2, 1], **given
    )
    np.testing.assert_array_equal(found.prediction[0], f0)
    f, g = runge_kutta(f0, g0, 3.0, 300)
    late, late_new = runge_kutta(f, g, 37.0, 3700)
    np.testing.assert_allclose(found.prediction.values[1:], [f, late], atol=1e-8)
    np.testing.assert_allclose(found.test_prediction.values[1:], [g, late_new], atol=1e-8)
    assert float(found.loss[2]) == pytest.approx(value(late, LABELS), abs=1e-9)
    assert float(found.test_loss[2]) == pytest.approx(value(late_new, np.array([0, 1, 2, 1])), abs=1e-9)
    assert float(found.accuracy[2]) == np.mean(late.argmax(1) == LABELS)
    error = max(np.abs(found.prediction[2] - late).max(), np.abs(found.test_prediction[2] - late_new).max())
    assert error <= found.attrs["integration_error"] + 1e-12
    assert found.attrs["integration_error"] < 1e-6


def squared(f: Array, y: Array) -> tuple[float, Array]:
    return float(((f - y) ** 2).sum() / (2 * len(f))), (f - y) / len(f)


@pytest.mark.parametrize(
    ("targets", "kernel", "cross"), [((), KERNEL, CROSS), ((2,), KERNEL, CROSS), ((3,), OWN, OWN_CROSS)]
)
def test_a_squared_loss_that_is_written_out_is_the_closed_form(
    targets: tuple[int, ...], kernel: Array, cross: Array
) -> None:
    y, f0, g0 = (RNG.standard_normal((n, *targets)) for n in (10, 10, 4))
    given: dict[str, Any] = {
        "test_kernel": cross,
        "ridge": 0.01,
        "learning_rate": 0.6,
        "initial": f0,
        "test_initial": g0,
    }
    for one, two in (
        (
            gt.gradient_flow(kernel, y, [0.5, 30], loss=squared, **given),
            gt.gradient_flow(kernel, y, [0.5, 30], **given),
        ),
        (
            gt.gradient_descent(kernel, y, [1, 30], loss=squared, momentum=0.5, nesterov=True, **given),
            gt.gradient_descent(kernel, y, [1, 30], momentum=0.5, nesterov=True, **given),
        ),
        (
            gt.gradient_descent(kernel, y, [1, 30], loss=squared, momentum=0.5, **given),
            gt.gradient_descent(kernel, y, [1, 30], momentum=0.5, **given),
        ),
    ):
        for name in ("prediction", "test_prediction", "loss"):
            np.testing.assert_allclose(one[name], two[name], atol=1e-8)


def test_descent_is_a_loop() -> None:
    f, speed = np.zeros((10, 3)), np.zeros((10, 3))
    for _ in range(25):
        speed = 0.9 * speed + KERNEL @ slope(f)
        f = f - 0.3 * speed
    found = gt.gradient_descent(KERNEL, LABELS, [0, 25], loss="cross_entropy", learning_rate=0.3, momentum=0.9)
    np.testing.assert_allclose(found.prediction[1], f, atol=1e-12)
    assert float(found.loss[0]) == pytest.approx(np.log(3))


def test_labels_travel() -> None:
    names = [f"a{i}" for i in range(10)]
    kernel = xr.DataArray(KERNEL, {"x": names, "x2": names}, ("x", "x2"))
    found = gt.gradient_flow(kernel, LABELS, [1.0], loss="cross_entropy")
    assert list(found.x.values) == names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [1.0, np.inf]}, "times: expected finite times"),
        ({"y": LABELS + 0.5}, "y: expected 10 labels"),
        ({"y": LABELS - 1}, "y: expected 10 labels"),
        ({"y": LABELS[:9]}, "y: expected 10 labels"),
        ({"initial": np.zeros((10, 2))}, "y: labels reach 2, but there are 2 outputs"),
        ({"loss": "hinge"}, "loss: expected one of squared, cross_entropy, or a function"),
        ({"loss": lambda f, y: 3.0, "y": X[:, 0]}, "loss: expected a pair"),
        ({"loss": lambda f, y: (np.nan, f), "y": X[:, 0]}, "loss: expected a finite number"),
        ({"width": 3}, "width: the estimate of the kernel's change is one for the squared loss"),
        ({"kernel": OWN, "y": np.zeros(10, int), "initial": np.zeros((10, 2))}, "kernel: each of the 3 outputs has a"),
        ({"kernel": OWN, "y": X[:, 0], "loss": squared}, "there are 1 outputs to train"),
        ({"kernel": OWN, "y": LABELS + 1}, "y: labels reach 3, but there are 3 outputs"),
        ({"kernel": OWN, "test_kernel": CROSS}, "test_kernel: expected the kernels of 3 outputs"),
        ({"y_test": [0, 1]}, "test_kernel: expected the kernel of new by training inputs"),
        ({"test_kernel": CROSS, "initial": np.zeros((10, 3))}, "test_initial: training does not start from 0"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"kernel": KERNEL, "y": LABELS, "times": [1.0], "loss": "cross_entropy"} | change
    with pytest.raises(gt.GraphonError, match=message):
        gt.gradient_flow(**arguments)


def test_steps_that_diverge_are_refused() -> None:
    with pytest.raises(gt.ConvergenceError, match="diverges by step"):
        gt.gradient_descent(KERNEL, X, [2000], loss=squared, learning_rate=50.0)
