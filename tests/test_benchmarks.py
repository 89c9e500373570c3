"""The benchmarks run, and what they time is right: errors only, no timings."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_limit_kernel import (
    BLOCK_GOALS,
    DENSE_GOALS,
    ENGINE,
    PEER,
    PLAIN,
    PRODUCT,
    QUICK,
    Comparison,
    Row,
    checked_pairs,
    run,
)
from benchmarks.goals import MET, MISSED, Goal, cells

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Comparison], Path]:
    out = tmp_path_factory.mktemp("benchmarks")
    return run(QUICK, out), out


def test_every_contender_is_right(page: tuple[list[Comparison], Path]) -> None:
    dense, common, general, equal, *_ = page[0]
    assert [row.name for row in dense.rows] == [f"{ENGINE}, zonal route", PRODUCT, PLAIN]
    assert [row.name for row in common.rows] == [f"{ENGINE}, zonal route", PLAIN]
    assert [row.name for row in general.rows] == [f"{ENGINE}, general route", PLAIN]
    assert [row.name for row in equal.rows] == [f"{ENGINE}, general route", PLAIN]
    for comparison in (dense, common, general, equal):
        errors = {row.name: row.error for row in comparison.rows if row.error is not None}
        assert max(errors.values()) < 1e-13, errors


def test_a_finite_network_is_far_from_the_limit_and_not_elsewhere(page: tuple[list[Comparison], Path]) -> None:
    if len(page[0]) == 4:
        pytest.skip("needs torch")
    limit, finite = page[0][4].rows
    assert limit.error is not None
    assert finite.error is not None
    assert limit.error < 1e-13
    assert 0.01 < finite.error < 2


def test_the_page_and_its_figure_are_written(page: tuple[list[Comparison], Path]) -> None:
    out = page[1]
    text = (out / "benchmarks.md").read_text(encoding="utf-8")
    assert all(f"### {comparison.title}\n" in text for comparison in page[0])
    assert "neural-tangents is left out" in text
    assert "Not measured here: neural-tangents (at least 12)." in text
    assert len(judged(text)) >= 7  # one for each row with a goal of each table, whatever was measured
    assert (out / "images" / "benchmarks.png").read_bytes().startswith(b"\x89PNG")


def test_checked_pairs_hold_the_extremes() -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [-1.0, 0.05], [0.3, 1.0], [0.2, -1.0]])
    pairs = checked_pairs(x)
    assert (0, 0) in pairs
    assert {frozenset(pair) for pair in pairs} >= {frozenset((0, 2)), frozenset((0, 3))}


GOAL = re.compile(r"at (least|most) ([\d/.]+)(?: s| MiB)?: (met|\*\*missed\*\*)")


def judged(page: str) -> list[tuple[float, str, Fraction, str]]:
    """(figure, least or most, bound, verdict) of every goal of a page, the figure read from the row it stands in."""
    found = []
    headings: list[str] = []
    for line in page.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| "):
            headings = []
            continue
        headings = headings or row
        for side, bound, verdict in GOAL.findall(line):
            (place,) = (k for k, name in enumerate(headings) if name.startswith(("times", "measured", "64")))
            number, _, unit = row[place].partition(" ")
            found.append((float(number) / (1e3 if unit == "ms" else 1), side, Fraction(bound), verdict))
    return found


def test_the_published_page_says_of_every_goal_what_its_own_figures_say() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    goals = judged(page)
    assert len(goals) == 3 + 3 * 2 + 2 + 5  # dense, three tables of blocks, 64 positions, a new process
    for figure, side, bound, verdict in goals:
        assert verdict == (MET if (figure >= bound if side == "least" else figure <= bound) else MISSED)
    for wanted in (DENSE_GOALS, BLOCK_GOALS):
        for name, several in wanted.items():
            assert all(f"{goal.words()}: " in page for goal in several), name


def test_rows_say_whether_goals_are_met() -> None:
    rows = [Row(ENGINE, 2.0, 0.0), Row(PRODUCT, 0.8, None), Row(PEER, 24.0, 1e-9), Row(PLAIN, 1.0, 0.0)]
    text = Comparison("T", rows, DENSE_GOALS).markdown()
    assert "| NumPy X @ X.T | 800 ms | 0.4 | at least 1/3: met, at least 1/2: **missed** |  |" in text
    assert "| neural-tangents | 24 s | 12 | at least 12: met | 1.0e-09 |" in text
    assert "| plain NumPy | 1 s | 0.5 |  | 0.0e+00 |" in text
    assert "Not measured here" not in text
    assert "Not measured here: neural-tangents (at least 14)." in Comparison("T", rows[:2], BLOCK_GOALS).markdown()
    assert "goal" not in Comparison("T", rows, {}).markdown()
    assert cells((Goal(5, at_most=True),), "5.01") == "at most 5: **missed**"
