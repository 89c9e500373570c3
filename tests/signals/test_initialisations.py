"""balanced: variances stay at 1, chi at 1; what cannot be balanced is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.graphons.scaled import RowScaled

STEP = gt.StepGraphon([[0.9, 0.1, 0.4], [0.3, 0.8, 0.2]], [0, 0.3, 1], [0, 0.2, 0.6, 1])
OWN = gt.Connectivity(STEP, gt.StepGraphon(1.5 * STEP.values**2, STEP.u_edges, STEP.v_edges))
NETWORKS = {
    "steps": gt.Network([0.5, OWN, STEP, 0.8], outputs=2),
    "erf, bias": gt.Network([0.5, OWN, STEP, 0.8], "erf", [1.0, 2.0, 3.0, 4.0], 0.1),
    "formulas": gt.Network([1.0, "0.1 + exp(-2*u - v)/2", "min(u, v)", 1.0]),
    "structured input": gt.Network(["0.2 + u*v/2", STEP, 1.0], "gelu", 1.0, 0.2),
    "gaussian": gt.Network([1.0, "exp(-(u - v)**2)", STEP, 1.0], "erf", 1.0, 0.1),
    "callable": gt.Network([1.0, lambda u, v: np.cos(u - 2 * v) ** 2, STEP, 1.0]),
}
POSITIONS = np.linspace(0.003, 0.997, 40)


@pytest.mark.parametrize("name", NETWORKS)
def test_by_position_every_variance_is_one(name: str) -> None:
    network = gt.balanced(NETWORKS[name], 2.0, by="position")
    found = gt.criticality(network, 2.0, positions=POSITIONS)
    np.testing.assert_allclose(found.variance, 1.0, rtol=1e-10)
    assert found.attrs["output_variance"] == pytest.approx(1.0, rel=1e-10)
    for old, new in zip(NETWORKS[name].layers, network.layers, strict=True):
        assert old.mask == new.mask  # which connections there are does not change
    if NETWORKS[name].activation.name == "relu":
        np.testing.assert_allclose(found.chi, 1.0, rtol=1e-9)
        np.testing.assert_allclose(found.gradient, 1.0, rtol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_by_layer_the_mean_variance_is_one(name: str) -> None:
    plain = NETWORKS[name]
    network = gt.balanced(plain, 2.0)
    assert network.layers == plain.layers
    x = np.full((1, 50), np.sqrt(2.0))
    for depth in range(1, network.depth):  # the mean over positions is what a dense read-out of phi = identity sees
        cut = gt.Network(
            network.layers[:depth], network.activation, network.weight_variance[:depth], network.bias_variance
        )
        assert float(gt.limit_kernel(cut, x).nngp[0, 0]) == pytest.approx(1.0, rel=1e-9)
    assert gt.criticality(network, 2.0).attrs["output_variance"] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("name", ["steps", "erf, bias", "formulas", "gaussian"])
def test_by_layer_chi_is_one(name: str) -> None:
    network = gt.balanced(NETWORKS[name], 2.0, goal="chi")
    found = gt.criticality(network, 2.0)
    np.testing.assert_allclose(found.chi, 1.0, rtol=1e-7 if name == "gaussian" else 1e-9)


def test_rescaled_formulas_stay_formulas() -> None:
    network = gt.balanced(gt.Network([1.0, "0.1 + exp(-2*u - v)/2", "u*v", 1.0]), by="position")
    again = gt.Network.from_toml(network.to_toml())
    assert str(again.layers[2].variance.expr) == "2.0*v"  # type: ignore[attr-defined]  # u v over its degree u/2
    found = gt.criticality(again)
    np.testing.assert_allclose(found.variance, 1.0, rtol=1e-10)


def test_dead_receivers_stay_dead() -> None:
    dead = gt.StepGraphon([[0.5, 0.2], [0.0, 0.0], [0.1, 0.3]])
    network = gt.balanced(gt.Network([1.0, dead, "0.5 + v/2", STEP, 1.0], "relu"), by="position")
    found = gt.criticality(network, positions=[0.1, 0.5, 0.9])
    np.testing.assert_allclose(found.variance[1], [1, 0, 1], rtol=1e-12)
    np.testing.assert_allclose(found.variance[2:], 1, rtol=1e-12)
    # with a bias they carry it, and what they send is counted
    network = gt.balanced(gt.Network([1.0, dead, STEP, 1.0], "erf", bias_variance=0.2), by="position")
    found = gt.criticality(network, positions=[0.1, 0.5, 0.9])
    np.testing.assert_allclose(found.variance[1], [1, 0.2, 1], rtol=1e-12)
    np.testing.assert_allclose(found.variance[2], 1, rtol=1e-12)


def test_row_scaled_graphon_is_a_graphon() -> None:
    base = gt.FunctionGraphon(lambda u, v: np.exp(-u) * v, v_edges=[0, 0.4, 1])
    scaled = RowScaled(base, lambda u: 1 + u**2)
    u, v = np.meshgrid([0.1, 0.7], [0.2, 0.9], indexing="ij")
    np.testing.assert_allclose(scaled(u, v), base(u, v) * (1 + u**2))
    np.testing.assert_allclose(scaled.T(v, u), scaled(u, v))
    assert scaled == scaled.T.T
    assert scaled.mean() == pytest.approx((2 - 2 * np.exp(-1) * 1.0 + 1 - np.exp(-1) - 2 * np.exp(-1) - 0) / 2, rel=1)
    assert "RowScaled" in repr(scaled)
    assert "g(u)" in scaled._repr_latex_()


BAD: list[tuple[gt.Network, dict[str, Any], str]] = [
    (gt.Network([1.0, gt.Connectivity(0.5, 0.5, 0.1), 1.0]), {}, "carries drift"),
    (gt.Network([1.0, 0.5, 1.0], bias_variance=1.0), {}, "bias_variance: 1 alone"),
    (gt.Network([1.0, 0.0, 1.0]), {}, "layer 2: no signal passes"),
    (gt.Network([1.0, 0.0, 1.0]), {"by": "position"}, "layer 2: no signal passes"),
    (gt.Network([1.0, 0.5, 1.0]), {"by": "unit"}, "by, goal: expected"),
    (gt.Network([1.0, 0.5, 1.0]), {"by": "position", "goal": "chi"}, "chi = 1 is a matter of"),
    (gt.Network([1.0, 0.5, 1.0]), {"q": -1.0}, "q: expected the positive"),
]


@pytest.mark.parametrize(("network", "options", "message"), BAD)
def test_what_cannot_be_balanced_is_refused(network: gt.Network, options: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.balanced(network, **options)
