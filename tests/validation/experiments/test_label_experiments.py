"""SNIP's networks beside their labels at a size for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.commands import main
from graphon_validation.experiments.label_experiments import label_experiment, own_over_labels
from graphon_validation.experiments.labelled_data import labelled_data


def test_small_networks_agree_with_their_labels(tmp_path: Path) -> None:
    arguments = ["snip-labels", "--quick", "--data", "wine", "--out", str(tmp_path)]
    assert main(arguments) == 0
    found = load_dataset(tmp_path / "labels.nc")
    said = own_over_labels(found)
    assert float(said.whole.item()) == pytest.approx(1, abs=0.15)
    assert said.each.dims == ("density", "width", "layer")
    assert main(arguments) == 0
    assert load_dataset(tmp_path / "labels.nc").identical(found)


def test_targets_for_the_squared_loss(tmp_path: Path) -> None:
    data = labelled_data("teacher")
    found = label_experiment(tmp_path, [0.5], [24], 3, data, hidden=2, loss="squared", source="teacher", progress=False)
    assert own_over_labels(found).whole.item() == pytest.approx(1, abs=0.2)
    assert found.attrs["data"] == "teacher"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeds"):
        label_experiment(tmp_path, [0.5], [24], 2, labelled_data("wine"), progress=False)
