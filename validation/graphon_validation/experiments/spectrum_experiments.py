"""Spectra of pruned networks' kernels against sparsity, real networks and their limits side by side ([GL]'s tables)."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import share_kept, whole_number, whole_numbers
from graphon_theory.errors import InputError
from graphon_theory.networks.network import Network
from graphon_validation.experiments.contenders import PRUNED, called
from graphon_validation.experiments.drawings import spectrum_figure
from graphon_validation.experiments.idx_data import WARPED, load_data
from graphon_validation.experiments.parts import Parts, every, gathered, one_kind
from graphon_validation.experiments.summaries import different, different_numbers, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.pruning.scores import one_shot_methods
from graphon_validation.studies.protocols import law_network, network_like, theories
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

DENSITIES = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
WIDTHS, SAMPLES = (1024, 2048), (1024, 512)  # inputs for each width, as [GL] has them
MODES = 10
BATCH = 256  # inputs for the scores that need data; the kernels' are others
FEW = 128  # inputs at most of the limits, whose positions take long
POSITIONS = 128  # drawn per hidden layer where a law is sampled
BLOCKS = 8
INIT = "he"
SIDES = ("finite", "few", "limit")
FIGURES = ("energy5", "energy10", "effective_rank", "gap", "decay")
QUICK: dict[str, Any] = {"densities": [0.5, 0.1], "widths": [32], "samples": [40], "seeds": 2, "hidden": 2}


def spectrum_experiment(
    out: str | os.PathLike[str],
    methods: Sequence[str] = PRUNED,
    densities: Sequence[float] = DENSITIES,
    seeds: int = 3,
    *,
    widths: Sequence[int] = WIDTHS,
    samples: Sequence[int] = SAMPLES,
    hidden: int = 4,
    rounds: int | None = None,
    data: Data | None = None,
    source: str = WARPED,
    device: torch.device | str | None = None,
    only: str | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset | None:
    """Eigenvalues, energies, effective rank, gap and decay of tangent kernels over densities: finite and limit.

    Bias-free ReLU networks with ``hidden`` hidden layers, He in the standard parameterization, all layers pruned at the
    start by one threshold; the kernel of the first output on inputs that pruning did not see, ``samples`` of them for
    each of the ``widths``. Sides: "finite", those networks; "few", the same on the first 128 inputs; "limit", on these
    128 too, of the method's law: at the layers' densities (random, magnitude), of its rounds (``gt.synflow_network``),
    of its saliency (``gt.saliency_network``, cross-entropy), each with 128 positions a layer; for the others of (W, V),
    8 blocks estimated from one network's masks and weights.

    ``rounds``: SynFlow prunes in so many, 100 if None. Eigenvalues are of the operator, the matrix over N: [GL] prints
    those of the matrix, larger by ln N in logarithms. ``device`` is where networks live; ``only`` "networks" or
    "limits" keeps those parts and returns None. ``data`` = (x, labels), called ``source`` in what is kept; warped
    digits if None.

    Prints a table, writes ``spectrum.nc`` and ``spectrum.png``; networks are kept as they finish.

    Returns a Dataset over "pruning", "density", "width", "seed" and "side" (limits are the same for all seeds):
    ``log_eigenvalue`` ("mode"), the natural logarithm, ``energy5`` and ``energy10``, the shares of the trace in the
    first 5 and 10 modes, ``effective_rank``, ``gap`` (lambda_1 / lambda_2) and ``decay``, the exponent, all NaN for a
    network that lets nothing through; ``samples`` ("width").
    """
    results = results_in(out, console, figures=one_kind(only) is None)
    methods = different("methods", methods, one_shot_methods())
    densities = different_numbers("densities", densities, share_kept)
    widths = list(whole_numbers("widths", widths, distinct=True))
    samples = list(whole_numbers("samples", samples, 30))
    if len(samples) != len(widths):
        raise InputError(f"samples: expected {len(widths)} numbers, one for each width, got {len(samples)}.")
    whole_number("hidden", hidden)
    whole_number("seeds", seeds)
    x, labels = load_data(source, BATCH + max(samples)) if data is None else data
    if len(x) < BATCH + max(samples):
        raise InputError(f"data: expected at least {BATCH + max(samples)} inputs, got {len(x)}.")
    batch, probe = (x[:BATCH], labels[:BATCH]), x[BATCH:]
    count_of = dict(zip(widths, samples, strict=True))
    outputs = int(labels.max()) + 1
    settings: dict[str, Any] = {"hidden": hidden, "data": source, "init": INIT}
    if rounds is not None:
        settings["rounds"] = whole_number("rounds", rounds)

    def drawn(width: int, seed: int, **options: Any) -> MaskedMLP:
        return dense((x.shape[1], *[width] * hidden, outputs), [seed, width], init=INIT, **options)

    def network(one: Mapping[str, Any], **options: Any) -> MaskedMLP:
        model = drawn(one["width"], one["seed"], **options)
        own = rounds if one["pruning"] == "synflow" else None
        return prune(model, one["pruning"], one["density"], batch, rng=[one["seed"], one["width"], 1], rounds=own)

    def finite(one: Mapping[str, Any]) -> Dataset:
        kernel = empirical_kernel(network(one, device=device), probe[: one["samples"]], outputs=[0]).ntk.values[0]
        return _spectra([kernel, kernel[:FEW, :FEW]], SIDES[:2])

    def limit(one: Mapping[str, Any]) -> Dataset:
        place = {"width": one["width"], "seed": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights whose sizes tell what pruning did, and of drift left out
            if one["pruning"] in ("snip", "synflow"):
                law = _sampled_law(drawn(**place), one["pruning"], one["density"], batch, rounds)
            else:
                model = network({**one, **place})
                named = law_network(model, one["pruning"])
                law = named or theories(model, blocks=BLOCKS, names=["(W, V)"])["(W, V)"]
        kernel = gt.limit_kernel(law, probe[: one["samples"]]).ntk.values
        return _spectra([kernel.reshape(-1, *kernel.shape[-2:])[0]], SIDES[2:])

    over: dict[str, Sequence[Any]] = {"pruning": methods, "density": densities, "width": widths}
    drawn_over: dict[str, Sequence[Any]] = {**over, "seed": range(seeds)}
    networks = [{**one, "samples": count_of[one["width"]]} for one in every(drawn_over)]
    limits = [{**one, "samples": min(FEW, count_of[one["width"]]), "positions": POSITIONS} for one in every(over)]
    parts, laws = (Parts(results.folder, name, settings) for name in ("spectrum", "spectrum-limit"))
    real = [] if only == "limits" else parts.all(networks, finite, "networks", progress=progress)
    ideal = [] if only == "networks" else laws.all(limits, limit, progress=progress)
    if only is not None:
        return None
    measured, said = gathered(real, drawn_over), gathered(ideal, over).expand_dims(seed=range(seeds))
    found = xarray.concat([measured, said], "side").transpose(*drawn_over, "side", "mode")
    found = found.assign(samples=("width", samples)).assign_attrs({**settings, "few": FEW})
    tables = [spectrum_table(found, width) for width in widths]
    return results.finish(found, "spectrum", tables, verdict=verdict(found), figure=spectrum_figure)


def _sampled_law(model: MaskedMLP, method: str, density: float, batch: Data, rounds: int | None) -> Network:
    """The law of SNIP or SynFlow for a dense network's widths, with positions drawn."""
    plain, widths = Network([1.0] * len(model.linears), outputs=model.widths[-1]), model.widths
    if method == "synflow":
        own: dict[str, Any] = {} if rounds is None else {"rounds": rounds}
        law: Network = gt.synflow_network(plain, density, widths, positions=POSITIONS, rng=0, **own)
    else:
        law = gt.saliency_network(plain, *batch, density, widths, positions=POSITIONS, rng=0)
    return network_like(model, law.layers)  # the scores are the same in both parameterizations


def _spectra(kernels: Sequence[FloatArray], sides: Sequence[str]) -> Dataset:
    """Figures of kernels by side, all NaN of one that is zero: such a network lets nothing through."""
    values = np.full((len(kernels), MODES + len(FIGURES)), np.nan)
    for row, kernel in zip(values, kernels, strict=True):
        if kernel.any():
            one = gt.spectrum(kernel)
            with np.errstate(divide="ignore"):  # modes that are not there
                row[:MODES] = np.log(one.eigenvalue.values[:MODES])
            said = (one.attrs[name] for name in ("effective_rank", "gap", "decay_exponent"))
            row[MODES:] = float(one.energy[4]), float(one.energy[9]), *said
    figures = {name: ("side", values[:, MODES + k]) for k, name in enumerate(FIGURES)}
    coords = {"side": list(sides), "mode": np.arange(1, MODES + 1)}
    return Dataset({"log_eigenvalue": (("side", "mode"), values[:, :MODES]), **figures}, coords)


def verdict(found: Dataset) -> str:
    """How far top-10 energies of networks and their limits are apart on the same inputs, by method."""
    means = found.energy10.mean("seed")
    apart = abs(means.sel(side="few") - means.sel(side="limit")).max(("density", "width"))
    texts = (f"{called(name)} {float(apart.sel(pruning=name)):.3f}" for name in found.pruning.values)
    return f"top-10 energy, finite against limit, largest difference over densities: {', '.join(texts)}."


def spectrum_table(found: Dataset, width: int) -> Table:
    """One row for each method, density and side at one width; eigenvalues of the matrix, as [GL] prints them."""
    one = found.sel(width=width)
    count = int(one.samples)
    title = (
        f"spectra, width {width:,}, {found.attrs['hidden']} hidden layers, He; means over {found.sizes['seed']} seeds"
    )
    caption = "ln of eigenvalues of the matrix of one output, standard parameterization"
    heads = ("masks", "density", "of", "ln of eigenvalues 1, 2, 5, 10", "top 5", "top 10", "rank", "gap", "decay")
    table = table_of(title, heads, words=["masks", "of"], caption=caption)
    inputs = {"finite": count, "few": min(FEW, count), "limit": min(FEW, count)}
    for name, density in itertools.product(found.pruning.values, found.density.values):
        for side in SIDES:
            row = one.sel(pruning=name, density=density, side=side).mean("seed")
            logs = (f"{float(row.log_eigenvalue.sel(mode=k)) + math.log(inputs[side]):.2f}" for k in (1, 2, 5, 10))
            table.add_row(
                called(name),
                f"{density:g}",
                f"{'limit' if side == 'limit' else 'network'}, {inputs[side]}",
                " ".join(logs),
                *(f"{float(row[key]):.3f}" for key in ("energy5", "energy10")),
                *(f"{float(row[key]):.2f}" for key in ("effective_rank", "gap", "decay")),
            )
    return table
