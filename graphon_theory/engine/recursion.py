"""The recursion of THEORY §3 on operator matrices, over tiles of input pairs.

State per hidden layer and pair: K and T at the layer's nodes, as one array (positions, 2, n1, n2). A layer is one
compiled pass (duals) and two or three small matrix products, and a tile is small enough to stay in cache. Networks of
few positions take the same steps inside one compiled pass (:func:`graphon_theory.engine.tile_loops.narrow_tile`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.activations.activation import Activation
from graphon_theory.activations.dual_passes import DualPass
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.input_layers import InputLayer
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.products import WORK, Product
from graphon_theory.engine.tile_loops import LANES, is_compiled, narrow_tile
from graphon_theory.engine.tiles import Plan, Tile, TileFunction, fill, identical_rows

_CACHE = 3_000_000  # bytes of state per tile: what stays close to a core
_FEW = 64  # pairs below which the operators' matrices would be read too often
_SIDE = 256  # largest side of a tile
_LANES = 16  # sides are multiples of this where they can be
_NARROW = 16  # positions from which BLAS multiplies faster than a compiled loop
_STRIP = 2048  # pairs times positions of a strip of a narrow network
_NARROW_TILE = 1 << 17  # pairs times profiles of its tile
_PREPARED = 4096  # inputs whose largest variance is looked for at a time
_FEATURES = 12_000_000  # bytes of the inputs' own features (variances and their roots) held at a time
_SHARES = 512_000_000  # the same where positions tell of their units, which takes many numbers an input


class Diagonal(NamedTuple):
    """Every input with itself: results (outputs, N), and means and variances (positions, N) of every hidden layer.

    ``shares``: of what is known of the parameters of every weight layer (positions, r, N), None where nothing is.
    """

    nngp: FloatArray
    ntk: FloatArray
    mean: FloatArray
    variances: list[FloatArray]
    means: list[FloatArray]
    shares: list[FloatArray | None]


class Recursion:
    """The discretised network, ready for any pair among ``inputs``, whose means and variances its duals are made for.

    ``dtype`` is that of the pairs; the diagonal and everything that belongs to one input alone stay in float64.
    """

    def __init__(
        self,
        operators: tuple[LayerOperator, ...],
        activation: Activation,
        inputs: FloatArray,
        dtype: DTypeLike = np.float64,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.activation = activation
        self.operators = operators
        self.entry = InputLayer.of(operators[0])
        self.hidden = operators[1:]
        self.products = [(Product(op.variance), None if op.own is None else Product(op.own)) for op in self.hidden]
        self.outputs = len(operators[-1].variance)
        self.passes = self._passes(inputs)
        below = [self.entry.terms, *(len(op.variance) for op in operators[:-1])]
        below = [n + (0 if op.known is None else len(op.known.bias)) for n, op in zip(below, operators, strict=True)]
        eps = float(np.finfo(self.dtype).eps)
        self.parameters = [duals.parameters(terms, eps) for duals, terms in zip(self.passes, below, strict=False)]
        self.pair_entry = self.entry.astype(self.dtype)
        self.pair_products = [
            (signal.astype(self.dtype), None if own is None else own.astype(self.dtype))
            for signal, own in self.products
        ]

    @property
    def has_drift(self) -> bool:
        return any(op.drift is not None for op in self.operators)

    @property
    def dual_error(self) -> float:
        """Bound of the error of the duals of all layers together, relative to their scales; 0 for closed forms."""
        return sum(duals.error for duals in self.passes)

    def _passes(self, inputs: FloatArray) -> list[DualPass]:
        """The duals of every hidden layer, for the means and variances that these inputs reach."""
        if self.activation.bounded and not self.has_drift:
            return [self.activation.prepared()] * len(self.hidden)
        bounds = np.zeros((len(self.hidden), 2))
        some = min(_PREPARED, _SHARES // (8 * max(1, self._known)))
        for start in range(0, len(inputs), some):
            diagonal = self._layers(inputs[start : start + some], None)
            reached = [
                [np.abs(mean).max(), q.max()] for mean, q in zip(diagonal.means, diagonal.variances, strict=True)
            ]
            bounds = np.maximum(bounds, np.reshape(reached, bounds.shape))
        return [self.activation.prepared(*map(float, bound)) for bound in bounds]

    def diagonal(self, x: FloatArray) -> Diagonal:
        """The recursion of every input with itself."""
        return self._layers(x, self.passes)

    def _layers(self, x: FloatArray, passes: list[DualPass] | None) -> Diagonal:
        """Without ``passes`` each layer's are made for these inputs alone."""
        # the very products that the pairs go through, so that nearly coincident pairs see the same roundings
        entry = self.entry
        gram = entry.profiles @ (x * x).T
        k = entry.variance_mix @ gram + entry.bias
        t = (entry.variance_mix if entry.own_mix is None else entry.own_mix) @ gram + entry.own_bias
        mean, known = self.operators[0].means(x.T), self.operators[0].shares(x.T)
        means, variances, shares = [], [], [known]
        for layer, (op, (signal, own)) in enumerate(zip(self.hidden, self.products, strict=True)):
            k = np.maximum(k if known is None else k - (known**2).sum(axis=1), 0.0)
            means.append(mean)
            variances.append(k)
            if passes is None:
                duals = self.activation.prepared(float(np.abs(mean).max()), float(k.max()))
            else:
                duals = passes[layer]
            below = mean if op.drift is None else duals.mean(mean, k)
            dual, derivative = duals.diagonal(mean, k)
            k = signal(dual)
            t = (k if own is None else own(dual)) + op.own_bias + signal(derivative * t)
            k = k + op.bias
            mean, known = op.means(below), op.shares(below)
            shares.append(known)
        if known is not None:
            k = np.maximum(k - (known**2).sum(axis=1), 0.0)
        return Diagonal(k, t, mean, variances, means, shares)

    def means(self, x: FloatArray) -> FloatArray:
        """The outputs' means (outputs, N)."""
        if not self.has_drift:
            return np.zeros((self.outputs, len(x)))
        held = self.held_inputs
        return np.concatenate([self.diagonal(x[i : i + held]).mean for i in range(0, len(x), held)], axis=1)

    def features(self, x: FloatArray, diagonal: Diagonal | None = None) -> list[FloatArray]:
        """What the compiled duals need of means and variances, by hidden layer (positions, F, N).

        ``diagonal``: that of ``x``, if it is known already.
        """
        diagonal = self.diagonal(x) if diagonal is None else diagonal
        return [
            duals.features(mean, q).astype(self.dtype, order="C")
            for duals, mean, q in zip(self.passes, diagonal.means, diagonal.variances, strict=True)
        ]

    def shares(self, diagonal: Diagonal) -> list[FloatArray | None]:
        """What is known of every weight layer, of which products of pairs are taken out of K (positions, r, N)."""
        return [None if known is None else known.astype(self.dtype, copy=False) for known in diagonal.shares]

    @property
    def held_inputs(self) -> int:
        """Inputs whose features fit the memory set aside for them."""
        each = sum((n + 2) * len(op.variance) for n, op in zip(self._features_each, self.operators, strict=False))
        return max(1, (_SHARES if self._known else _FEATURES) // (8 * max(1, each + self._known)))

    @cached_property
    def _known(self) -> int:
        """Numbers that shares take for one input."""
        return sum(op.known.bias.size for op in self.operators if op.known is not None)

    @cached_property
    def _features_each(self) -> list[int]:
        """Features of a position and an input, by hidden layer."""
        one = np.zeros((1, 1))
        return [duals.features(one, one).shape[1] for duals in self.passes]

    def plan(self, n1: int, n2: int) -> Plan:
        """The tiles for n1 x n2 pairs; a function of the problem alone."""
        if self.narrow is not None:
            columns = min(n2, self.narrow.strip)
            return Plan(min(n1, max(1, _NARROW_TILE // (columns * self.narrow.positions))), columns, self.held_inputs)
        sizes = [len(self.entry.profiles), *(len(op.variance) for op in self.operators)]
        work = sum(a * b for a, b in pairwise(sizes))
        cached = _CACHE // (8 * (4 * max(sizes[1:-1], default=1) + sizes[0]))
        side = min(_SIDE, int(np.sqrt(min(max(cached, _FEW), WORK // work))))
        side = side // _LANES * _LANES if side >= _LANES else max(1, side)  # whole vectors in the compiled loops
        return Plan(min(side, n1), min(side, n2), self.held_inputs)

    @cached_property
    def narrow(self) -> NarrowNetwork | None:
        """The network in the form of the compiled recursion, if no layer has more positions than that is good for."""
        widest = max(len(self.entry.profiles), *(len(op.variance) for op in self.operators))
        if widest >= _NARROW or not self.hidden or not is_compiled(self.passes[0].block):
            return None
        if any(op.known is not None for op in self.operators):
            return None
        kinds = {(duals.block, features) for duals, features in zip(self.passes, self._features_each, strict=True)}
        if len(kinds) > 1 or len({len(p) for p in self.parameters}) > 1:
            return None
        return NarrowNetwork.of(self)


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
        entry = r.pair_entry
        matrices = [entry.variance_mix] if entry.own_mix is None else [entry.variance_mix, entry.own_mix]
        for products in r.pair_products:
            matrices += [p.matrix for p in products if p is not None]
        shared = [entry.own_mix is None, *(own is None for _, own in r.pair_products)]
        sizes = np.array([len(op.variance) for op in r.operators], dtype=np.intp)
        return cls(
            sizes,
            np.array(shared),
            np.concatenate([m.ravel() for m in matrices]),
            np.array([[op.bias, op.own_bias] for op in r.operators]),
            np.array(r.parameters),
            max(int(sizes.max()), len(entry.profiles)),
        )

    @property
    def strip(self) -> int:
        """Pairs that go through all layers together."""
        return max(_STRIP // self.positions // LANES, 16) * LANES


def _narrow_tile(
    r: Recursion, x1: FloatArray, x2: FloatArray, f1: list[FloatArray], f2: list[FloatArray]
) -> TileFunction:
    """The function of (workspace, tile) that computes a tile of a narrow network."""
    network = r.narrow
    assert network is not None
    stacked1 = np.concatenate(f1)
    stacked2 = stacked1 if f1 is f2 else np.concatenate(f2)

    def one(work: _Workspace, tile: Tile) -> FloatArray:
        n1, n2 = tile.i1 - tile.i0, tile.j1 - tile.j0
        gram = work.view(work.gram, len(r.entry.profiles), n1, n2)
        r.pair_entry.gram(x1[tile.i0 : tile.i1], x2[tile.j0 : tile.j1], gram)
        out = work.view(work.state, r.outputs, 2, n1, n2)
        narrow_tile(
            r.passes[0].block,
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
            work.duals,
            out,
        )
        return out

    return one


class _Workspace:
    """Buffers of one thread: two states, the part of T that is its own, the Gram matrices."""

    def __init__(self, recursion: Recursion, pairs: int) -> None:
        dtype, network = recursion.dtype, recursion.narrow
        self.gram = np.empty(len(recursion.entry.profiles) * pairs, dtype)
        if network is not None:  # the state of a strip, and the results of the tile
            self.duals = np.empty(5 * network.positions * network.strip, dtype)
            self.state = np.empty(2 * recursion.outputs * pairs, dtype)
            return
        positions = max(len(op.variance) for op in recursion.operators)
        ranks = (p.rank for both in recursion.products for p in both if p is not None)
        self.state = np.empty(2 * positions * pairs, dtype)
        self.duals = np.empty(2 * positions * pairs, dtype)
        self.extra = np.empty(positions * pairs, dtype)
        self.scratch = np.empty(2 * max(ranks, default=0) * pairs, dtype)

    @staticmethod
    def view(buffer: FloatArray, *shape: int) -> FloatArray:
        return buffer[: int(np.prod(shape))].reshape(shape)


def _wide_tile(
    r: Recursion,
    work: _Workspace,
    x1: FloatArray,
    x2: FloatArray,
    f1: list[FloatArray],
    f2: list[FloatArray],
    known1: list[FloatArray | None],
    known2: list[FloatArray | None],
    tile: Tile,
) -> FloatArray:
    """NNGP and NTK (outputs, 2, n1, n2) of a tile, a view of the workspace."""
    i0, i1, j0, j1, _ = tile
    n1, n2 = i1 - i0, j1 - j0
    n = n1 * n2

    def take_out_known(layer: int, state: FloatArray) -> None:
        one, other = known1[layer], known2[layer]
        if one is not None and other is not None:
            products = np.matmul(one[:, :, i0:i1].transpose(0, 2, 1), other[:, :, j0:j1])
            state[:, 0] -= products.reshape(len(state), n)

    entry = r.pair_entry
    gram = work.view(work.gram, len(entry.profiles), n1, n2)
    entry.gram(x1[i0:i1], x2[j0:j1], gram)
    gram = gram.reshape(-1, n)

    rows = len(entry.variance_mix)
    state = work.view(work.state, rows, 2, n)
    extra = work.view(work.extra, rows, n)
    if entry.separate is not None:
        np.multiply(entry.separate, gram, out=state[:, 0])
    else:
        np.matmul(entry.variance_mix, gram, out=state[:, 0])
    state[:, 1] = 0.0
    if entry.own_mix is not None:
        np.matmul(entry.own_mix, gram, out=extra)
    bias, own_bias, shared = entry.bias, entry.own_bias, entry.own_mix is None
    take_out_known(0, state)

    for layer, op in enumerate(r.hidden):
        duals = work.view(work.duals, rows, 2, n)
        r.passes[layer].block(
            state.reshape(rows, 2, n1, n2),
            extra.reshape(rows, n1, n2),
            shared,
            bias,
            own_bias,
            f1[layer],
            f2[layer],
            i0,
            j0,
            duals.reshape(rows, 2, n1, n2),
            r.parameters[layer],
        )
        below, rows = rows, len(op.variance)
        state = work.view(work.state, rows, 2, n)
        extra = work.view(work.extra, rows, n)
        signal, own = r.pair_products[layer]
        signal.into(duals.reshape(below, 2 * n), state.reshape(rows, 2 * n), work.scratch)
        if own is not None:
            own.into(duals[:, 0], extra, work.scratch)
        bias, own_bias, shared = op.bias, op.own_bias, own is None
        take_out_known(layer + 1, state)

    nngp, ntk = state[:, 0], state[:, 1]
    ntk += nngp if shared else extra
    ntk += own_bias
    nngp += bias
    return state.reshape(rows, 2, n1, n2)


def kernels(
    recursion: Recursion, x: FloatArray, x2: FloatArray | None = None, **options: Any
) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK (outputs, N, N2) of all pairs by the general route; x2 None means x with itself.

    Options: ``threads`` and ``progress`` of :func:`graphon_theory.engine.tiles.fill`.
    """
    other = x if x2 is None else x2
    plan = recursion.plan(len(x), len(other))
    own = recursion.diagonal(x) if len(x) <= plan.block else None  # one block

    def prepare(rows: slice, columns: slice) -> TileFunction:
        one = recursion.diagonal(x[rows]) if own is None else own
        two = one if x2 is None and rows == columns else recursion.diagonal(other[columns])
        f1 = recursion.features(x[rows], one)
        f2 = f1 if one is two else recursion.features(other[columns], two)
        x1, y1 = (z.astype(recursion.dtype, copy=False) for z in (x[rows], other[columns]))
        if recursion.narrow is not None:
            return _narrow_tile(recursion, x1, y1, f1, f2)
        known1, known2 = recursion.shares(one), recursion.shares(two)
        return lambda work, tile: _wide_tile(recursion, work, x1, y1, f1, f2, known1, known2, tile)

    def workspace() -> _Workspace:
        return _Workspace(recursion, plan.rows * plan.columns)

    return all_pairs(recursion, x, x2, plan, prepare, workspace, own, **options)


def all_pairs(
    recursion: Recursion,
    x: FloatArray,
    x2: FloatArray | None,
    plan: Plan,
    prepare: Callable[[slice, slice], TileFunction],
    workspace: Callable[[], Any],
    own: Diagonal | None = None,
    **options: Any,
) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK by tiles; pairs of identical rows get the value of the diagonal recursion exactly.

    ``own``: the diagonal of ``x``, if it is known already.
    """
    nngp, ntk = fill(x, x2, recursion.outputs, recursion.dtype, plan, prepare, workspace, **options)
    blocks = (x[start : start + plan.held] for start in range(0, len(x), plan.held))
    parts = [recursion.diagonal(block) for block in blocks] if own is None else [own]
    own_nngp, own_ntk = (np.concatenate([getattr(d, name) for d in parts], axis=1) for name in ("nngp", "ntk"))
    for i, j in identical_rows(x, x if x2 is None else x2):
        nngp[:, i, j], ntk[:, i, j] = own_nngp[:, i], own_ntk[:, i]
    return nngp, ntk
