"""Narrow features: where a formula or a function of two positions changes faster than a coarse rule sees.

Gauss nodes a tenth apart do not see a bump that is a hundredth wide. Panels and intervals that end in it do, because
ends are looked at. So all that is asked of a feature is a *mark*: a position inside it. In a formula marks follow from
the arguments a(u, v) of its steep parts, exp, tanh, erf, logarithms and powers: where a crosses 0 and where it is
extremal along a line, if what lies there is narrower than ``WIDE``, and one width to either side. Of a function only
values are known: it is sampled on a grid, and marked where it bends much more than it does elsewhere on its line.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.numerics import expressions
from graphon_theory.numerics.roots import Switch, roots_on_unit, transposed

WIDE = 0.06  # features wider than this are seen by the nodes of any rule
SAMPLED = 211  # lines each way on which a function is sampled: what is wider than 1/200 is met
_STEP = 1e-6  # of differences of an argument
_COARSE = 33  # points each way by which gentle arguments are told
_LINES = np.array([0.0731, 0.1873, 0.2917, 0.4139, 0.5261, 0.6373, 0.7349, 0.8467, 0.9531])  # irregular
_CONSTANT = 1e-7  # how far a curve may move from line to line and still lie at one position
_OUTSTANDING = 30.0  # times the median of its line that the bend at a feature exceeds
_BEND = 1e-9  # and this share of the largest value
_ON_LINE = 2.2  # steps from a line within which bends of a kink along it lie: four neighbours enter one
_THINNED = 6  # of so many points one enters the median
_BISECTIONS = 46  # to a jump
_JUMP = 0.3  # share of a step that is left of it there
_FINE = 12  # points to either side, _NEAR apart, among which a feature is placed
_NEAR = 1.0 / (8 * SAMPLED)


class SteepPart:
    """One argument a(u, v) of a steep function in a formula: marks along lines."""

    def __init__(self, argument: sp.Basic, *, relative: bool, levels: bool) -> None:
        self.argument, self.relative, self.levels = argument, relative, levels
        self.names = {s.name for s in argument.free_symbols}
        self._program = expressions.Program(argument)

    def __call__(self, u: FloatArray, v: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            return np.asarray(self._program({"u": u, "v": v}), dtype=float) + 0.0 * (u + v)

    @cached_property
    def gentle(self) -> bool:
        """Whether nothing narrow can come of it."""
        at = np.linspace(0.0, 1.0, _COARSE)
        a = self(at[:, None], at)
        a = np.where(np.isfinite(a), a, 0.0)
        unit = WIDE * max(float(np.abs(a).min()), 0.0) if self.relative else WIDE
        once, twice = (
            max(float(np.abs(np.diff(a, n, axis=axis)).max()) for axis in (0, 1)) * (_COARSE - 1) ** n for n in (1, 2)
        )
        return once * WIDE <= unit / WIDE and twice * WIDE**2 <= 2 * unit / WIDE

    def along(self, x: FloatArray, *, of_v: bool, grid: int = 257) -> tuple[FloatArray, FloatArray]:
        """Places y in [0, 1] of features on the lines x, and their widths: (len(x), c), NaN where there is none.

        ``of_v``: y is v, x is u.
        """
        a: Switch = self if of_v else transposed(self)

        def slope(x: FloatArray, y: FloatArray) -> FloatArray:
            with np.errstate(invalid="ignore"):  # bases of powers may overflow
                return a(x, y + _STEP) - a(x, y - _STEP)

        levels = roots_on_unit(a, x, grid) if self.levels else np.zeros((len(x), 0))
        extremes = roots_on_unit(slope, x, grid)
        y = np.concatenate([levels, extremes], axis=1)
        line = np.broadcast_to(x[:, None], y.shape)
        with np.errstate(all="ignore"):
            here, up, down = (a(line, np.where(np.isnan(y), 0.5, y) + by) for by in (0.0, _STEP, -_STEP))
            unit = np.abs(here) if self.relative else 1.0
            width = np.sqrt(2 * unit * _STEP**2 / np.abs(up - 2 * here + down))
            width[:, : levels.shape[1]] = (2 * _STEP / np.abs(up - down))[:, : levels.shape[1]]
            narrow = np.isfinite(y) & (width < WIDE)
        return np.where(narrow, y, np.nan), np.where(narrow, np.maximum(width, 1e-12), np.nan)


def steep_parts(expr: sp.Basic) -> tuple[SteepPart, ...]:
    """The steep parts of a formula from which something narrow may come."""
    found: dict[tuple[sp.Basic, bool], bool] = {}
    for node in sp.preorder_traversal(expr):
        if isinstance(node, (sp.exp, sp.tanh, sp.erf, sp.sinh, sp.cosh)):
            found[node.args[0], False] = True
        elif isinstance(node, sp.log):
            found[node.args[0], True] = False  # its zeros are switches
        elif isinstance(node, sp.Pow) and not (node.exp.is_Integer and 0 < node.exp < 8):
            found[node.base, True] = False
    parts = (SteepPart(a, relative=relative, levels=levels) for (a, relative), levels in found.items())
    return tuple(part for part in parts if part.names and not part.gentle)


class FormulaFeatures:
    """Marks of a formula in u and v."""

    def __init__(self, expr: sp.Basic) -> None:
        self.parts = steep_parts(expr)

    @cached_property
    def _of_lines(self) -> dict[bool, tuple[FloatArray, tuple[SteepPart, ...]]]:
        """For v and for u: marks at fixed positions, and the parts whose marks move from line to line."""
        return {of_v: self._sorted(of_v=of_v) for of_v in (False, True)}

    def _sorted(self, *, of_v: bool) -> tuple[FloatArray, tuple[SteepPart, ...]]:
        marks, moving = [np.zeros(0)], []
        for part in self.parts:
            if part.names == {"v" if of_v else "u"}:
                places, widths = part.along(np.zeros(1), of_v=of_v, grid=4097)
                marks.append(_flanked(places, widths)[0])
            elif len(part.names) == 2:
                places, widths = part.along(_LINES, of_v=of_v)
                flat, wide = places[np.isfinite(places)], widths[np.isfinite(places)]
                same = np.abs(flat[:, None] - flat) < _CONSTANT
                still = same.sum(axis=1) > 0.6 * len(_LINES)
                marks.append(_flanked(flat[still], np.minimum.reduce(wide[still], initial=WIDE)))
                if not still.all():
                    moving.append(part)
                    marks.append(self._tops(part, of_v=of_v))
        return _inside(np.concatenate(marks)), tuple(moving)

    @property
    def any_curves(self) -> bool:
        return any(moving for _, moving in self._of_lines.values())

    def fixed(self, *, of_v: bool) -> FloatArray:
        """Marks at fixed v, or u: those of parts of one position, of curves that do not move, and of tops."""
        return self._of_lines[of_v][0]

    def _tops(self, part: SteepPart, *, of_v: bool) -> FloatArray:
        """Where curves of extremes have a narrow top: a bump whose axes are not those of the square."""
        x = np.linspace(0.0, 1.0, 129) + 0.0003 * np.sin(np.arange(129))
        x = np.clip(x, 0.0, 1.0)
        places, _ = part.along(x, of_v=of_v)
        if part.relative or places.shape[1] == 0:
            return np.zeros(0)
        a: Switch = part if of_v else transposed(part)
        values = a(x[:, None], places)
        before, here, after = values[:-2], values[1:-1], values[2:]
        with np.errstate(all="ignore"):
            top = (here > before) & (here >= after) & (2 * here - before - after > 2 * (x[1] - x[0]) ** 2 / WIDE**2)
            shift = 0.5 * (after - before) / (2 * here - before - after)
            place = places[1:-1] + shift * 0.5 * (places[2:] - places[:-2])
            width = np.abs(0.5 * (places[2:] - places[:-2])) / np.sqrt(2 * here - before - after)
        return _flanked(place[top][None, :], np.maximum(width[top][None, :], 1e-9))[0]

    def curves(self, x: FloatArray, *, of_v: bool, flanks: bool) -> FloatArray:
        """Marks that move, on the lines x: (len(x), c), NaN where there is none."""
        marks = [np.zeros((len(x), 0))]
        for part in self._of_lines[of_v][1]:
            places, widths = part.along(x, of_v=of_v)
            marks.append(_flanked(places, widths) if flanks else places)
        return np.concatenate(marks, axis=1)


def _flanked(places: FloatArray, widths: FloatArray) -> FloatArray:
    """Places, and one width to either side."""
    return np.concatenate([places - widths, places, places + widths], axis=-1)


def _inside(marks: FloatArray) -> FloatArray:
    inside = np.unique(marks[(marks > 0.0) & (marks < 1.0)])
    out: FloatArray = inside[np.diff(inside, prepend=0.0) > 1e-12]  # one of several that are one but for rounding
    return out


class SampledFeatures:
    """Marks of a function of (u, v) of which only values are known, by samples on a grid.

    ``diagonal``: it is known not to be smooth along u = v, so that marks which mean this line are left out.
    """

    def __init__(self, f: Callable[[FloatArray, FloatArray], FloatArray], *, diagonal: bool = False) -> None:
        self.f, self.diagonal = f, diagonal
        self.u, self.v = ((np.arange(SAMPLED) + shift) / SAMPLED for shift in (0.5, 0.618))
        self.values = self._at(self.u[:, None], self.v)
        self.size = float(np.abs(self.values).max())

    def _at(self, u: FloatArray, v: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            values = np.asarray(self.f(*np.broadcast_arrays(u, v)), dtype=float)
        values = np.broadcast_to(values, np.broadcast_shapes(u.shape, v.shape))
        finite = np.isfinite(values)
        return values if finite.all() else np.where(finite, values, 0.0)

    @cached_property
    def _rows(self) -> tuple[NDArray[np.intp], FloatArray]:
        """Marked rows and the v at which they are marked, where that is not the same v for most of them."""
        return self._moving(self.values, self.u, self.v)

    @cached_property
    def _columns(self) -> tuple[NDArray[np.intp], FloatArray]:
        return self._moving(self.values.T, self.v, self.u)

    def _moving(self, values: FloatArray, lines: FloatArray, along: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
        found = _outstanding(values, self.size)
        found = found & (found.mean(axis=0) < 0.6)
        if self.diagonal:
            found = found & (np.abs(lines[:, None] - along) > _ON_LINE / SAMPLED)
        row, k = np.nonzero(found)
        return row, along[k]

    @property
    def any_curves(self) -> bool:
        """Told by rows: what moves with u is narrow in v as well, unless it is nearly level."""
        return len(self._rows[0]) > 0

    def fixed(self, *, of_v: bool) -> FloatArray:
        """Marks at fixed v, or u: of means over the other position."""
        values = self.values if of_v else self.values.T
        lines, across = (self.v, self.u) if of_v else (self.u, self.v)
        weights = np.stack([np.ones(SAMPLED), across, np.cos(7 * across)]) / SAMPLED
        k = np.unique(np.nonzero(_outstanding(weights @ values, self.size))[1])
        if not len(k):
            return np.zeros(0)

        def means(y: FloatArray) -> FloatArray:
            flat = y.ravel()
            near = self._at(across[:, None], flat) if of_v else self._at(flat, across[:, None])
            return (weights @ near).reshape(-1, *y.shape)

        return _inside(_placed(means, lines[k]).ravel())

    def curves(self, x: FloatArray, *, of_v: bool, flanks: bool) -> FloatArray:
        """Marks on the lines x: those of the sampled line that is nearest, placed anew."""
        lines, marks = self._rows if of_v else self._columns
        if not len(lines):
            return np.zeros((len(x), 0))
        nearest = np.clip((x * SAMPLED).astype(int), 0, SAMPLED - 1)
        counts = np.bincount(lines, minlength=SAMPLED)
        starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
        slots = np.arange(int(counts.max()))
        taken = slots < counts[nearest][:, None]
        which = np.where(taken, starts[nearest][:, None] + slots, 0)
        row, slot = np.nonzero(taken)
        at = x[row]

        def values(y: FloatArray) -> FloatArray:
            line = np.broadcast_to(at.reshape(-1, *(1,) * (y.ndim - 1)), y.shape)
            return (self._at(line, y) if of_v else self._at(y, line))[None]

        placed = _placed(values, marks[which][row, slot])
        out = np.full((len(x), len(slots), 2), np.nan)
        out[row, slot] = placed
        return out.reshape(len(x), -1) if flanks else out[:, :, 0]


def _outstanding(values: FloatArray, size: float) -> FloatArray:
    """Which values of every row bend much more than the row does elsewhere, and the most among their neighbours.

    The bend of a value is how far it is from the cubic through its four neighbours: a sixth of the fourth difference.
    """
    inner = 6 * values[:, 2:-2]
    for by, weight in ((1, 4.0), (2, -1.0)):
        sums = values[:, 2 - by : -2 - by] + values[:, 2 + by : values.shape[1] - 2 + by]
        sums *= weight
        inner -= sums
    bends = np.abs(inner, out=inner)
    bends /= 6
    least = _OUTSTANDING * np.median(bends[:, ::_THINNED], axis=1, keepdims=True) + _BEND * size
    out = np.zeros(values.shape, dtype=bool)
    if (bends.max(axis=1, keepdims=True) <= least).all():
        return out
    padded = np.pad(bends, ((0, 0), (3, 3)))
    around = np.lib.stride_tricks.sliding_window_view(padded, 7, axis=1).max(axis=2)
    out[:, 2:-2] = (bends > least) & (bends >= around) & (bends > np.pad(bends, ((0, 0), (1, 0)))[:, :-1])
    return out


def _placed(values: Callable[[FloatArray], FloatArray], near: FloatArray) -> FloatArray:
    """For every mark, positions on either side of where values bend most near it, or the place where they jump.

    ``values`` of positions (marks, ...) are several sets (sets, marks, ...). Returns (marks, 2).
    """
    points = np.clip(near[:, None] + _NEAR * np.arange(-_FINE, _FINE + 1), 0.0, 1.0)
    met = values(points)
    k = np.abs(np.diff(met, 2, axis=2)).max(axis=0).argmax(axis=1) + 1
    rows = np.arange(len(points))
    low, high = points[rows, k - 1], points[rows, k + 1]
    sides = np.stack([low, high], axis=1)
    below, above = met[:, rows, k - 1], met[:, rows, k + 1]
    step = np.abs(above - below).max(axis=0)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        here = values(middle)
        left = np.abs(here - below).max(axis=0) > np.abs(above - here).max(axis=0)
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        below, above = np.where(left, below, here), np.where(left, here, above)
    jumps = np.abs(above - below).max(axis=0) > _JUMP * step
    sides[jumps] = high[jumps, None]
    return sides
