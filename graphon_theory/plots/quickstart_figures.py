"""The figure of the quickstart: graphons, spectra, training and test accuracy of several networks on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphon_theory.data.checks import checked_dataset
from graphon_theory.data.labels import MODE, TIME
from graphon_theory.plots.styles import FAINT, LINES, SEQUENTIAL, name_axes, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def quickstart_figure(results: xr.Dataset) -> Figure:
    """Graphons above; spectra, training loss and test accuracy below: one colour per network throughout.

    ``results`` is the Dataset of the quickstart: ``mask_graphon`` ("network", "u", "v"), ``eigenvalue`` ("network",
    "mode"), ``loss`` and ``test_accuracy`` ("network", "time"), and per network ``density`` and ``variance``. Returns
    the Figure. Raises InputError for other Datasets.
    """
    from matplotlib.figure import Figure

    wanted = ("mask_graphon", "eigenvalue", "loss", "test_accuracy", "density", "variance")
    checked_dataset("results", results, wanted, "graphon-theory quickstart")
    names = [str(name) for name in results.network.values]
    figure = Figure(figsize=(10.5, 6.7), dpi=150, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    above, below = parts
    for part in parts:
        part.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    maps = above.subplots(1, len(names), sharex=True, sharey=True)
    for axes, name, style in zip(maps, names, LINES, strict=False):
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
    for name, style in zip(names, LINES, strict=False):
        one = results.sel(network=name)
        values = one.eigenvalue.values
        shown = values > 1e-12 * values[0]
        spectra.loglog(one[MODE].values[shown], values[shown], label=name, **style)
        loss.loglog(one[TIME], one.loss, **style)
        accuracy.semilogx(one[TIME], 100 * one.test_accuracy, **style)
    name_axes(spectra, "Spectrum of the limit NTK", "mode", r"eigenvalue of $\Theta / N$")
    when = r"training time (learning rate $\times$ steps)"
    name_axes(loss, "Training loss, gradient flow", when, r"loss $\frac{1}{2N}\sum (f - y)^2$")
    level = float(results.attrs["loss_level"])
    loss.axhline(level, color=FAINT, linewidth=0.8)
    loss.text(0.02, level * 1.08, f"level in the table: {level:g}", **_note(loss))
    loss.set_ylim(1e-3, 1)
    name_axes(accuracy, "Test accuracy, kernel regression in time", when, "accuracy on unseen digits (%)")
    accuracy.set_ylim(None, 100)
    below.legend(loc="outside upper center", ncols=len(names), handlelength=3.2)
    return figure


def _draw_graphon(axes: Axes, values: np.ndarray) -> Any:
    """A heat map drawn as a mask is written: receiving units downwards, sending units to the right."""
    image = axes.imshow(values, extent=(0, 1, 1, 0), cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="sending position $v$", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.grid(visible=False)
    return image


def _describe(density: float, variance: float) -> str:
    mean = f"mean $W$ = {density:.3g}"
    return mean if np.isclose(density, variance) else f"{mean}, $V$ = {variance:.2f}"


def _note(axes: Axes) -> dict[str, Any]:
    return {"transform": axes.get_yaxis_transform(), "color": "#555555", "fontsize": 8, "va": "bottom"}
