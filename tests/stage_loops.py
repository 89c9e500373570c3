"""THEORY §11 in plain loops: stages of block-constant layers, one position, one pair of inputs at a time.

Nothing here is the engine's: duals about means are one-dimensional integrals of conditional expectations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

import graphon_theory as gt

FloatArray = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
_Z = np.arange(-80, 81) / 8  # the trapezium rule of an analytic function under a Gaussian, which converges fastest


def _density(z: Any) -> Any:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


_MASS = _density(_Z) / 8


def relu_moments(m1: float, m2: float, q11: float, q12: float, q22: float) -> tuple[float, float]:
    """E[relu relu'] and E[1 1'] at means m1, m2: over f, of what f' does given f."""
    if q11 <= 0 or q22 <= 0:
        return max(m1, 0.0) * max(m2, 0.0), float(m1 > 0 and m2 > 0)
    start = max(-12.0, -m1 / math.sqrt(q11))
    if start >= 12:
        return 0.0, 0.0
    z = start + (12.0 - start) * (_NODES + 1) / 2
    weight = (12.0 - start) / 2 * _WEIGHTS * _density(z)
    first, mean = m1 + math.sqrt(q11) * z, m2 + q12 / math.sqrt(q11) * z
    left = q22 - q12 * q12 / q11
    if left <= 4e-15 * q22:  # coincident: f' is a multiple of f
        return float(weight @ (first * np.maximum(mean, 0.0))), float(weight @ (mean > 0))
    s = math.sqrt(left)
    second = mean * ndtr(mean / s) + s * _density(mean / s)
    return float(weight @ (first * second)), float(weight @ ndtr(mean / s))


def smooth_moments(
    phi: Callable[[Any], Any], slope: Callable[[Any], Any], m1: float, m2: float, q11: float, q12: float, q22: float
) -> tuple[float, float]:
    """E[phi phi'] and E of the slopes, by products of trapezium rules."""
    a = math.sqrt(q11)
    b = q12 / a
    c = math.sqrt(max(q22 - b * b, 0.0))
    first, second = m1 + a * _Z[:, None], m2 + b * _Z[:, None] + c * _Z
    weight = np.outer(_MASS, _MASS)
    return float((weight * phi(first) * phi(second)).sum()), float((weight * slope(first) * slope(second)).sum())


def moments(name: str, *about: float) -> tuple[float, float]:
    if name == "relu":
        return relu_moments(*about)
    if name == "sin":
        return smooth_moments(np.sin, np.cos, *about)
    if name == "tanh":
        return smooth_moments(np.tanh, lambda z: 1 - np.tanh(z) ** 2, *about)
    assert name == "identity"
    return smooth_moments(lambda z: z, np.ones_like, *about)


def first_moment(name: str, mean: float, variance: float) -> float:
    if name == "relu":
        s = math.sqrt(variance)
        return mean * float(ndtr(mean / s)) + s * float(_density(mean / s))
    functions: dict[str, Callable[[Any], Any]] = {"sin": np.sin, "tanh": np.tanh, "identity": lambda z: z}
    phi = functions[name]
    return float(_MASS @ phi(mean + math.sqrt(variance) * _Z))


@dataclass
class Loops:
    """A field: means (u, i), K or C and T or S (u, i, j), and the lengths of the blocks."""

    mean: FloatArray
    second: FloatArray
    tangent: FloatArray
    lengths: FloatArray

    @classmethod
    def of_inputs(cls, x: FloatArray) -> Loops:
        d = x.shape[1]
        second = np.array([[[x[i, j] * x[k, j] for k in range(len(x))] for i in range(len(x))] for j in range(d)])
        return cls(x.T.copy(), second, np.zeros_like(second), np.full(d, 1 / d))

    def through(self, stage: gt.Dense | gt.Pointwise | gt.Residual | gt.LayerNorm, *, inputs: bool = False) -> Loops:
        if isinstance(stage, gt.Dense):
            return self._dense(stage, inputs)
        if isinstance(stage, gt.Pointwise):
            assert stage.activation is not None
            return self._pointwise(stage.activation.name)
        if isinstance(stage, gt.LayerNorm):
            raise AssertionError("a LayerNorm asks whether it stands before an activation")
        out = along(stage.stages, self)
        s = stage.scale
        return Loops(
            self.mean + s * out.mean, self.second + s * s * out.second, self.tangent + s * s * out.tangent, self.lengths
        )

    def _dense(self, stage: gt.Dense, inputs: bool) -> Loops:
        layer = stage.connectivity
        assert stage.weight_variance is not None
        assert stage.bias_variance is not None
        trained = stage.bias_variance if stage.trained_bias_variance is None else stage.trained_bias_variance
        s2, senders = stage.weight_variance, len(self.lengths)
        assert isinstance(layer.mask, gt.StepGraphon)
        edges = layer.mask.u_edges
        receivers, n = len(edges) - 1, self.mean.shape[1]
        middle = (edges[1:] + edges[:-1]) / 2
        below = np.cumsum(self.lengths) - self.lengths / 2
        mean, second, tangent = np.zeros((receivers, n)), np.zeros((receivers, n, n)), np.zeros((receivers, n, n))
        for u in range(receivers):
            for i in range(n):
                for v in range(senders):
                    mean[u, i] += (
                        math.sqrt(s2) * self.lengths[v] * float(layer.drift(middle[u], below[v])) * self.mean[v, i]
                    )
                for j in range(n):
                    k, t = stage.bias_variance, trained
                    for v in range(senders):
                        w, var = float(layer.mask(middle[u], below[v])), float(layer.variance(middle[u], below[v]))
                        left = var - float(layer.drift(middle[u], below[v])) ** 2 / senders if inputs else var
                        k += s2 * self.lengths[v] * left * self.second[v, i, j]
                        t += s2 * self.lengths[v] * (w * self.second[v, i, j] + var * self.tangent[v, i, j])
                    second[u, i, j], tangent[u, i, j] = k, t
        return Loops(mean, second, tangent, np.diff(edges))

    def _pointwise(self, name: str) -> Loops:
        mean, second, tangent = np.empty_like(self.mean), np.empty_like(self.second), np.empty_like(self.tangent)
        for u in range(len(self.lengths)):
            for i in range(mean.shape[1]):
                mean[u, i] = first_moment(name, self.mean[u, i], self.second[u, i, i])
                for j in range(mean.shape[1]):
                    about = (
                        self.mean[u, i],
                        self.mean[u, j],
                        self.second[u, i, i],
                        self.second[u, i, j],
                        self.second[u, j, j],
                    )
                    second[u, i, j], slope = moments(name, *about)
                    tangent[u, i, j] = slope * self.tangent[u, i, j]
        return Loops(mean, second, tangent, self.lengths)

    def normed(self, epsilon: float, *, before: bool) -> Loops:
        n = self.mean.shape[1]
        m, q = np.zeros(n), np.zeros(n)
        for i in range(n):
            for u, length in enumerate(self.lengths):
                m[i] += length * self.mean[u, i]
                q[i] += length * (self.second[u, i, i] + (self.mean[u, i] ** 2 if before else 0.0))
            q[i] -= m[i] ** 2
        mean, second, tangent = np.empty_like(self.mean), np.empty_like(self.second), np.empty_like(self.tangent)
        for u in range(len(self.lengths)):
            for i in range(n):
                mean[u, i] = (self.mean[u, i] - m[i]) / math.sqrt(q[i] + epsilon)
                for j in range(n):
                    scale = math.sqrt(q[i] + epsilon) * math.sqrt(q[j] + epsilon)
                    c = self.second[u, i, j]
                    if not before:
                        c += -self.mean[u, i] * m[j] - m[i] * self.mean[u, j] + m[i] * m[j]
                    second[u, i, j], tangent[u, i, j] = c / scale, self.tangent[u, i, j] / scale
        return Loops(mean, second, tangent, self.lengths)


def along(stages: Sequence[Any], field: Loops, *, inputs: bool = False) -> Loops:
    """The field behind the last of these stages; those of a branch start from pre-activations."""
    before = not inputs
    for stage in stages:
        if isinstance(stage, gt.LayerNorm):
            field = field.normed(stage.epsilon, before=before)
        else:
            if isinstance(stage, gt.Dense) and before:
                field = field._pointwise("identity")
            field = field.through(stage, inputs=inputs)
            before = not isinstance(stage, gt.Pointwise)
        inputs = False
    return field


def kernels(network: gt.Network, x: FloatArray) -> Loops:
    return along(network.stages, Loops.of_inputs(x), inputs=True)
