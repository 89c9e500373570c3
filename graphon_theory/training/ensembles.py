"""Mean and spread of predictions over initialisations, at any time of training (THEORY §7; Lee et al. 2019).

A wide network starts as a draw f_0 of the NNGP, f_0 ~ N(mean, K), and is trained linearly with the NTK:

    f_t(x) = f_0(x) + A_t(x) (y - f_0(X)),      A_t(x) = Theta(x, X) Theta^-1 G_t,

G_t the learned fractions in the NTK's modes. So f_t is Gaussian, with

    E f_t(x) = m(x) + A_t(x) (y - m(X)),        Var f_t(x) = K(x, x) - 2 A_t(x) K(X, x) + A_t(x) K(X, X) A_t(x)^T.

Null modes respond at new inputs as they do in `gradient_flow`.

What a finite network adds is O(1/n) in the mean and in the variance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    as_cross_kernel,
    as_kernel,
    checked_like,
    checked_steps,
    checked_targets,
    checked_times,
    positive_number,
    refuse_overflow,
    truth,
)
from graphon_theory.data.labels import OUTPUT, TIME, X2, X_TEST, X_TEST2, Variables, X, dataset
from graphon_theory.data.output_kernels import each_kernel
from graphon_theory.errors import InputError, KernelError
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.training.linear_training import Learned, LinearTraining, NewInputs
from graphon_theory.training.regressions import prior_of_new

if TYPE_CHECKING:
    import xarray as xr


def training_ensemble(
    kernels: xr.Dataset,
    y: ArrayLike | xr.DataArray,
    times: ArrayLike,
    *,
    test: xr.Dataset | None = None,
    test_variance: ArrayLike | xr.DataArray | None = None,
    learning_rate: float = 1.0,
    ridge: float = 0.0,
    descent: bool = False,
    covariance: bool = False,
) -> xr.Dataset:
    """Mean and standard deviation of the prediction at each time, over networks that start from their own draws.

    Args:
        kernels: ``limit_kernel(network, x)``: ``nngp`` and ``ntk`` (N, N), and its ``mean`` where there is one.
        y: targets (N,) or (N, k): k outputs that share the kernels and are drawn independently.
        times: as in `gradient_flow`; with ``descent`` whole steps of plain gradient descent at ``learning_rate``.
        test: ``limit_kernel(network, x_new, x)``: new inputs (rows) by training inputs.
        test_variance: (M,), ``np.diagonal(limit_kernel(network, x_new).nngp)``.
        learning_rate, ridge: as in `gradient_flow`; the ridge pulls towards each network's own start.
        covariance: also between inputs; ``test_variance`` is then ``limit_kernel(network, x_new).nngp``, (M, M).

    Returns a Dataset: ``mean`` ("time", "x"[, "target"]), ``std`` ("time", "x"), the same for every target, and with
    ``test`` also ``test_mean`` and ``test_std`` over "x_test"; ``loss`` ("time"): the expected training loss; with
    ``covariance`` also ``covariance`` ("time", "x", "x2") and ``test_covariance`` ("time", "x_test", "x_test2").

    Raises KernelError and InputError.
    """
    truth("descent", descent)
    if not {"nngp", "ntk"} <= set(getattr(kernels, "data_vars", ())):
        raise InputError("kernels: expected the Dataset of limit_kernel(network, x), with nngp and ntk.")
    kernels = _shared(kernels, "kernels")
    test = None if test is None else _shared(test, "test")
    prior_mean = _mean_of(kernels)
    size = len(as_kernel(kernels.ntk, "kernels.ntk"))
    start = None if prior_mean is None else _like(prior_mean, checked_targets(y, size).shape)
    problem = LinearTraining.of(kernels.ntk, y, start)
    prior = as_kernel(kernels.nngp, "kernels.nngp")
    if len(prior) != size:
        raise KernelError(f"kernels: nngp is {prior.shape}, ntk {(size, size)}; pass both of one limit_kernel call.")
    if prior.any():
        spectrum(kernels.nngp, 1)  # symmetric and positive, or refused with figures
    moments, learned = _learned(problem, times, learning_rate, ridge, descent)

    # everything in the modes: the NNGP between them, and what of it is still left at a time
    inner = problem.functions.T @ prior @ problem.functions / size**2
    left = 1 - learned.fraction
    variance = np.stack([_quadratic(problem.functions * one, inner) for one in left])
    mean = problem.functions @ (learned.fraction[:, :, None] * problem.coefficients)
    if problem.start is not None:
        mean = mean + problem.start
    shape = (len(moments), -1, *problem.shape)
    with np.errstate(over="ignore"):  # looked for below
        bias = left**2 @ problem.power
    variables: Variables = {
        "mean": ((TIME, X, *problem.tail), mean.reshape(shape)),
        "std": ((TIME, X), np.sqrt(np.maximum(variance, 0.0))),
        "loss": ((TIME,), bias + 0.5 * problem.coefficients.shape[1] * variance.mean(axis=1)),
    }
    if truth("covariance", covariance):
        whole = np.stack([(problem.functions * one) @ inner @ (problem.functions * one).T for one in left])
        variables["covariance"] = ((TIME, X, X2), whole)
    coords = {TIME: moments, **problem.coords}
    if test is not None:
        if test_variance is None or not {"nngp", "ntk"} <= set(getattr(test, "data_vars", ())):
            raise InputError(
                "test, test_variance: expected limit_kernel(network, x_new, x) and the diagonal of "
                "limit_kernel(network, x_new).nngp."
            )
        new = problem.at_new(test.ntk, "test.ntk")
        variables |= _at_new(problem, new, test, test_variance, inner, learned, start is not None, shape, covariance)
        if new.inputs.values is not None:
            coords[X_TEST] = new.inputs.values
    elif test_variance is not None:
        raise InputError("test: expected limit_kernel(network, x_new, x) with test_variance.")
    for name, (_, values) in variables.items():
        refuse_overflow(values, name)
    attrs = {"learning_rate": float(learning_rate), "ridge": float(ridge), "descent": int(descent)}
    return dataset(variables, coords, attrs)


def _shared(kernels: xr.Dataset, name: str) -> xr.Dataset:
    """The kernels that all outputs share; KernelError where each has its own, which are trained one by one."""
    if OUTPUT not in getattr(kernels, "dims", ()):
        return kernels
    for one in {"nngp", "ntk"} & set(kernels.data_vars):
        each_kernel(kernels[one], f"{name}.{one}", square=False, outputs=1)
    return kernels.isel({OUTPUT: 0}, drop=True)


def _learned(
    problem: LinearTraining, times: ArrayLike, learning_rate: float, ridge: float, descent: bool
) -> tuple[FloatArray, Learned]:
    eta, delta = positive_number("learning_rate", learning_rate), positive_number("ridge", ridge, zero=True)
    if not descent:
        moments = checked_times(times)
        return moments, problem.flow(moments, eta, delta)
    moments = checked_steps(times, "times")
    top = eta * (float(problem.values[0]) + delta)
    if top >= 2:
        raise InputError(
            f"learning_rate: {eta:.6g} is not below the largest stable step {2 * eta / top:.6g}; the ensemble diverges."
        )
    return moments, problem.descent(moments, eta, delta)


def _at_new(
    problem: LinearTraining,
    new: NewInputs,
    test: xr.Dataset,
    test_variance: ArrayLike | xr.DataArray,
    inner: FloatArray,
    learned: Learned,
    has_mean: bool,
    shape: tuple[int, ...],
    covariance: bool,
) -> Variables:
    count = len(new.projections)
    cross, _ = as_cross_kernel(test.nngp, "test.nngp", problem.inputs, problem.size)
    if len(cross) != count:
        raise KernelError(f"test: nngp is {cross.shape}, ntk {(count, problem.size)}.")
    whole = prior_of_new(test_variance, new, problem) if covariance else None
    own = checked_like(test_variance, (count,), "test_variance", new.inputs) if whole is None else np.diagonal(whole)
    between = cross @ problem.functions / problem.size  # NNGP of new inputs with the modes
    mean = new.projections @ (learned.response[:, :, None] * problem.coefficients)
    if has_mean:
        mean = mean + _like(_mean_of(test), (count, *problem.shape)).reshape(count, -1)
    variance = np.empty((len(mean), count))
    for row, one in enumerate(learned.response):
        weighted = new.projections * one
        variance[row] = own - 2 * np.sum(weighted * between, axis=1) + _quadratic(weighted, inner)
    slack = 1e-6 * np.abs(own).max(initial=0.0)
    if variance.min(initial=0.0) < -slack:
        raise KernelError(
            f"test_variance: leaves a variance of {variance.min():.3g}; pass the diagonal of the nngp of the same new "
            "inputs."
        )
    variables: Variables = {
        "test_mean": ((TIME, X_TEST, *problem.tail), mean.reshape(shape)),
        "test_std": ((TIME, X_TEST), np.sqrt(np.maximum(variance, 0.0))),
    }
    if whole is not None:
        weights = [new.projections * one for one in learned.response]
        both = [whole - one @ between.T - between @ one.T + one @ inner @ one.T for one in weights]
        variables["test_covariance"] = ((TIME, X_TEST, X_TEST2), np.stack(both))
    return variables


def _quadratic(rows: FloatArray, inner: FloatArray) -> FloatArray:
    """diag(rows inner rows^T)."""
    return np.asarray(np.sum((rows @ inner) * rows, axis=1))


def _mean_of(kernels: xr.Dataset | None) -> FloatArray | None:
    """The mean of f_0, or None where it is zero."""
    if kernels is None or "mean" not in kernels or not np.any(kernels["mean"].values):
        return None
    return np.asarray(kernels["mean"].values, dtype=float)


def _like(mean: FloatArray | None, shape: tuple[int, ...]) -> FloatArray:
    """One mean per input, the same for all targets."""
    if mean is None:
        return np.zeros(shape)
    return np.broadcast_to(mean.reshape(-1, *([1] * (len(shape) - 1))), shape).copy()
