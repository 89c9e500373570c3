"""Networks with shortcuts and LayerNorm drawn from block graphons, against their limits (THEORY §11)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from xarray import Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Dense, LayerNorm, Norm, Pointwise, Residual
from graphon_theory.networks.unit_values import equal_widths
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import comparison_tables, results_in
from graphon_validation.experiments.sweep_experiments import (
    ENTRIES,
    gaussian_inputs,
    kept_sweep,
    merged,
    three_block_network,
)
from graphon_validation.kernels.empirical_kernels import Pass
from graphon_validation.networks.masked_mlps import MaskedMLP, Moments, build, layer_moments
from graphon_validation.studies.sweep_comparisons import compare
from graphon_validation.studies.tables import table_of

TITLES = {
    "residual": "shortcuts beside branches of three-block (W, V)",
    "layer-norm": "LayerNorm before and behind activations, three-block (W, V)",
}
QUICK: dict[str, Any] = {"widths": [32, 64], "seeds": 4}
_HELD = 8  # networks in which moments are held still: differences within one network scatter little


def staged_network(kind: str, *, scale: float = 0.7) -> Network:
    """Of ``kind`` "residual": a branch of two layers, times ``scale``, and one of one layer; "layer-norm": three norms.

    The graphons are those of :func:`three_block_network`, V unlike W; dense inputs, biases of their own for every
    layer, an erf among the ReLUs, and one LayerNorm behind an activation.
    """
    _, hidden, turned, readout = three_block_network().layers
    first, last = Dense(1.0, 1.5, 0.1), Dense(readout, 1.5, 0.1)
    relu, erf = Pointwise("relu"), Pointwise("erf")
    if kind == "residual":
        two = Residual(relu, Dense(hidden, 1.5, 0.1), erf, Dense(turned, 1.5, 0.0), scale=scale)
        return Network([first, two, Residual(relu, Dense(hidden, 1.5, 0.2), scale=0.5), relu, last])
    norm = LayerNorm(1e-3)
    return Network([first, norm, relu, Dense(hidden, 1.5, 0.1), erf, norm, Dense(turned, 1.5, 0.0), norm, relu, last])


def stage_experiment(
    out: str | os.PathLike[str],
    widths: Sequence[int],
    seeds: int,
    *,
    console: Console | None = None,
    progress: bool = True,
) -> dict[str, Dataset]:
    """Drawn residual and LayerNorm networks against their limits, trace and three entries.

    The residual networks are also held against the limit without the scale of their first shortcut, which must fail.
    Of LayerNorm its own derivative, through M and q, is measured: what it moves the kernel of a network by, which the
    limit leaves out as O(1/n) (``own_derivative`` over ("width", "network")).

    Widths are kept as they finish. Writes ``stages-NAME.nc``. Returns the comparisons by name.
    """
    results = results_in(out, console)
    x = gaussian_inputs()
    networks = {kind: staged_network(kind) for kind in TITLES}
    parts = Parts(results.folder, "stages", {})
    drawn = {kind: kept_sweep(parts, kind, one, x, widths, seeds, progress=progress) for kind, one in networks.items()}

    def moved(one: Mapping[str, Any]) -> Dataset:
        values = own_derivative(networks["layer-norm"], x, [one["width"]], one["networks"])
        return Dataset({"own_derivative": ("network", values[0])})

    still = [{"width": width, "networks": min(seeds, _HELD)} for width in widths]
    found: dict[str, Dataset] = {}
    for name, kind, title, theory in (
        *((kind, kind, title, networks[kind]) for kind, title in TITLES.items()),
        (
            "scale-1",
            "residual",
            "the residual networks against scale 1: must fail",
            staged_network("residual", scale=1),
        ),
    ):
        one = compare(drawn[kind], limit_kernel(theory, x), ENTRIES)
        if kind == "layer-norm":
            held = parts.all(still, moved, "moments held still", progress=progress)
            one["own_derivative"] = ("width", "network"), [part.own_derivative.values for part in held]
        found[name] = merged(drawn[kind], one)
        results.finish(found[name], f"stages-{name}", comparison_tables(found[name], title))
    results.console.print(_derivative_table(found["layer-norm"]))
    return found


def own_derivative(network: Network, x: FloatArray, widths: Sequence[int], seeds: int) -> FloatArray:
    """What the derivative of LayerNorm through M and q moves kernels by, relative, in Frobenius norm: (widths, seeds).

    Of the networks that :func:`width_sweep` draws with these widths and seeds.
    """
    rows = []
    for width in widths:
        for seed in range(seeds):
            model = build(network, equal_widths(network, x.shape[1], width), np.random.SeedSequence([seed, width]))
            whole, still = (kernel_through(model, x, moments) for moments in (layer_moments, _still_moments))
            rows.append(np.linalg.norm(whole - still) / np.linalg.norm(whole))
    return np.reshape(rows, (len(widths), seeds))


def kernel_through(model: MaskedMLP, x: FloatArray, moments: Moments) -> FloatArray:
    """The tangent kernel (N, N) of few inputs and one output, with ``moments`` of LayerNorms as torch sees them.

    NTK_l = scale^2 sum_ij M_ij (g_i g'_i) (a_j a'_j) + bias_scale^2 sum_i g_i g'_i, pair by pair.
    """
    with torch.no_grad():
        weights = [layer.effective_weight() for layer in model.linears]
    with torch.enable_grad():
        one = Pass.of(model, weights, torch.from_numpy(x), moments)
        gradients = [layer[0] for layer in one.gradients([0])]
    total = torch.zeros(len(x), len(x), dtype=torch.float64)
    for layer, g, a in zip(model.linears, gradients, one.signals, strict=True):
        pairs, products = ((s[:, :, None] * s[:, None, :]).flatten(1) for s in (g, a))
        reached = layer.mask.to(torch.float64) @ products
        total += layer.scale**2 * (pairs * reached).sum(0).reshape(len(x), -1)
        if layer.bias is not None:
            total += layer.bias_scale**2 * pairs.sum(0).reshape(len(x), -1)
    return np.asarray(total.numpy())


def _still_moments(part: Norm, x: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    mean, deviation = layer_moments(part, x, axis)
    return mean.detach(), deviation.detach()


def _derivative_table(found: Dataset) -> Table:
    title = "what LayerNorm's derivative through M and q moves kernels by, relative"
    table = table_of(title, ("width", "moved ± error", "times the width"))
    moved = found["own_derivative"]
    for width, row in zip(found["width"].values, moved.values, strict=True):
        error = row.std(ddof=1) / len(row) ** 0.5
        table.add_row(f"{int(width):,}", f"{row.mean():.5f} ± {error:.5f}", f"{width * row.mean():.2f}")
    return table
