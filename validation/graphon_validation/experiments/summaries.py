"""What experiments are asked for by name, and what they print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import one_of
from graphon_theory.errors import InputError, shown


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
    tested = Table(title=title, caption=caption)
    for heading in ("quantity", "limit", *(("k ± error", "z of k", "c ± error") if several else ())):
        tested.add_column(heading, justify="left" if heading == "quantity" else "right")
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
    wide = Table(caption=order if several else f"z {order}")
    for heading in ("width", "z", *(("rest",) if several else ()), "scale ± error", "shape [95%]", "spread ± error"):
        wide.add_column(heading, justify="right")
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
