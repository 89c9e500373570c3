"""Many finite networks trained from their own draws, beside their linearisations (THEORY §7).

What `graphon_theory.training_ensemble` predicts, mean and spread of the prediction in time, measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import track
from xarray import DataArray, Dataset

from graphon_theory.data import checks, labels
from graphon_theory.data.checks import checked_steps, checked_targets
from graphon_theory.errors import InputError
from graphon_theory.networks.network import Network
from graphon_theory.networks.unit_values import equal_widths
from graphon_theory.training.dynamics import gradient_descent
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import build, checked_network
from graphon_validation.training.trainers import train

KINDS = ("real", "linear")


def trained_ensemble(
    network: Network,
    x: ArrayLike | DataArray,
    y: ArrayLike | DataArray,
    x_test: ArrayLike | DataArray,
    steps: Sequence[int],
    *,
    learning_rate: float,
    width: int,
    seeds: Sequence[int],
    progress: bool = True,
) -> Dataset:
    """Predictions after full-batch gradient descent on squared loss, of networks with hidden layers ``width`` wide.

    "real" networks are trained, all parameters; "linear" ones are the same networks to first order in their parameters:
    `graphon_theory.gradient_descent` with the network's own tangent kernel and outputs at the start.

    ``x`` (N, d), ``y`` (N,), ``x_test`` (M, d); ``steps`` increasing; ``network`` with one output.

    Returns a Dataset ``prediction`` ("kind", "seed", "time", "x"), first the N training inputs, then the M new ones;
    attrs ``inputs`` = N, ``width``, ``learning_rate``.

    Raises InputError and NetworkError for what does not fit.
    """
    checked_network(network)
    width = checks.whole_number("width", width)
    learning_rate = checks.positive_number("learning_rate", learning_rate)
    inputs, new = checks.as_inputs(x), checks.as_inputs(x_test, "x_test", like=x)
    targets = checked_targets(y, len(inputs), inputs=labels.samples_of(x))
    if targets.ndim != 1 or network.outputs != 1:
        raise InputError(f"y: expected one target, (N,), and a network with one output, got {targets.shape}.")
    counts = checked_steps(steps).astype(int).tolist()
    seeds = checks.whole_numbers("seeds", seeds, 0, distinct=True)
    if len(seeds) < 2:
        raise InputError(f"seeds: expected at least 2 for a spread, got {list(seeds)}.")
    if new.shape[1] != inputs.shape[1]:
        raise InputError(f"x_test: expected {inputs.shape[1]} columns like x, got {new.shape[1]}.")
    every = np.concatenate([inputs, new])
    size = len(inputs)
    out = np.empty((2, len(seeds), len(counts), len(every)))
    console = Console(stderr=True)
    for row, seed in enumerate(track(seeds, "networks", console=console, disable=not progress)):
        unit_counts = equal_widths(network, inputs.shape[1], width)
        model = build(network, unit_counts, np.random.SeedSequence([int(seed), width]))
        start = _outputs(model, every)
        kernel = empirical_kernel(model, every, inputs).ntk.values
        square = (kernel[:size] + kernel[:size].T) / 2
        linear = gradient_descent(
            square,
            targets,
            counts,
            learning_rate=learning_rate,
            test_kernel=kernel[size:],
            initial=start[:size],
            test_initial=start[size:],
        )
        out[1, row] = np.concatenate([linear.prediction.values, linear.test_prediction.values], axis=1)
        done = 0
        for column, count in enumerate(counts):
            if count > done:
                data = (inputs, targets[:, None])
                train(model, data, steps=count - done, learning_rate=learning_rate, record=count - done, progress=False)
                done = count
            out[0, row, column] = _outputs(model, every)
    return labels.dataset(
        {"prediction": (("kind", labels.SEED, labels.TIME, labels.X), out)},
        {"kind": list(KINDS), labels.SEED: list(seeds), labels.TIME: counts},
        {"inputs": size, "width": width, "learning_rate": learning_rate, "network": network.describe()},
    )


def compare_ensemble(found: Dataset, law: Dataset) -> Dataset:
    """Finite networks against `graphon_theory.training_ensemble` with the same steps and test inputs.

    Returns a Dataset over ("kind", "time", "x"): ``z``, the mean over seeds less the predicted one in (measured)
    standard errors; ``off``, the same in predicted standard deviations; ``std_ratio``, measured over predicted standard
    deviation (NaN where nothing varies, as at infinite time); and over ("kind",) ``coverage``, the share of single
    networks within two predicted standard deviations of the predicted mean (95.4% for a Gaussian), and ``mean_z`` and
    ``mean_std_ratio`` (root mean squares over the entries that vary).

    Raises InputError where the two are not of the same inputs and times, or not finite.
    """
    drawn = {"prediction": ("kind", labels.SEED, labels.TIME, labels.X)}
    checks.checked_dataset("found", found, drawn, "gv.trained_ensemble")
    if found.sizes["kind"] != len(KINDS) or labels.TIME not in found.coords or "width" not in found.attrs:
        raise InputError("found: expected what gv.trained_ensemble returns, with its kinds, times and attrs.")
    old, new = (labels.TIME, labels.X), (labels.TIME, labels.X_TEST)
    held = {"mean": old, "std": old, "test_mean": new, "test_std": new}
    checks.checked_dataset("law", law, held, "gt.training_ensemble(..., test=..., test_variance=...)")
    values = found.prediction.values
    mean = np.concatenate([law["mean"].values, law["test_mean"].values], axis=1)
    std = np.concatenate([law["std"].values, law["test_std"].values], axis=1)
    if mean.shape != values.shape[2:]:
        raise InputError(f"law: expected predictions of shape {values.shape[2:]} (time, inputs), got {mean.shape}.")
    for name, numbers in (("found", values), ("law", mean), ("law", std)):
        checks.refuse_infinite(name, numbers, "pass what the two functions return.")
    seeds = values.shape[1]
    if seeds < 2:
        raise InputError(f"found: expected at least 2 seeds, whose spread is the measure, got {seeds}.")
    spread = values.std(axis=1, ddof=1)
    z = _over(values.mean(axis=1) - mean, spread / np.sqrt(seeds))
    off, ratio = _over(values.mean(axis=1) - mean, std), _over(spread, std)
    inside = np.abs(values - mean) <= 2 * std
    dims = ("kind", labels.TIME, labels.X)
    return labels.dataset(
        {
            "z": (dims, z),
            "off": (dims, off),
            "std_ratio": (dims, ratio),
            "coverage": (("kind",), inside.mean(axis=(1, 2, 3))),
            "mean_z": (("kind",), _root_mean_square(z)),
            "mean_std_ratio": (("kind",), _root_mean_square(ratio)),
        },
        {"kind": list(KINDS), labels.TIME: found[labels.TIME].values},
        {"seeds": seeds, "width": found.attrs["width"]},
    )


def _over(values: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """A quotient, NaN where the spread is 0."""
    values, spread = np.broadcast_arrays(values, spread)
    return np.divide(values, spread, out=np.full(values.shape, np.nan), where=spread > 0)


def _root_mean_square(values: np.ndarray) -> np.ndarray:
    """Over the entries of each kind that are numbers; NaN where none is."""
    held = np.isfinite(values)
    count = held.sum(axis=(1, 2))
    total = np.where(held, values, 0.0) ** 2
    return np.sqrt(np.divide(total.sum(axis=(1, 2)), count, out=np.full(len(values), np.nan), where=count > 0))


@torch.no_grad()
def _outputs(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    return np.asarray(model(torch.from_numpy(x))[:, 0].double().numpy())
