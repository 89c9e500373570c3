"""graphon_flow: it goes downhill, keeps its budget and bounds, and moves as its equation says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.errors import InputError, NetworkError

WIDTHS = (5, 30, 20, 1)
SIZES = np.array([150, 600, 20])


def problem() -> tuple[FloatArray, FloatArray]:
    x = np.random.default_rng(0).standard_normal((20, 5))
    return x, np.sign(x[:, 0] * x[:, 1]) + x[:, 2]


def flow(**options: Any) -> gt.GraphonFlow:
    x, y = problem()
    given: dict[str, Any] = {
        "density": 0.3,
        "widths": WIDTHS,
        "blocks": 2,
        "times": [0.0, 0.001, 0.01, 0.03],
        **options,
    }
    return gt.graphon_flow(gt.Network([1.0, 1.0, 1.0], bias_variance=0.1), x, y, **given)


def cells(network: gt.Network, layer: int) -> FloatArray:
    mask = network.layers[layer].mask
    assert isinstance(mask, gt.StepGraphon)
    return mask.values


def test_the_objective_falls_and_the_budget_is_kept() -> None:
    found = flow()
    assert (np.diff(found.values) < 0).all()
    for network in found.networks:
        assert sum(n * one.mask.mean() for n, one in zip(SIZES, network.layers, strict=True)) == pytest.approx(
            0.3 * SIZES.sum(), rel=1e-12
        )
        for layer in range(3):
            assert cells(network, layer).min() > 0
            assert cells(network, layer).max() <= 1
    x, y = problem()
    kern = gt.limit_kernel(found.network, x)
    value = gt.objective("leave_one_out")(kern.ntk.values, kern.nngp.values, y)[0]
    assert found.values[-1] == pytest.approx(value, rel=1e-10)
    for layer, path in enumerate(found.paths):
        assert path is not None
        assert path.graphon.dims == ("time", "u", "v")
        np.testing.assert_array_equal(path.graphon[-1], cells(found.network, layer))
        np.testing.assert_allclose(path.density[0], found.networks[0].layers[layer].mask.mean(), rtol=1e-12)
        assert (path.step_cut_lower <= path.step + 1e-12).all()
    assert float(found.paths[0].step[0]) == 0  # type: ignore[union-attr]


def test_it_moves_as_the_projected_gradient_says() -> None:
    """Away from bounds: cells move at -M dJ/dm but for one number, which keeps the budget."""
    time = 1e-4
    before, after = flow(times=[0.0, time], start=0.1, tolerance=1e-6).networks
    x, y = problem()

    def value(network: gt.Network) -> float:
        kern = gt.limit_kernel(gt.balanced(network, by="position", q=float((x**2).mean())), x)
        return float(gt.objective("leave_one_out")(kern.ntk.values, kern.nngp.values, y)[0])

    rates, expected = [], []
    for layer, size in enumerate(SIZES):
        values = cells(before, layer)
        rates.append(((cells(after, layer) - values) / time).ravel())
        slopes = np.empty_like(values)
        for cell in np.ndindex(values.shape):
            step = np.zeros_like(values)
            step[cell] = 1e-4
            either = [
                value(
                    before.with_layers(
                        [
                            gt.StepGraphon(values + s * step) if n == layer else one.mask
                            for n, one in enumerate(before.layers)
                        ]
                    )
                )
                for s in (-1, 1)
            ]
            slopes[cell] = (either[1] - either[0]) / 2e-4
        expected.append(-(slopes * values.size / size).ravel() * SIZES.sum())
    apart = np.concatenate(rates) - np.concatenate(expected)
    assert np.ptp(apart) < 1e-2 * np.abs(np.concatenate(expected)).max()


def test_steps_are_small_enough() -> None:
    rough, fine = (flow(tolerance=t, times=[0.0, 0.01]).network for t in (1e-2, 1e-4))
    for layer in range(3):
        np.testing.assert_allclose(cells(rough, layer), cells(fine, layer), atol=0.02)


def test_layers_that_stay_and_a_budget_a_layer() -> None:
    found = flow(layers=[1], density=[0.4, 0.5, 0.5], times=[0.0, 0.01])
    assert found.paths[1] is None
    assert found.network.layers[1].mask == gt.as_graphon(1.0)
    assert found.network.layers[0].mask.mean() == pytest.approx(0.4, rel=1e-12)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="times"):
        flow(times=[1.0, 0.5])
    with pytest.raises(InputError, match="times: expected no negative time"):
        flow(times=[-1.0, 0.5])
    with pytest.raises(InputError, match="times: expected finite times"):
        flow(times=[0.0, np.inf])
    with pytest.raises(InputError, match="tolerance"):
        flow(tolerance=0.0)
    with pytest.raises(NetworkError, match="nothing to design"):
        flow(layers=[])
    with pytest.raises(InputError, match="needs targets"):
        gt.graphon_flow(gt.Network([1.0, 1.0]), problem()[0], density=0.3, widths=(5, 9, 1), times=[1.0])
