"""Outputs of drawn networks: sampled means and covariances against plain sums, enumeration, closed forms, the limit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import xarray as xr

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError, NetworkError
from graphon_validation.experiments.sweep_experiments import ENTRIES, gaussian_inputs, three_block_network
from tests.validation.helpers import inputs, random_model


def scores(found: xr.Dataset, limit: xr.Dataset) -> np.ndarray:
    z = ((found.nngp - limit.nngp) / found.nngp_error).values
    return np.array([z[entry] for entry in ENTRIES])


@pytest.mark.parametrize("drift", [False, True])
def test_three_blocks_agree_with_the_limit_and_not_with_wrong_ones(drift: bool) -> None:
    """Dense inputs, three-block hidden layers and readout, biases; one z-test confirms and refuses."""
    x, network = gaussian_inputs(), three_block_network(drift)
    width = 512
    found = gv.sampled_nngp(network, x, widths=(8, width, width, width, 1), seeds=range(48))
    limit = gt.limit_kernel(network, x)
    assert np.abs(scores(found, limit)).max() < 3.5
    if drift:
        mean_z = ((found["mean"] - limit["mean"]) / found.mean_error).values
        assert np.abs(mean_z).max() < 3.5
        assert (found["mean"] > 10 * found.mean_error).all()
        product = limit["mean"].values[:, None] * limit["mean"].values
        second_z = (found.second_moment - limit.nngp - product) / found.second_moment_error
        assert np.abs(second_z.values).max() < 4
    else:
        assert not found["mean"].values.any()
        xr.testing.assert_equal(found.nngp, found.second_moment.rename("nngp"))
    heavier = gt.Network(network.layers, "relu", 1.2 * network.weight_variance[0], network.bias_variance)
    assert np.abs(scores(found, gt.limit_kernel(heavier, x))).min() > 5
    other = gt.limit_kernel(three_block_network(not drift), x)
    assert np.abs(scores(found, other)).min() > 5


def test_estimates_and_errors_are_those_of_stored_draws() -> None:
    """Streamed sums equal NumPy on all outputs at once, with inputs of two kinds and two groups of outputs."""
    readout = gt.StepGraphon([[0.9, 0.2], [0.9, 0.2], [0.3, 0.8]])  # outputs 0 and 1 share a law
    network = gt.Network([1.0, readout], "relu", bias_variance=0.2, outputs=3)
    x, x2, counts, seeds = inputs(3, 4), inputs(2, 4, seed=1), (4, 10, 3), range(7)
    found = gv.sampled_nngp(network, x, x2, widths=counts, seeds=seeds, readout="drawn")
    models = [gv.build(network, counts, np.random.SeedSequence([seed, *counts])) for seed in seeds]
    with torch.no_grad():
        f, g = (np.stack([model(torch.from_numpy(one)).T.numpy() for model in models]) for one in (x, x2))
    for output, members in ((0, [0, 1]), (1, [0, 1]), (2, [2])):
        m, m2 = f[:, members].mean(1), g[:, members].mean(1)
        q = np.einsum("son,som->snm", f[:, members], g[:, members]) / len(members)
        mean, mean2 = m.mean(0), m2.mean(0)
        one = found.sel(output=output)
        np.testing.assert_allclose(one["mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(one.mean_error, m.std(0, ddof=1) / np.sqrt(7), rtol=1e-10)
        np.testing.assert_allclose(one.second_moment, q.mean(0), rtol=1e-12)
        np.testing.assert_allclose(one.second_moment_error, q.std(0, ddof=1) / np.sqrt(7), rtol=1e-10)
        covariance = (m - mean).T @ (m2 - mean2) / 6
        np.testing.assert_allclose(one.nngp, q.mean(0) - np.outer(mean, mean2) + covariance / 7, rtol=1e-12)
        influence = q - m[:, :, None] * mean2 - mean[:, None] * m2[:, None, :]
        np.testing.assert_allclose(one.nngp_error, influence.std(0, ddof=1) / np.sqrt(7), rtol=1e-10)
        if len(members) == 1:
            np.testing.assert_allclose(one.nngp, covariance, rtol=1e-12)
    assert found.nngp.dims == ("output", "x", "x2")
    assert found.nngp.shape == (3, 3, 2)
    assert found.attrs["draws"] == 7


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["integrated", pytest.param("drawn", marks=pytest.mark.slow)])
def test_errors_are_honest_where_the_finite_covariance_is_known(readout: str) -> None:
    """One hidden layer of width n: Cov f = K - sigma_w^2 / n E[D^2] m m' exactly, m = sqrt(K_1 / 2 pi) for ReLU."""
    n, x = 12, inputs(3, 2)
    drifting = gt.Connectivity(0.6, 0.9, 0.7)
    network = gt.Network([1.0, drifting], "relu", bias_variance=0.1)
    limit = gt.limit_kernel(network, x)
    first = gt.limit_kernel(gt.Network([1.0], bias_variance=0.1), x).nngp.values
    m = np.sqrt(np.diagonal(first) / (2 * math.pi))
    np.testing.assert_allclose(limit["mean"], math.sqrt(2) * 0.7 * m)
    truth = limit.nngp.values - 2 / n * 0.49 * np.outer(m, m)
    repeats = []
    for repeat in range(80):
        seeds = range(40 * repeat, 40 * (repeat + 1))
        repeats.append(gv.sampled_nngp(network, x, widths=(2, n, 1), seeds=seeds, readout=readout))
    found = xr.concat(repeats, "repeat")
    product = truth + np.outer(limit["mean"], limit["mean"])
    for name, expected in (("mean", limit["mean"].values), ("nngp", truth), ("second_moment", product)):
        off, claimed = (found[name] - expected).values, found[f"{name}_error"].values
        scatter = off.std(0, ddof=1)
        assert np.abs(off.mean(0) / scatter).max() < 4 / math.sqrt(80)  # unbiased
        ratio = np.sqrt((claimed**2).mean(0)) / scatter
        assert np.abs(ratio - 1).max() < 0.3, name


def test_the_integrated_readout_is_exact_without_features_and_sharper_with_them() -> None:
    x = inputs(4, 5)
    flat = gt.Network([gt.Connectivity(0.5, 0.8, 0.6)], bias_variance=0.3, outputs=2)
    found, limit = gv.sampled_nngp(flat, x, widths=(5, 2), seeds=range(3)), gt.limit_kernel(flat, x)
    np.testing.assert_allclose(found.nngp, limit.nngp, rtol=1e-13)  # with D^2 / d taken off
    np.testing.assert_allclose(found["mean"], limit["mean"], rtol=1e-13, atol=1e-15)
    assert not found.nngp_error.values.any()
    deep = three_block_network(drift=True)
    counts = (8, 128, 128, 128, 1)
    both = [
        gv.sampled_nngp(deep, inputs(4, 8), widths=counts, seeds=range(64), readout=r) for r in ("integrated", "drawn")
    ]
    difference = both[0].nngp - both[1].nngp
    assert (np.abs(difference) < 4 * np.hypot(both[0].nngp_error, both[1].nngp_error)).all()
    assert (both[0].nngp_error < both[1].nngp_error / 1.5).all()


def test_signs_drawn_again_are_all_signs_enumerated() -> None:
    """Sizes and masks of one network stay: the truth is a sum over every choice of signs."""
    model = random_model((2, 3, 2), (0.7, 0.8), "relu", bias_variance=0.4, seed=3)
    x = inputs(3, 2)
    parameters = [value for _, value in model.named_parameters()]
    sizes = [value.detach().clone().abs() for value in parameters]
    count = sum(size.numel() for size in sizes)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=9)), dtype=torch.float64)
    # the second layer's signs are independent given the first's: enumerate the first, take moments over the second
    assert count == 6 + 3 + 6 + 2
    first, bias, readout, last_bias = sizes
    total = np.zeros((2, 3, 3))
    squares = (readout * model.masks[1]).numpy() ** 2
    for chosen in signs:
        w, b = first * chosen[:6].reshape(3, 2) * model.masks[0], bias * chosen[6:]
        h = model.linears[0].scale * torch.from_numpy(x) @ w.T + model.linears[0].bias_scale * b
        a = torch.relu(h).numpy()
        total += model.linears[1].scale ** 2 * np.einsum("oj,nj,mj->onm", squares, a, a)
    truth = total / len(signs) + 0.4 * last_bias.numpy()[:, None, None] ** 2
    for option in ("integrated", "drawn"):
        found = gv.sampled_nngp(model, x, seeds=range(400), protocol="signs", readout=option)
        assert (np.abs(found.nngp - truth) < 4 * found.nngp_error).all()
        assert (found.nngp_error < 0.2 * np.abs(truth).max()).all()
    assert (np.abs(found["mean"]) < 4 * found.mean_error).all()


def test_own_masks_with_weights_drawn_again() -> None:
    """The limit of a wide model's own (W, W), and outputs of equal mask rows pooled."""
    model = gv.prune(gv.dense((6, 400, 400, 2), 0, bias_variance=0.1), "magnitude", 0.3, layers=[1])
    x = inputs(4, 6)
    found = gv.sampled_nngp(model, x, seeds=range(40))
    limit = gt.limit_kernel(gt.Network([1.0, 0.3, 1.0], bias_variance=0.1, outputs=2), x)
    assert np.abs((found.nngp - limit.nngp) / found.nngp_error).max() < 4
    xr.testing.assert_equal(found.nngp.sel(output=0), found.nngp.sel(output=1))
    heavier = gt.limit_kernel(gt.Network([1.0, gt.magnitude_pruning(0.3), 1.0], bias_variance=0.1, outputs=2), x)
    assert np.abs((found.nngp - heavier.nngp) / found.nngp_error).min() > 5  # what its own weights would give
    pooled = gv.sampled_nngp(model, x, seeds=range(40), readout="drawn")
    xr.testing.assert_equal(pooled.nngp.sel(output=0), pooled.nngp.sel(output=1))


def test_what_makes_no_sense_is_refused() -> None:
    network, x = gt.Network([1.0, 1.0]), inputs(3, 4)
    model = gv.build(network, (4, 8, 1), 0)
    for seeds in ([0, 1], [0, 1, 1], [-1, 0, 1], [0.5, 1, 2]):
        with pytest.raises(InputError, match="seeds: expected at least 3 different integers"):
            gv.sampled_nngp(network, x, widths=(4, 8, 1), seeds=seeds)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give all unit counts"):
        gv.sampled_nngp(network, x, seeds=range(3))
    with pytest.raises(InputError, match="a model has its own"):
        gv.sampled_nngp(model, x, widths=(4, 8, 1), seeds=range(3))
    with pytest.raises(InputError, match="protocol: expected one of redrawn, signs"):
        gv.sampled_nngp(model, x, seeds=range(3), protocol="own")
    with pytest.raises(InputError, match="readout: expected one of"):
        gv.sampled_nngp(model, x, seeds=range(3), readout="both")
    with pytest.raises(NetworkError, match="widths: expected 3 unit counts"):
        gv.sampled_nngp(network, x, widths=(4, 8), seeds=range(3))
    with pytest.raises(InputError, match="the network takes 4 inputs"):
        gv.sampled_nngp(network, inputs(3, 5), widths=(4, 8, 1), seeds=range(3))
