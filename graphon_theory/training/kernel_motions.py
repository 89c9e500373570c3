"""How far the kernel of a finite network will move while it trains: lazy or not (THEORY §7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_kernel, positive_number, whole_number
from graphon_theory.data.output_kernels import shared_kernel
from graphon_theory.errors import InputError, KernelError
from graphon_theory.training.linear_training import Learned, LinearTraining

_ALIGNED = 1.5  # times lambda_1 / tr: what of the weights' growth acts on the first mode; fitted to drawn networks


def squared_distance(problem: LinearTraining, learned: Learned) -> FloatArray:
    """|theta_t - theta_0|^2 = sum over modes and targets of c_i^2 g_i^2 / lambda_i, (time,)."""
    powers = np.sum(problem.coefficients**2, axis=1)
    return np.asarray((learned.fraction * learned.response) @ powers)


def kernel_change(
    problem: LinearTraining, distance: FloatArray, nngp: ArrayLike, depth: int, units: float
) -> FloatArray:
    """The relative change of the tangent kernel's largest eigenvalue that is due: see `gradient_flow`.

    ``units`` of the last hidden layer that an output reads.
    """
    depth, units = whole_number("depth", depth), positive_number("width", units)
    if problem.outputs is not None:
        raise KernelError("width: outputs have kernels of their own, which move each in its way; select one output.")
    variance, trace = as_kernel(shared_kernel(nngp, "nngp"), "nngp"), float(problem.values.sum())
    if len(variance) != problem.size:
        raise InputError(f"nngp: expected the NNGP of the same {problem.size} inputs, got shape {variance.shape}.")
    if not np.trace(variance) > 0:
        raise KernelError("nngp: it is zero, so that no output varies; nothing can be said of a change.")
    ratio = trace * problem.size / float(np.trace(variance))
    aligned = min(1.0, _ALIGNED * float(problem.values[0]) / trace)
    growth = aligned * distance * ratio / (depth * units)
    return np.asarray((1 + depth * growth) ** (1 - 1 / depth) - 1)
