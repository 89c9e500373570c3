"""Spectra over densities at a size for tests: what is tabled is what kernels give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.spectrum_experiments import BATCH, QUICK, spectrum_experiment


def test_finite_and_limit_are_those_of_the_networks(tmp_path: Path) -> None:
    options = {**QUICK, "progress": False, "console": Console(quiet=True)}
    found = spectrum_experiment(tmp_path, ("random", "snip"), (0.5, 0.2), **options)
    assert found.log_eigenvalue.dims == ("pruning", "density", "seed", "side", "mode")
    x, labels = digits()
    model = gv.dense((64, 32, 32, 10), [1, 32])
    gv.prune(model, "random", 0.2, (x[:BATCH], labels[:BATCH]), rng=[1, 32, 1])
    probe = x[BATCH : BATCH + 40]
    finite = np.linalg.eigvalsh(gv.empirical_kernel(model, probe).ntk.values[0])[::-1] / 40
    law = gt.Network([float(mask.double().mean()) for mask in model.masks])
    limit = np.linalg.eigvalsh(gt.limit_kernel(law, probe).ntk.values)[::-1] / 40
    for side, values in (("finite", finite), ("limit", limit)):
        one = found.sel(pruning="random", density=0.2, side=side).isel(seed=1)
        np.testing.assert_allclose(one.log_eigenvalue, np.log(values[:10]), rtol=1e-9, atol=1e-9)
        assert float(one.energy10) == pytest.approx(values[:10].sum() / values.sum(), rel=1e-10)
        assert float(one.effective_rank) == pytest.approx(values.sum() / values[0], rel=1e-10)
        assert float(one.gap) == pytest.approx(values[0] / values[1], rel=1e-10)
    again = spectrum_experiment(tmp_path, ("random", "snip"), (0.5, 0.2), **options)
    assert again.identical(found)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--quick", "--methods", "magnitude", "--densities", "0.3"]
    assert main(["spectrum", "--out", str(tmp_path), *options]) == 0
    assert "top-10 energy, finite against limit" in capsys.readouterr().out
    assert (tmp_path / "spectrum.png").exists()
    with pytest.raises(InputError, match="densities: expected at least one, all different"):
        spectrum_experiment(tmp_path, densities=[0.3, 0.3])
