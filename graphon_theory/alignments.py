"""How a target lies in a kernel's modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.errors import InputError
from graphon_theory.linear_training import checked_targets
from graphon_theory.results import MODE, as_kernel, dataset
from graphon_theory.spectra import spectrum

if TYPE_CHECKING:
    import xarray as xr


def target_alignment(
    kernel: ArrayLike | xr.DataArray, y: ArrayLike | xr.DataArray, count: int | None = None, *, centred: bool = False
) -> xr.Dataset:
    """The target's power in each mode, and the kernel-target alignment.

        power_k = sum over targets of ((1/N) sum_n phi_k(x_n) y_n)^2,      sum_k power_k = (1/N) sum y^2,
        alignment = <K, y y^T> / (|K| |y y^T|)    in Frobenius products (Cristianini et al. 2001).

    Args:
        kernel: (N, N); y: (N,) or (N, k); count: modes computed, all if left out.
        centred: take means out of kernel (on both sides) and targets first (Cortes et al. 2012).

    Returns a Dataset over ``mode``: ``eigenvalue``, ``target_power`` and ``cumulative_power``, the share of the
    target's mean square in the modes up to k: how much is learned first. attrs: ``alignment``, ``centred``.

    Raises KernelError as `spectrum`, InputError for ``y`` (also where it is zero, or constant and ``centred``).
    """
    matrix = as_kernel(kernel)
    size = len(matrix)
    targets = checked_targets(y, size).reshape(size, -1)
    if centred:
        matrix = matrix - matrix.mean(axis=0) - matrix.mean(axis=1)[:, None] + matrix.mean()
        matrix = (matrix + matrix.T) / 2
        targets = targets - targets.mean(axis=0)
    if not np.abs(targets).max() > 0:
        raise InputError(f"y: it is {'constant' if centred else 'zero'}, which is aligned with nothing.")
    modes = spectrum(matrix, count)
    power = np.sum((modes.eigenfunction.values.T @ targets / size) ** 2, axis=1)
    inner = float(np.sum(targets * (matrix @ targets)))
    alignment = inner / float(np.linalg.norm(matrix) * np.linalg.norm(targets.T @ targets))
    return dataset(
        {
            "eigenvalue": ((MODE,), modes.eigenvalue.values),
            "target_power": ((MODE,), power),
            "cumulative_power": ((MODE,), np.cumsum(power) / float(np.mean(np.sum(targets**2, axis=1)))),
        },
        {MODE: modes[MODE].values},
        {"alignment": alignment, "centred": int(centred)},
    )
