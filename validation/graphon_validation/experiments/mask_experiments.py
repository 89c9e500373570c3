"""Block densities of masks over widths: do a method's masks converge, and how much of it is what sorting makes ([GL]).

Networks are drawn, pruned and averaged where the device is; of a network only its block densities are kept.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import share_kept, whole_number, whole_numbers
from graphon_theory.estimation.mask_estimates import by_rank, cuts, sorted_noise
from graphon_theory.networks.network import Network
from graphon_validation.experiments.contenders import called
from graphon_validation.experiments.idx_data import WARPED, load_data
from graphon_validation.experiments.mask_figures import mask_distance_figure, mask_figure
from graphon_validation.experiments.parts import Parts, one_kind
from graphon_validation.experiments.summaries import different, different_numbers, results_in
from graphon_validation.experiments.synflow_experiments import drawn_densities
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.pruning.scores import one_shot_methods
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

PRUNED = ("random", "magnitude", "snip", "grasp", "synflow")
DENSITIES = (0.3, 0.2, 0.1)
WIDTHS = (100, 500, 1000, 2000)
LARGEST, AT = 10_000, 0.2  # the width to which distances are taken, and the one density at which it is drawn
BINS = 64
BATCH = 256  # inputs for the scores that need data
NULLS = 40  # masks of a constant graphon, behind each of its distances
INIT = "he"
_RUN = 1024  # rows of a mask that are float32 at a time
QUICK: dict[str, Any] = {
    "widths": [40, 80],
    "largest": 160,
    "seeds": 2,
    "densities": [0.2],
    "hidden": 3,
    "bins": 8,
    "positions": 16,
}


def mask_convergence_experiment(
    out: str | os.PathLike[str],
    methods: Sequence[str] = PRUNED,
    densities: Sequence[float] = DENSITIES,
    widths: Sequence[int] = WIDTHS,
    seeds: int = 3,
    *,
    largest: int = LARGEST,
    at: float = AT,
    hidden: int = 4,
    bins: int = BINS,
    positions: int = 256,
    data: Data | None = None,
    source: str = WARPED,
    device: torch.device | str | None = None,
    only: str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset | None:
    """Block densities of every layer between hidden units, over widths and densities, and how far they are apart.

    Masks are made at initialisation (He), all layers by one threshold; units of a layer are sorted by their degrees and
    averaged over ``bins``, each layer on its own (SAS, as [GL]; :func:`graphon_theory.estimate_graphon`). Distances are
    Frobenius norms of the difference of two tables of block densities, which is what [GL] prints: to the widest network
    of that density (``largest`` at the density ``at``, else the last of ``widths``), and between two draws of one
    width. Beside them stands what two masks of a constant graphon of the layers' densities give at these widths. For
    SynFlow at ``at`` also the law of its rounds (``gt.synflow_network`` with ``positions``), a draw at each width.

    ``device`` is where networks live. ``only``: "networks" or "limits" keeps these parts and nothing else, and returns
    None, so that a machine with a GPU does what needs one, and others the rest.

    Prints a table, writes ``mask-convergence.nc``, ``mask-convergence.png`` (every layer of the widest networks) and
    ``mask-distances.png``. ``data`` = (x, labels), called ``source`` in what is kept; warped digits if None.

    Returns a Dataset over "pruning", "setting" (coordinates ``width``, ``density``), "layer" (2..L-1): ``table``
    ("seed", "u", "v"), ``distance`` ("seed") to the widest, NaN for itself; ``between`` (mean over pairs of seeds);
    ``null``, ``null_error`` (mean and deviation) and ``null_between`` of a constant graphon; ``kept`` ("seed",
    "weight_layer"), densities; and of SynFlow ``law`` ("setting", "layer", "u", "v"), ``law_distance`` (of the law at
    this width to the law at the largest) and ``to_law`` ("seed"), NaN where there is none.
    """
    results = results_in(out, console, figures=one_kind(only) is None)
    methods = different("methods", methods, one_shot_methods())
    densities = different_numbers("densities", densities, share_kept)
    bins = whole_number("bins", bins, 2)
    widths = sorted(whole_numbers("widths", widths, bins, distinct=True))
    for name, value, least in (("seeds", seeds, 2), ("hidden", hidden, 2), ("largest", largest, widths[-1] + 1)):
        whole_number(name, value, least)
    x, labels = load_data(source, BATCH) if data is None else data
    x, labels = x[:BATCH], labels[:BATCH]
    settings = [(width, density) for width in widths for density in densities]
    settings += [(largest, at)] if at in densities else []
    shared = {"hidden": hidden, "bins": bins, "init": INIT, "data": source}
    parts = Parts(results.folder, "masks", shared)
    outputs = int(labels.max()) + 1

    def counts(width: int) -> tuple[int, ...]:
        return (x.shape[1], *[width] * hidden, outputs)

    drawn: dict[tuple[int, int], MaskedMLP] = {}  # the last dense network: methods and densities share it

    def make(one: Mapping[str, Any]) -> Dataset:
        width, seed = one["width"], one["seed"]
        if (width, seed) not in drawn:
            drawn.clear()
            drawn[width, seed] = dense(counts(width), [seed, width], init=INIT, device=device, dtype=torch.float32)
        model = drawn[width, seed]
        for mask in model.masks:
            mask.fill_(True)
        prune(model, one["pruning"], one["density"], (x, labels), rng=[seed, width, 1])
        tables = np.stack([block_densities(mask, bins) for mask in model.masks[1:-1]])
        kept = np.array([float(mask.double().mean()) for mask in model.masks])
        return Dataset(
            {"table": (("layer", "u", "v"), tables.astype(np.float32)), "kept": ("weight_layer", kept)},
            {"layer": np.arange(2, hidden + 1)},
        )

    described = [
        {"width": width, "seed": seed, "density": density, "pruning": method}
        for width, seed in itertools.product([*widths, largest], range(seeds))
        for density in densities
        if (width, density) in settings
        for method in methods
    ]
    found = [] if only == "limits" else parts.all(described, make, "masks", progress=progress)
    if only == "networks":
        return None
    tables: dict[int, FloatArray] = {}
    if "synflow" in methods and at in densities:
        laws = Parts(results.folder, "mask-law", {**shared, "positions": positions, "density": at})
        wide = [{"width": width} for width in [*widths, largest]]

        def law(one: Mapping[str, Any]) -> Dataset:
            plain = Network([1.0] * (hidden + 1), outputs=outputs)
            network = gt.synflow_network(plain, at, counts(one["width"]), positions=positions, rng=one["width"])
            means = [sorted_means(layer, bins) for layer in drawn_densities(network)[1:-1]]
            return Dataset({"law": (("layer", "u", "v"), np.array(means, np.float32))})

        drawn_laws = laws.all(wide, law, "law of SynFlow", progress=progress)
        tables = {one["width"]: part.law.values for one, part in zip(wide, drawn_laws, strict=True)}
    if only == "limits":
        return None
    by_name = {tuple(one.values()): part for one, part in zip(described, found, strict=True)}
    grid = [[[by_name[w, seed, p, method] for seed in range(seeds)] for w, p in settings] for method in methods]
    result = Dataset(
        {
            "table": (
                ("pruning", "setting", "seed", "layer", "u", "v"),
                np.array([[[part.table.values for part in row] for row in rows] for rows in grid]),
            ),
            "kept": (
                ("pruning", "setting", "seed", "weight_layer"),
                np.array([[[part.kept.values for part in row] for row in rows] for rows in grid]),
            ),
        },
        {
            "pruning": list(methods),
            "width": ("setting", [w for w, _ in settings]),
            "density": ("setting", [p for _, p in settings]),
            "layer": np.arange(2, hidden + 1),
        },
        {**shared, "seeds": seeds},
    )
    result = result.assign(_distances(result, bins))
    if tables:
        result = result.assign(_of_law(result, tables, at))
    shown = [distance_table(result, density) for density in densities]
    result = results.finish(result, "mask-convergence", shown, verdict=verdict(result), figure=mask_figure)
    mask_distance_figure(result, results.folder / "mask-distances.png")
    return result


@torch.no_grad()
def block_densities(mask: Tensor, bins: int) -> FloatArray:
    """Block densities (bins, bins) of a mask where it lies, units of both sides sorted by degree.

    What ``gt.estimate_graphon(mask, bins).values`` is; rows are taken in runs, so that a wide mask is never copied
    whole to other numbers.
    """
    sides = [mask.sum(axis).double().cpu().numpy() for axis in (1, 0)]
    rows, columns = (torch.from_numpy(by_rank(degree, bins)).to(mask.device) for degree in sides)
    sums = torch.zeros(bins, bins, dtype=torch.float64, device=mask.device)
    into = torch.nn.functional.one_hot(columns, bins).float()
    for start in range(0, len(mask), _RUN):
        run = slice(start, start + _RUN)
        sums.index_add_(0, rows[run], (mask[run].float() @ into).double())  # counts below 2^24 are exact in float32
    sizes = [np.diff(cuts(len(degree), bins)) for degree in sides]
    return np.asarray(sums.cpu().numpy() / np.outer(*sizes))


def sorted_means(densities: FloatArray, bins: int) -> FloatArray:
    """Means over bins of densities between positions, both sides sorted by degree."""
    rows, columns = (by_rank(densities.mean(1 - axis), bins) for axis in (0, 1))
    into = [np.eye(bins)[side] / np.bincount(side) for side in (rows, columns)]
    return np.asarray(into[0].T @ densities @ into[1])


def widest(found: Dataset, density: float) -> int:
    """The setting to which distances at a density are taken."""
    (places,) = np.nonzero(found.density.values == density)
    return int(places[np.argmax(found.width.values[places])])


def _distances(found: Dataset, bins: int) -> dict[str, Any]:
    table, kept = found.table.values.astype(float), found.kept.values.mean(2)[:, :, 1:-1]
    methods, settings, seeds, layers = table.shape[:4]
    distance = np.full((methods, settings, seeds, layers), np.nan)
    between = np.empty((methods, settings, layers))
    null, error, among = np.full((3, methods, settings, layers), np.nan)
    pairs = list(itertools.combinations(range(seeds), 2))
    for i, j in itertools.product(range(methods), range(settings)):
        top = widest(found, float(found.density[j]))
        between[i, j] = np.mean([_norm(table[i, j, a] - table[i, j, b]) for a, b in pairs], axis=0)
        if j != top:
            distance[i, j] = _norm(table[i, j] - table[i, top])
        for layer in range(layers):
            own, other = (
                list(_constant(int(found.width[k]), float(kept[i, k, layer]), bins, [k, layer, salt]))
                for k, salt in ((j, 0), (top, 1))
            )
            among[i, j, layer] = np.mean([_norm(a - b) for a, b in itertools.pairwise(own)])
            if j != top:
                apart = [_norm(a - b) for a, b in zip(own, other, strict=True)]
                null[i, j, layer], error[i, j, layer] = np.mean(apart), np.std(apart, ddof=1)
    over = ("pruning", "setting", "layer")
    return {
        "distance": (("pruning", "setting", "seed", "layer"), distance),
        "between": (over, between),
        "null": (over, null),
        "null_error": (over, error),
        "null_between": (over, among),
    }


def _norm(tables: FloatArray) -> Any:
    return np.sqrt((tables**2).sum((-2, -1)))


def _constant(width: int, density: float, bins: int, seed: Sequence[int]) -> Iterator[FloatArray]:
    """Tables of block densities of masks of a constant graphon."""
    if density in (0, 1):
        yield from (np.full((bins, bins), density) for _ in range(NULLS))
        return
    for noise in sorted_noise((width, width), density, (bins, bins), NULLS, np.random.default_rng(seed)):
        yield density + noise


def _of_law(found: Dataset, tables: Mapping[int, FloatArray], at: float) -> dict[str, Any]:
    """SynFlow's law by width beside its masks."""
    settings, layers, bins = found.sizes["setting"], found.sizes["layer"], found.sizes["u"]
    law = np.full((settings, layers, bins, bins), np.nan, np.float32)
    far = np.full((settings, layers), np.nan)
    to_law = np.full((settings, found.sizes["seed"], layers), np.nan)
    masks = found.table.sel(pruning="synflow").values
    for j in np.flatnonzero(found.density.values == at):
        law[j] = tables[int(found.width[j])]
        to_law[j] = _norm(masks[j].astype(float) - law[j])
        far[j] = _norm(law[j].astype(float) - tables[max(tables)])
    return {
        "law": (("setting", "layer", "u", "v"), law),
        "law_distance": (("setting", "layer"), far),
        "to_law": (("setting", "seed", "layer"), to_law),
    }


def verdict(found: Dataset) -> str:
    """At which width each method's distance is that of a constant graphon's masks, at the density of the widest."""
    at = float(found.density[int(np.argmax(found.width.values))])
    told = []
    for method in found.pruning.values:
        one = found.sel(pruning=method).isel(setting=np.flatnonzero(found.density.values == at))
        ratio = (one.distance.mean("seed") / one.null).mean("layer").values
        texts = (f"{r:.2f} at {w:,}" for w, r in zip(one.width.values, ratio, strict=True) if np.isfinite(r))
        told.append(f"{called(method)} {', '.join(texts)}")
    return f"density {at:g}: distance to the widest over that of a constant graphon's masks: {'; '.join(told)}."


def distance_table(found: Dataset, density: float) -> Table:
    """Distances by method and width at one density, means over layers and seeds."""
    one = found.isel(setting=np.flatnonzero(found.density.values == density))
    top = int(one.width.max())
    widths = [int(width) for width in one.width.values]
    title = f"Frobenius distance of {found.attrs['bins']} x {found.attrs['bins']} block densities, density {density:g}"
    title = f"{title}: means over layers and {found.sizes['seed']} seeds"
    table = table_of(title, ("masks", "of", *(f"{width:,}" for width in widths)), words=["masks", "of"])
    for method in one.pruning.values:
        own = one.sel(pruning=method).mean("layer")
        rows = {
            f"to {top:,}": own.distance.mean("seed"),
            "  constant graphon": own.null,
            "two draws": own.between,
            "  constant graphon ": own.null_between,
        }
        if method == "synflow" and "law" in found and np.isfinite(own.law_distance).any():
            rows |= {"law, to itself at the widest": own.law_distance, "to the law": own.to_law.mean("seed")}
        for text, values in rows.items():
            cells = (f"{value:.2f}" if np.isfinite(value) else "" for value in values.values)
            table.add_row(called(method) if text.startswith("to ") else "", text, *cells)
    return table
