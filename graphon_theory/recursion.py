"""The recursion of THEORY §3 on operator matrices, over tiles of input pairs.

State per hidden layer and pair: K and T at the layer's nodes, as one array (positions, 2, n1, n2). A layer is one
compiled pass (duals) and two or three small matrix products; a tile is small enough to stay in cache. Tiles are
shared among threads, BLAS runs single-threaded inside them, and their shapes depend on the problem alone, so the
numbers do not depend on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import DTypeLike
from threadpoolctl import ThreadpoolController

from graphon_theory.activations import Activation
from graphon_theory.operators import LayerOperator
from graphon_theory.rules import FloatArray

_CACHE = 3_000_000  # bytes of state per tile: what stays close to a core
_SIDE = 256  # largest side of a tile
_LANES = 16  # sides are multiples of this
_LOW_RANK = 16  # positions from which a low rank of an operator is looked for
_FEATURES = 12_000_000  # bytes of the inputs' own features (variances and their roots) held at a time
Progress = Callable[[int, int], None]  # pairs done, pairs in all
TileFunction = Callable[[Any, "Tile"], tuple[FloatArray, FloatArray]]
Tile = tuple[tuple[int, int], tuple[int, int]]  # rows i0..i1 and columns j0..j1


@dataclass(frozen=True)
class InputLayer:
    """The first layer through a few weighted Gram matrices: variance = variance_mix @ profiles, own likewise.

    Rows of ``profiles`` (R, d) are the distinct rows of the two operator matrices, up to factors, or a basis of them.
    ``own_mix`` is None where it equals ``variance_mix``.
    """

    profiles: FloatArray
    variance_mix: FloatArray
    own_mix: FloatArray | None
    bias: float
    own_bias: float
    terms: int  # products whose roundings a moment gathers, for telling coincident inputs

    def astype(self, dtype: DTypeLike) -> InputLayer:
        own = None if self.own_mix is None else self.own_mix.astype(dtype)
        profiles, mix = self.profiles.astype(dtype), self.variance_mix.astype(dtype)
        return replace(self, profiles=profiles, variance_mix=mix, own_mix=own)

    @classmethod
    def of(cls, op: LayerOperator) -> InputLayer:
        rows = op.variance if op.own is None else np.concatenate([op.variance, op.own])
        profiles, scales, which = _proportional_rows(rows)
        mix = np.zeros((len(rows), len(profiles)))
        mix[np.arange(len(rows)), which] = scales
        terms = 1
        if min(profiles.shape) >= _LOW_RANK:  # many inputs: fewer Gram matrices where the rows span a small space
            left, right = truncated(profiles)
            if len(right) <= min(profiles.shape) // 2:
                profiles, mix, terms = right, mix @ left, (4 + len(right)) ** 2
        n = len(op.variance)
        return cls(profiles, mix[:n], None if op.own is None else mix[n:], op.bias, op.own_bias, terms)


def _proportional_rows(rows: FloatArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """Rows as multiples of distinct profiles: rows[i] = scales[i] * profiles[which[i]] to the last bit or two."""
    scales = np.abs(rows).max(axis=1)
    unit = rows / np.where(scales > 0, scales, 1.0)[:, None]
    _, first, which = np.unique(np.round(unit, 14), axis=0, return_index=True, return_inverse=True)
    return unit[first], scales, which.ravel()


def truncated(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """matrix = left @ right by a singular value decomposition cut at rounding level, each row to its own scale."""
    scales = np.abs(matrix).max(axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(matrix / np.where(scales > 0, scales, 1.0), full_matrices=False)
    rank = max(1, int((s > 4 * np.finfo(float).eps * s[0]).sum()))
    return scales * (u[:, :rank] * s[:rank]), vt[:rank]


class Product:
    """Multiplication by an operator matrix, through its low rank where that saves work."""

    def __init__(self, matrix: FloatArray) -> None:
        self.matrix = matrix
        self.factors: tuple[FloatArray, FloatArray] | None = None
        rows, columns = matrix.shape
        if min(rows, columns) >= _LOW_RANK:
            left, right = truncated(matrix)
            if len(right) * (rows + columns) <= 0.6 * rows * columns:
                self.factors = np.ascontiguousarray(left), np.ascontiguousarray(right)

    def astype(self, dtype: DTypeLike) -> Product:
        out = copy(self)
        out.matrix = self.matrix.astype(dtype)
        if self.factors is not None:
            out.factors = self.factors[0].astype(dtype), self.factors[1].astype(dtype)
        return out

    @property
    def rank(self) -> int:
        """Rows of scratch that a product needs; 0 without factors."""
        return 0 if self.factors is None else len(self.factors[1])

    def __call__(self, values: FloatArray) -> FloatArray:
        """matrix @ values."""
        if self.factors is None:
            return self.matrix @ values
        return self.factors[0] @ (self.factors[1] @ values)

    def into(self, values: FloatArray, out: FloatArray, scratch: FloatArray) -> None:
        """out = matrix @ values."""
        if self.matrix.size == 1:
            np.multiply(values, self.matrix[0, 0], out=out)
            return
        if self.factors is None:
            np.matmul(self.matrix, values, out=out)
            return
        left, right = self.factors
        middle = scratch[: len(right) * values.shape[1]].reshape(len(right), -1)
        np.matmul(right, values, out=middle)
        np.matmul(left, middle, out=out)


class Recursion:
    """The discretised network, ready for any pair of inputs.

    ``dtype`` is that of the pairs; the diagonal and everything that belongs to one input alone stay in float64.
    """

    def __init__(
        self, operators: tuple[LayerOperator, ...], activation: Activation, dtype: DTypeLike = np.float64
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.activation = activation
        self.operators = operators
        self.entry = InputLayer.of(operators[0])
        self.hidden = operators[1:]
        self.products = [(Product(op.variance), None if op.own is None else Product(op.own)) for op in self.hidden]
        self.outputs = len(operators[-1].variance)
        below = [self.entry.terms, *(len(op.variance) for op in operators)]
        eps = float(np.finfo(self.dtype).eps)
        self.parameters = [activation.block_parameters(terms, eps) for terms in below]
        self.pair_entry = self.entry.astype(self.dtype)
        self.pair_products = [
            (signal.astype(self.dtype), None if own is None else own.astype(self.dtype))
            for signal, own in self.products
        ]

    def diagonal(self, x: FloatArray) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
        """NNGP and NTK of every input with itself, (outputs, N) each, and the variances (positions, N) by layer."""
        # the very products that the pairs go through, so that nearly coincident pairs see the same roundings
        entry = self.entry
        gram = entry.profiles @ (x * x).T
        k = entry.variance_mix @ gram + entry.bias
        t = (entry.variance_mix if entry.own_mix is None else entry.own_mix) @ gram + entry.own_bias
        variances = []
        for op, (signal, own) in zip(self.hidden, self.products, strict=True):
            k = np.maximum(k, 0.0)
            variances.append(k)
            dual, derivative = self.activation.moments(k, k, k)
            k = signal(dual)
            t = (k if own is None else own(dual)) + op.own_bias + signal(derivative * t)
            k = k + op.bias
        return k, t, variances

    def features(self, x: FloatArray) -> list[FloatArray]:
        """What the compiled duals need of the variances, by hidden layer (positions, F, N)."""
        return [self.activation.features(q).astype(self.dtype, order="C") for q in self.diagonal(x)[2]]

    @property
    def held_inputs(self) -> int:
        """Inputs whose features fit the memory set aside for them."""
        features = len(self.activation.features(np.ones((1, 1)))[0])
        each = 8 * (features + 2) * sum(len(op.variance) for op in self.operators)
        return max(1, _FEATURES // each)

    def tile_shape(self, n1: int, n2: int) -> tuple[int, int]:
        """Rows and columns of a tile; a function of the problem alone."""
        positions = max([len(op.variance) for op in self.operators[:-1]], default=1)
        profiles = len(self.entry.profiles)
        pairs = _CACHE // (8 * (4 * positions + profiles))
        side = min(_SIDE, max(_LANES, int(np.sqrt(pairs)) // _LANES * _LANES))  # whole vectors in the compiled loops
        return min(side, n1), min(side, n2)


class _Workspace:
    """Buffers of one thread: two states, the part of T that is its own, the Gram matrices."""

    def __init__(self, recursion: Recursion, pairs: int) -> None:
        positions = max(len(op.variance) for op in recursion.operators)
        ranks = (p.rank for both in recursion.products for p in both if p is not None)
        dtype = recursion.dtype
        self.state = np.empty(2 * positions * pairs, dtype)
        self.duals = np.empty(2 * positions * pairs, dtype)
        self.extra = np.empty(positions * pairs, dtype)
        self.gram = np.empty(len(recursion.entry.profiles) * pairs, dtype)
        self.scratch = np.empty(2 * max(ranks, default=0) * pairs, dtype)

    @staticmethod
    def view(buffer: FloatArray, *shape: int) -> FloatArray:
        return buffer[: int(np.prod(shape))].reshape(shape)


def _tile(
    r: Recursion,
    work: _Workspace,
    x1: FloatArray,
    x2: FloatArray,
    f1: list[FloatArray],
    f2: list[FloatArray],
    i: tuple[int, int],
    j: tuple[int, int],
) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK (outputs, n1, n2) of a block of inputs; views of the workspace."""
    (i0, i1), (j0, j1) = i, j
    n1, n2 = i1 - i0, j1 - j0
    n = n1 * n2
    entry = r.pair_entry
    profiles = len(entry.profiles)
    weighted = (entry.profiles[:, None, :] * x1[i0:i1]).reshape(profiles * n1, -1)
    gram = work.view(work.gram, profiles * n1, n2)
    np.matmul(weighted, x2[j0:j1].T, out=gram)
    gram = gram.reshape(profiles, n)

    rows = len(entry.variance_mix)
    state = work.view(work.state, rows, 2, n)
    extra = work.view(work.extra, rows, n)
    np.matmul(entry.variance_mix, gram, out=state[:, 0])
    state[:, 1] = 0.0
    if entry.own_mix is not None:
        np.matmul(entry.own_mix, gram, out=extra)
    bias, own_bias, shared = entry.bias, entry.own_bias, entry.own_mix is None

    for layer, op in enumerate(r.hidden):
        duals = work.view(work.duals, rows, 2, n)
        r.activation.block(
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

    nngp, ntk = state[:, 0], state[:, 1]
    ntk += nngp if shared else extra
    ntk += own_bias
    nngp += bias
    return nngp.reshape(rows, n1, n2), ntk.reshape(rows, n1, n2)


def kernels(
    recursion: Recursion, x: FloatArray, x2: FloatArray | None = None, **options: Any
) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK (outputs, N, N2) of all pairs by the general route; x2 None means x with itself.

    Options: ``threads`` and ``progress`` of :func:`fill`.
    """
    other = x if x2 is None else x2
    step = recursion.tile_shape(len(x), len(other))
    if x2 is None:
        step = (min(step), min(step))

    def prepare(rows: slice, columns: slice) -> TileFunction:
        f1 = recursion.features(x[rows])
        f2 = f1 if x2 is None and rows == columns else recursion.features(other[columns])
        x1, y1 = x[rows].astype(recursion.dtype), other[columns].astype(recursion.dtype)
        return lambda work, tile: _tile(recursion, work, x1, y1, f1, f2, *tile)

    def workspace() -> _Workspace:
        return _Workspace(recursion, step[0] * step[1])

    return fill(recursion, x, x2, step, recursion.held_inputs, prepare, workspace, **options)


def fill(
    recursion: Recursion,
    x: FloatArray,
    x2: FloatArray | None,
    step: tuple[int, int],
    held: int,
    prepare: Callable[[slice, slice], TileFunction],
    workspace: Callable[[], Any],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Fill NNGP and NTK tile by tile; the upper triangle only where x2 is None.

    Inputs are taken in blocks of about ``held``, whole tiles each; ``prepare`` makes of two blocks the function of
    (workspace, tile within the blocks) that computes a tile. Pairs of identical rows get the value of the diagonal
    recursion exactly.
    """
    symmetric = x2 is None
    other = x if x2 is None else x2
    shape = (recursion.outputs, len(x), len(other))
    nngp, ntk = np.empty(shape, recursion.dtype), np.empty(shape, recursion.dtype)
    total = len(x) * (len(x) + step[0]) // 2 if symmetric else len(x) * len(other)
    before = 0

    for rows in _blocks(len(x), held, step[0]):
        for columns in _blocks(len(other), held, step[1]):
            if symmetric and columns.start < rows.start:
                continue
            one = prepare(rows, columns)
            diagonal = symmetric and rows == columns
            tiles = [
                (i, j)
                for i in _spans(rows.stop - rows.start, step[0])
                for j in _spans(columns.stop - columns.start, step[1])
                if not (diagonal and j[0] < i[0])
            ]

            def place(
                work: Any, tile: Tile, one: TileFunction = one, rows: slice = rows, columns: slice = columns
            ) -> int:
                (i0, i1), (j0, j1) = tile
                i, j = slice(rows.start + i0, rows.start + i1), slice(columns.start + j0, columns.start + j1)
                for result, values in zip((nngp, ntk), one(work, tile), strict=True):
                    if symmetric and i == j:  # a Gram matrix with weights is symmetric up to roundings only
                        values[:, *np.tril_indices(i1 - i0)] = values.transpose(0, 2, 1)[:, *np.tril_indices(i1 - i0)]
                    result[:, i, j] = values
                    if symmetric:
                        result[:, j, i] = values.transpose(0, 2, 1)
                return (i1 - i0) * (j1 - j0)

            def report(done: int, _: int, before: int = before) -> None:
                if progress is not None:
                    progress(min(before + done, total), total)

            before += run_tiles(iter(tiles), place, workspace, 0, threads, report)

    own = [recursion.diagonal(x[block])[:2] for block in _blocks(len(x), held, 1)]
    own_nngp, own_ntk = (np.concatenate(parts, axis=1) for parts in zip(*own, strict=True))
    for i, j in identical_rows(x, other):
        nngp[:, i, j], ntk[:, i, j] = own_nngp[:, i], own_ntk[:, i]
    return nngp, ntk


def _spans(n: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def _blocks(n: int, held: int, step: int) -> list[slice]:
    """Blocks of about ``held`` inputs, each of whole tiles."""
    size = max(1, held // step) * step
    return [slice(*span) for span in _spans(n, size)]


def identical_rows(x: FloatArray, x2: FloatArray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index arrays (i, j) of every pair of identical rows, x[i] == x2[j]."""
    # equal rows have equal keys, so that only rows sharing one need to be compared
    first, second = row_keys(x), row_keys(x2)
    order1, order2 = np.argsort(first, kind="stable"), np.argsort(second, kind="stable")
    shared, start1, count1 = np.unique(first[order1], return_index=True, return_counts=True)
    start2 = np.searchsorted(second[order2], shared, side="left")
    count2 = np.searchsorted(second[order2], shared, side="right") - start2
    single = (count1 == 1) & (count2 == 1)
    yield _equal(x, x2, order1[start1[single]], order2[start2[single]])
    for a, n, b, m in zip(start1[~single], count1[~single], start2[~single], count2[~single], strict=True):
        yield _equal(x, x2, np.repeat(order1[a : a + n], m), np.tile(order2[b : b + m], n))


def row_keys(x: FloatArray) -> FloatArray:
    """One number a row (N,), equal for equal rows and practically never otherwise."""
    direction = np.random.default_rng(0).standard_normal(x.shape[1])
    return np.add.reduce(x * direction, axis=1)


def _equal(x: FloatArray, x2: FloatArray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    same = i == j if x is x2 else np.zeros(len(i), dtype=bool)
    rest = np.flatnonzero(~same)
    same[rest] = (x[i[rest]] == x2[j[rest]]).all(axis=1)
    return i[same], j[same]


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def single_threaded_blas() -> AbstractContextManager[Any]:
    """BLAS on one thread: its workers would go on spinning beside the threads that share the tiles."""
    return _blas().limit(limits=1, user_api="blas")


def run_tiles(
    tiles: Iterator[Any],
    one: Callable[[Any, Any], int],
    workspace: Callable[[], Any],
    total: int,
    threads: int | None,
    progress: Progress | None,
) -> int:
    """Run ``one`` on every tile with a few threads, each with a workspace of its own; the sum of what it returns.

    The calling thread only waits, so an interrupt stops the work at the next tile.
    """
    lock, stop = threading.Lock(), threading.Event()
    done = 0

    def worker() -> None:
        nonlocal done
        work = workspace()
        while not stop.is_set():
            with lock:
                tile = next(tiles, None)
            if tile is None:
                return
            count = one(work, tile)
            with lock:
                done += count

    count = threads or int(vars(numba.config)["NUMBA_NUM_THREADS"])
    with single_threaded_blas(), ThreadPoolExecutor(count) as pool:
        futures = {pool.submit(worker) for _ in range(count)}
        try:
            while futures:
                finished, futures = wait(futures, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                if progress is not None:
                    progress(done, total)
        finally:
            stop.set()
    return done
