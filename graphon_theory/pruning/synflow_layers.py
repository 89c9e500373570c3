"""The layers of a network between SynFlow's rounds: thresholds that connections had to pass, and masses of paths.

In every round a layer is told by which units scores are counted (``begin``), is raised to thresholds tau times these
(``rise``) for one tau after the other, and says what is left as a function of tau (``share``): exactly where weights
are drawn, and between positions by cubics between the taus so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.pruning.weight_laws import Normal

_LAW = Normal()
_FAR = 40.0  # no weight exceeds it: exp(-t^2 / 2) is 0
_MOST = float(np.finfo(float).max)
_RARE = 8.5  # units whose connections all have a threshold past this, 2 Phi(-8.5) = 2e-17, have none
_NONE = 1e-32  # a share of connections that no network has one of; of products of such shares no number is left
_EDGES = np.append(np.linspace(0.0, 6.0, 129), _FAR)  # thresholds at which fluctuations are known
_NOTHING = -700.0  # for the logarithm of 0
_CLIFF = 100.0  # slope of ln of what is left where nothing is known
_BLOCK = 1 << 15  # numbers of a table that are worked on together, so that they stay near the processor


class Ends:
    """A layer whose positions carry their own weights: rows from the inputs, or columns to the outputs."""

    def __init__(self, receiving: int, sending: int, rng: np.random.Generator) -> None:
        self.sizes = self.before = np.abs(rng.standard_normal((receiving, sending)))  # |w|, 0 where it is not left
        self.reaches, self.sorted = self.sizes, np.zeros(0)

    def begin(self, unit: float, below: FloatArray, above: FloatArray) -> None:
        """Thresholds of |w| are counted by ``unit`` / (b_u a_v) in this round."""
        self.before = self.sizes
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            units = np.minimum(unit * np.minimum(1 / above[:, None] / below, _MOST), _MOST)
            self.reaches = self.sizes / units  # the taus that connections pass
        self.sorted = np.sort(self.reaches[self.sizes > 0])

    def rise(self, tau: float, below: FloatArray, above: FloatArray) -> None:
        """Leave what passes tau, of what was left when the round began."""
        self.sizes = np.where(self.reaches > tau, self.before, 0.0)

    def share(self, tau: float) -> float:
        """Of all connections, what ``rise`` leaves."""
        return float(len(self.sorted) - np.searchsorted(self.sorted, tau, "right")) / self.sizes.size

    def up(self, below: FloatArray) -> FloatArray:
        return self.sizes @ below / len(below)

    def down(self, above: FloatArray) -> FloatArray:
        return above @ self.sizes / len(above)

    def connectivity(self, below: FloatArray, above: FloatArray) -> Connectivity:
        return Connectivity(StepGraphon((self.sizes > 0).astype(float)), StepGraphon(self.sizes**2))

    def drift(self, rng: np.random.Generator) -> StepGraphon:
        """D = sqrt(n_in) w, with signs drawn for the weights that are kept."""
        shape = self.sizes.shape
        return StepGraphon(math.sqrt(shape[1]) * self.sizes * (2.0 * rng.integers(2, size=shape) - 1))


class _Point(NamedTuple):
    """Of ln tau: ln of the sum of shares, its slope, and ln of by how much more there are."""

    at: float
    value: float
    slope: float
    excess: float


class _Curve:
    """ln of what is left as a function of ln tau, from some points.

    Sums of shares by cubics between the points, and tangents up to 1 beyond; what is more than these by straight lines.
    """

    def __init__(self) -> None:
        self.points: list[_Point] = []

    def __call__(self, at: float) -> float:
        one, two = (sorted(self.points, key=lambda point: abs(point.at - at)) * 2)[:2]
        excess = one.excess
        if two is not one:
            excess += (at - one.at) * (two.excess - one.excess) / (two.at - one.at)
        low = max((point for point in self.points if point.at <= at), default=None)
        high = min((point for point in self.points if point.at > at), default=None)
        away = at - one.at
        if low is None or high is None:
            return one.value + one.slope * away - _CLIFF * math.copysign(max(abs(away) - 1.0, 0.0), away) + excess
        width, rise = high.at - low.at, high.value - low.value
        x = (at - low.at) / width
        bend, tip = low.slope * width - rise, high.slope * width - rise
        return low.value + x * (rise + (1 - x) * ((1 - x) * bend - x * tip)) + excess


class _Tables:
    """What thresholds T leave of connections between units: shares, and moments of |w|."""

    def __init__(self, thresholds: FloatArray, survival: FloatArray, sizes: FloatArray) -> None:
        self.thresholds, self.survival, self.sizes = thresholds, survival, sizes

    @classmethod
    def dense(cls, positions: int) -> _Tables:
        none = np.zeros((positions, positions))
        return cls(none, np.ones_like(none), _size(none))

    def raised(self, tau: float, units: tuple[FloatArray, FloatArray]) -> tuple[_Tables, float]:
        """With max(T, tau * units) for T, and d/d ln tau of the sum of shares."""
        made, slope = _Tables(*np.empty((3, *self.thresholds.shape))), 0.0
        for rows in _blocks(self.thresholds):
            with np.errstate(over="ignore"):
                t = np.multiply.outer(tau * units[0][rows], units[1])
            np.minimum(t, _FAR, out=t)
            risen = t > self.thresholds[rows]
            np.maximum(t, self.thresholds[rows], out=t)
            sizes = _size(t)
            made.thresholds[rows], made.sizes[rows], made.survival[rows] = t, sizes, _LAW.survival(t)
            slope -= float(np.einsum("uv,uv,uv->", sizes, t, risen))
        return made, slope

    def among(self, receivers: IntArray, senders: IntArray) -> _Tables:
        """Those of some units."""
        some = np.ix_(receivers, senders)
        return _Tables(self.thresholds[some], self.survival[some], self.sizes[some])

    @cached_property
    def total(self) -> float:
        return float(self.survival.sum())

    @cached_property
    def squares(self) -> FloatArray:
        """E[w^2; |w| > T]."""
        return _LAW.second_moment(self.thresholds)

    @cached_property
    def variances(self) -> FloatArray:
        """Of |w| 1[|w| > T]."""
        return self.survival + self.sizes * (self.thresholds - self.sizes)

    @cached_property
    def counts(self) -> tuple[FloatArray, FloatArray]:
        """Variances of the numbers of connections of rows and of columns."""
        squares = np.square(self.survival)
        rows, columns = (np.maximum(self.survival.sum(axis) - squares.sum(axis), 0.0) for axis in (1, 0))
        return rows, columns


class Between:
    """A layer between drawn positions: W = 2 Phi(-T) and what its units' many weights fluctuate by."""

    def __init__(self, positions: int, receiving: float, sending: float, rng: np.random.Generator | None) -> None:
        self.positions = positions
        self.receivers = self.senders = np.arange(positions)  # the others have lost all connections for good
        self.tables = self.before = _Tables.dense(positions)
        self.left = float(positions**2)  # connections, when the round began
        self.noise = (
            None if rng is None else (Fluctuations(positions, sending, rng), Fluctuations(positions, receiving, rng))
        )
        self.units = np.ones(positions), np.ones(positions)
        self.curve = _Curve()

    def begin(self, unit: float, below: FloatArray, above: FloatArray) -> None:
        """Thresholds of |w| are counted by ``unit`` / (b_u a_v) in this round."""
        left = self.tables.thresholds < _RARE
        rows, columns = left.any(axis=1), left.any(axis=0)
        if not (rows.all() and columns.all()):
            self.tables = self.tables.among(np.flatnonzero(rows), np.flatnonzero(columns))
            self.receivers, self.senders = self.receivers[rows], self.senders[columns]
        self.before, self.curve = self.tables, _Curve()
        self.left = self.before.total * self._excess(below, above)
        with np.errstate(divide="ignore", over="ignore"):
            self.units = unit / above[self.receivers], 1 / below[self.senders]

    def rise(self, tau: float, below: FloatArray, above: FloatArray) -> None:
        """Raise thresholds to tau times the units, from those that the round began with, and count what is left."""
        if not tau:
            self.tables = self.before
            return
        self.tables, slope = self.before.raised(tau, self.units)
        at, total = math.log(tau), self.tables.total
        known = _Point(at, _NOTHING, 0.0, 0.0)
        if total:
            known = _Point(at, math.log(total), slope / total, math.log(self._excess(below, above)))
        self.curve.points = [known, *(point for point in self.curve.points if point.at != at)]

    def _excess(self, below: FloatArray, above: FloatArray) -> float:
        """Of the connections that units keep, over 2 Phi(-T): units that keep many have more to keep."""
        tilts, total = self._tilts(0, below, above), self.tables.total
        if tilts is None or not total:
            return 1.0
        return sum(float(self._tilted(tilts, rows).sum()) for rows in _blocks(self.tables.survival)) / total

    def share(self, tau: float) -> float:
        """Of all connections, what ``rise`` leaves, as far as the taus so far tell."""
        left = min(self.left, math.exp(min(self.curve(math.log(tau)), -_NOTHING))) if tau else self.left
        return left / self.positions**2

    def up(self, below: FloatArray) -> FloatArray:
        mean, variance = (table @ below[self.senders] ** power for table, power in self._moments())
        return self._mass(0, self.receivers, mean, variance, below)

    def down(self, above: FloatArray) -> FloatArray:
        mean, variance = (above[self.receivers] ** power @ table for table, power in self._moments())
        return self._mass(1, self.senders, mean, variance, above)

    def _moments(self) -> tuple[tuple[FloatArray, int], tuple[FloatArray, int]]:
        return (self.tables.sizes, 1), (self.tables.variances, 2)

    def _mass(
        self, side: int, units: IntArray, mean: FloatArray, variance: FloatArray, masses: FloatArray
    ) -> FloatArray:
        """mean_v E[|w| m] mass_v of every unit, and what it deviates by."""
        out = np.zeros(self.positions)
        out[units] = mean / self.positions
        if self.noise is not None and masses.any():
            one = self.noise[side]
            scores = one.at(1, mean / masses.sum(), units)
            deviation = np.sqrt(variance / (self.positions * one.count))
            out[units] = np.maximum(out[units] + scores * deviation, 0.0)
        return out

    def loop(self, below: FloatArray, above: FloatArray) -> tuple[FloatArray, FloatArray]:
        """T^2 of every sender and every receiver, by what |w| carries there."""
        sizes, squares = self.tables.sizes, self.tables.sizes * self.tables.thresholds**2
        above, below = above[self.receivers], below[self.senders]
        sending, receiving = np.zeros(self.positions), np.zeros(self.positions)
        sending[self.senders] = _share(above @ squares, above @ sizes)
        receiving[self.receivers] = _share(squares @ below, sizes @ below)
        return sending, receiving

    def _tilts(self, power: int, below: FloatArray, above: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """By what factors units' odds of a connection (``power`` 0) or their squares (2) are off, rows and columns."""
        if self.noise is None:
            return None
        tables, found = self.tables, []
        if power == 0:  # by as much the log odds move the mean
            moments = [(variance, variance) for variance in tables.counts]
        else:
            fourth = 3 * tables.squares + tables.thresholds**3 * tables.sizes
            moments = [(tables.squares.sum(axis), (fourth - tables.squares**2).sum(axis)) for axis in (1, 0)]
        weighed = tables.sizes @ below[self.senders] / below.sum(), above[self.receivers] @ tables.sizes / above.sum()
        sides = zip(self.noise, moments, weighed, (self.receivers, self.senders), strict=True)
        for one, (mean, variance), kept, units in sides:
            # a lognormal factor of mean 1
            square = np.log1p(_share(variance * self.positions, one.count * mean**2))
            found.append(np.exp(one.at(power, kept, units) * np.sqrt(square) - square / 2))
        return found[0], found[1]

    def _tilted(self, tilts: tuple[FloatArray, FloatArray], rows: slice) -> FloatArray:
        """W of some rows, given what units deviate by."""
        w = self.tables.survival[rows]
        odds = np.multiply.outer(tilts[0][rows], tilts[1])
        odds *= w
        found: FloatArray = odds / (1 - w + odds)
        return found

    def connectivity(self, below: FloatArray, above: FloatArray) -> Connectivity:
        """W and V, given what units deviate by."""
        mask, variance = np.zeros((2, self.positions, self.positions))
        some = np.ix_(self.receivers, self.senders)
        tilts, squares = (self._tilts(power, below, above) for power in (0, 2))
        if tilts is None or squares is None:
            mask[some], variance[some] = self.tables.survival, self.tables.squares
        else:
            mask[some] = self._tilted(tilts, slice(None))
            variance[some] = self.tables.squares * np.multiply.outer(*squares)
        mask[mask < _NONE] = 0.0
        return Connectivity(StepGraphon(mask), StepGraphon(np.where(mask > 0, variance, 0.0)))


class Fluctuations:
    """What sums over the ``count`` weights of each of some units deviate by, as a function of a threshold.

    Sums over v of alpha_v f(|w_v|) 1[|w_v| > T_v], f = 1, |w| and w^2, are Gaussian, with the variance of the
    thresholds and factors that they have and, at one threshold, the correlations that sums of the same weights have at
    different thresholds: those of the empirical law of |w|, drawn here in bins.
    """

    def __init__(self, units: int, count: float, rng: np.random.Generator) -> None:
        self.count = count
        shares = -np.diff(_LAW.survival(_EDGES))
        sizes = -np.diff(_size(_EDGES)) / np.maximum(shares, np.finfo(float).tiny)
        noise = rng.standard_normal((units, len(shares))) * np.sqrt(shares)
        noise -= shares * noise.sum(1, keepdims=True)
        self.scores = [self._above(noise, shares, sizes**power) for power in range(3)]

    @staticmethod
    def _above(noise: FloatArray, shares: FloatArray, values: FloatArray) -> FloatArray:
        """Normal scores of the sums of ``values`` above every edge but the last (units, edges)."""
        sums = np.cumsum((noise * values)[:, ::-1], 1)[:, ::-1]
        mean, square = (np.cumsum((shares * values**power)[::-1])[::-1] for power in (1, 2))
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
        # of counts above 0 there is no deviation
        scores: FloatArray = np.divide(
            sums, deviation, out=np.zeros_like(sums), where=deviation > 1e-6 * deviation.max()
        )
        return scores

    def at(self, power: int, kept: FloatArray, units: IntArray) -> FloatArray:
        """The score of some units' sums of |w|^power, at the one threshold at which E[|w|; |w| > t] is ``kept``."""
        share = np.clip(kept / _size(np.zeros(1)), np.exp(-(_EDGES[-2] ** 2) / 2), 1.0)
        one = np.sqrt(-2 * np.log(share))
        place = np.clip(np.searchsorted(_EDGES, one) - 1, 0, len(_EDGES) - 3)
        part = (one - _EDGES[place]) / np.diff(_EDGES)[place]
        scores = self.scores[power]
        found: FloatArray = scores[units, place] * (1 - part) + scores[units, place + 1] * part
        return found


def _blocks(table: FloatArray) -> Iterator[slice]:
    """Rows of a table that are worked on together."""
    step = max(1, _BLOCK // max(1, table.shape[1]))
    return (slice(first, first + step) for first in range(0, len(table), step))


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _size(t: FloatArray) -> FloatArray:
    """E[|w|; |w| > t]."""
    found: FloatArray = math.sqrt(2 / math.pi) * np.exp(-0.5 * t * t)
    return found
