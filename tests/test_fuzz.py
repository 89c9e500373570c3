"""Hostile calls of every public name: refused by an error of the package, or answered; never run, never for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import graphon_theory as gt
from tests.tools import fuzz
from tests.tools.fuzz_entries import entries, is_plain_name
from tests.tools.fuzz_problems import Entry
from tests.tools.hostile_callables import Lied
from tests.tools.hostile_texts import CODE, MARK, SYMBOLS, TEXTS

ABSTRACT = {"Graphon"}  # called as its subclasses are
# made by the functions of their names
RESULTS = {"Amplification", "Design", "Fit", "GraphonFlow", "KernelGradient", "SynFlowNetwork", "Transfer"}


def names(package: Any) -> set[str]:
    return {name for name in package.__all__ if is_plain_name(getattr(package, name))} - ABSTRACT - RESULTS


def test_every_public_name_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called = {name.split(".")[0] for name in entries() if not name.startswith(("gv.", "command ", "experiment "))}
    assert names(gt) <= called
    finite = {name.removeprefix("gv.") for name in entries() if name.startswith("gv.")}
    if finite:  # torch is installed
        import graphon_validation as gv

        assert names(gv) <= finite


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_plain_calls_work(slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is spoilt elsewhere is right as it stands."""
    monkeypatch.chdir(tmp_path)
    found = {name: fuzz._outcome(one, one.plain()) for name, one in entries().items() if one.slow == slow}
    assert {name: outcome for name, outcome in found.items() if outcome[0] != "result"} == {}


# --- text that is code ------------------------------------------------------------------------------------------------

RUN: tuple[Any, ...] = (CODE, sp.Symbol(CODE), sp.Function(CODE)(sp.Symbol("u")))


def refused_everywhere(entry: Entry, values: tuple[Any, ...]) -> dict[str, tuple[str, str]]:
    """What came of it other than a result or an error of the package, by argument."""
    wrong = {}
    for name in entry.plain():
        for value in () if name in entry.kept or name.startswith("file ") else values:
            outcome = fuzz._outcome(entry, {**entry.plain(), name: value})
            if outcome[0] not in fuzz.FINE:
                wrong[f"{name} = {type(value).__name__} {value if isinstance(value, str) else ''}"[:80]] = outcome
    return wrong


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_code_is_run_by_no_argument(slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {name: refused_everywhere(entry, RUN) for name, entry in entries().items() if entry.slow == slow}
    assert {name: found for name, found in wrong.items() if found} == {}
    assert not Path(MARK).exists()


@pytest.mark.slow
def test_no_text_and_no_symbol_is_run_by_any_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {name: refused_everywhere(entry, (*TEXTS, *SYMBOLS)) for name, entry in entries().items()}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_code_that_is_run_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = Entry("sympify", sp.sympify, lambda: {"a": "1"}, (object,))
    assert fuzz._outcome(entry, {"a": CODE})[0] == "executed"


# --- whatever else ----------------------------------------------------------------------------------------------------


def test_hostile_calls() -> None:
    found = fuzz.run(range(300))
    print(found)
    assert found.escapes == []
    assert found.total == 300


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_many_hostile_calls(part: int) -> None:
    found = fuzz.run(range(1_000 * (part + 1), 1_000 * (part + 2)))
    print(found)
    assert found.escapes == []
    assert found.total == 1_000


# what got past the doors once, by kind: arrays without axes, sizes beyond all use, numbers whose squares are none
ONCE: list[tuple[str, dict[str, Any]]] = [
    ("Graphon.sample", {"positions": np.array(0.5)}),
    ("synflow_network", {"widths": np.array(0.5)}),
    ("sweep", {"rtol": 10**5_000}),
    ("sweep", {"kernel": np.array([])}),
    ("Network", {"layers": range(10**9)}),
    ("n_m_pruning", {"m": 10**30}),
    ("design", {"starts": 10**30}),
    ("design", {"layers": range(10**9)}),
    ("learning_curve", {"ridge": 1e308}),
    ("eigenlearning", {"ridge": 1e308}),
    ("measured_learning_curve", {"ridge": 1e308}),
    ("ClosedForm.expanded", {"expr": sp.zoo}),
    ("ClosedForm.at_equal_norms", {"q": sp.exp(sp.Integer(10) ** 400)}),
    ("limit_kernel", {"progress": gt.Activation("tanh(z)")}),
    ("graphon_flow", {"progress": 3}),
    ("datasets.npy", {"path": "read/" * 1_000}),
    ("plots.kernel", {"order": [[1, 2], [3]]}),
    ("plots.design", {"names": range(10**9)}),
    ("GraphonKernelRegressor", {"depth": 10**9}),
    ("command design", {"--blocks": "9" * 5_000}),
    ("gv.from_torch", {"init": 1e200}),
    ("gv.applicability", {"x": 1e159 * np.ones((3, 2))}),
    ("gv.train", {"learning_rate": 1e200}),
]


@pytest.mark.parametrize(("name", "spoilt"), ONCE)
def test_what_escaped_once_is_refused(
    name: str, spoilt: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name not in entries():
        assert name.startswith(("gv.", "plots.", "GraphonKernel"))  # what needs an extra that is not installed
        return
    entry = entries()[name]
    assert fuzz._outcome(entry, {**entry.plain(), **spoilt})[0] == "refused"


def test_pictures_of_changed_results_are_refused() -> None:
    found = gt.kernel_density(gt.Network([1.0, 0.5, 1.0]), [1.0, 0.0], [0.5, 0.5], 2)
    with pytest.raises(gt.InputError, match=r"got one that does not draw \(KeyError: 'layer'\)"):
        gt.plots.density(found.assign_attrs().drop_attrs())


def _lies(**_: Any) -> Any:
    raise Lied


@pytest.mark.parametrize(
    ("function", "outcome"),
    [
        (lambda a: 1.0, "result"),
        (lambda a: float("nan"), "not finite"),
        (lambda a: np.array([np.nan]), "not finite"),
        (lambda a: "text", "wrong type"),
        (lambda b: 1.0, "wrong call"),
        (lambda a: len(1), "escape"),  # type: ignore[arg-type]
        (lambda a: 1 / 0, "escape"),
        (lambda a: gt.random_pruning(2.0), "refused"),
        (_lies, "lie"),
    ],
)
def test_outcomes_are_told_apart(function: Any, outcome: str) -> None:
    entry = Entry("one", function, lambda: {"a": 1}, (float, np.ndarray))
    assert fuzz._outcome(entry, {"a": 1})[0] == outcome
