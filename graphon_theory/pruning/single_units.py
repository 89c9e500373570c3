"""Networks pruned once by a saliency, given what their units do on the batch: at their own width (THEORY §10).

Given the labels of one dense network of width n, signals and gradients on the batch, a weight between hidden layers is
Gaussian, with mean beta and deviation s, and survives where |w| > t. Positions are the units of that network, and W, V
and D the moments of a normal law beyond its threshold: no limit of width is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, softmax

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import ConnectivityError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity, Known
from graphon_theory.networks.network import Network

_LEAST = 0.03  # deviation of a weight that labels tell nearly all of
_MOST = 1e3  # thresholds beyond are passed by no weight
_NONE = 1e-32  # a share of connections that no network has one of
_SHARE = 0.98  # of the mean square of the features that the known modes cover


def pruned_units(
    network: Network,
    weights: Sequence[FloatArray],
    x: FloatArray,
    targets: FloatArray,
    density: float,
    *,
    loss: str,
    modes: int | None = None,
) -> Network:
    """The network pruned by |w dL/dw|, given the labels of the dense network with these weights.

    At least two hidden layers, no biases. ``weights`` (receiving, sending), standard normal; ``x`` (N, d); ``targets``
    (outputs, N). The first layer's weights are their units' labels, and those to the outputs their senders', so that
    masks there are as they are.
    """
    scales = [np.sqrt(v / w.shape[1]) for v, w in zip(network.weight_variance, weights, strict=True)]
    features, gradients = _labels(network, weights, scales, x, targets, loss)
    thresholds = _thresholds(weights, scales, features, gradients, density)
    inner = zip(weights[1:-1], thresholds[1:-1], features[1:-1], gradients[1:-1], strict=True)
    between = [_between(*layer, modes) for layer in inner]
    first, last = _from_inputs(weights[0], thresholds[0]), _to_outputs(weights[-1], thresholds[-1])
    return network.with_layers([first, *between, last])


def _labels(
    network: Network,
    weights: Sequence[FloatArray],
    scales: Sequence[float],
    x: FloatArray,
    targets: FloatArray,
    loss: str,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """What every layer of weights is sent on the batch (sending, N), and the gradients of the loss at its receivers."""
    features, signals = [np.ascontiguousarray(x.T)], []
    for number, (w, scale) in enumerate(zip(weights, scales, strict=True)):
        signals.append(scale * w @ features[-1])
        if number < len(weights) - 1:
            features.append(network.activations[number](signals[-1]))
    gradients = [output_errors(signals[-1], targets, loss)]
    for number in range(len(weights) - 1, 0, -1):
        slopes = network.activations[number - 1].derivative(signals[number - 1])
        gradients.insert(0, slopes * (scales[number] * weights[number].T @ gradients[0]))
    return features, gradients


def output_errors(outputs: FloatArray, targets: FloatArray, loss: str) -> FloatArray:
    """dL/df of the mean over the batch, (outputs, N)."""
    errors = (softmax(outputs, axis=0) if loss == "cross_entropy" else outputs) - targets
    found: FloatArray = errors / errors.shape[1]
    return found


def _thresholds(
    weights: Sequence[FloatArray],
    scales: Sequence[float],
    features: Sequence[FloatArray],
    gradients: Sequence[FloatArray],
    density: float,
) -> list[FloatArray]:
    """The |w| from which on connections are kept, when this network's best are."""
    products = [s * np.abs(g @ a.T) for s, g, a in zip(scales, gradients, features, strict=True)]
    scores = np.concatenate([(np.abs(w) * q).ravel() for w, q in zip(weights, products, strict=True)])
    rank = max(1, round(density * len(scores)))
    least = np.partition(scores, -rank)[-rank]
    if density == 1:  # what has no signal is kept as well
        return [np.zeros_like(q) for q in products]
    if least == 0:
        raise ConnectivityError(
            f"density: {density:.6g} cannot be reached, since only {(scores > 0).mean():.6g} of the connections have a "
            "score above 0; lower the density, or prune on other inputs."
        )
    return [np.divide(least, q, out=np.full_like(q, np.inf), where=q > 0) for q in products]


def _from_inputs(weights: FloatArray, thresholds: FloatArray) -> Connectivity:
    kept = np.where(np.abs(weights) >= thresholds, weights, 0.0)
    mask, drift = (kept != 0).astype(float), np.sqrt(kept.shape[1]) * kept
    return Connectivity(StepGraphon(mask), StepGraphon(kept**2), StepGraphon(drift))


def _to_outputs(weights: FloatArray, thresholds: FloatArray) -> Connectivity:
    kept = np.where(np.abs(weights) >= thresholds, weights, 0.0)
    outputs, senders = kept.shape
    inverse = np.divide(1.0, kept, out=np.zeros_like(kept), where=kept != 0)
    known = Known(
        [],
        gradients=[StepGraphon(np.sqrt(outputs) * one[:, None]) for one in np.eye(outputs)],
        coordinates=[StepGraphon(row[None]) for row in inverse],
        senders=senders,
    )
    mask, drift = (kept != 0).astype(float), np.sqrt(senders) * kept
    return Connectivity(StepGraphon(mask), StepGraphon(kept**2), StepGraphon(drift), known=known)


def _between(
    weights: FloatArray, thresholds: FloatArray, features: FloatArray, gradients: FloatArray, modes: int | None
) -> Connectivity:
    """w u = F.c and w' Gamma = d are known: w has the mean P_F w + P_Gamma w - P_Gamma w P_F, P the projections, and
    the variance (1 - |F(v)|^2 / n)(1 - |Gamma(u)|^2 / n)."""
    below, above = leading_modes(features, modes), leading_modes(gradients, modes)
    by_features = (weights @ below) @ below.T
    mean = by_features + above @ (above.T @ (weights - by_features))
    left = np.sqrt(np.maximum(1 - (below**2).sum(1), _LEAST**2))
    left_above = np.sqrt(np.maximum(1 - (above**2).sum(1), _LEAST**2))[:, None]
    deviation = left * left_above
    kept, first, second = surviving_moments(mean, deviation, np.minimum(thresholds, _MOST))
    slope = (second - mean * first) / deviation**2  # d E[m w] / d mean
    none = (kept < _NONE) | (second <= 0)
    kept, first, second, slope = (np.where(none, 0.0, one) for one in (kept, first, second, slope))
    receivers, senders = weights.shape
    known = Known(
        [StepGraphon(slope * left_above * mode) for mode in np.sqrt(senders) * below.T],
        gradients=[StepGraphon(mode[:, None]) for mode in np.sqrt(receivers) * above.T],
        senders=senders,
        returning=StepGraphon(slope * left),
    )
    drift = StepGraphon(np.sqrt(senders) * first)
    return Connectivity(StepGraphon(np.minimum(kept, 1.0)), StepGraphon(second), drift, known=known)


def surviving_moments(
    mean: FloatArray, deviation: FloatArray, threshold: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """E[m], E[m w] and E[m w^2] of w ~ N(mean, deviation^2) with m = 1 where |w| > threshold."""
    upper, lower = (threshold - mean) / deviation, (threshold + mean) / deviation
    above, below = ndtr(-upper), ndtr(-lower)
    at_upper, at_lower = (np.exp(-0.5 * np.minimum(z * z, 1400.0)) / np.sqrt(2 * np.pi) for z in (upper, lower))
    ends = deviation * (threshold * (at_upper + at_lower) + mean * (at_upper - at_lower))
    kept = above + below
    return kept, mean * kept + deviation * (at_upper - at_lower), (mean**2 + deviation**2) * kept + ends


def leading_modes(parts: FloatArray, modes: int | None = None) -> FloatArray:
    """The leading left singular vectors (rows of parts, r): ``modes`` of them, or enough for _SHARE of the squares."""
    if modes == 0:
        return np.empty((len(parts), 0))
    largest = float(np.abs(parts).max(initial=0.0))
    parts = parts / (largest or 1.0)  # squares of what is left are numbers
    if parts.shape[1] > len(parts):
        squares, vectors = np.linalg.eigh(parts @ parts.T)
        squares, vectors = np.maximum(squares[::-1], 0.0), vectors[:, ::-1]
    else:
        vectors, values, _ = np.linalg.svd(parts, full_matrices=False)
        squares = values**2
    rank = max(1, int((squares > squares[0] * len(parts) * np.finfo(float).eps).sum()))
    enough = 1 + int(np.searchsorted(np.cumsum(squares), _SHARE * squares.sum())) if modes is None else modes
    return np.ascontiguousarray(vectors[:, : min(enough, rank)])
