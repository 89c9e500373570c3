"""The sign test is calibrated, flags masks that know the signs, and says how their signal grows."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError, NetworkError
from graphon_validation.studies.sign_tests import DRIFTS, NO_LIMIT, PASSES, layer_signals, normal_score
from tests.validation.helpers import inputs, random_model


def clusters(count: int, dimension: int = 16, classes: int = 4, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labelled Gaussian clusters, the small stand-in for digits; centres are the same for every seed."""
    centres = 2 * np.random.default_rng(99).standard_normal((classes, dimension))
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    return centres[labels] + rng.standard_normal((count, dimension)), labels


def pruned(method: str, width: int, seed: int = 0, hidden: int = 3, density: float = 0.2) -> gv.MaskedMLP:
    network = gt.Network([1.0] * (hidden + 1), outputs=4)
    model = gv.build(network, (16, *[width] * hidden, 4), seed)
    return gv.prune(model, method, density, clusters(100) if method in ("snip", "grasp") else None, rng=seed)


PROBE = clusters(40, seed=1)[0]


@pytest.mark.parametrize("width", [128, 256])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_verdicts_of_the_named_methods(width: int, seed: int) -> None:
    for method in ("random", "magnitude", "synflow"):
        found = gv.applicability(pruned(method, width, seed), PROBE)
        assert (np.abs(found.z) < 3).all(), method
        assert found.attrs["verdict"] == PASSES
    snip = gv.applicability(pruned("snip", width, seed), PROBE)
    assert (snip.z > 3).any()
    assert snip.attrs["verdict"] == DRIFTS
    assert 1.2 < float(snip.A.max()) < 4
    grasp = gv.applicability(pruned("grasp", width, seed), PROBE)
    assert grasp.attrs["verdict"] == NO_LIMIT


def test_two_widths_measure_the_growth() -> None:
    found = {m: gv.applicability(pruned(m, 512), PROBE, other=pruned(m, 128)) for m in ("snip", "grasp")}
    assert found["snip"].attrs["verdict"] == DRIFTS
    assert found["grasp"].attrs["verdict"] == NO_LIMIT
    # A of GraSP grows like the fan-in in the middle layer; the input layer's fan-in does not grow
    middle = found["grasp"].sel(layer=2)
    assert abs(float(middle.growth) - 1) < 3 * float(middle.growth_error) + 0.2
    assert float(found["grasp"].growth.sel(layer=1)) == 0
    assert (np.abs(found["snip"].growth) < 4 * found["snip"].growth_error + 0.15).all()


def test_growth_is_that_of_the_gain_where_phi_is_bounded() -> None:
    """A of tanh networks saturates; the gain does not, and one network and two widths agree."""
    data = clusters(100)

    def grasp(width: int) -> gv.MaskedMLP:
        return gv.prune(gv.dense((16, *[width] * 3, 4), [0, width], activation="tanh"), "grasp", 0.2, data)

    model = grasp(384)
    found = gv.applicability(model, PROBE, other=grasp(96))
    assert found.attrs["verdict"] == gv.applicability(model, PROBE).attrs["verdict"] == NO_LIMIT
    middle = found.sel(layer=2)
    assert abs(float(middle.gain_growth) - 1) < 3 * float(middle.gain_growth_error) + 0.2
    assert float(middle.growth) < 0.7 * float(middle.gain_growth)


def test_what_two_widths_cannot_tell_is_said() -> None:
    snip = gv.applicability(pruned("snip", 256), PROBE, other=pruned("snip", 128))
    grown = snip.sel(layer=slice(2, None))
    unsure = np.abs(grown.gain_growth - 0.5) <= 2 * grown.gain_growth_error
    flagged = grown.verdict.values != PASSES
    assert snip.attrs["reason"].count("layer") == int((flagged & (unsure | np.isnan(grown.gain_growth)).values).sum())
    assert gv.applicability(pruned("random", 256), PROBE, other=pruned("random", 128)).attrs["reason"] == ""


def test_training_is_named_as_the_cause() -> None:
    model = pruned("random", 128)
    start = copy.deepcopy(model)
    assert gv.applicability(model, PROBE, initial=start).attrs["cause"] == "none"
    gv.train(
        model, clusters(100), steps=100, learning_rate=1e-2, loss="cross_entropy", optimizer="adam", progress=False
    )
    found = gv.applicability(model, PROBE, initial=start)
    assert found.attrs["verdict"] != PASSES
    assert found.attrs["cause"] == "training"
    snip = pruned("snip", 128)
    assert gv.applicability(snip, PROBE, initial=copy.deepcopy(snip)).attrs["cause"] == "masks"
    with pytest.raises(NetworkError, match="initial: expected the network before training"):
        gv.applicability(model, PROBE, initial=pruned("random", 64))


def test_the_gain_comes_with_its_error() -> None:
    model = pruned("random", 128)
    (first, *_) = layer_signals(model, PROBE)
    w1, w2 = (layer.effective_weight().detach().numpy() for layer in model.linears[:2])
    mass = (w2**2).sum(0)
    squares, variance = mass * ((w1 @ PROBE.T) ** 2).sum(1), mass * (w1**2 @ (PROBE**2).T).sum(1)
    off = squares - first.gain * variance
    assert first.gain_error == pytest.approx(np.sqrt((off**2).sum()) / variance.sum())


def test_z_is_a_normal_score_where_masks_know_nothing() -> None:
    z = []
    for seed in range(60):
        model = random_model((12, 60, 50, 40, 1 + seed % 3), (0.4, 0.3, 0.3, 0.4), "relu", seed=seed)
        z += list(gv.applicability(model, PROBE[:8, :12], seed=seed).z.values)
    assert abs(np.mean(z)) < 4 / math.sqrt(len(z))
    assert abs(np.var(z) - 1) < 4 * math.sqrt(2 / len(z))
    assert abs(stats.skew(z)) < 4 * math.sqrt(6 / len(z))
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_drift_is_seen_where_it_stands() -> None:
    """A network drawn from (W, V, D): its first hidden layer is sound, its second one drifts."""
    drifting = gt.Connectivity(0.4, 0.5, 0.6)
    model = gv.build(gt.Network([1.0, drifting, 1.0]), (16, 400, 400, 1), seed=0)
    found = gv.applicability(model, PROBE)
    assert abs(float(found.z[0])) < 3
    assert float(found.z[1]) > 5
    assert list(found.verdict.values) == [PASSES, DRIFTS]
    # h ~ N(mu, K - mu^2 / n), c independent of h: A is E phi(mu + h)^2 / (K / 2), mu = sigma_w D m
    signal = np.maximum(PROBE @ model.weights[0].detach().numpy().T * math.sqrt(2 / 16), 0)
    mu, variance = math.sqrt(2) * 0.6 * signal.mean(1), 2 * 0.5 * (signal**2).mean(1)
    r = mu / np.sqrt(variance)
    expected = (variance + mu**2) * stats.norm.cdf(r) + mu * np.sqrt(variance) * stats.norm.pdf(r)
    expected_ratio = expected.sum() / (variance.sum() / 2)
    assert abs(float(found.A[1]) - expected_ratio) < 4 * float(found.A_error[1])


def test_the_mean_over_signs_is_that_of_all_signs() -> None:
    """Three inputs have eight sign patterns: every redraw can be listed."""
    model = random_model((3, 400, 1), (1.0, 1.0), "erf", bias_variance=0.0)
    x = inputs(5, 3)
    w1, w2 = (layer.effective_weight().detach().numpy() for layer in model.linears)
    patterns = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    mass = w2[0] ** 2

    def total(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        h = torch.from_numpy(weights @ x.T)
        values: NDArray[np.float64] = mass * (torch.erf(h) ** 2).sum(1).numpy()
        return values

    every = np.array([total(np.abs(w1) * signs) for signs in patterns])
    mean, variance = every.mean(0).sum(), every.var(0).sum()
    third = ((every - every.mean(0)) ** 3).mean(0).sum()
    found = gv.applicability(model, x, redraws=4000)
    assert float(found.A[0]) == pytest.approx(total(w1).sum() / mean, rel=2e-3)
    assert float(found.z[0]) == pytest.approx(normal_score(total(w1).sum(), mean, variance, third), abs=0.05)
    squares = ((w1 @ x.T) ** 2).sum(1) @ mass
    by_hand = squares / ((w1**2 @ x.T**2).sum(1) @ mass)
    assert float(found.gain[0]) == pytest.approx(by_hand)
    top = ((np.abs(w1) @ np.abs(x.T)) ** 2).sum(1) @ mass
    assert float(found.ceiling[0]) == pytest.approx(top / ((w1**2 @ x.T**2).sum(1) @ mass))


def test_normal_score_is_exact_for_a_shifted_lognormal_and_close_for_chi_squared() -> None:
    shift, mu, tau = -0.5, 0.3, 0.4
    mean, variance, skewness, _ = stats.lognorm.stats(tau, scale=math.exp(mu), moments="mvsk")
    for z in (-3.0, -1.0, 0.0, 2.0, 6.0):
        value = shift + math.exp(mu + tau * z)
        assert normal_score(value, shift + mean, variance, skewness * variance**1.5) == pytest.approx(z, abs=1e-9)
    degrees = 40
    for p in (0.001, 0.1, 0.9, 0.999):
        found = normal_score(stats.chi2.ppf(p, degrees), degrees, 2 * degrees, 8 * degrees)
        assert found == pytest.approx(stats.norm.ppf(p), abs=0.1)
    assert normal_score(3.0, 2.0, 1.0, 0.0) == 1.0
    assert normal_score(2.0, 2.0, 0.0, 0.0) == 0.0
    assert normal_score(3.0, 2.0, 0.0, 0.0) == math.inf


def test_biases_take_part_and_memory_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model((5, 40, 30, 2), (1.0, 0.5, 1.0), "relu", bias_variance=0.3)
    whole = gv.applicability(model, inputs(6, 5))
    monkeypatch.setattr("graphon_validation.studies.sign_tests._ENTRIES", 200)
    parts = gv.applicability(model, inputs(6, 5))
    np.testing.assert_allclose(whole.gain, parts.gain, rtol=1e-12)
    np.testing.assert_allclose(whole.ceiling, parts.ceiling, rtol=1e-12)
    np.testing.assert_allclose(whole.A, parts.A, rtol=0.1)
    w, b = model.linears[0].effective_weight().detach().numpy(), model.linears[0].bias
    assert b is not None
    bias = math.sqrt(0.3) * b.detach().numpy()[:, None]
    mass = (model.linears[1].effective_weight().detach().numpy() ** 2).sum(0)
    x = inputs(6, 5)
    variance = mass @ ((w**2) @ (x**2).T + bias**2).sum(1)
    assert float(whole.gain[0]) == pytest.approx(float(mass @ ((w @ x.T + bias) ** 2).sum(1) / variance))


def test_the_table_names_the_verdict() -> None:
    found = gv.applicability(pruned("snip", 128), PROBE)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(gv.applicability_table(found, "snip"))
    text = console.export_text()
    assert "drift or saliency theory" in text
    assert "snip" in text


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(NetworkError, match="without hidden layers"):
        gv.applicability(random_model((5, 1), (1.0,)), inputs(3, 5))
    dead = random_model((5, 6, 1), (1.0, 1.0), "relu", bias_variance=0.0)
    dead.masks[1].fill_(False)
    with pytest.raises(NetworkError, match="hidden layer 1 takes in or passes on nothing"):
        gv.applicability(dead, inputs(3, 5))
    with pytest.raises(InputError, match="at least 8"):
        gv.applicability(random_model((5, 6, 1), (1.0, 1.0)), inputs(3, 5), redraws=4)
    with pytest.raises(NetworkError, match="other: expected other hidden widths"):
        gv.applicability(pruned("random", 128), PROBE, other=pruned("random", 128, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["abs", "cos"])
def test_signals_that_no_sign_changes_have_no_score(activation: str, dtype: torch.dtype) -> None:
    for seed in range(4):
        model = gv.dense((1, 200, 1), seed, activation=activation, dtype=dtype)
        assert float(gv.applicability(model, inputs(5, 1)).z[0]) == 0.0


def test_a_layer_that_takes_in_nothing_is_refused() -> None:
    model = gv.dense((3, 20, 1), 0, activation="sigmoid")
    model.masks[0].fill_(False)
    with pytest.raises(NetworkError, match="hidden layer 1 takes in or passes on nothing"):
        gv.applicability(model, inputs(5, 3))
