"""Networks whose weights have a mean: the limit with D is confirmed, the one without is far off."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import graphon_theory as gt
import graphon_validation as gv
from graphon_validation.experiments.sweep_experiments import ENTRIES, gaussian_inputs

BLOCKS = (0.25, 0.6)
MASK = np.array([[0.9, 0.3, 0.6], [0.2, 0.8, 0.5], [0.7, 0.4, 0.25]])
VARIANCE = MASK * np.array([[1.2, 0.8, 1.0], [1.0, 1.5, 0.7], [0.9, 1.0, 2.0]])
COHERENCE = 0.5


def network(coherence: float, activation: str) -> gt.Network:
    """Dense input and output, three hidden layers with D = coherence sqrt(V); an odd activation would not see it."""
    edges = np.array([0.0, *BLOCKS, 1.0])

    def layer(mask: np.ndarray, variance: np.ndarray) -> gt.Connectivity:
        steps = (gt.StepGraphon(v, edges, edges) for v in (mask, variance, coherence * np.sqrt(variance)))
        return gt.Connectivity(*steps)

    layers = [1.0, layer(MASK, VARIANCE), layer(MASK.T, VARIANCE.T), layer(MASK, VARIANCE), 1.0]
    return gt.Network(layers, activation, 2.0, 0.1)


def check(widths: tuple[int, ...], seeds: int, activation: str) -> xr.Dataset:
    x = gaussian_inputs()
    drifting = network(COHERENCE, activation)
    real = gv.width_sweep(drifting, x, widths=widths, seeds=range(seeds), progress=False)
    found = gv.compare(real, gt.limit_kernel(drifting, x), ENTRIES)
    assert (np.abs(found.fitted_z) < 3).all(), found.fitted_z
    without = gt.limit_kernel(network(0.0, activation), x).ntk.values
    finite = real.ntk.isel(width=-1).mean("seed").values
    # without D the trace is off by more than half
    assert abs(np.trace(without) / np.trace(finite) - 1) > 0.5
    return found


@pytest.mark.parametrize("activation", ["relu", pytest.param("gelu", marks=pytest.mark.slow)])
def test_networks_with_drift_confirm_the_limit(activation: str) -> None:
    check((64, 128, 256, 512), 24, activation)


@pytest.mark.slow
def test_wide_networks_with_drift() -> None:
    found = check((512, 2048), 64, "relu")
    assert (np.abs(found.z.isel(width=-1)) < 3).all()
