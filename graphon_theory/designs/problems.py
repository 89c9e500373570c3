"""What design and graphon_flow are asked: widths, free layers, budgets, objectives and targets, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.data.checks import axes_of, checked_targets, real_array, share_kept, whole_number, whole_numbers
from graphon_theory.designs.objectives import Objective
from graphon_theory.designs.objectives import objective as named_objective
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.networks.network import Network

_RIDGED = ("leave_one_out", "k_fold", "complexity")  # objectives that take the ridge
_TARGETLESS = ("energy", "spectrum")
_MOST_BLOCKS = 1_024  # of one layer: beyond, the tables alone outgrow what a design can move


def checked_widths(network: Network, widths: Sequence[int], d: int) -> tuple[int, ...]:
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    if network.outputs != 1:
        raise NetworkError(
            f"network: expected one output, whose kernel all targets share, got {network.outputs}; design with "
            "outputs=1 and raise it afterwards (dataclasses.replace(design.network, outputs=...))."
        )
    if not network.is_plain:
        raise NetworkError("network: expected weight layers and activations by turns; shortcuts are not designed.")
    if max(network.bias_variances) >= 1:
        raise NetworkError(
            f"bias_variance: {max(network.bias_variances):g} alone exceeds the variance 1 that signals are to keep."
        )
    counts = whole_numbers("widths", widths, expected=f"all {network.depth + 1} unit counts (n_0, ..., n_L)")
    if len(counts) != network.depth + 1 or counts[0] != d:
        raise InputError(
            f"widths: expected {network.depth + 1} unit counts (n_0, ..., n_L) with n_0 = {d} inputs, got {counts}."
        )
    return counts


def free_layers(network: Network, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(network.depth))
    if axes_of(layers) == 1 and len(layers) == 0:
        raise NetworkError("layers: expected at least one free layer, got none; there is nothing to design.")
    expected = f"different numbers of weight layers from 1 to {network.depth}"
    found = whole_numbers("layers", layers, most=network.depth, distinct=True, error=NetworkError, expected=expected)
    return sorted(n - 1 for n in found)


def checked_densities(density: float | Sequence[float], depth: int) -> float | list[float]:
    given = real_array("density", density, expected="one number, or one a layer")
    if given.ndim == 0:
        return share_kept("density", density)
    many = [share_kept("density", one) for one in given.ravel().tolist()]
    if len(many) != depth:
        raise InputError(f"density: expected one number, or one a layer, that is {depth}, got {len(many)}.")
    return many


def as_objective(goal: object, ridge: float) -> Objective:
    if isinstance(goal, str):
        return named_objective(goal, ridge=ridge) if goal in _RIDGED else named_objective(goal)
    if not callable(goal):
        raise InputError(f"objective: expected a name or a callable, got {type(goal).__name__}.")
    return goal


def targets_of(y: Any, goal: object, x: FloatArray, samples: Any) -> FloatArray:
    if y is not None:
        return checked_targets(y, len(x), inputs=samples).reshape(len(x), -1)
    name = goal if isinstance(goal, str) else getattr(goal, "name", None)
    if isinstance(name, str) and name not in _TARGETLESS:
        raise InputError(f"y: objective {name!r} needs targets, got none; pass y, or one of {', '.join(_TARGETLESS)}.")
    return np.empty((len(x), 0))


def checked_groups(groups: ArrayLike | None, d: int) -> IntArray | None:
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (d,):
        raise InputError(f"groups: expected a label for each of {d} inputs, got shape {labels.shape}.")
    return np.unique(labels, return_inverse=True)[1].astype(np.intp)


def checked_blocks(blocks: Any, depth: int) -> tuple[int, ...]:
    if depth == 1:
        return ()
    if not isinstance(blocks, Iterable) or isinstance(blocks, str):
        expected = f'a positive number up to {_MOST_BLOCKS:,}, one a hidden layer, or "auto"'
        return (whole_number("blocks", blocks, 1, _MOST_BLOCKS, expected=expected),) * (depth - 1)
    many = whole_numbers("blocks", blocks, 1, _MOST_BLOCKS)
    if len(many) != depth - 1:
        raise InputError(f"blocks: expected one number, or one a hidden layer, that is {depth - 1}, got {len(many)}.")
    return many
