"""Training in time: losses, and predictions with their bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import checked_dataset, one_of, whole_numbers
from graphon_theory.data.labels import SEED, TARGET, TIME
from graphon_theory.errors import InputError
from graphon_theory.plots.styles import axes_of, by_name, line_styles, name_axes, numbers_of, put_legend, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from graphon_theory.plots.styles import Where

_BANDS = 2.0  # standard deviations on either side
_SHOWN = 3  # inputs whose predictions are drawn


@styled
def training(
    path: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    ax: Where = None,
    quantity: str | None = None,
    inputs: Sequence[int] | None = None,
) -> Axes:
    """Training in time, predicted or real: losses, or predictions of some inputs with their bands.

    Lines are training losses, or means; broken ones, test losses. Bands are two standard deviations on either side,
    over initialisations or over ``seed``. Infinite times are levels at the right. Curves of several runs come in a dict
    by name, such as {"limit": ..., "trained": ...}, or by drawing into the same ``ax`` again.

    Args:
        path: what :func:`gradient_flow`, :func:`gradient_descent`, :func:`training_ensemble`, ``gv.train`` or
            ``gv.trained_ensemble`` returns; or a dict of such by name.
        ax: as in :func:`spectrum`.
        quantity: "loss", "accuracy" (of labels), "prediction", on training inputs, or "test_prediction". If left out,
            "test_prediction" or "prediction" of what has bands, else "loss".
        inputs: which inputs' predictions, from 0; the first three if left out.

    Returns the Axes. Raises InputError for anything else.
    """
    several = by_name("path", path)
    for one in several.values():
        checked_dataset("path", one, (), "gt.gradient_flow")
        if TIME not in one.coords or not {"loss", "mean", "prediction"} & set(one.data_vars):
            raise InputError("path: expected what gt.gradient_flow or gt.training_ensemble returns, over time.")
    first = next(iter(several.values()))
    if quantity is None:
        banded = "std" in first or (SEED in first.dims and "loss" not in first)
        quantity = "loss" if not banded else "test_prediction" if "test_mean" in first else "prediction"
    one_of("quantity", quantity, ("loss", "accuracy", "prediction", "test_prediction"))
    axes = axes_of(ax, (4.8, 3.4))
    every = np.concatenate([numbers_of("path.time", one[TIME]) for one in several.values()])
    if quantity in ("loss", "accuracy"):
        styles = line_styles(len(several), len(axes.lines))
        for (name, one), style in zip(several.items(), styles, strict=True):
            _draw_losses(axes, one, name, style, quantity)
        name_axes(axes, "Training", _when(several), "loss" if quantity == "loss" else "share of inputs told right")
        if quantity == "loss":
            _loss_axis(axes)
    else:
        _draw_predictions(axes, several, quantity, inputs)
        name_axes(axes, "Predictions", _when(several), "prediction")
    _time_axis(axes, every)
    put_legend(axes)
    return axes


# --- parts ------------------------------------------------------------------------------------------------------------


def _draw_losses(axes: Axes, one: Any, name: str, style: dict[str, Any], quantity: str) -> None:
    checked_dataset("path", one, (quantity,), "gt.gradient_flow")
    times = numbers_of("path.time", one[TIME])
    both = f"test_{quantity}" in one
    for which, kind, dashes in ((quantity, "training", "-"), (f"test_{quantity}", "test", (0, (4, 1.5)))):
        if which not in one:
            continue
        label = (f"{name}, test" if kind == "test" else name) if name else (kind if both else None)
        spread = [dim for dim in one[which].dims if dim != TIME]
        values = one[which].transpose(*spread, TIME).values.reshape(-1, len(times))
        mean = values.mean(axis=0)
        deviation = values.std(axis=0, ddof=1) if len(values) > 1 else None
        _line(axes, times, mean, deviation, {**style, "linestyle": dashes}, label)


def _draw_predictions(axes: Axes, several: dict[str, Any], quantity: str, inputs: Sequence[int] | None) -> None:
    for number, (name, one) in enumerate(several.items()):
        mean, std = _prediction(one, quantity)
        size = mean.shape[1]
        chosen = range(min(size, _SHOWN)) if inputs is None else whole_numbers("inputs", inputs, 0, most=size - 1)
        for place, style in zip(chosen, line_styles(len(chosen), 2), strict=True):
            label = f"{name}, input {place}" if name else f"input {place}"
            deviation = None if std is None else std[:, place]
            line = {**style, "linestyle": "-" if number == 0 else style["linestyle"]}
            _line(axes, numbers_of("path.time", one[TIME]), mean[:, place], deviation, line, label)


def _prediction(one: Any, quantity: str) -> tuple[FloatArray, FloatArray | None]:
    """Mean over ("time", "x") and its deviation; of several targets the first."""
    names = {"prediction": ("mean", "std"), "test_prediction": ("test_mean", "test_std")}[quantity]
    if names[0] in one:
        mean, std = one[names[0]], one[names[1]].values
        return np.asarray((mean.isel({TARGET: 0}) if TARGET in mean.dims else mean).values), np.asarray(std)
    checked_dataset("path", one, (quantity,), "gt.gradient_flow (with a test kernel, for test_prediction)")
    values = one[quantity]
    for dim, place in ((TARGET, 0), ("kind", 0)):  # the first kind of gv.trained_ensemble is "real"
        values = values.isel({dim: place}) if dim in values.dims else values
    values = values.transpose(*(dim for dim in (SEED, TIME) if dim in values.dims), ...)
    if SEED in values.dims:
        return values.values.mean(axis=0), values.values.std(axis=0, ddof=1)
    if values.ndim != 2:
        raise InputError(f"path: expected {quantity} over time and inputs, got it over {values.dims}.")
    return values.values, None


def _line(
    axes: Axes,
    times: FloatArray,
    mean: FloatArray,
    deviation: FloatArray | None,
    style: dict[str, Any],
    label: str | None,
) -> None:
    """A curve with its band; what is at infinity, as a level."""
    finite = np.isfinite(times)
    (line,) = axes.plot(times[finite], mean[finite], label=label, **style)
    if finite.sum() == 1:
        line.set_marker("o")
    if deviation is not None:
        low, high = mean - _BANDS * deviation, mean + _BANDS * deviation
        axes.fill_between(times[finite], low[finite], high[finite], color=style["color"], alpha=0.16, linewidth=0)
    for value in mean[~finite & (np.abs(mean) > 1e-9 * np.abs(mean).max())]:  # a loss of 0 is no level on a log axis
        axes.axhline(value, color=style["color"], linewidth=0.8, linestyle=":")
        axes.annotate(
            r"$t = \infty$", (1.0, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
        )


def _loss_axis(axes: Axes) -> None:
    """Logarithmic where losses fall by more than ten, and no further down than they can mean something."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    if (values > 0).all() and values.max() > 10 * values.min():
        axes.set_yscale("log")
        if values.min() < 1e-8 * values.max():
            axes.set_ylim(bottom=1e-8 * values.max())


def _time_axis(axes: Axes, times: FloatArray) -> None:
    """Logarithmic where times span decades, with a linear piece that holds 0."""
    positive = times[np.isfinite(times) & (times > 0)]
    if positive.size and positive.max() > 20 * positive.min():
        if (times == 0).any():
            axes.set_xscale("symlog", linthresh=float(positive.min()))
            axes.set_xlim(left=0.0)
        else:
            axes.set_xscale("log")


def _when(several: dict[str, Any]) -> str:
    flows = ({"rate", "floor"} <= set(one.data_vars) or "integration_error" in one.attrs for one in several.values())
    if any(flows) or any(not one.attrs.get("descent", 1) for one in several.values()):
        return r"training time (learning rate $\times$ steps)" if _unit_rate(several) else "training time (steps)"
    return "step"


def _unit_rate(several: dict[str, Any]) -> bool:
    return all(bool(np.all(np.equal(one.attrs.get("learning_rate", 0.0), 1.0))) for one in several.values())
