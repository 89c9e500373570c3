"""Block densities over widths at a size for tests: tables are those of the estimator, distances those of tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.idx_data import load_data
from graphon_validation.experiments.mask_experiments import (
    BATCH,
    block_densities,
    mask_convergence_experiment,
    sorted_means,
    verdict,
)

QUIET = Console(quiet=True)


@pytest.mark.parametrize(("shape", "bins"), [((50, 37), 7), ((64, 64), 64), ((1500, 30), 30)])
def test_block_densities_are_those_of_the_estimator(shape: tuple[int, int], bins: int) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < np.linspace(0.1, 0.9, shape[1])
    found = block_densities(torch.from_numpy(mask), bins)
    np.testing.assert_allclose(found, gt.estimate_graphon(mask, bins, draws=0).values, rtol=1e-12, atol=0)


def test_sorted_means_are_means_of_sorted_densities() -> None:
    values = np.random.default_rng(1).random((7, 9))
    ordered = values[np.argsort(values.mean(1))][:, np.argsort(values.mean(0))]
    expected = [[ordered[a:b, c : c + 3].mean() for c in (0, 3, 6)] for a, b in ((0, 2), (2, 4), (4, 7))]
    np.testing.assert_allclose(sorted_means(values, 3), expected)


@pytest.mark.slow
def test_distances_are_those_of_tables_and_nulls_those_of_random_masks(tmp_path: Path) -> None:
    sizes = {"largest": 120, "hidden": 3, "bins": 8, "source": "digits", "console": QUIET, "progress": False}
    found = mask_convergence_experiment(tmp_path, ["random", "snip"], [0.2], [30, 60], 3, **sizes)  # type: ignore[arg-type]
    assert found is not None
    assert found.width.values.tolist() == [30, 60, 120]
    table = found.table.values.astype(float)
    apart = np.linalg.norm(table[:, :2] - table[:, 2:], axis=(-2, -1))
    np.testing.assert_allclose(found.distance.values[:, :2], apart, rtol=1e-5)
    assert np.isnan(found.distance.values[:, 2]).all()
    two = np.linalg.norm(table[:, :, [0, 0, 1]] - table[:, :, [1, 2, 2]], axis=(-2, -1)).mean(2)
    np.testing.assert_allclose(found.between, two, rtol=1e-5)
    model = gv.dense((64, 60, 60, 60, 10), [2, 60], init="he", dtype=torch.float32)
    x, labels = load_data("digits")
    gv.prune(model, "snip", 0.2, (x[:BATCH], labels[:BATCH]), rng=[2, 60, 1])
    own = gt.estimate_graphon(model.masks[2].numpy(), 8, draws=0).values
    np.testing.assert_allclose(found.table.sel(pruning="snip", layer=3).isel(setting=1, seed=2), own, rtol=1e-6)
    # masks that know nothing are as far apart as a constant graphon's
    random = found.sel(pruning="random").isel(setting=[0, 1])
    far = (random.distance.mean("seed") - random.null) / (random.null_error * 3**-0.5)
    assert abs(far).max() < 4
    assert "random" in verdict(found)


@pytest.mark.slow
def test_the_command_stops_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["mask-convergence", "--quick", "--out", str(whole)]) == 0
    assert "constant graphon" in capsys.readouterr().out
    few = ["mask-convergence", "--quick", "--out", str(halves)]
    assert main([*few, "--methods", "synflow", "--only", "networks"]) == 0
    assert not (halves / "mask-convergence.nc").exists()
    assert main(few) == 0
    one, other = (load_dataset(folder / "mask-convergence.nc") for folder in (whole, halves))
    assert one.identical(other)
    law = one.isel(setting=np.flatnonzero(one.width.values == one.width.values.max()))
    assert float(law.law_distance.max()) == 0
    assert np.isfinite(one.to_law).all()
    for name in ("mask-convergence.png", "mask-distances.png"):
        assert (whole / name).stat().st_size > 10_000


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"largest: expected .* got 100"):
        mask_convergence_experiment(tmp_path, widths=[100], largest=100)
    with pytest.raises(InputError, match=r"widths: .* at least 64"):
        mask_convergence_experiment(tmp_path, widths=[40])
    with pytest.raises(InputError, match="densities: expected at least one, all different"):
        mask_convergence_experiment(tmp_path, densities=[])
