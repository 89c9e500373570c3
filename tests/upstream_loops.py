"""The recursion of THEORY §10 and its way back with the channel upstream, in plain loops: an oracle for the engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from graphon_theory.arrays import FloatArray
from graphon_theory.networks.network import Network
from graphon_theory.pruning.saliency_networks import Labels

_TINY = 1e-24  # variance from which a unit counts as sure
_RANK = 1e-10  # of the largest singular value


@dataclass(frozen=True)
class Forward:
    """What comes up one weight layer to an input itself, and goes on: arrays (positions, inputs).

    ``features``: C below the layer; ``slope``: Cdot of its units, which for ReLU is E[phi'] too.
    """

    mask: FloatArray
    variance: FloatArray
    features: FloatArray
    slope: FloatArray


def forward_layers(network: Network, x: FloatArray) -> list[Forward]:
    """The recursion of THEORY §10 in plain arrays, for a bias-free ReLU network of ``saliency_network`` and (x, x)."""
    features, means, found = x.T**2, x.T, []
    for number, (layer, sigma) in enumerate(zip(network.layers, network.weight_variance, strict=True)):
        mask, variance, drift = (np.asarray(g.values) for g in (layer.mask, layer.variance, layer.drift))  # type: ignore[attr-defined]
        senders = mask.shape[1]
        mu = np.sqrt(sigma) * drift @ means / senders
        k = sigma * variance @ features / senders
        if number == 0:
            k -= sigma * drift**2 @ features / senders**2
        if layer.known is not None:
            for profile in layer.known.profiles:
                k -= sigma * (np.asarray(profile.values) @ means / senders) ** 2  # type: ignore[attr-defined]
        root = np.sqrt(np.maximum(k, _TINY))
        share, density = ndtr(mu / root), np.exp(-((mu / root) ** 2) / 2) / np.sqrt(2 * np.pi)
        found.append(Forward(mask, variance, features, share))
        features, means = (mu**2 + root**2) * share + mu * root * density, mu * share + root * density
    return found


def traces(network: Network, labels: Labels, x: FloatArray, *, channel: bool) -> FloatArray:
    """Traces of NTK_l over the inputs, meaned over outputs, by weight layer; with or without the channel upstream.

    With Gamma_s(u) the orthonormal modes of the gradients above and d_v the coordinates of unit v's own gradient in
    them, hidden layers below the last get

        B^l(v) / Cdot^l(v) = sigma_w^2 int V(u,v) B^{l+1}(u) du + nu_v^2 - sum_s l_vs^2,
        l_vs = sigma_w int V(u,v) Gamma_s(u) j_u du,    nu_v = sum_s d_vs l_vs,    j_u = E[phi'(h_u)] nu_u,

    from nu_v = sigma_w m w_ov at the last one, at each input with itself.
    """
    layers, sigmas = forward_layers(network, x), network.weight_variance
    outputs, inputs = len(layers[-1].mask), len(x)
    own = [sigma * f.mask @ f.features / f.mask.shape[1] for f, sigma in zip(layers, sigmas, strict=True)]
    found = np.empty(len(layers))
    found[-1] = own[-1].sum() / outputs
    last = layers[-1]
    back = np.repeat(sigmas[-1] * last.variance.T[:, :, None], inputs, 2)  # (units, outputs, inputs)
    nu = np.repeat(np.sqrt(sigmas[-1]) * (last.mask * labels.back[-1]).T[:, :, None], inputs, 2)
    for number in range(len(layers) - 2, -1, -1):
        slope = layers[number].slope[:, None]
        back, mean = slope * back, slope * nu
        units = len(back)
        found[number] = (back * own[number][:, None]).sum() / (units * outputs)
        if number == 0:
            break
        variance, sigma = layers[number].variance, sigmas[number]
        flat, through = mean.reshape(units, -1), variance.T @ back.reshape(units, -1)
        back = sigma * through.reshape(-1, outputs, inputs) / units
        nu = np.zeros_like(back)
        if channel:
            modes, sizes, _ = np.linalg.svd(labels.gradients[number], full_matrices=False)
            modes = modes[:, sizes > _RANK * sizes[0]]
            coordinates = labels.back[number - 1].T @ modes
            scale = np.sqrt(sigma / units)
            for v, d in enumerate(coordinates):
                shares = scale * (variance[:, v, None] * modes).T @ flat
                nu[v] = (d @ shares).reshape(outputs, inputs)
                back[v] += nu[v] ** 2 - (shares**2).sum(0).reshape(outputs, inputs)
    return found
