"""Graphons, networks and results as values: equal to their like, not to be changed, the same wherever they travel."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
import sympy as sp

import graphon_theory as gt
from graphon_theory.estimation.masks import as_mask
from graphon_theory.numerics import expressions
from graphon_theory.pruning.weight_laws import TruncatedNormal

X = np.random.default_rng(3).standard_normal((3, 6))
AT = np.random.default_rng(4).random((2, 50))
EDGES = [0, 0.3, 0.5, 1]
U, V = sp.symbols("u v")


def ripple(u: Any, v: Any, size: float = 0.2) -> Any:
    return 0.5 + size * np.sin(3 * u + v)


def rising(u: Any) -> Any:
    return 0.2 + u


def bent(z: Any, slope: float = 0.3) -> Any:
    return np.where(z > 0, z, slope * z) + 0.1 * z**2


def plane(u: Any, v: Any, slopes: Any) -> Any:
    return slopes[0] * u + slopes[1] * v


def outer(u: Any, v: Any, power: int = 1) -> Any:
    return (0.1 + u) * np.exp(-(v**power)) / 2


class Bump:
    """A callable that says itself when it equals another, and so has no hash."""

    def __init__(self, height: float) -> None:
        self.height = height

    def __call__(self, u: Any, v: Any) -> Any:
        return self.height * np.exp(-((u - v) ** 2))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bump) and other.height == self.height

    __hash__ = None  # type: ignore[assignment]


def estimated(**options: Any) -> Any:
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < 0.4 for shape in ((30, 6), (24, 30), (20, 24), (2, 20))]
    weights = [rng.standard_normal(mask.shape) for mask in masks]
    return gt.estimate_network(masks, weights, **{"blocks": 2, "dense_std": 1.0, **options})


def estimated_graphon() -> Any:
    return gt.estimate_graphon(np.random.default_rng(1).random((40, 30)) < 0.3, (4, 3), draws=5)


def smooth() -> gt.Network:
    return gt.Network(["(1 + sin(u*v))/3", "exp(-u - v)", 1.0])


def with_activation(make: Callable[[], Any]) -> gt.Network:
    return gt.Network(["exp(-u - v)", 1.0], make())


def with_layer(make: Callable[[], Any]) -> gt.Network:
    return gt.Network([1.0, make(), 1.0], bias_variance=0.1)


GRAPHONS: dict[str, Callable[[], gt.Graphon]] = {
    "constant": lambda: gt.ConstantGraphon(0.3),
    "step": lambda: gt.StepGraphon([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], v_edges=EDGES),
    "step with edges for nothing": lambda: gt.StepGraphon([[0.1, 0.1, 0.3]], v_edges=EDGES),
    "estimate": estimated_graphon,
    "estimate, transposed": lambda: estimated_graphon().T,
    "formula": lambda: gt.AnalyticGraphon("exp(-u - v)/2"),
    "formula in pieces": lambda: gt.AnalyticGraphon("Piecewise((u*v, (u < v) & (v < 0.7)), (Max(u, 0.2), True))"),
    "formula of many digits": lambda: gt.AnalyticGraphon(sp.Float("0.1", 30) * U + V / 3),
    "formula as it stands": lambda: gt.AnalyticGraphon(
        sp.Mul(sp.Rational(1, 4), sp.Add(*map(expressions.symbol, "uv"), evaluate=False), evaluate=False)
    ),
    "constant formula": lambda: gt.AnalyticGraphon("sqrt(2)/2"),
    "function": lambda: gt.FunctionGraphon(ripple, v_edges=[0, 0.4, 1], diagonal=True),
    "function, transposed": lambda: gt.FunctionGraphon(ripple).T,
    "ufunc": lambda: gt.FunctionGraphon(np.minimum, diagonal=True),
    "partial function": lambda: gt.FunctionGraphon(partial(ripple, size=0.1)),
    "callable object": lambda: gt.FunctionGraphon(Bump(0.5)),
    "law's share": lambda: gt.saliency_pruning(rising, "exp(-v)", 0.3, "uniform").mask,
    "law's second moment": lambda: gt.saliency_pruning(rising, "exp(-v)", 0.3, TruncatedNormal(3.0)).variance.T,
    "rescaled rows": lambda: gt.balanced(smooth(), by="position").layers[0].variance,
    "rescaled columns": lambda: gt.balanced(smooth(), by="position").layers[0].variance.T,
}

STEP = [[0.9, 0.2], [0.4, 0.6]]
KNOWN = gt.Known([[[0.1, 0.2]], "u*v/4"], [0.1, [[0.1], [0.2]]], 0.3)
LAYERS: dict[str, Callable[[], gt.Connectivity]] = {
    "mask": lambda: gt.Connectivity("exp(-u - v)"),
    "function as its own variance": lambda: gt.Connectivity(partial(ripple, size=0.1)),
    "variance": lambda: gt.magnitude_pruning(0.2),
    "drift": lambda: gt.Connectivity(STEP, [[1.8, 0.1], [0.5, 0.6]], "u - v"),
    "known": lambda: gt.Connectivity(0.5, 0.7, "u/2", known=KNOWN),
}

ACTIVATIONS: dict[str, Callable[[], Any]] = {
    **{name: partial(str, name) for name in ("relu", "leaky_relu", "gelu", "gaussian", "tanh", "elu")},
    "expression": lambda: gt.Activation("Max(z, 0) + z**2/10", name="mine"),
    "rectifier": lambda: gt.Activation("Max(z, z/5)"),
    "function": lambda: gt.Activation(bent, kinks=[0.0]),
    "partial function": lambda: gt.Activation(partial(bent, slope=0.5), kinks=[0.0]),
    "with derivative": lambda: gt.Activation(np.sin, derivative=np.cos, name="wave"),
}

NETWORKS: dict[str, Callable[[], gt.Network]] = {
    **{f"activation: {name}": partial(with_activation, make) for name, make in ACTIVATIONS.items()},
    **{f"layer: {name}": partial(with_layer, make) for name, make in LAYERS.items()},
    **{f"graphon: {name}": partial(with_layer, GRAPHONS[name]) for name in GRAPHONS if "moment" not in name},
    "all arguments": lambda: gt.Network(
        [STEP, "u*v", 0.3], "erf", [1.0, 2.0, 3.0], 0.2, "standard", (6, 40, 50), outputs=2
    ),
    "balanced by position": lambda: gt.balanced(smooth(), by="position"),
    "estimated": lambda: gt.Network(estimated(), outputs=2),
    "pruned by data": lambda: gt.saliency_network(
        gt.Network([[[1.0]], 1.0, 1.0], outputs=2), X, [0, 1, 1], 0.4, (6, 40, 40, 2), positions=12, rng=1
    ),
}

KERNELS = (  # some of every kind
    "activation: relu",
    "activation: gelu",
    "activation: with derivative",
    pytest.param("activation: partial function", marks=pytest.mark.slow),  # two tables of duals
    "layer: drift",
    "layer: known",
    "graphon: step",
    "graphon: formula in pieces",
    "graphon: function",
    "all arguments",
    "balanced by position",
    "estimated",
    "pruned by data",
)

RESULTS: dict[str, Callable[[], Any]] = {
    "network estimate": estimated,
    "network estimate with counts held out": lambda: estimated(blocks="auto"),
    "drift": lambda: estimated().drift[1],
    "units": lambda: estimated().units,
    "null": lambda: estimated_graphon().null,
    "coherence": lambda: estimated().coherence[0],
    "packed mask": lambda: gt.PackedMask.pack(np.arange(30).reshape(5, 6) % 3 == 0),
    "cut norm": lambda: gt.cut_norm([[0.1, -0.3], [0.2, 0.1]]),
    "alignment": lambda: gt.align([[0.1, 0.3], [0.2, 0.1]], [[0.3, 0.1], [0.1, 0.2]]),
    "saliency": lambda: gt.Saliency(np.array([1.0, 2.0]), rising, "he"),
    "known": lambda: gt.Known([STEP], [0.2], [[0.1], [0.0]]),
    "scalar reduction": lambda: gt.scalar_reduction(gt.Network(["u*v", STEP, 1.0])),
    "no scalar reduction": lambda: gt.scalar_reduction(gt.Network(["u*v", STEP], "erf")),
    "scalar reduction by quadrature": lambda: gt.scalar_reduction(gt.Network([1.0, ripple, 1.0])),
    "scalar reduction of a sampled profile": lambda: gt.scalar_reduction(gt.Network([partial(outer, power=2), 1.0])),
    "closed form": lambda: gt.closed_form(gt.Network([STEP, [[0.5]], 1.0], "erf", bias_variance=0.1)),
    "reduced closed form": lambda: gt.closed_form(gt.Network(["u*v", STEP, 1.0])),
}

DATASETS: dict[str, Callable[[], Any]] = {
    "kernels": lambda: gt.limit_kernel(smooth(), X, contributions=True),
    "spectrum": lambda: gt.spectrum(gt.limit_kernel(smooth(), X).ntk, 3),
    "graphon spectrum": lambda: gt.graphon_spectrum("exp(-(u - v)**2)", 3),
    "density": lambda: gt.kernel_density(smooth(), X[0], X[1], layer=2),
    "criticality": lambda: gt.criticality(smooth()),
    "training": lambda: gt.gradient_flow(gt.limit_kernel(smooth(), X).ntk, np.ones(3), [0.0, 1.0]),
    "closed form's values": lambda: gt.closed_form(gt.Network([0.5, 1.0])).evaluate(X),
    "path": lambda: gt.graphon_path([np.eye(8) > 0, np.ones((8, 8)) > 0], bins=2),
}


def as_text(network: gt.Network) -> str:
    """TOML, or why there is none."""
    try:
        return network.to_toml()
    except gt.SpecError as error:
        return str(error)


def every_way(thing: Any) -> dict[str, Any]:
    """Copies of a thing, and what comes out of pickles of every protocol."""
    ways = {"copy": copy.copy(thing), "deepcopy": copy.deepcopy(thing), "deep in a list": copy.deepcopy([thing])[0]}
    ways["cloudpickle"] = pickle.loads(cloudpickle.dumps(thing))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        ways[f"protocol {protocol}"] = pickle.loads(pickle.dumps(thing, protocol))
    return ways


# --- travelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", GRAPHONS.values(), ids=GRAPHONS)
def test_graphons_come_back_as_they_were(make: Callable[[], gt.Graphon]) -> None:
    graphon = make()
    values = graphon(*AT)
    for way, again in every_way(graphon).items():
        assert type(again) is type(graphon), way
        assert again == graphon, way
        assert hash(again) == hash(graphon), way
        assert repr(again) == repr(graphon), way
        np.testing.assert_array_equal(again(*AT), values)
        np.testing.assert_array_equal(again.T(*AT[::-1]), values)
        assert (again.constant_in_u, again.constant_in_v) == (graphon.constant_in_u, graphon.constant_in_v)
        assert len(again.switches) == len(graphon.switches)
        np.testing.assert_array_equal(again.row_means([0.2, 0.6], EDGES), graphon.row_means([0.2, 0.6], EDGES))


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_connectivities_come_back_as_they_were(make: Callable[[], gt.Connectivity]) -> None:
    layer = make()
    for way, again in every_way(layer).items():
        assert again == layer, way
        assert hash(again) == hash(layer), way
        assert repr(again) == repr(layer), way
        assert (again.variance is again.mask) == (layer.variance is layer.mask), way
        assert again.has_drift == layer.has_drift, way


@pytest.mark.parametrize("make", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_come_back_as_they_were(make: Callable[[], Any]) -> None:
    activation = made if isinstance(made := make(), gt.Activation) else gt.as_activation(made)
    z = np.linspace(-3, 3, 41)
    for way, again in every_way(activation).items():
        assert again == activation, way
        assert hash(again) == hash(activation), way
        assert (again.name, again.named, again.route) == (activation.name, activation.named, activation.route), way
        assert (again is activation) or not activation.named, way
        np.testing.assert_array_equal(again(z), activation(z))
        np.testing.assert_array_equal(again.derivative(z), activation.derivative(z))
        assert again.kinks == activation.kinks
        assert again.kinked == activation.kinked


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_networks_come_back_as_they_were(make: Callable[[], gt.Network]) -> None:
    network = make()
    for way, again in every_way(network).items():
        assert again == network, way
        assert hash(again) == hash(network), way
        assert repr(again) == repr(network), way
        assert again.describe() == network.describe(), way
        assert as_text(again) == as_text(network), way


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_the_same_after_travelling(name: str) -> None:
    network = NETWORKS[name]()
    wanted = gt.limit_kernel(network, X)  # caches are full by now
    assert gt.limit_kernel(pickle.loads(pickle.dumps(network)), X).identical(wanted)
    assert gt.limit_kernel(copy.deepcopy(network), X).identical(wanted)


@pytest.mark.parametrize("name", NETWORKS)
def test_text_of_what_travelled_is_read_back(name: str) -> None:
    network = NETWORKS[name]()
    again = pickle.loads(pickle.dumps(network))
    unwritten = "function", "ufunc", "object", "derivative", "law", "rescaled", "balanced", "known", "data"
    if any(word in name for word in unwritten):
        with pytest.raises(gt.SpecError, match="written as text"):
            again.to_toml()
        return
    text = again.to_toml()
    assert gt.Network.from_toml(text).to_toml() == text
    if "many digits" not in name:  # text holds the digits of a float64
        assert gt.Network.from_toml(text) == network


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_results_come_back_as_they_were(make: Callable[[], Any]) -> None:
    result = make()
    for way, again in every_way(result).items():
        assert type(again) is type(result), way
        assert again == result, way
        assert hash(again) == hash(result), way
        assert repr(again) == repr(result), way


def test_whole_results_travel_not_only_what_equality_sees() -> None:
    for way, again in every_way(estimated(blocks="auto")).items():
        first = estimated(blocks="auto")
        for name in ("labels", "positions", "units", "coherence", "drift", "held_out", "log_likelihood"):
            np.testing.assert_equal(getattr(again, name), getattr(first, name), err_msg=way)
    for again in every_way(estimated_graphon()).values():
        first = estimated_graphon()
        assert (again.null, again.method) == (first.null, first.method)
        np.testing.assert_array_equal(again.row_labels, first.row_labels)
        np.testing.assert_array_equal(again.column_labels, first.column_labels)
    bounds = gt.cut_norm(STEP)
    for again in every_way(bounds).values():
        for name in ("rows", "columns", "u_edges", "v_edges"):
            np.testing.assert_array_equal(getattr(again, name), getattr(bounds, name))


@pytest.mark.parametrize("make", DATASETS.values(), ids=DATASETS)
def test_datasets_travel(make: Callable[[], Any]) -> None:
    result = make()
    for way, again in every_way(result).items():
        assert again.identical(result), way


def test_a_closed_form_evaluates_after_its_travels() -> None:
    form = gt.closed_form(gt.Network([0.3, STEP, 1.0], "erf", bias_variance=0.1))
    again = pickle.loads(pickle.dumps(form))
    assert again.evaluate(X[:2]).identical(form.evaluate(X[:2]))
    assert again.at_equal_norms() == form.at_equal_norms() != form


def test_lambdas_travel_by_cloudpickle_alone() -> None:
    network = gt.Network([lambda u, v: 0.5 + u * v / 4, 1.0], gt.Activation(lambda z: np.tanh(z) + z**2 / 5))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(network)
    again = pickle.loads(cloudpickle.dumps(network))
    np.testing.assert_array_equal(gt.limit_kernel(again, X).ntk, gt.limit_kernel(network, X).ntk)
    assert copy.deepcopy(network) == network


def test_arrays_are_read_only_before_and_after_travelling() -> None:
    graphon = estimated_graphon()
    found = estimated()
    for one in (graphon, pickle.loads(pickle.dumps(graphon))):
        for name in ("values", "u_edges", "v_edges", "row_labels", "column_labels"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(one, name)[0] = 0
    for one in (found, pickle.loads(pickle.dumps(found))):
        for array in (one.labels[1], one.positions[1], one.units.reached[1], one.drift[0].raw):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_other_processes_compute_the_same() -> None:
    """Fresh interpreters, which share nothing; joblib's processes, which are sent things by cloudpickle."""
    first = gt.Network([gt.FunctionGraphon(np.minimum, diagonal=True), 1.0], gt.Activation(np.sin, derivative=np.cos))
    networks = [
        first,
        gt.Network(gt.prune_globally(gt.Saliency(np.exp, "1 + v"), 0.3, (6, 30, 1)), "leaky_relu"),
        gt.balanced(smooth(), by="position"),
    ]
    wanted = gt.limit_kernel(first, X)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(gt.limit_kernel, (first, X))
        returned = pool.map(copy.copy, networks)  # there and back
    assert returned == networks
    assert found.identical(wanted)
    kernels, *returned = joblib.Parallel(n_jobs=2)(
        [joblib.delayed(gt.limit_kernel)(first, X), *(joblib.delayed(copy.copy)(network) for network in networks)]
    )
    assert kernels.identical(wanted)
    assert returned == networks


# --- what equals what -------------------------------------------------------------------------------------------------


SAME: dict[str, Callable[[], tuple[Any, ...]]] = {
    "one": lambda: (1.0, [[1.0]], np.ones((3, 4)), "1", "2 - 1"),
    "half": lambda: (0.5, [[0.5, 0.5]], "0.5", "1/2", "u*0 + 1/2"),
    "zero": lambda: (0.0, -0.0, [[0.0], [-0.0]], "0"),
    "number": lambda: ("exp(-1)", float(np.exp(-1.0))),
    "columns": lambda: (
        gt.StepGraphon([[0.1, 0.3]], v_edges=[0, 0.5, 1]),
        gt.StepGraphon([[0.1, 0.1, 0.3]], v_edges=EDGES),
        gt.StepGraphon([[0.1, 0.3], [0.1, 0.3]]),
    ),
    "both sides": lambda: (
        gt.StepGraphon([[0.1, 0.3], [0.2, 0.4]], [0, 0.5, 1], [0, 0.5, 1]),
        gt.StepGraphon([[0.1, 0.1, 0.3], [0.1, 0.1, 0.3], [0.2, 0.2, 0.4]], EDGES, EDGES),
    ),
    "sums": lambda: ("u + v", "v + u", U + V),
    "functions": lambda: (ripple, gt.FunctionGraphon(ripple, [0, 1]), gt.FunctionGraphon(ripple).T.T),
    "partial functions": lambda: (partial(ripple, size=0.1), partial(ripple, size=0.1)),
    "partial functions of arrays": lambda: tuple(partial(plane, slopes=np.array([0.1, 0.2])) for _ in range(2)),
    "callable objects": lambda: (Bump(0.1), Bump(0.1)),
    "laws": lambda: tuple(gt.saliency_pruning(rising, 1.0, 0.2, TruncatedNormal(3.0)).mask for _ in range(2)),
    "estimates": lambda: (estimated_graphon(), gt.StepGraphon(estimated_graphon().values)),
    "layers": lambda: (gt.Connectivity([[0.1]], 0.2), gt.Connectivity(0.1, "1/5"), gt.Connectivity("1/10", [[0.2]])),
    "dense layers": lambda: (gt.Connectivity(1.0), gt.Connectivity("1", np.ones((2, 2)), "0*u")),
    "networks": lambda: (gt.Network([0.5, 1.0]), gt.Network(["1/2", [[1.0]]]), gt.Network([[[0.5, 0.5]], 1.0])),
    "expressions": lambda: (gt.Activation("z + z**2"), gt.Activation("z**2 + z", name="mine")),
    "callables": lambda: (gt.Activation(bent, [0.0]), gt.Activation(bent, (0,), name="mine")),
    "partial callables": lambda: tuple(gt.Activation(partial(bent, slope=0.5), [0.0]) for _ in range(2)),
}


def as_thing(obj: Any) -> Any:
    return obj if isinstance(obj, gt.Connectivity | gt.Network | gt.Activation) else gt.as_graphon(obj)


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_one_thing_however_written(make: Callable[[], tuple[Any, ...]]) -> None:
    things = [as_thing(one) for one in make()]
    for one in things:
        for other in things:
            assert one == other
            assert hash(one) == hash(other)


def test_different_things_differ() -> None:
    everything = [as_thing(make()[0]) for make in SAME.values()]
    everything += [
        gt.StepGraphon([[0.1, 0.3]], v_edges=[0, 0.5 + 1e-15, 1]),
        gt.StepGraphon([[0.1], [0.3]]),
        gt.FunctionGraphon(ripple).T,
        gt.FunctionGraphon(ripple, diagonal=True),
        gt.FunctionGraphon(partial(ripple, size=0.2)),
        gt.FunctionGraphon(partial(plane, slopes=np.array([0.1, 0.3]))),
        gt.FunctionGraphon(Bump(0.2)),
        gt.saliency_pruning(rising, 1.0, 0.2, TruncatedNormal(2.0)).mask,
        gt.Connectivity(0.1),
        gt.Connectivity(0.1, 0.2, "u"),
        gt.Connectivity(0.1, 0.2, known=gt.Known([0.0])),
        gt.Network([0.5, 1.0], weight_variance=1.0),
        gt.Network([0.5, 1.0], gt.Activation("z + z**2")),
        gt.Activation(bent, [0.0, 1.0]),
        gt.Activation(bent, [0.0], derivative=np.cos),
        gt.as_activation("relu"),
        gt.as_activation("gelu"),
        KNOWN,
        0.5,
        "relu",
    ]
    for i, one in enumerate(everything):
        for other in everything[:i]:
            assert one != other


def test_dense_networks_are_dense_however_written() -> None:
    arguments: tuple[Any, ...] = (X, [0, 1, 1], 0.3, (6, 40, 40, 2))
    wanted = gt.saliency_network(gt.Network([1.0, 1.0, 1.0], outputs=2), *arguments, positions=8)
    for one in ([[1.0]], np.ones((2, 3)), "1"):
        assert gt.saliency_network(gt.Network([one, one, one], outputs=2), *arguments, positions=8) == wanted
    with pytest.raises(gt.NetworkError, match="layer 2"):
        gt.saliency_network(gt.Network([1.0, [[1.0, 0.99]], 1.0], outputs=2), *arguments, positions=8)


def test_a_variance_that_is_the_mask_in_another_form_is_the_mask() -> None:
    layer = gt.Connectivity([[0.5, 0.5]], "1/2", gt.StepGraphon([[0.0], [0.0]]))
    assert layer.variance is layer.mask
    assert not layer.has_drift
    assert repr(layer) == "Connectivity(StepGraphon([[0.5, 0.5]]))"


def test_closed_forms_name_the_inputs_alike_for_constants_however_written() -> None:
    wanted = gt.closed_form(gt.Network([0.5, 1.0], "erf"))
    for one in ([[0.5]], [[0.5, 0.5]], "1/2"):
        found = gt.closed_form(gt.Network([one, 1.0], "erf"))
        assert [m.symbols for m in found.moments] == [m.symbols for m in wanted.moments]


# --- making another ---------------------------------------------------------------------------------------------------


def test_replace_makes_another_network_checked_anew() -> None:
    network = NETWORKS["all arguments"]()
    new: dict[str, Any] = {
        "layers": [0.2, [[0.3, 0.4]], "u"],
        "activation": "sin",
        "weight_variance": 1.5,
        "bias_variance": 0.0,
        "parameterization": "ntk",
        "widths": (3, 4, 5),
        "outputs": 7,
    }
    for name, value in new.items():
        found = dataclasses.replace(network, **{name: value})
        assert found == gt.Network(
            **{f.name: getattr(network, f.name) for f in dataclasses.fields(network)} | {name: value}
        )
        assert found != network
    assert dataclasses.replace(network) == network
    assert dataclasses.replace(network, **new) == gt.Network(**new)
    fewer = dataclasses.replace(network, layers=[0.5, 1.0], weight_variance=2.0, widths=(6, 40))  # type: ignore[call-arg]
    assert fewer == gt.Network([0.5, 1.0], "erf", 2.0, 0.2, "standard", (6, 40), 2)
    with pytest.raises(gt.NetworkError, match=r"weight_variance: expected one number or 2 \(one per layer\), got 3"):
        dataclasses.replace(network, layers=[0.5, 1.0])  # type: ignore[call-arg]
    with pytest.raises(gt.ConnectivityError, match="layers: layer 1: mask"):
        dataclasses.replace(network, layers=[1.5, 1.0, 1.0])  # type: ignore[call-arg]


def test_nothing_can_be_changed() -> None:
    found, graphon = estimated(), estimated_graphon()
    changes: list[tuple[Any, str]] = [
        (gt.Network([1.0]), "outputs"),
        (gt.Connectivity(1.0), "mask"),
        (KNOWN, "profiles"),
        (gt.as_activation("relu"), "name"),
        (gt.as_activation("relu"), "phi"),
        (gt.StepGraphon(STEP), "values"),
        (gt.ConstantGraphon(0.5), "p"),
        (gt.AnalyticGraphon("u"), "expr"),
        (gt.FunctionGraphon(ripple), "f"),
        *((graphon, name) for name in ("values", "null", "method", "row_labels", "column_labels")),
        *((found, field.name) for field in dataclasses.fields(found)),
        (found.units, "reached"),
        (found.drift[0], "raw"),
        (found.coherence[0], "z"),
        (gt.PackedMask.pack(np.eye(3)), "bits"),
        (gt.cut_norm(STEP), "rows"),
        (gt.align(STEP, STEP), "rows"),
        (gt.scalar_reduction(gt.Network([1.0])), "scalars"),
        (gt.closed_form(gt.Network([1.0])), "ntk"),
    ]
    for thing, name in changes:
        with pytest.raises(AttributeError):
            setattr(thing, name, None)
        with pytest.raises(AttributeError):
            delattr(thing, name)
    for broken in (
        lambda: found.__setitem__(0, 1.0),
        lambda: found.append(1.0),
        lambda: estimated(blocks="auto").held_out.update({1: 0.0}),
        lambda: gt.closed_form(gt.Network([1.0])).definitions.clear(),  # type: ignore[attr-defined]
    ):
        with pytest.raises(AttributeError):
            broken()


# --- estimates as sequences of layers ---------------------------------------------------------------------------------


def test_estimates_are_sequences_of_layers() -> None:
    found = estimated()
    layers = list(found)
    assert len(found) == 4
    assert all(isinstance(layer, gt.Connectivity) for layer in layers)
    assert (found[0], found[-1]) == (layers[0], layers[3])
    assert found == layers
    assert found == tuple(layers)
    assert found != layers[:3]
    assert found[1] in found
    assert found.index(layers[2]) == 2
    assert list(reversed(found)) == layers[::-1]
    assert gt.Network(found, outputs=2) == gt.Network(layers, outputs=2)
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 3), (2, None), (-2, None), (0, 4), (3, 1), (4, 9)])
def test_parts_of_an_estimate_are_estimates_of_these_layers(first: int, last: int | None) -> None:
    found = estimated(blocks="auto")
    part = found[first:last]
    assert type(part) is type(found)
    kept = list(range(4))[first:last]
    units = list(range(kept[0], kept[-1] + 2)) if kept else list(range(5))[first:][:1]
    assert part == [found[k] for k in kept]
    assert part.coherence == tuple(found.coherence[k] for k in kept)
    assert part.drift == tuple(found.drift[k] for k in kept)
    assert part.blocks == tuple(found.blocks[k] for k in units)
    for name in ("labels", "positions"):
        np.testing.assert_equal(getattr(part, name), tuple(getattr(found, name)[k] for k in units))
    np.testing.assert_equal(part.units.alive, [found.units.alive[k] for k in units])
    assert part.units.density == tuple(found.units.density[k] for k in kept)
    assert part.units.effective_density == tuple(found.units.effective_density[k] for k in kept)
    assert part.held_out == found.held_out
    for layer, (w, rows, columns) in enumerate(zip(part, part.labels[1:], part.labels, strict=False)):
        assert w.mask.values.shape == (rows.max() + 1, columns.max() + 1), layer


def test_layers_that_are_not_neighbours_are_no_estimate() -> None:
    found = estimated()
    for step in (-1, 2):
        with pytest.raises(gt.InputError, match=f"expected neighbouring layers, got every {step}"):
            found[::step]
    assert found.layers[::2] == (found[0], found[2])


def test_without_weights_there_is_neither_coherence_nor_drift() -> None:
    found = gt.estimate_network([np.ones((4, 3)), np.ones((1, 4))], blocks=2)
    assert (found.coherence, found.drift, found.held_out) == (None, None, None)
    assert (found[:1].coherence, found[:1].drift) == (None, None)


def test_an_estimate_s_transpose_is_the_estimate_of_the_transpose() -> None:
    mask = np.random.default_rng(1).random((40, 30)) < 0.3
    one, other = gt.estimate_graphon(mask, (4, 3), draws=0).T, gt.estimate_graphon(mask.T, (3, 4), draws=0)
    assert one == other
    np.testing.assert_array_equal(one.row_labels, other.row_labels)
    np.testing.assert_array_equal(one.column_labels, other.column_labels)
    assert as_mask(mask.T).shape == (len(one.row_labels), len(one.column_labels))
