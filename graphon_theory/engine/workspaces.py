"""Where the steps of the recursion put what they compute."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import FloatArray


class Workspace(Protocol):
    """Where steps put what they compute; an array of one role may lie where the one before it lay."""

    def view(self, role: str, *shape: int) -> FloatArray: ...


class Buffers:
    """A workspace of one thread: one buffer a role, as large as the largest array that was asked for."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.held: dict[str, FloatArray] = {}

    def view(self, role: str, *shape: int) -> FloatArray:
        size = math.prod(shape)
        buffer = self.held.get(role)
        if buffer is None or len(buffer) < size:
            buffer = self.held[role] = np.empty(size, self.dtype)
        return buffer[:size].reshape(shape)


class Fresh:
    """A workspace in which nothing is overwritten."""

    def view(self, role: str, *shape: int) -> FloatArray:
        return np.empty(shape)
