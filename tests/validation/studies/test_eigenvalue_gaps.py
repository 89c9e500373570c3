"""ln gaps between magnitude and random pruning: the law, by hand where a path integral gives it, and networks."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import graphon_theory as gt
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import upsampled_digits
from graphon_validation.experiments.sweep_experiments import magnitude_gap_experiment
from graphon_validation.studies.eigenvalue_gaps import SETTINGS, Setting, eigenvalue_gaps, gap_table, limit_networks
from tests.validation.helpers import inputs

DEPTH = 5
RATIO = gt.magnitude_pruning(0.2).variance.mean() / 0.2


def predicted(setting: Setting, x: np.ndarray) -> np.ndarray:
    """ln gaps of all eigenvalues and, last, of the trace."""
    widths = (x.shape[1], *[1024] * (DEPTH - 1), 10)
    values = [np.linalg.eigvalsh(gt.limit_kernel(one, x).ntk)[::-1] for one in limit_networks(setting, 0.2, widths)]
    gaps = [np.log(b / a) for a, b in (values, [v.sum(keepdims=True) for v in values])]
    return np.concatenate(gaps)


def test_all_layers_pruned_is_the_path_integral() -> None:
    """Every layer's NTK has V in all layers but itself: one factor (V / W)^(L - 1), 4.71 for the logarithm."""
    gaps = predicted(Setting("all"), inputs(20, 784))
    np.testing.assert_allclose(gaps, (DEPTH - 1) * math.log(RATIO), rtol=1e-9)
    assert gaps[0] == pytest.approx(4.714, abs=1e-3)


def test_a_dense_output_makes_it_a_mixture() -> None:
    """Layers 1 to 4 have one V less than the output, r^3 and r^4; on the diagonal ReLU gives every layer the same."""
    gaps = predicted(Setting("output dense", output_dense=True), upsampled_digits(64))
    trace = math.log((4 * RATIO**3 + RATIO**4) / 5)
    assert gaps[-1] == pytest.approx(trace, rel=1e-9)
    assert gaps[0] == pytest.approx(4.11, abs=0.03)  # the output's kernel has more of the largest eigenvalue
    assert ((gaps[1:10] > 3 * math.log(RATIO)) & (gaps[1:10] < trace)).all()
    assert gaps[1:10].min() > 3.68
    assert gaps[1:10].max() < 3.79


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "normal"])
def test_networks_of_width_1024_have_the_predicted_gaps(kind: str) -> None:
    x = upsampled_digits(64) if kind == "digits" else inputs(64, 784)
    found = eigenvalue_gaps(x, widths=(784, *[1024] * 4, 10), seeds=range(12))
    trace = found.sel(quantity="trace")
    assert np.abs(trace.z).max() < 4
    assert (trace.error < 0.06).all()
    # the settings differ by more than errors: a prediction of another one is refused
    for wrong in (1, 2):
        off = trace.measured.values - np.roll(trace.predicted.values, wrong)
        assert (np.abs(off / trace.error.values) > 4).all()
    later = found.gap.isel(quantity=slice(2, None)).mean("quantity")
    z = (later.mean("seed") - found.predicted.isel(quantity=slice(2, None)).mean("quantity")) / (
        later.std("seed", ddof=1) / math.sqrt(12)
    )
    assert np.abs(z).max() < 4


def test_gaps_are_differences_over_seeds(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120, record=True)
    found = magnitude_gap_experiment(tmp_path, [48], 3, samples=12, console=console)
    text = console.export_text()
    assert "eigenvalues 2-10" in text
    assert "output dense" in text
    one = found[48, "digits"]
    assert one.gap.shape == (len(SETTINGS), 3, 11)
    np.testing.assert_allclose(one.measured, one.gap.mean("seed"))
    np.testing.assert_allclose(one.error, one.gap.std("seed", ddof=1) / math.sqrt(3))
    np.testing.assert_allclose(one.z, (one.measured - one.predicted) / one.error)
    # much of the gap is there in narrow networks already; its sign always is
    assert (one.gap > 1).all()
    assert load_dataset(tmp_path / "magnitude-gap-48-normal.nc").gap.shape == one.gap.shape


def test_the_command_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["magnitude-gap", "--out", str(tmp_path), "--widths", "16", "--seeds", "3"]) == 0
    assert "ln gap magnitude - random, width 16, normal inputs" in capsys.readouterr().out
    with pytest.raises(InputError, match="at least 3 seeds and 10 inputs, got 2"):
        eigenvalue_gaps(inputs(12, 784), widths=(784, 8, 8, 1), seeds=range(2))
    small = eigenvalue_gaps(inputs(12, 9), widths=(9, 60, 60, 1), seeds=range(3), settings=SETTINGS[:1])
    assert gap_table(small, "one output").row_count == 2
