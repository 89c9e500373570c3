"""The quickstart, run as its user does: what it writes, shows and refuses."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import graphon_theory as gt
from graphon_theory.data import checks
from graphon_theory.data.files import load_dataset
from graphon_theory.reports import quickstart

pytestmark = pytest.mark.skipif(
    find_spec("sklearn") is None or find_spec("matplotlib") is None, reason="needs the examples extra"
)
WITH_TORCH = find_spec("torch") is not None


@dataclass(frozen=True)
class Done:
    folder: Path
    results: xr.Dataset
    shown: str


def do(folder: Path) -> Done:
    console = Console(file=io.StringIO(), width=80)
    results = quickstart.run(folder, console)
    assert isinstance(console.file, io.StringIO)
    return Done(folder, results, console.file.getvalue())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The whole job, only with smaller finite networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "WIDTHS", (32, 64))
        patch.setattr(quickstart, "SEEDS", 6)
        return do(tmp_path_factory.mktemp("quickstart"))


def without(module: str, patch: pytest.MonkeyPatch) -> None:
    for place in (quickstart, checks):
        patch.setattr(place, "find_spec", lambda name: None if name == module else find_spec(name))


def test_files(done: Done) -> None:
    names = {path.name for path in done.folder.iterdir()} - {"finite-networks"}
    assert names == {"quickstart.nc", "quickstart.png", "networks", "digits.npy", "targets.npy"}
    assert not list(done.folder.rglob("*.part*"))
    xr.testing.assert_equal(load_dataset(done.folder / "quickstart.nc"), done.results)
    image = (done.folder / "quickstart.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    width, height = np.frombuffer(image[16:24], ">u4")
    assert width > 1500
    assert height > 900


def test_networks_and_digits_on_disk_give_the_same_kernel(done: Done) -> None:
    x = np.load(done.folder / "digits.npy")
    assert x.shape == (quickstart.TRAIN, 64)
    for name, network in quickstart.networks().items():
        text = (done.folder / "networks" / f"{name}.toml").read_text(encoding="utf-8")
        again = gt.limit_kernel(gt.Network.from_toml(text), x[:5]).ntk
        np.testing.assert_array_equal(again, gt.limit_kernel(network, x[:5]).ntk)


def test_masked_networks_have_the_density_they_say() -> None:
    for name, network in quickstart.networks().items():
        for layer in network.layers[1:3]:
            density = 1.0 if name == "dense" else quickstart.DENSITY
            assert layer.mask.mean() == pytest.approx(density, rel=1e-12)


def test_figures_agree_with_each_other(done: Done) -> None:
    r = done.results
    assert all(bool(np.isfinite(r[name]).all()) for name in r.data_vars)
    total = r.eigenvalue.sum("mode")
    np.testing.assert_allclose(r.energy_10, r.eigenvalue.isel(mode=slice(10)).sum("mode") / total, rtol=1e-12)
    np.testing.assert_allclose(r.effective_rank, total / r.eigenvalue[:, 0], rtol=1e-12)
    np.testing.assert_allclose(r.critical_learning_rate, 2 / r.eigenvalue[:, 0], rtol=1e-12)
    assert bool((r.loss.diff("time") < 0).all())
    for name in r.network.values:
        one = r.sel(network=name)
        at_level = np.exp(np.interp(np.log(one.time_to_loss), np.log(one.time), np.log(one.loss)))
        assert at_level == pytest.approx(quickstart.LOSS_LEVEL, rel=0.01)


def test_it_learns_to_read(done: Done) -> None:
    assert (done.results.final_accuracy > 0.98).all()
    # kernel regression at infinite time, computed without modes
    digits = quickstart.load_digits()
    network = quickstart.networks()["step"]
    kernel, cross = (gt.limit_kernel(network, x, digits.x).ntk.values for x in (digits.x, digits.x_test))
    right = (cross @ np.linalg.solve(kernel, digits.y)).argmax(axis=1) == digits.labels_test
    assert float(done.results.final_accuracy.sel(network="step")) == pytest.approx(right.mean(), abs=2e-3)


def test_table(done: Done) -> None:
    for word in ("dense", "step", "smooth", "magnitude", "ln eigenvalue 10", "energy in the top 5", "0.650"):
        assert word in done.shown
    assert f"{float(np.log(done.results.eigenvalue.sel(network='smooth')[0])):.2f}" in done.shown
    assert ("width 64" in done.shown) == WITH_TORCH


@pytest.mark.skipif(not WITH_TORCH, reason="needs torch")
def test_finite_networks_confirm_the_limit(done: Done) -> None:
    # O(1/n) bias at these widths is within the spread of six networks: four standard errors hold both
    z = (done.results.sweep_ratio - 1) / done.results.sweep_error
    np.testing.assert_array_equal(done.results.width, [32, 64])
    assert (np.abs(z) < 4).all()
    assert (done.results.sweep_error < 0.3).all()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "TRAIN", 150)


@pytest.mark.usefixtures("small")
def test_without_torch_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without("torch", monkeypatch)
    done = do(tmp_path)
    assert "pip install 'graphon-theory[validation]'" in " ".join(done.shown.split())
    assert "width 64" not in done.shown
    assert not (tmp_path / "finite-networks").exists()
    assert (tmp_path / "quickstart.png").exists()


@pytest.mark.parametrize(("module", "package"), [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")])
def test_without_the_examples_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    without(module, monkeypatch)
    with pytest.raises(gt.GraphonError, match=rf"needs {package}, not installed.*'graphon-theory\[examples\]'"):
        quickstart.run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not WITH_TORCH, reason="needs torch")
@pytest.mark.usefixtures("small")
def test_a_failing_sweep_is_an_error_not_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "WIDTHS", (0,))
    with pytest.raises(gt.GraphonError, match=r"the finite networks failed \(exit 1\):\nerror: --widths"):
        do(tmp_path)
    assert not (tmp_path / "quickstart.nc").exists()
