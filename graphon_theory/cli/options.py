"""Options of the commands: what they accept, refused before any work is begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from graphon_theory.data.array_files import TABLES
from graphon_theory.data.files import file_path
from graphon_theory.errors import InputError

_DIGITS = 300  # of a number that is a count of anything
FIGURES = (".png", ".svg", ".pdf")
NETWORKS = (".toml", ".npz")


class Kind(StrEnum):
    """Which kernel."""

    ntk = "ntk"
    nngp = "nngp"


class Parameterization(StrEnum):
    """Whose learning rates: torch.nn.Linear has the standard one."""

    ntk = "ntk"
    standard = "standard"


class _Flags:
    """Help in which options that take no value name no type of one."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in params:
            if getattr(one, "is_flag", False):
                one.metavar = ""
        return params


class Commands(_Flags, TyperGroup):
    """The program."""


class Many(_Flags, TyperCommand):
    """A command whose repeated options take all words up to the next option, as in ``--times 0 1 inf``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {name for one in self.params if getattr(one, "multiple", False) for name in one.opts}
        return list(super().parse_args(ctx, list(_spread(args, several))))


def _spread(words: Sequence[str], several: set[str]) -> Iterator[str]:
    """``--times 0 1`` as ``--times 0 --times 1``."""
    current, given = "", False
    for word in words:
        if current and not _is_option(word):
            yield from (current, word)
            given = True
            continue
        if current and not given:
            yield current  # without a value, which is refused by name
        current, given = (word, False) if word in several else ("", False)
        if not current:
            yield word
    if current and not given:
        yield current


def _is_option(word: str) -> bool:
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False  # a negative number


def path_of(text: str) -> Path:
    """A path as the parser reads it."""
    try:
        return file_path("path", text)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


def written_as(*suffixes: str) -> Callable[[str], Path]:
    """A path to write to, whose ending says what is written."""

    def out_path(text: str) -> Path:
        path = path_of(text)
        if path.suffix.lower() not in suffixes:
            ends = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}" if len(suffixes) > 1 else suffixes[0]
            raise typer.BadParameter(f"expected a name that ends in {ends}, which is what is written, got {text!r:.80}")
        if path.is_dir():
            raise typer.BadParameter(f"{text} is a folder; name a file in it")
        return path

    return out_path


ARRAYS_HELP = f"as {', '.join(TABLES)}"
Inputs = Annotated[Path, typer.Option(parser=path_of, metavar="FILE", help=f"Inputs (samples, inputs), {ARRAYS_HELP}.")]
SomeInputs = Annotated[
    Path | None,
    typer.Option(parser=path_of, metavar="FILE", help=f"Inputs (samples, inputs), {ARRAYS_HELP}; beside a network."),
]
Targets = Annotated[Path, typer.Option(parser=path_of, metavar="FILE", help="Targets, one row an input.")]
Tolerance = Annotated[float, typer.Option(help="Quadrature tolerance.")]
ResultOut = Annotated[
    Path | None, typer.Option(parser=written_as(".nc"), metavar="FILE.nc", help="netCDF file to write.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and no table.")]
KindOption = Annotated[Kind, typer.Option(help="Which kernel.")]
ParameterizationOption = Annotated[
    Parameterization | None,
    typer.Option(help='Whose learning rates: "standard" is that of torch.nn.Linear. As the network\'s file says.'),
]
Widths = Annotated[
    list[int] | None, typer.Option(metavar="N...", help="Fan-ins n_0 ... n_(L-1), which standard needs.")
]
Source = Annotated[
    Path,
    typer.Argument(
        parser=path_of,
        metavar="NETWORK|KERNEL.nc",
        help="A network (.toml or .npz, with --inputs) or a kernel that `graphon-theory kernel` wrote.",
    ),
]
Output = Annotated[
    int | None,
    typer.Option(help="One output of the network. All: one kernel that they share, or each its own."),
]


def number_or_word(text: str) -> int | str:
    """The whole number that a text is, or the text: of a word, and of digits that make no sensible number."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else text
