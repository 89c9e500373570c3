"""Handwritten digits as inputs: scikit-learn's 8 x 8 images, which need no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphon_theory.data.checks import check_installed
from graphon_theory.errors import InputError
from graphon_validation.training.losses import Data


def digits() -> Data:
    """The 1,797 handwritten digits of scikit-learn in a fixed random order, centred, each of mean square 1.

    Raises GraphonError without scikit-learn, as do the functions below.
    """
    images, labels = _images_and_labels()
    x = images.reshape(-1, 64)
    x = x - x.mean()
    x = x / np.sqrt((x**2).mean(1, keepdims=True))
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], labels[order]


def upsampled_digits(count: int, side: int = 28) -> NDArray[np.float64]:
    """The first ``count`` of :func:`digits`, 8 x 8, interpolated linearly to side x side; mean square 1 again."""
    from scipy.ndimage import zoom

    images = digits()[0][:count].reshape(-1, 8, 8)
    x = zoom(images, (1, side / 8, side / 8), order=1, grid_mode=True, mode="nearest").reshape(len(images), -1)
    return np.asarray(x / np.sqrt((x**2).mean(1, keepdims=True)))


def shifted_digits(count: int) -> Data:
    """``count`` of 8,985 digits: the 1,797 and their shifts by one pixel, with noise of 0.3 grey levels, in a fixed
    random order; every pixel centred, mean square 1 over all."""
    images, labels = _images_and_labels()
    shifts = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    x = np.concatenate([np.roll(images, shift, (1, 2)) for shift in shifts]).reshape(-1, 64)
    if not 1 <= count <= len(x):
        raise InputError(f"count: expected a number from 1 to {len(x)}, got {count}.")
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(x))[:count]
    x = x[chosen] + 0.3 * rng.standard_normal((count, 64))
    x -= x.mean(axis=0)
    return x / np.sqrt(np.mean(x**2)), np.tile(labels, len(shifts))[chosen]


def _images_and_labels() -> Data:
    check_installed("digits", {"scikit-learn": "sklearn"}, "examples")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target
