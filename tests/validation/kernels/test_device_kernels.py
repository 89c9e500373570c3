"""Limit kernels by torch, against the engine; on a GPU where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
import graphon_validation as gv
from tests.validation.other_device import CUDA, NAME, OtherDevice

STEP = gt.StepGraphon([[0.9, 0.1, 0.3], [0.2, 0.6, 0.4]], [0, 0.3, 1], [0, 0.5, 0.8, 1])
TALL = gt.StepGraphon([[0.5, 0.9], [0.2, 0.7], [0.8, 0.3]])
NETWORKS: dict[str, gt.Network] = {
    "constants": gt.Network([1.0, 0.3, 0.5, 1.0], bias_variance=0.1),
    "steps": gt.Network([STEP, TALL, STEP], "erf", 1.5, 0.1),
    "own variances": gt.Network([gt.Connectivity(STEP, TALL), gt.magnitude_pruning(0.3), 1.0], "leaky_relu", 2.0, 0.2),
    "analytic, outputs": gt.Network(["0.2 + 0.5*u*v", "0.5 + 0.3*u", STEP], "abs", 1.0, outputs=2),
    "torch's": gt.Network(
        [0.5, TALL, 1.0], "relu", [2.0, 1.0, 1.0], 0.1, parameterization="standard", widths=[5, 40, 30]
    ),
    "linear": gt.Network([STEP, 0.4], "identity", 2.0, 0.3),
}


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_are_those_of_the_engine(name: str, device: str) -> None:
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((13, 5)), rng.standard_normal((7, 5))
    x[3], x[4] = 0.0, x[5] * (1 + 1e-9)
    network = NETWORKS[name]
    for pair in ((x, None), (x, new)):
        right = gt.limit_kernel(network, *pair)
        for dtype, rtol in (("float64", 1e-13), ("float32", 2e-6)):
            found = gv.device_kernel(network, *pair, device=device, dtype=dtype, tile=5)
            for kernel in ("nngp", "ntk"):
                assert found[kernel].dims == right[kernel].dims
                assert found[kernel].dtype == dtype
                size = float(np.abs(right[kernel]).max())
                np.testing.assert_allclose(found[kernel], right[kernel], rtol=0, atol=rtol * size)
        assert found.attrs["device"] == device
        assert found.attrs["network"] == right.attrs["network"]


def test_nothing_is_left_on_the_device() -> None:
    x = np.random.default_rng(1).standard_normal((6, 5))
    with OtherDevice():
        found = gv.device_kernel(NETWORKS["steps"], x, device=NAME, dtype="float64")
    np.testing.assert_allclose(found.ntk, gt.limit_kernel(NETWORKS["steps"], x).ntk, rtol=1e-12)


def test_what_it_does_not_know_is_refused() -> None:
    x = np.eye(3)
    refused: dict[str, tuple[type[Exception], dict[str, Any]]] = {
        "use gt.limit_kernel": (
            gt.NetworkError,
            {"network": gt.Network([gt.Dense(0.5), gt.Residual(gt.Pointwise("relu"), gt.Dense(0.5)), gt.Dense(0.5)])},
        ),
        "without drift": (gt.NetworkError, {"network": gt.Network([gt.Connectivity(0.5, 0.5, 0.1), 0.5])}),
        "activation: expected relu": (gt.NetworkError, {"network": gt.Network([0.5, 0.5], "tanh")}),
        "device: expected one": (gt.InputError, {"device": "nowhere"}),
        "tile: expected": (gt.InputError, {"tile": 0}),
    }
    for match, (error, options) in refused.items():
        with pytest.raises(error, match=match):
            gv.device_kernel(**{"network": gt.Network([0.5, 0.5]), "x": x, "device": "cpu", **options})
