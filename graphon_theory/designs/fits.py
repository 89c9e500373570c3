"""fit: weight and bias variances, and densities, by the evidence, with its exact gradient (THEORY §12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, checked_targets, positive_number, truth, whole_number
from graphon_theory.data.labels import samples_of
from graphon_theory.designs.kernel_gradients import kernel_gradient
from graphon_theory.designs.objectives import objective
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.graphons.graphon import Graphon, StepGraphon
from graphon_theory.graphons.scaled import RowScaled
from graphon_theory.networks.connectivity import Connectivity
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
    densities: bool = False,
    iterations: int = 50,
    threads: int | None = None,
) -> Fit:
    """Weight and bias variances of every layer that make the targets most likely.

        log p(y) = -(1/2) y' (K + noise)^-1 y - (1/2) log det(K + noise) - (N/2) log 2 pi,   summed over targets,

    with K the NNGP (or the NTK, ``kernel="ntk"``), by L-BFGS-B in the logarithms of the variances, with the exact
    gradient. Biases that are 0 stay away. A homogeneous activation without biases leaves the product of the weight
    variances alone to be found.

    With ``densities`` the mask graphon W of every layer is multiplied by a number too, so that it stays below 1, while
    V stays: of W and V together no kernel can tell the size from that of the weight variance, and W alone is how much
    of what passes a layer is trained, so that the NTK is needed. Otherwise the graphons stay as they are; where their
    shape is to be found, under a budget, use :func:`design` with the objective "evidence".

    Args:
        network: one output; x, y: inputs (N, d) and targets (N,) or (N, m); noise: their variance, above 0.
        kernel: "nngp" or "ntk"; densities: whether those move as well, with the "ntk".
        iterations: at most; threads: as in :func:`limit_kernel`.

    Raises NetworkError for several outputs, or densities of layers with drift or that let nothing through, InputError
    for densities with the NNGP, else as :func:`kernel_gradient`.
    """
    inputs = as_inputs(x, "x")
    targets = checked_targets(y, len(inputs), inputs=samples_of(x)).reshape(len(inputs), -1)
    goal = objective("evidence", kernel=kernel, noise=positive_number("noise", noise), scaled=False)
    limit = whole_number("iterations", iterations)
    if not isinstance(network, Network) or network.outputs != 1:
        raise NetworkError("network: expected a Network of one output, whose kernel all targets share.")
    if truth("densities", densities) and kernel != "ntk":
        raise InputError('densities: the NNGP does not see them apart from the weight variances; give kernel="ntk".')
    depth = network.depth
    most = [_most(layer, number) for number, layer in enumerate(network.layers, 1)] if densities else []
    first = np.array([*network.weight_variance, *network.bias_variances, *(1.0 for _ in most)])
    moved = np.flatnonzero(first > 0)
    reach = np.full(len(first), _FARTHEST)
    reach[2 * depth :] = np.log(most)
    reach = np.minimum(reach[moved], _FARTHEST)
    calls = 0

    def at(logs: FloatArray) -> Network:
        variances = first.copy()
        variances[moved] = np.exp(logs)
        weights, biases, factors = np.split(variances, [depth, 2 * depth])
        changed = network.changed(weight_variance=weights.tolist(), bias_variance=biases.tolist())
        if not most:
            return changed
        return changed.with_layers(
            [
                Connectivity(_times(layer.mask, factor), layer.variance)
                for factor, layer in zip(factors.tolist(), network.layers, strict=True)
            ]
        )

    def both(logs: FloatArray) -> tuple[float, FloatArray]:
        nonlocal calls
        calls += 1
        current = at(logs)
        kern = limit_kernel(current, inputs, threads=threads)
        value, of_ntk, of_nngp = goal(kern.ntk.values, kern.nngp.values, targets)
        got = kernel_gradient(current, inputs, ntk=of_ntk, nngp=of_nngp, threads=threads)
        biases = got.bias_variance if network.bias_variances != (0.0,) * depth else np.zeros(depth)
        factors = [got.along(number, layer.mask) for number, layer in enumerate(network.layers, 1)] if most else []
        return value, np.concatenate([got.weight_variance, biases, factors])[moved] * np.exp(logs)

    start = np.log(first[moved])
    begun = both(start)[0]
    found = minimize(
        both,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(start - _FARTHEST, start + reach, strict=True)),
        options={"maxiter": limit, "ftol": 1e-10},
    )
    size = len(inputs)
    return Fit(at(found.x), -size * float(found.fun), -size * begun, calls)


def _most(layer: Connectivity, number: int) -> float:
    """The factor that brings a layer's densest place to 1."""
    if layer.has_drift:
        raise NetworkError(f"layer {number}: densities are found for weights without a mean; leave the drift out.")
    highest = layer.mask.extremes()[1]
    if not highest > 0:
        raise NetworkError(f"layer {number}: its mask graphon is 0, which no factor changes; give it connections.")
    return 1.0 / highest


def _times(graphon: Graphon, factor: float) -> Graphon:
    if isinstance(graphon, StepGraphon):
        return StepGraphon(np.minimum(factor * graphon.values, 1.0), graphon.u_edges, graphon.v_edges)
    return RowScaled(graphon, lambda u: np.full(np.shape(u), factor))
