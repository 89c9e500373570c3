"""Traces of networks of single units by sums over these, in plain arrays: an oracle for the engine (THEORY §10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network


@dataclass(frozen=True)
class Traces:
    """NTK_l(x, x) by layer, summed over inputs and meaned over outputs, and the sum of f^2."""

    layers: FloatArray
    square: float


class _Layer:
    """E[m], E[m w] and E[m w^2] (receiving, sending), and what sums of weights are known by."""

    def __init__(self, layer: Connectivity) -> None:
        def values(graphon: Any) -> FloatArray:
            found: FloatArray = np.asarray(graphon.values)
            return found

        self.kept, self.square = values(layer.mask), values(layer.variance)
        senders, receivers = self.kept.shape[1], len(self.kept)
        self.mean = values(layer.drift) / np.sqrt(senders)
        self.forward = self.backward = np.zeros((0, *self.kept.shape))
        if layer.known is not None and layer.known.returning is not None:
            h = values(layer.known.returning)
            self.forward = np.array([values(one) for one in layer.known.profiles]) / np.sqrt(senders)
            self.backward = np.array([h * values(one) for one in layer.known.gradients]) / np.sqrt(receivers)


def unit_traces(network: Network, x: FloatArray) -> Traces:
    """Sums over units, one weight at a time: var(m w) = E[m w^2] - E[m w]^2, covariances -sum_r G_r G_r'.

        mu_u = s sum_v E[m w] a_v,   K_u = s^2 (sum_v E[m w^2] C_v - (E[m w]^2 - G^2) a_v^2 - |sum_v G a_v|^2)

    and likewise on the way back. Bias-free; of a network that ``positions="units"`` made.
    """
    layers = [_Layer(layer) for layer in network.layers]
    scales = [np.sqrt(v / layer.kept.shape[1]) for v, layer in zip(network.weight_variance, layers, strict=True)]
    mean, second, kept, slopes = x.T, x.T**2, [], []
    for number, (layer, s) in enumerate(zip(layers, scales, strict=True)):
        kept.append(s**2 * layer.kept @ second)
        mu = s * layer.mean @ mean
        own = layer.square @ second - (layer.mean**2 - (layer.forward**2).sum(0)) @ mean**2
        k = s**2 * (own - ((layer.forward @ mean) ** 2).sum(0))
        if number == len(layers) - 1:
            break
        k = np.maximum(k, 0.0) if number else np.zeros_like(k)  # all of the first layer is known
        activation = network.activations[number]
        duals = activation.prepared(float(np.abs(mu).max()), float(k.max()))
        mean, (second, square) = duals.mean(mu, k), duals.diagonal(mu, k)
        slopes.append((duals.slopes(mu, k)[5].reshape(mu.shape), square))
    found = np.zeros((len(layers[-1].kept), len(layers)))
    for output, row in enumerate(found):
        row[-1] = kept[-1][output].sum()
        nu = scales[-1] * np.repeat(layers[-1].mean[output][:, None], x.shape[0], 1)
        back = nu**2
        for number in range(len(layers) - 2, -1, -1):
            slope, square = slopes[number]
            j, passed = slope * nu, square * back
            row[number] = (kept[number] * passed).sum()
            layer, s = layers[number], scales[number]
            nu = s * layer.mean.T @ j
            own = layer.square.T @ passed - (layer.mean**2 - (layer.backward**2).sum(0)).T @ j**2
            back = nu**2 + s**2 * (own - ((layer.backward.transpose(0, 2, 1) @ j) ** 2).sum(0))
    return Traces(found.mean(0), float((mu**2 + k).sum()))
