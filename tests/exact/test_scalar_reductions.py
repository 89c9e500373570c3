"""scalar_reduction: whenever it claims, the kernels are the dense ones times its scalars; else it names the premise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import graphon_theory as gt
from graphon_theory.engine.adjoint import layer_contributions
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.recursion import Recursion, kernels
from graphon_theory.engine.reductions import slopes
from graphon_theory.exact.scalar_reductions import ScalarReduction

D = 5
X, X2 = np.random.default_rng(3).standard_normal((2, 6, D))
X[5] = 0.0


def general(network: gt.Network, x: np.ndarray = X, x2: np.ndarray = X2) -> tuple[np.ndarray, np.ndarray]:
    """NNGP (outputs, N, N2) and NTK_l (layers, outputs, N, N2) by the general route, which knows of no reduction."""
    both = np.concatenate([x, x2])
    operators = discretise(network, both, 1e-10).operators
    recursion = Recursion(operators, network.activation, both)
    return kernels(recursion, x, x2)[0], layer_contributions(recursion, x, x2)


def distance(network: gt.Network, found: ScalarReduction) -> float:
    """Of the NNGP, and of every layer's share of the NTK, from scalar times dense, relative to sqrt(K_ii K_jj).

    The kernels are those of different inputs: at coincident ones the adjoint pass knows angles to 1e-8 only.
    """
    assert found.dense is not None
    nngp, layers = general(network)
    dense, dense_layers = general(found.dense)
    factors = found.nngp if isinstance(found.nngp, tuple) else (found.nngp,)
    factor, scalars = np.array([float(s) for s in factors])[:, None, None], found.values[:, :, None, None]
    norms = [general(found.dense, x, x) for x in (X, X2)]
    whole = [np.diagonal(factor * n[0], axis1=1, axis2=2) for n in norms]
    own = [np.diagonal(scalars * n[1], axis1=2, axis2=3) for n in norms]
    return max(gap(nngp, factor * dense, *whole), gap(layers, scalars * dense_layers, *own))


def gap(got: np.ndarray, want: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance relative to the root of the diagonals (..., N) and (..., N2)."""
    scale = np.sqrt(np.abs(first)[..., :, None] * np.abs(second)[..., None, :])
    off = np.abs(got - want)
    assert (off[scale == 0] == 0).all()
    return float(np.divide(off, scale, out=np.zeros_like(off), where=scale > 0).max())


numbers = st.integers(1, 100).map(lambda n: n / 100)


@st.composite
def steps(draw: st.DrawFn) -> gt.StepGraphon:
    """Step graphons with their own unequal edges, blocks of zeros included."""
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    values = draw(
        st.lists(st.lists(numbers | st.just(0.0), min_size=columns, max_size=columns), min_size=rows, max_size=rows)
    )
    inner = st.integers(1, 19).map(lambda n: n / 20)

    def edges(n: int) -> list[float]:
        return [0.0, *sorted(draw(st.lists(inner, min_size=n - 1, max_size=n - 1, unique=True))), 1.0]

    return gt.StepGraphon(values, edges(rows), edges(columns))


FORMULAS = (
    "u*v",
    "exp(-u - 2*v)",
    "0.3 + u*v**2/2",
    "min(u, v)",
    "abs(u - v)",
    "exp(-3*(u - v)**2)",
    "cos(u - 2*v)**2",
)
graphons = numbers | steps() | st.sampled_from(FORMULAS)


@st.composite
def hidden_layers(draw: st.DrawFn) -> gt.Connectivity:
    graphon = gt.as_graphon(draw(graphons))
    if draw(st.booleans()) or isinstance(graphon, gt.AnalyticGraphon):
        return gt.Connectivity(graphon)
    assert isinstance(graphon, gt.StepGraphon)
    factors = np.array(draw(st.lists(numbers, min_size=graphon.values.size, max_size=graphon.values.size)))
    variance = 3 * factors.reshape(graphon.values.shape) * graphon.values
    return gt.Connectivity(graphon, gt.StepGraphon(variance, graphon.u_edges, graphon.v_edges))


@st.composite
def input_layers(draw: st.DrawFn) -> gt.Connectivity:
    """Row factors of W and of V times one column profile."""
    kind = draw(st.sampled_from(["constant", "table", "formula"]))
    if kind == "constant":
        return gt.Connectivity(draw(numbers))
    if kind == "formula":
        row, own = draw(st.sampled_from([("u", "u**2"), ("exp(-u)", "1 - u/2"), ("1", "u + 0.1")]))
        shape = draw(st.sampled_from(["v", "exp(-v)", "1/(1 + v)", "1 - v*(1 - v)"]))
        return gt.Connectivity(f"({own})*({shape})/2", f"({row})*({shape})")
    columns = draw(st.integers(1, D))
    profile = np.array(draw(st.lists(numbers, min_size=columns, max_size=columns)))
    rows = [np.array(draw(st.lists(numbers, min_size=2, max_size=2))) for _ in range(2)]
    return gt.Connectivity(np.outer(rows[0], profile), 2 * np.outer(rows[1], profile))


@st.composite
def networks(draw: st.DrawFn) -> gt.Network:
    """Networks that meet every premise."""
    depth = draw(st.integers(1, 4))
    layers = [draw(input_layers()), *(draw(hidden_layers()) for _ in range(depth - 1))]
    activation = draw(st.sampled_from(["relu", "leaky_relu", "abs", "identity"]))
    variances = [draw(st.integers(1, 8)) / 2 for _ in range(depth)]
    standard = draw(st.booleans())
    widths = [D, *(draw(st.integers(1, 500)) for _ in range(depth - 1))] if standard else None
    how = "standard" if standard else "ntk"
    return gt.Network(layers, activation, variances, 0.0, how, widths, draw(st.integers(1, 3)))


def check_claim(network: gt.Network) -> None:
    found = gt.scalar_reduction(network)
    assert found, found.reason
    assert found.reason == ""
    assert len(found.scalars) == network.depth
    assert distance(network, found) <= 1e-12


@settings(max_examples=15, deadline=None, derandomize=True)
@given(networks())
def test_what_it_claims_is_so(network: gt.Network) -> None:
    check_claim(network)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(networks())
def test_what_it_claims_is_so_for_many_networks(network: gt.Network) -> None:
    check_claim(network)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(networks(), st.sampled_from(["drift", "bias", "activation", "input"]), st.integers(0, 3))
def test_each_broken_premise_is_named(network: gt.Network, broken: str, where: int) -> None:
    layers: list[Any] = list(network.layers)
    activation, bias, word = network.activation, 0.0, {"bias": "bias_variance", "input": "layer 1"}.get(broken, broken)
    if broken == "drift":
        number = where % len(layers)
        layer = layers[number]
        if layer.mask.is_zero:
            return
        layers[number] = gt.Connectivity(layer.mask, layer.variance, layer.mask)
        word = f"layer {number + 1} carries drift"
    elif broken == "bias":
        bias = 0.1
    elif broken == "activation":
        if len(layers) == 1:
            return
        from graphon_theory.activations.activation import as_activation

        activation = as_activation(["erf", "gelu", "sin", "step"][where])
    else:
        layers[0] = [gt.Connectivity([[0.9, 0.1], [0.2, 0.6]]), "min(u, v)", "0.2 + u*v/2", "exp(-(u - v)**2)"][where]
    altered = network.changed(layers=tuple(layers), activation=activation, bias_variance=bias)
    found = gt.scalar_reduction(altered)
    assert not found
    assert word in found.reason
    assert found.scalars == ()
    assert found.dense is None


BLOCKS = gt.StepGraphon([[0.9, 0.1], [0.3, 0.8]], [0, 0.3, 1], [0, 0.6, 1])


@pytest.mark.parametrize(
    "network",
    [
        gt.Network([1.0, BLOCKS, BLOCKS.T, 1.0], bias_variance=0.5),
        gt.Network([1.0, BLOCKS, BLOCKS.T, 1.0], "erf"),
        gt.Network([[[0.9, 0.1], [0.1, 0.9]], BLOCKS, 1.0]),
        gt.Network([gt.Connectivity([[0.9, 0.2]], [[0.9, 0.9]]), BLOCKS, 1.0]),
    ],
    ids=["bias", "activation", "input layer", "W and V of the input layer"],
)
def test_a_no_is_not_too_careful(network: gt.Network) -> None:
    """In these networks no scalar per layer does: the ratio of kernels is no constant."""
    assert not gt.scalar_reduction(network)
    dense = gt.Network([1.0] * network.depth, network.activation, 2.0, network.bias_variance)
    ratio = general(network, X[:5])[1] / general(dense, X[:5])[1]
    spread = np.ptp(ratio, axis=(2, 3)) / np.abs(ratio).mean(axis=(2, 3))
    assert (spread.max(axis=0) > 1e-3).all()


def test_exact_numbers() -> None:
    # int min(u, v) dv = u - u^2/2; int int |u - v| (v - v^2/2) = 13/120, by hand
    found = gt.scalar_reduction(gt.Network([1.0, "min(u, v)", "abs(u - v)", 1.0]))
    assert found.exact
    assert found.scalars == (sp.Rational(13, 120),) * 4
    assert found.single
    assert str(found) == "NTK = 13/120 x dense NTK"
    found = gt.scalar_reduction(gt.Network(["u*v", "exp(-u - v)", 0.5]))
    inner = 1 - 2 * sp.exp(-1)  # int v exp(-v) dv
    for scalar in found.scalars:
        assert sp.simplify(scalar - inner * (1 - sp.exp(-1)) / 2) == 0
    assert found.profile == sp.Symbol("v", real=True)
    assert found.nngp == found.scalars[0]


def test_magnitude_pruning_of_all_layers_is_one_scalar_and_of_some_is_not() -> None:
    """THEORY §3: NTK_l = W V^(L-1) x dense where all layers are pruned."""
    pruned = gt.magnitude_pruning(0.2)
    everywhere = gt.scalar_reduction(gt.Network([pruned] * 3))
    assert everywhere.single
    v = pruned.variance.mean()
    np.testing.assert_allclose(everywhere.values, 0.2 * v * v, rtol=1e-14)
    somewhere = gt.scalar_reduction(gt.Network([1.0, pruned, 1.0]))
    assert not somewhere.single
    np.testing.assert_allclose(somewhere.values[:, 0], [v, 0.2, v], rtol=1e-14)
    assert "NTK_2 = 1/5" in str(somewhere)
    assert r"s_{2} &= \frac{1}{5}" in str(somewhere._repr_latex_())
    assert gt.scalar_reduction(gt.Network([1.0, 1.0], bias_variance=1.0))._repr_latex_() is None


def test_callables_are_floats_by_quadrature() -> None:
    network = gt.Network([1.0, lambda u, v: np.cos(u - v) ** 2, BLOCKS, 1.0], outputs=2)
    found = gt.scalar_reduction(network)
    assert found
    assert not found.exact
    assert distance(network, found) <= 1e-12
    at_inputs = gt.Network([gt.FunctionGraphon(lambda u, v: (1 + u) * v / 2), BLOCKS, 1.0])
    found = gt.scalar_reduction(at_inputs)
    assert found
    assert found.profile is None
    assert distance(at_inputs, found) <= 1e-12


def test_dead_layers_give_zero() -> None:
    found = gt.scalar_reduction(gt.Network([1.0, [[0.0, 0.0], [0.5, 0.0]], [[0.7, 0.0]], 1.0]))
    assert found.scalars == (0, 0, 0, 0)


ROUTES = {
    "shared": gt.Network([0.7, BLOCKS, "min(u, v)", BLOCKS.T], outputs=2),
    "V != W": gt.Network([1.0, gt.magnitude_pruning(0.2), gt.Connectivity(BLOCKS, 1.7 * BLOCKS.values**2), 0.5]),
    "profile": gt.Network([[[0.9, 0.2, 0.4], [0.45, 0.1, 0.2]], BLOCKS, 1.0], "abs"),
    "standard": gt.Network([1.0, BLOCKS, 1.0], "leaky_relu", 2.0, 0.0, "standard", (D, 30, 40)),
}


@pytest.mark.parametrize("name", ROUTES)
def test_limit_kernel_takes_the_scalar_route(name: str) -> None:
    network = ROUTES[name]
    found = gt.limit_kernel(network, X, X2, contributions=True)
    assert found.attrs["route"] == "scalar"
    nngp, layers = general(network)
    for got, want in ((found.nngp.values, nngp), (found.ntk.values, layers.sum(axis=0)), (found.ntk_layer, layers)):
        assert np.abs(np.asarray(got).reshape(want.shape) - want).max() <= 1e-13 * np.abs(want).max()


@pytest.mark.parametrize(
    "network",
    [
        gt.Network([1.0, BLOCKS, 1.0], bias_variance=0.1),
        gt.Network([1.0, BLOCKS, 1.0], "erf"),
        gt.Network([BLOCKS, BLOCKS, 1.0]),
        gt.Network([1.0, gt.Connectivity(BLOCKS, drift=BLOCKS), 1.0]),
        gt.Network([1.0, BLOCKS, 1.0], gt.Activation(lambda z: np.maximum(z, 0), kinks=(0,))),
        gt.Network([1.0, BLOCKS, gt.Connectivity(BLOCKS, BLOCKS.values**2 + 0.1), [[0.2, 0.3], [0.9, 0.1]]], outputs=2),
    ],
    ids=["bias", "erf", "input layer", "drift", "callable", "outputs weigh the layers differently"],
)
def test_limit_kernel_takes_the_general_route(network: gt.Network) -> None:
    assert gt.limit_kernel(network, X[:5]).attrs["route"] == "general"


def test_slopes_are_seen_not_declared() -> None:
    from graphon_theory.activations.activation import as_activation

    assert slopes(as_activation("relu")) == (0.0, 1.0)
    assert slopes(as_activation("leaky_relu")) == (0.01, 1.0)
    assert slopes(as_activation("abs")) == (-1.0, 1.0)
    for name in ("erf", "tanh", "gelu", "silu", "softplus", "elu", "exp", "sin", "cos", "gaussian", "sigmoid", "step"):
        assert slopes(as_activation(name)) is None
    own = gt.Activation(lambda z: np.where(z > 0, 0.5 * z, 2 * z), kinks=(0,))
    assert slopes(own) == (2.0, 0.5)
    assert slopes(gt.Activation("Max(z, 0) + Max(z - 40, 0)")) is None
    assert slopes(gt.Activation("Max(z, 0) + exp(-400*(z - 1.2345)**2)/9")) is None


def test_refuses_what_is_no_network() -> None:
    with pytest.raises(gt.NetworkError, match="expected a Network"):
        gt.scalar_reduction([1.0, 1.0])  # type: ignore[arg-type]
