"""Graphons, networks and results as values: equal to their like, and not to be changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.pruning.weight_laws import TruncatedNormal
from tests.networks.things import (
    EDGES,
    KNOWN,
    NETWORKS,
    STEP,
    Bump,
    U,
    V,
    X,
    bent,
    estimated,
    estimated_graphon,
    plane,
    ripple,
    rising,
)

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
