"""Designed masks against others at a size for tests: budgets, signals, predictions, and runs that were killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from rich.console import Console

import graphon_theory as gt
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments import design_experiments
from graphon_validation.experiments.contenders import CONTENDERS, Arena, balance, contender, dead_units
from graphon_validation.experiments.design_experiments import design_experiment, moments
from graphon_validation.experiments.tasks import TASKS, task

SMALL: dict[str, Any] = {**design_experiments.QUICK, "width": 24, "steps": 12, "train": 30, "progress": False}
METHODS = ("designed", "magnitude", "snip")


@pytest.fixture(scope="module")
def arena() -> Arena:
    return Arena(task("groups", train=30), 40, 0.3, steps=8, share=0.5)


@pytest.mark.parametrize("method", [name for name in CONTENDERS if name != "designed"])
def test_contenders_keep_one_budget_and_signals_of_variance_one(method: str, arena: Arena) -> None:
    model = contender(method, arena, 1)
    kept = sum(int(mask.sum()) for mask in model.masks)
    size = sum(mask.numel() for mask in model.masks)
    assert kept == size if method == "dense" else abs(kept - round(0.3 * size)) <= len(model.masks)
    # as the docstring says, by plain loops: inputs of the task's mean square, ReLU senders of variance 1, or of the
    # bias alone
    sent = [arena.task.mean_square] * 20
    for layer in model.linears:
        weight = (layer.weight * layer.mask).detach().double().numpy()
        heard = [2.0 / len(sent) * sum(w**2 * s for w, s in zip(row, sent, strict=True)) for row in weight]
        alive = [value > 0 for value in heard]
        np.testing.assert_allclose([h for h, a in zip(heard, alive, strict=True) if a], 0.9, rtol=1e-5)
        sent = [0.5 if a else 0.05 for a in alive]


def test_balance_leaves_masks_and_receivers_without_connections(arena: Arena) -> None:
    model = contender("random", arena, 0)
    with torch.no_grad():
        model.masks[1][3] = False
    before = model.weights[1][3].clone()
    masks = [mask.clone() for mask in model.masks]
    assert dead_units(model)[1] == 1 + int((~model.masks[2].any(0)).sum()) - int(not model.masks[2][0, 3])
    balance(model, 1.0)
    assert torch.equal(model.weights[1][3], before)
    assert all(torch.equal(a, b) for a, b in zip(model.masks, masks, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    folder = tmp_path_factory.mktemp("whole")
    return design_experiment(folder, "groups", 0.4, methods=METHODS, console=Console(quiet=True), **SMALL)


def test_the_experiment_ends_alike_when_it_was_killed(
    whole: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whole.test_error.dims == ("pruning", "seed", "time")
    assert list(whole.time.values) == moments(12)
    np.testing.assert_allclose(whole.test_error.isel(time=0), whole.attrs["guess"], rtol=1e-5)  # f(0) is taken off
    assert not np.array_equal(whole.loss.isel(seed=0), whole.loss.isel(seed=1))
    made, quiet = design_experiments._measured, Console(quiet=True)
    count = 0

    def dies(*arguments: Any) -> xr.Dataset:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return made(*arguments)

    monkeypatch.setattr(design_experiments, "_measured", dies)
    with pytest.raises(KeyboardInterrupt):
        design_experiment(tmp_path, "groups", 0.4, methods=METHODS, console=quiet, **SMALL)
    assert not list(tmp_path.glob("design-*"))
    again = design_experiment(tmp_path, "groups", 0.4, methods=METHODS, console=quiet, **SMALL)
    assert count == 7  # three before it died, three after
    assert again.identical(whole)
    for name in ("design-groups-0.4.nc", "design-groups-0.4.png"):
        assert (tmp_path / name).exists()


def test_predictions_are_gradient_descent_in_the_limit(whole: xr.Dataset) -> None:
    assert np.isnan(whole.predicted.sel(pruning="snip")).all()
    one = task("groups", train=30)
    law = gt.magnitude_pruning(0.4)
    magnitude = gt.balanced(gt.Network([law, law, law], bias_variance=0.1), one.mean_square, by="position")
    for method, network in (("magnitude", magnitude), ("designed", gt.Network.from_toml(whole.attrs["network"]))):
        kernel, crossed = gt.limit_kernel(network, one.x).ntk, gt.limit_kernel(network, one.x_test, one.x).ntk
        curve = gt.gradient_descent(
            kernel,
            one.y[:, 0],
            moments(12),
            learning_rate=0.8 * gt.critical_learning_rate(kernel),
            test_kernel=crossed,
            y_test=one.y_test[:, 0],
        )
        np.testing.assert_allclose(whole.predicted.sel(pruning=method), 2 * curve.test_loss, rtol=1e-10)


def test_the_command_prints_all_methods_and_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--task", "teacher", "--quick", "--methods", "designed", "random", "erk"]
    assert main(["design", "--out", str(tmp_path), *options]) == 0
    printed = capsys.readouterr().out
    assert "ERK" in printed
    assert "Held out in the design: gain" in " ".join(printed.split())
    assert main(["design", "--out", str(tmp_path), "--widths", "8", "16"]) == 1


@pytest.mark.parametrize("name", [name for name in TASKS if name != "isotropic"])
def test_tasks_are_centred_and_the_same_for_a_seed(name: str) -> None:
    one, two, other = task(name, train=50), task(name, train=50), task(name, seed=1, train=50)
    assert np.array_equal(one.x, two.x)
    assert np.array_equal(one.y_test, two.y_test)
    assert not np.array_equal(one.x, other.x)
    assert len(one.x) == len(one.y) == 50
    assert len(one.x_test) == len(one.y_test) <= 1000
    np.testing.assert_allclose(one.y.mean(0), 0, atol=1e-12)
    assert one.guess == pytest.approx(float((one.y_test**2).sum(1).mean()))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="methods: expected at least one, all different"):
        design_experiment(tmp_path, methods=("random", "random"))
    with pytest.raises(InputError, match="train: expected 2 to 568 inputs of 'breast_cancer' to train on, got 569"):
        task("breast_cancer", train=569)
