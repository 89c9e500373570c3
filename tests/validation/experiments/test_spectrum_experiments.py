"""Spectra over densities at a size for tests: what is tabled is what kernels give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.spectrum_experiments import BATCH, spectrum_experiment


def test_the_command_gives_spectra_of_networks_and_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["spectrum", "--quick", "--out", str(tmp_path), "--methods", "random", "snip", "--densities", "0.2"]
    assert main(arguments) == 0
    assert "top-10 energy, finite against limit" in " ".join(capsys.readouterr().out.split())
    found = load_dataset(tmp_path / "spectrum.nc")
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
    files = sorted((tmp_path / "parts").iterdir())
    assert len(files) == 4
    assert main(arguments) == 0
    assert load_dataset(tmp_path / "spectrum.nc").identical(found)
    assert (tmp_path / "spectrum.png").exists()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="densities: expected at least one, all different"):
        spectrum_experiment(tmp_path, densities=[0.3, 0.3])
    with pytest.raises(InputError, match="methods: expected at least one, all different"):
        spectrum_experiment(tmp_path, ["snip", "snip"])
