"""Tables of the heat flow S(x, tau) = E[phi(x + tau e)], e ~ N(0, 1), of an activation and its derivative.

Near a kink z, S is a function of (x - z) / tau whatever tau, so every half-octave of tau has cells of its own there,
whose edges z + xi tau move with tau; farther off than 8 tau, S is as smooth as phi, and all smaller tau share cells.
On each cell S is a polynomial; cells are halved until it is, to an accuracy that the octave of the standard deviation
s decides. The layout is that of ``heat_blocks``, which reads the table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from graphon_theory.activations.heat.heat_blocks import ENTRY, SLABS, TERMS, expectations
from graphon_theory.activations.heat.piecewise import RangeError, resolved
from graphon_theory.activations.heat.polynomials import chebyshev, evenly_large
from graphon_theory.arrays import FloatArray, Function
from graphon_theory.errors import ActivationError

Edge = tuple[float, float]  # a + b tau
Row = list[int]  # positions of cells

# Error of a cell relative to what is wanted: 80 eps. Bounds of 1e-13 for a table follow, twenty times less than the
# 2e-12 that the series are allowed.
_BLURRED = 2e-14
_ROUNDING = 2e-16  # of a value of S: eps rounded down, as polynomials have their own in ``piecewise``
_KINK = 8.0  # distance from a kink in units of tau where its mark, exp(-8^2 / 2) = 1e-14, has sunk to rounding
# Width of cells near a kink in units of tau: five a side up to ``_KINK``, and 20 terms of exp(-x^2 / 2) on half of it
# leave 1e-15.
_INNER = 1.6
# Standard deviations integrated over for S about 0 alone, where exp(-9.5^2 / 2) is 3e-20, and where faint values down
# to 1e-20 count, exp(-13^2 / 2) = 2e-37.
_REACH = 9.5, 13.0
_SPARE = 1.0  # standard deviations by which phi is resolved beyond what S needs
_FAR = 60.0  # standard deviations within which the Gaussian has to win: beyond, exp(-60^2 / 4) is lost in any product
_NEGLIGIBLE = 40.0  # exp(-40) = 4e-18 of the integrand's peak is beneath the rounding of a sum
# Logarithm below which phi counts as 0: about 0 alone beneath that of the Gaussian where it underflows; about means
# phi is known down to 1e-20 only, and this leaves room.
_FAINTEST = -800.0, -345.0
_ORDERS = (8, 12, 18, 24, 40)  # numbers of powers of tau to try, each about half as many again as the one before
# An error that is put down to roundings where halving does not reduce it: of S1 from a phi without derivative, whose
# roundings grow by the inverse width of a piece.
_SMALL = 1e-7
# What halving a cell leaves at least of an error along tau that is put down to roundings; by trial, as halving in x
# reduces what is not rounding slowly.
_UNMOVED = 0.9
_CELLS = 20_000  # tens of MB; what needs more is rough


def windows(
    phi: Function, derivative: Function | None, mean: float, deviations: Sequence[float]
) -> list[tuple[float, float]]:
    """For each s, the least and largest c where N(c) |phi(mu + s c)| or its square, |mu| <= mean, counts.

    Raises RangeError where phi is not finite within, or grows too fast to find the ends.
    """
    c = np.arange(-_FAR, _FAR + 0.01, 0.125)
    out = []
    for top in deviations:
        low, high = -1.0, 1.0
        # faint tails peak farther out for smaller s
        for s, mu in itertools.product((top, 0.7 * top, 0.5 * top), np.linspace(-mean, mean, 17) if mean else (0.0,)):
            y = mu + s * c
            size = np.abs(phi(y)) if derivative is None else np.maximum(np.abs(phi(y)), np.abs(derivative(y)))
            wrong = np.flatnonzero(~np.isfinite(size))
            left = int(wrong[wrong < len(c) // 2].max(initial=-1)) + 1
            right = int(wrong[wrong >= len(c) // 2].min(initial=len(c)))
            if right - left < 17:
                raise RangeError(f"phi is not finite at {y[len(c) // 2]:.6g}.")
            g = -0.5 * c[left:right] ** 2 + [[1], [2]] * np.maximum(np.log(size[left:right]), _FAINTEST[mean > 0])
            inside = np.flatnonzero((g >= g.max(axis=1, keepdims=True) - _NEGLIGIBLE).any(axis=0))
            if inside[0] == 0 or inside[-1] == right - left - 1:
                bad = y[left - 1 if inside[0] == 0 else min(right, len(c) - 1)]
                reason = f"it is not finite at {bad:.4g}" if len(wrong) else f"it grows too fast (seen up to {bad:.4g})"
                raise RangeError(f"phi outweighs the Gaussian of variance {s * s:.4g}: {reason}.")
            low, high = min(low, c[left + inside[0]] - 0.125), max(high, c[left + inside[-1]] + 0.125)
        out.append((low, high))
    return out


def _looked_at(ends: list[tuple[float, float]]) -> list[float]:
    """For each octave, how many of its standard deviations from the mean S has to be known.

    A pair is integrated over c as far as it counts for either input, and S belongs to the one with the larger s: where
    phi is localised, that one alone counts for c up to 1 only, where the other reaches 9. What leads less than
    ``_SPARE`` beyond an octave's own end is too faint to matter, and is left out of the integral.
    """
    own = [max(-low, high) for low, high in ends]
    widest = itertools.accumulate(own, max)
    return [w if w > o + _SPARE else o for o, w in zip(own, widest, strict=True)]


def span(phi: Function, derivative: Function | None, mean: float, largest: float) -> float:
    """How far phi is looked at for s up to ``largest``. Raises RangeError where it is not finite within."""
    ((low, high),) = windows(phi, derivative, mean, [largest])
    reach = mean + largest * (max(-low, high) + _REACH[1] + _SPARE)
    ends = np.array([-reach, reach])
    if not np.isfinite(phi(ends)).all() or (derivative is not None and not np.isfinite(derivative(ends)).all()):
        raise RangeError(f"phi is not finite at {float(reach):.4g} or {-float(reach):.4g}.")
    return float(reach)


@dataclass
class _Cell:
    """A cell that was fitted: what the table says of it, and for each octave of s how good it is."""

    variable: tuple[float, float, float]
    powers: FloatArray  # (n, 2 TERMS)
    order: int
    along_x: list[float]  # error in units of what is wanted
    along_tau: list[float]
    at: int = -1  # where it stands in the table


class Table:
    """The table for |mean| <= mean and s from least to largest.

    ``values`` have entry 0 left 0. ``errors`` bound the error for s from each octave up (:attr:`octaves`), relative to
    sqrt(C11 C22) and sqrt(Cdot11 Cdot22). Raises RangeError where the range cannot be had, ActivationError where phi
    cannot be tabulated.
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
        octaves = range(math.floor(math.log2(least)), math.ceil(math.log2(largest)))
        deviations = [min(2.0 ** (m + 1), largest) for m in octaves]
        ends = windows(phi, derivative, mean, deviations)
        self._reaches = {m: mean + s * c for m, s, c in zip(octaves, deviations, _looked_at(ends), strict=True)}
        self.reach = max(self._reaches.values())
        self.octaves, self._largest = octaves, largest
        self.line = resolved(
            phi, derivative, kinks, self.reach + (_REACH[1] + _SPARE) * largest, octaves, self._reaches, mean > 0
        )
        self._blur_reach = _REACH[int(mean > 0)]
        self._parts: list[FloatArray] = [np.zeros(4 + ENTRY * len(octaves))]
        self._size = self._parts[0].size
        self._cells: dict[tuple[Edge, Edge, float], _Cell] = {}  # by edges and largest tau, negative where from 0 on
        self._shared: dict[tuple[Edge, Edge, int], float] = {}  # by edges and octave: largest tau of the cell from 0 on
        # largest tau at which a cell is too wide for polynomials in x: so it is for smaller tau and octaves that follow
        self._rough: dict[tuple[Edge, Edge], float] = {}
        head = self._parts[0]
        head[1:4] = octaves[0], len(octaves), 4
        directory = head[4:].reshape(len(octaves), ENTRY)
        directory[:, :2] = ends
        known: dict[tuple[float, float], int] = {}
        for octave, entry in zip(octaves, directory, strict=True):
            row = []
            for a, b in self.line.cover(octave):
                if (a, b) not in known:
                    powers = self.line.pieces[a, b].powers.reshape(1, -1)
                    known[a, b] = self._put_cell((a, 0.0), (b, 0.0), (0.0, 1.0, 0.0), powers)
                row.append(known[a, b])
            entry[2:4] = self._put(np.array(row, dtype=float)), len(row)
        self._line_table = np.concatenate(self._parts)

        self._error = 0.0
        self._enough = {m: _BLURRED + 2 * self.line.errors[m] for m in octaves}
        self.errors: dict[int, float] = {}
        for octave, entry in zip(reversed(octaves), directory[::-1], strict=True):
            for k in range(1, SLABS + 1):
                row = self._row(octave, k - 2 * (octave + 1))
                entry[2 + 2 * k : 4 + 2 * k] = self._put(np.array(row, dtype=float)), len(row)
            # tails of phi reach the result as phi and through S, those of S once; then roundings
            self.errors[octave] = 2 * self.line.errors[octave] + 4 * self._error + self.line.rounding(octave) + 1e-14
        self.values = np.concatenate(self._parts)

    def _put(self, values: FloatArray) -> int:
        """Append, and say where."""
        at = self._size
        self._parts.append(np.asarray(values, dtype=float).ravel())
        self._size += self._parts[-1].size
        return at

    def _put_cell(self, left: Edge, right: Edge, place: tuple[float, float, float], powers: FloatArray) -> int:
        return self._put(np.concatenate([[*left, *right, *place, len(powers)], powers.ravel()]))

    def _row(self, octave: int, slab: int) -> Row:
        """Cells that cover the x axis for s = 2^octave and tau in [2^(-slab / 2), 2^((1 - slab) / 2))."""
        if 2.0 ** (-slab / 2) >= self._largest:
            return []
        end = min(2.0 ** math.ceil(math.log2(self._reaches[octave])), self.reach)
        edges = self._edges(2.0 ** (-slab / 2), end)
        return [p for pair in pairwise(edges) for p in self._cover(*pair, slab, octave)]

    def _edges(self, t: float, end: float) -> list[Edge]:
        """Where to divide the x axis up to +-end for tau from t to sqrt(2) t, before anything is halved."""
        groups: list[list[float]] = []
        for z in self.line.kinks:  # what tau blurs into one
            if abs(z) > end + 2 * _KINK * t:
                continue
            if groups and z - groups[-1][0] <= 0.5 * t:
                groups[-1].append(z)
            else:
                groups.append([z])
        centres = [0.5 * (g[0] + g[-1]) for g in groups]
        steps = [_INNER * k for k in range(1, round(_KINK / _INNER) + 1)]
        edges: set[Edge] = {(z, 0.0) for z in centres}
        for k, z in enumerate(centres):
            for sign in (-1, 1):
                beyond = k + sign
                half = abs(centres[beyond] - z) / 2 if 0 <= beyond < len(centres) else math.inf
                if half > 2 * _KINK * t:  # a kink of its own on this side
                    edges |= {(z, sign * xi) for xi in steps}
                    if half < math.inf:
                        edges.add((0.5 * (z + centres[beyond]), 0.0))
                    # distances from the kink at powers of 2, so that smaller tau find the same ones
                    distance = 2.0 ** math.ceil(math.log2(2 * _KINK * t))
                    while distance < 0.75 * min(half, 4 * end):
                        edges.add((z + sign * distance, 0.0))
                        distance *= 2
                elif sign > 0:
                    n = math.ceil(2 * half / (_INNER * t))
                    edges |= {(z + 2 * half * i / n, 0.0) for i in range(1, n)}
        limit = end - 0.1 * t
        if not centres:
            edges.add((0.0, 0.0))
        inside = [e for e in edges if max(abs(e[0] + e[1] * t), abs(e[0] + math.sqrt(2) * e[1] * t)) < limit]
        return sorted([(-end, 0.0), (end, 0.0), *inside], key=lambda e: e[0] + e[1] * t)

    def _cover(
        self, left: Edge, right: Edge, slab: int, octave: int, depth: int = 0, before: float = 1.0, stuck: int = 0
    ) -> Row:
        """Positions of the cells from edge to edge that this octave can get to.

        ``before`` is the error of the cell that was halved, ``stuck`` how often that did not help.
        """
        t = 2.0 ** (-slab / 2)
        top = min(math.sqrt(2) * t, self._largest)
        reach = self._reaches[octave]
        if left[0] + min(left[1] * t, left[1] * top) > reach or right[0] + max(right[1] * t, right[1] * top) < -reach:
            return []
        where = left, right, slab, octave, depth
        if top <= self._rough.get((left, right), 0.0):
            return self._halved(*where, before, stuck)
        # where halving does not help, it is the values that are no better
        enough = self._enough[octave] * 4.0 ** max(0, stuck - 1)
        a, b = left[0], right[0]
        if left[1] == right[1] == 0.0 and all(max(a - z, z - b) >= 0.999 * _KINK * top for z in self.line.kinks):
            wide = self._shared.get((left, right, octave), math.inf)  # served this octave, or if negative failed
            if wide >= top and wide < math.inf:
                return [self._placed(left, right, -wide)]
            if wide > 0 or top < 0.51 * -wide:
                cell = self._fitted(left, right, 0.0, top, octave, enough)
                if self._serves(cell, octave, enough):
                    self._shared[left, right, octave] = top
                    return [self._placed(left, right, -top)]
                error = cell.along_x[octave - self.octaves[0]]
                if error > 30 * enough and not self.line.local:  # else tau = 0 may be much fainter than this tau
                    self._rough[left, right] = top
                    return self._halved(*where, error, stuck + (0.3 * before < error < _SMALL))
                self._shared[left, right, octave] = -top
        cell = self._fitted(left, right, t, top, octave, enough)
        if self._serves(cell, octave, enough):
            return [self._placed(left, right, top)]
        along_x, along_tau = (errors[octave - self.octaves[0]] for errors in (cell.along_x, cell.along_tau))
        if along_x > enough:
            self._rough[left, right] = top
            return self._halved(*where, along_x, stuck + (0.3 * before < along_x < _SMALL))
        return self._halved(*where, along_tau, stuck + (_UNMOVED * before < along_tau < _SMALL))

    def _halved(self, left: Edge, right: Edge, slab: int, octave: int, depth: int, before: float, stuck: int) -> Row:
        if depth > 40 or stuck > 12 or len(self._cells) > _CELLS:
            raise ActivationError(
                f"phi: no table near {left[0]:.6g} at standard deviation {2.0 ** (-slab / 2):.3g}, it is rough or "
                "oscillates too fast there; declare its kinks=(...), write it as exactly 0 where it vanishes around 0, "
                "or ask for smaller variances."
            )
        middle = 0.5 * (left[0] + right[0]), 0.5 * (left[1] + right[1])
        more = slab, octave, depth + 1, before, stuck
        return self._cover(left, middle, *more) + self._cover(middle, right, *more)

    def _placed(self, left: Edge, right: Edge, key: float) -> int:
        """Where a cell stands in the table, to which it is added if need be."""
        cell = self._cells[left, right, key]
        if cell.at < 0:
            cell.at = self._put_cell(left, right, cell.variable, cell.powers)
        return cell.at

    def _serves(self, cell: _Cell, octave: int, enough: float) -> bool:
        """Whether a cell is good enough for s = 2^octave."""
        at = octave - self.octaves[0]
        error = max(cell.along_x[at], cell.along_tau[at])
        if error > enough:
            return False
        self._error = max(self._error, error)
        return True

    def _fitted(self, left: Edge, right: Edge, low: float, top: float, octave: int, enough: float) -> _Cell:
        """The cell for tau from low (0: in powers of tau^2) to top, with as many powers of tau as it takes."""
        key, at = (left, right, top if low else -top), octave - self.octaves[0]
        cell = self._cells.get(key)
        for order in _ORDERS:
            if cell is None or cell.order < order:
                cell = self._fit(left, right, low, top, order)
                self._cells[key] = cell
            tail = cell.along_tau[at]
            # coefficients fall geometrically: cells from 0 on are not worth the highest orders
            if cell.along_x[at] > enough or tail <= enough or (not low and tail ** (24 / order) > 10 * enough):
                break
        assert cell is not None
        return cell

    def _near(self, x: float, large: FloatArray) -> FloatArray:
        """How large phi and phi' are within s / 8 of x, by octave, and at least ``large``; (2, 1) about 0 alone.

        A Gaussian that has its tenth standard deviation at x has a quarter of the weight there s / 8 farther out.
        """
        if not self.line.local:
            return large[:, None]
        places = x + 2.0 ** np.array(self.octaves)[:, None] / 8 * np.array([-1.0, -0.3, 0.3, 1.0])
        places = np.clip(places, -self.reach, self.reach)
        four = np.empty((4, places.size))
        expectations(self._line_table, places.ravel(), np.zeros(places.size), 0.0, four)
        around = 0.25 * np.sqrt(four[2:]).reshape(2, *places.shape).max(axis=2)
        return np.maximum(around, large[:, None])

    def _fit(self, left: Edge, right: Edge, low: float, top: float, order: int) -> _Cell:
        """S and S1 on a cell by interpolation at Chebyshev points."""
        x_points, x_transform, x_powers = chebyshev(TERMS)
        points, transform, powers = chebyshev(order)
        square = low == 0.0
        centre, radius = (0.5 * top * top,) * 2 if square else (0.5 * (low + top), 0.5 * (top - low))
        u = centre + radius * points
        tau = np.sqrt(u) if square else u
        a, b = left[0] + left[1] * tau, right[0] + right[1] * tau
        x = (0.5 * (a + b))[:, None] + (0.5 * (b - a))[:, None] * x_points
        four = np.empty((4, x.size))
        expectations(self._line_table, x.ravel(), np.repeat(tau, TERMS), self._blur_reach, four)
        values = four[:2].reshape(2, order, TERMS)
        coefficients = transform @ values @ x_transform.T
        size = np.abs(coefficients)
        largest = np.abs(values).max(axis=(1, 2))
        nearest = 0.0 if a.min() <= 0.0 <= b.max() else float(min(np.abs(a).min(), np.abs(b).min()))
        # errors below this everywhere cost no more than that part of sqrt(C11 C22), by Cauchy and Schwarz
        large = evenly_large(np.sqrt(four[2:]).reshape(2, order, TERMS).min(axis=1))
        wanted = self.line.wanted_by(self._near(0.5 * (a.min() + b.max()), large), max(nearest, low))
        # powers of tau that count nowhere are left out
        counts = (size.max(axis=2) > 1e-17 * wanted[:, :1]).any(axis=0)
        keep = int(np.flatnonzero(counts).max(initial=0)) + 1
        in_powers = powers[:keep, :keep] @ coefficients[:, :keep] @ x_powers.T
        # x is rounded, too; what that comes to counts tau / s times only
        blur = 0.0 if square else 40 * _ROUNDING * float(max(np.abs(a).max(), np.abs(b).max())) / low

        def short(error: FloatArray) -> list[float]:
            ratio = np.divide(error[:, None], wanted, out=np.zeros_like(wanted), where=wanted > 0).max(axis=0)
            return [float(r) for r in np.maximum(ratio - blur, 0.0)]

        return _Cell(
            variable=(centre, 1.0 / radius, float(square)),
            powers=in_powers.transpose(1, 0, 2).reshape(keep, 2 * TERMS),
            order=order,
            along_x=short(np.maximum(size[:, :, -2:].max(axis=(1, 2)), _ROUNDING * largest)),
            along_tau=short(size[:, -2:].max(axis=(1, 2))),
        )
