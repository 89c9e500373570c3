"""The reference loops against another number type, another form, another library, and known facts."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.oracle import CASES, X2, X, operator_layers
from tests.reference import (
    Layer,
    classical_ntk,
    classical_tolerance,
    coincidence_inputs,
    limit_reference,
    relative_error,
    weighted,
)
from tests.reference_duals import DUALS, FLOAT, multiprecision, quadrature_duals

MP = multiprecision(40)
RNG = np.random.default_rng(20)
SIZES = (3, 4, 2)  # positions of two hidden layers, outputs
WEIGHTS = [w / w.sum() for w in (RNG.random(n) + 0.2 for n in SIZES[:2])]


def _asymmetric(d: int = 5, *, equal: bool = False) -> list[Layer]:
    """Two hidden layers of random positions, V != W unless ``equal``, nothing symmetric, two outputs."""
    rng = np.random.default_rng(7)
    sending = [np.full(d, 1 / d), *WEIGHTS]
    out = []
    for n, weights in zip(SIZES, sending, strict=True):
        mask = rng.random((n, len(weights)))
        variance = mask if equal else mask * (0.5 + rng.random(mask.shape))
        out.append(Layer(weighted(mask, weights), weighted(variance, weights)))
    return out


def _inputs(n: int, d: int, seed: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, d))


def _cast(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.astype(np.float64)


@pytest.mark.parametrize("activation", sorted(set(DUALS) - {"exp"}))  # which overflows
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_float_is_mpmath_is_adjoint(activation: str, parameterization: str) -> None:
    x, x2 = _inputs(3, 5), _inputs(2, 5, seed=4)
    options: dict[str, Any] = {
        "activation": activation,
        "weight_variance": (1.5, 2.0, 0.75),
        "bias_variance": 0.125,
        "parameterization": parameterization,
        "fan_ins": (5, 32, 64),
    }
    plain = limit_reference(_asymmetric(), x, x2, **options)
    exact = limit_reference(_asymmetric(), x, x2, **options, arithmetic=MP)
    for key in ("nngp", "ntk", "ntk_layer"):
        want = getattr(exact, key)
        assert np.abs(_cast(getattr(plain, key) - want)).max() <= 4e-15 * np.abs(_cast(want)).max(), key
    for level in range(3):
        for got, want in (
            (plain.covariances[level], exact.covariances[level]),
            (plain.tangents[level], exact.tangents[level]),
        ):
            assert got.shape == (len(_asymmetric()[level].mask), 3, 2)
            assert np.abs(_cast(got - want)).max() <= 4e-15 * np.abs(_cast(want)).max()
    # forward = adjoint to the last of 40 digits: the two forms share only the covariances
    assert np.abs(_cast(exact.ntk - exact.ntk_layer.sum(axis=0))).max() <= 1e-36 * np.abs(_cast(exact.ntk)).max()
    assert np.all(plain.mean == 0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.activation in DUALS])
def test_agrees_with_another_library(name: str) -> None:
    case = CASES[name]
    got = limit_reference(
        operator_layers(case),
        X,
        activation=case.activation,
        weight_variance=case.weight_variance,
        bias_variance=case.bias_variance,
    )
    assert relative_error(got.nngp[0], case.arrays["nngp"]).max() <= 1e-13
    assert relative_error(got.ntk[0], case.arrays["ntk"]).max() <= 1e-13
    for level in range(len(case.arrays["sigma_layers"])):
        assert relative_error(got.covariances[level], case.arrays["sigma_layers"][level]).max() <= 1e-13
        assert relative_error(got.tangents[level], case.arrays["theta_layers"][level]).max() <= 1e-13
    cross = limit_reference(
        operator_layers(case),
        X,
        X2,
        activation=case.activation,
        weight_variance=case.weight_variance,
        bias_variance=case.bias_variance,
    )
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(getattr(cross, key)[0], case.arrays[f"{key}_x2"], rtol=1e-12)


@pytest.mark.parametrize(("activation", "bias"), [("relu", 0.0), ("relu", 0.25), ("erf", 0.0), ("erf", 0.25)])
def test_dense_is_the_classical_ntk(activation: str, bias: float) -> None:
    """THEORY §3: W = V = 1. Loops in floats keep what a Gram matrix can know at every degenerate place."""
    x = coincidence_inputs(4, seed=1)
    dense = [Layer([[0.25] * 4]), Layer([[1.0]]), Layer([[1.0]]), Layer([[1.0]])]
    nngp, ntk = classical_ntk(x, 4, bias_variance=bias, activation=activation)
    exact = limit_reference(dense, x, activation=activation, bias_variance=bias, arithmetic=multiprecision(50))
    assert relative_error(exact.nngp[0], nngp).max() <= 1e-22
    assert relative_error(exact.ntk[0], ntk).max() <= 1e-22
    plain = limit_reference(dense, x, activation=activation, bias_variance=bias)
    tolerance = classical_tolerance(x, bias_variance=bias)
    assert np.all(relative_error(plain.nngp[0], nngp) <= tolerance)
    assert np.all(relative_error(plain.ntk[0], ntk) <= tolerance)


def test_classical_tolerance_opens_only_near_coincidence() -> None:
    tolerance = classical_tolerance(coincidence_inputs(4, seed=1))
    assert tolerance[0, 4] == 1e-13  # the duplicate
    assert tolerance[0, 6] == 1e-13  # the opposite
    assert tolerance[0, 1] < 1.1e-13
    assert 1e-8 < tolerance[0, 14] < 1e-5  # moved by 1e-9


def _chain(masks: list[float], variances: list[float] | None = None, d: int = 5) -> list[Layer]:
    variances = masks if variances is None else variances
    first = Layer([[masks[0] / d] * d], [[variances[0] / d] * d])
    return [first, *(Layer([[w]], [[v]]) for w, v in zip(masks[1:], variances[1:], strict=True))]


def test_density_to_the_number_of_layers() -> None:
    """Random pruning, no bias, ReLU, all L layers masked: p^L times the dense NTK (THEORY §3)."""
    x = _inputs(4, 5)
    dense = limit_reference(_chain([1.0] * 4), x)
    sparse = limit_reference(_chain([0.3] * 4), x)
    np.testing.assert_allclose(sparse.ntk, 0.3**4 * dense.ntk, rtol=1e-14)
    np.testing.assert_allclose(sparse.nngp, 0.3**4 * dense.nngp, rtol=1e-14)


def test_magnitude_is_a_power_of_the_variance_ratio() -> None:
    """Magnitude at density 0.2: NTK / random NTK = (V/W)^(L-1), V/W = 3.2491016 (THEORY §2, §3)."""
    mp = mpmath.mp
    t = -mp.sqrt(2) * mp.erfinv(2 * mp.mpf("0.1") - 1)
    v = float(2 * (t * mp.npdf(t) + mp.ncdf(-t)))
    assert v / 0.2 == pytest.approx(3.2491016, abs=5e-8)
    x = _inputs(4, 5)
    random = limit_reference(_chain([0.2] * 3), x)
    magnitude = limit_reference(_chain([0.2] * 3, [v] * 3), x)
    np.testing.assert_allclose(magnitude.ntk / random.ntk, (v / 0.2) ** 2, rtol=1e-14)


def test_scalar_reduction() -> None:
    """No bias, ReLU, one input profile: NTK_l = s_l times the dense NTK_l, s_l the path integral."""
    x = _inputs(4, 5)
    rng = np.random.default_rng(5)
    profile, rows = rng.random(5), rng.random(SIZES[0])
    upper = _asymmetric()[1:]
    first = Layer(weighted(np.outer(rows, profile), [0.2] * 5))
    assert upper[0].variance is not None
    assert upper[1].variance is not None
    layers = [first, *upper]
    got = limit_reference(layers, x)
    dense = limit_reference([Layer(weighted([profile.tolist()], [0.2] * 5)), Layer([[1.0]]), Layer([[1.0]])], x)
    w = [rows[:, None], np.array(upper[0].mask), np.array(upper[1].mask)]
    v = [rows[:, None], np.array(upper[0].variance), np.array(upper[1].variance)]
    for level, path in enumerate((v[2] @ v[1] @ w[0], v[2] @ w[1] @ v[0], w[2] @ v[1] @ v[0])):
        for output in range(SIZES[-1]):
            want = path[output, 0] * dense.ntk_layer[level, 0]
            np.testing.assert_allclose(got.ntk_layer[level, output], want, rtol=1e-13)


def test_scalar_reduction_breaks_with_bias() -> None:
    x = _inputs(4, 5)
    uneven = limit_reference(_asymmetric(equal=True), x, bias_variance=0.5).ntk[0]
    dense = limit_reference(_chain([1.0] * 3), x, bias_variance=0.5).ntk[0]
    ratio = uneven / dense
    assert ratio.max() / ratio.min() > 1.01


def test_relabelling_and_refinement_change_nothing() -> None:
    """Positions of one hidden layer permuted in both its masks, or one split in two: the same kernels."""
    x = _inputs(3, 5)
    layers = _asymmetric()
    want = limit_reference(layers, x, activation="erf", bias_variance=0.1)

    def rows(matrix: Any, take: list[int]) -> Any:
        return np.array(matrix)[take].tolist()

    def columns(matrix: Any, take: list[int], share: list[float]) -> Any:
        return (np.array(matrix)[:, take] * share).tolist()

    for take, share in (([2, 0, 1], [1.0] * 3), ([0, 1, 1, 2], [1.0, 0.25, 0.75, 1.0])):
        first = Layer(rows(layers[0].mask, take), rows(layers[0].variance, take))
        second = Layer(columns(layers[1].mask, take, share), columns(layers[1].variance, take, share))
        got = limit_reference([first, second, layers[2]], x, activation="erf", bias_variance=0.1)
        np.testing.assert_allclose(got.ntk, want.ntk, rtol=1e-14)
        np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-14)


def test_standard_parameterization_rescales_each_layers_terms() -> None:
    """Weight terms times n_{l-1} / sigma_w^2, bias terms over sigma_b^2; the NNGP stays (THEORY §3)."""
    x, sw2, sb2, fan_ins = _inputs(3, 5), 1.5, 0.25, (5, 32, 64)
    common: dict[str, Any] = {"weight_variance": sw2, "bias_variance": sb2}
    ntk = limit_reference(_asymmetric(), x, **common)
    standard = limit_reference(_asymmetric(), x, **common, parameterization="standard", fan_ins=fan_ins)
    no_weight = [Layer(np.zeros_like(a.mask).tolist(), a.variance) for a in _asymmetric()]
    bias_only = limit_reference(no_weight, x, **common).ntk_layer
    np.testing.assert_array_equal(standard.nngp, ntk.nngp)
    for level, n in enumerate(fan_ins):
        want = (ntk.ntk_layer[level] - bias_only[level]) * n / sw2 + bias_only[level] / sb2
        np.testing.assert_allclose(standard.ntk_layer[level], want, rtol=1e-13)


def test_degenerate_inputs_of_the_duals() -> None:
    for a in (FLOAT, MP):
        half, zero = a.number(1) / 2, a.number(0)

        def relu(*q: float, a: Any = a) -> tuple[Any, Any]:
            return DUALS["relu"].pair(a, 0, 0, tuple(a.number(v) for v in q))

        assert relu(2, 1, 4) == (1, half)  # coincident: C = sqrt(q11 q22) / 2
        assert relu(-2, 1, 4) == (zero, zero)  # opposite
        assert relu(0, 0, 4) == relu(0, 0, 0) == (zero, zero)  # dead
        c, dot = DUALS["erf"].pair(a, 0, 0, (zero, zero, a.number(4)))
        assert c == 0
        assert abs(dot - 4 / (a.pi * 3)) < 1e-15
    # the float angle near coincidence: 1 - rho = 2^-53 exactly representable as a determinant
    _, dot = DUALS["relu"].pair(FLOAT, 0, 0, (1.0, 1.0, 1.0 + 2.0**-52))
    assert dot == pytest.approx(0.5 - math.atan(2.0**-26) / (2 * math.pi), abs=1e-16)


@pytest.mark.parametrize("q", [(0.6, 1.5, 0.8), (-0.9, 1.5, 0.8), (1.0, 2.0, 0.5), (-1.0, 2.0, 0.5), (0.0, 1.5, 0.0)])
def test_quadrature_duals_are_the_closed_forms(q: tuple[float, float, float]) -> None:
    mp = mpmath.mp
    relu = quadrature_duals(lambda z: max(z, 0), lambda z: mp.mpf(z > 0), (0.0,), digits=12)
    erf = quadrature_duals(mp.erf, lambda z: 2 / mp.sqrt(mp.pi) * mp.exp(-z * z), digits=12)
    for name, numeric in (("relu", relu), ("erf", erf)):
        got, want = numeric.pair(FLOAT, 0.0, 0.0, q), DUALS[name].pair(FLOAT, 0.0, 0.0, q)
        assert got == pytest.approx(want, rel=1e-10, abs=1e-10)


def test_quadrature_duals_about_a_mean() -> None:
    """E relu(mu + f) = mu Phi(mu/s) + s phi(mu/s), E relu(mu + f)^2 = (mu^2 + s^2) Phi + mu s phi."""
    mp = mpmath.mp
    relu = quadrature_duals(lambda z: max(z, 0), lambda z: mp.mpf(z > 0), (0.0,), digits=15)
    mu, q = 0.7, 2.25
    s = math.sqrt(q)
    cdf, pdf = float(mp.ncdf(mu / s)), float(mp.npdf(mu / s))
    assert relu.mean(FLOAT, mu, q) == pytest.approx(mu * cdf + s * pdf, rel=1e-13)
    c, dot = relu.pair(FLOAT, mu, mu, (q, q, q))
    assert c == pytest.approx((mu * mu + q) * cdf + mu * s * pdf, rel=1e-13)
    assert dot == pytest.approx(cdf, rel=1e-13)
    # independent pre-activations: the dual is the product of the means
    c, _ = relu.pair(FLOAT, mu, -0.4, (0.0, q, 1.0))
    assert c == pytest.approx(relu.mean(FLOAT, mu, q) * relu.mean(FLOAT, -0.4, 1.0), rel=1e-12)


def test_drift_of_a_linear_network() -> None:
    """THEORY §3 with D, phi = z: means compose, C = K + mu mu', and at the input V gives up D^2 / d."""
    rng = np.random.default_rng(9)
    d, x = 4, _inputs(3, 4)
    v1, d1 = rng.random((2, d)) + 0.5, rng.standard_normal((2, d)) / 2
    w2, d2 = rng.random((1, 2)), rng.standard_normal((1, 2))
    share = np.array([0.3, 0.7])
    layers = [
        Layer(weighted(v1, [1 / d] * d), None, weighted(d1, [1 / d] * d)),
        Layer(weighted(w2, share.tolist()), None, weighted(d2, share.tolist())),
    ]
    got = limit_reference(layers, x, activation="identity", weight_variance=1.5, bias_variance=0.1)
    mu1 = np.sqrt(1.5) / d * d1 @ x.T
    k1 = 1.5 / d * np.einsum("uj,aj,bj->uab", v1 - d1**2 / d, x, x) + 0.1
    c1 = k1 + mu1[:, :, None] * mu1[:, None, :]
    np.testing.assert_allclose(got.covariances[0], k1, rtol=1e-13)
    np.testing.assert_allclose(got.mean, np.sqrt(1.5) * (d2 * share) @ mu1, rtol=1e-13)
    np.testing.assert_allclose(got.nngp[0], 1.5 * np.einsum("v,vab->ab", (w2 * share)[0], c1) + 0.1, rtol=1e-13)
    np.testing.assert_allclose(got.ntk, got.ntk_layer.sum(axis=0), rtol=1e-13)
    centred = limit_reference([Layer(a.mask) for a in layers], x, activation="identity", weight_variance=1.5)
    assert np.abs(centred.nngp - got.nngp).max() > 0.1


def test_drift_through_a_kinked_activation() -> None:
    """One hidden position with drift, relu: the output variance is the second moment about the mean."""
    mp = mpmath.mp
    relu = quadrature_duals(lambda z: max(z, 0), lambda z: mp.mpf(z > 0), (0.0,), digits=15)
    layers = [Layer([[1.0]], None, [[0.5]]), Layer([[1.0]])]
    got = limit_reference(layers, [[2.0]], activation=relu, weight_variance=1.0)
    mu, q = 1.0, (1.0 - 0.25) * 4.0
    s = math.sqrt(q)
    want = (mu * mu + q) * float(mp.ncdf(mu / s)) + mu * s * float(mp.npdf(mu / s))
    assert got.covariances[0][0, 0, 0] == pytest.approx(q)
    assert got.nngp[0, 0, 0] == pytest.approx(want, rel=1e-12)


def test_relative_error_owes_exactness_where_the_scale_is_zero() -> None:
    want = np.array([[4.0, 0.0], [0.0, 0.0]])
    got = np.array([[4.0 + 4e-10, 0.0], [1e-300, 0.0]])
    error = relative_error(got, want)
    assert error[0, 0] == pytest.approx(1e-10, rel=1e-5)
    assert error[0, 1] == error[1, 1] == 0
    assert error[1, 0] == np.inf
