"""Figures of experiments. Needs matplotlib (the ``examples`` extra); draws without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from xarray import Dataset

from graphon_theory.plots.choices import save_figure
from graphon_theory.plots.styles import LINES, SEQUENTIAL, styled
from graphon_validation.experiments.contenders import LABELS

_OWN, _OTHER = "#D55E00", "#7F7F7F"  # of what is designed, and of the rest


@styled
def design_figure(found: Dataset, path: Path) -> None:
    """Bars of test error with the prediction beside, curves over steps, and what the first layer's blocks look at.

    ``found`` is what ``design_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    names = [str(name) for name in found.pruning.values]
    figure = Figure(figsize=(11, 3.6), dpi=150, layout="constrained")
    bars, curves, mask = figure.subplots(1, 3, width_ratios=(1.25, 1.25, 1))
    places = np.arange(len(names))[::-1]
    best = found.test_error.min("time")
    spread = best.std("seed", ddof=1) / best.sizes["seed"] ** 0.5 if best.sizes["seed"] > 1 else None
    colours = [_OWN if name == "designed" else _OTHER for name in names]
    bars.barh(places, best.mean("seed"), xerr=spread, color=colours, height=0.6)
    bars.plot(found.predicted.min("time"), places, "D", color="black", ms=4, label="predicted by the limit")
    bars.axvline(found.attrs["guess"], color="black", lw=0.8, ls=":", label="training mean")
    bars.set(yticks=places, yticklabels=[LABELS.get(name, name) for name in names], xlabel="test error, best")
    bars.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
    for name, colour in zip(names, colours, strict=True):
        one = found.sel(pruning=name)
        curves.plot(found.time, one.test_error.mean("seed"), color=colour, lw=2 if name == "designed" else 0.9)
    if "designed" in names:
        limit = found.predicted.sel(pruning="designed")
        curves.plot(found.time, limit, color="black", ls="--", lw=1.2, label="designed, predicted")
        curves.legend(fontsize=8)
    curves.set(xlabel="steps of gradient descent", ylabel="test error, mean over seeds", ylim=(0, None))
    if "input_mask" in found:
        image = mask.imshow(found.input_mask, aspect="auto", cmap=SEQUENTIAL, interpolation="nearest", vmin=0)
        mask.grid(visible=False)
        mask.set(xlabel="input", ylabel="position in the first hidden layer", title="designed input layer, W")
        figure.colorbar(image, ax=mask)
    else:
        mask.set_axis_off()
    figure.suptitle(f"{found.attrs['task']}, density {found.attrs['density']:g}, width {found.attrs['width']:,}")
    save_figure(figure, path)


@styled
def transfer_figure(found: Dataset, path: Path) -> None:
    """Best rates over densities, a panel for each law of masks and a line for each rule; gradient descent above, Adam
    below.

    ``found`` is what ``transfer_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    laws, optimizers = found.pruning.values, found.optimizer.values
    colours = {"none": _OTHER, "1/density": "#0072B2", "transfer": _OWN}
    figure = Figure(figsize=(2.7 * len(laws) + 0.6, 2.6 * len(optimizers) + 0.4), dpi=150, layout="constrained")
    panels = figure.subplots(len(optimizers), len(laws), sharex=True, sharey="row", squeeze=False)
    for row, optimizer in zip(panels, optimizers, strict=True):
        for axes, law in zip(row, laws, strict=True):
            for rule in found.rule.values:
                one = found.sel(optimizer=optimizer, pruning=law, rule=rule)
                means = np.exp(np.log(one.best_rate).mean("seed"))
                label = f"{rule}: {float(one.drift):.3g}"
                axes.loglog(found.density, means, "o-", color=colours[str(rule)], lw=1.4, ms=4, label=label)
            axes.set(title=LABELS.get(str(law), str(law)))
            axes.legend(fontsize=7, title="rule: drift", title_fontsize=7)
        row[0].set(ylabel="best rate" if optimizer == "gd" else "best rate of Adam")
    for axes in panels[-1]:
        _over_densities(axes, found)
    save_figure(figure, path)


@styled
def spectrum_figure(found: Dataset, path: Path) -> None:
    """Top-10 energy and effective rank over densities, and the eigenvalues at the least density; points are networks,
    lines their limits.

    ``found`` is what ``spectrum_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    energy, rank, modes = figure.subplots(1, 3)
    least = float(found.density.min())
    for name, style in zip(found.pruning.values, LINES, strict=False):
        one, label = found.sel(pruning=name).mean("seed"), LABELS.get(str(name), str(name))
        real, limit = one.sel(side="finite"), one.sel(side="limit")
        for axes, figures in ((energy, "energy10"), (rank, "effective_rank")):
            axes.plot(found.density, limit[figures], label=label, **style)
            axes.plot(found.density, real[figures], "o", ms=4, color=style["color"])
        modes.plot(found.mode, limit.log_eigenvalue.sel(density=least), **style)
        modes.plot(found.mode, real.log_eigenvalue.sel(density=least), "o", ms=4, color=style["color"])
    for axes, label in ((energy, "top-10 energy"), (rank, "effective rank")):
        axes.set(xscale="log", ylabel=label)
        _over_densities(axes, found)
    modes.set(xlabel="mode", ylabel="ln of the eigenvalue", title=f"density {least:g}")
    energy.legend(fontsize=7)
    save_figure(figure, path)


@styled
def training_figure(found: Dataset, path: Path) -> None:
    """Losses over steps, both axes logarithmic, at the least density, a panel for each rate; and the last loss over
    densities at the first rate; of the largest width, means over seeds.

    ``found`` is what ``training_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    rates, one = found.rate.values, found.sel(width=found.width.values.max()).curve.mean("seed")
    figure = Figure(figsize=(3 * len(rates) + 3.2, 3.2), layout="constrained")
    *panels, last = figure.subplots(1, len(rates) + 1)
    least = float(found.density.min())
    for name, style in zip(found.pruning.values, LINES, strict=False):
        label = LABELS.get(str(name), str(name))
        for axes, rate in zip(panels, rates, strict=True):
            curve = one.sel(pruning=name, rate=rate, density=least)
            axes.loglog(curve.step[1:], curve[1:], label=label, **style)
            axes.set(xlabel="steps of Adam", title=f"rate {rate:g}, density {least:g}")
        last.loglog(found.density, one.sel(pruning=name, rate=rates[0]).isel(step=-1), marker="o", ms=4, **style)
    panels[0].set(ylabel="loss")
    panels[0].legend(fontsize=7)
    _over_densities(last, found)
    last.set(ylabel=f"loss after {int(found.step[-1])} steps", title=f"rate {rates[0]:g}")
    save_figure(figure, path)


def _over_densities(axes: Any, found: Dataset) -> None:
    """The densities themselves below a logarithmic axis."""
    axes.set_xticks(found.density.values, [f"{density:g}" for density in found.density.values])
    axes.minorticks_off()
    axes.set(xlabel="density")
