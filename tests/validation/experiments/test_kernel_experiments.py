"""Kernels over widths at a size for tests: what is tabled is what compare and the drawn kernels give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from xarray import Dataset

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.kernel_experiments import INPUTS, _exponents, kernel_convergence_experiment, verdict


def test_powers_of_width_and_density_are_found_as_they_were_put_in() -> None:
    widths, densities = np.array([64, 256, 1024]), np.array([1.0, 0.5, 0.25, 0.1])
    spread = 3 * np.outer(widths**-0.5, densities**-0.2)
    found = _exponents(spread, widths, densities, 33)
    np.testing.assert_allclose(found["exponent"][1], [[-0.5, -0.2]] * 2, atol=1e-12)
    # the error of a slope: 1/8 for each logarithm, over the deviation of the logarithms of the widths
    n = np.log(widths)
    assert found["exponent_error"][1][0, 0] == pytest.approx(1 / 8 / np.sqrt(((n - n.mean()) ** 2).sum()))
    both = {"fit": ["all", "dense"], "power": ["width", "density"]}
    for power, said in ((0.0, "n, not n p, sets it"), (-0.5, "n p sets it")):
        exponents = _exponents(np.outer(widths**-0.5, densities**power), widths, densities, 200)
        assert said in verdict(Dataset({**exponents, "fitted_z": 1.0}, both))
    few = _exponents(spread[:2, :2], widths[:2], densities[:2], 3)
    assert "too few" in verdict(Dataset({**few, "fitted_z": 1.0}, both))


@pytest.mark.slow
def test_the_command_gives_what_kernels_are(tmp_path: Path) -> None:
    assert main(["kernel-convergence", "--quick", "--out", str(tmp_path)]) == 0
    found = load_dataset(tmp_path / "kernel-convergence.nc")
    x = digits()[0][:INPUTS]
    network = gt.Network([1.0, gt.random_pruning(0.5), gt.random_pruning(0.5), 1.0])
    traces = [
        float(np.trace(gv.empirical_kernel(gv.build(network, (64, 32, 32, 32, 1), [seed, 32]), x).ntk.values))
        for seed in range(6)
    ]
    own = float(found.trace_spread.sel(drawn_width=32, density=0.5))
    assert own == pytest.approx(np.std(traces, ddof=1) / np.mean(traces), rel=1e-10)
    model = gv.dense((64, 64, 64, 64, 1), [3, 64])
    gv.prune(model, "magnitude", 0.2, layers=[1, 2], scope="layer", rng=[3, 64, 1])
    law = gt.Network([1.0, gt.magnitude_pruning(0.2), gt.magnitude_pruning(0.2), 1.0])
    share = np.trace(gv.empirical_kernel(model, x).ntk.values) / np.trace(gt.limit_kernel(law, x).ntk.values)
    assert float(found.relative.sel(pruning="magnitude", protocol="own", width=64)[3]) == pytest.approx(share)
    halves = tmp_path / "halves"
    assert main(["kernel-convergence", "--quick", "--out", str(halves), "--methods", "magnitude"]) == 0
    assert main(["kernel-convergence", "--quick", "--out", str(halves)]) == 0
    assert load_dataset(halves / "kernel-convergence.nc").identical(found)
    assert (tmp_path / "kernel-convergence.png").exists()


def test_refusals(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"console": Console(quiet=True), "progress": False}
    with pytest.raises(InputError, match=r"densities: expected at least two from 0\.25 on"):
        kernel_convergence_experiment(tmp_path, densities=[0.5, 0.1], **quiet)
    with pytest.raises(InputError, match="methods: expected one of random, magnitude"):
        kernel_convergence_experiment(tmp_path, ["snip"], **quiet)
