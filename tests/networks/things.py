"""Functions, graphons, layers, activations, networks and estimates of every kind, which the tests of values make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

import graphon_theory as gt
from graphon_theory.numerics import expressions
from graphon_theory.pruning.weight_laws import TruncatedNormal

X = np.random.default_rng(3).standard_normal((3, 6))
EDGES = [0, 0.3, 0.5, 1]
U, V = sp.symbols("u v")


def ripple(u: Any, v: Any, size: float = 0.2) -> Any:
    return 0.5 + size * np.sin(3 * u + v)


def rising(u: Any) -> Any:
    return 0.2 + u


def bent(z: Any, slope: float = 0.3) -> Any:
    return np.where(z > 0, z, slope * z) + 0.1 * z**2


def plane(u: Any, v: Any, slopes: Any) -> Any:
    return slopes[0] * u + slopes[1] * v


def outer(u: Any, v: Any, power: int = 1) -> Any:
    return (0.1 + u) * np.exp(-(v**power)) / 2


class Bump:
    """A callable that says itself when it equals another, and so has no hash."""

    def __init__(self, height: float) -> None:
        self.height = height

    def __call__(self, u: Any, v: Any) -> Any:
        return self.height * np.exp(-((u - v) ** 2))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bump) and other.height == self.height

    __hash__ = None  # type: ignore[assignment]


def estimated(**options: Any) -> Any:
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < 0.4 for shape in ((30, 6), (24, 30), (20, 24), (2, 20))]
    weights = [rng.standard_normal(mask.shape) for mask in masks]
    return gt.estimate_network(masks, weights, **{"blocks": 2, "dense_std": 1.0, **options})


def estimated_graphon() -> Any:
    return gt.estimate_graphon(np.random.default_rng(1).random((40, 30)) < 0.3, (4, 3), draws=5)


def smooth() -> gt.Network:
    return gt.Network(["(1 + sin(u*v))/3", "exp(-u - v)", 1.0])


def with_activation(make: Callable[[], Any]) -> gt.Network:
    return gt.Network(["exp(-u - v)", 1.0], make())


def with_layer(make: Callable[[], Any]) -> gt.Network:
    return gt.Network([1.0, make(), 1.0], bias_variance=0.1)


GRAPHONS: dict[str, Callable[[], gt.Graphon]] = {
    "constant": lambda: gt.ConstantGraphon(0.3),
    "step": lambda: gt.StepGraphon([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], v_edges=EDGES),
    "step with edges for nothing": lambda: gt.StepGraphon([[0.1, 0.1, 0.3]], v_edges=EDGES),
    "estimate": estimated_graphon,
    "estimate, transposed": lambda: estimated_graphon().T,
    "formula": lambda: gt.AnalyticGraphon("exp(-u - v)/2"),
    "formula in pieces": lambda: gt.AnalyticGraphon("Piecewise((u*v, (u < v) & (v < 0.7)), (Max(u, 0.2), True))"),
    "formula of many digits": lambda: gt.AnalyticGraphon(sp.Float("0.1", 30) * U + V / 3),
    "formula as it stands": lambda: gt.AnalyticGraphon(
        sp.Mul(sp.Rational(1, 4), sp.Add(*map(expressions.symbol, "uv"), evaluate=False), evaluate=False)
    ),
    "constant formula": lambda: gt.AnalyticGraphon("sqrt(2)/2"),
    "function": lambda: gt.FunctionGraphon(ripple, v_edges=[0, 0.4, 1], diagonal=True),
    "function, transposed": lambda: gt.FunctionGraphon(ripple).T,
    "ufunc": lambda: gt.FunctionGraphon(np.minimum, diagonal=True),
    "partial function": lambda: gt.FunctionGraphon(partial(ripple, size=0.1)),
    "callable object": lambda: gt.FunctionGraphon(Bump(0.5)),
    "law's share": lambda: gt.saliency_pruning(rising, "exp(-v)", 0.3, "uniform").mask,
    "law's second moment": lambda: gt.saliency_pruning(rising, "exp(-v)", 0.3, TruncatedNormal(3.0)).variance.T,
    "rescaled rows": lambda: gt.balanced(smooth(), by="position").layers[0].variance,
    "rescaled columns": lambda: gt.balanced(smooth(), by="position").layers[0].variance.T,
}

STEP = [[0.9, 0.2], [0.4, 0.6]]
KNOWN = gt.Known([[[0.1, 0.2]], "u*v/4"], [0.1, [[0.1], [0.2]]], 0.3)
LAYERS: dict[str, Callable[[], gt.Connectivity]] = {
    "mask": lambda: gt.Connectivity("exp(-u - v)"),
    "function as its own variance": lambda: gt.Connectivity(partial(ripple, size=0.1)),
    "variance": lambda: gt.magnitude_pruning(0.2),
    "drift": lambda: gt.Connectivity(STEP, [[1.8, 0.1], [0.5, 0.6]], "u - v"),
    "known": lambda: gt.Connectivity(0.5, 0.7, "u/2", known=KNOWN),
}

ACTIVATIONS: dict[str, Callable[[], Any]] = {
    **{name: partial(str, name) for name in ("relu", "leaky_relu", "gelu", "gaussian", "tanh", "elu")},
    "expression": lambda: gt.Activation("Max(z, 0) + z**2/10", name="mine"),
    "rectifier": lambda: gt.Activation("Max(z, z/5)"),
    "function": lambda: gt.Activation(bent, kinks=[0.0]),
    "partial function": lambda: gt.Activation(partial(bent, slope=0.5), kinks=[0.0]),
    "with derivative": lambda: gt.Activation(np.sin, derivative=np.cos, name="wave"),
}

NETWORKS: dict[str, Callable[[], gt.Network]] = {
    **{f"activation: {name}": partial(with_activation, make) for name, make in ACTIVATIONS.items()},
    **{f"layer: {name}": partial(with_layer, make) for name, make in LAYERS.items()},
    **{f"graphon: {name}": partial(with_layer, GRAPHONS[name]) for name in GRAPHONS if "moment" not in name},
    "all arguments": lambda: gt.Network(
        [STEP, "u*v", 0.3], "erf", [1.0, 2.0, 3.0], 0.2, "standard", (6, 40, 50), outputs=2
    ),
    "balanced by position": lambda: gt.balanced(smooth(), by="position"),
    "estimated": lambda: gt.Network(estimated(), outputs=2),
    "pruned by data": lambda: gt.saliency_network(
        gt.Network([[[1.0]], 1.0, 1.0], outputs=2), X, [0, 1, 1], 0.4, (6, 40, 40, 2), positions=12, rng=1
    ),
}
