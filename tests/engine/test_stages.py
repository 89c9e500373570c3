"""Stages through the engine: against another library, plain loops, and what theory says of them (THEORY §11)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from numpy.polynomial import chebyshev

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.networks.stages import Fork, Join, Phi, Weights
from tests.reference import relative_error
from tests.stage_loops import kernels as loops

DATA = Path(__file__).parent.parent / "data"
RNG = np.random.default_rng(11)
D = 4
X = RNG.standard_normal((3, D))


# --- another library --------------------------------------------------------------------------------------------------


def _stage(entry: dict[str, Any]) -> Any:
    kind = entry["kind"]
    if kind == "dense":
        return gt.Dense(1.0, entry["weight_variance"], entry["bias_variance"])
    if kind == "activation":
        return gt.Pointwise(entry["name"])
    if kind == "residual":
        return gt.Residual(*map(_stage, entry["branch"]))
    assert kind == "layer_norm"
    return gt.LayerNorm(entry["epsilon"])


DESCRIBED = {
    name: entry
    for name, entry in json.loads((DATA / "architectures.json").read_text()).items()
    if entry["inputs"] == "vector"
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_architectures_agree_with_another_library(name: str) -> None:
    """neural-tangents promises 1e-8 where inputs are parallel, as X[0] and X[4] are."""
    network = gt.Network([_stage(entry) for entry in DESCRIBED[name]["stages"]])
    with np.load(DATA / "architectures.npz") as arrays:
        x, x2 = arrays["vector/X"], arrays["vector/X2"]
        square, cross = gt.limit_kernel(network, x, contributions=True), gt.limit_kernel(network, x, x2)
        for key in ("nngp", "ntk"):
            np.testing.assert_allclose(square[key], arrays[f"{name}/{key}"], rtol=1e-9)
            np.testing.assert_allclose(cross[key], arrays[f"{name}/{key}_x2"], rtol=1e-9)
    np.testing.assert_allclose(square.ntk_layer.sum("layer"), square.ntk, rtol=1e-13)


# --- plain loops ------------------------------------------------------------------------------------------------------


def _blocks(rows: int, columns: int, *, drift: float = 0.0, last: bool = False) -> gt.Connectivity:
    """W != V on unequal blocks (equal ones at inputs and outputs), with a drift of about ``drift``."""
    mask = RNG.uniform(0.2, 0.9, (rows, columns))
    edges = [np.linspace(0, 1, rows + 1) ** (1.0 if last else 1.3), np.linspace(0, 1, columns + 1) ** 1.3]
    if columns == D:
        edges[1] = np.linspace(0, 1, D + 1)
    second = mask * RNG.uniform(0.5, 2.0, mask.shape)
    mean = drift * RNG.uniform(-2.0, 2.0, mask.shape) * np.sqrt(mask * second)
    w, v, d = (gt.StepGraphon(values, *edges) for values in (mask, second, mean))
    return gt.Connectivity(w, v, d if drift else None)


def _network(kind: str, *, drift: float = 0.0) -> gt.Network:
    def dense(rows: int, columns: int, *scales: float) -> gt.Dense:
        return gt.Dense(_blocks(rows, columns, drift=drift), *scales)

    first, last = dense(3, D, 2.0, 0.1), gt.Dense(_blocks(2, 3, drift=drift, last=True), 1.2, 0.05)
    middle: dict[str, list[Any]] = {
        "biases and activations": [
            gt.Pointwise("relu"), dense(2, 3, 1.5, 0.0, 0.7), gt.Pointwise("sin"), dense(3, 2, 1.1, 0.3, 0.0),
            gt.Pointwise("tanh"),
        ],
        "residual": [
            gt.Residual(gt.Pointwise("relu"), dense(3, 3, 1.4, 0.2), scale=0.6),
            gt.Residual(gt.Pointwise("tanh"), dense(2, 3, 1.0, 0.1), gt.Pointwise("relu"), dense(3, 2, 1.3, 0.0, 0.4)),
            gt.Pointwise("sin"),
        ],
        "nested": [
            gt.Residual(
                gt.Pointwise("relu"), dense(2, 3, 1.4, 0.2),
                gt.Residual(gt.Pointwise("sin"), dense(2, 2, 0.9, 0.1), scale=-0.8),
                gt.Pointwise("tanh"), dense(3, 2, 1.0, 0.3), scale=1.5,
            ),
            gt.Pointwise("relu"),
        ],
        "norm before": [
            gt.LayerNorm(0.01), gt.Pointwise("relu"), dense(3, 3, 1.4, 0.2), gt.LayerNorm(0.0), gt.Pointwise("sin"),
        ],
        "norm behind": [
            gt.Pointwise("relu"), gt.LayerNorm(0.02), dense(3, 3, 1.4, 0.2), gt.Pointwise("tanh"), gt.LayerNorm(0.0),
        ],
        "pre-norm blocks": [
            gt.Residual(
                gt.LayerNorm(1e-3), dense(2, 3, 1.4, 0.2), gt.Pointwise("relu"), dense(3, 2, 0.8, 0.1), scale=0.5
            ),
            gt.Residual(gt.Pointwise("sin"), gt.LayerNorm(1e-3), dense(3, 3, 0.8, 0.0, 1.0), gt.LayerNorm(0.1)),
            gt.LayerNorm(1e-2), gt.Pointwise("tanh"),
        ],
    }  # fmt: skip
    return gt.Network([first, *middle[kind], last], outputs=2)


KINDS = ("biases and activations", "residual", "nested", "norm before", "norm behind", "pre-norm blocks")


@pytest.mark.parametrize("drift", [0.0, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_stages_are_their_loops(kind: str, drift: float) -> None:
    """Block-constant W != V, with and without drift, biases and activations of their own for every layer."""
    network = _network(kind, drift=drift)
    want = loops(network, X)
    got = gt.limit_kernel(network, X, contributions=True)
    np.testing.assert_allclose(got.nngp, want.second, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got.ntk, want.tangent, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got["mean"], want.mean, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got.ntk_layer.sum("layer"), got.ntk, rtol=1e-12, atol=1e-13)
    assert got.quadrature_error >= relative_error(got.ntk.values[0], want.tangent[0]).max()


@pytest.mark.parametrize("kind", ["residual", "pre-norm blocks"])
def test_other_inputs_and_precision(kind: str) -> None:
    """x2 is a part of one larger x; float32 is float64 to its own rounding."""
    network = _network(kind, drift=0.2)
    whole = gt.limit_kernel(network, X)
    part = gt.limit_kernel(network, X[:1], X[1:])
    single = gt.limit_kernel(network, X, dtype=np.float32)
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(part[key], whole[key][:, :1, 1:], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(single[key], whole[key], rtol=2e-5, atol=2e-5)
        assert single[key].dtype == np.float32


# --- smooth graphons, kinks and jumps ---------------------------------------------------------------------------------

DEGREE = 64
NODES = (np.cos(np.pi * (2 * np.arange(DEGREE + 1) + 1) / (2 * DEGREE + 2)) + 1) / 2
FITTED = np.linalg.inv(chebyshev.chebvander(2 * NODES - 1, DEGREE))


def _integral(values: FloatArray, stop: FloatArray, *, moment: bool = False) -> FloatArray:
    """int_0^stop g, or of v g, of the interpolant of values (nodes, ...), at every stop."""
    weighted = np.asarray(values * NODES.reshape(-1, *[1] * (values.ndim - 1)) if moment else values)
    series = chebyshev.chebint(np.tensordot(FITTED, weighted, 1), axis=0, lbnd=-1) / 2
    at_stops = np.asarray(chebyshev.chebval(2 * stop - 1, series), dtype=float)
    return np.moveaxis(at_stops, -1, 0)


def _acts(kind: str, values: FloatArray) -> FloatArray:
    """int W(u, .) g at the nodes, in closed form but for the interpolation of g."""
    u = NODES.reshape(-1, *[1] * (values.ndim - 1))
    whole, below = _integral(values, np.ones(1)), _integral(values, NODES)
    first, first_below = (_integral(values, stop, moment=True) for stop in (np.ones(1), NODES))
    if kind == "min":
        return 0.2 * whole + 0.8 * (first_below + u * (whole - below))
    if kind == "distance":
        return whole - (2 * u * below - u * whole + first - 2 * first_below)
    assert kind == "jump"
    return 0.2 * whole + 0.6 * below


TEXTS = {"min": "0.2 + 0.8*Min(u, v)", "distance": "1 - Abs(u - v)", "jump": "0.2 + 0.6*Heaviside(u - v)"}


def _duals(name: str, k: FloatArray) -> tuple[FloatArray, FloatArray]:
    own = np.diagonal(k, axis1=1, axis2=2)
    q1, q2 = own[:, :, None], own[:, None, :]
    if name == "erf":
        norm = (1 + 2 * q1) * (1 + 2 * q2)
        return 2 / np.pi * np.arcsin(2 * k / np.sqrt(norm)), 4 / np.pi / np.sqrt(norm - 4 * k * k)
    rho = np.clip(k / np.sqrt(q1 * q2), -1, 1)
    rho[:, range(k.shape[1]), range(k.shape[1])] = 1.0
    theta = np.arccos(rho)
    return np.sqrt(q1 * q2) * (np.sin(theta) + (np.pi - theta) * rho) / (2 * np.pi), (np.pi - theta) / (2 * np.pi)


@pytest.mark.parametrize(
    ("branch", "scale", "epsilon", "blocks"),
    [
        ((("erf", "min"), ("relu", "distance")), 0.7, None, 1),
        ((("relu", "distance"), ("relu", "min")), 1.0, 0.01, 1),
        ((("erf", "jump"), ("erf", "min")), 1.3, None, 1),
        ((("relu", "jump"),), 1.0, 0.01, 3),
    ],
)
@pytest.mark.parametrize("rtol", [1e-10, 1e-5])
def test_kinks_in_every_layer_of_a_branch(
    branch: tuple[tuple[str, str], ...], scale: float, epsilon: float | None, blocks: int, rtol: float
) -> None:
    """The error estimate is never below the distance from integrals in closed form, which travel through both."""
    bias = 0.1
    k = 2 * (NODES / 2 + 0.3)[:, None, None] * (X @ X.T / D) + bias
    t = k.copy()
    stages: list[Any] = [gt.Dense("u/2 + 0.3")]
    block: list[Any] = []
    for phi, kind in branch:
        block += [gt.Pointwise(phi), gt.Dense(TEXTS[kind])]
    for _ in range(blocks):
        inside, carried = k, t
        for phi, kind in branch:
            c, slope = _duals(phi, inside)
            inside = 2 * _acts(kind, c) + bias
            carried = inside + 2 * _acts(kind, slope * carried)
        k, t = k + scale**2 * inside, t + scale**2 * carried
        stages.append(gt.Residual(*block, scale=scale))
    if epsilon is not None:
        q = _integral(np.diagonal(k, axis1=1, axis2=2), np.ones(1))[0] + epsilon
        k, t = k / np.sqrt(np.outer(q, q)), t / np.sqrt(np.outer(q, q))
        stages.append(gt.LayerNorm(epsilon))
    c, slope = _duals("erf", k)
    want = 2 * _integral(c, np.ones(1))[0] + bias
    tangent = want + 2 * _integral(slope * t, np.ones(1))[0]
    network = gt.Network([*stages, gt.Pointwise("erf"), gt.Dense(1.0)], bias_variance=bias)
    got = gt.limit_kernel(network, X, rtol=rtol)
    for found, exact in ((got.nngp.values, want), (got.ntk.values, tangent)):
        assert relative_error(found, exact).max() <= got.quadrature_error
    assert got.quadrature_error <= rtol


# --- facts ------------------------------------------------------------------------------------------------------------


def test_a_branch_without_weights_is_the_identity() -> None:
    """V = 0: what pruning takes away whole leaves the shortcut, to rounding."""
    first, last = _blocks(3, D), _blocks(1, 3)
    dead = gt.Residual(gt.Pointwise("relu"), gt.Dense(0.0))
    without = gt.limit_kernel(gt.Network([first, last], "tanh", bias_variance=0.1), X)
    network = gt.Network(
        [gt.Dense(first, None, 0.1), dead, gt.Pointwise("tanh"), gt.Dense(last, None, 0.1)], bias_variance=0.0
    )
    found = gt.limit_kernel(network, X)
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(found[key], without[key], rtol=2e-15)


def test_layer_norm_forgets_the_scale_of_inputs_and_of_layers_below() -> None:
    """Without biases below it and without epsilon; the tangent kernel of what is below falls as its scale grows."""

    def kernel(x: FloatArray, weight_variance: float) -> Any:
        stages = [gt.Dense(_FIRST, weight_variance), gt.LayerNorm(0.0), gt.Pointwise("tanh"), gt.Dense(_LAST, 1.3, 0.2)]
        return gt.limit_kernel(gt.Network(stages), x)

    want = kernel(X, 2.0)
    for found in (kernel(10 * X, 2.0), kernel(X, 7.0), kernel(X * np.array([[1.0], [3.0], [0.1]]), 2.0)):
        for key in ("nngp", "ntk"):
            np.testing.assert_allclose(found[key], want[key], rtol=1e-12, atol=1e-14)


_FIRST, _LAST = _blocks(3, D), _blocks(1, 3)


def test_layer_norm_of_nothing_is_refused() -> None:
    network = gt.Network([gt.Dense(1.0), gt.LayerNorm(0.0), gt.Pointwise("erf"), gt.Dense(1.0)])
    with pytest.raises(gt.NetworkError, match=r"LayerNorm\(0\.0\): an input reaches it as one value at every position"):
        gt.limit_kernel(network, np.zeros((1, 3)))


def test_biases_that_start_at_0_add_to_the_tangent_kernel_alone() -> None:
    plain = gt.Network([_FIRST, _LAST], "erf", trained_bias_variance=0.7)
    bare, trained = (gt.limit_kernel(n, X, contributions=True) for n in (gt.Network([_FIRST, _LAST], "erf"), plain))
    np.testing.assert_array_equal(trained.nngp, bare.nngp)
    np.testing.assert_allclose(trained.ntk_layer[1] - bare.ntk_layer[1], 0.7, rtol=1e-12)
    standard: dict[str, Any] = {"parameterization": "standard", "widths": (D, 50)}
    one, none = (
        gt.limit_kernel(gt.Network([_FIRST, _LAST], "erf", **standard, trained_bias_variance=t), X) for t in (1.0, None)
    )
    np.testing.assert_array_equal(one.nngp, none.nngp)
    assert (np.diag(one.ntk) > np.diag(none.ntk)).all()


def test_the_density_of_a_branch_integrates_to_its_share() -> None:
    network = _network("pre-norm blocks", drift=0.2)
    shares = gt.limit_kernel(network, X[:1], X[1:2], contributions=True).ntk_layer
    for layer in range(1, network.depth + 1):
        density = gt.kernel_density(network, X[0], X[1], layer, output=1)
        weight = float((density.density * density.u_weight * density.v_weight).sum())
        bias = network.trained_bias_variances[layer - 1]
        without = network.changed(trained_bias_variance=[0.0] * network.depth)
        share = gt.limit_kernel(without, X[:1], X[1:2], contributions=True).ntk_layer
        assert weight == pytest.approx(float(share[layer - 1, 1, 0, 0]), rel=1e-11)
        assert bias == 0 or abs(float(shares[layer - 1, 1, 0, 0]) - weight) > 0


def test_deep_networks_keep_their_variance() -> None:
    """50 residual blocks and 1,000 layers, balanced: variances are what balanced says, estimates cover the error."""
    block = gt.Residual(gt.Pointwise("relu"), gt.Dense(0.2), scale=0.5)
    stages = [gt.Dense(0.7), *[block] * 50, gt.Pointwise("relu"), gt.Dense(1.0)]
    x = X / np.sqrt((X * X).mean(axis=1, keepdims=True))  # mean square 1
    for network in (gt.balanced(gt.Network(stages)), gt.balanced(gt.Network([0.7, *[0.2] * 998, 1.0]))):
        kernel = gt.limit_kernel(network, x)
        np.testing.assert_allclose(np.diag(kernel.nngp), 1.0, rtol=1e-11)
        assert np.isfinite(kernel.ntk).all()
        with mp.workdps(40):
            k, t = _deep_relu(network, x[0], x[1])
            for found, want in ((kernel.nngp, k), (kernel.ntk, t)):
                for (i, j), value in zip(((0, 0), (0, 1), (1, 1)), want, strict=True):
                    error = abs(float((mp.mpf(float(found[i, j])) - value) / mp.sqrt(want[0] * want[2])))
                    assert error <= kernel.quadrature_error
        assert kernel.quadrature_error < 1e-10


# --- close, parallel and even inputs, in high precision ---------------------------------------------------------------


def _relu_dual(q1: Any, k: Any, q2: Any) -> tuple[Any, Any]:
    norm = mp.sqrt(q1 * q2)
    rho = max(min(k / norm, mp.mpf(1)), mp.mpf(-1))
    theta = mp.acos(rho)
    return norm * (mp.sin(theta) + (mp.pi - theta) * rho) / (2 * mp.pi), (mp.pi - theta) / (2 * mp.pi)


def _residual_relu(a: FloatArray, b: FloatArray, bias: float, epsilon: float | None) -> tuple[list[Any], list[Any]]:
    """K and T at (a, a), (a, b), (b, b): three blocks of scale 1/2 on a dense layer, and a readout."""
    products = [
        2 * mp.fsum(mp.mpf(float(x)) * mp.mpf(float(y)) for x, y in zip(*pair, strict=True)) / len(a) + mp.mpf(bias)
        for pair in ((a, a), (a, b), (b, b))
    ]

    def branch(k: list[Any], t: list[Any]) -> tuple[list[Any], list[Any]]:
        if epsilon is not None:
            one, two = (1 / mp.sqrt(q + mp.mpf(epsilon)) for q in (k[0], k[2]))
            factors = one * one, one * two, two * two
            k, t = ([x * f for x, f in zip(values, factors, strict=True)] for values in (k, t))
        duals = [_relu_dual(*at) for at in ((k[0],) * 3, tuple(k), (k[2],) * 3)]
        second = [2 * c + mp.mpf(bias) for c, _ in duals]
        return second, [s + 2 * d * carried for s, (_, d), carried in zip(second, duals, t, strict=True)]

    k, t = products, list(products)
    for _ in range(3):
        k, t = ([x + y / 4 for x, y in zip(*both, strict=True)] for both in zip((k, t), branch(k, t), strict=True))
    return branch(k, t)


def _deep_relu(network: gt.Network, a: FloatArray, b: FloatArray) -> tuple[list[Any], list[Any]]:
    """K and T at (a, a), (a, b), (b, b) of constant W = V without biases, plain or with branches of one layer."""
    pairs = ((a, a), (a, b), (b, b))
    c = [mp.fsum(mp.mpf(float(x)) * mp.mpf(float(y)) for x, y in zip(*pair, strict=True)) / len(a) for pair in pairs]
    s, kept = [mp.mpf(0)] * 3, None
    for part in network.outline:
        if isinstance(part, Weights):
            mask = network.layers[part.number - 1].mask
            assert isinstance(mask, gt.ConstantGraphon)
            gain = mp.mpf(network.weight_variance[part.number - 1]) * mp.mpf(mask.mean())
            c, s = [gain * x for x in c], [gain * (x + y) for x, y in zip(c, s, strict=True)]
        elif isinstance(part, Phi):
            duals = [_relu_dual(*at) for at in ((c[0],) * 3, tuple(c), (c[2],) * 3)]
            c, s = [one for one, _ in duals], [d * carried for (_, d), carried in zip(duals, s, strict=True)]
        elif isinstance(part, Fork):
            kept = c, s
        else:
            assert isinstance(part, Join)
            assert kept is not None
            square = mp.mpf(part.scale) ** 2
            c, s = ([x + square * y for x, y in zip(*both, strict=True)] for both in zip(kept, (c, s), strict=True))
    return c, s


@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("epsilon", [None, 1e-3])
def test_close_and_parallel_inputs_in_high_precision(bias: float, epsilon: float | None) -> None:
    """Estimates are never below the error, and close inputs are right to 1e-13: they go by their angles."""
    norm = [] if epsilon is None else [gt.LayerNorm(epsilon)]
    block = gt.Residual(*norm, gt.Pointwise("relu"), gt.Dense(1.0), scale=0.5)
    stages = [gt.Dense(1.0), block, block, block, *norm, gt.Pointwise("relu"), gt.Dense(1.0)]
    a, side = np.random.default_rng(2).standard_normal((2, 6))
    for b in (1.7 * a, -a, a + 1e-3 * side, a + 1e-5 * side, a + 1e-7 * side, a + 1e-10 * side):
        with mp.workdps(50):
            k, t = _residual_relu(a, b, bias, epsilon)
            scale = mp.sqrt(k[0] * k[2]), mp.sqrt(t[0] * t[2])
            got = gt.limit_kernel(gt.Network(stages, bias_variance=bias), np.array([a, b]))
            errors = [
                abs(float((mp.mpf(float(found[0, 1])) - want[1]) / s))
                for found, want, s in zip((got.nngp, got.ntk), (k, t), scale, strict=True)
            ]
        assert max(errors) <= min(got.quadrature_error, 1e-13)
        assert got.quadrature_error < 1e-11


def test_layer_norm_of_what_is_nearly_even_says_what_rounding_leaves() -> None:
    """cos of small signals: C - m m' cancels, and the estimate grows by what that costs."""
    values = 0.5, 0.9
    lengths = mp.mpf(0.4), 1 - mp.mpf(0.4)
    stages = [
        gt.Dense(gt.StepGraphon([[v] for v in values], [0, 0.4, 1])),
        gt.Pointwise("cos"),
        gt.LayerNorm(0.0),
        gt.Dense(1.0),
    ]
    network = gt.Network(stages)
    for size in (1.0, 0.1, 0.01):
        x = size * X[:2]
        got = gt.limit_kernel(network, x)
        with mp.workdps(60):
            exact = [[mp.mpf(float(value)) for value in row] for row in x]
            gram = [[mp.fsum(p * q for p, q in zip(a, b, strict=True)) for b in exact] for a in exact]
            ks = [[[2 * mp.mpf(v) * g / D for g in row] for row in gram] for v in values]
            means = [[mp.exp(-k[i][i] / 2) for i in range(2)] for k in ks]
            center = [mp.fsum(n * m[i] for n, m in zip(lengths, means, strict=True)) for i in range(2)]

            def moment(i: int, j: int, ks: Any = ks, means: Any = means, center: Any = center) -> Any:
                parts = []
                for n, k, m in zip(lengths, ks, means, strict=True):
                    c = mp.exp(-(k[i][i] + k[j][j]) / 2) * mp.cosh(k[i][j])
                    parts.append(n * (c - m[i] * center[j] - center[i] * m[j] + center[i] * center[j]))
                return mp.fsum(parts)

            want = 2 * moment(0, 1) / mp.sqrt(moment(0, 0) * moment(1, 1))
            error = abs(float((mp.mpf(float(got.nngp[0, 1])) - want) / 2))
        assert error <= got.quadrature_error < 1e-3
    with pytest.raises(gt.NetworkError, match="LayerNorm: what reaches it is so even that rounding is"):
        gt.limit_kernel(network, 1e-4 * X)


def test_standard_parameterization_weighs_the_shares_of_layers() -> None:
    """NTK_l of the weights is n_{l-1} / sigma_w^2 times that of NTK parameterization, also in branches."""
    block = gt.Residual(gt.Pointwise("relu"), gt.Dense(_blocks(2, 3)), gt.Pointwise("sin"), gt.Dense(_blocks(3, 2)))
    stages = [gt.Dense(_FIRST), block, gt.LayerNorm(0.1), gt.Pointwise("tanh"), gt.Dense(_LAST)]
    sigmas, widths = [2.0, 1.5, 0.7, 1.2], (D, 60, 20, 60)
    one = gt.Network(stages, weight_variance=sigmas)
    other = gt.Network(stages, weight_variance=sigmas, parameterization="standard", widths=widths)
    ntk, standard = (gt.limit_kernel(network, X, contributions=True) for network in (one, other))
    np.testing.assert_allclose(standard.nngp, ntk.nngp, rtol=1e-13)
    factors = np.array(widths) / np.array(sigmas)
    np.testing.assert_allclose(standard.ntk_layer, factors[:, None, None] * ntk.ntk_layer, rtol=1e-11, atol=1e-13)


def test_what_positions_tell_goes_through_branches() -> None:
    """``Known`` in the last layer of a branch: its loadings leave K of the branch alone, and move its means."""
    mask, profile = gt.StepGraphon([[0.5, 0.8], [0.7, 0.4]]), gt.StepGraphon([[0.2, 0.1], [-0.1, 0.3]])
    told = np.array([0.6, -1.1])  # the coordinate at the two positions
    drift = gt.StepGraphon(told[:, None] * profile.values)
    known = gt.Connectivity(mask, None, drift, known=gt.Known([profile]))
    first = gt.Dense(gt.StepGraphon([[0.4], [0.9]]))
    network = gt.Network(
        [
            first,
            gt.Residual(gt.Pointwise("relu"), gt.Dense(known, 1.5), scale=0.5),
            gt.Pointwise("identity"),
            gt.Dense(1.0),
        ]
    )
    got = gt.limit_kernel(network, X)
    own = 2 * np.array([0.4, 0.9])[:, None, None] * (X @ X.T / D)
    c, slope = _duals("relu", own)
    means = np.sqrt(np.diagonal(own, axis1=1, axis2=2) / (2 * np.pi))
    lengths = np.full(2, 0.5)
    loading = np.sqrt(1.5) * np.asarray(profile.values) @ (lengths[:, None] * means)
    weights = 1.5 * np.asarray(mask.values) * lengths
    branch = np.einsum("uv,vij->uij", weights, c) - loading[:, :, None] * loading[:, None, :]
    carried = np.einsum("uv,vij->uij", weights, c + slope * own)
    k, t = own + 0.25 * branch, own + 0.25 * carried
    mu = 0.5 * told[:, None] * loading
    second = np.einsum("v,vij->ij", lengths, k + mu[:, :, None] * mu[:, None, :])
    np.testing.assert_allclose(got.nngp, 2 * second, rtol=1e-12)
    np.testing.assert_allclose(got.ntk, 2 * second + 2 * np.einsum("v,vij->ij", lengths, t), rtol=1e-12)
