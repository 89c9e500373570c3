"""Verdicts on rules: what they are made of, and that they go on where they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.verdict_experiments import CAUSES, ruled_network, verdict_experiment

X, LABELS = digits()
COUNTS = (64, 24, 24, 10)


def test_rules_make_what_they_say() -> None:
    batch = X[:40], LABELS[:40]
    model, before = ruled_network("snip tanh", COUNTS, 0, 0.5, batch)
    assert before is None
    assert model.default_activation == "tanh"
    trained, start = ruled_network("trained random", COUNTS, 0, 0.5, batch)
    assert start is not None
    assert all((one == two).all() for one, two in zip(trained.masks, start.masks, strict=True))
    assert not any((one == two).all() for one, two in zip(trained.weights, start.weights, strict=True))
    rewired, _ = ruled_network("set", COUNTS, 0, 0.5, batch)
    assert any((one != two).any() for one, two in zip(rewired.masks, start.masks, strict=True))
    assert [int(mask.sum()) for mask in rewired.masks] == [int(mask.sum()) for mask in start.masks]


@pytest.mark.slow
def test_training_and_masks_are_told_apart(tmp_path: Path) -> None:
    rules = ["random", "trained random", "grasp"]
    found = verdict_experiment(tmp_path, rules, (64, 256), 2, hidden=2, density=0.3, progress=False)
    assert found.sizes == {"rule": 3, "seed": 2, "layer": 2}
    causes = {str(rule): {CAUSES[int(c)] for c in found.cause.sel(rule=rule).values} for rule in found.rule.values}
    assert causes["random"] == {"none"}
    assert causes["trained random"] == {"training"}
    assert causes["grasp"] == {"masks"}
    assert (found.large.sel(rule="grasp") == 2).all()
    again = verdict_experiment(tmp_path, rules[::-1], (256, 64), 2, hidden=2, density=0.3, progress=False)
    for name in found.data_vars:
        np.testing.assert_array_equal(again[name].sel(rule=rules), found[name])
    with pytest.raises(InputError, match="widths"):
        verdict_experiment(tmp_path, rules, (64,), 2)
