"""Several outputs: one kernel where they share it, else each its own, against loops over outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt

Array = NDArray[np.float64]
RNG = np.random.default_rng(5)
X, NEW = RNG.standard_normal((12, 4)), RNG.standard_normal((5, 4))
Y = np.column_stack([np.sin(X[:, 0]), X[:, 1], X[:, 2] ** 2 - 1])
Y_NEW = np.column_stack([np.sin(NEW[:, 0]), NEW[:, 1], NEW[:, 2] ** 2 - 1])
STEP = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]])
OWN = gt.Network([1.0, STEP, gt.StepGraphon([[0.9, 0.2], [0.3, 0.3], [0.1, 0.8]])], "erf", 2.0, 0.1, outputs=3)
SHARED = gt.Network([1.0, STEP, gt.StepGraphon([[0.9, 0.2]])], "erf", 2.0, 0.1, outputs=3)
KERNEL, CROSS = gt.limit_kernel(OWN, X), gt.limit_kernel(OWN, NEW, X)
TIMES = [0.0, 0.7, 5.0, np.inf]


def each(function: Any, *, y: Array = Y, **named: Any) -> list[Any]:
    """A function of one output's kernel and column, for all of them."""
    return [
        function(KERNEL.ntk.isel(output=o), y[:, o], **{k: v.isel(output=o) for k, v in named.items()})
        for o in range(3)
    ]


def test_outputs_of_equal_rows_share_a_kernel() -> None:
    kernels, one = gt.limit_kernel(SHARED, X), gt.limit_kernel(gt.Network(SHARED.layers, "erf", 2.0, 0.1), X)
    assert kernels.ntk.dims == ("output", "x", "x2")
    assert gt.spectrum(kernels.ntk).eigenvalue.dims == ("mode",)
    np.testing.assert_allclose(gt.spectrum(kernels.ntk).eigenvalue, gt.spectrum(one.ntk).eigenvalue, rtol=1e-12)
    cross, same = gt.limit_kernel(SHARED, NEW, X), gt.limit_kernel(gt.Network(SHARED.layers, "erf", 2.0, 0.1), NEW, X)
    for y in (Y, Y[:, 0], Y[:, :2]):  # as many targets as one likes
        found = gt.kernel_regression(kernels.ntk, y, cross.ntk, ridge=1e-3)
        wanted = gt.kernel_regression(one.ntk, y, same.ntk, ridge=1e-3)
        np.testing.assert_allclose(found.test_prediction, wanted.test_prediction, rtol=1e-10)
    prior = np.diagonal(gt.limit_kernel(SHARED, NEW).nngp[0])
    wanted = gt.training_ensemble(one, Y, TIMES, test=same, test_variance=prior)
    found = gt.training_ensemble(kernels, Y, TIMES, test=cross, test_variance=prior)
    np.testing.assert_allclose(found.test_std, wanted.test_std, rtol=1e-7, atol=1e-9)
    sizes = [3, 6]
    curve = gt.learning_curve(kernels.ntk, Y, sizes, ridge=0.1)
    np.testing.assert_allclose(curve.test_error, gt.learning_curve(one.ntk, Y, sizes, ridge=0.1).test_error, rtol=1e-9)


def test_spectra_of_kernels_of_their_own() -> None:
    found = gt.spectrum(KERNEL.ntk, 5)
    assert found.eigenfunction.dims == ("output", "x", "mode")
    for o in range(3):
        wanted = gt.spectrum(KERNEL.ntk.isel(output=o), 5)
        np.testing.assert_array_equal(found.eigenvalue[o], wanted.eigenvalue)
        np.testing.assert_array_equal(found.energy[o], wanted.energy)
        assert float(found.effective_rank[o]) == wanted.attrs["effective_rank"]
        there = gt.extend(found, CROSS.ntk)
        np.testing.assert_array_equal(there[o], gt.extend(wanted, CROSS.ntk.isel(output=o)))
    np.testing.assert_array_equal(gt.spectrum(KERNEL.ntk.values, 5).eigenvalue, found.eigenvalue)


def test_a_spectrum_tells_how_many_modes_share_the_trace() -> None:
    matrix = KERNEL.ntk.values[0]
    found = gt.spectrum(matrix, 1).attrs["participation"]
    assert found == pytest.approx(np.trace(matrix) ** 2 / np.sum(matrix**2), rel=1e-12)


def test_flow_of_kernels_of_their_own() -> None:
    found = gt.gradient_flow(KERNEL.ntk, Y, TIMES, test_kernel=CROSS.ntk, learning_rate=0.5, y_test=Y_NEW)
    parts = each(
        lambda k, y, test_kernel: gt.gradient_flow(k, y, TIMES, test_kernel=test_kernel, learning_rate=0.5),
        test_kernel=CROSS.ntk,
    )
    np.testing.assert_allclose(found.loss, sum(one.loss for one in parts), rtol=1e-10, atol=1e-20)
    for o, one in enumerate(parts):
        np.testing.assert_allclose(found.prediction[..., o], one.prediction, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.test_prediction[..., o], one.test_prediction, rtol=1e-9, atol=1e-12)
        own = found.sel(mode=found.output == o)
        np.testing.assert_allclose(own.rate, one.rate, rtol=1e-12)
        np.testing.assert_allclose(own.target_power, one.target_power, rtol=1e-9, atol=1e-20)
    half = float(found.loss[0]) / 2
    time = gt.time_to_loss(found, half)
    assert float(gt.gradient_flow(KERNEL.ntk, Y, [time], learning_rate=0.5).loss[0]) == pytest.approx(half, rel=1e-9)
    kernel = KERNEL.ntk.values
    stop, least = gt.best_stopping_time(kernel, Y, CROSS.ntk.values, Y_NEW)
    later = gt.gradient_flow(kernel, Y, np.array([0.9, 1, 1.1]) * stop, test_kernel=CROSS.ntk.values, y_test=Y_NEW)
    assert later.test_loss[1] == pytest.approx(least, rel=1e-9)
    assert later.test_loss.values.argmin() == 1


def test_descent_of_kernels_of_their_own() -> None:
    rate = gt.critical_learning_rate(KERNEL.ntk)
    assert rate == min(gt.critical_learning_rate(KERNEL.ntk.isel(output=o)) for o in range(3))
    start = np.full((12, 3), 0.2)
    found = gt.gradient_descent(KERNEL.ntk, Y, [0, 1, 40], learning_rate=rate / 2, initial=start)
    f = start.copy()
    for _ in range(40):
        f = f - rate / 2 / 12 * np.stack([KERNEL.ntk.values[o] @ (f[:, o] - Y[:, o]) for o in range(3)], axis=1)
    np.testing.assert_allclose(found.prediction[-1], f, rtol=1e-10)
    level = 0.3 * float(found.loss[0])
    count = gt.steps_to_loss(KERNEL.ntk, Y, level, rate / 2, initial=start)
    there = gt.gradient_descent(KERNEL.ntk, Y, [count - 1, count], learning_rate=rate / 2, initial=start).loss.values
    assert there[0] > level >= there[1]


@pytest.mark.parametrize("ridge", [0.0, 0.02])
def test_regression_of_kernels_of_their_own(ridge: float) -> None:
    found = gt.kernel_regression(KERNEL.ntk, Y, CROSS.ntk, ridge=ridge)
    for o in range(3):
        matrix, cross = KERNEL.ntk.values[o], CROSS.ntk.values[o]
        wanted = cross @ np.linalg.solve(matrix + 12 * ridge * np.eye(12), Y[:, o])
        np.testing.assert_allclose(found.test_prediction[:, o], wanted, rtol=1e-8)
        for i in range(12):
            rest = np.delete(np.arange(12), i)
            there = matrix[np.ix_(rest, rest)] + 11 * ridge * np.eye(11)
            assert float(found.left_out[i, o]) == pytest.approx(
                matrix[i, rest] @ np.linalg.solve(there, Y[rest, o]), rel=1e-7
            )


def test_posteriors_of_kernels_of_their_own() -> None:
    prior = np.diagonal(gt.limit_kernel(OWN, NEW).nngp.values, axis1=1, axis2=2).T
    found = gt.nngp_posterior(KERNEL.nngp, Y, CROSS.nngp, prior, noise=0.1)
    parts = [gt.nngp_posterior(KERNEL.nngp[o], Y[:, o], CROSS.nngp[o], prior[:, o], noise=0.1) for o in range(3)]
    np.testing.assert_allclose(found.variance, np.stack([one.variance for one in parts], axis=1), rtol=1e-10)
    np.testing.assert_allclose(found["mean"], np.stack([one["mean"] for one in parts], axis=1), rtol=1e-10)
    assert found.attrs["log_evidence"] == pytest.approx(sum(one.attrs["log_evidence"] for one in parts), rel=1e-10)


@pytest.mark.parametrize("centred", [False, True])
def test_alignments_of_kernels_of_their_own(centred: bool) -> None:
    found = gt.target_alignment(KERNEL.ntk, Y, centred=centred)
    for o in range(3):
        one = gt.target_alignment(KERNEL.ntk.isel(output=o), Y[:, o], centred=centred)
        assert float(found.alignment[o]) == one.attrs["alignment"]
        np.testing.assert_array_equal(found.target_power[o], one.target_power)


def test_networks_of_several_outputs_are_compared() -> None:
    found = gt.compare_networks({"own": OWN, "shared": SHARED}, X, Y, NEW, Y_NEW, level=0.3, ridge=0.01)
    one = gt.compare_networks(
        {"one": gt.Network(SHARED.layers, "erf", 2.0, 0.1)}, X, Y, NEW, Y_NEW, level=0.3, ridge=0.01
    )
    shared, own = found.sel(network="shared"), found.sel(network="own")
    for name in ("energy_5", "alignment", "complexity", "critical_learning_rate", "test_error", "predicted_error"):
        assert float(shared[name]) == pytest.approx(float(one[name][0]), rel=1e-9)
    regression = gt.kernel_regression(KERNEL.ntk, Y, CROSS.ntk, ridge=0.01)
    missed = (regression.test_prediction.values - Y_NEW) ** 2
    assert float(own.test_error) == pytest.approx(missed.sum(axis=1).mean(), rel=1e-9)
    matrices = KERNEL.ntk.values
    sizes = np.trace(matrices, axis1=1, axis2=2) / 12
    asked = [sizes[o] * Y[:, o] @ np.linalg.solve(matrices[o] + 0.12 * np.eye(12), Y[:, o]) / 12 for o in range(3)]
    assert float(own.complexity) == pytest.approx(sum(asked), rel=1e-9)
    block = np.zeros((36, 36))
    target = np.zeros((36, 36))
    for o in range(3):
        block[12 * o : 12 * o + 12, 12 * o : 12 * o + 12] = matrices[o]
        target[12 * o : 12 * o + 12, 12 * o : 12 * o + 12] = np.outer(Y[:, o], Y[:, o])
    wanted = np.sum(block * target) / np.linalg.norm(block) / np.linalg.norm(target)
    assert float(own.alignment) == pytest.approx(wanted, rel=1e-9)
    assert float(own.participation) == pytest.approx(
        np.mean([np.trace(one) ** 2 / np.sum(one**2) for one in matrices]), rel=1e-9
    )
    np.testing.assert_allclose(
        own.log_eigenvalue, np.mean([np.log(gt.spectrum(one, 10).eigenvalue) for one in matrices], axis=0), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gt.gradient_flow(KERNEL.ntk, Y[:, 0], TIMES),
            r"y: expected shape \(12, 3\), a column for each output",
        ),
        (lambda: gt.target_alignment(KERNEL.ntk, Y[:, :2]), r"y: expected shape \(12, 3\)"),
        (lambda: gt.kernel_regression(KERNEL.ntk, Y, CROSS.ntk[0]), "test_kernel: expected the kernels of 3 outputs"),
        (lambda: gt.kernel_regression(KERNEL.ntk[0], Y, CROSS.ntk), "test_kernel: expected one kernel"),
        (lambda: gt.learning_curve(KERNEL.ntk, Y, [3]), "each of the 3 outputs has a kernel of its own"),
        (lambda: gt.training_ensemble(KERNEL, Y, TIMES), "kernels.n.*: expected one kernel"),
    ],
)
def test_what_does_not_go_together_is_refused(call: Any, message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        call()
