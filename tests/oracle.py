"""Step-graphon networks whose kernels another library computed: ``data/step_networks.{json,npz}``.

Composed from neural-tangents 0.6.5 layers (jax 0.5.3) and checked there against a NumPy recursion to 2e-15.
``edges`` cut every hidden layer's positions into blocks; ``input_layer`` (B, d), ``hidden_layers`` (each (B,
B)) and ``readout`` (1, B) hold the values of the step graphons, rows receiving, columns sending, V = W. NTK
parameterization, every bias trained. Arrays of a case: nngp, ntk (6, 6) on (X, X); nngp_x2, ntk_x2 (6, 4) on
(X, X2); sigma_layers, theta_layers (hidden layer, block, 6, 6): K^l(u) and T^l(u) of THEORY §3.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tests.reference import Layer, weighted

if TYPE_CHECKING:
    import graphon_theory as gt

FloatArray = NDArray[np.float64]
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, eq=False)
class Case:
    """One network of the other library, its step values from input to readout, and its kernels."""

    name: str
    activation: str
    edges: FloatArray
    layers: tuple[FloatArray, ...]
    weight_variance: float
    bias_variance: float
    arrays: dict[str, FloatArray]


def _load() -> tuple[dict[str, Case], FloatArray, FloatArray]:
    described = json.loads((_DATA / "step_networks.json").read_text())
    with np.load(_DATA / "step_networks.npz") as archive:
        arrays = dict(archive)
    cases = {}
    for name, entry in described.items():
        values = [entry["input_layer"], *entry["hidden_layers"], entry["readout"]]
        own = {key.split("/")[1]: value for key, value in arrays.items() if key.startswith(f"{name}/")}
        cases[name] = Case(
            name,
            entry["activation"],
            np.array(entry["edges"]),
            tuple(np.array(v) for v in values),
            entry["weight_variance"],
            entry["bias_variance"],
            own,
        )
    return cases, arrays["X"], arrays["X2"]


CASES, X, X2 = _load()


def operator_layers(case: Case) -> list[Layer]:
    """A case as operator matrices: blocks weigh their lengths, inputs 1/d. Exact."""
    d = case.layers[0].shape[1]
    lengths = np.diff(case.edges).tolist()
    return [Layer(weighted(values, [1 / d] * d if level == 0 else lengths)) for level, values in enumerate(case.layers)]


def network_of(case: Case, depth: int | None = None) -> gt.Network:
    """The first ``depth`` layers, all if None; when that leaves out the readout, the top blocks become the outputs."""
    import graphon_theory as gt

    edges = case.edges.tolist()
    values = case.layers[:depth]
    layers = [
        gt.StepGraphon(one, u_edges=None if level == len(values) - 1 else edges, v_edges=None if level == 0 else edges)
        for level, one in enumerate(values)
    ]
    return gt.Network(
        layers,
        activation=case.activation,
        weight_variance=case.weight_variance,
        bias_variance=case.bias_variance,
        outputs=len(values[-1]),
    )
