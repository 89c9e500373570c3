"""The spectrum of a kernel under its sample's law (THEORY §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.errors import ConvergenceError, InputError, KernelError
from graphon_theory.results import MODE, FloatArray, X, as_kernel, coords_of, dataset

if TYPE_CHECKING:
    import xarray as xr

# Lanczos beats LAPACK from about this size on, for at most one mode in _LANCZOS_SHARE (measured on NTKs).
_LANCZOS_SIZE = 1000
_LANCZOS_SHARE = 40
# What counts as rounding below zero, relative to lambda_1: limit_kernel's own default tolerance is 1e-10.
_NEGATIVE_SLACK = 1e-10
# A sample of N inputs blurs the tail of the operator's spectrum: only N / _FIT_SHARE modes are fitted.
_FIT_SHARE = 10


def spectrum(kernel: ArrayLike | xr.DataArray, count: int | None = None) -> xr.Dataset:
    """Eigenvalues and eigenfunctions of (T f)(x) = int Theta(x, x') f(x') drho(x'), rho the sample's law.

    On a sample of N inputs the operator is the matrix Theta / N (Nystrom, THEORY §6), so that eigenvalues
    converge as N grows.

    Args:
        kernel: symmetric positive semi-definite matrix (N, N), such as ``limit_kernel(network, x).ntk``.
        count: how many of the largest modes to compute; all N if left out.

    Returns a Dataset over ``mode`` = 1..count, largest first:

    - ``eigenvalue``: lambda_k of Theta / N.
    - ``eigenfunction`` ("x", "mode"): mean square 1 over the sample; the first entry of largest magnitude is
      positive.
    - ``energy``: (lambda_1 + ... + lambda_k) / trace, between 0 and 1.
    - ``residual``: ||T phi_k - lambda_k phi_k|| / lambda_1 in the sample's root mean square.

    with attrs ``effective_rank`` = trace / lambda_1, ``gap`` = lambda_1 / lambda_2 (infinite if lambda_2 is
    not positive), ``rounding_level`` (below it an eigenvalue is noise), ``solver``, and, where at least three
    modes can be fitted, ``decay_exponent`` alpha of lambda_k ~ k^-alpha: least squares of log lambda on log k
    over ``decay_range`` = (first, last) mode. The first mode, nearly constant, is left out of the fit, and so
    are modes beyond N / 10 (the sample blurs them) or at rounding level.

    Eigenfunctions of (nearly) equal eigenvalues span the right space but are free to turn within it.

    Raises KernelError (not square, not finite, zero, or not symmetric or not positive semi-definite beyond
    rounding), InputError (``count`` outside 1..N), ConvergenceError (Lanczos did not converge).
    """
    matrix = as_kernel(kernel)
    size = len(matrix)
    wanted = _checked_count(count, size)
    eps = _precision(kernel)
    _check_symmetric(matrix, eps)
    trace = float(np.trace(matrix)) / size
    if not matrix.any():
        raise KernelError(
            "kernel: every entry is zero, so that there is no spectrum; a layer of the network lets no "
            "signal through (is a variance graphon or a weight_variance zero?)."
        )

    # lambda_2 is needed for the gap even where one mode is asked for.
    computed = min(max(wanted, 2), size)
    by_lanczos = size >= _LANCZOS_SIZE and computed * _LANCZOS_SHARE <= size
    values, vectors = (_lanczos if by_lanczos else _lapack)(matrix, computed)
    slack = max(_NEGATIVE_SLACK, 8 * size * eps)
    _check_positive(matrix, values, slack)
    residuals = np.linalg.norm(matrix @ vectors - vectors * values, axis=0) / values[0]

    values = values / size
    rounding = size * eps * float(values[0])
    attrs: dict[str, object] = {
        "effective_rank": trace / float(values[0]),
        "gap": float(values[0] / values[1]) if size > 1 and values[1] > 0 else float("inf"),
        "rounding_level": rounding,
        "solver": "lanczos" if by_lanczos else "lapack",
    }
    values, vectors, residuals = values[:wanted], vectors[:, :wanted], residuals[:wanted]
    attrs |= _decay(values, size, rounding)
    return dataset(
        {
            "eigenvalue": ((MODE,), values),
            "eigenfunction": ((X, MODE), _with_fixed_signs(vectors) * np.sqrt(size)),
            "energy": ((MODE,), np.cumsum(values) / trace),
            "residual": ((MODE,), residuals),
        },
        coords={MODE: np.arange(1, wanted + 1), **coords_of(kernel, X)},
        attrs=attrs,
    )


def extend(modes: xr.Dataset, cross_kernel: ArrayLike | xr.DataArray) -> xr.DataArray:
    """Eigenfunctions at new inputs: phi_k(x) = 1 / (N lambda_k) sum_i Theta(x, x_i) phi_k(x_i) (THEORY §6).

    Args:
        modes: what `spectrum` returned for the N training inputs.
        cross_kernel: (M, N), new inputs by training inputs: ``limit_kernel(network, x_new, x).ntk``.

    Returns the DataArray ``eigenfunction`` ("x", "mode") of shape (M, modes). Errors of the kernel are
    magnified by lambda_1 / lambda_k, so modes whose eigenvalue is at rounding level are refused.

    Raises KernelError (shape, values, modes at rounding level) and InputError (``modes`` is not a spectrum).
    """
    if (
        not {"eigenvalue", "eigenfunction"} <= set(getattr(modes, "data_vars", ()))
        or "rounding_level" not in modes.attrs
    ):
        raise InputError(
            "modes: expected the Dataset that spectrum() returns; pass it unchanged or with modes selected."
        )
    values = np.atleast_1d(modes.eigenvalue.values)
    functions = modes.eigenfunction.values.reshape(-1, len(values))
    cross = as_kernel(cross_kernel, "cross_kernel", square=False)
    if cross.shape[1] != len(functions):
        raise KernelError(
            f"cross_kernel: expected {len(functions)} columns, one per training input of modes, got shape "
            f"{cross.shape}; pass limit_kernel(network, x_new, x).ntk."
        )
    level = float(modes.attrs["rounding_level"])
    noise = np.flatnonzero(values <= level)
    if len(noise):
        raise KernelError(
            f"modes: {len(noise)} of {len(values)} eigenvalues are at rounding level ({values[noise[0]]:.3g} "
            f"<= {level:.3g}), so their eigenfunctions cannot be extended; keep the first {noise[0]}: "
            f"modes.isel(mode=slice({noise[0]}))."
        )
    extended = cross @ (functions / values) / len(functions)
    mode = np.atleast_1d(modes[MODE].values) if MODE in modes.coords else np.arange(1, len(values) + 1)
    return dataset(
        {"eigenfunction": ((X, MODE), extended)}, coords={MODE: mode, **coords_of(cross_kernel, X)}
    ).eigenfunction


def _checked_count(count: int | None, size: int) -> int:
    if count is None:
        return size
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= size:
        raise InputError(f"count: expected a whole number from 1 to {size} (the kernel's size) or None, got {count!r}.")
    return int(count)


def _precision(kernel: ArrayLike | xr.DataArray) -> float:
    """The unit of rounding the kernel was computed with: float32 kernels are symmetric to float32 only."""
    dtype = np.asarray(getattr(kernel, "values", kernel)).dtype
    return float(np.finfo(dtype if dtype in (np.float16, np.float32) else np.float64).eps)


def _check_symmetric(matrix: FloatArray, eps: float) -> None:
    defect = np.abs(matrix - matrix.T)
    worst = float(defect.max())
    scale = float(np.abs(matrix).max())
    if worst > 1e3 * eps * scale:
        row, column = (int(i) for i in np.unravel_index(int(defect.argmax()), defect.shape))
        raise KernelError(
            f"kernel: expected a symmetric matrix, but [{row}, {column}] and [{column}, {row}] differ by "
            f"{worst:.3g} (largest entry {scale:.3g}); pass the kernel of one set of inputs with itself, or "
            "(K + K.T) / 2 if you know the difference to be noise."
        )


def _check_positive(matrix: FloatArray, values: FloatArray, slack: float) -> None:
    """Refuse eigenvalues below -slack * lambda_1.

    Where the smallest is not known, Cholesky decides: it succeeds on the shifted matrix if and only if (up to
    rounding) no eigenvalue is below minus the shift.
    """
    from scipy.linalg import cholesky, eigh

    top = float(values[0])
    if len(values) == len(matrix):
        lowest = float(values[-1])
        if lowest >= -slack * top and top > 0:
            return
    else:
        if top > 0:
            shifted = matrix.copy()
            shifted.flat[:: len(matrix) + 1] += slack * top
            try:
                cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
                return
            except np.linalg.LinAlgError:
                pass
        lowest = float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0], check_finite=False)[0])
    raise KernelError(
        f"kernel: expected a positive semi-definite matrix, but its smallest eigenvalue is {lowest:.3g} and "
        f"its largest {top:.3g} (allowed: -{slack:.1g} times the largest); check that the kernel is one of "
        "inputs with themselves and was not edited by hand."
    )


def _lapack(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    from scipy.linalg import eigh

    size = len(matrix)
    # Divide and conquer is the faster driver for the whole spectrum, MRRR for a part of it.
    part = None if count == size else [size - count, size - 1]
    values, vectors = eigh(matrix, subset_by_index=part, driver="evd" if part is None else "evr", check_finite=False)
    return values[::-1], vectors[:, ::-1]


def _lanczos(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    # A start with no symmetry to be orthogonal to an eigenvector by, and the same in every run.
    start = np.random.default_rng(0).standard_normal(len(matrix))
    try:
        values, vectors = eigsh(matrix, k=count, which="LA", v0=start)
    except ArpackNoConvergence as error:
        raise ConvergenceError(
            f"kernel: Lanczos found only {len(error.eigenvalues)} of {count} modes; ask for all modes "
            "(count=None), which uses LAPACK."
        ) from None
    order = np.argsort(values)[::-1]
    return values[order], vectors[:, order]


def _with_fixed_signs(vectors: FloatArray) -> FloatArray:
    """Make the first of the entries of largest magnitude positive; ties within 1e-6 count as ties."""
    size = np.abs(vectors)
    leading = np.argmax(size >= (1 - 1e-6) * size.max(axis=0), axis=0)
    return np.asarray(vectors * np.sign(vectors[leading, np.arange(vectors.shape[1])]))


def _decay(values: FloatArray, size: int, rounding: float) -> dict[str, object]:
    last = min(len(values), max(size // _FIT_SHARE, 4), int(np.sum(values > rounding)))
    if last < 4:
        return {}
    mode = np.arange(2, last + 1)
    slope = np.polyfit(np.log(mode), np.log(values[1:last]), 1)[0]
    return {"decay_exponent": float(-slope), "decay_range": (2, last)}
