"""What is called by :mod:`tests.tools.fuzz`: every public name, each with plain arguments, and what it returns.

Plain problems are tiny, so that a call takes milliseconds: three inputs of two numbers, networks of two hidden layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
import xarray as xr
from rich.table import Table

import graphon_theory as gt

X = np.array([[0.6, -0.2], [0.1, 0.9], [-0.7, 0.4]])
NEW = np.array([[0.3, 0.3], [-0.5, 0.2]])
Y = np.array([0.5, -1.0, 0.25])
STEP = [[0.9, 0.1], [0.2, 0.6]]


@dataclass(frozen=True)
class Entry:
    """One callable: its plain arguments, made anew for every call, and the types of what it may return.

    ``loose``: variables of a result that its docstring lets be infinite or NaN where the input is finite.
    """

    name: str
    function: Callable[..., Any]
    plain: Callable[[], dict[str, Any]]
    returns: tuple[type, ...]
    loose: frozenset[str] = field(default=frozenset())
    kept: tuple[str, ...] = ()  # arguments that are not spoilt
    slow: bool = False  # the plain call takes more than some tenths of a second


@cache
def _network() -> gt.Network:
    return gt.Network([1.0, STEP, 1.0], "erf", 1.5, 0.1)


@cache
def _kernels() -> xr.Dataset:
    return gt.limit_kernel(_network(), X)


@cache
def _cross() -> xr.DataArray:
    return gt.limit_kernel(_network(), NEW, X).ntk


def _kernel() -> np.ndarray:
    return np.array(_kernels().ntk)


def _mask() -> np.ndarray:
    return np.random.default_rng(0).random((6, 5)) < 0.6


def _masks() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random(shape) < 0.7 for shape in ((6, 2), (6, 6), (1, 6))]


def _weights() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.standard_normal(mask.shape) for mask in _masks()]


@cache
def _form() -> Any:
    return gt.closed_form(gt.Network([1.0, STEP, 1.0], "relu", 2.0, 0.1))


def _plain_function(u: Any, v: Any) -> Any:
    return 0.5 + 0.3 * u * v


def _objective(z: Any) -> Any:
    return np.tanh(z)


_DATASET: tuple[type, ...] = (xr.Dataset,)
_NUMBER: tuple[type, ...] = (float, np.floating)
_GRAPHON: tuple[type, ...] = (gt.Graphon,)
_LAYER: tuple[type, ...] = (gt.Connectivity,)


def _training(**more: Any) -> dict[str, Any]:
    return {"kernel": _kernel(), "y": Y.copy(), **more}


def _theory() -> list[Entry]:
    def entry(
        name: str, function: Callable[..., Any], returns: Any, plain: Callable[[], dict[str, Any]], *loose: str
    ) -> None:
        out.append(Entry(name, function, plain, returns, frozenset(loose)))

    out: list[Entry] = []
    # graphons
    entry("ConstantGraphon", gt.ConstantGraphon, _GRAPHON, lambda: {"p": 0.5})
    entry(
        "StepGraphon",
        gt.StepGraphon,
        _GRAPHON,
        lambda: {"values": np.array(STEP), "u_edges": [0.0, 0.3, 1.0], "v_edges": [0.0, 0.5, 1.0]},
    )
    entry("AnalyticGraphon", gt.AnalyticGraphon, _GRAPHON, lambda: {"expr": "exp(-3*(u - v)**2)"})
    entry(
        "FunctionGraphon",
        gt.FunctionGraphon,
        _GRAPHON,
        lambda: {"f": _plain_function, "u_edges": [0.0, 0.5, 1.0], "v_edges": [0.0, 1.0], "diagonal": False},
    )
    entry("as_graphon", gt.as_graphon, _GRAPHON, lambda: {"obj": np.array(STEP)})
    entry(
        "Graphon.__call__",
        gt.AnalyticGraphon("u*v"),
        (np.ndarray, float, np.floating),
        lambda: {"u": np.array([0.1, 0.9]), "v": 0.5},
    )
    entry("Graphon.to_step", lambda n: gt.AnalyticGraphon("u*v").to_step(n), _GRAPHON, lambda: {"n": 4})
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
        lambda: {"function": _objective, "kinks": (0.0,), "derivative": _objective, "name": "some"},
    )
    entry("Activation of an expression", gt.Activation, (gt.Activation,), lambda: {"function": "Max(z, z**2/10)"})
    entry("as_activation", gt.as_activation, (gt.Activation,), lambda: {"obj": "relu"})
    entry("Activation.__call__", lambda z: gt.as_activation("tanh")(z), (np.ndarray,), lambda: {"z": [0.5, -1.0]}, "*")
    entry(
        "Activation.duals",
        lambda name, **q: gt.as_activation(name).duals(**q),
        (tuple,),
        lambda: {"name": "relu", "q12": 0.3, "q11": 1.0, "q22": 0.5, "mean1": 0.0, "mean2": 0.0},
    )
    # networks
    entry("Connectivity", gt.Connectivity, _LAYER, lambda: {"mask": 0.5, "variance": 0.4, "drift": 0.1, "known": None})
    entry("Known", gt.Known, (gt.Known,), lambda: {"profiles": [0.3, "u*v"], "bias": [0.1, 0.0], "bias_mean": 0.2})
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
    entry("Network.from_toml", gt.Network.from_toml, (gt.Network,), lambda: {"text": _network().to_toml()})
    entry(
        "Network.with_layers",
        lambda layers: _network().with_layers(layers),
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
        _DATASET,
        lambda: {
            "network": _network(),
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
            "network": _network(),
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
        _DATASET,
        lambda: {
            "networks": {"one": _network()},
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
            "network": _network(),
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
        _DATASET,
        lambda: {"network": _network(), "x1": X[0], "x2": X[1], "layer": 2, "output": 0, "rtol": 1e-8},
    )
    entry("marginals", gt.marginals, _DATASET, _density, "receiving_share", "sending_share")
    # pruning
    entry("random_pruning", gt.random_pruning, _LAYER, lambda: {"density": 0.5})
    entry("magnitude_pruning", gt.magnitude_pruning, _LAYER, lambda: {"density": 0.5, "weights": "normal"})
    entry(
        "saliency_pruning",
        gt.saliency_pruning,
        _LAYER,
        lambda: {"row_factor": [1.0, 2.0], "column_factor": "1 + v", "density": 0.5, "weights": "normal"},
    )
    entry("n_m_pruning", gt.n_m_pruning, _LAYER, lambda: {"n": 2, "m": 4, "weights": "normal"})
    entry("unit_pruning", gt.unit_pruning, _LAYER, lambda: {"rows": 0.5, "columns": 0.7, "fan_in": 20})
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
        lambda: {
            "network": gt.Network([1.0, 1.0, 1.0], "relu"),
            "x": X.copy(),
            "y": Y.copy(),
            "density": 0.5,
            "widths": [2, 40, 40, 1],
            "loss": "squared",
            "positions": 8,
            "modes": 2,
            "rng": 0,
        },
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
            "rng": 0,
        },
    )
    # estimation
    entry(
        "coherence",
        gt.coherence,
        (gt.Coherence,),
        lambda: {"mask": _mask(), "weights": np.random.default_rng(3).standard_normal((6, 5))},
        "*",
    )
    entry("Coherence", gt.Coherence, (gt.Coherence,), lambda: dict.fromkeys(gt.Coherence._fields, 0.5), "*")
    entry(
        "coherence_growth",
        gt.coherence_growth,
        (tuple,),
        lambda: {
            "values": [gt.Coherence(0.5, 0.01, *[9.0] * 5), gt.Coherence(0.7, 0.01, *[9.0] * 5)],
            "widths": [10.0, 40.0],
        },
    )
    entry("align", gt.align, (tuple,), lambda: {"a": STEP, "b": _mask()[:2, :2].astype(float), "sweeps": 5})
    entry("cut_distance", gt.cut_distance, (tuple,), lambda: {"a": STEP, "b": STEP[::-1], "starts": 4, "rng": 0})
    entry("cut_norm", gt.cut_norm, (tuple,), lambda: {"a": STEP, "b": [[0.5]], "starts": 4, "rng": 0})
    entry("l2_distance", gt.l2_distance, _NUMBER, lambda: {"a": STEP, "b": gt.ConstantGraphon(0.5)})
    entry("operator_norm", gt.operator_norm, _NUMBER, lambda: {"a": STEP, "b": gt.ConstantGraphon(0.5)})
    entry("graphon_path", gt.graphon_path, _DATASET, lambda: {"masks": [_mask(), _mask()], "times": [0, 1], "bins": 2})
    entry(
        "network_path",
        gt.network_path,
        (list,),
        lambda: {
            "masks": [_masks(), _masks()],
            "weights": [_weights(), _weights()],
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
        lambda: {"mask": _mask(), "bins": 2, "method": "sas", "smoothing": 0.0, "draws": 2, "rng": 0},
        "*",
    )
    entry(
        "estimate_network",
        gt.estimate_network,
        (list, object),
        lambda: {
            "masks": _masks(),
            "weights": _weights(),
            "blocks": 2,
            "dense_std": 1.0,
            "inputs": 2,
            "drift": True,
            "starts": 2,
            "rng": 0,
            "places": [(k, k + 1) for k in range(len(_masks()))],
        },
        "*",
    )
    entry("trace_units", gt.trace_units, (object,), lambda: {"masks": _masks()}, "*")
    entry(
        "PackedMask",
        lambda bits, columns: gt.trace_units([gt.PackedMask(bits, columns)]),
        (object,),
        lambda: {"bits": gt.PackedMask.pack(_mask()).bits, "columns": 5},
        "*",
    )
    entry("PackedMask.pack", gt.PackedMask.pack, (gt.PackedMask,), lambda: {"mask": _mask()})
    # spectra
    entry(
        "spectrum",
        gt.spectrum,
        _DATASET,
        lambda: {"kernel": _kernel(), "count": 3, "weights": [0.2, 0.3, 0.5], "fit_range": (1, 3)},
    )
    entry("extend", gt.extend, (xr.DataArray,), lambda: {"modes": _modes(), "cross_kernel": np.array(_cross())})
    entry(
        "target_alignment",
        gt.target_alignment,
        _DATASET,
        lambda: _training(count=2, centred=True, weights=[0.2, 0.3, 0.5]),
    )
    entry(
        "graphon_spectrum",
        gt.graphon_spectrum,
        _DATASET,
        lambda: {"graphon": gt.AnalyticGraphon("min(u, v)"), "count": 2, "u": [0.1, 0.5], "v": [0.5], "rtol": 1e-8},
    )
    entry(
        "spectrum_path",
        gt.spectrum_path,
        _DATASET,
        lambda: {"networks": [_network(), _network()], "x": X.copy(), "times": [0, 1], "count": 2, "outputs": 1},
    )
    entry(
        "zonal_spectrum",
        gt.zonal_spectrum,
        _DATASET,
        lambda: {
            "network": gt.Network([1.0, 0.5, 1.0], "relu"),
            "dimension": 3,
            "count": 4,
            "law": "sphere",
            "kind": "ntk",
            "output": 0,
            "radial": 2,
            "rtol": 1e-6,
        },
    )
    # exact
    entry("closed_form", gt.closed_form, (object,), lambda: {"network": gt.Network([1.0, 0.5, 1.0])})
    entry("ClosedForm.at_equal_norms", lambda q: _form().at_equal_norms(q), (object,), lambda: {"q": 1})
    entry("ClosedForm.expanded", lambda expr: _form().expanded(expr), (sp.Expr,), lambda: {"expr": _form().ntk}, "*")
    entry("ClosedForm.evaluate", lambda x, x2: _form().evaluate(x, x2), _DATASET, lambda: {"x": X.copy(), "x2": NEW})
    entry(
        "ClosedForm",
        lambda **parts: type(_form())(**parts).evaluate(X[:1]),
        _DATASET,
        lambda: {
            **{name: getattr(_form(), name) for name in ("nngp", "ntk", "moments", "outputs")},
            "definitions": dict(_form().definitions),
            "reduction": None,
        },
    )
    entry("scalar_reduction", gt.scalar_reduction, (object,), lambda: {"network": gt.Network([1.0, STEP, "u*v"])})
    entry("exact_mean", gt.exact_mean, (sp.Expr,), lambda: {"graphon": gt.AnalyticGraphon("u*v")})
    entry("exact_degrees", gt.exact_degrees, (sp.Expr,), lambda: {"graphon": gt.AnalyticGraphon("u*v"), "axis": 1})
    entry(
        "exact_product",
        gt.exact_product,
        (sp.Expr,),
        lambda: {"outer": gt.AnalyticGraphon("u*v"), "inner": gt.StepGraphon(STEP)},
    )
    entry(
        "exact_spectrum", gt.exact_spectrum, (dict,), lambda: {"graphon": gt.AnalyticGraphon("u*v"), "singular": True}
    )
    # training
    times = [0.0, 1.0, 10.0, np.inf]
    more = {"learning_rate": 0.5, "ridge": 0.1}
    test = {"test_kernel": np.array(_cross()), "initial": Y * 0.1, "test_initial": Y[:2], "y_test": Y[:2]}
    entry("gradient_flow", gt.gradient_flow, _DATASET, lambda: _training(times=times, **more, **test))
    entry(
        "gradient_descent",
        gt.gradient_descent,
        _DATASET,
        lambda: _training(steps=[0, 1, 10], momentum=0.3, nesterov=True, **more, **test),
    )
    entry(
        "best_stopping_time",
        gt.best_stopping_time,
        (tuple,),
        lambda: _training(test_kernel=np.array(_cross()), y_test=Y[:2], **more),
        "*",
    )
    entry(
        "critical_learning_rate",
        gt.critical_learning_rate,
        _NUMBER,
        lambda: {"kernel": _kernel(), "momentum": 0.5, "nesterov": False, "ridge": 0.1},
        "*",
    )
    entry(
        "divergence_learning_rate",
        gt.divergence_learning_rate,
        _NUMBER,
        lambda: {"kernel": _kernel(), "network": _network()},
    )
    entry(
        "steps_to_loss",
        gt.steps_to_loss,
        _NUMBER,
        lambda: _training(level=0.01, learning_rate=0.5, ridge=0.1, initial=Y * 0.1),
        "*",
    )
    entry("time_to_loss", gt.time_to_loss, _NUMBER, lambda: {"flow": _flow(), "level": 0.1}, "*")
    entry(
        "kernel_regression",
        gt.kernel_regression,
        _DATASET,
        lambda: _training(test_kernel=np.array(_cross()), ridge=0.1),
    )
    entry(
        "nngp_posterior",
        gt.nngp_posterior,
        _DATASET,
        lambda: {
            "nngp": _kernel(),
            "y": Y.copy(),
            "test_nngp": np.array(_cross()),
            "test_variance": np.array([5.0, 5.0]),
            "noise": 0.1,
        },
    )
    entry(
        "training_ensemble",
        gt.training_ensemble,
        _DATASET,
        lambda: {
            "kernels": _kernels(),
            "y": Y.copy(),
            "times": [0.0, 1.0, 10.0],
            "test": gt.limit_kernel(_network(), NEW, X),
            "test_variance": np.array([5.0, 5.0]),
            "descent": False,
            **more,
        },
    )
    entry(
        "eigenlearning",
        gt.eigenlearning,
        _DATASET,
        lambda: {
            "eigenvalue": [1.0, 0.5, 0.1],
            "target_power": [1.0, 0.2, 0.1],
            "sizes": [1, 3, 10],
            "multiplicity": [1, 2, 5],
            "ridge": 0.1,
            "noise": 0.1,
        },
    )
    entry("learning_curve", gt.learning_curve, _DATASET, lambda: _training(sizes=[1, 2], ridge=0.1, resolved=True))
    entry(
        "measured_learning_curve",
        gt.measured_learning_curve,
        _DATASET,
        lambda: _training(sizes=[1, 2], ridge=0.1, repeats=2, rng=0),
    )
    # designs
    entry(
        "kernel_gradient",
        gt.kernel_gradient,
        (gt.KernelGradient,),
        lambda: {"network": _network(), "x": X.copy(), "ntk": np.ones((3, 3)), "nngp": np.eye(3), "rtol": 1e-8},
    )
    entry(
        "objective",
        lambda name, kernel, ridge: gt.objective(name, kernel=kernel, ridge=ridge),
        (object,),
        lambda: {"name": "leave_one_out", "kernel": "ntk", "ridge": 0.1},
    )
    entry(
        "design",
        gt.design,
        (gt.Design,),
        lambda: {
            "network": _network(),
            "x": np.random.default_rng(0).standard_normal((12, 2)),
            "y": np.arange(12.0),
            "density": 0.5,
            "widths": [2, 8, 8, 1],
            "blocks": 2,
            "smooth": 2,
            "ridge": 0.1,
            "starts": 1,
            "iterations": 2,
            "holdout": 0.25,
            "samples": 12,
            "rng": 0,
        },
        "*",
    )
    entry(
        "graphon_flow",
        gt.graphon_flow,
        (gt.GraphonFlow,),
        lambda: {
            "network": _network(),
            "x": np.random.default_rng(0).standard_normal((12, 2)),
            "y": np.arange(12.0),
            "density": 0.5,
            "widths": [2, 8, 8, 1],
            "times": [0.0, 1e-4],
            "blocks": 2,
            "ridge": 0.1,
            "start": 0.5,
            "tolerance": 0.01,
            "rng": 0,
        },
        "*",
    )
    entry(
        "fit",
        gt.fit,
        (gt.Fit,),
        lambda: {
            "network": _network(),
            "x": X.copy(),
            "y": Y.copy(),
            "noise": 0.1,
            "kernel": "ntk",
            "densities": True,
            "iterations": 2,
        },
    )
    entry("transfer", gt.transfer, (gt.Transfer,), lambda: {"network": _network(), "reference": _network(), "q": 1.0})
    entry(
        "sample_masks",
        gt.sample_masks,
        (list,),
        lambda: {"network": _network(), "widths": [2, 8, 8, 1], "rng": 0, "pattern": [None, "3:4", None]},
    )
    # signals, reports
    entry("balanced", gt.balanced, (gt.Network,), lambda: {"network": _network(), "q": 1.0, "by": "layer"})
    entry(
        "criticality",
        gt.criticality,
        _DATASET,
        lambda: {"network": _network(), "q": 1.0, "positions": [0.2, 0.7], "rtol": 1e-8},
        "*",
    )
    entry(
        "compare_networks",
        gt.compare_networks,
        _DATASET,
        lambda: {
            "networks": {"one": _network(), "two": gt.Network([1.0, 0.5, 1.0])},
            "x": X.copy(),
            "y": Y.copy(),
            "x_test": NEW.copy(),
            "y_test": Y[:2].copy(),
            "level": 0.1,
            "count": 2,
            "ridge": 0.1,
            "kind": "ntk",
            "verdicts": {"two": "(W, V) applies"},
            "rng": 0,
        },
        "*",
    )
    entry("comparison_table", gt.comparison_table, (Table,), lambda: {"found": _comparison()})
    return out


@cache
def _comparison() -> xr.Dataset:
    return gt.compare_networks({"one": _network()}, X, Y)


def _density() -> dict[str, Any]:
    return {"density": gt.kernel_density(_network(), X[0], X[1], 2)}


@cache
def _modes() -> xr.Dataset:
    return gt.spectrum(_kernels().ntk, 2)


@cache
def _flow() -> xr.Dataset:
    return gt.gradient_flow(_kernel(), Y, [0.0, 1.0, 10.0])


@cache
def entries() -> dict[str, Entry]:
    """All of them by name; those of finite networks too, where torch is installed."""
    from tests.tools.fuzz_commands import commands

    found = [*_theory(), *commands()]
    try:
        from tests.tools.fuzz_networks import finite_networks
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
    else:
        found += finite_networks()
    return {entry.name: entry for entry in found}


def is_plain_name(value: object) -> bool:
    """Whether a public name is something to be called, and no error or warning."""
    return callable(value) and not (inspect.isclass(value) and issubclass(value, Exception))
