"""From the masks (and weights) of one network to its layers' (W, V, D), one position per unit (THEORY §8)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, overload

import numpy as np
from scipy.special import gammainccinv, gammaincinv, ndtri

from graphon_theory.arrays import BoolArray, FloatArray, IntArray
from graphon_theory.data.checks import as_generator, axes_of, positive_number, truth, whole_number
from graphon_theory.errors import InputError, shown
from graphon_theory.estimation.clusters import HeldOut, Seen, compress, find_partition
from graphon_theory.estimation.coherences import Coherence, CoherenceWarning, layer_coherence
from graphon_theory.estimation.masks import Ends, Mask, add_by, as_ends, as_masks, as_weights, chain, edges_of, map_runs
from graphon_theory.estimation.units import UnitReport, trace
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.stage_tables import stage_table
from graphon_theory.networks.stages import Dense
from graphon_theory.values import Record

_STARTS = 1_000  # random partitions that are improved, each for itself; four usually end alike
_CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_FAR = 2.0  # factor beyond what pruning makes of unit variance: no rule leaves smaller weights, tails may be heavier
_LARGEST = 1e150  # of a deviation, whose square has to be a number
_RARE = 1e-6  # of means of squares by chance


class WeightScaleWarning(UserWarning):
    """Surviving weights contradict a dense variance of 1: V is in the wrong unit."""


@dataclass(frozen=True, eq=False)
class DriftEstimate(Record):
    """Block means behind a layer's D: ``raw`` as averaged, ``error`` its standard error, ``shrunk`` as used.

    All in units of sqrt(V). ``modes`` is the number of singular modes that stand out of the noise, ``spread`` the
    deviation from them that single blocks support, in units of the noise.
    """

    raw: FloatArray
    error: FloatArray
    shrunk: FloatArray
    modes: int
    spread: float


@dataclass(frozen=True, eq=False, repr=False)
class NetworkEstimate(Record, Sequence[Connectivity]):
    """The layers of an estimated network, ready for ``Network``, with what was found on the way.

    ``labels[l]`` and ``positions[l]`` give every unit of the layer of units l = 0, 1, ..., from the inputs, its block
    and its place in [0, 1]; ``units`` counts dead units and effective connections; ``coherence`` and ``drift`` (with
    weights only) have one entry a layer; ``held_out`` maps block counts to the log-likelihood of hidden connections
    (blocks="auto" only).

    A sequence of its layers, which equals any list or tuple of the same layers. ``estimate[a:b]`` is the estimate of
    neighbouring layers and of the units they connect; ``held_out`` and ``log_likelihood`` stay those of the whole
    network's blocks. Raises InputError for slices with steps, and of residual networks: such layers are no chain.
    """

    layers: tuple[Connectivity, ...]
    labels: tuple[IntArray, ...]
    positions: tuple[FloatArray, ...]
    units: UnitReport
    coherence: tuple[Coherence, ...] | None
    drift: tuple[DriftEstimate, ...] | None
    held_out: Mapping[int, float] | None
    log_likelihood: float

    def _repr_html_(self) -> str:
        """A table of the layers, with small heat maps, as HTML and inline SVG."""
        return stage_table(f"NetworkEstimate: {len(self)} weight layers", [Dense(one) for one in self.layers])

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, index: int) -> Connectivity: ...

    @overload
    def __getitem__(self, index: slice) -> NetworkEstimate: ...

    def __getitem__(self, index: int | slice) -> Connectivity | NetworkEstimate:
        if not isinstance(index, slice):
            return self.layers[index]
        first, last, step = index.indices(len(self))
        if len(self.labels) != len(self) + 1:
            raise InputError("index: layers of a residual network are no chain to be cut; take them from `.layers`.")
        if step != 1:
            raise InputError(f"step: expected neighbouring layers, got every {step}; take them from `.layers`.")
        layers, units = slice(first, max(first, last)), slice(first, max(first, last) + 1)
        return replace(
            self,
            layers=self.layers[layers],
            labels=self.labels[units],
            positions=self.positions[units],
            units=self.units.part(layers.start, layers.stop),
            coherence=None if self.coherence is None else self.coherence[layers],
            drift=None if self.drift is None else self.drift[layers],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NetworkEstimate | list | tuple):
            return NotImplemented
        return self.layers == tuple(other)

    def __hash__(self) -> int:
        return hash(self.layers)

    def __repr__(self) -> str:
        return f"NetworkEstimate({list(self.layers)!r})"

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of every unit layer 0..L."""
        return tuple(int(one.max()) + 1 for one in self.labels)


def estimate_network(
    masks: Sequence[Any],
    weights: Sequence[Any] | None = None,
    blocks: int | str = 16,
    dense_std: float | Sequence[float] | None = None,
    *,
    inputs: int | None = None,
    drift: bool = True,
    starts: int = 4,
    rng: np.random.Generator | int = 0,
    places: Sequence[tuple[int, int]] | None = None,
) -> NetworkEstimate:
    """Step graphons (W, V, D) of every layer from a network's masks and weights, one position per unit.

        W_ab = mean of m,   V_ab = mean of m w^2 / s^2,   D_ab = sqrt(n_{l-1}) mean of m w / s     over blocks a, b

    Hidden units are put in at most ``blocks`` blocks by what they receive and send together (see
    ``clusters``), so that a unit has the same position as a row and as a column. Inputs and outputs
    keep their own order, each an atom; ``inputs`` groups the inputs into so many runs of neighbours. ``blocks="auto"``
    takes the count that predicts a hidden tenth of the connections best.

    Units on no path from input to output get blocks of their own, after the others: one for those no input reaches,
    one for those no output hears. ``result.units`` counts them.

    With ``weights`` V and D come from the surviving ones; ``dense_std`` s is their deviation before pruning (1 if left
    out; one number or one a layer), ``drift=False`` leaves D out and warns CoherenceWarning where that will be biased.
    Raw block means of D have standard error sqrt(n_{l-1} V / (n_a n_b)), about B sqrt(V / n) with B blocks a side. They
    are shrunk (:func:`shrink_drift`): what stands out of the noise stays, and a layer in which nothing does has D = 0.
    Weights need not be initial ones: trained networks are estimated in the same way.

    Without ``dense_std`` the weights are taken for those of variance 1, and WeightScaleWarning says where they cannot
    be: a mask that does not ask for size leaves V / W = 1, one that prefers large weights more, and none more than the
    largest do alone, 2 (t phi(t) + Phi(-t)) / W with W = 2 Phi(-t). torch.nn.Linear starts at deviation 1/sqrt(3 n_in),
    He's initialisation at sqrt(2/n_in).

    ``masks`` are dense arrays or torch tensors of zeros and ones, PackedMask or SciPy sparse, from input to output,
    each (receiving, sending units).

    ``places``: for residual networks the layers of units (from, to), counted from 0, that each mask connects, in the
    order in which signals meet them: ``[(0, 1), (1, 2), (2, 1), (1, 3)]`` is a branch of two layers between a first and
    a last one. Units of a stream have one position in all layers that write to it or read it.

    Raises InputError for masks that are not such or do not chain, a layer of density 0, no path from input to output,
    and weights that are not finite or do not fit. THEORY §2, §8.
    """
    given = None if weights is None else [weights]
    options: dict[str, Any] = {"inputs": inputs, "drift": drift, "starts": starts, "rng": rng, "places": places}
    return estimate_together([masks], given, blocks, dense_std, **options)[0]


def estimate_together(
    masks: Sequence[Sequence[Any]],
    weights: Sequence[Sequence[Any]] | None,
    blocks: int | str,
    dense_std: float | Sequence[float] | None,
    *,
    inputs: int | None,
    drift: bool,
    starts: int,
    rng: np.random.Generator | int,
    places: Sequence[tuple[int, int]] | None = None,
) -> list[NetworkEstimate]:
    """Estimates of one network at several times, its units in the same blocks at all of them.

    A unit is in a block of dead ones if it is on no path at any time; ``blocks="auto"`` asks the last time's masks.
    """
    truth("drift", drift)
    starts = whole_number("starts", starts, 1, _STARTS)
    given_ends = as_ends(places)
    history = [as_masks(one, given_ends) for one in masks]
    _refuse_other_shapes(history)
    layers = history[-1]
    depth = len(layers)
    ends = given_ends or chain(depth)
    last = ends[-1].place
    values = None if weights is None else [_as_weights(w, one) for w, one in zip(weights, history, strict=True)]
    scales = _as_scales(dense_std, depth)
    if values is not None and dense_std is None:
        _warn_of_scales(history[0], values[0])  # later weights may have been trained
    groups, outputs = _input_groups(layers[0].shape[1], inputs), np.arange(layers[-1].shape[0])
    units = [trace(one, ends) for one in history]
    for one in units:
        if not one.connected:
            raise InputError(
                "masks: no path of surviving connections leads from an input to an output; prune less, or layer by "
                f"layer. What is left:\n{one}"
            )
    reached = [np.any([one.reached[k] for one in units], axis=0) for k in range(last + 1)]
    heard = [np.any([one.heard[k] for one in units], axis=0) for k in range(last + 1)]
    alive = [r & h for r, h in zip(reached, heard, strict=True)]
    alive[0][:] = alive[-1][:] = True  # inputs and outputs keep their places, dead or not
    generator = as_generator(rng)
    held_out = None
    if isinstance(blocks, str) and blocks == "auto":
        held_out = _score_counts(layers, ends, alive, groups, outputs, generator, starts)
        count = max(held_out, key=lambda b: held_out[b])
    else:
        count = whole_number("blocks", blocks, expected='a positive whole number or "auto"')
    evidence = [Seen([one[k] for one in history], alive[end.place], alive[end.source]) for k, end in enumerate(ends)]
    found = find_partition(evidence, ends, groups, outputs, count, generator, starts)
    labels = [groups, *(_whole(found.labels[k], reached[k], heard[k]) for k in range(1, last)), outputs]
    labels = [groups, *_in_order(labels, layers, ends), outputs]

    positions = tuple(map(_positions, labels))
    made = []
    for t, at_time in enumerate(history):
        tables = _tabulate(at_time, None if values is None else values[t], scales, labels, ends, drift)
        connections, coherences, drifts = tables
        given = connections, tuple(labels), positions, units[t], coherences, drifts
        made.append(NetworkEstimate(*given, held_out, found.log_likelihood))
    return made


def _tabulate(
    layers: list[Mask],
    weights: list[Any] | None,
    scales: list[float],
    labels: list[IntArray],
    ends: Sequence[Ends],
    drift: bool,
) -> tuple[tuple[Connectivity, ...], tuple[Coherence, ...] | None, tuple[DriftEstimate, ...] | None]:
    """(W, V, D) over the blocks of ``labels``; with weights also their coherence and the drift's estimates."""
    moments = [
        block_moments(mask, None if weights is None else weights[k], labels[end.place], labels[end.source])
        for k, (mask, end) in enumerate(zip(layers, ends, strict=True))
    ]
    if weights is None:
        return tuple(Connectivity(one.step(one.mask)) for one in moments), None, None
    coherences = tuple(layer_coherence(*pair) for pair in zip(layers, weights, strict=True))
    drifts = tuple(shrink_drift(one, mask.shape[1]) for one, mask in zip(moments, layers, strict=True))
    made = []
    for one, estimate, scale in zip(moments, drifts, scales, strict=True):
        variance = one.square / scale**2
        kept = estimate.shrunk * np.sqrt(variance) if drift and estimate.shrunk.any() else None
        made.append(Connectivity(one.step(one.mask), one.step(variance), None if kept is None else one.step(kept)))
    if not drift:
        _warn(coherences)
    return tuple(made), coherences, drifts


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over blocks of m, m w and m w^2, the pairs in each block, and the units of each side's blocks."""

    mask: FloatArray
    first: FloatArray
    square: FloatArray
    pairs: FloatArray
    row_sizes: FloatArray
    column_sizes: FloatArray

    def step(self, values: FloatArray) -> StepGraphon:
        return StepGraphon(values, edges_of(self.row_sizes), edges_of(self.column_sizes))


def block_moments(mask: Mask, weights: Any, rows: IntArray, columns: IntArray) -> Moments:
    """Moments of m and m w over blocks of units."""
    a, b = int(rows.max()) + 1, int(columns.max()) + 1
    row_sizes, column_sizes = (np.bincount(one, minlength=k).astype(float) for one, k in ((rows, a), (columns, b)))
    pairs = np.outer(row_sizes, column_sizes)
    ones = mask.block_counts(rows, a, columns, b)
    first, square = np.zeros((a, b)), np.zeros((a, b))
    if weights is not None:
        order = np.argsort(columns, kind="stable")
        starts = np.concatenate([[0], np.cumsum(column_sizes)[:-1]]).astype(np.intp)

        def add(run: slice, w: FloatArray) -> None:
            w = w[:, order]
            for total, power in ((first, w), (square, w * w)):
                total += add_by(rows[run], a, np.add.reduceat(power, starts, axis=1))

        map_runs(mask, weights, add)
    return Moments(ones / pairs, first / pairs, square / pairs, pairs, row_sizes, column_sizes)


def shrink_drift(moments: Moments, n_in: int) -> DriftEstimate:
    """D of blocks and what of it the data support, in units of sqrt(V).

    delta = sqrt(n_in) mean(m w) / sqrt(mean(m w^2)) has error e = sqrt(n_in / (n_a n_b)) under fair signs, so
    Z = delta / e is a matrix of unit noise. A drift that data made is a sum of few products of a function of the
    receiver and one of the sender (THEORY §10), so

    - singular values s of Z beyond the 99.9% point of noise alone (Johnstone 2001) are kept, each taken to what is best
      in mean square, sqrt((s^2 - a - b)^2 - 4 a b) / s for a x b blocks (Gavish and Donoho 2017);
    - of the rest, its mean square t above noise leaves the share t / (1 + t), if it is three standard errors above.

    Where neither is there delta = 0: a drift that is none would move the mean of every signal.
    """
    used = moments.square > 0
    root = np.sqrt(np.where(used, moments.square, 1.0))
    delta = np.where(used, math.sqrt(n_in) * moments.first / root, 0.0)
    error = np.sqrt(n_in / moments.pairs)
    left, values, right = np.linalg.svd(delta / error, full_matrices=False)
    a, b = delta.shape
    modes = int(np.count_nonzero(values > _noise_edge(a, b)))
    s = values[:modes]
    kept = np.sqrt(np.maximum((s * s - a - b) ** 2 - 4 * a * b, 0.0)) / s
    freedom = (a - modes) * (b - modes)
    excess = float((values[modes:] ** 2).sum()) / freedom - 1 if freedom else 0.0
    if excess * math.sqrt(freedom / 2) < 3:
        excess = 0.0
    scaled = np.concatenate([kept, values[modes:] * excess / (1 + excess)])
    shrunk = error * ((left * scaled) @ right)
    # a mean can be no larger than the surviving weights allow: (E m w)^2 <= E m E m w^2
    bound = np.sqrt(n_in * moments.mask)
    shrunk = np.where(used, np.clip(shrunk, -bound, bound), 0.0)
    return DriftEstimate(delta, np.where(used, error, 0.0), shrunk, modes, math.sqrt(excess))


def _noise_edge(a: int, b: int) -> float:
    """What the largest singular value of an a x b matrix of unit noise exceeds once in a thousand (Johnstone 2001)."""
    rows, columns = math.sqrt(a - 0.5), math.sqrt(b - 0.5)
    centre, width = (rows + columns) ** 2, (rows + columns) * (1 / rows + 1 / columns) ** (1 / 3)
    return math.sqrt(centre + 3.27 * width)


def _score_counts(
    layers: list[Mask],
    ends: Sequence[Ends],
    alive: list[Any],
    groups: IntArray,
    outputs: IntArray,
    rng: np.random.Generator,
    starts: int,
) -> dict[int, float]:
    """Held-out log-likelihood of block counts, until it has fallen twice."""
    shown = [mask.dense()[np.ix_(alive[end.place], alive[end.source])] for mask, end in zip(layers, ends, strict=True)]
    held = HeldOut(shown, ends, rng)
    most = max(int(one.sum()) for one in alive[1:-1]) if len(layers) > 1 else 1
    scores: dict[int, float] = {}
    for count in _CANDIDATES:
        if count > max(1, math.isqrt(most)):
            break
        scores[count] = held.score(groups, outputs, count, rng, starts)
        if len(scores) > 2 and max(scores.values()) > max(list(scores.values())[-2:]):
            break
    return scores


def _whole(labels: IntArray, reached: BoolArray, heard: BoolArray) -> IntArray:
    """Labels of all units of a hidden layer: dead ones behind the others, the unreached apart from the unheard."""
    out = np.empty(len(reached), dtype=np.intp)
    out[reached & heard] = labels
    out[~reached] = labels.max() + 1
    out[reached & ~heard] = labels.max() + 2
    return compress(out)


def _in_order(labels: list[IntArray], layers: list[Mask], ends: Sequence[Ends]) -> Iterable[IntArray]:
    """Hidden blocks renumbered by mean in-degree (then out-degree), so that an estimate reads like a sorted graphon."""
    degrees = [mask.degrees() for mask in layers]
    for k in range(1, len(labels) - 1):
        blocks = int(labels[k].max()) + 1
        sizes = np.bincount(labels[k], minlength=blocks)
        received = np.sum([one[0] for one, end in zip(degrees, ends, strict=True) if end.place == k], axis=0)
        sent = np.sum([one[1] for one, end in zip(degrees, ends, strict=True) if end.source == k], axis=0)
        means = [np.bincount(labels[k], weights=one, minlength=blocks) / sizes for one in (sent, received)]
        rank = np.argsort(np.lexsort(means))
        yield rank[labels[k]].astype(np.intp)


def _positions(labels: IntArray) -> FloatArray:
    """(rank + 1/2) / n of every unit when units are lined up by block and, within it, by index."""
    order = np.argsort(labels, kind="stable")
    out = np.empty(len(labels))
    out[order] = (np.arange(len(labels)) + 0.5) / len(labels)
    return out


def _input_groups(count: int, groups: int | None) -> IntArray:
    if groups is None:
        return np.arange(count)
    wanted = whole_number("inputs", groups)
    if wanted > count:
        raise InputError(f"inputs: {count} inputs cannot form {wanted} groups; leave `inputs` out for atoms.")
    return np.asarray((np.arange(count) * wanted) // count, dtype=np.intp)


def _refuse_other_shapes(history: list[list[Mask]]) -> None:
    shapes = [[mask.shape for mask in layers] for layers in history]
    for index, one in enumerate(shapes):
        if one != shapes[0]:
            raise InputError(
                f"masks: the network at time {index} has layers of shape {one}, at time 0 of {shapes[0]}; a path needs "
                "the same units at all times."
            )


def _as_weights(weights: Any, layers: list[Mask]) -> list[Any]:
    if isinstance(weights, (str, np.ndarray)) or not isinstance(weights, Sequence) or len(weights) != len(layers):
        got = len(weights) if isinstance(weights, Sequence) else type(weights).__name__
        raise InputError(f"weights: expected a list of {len(layers)} arrays, one for each mask, got {got}.")
    return [as_weights(w, layers[k].shape, f"weights[{k}]") for k, w in enumerate(weights)]


def _as_scales(dense_std: Any, depth: int) -> list[float]:
    given = [1.0] * depth if dense_std is None else dense_std
    given = [given] * depth if isinstance(given, Real) else given
    listed = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str | bytes) and axes_of(given) > 0
    if not listed or len(given) != depth:
        raise InputError(f"dense_std: expected one positive number, or {depth} (one a layer), got {shown(dense_std)}.")
    expected = "positive deviations of the dense weights"
    scales = [positive_number("dense_std", scale, expected=expected) for scale in given]
    for scale in scales:
        if not 1 / _LARGEST <= scale <= _LARGEST:
            raise InputError(f"dense_std: expected {expected}, got {scale:.3g}, whose square is no number.")
    return scales


def _warn_of_scales(layers: list[Mask], weights: list[Any]) -> None:
    """Warn where V of a layer is no second moment of weights of variance 1, by more than chance."""
    squares, off = [], []
    for number, (mask, values) in enumerate(zip(layers, weights, strict=True), start=1):
        whole = block_moments(mask, values, np.zeros(mask.shape[0], np.intp), np.zeros(mask.shape[1], np.intp))
        density, square = float(whole.mask[0, 0]), float(whole.square[0, 0])
        if density == 0.0:
            return  # refused by name elsewhere
        t = -float(ndtri(density / 2))
        largest = 2 * (t * math.exp(-t * t / 2) / math.sqrt(2 * math.pi) + density / 2) / density
        half = density * float(whole.pairs[0, 0]) / 2  # of the survivors: their squares sum up to a chi-square
        low, high = (float(one(half, _RARE)) / half for one in (gammaincinv, gammainccinv))
        squares.append(square / density)
        if not low / _FAR <= squares[-1] <= high * _FAR * largest:
            off.append(f"layer {number}: {squares[-1]:.3g} instead of 1 to {largest:.3g}")
    if off:
        deviations = ", ".join(f"{math.sqrt(square):.3g}" for square in squares)
        warnings.warn(
            f"weights: mean squares of surviving weights contradict dense weights of variance 1 ({'; '.join(off)}), "
            "and V is off by as much; pass their deviations before pruning as dense_std= (those of the surviving "
            f"weights are {deviations}; torch.nn.Linear starts at 1/sqrt(3 n_in)).",
            WeightScaleWarning,
            stacklevel=4,
        )


def _warn(coherences: Iterable[Coherence]) -> None:
    for number, one in enumerate(coherences, start=1):
        if max(abs(one.z), one.rows_z, one.columns_z) >= 3:
            warnings.warn(f"layer {number}: {one.verdict}", CoherenceWarning, stacklevel=5)
