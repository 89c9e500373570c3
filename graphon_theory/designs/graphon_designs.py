"""design: the graphon that learns a task under a budget of connections (THEORY §13)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import BoolArray, FloatArray
from graphon_theory.data.checks import (
    MOST_DRAWS,
    as_generator,
    as_inputs,
    positive_number,
    share_kept,
    whole_number,
)
from graphon_theory.data.labels import ITERATION, Variables, dataset, samples_of
from graphon_theory.designs.cells import Cells, cells_of
from graphon_theory.designs.drawn_masks import sample_masks
from graphon_theory.designs.input_rows import InputRows
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
from graphon_theory.designs.searches import ALL, HALVES, Report, Search, Step, Task, patient, pick
from graphon_theory.errors import InputError
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.network import Network
from graphon_theory.values import Record

if TYPE_CHECKING:
    import xarray as xr

_CANDIDATES = (4, 8, 16)  # blocks that are tried where they are to be chosen
_CROWDED = 4.0  # cells a target value beyond which there is a warning
_PRICE = 0.03  # of poor receivers, in units of what even masks reach
_BEGUN = 15  # iterations that tell good starts from poor ones: most of the way down, and the order seldom changes then
_KEPT = 2  # starts that go on
_CLEAR = 2.0  # standard errors that a gain must exceed to be called one
_LEAST_JUDGED = 10  # inputs below which nothing is held out


class DesignWarning(UserWarning):
    """A design has more cells than its inputs can tell."""


@dataclass(frozen=True, eq=False)
class Design(Record):
    """A designed network, and what is known of how good it is, as :func:`design` returns it.

    ``network``: ready for ``limit_kernel`` and ``gv.build``. ``value``: the objective on all inputs, the very ones
    it was made small on; ``baseline_value``: that of even masks of the same budget. ``value_with_rows``: the same
    with rows drawn from the first layer's mask as positions, every one at variance 1, where wide networks tend
    (THEORY §9); None where the first layer is not free. ``holdout``: mean squared error (summed over targets) of
    kernel regression at inputs that neither the search nor its stopping has seen, of designs made without them,
    with rows; ``baseline_holdout``: of even masks, with rows or in the limit of the means, whichever is less; None
    where nothing was held out. ``gain``: 1 - holdout / baseline_holdout, and ``gain_error`` its standard error.
    ``spread``: the objective's value from every start. ``densities``: the share of connections in every layer.
    ``evaluations``: of kernels with their derivative, all searches together. ``history``: over "iteration", one
    search after the other: ``start``, ``blocks``, ``step``, ``phase`` (0 with inputs held out, 1 on all),
    ``evaluations``, ``value`` (with the price of receivers that have next to no connections, which is part of what
    is made small) and ``stopping``, the error that says when to stop.
    """

    network: Network
    widths: tuple[int, ...]
    value: float
    value_with_rows: float | None
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

    def masks(
        self,
        widths: Sequence[int] | None = None,
        rng: np.random.Generator | int = 0,
        *,
        pattern: str | Sequence[str | None] | None = None,
    ) -> list[BoolArray]:
        """Masks (n_l, n_(l-1)) of every layer with exact budgets; see :func:`sample_masks`."""
        return sample_masks(self.network, self.widths if widths is None else widths, rng, pattern=pattern)

    def _repr_html_(self) -> str:
        """The repr above the table of the designed network's stages."""
        return f"<div><code>{escape(repr(self))}</code>{self.network._repr_html_()}</div>"

    def __repr__(self) -> str:
        held = "nothing held out"
        if self.holdout is not None and self.gain is not None:
            verdict = "" if self.helps else ": no gain is shown"
            held = (
                f"held out {self.holdout:.4g} against {self.baseline_holdout:.4g} of even masks "
                f"(gain {self.gain:.2f} +- {self.gain_error:.2f}{verdict})"
            )
        rows = "" if self.value_with_rows is None else f", {self.value_with_rows:.4g} with rows,"
        shares = ", ".join(f"{p:.3g}" for p in self.densities)
        return (
            f"Design(value {self.value:.4g}{rows} against {self.baseline_value:.4g}; {held}; densities {shares}; "
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
    smooth: int | None = None,
    ridge: float = 1e-3,
    starts: int = 8,
    iterations: int = 100,
    holdout: float = 0.2,
    patience: int = 20,
    samples: int = 1000,
    rng: np.random.Generator | int = 0,
    threads: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Design:
    """The masks' graphons that make an objective small under a budget of connections.

        minimise J(W_1..W_L)   subject to   sum_l n_l n_(l-1) mean(W_l) = density sum_l n_l n_(l-1),   0 <= W <= 1,

    with weights drawn after the mask and weight variances by position, V = W g(u), so that every signal has variance 1.
    Each free layer is a step graphon with a logit a cell; one shift of all logits makes the budget hold exactly, and
    L-BFGS-B goes down the exact gradient (:func:`kernel_gradient`) from several random starts. Which step of a search
    is best is seen on networks with rows drawn from the first layer's mask: units that hear few inputs hear some of
    what their block may hear, and not a little of everything (THEORY §9). With many inputs a unit it is the same.

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
    smooth:
        Logits are cosine series of so many terms in the positions of hidden layers, held on the ``blocks`` (32, say):
        few numbers, and graphons without edges. None lets every cell go its own way.
    starts, iterations, patience:
        Random starts, of which the two that are best after 15 iterations go on; iterations of each at most; iterations
        in a row that end a search, if they are worse on inputs held out than the best, by more than a standard error,
        or bring less than 0.5% of the way down.
    holdout:
        Share of the inputs that is held out at first, to say when to stop and to judge: each half of them judges the
        step that the other has chosen. Then the searches are repeated on all inputs, and the best goes on with them,
        for as long as was good if that was a gain. 0 holds nothing out.
    samples:
        With more inputs, the objective is taken on so many at a time, drawn anew for every few iterations.
    rng, threads, progress:
        Seed or generator; threads as in :func:`limit_kernel`; show a progress bar, or report to a
        function of the iterations done and due of the start that runs.

    An interrupt (Ctrl-C) ends the search and keeps the best that was found.

    Returns a :class:`Design`. ``.value`` is optimistic, ``.holdout`` is not: believe ``.helps``.

    Raises InputError for budgets that cannot be met, missing targets and data as elsewhere, NetworkError for a network
    without free layers, with several outputs, or that has no derivative (see :func:`kernel_gradient`). Warns
    (DesignWarning) where cells outnumber target values several times over.
    """
    inputs = as_inputs(x, "x")
    counts = checked_widths(network, widths, inputs.shape[1])
    check_differentiable(network)
    free = free_layers(network, layers)
    shares = checked_densities(density, network.depth)
    goal = as_objective(objective, ridge)
    targets = targets_of(y, objective, inputs, samples_of(x))
    generator = as_generator(rng)
    labels = checked_groups(groups, inputs.shape[1])
    q = float((inputs**2).mean())
    if not q > 0:
        raise InputError("x: all inputs are 0, which no mask tells apart.")
    candidates = [
        checked_blocks(b, network.depth)
        for b in (_CANDIDATES if isinstance(blocks, str) and blocks == "auto" else (blocks,))
    ]
    limits = {
        "starts": whole_number("starts", starts, 1, MOST_DRAWS),
        "iterations": whole_number("iterations", iterations),
        "patience": whole_number("patience", patience),
        "samples": whole_number("samples", samples, least=2),
    }
    terms = None if smooth is None else whole_number("smooth", smooth)
    all_cells = [cells_of(network, counts, shares, b, free, labels, q, terms) for b in candidates]
    _warn_of_crowds(min(cells.count for cells in all_cells), targets)
    rows = InputRows(counts[0], q) if _has_rows(network, free) else None
    task = _task(inputs, targets, goal, positive_number("ridge", ridge, zero=True), holdout, generator, threads)
    with _bar(progress, limits["iterations"]) as report:
        return _Run(task, candidates, all_cells, limits, generator, report, counts, rows).design()


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
        rows: InputRows | None,
    ) -> None:
        self.task, self.blocks, self.cells, self.limits = task, blocks, cells, limits
        self.rng, self.report, self.widths, self.rows = rng, report, widths, rows
        self.searches: list[tuple[int, Search]] = []
        self.interrupted = False

    def design(self) -> Design:
        task = self.task
        origins = [dict(enumerate(_start(c, self.rng) for _ in range(self.limits["starts"]))) for c in self.cells]
        even = self.cells[0].at(self.cells[0].values(np.zeros(self.cells[0].count)))
        some = task.seen[: self.limits["samples"]]
        task = replace(task, price=_PRICE * abs(task.value(even, some)))
        everything = replace(task, seen=np.arange(len(task.x)), held=task.held[:0])
        chosen, length = 0, self.limits["iterations"]
        further: list[Search] = []
        judged: tuple[float, float, float, float] | None = None
        if len(task.held):
            tried = {
                which: found
                for which in range(len(self.cells))
                if (found := self._descents(0, task, which, origins[which], length)[:_KEPT])
            }
            if tried:
                chosen, step = _choice({which: [one.steps for one in found] for which, found in tried.items()}, ALL)
                paths = {which: [self._judging(task, search) for search in found] for which, found in tried.items()}
                judged = self._judged(task, paths, even)
                if judged[2] > _CLEAR * judged[3] and all(step is not search.steps[-1] for search in tried[chosen]):
                    length = max(1, step.iteration)
                # what was found without the inputs held out goes on with them
                left = max(1, length - step.iteration)
                further = self._descents(1, everything, chosen, {step.start: step.z}, left)
        anew = self._descents(1, everything, chosen, origins[chosen], length)
        if not anew and not further:  # interrupted before, while every start was tried with inputs held out
            anew = sorted((s for _, s in self.searches if s.cells is self.cells[chosen]), key=lambda s: s.start)
        if not anew and not further:
            raise KeyboardInterrupt
        winner = min([*further, *anew], key=lambda search: search.best.stopping)
        step = pick(self._judging(everything, winner))
        return self._result(everything, step, anew or further, judged, chosen)

    def _descents(
        self, phase: int, task: Task, which: int, origins: Mapping[int, FloatArray], length: int
    ) -> list[Search]:
        """From every origin a little, and from the best few of these places to the end; the best begun first."""
        searches = []
        for start, z in origins.items():
            search = Search(
                task,
                self.cells[which],
                start,
                max(self.blocks[which], default=1),
                length if len(origins) <= _KEPT else min(length, _BEGUN),
                self.limits["patience"],
                self.limits["samples"],
                self.rng,
                self.report,
            )
            if self._run(search, z):
                searches.append(search)
                self.searches.append((phase, search))
        searches.sort(key=lambda search: search.steps[-1].value)
        for search in searches[:_KEPT]:
            if search.iterations < length:
                search.iterations = length
                self._run(search, search.steps[-1].z)
        return searches

    def _judged(
        self, task: Task, paths: dict[int, list[list[Step]]], even: Network
    ) -> tuple[float, float, float, float]:
        """Errors of what was found and of even masks, the gain and its standard error.

        At the inputs held out: each half of them judges the step that the other has chosen.
        """
        own, plain = np.empty(len(task.held)), task.errors(even, task.held)
        if self.rows is not None:
            plain = min(plain, task.errors(self.rows.drawn(even), task.held), key=lambda errors: float(errors.mean()))
        for chooses, judges in (HALVES, HALVES[::-1]):
            seen = {
                which: [patient(steps, self.limits["patience"], chooses) for steps in many]
                for which, many in paths.items()
            }
            own[judges] = _choice(seen, chooses)[1].errors[judges]
        apart, scale = plain - own, float(plain.mean())
        error = float(apart.std(ddof=1)) / np.sqrt(len(apart)) / scale
        return float(own.mean()), scale, float(apart.mean()) / scale, error

    def _judging(self, task: Task, search: Search) -> list[Step]:
        """The steps of a search as wide networks would have them."""
        if self.rows is None:
            return search.steps
        return self.rows.judged(task, search.cells, search.steps, self.limits["samples"])

    def _run(self, search: Search, z: FloatArray) -> bool:
        """Whether there is anything to show for it."""
        if not self.interrupted:
            try:
                search.run(z)
            except KeyboardInterrupt:
                self.interrupted = True
        return bool(search.steps)

    def _result(
        self,
        task: Task,
        step: Step,
        final: list[Search],
        judged: tuple[float, float, float, float] | None,
        chosen: int,
    ) -> Design:
        cells = self.cells[chosen]
        network = cells.at(cells.values(step.z))
        even = cells.at(cells.values(np.zeros(cells.count)))
        rows = task.seen if len(task.seen) <= self.limits["samples"] else task.seen[: self.limits["samples"]]
        holdout, baseline, gain, gain_error = (None,) * 4 if judged is None else judged
        return Design(
            network,
            self.widths,
            task.value(network, rows),
            None if self.rows is None else task.value(self.rows.drawn(network), rows),
            task.value(even, rows),
            holdout,
            baseline,
            gain,
            gain_error,
            tuple(search.best.value for search in sorted(final, key=lambda search: search.start)),
            tuple(layer.mask.mean() for layer in network.layers),
            self.blocks[chosen],
            sum(search.evaluations for _, search in self.searches),
            self.interrupted,
            _history(self.searches),
        )


def _has_rows(network: Network, free: Sequence[int]) -> bool:
    """Whether masks have rows of a designed first layer, and all layers can be balanced by position with them."""
    return free[0] == 0 and network.depth > 1 and not network.has_drift


def _lowest_degree(graphon: Graphon) -> float:
    edges = graphon.u_breaks
    return float(graphon.degrees(1)((edges[:-1] + edges[1:]) / 2).min())


def _choice(paths: Mapping[int, Sequence[Sequence[Step]]], rows: slice) -> tuple[int, Step]:
    """A number of blocks, and a step of its searches: values with more blocks are less by chance, errors are not."""
    picked = {which: pick([step for steps in many for step in steps], rows) for which, many in paths.items()}
    chosen = min(picked, key=lambda which: float(picked[which].errors[rows].mean()))
    return chosen, picked[chosen]


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
        count = int(share_kept("holdout", share, expected="a share of the inputs, in [0, 1)") * len(x))
        if len(x) - count < 2:
            raise InputError(f"holdout: {share:g} of {len(x)} inputs leaves fewer than two to design by.")
    if count < _LEAST_JUDGED:
        count = 0
    order = rng.permutation(len(x)) if count else np.arange(len(x))
    return Task(x, y, np.sort(order[count:]), order[:count], goal, ridge, threads=threads)


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
def _bar(shown: bool | Callable[[int, int], None], iterations: int) -> Iterator[Callable[[Step], None]]:
    """A rich progress bar over the iterations of the search that runs, or nothing."""
    if callable(shown):
        yield lambda step: shown(step.iteration, iterations)
        return
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
