"""Designed masks against those of every other method on one budget: predicted and measured test errors (THEORY §13)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import positive_number, share_kept, truth, whole_number
from graphon_theory.networks.network import Network
from graphon_validation.experiments.contenders import CONTENDERS, ONE_SHOT, Arena, called, contender, dead_units
from graphon_validation.experiments.drawings import design_figure
from graphon_validation.experiments.parts import Parts, every, gathered
from graphon_validation.experiments.summaries import different, results_in
from graphon_validation.experiments.tasks import task as named_task
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import as_tensor, checked_place
from graphon_validation.studies.tables import table_of
from graphon_validation.training.trainers import train

RECORDED = 20  # moments of every curve
QUICK = {"width": 48, "steps": 60, "train": 60, "iterations": 8, "starts": 1, "seeds": 2, "rows": 32}


def design_experiment(
    out: str | os.PathLike[str],
    task: str = "relevant",
    density: float = 0.1,
    *,
    methods: Sequence[str] = CONTENDERS,
    seeds: int = 5,
    width: int = 1024,
    steps: int = 200,
    share: float = 0.8,
    train: int = 300,
    blocks: int = 8,
    starts: int = 8,
    iterations: int = 100,
    rows: int = 512,
    device: str = "cpu",
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """A designed graphon, sampled into masks and trained, against the masks of all other methods on the same budget.

    ReLU networks with two hidden layers of ``width`` units and bias variance 0.1, all layers pruned to ``density``
    together (:func:`graphon_validation.experiments.contenders.contender` says how), every signal of variance 1 at the
    start. All train by plain full-batch gradient descent on squared loss, f(0) taken off, for ``steps`` steps at
    ``share`` of the critical rate of their own kernel at the start. Test errors are means of squares, summed over
    targets, at other inputs.

    Four figures stand side by side, each as the best over time and at the end: ``predicted``, gradient descent with
    the limit kernel of the method's law, where it has one; ``predicted_rows``, of the design with ``rows`` drawn from
    the input mask as positions, where wide networks of so few inputs tend (``gv.mixture``); ``lazy``, with the
    network's own kernel at the start; and ``test_error``, measured. Their differences are few inputs, finite width, and
    the motion of the kernel.

    Every network is kept as it finishes (``parts`` in the folder), so that a run that was killed goes on, there or on
    another ``device``, where networks live, train and have their kernels; seeds are 0, 1, ..., and the task's inputs
    are the same for all. Prints a table and a verdict, writes ``design-TASK-DENSITY``
    as ``.nc`` and ``.png``.

    Returns a Dataset over "pruning", "seed" and "time" (steps): ``loss``, ``test_error``, ``lazy``, ``predicted``
    and ``predicted_rows``; ``rate``, ``kept`` ("layer"), the density of every layer, ``dead`` ("hidden"), units
    that hear or send nothing; of the design ``design_value``, with rows and without, ``evaluations``, ``holdout``,
    ``gain`` and ``gain_error`` (NaN where too few inputs to hold some out), its ``input_mask`` ("u", "v"); attrs:
    the design as TOML, the verdict, and all settings.

    Raises InputError for unknown or repeated methods, and what ``gt.design`` raises.
    """
    results = results_in(out, console, figures=True)
    density = share_kept("density", density)
    counts = (("width", width), ("steps", steps), ("seeds", seeds), ("rows", rows))
    width, steps, seeds, rows = (whole_number(name, value, 1) for name, value in counts)
    share = positive_number("share", share)
    truth("progress", progress)
    methods = different("methods", methods, CONTENDERS)
    checked_place(device, None)
    arena = Arena(named_task(task, train=train), width, density, steps, share, rows, device)
    settings = {"task": task, "train": train, "width": width, "density": density}
    options = {"blocks": blocks, "starts": starts, "iterations": iterations}
    parts = Parts(results.folder, "design", {**settings, **options})
    designed, of_design, text = None, dict[str, xr.DataArray](), {}
    if "designed" in methods:
        found = parts.all([{"what": "the design"}], lambda _: _designed(arena, options), progress=progress)[0]
        text = {"network": found.attrs["network"]}
        designed = Network.from_toml(text["network"])
        of_design = {str(name): values for name, values in found.data_vars.items()}
    training = {"steps": steps, "share": share}
    laws = {method: law for method in methods if (law := arena.law(method, designed)) is not None}

    def predicted(one: Mapping[str, Any]) -> Dataset:
        law = laws[one["pruning"]]
        return _predicted(arena, arena.with_rows(law) if one["what"] == "rows" else law)

    def measured(one: Mapping[str, Any]) -> Dataset:
        return _measured(arena, one["pruning"], one["seed"], designed)

    # seed by seed: a run that is stopped has all methods of the first ones
    over: dict[str, Sequence[Any]] = {"seed": range(seeds), "pruning": methods}
    asked = [{**one, **training} for one in every(over)]
    table = gathered(parts.all(asked, measured, progress=progress), over).transpose("pruning", "seed", ...)
    curves = {name: xr.full_like(table.test_error.isel(seed=0, drop=True), np.nan) for name in ("law", "rows")}
    asked = [{"what": "law", "pruning": method, **training} for method in laws]
    if "designed" in laws:
        asked.append({"what": "rows", "pruning": "designed", **training, "rows": rows})
    for one, curve in zip(asked, parts.all(asked, predicted, progress=progress), strict=True):
        curves[one["what"]].loc[{"pruning": one["pruning"]}] = curve.predicted.values
    result = table.assign({"predicted": curves["law"], "predicted_rows": curves["rows"], **of_design})
    result.attrs = {**settings, **options, **training, "guess": arena.task.guess, **text}
    name = f"design-{task}-{density:g}"
    return results.finish(result, name, [design_table(result)], verdict=verdict(result), figure=design_figure)


def best(curves: xr.DataArray) -> xr.DataArray:
    """The least over time."""
    return curves.min("time")


def mean_and_error(values: xr.DataArray) -> tuple[float, float]:
    """Over seeds; the error of one alone is NaN."""
    count = values.sizes["seed"]
    error = float(values.std("seed", ddof=1)) / count**0.5 if count > 1 else float("nan")
    return float(values.mean("seed")), error


def verdict(found: Dataset) -> str:
    """What was found, in a sentence or two."""
    methods = [str(name) for name in found.pruning.values]
    if "designed" not in methods:
        return "nothing designed"
    own = found.sel(pruning="designed")
    measured, error = mean_and_error(best(own.test_error))
    claimed, rows = float(best(own.predicted)), float(best(own.predicted_rows))
    spread = f" ± {error:.1g}" if np.isfinite(error) else ""
    text = f"designed {measured:.3g}{spread}, predicted {claimed:.3g} ({measured / claimed - 1:+.0%})"
    text += f", with rows of the input mask {rows:.3g} ({measured / rows - 1:+.0%})"
    rivals = {name: mean_and_error(best(found.sel(pruning=name).test_error))[0] for name in methods if name in ONE_SHOT}
    if rivals:
        least = min(rivals, key=rivals.__getitem__)
        text += f"; best of the others at the start {called(least)} {rivals[least]:.3g}"
        text += f" ({rivals[least] / measured:.2g} times)"
    gain, gain_error = float(found.gain), float(found.gain_error)
    if np.isnan(gain):
        return f"{text}. Too few inputs for any to be held out in the design."
    helps = gain > 2 * gain_error
    return f"{text}. Held out in the design: gain {gain:.2f} ± {gain_error:.2f}, {'' if helps else 'not '}a gain."


def design_table(found: Dataset) -> Table:
    """One row a method."""
    heads = (
        "method",
        "predicted",
        "with rows",
        "own kernel",
        "measured, best",
        "at the end",
        "train",
        "best at",
        "dead units",
    )
    title = f"test error, task {found.attrs['task']}, density {found.attrs['density']:g}, "
    table = table_of(f"{title}width {found.attrs['width']:,}, {found.sizes['seed']} seeds", heads, words=["method"])
    for name in found.pruning.values:
        one = found.sel(pruning=name)
        laws = (float(best(one[name])) for name in ("predicted", "predicted_rows"))
        when = one.time.values[one.test_error.argmin("time").values]
        table.add_row(
            called(name),
            *("" if np.isnan(law) else f"{law:.3f}" for law in laws),
            _cell(best(one.lazy)),
            _cell(best(one.test_error)),
            _cell(one.test_error.isel(time=-1)),
            f"{2 * float(one.loss.isel(time=-1).mean()):.2g}",
            f"{np.median(when):.0f}",
            f"{float(one.dead.sum('hidden').mean()):.0f}",
        )
    table.caption = f"the training mean alone: {found.attrs['guess']:.3f}"
    return table


def _cell(values: xr.DataArray) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.3f} ± {error:.3f}" if np.isfinite(error) else f"{mean:.3f}"


def _designed(arena: Arena, options: Mapping[str, Any]) -> Dataset:
    """The design, its network as TOML."""
    network = arena.dense.changed(outputs=1)  # all targets share the kernel of one output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gt.DesignWarning)  # the verdict says whether inputs held out show a gain
        found = gt.design(
            network, arena.task.x, arena.task.y, density=arena.density, widths=arena.widths, rng=0, **options
        )
    values = {
        "design_value": found.value,
        "design_value_with_rows": found.value_with_rows,
        "evaluations": found.evaluations,
        "holdout": found.holdout,
        "gain": found.gain,
        "gain_error": found.gain_error,
    }
    first = found.network.layers[0].mask
    assert isinstance(first, gt.StepGraphon)
    return Dataset(
        {**{name: np.float64(value) for name, value in values.items()}, "input_mask": (("u", "v"), first.values)},
        attrs={"network": found.network.changed(outputs=arena.widths[-1]).to_toml()},
    )


def moments(steps: int) -> list[int]:
    """When curves are recorded, in steps: evenly, the first and the last."""
    every = max(1, steps // RECORDED)
    return [*range(0, steps, every), steps]


def _predicted(arena: Arena, law: Network) -> Dataset:
    one = law.changed(outputs=1)
    kernel, test_kernel = gt.limit_kernel(one, arena.task.x).ntk, gt.limit_kernel(one, arena.task.x_test, arena.task.x)
    return Dataset({"predicted": ("time", _descent(arena, kernel.values, test_kernel.ntk.values)[1])})


def _descent(arena: Arena, kernel: FloatArray, test_kernel: FloatArray) -> tuple[float, FloatArray]:
    """The rate, and test errors of gradient descent with a kernel that all targets share."""
    rate = arena.share * gt.critical_learning_rate(kernel)
    curve = gt.gradient_descent(
        kernel,
        arena.task.y,
        moments(arena.steps),
        learning_rate=rate,
        test_kernel=test_kernel,
        y_test=arena.task.y_test,
    )
    return rate, 2 * curve.test_loss.values


def _measured(arena: Arena, method: str, seed: int, designed: Network | None) -> Dataset:
    model, task = contender(method, arena, seed, designed), arena.task
    # outputs have kernels of their own that agree in the limit; the first stands for all
    # in the networks' float32, whose roundings are what eigenvalues below 0 may be of
    kernel = empirical_kernel(model, task.x, outputs=[0]).ntk.values.reshape(len(task.x), -1).astype(np.float32)
    crossed = empirical_kernel(model, task.x_test, task.x, outputs=[0]).ntk.values.reshape(-1, len(task.x))
    rate, lazy = _descent(arena, kernel, crossed)
    start, test_start = (model(as_tensor(model, x, "x")).detach().double().cpu().numpy() for x in (task.x, task.x_test))
    seen = train(
        model,
        (task.x, task.y + start),
        steps=arena.steps,
        learning_rate=rate,
        test=(task.x_test, task.y_test + test_start),
        record=max(1, arena.steps // RECORDED),
        progress=False,
    )
    return Dataset(
        {
            "loss": ("time", seen.loss.values),
            "test_error": ("time", 2 * seen.test_loss.values),
            "lazy": ("time", lazy),
            "rate": np.float64(rate),
            "dead": ("hidden", np.array(dead_units(model))),
            "kept": ("layer", np.array([float(mask.double().mean()) for mask in model.masks])),
        },
        {"time": seen.time.values},
    )
