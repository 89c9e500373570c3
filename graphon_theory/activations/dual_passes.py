"""The duals of one layer, ready for its inputs: what every way to duals hands to the engine (THEORY §4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.activations.closed.closed_duals import ClosedForm, on_pairs
from graphon_theory.arrays import EPS, FloatArray


@dataclass(frozen=True)
class DualPass:
    """The duals of one layer, ready for inputs whose means and variances stay below given bounds.

    ``features(mean, q)``: (P, F, N) of means (or 0.0) and variances (P, N), read by the compiled ``block``.
    ``mean(mean, q)``: E[phi] of arrays; ``diagonal(mean, q)``: E[phi^2] and E[phi'^2]. ``error`` bounds the error of C
    and Cdot relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22); 0 for closed forms, which are right to rounding.
    ``back``: the compiled way back (``closed/slope_blocks``) with its own parameters; ``slopes(mean, q)`` what it is
    for single inputs, the derivatives in q and in mu of E[phi^2], E[phi'^2] and E[phi], as (6, ...) in this order.
    """

    block: Callable[..., None]
    features: Callable[[ArrayLike, FloatArray], FloatArray]
    diagonal: Callable[[ArrayLike, FloatArray], tuple[FloatArray, FloatArray]]
    mean: Callable[[ArrayLike, FloatArray], FloatArray]
    constants: FloatArray
    back: Callable[..., None]
    back_constants: FloatArray
    slopes: Callable[[FloatArray, FloatArray], FloatArray]
    error: float = 0.0

    def parameters(self, terms: int, eps: float = EPS) -> FloatArray:
        """Parameters of the compiled pass for moments that are sums of ``terms`` products.

        |rho| within max(4, sqrt(terms)) roundings ``eps`` of 1 counts as 1.
        """
        return np.array([max(4.0, math.sqrt(terms)) * eps, *self.constants])

    def back_parameters(self, terms: int) -> FloatArray:
        """The same for the way back, in float64."""
        return np.array([max(4.0, math.sqrt(terms)) * EPS, *self.back_constants])


def closed_pass(closed: ClosedForm) -> DualPass:
    def diagonal(mean: ArrayLike, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        mu = np.broadcast_to(np.asarray(mean, dtype=float), q.shape)
        if not mu.any():
            return closed.moments(q, q, q)
        return on_pairs(closed, mu, mu, q, q, q)

    def mean_of(mean: ArrayLike, q: FloatArray) -> FloatArray:
        return np.asarray(closed.mean(np.asarray(mean, dtype=float), q))

    constants = np.array(closed.back_parameters)

    def slopes(mean: FloatArray, q: FloatArray) -> FloatArray:
        return np.stack([*self_slopes(closed.back, closed.features, constants, mean, q), *closed.mean_slopes(mean, q)])

    return DualPass(
        closed.block, closed.features, diagonal, mean_of, np.array(closed.parameters), closed.back, constants, slopes
    )


def self_slopes(
    back: Callable[..., None],
    features: Callable[[ArrayLike, FloatArray], FloatArray],
    constants: FloatArray,
    mean: FloatArray,
    q: FloatArray,
) -> FloatArray:
    """Derivatives in q and in mu of E[phi^2] and of E[phi'^2], from pairs of every input with itself: (4, ...)."""
    f = np.ascontiguousarray(features(mean.reshape(-1, 1), q.reshape(-1, 1)))
    state = np.ones((q.size, 2, 1, 1))
    state[:, 0, 0, 0] = q.ravel()
    out = []
    for part in range(2):
        above, one, two = np.zeros_like(state), np.zeros((q.size, 2, 1)), np.zeros((q.size, 2, 1))
        above[:, part] = 1.0
        back(state, f, f, 0, 0, above, one, two, np.array([4 * EPS, *constants]))
        both = (one + two)[:, :, 0]
        out += [above[:, 0, 0, 0] + both[:, 0], both[:, 1]]
    return np.stack(out).reshape(4, *q.shape)
