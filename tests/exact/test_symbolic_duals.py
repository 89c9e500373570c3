"""Symbolic duals against two-dimensional quadrature in 30 digits, and against the compiled ones."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import graphon_theory as gt
from graphon_theory.activations.activation import Activation, as_activation
from graphon_theory.exact.symbolic_duals import symbolic_dual

NAMES = ("relu", "leaky_relu", "abs", "identity", "step", "erf", "sin", "cos", "exp", "gaussian", "gelu")
OWN = ("z**3", "z**2 - 1", "0.5*z + z**3", "Max(z, 0)", "Max(z, -2*z)", "3")
POINTS = [(1.3, 0.4, 0.7), (0.2, -0.3, 0.9), (2.0, 0.0, 1.0), (1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (4.0, 2.0, 1.0)]


def activation(name: str) -> Activation:
    return as_activation(name) if name in NAMES else gt.Activation(name)


@pytest.mark.parametrize("name", NAMES + OWN)
@pytest.mark.parametrize("point", POINTS)
def test_equals_the_compiled_dual(name: str, point: tuple[float, float, float]) -> None:
    phi = activation(name)
    found = symbolic_dual(phi)
    assert found is not None
    got = [float(sp.N(sp.sympify(e), 20)) for e in found.duals(*(sp.Rational(str(q)) for q in point))]
    q11, q12, q22 = point
    want = [float(k) for k in phi.duals(q12, q11, q22)]
    scale = np.sqrt(np.array([np.prod([phi.duals(q, q, q)[k] for q in (q11, q22)]) for k in (0, 1)]))
    assert (np.abs(np.subtract(got, want)) <= 4e-15 * scale).all()


@pytest.mark.parametrize("name", ["gelu", "gaussian", "sin", "exp", "erf"])
def test_equals_quadrature(name: str) -> None:
    """The independent oracle: mpmath's own quadrature of phi(f) phi(f'), apart from both tables."""
    z = sp.Symbol("z")
    phi = {
        "gelu": z * (1 + sp.erf(z / sp.sqrt(2))) / 2,
        "gaussian": sp.exp(-(z**2) / 2),
        "sin": sp.sin(z),
        "exp": sp.exp(z),
        "erf": sp.erf(z),
    }[name]
    q11, q12, q22 = sp.Rational(13, 10), sp.Rational(-2, 5), sp.Rational(7, 10)
    found = symbolic_dual(as_activation(name))
    assert found is not None
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    a, b = mp.sqrt(1.3), mp.mpf("-0.4") / mp.sqrt(1.3)
    c = mp.sqrt(mp.mpf("0.7") - b * b)
    for expr, dual in zip((phi, sp.diff(phi, z)), found.duals(q11, q12, q22), strict=True):
        value = sp.lambdify(z, expr, modules=["scipy", "numpy"])
        left = value(float(a) * nodes)
        right = value(float(b) * nodes[:, None] + float(c) * nodes)
        total = (weights[:, None] * weights * left[:, None] * right).sum() / weights.sum() ** 2
        assert abs(float(sp.N(dual, 20)) - total) < 1e-13


@pytest.mark.parametrize("name", NAMES)
def test_cdot_is_the_derivative_of_c(name: str) -> None:
    """THEORY §4: of continuous phi; a step has Cdot = 0 all the same."""
    found = symbolic_dual(as_activation(name))
    assert found is not None
    q11, q12, q22 = sp.symbols("q11 q12 q22", real=True)
    c, cdot = found.duals(q11, q12, q22)
    at = {q11: sp.Rational(3, 2), q12: sp.Rational(2, 5), q22: sp.Rational(4, 5)}
    slope = sp.N(sp.diff(c, q12).subs(at), 25)
    if name == "step":
        assert cdot == 0
        assert slope > 0.1
    else:
        assert abs(slope - sp.N(sp.sympify(cdot).subs(at), 25)) < 1e-20


@pytest.mark.parametrize(("name", "degree"), [("relu", 1), ("step", 0), ("z**3", 3), ("erf", None), ("z**2 - 1", None)])
def test_degree_of_homogeneity(name: str, degree: int | None) -> None:
    found = symbolic_dual(activation(name))
    assert found is not None
    assert found.degree == degree
    if degree is not None:
        plain = found.duals(sp.Rational(3, 2), sp.Rational(2, 5), sp.Rational(4, 5))
        scaled = found.duals(sp.Integer(3), sp.Rational(4, 5), sp.Rational(8, 5))
        for power, a, b in ((degree, plain[0], scaled[0]), (degree - 1, plain[1], scaled[1])):
            assert abs(sp.N(b - 2**power * a, 20)) < 1e-18


def test_unknown_ones_have_none() -> None:
    for other in (as_activation("tanh"), gt.Activation(lambda z: z**3), gt.Activation("tanh(z)")):
        assert symbolic_dual(other) is None
