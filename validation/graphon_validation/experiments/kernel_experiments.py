"""How kernels of finite networks come to their limit: bias and spread over widths, and what of width and density sets
the spread."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from xarray import DataArray, Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import MOST_DRAWS, share_kept, whole_number, whole_numbers
from graphon_theory.errors import InputError
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.drawings import kernel_figure
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different, different_numbers, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import build, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import PROTOCOLS, apply_protocol
from graphon_validation.studies.sweep_comparisons import compare
from graphon_validation.studies.tables import table_of

LAWS = {"random": gt.random_pruning, "magnitude": gt.magnitude_pruning}
WIDTHS = (128, 256, 512, 1024)
DENSITY = 0.2  # of the middle layers
DENSITIES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.125, 0.0625)
SPREAD_WIDTHS = (64, 128, 256, 512)
DENSE_ENOUGH = 0.25  # the least density of the first fit
HIDDEN, INPUTS = 3, 12
QUICK: dict[str, Any] = {
    "widths": [16, 32, 64],
    "seeds": 4,
    "spread_widths": [16, 32],
    "spread_seeds": 6,
    "densities": [1.0, 0.5],
}


def kernel_convergence_experiment(
    out: str | os.PathLike[str],
    methods: Sequence[str] = tuple(LAWS),
    widths: Sequence[int] = WIDTHS,
    seeds: int = 24,
    *,
    densities: Sequence[float] = DENSITIES,
    spread_widths: Sequence[int] = SPREAD_WIDTHS,
    spread_seeds: int = 64,
    device: torch.device | str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Bias and spread of tangent kernels over widths by method and protocol, and the spread over widths and densities.

    Bias-free ReLU networks with three hidden layers of one width and one output, the two layers between hidden units
    masked, on 12 digits (8 x 8). First, at density 0.2, networks pruned layer by layer (``methods`` "random",
    "magnitude"), by the four protocols, against the limit of the method's law (that of random masks where weights are
    drawn again): k + c/n fitted to means over ``seeds`` and the slope of the spread (:func:`compare`). Second, networks
    drawn from constant ``densities`` p: the standard deviation of the trace over its mean, fitted by

        ln spread = a + b ln n + c ln p:        n sets the spread if c = 0, the fan-in n p if c = b.

    Prints tables and a verdict; writes ``kernel-convergence.nc`` and ``kernel-convergence.png``; kernels are kept as
    they finish.

    Returns a Dataset: over "pruning", "protocol" ``fitted`` (k over the limit), ``fitted_error``, ``bias`` (c over the
    limit) and ``bias_error`` of the trace, ``fitted_z``, ``spread`` ("width"), ``relative`` ("width", "seed"; the trace
    over its limit), ``spread_slope`` and ``spread_slope_error``; over "drawn_width", "density" ``trace_spread`` and
    ``trace_spread_error``; over "fit" ("all", and "dense" for densities of at least 1/4) and "power" ("width",
    "density") ``exponent`` and ``exponent_error``.
    """
    results = results_in(out, console, figures=True)
    methods = different("methods", methods, list(LAWS))
    widths = list(whole_numbers("widths", widths, distinct=True))
    spread_widths = list(whole_numbers("spread_widths", spread_widths, distinct=True))
    densities = different_numbers("densities", densities, share_kept)
    if sum(one >= DENSE_ENOUGH for one in densities) < 2:
        raise InputError(f"densities: expected at least two from {DENSE_ENOUGH:g} on, got {densities}.")
    if len(spread_widths) < 2 or len(widths) < 2:
        raise InputError(f"widths: expected at least two, got {widths} and, drawn, {spread_widths}.")
    for name, value in (("seeds", seeds), ("spread_seeds", spread_seeds)):
        whole_number(name, value, 3, MOST_DRAWS)
    x = digits()[0][:INPUTS]

    def pruned(one: Mapping[str, Any]) -> Dataset:
        counts = (x.shape[1], *[one["width"]] * HIDDEN, 1)
        network = _middle(LAWS[one["pruning"]](DENSITY))
        kernels = []
        for seed in range(one["seeds"]):
            model = dense(counts, [seed, one["width"]], device=device)
            prune(model, one["pruning"], DENSITY, layers=[1, 2], scope="layer", rng=[seed, one["width"], 1])
            given = (apply_protocol(model, name, [seed, one["width"], 2], network) for name in PROTOCOLS)
            kernels.append([empirical_kernel(each, x).ntk.values for each in given])
        return Dataset({"ntk": (("seed", "protocol", "x", "x2"), np.array(kernels))}, {"protocol": list(PROTOCOLS)})

    def drawn(one: Mapping[str, Any]) -> Dataset:
        network, counts = _middle(gt.random_pruning(one["density"])), (x.shape[1], *[one["width"]] * HIDDEN, 1)
        traces = [
            float(np.trace(empirical_kernel(build(network, counts, [seed, one["width"]], device), x).ntk.values))
            for seed in range(one["seeds"])
        ]
        return Dataset({"trace": ("seed", traces)})

    parts = Parts(results.folder, "kernels", {"hidden": HIDDEN, "inputs": INPUTS})
    over = [{"pruning": m, "width": n, "seeds": seeds, "kept": DENSITY} for m in methods for n in widths]
    found = parts.all(over, pruned, "protocols", progress=progress)
    pairs = [{"density": p, "width": n, "seeds": spread_seeds} for n in spread_widths for p in densities]
    traces = parts.all(pairs, drawn, "spread", progress=progress)
    spread = np.array([float(one.trace.std(ddof=1) / one.trace.mean()) for one in traces])
    spread = spread.reshape(len(spread_widths), len(densities))
    result = Dataset(
        {
            **_by_protocol(methods, widths, found, x),
            "trace_spread": (("drawn_width", "density"), spread),
            "trace_spread_error": (("drawn_width", "density"), spread / np.sqrt(2 * (spread_seeds - 1))),
            **_exponents(spread, np.array(spread_widths), np.array(densities), spread_seeds),
        },
        {
            "pruning": list(methods),
            "protocol": list(PROTOCOLS),
            "width": widths,
            "drawn_width": spread_widths,
            "density": densities,
            "fit": ["all", "dense"],
            "power": ["width", "density"],
        },
        {"hidden": HIDDEN, "inputs": INPUTS, "kept": DENSITY, "seeds": seeds, "spread_seeds": spread_seeds},
    )
    tables = [protocol_table(result), spread_table(result)]
    return results.finish(result, "kernel-convergence", tables, verdict=verdict(result), figure=kernel_figure)


def _middle(law: Connectivity) -> Network:
    return Network([1.0, *[law] * (HIDDEN - 1), 1.0])


def _by_protocol(
    methods: Sequence[str], widths: Sequence[int], found: Sequence[Dataset], x: FloatArray
) -> dict[str, Any]:
    names = ("fitted", "fitted_error", "bias", "bias_error", "fitted_z")
    shape = (len(methods), len(PROTOCOLS))
    out: dict[str, FloatArray] = {name: np.empty(shape) for name in (*names, "spread_slope", "spread_slope_error")}
    seeds = found[0].sizes["seed"]
    spread, relative = np.empty((*shape, len(widths))), np.empty((*shape, len(widths), seeds))
    for (i, method), (j, protocol) in itertools.product(enumerate(methods), enumerate(PROTOCOLS)):
        law = gt.random_pruning(DENSITY) if protocol == "redrawn" else LAWS[method](DENSITY)
        limit = gt.limit_kernel(_middle(law), x)
        kernels = np.array([one.ntk.sel(protocol=protocol).values for one in found[i * len(widths) :][: len(widths)]])
        real = Dataset({"ntk": DataArray(kernels, dims=("width", "seed", "x", "x2"))}, {"width": list(widths)})
        held, trace = compare(real, limit), float(np.trace(limit.ntk.values))
        one = held.sel(quantity="trace")
        for name in names:
            out[name][i, j] = float(one[name]) / (1.0 if name == "fitted_z" else trace)
        for name in ("spread_slope", "spread_slope_error"):
            out[name][i, j] = float(held[name])
        spread[i, j] = held.spread.values
        relative[i, j] = np.trace(kernels, axis1=2, axis2=3) / trace
    over = ("pruning", "protocol")
    variables: dict[str, Any] = {name: (over, values) for name, values in out.items()}
    return {**variables, "spread": ((*over, "width"), spread), "relative": ((*over, "width", "seed"), relative)}


def _exponents(spread: FloatArray, widths: Any, densities: FloatArray, seeds: int) -> dict[str, Any]:
    """Powers of n and p in the spread; a logarithm of a deviation of S numbers is off by (2 (S - 1))^(-1/2).

    Networks of one width share their draws of weights over densities. That makes the power of p better known than its
    error says; the power of n is taken to be known no better than from one density.
    """
    found, error = np.empty((2, 2)), np.empty((2, 2))
    for k, chosen in enumerate((densities > 0, densities >= DENSE_ENOUGH)):
        n, p = np.meshgrid(widths, densities[chosen], indexing="ij")
        design = np.stack([np.ones(n.size), np.log(n.ravel()), np.log(p.ravel())], 1)
        inverse = np.linalg.inv(design.T @ design)
        found[k] = (inverse @ design.T @ np.log(spread[:, chosen].ravel()))[1:]
        error[k] = np.sqrt(np.diag(inverse)[1:] * (chosen.sum(), 1) / (2 * (seeds - 1)))
    return {"exponent": (("fit", "power"), found), "exponent_error": (("fit", "power"), error)}


def verdict(found: Dataset) -> str:
    """What sets the spread, and whether k + c/n meets the limit."""
    one = found.sel(fit="dense")
    (n, p), (n_error, p_error) = one.exponent.values, one.exponent_error.values
    apart = abs(n) / 2 > 3 * p_error  # p would be 0 or n; half way is far enough from both
    said = ("n, not n p, sets it" if abs(p) < abs(p - n) else "n p sets it") if apart else "too few to tell n from n p"
    return (
        f"spread of the trace ~ n^({n:.2f} ± {n_error:.2f}) p^({p:+.2f} ± {p_error:.2f}) for p >= {DENSE_ENOUGH:g}: "
        f"{said}. Means extrapolated to infinite width are within {float(abs(found.fitted_z).max()):.1f} standard "
        "errors of the limit."
    )


def protocol_table(found: Dataset) -> Table:
    title = f"traces over their limits, density {found.attrs['kept']:g}, {found.attrs['seeds']} networks a width"
    heads = ("masks", "protocol", "k ± error", "c ± error", "z of k", "slope ± error")
    caption = "k + c/n fitted to means; slope of the spread in log-log, -1/2 expected"
    table = table_of(title, heads, words=["masks", "protocol"], caption=caption)
    for method, protocol in itertools.product(found.pruning.values, found.protocol.values):
        one = found.sel(pruning=method, protocol=protocol)
        table.add_row(
            str(method),
            str(protocol),
            f"{float(one.fitted):.4f} ± {float(one.fitted_error):.4f}",
            f"{float(one.bias):+.2f} ± {float(one.bias_error):.2f}",
            f"{float(one.fitted_z):+.1f}",
            f"{float(one.spread_slope):+.3f} ± {float(one.spread_slope_error):.3f}",
        )
    return table


def spread_table(found: Dataset) -> Table:
    """Spread of the trace times the square root of the width: constant along rows if n sets it."""
    seeds = found.attrs["spread_seeds"]
    title = f"deviation over mean of the trace, times n^(1/2); {seeds} drawn networks each"
    heads = ("density", *(f"n = {int(width):,}" for width in found.drawn_width.values))
    table = table_of(title, heads, words=["density"])
    for density in found.density.values:
        values = found.trace_spread.sel(density=density).values * np.sqrt(found.drawn_width.values)
        table.add_row(f"{density:g}", *(f"{value:.2f}" for value in values))
    return table
