"""How far the kernel of a finite network will move while it trains: lazy or not (THEORY §7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_kernel, positive_number, whole_number
from graphon_theory.errors import InputError, KernelError
from graphon_theory.training.linear_training import Learned, LinearTraining

_ALIGNED = 0.75  # of what weights grow by, the share in the directions that the kernel weighs; fitted to drawn networks


def squared_distance(problem: LinearTraining, learned: Learned) -> FloatArray:
    """|theta_t - theta_0|^2 = sum over modes and targets of c_i^2 g_i^2 / lambda_i, (time,)."""
    powers = np.sum(problem.coefficients**2, axis=1)
    return np.asarray((learned.fraction * learned.response) @ powers)


def kernel_change(distance: FloatArray, kernel: ArrayLike, nngp: ArrayLike, depth: int, units: float) -> FloatArray:
    """The relative change of the kernel's largest eigenvalue that is due: see `gradient_flow`.

    ``units`` of the last hidden layer that an output reads.
    """
    whole_number("depth", depth)
    positive_number("width", units)
    tangent, variance = as_kernel(kernel), as_kernel(nngp, "nngp")
    if variance.shape != tangent.shape:
        raise InputError(f"nngp: expected the NNGP of the same {len(tangent)} inputs, got shape {variance.shape}.")
    if not np.trace(variance) > 0:
        raise KernelError("nngp: it is zero, so that no output varies; nothing can be said of a change.")
    ratio = float(np.trace(tangent) / np.trace(variance))
    growth = _ALIGNED * distance * ratio / (depth * units)
    return np.asarray((1 + depth * growth) ** (1 - 1 / depth) - 1)
