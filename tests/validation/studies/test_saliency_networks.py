"""Networks pruned by SNIP against gt.saliency_network (THEORY §10)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import graphon_theory as gt
import graphon_validation as gv
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.saliency_experiments import saliency_experiment


@pytest.mark.parametrize(
    ("loss", "bias"),
    [
        ("cross_entropy", 0.3),
        pytest.param("cross_entropy", 0.0, marks=pytest.mark.slow),
        pytest.param("squared", 0.0, marks=pytest.mark.slow),
    ],
)
def test_every_layer_keeps_what_the_limit_says(loss: str, bias: float) -> None:
    """Densities by layer on the scale of the real widths: z-scores over networks and limits, and not all alike."""
    x, labels = digits()
    x, y = x[:150], labels[:150] if loss == "cross_entropy" else np.eye(10)[labels[:150]]
    widths, density, seeds = (64, 384, 256, 10), 0.1, 10
    dense = gt.Network([1.0] * 3, bias_variance=bias, outputs=10)
    own, limit = np.empty((seeds, 3)), np.empty((seeds, 3))
    for seed in range(seeds):
        model = gv.dense(widths, seed, bias_variance=bias, dtype=torch.float32)
        gv.prune(model, "snip", density, (x, y), loss=loss)
        own[seed] = [float(mask.double().mean()) for mask in model.masks]
        network = gt.saliency_network(dense, x, y, density, widths, loss=loss, positions=384, rng=seed)
        limit[seed] = [layer.mask.mean() for layer in network.layers]
    error = np.hypot(own.std(0, ddof=1), limit.std(0, ddof=1)) / np.sqrt(seeds)
    gap = limit.mean(0) - own.mean(0)
    # beyond the noise of both, 3% for what finite widths leave
    assert (np.abs(gap) < 4 * error + 0.03 * own.mean(0)).all()
    assert own.mean(0)[0] > 2 * own.mean(0)[1]
    assert own.mean(0)[2] > 3 * own.mean(0)[1]


@pytest.mark.slow
def test_own_weights_have_the_limit_that_knows_them(tmp_path: Path) -> None:
    found = saliency_experiment(tmp_path, 0.2, (1024,), 8)
    ratio, error = float(found.ratio[0]), float(found.ratio_error[0])
    assert abs(ratio - 1) < 3 * error + 0.05
    trace = found.trace.mean("seed").isel(width=0)
    assert float(trace.sel(kind="own") / trace.sel(kind="(W, V)")) > 3  # what (W, V) says of such masks
    energy = found.energy.mean("seed").isel(width=0)
    assert abs(float(energy.sel(kind="own") - energy.sel(kind="limit"))) < 0.03
    assert float(energy.sel(kind="own") - energy.sel(kind="(W, V)")) > 0.05


def test_the_experiment_runs_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--widths", "48", "--seeds", "3", "--hidden", "1", "--positions", "48", "--out", str(tmp_path)]
    assert main(["saliency", *options]) == 0
    assert (tmp_path / "saliency-relu-cross_entropy-0.2.nc").exists()
    printed = capsys.readouterr().out
    assert "own / limit" in printed
    assert "SNIP, width 48" in printed  # whether (W, V) applies
