"""Graphons: W(u, v), u the position of the receiving unit (row of a mask), v that of the sending one (column).

Four kinds share one noun. A graphon is a callable plus where it is not smooth: breaks at fixed u or v, and
*switches* s(u, v) whose zero curves carry kinks or jumps. Operators need nothing else of it (THEORY §5).
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_generator, axes_of, whole_number
from graphon_theory.data.heat_pictures import described_map
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import GraphonError, shown
from graphon_theory.graphons.positions import (
    between,
    cells_of,
    check_density,
    edges_of,
    overlaps,
    real_positions,
    together,
)
from graphon_theory.numerics.quadratures import Panels, product_integrals
from graphon_theory.numerics.roots import Switch, roots_on_unit
from graphon_theory.values import Value, comparable

_UNIT = np.array([0.0, 1.0])
Operation = Callable[[Any, Any], Any]
_SIGNS: dict[Operation, str] = {operator.add: "+", operator.sub: "-", operator.mul: "*"}


class Graphon(Value, ABC):
    """A real function W(u, v) on [0, 1]^2, never assumed symmetric (THEORY §1).

    Calling it broadcasts over arrays of positions. Values may be any finite reals; [0, 1] is demanded only
    where a graphon serves as a density of connections (:class:`Connectivity`, :meth:`sample`).

    Graphons and numbers are added, subtracted and multiplied place by place: ``0.5 * W + 0.1``, ``1 - W``, ``W * V``.
    Step functions make a step function on the edges of both, formulas make a formula, and any others a graphon with the
    breaks, kinks and features of both.

    A graphon does not change once made. Two are equal when they are seen to be one function: step functions whatever
    edges they are written with, constants whatever kind holds them, formulas as SymPy compares them without
    simplifying, callables when they are one callable with the same declarations.
    """

    u_breaks: FloatArray  # where W may jump or kink at fixed u, 0 and 1 included
    v_breaks: FloatArray
    switches: tuple[Switch, ...] = ()  # functions of (u, v) whose zero curves carry kinks or jumps
    constant_in_u: bool = False  # constant in u between u_breaks (and without switches)
    constant_in_v: bool = False

    @abstractmethod
    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """W at arrays of positions of one shape."""

    @property
    @abstractmethod
    def T(self) -> Graphon:
        """The graphon of the reversed connections, (u, v) -> W(v, u)."""

    def __call__(self, u: ArrayLike, v: ArrayLike) -> FloatArray:
        """W(u, v), broadcast. Raises GraphonError for positions outside [0, 1] and for values that are not finite."""
        uu, vv = together(u, v)
        for name, position in (("u", uu), ("v", vv)):
            if position.size and not (position.min() >= 0.0 and position.max() <= 1.0):
                bad = position[~((position >= 0.0) & (position <= 1.0))].flat[0]
                raise GraphonError(f"{name}: positions must lie in [0, 1], got {bad:.6g}; rescale the positions.")
        values = np.asarray(self._values(uu, vv), dtype=float)
        if values.shape != uu.shape:
            values = np.broadcast_to(values, uu.shape).copy()
        if not np.isfinite(values).all():
            at = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
            raise GraphonError(
                f"{self!r}: the value at u={float(uu[at]):.6g}, v={float(vv[at]):.6g} is {float(values[at])}; a "
                "graphon must be finite on [0, 1]^2: bound it there."
            )
        return values

    def v_roots(self, u: FloatArray) -> FloatArray:
        """For every u, the v at which a switch changes sign: (len(u), c), NaN where there is none."""
        found = [roots_on_unit(s, np.asarray(u, dtype=float)) for s in self.switches]
        return np.concatenate(found, axis=1) if found else np.zeros((len(u), 0))

    def marks(self, *, of_v: bool) -> FloatArray:
        """Fixed positions v, or u, at which W has narrow features that nodes may not see."""
        return np.zeros(0)

    def creases(self, u: FloatArray, *, flanks: bool = False) -> FloatArray:
        """For every u, the v of kinks, jumps and narrow features that move with u: as :meth:`v_roots`, and more.

        ``flanks``: narrow features from both sides as well.
        """
        return self.v_roots(u)

    def curves(self, u: FloatArray) -> FloatArray:
        """As :meth:`creases`, of curves that are known to rounding: their number tells where they are born."""
        return self.v_roots(u)

    @property
    def creased(self) -> bool:
        """Whether there are curves of kinks, jumps or narrow features."""
        return bool(self.switches)

    def row_integrals(self, u: ArrayLike, panels: Panels) -> FloatArray:
        """A[i, j] = int W(u_i, v) l_j(v) dv over the basis of ``panels``: (len(u), panels.size), to rounding."""
        points = np.atleast_1d(np.asarray(u, dtype=float))
        return product_integrals(
            lambda row, v: self(points[row], v),
            len(points),
            panels,
            np.concatenate([self.v_breaks, self.marks(of_v=True)]),
            self.creases(points, flanks=True),
            constant=self.constant_in_v,
            what=self,
        )

    def row_means(self, u: ArrayLike, v_edges: ArrayLike) -> FloatArray:
        """At receiving points u_i, the mean over each sending cell: (len(u), len(v_edges) - 1)."""
        edges = cells_of(v_edges, "v_edges")
        return self.row_integrals(u, Panels.constant(edges)) / np.diff(edges)

    def averaged_rows(self, u_edges: ArrayLike, panels: Panels) -> FloatArray:
        """Mean over each receiving cell of the rows of :meth:`row_integrals`: (len(u_edges) - 1, panels.size)."""
        edges = cells_of(u_edges, "u_edges")
        cells = len(edges) - 1
        if self.constant_in_u and not self.switches and np.isin(self.u_breaks, edges).all():
            return self.row_integrals((edges[:-1] + edges[1:]) / 2, panels)
        columns = self.T
        # the average over a cell, as a function of v, can lose smoothness where a curve leaves the cell
        corners = np.unique(np.concatenate([edges, self.u_breaks]))
        crossings = self.creases(corners).ravel()
        breaks = np.unique(np.concatenate([self.v_breaks, self.marks(of_v=True), crossings[np.isfinite(crossings)]]))
        across = np.concatenate([self.u_breaks, self.marks(of_v=False)])

        def mean(row: NDArray[np.intp], v: FloatArray) -> FloatArray:
            points, start = v.ravel(), edges[row.ravel()]
            length = edges[row.ravel() + 1] - start
            cuts = [np.broadcast_to(across, (v.size, len(across))), columns.creases(points, flanks=True)]
            return product_integrals(
                lambda i, s: columns(points[i], np.minimum(start[i] + length[i] * s, 1.0)),
                v.size,
                Panels.constant(_UNIT),
                np.zeros(0),
                (np.concatenate(cuts, axis=1) - start[:, None]) / length[:, None],
                constant=self.constant_in_u,
                what=self,
            ).reshape(v.shape)

        none = np.zeros((cells, 0))
        constant = self.constant_in_v and not self.switches
        return product_integrals(mean, cells, panels, breaks, none, constant=constant, noise=4e-14, what=self)

    def cell_means(self, u_edges: ArrayLike, v_edges: ArrayLike) -> FloatArray:
        """Means over rectangles: (len(u_edges) - 1, len(v_edges) - 1). Cell averages, not samples."""
        edges = cells_of(v_edges, "v_edges")
        return self.averaged_rows(u_edges, Panels.constant(edges)) / np.diff(edges)

    def mean(self) -> float:
        """The double integral of W: the density of the whole layer."""
        return float(self.cell_means(_UNIT, _UNIT)[0, 0])

    def degrees(self, axis: int) -> Callable[[ArrayLike], FloatArray]:
        """The degree function left when ``axis`` is integrated out, a callable of positions.

        ``axis=1`` integrates over v: u -> int W(u, v) dv, the share of senders a receiver is connected to.
        ``axis=0`` integrates over u: v -> int W(u, v) du.
        """
        if not isinstance(axis, int | np.integer) or axis not in (0, 1):
            raise GraphonError(f"axis: expected 1 (integrate over v) or 0 (integrate over u), got {shown(axis)}.")
        graphon = self if axis == 1 else self.T

        def degree(position: ArrayLike) -> FloatArray:
            points = real_positions(position, "position")
            return graphon.row_means(points.ravel(), _UNIT)[:, 0].reshape(points.shape)

        return degree

    def to_step(self, n: int) -> StepGraphon:
        """The step graphon of averages over an n x n grid of equal cells."""
        n = whole_number("n", n, error=GraphonError, expected="a positive number of blocks")
        refuse_beyond_memory("n", 16.0 * n * n, f"{n} x {n} averages", "take fewer blocks", error=GraphonError)
        edges = np.linspace(0.0, 1.0, n + 1)
        return StepGraphon(self.cell_means(edges, edges))

    def sample(
        self,
        n_out: int,
        n_in: int,
        rng: np.random.Generator | int,
        positions: str | tuple[ArrayLike, ArrayLike] = "grid",
    ) -> NDArray[np.bool_]:
        """Draw a mask (n_out, n_in): entry (i, j) is kept with probability W(u_i, v_j), independently.

        ``positions`` is "grid" (midpoints (i + 1/2) / n), "random" (uniform, drawn from ``rng``), or the pair
        (u, v) of positions themselves: a hidden unit needs one position in both of its masks.

        Raises GraphonError when a probability leaves [0, 1] or the positions do not fit the shape.
        """
        expected = "a positive number of units"
        n_out = whole_number("n_out", n_out, error=GraphonError, expected=expected)
        n_in = whole_number("n_in", n_in, error=GraphonError, expected=expected)
        what = f"a mask of {n_out:,} x {n_in:,}"
        refuse_beyond_memory("n_out, n_in", 2.0 * n_out * n_in, what, "take fewer units", error=GraphonError)
        generator = as_generator(rng, error=GraphonError)
        if isinstance(positions, str) and positions == "grid":
            u, v = ((np.arange(n) + 0.5) / n for n in (n_out, n_in))
        elif isinstance(positions, str) and positions == "random":
            u, v = generator.random(n_out), generator.random(n_in)
        elif not isinstance(positions, Sequence | np.ndarray) or axes_of(positions) == 0 or len(positions) != 2:
            raise GraphonError(f'positions: expected "grid", "random" or a pair (u, v), got {shown(positions)}.')
        else:
            u, v = (real_positions(p, "positions") for p in positions)
            if u.shape != (n_out,) or v.shape != (n_in,):
                raise GraphonError(
                    f"positions: expected u of shape ({n_out},) and v of shape ({n_in},), got {u.shape} and {v.shape}."
                )
        mask = np.empty((n_out, n_in), dtype=bool)
        rows = max(1, 1_000_000 // n_in)
        for start in range(0, n_out, rows):
            density = check_density(self(u[start : start + rows, None], v[None, :]), "sample", self)
            mask[start : start + rows] = generator.random(density.shape) < density
        return mask

    def extremes(self) -> tuple[float, float]:
        """Smallest and largest value met on a fine grid that reaches both sides of every break.

        A spike narrower than the grid (about 1/100 of a panel) is not seen.
        """
        u, v = between([self.u_breaks]), between([self.v_breaks])
        values = self(u[:, None], v[None, :])
        return float(values.min()), float(values.max())

    @property
    def is_zero(self) -> bool:
        """Whether no value other than 0 is met (by :meth:`extremes`)."""
        return self.extremes() == (0.0, 0.0)

    def __setattr__(self, name: str, value: object) -> None:
        """Parts are set once."""
        if name in vars(self):
            raise AttributeError(f"{name}: a graphon cannot be changed; make another one.")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: a graphon cannot be changed; make another one.")

    @property
    @abstractmethod
    def _arguments(self) -> tuple[Any, ...]: ...

    @abstractmethod
    def _latex(self) -> str:
        """LaTeX of the right-hand side of W(u, v) = ..."""

    def _repr_latex_(self) -> str:
        return f"$W(u, v) = {self._latex()}$"

    def _repr_html_(self) -> str:
        """The repr above a small heat map with its axes, as inline SVG: no plotting library is needed."""
        return described_map(repr(self), self._picture)

    def _picture(self, size: int = 24) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Edges of cells and the graphon's mean over them, about: exact averages could take seconds."""
        fine = 4  # samples a side of a cell
        edges = np.linspace(0.0, 1.0, size + 1)
        at = (np.arange(size * fine) + 0.5) / (size * fine)
        return edges, edges, self(at[:, None], at).reshape(size, fine, size, fine).mean(axis=(1, 3))

    # --- algebra ------------------------------------------------------------------------------------------------------

    __array_ufunc__ = None  # NumPy's numbers on the left leave the operation to the graphon

    def __add__(self, other: object) -> Graphon:
        return combined(operator.add, self, other)

    def __radd__(self, other: object) -> Graphon:
        return combined(operator.add, other, self)

    def __sub__(self, other: object) -> Graphon:
        return combined(operator.sub, self, other)

    def __rsub__(self, other: object) -> Graphon:
        return combined(operator.sub, other, self)

    def __mul__(self, other: object) -> Graphon:
        return combined(operator.mul, self, other)

    def __rmul__(self, other: object) -> Graphon:
        return combined(operator.mul, other, self)

    def __neg__(self) -> Graphon:
        return combined(operator.sub, 0.0, self)

    def _plainly(self, operation: Operation, one: Graphon, other: Graphon) -> Graphon | None:
        """Two graphons combined into one of this kind, where both can be written as such."""
        return None


class StepGraphon(Graphon):
    """W(u, v) = values[i, j] for u in row block i and v in column block j.

    ``u_edges`` and ``v_edges`` increase from 0 to 1 (equal blocks if left out); block i is
    [u_edges[i], u_edges[i+1]). Exact in every operator: one node a block (THEORY §5).
    """

    constant_in_u = constant_in_v = True

    def __init__(self, values: ArrayLike, u_edges: ArrayLike | None = None, v_edges: ArrayLike | None = None) -> None:
        table = real_positions(values, "values")
        if table.ndim != 2 or 0 in table.shape:
            raise GraphonError(f"values: expected a 2-D array of blocks, got shape {table.shape}.")
        if not np.isfinite(table).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(table))[0])
            raise GraphonError(f"values: expected finite numbers, got {table[at]} in block {at}.")
        table.setflags(write=False)
        self.values: FloatArray = table
        self.u_breaks = self.u_edges = edges_of(u_edges, table.shape[0], "u_edges")
        self.v_breaks = self.v_edges = edges_of(v_edges, table.shape[1], "v_edges")

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        i = np.clip(np.searchsorted(self.u_edges, u, side="right") - 1, 0, self.values.shape[0] - 1)
        j = np.clip(np.searchsorted(self.v_edges, v, side="right") - 1, 0, self.values.shape[1] - 1)
        return self.values[i, j]

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.values, self.u_edges, self.v_edges

    def _plainly(self, operation: Operation, one: Graphon, other: Graphon) -> Graphon | None:
        if not (isinstance(one, StepGraphon) and isinstance(other, StepGraphon)):
            return None
        u, v = np.union1d(one.u_edges, other.u_edges), np.union1d(one.v_edges, other.v_edges)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by name
            values = operation(*(step._values(u[:-1, None], v[None, :-1]) for step in (one, other)))
        return ConstantGraphon(float(values[0, 0])) if values.size == 1 else StepGraphon(values, u, v)

    def _picture(self, size: int = 32) -> tuple[FloatArray, FloatArray, FloatArray]:
        u, v = (e if len(e) <= size else np.linspace(0.0, 1.0, size + 1) for e in (self.u_edges, self.v_edges))
        return u, v, self.cell_means(u, v)

    @property
    def _key(self) -> tuple[Any, ...]:
        """The function itself: blocks that an edge parts for nothing are one."""
        w = self.values
        rows = np.append(True, (w[1:] != w[:-1]).any(axis=1))
        columns = np.append(True, (w[:, 1:] != w[:, :-1]).any(axis=0))
        if not (rows.all() and columns.all()):
            w = w[rows][:, columns]
        return StepGraphon, *map(comparable, (w, self.u_edges[:-1][rows], self.v_edges[:-1][columns]))

    @property
    def T(self) -> StepGraphon:
        return StepGraphon(self.values.T, self.v_edges, self.u_edges)

    def row_integrals(self, u: ArrayLike, panels: Panels) -> FloatArray:
        if (panels.m > 1).any():
            return super().row_integrals(u, panels)
        edges = np.append(panels.a, panels.b[-1])  # one node a panel: shares of blocks, no quadrature needed
        points = np.atleast_1d(np.asarray(u, dtype=float))
        if points.size and not (points.min() >= 0.0 and points.max() <= 1.0):
            self(points, 0.0)  # says what is wrong with them
        block = np.searchsorted(self.u_edges, points, side="right") - 1
        values = self.values[np.minimum(block, len(self.values) - 1)]
        if np.array_equal(edges, self.v_edges):
            return values * np.diff(edges)
        shares: FloatArray = overlaps(edges, self.v_edges) * np.diff(edges)[:, None]
        out: FloatArray = values @ shares.T
        return out

    def averaged_rows(self, u_edges: ArrayLike, panels: Panels) -> FloatArray:
        edges = cells_of(u_edges, "u_edges")
        middles = (self.u_edges[:-1] + self.u_edges[1:]) / 2
        return overlaps(edges, self.u_edges) @ self.row_integrals(middles, panels)

    def extremes(self) -> tuple[float, float]:
        return float(self.values.min()), float(self.values.max())

    def __repr__(self) -> str:
        rows, columns = self.values.shape
        if self.values.size <= 16:
            equal = all(np.array_equal(e, np.linspace(0, 1, len(e))) for e in (self.u_edges, self.v_edges))
            edges = "" if equal else f", u_edges={self.u_edges.tolist()}, v_edges={self.v_edges.tolist()}"
            return f"StepGraphon({self.values.tolist()}{edges})"
        return f"StepGraphon({rows} x {columns} blocks, values in [{self.values.min():.4g}, {self.values.max():.4g}])"

    def _latex(self) -> str:
        if self.values.size > 36:
            return (
                rf"\text{{step function with }} {self.values.shape[0]} \times {self.values.shape[1]} \text{{ blocks}}"
            )
        rows = r" \\ ".join(" & ".join(f"{x:.4g}" for x in row) for row in self.values)
        return rf"\begin{{bmatrix}} {rows} \end{{bmatrix}}_{{ij}},\; u \in I_i,\, v \in J_j"


class ConstantGraphon(StepGraphon):
    """W(u, v) = p everywhere: one block."""

    def __init__(self, p: float) -> None:
        if isinstance(p, bool) or not isinstance(p, Real):
            raise GraphonError(f"p: expected a real number, got {shown(p)}; a 2-D array makes a StepGraphon.")
        try:
            value = float(p)
        except OverflowError:
            value = np.inf
        except Exception:  # classes of others raise what they like
            raise GraphonError(f"p: expected a number, got {shown(p)}.") from None
        if not np.isfinite(value):
            raise GraphonError(f"p: expected a finite number, got {value}.")
        super().__init__([[value]])

    @property
    def p(self) -> float:
        """The value that stands everywhere."""
        return float(self.values[0, 0])

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return (self.p,)

    @property
    def T(self) -> ConstantGraphon:
        return self

    def __repr__(self) -> str:
        return f"ConstantGraphon({self.p!r})"

    def _latex(self) -> str:
        return f"{self.p:.6g}"


class CombinedGraphon(Graphon):
    """Two graphons of any kinds, added, subtracted or multiplied: the breaks, kinks and features of both."""

    def __init__(self, operation: Operation, one: Graphon, other: Graphon) -> None:
        self.operation, self.one, self.other = operation, one, other
        self.u_breaks = np.union1d(one.u_breaks, other.u_breaks)
        self.v_breaks = np.union1d(one.v_breaks, other.v_breaks)
        self.switches = (*one.switches, *other.switches)
        self.constant_in_u = one.constant_in_u and other.constant_in_u
        self.constant_in_v = one.constant_in_v and other.constant_in_v

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by name
            return np.asarray(self.operation(self.one(u, v), self.other(u, v)))

    def marks(self, *, of_v: bool) -> FloatArray:
        return np.union1d(self.one.marks(of_v=of_v), self.other.marks(of_v=of_v))

    def creases(self, u: FloatArray, *, flanks: bool = False) -> FloatArray:
        return np.concatenate([part.creases(u, flanks=flanks) for part in (self.one, self.other)], axis=1)

    def curves(self, u: FloatArray) -> FloatArray:
        return np.concatenate([part.curves(u) for part in (self.one, self.other)], axis=1)

    @property
    def creased(self) -> bool:
        return self.one.creased or self.other.creased

    @property
    def T(self) -> CombinedGraphon:
        return CombinedGraphon(self.operation, self.one.T, self.other.T)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.operation, self.one, self.other

    def __repr__(self) -> str:
        return f"({self.one!r} {_SIGNS[self.operation]} {self.other!r})"

    def _latex(self) -> str:
        one, other = (rf"\left({part._latex()}\right)" for part in (self.one, self.other))
        return f"{one} {_SIGNS[self.operation].replace('*', chr(92) + 'cdot')} {other}"


def combined(operation: Operation, one: object, other: object) -> Any:
    """Two graphons, or a graphon and a number, combined place by place; NotImplemented of anything else."""
    parts: list[Graphon] = []
    for part in (one, other):
        if isinstance(part, Real) and not isinstance(part, bool):
            parts.append(ConstantGraphon(cast(float, part)))
        elif isinstance(part, Graphon):
            parts.append(part)
        else:
            return NotImplemented
    for part in parts:
        made = part._plainly(operation, *parts)
        if made is not None:
            return made
    return CombinedGraphon(operation, *parts)
