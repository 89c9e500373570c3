"""Dual activations as Hermite series about each mean: for smooth phi at moderate variances (THEORY §4).

With f = mu + s z and the normalised Hermite polynomials h_n, phi(f) = sum_n a_n h_n(z) and

    C = sum_n a_n a'_n rho^n,   Cdot = sum_n b_n b'_n rho^n,   b_n = E[phi'(f) h_n(z)],   a_(n+1) = s b_n / sqrt(n+1)

(Mehler's formula). All but a_0 come by Gauss-Hermite quadrature of phi', so that small variances keep their digits.
By Cauchy and Schwarz the tail of either series is at most that of the diagonal, where all terms are positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import roots_hermitenorm

from graphon_theory.activations.series.hermite_blocks import hermite_block as hermite_block
from graphon_theory.activations.series.hermite_slope_blocks import hermite_back as hermite_back
from graphon_theory.arrays import EPS, FloatArray, Function

_TERMS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)  # lengths; the last only checks
_ERROR = 2e-12  # of the dual activations, on their scale
_BATCH = 4_000_000  # values of phi' at a time
_MEANS = 33  # means at which the error is looked at
_MOST_MEANS = 4_097  # beyond, the means are too far apart for any feature of phi to be seen
_UNSEEN = 1e-3  # relative error at smaller deviations that tells of a phi which the nodes at larger ones miss
# Deviations down to 1e-30 of the largest, by no ratio that a scale of phi would repeat.
_SMALLER: FloatArray = np.power(0.61, np.arange(140.0))
_FLOOR = 1e-9  # of the largest moments: smaller ones may be roundings of phi


@cache
def _rule(terms: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Nodes (K,), weights (K,) and w_k h_n(z_k) (K, n < terms) of a rule with K = 2 terms + 16 nodes."""
    z, w = roots_hermitenorm(2 * terms + 16)
    w = w / w.sum()
    kept = w > 1e-60  # the rest would only overflow there
    z, w = z[kept], w[kept]
    h = np.empty((terms, len(z)))
    before, now = np.zeros_like(z), np.ones_like(z)
    for n in range(terms):
        h[n] = now
        before, now = now, (z * now - np.sqrt(n) * before) / np.sqrt(n + 1)
    return z, w, np.ascontiguousarray((h * w).T)


@dataclass(frozen=True)
class HermiteSeries:
    """A series of ``terms`` coefficients of phi', good up to the means and variances it was made for.

    ``error`` bounds the error of C and Cdot relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22).
    """

    phi: Function
    derivative: Function
    terms: int
    stride: int = 1
    offset: int = 0
    error: float = 0.0

    @classmethod
    def fitting(
        cls,
        phi: Function,
        derivative: Function,
        largest_mean: float,
        largest_variance: float,
    ) -> HermiteSeries | None:
        """The shortest series whose error stays below 2e-12; None if there is none of moderate length.

        The error is looked at on a grid of means and variances up to the largest: what a series half as long again
        finds beyond the last term, and how far it moves the others. Where the deviation is so large that phi' vanishes
        at all nodes, two series agree on nothing: a series is taken only if it holds at smaller deviations too, down to
        where phi is a straight line, and means are looked at no farther apart than the largest deviation.
        """
        largest = math.sqrt(largest_variance)
        means = np.zeros(1)
        if largest_mean > 0:
            count = max(_MEANS, 1 + math.ceil(2 * largest_mean / largest) if largest > 0 else 0)
            if count > _MOST_MEANS:
                return None
            means = largest_mean * (np.cos if count == _MEANS else _evenly)(np.linspace(0, np.pi, count))
        deviations = largest * np.array([1.0, 0.7, 0.4, 0.1, 1e-3])
        for terms, longer in pairwise(_TERMS):
            found = cls._error(phi, derivative, terms, longer, means, deviations)
            if found is None:
                return None
            error, unfinished, coefficients = found
            if error <= _ERROR and unfinished <= 0.1 * _ERROR:
                some = means[:: max(1, len(means) // _MEANS)]
                smaller = cls._error(phi, derivative, terms, longer, some, largest * _SMALLER, _FLOOR)
                if smaller is None or max(smaller[:2]) > _UNSEEN:
                    return None
                stride, offset = _parity(coefficients[:, :terms]) if largest_mean == 0 else (1, 0)
                return cls(phi, derivative, terms, stride, offset, error + 16 * EPS)
        return None

    @classmethod
    def _error(
        cls,
        phi: Function,
        derivative: Function,
        terms: int,
        longer: int,
        means: FloatArray,
        deviations: FloatArray,
        floor: float = 0.0,
    ) -> tuple[float, float, FloatArray] | None:
        """:func:`_errors` on a grid, and the longer series' coefficients of phi'; None where phi is not finite."""
        mean, s = (a.ravel() for a in np.meshgrid(means, deviations))
        with np.errstate(over="ignore", invalid="ignore"):
            short, long = (cls(phi, derivative, n)._coefficients(mean, s) for n in (terms, longer))
        if not all(np.isfinite(values).all() for values in (*short, *long)):
            return None
        return *_errors(short, long, s, floor), long[1]

    def _coefficients(self, mean: FloatArray, s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """a_0 (n,) and b (n, terms) at means and deviations (n,)."""
        z, w, basis = _rule(self.terms)
        a0, b = np.empty(len(mean)), np.empty((len(mean), self.terms))
        batch = max(1, _BATCH // len(z))
        for start in range(0, len(mean), batch):
            part = slice(start, start + batch)
            f = mean[part, None] + s[part, None] * z
            a0[part] = self.phi(f) @ w
            b[part] = self.derivative(f) @ basis
        return a0, b

    def features(self, mean: ArrayLike, q: FloatArray) -> FloatArray:
        """(P, F, N) of means and variances (P, N): m, sqrt(q), 1 / sqrt(q) and the coefficients kept."""
        s = np.sqrt(q)
        a0, b = self._coefficients(np.broadcast_to(np.asarray(mean, dtype=float), q.shape).ravel(), s.ravel())
        a0 = a0.reshape(q.shape)
        still = q == 0
        if still.any():  # phi itself, without the roundings of weights
            a0[still] = self.phi(np.broadcast_to(np.asarray(mean, dtype=float), q.shape)[still])
        b /= np.sqrt(np.arange(1, self.terms + 1))
        kept = np.moveaxis(b.reshape(*q.shape, -1), -1, 1)[:, self.offset :: self.stride]
        inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
        return np.concatenate([np.stack([a0, s, inverse], axis=1), kept], axis=1)

    def diagonal(self, mean: ArrayLike, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """E[phi^2] and E[phi'^2]."""
        f = self.features(mean, np.atleast_2d(q))
        n = self.offset + self.stride * np.arange(f.shape[1] - 3)
        squares = f[:, 3:] ** 2
        second = f[:, 0] ** 2 + f[:, 1] ** 2 * squares.sum(1)
        slope = (squares * (n + 1)[:, None]).sum(1)
        return second.reshape(q.shape), slope.reshape(q.shape)

    def mean(self, mean: ArrayLike, q: FloatArray) -> FloatArray:
        """E[phi]."""
        return self.features(mean, np.atleast_2d(q))[:, 0].reshape(q.shape)

    def mean_slopes(self, mean: ArrayLike, q: FloatArray) -> FloatArray:
        """The derivatives of E[phi] in q and in the mean, E[phi''] / 2 = E[z phi'] / 2 s and E[phi'], as (2, ...)."""
        s = np.sqrt(q)
        b = self._coefficients(np.broadcast_to(np.asarray(mean, dtype=float), q.shape).ravel(), s.ravel())[1]
        inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
        return np.stack([0.5 * inverse * b[:, 1].reshape(q.shape), b[:, 0].reshape(q.shape)])


def _evenly(angle: FloatArray) -> FloatArray:
    """From 1 to -1 over [0, pi], at even steps."""
    return 1.0 - 2.0 * angle / np.pi


def _errors(
    short: tuple[FloatArray, FloatArray], long: tuple[FloatArray, FloatArray], s: FloatArray, floor: float
) -> tuple[float, float]:
    """Largest relative error of the diagonal of C and Cdot, and what the last quarter of ``long`` still holds.

    Relative to the diagonal's own square roots, or to ``floor`` of the largest of them.
    """
    terms, longer = short[1].shape[1], long[1].shape[1]
    last = (terms + 3 * longer) // 4
    error = unfinished = 0.0
    for power in (0, 1):  # Cdot, then C
        weight = ((s * s)[:, None] / np.arange(1, longer + 1)) ** power
        squares = weight * long[1] ** 2
        whole = squares.sum(1) + power * long[0] ** 2
        whole = np.maximum(whole, floor * floor * whole.max(initial=0.0))
        whole = np.where(whole > 0, whole, 1.0)
        moved = np.sqrt((weight[:, :terms] * (short[1] - long[1][:, :terms]) ** 2).sum(1)) + power * np.abs(
            short[0] - long[0]
        )
        error = max(error, float((squares[:, terms:].sum(1) / whole + 2 * moved / np.sqrt(whole)).max()))
        unfinished = max(unfinished, float((squares[:, last:].sum(1) / whole).max()))
    return error, unfinished


def _parity(b: FloatArray) -> tuple[int, int]:
    """(stride, offset) of the coefficients that are not zero by symmetry."""
    scale = np.abs(b).max(1, keepdims=True)
    for offset in (0, 1):  # phi' even (phi odd), phi' odd (phi even)
        if (np.abs(b[:, 1 - offset :: 2]) <= 1e-15 * scale).all():
            return 2, offset
    return 1, 0
