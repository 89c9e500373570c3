"""What the commands refuse before any work is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphon_validation import commands


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["width-sweep", "--widths", "8", "8"], "--widths: expected different integers, got [8, 8]"),
        (["width-sweep", "--widths", "8", "0"], "--widths: expected a whole number from 1 to 1,000,000, got 0"),
        (["width-sweep", "--seeds", "2"], "--seeds: expected a whole number from 3 to 10,000, got 2"),
        (["descent", "--seeds", "20000"], "--seeds: expected a whole number from 1 to 10,000, got 20000"),
        (["descent", "--widths", "8", "9"], "--widths: descent takes one width, got [8, 9]"),
        (["synflow-law", "--rounds", "0"], "--rounds: expected a whole number from 1 to 1,000,000, got 0"),
        (["synflow-law", "--inputs", "64", "64"], "--inputs: expected different integers, got [64, 64]"),
        (["upstream", "--positions", "2000000"], "--positions: expected a whole number from 1 to 1,000,000"),
        (["sign-test", "--hidden", "2", "-1"], "--hidden: expected a whole number from 1 to 1,000, got -1"),
        (["upstream", "--hidden", "2000"], "--hidden: expected a whole number from 1 to 1,000, got 2000"),
        (["mask-convergence", "--bins", "-3"], "--bins: expected a whole number from 1 to 1,000,000, got -3"),
        (["kernel-convergence", "--spread-seeds", "0"], "--spread-seeds: expected a whole number from 1 to"),
        (["training", "--densities", "0.1", "0.1"], "--densities: expected different ones, got [0.1, 0.1]"),
        (["training", "--densities", "0.5", "2"], "--densities: expected a share kept, 1e-06 to 1, got 2"),
        (["verdicts", "--density", "nan"], "--density: expected a share kept, 1e-06 to 1, got nan"),
        (["graphon-paths", "--kinds", "set", "set"], "--kinds: expected different ones, got ['set', 'set']"),
    ],
)
def test_counts_and_shares_are_bounded_by_the_names_of_their_options(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    assert commands.main([*words, "--out", str(out)]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["spectrum", "--samples", "40", "40"], {"samples": [40, 40]}),  # one a width
        (["sequel"], {"densities": (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)}),
    ],
)
def test_what_may_stand_twice_and_what_is_left_out_pass(words: list[str], expected: dict[str, object]) -> None:
    chosen = commands._parser().parse_args([*words, "--out", "made"])
    commands._check_options(chosen)
    assert {name: getattr(chosen, name) for name in expected} == expected


def test_quick_sizes_take_the_place_of_options() -> None:
    chosen = commands._parser().parse_args(["descent", "--quick", "--out", "made", "--widths", "9", "--scales", "2"])
    small = {"width": 4, "seeds": 2}
    assert commands._options(chosen, "width", "seeds", "scales", quick=small) == {**small, "scales": [2.0]}
    chosen.quick = False
    assert commands._options(chosen, "width", "seeds", "scales", quick=small) == {
        "width": 9,
        "seeds": 3,
        "scales": [2.0],
    }
