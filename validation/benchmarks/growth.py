"""How the time of a limit kernel grows with inputs, depth and positions, and the figure of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import graphon_theory as gt
from benchmarks.common import FloatArray, fastest
from benchmarks.step_networks import StepNetwork, dense, plain_numpy, random_blocks
from graphon_theory.plots.choices import save_figure
from graphon_theory.plots.styles import styled

BIAS = 0.1
_D = 64

# Okabe and Ito's colours, with markers and dashes of their own
_STYLES: dict[str, dict[str, Any]] = {
    "X @ X.T": {"color": "#777777", "marker": "x", "linestyle": ":"},
    "dense": {"color": "#000000", "marker": "o"},
    "4 blocks, common input profile": {"color": "#0072B2", "marker": "s", "linestyle": "--"},
    "4 blocks, structured inputs, bias": {"color": "#D55E00", "marker": "D"},
    "the same in plain NumPy": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "relu": {"color": "#D55E00", "marker": "D"},
    "erf": {"color": "#0072B2", "marker": "s", "linestyle": "--"},
}


@dataclass(frozen=True)
class Growth:
    """Seconds by N and contender; ns per computed entry, hidden layer and position by depth and by positions.

    Computed entries are those of the upper triangle, N (N + 1) / 2.
    """

    inputs: int  # N of the last two
    seconds: dict[str, dict[int, float]]
    by_depth: dict[str, dict[int, float]]
    by_positions: dict[str, dict[int, float]]


def each(seconds: float, inputs: int, depth: int, positions: int) -> float:
    """ns per computed entry, hidden layer and position."""
    return 1e9 * seconds / (inputs * (inputs + 1) / 2 * depth * positions)


def structured(positions: int, depth: int, activation: str = "relu") -> StepNetwork:
    """A network that only the general route can serve."""
    return random_blocks(positions, depth, _D, 2, bias_variance=BIAS, activation=activation)


def measure_growth(
    counts: Sequence[int], rival_limit: int, inputs: int, depths: Sequence[int], positions: Sequence[int], rounds: int
) -> Growth:
    """Everything with three hidden layers unless depth varies; plain NumPy up to ``rival_limit`` inputs."""
    seconds: dict[str, dict[int, float]] = {}
    nets = {
        "dense": dense(3, _D),
        "4 blocks, common input profile": random_blocks(4, 3, _D, 1, common_inputs=True),
        "4 blocks, structured inputs, bias": structured(4, 3),
    }
    for n in counts:
        x = _inputs(n)
        contenders: dict[str, Callable[[], object]] = {"X @ X.T": partial(np.matmul, x, x.T)}
        contenders |= {name: _kernel(net, x) for name, net in nets.items()}
        if n <= rival_limit:
            contenders["the same in plain NumPy"] = partial(plain_numpy, structured(4, 3), x)
        for name, value in fastest(contenders, rounds).items():
            seconds.setdefault(name, {})[n] = value
    x = _inputs(inputs)

    def rates(cases: Sequence[tuple[int, int, int]]) -> dict[str, dict[int, float]]:
        """Of (key, positions, depth)."""
        found: dict[str, dict[int, float]] = {}
        for key, m, depth in cases:
            times = fastest({name: _kernel(structured(m, depth, name), x) for name in ("relu", "erf")}, rounds)
            for name, value in times.items():
                found.setdefault(name, {})[key] = each(value, inputs, depth, m)
        return found

    by_depth = rates([(depth, 4, depth) for depth in depths])
    return Growth(inputs, seconds, by_depth, rates([(m, m, 3) for m in positions]))


def _inputs(n: int) -> FloatArray:
    return np.random.default_rng(0).standard_normal((n, _D))


def _kernel(net: StepNetwork, x: FloatArray) -> Callable[[], object]:
    network = net.network
    return lambda: gt.limit_kernel(network, x)


@styled
def draw(growth: Growth, path: Path, others: dict[str, tuple[int, float]]) -> None:
    """Three panels on logarithmic axes; ``others``: single points (N, seconds) of other libraries."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
    for name, points in growth.seconds.items():
        left.plot(list(points), list(points.values()), label=name, **_STYLES[name])
    for (name, (n, value)), marker in zip(others.items(), "*P", strict=False):
        left.plot(n, value, label=name, color="#CC79A7", marker=marker, markersize=9, linestyle="")
    left.set(title="NNGP and NTK, 3 hidden layers", xlabel="inputs N", ylabel="seconds")
    for axes, rates, label in (
        (middle, growth.by_depth, "hidden layers (4 positions)"),
        (right, growth.by_positions, "positions (3 hidden layers)"),
    ):
        for name, points in rates.items():
            axes.plot(list(points), list(points.values()), label=name, **_STYLES[name])
        axes.set(xlabel=label, ylabel="ns per entry, layer and position", ylim=(1, 20))
        axes.set_title(f"structured inputs, bias; N = {growth.inputs:,}")
    for axes, ticks in (
        (left, list(growth.seconds["dense"])),
        (middle, list(growth.by_depth["relu"])),
        (right, list(growth.by_positions["relu"])),
    ):
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8)
    for axes in (middle, right):
        axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    save_figure(figure, path)
