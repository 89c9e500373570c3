"""The cut norm of a matrix between certified bounds (THEORY §8).

    |A|_cut = max over row sets S and column sets T of |sum of A over S x T|.

It is NP-hard; 1_S = (1 + x) / 2 turns it into  4 |A|_cut = max x^T B y  over signs, B = A with one more row and column
that make all its row and column sums 0 (Alon and Naor 2006). The relaxation to unit vectors,
max sum_ij B_ij <u_i, v_j>, is climbed by

    u_i <- B_i v / |B_i v|,     v_j <- u B_j / |u B_j|,

which needs two products of matrices a step. What it ends with is certified whether it has converged or not: for any
positive a, b

    max x^T B y <= sqrt(sum a  sum b)  sigma_max( B_ij / sqrt(a_i b_j) ),

with a_i = |B_i v|, b_j = |u B_j|, and sigma_max bounded by a Cholesky factorisation that succeeds. Rounding the unit
vectors by random hyperplanes starts a local search whose best end (S, T) is the lower bound's witness.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import eigsh

from graphon_theory.arrays import EPS, BoolArray, FloatArray

Witness = tuple[BoolArray, BoolArray]

_ENUMERATED = 14  # units of the smaller side up to which all sets are tried
_STEPS = 300


def bound_cut_norm(matrix: FloatArray, rng: np.random.Generator, starts: int) -> tuple[float, float, Witness]:
    """(lower, upper, witness sets) of |matrix|_cut; the bounds hold in exact arithmetic."""
    scale = float(np.abs(matrix).max())
    if scale == 0.0:
        return 0.0, 0.0, tuple(np.zeros(n, dtype=bool) for n in matrix.shape)  # type: ignore[return-value]
    scaled = matrix / scale  # no overflow, no underflow
    if min(matrix.shape) <= _ENUMERATED:
        lower, upper, witness = enumerate_cut_norm(scaled)
    else:
        lower, upper, witness = relax_cut_norm(scaled, rng, starts)
    return lower * scale, upper * scale, witness


def enumerate_cut_norm(matrix: FloatArray) -> tuple[float, float, Witness]:
    """By all sets of the smaller side, each with the best set of the other."""
    flat = matrix.shape[0] > matrix.shape[1]
    a = matrix.T if flat else matrix
    best, chosen = -1.0, (np.zeros(a.shape[0], bool), np.zeros(a.shape[1], bool))
    low = min(len(a), 8)  # subsets of the first rows as one product, of the others one by one
    first = np.array(list(itertools.product((0.0, 1.0), repeat=low)))
    sums = first @ a[:low]
    for rest in itertools.product((False, True), repeat=len(a) - low):
        totals = sums + a[low:][list(rest)].sum(axis=0)
        for sign in (1.0, -1.0):
            values = np.maximum(sign * totals, 0.0).sum(axis=1)
            k = int(np.argmax(values))
            if values[k] > best:
                best = float(values[k])
                chosen = np.concatenate([first[k] > 0, np.array(rest, dtype=bool)]), sign * totals[k] > 0
    slack = _rounding(matrix)
    witness = chosen[::-1] if flat else chosen
    return max(0.0, best - slack), best + slack, witness


def relax_cut_norm(matrix: FloatArray, rng: np.random.Generator, starts: int) -> tuple[float, float, Witness]:
    """By the relaxation to unit vectors, certified, and local search from its rounding."""
    rows, columns = np.abs(matrix).sum(axis=1) > 0, np.abs(matrix).sum(axis=0) > 0
    if not rows.any():
        return 0.0, 0.0, (rows, columns)
    a = matrix[np.ix_(rows, columns)]
    b = balanced(a)
    u, v = _unit_vectors(b, rng)
    upper = min(_certified(b, u, v) / 4, float(max(a[a > 0].sum(), -a[a < 0].sum())))
    lower, (s, t) = _search(a, u, v, rng, starts)
    chosen = np.zeros(matrix.shape[0], bool), np.zeros(matrix.shape[1], bool)
    chosen[0][rows], chosen[1][columns] = s, t
    slack = _rounding(matrix)
    lower = max(0.0, lower - slack)
    return lower, max(upper + slack, lower), chosen


def balanced(a: FloatArray) -> FloatArray:
    """``a`` with a last row and column that make every sum 0."""
    extended = np.concatenate([a, -a.sum(axis=1, keepdims=True)], axis=1)
    return np.concatenate([extended, -extended.sum(axis=0, keepdims=True)], axis=0)


def spectral_norm_bound(b: FloatArray) -> float:
    """A number no smaller than the largest singular value of ``b``, a few 1e-9 above it or less.

    s^2 - b^T b (in floating point, its diagonal lowered by a bound of the rounding errors) has a Cholesky factor only
    if s is large enough.
    """
    small = b if b.shape[0] >= b.shape[1] else b.T
    gram = small.T @ small
    n = len(gram)
    if not gram.any():
        return 0.0
    # v0 is fixed for reproducible results, and not the vector of ones, which may be orthogonal to all that counts
    few = n <= 64
    top = np.linalg.eigvalsh(gram)[-1] if few else eigsh(gram, 1, v0=np.cos(np.arange(n)), return_eigenvectors=False)[0]
    top = max(float(top), float(gram.diagonal().max()))
    # the product and the factorisation each err by at most about (n + m) eps times the trace factored (Rump 2006)
    rounding = 4 * sum(b.shape) * EPS * (n * top + float(gram.trace()))
    margin = 1e-10 * top
    while True:
        square = top + margin + rounding
        shifted = -gram
        shifted[np.diag_indices(n)] += top + margin
        try:
            scipy.linalg.cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            margin *= 8
            continue
        return math.sqrt(square) * (1 + 4 * EPS)


def _unit_vectors(b: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Rows of u and v climb sum_ij b_ij <u_i, v_j>."""
    rank = math.ceil(math.sqrt(2 * sum(b.shape))) + 1  # enough for local ends to be global ones (Barvinok, Pataki)
    v = _normalised(rng.standard_normal((b.shape[1], rank)))[0]
    value = 0.0
    for _ in range(_STEPS):
        u, _lengths = _normalised(b @ v)
        v, lengths = _normalised(b.T @ u)
        before, value = value, float(lengths.sum())
        if value - before <= 1e-5 * value:
            break
    return u, v


def _normalised(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors / np.where(lengths > 0, lengths, 1.0)[:, None], lengths


def _certified(b: FloatArray, u: FloatArray, v: FloatArray) -> float:
    """An upper bound of x^T b y over signs from the scales the unit vectors suggest."""
    lengths = np.linalg.norm(b @ v, axis=1), np.linalg.norm(b.T @ u, axis=1)
    rows, columns = (np.maximum(one, 1e-9 * one.mean()) for one in lengths)
    scaled = b / np.sqrt(rows)[:, None] / np.sqrt(columns)
    return math.sqrt(rows.sum() * columns.sum()) * spectral_norm_bound(scaled)


def _search(
    a: FloatArray, u: FloatArray, v: FloatArray, rng: np.random.Generator, starts: int
) -> tuple[float, Witness]:
    """Best ends of alternating choices of T given S and S given T, for A and -A."""
    normals = rng.standard_normal((u.shape[1], starts))
    sides = u @ normals > 0
    rounded = sides[:-1] == sides[-1]  # x_i = x_last: a set and its complement give one value of the balanced matrix
    random = rng.random((len(a), max(1, starts // 4))) < 0.5
    sets = np.concatenate([rounded, ~rounded, random, np.ones((len(a), 1), bool)], axis=1)
    best, chosen = -1.0, (sets[:, 0], np.zeros(a.shape[1], bool))
    for sign in (1.0, -1.0):
        s = sets
        value = np.zeros(s.shape[1])
        for _ in range(100):
            t = sign * (a.T @ s) > 0
            gains = sign * (a @ t)
            s = gains > 0
            before, value = value, np.maximum(gains, 0.0).sum(axis=0)
            if not (value > before * (1 + 1e-12)).any():
                break
        k = int(np.argmax(value))
        if value[k] > best:
            best, chosen = float(value[k]), (s[:, k], t[:, k])
    return abs(float(a[np.ix_(*chosen)].sum())), chosen


def _rounding(matrix: Any) -> float:
    """What sums over entries of the matrix can err by."""
    return float((sum(matrix.shape) + 16) * EPS * np.abs(matrix).sum())
