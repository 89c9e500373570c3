"""The limit kernel as plain loops over scalars: the definition that tests hold the engine to.

Nothing here is shared with the package. A layer is given by its operator matrices (THEORY §5),

    (A g)_i = sum_j A[i][j] g_j,   which stands for   int A(u_i, v) g(v) dmu(v),

so the quadrature weights (and the 1/d of the inputs) are inside the matrix; :func:`weighted` puts them there.
The recursion of THEORY §3 is then written out for one pair of inputs, one position and one layer at a time,
with Python floats or with mpmath numbers, forward and by the adjoint form. It is slow on purpose.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from mpmath.calculus.quadrature import GaussLegendre
from numpy.typing import ArrayLike, NDArray

Matrix = Sequence[Sequence[Any]]
Pair = tuple[Any, Any, Any]  # (q12, q11, q22)

EPS = 2.0**-52


# --- two kinds of number --------------------------------------------------------------------------


@dataclass(frozen=True)
class Arithmetic:
    """The handful of operations the loops need, in one kind of number."""

    name: str
    number: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    atan2: Callable[[Any, Any], Any]
    pi: Any
    determinant: Callable[[Any, Any, Any], Any]  # q11 q22 - q12^2, without cancellation


def _exact_determinant(q12: float, q11: float, q22: float) -> float:
    """q11 q22 - q12^2 of three floats, rounded once: near |rho| = 1 the plain difference is all rounding."""
    return float(Fraction(q11) * Fraction(q22) - Fraction(q12) ** 2)


FLOAT = Arithmetic("float", float, math.sqrt, math.exp, math.atan2, math.pi, _exact_determinant)


def multiprecision(digits: int = 40) -> Arithmetic:
    """mpmath numbers in a context of their own, so that the global precision stays as it is."""
    mp = mpmath.MPContext()
    mp.dps = digits
    return Arithmetic(
        name=f"mpmath[{digits}]",
        number=lambda value: mp.mpf(value.item() if isinstance(value, np.generic) else value),
        sqrt=mp.sqrt,
        exp=mp.exp,
        atan2=mp.atan2,
        pi=+mp.pi,
        determinant=lambda q12, q11, q22: q11 * q22 - q12 * q12,
    )


# --- activations: mean, C and Cdot (THEORY §4) ----------------------------------------------------


@dataclass(frozen=True)
class Duals:
    """mean(a, mu, q) = E phi(mu + f);  pair(a, mu1, mu2, (q12, q11, q22)) = (E phi phi', E dphi dphi')."""

    mean: Callable[[Arithmetic, Any, Any], Any]
    pair: Callable[[Arithmetic, Any, Any, Pair], tuple[Any, Any]]


def _centred(name: str, form: Callable[[Arithmetic, Pair], tuple[Any, Any]]) -> Duals:
    def mean(a: Arithmetic, mu: Any, q: Any) -> Any:
        raise ValueError(f"{name}: the closed form is centred; use quadrature_duals with drift")

    def pair(a: Arithmetic, mu1: Any, mu2: Any, q: Pair) -> tuple[Any, Any]:
        if mu1 != 0 or mu2 != 0:
            raise ValueError(f"{name}: the closed form is centred; use quadrature_duals with drift")
        return form(a, q)

    return Duals(mean, pair)


def _relu(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """[CS]: with the angle t, 2 pi C = sqrt(q11 q22) sin t + q12 (pi - t) and 2 pi Cdot = pi - t.

    A variance of zero means f = 0 surely, and phi'(0) = 0 as everywhere in this project's step 1[z > 0].
    """
    q12, q11, q22 = q
    if q11 == 0 or q22 == 0:
        return a.number(0), a.number(0)
    determinant = a.determinant(q12, q11, q22)
    root = a.sqrt(determinant) if determinant > 0 else a.number(0)
    opening = a.pi - a.atan2(root, q12)
    return (root + q12 * opening) / (2 * a.pi), opening / (2 * a.pi)


def _erf(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """[W]: C = (2/pi) asin(2 q12 / sqrt((1 + 2 q11)(1 + 2 q22))), Cdot = dC/dq12."""
    q12, q11, q22 = q
    root = a.sqrt(a.determinant(2 * q12, 1 + 2 * q11, 1 + 2 * q22))
    return 2 / a.pi * a.atan2(2 * q12, root), 4 / (a.pi * root)


def _rectifier(alpha: float, beta: float) -> Callable[[Arithmetic, Pair], tuple[Any, Any]]:
    """phi = beta relu(z) - alpha relu(-z): the four pairs of half-lines, each a relu pair at rho or -rho."""

    def form(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
        q12, q11, q22 = q
        up, down = a.number(beta), a.number(alpha)
        same, same_dot = _relu(a, (q12, q11, q22))
        across, across_dot = _relu(a, (-q12, q11, q22))
        squares, twice = up * up + down * down, 2 * up * down
        return squares * same - twice * across, squares * same_dot + twice * across_dot

    return form


def _step(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    return _relu(a, q)[1], a.number(0)


def _exponentials(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """E exp(i(f - f')) and E exp(i(f + f')): the characteristic function."""
    q12, q11, q22 = q
    minus, plus = (a.exp(-(q11 + q22 - sign * 2 * q12) / 2) for sign in (1, -1))
    return minus, plus


def _sin(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    minus, plus = _exponentials(a, q)
    return (minus - plus) / 2, (minus + plus) / 2


def _cos(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    minus, plus = _exponentials(a, q)
    return (minus + plus) / 2, (minus - plus) / 2


def _exp(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    value = a.exp((q[1] + q[2] + 2 * q[0]) / 2)
    return value, value


def _gaussian(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """1 / sqrt(det(1 + Q)) and its slope in q12."""
    q12, q11, q22 = q
    det = (1 + q11) * (1 + q22) - q12 * q12
    return 1 / a.sqrt(det), q12 / (det * a.sqrt(det))


def _gelu(a: Arithmetic, q: Pair) -> tuple[Any, Any]:
    """E[f f' Phi(f) Phi(f')] by integration by parts: E[f f' G] = q12 E G + sum_kl Q_1k Q_2l E d_k d_l G."""
    q12, q11, q22 = q
    det = (1 + q11) * (1 + q22) - q12 * q12
    root = a.sqrt(det)
    gates = (a.pi / 2 + a.atan2(q12, root)) / (2 * a.pi)
    density = 1 / (2 * a.pi * root)
    first, second = -q12 / (1 + q11) * density, -q12 / (1 + q22) * density  # E of the second derivatives in f, in f'
    value = q12 * gates + q11 * q12 * first + q12 * q22 * second + (q11 * q22 + q12 * q12) * density
    # E[phi' phi'], phi' = Phi + f n(f): gates, E[f n Phi] twice, E[f f' n n']
    return value, gates - first - second + q12 / det * density


def _identity_pair(a: Arithmetic, mu1: Any, mu2: Any, q: Pair) -> tuple[Any, Any]:
    return q[0] + mu1 * mu2, a.number(1)


DUALS: dict[str, Duals] = {
    "relu": _centred("relu", _relu),
    "erf": _centred("erf", _erf),
    "identity": Duals(lambda a, mu, q: mu, _identity_pair),
    "leaky_relu": _centred("leaky_relu", _rectifier(0.01, 1.0)),
    "abs": _centred("abs", _rectifier(-1.0, 1.0)),
    "step": _centred("step", _step),
    "sin": _centred("sin", _sin),
    "cos": _centred("cos", _cos),
    "exp": _centred("exp", _exp),
    "gaussian": _centred("gaussian", _gaussian),
    "gelu": _centred("gelu", _gelu),
}


def quadrature_duals(
    phi: Callable[[Any], Any],
    derivative: Callable[[Any], Any],
    kinks: Sequence[float] = (),
    digits: int = 15,
) -> Duals:
    """Duals of any activation about any means, by nested Gauss-Legendre in mpmath, split at the kinks: slow.

    ``phi`` and ``derivative`` (almost everywhere) act on mpmath numbers. With 1 - |rho| below about 1e-4, and
    not zero, the outer integrand has a layer of width sqrt(1 - rho^2) and digits are lost. ``digits`` up to
    40.
    """
    mp = mpmath.MPContext()
    mp.dps = digits
    reach = mp.sqrt(2 * mp.log(10) * (digits + 3))  # the Gaussian beyond it is below the last digit

    # 48 Gauss-Legendre nodes resolve a Gaussian on half of that range to 16 digits, 96 to 40
    rule = GaussLegendre(mp).calc_nodes(5 if digits <= 16 else 6, mp.prec + 20)

    def expect(f: Callable[[Any], Any], splits: Sequence[Any]) -> Any:
        inner = sorted({s for s in splits if -reach < s < reach} | {mp.mpf(0)})
        total = mp.mpf(0)
        for a, b in itertools.pairwise([-reach, *inner, reach]):
            half, middle = (b - a) / 2, (a + b) / 2
            for node, weight in rule:
                z = middle + half * node
                total += half * weight * mp.exp(-z * z / 2) * f(z)
        return total / mp.sqrt(2 * mp.pi)

    def splits_of(mu: Any, scale: Any) -> list[Any]:
        return [(mp.mpf(k) - mu) / scale for k in kinks]

    def one(g: Callable[[Any], Any], mu: Any, q: Any) -> Any:
        mu, scale = mp.mpf(mu), mp.sqrt(q)
        return g(mu) if scale == 0 else expect(lambda z: g(mu + scale * z), splits_of(mu, scale))

    def two(g: Callable[[Any], Any], mu1: Any, mu2: Any, q: Pair) -> Any:
        q12, q11, q22 = (mp.mpf(value) for value in q)
        m1, m2 = mp.mpf(mu1), mp.mpf(mu2)
        if q11 == 0:
            return g(m1) * one(g, m2, q22)
        if q22 == 0:
            return g(m2) * one(g, m1, q11)
        s1, s2 = mp.sqrt(q11), mp.sqrt(q22)
        rho = q12 / (s1 * s2)
        rest = 1 - rho * rho
        outer = splits_of(m1, s1)
        if rest <= 8 * mp.eps:
            sign = mp.sign(rho)
            both = outer + [sign * s for s in splits_of(m2, s2)]
            return expect(lambda z: g(m1 + s1 * z) * g(m2 + s2 * sign * z), both)
        if rho != 0:  # where the inner kink passes through the middle of the inner Gaussian
            outer = outer + [s / rho for s in splits_of(m2, s2)]

        def given(z: Any) -> Any:
            return g(m1 + s1 * z) * one(g, m2 + s2 * rho * z, q22 * rest)

        return expect(given, outer)

    return Duals(
        mean=lambda a, mu, q: a.number(one(phi, mu, q)),
        pair=lambda a, mu1, mu2, q: (a.number(two(phi, mu1, mu2, q)), a.number(two(derivative, mu1, mu2, q))),
    )


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
