"""Activations: duals against mpmath at 30 digits up to |rho| = 1, and the compiled pass against the duals."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.special
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.activations.activation import _NAMED as ALL
from graphon_theory.activations.activation import as_activation
from graphon_theory.activations.closed.closed_duals import determinant
from tests.reference_duals import DUALS, multiprecision

FloatArray = NDArray[np.float64]
NAMES = ("relu", "leaky_relu", "abs", "identity", "step", "erf", "gelu", "sin", "cos", "gaussian", "exp")
named = pytest.mark.parametrize("name", NAMES)
ARITHMETIC = multiprecision(30)


# --- phi and its derivative -------------------------------------------------------------------------------------------


def test_functions_and_derivatives() -> None:
    Phi = scipy.special.ndtr
    formulas: dict[str, tuple[Callable[..., FloatArray], Callable[..., FloatArray]]] = {
        "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
        "erf": (scipy.special.erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
        "identity": (lambda z: z, lambda z: np.ones_like(z)),
        "leaky_relu": (lambda z: np.maximum(z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
        "abs": (np.abs, lambda z: np.where(z > 0, 1.0, -1.0)),
        "step": (lambda z: (z > 0) * 1.0, lambda z: 0.0 * z),
        "gelu": (lambda z: z * Phi(z), lambda z: Phi(z) + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)),
        "sin": (np.sin, np.cos),
        "cos": (np.cos, lambda z: -np.sin(z)),
        "exp": (np.exp, np.exp),
        "gaussian": (lambda z: np.exp(-(z**2) / 2), lambda z: -z * np.exp(-(z**2) / 2)),
        "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
        "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
        "silu": (lambda z: z / (1 + np.exp(-z)), lambda z: (1 + np.exp(-z) * (1 + z)) / (1 + np.exp(-z)) ** 2),
        "softplus": (lambda z: np.log(1 + np.exp(z)), lambda z: 1 / (1 + np.exp(-z))),
        "elu": (lambda z: np.where(z > 0, z, np.exp(z) - 1), lambda z: np.where(z > 0, 1, np.exp(z))),
    }
    assert formulas.keys() == ALL.keys()
    z = np.array([[-2.0, -0.5, -1e-3], [0.0, 0.3, 4.0]])
    for name, (phi, derivative) in formulas.items():
        activation = as_activation(name)
        assert activation.name == name
        np.testing.assert_allclose(activation(z), phi(z), rtol=2e-13)
        np.testing.assert_allclose(activation.derivative(z), derivative(z), rtol=1e-14, atol=1e-15)
        assert activation([1, 2]).dtype == np.float64


def test_an_activation_stands_for_itself() -> None:
    relu = as_activation("relu")
    assert as_activation(relu) is relu
    assert repr(relu) == "Activation('relu')"


# --- duals against mpmath ---------------------------------------------------------------------------------------------


def moments() -> list[tuple[float, float, float]]:
    """(q12, q11, q22): variances 1e-12 ... 1e6 and zero, rho from -1 to 1 with 1 - |rho| down to 1e-16.

    The floats themselves are the moments; q12 is moved inwards by an ulp where rounding took it beyond the possible.
    """
    rng = np.random.default_rng(0)
    sizes = [1e-12, 3e-7, 0.01, 0.7, 1.0, 19.0, 1e6]
    correlations = [*np.linspace(-0.98, 0.98, 9), *rng.uniform(-1, 1, 3)]
    correlations += [sign * (1 - 10.0**-k) for k in (2, 4, 6, 8, 10, 12, 14, 15, 16) for sign in (-1, 1)] + [-1.0, 1.0]
    out = []
    for q11, q22, rho in itertools.product(sizes, sizes, correlations):
        q12 = float(rho * np.sqrt(q11) * np.sqrt(q22))
        while Fraction(q12) ** 2 > Fraction(q11) * Fraction(q22):
            q12 = float(np.nextafter(q12, 0))
        out.append((q12, q11, q22))
    coincident = [(q, q, q) for q in sizes] + [(-q, q, q) for q in sizes]
    collinear = [
        (sign * 0.75 * s * t, s * s, 0.5625 * t * t) for s in (0.25, 3.0) for t in (1.0, 1024.0) for sign in (-1, 1)
    ]
    dead = [(0.0, 0.0, q) for q in (0.0, 1e-12, 1.0, 1e6)] + [(0.0, q, 0.0) for q in (1e-12, 1.0, 1e6)]
    return out + coincident + collinear + dead


MOMENTS = moments()


@named
def test_duals_keep_full_precision(name: str) -> None:
    """Within 1e-15 of sqrt(C11 C22) and sqrt(Cdot11 Cdot22) everywhere, |rho| = 1 and zero variances included.

    exp up to variances of 19 only, and to the roundings of an exponent that large.
    """
    moments = [m for m in MOMENTS if name != "exp" or max(m[1:]) <= 20]
    activation = as_activation(name)
    q12, q11, q22 = np.array(moments).T
    c, dot = activation.duals(q12, q11, q22)

    def exact(a: float, b: float, d: float) -> tuple[Any, Any]:
        q = (ARITHMETIC.number(a), ARITHMETIC.number(b), ARITHMETIC.number(d))
        return DUALS[name].pair(ARITHMETIC, 0, 0, q)

    wanted = [exact(*q) for q in moments]
    own = {q: exact(q, q, q) for q in {*q11.tolist(), *q22.tolist()}}
    worst = 0.0
    for k, (w_c, w_dot) in enumerate(wanted):
        a, b = q11[k], q22[k]
        if a == 0 or b == 0:
            sure = float(activation(0.0))
            assert c[k] == pytest.approx(sure * float(activation.mean(0.0, max(a, b))), rel=4e-16, abs=0)
            # phi' at a sure zero: any value phi' phi' takes will do, since it multiplies T = 0
            assert 0.0 <= dot[k] <= 1.3 or name == "exp"
            continue
        scale_c, scale_dot = ((float(own[a][i] * own[b][i])) ** 0.5 for i in (0, 1))
        worst = max(worst, abs(float(c[k] - w_c)) / scale_c, abs(float(dot[k] - w_dot)) / (scale_dot or 1.0))
    assert worst <= (1e-14 if name == "exp" else 1e-15)


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_nearly_coincident_inputs_are_told_apart(name: str) -> None:
    """C11 - C and, for a kink, Cdot11 - Cdot ~ sqrt(1 - rho): to relative precision, not only to scale."""
    for k in (4, 8, 12, 14):
        q12 = 1 - 10.0**-k
        c, dot = as_activation(name).duals(q12, 1.0, 1.0)
        q = tuple(ARITHMETIC.number(value) for value in (q12, 1.0, 1.0))
        w_c, w_dot = DUALS[name].pair(ARITHMETIC, 0, 0, q)
        one = tuple(ARITHMETIC.number(1.0) for _ in range(3))
        top_c, top_dot = DUALS[name].pair(ARITHMETIC, 0, 0, one)
        assert abs((float(top_c) - c) - float(top_c - w_c)) <= 3e-16
        assert abs((float(top_dot) - dot) - float(top_dot - w_dot)) <= 3e-16
        if name == "relu":  # arccos(clip(rho)) has lost half the digits here
            assert float(top_dot - w_dot) == pytest.approx(float(top_dot) - float(dot), rel=1e-7 * 10 ** (k / 2 - 4))


@named
def test_coincident_and_opposite_inputs_are_exact(name: str) -> None:
    q = np.array([1e-12, 0.3, 1.0, 7.7, 170.0 if name == "exp" else 1e6])
    activation = as_activation(name)
    c, dot = activation.duals(q, q, q)
    opposite, opposite_dot = activation.duals(-q, q, q)
    if name == "relu":
        np.testing.assert_array_equal(c, q / 2)
        np.testing.assert_array_equal(dot, 0.5)
        np.testing.assert_array_equal(opposite, 0.0)
        np.testing.assert_array_equal(opposite_dot, 0.0)
    elif name in ("identity", "erf", "sin"):  # odd: phi(-f) = -phi(f)
        np.testing.assert_array_equal(opposite, -c)
        np.testing.assert_array_equal(opposite_dot, dot)
    elif name in ("abs", "cos", "gaussian"):
        np.testing.assert_array_equal(opposite, c)
        np.testing.assert_array_equal(opposite_dot, -dot)
    else:
        known: dict[str, tuple[Any, float]] = {"leaky_relu": (-0.01 * q, 0.01), "step": (0.0, 0.0), "exp": (1.0, 1.0)}
        if name in known:  # phi(f) phi(-f), phi'(f) phi'(-f)
            np.testing.assert_allclose(opposite, known[name][0], rtol=2e-15)
            np.testing.assert_allclose(opposite_dot, known[name][1], rtol=2e-15)


@named
def test_duals_are_the_expectations(name: str) -> None:
    """The closed forms as such: E phi phi' and E dphi dphi' by simulation, within 4.5 standard errors."""
    rng = np.random.default_rng(5)
    q12, q11, q22 = 0.4, 0.9, 1.7
    f = rng.multivariate_normal([0, 0], [[q11, q12], [q12, q22]], 200_000).T
    activation = as_activation(name)
    for value, draws in zip(
        activation.duals(q12, q11, q22),
        (activation(f[0]) * activation(f[1]), activation.derivative(f[0]) * activation.derivative(f[1])),
        strict=True,
    ):
        error = draws.std() / np.sqrt(draws.size)
        assert abs(draws.mean() - float(value)) <= 4.5 * error + 1e-15


@named
def test_the_second_dual_is_the_slope_of_the_first(name: str) -> None:
    """Cdot = dC/dq12 for continuous phi, by a central difference."""
    step = 1e-5
    for q12, q11, q22 in ((0.3, 1.0, 2.0), (-0.9, 1.0, 1.0), (0.0, 0.1, 2.0)):
        if name == "step":  # backpropagation sees no derivative
            assert float(as_activation(name).duals(q12, q11, q22)[1]) == 0.0
            continue
        above, below = (as_activation(name).duals(q12 + s, q11, q22)[0] for s in (step, -step))
        assert float(above - below) / (2 * step) == pytest.approx(
            float(as_activation(name).duals(q12, q11, q22)[1]), abs=2e-9
        )


@named
def test_duals_broadcast(name: str) -> None:
    q = np.array([0.5, 1.0, 2.0])
    c, dot = as_activation(name).duals(0.1 * np.sqrt(np.outer(q, q)), q[:, None], q)
    assert c.shape == dot.shape == (3, 3)
    np.testing.assert_allclose(c, c.T, rtol=1e-15)
    assert float(c[0, 2]) == pytest.approx(float(as_activation(name).duals(0.1, 0.5, 2.0)[0]), rel=1e-15)


def test_determinant_is_exact_to_rounding() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        q11, q22 = (10.0 ** rng.uniform(-12, 6, 2)).tolist()
        q12 = float(np.sqrt(q11) * np.sqrt(q22) * rng.choice([1, -1, 1 - 1e-15, 1 - 1e-8, 0.3]))
        got = float(determinant(*(np.array(q) for q in (q12, q11, q22))))
        exact = max(Fraction(q11) * Fraction(q22) - Fraction(q12) ** 2, Fraction(0))
        tolerance = Fraction(4, 2**53) * exact + Fraction(q11) * Fraction(q22) / 2**104
        assert abs(Fraction(got) - exact) <= tolerance


@named
@pytest.mark.parametrize(
    ("q", "message"),
    [
        ((0.0, -1.0, 1.0), "q11, q22: variances cannot be negative, got -1"),
        ((0.0, 1.0, -1e-300), "q11, q22: variances cannot be negative"),
        ((1.1, 1.0, 1.0), r"q12: \|q12\| exceeds sqrt\(q11 q22\) by 0\.1"),
        ((-2.0, 1.0, 1.0), r"q12: \|q12\| exceeds"),
        ((0.1, 0.0, 1.0), r"q12: \|q12\| exceeds"),
        ((np.nan, 1.0, 1.0), "expected finite moments, got NaN or infinity"),
        ((0.0, np.inf, 1.0), "expected finite moments"),
    ],
)
def test_what_are_no_moments_is_refused(name: str, q: tuple[float, float, float], message: str) -> None:
    with pytest.raises(gt.ActivationError, match=message):
        as_activation(name).duals(*q)


# --- the compiled pass against the duals ------------------------------------------------------------------------------


@named
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize(("bias", "own_bias"), [(0.0, 0.0), (0.3, 1.0)], ids=["no bias", "bias"])
@pytest.mark.parametrize(("i0", "j0"), [(0, 0), (4, 2)])
def test_compiled_pass_is_the_duals(name: str, shared: bool, bias: float, own_bias: float, i0: int, j0: int) -> None:
    """C(K) and Cdot(K) T on a non-square tile inside a larger set of inputs, each position its own covariances."""
    activation = as_activation(name)
    rng = np.random.default_rng(9)
    positions, n1, n2, d = 3, 5, 7, 4
    x1, x2 = rng.standard_normal((i0 + n1 + 2, d)), rng.standard_normal((j0 + n2 + 1, d))
    x2[j0], x2[j0 + 1], x2[j0 + 2] = x1[i0], -x1[i0 + 1], 3 * x1[i0 + 2]  # coincident, opposite, collinear
    x1[i0 + 3] = 0.0
    scales = 10.0 ** rng.uniform(-2, 1 if name == "exp" else 2, (positions, d))
    cross = np.einsum("pd,id,jd->pij", scales, x1, x2)
    q1, q2 = (np.einsum("pd,id->pi", scales, x * x) + bias for x in (x1, x2))
    tile = np.ascontiguousarray(cross[:, i0 : i0 + n1, j0 : j0 + n2])
    state = np.ascontiguousarray(np.stack([tile, rng.standard_normal(tile.shape)], axis=1))
    extra = np.full_like(tile, np.nan) if shared else rng.standard_normal(tile.shape)
    made = activation.prepared()
    f1, f2 = (np.ascontiguousarray(made.features(0.0, q)) for q in (q1, q2))
    out = np.full_like(state, np.nan)
    before = state.copy()
    made.block(state, extra, shared, bias, own_bias, f1, f2, i0, j0, out, made.parameters(d))

    k = tile + bias
    t = state[:, 1] + (tile if shared else extra) + own_bias
    a, b = q1[:, i0 : i0 + n1, None], q2[:, None, j0 : j0 + n2]
    bound = np.sqrt(a) * np.sqrt(b)
    c, dot = activation.moments(np.clip(k, -bound, bound), a + 0 * k, b + 0 * k)
    tops = [(activation.moments(q, q, q)) for q in (a, b)]
    # what a few roundings of the moments do to the duals, beside those of the duals themselves
    moved = [np.zeros_like(c), np.zeros_like(dot)]
    for shift in (-2e-15, 2e-15):
        for q in ((k + shift * bound, a, b), (k, a * (1 + shift), b), (k, a, b * (1 + shift))):
            edge = np.sqrt(q[1]) * np.sqrt(q[2])
            there = activation.moments(np.clip(q[0], -edge, edge), q[1] + 0 * k, q[2] + 0 * k)
            moved = [np.maximum(m, np.abs(t - h)) for m, t, h in zip(moved, there, (c, dot), strict=True)]
    for which, (got, want) in enumerate(((out[:, 0], c), (out[:, 1], dot * t))):
        size = np.abs(state[:, 1]) + np.abs(tile if shared else extra) + own_bias if which else 1.0
        scale = np.sqrt(tops[0][which] * tops[1][which]) * size
        excess = np.abs(got - want) - (8e-15 * scale + 1e-15 * size * which + 4 * moved[which] * size)
        assert excess.max() <= 0
    np.testing.assert_array_equal(state, before)


@named
def test_compiled_pass_at_degenerate_places(name: str) -> None:
    """Exactly coincident, opposite and dead pairs: the values of the duals themselves, and never NaN."""
    activation = as_activation(name)
    q1, q2 = np.array([[1.0, 0.25, 0.0, 1e-300]]), np.array([[1.0, 4.0, 0.0]])
    k = np.array([[[1.0, -2.0, 0.0], [-0.5, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    state = np.stack([k, np.ones_like(k)], axis=1)
    out = np.empty_like(state)
    made = activation.prepared()
    f1, f2 = (np.ascontiguousarray(made.features(0.0, q)) for q in (q1, q2))
    made.block(state, k, True, 0.0, 0.0, f1, f2, 0, 0, out, made.parameters(1))
    assert np.isfinite(out).all()
    c, dot = activation.duals(k, q1[:, :, None], q2[:, None, :])
    np.testing.assert_allclose(out[:, 0], c, rtol=2e-15, atol=1e-165)
    np.testing.assert_allclose(out[:, 1], dot * (1 + k), rtol=1e-15, atol=1e-15)


@named
@pytest.mark.parametrize("q", [0.1 + 0.2, 3.3e6])
def test_pairs_that_rounding_takes_beyond_one_count_as_coincident(name: str, q: float) -> None:
    """q12 one ulp above sqrt(q11 q22): a Gram matrix does that, and it must not become NaN or lose digits."""
    if name == "exp":
        q = min(q, 100.0)
    activation = as_activation(name)
    k = np.nextafter(q, 2 * q)
    made = activation.prepared()
    f = np.ascontiguousarray(made.features(0.0, np.array([[q]])))
    state = np.array([[[[k]], [[0.5]]]])
    out = np.empty_like(state)
    made.block(state, state[:, 0], True, 0.0, 0.0, f, f, 0, 0, out, made.parameters(1))
    c, dot = activation.duals(q, q, q)
    roundings = 2e-15 * max(1.0, q if name == "exp" else 1.0)
    assert out[0, 0, 0, 0] == pytest.approx(float(c), rel=roundings)
    assert out[0, 1, 0, 0] == pytest.approx(float(dot) * (0.5 + k), rel=roundings)
