"""How experiments begin and end."""

from __future__ import annotations

import io
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from xarray import Dataset

from graphon_theory.data.checks import positive_number, share_kept
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different_numbers, ratio_of_means, results_in
from graphon_validation.studies.tables import table_of


def test_what_was_found_is_written_drawn_and_printed(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80, record=True)
    results = results_in(tmp_path / "made", console, figures=True)
    drawn: list[str] = []

    def figure(found: Dataset, path: Path) -> None:
        drawn.append(found.attrs["verdict"])
        path.write_bytes(b"")

    found = Dataset({"a": ("x", [1.0, 2.0])}, attrs={"width": 3})
    tables = [Table(heading, box=None) for heading in ("first", "second")]
    finished = results.finish(found, "one", tables, verdict="so", figure=figure)
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"one.nc", "one.png"}
    assert load_dataset(tmp_path / "made" / "one.nc").identical(finished)
    assert finished.attrs == {"width": 3, "verdict": "so"}
    assert found.attrs == {"width": 3}
    assert drawn == ["so"]
    assert [line.strip() for line in console.export_text().splitlines() if line.strip()] == ["first", "second", "so"]
    assert results.finish(found, "two").identical(found)
    assert not (tmp_path / "made" / "two.png").exists()


@pytest.mark.parametrize("out", [None, 3, "", " ", "a\0b", "a" * 5_000])
def test_what_is_no_folder_is_refused(out: Any) -> None:
    with pytest.raises(InputError, match="out: expected the path of a folder, got"):
        results_in(out)


def test_numbers_are_checked_and_different() -> None:
    assert different_numbers("densities", (1, np.float32(0.5)), share_kept) == [1.0, 0.5]
    assert different_numbers("strengths", [0], partial(positive_number, zero=True)) == [0.0]
    for given in ([], [0.5, 0.2, 0.5]):
        with pytest.raises(InputError, match="densities: expected at least one, all different, got"):
            different_numbers("densities", given, share_kept)
    with pytest.raises(InputError, match=r"densities: expected a share of weights kept, in \(0, 1\], got 2"):
        different_numbers("densities", [0.5, 2], share_kept)


def test_the_error_of_a_ratio_comes_from_both_spreads() -> None:
    rng = np.random.default_rng(0)
    own, other = 3 + rng.standard_normal((2, 50)), 7 + 2 * rng.standard_normal((2, 50))
    ratio, error = ratio_of_means(own, other)
    for k in range(2):
        a, b = (sum(row) / 50 for row in (own[k], other[k]))
        spreads = (sum((one - m) ** 2 for one in row) / 49 / 50 for row, m in ((own[k], a), (other[k], b)))
        of_a, of_b = spreads
        assert ratio[k] == pytest.approx(a / b, rel=1e-13)
        assert error[k] == pytest.approx(math.sqrt(of_a / b**2 + of_b * a**2 / b**4), rel=1e-12)
    np.testing.assert_array_equal(ratio_of_means(own.T, other.T, axis=0), (ratio, error))


def test_words_stand_left_and_numbers_right() -> None:
    console = Console(file=io.StringIO(), width=40, record=True)
    table = table_of("", ("of", "value"), words=["of"], caption="so")
    table.add_row("a", "1")
    console.print(table)
    lines = console.export_text().splitlines()
    assert "of" in lines[1]
    assert lines[3].split("│")[1:3] == [" a  ", "     1 "]
    assert lines[-1].strip() == "so"


def test_parts_over_values_are_one_dataset(tmp_path: Path) -> None:
    made: list[tuple[str, int]] = []

    def make(one: Any) -> Dataset:
        made.append((one["kind"], one["seed"]))
        return Dataset({"value": math.sqrt(one["seed"]), "row": ("k", [one["seed"], len(one["kind"])])})

    parts, over = Parts(tmp_path, "some", {"width": 4}), {"kind": ["a", "bc"], "seed": range(3)}
    found = parts.over(over, make, progress=False)
    assert made == [(kind, seed) for kind in ("a", "bc") for seed in range(3)]
    np.testing.assert_array_equal(found.value, [np.sqrt([0, 1, 2])] * 2)
    assert found.row.dims == ("kind", "seed", "k")
    np.testing.assert_array_equal(found.row.sel(kind="bc"), [[0, 2], [1, 2], [2, 2]])
    assert parts.over(over, make, progress=False).identical(found)
    assert len(made) == 6
