"""Fingerprints of large kernels: a few sums over all entries, by which one knows a kernel that was not changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST = 5000  # inputs from which a factorisation costs more than a look at a fingerprint is worth
_SUMS = 4
_STRIP = 1024  # rows at a time
_ROUNDINGS = 4.0  # by which sums over n^2 entries, of random signs, may differ
_NAME = "fingerprint"


def fingerprint(kernel: NDArray[Any]) -> dict[str, Any]:
    """The attribute of a kernel (N, N) that the engine made, to tell it from what was changed; none for small ones.

    Four sums s^T K r with fixed random s and r. Whatever changes an entry by more than roundings of the largest changes
    them, too; they tell nothing of who made a matrix that has been made to fit.
    """
    if kernel.ndim != 2 or len(kernel) < _LEAST or kernel.shape[0] != kernel.shape[1]:
        return {}
    return {_NAME: _sums(kernel).tolist()}


def is_as_made(kernel: Any) -> bool:
    """Whether a kernel carries its fingerprint."""
    told = getattr(kernel, "attrs", {}).get(_NAME)
    if told is None or getattr(kernel, "ndim", 0) != 2:
        return False
    values = np.asarray(kernel)
    told = np.asarray(told)
    if values.shape[0] != values.shape[1] or told.shape != (_SUMS,) or told.dtype.kind != "f":
        return False
    if values.dtype not in (np.float32, np.float64):
        return False
    largest = float(np.abs(values.diagonal()).max())
    slack = _ROUNDINGS * float(np.finfo(values.dtype).eps) * len(values) * largest
    return bool((np.abs(_sums(values) - told) <= slack).all())


def _sums(kernel: NDArray[Any]) -> NDArray[np.float64]:
    size = len(kernel)
    left, right = np.random.default_rng(size).standard_normal((2, size, _SUMS)).astype(kernel.dtype)
    total = np.zeros(_SUMS)
    for start in range(0, size, _STRIP):
        rows = slice(start, start + _STRIP)
        total += np.einsum("ns,ns->s", left[rows], kernel[rows] @ right, dtype=np.float64)
    return total
