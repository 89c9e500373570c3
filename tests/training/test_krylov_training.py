"""Training and regression under linear operators, against the same under their matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

import graphon_theory as gt

Array = NDArray[np.float64]
NETWORK = gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5])
SIZE = 120


@pytest.fixture(scope="module")
def data() -> tuple[Array, Array, Array]:
    """Inputs, new inputs, and two targets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SIZE, 3))
    return x, rng.standard_normal((20, 3)), np.stack([np.sign(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.sum(values.reshape(-1, SIZE, values.shape[-1]) ** 2, axis=2), axis=1).max()))


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
@pytest.mark.parametrize("columns", [1, 2])
def test_flow_in_the_krylov_space(data: tuple[Array, Array, Array], ridge: float, columns: int) -> None:
    x, new, y = data
    y = y[:, :columns]
    times = [0.0, 0.3, 5.0, 200.0, *([np.inf] if ridge else [])]
    start, new_start = 0.1 * y, np.zeros((20, columns))
    options: dict[str, Any] = {"ridge": ridge, "learning_rate": 0.7, "initial": start, "test_initial": new_start}
    kernel, cross = gt.limit_kernel(NETWORK, x).ntk, gt.limit_kernel(NETWORK, new, x).ntk
    expected = gt.gradient_flow(kernel, y, times, test_kernel=cross, **options)
    operator, between = gt.kernel_operator(NETWORK, x), gt.kernel_operator(NETWORK, new, x)
    found = gt.gradient_flow(operator, y, times, test_kernel=between, **options)
    assert found.attrs["krylov_error"] <= 1e-8 * rms(y)
    assert rms(found.prediction.values - expected.prediction.values) <= found.attrs["krylov_error"] + 1e-12
    np.testing.assert_allclose(found.loss, expected.loss, rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.test_prediction, expected.test_prediction, rtol=0, atol=1e-5)
    assert float(found.target_power.sum()) == pytest.approx(float(expected.target_power.sum()), rel=1e-10)


def test_descent_in_the_krylov_space(data: tuple[Array, Array, Array]) -> None:
    x, _, y = data
    kernel, operator = gt.limit_kernel(NETWORK, x).ntk, gt.kernel_operator(NETWORK, x)
    rate = gt.critical_learning_rate(operator)
    assert rate == pytest.approx(gt.critical_learning_rate(kernel), rel=1e-10)
    steps = [0, 1, 7, 60]
    for share in (0.3, 0.95):
        expected = gt.gradient_descent(kernel, y, steps, learning_rate=share * rate)
        found = gt.gradient_descent(operator, y, steps, learning_rate=share * rate)
        missed = rms(found.prediction.values - expected.prediction.values)
        assert missed <= found.attrs["krylov_error"] + 1e-12 <= 1e-8 * rms(y) + 1e-12
    with pytest.raises(gt.ConvergenceError, match="diverges"):
        gt.gradient_descent(operator, y, steps, learning_rate=1.01 * rate)
    with pytest.raises(gt.KernelError, match="momentum"):
        gt.gradient_descent(operator, y, steps, learning_rate=0.3 * rate, momentum=0.9)


def test_the_bound_holds_while_the_space_is_small(
    data: tuple[Array, Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphon_theory.training import krylov_training

    x, _, y = data
    kernel, operator = gt.limit_kernel(NETWORK, x).ntk, gt.kernel_operator(NETWORK, x)
    for tolerance in (1e-1, 1e-3, 1e-5):
        monkeypatch.setattr(krylov_training, "_TOLERANCE", tolerance)
        monkeypatch.setattr(krylov_training, "_FIRST", 1)
        for ridge in (0.0, 1e-3):
            for time in (0.1, 2.0, 50.0, 1000.0):
                found = gt.gradient_flow(operator, y, [time], ridge=ridge)
                expected = gt.gradient_flow(kernel, y, [time], ridge=ridge)
                assert rms(found.prediction.values - expected.prediction.values) <= found.attrs["krylov_error"] + 1e-13


def test_targets_of_less_rank_and_spaces_that_end(data: tuple[Array, Array, Array]) -> None:
    x, _, y = data
    kernel, operator = gt.limit_kernel(NETWORK, x).ntk, gt.kernel_operator(NETWORK, x)
    copies = np.stack([y[:, 0], 2 * y[:, 0], np.zeros(SIZE)], axis=1)
    expected, found = (gt.gradient_flow(one, copies, [1.0, 30.0]) for one in (kernel, operator))
    np.testing.assert_allclose(found.prediction, expected.prediction, rtol=0, atol=1e-7)
    nothing = gt.gradient_flow(operator, np.zeros(SIZE), [1.0])
    np.testing.assert_array_equal(nothing.prediction, np.zeros((1, SIZE)))
    ones = aslinearoperator(np.diag([3.0, 2.0, 1.0]))
    end = gt.gradient_flow(ones, [1.0, 2.0, 3.0], [np.inf])
    np.testing.assert_allclose(end.prediction[0], [1.0, 2.0, 3.0], rtol=1e-12)


def test_what_needs_every_entry_says_so(data: tuple[Array, Array, Array]) -> None:
    x, _, y = data
    operator = gt.kernel_operator(NETWORK, x)
    for call in (
        lambda: gt.learning_curve(operator, y, [10]),
        lambda: gt.measured_learning_curve(operator, y, [10]),
        lambda: gt.best_stopping_time(operator, y, operator, y),
        lambda: gt.steps_to_loss(operator, y, 0.1, 1.0),
    ):
        with pytest.raises(gt.KernelError, match="kernel: got a linear operator where every entry is read"):
            call()
