"""The wheel: what it holds, and that it works away from the checkout with what it says it requires, and no more.

Installing what a wheel requires takes a minute; here an environment of its own is linked to those of the installed
packages that the wheel's metadata name, so that a dependency forgotten there is missing here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from packaging.requirements import Requirement

import graphon_theory as gt

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"graphon_theory": ROOT / "graphon_theory", "graphon_validation": ROOT / "validation/graphon_validation"}
# Nothing that leads back to the checkout, and lines that are not broken.
SEPARATE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"COLUMNS": "160"}
LAYER = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]])


class Environment:
    """A virtual environment with the wheel, one of its extras and what these require, and nothing else."""

    def __init__(self, folder: Path, wheel: Path, extra: str = "") -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(folder / "bin/python"), "install"]
        subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
        (self.site,) = folder.glob("lib/python*/site-packages")
        (installed,) = distributions(path=[str(self.site)], name="graphon-theory")
        for name in sorted(required(installed, extra)):
            self._link(distribution(name))

    def _link(self, installed: Distribution) -> None:
        for top in {path.parts[0] for path in installed.files or ()} - {"..", "__pycache__"}:
            (self.site / top).symlink_to(str(installed.locate_file(top)))

    def run(self, command: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """One of its programs, in a folder outside the checkout."""
        program = str(self.folder / "bin" / command)
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=SEPARATE)


def required(installed: Distribution, extra: str = "") -> set[str]:
    """Names of all distributions that this one requires, at whatever remove."""
    found: set[str] = set()
    waiting = [(installed, {extra})]
    while waiting:
        one, extras = waiting.pop()
        for requirement in map(Requirement, one.requires or ()):
            wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras)
            if wanted and requirement.name not in found:
                found.add(requirement.name)
                waiting.append((distribution(requirement.name), {"", *requirement.extras}))
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip builds it for whoever has the source distribution alone."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (source,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("alone"), wheel)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, its masks, nine inputs and their targets."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(2)
    network = gt.Network([1.0, LAYER, 1.0], activation="erf", bias_variance=0.1)
    (folder / "net.toml").write_text(network.to_toml(), encoding="utf-8")
    x = rng.standard_normal((9, 4))
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", np.sin(x[:, 0]))
    np.save(folder / "mask.npy", rng.random((20, 30)) < 0.4)
    np.savez(folder / "masks.npz", *(rng.random(shape) < 0.4 for shape in ((60, 9), (50, 60), (2, 50))))
    return folder


def test_it_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
    }
    typed = {f"{package}/py.typed" for package in PACKAGES}
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert len(sources) > 100
    assert names == sources | typed | {f"graphon_theory-{gt.__version__}.dist-info/{name}" for name in about}


def test_it_is_not_the_checkout(alone: Environment, tmp_path: Path) -> None:
    script = "import graphon_theory, sys; print(graphon_theory.__file__, *sys.path, sep='\\n')"
    file, *path = alone.run("python", "-c", script, cwd=tmp_path).stdout.splitlines()
    assert Path(file).is_relative_to(alone.site)
    assert not [entry for entry in path if Path(entry).is_relative_to(ROOT)]


def core_commands(files: Path) -> Iterator[list[str]]:
    network, x, y = (str(files / name) for name in ("net.toml", "x.npy", "y.npy"))
    yield ["kernel", network, "--inputs", x, "--out", "kernel.nc"]
    yield ["spectrum", "kernel.nc", "--count", "3", "--out", "modes.nc"]
    yield ["dynamics", "kernel.nc", "--targets", y, "--out", "flow.nc"]
    yield ["compare", network, "--inputs", x, "--targets", y, "--out", "compared.nc"]
    yield ["estimate", str(files / "masks.npz"), "--blocks", "3", "--out", "estimated.toml"]
    small = "--density 0.5 --widths 4 24 24 1 --blocks 2 --starts 1 --iterations 3 --out made.npz"
    yield ["design", network, "--inputs", x, "--targets", y, *small.split()]
    for result in ("mask.npy", "net.toml"):
        yield ["report", str(files / result), "--out", f"{result}.html"]
    yield ["report", "kernel.nc", "--out", "page.html"]
    yield ["doctor"]


@pytest.mark.slow
def test_every_command_but_those_that_draw_needs_no_extra(alone: Environment, files: Path, tmp_path: Path) -> None:
    told = alone.run("graphon-theory", "--help", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    listed = re.findall(r"^│ ([a-z]+)  ", told.stdout, re.MULTILINE)
    commands = list(core_commands(files))
    assert set(listed) == {"quickstart", "plot", *(command[0] for command in commands)}
    for command in commands:
        done = alone.run("graphon-theory", *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        if "--out" in command:
            assert (tmp_path / command[-1]).stat().st_size > 0
    assert "The figure: needs matplotlib" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "not installed: pip install" in done.stdout
    assert "all is well" in done.stdout


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a command says why it failed."""
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_commands_say_in_one_line_what_they_lack(alone: Environment, tmp_path: Path) -> None:
    line = said(alone.run("graphon-theory", "quickstart", cwd=tmp_path))
    assert "needs scikit-learn and matplotlib" in line
    assert "pip install 'graphon-theory[examples]'" in line
    line = said(alone.run("graphon-theory", "plot", "missing.nc", "--out", "figure.png", cwd=tmp_path))
    assert "plot: needs matplotlib, not installed here; run: pip install 'graphon-theory[examples]'" in line
    for name, needed in (("model.pt", "torch"), ("model.safetensors", "torch and safetensors")):
        line = said(alone.run("graphon-theory", "estimate", name, "--out", "net.npz", cwd=tmp_path))
        assert f"estimate {name}: needs {needed}, not installed here" in line
        assert "pip install 'graphon-theory[validation]'" in line
    draws = "import graphon_theory as gt; gt.plots.save(gt.Network([1.0, 1.0]), 'figure.png')"
    done = alone.run("python", "-c", draws, cwd=tmp_path)
    assert "plots.save: needs matplotlib, not installed here" in done.stderr.splitlines()[-1]
    line = said(alone.run("python", "-m", "graphon_validation", "protocols", "--out", "found", cwd=tmp_path))
    assert "PyTorch, which is not installed; run: pip install 'graphon-theory[validation]'" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_torch_alone_has_no_digits(wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    environment = Environment(tmp_path / "environment", wheel, "validation")
    line = said(environment.run("python", "-m", "graphon_validation", "protocols", "--out", "found", cwd=tmp_path))
    assert "needs scikit-learn, not installed here; run: pip install 'graphon-theory[examples]'" in line
    assert not (tmp_path / "found").exists()


def test_the_quickstart_runs_with_the_examples_extra(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment", wheel, "examples")
    done = environment.run("graphon-theory", "quickstart", "--out", "results", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test accuracy at infinite time" in done.stdout
    assert "pip install 'graphon-theory[validation]'" in done.stdout
    assert {"quickstart.nc", "quickstart.png", "networks"} <= {path.name for path in (tmp_path / "results").iterdir()}
