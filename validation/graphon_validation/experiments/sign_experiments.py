"""How the sign test of THEORY §10 behaves: on layers that are sound, and on every way to prune."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import whole_number, whole_numbers
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.parts import Parts, every
from graphon_validation.experiments.summaries import Results, results_in
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.sign_tests import applicability, applicability_table, layer_signals
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

BATCH, PROBES = 200, 100
HIDDEN, DENSITY = 3, 0.2
FLAGGED = 3.0  # |z|
AT_ONCE = 50  # networks of a part of scores, which take tens of milliseconds each
SCORES_QUICK: dict[str, Any] = {"widths": [32], "seeds": 60}
QUICK: dict[str, Any] = {"methods": ["random", "snip"], "widths": [32, 64], "seeds": 1}


def sign_score_experiment(
    out: str | os.PathLike[str],
    widths: Sequence[int],
    seeds: int,
    *,
    data: Data | None = None,
    source: str = "digits",
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Scores of layers whose masks know nothing: random masks at density 0.2 in all layers, 100 digits.

    Prints how many lie beyond 3 on either side, of the score that :func:`applicability` uses and of the same sum
    against its mean and deviation alone; of a normal score 0.135% would. ``data`` = (x, labels), called
    ``source`` in what is kept, digits if None; fifty networks each are kept as they finish. Writes ``sign-scores.nc``.

    Returns a Dataset over "width", "seed" and "layer": ``deviation`` and ``z`` (:class:`LayerSignal`).
    """
    results = results_in(out, console)
    widths = list(whole_numbers("widths", widths, distinct=True))
    x, labels = digits() if data is None else data
    probe, classes = x[BATCH : BATCH + PROBES], int(labels.max()) + 1

    def make(one: Mapping[str, Any]) -> Dataset:
        models = (_random(x.shape[1], one["width"], classes, one["first"] + k) for k in range(one["networks"]))
        found = [layer_signals(model, probe) for model in models]
        values = {name: [[getattr(layer, name) for layer in layers] for layers in found] for name in ("deviation", "z")}
        return Dataset({name: (("seed", "layer"), many) for name, many in values.items()})

    starts = every({"width": widths, "first": range(0, whole_number("seeds", seeds), AT_ONCE)})
    described = [{**one, "networks": min(AT_ONCE, seeds - one["first"])} for one in starts]
    settings = {"density": DENSITY, "hidden": HIDDEN, "data": source}
    kept = Parts(results.folder, "sign-scores", settings).all(described, make, progress=progress)
    shape = (len(widths), seeds, HIDDEN)
    scores = [np.concatenate([part[name].values for part in kept]).reshape(shape) for name in ("deviation", "z")]
    over = ("width", "seed", "layer")
    coords = {"width": list(widths), "layer": range(1, HIDDEN + 1)}
    result = Dataset({"deviation": (over, scores[0]), "z": (over, scores[1])}, coords, {"density": DENSITY})
    heads = ("width", "layers", "score", f"above +{FLAGGED:g}", f"below -{FLAGGED:g}")
    caption = "0.135% of normal scores are due on each side"
    table = table_of(f"random masks, density {DENSITY:g}", heads, words=["score"], caption=caption)
    for width in widths:
        for name, title in (("deviation", "mean and deviation"), ("z", "lognormal, three moments")):
            above, below = beyond(result[name].sel(width=width).values)
            table.add_row(f"{width:,}", f"{seeds * HIDDEN:,}", title, f"{above:.3%}", f"{below:.3%}")
    return results.finish(result, "sign-scores", [table])


def print_sign_tests(
    results: Results,
    parts: Parts,
    widths: Sequence[int],
    network: Callable[[int, int], MaskedMLP],
    probe: FloatArray,
    of: str,
    *,
    progress: bool = True,
) -> None:
    """Print :func:`applicability` of the first ``network(width, seed)`` of every width, kept among ``parts``.

    Growth is told by the first width. ``of`` names in the titles what was pruned how, {width} in it.
    """

    def tested(one: Mapping[str, Any]) -> Dataset:
        other = None if one["other"] is None else network(one["other"], 0)
        return applicability(network(one["width"], 0), probe, other=other)

    pairs = [{"width": width, "other": widths[0] if width != widths[0] else None} for width in widths]
    for width, test in zip(widths, parts.all(pairs, tested, "the sign test", progress=progress), strict=True):
        results.console.print(applicability_table(test, of.format(width=f"{width:,}")))


def beyond(scores: np.ndarray) -> tuple[float, float]:
    """Shares of scores above +3 and below -3."""
    return float((scores > FLAGGED).mean()), float((scores < -FLAGGED).mean())


def _random(inputs: int, width: int, classes: int, seed: int) -> MaskedMLP:
    model = dense((inputs, *[width] * HIDDEN, classes), [seed, width])
    return prune(model, "random", DENSITY, rng=[seed, width, 1])


def sign_test_experiment(
    out: str | os.PathLike[str],
    methods: Sequence[str],
    densities: Sequence[float],
    widths: Sequence[int],
    hidden: Sequence[int],
    seeds: int,
    *,
    data: Data | None = None,
    source: str = "digits",
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """:func:`applicability` of pruned networks: every method, density, depth and width.

    Bias-free ReLU networks, all layers pruned with one threshold on 200 digits; the test sees 100 others. With
    several widths ``growth`` of the last against the first is measured too. ``data`` = (x, labels), called ``source``
    in what is kept, digits if None; networks are kept as they finish. Prints a table, writes ``sign-test.nc``.

    Returns a Dataset over "pruning", "density", "hidden", "width", "seed" and "layer" (nan beyond the hidden layers
    there are): A, z, gain, alignment; and without "width" ``growth`` and ``growth_error``.
    """
    results = results_in(out, console)
    widths = list(whole_numbers("widths", widths, distinct=True))
    x, labels = digits() if data is None else data
    batch, probe = (x[:BATCH], labels[:BATCH]), x[BATCH : BATCH + PROBES]
    names, classes = ("A", "z", "gain", "alignment"), int(labels.max()) + 1
    shape = (len(methods), len(densities), len(hidden), len(widths), seeds, max(hidden))
    values = np.full((len(names), *shape), np.nan)
    growth = np.full((2, *shape[:3], *shape[4:]), np.nan)

    def network(one: Mapping[str, Any], width: int) -> MaskedMLP:
        model = dense((x.shape[1], *[width] * one["hidden"], classes), [one["seed"], width])
        return prune(model, one["pruning"], one["density"], batch, rng=[one["seed"], width, 1])

    def make(one: Mapping[str, Any]) -> Dataset:
        other = None if one["other"] is None else network(one, one["other"])
        return applicability(network(one, one["width"]), probe, other=other)

    networks = every(
        {
            "pruning": methods,
            "density": densities,
            "hidden": hidden,
            "width": widths,
            "seed": range(whole_number("seeds", seeds)),
        }
    )
    last = widths[-1] if len(widths) > 1 else None
    described = [{**one, "other": widths[0] if one["width"] == last else None} for one in networks]
    kept = Parts(results.folder, "sign-test", {"data": source}).all(described, make, progress=progress)
    for where, found in zip(np.ndindex(*shape[:-1]), kept, strict=True):
        layers = slice(found.sizes["layer"])
        for k, name in enumerate(names):
            values[(k, *where)][layers] = found[name].values
        if "growth" in found:
            growth[(slice(None), *where[:3], where[4])][:, layers] = [found.growth.values, found.growth_error.values]
    over = ("pruning", "density", "hidden", "width", "seed", "layer")
    without = tuple(name for name in over if name != "width")
    result = Dataset(
        {
            **{name: (over, one) for name, one in zip(names, values, strict=True)},
            **{name: (without, one) for name, one in zip(("growth", "growth_error"), growth, strict=True)},
        },
        {
            "pruning": list(methods),
            "density": list(densities),
            "hidden": list(hidden),
            "width": list(widths),
            "layer": range(1, max(hidden) + 1),
        },
    )
    return results.finish(result, "sign-test", [_table(result)])


def _table(found: Dataset) -> Table:
    heads = ("method", "density", "hidden", "width", "A by layer", "z", "alignment beyond the first")
    title = f"the sign test, {found.sizes['seed']} networks each"
    caption = "A: mean; z and alignment: from the least to the largest"
    table = table_of(title, heads, words=["method"], caption=caption)
    for method in found["pruning"].values:
        for where in np.ndindex(*(found.sizes[name] for name in ("density", "hidden", "width"))):
            row = found.sel(pruning=method).isel(dict(zip(("density", "hidden", "width"), where, strict=True)))
            row = row.sel(layer=slice(1, int(row["hidden"])))
            beyond_first = row.alignment.sel(layer=slice(2, None)).values
            table.add_row(
                str(method),
                f"{float(row.density):g}",
                f"{int(row['hidden'])}",
                f"{int(row.width):,}",
                " ".join(f"{a:.3g}" for a in row.A.mean("seed").values),
                f"{float(row.z.min()):+.1f} to {float(row.z.max()):+.1f}",
                f"{beyond_first.min():+.2f} to {beyond_first.max():+.2f}" if beyond_first.size else "",
            )
    return table
