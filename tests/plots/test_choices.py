"""Every result finds its picture, files are whole, and the user's matplotlib stays as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.figure import Figure

import graphon_theory as gt
from graphon_theory import plots
from graphon_theory.data.files import load_dataset, save_dataset
from graphon_theory.errors import GraphonError, InputError

NETWORK = gt.Network([1.0, [[0.9, 0.1], [0.2, 0.6]], 1.0], bias_variance=0.1)
X = np.random.default_rng(0).standard_normal((12, 3))
KERNELS = gt.limit_kernel(NETWORK, X)
RESULTS: dict[str, tuple[Any, str]] = {
    "graphon": (gt.ConstantGraphon(0.5), "$W(u, v)$"),
    "layer": (gt.random_pruning(0.2), "density of connections $W$"),
    "network": (NETWORK, "density of connections $W$"),
    "layers": (list(NETWORK.layers), "density of connections $W$"),
    "kernels": (KERNELS, r"NTK $\Theta(x, x')$"),
    "one kernel": (KERNELS.nngp, "NNGP $K(x, x')$"),
    "shares": (gt.limit_kernel(NETWORK, X, contributions=True), "Where the tangent kernel comes from"),
    "density": (gt.kernel_density(NETWORK, X[0], X[1], 2), "kernel density"),
    "spectrum": (gt.spectrum(KERNELS.ntk), "Spectrum"),
    "graphon spectrum": (gt.graphon_spectrum("u*v", 1), "Spectrum"),
    "training": (gt.gradient_flow(KERNELS.ntk, X[:, 0], [1, 2]), "Training"),
    "ensemble": (gt.training_ensemble(KERNELS, X[:, 0], [1, 2]), "Predictions"),
    "path": (gt.spectrum_path([NETWORK, NETWORK], X, count=3), "Energy in the leading modes"),
    "networks": (gt.compare_networks({"a": NETWORK}, X, X[:, 0]), "Training loss, gradient flow"),
    "curve": (gt.learning_curve(KERNELS.ntk, X[:, 0], [3, 6]), "Learning curve"),
}


def texts_of(axes: Any) -> set[str]:
    return {text for one in axes.figure.axes for text in (one.get_title(), one.get_ylabel())}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_finds_its_picture(name: str, tmp_path: Path) -> None:
    result, told = RESULTS[name]
    assert told in texts_of(plots.draw(result, ax=Figure()))
    if isinstance(result, xr.Dataset):
        save_dataset(result, tmp_path / "result.nc")
        assert told in texts_of(plots.draw(load_dataset(tmp_path / "result.nc"), ax=Figure()))


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_are_of_the_kind_their_names_say(ending: str, start: bytes, tmp_path: Path) -> None:
    before = pyplot.get_fignums()
    plots.save(NETWORK, tmp_path / f"one.{ending}")
    plots.save(NETWORK, tmp_path / f"two.{ending}")
    content = (tmp_path / f"one.{ending}").read_bytes()
    assert content.startswith(start)
    assert content == (tmp_path / f"two.{ending}").read_bytes()
    assert pyplot.get_fignums() == before  # no window's figure is made
    plots.save_figure(plots.draw(KERNELS, ax=Figure(), kind="nngp"), tmp_path / f"three.{ending}")
    assert (tmp_path / f"three.{ending}").stat().st_size > 1000


@pytest.mark.parametrize("name", ["figure.nc", "figure", "figure.jpg", "png"])
def test_other_files_are_refused_before_anything_is_drawn(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"path: expected a file that ends in \.png, \.svg or \.pdf"):
        plots.save(NETWORK, tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_wrong_results_are_named() -> None:
    sweep = xr.Dataset({"ntk": (("width", "seed", "x", "x2"), np.ones((1, 1, 2, 2)))})
    for wrong, named in ((3, "result: expected a Graphon"), (xr.Dataset(), "result: expected"), (sweep, "gv.compare")):
        with pytest.raises(InputError, match=named):
            plots.draw(wrong)
    with pytest.raises(InputError, match="options: kernel got an unexpected keyword argument 'colour'"):
        plots.draw(KERNELS, colour="red", ax=Figure())
    full = Figure()
    full.add_subplot()
    with pytest.raises(InputError, match="a figure that holds axes already"):
        plots.draw(KERNELS, ax=full)


def test_your_axes_come_back_and_your_settings_stay() -> None:
    settings = dict(mpl.rcParams)
    figure, (left, right) = pyplot.subplots(1, 2)
    try:
        assert plots.draw(KERNELS, ax=left) is left
        assert plots.draw(NETWORK, ax=right) is right
        alone = figure.add_axes((0.1, 0.1, 0.3, 0.3))  # of no grid
        assert plots.connectivity(NETWORK, ax=alone) is alone
        inside = [one for one in figure.axes if one.get_position().x1 <= 0.45 and one.get_position().y1 <= 0.45]
        assert len(inside) >= 4
        own: Any = plots.draw(gt.ConstantGraphon(0.5))
        assert own.figure.number in pyplot.get_fignums()  # notebooks show it
    finally:
        pyplot.close("all")
    assert dict(mpl.rcParams) == settings


def test_matplotlib_loads_with_the_first_drawing() -> None:
    code = (
        "import sys, graphon_theory as gt; gt.plots.draw; assert 'matplotlib' not in sys.modules; "
        "gt.plots.graphon(0.5); assert 'matplotlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"MPLBACKEND": "Agg", **os.environ})


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphon_theory.data.checks.find_spec", lambda name: None)
    with pytest.raises(GraphonError, match=r"plots.kernel: needs matplotlib.*graphon-theory\[examples\]"):
        plots.kernel(KERNELS)
