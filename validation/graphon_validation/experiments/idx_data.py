"""Images and labels in IDX files, the format of MNIST: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphon_theory.data.idx_files import bytes_of
from graphon_theory.data.image_sets import digits as warped_digits
from graphon_theory.errors import InputError, shown
from graphon_validation.experiments.digits import digits
from graphon_validation.training.losses import Data

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
WARPED = "digits28"
_SIDE, _WARPED = 28, 10_000  # pixels of a side, and how many where nobody says


def load_data(source: str, count: int | None = None, least: int = 1) -> Data:
    """ "digits", "digits28", or "idx:FOLDER" for the images and labels in a folder, plain or gzipped, under their usual
    names.

    "digits28" are warped digits of MNIST's 28 x 28 pixels (``gt.datasets.digits``; 10,000 where ``count`` is None).
    Inputs are centred by their mean over all pixels, each of mean square 1, in a fixed random order, as
    :func:`graphon_validation.experiments.digits.digits` has them; ``count`` of them, or all.

    Raises InputError for another source, fewer images than ``least``, and files that are missing, of another format,
    cut short or do not fit on each other.
    """
    if source == "digits":
        x, labels = digits()
        return x[:count], labels[:count]
    if source == WARPED:
        x, labels = warped_digits(_SIDE, _WARPED if count is None else count)
        x -= x.mean()
        return x / np.sqrt((x**2).mean(1, keepdims=True)), labels
    kind, _, folder = source.partition(":")
    if kind != "idx" or not folder:
        raise InputError(f'data: expected "digits", "digits28" or "idx:FOLDER", got {shown(source)}.')
    images, labels = (bytes_of(_found(Path(folder), name), "data") for name in (IMAGES, LABELS))
    if images.ndim < 2 or labels.ndim != 1 or len(images) != len(labels) or not len(labels):
        raise InputError(f"data: {folder} has images of shape {images.shape} and labels of shape {labels.shape}.")
    if len(images) < least:
        raise InputError(f"data: expected at least {least} images, {folder} has {len(images)}.")
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    x = images.reshape(len(images), -1)[chosen] - images.mean(dtype=np.float64)
    size = np.sqrt((x**2).mean(1, keepdims=True))
    if not size.all():
        raise InputError(f"data: {folder} has images that are zero once the mean is taken off.")
    return x / size, labels[chosen].astype(np.int64)


def _found(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"data: {folder} has no {name} (nor {name}.gz).")
