"""Text with arrays beside it in one file: a zip of a text and of .npy files, as `numpy.load` opens it too (.npz).

Nothing in it is compressed, so that it is no larger when it is read than it is on disk, and nothing is run: arrays are
float64, their shapes held against the bytes that are there.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.files import whole_file
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import SpecError, shown_text

_MOST_MEMBERS = 10_000  # arrays of one file
_MOST_TEXT = 1 << 24  # bytes of the text beside them


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a zip does."""
    with Path(path).open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def write_archive(path: str | os.PathLike[str], name: str, text: str, arrays: Mapping[str, FloatArray]) -> None:
    """Write ``text`` as the member ``name`` and every array as a .npy beside it; never leaves a partial file."""
    with whole_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, text)
        for key, values in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, np.ascontiguousarray(values, dtype="<f8"), (1, 0), allow_pickle=False)
            archive.writestr(f"{key}.npy", file.getvalue())


def read_archive(path: str | os.PathLike[str], name: str) -> tuple[str, dict[str, FloatArray]]:
    """The text ``name`` and the arrays of what `write_archive` wrote.

    Raises SpecError for anything else: compressed members or more bytes than the file has (so that a small file cannot
    fill the memory), arrays of other types, and damaged files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if name not in {one.filename for one in members}:
                raise ValueError(f"it holds no {name}")
            total = sum(one.file_size for one in members)
            if any(one.compress_type != zipfile.ZIP_STORED for one in members):
                raise ValueError("its members are compressed, which this format is not")
            if len(members) > _MOST_MEMBERS or total > Path(path).stat().st_size:
                raise ValueError("its members claim to be more than the file holds")
            refuse_beyond_memory("path", 2 * total, "its arrays", "estimate with fewer blocks", error=SpecError)
            if archive.getinfo(name).file_size > _MOST_TEXT:
                raise ValueError(f"{name} is longer than {_MOST_TEXT:,} bytes")
            text = archive.read(name).decode("utf-8")
            found = {
                one.filename.removesuffix(".npy"): _array(archive.read(one))
                for one in members
                if one.filename.endswith(".npy")
            }
    except SpecError:
        raise
    except OSError:
        raise
    except Exception as error:  # a damaged file can break its readers anywhere
        reason = shown_text(str(error) or type(error).__name__)
        raise SpecError(f"expected a file of {name} and arrays, but reading it fails: {reason}") from None
    return text, found


def _array(content: bytes) -> FloatArray:
    """The array of a .npy, of the shape that its bytes have."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is of another version of .npy")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    rest = content[file.tell() :]
    if dtype != np.dtype("<f8") or by_columns or 8 * math.prod(shape) != len(rest):
        raise ValueError(f"expected float64 numbers by rows that fill the shape, got {dtype} {shape}")
    return np.frombuffer(rest, dtype="<f8").reshape(shape).astype(np.float64)
