"""The channel upstream: without it the traces are the limit's, dense layers do not feel it, pruned ones do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.pruning.saliency_networks import Labels, labelled_network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.labelled_data import SETS, labelled_data
from graphon_validation.experiments.upstream_experiments import upstream_experiment, without_channel
from tests.upstream_loops import traces

X, LABELS = digits()
PROBE = X[200:206]
MODES = 60  # all of them


def limit(density: float, seed: int, positions: int = 96) -> tuple[gt.Network, Labels]:
    unpruned = gt.Network([1.0] * 4, outputs=10)
    widths = (64, 256, 256, 256, 10)
    return labelled_network(unpruned, X[:60], LABELS[:60], density, widths, positions=positions, modes=MODES, rng=seed)


@pytest.mark.parametrize("density", [0.2, 0.05])
@pytest.mark.parametrize("channel", [False, True])
def test_the_engine_agrees_with_plain_loops(density: float, channel: bool) -> None:
    network, labels = limit(density, 3)
    kernel = gt.limit_kernel(network if channel else without_channel(network), PROBE, contributions=True)
    found = np.einsum("loii->l", kernel.ntk_layer.values) / 10
    np.testing.assert_allclose(traces(network, labels, PROBE, channel=channel), found, rtol=1e-9)
    np.testing.assert_allclose(kernel.ntk_layer.sum("layer"), kernel.ntk, rtol=1e-9)


def test_data_sets_are_as_described() -> None:
    for name in set(SETS) - {"digits"}:
        x, labels = labelled_data(name)
        assert len(x) == len(labels) >= 150
        if name == "teacher":
            assert np.linalg.lstsq(x, labels)[1].max() < 1e-20
        else:
            np.testing.assert_allclose(x.std(0), 1)
            assert set(labels) == set(range(int(labels.max()) + 1))


def test_labels_are_those_of_the_network() -> None:
    """The same seed gives the network of gt.saliency_network, and gradients that the returned weights brought back."""
    network, labels = limit(0.2, 5)
    again = gt.saliency_network(
        gt.Network([1.0] * 4, outputs=10),
        X[:60],
        LABELS[:60],
        0.2,
        (64, 256, 256, 256, 10),
        positions=96,
        modes=MODES,
        rng=5,
    )
    assert network.describe() == again.describe()
    for one, two in zip(network.layers, again.layers, strict=True):
        assert one == two
    for units, gradients, above, back in zip(
        labels.units, labels.gradients, labels.gradients[1:], labels.back, strict=False
    ):
        through = back.T @ above
        alive = units.signals > 0
        ratio = gradients[alive] / through[alive]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        assert not gradients[~alive].any()


def test_dense_layers_do_not_feel_it_and_pruned_ones_do() -> None:
    """Nothing pruned: labels average out, by the score of the mean over limits. Pruned: the trace grows."""
    added = {}
    for density in (1.0, 0.05):
        both = []
        for seed in range(8):
            network, labels = limit(density, seed)
            both.append([traces(network, labels, PROBE, channel=channel) for channel in (False, True)])
        without, with_it = np.array(both).transpose(1, 0, 2)
        added[density] = with_it / without - 1
    for density, found in added.items():
        np.testing.assert_allclose(found[:, 2:], 0, atol=1e-12)  # the last hidden layer has it already
        both_layers = found[:, :2].mean(1)
        score = both_layers.mean() / (both_layers.std(ddof=1) / np.sqrt(len(found)))
        assert abs(score) < 4 if density == 1 else score > 3, (density, score)


def test_the_experiment_gives_what_the_channel_adds(tmp_path: Path) -> None:
    found = upstream_experiment(tmp_path, [0.2], [64], 3, positions=48)
    assert (tmp_path / "upstream.nc").exists()
    assert found.added.dims == ("density", "width", "seed")
    assert (found.factor.sel(layer=4) == 1).all()
    assert (np.abs(found.added) < 0.5).all()


@pytest.mark.slow
def test_deep_networks_have_the_channel_in_every_hidden_layer(tmp_path: Path) -> None:
    """Four hidden layers: without it the layers below lack a third to a half of their trace, with it a tenth."""
    found = upstream_experiment(tmp_path, [0.1], [512], 6, hidden=4, networks=True, positions=256)
    low = found.isel(density=0, width=0).sel(layer=slice(1, 2))
    assert (low.ratio > 1.1 * low.ratio_with).all()
    assert (np.abs(low.ratio_with - 1) < 0.1 + 3 * low.ratio_with_error).all()
