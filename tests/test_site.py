"""The site: every public name stands in the API with a docstring, and what is run as it is built can run."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import graphon_theory as gt

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = sorted(ROOT.glob("examples/plot_*.py"))


FOR_SCIKIT_LEARN = [name for names in gt._WITH_SCIKIT_LEARN.values() for name in names]


def public() -> dict[str, Any]:
    """Public things by full name."""
    more: dict[str, Any] = {}
    packages: list[Any] = [gt, gt.plots, gt.datasets]
    if find_spec("torch") is not None:
        import graphon_validation as gv

        packages.append(gv)
        if find_spec("gpytorch") is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # linear_operator compiles with torch.jit
                more["graphon_validation.GraphonGPyTorchKernel"] = gv.GraphonGPyTorchKernel
    named = {f"{package.__name__}.{name}": getattr(package, name) for package in packages for name in package.__all__}
    missing = () if find_spec("sklearn") is not None else FOR_SCIKIT_LEARN
    named |= more | {f"graphon_theory.{name}": getattr(gt, name) for name in dir(gt) if name not in missing}
    return {name: thing for name, thing in named.items() if not inspect.ismodule(thing) and not isinstance(thing, str)}


def in_the_api() -> list[str]:
    """Full names that the API page lists, in its order."""
    found, package = [], ""
    for line in (DOCS / "api.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule::"):
            package = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            found.append(f"{package}.{line.strip()}")
    return found


PUBLIC = public()


def test_every_public_name_stands_in_the_api_once() -> None:
    listed = in_the_api()
    assert len(listed) == len(set(listed))
    others = (
        {name for name in listed if name.startswith("graphon_validation.")} if find_spec("torch") is None else set()
    )
    if find_spec("gpytorch") is None:
        others |= {"graphon_validation.GraphonGPyTorchKernel"}
    if find_spec("sklearn") is None:
        others |= {f"graphon_theory.{name}" for name in FOR_SCIKIT_LEARN}
    assert set(listed) - others == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_are_full(name: str) -> None:
    thing = PUBLIC[name]
    text = inspect.getdoc(thing) or ""
    assert text.split("\n")[0].endswith((".", ":"))
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    if inspect.isfunction(thing):
        assert re.search(r"\b[Rr]aises?\b", text), "says nothing of its errors"
    for part, member in vars(thing).items() if inspect.isclass(thing) else ():
        if not part.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert inspect.getdoc(getattr(thing, part)), f"{part} has no docstring"


def test_every_page_is_in_the_contents() -> None:
    contents = set(re.findall(r"^([\w/]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} == contents - {"gallery/index"}


def test_settings_load_and_docstrings_become_blocks() -> None:
    spec = spec_from_file_location("conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    conf = module_from_spec(spec)
    spec.loader.exec_module(conf)
    assert conf.release == gt.__version__
    lines = [
        "Sum of |x|, with T*:",
        "",
        "    f = a * |b|",
        "",
        "``a * b`` and `c * d` stay.",
        "",
        "Args:",
        "    x: a * b",
    ]
    conf.read_plainly(None, "function", "f", None, None, lines)
    wanted = [
        r"Sum of \|x\|, with T\*:",
        "",
        ".. code-block:: text",
        "",
        "    f = a * |b|",
        "",
        "``a * b`` and `c * d` stay.",
        "",
        "Args:",
    ]
    assert lines == [*wanted, r"    x: a \* b"]
    lines = ["Short.", "", "Parameters", "----------", "x:", "    inputs", "", "Returns", "-------", "A * b."]
    conf.read_plainly(None, "function", "f", None, None, lines)
    assert lines[:6] == ["Short.", "", "Parameters", "----------", "x:", "    inputs"]
    assert [line for line in lines[6:] if line] == [".. rubric:: Returns", r"A \* b."]


def test_examples_have_a_title_and_are_short() -> None:
    assert len(EXAMPLES) >= 12
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        title = (ast.get_docstring(ast.parse(text)) or "").splitlines()
        assert set(title[1]) == {"="}, path
        assert len(text.splitlines()) <= 60, path
        assert "__file__" not in text, path  # which the gallery does not set


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path: Path) -> None:
    """Each in a process of its own, as a user would; warnings are errors."""
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**_environment(), "MPLBACKEND": "Agg"}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr
    for page in ("index", "tutorial", "gallery/index", "api", "search", "generated/graphon_theory.limit_kernel"):
        assert (tmp_path / f"{page}.html").stat().st_size > 1000


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'validation'}"}
