"""Pruning laws: the (W, V, D) that a way of scoring weights leaves behind (THEORY §2)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import numpy as np
import sympy as sp
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import beta, chi2

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import axes_of, positive_number, real_array, share_kept, whole_number, whole_numbers
from graphon_theory.errors import ConnectivityError, GraphonError, shown
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.callables import FunctionGraphon, OfOne
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.pruning.weight_laws import WeightLaw, weight_law
from graphon_theory.values import Record

# Initialisations by name: the weights' law, and their deviation from (fan-in, fan-out).
INITS: dict[str, tuple[str, Callable[[int, int], float]]] = {
    "ntk": ("normal", lambda n_in, n_out: 1.0),
    "he": ("normal", lambda n_in, n_out: math.sqrt(2 / n_in)),
    "he_uniform": ("uniform", lambda n_in, n_out: math.sqrt(2 / n_in)),
    "lecun": ("normal", lambda n_in, n_out: math.sqrt(1 / n_in)),
    "glorot": ("normal", lambda n_in, n_out: math.sqrt(2 / (n_in + n_out))),
    "glorot_uniform": ("uniform", lambda n_in, n_out: math.sqrt(2 / (n_in + n_out))),
    "torch": ("uniform", lambda n_in, n_out: math.sqrt(1 / (3 * n_in))),  # torch.nn.Linear's default
}


_FAR = 1e300  # thresholds beyond, and below its inverse, are no numbers soon
_FIRST_STEP = 0.05  # of a threshold's logarithm, away from where the search starts; doubled until it is enclosed


def random_pruning(density: float) -> Connectivity:
    """Random pruning: W = V = density, D = 0 (mask independent of the weights).

    ``density`` is the share of weights kept, in (0, 1]. Raises ConnectivityError otherwise. THEORY §2; [GL].
    """
    return Connectivity(_density(density))


def magnitude_pruning(density: float, weights: object = "normal") -> Connectivity:
    """Magnitude pruning: the largest |w| survive.

        W = p,   V = E[w^2; |w| > t],   P(|w| > t) = p,   D = 0,      p = ``density``, E[w^2] = 1;
        normal weights: V = 2 [t phi(t) + Phi(-t)],   t = Phi^{-1}(1 - p/2).

    V > W: the surviving weights are the large ones, which is why magnitude and random pruning share a graphon
    and differ in their kernels. ``weights`` is the law of the initial weights: "normal", "uniform" or
    "truncated_normal" (at two deviations).

    Raises ConnectivityError for a density outside (0, 1] and for an unknown law. THEORY §2.
    """
    p, law = _density(density), weight_law(weights)
    return Connectivity(1.0) if p == 1.0 else Connectivity(p, law.kept_second_moment(p))


def saliency_pruning(
    row_factor: object, column_factor: object, density: float, weights: object = "normal"
) -> Connectivity:
    """Factorised saliency: the largest |w| r(u) c(v) of the layer survive.

        W = P(|w| > t),   V = E[w^2; |w| > t],   t(u, v) = tau / (r(u) c(v)),   mean of W = density,   D = 0.

    ``row_factor`` r, of the receiving position u, and ``column_factor`` c, of the sending position v, are numbers,
    callables of one array, SymPy expressions (or text) in u and in v, 1-D arrays (equal blocks), or graphons that
    vary along one axis only. They must not be negative; where one is 0 nothing survives. tau is solved to
    rounding. Factors constant on blocks give StepGraphons.

    Raises ConnectivityError for a factor that is negative or not finite, a density outside (0, 1], one that is
    larger than the share of connections with a positive score, and an unknown law of weights. THEORY §2.
    """
    law = weight_law(weights)
    row, column = _factor("row_factor", row_factor, "u"), _factor("column_factor", column_factor, "v")
    scored = _Scored(row, column, law)
    return scored.connectivity(solve_threshold(scored.density, _density(density)))


_LARGEST_GROUP = 10**9  # weights of N:M sparsity, which hardly differs from magnitude pruning long before


def n_m_pruning(n: int, m: int, weights: object = "normal") -> Connectivity:
    """N:M sparsity: of every ``m`` consecutive weights of a row the ``n`` largest |w| survive.

        W = n / m,   V = E[ g(p) ],  p ~ Beta(n, m - n),   g(p) = E[w^2; |w| > t], P(|w| > t) = p,   D = 0,

    since given the (n+1)-th largest |w| of a group, those above it are independent draws beyond it. Between
    random (V = W, m = 1) and magnitude pruning (m to infinity).

    Raises ConnectivityError unless 0 < n <= m are whole numbers, m at most 10^9.
    """
    expected = "whole numbers with 0 < n <= m <= 10^9 (keep n of every m)"
    n, m = whole_numbers("n, m", (n, m), 1, _LARGEST_GROUP, error=ConnectivityError, expected=expected)
    if n > m:
        raise ConnectivityError(f"n, m: expected {expected}, got {shown(n)}, {shown(m)}.")
    law = weight_law(weights)
    if n == m:
        return Connectivity(1.0)
    shares = beta(n, m - n)
    middle = n / m
    # quad stops where it sees no more: a layer of many small groups has all its mass near the middle
    spread = 12 * math.sqrt(middle * (1 - middle) / (m + 1))
    points = sorted({min(max(middle + s, 1e-12), 1 - 1e-12) for s in (-spread, 0.0, spread)})
    value, _ = quad(
        lambda p: law.kept_second_moment(p) * float(shares.pdf(p)) if 0 < p < 1 else 0.0,
        0.0,
        1.0,
        points=points,
        epsabs=1e-14,
        epsrel=1e-13,
        limit=400,
    )
    return Connectivity(n / m, value)


def unit_pruning(rows: float = 1.0, columns: float = 1.0, fan_in: int | None = None) -> Connectivity:
    """Structured sparsity: whole units are removed, the kept ones stand first.

        W(u, v) = 1[u < rows] 1[v < columns],   V = W k,   D = 0;
        k = 1, or for units kept by the norm of their n = ``fan_in`` normal weights
        k = E[X; X > q] / (n rows) = P(chi^2_{n+2} > q) / rows,   X ~ chi^2_n,   P(X > q) = rows.

    ``rows`` is the share of receiving units kept, ``columns`` of sending ones: a hidden unit that goes takes its
    row below and its column above along, so the next layer's ``columns`` is this layer's ``rows``. k - 1 is of order
    n^(-1/2): in the limit of wide layers a norm tells nothing and V = W.

    Raises ConnectivityError for shares outside (0, 1] and a fan-in that is no positive whole number.
    """
    kept, sent = _density(rows, "rows"), _density(columns, "columns")
    u_edges, v_edges = ([0.0, 1.0] if share == 1.0 else [0.0, share, 1.0] for share in (kept, sent))
    mask = np.zeros((len(u_edges) - 1, len(v_edges) - 1))
    mask[0, 0] = 1.0
    factor = 1.0
    if fan_in is not None and kept < 1.0:
        n = whole_number("fan_in", fan_in, 1, 2**53, error=ConnectivityError)
        factor = float(chi2.sf(chi2.isf(kept, n), n + 2)) / kept
    graphon = StepGraphon(mask, u_edges, v_edges)
    return Connectivity(graphon, None if factor == 1.0 else StepGraphon(factor * mask, u_edges, v_edges))


def erk_densities(widths: Sequence[int], density: float) -> tuple[float, ...]:
    """Densities of the Erdos-Renyi scheme: p_l proportional to (n_{l-1} + n_l) / (n_{l-1} n_l), at most 1.

    ``widths`` are all unit counts (n_0, ..., n_L); layers that reach 1 are kept dense and the rest share what is
    left, so that the surviving weights are ``density`` of all of them. For :func:`random_pruning`, layer by layer.
    Source: Mocanu et al. 2018; Evci et al. 2020 ("RigL"), without kernel terms, which an MLP has not.

    Raises ConnectivityError for widths or a density that cannot be.
    """
    counts, target = _widths(widths), _density(density)
    n_in, n_out = np.array(counts[:-1], dtype=float), np.array(counts[1:], dtype=float)
    sizes, shape = n_in * n_out, (n_in + n_out) / (n_in * n_out)
    densities = np.ones(len(sizes))
    free = np.ones(len(sizes), dtype=bool)
    while free.any():
        scale = (target * sizes.sum() - sizes[~free].sum()) / (sizes * shape)[free].sum()
        densities[free] = scale * shape[free]
        full = free & (densities > 1.0)
        if not full.any():
            break
        densities[full], free = 1.0, free & ~full
    return tuple(float(p) for p in densities)


@dataclass(frozen=True, eq=False)
class Saliency(Record):
    """How one layer's weights are scored: |w| r(u) c(v), w of the deviation and law that ``init`` names.

    ``init`` is one of "ntk" (deviation 1), "he", "he_uniform", "lecun", "glorot", "glorot_uniform" and "torch"
    (``torch.nn.Linear``'s default, uniform with deviation (3 fan-in)^(-1/2)), or the deviation itself as a number;
    ``weights`` overrides its law. The factors are as in :func:`saliency_pruning`; left out they are 1, which is
    magnitude pruning. For :func:`prune_globally`.
    """

    row_factor: object = 1.0
    column_factor: object = 1.0
    init: str | float = "ntk"
    weights: object = None

    def _scored(self, n_in: int, n_out: int) -> tuple[_Scored, float]:
        if isinstance(self.init, str) and self.init in INITS:
            name, deviation = INITS[self.init]
            scale = deviation(n_in, n_out)
        else:
            expected = f"one of {', '.join(INITS)} or a positive deviation"
            name = "normal"
            scale = positive_number("init", self.init, error=ConnectivityError, expected=expected)
        law = weight_law(name if self.weights is None else self.weights)
        row, column = _factor("row_factor", self.row_factor, "u"), _factor("column_factor", self.column_factor, "v")
        return _Scored(row, column, law), scale


def prune_globally(
    laws: Sequence[Saliency | str | None] | Saliency | str, density: float, widths: Sequence[int]
) -> list[Connectivity]:
    """One threshold for all layers: the best-scored share ``density`` of all prunable weights survives.

        score_l = s_l |w| r_l(u) c_l(v),   t_l = tau / (s_l r_l c_l),
        sum_l n_l n_{l-1} mean(W_l) = density x sum_l n_l n_{l-1},      s_l the weights' deviation in layer l.

    ``widths`` are all unit counts (n_0, ..., n_L). ``laws`` has one entry a layer: a :class:`Saliency`, the name of an
    init (magnitude pruning of such weights), or None for a layer that is left dense and not counted; one entry
    alone serves all layers. Layers of other fan-in have another scale s_l, hence another density and another
    V / W, and with it another share of the NTK.

    Raises ConnectivityError where laws and widths do not fit, and as :func:`saliency_pruning` does. THEORY §2.
    """
    counts, target = _widths(widths), _density(density)
    depth = len(counts) - 1
    chosen: Sequence[Any] = [laws] * depth if laws is None or isinstance(laws, (Saliency, str)) else laws
    if _count(chosen) != depth:
        raise ConnectivityError(
            f"laws: {len(counts)} widths mean {depth} layers, got {_count(chosen)} laws; give one a layer, or one "
            "alone."
        )
    layers: dict[int, tuple[_Scored, float]] = {}
    for index, law in enumerate(chosen):
        if law is None:
            continue
        if not isinstance(law, (Saliency, str)):
            raise ConnectivityError(
                f"laws: layer {index + 1}: expected a Saliency, the name of an init or None, got {shown(law)}."
            )
        try:
            one = Saliency(init=law) if isinstance(law, str) else law
            layers[index] = one._scored(counts[index], counts[index + 1])
        except GraphonError as error:
            raise type(error)(f"laws: layer {index + 1}: {error}") from None
    if not layers:
        raise ConnectivityError("laws: every layer is None, so there is nothing to prune; give at least one law.")
    sizes = {index: counts[index] * counts[index + 1] for index in layers}
    total = sum(sizes.values())

    def mean(tau: float) -> float:
        return math.fsum(sizes[i] * scored.density(tau / scale) for i, (scored, scale) in layers.items()) / total

    tau = solve_threshold(mean, target)
    return [layers[i][0].connectivity(tau / layers[i][1]) if i in layers else Connectivity(1.0) for i in range(depth)]


def _count(laws: object) -> int | str:
    return len(laws) if isinstance(laws, list | tuple) else type(laws).__name__


@dataclass(frozen=True)
class _Scored:
    """Weights of unit variance scored |w| r(u) c(v)."""

    row: Graphon
    column: Graphon
    law: WeightLaw

    def graphon(self, tau: float, moment: bool) -> Graphon:
        """W (or V) where scores beyond ``tau`` survive."""
        made = _Surviving(self.row, self.column, tau, self.law, moment)
        if not (isinstance(self.row, StepGraphon) and isinstance(self.column, StepGraphon)):
            return made
        u_edges, v_edges = self.row.u_edges, self.column.v_edges
        middles = ((edges[:-1] + edges[1:]) / 2 for edges in (u_edges, v_edges))
        values = made(*np.ix_(*middles))
        return ConstantGraphon(float(values[0, 0])) if values.size == 1 else StepGraphon(values, u_edges, v_edges)

    def density(self, tau: float) -> float:
        return self.graphon(tau, moment=False).mean()

    def connectivity(self, tau: float) -> Connectivity:
        mask = self.graphon(tau, moment=False)
        return Connectivity(mask) if tau == 0.0 else Connectivity(mask, self.graphon(tau, moment=True))


class _Surviving(Graphon):
    """P(|w| > t) or E[w^2; |w| > t] at t(u, v) = tau / (r(u) c(v)), r and c as graphons of one position."""

    def __init__(self, row: Graphon, column: Graphon, tau: float, law: WeightLaw, moment: bool) -> None:
        self.row, self.column, self.tau, self.law, self.moment = row, column, tau, law, moment
        self.u_breaks, self.v_breaks = row.u_breaks, column.v_breaks
        self.constant_in_u, self.constant_in_v = row.constant_in_u, column.constant_in_v
        if tau > 0 and not (row.constant_in_u and column.constant_in_v):
            self.switches = tuple(_Kink(row, column, kink, tau) for kink in law.kinks)

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        score = self.row(u, np.zeros_like(u)) * self.column(np.zeros_like(v), v)
        with np.errstate(divide="ignore", over="ignore"):
            t = np.where(score > 0, self.tau / np.where(score > 0, score, 1.0), np.inf)
        return self.law.second_moment(t) if self.moment else self.law.survival(t)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.row, self.column, self.tau, self.law, self.moment

    @property
    def T(self) -> _Surviving:
        return _Surviving(self.column.T, self.row.T, self.tau, self.law, self.moment)

    def __repr__(self) -> str:
        what = "second moment" if self.moment else "share"
        return f"<{what} of {self.law.name} |w| > {self.tau:.6g} / (r c), r = {self.row!r}, c = {self.column!r}>"

    def _latex(self) -> str:
        what = r"E\left[w^2; |w| > t\right]" if self.moment else r"P\left(|w| > t\right)"
        return rf"{what},\; t = \frac{{{self.tau:.6g}}}{{r(u)\, c(v)}}"


@dataclass(frozen=True)
class _Kink:
    """Zero where t(u, v) is the threshold ``t`` at which the law is not smooth."""

    row: Graphon
    column: Graphon
    t: float
    tau: float

    def __call__(self, u: FloatArray, v: FloatArray) -> FloatArray:
        return self.row(u, 0.0 * u) * self.column(0.0 * v, v) * self.t - self.tau


def solve_threshold(
    mean: Callable[[float], float], target: float, tolerance: float = 1e-15, start: float = 1.0
) -> float:
    """tau with mean(tau) = target, to a relative ``tolerance``; ``mean`` falls from its value at 0 to 0."""
    reach = mean(0.0)
    at = functools.cache(lambda s: mean(math.exp(s)))
    if target > reach + 1e-12:
        raise ConnectivityError(
            f"density: {target:.6g} cannot be reached, since only {reach:.6g} of the connections have a score above 0; "
            "lower the density, or make the factors positive."
        )
    if target >= reach - 1e-15:
        return 0.0
    low = high = math.log(start)
    most, step = math.log(_FAR), _FIRST_STEP
    while at(high) > target and high < most:
        high, step = min(high + step, most), 2 * step
    step = _FIRST_STEP
    while at(low) < target and low > -most:
        low, step = max(low - step, -most), 2 * step
    if not at(low) >= target >= at(high):
        raise ConnectivityError(
            f"density: no threshold of scores keeps {target:.6g}; the factors must be finite functions of position, "
            "the same at every call."
        )
    root: float = brentq(lambda s: at(s) - target, low, high, xtol=tolerance, rtol=1e-15)
    return math.exp(root)


def _factor(name: str, factor: object, position: str) -> Graphon:
    """A factor of one position as a graphon constant along the other."""
    made = _as_factor(name, factor, position)
    try:
        low, high = made.extremes()
    except GraphonError as error:
        raise ConnectivityError(f"{name}: {error}") from None
    if low < 0 or high == 0:
        what = "is 0 everywhere" if low >= 0 else f"reaches {low:.6g}"
        raise ConnectivityError(f"{name}: expected a factor of scores, >= 0 and not 0 everywhere, but it {what}.")
    return made


def _as_factor(name: str, factor: Any, position: str) -> Graphon:
    rows = position == "u"
    try:
        if isinstance(factor, Graphon):
            flat = np.array_equal(factor.v_breaks if rows else factor.u_breaks, [0, 1]) and not factor.switches
            if not flat or not (factor.constant_in_v if rows else factor.constant_in_u):
                raise ConnectivityError(f"expected a function of {position} alone, got {shown(factor)}")
            return factor
        if isinstance(factor, (str, sp.Basic)):
            made = AnalyticGraphon(factor)
            if not (made.constant_in_v if rows else made.constant_in_u):
                raise ConnectivityError(f"expected an expression in {position} alone, got {shown(factor)}")
            return ConstantGraphon(float(made(0.5, 0.5))) if made.constant_in_u and made.constant_in_v else made
        if isinstance(factor, Real) and not isinstance(factor, bool):
            return ConstantGraphon(cast(float, factor))
        if callable(factor):
            return FunctionGraphon(OfOne(factor, of_v=not rows))
        values = real_array("values", factor, objects=True, error=ConnectivityError)
        if values.ndim != 1:
            raise ConnectivityError(f"expected values on equal blocks as a 1-D array, got shape {values.shape}")
        return StepGraphon(values[:, None] if rows else values[None, :])
    except (GraphonError, OverflowError, TypeError, ValueError) as error:
        raise ConnectivityError(f"{name}: {str(error).rstrip('.')}.") from None


def _density(density: float, name: str = "density") -> float:
    return share_kept(name, density, error=ConnectivityError)


def _widths(widths: Any) -> tuple[int, ...]:
    if isinstance(widths, str) or axes_of(widths) != 1 or len(widths) < 2:
        raise ConnectivityError(f"widths: expected all unit counts (n_0, ..., n_L), at least two, got {shown(widths)}.")
    return tuple(whole_number("widths", n, error=ConnectivityError) for n in widths)
