"""Limit kernels by brute force in extended precision: the source of the table's references.

Independent of the package on purpose. THEORY §3 is evaluated on composite Gauss-Legendre panels whose edges
are declared by hand (:class:`Hints`), geometrically graded toward every declared singular point. Where a kink
curve v = g(u) passes through a panel, the integral for that u is split at g(u): K and T of the layer below
are interpolated inside the panel and the duals evaluated anew on either side. Numbers are np.longdouble
(64-bit mantissa); the contributions NTK_l are carried forward as one tangent per source layer, not by the
adjoint.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from tests.problem_parts import BlackBox, Problem, Spec, Step

Real = np.longdouble
RealArray = NDArray[np.longdouble]
Function = Callable[[Any, Any], RealArray]
EPS = np.finfo(Real).eps
PI = 4 * np.arctan(Real(1))


# --- graphons as functions ------------------------------------------------------------------------


def _heaviside(z: Any) -> Any:
    return np.where(z > 0, 1, np.where(z < 0, 0, Real(1) / 2))


def _piecewise(*branches: tuple[Any, Any]) -> Any:
    out: Any = np.nan
    for value, condition in reversed(branches):
        out = np.where(condition, value, out)
    return out


_NAMES: dict[str, Any] = {
    "pi": PI,
    "exp": np.exp,
    "sqrt": lambda z: np.sqrt(Real(z) if isinstance(z, int) else z),
    "sin": np.sin,
    "cos": np.cos,
    "erf": lambda z: erf(np.asarray(z, dtype=np.float64)).astype(Real),
    "Abs": np.abs,
    "Min": np.minimum,
    "Max": np.maximum,
    "Heaviside": _heaviside,
    "Piecewise": _piecewise,
    "__builtins__": {},
}


@cache
def function_of(spec: Spec) -> Function:
    """A specification of the table as f(u, v), broadcasting in extended precision."""
    if isinstance(spec, BlackBox):
        return function_of(spec.text)
    if isinstance(spec, Step):
        values = np.array(spec.values, dtype=Real)
        u_edges = _block_edges(spec.u_edges, values.shape[0])
        v_edges = _block_edges(spec.v_edges, values.shape[1])

        def step(u: Any, v: Any) -> RealArray:
            rows = np.searchsorted(u_edges, u, side="right") - 1
            columns = np.searchsorted(v_edges, v, side="right") - 1
            picked: RealArray = values[np.broadcast_arrays(rows, columns)[0], np.broadcast_arrays(rows, columns)[1]]
            return picked

        return step
    code = compile(spec if isinstance(spec, str) else repr(spec), str(spec), "eval")

    def expression(u: Any, v: Any) -> RealArray:
        value = eval(code, dict(_NAMES), {"u": u, "v": v})  # the table's own texts
        return np.asarray(value + np.zeros(np.broadcast_shapes(np.shape(u), np.shape(v))), dtype=Real)

    return expression


def _block_edges(edges: tuple[float, ...] | None, blocks: int) -> RealArray:
    inner = np.arange(1, blocks, dtype=Real) / blocks if edges is None else np.array(edges[1:-1], dtype=Real)
    return np.concatenate([[Real(0)], inner, [Real(2)]])  # 2: the last block owns position 1


# --- panels ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resolution:
    """Nodes a panel, grading ratio and depth toward singular points, panels between edges elsewhere."""

    order: int
    ratio: float
    levels: int
    pieces: int


@cache
def gauss(order: int) -> tuple[RealArray, RealArray]:
    """Gauss-Legendre on [-1, 1]: NumPy's nodes polished by Newton in extended precision."""
    x: Any = np.polynomial.legendre.leggauss(order)[0].astype(Real)
    for _ in range(3):
        below, here = np.ones_like(x), x.copy()
        for n in range(2, order + 1):
            below, here = here, ((2 * n - 1) * x * here - (n - 1) * below) / n
        slope = order * (below - x * here) / (1 - x * x)
        x -= here / slope
    return x, 2 / ((1 - x * x) * slope**2)


def panel_ends(edges: tuple[Any, ...], singular: tuple[Any, ...], resolution: Resolution) -> RealArray:
    """Ends of the panels on [0, 1]: ``singular`` points are edges too, and the panels shrink toward them."""
    points = sorted({Real(0), Real(1), *(Real(e) for e in edges), *(Real(s) for s in singular)})
    marks = {Real(s) for s in singular}
    out = [points[0]]
    shrink = Real(resolution.ratio) ** np.arange(resolution.levels, -1, -1)
    for a, b in itertools.pairwise(points):
        half = (b - a) / 2
        uniform = [half * i / resolution.pieces for i in range(1, resolution.pieces + 1)]
        up = [half * s for s in shrink] if a in marks else uniform
        down = [half * s for s in shrink] if b in marks else uniform
        out += [a + s for s in up] + [b - s for s in down[-2::-1]] + [b]
    return np.array(out, dtype=Real)


@dataclass(frozen=True)
class Nodes:
    """Composite Gauss-Legendre: panel p holds nodes p * order ... (p + 1) * order - 1."""

    ends: RealArray
    x: RealArray
    w: RealArray
    order: int


def composite(ends: RealArray, order: int) -> Nodes:
    """The composite rule on consecutive panels."""
    x, w = gauss(order)
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    return Nodes(ends, (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel(), order)


def interpolation(order: int, t: RealArray) -> RealArray:
    """Barycentric Lagrange matrix from the Gauss nodes on [-1, 1] to points t."""
    x, w = gauss(order)
    weights = np.sqrt((1 - x * x) * w) * (-1.0) ** np.arange(order)
    gap = t[:, None] - x
    hit = gap == 0
    terms = weights / np.where(hit, Real(1), gap)
    matrix: RealArray = terms / terms.sum(axis=1, keepdims=True)
    rows = hit.any(axis=1)
    matrix[rows] = hit[rows]
    return matrix


# --- duals ----------------------------------------------------------------------------------------


def duals(name: str, q12: RealArray, q11: RealArray, q22: RealArray) -> tuple[RealArray, RealArray]:
    """C and Cdot. A squared sine below 64 eps is rounding: those pairs count as coincident (or opposite)."""
    if name == "identity":
        return q12, np.ones_like(q12)
    if name == "erf":
        p11, p22 = 1 + 2 * q11, 1 + 2 * q22
        root = np.sqrt(p11 * p22 - 4 * q12 * q12)
        return 2 / PI * np.arctan2(2 * q12, root), 4 / (PI * root)
    alive = (q11 > 0) & (q22 > 0)
    scale = np.where(alive, q11 * q22, Real(1))
    determinant = scale - q12 * q12
    root = np.sqrt(np.where(alive & (determinant > 64 * EPS * scale), determinant, Real(0)))
    opening = np.where(alive, PI - np.arctan2(root, q12), Real(0))
    return (root + q12 * opening) / (2 * PI), opening / (2 * PI)


# --- the recursion --------------------------------------------------------------------------------

Curve = tuple[Callable[[Any], Any], Callable[[Any], Any]]  # v = g(u) and its inverse u = h(v)


@dataclass(frozen=True)
class Hints:
    """What is known by hand about a problem's breaks.

    edges, singular: per hidden layer, inner panel edges and the points to grade toward
    curves: per weight layer, the kink curves of W and V
    input_edges, output_edges: breaks in v of the first layer and in u of the last, on the atoms' side
    """

    edges: tuple[tuple[float, ...], ...] = ()
    singular: tuple[tuple[float, ...], ...] = ()
    curves: tuple[tuple[Curve, ...], ...] = ()
    input_edges: tuple[float, ...] = ()
    output_edges: tuple[float, ...] = ()


@dataclass(frozen=True)
class Kernels:
    """nngp, ntk (k, N, N), ntk_layer (L, k, N, N), and the number of nodes of each hidden layer."""

    nngp: RealArray
    ntk: RealArray
    ntk_layer: RealArray
    nodes: tuple[int, ...]


def _cell_means(
    f: Function,
    points: RealArray,
    cells: int,
    edges: tuple[Any, ...],
    crossings: list[Callable[[Any], Any]],
    order: int,
) -> RealArray:
    """Means of v -> f(point, v) over ``cells`` equal cells, (points, cells), split at edges and crossings."""
    x, w = gauss(order)
    walls = [Real(j) / cells for j in range(cells + 1)]
    out = np.zeros((len(points), cells), dtype=Real)
    for row, point in enumerate(points):
        cuts = {Real(g(point)) for g in crossings} | {Real(e) for e in edges}
        ends = np.array(sorted({*walls, *(c for c in cuts if 0 < c < 1)}), dtype=Real)
        middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
        v = middle[:, None] + half[:, None] * x
        pieces = (f(np.full_like(v, point), v) * w).sum(axis=1) * half * cells
        owner = np.clip(np.searchsorted(np.array(walls), middle, side="right") - 1, 0, cells - 1)
        np.add.at(out[row], owner, pieces)
    return out


def _swapped(f: Function) -> Function:
    return lambda v, u: f(u, v)


class _Run:
    """One evaluation of one problem at one resolution. Pairs are the N(N+1)/2 upper entries, as columns."""

    def __init__(self, problem: Problem, hints: Hints, resolution: Resolution) -> None:
        self.problem, self.hints, self.resolution = problem, hints, resolution
        self.layers = problem.connectivities
        self.depth = len(self.layers)
        self.sb2 = Real(problem.bias_variance)
        self.sw2 = [Real(s) for s in problem.weight_variances]
        self.x = problem.x.astype(Real)
        self.i, self.j = np.triu_indices(len(self.x))
        self.diagonal = np.flatnonzero(self.i == self.j)
        standard = problem.parameterization == "standard"
        fan_ins = problem.widths if problem.widths is not None else (1,) * self.depth
        self.factor = [Real(n) / s if standard else Real(1) for n, s in zip(fan_ins, self.sw2, strict=True)]
        self.bias = (Real(1) if standard else self.sb2) if self.sb2 > 0 else Real(0)

    def curves(self, layer: int) -> tuple[Curve, ...]:
        return self.hints.curves[layer] if self.hints.curves else ()

    def nodes(self, hidden: int) -> Nodes:
        """Nodes of hidden layer ``hidden`` (from 0)."""
        edges = self.hints.edges[hidden] if self.hints.edges else ()
        singular = self.hints.singular[hidden] if self.hints.singular else ()
        return composite(panel_ends(edges, singular, self.resolution), self.resolution.order)

    def duals(self, k: RealArray) -> tuple[RealArray, RealArray]:
        """C and Cdot of K (points, pairs)."""
        variance = k[:, self.diagonal]
        return duals(self.problem.activation, k, variance[:, self.i], variance[:, self.j])

    def first(self, u: RealArray) -> tuple[RealArray, RealArray]:
        """K^1 and the tangents T^1 (L, points, pairs) at positions u."""
        products = self.x[self.i] * self.x[self.j]  # (pairs, d)
        d = products.shape[1]
        crossings = [g for g, _ in self.curves(0)]
        mask, variance = (
            _cell_means(function_of(spec), u, d, self.hints.input_edges, crossings, self.resolution.order)
            for spec in (self.layers[0].mask, self.layers[0].variance or 0.0)
        )
        k = self.sw2[0] * (variance @ products.T) / d + self.sb2
        t = np.zeros((self.depth, *k.shape), dtype=Real)
        t[0] = self.factor[0] * self.sw2[0] * (mask @ products.T) / d + self.bias
        return k, t

    def apply(
        self, layer: int, matrices: tuple[RealArray, RealArray], c: RealArray, dot: RealArray, t: RealArray
    ) -> tuple[RealArray, RealArray]:
        """The integrals of one layer, for operator matrices of W and V and the layer below; no bias yet."""
        mask, variance = matrices
        k = self.sw2[layer] * (variance @ c)
        out = np.zeros((self.depth, *k.shape), dtype=Real)
        out[layer] = self.factor[layer] * self.sw2[layer] * (mask @ c)
        for source in range(layer):
            out[source] = self.sw2[layer] * (variance @ (dot * t[source]))
        return k, out

    def hidden(self, layer: int, u: RealArray, below: Nodes, k: RealArray, t: RealArray) -> tuple[RealArray, RealArray]:
        """K and T of weight layer ``layer`` (from 0) at positions u, from the nodes of the layer below."""
        c, dot = self.duals(k)
        parts = [self._hidden(layer, rows, below, k, t, c, dot) for rows in np.array_split(u, -(-len(u) // 128))]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts], axis=1)

    def _hidden(
        self,
        layer: int,
        u: RealArray,
        below: Nodes,
        k: RealArray,
        t: RealArray,
        c: RealArray,
        dot: RealArray,
    ) -> tuple[RealArray, RealArray]:
        functions = [function_of(spec) for spec in (self.layers[layer].mask, self.layers[layer].variance or 0.0)]
        whole = [f(u[:, None], below.x[None, :]) * below.w for f in functions]
        order, ends = below.order, below.ends
        rows: list[NDArray[np.intp]] = []
        points: list[RealArray] = []
        weights: list[RealArray] = []
        k_cut: list[RealArray] = []
        t_cut: list[RealArray] = []
        for row, position in enumerate(u):
            crossings = sorted(Real(g(position)) for g, _ in self.curves(layer))
            for panel in {int(np.searchsorted(ends, v)) - 1 for v in crossings if 0 < v < 1}:
                a, b = ends[panel], ends[panel + 1]
                inside = [v for v in crossings if a < v < b]
                sub = composite(np.array([a, *inside, b], dtype=Real), order)
                span = slice(panel * order, (panel + 1) * order)
                for matrix in whole:
                    matrix[row, span] = 0
                lagrange = interpolation(order, (2 * sub.x - a - b) / (b - a))
                rows.append(np.full(len(sub.x), row))
                points.append(sub.x)
                weights.append(sub.w)
                k_cut.append(lagrange @ k[span])
                t_cut.append(np.stack([lagrange @ source[span] for source in t]))
        k_out, t_out = self.apply(layer, (whole[0], whole[1]), c, dot, t)
        if rows:
            at, v, w = np.concatenate(rows), np.concatenate(points), np.concatenate(weights)
            c_cut, dot_cut = self.duals(np.concatenate(k_cut))
            inner = np.concatenate(t_cut, axis=1)
            mask, variance = ((f(u[at], v) * w)[:, None] for f in functions)
            np.add.at(k_out, at, self.sw2[layer] * variance * c_cut)
            np.add.at(t_out[layer], at, self.factor[layer] * self.sw2[layer] * mask * c_cut)
            for source in range(layer):
                np.add.at(t_out[source], at, self.sw2[layer] * variance * dot_cut * inner[source])
        t_out[layer] += self.bias
        return k_out + self.sb2, t_out

    def last(self, below: Nodes, k: RealArray, t: RealArray) -> tuple[RealArray, RealArray]:
        """The readout: rows averaged over output atoms."""
        layer = self.depth - 1
        crossings = [h for _, h in self.curves(layer)]
        matrices = []
        for spec in (self.layers[layer].mask, self.layers[layer].variance or 0.0):
            means = _cell_means(
                _swapped(function_of(spec)),
                below.x,
                self.problem.outputs,
                self.hints.output_edges,
                crossings,
                self.resolution.order,
            )
            matrices.append((means * below.w[:, None]).T)
        c, dot = self.duals(k)
        k_out, t_out = self.apply(layer, (matrices[0], matrices[1]), c, dot, t)
        t_out[layer] += self.bias
        return k_out + self.sb2, t_out

    def only(self) -> tuple[RealArray, RealArray]:
        """A single layer: input atoms meet output atoms. K^1(u) averaged over the output cells."""
        outputs = self.problem.outputs
        walls = tuple(Real(o) / outputs for o in range(1, outputs))
        rule = composite(panel_ends((*walls, *self.hints.output_edges), (), self.resolution), self.resolution.order)
        k, t = self.first(rule.x)
        owner = np.minimum((rule.x * outputs).astype(int), outputs - 1)
        average = np.zeros((outputs, len(rule.x)), dtype=Real)
        average[owner, np.arange(len(rule.x))] = rule.w * outputs
        return average @ k, np.stack([average @ source for source in t])

    def run(self) -> Kernels:
        sizes = []
        if self.depth == 1:
            k, t = self.only()
        else:
            nodes = self.nodes(0)
            k, t = self.first(nodes.x)
            sizes.append(len(nodes.x))
            for layer in range(1, self.depth - 1):
                above = self.nodes(layer)
                k, t = self.hidden(layer, above.x, nodes, k, t)
                nodes = above
                sizes.append(len(nodes.x))
            k, t = self.last(nodes, k, t)
        n = len(self.x)
        square = np.zeros((self.depth + 1, self.problem.outputs, n, n), dtype=Real)
        for index, upper in enumerate((k, *t)):
            square[index][:, self.i, self.j] = upper
            square[index][:, self.j, self.i] = upper
        return Kernels(square[0], square[1:].sum(axis=0), square[1:], tuple(sizes))


def resolve(problem: Problem, hints: Hints, resolution: Resolution) -> Kernels:
    """All kernels of one problem at one resolution."""
    if EPS > 1e-18:
        raise RuntimeError("this platform's long double is no wider than double: the references need 64-bit mantissas")
    return _Run(problem, hints, resolution).run()
