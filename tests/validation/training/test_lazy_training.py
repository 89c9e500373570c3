"""Cross-entropy in the limit against full-batch gradient descent of wide networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import graphon_theory as gt
import graphon_validation as gv


@pytest.mark.slow
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_cross_entropy_of_wide_networks_follows_the_limit(density: float) -> None:
    """Random masks at 1/density of the variance. From the network's own start, curves differ by the kernel's errors."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 24)
    x = rng.standard_normal((24, 10)) + 1.5 * np.eye(3, 10)[labels]
    network = gt.Network([1.0, density, density], weight_variance=[2.0, 2 / density, 2 / density], outputs=3)
    kernel = gt.limit_kernel(network, x).ntk.isel(output=0, drop=True)
    rate, steps = 0.5 * gt.critical_learning_rate(kernel), [0, 10, 30, 100]
    real, limit = [], []
    for seed in range(3):
        model = gv.build(network, (10, 2048, 2048, 3), seed, dtype=torch.float32)
        start = model(torch.from_numpy(x).float()).detach().double().numpy()
        data = (x.astype(np.float32), labels)
        curve = gv.train(
            model, data, steps=100, learning_rate=rate, loss="cross_entropy", record=10, progress=False
        ).loss.sel(time=steps)
        flow = gt.gradient_descent(kernel, labels, steps, learning_rate=rate, loss="cross_entropy", initial=start)
        real.append(curve.values)
        limit.append(flow.loss.values)
    one, two = np.log(real), np.log(limit)
    np.testing.assert_allclose(one[:, 0], two[:, 0], atol=1e-5)
    spread = one.std(0, ddof=1)
    # of the logarithm: within the spread over seeds, and closer together than that where starts are the same
    assert (np.abs(one.mean(0) - two.mean(0))[1:] < 2 * spread[1:] / np.sqrt(3) + 0.1).all()
    assert np.abs(one - two).max() < 0.3
