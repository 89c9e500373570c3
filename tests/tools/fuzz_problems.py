"""Plain problems of :mod:`tests.tools.fuzz`, so small that a call takes milliseconds.

Three inputs of two numbers, networks of two hidden layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

import graphon_theory as gt

X = np.array([[0.6, -0.2], [0.1, 0.9], [-0.7, 0.4]])
NEW = np.array([[0.3, 0.3], [-0.5, 0.2]])
Y = np.array([0.5, -1.0, 0.25])
STEP = [[0.9, 0.1], [0.2, 0.6]]


@dataclass(frozen=True)
class Entry:
    """One callable: its plain arguments, made anew for every call, and the types of what it may return.

    ``loose``: variables of a result that its docstring lets be infinite or NaN where the input is finite.
    """

    name: str
    function: Callable[..., Any]
    plain: Callable[[], dict[str, Any]]
    returns: tuple[type, ...]
    loose: frozenset[str] = field(default=frozenset())
    kept: tuple[str, ...] = ()  # arguments that are not spoilt
    slow: bool = False  # the plain call takes more than some tenths of a second


class Entries(list[Entry]):
    """Entries in their order; calling adds one, whose result ``loose`` variables may hold NaN."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix

    def __call__(
        self, name: str, function: Callable[..., Any], returns: Any, plain: Callable[[], dict[str, Any]], *loose: str
    ) -> None:
        self.append(Entry(self.prefix + name, function, plain, returns, frozenset(loose)))


@cache
def a_network() -> gt.Network:
    return gt.Network([1.0, STEP, 1.0], "erf", 1.5, 0.1)


@cache
def kernels() -> xr.Dataset:
    return gt.limit_kernel(a_network(), X)


@cache
def cross_kernel() -> xr.DataArray:
    return gt.limit_kernel(a_network(), NEW, X).ntk


def a_kernel() -> np.ndarray:
    return np.array(kernels().ntk)


def a_mask() -> np.ndarray:
    return np.random.default_rng(0).random((6, 5)) < 0.6


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random(shape) < 0.7 for shape in ((6, 2), (6, 6), (1, 6))]


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.standard_normal(mask.shape) for mask in masks()]


@cache
def a_form() -> Any:
    return gt.closed_form(gt.Network([1.0, STEP, 1.0], "relu", 2.0, 0.1))


def plain_function(u: Any, v: Any) -> Any:
    return 0.5 + 0.3 * u * v


def smooth_function(z: Any) -> Any:
    return np.tanh(z)


DATASET: tuple[type, ...] = (xr.Dataset,)
NUMBER: tuple[type, ...] = (float, np.floating)
GRAPHON: tuple[type, ...] = (gt.Graphon,)
LAYER: tuple[type, ...] = (gt.Connectivity,)


def training(**more: Any) -> dict[str, Any]:
    return {"kernel": a_kernel(), "y": Y.copy(), **more}


@cache
def a_comparison() -> xr.Dataset:
    return gt.compare_networks({"one": a_network()}, X, Y)


def a_density() -> dict[str, Any]:
    return {"density": gt.kernel_density(a_network(), X[0], X[1], 2)}


@cache
def modes() -> xr.Dataset:
    return gt.spectrum(kernels().ntk, 2)


@cache
def a_flow() -> xr.Dataset:
    return gt.gradient_flow(a_kernel(), Y, [0.0, 1.0, 10.0])
