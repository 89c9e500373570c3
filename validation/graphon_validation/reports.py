"""What experiments print."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from xarray import Dataset


def wide_console() -> Console:
    """The terminal, or 110 columns where output goes to a file: rich would fold the tables at 80."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def comparison_tables(found: Dataset, title: str) -> tuple[Table, Table]:
    """What :func:`compare` found, for the terminal: one row per tested quantity, one per width."""
    names = [str(name) for name in found["quantity"].values]
    tested = Table(title=title, caption="fit: mean over seeds = k + c/n; z of k in standard errors")
    for heading in ("quantity", "limit", "k ± error", "z of k", "c ± error"):
        tested.add_column(heading, justify="left" if heading == "quantity" else "right")
    for name in names:
        row = found.sel(quantity=name)
        tested.add_row(
            name,
            f"{float(row.limit):.6g}",
            f"{float(row.fitted):.6g} ± {float(row.fitted_error):.2g}",
            f"{float(row.fitted_z):+.2f}",
            f"{float(row.bias):+.3g} ± {float(row.bias_error):.2g}",
        )
    slope = f"{float(found.spread_slope):+.3f} ± {float(found.spread_slope_error):.3f}"
    wide = Table(
        caption=f"z and rest (after c/n) in the order {', '.join(names)}\n"
        f"log-log slope of the spread: {slope} (theory: -1/2)"
    )
    for heading in ("width", "z", "rest", "scale ± error", "shape [95%]", "spread ± error"):
        wide.add_column(heading, justify="right")
    for width in found["width"].values:
        row = found.sel(width=width)
        wide.add_row(
            f"{int(width):,}",
            *(" ".join(f"{z:+.1f}" for z in row[key].values) for key in ("z", "residual_z")),
            f"{float(row.scale):.4f} ± {float(row.scale_error):.4f}",
            shape_cell(row),
            f"{float(row.spread):.4f} ± {float(row.spread_error):.4f}",
        )
    return tested, wide


def shape_cell(row: Dataset) -> str:
    """The shape error at one width, with its interval."""
    low, high = row.shape_interval.values
    return f"{float(row.shape_error):.3f} [{low:.3f}, {high:.3f}]"
