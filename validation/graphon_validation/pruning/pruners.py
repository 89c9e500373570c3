"""Pruning a MaskedMLP in place: one score per connection, the best are kept."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphon_theory.data.checks import as_generator, one_of, share_kept, whole_number, whole_numbers
from graphon_theory.errors import InputError, shown
from graphon_theory.networks.stages import Fork, Join, Weights
from graphon_validation.networks.masked_layers import autograd
from graphon_validation.networks.masked_mlps import MaskedMLP, Seed, checked_model
from graphon_validation.networks.selections import Cut, keep_best
from graphon_validation.pruning.scores import METHODS, Method
from graphon_validation.training.losses import Data
from graphon_validation.training.trainers import train

_ROUNDS = 1_000  # so many cut less than a hundredth each, down to a density of 1e-4
SCOPES = ("global", "layer")


_SHARE = 1e-3  # of what is kept: more than so much settled by the draw among equal scores is reported


class TiedScoresWarning(UserWarning):
    """Many connections share the score at the threshold, and a draw decided which of them stay."""


class LayerCollapseWarning(UserWarning):
    """A layer lost all its connections: the network's output no longer depends on its input."""


class BranchLostWarning(UserWarning):
    """A layer of a residual branch lost all its connections: the branch sends nothing, and its shortcut remains."""


def prune(
    model: MaskedMLP,
    method: str,
    density: float,
    data: Data | None = None,
    *,
    scope: str = "global",
    layers: Sequence[int] | None = None,
    rounds: int | None = None,
    rng: Seed | None = None,
    **options: Any,
) -> MaskedMLP:
    """Prune ``model`` to ``density`` by ``method``, in place, and return it.

    ``density`` in (0, 1] counts the surviving connections of the layers named in ``layers`` (indices 0..L-1
    from the input; all if None), over all of them together (``scope="global"``: one threshold) or in each
    (``scope="layer"``); round(density * connections) are kept, exactly. Connections that are pruned already
    stay pruned. Among equal scores at the threshold the draw is random but always the same, on every device.

    ``data`` = (x, labels) is for methods whose score needs it, ``rng`` (a seed or Generator) for those that
    draw. ``rounds`` prunes in that many steps along the exponential schedule density^(k/rounds), scores
    taken anew in each; None is the method's own default. Further ``options`` go to the method; see
    :mod:`graphon_validation.pruning.scores` for the methods, their formulas and sources.

    Warns LayerCollapseWarning where a layer loses every connection (BranchLostWarning where a shortcut leads around it;
    shortcuts hold no weights), and TiedScoresWarning where that draw decided over more than a thousandth of what is
    kept, and more than one connection: SynFlow gives the two of a unit that has no others one score. Raises InputError
    for an unknown method, option, scope or layer, a density that is out of range, keeps nothing or exceeds the present
    one, data missing, or scores that are not finite; the masks are then as they were.
    """
    checked_model(model)
    chosen = METHODS[one_of("method", method, sorted(METHODS))]
    one_of("scope", scope, SCOPES)
    density = share_kept("density", density, expected="a number in (0, 1], the share that survives")
    if chosen.needs_data and data is None:
        raise InputError(f"data: method {method!r} scores connections on data; pass data=(x, labels).")
    steps = (
        chosen.rounds
        if rounds is None
        else whole_number(
            "rounds", rounds, 1, _ROUNDS, expected=f"a whole number of at least 1 and at most {_ROUNDS:,}"
        )
    )
    _check_options(method, chosen, options)
    indices = _check_layers(model, layers)
    groups = [indices] if scope == "global" else [[index] for index in indices]
    targets = [_target(model, group, density) for group in groups]
    generator = as_generator(rng)
    before = [mask.clone() for mask in model.masks]
    cuts: list[Cut] = []
    try:
        for step in range(1, steps + 1):
            scores = _scores(model, chosen, method, data, generator, options)
            for group, target in zip(groups, targets, strict=True):
                total = sum(model.masks[index].numel() for index in group)
                count = target if step == steps else max(target, round(total * density ** (step / steps)))
                alive = sum(int(model.masks[index].sum()) for index in group)
                kept, cut = keep_best(
                    [scores[index] for index in group], [model.masks[index] for index in group], min(count, alive)
                )
                cuts.append(cut)
                for index, mask in zip(group, kept, strict=True):
                    model.masks[index].copy_(mask)
    except BaseException:
        for mask, old in zip(model.masks, before, strict=True):
            mask.copy_(old)
        raise
    worst = max(cuts, key=_settled_by_lot)
    if _settled_by_lot(worst) > max(1.0, _SHARE * sum(targets)):
        warnings.warn(
            f"prune: {worst.tied:,} connections share the score {worst.threshold:.3g} of method {method!r} at the "
            f"threshold, and {worst.taken:,} of them were kept by a draw; a lower density, other data or another "
            "method tells them apart.",
            TiedScoresWarning,
            stacklevel=2,
        )
    in_branches = _in_branches(model)
    for index in indices:
        if not model.masks[index].any() and index in in_branches:
            warnings.warn(
                f"prune: layer {index} of a residual branch lost all its connections to method {method!r} at density "
                f"{density:g}: the branch sends nothing on, and the shortcut around it remains.",
                BranchLostWarning,
                stacklevel=2,
            )
        elif not model.masks[index].any():
            warnings.warn(
                f"prune: layer {index} lost all its connections to method {method!r} at density {density:g}; "
                "use a higher density, scope='layer', or more rounds.",
                LayerCollapseWarning,
                stacklevel=2,
            )
    return model


def _in_branches(model: MaskedMLP) -> set[int]:
    """The layers 0..L-1 around which a shortcut leads."""
    found, depth = set(), 0
    for part in model.outline:
        if isinstance(part, Weights) and depth:
            found.add(part.number - 1)
        depth += isinstance(part, Fork) - isinstance(part, Join)
    return found


def _settled_by_lot(cut: Cut) -> int:
    return min(cut.taken, cut.tied - cut.taken)


def _check_options(method: str, chosen: Method, options: dict[str, Any]) -> None:
    parameters = inspect.signature(chosen.score).parameters.values()
    known = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):  # they go on to train
        known |= set(inspect.signature(train).parameters) - {"model", "data", "checkpoint", "checkpoint_every"}
        missing = {"steps", "learning_rate"} - set(options)
        if missing:
            raise InputError(f"options: method {method!r} trains, and needs {' and '.join(sorted(missing))}.")
    unknown = set(options) - known
    if unknown:
        has = f"has {', '.join(sorted(known))}" if known else "has none"
        raise InputError(f"options: method {shown(method)} {has}, got {', '.join(sorted(unknown))}.")


def _check_layers(model: MaskedMLP, layers: Sequence[int] | None) -> list[int]:
    depth = len(model.linears)
    if layers is None:
        return list(range(depth))
    given = layers if isinstance(layers, Iterable) else [layers]
    expected = f"different indices in 0..{depth - 1}"
    return sorted(whole_numbers("layers", given, 0, depth - 1, distinct=True, expected=expected))


def _target(model: MaskedMLP, group: list[int], density: float) -> int:
    where = f"layer {group[0]}" if len(group) == 1 else f"layers {group}"
    total = sum(model.masks[index].numel() for index in group)
    alive = sum(int(model.masks[index].sum()) for index in group)
    target = round(density * total)
    if target < 1:
        raise InputError(f"density: {density:g} of the {total} connections of {where} keeps none; raise it.")
    if target > alive:
        raise InputError(
            f"density: expected at most {alive / total:.6g}, the density of {where} now, got {density:g}: "
            "pruning never brings a connection back."
        )
    return target


def _scores(
    model: MaskedMLP,
    chosen: Method,
    method: str,
    data: Data | None,
    rng: np.random.Generator,
    options: dict[str, Any],
) -> list[Tensor]:
    with autograd():
        scores = chosen.score(model, data, rng, **options)
    for index, score in enumerate(scores):
        if not all(map(math.isfinite, torch.aminmax(score))):  # a NaN anywhere makes both NaN
            raise InputError(
                f"prune: scores of method {method!r} are not finite in layer {index}; use a float64 model, "
                "or look for inputs and weights that overflow."
            )
    return scores
