"""Inputs in the files that people have, read no earlier than they are asked for where the format allows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphon_theory.data.checks import check_installed
from graphon_theory.data.files import file_path
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import GraphonError, InputError, shown_text


def npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Inputs (N, d) of a .npy file as a memory map: pages are read as they are used.

    Raises InputError for files that are missing, cut short, hold Python objects (whose pickles can run code) or no
    matrix of real numbers.
    """
    place = _path(path, "a .npy file")
    try:
        array = np.load(place, mmap_mode="r", allow_pickle=False)
        length = place.stat().st_size
    except Exception as error:  # a damaged file can break its readers anywhere
        raise InputError(f"path: cannot read {shown_text(str(place))}: {shown_text(str(error))}.") from None
    if not isinstance(array, np.memmap):
        raise InputError(f"path: {shown_text(str(place))} is an archive of arrays; numpy.save one of them as .npy.")
    rest = length - array.offset - array.nbytes
    if rest:
        raise InputError(f"path: {shown_text(str(place))} holds {rest:,} bytes more than its header says.")
    mapped: NDArray[Any] = _matrix(array, place)
    return mapped


def zarr(path: str | os.PathLike[str], name: str | None = None) -> Any:
    """Inputs (N, d) of a Zarr array, or of the array ``name`` of a group, as a Dask array in the blocks they lie in.

    Raises InputError for what is no store, and arrays of another shape or type; GraphonError without the extra
    "scale".
    """
    check_installed("zarr", {"zarr": "zarr", "dask": "dask"}, "scale")
    import dask.array as da
    import zarr as library

    found: Any

    place = _path(path, "a Zarr store")
    try:
        found = library.open(str(place), mode="r")
        if isinstance(found, library.Group):
            held = [key for key, _ in found.arrays()]
            if name is None and len(held) == 1:
                name = held[0]
            if name not in held:
                there = ", ".join(map(shown_text, held[:10])) or "none"
                raise InputError(
                    f"name: expected one of the arrays in {shown_text(str(place))} ({there}), got {name!r}."
                )
            found = found[name]
    except InputError:
        raise
    except Exception as error:  # a damaged store can break its readers anywhere
        raise InputError(f"path: cannot read {shown_text(str(place))}: {shown_text(str(error))}.") from None
    _matrix(found, place)
    if 8 * int(np.prod(found.chunks)) > 1 << 31:
        raise InputError(f"path: {shown_text(str(place))} has chunks of {found.chunks}, more than 2 GiB; cut it finer.")
    return da.from_zarr(found)


def parquet(path: str | os.PathLike[str], columns: list[str] | None = None) -> Any:
    """Inputs of a Parquet file as a pandas DataFrame, whose index and columns are labels; pandas and pyarrow read it.

    Raises InputError for files that cannot be read, take more memory than there is, or have columns that are no real
    numbers; GraphonError without the extra "scale".
    """
    check_installed("parquet", {"pandas": "pandas", "pyarrow": "pyarrow"}, "scale")
    import pandas
    import pyarrow.parquet

    place = _path(path, "a Parquet file")
    try:
        about = pyarrow.parquet.ParquetFile(place).metadata
        size = 8.0 * about.num_rows * (about.num_columns if columns is None else len(columns))
        refuse_beyond_memory("path", size, f"a table of {about.num_rows:,} rows", "name fewer columns")
        table = pandas.read_parquet(place, columns=columns)
    except GraphonError:
        raise
    except Exception as error:  # a damaged file can break its readers anywhere
        raise InputError(f"path: cannot read {shown_text(str(place))}: {shown_text(str(error))}.") from None
    bad = [str(one) for one, kind in table.dtypes.items() if getattr(kind, "kind", "O") not in "fiub"]
    if bad:
        raise InputError(f"columns: {shown_text(', '.join(bad[:5]))} of {shown_text(str(place))} hold no real numbers.")
    return table


def _path(path: Any, what: str) -> Path:
    place = file_path("path", path, what)
    if not place.exists():
        raise InputError(f"path: {shown_text(str(place))} is not there.")
    return place


def _matrix(array: Any, place: Path) -> Any:
    if len(array.shape) != 2 or 0 in array.shape or np.dtype(array.dtype).kind not in "fiub":
        raise InputError(
            f"path: expected inputs (samples, inputs) of real numbers, got shape {tuple(array.shape)} of {array.dtype} "
            f"in {shown_text(str(place))}."
        )
    return array
