"""Files of torch models become networks of graphons, from Python and from both command lines alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory import cli
from graphon_validation import commands
from graphon_validation.studies.checkpoint_estimates import estimate_checkpoint


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Sequential, Path]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 3))
    parts = [(layer, "weight") for layer in model if isinstance(layer, nn.Linear)]
    prune.global_unstructured(parts, prune.L1Unstructured, amount=0.6)
    folder = tmp_path_factory.mktemp("model")
    torch.save(model.state_dict(), folder / "model.pt")
    return model, folder


def test_an_estimate_is_the_theory_of_the_model(pruned: tuple[nn.Sequential, Path], tmp_path: Path) -> None:
    model, folder = pruned
    rows = estimate_checkpoint(folder / "model.pt", tmp_path / "net.npz", blocks=3, activations=["tanh"])
    found = gt.Network.load(tmp_path / "net.npz")
    assert found == gv.theories(gv.from_torch(model), blocks=3, names=["(W, V, D)"])["(W, V, D)"]
    assert found.parameterization == "standard"
    assert found.widths == (12, 40, 40)
    assert [row["units"] for row in rows] == [[12, 40], [40, 40], [40, 3]]
    kept = np.array(
        [float(dict(layer.named_buffers())["weight_mask"].mean()) for layer in model if isinstance(layer, nn.Linear)]
    )
    np.testing.assert_allclose([row["density"] for row in rows], kept, rtol=1e-6)


@pytest.mark.slow
def test_the_commands_do_the_same(
    pruned: tuple[nn.Sequential, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = pruned
    out = tmp_path / "net.npz"
    words = ["estimate", str(folder / "model.pt"), "--blocks", "3", "--activation", "tanh", "--out", str(out)]
    assert cli.main(words) == 0
    assert "Estimated network" in capsys.readouterr().out
    estimate_checkpoint(folder / "model.pt", tmp_path / "here.npz", blocks=3, activations=["tanh"])
    assert gt.Network.load(out) == gt.Network.load(tmp_path / "here.npz")
    assert cli.main([*words, "--dense-std", "1"]) == 1
    assert "a model holds its masks, weights, widths and scales" in capsys.readouterr().err


def test_what_the_other_process_says_is_passed_on(
    pruned: tuple[nn.Sequential, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, folder = pruned
    words = ["estimate", str(folder / "model.pt"), "--out", str(tmp_path / "net.npz")]

    def here(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        """The same in this process, whose torch is there already."""
        assert command[:3] == [sys.executable, "-m", "graphon_validation"]
        status = commands.main(command[3:])
        told = capsys.readouterr()
        return subprocess.CompletedProcess(command, status, told.out, told.err)

    monkeypatch.setattr(subprocess, "run", here)
    assert cli.main(words) == 1
    assert "model.pt: activations: the source does not say" in capsys.readouterr().err
    assert cli.main([*words, "--activation", "tanh", "--blocks", "2", "--init", "0.3", "--zeros-pruned"]) == 0
    assert capsys.readouterr().err == ""
    assert gt.Network.load(tmp_path / "net.npz").weight_variance == pytest.approx((12 * 0.09, 40 * 0.09, 40 * 0.09))


def test_what_is_no_model_is_refused(pruned: tuple[nn.Sequential, Path], tmp_path: Path) -> None:
    _, folder = pruned
    with pytest.raises(gt.InputError, match="is no file"):
        estimate_checkpoint(tmp_path / "none.pt", tmp_path / "net.npz")
    with pytest.raises(gt.SpecError, match="Write it to a name in"):
        estimate_checkpoint(folder / "model.pt", tmp_path / "net.csv", activations=["tanh"], blocks=2)
    model, x = pruned[0], np.ones((2, 12))
    calls: list[Callable[[Any], object]] = [
        gv.theories,
        lambda one: gv.prune(one, "random", 0.5),
        lambda one: gv.applicability(one, x),
        lambda one: gv.empirical_kernel(one, x),
        lambda one: gv.train(one, (x, np.ones((2, 3))), steps=1, learning_rate=0.1),
    ]
    for call in calls:
        with pytest.raises(gt.InputError, match=r"pass gv.from_torch\(model\)"):
            call(model)
