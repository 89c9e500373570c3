"""transfer: factors that are known in closed form, and kernels that become the reference's."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.errors import NetworkError

DENSE = gt.Network([1.0, 1.0, 1.0], bias_variance=0.1)


def test_random_masks_need_variances_alone() -> None:
    found = gt.transfer(gt.Network([0.2, 0.1, 0.5], bias_variance=0.1), DENSE)
    np.testing.assert_allclose(found.variance, [5.0, 10.0, 2.0], rtol=1e-10)
    np.testing.assert_allclose(found.learning_rate, 1.0, rtol=1e-10)


def test_magnitude_masks_need_v_over_w() -> None:
    law = gt.magnitude_pruning(0.2)
    found = gt.transfer(gt.Network([law, law, law], bias_variance=0.0), gt.Network([1.0, 1.0, 1.0]))
    ratio = float(law.variance.mean() / law.mask.mean())
    assert ratio == pytest.approx(3.2491016, rel=1e-6)
    np.testing.assert_allclose(found.learning_rate, ratio, rtol=1e-10)


def test_the_kernel_with_rates_is_the_references() -> None:
    """By layers' shares on inputs that the factors have never seen."""
    law = gt.magnitude_pruning(0.3)
    found = gt.transfer(
        gt.Network([law, 0.1, law], activation="erf"), DENSE.changed(activation="erf", bias_variance=0.0)
    )
    x = np.random.default_rng(0).standard_normal((6, 5))
    own = gt.limit_kernel(found.network, x, contributions=True).ntk_layer.values
    dense = gt.limit_kernel(DENSE.changed(activation="erf", bias_variance=0.0), x).ntk.values
    np.testing.assert_allclose(np.tensordot(found.learning_rate, own, 1), dense, rtol=1e-9)


def test_smooth_structure_keeps_mean_variances() -> None:
    found = gt.transfer(gt.Network(["exp(-2*(u - v)**2)", "u*v", 0.5], bias_variance=0.1), DENSE)
    assert (found.learning_rate > 0).all()
    again = gt.transfer(found.network, DENSE)
    np.testing.assert_allclose(again.variance, 1.0, rtol=1e-8)


def test_what_is_refused() -> None:
    with pytest.raises(NetworkError, match="reference: expected 2 weight layers"):
        gt.transfer(gt.Network([0.5, 0.5]), DENSE)
    with pytest.raises(NetworkError, match="without drift"):
        gt.transfer(gt.Network([gt.Connectivity(0.5, 0.5, 0.1), 0.5, 0.5]), DENSE)
    with pytest.raises(NetworkError, match="no signal passes it"):
        gt.transfer(gt.Network([0.5, 0.0, 0.5], bias_variance=0.1), DENSE)
    with pytest.raises(NetworkError, match="biases alone exceed"):
        gt.transfer(gt.Network([0.5, 0.5, 0.5], bias_variance=50.0), DENSE)
