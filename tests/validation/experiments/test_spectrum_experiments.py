"""Spectra over densities at a size for tests: what is tabled is what kernels give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.spectrum_experiments import BATCH, spectrum_experiment


@pytest.mark.slow
def test_the_command_gives_spectra_of_networks_and_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["spectrum", "--quick", "--out", str(tmp_path), "--methods", "random", "snip"]
    assert main([*arguments, "--only", "limits"]) == 0
    assert not (tmp_path / "spectrum.nc").exists()
    assert main(arguments) == 0
    assert "top-10 energy, finite against limit" in " ".join(capsys.readouterr().out.split())
    found = load_dataset(tmp_path / "spectrum.nc")
    assert found.log_eigenvalue.dims == ("pruning", "density", "width", "seed", "side", "mode")
    assert len(list((tmp_path / "parts").iterdir())) == 8 + 4
    assert main(arguments) == 0
    assert load_dataset(tmp_path / "spectrum.nc").identical(found)
    assert (tmp_path / "spectrum.png").exists()


def test_sides_are_what_kernels_give(tmp_path: Path) -> None:
    few: dict[str, Any] = {"widths": [24], "samples": [40], "hidden": 2, "source": "digits", "progress": False}
    found = spectrum_experiment(tmp_path, ["random"], [0.3], 2, console=Console(quiet=True), **few)
    assert found is not None
    x, labels = digits()
    model = gv.dense((64, 24, 24, 10), [1, 24], init="he")
    gv.prune(model, "random", 0.3, (x[:BATCH], labels[:BATCH]), rng=[1, 24, 1])
    probe = x[BATCH : BATCH + 40]
    finite = np.linalg.eigvalsh(gv.empirical_kernel(model, probe).ntk.values[0])[::-1] / 40
    gv.prune(first := gv.dense((64, 24, 24, 10), [0, 24], init="he"), "random", 0.3, rng=[0, 24, 1])
    kept = [float(mask.double().mean()) for mask in first.masks]
    law = gt.Network(kept, parameterization="standard", widths=(64, 24, 24))
    limit = np.linalg.eigvalsh(gt.limit_kernel(law, probe).ntk.values)[::-1] / 40
    for side, values in (("finite", finite), ("few", finite), ("limit", limit)):
        one = found.sel(pruning="random", density=0.3, width=24, side=side).isel(seed=1)
        np.testing.assert_allclose(one.log_eigenvalue, np.log(values[:10]), rtol=1e-9, atol=1e-9)
        assert float(one.energy10) == pytest.approx(values[:10].sum() / values.sum(), rel=1e-10)
        assert float(one.effective_rank) == pytest.approx(values.sum() / values[0], rel=1e-10)
        assert float(one.gap) == pytest.approx(values[0] / values[1], rel=1e-10)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="densities: expected at least one, all different"):
        spectrum_experiment(tmp_path, densities=[0.3, 0.3])
    with pytest.raises(InputError, match="samples: expected 2 numbers, one for each width, got 1"):
        spectrum_experiment(tmp_path, samples=[100])
    with pytest.raises(InputError, match="only: expected one of networks, limits"):
        spectrum_experiment(tmp_path, only="both")
    with pytest.raises(InputError, match="methods: expected at least one, all different"):
        spectrum_experiment(tmp_path, ["snip", "snip"])
