"""Duals by tabulated heat flows: against brute force, closed forms and themselves; degenerate places; refusals."""

from __future__ import annotations

import re
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr
from scipy.stats import norm

from graphon_theory.activations.closed.bivariate_normals import bivariate_cdf
from graphon_theory.activations.heat.heat_flows import HeatFlow, heat_flow_block
from graphon_theory.errors import ActivationError
from tests import dual_references

FloatArray = NDArray[np.float64]
Flow: Any = HeatFlow  # NumPy's stubs lose float64 in most lambdas
BENT = dual_references.KINKS["bent"]


def silu_slope(z: FloatArray) -> FloatArray:
    return np.array(expit(z) * (1 + z * expit(-z)), dtype=float)


FLOWS: dict[str, HeatFlow] = {
    "relu": Flow(lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, kinks=(0,)),
    "step": Flow(lambda z: (z > 0) * 1.0, np.zeros_like, jumps=(0,)),
    "erf": Flow(erf, lambda z: np.array(2 / np.sqrt(np.pi) * np.exp(-z * z), dtype=float)),
    "gelu": Flow(lambda z: z * ndtr(z), lambda z: np.array(ndtr(z) + z * norm.pdf(z), dtype=float)),
    "tanh": Flow(np.tanh, lambda z: np.array(1 / np.cosh(np.clip(z, -350, 350)) ** 2, dtype=float)),
    "silu": Flow(lambda z: z * expit(z), silu_slope),
    "elu": Flow(
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0)), kinks=(0,)
    ),
    "hard tanh": Flow(lambda z: np.clip(z, -1, 1), lambda z: (abs(z) < 1) * 1.0, kinks=(-1, 1)),
    "bent": Flow(
        lambda z: np.maximum(z, z * z / 10 - 1),
        lambda z: np.where((z > BENT[0]) & (z < BENT[1]), 1.0, z / 5),
        kinks=BENT,
    ),
    "swish with a jump": Flow(
        lambda z: np.where(z < 0.5, z * expit(z), 1.0), lambda z: np.where(z < 0.5, silu_slope(z), 0.0), jumps=(0.5,)
    ),
}
RHO = np.array([0.0, 0.3, -0.5, 0.9, -0.99, 0.999, -(1 - 1e-6), 1 - 1e-9, 1 - 1e-13, 1.0, -1.0])


def table_of_errors(name: str, centred: bool, largest: float = 1e6) -> tuple[float, float]:
    """Worst error against the brute-force references to that variance, less their own, and the reported bound."""
    flow, data = FLOWS[name], dual_references.load()
    worst = 0.0
    bound = flow.prepared(0.0 if centred else 2.5, largest).error
    for k, ((mean1, mean2), q) in enumerate(dual_references.points()):
        if ((mean1, mean2) == (0.0, 0.0)) != centred or max(q[1:]) > largest:
            continue
        exact_c, exact_dot, scale_c, scale_dot = (float(v) for v in data[name][k])
        c, dot = flow.moments(mean1, mean2, *q)
        # a mean in units of s: x = mean + s c is rounded
        conditioning = 1e-16 * max(abs(mean1) / q[1] ** 0.5, abs(mean2) / q[2] ** 0.5)
        own = float(data[f"{name} error"][k]) + conditioning
        for found, exact, scale in ((c, exact_c, scale_c), (dot, exact_dot, scale_dot)):
            if scale > 0:
                worst = max(worst, abs(float(found) - exact) / scale - own)
            else:
                assert abs(float(found)) <= 1e-15
    return worst, bound


@pytest.mark.parametrize(
    ("name", "largest"),
    [("relu", 9), ("step", 9), ("hard tanh", 1e6), ("tanh", 9), ("silu", 9), ("elu", 9), ("swish with a jump", 9)],
)
def test_brute_force(name: str, largest: float) -> None:
    """About zero, variances 1e-12 to 9 (hard tanh: to 1e6), |rho| up to 1 - 1e-6: within 1e-12 of the scale and within
    the bound reported for variances to that; the others to 1e6 are :func:`test_brute_force_for_all`."""
    worst, bound = table_of_errors(name, True, largest)
    assert worst <= min(bound, 1e-12)
    assert bound <= 1e-11


@pytest.mark.parametrize("name", [pytest.param("relu", marks=pytest.mark.slow), "silu"])
def test_brute_force_about_means(name: str) -> None:
    """Two pairs of means, variances 1e-12 to 9: within 1e-11 of the scale and within the reported bound."""
    worst, bound = table_of_errors(name, False, 9)
    assert worst <= min(bound, 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FLOWS))
@pytest.mark.parametrize("centred", [True, False])
def test_brute_force_for_all(name: str, centred: bool) -> None:
    """Every flow with variances 1e-12 to 1e6, about zero and about means: within 1e-11 and the reported bound."""
    worst, bound = table_of_errors(name, centred)
    assert worst <= min(bound, 1e-11)


def rectified(rho: FloatArray, gap: FloatArray) -> tuple[FloatArray, FloatArray]:
    """C / (s1 s2) and Cdot of relu from 1 - |rho|."""
    sine = np.sqrt(gap * (2 - gap))
    theta = np.arctan2(sine, np.where(rho > 0, 1 - gap, gap - 1))
    return (sine + (np.pi - theta) * rho) / (2 * np.pi), (np.pi - theta) / (2 * np.pi)


@pytest.mark.parametrize(("s1", "s2"), [(1.0, 1.0), (1e-6, 1e-5), (3e-4, 900.0), (1000.0, 0.5)])
def test_relu_up_to_coincidence(s1: float, s2: float) -> None:
    """1 - |rho| down to 1e-13, coincident and opposite, at all scales: within 1e-14 of the closed form."""
    gap = np.array([0.7, 0.1, 1e-3, 1e-6, 1e-9, 1e-13, 0.0])
    for sign in (1, -1):
        q12 = sign * (1 - gap) * s1 * s2
        c, dot = FLOWS["relu"].moments(0, 0, q12, s1 * s1, s2 * s2)
        told = np.array(
            [
                float(1 - abs(mpmath.mpf(float(q))) / mpmath.mpf(s1 * s1) ** 0.5 / mpmath.mpf(s2 * s2) ** 0.5)
                for q in q12
            ]
        )
        told = np.maximum(np.where(gap < 1e-5, gap, told), 0)
        wanted, wanted_dot = rectified(sign * (1 - told), told)
        np.testing.assert_allclose(c, s1 * s2 * wanted, rtol=0, atol=1e-14 * s1 * s2)
        # the rounding of q12 moves 1 - |rho|, and Cdot by its root
        np.testing.assert_allclose(dot, wanted_dot, rtol=0, atol=1e-14 + 2e-16 / np.sqrt(gap + 1e-16).min())


def test_block_is_the_moments() -> None:
    """The compiled pass on a rectangular tile, other offsets, separate A_W C and biases: C and Cdot T."""
    rng = np.random.default_rng(0)
    flow, positions, n1, n2 = FLOWS["elu"], 2, 4, 3
    table = flow.prepared(1.0, 16.0)
    q1, q2 = rng.uniform(0.1, 9, (positions, 6)), rng.uniform(0.1, 9, (positions, 5))
    m1, m2 = rng.uniform(-1, 1, (positions, 6)), rng.uniform(-1, 1, (positions, 5))
    q1[0, 2] = 0.0  # a dead position
    i0, j0, bias, own_bias = 2, 1, 0.05, 0.3
    rho = rng.uniform(-1, 1, (positions, n1, n2))
    cross = rho * np.sqrt(q1[:, i0:, None] * q2[:, None, j0 : j0 + n2])
    state, extra = rng.standard_normal((positions, 2, n1, n2)), rng.standard_normal((positions, n1, n2))
    state[:, 0] = cross - bias
    f1, f2 = table.features(m1, q1), table.features(m2, q2)
    parameters = np.concatenate([[1e-15], table.parameters])
    for shared in (False, True):
        out = np.empty_like(state)
        heat_flow_block(state, extra, shared, bias, own_bias, f1, f2, i0, j0, out, parameters)
        c, dot = flow.moments(
            m1[:, i0:, None], m2[:, None, j0 : j0 + n2], cross, q1[:, i0:, None], q2[:, None, j0 : j0 + n2]
        )
        t = state[:, 1] + (state[:, 0] if shared else extra) + own_bias
        np.testing.assert_allclose(out[:, 0], c, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(out[:, 1], dot * t, rtol=1e-13, atol=1e-13)


LOCALISED = Flow(lambda z: np.exp(-z * z), lambda z: -2 * z * np.exp(-z * z))
BOX = Flow(lambda z: ((z > -1) & (z < 2)) * 1.0, np.zeros_like, jumps=(-1, 2))


@pytest.mark.parametrize("centred", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_localised_activations_at_unequal_variances(centred: bool) -> None:
    """exp(-z^2) at deviations whose ratio is 1 to 1e4, up to |rho| = 1 - 1e-10: its closed form, within the bound."""
    rng = np.random.default_rng(3)
    ratio = np.repeat([1.0, 5.0, 12.0, 100.0, 1e4], 6)
    s1 = np.minimum(10 ** rng.uniform(-1.5, 2.5, ratio.size), 3e3 / ratio)
    rho = np.tile([0.93, -0.5, 0.999, -(1 - 1e-6), 1 - 1e-10, 0.05], 5)
    q = np.array([s1**2, (s1 * ratio) ** 2])
    swap = rng.random(ratio.size) < 0.5
    q[:, swap] = q[::-1, swap]
    k = rho * np.sqrt(q[0]) * np.sqrt(q[1])
    m1, m2 = (0.0, 0.0) if centred else (0.7, -1.2)
    c, dot = LOCALISED.moments(m1, m2, k, *q)
    bound = LOCALISED.prepared(max(abs(m1), abs(m2)), float(q.max())).error

    def exact(k: float, q1: float, q2: float, m1: float, m2: float) -> tuple[mpmath.mpf, mpmath.mpf]:
        a, b, x, m1, m2 = (mpmath.mpf(v) for v in (q1, q2, k, m1, m2))
        det = (1 + 2 * a) * (1 + 2 * b) - 4 * x * x
        n1, n2 = ((1 + 2 * b) * m1 - 2 * x * m2) / det, ((1 + 2 * a) * m2 - 2 * x * m1) / det
        value = mpmath.exp(-(m1 * n1 + m2 * n2)) / mpmath.sqrt(det)
        return value, value * (4 * x / det + 4 * n1 * n2)

    with mpmath.workdps(40):
        for i in range(k.size):
            want = exact(k[i], q[0, i], q[1, i], m1, m2)
            own = [exact(v, v, v, m, m) for v, m in zip(q[:, i], (m1, m2), strict=True)]
            for found, value, left, right in zip((c[i], dot[i]), want, *own, strict=True):
                assert abs(found - value) <= bound * mpmath.sqrt(left * right)
    value, _ = LOCALISED.moments(0.0, 0.0, 0.93 * np.sqrt(0.365 * 3200), 0.365, 3200.0)
    assert float(value) == pytest.approx(0.0119242822632829, rel=1e-12)


@pytest.mark.slow
def test_a_box_at_unequal_variances() -> None:
    """1 on (-1, 2): four bivariate normal probabilities."""
    for q1, q2, rho in ((0.4, 3000.0, 0.93), (0.01, 100.0, -0.99), (1.0, 1e6, 0.5), (9.0, 4e4, -0.999)):
        s1, s2 = np.sqrt([q1, q2])
        want = sum(
            sign1 * sign2 * bivariate_cdf(a / s1, b / s2, rho, 1 - abs(rho))
            for sign1, a in ((1, 2.0), (-1, -1.0))
            for sign2, b in ((1, 2.0), (-1, -1.0))
        )
        c, _ = BOX.moments(0.0, 0.0, rho * s1 * s2, q1, q2)
        own = np.sqrt(np.prod([BOX.moments(0.0, 0.0, q, q, q)[0] for q in (q1, q2)]))
        assert abs(float(c) - want) <= BOX.prepared(0.0, 1e6).error * own + 4e-15


@pytest.mark.slow
def test_structure_far_narrower_than_the_deviation() -> None:
    """exp(-|1000 z|) at deviations to 1e9 times its scale: E[phi^2] = exp(a^2 / 2) erfc(a / sqrt 2), a = 2000 s."""
    flow = Flow(lambda z: np.exp(-1e3 * abs(z)), lambda z: -1e3 * np.sign(z) * np.exp(-1e3 * abs(z)), kinks=(0,))
    for s in (1e-3, 1.0, 1e3, 1e6):
        c, dot = flow.moments(0.0, 0.0, s * s, s * s, s * s)
        a = mpmath.mpf(2e3 * s)
        want = (
            mpmath.exp(a * a / 2) * mpmath.erfc(a / mpmath.sqrt(2))
            if a < 50
            else mpmath.sqrt(2 / mpmath.pi) / a * (1 - 1 / a**2 + 3 / a**4 - 15 / a**6)
        )
        assert float(c) == pytest.approx(float(want), rel=3e-12)
        assert float(dot) == pytest.approx(1e6 * float(want), rel=3e-12)


def test_variances_below_the_table() -> None:
    """Zero gives phi(0)^2 itself; below 1e-30 phi and phi' are powers of z: elu and exp(-|z|), slopes as they are."""
    elu = FLOWS["elu"]
    for q in (1e-300, 1e-100, 1e-59, 1e-31, 1e-30, 1e-12):
        c, dot = elu.moments(0.0, 0.0, 0.5 * q, q, q)
        assert float(c) == pytest.approx(0.5 * q, rel=2e-6 * q**0.25 + 1e-12)
        assert float(dot) == pytest.approx(1.0, rel=3 * q**0.5 + 1e-12)
        crossed, _ = elu.moments(0.0, 0.0, 0.5 * q**0.5, q, 1.0)
        slope = float(elu.moments(0.0, 0.0, 0.5e-6, 1e-12, 1.0)[0]) / 1e-6
        assert float(crossed) == pytest.approx(slope * q**0.5, rel=3e-6)
    assert float(elu.moments(0.0, 0.0, 0.0, 0.0, 0.0)[0]) == 0.0
    assert float(elu.moments(0.0, 0.0, 0.0, 0.0, 1.0)[0]) == 0.0
    peak = Flow(lambda z: np.exp(-abs(z)), lambda z: -np.sign(z) * np.exp(-abs(z)), kinks=(0,))
    c, dot = peak.moments(0.0, 0.0, 0.5e-100, 1e-100, 1e-100)
    assert float(c) == pytest.approx(1.0, rel=1e-13)
    assert float(dot) == pytest.approx(1 / 3, rel=1e-12)  # of the signs
    assert float(peak.moments(0.0, 0.0, 0.0, 0.0, 0.0)[0]) == 1.0


def test_swapped_inputs_and_diagonal() -> None:
    """C(1, 2) = C(2, 1) to rounding; C of an input with itself is E[phi^2]; a zero correlation factorises."""
    flow = FLOWS["silu"]
    c, dot = flow.moments(0.4, -0.2, RHO * 1.5, 1.0, 2.25)
    c2, dot2 = flow.moments(-0.2, 0.4, RHO * 1.5, 2.25, 1.0)
    np.testing.assert_allclose(c, c2, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dot, dot2, rtol=0, atol=1e-13)
    q = np.array([1e-8, 0.3, 1.0, 50.0])
    jumping = FLOWS["swish with a jump"]
    c, dot = jumping.moments(0, 0, q, q, q)
    square, slope = jumping.diagonal(0, q)
    np.testing.assert_allclose(c, square, rtol=1e-13)
    np.testing.assert_allclose(dot, slope, rtol=1e-13)
    c, _ = flow.moments(0.3, 0.6, 0.0, 1.0, 2.0)
    assert float(c) == pytest.approx(float(flow.means(0.3, 1.0) * flow.means(0.6, 2.0)), rel=1e-14)


@pytest.mark.slow
def test_means_against_normal_integrals() -> None:
    mean, q = np.array([-4.0, -2.0, 0.0, 0.5, 3.0]), np.array([4.0, 1.0, 1e-6, 2.0, 0.25])
    s = np.sqrt(q)
    wanted = mean * norm.cdf(mean / s) + s * norm.pdf(mean / s)
    assert (np.abs(FLOWS["relu"].means(mean, q) - wanted) <= 1e-14 * (np.abs(mean) + s)).all()


def test_zero_variance() -> None:
    """f is its mean: phi there, and at a kink the mean of both slopes."""
    flow = FLOWS["elu"]
    c, dot = flow.moments(0.0, 2.0, 0.0, 0.0, 0.0)
    assert abs(float(c)) <= 1e-20
    assert float(dot) == pytest.approx(1.0)
    relu = FLOWS["relu"]
    _, dot = relu.moments(0.0, 0.0, 0.0, 0.0, 1.0)
    assert float(dot) == pytest.approx(0.25, abs=1e-14)
    c, _ = relu.moments(1.5, 0.5, 0.0, 0.0, 1.0)
    assert float(c) == pytest.approx(1.5 * (0.5 * norm.cdf(0.5) + norm.pdf(0.5)), rel=1e-13)


def test_derivative_from_phi_alone() -> None:
    """Without a derivative: phi' by piecewise polynomials, duals as with it and the bound beside it."""
    for name in ("tanh", "hard tanh"):
        given = FLOWS[name]
        flow = Flow(given.phi, None, given.kinks)
        z = np.linspace(-4.03, 3.9, 41)
        np.testing.assert_allclose(flow.derivative(z), given.derivative(z), rtol=0, atol=1e-12)
        for s in (1e-5, 1.0):
            c, dot = flow.moments(0, 0, RHO * s * s, s * s, s * s)
            c2, dot2 = given.moments(0, 0, RHO * s * s, s * s, s * s)
            bound = flow.prepared(0, 1).error + given.prepared(0, 1).error
            assert np.abs(c - c2).max() <= bound * float(given.diagonal(0, s * s)[0])
            assert np.abs(dot - dot2).max() <= bound * float(given.diagonal(0, s * s)[1])


def test_undeclared_kinks_are_found() -> None:
    flow = Flow(lambda z: np.maximum(z - 0.3, 0) + z)
    told = Flow(flow.phi, lambda z: 1.0 + (z > 0.3), kinks=(0.3,))
    np.testing.assert_allclose(flow.moments(0, 0, RHO, 1, 1), told.moments(0, 0, RHO, 1, 1), rtol=0, atol=1e-10)


def test_growth() -> None:
    """exp: C = exp((q11 + q22) / 2 + q12)."""
    flow = Flow(np.exp, np.exp)
    c, dot = flow.moments(0, 0, RHO * 2, 1, 4)
    np.testing.assert_allclose(c, np.exp(2.5 + RHO * 2), rtol=0, atol=1e-12 * np.exp(5.0))
    np.testing.assert_allclose(dot, np.exp(2.5 + RHO * 2), rtol=0, atol=1e-12 * np.exp(5.0))


def test_refusals() -> None:
    with pytest.raises(ActivationError, match=r"jumps near 0.7.*kinks=\(0.7,\)"):
        Flow(lambda z: np.tanh(z) + 0.01 * (z > 0.7)).prepared(0, 1)
    with pytest.raises(ActivationError, match=r"largest variance that works is about 19\d"):
        Flow(np.exp, np.exp).prepared(0, 1e4)
    with pytest.raises(ActivationError, match=r"outweighs the Gaussian of variance 4.*works is about 1\.\d"):
        Flow(
            lambda z: np.array(np.exp(z * z / 8), dtype=float),
            lambda z: np.array(z / 4 * np.exp(z * z / 8), dtype=float),
        ).prepared(0, 4)
    with pytest.raises(ActivationError, match="not finite"):
        Flow(lambda z: np.log(z), kinks=(0,)).prepared(0, 1)
    for power, place, where in ((0.5, 0.0, "z"), (0.7, 0.0, "z"), (0.3, 0.5, "z - 0.5"), (0.9, -2.0, "z - -2")):
        steep = Flow(lambda z, p=power, at=place: np.sign(z - at) * np.abs(z - at) ** p, kinks=(place,))
        for mean in (0, 2):
            message = re.escape(f"vertical tangent at {place:g}, like |{where}|^{power}: phi' is unbounded")
            with pytest.raises(ActivationError, match=message):
                steep.prepared(mean, 1)
    with pytest.raises(ActivationError, match="expected finite places"):
        Flow(np.tanh, kinks=(np.inf,))
    table = Flow(np.tanh, FLOWS["tanh"].derivative).prepared(0, 1)
    with pytest.raises(ActivationError, match="expected 0 to 1"):
        table.features(0.0, np.array([[2.0]]))
    with pytest.raises(ActivationError, match="expected at most 0"):
        table.features(0.5, np.array([[0.5]]))


def test_roundings_of_phi_set_the_smallest_variance() -> None:
    """exp(z) - 1 loses its digits near 0: the table says from which variance on it can be trusted."""
    careless = Flow(lambda z: np.where(z > 0, z, np.exp(z) - 1), lambda z: np.exp(np.minimum(z, 0)), kinks=(0,))
    table = careless.prepared(0, 1)
    assert 1e-16 < table.smallest_variance < 1e-4
    assert table.error <= 1e-11
    q = 4 * table.smallest_variance
    c, _ = careless.moments(0, 0, 0.5 * q, q, q)
    exact, _ = FLOWS["elu"].moments(0, 0, 0.5 * q, q, q)
    assert abs(float(c - exact)) <= 2e-11 * float(FLOWS["elu"].diagonal(0, q)[0])
    with pytest.raises(ActivationError, match="expm1"):
        table.features(0.0, np.array([[table.smallest_variance / 8]]))


# --- phi that vanishes around 0 ---------------------------------------------------------------------------------------

DEAD: dict[str, HeatFlow] = {
    "soft threshold": Flow(
        lambda z: np.sign(z) * np.maximum(np.abs(z) - 1, 0), lambda z: (abs(z) > 1) * 1.0, kinks=(-1, 1)
    ),
    "hard shrink": Flow(lambda z: z * (abs(z) > 1), lambda z: (abs(z) > 1) * 1.0, kinks=(-1, 1)),
    "step at 1": Flow(lambda z: (z > 1) * 1.0, np.zeros_like, jumps=(1,)),
}


@pytest.mark.parametrize(
    ("name", "centred"),
    [
        *((name, True) for name in sorted(DEAD)),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in sorted(DEAD)),
    ],
)
def test_dead_zones_against_brute_force(name: str, centred: bool) -> None:
    """Variances 1e-3 to 100, where moments fall to 1e-225, coincident and opposite inputs: relative to those moments.

    About means they are known down to 1e-20 of the largest phi, which is 142 at most within reach.
    """
    flow, data = DEAD[name], dual_references.load()
    bound, compared = flow.prepared(0.0 if centred else 2.5, 100.0).error, 0
    assert bound <= 1e-11
    for k, ((mean1, mean2), q) in enumerate(dual_references.points(name)):
        if ((mean1, mean2) == (0.0, 0.0)) != centred:
            continue
        exact = data[name][k]
        if centred:
            scales = exact[2:]
        else:
            floor = 1e-20 * (142 if name != "step at 1" else 1)
            scales = np.prod(
                np.maximum(np.sqrt([flow.diagonal(m, v) for m, v in ((mean1, q[1]), (mean2, q[2]))]), floor), 0
            )
        for found, want, scale in zip(flow.moments(mean1, mean2, *q), exact[:2], scales, strict=True):
            assert abs(float(found) - want) <= (bound + 1e-14) * scale
            compared += scale > 0
    assert compared >= 16


def test_the_error_of_dead_zones_is_of_the_moments_themselves() -> None:
    """Coincident inputs of a step at 1: C = P(f > 1) to 1e-11 of itself down to 1e-285, and 0 where it underflows."""
    flow = DEAD["step at 1"]
    q = np.geomspace(7.8e-4, 50, 60)
    c, _ = flow.moments(0, 0, q, q, q)
    exact = np.array([float(mpmath.ncdf(-1 / mpmath.sqrt(mpmath.mpf(v)))) for v in q])
    assert exact[0] < 1e-280
    assert (np.abs(c / exact - 1) <= flow.prepared(0, 50).error + 4e-16 / q).all()
    c, dot = flow.moments(0, 0, [1e-4, 0.5e-40], [1e-4, 1e-40], [1e-4, 1e-40])
    assert not c.any()
    assert not dot.any()
    assert flow.prepared(0, 50).smallest_variance == 0


def test_what_only_nearly_vanishes_around_zero_is_refused() -> None:
    rounded = Flow(lambda z: np.abs(z - 1) / 2 - np.abs(z + 1) / 2 + z, kinks=(-1, 1))
    with pytest.raises(ActivationError, match="exactly 0"):
        rounded.prepared(0, 1)
