"""balanced: the weight variances that a sparse network should be given (THEORY §3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.discretisation import discretise, layers_of
from graphon_theory.engine.steps import Field
from graphon_theory.errors import ClosedFormError, NetworkError, shown
from graphon_theory.exact.exact_graphons import exact_degrees
from graphon_theory.exact.profiles import tidy
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.graphon import Graphon, StepGraphon
from graphon_theory.graphons.scaled import RowScaled
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Weights
from graphon_theory.numerics.quadratures import Panels
from graphon_theory.signals.block_maps import (
    SMALL,
    blocks,
    branch_ends,
    branch_radius,
    passed,
    spectral_radius,
    step_to_outputs,
    still,
)
from graphon_theory.signals.variance_maps import Repeated, checked
from graphon_theory.values import Record


def balanced(network: Network, q: float = 1.0, *, by: str = "layer", goal: str = "variance") -> Network:
    """The network with the weight variances that a sparse network should be given.

    ``by="layer"``: one sigma_w^2 per layer. With ``goal="variance"`` the mean of K^l(u) over the positions is 1 in
    every layer, outputs included (a layer that comes back to a shortcut keeps that of its own signals, so the sum grows
    by s^2 a branch); with ``goal="chi"`` every layer between hidden ones has chi = 1 if repeated (the
    first and the last keep their mean variance 1). A residual block has chi = 1 + s^2 chi_branch, which no weights make
    1: there the branch gets chi_branch = 1 at the variances that arrive, by its last layer, and all other layers keep
    their mean variance 1.

    ``by="position"``: V^l(u, v) becomes V^l(u, v) g^l(u) with

        g^l(u) = (1 - sigma_b^2) / (sigma_w^2 int V^l(u, v) E[phi^2 at K^{l-1}(v)] dv),

    so that K^l(u) = 1 at every position; draw the weights of receiver u with variance g^l(u) times the old one. A
    receiver without connections stays dead. Then chi = (1 - sigma_b^2) E[phi'^2] / E[phi^2] at variance 1, which is 1
    for ReLU without biases. With shortcuts it is what each layer adds that has variance 1 at every position, so that
    positions of a stream stay alike: n blocks leave 1 + s^2 n.

    ``q``: mean square of the inputs.

    Raises NetworkError for drift, for sigma_b^2 >= 1 with the goal "variance", for a layer that lets nothing through,
    and for a goal that cannot be met: chi of a network with LayerNorm and no shortcut, where what repeats is no layer
    but a layer and its normalisation, and of a branch whose last layer is followed by more than its shortcut.
    """
    q = checked(network, q)
    words = isinstance(by, str) and isinstance(goal, str)
    if not words or by not in ("layer", "position") or goal not in ("variance", "chi"):
        raise NetworkError(
            f'by, goal: expected "layer" or "position" and "variance" or "chi", got {shown(by)} and {shown(goal)}.'
        )
    if max(network.bias_variances) >= 1:
        raise NetworkError(
            f"bias_variance: {max(network.bias_variances):g} alone exceeds the variance 1 that the layers are to keep; "
            "lower it below 1."
        )
    if by == "position":
        if goal == "chi":
            raise NetworkError('goal: by="position" keeps variances at 1; chi = 1 is a matter of by="layer".')
        return _by_position(network, q)
    if goal == "chi" and not network.is_plain and not blocks(network.outline):
        raise NetworkError(
            'goal: "chi" is a matter of layers and activations by turns, or of residual blocks, that are repeated, and '
            "the network has neither; keep the variance (goal='variance')."
        )
    return _by_layer(network, q, goal)


def _by_layer(network: Network, q: float, goal: str) -> Network:
    # the panels of the balanced network: its variances are of order one, so one round of refinement follows them
    for _ in range(2):
        network = network.changed(weight_variance=_balanced_variances(network, q, goal))
    return network


def _balanced_variances(network: Network, q: float, goal: str) -> tuple[float, ...]:
    """sigma_w^2 of every layer, from the inputs on: each for the signals that the balanced layers below it send."""
    one = np.full((1, 1), math.sqrt(q))
    grid, layers = discretise(network, one, 1e-10), layers_of(network)
    sigmas: list[float] = []
    field, weights = Field.of_inputs(one), grid.weights
    stages = not network.is_plain
    ends = branch_ends(network.outline) if stages and goal == "chi" else {}
    for index, part in enumerate(network.outline):
        if isinstance(part, Weights):
            layer, below = layers[part.number - 1], grid.places[part.source]
            bias, old = layer.scales.bias, layer.scales.variance
            mean = float(step_to_outputs(layer, 1, below).operator.variance[0] @ field.second[:, 0]) / old
            if not mean > 0:
                raise NetworkError(f"layer {part.number}: no signal passes it, whatever its weight variance.")
            if goal == "variance" or part.number in (1, network.depth) or (stages and part.number not in ends):
                sigma = (1 - bias) / mean
            elif stages:
                gains = np.array([*sigmas, old]) / network.weight_variance[: part.number]
                sigma = old / branch_radius(network.outline, ends[part.number], grid, gains, field.saved[0].second)
            else:
                sigma = _critical_variance(network, part.number - 1)
            sigmas.append(sigma)
            if part.number < network.depth:
                rows = grid.operators[part.number - 1].variance @ field.second
                field = still(sigma / old * rows + bias, field)
        else:
            field = passed(network.outline, index, field, weights)
    return tuple(sigmas)


def _critical_variance(network: Network, index: int) -> float:
    """sigma_w^2 of layer ``index`` + 1 at which chi of the repeated layer is 1."""
    one = Repeated.of(network, index, 1e-10, lambda panels: panels)
    sigma = network.weight_variance[index]
    bare = replace(one, matrix=one.matrix / sigma)
    if one.moments.linear is not None:
        return 1 / (one.moments.linear * spectral_radius(bare.matrix))
    scale = 1 / spectral_radius(bare.matrix * one.moments(np.ones(len(one.matrix)))[1])

    def excess(log_sigma: float) -> float:
        trial = replace(bare, matrix=math.exp(log_sigma) * bare.matrix)
        k = trial.fixed_point()
        if k is None:
            return 1.0
        return spectral_radius(trial.matrix * trial.moments(np.maximum(k, SMALL))[1]) - 1

    low, high = math.log(scale / 16), math.log(scale * 16)
    if not excess(low) < 0 < excess(high):
        raise NetworkError(
            f"layer {index + 1}: chi does not cross 1 for weight variances from {math.exp(low):.3g} to "
            f"{math.exp(high):.3g}; keep the variance instead (goal='variance')."
        )
    return math.exp(brentq(excess, low, high, xtol=1e-13))


def _by_position(network: Network, q: float) -> Network:
    """Rows rescaled to variance 1, layer by layer; fields are constant on the blocks of every layer of units.

    Only blocks without connections, which hear their bias alone, differ from the others.
    """
    edges = _edges_of_places(network)
    weights = tuple(map(np.diff, edges))
    field, layers = Field.of_inputs(np.full((1, 1), math.sqrt(q))), []
    for index, part in enumerate(network.outline):
        if not isinstance(part, Weights):
            field = passed(network.outline, index, field, weights)
            continue
        layer, bias = network.layers[part.number - 1], network.bias_variances[part.number - 1]
        target = (1 - bias) / network.weight_variance[part.number - 1]
        sent, below, variance = field.second[:, 0], edges[part.source], layer.variance
        if (sent == sent[0]).all():
            sent, below = sent[:1], np.array([0.0, 1.0])
        alive = np.ones(len(weights[part.place]), dtype=bool)
        if isinstance(variance, StepGraphon):
            middles = (variance.u_edges[:-1] + variance.u_edges[1:]) / 2
            reach = variance.row_integrals(middles, Panels.constant(below)) @ sent
            if not (reach > 0).any():
                raise NetworkError(f"layer {part.number}: no signal passes it, whatever its weight variance.")
            gains = np.divide(target, reach, out=np.zeros_like(reach), where=reach > 0)
            # what cannot be raised keeps its own variance: consistency asks for V > 0 wherever W > 0
            gains = np.where(reach > 0, gains, 1.0)
            scaled: Graphon = StepGraphon(variance.values * gains[:, None], variance.u_edges, variance.v_edges)
            here = edges[part.place]
            alive = reach[np.searchsorted(variance.u_edges, (here[:-1] + here[1:]) / 2) - 1] > 0
        else:
            scaled = _rescaled(variance, below, sent, target, part.number)
        layers.append(Connectivity(layer.mask, scaled))
        field = still(np.where(alive, 1.0, bias)[:, None], field)
    return network.changed(layers=tuple(layers))


def _edges_of_places(network: Network) -> tuple[FloatArray, ...]:
    """Of the blocks of every layer of units: those in which the step graphons that lead there are constant in u."""
    found = [np.array([0.0, 1.0])]
    for part in network.outline:
        if isinstance(part, Weights):
            found += [found[0]] * (part.place + 1 - len(found))
            variance = network.layers[part.number - 1].variance
            if isinstance(variance, StepGraphon):
                found[part.place] = np.union1d(found[part.place], variance.u_edges)
    return tuple(found)


def _rescaled(variance: Graphon, edges: FloatArray, sent: FloatArray, target: float, number: int) -> Graphon:
    """V(u, v) target / reach(u), as a formula where the degree is one."""
    if len(sent) == 1 and isinstance(variance, AnalyticGraphon):
        try:
            degree = exact_degrees(variance, 1)
            formula = AnalyticGraphon(tidy(variance.expr / degree) * (target / float(sent[0])))
            formula.extremes()  # finite everywhere, which a quotient need not be
            return formula
        except (ClosedFormError, ValueError):
            pass
    return RowScaled(variance, _Gain(variance, edges, sent, target, number))


@dataclass(frozen=True, eq=False)
class _Gain(Record):
    """target / reach(u), ``sent`` on blocks of senders with ``edges``."""

    variance: Graphon
    edges: FloatArray
    sent: FloatArray
    target: float
    number: int

    def __call__(self, u: FloatArray) -> FloatArray:
        distinct, which = np.unique(u.ravel(), return_inverse=True)
        found = self.variance.row_integrals(distinct, Panels.constant(self.edges)) @ self.sent
        if not (found > 0).all():
            raise NetworkError(
                f"layer {self.number}: receivers near u={distinct[int(np.argmin(found))]:.6g} hear nothing; a smooth "
                "graphon that vanishes there cannot be balanced by position. Write it as a StepGraphon."
            )
        return np.asarray((self.target / found)[which].reshape(u.shape))
