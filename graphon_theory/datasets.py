"""Inputs at scale without downloads: made here, or read from the files that people have. Everything is checked."""

from graphon_theory.data.idx_files import idx
from graphon_theory.data.image_sets import digits
from graphon_theory.data.input_files import npy, parquet, zarr

__all__ = ["digits", "idx", "npy", "parquet", "zarr"]
