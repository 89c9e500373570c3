"""Factorised saliency over densities: figures of kernels against plain linear algebra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.sequel_experiments import factorised, figures, sequel_experiment


def test_figures_are_those_of_plain_linear_algebra() -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((30, 40))
    kernel, y = factor @ factor.T, rng.standard_normal((30, 3))
    energy5, _, complexity, target, rank = figures(kernel, y, 0.05)
    scaled = kernel * 30 / np.trace(kernel)
    values = np.linalg.eigvalsh(scaled)[::-1]
    assert energy5 == pytest.approx(values[:5].sum() / 30)
    assert rank == pytest.approx(30 / values[0])
    solved = np.linalg.solve(scaled + 0.05 * np.eye(30), y)
    assert complexity == pytest.approx(float((y * solved).sum(0).mean() / 30))
    vectors = np.linalg.eigh(scaled)[1][:, ::-1][:, :10]
    assert target == pytest.approx(float(((vectors.T @ y) ** 2).sum(0).mean() / 30))


@pytest.mark.slow
def test_signals_keep_their_size_and_layers_their_density() -> None:
    network = factorised(2.0, 0.1, 64)
    assert [layer.mask.mean() for layer in network.layers] == pytest.approx([0.1, 0.1, 0.1, 1.0])
    x = digits()[0][:5]
    np.testing.assert_allclose(np.diag(gt.limit_kernel(network, x).nngp), 1, rtol=0.2)


@pytest.mark.slow
def test_the_command_stops_and_goes_on(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["sequel", "--quick", "--out", str(whole)]) == 0
    sequel_experiment(halves, [0.5], [0.0, 2.0], inputs=40, width=64, seeds=2, progress=False)
    assert main(["sequel", "--quick", "--out", str(halves)]) == 0
    one, other = (load_dataset(folder / "sequel.nc") for folder in (whole, halves))
    assert one.identical(other)
    assert (one.energy10 > one.energy5).all()
    assert (one.energy5.sel(density=0.05, strength=0.0) > one.energy5.sel(density=0.5, strength=0.0)).all()
    assert (whole / "sequel.png").exists()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="strengths: expected at least one, all different"):
        sequel_experiment(tmp_path, [0.5], [])
