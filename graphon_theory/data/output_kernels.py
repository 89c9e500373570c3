"""Kernels of networks with several outputs: one where the outputs share it, else one for each (docs/conventions.md).

Outputs share a kernel where the last layer's graphons have equal rows. What is seen here is the kernels: those that
differ by roundings are one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphon_theory.data.checks import as_kernel
from graphon_theory.data.labels import OUTPUT
from graphon_theory.errors import KernelError

_ROUNDINGS = 64  # of the largest entry, by which kernels of equal rows differ


def each_kernel(kernel: Any, name: str = "kernel", *, square: bool = True, outputs: int | None = None) -> list[Any]:
    """The kernels of all outputs, in their order, or the one that they share; a matrix is one kernel.

    ``kernel`` has a leading axis of outputs, or a dimension "output". ``outputs``: how many kernels there must be,
    where another kernel has said so. Raises KernelError for another number, and as `as_kernel`.
    """
    found = _sliced(kernel)
    if len(found) > 1 and outputs != len(found) and _is_shared(found, name, square):
        found = found[:1]
    if outputs is not None and len(found) != outputs:
        raise KernelError(
            f"{name}: expected {'one kernel' if outputs == 1 else f'the kernels of {outputs} outputs'}, as the kernel "
            f"of the training inputs has, got {len(found)}; pass both of one network."
        )
    return found


def shared_kernel(kernel: Any, name: str = "kernel") -> Any:
    """The kernel that all outputs share. Raises KernelError where each has its own."""
    found = each_kernel(kernel, name)
    if len(found) > 1:
        raise KernelError(
            f"{name}: each of the {len(found)} outputs has a kernel of its own; select one output first, as in "
            "kernel.isel(output=0), with its column of the targets."
        )
    return found[0]


def _sliced(kernel: Any) -> list[Any]:
    dims = getattr(kernel, "dims", ())
    if hasattr(kernel, "isel") and not hasattr(kernel, "data_vars"):
        if OUTPUT not in dims or len(dims) != 3 or not kernel.sizes[OUTPUT]:
            return [kernel]
        return [kernel.isel({OUTPUT: o}, drop=True) for o in range(kernel.sizes[OUTPUT])]
    if isinstance(kernel, np.ndarray) and kernel.ndim == 3 and len(kernel):
        return list(kernel)
    return [kernel]


def _is_shared(kernels: list[Any], name: str, square: bool) -> bool:
    first = as_kernel(kernels[0], name, square=square)
    dtype = np.asarray(kernels[0]).dtype
    unit = float(np.finfo(dtype if dtype in (np.float16, np.float32) else np.float64).eps)
    most = _ROUNDINGS * unit * float(np.abs(first).max())
    return all(float(np.abs(as_kernel(one, name, square=square) - first).max()) <= most for one in kernels[1:])
