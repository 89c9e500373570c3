"""What every command promises: kinds of files, words for options, tables that fit, JSON, progress, one page."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory import cli
from graphon_theory.cli import displays, self_checks
from graphon_theory.cli.options import _spread
from graphon_theory.data.files import save_dataset

Array = NDArray[np.float64]
STEP = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]])
NETWORK = gt.Network([1.0, STEP, 1.0], "erf", 2.0, 0.1)
COMMANDS = {
    *("quickstart", "kernel", "spectrum", "dynamics", "estimate", "compare"),
    *("design", "plot", "report", "doctor"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(2).standard_normal((9, 4))
    NETWORK.save(tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.sin(x[:, 0]))
    save_dataset(gt.limit_kernel(NETWORK, x), tmp_path / "kernel.nc")
    return tmp_path


def run(text: str) -> int:
    return cli.main(text.split())


def width(capsys: pytest.CaptureFixture[str]) -> int:
    """The longest line of what was printed."""
    return max(map(len, capsys.readouterr().out.splitlines()))


def test_help_of_every_command_has_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert set(re.findall(r"^│ ([a-z]+)  ", shown, re.MULTILINE)) == COMMANDS
    for command in COMMANDS:
        assert run(f"{command} --help") == 0
        shown = capsys.readouterr().out
        assert f"graphon-theory {command}" in shown.split("Examples:")[1]
        assert max(map(len, shown.splitlines())) <= 80
        assert "…" not in shown
        assert "bool" not in shown  # of options that take no value


@pytest.mark.parametrize(
    ("words", "spread"),
    [
        ("--t 0 -1 inf --o f", "--t 0 --t -1 --t inf --o f"),
        ("a --t 1 --t 2 3", "a --t 1 --t 2 --t 3"),
        ("--t --o f", "--t --o f"),
        ("--t=1 b", "--t=1 b"),
        ("--t", "--t"),
    ],
)
def test_options_take_words_up_to_the_next_option(words: str, spread: str) -> None:
    assert " ".join(_spread(words.split(), {"--t"})) == spread


@pytest.mark.parametrize(
    ("line", "ending"),
    [
        ("kernel net.npz --inputs x.npy --out k.png", ".nc"),
        ("spectrum kernel.nc --out figure.png", ".nc"),
        ("dynamics kernel.nc --targets y.npy --out flow.npz", ".nc"),
        ("compare net.npz --inputs x.npy --targets y.npy --out found", ".nc"),
        ("estimate x.npy --out net.nc", ".toml or .npz"),
        ("design net.npz --inputs x.npy --density 0.1 --widths 4 8 8 1 --out d.nc", ".toml or .npz"),
        ("plot kernel.nc --out figure.nc", ".png, .svg or .pdf"),
        ("report kernel.nc --out page.pdf", ".html"),
    ],
)
def test_files_of_another_kind_are_refused_before_work_begins(
    line: str, ending: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for path in folder.iterdir():
        path.unlink()  # nothing is read
    assert run(line) == 2
    assert f"expected a name that ends in {ending}, which is what is written" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_wrong_command_lines_end_with_2_and_suggest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, told in (
        ("spectrum kernel.nc --cuont 3", "--count"),
        ("spectrum kernel.nc --kind ntks", "ntk"),
        ("spectrum", "Missing argument"),
        ("spectrm kernel.nc", "spectrum"),
    ):
        assert run(line) == 2
        assert told in capsys.readouterr().err
    text = NETWORK.to_toml().replace("weight_variance", "weight_varience")
    (folder / "net.toml").write_text(text, encoding="utf-8")
    assert run("spectrum net.toml --inputs x.npy") == 1
    assert "did you mean weight_variance for weight_varience?" in capsys.readouterr().err


def test_results_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def asked(line: str) -> Any:
        assert run(f"{line} --json") == 0
        return json.loads(capsys.readouterr().out)

    kernel = gt.limit_kernel(NETWORK, np.load("x.npy")).ntk
    modes = gt.spectrum(kernel, 3)
    found = asked("spectrum net.npz --inputs x.npy --count 3")
    assert found["variables"]["eigenvalue"] == {"dims": ["mode"], "values": modes.eigenvalue.values.tolist()}
    assert found["attrs"]["effective_rank"] == modes.attrs["effective_rank"]
    found = asked("dynamics kernel.nc --targets y.npy --times 1 inf")
    assert found["variables"]["time"]["values"] == [1.0, "inf"]
    assert found["critical_learning_rate"] == gt.critical_learning_rate(kernel)
    assert "divergence_learning_rate" not in found  # a kernel file does not know its biases
    found = asked("dynamics net.npz --inputs x.npy --targets y.npy --times 1 inf")
    assert found["divergence_learning_rate"] == gt.divergence_learning_rate(kernel, NETWORK)
    found = asked("dynamics net.npz --inputs x.npy --targets y.npy --batch 4 --steps 50")
    expected = gt.divergence_learning_rate(kernel, NETWORK, np.load("y.npy"), batch=4, steps=50)
    assert found["divergence_learning_rate"] == expected
    assert asked("kernel net.npz --inputs x.npy --out k.nc")["shape"] == [9, 9]
    found = asked("compare net.npz --inputs x.npy --targets y.npy")
    assert found["variables"]["network"]["values"] == ["net"]
    assert displays.plain({"a": np.array([np.nan, -np.inf]), "b": (np.float32(1), True)}) == {
        "a": [None, "-inf"],
        "b": [1.0, True],
    }


def test_tables_fit_80_columns(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < 0.3 for shape in ((1024, 784), (1024, 1024), (10, 1024))]
    weights = [rng.standard_normal(mask.shape) for mask in masks]
    np.savez("masks.npz", *masks)
    np.savez("weights.npz", *weights)
    assert run("estimate masks.npz --weights weights.npz --blocks 2 --inputs 2 --out big.toml") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    row = next(line for line in shown.splitlines() if "784-1024" in line)
    assert [word for word in re.split(r"[│\s]+", row) if word][:4] == ["1", "784-1024", "0", "2-2"]
    for name in ("a", "b", "c", "d", "e"):
        NETWORK.save(f"{name}.toml")
    assert run("compare a.toml b.toml c.toml d.toml e.toml --inputs x.npy --targets y.npy") == 0
    assert width(capsys) <= 80


def test_masks_of_a_folder_and_sparse_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    shapes = [(30, 4), *[(30, 30)] * 9, (2, 30)]
    masks = [rng.random(shape) < 0.5 for shape in shapes]
    weights = [rng.standard_normal(mask.shape) for mask in masks]
    (folder / "dense").mkdir()
    (folder / "sparse").mkdir()
    for k, (mask, weight) in enumerate(zip(masks, weights, strict=True)):
        np.save(folder / f"dense/mask{k}.npy", mask)
        np.save(folder / f"dense/weight{k}.npy", weight)
        sp.save_npz(folder / f"sparse/layer.{k}.npz", sp.csr_array(mask.astype(float)))
        sp.save_npz(folder / f"weight.{k}.npz", sp.csr_array(np.where(mask, weight, 0.0)))
    held = " ".join(f"weight.{k}.npz" for k in range(11))
    assert run("estimate dense --blocks 2 --out one.npz") == 0
    assert run(f"estimate sparse --weights {held} --blocks 2 --out two.npz") == 0
    wanted = gt.Network(list(gt.estimate_network(masks, weights, 2)), outputs=2)
    assert gt.Network.load("one.npz") == wanted
    assert gt.Network.load("two.npz") == wanted
    sparse = [sp.csr_array(np.where(mask, weight, 0.0)) for mask, weight in zip(masks, weights, strict=True)]
    assert gt.estimate_network([sp.csr_array(mask) for mask in masks], sparse, 2) == gt.estimate_network(
        masks, weights, 2
    )
    (folder / "none").mkdir()
    assert run("estimate none --out three.npz") == 1
    assert "expected a folder of .npy or .npz files" in capsys.readouterr().err


def test_design(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "design net.npz --inputs x.npy --targets y.npy --density 0.3 --widths 4 32 32 1 --blocks 2 --starts 2"
    assert run(f"{line} --iterations 3 --holdout 0 --seed 4 --out made.npz --history path.nc") == 0
    x, y = np.load("x.npy"), np.load("y.npy")
    wanted = gt.design(
        NETWORK, x, y, density=0.3, widths=[4, 32, 32, 1], blocks=2, starts=2, iterations=3, holdout=0.0, rng=4
    )
    assert gt.Network.load("made.npz") == wanted.network
    assert f"{wanted.value:.6g}" in capsys.readouterr().out
    assert (folder / "path.nc").stat().st_size > 0


class Page(HTMLParser):
    """The tags of a page, and what its links lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_a_report_is_one_page_with_all_in_it(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    modes = gt.spectrum(gt.limit_kernel(NETWORK, np.load("x.npy")).ntk)
    modes.attrs["note"] = "<script>alert(1)</script>"
    save_dataset(modes, "modes.nc")
    assert run("report modes.nc --out page.html --title <b>modes</b>") == 0
    text = Path("page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "<script>alert(1)</script>" in page.cells
    (source,) = page.sources
    kind, _, content = source.partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert b"<svg" in base64.b64decode(content)
    assert f"{float(modes.eigenvalue[0]):.6g}" in page.cells
    np.save("mask.npy", np.eye(3))
    for result in ("net.npz", "kernel.nc", "mask.npy"):
        assert run(f"report {result} --out {result}.html") == 0
        assert len(Page(Path(f"{result}.html").read_text(encoding="utf-8")).sources) == 1


def test_a_plot_is_the_picture_that_suits(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    for source, name, begins in (
        ("net.npz", "a.png", b"\x89PNG"),
        ("kernel.nc", "b.svg", b"<?xml"),
        ("x.npy", "c.pdf", b"%PDF"),
    ):
        assert run(f"plot {source} --out {name}") == 0
        assert Path(name).read_bytes().startswith(begins)


def test_the_doctor_finds_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(self_checks, "_gpu", lambda: "not asked")
    monkeypatch.setenv("COLUMNS", "80")
    assert run("doctor") == 0
    shown = capsys.readouterr().out
    assert "all is well" in shown
    assert max(map(len, shown.splitlines())) <= 80
    monkeypatch.setitem(self_checks._CHECKS, "one that fails", lambda: (1.0, 0.1))
    monkeypatch.setitem(self_checks._CHECKS, "one that breaks", lambda: (1 / 0, 0.1))
    assert run("doctor --json") == 1
    assert json.loads(capsys.readouterr().out)["failed"] == ["one that fails", "one that breaks"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("lasts", "terminal", "shown"), [(0.3, True, True), (0.0, True, False), (0.3, False, False)])
def test_progress_comes_by_time(lasts: float, terminal: bool, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displays, "_PATIENCE", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    err = Terminal() if terminal else io.StringIO()
    with contextlib.redirect_stderr(err), displays.working("a long job") as working:
        working.report(1, 4)
        time.sleep(lasts)
        working.report(2, 4)
    assert ("a long job" in err.getvalue()) == shown


def test_completion_and_a_light_import() -> None:
    environment = {
        **os.environ,
        "_GRAPHON_THEORY_COMPLETE": "complete_bash",
        "COMP_WORDS": "graphon-theory spe",
        "COMP_CWORD": "1",
    }
    command = [sys.executable, "-m", "graphon_theory"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["spectrum"]
    script = "import graphon_theory, sys; print('typer' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_errors_end_lines_between_words_on_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"spectrum {'long_' * 8}name.toml --inputs x.npy"
    assert run(line) == 1
    whole = capsys.readouterr().err
    assert whole.count("\n") == 1
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    assert run(line) == 1
    broken = capsys.readouterr().err
    assert broken.split() == whole.split()
    assert all(len(part) <= 40 or " " not in part for part in broken.splitlines())
