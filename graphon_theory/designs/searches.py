"""Looking for cells that make an objective small, and knowing when to stop: by inputs that the objective never sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.designs.cells import Cells
from graphon_theory.designs.kernel_gradients import KernelGradient
from graphon_theory.designs.objectives import Objective
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.gradients import operator_gradients
from graphon_theory.engine.recursion import Recursion, kernels
from graphon_theory.engine.threads import single_threaded_blas
from graphon_theory.errors import InputError, KernelError
from graphon_theory.networks.network import Network

_RTOL = 1e-10  # of the quadrature of layers that are not free
_FARTHEST_LOGIT = 15.0  # beyond, a cell is as good as empty or full
_NOTHING = 0.005  # of the way down: what a search may gain in its patience and still be stuck
_HISTORY = 20  # steps that the optimiser remembers

ALL = slice(None)
HALVES = slice(0, None, 2), slice(1, None, 2)  # of the inputs held out: each judges what the other has chosen

Report = Callable[["Step"], None]


@dataclass(frozen=True)
class Task:
    """Inputs and targets, those that the objective may see, and those held out, which say when to stop and judge."""

    x: FloatArray
    y: FloatArray  # (N, m); no columns without targets
    seen: IntArray
    held: IntArray
    objective: Objective
    ridge: float
    price: float = 0.0  # of poor receivers, in units of the objective
    threads: int | None = None

    def evaluate(self, cells: Cells, z: FloatArray, rows: IntArray) -> tuple[float, FloatArray]:
        """The objective on some inputs and what poor receivers cost, and the derivative in what moves."""
        values = cells.values(z)
        value, slope = self.in_cells(cells, values, rows)
        poverty, more = cells.poverty(values)
        return value + self.price * poverty, cells.pulled(values, slope + self.price * more)

    def in_cells(self, cells: Cells, values: FloatArray, rows: IntArray) -> tuple[float, FloatArray]:
        """The objective on some inputs, and the derivative in the cells."""
        network, x = cells.at(values), self.x[rows]
        with single_threaded_blas():
            grid = discretise(network, x, _RTOL)
            recursion = Recursion(grid.operators, network.outline, x, weights=grid.weights)
            nngp, ntk = kernels(recursion, x, threads=self.threads)
            value, *cotangents = self.objective(ntk[0], nngp[0], self.y[rows])
            of_ntk, of_nngp = (_checked(c, len(x)) for c in cotangents)
            if not np.isfinite(value):
                raise InputError(f"objective: expected a finite value, got {value!r}.")
            sums = operator_gradients(recursion, x, of_nngp, of_ntk, threads=self.threads)
        return float(value), cells.slope(values, KernelGradient.of(network, grid, x.shape[1], sums, None))

    def value(self, network: Network, rows: IntArray) -> float:
        """The objective alone."""
        ntk, nngp = self._kernels(network, self.x[rows], None)
        return float(self.objective(ntk, nngp, self.y[rows])[0])

    def errors(self, network: Network, rows: IntArray) -> FloatArray:
        """Squared errors of kernel regression from the inputs that the objective sees, summed over targets."""
        x = self.x[self.seen]
        own = self._kernels(network, x, None)[0]
        cross = self._kernels(network, self.x[rows], x)[0]
        shift = self.ridge * float(np.trace(own)) / len(x)
        try:
            alpha = cho_solve(cho_factor(own + shift * np.eye(len(x))), self.y[self.seen])
        except LinAlgError:
            raise KernelError(f"ridge: {self.ridge:g} leaves the kernel singular to rounding; raise it.") from None
        out: FloatArray = ((cross @ alpha - self.y[rows]) ** 2).sum(axis=1)
        return out

    def _kernels(self, network: Network, x: FloatArray, x2: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """NTK and NNGP."""
        everything = x if x2 is None else np.concatenate([x, x2])
        with single_threaded_blas():
            recursion = Recursion(discretise(network, everything, _RTOL).operators, network.outline, everything)
            nngp, ntk = kernels(recursion, x, x2, threads=self.threads)
        return ntk[0], nngp[0]


def _checked(cotangent: object, size: int) -> FloatArray | None:
    if cotangent is None:
        return None
    array = np.asarray(cotangent, dtype=float)
    if array.shape != (size, size) or not np.isfinite(array).all():
        raise InputError(
            f"objective: expected finite cotangents of shape ({size}, {size}), or None, got shape {array.shape}."
        )
    return array[None]


@dataclass(frozen=True, eq=False)
class Step:
    """One iteration of a search."""

    start: int
    blocks: int
    iteration: int
    evaluations: int  # of kernels and their derivative, since the start
    value: float
    errors: FloatArray = field(repr=False)  # squared, at the inputs held out
    z: FloatArray = field(repr=False)

    @property
    def stopping(self) -> float:
        """The error that says when to stop; the value where nothing is held out."""
        return float(self.errors.mean()) if len(self.errors) else self.value


def sound(steps: Sequence[Step], rows: slice = ALL) -> list[bool]:
    """Whether each step is as good as the best at (some of) the inputs held out, within a standard error.

    Errors at the same inputs are compared, whose difference is known far better than either.
    """
    if not len(steps[0].errors[rows]):
        least = min(step.value for step in steps)
        return [step.value <= least for step in steps]
    errors = np.array([step.errors[rows] for step in steps])
    apart = errors - errors[errors.mean(axis=1).argmin()]
    spread = apart.std(axis=1, ddof=1) if apart.shape[1] > 1 else np.zeros(len(apart))
    return list(apart.mean(axis=1) <= spread / math.sqrt(apart.shape[1]))


def pick(steps: Sequence[Step], rows: slice = ALL) -> Step:
    """Of the steps that are as good as the best where it was held out, the one with the least value."""
    good = [step for step, is_sound in zip(steps, sound(steps, rows), strict=True) if is_sound]
    return min(good, key=lambda step: step.value)


def waiting(steps: Sequence[Step], rows: slice = ALL) -> int:
    """Iterations since the last step that was as good as the best."""
    return sound(steps, rows)[::-1].index(True)


def patient(steps: list[Step], patience: int, rows: slice) -> list[Step]:
    """The steps that a search would have taken with these inputs alone to stop it."""
    for count in range(patience + 1, len(steps)):
        if waiting(steps[:count], rows) >= patience:
            return steps[:count]
    return steps


class Stopped(Exception):
    """The search has seen no progress for long enough."""


@dataclass
class Search:
    """One descent by L-BFGS-B from one start; ``steps`` holds what it has seen, whatever ends it."""

    task: Task
    cells: Cells
    start: int
    blocks: int
    iterations: int
    patience: int
    samples: int
    rng: np.random.Generator
    report: Report
    steps: list[Step] = field(default_factory=list)
    evaluations: int = 0

    def run(self, z: FloatArray) -> None:
        """Descend from z, or go on from the last step.

        With more inputs than ``samples``, on subsets that are drawn anew for every stretch.
        """
        seen = self.task.seen
        whole = len(seen) <= self.samples
        stretch = self.iterations if whole else max(5, self.patience // 2)
        try:
            if not self.steps:
                self._note(z, self._evaluate(z, self._rows(whole))[0])
            while len(self.steps) <= self.iterations:
                rows, before = self._rows(whole), len(self.steps)
                last: dict[str, float] = {}

                def both(
                    z: FloatArray, rows: IntArray = rows, last: dict[str, float] = last
                ) -> tuple[float, FloatArray]:
                    value, slope = self._evaluate(z, rows)
                    last[z.tobytes().hex()] = value
                    return value, slope

                def after(z: FloatArray, last: dict[str, float] = last) -> None:
                    self._note(z, last[z.tobytes().hex()])
                    last.clear()

                left = self.iterations + 1 - len(self.steps)
                minimize(
                    both,
                    z,
                    jac=True,
                    method="L-BFGS-B",
                    bounds=[(-_FARTHEST_LOGIT, _FARTHEST_LOGIT)] * len(z),
                    callback=after,
                    options={"maxiter": min(stretch, left), "maxcor": _HISTORY, "ftol": 1e-9, "gtol": 1e-9},
                )
                if whole or len(self.steps) == before:
                    return
                z = self.steps[-1].z
        except Stopped:
            return

    @property
    def best(self) -> Step:
        """See :func:`pick`."""
        return pick(self.steps)

    def _rows(self, whole: bool) -> IntArray:
        if whole:
            return self.task.seen
        return np.sort(self.rng.choice(self.task.seen, self.samples, replace=False))

    def _evaluate(self, z: FloatArray, rows: IntArray) -> tuple[float, FloatArray]:
        self.evaluations += 1
        return self.task.evaluate(self.cells, z, rows)

    def _note(self, z: FloatArray, value: float) -> None:
        errors = np.empty(0)
        if len(self.task.held):
            errors = self.task.errors(self.cells.at(self.cells.values(z)), self.task.held)
        step = Step(self.start, self.blocks, len(self.steps), self.evaluations, value, errors, z.copy())
        self.steps.append(step)
        self.report(step)
        if self._stuck or all(waiting(self.steps, rows) >= self.patience for rows in HALVES):
            raise Stopped

    @property
    def _stuck(self) -> bool:
        """Whether the last iterations brought next to nothing of what all have."""
        values = [step.value for step in self.steps]
        if len(values) <= self.patience:
            return False
        least = min(values)
        return min(values[: -self.patience]) - least <= _NOTHING * (values[0] - least)
