"""Handwritten digits as inputs: scikit-learn's 8 x 8 images, which need no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphon_validation.losses import Data


def digits() -> Data:
    """The 1,797 handwritten digits of scikit-learn in a fixed random order, centred, each of mean square 1."""
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
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
