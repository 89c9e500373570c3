"""How well kernel regression generalises, without training it (THEORY §6, §7).

*From the spectrum and the target alone* (Bordelon, Canatar and Pehlevan 2020; Simon, Dickens, Karkada and DeWeese
2023): n training inputs drawn from the law see mode i through its learnability

    L_i = lambda_i / (lambda_i + kappa),      sum_i L_i + delta / kappa = n,      delta = n ridge,
    error on new noisy targets = n / (n - sum_i L_i^2) * ( sum_i (1 - L_i)^2 v_i^2 + noise ),

v_i the target's coefficients. It takes the eigenfunctions for independent Gaussian variables.

*On a given sample* two things spoil that. A training set drawn from N inputs without replacement leaves fewer to err
on: for eigenvectors that point anywhere the error of the held-out ones is the one above divided by 1 - n/N. And inputs
differ: one that is far from all others is neither learned nor helps. Then kappa becomes a number for each input,

    sigma_i = (1 - n/N) / G_ii + delta,      G = (K + diag sigma)^-1,

the coherent-potential equation for leaving inputs out at random. Errors follow from how G answers to small changes
of K.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    as_generator,
    as_kernel,
    checked_targets,
    positive_number,
    real_array,
    whole_number,
)
from graphon_theory.data.labels import MODE, SIZE, Variables, dataset
from graphon_theory.errors import ConvergenceError, InputError
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.training.linear_training import LinearTraining

if TYPE_CHECKING:
    import xarray as xr

_NEWTON = 60
_SETTLED = 1e-9  # relative move of sigma


def eigenlearning(
    eigenvalue: ArrayLike | xr.DataArray,
    target_power: ArrayLike | xr.DataArray,
    sizes: ArrayLike,
    *,
    multiplicity: ArrayLike | xr.DataArray | None = None,
    ridge: float = 0.0,
    noise: float = 0.0,
) -> xr.Dataset:
    """Predicted test error of kernel regression on n inputs drawn from the law, from spectrum and target alone.

    Args:
        eigenvalue: lambda_i of the operator, positive; all that matter, since the tail acts as a ridge.
        target_power: v_i^2 summed over targets: the squared coefficients in orthonormal eigenfunctions; with
            multiplicities, the total of all copies.
        sizes: training set sizes n, increasing whole numbers from 1 on.
        multiplicity: how often each eigenvalue occurs (`zonal_spectrum`); once if left out.
        ridge: as in `gradient_flow`.
        noise: variance of independent noise on the training targets, all targets together.

    Returns a Dataset over ``size``: ``test_error``, the mean square on new inputs, summed over targets, against targets
    without noise; ``train_error`` (with it); ``kappa``; ``overfitting`` = n / (n - sum L^2); and ``learnability`` L_i
    ("size", "mode").

    Raises InputError, also where n reaches the number of modes without ridge (the kernel then has no more to say).
    """
    values = _positive_list(eigenvalue, "eigenvalue")
    power = _positive_list(target_power, "target_power", len(values), zero=True)
    copies = np.ones(len(values)) if multiplicity is None else _positive_list(multiplicity, "multiplicity", len(values))
    counts = _checked_sizes(sizes, None)
    delta, sigma2 = positive_number("ridge", ridge, zero=True), positive_number("noise", noise, zero=True)
    if delta == 0 and counts[-1] >= copies.sum():
        raise InputError(
            f"sizes: {counts[-1]} inputs without ridge need more than the {copies.sum():.0f} modes given; give more of "
            "the spectrum, or a ridge."
        )
    kappa = np.array([_kappa(values, copies, int(n), n * delta) for n in counts])
    learned = values / (values + kappa[:, None])
    overfitting = counts / (counts - learned**2 @ copies)
    noisy = overfitting * ((1 - learned) ** 2 @ power + sigma2)
    variables: Variables = {
        "test_error": ((SIZE,), noisy - sigma2),
        "train_error": ((SIZE,), (delta / kappa) ** 2 * noisy),
        "kappa": ((SIZE,), kappa),
        "overfitting": ((SIZE,), overfitting),
        "learnability": ((SIZE, MODE), learned),
    }
    coords = {SIZE: counts, MODE: np.arange(1, len(values) + 1)}
    return dataset(variables, coords, {"ridge": delta, "noise": sigma2})


def learning_curve(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    sizes: ArrayLike,
    *,
    ridge: float = 0.0,
    resolved: bool = True,
) -> xr.Dataset:
    """Predicted error on the inputs left out, for training sets of n drawn from the sample without replacement.

    Args:
        kernel: (N, N) of all inputs, training and test together; y: (N,) or (N, k), noise and all.
        sizes: training set sizes, increasing whole numbers from 1 to N - 1.
        ridge: as in `gradient_flow`.
        resolved: also solve for each input's own sigma_i (some N^3 operations, five to ten times a size); else the
            spectrum alone.

    Returns a Dataset over ``size``: ``spectral_error``, from the spectrum and the target alone, and, if ``resolved``,
    ``test_error`` and ``train_error``: mean squares over inputs, summed over targets; ``kappa`` and ``learnability``
    ("size", "mode") in units of the operator.

    Errors are averages over training sets. Both are asymptotic in n; ``spectral_error`` is too low where inputs differ
    (by 16 to 26% on handwritten digits at n = 1,000 of 1,797, where ``test_error`` is within 4%).

    Raises KernelError and InputError as `gradient_flow`, ConvergenceError if the equations for sigma do not settle.
    """
    problem = LinearTraining.of(kernel, y)
    size = problem.size
    counts = _checked_sizes(sizes, size - 1)
    delta = positive_number("ridge", ridge, zero=True)
    rank = int(problem.learns.sum())
    if delta == 0 and counts[-1] >= rank:
        raise InputError(
            f"sizes: {counts[-1]} inputs without ridge need a kernel of rank above that, got {rank}; add a ridge."
        )
    values = size * np.where(problem.learns, problem.values, 0.0)  # of the matrix K
    power = np.sum(problem.coefficients**2, axis=1)
    spectral, kappa = np.empty(len(counts)), np.empty(len(counts))
    found = np.empty((len(counts), 2))
    for row, n in enumerate(counts.tolist()):
        kappa[row] = _one_sigma(values, n / size, n * delta)
        spectral[row] = _spectral_error(values, power, kappa[row], n, n * delta)
        if resolved:
            start = np.full(size, kappa[row])
            found[row] = _resolved_errors(
                as_kernel(kernel), problem.functions @ problem.coefficients, n, n * delta, start
            )
    variables: Variables = {
        "spectral_error": ((SIZE,), spectral),
        "kappa": ((SIZE,), kappa / size),
        "learnability": ((SIZE, MODE), values / (values + kappa[:, None])),
    }
    if resolved:
        variables |= {"test_error": ((SIZE,), found[:, 0]), "train_error": ((SIZE,), found[:, 1])}
    coords = {SIZE: counts, MODE: np.arange(1, size + 1)}
    return dataset(variables, coords, {"ridge": delta, "inputs": size})


def measured_learning_curve(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    sizes: ArrayLike,
    *,
    ridge: float = 0.0,
    repeats: int = 10,
    rng: np.random.Generator | int = 0,
) -> xr.Dataset:
    """What `learning_curve` predicts, measured: kernel regression on random splits of the sample.

    Returns a Dataset over ``size``: ``test_error`` and ``train_error``, means over ``repeats`` random training sets,
    with the standard errors ``test_error_error`` and ``train_error_error``.

    Raises KernelError and InputError.
    """
    from scipy.linalg import LinAlgWarning, lstsq, solve

    matrix = as_kernel(kernel)
    spectrum(kernel, 1)  # symmetric and positive, or refused with figures
    size = len(matrix)
    targets = checked_targets(y, size).reshape(size, -1)
    counts = _checked_sizes(sizes, size - 1)
    delta = positive_number("ridge", ridge, zero=True)
    repeats = whole_number("repeats", repeats, 2)
    random = as_generator(rng, expected="a seed or a numpy Generator")
    errors = np.empty((2, len(counts), repeats))
    for row, n in enumerate(counts.tolist()):
        for repeat in range(repeats):
            order = random.permutation(size)
            train, test = order[:n], order[n:]
            own = matrix[np.ix_(train, train)] + n * delta * np.eye(n)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", LinAlgWarning)
                    weights = solve(own, targets[train], assume_a="pos", check_finite=False)
            except (np.linalg.LinAlgError, LinAlgWarning):  # singular to rounding: coincident inputs
                weights = lstsq(own, targets[train], cond=n * np.finfo(float).eps, check_finite=False)[0]
            for kind, rows in enumerate((test, train)):
                missed = matrix[np.ix_(rows, train)] @ weights - targets[rows]
                errors[kind, row, repeat] = np.mean(np.sum(missed**2, axis=1))
    variables: Variables = {}
    for name, one in zip(("test_error", "train_error"), errors, strict=True):
        variables[name] = ((SIZE,), one.mean(axis=1))
        variables[f"{name}_error"] = ((SIZE,), one.std(axis=1, ddof=1) / np.sqrt(repeats))
    return dataset(variables, {SIZE: counts}, {"ridge": delta, "repeats": int(repeats), "inputs": size})


def _kappa(values: FloatArray, copies: FloatArray, n: int, delta: float) -> float:
    """kappa of  sum copies lambda / (lambda + kappa) + delta / kappa = n."""

    def surplus(log_kappa: float) -> float:
        kappa = math.exp(log_kappa)
        return float(copies @ (values / (values + kappa))) + delta / kappa - n

    high = math.log((copies @ values + delta) / n)  # there the sum is at most n
    low = high - 1
    while surplus(low) < 0:
        low -= 2
    return math.exp(_root(surplus, low, high))


def _one_sigma(values: FloatArray, share: float, delta: float) -> float:
    """sigma = (1 - n/N) / g + delta with g = mean of 1 / (k_i + sigma), for all inputs alike."""

    def surplus(log_sigma: float) -> float:
        sigma = math.exp(log_sigma)
        return 1 - delta / sigma - (1 - share) / float(np.mean(sigma / (values + sigma)))

    high = math.log(2 * (delta + values.max()) / share)
    low = math.log(delta) if delta > 0 else high - 1
    while surplus(low) > 0:
        low -= 2
    return math.exp(_root(surplus, low, high))


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return (
        float(brentq(f, low, high, xtol=1e-14))
        if f(high) * f(low) < 0
        else (high if abs(f(high)) < abs(f(low)) else low)
    )


def _spectral_error(values: FloatArray, power: FloatArray, sigma: float, n: int, delta: float) -> float:
    """Held-out error for one sigma: of all inputs, less that of the training inputs."""
    size, inverse = len(values), 1 / (values + sigma)
    stiffness = (1 - n / size) / inverse.mean() ** 2  # d sigma per fall of the mean of diag G
    loop = 1 - stiffness * np.mean(inverse**2)
    by_square, by_one = (stiffness * np.mean((e * inverse) ** 2) / loop for e in (values, 1.0))
    left = float(power @ inverse**2)
    every, train = (sigma**2 + by_square) * left, delta**2 * (1 + by_one) * left * size / n
    return (size * every - n * train) / (size - n)


def _resolved_errors(
    matrix: FloatArray, targets: FloatArray, n: int, delta: float, sigma: FloatArray
) -> tuple[float, float]:
    """Held-out and training error with a sigma for each input, by Newton's method from ``sigma``."""
    size = len(matrix)
    share = n / size
    for _ in range(_NEWTON):
        inverse = _inverse(matrix, sigma)
        own = np.diagonal(inverse)
        stiffness = (1 - share) / own**2
        loop = np.eye(size) - stiffness[:, None] * inverse**2
        move = np.linalg.solve(loop, (1 - share) / own + delta - sigma) / sigma
        sigma = sigma * np.exp(np.clip(move, -1.0, 1.0))
        if np.abs(move).max() <= _SETTLED:
            break
    else:
        raise ConvergenceError(
            f"sizes: the equations for {n} of {size} inputs still move by {np.abs(move).max():.2g}; use "
            "resolved=False, or a ridge."
        )
    # answers of sigma to K + t K^2 and to K + t: what the squares of the errors need
    seen = np.eye(size) - sigma[:, None] * inverse  # K G
    pushes = np.stack([np.sum(seen**2, axis=0), np.sum(inverse**2, axis=0)], axis=1)
    by_square, by_one = np.linalg.solve(loop, stiffness[:, None] * pushes).T
    left = np.sum((inverse @ targets) ** 2, axis=1)
    every, train = float((sigma**2 + by_square) @ left), float(delta**2 * (1 + by_one) @ left)
    return (every - train) / (size - n), train / n


def _inverse(matrix: FloatArray, diagonal: FloatArray) -> FloatArray:
    """(K + diag)^-1 of a positive definite matrix."""
    from scipy.linalg.lapack import dpotrf, dpotri

    shifted = np.array(matrix, order="F")
    shifted.flat[:: len(matrix) + 1] += diagonal
    factor, info = dpotrf(shifted, lower=1, overwrite_a=1)
    inverse, again = dpotri(factor, lower=1, overwrite_c=1)
    if info or again:
        raise ConvergenceError(
            "kernel: it is too close to singular for these sizes (inputs that coincide make it so); leave copies out, "
            "add a ridge, or use resolved=False."
        )
    return np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)


def _positive_list(
    values: ArrayLike | xr.DataArray, name: str, size: int | None = None, *, zero: bool = False
) -> FloatArray:
    wanted = "a list of numbers" if size is None else f"{size} numbers, one a mode"
    array = real_array(name, values, expected=wanted)
    if array.ndim != 1 or array.dtype.kind == "b" or not array.size or (size is not None and len(array) != size):
        raise InputError(f"{name}: expected {wanted}, got shape {array.shape} of {array.dtype}.")
    array = array.astype(np.float64)
    bad = np.flatnonzero(~((array >= 0 if zero else array > 0) & np.isfinite(array)))
    if len(bad):
        raise InputError(
            f"{name}: expected {'no negative' if zero else 'positive'} numbers, got {array[bad[0]]:.6g} at [{bad[0]}]; "
            "keep the modes above rounding level."
        )
    return array


def _checked_sizes(sizes: ArrayLike, most: int | None) -> NDArray[np.int64]:
    array = np.atleast_1d(real_array("sizes", sizes, expected="increasing whole numbers"))
    whole = array.dtype.kind in "iu" and array.ndim == 1 and array.size > 0
    if not whole or (np.diff(array) <= 0).any() or array[0] < 1 or (most is not None and array[-1] > most):
        upper = "" if most is None else f" to {most}"
        raise InputError(f"sizes: expected increasing whole numbers from 1{upper}, got {sizes!r:.80}.")
    return array.astype(np.int64)
