"""A function and its derivative as piecewise polynomials, to the accuracy of any scale.

Between declared kinks, intervals are halved until a polynomial of degree ``TERMS - 1`` through Chebyshev points agrees
with the function. What counts as agreement depends on the distance from 0 and on the scale of the Gaussian that will
look at it (:meth:`Pieces.wanted`). Kinks that were not declared are found where halving does not end, and so are jumps,
which are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphon_theory.activations.heat.heat_blocks import TERMS
from graphon_theory.activations.heat.polynomials import (
    CHECKS,
    ROUNDING,
    chebyshev,
    evenly_large,
    quality_of,
    slope_matrix,
)
from graphon_theory.arrays import FloatArray, Function
from graphon_theory.errors import ActivationError

Interval = tuple[float, float]

# Error of a polynomial relative to what is wanted: 16 eps, what a polynomial of 20 terms is evaluated to.
_RESOLVED = 4e-15
# Least such error that is not put down to roundings of phi where halving does not reduce it: by trial, formulas that
# cancel 12 of 16 digits pass, and kinks do not.
_NOISY = 1e-4
# Of what phi reaches closer to 0: smaller values need not be known relative to themselves. About means, C down to 1e-40
# of the largest is told from 0.
_FAINT = 1e-20
_FINEST = 2.0**-44  # width of an interval relative to its place: 256 eps, room for the 24 places in it
_NARROW = 256  # intervals this much narrower than their distance from all centres mark a new one: 8 halvings alone
_CENTRES = 64  # kinks and marked places: as many as ``kinks`` allows an expression
_DEEPEST = 38.0  # standard deviations beyond which the Gaussian underflows: exp(-38^2 / 2) is 3e-314
_PIECES = 20_000  # 6 MB of polynomials; what needs more oscillates
_UNSEEN = 10.0  # times the misfit, the noise and ``_BLIND``, by which a probe tells of what the points do not see
_BLIND = 1e-14  # of the largest value of a piece: roundings of its polynomial at any place


class RangeError(ActivationError):
    """phi overflows or outgrows the Gaussian in the range asked for; a smaller range might do."""


class _Centre(Exception):
    """A place that has to be treated as a kink."""

    def __init__(self, interval: Interval) -> None:
        self.interval = interval


@dataclass(frozen=True)
class Piece:
    """phi and phi' on an interval: powers (2, TERMS) of the place mapped to [-1, 1], and their quality, (2,) each."""

    powers: FloatArray
    misfit: FloatArray  # last coefficients, and distance from the function in between
    noise: FloatArray  # what roundings of phi, and of the places themselves, can come to
    largest: FloatArray
    large: FloatArray  # all over


class Pieces:
    """phi and phi' on [-span, span] for standard deviations from 2^octaves[0] to 2^(octaves[-1] + 1).

    ``reaches`` are the largest |z| that count, by octave; ``local`` says that phi may be looked at about other means
    than 0. Raises ActivationError at jumps that were not declared; _Centre where a kink has to be added.
    """

    def __init__(
        self,
        phi: Function,
        derivative: Function | None,
        kinks: Sequence[float],
        span: float,
        octaves: range,
        reaches: Mapping[int, float],
        local: bool,
    ) -> None:
        self.reaches = reaches
        self.phi, self.derivative, self.span, self.local = phi, derivative, span, local
        self.kinks = [z for z in kinks if abs(z) < span]
        self.pieces: dict[Interval, Piece] = {}
        self.errors: dict[int, float] = {}
        self._covers: dict[int, list[Interval]] = {}
        self._borders: dict[tuple[float, float], NDArray[np.bool_]] = {}  # by kink and direction: what vanishes outside
        self.dead = np.zeros(2)  # |z| up to which phi and phi' vanish
        self._beyond = np.zeros((2, len(octaves)))  # their root mean square beyond, by octave
        self._lowest, self._count = octaves[0] - 2, len(octaves)
        for z in {0.0, *self.kinks}:
            self._refuse_power(z)
        radii = 2.0 ** np.arange(self._lowest, math.ceil(math.log2(span)) + 1.0)
        y = np.minimum(radii[:, None] * np.linspace(0.5, 1.0, 17), span)
        y = np.concatenate([-y, y], axis=1)
        sizes = [np.abs(self._call(phi, y)).max(1)]
        if derivative is not None:
            sizes.append(np.abs(self._call(derivative, y)).max(1))
        self._envelope = np.maximum.accumulate(np.array(sizes), axis=1)
        near = np.concatenate([z + k * radii for z in self.kinks for k in (-1.0, -0.7, 0.7, 1.0)] or [np.zeros(0)])
        places = np.unique(np.concatenate([y.ravel(), near[np.abs(near) < span]]))
        for z in self.kinks:  # where they are is known to rounding, and either side may be meant there
            places = places[np.abs(places - z) > 2 * _FINEST * abs(z)]
        self._places = places
        functions = (phi,) if derivative is None else (phi, derivative)
        self._probes = np.array([self._call(f, self._places) for f in functions])
        seen = self.cover(octaves[0])
        if derivative is None:
            slopes = np.abs(self.slope(y, octaves[0])).max(1)
            self._envelope = np.concatenate([self._envelope, slopes[None]])
        outer = np.array([max(-a, b) for a, b in seen])
        at = np.clip(np.ceil(np.log2(outer)).astype(int) - self._lowest, 0, len(radii) - 1)
        for k in range(2):  # peaks that the samples have missed
            np.maximum.at(self._envelope[k], at, [self.pieces[p].largest[k] for p in seen])
        self._envelope = np.maximum.accumulate(self._envelope, axis=1)
        if derivative is None:  # slopes that change phi by no more than it is known cannot be told
            self._envelope[1] = np.maximum(self._envelope[1], self._envelope[0] / radii)
        for k in range(2):
            self.dead[k] = min(self._vanishes(k, 1, seen), self._vanishes(k, -1, seen))
            self._beyond[k] = [self._beyond_dead(k, m) if self.dead[k] > 2.0 ** (m - 1) else 0.0 for m in octaves]
        if derivative is None:
            self._beyond[1] = np.maximum(self._beyond[1], self._beyond[0] / 2.0 ** np.array(octaves))
        self._covers.clear()

    def _vanishes(self, k: int, sign: int, seen: list[Interval]) -> float:
        """How far from 0 on this side phi (k = 0) or phi' (k = 1) is 0."""
        size = [(a if sign > 0 else -b) for a, b in seen if self.pieces[a, b].largest[k] > 0 and sign * (a + b) > 0]
        return min(size, default=self.span)

    def _beyond_dead(self, k: int, octave: int) -> float:
        """sqrt(E[phi^2 | |f| > a]), f ~ N(0, s^2) for s = 2^octave, where phi vanishes up to a (k = 1: of phi').

        By f^2 = a^2 + 2 s^2 u the density is that of exp(-u) / |f|, whatever a / s.
        """
        a = self.dead[k]
        s = max(2.0**octave, a / _DEEPEST)
        t = (np.arange(400) + 0.5) / 400
        u = 40 * t * t
        f = np.sqrt(a * a + 2 * s * s * u)
        t, u, f = t[f < self.span], u[f < self.span], f[f < self.span]
        if not f.size:
            return 0.0
        weight = t * np.exp(-u) / f
        y = np.array([-f, f])
        values = self._call(self.phi, y) if k == 0 else self._slope_at(y, octave)
        return float(np.sqrt((weight * values**2).sum() / (2 * weight.sum())))

    def _slope_at(self, y: FloatArray, octave: int) -> FloatArray:
        return self.slope(y, octave) if self.derivative is None else self._call(self.derivative, y)

    def _call(self, function: Function, y: FloatArray) -> FloatArray:
        values = np.asarray(function(y), dtype=float)
        if values.shape != y.shape:
            raise ActivationError(f"phi: expected one value for each of {y.shape} places, got shape {values.shape}.")
        wrong = ~np.isfinite(values)
        if wrong.any():
            raise RangeError(f"phi is not finite at {y[wrong][0]:.6g}.")
        return values

    def wanted(self, large: FloatArray, radius: float, octave: int) -> FloatArray:
        """What errors of phi and phi' at this distance from 0 are measured by for s = 2^octave.

        It is how large they are within the radius (or s): a centred Gaussian that gets there weighs no smaller distance
        less. About other means it does, and what counts is how ``large`` they are nearby.

        Where phi vanishes for |z| < a, it is w = sqrt(E[phi^2 | |f| > a]) there, and beyond no more than w exp(u / 4)
        at sqrt(a^2 + 2 s^2 u), or than phi itself: errors of S only meet phi(f) != 0, and with s <= s'

            |E[phi(f) error(f')]| <= sqrt(E[phi^2] P(|f| > a)) max |error|,    P(|f| > a) <= P(|f'| > a).
        """
        return self.wanted_by(large, radius)[:, octave - self._lowest - 2]

    def wanted_by(self, large: FloatArray, radius: float) -> FloatArray:
        """The same for all octaves, in columns."""
        least = math.floor(math.log2(max(radius, 2.0**self._lowest))) - self._lowest
        octaves, last = np.arange(self._count), self._envelope.shape[1] - 1
        # a distance of 2 s has weight enough to count as within
        within = self._envelope[:, np.minimum(np.maximum(octaves + 3, least), last)]
        rows = len(within)
        large = large[:rows]
        if large.ndim == 1:
            large = large[:, None]
        # s < 2 a; how far phi vanishes is not known yet when the pieces are made first
        deep = (within == 0) | (self.dead[:rows, None] > 2.0 ** (self._lowest + 1.0 + octaves))
        outside = radius >= 2.0 ** (self._lowest + 3.0 + octaves)
        if self.local:
            nearby = np.maximum(large, _FAINT * self._envelope[:, -1:])
            return np.where(outside | deep, nearby, np.minimum(within, nearby))
        dead = self.dead[:rows, None]
        s = np.maximum(2.0 ** (self._lowest + 3.0 + octaves), dead / _DEEPEST)
        u = np.clip((radius * radius - dead * dead) / (2 * s * s), 0.0, 200.0)
        low = self._beyond[:rows]
        high = np.maximum(low * np.exp(u / 4), np.where(radius > dead, large / 4, 0.0))
        far = np.where(low > 0, np.clip(large, low, high), large)
        return np.where(deep, far, np.where(outside, np.maximum(within, large), within))

    def slope(self, y: FloatArray, octave: int) -> FloatArray:
        """phi' from the pieces for s = 2^octave; the mean of both sides where two of them meet."""
        pieces = self.cover(octave)
        a, b = np.array(pieces).T
        powers = np.array([self.pieces[p].powers[1] for p in pieces])

        def one_side(side: Literal["left", "right"]) -> FloatArray:
            at = np.clip(np.searchsorted(a, y.ravel(), side=side) - 1, 0, len(a) - 1)
            v = (2 * y.ravel() - a[at] - b[at]) / (b[at] - a[at])
            out: FloatArray = np.einsum("ik,ik->i", powers[at], v[:, None] ** np.arange(TERMS)).reshape(y.shape)
            return out

        return 0.5 * (one_side("left") + one_side("right"))

    def cover(self, octave: int) -> list[Interval]:
        """Adjoining intervals over [-span, span] whose pieces serve s = 2^octave; their error goes to ``errors``."""
        if octave in self._covers:
            return self._covers[octave]
        edges = sorted({-self.span, 0.0, self.span, *self.kinks})
        done: list[Interval] = []
        error = 0.0
        # intervals with the misfit of the one they come from
        work: list[tuple[Interval, Interval]] = []
        first = list(pairwise(edges))
        self._fit(first)
        tested = [p for p in first if not self._fine(p, octave)]
        done += [p for p in first if p not in tested]
        while tested:
            work = [(p, half) for p in tested for half in self._halves(p, octave)]
            self._fit([half for _, half in work])
            tested = []
            for k in range(0, len(work), 2):
                parent, left, right = work[k][0], work[k][1], work[k + 1][1]
                if self._noisy(parent, (left, right), octave):
                    done += [left, right]
                    continue
                for half in (left, right):
                    (done if self._fine(half, octave) else tested).append(half)
        for interval in done:
            if interval[1] < -self.reaches[octave] or interval[0] > self.reaches[octave]:
                continue
            weight = min(1.0, (interval[1] - interval[0]) / 2.0**octave)  # of the interval in an integral
            error = max(error, weight * self._ratio(interval, octave))
        self.errors[octave] = error
        self._covers[octave] = sorted(done)
        return self._covers[octave]

    def _scale(self, interval: Interval, octave: int) -> FloatArray:
        a, b = interval
        radius = 0.0 if a <= 0.0 <= b else min(abs(a), abs(b))
        scale = self.wanted(self.pieces[interval].large, radius, octave)
        if self.local:
            for edge, inwards in ((a, 1.0), (b, -1.0)):
                if edge in self.kinks:
                    scale = np.minimum(scale, self._from_dead(edge, inwards, min(b - a, 2.0**octave / 8)))
        return scale

    def _from_dead(self, kink: float, inwards: float, distance: float) -> FloatArray:
        """How large phi and phi' are at this distance from a kink beyond which they vanish; inf where they do not.

        A Gaussian of width s whose mean lies beyond sees no more of them than that.
        """
        at = kink, inwards
        if at not in self._borders:
            outside = kink - inwards * 2.0**-24 * max(abs(kink), 2.0**self._lowest) * np.array([0.5, 1.0])
            vanish = [(self._call(f, outside) == 0).all() for f in (self.phi, self.derivative) if f is not None]
            self._borders[at] = np.array([*vanish, False][:2])
        if not self._borders[at].any():
            return np.full(2, np.inf)[: len(self._envelope)]
        y = np.array([kink + inwards * distance])
        near = [abs(self._call(f, y)[0]) for f in (self.phi, self.derivative) if f is not None]
        size = np.where(self._borders[at], [*near, 0.0][:2], np.inf)[: len(self._envelope)]
        return np.maximum(size, _FAINT * self._envelope[:, -1])

    def _ratio(self, interval: Interval, octave: int) -> float:
        """The error of phi and phi' in units of what is wanted."""
        scale, piece = self._scale(interval, octave), self.pieces[interval]
        error = np.maximum(piece.misfit, piece.noise)[: len(scale)]
        return float(np.divide(error, scale, out=np.zeros(len(scale)), where=scale > 0).max())

    def _fine(self, interval: Interval, octave: int) -> bool:
        """Whether the piece is as good as its roundings and these are small, or nothing more can be done."""
        scale, piece = self._scale(interval, octave), self.pieces[interval]
        n = 1 if self.derivative is None else 2
        good = piece.misfit[:n] <= _RESOLVED * scale[:n] + piece.noise[:n]
        flat = ROUNDING * piece.largest[:n] <= _RESOLVED * scale[:n]
        if bool((good & flat).all()):
            return True
        a, b = interval
        if b - a > self._tiny(interval, octave):
            return False
        if a in self.kinks or b in self.kinks:
            self._steep(interval)
            return True
        if a <= 0.0 <= b and bool((good | ~flat).all()):
            return True
        self._rough(interval, float(scale[0]))
        raise _Centre(interval)

    def _noisy(self, parent: Interval, halves: tuple[Interval, Interval], octave: int) -> bool:
        """Whether halving leaves the misfit as it is on both sides: not so at a kink, which is on one of them."""
        scale = self._scale(parent, octave)[0]
        before = self.pieces[parent].misfit[0]
        pieces = [self.pieces[h] for h in halves]
        small = before < max(_NOISY * scale, 1e-13 * self._envelope[0, -1])
        return bool(small) and all(p.misfit[0] > max(0.3 * before, 4 * p.noise[0]) for p in pieces)

    @property
    def nothing_below(self) -> bool:
        """Whether phi and phi' vanish so far around 0 that no smaller standard deviation sees them."""
        return not self.local and bool(self.dead.min() > _DEEPEST * 2.0 ** (self._lowest + 3))

    def rounding(self, octave: int) -> float:
        """What roundings of s make of exp(-a^2 / 2 s^2) where phi vanishes up to a; about 0 alone."""
        if self.local:
            return 0.0
        seen = self.dead[self._beyond.any(axis=1)]
        return 4 * ROUNDING * min(float(seen.max(initial=0.0)) / 2.0**octave, _DEEPEST) ** 2

    @staticmethod
    def _tiny(interval: Interval, octave: int) -> float:
        return max(_FINEST * max(abs(interval[0]), abs(interval[1])), 2.0 ** (octave - 64))

    def _halves(self, interval: Interval, octave: int) -> tuple[Interval, Interval]:
        a, b = interval
        middle = 0.5 * (a + b)
        return (a, middle), (middle, b)

    def _refuse_power(self, z: float) -> None:
        """Raise where phi - phi(z+-) goes as |y - z|^p with p < 1 on a side of z: phi' is unbounded there."""
        far = min(max(abs(z), 1.0), self.span / 2)
        for side in (-far, far):
            h = side * np.array([2.0**-14, 2.0**-17, 2.0**-20])
            values = np.array([self._call(self.phi, np.clip(z + k * h, -self.span, self.span)) for k in (1, 2, 4)])
            first, second = np.abs(np.diff(values, axis=0))
            if min(first.min(), second.min()) <= 1e-8 * np.abs(values).max():
                continue
            powers = np.log2(second / first)
            if powers.min() > 0.02 and powers.max() < 0.98 and np.ptp(powers) < 1e-3:
                self._vertical(z, f", like |{f'z - {z:.6g}' if z else 'z'}|^{powers[-1]:.3g}")

    def _vertical(self, z: float, how: str = "") -> None:
        raise ActivationError(
            f"phi has a vertical tangent at {z:.6g}{how}: phi' is unbounded there, and its kernels are not tabulated. "
            "Replace phi near it by a line or a smooth curve, and declare where they meet: kinks=(...)."
        )

    def _steep(self, interval: Interval) -> None:
        """Raise where phi leaves a kink with a vertical tangent: S1 would be unbounded."""
        a, b = interval
        kink, width = (a, b - a) if a in self.kinks else (b, a - b)
        near, _, far, farther = self._call(self.phi, kink + width * np.array([0.5, 1.0, 2.0**20, 2.0**21]))
        close = abs(self._call(self.phi, np.array([kink + width]))[0] - near) / 0.5
        if close > 8 * abs(farther - far) / 2.0**20:
            self._vertical(kink)

    def _rough(self, interval: Interval, scale: float) -> None:
        """Raise where no halving makes phi continuous."""
        a, b = interval
        ends = np.clip([a - 2 * (b - a), b + 2 * (b - a)], -self.span, self.span)
        low, high = self._call(self.phi, ends)
        if abs(high - low) > 1e-7 * scale:
            place = _simplest(interval)
            raise ActivationError(
                f"phi jumps near {place:.12g}, from {low:.6g} to {high:.6g}: declare it in kinks=({place:.12g},)."
            )

    def _fit(self, intervals: list[Interval]) -> None:
        """Polynomials on intervals not met before."""
        new = [p for p in intervals if p not in self.pieces]
        if not new:
            return
        if len(self.pieces) + len(new) > _PIECES:
            raise ActivationError(
                f"phi: no table within {_PIECES} pieces over |z| <= {self.span:.4g}; it is rough or oscillates "
                f"too fast near {new[0][0]:.6g}. Declare its kinks=(...), or ask for smaller variances."
            )
        points, transform, powers = chebyshev(TERMS)
        a, b = np.array(new).T
        half = 0.5 * (b - a)
        y = (0.5 * (a + b))[:, None] + half[:, None] * np.concatenate([points, CHECKS])
        values = self._call(self.phi, y)
        coefficients = values[:, :TERMS] @ transform.T
        slopes = coefficients @ slope_matrix(TERMS).T / half[:, None]
        quality = quality_of(y, half, values, coefficients, slopes)
        if self.derivative is None:
            slope_values = slopes @ np.polynomial.chebyshev.chebvander(points, TERMS - 1).T
            slope_quality = tuple(q * TERMS / half for q in quality)
        else:
            slope_values = self._call(self.derivative, y)
            slopes = slope_values[:, :TERMS] @ transform.T
            slope_quality = quality_of(y, half, slope_values, slopes, slopes @ slope_matrix(TERMS).T / half[:, None])
        # columns of the intervals, pairs of phi and phi' in front
        both: Any = [np.array(pair) for pair in zip(quality, slope_quality, strict=True)]
        largest = np.array([np.abs(values).max(1), np.abs(slope_values).max(1)])
        large = np.array([evenly_large(v[:, TERMS - 1 :: -1]) for v in (values, slope_values)])
        for k, interval in enumerate(new):
            self.pieces[interval] = Piece(
                np.array([coefficients[k], slopes[k]]) @ powers.T,
                self._seen(interval, (coefficients[k], slopes[k]), both[0][:, k], both[1][:, k], largest[:, k]),
                both[1][:, k],
                largest[:, k],
                large[:, k],
            )

    def _seen(
        self,
        interval: Interval,
        coefficients: tuple[FloatArray, FloatArray],
        misfit: FloatArray,
        noise: FloatArray,
        largest: FloatArray,
    ) -> FloatArray:
        """The misfit, or what probes at all distances from 0 and the kinks say where they see what the points do not.

        On an interval a million times as wide as phi's own scale, all points may lie where phi is flat.
        """
        low = np.searchsorted(self._places, interval[0], side="right")
        high = np.searchsorted(self._places, interval[1])
        if low < high:
            a, b = interval
            v = (2 * self._places[low:high] - a - b) / (b - a)
            for row, probes in enumerate(self._probes[:, low:high]):
                far = float(np.abs(np.polynomial.chebyshev.chebval(v, coefficients[row]) - probes).max())
                if far > _UNSEEN * (misfit[row] + noise[row] + _BLIND * largest[row]):
                    misfit = misfit.copy()
                    misfit[row] = far
        return misfit

    def narrow(self, octave: int) -> Interval | None:
        """Where pieces close in on a place that is no kink, or None."""
        centres = np.array([0.0, *self.kinks])
        if len(centres) > _CENTRES:
            return None
        pieces = self.cover(octave)
        a, b = np.array(pieces).T
        ratio = (b - a) / np.abs(0.5 * (a + b)[:, None] - centres).min(1)
        k = int(ratio.argmin())
        return pieces[k] if ratio[k] < 1.0 / _NARROW else None


def _simplest(interval: Interval) -> float:
    """The decimal with the fewest digits that the interval and its neighbours hold: kinks are round numbers."""
    a, b = interval
    middle, reach = 0.5 * (a + b), 2 * (b - a)
    for digits in range(10):
        if abs(round(middle, digits) - middle) <= reach:
            return round(middle, digits) + 0.0
    return middle


def resolved(
    phi: Function,
    derivative: Function | None,
    kinks: Sequence[float],
    span: float,
    octaves: range,
    reaches: Mapping[int, float],
    local: bool = False,
) -> Pieces:
    """The pieces, with every kink and narrow place that was found among their kinks."""
    known = sorted(kinks)
    while True:
        try:
            pieces = Pieces(phi, derivative, known, span, octaves, reaches, local)
            interval = pieces.narrow(octaves[0])
            if interval is None:
                return pieces
        except _Centre as found:
            interval = found.interval
        place = _simplest(interval)
        if len(known) > _CENTRES or place in known:
            raise ActivationError(f"phi: no table, it is rough near {place:.9g}; declare its kinks=(...).")
        known = sorted([*known, place])


def slope_of(phi: Function, kinks: Sequence[float], y: FloatArray) -> FloatArray:
    """phi' almost everywhere, by piecewise polynomials. Raises ActivationError at jumps that were not declared."""
    top = float(np.abs(y).max(initial=1.0)) + 1.0
    try:
        pieces = resolved(phi, None, kinks, 2.0 ** math.ceil(math.log2(top)), range(1), {0: math.inf})
    except RangeError:
        pieces = resolved(phi, None, kinks, top, range(1), {0: math.inf})
    return pieces.slope(y, 0)
