"""Training in the limit on any loss: an ordinary differential equation in the outputs, or steps (THEORY §7).

With f_t = f_0 + Theta beta_t on every input, flow of the parameters on L(f) is

    d beta / dt = -eta (dL/df + ridge beta),

whatever the loss: new inputs read the same beta by their test kernel, and no kernel is inverted. Where outputs have
kernels of their own, column o of beta goes with the kernel of output o.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_cross_kernel, as_kernel, refuse_overflow
from graphon_theory.data.labels import TARGET, TIME, X_TEST, Labels, Variables, X, dataset, inputs_of
from graphon_theory.data.output_kernels import each_kernel
from graphon_theory.errors import ConvergenceError, InputError, KernelError
from graphon_theory.training.output_losses import Objective, objective, start_of

if TYPE_CHECKING:
    import xarray as xr

_TOLERANCE = 1e-11  # of every coefficient, relative; the same again at a hundredfold tells the error
_FAR = 1e100  # of coefficients that no longer come back; squares of outputs are still numbers
_STEPS = 100_000  # evaluations at most


class LossTraining:
    """A kernel or one for each output, a loss on the training inputs, and what else is predicted."""

    def __init__(
        self,
        kernel: ArrayLike | xr.DataArray,
        y: ArrayLike | xr.DataArray,
        loss: object,
        initial: ArrayLike | xr.DataArray | None,
        test_kernel: ArrayLike | xr.DataArray | None,
        test_initial: ArrayLike | xr.DataArray | None,
        y_test: ArrayLike | xr.DataArray | None,
    ) -> None:
        kernels = each_kernel(kernel)
        self.kernel = np.array([as_kernel(one) for one in kernels])  # (1 or k, N, N)
        self.inputs: Labels = inputs_of(kernels[0])
        count, size = self.kernel.shape[:2]
        shape = None if initial is None else np.shape(initial)
        if shape is None and count > 1:
            shape = (size, count)
        self.objective: Objective = objective(loss, y, size, self.inputs, shape)
        if count not in (1, self.objective.width):
            raise KernelError(
                f"kernel: each of the {count} outputs has a kernel of its own, but there are {self.objective.width} "
                "outputs to train; pass kernels and targets, or a start, of the same outputs."
            )
        self.start = start_of(initial, self.objective, size, "initial", self.inputs)
        self.cross, self.new, self.test_start, self.test = None, None, None, None
        if test_kernel is None:
            if y_test is not None or test_initial is not None:
                raise InputError(
                    "test_kernel: expected the kernel of new by training inputs with what is said of them."
                )
            return
        each = each_kernel(test_kernel, "test_kernel", square=False, outputs=count)
        found = [as_cross_kernel(one, "test_kernel", self.inputs, size) for one in each]
        self.cross, self.new = np.array([values for values, _ in found]), found[0][1]
        if (test_initial is None) != (initial is None):
            given, missing = ("initial", "test_initial") if test_initial is None else ("test_initial", "initial")
            raise InputError(
                f"{missing}: training does not start from 0 ({given} is given), so the start is wanted here too."
            )
        count = self.cross.shape[1]
        self.test_start = start_of(test_initial, self.objective, count, "test_initial", self.new)
        if y_test is not None:
            shape = (count, self.objective.width)
            self.test = objective(loss, y_test, count, self.new, shape)
            if self.test.shape != self.objective.shape:
                raise InputError(
                    f"y_test: expected targets like y's {self.objective.shape}, got {self.test.shape} each."
                )

    def outputs(self, beta: FloatArray) -> FloatArray:
        return self.start + _applied(self.kernel, beta)

    def slope(self, beta: FloatArray, ridge: float) -> FloatArray:
        """dL/df + ridge beta."""
        return self.objective(self.outputs(beta))[1] + ridge * beta

    def flow(self, times: FloatArray, learning_rate: float, ridge: float) -> tuple[FloatArray, float]:
        """beta (time, N, k), and by how much predictions moved when the tolerance was a hundredth."""
        if np.isinf(times).any():
            raise InputError("times: expected finite times; with losses other than the squared one outputs may grow.")
        coarse, fine = (self._integrated(times * learning_rate, ridge, each) for each in (100 * _TOLERANCE, _TOLERANCE))
        moved = [_applied(self.kernel, fine - coarse)]
        if self.cross is not None:
            moved.append(_applied(self.cross, fine - coarse))
        return fine, max(float(np.abs(one).max(initial=0.0)) for one in moved)

    def _integrated(self, times: FloatArray, ridge: float, tolerance: float) -> FloatArray:
        from scipy.integrate import solve_ivp

        shape, left = self.start.shape, _STEPS

        def change(_: float, state: FloatArray) -> FloatArray:
            nonlocal left
            left -= 1
            if left < 0:
                raise ConvergenceError(
                    f"times: {_STEPS:,} evaluations of the loss do not reach time {times[-1]:.6g}; take earlier times, "
                    "or gradient_descent, whose steps are as many as are asked for."
                )
            return -self.slope(state.reshape(shape), ridge).ravel()

        scale = 1 / len(self.start)  # of a coefficient that has moved for a unit of time
        found = solve_ivp(
            change,
            (0.0, float(times[-1])),
            np.zeros(self.start.size),
            method="LSODA",
            t_eval=times,
            rtol=tolerance,
            atol=tolerance * scale,
        )
        if not found.success:
            raise ConvergenceError(f"loss: its flow could not be integrated ({found.message}); is it smooth?")
        return np.moveaxis(found.y, -1, 0).reshape(len(times), *shape)

    def descent(
        self, counts: FloatArray, learning_rate: float, ridge: float, momentum: float, nesterov: bool
    ) -> FloatArray:
        """beta (step, N, k) after whole steps."""
        if counts[-1] > _STEPS:
            raise InputError(f"steps: expected at most {_STEPS:,} with this loss, whose steps are gone through.")
        beta, speed = np.zeros_like(self.start), np.zeros_like(self.start)
        found, done = np.empty((len(counts), *beta.shape)), 0
        for row, count in enumerate(counts.astype(int)):
            for _ in range(count - done):
                slope = self.slope(beta, ridge)
                speed = momentum * speed + slope
                beta = beta - learning_rate * (slope + momentum * speed if nesterov else speed)
                if not np.abs(beta).max() < _FAR:
                    raise ConvergenceError(
                        f"learning_rate: gradient descent diverges by step {count}; take a smaller one."
                    )
            found[row], done = beta, count
        return found

    def dataset(self, times: FloatArray, betas: FloatArray, attrs: dict[str, Any]) -> xr.Dataset:
        made = self.objective
        outputs = [self.outputs(beta) for beta in betas]
        tail = (TARGET,) if made.shape else ()
        variables: Variables = {
            "loss": ((TIME,), np.array([made(one)[0] for one in outputs])),
            "prediction": ((TIME, X, *tail), np.array(outputs).reshape(len(times), -1, *made.shape)),
        }
        coords: dict[str, Any] = {TIME: times}
        coords |= {} if self.inputs.values is None else {X: self.inputs.values}
        coords |= {} if made.columns.values is None else {TARGET: made.columns.values}
        labelled = made.name == "cross_entropy"
        if labelled:
            variables["accuracy"] = ((TIME,), np.array([made.accuracy(one) for one in outputs]))
        cross, start = self.cross, self.test_start
        if cross is not None and start is not None and self.new is not None:
            new = [start + _applied(cross, beta) for beta in betas]
            variables["test_prediction"] = ((TIME, X_TEST, *tail), np.array(new).reshape(len(times), -1, *made.shape))
            coords |= {} if self.new.values is None else {X_TEST: self.new.values}
            if self.test is not None:
                test = self.test
                variables["test_loss"] = ((TIME,), np.array([test(one)[0] for one in new]))
                if labelled:
                    variables["test_accuracy"] = ((TIME,), np.array([test.accuracy(one) for one in new]))
        for name, (_, values) in variables.items():
            refuse_overflow(values, name)
        return dataset(variables, coords=coords, attrs={**attrs, "loss": made.name})


def _applied(kernels: FloatArray, beta: FloatArray) -> FloatArray:
    """(1 or k, M, N) by (..., N, k): (..., M, k), column o by its own kernel, or all by the one that there is."""
    if len(kernels) == 1:
        return np.asarray(kernels[0] @ beta)
    columns = np.moveaxis(beta, -1, 0)[..., None]  # (k, ..., N, 1)
    wide = kernels.reshape(len(kernels), *[1] * (columns.ndim - 3), *kernels.shape[1:])
    return np.moveaxis((wide @ columns)[..., 0], 0, -1)
