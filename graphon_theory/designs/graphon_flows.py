"""graphon_flow: gradient flow in the space of graphons under a budget of connections (THEORY §13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.data.checks import as_generator, as_inputs, checked_times, positive_number
from graphon_theory.data.labels import samples_of
from graphon_theory.designs.cells import Cells, cells_of
from graphon_theory.designs.kernel_gradients import check_differentiable
from graphon_theory.designs.objectives import Objective
from graphon_theory.designs.problems import (
    as_objective,
    checked_blocks,
    checked_densities,
    checked_groups,
    checked_widths,
    free_layers,
    targets_of,
)
from graphon_theory.designs.searches import Task
from graphon_theory.engine.threads import ProgressBar, checked_progress
from graphon_theory.errors import ConvergenceError, InputError
from graphon_theory.estimation.graphon_paths import path_of_tables
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network
from graphon_theory.values import Record

if TYPE_CHECKING:
    import xarray as xr

_MOST_STEPS = 1_000  # a flow at rest is stiff and goes on in small steps: what comes so far has long settled
_FIRST = 0.02  # by how much the first step may move a cell
_GROWTH = (0.3, 2.0)  # by which a step shrinks and grows at most
_SHARES = 1_000  # of the whole time, in which progress is told
_SAFETY = 0.8  # of the step that would meet the tolerance


@dataclass(frozen=True, eq=False)
class GraphonFlow(Record):
    """What :func:`graphon_flow` returns: graphons that follow the gradient.

    ``networks``: one a time. ``paths``: one Dataset a weight layer, as :func:`graphon_path` gives of masks
    (``graphon`` ("time", "u", "v"), ``density``, ``step`` and its bounds in cut norm); None for layers that are not
    free. ``times``, and ``values`` of the objective at them. ``evaluations``: of kernels with their derivative.
    """

    networks: tuple[Network, ...]
    times: FloatArray
    values: FloatArray
    evaluations: int
    paths: list[xr.Dataset | None] = field(repr=False)

    @property
    def network(self) -> Network:
        """The last one."""
        return self.networks[-1]


def graphon_flow(
    network: Network,
    x: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray | None = None,
    *,
    density: float | Sequence[float],
    widths: Sequence[int],
    times: Sequence[float],
    objective: str | Objective = "leave_one_out",
    blocks: int | Sequence[int] = 8,
    layers: Sequence[int] | None = None,
    groups: ArrayLike | None = None,
    ridge: float = 1e-3,
    start: float = 0.5,
    tolerance: float = 1e-2,
    rng: np.random.Generator | int = 0,
    threads: int | None = None,
    progress: bool | None = None,
) -> GraphonFlow:
    """W(u, v, t) of every free layer, along the projected gradient of an objective under a budget.

        dW/dt = -P (M dJ/dm),   sum_l n_l n_(l-1) mean(W_l) = density sum_l n_l n_(l-1),   least <= W <= 1

    where dJ/dm is the derivative in the expected number of connections of a cell, M the connections of all free layers,
    so that every connection weighs the same, and P the projection on the moves that keep budget and bounds (in that
    metric, one number is added to all cells that are free to move). It is the continuous form of dynamic sparse
    training, which drops connections and grows others, with signals kept at variance 1 (V = W g(u)) as in
    :func:`design`, by Heun's method with steps that are chosen by their error.

    Args:
        network, x, y, density, widths, objective, blocks, layers, groups, ridge, threads: as in :func:`design`.
        times: increasing, from 0 or later; the state at each is returned.
        start: standard deviation of the random logits at time 0; even blocks would stay even for ever.
        tolerance: by how much a cell may be wrong after one step.
        rng: seed or generator of the start.
        progress: a bar of the time that has passed: at once (True), never (False), after two seconds (None).

    Returns a :class:`GraphonFlow`. It is :func:`design` that looks for the least value; a flow goes to the next place
    where nothing under the budget moves down, and says how.

    Raises as :func:`design`, and ConvergenceError where the steps become too many.
    """
    inputs = as_inputs(x, "x")
    counts = checked_widths(network, widths, inputs.shape[1])
    check_differentiable(network)
    free = free_layers(network, layers)
    shares = checked_densities(density, network.depth)
    goal = as_objective(objective, ridge)
    targets = targets_of(y, objective, inputs, samples_of(x))
    clock = checked_times(times)
    if np.isinf(clock[-1]):
        raise InputError("times: expected finite times, got infinity; where a flow ends is what design looks for.")
    limit = positive_number("tolerance", tolerance)
    size = positive_number("start", start)
    q = float((inputs**2).mean())
    if not q > 0:
        raise InputError("x: all inputs are 0, which no mask tells apart.")
    labels = checked_groups(groups, inputs.shape[1])
    cells = cells_of(network, counts, shares, checked_blocks(blocks, network.depth), free, labels, q)
    rows = np.arange(len(inputs))
    task = Task(inputs, targets, rows, rows[:0], goal, ridge, threads=threads)
    flow = _Flow(task, cells, rows, limit)
    begun = cells.values(size * as_generator(rng).standard_normal(cells.count))
    with ProgressBar(checked_progress(progress), "graphon flow") as report:
        states, values = flow.run(begun, clock, report)
    networks = tuple(cells.at(state) for state in states)
    return GraphonFlow(networks, clock, values, flow.evaluations, _paths(networks, free, clock))


class _Flow:
    """Heun's method on cells, with the projection after every part of a step."""

    def __init__(self, task: Task, cells: Cells, rows: IntArray, tolerance: float) -> None:
        self.task, self.cells, self.rows, self.tolerance = task, cells, rows, tolerance
        self.evaluations = 0
        self.scale = cells.weights.sum() / cells.weights

    def run(
        self, cells: FloatArray, clock: FloatArray, report: Callable[[int, int], None] | None
    ) -> tuple[list[FloatArray], FloatArray]:
        """The cells and the objective at every time."""
        now, steps = 0.0, 0
        value, slope = self._slope(cells)
        step = _FIRST / max(float(np.abs(slope).max()), 1e-300)
        states, values = [], []
        for time in clock:
            while now < time:
                steps += 1
                if steps > _MOST_STEPS:
                    raise ConvergenceError(
                        f"times: {_MOST_STEPS} steps have come to {now:.4g} of {clock[-1]:g}; ask for earlier times "
                        "or a larger tolerance."
                    )
                length = min(step, time - now)
                ahead = self._projected(cells - length * slope)
                behind = self._slope(ahead)[1]
                there = self._projected(cells - 0.5 * length * (slope + behind))
                error = float(np.abs(there - ahead).max())
                best = length * _SAFETY * np.sqrt(self.tolerance / max(error, 1e-300))
                step = float(np.clip(best, _GROWTH[0] * length, max(step, _GROWTH[1] * length)))
                if error > self.tolerance:
                    continue
                now = time if length == time - now else now + length
                cells = there
                value, slope = self._slope(cells)
                if report is not None:
                    report(round(_SHARES * now / clock[-1]), _SHARES)
            states.append(cells)
            values.append(value)
        return states, np.array(values)

    def _slope(self, cells: FloatArray) -> tuple[float, FloatArray]:
        self.evaluations += 1
        value, slope = self.task.in_cells(self.cells, cells, self.rows)
        return value, slope * self.scale

    def _projected(self, cells: FloatArray) -> FloatArray:
        """The nearest cells within bounds and budgets, every connection weighing the same."""
        out = np.empty_like(cells)
        for which, total in self.cells.groups:
            wanted, weights, least = cells[which], self.cells.weights[which], self.cells.least[which]

            def at(shift: float, wanted: FloatArray = wanted, least: FloatArray = least) -> FloatArray:
                return np.clip(wanted + shift, least, 1.0)

            def excess(shift: float, weights: FloatArray = weights, total: float = total) -> float:
                return float(weights @ at(shift)) / total - 1.0

            reach = float(np.abs(wanted).max()) + 1.0
            out[which] = at(brentq(excess, -reach, reach, xtol=1e-15, rtol=1e-15))
        return out


def _paths(networks: Sequence[Network], free: Sequence[int], clock: FloatArray) -> list[xr.Dataset | None]:
    out: list[xr.Dataset | None] = [None] * networks[0].depth
    for number in free:
        graphons = [network.layers[number].mask for network in networks]
        steps = [g for g in graphons if isinstance(g, StepGraphon)]
        tables = np.stack([g.values for g in steps])
        densities = np.array([g.mean() for g in steps])
        out[number] = path_of_tables(tables, steps[0].u_edges, steps[0].v_edges, clock, {"density": densities})
    return out
