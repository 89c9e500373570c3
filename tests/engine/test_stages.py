"""Stages through the engine: against another library, plain loops, and what theory says of them (THEORY §11)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from tests.reference import relative_error
from tests.stage_loops import kernels as loops

DATA = Path(__file__).parent.parent / "data"
RNG = np.random.default_rng(11)
D = 4
X = RNG.standard_normal((3, D))


# --- another library --------------------------------------------------------------------------------------------------


def _stage(entry: dict[str, Any]) -> Any:
    kind = entry["kind"]
    if kind == "dense":
        return gt.Dense(1.0, entry["weight_variance"], entry["bias_variance"])  # type: ignore[arg-type]
    if kind == "activation":
        return gt.Pointwise(entry["name"])
    if kind == "residual":
        return gt.Residual(*map(_stage, entry["branch"]))
    assert kind == "layer_norm"
    return gt.LayerNorm(entry["epsilon"])


DESCRIBED = {
    name: entry
    for name, entry in json.loads((DATA / "architectures.json").read_text()).items()
    if entry["inputs"] == "vector"
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_architectures_agree_with_another_library(name: str) -> None:
    """neural-tangents promises 1e-8 where inputs are parallel, as X[0] and X[4] are."""
    network = gt.Network([_stage(entry) for entry in DESCRIBED[name]["stages"]])
    with np.load(DATA / "architectures.npz") as arrays:
        x, x2 = arrays["vector/X"], arrays["vector/X2"]
        square, cross = gt.limit_kernel(network, x, contributions=True), gt.limit_kernel(network, x, x2)
        for key in ("nngp", "ntk"):
            np.testing.assert_allclose(square[key], arrays[f"{name}/{key}"], rtol=1e-9)
            np.testing.assert_allclose(cross[key], arrays[f"{name}/{key}_x2"], rtol=1e-9)
    np.testing.assert_allclose(square.ntk_layer.sum("layer"), square.ntk, rtol=1e-13)


# --- plain loops ------------------------------------------------------------------------------------------------------


def _blocks(rows: int, columns: int, *, drift: float = 0.0, last: bool = False) -> gt.Connectivity:
    """W != V on unequal blocks (equal ones at inputs and outputs), with a drift of about ``drift``."""
    mask = RNG.uniform(0.2, 0.9, (rows, columns))
    edges = [np.linspace(0, 1, rows + 1) ** (1.0 if last else 1.3), np.linspace(0, 1, columns + 1) ** 1.3]
    if columns == D:
        edges[1] = np.linspace(0, 1, D + 1)
    second = mask * RNG.uniform(0.5, 2.0, mask.shape)
    mean = drift * RNG.uniform(-2.0, 2.0, mask.shape) * np.sqrt(mask * second)
    w, v, d = (gt.StepGraphon(values, *edges) for values in (mask, second, mean))
    return gt.Connectivity(w, v, d if drift else None)


def _network(kind: str, *, drift: float = 0.0) -> gt.Network:
    def dense(rows: int, columns: int, *scales: float) -> gt.Dense:
        return gt.Dense(_blocks(rows, columns, drift=drift), *scales)

    first, last = dense(3, D, 2.0, 0.1), gt.Dense(_blocks(2, 3, drift=drift, last=True), 1.2, 0.05)
    middle: dict[str, list[Any]] = {
        "biases and activations": [
            gt.Pointwise("relu"), dense(2, 3, 1.5, 0.0, 0.7), gt.Pointwise("sin"), dense(3, 2, 1.1, 0.3, 0.0),
            gt.Pointwise("tanh"),
        ],
        "residual": [
            gt.Residual(gt.Pointwise("relu"), dense(3, 3, 1.4, 0.2), scale=0.6),
            gt.Residual(gt.Pointwise("tanh"), dense(2, 3, 1.0, 0.1), gt.Pointwise("relu"), dense(3, 2, 1.3, 0.0, 0.4)),
            gt.Pointwise("sin"),
        ],
        "nested": [
            gt.Residual(
                gt.Pointwise("relu"), dense(2, 3, 1.4, 0.2),
                gt.Residual(gt.Pointwise("sin"), dense(2, 2, 0.9, 0.1), scale=-0.8),
                gt.Pointwise("tanh"), dense(3, 2, 1.0, 0.3), scale=1.5,
            ),
            gt.Pointwise("relu"),
        ],
        "norm before": [
            gt.LayerNorm(0.01), gt.Pointwise("relu"), dense(3, 3, 1.4, 0.2), gt.LayerNorm(0.0), gt.Pointwise("sin"),
        ],
        "norm behind": [
            gt.Pointwise("relu"), gt.LayerNorm(0.02), dense(3, 3, 1.4, 0.2), gt.Pointwise("tanh"), gt.LayerNorm(0.0),
        ],
        "pre-norm blocks": [
            gt.Residual(
                gt.LayerNorm(1e-3), dense(2, 3, 1.4, 0.2), gt.Pointwise("relu"), dense(3, 2, 0.8, 0.1), scale=0.5
            ),
            gt.Residual(gt.Pointwise("sin"), gt.LayerNorm(1e-3), dense(3, 3, 0.8, 0.0, 1.0), gt.LayerNorm(0.1)),
            gt.LayerNorm(1e-2), gt.Pointwise("tanh"),
        ],
    }  # fmt: skip
    return gt.Network([first, *middle[kind], last], outputs=2)


KINDS = ("biases and activations", "residual", "nested", "norm before", "norm behind", "pre-norm blocks")


@pytest.mark.parametrize("drift", [0.0, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_stages_are_their_loops(kind: str, drift: float) -> None:
    """Block-constant W != V, with and without drift, biases and activations of their own for every layer."""
    network = _network(kind, drift=drift)
    want = loops(network, X)
    got = gt.limit_kernel(network, X, contributions=True)
    np.testing.assert_allclose(got.nngp, want.second, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got.ntk, want.tangent, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got["mean"], want.mean, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got.ntk_layer.sum("layer"), got.ntk, rtol=1e-12, atol=1e-13)
    assert got.quadrature_error >= relative_error(got.ntk.values[0], want.tangent[0]).max()


@pytest.mark.parametrize("kind", KINDS)
def test_other_inputs_and_precision(kind: str) -> None:
    """x2 is a part of one larger x; float32 is float64 to its own rounding."""
    network = _network(kind, drift=0.2)
    whole = gt.limit_kernel(network, X)
    part = gt.limit_kernel(network, X[:1], X[1:])
    single = gt.limit_kernel(network, X, dtype=np.float32)
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(part[key], whole[key][:, :1, 1:], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(single[key], whole[key], rtol=2e-5, atol=2e-5)
        assert single[key].dtype == np.float32
