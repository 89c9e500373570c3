"""How experiments begin and end: what they are asked for, the files they write, and what they print."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import check_installed, one_of
from graphon_theory.data.files import file_path, save_dataset
from graphon_theory.errors import InputError, shown
from graphon_validation.studies.tables import table_of

Figure = Callable[[Dataset, Path], None]  # draws what was found into a file


@dataclass(frozen=True)
class Results:
    """Where an experiment leaves what it finds: a folder for its files, and a terminal."""

    folder: Path
    console: Console

    def finish(
        self,
        found: Dataset,
        name: str,
        tables: Iterable[Table] = (),
        *,
        verdict: str = "",
        figure: Figure | None = None,
    ) -> Dataset:
        """Write what was found as NAME.nc and its figure as NAME.png, print the tables and the verdict.

        Returns it, with the verdict as an attribute.
        """
        if verdict:
            found = found.assign_attrs(verdict=verdict)
        save_dataset(found, self.folder / f"{name}.nc")
        if figure is not None:
            figure(found, self.folder / f"{name}.png")
        for table in tables:
            self.console.print(table)
        if verdict:
            self.console.print(verdict)
        return found


def results_in(out: str | os.PathLike[str], console: Console | None = None, *, figures: bool = False) -> Results:
    """The results of an experiment in the folder ``out``, printed to the terminal if ``console`` is None.

    Raises InputError for what is no path, and GraphonError where ``figures`` are due and matplotlib is missing: before
    all that takes long.
    """
    folder = file_path("out", out, "a folder")
    if figures:
        check_installed("the figure", {"matplotlib": "matplotlib"}, "examples")
    return Results(folder, console or wide_console())


def different(name: str, given: Any, known: Sequence[str]) -> list[str]:
    """The names themselves. Raises InputError unless they are of those known, at least one, all different."""
    listed = list(given) if isinstance(given, list | tuple) else []
    if not listed:
        raise InputError(f"{name}: expected a list of {', '.join(known)}, at least one, got {shown(given)}.")
    for one in listed:
        one_of(name, one, known)
    if len(set(listed)) < len(listed):
        raise InputError(f"{name}: expected at least one, all different, got {listed}.")
    return listed


def different_numbers(name: str, given: Iterable[Any], check: Callable[[str, Any], float]) -> list[float]:
    """The numbers as ``check(name, number)`` gives them. Raises InputError for none, and for repeated ones."""
    found = [float(check(name, one)) for one in given]
    if not found or len(set(found)) < len(found):
        raise InputError(f"{name}: expected at least one, all different, got {found}.")
    return found


def ratio_of_means(own: FloatArray, other: FloatArray, axis: int = -1) -> tuple[FloatArray, FloatArray]:
    """Mean over mean along the axis of draws, and its error from the spread of both."""
    ratio = own.mean(axis) / other.mean(axis)
    parts = [values.std(axis, ddof=1) / values.mean(axis) / np.sqrt(values.shape[axis]) for values in (own, other)]
    return ratio, np.abs(ratio) * np.hypot(*parts)


def energy(kernel: FloatArray, modes: int) -> float:
    """The share of a kernel's trace in its largest eigenvalues; NaN where it is zero."""
    values = np.linalg.eigvalsh(kernel)[::-1]
    total = values.sum()
    return float(values[:modes].sum() / total) if total > 0 else float("nan")


def wide_console() -> Console:
    """The terminal, or 110 columns where output goes to a file: rich would fold the tables at 80."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def comparison_tables(found: Dataset, title: str) -> tuple[Table, Table]:
    """What :func:`compare` found, for the terminal: one row per tested quantity, one per width."""
    names = [str(name) for name in found["quantity"].values]
    several = "fitted" in found  # from one width nothing is extrapolated
    caption = "fit: mean over seeds = k + c/n; z of k in standard errors" if several else None
    heads = ("quantity", "limit", *(("k ± error", "z of k", "c ± error") if several else ()))
    tested = table_of(title, heads, words=["quantity"], caption=caption)
    for name in names:
        row = found.sel(quantity=name)
        fit = (
            (
                f"{float(row.fitted):.6g} ± {float(row.fitted_error):.2g}",
                f"{float(row.fitted_z):+.2f}",
                f"{float(row.bias):+.3g} ± {float(row.bias_error):.2g}",
            )
            if several
            else ()
        )
        tested.add_row(name, f"{float(row.limit.mean()):.6g}", *fit)
    order, scores = f"in the order {', '.join(names)}", ("z", "residual_z") if several else ("z",)
    if several:
        slope = f"{float(found.spread_slope):+.3f} ± {float(found.spread_slope_error):.3f}"
        order = f"z and rest (after c/n) {order}\nlog-log slope of the spread: {slope} (theory: -1/2)"
    heads = ("width", "z", *(("rest",) if several else ()), "scale ± error", "shape [95%]", "spread ± error")
    wide = table_of("", heads, caption=order if several else f"z {order}")
    for width in found["width"].values:
        row = found.sel(width=width)
        wide.add_row(
            f"{int(width):,}",
            *(" ".join(f"{z:+.1f}" for z in row[key].values) for key in scores),
            f"{float(row.scale):.4f} ± {float(row.scale_error):.4f}",
            shape_cell(row),
            f"{float(row.spread):.4f} ± {float(row.spread_error):.4f}",
        )
    return tested, wide


def shape_cell(row: Dataset) -> str:
    """The shape error at one width, with its interval."""
    low, high = row.shape_interval.values
    return f"{float(row.shape_error):.3f} [{low:.3f}, {high:.3f}]"
