"""The ends of training: kernel regression with the NTK, the Gaussian process posterior with the NNGP (THEORY §7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_kernel, checked_like, positive_number, refuse_overflow, truth
from graphon_theory.data.grids import Axis, on_grid
from graphon_theory.data.labels import RIDGE, TARGET, X_TEST, X_TEST2, Labels, Variables, X, dataset
from graphon_theory.errors import InputError, KernelError
from graphon_theory.spectra.linear_operators import is_operator
from graphon_theory.training.linear_training import LinearTraining, NewInputs
from graphon_theory.training.operator_regressions import checked_ridges, mean_by_products, regression_by_products

if TYPE_CHECKING:
    import xarray as xr


def kernel_regression(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    test_kernel: ArrayLike | xr.DataArray,
    *,
    ridge: float | Sequence[float] = 0.0,
    covariance: bool = False,
    test_variance: ArrayLike | xr.DataArray | None = None,
    tolerance: float = 1e-8,
) -> xr.Dataset:
    """Kernel (ridge) regression: where `gradient_flow` from f_0 = 0 ends.

        f(x) = Theta(x, X) (Theta + N ridge)^-1 y,

    the inverse without ridge (or with one that is rounding beside lambda_1) being the pseudo-inverse, in which modes
    at rounding level take no part.

    Args:
        kernel: (N, N); y: (N,) or (N, k); test_kernel: (M, N), new by training inputs. Outputs with kernels of their
            own as in `gradient_flow`. Either may be a linear operator such as `kernel_operator` makes.
        ridge: at least 0, in units of the operator (Theta / N), as in `gradient_flow`; or a list of them, which then
            is the leading dimension "ridge" of all results.
        covariance: also what the Gaussian process of this kernel, with noise N ridge on its targets, leaves open:
            Theta(x, x') - Theta(x, X) (Theta + N ridge)^-1 Theta(X, x'). ``test_variance`` is then Theta (M, M) of the
            new inputs. Of a trained network it is no variance: that is `training_ensemble`.
        tolerance: where the kernel is an operator, |y - (Theta + N ridge) alpha| / |y| that is left.

    Returns a Dataset: ``prediction`` ("x"[, "target"]), ``test_prediction`` ("x_test"[, "target"]), and
    ``left_out`` ("x"[, "target"]), what the regression on the N - 1 other inputs predicts at each one (for the cost of
    none: y_i - [A^-1 y]_i / [A^-1]_ii with A = Theta + (N - 1) ridge; NaN where A is singular); with ``covariance``
    also ``test_covariance`` ("x_test", "x_test2").

    With an operator as kernel the ridge is positive, and conjugate gradients solve all targets and ridges at once,
    preconditioned by a partial pivoted Cholesky factor of 8 sqrt(N) columns. There is no ``left_out`` then, which takes
    the inverse's diagonal, and no covariance; ``residual`` and ``iterations`` (["target"]) say what was reached, by the
    last product.

    Raises KernelError and InputError as `gradient_flow`, ConvergenceError where conjugate gradients do not converge.
    """
    if is_operator(kernel):
        if truth("covariance", covariance) or test_variance is not None:
            raise KernelError(
                "covariance: got a linear operator as kernel, with which there are predictions alone (covariances take "
                "a system for every new input); leave it out, or pass the matrix (limit_kernel)."
            )
        return regression_by_products(kernel, y, test_kernel, ridge, tolerance)
    deltas = checked_ridges(ridge)
    problem = LinearTraining.of(kernel, y)
    new = problem.at_new(test_kernel)
    each = [_regressed(problem, new, delta, covariance, test_variance) for delta in deltas]
    if not np.ndim(ridge):
        return each[0]
    return on_grid(each, [Axis(RIDGE, deltas)], {"null_modes": problem.null_modes})


def _regressed(
    problem: LinearTraining,
    new: NewInputs,
    delta: float,
    covariance: bool,
    test_variance: ArrayLike | xr.DataArray | None,
) -> xr.Dataset:
    """`kernel_regression` at one ridge."""
    learned = problem.at_the_end(delta)
    variables: Variables = {
        "prediction": ((X, *problem.tail), _over_modes(problem.functions, learned.fraction, problem)),
        "test_prediction": ((X_TEST, *problem.tail), _over_modes(new.projections, learned.response, problem)),
    }
    for name, (_, values) in variables.items():
        refuse_overflow(values, name)
    variables["left_out"] = ((X, *problem.tail), _shaped(left_out(problem, delta), problem))
    if truth("covariance", covariance):
        prior = prior_of_new(test_variance, new, problem)
        variables["test_covariance"] = ((X_TEST, X_TEST2), explained(prior, new, learned.response))
    elif test_variance is not None:
        raise InputError("test_variance: of use with covariance=True only.")
    attrs = {"ridge": delta, "null_modes": problem.null_modes}
    return dataset(variables, {**problem.coords, **_coords(new.inputs)}, attrs)


def left_out(problem: LinearTraining, ridge: float) -> FloatArray:
    """What regression on all other inputs predicts at each one, (N, targets): y_i - [A^-1 y]_i / [A^-1]_ii.

    A = Theta + (N - 1) ridge, that of N - 1 inputs; NaN where it is singular to rounding.
    """
    targets = problem.functions @ problem.coefficients
    shift = ridge * (problem.size - 1) / problem.size
    if not problem.ridged(shift):
        return np.full_like(targets, np.nan)
    inverse = 1 / problem.rates(shift)
    diagonal = problem.functions**2 @ (inverse[:, None] * problem.of_output) / problem.size
    return np.asarray(targets - problem.functions @ (inverse[:, None] * problem.coefficients) / diagonal)


def nngp_posterior(
    nngp: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    test_nngp: ArrayLike | xr.DataArray,
    test_variance: ArrayLike | xr.DataArray | None = None,
    *,
    noise: float = 0.0,
    covariance: bool = False,
    tolerance: float = 1e-8,
) -> xr.Dataset:
    """Posterior of the Gaussian process that the wide network is before training, given noisy targets.

        mean(x) = K(x, X) (K + noise)^-1 y,      var(x) = K(x, x) - K(x, X) (K + noise)^-1 K(X, x)

    This is training the last layer alone for infinite time (started from its own draw), not all layers.

    Args:
        nngp: K (N, N); y: (N,) or (N, k) targets less the prior mean; test_nngp: (M, N), new by training inputs.
        test_variance: (M,), K(x, x) of the new inputs: ``np.diagonal(limit_kernel(network, x_new).nngp)``; (M, k) where
            outputs have kernels of their own (``axis1=1, axis2=2``, transposed); the mean alone if left out.
        noise: variance of the targets' noise, at least 0 (a number; for 0 the pseudo-inverse).
        covariance: also between new inputs; ``test_variance`` is then K (M, M) of the new inputs.
        tolerance: as in `kernel_regression`, where ``nngp`` is a linear operator: then the noise is positive and there
            is the mean alone, with its ``residual`` and ``iterations``.

    Returns a Dataset: ``mean`` ("x_test"[, "target"]) and ``variance`` ("x_test",), the same for all targets that share
    the kernel, else ("x_test", "target"), of the function without noise, with ``covariance`` also ``covariance``
    ("x_test", "x_test2"); attrs ``log_evidence`` = log p(y), where the noise is above rounding or K of full rank.

    Raises KernelError (also for a ``test_variance`` below what the data explain: kernels that do not belong together)
    and InputError.
    """
    if is_operator(nngp):
        wanted = True if truth("covariance", covariance) else test_variance
        return mean_by_products(nngp, y, test_nngp, wanted, noise, tolerance)
    problem = LinearTraining.of(nngp, y)
    level = positive_number("noise", noise, zero=True) / problem.size
    new = problem.at_new(test_nngp, "test_nngp")
    own = problem.outputs is not None
    response = problem.at_the_end(level).response
    mean = _over_modes(new.projections, response, problem)
    refuse_overflow(mean, "mean")
    variables: Variables = {"mean": ((X_TEST, *problem.tail), mean)}
    if truth("covariance", covariance):
        whole = explained(prior_of_new(test_variance, new, problem), new, response)
        variables["variance"] = ((X_TEST,), np.maximum(np.diagonal(whole), 0.0))  # rounding below zero only
        variables["covariance"] = ((X_TEST, X_TEST2), whole)
    elif test_variance is not None:
        shape = (len(new.projections), *problem.shape) if own else (len(new.projections),)
        prior = checked_like(test_variance, shape, "test_variance", new.inputs)
        variance = prior - (new.projections**2 @ (response[:, None] * problem.of_output)).reshape(shape)
        refuse_negative(variance, prior)
        variables["variance"] = ((X_TEST, TARGET) if own else (X_TEST,), np.maximum(variance, 0.0))
    attrs: dict[str, float] = {"noise": level * problem.size}
    if problem.ridged(level):
        scale = problem.size * problem.rates(level)
        with np.errstate(over="ignore"):
            fit = float(np.sum(problem.size * problem.coefficients**2 / scale[:, None]))
        targets = 1 if own else problem.coefficients.shape[1]
        attrs["log_evidence"] = -0.5 * (fit + targets * float(np.log(2 * np.pi * scale).sum()))
        refuse_overflow(attrs["log_evidence"], "log_evidence")
    coords = {key: value for key, value in problem.coords.items() if key == TARGET}
    return dataset(variables, {**coords, **_coords(new.inputs)}, attrs)


def prior_of_new(test_variance: ArrayLike | xr.DataArray | None, new: NewInputs, problem: LinearTraining) -> FloatArray:
    """The kernel of the new inputs among each other, (M, M)."""
    if problem.outputs is not None:
        raise InputError(
            "covariance: got outputs with kernels of their own, whose covariances differ; pass one output at a time."
        )
    if test_variance is None:
        raise InputError("test_variance: covariances need the kernel of the new inputs among each other, (M, M).")
    count = len(new.projections)
    found = checked_like(test_variance, (count, count), "test_variance", new.inputs, new.inputs)
    return as_kernel(found, "test_variance")


def explained(prior: FloatArray, new: NewInputs, response: FloatArray) -> FloatArray:
    """``prior`` less what the training inputs explain of it, (M, M)."""
    found: FloatArray = prior - (new.projections * response) @ new.projections.T
    refuse_negative(np.diagonal(found), np.diagonal(prior))
    return (found + found.T) / 2


def refuse_negative(variance: FloatArray, prior: FloatArray) -> None:
    """Raise KernelError where variances are below zero by more than rounding."""
    if variance.min(initial=0.0) < -1e-8 * np.abs(prior).max(initial=0.0):
        worst = np.unravel_index(int(variance.argmin()), variance.shape)
        raise KernelError(
            f"test_variance: {prior[worst]:.6g} at {[int(one) for one in worst]} is {-variance[worst]:.3g} less than "
            "what the training inputs explain of it; pass the diagonal of the nngp of the same new inputs."
        )


def _over_modes(functions: FloatArray, weights: FloatArray, problem: LinearTraining) -> FloatArray:
    """Sum over modes of functions (x, mode) * weights (mode,) * coefficients (mode, target)."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused by name
        return _shaped(functions @ (weights[:, None] * problem.coefficients), problem)


def _coords(new: Labels) -> dict[str, object]:
    return {} if new.values is None else {X_TEST: new.values}


def _shaped(values: FloatArray, problem: LinearTraining) -> FloatArray:
    return values.reshape(len(values), *problem.shape)
