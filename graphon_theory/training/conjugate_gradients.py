"""Ridge regression by products alone: preconditioned conjugate gradients, for several targets and ridges at once.

    (Theta + s_j) alpha_ij = y_i        for all targets i and shifts s_j = N ridge_j

Every product of the kernel serves all systems that are not solved yet. The preconditioner is that of a partial pivoted
Cholesky factor F (N, r), Theta ~ F F^T = U diag(m) U^T (Frangella, Tropp and Udell 2023, eq. 1.3):

    P^-1 = (m_r + s) U (m + s)^-1 U^T + 1 - U U^T,

with pivots drawn in blocks by what is left of the diagonal (randomly pivoted Cholesky: Chen, Epperly, Tropp and Webber
2025). It serves all shifts, and costs r columns of the kernel and N r numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.errors import ConvergenceError, KernelError
from graphon_theory.spectra.linear_operators import Operator

_ROUNDS = 8  # blocks in which pivots are drawn
_MOST = 2000  # iterations
_RESTARTS = 3  # from the residual as it is, which roundings tell apart from the one that is carried along


class Solved(NamedTuple):
    """alpha (N, targets, shifts), and of every system |y - (Theta + s) alpha| / |y| and the iterations it took."""

    weights: FloatArray
    missed: FloatArray  # y - (Theta + s) alpha, as alpha
    residual: FloatArray  # (targets, shifts)
    iterations: FloatArray
    rank: int  # of the preconditioner


def solve(
    operator: Operator, targets: FloatArray, shifts: FloatArray, tolerance: float, rank: int | None = None
) -> Solved:
    """Of targets (N, k) and positive shifts. Raises KernelError where the operator is not positive, ConvergenceError
    where 2,000 iterations leave more than ``tolerance``."""
    size, k = targets.shape
    vectors, values = _partial_factor(operator, default_rank(size) if rank is None else rank)
    right = np.repeat(targets, len(shifts), axis=1)  # columns: all shifts of the first target, then of the next
    shift = np.tile(shifts, k)
    norms = np.linalg.norm(right, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    found, residual = np.zeros_like(right), right.copy()
    counts = np.zeros(len(shift))
    least = values[-1] if len(values) else 0.0

    def preconditioned(v: FloatArray, s: FloatArray) -> FloatArray:
        inside = vectors.T @ v
        return np.asarray(v + vectors @ (inside * ((least + s) / (values[:, None] + s) - 1.0)))

    for _ in range(_RESTARTS):
        live = np.linalg.norm(residual, axis=0) > tolerance * scale
        if not live.any():
            break
        _run(operator, found, residual, shift, tolerance * scale, live, preconditioned, counts)
        residual = right - operator.product(found) - shift * found
    left = np.linalg.norm(residual, axis=0) / scale
    if left.max(initial=0.0) > 2 * tolerance:
        raise ConvergenceError(
            f"ridge: conjugate gradients leave a residual of {left.max():.2g} after {int(counts.max())} iterations, "
            f"and {tolerance:.2g} is wanted; give a larger ridge, or pass the matrix (limit_kernel)."
        )
    shape = (k, len(shifts))
    return Solved(
        found.reshape(size, *shape),
        residual.reshape(size, *shape),
        left.reshape(shape),
        counts.reshape(shape),
        len(values),
    )


def _run(
    operator: Operator,
    found: FloatArray,
    residual: FloatArray,
    shift: FloatArray,
    wanted: FloatArray,
    live: NDArray[np.bool_],
    preconditioned: Callable[[FloatArray, FloatArray], FloatArray],
    counts: FloatArray,
) -> None:
    """Conjugate gradients on the columns that are ``live``, until their residuals are as ``wanted``; in place."""
    at = np.flatnonzero(live)
    r, s = residual[:, at], shift[at]
    z = preconditioned(r, s)
    direction, power = z.copy(), np.einsum("nc,nc->c", r, z)
    for _ in range(_MOST):
        image = operator.product(direction) + s * direction
        curvature = np.einsum("nc,nc->c", direction, image)
        if not (curvature > 0).all():
            raise KernelError(
                "kernel: expected a positive semi-definite operator, but with a ridge of "
                f"{s[int(curvature.argmin())] / len(r):.3g} it has a direction of curvature {curvature.min():.3g}."
            )
        step = power / curvature
        found[:, at] += step * direction
        r -= step * image
        counts[at] += 1
        left = np.linalg.norm(r, axis=0) > wanted[at]
        if not left.any():
            return
        if not left.all():
            at, r, s, direction, power = at[left], r[:, left], s[left], direction[:, left], power[left]
        z = preconditioned(r, s)
        after = np.einsum("nc,nc->c", r, z)
        direction = z + (after / power) * direction
        power = after


def default_rank(size: int) -> int:
    """Of the preconditioner: 8 sqrt(N), whose columns cost a small share of one product that makes its tiles."""
    return min(size, max(64, int(8 * math.sqrt(size))))


def _partial_factor(operator: Operator, rank: int) -> tuple[FloatArray, FloatArray]:
    """Orthonormal vectors (N, r) and the eigenvalues, falling, of a partial pivoted Cholesky factor's F F^T."""
    diagonal = np.maximum(operator.diagonal(), 0.0)
    total, size = float(diagonal.sum()), len(diagonal)
    random = np.random.default_rng(0)  # the same numbers in every run
    factor = np.empty((size, 0))
    while factor.shape[1] < rank and diagonal.sum() > 8 * size * operator.eps * total:
        block = min(-(-rank // _ROUNDS), rank - factor.shape[1])
        alive = int(np.count_nonzero(diagonal))
        drawn = random.choice(size, min(block, alive), replace=False, p=diagonal / diagonal.sum())
        columns = operator.columns(drawn) - factor @ factor[drawn].T
        values, turns = np.linalg.eigh((columns[drawn] + columns[drawn].T) / 2)
        kept = values > max(1e3 * operator.eps, 1e-12) * max(float(values[-1]), total / size)
        if not kept.any():
            break
        factor = np.hstack([factor, columns @ (turns[:, kept] / np.sqrt(values[kept]))])
        diagonal = np.maximum(diagonal - np.sum(factor[:, -int(kept.sum()) :] ** 2, axis=1), 0.0)
        diagonal[drawn] = 0.0
    values, turns = np.linalg.eigh(factor.T @ factor)
    kept = values > EPS * max(float(values[-1]) if len(values) else 0.0, np.finfo(float).tiny)
    values, turns = values[kept][::-1], turns[:, kept][:, ::-1]
    return np.asarray(factor @ (turns / np.sqrt(values))), values
