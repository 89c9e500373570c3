"""What cannot fit into memory is refused before it is begun, with what is needed and the way out."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.data import memory


def test_there_is_memory() -> None:
    assert memory.available_memory() > 1 << 20


def test_too_many_inputs_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: float(1 << 28))
    x = np.ones((5_000, 2))
    message = r"x: 2 kernels of 5,000 x 5,000 inputs .* need 0\.4 GiB of memory, and 0\.2 GiB are free; .*float32"
    with pytest.raises(gt.InputError, match=message):
        gt.limit_kernel(gt.Network([1.0, 0.5, 1.0]), x)
    with pytest.raises(gt.GraphonError, match=r"n: .* averages would need .* take fewer blocks"):
        gt.AnalyticGraphon("u*v").to_step(10_000)


def test_the_least_of_all_limits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_container", lambda: 12.0)
    assert memory.available_memory() == 12.0
    monkeypatch.setattr(memory, "_read", lambda path: "")
    assert math.isinf(memory._of_machine())
