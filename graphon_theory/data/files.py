"""Result files: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from graphon_theory.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to: it becomes ``path`` if the block ends well, else it goes."""
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.stem}.{os.getpid()}.part{final.suffix}")
    try:
        yield part
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def save_dataset(data: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write ``data`` as netCDF-3 (64-bit offsets) with SciPy; never leaves a partial file."""
    with whole_file(path) as part:
        data.to_netcdf(part, engine="scipy", format="NETCDF3_64BIT")


def load_dataset(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read what `save_dataset` wrote, wholly into memory. Raises InputError when the file cannot be read."""
    import xarray as xr

    try:
        return xr.load_dataset(path, engine="scipy")
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{os.fspath(path)}: expected a netCDF-3 file written by graphon-theory, but it cannot be read ({error})."
        ) from None
