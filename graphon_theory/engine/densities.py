"""Who learns: a kernel density summed over one side of the connections (THEORY §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, checked_dataset, real_array, refuse_infinite
from graphon_theory.data.labels import Labels, U, V, Variables, by_rows, dataset, labels_of, refuse_other_labels
from graphon_theory.engine.adjoint import Backward
from graphon_theory.engine.discretisation import check_problem, discretise
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.samples import distinct
from graphon_theory.errors import InputError, NetworkError, shown
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Weights

if TYPE_CHECKING:
    import xarray as xr


def kernel_density(
    network: Network, x1: ArrayLike, x2: ArrayLike, layer: int, *, output: int = 0, rtol: float = 1e-10
) -> xr.Dataset:
    """Who learns: the density of one layer's NTK over its connections, for one pair of inputs.

        density(u, v) = sigma_w^2 B^l(u) W^l(u, v) C^{l-1}(v),     iint density = weight term of NTK_l

    on the layer's nodes (THEORY §3). W is seen as the quadrature sees it, projected on the nodes' basis, so that
    the weighted sum over nodes is the integral. At the input layer v runs over the d atoms; at the last, u over the
    outputs.

    ``x1``, ``x2``: one input each, (d,), with columns of the same labels if both are labelled. ``layer``: 1..L.
    ``output``: which output's NTK.

    Returns a Dataset: ``density`` ("u", "v") and the weights ``u_weight``, ``v_weight`` of the nodes, which are the
    coordinates. Raises as :func:`limit_kernel`, and NetworkError for a layer or output out of range.
    """
    (first, columns), (second, others) = _as_input(x1, "x1"), _as_input(x2, "x2")
    refuse_other_labels(others, columns, "columns")
    check_problem(network, first, second, rtol)
    for name, value, least, most in (("layer", layer, 1, network.depth), ("output", output, 0, network.outputs - 1)):
        if not isinstance(value, (int, np.integer)) or not least <= value <= most:
            raise NetworkError(f"{name}: expected {least}..{most}, got {shown(value)}.")
    grid = discretise(network, distinct(np.concatenate([first, second])), float(rtol))
    recursion = Recursion(grid.operators, network.outline, np.concatenate([first, second]), weights=grid.weights)
    backward = Backward(recursion, first, second)
    d, k = first.shape[1], network.outputs
    units = [panels for panels in grid.places if panels is not None]
    nodes = [(np.arange(d) + 0.5) / d, *(p.nodes() for p in units), (np.arange(k) + 0.5) / k]
    weights = [np.full(d, 1 / d), *(p.weights() for p in units), np.full(k, 1 / k)]
    part = next(part for part in network.outline if isinstance(part, Weights) and part.number == layer)
    here, there = part.place, part.source
    seen: dict[int, tuple[FloatArray, FloatArray]] = {}
    backward.read(output, lambda number, beta, below: seen.update({number: (beta[:, 0], below[:, 0])}))
    beta, below = seen[layer]
    mask = recursion.operators[layer - 1].mask_matrix / weights[there]
    density = (beta / weights[here])[:, None] * mask * below
    variables: Variables = {
        "density": ((U, V), density),
        "u_weight": ((U,), weights[here]),
        "v_weight": ((V,), weights[there]),
    }
    attrs = {"network": network.describe(), "quadrature_error": grid.error, "layer": layer, "output": output}
    return dataset(variables, {U: nodes[here], V: nodes[there]}, attrs)


def _as_input(x: Any, name: str) -> tuple[FloatArray, Labels]:
    """One input (1, d), and the labels of its columns."""
    arranged = by_rows(x)
    values = real_array(name, arranged)
    found = as_inputs(values[None] if values.ndim == 1 else arranged, name)
    if len(found) != 1:
        raise InputError(f"{name}: expected one input, (d,), got {len(found)}.")
    return found, Labels(name, labels_of(arranged, values.ndim - 1))


def marginals(density: xr.Dataset) -> xr.Dataset:
    """How fast each position learns, from what `kernel_density` returned for one layer.

        receiving(u) = int density(u, v) dmu(v),      sending(v) = int density(u, v) dmu(u)

    are densities of the layer's share of the tangent kernel over receiving and over sending positions: with x = x', of
    the squared gradient, so of the speed at which the weights there move when the output is pushed.

    Returns a Dataset: ``receiving`` ("u",), ``sending`` ("v",), each also divided by the total, ``receiving_share``
    and ``sending_share`` (which then integrate to 1; NaN where the total is zero), the weights ``u_weight`` and
    ``v_weight``; attrs: ``total`` and those of the density.

    Raises InputError when ``density`` is something else.
    """
    checked_dataset("density", density, {"density": None, "u_weight": (U,), "v_weight": (V,)}, "kernel_density()")
    if set(density.density.dims) != {U, V} or not {U, V} <= set(density.coords):
        raise InputError(f"density: expected what kernel_density() returns, over u and v, got {density.density.dims}.")
    values = density.density.transpose(U, V).values
    refuse_infinite("density", values, "recompute it")
    u_weight, v_weight = density.u_weight.values, density.v_weight.values
    refuse_infinite("density: u_weight", u_weight, "recompute it")
    refuse_infinite("density: v_weight", v_weight, "recompute it")
    receiving, sending = values @ v_weight, u_weight @ values
    total = float(u_weight @ receiving)
    scale = 1 / total if total else np.nan
    return dataset(
        {
            "receiving": ((U,), receiving),
            "sending": ((V,), sending),
            "receiving_share": ((U,), receiving * scale),
            "sending_share": ((V,), sending * scale),
            "u_weight": ((U,), u_weight),
            "v_weight": ((V,), v_weight),
        },
        {U: density[U].values, V: density[V].values},
        {**density.attrs, "total": total},
    )
