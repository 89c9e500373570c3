"""Training in the limit: gradient flow on squared loss in closed form (THEORY §7)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.errors import InputError, KernelError
from graphon_theory.results import (
    MODE,
    TARGET,
    TIME,
    X_TEST,
    FloatArray,
    Variables,
    X,
    as_kernel,
    coords_of,
    dataset,
)
from graphon_theory.spectra import extend, spectrum

if TYPE_CHECKING:
    import xarray as xr


def gradient_flow(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    times: ArrayLike,
    *,
    test_kernel: ArrayLike | xr.DataArray | None = None,
    learning_rate: float = 1.0,
) -> xr.Dataset:
    """Loss and predictions in time of gradient flow on L = 1/(2N) sum (f - y)^2 from f(0) = 0 (THEORY §7).

    With lambda_i, phi_i the modes of the kernel (`spectrum`) and c_i = (1/N) sum_n phi_i(x_n) y_n,

        f(t) = sum_i (1 - exp(-eta lambda_i t)) c_i phi_i,    L(t) = 1/2 sum_i c_i^2 exp(-2 eta lambda_i t),

    at new inputs with phi_i extended by the test kernel. Modes at rounding level (``rounding_level`` of
    `spectrum`) are null: they never learn. Infinite time is therefore kernel regression by pseudo-inverse.

    Args:
        kernel: (N, N), symmetric positive semi-definite: ``limit_kernel(network, x).ntk``.
        y: training targets (N,), or (N, k) for k outputs that share the kernel; the loss sums over them.
        times: increasing, not negative, ``inf`` allowed; a unit of time is one small step of gradient descent
            at that learning rate.
        test_kernel: (M, N), new inputs by training inputs: ``limit_kernel(network, x_new, x).ntk``.
        learning_rate: eta > 0.

    Returns a Dataset: ``loss`` ("time"), ``prediction`` ("time", "x"[, "target"]), with a test kernel also
    ``test_prediction`` ("time", "x_test"[, "target"]), and over "mode" the ``rate`` eta lambda_i (0 for null
    modes) and ``target_power`` p_i = 1/2 sum_targets c_i^2, so that L(t) = sum_i p_i exp(-2 rate_i t). The
    predictions of T times take T * N * k numbers. attrs: ``learning_rate``, ``null_modes`` (how many).

    Raises KernelError (either kernel) and InputError (``y``, ``times``, ``learning_rate``).
    """
    matrix = as_kernel(kernel)
    targets = _checked_targets(y, len(matrix))
    moments = _checked_times(times)
    eta = _checked_rate(learning_rate)
    if test_kernel is not None:
        _check_cross(test_kernel, len(matrix))

    modes = spectrum(kernel)
    size = len(matrix)
    values, functions = modes.eigenvalue.values, modes.eigenfunction.values
    learns = values > modes.attrs["rounding_level"]
    rates = np.where(learns, eta * values, 0.0)
    coefficients = functions.T @ targets.reshape(size, -1) / size  # (mode, target)
    power = 0.5 * np.sum(coefficients**2, axis=1)

    # rate * time, where neither 0 * inf (a null mode at infinite time) nor inf * 0 must become NaN.
    exponent = np.zeros((len(moments), size))
    with np.errstate(over="ignore"):  # an infinite exponent is a mode that has been learned
        np.multiply(moments[:, None], rates, out=exponent, where=(rates > 0) & (moments[:, None] > 0))
    learned = -np.expm1(-exponent)  # (time, mode), full precision where little is learned

    labels = (TIME, X) if targets.ndim == 1 else (TIME, X, TARGET)
    shape = targets.shape[1:]
    variables: Variables = {
        "loss": ((TIME,), np.exp(-2 * exponent) @ power),
        "prediction": (labels, _over_modes(functions, learned, coefficients, shape)),
        "rate": ((MODE,), rates),
        "target_power": ((MODE,), power),
    }
    coords = {TIME: moments, MODE: modes[MODE].values, **coords_of(kernel, X)}
    if targets.ndim == 2:
        coords |= coords_of(y, TARGET, axis=1)
    if test_kernel is not None:
        extended = extend(modes.isel({MODE: learns}), test_kernel).values
        test = _over_modes(extended, learned[:, learns], coefficients[learns], shape)
        variables["test_prediction"] = ((TIME, X_TEST, *labels[2:]), test)
        coords |= coords_of(test_kernel, X_TEST)
    attrs = {"learning_rate": eta, "null_modes": int(size - learns.sum())}
    return dataset(variables, coords=coords, attrs=attrs)


def critical_learning_rate(kernel: ArrayLike | xr.DataArray) -> float:
    """The largest stable step of gradient descent on the loss of `gradient_flow`: 2 / lambda_1 (THEORY §7).

    lambda_1 is the kernel's largest eigenvalue divided by N. Raises KernelError as `spectrum` does.
    """
    return 2.0 / float(spectrum(kernel, 1).eigenvalue[0])


def time_to_loss(flow: xr.Dataset, level: float) -> float:
    """The time at which the training loss of `gradient_flow` has fallen to ``level``.

    Solved on L(t) = sum_i target_power_i exp(-2 rate_i t), not on the flow's own times: 0 if the loss starts
    below the level, infinity if null modes keep it above.

    Raises InputError when ``level`` is not a positive number.
    """
    from scipy.optimize import brentq

    if not (isinstance(level, int | float | np.number) and 0 < level < math.inf):
        raise InputError(f"level: expected a positive number, got {level!r}.")
    rates, power = flow.rate.values, flow.target_power.values
    learns = rates > 0
    if power.sum() <= level:
        return 0.0
    if power[~learns].sum() >= level:
        return math.inf

    def excess(log_time: float) -> float:
        return float(power @ np.exp(-2 * rates * math.exp(log_time))) / level - 1

    # The loss is convex, so it is above its tangent at 0; every mode falls at least as fast as the slowest.
    early = math.log((power.sum() - level) / (2 * (rates @ power)))
    room = (level - power[~learns].sum()) / power[learns].sum()
    late = math.log(-math.log(room) / (2 * rates[learns].min()))
    if excess(early) <= 0:
        return math.exp(early)
    if excess(late) >= 0:
        return math.exp(late)
    return math.exp(float(brentq(excess, early, late, xtol=1e-13)))


def _over_modes(
    functions: FloatArray, learned: FloatArray, coefficients: FloatArray, shape: tuple[int, ...]
) -> FloatArray:
    """Sum over modes of functions (x, mode) * learned (time, mode) * coefficients (mode, target)."""
    weighted = learned[:, :, None] * coefficients  # (time, mode, target)
    times, modes, targets = weighted.shape
    flat = functions @ weighted.transpose(1, 0, 2).reshape(modes, times * targets)
    return flat.reshape(len(functions), times, targets).transpose(1, 0, 2).reshape(times, -1, *shape)


def _checked_targets(y: ArrayLike | xr.DataArray, size: int) -> FloatArray:
    targets = np.asarray(getattr(y, "values", y))
    if targets.dtype.kind not in "fiub":
        raise InputError(f"y: expected real numbers, got dtype {targets.dtype}; encode labels as numbers (one-hot).")
    if targets.ndim not in (1, 2) or len(targets) != size or 0 in targets.shape:
        raise InputError(
            f"y: expected shape ({size},) or ({size}, targets), one row per training input, got shape {targets.shape}."
        )
    targets = targets.astype(np.float64)
    if not np.isfinite(targets).all():
        bad = int(np.sum(~np.isfinite(targets)))
        raise InputError(f"y: {bad} of {targets.size} values are not finite; drop or impute those samples.")
    return targets


def _checked_times(times: ArrayLike) -> FloatArray:
    moments = np.atleast_1d(np.asarray(getattr(times, "values", times)))
    if moments.ndim != 1 or not moments.size or moments.dtype.kind not in "fiu":
        raise InputError(f"times: expected a list of real numbers, got shape {moments.shape} of dtype {moments.dtype}.")
    moments = moments.astype(np.float64)
    if np.isnan(moments).any():
        raise InputError(f"times: {int(np.isnan(moments).sum())} of {len(moments)} are NaN; leave them out.")
    if moments.min() < 0:
        raise InputError(f"times: expected no negative time, got {moments.min():.6g}; training starts at 0.")
    falls = np.flatnonzero(np.diff(moments, prepend=-1.0) <= 0)
    if len(falls):
        at = int(falls[0])
        raise InputError(
            f"times: expected increasing times, but times[{at}] = {moments[at]:.6g} follows "
            f"{moments[at - 1]:.6g}; pass numpy.unique(times)."
        )
    return moments


def _checked_rate(learning_rate: float) -> float:
    real = isinstance(learning_rate, int | float | np.number) and not isinstance(learning_rate, bool)
    if not real or not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate: expected a positive number, got {learning_rate!r}.")
    return float(learning_rate)


def _check_cross(test_kernel: ArrayLike | xr.DataArray, size: int) -> None:
    shape = as_kernel(test_kernel, "test_kernel", square=False).shape
    if shape[1] != size:
        raise KernelError(
            f"test_kernel: expected {size} columns, one per training input, got shape {shape}; pass "
            "limit_kernel(network, x_new, x).ntk."
        )
