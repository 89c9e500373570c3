"""Traces of pruned ReLU networks as sums over paths, and what (W, V) sees of them (THEORY §9)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import whole_number, whole_numbers
from graphon_theory.errors import NetworkError
from graphon_theory.networks.network import Network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import apply_protocol, theories
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

BATCH, PROBES = 200, 40
HIDDEN, DENSITY = 3, 0.2
REDRAWS = 8  # of signs, for each network
FEW, MANY = 4, 16  # blocks of units per hidden layer
QUICK: dict[str, Any] = {"widths": [32], "seeds": 3}
PATHS = ("whole", "flat", "with output", "with input")


def path_sum(layers: Sequence[tuple[FloatArray, FloatArray]], x: FloatArray) -> float:
    """The trace of a bias-free ReLU network's NTK, expected over the signs of its weights: a sum over paths.

    ``layers``: (m, m w^2) of every weight layer, each (out, in) and times sigma_w^2 / n_in. With random signs every
    gate on a path is a fair coin, whatever the others do, so that

        E sum_o NTK_oo(x, x) = sum_l 2^(1-L) sum over paths of m_l prod_(k != l) (m w^2)_k x_j^2,

    exactly, at any width; the sum over the inputs ``x`` (N, d) is returned.
    """
    below = [(x**2).sum(0)]
    for _, squares in layers[:-1]:
        below.append(squares @ below[-1] / 2)
    above, total = np.ones(len(layers[-1][0])), 0.0
    for (mask, squares), received in zip(layers[::-1], below[::-1], strict=True):
        total += float(above @ mask @ received)
        above = above @ squares / 2
    return total


def squared_layers(model: MaskedMLP) -> list[tuple[FloatArray, FloatArray]]:
    """What :func:`path_sum` takes, of a network. Raises NetworkError where gates are no fair coins."""
    if (
        not model.is_plain
        or set(model.activations) - {"relu"}
        or any(layer.bias is not None for layer in model.linears)
    ):
        raise NetworkError("model: gates are fair coins in ReLU networks without biases only.")
    return [
        (
            layer.mask.double().cpu().numpy() * layer.scale**2,
            layer.effective_weight().detach().double().square().cpu().numpy(),
        )
        for layer in model.linears
    ]


def path_sum_experiment(
    out: str | os.PathLike[str],
    widths: Sequence[int],
    seeds: int,
    *,
    method: str = "synflow",
    data: Data | None = None,
    source: str = "digits",
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Where the trace of pruned networks comes from: sums over paths beside (W, V) with V = 1 in the dense layers.

    Three hidden layers, the input and output layers dense, density 0.2 over the two between; traces over 40 digits.
    All are over the trace of (W, V) with V = 1 in both dense layers, estimated with 4 blocks:

    - paths: "whole" with all weights as they are, "flat" with squares of 1 in both dense layers, "with output" and
      "with input" with the weights of that dense layer;
    - "(W, V), 4 blocks" and "(W, V), 16 blocks": the estimate that keeps V of the dense layers, over its own with
      V = 1;
    - the networks: "own" weights, and "signs": the mean over eight redraws of signs.

    ``data`` = (x, labels), called ``source`` in what is kept, digits if None; networks are kept as they finish. Writes
    ``path-sums-METHOD.nc``. Returns a Dataset over "of", "width" and "seed": ``factor``.
    """
    results = results_in(out, console)
    widths = list(whole_numbers("widths", widths, distinct=True))
    x, labels = digits() if data is None else data
    train, probe = (x[:BATCH], labels[:BATCH]), x[BATCH : BATCH + PROBES]
    classes = int(labels.max()) + 1
    kinds = (*PATHS, f"(W, V), {FEW} blocks", f"(W, V), {MANY} blocks", "own", "signs")
    settings = {"method": method, "density": DENSITY, "hidden": HIDDEN}

    def make(one: Mapping[str, Any]) -> Dataset:
        width, seed = one["width"], one["seed"]
        model = dense((x.shape[1], *[width] * HIDDEN, classes), [seed, width])
        prune(model, method, DENSITY, train, layers=range(1, HIDDEN), rng=[seed, width, 1])
        kept, flat = _estimated(model, probe, FEW)
        many, flat_many = _estimated(model, probe, MANY)
        real = squared_layers(model)
        ends = [(mask, mask) for mask, _ in (real[0], real[-1])]  # squares of 1, all of them kept
        sums = [
            path_sum([first, *real[1:-1], last], probe)
            for first, last in ((real[0], real[-1]), ends, (ends[0], real[-1]), (real[0], ends[1]))
        ]
        signs = [_trace(apply_protocol(model, "signs", [seed, width, 2, k]), probe) for k in range(REDRAWS)]
        networks = np.array([*sums, kept, _trace(model, probe), np.mean(signs)]) / flat
        return Dataset({"factor": ("of", np.insert(networks, len(sums) + 1, many / flat_many))})

    parts = Parts(results.folder, "path-sums", {**settings, "data": source})
    over: dict[str, Sequence[Any]] = {"width": widths, "seed": range(whole_number("seeds", seeds))}
    factors = parts.over(over, make, progress=progress).factor.transpose("of", ...).values
    found = Dataset(
        {"factor": (("of", "width", "seed"), np.ascontiguousarray(factors))},
        {"of": list(kinds), "width": list(widths)},
        settings,
    )
    title = f"{method}: traces over that of (W, V) with V = 1 in the dense layers, {seeds} networks"
    table = table_of(title, ("of", *(f"width {width:,}" for width in widths)), words=["of"])
    for kind in kinds:
        row = found.factor.sel(of=kind)
        cells = zip(row.mean("seed").values, row.std("seed", ddof=1).values / seeds**0.5, strict=True)
        table.add_row(kind, *(f"{mean:.3f} ± {error:.3f}" for mean, error in cells))
    return results.finish(found, f"path-sums-{method}", [table])


def _estimated(model: MaskedMLP, x: FloatArray, blocks: int) -> tuple[float, float]:
    """Traces of (W, V), with V of the dense layers as estimated and with V = 1 there."""
    name = "(W, V)"
    network = theories(model, blocks=blocks, names=[name])[name]
    return _limit_trace(network, x), _limit_trace(network.with_layers([1.0, *network.layers[1:-1], 1.0]), x)


def _limit_trace(network: Network, x: FloatArray) -> float:
    return float(np.einsum("oii->", gt.limit_kernel(network, x).ntk.values))


def _trace(model: MaskedMLP, x: FloatArray) -> float:
    return float(np.einsum("oii->", empirical_kernel(model, x).ntk.values))
