"""Statements about finite networks, measured again with the same seeds; the commands at a size for tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tools import figures, statements

STORE = figures.load()
SMALL = {
    "sign-scores": ("sign-scores", "--widths", "24", "--seeds", "8"),
    "sign-test": ("sign-test", "--widths", "24", "40"),
    "alignments": ("sign-test", "--methods", "snip", "grasp", "--hidden", "2", "3", "--widths", "24", "40"),
    "path-sums": ("path-sums", "--widths", "24", "40", "--seeds", "3"),
    "upstream": ("upstream", "--widths", "64", "--seeds", "3", "--positions", "48"),
    "width-sweep": ("width-sweep", "--widths", "16", "32", "--seeds", "3"),
}


def shape(figure: Any) -> Any:
    """Names and kinds of a statement's figures."""
    if isinstance(figure, dict):
        return {key: shape(one) for key, one in figure.items()}
    return [shape(one) for one in figure] if isinstance(figure, list) else type(figure)


@pytest.mark.parametrize("name", statements.BY_NAME)
def test_statements_are_read_from_their_commands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure that the page is written from comes out of the command, at any size."""
    whole = statements.BY_NAME[name]
    small = statements.Statement(name, SMALL[name], whole.files, whole.read, whole.writes)
    monkeypatch.setitem(statements.BY_NAME, name, small)
    found = figures.measured_statement(name)
    assert found["command"] == f"python -m graphon_validation {' '.join(SMALL[name])}"
    assert set(found) == set(STORE[name])
    for page, write in whole.writes.values():
        assert page.endswith(".md")
        assert "nan" not in write(found)
    if name in ("sign-test", "path-sums", "upstream"):
        assert shape(figures.rounded(found)) == shape(STORE[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", statements.BY_NAME)
def test_statements_are_measured_again(name: str) -> None:
    assert figures.statement_faults(STORE[name], figures.rounded(figures.measured_statement(name)), name) == []
