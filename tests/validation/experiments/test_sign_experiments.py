"""Experiments on the sign test at a size for tests: what they return is what applicability gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import graphon_validation as gv
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.sign_experiments import (
    BATCH,
    PROBES,
    beyond,
    sign_score_experiment,
    sign_test_experiment,
)
from graphon_validation.studies.sign_tests import layer_signals


def test_the_sign_test_is_applicability(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--methods", "random", "snip", "--densities", "0.3", "--hidden", "2", "3", "--widths", "24", "40"]
    assert main(["sign-test", "--out", str(tmp_path), "--seeds", "2", *options]) == 0
    assert "snip" in capsys.readouterr().out
    found = xr.load_dataset(tmp_path / "sign-test.nc", engine="scipy")
    assert found.A.dims == ("pruning", "density", "hidden", "width", "seed", "layer")
    x, labels = digits()
    models = []
    for width in (24, 40):
        model = gv.dense((64, width, width, 10), [1, width])
        models.append(gv.prune(model, "snip", 0.3, (x[:BATCH], labels[:BATCH]), rng=[1, width, 1]))
    want = gv.applicability(models[1], x[BATCH : BATCH + PROBES], other=models[0])
    row = found.isel(pruning=1, density=0, hidden=0, seed=1)
    for name in ("A", "z", "gain", "alignment"):
        np.testing.assert_array_equal(row[name].sel(width=40).values, [*want[name].values, np.nan])
    np.testing.assert_array_equal(row.growth.values, [*want.growth.values, np.nan])
    np.testing.assert_array_equal(row.growth_error.values, [*want.growth_error.values, np.nan])
    assert np.isfinite(found.isel(hidden=1).to_array()).all()


def test_scores_are_those_of_layers_that_know_nothing(tmp_path: Path) -> None:
    found = sign_score_experiment(tmp_path, [32], 40)
    assert found.z.shape == (1, 40, 3)
    x, _ = digits()
    model = gv.dense((64, 32, 32, 32, 10), [7, 32])
    gv.prune(model, "random", 0.2, rng=[7, 32, 1])
    signals = layer_signals(model, x[BATCH : BATCH + PROBES])
    np.testing.assert_array_equal(found.z[0, 7], [one.z for one in signals])
    np.testing.assert_array_equal(found.deviation[0, 7], [one.deviation for one in signals])
    # the sum is skewed to the right, and its normal score is not: an upper tail is pulled in, a lower one out
    z, plain = found.z.values.ravel(), found.deviation.values.ravel()
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert (plain[np.abs(z) > 1.5] > z[np.abs(z) > 1.5]).all()
    assert beyond(np.array([-4.0, 0.0, 3.5, 5.0])) == (0.5, 0.25)


def test_the_same_depth_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sign-test", "--out", str(tmp_path), "--hidden", "2", "2"]) == 1
    assert "hidden: expected different integers" in capsys.readouterr().err
    with pytest.raises(InputError, match="method: expected one of"):
        sign_test_experiment(tmp_path, ["none"], [0.3], [16], [1], 1)
