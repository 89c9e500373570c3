"""Distances between graphons or masks: L2, operator and cut norm of differences, and alignment of unlabelled ones."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.data.checks import MOST_DRAWS, as_generator, whole_number
from graphon_theory.errors import GraphonError, shown
from graphon_theory.estimation.cut_norms import bound_cut_norm
from graphon_theory.estimation.masks import Mask, PackedMask, as_array, as_mask
from graphon_theory.graphons.conversions import as_graphon, check_squares
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, StepGraphon
from graphon_theory.values import comparable, sealed

_CELLS = 64  # a side, to which a graphon that is no step function is averaged


class CutNorm(tuple[float, float]):
    """(lower, upper) of a cut norm; ``rows`` and ``columns`` are the sets that give the lower bound.

    They are bool arrays over the blocks of the common refinement with edges ``u_edges`` and ``v_edges``.
    """

    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    u_edges: FloatArray
    v_edges: FloatArray

    def __new__(
        cls,
        lower: float,
        upper: float,
        rows: NDArray[np.bool_],
        columns: NDArray[np.bool_],
        u_edges: FloatArray,
        v_edges: FloatArray,
    ) -> CutNorm:
        made = super().__new__(cls, (lower, upper))
        parts = {"rows": rows, "columns": columns, "u_edges": u_edges, "v_edges": v_edges}
        vars(made).update({name: sealed(part) for name, part in parts.items()})
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a result cannot be changed.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: a result cannot be changed.")

    def __reduce__(self) -> tuple[Any, ...]:
        return CutNorm, (*self, self.rows, self.columns, self.u_edges, self.v_edges)

    @property
    def lower(self) -> float:
        return self[0]

    @property
    def upper(self) -> float:
        return self[1]

    @property
    def relative_width(self) -> float:
        """(upper - lower) / upper, 0 for a norm of 0."""
        return (self[1] - self[0]) / self[1] if self[1] else 0.0


class Alignment(NamedTuple):
    """Relabellings that bring b close to a: a[i, j] is held against b[rows[i], columns[j]].

    ``distance`` is the L2 distance then, ``unaligned`` the one before, ``aligned`` is b relabelled.
    """

    rows: IntArray
    columns: IntArray
    distance: float
    unaligned: float
    aligned: StepGraphon

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alignment) and comparable(self) == comparable(other)

    def __hash__(self) -> int:
        return hash(comparable(self))


def l2_distance(a: Any, b: Any) -> float:
    """L2 distance (double integral of (a - b)^2)^(1/2), the proxy of [GL] for the cut distance.

    Exact for step graphons and masks (on the common refinement of their blocks). By quadrature for others, where the
    square is good to 1e-13 of the graphons' own squares: distances below some 3e-7 of their values are rounding.
    Positions are compared as they are: see :func:`align`. Masks and matrices are step graphons with equal blocks.

    The Frobenius norm of the difference of B x B block densities is B times this number.

    Raises GraphonError for what is no graphon, mask or matrix.
    """
    first, second = _side("a", a), _side("b", b)
    if isinstance(first, StepGraphon) and isinstance(second, StepGraphon):
        values, u, v = _difference(first, second)
        return math.sqrt(u @ (values * values) @ v)
    return math.sqrt(max(0.0, _mean_square(first, second)[0]))


def operator_norm(a: Any, b: Any = None) -> float:
    """Largest singular value of the operator with kernel a, or a - b: L2(senders) -> L2(receivers).

    |W|_cut <= |W|_op <= |W|_L2. For step graphons and masks (a singular value of the block matrix weighted by
    square roots of block lengths). Raises GraphonError for other graphons: average them with ``to_step``, or take
    ``graphon_spectrum``.
    """
    sides = [_side("a", a)] + ([] if b is None else [_side("b", b)])
    steps = [side for side in sides if isinstance(side, StepGraphon)]
    if len(steps) < len(sides):
        raise GraphonError(
            "operator_norm: expected step graphons, masks or matrices; average others by .to_step(n), or use "
            "graphon_spectrum."
        )
    values, u, v = _difference(*steps)
    return float(np.linalg.norm(values * np.sqrt(np.outer(u, v)), 2))


def cut_norm(a: Any, b: Any = None, *, starts: int = 64, rng: np.random.Generator | int = 0) -> CutNorm:
    """Certified bounds (lower, upper) of the cut norm of a, or of a - b.

        |W|_cut = sup over measurable S, T of |double integral of W over S x T|

    Step graphons and masks: sets of blocks suffice. With at most 14 blocks on a side all sets are tried and the bounds
    agree to rounding. Otherwise the upper bound is that of a semidefinite relaxation, never more than 1.783 times the
    norm once converged and valid in any case, the lower one the best of a local search from ``starts`` roundings of it;
    its sets are ``result.rows``, ``result.columns`` (see ``cut_norms``). Memory is some ten times
    that of the difference as float64.

    Other graphons are averaged over cells, 64 a side and more at their breaks, which lowers the norm by at most the L2
    norm of what averaging removes: that is added to the upper bound.

    Raises GraphonError for what is no graphon, and InputError for fewer than one start.
    """
    starts = whole_number("starts", starts, 1, MOST_DRAWS)
    sides = [_side("a", a, squared=False)] + ([] if b is None else [_side("b", b, squared=False)])
    rest = 0.0
    if not all(isinstance(side, StepGraphon) for side in sides):
        other = ConstantGraphon(0.0) if b is None else sides[1]
        step = _averaged_difference(sides[0], other)
        # |W - W_P|^2 = |W|^2 - |W_P|^2, from one quadrature each: rounding is added, not dropped
        whole, error = _mean_square(sides[0], other)
        kept = float(np.diff(step.u_edges) @ step.values**2 @ np.diff(step.v_edges))
        rest = math.sqrt(max(0.0, whole - kept) + error)
        sides = [step]
    steps = [side for side in sides if isinstance(side, StepGraphon)]
    values, u, v = _difference(*steps)
    lower, upper, (rows, columns) = bound_cut_norm(values * np.outer(u, v), as_generator(rng), starts)
    edges = (_refinement([getattr(s, e) for s in steps]) for e in ("u_edges", "v_edges"))
    return CutNorm(lower, upper + rest, rows, columns, *edges)


def align(a: Any, b: Any, *, sweeps: int = 50) -> Alignment:
    """Relabel rows and columns of b, each on its own, to bring it close to a in L2.

    Starts: as they are, sorted by degree, and ordered by the leading singular vectors (spectral seriation, both signs).
    From each, rows and columns are matched in turn: given the columns the best rows are a linear assignment with costs
    |a_i - b_k|^2, exactly solved, so the distance falls until neither side moves. The end is a local minimum.
    Applies to one layer: a network's hidden units must be relabelled in two layers at once.

    ``a`` and ``b`` are masks or step graphons with equally many equal blocks. Raises GraphonError otherwise.
    """
    sweeps = whole_number("sweeps", sweeps, 1, MOST_DRAWS)
    first, second = _equal_blocks(a, b)
    x, y = first.values, second.values
    best: tuple[float, IntArray, IntArray] | None = None
    for rows, columns in _starts(x, y):
        rows, columns, cost = _match(x, y, rows, columns, sweeps)
        if best is None or cost < best[0] - 1e-12 * abs(best[0]):
            best = cost, rows, columns
    assert best is not None
    _, rows, columns = best
    aligned = StepGraphon(y[np.ix_(rows, columns)])
    return Alignment(sealed(rows), sealed(columns), l2_distance(first, aligned), l2_distance(first, second), aligned)


def cut_distance(a: Any, b: Any, *, starts: int = 64, rng: np.random.Generator | int = 0) -> CutNorm:
    """Bounds of the cut distance: the least cut norm of a - b over relabellings of both sides.

        lower: max over the two sides of (|f - g|_1 + |mean a - mean b|) / 2, f and g the sorted degree functions,
        upper: cut norm of a - b as :func:`align` relabels it.

    The lower bound takes all units of one side as T, and sorting minimises |f - g|_1 over relabellings. The truth may
    be far below the upper bound, since alignment finds local minima.

    ``a`` and ``b`` as for :func:`align`. ``rows`` and ``columns`` of the result witness the norm after alignment.

    Raises as :func:`align`.
    """
    first, second = _equal_blocks(a, b)
    found = cut_norm(first, align(first, second).aligned, starts=starts, rng=rng)
    gap = abs(float(first.values.mean()) - float(second.values.mean()))
    lower = 0.0
    for axis in (0, 1):
        f, g = (np.sort(side.values.mean(axis=axis)) for side in (first, second))
        lower = max(lower, (float(np.abs(f - g).mean()) + gap) / 2)
    lower = max(0.0, lower - 64 * EPS * max(float(np.abs(side.values).max()) for side in (first, second)))
    sets = found.rows, found.columns, found.u_edges, found.v_edges
    return CutNorm(min(lower, found.upper), found.upper, *sets)


class _Square(Graphon):
    """(a - b)^2 + lift, not smooth where a or b is not."""

    def __init__(self, a: Graphon, b: Graphon, lift: float) -> None:
        self.a, self.b, self.lift = a, b, lift
        self.u_breaks = _refinement([a.u_breaks, b.u_breaks])
        self.v_breaks = _refinement([a.v_breaks, b.v_breaks])
        self.switches = (*a.switches, *b.switches)
        self.constant_in_u = a.constant_in_u and b.constant_in_u
        self.constant_in_v = a.constant_in_v and b.constant_in_v

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        return (self.a(u, v) - self.b(u, v)) ** 2 + self.lift

    @property
    def T(self) -> _Square:
        return _Square(self.a.T, self.b.T, self.lift)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.a, self.b, self.lift

    def __repr__(self) -> str:
        return f"<squared difference of {self.a!r} and {self.b!r}>"

    def _latex(self) -> str:
        return rf"(({self.a._latex()}) - ({self.b._latex()}))^2"


def _mean_square(a: Graphon, b: Graphon) -> tuple[float, float]:
    """Double integral of (a - b)^2, and a bound of its error.

    A lift by the graphons' own squares keeps what cancels in a - b below the rounding that quadrature looks for.
    """
    lift = max(max(abs(x) for x in side.extremes()) for side in (a, b)) ** 2
    return _Square(a, b, lift).mean() - lift, 1e-13 * lift


def _side(name: str, obj: Any, *, squared: bool = True) -> Graphon:
    """A graphon from what :func:`as_graphon` takes, or from a mask in any format; ``squared``: its values will be."""
    if isinstance(obj, (Mask, PackedMask)) or hasattr(obj, "tocsr"):
        return StepGraphon(as_mask(obj, name).dense())
    if hasattr(obj, "detach"):
        obj = as_array(obj, name)
    try:
        graphon = as_graphon(obj)
    except GraphonError as error:
        raise type(error)(f"{name}: {error}") from None
    return check_squares(graphon, name) if squared or not isinstance(graphon, StepGraphon) else graphon


def _difference(a: StepGraphon, b: StepGraphon | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values of a - b (or a) on the common refinement, and the lengths of its rows and columns."""
    if b is None:
        return a.values, np.diff(a.u_edges), np.diff(a.v_edges)
    u, v = _refinement([a.u_edges, b.u_edges]), _refinement([a.v_edges, b.v_edges])
    middles = np.ix_((u[:-1] + u[1:]) / 2, (v[:-1] + v[1:]) / 2)
    return a(*middles) - b(*middles), np.diff(u), np.diff(v)


def _refinement(edges: list[FloatArray]) -> FloatArray:
    """All edges, those a rounding apart taken as one."""
    merged = np.unique(np.concatenate(edges))
    kept: FloatArray = merged[np.concatenate([[True], np.diff(merged) > 8 * EPS])]
    kept[-1] = 1.0
    return kept


def _averaged_difference(a: Graphon, b: Graphon) -> StepGraphon:
    grid = np.linspace(0.0, 1.0, _CELLS + 1)
    u, v = _refinement([grid, a.u_breaks, b.u_breaks]), _refinement([grid, a.v_breaks, b.v_breaks])
    return StepGraphon(a.cell_means(u, v) - b.cell_means(u, v), u, v)


def _equal_blocks(a: Any, b: Any) -> tuple[StepGraphon, StepGraphon]:
    sides = _side("a", a), _side("b", b)
    for name, side in zip("ab", sides, strict=True):
        equal = isinstance(side, StepGraphon) and all(
            np.allclose(np.diff(e), 1 / (len(e) - 1), rtol=0, atol=1e-12) for e in (side.u_edges, side.v_edges)
        )
        if not equal:
            raise GraphonError(
                f"{name}: expected a mask or a step graphon with equal blocks, got {shown(side)}; average it by "
                ".to_step(n)."
            )
    first, second = sides
    assert isinstance(first, StepGraphon)
    assert isinstance(second, StepGraphon)
    if first.values.shape != second.values.shape:
        raise GraphonError(
            f"a, b: expected equally many blocks to relabel, got {first.values.shape} and {second.values.shape}; bring "
            "both to one grid by .to_step(n)."
        )
    return first, second


def _starts(x: FloatArray, y: FloatArray) -> list[tuple[IntArray, IntArray]]:
    """Relabellings to begin with: none, by degree, by leading singular vectors of either sign."""
    left, _, right = np.linalg.svd(x - x.mean(), full_matrices=False)
    other_left, _, other_right = np.linalg.svd(y - y.mean(), full_matrices=False)
    return [
        (np.arange(x.shape[0]), np.arange(x.shape[1])),
        (_by_order(x.mean(axis=1), y.mean(axis=1)), _by_order(x.mean(axis=0), y.mean(axis=0))),
        *(
            (_by_order(left[:, 0], sign * other_left[:, 0]), _by_order(right[0], sign * other_right[0]))
            for sign in (1.0, -1.0)
        ),
    ]


def _by_order(of_x: FloatArray, of_y: FloatArray) -> IntArray:
    """The unit of y of the same rank for every unit of x."""
    out = np.empty(len(of_x), dtype=np.intp)
    out[np.argsort(of_x, kind="stable")] = np.argsort(of_y, kind="stable")
    return out


def _match(
    x: FloatArray, y: FloatArray, rows: IntArray, columns: IntArray, sweeps: int
) -> tuple[IntArray, IntArray, float]:
    """Best rows given columns and best columns given rows, in turn, until the agreement sum x y stops growing."""
    agreement = -np.inf
    for _ in range(sweeps):
        rows = linear_sum_assignment(x @ y[:, columns].T, maximize=True)[1]
        gains = x.T @ y[rows]
        columns = linear_sum_assignment(gains, maximize=True)[1]
        before, agreement = agreement, float(gains[np.arange(len(columns)), columns].sum())
        if agreement <= before + 1e-12 * abs(agreement):
            break
    return rows, columns, -agreement
