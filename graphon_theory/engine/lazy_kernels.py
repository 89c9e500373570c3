"""Limit kernels as Dask arrays: blocks are tasks, and the scheduler is Dask's.

The network is made ready here, and once more on every worker that gets a block to compute: what travels is the
network and the inputs. Blocks run on one thread each, for the scheduler has threads of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import check_installed, whole_number
from graphon_theory.data.labels import by_rows
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.errors import InputError, shown

_SIDE = 2048  # of blocks, where nothing is said


def row_chunks(x: Any) -> tuple[int, ...] | None:
    """How Dask-backed inputs are cut along their samples; None for others."""
    chunks = getattr(by_rows(x), "chunks", None)
    if not chunks or not isinstance(chunks, tuple) or not isinstance(chunks[0], tuple):
        return None
    if any(not isinstance(one, int | np.integer) for one in chunks[0]):
        raise InputError("x: expected chunks of known sizes, got unknown ones; call compute_chunk_sizes().")
    return tuple(int(one) for one in chunks[0])


def cut(chunks: Any, size: int, own: tuple[int, ...] | None) -> tuple[int, ...]:
    """The blocks of ``size`` inputs: of so many each (2,048), or their ``own``. Raises InputError."""
    if chunks is None and own is not None:
        return own
    if isinstance(chunks, bool) or not isinstance(chunks, int | np.integer | None):
        raise InputError(f"chunks: expected the number of inputs in a block, got {shown(chunks)}.")
    side = _SIDE if chunks is None else whole_number("chunks", chunks)
    return tuple(min(side, size - start) for start in range(0, size, side))


def lazy_kernels(ready: PreparedKernel, rows: tuple[int, ...], columns: tuple[int, ...]) -> tuple[Any, Any]:
    """NNGP and NTK (outputs, N, N2) as Dask arrays; blocks below the diagonal are those above, turned."""
    check_installed("chunks", {"dask": "dask"}, "scale")
    import dask.array as da
    from dask.delayed import delayed

    symmetric, outputs, dtype = ready.x2 is None, ready.recursion.outputs, ready.recursion.dtype
    if symmetric:
        columns = rows
    name = ready.identity()[:16]
    network = delayed(ready, name=f"network-{name}", traverse=False)
    block = delayed(_block, pure=True)
    starts, ends = np.cumsum((0, *rows)), np.cumsum((0, *columns))
    found: dict[tuple[int, int], Any] = {}
    for i, n in enumerate(rows):
        for j, m in enumerate(columns):
            if symmetric and j < i:
                found[i, j] = found[j, i].swapaxes(2, 3)
                continue
            key = f"kernel-block-{name}-{starts[i]}-{n}-{ends[j]}-{m}"
            place = int(starts[i]), int(starts[i] + n), int(ends[j]), int(ends[j] + m)
            made = block(network, *place, dask_key_name=key)
            found[i, j] = da.from_delayed(made, (2, outputs, n, m), dtype)
    both = da.block([[found[i, j] for j in range(len(columns))] for i in range(len(rows))])
    return both[0], both[1]


def _block(ready: PreparedKernel, top: int, bottom: int, left: int, right: int) -> FloatArray:
    return np.stack(ready.block(slice(top, bottom), slice(left, right)))
