"""The search for the best rate, the rules, and the experiment at a size for tests."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.transfer_experiments import (
    DENSITIES,
    LAWS,
    QUICK,
    RULES,
    _Setting,
    best_rate,
    transfer_experiment,
)


@pytest.mark.parametrize("least", [1.0, 3.7, 0.013, 900.0])
def test_the_best_rate_of_a_loss_with_a_cliff(least: float) -> None:
    """A parabola in the logarithm is found exactly, and the cliff beyond the least does no harm."""

    def loss(rate: float) -> float:
        return math.inf if rate > 4 * least else math.exp(math.log(rate / least) ** 2 - 3)

    rate, found = best_rate(loss)
    assert rate == pytest.approx(least, rel=1e-9)
    assert found == pytest.approx(math.exp(-3), rel=0.01)


def test_a_cliff_right_after_the_least() -> None:
    """Just below it, to a quarter of an octave."""
    rate, _ = best_rate(lambda rate: math.inf if rate > 5 else 1 / rate)
    assert 5 / 2**0.25 < rate <= 5
    with pytest.raises(InputError, match="least at a rate beyond"):
        best_rate(lambda rate: 1 / rate)


@pytest.mark.parametrize("law", LAWS)
def test_rules_by_hand(law: str) -> None:
    """W / V of magnitude masks and 1/density of random ones; two pruned layers between dense ones."""
    p = 0.2
    setting = _Setting(law, p, (6, 48, 48, 48, 1))
    model = setting.model(0)
    assert [bool(mask.all()) for mask in model.masks] == [True, False, False, True]
    kept = sum(int(mask.sum()) for mask in model.masks[1:3])
    assert abs(kept - round(p * 2 * 48**2)) <= 1
    assert setting.rule("none", model, 1.0) == ([2.0] * 4, [1.0] * 4)
    assert setting.rule("1/density", model, 1.0) == ([2.0, 2 / p, 2 / p, 2.0], [1.0] * 4)
    variances, factors = setting.rule("transfer", model, 1.0)
    mask, variance = p, p
    if law == "magnitude":
        variance = float(gt.magnitude_pruning(p).variance.mean())
    if law in ("random", "magnitude"):
        np.testing.assert_allclose(variances, [2.0, 2 / variance, 2 / variance, 2.0], rtol=1e-9)
    if law == "random":
        np.testing.assert_allclose(factors, 1.0, rtol=1e-9)
    if law == "magnitude":
        assert 1 < factors[1] < variance / mask  # biases have a share that needs no factor
    assert all(np.isfinite(factors))


def test_the_command_finds_what_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["transfer", "--quick", "--out", str(tmp_path), "--laws", "magnitude", "--optimizers", "gd"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "gradient descent: largest drift by rule: none" in " ".join(printed.split())
    found = load_dataset(tmp_path / "transfer.nc")
    assert found.best_rate.dims == ("optimizer", "rule", "pruning", "density", "seed")
    rates = found.best_rate.isel(optimizer=0, pruning=0, seed=0)
    np.testing.assert_allclose(found.drift.isel(optimizer=0, pruning=0), rates.max("density") / rates.min("density"))
    assert (found.best_loss < 0.5).all()  # half the mean square of the targets, which are of variance 1
    files = sorted((tmp_path / "parts").iterdir())
    assert len(files) == len(RULES) * len(QUICK["densities"])
    assert main(arguments) == 0
    assert load_dataset(tmp_path / "transfer.nc").identical(found)
    assert sorted((tmp_path / "parts").iterdir()) == files
    assert (tmp_path / "transfer.png").exists()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="densities: expected at least two"):
        transfer_experiment(tmp_path, densities=[0.5])
    with pytest.raises(InputError, match="laws"):
        transfer_experiment(tmp_path, laws=["erk"])
    assert DENSITIES[-1] == 0.02
