"""Activations and their duals (THEORY §4).

An activation is phi together with

    C(q12, q11, q22) = E[phi(f) phi(f')],   Cdot = E[phi'(f) phi'(f')],   (f, f') ~ N(0, [[q11, q12], [q12, q22]]),

once as a NumPy function of moments (:meth:`Activation.duals`) and once as a compiled pass over blocks of the
recursion. Both take the degenerate places as they are: zero variance, coincident and opposite inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from graphon_theory._kernels import duals as _blocks
from graphon_theory.errors import ActivationError

FloatArray = NDArray[np.float64]
Moments = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

_SPLIT = 2.0**27 + 1  # Veltkamp's constant for 53 bits


@dataclass(frozen=True, eq=False)
class Activation:
    """A nonlinearity with closed-form dual activations.

    Get one by name with :func:`as_activation`, or pass its name to :class:`Network`. Calling it applies phi;
    ``derivative`` is its almost-everywhere derivative.
    """

    name: str
    phi: Callable[[FloatArray], FloatArray] = field(repr=False)
    derivative: Callable[[FloatArray], FloatArray] = field(repr=False)
    moments: Moments = field(repr=False)
    features: Callable[[FloatArray], FloatArray] = field(repr=False)
    block: Callable[..., None] = field(repr=False)
    parameters: tuple[float, ...] = field(default=(), repr=False)
    homogeneous: bool = field(default=False, repr=False)  # positively homogeneous of degree 1
    kinked: bool = field(default=False, repr=False)  # phi' jumps: Cdot has a root singularity at |rho| = 1

    def block_parameters(self, terms: int, eps: float = 2.0**-52) -> FloatArray:
        """Parameters of the compiled pass for moments that are sums of ``terms`` products.

        |rho| within max(4, sqrt(terms)) roundings ``eps`` of 1 counts as 1.
        """
        return np.array([max(4.0, math.sqrt(terms)) * eps, *self.parameters])

    def __call__(self, z: ArrayLike) -> FloatArray:
        """phi(z), elementwise."""
        return self.phi(np.asarray(z, dtype=float))

    def duals(self, q12: ArrayLike, q11: ArrayLike, q22: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """C and Cdot at covariance q12 and variances q11, q22 (broadcast).

        Full precision up to |rho| = 1: the determinant q11 q22 - q12^2 is formed by two-products. Raises
        ActivationError for negative variances or |q12| > sqrt(q11 q22) beyond rounding.
        """
        arrays = np.broadcast_arrays(*(np.asarray(q, dtype=float) for q in (q12, q11, q22)))
        cross, first, second = (np.array(a) for a in arrays)
        if not all(np.isfinite(a).all() for a in (cross, first, second)):
            raise ActivationError("q12, q11, q22: expected finite moments, got NaN or infinity.")
        if (first < 0).any() or (second < 0).any():
            low = min(float(first.min()), float(second.min()))
            raise ActivationError(f"q11, q22: variances cannot be negative, got {low:.6g}.")
        excess = np.abs(cross) - np.sqrt(first) * np.sqrt(second) * (1 + 1e-7)
        if (excess > 0).any():
            raise ActivationError(
                f"q12: |q12| exceeds sqrt(q11 q22) by {float(excess.max()):.3g}; these are no moments of a Gaussian."
            )
        return self.moments(cross, first, second)


def determinant(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> FloatArray:
    """q11 q22 - q12^2 to rounding of its exact value, by two-products (Veltkamp and Dekker); at least 0."""
    # scale each variance to [1, 4) by even powers of two, so that no product over- or underflows
    e1, e2 = (2 * (np.frexp(np.where(q > 0, q, 1.0))[1] // 2) for q in (q11, q22))
    a, b, c = np.ldexp(q11, -e1), np.ldexp(q22, -e2), np.ldexp(q12, -(e1 + e2) // 2)
    high, low = _two_product(a, b)
    high2, low2 = _two_product(c, c)
    return np.ldexp(np.maximum(((high - high2) + low) - low2, 0.0), e1 + e2)


def _two_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    product = a * b
    ah, bh = (x * _SPLIT - (x * _SPLIT - x) for x in (a, b))
    al, bl = a - ah, b - bh
    return product, ((ah * bh - product) + ah * bl + al * bh) + al * bl


def _rectifier(name: str, alpha: float, beta: float) -> Activation:
    """phi(z) = beta z for z > 0 and alpha z for z < 0."""
    linear, bent = alpha * beta, (beta - alpha) ** 2

    def moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
        # both sines and cosines carry the factor sqrt(q11 q22)
        sine = np.sqrt(determinant(q12, q11, q22))
        theta = np.arctan2(sine, q12)
        theta = np.where((sine == 0) & (q12 == 0), np.pi / 2, theta)
        ratio = (np.pi - theta) / (2 * np.pi)
        return linear * q12 + bent * (sine / (2 * np.pi) + ratio * q12), linear + bent * ratio

    return Activation(
        name,
        phi=lambda z: np.where(z > 0, beta * z, alpha * z),
        derivative=lambda z: np.where(z > 0, beta, alpha),
        moments=moments,
        features=_root_features,
        block=_blocks.rectifier_block,
        parameters=(linear, bent),
        homogeneous=True,
        kinked=alpha != beta,
    )


def _inverse_root(q: FloatArray) -> FloatArray:
    root = np.sqrt(q)
    return np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)


def _root_features(q: FloatArray) -> FloatArray:
    return np.stack([np.sqrt(q), _inverse_root(q)], axis=1)


def _erf_moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    cosine = np.sqrt(1 + 2 * (q11 + q22) + 4 * determinant(q12, q11, q22))
    return (2 / np.pi) * np.arctan2(2 * q12, cosine), (4 / np.pi) / cosine


_ERF = Activation(
    "erf",
    phi=lambda z: np.asarray(erf(z)),
    derivative=lambda z: (2 / math.sqrt(math.pi)) * np.exp(-z * z),
    moments=_erf_moments,
    features=lambda q: np.stack([q, _inverse_root(q), 1 / np.sqrt(1 + 2 * q)], axis=1),
    block=_blocks.erf_block,
)

_IDENTITY = Activation(
    "identity",
    phi=lambda z: z + 0.0,
    derivative=np.ones_like,
    moments=lambda q12, q11, q22: (q12, np.ones_like(q12)),
    features=lambda q: q[:, None],
    block=_blocks.identity_block,
    homogeneous=True,
)

_NAMED = {a.name: a for a in (_rectifier("relu", 0.0, 1.0), _ERF, _IDENTITY)}


def as_activation(obj: Any) -> Activation:
    """An Activation from its name, or itself. Raises ActivationError for an unknown name."""
    if isinstance(obj, Activation):
        return obj
    if isinstance(obj, str) and obj in _NAMED:
        return _NAMED[obj]
    raise ActivationError(f"activation: expected an Activation or one of {', '.join(map(repr, _NAMED))}, got {obj!r}.")
