"""How a target lies in a kernel's modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_kernel, checked_count, checked_targets, checked_weights, truth
from graphon_theory.data.labels import MODE, OUTPUT, Variables, by_rows, dataset, inputs_of
from graphon_theory.data.output_kernels import each_kernel
from graphon_theory.errors import InputError, KernelError
from graphon_theory.spectra.kernel_spectra import modes_of, precision_of, spectrum
from graphon_theory.spectra.linear_operators import Operator, as_operator, is_operator

if TYPE_CHECKING:
    import xarray as xr


def target_alignment(
    kernel: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    count: int | None = None,
    *,
    centred: bool = False,
    weights: ArrayLike | xr.DataArray | None = None,
) -> xr.Dataset:
    """The target's power in each mode, and the kernel-target alignment.

        power_k = sum over targets of ((1/N) sum_n phi_k(x_n) y_n)^2,      sum_k power_k = (1/N) sum y^2,
        alignment = <K, y y^T> / (|K| |y y^T|)    in Frobenius products (Cristianini et al. 2001).

    Args:
        kernel: (N, N), or a linear operator such as `kernel_operator` makes, which is not centred; y: (N,) or (N, k);
            count: modes computed, all if left out. Where outputs have kernels of their own, column o of y (N, k) goes
            with the kernel of output o.
        centred: take means out of kernel (on both sides) and targets first (Cortes et al. 2012).
        weights: (N,), the sample's law as in `spectrum`: w_n in place of every 1/N above, and in means and products.

    Returns a Dataset over ``mode``: ``eigenvalue``, ``target_power`` and ``cumulative_power``, the share of the
    target's mean square in the modes up to k: how much is learned first. attrs: ``alignment``, ``centred``. Of outputs
    with kernels of their own, "output" leads all three, and ``alignment`` is a variable over it.

    Raises KernelError as `spectrum`, InputError for ``y`` (also where it is zero, or constant and ``centred``).
    """
    kernels = each_kernel(kernel)
    if len(kernels) > 1:
        return _of_outputs(kernels, y, count, centred, weights)
    kernel = kernels[0]
    if is_operator(kernel):
        operator = as_operator(kernel)
        if truth("centred", centred):
            raise KernelError(
                "centred: got a linear operator as kernel, whose means are not taken out; leave it out, or pass the "
                "matrix (limit_kernel)."
            )
        size, inputs = operator.shape[0], operator.inputs
    else:
        matrix = as_kernel(kernel)
        size, inputs = len(matrix), inputs_of(kernel)
    targets = checked_targets(y, size, inputs=inputs).reshape(size, -1)
    law = None if weights is None else checked_weights(weights, size, inputs)
    w = np.full(size, 1 / size) if law is None else law
    largest = np.abs(targets).max()
    if truth("centred", centred):
        targets = targets - w @ targets
    if np.abs(targets).max() <= 8 * np.finfo(float).eps * largest:
        raise InputError(f"y: it is {'constant' if centred else 'zero'}, which is aligned with nothing.")
    modes = spectrum(kernel, count if not centred else 1, weights=weights)
    if centred:
        means = matrix @ w
        matrix = matrix - means - means[:, None] + w @ means
        matrix = (matrix + matrix.T) / 2
        eps = precision_of(kernel)
        # roundings of what was taken out stay
        floor = 8 * size * eps * float(modes.eigenvalue[0])
        wanted = checked_count(count, size)
        modes = modes_of(matrix, wanted, law, eps, {}, floor=floor)
    weighted = w[:, None] * targets
    power = np.sum((modes.eigenfunction.values.T @ weighted) ** 2, axis=1)
    alignment = _aligned(operator if is_operator(kernel) else matrix, weighted, targets, w)
    return dataset(
        {
            "eigenvalue": ((MODE,), modes.eigenvalue.values),
            "target_power": ((MODE,), power),
            "cumulative_power": ((MODE,), np.cumsum(power) / float(w @ np.sum(targets**2, axis=1))),
        },
        {MODE: modes[MODE].values},
        {"alignment": alignment, "centred": int(centred)},
    )


def _aligned(kernel: FloatArray | Operator, weighted: FloatArray, targets: FloatArray, w: FloatArray) -> float:
    """tr(y' w K w y) over the norms of K and y y', on scales at which squares neither vanish nor overflow."""
    scale = float(np.abs(targets).max())
    weighted, targets = weighted / scale, targets / scale
    if isinstance(kernel, Operator):
        image, squares = kernel.product(weighted), kernel.squares(w)
        if not 0 < squares < np.inf:
            raise InputError(
                "kernel: its entries are too small or too large to be squared; change the variances of its network."
            )
    else:
        scaled = kernel / np.abs(kernel).max()
        image, squares = scaled @ weighted, w @ scaled**2 @ w
    return float(np.sum(weighted * image)) / float(np.sqrt(squares) * np.linalg.norm(weighted.T @ targets))


def _of_outputs(kernels: list[Any], y: Any, count: int | None, centred: bool, weights: Any) -> xr.Dataset:
    """Every column of the targets in the modes of its own kernel."""
    size = len(as_kernel(kernels[0]))
    y = by_rows(y)
    targets = checked_targets(y, size, inputs=inputs_of(kernels[0]))
    if targets.shape != (size, len(kernels)):
        raise InputError(
            f"y: expected shape ({size}, {len(kernels)}), a column for each output, as each has a kernel of its own, "
            f"got shape {targets.shape}."
        )
    found = [
        target_alignment(one, targets[:, o], count, centred=centred, weights=weights) for o, one in enumerate(kernels)
    ]
    variables: Variables = {
        name: ((OUTPUT, MODE), np.stack([one[name].values for one in found]))
        for name in ("eigenvalue", "target_power", "cumulative_power")
    }
    variables["alignment"] = ((OUTPUT,), np.array([float(one.attrs["alignment"]) for one in found]))
    coords = {OUTPUT: np.arange(len(found)), MODE: found[0][MODE].values}
    return dataset(variables, coords, {"centred": int(centred)})
