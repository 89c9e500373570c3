"""The same numbers on a CUDA device; skipped where there is none (``pytest -m gpu`` runs only these)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import graphon_theory as gt
import graphon_validation as gv
from tests.validation.helpers import inputs, random_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]
NETWORK = gt.Network([1.0, 0.3, gt.StepGraphon([[0.9, 0.2], [0.1, 0.6]]), 1.0], bias_variance=0.1, outputs=3)
WIDTHS = (5, 70, 60, 50, 3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_networks_and_kernels_agree(dtype: torch.dtype, tolerance: float) -> None:
    here, there = (gv.build(NETWORK, WIDTHS, 3, device, dtype) for device in ("cpu", "cuda"))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here.weights, there.weights, strict=True))
    for x2 in (None, inputs(4, 5, seed=1)):
        one = gv.empirical_kernel(here, inputs(40, 5), x2, per_layer=True).ntk_layer.values
        two = gv.empirical_kernel(there, inputs(40, 5), x2, per_layer=True).ntk_layer.values
        np.testing.assert_allclose(one, two, rtol=0, atol=tolerance * np.abs(one).max())


@pytest.mark.parametrize("method", ["random", "magnitude", "snip", "grasp", "synflow", "ntk_sap"])
def test_masks_agree(method: str) -> None:
    data = (inputs(30, 5), np.arange(30) % 3)
    masks = []
    for device in ("cpu", "cuda"):
        model = random_model(WIDTHS, (1.0,) * 4, "erf").to(device)
        gv.prune(model, method, 0.3, data, rng=0)
        masks.append([mask.cpu() for mask in model.masks])
    changed = sum(int((a ^ b).sum()) for a, b in zip(*masks, strict=True))
    assert changed <= 4  # sums in another order move a score at the threshold by a rounding


def test_sign_tests_and_protocols_run_there() -> None:
    model = gv.prune(gv.dense((5, 200, 200, 3), 0, device="cuda"), "magnitude", 0.3)
    found = gv.applicability(model, inputs(20, 5))
    assert (np.abs(found.z) < 4).all()
    for protocol in ("redrawn", "signs", "own"):
        assert gv.apply_protocol(model, protocol, 0).weights[0].is_cuda
    assert gv.theories(model, blocks=2)


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_training_agrees(optimizer: str) -> None:
    data = (inputs(30, 5), np.arange(30) % 3)
    options: dict[str, Any] = {"steps": 20, "learning_rate": 0.05, "loss": "cross_entropy", "optimizer": optimizer}
    here = gv.prune(gv.dense((5, 40, 3), 0), "random", 0.4, rng=0)
    there = copy.deepcopy(here).to("cuda")
    plan = gv.Rewiring("rigl", every=6, until=20)
    one, two = (gv.train(model, data, rewiring=plan, progress=False, **options) for model in (here, there))
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-6)
