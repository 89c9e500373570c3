"""Kernels on disk: equal to those in memory, taken up again after any end, never taken for another's or for whole."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.data.tile_stores import TileStore
from graphon_theory.engine.prepared_kernels import PreparedKernel

pytest.importorskip("zarr")

Array = NDArray[np.float64]
NETWORK = gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5])
X = np.random.default_rng(0).standard_normal((90, 4))
TILE = 32


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in ("nngp", "ntk", "mean"):
        assert one[name].dims == other[name].dims
        np.testing.assert_array_equal(one[name].values, other[name].values)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_store_holds_the_kernels(tmp_path: Path, dtype: str, outputs: int) -> None:
    network = NETWORK.changed(outputs=outputs)
    labelled = xr.DataArray(X, dims=("x", "pixel"), coords={"x": np.arange(90) + 5})
    expected = gt.limit_kernel(network, labelled, dtype=dtype)
    for _ in range(2):  # made, and read again
        found = gt.limit_kernel(network, labelled, dtype=dtype, store=tmp_path / "kernel.zarr", tile=TILE)
        scale = float(np.abs(expected.ntk).max())
        for name in ("nngp", "ntk", "mean"):
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_allclose(
                found[name], expected[name], rtol=0, atol=2e-15 * scale if dtype[-2:] == "64" else 1e-6
            )
        assert found.attrs == expected.attrs
        assert list(found.x[:2]) == list(found.x2[:2]) == [5, 6]
    plain = xr.open_zarr(tmp_path / "kernel.zarr", chunks=None, consolidated=False)
    assert plain.attrs["complete"]
    np.testing.assert_array_equal(plain.ntk, found.ntk)


def test_a_store_between_two_sets(tmp_path: Path) -> None:
    new = np.random.default_rng(1).standard_normal((50, 4))
    found = gt.limit_kernel(NETWORK, new, X, store=str(tmp_path / "cross.zarr"), tile=TILE)
    np.testing.assert_allclose(found.ntk, gt.limit_kernel(NETWORK, new, X).ntk, rtol=0, atol=1e-14)


def test_operators_read_stores(tmp_path: Path) -> None:
    v, store = np.random.default_rng(1).standard_normal((90, 2)), tmp_path / "kernel.zarr"
    whole = gt.limit_kernel(NETWORK, X, store=store, tile=TILE)
    for kernel in ("ntk", "nngp"):
        operator = gt.kernel_operator(NETWORK, X, kernel=kernel, store=store, tile=TILE)
        np.testing.assert_allclose(operator @ v, whole[kernel].values @ v, rtol=0, atol=1e-12)
        assert operator.pairs_computed == 0


def test_tiles_that_are_whole_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "kernel.zarr"
    expected = gt.limit_kernel(NETWORK, X, store=store, tile=TILE, threads=1).load()
    computed: list[tuple[int, int]] = []
    block = PreparedKernel.block

    def counted(self: PreparedKernel, rows: slice, columns: slice) -> tuple[Array, Array]:
        computed.append((rows.start // TILE, columns.start // TILE))
        return block(self, rows, columns)

    monkeypatch.setattr(PreparedKernel, "block", counted)
    again = gt.limit_kernel(NETWORK, X, store=store, tile=TILE, threads=1)
    assert not computed
    same(again, expected)
    chunk = store / "ntk" / "c" / "0" / "1"
    whole = chunk.read_bytes()
    for damage in (
        lambda: chunk.write_bytes(whole[:-8]),  # cut short
        lambda: chunk.write_bytes(whole[:-8] + b"\0" * 8),
        chunk.unlink,
        lambda: (store / "nngp" / "c" / "1" / "0").unlink(),  # its mirror
        lambda: (store / "tile_digest" / "c" / "0" / "1" / "0").unlink(),
    ):
        damage()
        same(gt.limit_kernel(NETWORK, X, store=store, tile=TILE, threads=1), expected)
        assert computed == [(0, 1)]
        computed.clear()


def test_what_is_not_written_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "kernel.zarr"
    written: list[tuple[int, int]] = []
    write = TileStore.write

    def two(self: TileStore, i: int, j: int, parts: tuple[Array, Array]) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append((i, j))
        write(self, i, j, parts)

    monkeypatch.setattr(TileStore, "write", two)
    with pytest.raises(KeyboardInterrupt):
        gt.limit_kernel(NETWORK, X, store=store, tile=TILE, threads=1)
    plain = xr.open_zarr(store, chunks=None, consolidated=False)
    assert not plain.attrs["complete"]
    assert int(np.isnan(plain.ntk.values).sum()) == 90**2 - 32**2 - 2 * 32**2
    assert np.isnan(plain["mean"].values).all()


_RUN = """
import sys, time
import numpy as np
import graphon_theory as gt
from graphon_theory.data.tile_stores import TileStore
write = TileStore.write
def slowly(self, *tile):
    write(self, *tile)
    print(flush=True)
    time.sleep(float(sys.argv[2]))
TileStore.write = slowly
x = np.random.default_rng(0).standard_normal((90, 4))
network = gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5])
gt.limit_kernel(network, x, store=sys.argv[1], tile=16, threads=1)
"""


@pytest.mark.slow
def test_killed_twice_and_taken_up_again(tmp_path: Path) -> None:
    """SIGKILL after a third and two thirds of 21 tiles: the end is that of a run without, bit for bit."""
    store, computed = tmp_path / "killed.zarr", 0
    for stop in (7, 7, None):
        command = [sys.executable, "-c", _RUN, str(store), "0" if stop is None else "0.05"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for count, _ in enumerate(process.stdout, 1):
                computed += 1
                if count == stop:
                    time.sleep(0.01)
                    process.kill()
                    break
            process.wait()
        assert process.returncode == (0 if stop is None else -signal.SIGKILL)
    assert computed <= 21 + 2  # less than two tiles are lost each time
    expected = gt.limit_kernel(NETWORK, X, store=tmp_path / "whole.zarr", tile=16, threads=1)
    same(xr.open_zarr(store, chunks=None, consolidated=False), expected)


def test_a_store_of_another_problem_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "kernel.zarr"
    gt.limit_kernel(NETWORK, X, store=store, tile=TILE)
    moved = X.copy()
    moved[3, 1] += 1e-12
    for call in (
        lambda: gt.limit_kernel(NETWORK.changed(bias_variance=0.1), X, store=store, tile=TILE),
        lambda: gt.limit_kernel(NETWORK.changed(activation="erf"), X, store=store, tile=TILE),
        lambda: gt.limit_kernel(NETWORK, moved, store=store, tile=TILE),
        lambda: gt.limit_kernel(NETWORK, X[:80], store=store, tile=TILE),
        lambda: gt.limit_kernel(NETWORK, X, X, store=store, tile=TILE),
        lambda: gt.limit_kernel(NETWORK, X, store=store, tile=TILE, dtype="float32"),
        lambda: gt.limit_kernel(NETWORK, X, store=store, tile=TILE + 1),
    ):
        with pytest.raises(gt.InputError, match=r"store: .* another network, other inputs"):
            call()

    def constant(value: float) -> gt.Network:
        return gt.Network([gt.FunctionGraphon(lambda u, v: value + 0 * u), 0.5])

    one, other = constant(0.3), constant(0.4)
    assert one.describe() == other.describe()
    gt.limit_kernel(one, X[:20], store=tmp_path / "named.zarr")
    with pytest.raises(gt.InputError, match="another network"):
        gt.limit_kernel(other, X[:20], store=tmp_path / "named.zarr")


def test_paths_that_are_no_stores_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder, store = tmp_path / "file", tmp_path / "folder", tmp_path / "kernel.zarr"
    file.write_text("text")
    folder.mkdir()
    no_paths = [(path, "expected the path of a folder") for path in (7, "", "a\0b", tmp_path / ("a" * 300))]
    for path, message in ((file, "is a file"), (folder, "no store of a kernel"), *no_paths):
        with pytest.raises(gt.InputError, match=f"store: .*{message}"):
            gt.limit_kernel(NETWORK, X, store=path)  # type: ignore[arg-type]
    gt.limit_kernel(NETWORK, X, store=store, tile=TILE)
    meta = store / "ntk" / "zarr.json"
    meta.write_text(meta.read_text().replace("90", "91"))
    with pytest.raises(gt.InputError, match=r"has ntk of shape \(91, 91\)"):
        gt.limit_kernel(NETWORK, X, store=store, tile=TILE)
    meta.write_text("{")
    with pytest.raises(gt.InputError, match="no store of a kernel"):
        gt.limit_kernel(NETWORK, X, store=store, tile=TILE)
    with pytest.raises(gt.InputError, match="contributions"):
        gt.limit_kernel(NETWORK, X, store=store, contributions=True)
    with pytest.raises(gt.InputError, match="tile"):
        gt.limit_kernel(NETWORK, X, tile=3)
    with pytest.raises(gt.InputError, match="tile"):
        gt.limit_kernel(NETWORK, X, store=tmp_path / "new.zarr", tile=0)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(gt.InputError, match=r"0\.0 GiB are free"):
        gt.limit_kernel(NETWORK, X, store=tmp_path / "large.zarr")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder", "kernel.zarr"]


def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full and read-only disks, by the errors that they raise: a user who may do everything is refused nothing."""
    store, replace, count = tmp_path / "kernel.zarr", Path.replace, 0

    def full(self: Path, target: Path) -> Path:
        nonlocal count
        count += "ntk" in str(self)
        if count > 3:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(gt.InputError, match=r"store: .*No space left on device"):
        gt.limit_kernel(NETWORK, X, store=store, tile=TILE, threads=1)
    monkeypatch.undo()
    expected = gt.limit_kernel(NETWORK, X, store=tmp_path / "whole.zarr", tile=TILE)
    same(gt.limit_kernel(NETWORK, X, store=store, tile=TILE), expected)

    def read_only(self: Path, target: Path) -> Path:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", read_only)
    with pytest.raises(gt.InputError, match=r"store: .*Read-only file system"):
        gt.limit_kernel(NETWORK, X, store=tmp_path / "none.zarr", tile=TILE)
    assert not (tmp_path / "none.zarr").exists()
