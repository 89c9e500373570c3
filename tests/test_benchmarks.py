"""The benchmarks run, and what they time is right: errors only, no timings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_limit_kernel import ENGINE, PLAIN, PRODUCT, QUICK, Comparison, checked_pairs, run

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
    assert (out / "images" / "benchmarks.png").read_bytes().startswith(b"\x89PNG")


def test_checked_pairs_hold_the_extremes() -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [-1.0, 0.05], [0.3, 1.0], [0.2, -1.0]])
    pairs = checked_pairs(x)
    assert (0, 0) in pairs
    assert {frozenset(pair) for pair in pairs} >= {frozenset((0, 2)), frozenset((0, 3))}
