"""How much larger magnitude pruning makes the kernel than random pruning: ln gaps, predicted and measured.

Both methods have the same mask graphon; V / W sets them apart (THEORY §2). The gap is the natural log of the ratio of
eigenvalues in the same place, or of the traces.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from rich.table import Table
from xarray import Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.data import checks, labels
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.pruning.laws import INITS, magnitude_pruning, prune_globally, random_pruning
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.tables import table_of

MODES = 10


@dataclass(frozen=True)
class Setting:
    """What is pruned and how: initial law, threshold over all layers or in each, which layers stay dense."""

    name: str
    init: str = "ntk"
    scope: str = "layer"
    output_dense: bool = False


SETTINGS = (
    Setting("all layers"),
    Setting("output dense", output_dense=True),
    Setting("all layers, Glorot", "glorot_uniform", "global"),
)


def limit_networks(setting: Setting, density: float, widths: Sequence[int]) -> tuple[Network, Network]:
    """(random, magnitude) at ``density``, ReLU without bias; ``widths`` are all unit counts."""
    depth = len(widths) - 1
    pruned = range(depth - 1 if setting.output_dense else depth)
    law, deviation = INITS[setting.init]
    if setting.scope == "global":
        magnitude = prune_globally(
            [setting.init if index in pruned else None for index in range(depth)], density, widths
        )
    else:
        kept = magnitude_pruning(density, law)
        magnitude = [kept if index in pruned else Connectivity(1.0) for index in range(depth)]
    random = [random_pruning(density) if index in pruned else Connectivity(1.0) for index in range(depth)]
    ntk = setting.init == "ntk"
    variances = [
        2.0 if ntk else n_in * deviation(n_in, n_out) ** 2 for n_in, n_out in itertools.pairwise(map(int, widths))
    ]
    one, two = (
        Network(layers, "relu", variances, 0.0, "ntk" if ntk else "standard", None if ntk else widths[:-1])
        for layers in (random, magnitude)
    )
    return one, two


def eigenvalue_gaps(
    x: ArrayLike,
    *,
    widths: Sequence[int],
    density: float = 0.2,
    seeds: Sequence[int],
    settings: Sequence[Setting] = SETTINGS,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """ln gap magnitude - random of the ten largest NTK eigenvalues and of the trace on ``x`` (N, n_0).

    For each seed one dense network of unit counts ``widths`` is drawn and pruned by both methods, with its own
    weights; kernels are means over outputs. Beside them stand the gaps of the limit kernels.

    Returns a Dataset over ("setting", "quantity"): ``predicted``, ``measured`` with ``error`` over seeds, ``z``, and
    ``gap`` ("setting", "seed", "quantity"). Quantities are "trace" and "1" to "10".

    Raises InputError for fewer than 3 seeds or fewer than 10 inputs.
    """
    count = len(checks.as_inputs(x))
    checks.whole_numbers("seeds", seeds, 0, distinct=True)
    if len(seeds) < 3 or count < MODES:
        raise InputError(f"seeds, x: expected at least 3 seeds and {MODES} inputs, got {len(seeds)} and {count}.")
    predicted = np.empty((len(settings), MODES + 1))
    gap = np.empty((len(settings), len(seeds), MODES + 1))
    for row, setting in enumerate(settings):
        random, magnitude = (limit_kernel(one, x).ntk.values for one in limit_networks(setting, density, widths))
        predicted[row] = _logs(magnitude) - _logs(random)
        layers = list(range(len(widths) - (2 if setting.output_dense else 1)))
        for column, seed in enumerate(seeds):
            logs = []
            for method in ("random", "magnitude"):
                model = dense(widths, [seed, row], init=setting.init, dtype=dtype)
                prune(model, method, density, scope=setting.scope, layers=layers, rng=[seed, row, 1])
                ntk = empirical_kernel(model, x).ntk
                logs.append(_logs(ntk.mean(labels.OUTPUT).values if widths[-1] > 1 else ntk.values))
            gap[row, column] = logs[1] - logs[0]
    measured, error = gap.mean(1), gap.std(1, ddof=1) / np.sqrt(len(seeds))
    dims = ("setting", "quantity")
    return labels.dataset(
        {
            "predicted": (dims, predicted),
            "measured": (dims, measured),
            "error": (dims, error),
            "z": (dims, (measured - predicted) / error),
            "gap": (("setting", labels.SEED, "quantity"), gap),
        },
        {
            "setting": [setting.name for setting in settings],
            "quantity": ["trace", *(str(mode) for mode in range(1, MODES + 1))],
            labels.SEED: list(seeds),
        },
        {"widths": list(widths), "density": density},
    )


def gap_table(found: Dataset, title: str) -> Table:
    """What :func:`eigenvalue_gaps` found, for the terminal."""
    heads = ("pruned", "", "trace", "eigenvalue 1", "eigenvalues 2-10")
    caption = f"± over {found.sizes['seed']} networks; later eigenvalues: means and range of 2-10"
    table = table_of(title, heads, words=["pruned", ""], caption=caption)
    for name in found["setting"].values:
        one = found.sel(setting=name)
        rest = one.isel(quantity=slice(2, None))
        later = one.gap.isel(quantity=slice(2, None)).mean("quantity")
        later_error = float(later.std(ddof=1)) / np.sqrt(later.size)
        for kind in ("predicted", "measured"):
            values = rest[kind].values
            plus = kind == "measured"
            cells = [
                f"{float(one[kind].sel(quantity=q)):.2f}"
                + (f" ± {float(one.error.sel(quantity=q)):.2f}" if plus else "")
                for q in ("trace", "1")
            ]
            span = f"{values.mean():.2f}" + (f" ± {later_error:.2f}" if plus else "")
            table.add_row(
                str(name) if not plus else "", kind, *cells, f"{span} ({values.min():.2f}-{values.max():.2f})"
            )
    return table


def _logs(kernel: FloatArray) -> FloatArray:
    """ln of the trace and of the largest eigenvalues."""
    values = np.linalg.eigvalsh(kernel)[::-1]
    if not values[MODES - 1] > 0:
        raise InputError(f"x: the kernel has no {MODES} positive eigenvalues; leave inputs out that coincide.")
    return np.log(np.concatenate([[values.sum()], values[:MODES]]))
