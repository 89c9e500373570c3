"""Connectivity of one layer: mask graphon W, variance graphon V and drift graphon D (THEORY §2)."""

from __future__ import annotations

import numpy as np

from graphon_theory.errors import ConnectivityError, GraphonError
from graphon_theory.graphons import SLACK, ConstantGraphon, Graphon, as_graphon, between
from graphon_theory.rules import FloatArray

_ZERO = ConstantGraphon(0.0)


class Connectivity:
    """The three graphons of a masked layer.

        W(u,v) = E[m],   V(u,v) = E[m w^2],   D(u,v) = sqrt(n_in) E[m w],   w in units of the dense deviation.

    ``variance`` left out means V = W (a mask independent of the weights), ``drift`` left out means D = 0.
    Each argument is anything :func:`as_graphon` takes. Immutable.

    Raises ConnectivityError unless W lies in [0, 1], V >= 0, and V (and with it D) vanishes exactly where W does.
    The bound (D^1)^2 <= d W^1 V^1 of an input layer needs d and is checked when data come.
    """

    __slots__ = ("_drift", "_mask", "_variance")

    def __init__(self, mask: object, variance: object | None = None, drift: object | None = None) -> None:
        self._mask = _named("mask", mask)
        given = self._mask if variance is None else _named("variance", variance)
        self._variance = self._mask if given == self._mask else given
        given = _ZERO if drift is None else _named("drift", drift)
        self._drift = _ZERO if given == _ZERO else given
        self._check()

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
    def has_drift(self) -> bool:
        return self._drift is not _ZERO and not self._drift.is_zero

    def _check(self) -> None:
        low, high = _extremes("mask", self._mask)
        if low < -SLACK or high > 1 + SLACK:
            raise ConnectivityError(
                f"mask: a density of connections must lie in [0, 1], got values in [{low:.13g}, {high:.13g}] from "
                f"{self._mask!r}; rescale the graphon."
            )
        if self._variance is self._mask and self._drift is _ZERO:
            return
        low, high = _extremes("variance", self._variance)
        if low < -SLACK:
            raise ConnectivityError(
                f"variance: a second moment cannot be negative, got {low:.6g} from {self._variance!r}; "
                "variance is E[m w^2], not a logarithm or a difference."
            )
        _extremes("drift", self._drift)  # finite
        u, v = self._common_points()
        w = self._mask(u[:, None], v[None, :])
        floor = 1e-14
        for name, graphon, values in (
            ("variance", self._variance, self._variance(u[:, None], v[None, :])),
            ("drift", self._drift, self._drift(u[:, None], v[None, :])),
        ):
            _forbid(
                (w <= 0.0) & (np.abs(values) > floor),
                (u, v),
                f"{name}: {graphon!r} is not zero where no connection survives (mask = 0)",
                "multiply it by the mask's support",
            )
        _forbid(
            (w > floor) & (self._variance(u[:, None], v[None, :]) <= 0.0),
            (u, v),
            f"variance: {self._variance!r} is zero where connections survive (mask > 0)",
            "remove those connections from the mask, or give them a variance",
        )

    def _common_points(self) -> tuple[FloatArray, FloatArray]:
        """Positions in every panel between the breaks of the three graphons: one where all are constant there."""
        graphons = (self._mask, self._variance, self._drift)
        plain = not any(g.switches for g in graphons)
        u = between([g.u_breaks for g in graphons], plain and all(g.constant_in_u for g in graphons))
        v = between([g.v_breaks for g in graphons], plain and all(g.constant_in_v for g in graphons))
        return u, v

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Connectivity):
            return NotImplemented
        return (self.mask, self.variance, self.drift) == (other.mask, other.variance, other.drift)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        parts = [repr(self._mask)]
        if self._variance is not self._mask:
            parts.append(f"variance={self._variance!r}")
        if self._drift is not _ZERO:
            parts.append(f"drift={self._drift!r}")
        return f"Connectivity({', '.join(parts)})"


def as_connectivity(obj: object) -> Connectivity:
    """A Connectivity itself, or one with V = W and D = 0 from whatever :func:`as_graphon` takes."""
    return obj if isinstance(obj, Connectivity) else Connectivity(obj)


def _named(name: str, obj: object) -> Graphon:
    try:
        return as_graphon(obj)
    except GraphonError as error:
        raise type(error)(f"{name}: {error}") from None


def _extremes(name: str, graphon: Graphon) -> tuple[float, float]:
    try:
        return graphon.extremes()
    except GraphonError as error:  # a value that is not finite
        raise ConnectivityError(f"{name}: {error}") from None


def _forbid(bad: np.ndarray, points: tuple[FloatArray, FloatArray], problem: str, mend: str) -> None:
    if bad.any():
        i, j = (int(k) for k in np.argwhere(bad)[0])
        raise ConnectivityError(f"{problem}, as at u={points[0][i]:.6g}, v={points[1][j]:.6g}; {mend}.")
