"""How far kernels move, at a size for tests: resumed as it was begun, and said within a factor of two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import ConvergenceError, InputError
from graphon_validation.commands import main
from graphon_validation.experiments import motion_experiments
from graphon_validation.experiments.motion_experiments import compared, kernel_motion_experiment, verdict


def test_a_run_that_is_resumed_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["kernel-motion", "--quick", "--seeds", "2"]
    assert main([*quick, "--out", str(tmp_path / "one")]) == 0
    assert main([*quick, "--out", str(tmp_path / "one")]) == 0
    assert "1 of 1 settings" in capsys.readouterr().out
    found = load_dataset(tmp_path / "one" / "kernel-motion.nc")
    assert found.said.dims == ("set", "layers", "variance", "density", "width", "seed")
    assert (found.said.std("seed") == 0).all()
    assert 0.5 < float(found.said.mean() / found.changed.mean()) < 2


def test_what_is_within_is_told_by_the_error() -> None:
    over = ("set", "layers", "variance", "density", "width", "seed")
    said, changed = np.array([0.1, 0.1, 0.1])[:, None], np.array([[0.12, 0.14], [0.29, 0.31], [-0.1, 0.5]])
    arrays = (one.reshape(1, 1, 1, 1, 3, -1) for one in (np.repeat(said, 2, 1), changed))
    found = Dataset({name: (over, one) for name, one in zip(("said", "changed"), arrays, strict=True)})
    assert compared(found).within.values.ravel().tolist() == [True, False, True]
    # one plain change of 0.13 is said within 2, one of 0.3 is not, and one that is not told from 0 does not count
    assert "2 of 3 settings; of 2 whose" in verdict(found)
    assert "errors 1 without allowance: said over measured 0.33 to 0.77" in verdict(found)


def test_networks_that_do_not_learn_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_experiments, "STEPS", 2)
    x, y = motion_experiments.halves("wine")
    with pytest.raises(ConvergenceError, match=r"2 of gradient descent leave more than 0\.1 of the loss"):
        motion_experiments.measured_change(gt.Network([1.0, 1.0]), x, y, 16, 0)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sets: expected one of digits"):
        kernel_motion_experiment(tmp_path, ["mnist"])
    with pytest.raises(InputError, match="layers: "):
        kernel_motion_experiment(tmp_path, layers=[1])
    assert not list(tmp_path.iterdir())
