"""Curves and bars: spectra, energy, finite networks against the limit, layers' shares, errors by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import checked_dataset, finite_number, whole_number, whole_numbers
from graphon_theory.data.labels import DEGREE, LAYER, MODE, NETWORK, OUTPUT, RADIAL, SIZE, TIME, WIDTH
from graphon_theory.errors import InputError, shown
from graphon_theory.plots.styles import (
    FAINT,
    LINES,
    axes_of,
    by_name,
    line_styles,
    name_axes,
    numbers_of,
    panels_of,
    put_legend,
    styled,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from graphon_theory.plots.styles import Where

_POINTS = 60  # up to so many modes are marked one by one


@styled
def spectrum(modes: xr.Dataset | Mapping[str, xr.Dataset], *, ax: Where = None) -> Axes:
    """Eigenvalues by mode, both logarithmic, with the fit of their decay where there is one.

    The fit is the line of least squares whose slope is ``decay_exponent``, over ``decay_range``; modes below the
    rounding level are left out.

    Args:
        modes: what :func:`spectrum`, :func:`graphon_spectrum` (its singular values), :func:`zonal_spectrum` (by degree)
            or :func:`spectrum_path` (a line a time) returns, a line an output where these have kernels of their own;
            or a dict of such by name.
        ax: matplotlib Axes, or an empty Figure, which gets a size that suits; a pyplot figure of its own if left out.

    Returns the Axes. Raises InputError for anything else.
    """
    several = by_name("modes", modes)
    many = len(several) > 1 or any(OUTPUT in getattr(one, "sizes", ()) for one in several.values())
    axes = axes_of(ax, (6.2 if many else 4.6, 3.4))
    kinds = set()
    for (name, one), style in zip(several.items(), line_styles(len(several)), strict=True):
        kinds.add(_draw_modes(axes, one, name, style))
    if len(kinds) > 1:
        raise InputError(f"modes: expected spectra of one kind, got {' and '.join(sorted(kinds))}.")
    axes.set_yscale("log")
    if kinds == {"degree"}:
        name_axes(axes, "Spectrum by degree", "degree of the harmonics", "eigenvalue")
    else:
        axes.set_xscale("log")
        longest = max((np.asarray(line.get_xdata(), dtype=float) for line in axes.lines), key=len)
        _ticks_at(axes, longest)
        what = "singular value" if kinds == {"graphon"} else r"eigenvalue of $\Theta / N$"
        name_axes(axes, "Spectrum", "mode", what)
    put_legend(axes)
    return axes


@styled
def energy(
    found: xr.Dataset | Mapping[Any, xr.Dataset], *, ax: Where = None, modes: Sequence[int] = (1, 5, 10)
) -> Axes:
    """How much of the trace the leading modes hold, against sparsity, over networks or by mode.

    Args:
        found: what :func:`spectrum_path` returns: against sparsity, 1 less the mean density of the layers that are
            masked at any time, or against time where densities stay; a dict of spectra by sparsity (numbers) or by
            name; what :func:`compare_networks` returns: bars of 5 and 10 modes; or one spectrum: the share by mode.
        ax: as in :func:`spectrum`.
        modes: how many leading modes, a curve each.

    Returns the Axes. Raises InputError for anything else.
    """
    if OUTPUT in getattr(found, "sizes", ()):
        found = _each_output({"": found})
    data: Any = found
    counts = whole_numbers("modes", modes, 1, distinct=True)
    if isinstance(found, Mapping) and not hasattr(found, "data_vars"):
        several = _each_output(by_name("found", found))
        for one in several.values():
            checked_dataset("found", one, {"energy": (MODE,)}, "gt.spectrum")
        keys = list(found)
        if len(keys) == len(several) and all(isinstance(key, int | float | np.number) for key in keys):
            order = np.argsort(np.array(keys, dtype=float))
            at = np.array(keys, dtype=float)[order]
            ordered = [list(several.values())[k] for k in order]
            return _energy_lines(ax, at, [one.energy.values for one in ordered], counts, "sparsity")
        axes = axes_of(ax, (4.6, 3.4))
        for (name, one), style in zip(several.items(), line_styles(len(several)), strict=True):
            axes.plot(one[MODE], 100 * one.energy, label=name, **style)
    elif "energy_5" in getattr(found, "data_vars", ()):
        checked_dataset("found", found, {"energy_5": (NETWORK,), "energy_10": (NETWORK,)}, "gt.compare_networks")
        axes = axes_of(ax, (1.6 + 0.9 * data.sizes[NETWORK], 3.2))
        names = [str(one) for one in data[NETWORK].values]
        _bars(axes, names, [("5 modes", data.energy_5.values), ("10 modes", data.energy_10.values)])
        name_axes(axes, "Energy in the leading modes", "", "share of the trace (%)")
        return axes
    else:
        checked_dataset("found", found, ("energy",), "gt.spectrum_path or gt.spectrum")
        if data.energy.dims == (TIME, MODE):
            at, what = _sparsity(data)
            return _energy_lines(ax, at, data.energy.values, counts, what)
        if data.energy.dims not in ((MODE,), (DEGREE,)):
            raise InputError(f"found: expected energy over modes, got it over {data.energy.dims}.")
        axes = axes_of(ax, (4.6, 3.4))
        dim = data.energy.dims[0]
        axes.plot(data[dim], 100 * data.energy, **LINES[0])
        if dim == DEGREE:
            name_axes(axes, "Energy", "degrees up to", "share of the trace (%)")
            return axes
    axes.set_xscale("log")
    name_axes(axes, "Energy", "modes up to", "share of the trace (%)")
    put_legend(axes)
    return axes


@styled
def comparison(found: xr.Dataset, *, ax: Where = None) -> Axes:
    """Finite networks against their limit, or several limits with each other.

    Args:
        found: what ``gv.compare`` returns: how far each tested quantity's mean over networks is from the limit, in
            percent of it, by width, with standard errors, and the fit k + c / n where there is one; or what
            :func:`compare_networks` returns: training losses in time, and test errors where there are any.
        ax: as in :func:`spectrum`.

    Returns the Axes, which hold the panels where there are several. Raises InputError for anything else.
    """
    if NETWORK in getattr(found, "dims", ()):
        return _compare_networks(found, ax)
    wanted = ("value", "value_error", "limit")
    checked_dataset("found", found, wanted, "gv.compare or gt.compare_networks")
    if WIDTH not in found.coords or "quantity" not in found.coords or found.value.dims != (WIDTH, "quantity"):
        raise InputError("found: expected what gv.compare returns, value over width and quantity.")
    axes = axes_of(ax, (5.4, 3.4))
    widths = numbers_of("found.width", found[WIDTH])
    axes.axhline(0.0, color=FAINT, linewidth=0.9)
    names = [str(one) for one in found["quantity"].values]
    fine = np.geomspace(widths.min(), widths.max(), 100)
    shifts = np.exp(0.03 * (np.arange(len(names)) - (len(names) - 1) / 2))  # errors beside each other
    for number, (name, style) in enumerate(zip(names, line_styles(len(names)), strict=True)):
        one = found.isel(quantity=number)
        limit = np.broadcast_to(one.limit.values, widths.shape)
        percent = 100 / np.abs(limit)
        off, error = (one.value.values - limit) * percent, one.value_error.values * percent
        axes.errorbar(widths * shifts[number], off, error, fmt="o", ms=4, capsize=2.5, color=style["color"], label=name)
        if "fitted" in one:
            fit = float(one.fitted) + float(one.bias) / fine - float(limit[0])
            axes.plot(fine, fit * float(percent[0]), linewidth=1.1, color=style["color"], linestyle=style["linestyle"])
    axes.set_xscale("log")
    _ticks_at(axes, widths)
    seeds = found.attrs.get("seeds")
    over = f", mean of {seeds}" if seeds else ""
    name_axes(axes, "Finite networks against the limit", "hidden width", f"off the limit by (%){over}")
    put_legend(axes)
    return axes


@styled
def contributions(kernels: xr.Dataset, *, ax: Where = None, output: int = 0) -> Axes:
    """Each layer's share of the tangent kernel's trace, and of its mean over pairs of different inputs.

    What differs between the two bars is told apart by that layer: off the diagonal lies what inputs share.

    Args:
        kernels: ``limit_kernel(network, x, contributions=True)``.
        ax: as in :func:`spectrum`; output: which, where there are several.

    Returns the Axes. Raises InputError for anything else.
    """
    if "ntk_layer" not in getattr(kernels, "data_vars", ()):
        raise InputError("kernels: expected limit_kernel(network, x, contributions=True).")
    held = kernels.ntk_layer
    if OUTPUT in held.dims:
        held = held.isel({OUTPUT: whole_number("output", output, 0, held.sizes[OUTPUT] - 1)})
    if held.dims[0] != LAYER or held.ndim != 3:
        raise InputError(f"kernels: expected ntk_layer as limit_kernel returns it, got it over {held.dims}.")
    shares = held.values
    layers, size, columns = shares.shape
    if size != columns or not np.allclose(shares, shares.swapaxes(1, 2), rtol=1e-6, atol=1e-9 * np.abs(shares).max()):
        raise InputError("kernels: expected those of inputs with themselves, limit_kernel(network, x), without x2.")
    traces = np.trace(shares, axis1=1, axis2=2)
    bars = [("trace", traces / traces.sum())]
    if size > 1:
        apart = shares.sum(axis=(1, 2)) - traces
        if abs(apart.sum()) > 1e-12 * traces.sum():
            bars.append(("between inputs", apart / apart.sum()))
    axes = axes_of(ax, (max(1.2 + 0.9 * layers, 3.4), 3.2))
    _bars(axes, [str(one) for one in range(1, layers + 1)], bars)
    name_axes(axes, "Where the tangent kernel comes from", "weight layer, from the input", "share (%)")
    return axes


@styled
def learning_curve(found: xr.Dataset | Mapping[str, xr.Dataset], *, ax: Where = None) -> Axes:
    """Errors on new inputs by the size of the training set, with standard errors where they were measured.

    Args:
        found: what :func:`learning_curve`, :func:`eigenlearning` or :func:`measured_learning_curve` returns; or a dict
            of such by name.
        ax: as in :func:`spectrum`.

    Returns the Axes. Raises InputError for anything else.
    """
    several = by_name("found", found)
    axes = axes_of(ax, (4.6, 3.4))
    for (name, one), style in zip(several.items(), line_styles(len(several), len(axes.lines)), strict=True):
        which = "test_error" if "test_error" in getattr(one, "data_vars", ()) else "spectral_error"
        checked_dataset("found", one, {which: (SIZE,)}, "gt.learning_curve")
        sizes = numbers_of("found.size", one[SIZE])
        if "test_error_error" in one:
            axes.errorbar(
                sizes, one[which], one.test_error_error, fmt="o", ms=4, capsize=2.5, color=style["color"], label=name
            )
        else:
            axes.plot(sizes, one[which], label=name, **style)
    axes.set(xscale="log", yscale="log")
    _ticks_at(axes, sizes)
    name_axes(axes, "Learning curve", "training inputs", "mean square error on new inputs")
    put_legend(axes)
    return axes


def _each_output(several: dict[str, Any]) -> dict[str, Any]:
    """Spectra of networks whose outputs have kernels of their own, one by one."""
    out = {}
    for name, one in several.items():
        if OUTPUT in getattr(one, "sizes", ()) and hasattr(one, "data_vars"):
            for place in range(one.sizes[OUTPUT]):
                out[f"{name} output {place}".strip()] = one.isel({OUTPUT: place}, drop=True)
        else:
            out[name] = one
    return out


# --- parts ------------------------------------------------------------------------------------------------------------


def _ticks_at(axes: Axes, places: FloatArray) -> None:
    """Few places on a logarithmic axis are its ticks."""
    from matplotlib import ticker

    if len(places) <= 10:
        axes.set_xticks(places, [f"{one:g}" for one in places])
        axes.xaxis.set_minor_locator(ticker.NullLocator())


def _bars(axes: Axes, names: Sequence[str], bars: Sequence[tuple[str, FloatArray]]) -> None:
    """Groups of bars, shares in percent."""
    width = 0.8 / len(bars)
    places = np.arange(1, len(names) + 1)
    for number, ((label, heights), style) in enumerate(zip(bars, LINES[2:], strict=False)):
        at = places + (number - (len(bars) - 1) / 2) * width
        axes.bar(at, 100 * heights, width, label=label, color=style["color"])
    axes.set_xticks(places, names, rotation=30 if max(map(len, names)) > 10 else 0)
    axes.grid(visible=False, axis="x")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.15 * axes.get_ylim()[1])  # room for the legend
    axes.legend(ncols=2, loc="upper center")


def _draw_modes(axes: Axes, one: Any, name: str, style: dict[str, Any]) -> str:
    """One spectrum; says of what kind it is."""
    held = getattr(one, "data_vars", ())
    which = "singular_value" if "singular_value" in held else "eigenvalue"
    checked_dataset("modes", one, (which,), "gt.spectrum, gt.graphon_spectrum or gt.zonal_spectrum")
    values = one[which]
    if values.dims in ((DEGREE,), (DEGREE, RADIAL)):
        table = values.values.reshape(values.sizes[DEGREE], -1)
        for number, column in enumerate(table.T):
            label = name if number == 0 else None
            _marked(axes, np.arange(len(column), dtype=float), column, {**style, "alpha": 1 / (1 + number)}, label, 0.0)
        return "degree"
    if values.dims == (TIME, MODE):
        times = numbers_of("modes.time", one[TIME])
        chosen = np.unique(np.linspace(0, len(times) - 1, min(len(times), len(LINES) - 1)).astype(int))
        for place, line in zip(chosen, line_styles(len(chosen)), strict=True):
            at = np.arange(1.0, values.sizes[MODE] + 1)
            _marked(axes, at, values.values[place], line, f"{name} time {times[place]:g}".strip(), 0.0)
        return "kernel"
    if values.dims == (OUTPUT, MODE):
        levels = numbers_of("modes.rounding_level", one["rounding_level"]) if "rounding_level" in one else None
        chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), len(LINES) - 1)).astype(int))
        for place, line in zip(chosen, line_styles(len(chosen)), strict=True):
            at = np.arange(1.0, values.sizes[MODE] + 1)
            level = 0.0 if levels is None else float(levels[place])
            _marked(axes, at, values.values[place], line, f"{name} output {place}".strip(), level)
        return "kernel"
    if values.dims != (MODE,):
        raise InputError(f"modes: expected {which} over modes, got it over {values.dims}.")
    at = numbers_of("modes.mode", one[MODE]) if MODE in one.coords else np.arange(1.0, values.size + 1)
    level = one.attrs.get("rounding_level", 0.0)
    _marked(axes, at, values.values, style, name or None, finite_number("modes.attrs['rounding_level']", level))
    if "decay_exponent" in one.attrs:
        first, last = (int(k) for k in np.asarray(one.attrs["decay_range"]))
        fitted = (at >= first) & (at <= last) & (values.values > 0)
        if fitted.sum() > 1:
            slope = -float(one.attrs["decay_exponent"])
            centre = np.log(values.values[fitted]).mean() - slope * np.log(at[fitted]).mean()
            label = f"mode$^{{{slope:.2f}}}$" + (f" $\\pm$ {one.attrs['decay_error']:.2f}" if not name else f", {name}")
            ends = at[fitted][[0, -1]]
            colour = LINES[3]["color"] if not name else style["color"]
            axes.plot(ends, np.exp(centre + slope * np.log(ends)), color=colour, linewidth=1.2, label=label)
    return "graphon" if which == "singular_value" else "kernel"


def _marked(
    axes: Axes, at: FloatArray, values: FloatArray, style: dict[str, Any], label: str | None, level: float
) -> None:
    seen = values > max(level, 0.0)
    marker = {"marker": "o", "markersize": 3.2, "linewidth": 0.9} if seen.sum() <= _POINTS else {}
    axes.plot(at[seen], values[seen], label=label, **{**style, **marker})


def _sparsity(found: Any) -> tuple[FloatArray, str]:
    """Sparsity along a path where it changes, else time."""
    times = numbers_of("found.time", found[TIME])
    if "density" not in found or found.density.dims != (TIME, LAYER):
        return times, "time"
    density = found.density.values
    masked = (density < 1).any(axis=0)
    sparsity = 1 - density[:, masked].mean(axis=1) if masked.any() else np.zeros(len(times))
    if np.ptp(sparsity) < 1e-12:
        return times, "time"
    return sparsity, "sparsity (mean over masked layers)"


def _energy_lines(ax: Where, at: FloatArray, energies: Any, counts: Sequence[int], what: str) -> Axes:
    least = min(len(one) for one in energies)
    held = [count for count in counts if count <= least]
    if not held:
        raise InputError(f"modes: expected some of at most {least}, as many as were computed, got {shown(counts)}.")
    axes = axes_of(ax, (4.6, 3.4))
    for count, style in zip(held, line_styles(len(held)), strict=True):
        shares = np.array([100 * one[count - 1] for one in energies])
        axes.plot(at, shares, marker="o", ms=4, label=f"top {count}", **style)
    name_axes(axes, "Energy in the leading modes", what, "share of the trace (%)")
    axes.legend()
    return axes


def _compare_networks(found: Any, ax: Where) -> Axes:
    checked_dataset("found", found, {"loss": (NETWORK, TIME)}, "gt.compare_networks")
    tested = "test_error_in_time" in found
    holder, panels = panels_of(ax, 1, 2 if tested else 1, (8.6 if tested else 4.8, 3.4))
    names = [str(one) for one in found[NETWORK].values]
    curves = [("loss", "Training loss, gradient flow", "share of the loss at the start")]
    curves += [("test_error_in_time", "Error on new inputs", "mean square error")] if tested else []
    for axes, (which, title, y) in zip(panels[0], curves, strict=True):
        for number, (name, style) in enumerate(zip(names, line_styles(len(names)), strict=True)):
            axes.loglog(found[TIME], found[which].values[number], label=name, **style)
        name_axes(axes, title, r"training time (learning rate $\times$ steps)", y)
    level = found.attrs.get("level")
    if isinstance(level, int | float | np.number):
        panels[0, 0].axhline(float(level), color=FAINT, linewidth=0.8)
    panels[0, 0].legend()
    return holder
