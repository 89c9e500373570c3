"""Graphons in time: SynFlow's rounds, iterative magnitude pruning, SET and RigL, and spectra along these paths."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import BoolArray, FloatArray
from graphon_theory.data.checks import share_kept, whole_number
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.drawings import mask_path_figure
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different, energy, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data
from graphon_validation.training.rewirings import Rewiring
from graphon_validation.training.trainers import train

TIMES = 5  # beyond the start, evenly over rounds or steps
ROUNDS = {"synflow": 100, "imp": 10}
LABELS = {"synflow": "SynFlow's rounds", "imp": "iterative magnitude", "set": "SET", "rigl": "RigL"}
HIDDEN, PROBES, BINS, BLOCKS = 3, 60, 16, 4
RATE = 3e-3
_MOST = 100_000  # steps, seeds or units
QUICK: dict[str, Any] = {"width": 40, "steps": 40, "seeds": 1}

State = tuple[list[BoolArray], list[FloatArray]]  # masks and weights


def mask_path_experiment(
    out: str | os.PathLike[str],
    kinds: Sequence[str] = tuple(LABELS),
    seeds: int = 2,
    *,
    width: int = 256,
    density: float = 0.1,
    steps: int = 400,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Masks that change in time, as graphons W(u, v, t): how far they move, and what becomes of the spectrum.

    ReLU networks (ntk parameterization) with three hidden layers on digits; the layers between hidden units change.
    ``kinds``: "synflow", along its 100 rounds; "imp", iterative magnitude pruning, ten rounds of ``steps`` / 10 steps
    of Adam each, rewound; "set" and "rigl", masks of random layers rewired every ``steps`` / 20 steps during ``steps``
    of training. Six times each, the first before anything happens.

    Prints a table and a verdict; writes ``graphon-paths.nc`` and ``graphon-paths.png``.

    Returns a Dataset over "kind", "seed", "time" (0 to 1): by "layer" of the changing ones ``density``, ``step`` (L2
    distance of 16 x 16 block densities to the time before, units in one order for the path), ``noise`` (that of two
    random masks), ``changed`` (share of connections) and ``uneven`` (distance to a constant over that of random masks);
    and of the kernels ``energy`` and ``trace`` of the network with its weights at that time, ``limit_energy`` of
    (W, V) from 4 blocks found for all times together (:func:`graphon_theory.network_path`).
    """
    results = results_in(out, console, figures=True)
    kinds = different("kinds", kinds, list(LABELS))
    density = share_kept("density", density)
    for name, count, least in (("seeds", seeds, 1), ("width", width, BINS), ("steps", steps, 20)):
        whole_number(name, count, least, _MOST)
    x, labels = digits()
    data, probe = (x[:1000], labels[:1000]), x[1000 : 1000 + PROBES]
    counts = (x.shape[1], *[width] * HIDDEN, 10)

    def make(one: Mapping[str, Any]) -> Dataset:
        model = dense(counts, [one["seed"], width])
        states = MAKERS[one["kind"]](model, data, density, steps, one["seed"])
        return _along(model, states, probe)

    settings: dict[str, Any] = {"width": width, "kept": density, "steps": steps}
    over: dict[str, Sequence[Any]] = {"kind": kinds, "seed": range(seeds)}
    found = Parts(results.folder, "graphon-paths", settings).over(over, make, progress=progress).assign_attrs(settings)
    return results.finish(found, "graphon-paths", [path_table(found)], verdict=verdict(found), figure=mask_path_figure)


def _state(model: MaskedMLP) -> State:
    masks = [mask.cpu().numpy().copy() for mask in model.masks]
    return masks, [weight.detach().cpu().numpy().copy() for weight in model.weights]


def _synflow(model: MaskedMLP, data: Data, density: float, steps: int, seed: int) -> list[State]:
    """The rounds of :func:`prune`, stopped on the way: after a round it knows nothing but the masks."""
    states, rounds = [_state(model)], ROUNDS["synflow"]
    for done in range(1, rounds + 1):
        prune(model, "synflow", density ** (done / rounds), layers=[1, 2], rounds=1)
        if done % (rounds // TIMES) == 0:
            states.append(_state(model))
    return states


def _iterative(model: MaskedMLP, data: Data, density: float, steps: int, seed: int) -> list[State]:
    states, rounds = [_state(model)], ROUNDS["imp"]
    options: dict[str, Any] = {"loss": "cross_entropy", "optimizer": "adam", "learning_rate": RATE}
    for done in range(1, rounds + 1):
        reached = density ** (done / rounds)
        prune(model, "imp", reached, data, layers=[1, 2], rounds=1, rng=[seed, done], steps=steps // rounds, **options)
        if done % (rounds // TIMES) == 0:
            states.append(_state(model))
    return states


def _rewired(method: str) -> Callable[[MaskedMLP, Data, float, int, int], list[State]]:
    def make(model: MaskedMLP, data: Data, density: float, steps: int, seed: int) -> list[State]:
        prune(model, "random", density, layers=[1, 2], scope="layer", rng=seed)
        states, each = [_state(model)], steps // TIMES
        for part in range(TIMES):
            # every part anneals the share that RigL rewires anew
            rewiring = Rewiring(method, every=max(1, steps // 20), until=each)
            train(
                model,
                data,
                steps=each,
                learning_rate=RATE,
                loss="cross_entropy",
                optimizer="adam",
                rewiring=rewiring,
                seed=seed * TIMES + part,
                progress=False,
            )
            states.append(_state(model))
        return states

    return make


MAKERS: dict[str, Callable[[MaskedMLP, Data, float, int, int], list[State]]] = {
    "synflow": _synflow,
    "imp": _iterative,
    "set": _rewired("set"),
    "rigl": _rewired("rigl"),
}


def _along(model: MaskedMLP, states: Sequence[State], probe: FloatArray) -> Dataset:
    import torch

    masks, weights = [list(one) for one in zip(*states, strict=True)]
    times = np.linspace(0, 1, len(states)).tolist()
    by_layer: dict[str, list[Any]] = {name: [] for name in ("density", "step", "noise", "changed", "uneven")}
    for layer in (1, 2):
        path = gt.graphon_path([one[layer] for one in masks], times, BINS)
        for name in ("density", "step", "noise", "changed"):
            by_layer[name].append(path[name].values)
        nulls = [gt.estimate_graphon(one[layer], BINS).null for one in masks]
        ratios = [null.distance / null.mean if null is not None and null.mean > 0 else 1.0 for null in nulls]
        by_layer["uneven"].append(np.array(ratios))
    energies, trace = [], []
    for mask, weight in states:
        with torch.no_grad():
            for own, kept, value in zip(model.linears, mask, weight, strict=True):
                own.mask.copy_(torch.from_numpy(kept))
                own.weight.copy_(torch.from_numpy(value))
        kernel = empirical_kernel(model, probe, outputs=[0]).ntk.values[0]
        energies.append(energy(kernel, 10))
        trace.append(np.diagonal(kernel).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that training has moved off their law: that is what is looked at
        networks = gt.network_path(masks, weights, BLOCKS, [layer.dense_std for layer in model.linears], drift=False)
        spectra = gt.spectrum_path([list(one) for one in networks], probe, times, outputs=10)
    return Dataset(
        {
            **{name: (("time", "layer"), np.array(values).T) for name, values in by_layer.items()},
            "energy": ("time", energies),
            "trace": ("time", trace),
            "limit_energy": ("time", spectra.energy.values[:, 9]),
        },
        {"time": times, "layer": [2, 3]},
    )


def verdict(found: Dataset) -> str:
    """By how many times more than random masks the layers are uneven at the end, and the energies there."""
    texts = []
    for kind in found.kind.values:
        one = found.sel(kind=kind).mean("seed").isel(time=-1)
        start = found.sel(kind=kind).mean("seed").isel(time=0)
        texts.append(
            f"{LABELS[str(kind)]}: unevenness {float(one.uneven.mean()):.1f} times that of random masks, top-10 energy "
            f"{float(start.energy):.3f} to {float(one.energy):.3f} ((W, V): {float(one.limit_energy):.3f})"
        )
    return "; ".join(texts) + "."


def path_table(found: Dataset) -> Table:
    title = f"masks in time, width {found.attrs['width']}, to density {found.attrs['kept']:g}"
    heads = (
        "path",
        "time",
        "density",
        "moved / noise",
        "changed",
        "uneven / random",
        "top-10 energy",
        "(W, V)",
        "trace",
    )
    table = table_of(title, heads, words=["path"], caption="means over layers and seeds; uneven: times random masks")
    for kind in found.kind.values:
        for time in found.time.values:
            one = found.sel(kind=kind, time=time).mean("seed").mean("layer")
            table.add_row(
                LABELS[str(kind)],
                f"{time:.1f}",
                f"{float(one.density):.3f}",
                f"{float(one.step):.3f} / {float(one.noise):.3f}",
                f"{float(one.changed):.3f}",
                f"{float(one.uneven):.2f}",
                f"{float(one.energy):.3f}",
                f"{float(one.limit_energy):.3f}",
                f"{float(one.trace):.3g}",
            )
    return table
