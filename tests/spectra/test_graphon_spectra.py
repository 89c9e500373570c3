"""Graphon operators against closed forms, SymPy and their own definition; projectors where values are degenerate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

from graphon_theory.errors import GraphonError, InputError, QuadratureError
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.callables import FunctionGraphon
from graphon_theory.graphons.graphon import ConstantGraphon, StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.spectra.graphon_spectra import graphon_spectrum

Array = NDArray[np.float64]
OFF = np.random.default_rng(7).random(150)  # positions that are no nodes


def aligned(found: Array, exact: Array) -> Array:
    """Columns with the signs of the exact functions."""
    return np.asarray(found * np.sign(np.sum(found * exact, axis=0)))


def test_brownian_graphon() -> None:
    k = np.arange(1, 21)
    modes = graphon_spectrum("min(u, v)", 20, u=OFF, v=OFF)
    exact = 1 / ((k - 0.5) ** 2 * np.pi**2)
    np.testing.assert_allclose(modes.eigenvalue, exact, rtol=1e-12)
    np.testing.assert_allclose(modes.singular_value, exact, rtol=1e-12)
    functions = np.sqrt(2) * np.sin(np.outer(OFF, (k - 0.5) * np.pi))
    for side in (modes.left, modes.right):
        np.testing.assert_allclose(aligned(side.values, functions), functions, atol=1e-10)
    assert modes.attrs["symmetric"]
    assert not modes.attrs["complete"]
    assert modes.attrs["orthonormality"] < 1e-11


def test_volterra_operator_is_not_symmetric() -> None:
    # (T g)(u) = int_0^u g: singular values 1 / ((k - 1/2) pi), l = sqrt 2 sin, r = sqrt 2 cos of the same argument
    k = np.arange(1, 9)
    modes = graphon_spectrum("Heaviside(u - v)", 8, u=OFF, v=OFF)
    np.testing.assert_allclose(modes.singular_value, 1 / ((k - 0.5) * np.pi), rtol=1e-13)
    left = np.sqrt(2) * np.sin(np.outer(OFF, (k - 0.5) * np.pi))
    right = np.sqrt(2) * np.cos(np.outer(OFF, (k - 0.5) * np.pi))
    sign = np.sign(np.sum(modes.left.values * left, axis=0))
    np.testing.assert_allclose(modes.left * sign, left, atol=1e-12)
    np.testing.assert_allclose(modes.right * sign, right, atol=1e-12)
    assert "eigenvalue" not in modes


def test_asymmetric_finite_rank_against_sympy() -> None:
    u, v, z = sp.symbols("u v z")
    rows, columns = [1 + u, u**2, u**3 / 4], [v, 1 - v**3, 1 + v**2]
    kernel = sum((a * b for a, b in zip(rows, columns, strict=True)), sp.Integer(0))
    left, right = (
        sp.Matrix(3, 3, lambda i, j, f=f, s=s: sp.integrate(f[i] * f[j], (s, 0, 1)))
        for f, s in ((rows, u), (columns, v))
    )
    squares = sp.Poly((left * right).charpoly(z).as_expr(), z).nroots(n=40)
    values = sorted((float(sp.sqrt(x)) for x in squares), reverse=True)
    modes = graphon_spectrum(kernel, 10)
    assert modes.sizes["mode"] == 3
    assert modes.attrs["complete"]
    np.testing.assert_allclose(modes.singular_value, values, rtol=0, atol=1e-14)
    # the functions rebuild the graphon, rows with rows and columns with columns
    again = graphon_spectrum(kernel, 3, u=OFF, v=OFF[:40])
    rebuilt = (again.left.values * again.singular_value.values) @ again.right.values.T
    np.testing.assert_allclose(rebuilt, AnalyticGraphon(kernel)(OFF[:, None], OFF[:40]), atol=1e-12)


def test_step_graphons_are_exact() -> None:
    values = np.array([[0.9, 0.1, 0.3], [0.2, 0.6, 0.4]])
    u_edges, v_edges = np.array([0, 0.3, 1]), np.array([0, 0.5, 0.6, 1])
    modes = graphon_spectrum(StepGraphon(values, u_edges, v_edges))
    weighted = np.sqrt(np.diff(u_edges))[:, None] * values * np.sqrt(np.diff(v_edges))
    np.testing.assert_allclose(modes.singular_value, np.linalg.svd(weighted)[1], rtol=1e-14)
    rebuilt = (modes.left.values * modes.singular_value.values) @ modes.right.values.T
    np.testing.assert_allclose(rebuilt, values, atol=1e-14)
    np.testing.assert_allclose(modes.u_weight, np.diff(u_edges), atol=1e-16)
    np.testing.assert_allclose(modes.v_weight, np.diff(v_edges), atol=1e-16)
    finer = StepGraphon(np.repeat(values, 2, axis=0), [0, 0.1, 0.3, 0.4, 1], v_edges)
    np.testing.assert_allclose(graphon_spectrum(finer).singular_value, modes.singular_value, rtol=1e-14)


def test_degenerate_values_span_the_right_space() -> None:
    modes = graphon_spectrum("0.5 + 0.3*cos(2*pi*(u - v))", u=OFF, v=OFF)
    np.testing.assert_allclose(modes.eigenvalue, [0.5, 0.15, 0.15], atol=1e-14)
    pair = modes.left.values[:, 1:]
    np.testing.assert_allclose(pair @ pair.T, 2 * np.cos(2 * np.pi * (OFF[:, None] - OFF)), atol=1e-12)


def test_negative_eigenvalues_keep_their_sign() -> None:
    # |u - v|: one positive eigenvalue and infinitely many negative ones; their sum is the trace 0
    modes = graphon_spectrum("abs(u - v)", 40)
    assert (modes.eigenvalue.values[:1] > 0).all()
    assert (modes.eigenvalue.values[1:] < 0).all()
    np.testing.assert_allclose(modes.singular_value, np.abs(modes.eigenvalue), rtol=0)
    np.testing.assert_allclose(modes.left * np.sign(modes.eigenvalue), modes.right, atol=1e-8)
    squares = float((modes.singular_value**2).sum())  # iint (u - v)^2 = 1/6; the rest falls like k^-3
    assert squares == pytest.approx(1 / 6, abs=1e-6)


@pytest.mark.parametrize(
    "graphon",
    [
        AnalyticGraphon("abs(u - v/2) + u*v"),
        AnalyticGraphon("Max(u, v)*(u + 1)*abs(v - 0.3)"),
        FunctionGraphon(lambda u, v: np.where(u > v, u, 2 * v), diagonal=True),
        StepGraphon([[0.9, 0.1], [0.2, 0.6], [0.5, 0.5]], [0, 0.2, 0.5, 1]),
    ],
    ids=repr,
)
def test_functions_satisfy_their_equations_by_the_midpoint_rule(graphon: Any) -> None:
    at, fine = np.array([0.1234, 0.41, 0.777]), (np.arange(4000) + 0.5) / 4000
    modes = graphon_spectrum(graphon, 3)
    assert float(modes.residual.max()) < 1e-12
    left, right = graphon_spectrum(graphon, 3, u=at, v=fine), graphon_spectrum(graphon, 3, u=fine, v=at)
    forward = graphon(at[:, None], fine) @ left.right.values / len(fine)
    backward = graphon(fine[:, None], at).T @ right.left.values / len(fine)
    # second order, but first order across a jump
    tolerance = 3e-4 if isinstance(graphon, FunctionGraphon) else 3e-7
    np.testing.assert_allclose(forward, left.left * left.singular_value, atol=tolerance)
    np.testing.assert_allclose(backward, right.right * right.singular_value, atol=tolerance)
    for functions in (left.right.values, right.left.values):
        np.testing.assert_allclose(functions.T @ functions / len(fine), np.eye(modes.sizes["mode"]), atol=1e-3)


def test_product_of_layers() -> None:
    first, second = (
        StepGraphon([[0.9, 0.1], [0.2, 0.6]], [0, 0.3, 1], [0, 0.6, 1]),
        StepGraphon([[0.5, 0.1], [0.3, 1.0], [0, 0.2]]),
    )
    modes = graphon_spectrum([first, second], 5)
    lengths = [np.diff(first.v_edges), np.diff(np.unique([*first.u_edges, *second.v_edges])), np.diff(second.u_edges)]
    middle = np.array([0.1, 0.4, 0.8])  # inside the common blocks [0, 0.3], [0.3, 0.5], [0.5, 1]
    one = first(middle[:, None], [0.3, 0.8])
    two = second(np.array([0.1, 0.5, 0.9])[:, None], middle)
    product = np.sqrt(lengths[2])[:, None] * two @ (lengths[1][:, None] * one) * np.sqrt(lengths[0])
    np.testing.assert_allclose(modes.singular_value, np.linalg.svd(product)[1], rtol=1e-13)
    # the square of min(u, v) has its eigenvalues squared; through a Network, and with kinks between the layers
    twice = graphon_spectrum(Network(["min(u, v)", "min(u, v)"]), 6)
    np.testing.assert_allclose(twice.singular_value, ((np.arange(1, 7) - 0.5) * np.pi) ** -4.0, rtol=1e-11)
    rough = graphon_spectrum(["min(u, v)", first, "exp(-u*v)"], 10, u=OFF, v=OFF)
    assert rough.sizes["mode"] == 2  # the rank of the middle one
    assert float(rough.residual.max()) < 1e-13


def test_what_stands_for_a_graphon() -> None:
    step = [[0.9, 0.1], [0.2, 0.6]]
    expected = graphon_spectrum(StepGraphon(step)).singular_value
    for same in (step, np.array(step), Connectivity(step), [StepGraphon(step)]):
        np.testing.assert_array_equal(graphon_spectrum(same).singular_value, expected)


def test_transposing_swaps_the_sides() -> None:
    one = AnalyticGraphon("exp(-2*u*v**2)*(1 + u)")
    modes, swapped = graphon_spectrum(one, 4, u=OFF, v=OFF), graphon_spectrum(one.T, 4, u=OFF, v=OFF)
    np.testing.assert_allclose(modes.singular_value, swapped.singular_value, rtol=1e-10)
    np.testing.assert_allclose(aligned(modes.left.values, swapped.right.values), swapped.right, atol=1e-8)


def test_refusals() -> None:
    with pytest.raises(GraphonError, match="it is zero"):
        graphon_spectrum(0.0)
    with pytest.raises(InputError, match="count: expected a positive whole number of modes, got 0"):
        graphon_spectrum("u*v", 0)
    with pytest.raises(InputError, match=r"u: positions must lie in \[0, 1\], got some in \[0.5, 1.5\]"):
        graphon_spectrum("u*v", u=[0.5, 1.5])
    with pytest.raises(InputError, match="v: expected a list of positions"):
        graphon_spectrum("u*v", v=["here"])
    with pytest.raises(InputError, match="rtol: expected a tolerance"):
        graphon_spectrum("u*v", rtol=0.0)
    with pytest.raises(QuadratureError, match=r"mode [0-9]+ of .* has a residual of .*loosen rtol"):
        graphon_spectrum("abs(v - (u - 0.5)**2)", 5)  # a curve that folds back at every level of refinement


def test_an_undeclared_kink_is_found_by_the_row_integrals() -> None:
    found = graphon_spectrum(FunctionGraphon(lambda u, v: np.minimum(u, v)), 5)
    np.testing.assert_allclose(found.eigenvalue, ((np.arange(1, 6) - 0.5) * np.pi) ** -2.0, rtol=1e-11)


def test_lists_are_layers_whatever_stands_for_a_graphon() -> None:
    u, v = sp.symbols("u v")
    half = Network([0.5, 0.5, 0.5])
    for given, largest in (
        ([half, ConstantGraphon(1.0)], 0.125),
        ([1.0, [ConstantGraphon(0.5), 0.5]], 0.25),
        ([0.5, 0.5], 0.25),
        ([u * v, u * v], 1 / 9),
        ([lambda u, v: u * v, "u*v"], 1 / 9),
        ([1.0, np.array([[0.5]])], 0.5),
        ([[0.25, 0.25], [0.25, 0.25]], 0.25),  # rows of one step graphon
    ):
        assert float(graphon_spectrum(given, 1).singular_value[0]) == pytest.approx(largest, rel=1e-12)
    with pytest.raises(InputError, match=r"expected from 1 to 10,000 layers or rows, got \[\]"):
        graphon_spectrum([])
