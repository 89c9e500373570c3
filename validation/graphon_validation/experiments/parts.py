"""Parts of an experiment, kept as they finish: a run that was killed goes on where it was, and ends as it would have.

A part is a Dataset that depends on nothing but its own description. It is stored under a name made of all of that, so
that a part of other settings, or of another version, is another part: nothing has to be deleted before a run with
other options, and seeds or methods that are added later find what is there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from xarray import Dataset

from graphon_theory.data.checks import one_of
from graphon_theory.data.files import load_dataset, save_dataset
from graphon_theory.data.versions import __version__
from graphon_theory.errors import InputError

FOLDER = "parts"
ONLY = ("networks", "limits")  # parts of one kind, of an experiment that has both
_DIGITS = 16  # of the digest in a file's name: 64 bits, which no two parts of a study share by chance

Description = Mapping[str, Any]


def one_kind(only: str | None) -> str | None:
    """What a run is asked to keep, and nothing else: None for all. Raises InputError for another word."""
    return None if only is None else one_of("only", only, ONLY)


@dataclass(frozen=True)
class Parts:
    """The parts of one experiment in a folder of results; ``settings`` is what all of them depend on.

    Several processes may work on one folder: files appear whole, and what two of them compute is the same.
    """

    out: Path
    experiment: str
    settings: Description

    def path(self, description: Description) -> Path:
        """Where a part is, or will be."""
        digest = hashlib.sha256(self._text(description).encode()).hexdigest()[:_DIGITS]
        return self.out / FOLDER / f"{self.experiment}-{digest}.nc"

    def part(self, description: Description, make: Callable[[], Dataset]) -> Dataset:
        """The part of this description: from its file, or made now and put there.

        Raises InputError for a file that is damaged or of something else, which it does not overwrite.
        """
        path, text = self.path(description), self._text(description)
        if not path.exists():
            save_dataset(make().assign_attrs(part=text), path)
        found = load_dataset(path)
        if found.attrs.pop("part", None) != text:
            raise InputError(f"out: {path} is not the part that its name says; delete it, or name another folder.")
        return found

    def all(
        self,
        descriptions: Iterable[Description],
        make: Callable[[Description], Dataset],
        label: str = "",
        *,
        progress: bool = True,
    ) -> list[Dataset]:
        """The parts of all descriptions in their order, those that are missing made in that order."""
        every = list(descriptions)
        found = []
        with Progress(console=Console(stderr=True), disable=not progress) as bar:
            task = bar.add_task(label or self.experiment, total=len(every))
            for one in every:
                what = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in one.values())
                bar.update(task, description=f"{label or self.experiment}: {what}")
                found.append(self.part(one, lambda one=one: make(one)))  # type: ignore[misc]
                bar.advance(task)
        return found

    def over(
        self,
        values: Mapping[str, Sequence[Any]],
        make: Callable[[Description], Dataset],
        label: str = "",
        *,
        progress: bool = True,
    ) -> Dataset:
        """The parts of every combination of these values as one Dataset: see :func:`every` and :func:`gathered`."""
        return gathered(self.all(every(values), make, label, progress=progress), values)

    def _text(self, description: Description) -> str:
        whole = {"experiment": self.experiment, "version": __version__, **self.settings, **description}
        return json.dumps(whole, sort_keys=True)


def every(over: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All descriptions over these values, the last name running fastest."""
    return [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]


def gathered(parts: Sequence[Dataset], over: Mapping[str, Sequence[Any]]) -> Dataset:
    """The parts of :func:`every` as one Dataset: over these names, then over their own dimensions, which agree."""
    shape = [len(values) for values in over.values()]
    first = parts[0]
    variables = {
        str(name): (
            (*over, *one.dims),
            np.stack([part[name].values for part in parts]).reshape(*shape, *one.shape),
        )
        for name, one in first.data_vars.items()
    }
    return Dataset(variables, {**first.coords, **{name: list(values) for name, values in over.items()}})
