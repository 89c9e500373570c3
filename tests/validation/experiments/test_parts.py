"""Parts are made once, found again, and never taken for others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xarray import Dataset

from graphon_theory.data.files import save_dataset
from graphon_theory.errors import InputError
from graphon_validation.experiments.parts import Parts, every, gathered


class Maker:
    """Draws a number from a seed, and stops for good after so many."""

    def __init__(self, most: int) -> None:
        self.most, self.made = most, 0

    def __call__(self, description: Mapping[str, Any]) -> Dataset:
        if self.made == self.most:
            raise KeyboardInterrupt
        self.made += 1
        return Dataset({"value": float(np.random.default_rng(description["seed"]).standard_normal())})


def values(parts: Parts, maker: Maker, seeds: range) -> list[float]:
    return [float(one.value) for one in parts.all(({"seed": seed} for seed in seeds), maker, progress=False)]


def test_a_run_that_was_killed_ends_as_it_would_have(tmp_path: Path) -> None:
    whole = values(Parts(tmp_path / "one", "draws", {"width": 3}), Maker(9), range(5))
    parts = Parts(tmp_path / "two", "draws", {"width": 3})
    with pytest.raises(KeyboardInterrupt):
        values(parts, Maker(2), range(5))
    rest = Maker(9)
    assert values(parts, rest, range(5)) == whole
    assert rest.made == 3
    more = Maker(9)
    assert values(parts, more, range(6))[:5] == whole
    assert more.made == 1  # the sixth alone


def test_other_settings_are_other_parts(tmp_path: Path) -> None:
    one = Parts(tmp_path, "draws", {"width": 3})
    maker = Maker(9)
    values(one, maker, range(2))
    for other in (Parts(tmp_path, "draws", {"width": 4}), Parts(tmp_path, "other", {"width": 3})):
        assert not other.path({"seed": 0}).exists()
        values(other, maker, range(2))
    assert maker.made == 6
    assert one.path({"seed": 0, "method": "a"}) == one.path({"method": "a", "seed": 0})  # the order says nothing


def test_a_part_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "draws", {})
    values(parts, Maker(9), range(1))
    save_dataset(Dataset({"value": 1.0}), parts.path({"seed": 0}))
    with pytest.raises(InputError, match="is not the part that its name says; delete it"):
        values(parts, Maker(9), range(1))
    parts.path({"seed": 0}).write_bytes(b"half a file")
    with pytest.raises(InputError, match="cannot be read"):
        values(parts, Maker(9), range(1))


def test_parts_are_gathered_in_the_order_of_their_names() -> None:
    over: dict[str, list[Any]] = {"seed": [3, 5], "name": ["a", "b", "c"]}
    described = every(over)
    assert described[1] == {"seed": 3, "name": "b"}
    made = [Dataset({"v": ("time", [one["seed"], ord(one["name"])])}, {"time": [0.0, 1.0]}) for one in described]
    found = gathered(made, over)
    assert found.v.dims == ("seed", "name", "time")
    assert found.v.sel(seed=5, name="c").values.tolist() == [5, 99]
    assert found.time.values.tolist() == [0, 1]
