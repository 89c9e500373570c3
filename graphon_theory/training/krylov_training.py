"""Training under a kernel of which only products are had: in the Krylov space of the targets.

Block Lanczos from what is left to learn, c = y - f_0, gives an orthonormal basis Q with A = Theta / N in it, T = Q^T A
Q, and Q holds c. The eigenpairs of T stand for modes: all of the target's power lies in them, and g(A) c becomes
Q g(T) Q^T c. What that misses is known: h(t), with f_t - f_0 = A h, solves h' = eta (c - (A + ridge) h), and the one of
the Krylov space leaves the defect r(t) = eta B w(t), B the orthonormal block that comes next, w what the last block of
Q passes on to it. In the modes of A the error is an integral of r against eta lambda exp(-eta (lambda + ridge)
(t - s)), whose own integral is below 1, so that

    |error of f_t| <= (b sum over the block's b vectors of sup_{s <= t} w_a(s)^2)^1/2 + |w(t)|,

the last for f = A Q ... - (A Q - Q T) .... Steps of gradient descent obey the same with sums for integrals, and the
first term times eta lambda_1 / (2 - eta (lambda_1 + ridge)) where that is above 1. The suprema are looked for on a fine
grid of times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import refuse_overflow
from graphon_theory.data.labels import MODE, X, dataset
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import ConvergenceError
from graphon_theory.spectra.eigensolvers import KrylovSpace
from graphon_theory.spectra.linear_operators import Operator, as_operator, is_operator
from graphon_theory.training.linear_training import Learned, LinearTraining, Targets, checked_problem

if TYPE_CHECKING:
    import xarray as xr

    from graphon_theory.data.labels import Labels

_TOLERANCE = 1e-8  # of predictions at the training inputs, relative to what is left to learn, root mean squares
_MOST = 2000  # dimensions of the space
_STRIDE = 1.3  # by which factor the space grows between two looks at the error
_FIRST = 4  # products before the first look

_GRID = 200  # moments at which errors are looked at beside those asked for

Course = Callable[[LinearTraining], Learned]  # of training at all moments at which errors are looked at


def problem_of(
    kernel: Any, y: ArrayLike | xr.DataArray, initial: ArrayLike | xr.DataArray | None, course: Course, **options: float
) -> tuple[LinearTraining, dict[str, Any]]:
    """The problem of a kernel, and what to say of it: in all modes of a matrix, or as far as ``course`` needs.

    Raises as :func:`krylov_training` for a linear operator.
    """
    if is_operator(kernel):
        return krylov_training(kernel, y, initial, course, **options)
    return LinearTraining.of(kernel, y, initial), {}


def grid_of(moments: FloatArray, first: float, *, whole: bool = False) -> FloatArray:
    """The moments, and those before them from ``first`` on at which errors are looked at; ``whole`` ones if asked."""
    last = float(moments[np.isfinite(moments)].max(initial=0.0))
    if last <= first:
        return moments
    grid = np.geomspace(first, last, _GRID)
    return np.unique(np.concatenate([moments, np.floor(grid) if whole else grid]))


def krylov_training(
    kernel: Any,
    y: ArrayLike | xr.DataArray,
    initial: ArrayLike | xr.DataArray | None,
    course: Course,
    *,
    factor: float = 1.0,
) -> tuple[LinearTraining, dict[str, Any]]:
    """Grow the space until training along ``course`` is known to 1e-8 of what is left to learn.

    ``factor``: of the first term of the bound. Beside the problem: attrs ``krylov_error``, the bound of the error of
    predictions at the training inputs (root mean square, in units of the targets), and ``products``, of blocks.

    Raises ConvergenceError where 2,000 dimensions do not suffice.
    """
    operator = as_operator(kernel)
    operator.check_symmetric()
    size = operator.shape[0]
    inputs, targets, start = checked_problem(size, operator.inputs, y, initial)
    left = (targets.values if start is None else targets.values - start).reshape(size, -1)
    scale = float(np.sqrt(np.mean(np.sum(left**2, axis=1))))
    block = _independent(left)
    most = min(size, max(_MOST, 2 * block.shape[1]))
    refuse_beyond_memory("kernel", 16.0 * size * most, "the Krylov space of the targets", "take fewer inputs")
    space = KrylovSpace(lambda v: operator.product(v) / size, block, 64, most)
    look, error = _FIRST * block.shape[1], np.inf
    while not space.is_full:
        space.grow()
        if space.dim < look:
            continue
        problem, turns = _in_space(space, operator, inputs, targets, start)
        error = _missed(space, turns, problem, course(problem), factor)
        if error <= _TOLERANCE * scale:
            return problem, {"krylov_error": error, "products": space.products}
        look = int(_STRIDE * space.dim)
    if space.dim == size:  # the space is all there is
        problem, _ = _in_space(space, operator, inputs, targets, start)
        return problem, {"krylov_error": 0.0, "products": space.products}
    raise ConvergenceError(
        f"kernel: {space.products} products of the operator leave an error of {error / scale:.2g} of the targets, and "
        f"{_TOLERANCE:.0e} is wanted; ask for earlier times, give a ridge, or pass the matrix (limit_kernel)."
    )


def _independent(left: FloatArray) -> FloatArray:
    """Orthonormal vectors that span the targets; one of no direction in particular where all are zero."""
    vectors, values, _ = np.linalg.svd(left, full_matrices=False)
    kept = values > 1e-14 * values[0]
    return np.asarray(vectors[:, kept]) if kept.any() else np.full((len(left), 1), len(left) ** -0.5)


def _in_space(
    space: KrylovSpace, operator: Operator, inputs: Labels, targets: Targets, start: FloatArray | None
) -> tuple[LinearTraining, FloatArray]:
    """The problem in the space's own modes, and their coordinates in the basis."""
    values, turns = np.linalg.eigh(space.small)
    values, turns = values[::-1], turns[:, ::-1]
    size = len(space.basis)
    modes = dataset(
        {
            "eigenvalue": ((MODE,), values),
            "eigenfunction": ((X, MODE), np.sqrt(size) * (space.basis @ turns)),
        },
        {MODE: np.arange(1, len(values) + 1)},
        {"rounding_level": size * operator.eps * float(values[0])},
    )
    problem = LinearTraining.in_modes(modes, inputs, targets, start)
    refuse_overflow(problem.coefficients, "coefficients")
    return problem, turns


def _missed(space: KrylovSpace, turns: FloatArray, problem: LinearTraining, learned: Learned, factor: float) -> float:
    """The bound of the module's docstring over all moments of ``learned``, as a root mean square."""
    passed = space.missed(turns)  # (block, mode)
    # h in the space's modes: response times coefficient, all of norm as vectors over inputs divided by sqrt(N)
    w = np.einsum("bm,tm,mk->tbk", passed, learned.response, problem.coefficients, optimize=True)
    sup = np.abs(w).max(axis=0)  # (block, target)
    width = len(sup)
    bound = factor * np.sqrt(width * np.sum(sup**2, axis=0)) + np.sqrt(np.sum(w**2, axis=1)).max(axis=0)
    return float(np.sqrt(np.sum(bound**2)))
