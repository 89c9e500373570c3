"""Singular values and functions of graphons as operators, and of products of layers (THEORY §6).

    (T g)(u) = int W(u, v) g(v) dv,      T r_k = s_k l_k,      T* l_k = s_k r_k,      <l_j, l_k> = <r_j, r_k> = [j = k]

T becomes a matrix from panels of sending to panels of receiving positions (``numerics/quadratures``); in the
orthonormal basis of their Gauss nodes its singular value decomposition is that of the operator on polynomials. Step
graphons are exact so. What has to be resolved are the functions, not W: a kink or jump of W along a curve costs
nothing, because rows are integrated exactly across it. Panels are refined until the last Legendre coefficients of all
wanted functions are at rounding level, and the result is judged by its residual at other points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.data.checks import real_array, whole_number
from graphon_theory.data.labels import MODE, U, V, Variables, dataset
from graphon_theory.errors import GraphonError, InputError, QuadratureError, shown
from graphon_theory.graphons.conversions import as_graphon, check_squares
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.numerics.quadratures import LEFT, PLAIN, RIGHT, Panels, gauss, lagrange, legendre_transform
from graphon_theory.numerics.roots import roots_on_unit, transposed

if TYPE_CHECKING:
    import xarray as xr

# What is tried on a panel in turn before it is halved; square-root maps only where more nodes would not do.
_STAGES = ((PLAIN, 12), (PLAIN, 20), (PLAIN, 32), (LEFT, 20), (RIGHT, 20), (PLAIN, 48))
_HALF = (PLAIN, 20)
_TAIL = 4 * EPS  # wanted of the last coefficients, relative to the largest function
_PROMISING = 1e-9  # tails below which more nodes do better than another map
_NOISE = 4e-13  # below this a panel of the highest order counts as resolved to the rounding of its integrals
_ROUNDS = 40
_MOST_PARTS = 10_000  # of a list of layers, or rows of a table
_NODES = 1_000  # of one side
_EDGES = 200  # of one side at the start
_CHECK = 7  # nodes a panel by which the check's rule differs


def graphon_spectrum(
    graphon: object,
    count: int = 10,
    *,
    u: ArrayLike | None = None,
    v: ArrayLike | None = None,
    rtol: float = 1e-11,
) -> xr.Dataset:
    """The ``count`` largest singular values of T_W: L2(v) -> L2(u), with their functions.

    Args:
        graphon: anything :func:`as_graphon` takes; or a Network or a list of layers, input first, for the product
            T_L .. T_1 of their masks. Ends of a product are intervals like all others: the atoms of inputs and
            outputs are not put in.
        count: modes wanted. Those at rounding level are left out: a graphon of rank r has r modes.
        u, v: positions in [0, 1] at which ``left`` and ``right`` are wanted; by default the nodes of the quadrature.
        rtol: largest residual allowed, relative to s_1.

    Returns a Dataset over ``mode`` = 1.., largest first:

    - ``singular_value`` s_k; ``eigenvalue`` too where W(u, v) = W(v, u): then s_k = |eigenvalue|.
    - ``left`` ("u", "mode"), ``right`` ("v", "mode"): orthonormal on [0, 1]; evaluated anywhere by Nystrom,
      l_k(u) = (1/s_k) int W(u, v) r_k(v) dv, so at a jump of W in u they jump. The entry of ``left`` of largest
      magnitude over the nodes is positive; functions of equal singular values are free to turn among themselves.
    - ``residual``: sqrt((|T r_k - s_k l_k|^2 + |T* l_k - s_k r_k|^2) / 2) / s_1, integrated at points that the
      solution has not seen: there is a singular value of T within ``residual`` * s_1 of s_k.
    - ``u_weight``, ``v_weight``: weights of the nodes, where ``u`` or ``v`` is left out.

    attrs: ``orthonormality`` (largest departure of <l_j, l_k> and <r_j, r_k> from [j = k]), ``rounding_level`` (of
    singular values), ``symmetric``, ``complete`` (there are no further modes above rounding level), ``nodes``.

    Raises GraphonError (no graphon, or one that is zero), InputError (``count``, positions, ``rtol``) and
    QuadratureError when the functions cannot be resolved: kinks along straight lines are, curves that fold back
    (|v - (u - 1/2)^2|) may not be.
    """
    chain = tuple(check_squares(one, "graphon") for one in _chain(graphon))
    count = whole_number("count", count, expected="a positive whole number of modes")
    if count > _NODES:
        raise InputError(f"count: at most {_NODES:,} modes are computed, got {count:,}.")
    if not (isinstance(rtol, float | int | np.floating) and 1e-14 <= rtol < 1):
        raise InputError(f"rtol: expected a tolerance between 1e-14 and 1, got {shown(rtol)}.")
    places = [None if p is None else _positions(p, name) for p, name in ((u, "u"), (v, "v"))]
    symmetric = len(chain) == 1 and _is_symmetric(chain[0])
    sides = _resolve(chain, count, symmetric)
    modes = _modes(sides, count)
    _check_resolved(modes, rtol, chain)

    points_u, points_v = (
        given if given is not None else p.nodes()
        for given, p in zip(places, (sides.panels[-1], sides.panels[0]), strict=True)
    )
    variables: Variables = {
        "singular_value": ((MODE,), modes.values),
        "left": ((U, MODE), sides.left_at(points_u, modes)),
        "right": ((V, MODE), sides.right_at(points_v, modes)),
        "residual": ((MODE,), modes.residual),
    }
    if symmetric:
        variables["eigenvalue"] = ((MODE,), modes.values * modes.signs)
    for name, dim, given, panels in (("u", U, u, sides.panels[-1]), ("v", V, v, sides.panels[0])):
        if given is None:
            variables[f"{name}_weight"] = ((dim,), panels.weights())
    attrs = {
        "orthonormality": modes.defect,
        "rounding_level": modes.rounding,
        "symmetric": int(symmetric),
        "complete": int(modes.complete),
        "nodes": [p.size for p in sides.panels],
    }
    return dataset(variables, {MODE: np.arange(1, len(modes.values) + 1), U: points_u, V: points_v}, attrs)


@dataclass(frozen=True)
class _Modes:
    values: FloatArray
    signs: FloatArray  # of the eigenvalues, all 1 without symmetry
    left: FloatArray  # at the nodes
    right: FloatArray
    residual: FloatArray
    defect: float
    rounding: float
    complete: bool


@dataclass(frozen=True)
class _Sides:
    """A chain of graphons between panels: level 0 sends into the first, level l receives from the l-th."""

    chain: tuple[Graphon, ...]
    panels: tuple[Panels, ...]
    matrices: tuple[FloatArray, ...]  # of the l-th graphon, from values at level l - 1 to values at level l
    symmetric: bool

    @classmethod
    def between(cls, chain: tuple[Graphon, ...], panels: Sequence[Panels], symmetric: bool) -> _Sides:
        matrices = tuple(
            g.row_integrals(above.nodes(), below) for g, (below, above) in zip(chain, pairwise(panels), strict=True)
        )
        return cls(chain, tuple(panels), matrices, symmetric)

    def decompose(self, count: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """All singular values, their signs, and the first functions at the nodes of both ends."""
        from scipy.linalg import eigh, svd

        product = self.matrices[0]
        for matrix in self.matrices[1:]:
            product = matrix @ product
        root_u, root_v = (np.sqrt(self.panels[level].weights()) for level in (-1, 0))
        scaled = root_u[:, None] * product / root_v
        if self.symmetric:
            values, vectors = eigh((scaled + scaled.T) / 2, check_finite=False)
            order = np.argsort(-np.abs(values), kind="stable")
            values, vectors = values[order], vectors[:, order[:count]]
            signs = np.where(values < 0, -1.0, 1.0)
            return np.abs(values), signs, vectors / root_u[:, None], vectors / root_u[:, None] * signs[:count]
        left, values, right = svd(scaled, full_matrices=False, check_finite=False)
        return values, np.ones_like(values), left[:, :count] / root_u[:, None], right[:count].T / root_v[:, None]

    def forward(self, functions: FloatArray, levels: int | None = None) -> list[FloatArray]:
        """Images of functions of level 0 at the levels 1..levels."""
        out = [functions]
        for matrix in self.matrices[:levels]:
            out.append(matrix @ out[-1])
        return out[1:]

    def backward(self, functions: FloatArray) -> list[FloatArray]:
        """Images under the adjoints of functions of the last level, at the levels 0..L-1."""
        out = [functions]
        for level in range(len(self.chain), 0, -1):
            out.append(
                self.chain[level - 1].T.row_integrals(self.panels[level - 1].nodes(), self.panels[level]) @ out[-1]
            )
        return out[:0:-1]

    def left_at(self, points: FloatArray, modes: _Modes) -> FloatArray:
        below = modes.right if len(self.chain) == 1 else self.forward(modes.right, -1)[-1]
        return np.asarray(self.chain[-1].row_integrals(points, self.panels[-2]) @ below / modes.values)

    def right_at(self, points: FloatArray, modes: _Modes) -> FloatArray:
        above = modes.left if len(self.chain) == 1 else self.backward(modes.left)[1]
        return np.asarray(self.chain[0].T.row_integrals(points, self.panels[1]) @ above / modes.values)


def _modes(sides: _Sides, count: int) -> _Modes:
    values, signs, left, right = sides.decompose(count)
    rounding = max(sides.matrices[0].shape) * len(sides.chain) * EPS * float(values[0])
    if not values[0] > 0:
        raise GraphonError("graphon: it is zero, so that there is no spectrum; a product is zero where no path leads.")
    above = int(np.sum(values > rounding))
    kept = min(count, above)
    turn = np.sign(
        left[np.argmax(np.abs(left) >= (1 - 1e-6) * np.abs(left).max(axis=0), axis=0), np.arange(left.shape[1])]
    )
    left, right = (turn * left)[:, :kept], (turn * right)[:, :kept]
    modes = _Modes(values[:kept], signs[:kept], left, right, np.zeros(kept), 0.0, rounding, above <= count)

    squares, defect = np.zeros(kept), 0.0
    for panels, functions, at in (
        (sides.panels[-1], left, sides.left_at),
        (sides.panels[0], right, sides.right_at),
    ):
        points, weights, basis = _check_rule(panels)
        found = at(points, modes)
        squares += weights @ (modes.values * (found - basis @ functions)) ** 2
        gram = (found * weights[:, None]).T @ found
        defect = max(defect, float(np.abs(gram - np.eye(kept)).max()))
    residual = np.sqrt(squares / 2) / values[0]
    return _Modes(modes.values, modes.signs, left, right, residual, defect, rounding, modes.complete)


def _check_rule(panels: Panels) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Points and weights of another rule on the panels, and the values there of the panels' own basis."""
    orders = np.where(panels.m == 1, 1, panels.m + _CHECK).astype(np.intp)
    other = Panels(panels.a, panels.b, orders, panels.kind)
    basis = np.zeros((other.size, panels.size))
    for k, (m, order) in enumerate(zip(panels.m, orders, strict=True)):
        rows, columns = other.offsets[k], panels.offsets[k]
        basis[rows : rows + order, columns : columns + m] = lagrange(int(m), gauss(int(order))[0])
    return other.nodes(), other.weights(), basis


def _resolve(chain: tuple[Graphon, ...], count: int, symmetric: bool) -> _Sides:
    """Panels on which the first ``count`` functions are resolved, and the matrices between them."""
    edges, constant = _start_edges(chain)
    if symmetric:
        edges = [np.unique(np.concatenate(edges))] * 2
    pieces = [_start(e, flat) for e, flat in zip(edges, constant, strict=True)]
    for _ in range(_ROUNDS):
        panels = [_panels(side) for side in pieces]
        _check_size(panels, chain)
        sides = _Sides.between(chain, panels, symmetric)
        values, _signs, left, right = sides.decompose(count)
        if not values[0] > 0:
            return sides
        tails = [np.zeros(len(side)) for side in pieces]
        for level, functions in (*enumerate(sides.forward(right), 1), *enumerate(sides.backward(left))):
            tails[level] = np.maximum(tails[level], _tails(panels[level], functions))
        if symmetric:
            tails = [np.maximum(*tails)] * 2
        refined = [_refined(side, tail) for side, tail in zip(pieces, tails, strict=True)]
        if refined == pieces:
            return sides
        # the image of a basis function has a kink where a curve meets one of its panel's edges: an edge there too
        grown = _travelled([np.array([0.0, *(b for _, b, _, _ in side)]) for side in refined], chain)
        pieces = [_split(side, e) for side, e in zip(refined, grown, strict=True)]
    return sides  # the residual decides


_Piece = tuple[float, float, int, int]  # a, b, kind, nodes


def _start(edges: FloatArray, constant: bool) -> list[_Piece]:
    kind, nodes = (PLAIN, 1) if constant else _STAGES[0]
    return [(float(a), float(b), kind, nodes) for a, b in pairwise(edges)]


def _panels(side: list[_Piece]) -> Panels:
    a, b, kind, nodes = (np.array(column) for column in zip(*side, strict=True))
    return Panels(a, b, nodes.astype(np.intp), kind.astype(np.intp))


def _tails(panels: Panels, functions: FloatArray) -> FloatArray:
    """Last two Legendre coefficients of the functions on each panel, relative to the largest of all values."""
    out = np.zeros(len(panels.m))
    scale = float(np.abs(functions).max(initial=0.0)) or 1.0
    for k, (start, m) in enumerate(zip(panels.offsets, panels.m, strict=False)):
        if m > 1:
            out[k] = np.abs(legendre_transform(int(m))[-2:] @ functions[start : start + m]).max() / scale
    return np.asarray(out * np.sqrt(panels.b - panels.a))


def _refined(side: list[_Piece], tails: FloatArray) -> list[_Piece]:
    out: list[_Piece] = []
    for (a, b, kind, nodes), tail in zip(side, tails, strict=True):
        last = (kind, nodes) == _STAGES[-1]
        if tail <= _TAIL or (last and tail <= _NOISE) or b - a < 1e-12:
            out.append((a, b, kind, nodes))
            continue
        stage = _STAGES.index((kind, nodes))
        if kind == PLAIN and not last:
            more = _STAGES[-1] if stage == 2 and tail <= _PROMISING else _STAGES[stage + 1]
            out.append((a, b, *more))
        elif kind == LEFT:
            out.append((a, b, *_STAGES[stage + 1]))
        else:
            middle = 0.5 * (a + b)
            out += [(a, middle, *_HALF), (middle, b, *_HALF)]
    return out


def _start_edges(chain: tuple[Graphon, ...]) -> tuple[list[FloatArray], list[bool]]:
    """Where the functions of every level can lose smoothness, and whether they are constant between."""
    last = len(chain)
    edges = [np.array([0.0, 1.0]) for _ in range(last + 1)]
    for level, graphon in enumerate(chain):
        edges[level] = _merged(edges[level], graphon.v_breaks, _folds(graphon.T))
        edges[level + 1] = _merged(edges[level + 1], graphon.u_breaks, _folds(graphon))
    constant = [
        (level == 0 or (chain[level - 1].constant_in_u and not chain[level - 1].switches))
        and (level == last or (chain[level].constant_in_v and not chain[level].switches))
        for level in range(last + 1)
    ]
    return _travelled(edges, chain), constant


def _travelled(edges: list[FloatArray], chain: tuple[Graphon, ...]) -> list[FloatArray]:
    """Edges, and where curves of the graphons carry them: to the other side, and back."""
    last, out = len(chain), list(edges)
    steps = [(level, level - 1, chain[level - 1]) for level in range(1, last + 1)]
    steps += [(level - 1, level, chain[level - 1].T) for level in range(last, 0, -1)]
    for to, source, graphon in (*steps, *steps):
        if graphon.switches:
            met = [roots_on_unit(transposed(s), out[source]).ravel() for s in graphon.switches]
            found = _merged(out[to], *(m[np.isfinite(m)] for m in met))
            if len(found) <= _EDGES:
                out[to] = found
    return out


def _merged(*edges: FloatArray) -> FloatArray:
    """Sorted, those closer than 1e-13 made one, the ends exactly 0 and 1."""
    every = np.unique(np.concatenate(edges))
    every = every[(every > 1e-13) & (every < 1 - 1e-13)]
    return np.concatenate([[0.0], every[np.diff(every, prepend=0.0) > 1e-13], [1.0]])


def _split(side: list[_Piece], edges: FloatArray) -> list[_Piece]:
    """Pieces cut at the edges inside them; a square-root map stays with the part at its end."""
    out: list[_Piece] = []
    for a, b, kind, nodes in side:
        inner = edges[(edges > a + 1e-13) & (edges < b - 1e-13)]
        parts = [*pairwise([a, *inner.tolist(), b])]
        for low, high in parts:
            kept = len(parts) == 1 or (kind == LEFT and low == a) or (kind == RIGHT and high == b)
            out.append((low, high, kind, nodes) if kept else (low, high, *_HALF))
    return out


def _folds(graphon: Graphon) -> FloatArray:
    """Positions u at which the number of kinks v of the row changes: curves that turn back or leave the square."""
    if not graphon.switches:
        return np.zeros(0)
    u = (np.arange(256) + 0.37) / 256
    counts = np.isfinite(graphon.v_roots(u)).sum(1)
    change = np.flatnonzero(np.diff(counts))
    low, high, before = u[change], u[change + 1], counts[change]
    for _ in range(52 if len(change) else 0):
        middle = 0.5 * (low + high)
        same = np.isfinite(graphon.v_roots(middle)).sum(1) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.asarray(0.5 * (low + high))


def _chain(graphon: object) -> tuple[Graphon, ...]:
    if isinstance(graphon, Network):
        return tuple(layer.mask for layer in graphon.layers)
    if isinstance(graphon, Connectivity):
        return (graphon.mask,)
    if isinstance(graphon, Iterable) and not isinstance(graphon, str | Graphon) and not hasattr(graphon, "__array__"):
        parts = list(islice(graphon, _MOST_PARTS + 1))
        if not 0 < len(parts) <= _MOST_PARTS:
            raise InputError(f"graphon: expected from 1 to {_MOST_PARTS:,} layers or rows, got {shown(graphon)}.")
        if not all(_is_row(part) for part in parts):  # rows of numbers are one step graphon
            return tuple(layer for part in parts for layer in _chain(part))
        graphon = parts
    return (as_graphon(graphon),)


def _is_row(part: object) -> bool:
    """Whether this is a list of numbers, a row of a table."""
    return (
        isinstance(part, list | tuple) and bool(part) and all(isinstance(one, int | float | np.number) for one in part)
    )


def _is_symmetric(graphon: Graphon) -> bool:
    """Whether W(u, v) = W(v, u) to rounding, at positions in every panel of both sides and irregular ones."""
    edges = np.unique(np.concatenate([graphon.u_breaks, graphon.v_breaks]))
    inner = np.array([0.03, 0.31, 0.5, 0.77, 0.96])
    at = np.concatenate(
        [(edges[:-1, None] + np.diff(edges)[:, None] * inner).ravel(), np.modf(np.arange(1, 40) * 0.6180339887)[0]]
    )
    values = graphon(at[:, None], at)
    return bool(np.abs(values - values.T).max() <= 16 * EPS * np.abs(values).max())


def _positions(points: ArrayLike, name: str) -> FloatArray:
    out = np.atleast_1d(real_array(name, points, expected="a list of positions"))
    if out.ndim != 1 or out.dtype.kind == "b" or not out.size:
        raise InputError(f"{name}: expected a list of positions, got shape {out.shape} of dtype {out.dtype}.")
    out = out.astype(float)
    if not (out.min() >= 0.0 and out.max() <= 1.0):
        raise InputError(f"{name}: positions must lie in [0, 1], got some in [{out.min():.6g}, {out.max():.6g}].")
    return out


def _check_size(panels: Sequence[Panels], chain: tuple[Graphon, ...]) -> None:
    largest = max(range(len(panels)), key=lambda level: panels[level].size)
    if panels[largest].size > max(_NODES, 2 * max(len(b) for g in chain for b in (g.u_breaks, g.v_breaks))):
        raise QuadratureError(
            f"graphon: more than {_NODES} nodes are needed at level {largest} (0 sends into the first graphon) of "
            f"{', '.join(map(repr, chain))}; ask for fewer modes, or declare where it is not smooth (u_edges, v_edges, "
            "diagonal=True)."
        )


def _check_resolved(modes: _Modes, rtol: float, chain: tuple[Graphon, ...]) -> None:
    worst = int(np.argmax(modes.residual))
    if modes.residual[worst] > rtol:
        raise QuadratureError(
            f"graphon: mode {worst + 1} of {', '.join(map(repr, chain))} has a residual of {modes.residual[worst]:.2g} "
            f"relative to the largest singular value, rtol={rtol:g} was asked for; declare where the graphon is not "
            "smooth (u_edges, v_edges, diagonal=True), ask for fewer modes, or loosen rtol."
        )
