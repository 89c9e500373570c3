"""What is called by :mod:`tests.tools.fuzz`: every public name, each with plain arguments, and what it returns."""

from __future__ import annotations

import contextlib
import inspect
from functools import cache

from tests.tools.fuzz_learning import learning
from tests.tools.fuzz_pictures import estimators, pictures, readers
from tests.tools.fuzz_problems import Entry
from tests.tools.fuzz_structures import structures


@cache
def entries() -> dict[str, Entry]:
    """All of them by name; those of finite networks too, where torch is installed."""
    from tests.tools.fuzz_commands import commands

    found = [*structures(), *learning(), *readers(), *commands()]
    for optional in (pictures, estimators):  # matplotlib and scikit-learn are extras
        with contextlib.suppress(ImportError):
            found += optional()
    try:
        from tests.tools.fuzz_networks import finite_networks
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
    else:
        found += finite_networks()
    return {entry.name: entry for entry in found}


def is_plain_name(value: object) -> bool:
    """Whether a public name is something to be called, and no error or warning."""
    return callable(value) and not (inspect.isclass(value) and issubclass(value, Exception))
