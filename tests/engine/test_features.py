"""Narrow features, jumps and kinks that nobody declared: kernels right, estimates never below the true error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import erf

import graphon_theory as gt
from graphon_theory.arrays import FloatArray

Function = Callable[[Any, Any], Any]
ONE: Function = lambda u, v: 1.0 + 0.0 * u * v  # noqa: E731
SMOOTH: Function = lambda u, v: 0.5 + 0.3 * u * v  # noqa: E731
X = np.random.default_rng(0).standard_normal((5, 4))


def graded(*centres: float) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on panels of 1/40 that shrink towards the centres."""
    edges = {*np.linspace(0, 1, 41), *centres}
    for centre in centres:
        edges |= {centre + sign * 0.3 * 0.75**k for k in range(45) for sign in (-1, 1)}
    return composite(np.array(sorted(e for e in edges if 0 <= e <= 1)))


def composite(edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    t, w = np.polynomial.legendre.leggauss(8)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * t).ravel(), (half[:, None] * w).ravel()


def reference(layers: list[Function], rules: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """NNGP and NTK by Gauss sums: rules of the inputs' cells and of every hidden layer; the output sits at 1/2.

    Beside C run C_ii + C_jj - 2 C_ij and C_ii - C_jj, so that angles are right however close the inputs come where a
    density tends to 0: covariances alone know them to the root of a rounding.
    """
    c = (X[:, None, :] * X[None]).transpose(2, 0, 1)
    squares = (X**2).T
    apart, uneven = ((X[:, None, :] - X[None]) ** 2).transpose(2, 0, 1), squares[:, :, None] - squares[:, None, :]
    carried = np.zeros_like(c)
    k = t = c
    for layer, f in enumerate(layers):
        points = rules[layer + 1][0] if layer < len(layers) - 1 else np.array([0.5])
        nodes, weights = rules[layer]
        matrix = f(points[:, None], nodes) * weights
        if layer == 0:
            cell = np.minimum((nodes * X.shape[1]).astype(int), X.shape[1] - 1)
            matrix = np.stack([matrix[:, cell == j].sum(axis=1) for j in range(X.shape[1])], axis=1)
        k = 2 * np.tensordot(matrix, c, 1) + 0.1
        t = k + 2 * np.tensordot(matrix, carried, 1)
        apart, uneven = (2 * np.tensordot(matrix, one, 1) for one in (apart, uneven))
        root = np.sqrt(np.einsum("pii->pi", k))
        product, short = root[:, :, None] * root[:, None, :], uneven / (root[:, :, None] + root[:, None, :])
        gap = np.maximum(apart - short**2, 0.0) / (2 * product)  # 1 - cos theta
        theta = 2 * np.arcsin(np.sqrt(np.minimum(gap / 2, 1.0)))
        small = theta**3 * (1 / 3 - theta**2 * (1 / 30 - theta**2 * (1 / 840 - theta**2 / 45360)))
        lift = np.where(theta < 0.1, small, np.sin(theta) - theta * np.cos(theta))
        gamma = gap - lift / np.pi
        c, carried = product * (1 - gamma) / 2, (0.5 - theta / (2 * np.pi)) * t
        apart, uneven = short**2 / 2 + product * gamma, uneven / 2
    return k[0], t[0]


def assert_held(layers: list[Any], nngp: FloatArray, ntk: FloatArray) -> None:
    found = gt.limit_kernel(gt.Network(layers, bias_variance=0.1), X)
    for got, want in ((found.nngp.values, nngp), (found.ntk.values, ntk)):
        root = np.sqrt(np.diag(want))
        error = float((np.abs(got - want) / np.outer(root, root)).max())
        assert error <= found.attrs["quadrature_error"] <= 1e-10


EXPRESSIONS = [  # text, centres in u, centres in v
    ("0.1 + 0.8*exp(-((u - 0.6137)/0.01)**2)", (0.6137,), ()),
    ("0.1 + 0.8*exp(-((v - 0.6137)/0.0003)**2)", (), (0.6137,)),
    ("0.1 + 0.8*exp(-((u - 0.6137)/0.003)**2 - ((v - 0.2113)/0.003)**2)", (0.6137,), (0.2113,)),
    ("0.5 + 40*(u - 0.6137)*exp(-((u - 0.6137)/0.01)**2)", (0.6137,), ()),
    ("0.1 + 0.5/(1 + ((u - 0.3717)/0.002)**2)", (0.3717,), ()),
    ("0.1 + 0.5/(1 + exp(500*(u - 0.777)))", (0.777,), ()),
    ("0.1 + 0.5*tanh(exp(300*(u - 0.3)))", (0.3,), ()),
    ("0.5 + 0.4*tanh(70*(u - 0.3))*tanh(900*(v - 0.37))", (0.3,), (0.37,)),
]


def function(text: str) -> Function:
    names = {"exp": np.exp, "tanh": np.tanh, "erf": erf}
    return lambda u, v: eval(text, names | {"u": u, "v": v}) + 0.0 * u * v  # of this file's own texts


@pytest.mark.parametrize(("text", "in_u", "in_v"), EXPRESSIONS)
@pytest.mark.parametrize("where", [pytest.param("first", marks=pytest.mark.slow), "second"])
def test_narrow_features_of_formulas(text: str, in_u: tuple[float, ...], in_v: tuple[float, ...], where: str) -> None:
    f, cells = function(text), (0.25, 0.5, 0.75)
    if where == "first":
        wanted = reference([f, SMOOTH, ONE], [graded(*in_v, *cells), graded(*in_u), graded(*in_u)])
        assert_held([text, "0.5 + 0.3*u*v", 1.0], *wanted)
    else:
        wanted = reference([SMOOTH, f, ONE], [graded(*cells), graded(*in_v), graded(*in_u)])
        assert_held(["0.5 + 0.3*u*v", text, 1.0], *wanted)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("0.1 + 0.8*exp(-((u - v)/0.02)**2)", 0.02),
        pytest.param("0.1 + 0.8*exp(-((u - v**2)/0.02)**2)", 0.015, marks=pytest.mark.slow),
        pytest.param("0.5 + 0.4*tanh(100*(u - v))", 0.01, marks=pytest.mark.slow),
    ],
)
def test_bands(text: str, width: float) -> None:
    rule = composite(np.linspace(0, 1, 4 * int(0.6 / width) + 1))
    wanted = reference([SMOOTH, function(text), ONE], [graded(0.25, 0.5, 0.75), rule, rule])
    assert_held(["0.5 + 0.3*u*v", text, 1.0], *wanted)
    assert_held(["0.5 + 0.3*u*v", gt.FunctionGraphon(function(text)), 1.0], *wanted)


def undeclared(kind: str, a: float, b: float, width: float) -> tuple[Function, list[float], list[float]]:
    """A function, and where it breaks in u and in v."""
    step: Callable[[Any], Any] = lambda z: 1.0 * (z > 0)  # noqa: E731
    stripe: Callable[[Any, float], Any] = lambda z, at: step(z - at) * step(at + width - z)  # noqa: E731
    spread = [-3 * width, -width, 0.0, width, 3 * width]
    return {
        "jump in u": (lambda u, v: 0.3 + 0.4 * step(u - a) * (0.6 + 0.4 * v), [a], []),
        "kink in u": (lambda u, v: 0.3 + 0.6 * np.abs(u - a) * (0.6 + 0.4 * v), [a], []),
        "jump in v": (lambda u, v: 0.3 + 0.4 * step(v - a) * (0.6 + 0.4 * u), [], [a]),
        "stripe in u": (lambda u, v: 0.3 + 0.5 * stripe(u, a) * (0.6 + 0.4 * v), [a, a + width], []),
        "stripe in v": (lambda u, v: 0.3 + 0.5 * stripe(v, a) * (0.6 + 0.4 * u), [], [a, a + width]),
        "box": (lambda u, v: 0.2 + 0.5 * stripe(u, a) * stripe(v, b), [a, a + width], [b, b + width]),
        "bump": (
            lambda u, v: 0.2 + 0.7 * np.exp(-(((u - a) / width) ** 2) - ((v - b) / width) ** 2),
            [a + s for s in spread],
            [b + s for s in spread],
        ),
    }[kind]


KINDS = ["jump in u", "kink in u", "jump in v", "stripe in u", "stripe in v", "box", "bump"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 12))])
def test_undeclared_features_of_callables(kind: str, seed: int) -> None:
    """Beside the same function with its breaks declared."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    a, b = rng.random(2)
    f, in_u, in_v = undeclared(kind, a, b, float(np.exp(rng.uniform(np.log(0.006), np.log(0.3)))))
    edges = [sorted({0.0, 1.0, *(e for e in breaks if 0 < e < 1)}) for breaks in (in_u, in_v)]
    position = int(rng.integers(2))
    layers: list[Any] = [["0.5 + 0.3*u*v", "0.4 + 0.5*u*v"][k] for k in range(2)]
    told = [*layers, 1.0]
    layers = [*layers, 1.0]
    layers[position], told[position] = gt.FunctionGraphon(f), gt.FunctionGraphon(f, edges[0], edges[1])
    wanted = gt.limit_kernel(gt.Network(told, bias_variance=0.1), X)
    assert_held(layers, wanted.nngp.values, wanted.ntk.values)


def test_rows_that_are_small_differences_settle() -> None:
    """Far from the diagonal 1 + tanh is rounding; the integral there is not to be had to a share of itself."""
    text = "0.5 + 0.5*tanh(50*(u - v))"
    rule = composite(np.linspace(0, 1, 81))
    wanted = reference([ONE, function(text), function(text), ONE], [graded(0.25, 0.5, 0.75), rule, rule, rule])
    assert_held([1.0, text, text, 1.0], *wanted)


@pytest.mark.slow
def test_rows_that_are_small_differences_settle_below_what_vanishes() -> None:
    text = "0.5 + 0.5*tanh(50*(u - v))"
    assert gt.limit_kernel(gt.Network(["u*v", text, text, 1.0]), X).attrs["quadrature_error"] <= 1e-10


def test_a_declared_diagonal_is_not_found_again() -> None:
    """What is declared costs nothing more; what else there is beside it is still found."""
    declared, told = (gt.FunctionGraphon(lambda u, v: 1 - np.abs(u - v), diagonal=one) for one in (True, False))
    assert declared._features.any_curves is False
    assert told._features.any_curves is True
    both = gt.FunctionGraphon(lambda u, v: np.where(v > 0.3 + 0.5 * u, 1.0, 0.5) - 0.2 * np.abs(u - v), diagonal=True)
    lines = np.array([0.1, 0.45, 0.9])
    found = both.creases(lines)
    for line, row in zip(lines, found, strict=True):
        for place in (line, 0.3 + 0.5 * line):
            assert np.nanmin(np.abs(row - place)) < 1e-9
