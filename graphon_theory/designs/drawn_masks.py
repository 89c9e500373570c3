"""Masks drawn from a network's graphons with the budget of every layer met exactly, free or in hardware's patterns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from graphon_theory.arrays import BoolArray, FloatArray, IntArray
from graphon_theory.data.checks import as_generator, instance
from graphon_theory.errors import InputError, NetworkError, shown
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.graphons.positions import check_density
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Weights
from graphon_theory.networks.unit_values import check_widths, unit_values

_FARTHEST = 60.0  # logarithms of odds by which probabilities are moved at most
_TRIES = 20  # draws after which a group with one entry too many would be let pass


class DeadUnitsWarning(UserWarning):
    """Masks leave units without connections on one side."""


@dataclass(frozen=True)
class _Pattern:
    """At most ``most`` of every ``group`` consecutive entries of a row; entries come in whole tiles."""

    tile: tuple[int, int] = (1, 1)
    most: int = 1
    group: int = 1


_FREE = _Pattern()


def sample_masks(
    network: Network,
    widths: Sequence[int],
    rng: np.random.Generator | int,
    *,
    pattern: str | Sequence[str | None] | None = None,
) -> list[BoolArray]:
    """Masks (n_l, n_(l-1)) of every layer, drawn from the network's mask graphons with exact budgets.

    Layer l keeps round(sum_ij p_ij) connections, where p_ij = W(u_i, v_j) at the positions (i + 1/2) / n of hidden
    units, and its mean over the cells of inputs and outputs. Every entry is kept with probability p_ij, as in
    :meth:`Graphon.sample`, but not independently: p is added up row by row, each in random order, and an entry is kept
    where the sum passes r, r + 1, r + 2, ... with one uniform r (systematic sampling). So a row with an expected fan-in
    of 1 or more has a connection, and rows of one block have as many as each other, but for one. A hidden unit whose
    next hidden layer is expected to read it, and does not, takes a connection over from a unit with the same
    probabilities that is read at least twice, which leaves all probabilities as they are.

    ``widths``: unit counts (n_0, ..., n_L) of all layers of units; residual branches come back to theirs. ``rng``: seed
    or generator. ``pattern``: one for all layers, or one a layer with None for free:

    - "2:4": at most 2 of every 4 consecutive entries of a row, as sparse tensor cores take them (any "n:m");
    - "8x8": whole tiles of 8 x 8 entries (any "rxc"), with the mean of p over each; the budget is met to half a tile.

    Where the graphon asks for more than n of m, the entries' odds p / (1 - p) are lowered by one factor in every such
    group, and those of all others raised by one factor, so that the layer's budget holds: of all probabilities with
    these sums, the nearest in relative entropy.

    Warns (DeadUnitsWarning) with the numbers of hidden units that receive nothing, or send nothing to another hidden
    layer; units that none of few outputs reads are what a sparse last layer is. Raises NetworkError where widths do not
    fit, or a budget does not fit into a pattern, and InputError for another pattern.
    """
    instance("network", network, Network, error=NetworkError)
    counts = check_widths(network, widths)
    parts = [part for part in network.outline if isinstance(part, Weights)]
    patterns = _patterns(pattern, len(parts))
    generator = as_generator(rng)
    masks = []
    for part, layer, form in zip(parts, network.layers, patterns, strict=True):
        hidden = part.source > 0 and part.place < len(counts) - 1
        ends = {"first": part.source == 0, "last": part.place == len(counts) - 1}
        p = unit_values(counts[part.place], counts[part.source], **ends)(layer.mask, slice(None))
        p = np.clip(check_density(p, f"layer {part.number}", layer.mask, NetworkError), 0.0, 1.0)
        fine = _tiled(p, form, part.number)
        kept = _systematic(_within(fine, form, part.number), form, generator)
        if hidden and form is _FREE:
            _read_all(kept, p, generator)
        masks.append(np.repeat(np.repeat(kept, form.tile[0], axis=0), form.tile[1], axis=1))
    _report_dead(masks)
    return masks


def drawn_rows(mask: Graphon, count: int, d: int, rng: np.random.Generator) -> BoolArray:
    """Rows (count, d) of an input layer's mask at the positions (i + 1/2) / count, as ``sample_masks`` draws them."""
    p = np.clip(unit_values(count, d, first=True, last=False)(mask, slice(None)), 0.0, 1.0)
    return _systematic(_within(p, _FREE, 1), _FREE, rng)


def _patterns(pattern: object, depth: int) -> list[_Pattern]:
    if pattern is None or isinstance(pattern, str):
        return [_pattern(pattern)] * depth
    if not isinstance(pattern, list | tuple) or len(pattern) != depth:
        raise InputError(f'pattern: expected "n:m", "rxc" or one a layer, that is {depth}, got {shown(pattern)}.')
    return [_pattern(one) for one in pattern]


def _pattern(text: object) -> _Pattern:
    if text is None:
        return _FREE
    found = re.fullmatch(r"([1-9]\d{0,5})([:x])([1-9]\d{0,5})", text) if isinstance(text, str) else None
    if found is None:
        raise InputError(f'pattern: expected "n:m" as in "2:4", "rxc" as in "8x8", or None, got {shown(text)}.')
    first, second = int(found[1]), int(found[3])
    if found[2] == "x":
        return _Pattern(tile=(first, second))
    if first > second:
        raise InputError(f"pattern: {text}: at most {second} of {second} can be kept; give n <= m.")
    return _Pattern(most=first, group=second)


def _tiled(p: FloatArray, form: _Pattern, number: int) -> FloatArray:
    """Means over tiles."""
    (rows, columns), (r, c) = p.shape, form.tile
    if rows % r or columns % c:
        raise NetworkError(f"pattern: layer {number} of {rows} x {columns} units is not made of tiles {r} x {c}.")
    means: FloatArray = p.reshape(rows // r, r, columns // c, c).mean(axis=(1, 3))
    return means


def _within(p: FloatArray, form: _Pattern, number: int) -> FloatArray:
    """Probabilities with a whole sum, and at most ``most`` in every group of a row."""
    total = round(float(p.sum()))
    if form.group == 1:
        return _scaled(p, total)
    rows, columns = p.shape
    starts = np.arange(0, columns, form.group)
    room = np.minimum(form.most, np.minimum(form.group, columns - starts)).sum() * rows
    possible = np.minimum(np.add.reduceat(p > 0, starts, axis=1), form.most).sum()
    if total > min(room, possible):
        raise NetworkError(
            f"pattern: layer {number} has {total} connections to place, and {form.most} of every {form.group} leave "
            f"room for {min(room, possible)}; lower its density, or leave the layer free."
        )
    padded = np.zeros((rows, len(starts) * form.group))
    padded[:, :columns] = p
    # blocks of a step graphon have few groups that differ
    groups, which, counts = np.unique(padded.reshape(-1, form.group), axis=0, return_inverse=True, return_counts=True)
    with np.errstate(divide="ignore"):
        logits = np.minimum(np.log(groups) - np.log1p(-groups), _FARTHEST / 2)
    highest = _shifts_to(logits, form.most)

    def at(shift: float) -> FloatArray:
        return expit(logits + np.minimum(shift, highest)[:, None])

    def excess(shift: float) -> float:
        return float(counts @ at(shift).sum(axis=1)) - total

    ends = -2 * _FARTHEST, 2 * _FARTHEST
    shift = ends[1] if excess(ends[1]) <= 0 else brentq(excess, *ends, xtol=1e-13)
    return at(shift)[which.ravel()].reshape(rows, -1)[:, :columns]


def _shifts_to(logits: FloatArray, most: int) -> FloatArray:
    """The shift of every row at which its probabilities add up to ``most``; as good as infinite where they never do."""
    low: FloatArray = np.full(len(logits), 2 * _FARTHEST)
    high = low.copy()
    low[np.isfinite(logits).sum(axis=1) > most] *= -1
    for _ in range(70):
        middle: FloatArray = 0.5 * (low + high)
        above = expit(logits + middle[:, None]).sum(axis=1) > most
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return low


def _systematic(p: FloatArray, form: _Pattern, rng: np.random.Generator) -> BoolArray:
    """Entries kept with probabilities p, whose sum is whole: so many of them, at most ``most`` in a group."""
    rows, columns = p.shape
    total = round(float(p.sum()))
    mask = np.zeros(p.shape, dtype=bool)
    if not total:
        return mask
    keys = np.asarray(rng.random(p.shape))
    starts = np.arange(0, columns, form.group)
    if form.group > 1:  # entries of a group stay together, so that it has the whole number above or below its sum
        groups = rng.permuted(np.tile(np.arange(len(starts)), (rows, 1)), axis=1)
        keys = keys + np.repeat(groups, form.group, axis=1)[:, :columns]
    order = np.argsort(keys, axis=1)
    sums = np.cumsum(np.take_along_axis(p, order, axis=1).ravel())
    sums *= total / sums[-1]  # roundings
    at: IntArray = order + columns * np.arange(rows)[:, None]
    for _ in range(_TRIES):
        shift = rng.random()
        passed = np.floor(np.append(0.0, sums) - shift)
        passed[0], passed[-1] = np.floor(-shift), np.floor(total - shift)
        mask[:] = False
        mask.ravel()[at.ravel()[np.diff(passed) > 0]] = True
        if form.group == 1 or np.add.reduceat(mask, starts, axis=1, dtype=int).max() <= form.most:
            break  # a group's sum is a whole number but for rounding, which one shift in 1e9 sees
    return mask


def _read_all(mask: BoolArray, p: FloatArray, rng: np.random.Generator) -> None:
    """Give columns without entries, though expected to have one, an entry of a column with the same probabilities."""
    counts = mask.sum(axis=0)
    for column in np.flatnonzero((counts == 0) & (p.sum(axis=0) >= 1)):
        alike = np.flatnonzero((p == p[:, [column]]).all(axis=0) & (counts > 1))
        if not len(alike):
            continue
        giver = alike[np.argmax(counts[alike] + rng.random(len(alike)))]
        row = rng.choice(np.flatnonzero(mask[:, giver]))
        mask[row, giver], mask[row, column] = False, True
        counts[giver], counts[column] = counts[giver] - 1, 1


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
