"""kernel_gradient through LayerNorm, against central differences of limit_kernel (THEORY §11, §12)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.engine import gradients

D, P = 4, 3
EDGES = np.array([0.0, 0.3, 0.6, 1.0])
SHAPES = [(P, D), (P, P), (P, P), (2, P)]
PARTS = ("mask", "variance", "drift")


def stages(kind: str, dense: list[gt.Dense]) -> list[Any]:
    relu, erf = gt.Pointwise("relu"), gt.Pointwise("erf")
    first, one, two, last = dense
    norm = gt.LayerNorm(0.05)
    return {
        "before": [first, norm, relu, one, gt.LayerNorm(0.0), erf, two, norm, relu, last],
        "behind": [first, erf, norm, one, relu, gt.LayerNorm(0.0), two, relu, norm, last],
        "in branches": [first, gt.Residual(norm, relu, norm, one, norm, scale=0.7), erf, two, norm, relu, last],
        "twice": [first, norm, gt.LayerNorm(0.3), relu, one, gt.Residual(norm, relu, two, scale=-0.8), norm, erf, last],
    }[kind]


KINDS = ("before", "behind", "in branches", "twice")


class Problem:
    """A network of one kind, in arrays that can be moved."""

    def __init__(self, kind: str, drift: bool) -> None:
        rng = np.random.default_rng(KINDS.index(kind))
        self.kind = kind
        masks = [rng.uniform(0.2, 0.9, shape) for shape in SHAPES]
        variances = [m * rng.uniform(0.7, 1.4, m.shape) for m in masks]
        drifts = [drift * rng.uniform(-0.5, 0.5, m.shape) for m in masks]
        self.parts = [masks, variances, drifts]
        self.scales = np.concatenate([rng.uniform(0.8, 1.5, 4), rng.uniform(0.05, 0.3, 4)])
        self.moves = [[0.1 * rng.standard_normal(m.shape) for m in masks] for _ in range(2 + drift)]
        if not drift:
            self.moves.append([np.zeros(shape) for shape in SHAPES])
        self.scale_moves = 0.1 * rng.standard_normal(8)
        self.x = rng.standard_normal((5, D))
        self.x[4] = self.x[1]  # coincident
        self.ntk, self.nngp = rng.standard_normal((2, 2, 5, 5))

    def network(self, e: float) -> gt.Network:
        dense = []
        for k in range(4):
            rows, columns = (EDGES if n == P else np.linspace(0, 1, n + 1) for n in SHAPES[k])
            values = (part[k] + e * move[k] for part, move in zip(self.parts, self.moves, strict=True))
            layer = gt.Connectivity(*(gt.StepGraphon(v, rows, columns) for v in values))
            s, b = (float(self.scales[i] + e * self.scale_moves[i]) for i in (k, 4 + k))
            dense.append(gt.Dense(layer, s, b))
        return gt.Network(stages(self.kind, dense), outputs=2)

    def value(self, e: float) -> float:
        kern = gt.limit_kernel(self.network(e), self.x)
        return float((self.ntk * kern.ntk.values).sum() + (self.nngp * kern.nngp.values).sum())


@pytest.mark.parametrize(("kind", "drift"), [(kind, True) for kind in KINDS] + [("in branches", False)])
def test_every_parameter_at_once_against_central_differences(kind: str, drift: bool) -> None:
    one = Problem(kind, drift)
    got = gt.kernel_gradient(one.network(0.0), one.x, ntk=one.ntk, nngp=one.nngp)
    found = float(got.weight_variance @ one.scale_moves[:4] + got.bias_variance @ one.scale_moves[4:])
    for name, moves in zip(PARTS, one.moves, strict=True):
        pairs = zip(getattr(got, name), moves, strict=True)
        found += sum(float((part * move).sum()) for part, move in pairs if part is not None and move.any())
    a, b, c, d = (one.value(k * 1e-3) for k in (-2, -1, 1, 2))
    size = np.abs(one.ntk).sum()
    assert found == pytest.approx((8 * (c - b) - (d - a)) / 12e-3, rel=1e-7, abs=1e-8 * size)


def test_scales_below_a_norm_change_nothing() -> None:
    """Euler: with epsilon 0 and no biases the kernels do not know sigma_w^2 below a LayerNorm."""
    layers = [gt.Dense(gt.StepGraphon([[0.4], [0.9]])), gt.LayerNorm(0.0), gt.Pointwise("erf"), gt.Dense(1.0)]
    network, x = gt.Network(layers), np.random.default_rng(0).standard_normal((4, 3))
    got = gt.kernel_gradient(network, x, ntk=np.ones((4, 4)), nngp=np.ones((4, 4)))
    assert abs(got.weight_variance[0]) < 1e-13 * abs(got.weight_variance[1])


def test_numbers_do_not_depend_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Problem("in branches", True)
    x = np.random.default_rng(5).standard_normal((40, D))
    ntk = np.random.default_rng(6).standard_normal((2, 40, 40))
    want = gt.kernel_gradient(one.network(0.0), x, ntk=ntk)
    monkeypatch.setattr(gradients, "_SIDES", (8, 8))
    _same(gt.kernel_gradient(one.network(0.0), x, ntk=ntk), want)
    monkeypatch.setattr("graphon_theory.engine.recursion.Recursion.held_inputs", 16)
    _same(gt.kernel_gradient(one.network(0.0), x, ntk=ntk), want)


def _same(got: Any, want: Any) -> None:
    for name in PARTS:
        for a, b in zip(getattr(got, name), getattr(want, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * _size(b))


def _size(values: FloatArray) -> float:
    return float(np.abs(values).max())
