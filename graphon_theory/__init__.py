"""Limit kernels of sparse neural networks.

The names below load on first use, so that ``import graphon_theory`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ROOMS = {
    "errors": (
        "ActivationError",
        "ClosedFormError",
        "ConnectivityError",
        "ConvergenceError",
        "ExpressionError",
        "GraphonError",
        "InputError",
        "KernelError",
        "NetworkError",
        "QuadratureError",
        "SpecError",
    ),
    "graphons": (
        "AnalyticGraphon",
        "ConstantGraphon",
        "FunctionGraphon",
        "Graphon",
        "StepGraphon",
        "as_graphon",
    ),
    "activations": ("Activation", "as_activation"),
    "connectivity": ("Connectivity", "Known"),
    "networks": ("Network",),
    "pruning": (
        "Saliency",
        "erk_densities",
        "magnitude_pruning",
        "n_m_pruning",
        "prune_globally",
        "random_pruning",
        "saliency_pruning",
        "unit_pruning",
    ),
    "limits": ("kernel_density", "limit_kernel"),
    "closed_forms": ("closed_form",),
    "variance_maps": ("criticality",),
    "exact_graphons": ("exact_degrees", "exact_mean", "exact_product", "exact_spectrum"),
    "initialisations": ("balanced",),
    "reductions": ("scalar_reduction",),
    "graphon_spectra": ("graphon_spectrum",),
    "spectra": ("extend", "spectrum"),
    "zonal_spectra": ("zonal_spectrum",),
    "dynamics": (
        "best_stopping_time",
        "critical_learning_rate",
        "gradient_descent",
        "gradient_flow",
        "steps_to_loss",
        "time_to_loss",
    ),
    "ensembles": ("training_ensemble",),
    "regressions": ("kernel_regression", "nngp_posterior"),
    "generalisation": ("eigenlearning", "learning_curve", "measured_learning_curve"),
    "alignments": ("target_alignment",),
    "densities": ("marginals",),
    "comparisons": ("compare_networks", "comparison_table"),
    "coherences": ("Coherence", "CoherenceWarning", "coherence", "coherence_growth"),
    "distances": ("align", "cut_distance", "cut_norm", "l2_distance", "operator_norm"),
    "estimation": ("estimate_graphon",),
    "masks": ("PackedMask",),
    "network_estimates": ("estimate_network",),
    "saliency_networks": ("saliency_network",),
    "units": ("trace_units",),
    "graphon_paths": ("graphon_path", "network_path", "spectrum_path"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_ROOMS})


if TYPE_CHECKING:
    from graphon_theory.activations import Activation as Activation
    from graphon_theory.activations import as_activation as as_activation
    from graphon_theory.alignments import target_alignment as target_alignment
    from graphon_theory.closed_forms import closed_form as closed_form
    from graphon_theory.coherences import Coherence as Coherence
    from graphon_theory.coherences import CoherenceWarning as CoherenceWarning
    from graphon_theory.coherences import coherence as coherence
    from graphon_theory.coherences import coherence_growth as coherence_growth
    from graphon_theory.comparisons import compare_networks as compare_networks
    from graphon_theory.comparisons import comparison_table as comparison_table
    from graphon_theory.connectivity import Connectivity as Connectivity
    from graphon_theory.connectivity import Known as Known
    from graphon_theory.densities import marginals as marginals
    from graphon_theory.distances import align as align
    from graphon_theory.distances import cut_distance as cut_distance
    from graphon_theory.distances import cut_norm as cut_norm
    from graphon_theory.distances import l2_distance as l2_distance
    from graphon_theory.distances import operator_norm as operator_norm
    from graphon_theory.dynamics import best_stopping_time as best_stopping_time
    from graphon_theory.dynamics import critical_learning_rate as critical_learning_rate
    from graphon_theory.dynamics import gradient_descent as gradient_descent
    from graphon_theory.dynamics import gradient_flow as gradient_flow
    from graphon_theory.dynamics import steps_to_loss as steps_to_loss
    from graphon_theory.dynamics import time_to_loss as time_to_loss
    from graphon_theory.ensembles import training_ensemble as training_ensemble
    from graphon_theory.errors import ActivationError as ActivationError
    from graphon_theory.errors import ClosedFormError as ClosedFormError
    from graphon_theory.errors import ConnectivityError as ConnectivityError
    from graphon_theory.errors import ConvergenceError as ConvergenceError
    from graphon_theory.errors import ExpressionError as ExpressionError
    from graphon_theory.errors import GraphonError as GraphonError
    from graphon_theory.errors import InputError as InputError
    from graphon_theory.errors import KernelError as KernelError
    from graphon_theory.errors import NetworkError as NetworkError
    from graphon_theory.errors import QuadratureError as QuadratureError
    from graphon_theory.errors import SpecError as SpecError
    from graphon_theory.estimation import estimate_graphon as estimate_graphon
    from graphon_theory.exact_graphons import exact_degrees as exact_degrees
    from graphon_theory.exact_graphons import exact_mean as exact_mean
    from graphon_theory.exact_graphons import exact_product as exact_product
    from graphon_theory.exact_graphons import exact_spectrum as exact_spectrum
    from graphon_theory.generalisation import eigenlearning as eigenlearning
    from graphon_theory.generalisation import learning_curve as learning_curve
    from graphon_theory.generalisation import measured_learning_curve as measured_learning_curve
    from graphon_theory.graphon_paths import graphon_path as graphon_path
    from graphon_theory.graphon_paths import network_path as network_path
    from graphon_theory.graphon_paths import spectrum_path as spectrum_path
    from graphon_theory.graphon_spectra import graphon_spectrum as graphon_spectrum
    from graphon_theory.graphons import AnalyticGraphon as AnalyticGraphon
    from graphon_theory.graphons import ConstantGraphon as ConstantGraphon
    from graphon_theory.graphons import FunctionGraphon as FunctionGraphon
    from graphon_theory.graphons import Graphon as Graphon
    from graphon_theory.graphons import StepGraphon as StepGraphon
    from graphon_theory.graphons import as_graphon as as_graphon
    from graphon_theory.initialisations import balanced as balanced
    from graphon_theory.limits import kernel_density as kernel_density
    from graphon_theory.limits import limit_kernel as limit_kernel
    from graphon_theory.masks import PackedMask as PackedMask
    from graphon_theory.network_estimates import estimate_network as estimate_network
    from graphon_theory.networks import Network as Network
    from graphon_theory.pruning import Saliency as Saliency
    from graphon_theory.pruning import erk_densities as erk_densities
    from graphon_theory.pruning import magnitude_pruning as magnitude_pruning
    from graphon_theory.pruning import n_m_pruning as n_m_pruning
    from graphon_theory.pruning import prune_globally as prune_globally
    from graphon_theory.pruning import random_pruning as random_pruning
    from graphon_theory.pruning import saliency_pruning as saliency_pruning
    from graphon_theory.pruning import unit_pruning as unit_pruning
    from graphon_theory.reductions import scalar_reduction as scalar_reduction
    from graphon_theory.regressions import kernel_regression as kernel_regression
    from graphon_theory.regressions import nngp_posterior as nngp_posterior
    from graphon_theory.saliency_networks import saliency_network as saliency_network
    from graphon_theory.spectra import extend as extend
    from graphon_theory.spectra import spectrum as spectrum
    from graphon_theory.units import trace_units as trace_units
    from graphon_theory.variance_maps import criticality as criticality
    from graphon_theory.zonal_spectra import zonal_spectrum as zonal_spectrum
