"""How a command ends: its exit status, and one line on standard error for what went wrong."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable

from graphon_theory.errors import GraphonError

FAILED = 1  # what was asked for cannot be done: GraphonError, files, memory
INTERRUPTED = 130


class Interrupted(BaseException):
    """Ctrl-C, past a parser that would say something else."""


def exit_status(name: str, run: Callable[[], object]) -> int:
    """Run a command and return its exit status; what went wrong is told after the command's ``name``."""
    try:
        run()
    except GraphonError as error:
        told = str(error)
    except OSError as error:
        told = f"{error.filename or 'file'}: {error.strerror or error}"
    except MemoryError as error:
        told = f"{error or 'there is not enough memory'}; take fewer inputs."
    except (KeyboardInterrupt, Interrupted):
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    else:
        return 0
    print(_broken(f"{name}: {told}"), file=sys.stderr)
    return FAILED


def _broken(text: str) -> str:
    """On a terminal, lines that end between words; elsewhere one line, as programs read it."""
    if not sys.stderr.isatty():
        return text
    width = max(20, shutil.get_terminal_size().columns)
    wrapped = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines())
    return "\n".join("\n".join(lines) for lines in wrapped)
