"""The commands as one program: their order and examples, and what becomes of errors."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer

from graphon_theory.cli import kernel_commands, network_commands, result_commands, self_checks
from graphon_theory.cli.exits import Interrupted, exit_status
from graphon_theory.cli.options import Commands, Many
from graphon_theory.data.versions import __version__

_EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    result_commands.quickstart: ("graphon-theory quickstart --out results",),
    kernel_commands.kernel: ("graphon-theory kernel net.toml --inputs x.npy --out kernel.nc",),
    kernel_commands.spectrum: (
        "graphon-theory spectrum kernel.nc --count 20 --out modes.nc",
        "graphon-theory spectrum net.npz --inputs x.csv --kind nngp",
    ),
    kernel_commands.dynamics: (
        "graphon-theory dynamics kernel.nc --targets y.npy --times 0 10 inf",
        "graphon-theory dynamics net.npz --inputs data.npz --targets data.npz",
        "graphon-theory dynamics net.npz --inputs d.npz --targets d.npz --batch 32",
    ),
    network_commands.estimate: (
        "graphon-theory estimate model.pt --activation relu --out net.npz",
        "graphon-theory estimate masks/ --blocks auto --out net.toml",
        "graphon-theory estimate m1.npy m2.npy --weights w1.npy w2.npy --out net.npz",
    ),
    kernel_commands.compare: (
        "graphon-theory compare a.toml b.npz --inputs x.npy --targets y.npy",
        "graphon-theory compare *.toml --inputs all.npz --targets all.npz --test-inputs all.npz --test-targets all.npz",
    ),
    network_commands.design: (
        "graphon-theory design net.toml --inputs x.npy --targets y.npy --density 0.1 "
        "--widths 20 256 256 1 --out made.npz",
    ),
    result_commands.plot: (
        "graphon-theory plot net.npz --out net.svg",
        "graphon-theory plot modes.nc --out spectrum.pdf",
    ),
    result_commands.report: ("graphon-theory report kernel.nc --out page.html",),
    self_checks.doctor: ("graphon-theory doctor",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    0; 1 where what was asked for cannot be done (GraphonError, files, memory), 2 where the command line is wrong, 130
    after Ctrl-C. Errors are one line on standard error.
    """
    words = None if arguments is None else list(arguments)

    def run() -> None:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _program().main(args=words, prog_name="graphon-theory")

    try:
        return exit_status("graphon-theory", run)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))


def _program() -> Any:
    app = typer.Typer(
        cls=Commands,
        epilog="Exit status: 0, 1 for what cannot be done, 2 for a wrong command line, 130 after Ctrl-C.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for function, examples in _EXAMPLES.items():
        epilog = "\n\n".join(["Examples:", *examples])
        app.command(cls=Many, epilog=epilog)(_interruptible(function))
    return typer.main.get_command(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"graphon-theory {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Limit kernels of sparse neural networks, from graphons."""


def _interruptible(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted from None

    return command


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    print(f"graphon-theory: warning: {message}", file=sys.stderr)
