"""Forward variances of real masked networks against the variance map, position by position."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.networks.stages import Fork, Join, Phi, Weights
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


# --- deep networks, balanced ------------------------------------------------------------------------------------------

BLOCKS = np.array([0.25, 0.375, 0.375])  # shares of the units, eighths


def _block_layer() -> gt.Connectivity:
    edges = [0.0, 0.25, 0.625, 1.0]
    w = np.array([[0.6, 0.2, 0.4], [0.05, 0.15, 0.1], [0.25, 0.1, 0.3]])
    ratio = np.array([[1.0, 2.5, 1.5], [3.0, 1.2, 2.0], [1.3, 2.8, 0.7]])
    return gt.Connectivity(gt.StepGraphon(w, edges, edges), gt.StepGraphon(w * ratio, edges, edges))


def _drawn_variances(network: gt.Network, x: NDArray[np.float64], width: int, seed: int) -> NDArray[np.float64]:
    """Mean h^2 over the blocks behind every inner weight layer or join, (L - 1, 3), one layer drawn after the other."""
    signal = torch.from_numpy(x).to(torch.float32)
    rows: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    for part in network.outline[:-1]:
        if isinstance(part, Weights):
            n = len(signal)
            dense = gt.Dense(network.layers[part.number - 1], network.weight_variance[part.number - 1])
            one = gt.Network([dense], outputs=width)
            model = gv.build(one, (n, width), np.random.SeedSequence([seed, part.number]), dtype=torch.float32)
            with torch.no_grad():
                signal = model(signal[None])[0]
            rows.append(signal)
        elif isinstance(part, Phi):
            signal = torch.relu(signal)
        elif isinstance(part, Fork):
            kept.append(signal)
        else:
            assert isinstance(part, Join)
            signal = kept.pop() + part.scale * signal
            rows[-1] = signal
    edges = np.round(width * np.cumsum(BLOCKS)).astype(int)[:-1]
    parts = [torch.tensor_split(row, edges.tolist()) for row in rows]
    return np.array([[float((one.double() ** 2).mean()) for one in row] for row in parts])


@pytest.mark.slow
def test_fifty_drawn_blocks_keep_what_the_map_says() -> None:
    """Residual ReLU network of 50 blocks, balanced, width 2,048: variances of every block of units behind every join.

    Without biases E[h^2] obeys the map at every width, so z-scores over seeds are fair.
    """
    width, seeds = 2048, 8
    block = gt.Residual(gt.Pointwise("relu"), gt.Dense(_block_layer()), scale=0.5)
    network = gt.balanced(gt.Network([gt.Dense(1.0), *[block] * 50, gt.Pointwise("relu"), gt.Dense(1.0)]))
    x = np.random.default_rng(0).standard_normal(64)
    x /= np.sqrt(x @ x / len(x))
    want = gt.criticality(network, positions=np.cumsum(BLOCKS) - BLOCKS / 2).variance.values
    assert want[-1].max() > 1.2 * want[-1].min()  # positions differ
    got = np.array([_drawn_variances(network, x, width, seed) for seed in range(seeds)])
    z = (got.mean(axis=0) - want) / (got.std(axis=0, ddof=1) / np.sqrt(seeds))
    print("z of the blocks behind blocks 1, 10, 50:", np.round(z[[1, 10, 50]], 2).tolist())
    assert np.abs(z[[1, 10, 50]]).max() < 5  # nine of Student's t with 7 degrees of freedom, named beforehand


@pytest.mark.slow
def test_a_thousand_drawn_layers_wander_about_what_the_map_says() -> None:
    """Plain ReLU network of 1,000 balanced layers, width 2,048: the mean of h^2 of four networks.

    E[h^2] stays at 1; every layer multiplies it by a factor of relative variance 5 / n, that of a mean of relu(h)^2
    over its units, so that its log is normal about minus half the variance that gathers. Masks are drawn; given a mask,
    a receiver's sum over normal weights is one normal.
    """
    width, depth, seeds = 2048, 1000, 4
    network = gt.balanced(gt.Network([1.0, *[0.2] * (depth - 2), 1.0]))
    np.testing.assert_allclose(gt.criticality(network).variance, 1.0, rtol=1e-11)
    looked_at = (10, 100, 300, depth - 1)
    logs = np.empty((seeds, len(looked_at)))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        signal = np.ones(64, dtype=np.float32)  # mean square 1
        for layer in range(1, depth):
            kept = rng.random((width, len(signal)), dtype=np.float32) < network.layers[layer - 1].mask.mean()
            variance = network.weight_variance[layer - 1] / len(signal) * (kept.astype(np.float32) @ signal**2)
            h = np.sqrt(variance) * rng.standard_normal(width, dtype=np.float32)
            if layer in looked_at:
                logs[seed, looked_at.index(layer)] = np.log((h.astype(float) ** 2).mean())
            signal = np.maximum(h, 0)
    gathered = 5 * np.array(looked_at) / width
    z = (logs + gathered / 2) / np.sqrt(gathered)
    print("layers", looked_at, "z of the logs, a row a network:", np.round(z, 2).tolist())
    assert np.abs(z).max() < 4
    assert np.abs(z.mean(axis=0)).max() * seeds**0.5 < 4
