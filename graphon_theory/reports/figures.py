"""Figures from result Datasets. Needs matplotlib (the ``examples`` extra); draws without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphon_theory.data.files import whole_file
from graphon_theory.data.labels import MODE, TIME, U, V
from graphon_theory.engine.densities import marginals
from graphon_theory.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart with any colour vision. Line styles tell them apart without colour.
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "linestyle": "-"},
    {"color": "#7F7F7F", "linestyle": (0, (3.5, 1.2))},
    {"color": "#0072B2", "linestyle": (0, (6, 1.5))},
    {"color": "#D55E00", "linestyle": (0, (6, 1.5, 1.2, 1.5))},
    {"color": "#009E73", "linestyle": (0, (1.6, 1.2))},
)
_RC: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


def quickstart_figure(results: xr.Dataset) -> Figure:
    """Graphons above; spectra, training loss and test accuracy below: one colour per network throughout.

    ``results`` is the Dataset of the quickstart: ``mask_graphon`` ("network", "u", "v"), ``eigenvalue`` ("network",
    "mode"), ``loss`` and ``test_accuracy`` ("network", "time"), and per network ``density`` and ``variance``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = [str(name) for name in results.network.values]
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(10.5, 6.7), dpi=150, layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.25))
        above, below = parts
        for part in parts:
            part.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        maps = above.subplots(1, len(names), sharex=True, sharey=True)
        for axes, name, style in zip(maps, names, _STYLES, strict=True):
            one = results.sel(network=name)
            image = _draw_graphon(axes, one.mask_graphon.values)
            axes.set_title(name, color=style["color"], weight="bold", pad=18)
            about = _describe(float(one.density), float(one.variance))
            axes.text(0.5, 1.03, about, transform=axes.transAxes, ha="center", va="bottom")
        maps[0].set_ylabel("receiving position $u$")
        bar = above.colorbar(image, ax=maps, pad=0.015, aspect=18)
        bar.set_label("density of connections $W(u, v)$")
        bar.outline.set_visible(False)

        spectra, loss, accuracy = below.subplots(1, 3)
        for name, style in zip(names, _STYLES, strict=True):
            one = results.sel(network=name)
            values = one.eigenvalue.values
            shown = values > 1e-12 * values[0]
            spectra.loglog(one[MODE].values[shown], values[shown], label=name, **style)
            loss.loglog(one[TIME], one.loss, **style)
            accuracy.semilogx(one[TIME], 100 * one.test_accuracy, **style)
        _label(spectra, "Spectrum of the limit NTK", "mode", r"eigenvalue of $\Theta / N$")
        when = r"training time (learning rate $\times$ steps)"
        _label(loss, "Training loss, gradient flow", when, r"loss $\frac{1}{2N}\sum (f - y)^2$")
        level = float(results.attrs["loss_level"])
        loss.axhline(level, color="#777777", linewidth=0.8)
        loss.text(0.02, level * 1.08, f"level in the table: {level:g}", **_note(loss))
        loss.set_ylim(1e-3, 1)
        _label(accuracy, "Test accuracy, kernel regression in time", when, "accuracy on unseen digits (%)")
        accuracy.set_ylim(None, 100)
        below.legend(loc="outside upper center", ncols=len(names), handlelength=3.2)
    return figure


def contributions_figure(kernels: xr.Dataset) -> Figure:
    """Each layer's share of the tangent kernel's trace, and of its mean over pairs of different inputs.

    ``kernels`` is ``limit_kernel(network, x, contributions=True)`` of a network with one output. What differs between
    the two bars is told apart by that layer: off the diagonal lies what inputs share.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if "ntk_layer" not in getattr(kernels, "data_vars", ()) or kernels.ntk_layer.ndim != 3:
        raise InputError("kernels: expected limit_kernel(network, x, contributions=True) of one output.")
    shares = kernels.ntk_layer.values
    layers, size, columns = shares.shape
    if size != columns or not np.allclose(shares, shares.swapaxes(1, 2), rtol=1e-6, atol=1e-9 * np.abs(shares).max()):
        raise InputError("kernels: expected those of inputs with themselves, limit_kernel(network, x), without x2.")
    traces = np.trace(shares, axis1=1, axis2=2)
    bars = [("trace", traces / traces.sum())]
    if size > 1:
        apart = shares.sum(axis=(1, 2)) - traces
        if abs(apart.sum()) > 1e-12 * traces.sum():
            bars.append(("between inputs", apart / apart.sum()))
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(1.2 + 0.9 * layers, 3.2), dpi=150, layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(bars)
        for number, ((label, heights), style) in enumerate(zip(bars, _STYLES, strict=False)):
            at = np.arange(1, layers + 1) + (number - (len(bars) - 1) / 2) * width
            axes.bar(at, 100 * heights, width, label=label, color=style["color"])
        axes.set_xticks(np.arange(1, layers + 1))
        axes.grid(visible=False, axis="x")
        _label(axes, "Where the tangent kernel comes from", "weight layer, from the input", "share (%)")
        axes.legend()
    return figure


def density_figure(density: xr.Dataset) -> Figure:
    """A kernel density over connections, with its marginals: which positions learn, and how fast.

    ``density`` is ``kernel_density(network, x1, x2, layer)``. Receiving positions run downwards, as in a mask.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sums = marginals(density)
    values = density.density.transpose(U, V).values
    u_edges, v_edges = (np.concatenate([[0.0], np.cumsum(sums[f"{side}_weight"].values)]) for side in (U, V))
    with mpl.rc_context({**_RC, "axes.grid": False}):
        figure = Figure(figsize=(5.6, 5), dpi=150, layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 1), height_ratios=(1, 3))
        centre = figure.add_subplot(grid[1, 0])
        above, beside = figure.add_subplot(grid[0, 0], sharex=centre), figure.add_subplot(grid[1, 1], sharey=centre)
        image = centre.pcolormesh(v_edges, u_edges, values, cmap="cividis")
        centre.set(xlabel="sending position $v$", ylabel="receiving position $u$", xlim=(0, 1), ylim=(1, 0))
        above.stairs(sums.sending.values, v_edges, color=_STYLES[1]["color"], baseline=None)
        beside.stairs(
            sums.receiving.values, u_edges, color=_STYLES[2]["color"], baseline=None, orientation="horizontal"
        )
        for axes, name in ((above, "sending"), (beside, "receiving")):
            axes.set_title(name)
            axes.tick_params(labelbottom=axes is beside, labelleft=axes is above)
        figure.colorbar(image, ax=beside, label="kernel density", pad=0.1)
        figure.suptitle(f"Layer {int(density.attrs['layer'])}: who learns, and how fast", fontsize=10)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; never leaves a partial file."""
    with whole_file(path) as part:
        figure.savefig(part, format="png")


def _draw_graphon(axes: Axes, values: np.ndarray) -> Any:
    """A heat map drawn as a mask is written: receiving units downwards, sending units to the right."""
    image = axes.imshow(values, extent=(0, 1, 1, 0), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="sending position $v$", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.grid(visible=False)
    return image


def _describe(density: float, variance: float) -> str:
    mean = f"mean $W$ = {density:.3g}"
    return mean if np.isclose(density, variance) else f"{mean}, $V$ = {variance:.2f}"


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set(xlabel=x, ylabel=y)


def _note(axes: Axes) -> dict[str, Any]:
    return {"transform": axes.get_yaxis_transform(), "color": "#555555", "fontsize": 8, "va": "bottom"}
