"""What positions tell of their units' parameters: against plain loops, drawn Gaussian layers, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.engine import recursion
from graphon_theory.networks.connectivity import Known
from tests.engine.test_drift import DRIFTS, MASKS, VARIANCES, X, duals
from tests.reference import KnownParts, Layer, limit_reference, weighted

RNG = np.random.default_rng(5)
# G_r of the three layers, small enough for V - sum G G to stay positive; g_r and the biases' means over positions
PROFILES = [0.25 * RNG.standard_normal((2, *np.shape(mask))) for mask in MASKS]
SHARES = [0.4 * RNG.standard_normal((2, len(mask))) for mask in MASKS]
MEANS = [RNG.standard_normal(len(mask)) for mask in MASKS]
WIDTHS = (4, 2, 3)


def column(values: Any) -> gt.StepGraphon:
    return gt.StepGraphon(np.reshape(values, (-1, 1)))


def network(activation: str, bias: float, drifts: tuple[Any, ...] = DRIFTS) -> gt.Network:
    layers = [
        gt.Connectivity(w, v, d, known=Known([gt.StepGraphon(g) for g in p], [column(g) for g in s], column(m)))
        for w, v, d, p, s, m in zip(MASKS, VARIANCES, drifts, PROFILES, SHARES, MEANS, strict=True)
    ]
    return gt.Network(layers, activation, (2.0, 1.5, 1.2), bias)


def loops() -> list[Layer]:
    made = []
    for n, w, v, d, p, s, m in zip(WIDTHS, MASKS, VARIANCES, DRIFTS, PROFILES, SHARES, MEANS, strict=True):
        even = [1 / n] * n
        known = KnownParts([weighted(g, even) for g in p], s.tolist(), m.tolist())
        made.append(Layer(weighted(w, even), weighted(v, even), weighted(d, even), known))
    return made


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("activation", ["relu", "erf", "sin"])
def test_naive_loops_with_what_is_known(activation: str, bias: float) -> None:
    net = network(activation, bias)
    want = limit_reference(
        loops(), X, activation=duals(activation), weight_variance=(2.0, 1.5, 1.2), bias_variance=bias
    )
    got = gt.limit_kernel(net, X, contributions=True)
    for key, values in (("nngp", want.nngp), ("ntk", want.ntk)):
        np.testing.assert_allclose(got[key], values[0], rtol=0, atol=1e-11 * np.abs(values).max())
    np.testing.assert_allclose(got["mean"], want.mean[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["ntk_layer"], want.ntk_layer[:, 0], rtol=0, atol=1e-11 * np.abs(want.ntk).max())
    across = gt.limit_kernel(net, X[:2], X)
    np.testing.assert_allclose(across.ntk, got.ntk[:2], rtol=1e-12)
    np.testing.assert_allclose(across.nngp, got.nngp[:2], rtol=1e-11)
    # what is known matters
    without = gt.limit_kernel(
        gt.Network(
            [gt.Connectivity(c.mask, c.variance, c.drift) for c in net.layers], activation, (2.0, 1.5, 1.2), bias
        ),
        X,
    )
    assert np.abs(without.nngp - got.nngp).max() > 0.01 * float(got.nngp.max())


def test_every_way_through_the_engine_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32, blocks of a few inputs, threads, and the standard parameterization."""
    x = np.random.default_rng(8).standard_normal((40, 4))
    net = network("relu", 0.3)
    want = gt.limit_kernel(net, x, threads=1)
    np.testing.assert_array_equal(gt.limit_kernel(net, x, threads=2).ntk, want.ntk)
    single = gt.limit_kernel(net, x, dtype=np.float32)
    assert np.abs(single.ntk - want.ntk).max() < 1e-5 * float(want.ntk.max())
    standard = gt.Network(net.layers, "relu", (2.0, 1.5, 1.2), 0.3, "standard", (4, 20, 30))
    np.testing.assert_allclose(gt.limit_kernel(standard, x).nngp, want.nngp, rtol=1e-12)
    monkeypatch.setattr(recursion, "_LOADINGS", 2_000)
    blocks = gt.limit_kernel(net, x)
    np.testing.assert_allclose(blocks.ntk, want.ntk, rtol=1e-12)
    np.testing.assert_allclose(blocks["mean"], want["mean"], rtol=1e-12)


def test_smooth_profiles_go_through_the_quadrature() -> None:
    """G as an expression, and as ever finer steps: the steps converge to it like the inverse square of their number."""
    net = lambda g: gt.Network(  # noqa: E731
        [
            gt.Connectivity("0.5 + 0.3*u", drift="0.2*v"),
            gt.Connectivity(0.8, drift=0.3, known=Known([g], [0.5], "0.1 + u")),
            1.0,
        ],
        "erf",
        bias_variance=0.2,
    )
    smooth = gt.AnalyticGraphon("0.3*cos(3*u)*(1 + v)")
    exact = gt.limit_kernel(net(smooth), X)
    assert exact.attrs["quadrature_error"] < 1e-10
    errors = [np.abs(gt.limit_kernel(net(smooth.to_step(n)), X).ntk - exact.ntk).max() for n in (8, 16)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_gaussian_layers_given_some_of_their_combinations(bias: float) -> None:
    """Dense layers, whose weights and biases are drawn given two coordinates: the law that Known states exactly.

    Hidden units hold random positions, the sender's modes F are cosines and a share of the bias: the mean kernel of
    24 networks of 1,500 units is within three standard errors, and without what is known it is far off.
    """
    rng, n, blocks, seeds = np.random.default_rng(7), 1500, 6, 24
    v = (np.arange(blocks) + 0.5) / blocks
    share = np.array([0.3, 0.6]) if bias else np.zeros(2)
    modes = np.sqrt(1 - share**2)[:, None] * np.array([np.ones(blocks), np.sqrt(2) * np.cos(np.pi * v)])
    assert abs(share[0] * share[1] + (modes[0] * modes[1]).mean()) < 0.2
    gram = modes @ modes.T / blocks + np.outer(share, share)
    root = np.linalg.cholesky(np.linalg.inv(gram)).T  # makes them orthonormal, the bias included
    modes, share = root @ modes, root @ share
    coordinates = rng.standard_normal((blocks, 2))  # of the second layer's units, by their block
    known = Known([gt.StepGraphon(np.tile(f, (blocks, 1))) for f in modes], list(share), column(coordinates @ share))
    first = gt.Connectivity(gt.StepGraphon(np.linspace(0.4, 1, blocks)[:, None]))
    second = gt.Connectivity(1.0, drift=gt.StepGraphon(coordinates @ modes), known=known)
    plain = gt.Connectivity(1.0)
    limit = gt.limit_kernel(gt.Network([first, second, plain], "relu", 2.0, bias), X)
    without = gt.limit_kernel(gt.Network([first, plain, plain], "relu", 2.0, bias), X)
    block = np.arange(n) * blocks // n
    kernels = []
    for _ in range(seeds):
        w1 = rng.standard_normal((n, 4)) * np.sqrt(np.linspace(0.4, 1, blocks))[block, None]
        h1 = np.sqrt(2 / 4) * w1 @ X.T + np.sqrt(bias) * rng.standard_normal((n, 1))
        a1 = np.maximum(h1, 0)
        w, b, c, f = rng.standard_normal((n, n)), rng.standard_normal(n), coordinates[block], modes[:, block]
        missing = c - (w @ f.T / np.sqrt(n) + np.outer(b, share))
        w, b = w + missing @ f / np.sqrt(n), b + missing @ share
        h2 = np.sqrt(2 / n) * w @ a1 + np.sqrt(bias) * b[:, None]
        kernels.append(2 / n * np.maximum(h2, 0).T @ np.maximum(h2, 0) + bias)
    found = np.array(kernels)
    z = (found.mean(0) - limit.nngp.values) / (found.std(0, ddof=1) / np.sqrt(seeds))
    assert np.abs(z).max() < 3.5
    assert np.abs(without.nngp.values / limit.nngp.values - 1).max() > 0.1


def test_descriptions_and_equality() -> None:
    one, two = network("relu", 0.1), network("relu", 0.1)
    assert one.layers[0] == two.layers[0]
    assert one.layers[0] != gt.Connectivity(MASKS[0], VARIANCES[0], DRIFTS[0])
    assert "Known(2 profiles" in repr(one.layers[0])
    assert 'known = "2 profiles, sha256 ' in one.describe()
    assert len(one.describe()) < 4000
    with pytest.raises(gt.SpecError, match="known of single units is not written"):
        one.to_toml()


def test_has_drift_wherever_something_is_known() -> None:
    layer = gt.Connectivity(1.0, known=Known([0.5], [0.2], 0.3))
    assert layer.has_drift
    net = gt.Network([1.0, layer, 1.0], bias_variance=0.1)
    reduction = gt.scalar_reduction(net)
    assert not reduction
    assert "drift" in reduction.reason


def test_refusals() -> None:
    with pytest.raises(gt.ConnectivityError, match="bias: expected 1 functions of u, one a profile, got 2"):
        Known([0.1], [0.1, 0.2])
    with pytest.raises(gt.ConnectivityError, match="bias_mean: expected a function of u alone"):
        Known([0.1], [0.1], "u*v")
    with pytest.raises(gt.ConnectivityError, match="profiles: expected a list of graphons, got float"):
        Known(0.5)  # type: ignore[arg-type]
    with pytest.raises(gt.ConnectivityError, match="bias: expected a list of graphons, got str"):
        Known([0.5], "0.5")
    with pytest.raises(gt.ConnectivityError, match="known: expected a Known, got float"):
        gt.Connectivity(1.0, known=0.1)  # type: ignore[arg-type]
    with pytest.raises(
        gt.ConnectivityError, match=r"known: profiles\[0\]: .* is not zero where no connection survives"
    ):
        gt.Connectivity(gt.StepGraphon([[1.0, 0.0]]), known=Known([0.1]))
    greedy = gt.Network([1.0, gt.Connectivity(0.25, drift=0.1, known=Known([0.6])), 1.0])
    with pytest.raises(gt.ConnectivityError, match=r"layer 2: known: the coordinates explain 1.44 times the variance"):
        gt.limit_kernel(greedy, X)
    weights = np.array([[0.5, 1.0, -1.5, 2.0]])
    sure = gt.Connectivity(1.0, gt.StepGraphon(weights**2), gt.StepGraphon(2 * weights), known=Known([0.9]))
    with pytest.raises(gt.ConnectivityError, match="layer 1: known: the coordinates explain inf times"):
        gt.limit_kernel(gt.Network([sure, 1.0]), X)


def test_full_knowledge_of_a_kinked_graphon_is_no_contradiction() -> None:
    """V = 0.2 + 0.8 |u - v| and the one coordinate that explains all that F = v can: int G^2 / V = 1 for every u."""
    variance = "0.2 + 0.8*Abs(u - v)"
    # int V v^2 dv, with |u - v| split at v = u
    norm = "(0.2/3 + 0.8*(u**4/6 - u/3 + 1/4))"
    profile = f"({variance})*v/sqrt({norm})"
    layer = gt.Connectivity(1.0, variance, 0.0, known=Known([profile]))
    found = gt.limit_kernel(gt.Network([1.0, layer, 1.0], "erf"), X)
    without = gt.limit_kernel(gt.Network([1.0, gt.Connectivity(1.0, variance), 1.0], "erf"), X)
    np.testing.assert_allclose(found.nngp, without.nngp, rtol=1e-9)  # means are zero: there is nothing to take out
