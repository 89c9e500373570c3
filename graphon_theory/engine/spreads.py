"""What errors of the duals come to at the outputs: a bound of first order, carried on the pairs of a few inputs.

Series and heat flows give C and Cdot with a bound e of their error, relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22).
What is wrong in one layer goes through all the others (docs/quadrature.md): with bounds dK and dT from the layer below,

    dC    = e sqrt(C11 C22) + |C moved by K12 +- dK12| + |by K11 +- dK11| + |by K22 +- dK22|
    dCdot = e sqrt(Cdot11 Cdot22) + the same of Cdot
    dK'   = sigma_w^2 int V dC,     dT' = sigma_w^2 int [W dC + V (dCdot |T| + |Cdot| dT)]

Displacements are those of the bounds themselves, not derivatives: where phi has a kink and two inputs are close, Cdot
moves like the root of dK.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.neighbours import Neighbours
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.samples import Sample
from graphon_theory.engine.steps import Before, DualStep, Field, Fresh
from graphon_theory.engine.tiles import Tile

_INPUTS = 8  # on whose pairs the bound is carried: the extreme ones come first


def spread(recursion: Recursion, inputs: FloatArray) -> float:
    """The largest of dK and dT over sqrt(K_ii K_jj) and sqrt(T_ii T_jj), on the closest and other extreme inputs."""
    closest = Neighbours(recursion.operators[0], inputs).closest()
    x = Sample.of(inputs, closest, most=_INPUTS).inputs
    c = (x[:, None, :] * x[None, :, :]).transpose(2, 0, 1)  # (positions, N, N): of the layer below
    carried, d_carried, d_c = np.zeros_like(c), np.zeros_like(c), np.zeros_like(c)
    mean = np.ascontiguousarray(x.T)
    d_mean = np.zeros_like(mean)
    duals = iter(step for step in recursion.steps if isinstance(step, DualStep))
    for op in recursion.operators:
        k, d_k = _through(op.variance, c) + op.bias, _through(np.abs(op.variance), d_c)
        t = _through(op.mask_matrix, c) + op.trained_bias + _through(op.variance, carried)
        d_t = _through(np.abs(op.mask_matrix), d_c) + _through(np.abs(op.variance), d_carried)
        loadings = op.loadings(mean)
        if loadings is not None and op.conditioning is not None:
            k = k - np.matmul(loadings.transpose(0, 2, 1), loadings)
            moved = np.matmul(np.abs(op.conditioning.profiles), d_mean).transpose(1, 0, 2)
            one = np.matmul(np.abs(loadings).transpose(0, 2, 1), moved)
            d_k = d_k + one + one.transpose(0, 2, 1)
        step = next(duals, None)
        if step is None:
            return max(_relative(d_k, k), _relative(d_t, t))
        mu, q, d_q = op.means(mean), np.einsum("pii->pi", k).copy(), np.einsum("pii->pi", d_k)
        d_mu = np.zeros_like(mu) if op.drift is None else np.abs(op.drift) @ d_mean
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
        c, d_c = pairs[0], moves[0]
        carried, d_carried = pairs[1] * t, moves[1] * np.abs(t) + np.abs(pairs[1]) * d_t
    raise AssertionError("a network ends with a weight layer")


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
