"""Every command at its quick size: one that is started again ends as it did, without doing anything twice."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from graphon_validation import commands


def with_quick() -> dict[str, bool]:
    """Whether each command has --quick, by name."""
    parser = commands._parser()
    chosen = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return {name: "--quick" in one.format_usage() for name, one in chosen.choices.items()}


QUICK = sorted(name for name, there in with_quick().items() if there)


def run(name: str, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints."""
    assert commands.main([name, "--quick", "--out", str(out)]) == 0
    return str(capsys.readouterr().out)


def files(out: Path) -> dict[str, bytes]:
    """The results and parts in a folder, by their paths in it."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.nc")}


def assert_started_again_ends_as_it_did(name: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts are not written again, results and what is printed are the same."""
    printed, made = run(name, out, capsys), files(out)
    assert {Path(one).parent.name for one in made} == {"", "parts"}
    written = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert run(name, out, capsys) == printed
    assert files(out) == made
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == written


def test_all_commands_but_two_have_a_quick_size() -> None:
    assert {name for name, there in with_quick().items() if not there} == {"quickstart-sweep", "estimate"}


@pytest.mark.parametrize("name", ["width-sweep", "sign-test"])
def test_a_command_that_is_started_again_ends_as_it_did(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_started_again_ends_as_it_did(name, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::graphon_validation.pruning.pruners.TiedScoresWarning")  # in networks so small
@pytest.mark.parametrize("name", QUICK)
def test_every_command_ends_as_it_did_in_another_folder_too(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_started_again_ends_as_it_did(name, tmp_path / "one", capsys)
    run(name, tmp_path / "two", capsys)
    assert files(tmp_path / "two") == files(tmp_path / "one")
