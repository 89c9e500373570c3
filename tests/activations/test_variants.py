"""Expressions gain f(stretch z) + offset of an f with closed duals: recognised, right, and right in networks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.engine.angles import AngularForm

SMOOTH = {  # and a variance to which they are taken
    "2*erf(3*z) + 1": 1.5,
    "2*(erf(-z/2) + 3)": 4.0,
    "sin(20*z)": 0.02,
    "1 - sin(-2*z)/3": 1.5,
    "cos(3*z)": 1.0,
    "exp(-z**2)": 4.0,
    "1 - 2*exp(-z**2/5 + 1)": 4.0,
    "exp(-2*z)/3": 0.5,
    "exp(3*z + 1) - 2": 0.2,
    "exp(z**2/8)": 0.4,
    "z*(1 + erf(0.7*z))/2": 2.0,
    "sin(z + 1)": 1.0,
    "2*cos(1 - 3*z) - 1": 0.3,
    "cos(z) + sin(z)": 1.5,
    "3*sin(2*z - 1) - cos(2 - 2*z)/2 + sin(2 - 2*z)": 0.5,
    "exp(-(z - 1)**2/2)": 2.0,
    "1 - 3*exp(z - 2*z**2)": 1.5,
}
BENT = ["2*Heaviside(z) - 1", "sign(z)", "3*Max(z, 0) - 1", "2 - Max(-z, z/10)", "Piecewise((1, z > 0), (-2, True))"]
MEANS = {text: text not in ("exp(z**2/8)",) and "erf" not in text for text in SMOOTH}


def quadrature(phi: gt.Activation, q: np.ndarray, mean: tuple[float, float], split: bool) -> np.ndarray:
    """C and Cdot by Gauss rules in both variables, with panels from 0 on where phi is split there."""
    x, w = np.polynomial.legendre.leggauss(24)
    s1 = np.sqrt(q[1])
    slope, rest = q[0] / s1, np.sqrt(q[2] - q[0] ** 2 / q[1])

    def rule(kink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights of N(0, 1), panels of 1 that end at each kink (n,)."""
        ends = np.clip(kink[:, None] + np.arange(-24.0, 25.0), -12.0, 12.0)
        middle, half = 0.5 * (ends[:, 1:] + ends[:, :-1]), 0.5 * (ends[:, 1:] - ends[:, :-1])
        e = (middle[..., None] + half[..., None] * x).reshape(len(kink), -1)
        weight = (half[..., None] * w).reshape(len(kink), -1) * np.exp(-0.5 * e * e) / np.sqrt(2 * np.pi)
        return e, weight

    c, outer = (a[0] for a in rule(np.array([-mean[0] / s1 if split else 0.0])))
    centre = mean[1] + slope * c
    e, inner = rule(np.clip(-centre / rest, -12, 12) if split else np.zeros(len(c)))
    f = mean[0] + s1 * c
    out = [(outer * g(f) * (inner * g(centre[:, None] + rest * e)).sum(1)).sum() for g in (phi, phi.derivative)]
    return np.array(out)


@pytest.mark.parametrize("text", [*SMOOTH, *BENT])
def test_variants_take_the_closed_form(text: str) -> None:
    """About zero and about means: what quadrature in two variables says."""
    phi, top = gt.Activation(text), SMOOTH.get(text, 3.0)
    assert phi.route == "closed form"
    q = np.array([-0.4, 0.6, 1.0]) * top
    for mean in ((0.0, 0.0), (0.3, -0.4)) if MEANS.get(text, True) else ((0.0, 0.0),):
        want = quadrature(phi, q, mean, text in BENT)
        scale = np.sqrt(np.prod([phi.duals(v, v, v, m, m) for v, m in zip(q[1:], mean, strict=True)], axis=0))
        assert (
            np.abs(np.array(phi.duals(q[0], q[1], q[2], mean[0], mean[1])) - want) <= 2e-13 * np.maximum(scale, 1e-300)
        ).all()


@pytest.mark.parametrize("text", [*SMOOTH, *BENT])
def test_compiled_variants_are_their_duals(text: str) -> None:
    """A dense layer with a bias, in pairs and on the diagonal; also at an input of variance 0, where phi(0) decides."""
    phi, top = gt.Activation(text), SMOOTH.get(text, 3.0)
    x = np.random.default_rng(5).standard_normal((6, 4))
    x *= np.sqrt(0.9 * top / ((x * x).mean(axis=1).max() + 0.1))
    x[5] = 0.0
    for bias in (0.0, 0.05 * top):
        kernel = gt.limit_kernel(gt.Network([1.0, 1.0], phi, weight_variance=1.0, bias_variance=bias), x)
        k = x @ x.T / 4 + bias
        own = np.diag(k)
        k[np.diag_indices(6)] = own
        c, dot = phi.duals(k, own[:, None] + 0 * k, own + 0 * k)
        scale = np.sqrt(np.outer(np.diag(c), np.diag(c)))
        np.testing.assert_allclose(kernel.nngp, c + bias, atol=1e-13 * scale.max(), rtol=1e-12)
        np.testing.assert_allclose(
            kernel.ntk, c + bias + dot * k, atol=1e-12 * np.abs(dot * k).max() + 1e-13, rtol=1e-12
        )


def test_variance_zero_is_the_value_at_zero() -> None:
    for text, value in (("Heaviside(z)", 0.5), ("sign(z)", 0.0), ("3*Max(z, 0) - 1", -1.0), ("2*erf(3*z) + 1", 1.0)):
        phi = gt.Activation(text)
        assert float(phi.duals(0.0, 0.0, 0.0)[0]) == value**2
        assert float(phi.duals(0.0, 0.0, 2.0)[0]) == value * float(phi.mean(0.0, 2.0))


def test_jumps_and_bends_at_zero_go_by_their_angles() -> None:
    """Those that vanish at 0 as the named ones do; others would take dead positions for right angles."""
    assert AngularForm.of(gt.as_activation("step")) == (True, 0.5, 1.0)
    assert AngularForm.of(gt.Activation("sign(z)")) == (True, 1.0, 4.0)
    assert AngularForm.of(gt.Activation("Max(2*z, 0)")) == (False, 0.0, 4.0)
    for text in ("Heaviside(z)", "Max(z, 0) + 1", "tanh(z)"):
        assert AngularForm.of(gt.Activation(text)) is None


def test_near_inputs_of_a_sign_network() -> None:
    """Two inputs 1e-9 apart: 1 - 2 theta / pi, and the same again above."""
    x = np.array([[1.0, 0.5], [1.0, 0.5 + 1e-9]])
    kernel = gt.limit_kernel(gt.Network([1.0, 1.0, 1.0], gt.Activation("sign(z)"), weight_variance=1.0), x)
    theta = 1e-9 / 1.25
    above = 2 * np.arcsin(np.sqrt(theta / np.pi))  # cos = 1 - 2 theta / pi
    assert float(1 - kernel.nngp[0, 1]) == pytest.approx(2 * above / np.pi, rel=1e-9)


def test_growing_gaussians_name_the_variance_that_works() -> None:
    phi = gt.Activation("exp(z**2/8)")
    c, _ = phi.duals(0.5, 1.0, 1.5)
    assert float(c) == pytest.approx(((1 - 0.25) * (1 - 0.375) - 0.125**2) ** -0.5, rel=1e-14)
    with pytest.raises(gt.ActivationError, match=r"overflows .*variance must stay below 2\."):
        phi.duals(0.5, 1.0, 2.0)
    with pytest.raises(gt.ActivationError, match=r"overflows .*variance must stay below 87\.5"):
        gt.Activation("exp(2*z)").duals(0.1, 0.5, 90.0)


def test_variants_are_values() -> None:
    phi = gt.Activation("2*erf(3*z) + 1")
    again = pickle.loads(pickle.dumps(phi))
    assert again == phi == gt.Activation("1 + 2*erf(3*z)")
    assert repr(again) == repr(phi) == "Activation('2*erf(3*z) + 1')"
    network = gt.Network([0.5, 1.0], gt.Activation("2*sign(z) - 1"))
    assert gt.Network.from_toml(network.to_toml()) == network
    assert np.array_equal(again.duals(0.1, 0.5, 0.7), phi.duals(0.1, 0.5, 0.7))


def test_what_is_no_variant_goes_another_way() -> None:
    for text in (
        "tanh(2*z)",
        "z**2",
        "Max(z - 1, 0)",
        "erf(z)**2",
        "sin(z) + cos(2*z)",
        "erf(z - 1)",
        "3 + 0*z",
        "z*erf(z) + z**2",
    ):
        assert gt.Activation(text).route != "closed form"
