"""What errors of the duals come to at the outputs: a bound of first order, carried on the pairs of a few inputs.

Series and heat flows give C and Cdot with a bound e of their error, relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22).
What is wrong in one layer goes through all the others (docs/quadrature.md): with bounds dK and dT from the layer below,

    dC    = e sqrt(C11 C22) + |C moved by K12 +- dK12| + |by K11 +- dK11| + |by K22 +- dK22|
    dCdot = e sqrt(Cdot11 Cdot22) + the same of Cdot
    dK'   = sigma_w^2 int V dC,     dT' = sigma_w^2 int [W dC + V (dCdot |T| + |Cdot| dT)]

Branches add their bounds to the shortcut's, and a LayerNorm moves its factors by those of its moments. Displacements
are those of the bounds themselves, not derivatives: where phi has a kink and two inputs are close, Cdot moves like the
root of dK.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.neighbours import Neighbours
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.samples import Sample
from graphon_theory.engine.steps import Before, DualStep, Field, Fresh
from graphon_theory.engine.tiles import Tile
from graphon_theory.networks.stages import Fork, Join, Norm, Phi, Weights

_INPUTS = 8  # on whose pairs the bound is carried: the extreme ones come first


class _Bounded(NamedTuple):
    """A field on pairs of inputs, before an activation (K, T, mu) or behind it (C, S, m), and bounds of its errors."""

    second: FloatArray  # (positions, N, N)
    tangent: FloatArray
    mean: FloatArray  # (positions, N)
    d_second: FloatArray
    d_tangent: FloatArray
    d_mean: FloatArray


def spread(recursion: Recursion, inputs: FloatArray) -> float:
    """The largest of dK and dT over sqrt(K_ii K_jj) and sqrt(T_ii T_jj), on the closest and other extreme inputs."""
    closest = Neighbours(recursion.operators[0], inputs).closest()
    x = Sample.of(inputs, closest, most=_INPUTS).inputs
    c = (x[:, None, :] * x[None, :, :]).transpose(2, 0, 1)
    mean = np.ascontiguousarray(x.T)
    field = _Bounded(c, np.zeros_like(c), mean, np.zeros_like(c), np.zeros_like(c), np.zeros_like(mean))
    duals = iter(step for step in recursion.steps if isinstance(step, DualStep))
    kept: list[_Bounded] = []
    for part in recursion.outline:
        if isinstance(part, Weights):
            field = _weighted(recursion.operators[part.number - 1], field)
        elif isinstance(part, Phi):
            field = _activated(next(duals), field)
        elif isinstance(part, Fork):
            kept.append(field)
        elif isinstance(part, Join):
            size = abs(part.scale)
            factors = (size**2, size**2, part.scale, size**2, size**2, size)
            field = _Bounded(*(one + f * two for one, two, f in zip(kept.pop(), field, factors, strict=True)))
        else:
            weights = recursion.weights[part.place]
            assert weights is not None
            field = _normed(part, weights, field)
    return max(_relative(field.d_second, field.second), _relative(field.d_tangent, field.tangent))


def _weighted(op: LayerOperator, below: _Bounded) -> _Bounded:
    variance, mask = np.abs(op.variance), np.abs(op.mask_matrix)
    k, d_k = _through(op.variance, below.second) + op.bias, _through(variance, below.d_second)
    t = _through(op.mask_matrix, below.second) + op.trained_bias + _through(op.variance, below.tangent)
    d_t = _through(mask, below.d_second) + _through(variance, below.d_tangent)
    loadings = op.loadings(below.mean)
    if loadings is not None and op.conditioning is not None:
        k = k - np.matmul(loadings.transpose(0, 2, 1), loadings)
        moved = np.matmul(np.abs(op.conditioning.profiles), below.d_mean).transpose(1, 0, 2)
        one = np.matmul(np.abs(loadings).transpose(0, 2, 1), moved)
        d_k = d_k + one + one.transpose(0, 2, 1)
        if op.conditioning.table is not None:
            k = k - _through(op.conditioning.table, below.mean[:, :, None] * below.mean[:, None, :])
            one = _through(np.abs(op.conditioning.table), np.abs(below.mean[:, :, None]) * below.d_mean[:, None, :])
            d_k = d_k + one + one.transpose(0, 2, 1)
    mean = op.means(below.mean)
    return _Bounded(k, t, mean, d_k, d_t, np.zeros_like(mean) if op.drift is None else np.abs(op.drift) @ below.d_mean)


def _activated(step: DualStep, before: _Bounded) -> _Bounded:
    k, t, mu, d_k, d_t, d_mu = before
    q, d_q = np.maximum(np.einsum("pii->pi", k), 0.0), np.einsum("pii->pi", d_k)
    made, error = step.made, step.made.error
    pairs, alone = _pairs(step, k, (mu, q), (mu, q)), np.stack(made.diagonal(mu, q))
    by_k = _most(_pairs(step, moved_k, (mu, q), (mu, q)) - pairs for moved_k in (k - d_k, k + d_k))
    signs = itertools.product((-1.0, 1.0), (-1.0, 1.0) if d_mu.any() else (0.0,))
    ends = [(mu + b * d_mu, np.maximum(q + a * d_q, 0.0)) for a, b in signs]
    by_one = _most(_pairs(step, k, end, (mu, q)) - pairs for end in ends)
    scale = np.sqrt(np.maximum(alone, 0.0))
    moves = by_k + by_one + by_one.transpose(0, 1, 3, 2)
    np.einsum("cpii->cpi", moves)[:] = _most(np.stack(made.diagonal(*end)) - alone for end in ends)
    np.einsum("cpii->cpi", pairs)[:] = alone
    moves += error * scale[..., :, None] * scale[..., None, :]
    if step.means:
        mean = made.mean(mu, q)
        d_mean = _most(made.mean(*end) - mean for end in ends) + error * scale[0]
    else:
        mean, d_mean = np.zeros_like(mu), np.zeros_like(mu)
    return _Bounded(pairs[0], pairs[1] * t, mean, moves[0], moves[1] * np.abs(t) + np.abs(pairs[1]) * d_t, d_mean)


def _normed(part: Norm, weights: FloatArray, field: _Bounded) -> _Bounded:
    second, tangent, mean, d_second, d_tangent, d_mean = field
    center, d_center = weights @ mean, weights @ d_mean
    square = np.einsum("pii->pi", second) + (mean**2 if part.before else 0.0)
    d_square = np.einsum("pii->pi", d_second) + (2 * np.abs(mean) * d_mean if part.before else 0.0)
    q = np.maximum(weights @ square - center**2, 0.0) + part.epsilon
    factor = 1.0 / np.sqrt(q)
    moves = (weights @ d_square + 2 * np.abs(center) * d_center) / (2 * q)  # of the factor, relative
    both, moved = factor[:, None] * factor[None, :], moves[:, None] + moves[None, :]
    if not part.before:
        cross, d_cross = (
            mean[:, :, None] * center,
            d_mean[:, :, None] * np.abs(center) + np.abs(mean)[:, :, None] * d_center,
        )
        middle, d_middle = center[:, None] * center, d_center[:, None] * np.abs(center)
        second = second - cross - cross.transpose(0, 2, 1) + middle
        d_second = d_second + d_cross + d_cross.transpose(0, 2, 1) + d_middle + d_middle.T
    off = mean - center
    return _Bounded(
        second * both,
        tangent * both,
        off * factor,
        (d_second + np.abs(second) * moved) * both,
        (d_tangent + np.abs(tangent) * moved) * both,
        (d_mean + d_center + np.abs(off) * moves) * factor,
    )


def _through(matrix: FloatArray, field: FloatArray) -> FloatArray:
    return np.tensordot(matrix, field, 1)


def _most(moves: Iterable[FloatArray]) -> FloatArray:
    """The largest of several moves, entry by entry."""
    out: FloatArray = np.max([np.abs(move) for move in moves], axis=0)
    return out


def _pairs(
    step: DualStep, k: FloatArray, one: tuple[FloatArray, FloatArray], two: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """(C, Cdot) of all pairs (2, positions, N, N) at means and variances of either side, by the step of the pairs."""
    size = k.shape[1]
    state = np.ones((len(k), 2, size, size))
    state[:, 0] = k
    left, right = (step.features(Field(q, np.zeros_like(q), mu), np.float64) for mu, q in (one, two))
    out = step.on_pairs(Before(state, settled=True), left, right, Tile(0, size, 0, size, upper=False), Fresh())
    return np.ascontiguousarray(out.state.transpose(1, 0, 2, 3))


def _relative(error: FloatArray, kernel: FloatArray) -> float:
    root = np.sqrt(np.maximum(np.einsum("pii->pi", kernel), 0.0))
    scale = root[:, :, None] * root[:, None, :]
    return float(np.divide(error, scale, out=np.zeros_like(error), where=scale > 0).max(initial=0.0))
