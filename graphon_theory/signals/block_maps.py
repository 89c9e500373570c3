"""Variances along the stages of a network, and what a residual block does to them (THEORY §11)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.adjoint import Backward
from graphon_theory.engine.discretisation import Discretisation, layers_of, operators_of
from graphon_theory.engine.operators import Layer, LayerOperator
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.reductions import slopes
from graphon_theory.engine.stage_steps import ForkStep, JoinStep, NormStep, steps_of
from graphon_theory.engine.steps import Before, DenseStep, DualStep, Field, Same, Step
from graphon_theory.engine.tiles import Tile
from graphon_theory.errors import NetworkError
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Fork, Join, Norm, Outline, Phi, Weights
from graphon_theory.numerics.quadratures import Panels

SMALL = 1e-12  # of the start: a variance that stands for 0 where a derivative is taken
STENCIL = 0.03  # step in log K of the eighth-order difference
WEIGHTS = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])


class Moments:
    """E[phi^2], E[phi'^2] and dE[phi^2]/dK as functions of one variance."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        pair = slopes(activation)
        self.linear = None if pair is None else (pair[0] ** 2 + pair[1] ** 2) / 2

    def __call__(self, k: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.linear is not None:
            return self.linear * k, np.full_like(k, self.linear)
        return self.activation.duals(k, k, k)

    def derivative(self, k: FloatArray) -> FloatArray:
        """dE[phi^2]/dK by an eighth-order difference in log K, in which E[phi^2] is analytic for any phi."""
        if self.linear is not None:
            return np.full_like(k, self.linear)
        out = np.zeros_like(k)
        for step, weight in enumerate(WEIGHTS, 1):
            ratio = math.exp(STENCIL * step)
            out += weight * (self(k * ratio)[0] - self(k / ratio)[0])
        return out / (STENCIL * k)


@lru_cache(maxsize=64)
def moments_of(activation: Activation) -> Moments:
    return Moments(activation)


def step_at(layer: Layer, points: FloatArray, below: Panels | None) -> DenseStep:
    """A layer at receiving points, from the panels below or from one input that stands for all."""
    op = layer.from_inputs(points, 1) if below is None else layer.hidden(points, below)
    return DenseStep.of(op, layer.number, factored=False)


def step_to_outputs(layer: Layer, outputs: int, below: Panels | None) -> DenseStep:
    """The last layer, averaged over the cells of the outputs."""
    op = layer.inputs_to_outputs(outputs, 1) if below is None else layer.to_outputs(outputs, below)
    return DenseStep.of(op, layer.number, factored=False)


def spectral_radius(matrix: FloatArray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


# --- stages -----------------------------------------------------------------------------------------------------------


def still(variance: FloatArray, below: Field) -> Field:
    """A field of these variances about zero means, with the shortcuts that pass it."""
    return Field(variance, np.zeros_like(variance), np.zeros_like(variance), below.saved)


def passed(outline: Outline, index: int, field: Field, weights: tuple[FloatArray | None, ...]) -> Field:
    """Variances behind the part at ``index``, which holds no weights; about zero means, but where LayerNorm asks."""
    part = outline[index]
    if isinstance(part, Phi):
        if isinstance(outline[index + 1], Norm):
            return DualStep(part.activation, len(field.second), 1, means=True).for_field(field).on_inputs(field)
        return still(moments_of(part.activation)(field.second)[0], field)
    if isinstance(part, Fork):
        return ForkStep(0).on_inputs(field)
    if isinstance(part, Join):
        return JoinStep(part.scale).on_inputs(field)
    assert isinstance(part, Norm)
    over = weights[part.place]
    assert over is not None
    return NormStep(over, part.epsilon, part.before).on_inputs(field)


def blocks(outline: Outline) -> list[int]:
    """The residual blocks, not those inside others, by the numbers of their last weight layers."""
    return [_last_weights(outline, start, stop) for start, stop in _spans(outline)]


def _spans(outline: Outline) -> list[tuple[int, int]]:
    """From Fork to Join, of the outermost."""
    spans, starts = [], []
    for index, part in enumerate(outline):
        if isinstance(part, Fork):
            starts.append(index)
        elif isinstance(part, Join):
            start = starts.pop()
            if not starts:
                spans.append((start, index))
    return spans


def branch_ends(outline: Outline) -> dict[int, int]:
    """The last weight layers of residual blocks, not those inside others, and where in the outline their blocks start.

    Raises NetworkError where a branch goes on behind that layer, so that its derivatives are not in proportion to its
    weight variance.
    """
    found = {}
    for start, stop in _spans(outline):
        number = _last_weights(outline, start, stop)
        if not isinstance(outline[stop - 1], Weights):
            raise NetworkError(
                f"goal: a branch goes on behind its last layer, {number}, by a LayerNorm or a shortcut of its own, so "
                "that chi is not in proportion to its weight variance; keep the variance (goal='variance')."
            )
        found[number] = start
    return found


def branch_radius(outline: Outline, start: int, grid: Discretisation, gains: FloatArray, variance: FloatArray) -> float:
    """chi of a branch alone: what it makes of squared derivatives, at the variances (positions, 1) that arrive.

    ``start``: of its block in the outline; ``gains``: factors on the weight variances of the layers up to its last.
    """
    stop = next(stop for first, stop in _spans(outline) if first == start)
    pairs = zip(grid.operators, gains, strict=False)
    operators = tuple(replace(op, variance=gain * op.variance) for op, gain in pairs)
    operators += grid.operators[len(operators) :]
    steps = steps_of(outline, operators, grid.weights)
    branch = _Block(outline, start + 1, stop - 1, operators, grid.weights, steps)
    return spectral_radius(branch.transfer(variance))


def _last_weights(outline: Outline, start: int, stop: int) -> int:
    return [part.number for part in outline[start:stop] if isinstance(part, Weights)][-1]


def found_by_blocks(
    network: Network, q: float, points: FloatArray, places: tuple[Panels | None, ...]
) -> tuple[FloatArray, ...]:
    """variance, gradient, output variance, and of every block fixed points, Jacobian radii and chi, on given panels."""
    outline, layers = network.outline, layers_of(network)
    operators = operators_of(outline, layers, places, 1, network.outputs)
    weights = tuple(None if panels is None else panels.weights() for panels in places)
    padded = tuple(None if w is None else np.concatenate([w, np.zeros(len(points))]) for w in weights)
    one = np.full((1, 1), math.sqrt(q))
    recursion = Recursion(operators, outline, one, weights=weights)
    variance = np.empty((network.depth - 1, len(points)))
    field, number, before = Field.of_inputs(one), 0, {}  # on the nodes and, below them, at the points
    for index, part in enumerate(outline[:-1]):
        if isinstance(part, Weights):
            below, number = places[part.source], part.number
            senders = field.second[: 1 if below is None else below.size]
            here = DenseStep.of(operators[number - 1], factored=False).covariance(senders)
            field = still(np.concatenate([here, step_at(layers[number - 1], points, below).covariance(senders)]), field)
            variance[number - 1] = field.second[len(here) :, 0]
            continue
        before[index] = field.second
        field = passed(outline, index, field, padded)
        if isinstance(part, Join):
            variance[number - 1] = field.second[-len(points) :, 0]
    last = outline[-1]
    assert isinstance(last, Weights)
    senders = field.second[: operators[-1].variance.shape[1]]
    output = DenseStep.of(operators[-1], factored=False).covariance(senders)
    backward, gradient = Backward(recursion, one, one), np.zeros(network.depth)

    def visit(number: int, beta: FloatArray, below: FloatArray) -> None:
        gradient[number - 1] += beta.sum() / network.outputs

    for o in range(network.outputs):
        backward.read(o, visit)
    fixed, radii = [], []
    for start, stop in _spans(outline):
        arriving, after = before[start], variance[_last_weights(outline, start, stop) - 1]
        block = _Block(outline, start, stop, operators, weights, recursion.steps)
        at_points = arriving[-len(points) :, 0]
        fixed.append(np.where(after > at_points, np.inf, at_points))
        radii.append(block.radii(arriving[: -len(points)]))
    table = np.array(radii).reshape(len(radii), 2)
    held = np.array(fixed).reshape(len(fixed), len(points))
    return variance, gradient[:-1], np.array([output.mean()]), held, table[:, 0], table[:, 1]


@dataclass(frozen=True)
class _Block:
    """A residual block on nodes: from a Fork to its Join."""

    outline: Outline
    start: int
    stop: int
    operators: tuple[LayerOperator, ...]
    weights: tuple[FloatArray | None, ...]
    steps: tuple[Step, ...]

    def radii(self, variance: FloatArray) -> tuple[float, float]:
        """Of the variances' own map, and of what becomes of squared derivatives, at variances (positions, 1)."""
        return spectral_radius(self._jacobian(variance)), spectral_radius(self.transfer(variance))

    def _map(self, variance: FloatArray) -> FloatArray:
        """Variances (positions, N) behind the block."""
        field = still(variance, Field(variance, variance, variance))
        for index in range(self.start, self.stop + 1):
            part = self.outline[index]
            if isinstance(part, Weights):
                step = DenseStep.of(self.operators[part.number - 1], factored=False)
                field = still(step.covariance(field.second), field)
            else:
                field = passed(self.outline, index, field, self.weights)
        return field.second

    def _jacobian(self, variance: FloatArray) -> FloatArray:
        """By the eighth-order difference in log K of one position after the other."""
        least = np.maximum(variance, SMALL * max(float(variance.max()), 1e-300))
        count = len(least)
        out = np.zeros((count, count))
        for step, weight in enumerate(WEIGHTS, 1):
            ratio = math.exp(STENCIL * step)
            ends = [self._map(np.where(np.eye(count, dtype=bool), least * r, least)) for r in (ratio, 1 / ratio)]
            out += weight * (ends[0] - ends[1])
        return out / (STENCIL * least[:, 0])

    def transfer(self, variance: FloatArray) -> FloatArray:
        """What the way back makes of unit vectors (positions, positions)."""
        field = still(variance, Field(variance, variance, variance))
        tile, none = Tile(0, 1, 0, 1, upper=False), np.zeros(1, dtype=np.intp)
        state = np.zeros((len(variance), 2, 1, 1))
        state[:, 0, 0] = variance
        pairs: Any = Before(state, settled=True)
        steps, traces = self.steps[self.start : self.stop + 1], []
        for one in steps:
            step = one.for_field(field) if isinstance(one, DualStep) else one
            features = step.features(field, np.float64)
            pairs, trace = step.traced(pairs, features, features, tile, Same(none, none))
            field = step.on_inputs(field)
            traces.append(trace)
        beta = np.eye(len(variance))
        for step, trace in zip(steps[::-1], traces[::-1], strict=True):
            beta = step.back(beta, trace, lambda *_: None)
        return beta
