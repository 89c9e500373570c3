"""Networks pruned by SNIP against the limit that knows how data chose their masks (THEORY §10)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.summaries import energy, ratio_of_means, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import network_like, theories
from graphon_validation.studies.sign_tests import applicability, applicability_table
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

BATCH, PROBES, TOP = 200, 40, 10


def saliency_experiment(
    out: str | os.PathLike[str],
    density: float,
    widths: Sequence[int],
    seeds: int,
    *,
    hidden: int = 3,
    activation: str = "relu",
    bias_variance: float = 0.0,
    loss: str = "cross_entropy",
    positions: int = 512,
    modes: int | None = None,
    data: Data | None = None,
    console: Console | None = None,
) -> Dataset:
    """SNIP-pruned networks with their own weights, and ``gt.saliency_network`` drawn as often, on new inputs.

    All layers are pruned with one threshold on 200 digits; kernels are those of 40 others. Positions are drawn
    independently of the tested networks. The (W, V) of every network, estimated from its masks and weights with input
    rows as positions, stands beside it, and whether it applies to the first. Prints tables, writes
    ``saliency-ACTIVATION-LOSS-DENSITY.nc``.

    Returns a Dataset over "width" and "seed": ``trace`` and ``energy`` (share of the top ten) of the "kind" own,
    limit and (W, V), and ``kept`` ("layer"), the densities of own and limit; and over "width" ``ratio`` = mean own
    trace over mean limit trace with ``ratio_error``, from the spread over seeds of both.

    Raises InputError for fewer than 3 seeds.
    """
    results = results_in(out, console)
    if seeds < 3:
        raise InputError(f"seeds: expected at least 3, got {seeds}.")
    x, labels = digits() if data is None else data
    batch, probe = x[:BATCH], x[BATCH : BATCH + PROBES]
    classes = int(labels.max()) + 1
    targets = labels[:BATCH] if loss == "cross_entropy" else np.eye(classes)[labels[:BATCH]]
    kinds = ("own", "limit", "(W, V)")
    trace = np.empty((len(kinds), len(widths), seeds))
    shares, kept = np.empty_like(trace), np.empty((2, len(widths), seeds, hidden + 1))
    other: MaskedMLP | None = None
    for i, width in enumerate(widths):
        counts = (x.shape[1], *[width] * hidden, classes)
        for seed in range(seeds):
            model = dense(counts, [seed, width], activation=activation, bias_variance=bias_variance)
            unpruned = network_like(model, [1.0] * (hidden + 1))
            prune(model, "snip", density, (batch, targets), loss=loss)
            if seed == 0:
                title = f"SNIP, width {width:,}, density {density:g}"
                results.console.print(applicability_table(applicability(model, probe, other=other), title))
                other = model if other is None else other  # the first width, to tell growth by
            limit = gt.saliency_network(
                unpruned,
                batch,
                targets,
                density,
                counts,
                loss=loss,
                positions=positions,
                modes=modes,
                rng=np.random.default_rng([seed, width]),
            )
            plain = theories(model, blocks=8, names=["(W, V)"], input_rows=True)["(W, V)"]
            kernels = (empirical_kernel(model, probe), gt.limit_kernel(limit, probe), gt.limit_kernel(plain, probe))
            for k, kernel in enumerate(kernels):
                mean = kernel.ntk.mean("output").values
                trace[k, i, seed], shares[k, i, seed] = np.trace(mean), energy(mean, TOP)
            kept[0, i, seed] = [float(mask.double().mean()) for mask in model.masks]
            kept[1, i, seed] = [layer.mask.mean() for layer in limit.layers]
    ratio, error = ratio_of_means(trace[0], trace[1])
    over = ("kind", "width", "seed")
    found = Dataset(
        {
            "trace": (over, trace),
            "energy": (over, shares),
            "kept": (("kind_kept", "width", "seed", "layer"), kept),
            "ratio": (("width",), ratio),
            "ratio_error": (("width",), error),
        },
        {"kind": list(kinds), "kind_kept": list(kinds[:2]), "width": list(widths), "layer": range(1, hidden + 2)},
        {"density": density, "loss": loss, "positions": positions, "activation": activation, "bias": bias_variance},
    )
    found.attrs |= {"hidden": hidden, "modes": "default" if modes is None else modes}
    table = _table(found, f"SNIP, {loss}, density {density:g}, {seeds} networks and {seeds} limits")
    return results.finish(found, f"saliency-{activation}-{loss}-{density:g}", [table])


def _table(found: Dataset, title: str) -> Table:
    heads = ("width", "own / limit", "own / (W, V)", "top-10 energy", "limit", "(W, V)", "kept by layer")
    table = table_of(title, heads, caption="traces over the same inputs; densities by layer: own / limit")
    for width in found["width"].values:
        row = found.sel(width=width)
        trace, shares = row.trace.mean("seed"), row.energy.mean("seed")
        kept = row.kept.mean("seed").values
        table.add_row(
            f"{width:,}",
            f"{float(row.ratio):.3f} ± {float(row.ratio_error):.3f}",
            f"{float(trace.sel(kind='own') / trace.sel(kind='(W, V)')):.2f}",
            *(f"{float(shares.sel(kind=kind)):.3f}" for kind in ("own", "limit", "(W, V)")),
            ", ".join(f"{a:.3f} / {b:.3f}" for a, b in kept.T),
        )
    return table
