"""transfer: variances and learning rates that carry one network's training over to another (THEORY §13)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import positive_number
from graphon_theory.engine.adjoint import layer_contributions
from graphon_theory.engine.discretisation import discretise, layers_of
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.threads import single_threaded_blas
from graphon_theory.errors import NetworkError
from graphon_theory.networks.network import Network
from graphon_theory.numerics.quadratures import Panels
from graphon_theory.signals.block_maps import Moments, step_at, step_to_outputs
from graphon_theory.values import Record

_RTOL = 1e-10


@dataclass(frozen=True, eq=False)
class Transfer(Record):
    """What :func:`transfer` returns.

    ``network``, with the weight variances to draw by; ``learning_rate`` (L,), the factors on the reference's learning
    rate, one a weight layer; ``variance`` (L,): the factors on sigma_w^2.
    """

    network: Network
    learning_rate: FloatArray
    variance: FloatArray


def transfer(network: Network, reference: Network, q: float = 1.0) -> Transfer:
    """Weight variances and learning-rate factors per layer under which ``network`` trains as ``reference`` does.

    First sigma_w^2 of every layer, so that the mean of K^l over its positions is the reference's for inputs of mean
    square ``q``. Then gradient descent with the rate eta r_l in layer l learns with the kernel sum_l r_l NTK_l, where

        r_l = NTK_l(reference) / NTK_l(network)

    at such an input. With signals kept, NTK_l of a law that is the same at all positions is W / V of the dense one: r_l
    is 1 for random masks, whose variances become 1/density times the dense ones, and V / W for magnitude masks (3.249
    at density 0.2), for which 1/density would be that many times too much in every layer. Where laws differ between
    positions the kernels' shapes differ too, which no factor mends.

    Raises NetworkError for networks of unequal depth, with drift or shortcuts, or where a layer lets nothing through.
    """
    mean_square = positive_number("q", q)
    for name, one in (("network", network), ("reference", reference)):
        if not isinstance(one, Network):
            raise NetworkError(f"{name}: expected a Network, got {type(one).__name__}; wrap layers in gt.Network.")
        if one.has_drift or not one.is_plain:
            raise NetworkError(f"{name}: rates are carried over without drift and shortcuts; leave them out.")
    if network.depth != reference.depth:
        raise NetworkError(
            f"reference: expected {network.depth} weight layers, as the network has, got {reference.depth}."
        )
    with single_threaded_blas():
        wanted = _variances(reference, mean_square)
        matched = _matched(network, wanted, mean_square)
        shares = [_shares(one, mean_square) for one in (reference, matched)]
    if not (shares[1] > 0).all():
        raise NetworkError(f"network: layer {int(np.argmin(shares[1])) + 1} learns nothing; give it connections.")
    factors = np.array(matched.weight_variance) / np.array(network.weight_variance)
    return Transfer(matched, shares[0] / shares[1], factors)


def _input(q: float) -> FloatArray:
    return np.full((1, 1), math.sqrt(q))


def _means(network: Network, q: float) -> list[tuple[float, float]]:
    """Mean of K^l over the positions of every layer less its biases, and sigma_b^2, at the network's own variances."""
    grid = discretise(network, _input(q), _RTOL)
    out, signal = [], np.array([q])
    below: Panels | None = None
    for number, layer in enumerate(layers_of(network)):
        mean: LayerOperator = step_to_outputs(layer, 1, below).operator
        bias = network.bias_variances[number]
        out.append((float((mean.variance @ signal)[0]), bias))
        if number == network.depth - 1:
            break
        here = grid.panels[number]
        k = step_at(layer, here.nodes(), below).operator.variance @ signal + bias
        signal, below = Moments(network.activations[number])(k)[0], here
    return out


def _variances(network: Network, q: float) -> list[float]:
    return [mean + bias for mean, bias in _means(network, q)]


def _matched(network: Network, wanted: list[float], q: float) -> Network:
    """The network with weight variances under which the mean variances of signals are the wanted ones."""
    for number, goal in enumerate(wanted):
        mean, bias = _means(network, q)[number]
        if not mean > 0 or not goal > bias:
            what = "no signal passes it" if not mean > 0 else f"biases alone exceed the variance {goal:.4g} to be kept"
            raise NetworkError(f"network: layer {number + 1}: {what}.")
        sigmas = list(network.weight_variance)
        sigmas[number] *= (goal - bias) / mean
        network = network.changed(weight_variance=sigmas)
    return network


def _shares(network: Network, q: float) -> FloatArray:
    """NTK_l of every layer at one input, mean over the outputs."""
    x = _input(q)
    grid = discretise(network, x, _RTOL)
    recursion = Recursion(grid.operators, network.outline, x, weights=grid.weights)
    return layer_contributions(recursion, x, None).mean(axis=(1, 2, 3))
