"""Kernels on disk, tile by tile, as Zarr arrays: what is there is whole and of the same problem, or is not taken.

A store is a Zarr group made under another name and renamed, so that a path holds a store or nothing. Every tile is
a chunk of its own. Its digest (BLAKE2 of the tile's numbers) is written after it, to a chunk of its own as well, so
that a tile that was cut short has none, or one that it does not match. Places not yet written read as NaN.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphon_theory.data.checks import check_installed
from graphon_theory.data.files import file_path
from graphon_theory.data.labels import OUTPUT, X2, X, dataset
from graphon_theory.errors import InputError, shown_text

if TYPE_CHECKING:
    import xarray as xr

KERNELS = ("nngp", "ntk")
_DIGEST, _BYTES, _IDENTITY, _COMPLETE = "tile_digest", 32, "identity", "complete"
_MARGIN = 1 << 24  # bytes of a disk that are left alone

Array = NDArray[Any]


class Problem(NamedTuple):
    """What a store holds: both kernels (outputs, N, N2) of one problem, whose ``identity`` is a hash."""

    identity: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    tile: int
    symmetric: bool
    attrs: dict[str, Any]


class TileStore:
    """An open store of a problem's kernels."""

    def __init__(self, path: Path, problem: Problem) -> None:
        self.path, self.problem = path, problem
        with _told(path, "opened"):
            self.group = _zarr().open_group(str(path), mode="r+" if os.access(path, os.W_OK) else "r")
            self.kernels = [self.group[name] for name in KERNELS]
            self.digests = self.group[_DIGEST]

    @classmethod
    def of(cls, store: str | os.PathLike[str], problem: Problem) -> TileStore:
        """The store at a path, made if there is nothing, refused if there is something else. Raises InputError."""
        check_installed("store", {"zarr": "zarr"}, "scale")
        path = file_path("store", store, "a folder, as in 'kernel.zarr'")
        if not path.exists():
            _make(path, problem)
        elif not path.is_dir():
            raise InputError(f"store: {shown_text(str(path))} is a file, and a store is a folder; give another path.")
        _check(path, problem)
        return cls(path, problem)

    @property
    def tiles(self) -> Iterator[tuple[int, int]]:
        """Row and column of every tile that is computed: above the diagonal only where the kernel is symmetric."""
        rows, columns, _ = self.digests.shape
        return ((i, j) for i in range(rows) for j in range(i if self.problem.symmetric else 0, columns))

    def place(self, i: int, j: int) -> tuple[slice, slice]:
        """Rows and columns of a tile."""
        _, n, n2 = self.problem.shape
        side = self.problem.tile
        return slice(i * side, min((i + 1) * side, n)), slice(j * side, min((j + 1) * side, n2))

    def is_whole(self, i: int, j: int) -> bool:
        """Whether a tile is there as it was written, on both sides of the diagonal."""
        with _told(self.path, "read"):
            digest = np.asarray(self.digests[i, j])
            if not digest.any():
                return False
            try:
                parts = [self._read(kernel, i, j) for kernel in self.kernels]
                mirrored = [self._read(kernel, j, i) for kernel in self.kernels] if self._is_mirrored(i, j) else []
            except Exception:  # a damaged chunk can break its readers anywhere
                return False
        same = all(np.array_equal(a.swapaxes(1, 2), b) for a, b in zip(mirrored, parts, strict=False))
        return same and bytes(digest) == _digest(i, j, parts)

    def write(self, i: int, j: int, parts: tuple[Array, Array]) -> None:
        """Put both kernels of a tile where they belong, then their digest. Raises InputError where the disk refuses."""
        rows, columns = self.place(i, j)
        with _told(self.path, "written"):
            for kernel, values in zip(self.kernels, parts, strict=True):
                kernel[self._index(rows, columns)] = values[self._pick]
                if self._is_mirrored(i, j):
                    kernel[self._index(columns, rows)] = values.swapaxes(1, 2)[self._pick]
            self.digests[i, j] = np.frombuffer(_digest(i, j, list(parts)), np.uint8)

    def read(self, kernel: str, rows: slice, columns: slice) -> Array:
        """A block (n, n2) of a kernel of one output."""
        with _told(self.path, "read"):
            return np.asarray(self.kernels[KERNELS.index(kernel)][rows, columns])

    def finish(self, mean: Array) -> None:
        """Say that all tiles are there."""
        if self.group.attrs.get(_COMPLETE):
            return
        with _told(self.path, "written"):
            self.group["mean"][...] = mean[self._pick]
            self.group.attrs[_COMPLETE] = True

    def dataset(self, coords: dict[str, Any]) -> xr.Dataset:
        """The kernels as a Dataset that reads them when they are asked for."""
        import xarray as xr

        opened = xr.open_zarr(self.path, chunks=None, consolidated=False, mask_and_scale=False)
        variables = {name: (opened[name].dims, opened[name].variable._data) for name in (*KERNELS, "mean")}
        return dataset(variables, coords, self.problem.attrs)

    @property
    def _pick(self) -> Any:
        """Of arrays with a leading output: the one there is, or all."""
        return 0 if self.problem.shape[0] == 1 else slice(None)

    def _index(self, rows: slice, columns: slice) -> tuple[Any, ...]:
        return (rows, columns) if self.problem.shape[0] == 1 else (slice(None), rows, columns)

    def _is_mirrored(self, i: int, j: int) -> bool:
        return self.problem.symmetric and i != j

    def _read(self, kernel: Any, i: int, j: int) -> Array:
        values = np.asarray(kernel[self._index(*self.place(i, j))])
        return values[None] if self.problem.shape[0] == 1 else values


def _digest(i: int, j: int, parts: list[Array]) -> bytes:
    found = hashlib.blake2b(f"{i},{j}".encode(), digest_size=_BYTES)
    for values in parts:
        found.update(np.ascontiguousarray(values).tobytes())
    return found.digest()


def _zarr() -> Any:
    import zarr

    return zarr


def _make(path: Path, problem: Problem) -> None:
    """A store without tiles, which is there at once or not at all."""
    outputs, n, n2 = problem.shape
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _told(path, "made"):
        path.parent.mkdir(parents=True, exist_ok=True)
        needed, free = 2 * outputs * n * n2 * problem.dtype.itemsize, shutil.disk_usage(path.parent).free - _MARGIN
        if needed > free:
            raise InputError(
                f"store: both kernels take {needed / 2**30:,.1f} GiB, and {max(free, 0) / 2**30:,.1f} GiB are free at "
                f"{shown_text(str(path.parent))}; give a path on another disk, fewer inputs, or dtype float32."
            )
        try:
            group = _zarr().open_group(str(part), mode="w", zarr_format=3)
            lead = () if outputs == 1 else (outputs,)
            dims = ((X, X2) if outputs == 1 else (OUTPUT, X, X2)), ((X,) if outputs == 1 else (OUTPUT, X))
            tiles = -(-n // problem.tile), -(-n2 // problem.tile)
            plain = {"compressors": None, "fill_value": np.nan}
            for name in KERNELS:
                group.create_array(
                    name,
                    shape=(*lead, n, n2),
                    chunks=(*lead, min(problem.tile, n), min(problem.tile, n2)),
                    dtype=problem.dtype,
                    dimension_names=dims[0],
                    **plain,
                )
            group.create_array("mean", shape=(*lead, n), dtype=np.float64, dimension_names=dims[1], **plain)
            group.create_array(
                _DIGEST,
                shape=(*tiles, _BYTES),
                chunks=(1, 1, _BYTES),
                dtype=np.uint8,
                compressors=None,
                fill_value=0,
                dimension_names=("tile", "tile2", "byte"),
            )
            group.attrs.update({**problem.attrs, _IDENTITY: problem.identity, _COMPLETE: False})
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _check(path: Path, problem: Problem) -> None:
    """Refuse a folder that is no store of this problem."""
    where = shown_text(str(path))
    try:
        group = _zarr().open_group(str(path), mode="r")
        found = group.attrs.get(_IDENTITY)
        arrays = {name: group[name] for name in (*KERNELS, "mean", _DIGEST)}
    except Exception:  # what is no store can break its readers anywhere
        found, arrays = None, {}
    if not isinstance(found, str) or not arrays:
        raise InputError(f"store: {where} is there and no store of a kernel; give another path, or remove it.")
    if found != problem.identity:
        raise InputError(
            f"store: {where} holds the kernel of another network, other inputs, another dtype, rtol, tile or version; "
            "give another path, or remove it."
        )
    outputs, n, n2 = problem.shape
    lead = () if outputs == 1 else (outputs,)
    tiles = -(-n // problem.tile), -(-n2 // problem.tile), _BYTES
    shapes = {**dict.fromkeys(KERNELS, (*lead, n, n2)), "mean": (*lead, n), _DIGEST: tiles}
    types = {**dict.fromkeys(KERNELS, problem.dtype), "mean": np.dtype(float), _DIGEST: np.dtype(np.uint8)}
    for name, array in arrays.items():
        if tuple(getattr(array, "shape", ())) != shapes[name] or array.dtype != types[name]:
            raise InputError(
                f"store: {where} has {name} of shape {getattr(array, 'shape', None)}, expected {shapes[name]} of "
                f"{types[name]}; it was changed: give another path, or remove it."
            )


@contextlib.contextmanager
def _told(path: Path, done: str) -> Iterator[None]:
    """Errors of disks as InputError."""
    try:
        yield
    except (OSError, PermissionError) as error:
        raise InputError(
            f"store: {shown_text(str(path))} cannot be {done} ({shown_text(error.strerror or str(error))}); free some "
            "disk, or give a path that can be written to. Tiles that are whole stay, and are taken up again."
        ) from None
