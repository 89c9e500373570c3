"""Masks in time at a size for tests: SynFlow's rounds stopped on the way are its rounds, and densities are as due."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphon_validation as gv
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.mask_path_experiments import MAKERS, mask_path_experiment


def test_rounds_that_stop_on_the_way_are_those_of_prune() -> None:
    one, other = (gv.dense((8, 40, 40, 40, 3), 1) for _ in range(2))
    (masks, _), *_, (last, _) = MAKERS["synflow"](one, (None, None), 0.2, 40, 0)
    gv.prune(other, "synflow", 0.2, layers=[1, 2], rounds=100)
    assert all(mask.all() for mask in masks)
    for mine, theirs in zip(last, other.masks, strict=True):
        np.testing.assert_array_equal(mine, theirs.numpy())


@pytest.mark.slow
def test_the_command_gives_paths(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["graphon-paths", "--quick", "--out", str(whole)]) == 0
    assert main(["graphon-paths", "--quick", "--out", str(halves), "--kinds", "rigl"]) == 0
    assert main(["graphon-paths", "--quick", "--out", str(halves)]) == 0
    found = load_dataset(whole / "graphon-paths.nc")
    assert load_dataset(halves / "graphon-paths.nc").identical(found)
    pruned = found.density.sel(kind=["synflow", "imp"]).mean("layer")
    np.testing.assert_allclose(pruned, 0.1 ** np.broadcast_to(found.time, pruned.shape), rtol=0.02)
    rewired = found.sel(kind=["set", "rigl"])
    np.testing.assert_allclose(rewired.density, 0.1, rtol=0.02)
    assert (rewired.changed.isel(time=slice(1, None)) > 0).all()
    assert (found.energy > 0.3).all()
    assert (whole / "graphon-paths.png").exists()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kinds: expected one of synflow, imp, set, rigl"):
        mask_path_experiment(tmp_path, ["snip"])
