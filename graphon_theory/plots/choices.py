"""The picture that suits a result, and files of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphon_theory.data.checks import check_installed
from graphon_theory.data.files import file_path, whole_file
from graphon_theory.data.labels import NETWORK, SEED, SIZE, TIME, WIDTH, X
from graphon_theory.designs.graphon_designs import Design
from graphon_theory.errors import InputError
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.plots import curves, heat_maps, training_curves
from graphon_theory.plots.styles import figure_of, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from graphon_theory.plots.styles import Where

FORMATS = ("png", "svg", "pdf")


def draw(result: Any, *, ax: Where = None, **options: Any) -> Axes:
    """Draw a result of the package by the function of this module that suits it.

    Args:
        result: a Graphon, a Connectivity or a list of them, a Network, a Design, or a Dataset: kernels (with
            ``contributions=True`` the layers' shares), a kernel density, a spectrum, training in time, an energy path,
            a learning curve, networks compared, or finite networks against the limit; also as read from a file.
        ax: as in :func:`graphon`; options: those of the function that draws.

    Returns the Axes. Raises InputError for anything else, and for options that the function does not take.
    """
    function = _choice(result)
    try:
        return function(result, ax=ax, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"options: {str(error).replace('()', '', 1)}.") from None


def save(result: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Draw a result as :func:`draw` does and write the picture; never opens a window, never leaves a partial file.

    ``path`` ends in .png, .svg or .pdf. Raises InputError for other endings, before anything is drawn.
    """
    _format_of(path)
    check_installed("plots.save", {"matplotlib": "matplotlib"}, "examples")
    save_figure(figure_of(_drawn_apart(result, options)), path)


@styled
def save_figure(figure: Figure | Axes, path: str | os.PathLike[str]) -> None:
    """Write a figure, or that of some Axes, as .png, .svg or .pdf; never leaves a partial file.

    Raises InputError for other endings.
    """
    kind = _format_of(path)
    whole: Any = figure_of(figure) if hasattr(figure, "get_subplotspec") else figure  # type: ignore[arg-type]
    if not hasattr(whole, "savefig"):
        raise InputError(f"figure: expected a matplotlib Figure or Axes, got {type(figure).__name__}.")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with whole_file(path) as part:
        whole.savefig(part, format=kind, metadata=undated)


@styled
def _drawn_apart(result: Any, options: dict[str, Any]) -> Axes:
    """On a figure of its own, which no window shows."""
    from matplotlib.figure import Figure

    return draw(result, ax=Figure(), **options)


def _format_of(path: str | os.PathLike[str]) -> str:
    ending = file_path("path", path, "a picture").suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise InputError(f"path: expected a file that ends in .png, .svg or .pdf, got {os.fspath(path)!r:.80}.")
    return ending


def _choice(result: Any) -> Callable[..., Axes]:
    if isinstance(result, Design):
        return heat_maps.design
    if isinstance(result, Graphon):
        return heat_maps.graphon
    if isinstance(result, Connectivity | Network):
        return heat_maps.connectivity
    if isinstance(result, Sequence) and result and all(isinstance(one, Connectivity) for one in result):
        return heat_maps.connectivity
    if hasattr(result, "data_vars"):
        return _of_dataset(result, set(map(str, result.data_vars)), set(map(str, result.dims)))
    if hasattr(result, "dims") and getattr(result, "ndim", 0) == 2:
        return heat_maps.kernel
    raise InputError(
        "result: expected a Graphon, a Connectivity, a Network, a Design or a Dataset that the package returns, got "
        f"{type(result).__name__}; gt.plots.graphon and gt.plots.kernel draw plain arrays."
    )


def _of_dataset(result: Any, held: set[str], dims: set[str]) -> Callable[..., Axes]:
    if "ntk" in held and {WIDTH, SEED} & dims:
        raise InputError("result: this is a sweep of finite networks; draw gv.compare(sweep, kernels).")
    rules: tuple[tuple[bool, Callable[..., Axes]], ...] = (
        ({"value", "limit"} <= held and "quantity" in dims, curves.comparison),
        (NETWORK in dims and "loss" in held, curves.comparison),
        ("density" in held and {"u_weight", "v_weight"} <= held, heat_maps.density),
        ("ntk_layer" in held, curves.contributions),
        (bool({"ntk", "nngp"} & held) and X in dims, heat_maps.kernel),
        ("eigenvalue" in held and "energy" in held and TIME in dims, curves.energy),
        (bool({"eigenvalue", "singular_value"} & held), curves.spectrum),
        (TIME in dims and bool({"loss", "mean", "prediction"} & held), training_curves.training),
        (SIZE in dims and bool({"test_error", "spectral_error"} & held), curves.learning_curve),
    )
    for fits, function in rules:
        if fits:
            return function
    raise InputError(
        "result: expected a Dataset of kernels, of a spectrum, of training in time or of a comparison, got one of "
        f"{', '.join(sorted(held))[:120] or 'nothing'}."
    )
