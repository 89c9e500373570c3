"""Data on the model's device, and the losses of training and of pruning scores (THEORY §7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graphon_theory.data.checks import one_of, real_array
from graphon_theory.data.labels import by_rows, refuse_other_labels, samples_of
from graphon_theory.errors import InputError
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor

Data = tuple[Any, Any]  # (x of shape (N, d), labels of shape (N,) or targets of shape (N, outputs))


def as_data(model: MaskedMLP, data: Data, loss: str, like: Any = None) -> tuple[Tensor, Tensor]:
    """Inputs and targets on the model's device. Raises InputError where they do not fit the model or the loss.

    Also where the targets' samples are labelled otherwise than the inputs', or the inputs' columns than those of
    ``like``, the inputs that the model is trained on.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError("data: expected a pair (x, labels) or (x, targets).")
    inputs = as_tensor(model, data[0], "data", like)
    targets = _targets(by_rows(data[1]), loss, len(inputs), model.widths[-1])
    refuse_other_labels(samples_of(data[1], "data: targets"), samples_of(data[0], "the inputs"), "rows")
    return inputs, targets.to(inputs.device, inputs.dtype if targets.is_floating_point() else None)


def loss_sum(outputs: Tensor, targets: Tensor, loss: str) -> Tensor:
    """Cross-entropy, or half the squared error, summed over the batch."""
    if loss == "cross_entropy":
        return F.cross_entropy(outputs, targets, reduction="sum")
    return 0.5 * (outputs - targets).square().sum()


def _targets(labels: Any, loss: str, count: int, outputs: int) -> Tensor:
    one_of("loss", loss, ("cross_entropy", "squared"))
    array = real_array("data", labels, expected="labels or targets", hint="; encode labels as numbers (one-hot)")
    if loss == "cross_entropy":
        if outputs < 2:
            raise InputError('loss: cross-entropy needs at least two outputs, the network has one; use loss="squared".')
        if array.dtype.kind not in "iu" or array.shape != (count,):
            raise InputError(f"data: expected {count} integer labels, got {array.dtype} of shape {array.shape}.")
        if array.min() < 0 or array.max() >= outputs:
            raise InputError(
                f"data: expected labels in 0..{outputs - 1}, got {array.min()}..{array.max()}; give the network "
                "one output per class."
            )
        return torch.from_numpy(array.astype(np.int64))
    if array.shape == (count,) and outputs == 1:
        array = array[:, None]
    if array.shape != (count, outputs) or not np.isfinite(array.astype(float)).all():
        raise InputError(f"data: expected finite targets of shape ({count}, {outputs}), got {array.shape}.")
    return torch.from_numpy(array.astype(float))
