"""Pairs of close inputs by their angles, in plain networks and in stages.

Every step carries 1 - rho of a batch of pairs as a sum of squares, from the roots of what each input has alone
(THEORY §4, §11), and 1 + rho in the same way, since shortcuts and lines hand near-opposite signals on:

    weights       (1/2) [int V (r / s - r' / s')^2 + sigma_b^2 (1 / s - 1 / s')^2] + int V r r' gamma / (s s')
    activation    gamma and Cdot at the angle; lines through 0 leave it as it is
    shortcut      of a sum of independent parts, from theirs
    LayerNorm     before an activation: none; behind it, with A, B, D = r, m, M over the root of the centred moment,
                  (1/2) [(A - A')^2 + 2 A A' gamma - 2 (B - B') (D - D') + (D - D')^2]

r, r' the roots of C below, s, s' those of K here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.engine.angles import AngularForm, first_gaps, gaps_above, gaps_of_sum, products
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.stage_steps import ForkStep, JoinStep, NormStep
from graphon_theory.engine.steps import DenseStep, DualStep, Field, InputStep

_VALUES = 1 << 20  # numbers of a tangent held at a time


class _Sides(NamedTuple):
    """1 - rho and 1 + rho (positions, pairs), each right to rounding of itself."""

    minus: FloatArray
    plus: FloatArray

    @classmethod
    def of(cls, gaps: FloatArray, opposite: FloatArray) -> _Sides:
        """From 1 - |rho|, and 1 where rho is negative."""
        rest = 2.0 - gaps
        return cls(np.where(opposite > 0, rest, gaps), np.where(opposite > 0, gaps, rest))

    @property
    def near(self) -> tuple[FloatArray, FloatArray]:
        """1 - |rho|, and 1.0 where rho is negative."""
        return np.minimum(self.minus, self.plus), (self.plus < self.minus).astype(float)


@dataclass(frozen=True)
class _Pairs:
    """A batch of pairs: correlations, tangents (parts, positions, pairs), and of every input of either side the roots
    (positions, N) of K or C.
    """

    sides: _Sides
    tangents: FloatArray
    roots: FloatArray

    def second(self, i: IntArray, j: IntArray) -> FloatArray:
        return self.roots[:, i] * self.roots[:, j] * (1.0 - self.sides.minus)


class AngularStages:
    """A network whose duals hang on angles alone."""

    def __init__(self, recursion: Recursion, forms: Sequence[AngularForm | None]) -> None:
        self.recursion, self.forms = recursion, forms

    @classmethod
    def of(cls, recursion: Recursion) -> AngularStages | None:
        """None where signals have means by drift, or an activation is smooth or kinked in another way."""
        activations = [step.activation for step in recursion.steps if isinstance(step, DualStep)]
        forms = [AngularForm.of(one) for one in activations]
        known = all(form is not None or _square(one) > 0 for form, one in zip(forms, activations, strict=True))
        return cls(recursion, forms) if known and any(forms) and not recursion.has_drift else None

    def kernels(
        self,
        x: FloatArray,
        y: FloatArray,
        rows: IntArray,
        columns: IntArray,
        shifts: FloatArray | None = None,
        apart: bool = False,
    ) -> tuple[FloatArray, FloatArray]:
        """NNGP (outputs, pairs) and NTK (parts, outputs, pairs) of the pairs (x[rows], y[columns]).

        ``apart``: a part for every weight layer; else one. ``shifts`` (pairs,) are added to 1 - rho before every
        activation: what would an error do?
        """
        both = np.concatenate([x, y])
        fields, parts = self._fields(both), len(self.recursion.operators) if apart else 1
        columns = columns + len(x)
        widest = max(len(op.variance) for op in self.recursion.operators)
        some = max(1, _VALUES // (parts * max(widest, x.shape[1])))
        shifts = np.zeros(len(rows)) if shifts is None else shifts
        found = [
            self._batch(both, fields, rows[k : k + some], columns[k : k + some], shifts[k : k + some], parts)
            for k in range(0, len(rows), some)
        ]
        return np.concatenate([one for one, _ in found], axis=1), np.concatenate([two for _, two in found], axis=2)

    def _fields(self, x: FloatArray) -> list[Field]:
        """Every input with itself, before each step; the same numbers in every batch."""
        fields = [Field.of_inputs(x)]
        for step in self.recursion.steps:
            below = fields[-1]
            if isinstance(step, InputStep | DenseStep):  # tangents of inputs with themselves are not asked for
                op = step.operator
                k = products(op.variance, below.second) + op.bias
                fields.append(Field(k, np.zeros((len(k), 1)), op.means(below.mean), below.saved))
            else:
                fields.append(step.on_inputs(below))
        return fields

    def _batch(
        self, x: FloatArray, fields: list[Field], i: IntArray, j: IntArray, shifts: FloatArray, parts: int
    ) -> tuple[FloatArray, FloatArray]:
        kept: list[_Pairs] = []
        forms = iter(self.forms)
        none = np.zeros((0, 0))
        pairs = _Pairs(_Sides(none, none), np.zeros((0, 0, 0)), none)
        for step, below, above in zip(self.recursion.steps, fields, fields[1:], strict=False):
            roots = np.sqrt(np.maximum(above.second, 0.0))
            if isinstance(step, InputStep | DenseStep):
                op = step.operator
                if isinstance(step, InputStep):
                    second = (x[i] * x[j]).T
                    tangents = np.zeros((parts, len(op.variance), len(i)))
                else:
                    second = pairs.second(i, j)
                    tangents = np.array([products(op.variance, one) for one in pairs.tangents])
                tangents[step.number - 1 if parts > 1 else 0] += products(op.mask_matrix, second) + op.trained_bias
                if step.number == len(self.recursion.operators):
                    return products(op.variance, second) + op.bias, tangents
                if isinstance(step, InputStep):
                    sides = _Sides.of(*first_gaps(op, x, i, j))
                else:
                    sides = _Sides(*gaps_above(op, pairs.roots, roots, pairs.sides, i, j))
                pairs = _Pairs(_living(sides, roots, i, j), tangents, roots)
            elif isinstance(step, DualStep):
                form = next(forms)
                if form is None:  # a line through 0
                    pairs = replace(pairs, tangents=_square(step.activation) * pairs.tangents, roots=roots)
                else:
                    gaps, opposite = pairs.sides.near
                    gammas, dots = form.duals(np.clip(gaps + shifts, 0.0, 2.0), opposite)
                    pairs = _Pairs(_Sides(gammas, 2.0 - gammas), dots * pairs.tangents, roots)
            elif isinstance(step, ForkStep):
                kept.append(pairs)
            elif isinstance(step, JoinStep):
                short, size = kept.pop(), abs(step.scale)
                both = short.roots, size * pairs.roots
                sides = _Sides(
                    *(gaps_of_sum(both, roots, two, i, j) for two in zip(short.sides, pairs.sides, strict=True))
                )
                pairs = _Pairs(sides, short.tangents + size**2 * pairs.tangents, roots)
            else:
                assert isinstance(step, NormStep)
                factor, center, _ = step.normal(below)
                tangents = pairs.tangents * (factor[i] * factor[j])
                sides = pairs.sides
                if not step.before:
                    sides = _living(_centred(pairs, below.mean, center, roots / factor, i, j), roots, i, j)
                pairs = _Pairs(sides, tangents, roots)
        raise AssertionError("a network ends in a weight layer")


def _square(activation: Activation) -> float:
    """The squared slope of a line through 0; 0 for every other phi."""
    if activation.name == "identity":
        return 1.0
    is_line = activation.homogeneous and len(activation.parameters) == 2 and activation.parameters[1] == 0
    return float(activation.parameters[0]) if is_line else 0.0


def _living(sides: _Sides, roots: FloatArray, i: IntArray, j: IntArray) -> _Sides:
    """Dead positions at a right angle to everything."""
    dead = (roots[:, i] == 0) | (roots[:, j] == 0)
    return _Sides(*(np.clip(np.where(dead, 1.0, side), 0.0, 2.0) for side in sides))


def _centred(below: _Pairs, mean: FloatArray, center: FloatArray, root: FloatArray, i: IntArray, j: IntArray) -> _Sides:
    """Of what is left of phi - M; ``root`` (positions, N): of its second moment."""
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    whole, means, centers = (
        (one[:, i], one[:, j]) for one in (below.roots * inverse, mean * inverse, center * inverse)
    )
    squares = (whole[0] - whole[1]) ** 2
    return _Sides(
        *(
            0.5 * (squares + 2.0 * whole[0] * whole[1] * side + off * (off - 2.0 * moved))
            for side, off, moved in zip(
                below.sides,
                (centers[0] - centers[1], centers[0] + centers[1]),
                (means[0] - means[1], means[0] + means[1]),
                strict=True,
            )
        )
    )
