"""The table of problems is itself right: well formed, resolved, and where possible known in closed form."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import sympy
from numpy.typing import NDArray

import graphon_theory as gt
from tests.problem_parts import DATA, Problem, Spec, Step, graphon
from tests.problems import BLACK_BOXES, BY_NAME, PROBLEMS
from tests.reference import Layer, classical_ntk, limit_reference, relative_error, weighted
from tests.reference_duals import DUALS, multiprecision
from tests.tools.brute_force import EPS, Hints, function_of, gauss, interpolation, panel_ends, resolve
from tests.tools.make_problem_references import COARSE, HINTS

EVERY = [*PROBLEMS, *BLACK_BOXES]
MP = multiprecision(40)


def _named(problem: Problem) -> str:
    return problem.name


needs_long_double = pytest.mark.skipif(bool(EPS > 1e-18), reason="long double is no wider than double here")
each_problem = pytest.mark.parametrize("problem", EVERY, ids=_named)


# --- well formed ----------------------------------------------------------------------------------


def test_names() -> None:
    assert len({problem.name for problem in EVERY}) == len(EVERY) == len(BY_NAME)
    assert len(PROBLEMS) >= 25
    assert set(HINTS) <= set(BY_NAME)
    with np.load(DATA) as archive:
        assert {key.split("/")[0] for key in archive.files} == set(BY_NAME)


@each_problem
def test_references_belong_to_the_problem_and_are_resolved(problem: Problem) -> None:
    with np.load(DATA) as archive:
        assert str(archive[f"{problem.name}/fingerprint"]) == problem.fingerprint, "regenerate the references"
    assert 0 < problem.resolution_error <= 1e-14


@each_problem
def test_references_are_kernels(problem: Problem) -> None:
    n, d = problem.x.shape
    assert n == 6
    if problem.widths is not None:
        assert problem.widths[0] == d
        assert len(problem.widths) == len(problem.layers)
    shape = (n, n) if problem.outputs == 1 else (problem.outputs, n, n)
    assert problem.ntk_layer.shape == (len(problem.layers), *shape)
    np.testing.assert_allclose(problem.ntk_layer.sum(axis=0), problem.ntk, rtol=1e-14, atol=1e-15)
    for kernel in (problem.nngp, problem.ntk, *problem.ntk_layer):
        assert kernel.shape == shape
        np.testing.assert_array_equal(kernel, np.swapaxes(kernel, -1, -2))
        lowest = np.linalg.eigvalsh(kernel).min(axis=-1)
        assert np.all(lowest >= -1e-14 * np.trace(kernel, axis1=-2, axis2=-1))


@each_problem
def test_masks_and_variances_are_admissible(problem: Problem) -> None:
    """W in [0, 1], V >= 0, and V = 0 exactly where W = 0 (THEORY §2)."""
    u, v = (np.arange(64)[:, None] + 0.5) / 64, (np.arange(60)[None, :] + 0.5) / 60
    for layer in problem.connectivities:
        mask, variance = function_of(layer.mask)(u, v), function_of(layer.variance or 0.0)(u, v)
        assert mask.min() >= 0
        assert mask.max() <= 1
        np.testing.assert_array_equal(variance > 0, mask > 0)


def _specs() -> list[Spec]:
    return list(dict.fromkeys(s for p in EVERY for c in p.connectivities for s in (c.mask, c.variance or 0.0)))


@pytest.mark.parametrize("spec", _specs(), ids=str)
def test_package_and_reference_read_the_same_graphon(spec: Spec) -> None:
    u, v = np.random.default_rng(11).random((2, 200))
    got = gt.as_graphon(graphon(spec))(u, v)
    np.testing.assert_allclose(got, function_of(spec)(u, v).astype(np.float64), rtol=1e-14, atol=1e-15)


@each_problem
def test_networks_can_be_built(problem: Problem) -> None:
    network = problem.network()
    assert len(network.layers) == len(problem.layers)
    assert network.outputs == problem.outputs
    assert network.weight_variance == problem.weight_variances


@pytest.mark.parametrize("problem", [p for p in EVERY if p.inputs in ("three", "four")], ids=_named)
def test_duplicate_opposite_and_zero_rows(problem: Problem) -> None:
    for kernel in (problem.nngp, problem.ntk):
        np.testing.assert_allclose(kernel[..., 0, :], kernel[..., 3, :], rtol=1e-15)
        if problem.bias_variance == 0:
            assert np.all(kernel[..., 5, :] == 0)


# --- the tool: rules and grading ------------------------------------------------------------------


def test_gauss_is_exact_to_its_degree_and_no_further() -> None:
    x, w = gauss(7)
    for degree in range(14):
        want = np.longdouble(0 if degree % 2 else 2) / (degree + 1)
        assert abs((w * x**degree).sum() - want) <= 8 * EPS
    assert abs((w * x**14).sum() - np.longdouble(2) / 15) > 1e-6


def test_interpolation_is_exact_on_polynomials() -> None:
    t = np.array([-1, -0.3, 0.55, 1], dtype=np.longdouble)
    nodes = gauss(6)[0]
    matrix = interpolation(6, np.concatenate([t, nodes[:1]]))
    assert np.abs(matrix[:4] @ nodes**5 - t**5).max() <= 64 * EPS
    np.testing.assert_array_equal(matrix[4], np.eye(6)[0])


def test_panels_are_graded_where_declared() -> None:
    ends = panel_ends((0.5,), (0.25,), COARSE)
    assert ends[0] == 0
    assert ends[-1] == 1
    assert np.all(np.diff(ends) > 0)
    assert {0.25, 0.5} <= set(ends.tolist())
    assert np.diff(ends)[np.searchsorted(ends, 0.25)] < 1e-11
    assert np.diff(ends)[-1] == 0.25


@needs_long_double
@pytest.mark.parametrize("name", ["smooth_asymmetric", "dead_corner", "two_outputs_kinked", "step_unequal"])
def test_references_can_be_made_again(name: str) -> None:
    problem = BY_NAME[name]
    got = resolve(problem, HINTS.get(name, Hints()), COARSE)
    for key in ("nngp", "ntk", "ntk_layer"):
        want = getattr(problem, key)
        np.testing.assert_allclose(getattr(got, key).astype(np.float64).reshape(want.shape), want, rtol=1e-14)


@needs_long_double
def test_a_forgotten_edge_is_seen() -> None:
    """The self-check has teeth: without the edge that travelled, two resolutions disagree."""
    problem, hints = BY_NAME["kinked_input_distance"], HINTS["kinked_input_distance"]
    got = resolve(problem, replace(hints, edges=(hints.edges[0], (), ())), COARSE)
    assert relative_error(got.ntk[0], problem.ntk).max() > 1e-12
    got = resolve(problem, replace(hints, edges=((), (), ())), COARSE)
    assert relative_error(got.ntk[0], problem.ntk).max() > 1e-9


# --- closed forms and other routes ----------------------------------------------------------------


def _block_operators(problem: Problem) -> list[Layer]:
    """Constants and steps as exact operator matrices over the common refinement of all their blocks."""
    inner: set[float] = set()
    for layer in problem.connectivities:
        for spec in (layer.mask, layer.variance):
            if isinstance(spec, Step):
                for edges, count in ((spec.u_edges, len(spec.values)), (spec.v_edges, len(spec.values[0]))):
                    inner |= set(np.arange(count + 1) / count) if edges is None else set(edges)
    d = problem.x.shape[1]
    walls = np.array(sorted(inner | {0.0, 1.0} | {j / d for j in range(d + 1)}))
    middle, lengths = (walls[1:] + walls[:-1]) / 2, np.diff(walls)
    atom = np.minimum((middle * d).astype(int), d - 1)
    gather = np.zeros((len(middle), d))  # input cells: block lengths summed within each atom, which weighs 1/d
    gather[np.arange(len(middle)), atom] = lengths
    out = []
    for level, layer in enumerate(problem.connectivities):
        u = middle if level + 1 < len(problem.layers) else np.array([0.5])
        matrices = []
        for spec in (layer.mask, layer.variance or 0.0):
            values = function_of(spec)(u[:, None], middle[None, :]).astype(np.float64)
            matrices.append((values @ gather).tolist() if level == 0 else weighted(values, lengths.tolist()))
        out.append(Layer(matrices[0], matrices[1]))
    return out


STEPPED = [p for p in PROBLEMS if not any(isinstance(s, str) for c in p.connectivities for s in (c.mask, c.variance))]


@pytest.mark.parametrize("problem", STEPPED, ids=_named)
def test_steps_are_the_plain_loops(problem: Problem) -> None:
    got = limit_reference(
        _block_operators(problem),
        problem.x,
        activation=problem.activation,
        weight_variance=problem.weight_variances,
        bias_variance=problem.bias_variance,
    )
    assert relative_error(got.nngp[0], problem.nngp).max() <= 1e-14
    assert relative_error(got.ntk[0], problem.ntk).max() <= 1e-14
    for level in range(len(problem.layers)):
        assert np.abs(got.ntk_layer[level, 0] - problem.ntk_layer[level]).max() <= 1e-14 * problem.ntk.max()


def test_there_are_stepped_problems() -> None:
    assert len(STEPPED) >= 6


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("constant", 0.5 * 0.25 * 0.75),
        # int exp(-u) du  int u exp(-u) du  int u du
        ("separable_relu", (1 - np.exp(-1)) * (1 - 2 * np.exp(-1)) / 2),
        # int exp(-u) du  int exp(-2v) (v - v^2/2) dv, the mean of min(v, .) being v - v^2/2
        ("one_input", (1 - np.exp(-1)) * (1 - np.exp(-2)) / 8),
    ],
)
def test_scalar_reductions(name: str, path: float) -> None:
    """Path density times the dense kernel in mpmath (THEORY §3)."""
    problem = BY_NAME[name]
    nngp, ntk = (k.astype(np.float64) for k in classical_ntk(problem.x, len(problem.layers)))
    assert relative_error(problem.nngp, path * nngp).max() <= 2e-15
    assert relative_error(problem.ntk, path * ntk).max() <= 2e-15


def test_a_polynomial_in_closed_form() -> None:
    """min(u, v) twice with phi = z: K and T stay polynomials in u, integrated by SymPy in rationals."""
    problem = BY_NAME["minimum_identity"]
    u, v, q = sympy.symbols("u v q", positive=True)
    s, b = sympy.Integer(2), sympy.Rational(1, 4)

    def through_minimum(g: Any) -> Any:
        g = sympy.sympify(g).subs(u, v)
        return sympy.expand(sympy.integrate(v * g, (v, 0, u)) + u * sympy.integrate(g, (v, u, 1)))

    def mean(g: Any) -> Any:
        return sympy.integrate(g, (u, 0, 1))

    k: Any = s * q + b  # q stands for x.x'/d
    t: Any = k
    for operator in (through_minimum, through_minimum, mean):
        k, t = s * operator(k) + b, s * operator(k) + b + s * operator(t)
    x = problem.x
    gram = x @ x.T / x.shape[1]
    for got, want in ((problem.nngp, k), (problem.ntk, t)):
        exact = np.array([[float(want.subs(q, sympy.Rational(value))) for value in row] for row in gram])
        assert relative_error(got, exact).max() <= 1e-15


def test_single_layers_in_closed_form() -> None:
    """Means of |u - v| and of 1[u > v] over cells, in rationals."""
    u = sympy.Symbol("u", real=True)
    distance = BY_NAME["one_layer"]
    d = distance.x.shape[1]
    over_u = u**2 / 2 + (1 - u) ** 2 / 2
    rows = [[float(d * sympy.integrate(over_u, (u, sympy.Rational(j, d), sympy.Rational(j + 1, d)))) for j in range(d)]]
    step = BY_NAME["one_layer_outputs"]
    cells = []
    for o, j in itertools.product(range(3), range(d)):
        low, high = sympy.Rational(j, d), sympy.Rational(j + 1, d)
        inner = sympy.Max(0, sympy.Min(u, high) - low)  # length of {v in the cell: v < u}
        cells.append(float(3 * d * sympy.integrate(inner, (u, sympy.Rational(o, 3), sympy.Rational(o + 1, 3)))))
    for problem, means in ((distance, np.array(rows)), (step, np.array(cells).reshape(3, d))):
        want = np.einsum("oj,aj,bj->oab", means * 2 / d, problem.x, problem.x) + problem.bias_variance
        assert relative_error(problem.nngp, want.reshape(problem.nngp.shape)).max() <= 4e-15
        np.testing.assert_array_equal(problem.nngp, problem.ntk)


def _unit_gauss(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1) / 2, w / 2


def _exact_duals(k: Callable[[int, int], Any], i: int, j: int) -> tuple[Any, Any]:
    return DUALS["relu"].pair(MP, 0, 0, (k(i, j), k(i, i), k(j, j)))


@pytest.mark.parametrize("name", ["minimum", "heaviside"])
def test_kinks_by_a_root_substitution(name: str) -> None:
    """Positions u = s^2 make the roots at u = 0 analytic: no panels, no interpolation, mpmath duals.

    K^2(u) = sigma_w^2 C^1 g(u) + sigma_b^2 with g(u) = int W(u, v) dv; K^3 is one integral of it, the output
    a second.
    """
    problem = BY_NAME[name]
    x, (sw2, sb2) = problem.x, (MP.number(2), MP.number(problem.bias_variance))
    nodes, weights = _unit_gauss(28)

    @cache
    def first(i: int, j: int) -> Any:
        return sw2 * sum(MP.number(p) * MP.number(q) for p, q in zip(x[i], x[j], strict=True)) / x.shape[1] + sb2

    @cache
    def first_duals(i: int, j: int) -> tuple[Any, Any]:
        return _exact_duals(first, i, j)

    def degree(u: Any) -> Any:
        return u - u * u / 2 if name == "minimum" else u

    def second(i: int, j: int, u: Any) -> tuple[Any, Any]:
        c, dot = first_duals(i, j)
        source = sw2 * degree(u) * c + sb2
        return source, source + sw2 * degree(u) * dot * first(i, j)

    def third(i: int, j: int, u: float) -> tuple[Any, Any]:
        root = np.sqrt(u)
        k, t = sb2, sb2
        pieces = [(0.0, root)] if name == "heaviside" else [(0.0, root), (root, 1.0)]
        for low, high in pieces:
            for node, weight in zip(nodes, weights, strict=True):
                s = low + (high - low) * node
                v = s * s
                w = sw2 * weight * (high - low) * 2 * s * (min(u, v) if name == "minimum" else 1)
                c, dot = _exact_duals(lambda a, b, v=v: second(a, b, v)[0], i, j)  # type: ignore[misc]
                k, t = k + w * c, t + w * (c + dot * second(i, j, v)[1])
        return k, t

    for i, j in ((0, 1), (1, 4)):
        nngp, ntk = sb2, sb2
        for node, weight in zip(nodes, weights, strict=True):
            u = node * node
            here = {(a, b): third(a, b, u) for a, b in ((i, j), (i, i), (j, j))}
            c, dot = _exact_duals(lambda a, b, here=here: here[a, b][0], i, j)  # type: ignore[misc]
            w = sw2 * weight * 2 * node
            nngp, ntk = nngp + w * c, ntk + w * (c + dot * here[i, j][1])
        assert float(nngp) == pytest.approx(problem.nngp[i, j], rel=1e-13)
        assert float(ntk) == pytest.approx(problem.ntk[i, j], rel=1e-13)


def test_a_rank_transition_by_root_substitution() -> None:
    """In every quarter v = a + s^2 / 4: |rho| leaves 1 like s. The second layer is smooth."""
    problem = BY_NAME["rank_transition"]
    x = problem.x
    nodes, weights = _unit_gauss(32)
    sw2 = MP.number(2)
    v = [(a / 4 + s * s / 4, weight * s / 2) for a in range(4) for s, weight in zip(nodes, weights, strict=True)]

    def first(position: float, i: int, j: int) -> Any:
        active = [MP.number(min(max(4 * position - c, 0.0), 1.0)) for c in range(4)]
        products = (a * MP.number(p) * MP.number(q) for a, p, q in zip(active, x[i], x[j], strict=True))
        return sw2 * sum(products) / 4

    for i, j in ((0, 3), (0, 4), (1, 2)):
        table = {}
        for a, b in {(i, j), (i, i), (j, j)}:
            table[a, b] = [_exact_duals(partial(first, at), a, b) for at, _ in v]
        nngp, ntk = MP.number(0), MP.number(0)
        for u, weight in zip(nodes, weights, strict=True):
            graph = [np.exp(-((u - at) ** 2)) * w for at, w in v]
            k = {ab: sw2 * sum(g * c for g, (c, _) in zip(graph, own, strict=True)) for ab, own in table.items()}
            t = k[i, j] + sw2 * sum(
                g * dot * first(at, i, j) for g, (_, dot), (at, _) in zip(graph, table[i, j], v, strict=True)
            )
            c, dot = _exact_duals(lambda a, b, k=k: k[a, b], i, j)  # type: ignore[misc]
            nngp, ntk = nngp + sw2 * weight * c, ntk + sw2 * weight * (c + dot * t)
        scale = np.sqrt(problem.ntk[i, i] * problem.ntk[j, j])
        assert abs(float(nngp) - problem.nngp[i, j]) <= 1e-13 * scale
        assert abs(float(ntk) - problem.ntk[i, j]) <= 1e-13 * scale
