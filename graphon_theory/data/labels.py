"""Names of dimensions and coordinates, and how plain arrays become labelled results.

xarray is put on at the door and taken off at the door: only this module knows the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr


X = "x"  # inputs, rows of a kernel
X2 = "x2"  # inputs, columns of a kernel
OUTPUT = "output"  # outputs of the network
LAYER = "layer"  # weight layers, counted 1..L from the input
MODE = "mode"  # eigenmodes, counted 1.. from the largest
TIME = "time"  # training time
U = "u"  # receiving positions
V = "v"  # sending positions
NETWORK = "network"  # networks compared with each other
REPEATED = "repeated"  # layers between hidden ones, 2..L-1, each as if repeated for ever
WIDTH = "width"  # hidden width of a finite network
SEED = "seed"  # of a finite network
TARGET = "target"  # columns of the training targets
X_TEST = "x_test"  # new inputs, rows of a test kernel
DEGREE = "degree"  # of spherical harmonics, from 0
RADIAL = "radial"  # eigenmodes of one degree, counted 1.. from the largest
SIZE = "size"  # of a training set

Variables = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


def coords_of(x: Any, dim: str, axis: int = 0) -> dict[str, Any]:
    """The coordinates along an axis of ``x`` (the samples) under the name ``dim``, if it is labelled."""
    if not hasattr(x, "dims") or not hasattr(x, "coords"):
        return {}
    own = x.dims[axis]
    return {dim: np.asarray(x.coords[own].values)} if own in x.coords else {}


def dataset(
    variables: Variables,
    coords: dict[str, Any] | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Label arrays: ``variables`` maps a name to (dims, array); ``attrs`` get the package's version too."""
    import xarray as xr

    from graphon_theory import __version__

    return xr.Dataset(variables, coords=coords or {}, attrs={**(attrs or {}), "graphon_theory": __version__})
