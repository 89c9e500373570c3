"""The documentation runs, its links lead somewhere, and it names what the project depends on."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """(line number, source) of every fenced python block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: found.start(1)].count("\n"), found.group(1))
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/guide.md",
        "docs/more_than_a_constant.md",
        "docs/deeper_than_an_mlp.md",
        "docs/design_a_mask.md",
        "docs/activations.md",
        "docs/estimation.md",
        "docs/scale.md",
        "docs/validation.md",
        "docs/pruned_torch_model.md",
        "docs/own_graphon.md",
        "docs/method_and_rate.md",
        "docs/error_estimates.md",
        "docs/constant_fan_in.md",
        "docs/from_neural_tangents.md",
        "docs/questions.md",
        "docs/index.md",
    ],
)
def test_examples_run(name: str) -> None:
    page = ROOT / name
    blocks = python_blocks(page)
    assert blocks
    namespace: dict[str, object] = {}
    for line, source in blocks:
        if re.search(r"\b(graphon_validation|gv)\b", source) and find_spec("torch") is None:
            continue  # the page says that this part needs torch
        # leading newlines make a traceback point at the page's own lines
        exec(compile("\n" * line + source, str(page), "exec"), namespace)


@pytest.fixture(autouse=True)
def _no_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Figures of examples are drawn, shown by nobody and closed."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def targets(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    local = [link for link in targets(page) if not link.startswith(("http:", "https:", "#"))]
    missing = [link for link in local if not (page.parent / link.split("#")[0]).exists()]
    assert not missing


def test_links_to_other_sites_are_well_formed() -> None:
    """Whether they are answered is for `make links`: tests have no network."""
    sources = [*PAGES, *ROOT.glob("examples/*.*"), *ROOT.glob("graphon_theory/**/*.py")]
    found = {
        link.rstrip(".,;:")
        for source in sources
        for link in re.findall(r"https?://[^\s<>\"'`)\]]*", source.read_text(encoding="utf-8"))
    }
    ours = {link for link in found if not link.startswith("http://www.w3.org/")}  # a namespace of SVG, not a place
    assert len(ours) >= 5
    wrong = {link for link in ours if urlsplit(link).scheme != "https" or "." not in (urlsplit(link).hostname or "")}
    assert not wrong
    papers = [re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}", link) for link in ours if "arxiv.org" in link]
    assert papers
    assert all(papers)


def test_theory_sections_referred_to_exist() -> None:
    headings = re.findall(r"^## (\d+)\.", (ROOT / "docs/theory.md").read_text(encoding="utf-8"), re.MULTILINE)
    sources = [
        *ROOT.glob("graphon_theory/**/*.py"),
        *ROOT.glob("validation/**/*.py"),
        *ROOT.glob("tests/**/*.py"),
    ]
    cited = {
        section
        for source in sources
        for group in re.findall(r"THEORY (§\d+(?:(?:, |-)§?\d+)*)", source.read_text(encoding="utf-8"))
        for section in re.findall(r"\d+", group)
    }
    assert cited
    assert cited <= set(headings)


MODULES = sorted(
    path.name
    for path in ROOT.glob("graphon_theory/**/*.py")
    if not path.name.startswith("_") and "_kernels" not in path.parts
)


def test_modules_are_found_in_every_folder() -> None:
    assert len(MODULES) >= 50


@pytest.mark.parametrize("module", MODULES)
def test_design_names_every_module(module: str) -> None:
    assert f"`{module}`" in (ROOT / "docs/design.md").read_text(encoding="utf-8")


def requirements() -> list[Requirement]:
    """All of pyproject.toml: of the package, of its extras and of building it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    extras = project["optional-dependencies"].values()
    lines = [
        *project["dependencies"],
        *(line for extra in extras for line in extra),
        *settings["build-system"]["requires"],
    ]
    every = map(Requirement, dict.fromkeys(lines))
    return [one for one in every if one.name != project["name"]]


INSTALLED = [one for one in requirements() if next(iter(distributions(name=one.name)), None)]
NOT_IN_THE_OLDEST = {
    "torch",
    "safetensors",
    "ruff",
    "mypy",
    "import-linter",
    "sphinx",
    "myst-nb",
    "sphinx-gallery",
    "furo",
    "gpytorch",
}  # `make test-oldest` tests the theory, and tests only


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w-]+)==(\S+)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {package.replace("_", "-").lower(): version for package, version in found}


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_explained_and_pinned(requirement: Requirement) -> None:
    assert requirement.name in (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    assert requirement.specifier.contains(pins("constraints.txt")[requirement.name])


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_the_oldest_versions_promised_are_those_tested(requirement: Requirement) -> None:
    tested = pins("constraints-oldest.txt")
    assert (requirement.name in tested) == (requirement.name not in NOT_IN_THE_OLDEST)
    if requirement.name in tested:
        assert str(requirement.specifier) == f">={tested[requirement.name]}"


@pytest.mark.parametrize("requirement", INSTALLED, ids=lambda requirement: requirement.name)
def test_installed_versions_are_those_asked_for(requirement: Requirement) -> None:
    assert requirement.specifier.contains(version(requirement.name))
