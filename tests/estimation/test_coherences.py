"""Coherence of surviving weights: known means, the null's law, and growth with width."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphon_theory as gt


def test_value_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    mask, w = rng.random((7, 11)) < 0.5, rng.standard_normal((7, 11)) + 0.3
    found = gt.coherence(mask, w)
    wanted = math.sqrt(11) * (mask * w).mean() / math.sqrt((mask * w * w).mean())
    assert found.value == pytest.approx(wanted, rel=1e-14)
    assert found.null == pytest.approx(7**-0.5)
    assert found.z == pytest.approx(found.value / found.null)
    scaled = gt.coherence(mask, 40 * w)
    assert scaled.value == pytest.approx(found.value, rel=1e-14)


def test_null_of_fair_signs() -> None:
    """z, and the z-scores of rows and columns, have mean 0 and variance 1 over fair signs of fixed sizes."""
    rng = np.random.default_rng(1)
    mask = rng.random((60, 90)) < np.linspace(0.05, 0.5, 60)[:, None]
    sizes = rng.random((60, 90)) + 0.2
    draws = [gt.coherence(mask, sizes * rng.choice([-1.0, 1.0], sizes.shape)) for _ in range(600)]
    for name in ("z", "rows_z", "columns_z"):
        z = np.array([getattr(one, name) for one in draws])
        assert abs(z.mean()) < 3 * z.std() / math.sqrt(600), name
        assert abs(z.var() - 1) < 4 * math.sqrt(2 / 600) + 0.05, name  # the sums of squares are a little skew


@pytest.mark.parametrize("axis", [0, 1])
def test_means_of_either_sign_are_seen_by_rows_and_columns(axis: int) -> None:
    rng = np.random.default_rng(2)
    n_out, n_in, delta = 300, 200, 0.8
    mask = rng.random((n_out, n_in)) < 0.2
    shape = (n_out, 1) if axis == 1 else (1, n_in)
    shift = delta / math.sqrt(n_in) * rng.choice([-1.0, 1.0], shape)
    # a mean of m w over all pairs of shift, in units of sqrt(V) = sqrt(E m w^2)
    w = rng.standard_normal((n_out, n_in)) + shift / math.sqrt(0.2)
    found = gt.coherence(mask, w)
    assert abs(found.z) < 3
    named, other = ("rows", "columns") if axis == 1 else ("columns", "rows")
    assert getattr(found, f"{named}_z") > 5
    assert getattr(found, named) == pytest.approx(delta, rel=0.15)
    assert abs(getattr(found, f"{other}_z")) < 3.5
    assert "biased" in found.verdict


def test_verdict_without_a_mean_promises_nothing() -> None:
    rng = np.random.default_rng(3)
    found = gt.coherence(np.ones((40, 30)), rng.standard_normal((40, 30)))
    assert "does not prove" in found.verdict


def layer(n: int, delta: float, seed: int) -> gt.Coherence:
    rng = np.random.default_rng(seed)
    return gt.coherence(np.ones((n, n)), rng.standard_normal((n, n)) + delta / math.sqrt(n))


def test_growth_with_width() -> None:
    widths = (100, 200, 400)
    constant = [layer(n, 0.55, k) for k, n in enumerate(widths)]
    exponent, error = gt.coherence_growth(constant, widths)
    assert abs(exponent) < 3 * error
    growing = [layer(n, 0.1 * math.sqrt(n), k) for k, n in enumerate(widths)]
    with pytest.warns(gt.CoherenceWarning, match=r"grows like width\^0\.\d+ .* no limit kernel"):
        exponent, error = gt.coherence_growth(growing, widths)
    assert abs(exponent - 0.5) < 3 * error


def test_growth_at_the_door() -> None:
    strong, weak = layer(100, 0.9, 0), layer(100, 0.0, 1)
    with pytest.raises(gt.InputError, match="widths: expected one positive width for each of 2 coherences"):
        gt.coherence_growth([strong, strong], (100, 100))
    with pytest.raises(gt.InputError, match=r"values: at widths \[200.0\] .* within three nulls of 0"):
        gt.coherence_growth([strong, weak], (100, 200))


def test_bad_layers_are_refused() -> None:
    with pytest.raises(gt.InputError, match="mask is dead"):
        gt.coherence(np.zeros((2, 2)), np.ones((2, 2)))
    with pytest.raises(gt.InputError, match="every surviving weight is 0"):
        gt.coherence(np.eye(2), 1 - np.eye(2))
    with pytest.raises(gt.InputError, match="not finite"):
        gt.coherence(np.eye(2), np.full((2, 2), np.nan))
