"""The best ``count`` of many scores spread over several tensors, exactly and without sorting them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphon_theory.errors import InputError

_BITS = 16
_BINS = 1 << _BITS
_SEED = 0  # of the draw among ties
_INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}
# Elements looked at together: on CPUs what stays in a core's cache, elsewhere what few launches can carry.
_PART = {"cpu": 1 << 17}
_LARGE_PART = 1 << 25


@dataclass(frozen=True)
class Cut:
    """Where the best were cut off: the score of the last one, how many have it, and how many of these were kept."""

    threshold: float
    tied: int
    taken: int


def keep_best(scores: Sequence[Tensor], candidates: Sequence[Tensor], count: int) -> tuple[list[Tensor], Cut]:
    """Bool masks of the ``count`` highest scores among the candidates, jointly over all tensors.

    The threshold is found on the scores' bit patterns, on the CPU by a histogram of their first 16 bits and among the
    few scores that share its bin, on other devices by halving, so it is the exact ``count``-th score. Among ties at the
    threshold the draw is random, but the same in every call and on every device: by position, many equal scores (zeros,
    say) would leave blocks that no method chose. Scores must be finite floats of one dtype.

    Raises InputError for a dtype other than float32 and float64.
    """
    if scores[0].dtype not in _INTEGER:
        raise InputError(f"scores: expected float32 or float64, got {scores[0].dtype}; convert the model first.")
    find = _threshold if scores[0].device.type == "cpu" else _bisected
    threshold, above, tied_count = find(scores, candidates, count)
    taken = count - above
    lots = np.zeros(tied_count, dtype=bool)
    lots[:taken] = True
    if taken < tied_count:
        np.random.default_rng(_SEED).shuffle(lots)
    drawn, seen = torch.from_numpy(lots), 0
    kept = []
    for score, candidate in zip(scores, candidates, strict=True):
        chosen = torch.empty_like(candidate, memory_format=torch.contiguous_format)
        for values, allowed, out in _parts(score, candidate, chosen):
            torch.gt(values, threshold, out=out).logical_and_(allowed)
            if seen < tied_count:
                places = (values == threshold).logical_and_(allowed).nonzero()[:, 0]
                out[places] = drawn[seen : seen + len(places)].to(out.device)
                seen += len(places)
        kept.append(chosen)
    return kept, Cut(threshold, tied_count, taken)


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat views of the tensors, a stretch of each at a time."""
    size = _PART.get(tensors[0].device.type, _LARGE_PART)
    yield from zip(*(tensor.reshape(-1).split(size) for tensor in tensors), strict=True)


def _keys(score: Tensor, candidate: Tensor) -> Tensor:
    """Scores as integers in the order of the floats, below zero with the magnitude's bits flipped.

    What is no candidate gets the least integer, which stands for no finite float.
    """
    # By bits and not by torch.where, which waits for a branch at every element: ten times slower.
    bits = (score + 0.0).view(_INTEGER[score.dtype])  # + 0.0 makes -0.0 tie with 0.0
    info = torch.iinfo(bits.dtype)
    keys = bits.bitwise_xor((bits >> (info.bits - 1)).bitwise_and_(info.max))
    inside = candidate.to(bits.dtype)
    return keys.bitwise_and_(-inside).bitwise_or_((inside - 1).bitwise_and_(info.min))


def _threshold(scores: Sequence[Tensor], candidates: Sequence[Tensor], count: int) -> tuple[float, int, int]:
    """(the count-th best score among the candidates, numbers of candidates above it and at it)."""
    dtype = scores[0].dtype
    shift = 8 * dtype.itemsize - _BITS
    half = _BINS // 2  # the top digit is signed
    histogram = torch.zeros(_BINS, dtype=torch.int64)
    for score, candidate in zip(scores, candidates, strict=True):
        for values, allowed in _parts(score, candidate):
            digits = (_keys(values, allowed) >> shift).add_(half)
            histogram += torch.bincount(digits, minlength=_BINS).cpu()
    digit, above = _bin(histogram, count)
    first = (digit - half) << shift
    last = first + (1 << shift) - 1
    last -= last == -1  # the key of -0.0, which is counted as 0.0
    low, high = (_float_of(key, dtype) for key in (first, last))
    near = [
        values[(values >= low).logical_and_(values <= high).logical_and_(allowed)]
        for score, candidate in zip(scores, candidates, strict=True)
        for values, allowed in _parts(score, candidate)
    ]
    inside = torch.cat(near).numpy() + 0.0  # -0.0 is 0.0
    place = count - above
    threshold = float(np.partition(inside, len(inside) - place)[len(inside) - place])
    return threshold, above + int((inside > threshold).sum()), int((inside == threshold).sum())


def _bisected(scores: Sequence[Tensor], candidates: Sequence[Tensor], count: int) -> tuple[float, int, int]:
    """What :func:`_threshold` finds, by halving the range of the keys.

    One pass of comparisons for every bit. Histograms would have to add to the same few bins from everywhere at once,
    which a device that runs thousands of threads does one after another.
    """
    pairs = zip(scores, candidates, strict=True)
    keys = [_keys(score.reshape(-1), candidate.reshape(-1)) for score, candidate in pairs]
    info = torch.iinfo(keys[0].dtype)

    def above(bound: int) -> int:
        return int(torch.stack([(key > bound).sum() for key in keys]).sum())

    low, high = info.min, info.max  # at least count keys lie above low, fewer above high
    while high - low > 1:
        middle = (low + high) // 2
        if above(middle) >= count:
            low = middle
        else:
            high = middle
    better = above(high)
    tied = int(torch.stack([(key == high).sum() for key in keys]).sum())
    return _float_of(high, scores[0].dtype), better, tied


def _float_of(key: int, dtype: torch.dtype) -> float:
    """The float whose key this is."""
    bits = torch.tensor([key], dtype=_INTEGER[dtype])
    bits = torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)
    return float(bits.view(dtype))


def _bin(histogram: Tensor, count: int) -> tuple[int, int]:
    """(digit of the count-th best, number of those with a higher digit)."""
    from_top = histogram.flip(0).cumsum(0)
    steps = int(torch.searchsorted(from_top, count))
    return len(histogram) - 1 - steps, int(from_top[steps - 1]) if steps else 0
