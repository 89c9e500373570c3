"""Which units of a masked network take part: reached from an input, heard at an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphon_theory.arrays import BoolArray
from graphon_theory.estimation.masks import Ends, Mask, as_masks, chain
from graphon_theory.values import Record


@dataclass(frozen=True, eq=False)
class UnitReport(Record):
    """Units and connections that lie on a path from an input to an output.

    Tuples over the unit layers 0..L: ``reached`` (bool per unit: a path leads there from an input) and ``heard`` (a
    path leads from there to an output). Tuples over the weight layers 1..L: ``density`` of surviving connections and
    ``effective_density`` of those on a path.
    """

    reached: tuple[BoolArray, ...]
    heard: tuple[BoolArray, ...]
    density: tuple[float, ...]
    effective_density: tuple[float, ...]

    @property
    def alive(self) -> list[BoolArray]:
        """Units on a path, per unit layer."""
        return [r & h for r, h in zip(self.reached, self.heard, strict=True)]

    @property
    def dead(self) -> tuple[int, ...]:
        """How many units are on no path, per unit layer 0..L."""
        return tuple(int(np.count_nonzero(~a)) for a in self.alive)

    @property
    def connected(self) -> bool:
        """Whether any path leads from an input to an output."""
        return bool(self.alive[0].any())

    def part(self, first: int, last: int) -> UnitReport:
        """What it says of the weight layers ``first`` + 1 to ``last`` and of the units they connect."""
        units, layers = slice(first, last + 1), slice(first, last)
        return UnitReport(self.reached[units], self.heard[units], self.density[layers], self.effective_density[layers])

    def __str__(self) -> str:
        lines = []
        for layer, (alive, reached, heard) in enumerate(zip(self.alive, self.reached, self.heard, strict=True)):
            deaf, mute = np.count_nonzero(~reached), np.count_nonzero(~heard)
            lines.append(
                f"units {layer}: {np.count_nonzero(alive)} of {len(alive)} alive, {deaf} unreached, {mute} unheard"
            )
        for layer, (p, q) in enumerate(zip(self.density, self.effective_density, strict=True), start=1):
            lines.append(f"layer {layer}: density {p:.4g}, effective {q:.4g}")
        return "\n".join(lines)


def trace_units(masks: Any) -> UnitReport:
    """Find dead and disconnected units and the effective density of every layer.

    A unit is dead if no path of surviving connections leads to it from an input, or none from it to an output; a
    connection is effective if its sender is reached and its receiver heard. ``masks`` are listed from input to output.

    Raises InputError as :func:`estimate_network` does. THEORY §9.
    """
    made = as_masks(masks)
    return trace(made, chain(len(made)))


def trace(masks: Sequence[Mask], ends: Sequence[Ends]) -> UnitReport:
    """As :func:`trace_units`, of masks between the layers of units that ``ends`` tells.

    Where several masks lead to a layer of units, reached by one of them is reached; what is told of units holds for the
    whole of the network, whichever mask comes first.
    """
    counts = {ends[0].source: masks[0].shape[1]}
    counts |= {place: mask.shape[0] for mask, (_, place) in zip(masks, ends, strict=True)}
    reached, heard = ([np.zeros(counts[place], dtype=bool) for place in sorted(counts)] for _ in range(2))
    reached[0][:] = heard[-1][:] = True
    for mask, (source, place) in zip(masks, ends, strict=True):
        reached[place] |= mask.row_counts(reached[source].astype(np.intp), 2)[:, 1] > 0
    for mask, (source, place) in reversed(list(zip(masks, ends, strict=True))):
        heard[source] |= mask.column_counts(heard[place].astype(np.intp), 2)[:, 1] > 0
    density, effective = [], []
    for mask, (source, place) in zip(masks, ends, strict=True):
        size = mask.shape[0] * mask.shape[1]
        blocks = mask.block_counts(heard[place].astype(np.intp), 2, reached[source].astype(np.intp), 2)
        density.append(float(blocks.sum()) / size)
        effective.append(float(blocks[1, 1]) / size)
    return UnitReport(tuple(reached), tuple(heard), tuple(density), tuple(effective))
