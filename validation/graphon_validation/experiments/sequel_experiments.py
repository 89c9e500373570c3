"""Factorised saliency at ever lower densities: where concentration of the kernel turns into collapse ([FS])."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from xarray import Dataset

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import positive_number, share_kept, whole_number
from graphon_theory.errors import InputError
from graphon_theory.networks.network import Network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.drawings import sequel_figure
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.summaries import different_numbers, results_in
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import build
from graphon_validation.studies.tables import table_of

DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
STRENGTHS = (0.0, 1.0, 2.0, 4.0)  # of the factors: 0 is magnitude pruning
BIAS_VARIANCE = 0.1
_MOST = 100_000  # inputs, units or seeds
BLOCKS = 16  # of the inputs' and the units' factors
QUICK: dict[str, Any] = {"densities": [0.5, 0.05], "strengths": [0.0, 2.0], "inputs": 40, "width": 64, "seeds": 2}


def sequel_experiment(
    out: str | os.PathLike[str],
    densities: Sequence[float] = DENSITIES,
    strengths: Sequence[float] = STRENGTHS,
    *,
    inputs: int = 150,
    width: int = 1024,
    seeds: int = 3,
    noise: float = 1e-2,
    console: Console | None = None,
    progress: bool = True,
) -> Dataset:
    """Energy and y' (K + noise)^-1 y of the kernels of factorised saliency over densities; limits, and drawn networks.

    ReLU networks of three hidden layers with biases of variance 0.1 on digits; every layer but the last is pruned by
    the score |w| r(u) c(v) with r = exp(s u), c = exp(s v) (``gt.saliency_pruning``), s one of the ``strengths``, and
    weight variances are over V, so that signals keep their size (``gt.balanced``). Kernels are scaled to a mean
    diagonal of 1. With K the kernel over the ``inputs`` and y a class against the rest, centred and of mean square 1,

        complexity = y' (K + noise)^-1 y / N,       target energy = share of y in the first 10 modes,

    the first the bound of kernel methods, small where a kernel serves its targets. Energy that grows while complexity
    falls is concentration on what matters, energy that grows while it rises is collapse.

    Prints a table and where it turns, writes ``sequel.nc`` and ``sequel.png``.

    Returns a Dataset over "strength", "density", "side" ("limit", "finite"; means over drawn networks): ``energy5``,
    ``energy10``, ``complexity``, ``target_energy`` and ``effective_rank``.
    """
    results = results_in(out, console, figures=True)
    densities = different_numbers("densities", densities, share_kept)
    strengths = different_numbers("strengths", strengths, partial(positive_number, zero=True))
    noise = positive_number("noise", noise)
    for name, count, least in (("inputs", inputs, 20), ("width", width, 1), ("seeds", seeds, 1)):
        whole_number(name, count, least, _MOST)
    x, labels = digits()
    x, labels = x[:inputs], labels[:inputs]
    y = np.stack([(labels == one).astype(float) for one in np.unique(labels)], 1)
    y = (y - y.mean(0)) / y.std(0)

    def make(one: Mapping[str, Any]) -> Dataset:
        network = factorised(one["strength"], one["density"], x.shape[1])
        kernels = [gt.limit_kernel(network, x).ntk.values]
        counts = (x.shape[1], width, width, width, 1)
        drawn = [empirical_kernel(build(network, counts, [seed, width]), x).ntk.values for seed in range(seeds)]
        sides = [figures(kernels[0], y, noise), np.mean([figures(one, y, noise) for one in drawn], 0)]
        names = ("energy5", "energy10", "complexity", "target_energy", "effective_rank")
        return Dataset(
            {name: ("side", [side[k] for side in sides]) for k, name in enumerate(names)},
            {"side": ["limit", "finite"]},
        )

    settings: dict[str, Any] = {"inputs": inputs, "width": width, "seeds": seeds, "noise": noise}
    over: dict[str, Sequence[Any]] = {"strength": strengths, "density": densities}
    found = Parts(results.folder, "sequel", settings).over(over, make, progress=progress).assign_attrs(settings)
    return results.finish(found, "sequel", [sequel_table(found)], verdict=verdict(found), figure=sequel_figure)


def factorised(strength: float, density: float, inputs: int) -> Network:
    """Three hidden layers pruned by |w| exp(s u) exp(s v) with signals of variance 1; the last layer dense."""
    places = (np.arange(BLOCKS) + 0.5) / BLOCKS
    factor = np.exp(strength * places)
    layer = gt.saliency_pruning(factor, factor, density) if density < 1 else gt.Connectivity(1.0)
    first = gt.saliency_pruning(factor, 1.0, density) if density < 1 else gt.Connectivity(1.0)
    return gt.balanced(Network([first, layer, layer, 1.0], bias_variance=BIAS_VARIANCE))


def figures(kernel: FloatArray, y: FloatArray, noise: float) -> tuple[float, ...]:
    """Energies of 5 and 10 modes, complexity, target energy, effective rank. Raises InputError for a zero kernel."""
    if not np.diagonal(kernel).any():
        raise InputError("width: a drawn network lets nothing through at this density; take a larger one.")
    kernel = kernel / np.diagonal(kernel).mean()
    values, vectors = np.linalg.eigh(kernel)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    power = (vectors.T @ y) ** 2 / len(y)  # (mode, class), shares of each target
    complexity = float((power / (values + noise)[:, None]).sum(0).mean())
    total = values.sum()
    return (
        float(values[:5].sum() / total),
        float(values[:10].sum() / total),
        complexity,
        float(power[:10].sum(0).mean()),
        float(total / values[0]),
    )


def turns(found: Dataset, strength: float, side: str = "limit") -> float:
    """The density of least complexity."""
    one = found.complexity.sel(strength=strength, side=side)
    return float(found.density[int(np.argmin(one.values))])


def verdict(found: Dataset) -> str:
    texts = []
    for strength in found.strength.values:
        one = found.sel(strength=strength, side="limit")
        least, energy = float(one.complexity.min()), one.energy10.values
        texts.append(
            f"s = {strength:g}: least complexity {least:.3g} at density {turns(found, strength):g}, top-10 energy "
            f"{energy[0]:.3f} to {energy[-1]:.3f}"
        )
    return f"limits, densities {float(found.density[0]):g} to {float(found.density[-1]):g}; {'; '.join(texts)}."


def sequel_table(found: Dataset) -> Table:
    inputs, width = found.attrs["inputs"], found.attrs["width"]
    title = f"factorised saliency on {inputs} digits: limit / networks of width {width:,}"
    named = ("top-5 energy", "top-10 energy", "effective rank", "target in 10 modes", "complexity")
    table = table_of(title, ("s", "density", *named))
    for strength in found.strength.values:
        for density in found.density.values:
            one = found.sel(strength=strength, density=density)
            names = ("energy5", "energy10", "effective_rank", "target_energy", "complexity")
            cells = [" / ".join(f"{float(value):.3g}" for value in one[name].values) for name in names]
            table.add_row(f"{strength:g}", f"{density:g}", *cells)
    return table
