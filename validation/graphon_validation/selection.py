"""The best ``count`` of many scores spread over several tensors, exactly and without sorting them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BITS = 16
_INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}


def keep_best(scores: Sequence[Tensor], candidates: Sequence[Tensor], count: int) -> list[Tensor]:
    """Bool masks of the ``count`` highest scores among the candidates, jointly over all tensors.

    The threshold is found by histogram refinement on the scores' bit patterns, 16 bits at a time, so it is
    the exact ``count``-th score. Ties at the threshold are broken by position: earlier tensors first, then
    row-major order. Scores must be finite floats of one dtype.
    """
    threshold, above = _threshold(scores, candidates, count)
    ties = count - above
    kept = []
    for score, candidate in zip(scores, candidates, strict=True):
        chosen = candidate & (score > threshold)
        if ties > 0:
            tied = (candidate & (score == threshold)).flatten().nonzero()[:ties, 0]
            chosen.view(-1)[tied] = True
            ties -= len(tied)
        kept.append(chosen)
    return kept


def _keys(score: Tensor, candidate: Tensor) -> Tensor:
    """The candidates as integers in the order of the floats: below zero the magnitude's bits are flipped."""
    chosen = score.flatten() if candidate.all() else score[candidate]
    bits = (chosen + 0.0).view(_INTEGER[score.dtype])  # + 0.0 makes -0.0 tie with 0.0
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _threshold(scores: Sequence[Tensor], candidates: Sequence[Tensor], count: int) -> tuple[float, int]:
    """(the count-th best score among the candidates, number of candidates above it)."""
    dtype = scores[0].dtype
    shift = 8 * dtype.itemsize - _BITS
    half = 1 << (_BITS - 1)  # the top digit is signed
    histogram = torch.zeros(2 * half, dtype=torch.int64)
    for score, candidate in zip(scores, candidates, strict=True):
        digits = (_keys(score, candidate) >> shift) + half
        histogram += torch.bincount(digits, minlength=2 * half).cpu()
    digit, above = _bin(histogram, count)
    prefix = digit - half
    # only the scores that share the top digit can decide what is left, and they are few
    few = []
    for score, candidate in zip(scores, candidates, strict=True):
        keys = _keys(score, candidate)
        few.append(keys[(keys >> shift) == prefix].cpu())
    left = torch.cat(few)
    while shift:
        shift -= _BITS
        digits = (left >> shift) & (2 * half - 1)
        digit, more = _bin(torch.bincount(digits, minlength=2 * half), count - above)
        above += more
        left = left[digits == digit]
    key = left[:1]
    bits = torch.where(key < 0, key ^ torch.iinfo(key.dtype).max, key)
    return float(bits.view(dtype)), above


def _bin(histogram: Tensor, count: int) -> tuple[int, int]:
    """(digit of the count-th best, number of those with a higher digit)."""
    from_top = histogram.flip(0).cumsum(0)
    steps = int(torch.searchsorted(from_top, count))
    return len(histogram) - 1 - steps, int(from_top[steps - 1]) if steps else 0
