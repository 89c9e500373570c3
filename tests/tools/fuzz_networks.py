"""The public names of ``graphon_validation``, for :mod:`tests.tools.fuzz`."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from rich.console import Console
from rich.table import Table

import graphon_theory as gt
import graphon_validation as gv
from tests.tools.fuzz_problems import NEW, STEP, Entries, Entry, X, Y

_WIDTHS = (2, 8, 8, 1)
_DATASET: tuple[type, ...] = (xr.Dataset,)
_MODEL: tuple[type, ...] = (gv.MaskedMLP,)


@cache
def _network() -> gt.Network:
    return gt.Network([1.0, STEP, 1.0], "erf", 1.5, 0.1)


def _model() -> gv.MaskedMLP:
    return gv.build(_network(), _WIDTHS, 0)


@cache
def _sweep() -> xr.Dataset:
    return gv.width_sweep(_network(), X, widths=(8, 16), seeds=range(4), workers=1, progress=False)


@cache
def _ensemble() -> tuple[xr.Dataset, xr.Dataset]:
    found = gv.trained_ensemble(
        _network(), X, Y, NEW, [0, 2], learning_rate=0.1, width=8, seeds=range(3), progress=False
    )
    kernels, test = gt.limit_kernel(_network(), X), gt.limit_kernel(_network(), NEW, X)
    variance = np.diag(gt.limit_kernel(_network(), NEW).nngp)
    law = gt.training_ensemble(kernels, Y, [0, 2], test=test, test_variance=variance, learning_rate=0.1, descent=True)
    return found, law


def _history() -> xr.Dataset:
    rewiring = gv.Rewiring("set", every=1, until=4, fraction=0.3)
    return gv.train(_model(), (X, Y), steps=4, learning_rate=0.01, rewiring=rewiring, progress=False)


def _masked_linear(**parts: Any) -> gv.MaskedMLP:
    return gv.MaskedMLP([gv.MaskedLinear(**parts)])


def _trained(checkpoint: Any, **more: Any) -> xr.Dataset:
    _few(more["steps"])
    if isinstance(checkpoint, str) and checkpoint == "a file":
        with tempfile.TemporaryDirectory() as folder:
            return gv.train(checkpoint=Path(folder) / "state.pt", progress=False, **more)
    return gv.train(checkpoint=checkpoint, progress=False, **more)


def _ensemble_of(**more: Any) -> xr.Dataset:
    _few(more["steps"])
    return gv.trained_ensemble(progress=False, **more)


def _designs(**more: Any) -> xr.Dataset:
    """With random masks alone, whose design is one step from one start."""
    _few([more["steps"], more["seeds"], more["width"]])
    with tempfile.TemporaryDirectory() as folder:
        given = {"out": folder, "train": 60, "blocks": 2, "starts": 1, "iterations": 1, **more}
        return gv.design_experiment(**given, console=Console(quiet=True), progress=False)


def _few(steps: Any) -> None:
    """Training runs as many steps as it is told, under a progress bar: more than a few are not tried."""
    for one in steps if isinstance(steps, list | tuple) else [steps]:
        if isinstance(one, int | float | np.number) and one > 1_000:
            raise gt.InputError("steps: more than are tried here")


def finite_networks() -> list[Entry]:
    entry = Entries("gv.")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    entry(
        "MaskedLinear",
        _masked_linear,
        _MODEL,
        lambda: {
            "weight": weight.clone(),
            "mask": weight > -1,
            "bias": weight[:, 0].clone(),
            "weight_variance": 2.0,
            "bias_variance": 0.1,
            "parameterization": "ntk",
            "law": "normal",
        },
        "layers.0.weight",  # a layer holds what it is given: also memory that is yet to be drawn
        "layers.0.bias",
    )
    entry(
        "MaskedMLP",
        gv.MaskedMLP,
        _MODEL,
        lambda: {
            "layers": [gv.MaskedLinear(weight), gv.MaskedLinear(weight.T.contiguous())],
            "activation": "relu",
            "positions": [np.array([0.2, 0.8]), np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.8])],
        },
    )
    entry(
        "Rewiring",
        lambda **parts: gv.train(
            _model(), (X, Y), steps=3, learning_rate=0.01, rewiring=gv.Rewiring(**parts), progress=False
        ),
        _DATASET,
        lambda: {"method": "set", "every": 1, "until": 4, "fraction": 0.3, "regrow": True, "layers": (1,)},
    )
    entry(
        "applicability",
        gv.applicability,
        _DATASET,
        lambda: {"model": _model(), "x": X.copy(), "other": gv.build(_network(), (2, 16, 16, 1), 0), "redraws": 8},
        "gain_growth",
        "gain_growth_error",
    )
    entry(
        "applicability_table",
        gv.applicability_table,
        (Table,),
        lambda: {"found": gv.applicability(_model(), X, redraws=8), "title": "some"},
    )
    entry(
        "apply_protocol",
        gv.apply_protocol,
        _MODEL,
        lambda: {"model": _model(), "protocol": "redrawn", "rng": 0, "network": _network()},
    )
    entry(
        "build",
        gv.build,
        _MODEL,
        lambda: {
            "network": _network(),
            "widths": list(_WIDTHS),
            "seed": 0,
            "device": "cpu",
            "dtype": torch.float32,
            "masks": gt.sample_masks(_network(), _WIDTHS, 0),
        },
    )
    entry("choose_trained", gv.choose_trained, _MODEL, lambda: {"model": _model(), "parts": ["all", "none", "biases"]})
    entry(
        "compare",
        gv.compare,
        _DATASET,
        lambda: {"real": _sweep(), "kern": gt.limit_kernel(_network(), X), "entries": [(0, 1)]},
    )
    entry(
        "compare_ensemble",
        gv.compare_ensemble,
        _DATASET,
        lambda: dict(zip(("found", "law"), _ensemble(), strict=True)),
        *("z", "off", "std_ratio", "mean_z", "mean_std_ratio"),  # where a spoilt one does not vary
    )
    entry(
        "device_kernel",
        gv.device_kernel,
        _DATASET,
        lambda: {
            "network": gt.Network([1.0, STEP, 1.0], "erf", 1.5, 0.1),
            "x": X.copy(),
            "x2": NEW.copy(),
            "device": "cpu",
            "rtol": 1e-8,
            "dtype": "float32",
            "tile": 2,
        },
    )
    entry(
        "dense",
        gv.dense,
        _MODEL,
        lambda: {
            "widths": list(_WIDTHS),
            "seed": 0,
            "init": "torch",
            "activation": "relu",
            "weight_variance": 2.0,
            "bias_variance": 0.1,
            "device": "cpu",
            "dtype": torch.float32,
        },
    )
    entry(
        "design_experiment",
        _designs,
        _DATASET,
        lambda: {
            "task": "groups",
            "density": 0.5,
            "methods": ["random"],
            "seeds": 1,
            "width": 6,
            "steps": 2,
            "share": 0.5,
        },
        *("predicted", "predicted_rows"),  # of laws that have a limit of this form
    )
    entry(
        "empirical_kernel",
        gv.empirical_kernel,
        _DATASET,
        lambda: {
            "model": _model(),
            "x": X.copy(),
            "x2": NEW.copy(),
            "per_layer": True,
            "outputs": [0],
            "memory": 1 << 20,
        },
    )
    entry(
        "kernel_product",
        gv.kernel_product,
        (xr.DataArray,),
        lambda: {"model": _model(), "x": X.copy(), "vectors": np.ones(len(NEW)), "x2": NEW.copy()},
    )
    entry(
        "from_torch",
        gv.from_torch,
        (gv.MaskedMLP,),
        lambda: {
            "source": {"a.weight": torch.ones(3, 2), "b.weight": torch.ones(1, 3)},
            "activations": "relu",
            "init": "torch",
            "zeros_pruned": False,
        },
    )
    entry("to_torch", gv.to_torch, (torch.nn.Sequential,), lambda: {"model": _model()})
    entry("law_network", gv.law_network, (gt.Network, type(None)), lambda: {"model": _model(), "method": "magnitude"})
    entry("mask_history", gv.mask_history, (list,), lambda: {"found": _history(), "model": _model()})
    entry(
        "mixture",
        gv.mixture,
        (gt.Network,),
        lambda: {"network": _network(), "inputs": 2, "rows": 8, "weights": "normal", "rng": 0},
    )
    entry(
        "prune",
        gv.prune,
        _MODEL,
        lambda: {
            "model": _model(),
            "method": "snip",
            "density": 0.5,
            "data": (X.copy(), Y.copy()),
            "scope": "global",
            "layers": [0, 1],
            "rounds": 2,
            "rng": 0,
            "loss": "squared",
        },
    )
    entry(
        "sampled_nngp",
        gv.sampled_nngp,
        _DATASET,
        lambda: {
            "source": _network(),
            "x": X.copy(),
            "x2": NEW.copy(),
            "seeds": [0, 1, 2],
            "widths": list(_WIDTHS),
            "protocol": "redrawn",
            "readout": "integrated",
            "device": "cpu",
            "dtype": torch.float64,
        },
    )
    entry(
        "theories",
        gv.theories,
        (dict,),
        lambda: {"model": _model(), "blocks": 2, "names": ["layers", "(W, V)"], "input_rows": False, "rng": 0},
    )
    entry(
        "train",
        _trained,
        _DATASET,
        lambda: {
            "model": _model(),
            "data": (X.copy(), Y.copy()),
            "steps": 3,
            "learning_rate": 0.1,
            "loss": "squared",
            "optimizer": "adam",
            "batch_size": 2,
            "test": (NEW.copy(), Y[:2].copy()),
            "record": 1,
            "predictions": True,
            "seed": 0,
            "checkpoint": "a file",
            "checkpoint_every": 2,
        },
    )
    entry(
        "trained_ensemble",
        _ensemble_of,
        _DATASET,
        lambda: {
            "network": _network(),
            "x": X.copy(),
            "y": Y.copy(),
            "x_test": NEW.copy(),
            "steps": [0, 2],
            "learning_rate": 0.1,
            "width": 8,
            "seeds": [0, 1],
        },
    )
    entry(
        "width_sweep",
        lambda **more: gv.width_sweep(progress=False, **more),
        _DATASET,
        lambda: {
            "network": _network(),
            "x": X.copy(),
            "x2": NEW.copy(),
            "widths": [8, 12],
            "seeds": [0, 1],
            "prune": {"method": "magnitude", "density": 0.2, "layers": [1]},
            "protocol": "redrawn",
            "trained": ["all", "none", "all"],
            "device": "cpu",
            "dtype": torch.float64,
            "memory": 1 << 20,
            "workers": 1,
        },
    )
    return entry
