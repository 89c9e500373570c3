"""The channel upstream: what positions tell of the gradients that come back to them (THEORY §10).

A weight below a unit survives by the size of that unit's own gradient, which its label holds, so that what comes back
through several layers adds up coherently. With modes Gamma_s(u) of the gradients above a weight layer and coordinates
d_s(v) of a sender's own in them, at every hidden layer but the last and for every output

    l_s(v) = sigma_w int V(u,v) Gamma_s(u) j(u) du,   nu(v) = sum_s d_s(v) l_s(v),   j(u) = E[phi'(h_u)] nu(u),
    NTK(x,x') += int Cdot(v) T(v) (nu nu' - sum_s l_s l_s') dv,

from nu = sigma_w m w at the last one, whose B is nu nu' already. Everything but the product is of one input alone.
Where units are single D stands for V sum_s Gamma_s d_s and H for V in l, and what is known of single weights takes
sigma_w^2 int (D^2 / n_in - H^2 sum_s Gamma_s^2 / n_out) j j' du out besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.steps import DualStep, Field, Step
from graphon_theory.engine.tiles import Tile


@dataclass(frozen=True)
class Return:
    """What comes back to a hidden layer, of some inputs, by output."""

    mean: FloatArray  # nu (outputs, positions, N)
    loadings: FloatArray  # l (outputs, positions, q, N)
    weights: FloatArray  # of the integral (positions,)
    above: FloatArray | None = None  # j (outputs, receiving, N), where units are single
    table: FloatArray | None = None  # (positions, receiving): what each of these takes out

    def astype(self, dtype: DTypeLike) -> Return:
        mean, loadings, weights = (part.astype(dtype, copy=False) for part in (self.mean, self.loadings, self.weights))
        if self.above is None or self.table is None:
            return Return(mean, loadings, weights)
        return Return(mean, loadings, weights, *(part.astype(dtype, copy=False) for part in (self.above, self.table)))

    def squares(self) -> FloatArray:
        """What B / Cdot gets, of every input with itself and weights included: (outputs, positions, N)."""
        found: FloatArray = self.mean**2 - (self.loadings**2).sum(axis=2)
        if self.above is not None and self.table is not None:
            found -= self.table @ self.above**2
        return self.weights[:, None] * found

    def products(self, other: Return, tile: Tile) -> FloatArray:
        """The same of a tile of pairs: (outputs, positions, n1, n2)."""
        i0, i1, j0, j1, _ = tile
        found = self.mean[:, :, i0:i1, None] * other.mean[:, :, None, j0:j1]
        found -= np.matmul(self.loadings[..., i0:i1].transpose(0, 1, 3, 2), other.loadings[..., j0:j1])
        if self.above is not None and other.above is not None and self.table is not None:
            for output, (one, two) in enumerate(zip(self.above, other.above, strict=True)):
                found[output] -= np.tensordot(self.table, one[:, i0:i1, None] * two[:, None, j0:j1], 1)
        found *= self.weights[:, None, None]
        return found


@dataclass(frozen=True)
class Returns:
    """Where a network has the channel: the indices of the steps behind which something comes back, from the first."""

    places: tuple[int, ...]
    operators: tuple[LayerOperator, ...]  # of all layers
    steps: tuple[DualStep, ...]  # the activations

    @classmethod
    def of(cls, operators: tuple[LayerOperator, ...], steps: Sequence[Step]) -> Returns | None:
        """None where positions tell nothing of what comes back. Steps are a weight layer and an activation in turn."""
        told = [op.returning is not None for op in operators]
        if len(operators) < 3 or not (told[-1] and told[-2]):
            return None
        lowest = len(told) - told[::-1].index(False) if False in told else 1  # weight layers below tell nothing
        duals = [(place, step) for place, step in enumerate(steps) if isinstance(step, DualStep)]
        places = tuple(place for place, _ in duals[max(lowest, 1) - 1 : -1])
        return cls(places, operators, tuple(step for _, step in duals))

    @property
    def held(self) -> int:
        """Numbers that it takes for one input."""
        outputs = len(self.operators[-1].variance)
        sent = (op.returning for op in self.operators[-1 - len(self.places) : -1])
        return outputs * sum(len(one.weights) * (1 + one.modes.shape[1]) for one in sent if one is not None)

    def read(self, fields: Sequence[Field]) -> list[Return]:
        """What comes back behind every place; ``fields``: those before the activations, of inputs with themselves."""
        outputs, count = len(self.operators[-1].variance), fields[0].second.shape[1]
        above = np.zeros((outputs, outputs, count))  # j (receiving, outputs, N)
        above[range(outputs), range(outputs)] = np.sqrt(outputs)
        over = np.full(outputs, 1 / outputs)  # weights of the receiving points
        found: list[Return] = []
        for number in range(len(self.operators) - 1, len(self.operators) - 2 - len(self.places), -1):
            op, step, field = self.operators[number], self.steps[number - 1], fields[number - 1]
            returning = op.returning
            assert returning is not None
            sending = len(returning.weights)
            mean = np.empty((sending, outputs, count))
            last = number == len(self.operators) - 1
            modes = returning.modes * over[:, None]
            loadings = np.empty((0 if last else sending, modes.shape[1], outputs, count))
            flat = above.reshape(len(above), -1)
            single = returning.single
            slopes = op.variance / (returning.deviation * returning.weights)
            if single is not None:
                slopes = returning.deviation * single.slope
            for v, row in enumerate(slopes.T):
                if last:
                    mean[v] = ((row * (modes @ returning.coordinates[v])) @ flat).reshape(outputs, count)
                    continue
                each = (row[:, None] * modes).T @ flat
                loadings[v] = each.reshape(-1, outputs, count)
                if single is None:
                    mean[v] = (returning.coordinates[v] @ each).reshape(outputs, count)
            if single is not None:
                moved = returning.deviation * (single.drift * over[:, None]).T @ flat
                mean = moved.reshape(sending, outputs, count)
            if not last:
                order = np.ascontiguousarray(loadings.transpose(2, 0, 1, 3))
                one = Return(np.ascontiguousarray(mean.transpose(1, 0, 2)), order, returning.weights)
                if single is not None:
                    table = returning.deviation**2 * (single.table * over[:, None]).T
                    one = replace(one, above=np.ascontiguousarray(above.transpose(1, 0, 2)), table=table)
                found.append(one)
            over = returning.weights
            slope = step.made.slopes(field.mean, np.maximum(field.second, 0.0))[5]
            above = slope[:, None] * mean
        return found[::-1]
