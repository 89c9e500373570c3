"""One block for every hidden unit, found from what it receives and sends together (THEORY §8).

A network whose connections (i, j) of layer l survive with probability p^l[a_i, a_j], independently, has log-likelihood

    sum_l sum_ab  C^l_ab log p^l_ab + (N^l_ab - C^l_ab) log(1 - p^l_ab),

C connections among N pairs of blocks a, b. A unit's term sums over ALL its layers: the one below and the one above, or
all that write to a residual stream and read it. The likelihood is climbed one layer
of units at a time from spectral and from degree starts, as k-means is, and the best end is kept.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.sparse.linalg import svds
from scipy.special import xlogy

from graphon_theory.arrays import BoolArray, FloatArray, IntArray
from graphon_theory.estimation.masks import Ends, Mask, add_by, one_hot

_SWEEPS = 50
_LEADING = 40  # singular vectors looked at
_HELD = 1 << 25  # entries of a layer that may be kept as float32 while its units are moved
Single = NDArray[np.float32]
Counts = tuple[FloatArray, FloatArray]  # connections, and pairs that were looked at


class Evidence(ABC):
    """What was seen of one layer: connections among the pairs looked at, summed over blocks of one side."""

    shape: tuple[int, int]

    @abstractmethod
    def by_row(self, labels: IntArray, blocks: int) -> Counts:
        """For every receiving unit, over blocks of senders: two arrays (receiving units, blocks)."""

    @abstractmethod
    def by_column(self, labels: IntArray, blocks: int) -> Counts:
        """For every sending unit, over blocks of receivers: two arrays (sending units, blocks)."""

    @abstractmethod
    def dense(self) -> Single:
        """The share of times each pair was connected, as one matrix."""

    @cached_property
    def singular(self) -> tuple[Single, Single]:
        """Left and right singular vectors above the edge of the noise, times values, in units of the noise.

        A random mask of density p has its largest singular value near sqrt(p (1 - p)) (sqrt(n_out) + sqrt(n_in)). A
        projection of a row on a right singular vector then has variance 1 for every layer: distances compare.
        """
        matrix = self.dense()
        p = float(matrix.mean(dtype=np.float64))
        noise = np.sqrt(max(p * (1 - p), 0.0))
        if noise < 1e-6:  # a dense layer tells units apart by nothing
            return np.zeros((matrix.shape[0], 0), np.float32), np.zeros((matrix.shape[1], 0), np.float32)
        if min(matrix.shape) > 2 * _LEADING:
            left, values, right = svds(matrix, k=_LEADING, v0=np.ones(min(matrix.shape), dtype=np.float32))
            left, values, right = left[:, ::-1], values[::-1], right[::-1]
        else:
            left, values, right = np.linalg.svd(matrix, full_matrices=False)
        kept = max(1, int(np.count_nonzero(values > 1.02 * noise * sum(np.sqrt(matrix.shape)))))
        scale = values[:kept] / noise
        return left[:, :kept] * scale, right[:kept].T * scale


class Seen(Evidence):
    """Masks of one layer, all of their pairs seen: one, or the same layer at several times."""

    def __init__(self, masks: Sequence[Mask], rows: BoolArray, columns: BoolArray) -> None:
        self.masks, self.rows, self.columns = masks, np.flatnonzero(rows), np.flatnonzero(columns)
        self.sizes = masks[0].shape
        self.shape = len(self.rows), len(self.columns)

    @cached_property
    def _held(self) -> Single | None:
        """The sum of the masks, if it is small enough to be kept."""
        return self._sum() if self.shape[0] * self.shape[1] <= _HELD else None

    def _sum(self) -> Single:
        out = np.zeros(self.shape, dtype=np.float32)
        for mask in self.masks:
            out += mask.dense()[np.ix_(self.rows, self.columns)]
        return out

    def by_row(self, labels: IntArray, blocks: int) -> Counts:
        if self._held is not None:
            ones = _by_block(self._held, labels, blocks)
        else:
            whole = np.full(self.sizes[1], blocks, dtype=np.intp)
            whole[self.columns] = labels
            ones = np.sum([mask.row_counts(whole, blocks + 1)[self.rows, :-1] for mask in self.masks], axis=0)
        return ones, self._trials(labels, blocks, self.shape[0])

    def by_column(self, labels: IntArray, blocks: int) -> Counts:
        if self._held is not None:
            ones = _by_block(self._held.T, labels, blocks)
        else:
            whole = np.full(self.sizes[0], blocks, dtype=np.intp)
            whole[self.rows] = labels
            ones = np.sum([mask.column_counts(whole, blocks + 1)[self.columns, :-1] for mask in self.masks], axis=0)
        return ones, self._trials(labels, blocks, self.shape[1])

    def _trials(self, labels: IntArray, blocks: int, units: int) -> FloatArray:
        each = len(self.masks) * np.bincount(labels, minlength=blocks).astype(float)
        return np.broadcast_to(each, (units, blocks))

    def dense(self) -> Single:
        return (self._sum() if self._held is None else self._held) / np.float32(len(self.masks))


class Thinned(Evidence):
    """One mask of which only the pairs in ``seen`` were looked at."""

    def __init__(self, mask: BoolArray, seen: BoolArray) -> None:
        self.ones, self.seen, self.shape = (mask & seen).astype(np.float32), seen.astype(np.float32), mask.shape

    def by_row(self, labels: IntArray, blocks: int) -> Counts:
        return _by_block(self.ones, labels, blocks), _by_block(self.seen, labels, blocks)

    def by_column(self, labels: IntArray, blocks: int) -> Counts:
        return _by_block(self.ones.T, labels, blocks), _by_block(self.seen.T, labels, blocks)

    def dense(self) -> Single:
        p = self.ones.sum(dtype=np.float64) / self.seen.sum(dtype=np.float64)
        return self.ones + np.float32(p) * (1 - self.seen)  # what was not looked at says nothing


def _by_block(matrix: Single, labels: IntArray, blocks: int) -> FloatArray:
    """Columns of ``matrix`` added up by block."""
    if blocks == len(labels) and np.array_equal(labels, np.arange(blocks)):
        return matrix.astype(float)  # atoms
    return (matrix @ one_hot(labels, blocks).astype(np.float32)).astype(float)


@dataclass(frozen=True, eq=False)
class Partition:
    """A block for every unit of every layer 0..L, how many blocks each layer has, and the log-likelihood."""

    labels: list[IntArray]
    blocks: list[int]
    log_likelihood: float


def find_partition(
    evidence: Sequence[Evidence],
    ends: Sequence[Ends],
    inputs: IntArray,
    outputs: IntArray,
    blocks: int,
    rng: np.random.Generator,
    starts: int,
) -> Partition:
    """The most likely blocks met: inputs and outputs keep theirs, hidden layers of units get at most ``blocks``."""
    last = max(end.place for end in ends)
    sides = [[(evidence[k], rows) for k, rows in _around(ends, place)] for place in range(1, last)]
    features = [_spectral(one) for one in sides]
    degrees = [_degrees(one) for one in sides]
    if not features:
        return _climb(evidence, ends, [inputs, outputs], [inputs.max() + 1, outputs.max() + 1])
    best: Partition | None = None
    for start in range(starts):
        # the first start takes degrees, which tell most of hub-like masks; the others singular vectors
        chosen = degrees if start == 0 else features
        hidden = [_k_means(one, min(blocks, len(one)), rng) for one in chosen]
        labels = [inputs, *hidden, outputs]
        found = _climb(evidence, ends, labels, [int(one.max()) + 1 for one in labels])
        if best is None or found.log_likelihood > best.log_likelihood:
            best = found
    assert best is not None
    return best


class HeldOut:
    """Block counts held against each other by the likelihood of a tenth of the pairs that the blocks were not shown."""

    def __init__(self, masks: Sequence[BoolArray], ends: Sequence[Ends], rng: np.random.Generator) -> None:
        self.ends = ends
        shown = [rng.random(mask.shape) >= 0.1 for mask in masks]
        self.shown = [Thinned(mask, one) for mask, one in zip(masks, shown, strict=True)]
        self.hidden = [Thinned(mask, ~one) for mask, one in zip(masks, shown, strict=True)]

    def score(self, inputs: IntArray, outputs: IntArray, blocks: int, rng: np.random.Generator, starts: int) -> float:
        """Mean log-likelihood of a hidden pair."""
        found = find_partition(self.shown, self.ends, inputs, outputs, blocks, rng, starts)
        total, pairs = 0.0, 0.0
        for shown, hidden, end in zip(self.shown, self.hidden, self.ends, strict=True):
            sides = [found.labels[k] for k in end], [found.blocks[k] for k in end]
            table = _table(*_between(shown, *sides))
            ones, trials = _between(hidden, *sides)
            total += float((ones * np.log(table) + (trials - ones) * np.log1p(-table)).sum())
            pairs += float(trials.sum())
        return total / pairs


def compress(labels: IntArray) -> IntArray:
    """Labels 0, 1, ... without gaps."""
    return np.unique(labels, return_inverse=True)[1].astype(np.intp)


def _around(ends: Sequence[Ends], place: int) -> list[tuple[int, bool]]:
    """The weight layers that lead to a layer of units (True: its units are their rows), then those that leave it."""
    into = [(k, True) for k, end in enumerate(ends) if end.place == place]
    return into + [(k, False) for k, end in enumerate(ends) if end.source == place]


def _climb(evidence: Sequence[Evidence], ends: Sequence[Ends], labels: list[IntArray], blocks: list[int]) -> Partition:
    """Move every unit to its likeliest block, one layer of units after the other, until none moves.

    Where a weight layer leads back to the units that it leaves, their blocks move under their own feet: there the climb
    also ends where the likelihood no longer rises.
    """

    def seen(k: int, rows: bool) -> Counts:
        other = ends[k].source if rows else ends[k].place
        return (evidence[k].by_row if rows else evidence[k].by_column)(labels[other], blocks[other])

    labels, last = list(labels), len(labels) - 1
    # inputs and outputs never move, so what their neighbours see of them is counted once
    fixed = {(k, rows): seen(k, rows) for place in range(1, last) for k, rows in _around(ends, place)
             if (ends[k].source if rows else ends[k].place) in (0, last)}  # fmt: skip
    loops = any(end.source == end.place for end in ends)
    reached = _likelihood(evidence, ends, labels, blocks) if loops else 0.0
    for _ in range(_SWEEPS):
        moved, kept = 0, list(labels)
        for place in range(1, last):
            score = np.zeros((len(labels[place]), blocks[place]))
            for layer in _around(ends, place):
                ones, trials = fixed[layer] if layer in fixed else seen(*layer)
                table = _table(*(add_by(labels[place], blocks[place], one) for one in (ones, trials)))
                score += ones @ np.log(table).T + (trials - ones) @ np.log1p(-table).T
            fresh = np.argmax(score, axis=1).astype(np.intp)
            moved += int(np.count_nonzero(fresh != labels[place]))
            labels[place] = fresh
        if not moved:
            break
        if loops:
            before, reached = reached, _likelihood(evidence, ends, labels, blocks)
            if reached <= before:
                labels = kept
                break
    for place in range(1, last):
        labels[place] = compress(labels[place])
        blocks[place] = int(labels[place].max()) + 1
    return Partition(labels, blocks, _likelihood(evidence, ends, labels, blocks))


def _likelihood(
    evidence: Sequence[Evidence], ends: Sequence[Ends], labels: Sequence[IntArray], blocks: Sequence[int]
) -> float:
    total = 0.0
    for one, end in zip(evidence, ends, strict=True):
        ones, trials = _between(one, [labels[k] for k in end], [blocks[k] for k in end])
        total += float((xlogy(ones, ones) + xlogy(trials - ones, trials - ones) - xlogy(trials, trials)).sum())
    return total


def _between(evidence: Evidence, labels: Sequence[IntArray], blocks: Sequence[int]) -> Counts:
    """Connections and pairs between the blocks of receivers (labels[1]) and senders (labels[0])."""
    ones, trials = evidence.by_row(labels[0], blocks[0])
    return add_by(labels[1], blocks[1], ones), add_by(labels[1], blocks[1], trials)


def _table(ones: FloatArray, trials: FloatArray) -> FloatArray:
    """Densities of blocks, drawn to the layer's by one pair, so that no block is ever quite certain."""
    mean = ones.sum() / max(trials.sum(), 1.0)
    mean = min(max(mean, 1e-6), 1 - 1e-6)
    return (ones + mean) / (trials + 1.0)


def _degrees(sides: Sequence[tuple[Evidence, bool]]) -> FloatArray:
    """In- and out-degree of the units of a layer, in standard deviations of a random mask's."""
    columns = []
    for one, rows in sides:
        side = np.zeros(one.shape[1] if rows else one.shape[0], dtype=np.intp)
        ones, trials = (one.by_row if rows else one.by_column)(side, 1)
        p = ones.sum() / trials.sum()
        columns.append((ones - p * trials)[:, 0] / np.sqrt(max(p * (1 - p), 1e-12) * trials.mean()))
    return np.stack(columns, axis=1)


def _spectral(sides: Sequence[tuple[Evidence, bool]]) -> FloatArray:
    """What the singular vectors of the weight layers below and above tell of a layer's units."""
    return np.concatenate([one.singular[0 if rows else 1] for one, rows in sides], axis=1).astype(float)


def _k_means(features: FloatArray, blocks: int, rng: np.random.Generator) -> IntArray:
    if blocks == 1 or not features.size or not features.std():
        return np.zeros(len(features), dtype=np.intp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clusters that ran empty: they are dropped
        _, labels = kmeans2(features, blocks, iter=30, minit="++", rng=rng)
    return compress(labels)
