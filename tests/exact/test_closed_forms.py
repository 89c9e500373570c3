"""closed_form against the engine, at random inputs and degenerate ones; and where there is no finite form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation

RNG = np.random.default_rng(8)
D = 6
X, X2 = 0.8 * RNG.standard_normal((5, D)), 0.8 * RNG.standard_normal((3, D))
X[3], X[4] = 1.5 * X[0], 0.0  # collinear, and dead
PROFILE = np.array([[0.9, 0.2, 0.5, 0.7, 0.4]])  # five cells over six inputs
BLOCKS = gt.StepGraphon(RNG.integers(5, 95, (3, 3)) / 100, [0, 0.2, 0.7, 1], [0, 0.4, 0.5, 1])
OWN = gt.Connectivity(BLOCKS, gt.StepGraphon(BLOCKS.values**2 * 1.7, BLOCKS.u_edges, BLOCKS.v_edges))
PRUNED = gt.magnitude_pruning(0.2)

NETWORKS: dict[str, gt.Network] = {
    "constant, depth 5": gt.Network([0.9, 0.5, 0.3, 0.7, 0.8]),
    "constant, depth 5, bias, gelu": gt.Network([0.9, 0.5, 0.3, 0.7, 0.8], "gelu", 1.3, 0.2),
    "three blocks, depth 3, bias, erf": gt.Network([1.0, BLOCKS, BLOCKS.T], "erf", 1.5, 0.1),
    "three blocks, depth 4, bias, relu": gt.Network([1.0, BLOCKS, BLOCKS.T, 0.7], "relu", 1.5, 0.1),
    "three blocks, depth 3, relu": gt.Network([PROFILE, BLOCKS, BLOCKS.T], outputs=2),
    "separable u v, depth 3": gt.Network([1.0, "u*v", "u*v"]),
    "separable exp(-u - v), depth 3": gt.Network(["u*v", "exp(-u - v)", "exp(-u - v)"]),
    "separable with V != W": gt.Network([gt.Connectivity("u*v/2", "u**2*v"), gt.Connectivity("u*v", "u*v**2"), 1.0]),
    "sum of products, bias, identity": gt.Network(["0.2 + u*v/2", "exp(-u - v)", "u*v", 1.0], "identity", 1.5, 0.2),
    "separable at the read-out, erf": gt.Network([1.0, BLOCKS, "exp(-u - v)"], "erf", outputs=2),
    "kinks on the diagonal": gt.Network([1.0, "min(u, v)", "abs(u - v)", 1.0], "leaky_relu"),
    "callable": gt.Network([1.0, lambda u, v: np.cos(u - 2 * v) ** 2, 1.0], "abs"),
    "magnitude, all layers": gt.Network([PRUNED] * 4),
    "magnitude, hidden layers, erf": gt.Network([1.0, PRUNED, PRUNED, 1.0], "erf"),
    "V != W, bias": gt.Network([1.0, OWN, BLOCKS, 1.0], "erf", 1.5, 0.1),
    "several input profiles": gt.Network([RNG.uniform(0.1, 0.9, (3, D)), BLOCKS, 1.0], "erf", 2.0, 0.1),
    "cube of a separable layer": gt.Network([1.0, "u*v", "exp(-u - v)", 1.0], gt.Activation("z**3"), 0.5),
    "standard parameterization": gt.Network([1.0, BLOCKS, BLOCKS, 1.0], "erf", 1.5, 0.1, "standard", (D, 10, 20, 30)),
    "standard parameterization, relu": gt.Network([1.0, BLOCKS, 1.0], "relu", 1.5, 0.0, "standard", (D, 10, 20)),
    "dead block": gt.Network([1.0, [[0.5, 0.2], [0, 0]], [[0.1, 0.3], [0.4, 0.2]], 1.0], "cos"),
    "no hidden layer": gt.Network([gt.Connectivity(PROFILE, PROFILE**2)], "erf", 1.5, 0.1),
}
ACTIVATIONS = ("relu", "leaky_relu", "abs", "identity", "step", "erf", "sin", "cos", "exp", "gaussian", "gelu")


def distance(network: gt.Network, x2: np.ndarray | None = None) -> float:
    """Of both kernels from the engine's, relative to the largest entry of each."""
    form, engine = gt.closed_form(network).evaluate(X, x2), gt.limit_kernel(network, X, x2)
    assert form.ntk.dims == engine.ntk.dims
    return max(float(np.abs(form[k] - engine[k]).max() / np.abs(engine[k]).max()) for k in ("nngp", "ntk"))


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_engine(name: str) -> None:
    assert distance(NETWORKS[name]) <= 1e-12
    assert distance(NETWORKS[name], X2) <= 1e-12


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_closed_activation(name: str) -> None:
    table = gt.StepGraphon([[0.3, 0.6, 0.9], [0.2, 0.5, 0.1]])
    network = gt.Network([PROFILE, OWN, table], as_activation(name), 0.9, 0.1, outputs=2)
    assert distance(network) <= 1e-12


def test_path_integrals_have_names() -> None:
    form = gt.closed_form(gt.Network([1.0, "min(u, v)", PRUNED, 1.0]))
    s2 = form.definitions[sp.Symbol("s_2", real=True)]
    v = sp.Rational(str(PRUNED.variance.mean()))
    assert abs(s2 - v / 3) < 1e-15  # W = V at the second layer, V at the third; int min = 1/3
    assert form.definitions[sp.Symbol("s_3", real=True)] == sp.Rational(1, 15)
    assert form.ntk.has(sp.Symbol("s_1", real=True))
    alike = gt.closed_form(gt.Network([1.0, "min(u, v)", 0.2, 1.0]))
    assert alike.definitions[sp.Symbol("s", real=True)] == sp.Rational(1, 15)


def test_numbers_are_exact() -> None:
    """No float is left in a formula."""
    for name in NETWORKS.keys() - {"callable"}:
        form = gt.closed_form(NETWORKS[name])
        outputs = [e for k in (form.nngp, form.ntk) for e in (k if isinstance(k, tuple) else (k,))]
        assert not any(e.has(sp.Float) for e in (*outputs, *form.definitions.values()))
    form = gt.closed_form(gt.Network([1.0, 0.2], "erf", 1.5))
    k11, k22 = (sp.Symbol(f"K_1__{at}", nonnegative=True) for at in ("11", "22"))
    k12 = sp.Symbol("K_1__12", real=True)
    assert form.nngp == sp.Rational(3, 5) / sp.pi * sp.asin(2 * k12 / sp.sqrt((1 + 2 * k11) * (1 + 2 * k22)))


def test_in_rho() -> None:
    form = gt.closed_form(gt.Network([1.0, 1.0, 1.0])).at_equal_norms()
    rho = sp.Symbol("rho", real=True)
    angle = sp.acos(rho)
    kappa1 = (sp.sqrt(1 - rho**2) + (sp.pi - angle) * rho) / sp.pi  # Cho & Saul 2009
    kappa0 = (sp.pi - angle) / sp.pi
    second = kappa1.subs(rho, kappa1)
    want = 2 * (second + kappa0.subs(rho, kappa1) * (kappa1 + kappa0 * rho))  # Jacot et al. 2018, sigma_w^2 = 2
    got = form.expanded(form.ntk)
    assert got.free_symbols == {rho}
    for value in (-0.9, -0.1, 0.3, 0.99):
        assert abs(sp.N((got - want).subs(rho, value), 20)) < 1e-15
    with pytest.raises(gt.ClosedFormError, match="3 profiles"):
        gt.closed_form(NETWORKS["several input profiles"]).at_equal_norms()
    with pytest.raises(gt.InputError, match="takes no inputs"):
        form.evaluate(X)


def test_expanded_holds_moments_only() -> None:
    form = gt.closed_form(gt.Network([0.5, BLOCKS, 1.0], "erf", bias_variance=0.1))
    expanded = form.expanded(form.ntk)
    assert {str(s) for s in expanded.free_symbols} == {"q11", "q12", "q22"}
    q = X @ X[1] / D
    at = {s: sp.Float(v, 30) for s, v in zip(form.moments[0].symbols, (X[0] @ X[0] / D, q[0], q[1]), strict=True)}
    assert abs(float(expanded.subs(at)) - float(form.evaluate(X).ntk[0, 1])) < 1e-14


def test_prints() -> None:
    form = gt.closed_form(gt.Network([0.5, 0.3, 1.0]))
    text = str(form)
    assert text.splitlines()[0] == "r_1 = q12/(sqrt(q11)*sqrt(q22))"
    assert "s = 3/20" in text
    assert text.splitlines()[-1].startswith("NTK = ")
    latex = form._repr_latex_()
    assert latex.startswith(r"$\displaystyle \begin{aligned} r_{1} &= \frac{q_{12}}")
    assert r"\mathrm{NTK} &= " in latex
    several = str(gt.closed_form(NETWORKS["separable at the read-out, erf"]))
    assert "NTK[0] = " in several
    assert "K_2_3__12" in several


REFUSED: list[tuple[Any, str]] = [
    (gt.Network([1.0, "u*v", 1.0], "erf"), "layer 3.*varies with position.*'erf' has no finite integral"),
    (gt.Network(["0.2 + u*v/2", 0.5, 1.0]), "layer 2.*varies with position"),
    (gt.Network([1.0, "min(u, v)", 1.0], bias_variance=0.1), "layer 2.*diagonal is not of finite rank"),
    (gt.Network([1.0, "exp(-3*(u - v)**2)", 1.0], "erf"), "layer 2.*finite sum of products"),
    (gt.Network([1.0, lambda u, v: u * v, 1.0], "erf"), "layer 2.*callable"),
    (gt.Network([1.0, BLOCKS, 1.0], "tanh"), "'tanh' has no closed form"),
    (gt.Network([1.0, gt.Connectivity(0.5, 0.5, 0.1), 1.0]), "carries drift"),
    (gt.Network([1.0, *[np.full((40, 40), 0.5)] * 40, 1.0], "erf"), "6404 named quantities"),
]


@pytest.mark.parametrize(("network", "reason"), REFUSED)
def test_refused_with_the_reason(network: gt.Network, reason: str) -> None:
    with pytest.raises(gt.ClosedFormError, match=reason):
        gt.closed_form(network)


def test_bad_arguments() -> None:
    with pytest.raises(gt.NetworkError, match="expected a Network"):
        gt.closed_form(1.0)  # type: ignore[arg-type]
    form = gt.closed_form(NETWORKS["constant, depth 5"])
    with pytest.raises(gt.InputError, match="x2: expected 6 inputs"):
        form.evaluate(X, X2[:, :2])
