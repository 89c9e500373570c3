"""What a layer does to a field, against loops: one input with itself, pairs, and the way back say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphon_theory.activations.activation import as_activation
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.operators import Conditioning, LayerOperator
from graphon_theory.engine.steps import Behind, Buffers, DenseStep, DualStep, Field, Fresh, InputStep, Same, atoms
from graphon_theory.engine.tiles import Tile

RNG = np.random.default_rng(4)
N, D = 7, 5
X = RNG.standard_normal((N, D))
WHOLE = Tile(0, N, 0, N, upper=False)


def operator(receiving: int, sending: int, *, masked: bool, told: int = 0) -> LayerOperator:
    variance = RNG.uniform(0.1, 0.9, (receiving, sending))
    mask = RNG.uniform(0.1, 0.9, (receiving, sending)) if masked else None
    if not told:
        return LayerOperator(variance, mask, 0.3, 0.7)
    profiles = 0.1 * RNG.standard_normal((told, receiving, sending))
    bias = 0.1 * RNG.standard_normal((told, receiving))
    drift = 0.3 * RNG.standard_normal((receiving, sending))
    return LayerOperator(variance, mask, 0.3, 0.7, drift, Conditioning(profiles, bias, bias[0]))


def behind(positions: int) -> tuple[Behind, Field]:
    """A field behind an activation on all pairs, and the same of every input with itself."""
    factors = RNG.standard_normal((2, positions, N, 3))
    state = np.einsum("tpir,tpjr->ptij", factors, factors)
    mean = RNG.standard_normal((positions, N))
    second, tangent = (np.diagonal(state[:, part], axis1=1, axis2=2).copy() for part in (0, 1))
    return Behind(state), Field(second, tangent, mean)


@pytest.mark.parametrize(("masked", "told"), [(False, 0), (True, 0), (True, 2)])
def test_a_dense_step_is_its_sums(masked: bool, told: int) -> None:
    op = operator(4, 3, masked=masked, told=told)
    step = DenseStep.of(op)
    below, inputs = behind(3)
    features = step.features(inputs, np.float64)
    got = step.on_pairs(below, features, features, WHOLE, Buffers(np.float64)).settle().state
    want = np.zeros((4, 2, N, N))
    for u in range(4):
        for i in range(N):
            for j in range(N):
                k, t = op.bias, op.trained_bias
                for v in range(3):
                    c, s = below.state[v, :, i, j]
                    k += op.variance[u, v] * c
                    t += op.mask_matrix[u, v] * c + op.variance[u, v] * s
                for r in range(told):
                    assert op.conditioning is not None
                    left, right = (
                        op.conditioning.profiles[r, u] @ inputs.mean[:, n] + op.conditioning.bias[r, u] for n in (i, j)
                    )
                    k -= left * right
                want[u, :, i, j] = k, t
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)
    own = step.on_inputs(inputs)
    np.testing.assert_allclose(own.second, np.maximum(np.diagonal(want[:, 0], axis1=1, axis2=2), 0.0), atol=1e-13)


def test_a_tile_is_a_part_of_the_whole() -> None:
    dense = DenseStep.of(operator(4, 3, masked=True, told=2), 2)
    dual = DualStep(as_activation("erf"), 4, 3, means=True)
    below, inputs = behind(3)
    before = dense.on_inputs(inputs)
    dual = dual.for_field(before)
    given, features = dense.features(inputs, np.float64), dual.features(before, np.float64)
    whole = dual.on_pairs(dense.on_pairs(below, given, given, WHOLE, Fresh()), features, features, WHOLE, Fresh())
    tile = Tile(1, 4, 2, 7, upper=False)
    part = Behind(np.ascontiguousarray(below.state[:, :, 1:4, 2:7]))
    work = Buffers(np.float64)
    got = dual.on_pairs(dense.on_pairs(part, given, given, tile, work), features, features, tile, work)
    np.testing.assert_allclose(got.state, whole.state[:, :, 1:4, 2:7], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["relu", "erf", "tanh", "gelu"])
@pytest.mark.parametrize("told", [0, 2])
def test_an_input_with_itself_is_the_diagonal_of_pairs(name: str, told: int) -> None:
    """Input, activation, dense layer: what one input says of itself is what pairs say of (i, i)."""
    first, second = operator(4, D, masked=True, told=told), operator(3, 4, masked=True, told=told)
    steps: tuple[Any, ...] = (
        InputStep.of(first),
        DualStep(as_activation(name), 4, 1, means=bool(told)),
        DenseStep.of(second, 2),
    )
    field = Field.of_inputs(X)
    pairs: Any = None
    for step in steps:
        if isinstance(step, DualStep):
            step = step.for_field(field)
        features = step.features(field, np.float64)
        pairs = step.on_pairs(pairs, features, features, WHOLE, Fresh())
        field = step.on_inputs(field)
    state = pairs.settle().state
    for part, own in enumerate((field.second, field.tangent)):
        np.testing.assert_allclose(np.diagonal(state[:, part], axis1=1, axis2=2), own, rtol=1e-11, atol=1e-12)


def test_inputs_are_a_field_on_their_atoms() -> None:
    """The first layer through Gram matrices is a dense step on atoms of C = x x' and S = 0."""
    op = operator(4, D, masked=True)
    fast, plain = InputStep.of(op), DenseStep.of(op)
    field = Field.of_inputs(X)
    features = fast.features(field, np.float64)
    got = fast.on_pairs(None, features, features, WHOLE, Fresh()).settle().state
    want = plain.on_pairs(atoms(X, X), None, None, WHOLE, Fresh()).settle().state
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)
    np.testing.assert_allclose(fast.on_inputs(field).second, np.diagonal(want[:, 0], axis1=1, axis2=2), atol=1e-13)


@pytest.mark.parametrize("name", ["relu", "erf", "tanh"])
def test_the_way_back_is_the_transpose(name: str) -> None:
    """sum_u beta(u) T(u) without own terms is sum_v back(beta)(v) T_below(v), for any beta and any T below."""
    op = operator(3, 4, masked=False)
    dual = DualStep(as_activation(name), 4, 4)
    dense = DenseStep.of(op, 2)
    pre, own = behind(4)
    dual = dual.for_field(own)
    features = dual.features(own, np.float64)
    none = Same(np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))
    before = DenseStep.of(LayerOperator(np.eye(4), np.zeros((4, 4)), 0.0, 0.0))  # the field itself
    tangent = RNG.standard_normal((4, N * N))

    def passed(t: FloatArray) -> FloatArray:
        pre.state[:, 1] = t.reshape(4, N, N)
        given = before.on_pairs(pre, None, None, WHOLE, Fresh())
        out = dual.on_pairs(given, features, features, WHOLE, Fresh())
        return dense.on_pairs(out, None, None, WHOLE, Fresh()).state[:, 1].reshape(3, -1)

    beta = RNG.standard_normal((3, N * N))
    given = before.on_pairs(pre, None, None, WHOLE, Fresh())
    _, trace = dual.traced(given, features, features, WHOLE, none)
    seen: list[int] = []

    def visit(number: int, *_: FloatArray) -> None:
        seen.append(number)

    back = dual.back(dense.back(beta, np.zeros((4, N * N)), visit), trace, visit)
    np.testing.assert_allclose((beta * passed(tangent)).sum(0), (back * tangent).sum(0), rtol=1e-11, atol=1e-11)
    assert seen == [2]
