"""Small heat maps for reprs in notebooks, as inline SVG in the colours of figures; no plotting library is needed."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import GraphonError

# Anchors of matplotlib's cividis, at equal distances, and those of its PuOr: straight lines between them are within 11
# of 255 of the one, and are the other.
_CIVIDIS = (
    *("00224e", "002d68", "163770", "2e416d", "3f4c6c", "4e566c", "5c616e", "696b71", "767676"),
    *("838179", "928c78", "a09875", "afa471", "bfb06b", "cfbd62", "dfca57", "f0d846", "fee838"),
)
_PUOR = (
    *("7f3b08", "b35806", "e08214", "fdb863", "fee0b6", "f7f7f7", "d8daeb", "b2abd2", "8073ac", "542788", "2d004b"),
)
_LEVELS = 48  # colours of one map: cells of one colour are one path

Cells = tuple[FloatArray, FloatArray, FloatArray]  # edges of rows, of columns, and values


def described_map(text: str, cells: Callable[[], Cells]) -> str:
    """HTML: a text above the map, or above the reason why there is none: a picture must not be what fails."""
    try:
        picture = heat_map(*cells())
    except GraphonError as error:
        picture = escape(str(error))
    return f"<div><code>{escape(text)}</code><br>{picture}</div>"


def heat_map(
    rows: FloatArray,
    columns: FloatArray,
    values: FloatArray,
    *,
    side: int = 132,
    named: bool = True,
    reach: float = 0.0,
) -> str:
    """SVG of cells between edges on [0, 1]: rows u (receiving) downwards, columns v (sending) to the right.

    Colours run from 0 to the largest value, or symmetrically about 0 where there are negative ones, as in figures.
    ``reach``: a value that the colours reach at least, so that maps can be compared. ``named``: with axes and a colour
    bar; without, the map alone.
    """
    low, high, anchors = _range(values, reach)
    levels = np.clip(np.round((values - low) / (high - low) * (_LEVELS - 1)), 0, _LEVELS - 1).astype(int)
    x, y = (np.round(edges * side, 1) for edges in (columns, rows))
    paths: dict[int, list[str]] = {}
    for i, line in enumerate(levels):
        ends = np.flatnonzero(np.append(line[1:] != line[:-1], True))
        start = 0
        for end in ends:  # neighbours of one colour are one piece
            box = f"M{x[start]:g} {y[i]:g}H{x[end + 1]:g}V{y[i + 1]:g}H{x[start]:g}z"
            paths.setdefault(int(line[end]), []).append(box)
            start = int(end) + 1
    cells = "".join(f'<path fill="{_colour(anchors, k)}" d="{"".join(one)}"/>' for k, one in sorted(paths.items()))
    label = f"heat map, rows u (receiving), columns v (sending), values from {values.min():.3g} to {values.max():.3g}"
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
    if not named:
        box = f'width="{side}" height="{side}" viewBox="0 0 {side} {side}" shape-rendering="crispEdges"'
        return f"{opening}{box}>{cells}</svg>"
    left, top, below, right = 40, 8, 36, 64
    width, height = left + side + right, top + side + below
    parts = [f'<g transform="translate({left} {top})"><g shape-rendering="crispEdges">{cells}</g>']
    for place in (0, 0.5, 1):
        at = place * side
        parts.append(f'<text x="{at:g}" y="{side + 13}" text-anchor="middle">{place:g}</text>')
        parts.append(f'<text x="-5" y="{at + 3.5:g}" text-anchor="end">{place:g}</text>')
    parts.append(f'<text x="{side / 2:g}" y="{side + 28}" text-anchor="middle">sending v</text>')
    parts.append(f'<text transform="translate(-28 {side / 2:g}) rotate(-90)" text-anchor="middle">receiving u</text>')
    bar, step = side + 12, side / _LEVELS
    for k in range(_LEVELS):
        top_of = side - (k + 1) * step
        parts.append(
            f'<rect x="{bar}" y="{top_of:.2f}" width="9" height="{step + 0.3:.2f}" fill="{_colour(anchors, k)}"/>'
        )
    for value, at in ((high, 0.0), ((low + high) / 2, side / 2), (low, float(side))):
        parts.append(f'<text x="{bar + 13}" y="{at + 3.5:g}">{value:.3g}</text>')
    style = 'font-family="sans-serif" font-size="10" fill="currentColor"'
    return f'{opening}width="{width}" height="{height}" {style}>{"".join(parts)}</g></svg>'


def _range(values: FloatArray, reach: float) -> tuple[float, float, FloatArray]:
    low, high = float(values.min()), float(values.max())
    if low < 0:
        most = max(-low, high, reach)
        return -most, most, _read(_PUOR)
    return 0.0, max(high, reach) or 1.0, _read(_CIVIDIS)


def _read(colours: tuple[str, ...]) -> FloatArray:
    return np.array([[int(one[k : k + 2], 16) for k in (0, 2, 4)] for one in colours], dtype=float)


def _colour(anchors: FloatArray, level: int) -> str:
    place = np.linspace(0, 1, len(anchors))
    channels = (round(float(np.interp(level / (_LEVELS - 1), place, column))) for column in anchors.T)
    return "#" + "".join(f"{one:02x}" for one in channels)
