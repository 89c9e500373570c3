"""Keep what experiments found in docs/results, and write the page docs/results.md from it.

    python -m tests.tools.results                 write the page from what is stored
    python -m tests.tools.results DIR             first read what experiments wrote in DIR (--out DIR), and store it
    python -m tests.tools.results --check         write nothing; say what disagrees, and exit with 1

What stands between ``<!-- figures: NAME -->`` and ``<!-- /figures -->`` is written here; the rest of the page is prose
without figures. Experiments take from minutes to hours, so they are run by hand; a test holds the page to the store.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.tools import claims, figures
from tests.tools.law_results import LAW_READERS, LAW_WRITERS, read_labels, read_upstream
from tests.tools.result_readers import READERS, read_design

if TYPE_CHECKING:
    from xarray import Dataset

ROOT = Path(__file__).resolve().parent.parent.parent
STORE, PAGE, PICTURES = "docs/results", "docs/results.md", "docs/images"
LABELS = {
    "erk": "ERK",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "ntk_sap": "NTK-SAP",
    "imp": "iterative magnitude",
}
CONTENDERS = ("designed", "random", "magnitude", "dense", *LABELS)
TASKS = ("relevant", "groups", "isotropic", "teacher", "breast_cancer", "digits")
OF_MANY = {
    "design": read_design,
    "labels": read_labels,
    "upstream": read_upstream,
}  # by the first word of the names of files that go together
DIGITS = 6  # significant ones of every number that is stored: more than is printed

Figures = Mapping[str, Any]


# --- reading ----------------------------------------------------------------------------------------------------------


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, np.generic):
        return rounded(value.item())
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def keep(folder: Path) -> list[str]:
    """Store what is in an experiment's folder, and its figures; the names of what was stored."""
    from graphon_theory.data.files import load_dataset

    stored = []
    for path in sorted(folder.glob("*.nc")):
        word, several, _ = path.stem.partition("-")
        one = (OF_MANY.get(word) if several else None, ())
        read, pictures = {**READERS, **LAW_READERS}.get(path.stem, one)
        if read is None:
            continue
        found = load_dataset(path)
        name = f"training-{_kind(found)}" if path.stem == "training" else path.stem
        if "rounds" in found.attrs:
            name, pictures = f"{name}-{found.attrs['rounds']}-rounds", ()
        text = json.dumps(rounded(read(found)), indent=1, ensure_ascii=False)
        (ROOT / STORE).mkdir(exist_ok=True)
        (ROOT / STORE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        for picture in pictures:
            kept = picture.replace(path.stem, name) if path.stem == "training" else picture
            shutil.copyfile(folder / picture, ROOT / PICTURES / f"results-{kept}")
        stored.append(name)
    return stored


def _kind(found: Dataset) -> str:
    """Which of the trainings: the law of the initial weights, and whether it is about rates."""
    return f"{found.attrs['init']}{'-rates' if found.sizes['rate'] > 1 else ''}"


def load() -> dict[str, Any]:
    """All that is stored, by name."""
    paths = sorted((ROOT / STORE).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


# --- writing ----------------------------------------------------------------------------------------------------------


def designs(store: Figures) -> list[dict[str, Any]]:
    """The stored designs in the order of the page: by task, dense to sparse."""
    found = [one for name, one in store.items() if name.startswith("design-")]
    return sorted(found, key=lambda one: (TASKS.index(one["task"]), -one["density"], len(one["methods"])))


def _with_error(pair: Sequence[float]) -> str:
    return " ± ".join(f"{value:.3f}" for value in pair)


def _label(name: str) -> str:
    return LABELS.get(name, name)


def write_designed(store: Figures) -> str:
    """A table of all methods for each of the two tasks that are built from groups of inputs."""
    parts: list[str] = []
    for one in designs(store):
        if one["task"] not in ("relevant", "groups"):
            continue
        seeds = f"{one['seeds']} networks" if one["seeds"] > 1 else "one network"
        parts += [
            f"**{one['task']}**, density {one['density']:g}, width {one['width']:,}, {one['train']} inputs, {seeds} a "
            f"method, {one['steps']} steps; the training mean alone: {one['guess']:.3f}.",
            f"`{command(one)}`",
            "| masks | predicted | with rows | own kernel | measured, best | at the end | dead units |\n"
            "|---|---|---|---|---|---|---|\n" + "\n".join(_row(name, found) for name, found in one["methods"].items()),
            f"{one['verdict']}",
        ]
    return "\n\n".join(parts)


def _row(name: str, found: Figures) -> str:
    laws = ("" if found[kind] is None else f"{found[kind]:.3f}" for kind in ("predicted", "predicted_rows"))
    pairs = (_with_error(found[key]) for key in ("lazy", "best", "end"))
    return f"| {_label(name)} | {' | '.join(laws)} | {' | '.join(pairs)} | {found['dead']:.0f} |"


def write_tasks(store: Figures) -> str:
    """Best test errors of all methods, a table for each density and a column for each task."""
    found = [one for one in designs(store) if one["task"] not in ("relevant", "groups")]
    densities = sorted({one["density"] for one in found}, reverse=True)
    parts = [_of_tasks([one for one in found if one["density"] == density]) for density in densities]
    sizes = sorted({(one["width"], one["seeds"], one["steps"]) for one in found})
    settings = "; ".join(f"width {w:,}, {s} {'network' if s == 1 else 'networks'}, {t} steps" for w, s, t in sizes)
    return "\n\n".join([*parts, f"Measured, best over time; {settings}."])


def _of_tasks(found: Sequence[Figures]) -> str:
    names = list(dict.fromkeys(name for one in found for name in one["methods"]))
    rows = [f"| density {found[0]['density']:g} | {' | '.join(one['task'] for one in found)} |"]
    rows.append("|---|" + "---|" * len(found))
    for name in names:
        cells = (_with_error(one["methods"][name]["best"]) if name in one["methods"] else "" for one in found)
        rows.append(f"| {_label(name)} | {' | '.join(cells)} |")
    for label, kind in (("designed, predicted", "predicted"), ("designed, with rows", "predicted_rows")):
        laws = (f"{one['methods']['designed'][kind]:.3f}" for one in found)
        rows.append(f"| *{label}* | {' | '.join(laws)} |")
    gains = (f"{one['design']['gain']:.2f} ± {one['design']['gain_error']:.2f}" for one in found)
    rows.append(f"| *gain held out in the design* | {' | '.join(gains)} |")
    rows.append(f"| *the training mean alone* | {' | '.join(format(one['guess'], '.3f') for one in found)} |")
    return "\n".join(rows)


def write_transfer(store: Figures) -> str:
    """Drift of the best rate by optimizer, masks and rule."""
    one = store["transfer"]
    span = f"{max(one['densities']):g} to {min(one['densities']):g}"
    rules = list(next(iter(next(iter(one["drifts"].values())).values())))
    rows = [f"| optimizer, masks | {' | '.join(rules)} |", "|---|" + "---|" * len(rules)]
    names = {"gd": "gradient descent", "adam": "Adam"}
    for optimizer, laws in one["drifts"].items():
        for law, found in laws.items():
            cells = " | ".join(f"{found[rule]['drift']:.3g}" for rule in rules)
            rows.append(f"| {names[optimizer]}, {_label(law)} | {cells} |")
    return (
        "\n".join(rows)
        + f"\n\nLargest over least best rate, densities {span}; width {one['width']:,}, {one['seeds']} "
        + f"{'network' if one['seeds'] == 1 else 'networks'} each, {one['train']} inputs, {one['steps']} steps."
    )


def write_rates(store: Figures) -> str:
    """Rates that the kernel gives and rates survived, a row a network."""
    one = store["rates"]
    names = {"squared": "squared", "cross_entropy": "cross-entropy"}
    first = next(iter(one["networks"].values()))
    heads = [f"in batches of {batch}" for batch in first["expected"]]
    heads += [f"{names[loss]}, {batch}" for loss in names for batch in first["survived"][loss]]
    rows = [f"| network | pruned | loss rises | diverges, about | {' | '.join(heads)} |"]
    rows.append("|---|" + "---|" * (3 + len(heads)))
    for name, found in one["networks"].items():
        spans = [span for loss in names for span in found["survived"][loss].values()]
        cells = " | ".join(f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}" for low, high in spans)
        expected = " | ".join(f"{rate:.3g}" for rate in found["expected"].values())
        rates = f"{found['pruned']:g}% | {found['critical']:.3g} | {found['divergence']:.3g} | {expected}"
        rows.append(f"| {name} | {rates} | {cells} |")
    return (
        "\n".join(rows)
        + f"\n\nLargest rates survived, by loss and batch size; {one['steps']} steps, {one['train']:,} inputs."
    )


def command(one: Figures) -> str:
    """What made a stored design."""
    usual = {"widths": (one["width"], 1024), "steps": (one["steps"], 200), "seeds": (one["seeds"], 5)}
    changed = "".join(f" --{name} {value}" for name, (value, default) in usual.items() if value != default)
    if len(one["methods"]) < len(CONTENDERS):
        changed += f" --methods {' '.join(one['methods'])}"
    return f"python -m graphon_validation design --task {one['task']} --density {one['density']:g}{changed} --out DIR"


WRITERS: dict[str, Callable[[Figures], str]] = {
    "designed": write_designed,
    "design-tasks": write_tasks,
    "transfer": write_transfer,
    "claims": claims.write_claims,
    **claims.SECTIONS,
    "rates": write_rates,
    **LAW_WRITERS,
}


def written(store: Figures) -> str:
    """The page with what the store says between its markers."""
    return figures.filled((ROOT / PAGE).read_text(encoding="utf-8"), lambda name: WRITERS[name](store))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.results", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="what an experiment wrote")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    chosen = parser.parse_args(arguments)
    if chosen.folder is not None and not chosen.check:
        print(f"results: stored {', '.join(keep(chosen.folder)) or 'nothing'}")
    text = written(load())
    if chosen.check:
        same = text == (ROOT / PAGE).read_text(encoding="utf-8")
        print("results: all agree" if same else f"{PAGE}: other figures than in {STORE}")
        return 0 if same else 1
    (ROOT / PAGE).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
