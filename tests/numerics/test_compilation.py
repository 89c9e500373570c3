"""Compiled code is kept where there is room: a read-only installation without a home works."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphon_theory.numerics.compilation import temporary_folder

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import warnings
warnings.simplefilter("always")
from graphon_theory.engine.close_loops import _rest
print(_rest(0.5, 0.25, 3.0))
"""
_SEES_ALL, _READS_ALL = 1, 2  # capabilities of root: to write and to read where permissions say no
_DROP = 24  # prctl's PR_CAPBSET_DROP


def _as_anybody() -> None:
    """Permissions count for root too, in the process that is about to begin."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    for capability in (_SEES_ALL, _READS_ALL):
        libc.prctl(_DROP, capability, 0, 0, 0)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for one in folders:
        one.chmod(0o555)
    try:
        yield
    finally:
        for one in folders:
            one.chmod(0o755)


def _run(installed: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_CACHE", "XDG_", "COV"))}
    home = installed / "no_home"
    environment = {**kept, "PYTHONPATH": str(installed), "HOME": str(home), "TMPDIR": str(temporary)}
    command = [sys.executable, "-B", "-c", PROGRAM]
    return subprocess.run(
        command, env=environment, cwd=installed, capture_output=True, text=True, check=False, preexec_fn=_as_anybody
    )


def test_a_read_only_installation_without_a_home(tmp_path: Path) -> None:
    installed, temporary = tmp_path / "installed", tmp_path / "temporary"
    temporary.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "graphon_theory", installed / "graphon_theory", ignore=ignored)
    with _read_only(installed):
        found = _run(installed, temporary)
        assert (found.returncode, found.stderr) == (0, "")
        kept = {path.name.split(".")[1].split("-")[0] for path in temporary.rglob("*.nbi")}
        assert "_rest" in kept
        assert oct((temporary / f"graphon-theory-{os.getuid()}").stat().st_mode & 0o777) == "0o700"
        (temporary / f"graphon-theory-{os.getuid()}").chmod(0o777)  # anyone may put code there now
        again = _run(installed, temporary)
    assert again.returncode == 0
    assert again.stdout == found.stdout
    assert again.stderr.count("compiled code can be kept nowhere") == 1


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"graphon-theory-{os.getuid()}"


def test_the_folder_is_the_users_own(temporary: Path) -> None:
    assert temporary_folder() == temporary
    assert temporary.stat().st_mode & 0o777 == 0o700
    assert temporary_folder() == temporary  # the one that is there


def test_a_folder_that_others_can_reach_is_refused(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary.mkdir()
    temporary.chmod(0o770)
    assert temporary_folder() is None
    temporary.rmdir()
    elsewhere = temporary.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    temporary.symlink_to(elsewhere)
    assert temporary_folder() is None
    temporary.unlink()
    temporary.write_text("a file")
    assert temporary_folder() is None
    temporary.unlink()
    temporary.mkdir(mode=0o700)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    temporary.rename(temporary.with_name(f"graphon-theory-{owner + 1}"))
    assert temporary_folder() is None  # another user made it
