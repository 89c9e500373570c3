"""Positions as users give them, edges of blocks and cells, and densities there: checked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import Error, real_array
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import GraphonError

SLACK = 1e-12  # how far a density may leave [0, 1]


def together(u: ArrayLike, v: ArrayLike) -> tuple[FloatArray, ...]:
    """Positions as float64 arrays of one shape."""
    uu, vv = _as_float(u, "u"), _as_float(v, "v")
    try:
        uu, vv = np.broadcast_arrays(uu, vv)
    except ValueError:
        raise GraphonError(f"u, v: expected shapes that broadcast, got {uu.shape} and {vv.shape}.") from None
    refuse_beyond_memory(
        "u, v", 16.0 * uu.size, f"{uu.size:,} values", "pass fewer positions at a time", error=GraphonError
    )
    return uu, vv


def edges_of(edges: ArrayLike | None, blocks: int | None, name: str) -> FloatArray:
    """Check block edges: increasing from 0 to 1, one more than there are blocks."""
    out = np.linspace(0.0, 1.0, (blocks or 1) + 1) if edges is None else real_positions(edges, name)
    if out.ndim != 1 or len(out) < 2 or out[0] != 0.0 or out[-1] != 1.0 or not (np.diff(out) > 0).all():
        shown = np.array2string(out, threshold=8, precision=6)
        raise GraphonError(f"{name}: expected increasing edges from 0 to 1, got {shown}.")
    if blocks is not None and len(out) != blocks + 1:
        raise GraphonError(f"{name}: {blocks} blocks need {blocks + 1} edges, got {len(out)}.")
    out.setflags(write=False)
    return out


def cells_of(edges: ArrayLike, name: str) -> FloatArray:
    """Check the edges of cells to average over: increasing within [0, 1]."""
    out = real_positions(edges, name)
    if out.ndim != 1 or len(out) < 2 or not (out[0] >= 0.0 and out[-1] <= 1.0 and (np.diff(out) > 0).all()):
        shown = np.array2string(out, threshold=8, precision=6)
        raise GraphonError(f"{name}: expected increasing edges within [0, 1], got {shown}.")
    return out


def real_positions(obj: object, name: str) -> FloatArray:
    """A float64 copy."""
    return _as_float(obj, name).copy()


def _as_float(obj: object, name: str) -> FloatArray:
    expected = "an array of real numbers"
    return real_array(name, obj, objects=True, error=GraphonError, expected=expected).astype(float, copy=False)


def overlaps(cells: FloatArray, blocks: FloatArray) -> FloatArray:
    """Share of every cell covered by every block: (cells, blocks), rows adding to 1."""
    low = np.maximum(cells[:-1, None], blocks[None, :-1])
    high = np.minimum(cells[1:, None], blocks[None, 1:])
    out: FloatArray = np.clip(high - low, 0.0, None) / np.diff(cells)[:, None]
    return out


def between(breaks: Sequence[FloatArray], constant: bool = False) -> FloatArray:
    """Positions at which a range is checked: some in every panel between the breaks, or only its middle.

    Ends are approached but not struck.
    """
    edges = np.unique(np.concatenate(breaks))
    if constant:
        return (edges[:-1] + edges[1:]) / 2
    inner = (1 - np.cos(np.linspace(0, np.pi, max(9, 97 // (len(edges) - 1))))) / 2
    inner = np.clip(inner, 1e-9, 1 - 1e-9)
    return np.concatenate([a + (b - a) * inner for a, b in pairwise(edges)])


def check_density(values: FloatArray, name: str, graphon: object, error: Error = GraphonError) -> FloatArray:
    """Refuse probabilities outside [0, 1] (beyond the slack of 1e-12); return them."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low < -SLACK or high > 1.0 + SLACK:
        raise error(
            f"{name}: a density of connections must lie in [0, 1], got values in [{low:.13g}, {high:.13g}] from "
            f"{graphon!r}; rescale the graphon."
        )
    return values
