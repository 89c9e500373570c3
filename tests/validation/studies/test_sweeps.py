"""Finite networks confirm the limit: the reduced sweep always, the whole one among the slow tests."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.data.files import load_dataset
from graphon_theory.errors import InputError, NetworkError
from graphon_validation.commands import main
from graphon_validation.experiments.protocol_experiments import finite_d_floor, protocol_experiment
from graphon_validation.experiments.sweep_experiments import (
    DENSITY,
    ENTRIES,
    gaussian_inputs,
    magnitude_networks,
    structured_network,
    three_block_experiment,
    three_block_network,
    width_sweep_experiment,
)
from tests.validation.helpers import inputs

MAGNITUDE = {"method": "magnitude", "density": DENSITY, "scope": "layer", "layers": [1, 2]}


def assert_confirmed(found: xr.Dataset) -> None:
    assert (np.abs(found.fitted_z) < 3).all(), found.fitted_z
    assert abs(float(found.spread_slope) + 0.5) < 3 * float(found.spread_slope_error)
    assert float(found.spread_slope_error) < 0.1


def test_structured_networks_confirm_the_limit() -> None:
    x, network = gaussian_inputs(), structured_network()
    real = gv.width_sweep(network, x, widths=(64, 128, 256, 512), seeds=range(24), progress=False)
    assert_confirmed(gv.compare(real, gt.limit_kernel(network, x), ENTRIES))
    # neither transposed layers nor constant ones of the same densities would pass
    _, first, second, readout = (layer.mask for layer in network.layers)
    for layers in ([first.T, second.T, readout], [first.mean(), second.mean(), readout.mean()]):
        wrong = gt.limit_kernel(gt.Network([1.0, *layers], "erf", 2.0, 0.1), x)
        assert np.abs(gv.compare(real, wrong, ENTRIES).fitted_z).max() > 5


def test_magnitude_masks_with_their_own_weights_follow_w_v_and_not_w_w() -> None:
    x = gaussian_inputs()
    dense, paired, unpaired = magnitude_networks()
    real = gv.width_sweep(dense, x, widths=(64, 128, 256, 512), seeds=range(24), prune=MAGNITUDE, progress=False)
    assert_confirmed(gv.compare(real, gt.limit_kernel(paired, x), ENTRIES))
    assert np.abs(gv.compare(real, gt.limit_kernel(unpaired, x), ENTRIES).fitted_z).min() > 10
    assert real.attrs["prune_method"] == "magnitude"


@pytest.mark.slow
def test_the_whole_width_sweep(tmp_path: Path) -> None:
    console = Console(file=(tmp_path / "log").open("w", encoding="utf-8"), width=110)
    found = width_sweep_experiment(tmp_path, [128, 256, 512, 1024, 2048], 32, console=console)
    console.file.close()
    assert_confirmed(found["drawn"])
    assert_confirmed(found["magnitude"])
    assert np.abs(found["magnitude-as-random"].fitted_z).min() > 20


def test_a_sweep_is_built_from_independent_named_draws() -> None:
    network, x = gt.Network([1.0, 0.5, 1.0]), inputs(3, 4)
    real = gv.width_sweep(network, x, widths=(8, 16), seeds=(3, 7), progress=False)
    assert real.ntk.dims == ("width", "seed", "x", "x2")
    assert real.ntk.shape == (2, 2, 3, 3)
    assert real.width.values.tolist() == [8, 16]
    assert real.seed.values.tolist() == [3, 7]
    assert gt.Network.from_toml(real.attrs["network"]).layers == network.layers
    model = gv.build(network, (4, 16, 16, 1), np.random.SeedSequence([7, 16]))
    expected = gv.empirical_kernel(model, x).ntk
    np.testing.assert_array_equal(real.ntk.sel(width=16, seed=7), expected)


def test_a_sweep_does_not_depend_on_workers_or_on_what_else_is_swept() -> None:
    network, x, x2 = gt.Network([1.0, 0.5, 1.0], outputs=2), inputs(3, 4), inputs(2, 4, seed=1)
    pruned = {"method": "random", "density": 0.4}
    one = gv.width_sweep(network, x, x2, widths=[8, 16], seeds=[0, 1], prune=pruned, workers=1, progress=False)
    two = gv.width_sweep(network, x, x2, widths=[16], seeds=[1, 5], prune=pruned, workers=2, progress=False)
    assert one.ntk.dims == ("width", "seed", "output", "x", "x2")
    xr.testing.assert_equal(one.ntk.sel(width=16, seed=1), two.ntk.sel(width=16, seed=1))
    assert not np.allclose(one.ntk.sel(seed=0), one.ntk.sel(seed=1))


def test_sweeps_that_make_no_sense_are_refused() -> None:
    network, x = gt.Network([1.0, 0.5, 1.0]), inputs(3, 4)

    def sweep(network: gt.Network = network, **options: object) -> None:
        gv.width_sweep(network, x, **{"widths": [8], "seeds": [0], "progress": False, **options})  # type: ignore[arg-type]

    with pytest.raises(InputError, match="widths: expected different integers of at least 1"):
        sweep(widths=[8, 8])
    with pytest.raises(InputError, match="widths"):
        sweep(widths=[])
    with pytest.raises(InputError, match="seeds: expected different integers of at least 0"):
        sweep(seeds=[-1])
    with pytest.raises(InputError, match="leave rng out"):
        sweep(prune={"method": "random", "density": 0.5, "rng": 0})
    with pytest.raises(InputError, match="density"):
        sweep(prune={"method": "random", "density": 5.0})
    with pytest.raises(NetworkError, match="standard"):
        sweep(gt.Network([1.0, 1.0], parameterization="standard", widths=(4, 8)))


@pytest.mark.slow
def test_the_quickstart_sweep_runs_as_a_command(tmp_path: Path) -> None:
    network, x = gt.Network([1.0, gt.StepGraphon([[0.9, 0.2]]), 1.0], bias_variance=0.1), inputs(5, 4)
    (tmp_path / "net.toml").write_text(network.to_toml(), encoding="utf-8")
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-m", "graphon_validation", "quickstart-sweep", "--out", str(tmp_path / "out")]
    command += ["--network", str(tmp_path / "net.toml"), "--inputs", str(tmp_path / "x.npy")]
    command += ["--widths", "16", "32", "--seeds", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "width 32" in done.stderr  # progress
    found = load_dataset(tmp_path / "out" / "quickstart-sweep.nc")
    expected = gv.width_sweep(network, x, widths=(16, 32), seeds=range(4), progress=False)
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found["scale"], gv.compare(expected, gt.limit_kernel(network, x))["scale"], rtol=1e-10)


def test_the_experiment_prints_tables_and_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["width-sweep", "--out", str(tmp_path), "--widths", "16", "32", "--seeds", "3"]) == 0
    shown = capsys.readouterr().out
    assert "log-log slope of the spread" in shown
    assert "z of k" in shown
    assert "(W, V) applies" in shown  # the sign test, before magnitude masks are held against (W, V)
    names = {"drawn", "magnitude", "magnitude-as-random"}
    assert {path.name for path in tmp_path.iterdir()} == {"parts", *(f"width-sweep-{name}.nc" for name in names)}
    saved = load_dataset(tmp_path / "width-sweep-drawn.nc")
    assert saved.ntk.shape == (2, 3, 6, 6)
    assert list(saved["quantity"].values) == ["trace", "[0, 0]", "[0, 5]", "[3, 5]"]


def test_three_blocks_confirm_w_v_and_w_v_d_and_refute_w_v_under_drift() -> None:
    x = gaussian_inputs()
    plain, drifting = three_block_network(), three_block_network(drift=True)
    for drawn in (plain, drifting):
        real = gv.width_sweep(drawn, x, widths=(64, 128, 256), seeds=range(24), progress=False)
        for theory in (plain, drifting):
            found = gv.compare(real, gt.limit_kernel(theory, x), ENTRIES)
            if theory is drawn:
                assert (np.abs(found.fitted_z) < 3).all()
            else:
                assert np.abs(found.z.sel(width=256)).min() > 4


@pytest.mark.slow
def test_the_whole_three_block_sweep(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=110)
    found = three_block_experiment(tmp_path, [256, 1024, 4096], 32, console=console)
    for name in ("w-v", "w-v-d"):
        assert (np.abs(found[name].fitted_z) < 3).all()
        assert (np.abs(found[name].z) < 4).all()
    assert np.abs(found["w-v-d-as-w-v"].z.sel(width=4096)).min() > 10


def test_the_protocol_experiment_prints_and_separates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=260)
    x = 2 * rng.standard_normal((3, 10))[labels] + rng.standard_normal((260, 10))
    console = Console(file=io.StringIO(), width=120, record=True)
    found = protocol_experiment(
        tmp_path, "magnitude", 0.2, [64, 256], 6, blocks=2, hidden=2, data=(x, labels), console=console
    )
    text = console.export_text()
    assert "(W, V) applies" in text
    assert "top-10 energy" in text
    assert set(found) == {
        (p, t) for p in ("drawn", "redrawn", "signs", "own") for t in ("layers", "(W, W)", "(W, V)", "(W, V, D)", "law")
    }
    for protocol, theory in (("drawn", "(W, W)"), ("redrawn", "(W, W)"), ("signs", "(W, V)"), ("own", "law")):
        assert np.abs(found[protocol, theory].z).max() < 6  # six networks: Student's t, and O(1/n) bias at 64
    assert float(found["own", "(W, W)"].z.sel(width=256, quantity="trace")) > 8
    saved = load_dataset(tmp_path / "protocols-magnitude.nc")
    assert saved["real_own"].shape == (2, 6, 40, 40)


def test_the_finite_d_floor_places_networks_between_rows_and_means() -> None:
    rng = np.random.default_rng(0)
    rows, means = (one @ one.T for one in rng.standard_normal((2, 5, 5)))
    scale = np.array([1.0, 0.7, 2.0, 1.3])[:, None, None]
    own, other = rows * np.ones_like(scale), means * np.ones_like(scale)
    for share in (0.0, 0.25, 1.0):
        found = finite_d_floor((1 - share) * own + share * other, own, other)
        assert found["share"] == pytest.approx(share, abs=1e-12)
    # a factor of the rows' kernel is no way towards the means
    assert finite_d_floor(scale * rows, own, other)["share"] == pytest.approx(0, abs=1e-12)
    assert found["whole"] == pytest.approx(np.linalg.norm(means - rows) / np.linalg.norm(rows))
    assert found["shape"] == pytest.approx(np.sqrt(1 - (rows * means).sum() ** 2 / (rows**2).sum() / (means**2).sum()))


def test_sampled_rows_do_not_draw_networks_towards_means() -> None:
    """Noise of the rows is in their difference to the means too; the share has to be free of its square."""
    rng = np.random.default_rng(1)
    limit = np.diag(np.arange(5.0, 11.0))
    means = limit + 0.3 * np.eye(6)[::-1]
    scores, naive = [], []
    for _ in range(60):
        real, rows = limit + 0.3 * rng.standard_normal((2, 8, 6, 6))
        found = finite_d_floor(real, rows, means * np.ones((8, 1, 1)))
        scores.append(found["share"] / found["error"])
        off = means - rows.mean(0)
        naive.append(((real - rows).mean(0) * off).sum() / (off**2).sum())
    assert np.mean(naive) > 0.2
    assert abs(np.mean(scores)) < 4 / np.sqrt(60)
    assert 0.6 < np.std(scores) < 1.6
    hidden = finite_d_floor(
        real, limit + np.array([[[-0.1]], [[0.1]]] * 4) * np.eye(6)[::-1], limit * np.ones((8, 1, 1))
    )
    assert hidden["shape"] == 0  # rows that differ from the means by noise alone
    assert np.isnan(hidden["share"])
    assert np.isnan(hidden["error"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "theory"),
    [
        ("random", "law"),
        pytest.param("magnitude", "law", marks=pytest.mark.slow),
        pytest.param("synflow", "(W, V)", marks=pytest.mark.slow),
    ],
)
def test_networks_with_a_pruned_input_layer_follow_rows_and_not_means(tmp_path: Path, method: str, theory: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=240)
    x = 2 * rng.standard_normal((3, 10))[labels] + rng.standard_normal((240, 10))
    console = Console(file=io.StringIO(), width=300, record=True)
    found = protocol_experiment(
        tmp_path, method, 0.3, [1024], 6, blocks=2, hidden=1, prune_input=True, data=(x, labels), console=console
    )
    assert f"finite d = 10, width 1,024: the {theory} without rows as positions is" in console.export_text()
    saved = load_dataset(tmp_path / f"protocols-{method}.nc")
    names = (one.replace(" ", "_") for one in ("real signs", f"theory {theory}", f"theory {theory}, means"))
    floor = finite_d_floor(*(saved[name].sel(width=1024).values for name in names))
    assert floor["shape"] > 0.02
    assert abs(floor["share"]) < 4 * floor["error"]
    if theory == "law":  # new signs at every position are a noise of their own, which six networks do not beat
        assert abs(floor["share"] - 1) > 4 * floor["error"]
    assert float(found["signs", theory].shape_interval[0, 0]) == 0


def test_protocols_run_as_a_command_with_the_input_layer_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["protocols", "--out", str(tmp_path), "--method", "random", "--widths", "24", "--seeds", "3"]
    assert main([*command, "--blocks", "2", "--hidden", "2", "--prune-input"]) == 0
    shown = capsys.readouterr().out
    assert "finite d = 64" in shown
    assert "(W, V, D)" in shown


@pytest.mark.parametrize(
    ("broken", "message"),
    [("--network", "cannot read"), ("--inputs", "cannot read")],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str, message: str
) -> None:
    files = {"--network": tmp_path / "net.toml", "--inputs": tmp_path / "x.npy"}
    files["--network"].write_text(gt.Network([1.0]).to_toml(), encoding="utf-8")
    np.save(files["--inputs"], inputs(3, 4))
    files[broken] = tmp_path / "missing"
    pairs = [text for key, path in files.items() for text in (key, str(path))]
    assert main(["quickstart-sweep", "--out", str(tmp_path / "out"), *pairs]) == 1
    shown = capsys.readouterr().err
    assert broken in shown
    assert message in shown
    assert not (tmp_path / "out").exists()
