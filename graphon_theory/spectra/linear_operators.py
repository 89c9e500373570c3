"""Linear operators in place of kernels: what is asked of them, and what is made of their products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from scipy.sparse.linalg import LinearOperator

from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.data.checks import UNLABELLED
from graphon_theory.data.labels import Labels, refuse_other_labels
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.engine.kernel_operators import KernelOperator
from graphon_theory.errors import KernelError

_BLOCK = 16  # vectors of a block where tiles are in memory
_COLUMNS = 256  # of an operator that are looked at together
_SPARE = 12  # vectors beside the modes wanted where every product computes the kernel anew
_FAILURE = 1e-6  # probability with which a negative eigenvalue may go unseen
_ROUNDINGS = 1e3  # of products by which an operator may differ from its transpose


def is_operator(kernel: Any) -> TypeGuard[LinearOperator]:
    """Whether a kernel came as a linear operator."""
    return isinstance(kernel, LinearOperator)


@dataclass(frozen=True)
class Operator:
    """A symmetric linear operator as solvers read it."""

    given: Any

    @property
    def shape(self) -> tuple[int, int]:
        return self.given.shape

    @property
    def made(self) -> bool:
        """Whether the engine computes it, so that it is positive by construction."""
        return isinstance(self.given, KernelOperator)

    @property
    def keeps_all(self) -> bool:
        """Whether products read what is in memory."""
        return not self.made or bool(self.given.keeps_all)

    @property
    def eps(self) -> float:
        """The unit of rounding of its entries."""
        return float(np.finfo(self.given.precision).eps) if self.made else EPS

    @property
    def inputs(self) -> Labels:
        return self.given.labels[0] if self.made else UNLABELLED

    def product(self, block: FloatArray) -> FloatArray:
        """Of the operator with vectors (N, b). Raises KernelError where it is not finite."""
        image = np.array(self.given @ block, dtype=np.float64)
        if not np.isfinite(image).all():
            raise KernelError("kernel: its products are not finite; the operator is no kernel of finite inputs.")
        return image

    def width(self, count: int) -> int:
        """Vectors of a block: many where a product costs the whole kernel, for then products are to be few."""
        if self.keeps_all:
            return _BLOCK
        return -(-(count + _SPARE) // _BLOCK) * _BLOCK

    def diagonal(self) -> FloatArray:
        """Raises KernelError where the operator has none to show."""
        if not hasattr(self.given, "diagonal"):
            raise KernelError(
                "kernel: expected a linear operator with a diagonal() as that of kernel_operator, which energies are "
                "shares of; add the method."
            )
        return np.asarray(self.given.diagonal(), dtype=np.float64)

    def columns(self, chosen: IntArray) -> FloatArray:
        """Some columns (N, k)."""
        if self.made:
            return np.asarray(self.given.columns(chosen))
        units = np.zeros((self.shape[0], len(chosen)))
        units[chosen, np.arange(len(chosen))] = 1.0
        return self.product(units)

    def dense(self) -> FloatArray:
        """The matrix, as far as memory holds it."""
        size = self.shape[0]
        what = f"a matrix of {size:,} x {size:,} numbers, which all modes take,"
        refuse_beyond_memory("kernel", 16 * size * size, what, "ask for a count of modes below a twentieth of them")
        return np.asarray(self.given.dense()) if self.made else self.product(np.eye(size))

    def squares(self, weights: FloatArray) -> float:
        """sum_ij w_i w_j K_ij^2."""
        if self.made:
            return float(self.given.squares(weights))
        size, total = self.shape[0], 0.0
        for start in range(0, size, _COLUMNS):
            chosen = np.arange(start, min(start + _COLUMNS, size))
            total += float(weights @ self.columns(chosen) ** 2 @ weights[chosen])
        return total

    def check_symmetric(self) -> None:
        """Raise KernelError where u.K v and v.K u differ for random vectors, by more than rounding."""
        if self.made:
            return
        size = self.shape[0]
        u, v = np.random.default_rng(0).standard_normal((2, size))
        images = self.product(np.stack([u, v], axis=1))
        there, back = float(u @ images[:, 1]), float(v @ images[:, 0])
        scale = float(np.linalg.norm(images, axis=0).max() * max(np.linalg.norm(u), np.linalg.norm(v)))
        if abs(there - back) > _ROUNDINGS * EPS * scale:
            raise KernelError(f"kernel: expected a symmetric operator, but u.K v = {there:.6g} and v.K u = {back:.6g}.")


def as_operator(kernel: Any, name: str = "kernel") -> Operator:
    """A square linear operator. Raises KernelError for one between two sets of inputs, and for complex ones."""
    rows, columns = kernel.shape
    if rows != columns or (isinstance(kernel, KernelOperator) and not kernel.symmetric):
        raise KernelError(
            f"{name}: expected the operator of one set of inputs with itself, got shape {kernel.shape}; call "
            "kernel_operator without x2."
        )
    if np.dtype(kernel.dtype).kind not in "fiu":
        raise KernelError(f"{name}: expected a real operator, got dtype {kernel.dtype}.")
    return Operator(kernel)


def as_cross_operator(kernel: Any, name: str, training: Labels, size: int) -> tuple[Any, Labels]:
    """An operator of new by training inputs (M, N), and the labels of the new ones; raises as `as_cross_kernel`."""
    if kernel.shape[1] != size:
        raise KernelError(
            f"{name}: expected {size} columns, one per training input, got shape {kernel.shape}; pass "
            "kernel_operator(network, x_new, x)."
        )
    new, old = kernel.labels if isinstance(kernel, KernelOperator) else (UNLABELLED, UNLABELLED)
    refuse_other_labels(old, training, "columns, the training inputs,")
    return kernel, Labels(name, new.values)


def unseen(size: int, steps: int, width: int = _BLOCK) -> float:
    """epsilon: an eigenvalue below -epsilon (lambda_1 + |it|) passes ``steps`` of block Lanczos unseen but with 1e-6.

    From one random start the least Ritz value after k steps is above lambda_min + epsilon (lambda_max - lambda_min)
    with probability at most 1.648 sqrt(N) exp(-(2 k - 1) sqrt(epsilon)) (Kuczynski and Wozniakowski 1992, Theorem
    4.1); the starts of a block are independent, and its space holds that of each.
    """
    each = _FAILURE ** (1 / width)
    root = math.log(1.648 * math.sqrt(size) / each) / (2 * steps - 1)
    return min(1.0, root * root)
