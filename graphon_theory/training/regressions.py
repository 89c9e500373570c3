"""The ends of training: kernel regression with the NTK, the Gaussian process posterior with the NNGP (THEORY §7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_cross_kernel, checked_like, positive_number, real_array, refuse_overflow
from graphon_theory.data.labels import RIDGE, TARGET, X_TEST, Labels, Variables, X, dataset
from graphon_theory.errors import InputError, KernelError
from graphon_theory.spectra.linear_operators import Operator, as_cross_operator, as_operator, is_operator
from graphon_theory.training.conjugate_gradients import solve
from graphon_theory.training.linear_training import LinearTraining, NewInputs, checked_problem

if TYPE_CHECKING:
    import xarray as xr


def kernel_regression(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    test_kernel: ArrayLike | xr.DataArray,
    *,
    ridge: float | Sequence[float] = 0.0,
    tolerance: float = 1e-8,
) -> xr.Dataset:
    """Kernel (ridge) regression: where `gradient_flow` from f_0 = 0 ends.

        f(x) = Theta(x, X) (Theta + N ridge)^-1 y,

    the inverse without ridge (or with one that is rounding beside lambda_1) being the pseudo-inverse, in which modes
    at rounding level take no part.

    Args:
        kernel: (N, N); y: (N,) or (N, k); test_kernel: (M, N), new by training inputs. Either may be a linear operator
            such as `kernel_operator` makes.
        ridge: at least 0, in units of the operator (Theta / N), as in `gradient_flow`; or a list of them, which then
            is the dimension "ridge" of all results.
        tolerance: where the kernel is an operator, |y - (Theta + N ridge) alpha| / |y| that is left.

    Returns a Dataset: ``prediction`` ("x"[, "target"]), ``test_prediction`` ("x_test"[, "target"]), and
    ``left_out`` ("x"[, "target"]), what the regression on the N - 1 other inputs predicts at each one (for the cost of
    none: y_i - [A^-1 y]_i / [A^-1]_ii with A = Theta + (N - 1) ridge; NaN where A is singular).

    With an operator as kernel the ridge is positive, and conjugate gradients solve all targets and ridges at once,
    preconditioned by a partial pivoted Cholesky factor of 4 sqrt(N) columns. There is no ``left_out`` then, which takes
    the inverse's diagonal; ``residual`` and ``iterations`` (["target"]) say what was reached, by the last product.

    Raises KernelError and InputError as `gradient_flow`, ConvergenceError where conjugate gradients do not converge.
    """
    if is_operator(kernel):
        return _by_products(kernel, y, test_kernel, ridge, tolerance)
    deltas = _checked_ridges(ridge)
    problem = LinearTraining.of(kernel, y)
    new = problem.at_new(test_kernel)
    each = []
    for delta in deltas:
        learned = problem.at_the_end(delta)
        parts = {
            "prediction": _over_modes(problem.functions, learned.fraction, problem),
            "test_prediction": _over_modes(new.projections, learned.response, problem),
        }
        for name, values in parts.items():
            refuse_overflow(values, name)
        each.append({**parts, "left_out": _shaped(left_out(problem, delta), problem)})
    dims = {"prediction": X, "test_prediction": X_TEST, "left_out": X}
    many = np.ndim(ridge) > 0
    variables: Variables = {
        name: (
            ((RIDGE,) if many else ()) + (dim, *problem.tail),
            np.stack([one[name] for one in each]) if many else each[0][name],
        )
        for name, dim in dims.items()
    }
    coords = {**problem.coords, **_coords(new.inputs), **({RIDGE: deltas} if many else {})}
    attrs: dict[str, Any] = {} if many else {"ridge": deltas[0]}
    return dataset(variables, coords, {**attrs, "null_modes": problem.null_modes})


def _checked_ridges(ridge: float | Sequence[float], *, zero: bool = True) -> list[float]:
    """One ridge, or several. Raises InputError."""
    given = np.atleast_1d(real_array("ridge", ridge, objects=True, expected="a number or a list of them"))
    if given.ndim != 1 or not len(given):
        raise InputError(f"ridge: expected a number or a list of them, got shape {given.shape}.")
    expected = "" if zero else "a positive number (conjugate gradients, which a linear operator takes, need one)"
    return [positive_number("ridge", one, zero=zero, expected=expected) for one in given]


def _by_products(
    kernel: Any,
    y: ArrayLike | xr.DataArray,
    test_kernel: Any,
    ridge: float | Sequence[float],
    tolerance: float,
) -> xr.Dataset:
    """`kernel_regression` of a linear operator."""
    many, deltas = np.ndim(ridge) > 0, np.array(_checked_ridges(ridge, zero=False))
    system = _System.of(kernel, y, "kernel")
    size, tail = len(system.targets), system.tail
    solved = solve(system.operator, system.targets, size * deltas, _checked_tolerance(tolerance))
    new, there = system.at_new(test_kernel, solved.weights, "test_kernel")
    # Theta alpha = y - s alpha - what is left of the residual, known from the last product
    fitted = system.targets[:, :, None] - size * deltas * solved.weights - solved.missed
    lead = (RIDGE,) if many else ()

    def shaped(values: FloatArray) -> FloatArray:
        moved = np.moveaxis(values, -1, 0).reshape(len(deltas), *values.shape[:-2], *system.shape)
        return moved if many else moved[0]

    variables: Variables = {
        "prediction": ((*lead, X, *tail), shaped(fitted)),
        "test_prediction": ((*lead, X_TEST, *tail), shaped(new)),
        "residual": ((*lead, *tail), shaped(solved.residual)),
        "iterations": ((*lead, *tail), shaped(solved.iterations)),
    }
    coords = {**system.coords, **_coords(there), **({RIDGE: deltas} if many else {})}
    attrs: dict[str, Any] = {} if many else {"ridge": float(deltas[0])}
    return dataset(variables, coords, {**attrs, "rank": solved.rank, "tolerance": tolerance})


def _checked_tolerance(tolerance: float) -> float:
    if not 1e-14 <= positive_number("tolerance", tolerance) < 1:
        raise InputError(f"tolerance: expected a number from 1e-14 to below 1, got {tolerance}.")
    return float(tolerance)


@dataclass(frozen=True)
class _System:
    """A linear operator with its targets (N, k)."""

    operator: Operator
    targets: FloatArray
    shape: tuple[int, ...]  # of the targets of one input
    inputs: Labels
    columns: Labels

    @classmethod
    def of(cls, kernel: Any, y: ArrayLike | xr.DataArray, name: str) -> _System:
        operator = as_operator(kernel, name)
        operator.check_symmetric()
        inputs, targets, _ = checked_problem(operator.shape[0], operator.inputs, y, None)
        values = targets.values
        return cls(operator, values.reshape(len(values), -1), values.shape[1:], inputs, targets.columns)

    @property
    def tail(self) -> tuple[str, ...]:
        return (TARGET,) if self.shape else ()

    @property
    def coords(self) -> dict[str, Any]:
        found = {X: self.inputs.values, TARGET: self.columns.values}
        return {name: values for name, values in found.items() if values is not None}

    def at_new(self, kernel: Any, weights: FloatArray, name: str) -> tuple[FloatArray, Labels]:
        """The kernel of new by training inputs times weights (N, ...), and the labels of the new inputs."""
        read = as_cross_operator if is_operator(kernel) else as_cross_kernel
        cross, there = read(kernel, name, self.inputs, len(self.targets))
        return np.asarray(cross @ weights.reshape(len(weights), -1)).reshape(-1, *weights.shape[1:]), there


def left_out(problem: LinearTraining, ridge: float) -> FloatArray:
    """What regression on all other inputs predicts at each one, (N, targets): y_i - [A^-1 y]_i / [A^-1]_ii.

    A = Theta + (N - 1) ridge, that of N - 1 inputs; NaN where it is singular to rounding.
    """
    targets = problem.functions @ problem.coefficients
    shift = ridge * (problem.size - 1) / problem.size
    if not problem.ridged(shift):
        return np.full_like(targets, np.nan)
    inverse = 1 / problem.rates(shift)
    diagonal = problem.functions**2 @ inverse / problem.size
    return np.asarray(targets - problem.functions @ (inverse[:, None] * problem.coefficients) / diagonal[:, None])


def nngp_posterior(
    nngp: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    test_nngp: ArrayLike | xr.DataArray,
    test_variance: ArrayLike | xr.DataArray | None = None,
    *,
    noise: float = 0.0,
    tolerance: float = 1e-8,
) -> xr.Dataset:
    """Posterior of the Gaussian process that the wide network is before training, given noisy targets.

        mean(x) = K(x, X) (K + noise)^-1 y,      var(x) = K(x, x) - K(x, X) (K + noise)^-1 K(X, x)

    This is training the last layer alone for infinite time (started from its own draw), not all layers.

    Args:
        nngp: K (N, N); y: (N,) or (N, k) targets less the prior mean; test_nngp: (M, N), new by training inputs.
        test_variance: (M,), K(x, x) of the new inputs: ``np.diagonal(limit_kernel(network, x_new).nngp)``; the mean
            alone if left out.
        noise: variance of the targets' noise, at least 0 (a number; for 0 the pseudo-inverse).
        tolerance: as in `kernel_regression`, where ``nngp`` is a linear operator: then the noise is positive and there
            is the mean alone, with its ``residual`` and ``iterations``.

    Returns a Dataset: ``mean`` ("x_test"[, "target"]) and ``variance`` ("x_test",), the same for all targets, of the
    function without noise; attrs ``log_evidence`` = log p(y), where the noise is above rounding or K of full rank.

    Raises KernelError (also for a ``test_variance`` below what the data explain: kernels that do not belong together)
    and InputError.
    """
    if is_operator(nngp):
        return _mean_by_products(nngp, y, test_nngp, test_variance, noise, tolerance)
    problem = LinearTraining.of(nngp, y)
    level = positive_number("noise", noise, zero=True) / problem.size
    new = problem.at_new(test_nngp, "test_nngp")
    response = problem.at_the_end(level).response
    mean = _over_modes(new.projections, response, problem)
    refuse_overflow(mean, "mean")
    variables: Variables = {"mean": ((X_TEST, *problem.tail), mean)}
    if test_variance is not None:
        variables["variance"] = ((X_TEST,), _variance(test_variance, new, response))
    attrs: dict[str, float] = {"noise": level * problem.size}
    if problem.ridged(level):
        scale = problem.size * problem.rates(level)
        with np.errstate(over="ignore"):
            fit = float(np.sum(problem.size * problem.coefficients**2 / scale[:, None]))
        targets = problem.coefficients.shape[1]
        attrs["log_evidence"] = -0.5 * (fit + targets * float(np.log(2 * np.pi * scale).sum()))
        refuse_overflow(attrs["log_evidence"], "log_evidence")
    coords = {key: value for key, value in problem.coords.items() if key == TARGET}
    return dataset(variables, {**coords, **_coords(new.inputs)}, attrs)


def _variance(test_variance: ArrayLike | xr.DataArray, new: NewInputs, response: FloatArray) -> FloatArray:
    prior = checked_like(test_variance, (len(new.projections),), "test_variance", new.inputs)
    variance = prior - new.projections**2 @ response
    slack = 1e-8 * np.abs(prior).max(initial=0.0)
    if variance.min(initial=0.0) < -slack:
        worst = int(variance.argmin())
        raise KernelError(
            f"test_variance: {prior[worst]:.6g} at [{worst}] is {-variance[worst]:.3g} less than what the training "
            "inputs explain of it; pass the diagonal of the nngp of the same new inputs."
        )
    return np.maximum(variance, 0.0)  # rounding below zero only


def _mean_by_products(
    nngp: Any, y: ArrayLike | xr.DataArray, test_nngp: Any, test_variance: Any, noise: float, tolerance: float
) -> xr.Dataset:
    if test_variance is not None:
        raise KernelError(
            "test_variance: got a linear operator as nngp, with which there is the mean alone (the variance takes a "
            "system for every new input); leave it out, or pass the matrix (limit_kernel)."
        )
    level = positive_number("noise", noise, expected="a positive number (a linear operator as nngp needs one)")
    system = _System.of(nngp, y, "nngp")
    solved = solve(system.operator, system.targets, np.array([level]), _checked_tolerance(tolerance))
    mean, there = system.at_new(test_nngp, solved.weights, "test_nngp")
    variables: Variables = {"mean": ((X_TEST, *system.tail), mean.reshape(-1, *system.shape))}
    for name in ("residual", "iterations"):
        variables[name] = (system.tail, getattr(solved, name).reshape(system.shape))
    coords = {key: value for key, value in system.coords.items() if key == TARGET}
    attrs = {"noise": level, "rank": solved.rank, "tolerance": tolerance}
    return dataset(variables, {**coords, **_coords(there)}, attrs)


def _over_modes(functions: FloatArray, weights: FloatArray, problem: LinearTraining) -> FloatArray:
    """Sum over modes of functions (x, mode) * weights (mode,) * coefficients (mode, target)."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused by name
        return _shaped(functions @ (weights[:, None] * problem.coefficients), problem)


def _coords(new: Labels) -> dict[str, object]:
    return {} if new.values is None else {X_TEST: new.values}


def _shaped(values: FloatArray, problem: LinearTraining) -> FloatArray:
    return values.reshape(len(values), *problem.shape)
