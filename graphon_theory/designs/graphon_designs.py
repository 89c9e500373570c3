"""design: the graphon that learns a task under a budget of connections (THEORY §13)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import BoolArray, FloatArray, IntArray
from graphon_theory.data.checks import (
    as_generator,
    as_inputs,
    axes_of,
    checked_targets,
    positive_number,
    share_kept,
    whole_number,
    whole_numbers,
)
from graphon_theory.data.labels import ITERATION, Variables, dataset, samples_of
from graphon_theory.designs.cells import Cells, cells_of
from graphon_theory.designs.drawn_masks import sample_masks
from graphon_theory.designs.kernel_gradients import check_differentiable
from graphon_theory.designs.objectives import Objective
from graphon_theory.designs.objectives import objective as named_objective
from graphon_theory.designs.searches import Report, Search, Step, Task
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.network import Network
from graphon_theory.values import Record

if TYPE_CHECKING:
    import xarray as xr

_CANDIDATES = (4, 8, 16)  # blocks that are tried where they are to be chosen
_MOST_BLOCKS = 1_024  # of one layer: beyond, the tables alone outgrow what a design can move
_RIDGED = ("leave_one_out", "k_fold", "complexity")  # objectives that take the ridge
_TARGETLESS = ("energy", "spectrum")
_CROWDED = 4.0  # cells a target value beyond which there is a warning
_PRICE = 0.03  # of poor receivers, in units of what even masks reach
_CLEAR = 2.0  # standard errors that a gain must exceed to be called one
_LEAST_JUDGED = 5  # inputs below which nothing is held out


class DesignWarning(UserWarning):
    """A design has more cells than its inputs can tell."""


@dataclass(frozen=True, eq=False)
class Design(Record):
    """A designed network, and what is known of how good it is, as :func:`design` returns it.

    ``network``: ready for ``limit_kernel`` and ``gv.build``. ``value``: the objective on all inputs, the very ones it
    was made small on; ``baseline_value``: that of even masks of the same budget. ``holdout``: mean squared error
    (summed over targets) of kernel regression at inputs that neither the search nor its stopping has seen, of a design
    made without them; ``baseline_holdout``: of even masks; None where nothing was held out. ``gain``: 1 - holdout /
    baseline_holdout, and ``gain_error`` its standard error. ``spread``: the objective's value from every start.
    ``densities``: the share of connections in every layer. ``evaluations``: of kernels with their derivative, all
    searches together. ``history``: over "iteration", one search after the other: ``start``, ``blocks``, ``step``,
    ``phase`` (0 with inputs held out, 1 on all), ``evaluations``, ``value`` (with the price of receivers that have next
    to no connections, which is part of what is made small) and ``stopping``, the error that says when to stop.
    """

    network: Network
    widths: tuple[int, ...]
    value: float
    baseline_value: float
    holdout: float | None
    baseline_holdout: float | None
    gain: float | None
    gain_error: float | None
    spread: tuple[float, ...]
    densities: tuple[float, ...]
    blocks: tuple[int, ...]
    evaluations: int
    interrupted: bool
    history: xr.Dataset = field(repr=False)

    @property
    def helps(self) -> bool | None:
        """Whether inputs held out show a gain over even masks beyond two standard errors; None where none were."""
        if self.gain is None or self.gain_error is None:
            return None
        return self.gain > _CLEAR * self.gain_error

    @property
    def least_fan_in(self) -> tuple[float, ...]:
        """The expected connections of the poorest receiver of every layer: where below 1, some units will be dead."""
        return tuple(n * _lowest_degree(layer.mask) for n, layer in zip(self.widths, self.network.layers, strict=False))

    def masks(self, widths: Sequence[int] | None = None, rng: np.random.Generator | int = 0) -> list[BoolArray]:
        """Masks (n_l, n_(l-1)) of every layer with exact budgets; see :func:`sample_masks`."""
        return sample_masks(self.network, self.widths if widths is None else widths, rng)

    def __repr__(self) -> str:
        held = "nothing held out"
        if self.holdout is not None and self.gain is not None:
            verdict = "" if self.helps else ": no gain is shown"
            held = (
                f"held out {self.holdout:.4g} against {self.baseline_holdout:.4g} of even masks "
                f"(gain {self.gain:.2f} +- {self.gain_error:.2f}{verdict})"
            )
        shares = ", ".join(f"{p:.3g}" for p in self.densities)
        return (
            f"Design(value {self.value:.4g} against {self.baseline_value:.4g}; {held}; densities {shares}; "
            f"{self.evaluations} kernel evaluations{', interrupted' if self.interrupted else ''})"
        )


def design(
    network: Network,
    x: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray | None = None,
    *,
    density: float | Sequence[float],
    widths: Sequence[int],
    objective: str | Objective = "leave_one_out",
    blocks: int | Sequence[int] | str = 8,
    layers: Sequence[int] | None = None,
    groups: ArrayLike | None = None,
    ridge: float = 1e-3,
    starts: int = 3,
    iterations: int = 100,
    holdout: float = 0.2,
    patience: int = 20,
    samples: int = 1000,
    rng: np.random.Generator | int = 0,
    threads: int | None = None,
    progress: bool = False,
) -> Design:
    """The masks' graphons that make an objective small under a budget of connections.

        minimise J(W_1..W_L)   subject to   sum_l n_l n_(l-1) mean(W_l) = density sum_l n_l n_(l-1),   0 <= W <= 1,

    with weights drawn after the mask and weight variances by position, V = W g(u), so that every signal has variance 1.
    Each free layer is a step graphon with a logit a cell; one shift of all logits makes the budget hold exactly, and
    L-BFGS-B goes down the exact gradient (:func:`kernel_gradient`) from several random starts.

    Parameters
    ----------
    network:
        Depth, activation, biases and weight variances; the graphons of layers that are not free stay (where V = W,
        their weight variances are balanced by position). One output: all targets share the kernel.
    x, y:
        Inputs (N, d) and targets (N,) or (N, m), the latter only where the objective needs them.
    density, widths:
        Share of all n_l n_(l-1) connections that is kept, of all layers together; or one density a layer. All unit
        counts (n_0 = d, ..., n_L).
    objective, ridge:
        A name of :func:`objective` (with ``ridge`` if it takes one), what that function returns, or a callable
        (ntk, nngp, y) -> (value, ntk cotangent, nngp cotangent).
    blocks, layers, groups:
        Equal blocks of every hidden layer: a number, one a hidden layer, or "auto", which tries 4, 8 and 16 on the
        inputs held out. The weight layers (from 1) that are free, all by default. Labels (d,) of inputs that share a
        column; by default each has its own.
    starts, iterations, patience:
        Random starts; iterations of each at most; iterations without progress on inputs held out that end a search.
    holdout:
        Share of the inputs that is held out at first, one half to say when to stop and one to judge. Then the searches
        are repeated on all inputs, for as long as was good if that was a gain. 0 holds nothing out.
    samples:
        With more inputs, the objective is taken on so many at a time, drawn anew for every few iterations.
    rng, threads, progress:
        Seed or generator; threads as in :func:`limit_kernel`; show a progress bar.

    An interrupt (Ctrl-C) ends the search and keeps the best that was found.

    Returns a :class:`Design`. ``.value`` is optimistic, ``.holdout`` is not: believe ``.helps``.

    Raises InputError for budgets that cannot be met, missing targets and data as elsewhere, NetworkError for a network
    without free layers, with several outputs, or that has no derivative (see :func:`kernel_gradient`). Warns
    (DesignWarning) where cells outnumber target values several times over.
    """
    inputs = as_inputs(x, "x")
    counts = _checked_widths(network, widths, inputs.shape[1])
    check_differentiable(network)
    free = _free_layers(network, layers)
    shares = _densities(density, network.depth)
    goal = _objective(objective, ridge)
    targets = _targets(y, objective, inputs, samples_of(x))
    generator = as_generator(rng)
    labels = _groups(groups, inputs.shape[1])
    q = float((inputs**2).mean())
    if not q > 0:
        raise InputError("x: all inputs are 0, which no mask tells apart.")
    candidates = [
        _blocks(b, network.depth) for b in (_CANDIDATES if isinstance(blocks, str) and blocks == "auto" else (blocks,))
    ]
    limits = {
        "starts": whole_number("starts", starts),
        "iterations": whole_number("iterations", iterations),
        "patience": whole_number("patience", patience),
        "samples": whole_number("samples", samples, least=2),
    }
    all_cells = [cells_of(network, counts, shares, b, free, labels, q) for b in candidates]
    _warn_of_crowds(min(cells.count for cells in all_cells), targets)
    task = _task(inputs, targets, goal, positive_number("ridge", ridge, zero=True), holdout, generator, threads)
    with _bar(progress, limits["iterations"]) as report:
        return _Run(task, candidates, all_cells, limits, generator, report, counts).design()


class _Run:
    """Searches with inputs held out, then on all inputs."""

    def __init__(
        self,
        task: Task,
        blocks: list[tuple[int, ...]],
        cells: list[Cells],
        limits: dict[str, int],
        rng: np.random.Generator,
        report: Report,
        widths: tuple[int, ...],
    ) -> None:
        self.task, self.blocks, self.cells, self.limits = task, blocks, cells, limits
        self.rng, self.report, self.widths = rng, report, widths
        self.searches: list[tuple[int, Search]] = []
        self.interrupted = False

    def design(self) -> Design:
        task = self.task
        origins = [[_start(cells, self.rng) for _ in range(self.limits["starts"])] for cells in self.cells]
        even = self.cells[0].at(self.cells[0].values(np.zeros(self.cells[0].count)))
        some = task.seen[: self.limits["samples"]]
        task = replace(task, price=_PRICE * abs(task.value(even, some)))
        everything = replace(task, seen=np.arange(len(task.x)), stopping=task.stopping[:0])
        chosen, length = 0, self.limits["iterations"]
        judged: tuple[float, float, float, float] | None = None
        if len(task.stopping):
            best: Search | None = None
            for which in range(len(self.cells)):
                for start, z in enumerate(origins[which]):
                    search = self._search(0, task, which, start, length, z)
                    if search is not None and (best is None or search.best.stopping < best.best.stopping):
                        chosen, best = which, search
            if best is not None:
                judged = _judged(task, best)
                if judged[2] > _CLEAR * judged[3]:
                    length = best.length
        final = [
            search
            for start, z in enumerate(origins[chosen])
            if (search := self._search(1, everything, chosen, start, length, z)) is not None
        ]
        if not final:  # interrupted before
            final = [search for _, search in self.searches if search.cells is self.cells[chosen]]
        if not final:
            raise KeyboardInterrupt
        winner = min(final, key=lambda search: search.best.stopping)
        return self._result(everything, winner, final, judged, chosen)

    def _search(self, phase: int, task: Task, which: int, start: int, length: int, z: FloatArray) -> Search | None:
        if self.interrupted:
            return None
        search = Search(
            task,
            self.cells[which],
            start,
            max(self.blocks[which], default=1),
            length,
            self.limits["patience"],
            self.limits["samples"],
            self.rng,
            self.report,
        )
        try:
            search.run(z)
        except KeyboardInterrupt:
            self.interrupted = True
        if not search.steps:
            return None
        self.searches.append((phase, search))
        return search

    def _result(
        self,
        task: Task,
        winner: Search,
        final: list[Search],
        judged: tuple[float, float, float, float] | None,
        chosen: int,
    ) -> Design:
        cells = winner.cells
        network = cells.at(cells.values(winner.best.z))
        even = cells.at(cells.values(np.zeros(cells.count)))
        rows = task.seen if len(task.seen) <= self.limits["samples"] else task.seen[: self.limits["samples"]]
        holdout, baseline, gain, gain_error = (None,) * 4 if judged is None else judged
        return Design(
            network,
            self.widths,
            task.value(network, rows),
            task.value(even, rows),
            holdout,
            baseline,
            gain,
            gain_error,
            tuple(search.best.value for search in final),
            tuple(layer.mask.mean() for layer in network.layers),
            self.blocks[chosen],
            sum(search.evaluations for _, search in self.searches),
            self.interrupted,
            _history(self.searches),
        )


def _lowest_degree(graphon: Graphon) -> float:
    edges = graphon.u_breaks
    return float(graphon.degrees(1)((edges[:-1] + edges[1:]) / 2).min())


def _judged(task: Task, search: Search) -> tuple[float, float, float, float]:
    """Errors of the best of a search and of even masks at inputs that neither saw, the gain and its standard error."""
    cells = search.cells
    own = task.errors(cells.at(cells.values(search.best.z)), task.judging)
    even = task.errors(cells.at(cells.values(np.zeros(cells.count))), task.judging)
    apart, scale = even - own, float(even.mean())
    return float(own.mean()), scale, float(apart.mean()) / scale, float(apart.std(ddof=1)) / np.sqrt(len(apart)) / scale


def _history(searches: list[tuple[int, Search]]) -> xr.Dataset:
    steps: list[tuple[int, Step]] = [(phase, step) for phase, search in searches for step in search.steps]
    columns: dict[str, list[float]] = {
        "phase": [phase for phase, _ in steps],
        "start": [step.start for _, step in steps],
        "blocks": [step.blocks for _, step in steps],
        "step": [step.iteration for _, step in steps],
        "evaluations": [step.evaluations for _, step in steps],
        "value": [step.value for _, step in steps],
        "stopping": [step.stopping for _, step in steps],
    }
    variables: Variables = {name: ((ITERATION,), np.array(values)) for name, values in columns.items()}
    return dataset(variables, {ITERATION: np.arange(len(steps))})


def _start(cells: Cells, rng: np.random.Generator) -> FloatArray:
    """Random logits: far enough from even for blocks to part, near enough for all to move."""
    return 0.5 * rng.standard_normal(cells.count)


def _task(
    x: FloatArray,
    y: FloatArray,
    goal: Objective,
    ridge: float,
    holdout: float,
    rng: np.random.Generator,
    threads: int | None,
) -> Task:
    count, share = 0, positive_number("holdout", holdout, zero=True, expected="a share of the inputs, in [0, 1)")
    if share and y.shape[1]:
        count = int(share_kept("holdout", share, expected="a share of the inputs, in [0, 1)") * len(x)) // 2
        if len(x) - 2 * count < 2:
            raise InputError(f"holdout: {share:g} of {len(x)} inputs leaves fewer than two to design by.")
    if count < _LEAST_JUDGED:
        count = 0
    order = rng.permutation(len(x)) if count else np.arange(len(x))
    stopping, judging, seen = (np.sort(part) for part in np.split(order, [count, 2 * count]))
    return Task(x, y, seen, stopping, judging, goal, ridge, threads=threads)


# --- arguments --------------------------------------------------------------------------------------------------------


def _checked_widths(network: Network, widths: Sequence[int], d: int) -> tuple[int, ...]:
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    if network.outputs != 1:
        raise NetworkError(
            f"network: expected one output, whose kernel all targets share, got {network.outputs}; design with "
            "outputs=1 and raise it afterwards (dataclasses.replace(design.network, outputs=...))."
        )
    if not network.is_plain:
        raise NetworkError("network: expected weight layers and activations by turns; shortcuts are not designed.")
    if max(network.bias_variances) >= 1:
        raise NetworkError(
            f"bias_variance: {max(network.bias_variances):g} alone exceeds the variance 1 that signals are to keep."
        )
    counts = whole_numbers("widths", widths, expected=f"all {network.depth + 1} unit counts (n_0, ..., n_L)")
    if len(counts) != network.depth + 1 or counts[0] != d:
        raise InputError(
            f"widths: expected {network.depth + 1} unit counts (n_0, ..., n_L) with n_0 = {d} inputs, got {counts}."
        )
    return counts


def _free_layers(network: Network, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(network.depth))
    if len(tuple(layers)) == 0:
        raise NetworkError("layers: expected at least one free layer, got none; there is nothing to design.")
    expected = f"different numbers of weight layers from 1 to {network.depth}"
    found = whole_numbers("layers", layers, most=network.depth, distinct=True, error=NetworkError, expected=expected)
    return sorted(n - 1 for n in found)


def _densities(density: float | Sequence[float], depth: int) -> float | list[float]:
    if axes_of(density) == 0:
        return share_kept("density", density)
    many = [share_kept("density", one) for one in np.asarray(density).ravel().tolist()]
    if len(many) != depth:
        raise InputError(f"density: expected one number, or one a layer, that is {depth}, got {len(many)}.")
    return many


def _objective(goal: object, ridge: float) -> Objective:
    if isinstance(goal, str):
        return named_objective(goal, ridge=ridge) if goal in _RIDGED else named_objective(goal)
    if not callable(goal):
        raise InputError(f"objective: expected a name or a callable, got {type(goal).__name__}.")
    return goal


def _targets(y: Any, goal: object, x: FloatArray, samples: Any) -> FloatArray:
    if y is not None:
        return checked_targets(y, len(x), inputs=samples).reshape(len(x), -1)
    name = goal if isinstance(goal, str) else getattr(goal, "name", None)
    if name is not None and name not in _TARGETLESS:
        raise InputError(f"y: objective {name!r} needs targets, got none; pass y, or one of {', '.join(_TARGETLESS)}.")
    return np.empty((len(x), 0))


def _groups(groups: ArrayLike | None, d: int) -> IntArray | None:
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (d,):
        raise InputError(f"groups: expected a label for each of {d} inputs, got shape {labels.shape}.")
    return np.unique(labels, return_inverse=True)[1].astype(np.intp)


def _blocks(blocks: Any, depth: int) -> tuple[int, ...]:
    if depth == 1:
        return ()
    if not isinstance(blocks, Iterable) or isinstance(blocks, str):
        expected = f'a positive number up to {_MOST_BLOCKS:,}, one a hidden layer, or "auto"'
        return (whole_number("blocks", blocks, 1, _MOST_BLOCKS, expected=expected),) * (depth - 1)
    many = whole_numbers("blocks", blocks, 1, _MOST_BLOCKS)
    if len(many) != depth - 1:
        raise InputError(f"blocks: expected one number, or one a hidden layer, that is {depth - 1}, got {len(many)}.")
    return many


def _warn_of_crowds(count: int, y: FloatArray) -> None:
    known = max(1, y.shape[1]) * len(y)
    if count > _CROWDED * known:
        warnings.warn(
            f"design: {count} cells for {known} target values ({count / known:.1f} each): masks will fit what is "
            "chance in them; take fewer blocks, group inputs, or bring more data, and look at .helps.",
            DesignWarning,
            stacklevel=3,
        )


@contextmanager
def _bar(shown: bool, iterations: int) -> Iterator[Callable[[Step], None]]:
    """A rich progress bar over the iterations of the search that runs, or nothing."""
    if not shown:
        yield lambda step: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("design", total=iterations)

        def report(step: Step) -> None:
            text = f"start {step.start + 1}, {step.blocks} blocks: {step.value:.4g}, held out {step.stopping:.4g}"
            bar.update(task, completed=step.iteration, description=text)

        yield report
