"""Gram matrices of inputs that several networks form alike, kept tile by tile while a sweep over them lasts.

Networks whose first layers have the same rows up to factors, as constants of any density have, multiply the inputs with
each other in the same way, whatever comes above. A tile is taken up again where everything agrees that its numbers
depend on: profiles, precision, place and shape. So it is bit for bit what the network would have formed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.input_layers import InputLayer
from graphon_theory.engine.tiles import Tile

_WORTH = 128  # multiplications of a number, from which it is sooner read than formed

_Layer = tuple[bytes, str, tuple[tuple[int, int], ...] | None]  # profiles, their type and supports


class SharedGrams:
    """Gram tiles of one set of inputs, or of one with another, in at most ``memory`` bytes: the first that come.

    Threads may read and add at the same time. What there is no room for is formed by each network for itself.
    """

    def __init__(self, memory: float) -> None:
        self.memory, self.held = memory, 0  # bytes
        self._lock = threading.Lock()
        self._tiles: dict[Any, FloatArray] = {}

    def of(self, layer: InputLayer) -> GramTiles | None:
        """The tiles of an input layer; None where they are formed as soon as read."""
        count, columns = layer.profiles.shape
        if columns < _WORTH * (1 if layer.supports is None else count):
            return None
        supports = None if layer.supports is None else tuple((int(one.start), int(one.stop)) for one in layer.supports)
        return GramTiles(self, (layer.profiles.tobytes(), layer.profiles.dtype.str, supports))

    def tile(
        self, key: Any, shape: tuple[int, ...], dtype: np.dtype[Any], form: Callable[[FloatArray], None]
    ) -> FloatArray | None:
        """What ``form`` writes into an array of this shape, kept; None where there is no room for it."""
        found = self._tiles.get(key)
        if found is not None:
            return found
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            if self.held + size > self.memory:
                return None
            self.held += size
        made = np.empty(shape, dtype)
        form(made)
        with self._lock:
            found = self._tiles.setdefault(key, made)
            if found is not made:  # another thread was faster
                self.held -= size
        return found


@dataclass(frozen=True)
class GramTiles:
    """The shared Gram tiles of one input layer, for blocks of inputs from ``row`` and ``column`` on."""

    shared: SharedGrams
    layer: _Layer
    row: int = 0
    column: int = 0

    def at(self, row: int, column: int) -> GramTiles:
        return replace(self, row=row, column=column)

    def tile(
        self, tile: Tile, shape: tuple[int, ...], dtype: np.dtype[Any], form: Callable[[FloatArray], None]
    ) -> FloatArray | None:
        """The Gram matrices of a tile, not to be written to; None where there is no room to keep them."""
        place = (self.row + tile.i0, self.row + tile.i1, self.column + tile.j0, self.column + tile.j1)
        return self.shared.tile((self.layer, *place), shape, dtype, form)
