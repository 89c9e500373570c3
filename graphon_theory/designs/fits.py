"""fit: weight and bias variances by the evidence of the Gaussian process, with its exact gradient (THEORY §12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, checked_targets, positive_number, whole_number
from graphon_theory.data.labels import samples_of
from graphon_theory.designs.kernel_gradients import kernel_gradient
from graphon_theory.designs.objectives import objective
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import NetworkError
from graphon_theory.networks.network import Network
from graphon_theory.values import Record

if TYPE_CHECKING:
    import xarray as xr

_FARTHEST = 7.0  # natural logarithms by which a variance may move


@dataclass(frozen=True, eq=False)
class Fit(Record):
    """What :func:`fit` returns: ``network`` with its new variances, ``log_evidence`` there, ``start`` where it began.

    ``evaluations``: of the kernel and its derivative.
    """

    network: Network
    log_evidence: float
    start: float
    evaluations: int


def fit(
    network: Network,
    x: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    *,
    noise: float = 1e-2,
    kernel: str = "nngp",
    iterations: int = 50,
    threads: int | None = None,
) -> Fit:
    """Weight and bias variances of every layer that make the targets most likely.

        log p(y) = -(1/2) y' (K + noise)^-1 y - (1/2) log det(K + noise) - (N/2) log 2 pi,   summed over targets,

    with K the NNGP (or the NTK, ``kernel="ntk"``), by L-BFGS-B in the logarithms of the variances, with the exact
    gradient. Biases that are 0 stay away. The graphons stay as they are. A
    homogeneous activation without biases leaves the product of the weight variances alone to be found.

    Args:
        network: one output; x, y: inputs (N, d) and targets (N,) or (N, m); noise: their variance, above 0.
        iterations: at most; threads: as in :func:`limit_kernel`.

    Raises NetworkError for several outputs, else as :func:`kernel_gradient`.
    """
    inputs = as_inputs(x, "x")
    targets = checked_targets(y, len(inputs), inputs=samples_of(x)).reshape(len(inputs), -1)
    goal = objective("evidence", kernel=kernel, noise=positive_number("noise", noise), scaled=False)
    most = whole_number("iterations", iterations)
    if not isinstance(network, Network) or network.outputs != 1:
        raise NetworkError("network: expected a Network of one output, whose kernel all targets share.")
    first = np.array([*network.weight_variance, *network.bias_variances])
    moved = np.flatnonzero(first > 0)
    calls = 0

    def at(logs: FloatArray) -> Network:
        variances = first.copy()
        variances[moved] = np.exp(logs)
        weights, biases = np.split(variances, [network.depth])
        return network.changed(weight_variance=weights.tolist(), bias_variance=biases.tolist())

    def both(logs: FloatArray) -> tuple[float, FloatArray]:
        nonlocal calls
        calls += 1
        current = at(logs)
        kern = limit_kernel(current, inputs, threads=threads)
        value, of_ntk, of_nngp = goal(kern.ntk.values, kern.nngp.values, targets)
        got = kernel_gradient(current, inputs, ntk=of_ntk, nngp=of_nngp, threads=threads)
        biases = got.bias_variance if (moved >= network.depth).any() else np.zeros(network.depth)
        return value, np.concatenate([got.weight_variance, biases])[moved] * np.exp(logs)

    start = np.log(first[moved])
    begun = both(start)[0]
    found = minimize(
        both,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(log - _FARTHEST, log + _FARTHEST) for log in start],
        options={"maxiter": most, "ftol": 1e-10},
    )
    size = len(inputs)
    return Fit(at(found.x), -size * float(found.fun), -size * begun, calls)
