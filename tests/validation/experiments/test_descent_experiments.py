"""Gradient descent beside its predictions at a size for tests: lazy where the estimate says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.descent_experiments import descent_experiment


@pytest.mark.slow
def test_what_is_said_to_be_lazy_follows_its_kernel(tmp_path: Path) -> None:
    quick = ["descent", "--quick", "--scales", "0.03", "1"]
    assert main([*quick, "--out", str(tmp_path / "halves"), "--methods", "snip"]) == 0
    for name in ("halves", "whole"):
        assert main([*quick, "--out", str(tmp_path / name), "--methods", "magnitude", "snip"]) == 0
    one, other = (load_dataset(tmp_path / name / "descent.nc") for name in ("whole", "halves"))
    assert one.identical(other)
    lazy, far = one.sel(scale=0.03), one.sel(scale=1.0, pruning="magnitude")
    assert (lazy.said < 0.01).all()
    assert (lazy.off_own < 0.02).all()
    assert (abs(lazy.changed) < 0.05).all()
    assert (far.said > lazy.sel(pruning="magnitude").said * 30).all()
    assert (far.off_own > lazy.sel(pruning="magnitude").off_own).all()
    np.testing.assert_allclose(one.loss.isel(step=0), 1)
    assert (tmp_path / "whole" / "descent.png").exists()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scales: expected at least one, all different"):
        descent_experiment(tmp_path, ["random"], [1.0, 1.0])
