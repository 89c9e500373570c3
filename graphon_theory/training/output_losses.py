"""Losses other than the squared one: their values and derivatives in the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import UNLABELLED, checked_like, checked_targets, real_array
from graphon_theory.data.labels import Labels, by_rows, labels_of, refuse_other_labels
from graphon_theory.errors import InputError, shown

NAMES = ("squared", "cross_entropy")
Loss = Callable[[FloatArray, FloatArray], tuple[float, FloatArray]]


@dataclass(frozen=True)
class Objective:
    """A loss on given targets: of outputs (N, k) its value and its derivative, (N, k).

    ``shape`` is that of one input's output: () where a single one is not named.
    """

    name: str
    function: Loss
    targets: FloatArray
    shape: tuple[int, ...]
    columns: Labels = UNLABELLED

    def __call__(self, outputs: FloatArray) -> tuple[float, FloatArray]:
        return evaluated(self.function, outputs.reshape(-1, *self.shape), self.targets)

    @property
    def width(self) -> int:
        """k."""
        return int(np.prod(self.shape))

    def accuracy(self, outputs: FloatArray) -> float:
        """The share of labels that are the largest output."""
        return float(np.mean(outputs.argmax(-1) == self.targets))


def cross_entropy(outputs: FloatArray, labels: FloatArray) -> tuple[float, FloatArray]:
    """L = mean over inputs of log sum_o exp(f_o) - f_label, and dL/df (N, k)."""
    rows = np.arange(len(outputs))
    right = labels.astype(int)
    value = float(np.mean(logsumexp(outputs, axis=1) - outputs[rows, right]))
    slope = softmax(outputs, axis=1)
    slope[rows, right] -= 1
    return value, slope / len(outputs)


def evaluated(loss: Loss, outputs: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
    """Value and derivative of a loss that users may have written. Raises InputError unless they are finite numbers."""
    found: Any = loss(outputs, targets)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise InputError(f"loss: expected a pair, the loss and its derivative in the outputs, got {shown(found)}.")
    value = real_array("loss", found[0], expected="a number")
    slope = real_array("loss", found[1], expected="a derivative").astype(float)
    if value.shape != () or not np.isfinite(value) or slope.shape != outputs.shape or not np.isfinite(slope).all():
        raise InputError(
            f"loss: expected a finite number and a finite derivative of the outputs' shape {outputs.shape}, got shapes "
            f"{value.shape} and {slope.shape}."
        )
    return float(value), slope.reshape(len(outputs), -1)


def objective(loss: object, y: ArrayLike, size: int, inputs: Labels, start_shape: tuple[int, ...] | None) -> Objective:
    """What is trained on; ``start_shape`` is that of starting predictions, which tell the number of outputs.

    "cross_entropy" has as many outputs as labels reach, or as the start has.
    """
    arranged = by_rows(y)
    if loss == "cross_entropy":
        values = real_array("y", arranged, expected="labels")
        if values.shape != (size,) or values.dtype.kind not in "iu" or values.min() < 0:
            raise InputError(f"y: expected {size} labels, whole numbers from 0, got {values.dtype} {values.shape}.")
        refuse_other_labels(Labels("y", labels_of(arranged)), inputs, "rows")
        count = max(int(values.max()) + 1, 2) if start_shape is None or len(start_shape) != 2 else start_shape[1]
        if values.max() >= count:
            raise InputError(f"y: labels reach {values.max()}, but there are {count} outputs; number them from 0.")
        return Objective("cross_entropy", cross_entropy, values.astype(float), (count,))
    if not callable(loss):
        raise InputError(
            f"loss: expected one of {', '.join(NAMES)}, or a function of outputs and y, got {shown(loss)}."
        )
    targets = checked_targets(y, size, inputs=inputs)
    columns = Labels("y", labels_of(arranged, 1)) if targets.ndim == 2 else UNLABELLED
    return Objective(getattr(loss, "__name__", type(loss).__name__), loss, targets, targets.shape[1:], columns)


def start_of(initial: ArrayLike | None, made: Objective, size: int, name: str, inputs: Labels) -> FloatArray:
    """f_0 (size, k), 0 where it is left out."""
    if initial is None:
        return np.zeros((size, made.width))
    return checked_like(initial, (size, *made.shape), name, inputs, made.columns).reshape(size, -1)
