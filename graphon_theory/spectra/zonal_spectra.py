"""Spectra under rotation-invariant laws of the inputs, degree by degree (THEORY §6).

A network whose input layer treats all inputs alike has a kernel K(r, r', theta) of the two norms and the angle.
Spherical harmonics of degree k are eigenfunctions in the angle, with one eigenvalue for all N(d, k) of them (Funk and
Hecke):

    K_k(r, r') = c_d int_0^pi K(r, r', theta) P_k(cos theta) sin^(d-2) theta dtheta,    P_k Gegenbauer, P_k(1) = 1.

On the sphere |x| = sqrt(d) that is the eigenvalue. For standard normal inputs the norm follows the chi law with d
degrees of freedom, and each degree leaves a one-dimensional operator K_k between norms, solved with Gauss nodes of that
law. In theta, unlike in cos theta, the kernels of kinked activations are smooth to the ends.
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import numpy as np

from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.data.checks import one_of, positive_number, whole_number
from graphon_theory.data.labels import DEGREE, RADIAL, Variables, dataset
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import ConvergenceError, InputError, NetworkError
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.graphons.positions import between
from graphon_theory.networks.network import Network
from graphon_theory.numerics.quadratures import gauss

if TYPE_CHECKING:
    import xarray as xr

# Nodes tried in turn: (angles, radii).
_SPHERE = ((48, 1), (96, 1), (192, 1), (384, 1), (768, 1))
_GAUSSIAN = ((48, 12), (64, 18), (96, 27), (128, 40), (192, 60), (256, 90))
_SPREAD = 1e-12  # of an input layer's rows over the inputs, relative, that counts as rounding


_MOST = 10_000_000  # inputs and degrees: of more, multiplicities are no numbers


def zonal_spectrum(
    network: Network,
    dimension: int,
    count: int = 10,
    *,
    law: str = "sphere",
    kind: str = "ntk",
    output: int = 0,
    radial: int = 3,
    rtol: float | None = None,
) -> xr.Dataset:
    """Eigenvalues of the limit kernel's operator for uniform inputs on the sphere |x| = sqrt(d), or for normal ones.

    Args:
        network: its input layer must treat all inputs alike: V^1(u, .) and W^1(u, .) constant over the d inputs (they
            may depend on u), no drift there.
        dimension: d, at least 2.
        count: degrees 0..count - 1.
        law: "sphere", or "gaussian" for x ~ N(0, I_d).
        kind: "ntk" or "nngp"; ``output``: which output's kernel.
        radial: modes wanted in each degree; for "gaussian" only.
        rtol: tolerance of kernel and integrals, relative to the trace; 1e-10 on the sphere, where they converge
            geometrically, and 1e-7 for "gaussian", where a kernel with a kink at x = x' has a ridge along r = r'.

    Returns a Dataset over ``degree``: ``eigenvalue`` ("degree",), with "gaussian" ("degree", "radial"), each of them
    ``multiplicity`` ("degree",) times in the spectrum; ``energy``, the share of the trace in the degrees up to k (for
    "gaussian": in their first ``radial`` modes); ``error``, how far an eigenvalue may be off. attrs: ``trace``
    (E K(x, x)), ``dimension``, ``law``, ``kind``, ``angles`` and ``radii`` (nodes used).

    Raises NetworkError that says why the kernel is not zonal, InputError, and ConvergenceError or QuadratureError where
    rtol is not reached.
    """
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}.")
    d, count, radial = (
        whole_number(name, value, least, _MOST, expected=f"a whole number of at least {least} (and at most {_MOST:,})")
        for name, value, least in (("dimension", dimension, 2), ("count", count, 1), ("radial", radial, 1))
    )
    for name, choice, choices in (("law", law, ("sphere", "gaussian")), ("kind", kind, ("ntk", "nngp"))):
        one_of(name, choice, choices)
    output = whole_number("output", output, 0, network.outputs - 1, expected=f"0..{network.outputs - 1}")
    check_zonal(network, d)

    copies = [_multiplicity(d, k) for k in range(count)]
    # netCDF-3 holds integers of 32 bits, and those of 64 end soon in high dimensions
    multiplicity = np.array(copies, dtype=np.int64 if max(copies) < 2**31 else np.float64)
    rtol = positive_number("rtol", (1e-10 if law == "sphere" else 1e-7) if rtol is None else rtol)
    rules, kept = (_SPHERE, 1) if law == "sphere" else (_GAUSSIAN, radial)
    if kept > rules[0][1]:
        raise InputError(f"radial: at most {rules[0][1]} modes of one degree are computed, got {radial}.")
    previous: FloatArray | None = None
    for angles, radii in rules:
        r, weights = (np.array([np.sqrt(d)]), np.ones(1)) if law == "sphere" else _chi_rule(d, radii)
        theta, measure = _angle_rule(angles, d)
        kernel, trace, error = _between(network, r, theta, kind, output, d, rtol)
        harmonics = _gegenbauer(np.cos(theta), d, count) * measure
        root = np.sqrt(weights)
        parts = np.einsum("kt,ijt->kij", harmonics, kernel) * (root[:, None] * root)
        values = np.linalg.eigvalsh((parts + parts.transpose(0, 2, 1)) / 2)[:, ::-1][:, :kept]
        mean_trace = float(weights @ trace)
        if previous is not None:
            move = np.abs(values - previous)
            if move.max() <= rtol * mean_trace:
                break
        previous = values
    else:
        raise ConvergenceError(
            f"rtol: eigenvalues still move by {move.max() / mean_trace:.2g} of the trace, {rtol:g} was asked for; "
            "loosen it, or ask for fewer degrees."
        )
    # |P_k| has mean square 1 / N(d, k), which is how much of an error of the kernel a degree can see
    floor = (error + 16 * EPS) * mean_trace / np.sqrt(multiplicity)
    bound = move + floor[:, None]
    flat = law == "sphere"
    dims = (DEGREE,) if flat else (DEGREE, RADIAL)
    variables: Variables = {
        "eigenvalue": (dims, values[:, 0] if flat else values),
        "multiplicity": ((DEGREE,), multiplicity),
        "energy": ((DEGREE,), np.cumsum(multiplicity * values.sum(axis=1)) / mean_trace),
        "error": (dims, bound[:, 0] if flat else bound),
    }
    coords = {DEGREE: np.arange(count)} | ({} if flat else {RADIAL: np.arange(1, kept + 1)})
    attrs = {
        "trace": mean_trace,
        "dimension": d,
        "law": law,
        "kind": kind,
        "angles": angles,
        "radii": radii,
        "network": network.describe(),
    }
    return dataset(variables, coords, attrs)


def check_zonal(network: Network, dimension: int) -> None:
    """Raise NetworkError, with the reason, unless the kernel of d inputs is a function of norms and angle.

    Whatever the layers above do, they see x only through sum_j V^1(u, j) x_j x'_j and the same with W^1: these are
    multiples of x . x' if the rows are constant over the inputs.
    """
    first = network.layers[0]
    if first.has_drift:
        raise NetworkError(
            "network: not zonal: the input layer's drift makes means that depend on the direction of x; zonal spectra "
            "need D^1 = 0."
        )
    cells = np.linspace(0.0, 1.0, dimension + 1)
    for name, graphon in (("mask", first.mask), ("variance", first.variance)):
        if _same_over_inputs(graphon):
            continue
        plain = graphon.constant_in_u and not graphon.switches
        points = between([graphon.u_breaks], plain)
        rows = (
            graphon.cell_means(np.linspace(0.0, 1.0, network.outputs + 1), cells)
            if network.depth == 1
            else graphon.row_means(points, cells)
        )
        spread = np.ptp(rows, axis=1)
        worst = int(spread.argmax())
        if spread[worst] > _SPREAD * np.abs(rows).max():
            low, high = float(rows[worst].min()), float(rows[worst].max())
            where = f"output {worst}" if network.depth == 1 else f"u = {points[worst]:.4g}"
            raise NetworkError(
                f"network: not zonal: the input layer's {name} {graphon!r} treats the {dimension} inputs differently "
                f"(from {low:.6g} to {high:.6g} at {where}); sample inputs and use spectrum(limit_kernel(...).ntk)."
            )


def _same_over_inputs(graphon: Graphon) -> bool:
    """Whether every row is known to be one number."""
    return graphon.constant_in_v and len(graphon.v_breaks) == 2 and not graphon.switches


def _between(
    network: Network, r: FloatArray, theta: FloatArray, kind: str, output: int, d: int, rtol: float
) -> tuple[FloatArray, FloatArray, float]:
    """K(r_i, r_j, theta_t) (i, j, t), K(x, x) at the radii, and the kernel's relative error."""
    first = network.layers[0]
    plane = first.known is None and _same_over_inputs(first.mask) and _same_over_inputs(first.variance)
    inputs = 2 if plane else d  # x and x' span a plane: where all inputs are alike, those of the plane will do
    radius, angles = r * np.sqrt(inputs / d), np.concatenate([theta, [0.0]])
    count = len(r) * (len(angles) + 1)
    refuse_beyond_memory("dimension", 8.0 * count * inputs, f"{count} vectors of {d:,} inputs", "take fewer inputs")
    x, x2 = np.zeros((len(r), inputs)), np.zeros((len(r), len(angles), inputs))
    x[:, 0] = radius
    x2[..., 0], x2[..., 1] = np.outer(radius, np.cos(angles)), np.outer(radius, np.sin(angles))
    found = limit_kernel(network, x, x2.reshape(-1, inputs), rtol=min(rtol, 1e-10))
    kernel = found[kind] if network.outputs == 1 else found[kind].isel(output=output)
    values = kernel.values.reshape(len(r), len(r), -1)
    trace = np.diagonal(values[..., -1]).copy()
    return values[..., :-1], trace, float(found.attrs["quadrature_error"])


def _angle_rule(nodes: int, d: int) -> tuple[FloatArray, FloatArray]:
    """Angles, and weights of the law of the angle between two uniform directions, sin^(d-2)."""
    s, w = gauss(nodes)
    theta = np.pi * s
    log_density = (d - 2) * np.log(np.sin(theta))
    measure = w * np.exp(log_density - log_density.max())
    return theta, measure / measure.sum()


def _chi_rule(d: int, nodes: int) -> tuple[FloatArray, FloatArray]:
    """Gauss nodes and weights of the norm of a standard normal vector in d dimensions.

    Lanczos on a fine rule of the density r^(d-1) exp(-r^2/2) (its Jacobi matrix), then Golub and Welsch.
    """
    low, high = max(0.0, np.sqrt(d) - 12), np.sqrt(d) + 12
    s, w = gauss(600)
    r = low + (high - low) * s
    log_density = (d - 1) * np.log(r) - r * r / 2
    mass = w * np.exp(log_density - log_density.max())
    vectors = np.zeros((nodes + 1, len(r)))
    vectors[0] = np.sqrt(mass / mass.sum())
    diagonal, beside = np.zeros(nodes), np.zeros(nodes)
    for k in range(nodes):
        image = r * vectors[k]
        diagonal[k] = image @ vectors[k]
        for _ in range(2):
            image -= vectors[: k + 1].T @ (vectors[: k + 1] @ image)
        beside[k] = np.linalg.norm(image)
        vectors[k + 1] = image / beside[k]
    values, turns = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    return values, turns[0] ** 2


def _gegenbauer(t: FloatArray, d: int, count: int) -> FloatArray:
    """P_0..P_{count-1} at t, (count, len(t)): orthogonal under (1 - t^2)^((d-3)/2), P_k(1) = 1."""
    out = np.ones((max(count, 2), len(t)))
    out[1] = t
    for k in range(1, count - 1):
        out[k + 1] = ((2 * k + d - 2) * t * out[k] - k * out[k - 1]) / (k + d - 2)
    return out[:count]


def _multiplicity(d: int, k: int) -> int:
    """Number of independent spherical harmonics of degree k in d dimensions."""
    if k == 0:
        return 1
    return (2 * k + d - 2) * comb(k + d - 3, d - 2) // k if d > 2 else 2
