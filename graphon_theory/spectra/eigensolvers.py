"""The largest eigenvalues of symmetric positive semi-definite matrices, and the checks that they are so.

LAPACK for small matrices and large shares of the spectrum, block Lanczos for a few modes of a large one. A block
meets the matrix once for many vectors, where a single vector waits for memory; full orthogonalisation keeps copies
of found modes from coming back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import KernelError

# Lanczos beats LAPACK from about this size on, for at most one mode in _LANCZOS_SHARE (measured on NTKs).
_LANCZOS_SIZE = 1000
_LANCZOS_SHARE = 20
_BLOCK = 16
_CONVERGED = 1e-11  # residuals wanted, relative to the largest eigenvalue
_PROBE = 64  # dimensions that a fresh block may grow before it is asked whether it brought anything new
_STRIDE = 1.4  # by which factor the space may grow, at most, between two looks at the residuals
_STRIP = 256  # rows compared at a time

LANCZOS, LAPACK = "lanczos", "lapack"


def largest_eigenpairs(matrix: FloatArray, count: int, eps: float = 0.0) -> tuple[FloatArray, FloatArray, str]:
    """The ``count`` largest eigenvalues, falling, their orthonormal vectors (N, count), and which solver found them.

    ``eps``: the unit of rounding of the entries, beyond which nothing is looked for.
    """
    size = len(matrix)
    if is_large(size, count):
        rows = matrix if matrix.flags.c_contiguous else matrix.T  # symmetric: either order is the matrix
        # long rows by the matrix: twice as fast as the matrix by columns
        found = lanczos(lambda block: (block.T @ rows).T, size, count, eps=eps)
        if found is not None:
            return found.values, found.vectors, LANCZOS
    return (*_lapack(matrix, count), LAPACK)


def is_large(size: int, count: int) -> bool:
    """Whether Lanczos beats LAPACK."""
    return size >= _LANCZOS_SIZE and count * _LANCZOS_SHARE <= size


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

    Where the smallest is not known, Cholesky decides: it succeeds on a shifted matrix if and only if (up to rounding)
    no eigenvalue is below minus the shift. In single precision that takes a third of the time, and is tried first.
    """
    from scipy.linalg import eigh

    top = float(values[0])
    if len(values) == len(matrix):
        lowest = float(values[-1])
        if lowest >= -slack * top and top > 0:
            return
    else:
        if top > 0 and (_surely_positive(matrix) or _factorises(matrix.copy(order="C"), slack * top)):
            return
        lowest = float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0], check_finite=False)[0])
    raise KernelError(
        f"kernel: expected a positive semi-definite matrix, but its smallest eigenvalue is {lowest:.3g} and "
        f"its largest {top:.3g} (allowed: -{slack:.1g} times the largest); check that the kernel is one of "
        "inputs with themselves and was not edited by hand."
    )


def _surely_positive(matrix: FloatArray) -> bool:
    """Whether no eigenvalue is negative, by a factorisation in single precision; False where that cannot tell.

    Its backward error is below (n + 1) u max_i a_ii an entry at worst, and in practice about sqrt(n) u max_i a_ii
    (Higham & Mary 2019, probabilistic rounding): as a matrix 2 n u max_i a_ii, twice which must be to spare.
    """
    largest = float(matrix.diagonal().max())
    if not np.finfo(float).tiny < largest < np.inf:
        return False
    single = np.empty(matrix.shape, np.float32)
    rows = matrix if matrix.flags.c_contiguous else matrix.T
    for start in range(0, len(rows), _STRIP):  # the upper triangle is all that is read
        strip = slice(start, start + _STRIP)
        part = rows[strip, start:] * (1 / largest)
        if not np.abs(part).max() <= 2:  # positive matrices have their largest entry on the diagonal; NaN would pass
            return False
        single[strip, start:] = part
    margin = 2 * len(matrix) * float(np.finfo(np.float32).eps)  # eps = 2 u
    return _factorises(single, -margin)


def _factorises(matrix: NDArray[Any], shift: float) -> bool:
    """Whether Cholesky goes through for matrix + shift, of which the upper triangle is read; overwrites the matrix."""
    from scipy.linalg import cho_factor

    matrix.flat[:: len(matrix) + 1] += shift
    try:
        # LAPACK wants columns, and the upper triangle of the rows is the lower one of the columns
        cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True


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


class KrylovSpace:
    """A space grown block by block from a symmetric matrix's images, orthonormal to rounding, and the matrix in it.

    ``small`` is the matrix between the ``dim`` vectors of ``basis``; what the last block's image adds to the space is
    ``block @ rest``, ``block`` orthonormal. ``image_of``: products of the matrix with blocks of vectors.
    """

    def __init__(self, image_of: Callable[[FloatArray], FloatArray], start: FloatArray, room: int, most: int) -> None:
        self.image_of, self.block, self.most = image_of, start, most
        self.room = np.empty((len(start), min(most, room)), order="F")
        self.matrix = np.zeros((self.room.shape[1], self.room.shape[1]))
        self.rest = np.zeros((start.shape[1], start.shape[1]))
        self.dim, self.largest, self.products, self.reaches_all = 0, 0.0, 0, False

    @property
    def basis(self) -> FloatArray:
        return self.room[:, : self.dim]

    @property
    def small(self) -> FloatArray:
        return self.matrix[: self.dim, : self.dim]

    @property
    def is_full(self) -> bool:
        return self.dim + self.block.shape[1] > self.most

    def grow(self) -> None:
        """Take the block in, and look at its image."""
        width, dim = self.block.shape[1], self.dim
        end = dim + width
        if end > self.room.shape[1]:
            self.room, self.matrix = _grown(self.room, self.matrix, self.most)
        self.room[:, dim:end] = self.block
        image = self.image_of(self.room[:, dim:end])
        # the image of a block reaches the block, the one before and what is new, until a fresh block joins
        near = 0 if self.reaches_all else max(0, dim - width)
        self.dim, self.products = end, self.products + 1
        self.matrix[:end, dim:end] = share = _orthogonalise(image, self.basis, near)
        self.matrix[dim:end, :end] = share.T
        self.largest = max(self.largest, float(np.abs(share).max()))  # the scale; the block's own may be rounding
        self.block, self.rest = _next_block(image, self.basis, self.largest)

    def join(self, fresh: FloatArray) -> None:
        """Go on from a block that no image leads to."""
        self.block, _ = _next_block(fresh, self.basis, np.inf)
        self.reaches_all = True

    def missed(self, turns: FloatArray) -> FloatArray:
        """What images of the space's vectors ``basis @ turns`` have outside of it, in the block."""
        return np.asarray(self.rest @ turns[self.dim - self.rest.shape[1] :])


class Found(NamedTuple):
    """What Lanczos found: the largest eigenvalues and their vectors, and the least value of the space it looked at."""

    values: FloatArray
    vectors: FloatArray
    lowest: float
    products: int  # of blocks


def lanczos(
    image_of: Callable[[FloatArray], FloatArray], size: int, count: int, *, width: int = _BLOCK, eps: float = 0.0
) -> Found | None:
    """Block Lanczos with full orthogonalisation and Rayleigh-Ritz; None where half the space does not suffice.

    ``image_of``: products of the symmetric matrix with blocks of ``width`` vectors. Residuals are wanted below 1e-11 of
    the largest eigenvalue, or the rounding ``eps`` of the matrix's entries. A block of b random vectors sees at most b
    copies of one eigenvalue. Before modes count as found, a fresh random block joins the space; only if it changes
    nothing is the search over.
    """
    converged = max(_CONVERGED, eps)
    random = np.random.default_rng(0)  # the same numbers in every run
    start = np.linalg.qr(random.standard_normal((size, width)))[0]
    space = KrylovSpace(image_of, start, 8 * count + 20 * _BLOCK, size // 2)
    look = 2 * count
    before: tuple[int, float] | None = None  # the last look: dimension and log of the residual
    accepted: FloatArray | None = None
    while not space.is_full:
        space.grow()
        if space.dim < look:
            continue
        values, turns = _lapack(space.small, count)
        scale = float(np.abs(values[0]))
        residual = float(np.linalg.norm(space.missed(turns), axis=0).max()) / scale
        if accepted is not None and np.abs(values - accepted).max() <= 0.1 * converged * scale:
            lowest = -float(_lapack(-space.small, 1)[0][0])
            return Found(values, space.basis @ turns, lowest, space.products)
        if residual <= converged:
            accepted = values
            space.join(random.standard_normal((size, width)))
            look = space.dim + _PROBE
        else:
            now = space.dim, float(np.log(residual))
            look, before = _next_look(before, now, float(np.log(converged))), now
    return None


def _next_look(before: tuple[int, float] | None, now: tuple[int, float], wanted: float) -> int:
    """At which dimension residuals will have converged if they go on falling as they did; 1.4 times as far at most."""
    dim, log_residual = now
    farthest = int(_STRIDE * dim)
    if before is None or log_residual >= before[1]:
        return farthest
    slope = (before[1] - log_residual) / (dim - before[0])
    return min(farthest, dim + int((log_residual - wanted) / slope))


def _orthogonalise(block: FloatArray, basis: FloatArray, near: int = 0) -> FloatArray:
    """Take the basis out of ``block`` in place, twice for rounding; its coordinates.

    ``near``: the first column that it is known to reach; what is before comes from rounding, and goes in one pass.
    """
    first = basis[:, near:].T @ block
    block -= basis[:, near:] @ first
    second = basis.T @ block
    block -= basis @ second
    second[near:] += first
    return np.asarray(second)


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
