"""Drawn networks with shortcuts and LayerNorm: the reduced sweep always, the whole one among the slow tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import graphon_validation as gv
from graphon_theory.arrays import FloatArray
from graphon_theory.data.files import load_dataset
from graphon_theory.networks.unit_values import equal_widths
from graphon_validation.commands import main
from graphon_validation.experiments.stage_experiments import (
    kernel_through,
    own_derivative,
    stage_experiment,
    staged_network,
)
from graphon_validation.experiments.sweep_experiments import gaussian_inputs
from graphon_validation.networks.masked_mlps import layer_moments


def assert_falls_like_one_over(widths: FloatArray, moved: FloatArray) -> None:
    """The slope of what is moved (widths, networks), is -1 within three errors; of logs, for tails."""
    logs = np.log(moved)
    reach = np.log(widths[-1] / widths[0])
    slope = (logs[-1].mean() - logs[0].mean()) / reach
    error = np.hypot(*logs[[0, -1]].std(axis=1, ddof=1)) / moved.shape[1] ** 0.5 / reach
    assert abs(slope + 1) < 3 * error
    assert error < 0.25


def test_the_command_writes_comparisons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "--out", str(tmp_path), "--widths", "32", "64", "--seeds", "6"]) == 0
    printed = capsys.readouterr().out
    assert "times the width" in printed
    for name in ("residual", "layer-norm", "scale-1"):
        saved = load_dataset(tmp_path / f"stages-{name}.nc")
        assert saved.ntk.shape == (2, 6, 6, 6)
        assert list(saved["quantity"].values) == ["trace", "[0, 0]", "[0, 5]", "[3, 5]"]
        if name != "scale-1":
            assert (np.abs(saved.z) < 6).all()  # six networks: Student's t, and O(1/n) bias at 32


@pytest.mark.parametrize("kind", ["residual", "layer-norm"])
def test_the_kernel_pair_by_pair_is_the_empirical_one(kind: str) -> None:
    x, network = gaussian_inputs(), staged_network(kind)
    model = gv.build(network, equal_widths(network, x.shape[1], 40), 3)
    want = gv.empirical_kernel(model, x).ntk.values
    np.testing.assert_allclose(kernel_through(model, x, layer_moments), want, rtol=1e-12)


def test_layer_norms_own_derivative_falls_like_one_over_the_width() -> None:
    """Held against nothing but itself in the same networks, so that no noise of seeds hides it."""
    moved = own_derivative(staged_network("layer-norm"), gaussian_inputs(), [32, 128, 512], 6)
    assert_falls_like_one_over(np.array([32, 128, 512]), moved)
    assert not own_derivative(staged_network("residual"), gaussian_inputs(), [32], 2).any()


@pytest.mark.slow
def test_the_whole_stage_sweep(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=110)
    found = stage_experiment(tmp_path, [256, 1024, 4096], 32, console=console)
    for name in ("residual", "layer-norm"):
        assert (np.abs(found[name].fitted_z) < 3).all()
        assert (np.abs(found[name].z) < 4).all()
    assert np.abs(found["scale-1"].z.sel(width=4096)).min() > 10
    assert_falls_like_one_over(np.array([256, 1024, 4096]), found["layer-norm"].own_derivative.values)
