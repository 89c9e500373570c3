"""The main job on real data: five connectivities of one network, compared on handwritten digits.

Graphons -> limit kernels -> spectra -> training curves and test accuracy, and, where torch is installed, a
few finite networks to hold against the limit. Needs scikit-learn and matplotlib (the ``examples`` extra).
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import check_installed
from graphon_theory.data.files import load_dataset, save_dataset, whole_file
from graphon_theory.data.labels import MODE, NETWORK, SEED, TARGET, TIME, WIDTH, X2, U, V, Variables, X, dataset
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import GraphonError
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network
from graphon_theory.plots.choices import save_figure
from graphon_theory.plots.quickstart_figures import quickstart_figure
from graphon_theory.pruning.laws import magnitude_pruning, random_pruning
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.training.dynamics import critical_learning_rate, gradient_flow, time_to_loss

if TYPE_CHECKING:
    import xarray as xr

DENSITY = 0.2  # of the masked layers, the same in all networks but the dense one
TRAIN = 1200  # of scikit-learn's 1,797 digits; the others are the test set
MODES = 10  # shown in the table
LOSS_LEVEL = 0.05  # of a loss that starts at 0.45
SWEPT = "step"  # the network held against finite ones
SWEPT_INPUTS, WIDTHS, SEEDS = 64, (64, 256, 1024), 16
GRID = 100  # points a side of the graphons in the figure


def networks() -> dict[str, Network]:
    """Three hidden layers; the two masks between them differ, the input layer and the readout are dense.

    A mask of the input layer would keep finite networks O(1/d) away from the limit at any width (THEORY §9).
    """
    step = StepGraphon(
        [[0.95, 0.46, 0.20], [0.50, 0.25, 0.08], [0.15, 0.08, 0.05]],
        u_edges=[0, 0.2, 0.5, 1],
        v_edges=[0, 0.25, 0.5, 1],
    )
    smooth = AnalyticGraphon("0.9*(1 - u)**2*(1 - v) + 0.8*u**3*v**3")
    hidden = {
        "dense": 1.0,
        "random": random_pruning(DENSITY),  # the scale of the density alone: what differs from it is structure
        "step": step,
        "smooth": smooth,
        "magnitude": magnitude_pruning(DENSITY),
    }
    return {
        name: Network([1.0, layer, layer, 1.0], activation="relu", weight_variance=2.0, bias_variance=0.1)
        for name, layer in hidden.items()
    }


@dataclass(frozen=True)
class Digits:
    """Inputs with mean zero over the training set and mean square one, targets one-hot less their mean."""

    x: FloatArray
    y: FloatArray
    x_test: FloatArray
    labels_test: np.ndarray


def load_digits() -> Digits:
    """scikit-learn's 8 x 8 handwritten digits, shuffled with a fixed seed."""
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order].astype(float), labels[order]
    images -= images[:TRAIN].mean(axis=0)
    images /= np.sqrt(np.mean(images[:TRAIN] ** 2))
    targets = np.eye(10)[labels[:TRAIN]]
    return Digits(images[:TRAIN], targets - targets.mean(axis=0), images[TRAIN:], labels[TRAIN:])


def run(out: Path, console: Console | None = None) -> xr.Dataset:
    """Do the job; write ``quickstart.nc``, ``quickstart.png``, the networks (TOML) and the digits to ``out``.

    Raises GraphonError when the ``examples`` extra is missing or the finite networks fail.
    """
    check_installed("quickstart", {"scikit-learn": "sklearn", "matplotlib": "matplotlib"}, "examples")
    console = console or Console()
    chosen, digits = networks(), load_digits()
    _write_inputs(out, chosen, digits)
    with_torch = find_spec("torch") is not None
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=2 * len(chosen) + 1 + with_torch)
        kernels, modes = {}, {}
        for name, network in chosen.items():
            progress.update(task, description=f"limit kernel and spectrum: {name}")
            kernels[name] = limit_kernel(network, digits.x).ntk
            modes[name] = spectrum(kernels[name])
            progress.advance(task)
        times = _times(modes)
        runs = []
        for name, network in chosen.items():
            progress.update(task, description=f"training and test accuracy: {name}")
            test_kernel = limit_kernel(network, digits.x_test, digits.x).ntk
            runs.append(_learn(kernels[name], modes[name], digits, times, test_kernel))
            progress.advance(task)
        results = _results(chosen, runs, times)
        if with_torch:
            progress.update(task, description=f"finite networks: {SWEPT}, widths {WIDTHS}")
            results = results.merge(_sweep(out, digits, kernels[SWEPT]))
            progress.advance(task)
        progress.update(task, description="figure")
        save_dataset(results, out / "quickstart.nc")
        save_figure(quickstart_figure(results), out / "quickstart.png")
        progress.update(task, description="done", advance=1)
    console.print(table(results))
    lines = [f"figure: {out / 'quickstart.png'}", f"Dataset: {out / 'quickstart.nc'}"]
    lines += [f"networks as TOML: {out / 'networks'}"]
    if not with_torch:
        lines += ["finite networks to hold against the limit: pip install 'graphon-theory[validation]' (torch)"]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return results


def table(results: xr.Dataset) -> Table:
    """The comparison on one screen, a column per network."""
    names = [str(name) for name in results.network.values]
    shown = Table(title=f"{TRAIN:,} digits, limit NTK of networks with three hidden layers", title_style="bold")
    shown.add_column("")
    for name in names:
        shown.add_column(name, justify="right")

    def row(label: str, variable: str, form: str, scale: float = 1.0, end: bool = False) -> None:
        values = results[variable].values * scale
        shown.add_row(label, *(form.format(value) for value in values), end_section=end)

    row("density of hidden layers, mean W", "density", "{:.3f}")
    row("weight variance kept, mean V", "variance", "{:.3f}", end=True)
    for mode in range(MODES):
        logs = np.log(results.eigenvalue.isel({MODE: mode}).values)
        label = f"ln eigenvalue {mode + 1}" if mode else "ln eigenvalue 1 (kernel / N)"
        shown.add_row(label, *(f"{value:.2f}" for value in logs), end_section=mode == MODES - 1)
    row("energy in the top 5 (%)", "energy_5", "{:.1f}", 100)
    row("energy in the top 10 (%)", "energy_10", "{:.1f}", 100)
    row("effective rank", "effective_rank", "{:.2f}")
    row("decay exponent of the spectrum", "decay_exponent", "{:.2f}", end=True)
    row("largest stable learning rate", "critical_learning_rate", "{:.3g}")
    row(f"time to training loss {LOSS_LEVEL:g}", "time_to_loss", "{:.3g}")
    row("steps to it at half that rate", "steps_to_loss", "{:.0f}")
    row("test accuracy at that time (%)", "accuracy_at_level", "{:.1f}", 100)
    row("test accuracy at infinite time (%)", "final_accuracy", "{:.1f}", 100, end=True)
    if "sweep_ratio" in results:
        for width in results.width.values:
            one = results.sel(width=width)
            text = f"{100 * (float(one.sweep_ratio) - 1):+.1f} ± {100 * float(one.sweep_error):.1f}"
            cells = (text if name == SWEPT else "" for name in names)
            shown.add_row(f"width {width}: NTK trace off by (%)", *cells)
        shown.caption = f"± one standard error of the mean over {SEEDS} finite networks a width"
    return shown


def _write_inputs(out: Path, chosen: dict[str, Network], digits: Digits) -> None:
    """What the other commands need to go on from here, as in ``graphon-theory kernel networks/step.toml``."""
    for name, network in chosen.items():
        with whole_file(out / "networks" / f"{name}.toml") as part:
            part.write_text(network.to_toml(), encoding="utf-8")
    for name, array in (("digits", digits.x), ("targets", digits.y)):
        with whole_file(out / f"{name}.npy") as part:
            np.save(part, array)


def _times(modes: dict[str, xr.Dataset]) -> FloatArray:
    """From before any mode of any network has moved to after a third of the slowest network's modes have."""
    fastest = max(float(one.eigenvalue[0]) for one in modes.values())
    slowest = min(float(one.eigenvalue[TRAIN // 3]) for one in modes.values())
    return np.geomspace(0.05 / fastest, 3.0 / slowest, 120)


def _learn(
    kernel: xr.DataArray, modes: xr.Dataset, digits: Digits, times: FloatArray, test_kernel: xr.DataArray
) -> dict[str, FloatArray | float]:
    """What one network's kernel predicts: figures and curves by name."""
    flow = gradient_flow(kernel, digits.y, [*times, np.inf], test_kernel=test_kernel)
    accuracy = (flow.test_prediction.argmax(TARGET).values == digits.labels_test).mean(axis=1)
    loss, stable = flow.loss.values, critical_learning_rate(kernel)
    reached = time_to_loss(flow, LOSS_LEVEL)
    return {
        "eigenvalue": modes.eigenvalue.values,
        "energy_5": float(modes.energy[4]),
        "energy_10": float(modes.energy[9]),
        "effective_rank": modes.attrs["effective_rank"],
        "decay_exponent": modes.attrs["decay_exponent"],
        "critical_learning_rate": stable,
        "time_to_loss": reached,
        "steps_to_loss": reached / (stable / 2),
        "loss": loss[:-1],
        "test_accuracy": accuracy[:-1],
        "accuracy_at_level": float(accuracy[np.argmax(loss <= LOSS_LEVEL)]),
        "final_accuracy": float(accuracy[-1]),
    }


def _results(chosen: dict[str, Network], runs: list[dict[str, FloatArray | float]], times: FloatArray) -> xr.Dataset:
    """All figures in one Dataset with a leading dimension "network"."""
    dims = {"eigenvalue": (NETWORK, MODE), "loss": (NETWORK, TIME), "test_accuracy": (NETWORK, TIME)}
    variables: Variables = {
        name: (dims.get(name, (NETWORK,)), np.array([one[name] for one in runs])) for name in runs[0]
    }
    hidden = [network.layers[1] for network in chosen.values()]
    centres = (np.arange(GRID) + 0.5) / GRID
    for name in ("mask", "variance"):
        grids = [getattr(layer, name)(centres[:, None], centres) for layer in hidden]
        variables[f"{name}_graphon"] = ((NETWORK, U, V), np.array(grids))
    variables["density"] = ((NETWORK,), np.array([layer.mask.mean() for layer in hidden]))
    variables["variance"] = ((NETWORK,), np.array([layer.variance.mean() for layer in hidden]))
    return dataset(
        variables,
        coords={NETWORK: list(chosen), MODE: np.arange(1, TRAIN + 1), TIME: times, U: centres, V: centres},
        attrs={"loss_level": LOSS_LEVEL, "train": TRAIN},
    )


def _sweep(out: Path, digits: Digits, kernel: xr.DataArray) -> xr.Dataset:
    """A few finite networks, drawn in a process of their own (this package never imports torch)."""
    inputs = digits.x[:SWEPT_INPUTS]
    folder = out / "finite-networks"
    with whole_file(folder / "inputs.npy") as part:
        np.save(part, inputs)
    command = [sys.executable, "-m", "graphon_validation", "quickstart-sweep", "--out", str(folder)]
    command += ["--network", str(out / "networks" / f"{SWEPT}.toml"), "--inputs", str(folder / "inputs.npy")]
    command += ["--widths", *map(str, WIDTHS), "--seeds", str(SEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise GraphonError(f"quickstart: the finite networks failed (exit {done.returncode}):\n{last}")
    real = load_dataset(folder / "quickstart-sweep.nc").ntk
    traces = np.trace(real.transpose(WIDTH, SEED, X, X2).values, axis1=2, axis2=3)
    ratio = traces / float(np.trace(kernel.values[:SWEPT_INPUTS, :SWEPT_INPUTS]))
    return dataset(
        {
            "sweep_ratio": ((WIDTH,), ratio.mean(axis=1)),
            "sweep_error": ((WIDTH,), ratio.std(axis=1, ddof=1) / np.sqrt(ratio.shape[1])),
        },
        coords={WIDTH: real[WIDTH].values},
    )
