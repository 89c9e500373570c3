"""Steps of stages beyond weight layers and activations: branches beside a shortcut, and LayerNorm (THEORY §11).

    fork, join     K + s^2 K_b,   T + s^2 T_b,   mu + s mu_b       of the shortcut and of the branch between the two
    norm           before: K r r',   T r r',   (mu - M) r          r = 1 / sqrt(q + epsilon),   M = int mu (or m),
                   behind: (C - m M' - M m' + M M') r r',          q = int (K + mu^2) - M^2 (or int C - M^2)
                           S r r',   (m - M) r

:func:`steps_of` makes all steps of a network from its outline and its operators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.cotangents import Moved, Nothing, Way
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.steps import (
    Before,
    Behind,
    DenseStep,
    DualStep,
    Features,
    Field,
    Fresh,
    InputStep,
    Same,
    Step,
    Visit,
    Workspace,
)
from graphon_theory.engine.tiles import Tile
from graphon_theory.errors import NetworkError
from graphon_theory.networks.stages import Fork, Join, Norm, Outline, Phi, Weights

_LOST = 4.0  # roundings of a second moment and of the means that are taken from it
_NORM_TERMS = 16  # what the two factors of a LayerNorm add to the roundings of a covariance


@dataclass(frozen=True)
class ForkStep:
    """What stands here is kept for the join, and goes into the branch."""

    level: int  # how many shortcuts pass here already

    def on_inputs(self, below: Field) -> Field:
        return below._replace(saved=(*below.saved, below))

    def features(self, below: Field, dtype: DTypeLike) -> Features:
        return None

    @property
    def held(self) -> int:
        return 0

    def on_pairs(self, below: Before, left: Features, right: Features, tile: Tile, work: Workspace) -> Before:
        below = below.settle()
        kept = work.view(f"shortcut {self.level}", *below.state.shape)  # steps write where the state lies
        kept[...] = below.state
        return replace(below, saved=(*below.saved, kept))

    def traced(
        self, below: Before, left: Features, right: Features, tile: Tile, same: Same
    ) -> tuple[Before, list[FloatArray]]:
        after = self.on_pairs(below, left, right, tile, Fresh())
        shelf: list[FloatArray] = []  # where the join leaves beta of the shortcut on the way back
        return replace(after, saved=(*below.saved, (after.saved[-1], shelf))), shelf

    def back(self, beta: FloatArray, trace: list[FloatArray], visit: Visit) -> FloatArray:
        return beta + trace.pop()

    def sums(self, count: int, columns: int = 0) -> Nothing:
        return Nothing()

    def pull(
        self, above: FloatArray, below: Before, left: Features, right: Features, tile: Tile, way: Way
    ) -> FloatArray:
        above += way.shelf.pop()
        return above

    def pull_inputs(self, above: Field, below: Field, way: Way) -> Field:
        kept = way.shelf.pop()
        return Field(above.second + kept.second, above.tangent + kept.tangent, above.mean + kept.mean)

    def astype(self, dtype: DTypeLike) -> ForkStep:
        return self


@dataclass(frozen=True)
class JoinStep:
    """The branch, times its scale, on the shortcut."""

    scale: float

    def on_inputs(self, below: Field) -> Field:
        *others, kept = below.saved
        square = self.scale * self.scale
        return Field(
            kept.second + square * below.second,
            kept.tangent + square * below.tangent,
            kept.mean + self.scale * below.mean,
            tuple(others),
        )

    def features(self, below: Field, dtype: DTypeLike) -> Features:
        return None

    @property
    def held(self) -> int:
        return 0

    def on_pairs(self, below: Before, left: Features, right: Features, tile: Tile, work: Workspace) -> Before:
        *others, kept = below.saved
        below = below.settle()
        if self.scale * self.scale != 1.0:
            below.state *= self.scale * self.scale
        below.state += kept
        return replace(below, saved=tuple(others))

    def traced(
        self, below: Before, left: Features, right: Features, tile: Tile, same: Same
    ) -> tuple[Before, list[FloatArray]]:
        *others, (kept, shelf) = below.saved
        after = self.on_pairs(replace(below, saved=(*others, kept)), left, right, tile, Fresh())
        return after, shelf

    def back(self, beta: FloatArray, trace: list[FloatArray], visit: Visit) -> FloatArray:
        trace.append(beta)
        return self.scale * self.scale * beta

    def sums(self, count: int, columns: int = 0) -> Nothing:
        return Nothing()

    def pull(
        self, above: FloatArray, below: Before, left: Features, right: Features, tile: Tile, way: Way
    ) -> FloatArray:
        way.shelf.append(above)
        return self.scale * self.scale * above

    def pull_inputs(self, above: Field, below: Field, way: Way) -> Field:
        way.shelf.append(above)
        square = self.scale * self.scale
        return Field(square * above.second, square * above.tangent, self.scale * above.mean)

    def astype(self, dtype: DTypeLike) -> JoinStep:
        return self


class Normal(NamedTuple):
    """What LayerNorm takes of one side's inputs: r and M (N,), and m (positions, N) behind an activation."""

    factor: FloatArray
    center: FloatArray
    mean: FloatArray | None

    def taken(self, part: slice) -> Normal:
        """Of some of the inputs."""
        return Normal(self.factor[part], self.center[part], None if self.mean is None else self.mean[:, part])


@dataclass(frozen=True)
class NormStep:
    """LayerNorm over a layer whose positions have these weights, before an activation or behind it."""

    weights: FloatArray
    epsilon: float
    before: bool

    def variance(self, below: Field) -> tuple[FloatArray, FloatArray]:
        """M and q (N,), q as a sum of what cannot be negative."""
        center = self.weights @ below.mean
        own = below.second if self.before else np.maximum(below.second - below.mean**2, 0.0)
        return center, self.weights @ np.maximum(own, 0.0) + self.weights @ (below.mean - center) ** 2

    def normal(self, below: Field) -> Normal:
        center, variance = self.variance(below)
        if not (variance + self.epsilon > 0).all():
            raise NetworkError(
                f"LayerNorm({self.epsilon!r}): an input reaches it as one value at every position, which no number "
                "normalises; give it an epsilon > 0, or leave that input (of zeros?) out."
            )
        return Normal(1.0 / np.sqrt(variance + self.epsilon), center, None if self.before else below.mean)

    def lost(self, below: Field) -> float:
        """Roundings that a normalised moment gathers, in units of it: what C - m M' or mu - M cancel grows by that."""
        _, variance = self.variance(below)
        whole = below.second + below.mean**2 if self.before else below.second
        share = (self.weights @ np.abs(whole)) / np.maximum(variance + self.epsilon, np.finfo(float).tiny)
        return _LOST * float(share.max(initial=1.0))

    def on_inputs(self, below: Field) -> Field:
        factor, center, mean = self.normal(below)
        second = below.second if mean is None else np.maximum(below.second - mean**2, 0.0) + (mean - center) ** 2
        square = factor * factor
        return Field(second * square, below.tangent * square, (below.mean - center) * factor, below.saved)

    def features(self, below: Field, dtype: DTypeLike) -> Normal:
        factor, center, mean = self.normal(below)
        mean = None if mean is None else mean.astype(dtype, copy=False)
        return Normal(factor.astype(dtype, copy=False), center.astype(dtype, copy=False), mean)

    @property
    def held(self) -> int:
        return 2 if self.before else 2 + len(self.weights)

    def on_pairs(self, below: Any, left: Normal, right: Normal, tile: Tile, work: Workspace) -> Any:
        factors = _outer(left.factor, right.factor, tile, work.view("factors", tile.i1 - tile.i0, tile.j1 - tile.j0))
        if isinstance(below, Before):
            below = below.settle()
            below.state *= factors
            return below
        self._center(below.state, left, right, tile, work)
        below.state[:, 0] *= factors
        if not below.bare:
            below.state[:, 1] *= factors
        return below

    def _center(self, state: FloatArray, left: Normal, right: Normal, tile: Tile, work: Workspace) -> None:
        """C - m M' - M m' + M M' in place of C, as (C - m m') + (m - M) (m' - M')."""
        assert left.mean is not None
        assert right.mean is not None
        product = work.view("product", *state.shape[2:])
        for position, second in enumerate(state[:, 0]):
            m1, m2 = left.mean[position], right.mean[position]
            second -= _outer(m1, m2, tile, product)
            second += _outer(m1 - left.center, m2 - right.center, tile, product)

    def traced(self, below: Any, left: Normal, right: Normal, tile: Tile, same: Same) -> tuple[Any, FloatArray]:
        if isinstance(below, Behind):  # its array holds what the activation left for the way back
            below = replace(below, state=below.state.copy())
        after = self.on_pairs(below, left, right, tile, Fresh())
        return after, np.outer(left.factor[tile.i0 : tile.i1], right.factor[tile.j0 : tile.j1]).ravel()

    def back(self, beta: FloatArray, trace: FloatArray, visit: Visit) -> FloatArray:
        return beta * trace

    def sums(self, count: int, columns: int = 0) -> Moved:
        """Of second moments as they enter q, and of means beside q."""
        return Moved.of(len(self.weights), count, columns)

    def pull(self, above: FloatArray, below: Any, left: Normal, right: Normal, tile: Tile, way: Way) -> FloatArray:
        """``below`` as it came: what a pair puts on r and M is added up over the other side's inputs."""
        rows, columns = left.taken(slice(tile.i0, tile.i1)), right.taken(slice(tile.j0, tile.j1))
        second = below.state[:, 0]
        if not self.before:
            second = second.copy()
            self._center(second[:, None], left, right, tile, Fresh())
        product = above[:, 0] * second
        if isinstance(below, Before) or not below.bare:
            product += above[:, 1] * below.state[:, 1]
        product = product.sum(axis=0)
        above *= rows.factor[:, None] * columns.factor
        one, two = (np.zeros((len(self.weights), 2, len(side.factor))) for side in (rows, columns))
        for own, into, other, turned in ((rows, one, columns, False), (columns, two, rows, True)):
            gain = (product.T if turned else product) @ other.factor  # of r
            into[:, 0] = self.weights[:, None] * (-0.5 * own.factor**3 * gain)
            if other.mean is not None:
                moved = above[:, 0].transpose(0, 2, 1) if turned else above[:, 0]
                center = np.einsum("uij,uj->i", moved, other.mean - other.center)
                into[:, 1] = -(moved @ other.center) - self.weights[:, None] * center
        way.sums.gather(tile, one, two)
        return above

    def pull_inputs(self, above: Field, below: Field, way: Way) -> Field:
        factor, center, _ = self.normal(below)
        off, weights = below.mean - center, self.weights[:, None]
        whole = below.second if self.before else np.maximum(below.second - below.mean**2, 0.0) + off**2
        by_pairs = way.sums.values
        gain = (2 * factor * (above.second * whole + above.tangent * below.tangent) + above.mean * off).sum(axis=0)
        moved = by_pairs[:, 0].sum(axis=0) - 0.5 * factor**3 * gain  # q'
        second, tangent = (values * factor**2 for values in (above.second, above.tangent))
        mean = above.mean * factor + by_pairs[:, 1]
        pulled = -(above.mean * factor).sum(axis=0) - 2 * center * moved  # M'
        if self.before:
            mean += 2 * weights * below.mean * moved
        else:
            mean -= 2 * second * center
            pulled = pulled - 2 * (second * off).sum(axis=0)
        return Field(second + weights * moved, tangent, mean + weights * pulled)

    def astype(self, dtype: DTypeLike) -> NormStep:
        return self


def _outer(left: FloatArray, right: FloatArray, tile: Tile, out: FloatArray) -> FloatArray:
    return np.multiply(left[tile.i0 : tile.i1, None], right[tile.j0 : tile.j1], out=out)


class _Roundings(NamedTuple):
    """How many products a moment sums, of operators and of what positions tell."""

    terms: int
    told: int

    def __add__(self, other: tuple[Any, ...]) -> _Roundings:
        return _Roundings(self.terms + other[0], self.told + other[1])


def steps_of(
    outline: Outline, operators: Sequence[LayerOperator], weights: Sequence[FloatArray | None] = ()
) -> tuple[Step, ...]:
    """All steps from inputs to outputs; duals are not made yet.

    ``weights``: of the positions of every layer of units, which a LayerNorm there asks for.
    """
    steps: list[Step] = []
    here = _Roundings(0, 0)
    saved: list[_Roundings] = []
    for index, part in enumerate(outline):
        if isinstance(part, Weights):
            op = operators[part.number - 1]
            told = 0 if op.conditioning is None else len(op.conditioning.bias)
            if part.source == 0:
                first = InputStep.of(op)
                steps.append(first)
                here = _Roundings(first.layer.terms, told)
            else:
                steps.append(DenseStep.of(op, part.number))
                here = _Roundings(op.variance.shape[1], told)
        elif isinstance(part, Phi):
            positions = len(_receivers(outline, operators, part.place))
            steps.append(
                DualStep(part.activation, positions, sum(here), means=asks_for_means(outline, operators, index))
            )
        elif isinstance(part, Fork):
            steps.append(ForkStep(len(saved)))
            saved.append(here)
        elif isinstance(part, Join):
            steps.append(JoinStep(part.scale))
            here = saved.pop() + here
        else:
            over = weights[part.place]
            assert over is not None
            steps.append(NormStep(over, part.epsilon, part.before))
            here += (_NORM_TERMS, 0)
    return tuple(steps)


def lost_by_norms(steps: tuple[Step, ...], inputs: FloatArray) -> list[float]:
    """Roundings of every LayerNorm on these inputs, in order; a step's duals are made for them where they are not."""
    field, found = Field.of_inputs(inputs), []
    for step in steps:
        if isinstance(step, NormStep):
            found.append(step.lost(field))
        field = step.on_inputs(field)
    return found


def knowing(steps: tuple[Step, ...], lost: Sequence[float]) -> tuple[Step, ...]:
    """The same steps, with duals that hold a correlation to be known no better than LayerNorms below leave it."""
    each, worst, out = iter(lost), 0.0, []
    for step in steps:
        if isinstance(step, NormStep):
            worst = max(worst, next(each))
        out.append(replace(step, terms=max(step.terms, math.ceil(worst**2))) if isinstance(step, DualStep) else step)
    return tuple(out)


def _receivers(outline: Outline, operators: Sequence[LayerOperator], place: int) -> FloatArray:
    """Rows of the first weight layer that leads to a layer of units."""
    number = next(part.number for part in outline if isinstance(part, Weights) and part.place == place)
    return operators[number - 1].variance


def asks_for_means(outline: Outline, operators: Sequence[LayerOperator], index: int) -> bool:
    """Whether what follows the activation at ``index`` of an outline reads m: a drift, or a LayerNorm."""
    above = outline[index + 1]
    return isinstance(above, Norm) or (isinstance(above, Weights) and operators[above.number - 1].drift is not None)
