"""Tangent kernels of many networks: over widths and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from xarray import DataArray, Dataset

from graphon_theory.data import checks, labels
from graphon_theory.errors import InputError, NetworkError, shown
from graphon_theory.networks.network import Network
from graphon_theory.networks.unit_values import equal_widths
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import build, checked_network, checked_place, choose_trained
from graphon_validation.pruning.pruners import prune as prune_model
from graphon_validation.studies.protocols import PROTOCOLS, apply_protocol

# What networks built at the same time may take together, and how many n x n arrays one of them is counted as.
_MEMORY = 4 << 30
_COPIES = 12


def width_sweep(
    network: Network,
    x: ArrayLike | DataArray,
    x2: ArrayLike | DataArray | None = None,
    *,
    widths: Sequence[int],
    seeds: Sequence[int],
    prune: Mapping[str, Any] | None = None,
    protocol: str = "own",
    trained: Sequence[str] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    memory: int = 1 << 28,
    workers: int | None = None,
    progress: bool = True,
) -> Dataset:
    """Empirical kernels of networks drawn from ``network``, all hidden layers ``width`` units wide.

    For each width and seed one network is built (:func:`build`), pruned if ``prune`` is given, and its
    kernel on ``x`` (N, d) against ``x2`` (N2, d; None: x itself) taken exactly. ``prune`` holds the
    arguments of :func:`graphon_validation.prune`, as in ``{"method": "magnitude", "density": 0.2, "layers":
    [1, 2]}``; the networks then keep their own weights, or get others by ``protocol``
    (:func:`graphon_validation.apply_protocol`: "own", "signs" or "redrawn"; for "drawn" sweep the network of
    the graphons, without ``prune``). ``trained`` names what trains in each layer
    (:func:`graphon_validation.choose_trained`). Networks of different widths and seeds are
    independent draws, so the errors of different widths are too; the same arguments give the same result.

    ``workers`` networks are computed at a time, each on its share of torch's threads; None means one per
    thread, as far as 4 GiB hold them. It does not change the draws.

    Returns a Dataset with ``ntk`` ("width", "seed", "x", "x2"), an "output" before "x" if there are
    several.

    Raises InputError for empty or repeated widths or seeds and an ``rng`` in ``prune``, NetworkError for
    the standard parameterization, whose kernel grows with the width and has no limit to compare with.
    """
    widths = list(checks.whole_numbers("widths", widths, distinct=True))
    seeds = list(checks.whole_numbers("seeds", seeds, 0, distinct=True))
    checked_network(network)
    checked_place(device, dtype)
    memory = checks.whole_number("memory", memory)
    if network.parameterization == "standard":
        raise NetworkError(
            "network: the standard parameterization's kernel grows with the width, so a sweep has no limit; "
            'use parameterization="ntk".'
        )
    if workers is not None:
        workers = checks.whole_number("workers", workers)
    inputs = checks.as_inputs(x).shape[1]
    if prune is not None and not (isinstance(prune, Mapping) and all(isinstance(key, str) for key in prune)):
        example = '{"method": "magnitude", "density": 0.2}'
        raise InputError(f"prune: expected a dict such as {example}, got {shown(prune)}.")
    pruning = dict(prune or {})
    if pruning and not {"method", "density"} <= set(pruning):
        raise InputError(f"prune: expected at least method and density, got {', '.join(pruning)}.")
    if "rng" in pruning:
        raise InputError("prune: leave rng out; each network prunes with a stream of its own seed.")
    known = isinstance(protocol, str) and protocol in PROTOCOLS and protocol != "drawn"
    if not known or (protocol != "own" and not pruning):
        raise InputError(
            f'protocol: expected "own", or with prune "signs" or "redrawn", got {shown(protocol)}; networks drawn from '
            "graphons are a sweep of those graphons' network without prune."
        )
    tasks = [(width, seed) for width in widths for seed in seeds]

    def kernel(width: int, seed: int) -> DataArray:
        stream = np.random.SeedSequence([seed, width])
        model = build(network, equal_widths(network, inputs, width), stream, device, dtype)
        if pruning:
            prune_model(model, rng=stream.spawn(1)[0], **pruning)
        if protocol != "own":
            model = apply_protocol(model, protocol, stream.spawn(1)[0])
        if trained is not None:
            choose_trained(model, trained)
        return empirical_kernel(model, x, x2, memory=memory).ntk

    found = _all(kernel, tasks, 1 if torch.device(device or "cpu").type != "cpu" else workers, progress)
    first = found[0]
    values = np.stack([one.values for one in found]).reshape(len(widths), len(seeds), *first.shape)
    coords = {**{str(k): v for k, v in first.coords.items()}, "width": widths, "seed": seeds}
    given = {"protocol": protocol} if pruning else {}
    given |= {} if trained is None else {"trained": ", ".join(trained)}
    text = {f"prune_{key}": str(value) for key, value in pruning.items() if key != "data"}
    return labels.dataset(
        {"ntk": (("width", "seed", *map(str, first.dims)), values)},
        coords,
        {"network": network.describe(), **text, **given},
    )


def _all(
    kernel: Callable[[int, int], DataArray], tasks: list[tuple[int, int]], workers: int | None, shown: bool
) -> list[DataArray]:
    """Every network's kernel, several at a time, each on its own share of torch's threads.

    One network per thread beats all threads on one network: their many small products would spend the time
    waiting for each other, most of all on a busy machine.
    """
    threads = torch.get_num_threads()
    if workers is None:
        workers = max(1, min(threads, _MEMORY // (_COPIES * max(width for width, _ in tasks) ** 2 * 8)))
    bars: dict[int, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),))
    try:
        with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
            for width in dict.fromkeys(width for width, _ in tasks):
                bars[width] = bar.add_task(f"width {width:,}", total=sum(w == width for w, _ in tasks))
            futures = {pool.submit(kernel, *task): task for task in tasks}
            for future in as_completed(futures):
                future.result()
                bar.advance(bars[futures[future][0]])
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # workers set what MKL shares between threads
