"""Hostile calls of every public name and command, from a seed, each with what came of it.

    python -m tests.tools.fuzz [--count 2000] [--first 0] [--seed 0] [--limit 20] [--names NAME ...] [--show]

A case is a number: its entry, the arguments that are spoilt and what stands in their place follow from it and the seed.
What may come of a call: a finite result of the type that the entry promises; an error of ``graphon_theory.errors``;
whatever a hostile callable raised itself; a TypeError of the call as such, raised before the function began. All else
is an escape, NaN among finite results too, and a call beyond the limit is a hang. Calls run in a worker process, which
is killed where one hangs or breaks it, and in a folder of its own, where hostile text would leave its mark.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing as mp
import os
import reprlib
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 6 << 30  # bytes of address space of a worker: what asks for more fails there and not the machine
SEED = 0
FINE = ("result", "refused", "lie", "wrong call")
HANG, DIED = "hang", "died"
_MODULE = os.path.join("torch", "nn", "modules", "module.py")


@dataclass
class Report:
    """Outcomes by entry, and the cases that escaped with what they say."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    escapes: list[tuple[int, str, str, str]] = field(default_factory=list)  # case, entry, outcome, text

    def add(self, case: int, name: str, outcome: str, text: str) -> None:
        self.counts.setdefault(name, Counter())[outcome] += 1
        if outcome not in FINE:
            self.escapes.append((case, name, outcome, text))

    @property
    def total(self) -> int:
        return sum(sum(counter.values()) for counter in self.counts.values())

    def __str__(self) -> str:
        kinds = [*FINE, *sorted({kind for c in self.counts.values() for kind in c} - set(FINE))]
        width = max(map(len, self.counts), default=0)
        lines = [f"{'entry':<{width}} " + " ".join(f"{kind:>10}" for kind in kinds)]
        rows = {
            **{name: self.counts[name] for name in sorted(self.counts)},
            "all": sum(self.counts.values(), Counter()),
        }
        lines += [f"{name:<{width}} " + " ".join(f"{row[kind]:>10}" for kind in kinds) for name, row in rows.items()]
        return "\n".join(lines)


def run(
    cases: Iterable[int], *, seed: int = SEED, limit: float = 20.0, names: Sequence[str] = (), show: bool = False
) -> Report:
    """Run cases in workers, one after the other. ``names``: entries that alone are called."""
    report = Report()
    with _Workers(seed, tuple(names)) as workers:
        for case in cases:
            began = time.perf_counter()
            name, outcome, text = workers.outcome(case, limit)
            report.add(case, name, outcome, text)
            took = time.perf_counter() - began
            if show and (outcome not in FINE or took > limit / 4):
                print(f"case {case}: {name}: {outcome} ({took:.1f} s)\n{text}\n", flush=True)
    return report


class _Workers:
    """A worker at a time; another when it had to be killed."""

    def __init__(self, seed: int, names: tuple[str, ...]) -> None:
        self.seed, self.names = seed, names
        self.folder = tempfile.TemporaryDirectory()
        self.process: Any = None

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self.folder.cleanup()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self.ours, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(theirs, self.seed, self.names, self.folder.name), daemon=True
        )
        self.process.start()
        theirs.close()
        assert self.ours.recv() == "ready"

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def outcome(self, case: int, limit: float) -> tuple[str, str, str]:
        if self.process is None:
            self._start()
        self.ours.send(case)
        name, shown = "?", ""
        try:
            if self.ours.poll(limit):
                name, shown = self.ours.recv()  # what is about to be called
                if self.ours.poll(limit):
                    outcome, text = self.ours.recv()
                    return name, outcome, f"{shown}\n{text}"
            outcome, text = HANG, f"no answer within {limit:g} s"
        except (EOFError, ConnectionError):
            self.process.join(5)
            outcome, text = DIED, f"the process ended with {self.process.exitcode}"
        self._stop()
        return name, outcome, f"{shown}\n{text}"


def _work(pipe: Connection, seed: int, names: tuple[str, ...], folder: str) -> None:
    """The worker: cases come in by number, what is called and what came of it go out."""
    from tests.tools.fuzz_entries import entries

    os.chdir(folder)
    out = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    every = entries()
    chosen = [every[name] for name in names] or list(every.values())
    pipe.send("ready")
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        entry, arguments, shown = _case(np.random.default_rng([seed, case]), chosen, case)
        pipe.send((entry.name, shown))
        pipe.send(_outcome(entry, arguments))


def _case(rng: np.random.Generator, chosen: Sequence[Any], case: int) -> tuple[Any, dict[str, Any], str]:
    """The entry, in turn, its arguments with one or two of them spoilt, and what to say of it."""
    from tests.tools.hostile_values import hostile

    entry = chosen[case % len(chosen)]
    arguments = entry.plain()
    spoilt = rng.permutation([name for name in arguments if name not in entry.kept])[: 1 + int(rng.random() < 0.25)]
    for name in map(str, spoilt):
        try:
            arguments[name] = hostile(rng, arguments[name])
        except (ArithmeticError, AttributeError, TypeError, ValueError, IndexError, KeyError, RuntimeError):
            arguments[name] = object()  # a plain value that cannot be spoilt so
    shown = ", ".join(f"{name}={_shown(arguments[name])}" for name in map(str, spoilt))
    return entry, arguments, f"{entry.name}({shown})"


def _shown(value: Any) -> str:
    try:
        text = _BRIEF.repr(value) if _foreign(value) else f"{type(value).__name__} {_BRIEF.repr(value)}"
    except Exception as error:
        text = f"{type(value).__name__} ({type(error).__name__} in repr)"
    return " ".join(text.split())[:160]


class _Brief(reprlib.Repr):
    """Of what prints by methods of its own, some of them for ever, the type alone, inside of containers too."""

    def repr1(self, x: Any, level: int) -> str:
        objects = isinstance(x, np.ndarray) and x.dtype == object
        return type(x).__name__ if objects or _foreign(x) else super().repr1(x, level)


_BRIEF = _Brief()
_BRIEF.maxstring = _BRIEF.maxother = 160


def _foreign(value: Any) -> bool:
    return str(type(value).__module__).startswith(("sympy", "tests"))


def _outcome(entry: Any, arguments: dict[str, Any]) -> tuple[str, str]:
    from graphon_theory.errors import GraphonError
    from tests.tools.hostile_callables import Lied
    from tests.tools.hostile_texts import MARK

    Path(MARK).unlink(missing_ok=True)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = entry.function(**arguments)
        outcome = _judged(entry, result)
    except GraphonError as error:
        outcome = ("refused", str(error)) if str(error).strip() else ("silent", repr(error))
        if len(str(error)) > 2_000:
            outcome = "long message", str(error)[:300]
    except Lied:
        outcome = "lie", ""
    except TypeError as error:
        before = error.__traceback__ is not None and error.__traceback__.tb_next is None
        outcome = "wrong call" if before else "escape", _traceback(error)
    except BaseException as error:
        outcome = "escape", _traceback(error)
    if outcome[0] == "escape" and not entry.name.startswith("gv.") and _MODULE in outcome[1]:
        outcome = "lie", ""  # a torch model stood for a function, and raised what it likes
    return ("executed", "hostile text was run") if Path(MARK).exists() else outcome


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-12:])[-3_000:]


def _judged(entry: Any, result: Any) -> tuple[str, str]:
    if not isinstance(result, entry.returns):
        return "wrong type", f"{type(result)} is none of {entry.returns}"
    named = _not_finite(result, "")
    bad = [name for name in named if not {name, name.rpartition("[")[0]} & entry.loose]  # or an entry of a loose one
    return ("not finite", f"in {bad[:5]}") if bad else ("result", "")


def _not_finite(thing: Any, name: str) -> Iterator[str]:
    """Names of what is NaN in a result."""
    if hasattr(thing, "data_vars"):
        for one, variable in thing.data_vars.items():
            yield from _not_finite(variable.values, str(one))
    elif hasattr(thing, "coords") and hasattr(thing, "values"):
        yield from _not_finite(thing.values, name)
    elif isinstance(thing, np.ndarray | float | complex | np.number):
        array = np.asarray(thing)
        if array.dtype.kind in "fc" and np.isnan(array).any():
            yield name or "the result"
    elif isinstance(thing, dict):
        for key, one in thing.items():
            yield from _not_finite(one, str(key))
    elif isinstance(thing, list | tuple):
        for k, one in enumerate(thing):
            yield from _not_finite(one, f"{name}[{k}]")
    elif hasattr(thing, "parameters") and hasattr(thing, "state_dict"):
        for key, one in thing.state_dict().items():
            yield from _not_finite(one.detach().cpu().numpy(), key)
    elif hasattr(thing, "is_finite"):
        with contextlib.suppress(ArithmeticError, LookupError):  # hostile expressions need not know
            if thing.is_finite is False:
                yield name or "the expression"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of a call")
    parser.add_argument("--names", nargs="+", default=())
    parser.add_argument("--show", action="store_true", help="print escapes as they come")
    chosen = parser.parse_args()
    began = time.perf_counter()
    cases = range(chosen.first, chosen.first + chosen.count)
    found = run(cases, seed=chosen.seed, limit=chosen.limit, names=chosen.names, show=chosen.show)
    print(found)
    print(f"{found.total} cases in {time.perf_counter() - began:.0f} s, {len(found.escapes)} escaped")
    with contextlib.suppress(BrokenPipeError):
        sys.exit(bool(found.escapes))


if __name__ == "__main__":
    main()
