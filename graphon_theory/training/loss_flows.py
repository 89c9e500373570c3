"""Training in the limit on any loss: an ordinary differential equation in the outputs, or steps (THEORY §7).

With f_t = f_0 + Theta beta_t on every input, flow of the parameters on L(f) is

    d beta / dt = -eta (dL/df + ridge beta),

whatever the loss: new inputs read the same beta by their test kernel, and no kernel is inverted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_cross_kernel, as_kernel, refuse_overflow
from graphon_theory.data.labels import TARGET, TIME, X_TEST, Labels, Variables, X, dataset, inputs_of
from graphon_theory.data.output_kernels import each_kernel, shared_kernel
from graphon_theory.errors import ConvergenceError, InputError
from graphon_theory.training.output_losses import Objective, objective, start_of

if TYPE_CHECKING:
    import xarray as xr

_TOLERANCE = 1e-11  # of every coefficient, relative; the same again at a hundredfold tells the error
_FAR = 1e100  # of coefficients that no longer come back; squares of outputs are still numbers
_STEPS = 100_000  # evaluations at most


class LossTraining:
    """A kernel, a loss on its training inputs, and what else is predicted."""

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
        kernel = shared_kernel(kernel)
        self.kernel = as_kernel(kernel)
        self.inputs: Labels = inputs_of(kernel)
        size = len(self.kernel)
        shape = None if initial is None else np.shape(initial)
        self.objective: Objective = objective(loss, y, size, self.inputs, shape)
        self.start = start_of(initial, self.objective, size, "initial", self.inputs)
        self.cross, self.new, self.test_start, self.test = None, None, None, None
        if test_kernel is None:
            if y_test is not None or test_initial is not None:
                raise InputError(
                    "test_kernel: expected the kernel of new by training inputs with what is said of them."
                )
            return
        (test_kernel,) = each_kernel(test_kernel, "test_kernel", square=False, outputs=1)
        self.cross, self.new = as_cross_kernel(test_kernel, "test_kernel", self.inputs, size)
        if (test_initial is None) != (initial is None):
            given, missing = ("initial", "test_initial") if test_initial is None else ("test_initial", "initial")
            raise InputError(
                f"{missing}: training does not start from 0 ({given} is given), so the start is wanted here too."
            )
        count = len(self.cross)
        self.test_start = start_of(test_initial, self.objective, count, "test_initial", self.new)
        if y_test is not None:
            shape = (count, self.objective.width)
            self.test = objective(loss, y_test, count, self.new, shape)
            if self.test.shape != self.objective.shape:
                raise InputError(
                    f"y_test: expected targets like y's {self.objective.shape}, got {self.test.shape} each."
                )

    def outputs(self, beta: FloatArray) -> FloatArray:
        found: FloatArray = self.start + self.kernel @ beta
        return found

    def slope(self, beta: FloatArray, ridge: float) -> FloatArray:
        """dL/df + ridge beta."""
        return self.objective(self.outputs(beta))[1] + ridge * beta

    def flow(self, times: FloatArray, learning_rate: float, ridge: float) -> tuple[FloatArray, float]:
        """beta (time, N, k), and by how much predictions moved when the tolerance was a hundredth."""
        if np.isinf(times).any():
            raise InputError("times: expected finite times; with losses other than the squared one outputs may grow.")
        coarse, fine = (self._integrated(times * learning_rate, ridge, each) for each in (100 * _TOLERANCE, _TOLERANCE))
        moved = [self.kernel @ (fine - coarse)]
        if self.cross is not None:
            moved.append(self.cross @ (fine - coarse))
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

        scale = 1 / len(self.kernel)  # of a coefficient that has moved for a unit of time
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
        if self.cross is not None and self.new is not None:
            cross, start = self.cross, self.test_start
            new = [start + cross @ beta for beta in betas]
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
