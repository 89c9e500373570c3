"""How figures look: one style for all, put on for the time of drawing, and where they are drawn.

Colours are Okabe and Ito's for lines, cividis for what is not negative and purple to orange for what has signs: told
apart with any colour vision, and lines by their dashes without colour. Needs matplotlib (the ``examples`` extra).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import check_installed
from graphon_theory.errors import GraphonError, InputError, shown_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Where = Axes | Figure | None

P = ParamSpec("P")
R = TypeVar("R")

LINES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "linestyle": "-"},
    {"color": "#7F7F7F", "linestyle": (0, (3.5, 1.2))},
    {"color": "#0072B2", "linestyle": (0, (6, 1.5))},
    {"color": "#D55E00", "linestyle": (0, (6, 1.5, 1.2, 1.5))},
    {"color": "#009E73", "linestyle": (0, (1.6, 1.2))},
    {"color": "#CC79A7", "linestyle": (0, (9, 2))},
    {"color": "#56B4E9", "linestyle": (0, (5, 1.2, 1.2, 1.2, 1.2, 1.2))},
    {"color": "#E69F00", "linestyle": (0, (3, 3))},
)
FAINT = "#777777"  # levels and notes
SEQUENTIAL, DIVERGING = "cividis", "PuOr"
RC: Any = {
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
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "svg.hashsalt": "graphon-theory",  # the same figure is the same file
}


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """A function that draws in the style of the house, and leaves the user's own settings as they were.

    Raises GraphonError where matplotlib is missing, naming the extra that brings it, and InputError for a result that
    was changed so that it cannot be drawn: one without its attrs, or over other dimensions.
    """

    @wraps(function)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        check_installed(f"plots.{function.__name__}", {"matplotlib": "matplotlib"}, "examples")
        import matplotlib as mpl

        # not rc_context, which would put back what a notebook's backend sets when the first figure loads it
        yours = {name: mpl.rcParams[name] for name in RC}
        mpl.rcParams.update(RC)
        try:
            return function(*args, **kwargs)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            given = [*args, *kwargs.values()]
            wrong_call = error.__traceback__ is not None and error.__traceback__.tb_next is None
            if isinstance(error, GraphonError) or wrong_call or not given or not _is_result(given[0]):
                raise
            said = shown_text(f"{type(error).__name__}: {error}")
            raise InputError(
                f"expected a result as the package returns it, got one that does not draw ({said})."
            ) from error
        finally:
            mpl.rcParams.update(yours)

    return drawn


def _is_result(value: object) -> bool:
    """A Dataset, or a dict of such: what users can change."""
    return hasattr(value, "data_vars") or isinstance(value, Mapping)


def axes_of(ax: Where, size: tuple[float, float]) -> Axes:
    """The Axes to draw into: those given, in an empty Figure given, or in one of pyplot's that suits (inches)."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if isinstance(ax, Axes):
        return ax
    if ax is None:
        from matplotlib import pyplot

        return pyplot.figure(figsize=size, layout="constrained").add_subplot()
    if not isinstance(ax, Figure) or ax.axes:
        what = "a figure that holds axes already" if isinstance(ax, Figure) else type(ax).__name__
        raise InputError(f"ax: expected matplotlib Axes, an empty Figure or None, got {what}.")
    ax.set_size_inches(size)
    ax.set_layout_engine("constrained")
    return ax.add_subplot()


def panels_of(
    ax: Where, rows: int, columns: int, size: tuple[float, float], **shape: Any
) -> tuple[Axes, NDArray[np.object_]]:
    """Axes, and the panels they are divided into: the Axes themselves where there is one panel.

    ``shape``: ``width_ratios`` and ``height_ratios``.
    """
    holder = axes_of(ax, size)
    if rows == columns == 1:
        return holder, np.array([[holder]], dtype=object)
    holder.set_axis_off()
    place = holder.get_subplotspec()
    figure = holder.get_figure()
    assert figure is not None
    if place is None:  # axes at a place of their own
        box = holder.get_position()
        sides = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
        grid: Any = figure.add_gridspec(rows, columns, **sides, **shape)
    else:
        grid = place.subgridspec(rows, columns, **shape)
    panels = np.array([[figure.add_subplot(grid[i, j]) for j in range(columns)] for i in range(rows)], dtype=object)
    return holder, panels


def figure_of(ax: Axes) -> Any:
    """The figure that holds the Axes."""
    return ax.get_figure(root=False)


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set(xlabel=x, ylabel=y)


def colours_for(*tables: FloatArray) -> dict[str, Any]:
    """Colour map and range that tables share: from 0 to the largest value, or symmetric where there are signs."""
    low, high = min(float(one.min()) for one in tables), max(float(one.max()) for one in tables)
    if low < 0:
        most = max(-low, high)
        return {"cmap": DIVERGING, "vmin": -most, "vmax": most}
    return {"cmap": SEQUENTIAL, "vmin": 0.0, "vmax": high or 1.0}


def colour_bar(image: Any, panels: Any, label: str) -> Any:
    bar = figure_of(np.ravel(panels)[0]).colorbar(image, ax=list(np.ravel(panels)), pad=0.02, aspect=18)
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def by_name(argument: str, found: Any) -> dict[str, Any]:
    """Results by name; one alone has none."""
    if isinstance(found, Mapping) and not hasattr(found, "data_vars"):
        if not found:
            raise InputError(f"{argument}: expected at least one result, got an empty dict.")
        return {str(name)[:40]: one for name, one in found.items()}
    return {"": found}


def line_styles(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [LINES[(start + number) % len(LINES)] for number in range(count)]


def numbers_of(name: str, values: Any) -> FloatArray:
    array = np.atleast_1d(np.asarray(values))
    if array.dtype.kind not in "fiu" or not array.size:
        raise InputError(f"{name}: expected numbers, got dtype {array.dtype} of {array.size}.")
    return array.astype(float)


def put_legend(axes: Axes) -> None:
    """Within the axes; of more than three entries, beside them."""
    entries = len(axes.get_legend_handles_labels()[0])
    if entries > 3:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0)
    elif entries:
        axes.legend()
