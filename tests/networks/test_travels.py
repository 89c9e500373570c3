"""Graphons, networks and results as values: the same wherever they travel."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest

import graphon_theory as gt
from tests.networks.things import (
    ACTIVATIONS,
    EDGES,
    GRAPHONS,
    LAYERS,
    NETWORKS,
    STEP,
    X,
    estimated,
    estimated_graphon,
    outer,
    ripple,
    rising,
    smooth,
)

AT = np.random.default_rng(4).random((2, 50))

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
