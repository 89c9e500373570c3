"""Masks drawn from a network's graphons with the budget of every layer met exactly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from graphon_theory.arrays import BoolArray, FloatArray, IntArray
from graphon_theory.data.checks import as_generator, instance
from graphon_theory.errors import NetworkError
from graphon_theory.graphons.positions import check_density
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Weights
from graphon_theory.networks.unit_values import check_widths, unit_values


class DeadUnitsWarning(UserWarning):
    """Masks leave units without connections on one side."""


def sample_masks(network: Network, widths: Sequence[int], rng: np.random.Generator | int) -> list[BoolArray]:
    """Masks (n_l, n_(l-1)) of every layer, drawn from the network's mask graphons with exact budgets.

    Layer l keeps round(sum_ij p_ij) connections, where p_ij = W(u_i, v_j) at the positions (i + 1/2) / n of hidden
    units, and its mean over the cells of inputs and outputs. Every entry is kept with probability p_ij, as in
    :meth:`Graphon.sample`, but not independently: p is added up row by row, each in random order, and an entry is kept
    where the sum passes r, r + 1, r + 2, ... with one uniform r (systematic sampling). So a row with an expected fan-in
    of 1 or more has a connection, and rows of one block have as many as each other, but for one.

    ``widths``: unit counts (n_0, ..., n_L) of all layers of units; residual branches come back to theirs. ``rng``: seed
    or generator.

    Warns (DeadUnitsWarning) with the numbers of hidden units that receive nothing, or send nothing to another hidden
    layer; units that none of few outputs reads are what a sparse last layer is. Raises NetworkError where widths do not
    fit.
    """
    instance("network", network, Network, error=NetworkError)
    counts = check_widths(network, widths)
    parts = [part for part in network.outline if isinstance(part, Weights)]
    generator = as_generator(rng)
    masks = []
    for part, layer in zip(parts, network.layers, strict=True):
        ends = {"first": part.source == 0, "last": part.place == len(counts) - 1}
        p = unit_values(counts[part.place], counts[part.source], **ends)(layer.mask, slice(None))
        masks.append(_systematic(check_density(p, f"layer {part.number}", layer.mask, NetworkError), generator))
    _report_dead(masks)
    return masks


def _systematic(p: FloatArray, rng: np.random.Generator) -> BoolArray:
    """Entries kept with probabilities p, round(sum p) of them."""
    rows, columns = p.shape
    p = np.clip(p, 0.0, 1.0)
    total = round(float(p.sum()))
    mask = np.zeros(p.shape, dtype=bool)
    if not total:
        return mask
    p = _scaled(p, total)
    order = np.argsort(rng.random(p.shape), axis=1)
    sums = np.cumsum(np.take_along_axis(p, order, axis=1).ravel())
    sums *= total / sums[-1]  # roundings
    shift = rng.random()
    passed = np.floor(np.append(0.0, sums) - shift)
    passed[0], passed[-1] = np.floor(-shift), np.floor(total - shift)
    kept = np.diff(passed) > 0
    at: IntArray = order + columns * np.arange(rows)[:, None]
    mask.ravel()[at.ravel()[kept]] = True
    return mask


def _scaled(p: FloatArray, total: int) -> FloatArray:
    """p with a whole sum: the free entries a little larger or smaller, none above 1."""
    for _ in range(60):
        short = total - float(p.sum())
        if abs(short) <= 1e-9:
            break
        room = p * (1 - p) if (p * (1 - p)).sum() > abs(short) else (1 - p if short > 0 else p)
        whole = float(room.sum())
        if not whole > 0:
            break
        p = np.clip(p + short / whole * room, 0.0, 1.0)
    return p


def _report_dead(masks: list[BoolArray]) -> None:
    deaf = [int((~mask.any(axis=1)).sum()) for mask in masks[:-1]]
    mute = [int((~mask.any(axis=0)).sum()) for mask in masks[1:-1]]
    if any(deaf) or any(mute):
        warnings.warn(
            f"masks: in hidden layers 1, 2, ... {deaf} units receive nothing and {mute} send nothing to the next "
            "hidden layer; raise the density or the widths, or give those blocks more.",
            DeadUnitsWarning,
            stacklevel=3,
        )
