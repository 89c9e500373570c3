"""Sums over the surviving connections of one layer, the heart of a masked tangent kernel.

    R[o](x, x') = sum_ij M_ij G[o, i](x) G2[o, i](x') A[j](x) A2[j](x')

``G`` has shape (outputs, n_out, N), ``A`` (n_in, N), the second pair the same with N2. Every route below is
exact; they differ in the work they do, and the least is chosen:

- block: rows of the mask that repeat (a full mask, a 0/1 step mask), one pair of products per pattern,
  (G^T G) * (A^T A);
- pairs: few inputs, M times the products A A2 of all input pairs, then weighted by G G2;
- gather: many inputs, the surviving connections J = G_i A_j in chunks, J^T J accumulated: 2 N N2 nnz flops;
- shared: many inputs and outputs, sum A_j A2_j once per row and weight it by each output's G_i G2_i.

Rows more than half full are gathered as the full row minus its pruned connections.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Lower-triangle tiles: 0.6 of the flops of the full product. 96 columns was fastest at N = 256 and 1024.
_TILE = 96
# Connections per chunk. On a CPU J of 2,048 x 256 doubles stays in a core's cache. Elsewhere every chunk waits for a
# handful of launches: on an H200 (width 4,096, density 0.2, N = 256) 2,048 took 120 ms, 16,384 20, 65,536 17.
_CONNECTIONS = {"cpu": 2048}
_MANY_CONNECTIONS = 1 << 16
# Elements of the mask whose indices are listed at a time.
_LISTED = 1 << 22


@dataclass(frozen=True)
class Side:
    """The signals around a layer for one set of inputs: g (outputs, n_out, N) above, a (n_in, N) below."""

    g: Tensor
    a: Tensor


def masked_gram(mask: Tensor, left: Side, right: Side | None, memory: int) -> Tensor:
    """R of shape (outputs, N, N2).

    ``right`` None means that both input sets are the same; then only the lower triangle holds R.
    """
    outputs, _, n = left.g.shape
    n2 = n if right is None else right.a.shape[1]
    total = left.a.new_zeros(outputs, n, n2)
    counts = mask.sum(1)
    single = counts > 0
    for rows, columns in repeated_rows(mask):
        single[rows] = False
        _add_block(total, rows, columns, left, right)
    dense = single & (2 * counts > mask.shape[1])
    gathered = int(torch.minimum(counts, mask.shape[1] - counts)[single].sum())
    rows = single.nonzero()[:, 0]
    work = _Work(len(rows), mask.shape[1], gathered, outputs, n, n2, mask.device.type == "cpu")
    if not len(rows):
        pass
    elif work.pairs < min(work.gather, work.shared):
        _add_pairs(total, mask, rows, left, right, memory)
    else:
        if dense.any():
            _add_block(total, dense.nonzero()[:, 0], None, left, right)
        for chosen, pattern, sign in ((single & ~dense, mask, 1.0), (dense, ~mask, -1.0)):
            rows = chosen.nonzero()[:, 0]
            if work.shared < work.gather:
                _add_shared(total, pattern, rows, left, right, sign)
            else:
                _add_gathered(total, pattern, rows, left, right, sign, memory)
    return total


@dataclass(frozen=True)
class _Work:
    """Time of each route in units of a multiply-add inside a large product.

    As measured on CPUs, and on an H200, where a route that goes row by row waits for launches (2.4 s for 4,096 rows
    that take 0.02 s gathered) and a gathered connection costs 1.6 times its products.
    """

    rows: int
    columns: int
    gathered: int  # connections
    outputs: int
    n: int
    n2: int
    on_cpu: bool

    @property
    def _products(self) -> float:
        return 0.6 * self.n * self.n2

    @property
    def pairs(self) -> float:
        products = 0.5 * self.n * self.n2
        if not self.on_cpu:
            return products * self.rows * self.columns
        return products * (self.rows * self.columns + 30 * (self.columns + self.outputs * self.rows))

    @property
    def gather(self) -> float:
        if not self.on_cpu:
            return 1.6 * self.outputs * self.gathered * self.n * self.n2
        # listing a connection and copying its row cost as much as some products
        return self.outputs * self.gathered * (self._products + 50 * self.n + 800)

    @property
    def shared(self) -> float:
        if not self.on_cpu:
            return math.inf
        each = self._products + 30 * self.n + 400
        return self.gathered * each + self.rows * (30 * self.outputs * self._products + 1e5)


def repeated_rows(mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows, columns) of every non-empty pattern that at least two rows of the mask share."""
    packed = np.packbits(mask.cpu().numpy(), axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))[:, 0]
    _, first, which, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    for group in np.flatnonzero(count > 1):
        columns = mask[int(first[group])].nonzero()[:, 0]
        if len(columns):
            yield torch.from_numpy(np.flatnonzero(which == group)).to(mask.device), columns


def _add_block(total: Tensor, rows: Tensor, columns: Tensor | None, left: Side, right: Side | None) -> None:
    """Every connection rows x columns (all columns if None)."""
    right = right or left
    a = left.a if columns is None else left.a[columns]
    a2 = right.a if columns is None else right.a[columns]
    gram = a.T @ a2
    for output, target in enumerate(total):
        target.addcmul_(left.g[output, rows].T @ right.g[output, rows], gram)


def _add_pairs(total: Tensor, mask: Tensor, rows: Tensor, left: Side, right: Side | None, memory: int) -> None:
    """The connections of ``rows``, input pair by input pair; the lower triangle where ``right`` is None."""
    outputs, n, n2 = total.shape
    m = mask[rows].to(total.dtype)
    g, g2 = left.g[:, rows], (right or left).g[:, rows]
    a2 = (right or left).a
    if right is None:
        r, c = torch.tril_indices(n, n, device=total.device)
    else:
        r, c = torch.cartesian_prod(torch.arange(n), torch.arange(n2)).T.to(total.device)
    chunk = max(1, memory // (3 * max(mask.shape) * total.element_size()))
    for start in range(0, len(r), chunk):
        one, two = r[start : start + chunk], c[start : start + chunk]
        sums = m @ (left.a[:, one] * a2[:, two])
        for output in range(outputs):
            total[output, one, two] += (g[output][:, one] * g2[output][:, two] * sums).sum(0)


def _add_gathered(
    total: Tensor, mask: Tensor, rows: Tensor, left: Side, right: Side | None, sign: float, memory: int
) -> None:
    """sign times the connections of ``mask`` in ``rows``; the lower triangle where ``right`` is None."""
    _, n, n2 = total.shape
    height = max(1, _LISTED // mask.shape[1])
    connections = _CONNECTIONS.get(mask.device.type, _MANY_CONNECTIONS)
    chunk = max(1, min(connections, memory // (2 * (n + n2) * total.element_size())))
    for start in range(0, len(rows), height):
        some = rows[start : start + height]
        local, j = mask[some].nonzero(as_tuple=True)
        i = some[local]
        for s in range(0, len(j), chunk):
            i_s, j_s = i[s : s + chunk], j[s : s + chunk]
            a = left.a.index_select(0, j_s)
            a2 = None if right is None else right.a.index_select(0, j_s)
            for output, target in enumerate(total):
                jac = left.g[output].index_select(0, i_s).mul_(a)
                jac2 = jac
                if right is not None and a2 is not None:
                    jac2 = right.g[output].index_select(0, i_s).mul_(a2)
                for r, c in _tiles(n, n2, right is None and mask.device.type == "cpu"):
                    target[r, c].addmm_(jac[:, r].T, jac2[:, c], alpha=sign)


def _add_shared(total: Tensor, mask: Tensor, rows: Tensor, left: Side, right: Side | None, sign: float) -> None:
    """As above, the Gram matrix of a row's senders formed once for all outputs."""
    _, n, n2 = total.shape
    g2 = (right or left).g
    for row in rows.tolist():
        columns = mask[row].nonzero()[:, 0]
        a = left.a.index_select(0, columns)
        a2 = a if right is None else right.a.index_select(0, columns)
        for r, c in _tiles(n, n2, right is None):
            gram = a[:, r].T @ a2[:, c]
            total[:, r, c].addcmul_(gram * left.g[:, row, r, None], g2[:, row, None, c], value=sign)


def _tiles(n: int, n2: int, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Tiles that cover (n, n2), or at least its lower triangle."""
    if not symmetric:
        yield slice(0, n), slice(0, n2)
        return
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        yield slice(start, stop), slice(0, stop)
