"""Pruned networks by four protocols, each held against every theory (THEORY §9)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from xarray import Dataset

from graphon_theory.data.checks import whole_number, whole_numbers
from graphon_theory.engine.limits import limit_kernel
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.parts import Parts
from graphon_validation.experiments.sign_experiments import print_sign_tests
from graphon_validation.experiments.summaries import results_in, shape_cell
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import MaskedMLP, dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.studies.protocols import PROTOCOLS, apply_protocol, law_network, mixture, theories
from graphon_validation.studies.sweep_comparisons import compare
from graphon_validation.studies.tables import table_of
from graphon_validation.training.losses import Data

ROWS = 4096  # of the mixture that stands for the limit of a masked input layer
QUICK: dict[str, Any] = {"widths": [24], "seeds": 3, "hidden": 2, "blocks": 4}


def protocol_experiment(
    out: str | os.PathLike[str],
    method: str,
    density: float,
    widths: Sequence[int],
    seeds: int,
    *,
    blocks: int = 8,
    hidden: int = 3,
    prune_input: bool = False,
    data: Data | None = None,
    source: str = "digits",
    console: Console | None = None,
    progress: bool = True,
) -> dict[tuple[str, str], Dataset]:
    """Networks pruned by ``method``: four protocols, each held against every theory (THEORY §9).

    Every network is held against the theories of its own masks and weights. The input layer stays dense unless
    ``prune_input``; then its rows are taken as positions. The law of a method that has one (random, magnitude) is then
    the :func:`mixture` over ROWS rows, drawn anew for each network so that errors over networks hold theirs too; the
    same law without rows is "law, means", and for other methods there is "(W, V), means". The floor of finite d, how
    far means are from rows, is printed for every width (:func:`finite_d_floor`), and which of the two networks with
    redrawn signs follow.

    The output layer stays dense. ``data`` = (x, labels), called ``source`` in what is kept, digits if None; networks
    are kept as they finish. Prints whether (W, V) applies, then one table per width. Writes
    ``protocols-METHOD.nc`` with all kernels. Returns the comparisons by (protocol, theory).
    """
    results = results_in(out, console)
    widths = list(whole_numbers("widths", widths, distinct=True))
    x, labels = digits() if data is None else data
    train, probe = (x[:200], labels[:200]), x[200:240]
    classes = int(labels.max()) + 1
    layers = list(range(0 if prune_input else 1, hidden))
    attrs = {"method": method, "density": density, "blocks": blocks, "hidden": hidden, "prune_input": int(prune_input)}

    def network(width: int, seed: int) -> MaskedMLP:
        model = dense((x.shape[1], *[width] * hidden, classes), [seed, width])
        return prune(model, method, density, train, layers=layers, rng=[seed, width, 1])

    def make(one: Mapping[str, Any]) -> Dataset:
        width, seed = one["width"], one["seed"]
        model = network(width, seed)
        networks = theories(model, blocks=blocks, input_rows=prune_input)
        law = law_network(model, method)
        if law is not None:
            networks["law"] = law
        if law is not None and prune_input:
            weights = model.linears[0].law if method == "magnitude" else None
            networks["law"] = mixture(law, x.shape[1], ROWS, weights=weights, rng=[seed, width, 3])
            networks["law, means"] = law
        if law is None and prune_input:
            networks["(W, V), means"] = theories(model, blocks=blocks, names=["(W, V)"])["(W, V)"]
        kernels = {f"theory {name}": limit_kernel(one, probe) for name, one in networks.items()}
        for protocol in PROTOCOLS:
            given = apply_protocol(model, protocol, [seed, width, 2], networks["(W, W)"])
            kernels[f"real {protocol}"] = empirical_kernel(given, probe)
        values = [kernel.ntk.mean("output").values for kernel in kernels.values()]
        return Dataset({"ntk": (("kernel", "x", "x2"), values)}, {"kernel": list(kernels)})

    parts = Parts(results.folder, "protocols", {**attrs, "data": source})
    print_sign_tests(
        results, parts, widths, network, probe, f"{method}, width {{width}}, density {density:g}", progress=progress
    )
    coords: dict[str, Sequence[Any]] = {"width": widths, "seed": range(whole_number("seeds", seeds))}
    measured = parts.over(coords, make, progress=progress).ntk.transpose("kernel", ...)
    data_of = {
        str(name): Dataset({"ntk": (("width", "seed", "x", "x2"), np.ascontiguousarray(many))}, coords)
        for name, many in zip(measured["kernel"].values, measured.values, strict=True)
    }
    if prune_input:
        name = "law" if "theory law" in data_of else "(W, V)"
        keys = ("real signs", f"theory {name}", f"theory {name}, means")
        for width in widths:
            floor = finite_d_floor(*(data_of[key].ntk.sel(width=width).values for key in keys))
            told = floor["error"] < 0.5  # not so for nan
            results.console.print(
                f"finite d = {x.shape[1]}, width {width:,}: the {name} without rows as positions is "
                f"{floor['whole']:.2%} off, {floor['shape']:.2%} after the best factor. "
                + (
                    f"Networks with redrawn signs lie {floor['share']:.2f} ± {floor['error']:.2f} of this way from the "
                    f"{name} with rows."
                    if told
                    else f"{seeds} networks do not tell the two apart."
                )
            )
    names = [name.removeprefix("theory ") for name in data_of if name.startswith("theory ")]
    compared: dict[tuple[str, str], Dataset] = {
        (protocol, theory): compare(data_of[f"real {protocol}"], data_of[f"theory {theory}"])
        for protocol in PROTOCOLS
        for theory in names
    }
    everything = {name.replace(" ", "_"): one.ntk for name, one in data_of.items()}
    titles = {width: f"{method}, width {width:,}, {seeds} networks" for width in widths}
    tables = [_protocol_table(compared, width, title) for width, title in titles.items()]
    results.finish(Dataset(everything, attrs=attrs), f"protocols-{method}", tables)
    return compared


def finite_d_floor(
    real: NDArray[np.float64], rows: NDArray[np.float64], means: NDArray[np.float64]
) -> dict[str, float]:
    """How far kernels of means are from means over rows, and which of them networks follow; all (seeds, N, N).

    ``whole`` and ``shape``: the distance of the mean kernels over their size, as it is and after the best factor, 0
    where it is not seen above noise. ``share`` with its jackknife ``error`` over seeds: the networks' part along what
    the best factor leaves, 0 for rows and 1 for means, scale put aside; each network held against its own rows. They
    are nan where ``shape`` is 0.

    Rows are sampled, so every product is between different seeds: the square of a noisy difference would be too large,
    and networks seem to leave rows in the direction in which the rows themselves are off.
    """
    one = rows.mean(0)

    def left(kernels: NDArray[np.float64]) -> NDArray[np.float64]:
        factors = np.tensordot(kernels, one, 2) / (one**2).sum()
        return np.asarray(kernels - factors[:, None, None] * one)

    def products(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        """<a_s, mean of b over the other seeds>."""
        return np.asarray(np.einsum("sij,sij->s", a, (b.sum(0) - b) / (len(b) - 1)))

    off, away = left(means) - left(rows), left(real) - left(rows)
    whole = products(off, off)

    def share(some: NDArray[np.intp]) -> float:
        seen = products(off[some], off[some]).mean()
        return float(products(away[some], off[some]).mean() / seen) if seen > 0 else np.nan

    every = np.arange(len(off))
    without = np.array([share(every[every != seed]) for seed in every])  # jackknife: every seed is in every product
    error = np.sqrt((len(every) - 1) * without.var())
    return {
        "whole": float(np.sqrt(max(products(means - rows, means - rows).mean(), 0.0)) / np.linalg.norm(one)),
        "shape": float(np.sqrt(max(whole.mean(), 0.0)) / np.linalg.norm(means.mean(0))),
        "share": share(every),
        "error": float(error),
    }


def _protocol_table(found: dict[tuple[str, str], Dataset], width: int, title: str) -> Table:
    heads = ("protocol", "theory", "scale ± error", "shape [95%]", "z of trace", "top-10 energy", "predicted")
    caption = "scale: best factor of the theory; shape: what it leaves [95%]"
    table = table_of(title, heads, words=["protocol", "theory"], caption=caption)
    last = ""
    for (protocol, theory), one in found.items():
        row = one.sel(width=width)
        if protocol != last and last:
            table.add_section()
        table.add_row(
            "" if protocol == last else protocol,
            theory,
            f"{float(row['scale']):.3f} ± {float(row.scale_error):.3f}",
            shape_cell(row),
            f"{float(row.z.sel(quantity='trace')):+.1f}",
            f"{float(row.energy):.3f} ± {float(row.energy_error):.3f}",
            f"{float(row.limit_energy):.3f}",
        )
        last = protocol
    return table
