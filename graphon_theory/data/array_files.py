"""Arrays of the files that people have: NumPy's, numbers as text, SciPy's sparse matrices; others are told by name."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphon_theory.errors import InputError, shown_text

_TEXT = (".csv", ".tsv", ".txt", ".dat")
TABLES = (".npy", ".npz", ".csv", ".txt")  # of those that are read, the ones that people are told of
_UNPACKED = 1 << 32  # bytes that an archive may unpack to
ARRAYS = (".npy", ".npz", *_TEXT, ".pt", ".pth", ".safetensors")
_OTHERS = {
    **dict.fromkeys((".pt", ".pth"), "a file of torch; numpy.save(path, tensor.detach().cpu().numpy()) makes a .npy"),
    ".safetensors": "tensors as safetensors; numpy.savez(path, **safetensors.numpy.load_file(file)) makes a .npz",
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "a pickle, which can run code when it is read; save a .npy"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".parquet", ".feather"), "no format that is read here; save a .npy"),
    ".toml": "text that describes a network, which is not what this option takes",
    ".nc": "a file of results; numpy.save(path, data.values) makes a .npy of a variable",
}


def read_arrays(path: Path, expected: str = "numbers as .npy, .npz or .csv") -> dict[str, NDArray[Any]]:
    """The arrays of a file by name, "x" where a file holds one without a name.

    Read are .npy, .npz (also that of scipy.sparse.save_npz), and numbers as text (.csv, .tsv, .txt, .dat): with
    commas, semicolons, tabs or blanks between them, with or without a line of headings and a byte order mark. Raises
    InputError for others, saying what they are, and for damaged ones.
    """
    suffix = path.suffix.lower()
    content = path.read_bytes()
    if suffix in _OTHERS and not content.startswith(b"\x93NUMPY"):
        raise InputError(f"{path}: is {_OTHERS[suffix]}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what comes out is looked at
            if suffix in _TEXT:
                return {"x": _numbers(content.decode("utf-8-sig"))}
            _check_unpacked(content)
            loaded = np.load(io.BytesIO(content), allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"x": loaded}
            return {"x": _sparse(content)} if {"format", "shape", "data"} <= set(arrays) else arrays
    except Exception as error:  # a damaged file can break its readers anywhere
        reason = shown_text(str(error) or type(error).__name__)
        raise InputError(f"{path}: expected {expected}, but reading it fails: {reason}") from None


def _check_unpacked(content: bytes) -> None:
    """Refuse an archive that says it unpacks to more than is sensible; a member never unpacks to more than it says."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _UNPACKED:
        raise ValueError(f"it unpacks to {size:,} bytes, and {_UNPACKED:,} are allowed")


def read_array(path: Path, *names: str) -> NDArray[Any]:
    """An array of a file: its only one, or the first of ``names`` ("x") there is."""
    arrays, names = read_arrays(path), names or ("x",)
    wanted = [name for name in names if name in arrays]
    if not wanted and len(arrays) != 1:
        raise InputError(
            f"{path}: expected one array, or one named {' or '.join(names)}, got {', '.join(arrays) or 'none'}."
        )
    return np.asarray(arrays[wanted[0]] if wanted else next(iter(arrays.values())))


def _numbers(text: str) -> NDArray[Any]:
    """Numbers in rows, below a line of headings if the first holds none."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("the file is empty")
    mark = next((mark for mark in (",", ";", "\t") if mark in lines[0]), None)
    first = [word.strip().strip("\"'") for word in lines[0].split(mark)]
    headings = not lines[0].lstrip().startswith("#") and not any(map(_is_number, first))
    rows = lines[1:] if headings else lines
    if not rows:
        raise ValueError("it holds a line of headings and no numbers")
    return np.loadtxt(rows, delimiter=mark, ndmin=2)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _sparse(content: bytes) -> NDArray[Any]:
    from scipy.sparse import load_npz

    return np.asarray(load_npz(io.BytesIO(content)).toarray())
