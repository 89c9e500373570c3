"""What the commands show: tables that fit the window, progress of what takes long, and the same as JSON."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    import xarray as xr

_PATIENCE = 2.0  # seconds without a sign of life


def console() -> Console:
    """Where results are printed: standard output as it is now."""
    return Console()


def say(text: str) -> None:
    """A line of plain text, never broken within a word or read as markup."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def table(title: str, *columns: str) -> Table:
    """An empty table of right-aligned columns, whose headings break rather than its numbers."""
    made = Table(title=title)
    for column in columns:
        made.add_column(column, justify="right", overflow="fold")
    return made


def show(thing: Table) -> None:
    console().print(thing)


class Working:
    """Progress on standard error, from two seconds on; on a terminal alone."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._done: tuple[int, int] | None = None
        self._bar: Progress | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(_PATIENCE, self._start)
        self._timer.daemon = True

    def __enter__(self) -> Working:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
            self.what = ""

    def report(self, done: int, total: int) -> None:
        """How far it has come."""
        with self._lock:
            self._done = done, total
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], total=max(total, 1), completed=done)

    def _start(self) -> None:
        where = Console(stderr=True)
        with self._lock:
            if not self.what or not where.is_terminal:
                return
            columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
            self._bar = Progress(*columns, console=where, transient=True)
            done, total = self._done or (0, None)  # without a total the bar pulses
            self._bar.add_task(self.what, completed=done, total=total)
            self._bar.start()


@contextlib.contextmanager
def working(what: str) -> Iterator[Working]:
    """Show progress of the block."""
    with Working(what) as shown:
        yield shown


def print_json(data: Any) -> None:
    """One JSON value on standard output: NaN is null, infinities are the words "inf" and "-inf"."""
    print(json.dumps(plain(data), ensure_ascii=False))


def plain(data: Any) -> Any:
    """Numbers, text, lists and dicts of what the library returns."""
    if hasattr(data, "data_vars"):
        variables = {**data.coords, **data.data_vars}
        return {
            "variables": {
                str(name): {"dims": list(one.dims), "values": plain(one.values)} for name, one in variables.items()
            },
            "attrs": plain(dict(data.attrs)),
        }
    if isinstance(data, dict):
        return {str(key): plain(one) for key, one in data.items()}
    if isinstance(data, np.ndarray):
        return plain(data.tolist())
    if isinstance(data, list | tuple):
        return [plain(one) for one in data]
    if isinstance(data, np.generic):
        return plain(data.item())
    if isinstance(data, float) and not math.isfinite(data):
        return None if math.isnan(data) else "inf" if data > 0 else "-inf"
    return data if isinstance(data, str | int | float | bool) or data is None else str(data)


def save(data: xr.Dataset, out: Path | None, quiet: bool = False) -> None:
    """Write a result where it was asked for, and say so."""
    from graphon_theory.data.files import save_dataset

    if out is not None:
        save_dataset(data, out)
        if not quiet:
            say(f"written to {out}")
