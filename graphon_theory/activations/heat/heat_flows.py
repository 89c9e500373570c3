"""Duals of any activation by its heat flow (THEORY §4): kinks, jumps, any variance, any mean.

S(x, tau) = E[phi(x + tau e)] and S1(x, tau) = E[phi'(x + tau e)], e ~ N(0, 1), belong to the activation alone. They are
tabulated once (``heat_tables``); then C and Cdot of a pair of inputs are one integral over a line (``heat_blocks``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.activations.heat import heat_blocks as _compiled
from graphon_theory.activations.heat import heat_slope_blocks
from graphon_theory.activations.heat.heat_tables import Table, span
from graphon_theory.activations.heat.piecewise import RangeError, slope_of
from graphon_theory.arrays import EPS, FloatArray, Function
from graphon_theory.errors import ActivationError
from graphon_theory.numerics import determinants

heat_flow_block = _compiled.heat_flow_block
heat_flow_back = heat_slope_blocks.heat_flow_back

_SMALLEST = 1e-30, 1e-20  # variance about 0, and about other means
_HOMOGENEOUS = 1e-12  # error of taking phi for a power of z below the least s


class HeatFlow:
    """Duals of ``phi`` at any means and variances from one table, which is built when first needed.

    ``phi`` and ``derivative`` map float64 arrays to float64 arrays, elementwise; ``derivative`` is the one almost
    everywhere, taken from piecewise Chebyshev polynomials of phi where it is None. ``kinks`` are the places where phi
    or a low derivative is not smooth, its ``jumps`` included; undeclared kinks are found, undeclared jumps refused.

    Raises ActivationError for places that are not finite, and from every method where phi overflows or outgrows the
    Gaussian at the variances asked for, or jumps where nothing was declared, or oscillates too fast for the table.
    """

    def __init__(
        self,
        phi: Function,
        derivative: Function | None = None,
        kinks: Iterable[float] = (),
        jumps: Iterable[float] = (),
    ) -> None:
        self.phi, self._derivative = phi, derivative
        places = sorted({float(z) + 0.0 for z in (*kinks, *jumps)})
        if not all(math.isfinite(z) for z in places):
            raise ActivationError(f"kinks: expected finite places, got {places}.")
        self.kinks = tuple(places)
        self._tables: dict[tuple[float, float, float, float], PreparedHeatFlow] = {}

    def derivative(self, z: ArrayLike) -> FloatArray:
        """phi'(z) almost everywhere, elementwise."""
        y = np.asarray(z, dtype=float)
        if self._derivative is not None:
            return self._derivative(y)
        with np.errstate(all="ignore"):
            return slope_of(self.phi, self.kinks, y)

    def prepared(
        self,
        largest_mean: float,
        largest_variance: float,
        rtol: float = 1e-11,
        smallest_variance: float | None = None,
    ) -> PreparedHeatFlow:
        """The table for |mean| up to ``largest_mean`` and variances from ``smallest_variance`` up, or 0.

        Kept for later calls. Raises ActivationError where its error exceeds ``rtol``, besides the reasons above.
        """
        mean, s = abs(float(largest_mean)), math.sqrt(float(largest_variance))
        if not (math.isfinite(mean) and math.isfinite(s)):
            raise ActivationError(f"largest_mean, largest_variance: expected finite numbers, got {mean}, {s * s}.")
        least = math.sqrt(min(_SMALLEST[mean > 0] if smallest_variance is None else float(smallest_variance), 1.0))
        s = max(s, 4 * least)
        for (far, wide_s, tiny, known), made in self._tables.items():
            if far >= mean and (far > 0) == (mean > 0) and wide_s >= s and tiny <= least and known <= rtol:
                return made
        # ranges are rounded up, so that few tables serve all calls
        wide = (2.0 ** math.ceil(math.log2(mean)) if mean else 0.0), 2.0 ** math.ceil(math.log2(s))
        try:
            return self._made(*wide, least, rtol)
        except RangeError:
            pass
        try:
            return self._made(mean, s, least, rtol)
        except RangeError as error:
            raise ActivationError(f"{error} {self._advice(mean, s, least)}") from None

    def _made(self, mean: float, s: float, least: float, rtol: float) -> PreparedHeatFlow:
        key = mean, s, least, rtol
        if key not in self._tables:
            with np.errstate(all="ignore"):
                table = Table(self.phi, self._derivative, self.kinks, mean, s, least)
            good = [m for m in table.octaves if all(table.errors[k] <= rtol for k in table.octaves if k >= m)]
            if not good:
                raise ActivationError(
                    f"phi: its duals would be known to {table.errors[table.octaves[-1]]:.2g} of their scale only, "
                    f"rtol = {rtol:.2g} was asked for. Give its derivative, declare its kinks, or smooth its "
                    "roundings; where it vanishes around 0, it should be exactly 0."
                )
            error = max(table.errors[m] for m in good)
            smallest = 0.0 if good[0] == table.octaves[0] and table.line.nothing_below else 4.0 ** good[0]
            self._tables[key] = PreparedHeatFlow(self.phi, table.values[1:], error, mean, s * s, smallest)
        return self._tables[key]

    def _advice(self, mean: float, s: float, least: float) -> str:
        """Which variance would do."""
        low, high = math.log2(least), math.log2(s)
        if not self._in_range(mean, least):
            return "No variance works at these means."
        while high - low > 0.01:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self._in_range(mean, 2.0**middle) else (low, middle)
        return f"The largest variance that works is about {4.0**low:.4g}."

    def _in_range(self, mean: float, s: float) -> bool:
        try:
            with np.errstate(all="ignore"):
                span(self.phi, self._derivative, mean, s)
        except RangeError:
            return False
        return True

    def moments(
        self, mean1: ArrayLike, mean2: ArrayLike, q12: ArrayLike, q11: ArrayLike, q22: ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """C and Cdot, broadcast; 1 - rho^2 is formed by two-products, so pairs are told apart up to |rho| = 1."""
        arrays = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (mean1, mean2, q12, q11, q22)))
        shape = arrays[0].shape
        m1, m2, cross, first, second = (a.ravel() for a in arrays)
        table = self._table(np.concatenate([m1, m2]), np.concatenate([first, second]))
        rho, gap = _correlation(cross, first, second)
        c, dot = np.empty(len(rho)), np.empty(len(rho))
        f1, f2 = table.features(m1[None], first[None])[0], table.features(m2[None], second[None])[0]
        _compiled.pairs(table.table, f1, f2, rho, gap, c, dot)
        return c.reshape(shape), dot.reshape(shape)

    def means(self, mean: ArrayLike, variance: ArrayLike) -> FloatArray:
        """E[phi(mean + sqrt(variance) z)], broadcast."""
        return self._expectations(mean, variance)[0]

    def diagonal(self, mean: ArrayLike, variance: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """E[phi^2] and E[phi'^2], broadcast."""
        _, _, c, dot = self._expectations(mean, variance)
        return c, dot

    def _expectations(self, mean: ArrayLike, variance: ArrayLike) -> FloatArray:
        m, q = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(variance, dtype=float))
        table = self._table(m, q)
        return table.expectations(m.ravel(), q.ravel()).reshape(4, *m.shape)

    def _table(self, mean: FloatArray, variance: FloatArray) -> PreparedHeatFlow:
        return self.prepared(float(np.abs(mean).max(initial=0.0)), float(variance.max(initial=1.0)))


@dataclass(frozen=True, eq=False)
class PreparedHeatFlow:
    """The table of one activation for a range of means and variances.

    ``parameters`` follow the tolerance of coincidence in the parameters of :func:`heat_flow_block`; ``error`` bounds
    the error of C and Cdot relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22) for variances from ``smallest_variance``
    to ``largest_variance``, or 0. About means other than 0 the scales count phi within mean +- s only down to 1e-20 of
    the largest phi in reach, and roundings of x = mean + s c, eps |mean| / s, come on top. For a phi without derivative
    the scale of Cdot is at least that of C over the variance.

    Where phi vanishes for |z| < a, the scales about 0 fall as exp(-a^2 / 2 q); the bound holds relative to them down
    to sqrt(q) = a / 36, that is to moments of 1e-285. The Gaussian underflows soon below, moments become 0, and
    ``smallest_variance`` is 0. Roundings of q12 move moments of nearly coincident inputs by (a / sqrt(q)) sqrt(eps).
    """

    phi: Function = field(repr=False)
    parameters: FloatArray = field(repr=False)
    error: float
    largest_mean: float
    largest_variance: float
    smallest_variance: float

    @property
    def table(self) -> FloatArray:
        """The parameters behind a tolerance of 0."""
        return np.concatenate([[0.0], self.parameters])

    def features(self, mean: ArrayLike, variance: FloatArray) -> FloatArray:
        """What the compiled pass needs of each input, (P, 7, N), as :func:`heat_flow_block` lists it.

        Raises ActivationError for means or variances outside the table's range.
        """
        mean, variance = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(variance, dtype=float))
        s = np.sqrt(variance)
        first, slope, _, _ = self.expectations(mean.ravel(), variance.ravel()).reshape(4, *s.shape)
        inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
        held, less, flatter = self._near_zero(mean, s)
        return np.stack([mean, held, first, slope, inverse, less, flatter], axis=1)

    @cached_property
    def _powers(self) -> tuple[int, int] | None:
        """p and r where phi goes as |z|^p and phi' as |z|^r around 0 (0: tends to a number); None where unknown."""
        least, four = math.sqrt(self.smallest_variance), np.empty((4, 2))
        _compiled.expectations(self.table, np.zeros(2), np.array([least, 2 * least]), 0.0, four)
        found = []
        for one, two in four[2:]:
            power = round(0.5 * math.log2(two / one)) if one > 0 and two > 0 else 0
            if power < 0 or abs(two - 4.0**power * one) > _HOMOGENEOUS * two:
                return None
            found.append(power)
        return found[0], found[1]

    def _near_zero(self, mean: FloatArray, s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The s at which the table is read, and what C and Cdot are multiplied by then, one factor an input.

        About 0 and below the least s, phi and phi' are powers of z, and so their duals are of s.
        """
        least = math.sqrt(self.smallest_variance)
        tiny = (s > 0) & (s < least) & (mean == 0)
        powers = self._powers if tiny.any() else None
        if powers is None:
            return s, np.ones_like(s), np.ones_like(s)
        ratio = np.where(tiny, s / least, 1.0)
        return np.where(tiny, least, s), ratio ** powers[0], ratio ** powers[1]

    def slopes(self, mean: FloatArray, variance: FloatArray) -> FloatArray:
        """The derivatives in the variance and in the mean of E[phi^2], E[phi'^2] and E[phi], as (6, ...).

        By the scores of the Gaussian, as d/dq E[g] = E[(z^2 - 1) g] / 2 q and d/dmu E[g] = E[z g] / s, so that phi need
        not be smooth; 0 in the variance where that is 0.
        """
        m, q = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(variance, dtype=float))
        s, four = self._near_zero(m.ravel(), np.sqrt(q).ravel())[0], self.expectations(m.ravel(), q.ravel())
        out = np.empty((5, m.size))
        heat_slope_blocks.slope_expectations(self.table, np.ascontiguousarray(m.ravel()), s, out)
        inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
        moved, product, tilted, turned, bent = out
        six = [
            tilted * inverse,
            2 * product,
            0.5 * bent * inverse**2,
            turned * inverse,
            0.5 * moved * inverse,
            four[1],
        ]
        return np.stack(six).reshape(6, *m.shape)

    def expectations(self, mean: FloatArray, variance: FloatArray) -> FloatArray:
        """E[phi], E[phi'], E[phi^2], E[phi'^2], as (4, n)."""
        slack = 1 + 1e-9
        if not (variance >= 0).all() or variance.max(initial=0.0) > slack * self.largest_variance:
            raise ActivationError(
                f"variance: expected 0 to {self.largest_variance:.6g}, for which the activation was prepared, "
                f"got {variance.min():.6g} to {variance.max():.6g}."
            )
        if not (np.abs(mean) <= slack * self.largest_mean).all():
            raise ActivationError(
                f"mean: expected at most {self.largest_mean:.6g} in size, for which the activation was prepared, "
                f"got {np.abs(mean).max():.6g}."
            )
        s, less, flatter = self._near_zero(mean, np.sqrt(variance))
        low = float(s.min(initial=math.inf, where=s > 0)) ** 2
        if low < (1 - EPS) * self.smallest_variance:
            raise ActivationError(
                f"variance: {low:.4g} is below {self.smallest_variance:.4g}, the smallest for which phi is known well "
                "enough. Inputs that are zero up to rounding should be exactly 0; where phi is a difference of larger "
                "numbers near 0, write it without (expm1, log1p)."
            )
        out = np.empty((4, mean.size))
        _compiled.expectations(self.table, np.ascontiguousarray(mean), s, 0.0, out)
        out *= np.stack([less, flatter, less**2, flatter**2])
        still = s == 0
        if still.any():  # phi itself, not a polynomial of it
            out[0, still] = self.phi(mean[still])
            out[2] = np.where(still, out[0] ** 2, out[2])
        return out


def _correlation(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    """rho and 1 - |rho|, the latter from q11 q22 - q12^2 by two-products; rho = 0 where a variance is 0."""
    alive = (q11 > 0) & (q22 > 0)
    first, second = (np.where(alive, q, 1.0) for q in (q11, q22))
    value, product, cross, _ = determinants.scaled(np.where(alive, q12, 0.0), first, second)
    rho = np.clip(cross / np.sqrt(product), -1.0, 1.0)
    return rho, value / (product * (1 + np.abs(rho)))
