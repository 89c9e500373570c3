"""closed_form: the limit kernels as SymPy expressions in the moments of the inputs (THEORY §3, §4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_lowercase
from typing import Any

import sympy as sp

from graphon_theory.activations.activation import Activation
from graphon_theory.engine.reductions import slopes
from graphon_theory.errors import ClosedFormError, NetworkError
from graphon_theory.exact.exact_graphons import FiniteRank, V, profile_graphon
from graphon_theory.exact.formulas import ClosedForm, Moments
from graphon_theory.exact.profiles import Profile, T, merged, rational, value
from graphon_theory.exact.scalar_reductions import ScalarReduction, scalar_reduction
from graphon_theory.exact.symbolic_duals import rectifier, symbolic_dual
from graphon_theory.graphons.graphon import ConstantGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Fork, Join, Norm, Phi, Weights

MAX_NAMES = 3_000  # named quantities of one form

Triple = tuple[sp.Expr, sp.Expr, sp.Expr]  # at (x, x), (x, x'), (x', x')


def closed_form(network: Network) -> ClosedForm:
    """The NNGP and NTK as SymPy expressions in the input moments q11, q12, q22, where a finite form exists.

    Two routes. Where the scalar reduction holds (ReLU and its kin without biases, any hidden graphons) the kernels are
    the dense ones with each layer's path integral s_l, by name. Otherwise every hidden layer's variance must be
    constant on the blocks of a finite partition, or one function f(u) times a moment where phi is positively
    homogeneous: step and constant graphons with any activation whose dual is closed, separable ones with
    homogeneous activations and at the read-out. Shortcuts and LayerNorms before an activation are written out likewise.
    Numbers are exact, floats being read as in :mod:`graphon_theory.exact.profiles`.

    Raises ClosedFormError where there is no finite form (a separable graphon below erf, a kink on the diagonal with
    biases, a LayerNorm behind an activation, ...) or more than 3,000 names would be needed, naming the layer.
    """
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    reduction = scalar_reduction(network)
    if reduction and reduction.profile is not None:
        return _reduced(network, reduction)
    if any(layer.has_drift for layer in network.layers):
        raise ClosedFormError("network: a layer carries drift D, and closed forms are about zero means only.")
    return _Unrolled(network).form()


def _reduced(network: Network, reduction: ScalarReduction) -> ClosedForm:
    """sqrt(q11 q22) A  sum_l s_l r_l prod_{k=l}^{L-1} d_k,   r_{l+1} = C(r_l)/C(1),  d_l = Cdot(r_l)/Cdot(1)."""
    depth = network.depth
    q11, q12, q22 = symbols = _moment_symbols("")
    assert reduction.profile is not None
    assert reduction.dense is not None
    moments = Moments(symbols, reduction.dense.layers[0].mask, reduction.profile)
    gains = []
    definitions: dict[sp.Symbol, sp.Expr] = {}

    def name(text: str, meaning: sp.Expr) -> sp.Symbol:
        symbol = sp.Symbol(text, real=True)
        definitions[symbol] = meaning
        return symbol

    norm = sp.sqrt(q11) * sp.sqrt(q22)
    cosines = [name("r_1", q12 / norm)]
    slopes_below = []
    for layer, activation in enumerate(network.activations, 1):
        pair = slopes(activation)
        assert pair is not None  # or there would be no reduction
        alpha, beta = (rational(s) for s in pair)
        gain, dual = (alpha**2 + beta**2) / 2, rectifier(alpha, beta)
        gains.append(gain)
        r = cosines[-1]
        signal, slope = (e.subs(sp.atan2(sp.sqrt(1 - r**2), r), sp.acos(r)) for e in dual.duals(1, r, 1))
        slopes_below.append(name(f"d_{layer}", (slope / gain).simplify()))
        cosines.append(name(f"r_{layer + 1}", (signal / gain).simplify()))
    scale = norm * sp.prod([rational(s) for s in network.weight_variance]) * sp.prod(gains)
    own = _own_factors(network)

    def kernel(pick: Any, suffix: str) -> sp.Expr:
        numbers = [pick(s) for s in reduction.scalars]
        alike = all(n == numbers[0] for n in numbers)
        names = [name(f"s{suffix}", numbers[0])] * depth if alike else []
        names = names or [name(f"s_{k}{suffix}", number) for k, number in enumerate(numbers, 1)]
        terms = [
            factor * s * r * sp.prod(slopes_below[k:])
            for k, (factor, s, r) in enumerate(zip(own, names, cosines, strict=True))
        ]
        total = sp.Add(*terms)
        return scale * (names[0] * sp.Add(*(t / names[0] for t in terms)) if alike else total)

    if network.outputs == 1:
        ntk: Any = kernel(lambda s: s, "")
        nngp: Any = scale * reduction.nngp * cosines[-1]
    else:
        ntk = tuple(kernel(lambda s, o=o: s[o], f"__{o}") for o in range(network.outputs))
        assert isinstance(reduction.nngp, tuple)
        nngp = tuple(scale * a * cosines[-1] for a in reduction.nngp)
    return ClosedForm(nngp, ntk, definitions, (moments,), network.outputs, reduction)


def _moment_symbols(suffix: str) -> tuple[sp.Symbol, sp.Symbol, sp.Symbol]:
    first, second = (sp.Symbol(f"q{at}{suffix}", nonnegative=True) for at in ("11", "22"))
    return first, sp.Symbol(f"q12{suffix}", real=True), second


def _own_factors(network: Network) -> list[sp.Expr]:
    """What multiplies a layer's own term: 1, or n_{l-1} / sigma_w^2 in standard parameterization."""
    if network.parameterization == "ntk":
        return [sp.Integer(1)] * network.depth
    assert network.widths is not None
    return [n / rational(s) for n, s in zip(network.widths, network.weight_variance, strict=True)]


@dataclass(frozen=True)
class _Cell:
    """A piece of positions: K(u) = sum over shapes f(u) (k11, k12, k22), and T(u) at (x, x') likewise."""

    low: sp.Expr
    high: sp.Expr
    variance: dict[sp.Expr, Triple]
    tangent: dict[sp.Expr, sp.Expr]


def _triple(values: Iterator[sp.Expr]) -> Triple:
    first, second, third = values
    return first, second, third


class _Unrolled:
    """The recursion written out, a name for each number per cell."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.activation, self.dual = network.default_activation, rectifier(sp.Integer(1), sp.Integer(1))
        self.definitions: dict[sp.Symbol, sp.Expr] = {}
        self.profiles: dict[tuple[Any, ...], Moments] = {}
        self.own = _own_factors(network)
        self.norms = 0  # LayerNorms met so far

    def form(self) -> ClosedForm:
        network = self.network
        cells: list[_Cell] | None = None
        blocks = sum(len(layer.variance.u_breaks) - 1 for layer in network.layers[:-1])
        if 4 * blocks > MAX_NAMES:
            raise ClosedFormError(
                f"network: {4 * blocks} named quantities would be needed, at most {MAX_NAMES} are made."
            )
        shortcuts: list[list[_Cell]] = []
        number = 0
        for part in network.outline:
            if isinstance(part, Weights):
                number, layer = part.number, network.layers[part.number - 1]
                sigma = rational(network.weight_variance[number - 1])
                try:
                    cells = self._layer(number, layer, sigma, cells, number == network.depth)
                except ClosedFormError as error:
                    raise ClosedFormError(f"layer {number}: {error} Use limit_kernel.") from None
            elif isinstance(part, Phi):
                self._take(part.activation)
            else:
                assert cells is not None
                if isinstance(part, Fork):
                    shortcuts.append(cells)
                elif isinstance(part, Join):
                    cells = self._joined(number, shortcuts.pop(), cells, rational(part.scale) ** 2)
                else:
                    cells = self._normed(number, cells, part)
        assert cells is not None
        found = [self._output(o, cells) for o in range(network.outputs)]
        nngp, ntk = (tuple(k) if network.outputs > 1 else k[0] for k in zip(*found, strict=True))
        return ClosedForm(nngp, ntk, self.definitions, tuple(self.profiles.values()), network.outputs)

    def _take(self, activation: Activation) -> None:
        """The duals for what comes next."""
        dual = symbolic_dual(activation)
        if dual is None:
            raise ClosedFormError(
                f"activation: the dual of {activation.name!r} has no closed form here; use limit_kernel."
            )
        self.activation, self.dual = activation, dual

    def _joined(self, number: int, kept: list[_Cell], branch: list[_Cell], square: sp.Expr) -> list[_Cell]:
        """K + s^2 K_b and T + s^2 T_b on the cells of both."""
        edges = merged(*((one.low, one.high) for one in (*kept, *branch)))
        cells = []
        for index, (p, q) in enumerate(pairwise(edges), 1):
            one, other = (next(c for c in many if value(c.low) <= value(p) < value(c.high)) for many in (kept, branch))
            variance: dict[sp.Expr, Any] = dict(one.variance)
            for shape, triple in other.variance.items():
                old = variance.get(shape, (0, 0, 0))
                variance[shape] = tuple(k + square * e for k, e in zip(old, triple, strict=True))
            tangent = dict(one.tangent)
            for shape, t in other.tangent.items():
                tangent[shape] = tangent.get(shape, sp.Integer(0)) + square * t
            where = f"{number}_{index}_sum" if len(edges) > 2 else f"{number}_sum"
            cells.append(self._named(where, p, q, variance, tangent))
        return cells

    def _normed(self, number: int, cells: list[_Cell], part: Norm) -> list[_Cell]:
        """Over sqrt(q + epsilon) of both inputs, q the mean variance of the layer."""
        if not part.before:
            raise ClosedFormError(
                f"layer {number}: a LayerNorm behind an activation has no closed form here; use limit_kernel."
            )
        mean = [sp.Integer(0), sp.Integer(0)]
        for cell in cells:
            for shape, (k11, _, k22) in cell.variance.items():
                weight = Profile.constant(shape).integral(None, cell.low, cell.high)
                mean = [mean[0] + weight * k11, mean[1] + weight * k22]
        epsilon = rational(part.epsilon)
        self.norms += 1
        first, second = (sp.Symbol(f"Q_{self.norms}__{at}", positive=True) for at in ("11", "22"))
        self.definitions |= {symbol: m + epsilon for symbol, m in zip((first, second), mean, strict=True)}
        both = sp.sqrt(first) * sp.sqrt(second)
        scales = 1 / first, 1 / both, 1 / second
        return [
            _Cell(
                cell.low,
                cell.high,
                {shape: _triple(k * s for k, s in zip(t, scales, strict=True)) for shape, t in cell.variance.items()},
                {shape: t / both for shape, t in cell.tangent.items()},
            )
            for cell in cells
        ]

    def _layer(
        self, number: int, layer: Connectivity, sigma: sp.Expr, below: list[_Cell] | None, last: bool
    ) -> list[_Cell]:
        signal, own = FiniteRank.of(layer.variance), FiniteRank.of(layer.mask)
        edges = merged(*(f.edges for f, _ in (*signal.terms, *own.terms)))
        bias = rational(self.network.bias_variances[number - 1])
        trained = rational(self.network.trained_bias_variances[number - 1])
        cells = []
        for index, (p, q) in enumerate(pairwise(edges), 1):
            variance, tangent = {}, {}
            for shape, g in signal.on(p, q).items():
                k, t = self._sums(g, below)
                variance[shape] = tuple(sigma * e for e in k)
                tangent[shape] = sigma * t
            for shape, g in own.on(p, q).items():
                own_term = sigma * self.own[number - 1] * self._sums(g, below)[0][1]
                tangent[shape] = tangent.get(shape, sp.Integer(0)) + own_term
            one = sp.Integer(1)
            if bias:
                variance[one] = tuple(k + bias for k in variance.get(one, (0, 0, 0)))
            if trained:
                tangent[one] = tangent.get(one, sp.Integer(0)) + trained
            if last:
                cells.append(_Cell(p, q, variance, tangent))
            else:
                where = f"{number}_{index}" if len(edges) > 2 else f"{number}"
                cells.append(self._named(where, p, q, variance, tangent))
        return cells

    def _named(self, where: str, p: sp.Expr, q: sp.Expr, variance: Any, tangent: Any) -> _Cell:
        def name(text: str, meaning: sp.Expr) -> sp.Expr:
            if meaning == 0:
                return sp.Integer(0)
            kind = "nonnegative" if text.endswith(("__11", "__22")) else "real"
            symbol = sp.Symbol(text, **{kind: True})
            self.definitions[symbol] = meaning
            return symbol

        def several(letter: str, table: dict[sp.Expr, Any]) -> Iterator[tuple[sp.Expr, str, Any]]:
            for k, (shape, meaning) in enumerate(table.items()):
                mark = f"_{ascii_lowercase[k % 26]}" if len(table) > 1 else ""
                yield shape, f"{letter}_{where}{mark}", meaning

        ks = {
            shape: tuple(name(f"{text}__{at}", e) for at, e in zip(("11", "12", "22"), triple, strict=True))
            for shape, text, triple in several("K", variance)
        }
        ts = {shape: name(text, e) for shape, text, e in several("T", tangent)}
        live = {shape: triple for shape, triple in ks.items() if any(e != 0 for e in triple)}
        return _Cell(p, q, live, {shape: e for shape, e in ts.items() if e != 0})

    def _sums(self, g: Profile, below: list[_Cell] | None) -> tuple[Triple, sp.Expr]:
        """int g C at the three pairs, and int g Cdot T, over what lies below; moments of the inputs at the bottom."""
        if below is None:
            return self._input_moments(g), sp.Integer(0)
        dual: list[sp.Expr] = [sp.Integer(0)] * 3
        slope = sp.Integer(0)
        for cell in below:
            for shape, triple in self._duals(cell):
                weight = g.integral(shape, cell.low, cell.high)
                dual = [d + weight * c for d, c in zip(dual, triple, strict=True)]
            for shape, product in self._slopes(cell):
                slope += g.integral(shape, cell.low, cell.high) * product
        return (dual[0], dual[1], dual[2]), slope

    def _duals(self, cell: _Cell) -> Iterator[tuple[sp.Expr, Triple]]:
        """C on a cell as shapes times (C11, C12, C22)."""
        shape, power = self._one_shape(cell)
        if shape is None:  # linear phi
            factor = self.dual.duals(*[sp.Integer(1)] * 3)[1]
            for own, (k11, k12, k22) in cell.variance.items():
                yield own, (factor * k11, factor * k12, factor * k22)
            return
        if not cell.variance:
            if self.dual.degree is None:
                still = self.dual.duals(*[sp.Integer(0)] * 3)[0]
                yield sp.Integer(1), (still, still, still)
            return
        k11, k12, k22 = cell.variance[shape]
        c = tuple(self.dual.duals(*k)[0] for k in ((k11, k11, k11), (k11, k12, k22), (k22, k22, k22)))
        yield shape**power, (c[0], c[1], c[2])

    def _slopes(self, cell: _Cell) -> Iterator[tuple[sp.Expr, sp.Expr]]:
        """Cdot T on a cell as shapes times expressions."""
        if not cell.tangent:
            return
        shape, power = self._one_shape(cell)
        if shape is None:
            factor, rest = self.dual.duals(*[sp.Integer(1)] * 3)[1], sp.Integer(1)
        elif not cell.variance:
            factor, rest = self.dual.duals(*[sp.Integer(0)] * 3)[1], sp.Integer(1)
        else:
            k11, k12, k22 = cell.variance[shape]
            factor, rest = self.dual.duals(k11, k12, k22)[1], shape ** (power - 1)
        for own, t in cell.tangent.items():
            yield sp.expand(own * rest), factor * t

    def _one_shape(self, cell: _Cell) -> tuple[sp.Expr | None, int]:
        """The function of u that the cell's variance is a multiple of, and phi's degree; None for linear phi."""
        shapes = list(cell.variance) or [sp.Integer(1)]
        if shapes == [sp.Integer(1)]:
            return shapes[0], 1
        if self.dual.degree == 1 and self.dual.duals(sp.Integer(1), sp.Integer(0), sp.Integer(1))[0] == 0:
            return None, 1
        if len(shapes) > 1 or self.dual.degree is None:
            shown = " + ".join(f"({s.xreplace({T: sp.Symbol('v')})}) k" for s in shapes)
            raise ClosedFormError(
                f"the variance of the layer below varies with position as {shown}, over which the dual of "
                f"{self.activation.name!r} has no finite integral that is known."
            )
        return shapes[0], self.dual.degree

    def _input_moments(self, g: Profile) -> Triple:
        """(1/d) sum_j g_j x_j x'_j at the three pairs; multiples of one profile share their symbols."""
        if g.is_zero:
            zero = sp.Integer(0)
            return zero, zero, zero
        middles = (expr.subs(T, (p + q) / 2) for expr, (p, q) in zip(g.exprs, pairwise(g.edges), strict=True))
        scale = next(e for e in middles if e != 0)
        exprs = tuple((e / scale).simplify() for e in g.exprs)
        one = Profile(g.edges, exprs)
        key = (one.expression(V),)
        if key not in self.profiles:
            suffix = "" if self._one_profile else f"_{len(self.profiles) + 1}"
            self.profiles[key] = Moments(_moment_symbols(suffix), profile_graphon(one), one.expression(V))
        a, b, c = self.profiles[key].symbols
        return scale * a, scale * b, scale * c

    @property
    def _one_profile(self) -> bool:
        layer = self.network.layers[0]
        return all(g == ConstantGraphon(float(g(0.5, 0.5))) for g in (layer.variance, layer.mask))

    def _output(self, o: int, cells: list[_Cell]) -> tuple[sp.Expr, sp.Expr]:
        """Means over the cell of an output."""
        k = self.network.outputs
        a, b = sp.Rational(o, k), sp.Rational(o + 1, k)
        nngp = ntk = sp.Integer(0)
        for cell in cells:
            low, high = max(a, cell.low, key=value), min(b, cell.high, key=value)
            if value(high) <= value(low):
                continue
            for shape, triple in cell.variance.items():
                nngp += k * Profile.constant(shape).integral(None, low, high) * triple[1]
            for shape, t in cell.tangent.items():
                ntk += k * Profile.constant(shape).integral(None, low, high) * t
        return nngp, ntk
