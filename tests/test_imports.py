"""Importing is light, and every public name is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import graphon_theory as gt

HEAVY = {"torch", "sympy", "numba", "xarray", "matplotlib", "sklearn", "scipy", "pandas"}


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded by a fresh interpreter that runs ``code``."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_nothing_heavy() -> None:
    loaded = modules_after("import graphon_theory")
    assert "graphon_theory" in loaded
    assert not loaded & HEAVY


def test_the_theory_never_loads_torch() -> None:
    loaded = modules_after("import graphon_theory as gt\nfor name in gt.__all__: getattr(gt, name)")
    assert {"graphon_theory", "numba", "sympy"} <= loaded
    assert not loaded & {"torch", "graphon_validation", "matplotlib", "sklearn"}


@pytest.mark.parametrize("name", gt.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(gt, name) is not None
    assert name in dir(gt)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'graphom'"):
        gt.graphom  # noqa: B018
