"""Activations without a closed form: duals against brute force, reported errors, kinks found, and what is refused."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad
from scipy.special import ndtr

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation
from graphon_theory.activations.series.hermite_series import HermiteSeries
from tests.dual_references import CUSTOM, KINKS, NAMED, WRITTEN, load, points

REFERENCE = load()
POINTS = points()


@functools.cache  # its tables serve several tests
def activation_of(name: str) -> gt.Activation:
    return gt.Activation(WRITTEN[name]) if name in WRITTEN else as_activation(name)


# Tables and series to variances of 1e6 take up to a minute; those of these few go with the quick tests.
QUICK = {"relu", "leaky_relu", "abs", "identity", "step", "swish with a jump", "cubic"}
KINKED = {"elu", "bent", "hard tanh", "swish with a jump"}  # whose tables about means take 5 to 15 seconds


def cases() -> list[Any]:
    found = []
    for name in (*NAMED, *CUSTOM):
        for about in (False, True):
            for large in (False, True):
                slow = (large and name not in QUICK) or (about and name in KINKED)
                marks = [pytest.mark.slow] if slow else []
                where = f"about {'means' if about else '0'}-variances to {'1e6' if large else '9'}"
                found.append(pytest.param(name, about, large, marks=marks, id=f"{name}-{where}"))
    return found


@pytest.mark.parametrize(("name", "about", "large"), cases())
def test_duals_stay_within_the_reported_error(name: str, about: bool, large: bool) -> None:
    """Variances from 1e-12, |rho| to 1 - 1e-6, three pairs of means; one series or table for all moments of a case."""
    activation = activation_of(name)
    chosen = [k for k, (means, q) in enumerate(POINTS) if any(means) == about and (max(q[1:]) > 9) == large]
    chosen = [k for k in chosen if REFERENCE[f"{name} error"][k] <= 1e-13]  # sin and cos at deviations of 1,000
    means, q = (np.array([POINTS[k][which] for k in chosen]).T for which in (0, 1))
    bound = activation.prepared(float(np.abs(means).max()), float(q[1:].max())).error
    assert bound <= 1e-10
    rows = REFERENCE[name][chosen].T
    for got, want, scale in zip(activation.duals(*q, *means), rows[:2], rows[2:], strict=True):
        assert (np.abs(got - want) <= (bound + 2e-13) * scale).all()
    assert len(chosen) >= (1 if large else 9)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in KINKED)) for name in (*NAMED, *CUSTOM)],
)
def test_coincident_pairs_are_the_diagonal(name: str) -> None:
    activation = activation_of(name)
    for q, mean in ((0.3, 0.0), (2.0, -0.8)):
        made = activation.prepared(abs(mean), q)
        second, slope = (float(v[0]) for v in made.diagonal(np.array([mean]), np.array([q])))
        first = float(made.mean(np.array([mean]), np.array([q]))[0])
        assert (second, slope) == pytest.approx([float(v) for v in activation.duals(q, q, q, mean, mean)], rel=1e-11)
        assert first == pytest.approx(float(activation.mean(mean, q)), rel=1e-12, abs=1e-14)
        assert second >= first**2


# --- what a user writes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kinks"),
    [
        ("Max(z, 0)", (0.0,)),
        ("Max(-1, Min(1, z))", (-1.0, 1.0)),
        ("abs(z - 1/2) + abs(z + 3)", (-3.0, 0.5)),
        ("Piecewise((z, z > 0), (exp(z) - 1, True))", (0.0,)),
        ("Max(exp(z) - 2, 0)", (float(np.log(2)),)),
        ("z*tanh(z)", ()),
        ("Heaviside(z - 1)", (1.0,)),
    ],
)
def test_kinks_of_expressions_are_found(text: str, kinks: tuple[float, ...]) -> None:
    np.testing.assert_allclose(gt.Activation(text).kinks, kinks, rtol=1e-15)


def test_piecewise_linear_expressions_are_the_closed_form() -> None:
    """alpha z below 0 and beta z above, however it is written: derived, not declared."""
    for text, name in (
        ("Max(z, 0)", "relu"),
        ("(z + abs(z))/2", "relu"),
        ("Max(z, z/100)", "leaky_relu"),
        ("Piecewise((-z, z < 0), (z, True))", "abs"),
        ("z", "identity"),
    ):
        own, named = gt.Activation(text), as_activation(name)
        assert own.homogeneous
        assert own.route == "closed form"
        np.testing.assert_allclose(own.duals(0.3, 0.7, 1.9), named.duals(0.3, 0.7, 1.9), rtol=1e-15)
    assert not gt.Activation("Max(z, 0) + 1").homogeneous
    assert not gt.Activation("tanh(z)").homogeneous


@pytest.mark.slow
def test_expression_and_callable_agree() -> None:
    z = sp.Symbol("z")
    expression = gt.Activation(z * sp.tanh(z) + sp.Abs(z))
    given = gt.Activation(lambda z: z * np.tanh(z) + np.abs(z), kinks=(0,))
    with_slope = gt.Activation(
        lambda z: z * np.tanh(z) + np.abs(z),
        kinks=(0,),
        derivative=lambda z: np.tanh(z) + z / np.cosh(z) ** 2 + np.sign(z),
    )
    want = expression.duals(0.5, 1.0, 2.0)
    np.testing.assert_allclose(given.duals(0.5, 1.0, 2.0), want, rtol=1e-10)
    np.testing.assert_allclose(with_slope.duals(0.5, 1.0, 2.0), want, rtol=1e-10)
    assert expression.kinked


def test_series_are_taken_where_they_see_phi() -> None:
    """At deviations of 1e6 every node sees a constant, and two series agree on nothing: no series then."""
    for text in ("tanh(z)", "z/2*(1 + tanh(z))", "1/(1 + z**2)", "z*tanh(z)"):
        phi = gt.Activation(text)
        assert HermiteSeries.fitting(phi.phi, phi.derivative, 0.0, 1e12) is None
        assert HermiteSeries.fitting(phi.phi, phi.derivative, 0.0, 1e24) is None
    assert HermiteSeries.fitting(np.tanh, lambda z: 1 / np.cosh(z) ** 2, 0.0, 1.0) is not None
    shifted = gt.Activation("tanh(5*(z - 3.3))")  # between means that are looked at
    assert HermiteSeries.fitting(shifted.phi, shifted.derivative, 1e3, 1e-2) is None
    cubic = gt.Activation("z**3 - z")
    assert HermiteSeries.fitting(cubic.phi, cubic.derivative, 0.0, 1e12) is not None


@pytest.mark.slow
def test_one_huge_input_leaves_the_others_their_digits() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    network = gt.Network([1.0, 1.0], gt.Activation("tanh(z)"), weight_variance=1.0)
    alone = gt.limit_kernel(network, x)
    both = gt.limit_kernel(network, np.concatenate([x, [[1e6, 0.0, 0.0]]]))
    assert float(both.nngp[5, 5]) == pytest.approx(1.0, abs=3e-6)
    bound = alone.attrs["quadrature_error"] + both.attrs["quadrature_error"]
    scale = np.sqrt(np.outer(np.diag(alone.nngp), np.diag(alone.nngp)))
    assert (np.abs(both.nngp[:5, :5].values - alone.nngp.values) <= bound * scale).all()


def test_a_zero_input_without_bias_settles() -> None:
    """elu on dead units: phi(0) is 0 itself, and tiny variances of a logistic tail are no hindrance."""
    x = np.random.default_rng(0).standard_normal((3, 3))
    x[2] = 0.0
    tail = "1/(1 + exp(60*(u - 0.5)))*(0.5 + 0.5*v)"
    kernel = gt.limit_kernel(gt.Network([1.0, tail, 1.0], "elu"), x)
    assert float(abs(kernel.nngp[2]).max()) == 0.0
    assert float(kernel.nngp[0, 0]) > 0.1


@pytest.mark.slow
def test_a_custom_activation_goes_through_a_network() -> None:
    """A rectifier written three ways gives one kernel; a softened one is close to it."""
    x = np.random.default_rng(2).standard_normal((6, 3))
    blocks = [[0.9, 0.2], [0.3, 0.7]]

    def kernel(activation: str | gt.Activation) -> np.ndarray:
        return np.asarray(gt.limit_kernel(gt.Network([blocks, blocks, 1.0], activation, bias_variance=0.1), x).ntk)

    want = kernel("relu")
    np.testing.assert_allclose(kernel(gt.Activation("Max(0, z)")), want, rtol=1e-13)
    np.testing.assert_allclose(kernel(gt.Activation(lambda z: np.maximum(z, 0), kinks=(0,))), want, rtol=1e-9)
    np.testing.assert_allclose(kernel(gt.Activation("z*(1 + tanh(100*z))/2")), want, rtol=2e-2)


def test_activations_of_expressions_are_written_to_files() -> None:
    network = gt.Network([0.5, 1.0], gt.Activation("Max(z, z**2/10)"))
    again = gt.Network.from_toml(network.to_toml())
    assert again.activation.kinks == network.activation.kinks == (0.0, 10.0)
    assert again.to_toml() == network.to_toml()
    with pytest.raises(gt.SpecError, match=r"activation: .*callable"):
        gt.Network([0.5, 1.0], gt.Activation(np.tanh)).to_toml()
    assert "tanh" in gt.Network([0.5, 1.0], gt.Activation(np.tanh)).describe()


@pytest.mark.slow
def test_sparse_coding_activations_go_through_a_network() -> None:
    """Soft threshold as an expression and as a callable: one kernel, the plain loop over layers by brute force."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3))
    x = np.concatenate([x, x[:1], -x[1:2], 1e-3 * x[2:3]])  # coincident, opposite, in the dead zone
    expression = gt.Activation("Max(z - 1, 0) - Max(-z - 1, 0)")
    given = gt.Activation(lambda z: np.sign(z) * np.maximum(np.abs(z) - 1, 0), kinks=(-1, 1))
    kernels = [
        gt.limit_kernel(gt.Network([1.0, 1.0, 1.0], a, weight_variance=4.0, bias_variance=0.02), x)
        for a in (expression, given)
    ]
    bound = sum(k.attrs["quadrature_error"] for k in kernels)
    dying = gt.limit_kernel(gt.Network([1.0] * 5, expression), 0.3 * x)  # dies out layer by layer
    assert not np.asarray(dying.nngp).any()
    assert bound <= 1e-9
    scale = np.abs(kernels[0].nngp).max()
    np.testing.assert_allclose(kernels[0].nngp, kernels[1].nngp, rtol=0, atol=bound * scale)
    np.testing.assert_allclose(kernels[0].ntk, kernels[1].ntk, rtol=0, atol=bound * np.abs(kernels[0].ntk).max())
    # E[phi phi'] on a grid: phi is continuous, and midpoints settle it to 1e-4
    k = 4.0 * x @ x.T / x.shape[1] + 0.02
    z = (np.arange(1200) + 0.5) / 80 - 7.5
    weight = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / 80

    def phi(y: np.ndarray) -> np.ndarray:
        return np.sign(y) * np.maximum(np.abs(y) - 1, 0)

    for _ in range(2):
        out = np.empty_like(k)
        for i in range(len(x)):
            for j in range(i + 1):
                slope, rest = k[i, j] / k[i, i], np.sqrt(max(k[j, j] - k[i, j] ** 2 / k[i, i], 0.0))
                f = np.sqrt(k[i, i]) * z
                inner = phi(slope * f[:, None] + rest * z) @ weight
                out[i, j] = out[j, i] = (weight * phi(f) * inner).sum()
        k = 4.0 * out + 0.02
    np.testing.assert_allclose(kernels[0].nngp, k, rtol=0, atol=1e-4 * scale)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_growth_beyond_the_gaussian_is_refused() -> None:
    with pytest.raises(gt.ActivationError, match=r"'exp': E\[phi\^2\] overflows .*below 350"):
        as_activation("exp").duals(0.0, 400.0, 1.0)
    with pytest.raises(gt.ActivationError):
        gt.Activation("exp(z**2/3)").duals(0.5, 1.0, 1.0)
    x = 30 * np.ones((1, 2))
    with pytest.raises(gt.ActivationError, match="overflows"):
        gt.limit_kernel(gt.Network([1.0, 1.0], "exp"), x)


def test_a_scalar_function_with_its_type_is_taken() -> None:
    """np.vectorize with otypes; and symbols that are no more than real."""
    bent = gt.Activation(np.vectorize(lambda z: z if z > 0 else 0, otypes=[float]), kinks=(0,))
    np.testing.assert_allclose(bent.duals(0.3, 0.7, 1.9), as_activation("relu").duals(0.3, 0.7, 1.9), rtol=1e-11)
    for symbol in (sp.Symbol("z"), sp.Symbol("z", real=True), sp.Symbol("z", complex=True)):
        assert gt.Activation(sp.Max(symbol, 0)) == gt.Activation("Max(z, 0)")


def test_an_undeclared_jump_is_refused() -> None:
    with pytest.raises(gt.ActivationError, match=r"(jump|rough).*kinks"):
        gt.Activation(lambda z: np.where(z > 0.3, 1.0, np.tanh(z))).duals(0.5, 1.0, 1.0)
    declared = gt.Activation(lambda z: np.where(z > 0.3, 1.0, np.tanh(z)), kinks=(0.3,))
    below = quad(lambda z: np.tanh(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -12, 0.3, epsabs=1e-14)[0]
    assert float(declared.mean(0.0, 1.0)) == pytest.approx(below + ndtr(-0.3), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gt.Activation(3.0), "function: expected a SymPy expression in z, its text, or a callable, got float"),
        (lambda: gt.Activation("x + 1"), "the name 'x' is not allowed"),
        (lambda: gt.Activation("__import__('os')"), "not allowed"),
        (lambda: gt.Activation("z", kinks=(0,)), "kinks, derivative: an expression's own are found"),
        (
            lambda: gt.Activation(np.tanh, kinks=("a",)),  # type: ignore[arg-type]
            "kinks: expected numbers",
        ),
        (lambda: gt.Activation(np.tanh, kinks=(np.inf,)), "kinks: expected finite places"),
        (lambda: gt.Activation(lambda z: np.float64(1.0)), "must be vectorised"),  # type: ignore[return-value]
        (lambda: gt.Activation("abs(sin(z))"), "more than 64 kinks"),
        (lambda: gt.Activation(lambda z: math.tanh(z)), r"cannot take arrays .*otypes=\[float\]"),  # type: ignore[return-value]
        (lambda: gt.Activation(lambda z: 1 if z > 0 else 0), "cannot take arrays"),  # type: ignore[return-value]
        (lambda: gt.Activation(np.vectorize(lambda z: z if z > 0 else 0)), "by what comes first, and rounds the rest"),
        (lambda: gt.Activation(np.vectorize(lambda z: max(z, 0))), "by what comes first"),
        (lambda: gt.Activation(lambda z: np.exp(1j * z)), "returns complex128 values; it must return real numbers"),
        (lambda: gt.Activation(lambda z: np.ma.masked_less(z, 0)), "returns a masked array"),
        (lambda: gt.Activation("log(z)"), "is nan at -1; phi must be finite"),
        (lambda: gt.Activation(np.tanh, derivative=lambda z: 1 if z > 0 else 0), "derivative: .*cannot take arrays"),  # type: ignore[arg-type,return-value]
        (lambda: gt.Activation(sp.Max(sp.Symbol("z", positive=True), 0)), "'z' is assumed to be positive=True"),
        (lambda: gt.Activation(sp.Symbol("z", integer=True) ** 2), "'z' is assumed to be integer=True"),
        (lambda: as_activation("swish"), "expected an Activation or one of 'relu'"),
    ],
)
def test_what_is_no_activation_is_refused(make: object, message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        make()  # type: ignore[operator]


def test_kink_tables_cover_the_named_ones() -> None:
    for name, kinks in KINKS.items():
        np.testing.assert_allclose(activation_of(name).kinks, kinks, rtol=1e-14)
