"""Squared loss under a fixed kernel: what flow, descent, ensembles and regression share (THEORY §7).

In the kernel's modes, every way of training multiplies the coefficient c_i of what is left to learn, y - f_0, by one
number of its own: the learned fraction g_i(t). Then, with the response h_i = g_i / lambda_i,

    f_t = f_0 + sum_i g_i(t) c_i phi_i    at the training inputs,
    f_t(x) = f_0(x) + sum_i h_i(t) c_i (1/N) sum_j Theta(x, x_j) phi_i(x_j)    at any other,

and the loss is 1/2 sum_i (1 - g_i)^2 c_i^2.

A mode at rounding level (null) still moves predictions elsewhere, where new inputs tell apart what the training inputs
hardly do, and its response is bounded: by 1/ridge, and by learning rate times time. It is left out where that bound
reaches 1/(eps lambda_1), where rounding alone would have learned it: that is, without ridge in infinite time, where
predictions are those of the pseudo-inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.data.checks import (
    UNLABELLED,
    as_cross_kernel,
    as_kernel,
    checked_like,
    checked_targets,
    refuse_overflow,
)
from graphon_theory.data.labels import (
    MODE,
    OUTPUT,
    TARGET,
    TIME,
    X_TEST,
    Labels,
    Variables,
    X,
    by_rows,
    dataset,
    inputs_of,
    labels_of,
)
from graphon_theory.data.output_kernels import each_kernel
from graphon_theory.errors import InputError
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.spectra.linear_operators import as_cross_operator, is_operator

if TYPE_CHECKING:
    import xarray as xr


class Learned(NamedTuple):
    """How far training has come in every mode, (time, mode): the fractions g_i and the responses h_i = g_i/lambda_i."""

    fraction: FloatArray
    response: FloatArray


class NewInputs(NamedTuple):
    """Modes at new inputs: (1/N) sum_j Theta(x, x_j) phi_i(x_j), (M, mode), and the labels of the inputs."""

    projections: FloatArray
    inputs: Labels


class Targets(NamedTuple):
    """Checked targets, (N,) or (N, k), and the labels of their columns."""

    values: FloatArray
    columns: Labels


def checked_problem(
    size: int, inputs: Labels, y: ArrayLike | xr.DataArray, initial: ArrayLike | xr.DataArray | None
) -> tuple[Labels, Targets, FloatArray | None]:
    """The labels of the inputs, the targets and the start of training, for a kernel of ``size`` ``inputs``."""
    y = by_rows(y)
    targets = checked_targets(y, size, inputs=inputs)
    inputs = Labels("y", labels_of(y)) if inputs.values is None else inputs
    columns = Labels("y", labels_of(y, 1)) if targets.ndim == 2 else UNLABELLED
    start = None if initial is None else checked_like(initial, targets.shape, "initial", inputs, columns)
    return inputs, Targets(targets, columns), start


@dataclass(frozen=True)
class LinearTraining:
    """A kernel's modes with the targets in them.

    ``learns`` marks the modes above rounding level; the others are null. ``coefficients`` are (mode, target), of
    y - f_0; ``start`` is f_0 (N, targets) or None for zero. ``shape`` is () for one unnamed target; ``inputs`` and
    ``targets`` are their labels.

    Where outputs have kernels of their own, the modes are those of all of them, largest first: ``outputs`` says which
    output a mode belongs to, only that column of its coefficients is not 0, and ``parts`` are the problems of single
    outputs.
    """

    modes: xr.Dataset
    values: FloatArray
    functions: FloatArray
    learns: np.ndarray
    coefficients: FloatArray
    start: FloatArray | None
    shape: tuple[int, ...]
    inputs: Labels
    targets: Labels
    outputs: IntArray | None = None
    parts: tuple[LinearTraining, ...] = ()

    @classmethod
    def of(
        cls,
        kernel: ArrayLike | xr.DataArray,
        y: ArrayLike | xr.DataArray,
        initial: ArrayLike | xr.DataArray | None = None,
    ) -> LinearTraining:
        """Check kernel (N, N), targets (N,) or (N, k) and starting predictions of the same shape.

        A kernel of several outputs is one where they share it, else column o of the targets goes with kernel o.
        """
        kernels = each_kernel(kernel)
        if len(kernels) > 1:
            return cls._of_each(kernels, y, initial)
        kernel = kernels[0]
        size = len(as_kernel(kernel))
        inputs, targets, start = checked_problem(size, inputs_of(kernel), y, initial)
        modes = spectrum(kernel)
        return cls.in_modes(modes, inputs, targets, start)

    @classmethod
    def in_modes(cls, modes: xr.Dataset, inputs: Labels, targets: Targets, start: FloatArray | None) -> LinearTraining:
        """Of modes as `spectrum` returns them, all of those that the targets have a part of."""
        values, functions = modes.eigenvalue.values, modes.eigenfunction.values
        left = targets.values if start is None else targets.values - start
        size = len(functions)
        return cls(
            modes,
            values,
            functions,
            values > modes.attrs["rounding_level"],
            functions.T @ left.reshape(size, -1) / size,
            None if start is None else start.reshape(size, -1),
            targets.values.shape[1:],
            inputs,
            targets.columns,
        )

    @classmethod
    def _of_each(cls, kernels: list[Any], y: Any, initial: Any) -> LinearTraining:
        """Of kernels of their own: the modes of all outputs, each with its column of the targets."""
        size, count = len(as_kernel(kernels[0])), len(kernels)
        inputs = inputs_of(kernels[0])
        y = by_rows(y)
        targets = checked_targets(y, size, inputs=inputs)
        if targets.shape != (size, count):
            raise InputError(
                f"y: expected shape ({size}, {count}), a column for each output, as each has a kernel of its own, got "
                f"shape {targets.shape}; select one output first, as in kernel.isel(output=0), for other targets."
            )
        inputs = Labels("y", labels_of(y)) if inputs.values is None else inputs
        columns = Labels("y", labels_of(y, 1))
        start = None if initial is None else checked_like(initial, targets.shape, "initial", inputs, columns)
        parts = tuple(
            cls.of(one, targets[:, [o]], None if start is None else start[:, [o]]) for o, one in enumerate(kernels)
        )
        order = np.argsort(-np.concatenate([one.values for one in parts]), kind="stable")
        outputs = np.repeat(np.arange(count), size)[order]
        alone = np.concatenate([one.coefficients[:, 0] for one in parts])[order]
        coefficients = np.where(outputs[:, None] == np.arange(count), alone[:, None], 0.0)
        values = np.concatenate([one.values for one in parts])[order]
        level = max(float(one.modes.attrs["rounding_level"]) for one in parts)
        modes = dataset(
            {"eigenvalue": ((MODE,), values)},
            {MODE: np.arange(1, count * size + 1), OUTPUT: ((MODE,), outputs)},
            {"rounding_level": level},
        )
        return cls(
            modes,
            values,
            np.concatenate([one.functions for one in parts], axis=1)[:, order],
            np.concatenate([one.learns for one in parts])[order],
            coefficients,
            start,
            targets.shape[1:],
            inputs,
            columns,
            outputs,
            parts,
        )

    @property
    def size(self) -> int:
        return len(self.functions)

    @property
    def null_modes(self) -> int:
        """How many modes are at rounding level."""
        return int((~self.learns).sum())

    @property
    def of_output(self) -> FloatArray:
        """(mode, output): 1 where a mode belongs to an output, or (mode, 1) where they share all modes."""
        if self.outputs is None:
            return np.ones((len(self.values), 1))
        return (self.outputs[:, None] == np.arange(*self.shape)).astype(np.float64)

    @property
    def tail(self) -> tuple[str, ...]:
        """The dimensions of a prediction after its inputs."""
        return (TARGET,) if self.shape else ()

    @property
    def coords(self) -> dict[str, Any]:
        """Labels of the training inputs and targets, as far as there are any."""
        found = {X: self.inputs.values, TARGET: self.targets.values}
        return {name: values for name, values in found.items() if values is not None}

    @property
    def power(self) -> FloatArray:
        """1/2 sum over targets of c_i^2: the loss that mode i starts with."""
        return np.asarray(0.5 * np.sum(self.coefficients**2, axis=1))

    @property
    def rounding(self) -> float:
        """What rounding alone is in an eigenvalue: eps lambda_1, of the precision that the kernel came in."""
        return float(self.modes.attrs["rounding_level"]) / self.size

    def ridged(self, ridge: float) -> bool:
        """Whether a ridge (of the operator) stands out of rounding, so that no mode is null beside it."""
        return bool(ridge > self.rounding or self.learns.all())

    def eigenvalues(self, ridge: float) -> FloatArray:
        """Eigenvalues beside a ridge: those of null modes are 0, unless the ridge makes what they are harmless."""
        if ridge <= self.rounding:
            return np.where(self.learns, self.values, 0.0)
        # what is negative is an error of the kernel's: the matrix is taken as it is while the ridge outweighs it
        return self.values if ridge > -2 * self.values[-1] else np.maximum(self.values, 0.0)

    def rates(self, ridge: float) -> FloatArray:
        """lambda_i + ridge: how fast a mode settles at learning rate 1."""
        return self.eigenvalues(ridge) + ridge

    def share(self, ridge: float) -> FloatArray:
        """g_i at infinite time: lambda / (lambda + ridge); 0 for null modes without ridge."""
        values = self.eigenvalues(ridge)
        return np.divide(values, values + ridge, out=np.zeros(len(values)), where=values != 0)

    def flow(self, times: FloatArray, learning_rate: float, ridge: float = 0.0) -> Learned:
        """Of gradient flow: g_i(t) = lambda / (lambda + ridge) (1 - exp(-eta (lambda + ridge) t))."""
        rates = self.rates(ridge)
        exponent = np.zeros((len(times), len(rates)))  # neither 0 * inf (a null mode at infinite time) nor inf * 0
        with np.errstate(over="ignore"):  # an infinite exponent is a mode that has been learned
            early = learning_rate * times
            np.multiply(early[:, None], rates, out=exponent, where=(rates > 0) & (times[:, None] > 0))
        return self.learned(-np.expm1(-exponent), early, ridge)

    def learned(self, settled: FloatArray, early: FloatArray, ridge: float) -> Learned:
        """From ``settled`` (time, mode), the share of the way to its end that each mode has gone.

        ``early`` (time,) is the response of a mode that hardly moves: learning rate times time.
        """
        rates = self.rates(ridge)
        response = np.divide(settled, rates, out=np.repeat(early[:, None], len(rates), axis=1), where=rates > 0)
        if not self.ridged(ridge):
            response[(response * self.rounding >= 1) & ~self.learns] = 0.0
        return Learned(settled * self.share(ridge), response)

    def descent(
        self, counts: FloatArray, learning_rate: float, ridge: float, momentum: float = 0.0, nesterov: bool = False
    ) -> Learned:
        """After whole steps of gradient descent; entries that no number holds are infinite or NaN."""
        z = learning_rate * self.rates(ridge)
        still = np.append(z, 0.0)  # and a mode that hardly moves
        with np.errstate(over="ignore", invalid="ignore"):
            if momentum == 0.0:
                return self.learned(settled_after_steps(z, counts), learning_rate * counts, ridge)
            sums = _summed_steps(still, counts, momentum, nesterov)
            return self.learned(z * sums[:, :-1], learning_rate * sums[:, -1], ridge)

    def at_the_end(self, ridge: float) -> Learned:
        """At infinite time, (mode,)."""
        fraction, response = self.flow(np.array([np.inf]), 1.0, ridge)
        return Learned(fraction[0], response[0])

    def dataset(
        self,
        times: FloatArray,
        learned: Learned,
        variables: Variables,
        attrs: dict[str, Any],
        test_kernel: ArrayLike | xr.DataArray | None = None,
        test_initial: ArrayLike | xr.DataArray | None = None,
        y_test: ArrayLike | xr.DataArray | None = None,
    ) -> xr.Dataset:
        """Loss and predictions for learned fractions and responses, with what else there is to say.

        Raises InputError where they are beyond the largest number.
        """
        coords = {TIME: times, MODE: self.modes[MODE].values, **self.coords}
        if self.outputs is not None:
            coords[OUTPUT] = ((MODE,), self.outputs)
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            # summed in one order at all times, so that rounding does not let losses rise where no mode's does
            losses = np.sum((1 - learned.fraction) ** 2 * self.power, axis=1)
            out: Variables = {
                "loss": ((TIME,), losses),
                "prediction": ((TIME, X, *self.tail), self._over_modes(self.functions, learned.fraction, self.start)),
                "target_power": ((MODE,), self.power),
                **variables,
            }
            if test_kernel is None:
                if y_test is not None or test_initial is not None:
                    raise InputError(
                        "test_kernel: expected the kernel of new by training inputs with what is said of them."
                    )
            else:
                new = self.at_new(test_kernel)
                start = self._test_start(test_initial, new)
                test = self._over_modes(new.projections, learned.response, start)
                out["test_prediction"] = ((TIME, X_TEST, *self.tail), test)
                if new.inputs.values is not None:
                    coords[X_TEST] = new.inputs.values
                if y_test is not None:
                    wanted = checked_like(y_test, test.shape[1:], "y_test", new.inputs, self.targets)
                    errors = (test - wanted).reshape(len(times), -1)
                    out["test_loss"] = ((TIME,), np.sum(errors**2, axis=1) / (2 * len(wanted)))
        for name in {"loss", "prediction", "test_prediction", "test_loss"} & set(out):
            refuse_overflow(out[name][1], name)
        return dataset(out, coords=coords, attrs={**attrs, "null_modes": self.null_modes})

    def at_new(self, test_kernel: ArrayLike | xr.DataArray, name: str = "test_kernel") -> NewInputs:
        """The modes at new inputs."""
        if is_operator(test_kernel):
            if self.outputs is not None:
                raise InputError(f"{name}: expected the kernels of {len(self.parts)} outputs, got one linear operator.")
            between, inputs = as_cross_operator(test_kernel, name, self.inputs, self.size)
            return NewInputs(between @ self.functions / self.size, inputs)
        kernels = each_kernel(test_kernel, name, square=False, outputs=max(len(self.parts), 1))
        found = [as_cross_kernel(one, name, self.inputs, self.size) for one in kernels]
        inputs = found[0][1]
        if self.outputs is None:
            return NewInputs(found[0][0] @ self.functions / self.size, inputs)
        projections = np.empty((len(found[0][0]), len(self.values)))
        for o, (cross, _) in enumerate(found):
            own = self.outputs == o
            projections[:, own] = cross @ self.functions[:, own] / self.size
        return NewInputs(projections, inputs)

    def _test_start(self, test_initial: ArrayLike | xr.DataArray | None, new: NewInputs) -> FloatArray | None:
        if (test_initial is None) != (self.start is None):
            given, missing = ("initial", "test_initial") if test_initial is None else ("test_initial", "initial")
            raise InputError(
                f"{missing}: training does not start from 0 ({given} is given), so the start is wanted here too."
            )
        if test_initial is None:
            return None
        count = len(new.projections)
        start = checked_like(test_initial, (count, *self.shape), "test_initial", new.inputs, self.targets)
        return start.reshape(count, -1)

    def _over_modes(self, functions: FloatArray, weights: FloatArray, start: FloatArray | None) -> FloatArray:
        """start + sum over modes of functions (x, mode) * weights (time, mode) * coefficients (mode, target)."""
        weighted = weights[:, :, None] * self.coefficients  # (time, mode, target)
        times, modes, targets = weighted.shape
        flat = functions @ weighted.transpose(1, 0, 2).reshape(modes, times * targets)
        out = flat.reshape(len(functions), times, targets).transpose(1, 0, 2)
        if start is not None:
            out = out + start
        return out.reshape(times, -1, *self.shape)


def settled_after_steps(z: FloatArray, counts: FloatArray) -> FloatArray:
    """1 - (1 - z)^k of gradient descent, (step, mode), where z >= 0; a small z would be rounded in 1 - z."""
    counts = counts[:, None]
    with np.errstate(divide="ignore", over="ignore"):
        log = np.where(z < 1, np.log1p(-np.minimum(z, 1.0)), np.log(np.abs(1 - z)))
        exponent = np.zeros((len(counts), len(z)))
        np.multiply(counts, log, out=exponent, where=counts > 0)  # 0 * -inf is 0 here: nothing is learned in no steps
        return np.asarray(np.where((z > 1) & (counts % 2 == 1), 1 + np.exp(exponent), -np.expm1(exponent)))


def momentum_matrices(z: FloatArray, beta: float, nesterov: bool) -> FloatArray:
    """(mode, 2, 2): what a step with momentum makes of (e_k, e_{k-1}), what is left to learn."""
    out = np.zeros((len(z), 2, 2))
    out[:, 0, 0] = (1 + beta) * (1 - z) if nesterov else 1 - z + beta
    out[:, 0, 1] = -beta * (1 - z) if nesterov else -beta
    out[:, 1, 0] = 1.0
    return out


def _summed_steps(z: FloatArray, counts: FloatArray, beta: float, nesterov: bool) -> FloatArray:
    """q_k = (1 - e_k / e_0) / z, (step, mode), in a recursion of its own, which keeps its digits where z is small.

    With e = 1 - z q the recursions of `gradient_descent` become those of e with 1 added: q_0 = 0 and q_1 = 1, with
    Nesterov's momentum 1 + beta.
    """
    step = np.zeros((len(z), 3, 3))
    step[:, :2, :2] = momentum_matrices(z, beta, nesterov)
    step[:, 0, 2] = step[:, 2, 2] = 1.0
    state, now = np.tile([1 + beta if nesterov else 1.0, 0.0, 1.0], (len(z), 1)), 1  # q_1, q_0, 1
    out = np.zeros((len(counts), len(z)))
    for row, count in enumerate(counts.astype(np.int64).tolist()):
        if count > now:
            state, now = np.einsum("mij,mj->mi", np.linalg.matrix_power(step, count - now), state), count
        if count > 0:
            out[row] = state[:, 0]
    return out
