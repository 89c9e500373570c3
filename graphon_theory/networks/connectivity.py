"""Connectivity of one layer: mask graphon W, variance graphon V and drift graphon D (THEORY §2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import whole_number
from graphon_theory.errors import ConnectivityError, GraphonError, shown
from graphon_theory.graphons.conversions import as_graphon
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon
from graphon_theory.graphons.positions import SLACK, between, check_density
from graphon_theory.values import Value

_ZERO = ConstantGraphon(0.0)


_MOST_PROFILES = 10_000  # coordinates that positions tell of


class Known(Value):
    """What a position tells of the parameters of the unit there: some linear combinations of them (THEORY §10).

    A unit at u is known by r coordinates, standard normal before they are known, that are linear in its weights and
    its bias (in units of their dense deviations). Knowing them moves the means, which is what D says for the weights
    and ``bias_mean`` for the bias, and takes their share out of the covariance:

        cov(m w_v, m w_v') = V(u,v) 1[v = v'] - (1/n) sum_r G_r(u,v) G_r(u,v'),
        cov(m w_v, b) = -(1/sqrt(n)) sum_r G_r(u,v) g_r(u),     var b = 1 - sum_r g_r(u)^2,

    where G_r / sqrt(n) and g_r are the covariances of the coordinate with m w_v and b. With the coordinates' values
    c_r(u), D = sum_r c_r G_r and bias_mean = sum_r c_r g_r.

    A unit at v may be known by q coordinates d_s(v) of what comes back to it as well, linear in the weights that it
    sends through: with modes Gamma_s(u) of the gradients above, orthonormal over u,

        E[m w_u | d] = V(u,v) sum_s Gamma_s(u) d_s(v) / sqrt(n_out).

    That moves the tangent kernel alone (THEORY §10). Of the last layer's weights nothing else is random: Gamma_o is
    sqrt(k) at output o, and d_o(v) is 1 / w where w survives.

    Args:
        profiles: G_1..G_r, each anything :func:`as_graphon` takes.
        bias: g_1..g_r, each a graphon that is read at its u alone (a number, a step function of one column); zero if
            left out.
        bias_mean: the mean of b at u, likewise.
        gradients: Gamma_1..Gamma_q, each a function of u alone, likewise; they are not checked for being orthonormal.
        coordinates: d_1..d_q, each a graphon that is read at its v alone; as many.
        senders: the number n of units below where positions are single units, cells of equal size, and not a continuum:
            what is known of one weight then counts beside what is known of sums,
            var(m w_v) = V - (1/n) (D^2 - sum_r G_r^2) before the covariances above are taken, and with ``returning``
            D is read both ways, E[m w_u] = D(u,v) / sqrt(n), and coordinates may be left out.
        returning: of single units, the H(u,v) by which sums on the way back are known: covariances of m w_u and
            m w_u' there are -(1/n_out) sum_s H(u,v) Gamma_s(u) H(u',v) Gamma_s(u'); V in a continuum.

    Raises ConnectivityError for anything else, for functions of the bias and gradients that depend on v, and for
    coordinates that depend on u. That profiles vanish
    where W does is checked by :class:`Connectivity`; that coordinates explain no more than V, int G_r G_s / V + g_r g_s
    <= 1 as matrices (to a thousandth), when data come. Where they explain nearly all, covariances are differences at
    the rounding level of second moments, and so is ``nngp``.
    """

    __slots__ = ("_bias", "_bias_mean", "_coordinates", "_gradients", "_profiles", "_returning", "_senders")

    def __init__(
        self,
        profiles: Sequence[object],
        bias: Sequence[object] | None = None,
        bias_mean: object = 0.0,
        gradients: Sequence[object] = (),
        coordinates: Sequence[object] = (),
        senders: int | None = None,
        returning: object | None = None,
    ) -> None:
        self._profiles = _all_named("profiles", profiles)
        self._bias = _all_named("bias", [0.0] * len(self._profiles) if bias is None else bias)
        self._bias_mean = _named("bias_mean", bias_mean)
        if len(self._bias) != len(self._profiles):
            raise ConnectivityError(
                f"bias: expected {len(self._profiles)} functions of u, one a profile, got {len(self._bias)}."
            )
        self._gradients = _all_named("gradients", gradients)
        self._coordinates = _all_named("coordinates", coordinates)
        if len(self._coordinates) != len(self._gradients) and (returning is None or self._coordinates):
            raise ConnectivityError(
                f"coordinates: expected {len(self._gradients)} functions of v, one a mode of the gradients, got "
                f"{len(self._coordinates)}."
            )
        self._senders = None if senders is None else whole_number("senders", senders, error=ConnectivityError)
        self._returning = None if returning is None else _named("returning", returning)
        if self._returning is not None and (self._senders is None or not self._gradients):
            raise ConnectivityError("returning: it belongs to single units; pass senders and gradients too.")
        of_u = [*((f"bias[{r}]", g) for r, g in enumerate(self._bias)), ("bias_mean", self._bias_mean)]
        of_u += [(f"gradients[{s}]", g) for s, g in enumerate(self._gradients)]
        of_v = [(f"coordinates[{s}]", g) for s, g in enumerate(self._coordinates)]
        for name, graphon in (*self.of_weights.items(), *of_u, *of_v):
            _extremes(name, graphon)  # finite
        for name, graphon in of_u:
            if len(graphon.v_breaks) > 2 or not graphon.constant_in_v:
                raise ConnectivityError(f"{name}: expected a function of u alone, got {shown(graphon)}.")
        for name, graphon in of_v:
            if len(graphon.u_breaks) > 2 or not graphon.constant_in_u:
                raise ConnectivityError(f"{name}: expected a function of v alone, got {shown(graphon)}.")

    @property
    def profiles(self) -> tuple[Graphon, ...]:
        """G_r, sqrt(n) times the covariance of the coordinates with surviving weights."""
        return self._profiles

    @property
    def bias(self) -> tuple[Graphon, ...]:
        """g_r, the covariance of the coordinates with the bias."""
        return self._bias

    @property
    def bias_mean(self) -> Graphon:
        """The mean of the bias, in units of sigma_b."""
        return self._bias_mean

    @property
    def gradients(self) -> tuple[Graphon, ...]:
        """Gamma_s, modes of the gradients at receivers."""
        return self._gradients

    @property
    def coordinates(self) -> tuple[Graphon, ...]:
        """d_s, the coordinates in them of what comes back to senders."""
        return self._coordinates

    @property
    def senders(self) -> int | None:
        """How many single units send, None where positions are a continuum."""
        return self._senders

    @property
    def returning(self) -> Graphon | None:
        """What stands for V beside the modes of the gradients, of single units."""
        return self._returning

    @property
    def of_weights(self) -> dict[str, Graphon]:
        """What is read at single weights, by name: it is 0 where none survive."""
        found = {f"profiles[{r}]": profile for r, profile in enumerate(self._profiles)}
        return found if self._returning is None else {**found, "returning": self._returning}

    @property
    def graphons(self) -> tuple[Graphon, ...]:
        """All of them: profiles, functions of the bias, its mean, modes of gradients, coordinates, what comes back."""
        last = () if self._returning is None else (self._returning,)
        return (*self._profiles, *self._bias, self._bias_mean, *self._gradients, *self._coordinates, *last)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        ways = self._gradients, self._coordinates
        return self._profiles, self._bias, self._bias_mean, *ways, self._senders, self._returning

    def __repr__(self) -> str:
        first = f"{self._profiles[0]!r}, ..." if len(self._profiles) > 1 else ", ".join(map(repr, self._profiles))
        return f"Known({len(self._profiles)} profiles: {first})"


class Connectivity(Value):
    """The three graphons of a masked layer.

        W(u,v) = E[m],   V(u,v) = E[m w^2],   D(u,v) = sqrt(n_in) E[m w],   w in units of the dense deviation.

    ``variance`` left out means V = W (a mask independent of the weights), ``drift`` left out means D = 0. ``known``:
    what positions tell of weights and biases beyond these moments (:class:`Known`), nothing if left out.
    Each argument is anything :func:`as_graphon` takes. Immutable.

    Raises ConnectivityError unless W lies in [0, 1], V >= 0, and V (and with it D) vanishes exactly where W does.
    The bound (D^1)^2 <= d W^1 V^1 of an input layer needs d and is checked when data come.
    """

    __slots__ = ("_drift", "_known", "_mask", "_variance")

    def __init__(
        self,
        mask: object,
        variance: object | None = None,
        drift: object | None = None,
        *,
        known: Known | None = None,
    ) -> None:
        if known is not None and not isinstance(known, Known):
            raise ConnectivityError(f"known: expected a Known, got {type(known).__name__}.")
        self._known = known
        self._mask = _named("mask", mask)
        given = self._mask if variance is None else _named("variance", variance)
        self._variance = self._mask if given == self._mask else given
        given = _ZERO if drift is None else _named("drift", drift)
        self._drift = _ZERO if given == _ZERO else given
        _check(self)

    @property
    def mask(self) -> Graphon:
        """W, the density of surviving connections."""
        return self._mask

    @property
    def variance(self) -> Graphon:
        """V, the second moment of surviving weights; the very object ``mask`` when V = W."""
        return self._variance

    @property
    def drift(self) -> Graphon:
        """D, sqrt(n_in) times the mean of surviving weights; ConstantGraphon(0.0) when there is none."""
        return self._drift

    @property
    def known(self) -> Known | None:
        """What positions tell of weights and biases beyond W, V and D."""
        return self._known

    @property
    def has_drift(self) -> bool:
        """Whether signals have means: there is drift, or a position tells of its unit's parameters."""
        return self._known is not None or (self._drift is not _ZERO and not self._drift.is_zero)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self._mask, self._variance, self._drift, self._known

    def __reduce__(self) -> tuple[Callable[..., Connectivity], tuple[Any, ...]]:
        return partial(type(self), known=self._known), (self._mask, self._variance, self._drift)

    def __repr__(self) -> str:
        parts = [repr(self._mask)]
        if self._variance is not self._mask:
            parts.append(f"variance={self._variance!r}")
        if self._drift is not _ZERO:
            parts.append(f"drift={self._drift!r}")
        if self._known is not None:
            parts.append(f"known={self._known!r}")
        return f"Connectivity({', '.join(parts)})"

    @property
    def kinds(self) -> dict[str, Graphon]:
        """W, and V and D where they say more, by their letters."""
        found = {"W": self._mask}
        if self._variance is not self._mask:
            found["V"] = self._variance
        if self._drift is not _ZERO:
            found["D"] = self._drift
        return found

    def _repr_html_(self) -> str:
        """Heat maps of W, and of V and D where they say more, with their axes, as inline SVG."""
        cells = "".join(
            f'<td style="vertical-align:top;text-align:left"><b>{letter}</b>{graphon._repr_html_()}</td>'
            for letter, graphon in self.kinds.items()
        )
        return f"<table><tr>{cells}</tr></table>"

    def _repr_latex_(self) -> str:
        """Formulas of W, V and D."""
        formulas = ",\\quad ".join(f"{name}(u, v) = {one._latex()}" for name, one in self.kinds.items())
        return f"${formulas}$"


def as_connectivity(obj: object) -> Connectivity:
    """A Connectivity itself, or one with V = W and D = 0 from whatever :func:`as_graphon` takes."""
    return obj if isinstance(obj, Connectivity) else Connectivity(obj)


def _named(name: str, obj: object) -> Graphon:
    try:
        return as_graphon(obj)
    except GraphonError as error:
        raise type(error)(f"{name}: {error}") from None


def _all_named(name: str, many: object) -> tuple[Graphon, ...]:
    if isinstance(many, str) or not isinstance(many, Sequence):
        raise ConnectivityError(f"{name}: expected a list of graphons, got {type(many).__name__}.")
    if len(many) > _MOST_PROFILES:
        raise ConnectivityError(f"{name}: expected at most {_MOST_PROFILES:,} graphons, got {len(many):,}.")
    return tuple(_named(f"{name}[{r}]", one) for r, one in enumerate(many))


def _extremes(name: str, graphon: Graphon) -> tuple[float, float]:
    try:
        return graphon.extremes()
    except GraphonError as error:  # a value that is not finite
        raise ConnectivityError(f"{name}: {error}") from None


def _forbid(bad: np.ndarray, points: tuple[FloatArray, FloatArray], problem: str, mend: str) -> None:
    if bad.any():
        i, j = (int(k) for k in np.argwhere(bad)[0])
        raise ConnectivityError(f"{problem}, as at u={points[0][i]:.6g}, v={points[1][j]:.6g}; {mend}.")


def _check(layer: Connectivity) -> None:
    check_density(np.array(_extremes("mask", layer.mask)), "mask", layer.mask, ConnectivityError)
    if layer.variance is layer.mask and layer.drift is _ZERO and layer.known is None:
        return
    low, _ = _extremes("variance", layer.variance)
    if low < -SLACK:
        raise ConnectivityError(
            f"variance: a second moment cannot be negative, got {low:.6g} from {shown(layer.variance)}; "
            "variance is E[m w^2], not a logarithm or a difference."
        )
    _extremes("drift", layer.drift)  # finite
    u, v = _common_points(layer)
    w = layer.mask(u[:, None], v[None, :])
    floor = 1e-14
    others = [("variance", layer.variance), ("drift", layer.drift)]
    if layer.known is not None:
        others += [(f"known: {name}", graphon) for name, graphon in layer.known.of_weights.items()]
    for name, graphon in others:
        _forbid(
            (w <= 0.0) & (np.abs(graphon(u[:, None], v[None, :])) > floor),
            (u, v),
            f"{name}: {graphon!r} is not zero where no connection survives (mask = 0)",
            "multiply it by the mask's support",
        )
    _forbid(
        (w > floor) & (layer.variance(u[:, None], v[None, :]) <= 0.0),
        (u, v),
        f"variance: {layer.variance!r} is zero where connections survive (mask > 0)",
        "remove those connections from the mask, or give them a variance",
    )


def _common_points(layer: Connectivity) -> tuple[FloatArray, FloatArray]:
    """Positions in every panel between the breaks of the three graphons: one where all are constant there."""
    graphons = [layer.mask, layer.variance, layer.drift]
    if layer.known is not None:
        graphons += layer.known.of_weights.values()
    plain = not any(g.switches for g in graphons)
    u = between([g.u_breaks for g in graphons], plain and all(g.constant_in_u for g in graphons))
    v = between([g.v_breaks for g in graphons], plain and all(g.constant_in_v for g in graphons))
    return u, v
