"""Marginals of the kernel density against the layer's share of the tangent kernel."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import graphon_theory as gt
from graphon_theory.engine.densities import kernel_density, marginals
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network

STEP = StepGraphon([[0.9, 0.1], [0.2, 0.6], [0.3, 0.05]], [0, 0.3, 0.5, 1], [0, 0.6, 1])


@pytest.mark.parametrize("middle", [STEP, "exp(-3*(u - v)**2)*(1 - u/2)"], ids=["step", "smooth"])
@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_both_marginals_integrate_to_the_layers_share(layer: int, middle: object) -> None:
    network = Network([1.0, STEP, middle, 1.0], bias_variance=0.0)
    x = np.random.default_rng(2).standard_normal((2, 5))
    found = marginals(kernel_density(network, x[0], x[1], layer))
    share = limit_kernel(network, x, contributions=True).ntk_layer.values[layer - 1, 0, 1]
    assert float(found.receiving @ found.u_weight) == pytest.approx(share, rel=1e-9)
    assert float(found.sending @ found.v_weight) == pytest.approx(share, rel=1e-9)
    assert found.attrs["total"] == pytest.approx(share, rel=1e-9)
    assert float(found.receiving_share @ found.u_weight) == pytest.approx(1.0, rel=1e-12)
    assert found.attrs["layer"] == layer


def test_where_nothing_arrives_nothing_is_learned() -> None:
    dead = StepGraphon([[0.5, 0.5], [0.0, 0.0]], [0, 0.25, 1])
    x = np.ones(4)
    found = marginals(kernel_density(Network([1.0, dead, 1.0]), x, x, 2))
    receiving = found.receiving.values
    assert (receiving[found.u.values < 0.25] > 0).all()
    np.testing.assert_array_equal(receiving[found.u.values > 0.25], 0.0)
    # the next layer's senders are this one's receivers: only the living ones send
    above = marginals(kernel_density(Network([1.0, dead, 1.0]), x, x, 3))
    np.testing.assert_array_equal(above.sending.values[above.v.values > 0.25], 0.0)


def test_wants_a_density() -> None:
    with pytest.raises(InputError, match="density: expected the Dataset that kernel_density"):
        marginals(limit_kernel(Network([1.0, 1.0]), np.ones((2, 3))))


def test_columns_of_other_labels_are_refused() -> None:
    network = gt.Network([1.0, 0.5, 1.0], "erf")
    one, other = (xr.DataArray([0.3, 0.7], dims="f", coords={"f": names}) for names in (["a", "b"], ["b", "a"]))
    with pytest.raises(gt.InputError, match=r"x2: the labels of its columns differ from those of x1, first at \[0\]"):
        gt.kernel_density(network, one, other, 2)
    plain = gt.kernel_density(network, [0.3, 0.7], [0.3, 0.7], 2).density
    np.testing.assert_array_equal(gt.kernel_density(network, one, one, 2).density, plain)
    np.testing.assert_array_equal(gt.kernel_density(network, one, other.values, 2).density, plain)
