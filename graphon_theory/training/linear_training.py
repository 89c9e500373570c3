"""Squared loss under a fixed kernel: what flow, descent, ensembles and regression share (THEORY §7).

In the kernel's modes, every way of training multiplies the coefficient c_i of what is left to learn, y - f_0, by one
number of its own: the learned fraction g_i(t). Then

    f_t = f_0 + sum_i g_i(t) c_i phi_i    at the training inputs,
    f_t(x) = f_0(x) + (1/N) sum_j Theta(x, x_j) sum_i (g_i(t) / lambda_i) c_i phi_i(x_j)    at any other,

and the loss is 1/2 sum_i (1 - g_i)^2 c_i^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_kernel
from graphon_theory.data.labels import MODE, TARGET, TIME, X_TEST, Variables, X, coords_of, dataset
from graphon_theory.errors import InputError, KernelError
from graphon_theory.spectra.kernel_spectra import extend, spectrum

if TYPE_CHECKING:
    import xarray as xr
from graphon_theory.data.checks import checked_like, checked_targets


@dataclass(frozen=True)
class LinearTraining:
    """A kernel's modes with the targets in them.

    ``learns`` marks the modes above rounding level; the others are null and never move. ``coefficients`` are
    (mode, target), of y - f_0; ``start`` is f_0 (N, targets) or None for zero. ``shape`` is () for one unnamed target.
    """

    modes: xr.Dataset
    values: FloatArray
    functions: FloatArray
    learns: np.ndarray
    coefficients: FloatArray
    start: FloatArray | None
    shape: tuple[int, ...]
    coords: dict[str, Any]

    @classmethod
    def of(
        cls,
        kernel: ArrayLike | xr.DataArray,
        y: ArrayLike | xr.DataArray,
        initial: ArrayLike | xr.DataArray | None = None,
    ) -> LinearTraining:
        """Check kernel (N, N), targets (N,) or (N, k) and starting predictions of the same shape."""
        size = len(as_kernel(kernel))
        targets = checked_targets(y, size)
        start = None if initial is None else checked_like(initial, targets.shape, "initial")
        modes = spectrum(kernel)
        values, functions = modes.eigenvalue.values, modes.eigenfunction.values
        left = targets if start is None else targets - start
        coords = {MODE: modes[MODE].values, **coords_of(kernel, X)}
        if targets.ndim == 2:
            coords |= coords_of(y, TARGET, axis=1)
        return cls(
            modes,
            values,
            functions,
            values > modes.attrs["rounding_level"],
            functions.T @ left.reshape(size, -1) / size,
            None if start is None else start.reshape(size, -1),
            targets.shape[1:],
            coords,
        )

    @property
    def size(self) -> int:
        return len(self.values)

    @property
    def power(self) -> FloatArray:
        """1/2 sum over targets of c_i^2: the loss that mode i starts with."""
        return np.asarray(0.5 * np.sum(self.coefficients**2, axis=1))

    def share(self, ridge: float) -> FloatArray:
        """g_i at infinite time: lambda / (lambda + ridge); 0 for null modes."""
        return np.divide(self.values, self.values + ridge, out=np.zeros(self.size), where=self.learns)

    def flow(self, times: FloatArray, learning_rate: float, ridge: float = 0.0) -> FloatArray:
        """g_i(t) of gradient flow, (time, mode): lambda / (lambda + ridge) (1 - exp(-eta (lambda + ridge) t))."""
        rates = np.where(self.learns, learning_rate * (self.values + ridge), 0.0)
        exponent = np.zeros((len(times), self.size))  # neither 0 * inf (a null mode at infinite time) nor inf * 0
        with np.errstate(over="ignore"):  # an infinite exponent is a mode that has been learned
            np.multiply(times[:, None], rates, out=exponent, where=(rates > 0) & (times[:, None] > 0))
        return np.asarray(-np.expm1(-exponent) * self.share(ridge))

    def dataset(
        self,
        times: FloatArray,
        learned: FloatArray,
        variables: Variables,
        attrs: dict[str, Any],
        test_kernel: ArrayLike | xr.DataArray | None = None,
        test_initial: ArrayLike | xr.DataArray | None = None,
        y_test: ArrayLike | xr.DataArray | None = None,
    ) -> xr.Dataset:
        """Loss and predictions for learned fractions (time, mode), with what else there is to say."""
        labels = (TIME, X) if not self.shape else (TIME, X, TARGET)
        coords = {TIME: times, **self.coords}
        out: Variables = {
            "loss": ((TIME,), (1 - learned) ** 2 @ self.power),
            "prediction": (labels, self._over_modes(self.functions, learned, self.start)),
            "target_power": ((MODE,), self.power),
            **variables,
        }
        if test_kernel is None:
            if y_test is not None or test_initial is not None:
                raise InputError(
                    "test_kernel: expected the kernel of new by training inputs with what is said of them."
                )
        else:
            extended = self.extension(test_kernel)
            start = self._test_start(test_initial, len(extended))
            test = self._over_modes(extended, learned[:, self.learns], start, self.coefficients[self.learns])
            out["test_prediction"] = ((TIME, X_TEST, *labels[2:]), test)
            coords |= coords_of(test_kernel, X_TEST)
            if y_test is not None:
                wanted = checked_like(y_test, test.shape[1:], "y_test")
                errors = (test - wanted).reshape(len(times), -1)
                out["test_loss"] = ((TIME,), np.sum(errors**2, axis=1) / (2 * len(wanted)))
        return dataset(out, coords=coords, attrs={**attrs, "null_modes": int(self.size - self.learns.sum())})

    def extension(self, test_kernel: ArrayLike | xr.DataArray) -> FloatArray:
        """The modes that learn at new inputs, (M, modes)."""
        shape = as_kernel(test_kernel, "test_kernel", square=False).shape
        if shape[1] != self.size:
            raise KernelError(
                f"test_kernel: expected {self.size} columns, one per training input, got shape {shape}; pass "
                "limit_kernel(network, x_new, x).ntk."
            )
        return np.asarray(extend(self.modes.isel({MODE: self.learns}), test_kernel).values)

    def _test_start(self, test_initial: ArrayLike | xr.DataArray | None, count: int) -> FloatArray | None:
        if (test_initial is None) != (self.start is None):
            given, missing = ("initial", "test_initial") if test_initial is None else ("test_initial", "initial")
            raise InputError(
                f"{missing}: training does not start from 0 ({given} is given), so the start is wanted here too."
            )
        if test_initial is None:
            return None
        return checked_like(test_initial, (count, *self.shape), "test_initial").reshape(count, -1)

    def _over_modes(
        self,
        functions: FloatArray,
        learned: FloatArray,
        start: FloatArray | None,
        coefficients: FloatArray | None = None,
    ) -> FloatArray:
        """start + sum over modes of functions (x, mode) * learned (time, mode) * coefficients (mode, target)."""
        coefficients = self.coefficients if coefficients is None else coefficients
        weighted = learned[:, :, None] * coefficients  # (time, mode, target)
        times, modes, targets = weighted.shape
        flat = functions @ weighted.transpose(1, 0, 2).reshape(modes, times * targets)
        out = flat.reshape(len(functions), times, targets).transpose(1, 0, 2)
        if start is not None:
            out = out + start
        return out.reshape(times, -1, *self.shape)


def left_after_steps(z: FloatArray, counts: FloatArray) -> FloatArray:
    """(1 - z)^k of gradient descent, (step, mode), where z >= 0; a small z would be rounded in 1 - z."""
    counts = counts[:, None]
    with np.errstate(divide="ignore", over="ignore"):
        log = np.where(z < 1, np.log1p(-np.minimum(z, 1.0)), np.log(np.abs(1 - z)))
        exponent = np.zeros((len(counts), len(z)))
        np.multiply(counts, log, out=exponent, where=counts > 0)  # 0 * -inf is 0 here: nothing is learned in no steps
        size = np.exp(exponent)
    return np.asarray(np.where((z > 1) & (counts % 2 == 1), -size, size))
