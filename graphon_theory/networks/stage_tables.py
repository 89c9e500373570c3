"""Networks as notebooks show them: a table of stages with small heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from graphon_theory.data.heat_pictures import heat_map
from graphon_theory.errors import GraphonError
from graphon_theory.graphons.graphon import Graphon, StepGraphon
from graphon_theory.networks.stages import Dense, LayerNorm, Pointwise, Residual, Stage

_ROWS = 40  # stages shown
_SIDE = 56  # pixels a side of a map
_LEFT = "text-align:left;vertical-align:top"


def stage_table(heading: str, stages: Sequence[Stage]) -> str:
    """HTML: a row a stage, those of branches set in; weight layers with their graphons and scales."""
    rows = list(_rows(stages))
    body = "".join(rows[:_ROWS])
    if len(rows) > _ROWS:
        body += f'<tr><td colspan="4" style="{_LEFT}">and {len(rows) - _ROWS} more stages</td></tr>'
    names = ("stage", "graphons", "&sigma;<sub>w</sub><sup>2</sup>", "&sigma;<sub>b</sub><sup>2</sup>")
    head = "".join(f'<th style="{_LEFT}">{name}</th>' for name in names)
    return f"<div><b>{escape(heading)}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _rows(stages: Sequence[Stage], depth: int = 0) -> Iterator[str]:
    for stage in stages:
        if isinstance(stage, Dense):
            kinds = stage.connectivity.kinds.items()
            maps = "".join(_small(letter, graphon) for letter, graphon in kinds)
            yield _row(depth, "Dense", maps, _number(stage.weight_variance), _number(stage.bias_variance))
        elif isinstance(stage, Pointwise):
            yield _row(depth, "activation" if stage.activation is None else stage.activation.name)
        elif isinstance(stage, LayerNorm):
            yield _row(depth, f"LayerNorm, epsilon {stage.epsilon:g}")
        elif isinstance(stage, Residual):
            yield _row(depth, "shortcut" if stage.scale == 1 else f"shortcut, its branch times {stage.scale:g}")
            yield from _rows(stage.stages, depth + 1)


def _row(depth: int, name: str, maps: str = "", weights: str = "", biases: str = "") -> str:
    indent = f"{_LEFT};padding-left:{0.5 + 1.5 * depth:g}em"
    others = "".join(f'<td style="{_LEFT}">{one}</td>' for one in (maps, weights, biases))
    return f'<tr><td style="{indent}">{escape(name)}</td>{others}</tr>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _small(letter: str, graphon: Graphon) -> str:
    """A map with its letter, and the constant or the kind below."""
    try:
        rows, columns, values = graphon._picture()
        dense = float(letter in "WV")  # of a layer that lost nothing, so that layers can be compared
        picture = heat_map(rows, columns, values, side=_SIDE, named=False, reach=dense)
        low, high = float(values.min()), float(values.max())
        told = f"{letter} = {low:.3g}" if low == high else f"{letter}: {low:.3g} to {high:.3g}"
    except GraphonError as error:
        picture, told = "", f"{letter}: {error}"
    if isinstance(graphon, StepGraphon) and graphon.values.size > 1:
        told += f", {graphon.values.shape[0]} x {graphon.values.shape[1]} blocks"
    kind = f'title="{escape(repr(graphon)[:200])}"'
    return (
        f'<div style="display:inline-block;margin-right:1em;text-align:left" {kind}>{picture}'
        f"<br><small>{escape(told)}</small></div>"
    )
