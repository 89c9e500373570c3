"""Graphons in time: sequences of masks from iterative pruning or dynamic sparse training, on consistent positions.

A path is W(u, v, t). Its units are placed once, from all times together, so that what moves is the graphon and not the
order of the units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import axes_of, real_array
from graphon_theory.data.labels import TIME, U, V, dataset
from graphon_theory.errors import InputError, shown
from graphon_theory.estimation.distances import cut_norm
from graphon_theory.estimation.mask_estimates import block_means, by_rank, check_bins
from graphon_theory.estimation.masks import as_mask, edges_of, refuse_dead
from graphon_theory.estimation.network_estimates import NetworkEstimate, estimate_together
from graphon_theory.graphons.graphon import StepGraphon

if TYPE_CHECKING:
    import xarray as xr


def graphon_path(
    masks: Sequence[Any], times: Sequence[float] | None = None, bins: int | tuple[int, int] | None = 64
) -> xr.Dataset:
    """One layer's masks at several times as W(u, v, t), by sorting and averaging.

    Units are sorted by their degrees summed over all times: one order for the whole path. Returns ``graphon``
    ("time", "u", "v"; block means at the middles of the bins), ``density`` ("time"), and from each time to the one
    before (0 at the first) the L2 distance ``step`` and the bounds ``step_cut_lower``, ``step_cut_upper`` of the cut
    norm, as well as the share of connections ``changed``. ``noise`` is the L2 distance by which block means of two
    independent random masks of these densities would differ, sqrt(B_u B_v (p (1 - p) + p' (1 - p')) / (n_out n_in));
    masks that share connections differ by less.

    ``masks`` are of one shape, in any format; ``times`` increase (0, 1, ... if left out); ``bins`` as in
    :func:`estimate_graphon`. Raises InputError otherwise, and for a mask of density 0. THEORY §8.
    """
    if not isinstance(masks, Sequence | np.ndarray) or (isinstance(masks, str | np.ndarray) and axes_of(masks) != 3):
        raise InputError("masks: expected a sequence of masks, one a time.")
    layers = [as_mask(mask, f"masks[{t}]") for t, mask in enumerate(masks)]
    if not layers:
        raise InputError("masks: expected at least one mask.")
    shape = layers[0].shape
    for t, mask in enumerate(layers):
        if mask.shape != shape:
            raise InputError(
                f"masks: expected one shape at all times, got {shape} at time 0 and {mask.shape} at time {t}."
            )
    clock = checked_clock(times, len(layers))
    density = np.array([refuse_dead(mask, f"masks[{t}]") for t, mask in enumerate(layers)]) / math.prod(shape)
    pair = check_bins(bins, shape)
    degrees = [np.sum(side, axis=0) for side in zip(*(mask.degrees() for mask in layers), strict=True)]
    rows, columns = (by_rank(degree, b) for degree, b in zip(degrees, pair, strict=True))
    tables = np.stack([block_means(mask, rows, columns) for mask in layers])
    u_edges, v_edges = (edges_of(np.bincount(one)) for one in (rows, columns))
    changed, noise = np.zeros((2, len(layers)))
    for t in range(1, len(layers)):
        differing = sum(int(np.count_nonzero(new ^ layers[t - 1].rows(run))) for run, new in layers[t].runs())
        changed[t] = differing / math.prod(shape)
        spread = sum(p * (1 - p) for p in density[t - 1 : t + 1])
        noise[t] = math.sqrt(math.prod(pair) * spread / math.prod(shape))
    return path_of_tables(tables, u_edges, v_edges, clock, {"density": density, "changed": changed, "noise": noise})


def path_of_tables(
    tables: FloatArray, u_edges: FloatArray, v_edges: FloatArray, clock: FloatArray, others: dict[str, FloatArray]
) -> xr.Dataset:
    """Block means (time, u, v) with how far each time is from the one before, and what else there is over time."""
    area = np.outer(np.diff(u_edges), np.diff(v_edges))
    step, lower, upper = np.zeros((3, len(tables)))
    for t in range(1, len(tables)):
        difference = tables[t] - tables[t - 1]
        step[t] = math.sqrt((area * difference**2).sum())
        lower[t], upper[t] = cut_norm(StepGraphon(difference, u_edges, v_edges))
    over_time = {**others, "step": step, "step_cut_lower": lower, "step_cut_upper": upper}
    return dataset(
        {"graphon": ((TIME, U, V), tables), **{name: ((TIME,), values) for name, values in over_time.items()}},
        {TIME: clock, U: (u_edges[:-1] + u_edges[1:]) / 2, V: (v_edges[:-1] + v_edges[1:]) / 2},
    )


def network_path(
    masks: Sequence[Sequence[Any]],
    weights: Sequence[Sequence[Any]] | None = None,
    blocks: int | str = 16,
    dense_std: float | Sequence[float] | None = None,
    *,
    inputs: int | None = None,
    drift: bool = True,
    starts: int = 4,
    rng: np.random.Generator | int = 0,
) -> list[NetworkEstimate]:
    """A network at several times, estimated with the same units in the same blocks at all times.

    ``masks[t]`` (and ``weights[t]``) are the network's masks at time t, input to output. Blocks are found from all
    times together; everything else is as in :func:`estimate_network`, one result a time. Raises InputError as it does,
    and where shapes differ between times.
    """
    for name, given in (("masks", masks), ("weights", weights)):
        if not isinstance(given, list | tuple) and (name == "masks" or given is not None):
            raise InputError(f"{name}: expected a list over times of lists over layers, got {shown(given)}.")
    if weights is not None and len(weights) != len(masks):
        raise InputError(f"weights: expected weights at each of {len(masks)} times, got {len(weights)}.")
    if not len(masks):
        raise InputError("masks: expected the masks of at least one time.")
    return estimate_together(masks, weights, blocks, dense_std, inputs=inputs, drift=drift, starts=starts, rng=rng)


def checked_clock(times: Sequence[float] | None, count: int) -> FloatArray:
    """Increasing moments of masks, 0, 1, ... if left out. Raises InputError."""
    expected = f"{count} increasing finite numbers, one for each mask"
    given = np.arange(count) if times is None else times
    clock: FloatArray = real_array("times", given, expected=expected).astype(np.float64)
    if clock.shape != (count,) or not np.isfinite(clock).all() or not (np.diff(clock) > 0).all():
        raise InputError(f"times: expected {expected}, got {shown(times)}.")
    return clock
