"""Tables of the heat flow S(x, tau) = E[phi(x + tau e)], e ~ N(0, 1), of an activation and its derivative.

Near a kink z, S is a function of (x - z) / tau whatever tau, so every octave of tau has a list of cells of its own,
whose edges z + xi tau move with tau; farther off than 8 tau, S is as smooth as phi, and all smaller tau share cells.
On each cell S is a polynomial; cells are halved until it is. At tau = 0 there is one list per octave of the standard
deviation s, because phi near 0 is wanted to the accuracy of the smallest s in question. The layout is that of
``_kernels.heat_flows``, which reads the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphon_theory._kernels.heat_flows import TERMS, expectations
from graphon_theory.errors import ActivationError

FloatArray = NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]
Edge = tuple[float, float]  # a + b tau

_ROUNDING = 2e-16  # of a value, relative to the largest on its cell
_RESOLVED = 4e-15  # last coefficients of a cell, relative to the scale there
_BLURRED = 2e-14  # the same for S, whose values come from a quadrature
_FAINT = 1e-20  # of what phi reaches closer to 0: smaller values need not be known relative to themselves
_TOLERABLE = 1e-10  # the same where halving a cell no longer helps: phi is rounded no better
_KINK = 8.0  # distance from a kink in units of tau where its mark has sunk below rounding
_INNER = 1.6  # width of cells near a kink in units of tau
_REACH = 13.0  # standard deviations integrated over for S
_CLOSEST = -27  # octave of sqrt(1 - rho^2) for the closest pair that does not coincide
_FAR = 60.0  # standard deviations within which the Gaussian has to win
_NEGLIGIBLE = 40.0  # exp(-40) of the integrand's peak
_NARROW = 256  # a cell this much narrower than its distance from all centres marks a new one
_CENTRES = 64
_CELLS = 20_000
_CHECKS = np.array([-1 + 1e-7, -0.6123, 0.2345, 1 - 1e-7])  # places of a cell where its polynomial is held against phi


class RangeError(ActivationError):
    """phi overflows or outgrows the Gaussian in the range asked for; a smaller range might do."""


class _Centre(Exception):
    """A place that has to be treated as a kink."""

    def __init__(self, place: float) -> None:
        self.place = place


@cache
def _chebyshev(n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """n Chebyshev points of [-1, 1], the matrix from values there to coefficients, and the one from these to powers."""
    points = np.cos(np.pi * (np.arange(n, dtype=np.float64) + 0.5) / n).astype(np.float64)
    transform: FloatArray = np.polynomial.chebyshev.chebvander(points, n - 1).T * (2.0 / n)
    transform[0] *= 0.5
    powers: FloatArray = np.zeros((n, n))
    for k in range(n):
        converted = np.polynomial.chebyshev.cheb2poly(np.eye(n)[k])
        powers[: len(converted), k] = converted
    return points, transform, powers


@cache
def _slope(n: int) -> FloatArray:
    """The matrix from Chebyshev coefficients to those of the derivative."""
    out = np.zeros((n, n))
    for k in range(1, n):
        out[:k, k] = np.polynomial.chebyshev.chebder(np.eye(n)[k])[:k]
    return out


def _evenly_large(values: FloatArray) -> FloatArray:
    """The least, over the thirds of the last axis, of the largest |value|: what a cell reaches all over."""
    parts = np.array_split(np.abs(values), 3, axis=-1)
    out: FloatArray = np.min([part.max(axis=-1) for part in parts], axis=0)
    return out


def windows(
    phi: Function, derivative: Function | None, mean: float, deviations: Sequence[float]
) -> list[tuple[float, float]]:
    """For each s, the least and largest c where N(c) |phi(mu + s c)| or its square, |mu| <= mean, counts.

    Raises RangeError where phi is not finite within, or grows too fast to find the ends.
    """
    c = np.arange(-_FAR, _FAR + 0.01, 0.125)
    out = []
    for s in deviations:
        low, high = -1.0, 1.0
        for mu in np.linspace(-mean, mean, 9) if mean else (0.0,):
            y = mu + s * c
            size = np.abs(phi(y)) if derivative is None else np.maximum(np.abs(phi(y)), np.abs(derivative(y)))
            wrong = np.flatnonzero(~np.isfinite(size))
            left = int(wrong[wrong < len(c) // 2].max(initial=-1)) + 1
            right = int(wrong[wrong >= len(c) // 2].min(initial=len(c)))
            if right - left < 17:
                raise RangeError(f"phi is not finite at {y[len(c) // 2]:.6g}.")
            g = -0.5 * c[left:right] ** 2 + [[1], [2]] * np.log(np.maximum(size[left:right], 1e-150))
            inside = np.flatnonzero((g >= g.max(axis=1, keepdims=True) - _NEGLIGIBLE).any(axis=0))
            if inside[0] == 0 or inside[-1] == right - left - 1:
                bad = y[left - 1 if inside[0] == 0 else min(right, len(c) - 1)]
                reason = f"it is not finite at {bad:.4g}" if len(wrong) else f"it grows too fast (seen up to {bad:.4g})"
                raise RangeError(f"phi outweighs the Gaussian of variance {s * s:.4g}: {reason}.")
            low, high = min(low, c[left + inside[0]] - 0.125), max(high, c[left + inside[-1]] + 0.125)
        out.append((low, high))
    return out


def span(phi: Function, derivative: Function | None, mean: float, largest: float) -> float:
    """How far phi is looked at for s up to ``largest``. Raises RangeError where it is not finite within."""
    ((low, high),) = windows(phi, derivative, mean, [largest])
    reach = mean + largest * (max(-low, high) + _REACH + 1)
    ends = np.array([-reach, reach])
    if not np.isfinite(phi(ends)).all() or (derivative is not None and not np.isfinite(derivative(ends)).all()):
        raise RangeError(f"phi is not finite at {reach:.4g} or {-reach:.4g}.")
    return reach


@dataclass(frozen=True)
class _Piece:
    """phi and phi' as polynomials on an interval: powers (2, TERMS), and how well and how large they are, (2,) each."""

    powers: FloatArray
    tail: FloatArray
    large: FloatArray


class _Line:
    """phi and phi' as piecewise polynomials on [-span, span], to the accuracy of any scale."""

    def __init__(
        self, phi: Function, derivative: Function | None, kinks: Sequence[float], span: float, least: int, local: bool
    ) -> None:
        self.phi, self.derivative, self.span = phi, derivative, span
        self.kinks = [z for z in kinks if abs(z) < span]
        self.local = local
        self.pieces: dict[tuple[float, float], _Piece] = {}
        self.least = least
        self.error = 0.0
        octaves = np.arange(least - 2, math.ceil(math.log2(span)) + 1)
        radii = np.minimum(2.0 ** octaves[:, None] * np.linspace(0.5, 1.0, 17), span)
        y = np.concatenate([-radii, radii], axis=1)
        sizes = [np.abs(self._call(phi, y)).max(1)]
        if derivative is not None:
            sizes.append(np.abs(self._call(derivative, y)).max(1))
        self.envelope = np.maximum.accumulate(np.array(sizes), axis=1)  # (1 or 2, octaves)
        if derivative is None:
            slopes = np.abs(self.slope(y, least)).max(1)
            self.envelope = np.concatenate([self.envelope, np.maximum.accumulate(slopes)[None]])

    def slope(self, y: FloatArray, octave: int) -> FloatArray:
        """phi' from the pieces for scale 2^octave; the mean of both sides where they meet in a kink."""
        pieces = self.cover(octave)
        a, b = np.array(pieces).T
        powers = np.array([self.pieces[p].powers[1] for p in pieces])

        def one_side(side: Literal["left", "right"]) -> FloatArray:
            at = np.clip(np.searchsorted(a, y.ravel(), side=side) - 1, 0, len(a) - 1)
            v = (2 * y.ravel() - a[at] - b[at]) / (b[at] - a[at])
            out: FloatArray = np.einsum("ik,ik->i", powers[at], v[:, None] ** np.arange(TERMS)).reshape(y.shape)
            return out

        return 0.5 * (one_side("left") + one_side("right"))

    def _call(self, function: Function, y: FloatArray) -> FloatArray:
        values = np.asarray(function(y), dtype=float)
        if values.shape != y.shape:
            raise ActivationError(f"phi: expected one value for each of {y.shape} places, got shape {values.shape}.")
        wrong = ~np.isfinite(values)
        if wrong.any():
            raise RangeError(f"phi is not finite at {y[wrong][0]:.6g}.")
        return values

    def wanted(self, large: FloatArray, radius: float) -> FloatArray:
        """What errors of phi and phi' at this distance from 0 are to be measured by: their size within the radius.

        A centred Gaussian that gets there weighs no smaller distance less. About other means it does, and what counts
        is how ``large`` they are nearby.
        """
        octave = math.floor(math.log2(max(radius, 2.0 ** (self.least - 2)))) - (self.least - 2)
        within = self.envelope[:, min(octave, self.envelope.shape[1] - 1)]
        large = large[: len(within)]
        if self.local:
            return np.minimum(within, np.maximum(large, _FAINT * within))
        return np.where(within > 0, within, large)

    def _fit(self, intervals: list[tuple[float, float]]) -> None:
        """Polynomials on intervals not met before."""
        new = [p for p in intervals if p not in self.pieces]
        if not new:
            return
        if len(self.pieces) + len(new) > _CELLS:
            raise ActivationError(
                f"phi: no table within {_CELLS} pieces over |z| <= {self.span:.4g}; it is rough or oscillates too fast "
                f"near {new[0][0]:.6g}. Declare its kinks=(...), or ask for smaller variances."
            )
        points, transform, powers = _chebyshev(TERMS)
        a, b = np.array(new).T
        half = 0.5 * (b - a)
        y = (0.5 * (a + b))[:, None] + half[:, None] * np.concatenate([points, _CHECKS])
        values = self._call(self.phi, y)
        coefficients = values[:, :TERMS] @ transform.T
        tail = self._tail(values, coefficients)
        if self.derivative is None:
            slopes = coefficients @ _slope(TERMS).T / half[:, None]
            slope_values = slopes @ np.polynomial.chebyshev.chebvander(points, TERMS - 1).T
            slope_tail = tail * (TERMS * TERMS / 4) / half
        else:
            slope_values = self._call(self.derivative, y)
            slopes = slope_values[:, :TERMS] @ transform.T
            slope_tail = self._tail(slope_values, slopes)
        for k, interval in enumerate(new):
            self.pieces[interval] = _Piece(
                np.array([coefficients[k], slopes[k]]) @ powers.T,
                np.array([tail[k], slope_tail[k]]),
                _evenly_large(np.array([v[k, TERMS - 1 :: -1] for v in (values, slope_values)])),
            )

    @staticmethod
    def _tail(values: FloatArray, coefficients: FloatArray) -> FloatArray:
        """How far polynomials may be from the function: last coefficients, misfit in between, roundings."""
        checks = np.polynomial.chebyshev.chebvander(_CHECKS, TERMS - 1).T
        misfit = np.abs(coefficients @ checks - values[:, TERMS:]).max(1)
        last = np.abs(coefficients[:, -2:]).max(1)
        out: FloatArray = np.maximum(np.maximum(last, misfit), _ROUNDING * np.abs(values).max(1))
        return out

    def cover(self, octave: int) -> list[tuple[float, float]]:
        """Adjoining intervals over [-span, span] on which phi and phi' are polynomials at scale 2^octave.

        Raises ActivationError at a jump that was not declared, _Centre at a kink.
        """
        edges = sorted({-self.span, 0.0, self.span, *self.kinks})
        work = [(p, math.inf, 0) for p in pairwise(edges)]
        done = []
        while work:
            self._fit([p for p, _, _ in work])
            halves = []
            for (a, b), before, stuck in work:
                piece = self.pieces[a, b]
                radius = max(0.0 if a <= 0.0 <= b else min(abs(a), abs(b)), 2.0**octave)
                share = self._ratio(piece, radius)
                ratio = share if self.derivative is not None else self._ratio(piece, radius, 1)
                stuck = stuck + 1 if ratio > 0.8 * before else 0
                width = b - a
                tiny = width < max(2.0**-44 * max(abs(a), abs(b)), 2.0 ** (octave - 64))
                fine = ratio <= _RESOLVED or (stuck >= 3 and ratio <= _TOLERABLE)
                if tiny and not fine:
                    fine = a in self.kinks or b in self.kinks or (a <= 0.0 <= b and ratio <= 1e-3)
                    share = 0.0
                    if not fine:
                        self._rough(a, b, float(self.wanted(piece.large, radius)[0]))
                if fine:
                    self.error = max(self.error, share)
                    done.append((a, b))
                    continue
                middle = 0.5 * (a + b)
                halves += [((a, middle), ratio, stuck), ((middle, b), ratio, stuck)]
            work = halves
        return sorted(done)

    def _ratio(self, piece: _Piece, radius: float, functions: int = 2) -> float:
        """The error of phi (functions = 1), and of phi' if known, in units of what is wanted at this radius."""
        scale = self.wanted(piece.large, radius)[:functions]
        tail = piece.tail[: len(scale)]
        return float(np.divide(tail, scale, out=np.zeros(len(scale)), where=scale > 0).max())

    def _rough(self, a: float, b: float, scale: float) -> None:
        """What to do about a place that no halving makes smooth."""
        width = b - a
        ends = self._call(self.phi, np.array([max(a - 2 * width, -self.span), min(b + 2 * width, self.span)]))
        place = 0.5 * (a + b)
        if abs(ends[1] - ends[0]) > 1e-7 * scale:
            raise ActivationError(
                f"phi jumps near {place:.12g}, from {ends[0]:.6g} to {ends[1]:.6g}: "
                f"declare it in kinks=({place:.12g},)."
            )
        raise _Centre(place)

    def narrow(self) -> float | None:
        """A place that pieces close in on although it is no kink, or None."""
        centres = np.array([0.0, *self.kinks])
        a, b = np.array(self.cover(self.least)).T
        ratio = (b - a) / np.abs(0.5 * (a + b)[:, None] - centres).min(1)
        k = int(ratio.argmin())
        return float(0.5 * (a[k] + b[k])) if ratio[k] < 1.0 / _NARROW and len(centres) < _CENTRES else None


def _resolved_line(
    phi: Function, derivative: Function | None, kinks: Sequence[float], span: float, least: int, local: bool
) -> _Line:
    """The line with every kink and narrow place that it takes among its kinks."""
    known = list(kinks)
    while True:
        try:
            line = _Line(phi, derivative, sorted(known), span, least, local)
            place = line.narrow()
            if place is None:
                return line
        except _Centre as found:
            place = found.place
        if len(known) > _CENTRES or place in known:
            raise ActivationError(f"phi: no table, it is rough near {place:.9g}; declare its kinks=(...).") from None
        known.append(place)


def slope_of(phi: Function, kinks: Sequence[float], y: FloatArray) -> FloatArray:
    """phi' almost everywhere, by piecewise polynomials. Raises ActivationError at jumps that were not declared."""
    top = float(np.abs(y).max(initial=1.0)) + 1.0
    for reach in (2.0 ** math.ceil(math.log2(top)), top):
        try:
            return _resolved_line(phi, None, kinks, reach, 0, False).slope(y, 0)
        except RangeError as error:
            reason = error
    raise reason


class Table:
    """The table for |mean| <= mean and s from least to largest: ``values`` with entry 0 left 0, and ``error``.

    Raises RangeError where the range cannot be had, ActivationError where phi cannot be tabulated.
    """

    def __init__(
        self,
        phi: Function,
        derivative: Function | None,
        kinks: Sequence[float],
        mean: float,
        largest: float,
        least: float,
    ) -> None:
        octaves = range(math.floor(math.log2(least)), math.floor(math.log2(largest)) + 1)
        deviations = [min(2.0 ** (m + 1), largest) for m in octaves]
        ends = windows(phi, derivative, mean, deviations)
        self.reach = mean + max(s * max(-low, high) for s, (low, high) in zip(deviations, ends, strict=True))
        line = _resolved_line(phi, derivative, kinks, self.reach + (_REACH + 1) * largest, octaves[0], mean > 0)
        self.line, self.centres = line, sorted({0.0, *line.kinks})
        self.error = 0.0
        self._parts: list[FloatArray] = [np.zeros(7)]
        self._size = 7
        self._shared: dict[tuple[float, float], tuple[float, int]] = {}  # interval: largest tau, position
        self._count = 0

        known: dict[tuple[float, float], int] = {}
        directory = []
        for octave, (low, high) in zip(octaves, ends, strict=True):
            positions = []
            for a, b in line.cover(octave):
                if (a, b) not in known:
                    known[a, b] = self._cell((a, 0.0), (b, 0.0), 0.0, 1.0, False, line.pieces[a, b].powers[:, None, :])
                positions.append(known[a, b])
            directory.append([self._put(np.array(positions, dtype=float)), len(positions), low, high])
        head = self._parts[0]
        head[1:4] = octaves[0], len(octaves), self._put(np.array(directory))
        self._line_table = np.concatenate(self._parts)

        lists = []
        for octave in range(octaves[-1], octaves[0] + _CLOSEST - 1, -1):
            edges = self._edges(octave)
            positions = [p for pair in pairwise(edges) for p in self._flow(*pair, octave)]
            lists.append([self._put(np.array(positions, dtype=float)), len(positions), 0.0, 0.0])
        head[4:7] = octaves[0] + _CLOSEST, len(lists), self._put(np.array(lists[::-1]))
        self.values = np.concatenate(self._parts)
        # tails of phi reach the result once as phi and once through S, those of S once; then roundings
        self.error = 8 * (line.error + self.error) + 1e-14

    def _put(self, values: FloatArray) -> int:
        """Append, and say where."""
        at = self._size
        self._parts.append(np.asarray(values, dtype=float).ravel())
        self._size += self._parts[-1].size
        return at

    def _cell(self, left: Edge, right: Edge, centre: float, scale: float, square: bool, powers: FloatArray) -> int:
        head = np.array([*left, *right, centre, scale, float(square), powers.shape[1]])
        return self._put(np.concatenate([head, powers.ravel()]))

    def _edges(self, octave: int) -> list[Edge]:
        """Where to divide the x axis for tau from 2^octave to twice that, before anything is halved."""
        t = 2.0**octave
        groups: list[list[float]] = []
        for z in self.centres:  # what tau blurs into one
            if groups and z - groups[-1][0] <= 0.5 * t:
                groups[-1].append(z)
            else:
                groups.append([z])
        centres = [0.5 * (g[0] + g[-1]) for g in groups]
        steps = [_INNER * k for k in range(1, round(_KINK / _INNER) + 1)]
        edges: set[Edge] = {(z, 0.0) for z in centres}
        far = 4 * _KINK * t
        for k, z in enumerate(centres):
            for sign in (-1, 1):
                beyond = k + sign
                end = abs(centres[beyond] - z) / 2 if 0 <= beyond < len(centres) else math.inf
                if end > 2.5 * _KINK * t:  # a kink of its own on this side
                    edges |= {(z, sign * xi) for xi in steps}
                    if end < math.inf:
                        edges.add((0.5 * (z + centres[beyond]), 0.0))
                    distance = far
                    while distance < 0.75 * min(end, 2 * self.reach):
                        edges.add((z + sign * distance, 0.0))
                        distance *= 2
                elif sign > 0:
                    n = math.ceil(2 * end / (_INNER * t))
                    edges |= {(z + 2 * end * i / n, 0.0) for i in range(1, n)}
        limit = self.reach - 0.1 * t
        inside = [e for e in edges if max(abs(e[0] + e[1] * t), abs(e[0] + 2 * e[1] * t)) < limit]
        return sorted([(-self.reach, 0.0), (self.reach, 0.0), *inside], key=lambda e: e[0] + e[1] * t)

    def _flow(self, left: Edge, right: Edge, octave: int, depth: int = 0) -> list[int]:
        """Positions of cells from edge to edge for this octave of tau."""
        t = 2.0**octave
        fixed = left[1] == right[1] == 0.0
        a, b = left[0], right[0]
        if fixed and self._shared.get((a, b), (0.0, 0))[0] >= 2 * t:
            return [self._shared[a, b][1]]
        self._count += 1
        if depth > 40 or self._count > _CELLS:
            raise ActivationError(
                f"phi: no table near {a + left[1] * t:.6g} at tau = {t:.3g}, it is rough or oscillates too fast there; "
                "declare its kinks=(...), or ask for smaller variances."
            )
        if fixed and min(max(a - z, z - b) for z in self.centres) >= 0.999 * 2 * _KINK * t:
            middle, radius = 2 * t * t, 2 * t * t
            powers, _, along_tau = self._fit(left, right, middle, radius, True, depth)
            if powers is not None:
                at = self._cell(left, right, middle, 1.0 / radius, True, powers)
                self._shared[a, b] = 2 * t, at
                return [at]
            if not along_tau:
                return self._halved(left, right, octave, depth)
        powers, _, _ = self._fit(left, right, 1.5 * t, 0.5 * t, False, depth)
        if powers is not None:
            return [self._cell(left, right, 1.5 * t, 2.0 / t, False, powers)]
        return self._halved(left, right, octave, depth)

    def _halved(self, left: Edge, right: Edge, octave: int, depth: int) -> list[int]:
        middle = 0.5 * (left[0] + right[0]), 0.5 * (left[1] + right[1])
        return self._flow(left, middle, octave, depth + 1) + self._flow(middle, right, octave, depth + 1)

    def _fit(
        self, left: Edge, right: Edge, centre: float, radius: float, square: bool, depth: int
    ) -> tuple[FloatArray | None, float, bool]:
        """Powers (2, n, TERMS) of S and S1 on a cell, None where they are not resolved; and whether tau is to blame."""
        x_points, x_transform, x_powers = _chebyshev(TERMS)
        along_tau = False
        for n in (10, 16, 24):
            points, transform, powers = _chebyshev(n)
            u = centre + radius * points
            tau = np.sqrt(u) if square else u
            a, b = left[0] + left[1] * tau, right[0] + right[1] * tau
            x = (0.5 * (a + b))[:, None] + (0.5 * (b - a))[:, None] * x_points
            four = np.empty((4, x.size))
            expectations(self._line_table, x.ravel(), np.repeat(tau, TERMS), _REACH, four)
            values = four[:2].reshape(2, n, TERMS)
            coefficients = transform @ values @ x_transform.T
            nearest = (
                0.0 if (a.min() <= 0.0 <= b.max()) else min(abs(a.min()), abs(a.max()), abs(b.min()), abs(b.max()))
            )
            scale = self.line.wanted(
                _evenly_large(np.abs(values).max(axis=1)), max(nearest, 0.0 if square else tau.min())
            )
            size = np.abs(coefficients) / np.where(scale > 0, scale, 1.0)[:, None, None]
            along_x, tail = float(size[:, :, -2:].max()), float(size[:, -2:, :].max())
            along_x = max(
                along_x, _ROUNDING * float((np.abs(values).max(axis=(1, 2)) / np.where(scale > 0, scale, 1.0)).max())
            )
            enough = min(_BLURRED * 4.0 ** max(0, depth - 5), _TOLERABLE)
            # x itself is rounded; what that costs counts tau / s times only
            blur = 0.0 if square else 8 * _ROUNDING * max(float(np.abs(a).max()), float(np.abs(b).max())) / tau.min()
            enough += blur
            along_tau = tail > enough
            if along_x > enough:
                return None, along_x, along_tau
            if not along_tau:
                # powers of tau that do not count are left out
                heavy = np.flatnonzero(size.max(axis=(0, 2)) > 1e-17)
                keep = int(heavy.max(initial=0)) + 1
                self.error = max(self.error, along_x - blur, tail - blur)
                return powers[:keep, :keep] @ coefficients[:, :keep] @ x_powers.T, max(along_x, tail), False
        return None, tail, along_tau
