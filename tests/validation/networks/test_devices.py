"""The same numbers on another device: on CUDA (``pytest -m gpu`` runs only these), and on a make-believe one."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphon_theory as gt
import graphon_validation as gv
from graphon_validation.experiments import design_experiments
from graphon_validation.experiments.contenders import Arena
from graphon_validation.experiments.tasks import task
from graphon_validation.pruning.scores import METHODS
from tests.validation import other_device
from tests.validation.helpers import inputs, random_model

NETWORK = gt.Network([1.0, 0.3, gt.StepGraphon([[0.9, 0.2], [0.1, 0.6]]), 1.0], bias_variance=0.1, outputs=3)
WIDTHS = (5, 70, 60, 50, 3)
DATA = (inputs(30, 5), np.arange(30) % 3)


class Generator(torch.Generator):
    """The make-believe device has none of its own."""

    def __new__(cls, device: Any = None) -> Generator:
        return super().__new__(cls)


@pytest.fixture(params=[other_device.CUDA, other_device.NAME])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pretended = request.param == other_device.NAME
    if pretended:
        monkeypatch.setattr(torch, "Generator", Generator)
    with other_device.OtherDevice() if pretended else contextlib.nullcontext():
        yield request.param


def test_two_devices_do_not_meet() -> None:
    with other_device.OtherDevice():
        there = torch.ones(2, 3, device=other_device.NAME)
        assert there.device.type == other_device.NAME
        assert float((2 * there).sum()) == 12
        with pytest.raises(RuntimeError, match="two devices"):
            there @ torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match="list"):
            there[[0, 1]]
        assert np.array_equal((there[0] + 1).cpu().numpy(), [2, 2, 2])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_networks_and_kernels_agree(device: str, dtype: torch.dtype, tolerance: float) -> None:
    here, there = (gv.build(NETWORK, WIDTHS, 3, place, dtype) for place in ("cpu", device))
    assert there.weights[0].device.type == device
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here.weights, there.weights, strict=True))
    for x2 in (None, inputs(4, 5, seed=1)):
        one = gv.empirical_kernel(here, inputs(40, 5), x2, per_layer=True).ntk_layer.values
        two = gv.empirical_kernel(there, inputs(40, 5), x2, per_layer=True).ntk_layer.values
        np.testing.assert_allclose(one, two, rtol=0, atol=tolerance * np.abs(one).max())


@pytest.mark.parametrize("count", [3, 60])
@pytest.mark.parametrize("patterns", [None, 3])
def test_every_route_of_the_kernel_agrees(device: str, count: int, patterns: int | None) -> None:
    here = random_model((5, 40, 300, 4), (1.0, 0.3, 0.8), patterns=patterns)
    there = copy.deepcopy(here).to(device)
    gv.choose_trained(there, ["all", "weights", "biases"])
    gv.choose_trained(here, ["all", "weights", "biases"])
    one, two = (gv.empirical_kernel(model, inputs(count, 5)).ntk.values for model in (here, there))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12 * np.abs(one).max())


@pytest.mark.parametrize("method", ["random", "magnitude", "snip", "grasp", "synflow", "ntk_sap", "imp"])
def test_masks_agree(device: str, method: str) -> None:
    options: dict[str, Any] = {"steps": 3, "learning_rate": 0.1, "loss": "cross_entropy"} if method == "imp" else {}
    masks = []
    for place in ("cpu", device):
        model = random_model(WIDTHS, (1.0,) * 4, "erf").to(place)
        rounds = min(3, METHODS[method].rounds)
        gv.prune(model, method, 0.3, DATA, rng=0, rounds=rounds, **options)
        masks.append([mask.cpu() for mask in model.masks])
    changed = sum(int((a ^ b).sum()) for a, b in zip(*masks, strict=True))
    assert changed <= 4  # sums in another order move a score at the threshold by a rounding


def test_sign_tests_and_protocols_run_there(device: str) -> None:
    model = gv.prune(gv.dense((5, 200, 200, 3), 0, bias_variance=0.1, device=device), "magnitude", 0.3)
    found = gv.applicability(model, inputs(20, 5))
    assert (np.abs(found.z) < 4).all()
    for protocol in ("redrawn", "signs", "own"):
        assert gv.apply_protocol(model, protocol, 0).weights[0].device.type == device
    assert gv.theories(model, blocks=2, input_rows=True)


def test_sampled_moments_agree(device: str) -> None:
    here = gv.prune(gv.dense((5, 60, 50, 3), 0, bias_variance=0.1), "magnitude", 0.3)
    there = copy.deepcopy(here).to(device)
    for readout in ("integrated", "drawn"):
        one, two = (
            gv.sampled_nngp(model, inputs(6, 5), seeds=range(3), protocol="signs", readout=readout)
            for model in (here, there)
        )
        np.testing.assert_allclose(one.nngp, two.nngp, rtol=0, atol=1e-12 * np.abs(one.nngp).max())


def test_contenders_train_alike(device: str) -> None:
    law = gt.balanced(gt.Network([0.5, 0.5, 0.5], bias_variance=0.1), by="position")
    for method in ("designed", "snip"):
        one, two = (
            design_experiments._measured(Arena(task("groups", train=12), 16, 0.5, 3, 0.5, device=place), method, 0, law)
            for place in ("cpu", device)
        )
        for name in ("loss", "test_error", "lazy", "kept"):
            np.testing.assert_allclose(one[name], two[name], rtol=1e-4)


@pytest.mark.parametrize("place", [other_device.CUDA])  # a sweep's threads know nothing of the make-believe device
def test_sweeps_agree(place: str) -> None:
    pruning: dict[str, Any] = {"method": "snip", "density": 0.1, "data": DATA, "layers": [1, 2]}
    one, two = (
        gv.width_sweep(
            NETWORK,
            inputs(4, 5),
            widths=(16,),
            seeds=range(2),
            prune=pruning,
            protocol="redrawn",
            device=one_place,
            progress=False,
        )
        for one_place in ("cpu", place)
    )
    np.testing.assert_allclose(one.ntk, two.ntk, rtol=0, atol=1e-10 * np.abs(one.ntk).max())


# torch takes the make-believe device for one without memory; what is copied there does arrive
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("optimizer", ["gd", "adam"])
@pytest.mark.parametrize("rewiring", ["set", "rigl"])
def test_training_agrees(device: str, optimizer: str, rewiring: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 20, "learning_rate": 0.05, "loss": "cross_entropy", "optimizer": optimizer}
    options["record"] = 1
    here = gv.prune(gv.dense((5, 40, 3), 0), "random", 0.4, rng=0)
    there = copy.deepcopy(here).to(device)
    plan = gv.Rewiring(rewiring, every=6, until=20)
    one = gv.train(here, DATA, rewiring=plan, progress=False, **options)
    kept: dict[str, Any] = {"checkpoint": tmp_path / "state.pt", "progress": False}
    gv.train(there, DATA, rewiring=plan, **{**options, "steps": 13}, **kept)
    two = gv.train(there, DATA, rewiring=plan, **options, **kept)
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-6)
    assert one.grown.equals(two.grown)
