"""Result files: exact round trips of every type, and damaged files that are refused, never misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.cli import network_commands
from graphon_theory.data.array_files import read_array
from graphon_theory.data.files import file_path, load_dataset, save_dataset

VALUES: dict[str, NDArray[Any]] = {
    "bool": np.array([True, False]),
    "uint8": np.array([0, 255], np.uint8),
    "uint16": np.array([0, 2**16 - 1], np.uint16),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "uint64_small": np.array([0, 7], np.uint64),
    "uint64_float": np.array([0, 2**53], np.uint64),
    "int8": np.array([-(2**7), 2**7 - 1], np.int8),
    "int16": np.array([-(2**15), 3], np.int16),
    "int32": np.array([-(2**31), 2**31 - 1], np.int32),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "int64_small": np.array([-(2**31), 2**31 - 1]),
    "int64_float": np.array([-(2**53), 2**31]),
    "int64_odd": np.array([2**53 + 1, -1]),
    "float16": np.array([1.5, np.inf], np.float16),
    "float32": np.array([np.pi, -0.0], np.float32),
    "float64": np.array([np.pi, np.nan]),
    "text": np.array(["", "schön a "]),
    "objects": np.array(["one", "日本"], dtype=object),
    "bytes": np.array([b"a", b"bc"]),
    "moments": np.array(["2020-01-01T00:00:00.000000001", "NaT"], "M8[ns]"),
    "spans": np.array([2**60, -3], "m8[ns]"),
}


@pytest.mark.parametrize("name", list(VALUES))
@pytest.mark.parametrize("place", ["variable", "coordinate", "scalar", "empty", "matrix"])
def test_values_and_types_come_back(name: str, place: str, tmp_path: Path) -> None:
    values = VALUES[name]
    if place == "coordinate":
        data, found = xr.Dataset({"ntk": ("x", [1.0, 2.0])}, {"seed": ("x", values)}), "seed"
    else:
        shaped = {"variable": values, "scalar": values[1], "empty": values[:0], "matrix": np.stack([values, values])}
        array = np.asarray(shaped[place], dtype=values.dtype)
        data, found = xr.Dataset({"it": (("a", "b")[: array.ndim], array)}), "it"
    save_dataset(data, tmp_path / "it.nc")
    back = load_dataset(tmp_path / "it.nc")
    assert set(back.coords) == set(data.coords)
    ours, theirs = data[found].values, back[found].values
    assert theirs.dtype == ours.dtype
    assert theirs.shape == ours.shape
    if ours.dtype.kind == "f":  # to the bit, zeros and all
        ours, theirs = ours.view(np.uint8) if ours.ndim else ours, theirs.view(np.uint8) if theirs.ndim else theirs
    assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fmM")


@pytest.mark.parametrize("name", ["bool", "uint64", "int64", "int64_odd", "float64", "text", "moments"])
def test_labels_of_a_dimension_come_back(name: str, tmp_path: Path) -> None:
    data = xr.Dataset({"ntk": ("seed", [1.0, 2.0])}, {"seed": VALUES[name]})
    save_dataset(data, tmp_path / "it.nc")
    back = load_dataset(tmp_path / "it.nc")
    assert back.indexes["seed"].equals(data.indexes["seed"])
    assert back.seed.dtype == data.seed.dtype


def test_other_readers_see_the_right_numbers(tmp_path: Path) -> None:
    names = [name for name, values in VALUES.items() if values.dtype.kind in "iuf"]
    save_dataset(xr.Dataset({name: ("x", VALUES[name]) for name in names}), tmp_path / "it.nc")
    plain = xr.load_dataset(tmp_path / "it.nc", engine="scipy")
    for name in names:
        assert [float(one) for one in plain[name].values] == pytest.approx(VALUES[name].astype(float), nan_ok=True)
    assert plain["int64"].values.tolist() == ["-9223372036854775808", "9223372036854775807"]


def test_attributes_come_back(tmp_path: Path) -> None:
    attrs = {"seed": 2**40, "flag": True, "nothing": None, "several": [2**40, 1], "text": "é", "number": 1.5,
             "nodes": [3, 4], "none": [], "numpy": np.uint64(2**63)}  # fmt: skip
    data = xr.Dataset({"loss": ("time", [1.0], {"units": "days since 2000-01-01", "seed": -(2**40)})}, attrs=attrs)
    save_dataset(data, tmp_path / "it.nc")
    back = load_dataset(tmp_path / "it.nc")
    for name, value in attrs.items():
        assert np.array_equal(back.attrs[name], value) if isinstance(value, list) else back.attrs[name] == value
    assert back.attrs["flag"] is True
    assert back.attrs.keys() == attrs.keys()
    assert back.loss.attrs == data.loss.attrs
    save_dataset(back, tmp_path / "again.nc")
    assert load_dataset(tmp_path / "again.nc").identical(back)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (xr.Dataset({"v": ("x", [1j])}), "v: expected real numbers of at most 64 bits, .*, got dtype complex128"),
        (xr.Dataset({"v": ("x", np.array([1.0], np.longdouble))}), "v: expected real numbers of at most 64 bits"),
        (xr.Dataset({"v": ("x", np.array(["a", None], object))}), "v: expected .* or strings, got dtype object"),
        (
            xr.Dataset({"v": ("x", [1.0])}, {"x": np.array([("a", 1), 0], object)[:1]}),
            "x: expected .* got dtype object",
        ),
        (xr.Dataset(attrs={"v": 1j}), "attribute v: expected text or numbers, got 1j"),
        (xr.Dataset({"": ("x", [1.0])}), "data: it cannot be written as netCDF-3"),
    ],
)
def test_what_no_file_holds_is_refused(data: xr.Dataset, message: str, tmp_path: Path) -> None:
    with pytest.raises(gt.InputError, match=message):
        save_dataset(data, tmp_path / "it.nc")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def kernel_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xr.Dataset]:
    path = tmp_path_factory.mktemp("files") / "kernel.nc"
    x = xr.DataArray(np.random.default_rng(0).standard_normal((3, 2)), dims=("x", "f"), coords={"x": list("abc")})
    save_dataset(gt.limit_kernel(gt.Network([1.0, 1.0]), x), path)
    return path, load_dataset(path)


def outcome(path: Path, content: bytes, whole: xr.Dataset | None) -> str:
    path.write_bytes(content)
    try:
        found = load_dataset(path)
    except gt.InputError:
        return "refused"
    return "the same" if whole is None or found.identical(whole) else "another"


def test_a_cut_file_is_refused_or_the_same(kernel_file: tuple[Path, xr.Dataset], tmp_path: Path) -> None:
    path, whole = kernel_file
    content = path.read_bytes()
    found = [outcome(tmp_path / "cut.nc", content[:length], whole) for length in range(len(content))]
    assert set(found) == {"refused", "the same"}
    seal = len(b"graphon-theory sha256 ") + 64
    assert set(found[: len(content) - seal]) == {"refused"}


def test_a_changed_byte_is_refused_or_the_same(kernel_file: tuple[Path, xr.Dataset], tmp_path: Path) -> None:
    path, whole = kernel_file
    content, rng = path.read_bytes(), np.random.default_rng(1)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        assert outcome(tmp_path / "changed.nc", bytes(changed), whole) in ("refused", "the same")


def test_any_bytes_are_read_or_refused(kernel_file: tuple[Path, xr.Dataset], tmp_path: Path) -> None:
    """Without the seal a changed number cannot be told, but nothing else comes of it than data or an InputError."""
    path, _ = kernel_file
    content, rng = path.read_bytes()[:-86], np.random.default_rng(2)
    for number in range(200):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=3):
            changed[place] = int(rng.integers(256))
        noise = (b"CDF\x02" if number % 2 else b"") + rng.bytes(int(rng.integers(200)))
        for one in (bytes(changed), noise):
            assert outcome(tmp_path / "any.nc", one, None) in ("refused", "the same")
    with pytest.raises(gt.InputError, match="expected a netCDF-3 file written by graphon-theory, but it cannot be"):
        load_dataset(tmp_path / "missing.nc")


@pytest.mark.parametrize("form", ["npy", "npz", "csv"])
def test_damaged_arrays_are_read_or_refused(form: str, tmp_path: Path) -> None:
    path, rng = tmp_path / f"it.{form}", np.random.default_rng(3)
    whole = rng.standard_normal((3, 2))
    if form == "npy":
        np.save(path, whole)
    elif form == "npz":
        np.savez(path, x=whole, y=whole[:, 0])
    else:
        np.savetxt(path, whole, delimiter=",", fmt="%.17g")
    content = path.read_bytes()

    def read(damaged: bytes) -> NDArray[Any] | None:
        path.write_bytes(damaged)
        try:
            assert len(network_commands._layers([path], "mask")) == 2 if form != "csv" else True
            return read_array(path)
        except gt.InputError:
            return None

    cut = [read(content[:length]) for length in range(len(content))]
    if form != "csv":  # text that is cut is text
        assert all(one is None for one in cut)
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=int(rng.integers(1, 4))):
            changed[place] = int(rng.integers(256))
        read(bytes(changed))
    again = read(content)
    assert again is not None
    np.testing.assert_array_equal(again, whole)


@pytest.mark.parametrize("bad", [3, None, "", " ", "a\0b", b"bytes", "a" * 5_000, "\ud800"])
def test_every_reader_says_what_path_was_due(bad: Any) -> None:
    doors: list[tuple[Callable[[Any], object], type[gt.GraphonError], str]] = [
        (lambda path: file_path("out", path, "a folder"), gt.InputError, "out: expected the path of a folder, got"),
        (gt.datasets.idx, gt.InputError, "path: expected the path of an IDX file, got"),
        (gt.datasets.npy, gt.InputError, "path: expected the path of a .npy file, got"),
        (gt.Network.load, gt.SpecError, "path: expected the path of a file, got"),
        (gt.Network([1.0, 1.0]).save, gt.SpecError, "path: expected the path of a file, got"),
    ]
    for door, error, message in doors:
        with pytest.raises(error) as refused:
            door(bad)
        assert message in str(refused.value)
