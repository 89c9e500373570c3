"""Kernel regression and posterior means of linear operators, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_cross_kernel, positive_number, real_array
from graphon_theory.data.labels import RIDGE, TARGET, X_TEST, Labels, Variables, X, dataset
from graphon_theory.errors import InputError, KernelError
from graphon_theory.spectra.linear_operators import Operator, as_cross_operator, as_operator, is_operator
from graphon_theory.training.conjugate_gradients import solve
from graphon_theory.training.linear_training import checked_problem

if TYPE_CHECKING:
    import xarray as xr


def checked_ridges(ridge: float | Sequence[float], *, zero: bool = True) -> list[float]:
    """One ridge, or several. Raises InputError."""
    given = np.atleast_1d(real_array("ridge", ridge, objects=True, expected="a number or a list of them"))
    if given.ndim != 1 or not len(given):
        raise InputError(f"ridge: expected a number or a list of them, got shape {given.shape}.")
    expected = "" if zero else "a positive number (conjugate gradients, which a linear operator takes, need one)"
    return [positive_number("ridge", one, zero=zero, expected=expected) for one in given.tolist()]


def regression_by_products(
    kernel: Any,
    y: ArrayLike | xr.DataArray,
    test_kernel: Any,
    ridge: float | Sequence[float],
    tolerance: float,
) -> xr.Dataset:
    """`kernel_regression` of a linear operator."""
    many, deltas = np.ndim(ridge) > 0, np.array(checked_ridges(ridge, zero=False))
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
    coords = {**system.coords, **_at_new(there), **({RIDGE: deltas} if many else {})}
    attrs: dict[str, Any] = {} if many else {"ridge": float(deltas[0])}
    return dataset(variables, coords, {**attrs, "rank": solved.rank, "tolerance": tolerance})


def mean_by_products(
    nngp: Any, y: ArrayLike | xr.DataArray, test_nngp: Any, test_variance: Any, noise: float, tolerance: float
) -> xr.Dataset:
    """`nngp_posterior` of a linear operator."""
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
    return dataset(variables, {**coords, **_at_new(there)}, attrs)


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


def _at_new(inputs: Labels) -> dict[str, object]:
    return {} if inputs.values is None else {X_TEST: inputs.values}
