"""Spectra, exact forms, training, designs, signals and reports, for :mod:`tests.tools.fuzz`."""

from __future__ import annotations

import numpy as np
import sympy as sp
import xarray as xr
from rich.table import Table

import graphon_theory as gt
from tests.tools.fuzz_problems import (
    DATASET,
    NEW,
    NUMBER,
    STEP,
    Entries,
    X,
    Y,
    a_comparison,
    a_flow,
    a_form,
    a_kernel,
    a_network,
    cross_kernel,
    kernels,
    modes,
    training,
)


def learning() -> Entries:
    entry = Entries()
    # spectra
    entry(
        "spectrum",
        gt.spectrum,
        DATASET,
        lambda: {"kernel": a_kernel(), "count": 3, "weights": [0.2, 0.3, 0.5], "fit_range": (1, 3)},
    )
    entry("extend", gt.extend, (xr.DataArray,), lambda: {"modes": modes(), "cross_kernel": np.array(cross_kernel())})
    entry(
        "target_alignment",
        gt.target_alignment,
        DATASET,
        lambda: training(count=2, centred=True, weights=[0.2, 0.3, 0.5]),
    )
    entry(
        "graphon_spectrum",
        gt.graphon_spectrum,
        DATASET,
        lambda: {"graphon": gt.AnalyticGraphon("min(u, v)"), "count": 2, "u": [0.1, 0.5], "v": [0.5], "rtol": 1e-8},
    )
    entry(
        "spectrum_path",
        gt.spectrum_path,
        DATASET,
        lambda: {"networks": [a_network(), a_network()], "x": X.copy(), "times": [0, 1], "count": 2, "outputs": 1},
    )
    entry(
        "zonal_spectrum",
        gt.zonal_spectrum,
        DATASET,
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
    entry("ClosedForm.at_equal_norms", lambda q: a_form().at_equal_norms(q), (object,), lambda: {"q": 1})
    entry("ClosedForm.expanded", lambda expr: a_form().expanded(expr), (sp.Expr,), lambda: {"expr": a_form().ntk})
    entry("ClosedForm.evaluate", lambda x, x2: a_form().evaluate(x, x2), DATASET, lambda: {"x": X.copy(), "x2": NEW})
    entry(
        "ClosedForm",
        lambda **parts: type(a_form())(**parts).evaluate(X[:1]),
        DATASET,
        lambda: {
            **{name: getattr(a_form(), name) for name in ("nngp", "ntk", "moments", "outputs")},
            "definitions": dict(a_form().definitions),
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
    test = {"test_kernel": np.array(cross_kernel()), "initial": Y * 0.1, "test_initial": Y[:2], "y_test": Y[:2]}
    entry("gradient_flow", gt.gradient_flow, DATASET, lambda: training(times=times, **more, **test))
    entry(
        "gradient_descent",
        gt.gradient_descent,
        DATASET,
        lambda: training(steps=[0, 1, 10], momentum=0.3, nesterov=True, **more, **test),
    )
    entry(
        "best_stopping_time",
        gt.best_stopping_time,
        (tuple,),
        lambda: training(test_kernel=np.array(cross_kernel()), y_test=Y[:2], **more),
    )
    entry(
        "critical_learning_rate",
        gt.critical_learning_rate,
        NUMBER,
        lambda: {"kernel": a_kernel(), "momentum": 0.5, "nesterov": False, "ridge": 0.1},
    )
    entry(
        "divergence_learning_rate",
        gt.divergence_learning_rate,
        NUMBER,
        lambda: {
            "kernel": a_kernel(),
            "network": a_network(),
            "y": Y,
            "batch": 4,
            "steps": 20,
            "initial": 0.1 * Y,
        },
    )
    entry(
        "steps_to_loss",
        gt.steps_to_loss,
        NUMBER,
        lambda: training(level=0.01, learning_rate=0.5, ridge=0.1, initial=Y * 0.1),
    )
    entry("time_to_loss", gt.time_to_loss, NUMBER, lambda: {"flow": a_flow(), "level": 0.1})
    entry(
        "kernel_regression",
        gt.kernel_regression,
        DATASET,
        lambda: training(test_kernel=np.array(cross_kernel()), ridge=0.1),
    )
    entry(
        "nngp_posterior",
        gt.nngp_posterior,
        DATASET,
        lambda: {
            "nngp": a_kernel(),
            "y": Y.copy(),
            "test_nngp": np.array(cross_kernel()),
            "test_variance": np.array([5.0, 5.0]),
            "noise": 0.1,
        },
    )
    entry(
        "training_ensemble",
        gt.training_ensemble,
        DATASET,
        lambda: {
            "kernels": kernels(),
            "y": Y.copy(),
            "times": [0.0, 1.0, 10.0],
            "test": gt.limit_kernel(a_network(), NEW, X),
            "test_variance": np.array([5.0, 5.0]),
            "descent": False,
            **more,
        },
    )
    entry(
        "eigenlearning",
        gt.eigenlearning,
        DATASET,
        lambda: {
            "eigenvalue": [1.0, 0.5, 0.1],
            "target_power": [1.0, 0.2, 0.1],
            "sizes": [1, 3, 10],
            "multiplicity": [1, 2, 5],
            "ridge": 0.1,
            "noise": 0.1,
        },
    )
    entry("learning_curve", gt.learning_curve, DATASET, lambda: training(sizes=[1, 2], ridge=0.1, resolved=True))
    entry(
        "measured_learning_curve",
        gt.measured_learning_curve,
        DATASET,
        lambda: training(sizes=[1, 2], ridge=0.1, repeats=2, rng=0),
    )
    # designs
    entry(
        "kernel_gradient",
        gt.kernel_gradient,
        (gt.KernelGradient,),
        lambda: {"network": a_network(), "x": X.copy(), "ntk": np.ones((3, 3)), "nngp": np.eye(3), "rtol": 1e-8},
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
            "network": a_network(),
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
    )
    entry(
        "graphon_flow",
        gt.graphon_flow,
        (gt.GraphonFlow,),
        lambda: {
            "network": a_network(),
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
    )
    entry(
        "fit",
        gt.fit,
        (gt.Fit,),
        lambda: {
            "network": a_network(),
            "x": X.copy(),
            "y": Y.copy(),
            "noise": 0.1,
            "kernel": "ntk",
            "densities": True,
            "iterations": 2,
        },
    )
    entry("transfer", gt.transfer, (gt.Transfer,), lambda: {"network": a_network(), "reference": a_network(), "q": 1.0})
    entry(
        "sample_masks",
        gt.sample_masks,
        (list,),
        lambda: {"network": a_network(), "widths": [2, 8, 8, 1], "rng": 0, "pattern": [None, "3:4", None]},
    )
    # signals, reports
    entry("balanced", gt.balanced, (gt.Network,), lambda: {"network": a_network(), "q": 1.0, "by": "layer"})
    entry(
        "criticality",
        gt.criticality,
        DATASET,
        lambda: {"network": a_network(), "q": 1.0, "positions": [0.2, 0.7], "rtol": 1e-8},
    )
    entry(
        "compare_networks",
        gt.compare_networks,
        DATASET,
        lambda: {
            "networks": {"one": a_network(), "two": gt.Network([1.0, 0.5, 1.0])},
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
        "decay_exponent",
        "predicted_error",
        "divergence_learning_rate",  # of networks that are not plain
    )
    entry("comparison_table", gt.comparison_table, (Table,), lambda: {"found": a_comparison()})
    return entry
