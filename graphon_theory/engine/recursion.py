"""The recursion of THEORY §3 on operator matrices, over tiles of input pairs: a loop over steps (``steps``).

State per hidden layer and pair: K and T at the layer's nodes, as one array (positions, 2, n1, n2). A layer is one
compiled pass (duals) and two or three small matrix products, and a tile is small enough to stay in cache. Networks of
few positions take the same steps inside one compiled pass (:func:`graphon_theory.engine.tile_loops.narrow_tile`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.products import WORK
from graphon_theory.engine.returns import Return, Returns
from graphon_theory.engine.shared_grams import GramTiles, SharedGrams
from graphon_theory.engine.stage_steps import ForkStep, NormStep, knowing, lost_by_norms, steps_of
from graphon_theory.engine.steps import Buffers, DenseStep, DualStep, Features, Field, InputStep, Step
from graphon_theory.engine.tile_loops import LANES, is_compiled, narrow_tile
from graphon_theory.engine.tiles import Plan, Tile, TileFunction, fill, identical_rows
from graphon_theory.errors import NetworkError
from graphon_theory.networks.stages import Outline, Phi, Weights, plain_outline

_ROOM = 1e8  # factor within which of the smallest and largest number K and T are refused
_CACHE = 3_000_000  # bytes of state per tile: what stays close to a core
_FEW = 64  # pairs below which the operators' matrices would be read too often
_SIDE = 256  # largest side of a tile
_LANES = 16  # sides are multiples of this where they can be
_NARROW = 16  # positions from which BLAS multiplies faster than a compiled loop
_STRIP = 2048  # pairs times positions of a strip of a narrow network
_NARROW_TILE = 1 << 20  # bytes of the Gram matrices of its tile
_PREPARED = 4096  # inputs whose largest variance is looked for at a time
_USELESS = 1e-2  # share of rounding from which a normalised field says nothing
_CARRIED = 4.0  # by how much an error of a field may grow on its way to the outputs,
_ANGLES = 100.0  # and where kinked duals make angles of it: those below 1/100 are looked at by themselves
_FEATURES = 12_000_000  # bytes of the inputs' own features (variances and their roots) held at a time
_LOADINGS = 512_000_000  # the same where positions tell of their units, which takes many numbers an input


@dataclass(frozen=True)
class Diagonal:
    """Every input with itself: what came out of the last step (outputs, N), and what pairs need of every step."""

    output: Field
    features: list[Features]
    returned: list[Return]  # what comes back, where positions tell of it

    @property
    def nngp(self) -> FloatArray:
        return self.output.second

    @property
    def ntk(self) -> FloatArray:
        return self.output.tangent

    @property
    def mean(self) -> FloatArray:
        return self.output.mean


class Recursion:
    """The discretised network, ready for any pair among ``inputs``, whose means and variances its duals are made for.

    ``dtype`` is that of the pairs; the diagonal and everything that belongs to one input alone stay in float64.
    Immutable: what is to differ is made anew.
    """

    def __init__(
        self,
        operators: tuple[LayerOperator, ...],
        outline: Outline | Activation,
        inputs: FloatArray,
        dtype: DTypeLike = np.float64,
        weights: Sequence[FloatArray | None] = (),
    ) -> None:
        """``outline``: of the network, or the one activation of a plain one; ``weights``: see ``steps_of``."""
        self.dtype = np.dtype(dtype)
        if isinstance(outline, Activation):
            outline = plain_outline([outline] * (len(operators) - 1))
        self.outline, self.weights, self.operators = outline, weights, operators
        self.outputs = len(operators[-1].variance)
        self.steps = _fitted(steps_of(outline, operators, weights), inputs)
        self.returns = Returns.of(operators, self.steps) if self.is_plain else None
        self.lost = 0.0  # roundings that LayerNorms make of one
        if any(isinstance(step, NormStep) for step in self.steps):
            some = self.held_inputs
            parts = [lost_by_norms(self.steps, inputs[i : i + some]) for i in range(0, len(inputs), some)]
            lost = np.max(parts, axis=0)
            self.lost = float(lost.max())
            self.steps = knowing(self.steps, lost)
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused when inputs reach it
            self.pair_steps = tuple(step.astype(self.dtype) for step in self.steps)

    @cached_property
    def is_plain(self) -> bool:
        """Whether there are weight layers and activations alone."""
        return all(isinstance(part, Weights | Phi) for part in self.outline)

    @cached_property
    def activation(self) -> Activation | None:
        """The activation of a plain network that has one throughout."""
        found = {part.activation for part in self.outline if isinstance(part, Phi)}
        return next(iter(found)) if self.is_plain and len(found) == 1 else None

    @property
    def input_step(self) -> InputStep:
        """The first step, of the pairs."""
        first = self.pair_steps[0]
        assert isinstance(first, InputStep)
        return first

    def sharing(self, grams: SharedGrams) -> Recursion:
        """The same for exactly the inputs whose Gram tiles these are."""
        return self._with(grams.of(self.input_step.layer))

    def at(self, row: int, column: int) -> Recursion:
        """The same for blocks of those inputs, from a row and a column on."""
        shared = self.input_step.shared
        return self if shared is None else self._with(shared.at(row, column))

    def _with(self, shared: GramTiles | None) -> Recursion:
        out = copy(self)
        out.pair_steps = (replace(self.input_step, shared=shared), *self.pair_steps[1:])
        return out

    @property
    def hidden(self) -> tuple[LayerOperator, ...]:
        """The operators of all layers but the first."""
        return self.operators[1:]

    @property
    def dual_steps(self) -> tuple[DualStep, ...]:
        """The activations, of the pairs."""
        return tuple(step for step in self.pair_steps if isinstance(step, DualStep))

    @property
    def has_drift(self) -> bool:
        return any(op.drift is not None for op in self.operators)

    @property
    def norm_error(self) -> float:
        """What LayerNorms make of roundings where they divide by little, relative to sqrt(K_ii K_jj)."""
        lost = self.lost * float(np.finfo(self.dtype).eps)
        if lost > _USELESS:
            raise NetworkError(
                f"LayerNorm: what reaches it is so even that rounding is {lost:.2g} of what is left of it; give it an "
                "epsilon > 0, or rescale the inputs."
            )
        kinked = any(step.activation.kinked for step in self.dual_steps)
        return min(_ANGLES * lost, math.sqrt(lost)) if kinked else _CARRIED * lost

    @property
    def dual_error(self) -> float:
        """Bound of the error of the duals of all layers together, relative to their scales; 0 for closed forms."""
        return sum(step.made.error for step in self.dual_steps)

    def diagonal(self, x: FloatArray, *, pairs: DTypeLike | None = None) -> Diagonal:
        """The recursion of every input with itself; ``pairs``: the floating type in which pairs will want features."""
        field, features, before = Field.of_inputs(x), [], []
        places: dict[int, Field] = {}
        for place, step in enumerate(self.steps):
            if pairs is not None:
                features.append(step.features(field, pairs))
            if isinstance(step, DualStep):
                before.append(field)
            field = step.on_inputs(field)
            if self.returns is not None and place in self.returns.places:
                places[place] = field
            if isinstance(step, (InputStep, DenseStep)):
                self._check_range(field, step.number)
        if self.returns is None:
            return Diagonal(field, features, [])
        returned, tangent = self.returns.read(before), field.tangent
        for behind, one in zip(places.values(), returned, strict=True):
            tangent = tangent + (one.squares() * behind.tangent).sum(axis=1)
        returned = [one.astype(pairs) for one in returned] if pairs is not None else []
        return Diagonal(field._replace(tangent=tangent), features, returned)

    def _check_range(self, field: Field, number: int) -> None:
        """Refuse K and T that overflow, or are so small that the layers above would lose them without a word."""
        info = np.finfo(self.dtype)
        low, high = float(info.tiny) * _ROOM, float(info.max) / _ROOM
        for name, values in (("variance of signals", field.second), ("tangent kernel", field.tangent)):
            size = np.abs(values)
            most, least = float(size.max(initial=0.0)), float(size.min(where=size > 0, initial=1.0))
            if not most <= high or least < low:
                what = f"reaches {most:.3g}" if not most <= high else f"falls to {least:.3g}"
                raise NetworkError(
                    f"layer {number}: the {name} {what}, beyond what {self.dtype} holds through a layer; change "
                    "weight_variance (gt.balanced keeps signals at variance 1), rescale the inputs"
                    + (", or compute in float64." if self.dtype == np.float32 else ".")
                )

    def means(self, x: FloatArray) -> FloatArray:
        """The outputs' means (outputs, N)."""
        if not self.has_drift:
            return np.zeros((self.outputs, len(x)))
        held = self.held_inputs
        return np.concatenate([self.diagonal(x[i : i + held]).mean for i in range(0, len(x), held)], axis=1)

    @property
    def work(self) -> int:
        """Multiplications that a pair takes."""
        return sum(op.variance.size * (2 if op.mask is None else 3) for op in self.operators)

    @property
    def coordinates(self) -> int:
        """Numbers that loadings take for one input."""
        return sum(op.coordinates for op in self.operators)

    @property
    def held_inputs(self) -> int:
        """Inputs whose features fit the memory set aside for them."""
        each = sum(step.held for step in self.steps) + (0 if self.returns is None else self.returns.held)
        return max(1, (_LOADINGS if self.coordinates else _FEATURES) // (8 * max(1, each)))

    def plan(self, n1: int, n2: int) -> Plan:
        """The tiles for n1 x n2 pairs; a function of the problem alone."""
        if self.narrow is not None:
            columns = min(n2, self.narrow.strip)
            rows = _NARROW_TILE // (columns * self.narrow.positions * self.dtype.itemsize)
            return Plan(min(n1, max(1, rows)), columns, self.held_inputs)
        sizes = [len(self.input_step.layer.profiles), *(len(op.variance) for op in self.operators)]
        work = sizes[0] * sizes[1] + sum(op.variance.size for op in self.hidden)
        arrays = 4 + 2 * max((step.level + 1 for step in self.steps if isinstance(step, ForkStep)), default=0)
        cached = _CACHE // (8 * (arrays * max(sizes[1:-1], default=1) + sizes[0]))
        side = min(_SIDE, int(np.sqrt(min(max(cached, _FEW), WORK // work))))
        side = side // _LANES * _LANES if side >= _LANES else max(1, side)  # whole vectors in the compiled loops
        return Plan(min(side, n1), min(side, n2), self.held_inputs)

    @cached_property
    def narrow(self) -> NarrowNetwork | None:
        """The network in the form of the compiled recursion, if no layer has more positions than that is good for."""
        widest = max(len(self.input_step.layer.profiles), *(len(op.variance) for op in self.operators))
        duals = self.dual_steps
        if (
            not self.is_plain
            or widest >= _NARROW
            or not duals
            or not is_compiled(duals[0].made.block)
            or self.coordinates
            or self.returns is not None
        ):
            return None
        if len({(step.made.block, step.each, len(step.parameters)) for step in duals}) > 1:
            return None
        return NarrowNetwork.of(self)


def _fitted(steps: tuple[Step, ...], inputs: FloatArray) -> tuple[Step, ...]:
    """With duals for the means and variances that these inputs reach."""
    duals = [step for step in steps if isinstance(step, DualStep)]
    drift = any(step.operator.drift is not None for step in steps if isinstance(step, (InputStep, DenseStep)))
    bounds = np.zeros((len(duals), 2))
    if drift or not all(step.activation.bounded for step in duals):
        told = sum(step.operator.coordinates for step in steps if isinstance(step, (InputStep, DenseStep)))
        some = min(_PREPARED, _LOADINGS // (8 * max(1, told)))
        for start in range(0, len(inputs), some):
            field, reached = Field.of_inputs(inputs[start : start + some]), []
            for step in steps:  # duals that are not made yet are made for these inputs alone
                if isinstance(step, DualStep):
                    reached.append(step.reached(field))
                field = step.on_inputs(field)
            bounds = np.maximum(bounds, np.reshape(reached, bounds.shape))
    else:
        bounds[:, 1] = np.inf
    limits = iter(bounds)
    return tuple(step.fitted(*map(float, next(limits))) if isinstance(step, DualStep) else step for step in steps)


@dataclass(frozen=True)
class NarrowNetwork:
    """All layers as the arrays that :func:`graphon_theory.engine.tile_loops.narrow_tile` reads."""

    sizes: np.ndarray[Any, np.dtype[np.intp]]  # receiving positions of every weight layer
    shared: np.ndarray[Any, np.dtype[np.bool_]]  # whether V = W there
    matrices: FloatArray
    biases: FloatArray
    parameters: FloatArray
    positions: int  # most of a layer, profiles of the inputs included

    @classmethod
    def of(cls, r: Recursion) -> NarrowNetwork:
        layer = r.input_step.layer
        dense = [step for step in r.pair_steps if isinstance(step, DenseStep)]
        pairs = [(s.signal.matrix, None if s.masked is None else s.masked.matrix) for s in dense]
        pairs = [(layer.variance_weights, layer.mask_weights), *pairs]
        sizes = np.array([len(op.variance) for op in r.operators], dtype=np.intp)
        return cls(
            sizes,
            np.array([mask is None for _, mask in pairs]),
            np.concatenate([m.ravel() for both in pairs for m in both if m is not None]),
            np.array([[op.bias, op.trained_bias] for op in r.operators]),
            np.array([step.parameters for step in r.dual_steps]),
            max(int(sizes.max()), len(layer.profiles)),
        )

    @property
    def strip(self) -> int:
        """Pairs that go through all layers together."""
        return max(_STRIP // self.positions // LANES, 16) * LANES


def _narrow(r: Recursion, one: Diagonal, other: Diagonal) -> TileFunction:
    """The function of (workspace, tile) that computes a tile of a narrow network in one compiled pass."""
    network, left, right = r.narrow, one.features, other.features
    assert network is not None
    block = r.dual_steps[0].made.block
    duals = [n for n, step in enumerate(r.pair_steps) if isinstance(step, DualStep)]
    stacked1 = np.concatenate([left[n][0] for n in duals])
    stacked2 = stacked1 if left is right else np.concatenate([right[n][0] for n in duals])

    def tile_of(work: Buffers, tile: Tile) -> FloatArray:
        gram = r.input_step.gram(left[0][0], right[0][0], tile, work)
        out = work.view("state", r.outputs, 2, *gram.shape[1:])
        narrow_tile(
            block,
            network.sizes,
            network.shared,
            network.matrices,
            network.biases,
            network.parameters,
            gram,
            stacked1,
            stacked2,
            tile.i0,
            tile.j0,
            tile.upper,
            work.view("duals", 5 * network.positions * network.strip),
            out,
        )
        return out

    return tile_of


def _general(r: Recursion, one: Diagonal, other: Diagonal) -> TileFunction:
    """The same by the steps one after the other."""
    places = () if r.returns is None else r.returns.places
    pairs = dict(zip(places, zip(one.returned, other.returned, strict=True), strict=True))

    def tile_of(work: Buffers, tile: Tile) -> FloatArray:
        field: Any = None
        returned: list[FloatArray] = []
        for place, (step, f1, f2) in enumerate(zip(r.pair_steps, one.features, other.features, strict=True)):
            field = step.on_pairs(field, f1, f2, tile, work)
            if place in pairs:
                back, too = pairs[place]
                returned.append((back.products(too, tile) * field.state[:, 1]).sum(axis=1))
        out: FloatArray = field.settle().state
        for part in returned:
            out[:, 1] += part
        return out

    return tile_of


def kernels(
    recursion: Recursion, x: FloatArray, x2: FloatArray | None = None, **options: Any
) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK (outputs, N, N2) of all pairs by the general route; x2 None means x with itself.

    Options: ``threads`` and ``progress`` of :func:`graphon_theory.engine.tiles.fill`.
    """
    other = x if x2 is None else x2
    plan = recursion.plan(len(x), len(other))
    whole = recursion.diagonal(x, pairs=recursion.dtype) if len(x) <= plan.block else None  # one block
    form = _general if recursion.narrow is None else _narrow

    def of(inputs: FloatArray) -> Diagonal:
        return recursion.diagonal(inputs, pairs=recursion.dtype)

    def prepare(rows: slice, columns: slice) -> TileFunction:
        left = of(x[rows]) if whole is None else whole
        here = recursion.at(rows.start, columns.start)
        return form(here, left, left if x2 is None and rows == columns else of(other[columns]))

    return all_pairs(recursion, x, x2, plan, prepare, lambda: Buffers(recursion.dtype), whole, **options)


def all_pairs(
    recursion: Recursion,
    x: FloatArray,
    x2: FloatArray | None,
    plan: Plan,
    prepare: Callable[[slice, slice], TileFunction],
    workspace: Callable[[], Any],
    diagonal: Diagonal | None = None,
    **options: Any,
) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK by tiles; pairs of identical rows get the value of the diagonal recursion exactly.

    ``diagonal``: that of ``x``, if it is known already.
    """
    nngp, ntk = fill(x, x2, recursion.outputs, recursion.dtype, plan, prepare, workspace, **options)
    blocks = (x[start : start + plan.held] for start in range(0, len(x), plan.held))
    parts = [recursion.diagonal(block) for block in blocks] if diagonal is None else [diagonal]
    variance, tangent = (np.concatenate([getattr(d, name) for d in parts], axis=1) for name in ("nngp", "ntk"))
    for i, j in identical_rows(x, x if x2 is None else x2):
        nngp[:, i, j], ntk[:, i, j] = variance[:, i], tangent[:, i]
    return nngp, ntk
