"""The training experiment at a size for tests: what it returns is what training and kernels give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import graphon_validation as gv
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.training_experiments import PROBES, SCORED, training_experiment


def trained(*arguments: Any, **options: Any) -> xr.Dataset:
    found = training_experiment(*arguments, **options)
    assert found is not None
    return found


@pytest.mark.slow
def test_the_command_gives_losses_and_kernels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--methods",
        "random",
        "magnitude",
        "--densities",
        "0.3",
        "--widths",
        "32",
        "--seeds",
        "2",
        "--learning-rate",
        "1e-3",
    ]
    assert main(["training", "--out", str(tmp_path), "--hidden", "2", "--data", "digits", *options]) == 0
    printed = capsys.readouterr().out
    assert "rank correlation" in printed
    with xr.open_dataset(tmp_path / "training.nc") as found:
        assert found.loss.dims == ("pruning", "density", "width", "seed", "time")
        assert (found.loss.diff("time") < 0).all()
        assert (found.trace.sel(pruning="magnitude") > 3 * found.trace.sel(pruning="random")).all()
        x, labels = digits()
        held = np.arange(len(x)) % 5 == 0
        model = gv.dense((64, 32, 32, 10), [1, 32], init="he")
        gv.prune(model, "magnitude", 0.3, (x[~held][:SCORED], labels[~held][:SCORED]), rng=[1, 32, 1])
        kernel = gv.empirical_kernel(model, x[held][:PROBES]).ntk.sum("output").values
        one = found.sel(pruning="magnitude", density=0.3, width=32).isel(seed=1)
        assert float(one.trace) == pytest.approx(np.trace(kernel), rel=1e-12)
        assert float(one.energy10) == pytest.approx(np.linalg.eigvalsh(kernel)[-10:].sum() / np.trace(kernel))


def test_the_same_seeds_give_the_same_curves(tmp_path: Path) -> None:
    one, two = (trained(tmp_path, ["snip"], [0.4], (16,), 2, hidden=1, learning_rate=1e-2) for _ in range(2))
    assert one.equals(two)
    assert not np.array_equal(one.loss.isel(seed=0), one.loss.isel(seed=1))


@pytest.mark.slow
def test_every_step_at_every_rate_is_kept(tmp_path: Path) -> None:
    x, labels = digits()
    few: dict[str, Any] = {"hidden": 1, "data": (x[:150], labels[:150]), "source": "150 digits", "progress": False}
    rates, quiet = [1e-3, 1e-2], Console(quiet=True)
    found = trained(tmp_path, ["random"], [0.2], (16,), 2, learning_rate=rates, console=quiet, **few)
    assert found.curve.dims == ("rate", "pruning", "density", "width", "seed", "step")
    assert found.step.values.tolist() == list(range(201))
    np.testing.assert_array_equal(found.loss, found.curve.isel(rate=0).sel(step=found.time.values))
    assert (found.curve.isel(step=-1, rate=1) < found.curve.isel(step=-1, rate=0)).all()
    again = trained(tmp_path, ["random"], [0.2], (16,), 2, learning_rate=rates, console=quiet, **few)
    assert again.identical(found)
    assert len(list((tmp_path / "parts").iterdir())) == 2 + 4
    one = trained(tmp_path / "one", ["random"], [0.2], (16,), 2, learning_rate=1e-2, console=quiet, **few)
    np.testing.assert_array_equal(one.loss, found.curve.sel(rate=1e-2, step=found.time.values))


@pytest.mark.slow
def test_processes_share_the_work_and_dense_networks_train_too(tmp_path: Path) -> None:
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    for method in ("random", "snip"):
        assert main(["training", "--quick", "--out", str(shared), "--methods", method, "--only", "networks"]) == 0
    assert not (shared / "training.nc").exists()
    for folder in (shared, alone):
        assert main(["training", "--quick", "--out", str(folder), "--methods", "random", "snip"]) == 0
    with xr.open_dataset(shared / "training.nc") as one, xr.open_dataset(alone / "training.nc") as other:
        assert one.identical(other)
        assert one.dense.dims == ("rate", "width", "seed", "step")
        assert (one.dense[..., -1] < one.curve.sel(pruning="random")[..., -1]).all()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeds: expected at least 2, got 1"):
        training_experiment(tmp_path, ["random"], [0.4], (16,), 1)
    with pytest.raises(InputError, match="methods: expected at least one, all different"):
        training_experiment(tmp_path, ["random", "random"], [0.4], (16,), 2)
