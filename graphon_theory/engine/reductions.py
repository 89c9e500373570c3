"""Scalar reduction: when the limit kernel is the dense one with one number per layer (THEORY §3).

    D = 0,  sigma_b = 0,  phi(t z) = t phi(z) for t > 0,  V^1(u, v) = r(u) c(v),  W^1(u, v) = q(u) c(v)

make K^l(u) = a^l(u) K^l_dense at every position, since C is homogeneous of degree 1 and Cdot of degree 0 in the
moments, and with it NTK_l = s_l NTK_l_dense, where

    a^1 = r,  a^l(u) = int V^l(u, v) a^{l-1}(v) dv,      s_l = int V^L ... V^{l+1} W^l a^{l-1}    (s_1 starts from q).

The dense network has W = V = 1 in every layer but the first, whose graphon is the profile c(v), and the same
activation, weight variances, parameterization and widths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Fork, Norm

_FAINT = 1e-250  # variance at which the dense network's signals, whose weights have variance 1, would be lost
ROUNDING = 32 * EPS  # relative distance from a product r(u) c(v) that counts as rounding


def broken_premise(network: Network) -> str | None:
    """The first premise besides the input layer's that fails: drift, biases or the activation; None if all hold."""
    for number, layer in enumerate(network.layers, 1):
        if layer.has_drift:
            return f"layer {number} carries drift D, so signals have means and no single variance scales them"
    for part in network.outline:
        if isinstance(part, Fork):
            return (
                "a residual branch adds its own correlations to those of its shortcut, in shares that differ between "
                "positions unless the rows of both have one profile"
            )
        if isinstance(part, Norm):
            return "a LayerNorm divides by the mean variance over a layer, in which no single path has a share"
    if network.has_biases:
        variances = [v for v in (*network.bias_variances, *network.trained_bias_variances) if v > 0]
        return (
            f"bias_variance is {variances[0]:g}: a bias adds the same variance at every position, which "
            "changes correlations where the signal is weak more than where it is strong"
        )
    for activation in dict.fromkeys(network.activations):
        if slopes(activation) is None:
            return (
                f"the activation {activation.name!r} is not positively homogeneous of degree 1: its dual depends "
                "on the variance, which differs between positions, and not on the correlation alone"
            )
    return None


def slopes(activation: Activation) -> tuple[float, float] | None:
    """(alpha, beta) if phi(z) is alpha z for z < 0 and beta z for z > 0, as seen at 4,400 arguments of either sign.

    They lie 0.003 apart up to 12, and from 1e-8 to 1e8 by the logarithm: a narrower feature of a callable is missed.
    """
    z = np.concatenate([np.logspace(-8, 8, 400), np.linspace(0.003, 12, 4000)])
    found = []
    for sign in (-1.0, 1.0):
        with np.errstate(all="ignore"):
            ratio = np.asarray(activation(sign * z), dtype=float) / (sign * z)
        middle = float(ratio[200])
        if not np.isfinite(ratio).all() or np.abs(ratio - middle).max() > 8 * EPS * abs(middle):
            return None
        found.append(middle)
    return found[0], found[1]


def path_integrals(
    operators: Sequence[LayerOperator], column: int = 0, gain: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """(s_l) for l = 1..L, (L, outputs), and that of the NNGP, on operator matrices; paths start at one input.

    ``gain``: E[phi^2] of a homogeneous phi at variance 1, which every hidden layer multiplies by.
    """
    first = operators[0]
    signal, paths = first.variance[:, column], [first.mask_matrix[:, column]]
    with np.errstate(over="ignore", invalid="ignore"):  # infinite where no number holds the path
        for op in operators[1:]:
            paths = [gain * (op.variance @ path) for path in paths] + [gain * (op.mask_matrix @ signal)]
            signal = gain * (op.variance @ signal)
    return np.array(paths), signal


def reduced_operators(network: Network, operators: tuple[LayerOperator, ...]) -> tuple[LayerOperator, ...] | None:
    """The same kernels with one position in every hidden layer, or None where the reduction does not hold.

    The input layer is judged by its matrices, that is by what the given inputs can tell: its rows must be multiples
    of one profile. The activation must be homogeneous by its formula: sampling a callable is no proof.
    """
    homogeneous = all(activation.homogeneous for activation in network.activations)
    if len(operators) < 2 or not homogeneous or broken_premise(network) is not None:
        return None
    gains = [float(activation.moments(*np.ones((3, 1)))[0][0]) for activation in network.activations]
    if math.fsum(math.log(max(gain, _FAINT)) for gain in gains) < math.log(_FAINT):
        return None
    first = operators[0]
    rows = np.concatenate([first.variance, first.mask_matrix])
    peak, column = np.unravel_index(int(np.argmax(first.variance)), first.variance.shape)
    profile = first.variance[peak] / max(float(first.variance[peak, column]), 1e-300)
    products = rows[:, column, None] * profile
    if (np.abs(rows - products) > ROUNDING * np.abs(products)).any():
        return None
    scalars, signal = path_integrals(operators, int(column))
    if not (signal > 0).all() or not np.isfinite(scalars).all():
        return None
    shares = scalars / signal
    if all(op.mask is None for op in operators):
        shares = np.ones_like(shares)
    elif (np.abs(shares - shares[:, :1]) > ROUNDING * shares).any():
        return None  # outputs weigh the layers differently
    middle = [(np.ones((1, 1)), np.ones((1, 1))) for _ in operators[1:-1]]
    matrices = [(profile[None], profile[None]), *middle, (signal[:, None], signal[:, None])]
    same = (shares == 1).all()
    return tuple(
        LayerOperator(variance, None if same else share * mask, 0.0, 0.0)
        for (variance, mask), share in zip(matrices, shares[:, 0], strict=True)
    )
