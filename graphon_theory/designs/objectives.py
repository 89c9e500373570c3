"""What a design is to be good at: values of kernels on a task, each with its exact cotangents (THEORY §13).

An objective is a function (ntk, nngp, y) -> (value, ntk', nngp') of kernels (N, N) and targets (N, m), smaller being
better; a cotangent that is zero may be None. Those here come from :func:`objective` by name. Ridges are shares of the
kernel's mean diagonal, so that the scale of a kernel, which is not what is designed, plays no part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import one_of, positive_number, real_array, refuse_infinite, share_kept, whole_number
from graphon_theory.errors import InputError, KernelError, shown
from graphon_theory.values import Record

Cotangents = tuple[float, FloatArray | None, FloatArray | None]
Objective = Callable[[FloatArray, FloatArray, FloatArray], Cotangents]
_Of = Callable[[FloatArray, FloatArray], tuple[float, FloatArray]]  # (kernel, y) -> (value, cotangent)

_LARGEST_RIDGE = 1e50  # beside which no kernel is seen, and squares of which are numbers still
_SMALL = 1e-6  # eta mu t below which a power series replaces (1 - (1 - eta mu)^t) / eta mu, and its slope
_NEAR = 0.5  # t |eta mu - eta mu'| below which a divided difference is the mean of the slope between
_NODES, _WEIGHTS = (0.5 * part for part in np.polynomial.legendre.leggauss(12))


def objective(name: str, *, kernel: str = "ntk", **options: Any) -> Objective:
    """An objective by name, for ``gt.design`` or for use by itself: smaller is better.

    With K the kernel, G = (K + ridge tr K / N)^-1, alpha = G y, and sums over targets:

    - "leave_one_out" (ridge=1e-3, log=False): sum_i (alpha_i / G_ii)^2 / N, the error at each input of the regression
      on all others; its logarithm if asked.
    - "k_fold" (folds=5, ridge=1e-3): the same with folds left out, the i-th input in fold i mod ``folds``.
    - "loss_at" (steps, rate=0.5): the training loss |f_t - y|^2 / 2 N after so many steps of gradient descent from
      f = 0 at ``rate`` times the critical learning rate, 2 / lambda_1.
    - "test_loss_at" (steps, rate=0.5, share=0.25): the loss at the last ``share`` of the inputs, of training on the
      others.
    - "alignment": 1 - <K, y y'> / (|K| |y y'|).
    - "evidence" (noise=1e-3, scaled=True): minus the log evidence per input of the Gaussian process with covariance K
      and noise; with ``scaled`` K and noise are multiplied by the number that makes it best, and the noise is a share
      of the mean diagonal, otherwise it is a variance.
    - "complexity" (ridge=1e-3): (tr K / N) y' G y / N, the square of the norm that bounds the test error.
    - "energy" (count=10): 1 - the share of the trace in the first ``count`` modes.
    - "spectrum" (target): mean square of log(share of mode i / target share) over the leading modes, as many as
      ``target`` has; its values are divided by their sum and the kernel's by theirs.

    ``kernel``: "ntk" or "nngp".

    Returns a function (ntk, nngp, y) -> (value, ntk cotangent or None, nngp cotangent or None).

    Raises InputError for another name, an option it has not or a value it cannot have; the function raises KernelError
    for a kernel that is not positive definite with its ridge.
    """
    if not isinstance(name, str) or name not in _MAKERS:
        raise InputError(
            f"objective: expected a callable or one of {', '.join(map(repr, _MAKERS))}, got {shown(name)}."
        )
    one_of("kernel", kernel, ("ntk", "nngp"))
    try:
        of = _MAKERS[name](**options)
    except TypeError as error:
        raise InputError(f"objective {name!r}: {str(error).split('() ')[-1]}.") from None
    return _Named(name, kernel, of)


class _Named(Record):
    """An objective of one of the two kernels."""

    def __init__(self, name: str, kernel: str, of: _Of) -> None:
        self.name, self.kernel, self._of = name, kernel, of

    def __call__(self, ntk: FloatArray, nngp: FloatArray, y: FloatArray) -> Cotangents:
        value, cotangent = self._of(ntk if self.kernel == "ntk" else nngp, _columns(y))
        return (value, cotangent, None) if self.kernel == "ntk" else (value, None, cotangent)

    def __repr__(self) -> str:
        return f"objective({self.name!r}, kernel={self.kernel!r})"


def _columns(y: FloatArray) -> FloatArray:
    return y.reshape(len(y), -1)


# --- regression -------------------------------------------------------------------------------------------------------


def _level(ridge: float) -> float:
    found = positive_number("ridge", ridge, zero=True)
    if found > _LARGEST_RIDGE:
        raise InputError(f"ridge: expected at most {_LARGEST_RIDGE:g} times the kernel's mean diagonal, got {found:g}.")
    return found


def inverse(kernel: FloatArray, ridge: float) -> tuple[FloatArray, float]:
    """G = (K + ridge tr K / N)^-1 and log det of what was inverted. Raises KernelError where that is not definite."""
    size = len(kernel)
    ridged = kernel + ridge * float(np.trace(kernel)) / size * np.eye(size)
    try:
        factor = cho_factor(ridged, lower=True)
    except LinAlgError:
        raise KernelError(
            f"kernel: with a ridge of {ridge:g} times its mean diagonal it is not positive definite; raise the ridge."
        ) from None
    out = cho_solve(factor, np.eye(size))
    return (out + out.T) / 2, 2.0 * float(np.log(np.diagonal(factor[0])).sum())


def _with_ridge(cotangent: FloatArray, ridge: float) -> FloatArray:
    """The cotangent of K from that of K + ridge tr K / N."""
    out = (cotangent + cotangent.T) / 2
    out[np.diag_indices(len(out))] += ridge * float(np.trace(cotangent)) / len(out)
    return out


def _leave_one_out(ridge: float = 1e-3, log: bool = False) -> _Of:
    level = _level(ridge)

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size = len(y)
        g = inverse(kernel, level)[0]
        alpha, diagonal = g @ y, np.diagonal(g)
        errors = alpha / diagonal[:, None]
        value = float((errors**2).sum()) / size
        of_alpha = 2 / size * errors / diagonal[:, None]
        of_diagonal = -2 / size * (errors**2).sum(axis=1) / diagonal
        cotangent = -(g @ of_alpha) @ alpha.T - (g * of_diagonal) @ g
        if log:
            return float(np.log(value)), _with_ridge(cotangent / value, level)
        return value, _with_ridge(cotangent, level)

    return of


def _k_fold(folds: int = 5, ridge: float = 1e-3) -> _Of:
    count, level = whole_number("folds", folds, least=2), _level(ridge)

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size = len(y)
        if count > size:
            raise InputError(f"folds: expected at most one an input, that is {size}, got {count}.")
        g = inverse(kernel, level)[0]
        alpha = g @ y
        of_alpha, of_blocks, value = np.zeros_like(y), np.zeros_like(g), 0.0
        for fold in range(count):
            rows = np.arange(fold, size, count)
            block = np.ix_(rows, rows)
            errors = np.linalg.solve(g[block], alpha[rows])  # y - f on what was left out
            value += float((errors**2).sum()) / size
            of_alpha[rows] = 2 / size * np.linalg.solve(g[block], errors)
            of_blocks[block] = -of_alpha[rows] @ errors.T
        return value, _with_ridge(-(g @ of_alpha) @ alpha.T - g @ of_blocks @ g, level)

    return of


def _complexity(ridge: float = 1e-3) -> _Of:
    level = _level(ridge)

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size, scale = len(y), float(np.trace(kernel)) / len(y)
        alpha = inverse(kernel, level)[0] @ y
        fit = float((alpha * y).sum()) / size
        cotangent = _with_ridge(-scale / size * alpha @ alpha.T, level)
        cotangent[np.diag_indices(size)] += fit / size
        return scale * fit, cotangent

    return of


def _evidence(noise: float = 1e-3, scaled: bool = True) -> _Of:
    level = positive_number("noise", noise)

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size, targets = y.shape
        ridge = level if scaled else level * size / float(np.trace(kernel))
        g, log_det = inverse(kernel, ridge)
        alpha = g @ y
        fit = float((alpha * y).sum())
        outer = alpha @ alpha.T
        if scaled:  # the best factor is fit / (N m)
            value = targets * size * (1 + np.log(2 * np.pi * fit / (size * targets))) + targets * log_det
            cotangent = _with_ridge(targets * g - (targets * size / fit) * outer, ridge)
        else:
            value = fit + targets * (log_det + size * np.log(2 * np.pi))
            cotangent = targets * g - outer
        return float(value) / (2 * size), cotangent / (2 * size)

    return of


# --- gradient descent -------------------------------------------------------------------------------------------------


def _descent(steps: int, rate: float) -> tuple[int, float]:
    return whole_number("steps", steps), share_kept("rate", rate, expected="a share of the critical rate, in (0, 1]")


def _loss_at(steps: int, rate: float = 0.5) -> _Of:
    t, share = _descent(steps, rate)

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size = len(y)
        filtered = _Filter(kernel, t, share)
        left = y - filtered.kernel @ filtered.apply(y)  # K p(K) = 1 - (1 - eta K)^t
        of_left = left / size
        # left = y - K p y, K fixed and then p
        cotangent = -of_left @ filtered.apply(y).T + filtered.cotangent(-filtered.kernel @ of_left, y)
        return float((left**2).sum()) / (2 * size), (cotangent + cotangent.T) / 2

    return of


def _test_loss_at(steps: int, rate: float = 0.5, share: float = 0.25) -> _Of:
    (t, speed), kept = _descent(steps, rate), share_kept("share", share, expected="a share of the inputs, in (0, 1)")

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size = len(y)
        first = size - max(1, round(kept * size))
        if first < 1:
            raise InputError(f"share: {kept:g} of {size} inputs leaves none to train on.")
        filtered = _Filter(kernel[:first, :first], t, speed)
        cross, alpha = kernel[first:, :first], filtered.apply(y[:first])
        wrong = (cross @ alpha - y[first:]) / (size - first)
        cotangent = np.zeros_like(kernel)
        cotangent[:first, :first] = filtered.cotangent(cross.T @ wrong, y[:first])
        cotangent[first:, :first] = wrong @ alpha.T
        return float((wrong**2).sum()) * (size - first) / 2, (cotangent + cotangent.T) / 2

    return of


class _Filter:
    """p(K) = (1 - (1 - eta K)^t) K^-1 of gradient descent: f_t = K(., X) p(K) y, at eta = 2 rate / mu_1."""

    def __init__(self, kernel: FloatArray, t: int, rate: float) -> None:
        self.kernel, self.t, self.rate = kernel, t, rate
        mu, self.modes = eigh((kernel + kernel.T) / 2)
        self.largest = float(mu[-1])
        if not self.largest > 0:
            raise KernelError("kernel: it has no positive eigenvalue, so nothing is learned.")
        self.eta = 2 * rate / self.largest
        self.mu = np.maximum(mu, 0.0)  # below zero is rounding, which steps would amplify
        self.p = self.eta * _learned(self.eta * self.mu, t)[0]

    def apply(self, y: FloatArray) -> FloatArray:
        """p(K) y."""
        return self.modes @ (self.p[:, None] * (self.modes.T @ y))

    def cotangent(self, left: FloatArray, y: FloatArray) -> FloatArray:
        """Of K, from that of p(K) y: by divided differences of p, and through eta."""
        a, b = self.modes.T @ left, self.modes.T @ y
        inner = a @ b.T
        inner = self.eta**2 * _divided(self.eta * self.mu, self.t) * (inner + inner.T) / 2
        # p depends on eta as well, and eta on mu_1 alone: d(eta q(eta mu)) / d eta = q + x q'
        value, slope = _learned(self.eta * self.mu, self.t)
        of_eta = float(((a * b).sum(axis=1) * (value + self.eta * self.mu * slope)).sum())
        inner[-1, -1] -= of_eta * self.eta / self.largest
        return self.modes @ inner @ self.modes.T


def _learned(x: FloatArray, t: int) -> tuple[FloatArray, FloatArray]:
    """q = (1 - (1 - x)^t) / x and its derivative, for x in [0, 2]."""
    small = x * t < _SMALL
    safe = np.where(small, 1.0, x)
    power = (1 - safe) ** (t - 1)
    below = np.where(safe < 0.5, -np.expm1(t * np.log1p(-np.minimum(safe, 0.5))), 1 - power * (1 - safe))
    q = np.where(small, t * (1 - (t - 1) * x / 2), below / safe)
    slope = np.where(small, -t * (t - 1) / 2 * (1 - 2 * (t - 2) * x / 3), (t * power - below / safe) / safe)
    return q, slope


def _divided(x: FloatArray, t: int) -> FloatArray:
    """(q(x) - q(x')) / (x - x') of :func:`_learned`, of all pairs."""
    apart = x[:, None] - x[None, :]
    q = _learned(x, t)[0]
    near = np.abs(apart) * t < _NEAR
    out = np.divide(q[:, None] - q[None, :], apart, out=np.zeros_like(apart), where=~near)
    i, j = np.nonzero(near)
    between = 0.5 * (x[i] + x[j])[:, None] + (x[i] - x[j])[:, None] * _NODES
    out[i, j] = _learned(between, t)[1] @ _WEIGHTS
    return out


# --- shape ------------------------------------------------------------------------------------------------------------


def _alignment() -> _Of:
    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        norm, among = float(np.linalg.norm(kernel)), float(np.linalg.norm(y.T @ y))
        if not among > 0:
            raise InputError("y: it is zero, which is aligned with nothing.")
        outer = y @ y.T
        aligned = float((kernel * outer).sum()) / (norm * among)
        return 1 - aligned, aligned / norm**2 * kernel - outer / (norm * among)

    return of


def _energy(count: int = 10) -> _Of:
    modes = whole_number("count", count)

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size, trace = len(kernel), float(np.trace(kernel))
        first = max(0, size - modes)
        mu, vectors = eigh(kernel, subset_by_index=(first, size - 1))
        share = float(mu.sum()) / trace
        return 1 - share, (share * np.eye(size) - vectors @ vectors.T) / trace

    return of


def _spectrum(target: ArrayLike) -> _Of:
    wanted = np.sort(real_array("target", target).astype(float).ravel())
    refuse_infinite("target", wanted, "give a positive share for each leading mode")
    if not len(wanted) or wanted[0] <= 0:
        raise InputError("target: expected positive numbers, the eigenvalues of the leading modes or shares of them.")
    logs = np.log(wanted / wanted.sum())

    def of(kernel: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
        size, count = len(kernel), len(wanted)
        if count > size:
            raise InputError(f"target: {count} modes of a kernel of {size} inputs; give at most as many.")
        mu, vectors = eigh(kernel, subset_by_index=(size - count, size - 1))
        if not mu[0] > 0:
            raise KernelError(f"kernel: fewer than {count} positive eigenvalues; give a shorter target.")
        apart = np.log(mu / mu.sum()) - logs
        slopes = 2 / count * (apart / mu - apart.sum() / mu.sum())
        return float((apart**2).mean()), (vectors * slopes) @ vectors.T

    return of


_MAKERS: dict[str, Callable[..., _Of]] = {
    "leave_one_out": _leave_one_out,
    "k_fold": _k_fold,
    "loss_at": _loss_at,
    "test_loss_at": _test_loss_at,
    "alignment": _alignment,
    "evidence": _evidence,
    "complexity": _complexity,
    "energy": _energy,
    "spectrum": _spectrum,
}
