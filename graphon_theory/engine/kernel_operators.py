"""kernel_operator: limit kernels that are never held whole: linear operators whose products make tiles as they go."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.sparse.linalg import LinearOperator

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.data.checks import as_inputs, checked_dtype, one_of, positive_number
from graphon_theory.data.labels import Labels, by_rows, labels_of
from graphon_theory.data.memory import available_memory
from graphon_theory.engine.discretisation import check_problem
from graphon_theory.engine.kernel_stores import filled_store
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.engine.threads import checked_threads, run_tiles
from graphon_theory.engine.tile_loops import default_threads
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.networks.network import Network

if TYPE_CHECKING:
    import xarray as xr

_SHARE = 0.5  # of the memory that is free, where no bound is given
_SIDES = (1024, 512, 256, 128)  # of tiles, the largest that the bound allows
_ROWS = 128  # of a tile that become float64 at a time
_VECTORS = 512  # of a product, about
_SOLVER = 768  # vectors that a solver holds beside them, about: room for tiles is what these leave


class _Tile(NamedTuple):
    number: int
    rows: slice
    columns: slice


class KernelOperator(LinearOperator):
    """A limit kernel (N, N2) as a SciPy LinearOperator; `kernel_operator` makes it.

    Products cost N N2 pairs of the engine where tiles are not kept, whatever the number of vectors: give many at once.
    Their sums are taken in float64 and in an order of their own, so that the numbers do not depend on threads.
    """

    def __init__(
        self,
        ready: PreparedKernel,
        kernel: str,
        memory: float,
        threads: int | None,
        labels: tuple[Labels, Labels],
        read: Callable[[slice, slice], FloatArray] | None = None,
        side: int | None = None,
    ) -> None:
        self.ready, self.kernel, self.memory, self.threads, self.labels = ready, kernel, memory, threads, labels
        self.symmetric = ready.x2 is None
        self.precision = ready.recursion.dtype
        super().__init__(np.dtype(np.float64), (len(ready.x), len(ready.columns)))
        self._read = read
        self.side = self._side(threads or default_threads(), _SIDES if side is None else (side,))
        self._kept: dict[int, FloatArray] = {}
        self._lock = threading.Lock()
        self._room = memory - self._scratch(threads or default_threads(), self.side) - 8 * _SOLVER * max(self.shape)
        self.pairs_computed = 0  # by the engine so far

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def attrs(self) -> dict[str, Any]:
        """The network as text, ``quadrature_error`` and the rest of what `limit_kernel` says."""
        return {**self.ready.attrs, "kernel": self.kernel, "memory": self.memory}

    @property
    def T(self) -> LinearOperator:
        """The transpose: itself where it is symmetric."""
        return self if self.symmetric else super().T

    def diagonal(self) -> FloatArray:
        """K(x_i, x_i), (N,), in float64 and without any tile. Raises InputError for a kernel between two sets."""
        if not self.symmetric:
            raise InputError("diagonal: this kernel is between two sets of inputs, whose pairs have no diagonal.")
        return np.asarray(self.ready.diagonal(self.kernel)[0])

    @property
    def trace(self) -> float:
        """The sum of the diagonal."""
        return float(self.diagonal().sum())

    def columns(self, chosen: IntArray) -> FloatArray:
        """Some columns (N, k) in float64, computed by the engine."""
        found = np.empty((self.shape[0], len(chosen)))
        for start in range(0, self.shape[0], self.side):
            rows = slice(start, min(start + self.side, self.shape[0]))
            found[rows] = self._of(self.ready.block(rows, chosen, threads=self.threads))
        self.pairs_computed += found.size
        return found

    def entries(self, start: int, stop: int) -> FloatArray:
        """K(x_i, x2_i) for i from start to stop, in float64."""
        some = slice(start, stop)
        return self._of(self.ready.block(some, some, threads=self.threads)).diagonal().astype(np.float64)

    def dense(self) -> FloatArray:
        """The whole matrix in float64; what asks for it looks at the memory first."""
        found = np.empty(self.shape)
        for tile in self._tiles():
            values = self._values(tile)
            found[tile.rows, tile.columns] = values
            if self.symmetric:
                found[tile.columns, tile.rows] = values.T
        return found

    def squares(self, weights: FloatArray) -> float:
        """sum_ij w_i w_j K_ij^2 for weights (N,) of the inputs of both sides."""
        total = 0.0
        for tile in self._tiles():
            values = self._values(tile).astype(np.float64)
            twice = 2 if self.symmetric and tile.rows != tile.columns else 1
            total += twice * float(weights[tile.rows] @ values**2 @ weights[tile.columns])
        return total

    @property
    def keeps_all(self) -> bool:
        """Whether all tiles fit the bound, so that products after the first compute nothing."""
        return self._room >= sum(self._size(tile) for tile in self._tiles() if tile.number not in self._kept)

    def _size(self, tile: _Tile) -> int:
        """Bytes of a tile."""
        rows, columns = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
        return rows * columns * self.precision.itemsize

    @property
    def kept_share(self) -> float:
        """The share of tiles that are in memory."""
        return len(self._kept) / sum(1 for _ in self._tiles())

    # --- products -----------------------------------------------------------------------------------------------------

    def _matvec(self, v: FloatArray) -> FloatArray:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _rmatvec(self, v: FloatArray) -> FloatArray:
        return self._rmatmat(np.reshape(v, (-1, 1)))[:, 0]

    def _adjoint(self) -> LinearOperator:
        return self if self.symmetric else super()._adjoint()

    def _matmat(self, v: FloatArray) -> FloatArray:
        return self._product(v, transposed=False)

    def _rmatmat(self, v: FloatArray) -> FloatArray:
        return self._product(v, transposed=not self.symmetric)

    def _product(self, v: FloatArray, transposed: bool) -> FloatArray:
        if np.iscomplexobj(v):
            return self._product(v.real, transposed) + 1j * self._product(v.imag, transposed)
        v = np.ascontiguousarray(v, dtype=np.float64)
        out = np.zeros((self.shape[int(transposed)], v.shape[1]))
        sums = _InOrder(out)

        def one(_: None, tile: _Tile) -> int:
            values = self._values(tile)
            mirrored = self.symmetric and tile.rows != tile.columns
            right = None if transposed else v[tile.columns]
            left = v[tile.rows] if transposed or mirrored else None
            there, back = _both_products(values, right, left)
            parts = [(tile.rows, there), (tile.columns, back)]
            sums.add(tile.number, parts)
            return values.size

        run_tiles(self._tiles(), one, lambda: None, self.threads, None)
        return out

    def _tiles(self) -> Iterator[_Tile]:
        side, number = self.side, 0
        for i in range(0, self.shape[0], side):
            for j in range(i if self.symmetric else 0, self.shape[1], side):
                yield _Tile(number, slice(i, min(i + side, self.shape[0])), slice(j, min(j + side, self.shape[1])))
                number += 1

    def _values(self, tile: _Tile) -> FloatArray:
        """A tile from memory, from the store, or from the engine; kept while there is room."""
        kept = self._kept.get(tile.number)
        if kept is not None:
            return kept
        if self._read is not None:
            values = self._read(tile.rows, tile.columns)
        else:
            values = self._of(self.ready.block(tile.rows, tile.columns))
            with self._lock:
                self.pairs_computed += values.size
        with self._lock:
            room = values.nbytes <= self._room
            self._room -= values.nbytes * room
        if room:
            self._kept[tile.number] = values = values.copy()  # the engine's own holds both kernels
        return values

    def _of(self, kernels: tuple[FloatArray, FloatArray]) -> FloatArray:
        nngp, ntk = kernels
        return np.asarray((ntk if self.kernel == "ntk" else nngp)[0])

    def _side(self, threads: int, sides: tuple[int, ...]) -> int:
        for side in sides:
            if self._scratch(threads, side) <= self.memory:
                return side
        least = self._scratch(threads, sides[-1])
        raise InputError(
            f"memory: {self.memory:,.0f} bytes are less than {threads} threads need for a tile each, {least:,.0f}; "
            "allow more, or take fewer threads or smaller tiles."
        )

    def _scratch(self, threads: int, side: int) -> float:
        """Bytes that products take beside vectors, with both kernels of a tile and the inputs that close pairs copy."""
        side = min(side, max(self.shape))
        d = self.ready.x.shape[1]
        tile = 3 * side * side * self.precision.itemsize + 8 * _ROWS * side + 16 * side * (d + _VECTORS)
        return threads * (tile + self.ready.scratch)


class _InOrder:
    """Sums of tiles' parts in the order of the tiles, whichever thread comes first: numbers do not depend on them."""

    def __init__(self, out: FloatArray) -> None:
        self.out, self.next, self.lock = out, 0, threading.Lock()
        self.early: dict[int, list[tuple[slice, FloatArray | None]]] = {}

    def add(self, number: int, parts: list[tuple[slice, FloatArray | None]]) -> None:
        with self.lock:
            self.early[number] = parts
            while self.next in self.early:
                for rows, values in self.early.pop(self.next):
                    if values is not None:
                        self.out[rows] += values
                self.next += 1


def _both_products(
    tile: FloatArray, right: FloatArray | None, left: FloatArray | None
) -> tuple[FloatArray | None, FloatArray | None]:
    """tile @ right and tile.T @ left in float64, as far as they are asked for."""
    there = None if right is None else np.empty((len(tile), right.shape[1]))
    back = None if left is None else np.zeros((tile.shape[1], left.shape[1]))
    for start in range(0, len(tile), _ROWS):
        rows = slice(start, start + _ROWS)
        strip = tile[rows].astype(np.float64, copy=False)
        if there is not None and right is not None:
            np.matmul(strip, right, out=there[rows])
        if back is not None and left is not None:
            back += strip.T @ left[rows]
    return there, back


def kernel_operator(
    network: Network,
    x: ArrayLike | xr.DataArray,
    x2: ArrayLike | xr.DataArray | None = None,
    *,
    kernel: str = "ntk",
    memory: float | None = None,
    rtol: float = 1e-10,
    dtype: DTypeLike = np.float64,
    threads: int | None = None,
    store: str | os.PathLike[str] | None = None,
    tile: int | None = None,
) -> KernelOperator:
    """The limit kernel Theta(x_i, x2_j) as a linear operator that is never held whole unless the bound allows it.

    Products with vectors and blocks of vectors go through the kernel tile by tile: each tile above the diagonal is
    computed once and serves both sides. Tiles are kept as far as ``memory`` allows, in the precision of ``dtype``;
    the others are computed anew for every product. Numbers are those of `limit_kernel` with the same nodes, to rounding
    of sums.

    Args:
        network, x, x2, rtol, dtype, threads: as in `limit_kernel`; the network has one output.
        kernel: "ntk" or "nngp".
        memory: bytes that kept tiles, the threads' tiles at work and some 800 vectors of a solver may take together,
            beside the inputs; half of what is free if left out.
        store, tile: as in `limit_kernel`: tiles that are not there are computed and written first, and read from there
            where memory does not keep them.

    Returns a `scipy.sparse.linalg.LinearOperator` of shape (N, N2) with ``attrs`` (the network as text,
    ``quadrature_error``, ...), ``trace``, ``diagonal()`` and ``columns(indices)``. `spectrum`, `gradient_flow`,
    `gradient_descent`, `kernel_regression`, `nngp_posterior`, and `target_alignment` take it in place of a kernel, and
    one of (x_new, x) as test kernel.

    Raises as `limit_kernel`, and InputError where ``memory`` does not hold a tile for each thread.
    """
    first = as_inputs(x, "x")
    second = None if x2 is None else as_inputs(x2, "x2", like=x)
    check_problem(network, first, second, rtol)
    if network.outputs != 1:
        raise NetworkError(f"network: expected one output, got {network.outputs}; take the outputs one at a time.")
    one_of("kernel", kernel, ("ntk", "nngp"))
    most = _SHARE * available_memory() if memory is None else positive_number("memory", memory)
    ready = PreparedKernel.of(network, first, second, float(rtol), checked_dtype(dtype))
    rows, columns = (Labels(name, labels_of(by_rows(one))) for name, one in (("x", x), ("x2", x if x2 is None else x2)))
    threads = checked_threads(threads)
    if store is None:
        if tile is not None:
            raise InputError("tile: tiles are those of a store; give one, or leave it out.")
        return KernelOperator(ready, kernel, most, threads, (rows, columns))
    kept = filled_store(ready, store, tile, threads)
    side = kept.problem.tile
    return KernelOperator(ready, kernel, most, threads, (rows, columns), partial(kept.read, kernel), side)
