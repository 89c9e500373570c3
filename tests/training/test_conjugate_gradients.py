"""Kernel regression by products of linear operators, against the same by all modes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

import graphon_theory as gt
from graphon_theory.spectra.linear_operators import Operator
from graphon_theory.training import conjugate_gradients

Array = NDArray[np.float64]
NETWORK = gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5])
SIZE = 150


@pytest.fixture(scope="module")
def data() -> tuple[Array, Array, Array]:
    """Inputs, new inputs, and two targets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SIZE, 3))
    x[5] = x[9]  # a kernel of less than full rank
    return x, rng.standard_normal((20, 3)), np.stack([np.sign(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)


@pytest.mark.parametrize("plain", [False, True])
def test_several_targets_and_ridges_at_once(data: tuple[Array, Array, Array], plain: bool) -> None:
    x, new, y = data
    ridges = [1e-1, 1e-3, 1e-6]
    kernel, cross = gt.limit_kernel(NETWORK, x).ntk, gt.limit_kernel(NETWORK, new, x).ntk
    expected = gt.kernel_regression(kernel, y, cross, ridge=ridges)
    operator = gt.kernel_operator(NETWORK, x)
    between = cross if plain else gt.kernel_operator(NETWORK, new, x)
    found = gt.kernel_regression(operator, y, between, ridge=ridges, tolerance=1e-11)
    assert found.prediction.dims == ("ridge", "x", "target")
    assert found.iterations.dims == ("ridge", "target")
    assert float(found.residual.max()) <= 2e-11
    np.testing.assert_allclose(found.prediction, expected.prediction, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.test_prediction, expected.test_prediction, rtol=0, atol=1e-7)
    for ridge in ridges:  # one at a time
        for targets, pick in ((y, slice(None)), (y[:, 0], 0)):
            one = gt.kernel_regression(kernel, targets, cross, ridge=ridge)
            several = gt.kernel_regression(operator, targets, cross, ridge=ridge, tolerance=1e-11)
            together = expected.test_prediction.sel(ridge=ridge)[:, pick]
            np.testing.assert_allclose(one.test_prediction, together, rtol=0, atol=1e-13)
            np.testing.assert_allclose(several.test_prediction, one.test_prediction, rtol=0, atol=1e-7)
            assert one.prediction.dims == several.prediction.dims


def test_the_residual_is_that_of_the_system(data: tuple[Array, Array, Array]) -> None:
    x, _, y = data
    operator, kernel = gt.kernel_operator(NETWORK, x), gt.limit_kernel(NETWORK, x).ntk.values
    for tolerance in (1e-3, 1e-8):
        shifts = np.array([1.0, 1e-3])
        solved = conjugate_gradients.solve(Operator(operator), y, shifts, tolerance)
        for j, shift in enumerate(shifts):
            left = y - kernel @ solved.weights[:, :, j] - shift * solved.weights[:, :, j]
            share = np.linalg.norm(left, axis=0) / np.linalg.norm(y, axis=0)
            np.testing.assert_allclose(share, solved.residual[:, j], rtol=1e-3, atol=1e-13)
            assert share.max() <= 2 * tolerance


def test_the_preconditioner_saves_iterations(data: tuple[Array, Array, Array]) -> None:
    x, _, y = data
    operator = Operator(gt.kernel_operator(NETWORK, x))
    counts = [
        conjugate_gradients.solve(operator, y, np.array([1e-2]), 1e-8, rank).iterations.max() for rank in (0, 20, 80)
    ]
    assert counts[0] > 2 * counts[1] > 2 * counts[2]


def test_targets_of_zero(data: tuple[Array, Array, Array]) -> None:
    x, new, _ = data
    cross = gt.kernel_operator(NETWORK, new, x)
    found = gt.kernel_regression(gt.kernel_operator(NETWORK, x), np.zeros(SIZE), cross, ridge=1.0)
    np.testing.assert_array_equal(found.test_prediction, np.zeros(20))


def test_posterior_mean(data: tuple[Array, Array, Array]) -> None:
    x, new, y = data
    kernels, cross = gt.limit_kernel(NETWORK, x), gt.limit_kernel(NETWORK, new, x)
    expected = gt.nngp_posterior(kernels.nngp, y, cross.nngp, noise=0.1)
    assert "variance" not in expected
    operator, between = (gt.kernel_operator(NETWORK, *one, kernel="nngp") for one in ((x,), (new, x)))
    found = gt.nngp_posterior(operator, y, between, noise=0.1, tolerance=1e-11)
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=0, atol=1e-9)
    with pytest.raises(gt.KernelError, match="test_variance"):
        gt.nngp_posterior(operator, y, between, np.ones(20), noise=0.1)
    with pytest.raises(gt.InputError, match="noise"):
        gt.nngp_posterior(operator, y, between)


def test_refuses_what_has_no_solution(data: tuple[Array, Array, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    x, new, y = data
    operator, cross = gt.kernel_operator(NETWORK, x), gt.limit_kernel(NETWORK, new, x).ntk
    for ridge in (0.0, -1.0, [], [[1.0]], "much", [1.0, np.nan]):
        with pytest.raises(gt.InputError, match="ridge"):
            gt.kernel_regression(operator, y, cross, ridge=ridge)  # type: ignore[arg-type]
    with pytest.raises(gt.InputError, match="tolerance"):
        gt.kernel_regression(operator, y, cross, ridge=1.0, tolerance=2.0)
    with pytest.raises(gt.KernelError, match="test_kernel: expected 150 columns"):
        gt.kernel_regression(operator, y, gt.kernel_operator(NETWORK, new), ridge=1.0)

    class Negative(LinearOperator):
        def _matvec(self, v: Array) -> Array:
            return -v

        def diagonal(self) -> Array:
            return np.ones(self.shape[0])

    with pytest.raises(gt.KernelError, match="curvature"):
        gt.kernel_regression(Negative(float, (SIZE, SIZE)), y, cross, ridge=1e-3)
    monkeypatch.setattr(conjugate_gradients, "_MOST", 1)
    with pytest.raises(gt.ConvergenceError, match="conjugate gradients leave a residual"):
        gt.kernel_regression(operator, y, cross, ridge=1e-6)
