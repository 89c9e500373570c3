"""Images that need no download."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_generator, check_installed, positive_number, whole_number
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import InputError

_TURN, _SCALE, _SHEAR, _SHIFT = 0.2, 0.12, 0.15, 0.6  # radians, shares, and pixels of 8 x 8, at most
_BATCH = 500  # images at a time
_LARGEST = 16.0  # grey level of scikit-learn's digits


def digits(
    size: int = 28, count: int = 60_000, rng: np.random.Generator | int = 0, *, warp: float = 1.0
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Handwritten digits in any number: small random affine warps of scikit-learn's 1,797 images of 8 x 8.

    Every image is one of them, drawn evenly, turned by up to 0.2 radians, stretched by up to 12% along each axis,
    sheared by up to 0.15 and shifted by up to 0.6 of its own pixels, all uniform and times ``warp`` (0: none), and
    interpolated linearly at size x size places. No two are alike, but for ``warp=0``; they are no new handwriting: many
    copies of 1,797 hands.

    Args:
        size: pixels of a side, from 2 to 256; count: of images; rng: a seed or Generator (the first rows of more images
            are those of fewer).

    Returns ``x`` (count, size^2), rows of pixels from top left, from 0 to 1, and ``labels`` (count,) from 0 to 9.

    Raises InputError, and GraphonError without scikit-learn (extra "examples").
    """
    side, number = whole_number("size", size, 2, 256), whole_number("count", count)
    strength = positive_number("warp", warp, zero=True)
    if strength > 3:
        raise InputError(f"warp: expected a number from 0 to 3, beyond which digits are no longer read, got {warp}.")
    random = as_generator(rng, expected="a seed or a numpy Generator")
    refuse_beyond_memory("count", 8.0 * number * side**2, f"{number:,} images of {side} x {side}", "ask for fewer")
    images, labels = _originals()
    draws = random.random((number, 7))
    chosen = (draws[:, 0] * len(images)).astype(int)
    moves = strength * (2 * draws[:, 1:] - 1) * [_TURN, _SCALE, _SCALE, _SHEAR, _SHIFT, _SHIFT]
    x = np.empty((number, side * side))
    for start in range(0, number, _BATCH):
        some = slice(start, start + _BATCH)
        x[some] = _warped(images[chosen[some]], moves[some], side)
    return x, labels[chosen]


@cache
def _originals() -> tuple[FloatArray, NDArray[np.int64]]:
    check_installed("digits", {"scikit-learn": "sklearn"}, "examples")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images / _LARGEST, bunch.target.astype(np.int64)


def _warped(images: FloatArray, moves: NDArray[Any], side: int) -> FloatArray:
    """Images (n, 8, 8) read at side x side places that are moved about the middle, linearly; 0 outside."""
    n, width, _ = images.shape
    turn, tall, wide, shear, down, right = moves.T[:, :, None]
    places = (np.arange(side) + 0.5) * (width / side) - width / 2
    row, column = (grid.ravel() for grid in np.meshgrid(places, places, indexing="ij"))
    cos, sin = np.cos(turn), np.sin(turn)
    across = column + shear * row
    y = (cos * row - sin * across) * (1 + tall) + down + (width - 1) / 2
    x = (sin * row + cos * across) * (1 + wide) + right + (width - 1) / 2
    framed = np.zeros((n, width + 2, width + 2))
    framed[:, 1:-1, 1:-1] = images
    y, x = (np.clip(one + 1, 0.0, width + 1 - 1e-9) for one in (y, x))  # the frame is 0
    i, j = y.astype(int), x.astype(int)
    a, b = y - i, x - j
    each = np.arange(n)[:, None]
    return np.asarray(
        (1 - a) * (1 - b) * framed[each, i, j]
        + (1 - a) * b * framed[each, i, j + 1]
        + a * (1 - b) * framed[each, i + 1, j]
        + a * b * framed[each, i + 1, j + 1]
    )
