"""The largest eigenvalues of symmetric positive semi-definite matrices, and the checks that they are so.

LAPACK for small matrices and large shares of the spectrum, block Lanczos for a few modes of a large one. A block
meets the matrix once for many vectors, where a single vector waits for memory; full orthogonalisation keeps copies
of found modes from coming back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphon_theory.errors import KernelError

FloatArray = NDArray[np.float64]

# Lanczos beats LAPACK from about this size on, for at most one mode in _LANCZOS_SHARE (measured on NTKs).
_LANCZOS_SIZE = 1000
_LANCZOS_SHARE = 20
_BLOCK = 16
_CONVERGED = 1e-13  # residuals wanted, relative to the largest eigenvalue
_EVERY = 4  # blocks between two looks at the residuals
_STRIP = 256  # rows compared at a time

LANCZOS, LAPACK = "lanczos", "lapack"


def largest_eigenpairs(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray, str]:
    """The ``count`` largest eigenvalues, falling, their orthonormal vectors (N, count), and which solver found them."""
    size = len(matrix)
    if size >= _LANCZOS_SIZE and count * _LANCZOS_SHARE <= size:
        found = _lanczos(matrix, count)
        if found is not None:
            return (*found, LANCZOS)
    return (*_lapack(matrix, count), LAPACK)


def check_symmetric(matrix: FloatArray, eps: float) -> None:
    """Raise KernelError when matrix and transpose differ by more than 1,000 roundings of its scale."""
    worst, scale, at = 0.0, 0.0, (0, 0)
    for start in range(0, len(matrix), _STRIP):
        stop = min(start + _STRIP, len(matrix))
        strip = matrix[start:stop, start:]
        # the tile's own transpose among its rows, and below it the columns that mirror the strip
        defect = np.abs(strip - matrix[start:, start:stop].T)
        scale = max(scale, float(np.abs(strip).max()))
        if defect.max() > worst:
            worst = float(defect.max())
            row, column = np.unravel_index(int(defect.argmax()), defect.shape)
            at = (start + int(row), start + int(column))
    if worst > 1e3 * eps * max(scale, worst):
        low, high = sorted(at)
        raise KernelError(
            f"kernel: expected a symmetric matrix, but [{low}, {high}] and [{high}, {low}] differ by "
            f"{worst:.3g} (largest entry {scale:.3g}); pass the kernel of one set of inputs with itself, or "
            "(K + K.T) / 2 if you know the difference to be noise."
        )


def check_positive(matrix: FloatArray, values: FloatArray, slack: float) -> None:
    """Refuse eigenvalues below -slack * lambda_1; ``values`` are the largest ones.

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
            shifted = np.array(matrix, order="K")
            shifted.flat[:: len(matrix) + 1] += slack * top
            # LAPACK wants columns; of a symmetric matrix the rows are as good, and cost no transposition
            shifted = shifted if shifted.flags.f_contiguous else shifted.T
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
    if count < size:  # MRRR is the faster driver for a part of the spectrum, divide and conquer for all of it
        part = [size - count, size - 1]
        values, vectors = eigh(matrix, subset_by_index=part, driver="evr", check_finite=False)
        if len(values) == count:  # among many equal eigenvalues MRRR can lose some
            return values[::-1], vectors[:, ::-1]
    values, vectors = eigh(matrix, driver="evd", check_finite=False)
    return values[: -count - 1 : -1], vectors[:, : -count - 1 : -1]


def _lanczos(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray] | None:
    """Block Lanczos with full orthogonalisation and Rayleigh-Ritz; None where half the space does not suffice.

    A block of b random vectors sees at most b copies of one eigenvalue. Before modes count as found, fresh random
    blocks join the space; only if they change nothing is the search over.
    """
    size, most = len(matrix), len(matrix) // 2
    random = np.random.default_rng(0)  # the same numbers in every run
    basis = np.empty((size, min(most, 8 * count + 20 * _BLOCK)), order="F")
    small = np.zeros((basis.shape[1], basis.shape[1]))
    dim = 0
    accepted: tuple[FloatArray, FloatArray] | None = None
    block = np.linalg.qr(random.standard_normal((size, _BLOCK)))[0]
    while dim + _BLOCK * (_EVERY + 1) <= most:
        for _ in range(_EVERY):
            end = dim + _BLOCK
            if end > basis.shape[1]:
                basis, small = _grown(basis, small, most)
            basis[:, dim:end] = block
            image = matrix @ block
            small[:end, dim:end] = share = _orthogonalise(image, basis[:, :end])
            small[dim:end, :end] = share.T
            block, rest = _next_block(image, basis[:, :end], np.abs(share).max())
            dim = end
        if dim < count + _BLOCK:
            continue
        values, turns = _lapack(small[:dim, :dim], count)
        residual = np.linalg.norm(rest @ turns[dim - _BLOCK :], axis=0).max()
        scale = float(np.abs(values[0]))
        if accepted is not None and np.abs(values - accepted[0]).max() <= 1e-12 * scale:
            values, turns = accepted
            return values, basis[:, : len(turns)] @ turns
        accepted = None
        if residual <= _CONVERGED * scale:
            accepted = values, turns
            block, _ = _next_block(random.standard_normal((size, _BLOCK)), basis[:, :dim], np.inf)
    return None


def _orthogonalise(block: FloatArray, basis: FloatArray) -> FloatArray:
    """Take the basis out of ``block`` in place, twice for rounding; its coordinates."""
    first = basis.T @ block
    block -= basis @ first
    second = basis.T @ block
    block -= basis @ second
    return np.asarray(first + second)


def _next_block(image: FloatArray, basis: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
    """Orthonormal vectors for what the image adds to the basis, and the image in them.

    Where it adds little on the matrix's scale, its directions are full of rounding, and are kept out of the basis
    once more.
    """
    vectors, rest = np.linalg.qr(image)
    if np.abs(np.diag(rest)).min() <= 1e-6 * scale:
        for _ in range(2):
            _orthogonalise(vectors, basis)
            vectors, turn = np.linalg.qr(vectors)
            rest = turn @ rest
    return vectors, rest


def _grown(basis: FloatArray, small: FloatArray, most: int) -> tuple[FloatArray, FloatArray]:
    room = min(most, 2 * basis.shape[1])
    wider, larger = np.empty((len(basis), room), order="F"), np.zeros((room, room))
    wider[:, : basis.shape[1]] = basis
    larger[: len(small), : len(small)] = small
    return wider, larger
