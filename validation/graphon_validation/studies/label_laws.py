"""SNIP-pruned networks given the labels of their units, at their own width (THEORY §10).

A label is what a unit does on the batch that is pruned on: its signals h and the gradients g that come back to it.
Given the labels of a drawn dense network every weight between hidden layers is Gaussian, and whether it survives is a
threshold on its size: no limit of width is taken for the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, softmax

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import FloatArray
from graphon_theory.pruning.saliency_networks import leading_modes
from graphon_validation.training.losses import Data

_LEAST = 0.03  # deviation of a weight that labels tell nearly all of


@dataclass(frozen=True)
class Told:
    """A layer between hidden ones, what labels of both ends tell of its weights.

    ``kept``: E[m], ``mean``: E[m w], ``square``: E[m w^2], each (receiving, sending). Two surviving weights of one
    receiver have the covariance -sum_r G_r G_r' / n with G_r = ``forward`` F_r, F_r(v) the modes of the features; two
    of one sender -sum_s H_s H_s' / n with H_s = ``backward`` Gamma_s, Gamma_s(u) the modes of the gradients.
    """

    kept: FloatArray
    mean: FloatArray
    square: FloatArray
    forward: FloatArray
    backward: FloatArray
    features: FloatArray  # (sending, r)
    gradients: FloatArray  # (receiving, q)


@dataclass(frozen=True)
class Traces:
    """Means over drawn masks: NTK_l(x, x) by layer, summed over inputs and meaned over outputs, and sums of f^2."""

    layers: FloatArray
    square: float


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


def told_by_labels(weights: FloatArray, thresholds: FloatArray, features: FloatArray, gradients: FloatArray) -> Told:
    """What labels tell of the weights (receiving, sending) of one layer, standard normal before they are known.

    ``features`` (sending, batch) of the senders and ``gradients`` (receiving, batch) make the labels, to 98% of their
    mean squares: w u = F.c and w' Gamma = d are known, so that w is Gaussian with the mean P_F w + P_Gamma w -
    P_Gamma w P_F, P the projections, and the variance (1 - |F(v)|^2 / n)(1 - |Gamma(u)|^2 / n).
    """
    below, above = leading_modes(features), leading_modes(gradients)
    by_features = (weights @ below) @ below.T
    by_gradients = above @ (above.T @ (weights - by_features))
    left = np.sqrt(np.maximum(1 - (below**2).sum(1), _LEAST**2))
    left_above = np.sqrt(np.maximum(1 - (above**2).sum(1), _LEAST**2))[:, None]
    mean, deviation = by_features + by_gradients, left * left_above
    kept, first, second = surviving_moments(mean, deviation, np.minimum(thresholds, 1e3))
    slope = (second - mean * first) / deviation**2  # d E[m w] / d mean
    n_in, n_out = len(below), len(above)
    return Told(kept, first, second, slope * left_above, slope * left, np.sqrt(n_in) * below, np.sqrt(n_out) * above)


def label_traces(
    weights: Sequence[FloatArray],
    activation: Activation,
    variance: float,
    batch: Data,
    density: float,
    probe: FloatArray,
    loss: str,
) -> Traces:
    """Means of the tangent kernel's traces over the networks that share the labels of this dense one, pruned by SNIP.

    Bias-free in NTK parameterization; ``weights`` (receiving, sending) are standard normal, ``variance`` is sigma_w^2.
    The first layer's weights are their units' labels, and those to the outputs their senders', so that masks there are
    as they are. Between them, with sums over units,

        mu_u = s_n sum_v E[m w] a_v,   K_u = s_n^2 (sum_v E[m w^2] C_v - E[m w]^2 a_v^2 + G^2 a_v^2) - |L_u|^2

    and likewise on the way back, E[m w]' for nu and H for what the means of gradients leave. Signals are Gaussian given
    labels, which asks for many connections a unit.
    """
    x, y = batch
    scales = [np.sqrt(variance / w.shape[1]) for w in weights]
    features, signals = [np.ascontiguousarray(x.T)], []
    for w, scale in zip(weights, scales, strict=True):
        signals.append(scale * w @ features[-1])
        features.append(activation(signals[-1]))
    targets = np.eye(len(weights[-1]))[y].T if y.ndim == 1 else y.T
    outputs = signals[-1]
    gradients = [((softmax(outputs, axis=0) if loss == "cross_entropy" else outputs) - targets) / len(x)]
    for w, scale, h in zip(weights[:0:-1], scales[:0:-1], signals[-2::-1], strict=True):
        gradients.insert(0, activation.derivative(h) * (scale * w.T @ gradients[0]))
    products = [s * np.abs(g @ a.T) for s, g, a in zip(scales, gradients, features, strict=False)]
    scores = np.concatenate([(np.abs(w) * q).ravel() for w, q in zip(weights, products, strict=True)])
    rank = max(1, round(density * len(scores)))
    least = np.partition(scores, -rank)[-rank]
    never = np.inf if least > 0 else 0.0  # what has no signal is kept where all that has is
    thresholds = [np.divide(least, q, out=np.full_like(q, never), where=q > 0) for q in products]
    first, last = (w * (np.abs(w) >= t) for w, t in ((weights[k], thresholds[k]) for k in (0, -1)))
    between = zip(weights[1:-1], thresholds[1:-1], features[1:-2], gradients[1:-1], strict=True)
    told = [told_by_labels(*one) for one in between]
    return _Signals(probe.T, first, last, told, activation, variance).traces()


class _Signals:
    """Signals and gradients of some inputs, given labels: means and second moments."""

    def __init__(
        self,
        x: FloatArray,
        first: FloatArray,
        last: FloatArray,
        told: Sequence[Told],
        activation: Activation,
        variance: float,
    ) -> None:
        self.x, self.first, self.last, self.told, self.variance = x, first, last, told, variance
        h = np.sqrt(variance / len(x)) * first @ x
        mean, second = activation(h), activation(h) ** 2
        self.kept = [(first != 0) @ x**2 * (variance / len(x))]  # sum_v m a_v^2 sigma^2 / n, by layer
        slopes = [(activation.derivative(h), activation.derivative(h) ** 2)]
        for layer in told:
            share = variance / len(mean)
            self.kept.append(share * layer.kept @ second)
            mu = np.sqrt(share) * layer.mean @ mean
            own = layer.square @ second + (self._leverage(layer.forward, layer.features) - layer.mean**2) @ mean**2
            known = np.einsum("uv,vr,vi->uri", layer.forward, layer.features, mean, optimize=True) / len(mean) ** 0.5
            k = np.maximum(share * (own - (known**2).sum(1)), 1e-12 * (mu**2).max())
            duals = activation.prepared(float(np.abs(mu).max()), float(k.max()))
            mean = duals.mean(mu, k)
            second, square = duals.diagonal(mu, k)
            slopes.append((duals.slopes(mu, k)[5].reshape(mu.shape), square))
        self.kept.append(variance / len(mean) * (last != 0) @ second)
        self.slopes, self.end = slopes, (mean, second)

    @staticmethod
    def _leverage(slope: FloatArray, modes: FloatArray) -> FloatArray:
        """G(u,v)^2 = sum_r G_r^2 / n, what the covariances would take out of the variance of one weight."""
        found: FloatArray = slope**2 * ((modes**2).sum(1) / len(modes))
        return found

    def traces(self) -> Traces:
        outputs, count = len(self.last), self.x.shape[1]
        mean, second = self.end
        share = self.variance / len(mean)
        square = share * ((self.last @ mean) ** 2 + self.last**2 @ (second - mean**2)).sum()
        found = np.zeros((outputs, len(self.told) + 2))
        for output in range(outputs):
            found[output, -1] = self.kept[-1][output].sum()
            nu = np.sqrt(share) * np.repeat(self.last[output][:, None], count, 1)
            back = nu**2
            for number in range(len(self.told), -1, -1):
                slope, squared = self.slopes[number]
                j, passed = slope * nu, squared * back
                found[output, number] = (self.kept[number] * passed).sum()
                if number:
                    nu, back = self._below(self.told[number - 1], j, passed)
        return Traces(found.mean(0), float(square))

    def _below(self, layer: Told, j: FloatArray, passed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and second moment of what comes back through a layer, from those at its receivers."""
        share = self.variance / layer.mean.shape[1]
        nu = np.sqrt(share) * layer.mean.T @ j
        own = layer.square.T @ passed
        own += (self._leverage(layer.backward.T, layer.gradients).T - layer.mean**2).T @ j**2
        known = np.empty_like(own)
        for i in range(j.shape[1]):
            known[:, i] = (((layer.backward * j[:, i, None]).T @ layer.gradients) ** 2).sum(1) / len(j)
        return nu, nu**2 + share * (own - known)
