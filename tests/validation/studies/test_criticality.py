"""Forward variances of real masked networks against the variance map, position by position."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import graphon_theory as gt
import graphon_validation as gv
from graphon_validation.networks.masked_mlps import MaskedMLP

WINDOWS = 8
DEEP = 20  # weight layers of the deep network: 19 hidden ones


def smooth(depth: int, mask: str = "0.1 + 0.5*exp(-2*u - v)") -> gt.Network:
    """Dense first and last layers around an asymmetric hidden stack."""
    return gt.Network([1.0, *[mask] * (depth - 2), 1.0])


def window_variances(model: MaskedMLP, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean h^2 over each window of positions: (hidden layers, windows)."""
    signal = torch.from_numpy(x).to(model.weights[0].dtype)[None]
    rows = []
    with torch.no_grad():
        for layer in model.linears[:-1]:
            h = layer(signal)
            rows.append((h[0].double() ** 2).reshape(WINDOWS, -1).mean(dim=1).numpy())
            signal = model.phi(h)
    return np.array(rows)


def predicted(network: gt.Network, q: float, width: int) -> NDArray[np.float64]:
    at = (np.arange(width) + 0.5) / width
    found = gt.criticality(network, q, positions=at)
    return np.asarray(found.variance.values.reshape(network.depth - 1, WINDOWS, -1).mean(axis=2))


def one_input(d: int) -> tuple[NDArray[np.float64], float]:
    x = np.random.default_rng(0).standard_normal(d)
    return x, float(x @ x / d)


def test_each_position_follows_the_map() -> None:
    """ReLU without biases: E[h^2] obeys the map at every width, so z-scores over seeds are fair."""
    width, seeds = 512, 24
    network = gt.Network([1.0, "0.1 + 0.5*exp(-2*u - v)", gt.magnitude_pruning(0.3), "u*(1 - v/2)", 1.0])
    x, q = one_input(64)
    want = predicted(network, q, width)
    assert np.ptp(want[1]) > 0.5 * want[1].mean()  # positions differ
    got = np.array(
        [
            window_variances(gv.build(network, (64, *[width] * 4, 1), seed, dtype=torch.float32), x)
            for seed in range(seeds)
        ]
    )
    error = got.std(axis=0, ddof=1) / np.sqrt(seeds)
    z = (got.mean(axis=0) - want) / error
    assert np.abs(z).max() < 4.5  # 32 z-scores with 23 degrees of freedom
    assert 0.5 < np.sqrt((z**2).mean()) < 1.6
    assert (error / want).max() < 0.15


@pytest.mark.parametrize("by", ["layer", "position"])
def test_balanced_networks_stay_flat(by: str) -> None:
    width, depth = 512, 10
    plain = smooth(depth)
    x, q = one_input(64)
    network = gt.balanced(plain, q, by=by)
    got = window_variances(gv.build(network, (64, *[width] * (depth - 1), 1), 1, dtype=torch.float32), x)
    dying = window_variances(gv.build(plain, (64, *[width] * (depth - 1), 1), 1, dtype=torch.float32), x)
    assert got.mean(axis=1).min() > 0.4
    assert got.mean(axis=1).max() < 2.5
    assert dying[-1].mean() < 1e-3
    relative = got / got.mean(axis=1, keepdims=True)
    want = predicted(network, q, width)
    np.testing.assert_allclose(relative, want / want.mean(axis=1, keepdims=True), atol=0.5)
    if by == "layer":
        assert relative[2:, 0].mean() > 1.5 * relative[2:, -1].mean()  # one scale a layer leaves positions apart
    else:
        assert np.abs(relative[2:].mean(axis=0) - 1).max() < 0.25


@pytest.mark.slow
@pytest.mark.parametrize(("mask", "fate"), [("0.1 + 0.5*exp(-2*u - v)", "dies"), ("1 - u*v/2", "grows")])
def test_twenty_layers_of_4096(mask: str, fate: str) -> None:
    """The plain network dies or explodes as the map says, at every position; the balanced one stays at 1.

    The error of a layer's mean gathers: each layer adds the relative variance p = (5/4)/(1/4)/n times the
    participation of unequal positions, and all windows share it; what windows have of their own is 2 / (units).
    """
    width = 4096
    plain = smooth(DEEP, mask)
    if fate == "grows":
        plain = gt.Network(plain.layers, "relu", 4.0)
    x, q = one_input(256)
    widths = (256, *[width] * (DEEP - 1), 1)
    for network in (plain, gt.balanced(plain, q, by="position"), gt.balanced(plain, q, by="layer")):
        want = predicted(network, q, width)
        got = window_variances(gv.build(network, widths, 3, dtype=torch.float32), x)
        unequal = (want**2).mean(axis=1) / want.mean(axis=1) ** 2
        shared = np.sqrt(np.cumsum(5 * unequal) / width)
        own = np.sqrt(2 * WINDOWS / width)
        z = np.log(got / want) / np.sqrt(shared[:, None] ** 2 + own**2)
        print(f"{fate}: last layer {got[-1].mean():.3g}, map {want[-1].mean():.3g}, largest |z| {np.abs(z).max():.2f}")
        assert np.abs(z).max() < 4.5
        if network is plain:
            assert got[-1].mean() < 1e-6 if fate == "dies" else got[-1].mean() > 1e3
        else:
            assert got.mean(axis=1).min() > 0.5
            assert got.mean(axis=1).max() < 2
