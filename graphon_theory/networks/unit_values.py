"""Finite layers of units: their counts, their positions, and a graphon's values at them (THEORY §1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import whole_numbers
from graphon_theory.errors import NetworkError
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.network import Network

Evaluator = Callable[[Graphon, slice], FloatArray]


def check_widths(network: Network, widths: Sequence[int]) -> tuple[int, ...]:
    """Unit counts (n_0, ..., n_L) of all layers of units; residual branches come back to theirs.

    Raises NetworkError where they do not fit the network.
    """
    places = max(part.place for part in network.outline)
    expected = f"{places + 1} unit counts (n_0, ..., n_{places})"
    counts = whole_numbers("widths", widths, error=NetworkError, expected=f"{expected}, positive integers")
    if len(counts) != places + 1:
        raise NetworkError(f"widths: expected {expected}, got {len(counts)}.")
    if counts[-1] != network.outputs:
        raise NetworkError(
            f"widths: the last is {counts[-1]}, but the network has {network.outputs} outputs; "
            "make them equal, or give the network outputs=...."
        )
    return counts


def equal_widths(network: Network, inputs: int, width: int) -> tuple[int, ...]:
    """The unit counts of a network on so many inputs, all of whose inner layers of units are ``width`` wide."""
    places = max(part.place for part in network.outline)
    return (inputs, *[width] * (places - 1), network.outputs)


def unit_values(n_out: int, n_in: int, *, first: bool, last: bool) -> Evaluator:
    """Values of a graphon on chosen rows of a layer: at grid positions inside, as cell means at the
    ends."""
    u, v = midpoints(n_out), midpoints(n_in)
    u_edges, v_edges = np.linspace(0, 1, n_out + 1), np.linspace(0, 1, n_in + 1)

    def values(graphon: Graphon, rows: slice) -> FloatArray:
        if first and last:
            return graphon.cell_means(u_edges, v_edges)[rows]
        if first:
            return graphon.row_means(u[rows], v_edges)
        if last:
            return graphon.T.row_means(v, u_edges).T[rows]
        out: FloatArray = graphon(u[rows, None], v[None, :])
        return out

    return values


def midpoints(count: int) -> FloatArray:
    """(i + 1/2) / count, the positions of ``count`` units on the grid."""
    return (np.arange(count) + 0.5) / count
