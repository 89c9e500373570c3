"""What pages state of errors and finite networks is what is stored, and what is stored is what is measured."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import accuracies
from tests.oracle import CASES
from tests.problems import PROBLEMS, SLOW
from tests.tools import figures, statements

STORE = figures.load()
STATED = STORE["accuracy"]


def measured_quickly() -> dict[str, Any]:
    """The table's rows, of its problems those that are quick."""
    return {
        "classical": accuracies.classical(),
        "step_networks": accuracies.step_networks(),
        "problems": accuracies.problems(accuracies.quick_problems()),
        "magnitude": accuracies.magnitude_ratio(),
    }


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    return measured_quickly()


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pages and the store in a folder of their own."""
    for page in {figures.STORE, *(page for page, _, _ in figures.WRITERS.values())}:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(figures.ROOT / page, tmp_path / page)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    return tmp_path


def test_pages_state_the_stored_figures() -> None:
    assert figures.page_faults(STORE) == []
    assert set(STORE) == set(figures.NAMES)
    for name, statement in statements.BY_NAME.items():
        assert STORE[name]["command"] == statement.command, "measured by another command; measure again"


def test_markers_leave_paragraphs_whole() -> None:
    """A comment that begins a line inside a paragraph would end it: HTML blocks take their whole line."""
    for page in {page for page, _, _ in figures.WRITERS.values()}:
        lines = (figures.ROOT / page).read_text(encoding="utf-8").splitlines()
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
            if re.match(r"<!-- /?figures", line):
                assert line.endswith("-->")
                assert before == after == ""


def test_the_table_is_of_all_the_oracles() -> None:
    assert set(STATED["problems"]) == {problem.name for problem in PROBLEMS}
    assert set(STATED["step_networks"]) == set(CASES)
    assert all(one["error"] <= one["estimate"] for one in STATED["problems"].values())
    table = figures.marked("README.md")["accuracy"]
    assert f"| {len(PROBLEMS)} networks" in table
    assert f"| {len(CASES)} step-graphon networks" in table


def test_the_table_is_what_is_measured(quick: dict[str, Any]) -> None:
    assert figures.accuracy_faults(STATED, quick) == []
    assert all(one["error"] <= one["estimate"] for one in quick["problems"].values())
    assert quick["magnitude"]["ratio"] == pytest.approx(STATED["magnitude"]["ratio"], rel=1e-5)


@pytest.mark.parametrize("factor", [0.8, 12.0])
def test_claims_that_are_better_or_ten_times_worse_are_found(quick: dict[str, Any], factor: float) -> None:
    """Every row of the table that is measured whole, on whatever machine."""
    claimed: dict[str, Any] = {
        "rounding": accuracies.rounding(),
        "classical": {name: factor * error for name, error in quick["classical"].items()},
        "step_networks": {name: factor * error for name, error in quick["step_networks"].items()},
        "problems": STATED["problems"],
        "magnitude": {"error": factor * quick["magnitude"]["error"]},
    }
    found = {fault.split(":")[0] for fault in figures.accuracy_faults(claimed, quick)}
    assert {"classical apart", "classical close", "step_networks", "magnitude"} <= found
    assert figures.accuracy_faults({**quick, "rounding": accuracies.rounding()}, quick) == []


def test_a_problem_stated_too_well_is_found() -> None:
    """Of a part of the problems: single errors count, and the worst of the row once all are there."""
    worst = max(STATED["problems"], key=lambda name: float(STATED["problems"][name]["error"]))
    now = {"problems": {worst: STATED["problems"][worst]}}
    claimed = {**STATED, "problems": {**STATED["problems"], worst: {"error": 1e-16}}}
    (fault,) = figures.accuracy_faults(claimed, now)
    assert fault.startswith(f"problems {worst}: 1e-16 is stored, ")
    assert figures.accuracy_faults(STATED, {"problems": STATED["problems"]}) == []


def test_the_rule_of_claims() -> None:
    holds = accuracies.claim_holds
    assert accuracies.rounded_up(2.61e-14) == "2.7e-14"
    assert accuracies.rounded_up(2.6e-14) == "2.6e-14"
    assert accuracies.rounded_up(9.91e-16) == "1.0e-15"
    assert accuracies.rounded_up(0.0) == "1.2e-16"
    assert holds(2.61e-14, 2.69e-14, same_rounding=True)
    assert not holds(2.1e-14, 2.6e-14, same_rounding=True)
    assert not holds(2.1e-11, 2.7e-11, same_rounding=True)
    assert holds(2.1e-14, 2.6e-14, same_rounding=False)
    assert not holds(1e-14, 2.6e-14, same_rounding=False)
    for same in (True, False):
        assert not holds(2.7e-13, 2.6e-14, same_rounding=same)
        assert holds(2.5e-13, 2.6e-14, same_rounding=same)
        assert holds(0.0, 0.0, same_rounding=same)


def test_a_figure_changed_by_hand_is_found_and_mended(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main(["--check"]) == 0
    page = copied / "README.md"
    text = page.read_text(encoding="utf-8")
    worst = accuracies.rounded_up(max(STATED["step_networks"].values()))
    page.write_text(text.replace(f"| {worst} |", "| 2.1e-14 |"), encoding="utf-8")
    assert page.read_text(encoding="utf-8") != text
    assert figures.main(["--check"]) == 1
    assert "README.md: other figures than in docs/figures.json" in capsys.readouterr().out
    assert figures.main([]) == 0
    assert page.read_text(encoding="utf-8") == text


def test_a_statement_without_its_marker_is_found(copied: Path) -> None:
    page = copied / "docs/validation.md"
    page.write_text(page.read_text(encoding="utf-8").replace("<!-- figures: sign-scores -->", ""), encoding="utf-8")
    assert "sign-scores: marked 0 times; expected once." in figures.page_faults(STORE)
    assert "upstream: no figures in docs/figures.json." in figures.page_faults(
        {name: one for name, one in STORE.items() if name != "upstream"}
    )


def test_measuring_fills_the_store(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "measured_accuracy", lambda: {**STATED, "classical": {"apart": 4e-16, "close": 1e-12}})
    assert figures.main(["accuracy"]) == 0
    store = json.loads((copied / figures.STORE).read_text(encoding="utf-8"))
    assert list(store) == list(figures.NAMES)
    assert "nearly coincident inputs | 1.0e-12 |" in (copied / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(figures, "measured_accuracy", lambda: STATED)
    assert figures.main(["--check", "accuracy"]) == 1
    assert store == json.loads((copied / figures.STORE).read_text(encoding="utf-8"))


def test_statements_may_differ_by_rounding_alone() -> None:
    one = STORE["path-sums"]
    assert figures.statement_faults(one, one, "path-sums") == []
    moved = json.loads(json.dumps(one))
    moved["factors"]["whole"][0][0] += 0.01
    assert figures.statement_faults(one, moved, "path-sums") == [
        f"path-sums factors whole 0 0: {one['factors']['whole'][0][0]} is stored, "
        f"{moved['factors']['whole'][0][0]} measured"
    ]
    words = {**one, "widths": [512]}
    assert figures.statement_faults(one, words, "path-sums") == [
        "path-sums widths: [512, 1024] is stored, [512] measured"
    ]


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        figures.main(["accuracies"])
    assert "unknown: accuracies; known: statements, accuracy" in capsys.readouterr().err


@pytest.mark.slow
def test_the_slow_problems_are_what_is_measured() -> None:
    left = [problem for problem in PROBLEMS if problem.name not in accuracies.QUICK]
    assert any(problem.name in SLOW for problem in left)
    found = accuracies.problems(left)
    assert figures.accuracy_faults(STATED, {"problems": found}) == []
    assert all(one["error"] <= one["estimate"] for one in found.values())
