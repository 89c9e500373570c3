"""The estimation benchmark runs, and its random masks fall without structure behind them."""

from __future__ import annotations

import pytest

from benchmarks import bench_estimation as bench


def test_random_masks_fall_towards_the_large_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WIDTHS", (100, 300))
    table = bench.convergence(600, 2)
    (null,) = [line for line in table.splitlines() if line.startswith("| random (the null) |")]
    first, second = (float(cell.split("±")[0]) for cell in null.split("|")[2:4])
    assert 15 < first < 18  # 64 sqrt(0.16 (2/100 + 64^2/100^2)) = 16.8, less what sorting shares with the large width
    assert second < 0.5 * first


@pytest.mark.parametrize("kind", ["dense", "packed", "sparse"])
def test_a_layer_is_measured_in_every_format(kind: str) -> None:
    cells = bench.large_layer(kind, 300).split("|")
    assert cells[0] == kind
    assert abs(float(cells[-1])) < 4
