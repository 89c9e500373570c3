"""Cross-entropy of networks and limits at a size for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.cross_entropy_experiments import apart, cross_entropy_experiment


def test_wide_networks_follow_their_limits(tmp_path: Path) -> None:
    for _ in range(2):
        assert main(["cross-entropy", "--quick", "--kinds", "dense", "snip", "--out", str(tmp_path / "whole")]) == 0
    assert main(["cross-entropy", "--quick", "--kinds", "snip", "--out", str(tmp_path / "snip")]) == 0
    found = load_dataset(tmp_path / "whole" / "cross-entropy.nc")
    assert found.loss.sel(kind="snip").identical(
        load_dataset(tmp_path / "snip" / "cross-entropy.nc").loss.sel(kind="snip")
    )
    np.testing.assert_allclose(found.loss.isel(step=0), found.limit.isel(step=0), rtol=1e-5)  # float32 beside float64
    assert (found.loss.isel(step=-1) < 0.8 * found.loss.isel(step=0)).all()
    off, spread = apart(found)
    assert off.shape == spread.shape == (2, 2, 21)
    assert np.abs(off).max() < 0.6  # width 64
    assert (tmp_path / "whole" / "cross-entropy.png").exists()


@pytest.mark.slow
def test_the_lazy_follow_within_the_spread(tmp_path: Path) -> None:
    found = cross_entropy_experiment(tmp_path, ["dense", "random"], 4, steps=60, progress=False)
    off, spread = apart(found)
    assert (np.abs(off).max(-1) < 0.15).all()
    assert (np.abs(off[..., 1:]) < np.maximum(2 * spread[..., 1:], 0.03)).mean() > 0.9
    lazier = list(found.variance.values).index(4.0)
    assert (np.abs(off[lazier, :, 1:]) < spread[lazier, :, 1:]).all()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kinds: expected"):
        cross_entropy_experiment(tmp_path, ["grasp"])
    assert not list(tmp_path.iterdir())
