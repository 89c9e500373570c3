"""Verdicts on every way to prune: of one network, of two widths, with the growth of the gain (THEORY §10)."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.data.checks import whole_number
from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import theories
from graphon_validation.studies.sign_tests import VERDICTS, applicability
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data
from graphon_validation.training.rewirings import Rewiring
from graphon_validation.training.trainers import train

RULES = (
    "random",
    "magnitude",
    "synflow",
    "ntk_sap",
    "snip",
    "snip tanh",
    "grasp",
    "grasp tanh",
    "imp",
    "set",
    "rigl",
    "trained random",
)
BATCH, PROBES, BLOCKS = 200, 100, 8
KERNEL = 40  # of the probes, for traces
STEPS, RATE, EVERY = 100, 0.005, 10  # of Adam on the whole batch, and between rewirings
QUICK: dict[str, Any] = {"rules": ["random", "snip", "rigl"], "widths": [32, 64], "seeds": 1}
CAUSES = ("none", "masks", "masks and training", "training")
SHORT = {VERDICTS[0]: "(W, V)", VERDICTS[1]: "drift", VERDICTS[2]: "no limit"}


def ruled_network(
    rule: str, counts: Sequence[int], seed: int, density: float, batch: Data, device: str | None = None
) -> tuple[MaskedMLP, MaskedMLP | None]:
    """A bias-free network that a rule of ``RULES`` made, and what it was before it trained (None: it did not)."""
    method, _, word = rule.partition(" ")
    activation = word if word == "tanh" else "relu"
    model = dense(counts, [seed, counts[1]], activation=activation).to(device)
    rng = [seed, counts[1], 1]
    training: dict[str, Any] = {"steps": STEPS, "learning_rate": RATE, "loss": "cross_entropy", "optimizer": "adam"}
    training |= {"batch_size": len(batch[0]), "progress": False}
    if method not in ("set", "rigl", "trained"):
        options = {**training, "rounds": 3} if method == "imp" else {}
        return prune(model, method, density, batch, rng=rng, **options), None
    prune(model, "random", density, rng=rng)
    before = copy.deepcopy(model)
    rewiring = None if method == "trained" else Rewiring(method, every=EVERY, until=STEPS)
    train(model, batch, rewiring=rewiring, seed=seed, **training)
    return model, before


def verdict_experiment(
    out: str | os.PathLike[str],
    rules: Sequence[str] = RULES,
    widths: Sequence[int] = (256, 1024),
    seeds: int = 3,
    *,
    density: float = 0.1,
    hidden: int = 3,
    data: Data | None = None,
    source: str = "digits",
    device: str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Every rule's networks of two widths under :func:`applicability`, each alone and both together.

    Bias-free networks with ``hidden`` hidden layers, all layers pruned together on 200 inputs; the test sees 100
    others. Trained ones take 100 steps of Adam on the batch, SET and RigL rewire every 10. Networks are kept as they
    finish. Prints a table, writes ``verdicts.nc``.

    Returns a Dataset over "rule" and "seed": ``small``, ``large`` and ``both``, the verdicts (0: (W, V) applies, 1:
    drift or saliency theory, 2: no limit kernel) of either network and with two widths, ``cause`` (an index of CAUSES),
    ``factor``, the large one's trace over that of (W, V) of its own masks, ``reason`` (text); by "layer" ``A`` and
    ``alignment`` of the large one, ``gain_growth`` and its error.

    Raises InputError unless there are two widths.
    """
    results = results_in(out, console)
    rules = different("rules", rules, RULES)
    if len(widths) != 2:
        raise InputError(f"widths: expected two, got {list(widths)}.")
    whole_number("seeds", seeds, 1)
    x, labels = digits() if data is None else data
    batch, probe = (x[:BATCH], labels[:BATCH]), x[BATCH : BATCH + PROBES]
    settings = {"widths": list(widths), "density": density, "hidden": hidden, "data": source}

    def make(one: Mapping[str, Any]) -> Dataset:
        pairs = [
            ruled_network(
                one["rule"],
                (x.shape[1], *[n] * hidden, int(labels.max()) + 1),
                one["seed"],
                density,
                batch,
                device,
            )
            for n in sorted(widths)
        ]
        (small, before), (large, first) = pairs
        alone = applicability(small, probe, initial=before), applicability(large, probe, initial=first)
        both = applicability(large, probe, other=small)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trained weights and of drift that is left out
            plain = theories(large, blocks=BLOCKS, names=["(W, V)"], input_rows=True, starts=1)["(W, V)"]
        kernels = empirical_kernel(large, probe[:KERNEL]), gt.limit_kernel(plain, probe[:KERNEL])
        traces = [float(np.einsum("oii->", kernel.ntk.values)) for kernel in kernels]
        cause = alone[1].attrs.get("cause", "masks" if alone[1].attrs["verdict"] != VERDICTS[0] else "none")
        verdicts = [VERDICTS.index(found.attrs["verdict"]) for found in (*alone, both)]
        by_layer = ("A", "alignment", "gain_growth", "gain_growth_error")
        return Dataset(
            {
                **{name: ((), value) for name, value in zip(("small", "large", "both"), verdicts, strict=True)},
                "cause": ((), CAUSES.index(str(cause))),
                "factor": ((), traces[0] / traces[1]),
                "reason": ((), both.attrs["reason"]),
                **{name: ("layer", both[name].values) for name in by_layer},
            },
            {"layer": range(1, hidden + 1)},
        )

    over: dict[str, Sequence[Any]] = {"rule": rules, "seed": range(seeds)}
    found = Parts(results.folder, "verdicts", settings).over(over, make, progress=progress).assign_attrs(settings)
    return results.finish(found, "verdicts", [verdict_table(found)])


def verdict_table(found: Dataset) -> Table:
    """One row a rule: the commonest verdict with how many networks share it, growth by layers beyond the first."""
    small, large = sorted(found.attrs["widths"])
    title = f"verdicts, n = {small:,} and {large:,}, density {found.attrs['density']:g}, {found.sizes['seed']} each"
    caption = "verdict (networks that share it); growth of gain - 1 beyond layer 1, mean and spread over networks"
    heads = ("rule", "small", "large", "two widths", "cause", "trace / (W, V)", "growth")
    table = table_of(title, heads, words=heads, caption=caption)
    for rule in found.rule.values:
        one = found.sel(rule=rule)
        cells = [commonest(one[name].values) for name in ("small", "large", "both")]
        cause = CAUSES[int(np.bincount(one.cause.values.astype(int)).argmax())]
        growth = one.gain_growth.sel(layer=slice(2, None))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a layer none of whose gains differs from 1
            cells += [cause, f"{float(one.factor.mean()):.3g}", _growth(growth.values)]
        table.add_row(str(rule), *cells)
    return table


def commonest(verdicts: np.ndarray) -> str:
    counts = np.bincount(verdicts.astype(int), minlength=len(VERDICTS))
    return f"{SHORT[VERDICTS[int(counts.argmax())]]} ({counts.max()})"


def _growth(values: np.ndarray) -> str:
    parts = []
    for column in values.T:
        there = column[np.isfinite(column)]
        parts.append(f"{there.mean():+.2f} ± {there.std():.2f}" if len(there) else "none")
    return ", ".join(parts)
