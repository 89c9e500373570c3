"""The page of results states what is stored, and what is stored is of one piece."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tools import claims, results

STORE = results.load()


def test_the_page_states_the_stored_results() -> None:
    text = (results.ROOT / results.PAGE).read_text(encoding="utf-8")
    assert results.written(STORE) == text
    assert "nan" not in text
    assert set(re.findall(r"<!-- figures: ([a-z-]+) -->", text)) <= set(results.WRITERS)


def test_verdicts_follow_from_what_is_stored() -> None:
    stored = results.designs(STORE)
    assert stored
    for one in stored:
        designed = one["methods"]["designed"]
        measured, predicted = designed["best"][0], designed["predicted"]
        said = re.match(r"designed ([\d.]+)(?: ± [\d.e-]+)?, predicted ([\d.]+) \(([+-]\d+)%\),", one["verdict"])
        assert said is not None
        assert float(said[1]) == pytest.approx(measured, rel=0.01)
        assert float(said[2]) == pytest.approx(predicted, rel=0.01)
        assert int(said[3]) == pytest.approx(100 * (measured / predicted - 1), abs=0.6)
        assert all(len(found["best"]) == (2 if one["seeds"] > 1 else 1) for found in one["methods"].values())
        # the best is the least over time, so neither the end nor the training mean, where all start, is below it
        assert all(found["best"][0] <= min(found["end"][0], one["guess"]) + 1e-3 for found in one["methods"].values())


ROWS = claims.rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['group'][:20]}: {row['claim'][:30]}")
def test_every_claim_has_a_verdict_its_numbers_and_a_command(row: dict[str, str]) -> None:
    assert set(row) == set(claims.FIELDS)
    assert row["verdict"] in claims.VERDICTS
    assert row["published"]
    said = claims.answered(STORE, row)
    if said["verdict"] != "not run":
        assert re.search(r"\d", said["finite"] + said["limit"])
        assert said["why"]
    for name in ("finite", "limit", "why"):
        # numbers of ours come from the store: what is typed is names, densities and sizes, never a decimal of a result
        typed = re.sub(r"\{[^{}]*\}|\([^()]*\)|density 0\.1|times 0\.1|0\.21", "", row[name])
        assert not re.search(r"\d\.\d\d", typed)
    words = row["command"].split()
    assert words[:3] == ["python", "-m", "graphon_validation"]
    assert words[-2:] == ["--out", "DIR"]


def test_stored_numbers_are_read_and_missing_ones_are_not_made_up() -> None:
    store = {"one": {"a": {"0.2": [1.25, 2.5]}, "b": 0.5}}
    assert claims.resolved(store, "x {one/a/0.2|.1f} y {one/a/0.2/1 - one/b|+.2f}") == "x 1.2 2.5 y +2.00"
    with pytest.raises(KeyError, match="one/c: nothing is stored there"):
        claims.resolved(store, "{one/c|g}")
    row = dict.fromkeys(claims.FIELDS, "") | {"finite": "{two/a|g}", "verdict": "explained"}
    assert claims.answered(store, row)["verdict"] == "not run"


def test_commands_of_claims_are_commands() -> None:
    pytest.importorskip("torch")
    from graphon_validation.commands import _parser

    for command in {command for row in ROWS for command in row["command"].split("; ")}:
        words = command.split()
        assert words[:3] == ["python", "-m", "graphon_validation"]
        assert _parser().parse_args(words[3:]).experiment == words[3]


def test_a_figure_changed_by_hand_is_found_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(results.ROOT / "docs", tmp_path / "docs")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.main(["--check"]) == 0
    page = tmp_path / results.PAGE
    text = page.read_text(encoding="utf-8")
    one: dict[str, Any] = results.designs(STORE)[0]
    changed = text.replace(f"{one['methods']['designed']['best'][0]:.3f}", "0.001")
    assert changed != text
    page.write_text(changed, encoding="utf-8")
    assert results.main(["--check"]) == 1
    assert results.main([]) == 0
    assert page.read_text(encoding="utf-8") == text
    path = next((tmp_path / results.STORE).glob("design-*.json"))
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["methods"]["designed"]["best"][0] += 1
    path.write_text(json.dumps(stored), encoding="utf-8")
    assert results.main(["--check"]) == 1
