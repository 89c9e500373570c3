"""A result as one HTML page that needs nothing beside it: figures inline, tables, every text escaped."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from graphon_theory.data.checks import check_installed
from graphon_theory.data.versions import __version__
from graphon_theory.errors import GraphonError, InputError
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.network import Network

if TYPE_CHECKING:
    import xarray as xr

_ROWS = 40  # of a table; more are in the file
_COLUMNS = 8
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; background: white; }
pre { overflow-x: auto; max-height: 20rem; }
@media (max-width: 32rem) { body { margin-top: 1rem; } table { font-size: .85rem; } th, td { padding: .2rem .4rem; } }
footer { margin-top: 3rem; font-size: .85rem; opacity: .7; }
"""


def page(result: xr.Dataset | Network | Graphon, title: str) -> str:
    """One HTML page of a result: its picture, its figures, its variables and the network behind it.

    ``result``: a Dataset that the package returns, a Network or a graphon. Without matplotlib, or for results that have
    no picture, the page says so in its place. Raises InputError for anything else.
    """
    if not isinstance(result, Network | Graphon) and not hasattr(result, "data_vars"):
        raise InputError(f"result: expected a Dataset, a Network or a graphon, got {type(result).__name__}.")
    parts = [f"<h1>{escape(title)}</h1>", _picture(result)]
    if isinstance(result, Network):
        parts += [_layers(result), _text("Network", result.describe())]
    elif isinstance(result, Graphon):
        low, high = result.extremes()
        figures = [("mean", result.mean()), ("smallest", low), ("largest", high)]
        parts += [_table(["graphon", "value"], [[name, f"{value:.6g}"] for name, value in figures])]
    else:
        parts += list(_of_dataset(result))
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n"
        f"<footer>graphon-theory {escape(__version__)}</footer>\n</body>\n</html>\n"
    )


def _picture(result: Any) -> str:
    try:
        check_installed("The figure", {"matplotlib": "matplotlib"}, "examples")
        from matplotlib.figure import Figure

        from graphon_theory import plots

        file, figure = io.BytesIO(), Figure()
        plots.draw(result, ax=figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
    except GraphonError as error:
        return f"<p><em>No figure. {escape(str(error))}</em></p>"
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<p><img alt="The result as a figure" src="data:image/svg+xml;base64,{content}"></p>'


def _layers(network: Network) -> str:
    rows = [
        [str(number), f"{layer.mask.mean():.4f}", f"{layer.variance.mean():.4f}", "yes" if layer.has_drift else "no"]
        for number, layer in enumerate(network.layers, 1)
    ]
    return "<h2>Layers</h2>" + _table(["layer", "mean of W", "mean of V", "drift"], rows)


def _of_dataset(data: xr.Dataset) -> Any:
    figures = {name: value for name, value in data.attrs.items() if not _is_long(value)}
    figures |= {str(name): one.values for name, one in data.data_vars.items() if one.ndim == 0}
    if figures:
        yield "<h2>Figures</h2>" + _table(["name", "value"], [[str(k), _shown(v)] for k, v in figures.items()])
    by_dim: dict[str, list[str]] = {}
    for name, one in data.data_vars.items():
        if one.ndim == 1:
            by_dim.setdefault(str(one.dims[0]), []).append(str(name))
    for dim, names in sorted(by_dim.items(), key=lambda item: data.sizes[item[0]]):  # what is short comes first
        yield f"<h2>Over {escape(dim)}</h2>" + _over(data, dim, names)
    large = [
        [str(name), " x ".join(f"{data.sizes[d]} {d}" for d in map(str, one.dims)), str(one.dtype)]
        for name, one in data.data_vars.items()
        if one.ndim > 1
    ]
    if large:
        yield "<h2>Arrays in the file</h2>" + _table(["name", "shape", "type"], large)
    for name, value in data.attrs.items():
        if _is_long(value):
            yield _text(str(name), str(value))


def _over(data: xr.Dataset, dim: str, names: list[str]) -> str:
    size = data.sizes[dim]
    labels = data[dim].values if dim in data.coords else np.arange(size)
    tables = []
    for start in range(0, len(names), _COLUMNS):
        some = names[start : start + _COLUMNS]
        rows = [[_shown(labels[k]), *(_shown(data[name].values[k]) for name in some)] for k in range(min(size, _ROWS))]
        tables.append(_table([dim, *some], rows))
    more = f"<p>{size - _ROWS:,} more rows are in the file.</p>" if size > _ROWS else ""
    return "".join(tables) + more


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(name: str, text: str) -> str:
    return f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and (len(value) > 80 or "\n" in value)


def _shown(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim:
        return ", ".join(_shown(one) for one in array.ravel()[:8]) + (", ..." if array.size > 8 else "")
    if array.dtype.kind == "f":
        return f"{float(array):.6g}"
    return str(array)
