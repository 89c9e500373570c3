"""Graphons, activations, networks, kernels, pruning laws and estimates, for :mod:`tests.tools.fuzz`."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphon_theory as gt
from tests.tools.fuzz_problems import (
    DATASET,
    GRAPHON,
    LAYER,
    NEW,
    NUMBER,
    STEP,
    Entries,
    X,
    Y,
    a_density,
    a_mask,
    a_network,
    masks,
    plain_function,
    smooth_function,
    weights,
)


def _saliency() -> dict[str, Any]:
    return {
        "network": gt.Network([1.0, 1.0, 1.0], "relu"),
        "x": X.copy(),
        "y": Y.copy(),
        "density": 0.5,
        "widths": [2, 40, 40, 1],
        "loss": "squared",
        "positions": 8,
        "modes": 2,
        "rng": 0,
    }


def structures() -> Entries:
    entry = Entries()
    # graphons
    entry("ConstantGraphon", gt.ConstantGraphon, GRAPHON, lambda: {"p": 0.5})
    entry(
        "StepGraphon",
        gt.StepGraphon,
        GRAPHON,
        lambda: {"values": np.array(STEP), "u_edges": [0.0, 0.3, 1.0], "v_edges": [0.0, 0.5, 1.0]},
    )
    entry("AnalyticGraphon", gt.AnalyticGraphon, GRAPHON, lambda: {"expr": "exp(-3*(u - v)**2)"})
    entry(
        "FunctionGraphon",
        gt.FunctionGraphon,
        GRAPHON,
        lambda: {"f": plain_function, "u_edges": [0.0, 0.5, 1.0], "v_edges": [0.0, 1.0], "diagonal": False},
    )
    entry("as_graphon", gt.as_graphon, GRAPHON, lambda: {"obj": np.array(STEP)})
    entry(
        "Graphon.__call__",
        gt.AnalyticGraphon("u*v"),
        (np.ndarray, float, np.floating),
        lambda: {"u": np.array([0.1, 0.9]), "v": 0.5},
    )
    entry("Graphon.to_step", lambda n: gt.AnalyticGraphon("u*v").to_step(n), GRAPHON, lambda: {"n": 4})
    entry(
        "Graphon.degrees",
        lambda axis, at: gt.AnalyticGraphon("u*v").degrees(axis)(at),
        (np.ndarray, float, np.floating),
        lambda: {"axis": 1, "at": np.array([0.2, 0.8])},
    )
    entry(
        "Graphon.sample",
        lambda n_out, n_in, rng, positions: gt.AnalyticGraphon("u*v").sample(n_out, n_in, rng, positions),
        (np.ndarray,),
        lambda: {"n_out": 4, "n_in": 3, "rng": 0, "positions": "grid"},
    )
    # activations
    entry(
        "Activation",
        gt.Activation,
        (gt.Activation,),
        lambda: {"function": smooth_function, "kinks": (0.0,), "derivative": smooth_function, "name": "some"},
    )
    entry("Activation of an expression", gt.Activation, (gt.Activation,), lambda: {"function": "Max(z, z**2/10)"})
    entry("as_activation", gt.as_activation, (gt.Activation,), lambda: {"obj": "relu"})
    entry(
        "Activation.__call__",
        lambda z: gt.as_activation("tanh")(z),
        (np.ndarray,),
        lambda: {"z": [0.5, -1.0]},
        "the result",
    )
    entry(
        "Activation.duals",
        lambda name, **q: gt.as_activation(name).duals(**q),
        (tuple,),
        lambda: {"name": "relu", "q12": 0.3, "q11": 1.0, "q22": 0.5, "mean1": 0.0, "mean2": 0.0},
    )
    # networks
    entry("Connectivity", gt.Connectivity, LAYER, lambda: {"mask": 0.5, "variance": 0.4, "drift": 0.1, "known": None})
    entry("Known", gt.Known, (gt.Known,), lambda: {"profiles": [0.3, "u*v"], "bias": [0.1, 0.0], "bias_mean": 0.2})
    entry(
        "Known of units",
        gt.Known,
        (gt.Known,),
        lambda: {
            "profiles": [np.array(STEP)],
            "gradients": [[[0.4], [0.8]]],
            "senders": 2,
            "returning": np.array(STEP),
        },
    )
    entry(
        "Network",
        gt.Network,
        (gt.Network,),
        lambda: {
            "layers": [1.0, np.array(STEP), "u*v"],
            "activation": "relu",
            "weight_variance": [2.0, 1.0, 2.0],
            "bias_variance": 0.1,
            "parameterization": "standard",
            "widths": [2, 5, 4],
            "outputs": 2,
        },
    )
    entry("Network.from_toml", gt.Network.from_toml, (gt.Network,), lambda: {"text": a_network().to_toml()})
    entry(
        "Network.with_layers",
        lambda layers: a_network().with_layers(layers),
        (gt.Network,),
        lambda: {"layers": [1.0, 0.5, 1.0]},
    )
    stage = (gt.Dense, gt.Pointwise, gt.Residual, gt.LayerNorm)
    scales = {"weight_variance": 1.5, "bias_variance": 0.1, "trained_bias_variance": 0.2}
    entry("Dense", gt.Dense, stage, lambda: {"connectivity": 0.5, **scales})
    entry("Pointwise", gt.Pointwise, stage, lambda: {"activation": "erf"})
    entry("LayerNorm", gt.LayerNorm, stage, lambda: {"epsilon": 1e-5})
    entry(
        "Residual",
        lambda stages, scale: gt.Residual(*(stages if isinstance(stages, list | tuple) else [stages]), scale=scale),
        stage,
        lambda: {"stages": [gt.Pointwise("relu"), gt.Dense(0.5)], "scale": 0.5},
    )
    # kernels
    entry(
        "limit_kernel",
        gt.limit_kernel,
        DATASET,
        lambda: {
            "network": a_network(),
            "x": X.copy(),
            "x2": NEW.copy(),
            "rtol": 1e-8,
            "contributions": True,
            "dtype": "float64",
            "threads": 1,
            "progress": False,
        },
    )
    entry(
        "nystrom_kernel",
        lambda **arguments: np.array([gt.nystrom_kernel(**arguments).error]),
        (np.ndarray,),
        lambda: {
            "network": a_network(),
            "x": X.copy(),
            "landmarks": 1,
            "kernel": "nngp",
            "pairs": 4,
            "rng": 0,
            "rtol": 1e-8,
            "dtype": "float64",
            "threads": 1,
        },
    )
    entry(
        "sweep",
        gt.sweep,
        DATASET,
        lambda: {
            "networks": {"one": a_network()},
            "x": X.copy(),
            "parameters": None,
            "x2": None,
            "measure": None,
            "count": 2,
            "kernel": "ntk",
            "rtol": 1e-8,
            "dtype": "float64",
        },
    )
    entry(
        "kernel_operator",
        lambda **arguments: gt.kernel_operator(**arguments).dense(),
        (np.ndarray,),
        lambda: {
            "network": a_network(),
            "x": X.copy(),
            "x2": NEW.copy(),
            "kernel": "nngp",
            "memory": 1e9,
            "rtol": 1e-8,
            "dtype": "float64",
            "threads": 1,
        },
    )
    entry(
        "kernel_density",
        gt.kernel_density,
        DATASET,
        lambda: {"network": a_network(), "x1": X[0], "x2": X[1], "layer": 2, "output": 0, "rtol": 1e-8},
    )
    entry("marginals", gt.marginals, DATASET, a_density, "receiving_share", "sending_share")
    # pruning
    entry("random_pruning", gt.random_pruning, LAYER, lambda: {"density": 0.5})
    entry("magnitude_pruning", gt.magnitude_pruning, LAYER, lambda: {"density": 0.5, "weights": "normal"})
    entry(
        "saliency_pruning",
        gt.saliency_pruning,
        LAYER,
        lambda: {"row_factor": [1.0, 2.0], "column_factor": "1 + v", "density": 0.5, "weights": "normal"},
    )
    entry("n_m_pruning", gt.n_m_pruning, LAYER, lambda: {"n": 2, "m": 4, "weights": "normal"})
    entry("unit_pruning", gt.unit_pruning, LAYER, lambda: {"rows": 0.5, "columns": 0.7, "fan_in": 20})
    entry("erk_densities", gt.erk_densities, (tuple,), lambda: {"widths": [4, 20, 20, 2], "density": 0.3})
    entry(
        "Saliency",
        lambda **parts: gt.prune_globally(gt.Saliency(**parts), 0.5, [3, 4, 2]),
        (list,),
        lambda: {"row_factor": [1.0, 2.0], "column_factor": 1.0, "init": "he", "weights": "normal"},
    )
    entry(
        "prune_globally",
        gt.prune_globally,
        (list,),
        lambda: {"laws": ["he", gt.Saliency([1.0, 3.0]), None], "density": 0.4, "widths": [4, 20, 20, 2]},
    )
    entry(
        "saliency_network",
        gt.saliency_network,
        (gt.Network,),
        _saliency,
    )
    entry(
        "saliency_network of units",
        gt.saliency_network,
        (gt.Network,),
        lambda: {**_saliency(), "positions": "units", "widths": [2, 12, 10, 1]},
    )
    entry(
        "synflow_network",
        gt.synflow_network,
        (gt.SynFlowNetwork,),
        lambda: {
            "network": gt.Network([1.0, 1.0, 1.0], "relu"),
            "density": 0.5,
            "widths": [2, 40, 40, 1],
            "rounds": 2,
            "positions": 8,
            "signs": True,
            "rng": 0,
        },
    )
    # estimation
    entry(
        "coherence",
        gt.coherence,
        (gt.Coherence,),
        lambda: {"mask": a_mask(), "weights": np.random.default_rng(3).standard_normal((6, 5))},
    )
    held = [f"[{k}]" for k in range(len(gt.Coherence._fields))]  # a record holds what it is given
    entry("Coherence", gt.Coherence, (gt.Coherence,), lambda: dict.fromkeys(gt.Coherence._fields, 0.5), *held)
    entry(
        "coherence_growth",
        gt.coherence_growth,
        (tuple,),
        lambda: {
            "values": [gt.Coherence(0.5, 0.01, *[9.0] * 5), gt.Coherence(0.7, 0.01, *[9.0] * 5)],
            "widths": [10.0, 40.0],
        },
    )
    entry("align", gt.align, (tuple,), lambda: {"a": STEP, "b": a_mask()[:2, :2].astype(float), "sweeps": 5})
    entry("cut_distance", gt.cut_distance, (tuple,), lambda: {"a": STEP, "b": STEP[::-1], "starts": 4, "rng": 0})
    entry("cut_norm", gt.cut_norm, (tuple,), lambda: {"a": STEP, "b": [[0.5]], "starts": 4, "rng": 0})
    entry("l2_distance", gt.l2_distance, NUMBER, lambda: {"a": STEP, "b": gt.ConstantGraphon(0.5)})
    entry("operator_norm", gt.operator_norm, NUMBER, lambda: {"a": STEP, "b": gt.ConstantGraphon(0.5)})
    entry("graphon_path", gt.graphon_path, DATASET, lambda: {"masks": [a_mask(), a_mask()], "times": [0, 1], "bins": 2})
    entry(
        "network_path",
        gt.network_path,
        (list,),
        lambda: {
            "masks": [masks(), masks()],
            "weights": [weights(), weights()],
            "blocks": 2,
            "dense_std": 1.0,
            "inputs": 2,
            "drift": True,
            "starts": 2,
            "rng": 0,
        },
    )
    entry(
        "estimate_graphon",
        gt.estimate_graphon,
        (gt.Graphon, tuple),
        lambda: {"mask": a_mask(), "bins": 2, "method": "sas", "smoothing": 0.0, "draws": 2, "rng": 0},
    )
    entry(
        "estimate_network",
        gt.estimate_network,
        (list, object),
        lambda: {
            "masks": masks(),
            "weights": weights(),
            "blocks": 2,
            "dense_std": 1.0,
            "inputs": 2,
            "drift": True,
            "starts": 2,
            "rng": 0,
            "places": [(k, k + 1) for k in range(len(masks()))],
        },
    )
    entry("trace_units", gt.trace_units, (object,), lambda: {"masks": masks()})
    entry(
        "PackedMask",
        lambda bits, columns: gt.trace_units([gt.PackedMask(bits, columns)]),
        (object,),
        lambda: {"bits": gt.PackedMask.pack(a_mask()).bits, "columns": 5},
    )
    entry("PackedMask.pack", gt.PackedMask.pack, (gt.PackedMask,), lambda: {"mask": a_mask()})
    return entry
