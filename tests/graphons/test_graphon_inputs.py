"""Graphons at the door and on the screen: samples, what each kind refuses, reprs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

import graphon_theory as gt
from tests.graphons.test_graphons import FUNCTION, SMOOTH, STEP, U_EDGES, UU, V_EDGES, VALUES, VV, asymmetric, every

FloatArray = NDArray[np.float64]


# --- samples ----------------------------------------------------------------------------------------------------------


def positions_of(kind: str, n_out: int, n_in: int, seed: int) -> tuple[FloatArray, FloatArray]:
    if kind == "grid":
        return (np.arange(n_out) + 0.5) / n_out, (np.arange(n_in) + 0.5) / n_in
    rng = np.random.default_rng(seed)
    return rng.random(n_out), rng.random(n_in)


@pytest.mark.parametrize("kind", ["grid", "random", "explicit"])
def test_sampled_block_densities_are_those_of_the_graphon(kind: str) -> None:
    """3 x 3 asymmetric blocks: the count of every block is binomial; 9 z-scores within 4.5."""
    n_out, n_in, seed = 700, 900, 11
    u, v = positions_of(kind, n_out, n_in, seed)
    if kind == "explicit":
        mask = STEP.sample(n_out, n_in, seed + 1, positions=(u, v))
    else:
        mask = STEP.sample(n_out, n_in, seed, positions=kind)
    assert mask.shape == (n_out, n_in)
    assert mask.dtype == np.bool_
    rows, columns = (np.searchsorted(e, p, side="right") - 1 for e, p in ((U_EDGES, u), (V_EDGES, v)))
    for i in range(3):
        for j in range(3):
            block = mask[np.ix_(rows == i, columns == j)]
            p = VALUES[i, j]
            if p in (0.0, 1.0):
                assert block.mean() == p
            else:
                assert abs(block.sum() - block.size * p) <= 4.5 * np.sqrt(block.size * p * (1 - p))
    assert abs(mask.mean() - mask.T.mean()) == 0
    assert not np.array_equal(mask[:n_out, :n_out], mask[:n_out, :n_out].T)


def test_entries_are_independent() -> None:
    """Row sums of a constant graphon vary like binomials: no unit of luck is shared."""
    mask = gt.ConstantGraphon(0.3).sample(2000, 500, 3)
    for sums, n in ((mask.sum(axis=1), 500), (mask.sum(axis=0), 2000)):
        variance = sums.var(ddof=1) / (n * 0.3 * 0.7)
        assert abs(variance - 1) <= 4.5 * np.sqrt(2 / len(sums))


@pytest.mark.parametrize("positions", ["grid", "random"])
def test_same_seed_same_mask(positions: str) -> None:
    first = SMOOTH.sample(50, 60, 7, positions=positions)
    np.testing.assert_array_equal(first, SMOOTH.sample(50, 60, 7, positions=positions))
    np.testing.assert_array_equal(first, SMOOTH.sample(50, 60, np.random.default_rng(7), positions=positions))
    assert not np.array_equal(first, SMOOTH.sample(50, 60, 8, positions=positions))


def test_a_generator_moves_on() -> None:
    rng = np.random.default_rng(7)
    assert not np.array_equal(STEP.sample(30, 30, rng), STEP.sample(30, 30, rng))


def test_large_masks_come_in_parts_of_one_stream() -> None:
    """3,000 columns are drawn 333 rows at a time; the mask is that of one draw."""
    mask = STEP.sample(700, 3000, 5)
    u, v = positions_of("grid", 700, 3000, 0)
    np.testing.assert_array_equal(mask, np.random.default_rng(5).random((700, 3000)) < STEP(u[:, None], v))


def test_certain_connections_are_certain() -> None:
    assert gt.ConstantGraphon(1.0).sample(40, 50, 0).all()
    assert gt.ConstantGraphon(1.0 + 5e-13).sample(40, 50, 0).all()
    assert not gt.ConstantGraphon(0.0).sample(40, 50, 0).any()
    assert not gt.ConstantGraphon(-5e-13).sample(40, 50, 0).any()


@pytest.mark.parametrize("p", [1.0 + 1e-11, 1.2, -1e-11, -0.3])
def test_sampling_wants_a_density(p: float) -> None:
    with pytest.raises(gt.GraphonError, match=r"must lie in \[0, 1\], got values in .* from Constant.*; rescale"):
        gt.ConstantGraphon(p).sample(4, 5, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_out": 0}, "n_out: expected a positive number of units, got 0"),
        ({"n_in": 2.5}, r"n_in: expected a positive number of units, got 2\.5"),
        ({"n_in": True}, "n_in: expected a positive number of units, got True"),
        ({"rng": "seed"}, "rng: expected a numpy Generator or a seed, got 'seed'"),
        ({"rng": -1}, "rng: expected a numpy Generator or a seed, got -1"),
        ({"positions": "sorted"}, r'positions: expected "grid", "random" or a pair \(u, v\), got \'sorted\''),
        ({"positions": None}, r'positions: expected "grid", "random" or a pair \(u, v\), got None'),
        ({"positions": (np.zeros(3),)}, r'positions: expected "grid", "random" or a pair'),
        ({"positions": (np.zeros(4), np.zeros(3))}, r"positions: expected u of shape \(3,\) and v of shape \(4,\)"),
        ({"positions": (np.zeros(3), np.full(4, 1.5))}, r"v: positions must lie in \[0, 1\], got 1\.5"),
        ({"positions": (np.full(3, np.nan), np.zeros(4))}, r"u: positions must lie in \[0, 1\], got nan"),
        ({"positions": (["a"] * 3, np.zeros(4))}, "positions: expected an array of real numbers"),
    ],
)
def test_samples_name_what_is_wrong(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        STEP.sample(**{"n_out": 3, "n_in": 4, "rng": 0, **arguments})


# --- the four kinds at the door ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([0, 0.5, 0.5, 1], r"u_edges: expected increasing edges from 0 to 1, got \[0"),
        ([0, 0.7, 0.5, 1], "u_edges: expected increasing edges from 0 to 1"),
        ([0.1, 0.5, 0.7, 1], "u_edges: expected increasing edges from 0 to 1"),
        ([0, 0.3, 0.5, 0.9], "u_edges: expected increasing edges from 0 to 1"),
        ([0, 0.3, np.nan, 1], "u_edges: expected increasing edges from 0 to 1"),
        ([0, 0.5, 1], "u_edges: 3 blocks need 4 edges, got 3"),
        ([[0, 0.5, 0.7, 1]], "u_edges: expected increasing edges from 0 to 1"),
        (0.5, "u_edges: expected increasing edges from 0 to 1"),
        (["0", "0.3", "0.5", "1"], "u_edges: expected an array of real numbers"),
    ],
)
def test_step_edges_must_increase_from_0_to_1(edges: Any, message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.StepGraphon(VALUES, u_edges=edges)
    with pytest.raises(gt.GraphonError, match=message.replace("u_edges", "v_edges")):
        gt.StepGraphon(VALUES, v_edges=edges)
    if np.ndim(edges) == 1 and len(edges) == 4:
        with pytest.raises(gt.GraphonError, match=message):
            gt.FunctionGraphon(asymmetric, u_edges=edges)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 0.5], r"values: expected a 2-D array of blocks, got shape \(2,\)"),
        (np.zeros((2, 2, 2)), "values: expected a 2-D array of blocks"),
        ([[]], r"values: expected a 2-D array of blocks, got shape \(1, 0\)"),
        ([[0.5, np.nan]], r"values: expected finite numbers, got nan in block \(0, 1\)"),
        ([[0.5], [-np.inf]], r"values: expected finite numbers, got -inf in block \(1, 0\)"),
        ([[0.5, 0.5], [0.5]], "values: expected an array of real numbers"),
        ([["0.5"]], "values: expected an array of real numbers"),
        ([[0.5 + 0.1j]], "values: expected an array of real numbers"),
        ([[None]], "values: expected finite numbers"),
    ],
)
def test_step_values_must_be_finite_blocks(values: Any, message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.StepGraphon(values)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (np.nan, "p: expected a finite number, got nan"),
        (np.inf, "p: expected a finite number, got inf"),
        (10**400, "p: expected a finite number, got inf"),
        ("0.5", r"p: expected a real number, got '0\.5'"),
        (True, "p: expected a real number, got True"),
        (0.5j, "p: expected a real number"),
        (None, "p: expected a real number, got None"),
        ([[0.5]], "p: expected a real number, .* a 2-D array makes a StepGraphon"),
    ],
)
def test_constants_must_be_finite_reals(p: Any, message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.ConstantGraphon(p)


@pytest.mark.parametrize("expression", ["log(u - 1)", "sqrt(-v)", "Piecewise((1, u < 0.4))", "(u - 1)**(1/3)"])
def test_analytic_graphons_must_be_finite(expression: str) -> None:
    with pytest.raises(gt.GraphonError, match=r"the value at u=.*, v=.* is nan; a graphon must be finite .* bound it"):
        gt.AnalyticGraphon(expression)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (0.5, "f: expected a callable of .*, got float"),
        (lambda u, v: u if u < v else v, "f: <lambda> cannot take arrays .* write it with NumPy functions"),
        (lambda u: u, "f: <lambda> cannot take arrays"),
        (lambda u, v: (u * v).ravel(), r"f: <lambda> maps arrays of shape \(2, 3\) to shape \(6,\)"),
        (lambda u, v: u + 1j * v, "f: <lambda> returns complex128 values; it must return real numbers"),
        (lambda u, v: None, "f: <lambda> returns object values"),
        (lambda u, v: "0.5", "f: <lambda> returns <U3 values"),
    ],
)
def test_functions_must_map_arrays_to_real_arrays(f: Any, message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.FunctionGraphon(f)


def test_functions_may_return_a_constant_or_whole_numbers() -> None:
    assert gt.FunctionGraphon(lambda u, v: 0.25)(UU, VV).shape == UU.shape
    assert gt.FunctionGraphon(lambda u, v: (u < v).astype(int)).mean() == pytest.approx(0.5, rel=1e-14)
    assert gt.FunctionGraphon(lambda u, v: u < v, diagonal=True).mean() == pytest.approx(0.5, rel=1e-14)


def test_values_that_are_not_finite_are_refused_where_they_are_met() -> None:
    graphon = gt.FunctionGraphon(lambda u, v: np.where(u < 0.1, np.nan, v))
    assert graphon(0.5, 0.25) == 0.25
    with pytest.raises(gt.GraphonError, match=r"the value at u=0\.05, v=0\.5 is nan; .* bound it there"):
        graphon([0.5, 0.05], 0.5)
    with pytest.raises(gt.GraphonError, match="is nan"):
        graphon.mean()


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (0.25, gt.ConstantGraphon(0.25)),
        (1, gt.ConstantGraphon(1.0)),
        (np.float32(0.5), gt.ConstantGraphon(0.5)),
        (Fraction(1, 4), gt.ConstantGraphon(0.25)),
        (np.array(0.5), gt.ConstantGraphon(0.5)),
        ([[0.1, 0.2]], gt.StepGraphon([[0.1, 0.2]])),
        (np.array([[0.1], [0.2]]), gt.StepGraphon([[0.1], [0.2]])),
        ("u*v", gt.AnalyticGraphon("u*v")),
        (sp.Symbol("u") * sp.Symbol("v"), gt.AnalyticGraphon("u*v")),
        (sp.Rational(1, 3), gt.AnalyticGraphon("1/3")),
        (asymmetric, gt.FunctionGraphon(asymmetric)),
        (STEP, STEP),
    ],
)
def test_as_graphon_takes_every_kind(obj: object, expected: gt.Graphon) -> None:
    assert gt.as_graphon(obj) == expected


@pytest.mark.parametrize("obj", [None, True, 1 + 2j, {"p": 0.5}, [0.5, 0.5], [["a"]], [], object()])
def test_as_graphon_refuses_the_rest(obj: object) -> None:
    with pytest.raises(gt.GraphonError, match="expected"):
        gt.as_graphon(obj)


# --- what users see ---------------------------------------------------------------------------------------------------


def test_reprs_read_like_the_constructor() -> None:
    assert repr(gt.ConstantGraphon(0.25)) == "ConstantGraphon(0.25)"
    assert repr(gt.StepGraphon([[0.1, 0.2]])) == "StepGraphon([[0.1, 0.2]])"
    assert eval(repr(STEP), {"StepGraphon": gt.StepGraphon}) == STEP
    assert repr(gt.AnalyticGraphon("u*v/2")) == "AnalyticGraphon('u*v/2')"
    assert repr(FUNCTION) == "FunctionGraphon(asymmetric)"
    assert repr(FUNCTION.T) == "FunctionGraphon(asymmetric.T)"
    assert repr(gt.StepGraphon(np.eye(20))) == "StepGraphon(20 x 20 blocks, values in [0, 1])"


@every
def test_html_shows_rows_downwards_and_latex_is_math(graphon: gt.Graphon) -> None:
    html = graphon._repr_html_()
    assert html.count("<svg") == html.count("</svg>") == 1
    assert "receiving u" in html
    assert "sending v" in html
    assert html.startswith("<div><code>")
    assert "<lambda>" not in html
    latex = graphon._repr_latex_()
    assert latex.startswith("$W(u, v) = ")
    assert latex.endswith("$")
    assert latex.count("{") == latex.count("}")


def test_html_picture_has_receiving_rows_and_yellow_means_dense() -> None:
    dense, empty = '<path fill="#fee838" d="M', '<path fill="#00224e" d="M'
    html = gt.StepGraphon([[1.0, 0.0], [0.0, 0.0]])._repr_html_()
    assert f'{dense}0 0H66V66H0z"/>' in html
    html = gt.StepGraphon([[0.0, 1.0], [0.0, 0.0]])._repr_html_()
    assert f'{dense}66 0H132V66H66z"/>' in html  # x is the column
    assert f'{empty}0 0H66V66H0zM0 66H132V132H0z"/>' in html


def test_html_of_a_graphon_that_cannot_be_drawn_says_why() -> None:
    html = gt.FunctionGraphon(lambda u, v: np.where(u < 0.1, np.nan, v))._repr_html_()
    assert "FunctionGraphon(&lt;lambda&gt;)" in html
    assert "is nan" in html
