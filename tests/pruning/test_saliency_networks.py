"""Networks pruned by a data-fed saliency: what must hold whatever the finite networks say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.pruning import saliency_networks

RNG = np.random.default_rng(2)
X = RNG.standard_normal((30, 6))
LABELS = RNG.integers(0, 3, 30)
TARGETS = RNG.standard_normal((30, 3))
DENSE = gt.Network([1.0] * 4, outputs=3)
WIDTHS = (6, 200, 300, 200, 3)


def kept(network: gt.Network) -> float:
    sizes = [a * b for a, b in pairwise(WIDTHS)]
    return sum(n * layer.mask.mean() for n, layer in zip(sizes, network.layers, strict=True)) / sum(sizes)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("density", [0.5, 0.1])
def test_the_threshold_keeps_the_density(loss: str, density: float) -> None:
    y = LABELS if loss == "cross_entropy" else TARGETS
    network = gt.saliency_network(DENSE, X, y, density, WIDTHS, loss=loss, positions=256)
    assert kept(network) == pytest.approx(density, rel=0.01)
    first, *_, last = (layer.mask.mean() for layer in network.layers)
    assert first > 1.5 * density or density == 0.5  # scores of inputs and outputs are larger
    assert last > 1.5 * density


def test_wider_networks_keep_more_of_their_ends() -> None:
    narrow = gt.saliency_network(DENSE, X, LABELS, 0.1, (6, 64, 64, 64, 3), positions=256)
    wide = gt.saliency_network(DENSE, X, LABELS, 0.1, (6, 4096, 4096, 4096, 3), positions=256)
    assert wide.layers[0].mask.mean() > 1.5 * narrow.layers[0].mask.mean()
    assert wide.layers[-1].mask.mean() > 1.5 * narrow.layers[-1].mask.mean()
    assert wide.layers[1].mask.mean() == pytest.approx(0.1, rel=0.2)  # ends are a vanishing share


@pytest.mark.parametrize(
    ("activation", "bias"), [("relu", 0.0), ("relu", 0.4), pytest.param("erf", 0.4, marks=pytest.mark.slow)]
)
def test_labels_that_are_not_used_change_nothing(activation: str, bias: float) -> None:
    """At density 1 positions tell of their units and nothing is pruned: on average over them, the dense kernel."""
    dense = gt.Network([1.0] * 4, activation, 2.0, bias, outputs=3)
    want = float(np.trace(gt.limit_kernel(dense, X[:6]).ntk.values[0]))
    found = []
    for seed in range(12 if activation == "relu" else 4):
        network = gt.saliency_network(dense, X, LABELS, 1.0, WIDTHS, positions=192, rng=seed)
        found.append(np.trace(gt.limit_kernel(network, X[:6]).ntk.mean("output")))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert error < 0.08 * want
    assert abs(np.mean(found) - want) < 3 * error


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_outputs_on_the_batch_are_what_was_drawn(bias: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At density 1 with all modes known, the outputs' means are those drawn, if features are: nothing varies."""
    dense = gt.Network([1.0] * 4, outputs=3, bias_variance=bias)
    drawn: list[Any] = []
    forward = saliency_networks._forward

    def keep(*arguments: Any) -> Any:
        drawn.append(forward(*arguments))
        return drawn[-1]

    monkeypatch.setattr(saliency_networks, "_forward", keep)
    network = gt.saliency_network(dense, X, LABELS, 1.0, WIDTHS, positions=64, modes=64)
    found = gt.limit_kernel(network, X)
    np.testing.assert_allclose(found["mean"], drawn[0][-1].signals, atol=1e-10)
    assert float(np.abs(found.nngp).max()) < 1e-10


@pytest.mark.slow
def test_fewer_modes_leave_outputs_to_vary() -> None:
    network = gt.saliency_network(DENSE, X, LABELS, 1.0, WIDTHS, positions=512, modes=512)
    found = gt.limit_kernel(network, X)
    spread = np.sqrt(np.einsum("oii->oi", found.nngp.values)) / np.sqrt((found["mean"].values ** 2).mean())
    assert spread.mean() < 0.1
    barely = gt.limit_kernel(gt.saliency_network(DENSE, X, LABELS, 1.0, WIDTHS, positions=512, modes=1), X)
    assert np.sqrt(np.einsum("oii->oi", barely.nngp.values)).mean() > 5 * spread.mean()


def test_the_seed_decides() -> None:
    one, two, other = (gt.saliency_network(DENSE, X, LABELS, 0.2, WIDTHS, positions=32, rng=s) for s in (0, 0, 1))
    assert one.layers == two.layers
    assert one.layers != other.layers


def test_a_network_of_one_layer_is_its_own_weights() -> None:
    network = gt.saliency_network(gt.Network([1.0], outputs=3), X, LABELS, 0.5, (6, 3))
    (layer,) = network.layers
    assert set(np.unique(layer.mask.to_step(18)(*np.ogrid[0.01:1:19j, 0.01:1:19j]))) <= {0.0, 1.0}
    found = gt.limit_kernel(network, X)
    assert float(np.abs(found.nngp).max()) < 1e-12  # outputs are sure
    assert float(np.abs(found["mean"]).max()) > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"network": gt.Network([0.5, 1.0], outputs=3), "widths": (6, 9, 3)},
            "expected a dense network, but layer 1 is",
        ),
        ({"network": 3}, "network: expected a Network, got int"),
        (
            {"network": gt.Network([1.0] * 2, parameterization="standard", widths=(6, 9), outputs=3)},
            'expected parameterization="ntk"',
        ),
        ({"widths": (6, 200, 3)}, r"widths: expected 5 unit counts \(n_0, ..., n_4\) from 6 inputs to 3 outputs"),
        ({"widths": (7, 200, 300, 200, 3)}, "widths: expected 5 unit counts"),
        ({"widths": (6, 200.5, 300, 200, 3)}, "widths: expected 5 unit counts"),
        ({"density": 0.0}, "density: expected a share"),
        ({"density": "0.5"}, "density: expected a share"),
        ({"x": X[:1], "y": LABELS[:1], "density": 0.9}, "density: 0.9 cannot be reached, since only"),
        ({"loss": "hinge"}, "loss: expected one of cross_entropy, squared, got 'hinge'"),
        ({"y": TARGETS}, "y: expected 30 labels, whole numbers"),
        ({"y": LABELS + 1}, "y: expected labels from 0 to 2, got 1 to 3"),
        ({"y": LABELS, "loss": "squared"}, r"y: expected finite targets of shape \(30, 3\)"),
        ({"network": gt.Network([1.0]), "widths": (6, 1)}, "cross-entropy needs at least two outputs"),
        ({"positions": 0}, "positions: expected a positive whole number, got 0"),
        ({"modes": 2.5}, "modes: expected a positive whole number, got 2.5"),
        ({"rng": "seed"}, "rng: expected a numpy Generator or a seed"),
        ({"x": X[0]}, "x: expected shape"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"network": DENSE, "x": X, "y": LABELS, "density": 0.2, "widths": WIDTHS} | change
    with pytest.raises(gt.GraphonError, match=message):
        gt.saliency_network(**arguments)
