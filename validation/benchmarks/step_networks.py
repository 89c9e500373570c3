"""ReLU networks of step graphons, and their kernels by other means: plain NumPy, and mpmath for single pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

import graphon_theory as gt
from benchmarks.common import FloatArray


@dataclass(frozen=True, eq=False)
class StepNetwork:
    """Step values from input to readout, (m, d), (m, m), ..., (1, m), on the same ``edges`` in every hidden layer."""

    edges: FloatArray
    layers: tuple[FloatArray, ...]
    bias_variance: float = 0.0
    activation: str = "relu"
    weight_variance: float = 2.0

    @property
    def network(self) -> gt.Network:
        ends = np.array([0.0, 1.0])
        inputs = np.linspace(0, 1, self.layers[0].shape[1] + 1)
        hidden = [self.edges] * (len(self.layers) - 1)
        graphons = [
            gt.StepGraphon(values, u_edges=u, v_edges=v)
            for values, u, v in zip(self.layers, [*hidden, ends], [inputs, *hidden], strict=True)
        ]
        return gt.Network(
            graphons,
            activation=self.activation,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
        )

    @property
    def operators(self) -> list[FloatArray]:
        """The matrices of THEORY §5, lengths of the blocks and 1/d inside."""
        lengths = np.diff(self.edges)
        d = self.layers[0].shape[1]
        return [self.layers[0] / d, *(values * lengths for values in self.layers[1:])]


def dense(depth: int, d: int) -> StepNetwork:
    """Every connection there, ``depth`` hidden layers, no bias."""
    one = np.ones((1, 1))
    return StepNetwork(np.array([0.0, 1.0]), (np.ones((1, d)), *[one] * depth))


def random_blocks(
    positions: int, depth: int, d: int, seed: int, *, common_inputs: bool = False, **options: Any
) -> StepNetwork:
    """Asymmetric densities from 0.1 to 1 on blocks of unequal lengths; ``common_inputs``: one profile over inputs
    for all positions, each its own multiple of it. ``options``: bias_variance, activation."""
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.5, 1.5, positions)
    edges = np.concatenate([[0.0], np.cumsum(lengths / lengths.sum())])
    edges[-1] = 1.0
    profile = rng.uniform(0.1, 1.0, (1 if common_inputs else positions, d))
    first = rng.uniform(0.3, 1.0, (positions, 1)) * profile if common_inputs else profile
    hidden = [rng.uniform(0.1, 1.0, (positions, positions)) for _ in range(depth - 1)]
    return StepNetwork(edges, (first, *hidden, rng.uniform(0.1, 1.0, (1, positions))), **options)


def equal_blocks(positions: int, depth: int, d: int, seed: int) -> StepNetwork:
    """One matrix of densities for every layer, input layer included, on blocks of equal length; ``positions`` must
    divide d. No bias."""
    values = np.random.default_rng(seed).uniform(0.1, 1.0, (positions, positions))
    first, last = np.repeat(values, d // positions, axis=1), values.mean(axis=0, keepdims=True)
    return StepNetwork(np.linspace(0, 1, positions + 1), (first, *[values] * (depth - 1), last))


def plain_numpy(net: StepNetwork, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK (N, N) as one writes them down: a loop over layers, positions and pairs in arrays [CS]."""
    first, *others = net.operators
    weight, bias = net.weight_variance, net.bias_variance
    k = weight * np.stack([(row * x) @ x.T for row in first]) + bias
    t = k
    for a in others:
        q = np.diagonal(k, axis1=1, axis2=2)
        root = np.sqrt(q[:, :, None] * q[:, None, :])
        rho = np.clip(k / root, -1.0, 1.0)
        theta = np.arccos(rho)
        dual = root * (np.sin(theta) + (np.pi - theta) * rho) / (2 * np.pi)
        derivative = (np.pi - theta) / (2 * np.pi)
        k = weight * np.tensordot(a, dual, 1) + bias
        t = k + weight * np.tensordot(a, derivative * t, 1)
    return k[0], t[0]


def exact_pairs(net: StepNetwork, x: FloatArray, pairs: Sequence[tuple[int, int]]) -> FloatArray:
    """NNGP and NTK (2, pairs) to 30 digits: THEORY §3 in mpmath, pair by pair."""
    with mpmath.workdps(30):
        operators = [[[mpmath.mpf(float(a)) for a in row] for row in matrix] for matrix in net.operators]
        values = [_exact_pair(net, operators, x[i].tolist(), x[j].tolist()) for i, j in pairs]
    return np.array(values, dtype=float).T


def _exact_pair(net: StepNetwork, operators: Any, x: list[float], y: list[float]) -> tuple[Any, Any]:
    mp = mpmath.mp
    weight, bias = mp.mpf(net.weight_variance), mp.mpf(net.bias_variance)

    def push(matrix: Any, below: list[Any]) -> list[Any]:
        return [weight * mp.fdot(row, below) for row in matrix]

    k11, k12, k22 = (
        [value + bias for value in push(operators[0], [mp.mpf(a) * mp.mpf(b) for a, b in zip(p, q, strict=True)])]
        for p, q in ((x, x), (x, y), (y, y))
    )
    t = k12
    for matrix in operators[1:]:
        dual, carried = [], []
        for q11, q12, q22, tangent in zip(k11, k12, k22, t, strict=True):
            sine = mp.sqrt(max(q11 * q22 - q12 * q12, mp.mpf(0)))
            opening = mp.pi - mp.atan2(sine, q12)
            dual.append((sine + q12 * opening) / (2 * mp.pi))
            carried.append(opening / (2 * mp.pi) * tangent)
        k12 = [value + bias for value in push(matrix, dual)]
        t = [a + b for a, b in zip(k12, push(matrix, carried), strict=True)]
        k11, k22 = ([value + bias for value in push(matrix, [q / 2 for q in k])] for k in (k11, k22))
    return k12[0], t[0]
