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
of K. The right side is concave in sigma and grows with it (1/G_ii is a Schur complement), so that there is one positive
solution at most, and Newton's method from any sigma above its right side falls to it without ever crossing it (Ortega
and Rheinboldt 1970, 13.3.4).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    MOST_DRAWS,
    as_generator,
    as_kernel,
    checked_targets,
    positive_number,
    real_array,
    refuse_overflow,
    truth,
    whole_number,
)
from graphon_theory.data.labels import MODE, SIZE, Labels, Variables, dataset, inputs_of, labels_of, refuse_other_labels
from graphon_theory.data.output_kernels import shared_kernel
from graphon_theory.errors import ConvergenceError, GraphonError, InputError, shown
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.training.linear_training import LinearTraining

if TYPE_CHECKING:
    import xarray as xr

_NEWTON = 60
_SETTLED = 1e-9  # relative move of sigma
_ROUNDED = 1e-3  # a smaller move that no longer shrinks is rounding: of a sigma far below the kernel's scale
_COINCIDE = 1e-12  # squared distance of two inputs in the kernel's feature space, relative, at which they are copies
_FLOOR = 1e-8  # of the kernel's diagonal: the ridge that stands for none among copies
_WASTED = 0.2  # share of a training set, copies of others in it, at which counting inputs no longer describes it


class LearningCurveWarning(UserWarning):
    """Some sizes of a learning curve have no prediction and were left out."""


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
    modes = Labels("eigenvalue", labels_of(eigenvalue))
    for name, given in (("target_power", target_power), ("multiplicity", multiplicity)):
        refuse_other_labels(Labels(name, labels_of(given)), modes, "modes")
    counts = _checked_sizes(sizes, None)
    delta, sigma2 = _checked_ridge(ridge, int(counts[-1])), positive_number("noise", noise, zero=True)
    if delta == 0 and counts[-1] >= copies.sum():
        raise InputError(
            f"sizes: {counts[-1]} inputs without ridge need more than the {copies.sum():.0f} modes given; give more of "
            "the spectrum, or a ridge."
        )
    kappa = np.array([_kappa(values, copies, int(n), n * delta) for n in counts])
    learned, missed = values / (values + kappa[:, None]), kappa[:, None] / (values + kappa[:, None])
    # n - sum L^2 without cancellation, by n = sum L + n ridge / kappa
    overfitting = counts / ((learned * missed) @ copies + counts * (delta / kappa))
    noisy = overfitting * (missed**2 @ power + sigma2)
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

    Sizes without a prediction are left out of the result, and LearningCurveWarning says which and why; where no size is
    left, its error is raised. Without ridge such sizes are those that reach the kernel's rank, and, for ``resolved``,
    those where copies of inputs take over: a share 1/m of the sample or more, drawn from one with m copies of an input
    that have different targets, and training sets of which a fifth would be copies.

    Raises KernelError and InputError as `gradient_flow`, ConvergenceError if the equations for sigma have no solution.
    """
    truth("resolved", resolved)
    kernel = shared_kernel(kernel)
    problem = LinearTraining.of(kernel, y)
    size = problem.size
    counts = _checked_sizes(sizes, size - 1)
    delta = _checked_ridge(ridge, size)
    rank, ridged = int(problem.learns.sum()), problem.ridged(delta)
    values = size * np.maximum(problem.eigenvalues(delta), 0.0)  # of the matrix K
    power = np.sum(problem.coefficients**2, axis=1)
    matrix, targets = as_kernel(kernel), problem.functions @ problem.coefficients
    copies = None if ridged or not resolved else _Copies.of(matrix, targets)
    rows: list[list[float]] = []
    lost: dict[int, GraphonError] = {}
    for n in counts.tolist():
        try:
            if not ridged and n >= rank:
                raise InputError(
                    f"sizes: {n} inputs without ridge need a kernel of rank above that, got {rank}; add a ridge."
                )
            kappa = _one_sigma(values, n / size, n * delta)
            row = [kappa, _spectral_error(values, power, kappa, n, n * delta)]
            if resolved:
                shift = n * delta if copies is None else copies.checked_ridge(n)
                row += _resolved_errors(matrix, targets, n, shift)
        except (InputError, ConvergenceError) as error:
            lost[n] = error
        else:
            rows.append(row)
    if not rows:
        raise next(iter(lost.values()))
    for n, reason in lost.items():
        warnings.warn(f"size {n} is left out. {reason}", LearningCurveWarning, stacklevel=2)
    kappas, *errors = np.array(rows).T
    variables: Variables = {
        "spectral_error": ((SIZE,), errors[0]),
        "kappa": ((SIZE,), kappas / size),
        "learnability": ((SIZE, MODE), values / (values + kappas[:, None])),
    }
    if resolved:
        variables |= {"test_error": ((SIZE,), errors[1]), "train_error": ((SIZE,), errors[2])}
    for name, (_, found) in variables.items():
        refuse_overflow(found, name)
    left = np.array([n for n in counts.tolist() if n not in lost])
    return dataset(variables, {SIZE: left, MODE: np.arange(1, size + 1)}, {"ridge": delta, "inputs": size})


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

    kernel = shared_kernel(kernel)
    matrix = as_kernel(kernel)
    spectrum(kernel, 1)  # symmetric and positive, or refused with figures
    size = len(matrix)
    targets = checked_targets(y, size, inputs=inputs_of(kernel)).reshape(size, -1)
    counts = _checked_sizes(sizes, size - 1)
    delta = _checked_ridge(ridge, size)
    repeats = whole_number("repeats", repeats, 2, MOST_DRAWS)
    random = as_generator(rng, expected="a seed or a numpy Generator")
    beside = counts * delta
    errors = np.empty((2, len(counts), repeats))
    for row, n in enumerate(counts.tolist()):
        for repeat in range(repeats):
            order = random.permutation(size)
            train, test = order[:n], order[n:]
            own = matrix[np.ix_(train, train)] + beside[row] * np.eye(n)
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


def _checked_ridge(ridge: float, n: int) -> float:
    delta = positive_number("ridge", ridge, zero=True)
    if not math.isfinite(8.0 * n * delta):  # and what is a few times as much
        raise InputError(f"ridge: {delta:.3g} times {n} inputs is beyond the largest number; lower it.")
    return delta


def _spectral_error(values: FloatArray, power: FloatArray, sigma: float, n: int, delta: float) -> float:
    """Held-out error for one sigma: of all inputs, less that of the training inputs."""
    size, values, delta = len(values), values / sigma, delta / sigma  # in units of sigma, whose square may be no number
    inverse = 1 / (values + 1)
    stiffness = (1 - n / size) / inverse.mean() ** 2  # d sigma per fall of the mean of diag G
    loop = 1 - stiffness * np.mean(inverse**2)
    by_square, by_one = (stiffness * np.mean((e * inverse) ** 2) / loop for e in (values, 1.0))
    left = float(power @ inverse**2)
    every, train = (1 + by_square) * left, delta**2 * (1 + by_one) * left * size / n
    return (size * every - n * train) / (size - n)


class _Copies(NamedTuple):
    """Inputs that coincide: how many are like each input, whether they all have its targets; and the diagonal of K."""

    number: NDArray[np.int64]
    alike: NDArray[np.bool_]
    own: FloatArray

    @classmethod
    def of(cls, matrix: FloatArray, targets: FloatArray) -> _Copies:
        own = np.diagonal(matrix)
        sums = own[:, None] + own
        close = sums - 2 * matrix <= _COINCIDE * sums
        slack = 1e-9 * np.abs(targets).max()
        alike = np.ones(len(own), bool)
        for i in np.flatnonzero(close.sum(axis=1) > 1):
            alike[i] = np.abs(targets[close[i]] - targets[i]).max() <= slack
        return cls(close.sum(axis=1), alike, own)

    def checked_ridge(self, n: int) -> float:
        """The ridge in units of K that stands for none, 0 if it need not.

        With m copies of an input and a share s of all drawn, sigma of each is positive while s < 1/m; from there on one
        copy is as good as always drawn, and sigma goes to 0 with the ridge, as it does where the kernel is 0. Raises
        ConvergenceError where that tells nothing.
        """
        share = n / len(self.number)
        wasted = float(np.sum(share - (1 - (1 - share) ** self.number) / self.number)) / n
        sure = (self.number > 1) & (self.number * share >= 1)
        if wasted > _WASTED or (sure & ~self.alike).any():
            which = f"{100 * wasted:.0f}% of {n} inputs" if wasted > _WASTED else "inputs with other targets"
            raise ConvergenceError(
                f"kernel: {which} are drawn as copies of others (inputs that coincide make it singular); leave copies "
                "out, add a ridge, or use resolved=False."
            )
        return _FLOOR * float(self.own.mean()) if (sure | (self.own == 0)).any() else 0.0


def _resolved_errors(matrix: FloatArray, targets: FloatArray, n: int, delta: float) -> tuple[float, float]:
    """Held-out and training error with a sigma for each input, by Newton's method from above."""
    size = len(matrix)
    share = n / size
    unit = 2.0 ** (math.frexp(max(delta, float(np.diagonal(matrix).max())))[1] - 1)  # squares stay numbers
    matrix, delta = matrix / unit, delta / unit
    # G_ii >= 1 / (K_ii + sigma_i), so that this is above its right side
    sigma = ((1 - share) * np.diagonal(matrix) + delta) / share
    before = math.inf
    for _ in range(_NEWTON):
        inverse = _inverse(matrix, sigma)
        own = np.diagonal(inverse)
        stiffness = (1 - share) / own**2
        loop = np.eye(size) - stiffness[:, None] * inverse**2
        try:
            after = sigma + np.linalg.solve(loop, (1 - share) / own + delta - sigma)
        except np.linalg.LinAlgError:
            raise _not_settled(n, size, before) from None
        after = np.clip(after, np.maximum(delta, 1e-12 * sigma), sigma)  # what it is but for rounding
        worst = float(np.abs(after / sigma - 1).max())
        sigma = after
        if worst <= _SETTLED or (worst <= _ROUNDED and worst > 0.75 * before):
            break
        before = worst
    else:
        raise _not_settled(n, size, before)
    # answers of sigma to K + t K^2 and to K + t: what the squares of the errors need
    seen = np.eye(size) - sigma[:, None] * inverse  # K G
    pushes = np.stack([np.sum(seen**2, axis=0), np.sum(inverse**2, axis=0)], axis=1)
    by_square, by_one = np.linalg.solve(loop, stiffness[:, None] * pushes).T
    left = np.sum((inverse @ targets) ** 2, axis=1)
    every, train = float((sigma**2 + by_square) @ left), float(delta**2 * (1 + by_one) @ left)
    return (every - train) / (size - n), train / n


def _not_settled(n: int, size: int, move: float) -> ConvergenceError:
    return ConvergenceError(
        f"sizes: the equations for {n} of {size} inputs still move by {move:.2g}; use resolved=False, or a ridge."
    )


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
        raise InputError(f"sizes: expected increasing whole numbers from 1{upper}, got {shown(sizes)}.")
    return array.astype(np.int64)
