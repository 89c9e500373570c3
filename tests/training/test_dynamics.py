"""Gradient flow against a fine ODE integration, kernel regression and explicit gradient descent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

import graphon_theory as gt
from graphon_theory.errors import ConvergenceError, InputError, KernelError
from graphon_theory.training.dynamics import (
    best_stopping_time,
    critical_learning_rate,
    gradient_descent,
    gradient_flow,
    steps_to_loss,
    time_to_loss,
)

Array = NDArray[np.float64]
SIZE, NEW, TARGETS = 12, 5, 3


def gaussian_kernel(x: Array, x2: Array) -> Array:
    return 3.0 * np.exp(-((x[:, None] - x2) ** 2).sum(-1) / 2)


@pytest.fixture(scope="module")
def problem() -> tuple[Array, Array, Array]:
    """Kernel of 12 inputs, test kernel of 5 new ones, three targets."""
    rng = np.random.default_rng(5)
    x, new = rng.standard_normal((SIZE, 4)), rng.standard_normal((NEW, 4))
    return gaussian_kernel(x, x), gaussian_kernel(new, x), rng.standard_normal((SIZE, TARGETS))


def integrate(kernel: Array, cross: Array, y: Array, times: Array, eta: float) -> tuple[Array, Array]:
    """Train and test predictions by integrating df/dt = -eta/N Theta (f - y) for old and new points."""
    rows = np.vstack([kernel, cross])
    size = len(kernel)

    def slope(_: float, state: Array) -> Array:
        f = state.reshape(len(rows), -1)
        return np.asarray(-eta / size * rows @ (f[:size] - y)).ravel()

    start = np.zeros(len(rows) * y.shape[1])
    path = solve_ivp(slope, (0, times[-1]), start, "DOP853", t_eval=times, rtol=1e-12, atol=1e-13)
    states = path.y.T.reshape(len(times), len(rows), -1)
    return states[:, :size], states[:, size:]


def test_equals_a_fine_integration(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    times = np.array([0.0, 0.1, 1.0, 5.0, 40.0])
    train, test = integrate(kernel, cross, y, times, eta=0.7)
    flow = gradient_flow(kernel, y, times, test_kernel=cross, learning_rate=0.7)
    np.testing.assert_allclose(flow.prediction, train, atol=1e-8)
    np.testing.assert_allclose(flow.test_prediction, test, atol=1e-8)
    np.testing.assert_allclose(flow.loss, ((train - y) ** 2).sum(axis=(1, 2)) / (2 * SIZE), atol=1e-8)
    assert flow.prediction.dims == ("time", "x", "target")
    assert flow.test_prediction.dims == ("time", "x_test", "target")


def test_one_target_is_a_column_of_many(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    times = [0.5, 3.0]
    one = gradient_flow(kernel, y[:, 1], times, test_kernel=cross)
    many = gradient_flow(kernel, y, times, test_kernel=cross)
    assert one.prediction.shape == (2, SIZE)
    assert one.test_prediction.shape == (2, NEW)
    np.testing.assert_allclose(one.prediction, many.prediction[..., 1], atol=1e-14)
    np.testing.assert_allclose(one.test_prediction, many.test_prediction[..., 1], atol=1e-13)
    parts = [gradient_flow(kernel, y[:, k], times).loss.values for k in range(TARGETS)]
    np.testing.assert_allclose(many.loss, np.sum(parts, axis=0), rtol=1e-13)


def test_infinite_time_is_kernel_regression(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    flow = gradient_flow(kernel, y, [0.0, 1.0, math.inf], test_kernel=cross)
    np.testing.assert_allclose(flow.prediction[-1], y, atol=1e-12)
    np.testing.assert_allclose(flow.test_prediction[-1], cross @ np.linalg.solve(kernel, y), atol=1e-10)
    assert flow.loss[-1] == 0.0
    np.testing.assert_array_equal(flow.prediction[0], 0.0)
    assert flow.loss[0] == pytest.approx((y**2).sum() / (2 * SIZE), rel=1e-14)


def test_null_modes_never_learn() -> None:
    # Two copies of one input with different targets: only their mean can be learned.
    x = np.array([[0.0], [1.0], [1.0], [2.5]])
    y = np.array([1.0, 2.0, 4.0, -1.0])
    cross = gaussian_kernel(x[1:2], x)
    flow = gradient_flow(gaussian_kernel(x, x), y, [1.0, 1e300, math.inf], test_kernel=cross)
    assert flow.attrs["null_modes"] == 1
    for late in (1, 2):
        np.testing.assert_allclose(flow.prediction[late], [1, 3, 3, -1], atol=1e-12)
        assert flow.test_prediction[late].item() == pytest.approx(3.0, abs=1e-12)
        assert flow.loss[late] == pytest.approx(0.25, rel=1e-12)  # (1 + 1) / (2 * 4)
    assert flow.rate[-1] == 0


def test_each_mode_decays_at_its_rate(problem: tuple[Array, Array, Array]) -> None:
    kernel, _, y = problem
    values, vectors = np.linalg.eigh(kernel)
    flow = gradient_flow(kernel, y, [2.0], learning_rate=0.3)
    np.testing.assert_allclose(flow.rate, 0.3 * values[::-1] / SIZE, rtol=1e-12)
    left = vectors.T @ (y - flow.prediction[0].values)
    np.testing.assert_allclose(left, np.exp(-0.6 * values / SIZE)[:, None] * (vectors.T @ y), atol=1e-13)
    np.testing.assert_allclose(flow.loss[0], (flow.target_power * np.exp(-2 * flow.rate * 2.0)).sum(), rtol=1e-13)


@pytest.mark.parametrize("rate", [1e-3, 1e-12, 1e-15, 1e-100])
def test_small_steps_are_not_rounded_away(rate: float) -> None:
    """One mode of eigenvalue 1/2: the loss falls as (1 - rate/2)^(2k), and k is known to rounding."""
    kernel, y = np.array([[0.5]]), np.array([1.0])
    steps = steps_to_loss(kernel, y, 0.01, rate)
    assert steps == pytest.approx(np.log(0.5 / 0.01) / 2 / -np.log1p(-rate / 2), rel=1e-12, abs=1)
    if rate < 1e-12:
        return
    found = gradient_descent(kernel, y, [0, round(1 / rate)], learning_rate=rate)
    assert float(found.loss[0]) == 0.5
    assert float(found.loss[1]) == pytest.approx(0.5 * np.exp(2 * np.log1p(-rate / 2) / rate), rel=1e-12)


def test_steps_to_loss_with_a_ridge_and_a_start(problem: tuple[Array, Array, Array]) -> None:
    kernel, _, y = problem
    start, rate = 0.1 * np.ones_like(y), 0.5 * critical_learning_rate(kernel, ridge=0.01)
    found = gradient_descent(kernel, y, range(400), learning_rate=rate, ridge=0.01, initial=start)
    level = float(found.loss[150]) * 1.000001
    assert steps_to_loss(kernel, y, level, rate, ridge=0.01, initial=start) == 150


def test_slow_starts_keep_their_digits(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    flow = gradient_flow(kernel, y, [1e-20], test_kernel=cross)
    np.testing.assert_allclose(flow.prediction[0], 1e-20 / SIZE * kernel @ y, rtol=1e-12)
    np.testing.assert_allclose(flow.test_prediction[0], 1e-20 / SIZE * cross @ y, rtol=1e-9)


def descend(kernel: Array, y: Array, step: float, steps: int) -> float:
    f = np.zeros_like(y)
    for _ in range(steps):
        f -= step / len(kernel) * kernel @ (f - y)
    return float(np.abs(f - y).max())


def test_critical_learning_rate_parts_stable_from_divergent(problem: tuple[Array, Array, Array]) -> None:
    kernel, _, y = problem
    critical = critical_learning_rate(kernel)
    assert critical == pytest.approx(2 * SIZE / np.linalg.eigvalsh(kernel)[-1], rel=1e-13)
    assert descend(kernel, y, 0.99 * critical, 2000) < 2 * np.abs(y).max()
    assert descend(kernel, y, 1.01 * critical, 2000) > 1e6


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_the_best_time_to_stop_is_that_of_the_curve(problem: tuple[Array, Array, Array], ridge: float) -> None:
    kernel, cross, y = problem
    y = y + 0.5 * np.random.default_rng(5).standard_normal(y.shape)
    wanted = cross @ np.linalg.solve(kernel + 0.05 * SIZE * np.eye(SIZE), y)
    time, loss = best_stopping_time(kernel, y, cross, wanted, ridge=ridge)
    assert 0 < time < math.inf
    times = time * np.geomspace(0.01, 100, 2001)
    flow = gradient_flow(kernel, y, times, test_kernel=cross, y_test=wanted, ridge=ridge)
    assert int(flow.test_loss.values.argmin()) == 1000
    assert float(flow.test_loss.min()) == pytest.approx(loss, rel=1e-9)
    half, same = best_stopping_time(kernel, y, cross, wanted, ridge=ridge, learning_rate=2.0)
    assert (half, same) == pytest.approx((time / 2, loss), rel=1e-6)
    assert best_stopping_time(kernel, y, cross, -wanted)[0] == 0.0
    sure = cross @ np.linalg.solve(kernel, y)
    assert best_stopping_time(kernel, y, cross, sure) == pytest.approx((math.inf, 0.0), abs=1e-15)
    with pytest.raises(InputError, match="y_test: expected real numbers of shape"):
        best_stopping_time(kernel, y, cross, wanted[:-1])


def test_small_steps_of_gradient_descent_follow_the_flow(problem: tuple[Array, Array, Array]) -> None:
    kernel, _, y = problem
    gaps = []
    for step in (0.02, 0.01):
        f = np.zeros_like(y)
        for _ in range(round(4 / step)):
            f -= step / SIZE * kernel @ (f - y)
        gaps.append(np.abs(f - gradient_flow(kernel, y, [4.0]).prediction[0].values).max())
    assert gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.02)  # Euler's method: first order in the step


@pytest.mark.parametrize("level", [1e-12, 1e-3, 0.3])
def test_time_to_loss_is_the_time_of_that_loss(problem: tuple[Array, Array, Array], level: float) -> None:
    kernel, _, y = problem
    time = time_to_loss(gradient_flow(kernel, y, [1.0]), level)
    assert gradient_flow(kernel, y, [time]).loss.item() == pytest.approx(level, rel=1e-9)


def test_time_to_loss_at_the_ends() -> None:
    flow = gradient_flow(np.diag([4.0, 0.0]), [2.0, 1.0], [1.0])  # loss 1.25 at first, 0.25 at last
    assert time_to_loss(flow, 2.0) == 0.0
    assert time_to_loss(flow, 0.2) == math.inf
    # 0.25 + exp(-2 * 2 * t) = 0.5: a single mode of rate 4 / N = 2
    assert time_to_loss(flow, 0.5) == pytest.approx(math.log(4) / 4, rel=1e-12)
    with pytest.raises(InputError, match="level: expected a positive number, got 0"):
        time_to_loss(flow, 0)


def test_labels_travel(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    names, new = [f"i{n}" for n in range(SIZE)], [f"new{n}" for n in range(NEW)]
    flow = gradient_flow(
        xr.DataArray(kernel, dims=("x", "x2"), coords={"x": names}),
        xr.DataArray(y, dims=("x", "digit"), coords={"digit": [7, 8, 9]}),
        xr.DataArray([1.0, 2.0], dims="time"),
        test_kernel=xr.DataArray(cross, dims=("x", "x2"), coords={"x": new}),
    )
    assert list(flow.x.values) == names
    assert list(flow.x_test.values) == new
    assert list(flow.target.values) == [7, 8, 9]
    assert list(flow.time.values) == [1.0, 2.0]
    assert flow.attrs["learning_rate"] == 1.0


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([-1.0, 2.0], "expected no negative time, got -1"),
        ([1.0, 3.0, 2.0], r"expected increasing times, but times\[2\] = 2 follows 3; pass numpy.unique"),
        ([1.0, 1.0], r"expected increasing times, but times\[1\] = 1 follows 1"),
        ([1.0, math.inf, math.inf], r"expected increasing times, but times\[2\] = inf follows inf"),
        ([1.0, math.nan], "1 of 2 are NaN"),
        ([[1.0]], r"expected a list of real numbers, got shape \(1, 1\)"),
        ([], r"got shape \(0,\)"),
        (["soon"], "expected a list of real numbers"),
    ],
)
def test_refuses_times(times: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^times: .*{message}"):
        gradient_flow(np.eye(2), [1.0, 2.0], times)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0, 2.0, 3.0], r"expected shape \(2,\) or \(2, targets\).* got shape \(3,\)"),
        ([[[1.0], [2.0]]], r"got shape \(1, 2, 1\)"),
        ([1.0, math.inf], "1 of 2 values are not finite"),
        (["a", "b"], "expected real numbers, got dtype .*one-hot"),
    ],
)
def test_refuses_targets(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^y: .*{message}"):
        gradient_flow(np.eye(2), y, [1.0])


@pytest.mark.parametrize("rate", [0, -1.0, math.inf, math.nan, "fast", True])
def test_refuses_learning_rates(rate: Any) -> None:
    with pytest.raises(InputError, match="learning_rate: expected a positive number"):
        gradient_flow(np.eye(2), [1.0, 2.0], [1.0], learning_rate=rate)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.eye(2) * 1j, "expected real numbers, got dtype complex128"),
        ([[1.0, 2.0], [1.0]], "expected a matrix of numbers, but it cannot be made one"),
        (xr.Dataset({"ntk": (("x", "x2"), np.eye(2))}), r"got a Dataset of ntk; pass one of them, as in kern.ntk"),
        (np.zeros((0, 0)), r"expected at least one input, got shape \(0, 0\)"),
    ],
)
def test_refuses_what_is_no_kernel(kernel: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        gradient_flow(kernel, [1.0, 2.0], [0])


def test_refuses_kernels() -> None:
    with pytest.raises(KernelError, match=r"test_kernel: expected 2 columns.* got shape \(2, 3\)"):
        gradient_flow(np.eye(2), [1.0, 2.0], [1.0], test_kernel=np.ones((2, 3)))
    with pytest.raises(KernelError, match="test_kernel: 1 of 2 entries are not finite"):
        gradient_flow(np.eye(2), [1.0, 2.0], [1.0], test_kernel=[[1.0, math.nan]])
    with pytest.raises(KernelError, match="smallest eigenvalue is -1 "):
        gradient_flow(np.diag([1.0, -1.0]), [1.0, 2.0], [1.0])
    with pytest.raises(KernelError, match="expected a square matrix"):
        critical_learning_rate(np.ones((2, 3)))


def starts(seed: int = 9) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((SIZE, TARGETS)), rng.standard_normal((NEW, TARGETS))


@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_from_anywhere_with_a_ridge_equals_a_fine_integration(
    problem: tuple[Array, Array, Array], ridge: float
) -> None:
    # weights theta in a feature space: df/dt = -eta (Theta (f - y) / N + ridge (f - f_0)), old and new inputs alike
    kernel, cross, y = problem
    start, new_start = starts()
    rows, first = np.vstack([kernel, cross]), np.concatenate([start, new_start])

    def slope(_: float, state: Array) -> Array:
        f = state.reshape(first.shape)
        return np.asarray(-0.7 * (rows @ (f[:SIZE] - y) / SIZE + ridge * (f - first))).ravel()

    times = np.array([0.0, 0.3, 2.0, 30.0])
    path = solve_ivp(slope, (0, 30), first.ravel(), "DOP853", t_eval=times, rtol=1e-12, atol=1e-13)
    states = path.y.T.reshape(len(times), -1, TARGETS)
    y_test = np.arange(NEW * TARGETS).reshape(NEW, TARGETS) / 10
    flow = gradient_flow(
        kernel, y, times, test_kernel=cross, learning_rate=0.7, ridge=ridge, initial=start, test_initial=new_start,
        y_test=y_test,
    )  # fmt: skip
    np.testing.assert_allclose(flow.prediction, states[:, :SIZE], atol=1e-8)
    np.testing.assert_allclose(flow.test_prediction, states[:, SIZE:], atol=1e-8)
    np.testing.assert_allclose(flow.loss, ((states[:, :SIZE] - y) ** 2).sum(axis=(1, 2)) / (2 * SIZE), atol=1e-8)
    np.testing.assert_allclose(
        flow.test_loss, ((states[:, SIZE:] - y_test) ** 2).sum(axis=(1, 2)) / (2 * NEW), atol=1e-8
    )


def test_infinite_time_with_a_ridge_is_kernel_ridge_regression(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    flow = gradient_flow(kernel, y, [math.inf], test_kernel=cross, ridge=0.1)
    solved = np.linalg.solve(kernel + 0.1 * SIZE * np.eye(SIZE), y)
    np.testing.assert_allclose(flow.prediction[0], kernel @ solved, atol=1e-12)
    np.testing.assert_allclose(flow.test_prediction[0], cross @ solved, atol=1e-12)
    level = 1.5 * float(flow.loss[0])
    time = time_to_loss(flow, level)
    assert gradient_flow(kernel, y, [time], ridge=0.1).loss.item() == pytest.approx(level, rel=1e-9)
    assert time_to_loss(flow, 0.5 * float(flow.loss[0])) == math.inf


def explicit(
    rows: Array, y: Array, start: Array, steps: int, step: float, beta: float, nesterov: bool, ridge: float
) -> list[Array]:
    """torch.optim.SGD written out, on the predictions at old and new inputs."""
    f, buffer, path = start.copy(), np.zeros_like(start), [start]
    for number in range(steps):
        gradient = rows @ (f[: len(y)] - y) / len(y) + ridge * (f - start)
        buffer = gradient if number == 0 else beta * buffer + gradient
        f = f - step * (gradient + beta * buffer if nesterov else buffer)
        path.append(f)
    return path


@pytest.mark.parametrize("ridge", [0.0, 0.02])
@pytest.mark.parametrize(("beta", "nesterov"), [(0.0, False), (0.9, False), (0.6, True)])
def test_descent_equals_explicit_iteration(
    problem: tuple[Array, Array, Array], beta: float, nesterov: bool, ridge: float
) -> None:
    kernel, cross, y = problem
    start, new_start = starts()
    rows, first = np.vstack([kernel, cross]), np.concatenate([start, new_start])
    rate = 0.8 * critical_learning_rate(kernel, momentum=beta, nesterov=nesterov, ridge=ridge)
    path = explicit(rows, y, first, 300, rate, beta, nesterov, ridge)
    steps = [0, 1, 2, 3, 7, 50, 299, 300]
    found = gradient_descent(
        kernel, y, steps, learning_rate=rate, momentum=beta, nesterov=nesterov, ridge=ridge, test_kernel=cross,
        initial=start, test_initial=new_start,
    )  # fmt: skip
    states = np.array([path[k] for k in steps])
    np.testing.assert_allclose(found.prediction, states[:, :SIZE], atol=1e-12)
    np.testing.assert_allclose(found.test_prediction, states[:, SIZE:], atol=1e-12)
    np.testing.assert_allclose(found.loss, ((states[:, :SIZE] - y) ** 2).sum(axis=(1, 2)) / (2 * SIZE), atol=1e-12)


@pytest.mark.parametrize(("beta", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_the_critical_step_with_momentum(problem: tuple[Array, Array, Array], beta: float, nesterov: bool) -> None:
    kernel, _, y = problem
    critical = critical_learning_rate(kernel, momentum=beta, nesterov=nesterov)

    def run(factor: float) -> float:
        path = explicit(kernel, y, np.zeros_like(y), 4000, factor * critical, beta, nesterov, 0.0)
        return float(np.abs(path[-1] - y).max())

    def largest(factor: float) -> float:
        found = gradient_descent(
            kernel, y, [5], learning_rate=factor * critical, momentum=beta, nesterov=nesterov
        ).multiplier
        return float(found.max())

    assert run(0.99) < np.abs(y).max()
    assert run(1.01) > 1e6
    assert largest(0.99) < 1 < largest(1.01)


def test_descent_that_overflows_is_refused(problem: tuple[Array, Array, Array]) -> None:
    kernel, _, y = problem
    rate = 1.5 * critical_learning_rate(kernel)
    assert gradient_descent(kernel, y, [100], learning_rate=rate).loss[0] > 1e10
    with pytest.raises(ConvergenceError, match="diverges and overflows by step 100000; stay below critical"):
        gradient_descent(kernel, y, [1, 100_000], learning_rate=rate)


def test_steps_to_loss_is_the_first_step_below(problem: tuple[Array, Array, Array]) -> None:
    kernel, _, y = problem
    rate = 0.5 * critical_learning_rate(kernel)
    steps = steps_to_loss(kernel, y, 1e-3, rate)
    losses = gradient_descent(kernel, y, [steps - 1, steps], learning_rate=rate).loss.values
    assert losses[0] > 1e-3 >= losses[1]
    assert steps_to_loss(kernel, y, 1e3, rate) == 0.0
    assert steps_to_loss(np.diag([4.0, 0.0]), [2.0, 1.0], 0.2, 0.1) == math.inf
    with pytest.raises(InputError, match=r"learning_rate: .* is not below critical_learning_rate"):
        steps_to_loss(kernel, y, 1e-3, 2.1 * rate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number, got 0.0"),
        ({"momentum": 1.0}, "momentum: expected a number from 0 to below 1, got 1.0"),
        ({"momentum": -0.1}, "momentum: expected a number of at least 0"),
        ({"nesterov": True}, "nesterov: it changes nothing without momentum"),
        ({"ridge": -1.0}, "ridge: expected a number of at least 0, got -1.0"),
        ({"steps": [0.5]}, r"steps: expected whole numbers, got 0.5 at \[0\]"),
        ({"steps": [3, 2]}, r"steps: expected increasing times, but steps\[1\] = 2 follows 3"),
        ({"initial": [1.0]}, r"initial: expected real numbers of shape \(2,\), got shape \(1,\)"),
        ({"initial": [1.0, 2.0], "test_kernel": np.ones((1, 2))}, "test_initial: training does not start from 0"),
        ({"test_initial": [1.0], "test_kernel": np.ones((1, 2))}, "initial: training does not start from 0"),
        ({"y_test": [1.0]}, "test_kernel: expected the kernel of new by training inputs"),
        ({"y_test": [1.0, 2.0], "test_kernel": np.ones((1, 2))}, r"y_test: expected real numbers of shape \(1,\)"),
        ({"initial": [1.0, np.nan]}, "initial: 1 of 2 values are not finite"),
    ],
)
def test_descent_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gradient_descent(np.eye(2), [1.0, 2.0], **{"steps": [1], "learning_rate": 0.1, **options})


def test_time_to_loss_wants_a_flow() -> None:
    descent = gradient_descent(np.eye(2), [1.0, 2.0], [1], learning_rate=0.1)
    with pytest.raises(InputError, match="flow: expected the Dataset that gradient_flow"):
        time_to_loss(descent, 0.1)


@pytest.mark.parametrize("size", [1e200, 1e160, 1e-200])
def test_targets_whose_squares_are_no_numbers_are_refused(problem: tuple[Array, Array, Array], size: float) -> None:
    kernel, cross, y = problem
    rest = y / np.abs(y).max()
    calls: list[Any] = [
        lambda y: gradient_flow(kernel, y, [1.0]),
        lambda y: gradient_descent(kernel, y, [1], learning_rate=0.1),
        lambda y: steps_to_loss(kernel, y, 0.1, 0.1),
        lambda y: best_stopping_time(kernel, y, cross, cross @ rest),
        lambda y: gt.kernel_regression(kernel, y, cross),
        lambda y: gt.nngp_posterior(kernel, y, cross, np.full(NEW, 3.0)),
        lambda y: gt.learning_curve(kernel, y, [3]),
        lambda y: gt.measured_learning_curve(kernel, y, [3]),
        lambda y: gt.target_alignment(kernel, y),
        lambda y: gt.training_ensemble(xr.Dataset(dict.fromkeys(("ntk", "nngp"), (("x", "x2"), kernel))), y, [1.0]),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"^y: its largest entry, 1e.\d+, is so (large|small) that"):
            call(size * rest)
        call(rest)
    if size > 1:
        for name, given in (("initial", size * rest), ("y_test", size * cross @ rest)):
            with pytest.raises(InputError, match=f"^{name}: its largest entry"):
                gradient_flow(kernel, y, [1.0], **{name: given}, test_kernel=cross, test_initial=None)


def test_large_targets_scale(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    one, many = (gradient_flow(kernel, scale * y, [0.3, 4.0], test_kernel=cross) for scale in (1.0, 1e140))
    np.testing.assert_allclose(many.loss / one.loss, 1e280, rtol=1e-12)
    np.testing.assert_allclose(many.test_prediction / 1e140, one.test_prediction, rtol=1e-12)


def test_results_that_overflow_are_refused(problem: tuple[Array, Array, Array]) -> None:
    kernel, cross, y = problem
    rate = 1.5 * critical_learning_rate(kernel)
    # what is left grows twofold a step: 2^600 is a number, and its square is not
    with pytest.raises(ConvergenceError, match="diverges and overflows by step 600"):
        gradient_descent(kernel, y, [1, 600], learning_rate=rate)
    with pytest.raises(InputError, match=r"y: .* values of test_prediction are beyond the largest number"):
        gradient_flow(kernel, 1e149 * y, [1.0], test_kernel=1e170 * cross)
    with pytest.raises(InputError, match=r"y: .* values of test_prediction are beyond the largest number"):
        gt.kernel_regression(kernel, 1e149 * y, 1e170 * cross)
    with pytest.raises(InputError, match="y: 1 of 1 values of log_evidence are beyond the largest number"):
        gt.nngp_posterior(1e-20 * kernel, 1e149 * y, 1e-20 * cross, np.full(NEW, 3e-20))
