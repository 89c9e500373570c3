"""The limit kernel as plain loops over scalars: the definition that tests hold the engine to.

Nothing here is shared with the package. A layer is given by its operator matrices (THEORY §5),

    (A g)_i = sum_j A[i][j] g_j,   which stands for   int A(u_i, v) g(v) dmu(v),

so the quadrature weights (and the 1/d of the inputs) are inside the matrix; :func:`weighted` puts them there.
The recursion of THEORY §3 is then written out for one pair of inputs, one position and one layer at a time,
with Python floats or with mpmath numbers, forward and by the adjoint form. It is slow on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.reference_duals import DUALS, FLOAT, Arithmetic, Duals, Pair

Matrix = Sequence[Sequence[Any]]

EPS = 2.0**-52


# --- layers and the recursion ---------------------------------------------------------------------


@dataclass(frozen=True)
class KnownParts:
    """Operator matrices of G_1..G_r, rows g_1..g_r over positions, and the biases' means (THEORY §10)."""

    profiles: Sequence[Matrix]
    bias: Matrix
    bias_mean: Sequence[Any]


@dataclass(frozen=True)
class Layer:
    """Operator matrices (receiving, sending positions) of W, V and D; V = W and D = 0 if left out.

    ``known`` goes with a drift (of zeros, if there is none).
    """

    mask: Matrix
    variance: Matrix | None = None
    drift: Matrix | None = None
    known: KnownParts | None = None


def weighted(values: Matrix | ArrayLike, weights: Sequence[Any]) -> Matrix:
    """Graphon values at (u_i, v_j) and the weights of the sending nodes -> an operator matrix."""
    return [[value * w for value, w in zip(row, weights, strict=True)] for row in np.asarray(values).tolist()]


@dataclass(frozen=True)
class Reference:
    """Kernels of THEORY §3. Arrays are float64, or of dtype object with mpmath numbers in them.

    nngp, ntk: (k, N, N2);  ntk_layer: (L, k, N, N2) by the adjoint form;  mean: (k, N)
    covariances, tangents: per layer l = 1..L an array (positions, N, N2) of K^l(u) and T^l(u)
    """

    nngp: NDArray[Any]
    ntk: NDArray[Any]
    ntk_layer: NDArray[Any]
    mean: NDArray[Any]
    covariances: tuple[NDArray[Any], ...]
    tangents: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class _Setting:
    """Everything but the inputs, already in the arithmetic's own numbers."""

    a: Arithmetic
    masks: list[Matrix]
    variances: list[Matrix]
    drifts: list[Matrix | None]
    known: list[KnownParts | None]
    duals: Duals
    sw2: list[Any]
    sb2: Any
    weight_factor: list[Any]  # what the parameterization puts before each layer's own terms of T
    bias_factor: Any


@dataclass(frozen=True)
class _Signals:
    """One pair of inputs, pushed forward: per layer and position the means and (q12, q11, q22)."""

    means: list[list[tuple[Any, Any]]]
    covariances: list[list[Pair]]
    duals: list[list[Pair]]  # C of (12, 11, 22) per hidden layer; layer 0 holds the input products
    gates: list[list[Any]]  # Cdot of the pair; layer 0 is unused


def _forward(s: _Setting, x: Sequence[Any], y: Sequence[Any]) -> _Signals:
    zero = s.a.number(0)
    means: list[list[tuple[Any, Any]]] = []
    covariances: list[list[Pair]] = []
    duals: list[list[Pair]] = [[(p * q, p * p, q * q) for p, q in zip(x, y, strict=True)]]
    first: list[tuple[Any, Any]] = list(zip(x, y, strict=True))  # E phi of "layer 0"
    gates: list[list[Any]] = [[]]
    signal = first
    for depth, variance in enumerate(s.variances):
        mean_here: list[tuple[Any, Any]] = []
        here: list[Pair] = []
        for i in range(len(variance)):
            mu = [zero, zero]
            q = [s.sb2, s.sb2, s.sb2]
            for j in range(len(variance[i])):
                second = variance[i][j]
                drift = s.drifts[depth]
                if drift is not None:
                    mu = [mu[side] + s.a.sqrt(s.sw2[depth]) * drift[i][j] * signal[j][side] for side in (0, 1)]
                    if depth == 0:  # (V - D^2 / d) / d, with the 1/d inside both matrices
                        second = second - drift[i][j] ** 2
                q = [q[c] + s.sw2[depth] * second * duals[depth][j][c] for c in range(3)]
            known = s.known[depth]
            if known is not None:
                mu = [m + s.a.sqrt(s.sb2) * s.a.number(known.bias_mean[i]) for m in mu]
                for profile, shares in zip(known.profiles, known.bias, strict=True):
                    moved = [s.a.sqrt(s.sb2) * s.a.number(shares[i])] * 2
                    for j in range(len(variance[i])):
                        factor = s.a.sqrt(s.sw2[depth]) * s.a.number(profile[i][j])
                        moved = [moved[side] + factor * signal[j][side] for side in (0, 1)]
                    q = [q[0] - moved[0] * moved[1], q[1] - moved[0] ** 2, q[2] - moved[1] ** 2]
            mean_here.append((mu[0], mu[1]))
            here.append((q[0], q[1], q[2]))
        means.append(mean_here)
        covariances.append(here)
        if depth + 1 < len(s.variances):
            raw: list[Pair] = []
            gate: list[Any] = []
            signal = []
            for (m1, m2), (q12, q11, q22) in zip(mean_here, here, strict=True):
                c12, dot = s.duals.pair(s.a, m1, m2, (q12, q11, q22))
                c11, _ = s.duals.pair(s.a, m1, m1, (q11, q11, q11))
                c22, _ = s.duals.pair(s.a, m2, m2, (q22, q22, q22))
                raw.append((c12, c11, c22))
                gate.append(dot)
                if any(d is not None for d in s.drifts[depth + 1 :]):
                    signal.append((s.duals.mean(s.a, m1, q11), s.duals.mean(s.a, m2, q22)))
            duals.append(raw)
            gates.append(gate)
    return _Signals(means, covariances, duals, gates)


def _tangents(s: _Setting, signals: _Signals) -> list[list[Any]]:
    """T^l(u) of THEORY §3, upwards from the input."""
    out: list[list[Any]] = []
    for depth, (mask, variance) in enumerate(zip(s.masks, s.variances, strict=True)):
        here: list[Any] = []
        for i in range(len(mask)):
            total = s.bias_factor * s.sb2
            for j in range(len(mask[i])):
                total += s.weight_factor[depth] * s.sw2[depth] * mask[i][j] * signals.duals[depth][j][0]
                if depth > 0:
                    total += s.sw2[depth] * variance[i][j] * signals.gates[depth][j] * out[depth - 1][j]
            here.append(total)
        out.append(here)
    return out


def _contributions(s: _Setting, signals: _Signals, output: int) -> list[Any]:
    """NTK_l of THEORY §3 by the adjoint form, from one output down. ``back`` is B^l times the weights."""
    layers = len(s.masks)
    out: list[Any] = [None] * layers
    back = [s.a.number(1 if i == output else 0) for i in range(len(s.masks[-1]))]
    for depth in range(layers - 1, -1, -1):
        mask, variance = s.masks[depth], s.variances[depth]
        weight_term, bias_term = s.a.number(0), s.a.number(0)
        for i in range(len(mask)):
            bias_term += s.bias_factor * s.sb2 * back[i]
            for j in range(len(mask[i])):
                weight_term += s.sw2[depth] * back[i] * mask[i][j] * signals.duals[depth][j][0]
        out[depth] = s.weight_factor[depth] * weight_term + bias_term
        if depth > 0:
            below = []
            for j in range(len(variance[0])):
                total = s.a.number(0)
                for i in range(len(variance)):
                    total += s.sw2[depth] * variance[i][j] * back[i]
                below.append(signals.gates[depth][j] * total)
            back = below
    return out


def _numbers(a: Arithmetic, matrix: Matrix) -> Matrix:
    return [[a.number(value) for value in row] for row in matrix]


def limit_reference(
    layers: Sequence[Layer],
    x: Matrix | ArrayLike,
    x2: Matrix | ArrayLike | None = None,
    *,
    activation: str | Duals = "relu",
    weight_variance: float | Sequence[float] = 2.0,
    bias_variance: float = 0.0,
    parameterization: str = "ntk",
    fan_ins: Sequence[int] | None = None,
    arithmetic: Arithmetic = FLOAT,
) -> Reference:
    """THEORY §3 for operator matrices ``layers``: first (P1, d), ..., last (k, P).

    The standard parameterization needs ``fan_ins`` = (n_0, ..., n_{L-1}).
    """
    a = arithmetic
    depth = len(layers)
    variances = [weight_variance] * depth if isinstance(weight_variance, int | float) else list(weight_variance)
    sw2, sb2 = [a.number(value) for value in variances], a.number(bias_variance)
    one = a.number(1)
    weight_factor, bias_factor = [one] * depth, one
    if parameterization == "standard":
        if fan_ins is None or len(fan_ins) != depth:
            raise ValueError("the standard parameterization needs one fan-in per layer")
        weight_factor = [a.number(n) / s for n, s in zip(fan_ins, sw2, strict=True)]
        bias_factor = 1 / sb2 if sb2 != 0 else one
    elif parameterization != "ntk":
        raise ValueError(parameterization)
    s = _Setting(
        a=a,
        masks=[_numbers(a, layer.mask) for layer in layers],
        variances=[_numbers(a, layer.mask if layer.variance is None else layer.variance) for layer in layers],
        drifts=[None if layer.drift is None else _numbers(a, layer.drift) for layer in layers],
        known=[layer.known for layer in layers],
        duals=DUALS[activation] if isinstance(activation, str) else activation,
        sw2=sw2,
        sb2=sb2,
        weight_factor=weight_factor,
        bias_factor=bias_factor,
    )
    rows = _numbers(a, np.asarray(x).tolist())
    columns = rows if x2 is None else _numbers(a, np.asarray(x2).tolist())
    dtype: Any = np.float64 if a is FLOAT else object
    sizes = [len(layer.mask) for layer in layers]
    shape = (len(rows), len(columns))
    covariances = tuple(np.empty((size, *shape), dtype) for size in sizes)
    tangents = tuple(np.empty((size, *shape), dtype) for size in sizes)
    by_layer = np.empty((depth, sizes[-1], *shape), dtype)
    mean = np.empty((sizes[-1], len(rows)), dtype)
    for p, first in enumerate(rows):
        for q, second in enumerate(columns):
            signals = _forward(s, first, second)
            ts = _tangents(s, signals)
            for level in range(depth):
                for i in range(sizes[level]):
                    covariances[level][i, p, q] = signals.covariances[level][i][0]
                    tangents[level][i, p, q] = ts[level][i]
            for output in range(sizes[-1]):
                for level, value in enumerate(_contributions(s, signals, output)):
                    by_layer[level, output, p, q] = value
                mean[output, p] = signals.means[-1][output][0]
    return Reference(covariances[-1], tangents[-1], by_layer, mean, covariances, tangents)


# --- the dense network, once more and on its own --------------------------------------------------


def classical_ntk(
    x: Matrix | ArrayLike,
    depth: int,
    *,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
    activation: str = "relu",
    digits: int = 50,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """NNGP and NTK of the dense network with ``depth`` weight layers [J], in mpmath, inputs exact.

    A relu network's angle is plain arccos here: at 50 digits it loses none that matter. Returns two object
    arrays.
    """
    mp = mpmath.MPContext()
    mp.dps = digits
    rows = [[mp.mpf(value) for value in row] for row in np.asarray(x).tolist()]
    sw2, sb2 = mp.mpf(weight_variance), mp.mpf(bias_variance)
    n = len(rows)
    k = np.empty((n, n), object)
    for i in range(n):
        for j in range(n):
            k[i, j] = sw2 * mp.fsum(p * q for p, q in zip(rows[i], rows[j], strict=True)) / len(rows[i]) + sb2
    theta = k.copy()
    for _ in range(depth - 1):
        below = k.copy()
        for i in range(n):
            for j in range(n):
                q12, q11, q22 = below[i, j], below[i, i], below[j, j]
                if activation == "relu":
                    if q11 == 0 or q22 == 0:
                        c, dot = mp.mpf(0), mp.mpf(0)
                    else:
                        scale = mp.sqrt(q11 * q22)
                        rho = max(min(q12 / scale, mp.mpf(1)), mp.mpf(-1))
                        angle = mp.acos(rho)
                        c = scale * (mp.sqrt(1 - rho**2) + rho * (mp.pi - angle)) / (2 * mp.pi)
                        dot = (mp.pi - angle) / (2 * mp.pi)
                elif activation == "erf":
                    scale = mp.sqrt((1 + 2 * q11) * (1 + 2 * q22))
                    c = 2 / mp.pi * mp.asin(2 * q12 / scale)
                    dot = 4 / (mp.pi * mp.sqrt((1 + 2 * q11) * (1 + 2 * q22) - 4 * q12**2))
                else:
                    raise ValueError(activation)
                k[i, j] = sw2 * c + sb2
                theta[i, j] = k[i, j] + sw2 * dot * theta[i, j]
    return k, theta


def coincidence_inputs(d: int, seed: int) -> NDArray[np.float64]:
    """Inputs at every degenerate place: random, duplicate, scaled, nearly coincident, opposite and zero rows.

    Rows 0-3 are random; 4 duplicates row 0, 5 is twice row 1, 6 opposes row 0, 7 is zero; rows 8-14 are row 0
    moved by relative 1e-3, 1e-4, ..., 1e-9 (each its own way), and the last opposes row 1 up to 1e-6.
    """
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((4, d))
    rows = [*base, base[0], 2 * base[1], -base[0], np.zeros(d)]
    length = np.linalg.norm(base, axis=1)
    for exponent in range(3, 10):
        away = rng.standard_normal(d)
        rows.append(base[0] + 10.0**-exponent * length[0] * away / np.linalg.norm(away))
    away = rng.standard_normal(d)
    rows.append(-base[1] + 1e-6 * length[1] * away / np.linalg.norm(away))
    return np.array(rows)


def classical_tolerance(
    x: ArrayLike, *, weight_variance: float = 2.0, bias_variance: float = 0.0
) -> NDArray[np.float64]:
    """1e-13 + 2 eps / sqrt(1 - rho^2): what a float64 Gram matrix can know, relative to the scale.

    rho is the first layer's correlation in exact arithmetic; pairs with |rho| = 1 exactly are owed 1e-13.
    """
    rows = [[Fraction(value) for value in row] for row in np.asarray(x, dtype=np.float64).tolist()]
    sw2, sb2 = Fraction(weight_variance), Fraction(bias_variance)
    n = len(rows)
    gram = [[sw2 * sum(p * q for p, q in zip(r, t, strict=True)) / len(r) + sb2 for t in rows] for r in rows]
    out = np.full((n, n), 1e-13)
    for i in range(n):
        for j in range(n):
            scale = gram[i][i] * gram[j][j]
            rest = scale - gram[i][j] ** 2
            if scale and rest:
                out[i, j] += 2 * EPS / math.sqrt(rest / scale)
    return out


def relative_error(got: ArrayLike, want: ArrayLike) -> NDArray[np.float64]:
    """|got - want| relative to sqrt(K_ii K_jj) of the square kernels ``want`` (..., N, N), entry by entry.

    Where the scale is zero the two must agree exactly: the error there is 0 or inf.
    """
    want_array = np.asarray(want)
    diagonal = np.sqrt(np.einsum("...ii->...i", want_array).astype(np.float64))
    scale = diagonal[..., :, None] * diagonal[..., None, :]
    difference = np.abs((np.asarray(got) - want_array).astype(np.float64))
    worst = np.where(difference == 0, 0.0, np.inf)
    return np.divide(difference, scale, out=worst, where=scale > 0)
