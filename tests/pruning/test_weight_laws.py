"""Laws of initial weights against 30-digit integrals, and their draws against them."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.pruning.weight_laws import LAWS, weight_law

mp = mpmath.MPContext()
mp.dps = 30


def density_and_end(name: str) -> tuple[Any, Any]:
    """The law's density and the end of its support, written anew."""
    if name == "normal":
        return mp.npdf, mp.mpf(15)
    if name == "uniform":
        return (lambda w: 1 / (2 * mp.sqrt(3))), mp.sqrt(3)
    mass = mp.erf(mp.sqrt(2))
    deviation = mp.sqrt(mp.quad(lambda z: z * z * mp.npdf(z), [-2, 2]) / mass)
    return (lambda w: mp.npdf(w * deviation) * deviation / mass), 2 / deviation


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("t", [0.0, 0.05, 0.7, 1.3, 1.7, 2.2, 5.0])
def test_moments_are_the_integrals(name: str, t: float) -> None:
    law = weight_law(name)
    density, end = density_and_end(name)
    if t >= end:
        assert law.survival(t) == law.second_moment(t) == 0.0
        return
    survival = 2 * mp.quad(density, [t, (t + end) / 2, end])
    second = 2 * mp.quad(lambda w: w * w * density(w), [t, (t + end) / 2, end])
    assert abs(float(law.survival(t)) - survival) < 4e-16
    assert abs(float(law.second_moment(t)) - second) < 2e-15
    if survival > 1e-10:
        assert abs(law.threshold(float(survival)) - t) < 1e-12
        assert abs(law.kept_second_moment(float(survival)) - second) < 4e-15


@pytest.mark.parametrize("name", LAWS)
def test_variance_is_one_and_draws_follow_the_law(name: str) -> None:
    law = weight_law(name)
    assert float(law.second_moment(0.0)) == pytest.approx(1.0, abs=4e-16)
    w = law.draw(np.random.default_rng(3), 400_000)
    for t in (0.0, 0.4, 1.2, 1.6):
        for sample, wanted in ((np.abs(w) > t, law.survival(t)), (w * w * (np.abs(w) > t), law.second_moment(t))):
            error = sample.std() / math.sqrt(len(w))
            assert abs(sample.mean() - float(wanted)) <= 3 * error + 1e-15
    assert abs(w.mean()) < 3 / math.sqrt(len(w))


@pytest.mark.parametrize("weights", ["gauss", 3, None])
def test_unknown_laws_are_refused(weights: object) -> None:
    with pytest.raises(gt.ConnectivityError, match=r"weights: expected the law .* normal, uniform, truncated_normal"):
        weight_law(weights)
