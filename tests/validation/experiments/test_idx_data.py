"""IDX files: what is written is read, and what is broken is refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.data.idx_files import bytes_of
from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.idx_data import IMAGES, LABELS, load_data


def write(path: Path, values: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    write(tmp_path / f"{IMAGES}.gz", rng.integers(256, size=(6, 3, 2), dtype=np.uint8))
    write(tmp_path / LABELS, np.arange(6, dtype=np.uint8))
    return tmp_path


def test_inputs_are_centred_and_scaled_and_keep_their_labels(folder: Path) -> None:
    x, labels = load_data(f"idx:{folder}")
    raw = bytes_of(folder / f"{IMAGES}.gz", "data").reshape(6, -1).astype(float)
    assert x.shape == (6, 6)
    assert sorted(labels) == list(range(6))
    np.testing.assert_allclose((x**2).mean(1), 1)
    centred = raw[labels] - raw.mean()
    np.testing.assert_allclose(x * centred[:, :1] / x[:, :1], centred)
    few, some = load_data(f"idx:{folder}", 2)
    assert np.array_equal(few, x[:2])
    assert np.array_equal(some, labels[:2])


def test_digits_are_digits() -> None:
    for one, other in zip(load_data("digits"), digits(), strict=True):
        assert np.array_equal(one, other)


def test_warped_digits_have_the_pixels_of_mnist() -> None:
    x, labels = load_data("digits28", 40)
    assert x.shape == (40, 784)
    np.testing.assert_allclose((x**2).mean(1), 1)
    raw, own = gt.datasets.digits(28, 40)
    assert np.array_equal(labels, own)
    np.testing.assert_allclose(np.corrcoef(x[7], raw[7])[0, 1], 1)


def test_what_is_broken_is_refused(folder: Path) -> None:
    for source in ("mnist", "idx:", f"csv:{folder}"):
        with pytest.raises(InputError, match='expected "digits", "digits28" or "idx:FOLDER"'):
            load_data(source)
    with pytest.raises(InputError, match=f"has no {IMAGES}"):
        load_data(f"idx:{folder / 'nowhere'}")
    whole = (folder / LABELS).read_bytes()
    for content, message in (
        (whole[:-1], r"should hold 6 bytes of shape \(6,\), got 5"),
        (whole[:6], "ends within its header"),
        (b"\0\0\x0d" + whole[3:], "no IDX file of unsigned bytes"),
    ):
        (folder / LABELS).write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_data(f"idx:{folder}")
    write(folder / LABELS, np.arange(5, dtype=np.uint8))
    with pytest.raises(InputError, match=r"images of shape \(6, 3, 2\) and labels of shape \(5,\)"):
        load_data(f"idx:{folder}")
    (folder / f"{IMAGES}.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="cannot read"):
        load_data(f"idx:{folder}")
