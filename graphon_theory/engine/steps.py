"""What a layer does to a field, written once: to one input with itself, to a tile of pairs, and on the way back.

A field at a position and a pair of inputs is *before* an activation (covariance K, tangent T, mean mu) or *behind* it
(second moment C, carried tangent S = Cdot T, mean m). Two steps make a plain network (THEORY §3, §11):

    dense   behind -> before   mu = sigma_w int D m,   K = sigma_w^2 int V C + sigma_b^2 - L L^T,
                               T = sigma_w^2 int W C + sigma_b^2 + sigma_w^2 int V S
    dual    before -> behind   m, C, Cdot = duals of phi at (mu, K),   S = Cdot T

L are loadings of what positions tell of their units' parameters (THEORY §10), none in most networks. The inputs are a
field behind, on atoms: C = x x', S = 0, m = x. The recursion, the choice of nodes, the way back and the variance map
are loops over steps; those of shortcuts and of LayerNorm are in ``stage_steps``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.activations.activation import Activation
from graphon_theory.activations.dual_passes import DualPass
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.cotangents import LayerSums, Moved, Sums, Way
from graphon_theory.engine.input_layers import InputLayer
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.products import Product
from graphon_theory.engine.shared_grams import GramTiles
from graphon_theory.engine.tiles import Tile
from graphon_theory.engine.workspaces import Buffers as Buffers
from graphon_theory.engine.workspaces import Fresh as Fresh
from graphon_theory.engine.workspaces import Workspace as Workspace

Features = Any  # what a step reads of every input of one side of a tile
Visit = Callable[[int, FloatArray, FloatArray], None]  # (weight layer from 1, beta at its receivers, C below)


class Field(NamedTuple):
    """One input with itself, in float64, every array (positions, N): K or C, T or S, mu or m."""

    second: FloatArray
    tangent: FloatArray
    mean: FloatArray
    saved: tuple[Field, ...] = ()  # what shortcuts carry past a branch, the innermost last

    @classmethod
    def of_inputs(cls, x: FloatArray) -> Field:
        """Inputs (N, d) as a field on their d atoms."""
        return cls((x * x).T, np.zeros((x.shape[1], 1)), x.T)


@dataclass(slots=True)
class Behind:
    """Pairs behind an activation: C and S (positions, 2, n1, n2). ``bare``: S is 0, and need not stand there."""

    state: FloatArray
    bare: bool = False
    saved: tuple[Any, ...] = ()  # what shortcuts carry past a branch, the innermost last

    @property
    def second(self) -> FloatArray:
        """C (positions, pairs)."""
        return self.state[:, 0].reshape(len(self.state), -1)


@dataclass(slots=True)
class Before:
    """Pairs before an activation, as products leave them: V C and V S (positions, 2, n1, n2), and what is to be added.

    K = V C + ``bias`` and T = V S + W C + ``trained_bias``, where W C is ``masked``, or V C itself if that is None.
    A settled field holds K and T.
    """

    state: FloatArray
    masked: FloatArray | None = None  # (positions, n1, n2)
    bias: float = 0.0
    trained_bias: float = 0.0
    settled: bool = False
    saved: tuple[Any, ...] = ()  # what shortcuts carry past a branch, the innermost last

    def settle(self) -> Before:
        """K and T themselves, in place."""
        if not self.settled:
            k, t = self.state[:, 0], self.state[:, 1]
            t += k if self.masked is None else self.masked
            t += self.trained_bias
            k += self.bias
            self.masked, self.bias, self.trained_bias, self.settled = None, 0.0, 0.0, True
        return self


class Step(Protocol):
    """One step of a network, from the field that the step before it left."""

    def on_inputs(self, below: Field) -> Field:
        """One input with itself."""
        ...

    def features(self, below: Field, dtype: DTypeLike) -> Features:
        """What pairs need of the inputs of one side, from what ``on_inputs`` was given."""
        ...

    @property
    def held(self) -> int:
        """Numbers that features take for one input."""
        ...

    def on_pairs(self, below: Any, left: Features, right: Features, tile: Tile, work: Workspace) -> Any:
        """A tile of pairs: rows i0..i1 of the inputs of ``left``, columns j0..j1 of those of ``right``."""
        ...

    def traced(self, below: Any, left: Features, right: Features, tile: Tile, same: Same) -> tuple[Any, Any]:
        """As on_pairs, and what the way back needs of it; tangents are not carried."""
        ...

    def back(self, beta: FloatArray, trace: Any, visit: Visit) -> FloatArray:
        """From beta behind the step to beta before it (positions, pairs); ``visit`` is shown every weight layer."""
        ...

    def sums(self, count: int, columns: int = 0) -> Sums:
        """Zeros for what the step's own parameters get on the way back of ``count`` inputs (THEORY §12).

        ``columns``: where among them the inputs of a tile's columns start.
        """
        ...

    def pull(self, above: FloatArray, below: Any, left: Features, right: Features, tile: Tile, way: Way) -> FloatArray:
        """From the cotangents (positions, 2, n1, n2) of what ``on_pairs`` returned to those of ``below``.

        Adds to ``way.sums``; may write over ``above``. A field before an activation is settled.
        """
        ...

    def pull_inputs(self, above: Field, below: Field, way: Way) -> Field:
        """The same through ``on_inputs``, with what the pairs have put into ``way.sums`` for single inputs."""
        ...

    def astype(self, dtype: DTypeLike) -> Step:
        """The step for pairs of another floating type."""
        ...


class Same(NamedTuple):
    """Pairs (i, j) of identical inputs, whose K is that of the input with itself exactly."""

    i: np.ndarray[Any, np.dtype[np.intp]]
    j: np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True)
class DenseStep:
    """A weight layer: operators V, W and D at the receiving positions, V and W through a low rank where that pays."""

    operator: LayerOperator
    number: int  # of the weight layer, from 1
    signal: Product  # V
    masked: Product | None  # W, None where it equals V

    @classmethod
    def of(cls, operator: LayerOperator, number: int = 1, *, factored: bool = True) -> DenseStep:
        """``factored``: look for a low rank, which pays for many pairs."""
        mask = operator.mask
        return cls(
            operator,
            number,
            Product(operator.variance, factored=factored),
            None if mask is None else Product(mask, factored=factored),
        )

    def covariance(self, second: FloatArray) -> FloatArray:
        """K = sigma_w^2 int V C + sigma_b^2 (receiving, ...), from C (sending, ...), what positions tell left in."""
        return self.signal(second) + self.operator.bias

    def on_inputs(self, below: Field) -> Field:
        op = self.operator
        k = self.signal(below.second)
        t = (k if self.masked is None else self.masked(below.second)) + op.trained_bias + self.signal(below.tangent)
        return _conditioned(op, below, k + op.bias, t)

    def features(self, below: Field, dtype: DTypeLike) -> Features:
        """What positions tell, None where that is nothing."""
        return self.operator.told(below.mean, dtype)

    @property
    def held(self) -> int:
        return self.operator.coordinates

    def on_pairs(self, below: Behind, left: Features, right: Features, tile: Tile, work: Workspace) -> Before:
        op, rows = self.operator, len(self.operator.variance)
        sending, parts, n1, n2 = below.state.shape
        n = n1 * n2
        flat = below.state.reshape(sending, parts, n)
        state = work.view("state", rows, 2, n)
        scratch = work.view("scratch", 2 * n * max(self.signal.rank, 0 if self.masked is None else self.masked.rank))
        if below.bare:
            self.signal.into(flat[:, 0], state[:, 0], scratch)
            state[:, 1] = 0.0
        else:
            self.signal.into(flat.reshape(sending, 2 * n), state.reshape(rows, 2 * n), scratch)
        masked = None
        if self.masked is not None:
            masked = work.view("masked", rows, n)
            self.masked.into(flat[:, 0], masked, scratch)
            masked = masked.reshape(rows, n1, n2)
        state = state.reshape(rows, 2, n1, n2)
        if op.conditioning is not None:
            state[:, 0] -= op.conditioning.products(left, right, *tile.sides)
        return Before(state, masked, op.bias, op.trained_bias, saved=below.saved)

    def traced(
        self, below: Behind, left: Features, right: Features, tile: Tile, same: Same
    ) -> tuple[Before, FloatArray]:
        return self.on_pairs(below, left, right, tile, Fresh()), below.second

    def back(self, beta: FloatArray, trace: FloatArray, visit: Visit) -> FloatArray:
        visit(self.number, beta, trace)
        return self.transposed(beta)

    def transposed(self, beta: FloatArray) -> FloatArray:
        """sigma_w^2 int V(u, .) beta(u) du, weights of the integral included."""
        return self.operator.variance.T @ beta

    def sums(self, count: int, columns: int = 0) -> LayerSums:
        return LayerSums.of(self.operator)

    def pull(
        self, above: FloatArray, below: Behind, left: Features, right: Features, tile: Tile, way: Way
    ) -> FloatArray:
        sending, parts, n1, n2 = below.state.shape
        flat = above.reshape(len(above), parts, n1 * n2)
        way.sums.gather(flat, below.state.reshape(sending, parts, n1 * n2))
        out = way.work.view("below", sending, parts, n1 * n2)
        if self.masked is None:
            flat[:, 0] += flat[:, 1]  # C' = V (K' + T')
        np.matmul(self.operator.variance.T, flat.reshape(len(above), -1), out=out.reshape(sending, -1))
        if self.masked is not None:
            out[:, 0] += self.operator.mask_matrix.T @ flat[:, 1]
        return out.reshape(sending, parts, n1, n2)

    def pull_inputs(self, above: Field, below: Field, way: Way) -> Field:
        op = self.operator
        _gathered(way.sums, above, below)
        second = op.variance.T @ above.second + op.mask_matrix.T @ above.tangent
        mean = np.zeros_like(below.mean) if op.drift is None else op.drift.T @ above.mean
        return Field(second, op.variance.T @ above.tangent, mean)

    def astype(self, dtype: DTypeLike) -> DenseStep:
        masked = None if self.masked is None else self.masked.astype(dtype)
        return replace(self, signal=self.signal.astype(dtype), masked=masked)


@dataclass(frozen=True)
class InputStep:
    """The first weight layer on the atoms of the inputs, through few weighted Gram matrices."""

    operator: LayerOperator
    layer: InputLayer
    number: int = 1
    shared: GramTiles | None = None  # with other networks on the same inputs

    @classmethod
    def of(cls, operator: LayerOperator) -> InputStep:
        return cls(operator, InputLayer.of(operator))

    def on_inputs(self, below: Field) -> Field:
        """By the very products that pairs go through, so that nearly coincident pairs see the same roundings."""
        op, layer = self.operator, self.layer
        gram = layer.profiles @ below.second
        k = layer.variance_weights @ gram
        t = (k if layer.mask_weights is None else layer.mask_weights @ gram) + op.trained_bias
        return _conditioned(op, below, k + op.bias, t)

    def features(self, below: Field, dtype: DTypeLike) -> Features:
        """The inputs (N, d) themselves, and what positions tell."""
        return below.mean.T.astype(dtype, copy=False), self.operator.told(below.mean, dtype)

    @property
    def held(self) -> int:
        return self.operator.coordinates

    def gram(self, x1: FloatArray, x2: FloatArray, tile: Tile, work: Workspace) -> FloatArray:
        """The weighted Gram matrices (profiles, n1, n2) of a tile of inputs, which may be shared: only to be read."""
        i0, i1, j0, j1, _ = tile
        shape = len(self.layer.profiles), i1 - i0, j1 - j0

        def form(out: FloatArray) -> None:
            self.layer.gram(x1[i0:i1], x2[j0:j1], out)

        gram = None if self.shared is None else self.shared.tile(tile, shape, self.layer.profiles.dtype, form)
        if gram is None:
            gram = work.view("gram", *shape)
            form(gram)
        return gram

    def on_pairs(self, below: None, left: Features, right: Features, tile: Tile, work: Workspace) -> Before:
        op, layer = self.operator, self.layer
        gram = self.gram(left[0], right[0], tile, work)
        _, n1, n2 = gram.shape
        rows, gram = len(op.variance), gram.reshape(len(gram), -1)
        state = work.view("state", rows, 2, n1 * n2)
        if layer.separate is not None:
            np.multiply(layer.separate, gram, out=state[:, 0])
        else:
            np.matmul(layer.variance_weights, gram, out=state[:, 0])
        state[:, 1] = 0.0
        masked = None
        if layer.mask_weights is not None:
            masked = work.view("masked", rows, n1 * n2)
            np.matmul(layer.mask_weights, gram, out=masked)
            masked = masked.reshape(rows, n1, n2)
        state = state.reshape(rows, 2, n1, n2)
        if op.conditioning is not None:
            state[:, 0] -= op.conditioning.products(left[1], right[1], *tile.sides)
        return Before(state, masked, op.bias, op.trained_bias)

    def traced(self, below: None, left: Features, right: Features, tile: Tile, same: Same) -> tuple[Before, FloatArray]:
        """On the atoms one by one: the way back asks for the product of every input."""
        x1, x2 = left[0], right[0]
        step = DenseStep.of(self.operator, self.number, factored=False)
        return step.traced(atoms(x1, x2), left[1], right[1], tile, same)

    def back(self, beta: FloatArray, trace: FloatArray, visit: Visit) -> FloatArray:
        visit(self.number, beta, trace)
        return beta

    def sums(self, count: int, columns: int = 0) -> LayerSums:
        return LayerSums.of(self.operator)

    def pull(self, above: FloatArray, below: None, left: Features, right: Features, tile: Tile, way: Way) -> FloatArray:
        i0, i1, j0, j1, _ = tile
        way.sums.gather_atoms(above, left[0][i0:i1], right[0][j0:j1])
        return above

    def pull_inputs(self, above: Field, below: Field, way: Way) -> Field:
        _gathered(way.sums, above, below)
        return below  # nothing below moves

    def astype(self, dtype: DTypeLike) -> InputStep:
        return replace(self, layer=self.layer.astype(dtype))


@dataclass(frozen=True)
class DualStep:
    """An activation: its duals at the means and variances that reach it."""

    activation: Activation
    positions: int
    terms: int  # products that a moment below is a sum of: how far |rho| is known
    duals: DualPass | None = None  # None: made anew for the inputs that come
    means: bool = False  # whether the layer above asks for m
    eps: float = field(default=float(np.finfo(np.float64).eps))  # of the pairs' floating type

    def reached(self, below: Field) -> tuple[float, float]:
        """The largest mean, in size, and the largest variance."""
        return float(np.abs(below.mean).max(initial=0.0)), float(below.second.max(initial=0.0))

    def fitted(self, largest_mean: float, largest_variance: float) -> DualStep:
        """With duals for means and variances up to these."""
        return replace(self, duals=self.activation.prepared(largest_mean, largest_variance))

    def for_field(self, below: Field) -> DualStep:
        """With duals for a field, unless they are there already."""
        return self if self.duals is not None else self.fitted(*self.reached(below))

    @property
    def made(self) -> DualPass:
        assert self.duals is not None, "duals are made by fitted() first"
        return self.duals

    @cached_property
    def parameters(self) -> FloatArray:
        """Of the compiled block."""
        return self.made.parameters(self.terms, self.eps)

    def on_inputs(self, below: Field) -> Field:
        step, variance = self.for_field(below), np.maximum(below.second, 0.0)
        mean = step.first_moments(below)
        second, derivative = step.made.diagonal(below.mean, variance)
        return Field(second, derivative * below.tangent, mean, below.saved)

    def first_moments(self, below: Field) -> FloatArray:
        """m, where the layer above asks for it."""
        return self.made.mean(below.mean, np.maximum(below.second, 0.0)) if self.means else below.mean

    def features(self, below: Field, dtype: DTypeLike) -> Features:
        """What compiled duals read of means and variances (positions, F, N), and the variances themselves."""
        variance = np.maximum(below.second, 0.0)
        return self.made.features(below.mean, variance).astype(dtype, order="C"), variance

    @cached_property
    def each(self) -> int:
        """Features of one position and one input."""
        one = np.zeros((1, 1))
        return self.made.features(one, one).shape[1]

    @property
    def held(self) -> int:
        return (self.each + 2) * self.positions

    def on_pairs(self, below: Before, left: Features, right: Features, tile: Tile, work: Workspace) -> Behind:
        state = below.state
        out = work.view("duals", *state.shape)
        masked, shared = below.masked, below.masked is None
        if masked is None:
            masked = work.view("masked", *state[:, 0].shape)
        if below.settled:  # nothing is to be added
            masked[...], shared = 0.0, False
        self.made.block(
            state,
            masked,
            shared,
            below.bias,
            below.trained_bias,
            left[0],
            right[0],
            tile.i0,
            tile.j0,
            out,
            self.parameters,
        )
        return Behind(out, saved=below.saved)

    def traced(
        self, below: Before, left: Features, right: Features, tile: Tile, same: Same
    ) -> tuple[Behind, FloatArray]:
        """C, and Cdot alone for the way back: the tangent that is carried is 1."""
        below = below.settle()
        below.state[:, 1] = 1.0
        below.state[:, 0, same.i, same.j] = left[1][:, same.i]
        out = self.on_pairs(below, left, right, tile, Fresh())
        return Behind(out.state, bare=True, saved=out.saved), out.state[:, 1].reshape(len(out.state), -1)

    def back(self, beta: FloatArray, trace: FloatArray, visit: Visit) -> FloatArray:
        return trace * beta

    def sums(self, count: int, columns: int = 0) -> Moved:
        return Moved.of(self.positions, count, columns)

    def pull(
        self, above: FloatArray, below: Before, left: Features, right: Features, tile: Tile, way: Way
    ) -> FloatArray:
        i0, i1, j0, j1, _ = tile
        one, two = (np.zeros((self.positions, 2, n)) for n in (i1 - i0, j1 - j0))
        self.made.back(below.state, left[0], right[0], i0, j0, above, one, two, self.made.back_parameters(self.terms))
        way.sums.gather(tile, one, two)
        return above

    def pull_inputs(self, above: Field, below: Field, way: Way) -> Field:
        step, variance = self.for_field(below), np.maximum(below.second, 0.0)
        _, derivative = step.made.diagonal(below.mean, variance)
        c_q, c_mu, e_q, e_mu, m_q, m_mu = step.made.slopes(below.mean, variance)
        carried = above.tangent * below.tangent
        second = above.second * c_q + carried * e_q + above.mean * m_q + way.sums.values[:, 0]
        mean = above.second * c_mu + carried * e_mu + above.mean * m_mu + way.sums.values[:, 1]
        return Field(second, derivative * above.tangent, mean)

    def astype(self, dtype: DTypeLike) -> DualStep:
        return replace(self, eps=float(np.finfo(dtype).eps))


def atoms(x1: FloatArray, x2: FloatArray) -> Behind:
    """Pairs of inputs as a field on their d atoms: C = x x', S = 0."""
    products = (x1[:, None, :] * x2[None, :, :]).reshape(-1, x1.shape[1]).T
    return Behind(products.reshape(-1, 1, len(x1), len(x2)), bare=True)


def _gathered(sums: LayerSums, above: Field, below: Field) -> None:
    """What a weight layer gets from every input with itself."""
    sums.variance += (
        above.second @ below.second.T + above.tangent @ np.broadcast_to(below.tangent, below.second.shape).T
    )
    sums.mask += above.tangent @ below.second.T
    sums.drift += above.mean @ below.mean.T
    sums.gather_biases(np.stack([above.second, above.tangent], axis=1))


def _conditioned(op: LayerOperator, below: Field, k: FloatArray, t: FloatArray) -> Field:
    """The field before an activation: K less the share of what positions tell, and the means, from m below."""
    if op.conditioning is not None:
        k = np.maximum(k - op.conditioning.squares(below.mean), 0.0)
    return Field(k, t, op.means(below.mean), below.saved)
