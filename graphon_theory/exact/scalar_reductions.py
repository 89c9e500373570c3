"""Scalar reduction: hidden structure as one number a layer, exactly where the graphons are symbolic (THEORY §3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import sympy as sp

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.reductions import ROUNDING, broken_premise, path_integrals
from graphon_theory.errors import ClosedFormError, NetworkError, QuadratureError
from graphon_theory.exact.exact_graphons import MAX_BLOCKS, V, act, exact_edges, profile_graphon, resolved, separated
from graphon_theory.exact.profiles import Profile, T, rational, tidy, value
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.callables import FunctionGraphon, OfOne
from graphon_theory.graphons.graphon import Graphon, StepGraphon
from graphon_theory.graphons.positions import between
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.values import Record

_TOLERANCES = (1e-13, 1e-12, 1e-11, 1e-10)  # of path integrals by quadrature


@dataclass(frozen=True)
class ScalarReduction:
    """What :func:`scalar_reduction` found: false with a ``reason``, or true with the scalars.

    ``scalars[l-1]`` is s_l, a SymPy number (for several outputs a tuple of them), and ``nngp`` that of the NNGP;
    ``dense`` is the dense network that they multiply, ``profile`` its input profile c(v). ``exact`` says whether the
    numbers are exact; otherwise they are floats by quadrature (callables, and formulas without exact integrals).
    """

    reason: str = ""
    scalars: tuple[object, ...] = ()
    nngp: object = None
    profile: sp.Expr | None = None
    dense: Network | None = None
    exact: bool = False

    def __bool__(self) -> bool:
        return not self.reason

    @property
    def values(self) -> FloatArray:
        """The scalars in floating point: (layers, outputs)."""
        rows = [s if isinstance(s, tuple) else (s,) for s in self.scalars]
        return np.array([[value(s) for s in row] for row in rows])

    @property
    def single(self) -> bool:
        """Whether one number serves all layers: the NTK is a multiple of the dense one."""
        return bool(self) and all(s == self.scalars[0] for s in self.scalars)

    def __str__(self) -> str:
        if not self:
            return f"no scalar reduction: {self.reason}"
        if self.single:
            return f"NTK = {self.scalars[0]} x dense NTK"
        return ", ".join(f"NTK_{number} = {s} x dense" for number, s in enumerate(self.scalars, 1))

    def _repr_latex_(self) -> str | None:
        if not self:
            return None  # the reason is no formula
        lines = (rf"s_{{{n}}} &= {sp.latex(s)}" for n, s in enumerate(self.scalars, 1))
        return r"$\displaystyle \begin{aligned} " + r" \\ ".join(lines) + r" \end{aligned}$"


def scalar_reduction(network: Network) -> ScalarReduction:
    """Decide whether hidden structure multiplies each layer's NTK by one number, and give the numbers (THEORY §3).

    Derived from the objects: phi is seen to be two straight lines through 0 at 4,400 arguments of either sign
    (:func:`slopes`), products r(u) c(v) are seen on grids that reach both sides of every break, to 32 roundings.
    Numbers in step graphons and formulas are read as in ``profiles``, so the scalars of rational
    data are rational.

    Returns a :class:`ScalarReduction`. Its ``reason`` names the first premise that breaks, in the order drift,
    biases, activation, input layer. Raises NetworkError for anything but a Network.
    """
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    reason = broken_premise(network) or _unlike_inputs(network.layers[0])
    if reason:
        return ScalarReduction(reason)
    try:
        row, own, profile = _input_factors(network.layers[0])
        graphon = profile_graphon(profile)
    except ClosedFormError:
        return _by_quadrature(network, _sampled_profile(network.layers[0]))
    dense = _dense(network, graphon)
    shown = profile.expression(V)
    try:
        scalars, nngp = _exact_integrals(network, row, own)
    except ClosedFormError:
        return _by_quadrature(network, graphon, shown)
    return ScalarReduction("", scalars, nngp, shown, dense, exact=True)


def _reference(graphon: Graphon) -> tuple[float, float]:
    """(u, v) of the largest value met on the grid."""
    u, v = _grid(graphon)
    i, j = np.unravel_index(int(np.argmax(graphon(u[:, None], v))), (len(u), len(v)))
    return float(u[i]), float(v[j])


def _grid(*graphons: Graphon) -> tuple[FloatArray, FloatArray]:
    """Positions u and v in every panel between the graphons' breaks; its middle only, where all are constant there."""
    plain = not any(g.switches for g in graphons)
    u = between([g.u_breaks for g in graphons], plain and all(g.constant_in_u for g in graphons))
    return u, between([g.v_breaks for g in graphons], plain and all(g.constant_in_v for g in graphons))


def _unlike_inputs(layer: Connectivity) -> str | None:
    """Why V^1 and W^1 are not r(u) c(v) and q(u) c(v) with one c, or None if they are."""
    variance, mask = layer.variance, layer.mask
    u0, v0 = _reference(variance)
    peak = float(variance(u0, v0))
    if peak == 0.0:
        return None
    u, v = _grid(variance, mask)
    profile = variance(u0, v) / peak
    for name, graphon in (("variance", variance), ("mask", mask)):
        rows = graphon(u[:, None], v)
        scale = graphon(u, v0)[:, None]
        gap = np.abs(rows - scale * profile)
        if (gap > ROUNDING * (np.abs(rows) + np.abs(scale * profile))).any():
            i, _ = np.unravel_index(int(np.argmax(gap)), gap.shape)
            if name == "mask" and not (np.ptp(scale) > 0):
                return "layer 1 has a mask W and a variance V that weigh the inputs differently"
            return (
                f"layer 1 treats inputs differently at different positions: its {name} {graphon!r} is not a multiple "
                f"of one profile c(v), as rows u={u[i]:.6g} and u={u0:.6g} show"
            )
    return None


def _input_factors(layer: Connectivity) -> tuple[Profile, Profile, Profile]:
    """r(u), q(u) and c(v), exactly; c has its largest value 1 where that stands at an edge, else stays below 1."""
    if layer.variance.is_zero:
        return Profile.constant(0), Profile.constant(0), Profile.constant()
    u0, v0 = _exact_reference(layer.variance)
    profile = _normalised(_slice(layer.variance, u0, axis=0))
    at = profile.on(v0, v0).subs(T, v0)
    rows = []
    for graphon in (layer.variance, layer.mask):
        column = _slice(graphon, v0, axis=1)
        rows.append(Profile(column.edges, tuple(tidy(expr / at) for expr in column.exprs)))
    return rows[0], rows[1], profile


def _exact_reference(graphon: Graphon) -> tuple[sp.Expr, sp.Expr]:
    """Middles of the cells between the breaks where W is largest; elsewhere if it vanishes there."""
    u, v = ([(p + q) / 2 for p, q in pairwise(exact_edges(graphon, axis))] for axis in (0, 1))
    values = graphon(np.array([value(x) for x in u])[:, None], np.array([value(x) for x in v]))
    i, j = np.unravel_index(int(np.argmax(values)), values.shape)
    if values[i, j] > 0:
        return u[i], v[j]
    u0, v0 = _reference(graphon)
    return rational(u0), rational(v0)


def _slice(graphon: Graphon, at: sp.Expr, axis: int) -> Profile:
    """W(at, .) for ``axis=0``, W(., at) for ``axis=1``."""
    if axis == 1:
        return _slice(graphon.T, at, axis=0)
    edges = exact_edges(graphon, 1)
    if isinstance(graphon, StepGraphon):
        if graphon.values.size > MAX_BLOCKS:
            raise ClosedFormError(f"{graphon!r}: more than {MAX_BLOCKS} blocks are not read exactly.")
        row = graphon(float(at), (graphon.v_edges[:-1] + graphon.v_edges[1:]) / 2)
        return Profile(edges, tuple(rational(x) for x in row))
    if not isinstance(graphon, AnalyticGraphon):
        raise ClosedFormError(f"{graphon!r}: a callable has no exact integrals.")
    exprs = []
    for p, q in pairwise(edges):
        terms = separated(resolved(graphon, float(at), value(p + q) / 2))
        exprs.append(sp.Add(*(f.subs(T, at) * g for f, g in terms)))
    return Profile(edges, tuple(exprs))


def _normalised(profile: Profile) -> Profile:
    """Divided by its largest value if that stands at an edge, else by the next whole number."""
    ends = [expr.subs(T, e) for expr, pair in zip(profile.exprs, pairwise(profile.edges), strict=True) for e in pair]
    finite = [e for e in ends if e.is_finite]
    top = max(finite, key=value)
    t = np.linspace(1e-9, 1 - 1e-9, 4001)
    met = max(value(e) for e in finite)
    graphon = profile_graphon(profile)
    most = float(graphon(0.5, t).max())
    if most > met * (1 + 1e-12):
        top = sp.Integer(int(np.ceil(most)))
    return Profile(profile.edges, tuple(tidy(sp.expand(expr / top)) for expr in profile.exprs))


def _exact_integrals(network: Network, row: Profile, own: Profile) -> tuple[tuple[object, ...], object]:
    """All s_l, and the factor of the NNGP."""
    layers = network.layers
    signal, owns = row, [row if own == row else own]
    for layer in layers[1:]:
        above = act(layer.variance, signal)
        raised = [above if o is signal else act(layer.variance, o) for o in owns]
        owns = [*raised, above if layer.mask is layer.variance else act(layer.mask, signal)]
        signal = above
    return tuple(_at_outputs(o, network.outputs) for o in owns), _at_outputs(signal, network.outputs)


def _at_outputs(profile: Profile, outputs: int) -> object:
    """Means over the cells of the outputs: a number, or a tuple of several."""
    cells = [(sp.Rational(o, outputs), sp.Rational(o + 1, outputs)) for o in range(outputs)]
    means = tuple(tidy(outputs * profile.integral(None, a, b)) for a, b in cells)
    return means[0] if outputs == 1 else means


def _sampled_profile(layer: Connectivity) -> Graphon:
    """c(v) of an input layer that cannot be read exactly, divided by the next whole number above its values."""
    variance = layer.variance
    u0, v0 = _reference(variance)
    bound = max(1.0, float(np.ceil(variance(u0, v0))))
    return FunctionGraphon(OfOne(_Row(variance, u0, bound), of_v=True), v_edges=variance.v_breaks)


@dataclass(frozen=True, eq=False)
class _Row(Record):
    """v -> W(u, v) / bound at one u."""

    graphon: Graphon
    u: float
    bound: float

    def __call__(self, v: FloatArray) -> FloatArray:
        return self.graphon(np.full_like(v, self.u), v) / self.bound


def _by_quadrature(network: Network, graphon: Graphon, profile: sp.Expr | None = None) -> ScalarReduction:
    """The scalars as path integrals on operator matrices: of the linear network on the one input 1."""
    linear = Network(network.layers, "identity", 1.0, outputs=network.outputs)
    for rtol in _TOLERANCES:
        try:
            grid = discretise(linear, np.ones((1, 1)), rtol)
            break
        except QuadratureError:
            if rtol == _TOLERANCES[-1]:
                raise
    found, signal = path_integrals(grid.operators)
    mean = graphon.mean()
    rows = [tuple(sp.Float(float(x / mean), 17) for x in row) for row in (*found, signal)]
    shown = rows if network.outputs > 1 else [row[0] for row in rows]
    return ScalarReduction("", tuple(shown[:-1]), shown[-1], profile, _dense(network, graphon))


def _dense(network: Network, profile: Graphon) -> Network:
    dense = Connectivity(profile), *[Connectivity(1.0)] * (network.depth - 1)
    return network.changed(layers=dense, bias_variance=0.0)
