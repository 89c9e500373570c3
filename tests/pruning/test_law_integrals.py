"""Pruning laws against their integrals at 30 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import graphon_theory as gt

mp = mpmath.MPContext()
mp.dps = 30
DENSITIES = [1e-300, 1e-100, 1e-20, 1e-8, 1e-3, 0.05, 0.2, 0.5, 0.8, 0.95, 1 - 1e-9, float(np.nextafter(1, 0))]


def second_moment(density: float) -> mpmath.mpf:
    """V of the definition: keep |w| > t with P(|w| > t) = density, then E[w^2; |w| > t]."""
    p = mp.mpf(density)
    if p > mp.mpf("0.5"):
        t = mp.sqrt(2) * mp.erfinv(1 - p)
    else:
        start = mp.sqrt(2 * mp.log(1 / p))
        t = mp.findroot(lambda s: mp.log(mp.erfc(s / mp.sqrt(2))) - mp.log(p), (start, 0.7 * start))
    return 2 * t * mp.npdf(t) + mp.erfc(t / mp.sqrt(2))


@pytest.mark.parametrize("density", DENSITIES)
def test_magnitude_law_at_full_precision(density: float) -> None:
    law = gt.magnitude_pruning(density)
    wanted = second_moment(density)
    assert law.mask == gt.ConstantGraphon(density)
    assert not law.has_drift
    assert abs(law.variance(0.3, 0.7) - wanted) <= 1e-15 * wanted


def test_magnitude_law_is_the_second_moment_of_survivors() -> None:
    """The closed form itself against the integral of w^2 over |w| > t."""
    t = mp.findroot(lambda s: mp.erfc(s / mp.sqrt(2)) - mp.mpf("0.2"), 1.28)
    integral = 2 * mp.quad(lambda w: w * w * mp.npdf(w), [t, 5, 10, 20])
    got = gt.magnitude_pruning(0.2).variance.mean()
    assert abs(got - integral) <= 1e-15
    assert f"{got:.7f}" == "0.6498203"
    assert f"{got / 0.2:.7f}" == "3.2491016"


def test_magnitude_law_keeps_more_variance_than_connections() -> None:
    for density in (0.01, 0.2, 0.9):
        law = gt.magnitude_pruning(density)
        assert density < law.variance.mean() < 1


def test_nothing_pruned_is_the_dense_layer() -> None:
    for law in (gt.magnitude_pruning, gt.random_pruning):
        dense = law(1.0)
        assert dense == gt.Connectivity(1.0)
        assert dense.variance is dense.mask


def test_random_pruning_has_variance_equal_to_mask_and_no_drift() -> None:
    law = gt.random_pruning(0.3)
    assert law == gt.Connectivity(0.3)
    assert law.variance is law.mask
    assert not law.has_drift
    assert law.drift == gt.ConstantGraphon(0.0)


@pytest.mark.parametrize("density", [0, 0.0, -0.1, 1.0000001, 2, np.nan, np.inf, True, None, "0.2", "half", [0.2]])
@pytest.mark.parametrize("law", [gt.magnitude_pruning, gt.random_pruning], ids=["magnitude", "random"])
def test_densities_outside_the_range_are_refused(law: object, density: object) -> None:
    assert callable(law)
    with pytest.raises(gt.ConnectivityError, match=r"density: .* in \(0, 1\], got .*; a sparsity s is density 1 - s"):
        law(density)
