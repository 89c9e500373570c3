"""The commands: same numbers as the library, errors as one message, no partial files."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory
import graphon_theory as gt
from graphon_theory import __main__ as entry
from graphon_theory import cli
from graphon_theory.cli import kernel_commands
from graphon_theory.cli.exits import FAILED
from graphon_theory.data.array_files import read_array
from graphon_theory.data.files import load_dataset, save_dataset, whole_file
from graphon_theory.reports import quickstart

Array = NDArray[np.float64]
STEP = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 1])
NETWORK = gt.Network([1.0, STEP, 1.0], activation="erf", weight_variance=2.0, bias_variance=0.1)


@pytest.fixture
def inputs() -> Array:
    return np.random.default_rng(2).standard_normal((9, 4))


@pytest.fixture
def folder(tmp_path: Path, inputs: Array) -> Path:
    """A network, nine inputs and their targets on disk."""
    (tmp_path / "net.toml").write_text(NETWORK.to_toml(), encoding="utf-8")
    np.save(tmp_path / "x.npy", inputs)
    np.save(tmp_path / "y.npy", np.sin(inputs[:, 0]))
    return tmp_path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def make_kernel(folder: Path) -> Path:
    out = folder / "kernel.nc"
    assert run("kernel", folder / "net.toml", "--inputs", folder / "x.npy", "--out", out) == 0
    return out


def test_kernel(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    written = load_dataset(make_kernel(folder))
    expected = gt.limit_kernel(NETWORK, inputs)
    np.testing.assert_array_equal(written.ntk, expected.ntk)
    np.testing.assert_array_equal(written.nngp, expected.nngp)
    assert "9 x 9, quadrature error" in capsys.readouterr().out
    assert [path.name for path in folder.glob("*kernel*")] == ["kernel.nc"]


def test_kernel_against_other_inputs(folder: Path, inputs: Array) -> None:
    np.savetxt(folder / "new.csv", inputs[:3] + 0.5, delimiter=",", fmt="%.17g")
    out = folder / "deep" / "cross.nc"
    files = ("--inputs", folder / "new.csv", "--against", folder / "x.npy")
    assert run("kernel", folder / "net.toml", *files, "--out", out) == 0
    np.testing.assert_array_equal(load_dataset(out).ntk, gt.limit_kernel(NETWORK, inputs[:3] + 0.5, inputs).ntk)


def test_spectrum(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "modes.nc"
    assert run("spectrum", make_kernel(folder), "--count", 4, "--out", out) == 0
    expected = gt.spectrum(gt.limit_kernel(NETWORK, inputs).ntk, 4)
    np.testing.assert_array_equal(load_dataset(out).eigenvalue, expected.eigenvalue)
    shown = capsys.readouterr().out
    assert f"{float(expected.eigenvalue[0]):.6g}" in shown
    assert f"effective rank {expected.attrs['effective_rank']:.4g}" in shown


def test_spectrum_of_a_network(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    files = (folder / "net.toml", "--inputs", folder / "x.npy")
    assert run("spectrum", *files, "--count", 2, "--kind", "nngp") == 0
    largest = float(gt.spectrum(gt.limit_kernel(NETWORK, inputs).nngp, 1).eigenvalue[0])
    assert f"{largest:.6g}" in capsys.readouterr().out


def test_dynamics(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "path.nc"
    files = (make_kernel(folder), "--targets", folder / "y.npy")
    assert run("dynamics", *files, "--times", 0.5, 2, "inf", "--learning-rate", 0.5, "--out", out) == 0
    kernel = gt.limit_kernel(NETWORK, inputs).ntk
    expected = gt.gradient_flow(kernel, np.sin(inputs[:, 0]), [0.5, 2, np.inf], learning_rate=0.5)
    xr.testing.assert_equal(load_dataset(out).prediction, expected.prediction)
    shown = capsys.readouterr().out
    assert f"{float(expected.loss[1]):.6g}" in shown
    assert f"{gt.critical_learning_rate(kernel):.6g}" in shown


def test_compare(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    other = gt.Network([0.5, 0.5, 0.5], activation="erf")
    (folder / "random.toml").write_text(other.to_toml(), encoding="utf-8")
    np.save(folder / "more.npy", inputs[:4] + 0.1)
    np.save(folder / "more_y.npy", np.sin(inputs[:4, 0]))
    files = ["--inputs", folder / "x.npy", "--targets", folder / "y.npy", "--out", folder / "found.nc", "--count", 5]
    tests = ["--test-inputs", folder / "more.npy", "--test-targets", folder / "more_y.npy"]
    assert run("compare", folder / "net.toml", folder / "random.toml", *files, *tests) == 0
    printed = capsys.readouterr().out
    assert "net" in printed
    assert "random" in printed
    found = load_dataset(folder / "found.nc")
    want = gt.compare_networks(
        {"net": NETWORK, "random": other},
        inputs,
        np.sin(inputs[:, 0]),
        inputs[:4] + 0.1,
        np.sin(inputs[:4, 0]),
        count=5,
    )
    assert list(found.network.values) == ["net", "random"]
    np.testing.assert_allclose(found.test_error, want.test_error, rtol=1e-12)
    np.testing.assert_allclose(found.log_eigenvalue, want.log_eigenvalue, rtol=1e-12)
    assert run("compare", folder / "net.toml", folder / "net.toml", *files) == FAILED
    assert "net came before; rename one file" in capsys.readouterr().err
    assert run("compare", folder / "net.toml", *files, *tests[:2]) == FAILED
    assert "x_test, y_test: give both, or neither" in capsys.readouterr().err


def test_one_output_of_several(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    readout = gt.StepGraphon([[0.9], [0.3]])
    network = gt.Network([1.0, STEP, readout], activation="erf", bias_variance=0.1, outputs=2)
    (folder / "net.toml").write_text(network.to_toml(), encoding="utf-8")
    kernel = make_kernel(folder)
    assert run("spectrum", kernel, "--output", 1, "--count", 1) == 0
    second = gt.limit_kernel(network, inputs).ntk.isel(output=1)
    assert f"{float(gt.spectrum(second, 1).eigenvalue[0]):.6g}" in capsys.readouterr().out
    capsys.readouterr()
    assert run("spectrum", kernel, "--count", 1) == 0  # each has its own
    shown = capsys.readouterr().out
    assert "of output 0" in shown
    assert f"{float(gt.spectrum(second, 1).eigenvalue[0]):.6g}" in shown
    assert run("spectrum", kernel, "--output", 2) == FAILED
    assert "--output: expected 0 to 1, got 2" in capsys.readouterr().err


def test_arrays_are_read_from_npz(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "one.npz", data=inputs)
    np.savez(folder / "named.npz", x=inputs, y=inputs[:2])
    np.savez(folder / "many.npz", a=inputs, b=inputs)
    for name in ("one", "named"):
        np.testing.assert_array_equal(read_array(folder / f"{name}.npz"), inputs)
    out = ("--out", folder / "k.nc")
    assert run("kernel", folder / "net.toml", "--inputs", folder / "many.npz", *out) == FAILED
    assert "expected one array, or one named x, got a, b" in capsys.readouterr().err


def test_each_option_takes_its_own_array_of_an_npz(
    folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]
) -> None:
    y, new = np.sin(inputs[:, 0]), inputs[:4] + 0.1
    np.savez(folder / "all.npz", x=inputs, y=y, x_test=new, y_test=np.sin(new[:, 0]))
    np.savez(folder / "xy.npz", x=inputs, y=y)
    np.savez(folder / "xz.npz", x=inputs, z=y)
    np.savez(folder / "only.npz", labels=y)
    kernel, expected = make_kernel(folder), gt.gradient_flow(gt.limit_kernel(NETWORK, inputs).ntk, y, [3.0])
    for name in ("xy", "all", "only"):
        out = ("--times", 3, "--out", folder / "path.nc")
        assert run("dynamics", kernel, "--targets", folder / f"{name}.npz", *out) == 0
        np.testing.assert_array_equal(load_dataset(folder / "path.nc").prediction, expected.prediction)
    assert run("dynamics", kernel, "--targets", folder / "xz.npz") == FAILED
    assert "xz.npz: expected one array, or one named y, got x, z" in capsys.readouterr().err
    every = folder / "all.npz"
    files = ("--inputs", every, "--targets", every, "--test-inputs", every, "--test-targets", every)
    assert run("compare", folder / "net.toml", *files, "--out", folder / "found.nc") == 0
    want = gt.compare_networks({"net": NETWORK}, inputs, y, new, np.sin(new[:, 0]))
    np.testing.assert_allclose(load_dataset(folder / "found.nc").test_error, want.test_error, rtol=1e-12)
    np.savez(folder / "pair.npz", x=inputs, x2=new)
    pair = ("--inputs", folder / "pair.npz", "--against", folder / "pair.npz", "--out", folder / "cross.nc")
    assert run("kernel", folder / "net.toml", *pair) == 0
    np.testing.assert_array_equal(load_dataset(folder / "cross.nc").ntk, gt.limit_kernel(NETWORK, inputs, new).ntk)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.toml", b"activation = ", "not valid TOML"),
        ("net.toml", b"\xff\xfe\x00", "no UTF-8 text"),
        ("net.toml", None, "No such file"),
        ("x.npy", b"1,2,3", "expected numbers as .npy, .npz or .csv"),
        ("x.npy", None, "No such file"),
    ],
)
def test_unreadable_files(
    folder: Path, name: str, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    out = folder / "kernel.nc"
    assert run("kernel", folder / "net.toml", "--inputs", folder / "x.npy", "--out", out) == FAILED
    assert message in capsys.readouterr().err
    assert not list(folder.glob("*kernel*"))


def test_other_errors(folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spectrum", folder / "net.toml") == FAILED
    assert "--inputs:" in capsys.readouterr().err
    assert run("spectrum", folder / "x.npy") == FAILED
    assert "expected a netCDF-3 file" in capsys.readouterr().err
    save_dataset(xr.Dataset({"loss": ("time", [1.0])}), folder / "loss.nc")
    assert run("spectrum", folder / "loss.nc") == FAILED
    assert "holds no ntk, only loss" in capsys.readouterr().err
    kernel = make_kernel(folder)
    assert run("spectrum", kernel, "--count", 10) == FAILED
    assert "count: expected a whole number from 1 to 9" in capsys.readouterr().err
    assert run("dynamics", kernel, "--targets", folder / "y.npy", "--times", 2, 1) == FAILED
    assert "times: expected increasing times" in capsys.readouterr().err


def test_no_partial_files(tmp_path: Path) -> None:
    def write_half(path: Path) -> None:
        with whole_file(path) as part:
            part.write_text("half")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        write_half(tmp_path / "result.nc")
    assert not list(tmp_path.iterdir())
    old = tmp_path / "old.nc"
    old.write_text("whole")
    with pytest.raises(RuntimeError, match="the disk is full"):
        write_half(old)
    assert old.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [old]


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "run", interrupted)
    assert run("quickstart") == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_interrupt_while_a_file_is_written_leaves_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(data: xr.Dataset, path: Path) -> None:
        with whole_file(path) as part:
            part.write_bytes(b"CDF")
            raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    monkeypatch.setattr(kernel_commands, "save_dataset", half)
    assert run("kernel", folder / "net.toml", "--inputs", folder / "x.npy", "--out", folder / "kernel.nc") == 130
    assert capsys.readouterr().err == "graphon-theory: interrupted\n"
    assert sorted(folder.iterdir()) == before


def test_a_signal_and_an_interrupted_import_end_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal that Ctrl-C sends, in the midst of a command; and while the commands themselves are imported."""
    monkeypatch.setattr(kernel_commands, "save_dataset", lambda *_: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    try:
        assert run("kernel", folder / "net.toml", "--inputs", folder / "x.npy", "--out", folder / "kernel.nc") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "graphon-theory: interrupted\n"

    class Interrupts:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "graphon_theory.cli":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupts, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "graphon_theory.cli")
    monkeypatch.delattr(graphon_theory, "cli")
    assert entry.main() == 130
    assert capsys.readouterr().err == "graphon-theory: interrupted\n"


@pytest.mark.parametrize("bad", ["a\0b.nc", "", " ", "\ud800.nc"])
def test_paths_that_no_file_system_takes_are_refused(
    folder: Path, bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"spec": folder / "net.toml", "--inputs": folder / "x.npy", "--out": folder / "made.nc"}
    for name in given:
        words = [str(bad if key == name else one) for key, one in given.items()]
        assert run("kernel", words[0], "--inputs", words[1], "--out", words[2]) == 2
        assert "expected the path of a" in capsys.readouterr().err
    with pytest.raises(gt.InputError, match="path: expected the path of a file"):
        save_dataset(xr.Dataset(), bad)
    with pytest.raises(gt.InputError, match="path: expected the path of a file"):
        load_dataset(bad)
    assert sorted(path.name for path in folder.iterdir()) == ["net.toml", "x.npy", "y.npy"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("weight_varianse = 1.0", "did you mean weight_variance for weight_varianse?"),
        ("activation = 'relo'", "relu"),
        ("outputs = 1e9", "outputs"),
        ("a = " + "[" * 5_000, "net.toml"),
    ],
)
def test_faults_of_a_specification_name_its_file_and_what_is_near(
    folder: Path, line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = line.partition(" ")[0]
    kept = [one for one in NETWORK.to_toml().splitlines() if not one.startswith(f"{name} ")]
    (folder / "net.toml").write_text("\n".join([line, *kept]), encoding="utf-8")
    assert run("kernel", folder / "net.toml", "--inputs", folder / "x.npy", "--out", folder / "made.nc") == FAILED
    message = capsys.readouterr().err
    assert str(folder / "net.toml") in message
    assert told in message
    assert len(message) < 600


def test_as_a_program(folder: Path) -> None:
    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "graphon_theory", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert program("--version").stdout == f"graphon-theory {gt.__version__}\n"
    failed = program("spectrum", str(folder / "missing.nc"))
    assert failed.returncode == FAILED
    assert failed.stderr.startswith("graphon-theory: ")
    assert "Traceback" not in failed.stderr
    assert program("no-such-command").returncode == 2


# --- parameterization


def test_learning_rates_of_the_standard_parameterization(
    folder: Path, inputs: Array, capsys: pytest.CaptureFixture[str]
) -> None:
    standard = gt.Network([1.0, STEP, 1.0], "erf", 2.0, 0.1, parameterization="standard", widths=(4, 300, 200))
    rate = gt.critical_learning_rate(gt.limit_kernel(standard, inputs).ntk)
    data = ("--inputs", folder / "x.npy", "--targets", folder / "y.npy")
    asked = ("--parameterization", "standard", "--widths", 4, 300, 200)
    assert run("dynamics", folder / "net.toml", *data, *asked) == 0
    assert f"largest stable learning rate of gradient descent: {rate:.6g}" in capsys.readouterr().out
    assert run("compare", folder / "net.toml", *data, *asked, "--out", folder / "found.nc") == 0
    found = load_dataset(folder / "found.nc").critical_learning_rate
    np.testing.assert_allclose(found, rate, rtol=1e-12)
    (folder / "standard.toml").write_text(standard.to_toml(), encoding="utf-8")
    capsys.readouterr()
    for more in ((), ("--parameterization", "ntk")):
        assert run("dynamics", folder / "standard.toml", *data, *more) == 0
        kernel = gt.limit_kernel(NETWORK if more else standard, inputs).ntk
        assert f"descent: {gt.critical_learning_rate(kernel):.6g}" in capsys.readouterr().out
    assert run("dynamics", folder / "net.toml", *data, *asked[:2]) == FAILED
    assert "needs the 3 fan-ins" in capsys.readouterr().err
    assert run("dynamics", make_kernel(folder), *data[2:], *asked[:2]) == FAILED
    assert "holds a kernel, whose parameterization is settled" in capsys.readouterr().err


# --- estimate


@pytest.fixture
def layers(tmp_path: Path) -> tuple[list[Array], list[Array]]:
    """Masks and weights of a small network, as one .npz each and as a .npy a layer."""
    rng = np.random.default_rng(5)
    masks = [(rng.random(shape) < 0.4).astype(float) for shape in ((60, 9), (50, 60), (2, 50))]
    weights = [3 * rng.standard_normal(mask.shape) for mask in masks]
    np.savez(tmp_path / "masks.npz", *masks)
    np.savez(tmp_path / "weights.npz", *weights)
    for k, mask in enumerate(masks):
        np.save(tmp_path / f"mask{k}.npy", mask)
    return masks, weights


def test_estimate_writes_the_librarys_network(
    tmp_path: Path, layers: tuple[list[Array], list[Array]], capsys: pytest.CaptureFixture[str]
) -> None:
    masks, weights = layers
    files = [tmp_path / f"mask{k}.npy" for k in range(3)]
    assert run("estimate", *files, "--blocks", "3", "--inputs", "4", "--out", tmp_path / "plain.toml") == 0
    wanted = gt.Network(gt.estimate_network(masks, blocks=3, inputs=4), outputs=2)
    assert gt.Network.from_toml((tmp_path / "plain.toml").read_text()) == wanted
    arguments = ["--weights", tmp_path / "weights.npz", "--dense-std", "3", "--activation", "erf", "--no-drift"]
    assert run("estimate", tmp_path / "masks.npz", *arguments, "--blocks", "2", "--out", tmp_path / "full.toml") == 0
    full = gt.estimate_network(masks, weights, 2, 3.0, drift=False)
    assert gt.Network.from_toml((tmp_path / "full.toml").read_text()) == gt.Network(full, activation="erf", outputs=2)
    assert "Estimated network" in capsys.readouterr().out


def test_estimate_in_the_standard_parameterization(
    tmp_path: Path, layers: tuple[list[Array], list[Array]], capsys: pytest.CaptureFixture[str]
) -> None:
    masks, weights = layers
    fan_ins = [9, 60, 50]
    as_torch = [w / 3 / np.sqrt(3 * n) for w, n in zip(weights, fan_ins, strict=True)]
    np.savez(tmp_path / "torch.npz", *as_torch)
    out = tmp_path / "net.toml"
    files = (tmp_path / "masks.npz", "--weights", tmp_path / "torch.npz", "--blocks", "2", "--out", out)
    told = ("--parameterization", "standard", "--weight-variance", 1 / 3)
    assert run("estimate", *files, *told) == 0
    assert capsys.readouterr().err == ""
    wanted = gt.estimate_network(masks, as_torch, 2, [1 / np.sqrt(3 * n) for n in fan_ins])
    found = gt.Network.from_toml(out.read_text())
    assert (found.parameterization, found.widths) == ("standard", (9, 60, 50))
    for ours, theirs in zip(found.layers, wanted, strict=True):
        assert ours.variance.mean() == pytest.approx(theirs.variance.mean(), rel=1e-12)
        assert ours.variance.mean() / ours.mask.mean() == pytest.approx(1.0, rel=0.35)
    assert run("estimate", *files, *told, "--widths", 9, 600, 500) == 0
    assert gt.Network.from_toml(out.read_text()).widths == (9, 600, 500)


@pytest.mark.filterwarnings("default")
def test_estimate_warns_of_weights_in_another_unit(
    tmp_path: Path, layers: tuple[list[Array], list[Array]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert layers
    files = (tmp_path / "masks.npz", "--weights", tmp_path / "weights.npz", "--out", tmp_path / "net.toml")
    assert run("estimate", *files) == 0
    told = capsys.readouterr().err
    assert told.startswith("graphon-theory: warning: weights: mean squares of surviving weights contradict")
    assert "dense_std=" in told


def test_estimate_says_what_is_wrong(
    tmp_path: Path, layers: tuple[list[Array], list[Array]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.toml"
    assert run("estimate", tmp_path / "mask1.npy", tmp_path / "mask0.npy", "--out", out) == FAILED
    assert "layer 1 has 50 receiving units, but layer 2 has 9 sending ones" in capsys.readouterr().err
    assert run("estimate", tmp_path / "masks.npz", "--blocks", "few", "--out", out) == FAILED
    assert 'blocks: expected a positive whole number or "auto"' in capsys.readouterr().err
    (tmp_path / "text.npy").write_text("no array")
    assert run("estimate", tmp_path / "text.npy", "--out", out) == FAILED
    assert "text.npy: expected layers as .npy or .npz" in capsys.readouterr().err
    np.save(tmp_path / "wide.npy", np.ones((900, 900)))
    np.save(tmp_path / "last.npy", np.ones((1, 900)))
    assert run("estimate", tmp_path / "wide.npy", tmp_path / "last.npy", "--blocks", "16", "--out", out) == 0
    mask = np.random.default_rng(6).random((900, 900)) < 0.5
    np.save(tmp_path / "wide.npy", mask)
    assert run("estimate", tmp_path / "wide.npy", tmp_path / "last.npy", "--blocks", "16", "--out", out) == FAILED
    assert "group the inputs by --inputs 64" in capsys.readouterr().err
