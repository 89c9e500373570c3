"""The commands that show results: as a picture, as a page, and the quickstart that makes both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphon_theory.cli.displays import console, print_json, say, working
from graphon_theory.cli.options import FIGURES, Json, path_of, written_as
from graphon_theory.cli.sources import is_network
from graphon_theory.data.array_files import ARRAYS, read_array
from graphon_theory.data.checks import check_installed
from graphon_theory.data.files import load_dataset, whole_file

Result = Annotated[
    Path,
    typer.Argument(
        parser=path_of,
        metavar="FILE",
        help="A result (.nc), a network (.toml or .npz), or a mask or graphon as an array (.npy, .csv).",
    ),
]


def quickstart(
    out: Annotated[Path, typer.Option(parser=path_of, metavar="DIR", help="Folder for the results.")] = Path(
        "quickstart-results"
    ),
) -> None:
    """Do the main job on handwritten digits, in about a minute."""
    from graphon_theory.reports.quickstart import run

    run(out, console())


def plot(
    result: Result,
    out: Annotated[
        Path,
        typer.Option(parser=written_as(*FIGURES), metavar="FILE.png|svg|pdf", help="Picture to write."),
    ],
) -> None:
    """Draw a result, a network or a mask: the picture that suits it."""
    check_installed("plot", {"matplotlib": "matplotlib"}, "examples")
    from graphon_theory import plots

    with working("picture"):
        plots.save(_read(result), out)
    say(f"written to {out}")


def report(
    result: Result,
    out: Annotated[
        Path, typer.Option(parser=written_as(".html"), metavar="PAGE.html", help="Page to write, with all in it.")
    ],
    title: Annotated[str | None, typer.Option(help="Its title; the file's name if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Write a result as one HTML page that needs nothing beside it: figure, tables, the network."""
    from graphon_theory.reports.pages import page

    with working("page"):
        text = page(_read(result), title or result.name)
    with whole_file(out) as part:
        part.write_bytes(text.encode("utf-8", "replace"))  # half a pair of surrogates is no character
    if as_json:
        print_json({"out": str(out), "bytes": out.stat().st_size})
    else:
        say(f"written to {out}")


def _read(path: Path) -> Any:
    """A network, a graphon or a Dataset of a file."""
    if is_network(path):
        from graphon_theory.networks.network import Network

        return Network.load(path)
    if path.suffix.lower() in ARRAYS:
        from graphon_theory.graphons.graphon import StepGraphon

        return StepGraphon(read_array(path, "x").astype(float))
    return load_dataset(path)
