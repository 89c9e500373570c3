"""The way back through duals (THEORY §12), held against central differences of the duals themselves."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.activations.activation import Activation, as_activation
from graphon_theory.activations.dual_passes import DualPass
from graphon_theory.arrays import FloatArray

COUNT = 12
STEP = 5e-4
NAMES = ("q12", "q11", "q22", "mean1", "mean2")


def moments(seed: int, means: bool) -> dict[str, FloatArray]:
    rng = np.random.default_rng(seed)
    q11, q22 = rng.uniform(0.3, 1.5, (2, COUNT))
    q12 = rng.uniform(-0.85, 0.85, COUNT) * np.sqrt(q11 * q22)
    mean1, mean2 = rng.normal(size=(2, COUNT)) * means
    return dict(zip(NAMES, (q12, q11, q22, mean1, mean2), strict=True))


def features(made: DualPass, mean: FloatArray, q: FloatArray) -> FloatArray:
    return np.ascontiguousarray(made.features(mean[:, None], q[:, None]))


def forward(made: DualPass, m: dict[str, FloatArray]) -> FloatArray:
    """C and Cdot (2, COUNT)."""
    state = np.ones((COUNT, 2, 1, 1))
    state[:, 0, 0, 0] = m["q12"]
    out = np.empty_like(state)
    f1, f2 = features(made, m["mean1"], m["q11"]), features(made, m["mean2"], m["q22"])
    made.block(state, np.zeros((COUNT, 1, 1)), False, 0.0, 0.0, f1, f2, 0, 0, out, made.parameters(1))
    return out[:, :, 0, 0].T


def backward(made: DualPass, m: dict[str, FloatArray], part: int) -> dict[str, FloatArray]:
    """The derivatives of C (part 0) or Cdot (part 1)."""
    state, above = np.ones((COUNT, 2, 1, 1)), np.zeros((COUNT, 2, 1, 1))
    state[:, 0, 0, 0] = m["q12"]
    above[:, part] = 1.0
    f1, f2 = features(made, m["mean1"], m["q11"]), features(made, m["mean2"], m["q22"])
    one, two = np.zeros((2, COUNT, 2, 1))
    made.back(state, f1, f2, 0, 0, above, one, two, made.back_parameters(1))
    got = (above[:, 0, 0, 0], one[:, 0, 0], two[:, 0, 0], one[:, 1, 0], two[:, 1, 0])
    return dict(zip(NAMES, got, strict=True))


def difference(values: list[FloatArray]) -> FloatArray:
    """Of fourth order, from values at -2, -1, 1 and 2 steps."""
    return (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * STEP)


BENT = Activation("Max(z - 0.3, 0) + 0.2*z", name="kinked off 0")
NAMED = (
    *("relu", "leaky_relu", "abs", "step", "identity", "erf", "gelu", "sin", "cos", "exp", "gaussian"),
    *("tanh", "softplus"),
)
CASES = [
    *(pytest.param(name, means, id=f"{name}-{means}") for name in NAMED for means in (False, True)),
    pytest.param(BENT, False, id="kinked off 0-False"),
    *(
        pytest.param(gt.Activation(text), means, id=f"{text}-{means}")
        for text in ("2*erf(z/3) + 1/4", "3*Max(z, 0) - z + 1", "sin(2*z) - 1", "exp(z**2/12)", "2*exp(-z**2)")
        for means in (False, True)
        if text != "exp(z**2/12)" or not means
    ),
    # tables of heat flows about means take their time to build
    *(
        pytest.param(phi, means, id=f"{name}-{means}", marks=pytest.mark.slow)
        for phi, name, means in (("elu", "elu", False), ("elu", "elu", True), (BENT, "kinked off 0", True))
    ),
]


@pytest.mark.parametrize(("activation", "means"), CASES)
def test_derivatives_of_duals_are_those_of_central_differences(activation: object, means: bool) -> None:
    m = moments(0, means)
    made = as_activation(activation).prepared(4.0 * means, 2.0)
    scale = np.abs(forward(made, m)).max()
    for part in (0, 1):
        got = backward(made, m, part)
        for name in NAMES if means else NAMES[:3]:
            moved = [forward(made, {**m, name: m[name] + k * STEP})[part] for k in (-2, -1, 1, 2)]
            assert np.abs(difference(moved) - got[name]).max() < 1e-8 * max(scale, 1.0), (name, part)


@pytest.mark.parametrize(("activation", "means"), CASES)
def test_slopes_of_single_inputs_are_those_of_central_differences(activation: object, means: bool) -> None:
    m = moments(1, means)
    mean, q = m["mean1"], m["q11"]
    made = as_activation(activation).prepared(4.0 * means, 2.0)

    def values(mean: FloatArray, q: FloatArray) -> FloatArray:
        return np.stack([*made.diagonal(mean, q), made.mean(mean, q)])

    slopes = made.slopes(mean, q)
    in_q = difference([values(mean, q + k * STEP) for k in (-2, -1, 1, 2)])
    scale = max(1.0, float(np.abs(in_q).max()))
    assert np.abs(in_q - slopes[0::2]).max() < 1e-9 * scale
    if means:
        in_mean = difference([values(mean + k * STEP, q) for k in (-2, -1, 1, 2)])
        assert np.abs(in_mean - slopes[1::2]).max() < 1e-9 * scale


@pytest.mark.parametrize("activation", ["relu", "abs", "step", "tanh"])
@pytest.mark.parametrize("means", [False, True], ids=["centred", "about means"])
def test_a_pair_that_coincides_moves_as_one_input(activation: str, means: bool) -> None:
    m = moments(2, means)
    same = {"q12": m["q11"], "q11": m["q11"], "q22": m["q11"], "mean1": m["mean1"], "mean2": m["mean1"]}
    made = as_activation(activation).prepared(4.0 * means, 2.0)
    slopes = made.slopes(m["mean1"], m["q11"])
    for part in (0, 1):
        got = backward(made, same, part)
        assert np.isfinite(list(got.values())).all()
        np.testing.assert_allclose(got["q12"] + got["q11"] + got["q22"], slopes[2 * part], rtol=0, atol=1e-6)
        if means:
            np.testing.assert_allclose(got["mean1"] + got["mean2"], slopes[2 * part + 1], rtol=0, atol=1e-6)
