"""Network: what fits together, what does not, and the round trip through TOML."""

from __future__ import annotations

import dataclasses
import pickle
import tomllib
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import graphon_theory as gt

STEP = gt.StepGraphon([[0.9, 0.1, 0.3], [0.2, 0.6, 0.0]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 0.7, 1])
RICH = gt.Network(
    [
        gt.Connectivity(STEP, gt.StepGraphon(1.5 * STEP.values, STEP.u_edges, STEP.v_edges)),
        "exp(-3*(u - v)**2)",
        gt.magnitude_pruning(0.2),
        gt.Connectivity(0.5, drift="u - 1/2"),
        1.0,
    ],
    activation="erf",
    weight_variance=[2.0, 1.5, 1.0, 0.1 + 0.2, 3.0],
    bias_variance=0.1,
    parameterization="standard",
    widths=(10, 100, 200, 300, 400),
    outputs=3,
)


# --- what a network is ------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    net = gt.Network([1.0, 0.5])
    assert net.depth == 2
    assert net.layers == (gt.Connectivity(1.0), gt.Connectivity(0.5))
    assert net.activation.name == "relu"
    assert net.weight_variance == (2.0, 2.0)
    assert (net.bias_variance, net.parameterization, net.widths, net.outputs) == (0.0, "ntk", None, 1)
    assert not net.has_drift


def test_everything_is_held_as_given() -> None:
    assert RICH.depth == 5
    assert RICH.weight_variance == (2.0, 1.5, 1.0, 0.1 + 0.2, 3.0)
    assert RICH.widths == (10, 100, 200, 300, 400)
    assert RICH.outputs == 3
    assert RICH.has_drift
    assert RICH.activation is gt.Network([1.0], activation=RICH.activation).activation


def test_layers_are_whatever_as_graphon_takes() -> None:
    u = sp.Symbol("u")
    net = gt.Network((0.5, [[0.1, 0.2]], np.array([[0.3]]), "u*v", u / 2, lambda u, v: u, STEP, gt.Connectivity(STEP)))
    assert [type(layer.mask).__name__ for layer in net.layers[:6]] == [
        "ConstantGraphon",
        "StepGraphon",
        "StepGraphon",
        "AnalyticGraphon",
        "AnalyticGraphon",
        "FunctionGraphon",
    ]
    assert net.layers[6] == net.layers[7]


def test_networks_are_frozen_and_comparable() -> None:
    net = gt.Network([STEP, 1.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.bias_variance = 1.0  # type: ignore[misc]
    assert net == gt.Network([STEP, 1.0])
    assert hash(net) == hash(gt.Network([STEP, 1.0]))
    for other in (
        gt.Network([STEP.T, 1.0]),
        gt.Network([STEP, 1.0], outputs=2),
        gt.Network([STEP, 1.0], "erf"),
        gt.Network([STEP, 1.0], weight_variance=[2.0, 1.0]),
    ):
        assert net != other


def test_repr_is_short_and_tells_the_scales() -> None:
    assert repr(gt.Network([0.5, "u*v"], "erf", [1.0, 2.0], 0.1)) == (
        "Network([ConstantGraphon(0.5), AnalyticGraphon('u*v')], activation='erf', weight_variance=[1.0, 2.0], "
        "bias_variance=0.1)"
    )
    shown = repr(RICH)
    assert "parameterization='standard', widths=(10, 100, 200, 300, 400)" in shown
    assert "outputs=3" in shown


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": []}, "layers: expected at least one layer, got none"),
        ({"layers": 0.5}, "layers: expected a sequence of layers from input to output, got float"),
        ({"layers": "u*v"}, "layers: expected a sequence of layers .* got str"),
        ({"layers": STEP}, "layers: expected a sequence of layers .* got StepGraphon"),
        ({"layers": {0.5}}, "layers: expected a sequence of layers .* got set"),
        ({"layers": [0.5, None]}, "layers: layer 2: mask: expected a number, a 2-D array"),
        (
            {"layers": [[0.9, 0.1], [0.2, 0.6]]},
            r"layers: layer 1: mask: values: expected a 2-D array of blocks, got shape",
        ),
        ({"weight_variance": [1.0]}, r"weight_variance: expected one number or 2 \(one per layer\), got 1"),
        ({"weight_variance": np.ones(3)}, r"weight_variance: expected one number or 2 \(one per layer\), got 3"),
        ({"weight_variance": 0}, "weight_variance: expected a finite number > 0, got 0"),
        ({"weight_variance": -2.0}, r"weight_variance: expected a finite number > 0, got -2\.0"),
        ({"weight_variance": [2.0, -1.0]}, r"weight_variance: expected a finite number > 0, got -1\.0"),
        ({"weight_variance": np.nan}, "weight_variance: expected a finite number > 0, got nan"),
        ({"weight_variance": np.inf}, "weight_variance: expected a finite number > 0, got inf"),
        ({"weight_variance": "2"}, "weight_variance: expected a finite number > 0, got '2'"),
        ({"weight_variance": None}, "weight_variance: expected a finite number > 0, got None"),
        ({"bias_variance": -0.1}, r"bias_variance: expected a finite number >= 0, got -0\.1"),
        ({"bias_variance": np.nan}, "bias_variance: expected a finite number >= 0, got nan"),
        ({"bias_variance": [0.1, -0.1]}, r"bias_variance: expected a finite number >= 0, got -0\.1"),
        ({"bias_variance": [0.1]}, r"bias_variance: expected one number or 2 \(one per layer\), got 1"),
        ({"bias_variance": True}, "bias_variance: expected a finite number >= 0, got True"),
        ({"parameterization": "mup"}, 'parameterization: expected "ntk" or "standard", got \'mup\''),
        ({"parameterization": "standard"}, r'widths: parameterization="standard" needs the 2 fan-ins .* got none'),
        ({"widths": (3,)}, r"widths: expected 2 fan-ins \(n_0, ..., n_1\), got \(3,\)"),
        ({"widths": (3, 4, 5)}, "widths: expected 2 fan-ins"),
        ({"widths": 3}, "widths: expected 2 fan-ins .*, got 3"),
        ({"widths": (3, 0)}, "widths: expected a positive whole number, got 0"),
        ({"widths": (3, 2.5)}, r"widths: expected a positive whole number, got 2\.5"),
        ({"widths": (3, True)}, "widths: expected a positive whole number, got True"),
        ({"outputs": 0}, "outputs: expected a positive whole number, got 0"),
        ({"outputs": 1.5}, r"outputs: expected a positive whole number, got 1\.5"),
        ({"outputs": None}, "outputs: expected a positive whole number, got None"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.GraphonError, match=f"^{message}"):
        gt.Network(**{"layers": [1.0, 0.5], **arguments})


@pytest.mark.parametrize("activation", ["swoosh", "ReLU", "", None, 3, lambda z: z])
def test_unknown_activations_are_refused_with_the_known_ones(activation: Any) -> None:
    with pytest.raises(gt.ActivationError, match=r"activation: expected an Activation or one of .*'relu'.*, got"):
        gt.Network([1.0], activation=activation)


def test_errors_of_a_layer_keep_their_class_and_say_which() -> None:
    with pytest.raises(gt.ConnectivityError, match=r"^layers: layer 2: mask: .* must lie in \[0, 1\]"):
        gt.Network([1.0, 1.5])
    with pytest.raises(gt.ExpressionError, match=r"^layers: layer 1: mask: expression 'w'"):
        gt.Network(["w", 1.0])


# --- TOML -------------------------------------------------------------------------------------------------------------


def test_round_trip_of_every_kind() -> None:
    text = RICH.to_toml()
    assert gt.Network.from_toml(text) == RICH
    assert gt.Network.from_toml(text).to_toml() == text
    plain = gt.Network([1.0, STEP])
    assert gt.Network.from_toml(plain.to_toml()) == plain
    assert plain.describe() == plain.to_toml()


def test_toml_is_written_as_people_write_it() -> None:
    data = tomllib.loads(gt.Network([0.5, "u*v", [[0.25, 0.75]], gt.Connectivity(0.2, 0.6)]).to_toml())
    assert data == {
        "activation": "relu",
        "weight_variance": 2.0,
        "bias_variance": 0.0,
        "parameterization": "ntk",
        "outputs": 1,
        "layer": [
            {"mask": 0.5},
            {"mask": "u*v"},
            {"mask": {"values": [[0.25, 0.75]], "u_edges": [0.0, 1.0], "v_edges": [0.0, 0.5, 1.0]}},
            {"mask": 0.2, "variance": 0.6},
        ],
    }


def test_toml_by_hand_needs_little() -> None:
    net = gt.Network.from_toml(
        """
        activation = "erf"
        bias_variance = 1

        [[layer]]
        mask = 1
        [[layer]]
        mask = [[0.5, 0.25]]
        [[layer]]
        mask = "Min(u, v)"
        variance = { values = [[2.0], [1.0]], u_edges = [0, 0.25, 1] }
        """
    )
    assert net == gt.Network(
        [1.0, [[0.5, 0.25]], gt.Connectivity("Min(u, v)", gt.StepGraphon([[2.0], [1.0]], [0, 0.25, 1]))],
        activation="erf",
        bias_variance=1.0,
    )


densities = st.floats(0, 1)
sizes = st.integers(1, 6)


@st.composite
def masks(draw: st.DrawFn) -> gt.Graphon:
    if draw(st.booleans()):
        return gt.ConstantGraphon(draw(densities))
    rows, columns = draw(sizes), draw(sizes)

    def edges(n: int) -> list[float]:
        inner = draw(
            st.lists(st.floats(0, 1, exclude_min=True, exclude_max=True), min_size=n - 1, max_size=n - 1, unique=True)
        )
        return [0.0, *sorted(inner), 1.0]

    values = draw(st.lists(densities, min_size=rows * columns, max_size=rows * columns))
    return gt.StepGraphon(np.reshape(values, (rows, columns)), edges(rows), edges(columns))


@given(
    st.lists(masks(), min_size=1, max_size=4),
    st.floats(5e-324, 1e308),
    st.floats(0, 1e308),
    st.integers(1, 2**40),
)
@settings(max_examples=80, deadline=None)
def test_numbers_survive_to_the_last_digit(
    layers: list[gt.Graphon], weight_variance: float, bias_variance: float, outputs: int
) -> None:
    net = gt.Network(layers, "identity", weight_variance, bias_variance, outputs=outputs)
    again = gt.Network.from_toml(net.to_toml())
    assert again == net
    assert again.weight_variance == net.weight_variance
    assert again.bias_variance == bias_variance
    for a, b in zip(again.layers, net.layers, strict=True):
        assert isinstance(a.mask, gt.StepGraphon)
        assert isinstance(b.mask, gt.StepGraphon)
        np.testing.assert_array_equal(a.mask.values, b.mask.values)
        np.testing.assert_array_equal(a.mask.u_edges, b.mask.u_edges)
        np.testing.assert_array_equal(a.mask.v_edges, b.mask.v_edges)


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.integers(1, 64))
@settings(max_examples=40, deadline=None)
def test_expressions_survive_to_the_last_digit(a: float, b: float, n: int) -> None:
    net = gt.Network([f"{a!r}*u**{n} + {b!r}*Min(u, v)"])
    again = gt.Network.from_toml(net.to_toml())
    assert again == net
    u, v = np.random.default_rng(n).random((2, 20))
    np.testing.assert_array_equal(again.layers[0].mask(u, v), net.layers[0].mask(u, v))


def test_4096_entries_are_written_and_one_row_more_is_not() -> None:
    values = np.full((64, 64), 0.5)
    values[3, 5] = 0.1
    net = gt.Network([values])
    assert gt.Network.from_toml(net.to_toml()) == net
    with pytest.raises(gt.SpecError, match=r"64 x 65 blocks.*: 4160 entries, at most 4096 .* in .npz holds them"):
        gt.Network([np.full((64, 65), 0.5)]).to_toml()


def test_callables_are_not_written() -> None:
    def bump(u: Any, v: Any) -> Any:
        return u * v

    net = gt.Network([1.0, bump])
    with pytest.raises(
        gt.SpecError, match=r"FunctionGraphon\(bump\): a callable cannot be written as text; use an Anal"
    ):
        net.to_toml()
    assert 'mask = "FunctionGraphon(bump)"' in net.describe()


def test_expressions_that_would_not_read_back_are_not_written() -> None:
    """A SymPy object may be longer than the text that is read."""
    u = sp.Symbol("u")
    long = sum(sp.Float(1 / (k * k * 1e3)) * sp.cos(k * u) for k in range(1, 90)) + sp.Rational(1, 2)
    with pytest.raises(gt.SpecError, match=r"the expression cannot be written as text .* at most 2000 are read"):
        gt.Network([long]).to_toml()


def test_large_arrays_are_described_by_shape_and_hash() -> None:
    values = np.random.default_rng(0).random((70, 80))
    edges = np.linspace(0, 1, 71) ** 2
    texts = [gt.Network([g]).describe() for g in (values, values.copy(), values[::-1], gt.StepGraphon(values, edges))]
    assert "step function, shape (70, 80), sha256 " in texts[0]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("not toml", gt.SpecError, r"text: not valid TOML"),
        ("", gt.SpecError, r"layer: expected at least one \[\[layer\]\] table"),
        ("layer = []", gt.SpecError, r"layer: expected at least one \[\[layer\]\] table"),
        ("layer = 3", gt.SpecError, r"layer: expected at least one \[\[layer\]\] table"),
        ("layer = [1]", gt.SpecError, r"layer 1: expected a table, got 1"),
        ("depth = 3\n[[layer]]\nmask = 1", gt.SpecError, "network: unknown keys depth; known are activation, bias"),
        (
            "[[layer]]\nmask = 1\nvar = 2",
            gt.SpecError,
            "layer 1: unknown keys var; known are drift, known",
        ),
        ("[[layer]]\nvariance = 1", gt.SpecError, r"layer 1: the mask is missing; write mask = 0\.5"),
        ("[[layer]]\nmask = true", gt.SpecError, "layer 1, mask: expected a number, .* got True"),
        ("[[layer]]\nmask = 1979-05-27", gt.SpecError, "layer 1, mask: expected a number"),
        ("[[layer]]\nmask = nan", gt.GraphonError, "layer 1, mask: p: expected a finite number, got nan"),
        ("[[layer]]\nmask = 1.5", gt.ConnectivityError, r"layer 1: mask: .* must lie in \[0, 1\]"),
        ("[[layer]]\nmask = 1\n[[layer]]\nmask = 'w'", gt.ExpressionError, "layer 2, mask: expression 'w'"),
        ("[[layer]]\nmask = [0.5]", gt.GraphonError, "layer 1, mask: values: expected a 2-D array"),
        ("[[layer]]\nmask = [['a']]", gt.GraphonError, "layer 1, mask: values: expected an array of real numbers"),
        ("[[layer]]\nmask = {u_edges = [0, 1]}", gt.SpecError, "layer 1, mask: values are missing"),
        ("[[layer]]\nmask = {values = [[1]], edges = [0, 1]}", gt.SpecError, "layer 1, mask: unknown keys edges"),
        ("[[layer]]\nmask = {values = [[1]], u_edges = [0, 2]}", gt.GraphonError, "layer 1, mask: u_edges: expected"),
        ("[[layer]]\nmask = 0.5\nvariance = -1", gt.ConnectivityError, "layer 1: variance: a second moment"),
        ("[[layer]]\nmask = 0.5\ndrift = 'q'", gt.ExpressionError, "layer 1, drift: expression 'q'"),
        ("activation = 'swoosh'\n[[layer]]\nmask = 1", gt.ActivationError, "activation: expected .* got 'swoosh'"),
        ("weight_variance = '2'\n[[layer]]\nmask = 1", gt.NetworkError, "weight_variance: expected a finite number"),
        ("widths = [3, 4]\n[[layer]]\nmask = 1", gt.NetworkError, "widths: expected 1 fan-ins"),
    ],
)
def test_toml_that_is_no_network_is_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gt.Network.from_toml(text)


def test_only_text_is_read() -> None:
    with pytest.raises(gt.SpecError, match="text: not valid TOML"):
        gt.Network.from_toml(b"[[layer]]\nmask = 1")  # type: ignore[arg-type]


def test_with_layers_keeps_everything_else() -> None:
    first = gt.Network([1.0, 0.5], "erf", (2.0, 1.5), 0.1, "standard", (3, 40), outputs=2)
    other = first.with_layers([0.2, 1.0])
    assert other == gt.Network([0.2, 1.0], "erf", (2.0, 1.5), 0.1, "standard", (3, 40), outputs=2)
    with pytest.raises(gt.NetworkError, match="layers: expected 2, as many as there are, got 1"):
        first.with_layers([1.0])


# --- stages -----------------------------------------------------------------------------------------------------------

DENSE, RELU = gt.Dense(gt.Connectivity(0.5)), gt.Pointwise("relu")
STAGED = gt.Network(
    [
        gt.Dense(gt.Connectivity(STEP), 1.5, 0.2),
        gt.Residual(
            gt.LayerNorm(1e-3),
            RELU,
            gt.Dense(gt.magnitude_pruning(0.2), bias_variance=0.0, trained_bias_variance=1.0),
            gt.Residual(gt.Pointwise(gt.Activation("Max(z, z**2/10)")), DENSE, scale=-0.5),
            gt.Pointwise("erf"),
            gt.Dense(gt.Connectivity("exp(-(u - v)**2)")),
            scale=0.7,
        ),
        gt.LayerNorm(0.0),
        gt.Pointwise(),
        DENSE,
    ],
    activation="gelu",
    weight_variance=1.2,
    bias_variance=0.1,
    outputs=2,
)


def test_stages_take_what_they_leave_open_from_the_network() -> None:
    assert STAGED.depth == 5
    assert STAGED.weight_variance == (1.5, 1.2, 1.2, 1.2, 1.2)
    assert STAGED.bias_variances == (0.2, 0.0, 0.1, 0.1, 0.1)
    assert STAGED.trained_bias_variances == (0.2, 1.0, 0.1, 0.1, 0.1)
    assert [activation.name for activation in STAGED.activations][::3] == ["relu", "gelu"]
    assert STAGED.layers[1] == gt.magnitude_pruning(0.2)
    assert not STAGED.is_plain


def test_plain_networks_are_stages_too() -> None:
    plain = gt.Network([STEP, 0.5, 1.0], ["relu", "erf"], [2.0, 1.5, 1.0], [0.1, 0.0, 0.2])
    same = gt.Network(
        [
            gt.Dense(gt.Connectivity(STEP), 2.0, 0.1),
            RELU,
            gt.Dense(gt.Connectivity(0.5), 1.5, 0.0),
            gt.Pointwise("erf"),
            1.0,
        ],
        weight_variance=1.0,
        bias_variance=0.2,
    )
    assert plain == same
    assert hash(plain) == hash(same)
    assert same.is_plain
    assert repr(same).endswith(
        "activation=['relu', 'erf'], weight_variance=[2.0, 1.5, 1.0], bias_variance=[0.1, 0.0, 0.2])"
    )


def test_what_is_asked_for_as_one_is_refused_where_there_are_several() -> None:
    with pytest.raises(gt.NetworkError, match=r"activation: one is asked for, .* several \(relu, .*gelu\)"):
        _ = STAGED.activation
    with pytest.raises(gt.NetworkError, match=r"bias_variance: one is asked for, and layers have their own, \[0\.2"):
        _ = STAGED.bias_variance


def test_stages_survive_toml_pickles_and_changes() -> None:
    text = STAGED.to_toml()
    assert gt.Network.from_toml(text) == STAGED
    assert gt.Network.from_toml(text).to_toml() == text
    assert pickle.loads(pickle.dumps(STAGED)) == STAGED
    mixed = gt.Network([1.0, STEP, 0.5], ["relu", "erf"], bias_variance=[0.1, 0.0, 0.2], trained_bias_variance=0.3)
    assert gt.Network.from_toml(mixed.to_toml()) == mixed
    other = STAGED.changed(activation="sin", bias_variance=0.0)
    assert {activation.name for activation in other.activations} == {"sin"}
    assert other.bias_variances == (0.0,) * 5
    assert other.trained_bias_variances == STAGED.trained_bias_variances
    assert other.outputs == 2
    assert other.changed(outputs=2) == other
    assert STAGED.with_layers([0.1, 0.2, 0.3, 0.4, 0.5]).layers[3] == gt.Connectivity(0.4)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([RELU, DENSE], "stage 1: an activation of the inputs themselves"),
        ([gt.LayerNorm(), DENSE], "stage 1: a LayerNorm of the inputs themselves"),
        ([gt.Residual(RELU, DENSE), DENSE], "stage 1: a shortcut from the inputs is not Gaussian"),
        ([DENSE, RELU], "stage 2: a network ends in a Dense; behind an activation the outputs are not Gaussian"),
        ([DENSE, gt.LayerNorm()], "stage 2: a network ends in a Dense; the k outputs are too few"),
        ([DENSE, gt.Residual(RELU, DENSE)], "stage 2: a network ends in a Dense; the branch would start from the k"),
        ([DENSE, RELU, RELU, DENSE], "stage 3: an activation of what stands behind an activation"),
        ([DENSE, RELU, gt.Residual(RELU, DENSE), DENSE], "stage 3: a shortcut of what stands behind an activation"),
        ([DENSE, gt.Residual(RELU), DENSE], "stage 2: the branch has no Dense of its own"),
        ([DENSE, gt.Residual(gt.Residual(RELU, DENSE)), DENSE], "stage 2: the branch has no Dense of its own"),
        ([DENSE, gt.Residual(DENSE, RELU), DENSE], "stage 2: the branch ends behind an activation"),
        ([DENSE, gt.Residual(RELU, gt.Residual(RELU, DENSE), DENSE), DENSE], "stage 2, stage 2: a shortcut of"),
    ],
)
def test_stages_that_have_no_limit_are_refused_with_the_reason(stages: list[Any], message: str) -> None:
    with pytest.raises(gt.NetworkError, match=f"^stages: {message}"):
        gt.Network(stages)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gt.LayerNorm(-1e-5), "epsilon: expected a finite number >= 0, got -1e-05"),
        (lambda: gt.LayerNorm(np.nan), "epsilon: expected a finite number >= 0, got nan"),
        (lambda: gt.Residual(DENSE, scale=np.inf), "scale: expected a finite number, got inf"),
        (lambda: gt.Dense(0.5, -1.0), r"weight_variance: expected a finite number > 0, got -1\.0"),
        (lambda: gt.Dense(0.5, None, -1.0), r"bias_variance: expected a finite number >= 0, got -1\.0"),
        (lambda: gt.Dense(0.5, trained_bias_variance=-1.0), "trained_bias_variance: expected a finite number >= 0"),
        (lambda: gt.Dense(1.5), r"mask: .* must lie in \[0, 1\]"),
        (lambda: gt.Pointwise("swoosh"), "activation: expected an Activation or one of"),
        (
            lambda: gt.Network([1.0] * 3, ["relu"]),
            r"activation: expected one or 2 \(one for every layer but",
        ),
        (
            lambda: gt.Network([1.0] * 3, bias_variance=[0.1]),
            r"bias_variance: expected one number or 3",
        ),
        (
            lambda: gt.Network([1.0] * 3, trained_bias_variance=[0.1]),
            r"trained_bias_variance: expected one number or 3 \(one per layer\), got 1",
        ),
        (
            lambda: gt.Network([DENSE, gt.Residual(RELU, DENSE), RELU, DENSE], widths=(5, 100, 200)),
            r"widths: weight layers 2 and 3 read the same layer of units, .* got n_1 = 100 and n_2 = 200",
        ),
        (
            lambda: gt.Network.from_toml("[[stage]]\nkind = 'pool'"),
            "stage 1: expected a table with a kind, one of",
        ),
        (lambda: gt.Network.from_toml("[[stage]]\nkind = 'dense'\nmask = 1\nscale = 2"), "stage 1: unknown keys scale"),
        (lambda: gt.Network.from_toml("[[stage]]\nkind = 'residual'"), r"stage 1: a residual has \[\[stage\.stage\]\]"),
    ],
)
def test_what_a_stage_cannot_be_is_named(make: Any, message: str) -> None:
    with pytest.raises(gt.GraphonError, match=f"^{message}"):
        make()
