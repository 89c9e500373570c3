"""Mean and spread of trained networks over initialisations against the limit's prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from xarray import Dataset

from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Dense, Pointwise, Residual
from graphon_theory.training.dynamics import critical_learning_rate
from graphon_theory.training.ensembles import training_ensemble
from graphon_validation.studies.drawn_ensembles import compare_ensemble, trained_ensemble

# A dense input layer: a masked one stays O(1/d) away from the limit at any width (THEORY §9).
HIDDEN = StepGraphon([[1.0, 0.8], [0.05, 0.3]], [0, 0.375, 1], [0, 0.25, 1])
READOUT = StepGraphon([[1.0, 0.4]], v_edges=[0, 0.375, 1])
NETWORK = Network([1.0, HIDDEN, READOUT], activation="erf", weight_variance=2.0, bias_variance=0.1)


RESIDUAL = Network(
    [Dense(1.0), Residual(Pointwise("erf"), Dense(StepGraphon([[0.9, 0.3], [0.2, 0.6]])), scale=0.7), Pointwise("erf"),
     Dense(1.0)], weight_variance=2.0, bias_variance=0.1,
)  # fmt: skip


def held_against_the_limit(
    width: int, seeds: int, steps: Sequence[int], network: Network = NETWORK
) -> tuple[Dataset, Dataset]:
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((8, 6)), rng.standard_normal((4, 6))
    y = np.sin(2 * x[:, 0]) + x[:, 1]
    kernels, test = limit_kernel(network, x), limit_kernel(network, new, x)
    rate = 0.5 * critical_learning_rate(kernels.ntk)
    law = training_ensemble(
        kernels,
        y,
        steps,
        test=test,
        test_variance=np.diagonal(limit_kernel(network, new).nngp),
        learning_rate=rate,
        descent=True,
    )
    found = trained_ensemble(
        network, x, y, new, steps, learning_rate=rate, width=width, seeds=range(seeds), progress=False
    )
    return found, compare_ensemble(found, law)


def assert_within(compared: Dataset, seeds: int, bias: float) -> None:
    """``bias``: the relative excess of the standard deviation allowed for O(1/n).

    A network's own tangent kernel differs from the limit's by O(n^-1/2), which adds O(1/n) to the variance; late in
    training, where little spread is left at the training inputs, that is a large part of it.
    """
    assert float(np.abs(compared.z).max()) < 4
    allowed = 4.5 / np.sqrt(2 * (seeds - 1))
    assert float(compared.std_ratio.min()) > 1 - allowed
    assert float(compared.std_ratio.max()) < 1 + allowed + bias
    assert (np.abs(compared.coverage - 0.954) < 0.04).all()


def test_moderate_networks_lie_in_the_predicted_band() -> None:
    seeds = 40
    found, compared = held_against_the_limit(256, seeds, [0, 1, 4])
    assert found.prediction.dims == ("kind", "seed", "time", "x")
    assert found.prediction.shape == (2, seeds, 3, 12)
    assert_within(compared, seeds, bias=0.3)
    # a network and its linearisation start together and part by O(n^-1/2) of the spread
    apart = np.abs(found.prediction.sel(kind="real") - found.prediction.sel(kind="linear"))
    assert float(apart.isel(time=0).max()) < 1e-12
    assert 0 < float(apart.mean()) < 0.1


@pytest.mark.slow
def test_64_wide_networks_lie_in_the_predicted_band() -> None:
    _, compared = held_against_the_limit(2048, 64, [0, 1, 4, 12, 30])
    assert_within(compared, 64, bias=0.1)


def test_residual_networks_are_drawn_with_as_many_widths_as_they_have() -> None:
    x = np.random.default_rng(0).standard_normal((5, 6))
    found = trained_ensemble(RESIDUAL, x, x[:, 0], x[:2], [0, 1], learning_rate=1e-6, width=16, seeds=[0, 1],
                             progress=False)  # fmt: skip
    real, linear = (found.prediction.sel(kind=kind).values for kind in ("real", "linear"))
    np.testing.assert_allclose(real, linear, rtol=0, atol=1e-9)  # a small step is a linear one
    assert np.abs(real[:, 1] - real[:, 0]).min() > 0


@pytest.mark.slow
def test_residual_networks_lie_in_the_predicted_band() -> None:
    _, compared = held_against_the_limit(96, 40, [0, 1, 3], RESIDUAL)
    assert_within(compared, 40, bias=0.5)


def test_refuses_several_targets() -> None:
    x = np.ones((3, 2))
    with pytest.raises(InputError, match="y: expected one target"):
        trained_ensemble(NETWORK, x, np.ones((3, 2)), x, [1], learning_rate=0.1, width=8, seeds=[0])
