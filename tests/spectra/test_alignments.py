"""Target power and alignment against the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, KernelError
from graphon_theory.networks.network import Network
from graphon_theory.spectra.alignments import target_alignment


def test_power_and_alignment_against_the_definitions() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((30, 2))
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    found = target_alignment(kernel, y)
    outer = y @ y.T
    expected = np.sum(kernel * outer) / np.linalg.norm(kernel) / np.linalg.norm(outer)
    assert found.attrs["alignment"] == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(found.target_power.sum(), np.mean(np.sum(y**2, axis=1)), rtol=1e-12)
    assert float(found.cumulative_power[-1]) == pytest.approx(1.0, rel=1e-12)
    # the eigenvalues weighted by the power rebuild the numerator: <K, y y^T> = N^2 sum lambda_k power_k
    assert float((found.eigenvalue * found.target_power).sum()) * 30**2 == pytest.approx(
        np.sum(kernel * outer), rel=1e-12
    )
    few = target_alignment(kernel, y, 4)
    np.testing.assert_allclose(few.target_power, found.target_power[:4], rtol=1e-10)
    assert few.attrs["alignment"] == found.attrs["alignment"]


def test_the_best_target_is_the_first_mode() -> None:
    values, vectors = np.linalg.eigh(np.diag([5.0, 2.0, 1.0]) + 0.3)
    found = target_alignment((vectors * values) @ vectors.T, vectors[:, -1])
    np.testing.assert_allclose(found.cumulative_power, 1.0, rtol=1e-12)
    assert found.attrs["alignment"] == pytest.approx(values[-1] / np.linalg.norm(values), rel=1e-12)


def test_centred_alignment_ignores_constants() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    one, other = target_alignment(kernel, y, centred=True), target_alignment(kernel + 7, y - 3, centred=True)
    assert one.attrs["alignment"] == pytest.approx(other.attrs["alignment"], rel=1e-10)
    with pytest.raises(InputError, match="y: it is constant, which is aligned with nothing"):
        target_alignment(kernel, np.ones(20), centred=True)
    with pytest.raises(InputError, match="y: it is zero"):
        target_alignment(kernel, np.zeros(20))


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((12, 3))
    y = rng.standard_normal((12, 2))
    counts = np.array([1, 2, 3] * 4)
    kernel = limit_kernel(Network([1.0, 0.3, 1.0], bias_variance=0.2), x).ntk.values
    many = np.repeat(np.arange(12), counts)
    for centred in (False, True):
        one = target_alignment(kernel, y, 6, centred=centred, weights=counts)
        two = target_alignment(kernel[np.ix_(many, many)], y[many], 6, centred=centred)
        assert one.attrs["alignment"] == pytest.approx(two.attrs["alignment"], rel=1e-12)
        np.testing.assert_allclose(one.target_power, two.target_power, rtol=1e-9, atol=1e-14)


def test_roundings_of_the_uncentred_kernel_are_no_defect() -> None:
    x = 1 + 1e-3 * np.random.default_rng(0).standard_normal((40, 1))
    network = Network([1.0, 1.0], "erf", bias_variance=4.0)
    kernel = limit_kernel(network, x).ntk
    assert 0 < target_alignment(kernel, x[:, 0], centred=True).attrs["alignment"] <= 1
    with pytest.raises(KernelError, match="it is constant"):
        target_alignment(np.full((5, 5), 3.0), np.arange(5), centred=True)
    single = limit_kernel(network, np.linspace(-2, 2, 40)[:, None], dtype=np.float32).ntk
    assert single.dtype == np.float32
    assert 0 < target_alignment(single, np.arange(40.0)).attrs["alignment"] <= 1


@pytest.mark.parametrize(("kernel_scale", "target_scale"), [(1e-170, 1.0), (1e-300, 1e-100), (1e140, 1e100)])
def test_scales_whose_squares_vanish_or_overflow_change_nothing(kernel_scale: float, target_scale: float) -> None:
    rng = np.random.default_rng(0)
    factor, y = rng.normal(size=(6, 9)), rng.normal(size=6)
    kernel = factor @ factor.T
    expected = target_alignment(kernel, y).attrs["alignment"]
    found = target_alignment(kernel * kernel_scale, y * target_scale).attrs["alignment"]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
