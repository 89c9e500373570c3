"""Several networks on one data set: the figures by which a mask is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    as_generator,
    as_inputs,
    checked_dataset,
    checked_targets,
    one_of,
    positive_number,
    truth,
    whole_number,
)
from graphon_theory.data.labels import (
    MODE,
    NETWORK,
    TIME,
    Labels,
    Variables,
    by_rows,
    dataset,
    labels_of,
    refuse_other_labels,
    samples_of,
)
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.engine.threads import Progress, ProgressBar
from graphon_theory.errors import InputError, NetworkError, shown
from graphon_theory.networks.network import Network
from graphon_theory.training.divergence_rates import divergence_learning_rate
from graphon_theory.training.dynamics import best_stop_of, steps_of, time_of
from graphon_theory.training.kernel_motions import kernel_change, squared_distance
from graphon_theory.training.linear_training import LinearTraining
from graphon_theory.training.regressions import left_out

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

_TIMES = 60  # of the learning curves
_NO_LIMIT = "no limit kernel"  # the verdict of gv.applicability under which a network is left out
_DRAWS = 400  # of inputs and seeds, for the errors of ranks
_RANKS = (0.025, 0.975)  # quantiles of a rank over draws
_Column = dict[str, FloatArray | float]


def compare_networks(
    networks: Mapping[str, Network | Sequence[Network]],
    x: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    x_test: ArrayLike | xr.DataArray | None = None,
    y_test: ArrayLike | xr.DataArray | None = None,
    *,
    level: float = 0.1,
    count: int | None = None,
    ridge: float = 0.0,
    kind: str = "ntk",
    verdicts: Mapping[str, Any] | None = None,
    width: int | None = None,
    rng: np.random.Generator | int = 0,
    progress: bool | Progress | None = None,
) -> xr.Dataset:
    """Spectrum, speed and error of each network's limit kernel on one data set, and which is best.

    Args:
        networks: by name. A sequence of networks stands for one method over seeds: figures are means over them. Of
            several outputs that share a kernel (equal rows of the last layer) one is taken, for all targets; outputs
            with kernels of their own go with the columns of y, as in `gradient_flow`.
        x: inputs (N, d); y: targets (N,) or (N, k); x_test, y_test: new ones, or neither.
        level: the training loss to be reached, as a share of the loss at the start.
        count: eigenvalues shown, 10 or all of fewer if left out; ridge: as in `gradient_flow`; kind: "ntk" or "nngp".
        verdicts: by name, what `gv.applicability` returned, or its verdict. "no limit kernel" leaves a network out: its
            figures are NaN, for no kernel describes it.
        width: hidden units of the networks that are meant, for ``kernel_change``. rng: seed or generator of the draws
            behind ``rank_low``.
        progress: as in `limit_kernel`, over the pairs of inputs of all kernels.

    Returns a Dataset over ``network``:

    - ``log_eigenvalue`` ("network", "mode"): natural log of the ``count`` largest; ``energy_5``, ``energy_10``,
      ``effective_rank``, ``participation`` = tr(K)^2 / |K|_F^2, ``gap``, ``decay_exponent`` (NaN where it cannot be
      fitted), ``alignment`` with the targets, ``complexity`` = (tr K / N) y' (K + N ridge)^-1 y / N, the square of the
      norm in the sequel's bound at signals of one size, summed over targets (infinite where they need null modes);
    - ``critical_learning_rate``, above which the loss rises first, ``divergence_learning_rate``, which gradient descent
      survives, about (NaN with a ridge, shortcuts, LayerNorm, and for the NNGP), ``learning_rate``, half of the first,
      to train at, ``time_to_loss`` (flow), ``steps_to_loss`` (gradient descent at that half), infinite where null modes
      or the ridge keep the loss above the level;
    - with ``width`` ``kernel_change``: the share by which the kernel's largest eigenvalue changes at that width until
      the level is reached, about (`gradient_flow` has the formula). From 1 on the limit is no guide to training;
    - ``predicted_error``: mean square error, summed over targets, of leaving one out at infinite time, from the
      training inputs alone (NaN where inputs coincide and there is no ridge); with test data ``test_error``, the same
      measured there, ``best_error`` the least of it in training by flow, at ``best_time``, and for several targets
      ``accuracy`` of the largest output at infinite time;
    - ``rank``, 1 the best, by ``test_error`` or else ``predicted_error``; ``rank_low``, ``rank_high``, between which it
      is in 95% of draws of the inputs at which errors are taken, the same for all networks, and of the seeds; and
      ``error_spread``, the standard deviation of that error over the draws. They speak of this training set: how
      another would change what is learned, they cannot know;
    - ``seeds``, the number of networks behind a name, and ``verdict``, where verdicts were given;
    - ``loss`` (and ``test_error_in_time``) over ("network", "time") of flow at learning rate 1, as shares of the start
      and as mean squares.

    Figures of the spectrum are means over the kernels of outputs, where each has its own; learning is that of all.
    Training starts from f_0 = 0, also where drift gives f_0 a mean. `comparison_table` prints it.

    Raises NetworkError, InputError and KernelError.
    """
    members = _members(networks)
    said = _verdicts(verdicts, members)
    generator = as_generator(rng)
    if (x_test is None) != (y_test is None):
        raise InputError("x_test, y_test: give both, or neither.")
    kind = one_of("kind", kind, ("ntk", "nngp"))
    share = positive_number("level", level)
    delta = positive_number("ridge", ridge, zero=True)
    inputs = as_inputs(x)
    size = len(inputs)
    targets = checked_targets(y, size, inputs=samples_of(x))
    count = whole_number("count", min(10, size) if count is None else count, 1, size)
    new, wanted = None, None
    if x_test is not None and y_test is not None:
        new = as_inputs(x_test, "x_test", like=x)
        wanted = checked_targets(y_test, len(new), "y_test", samples_of(x_test, "x_test"))
        theirs, ours = (Labels(name, labels_of(by_rows(one), 1)) for name, one in (("y_test", y_test), ("y", y)))
        refuse_other_labels(theirs, ours, "targets")
        if wanted.shape[1:] != targets.shape[1:]:
            raise InputError(f"y_test: expected targets like y's {targets.shape[1:]}, got {wanted.shape[1:]} each.")

    if width is not None:
        width = whole_number("width", width)
        if kind != "ntk":
            raise InputError("width: the NNGP trains the last layer alone, whose kernel stands still; leave it out.")
    kept = {name: many for name, many in members.items() if said.get(name) != _NO_LIMIT}
    if progress is not None and not callable(progress):
        truth("progress", progress)
    crossed = 0 if new is None else len(new) * size
    total = sum(map(len, kept.values())) * (size * (size + 1) // 2 + crossed)
    with ProgressBar(progress) as report:
        counted = _Counted(report, total)
        kernels = {name: [counted.kernel(one, inputs) for one in many] for name, many in kept.items()}
        crosses = {
            name: [None if new is None else counted.kernel(one, new, inputs) for one in many]
            for name, many in kept.items()
        }
    problems = {name: [_problem(name, one[kind], targets) for one in many] for name, many in kernels.items()}
    times = _times([problem for many in problems.values() for problem in many])
    found: dict[str, _Column] = {}
    errors: dict[str, FloatArray] = {}  # (seeds, inputs)
    for name, many in problems.items():
        columns, rows = [], []
        for network, kernel, cross, problem in zip(kept[name], kernels[name], crosses[name], many, strict=True):
            alone = ((left_out(problem, delta) - problem.functions @ problem.coefficients) ** 2).sum(axis=1)
            column = _training(problem, times, share, int(count), delta) | {"predicted_error": float(alone.mean())}
            survived = kind == "ntk" and not delta and network.is_plain
            column["divergence_learning_rate"] = divergence_learning_rate(kernel.ntk, network) if survived else math.nan
            if width is not None:
                column["kernel_change"] = _change(network, kernel, problem, float(column["time_to_loss"]), delta, width)
            if cross is not None and wanted is not None:
                tested, alone = _testing(problem, cross[kind], wanted, times, delta)
                column |= tested
            columns.append(column)
            rows.append(alone)
        found[name] = {key: np.mean(np.array([column[key] for column in columns]), axis=0) for key in columns[0]}
        errors[name] = np.array(rows)
    for name, column in _ranks(errors, generator).items():
        found[name] |= column
    pattern = next(iter(found.values()))
    columns = [found.get(name, {key: np.full(np.shape(v), np.nan) for key, v in pattern.items()}) for name in members]
    dims = {"log_eigenvalue": (NETWORK, MODE), "loss": (NETWORK, TIME), "test_error_in_time": (NETWORK, TIME)}
    variables: Variables = {
        key: (dims.get(key, (NETWORK,)), np.array([column[key] for column in columns])) for key in pattern
    }
    variables["seeds"] = ((NETWORK,), np.array([len(many) for many in members.values()]))
    if said:
        variables["verdict"] = ((NETWORK,), np.array([said.get(name, "") for name in members]))
    coords = {NETWORK: list(members), MODE: np.arange(1, int(count) + 1), TIME: times}
    attrs = {
        "level": share,
        "ridge": delta,
        "kind": kind,
        "inputs": size,
        "tests": 0 if wanted is None else len(wanted),
    }
    return dataset(variables, coords, attrs)


class _Counted:
    """Limit kernels that report how far all of them together have come, in pairs of inputs."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self.report, self.total, self.before = report, total, 0

    def kernel(self, network: Network, *inputs: FloatArray) -> xr.Dataset:
        def further(done: int, due: int) -> None:
            if self.report is not None:
                self.report(min(self.before + int(pairs * done / max(due, 1)), self.total), self.total)

        x, *second = inputs
        pairs = len(x) * len(second[0]) if second else len(x) * (len(x) + 1) // 2
        found = limit_kernel(network, *inputs, progress=further)
        self.before += pairs
        return found


def comparison_table(found: xr.Dataset) -> Table:
    """What `compare_networks` found, for the terminal: a column per network. Raises InputError otherwise."""
    from rich.table import Table

    single = (
        *("energy_5", "energy_10", "effective_rank", "participation", "decay_exponent", "alignment", "complexity"),
        *("critical_learning_rate", "learning_rate", "time_to_loss", "steps_to_loss", "predicted_error"),
        *("rank", "rank_low", "rank_high"),
    )
    wanted = {"log_eigenvalue": (NETWORK, MODE), **dict.fromkeys(single, (NETWORK,))}
    checked_dataset("found", found, wanted, "gt.compare_networks")
    numbers = [found.attrs.get(name) for name in ("inputs", "level")]
    if NETWORK not in found.coords or not all(isinstance(one, int | float | np.number) for one in numbers):
        raise InputError(
            "found: expected the Dataset that gt.compare_networks returns, with its coordinates and attrs."
        )
    positive_number("found.attrs['inputs']", found.attrs["inputs"])
    table = Table(title=f"Limit {str(found.attrs.get('kind')).upper()} on {int(found.attrs['inputs']):,} inputs")
    table.add_column("")
    for name in found[NETWORK].values:
        table.add_column(str(name), justify="right", overflow="fold")

    def row(label: str, values: FloatArray, form: str, end: bool = False) -> None:
        table.add_row(label, *(form.format(value) for value in values), end_section=end)

    modes = found.sizes[MODE]
    for mode in range(modes):
        row(f"ln eigenvalue {mode + 1}", found.log_eigenvalue.values[:, mode], "{:.2f}", mode == modes - 1)
    row("energy in the top 5 (%)", 100 * found.energy_5.values, "{:.1f}")
    row("energy in the top 10 (%)", 100 * found.energy_10.values, "{:.1f}")
    row("effective rank", found.effective_rank.values, "{:.2f}")
    row("participation ratio", found.participation.values, "{:.2f}")
    row("decay exponent", found.decay_exponent.values, "{:.2f}")
    row("alignment with the targets", found.alignment.values, "{:.3f}")
    row("complexity of the targets", found.complexity.values, "{:.3g}", True)
    row("largest stable learning rate", found.critical_learning_rate.values, "{:.3g}")
    if "divergence_learning_rate" in found:
        row("networks diverge from, about", found.divergence_learning_rate.values, "{:.3g}")
    row("learning rate to train at", found.learning_rate.values, "{:.3g}")
    percent = f"{100 * float(found.attrs['level']):g}% of the loss"
    row(f"time to {percent}", found.time_to_loss.values, "{:.3g}")
    row(f"steps to {percent}, half that rate", found.steps_to_loss.values, "{:.0f}", "kernel_change" not in found)
    if "kernel_change" in found:
        row("the kernel changes by (%), about", 100 * found.kernel_change.values, "{:.2g}", True)
    row("predicted error (leave one out)", found.predicted_error.values, "{:.4f}")
    for key, label, form in (
        ("test_error", "test error", "{:.4f}"),
        ("best_error", "test error, stopped at its best", "{:.4f}"),
        ("accuracy", "test accuracy (%)", "{:.1f}"),
    ):
        if key in found:
            row(label, found[key].values * (100 if key == "accuracy" else 1), form)
    ranks = zip(*(found[key].values for key in ("rank", "rank_low", "rank_high")), strict=True)
    table.add_row("rank (95% of draws)", *(_rank(*each) for each in ranks))
    if "verdict" in found:
        table.add_row("verdict", *map(str, found.verdict.values))
    return table


def _rank(rank: float, low: float, high: float) -> str:
    return "-" if math.isnan(rank) else f"{rank:.0f} ({low:.0f}-{high:.0f})"


def _members(networks: Any) -> dict[str, list[Network]]:
    if not isinstance(networks, Mapping) or not networks:
        raise InputError(f"networks: expected a dict of networks by name, got {type(networks).__name__}.")
    members = {}
    for name, given in networks.items():
        many = list(given) if isinstance(given, list | tuple) else [given]
        if not many:
            raise InputError(f"networks[{shown(name)}]: expected a Network, or one a seed, got none.")
        for one in many:
            if not isinstance(one, Network):
                raise NetworkError(f"networks[{shown(name)}]: expected a Network, got {shown(one)}.")
        members[name] = many
    return members


def _verdicts(verdicts: Any, members: Mapping[str, Any]) -> dict[str, str]:
    """What is said of every network, as text."""
    if verdicts is None:
        return {}
    if not isinstance(verdicts, Mapping):
        raise InputError(f"verdicts: expected a dict of verdicts by name, got {type(verdicts).__name__}.")
    said = {}
    for name, verdict in verdicts.items():
        if name not in members:
            raise InputError(f"verdicts: {shown(name)} is none of the networks {', '.join(map(str, members))}.")
        text = verdict if isinstance(verdict, str) else getattr(verdict, "attrs", {}).get("verdict")
        if not isinstance(text, str):
            raise InputError(f"verdicts[{name!r}]: expected what gv.applicability returns, got {shown(verdict)}.")
        said[name] = text
    if all(said.get(name) == _NO_LIMIT for name in members):
        raise InputError(f"verdicts: every network has {_NO_LIMIT}; there is none left to compare.")
    return said


def _ranks(errors: Mapping[str, FloatArray], rng: np.random.Generator) -> dict[str, _Column]:
    """Ranks by the mean of squared errors (seeds, inputs), and how they come out with other inputs and seeds."""
    names = list(errors)
    inputs = errors[names[0]].shape[1]
    means = np.empty((_DRAWS, len(names)))
    for draw in means:
        rows = rng.integers(inputs, size=inputs)
        for k, name in enumerate(names):
            seeds = len(errors[name])
            draw[k] = errors[name][rng.integers(seeds, size=seeds)][:, rows].mean()
    means = np.concatenate([[[errors[name].mean() for name in names]], means])
    ranks = 1.0 + (means[:, :, None] > means[:, None, :]).sum(axis=2)
    ranks[np.isnan(means)] = np.nan
    low, high = np.quantile(ranks[1:], _RANKS, axis=0)
    spread = means[1:].std(axis=0, ddof=1)
    return {
        name: {
            "rank": float(ranks[0, k]),
            "rank_low": float(low[k]),
            "rank_high": float(high[k]),
            "error_spread": float(spread[k]),
        }
        for k, name in enumerate(names)
    }


def _problem(name: str, kernel: xr.DataArray, targets: FloatArray) -> LinearTraining:
    try:
        return LinearTraining.of(kernel, targets)
    except InputError as error:
        raise InputError(f"networks[{shown(name)}]: {error}") from None


def _complexity(problem: LinearTraining, delta: float) -> float:
    """Sum over targets of (tr K / N) y' (K + N ridge)^-1 y / N; infinite where they need null modes."""
    if problem.parts:
        return sum(_complexity(one, delta) for one in problem.parts)
    rates, power = problem.rates(delta), 2 * problem.power
    null = rates <= 0
    if power[null].sum() > problem.rounding / problem.values[0] * power.sum():
        return math.inf
    return float(problem.values.sum() * (power[~null] / rates[~null]).sum()) / problem.size


def _times(problems: Sequence[LinearTraining]) -> FloatArray:
    """From before any mode has moved to after a third of the slowest network's modes have."""
    fastest = max(float(one.values[0]) for one in problems)
    slowest = min(float(one.values[one.learns][one.learns.sum() // 3]) for one in problems)
    return np.geomspace(0.05 / fastest, 3.0 / slowest, _TIMES)


def _training(problem: LinearTraining, times: FloatArray, share: float, count: int, delta: float) -> _Column:
    power, parts = problem.power, problem.parts or (problem,)
    start = float(power.sum())
    if not start > 0:
        raise InputError("y: every target is zero, so that there is nothing to learn.")
    critical = 2 / (float(problem.values[0]) + delta)
    # |K| and <K, y y^T> in the modes; the targets among each other
    among = problem.coefficients.T @ problem.coefficients
    inner = float(problem.values @ np.sum(problem.coefficients**2, axis=1))
    with np.errstate(divide="ignore"):
        logs = np.mean([np.log(np.maximum(one.values[:count], 0.0)) for one in parts], axis=0)
    last = problem.size - 1

    def mean(name: str) -> float:
        return float(np.mean([one.modes.attrs.get(name, np.nan) for one in parts]))

    return {
        "log_eigenvalue": logs,
        "energy_5": float(np.mean([one.modes.energy[min(4, last)] for one in parts])),
        "energy_10": float(np.mean([one.modes.energy[min(9, last)] for one in parts])),
        "effective_rank": mean("effective_rank"),
        "participation": float(np.mean([one.values.sum() ** 2 / (one.values**2).sum() for one in parts])),
        "gap": mean("gap"),
        "decay_exponent": mean("decay_exponent"),
        "alignment": inner / float(np.linalg.norm(problem.values) * np.linalg.norm(among)),
        "complexity": _complexity(problem, delta),
        "critical_learning_rate": critical,
        "learning_rate": critical / 2,
        "time_to_loss": time_of(problem, share * start, delta),
        "steps_to_loss": steps_of(problem, share * start, critical / 2, delta),
        "loss": (1 - problem.flow(times, 1.0, delta).fraction) ** 2 @ power / start,
    }


def _change(
    network: Network, kernel: xr.Dataset, problem: LinearTraining, time: float, delta: float, width: int
) -> float:
    """``kernel_change`` at that time."""
    units = width * network.layers[-1].mask.mean()
    distance = squared_distance(problem, problem.flow(np.array([time]), 1.0, delta))
    return float(kernel_change(problem, distance, kernel.nngp, network.depth, units)[0])


def _testing(
    problem: LinearTraining, cross: xr.DataArray, wanted: FloatArray, times: FloatArray, delta: float
) -> tuple[_Column, FloatArray]:
    """The figures at new inputs, and the squared errors there at infinite time."""
    new = problem.at_new(cross)
    targets = wanted.reshape(len(wanted), -1)
    errors, last = np.empty(len(times) + 1), targets
    best_time, best_loss = best_stop_of(problem, new, targets, delta)
    for row, response in enumerate(problem.flow(np.append(times, np.inf), 1.0, delta).response):
        last = new.projections @ (response[:, None] * problem.coefficients)
        errors[row] = np.mean(np.sum((last - targets) ** 2, axis=1))
    out: _Column = {
        "test_error": float(errors[-1]),
        "best_error": 2 * best_loss,
        "best_time": best_time,
        "test_error_in_time": errors[:-1],
    }
    if targets.shape[1] > 1:
        out["accuracy"] = float(np.mean(last.argmax(axis=1) == targets.argmax(axis=1)))
    return out, ((last - targets) ** 2).sum(axis=1)
