"""Inputs made and read: what is written is read, and what is broken or hostile is refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import graphon_theory as gt
from graphon_theory.data import array_files, checks
from graphon_theory.data.array_files import read_arrays


def header(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_idx_of_every_type(tmp_path: Path, code: int, dtype: str) -> None:
    values = np.arange(-3 if np.dtype(dtype).kind != "u" else 0, 21).astype(dtype)[-12:].reshape(3, 2, 2)
    for name, pack in (("plain", bytes), ("packed.gz", gzip.compress), ("unnamed", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(header(code, 3, 2, 2) + values.tobytes()))
        found = gt.datasets.idx(path)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == np.dtype(dtype).newbyteorder("=")


def test_hostile_idx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images"
    body = np.arange(6, dtype=np.uint8).tobytes()
    for content, message in (
        (b"", "no IDX file"),
        (b"PK\3\4" + body, "no IDX file"),
        (header(7, 6) + body, "no IDX file"),
        (header(8, 6)[:6], "ends within its header"),
        (header(8, 6) + body[:-1], r"should hold 6 bytes of shape \(6,\), got 5"),
        (header(8, 6) + body + b"\0", "got more than 6"),
        (header(8, 2**31, 2**31) + body, "are allowed"),
        (header(14, 2**28) + body, None),  # 2 GiB that are not there
        (gzip.compress(header(8, 6) + body)[:-9], "cannot read|got"),
        (gzip.compress(header(8, 6) + body + bytes(10**7)), "got more than 6"),  # a bomb is not unpacked
        (b"\x1f\x8b" + bytes(20), "cannot read"),
    ):
        path.write_bytes(content)
        with pytest.raises(gt.InputError, match=message):
            gt.datasets.idx(path)
    path.write_bytes(header(8, 6) + body)
    with pytest.raises(gt.InputError, match=r"6 bytes of shape .* and 5 are allowed"):
        gt.datasets.idx(path, most=5)
    for wrong, message in ((tmp_path / "none", "cannot read"), (tmp_path, "cannot read"), (3, "expected the path")):
        with pytest.raises(gt.InputError, match=message):
            gt.datasets.idx(wrong)  # type: ignore[arg-type]


def test_npy_is_mapped(tmp_path: Path) -> None:
    path, values = tmp_path / "x.npy", np.random.default_rng(0).standard_normal((7, 3))
    np.save(path, values)
    found = gt.datasets.npy(path)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, values)
    network = gt.Network([0.5, 0.5])
    np.testing.assert_array_equal(gt.limit_kernel(network, found).ntk, gt.limit_kernel(network, values).ntk)
    whole = path.read_bytes()
    for content, message in ((whole[:-1], "cannot read"), (whole + b"\0", "1 bytes more"), (b"\x93NUMPY", "cannot")):
        path.write_bytes(content)
        with pytest.raises(gt.InputError, match=message):
            gt.datasets.npy(path)
    np.save(path, np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(gt.InputError, match="cannot read"):
        gt.datasets.npy(path)
    np.savez(tmp_path / "x.npz", x=values)
    with pytest.raises(gt.InputError, match="archive"):
        gt.datasets.npy(tmp_path / "x.npz")
    for wrong in (values[0], values.astype(complex), values[:0], np.array([["a"]])):
        np.save(path, wrong)
        with pytest.raises(gt.InputError, match="expected inputs"):
            gt.datasets.npy(path)
    with pytest.raises(gt.InputError, match="not there"):
        gt.datasets.npy(tmp_path / "none.npy")


def test_zarr_is_read_in_its_blocks(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    values = np.random.default_rng(0).standard_normal((30, 3))
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    for name, content in (("x", values), ("y", values[:, 0])):
        array = group.create_array(name, shape=content.shape, chunks=(20, 2)[: content.ndim], dtype=content.dtype)
        array[...] = content
    found = gt.datasets.zarr(tmp_path / "x.zarr", "x")
    assert found.chunks[0] == (20, 10)
    network = gt.Network([0.5, 0.5])
    lazy = gt.limit_kernel(network, found)
    assert lazy.ntk.chunks == ((20, 10), (20, 10))
    np.testing.assert_allclose(lazy.ntk, gt.limit_kernel(network, values).ntk, rtol=1e-14)
    np.testing.assert_array_equal(gt.datasets.zarr(tmp_path / "x.zarr" / "x"), values)
    with pytest.raises(gt.InputError, match="name: expected one of the arrays"):
        gt.datasets.zarr(tmp_path / "x.zarr")
    with pytest.raises(gt.InputError, match=r"got shape \(30,\)"):
        gt.datasets.zarr(tmp_path / "x.zarr", "y")
    (tmp_path / "x.zarr" / "x" / "zarr.json").write_text("{")
    for wrong in (tmp_path / "x.zarr" / "x", tmp_path, tmp_path / "none"):
        with pytest.raises(gt.InputError, match="path"):
            gt.datasets.zarr(wrong)


def test_parquet_without_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == "pyarrow" else object())
    with pytest.raises(gt.GraphonError, match=r"needs pyarrow, not installed here; run: pip install .*\[scale\]"):
        gt.datasets.parquet("x.parquet")


def test_parquet_keeps_labels(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((5, 3)), index=list("pqrst"), columns=list("abc"))
    frame.to_parquet(tmp_path / "x.parquet")
    found = gt.datasets.parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(found, frame)
    kernel = gt.limit_kernel(gt.Network([0.5, 0.5]), found)
    assert list(kernel.x.values) == list("pqrst")
    assert list(gt.datasets.parquet(tmp_path / "x.parquet", ["c", "a"]).columns) == ["c", "a"]


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "name": ["one", "two"]})
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(gt.InputError, match=r"columns: name of .* hold no real numbers"):
        gt.datasets.parquet(tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    for size in (0, 3, len(content) // 2, len(content) - 1):
        (tmp_path / "y.parquet").write_bytes(content[:size])
        with pytest.raises(gt.InputError, match="path: cannot read"):
            gt.datasets.parquet(tmp_path / "y.parquet")
    with pytest.raises(gt.InputError, match="path: cannot read"):
        gt.datasets.parquet(tmp_path / "x.parquet", ["b"])


def test_archives_unpack_to_what_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros((1000, 1000)))
    assert path.stat().st_size < 20_000
    assert read_arrays(path)["x"].shape == (1000, 1000)
    monkeypatch.setattr(array_files, "_UNPACKED", 1_000_000)
    with pytest.raises(gt.InputError, match="unpacks to 8,000,128 bytes"):
        read_arrays(path)


def test_digits_are_warped_digits() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    plain, labels = gt.datasets.digits(8, 50, rng=1, warp=0)
    places = [int(np.abs(bunch.data / 16 - row).sum(axis=1).argmin()) for row in plain]
    np.testing.assert_allclose(plain, bunch.data[places] / 16, atol=1e-9)
    np.testing.assert_array_equal(labels, bunch.target[places])
    x, same = gt.datasets.digits(28, 700, rng=1)
    assert x.shape == (700, 784)
    assert 0 <= x.min() <= x.max() <= 1
    np.testing.assert_array_equal(same[:50], labels)
    few, _ = gt.datasets.digits(28, 30, rng=1)
    np.testing.assert_array_equal(few, x[:30])
    assert len(np.unique(x, axis=0)) == 700
    # a warp keeps the digit: the nearest plain digit mostly has its label
    images, their = gt.datasets.digits(28, 2000, rng=2, warp=0)
    nearest = their[(np.sum(images**2, axis=1) - 2 * x[:100] @ images.T).argmin(axis=1)]
    assert np.mean(nearest == same[:100]) > 0.8
    for options in ({"size": 1}, {"count": 0}, {"rng": -1}, {"warp": 4.0}, {"warp": -1.0}, {"count": 10**12}):
        with pytest.raises(gt.InputError, match=next(iter(options))):
            gt.datasets.digits(**options)
