"""Measure the figures that pages state, keep them in docs/figures.json, and write them into the pages.

    python -m tests.tools.figures                       write the pages from the figures that are stored
    python -m tests.tools.figures accuracy statements   measure first: these two groups, or statements by name
    python -m tests.tools.figures --check [NAME ...]    write nothing; say what disagrees, and exit with 1

A page holds what is written for it between ``<!-- figures: NAME -->`` and ``<!-- /figures -->``. "accuracy" is README's
table, from the tests' oracles (``tests/accuracies.py``). Statements are of finite networks: each is read from what one
command of ``python -m graphon_validation`` writes, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests import accuracies
from tests.tools import statements

ROOT = Path(__file__).resolve().parent.parent.parent
STORE = "docs/figures.json"
ACCURACY, STATEMENTS = "accuracy", "statements"
NAMES = (ACCURACY, *statements.BY_NAME)

Figures = Mapping[str, Any]


# --- accuracy -------------------------------------------------------------------------------------


def measured_accuracy() -> dict[str, Any]:
    """All of README's table; the two slowest of its problems take most of the time."""
    return {
        "rounding": accuracies.rounding(),
        "classical": accuracies.classical(),
        "step_networks": accuracies.step_networks(),
        "problems": accuracies.problems(),
        "magnitude": accuracies.magnitude_ratio(),
    }


def accuracy_table(found: Figures) -> str:
    up = accuracies.rounded_up
    networks, problems, magnitude = (found[name] for name in ("step_networks", "problems", "magnitude"))
    above = sum(one["error"] > one["estimate"] for one in problems.values())
    worst = up(max(one["error"] for one in problems.values()))
    rows = {
        "the classical NTK in 50-digit arithmetic (W = V = 1; ReLU and erf, biases, depths 1 to 4; random, opposite, "
        "zero inputs)": up(found["classical"]["apart"]),
        "the same, nearly coincident inputs": up(found["classical"]["close"]),
        f"{len(networks)} step-graphon networks computed by another library (every entry's own relative error)": up(
            max(networks.values())
        ),
        f"{len(problems)} networks with kinks, jumps, curves, dead and singular regions, default settings": (
            f"{worst}; {'never' if not above else f'{above} times'} above the reported estimate"
        ),
        f"magnitude / random pruning = (V/W)^(L-1), V/W = {math.floor(magnitude['ratio'] * 1e7) / 1e7:.7f}...": up(
            magnitude["error"]
        ),
    }
    return "\n".join(("| held against | worst error |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())))


def printed(found: Figures) -> dict[str, dict[str, float]]:
    """The errors behind every figure that the table prints, their worst."""
    return {
        **{f"classical {name}": {name: error} for name, error in found.get("classical", {}).items()},
        "step_networks": dict(found.get("step_networks", {})),
        "problems": {name: one["error"] for name, one in found.get("problems", {}).items()},
        "magnitude": {name: error for name, error in found.get("magnitude", {}).items() if name == "error"},
    }


def accuracy_faults(stored: Figures, now: Figures) -> list[str]:
    """Where the table may not stand: what ``now`` holds, a part of it or all, against what is stored.

    The worst of a row is held to what is printed; single errors, most of them a few roundings that any change of the
    engine moves, as on a machine that rounds otherwise.
    """
    same = stored["rounding"] == accuracies.rounding()
    faults = []
    claims = printed(stored)
    for row, errors in printed(now).items():
        pairs = [(f"{row} {name}", claims[row][name], error, False) for name, error in errors.items()]
        if errors and set(errors) == set(claims[row]):
            pairs.append((row, max(claims[row].values()), max(errors.values()), same))
        faults += [
            f"{name}: {claimed:.2g} is stored, {measured:.2g} measured"
            for name, claimed, measured, strict in pairs
            if not accuracies.claim_holds(claimed, measured, same_rounding=strict)
        ]
    return faults


# --- statements -----------------------------------------------------------------------------------


def measured_statement(name: str) -> dict[str, Any]:
    """Run the command of a statement and read its figures; needs torch."""
    import xarray as xr

    from graphon_validation.commands import main as command
    from graphon_validation.pruning.pruners import TiedScoresWarning

    statement = statements.BY_NAME[name]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # GraSP at density 0.5 keeps some of its zero scores by a draw; seeds fix the draw
        warnings.simplefilter("ignore", TiedScoresWarning)
        if command([*statement.arguments, "--out", folder]) != 0:
            raise SystemExit(f"{statement.command} failed.")
        found = [xr.load_dataset(Path(folder) / name, engine="scipy") for name in statement.files]
    return {"command": statement.command, **statement.read(*found)}


def statement_faults(stored: Any, now: Any, place: str) -> list[str]:
    """Leaves that differ by more than the digits printed: seeds are the same, so rounding alone may tell them apart.

    A thousandth of the figure, and 0.0002: two scores in 12,000 on the other side of a threshold.
    """
    if isinstance(now, dict):
        return [fault for key in now for fault in statement_faults(stored[key], now[key], f"{place} {key}")]
    if isinstance(now, list) and len(now) == len(stored):
        return [
            fault
            for k, pair in enumerate(zip(stored, now, strict=True))
            for fault in statement_faults(*pair, f"{place} {k}")
        ]
    agree = np.isclose(now, stored, rtol=1e-3, atol=2e-4) if isinstance(now, int | float) else now == stored
    return [] if agree else [f"{place}: {stored} is stored, {now} measured"]


# --- pages ----------------------------------------------------------------------------------------

WRITERS: dict[str, tuple[str, str, Callable[[Figures], str]]] = {
    ACCURACY: ("README.md", ACCURACY, accuracy_table),
    **{
        name: (page, statement.name, write)
        for statement in statements.STATEMENTS
        for name, (page, write) in statement.writes.items()
    },
}  # by marker: the page, the figures in the store, what writes them


def marked(page: str) -> dict[str, str]:
    """What stands between a page's markers, by name."""
    return {found[2]: found[3] for found in _MARKED.finditer((ROOT / page).read_text(encoding="utf-8"))}


_MARKED = re.compile(r"(<!-- figures: ([a-z-]+) -->\s*)(.*?)(\s*<!-- /figures -->)", re.DOTALL)


def load() -> dict[str, Any]:
    """The stored figures: "accuracy", and statements by name."""
    path = ROOT / STORE
    store: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return store


def keep(name: str, figures: Any) -> None:
    """Put figures into the store, in the order of the names."""
    store = {**load(), name: figures}
    ordered = {one: store[one] for one in NAMES if one in store}
    (ROOT / STORE).write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def pages(store: Figures) -> dict[str, str]:
    """Pages by name, each with what the store says between its markers; what it lacks stays as it is."""

    def words(marker: str) -> str | None:
        _, group, write = WRITERS[marker]
        return write(store[group]) if group in store else None

    names = sorted({page for page, _, _ in WRITERS.values()})
    return {name: filled((ROOT / name).read_text(encoding="utf-8"), words) for name in names}


def filled(text: str, words: Callable[[str], str | None]) -> str:
    """A page with other words between its markers; None leaves what stands there."""

    def part(found: re.Match[str]) -> str:
        new = words(found[2])
        return found[0] if new is None else found[1] + new + found[4]

    return _MARKED.sub(part, text)


def page_faults(store: Figures) -> list[str]:
    """Pages whose figures are not the stored ones, markers that no page has or nothing writes, figures not stored."""
    found = [name for page in {page for page, _, _ in WRITERS.values()} for name in marked(page)]
    faults = [f"{name}: marked {found.count(name)} times; expected once." for name in WRITERS if found.count(name) != 1]
    faults += [f"{name}: no figures in {STORE}." for name in {group for _, group, _ in WRITERS.values()} - set(store)]
    return faults + [
        f"{name}: other figures than in {STORE}; python -m tests.tools.figures writes the page."
        for name, text in pages(store).items()
        if text != (ROOT / name).read_text(encoding="utf-8")
    ]


def rounded(value: Any) -> Any:
    """Ten digits of every number: more than is printed."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.figures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{STATEMENTS}, {', '.join(NAMES)}")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - {*NAMES, STATEMENTS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {STATEMENTS}, {', '.join(NAMES)}")
    faults: list[str] = []
    for name in NAMES:
        if name not in chosen.names and (name == ACCURACY or STATEMENTS not in chosen.names):
            continue
        now = rounded(measured_accuracy() if name == ACCURACY else measured_statement(name))
        if not chosen.check:
            keep(name, now)
        else:
            stored = load()[name]
            faults += accuracy_faults(stored, now) if name == ACCURACY else statement_faults(stored, now, name)
    if chosen.check:
        faults += page_faults(load())
        print("\n".join(faults) or "figures: all agree")
        return 1 if faults else 0
    for name, text in pages(load()).items():
        (ROOT / name).write_text(text, encoding="utf-8")
    print(f"figures: {STORE} and pages written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
