"""Figures of block densities. Needs matplotlib (the ``examples`` extra); draws without a display."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from xarray import Dataset

from graphon_theory.plots.choices import save_figure
from graphon_theory.plots.styles import SEQUENTIAL, styled
from graphon_validation.experiments.contenders import called
from graphon_validation.experiments.drawings import line_of


@styled
def mask_figure(found: Dataset, path: Path) -> None:
    """Every layer's block densities in the widest network, a row for each method; the law of SynFlow below its own.

    ``found`` is what ``mask_convergence_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    top = int(np.argmax(found.width.values))
    width, density = int(found.width[top]), float(found.density[top])
    rows = [
        (called(name), found.table.sel(pruning=name).isel(setting=top, seed=0).values) for name in found.pruning.values
    ]
    if "law" in found and np.isfinite(found.law.isel(setting=top)).all():
        rows.append(("SynFlow, its law", found.law.isel(setting=top).values))
    layers = found.layer.values
    figure = Figure(figsize=(3.0 * len(layers) + 0.8, 2.75 * len(rows) + 0.4), dpi=110, layout="constrained")
    panels = figure.subplots(len(rows), len(layers), squeeze=False)
    for line, (name, tables) in zip(panels, rows, strict=True):
        for axes, layer, table in zip(line, layers, tables, strict=True):
            image = axes.imshow(table, cmap=SEQUENTIAL, vmin=0, origin="lower", extent=(0, 1, 0, 1))
            axes.grid(visible=False)
            axes.set(title=f"{name}, layer {int(layer)}: mean {table.mean():.3f}", xticks=[0, 1], yticks=[0, 1])
            figure.colorbar(image, ax=axes, shrink=0.85)
    panels[-1][0].set(xlabel="sending units, by degree", ylabel="receiving units, by degree")
    bins = found.attrs["bins"]
    figure.suptitle(f"block densities of {bins} x {bins} bins, width {width:,}, density {density:g}, one network")
    save_figure(figure, path)


@styled
def mask_distance_figure(found: Dataset, path: Path) -> None:
    """Distances to the widest network over widths, a panel for each density, beside masks of a constant graphon.

    Frobenius norms of differences of block densities, means over layers.
    """
    from matplotlib.figure import Figure

    densities = list(dict.fromkeys(found.density.values.tolist()))
    figure = Figure(figsize=(3.6 * len(densities) + 2.6, 3.6), layout="constrained")  # the legend stands beside
    panels = figure.subplots(1, len(densities), sharey=True, squeeze=False)[0]
    for axes, density in zip(panels, densities, strict=True):
        one = found.isel(setting=np.flatnonzero(found.density.values == density))
        below = np.flatnonzero(one.width.values < one.width.values.max())
        widths = one.width.values[below]
        for name in found.pruning.values:
            style = line_of(name)
            own = one.sel(pruning=name).isel(setting=below).mean("layer")
            label = called(name)
            axes.loglog(widths, own.distance.mean("seed"), marker="o", ms=4, label=label, **style)
        null = one.sel(pruning=str(found.pruning.values[0])).isel(setting=below).mean("layer")
        low, high = (null.null + sign * 2 * null.null_error for sign in (-1, 1))
        axes.fill_between(widths, low, high, color="#cccccc", label="constant graphon, ± 2 deviations")
        if "law_distance" in found and np.isfinite(one.law_distance.isel(setting=below)).all():
            law = one.law_distance.isel(setting=below).mean("layer")
            axes.loglog(widths, law, "D", ms=5, color="black", label="SynFlow's law, without noise of blocks")
        axes.set_xticks(widths, [f"{width:,}" for width in widths])
        axes.xaxis.minorticks_off()
        axes.set(xlabel="width", title=f"density {density:g}, to width {int(one.width.max()):,}")
    panels[0].set(ylabel="distance of block densities")
    most = max((axes.get_legend_handles_labels() for axes in panels), key=lambda both: len(both[1]))
    figure.legend(*most, loc="outside right center", fontsize=7)
    save_figure(figure, path)
