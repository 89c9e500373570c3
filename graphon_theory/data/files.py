"""Result files: written whole or not at all, read back as they were or refused.

A file is netCDF-3 (64-bit offsets), followed by a seal: the SHA-256 of what is before it. Other readers stop where the
netCDF ends. netCDF-3 holds whole numbers of at most 32 bits; larger ones stand in it as float64 where that is exact,
else as their digits, and unsigned ones as is usual there (``_Unsigned``), so that any reader sees the right numbers.
The type that they had is an attribute.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphon_theory.errors import GraphonError, InputError, shown

if TYPE_CHECKING:
    import xarray as xr

_SEAL = b"graphon-theory sha256 "
_DTYPE = "original_dtype"  # attribute of a variable that stands in a file as another type
_TEXTS = "json_attributes"  # attribute that names the attributes that stand in a file as JSON
_LONGEST = 255  # bytes of a name that file systems take
_LONGEST_PATH = 4_096  # bytes of a whole path, with the zero at its end, that systems take
_EXACT = 2**53  # whole numbers up to here are exact in float64


def file_path(name: str, value: Any, what: str = "a file", *, error: type[GraphonError] = InputError) -> Path:
    """A path that a file system takes: not empty, which is the folder one is in, and without NUL.

    Raises ``error`` otherwise, which says that the path of ``what`` was due.
    """
    try:
        text = os.fspath(value)
        content = os.fsencode(text)  # surrogates are no characters
    except (TypeError, ValueError):
        text, content = "", b""
    long = len(content) >= _LONGEST_PATH or any(len(part) > _LONGEST for part in content.split(os.fsencode(os.sep)))
    if not isinstance(text, str) or not text.strip() or "\0" in text or long:
        raise error(f"{name}: expected the path of {what}, got {shown(value)}.")
    return Path(text)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to: it becomes ``path`` if the block ends well, else it goes."""
    final = file_path("path", path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.stem}.{os.getpid()}.part{final.suffix}")
    try:
        yield part
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def save_dataset(data: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write ``data`` as netCDF-3 (64-bit offsets) with SciPy; never leaves a partial file.

    Booleans, whole and real numbers up to 64 bits, times and strings come back from `load_dataset` as they were, values
    and types. Raises InputError for others (complex numbers, objects), naming the variable or attribute.
    """
    stored = _rebuilt(data, _stored, _stored_attrs)
    with whole_file(path) as part:
        try:
            stored.to_netcdf(part, engine="scipy", format="NETCDF3_64BIT")
        except (NotImplementedError, TypeError, ValueError) as error:
            raise InputError(f"data: it cannot be written as netCDF-3 ({error}).") from None
        with part.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.write(_SEAL + digest.encode())


def load_dataset(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read what `save_dataset` wrote, wholly into memory.

    Raises InputError when the file cannot be read, or is not what was written.
    """
    import xarray as xr

    place = file_path("path", path)
    try:
        content = place.read_bytes()
        size = len(_SEAL) + 64
        if content[-size:].startswith(_SEAL):
            content, seal = content[:-size], content[-size:]
            if seal[len(_SEAL) :] != hashlib.sha256(content).hexdigest().encode():
                raise ValueError("its content has changed since it was written")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers wonder at what is damaged here
            plain = {"decode_times": False, "decode_timedelta": False}
            return _rebuilt(xr.load_dataset(io.BytesIO(content), engine="scipy", **plain), _restored, _restored_attrs)
    except Exception as error:  # a damaged file can break its readers anywhere
        raise InputError(
            f"{place}: expected a netCDF-3 file written by graphon-theory, but it cannot be read "
            f"({error or type(error).__name__})."
        ) from None


def _rebuilt(
    data: xr.Dataset,
    change: Callable[[str, NDArray[Any], dict[str, Any]], tuple[NDArray[Any], dict[str, Any]]],
    change_attrs: Callable[[dict[str, Any]], dict[str, Any]],
) -> xr.Dataset:
    """The dataset with every variable's values and attributes changed."""
    import xarray as xr

    parts: dict[str, dict[Any, Any]] = {"data_vars": {}, "coords": {}}
    for name, variable in data.variables.items():
        values, attrs = change(str(name), np.asarray(variable.values), dict(variable.attrs))
        parts["coords" if name in data.coords else "data_vars"][name] = (variable.dims, values, attrs)
    return xr.Dataset(**parts, attrs=change_attrs(dict(data.attrs)))


def _stored(name: str, values: NDArray[Any], attrs: dict[str, Any]) -> tuple[NDArray[Any], dict[str, Any]]:
    """A variable in types that netCDF-3 holds."""
    kind, size, attrs = values.dtype.kind, values.dtype.itemsize, _stored_attrs(attrs)
    if kind == "T":
        values, kind = values.astype(object), "O"
    if kind == "O" and all(isinstance(one, str) and not one.endswith("\0") for one in values.flat):
        return values, attrs if values.size else {**attrs, _DTYPE: "|O"}
    if kind in "US":
        return values, {**attrs, _DTYPE: values.dtype.str}
    if kind == "b" or (kind == "f" and size in (4, 8)) or (kind == "i" and size <= 4):
        return values, attrs
    if kind == "u" and size <= 4:
        return values.astype(values.dtype.newbyteorder("=")).view(f"i{size}"), {**attrs, "_Unsigned": "true"}
    known = {**attrs, _DTYPE: values.dtype.newbyteorder("=").str}
    if kind == "f" and size == 2:
        return values.astype(np.float32), known
    if kind in "mM":
        values = values.astype(values.dtype.newbyteorder("=")).view(np.int64)
    elif kind not in "iu":
        raise InputError(
            f"{name}: expected real numbers of at most 64 bits, booleans, times or strings, got dtype {values.dtype}; "
            "convert it first (complex numbers to two variables, labels of several levels to strings)."
        )
    if not values.size or (int(values.min()) >= -(2**31) and int(values.max()) < 2**31):
        return values.astype(np.int32), known
    if int(values.min()) >= -_EXACT and int(values.max()) <= _EXACT:
        return values.astype(np.float64), known
    return np.array([str(one) for one in values.flat], dtype=object).reshape(values.shape), known


def _restored(_: str, values: NDArray[Any], attrs: dict[str, Any]) -> tuple[NDArray[Any], dict[str, Any]]:
    """What `_stored` was given."""
    attrs = _restored_attrs(attrs)
    if _DTYPE not in attrs:
        return values, attrs
    dtype = np.dtype(attrs.pop(_DTYPE))
    if dtype.kind in "OUSf":
        return values.astype(dtype), attrs
    whole = np.dtype(np.int64) if dtype.kind in "mM" else dtype
    if values.dtype.kind == "O":
        values = np.array([int(one) for one in values.flat], dtype=whole).reshape(values.shape)
    return values.astype(whole).view(dtype), attrs


def _stored_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    texts = {name: _json(name, value) for name, value in attrs.items() if not _held(value)}
    return {**attrs, **texts, _TEXTS: json.dumps(list(texts))} if texts else attrs


def _restored_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    texts = json.loads(attrs.pop(_TEXTS, "[]"))
    return {**attrs, **{name: json.loads(attrs[name]) for name in texts}}


def _held(value: Any) -> bool:
    """Whether an attribute is text, or numbers as netCDF-3 holds them."""
    if isinstance(value, str | bytes):
        return True
    array = np.asarray(value)
    if array.dtype.kind == "i":
        return bool(array.size) and int(array.min()) >= -(2**31) and int(array.max()) < 2**31
    return array.dtype.kind == "f" and bool(array.size) and array.dtype.itemsize in (4, 8)


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, default=lambda one: one.tolist())
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"attribute {name}: expected text or numbers, got {shown(value)}.") from None
