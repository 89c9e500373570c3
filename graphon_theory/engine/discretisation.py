"""Choosing the nodes: every hidden layer's panels are refined until the recursion on sample pairs is resolved.

How rough the *next* graphon is does not matter for a layer's nodes: its operator is a product integral (THEORY §5).
Which panels a layer of units gets is chosen in ``panel_choices``, from fields that ``probes`` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.data.checks import checked_rtol
from graphon_theory.engine.neighbours import Neighbours
from graphon_theory.engine.operators import Arrivals, Layer, LayerOperator, Scales
from graphon_theory.engine.panel_choices import PanelChoice, start_edges
from graphon_theory.engine.probes import Points, Probe, Probes, Reader, remembered
from graphon_theory.engine.samples import Sample
from graphon_theory.errors import InputError, NetworkError, QuadratureError
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Fork, Join, Norm, Outline, Phi, Weights
from graphon_theory.numerics.quadratures import Panels, merged_edges

FLOOR = 64 * EPS  # least error estimate, per layer
_LOOKED_AT = (np.arange(9) + 0.5) / 9  # positions at which close inputs are looked for
_ROUNDS = 5  # sharper and sharper discretisations before giving up
_KEPT = 10_000_000  # entries of operators that are kept for layers that repeat them
_SHARED = 3  # walks at most in which a layer of units finds the panels that all its readers share


@dataclass(frozen=True)
class Discretisation:
    """Operator matrices of every weight layer, the panels of every layer of units, and the error they leave."""

    operators: tuple[LayerOperator, ...]
    places: tuple[Panels | None, ...]  # of every layer of units; None at inputs and outputs
    outline: Outline
    error: float  # relative to sqrt(K_ii K_jj)

    @property
    def panels(self) -> tuple[Panels, ...]:
        """Of every weight layer's receivers, but for the outputs; layers that share their units share them."""
        found = (self.places[part.place] for part in self.outline if isinstance(part, Weights))
        return tuple(panels for panels in found if panels is not None)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of every weight layer's receivers, but for the outputs."""
        return tuple(p.size for p in self.panels)

    @property
    def weights(self) -> tuple[FloatArray | None, ...]:
        """Of the nodes of every layer of units that a LayerNorm averages over, None for the others."""
        asked = {part.place for part in self.outline if isinstance(part, Norm)}
        return tuple(p.weights() if p is not None and units in asked else None for units, p in enumerate(self.places))


def layers_of(network: Network) -> tuple[Layer, ...]:
    widths = network.widths if network.parameterization == "standard" else (None,) * network.depth
    assert widths is not None  # Network checks it
    scales = zip(network.weight_variance, network.bias_variances, widths, network.trained_bias_variances, strict=True)
    return tuple(
        Layer(connectivity, Scales.of(*scale), number)
        for number, (connectivity, scale) in enumerate(zip(network.layers, scales, strict=True), 1)
    )


def arrivals(outline: Outline, layers: tuple[Layer, ...]) -> dict[int, Arrivals]:
    """Of every layer of units but the inputs, the outputs last."""
    found: dict[int, list[Layer]] = {}
    for part in outline:
        if isinstance(part, Weights):
            found.setdefault(part.place, []).append(layers[part.number - 1])
    return {units: Arrivals(tuple(several)) for units, several in found.items()}


def operator_of(layer: Layer, below: Panels | None, points: Points, d: int) -> LayerOperator:
    """A layer from the panels below (None: from d inputs) to receiving points, or to so many outputs."""
    if isinstance(points, int):
        return layer.inputs_to_outputs(points, d) if below is None else layer.to_outputs(points, below)
    return layer.from_inputs(points, d) if below is None else layer.hidden(points, below)


def operators_of(
    outline: Outline, layers: tuple[Layer, ...], places: Sequence[Panels | None], d: int, outputs: int
) -> tuple[LayerOperator, ...]:
    """The operators of all layers on chosen panels."""
    nodes = [outputs if panels is None else panels.nodes() for panels in places]
    return tuple(
        operator_of(layers[part.number - 1], places[part.source], nodes[part.place], d)
        for part in outline
        if isinstance(part, Weights)
    )


def discretise(network: Network, inputs: FloatArray, rtol: float) -> Discretisation:
    """Nodes and operators for ``network`` that resolve the kernel on a sample of ``inputs`` (N, d) to ``rtol``.

    The kernel of the sample is computed on two discretisations, the second sharper; their distance is the error
    estimate and the second is used. Networks that are constant in u between breaks everywhere are exact at once.

    Raises QuadratureError, naming the layer, when the distance stays above ``rtol``.
    """
    layers, outline, d = layers_of(network), network.outline, inputs.shape[1]
    *hidden, _ = arrivals(outline, layers).values()
    floor = FLOOR * network.depth
    if all(place.constant_in_u for place in hidden):
        places = (None, *(Panels.constant(place.u_edges) for place in hidden), None)
        operators = operators_of(outline, layers, places, d, network.outputs)
        return Discretisation(operators, places, outline, floor)
    first = layers[0].from_inputs(_LOOKED_AT, d)
    sample = Sample.of(inputs, Neighbours(first, inputs).closest())
    sample = replace(sample, close=_close(first, sample.inputs))
    target, previous = max(0.1 * rtol, 8 * EPS), None
    move, worst = np.inf, 1
    for attempt in range(_ROUNDS):
        refinement = _Refinement(outline, layers, sample, target, attempt % 2)
        operators, places, kernels = refinement.run(network.outputs)
        if previous is not None:
            move = _distance(kernels, previous, refinement.noise)
            worst = refinement.worst
            if move <= rtol:
                return Discretisation(operators, places, outline, max(move, floor))
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


class _Refinement:
    """Forward passes over the sample that choose every hidden layer's panels on their way.

    A layer of units that is read once gets the panels that resolve what is read. One that several read (a shortcut
    passes branches) gets those of its first reader, and then, walk by walk, those that resolve all of them.
    """

    def __init__(self, outline: Outline, layers: tuple[Layer, ...], sample: Sample, target: float, shift: int) -> None:
        self.outline, self.layers, self.sample = outline, layers, sample
        # two ladders of orders, so that successive discretisations share no nodes
        self.choice = PanelChoice(target, (6, 10, 16, 24, 34) if shift == 0 else (7, 12, 18, 27, 38))
        self.probes = Probes(outline, sample, any(layer.connectivity.has_drift for layer in layers))
        self.arrivals = arrivals(outline, layers)
        self.places: dict[int, Panels] = {}
        self.nodes: dict[int, Points] = {}
        self.made: dict[int, tuple[Points, LayerOperator]] = {}  # the last operator of every weight layer
        said = [(layer.connectivity, layer.scales) for layer in layers]
        self.alike = [said.index(one) for one in said] if any(isinstance(part, Fork) for part in outline) else []
        self.kept: dict[tuple[int, int, bytes], LayerOperator] = {}  # those of layers that are repeated

    def run(
        self, outputs: int
    ) -> tuple[tuple[LayerOperator, ...], tuple[Panels | None, ...], tuple[FloatArray, FloatArray]]:
        last = [*self.arrivals][-1]
        self.nodes[last] = outputs
        for _ in range(_SHARED):
            kernels = self._walk(last)
            if not self._shared():
                break
        parts = [part for part in self.outline if isinstance(part, Weights)]
        operators = [self._operator(part, self.nodes[part.place]) for part in parts]
        places = (None, *(self.places[units] for units in self.arrivals if units != last), None)
        return tuple(operators), places, (kernels[:, 0], kernels[:, 1])

    @property
    def worst(self) -> int:
        """The number of the weight layer that leads to the most nodes, of those that are not exact."""
        sizes = {
            self.places[units].size: arrived.number
            for units, arrived in reversed(self.arrivals.items())
            if units in self.places and not arrived.constant_in_u
        }
        return sizes[max(sizes)] if sizes else 1

    def _operator(self, part: Weights, points: Points) -> LayerOperator:
        known = self.made.get(part.number)
        if known is None or known[0] is not points:
            known = self.made[part.number] = points, self._repeated(part, points)
        return known[1]

    def _repeated(self, part: Weights, points: Points) -> LayerOperator:
        """A layer's operator; that of one that is the same, between the same panels, where it is known."""
        layer, below = self.layers[part.number - 1], self.places.get(part.source)
        d = self.sample.inputs.shape[1]
        if not self.alike or isinstance(points, int):
            return operator_of(layer, below, points, d)
        key = self.alike[part.number - 1], id(below), points.tobytes()
        found = self.kept.get(key)
        if found is None:
            if sum(op.variance.size for op in self.kept.values()) > _KEPT:
                self.kept.clear()
            found = self.kept[key] = operator_of(layer, below, points, d)
        return found

    def _walk(self, last: int) -> FloatArray:
        """K and T (outputs, 2, S, S) at the ``last`` layer of units, along all parts."""
        d = self.sample.inputs.shape[1]
        self.made.clear()
        self.noise = np.zeros((self.sample.size, self.sample.size))  # of all layers together
        self.readers: dict[int, list[Reader]] = {}
        self.edges: dict[int, FloatArray] = {0: np.linspace(0.0, 1.0, d + 1)}  # where smoothness is lost
        saved: list[Reader] = []
        inputs = self.probes.inputs()
        read: Reader = remembered(lambda _: inputs)
        for part in self.outline:
            if isinstance(part, Weights):
                below = inputs if part.source == 0 else self._at_nodes(part.source, read)
                read = self._weighted(part, below)
                edges = start_edges(self.layers[part.number - 1], self.edges[part.source])
                known = self.edges.get(part.place)
                self.edges[part.place] = edges if known is None else merged_edges(np.concatenate([known, edges]))
            elif isinstance(part, Phi):
                read = self._through(part, read)
            elif isinstance(part, Fork):
                saved.append(read)
            elif isinstance(part, Join):
                read = self._joined(saved.pop(), read, part.scale)
            else:
                read = self._normed(part, read)
        return read(self.nodes[last]).state

    def _weighted(self, part: Weights, below: Probe) -> Reader:
        return remembered(lambda points: self.probes.before(self._operator(part, points), below))

    def _through(self, part: Phi, read: Reader) -> Reader:
        return remembered(lambda points: self.probes.behind(part.activation, read(points)))

    def _joined(self, kept: Reader, branch: Reader, scale: float) -> Reader:
        return remembered(lambda points: self.probes.joined(kept(points), branch(points), scale))

    def _normed(self, part: Norm, read: Reader) -> Reader:
        below = self._at_nodes(part.place, read)
        normal = self.probes.normal(part, self.places[part.place].weights(), below)
        return remembered(lambda points: self.probes.normed(part, normal, read(points)))

    def _at_nodes(self, units: int, read: Reader) -> Probe:
        """The field where it is integrated, on panels that resolve it where it is the first that is read there."""
        self.readers.setdefault(units, []).append(read)
        if units not in self.places:
            self._settle(units, self._panels(units, [read]))
        probe = read(self.nodes[units])
        self.noise = self.noise + probe.noise.max(axis=0)
        return probe

    def _panels(self, units: int, readers: list[Reader]) -> Panels:
        return self.choice.panels(self.arrivals[units], self.edges[units], readers, self.sample.size)

    def _settle(self, units: int, panels: Panels) -> None:
        panels = next((other for other in self.places.values() if panels.same(other)), panels)
        self.places[units], self.nodes[units] = panels, panels.nodes()

    def _shared(self) -> bool:
        """Whether layers of units that several read got other panels, and all must be looked at again."""
        moved = {}
        for units, readers in self.readers.items():
            if len(readers) > 1 and not self.arrivals[units].constant_in_u:
                panels = self._panels(units, readers)
                if not panels.same(self.places[units]):
                    moved[units] = panels
        if moved:
            self.kept.clear()
            self.places.clear()  # the others are chosen anew
            for units, panels in moved.items():
                self._settle(units, panels)
        return bool(moved)


def check_problem(network: Network, x: FloatArray, x2: FloatArray | None, rtol: float) -> None:
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    if x2 is not None and x2.shape[1] != x.shape[1]:
        raise InputError(f"x2: expected {x.shape[1]} inputs like x, got shape {x2.shape}.")
    checked_rtol(rtol)
    if network.parameterization == "standard":
        assert network.widths is not None
        if network.widths[0] != x.shape[1]:
            raise NetworkError(
                f"widths: n_0 must equal the number of inputs, got n_0 = {network.widths[0]} and d = {x.shape[1]}."
            )
    every = [np.abs(rows).max(axis=1) for rows in ((x,) if x2 is None else (x, x2))]
    largest = max(float(sizes.max(initial=0.0)) for sizes in every)
    if largest > 1e100:
        raise InputError(f"x: values up to {largest:.3g} overflow when squared; rescale the inputs.")
    for sizes in every:
        smallest = float(sizes.min(where=sizes > 0, initial=1.0))
        if smallest < 1e-100:
            raise InputError(f"x: an input no larger than {smallest:.3g} underflows when squared; rescale the inputs.")
