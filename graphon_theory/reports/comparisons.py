"""Several networks on one data set: the figures by which a mask is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import (
    as_inputs,
    checked_dataset,
    checked_targets,
    one_of,
    positive_number,
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
from graphon_theory.errors import InputError, NetworkError, shown
from graphon_theory.networks.network import Network
from graphon_theory.training.dynamics import best_stop_of, steps_of, time_of
from graphon_theory.training.linear_training import LinearTraining
from graphon_theory.training.regressions import left_out

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

_TIMES = 60  # of the learning curves


def compare_networks(
    networks: Mapping[str, Network],
    x: ArrayLike | xr.DataArray,
    y: ArrayLike | xr.DataArray,
    x_test: ArrayLike | xr.DataArray | None = None,
    y_test: ArrayLike | xr.DataArray | None = None,
    *,
    level: float = 0.1,
    count: int | None = None,
    ridge: float = 0.0,
    kind: str = "ntk",
) -> xr.Dataset:
    """Spectrum, speed and error of each network's limit kernel on one data set.

    Args:
        networks: by name; one output each (several targets share its kernel).
        x: inputs (N, d); y: targets (N,) or (N, k); x_test, y_test: new ones, or neither.
        level: the training loss to be reached, as a share of the loss at the start.
        count: eigenvalues shown, 10 or all of fewer if left out; ridge: as in `gradient_flow`; kind: "ntk" or "nngp".

    Returns a Dataset over ``network``:

    - ``log_eigenvalue`` ("network", "mode"): natural log of the ``count`` largest; ``energy_5``, ``energy_10``,
      ``effective_rank``, ``gap``, ``decay_exponent`` (NaN where it cannot be fitted), ``alignment`` with the targets;
    - ``critical_learning_rate``, ``time_to_loss`` (flow), ``steps_to_loss`` (gradient descent at half the critical
      rate), infinite where null modes or the ridge keep the loss above the level;
    - ``predicted_error``: mean square error, summed over targets, of leaving one out at infinite time, from the
      training inputs alone (NaN where inputs coincide and there is no ridge); with test data ``test_error``, the same
      measured there, ``best_error`` the least of it in training by flow, at ``best_time``, and for several targets
      ``accuracy`` of the largest output at infinite time;
    - ``loss`` (and ``test_error_in_time``) over ("network", "time") of flow at learning rate 1, as shares of the start
      and as mean squares.

    Training starts from f_0 = 0, also where drift gives f_0 a mean. `comparison_table` prints it.

    Raises NetworkError, InputError and KernelError.
    """
    if not isinstance(networks, Mapping) or not networks:
        raise InputError(f"networks: expected a dict of networks by name, got {type(networks).__name__}.")
    for name, network in networks.items():
        if not isinstance(network, Network) or network.outputs != 1:
            raise NetworkError(f"networks[{shown(name)}]: expected a Network with one output, got {shown(network)}.")
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

    problems = {}
    for name, network in networks.items():
        problems[name] = LinearTraining.of(limit_kernel(network, inputs)[kind], targets)
    times = _times(list(problems.values()))
    columns = []
    for name, problem in problems.items():
        column = _training(problem, times, share, int(count), delta)
        if new is not None and wanted is not None:
            column |= _testing(problem, limit_kernel(networks[name], new, inputs)[kind], wanted, times, delta)
        columns.append(column)
    dims = {"log_eigenvalue": (NETWORK, MODE), "loss": (NETWORK, TIME), "test_error_in_time": (NETWORK, TIME)}
    variables: Variables = {
        key: (dims.get(key, (NETWORK,)), np.array([column[key] for column in columns])) for key in columns[0]
    }
    coords = {NETWORK: list(networks), MODE: np.arange(1, int(count) + 1), TIME: times}
    attrs = {
        "level": share,
        "ridge": delta,
        "kind": kind,
        "inputs": size,
        "tests": 0 if wanted is None else len(wanted),
    }
    return dataset(variables, coords, attrs)


def comparison_table(found: xr.Dataset) -> Table:
    """What `compare_networks` found, for the terminal: a column per network."""
    from rich.table import Table

    single = (
        *("energy_5", "energy_10", "effective_rank", "decay_exponent", "alignment", "critical_learning_rate"),
        *("time_to_loss", "steps_to_loss", "predicted_error"),
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
        table.add_column(str(name), justify="right")

    def row(label: str, values: FloatArray, form: str, end: bool = False) -> None:
        table.add_row(label, *(form.format(value) for value in values), end_section=end)

    modes = found.sizes[MODE]
    for mode in range(modes):
        row(f"ln eigenvalue {mode + 1}", found.log_eigenvalue.values[:, mode], "{:.2f}", mode == modes - 1)
    row("energy in the top 5 (%)", 100 * found.energy_5.values, "{:.1f}")
    row("energy in the top 10 (%)", 100 * found.energy_10.values, "{:.1f}")
    row("effective rank", found.effective_rank.values, "{:.2f}")
    row("decay exponent", found.decay_exponent.values, "{:.2f}")
    row("alignment with the targets", found.alignment.values, "{:.3f}", True)
    row("largest stable learning rate", found.critical_learning_rate.values, "{:.3g}")
    percent = f"{100 * float(found.attrs['level']):g}% of the loss"
    row(f"time to {percent}", found.time_to_loss.values, "{:.3g}")
    row(f"steps to {percent}, half that rate", found.steps_to_loss.values, "{:.0f}", True)
    row("predicted error (leave one out)", found.predicted_error.values, "{:.4f}")
    for key, label, form in (
        ("test_error", "test error", "{:.4f}"),
        ("best_error", "test error, stopped at its best", "{:.4f}"),
        ("accuracy", "test accuracy (%)", "{:.1f}"),
    ):
        if key in found:
            row(label, found[key].values * (100 if key == "accuracy" else 1), form)
    return table


def _times(problems: Sequence[LinearTraining]) -> FloatArray:
    """From before any mode has moved to after a third of the slowest network's modes have."""
    fastest = max(float(one.values[0]) for one in problems)
    slowest = min(float(one.values[one.learns][one.learns.sum() // 3]) for one in problems)
    return np.geomspace(0.05 / fastest, 3.0 / slowest, _TIMES)


def _training(
    problem: LinearTraining, times: FloatArray, share: float, count: int, delta: float
) -> dict[str, FloatArray | float]:
    modes, power = problem.modes, problem.power
    start = float(power.sum())
    if not start > 0:
        raise InputError("y: every target is zero, so that there is nothing to learn.")
    critical = 2 / (float(problem.values[0]) + delta)
    # |K| and <K, y y^T> in the modes; the targets among each other
    among = problem.coefficients.T @ problem.coefficients
    inner = float(problem.values @ np.sum(problem.coefficients**2, axis=1))
    alone = left_out(problem, delta) - problem.functions @ problem.coefficients
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(problem.values[:count], 0.0))
    return {
        "log_eigenvalue": logs,
        "energy_5": float(modes.energy[min(4, problem.size - 1)]),
        "energy_10": float(modes.energy[min(9, problem.size - 1)]),
        "effective_rank": float(modes.attrs["effective_rank"]),
        "gap": float(modes.attrs["gap"]),
        "decay_exponent": float(modes.attrs.get("decay_exponent", np.nan)),
        "alignment": inner / float(np.linalg.norm(problem.values) * np.linalg.norm(among)),
        "critical_learning_rate": critical,
        "time_to_loss": time_of(problem, share * start, delta),
        "steps_to_loss": steps_of(problem, share * start, critical / 2, delta),
        "predicted_error": float(np.mean(np.sum(alone**2, axis=1))),
        "loss": (1 - problem.flow(times, 1.0, delta).fraction) ** 2 @ power / start,
    }


def _testing(
    problem: LinearTraining, cross: xr.DataArray, wanted: FloatArray, times: FloatArray, delta: float
) -> dict[str, FloatArray | float]:
    new = problem.at_new(cross)
    targets = wanted.reshape(len(wanted), -1)
    errors, last = np.empty(len(times) + 1), targets
    best_time, best_loss = best_stop_of(problem, new, targets, delta)
    for row, response in enumerate(problem.flow(np.append(times, np.inf), 1.0, delta).response):
        last = new.projections @ (response[:, None] * problem.coefficients)
        errors[row] = np.mean(np.sum((last - targets) ** 2, axis=1))
    out: dict[str, FloatArray | float] = {
        "test_error": float(errors[-1]),
        "best_error": 2 * best_loss,
        "best_time": best_time,
        "test_error_in_time": errors[:-1],
    }
    if targets.shape[1] > 1:
        out["accuracy"] = float(np.mean(last.argmax(axis=1) == targets.argmax(axis=1)))
    return out
