"""Networks pruned by SNIP against the limit that knows how data chose their masks (THEORY §10)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.data.checks import whole_numbers
from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.sign_experiments import print_sign_tests
from graphon_validation.experiments.summaries import energy, ratio_of_means, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import network_like, theories
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

BATCH, PROBES, TOP = 200, 40, 10
QUICK: dict[str, Any] = {"widths": [32], "seeds": 3, "hidden": 2, "positions": 32}


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
    source: str = "digits",
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """SNIP-pruned networks with their own weights, and ``gt.saliency_network`` drawn as often, on new inputs.

    All layers are pruned with one threshold on 200 digits; kernels are those of 40 others. Positions are drawn
    independently of the tested networks. The (W, V) of every network, estimated from its masks and weights with input
    rows as positions, stands beside it, and whether it applies to the first. ``data`` = (x, labels), called
    ``source`` in what is kept, digits if None; networks are kept as they finish. Prints tables, writes
    ``saliency-ACTIVATION-LOSS-DENSITY.nc``.

    Returns a Dataset over "width" and "seed": ``trace`` and ``energy`` (share of the top ten) of the "kind" own,
    limit and (W, V), and ``kept`` ("layer"), the densities of own and limit; and over "width" ``ratio`` = mean own
    trace over mean limit trace with ``ratio_error``, from the spread over seeds of both.

    Raises InputError for fewer than 3 seeds.
    """
    results = results_in(out, console)
    if seeds < 3:
        raise InputError(f"seeds: expected at least 3, got {seeds}.")
    widths = list(whole_numbers("widths", widths, distinct=True))
    x, labels = digits() if data is None else data
    batch, probe = x[:BATCH], x[BATCH : BATCH + PROBES]
    classes = int(labels.max()) + 1
    targets = labels[:BATCH] if loss == "cross_entropy" else np.eye(classes)[labels[:BATCH]]
    kinds = ("own", "limit", "(W, V)")
    settings = {"density": density, "loss": loss, "positions": positions, "activation": activation}
    settings |= {"bias": bias_variance, "hidden": hidden, "modes": "default" if modes is None else modes}

    def counts(width: int) -> tuple[int, ...]:
        return (x.shape[1], *[width] * hidden, classes)

    def network(width: int, seed: int) -> MaskedMLP:
        model = dense(counts(width), [seed, width], activation=activation, bias_variance=bias_variance)
        return prune(model, "snip", density, (batch, targets), loss=loss)

    def make(one: Mapping[str, Any]) -> Dataset:
        width, seed = one["width"], one["seed"]
        model = network(width, seed)
        limit = gt.saliency_network(
            network_like(model, [1.0] * (hidden + 1)),
            batch,
            targets,
            density,
            counts(width),
            loss=loss,
            positions=positions,
            modes=modes,
            rng=np.random.default_rng([seed, width]),
        )
        plain = theories(model, blocks=8, names=["(W, V)"], input_rows=True)["(W, V)"]
        kernels = (empirical_kernel(model, probe), gt.limit_kernel(limit, probe), gt.limit_kernel(plain, probe))
        means = [kernel.ntk.mean("output").values for kernel in kernels]
        kept = [float(mask.double().mean()) for mask in model.masks], [layer.mask.mean() for layer in limit.layers]
        return Dataset(
            {
                "trace": ("kind", [np.trace(mean) for mean in means]),
                "energy": ("kind", [energy(mean, TOP) for mean in means]),
                "kept": (("kind_kept", "layer"), np.array(kept)),
            }
        )

    parts = Parts(results.folder, "saliency", {**settings, "data": source})
    print_sign_tests(
        results, parts, widths, network, probe, f"SNIP, width {{width}}, density {density:g}", progress=progress
    )
    measured = parts.over({"width": widths, "seed": range(seeds)}, make, progress=progress)
    over = ("kind", "width", "seed")
    trace, shares = (np.ascontiguousarray(measured[name].transpose(*over).values) for name in ("trace", "energy"))
    ratio, error = ratio_of_means(trace[0], trace[1])
    found = Dataset(
        {
            "trace": (over, trace),
            "energy": (over, shares),
            "kept": measured.kept.variable.transpose("kind_kept", "width", "seed", "layer"),
            "ratio": (("width",), ratio),
            "ratio_error": (("width",), error),
        },
        {"kind": list(kinds), "kind_kept": list(kinds[:2]), "width": list(widths), "layer": range(1, hidden + 2)},
        settings,
    )
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
