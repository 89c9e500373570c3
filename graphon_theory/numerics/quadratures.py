"""Quadrature rules: Gauss-Legendre panels, product integration, and roots of switching functions.

A *panel* carries a polynomial space: m Gauss-Legendre nodes in a local variable s in [0, 1], mapped to [a, b] by

    plain  v = a + h s,      left  v = a + h s^2,      right  v = b - h (1 - s)^2,      h = b - a,

so that functions of sqrt(v - a) (left) or sqrt(b - v) (right) are polynomials in s. *Product integration*
(THEORY §5) gives the matrix of  (A g)_i = int f(i, v) g(v) dv  for g in that space; how smooth f is in v matters
only to the adaptive inner rule, not to the number of nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import QuadratureError

RowFunction = Callable[[NDArray[np.intp], FloatArray], FloatArray]

PLAIN, LEFT, RIGHT = 0, 1, 2
_EXTRA = 10  # inner points beyond the degree of the basis
_END = 1e-12  # local distance from an interval's ends at which f is looked at
_DEPTH = 64  # bisections of an inner interval
_PIECES = 500  # unresolved intervals a row before giving up
_POLE = 1e9  # growth of |f| in ever smaller intervals beyond which it counts as unbounded
_BATCH = 2_000_000  # basis values of one batch of intervals
_PRIMED = 9  # panels in whose middles the scale of a row is looked for before the first integral
_STALLED = 1 / 16  # halving that leaves more than this of a smooth interval's error has met the rounding of f


@cache
def gauss(m: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes and weights on [0, 1]: exact for polynomials of degree 2m - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(m)
    s, w = (nodes + 1) / 2, weights / 2
    s.setflags(write=False)
    w.setflags(write=False)
    return s, w


@cache
def legendre_transform(m: int) -> FloatArray:
    """Matrix (m, m) from values at the Gauss nodes to Legendre coefficients (orthonormal on [0, 1])."""
    s, w = gauss(m)
    vander = np.polynomial.legendre.legvander(2 * s - 1, m - 1) * np.sqrt(2 * np.arange(m) + 1)
    out: FloatArray = (vander * w[:, None]).T
    return out


@cache
def _barycentric(m: int) -> FloatArray:
    """Barycentric weights of the Gauss nodes: (-1)^j sqrt((1 - x_j^2) w_j)."""
    s, w = gauss(m)
    return np.where(np.arange(m) % 2, -1.0, 1.0) * np.sqrt(s * (1 - s) * w)


def lagrange(m: int, s: FloatArray) -> FloatArray:
    """Values of the m Lagrange polynomials of the Gauss nodes at ``s`` (any shape): shape (*s.shape, m)."""
    nodes, _ = gauss(m)
    gap = s[..., None] - nodes
    hit = gap == 0.0
    terms = _barycentric(m) / np.where(hit, 1.0, gap)
    values = terms / terms.sum(-1, keepdims=True)
    struck = hit.any(-1)
    if struck.any():
        values[struck] = hit[struck]
    out: FloatArray = values
    return out


@dataclass(frozen=True)
class Panels:
    """A composite rule on [0, 1]: panel k is [a[k], b[k]] with m[k] nodes under map kind[k].

    One node means that the functions integrated there are constant on the panel.
    """

    a: FloatArray
    b: FloatArray
    m: NDArray[np.intp]
    kind: NDArray[np.intp]

    @classmethod
    def constant(cls, edges: FloatArray) -> Panels:
        """One node a block: the exact rule for functions constant between the edges."""
        edges = np.asarray(edges, dtype=float)
        n = len(edges) - 1
        return cls(edges[:-1], edges[1:], np.ones(n, dtype=np.intp), np.zeros(n, dtype=np.intp))

    @property
    def offsets(self) -> NDArray[np.intp]:
        """Start of every panel's nodes, and their total."""
        return np.concatenate([[0], np.cumsum(self.m)]).astype(np.intp)

    @property
    def size(self) -> int:
        return int(self.m.sum())

    def same(self, other: Panels) -> bool:
        """Whether the two are one rule."""
        parts = ((getattr(self, name), getattr(other, name)) for name in ("a", "b", "m", "kind"))
        return all(np.array_equal(mine, theirs) for mine, theirs in parts)

    def nodes(self) -> FloatArray:
        return np.concatenate(
            [place(gauss(m)[0], a, b, k) for a, b, m, k in zip(self.a, self.b, self.m, self.kind, strict=True)]
        )

    def weights(self) -> FloatArray:
        """Weights of  int g = sum_j w_j g(v_j), exact on the panels' own spaces."""
        parts = []
        for a, b, m, kind in zip(self.a, self.b, self.m, self.kind, strict=True):
            w = gauss(m)[1]
            if kind == PLAIN:
                parts.append((b - a) * w)
            else:  # dv/ds has degree 1, so a rule with m + 1 points is exact on the space
                t, wt = gauss(m + 1)
                slope = 2 * t if kind == LEFT else 2 * (1 - t)
                parts.append((b - a) * ((wt * slope) @ lagrange(m, t)))
        return np.concatenate(parts)


def place(s: FloatArray, a: FloatArray | float, b: FloatArray | float, kind: int) -> FloatArray:
    """Positions of local coordinates ``s`` on [a, b]."""
    if kind == LEFT:
        return a + (b - a) * s * s
    if kind == RIGHT:
        return b - (b - a) * (1 - s) ** 2
    return a + (b - a) * s


def local(v: FloatArray, a: FloatArray, b: FloatArray, kind: int) -> FloatArray:
    """Local coordinates of positions ``v``: the inverse of :func:`place`."""
    z = np.clip((v - a) / (b - a), 0.0, 1.0)
    if kind == LEFT:
        return np.sqrt(z)
    if kind == RIGHT:
        return 1.0 - np.sqrt(np.clip((b - v) / (b - a), 0.0, 1.0))
    return z


def product_integrals(
    f: RowFunction,
    rows: int,
    panels: Panels,
    breaks: FloatArray,
    roots: FloatArray,
    *,
    constant: bool = False,
    noise: float = 2e-14,
    what: object = "graphon",
) -> FloatArray:
    """The matrix A[i, j] = int f(i, v) l_j(v) dv over the panels, l_j the Lagrange basis of their nodes.

    ``f(row, v)`` takes arrays of equal shape and returns values; ``breaks`` (k,) are positions where f may jump
    or kink for every row, ``roots`` (rows, c) those of each row alone (NaN where there is none);
    ``constant`` says that f is constant in v between them, ``noise`` how far its values are rounded, relative to
    its scale. Each interval is bisected until the integrals over its halves add up to its own to rounding: of the row,
    or of the whole matrix where f is a small difference of large numbers, so that halving gains nothing any more.

    Raises QuadratureError when an interval is still unresolved at the depth limit (f is noise), or where f grows
    beyond all bounds (a pole; a mild one, as |v - c|^(-1/2), is not seen and costs digits).
    """
    out = np.zeros((rows, panels.size))
    offsets = panels.offsets
    scale = np.zeros(rows)
    if not constant and rows and len(panels.a):
        some = np.unique(np.linspace(0, len(panels.a) - 1, _PRIMED).astype(int))
        middles = np.broadcast_to(0.5 * (panels.a[some] + panels.b[some]), (rows, len(some)))
        scale = np.abs(f(np.broadcast_to(np.arange(rows)[:, None], middles.shape), middles)).max(axis=1)
    for m, kind in sorted(set(zip(panels.m.tolist(), panels.kind.tolist(), strict=True))):
        same = np.flatnonzero((panels.m == m) & (panels.kind == kind))
        a, b = panels.a[same], panels.b[same]
        work = _Intervals.between(breaks, roots, a, b, kind)
        order = (m + 1) // 2 if constant and kind == PLAIN else (m + 2) // 2 if constant else (m + 1) // 2 + _EXTRA
        rule = _Rule(f, a, b, m, kind, order, scale)

        def add(done: _Intervals, values: FloatArray, m: int = m, same: NDArray[np.intp] = same) -> None:
            np.add.at(out, (done.row[:, None], offsets[same[done.panel]][:, None] + np.arange(m)), values)

        if constant:
            add(work, rule(work)[0])
            continue
        largest = np.inf  # |f| met on the first, coarse intervals
        parent = np.full(len(work.row), np.inf)  # errors of the intervals that these are halves of
        for depth in range(_DEPTH):
            if not len(work.row) or len(work.row) > _PIECES * max(rows * len(same), 20):
                break
            first, second = work.halves()
            whole, tail = rule(work)
            largest = max(1.0, float(scale.max(initial=0.0))) if depth == 0 else largest
            halves = rule(first)[0] + rule(second)[0]
            # the integral over the interval is wanted to rounding of the row's scale times the panel's length
            error = np.abs(whole - halves).max(1)
            length, width = (b - a)[work.panel], work.right - work.left
            floor = scale[work.row] * length * (1e-16 + noise * width)
            # two sums can agree by accident across a jump; f and its polynomial cannot. A Gauss rule's own error
            # is of the order of the square of the polynomial's.
            smooth = tail * tail * width <= 1e-16 * scale[work.row] ** 2
            tiny = width <= 4e-16 * np.maximum(1e-3, first.right)
            stalled = (error > _STALLED * parent) & (error <= scale.max(initial=0.0) * length * (1e-16 + noise * width))
            fine = (smooth & ((error <= floor + 2e-16 * np.abs(halves).max(1)) | stalled)) | tiny
            add(work[fine], halves[fine])
            if scale.max(initial=0.0) > _POLE * largest:
                break  # near a pole the scale grows with every halving, and with it what counts as rounding
            work, parent = first[~fine] + second[~fine], np.tile(error[~fine], 2)
        if len(work.row):
            k = int(work.panel[0])
            near = float(place(work.left[:1], float(a[k]), float(b[k]), kind)[0])
            raise QuadratureError(
                f"{what!s}: the integral near position {near:.6g} does not settle; it is unbounded or oscillates too "
                "fast. Declare its breaks (u_edges, v_edges, diagonal=True), or bound it."
            )
    return out


@dataclass(frozen=True)
class _Intervals:
    """Pieces [left, right] of panels, in local coordinates, each belonging to one row."""

    row: NDArray[np.intp]
    panel: NDArray[np.intp]
    left: FloatArray
    right: FloatArray

    @classmethod
    def between(cls, breaks: FloatArray, roots: FloatArray, a: FloatArray, b: FloatArray, kind: int) -> _Intervals:
        """Every row's pieces of every panel between the breaks (k,) of all rows and the roots (rows, c) of its own."""
        rows, panels = len(roots), len(a)
        # of many breaks few fall into a panel: room for those alone keeps step graphons of many blocks small
        p, c = np.nonzero((breaks > a[:, None]) & (breaks < b[:, None]))
        slot = np.arange(len(p)) - np.searchsorted(p, p)
        shared = np.ones((panels, int(slot.max(initial=-1)) + 1))
        shared[p, slot] = local(breaks[c], a[p], b[p], kind)
        own = np.ones((rows, panels, roots.shape[1]))
        i, p, c = np.nonzero((roots[:, None, :] > a[:, None]) & (roots[:, None, :] < b[:, None]))
        own[i, p, c] = local(roots[i, c], a[p], b[p], kind)
        inner = np.concatenate([np.broadcast_to(shared, (rows, *shared.shape)), own], axis=2)
        inner.sort(axis=2)
        shape = (rows, panels, 1)
        edges = np.concatenate([np.zeros(shape), inner, np.ones(shape)], axis=2)
        row, panel, piece = np.nonzero(np.diff(edges, axis=2) > 1e-16)
        return cls(row, panel, edges[row, panel, piece], edges[row, panel, piece + 1])

    def halves(self) -> tuple[_Intervals, _Intervals]:
        middle = 0.5 * (self.left + self.right)
        return replace(self, right=middle), replace(self, left=middle)

    def __getitem__(self, index: NDArray[np.bool_] | slice) -> _Intervals:
        return _Intervals(self.row[index], self.panel[index], self.left[index], self.right[index])

    def __add__(self, other: _Intervals) -> _Intervals:
        return _Intervals(
            *(np.concatenate([getattr(self, f), getattr(other, f)]) for f in ("row", "panel", "left", "right"))
        )


@dataclass(frozen=True)
class _Rule:
    """One Gauss rule for all intervals of panels that share their basis."""

    f: RowFunction
    a: FloatArray
    b: FloatArray
    m: int
    kind: int
    order: int
    scale: FloatArray  # largest |f| met in each row, raised on the way

    def __call__(self, work: _Intervals) -> tuple[FloatArray, FloatArray]:
        """int f l_j over each interval: (intervals, m), and how far f is from its polynomial there.

        The latter is the largest of f's last two Legendre coefficients and of its misfit at the interval's ends,
        where a jump could hide beyond the outermost node.
        """
        if not len(work.row):
            return np.zeros((0, self.m)), np.zeros(0)
        step = max(1, _BATCH // (self.order * self.m))
        parts = [self._batch(work[start : start + step]) for start in range(0, len(work.row), step)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _batch(self, work: _Intervals) -> tuple[FloatArray, FloatArray]:
        t, w = gauss(self.order)
        width = (work.right - work.left)[:, None]
        s = work.left[:, None] + width * np.concatenate([t, [_END, 1 - _END]])
        a, b = self.a[work.panel][:, None], self.b[work.panel][:, None]
        v = place(s, a, b, self.kind)
        values = self.f(np.broadcast_to(work.row[:, None], v.shape), v)
        s, values, ends = s[:, :-2], values[:, :-2], values[:, -2:]
        np.maximum.at(self.scale, work.row, np.abs(values).max(1))
        misfit = values @ _watch(self.order)
        misfit[:, -2:] -= ends
        slope = 1.0 if self.kind == PLAIN else 2 * s if self.kind == LEFT else 2 * (1 - s)
        weighted = values * (width * w * (b - a)) * slope
        if self.m == 1:
            return weighted.sum(1, keepdims=True), np.abs(misfit).max(1)
        return np.einsum("iq,iqj->ij", weighted, lagrange(self.m, s)), np.abs(misfit).max(1)


@cache
def _watch(order: int) -> FloatArray:
    """Matrix from values at Gauss nodes to the last Legendre coefficients and the values at both ends."""
    ends = lagrange(order, np.array([_END, 1 - _END]))
    return np.concatenate([legendre_transform(order)[-2:], ends]).T


MERGED = 1e-13  # edges closer than this are one


def merged_edges(values: FloatArray) -> FloatArray:
    """Sorted edges from 0 to 1, those closer than 1e-13 made one."""
    ordered = np.unique(np.clip(np.asarray(values, dtype=float), 0.0, 1.0))
    keep = np.concatenate([[True], np.diff(ordered) > MERGED])
    out = ordered[keep]
    if out[-1] > 1.0 - MERGED:
        out[-1] = 1.0
    return out
