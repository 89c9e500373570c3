"""Compiled functions: Numba's `njit`, which keeps what it compiles wherever there is room to keep it.

Numba keeps compiled code beside the module or in the user's home, and refuses to compile where it can write to
neither: in an image with a read-only installation and no home, say. Here a folder of the user's own among the temporary
files comes next, and at last compiling without keeping.
"""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit``; with ``cache=True`` the code is kept on disk if there is a place for it.

    Warns once (RuntimeWarning) where there is none: then every process compiles anew.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**options)(function)
        except RuntimeError:  # no place to keep it
            if not options.get("cache"):
                raise
        folder = temporary_folder()
        if folder is not None:
            try:
                with _kept_in(folder):
                    return numba.njit(**options)(function)
            except RuntimeError:  # it cannot be written to either
                pass
        _warn()
        return numba.njit(**{**options, "cache": False})(function)

    return decorate


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Numba decides where to keep a function when it is decorated; other packages' functions stay where they are."""
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def temporary_folder() -> Path | None:
    """A folder among the temporary files that nobody else can write to, made if it is missing; None if there is none.

    What lies in a cache is run, so a folder that another user made, or may write to, will not do.
    """
    user = os.getuid() if hasattr(os, "getuid") else ""  # Windows gives every user temporary files of their own
    try:
        folder = Path(tempfile.gettempdir()) / f"graphon-theory-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    private = not hasattr(os, "getuid") or (found.st_uid == user and not found.st_mode & 0o077)
    return folder if private else None


@cache
def _warn() -> None:
    warnings.warn(
        "compiled code can be kept nowhere, so every process compiles it anew, which takes seconds: set "
        "NUMBA_CACHE_DIR to a folder that can be written to.",
        RuntimeWarning,
        stacklevel=3,
    )
