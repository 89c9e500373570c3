"""Choosing the nodes: every hidden layer's panels are refined until the recursion on sample pairs is resolved.

What has to be resolved in a layer is its own state as a function of position, C(K(u)) and Cdot T(u), on a few
input pairs that include the extreme ones. How rough the *next* graphon is does not matter here: its operator is a
product integral (THEORY §5). Panels start at every place where the state can lose smoothness:

- breaks in u of the layer's own graphons,
- where a kink curve v = g(u) of theirs meets a break of the layer below, an end of [0, 1], or is born,
- for the first layer, where a curve meets an edge j/d of an input cell.

Then: more nodes, a square-root map towards one end, or a bisection, whichever resolves a panel first. A panel that is
resolved at its nodes is looked at beside them and at its ends, where a jump or a narrow feature can hide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.engine.angles import AngularForm, first_gaps, gaps_above
from graphon_theory.engine.neighbours import Neighbours
from graphon_theory.engine.operators import Layer, LayerOperator, Scales
from graphon_theory.engine.samples import Sample
from graphon_theory.engine.steps import Before, Behind, DenseStep, DualStep, Field, Fresh, atoms
from graphon_theory.engine.tiles import Tile
from graphon_theory.errors import InputError, NetworkError, QuadratureError
from graphon_theory.networks.network import Network
from graphon_theory.numerics.quadratures import (
    LEFT,
    MERGED,
    PLAIN,
    RIGHT,
    Panels,
    gauss,
    lagrange,
    legendre_transform,
    local,
    merged_edges,
    place,
)
from graphon_theory.numerics.roots import births

FLOOR = 64 * EPS  # least error estimate, per layer
_LOOKED_AT = (np.arange(9) + 0.5) / 9  # positions at which close inputs are looked for
_ROUNDING = 16.0  # roundings of a covariance that its sums are taken to gather
_ROUNDS = 5  # sharper and sharper discretisations before giving up
_DEPTH = 45  # bisections of one panel
_PANELS = 6_000  # panels of one layer
_BESIDE = (0.2137, 0.5872)  # shares of a panel at which it is looked at beside its nodes
_END = 1e-11  # and at this share of its ends,
_OFF = 1.5e-13  # but not nearer: edges are known to MERGED
_LEAST = 1e-12  # panels so short that what hides in them is nothing


_Piece = tuple[float, float, int]  # a, b, bisections behind it
_Settled = tuple[float, float, int, int, int]  # a, b, nodes, map, bisections behind it
_Met = dict[tuple[float, float], list[FloatArray]]  # C, Cdot T and m at the nodes of panels, by their ends
_Rows = Callable[[FloatArray], LayerOperator]


@dataclass(frozen=True)
class Discretisation:
    """Operator matrices of every layer, the panels of every hidden one, and the error they leave."""

    operators: tuple[LayerOperator, ...]
    panels: tuple[Panels, ...]
    error: float  # relative to sqrt(K_ii K_jj)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of every hidden layer."""
        return tuple(p.size for p in self.panels)


def layers_of(network: Network) -> tuple[Layer, ...]:
    widths = network.widths if network.parameterization == "standard" else (None,) * network.depth
    assert widths is not None  # Network checks it
    return tuple(
        Layer(connectivity, Scales.of(variance, network.bias_variance, fan_in), number)
        for number, (connectivity, variance, fan_in) in enumerate(
            zip(network.layers, network.weight_variance, widths, strict=True), 1
        )
    )


def discretise(network: Network, inputs: FloatArray, rtol: float) -> Discretisation:
    """Nodes and operators for ``network`` that resolve the kernel on a sample of ``inputs`` (N, d) to ``rtol``.

    The kernel of the sample is computed on two discretisations, the second sharper; their distance is the error
    estimate and the second is used. Networks that are constant in u between breaks everywhere are exact at once.

    Raises QuadratureError, naming the layer, when the distance stays above ``rtol``.
    """
    layers = layers_of(network)
    exact = all(layer.constant_in_u for layer in layers[:-1])
    floor = FLOOR * network.depth
    if exact:
        return Discretisation(*_blockwise(layers, inputs.shape[1], network.outputs), floor)
    first = layers[0].from_inputs(_LOOKED_AT, inputs.shape[1])
    sample = Sample.of(inputs, Neighbours(first, inputs).closest())
    sample = replace(sample, close=_close(first, sample.inputs))
    target, previous = max(0.1 * rtol, 8 * EPS), None
    move, worst = np.inf, 1
    for attempt in range(_ROUNDS):
        refinement = _Refinement(network.activation, layers, sample, target, attempt % 2)
        operators, panels, kernels = refinement.run(network.outputs)
        if previous is not None:
            move = _distance(kernels, previous, refinement.noise)
            worst = refinement.worst
            if move <= rtol:
                return Discretisation(operators, panels, max(move, floor))
        previous = kernels
        target = max(1e-2 * target, 8 * EPS)
    raise QuadratureError(
        f"layer {worst}: the kernel still moves by {move:.2g} (relative) between the two finest discretisations, "
        f"rtol={rtol:g} was asked for. If the graphon has a kink or jump along u = v, say diagonal=True; if at a fixed "
        "position, give it as an edge (u_edges, v_edges); or loosen rtol."
    )


def _close(first: LayerOperator, inputs: FloatArray) -> tuple[IntArray, IntArray]:
    """Pairs of the sample that are close at some position, which covariances hardly tell apart, each once."""
    found = {
        pair for rows, columns, _ in Neighbours(first, inputs).batches() for pair in zip(rows, columns, strict=True)
    }
    pairs = np.array(sorted({(min(p), max(p)) for p in found}), dtype=np.intp).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def _blockwise(layers: tuple[Layer, ...], d: int, outputs: int) -> tuple[tuple[LayerOperator, ...], tuple[Panels, ...]]:
    """One node a block in every hidden layer, where all graphons are constant in u between their breaks."""
    panels = tuple(Panels.constant(layer.u_edges) for layer in layers[:-1])
    last = layers[-1]
    if not panels:
        return (last.inputs_to_outputs(outputs, d),), panels
    hidden = [layer.hidden(p.nodes(), below) for layer, p, below in zip(layers[1:], panels[1:], panels, strict=False)]
    first = layers[0].from_inputs(panels[0].nodes(), d)
    return (first, *hidden, last.to_outputs(outputs, panels[-1])), panels


def _distance(new: tuple[FloatArray, FloatArray], old: tuple[FloatArray, FloatArray], noise: FloatArray) -> float:
    """Largest move of NNGP and NTK (outputs, S, S) beyond ``noise`` (S, S), relative to sqrt(K_ii K_jj).

    Only pairs whose angles are not carried have noise; what it hides is in the error of rounding.
    """
    moves = []
    for a, b in zip(new, old, strict=True):
        diagonal = np.sqrt(np.abs(np.diagonal(a, axis1=1, axis2=2)))
        scale = diagonal[:, :, None] * diagonal[:, None, :]
        scale = np.maximum(scale, 1e-8 * scale.max(initial=0.0))
        move = np.abs(a - b) / np.where(scale > 0, scale, 1.0)
        moves.append(
            float(move[move > np.broadcast_to(noise, move.shape)].max(initial=0.0))
            if noise.any()
            else float(move.max())
        )
    return max(moves)


@dataclass
class _State:
    """The field behind a layer on the sample's pairs, over the panels that carry it; at the inputs over their atoms."""

    panels: Panels | None
    pairs: Behind
    mean: FloatArray  # (positions, inputs); no inputs in a network without drift
    noise: FloatArray  # of C relative to its scale (positions, S, S): what covariances do not know
    gammas: FloatArray | None = None  # (positions, close pairs), of the layer below the activation
    roots: FloatArray | None = None  # of C(x, x) (positions, S)


class _Refinement:
    """One forward pass over the sample that chooses every hidden layer's panels on its way."""

    def __init__(
        self, activation: Activation, layers: tuple[Layer, ...], sample: Sample, target: float, shift: int
    ) -> None:
        self.activation, self.layers, self.sample, self.target = activation, layers, sample, target
        # two ladders of orders, so that successive discretisations share no nodes
        self.orders = (6, 10, 16, 24, 34) if shift == 0 else (7, 12, 18, 27, 38)
        self.tile = Tile(0, sample.size, 0, sample.size, upper=False)
        self.drifting = any(layer.connectivity.has_drift for layer in layers)
        self.jumps = self.activation.jumps
        self.form = None if self.drifting else AngularForm.of(activation)
        self.close = sample.close
        self.noise = np.zeros((sample.size, sample.size))  # of all layers together
        self.worst = 1
        self.most = 0

    def run(self, outputs: int) -> tuple[tuple[LayerOperator, ...], tuple[Panels, ...], tuple[FloatArray, FloatArray]]:
        x = self.sample.inputs
        d = x.shape[1]
        operators, panels = [], []
        state = _State(None, atoms(x, x), x.T, np.zeros((1, self.sample.size, self.sample.size)))
        edges: FloatArray = np.linspace(0.0, 1.0, d + 1)  # where the layer below loses smoothness
        for layer in self.layers[:-1]:
            edges = _start_edges(layer, edges)
            below = state

            def operator(points: FloatArray, layer: Layer = layer, below: _State = below) -> LayerOperator:
                return layer.from_inputs(points, d) if below.panels is None else layer.hidden(points, below.panels)

            chosen = self._panels(layer, edges, operator, below)
            op = operator(chosen.nodes())
            operators.append(op)
            panels.append(chosen)
            state = self._behind(op, below, chosen)
            self.noise = self.noise + state.noise.max(axis=0)
            if chosen.size > self.most and not layer.constant_in_u:
                self.most, self.worst = chosen.size, layer.number
        last = self.layers[-1]
        op = last.inputs_to_outputs(outputs, d) if state.panels is None else last.to_outputs(outputs, state.panels)
        operators.append(op)
        kernels = self._before(op, state).state
        return tuple(operators), tuple(panels), (kernels[:, 0], kernels[:, 1])

    def _before(self, op: LayerOperator, below: _State) -> Before:
        """K and T (points, 2, S, S) of a layer."""
        loadings = op.loadings(below.mean)
        step = DenseStep.of(op, factored=False)
        return step.on_pairs(below.pairs, loadings, loadings, self.tile, Fresh()).settle()

    def _behind(self, op: LayerOperator, below: _State, panels: Panels | None = None) -> _State:
        """The field behind a layer, by the engine's own steps; close pairs by their angles, where phi allows."""
        pairs = self._before(op, below)
        points, size = len(pairs.state), self.sample.size
        variance, tangent = (np.diagonal(pairs.state[:, part], axis1=1, axis2=2) for part in (0, 1))
        mean = op.means(below.mean) if self.drifting else np.zeros((points, size))
        inputs = Field(variance, tangent, mean)
        terms = 1 if below.panels is None else below.panels.size
        step = DualStep(self.activation, points, terms, means=self.drifting).for_field(inputs)
        features = step.features(inputs, np.float64)
        noise = self._noise(pairs, variance, below) if self.activation.kinked else np.zeros((points, size, size))
        behind = step.on_pairs(pairs, features, features, self.tile, Fresh())
        first = step.first_moments(inputs) if self.drifting else np.zeros((points, 0))
        state = _State(panels, behind, first, noise)
        if self.form is not None and len(self.close[0]):
            self._by_angles(op, below, pairs, variance, state)
        return state

    def _by_angles(self, op: LayerOperator, below: _State, pairs: Before, variance: FloatArray, state: _State) -> None:
        """Close pairs of a state, in place."""
        assert self.form is not None
        i, j = self.close
        roots = np.sqrt(np.maximum(np.diagonal(state.pairs.state[:, 0], axis1=1, axis2=2), 0.0))
        if below.gammas is None or below.roots is None:
            gaps, opposite = first_gaps(op, self.sample.inputs, i, j)
        else:
            gaps = gaps_above(op, below.roots, np.sqrt(np.maximum(variance, 0.0)), below.gammas, i, j)
            opposite = np.zeros_like(gaps)
        state.gammas, dots = self.form.duals(gaps, opposite)
        second = roots[:, i] * roots[:, j] * (1.0 - state.gammas)
        tangent = dots * pairs.state[:, 1, i, j]
        for a, b in ((i, j), (j, i)):
            state.pairs.state[:, 0, a, b], state.pairs.state[:, 1, a, b] = second, tangent
            state.noise[:, a, b] = 0.0
        state.roots = roots

    def _noise(self, pairs: Before, variance: FloatArray, below: _State) -> FloatArray:
        """What a kinked phi makes of the rounding of covariances: an angle theta is known to eps / sin theta.

        Where phi jumps, C itself is as rough as the angle, and hands its noise on to the layer above.
        """
        scale = np.sqrt(np.maximum(variance[:, :, None] * variance[:, None, :], 0.0))
        rho = np.divide(pairs.state[:, 0], scale, out=np.zeros_like(scale), where=scale > 0)
        square = np.maximum(1.0 - rho * rho, EPS)
        rounding = _ROUNDING * EPS + (below.noise.max(axis=0) if self.jumps else 0.0)
        noise = np.minimum(rounding / np.sqrt(square), 1.0)
        inputs = np.arange(self.sample.size)
        noise[:, inputs, inputs] = 0.0
        return noise

    def _panels(self, layer: Layer, edges: FloatArray, operator: _Rows, below: _State) -> Panels:
        if layer.constant_in_u:
            return Panels.constant(layer.u_edges)
        pending: list[_Piece] = [(a, b, 0) for a, b in pairwise(edges)]
        done: list[_Settled] = []
        scale = np.zeros((2, self.sample.size))
        while pending:
            met: _Met = {}
            settled = self._settled(layer, pending, len(done), operator, below, scale, met)
            seen = self._seen(settled, met, operator, below, scale)
            done += [panel for panel, good in zip(settled, seen, strict=True) if good]
            pending = [
                half
                for (a, b, _, _, depth), good in zip(settled, seen, strict=True)
                if not good
                for half in _halves(a, b, depth)
            ]
        table = np.array(sorted(panel[:4] for panel in done))
        orders, kinds = table[:, 2:].astype(np.intp).T
        return Panels(table[:, 0], table[:, 1], orders, kinds)

    def _settled(
        self,
        layer: Layer,
        pending: list[_Piece],
        before: int,
        operator: _Rows,
        below: _State,
        scale: FloatArray,
        met: _Met,
    ) -> list[_Settled]:
        """Panels on the pieces that are resolved at their nodes; ``before`` of the layer stand already."""
        done: list[_Settled] = []
        low, mid, high = self.orders[:2], self.orders[1:3], self.orders[3:]
        while pending:
            if before + len(done) + len(pending) > _PANELS:
                raise QuadratureError(
                    f"layer {layer.number}: more than {_PANELS} panels are needed near u={pending[0][0]:.6g}; the "
                    "graphon is too rough in u there. Declare its breaks (u_edges, diagonal=True) or loosen rtol."
                )
            # orders and maps are tried in order of their cost; what none resolves is halved
            stages = [(PLAIN, m) for m in (*low, self.orders[2])]
            stages += [(kind, m) for m in mid for kind in (LEFT, RIGHT)]
            stages += [(PLAIN, m) for m in high]
            promising = np.ones(len(pending), dtype=bool)
            for kind, m in stages:
                if not pending:
                    break
                if kind == PLAIN and m in high:
                    trial = [piece for piece, good in zip(pending, promising, strict=True) if good]
                else:
                    trial = pending
                if not trial:
                    continue
                tails = self._tails(trial, kind, m, operator, below, scale, met)
                lengths = np.array([b - a for a, b, _ in trial])
                fine = tails * lengths <= self.target
                settled = {piece for piece, good in zip(trial, fine, strict=True) if good}
                done += [(a, b, m, kind, depth) for a, b, depth in settled]
                if kind == PLAIN and m == self.orders[2]:
                    promising = tails * lengths <= 1e-4
                keep = [piece not in settled for piece in pending]
                promising = promising[keep]
                pending = [piece for piece, kept in zip(pending, keep, strict=True) if kept]
            halves: list[_Piece] = []
            for a, b, depth in pending:
                if depth >= _DEPTH or b - a < MERGED:
                    done.append((a, b, low[0], PLAIN, _DEPTH))
                else:
                    halves += _halves(a, b, depth)
            pending = halves
        return done

    def _seen(
        self, settled: list[_Settled], met: _Met, operator: _Rows, below: _State, scale: FloatArray
    ) -> list[bool]:
        """Whether panels hold beside their nodes: at their ends, beyond the outermost nodes, and at two more points.

        A misfit is weighed by the length of the gap between nodes that it stands for.
        """
        watched = [panel for panel in settled if panel[1] - panel[0] >= _LEAST and panel[4] < _DEPTH]
        if not watched:
            return [True] * len(settled)
        points = [_beside(a, b) for a, b, *_ in watched]
        state = self._behind(operator(np.concatenate(points)), below)
        beside = (state.pairs.state[:, 0], state.pairs.state[:, 1], state.mean)
        inverse = self._inverse(scale, state.mean.shape[1])
        count = len(points[0])
        bad = set()
        for index, (panel, at) in enumerate(zip(watched, points, strict=True)):
            a, b, m, kind, _ = panel
            rows = slice(index * count, (index + 1) * count)
            basis = lagrange(m, local(at, np.asarray(a), np.asarray(b), kind))
            gaps = _gaps(at, place(gauss(m)[0], a, b, kind))[:, None]
            fine = True
            for part, (values, nodes) in enumerate(zip(beside, met[a, b], strict=True)):
                misfit = np.abs(basis @ nodes - values[rows].reshape(count, -1)) * inverse[part]
                if part == 1 or (part == 0 and self.jumps):
                    misfit[misfit <= state.noise[rows].reshape(count, -1)] = 0.0
                fine = fine and bool((misfit * gaps <= self.target).all())
            if not fine:
                bad.add(panel)
        return [panel not in bad for panel in settled]

    def _inverse(self, scale: FloatArray, means: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What C, Cdot T and m of every pair are measured by, inverted; 0 where there is nothing."""
        first, second = (np.outer(root, root).ravel() for root in np.sqrt(scale))
        bounds = (first, second, np.sqrt(scale[0])[:means])  # m, on the scale of sqrt(C)
        one, two, three = (np.divide(1.0, b, out=np.zeros_like(b), where=b > 0) for b in bounds)
        return one, two, three

    def _tails(
        self,
        pieces: list[_Piece],
        kind: int,
        m: int,
        operator: _Rows,
        below: _State,
        scale: FloatArray,
        met: _Met,
    ) -> FloatArray:
        """For each panel, the last Legendre coefficients of C, Cdot T and m, each pair relative to its inputs' scale.

        The scale of an input is the largest of its own (coincident) values met in the layer so far.
        """
        s, _ = gauss(m)
        points = np.concatenate([place(s, a, b, kind) for a, b, _ in pieces])
        state = self._behind(operator(points), below)
        values_of = [
            values.reshape(len(pieces), m, -1)
            for values in (state.pairs.state[:, 0], state.pairs.state[:, 1], state.mean)
        ]
        met.update({(a, b): [values[i] for values in values_of] for i, (a, b, _) in enumerate(pieces)})
        noise = state.noise.reshape(len(pieces), m, -1).max(axis=1)[:, None, :]  # a panel's coefficients know no better
        transform = legendre_transform(m)[-2:]
        for index in range(2):
            coincident = np.abs(values_of[index][:, :, :: self.sample.size + 1]).max(axis=(0, 1), initial=0.0)
            scale[index] = np.maximum(scale[index], coincident)
        worst = np.zeros(len(pieces))
        for index, (values, inverse) in enumerate(
            zip(values_of, self._inverse(scale, state.mean.shape[1]), strict=True)
        ):
            coefficients = np.einsum("cm,kmp->kcp", transform, values)
            tails = np.abs(coefficients) * inverse
            if index == 1 or (index == 0 and self.jumps):
                tails[tails <= noise] = 0.0
            worst = np.maximum(worst, tails.max(axis=(1, 2), initial=0.0))
        return worst


def _halves(a: float, b: float, depth: int) -> list[_Piece]:
    middle = 0.5 * (a + b)
    return [(a, middle, depth + 1), (middle, b, depth + 1)]


def _beside(a: float, b: float) -> FloatArray:
    """Where a panel is looked at beside its nodes."""
    off = max(_END * (b - a), _OFF)
    return np.array([a + off, *(a + share * (b - a) for share in _BESIDE), b - off])


def _gaps(points: FloatArray, nodes: FloatArray) -> FloatArray:
    """The way from every point to the node nearest to it."""
    gaps: FloatArray = np.abs(points[:, None] - nodes).min(axis=1)
    return gaps


def _start_edges(layer: Layer, below: FloatArray) -> FloatArray:
    """Where the state of ``layer`` can lose smoothness in u, given where the layer below does."""
    edges = [layer.u_edges]
    for graphon in layer.graphons:
        edges.append(graphon.marks(of_v=False))
        if graphon.creased:
            lines = merged_edges(np.concatenate([below, graphon.v_breaks, graphon.marks(of_v=True)]))
            edges.append(_finite(graphon.T.creases(lines)))
            edges.append(births(graphon.curves))
    return merged_edges(np.concatenate(edges))


def _finite(values: FloatArray) -> FloatArray:
    flat = values.ravel()
    return flat[np.isfinite(flat)]


def check_problem(network: Network, x: FloatArray, x2: FloatArray | None, rtol: float) -> None:
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    if x2 is not None and x2.shape[1] != x.shape[1]:
        raise InputError(f"x2: expected {x.shape[1]} inputs like x, got shape {x2.shape}.")
    if not 1e-14 <= float(rtol) < 1:
        raise InputError(f"rtol: expected a tolerance between 1e-14 and 1, got {rtol!r}.")
    if network.parameterization == "standard":
        assert network.widths is not None
        if network.widths[0] != x.shape[1]:
            raise NetworkError(
                f"widths: n_0 must equal the number of inputs, got n_0 = {network.widths[0]} and d = {x.shape[1]}."
            )
    largest = float(np.abs(x).max(initial=0.0))
    if x2 is not None:
        largest = max(largest, float(np.abs(x2).max(initial=0.0)))
    if largest > 1e100:
        raise InputError(f"x: values up to {largest:.3g} overflow when squared; rescale the inputs.")
    for rows in (x,) if x2 is None else (x, x2):
        sizes = np.abs(rows).max(axis=1)
        smallest = float(sizes.min(where=sizes > 0, initial=1.0))
        if smallest < 1e-100:
            raise InputError(f"x: an input no larger than {smallest:.3g} underflows when squared; rescale the inputs.")
