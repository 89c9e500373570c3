"""Tables for the terminal: numbers flush right, words flush left."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rich.table import Table


def table_of(title: str, headings: Iterable[str], *, words: Collection[str] = (), caption: str | None = None) -> Table:
    """A table of these columns without rows; ``words`` are the headings of those that hold text."""
    made = Table(title=title or None, caption=caption)
    for heading in headings:
        made.add_column(heading, justify="left" if heading in words else "right")
    return made
