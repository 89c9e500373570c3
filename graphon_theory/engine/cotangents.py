"""What the way back of THEORY §12 gathers on its way, and how it is added up.

A step gathers what its own parameters get: a weight layer the cotangents of its matrices, an activation those of the
variances and means of single inputs, which the pairs are functions of and which go on through the recursion of every
input with itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.tiles import Tile
from graphon_theory.engine.workspaces import Workspace


class Sums(Protocol):
    """What one step gathers."""

    def add(self, other: object) -> None:
        """Add what another part of the pairs gave."""
        ...


@dataclass(frozen=True)
class Way:
    """What a step is given on the way back beside the cotangents.

    ``sums``: what it gathers; ``work``: where it may put arrays; ``shelf``: cotangents of shortcuts, which a join
    leaves there and the fork below it takes.
    """

    sums: Any
    work: Workspace
    shelf: list[Any]


@dataclass
class Nothing:
    """What a step without parameters gathers."""

    def add(self, other: object) -> None:
        pass


@dataclass
class LayerSums:
    """The cotangents of a weight layer's matrices and biases, as its :class:`LayerOperator` holds them.

    With K = V C + bias, T = W C + trained_bias + V S and mu = D m, V and W each for themselves even where they agree:

        V' = sum K' C + T' S,   W' = sum T' C,   D' = sum mu' m,   bias' = sum K',   trained_bias' = sum T'.
    """

    variance: FloatArray
    mask: FloatArray
    drift: FloatArray
    bias: float = 0.0
    trained_bias: float = 0.0

    @classmethod
    def of(cls, operator: LayerOperator) -> LayerSums:
        variance, mask, drift = np.zeros((3, *operator.variance.shape))
        return cls(variance, mask, drift)

    def add(self, other: object) -> None:
        assert isinstance(other, LayerSums)
        self.variance += other.variance
        self.mask += other.mask
        self.drift += other.drift
        self.bias += other.bias
        self.trained_bias += other.trained_bias

    def gather(self, above: FloatArray, below: FloatArray) -> None:
        """From K', T' (receiving, 2, pairs) and C, S (sending, 2, pairs)."""
        receiving, sending = len(above), len(below)
        self.variance += above.reshape(receiving, -1) @ below.reshape(sending, -1).T
        self.mask += above[:, 1] @ below[:, 0].T
        self.gather_biases(above)

    def gather_atoms(self, above: FloatArray, left: FloatArray, right: FloatArray) -> None:
        """From K', T' (receiving, 2, n1, n2) and the inputs (n1, d), (n2, d) of both sides: C = x x', S = 0."""
        n1, n2 = above.shape[2:]
        moved = (above.reshape(-1, n2) @ right).reshape(len(above), 2, n1, -1)
        both = np.einsum("upid,id->pud", moved, left)
        self.variance += both[0]
        self.mask += both[1]
        self.gather_biases(above)

    def gather_biases(self, above: FloatArray) -> None:
        self.bias += float(above[:, 0].sum())
        self.trained_bias += float(above[:, 1].sum())


@dataclass
class Moved:
    """The cotangents of the variances and means (positions, 2, N) of inputs that pairs are functions of.

    ``columns``: where the inputs of a tile's columns start; its rows' start at 0.
    """

    values: FloatArray
    columns: int = 0

    @classmethod
    def of(cls, positions: int, count: int, columns: int = 0) -> Moved:
        return cls(np.zeros((positions, 2, count)), columns)

    def gather(self, tile: Tile, rows: FloatArray, columns: FloatArray) -> None:
        """From the inputs of a tile's rows and columns."""
        self.values[..., tile.i0 : tile.i1] += rows
        self.values[..., self.columns + tile.j0 : self.columns + tile.j1] += columns

    def add(self, other: object) -> None:
        assert isinstance(other, Moved)
        self.values += other.values
