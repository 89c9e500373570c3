"""Arrays in IDX files, the format of MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import os
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphon_theory.data.checks import positive_number
from graphon_theory.data.files import file_path
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import InputError, shown_text

_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the third byte of the file
_BYTES = 8
MOST = float(1 << 32)  # bytes that a file may unpack to, unless said otherwise


def idx(path: str | os.PathLike[str], *, most: float = MOST, name: str = "path") -> NDArray[Any]:
    """The array in an IDX file, such as ``train-images-idx3-ubyte`` or the same with ``.gz``.

    The file's first bytes say its type (whole numbers of 8, 16 and 32 bits, floats of 32 and 64) and shape; what is
    there must be that and no more. Gzipped content is unpacked no further than that, and to no more than ``most`` bytes
    (4 GiB).

    Raises InputError for files that are missing, of another format, cut short, longer than they say, or larger than
    ``most`` or memory; ``name`` is that of the argument, for messages.
    """
    return _read(path, most, name, tuple(_TYPES))


def bytes_of(path: str | os.PathLike[str], name: str) -> NDArray[np.uint8]:
    """As :func:`idx`, of a file of unsigned bytes."""
    return _read(path, MOST, name, (_BYTES,))


def _read(path: Any, most: float, name: str, types: tuple[int, ...]) -> NDArray[Any]:
    place = file_path(name, path, "an IDX file")
    limit = positive_number("most", most)
    where = f"{name}: {shown_text(str(place))}"
    try:
        with place.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b" or place.suffix == ".gz"
        with gzip.open(place, "rb") if packed else place.open("rb") as file:
            start = file.read(4)
            kind = "unsigned bytes" if types == (_BYTES,) else "numbers"
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in types:
                raise InputError(f"{where} is no IDX file of {kind} (it starts with {start.hex()}).")
            sizes = file.read(4 * start[3])
            if len(sizes) < 4 * start[3]:
                raise InputError(f"{where} ends within its header.")
            shape, dtype = struct.unpack(f">{start[3]}I", sizes), np.dtype(_TYPES[start[2]])
            expected = math.prod(shape) * dtype.itemsize
            if expected > limit:
                raise InputError(
                    f"{where} says that it holds {expected:,} bytes of shape {shape}, and {limit:,.0f} are allowed; "
                    "raise most if that is right."
                )
            refuse_beyond_memory(name, expected, f"an array of shape {shape}", "cut the file")
            content = file.read(expected + 1)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: cannot read {shown_text(str(place))}: {shown_text(str(error))}.") from None
    except Exception as error:  # a damaged stream breaks zlib in its own way
        raise InputError(f"{name}: cannot read {shown_text(str(place))}: {shown_text(str(error))}.") from None
    if len(content) != expected:
        got = len(content) if len(content) < expected else f"more than {expected}"
        raise InputError(f"{where} should hold {expected} bytes of shape {shape}, got {got}.")
    values = np.frombuffer(content, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
