"""Networks pruned once by a saliency that data feed, in the limit of width (THEORY §10).

The rule keeps w where |w| |Q(u,v)| is large, Q(u,v) = sum_b g_u(b) a_v(b) over a batch, g the gradients of the loss at
the pre-activations (SNIP). What a unit does on the batch, (h_u, g_u), is its label, and labels are the positions: they
are drawn from the dense network, and integrals over positions are means over the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    as_generator,
    as_inputs,
    one_of,
    real_array,
    share_kept,
    whole_number,
    whole_numbers,
)
from graphon_theory.data.labels import by_rows, refuse_other_labels, samples_of
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import ConnectivityError, InputError, NetworkError, shown
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity, Known
from graphon_theory.networks.network import Network
from graphon_theory.pruning.laws import solve_threshold
from graphon_theory.pruning.single_units import leading_modes, output_errors, pruned_units
from graphon_theory.pruning.weight_laws import Normal

_LAW = Normal()
_LOSSES = ("cross_entropy", "squared")
_NEVER = 12.0  # deviations that one in 10^32 weights exceeds; of products of such shares no number is left


@dataclass(frozen=True)
class _Units:
    """Units drawn for one weight layer, with what they receive: features are (sending, batch), signals (units, batch).

    Weights and biases are standard normal and belong to drawn senders; ``modes`` are the leading orthonormal
    combinations of senders and the bias that signals on the batch are made of.
    """

    features: FloatArray
    weights: FloatArray
    biases: FloatArray | None
    signals: FloatArray
    modes: FloatArray  # (sending + 1, r); the last row belongs to the bias; none in the first layer

    @property
    def coordinates(self) -> FloatArray:
        """c (units, r): standard normal, since the modes are orthonormal."""
        known = self.weights @ self.modes[:-1]
        return known if self.biases is None else known + np.outer(self.biases, self.modes[-1])


@dataclass(frozen=True)
class Labels:
    """What is drawn before anything is pruned, and what positions are known by.

    ``units`` by weight layer, the gradients of the loss at what they receive (units, batch), and ``back``: the weights
    (receiving, sending) of every layer beyond the first that these came back through.
    """

    units: list[_Units]
    gradients: list[FloatArray]
    back: list[FloatArray]


def saliency_network(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    density: float,
    widths: Sequence[int],
    *,
    loss: str = "cross_entropy",
    positions: int | Literal["units"] = 512,
    modes: int | None = None,
    rng: np.random.Generator | int = 0,
) -> Network:
    """The limit of a dense network pruned once by |w dL/dw| on a batch: SNIP, one threshold for all layers.

        t(u,v) = tau sqrt(n_{l-1}) / (sigma_w |Q(u,v)|),   Q(u,v) = sum_b g_u(b) a_v(b),
        W = 2 Phi(-t),   V = 2 [t phi(t) + Phi(-t)],   D(u,v) = V(u,v) sum_r c_r(u) F_r(v),
        sum_l n_l n_{l-1} mean(W_l) = density sum_l n_l n_{l-1},

    with positions drawn: ``positions`` units per hidden layer, each with the signal h and the gradient g of a unit of
    the wide dense network on the batch (h Gaussian given the features below, g = phi'(h) times a Gaussian given the
    gradients above, independent of h). F_1..F_r are the leading orthonormal modes of the features, c(u) the unit's
    coordinates in them; knowing c moves the mean of a weight by F.c / sqrt(n) and takes F F' / n out of the weights'
    covariance (:class:`Known`). Inputs and outputs are few, so that a position carries its unit's own weights from the
    inputs, and to the outputs: these make up h and g, and there W and V are the mask and the squares themselves.
    Biases are not pruned; they count among what h is made of.

    Args:
        network: the dense network: all masks 1, NTK parameterization, any activation, biases and outputs.
        x: the batch (N, d) that is pruned on.
        y: labels (N,), whole numbers from 0, for "cross_entropy"; targets (N, outputs) for "squared", the loss
            1/(2N) sum (f - y)^2.
        density: share of all weights kept.
        widths: all unit counts (n_0, ..., n_L): scores of inputs and outputs are sqrt(n) larger than hidden ones, so
            that those layers stay denser, the more so the wider the network.
        loss: "cross_entropy" or "squared".
        positions: units drawn per hidden layer. The kernel's error falls like positions^(-1/2). "units": those of one
            dense network of these widths, whose law of masks given the labels is then taken at its own width, with no
            limit (below). A kernel of these is one network's, and means over seeds are theirs; time and memory grow
            like n^2 r. Without biases.
        modes: r, the same in every layer. Coordinates beyond them are treated as unknown, which makes the kernel too
            small: its trace by a fifth with 10 modes on centred digits, where features take some 95 modes for 98% of
            their mean square, and not visibly on raw ones (30). Left out, each layer has as many as that share takes.
        rng: a Generator or a seed. It draws the labels, and with them the outputs f of the dense network, on which the
            gradients depend: two seeds are two networks.

    Returns a Network for :func:`limit_kernel`; its means are not zero. Batch inputs may be evaluated like any others.

    When it fails: labels move the means of weights by order sqrt(q / n), q the modes of features and gradients (some
    200 for a batch of 200 digits), and the limit has only their first order: traces of networks with n near q t^2 or
    less exceed it, by a third at density .03 and n = 512 with four hidden layers. ``positions="units"`` has them: given
    the labels a weight between hidden layers is N(beta, s^2), and W = E[m], V = E[m w^2], D = sqrt(n) E[m w] are its
    moments beyond +-t, with what single weights are known by beside sums (:class:`Known`, ``senders``); within 10% at
    512 and 1,024 where it was measured (docs/results.md). The limit's gradients are taken to be independent of the
    weights they pass (off by about sqrt(outputs / width)). A score with another normalisation than |w dL/dw| needs
    another rule.

    Raises NetworkError for a network that is not dense or ``widths`` that do not fit, InputError for data that do not
    fit, ConnectivityError for a density outside (0, 1], or one that units without any signal on the batch (scores of
    0) put out of reach.
    """
    if not isinstance(positions, str):
        return labelled_network(network, x, y, density, widths, loss=loss, positions=positions, modes=modes, rng=rng)[0]
    one_of("positions", positions, ("units",))
    inputs, counts, targets = _read(network, x, y, density, widths, loss, modes)
    if any(variance > 0 for variance in network.bias_variances):
        raise NetworkError(
            'positions: "units" is derived for networks without biases; give the network bias_variance=0, or a number '
            "of positions."
        )
    if network.depth < 3:
        raise NetworkError(
            'positions: "units" needs at least two hidden layers: with fewer all weights are told by their units, and '
            "masks are those of one network; pass a number of positions."
        )
    each = 3 * (modes or min(len(inputs), max(counts))) + 8  # with the engine's copies
    tables = 8.0 * each * sum(a * b for a, b in pairwise(counts[1:-1]))
    refuse_beyond_memory("widths", tables, "tables of single units", "take fewer modes, or a number of positions")
    generator = as_generator(rng)
    weights = [generator.standard_normal((n_out, n_in)) for n_in, n_out in pairwise(counts)]
    return pruned_units(network, weights, inputs, targets, float(density), loss=loss, modes=modes)


def labelled_network(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    density: float,
    widths: Sequence[int],
    *,
    loss: str = "cross_entropy",
    positions: int = 512,
    modes: int | None = None,
    rng: np.random.Generator | int = 0,
) -> tuple[Network, Labels]:
    """:func:`saliency_network`, and the labels that its positions stand for."""
    inputs, counts, targets = _read(network, x, y, density, widths, loss, modes)
    whole_number("positions", positions)
    refuse_beyond_memory("positions", 64.0 * positions**2, f"tables of {positions:,} positions", "take fewer")
    generator = as_generator(rng)
    layers = _forward(network, inputs, counts, positions, modes, generator)
    gradients, back = _backward(network, layers, targets, loss, counts, generator)
    products = [np.abs(g @ layer.features.T) for g, layer in zip(gradients, layers, strict=True)]
    scores = [
        np.sqrt(variance / n_in) * product
        for product, variance, n_in in zip(products, network.weight_variance, counts, strict=False)
    ]
    sizes = [n_in * n_out for n_in, n_out in pairwise(counts)]

    def kept(tau: float) -> float:
        shares = (_LAW.survival(_thresholds(tau, score)).mean() for score in scores)
        return float(sum(size * share for size, share in zip(sizes, shares, strict=True)) / sum(sizes))

    if density == 1:  # what has no signal is kept as well
        thresholds = [np.zeros_like(score) for score in scores]
    else:
        tau = solve_threshold(kept, float(density))
        thresholds = [_thresholds(tau, score) for score in scores]
    pruned = [_from_inputs(layers[0], thresholds[0])]
    for number, (layer, t) in enumerate(zip(layers[1:], thresholds[1:], strict=True), 2):
        if number < network.depth:
            above = leading_modes(gradients[number - 1], modes)
            returning = np.sqrt(len(above)) * above, back[number - 2].T @ above
            pruned.append(_between(layer, _LAW.survival(t), _LAW.second_moment(t), returning))
        else:
            to_outputs = back[-1]
            mask = np.abs(to_outputs) > t
            kept_squares = np.where(mask, to_outputs**2, 0.0)
            inverse = np.divide(1.0, to_outputs, out=np.zeros_like(to_outputs), where=mask)
            returning = np.sqrt(len(mask)) * np.eye(len(mask)), inverse.T
            pruned.append(_between(layer, mask.astype(float), kept_squares, returning, to_outputs**2))
    return network.with_layers(pruned), Labels(layers, gradients, back)


def _read(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    density: float,
    widths: Sequence[int],
    loss: str,
    modes: int | None,
) -> tuple[FloatArray, tuple[int, ...], FloatArray]:
    """Inputs (N, d), all unit counts, and targets (outputs, N)."""
    if isinstance(network, Network):
        network.ask_plain("positions are told by the signals of one layer, and gates by the next")
    inputs = as_inputs(x, "x")
    counts = _checked(network, widths, inputs.shape[1], density, modes)
    targets = _targets(y, loss, len(inputs), network.outputs)
    refuse_other_labels(samples_of(y, "y"), samples_of(x), "rows")
    return inputs, counts, targets


def _forward(
    network: Network,
    x: FloatArray,
    counts: tuple[int, ...],
    positions: int,
    modes: int | None,
    rng: np.random.Generator,
) -> list[_Units]:
    """Units of every layer, drawn one layer after the other."""
    layers = []
    features = np.ascontiguousarray(x.T)
    for number, variance in enumerate(network.weight_variance, 1):
        units = counts[-1] if number == network.depth else positions
        sending = len(features)
        weights = rng.standard_normal((units, sending))
        bias = network.bias_variances[number - 1]
        biases = rng.standard_normal(units) if bias > 0 else None
        # signal = (weights, bias) @ parts
        parts = np.vstack([np.sqrt(variance / sending) * features, np.full(len(x), np.sqrt(bias))])
        signals = weights @ parts[:-1]
        if biases is not None:
            signals += biases[:, None] * parts[-1]
        layers.append(_Units(features, weights, biases, signals, leading_modes(parts, modes if number > 1 else 0)))
        if number < network.depth:
            features = network.activations[number - 1](signals)
    return layers


def _backward(
    network: Network,
    layers: list[_Units],
    targets: FloatArray,
    loss: str,
    counts: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Gradients of the loss at the pre-activations (units, batch) of every layer, on the scale of the real widths.

    And the weights (receiving, sending) of every layer beyond the first that these came back through. Those to the
    outputs are the ones that made the outputs, with signs of their own, so that gradients do not depend on the signs of
    features, as in the limit.
    """
    gradients = [output_errors(layers[-1].signals, targets, loss)]
    back = []
    for number in range(network.depth - 1, 0, -1):  # weight layers whose units are hidden, from the last
        above = gradients[-1]
        signals = layers[number - 1].signals
        scale = np.sqrt(network.weight_variance[number] * counts[number + 1] / (counts[number] * len(above)))
        weights = rng.standard_normal((len(above), len(signals)))
        if number == network.depth - 1:
            weights = np.abs(layers[-1].weights) * np.sign(weights)
        back.append(weights)
        slopes = network.activations[number - 1].derivative(signals)
        gradients.append(slopes * (scale * weights.T @ above))
    return gradients[::-1], back[::-1]


def _thresholds(tau: float, scores: FloatArray) -> FloatArray:
    """t = tau / score, infinite where the score is 0 or no connection of any network would pass."""
    with np.errstate(over="ignore"):
        found = np.divide(tau, scores, out=np.full_like(scores, np.inf), where=scores > 0)
    found[found > _NEVER] = np.inf
    return found


def _from_inputs(layer: _Units, thresholds: FloatArray) -> Connectivity:
    """The first layer: every position carries its unit's surviving weights and its bias."""
    mask = np.abs(layer.weights) > thresholds
    kept = np.where(mask, layer.weights, 0.0)
    drift = np.sqrt(mask.shape[1]) * kept
    known = None if layer.biases is None else Known([0.0], [1.0], StepGraphon(layer.biases[:, None]))
    return Connectivity(StepGraphon(mask.astype(float)), StepGraphon(kept**2), StepGraphon(drift), known=known)


def _between(
    layer: _Units,
    w: FloatArray,
    v: FloatArray,
    returning: tuple[FloatArray, FloatArray],
    squares: FloatArray | None = None,
) -> Connectivity:
    """A layer between drawn units, from W and V given the labels of both ends.

    ``returning``: modes of the gradients at the units (units, q), and the senders' coordinates in them (senders, q).

    ``squares`` of the dense weights, where labels tell them: modes and coordinates are then made orthonormal under
    these instead of their mean 1, so that what they explain stays below V whatever was drawn.
    """
    senders, units = len(layer.features), len(layer.weights)
    modes = np.broadcast_to(np.sqrt(senders) * layer.modes[:-1], (units, senders, layer.modes.shape[1]))
    shares = np.broadcast_to(layer.modes[-1], (units, modes.shape[2]))
    coordinates = layer.coordinates
    if squares is not None:
        gram = np.einsum("uvr,uv,uvs->urs", modes, squares, modes) / senders + shares[:, :, None] * shares[:, None, :]
        values, vectors = np.linalg.eigh(gram)
        turn = (vectors / np.sqrt(values)[:, None, :]) @ vectors.transpose(0, 2, 1)
        modes, shares = modes @ turn, (shares[:, None, :] @ turn)[:, 0]
        coordinates = np.einsum("us,usr->ur", coordinates, turn)
    drift = v * np.einsum("ur,uvr->uv", coordinates, modes)
    profiles = [StepGraphon(v * modes[:, :, r]) for r in range(modes.shape[2])]
    above = [StepGraphon(mode[:, None]) for mode in returning[0].T]
    sent = [StepGraphon(share[None]) for share in returning[1].T]
    if layer.biases is None:
        known = Known(profiles, gradients=above, coordinates=sent)
    else:
        mean = np.einsum("ur,ur->u", coordinates, shares)
        of_bias = [StepGraphon(share[:, None]) for share in shares.T], StepGraphon(mean[:, None])
        known = Known(profiles, *of_bias, above, sent)
    return Connectivity(StepGraphon(w), StepGraphon(v), StepGraphon(drift), known=known)


def _checked(
    network: Network, widths: Sequence[int], inputs: int, density: float, modes: int | None
) -> tuple[int, ...]:
    """All unit counts (n_0, ..., n_L) of a dense network."""
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    for number, layer in enumerate(network.layers, 1):
        if layer != Connectivity(1.0):
            raise NetworkError(
                f"network: expected a dense network, but layer {number} is {layer!r}; saliency is measured before "
                "anything is pruned, so give every layer the mask 1.0."
            )
    if network.parameterization != "ntk":
        raise NetworkError(
            'network: expected parameterization="ntk"; scores |w dL/dw| are the same in both, so build the network '
            "with it and compare kernels in its units."
        )
    expected = f"{network.depth + 1} unit counts (n_0, ..., n_{network.depth})"
    expected += f" from {inputs} inputs to {network.outputs} outputs"
    counts = whole_numbers("widths", widths, error=NetworkError, expected=expected)
    if len(counts) != network.depth + 1 or (counts[0], counts[-1]) != (inputs, network.outputs):
        raise NetworkError(f"widths: expected {expected}, got {shown(widths)}.")
    share_kept("density", density, error=ConnectivityError)
    if modes is not None:
        whole_number("modes", modes)
    return counts


def _targets(y: ArrayLike, loss: str, count: int, outputs: int) -> FloatArray:
    """Targets (outputs, N): indicators of the labels, or the targets themselves."""
    values = real_array("y", by_rows(y), expected="labels or targets")
    one_of("loss", loss, _LOSSES)
    if loss == "squared":
        columns = values[:, None] if values.ndim == 1 and outputs == 1 else values
        if columns.shape != (count, outputs) or not np.isfinite(columns).all():
            raise InputError(
                f"y: expected finite targets of shape ({count}, {outputs}), got {values.dtype} of shape {values.shape}."
            )
        return np.ascontiguousarray(columns.T, dtype=float)
    if outputs < 2:
        raise InputError('loss: cross-entropy needs at least two outputs, the network has one; use loss="squared".')
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise InputError(f"y: expected {count} labels, whole numbers, got {values.dtype} of shape {values.shape}.")
    if values.min() < 0 or values.max() >= outputs:
        raise InputError(f"y: expected labels from 0 to {outputs - 1}, got {values.min()} to {values.max()}.")
    return (np.arange(outputs)[:, None] == values).astype(float)
