"""Networks of graphons from files of torch models: what ``graphon-theory estimate model.pt`` asks of torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import graphon_theory as gt
from graphon_theory.errors import InputError, SpecError
from graphon_theory.reports.estimate_rows import estimate_rows
from graphon_validation.networks.checkpoints import from_torch
from graphon_validation.studies.protocols import network_like


def estimate_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    blocks: int | str = 16,
    inputs: int | None = None,
    drift: bool = True,
    activations: list[str] | None = None,
    init: str | float = "torch",
    zeros_pruned: bool = False,
) -> list[dict[str, Any]]:
    """Estimate the network of a model's file and write it to ``out`` (.toml or .npz); figures of its layers.

    ``blocks``, ``inputs`` and ``drift`` as in :func:`graphon_theory.estimate_network`, the rest as in
    :func:`from_torch`; everything but the layers is as in the model. Raises as these, and SpecError for an ``out`` that
    does not hold it.
    """
    if not Path(path).is_file():
        raise InputError(f"source: {os.fspath(path)} is no file; pass a .pt, .pth or .safetensors.")
    names: Any = activations[0] if activations and len(activations) == 1 else activations or None
    model = from_torch(path, activations=names, init=init, zeros_pruned=zeros_pruned)
    masks = [mask.cpu().numpy() for mask in model.masks]
    weights = [weight.detach().double().cpu().numpy() for weight in model.weights]
    stds = [layer.dense_std for layer in model.linears]
    found = gt.estimate_network(masks, weights, blocks, stds, inputs=inputs, drift=drift)
    try:
        network_like(model, list(found)).save(out)
    except SpecError as error:
        raise SpecError(f"{error} Write it to a name in .npz, take fewer blocks, or group the inputs.") from None
    return estimate_rows(found)
