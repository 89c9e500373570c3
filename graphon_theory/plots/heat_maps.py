"""Heat maps: graphons on their true positions, the layers of a network, designs, kernels and their densities.

A map of connections is drawn as a mask is written: receiving units downwards, sending units to the right.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import checked_dataset, one_of, real_array, refuse_infinite, whole_number
from graphon_theory.data.labels import U, V, labels_of
from graphon_theory.designs.graphon_designs import Design
from graphon_theory.engine.densities import marginals
from graphon_theory.errors import GraphonError, InputError, shown, shown_text
from graphon_theory.graphons.conversions import as_graphon
from graphon_theory.graphons.graphon import Graphon, StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.plots.styles import (
    LINES,
    axes_of,
    colour_bar,
    colours_for,
    panels_of,
    styled,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from graphon_theory.plots.styles import Where

FINE = 160  # cells a side of graphons that are no step functions
_ACROSS = 5  # layers beside each other at most
_NAMED = 40  # inputs whose names stand on an axis: of more, every few
_KINDS = {"mask": "density of connections $W$", "variance": "weight variance $V$", "drift": "drift $D$"}
_SYMBOLS = {"mask": "W", "variance": "V", "drift": "D"}


@styled
def graphon(graphon: object, *, ax: Where = None, limits: tuple[float, float] | None = None) -> Axes:
    """A graphon as a heat map on its true positions: u, receiving, downwards and v, sending, to the right.

    Blocks of step functions stand where their edges are; others are drawn by their values at the middles of 160 x 160
    cells, parted further at their breaks.

    Args:
        graphon: a :class:`Graphon`, or what :func:`as_graphon` takes.
        ax: matplotlib Axes, or an empty Figure, which gets a size that suits; a pyplot figure of its own if left out.
        limits: the values at the ends of the colour bar; 0 and the largest value if left out, symmetric about 0 where
            there are negative values.

    Returns the Axes. Raises InputError for anything else.
    """
    table = _Map.of(_checked_graphon(graphon))
    colours = colours_for(table.values)
    if limits is not None:
        low, high = _checked_limits(limits)
        colours |= {"vmin": low, "vmax": high}
    axes = axes_of(ax, (4.2, 3.5))
    image = table.draw(axes, colours)
    axes.set(xlabel="sending position $v$", ylabel="receiving position $u$")
    colour_bar(image, axes, "$W(u, v)$")
    return axes


@styled
def connectivity(layers: object, *, ax: Where = None) -> Axes:
    """The graphons of one layer or of all: W, V where it is not W, and D where there is drift.

    Layers stand beside each other, at most five in a line; each kind has one colour bar, so that its layers can be
    compared. Above each map stands its mean.

    Args:
        layers: a :class:`Connectivity`, a :class:`Network`, a :class:`Design`, or a list of Connectivity such as
            :func:`estimate_network` returns.
        ax: as in :func:`graphon`; Axes that are given are divided into the panels.

    Returns the Axes, which hold the panels where there are several. Raises InputError for anything else.
    """
    found = _layers_of(layers)
    kinds = ["mask"]
    kinds += ["variance"] if any(one.variance is not one.mask for one in found) else []
    kinds += ["drift"] if any(one.has_drift and not one.drift.is_zero for one in found) else []
    lines = -(-len(found) // _ACROSS)
    across = -(-len(found) // lines)
    if len(found) == 1:
        holder, panels = panels_of(ax, 1, len(kinds), (3.3 * len(kinds), 2.9))
    else:
        size = (1.9 * across + 1.5, 2.3 * lines * len(kinds) + 0.3)
        holder, panels = panels_of(ax, lines * len(kinds), across, size)
    for place, kind in enumerate(kinds):
        maps = [_Map.of(getattr(one, kind)) for one in found]
        colours = colours_for(*(one.values for one in maps))
        rows = panels[place :: len(kinds)] if len(found) > 1 else panels[:, [place]]
        for number, one in enumerate(maps):
            axes = rows[number // across, number % across]
            image = one.draw(axes, colours)
            name = f"layer {number + 1}\n" if len(found) > 1 else ""
            axes.set_title(f"{name}mean ${_SYMBOLS[kind]}$ = {one.mean:.3g}")
            if number % across == 0:
                axes.set_ylabel("receiving $u$")
        for axes in rows.ravel()[len(maps) :]:
            axes.set_visible(False)
        for line in rows:
            colour_bar(image, line, _KINDS[kind])
    for column in range(panels.shape[1]):
        last = max(row for row in range(len(panels)) if panels[row, column].get_visible())
        panels[last, column].set_xlabel("sending $v$")
    return holder


@styled
def design(found: Design, names: Sequence[object] | None = None, *, ax: Where = None) -> Axes:
    """A designed network: what its first layer gives to every input, by name, and the densities of the others.

    Args:
        found: what :func:`design` returned.
        names: of the inputs (d,), such as the columns of a DataFrame; their numbers, from 0, if left out.
        ax: as in :func:`graphon`.

    Returns the Axes, which hold the panels where there are several. Raises InputError for anything else.
    """
    if not isinstance(found, Design):
        raise InputError(f"found: expected the Design that gt.design returns, got {type(found).__name__}.")
    inputs = found.widths[0]
    labels = [str(one)[:24] for one in (range(inputs) if names is None else _listed(names, inputs))]
    if len(labels) != inputs:
        raise InputError(f"names: expected {inputs}, one an input, got {len(labels)}.")
    maps = [_Map.of(layer.mask) for layer in found.network.layers]
    colours = colours_for(*(one.values for one in maps))
    shown = min(inputs, _NAMED)
    wide = float(np.clip(0.24 * shown, 2.4, 8.0))
    size = (wide + 1.75 * (len(maps) - 1) + 1.3, 3.4)
    ratios = [wide, *[1.75] * (len(maps) - 1)]
    holder, panels = panels_of(ax, 1, len(maps), size, width_ratios=ratios)
    for number, (axes, one) in enumerate(zip(panels[0], maps, strict=True), 1):
        image = one.draw(axes, colours)
        axes.set_aspect("auto")
        axes.set(xlabel="sending $v$", title=f"layer {number}: mean $W$ = {one.mean:.3g}")
    first = panels[0, 0]
    step = -(-inputs // _NAMED)
    at = np.arange(0, inputs, step)
    longest = max(len(labels[k]) for k in at)
    first.set_xticks((at + 0.5) / inputs, [labels[k] for k in at], rotation=90 if longest > 2 else 0)
    first.set(xlabel="input", ylabel="receiving $u$")
    colour_bar(image, panels[0], _KINDS["mask"])
    return holder


@styled
def kernel(
    kernel: xr.Dataset | xr.DataArray | ArrayLike,
    *,
    ax: Where = None,
    kind: str = "ntk",
    output: int = 0,
    order: ArrayLike | None = None,
) -> Axes:
    """A kernel between inputs as a heat map, the first input at the top left.

    Args:
        kernel: what :func:`limit_kernel` or ``gv.empirical_kernel`` returns, one of its variables, or a matrix (N, M).
        ax: as in :func:`graphon`.
        kind: "ntk" or "nngp", of a Dataset; output: which, where there are several.
        order: (N,), such as class labels, of a square kernel: inputs are put in its order, and lines part what differs.

    Returns the Axes. Raises InputError for anything else.
    """
    matrix, name, inputs = _matrix_of(kernel, kind, output)
    from matplotlib import ticker

    parts: Any = ()
    if order is not None:
        keys = _keys_of(order)
        if keys.shape != matrix.shape[:1] or matrix.shape[0] != matrix.shape[1]:
            raise InputError(
                f"order: expected {len(matrix)} labels of a square kernel's inputs, got shape {keys.shape}."
            )
        at = np.argsort(keys, kind="stable")
        matrix, inputs = matrix[np.ix_(at, at)], None
        parts = np.flatnonzero(keys[at][1:] != keys[at][:-1]) + 0.5
    axes = axes_of(ax, (4.4, 3.6))
    rows, columns = matrix.shape
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    image = axes.pcolormesh(*edges, matrix, rasterized=True, **colours_for(matrix))
    axes.set(xlim=edges[0][[0, -1]], ylim=edges[1][[-1, 0]], xlabel="input $x'$", ylabel="input $x$", aspect="equal")
    axes.grid(visible=False)
    for line in parts:
        axes.axhline(line, color="white", linewidth=0.7)
        axes.axvline(line, color="white", linewidth=0.7)
    if inputs is not None and rows == columns <= _NAMED:
        texts = [str(one)[:24] for one in inputs]
        axes.set_xticks(np.arange(columns), texts, rotation=90)
        axes.set_yticks(np.arange(rows), texts)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(ticker.MaxNLocator(integer=True))
    colour_bar(image, axes, name)
    return axes


@styled
def density(density: xr.Dataset, *, ax: Where = None) -> Axes:
    """A kernel density over connections, with its marginals: which positions learn, and how fast.

    Args:
        density: what :func:`kernel_density` returns.
        ax: as in :func:`graphon`; Axes that are given are divided into the panels.

    Returns the Axes, which hold the panels: the density, what is sent above it, what is received beside it. Raises
    InputError for anything else.
    """
    sums = marginals(density)
    values = density.density.transpose(U, V).values
    u_edges, v_edges = (np.concatenate([[0.0], np.cumsum(sums[f"{side}_weight"].values)]) for side in (U, V))
    holder, panels = panels_of(ax, 2, 2, (5.6, 5), width_ratios=(3, 1), height_ratios=(1, 3))
    (above, corner), (centre, beside) = panels
    corner.remove()
    above.sharex(centre)
    beside.sharey(centre)
    image = centre.pcolormesh(v_edges, u_edges, values, rasterized=True, **colours_for(values))
    centre.set(xlabel="sending position $v$", ylabel="receiving position $u$", xlim=(0, 1), ylim=(1, 0))
    above.stairs(sums.sending.values, v_edges, color=LINES[2]["color"], baseline=None)
    beside.stairs(sums.receiving.values, u_edges, color=LINES[3]["color"], baseline=None, orientation="horizontal")
    for axes, name in ((above, f"layer {int(density.attrs['layer'])}: sending"), (beside, "receiving")):
        axes.set_title(name)
        axes.tick_params(labelbottom=axes is beside, labelleft=axes is above)
    for axes in (centre, above, beside):
        axes.grid(visible=False)
    bar = colour_bar(image, beside, "kernel density")
    bar.ax.set_in_layout(True)
    return holder


class _Map:
    """Cells of a graphon, and their values."""

    def __init__(self, u_edges: FloatArray, v_edges: FloatArray, values: FloatArray) -> None:
        self.u_edges, self.v_edges, self.values = u_edges, v_edges, values

    @classmethod
    def of(cls, graphon: Graphon) -> _Map:
        if isinstance(graphon, StepGraphon):
            return cls(graphon.u_edges, graphon.v_edges, graphon.values)
        u, v = (np.union1d(np.linspace(0, 1, FINE + 1), breaks) for breaks in (graphon.u_breaks, graphon.v_breaks))
        return cls(u, v, graphon(((u[1:] + u[:-1]) / 2)[:, None], (v[1:] + v[:-1]) / 2))

    @property
    def mean(self) -> float:
        return float(np.diff(self.u_edges) @ self.values @ np.diff(self.v_edges))

    def draw(self, axes: Axes, colours: dict[str, Any]) -> Any:
        image = axes.pcolormesh(self.v_edges, self.u_edges, self.values, rasterized=True, **colours)
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
        axes.grid(visible=False)
        return image


def _checked_graphon(thing: object) -> Graphon:
    if isinstance(thing, Connectivity | Network | Design):
        raise InputError(
            f"graphon: expected one graphon, got a {type(thing).__name__}; gt.plots.connectivity draws it."
        )
    try:
        return as_graphon(thing)
    except GraphonError as error:
        raise InputError(f"graphon: {error}") from None


def _checked_limits(limits: Any) -> tuple[float, float]:
    ends = real_array("limits", limits, expected="two numbers, the lower first")
    if ends.shape != (2,) or not np.isfinite(ends).all() or not ends[0] < ends[1]:
        raise InputError(f"limits: expected two numbers, the lower first, got {limits!r:.80}.")
    return float(ends[0]), float(ends[1])


def _layers_of(layers: object) -> list[Connectivity]:
    if isinstance(layers, Design):
        return list(layers.network.layers)
    if isinstance(layers, Network):
        return list(layers.layers)
    if isinstance(layers, Connectivity):
        return [layers]
    if isinstance(layers, Sequence) and layers and all(isinstance(one, Connectivity) for one in layers):
        return list(layers)
    raise InputError(
        f"layers: expected a Connectivity, a Network, a Design or a list of Connectivity, got {type(layers).__name__}; "
        "gt.plots.graphon draws one graphon."
    )


def _listed(names: Any, most: int) -> list[object]:
    """The first names, one more than there may be."""
    try:
        if isinstance(names, str):
            raise TypeError
        return list(itertools.islice(names, most + 1))
    except TypeError:
        raise InputError(f"names: expected a list of names, got {type(names).__name__}.") from None


def _keys_of(order: Any) -> NDArray[Any]:
    try:
        return np.asarray(order)
    except Exception as error:  # other libraries raise what they like
        raise InputError(
            f"order: expected one label an input, got {shown(order)} ({shown_text(str(error))})."
        ) from None


def _matrix_of(kernel: Any, kind: str, output: int) -> tuple[FloatArray, str, Any]:
    """The matrix, what it is called, and the labels of its inputs."""
    names = {"ntk": r"NTK $\Theta(x, x')$", "nngp": "NNGP $K(x, x')$"}
    one_of("kind", kind, tuple(names))
    if hasattr(kernel, "data_vars"):
        kernel = checked_dataset("kernel", kernel, (kind,), "gt.limit_kernel")[kind]
    name = names.get(str(getattr(kernel, "name", "")), "kernel")
    if "output" in getattr(kernel, "dims", ()):
        kernel = kernel.isel(output=whole_number("output", output, 0, kernel.sizes["output"] - 1))
    inputs = labels_of(kernel)
    matrix = real_array("kernel", kernel, expected="a matrix of real numbers").astype(float)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(f"kernel: expected a matrix, or what gt.limit_kernel returns, got shape {matrix.shape}.")
    refuse_infinite("kernel", matrix, "draw the part that is finite")
    return matrix, name, inputs
