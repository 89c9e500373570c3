"""Figures of experiments. Needs matplotlib (the ``examples`` extra); draws without a display."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from xarray import Dataset

from graphon_theory.plots.choices import save_figure
from graphon_theory.plots.styles import LINES, SEQUENTIAL, styled
from graphon_validation.experiments.contenders import called

_OWN, _OTHER = "#D55E00", "#7F7F7F"  # of what is designed, and of the rest
# places in LINES; masks in time share those of methods that are not in their figure
_LINE_OF = {"dense": 0, "random": 1, "magnitude": 2, "snip": 3, "synflow": 4, "grasp": 5, "ntk_sap": 6}
_LINE_OF |= {"imp": 2, "rigl": 3, "set": 6}


def line_of(method: Any) -> dict[str, Any]:
    """How a method's line looks, the same in all figures."""
    return LINES[_LINE_OF[str(method)]]


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
    bars.set(yticks=places, yticklabels=[called(name) for name in names], xlabel="test error, best")
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
            axes.set(title=called(law))
            axes.legend(fontsize=7, title="rule: drift", title_fontsize=7)
        row[0].set(ylabel="best rate" if optimizer == "gd" else "best rate of Adam")
    for axes in panels[-1]:
        _over_densities(axes, found)
    save_figure(figure, path)


@styled
def spectrum_figure(found: Dataset, path: Path) -> None:
    """Top-5 energy over densities on all inputs at every width; top-10 energy and, at one density, eigenvalues, of
    networks (points) beside their limits (lines) on the same inputs.

    ``found`` is what ``spectrum_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.8), layout="constrained")
    energy, beside, modes = figure.subplots(1, 3)
    first, density = found.isel(width=0), float(found.density[len(found.density) // 2])
    for name in found.pruning.values:
        style = line_of(name)
        label = called(name)
        for k in range(found.sizes["width"]):
            own = found.sel(pruning=name, side="finite").isel(width=k).energy5
            marks = {"marker": "os^v"[k % 4], "ms": 4, "label": label if k == 0 else None}
            error = own.std("seed") if own.sizes["seed"] > 1 else None
            energy.errorbar(found.density, own.mean("seed"), error, lw=1 if k else 1.6, **marks, **_coloured(style))
        one = first.sel(pruning=name).mean("seed")
        real, limit = one.sel(side="few"), one.sel(side="limit")
        beside.plot(found.density, limit.energy10, **style)
        beside.plot(found.density, real.energy10, "o", ms=4, color=style["color"])
        modes.plot(found.mode, limit.log_eigenvalue.sel(density=density), **style)
        modes.plot(found.mode, real.log_eigenvalue.sel(density=density), "o", ms=4, color=style["color"])
    sizes = zip(found.width.values, found.samples.values, strict=True)
    texts = (f"{'●■▲▼'[k % 4]} width {width:,}, {count:,} inputs" for k, (width, count) in enumerate(sizes))
    energy.set(ylabel="top-5 energy")
    energy.set_title("; ".join(texts), fontsize=7.5)
    beside.set(ylabel="top-10 energy", title=f"width {int(first.width):,}: networks (points), limits (lines)")
    for axes in (energy, beside):
        axes.set(xscale="log")
        _over_densities(axes, found)
    modes.set(
        xlabel="mode", ylabel="ln of the eigenvalue / N", title=f"density {density:g}, width {int(first.width):,}"
    )
    energy.legend(fontsize=7)
    save_figure(figure, path)


def _coloured(style: dict[str, Any]) -> dict[str, Any]:
    return {"color": style["color"], "linestyle": style["linestyle"]}


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
    for name in found.pruning.values:
        style = line_of(name)
        label = called(name)
        for axes, rate in zip(panels, rates, strict=True):
            curve = one.sel(pruning=name, rate=rate, density=least)
            axes.loglog(curve.step[1:], curve[1:], label=label, **style)
            axes.set(xlabel="steps of Adam", title=f"rate {rate:g}, density {least:g}")
        last.loglog(found.density, one.sel(pruning=name, rate=rates[0]).isel(step=-1), marker="o", ms=4, **style)
    if "dense" in found:
        uncut = found.dense.sel(width=found.width.values.max()).mean("seed")
        for axes, rate in zip(panels, rates, strict=True):
            axes.loglog(uncut.step[1:], uncut.sel(rate=rate)[1:], lw=1, label="dense", **line_of("dense"))
        last.axhline(float(uncut.sel(rate=rates[0])[-1]), lw=1, **line_of("dense"))
    panels[0].set(ylabel="loss")
    panels[0].legend(fontsize=7)
    _over_densities(last, found)
    last.set(ylabel=f"loss after {int(found.step[-1])} steps", title=f"rate {rates[0]:g}")
    save_figure(figure, path)


@styled
def kernel_figure(found: Dataset, path: Path) -> None:
    """How far mean traces are from their limits over widths, by protocol, and the spread over widths and densities.

    ``found`` is what ``kernel_convergence_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    methods = found.pruning.values
    figure = Figure(figsize=(3.6 * (len(methods) + 1), 3.6), layout="constrained")
    *means, spread = figure.subplots(1, len(methods) + 1)
    for axes, method in zip(means, methods, strict=True):
        for protocol, style in zip(found.protocol.values, LINES[1:], strict=False):
            one = found.relative.sel(pruning=method, protocol=protocol)
            error = one.std("seed", ddof=1) / one.sizes["seed"] ** 0.5
            axes.errorbar(1 / one.width, one.mean("seed"), error, label=str(protocol), marker="o", ms=4, **style)
        axes.axhline(1, color="black", lw=0.8)
        axes.set(xlabel="1 / width", ylabel="mean trace / limit", title=called(method))
    means[0].legend(fontsize=7)
    for density, style in zip(found.density.values, [*LINES[1:], {}], strict=False):
        one = found.trace_spread.sel(density=density)
        spread.loglog(one.drawn_width, one, marker="o", ms=4, label=f"density {density:g}", **style)
    spread.set_xticks(found.drawn_width.values, [f"{width:,}" for width in found.drawn_width.values])
    spread.xaxis.minorticks_off()
    spread.set(xlabel="width", ylabel="deviation of the trace over its mean", title="drawn networks")
    spread.legend(fontsize=7)
    save_figure(figure, path)


@styled
def descent_figure(found: Dataset, path: Path) -> None:
    """Loss over steps beside the curves of the network's own kernel and of the limit, a panel for each scale.

    ``found`` is what ``descent_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * found.sizes["scale"] + 0.4, 3.6), layout="constrained")
    panels = figure.subplots(1, found.sizes["scale"], sharey=True, squeeze=False)[0]
    for axes, scale in zip(panels, found.scale.values, strict=True):
        for name in found.pruning.values:
            style = line_of(name)
            one = found.sel(pruning=name, scale=scale).mean("seed")
            label = f"{called(name)}: {float(one.said):.2g} said, {float(one.changed):.2g}"
            axes.semilogy(one.step, one.loss, color=style["color"], lw=1.6, label=label)
            axes.semilogy(one.step, one.own, color=style["color"], lw=1, ls="--")
            axes.semilogy(one.step, one.limit, color=style["color"], lw=1, ls=":")
        axes.set(xlabel="steps", title=f"targets times {scale:g}")
        axes.legend(fontsize=6.5, title="change of the kernel", title_fontsize=7)
    panels[0].set(ylabel="loss over the first; dashed: own kernel, dotted: limit")
    save_figure(figure, path)


@styled
def cross_entropy_figure(found: Dataset, path: Path) -> None:
    """Cross-entropy over steps on logarithmic axes, a panel for each kind and variance: networks, limits dashed.

    ``found`` is what ``cross_entropy_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    rows, columns = found.sizes["variance"], found.sizes["kind"]
    figure = Figure(figsize=(3.6 * columns + 0.4, 3 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    steps = found.step.values[1:]
    for axes, (variance, kind) in zip(panels.flat, product(found.variance.values, found.kind.values), strict=True):
        one = found.sel(variance=variance, kind=kind, step=steps)
        for name, style in (("loss", {"lw": 0.8}), ("limit", {"lw": 0.8, "ls": "--"})):
            for seed in found.seed.values:
                axes.loglog(steps, one[name].sel(seed=seed), color=LINES[1 if name == "loss" else 2]["color"], **style)
        axes.set(xlabel="steps", title=f"{called(kind)}, weight variance {variance:g}")
    for axes in panels[:, 0]:
        axes.set(ylabel="cross-entropy; dashed: limits")
    save_figure(figure, path)


@styled
def sequel_figure(found: Dataset, path: Path) -> None:
    """Top-10 energy and complexity over densities; lines are limits, points drawn networks.

    ``found`` is what ``sequel_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, (name, label) in zip(
        figure.subplots(1, 2),
        (("energy10", "top-10 energy"), ("complexity", "complexity")),
        strict=True,
    ):
        for strength, style in zip(found.strength.values, LINES[1:], strict=False):
            one = found[name].sel(strength=strength)
            axes.plot(found.density, one.sel(side="limit"), label=f"s = {strength:g}", **style)
            axes.plot(found.density, one.sel(side="finite"), "o", ms=4, color=style["color"])
        axes.set(xscale="log", ylabel=label, yscale="log" if name == "complexity" else "linear")
        _over_densities(axes, found)
        axes.legend(fontsize=7)
    save_figure(figure, path)


@styled
def mask_path_figure(found: Dataset, path: Path) -> None:
    """Unevenness of layers and top-10 energy over time, the latter beside (W, V) (dashed).

    ``found`` is what ``mask_path_experiment`` returns. Raises GraphonError without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    uneven, energy = figure.subplots(1, 2)
    for kind in found.kind.values:
        style = line_of(kind)
        one = found.sel(kind=kind).mean("seed")
        uneven.plot(one.time, one.uneven.mean("layer"), marker="o", ms=4, label=called(kind), **style)
        energy.plot(one.time, one.energy, "o-", ms=4, color=style["color"], label=called(kind))
        energy.plot(one.time, one.limit_energy, "--", lw=1, color=style["color"])
    uneven.axhline(1, color="black", lw=0.8)
    uneven.set(xlabel="share of rounds or steps", ylabel="unevenness over that of random masks", yscale="log")
    energy.set(xlabel="share of rounds or steps", ylabel="top-10 energy; dashed: (W, V)")
    uneven.legend(fontsize=7)
    save_figure(figure, path)


def _over_densities(axes: Any, found: Dataset) -> None:
    """The densities themselves below a logarithmic axis."""
    axes.set_xticks(found.density.values, [f"{density:g}" for density in found.density.values])
    axes.xaxis.minorticks_off()
    axes.set(xlabel="density")
