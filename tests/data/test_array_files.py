"""Arrays of the files that people have: read as they are, or told by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import graphon_theory as gt
from graphon_theory.data.array_files import read_arrays

X = np.array([[0.5, -1.0], [2.0, 0.25]])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"0.5,-1\n2,0.25\n"),
        ("a.CSV", b"0.5,-1\r\n2,0.25\r\n"),
        ("a.csv", b"\xef\xbb\xbf0.5,-1\n2,0.25\n"),
        ("a.csv", b"height,weight\n0.5,-1\n2,0.25\n"),
        ("a.csv", b'\xef\xbb\xbf"height";"weight"\n0.5;-1\n2;0.25\n'),
        ("a.txt", b"0.5 -1\n2   0.25\n"),
        ("a.txt", b"# a comment\n0.5 -1\n2 0.25\n"),
        ("a.tsv", b"h\tw\n0.5\t-1\n\n2\t0.25\n"),
    ],
)
def test_numbers_as_text(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    np.testing.assert_array_equal(read_arrays(path)["x"], X)


def test_sparse_matrices(tmp_path: Path) -> None:
    for made in (sparse.csr_matrix(X), sparse.coo_array(X)):
        sparse.save_npz(tmp_path / "a.npz", made)
        np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["x"], X)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.pt", r"a\.pt: is a file of torch; numpy\.save"),
        ("a.safetensors", "tensors as safetensors; numpy.savez"),
        ("a.pkl", "a pickle, which can run code"),
        ("a.toml", "text that describes a network"),
        ("a.csv", "reading it fails: it holds a line of headings and no numbers"),
        ("a.npy", "expected numbers as .npy, .npz or .csv, but reading it fails"),
    ],
)
def test_others_are_told_by_name(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"some,thing\n")
    with pytest.raises(gt.InputError, match=message):
        read_arrays(tmp_path / name)
