"""Limit kernels of sparse neural networks.

The names below load on first use, so that ``import graphon_theory`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from graphon_theory.data.versions import __version__

_MODULES = {
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
    "graphons.analytic": ("AnalyticGraphon",),
    "graphons.callables": ("FunctionGraphon",),
    "graphons.conversions": ("as_graphon",),
    "graphons.graphon": (
        "ConstantGraphon",
        "Graphon",
        "StepGraphon",
    ),
    "activations.activation": (
        "Activation",
        "as_activation",
    ),
    "networks.connectivity": (
        "Connectivity",
        "Known",
    ),
    "networks.network": ("Network",),
    "networks.stages": (
        "Dense",
        "LayerNorm",
        "Pointwise",
        "Residual",
    ),
    "designs.fits": (
        "Fit",
        "fit",
    ),
    "designs.graphon_designs": (
        "Design",
        "DesignWarning",
        "design",
    ),
    "designs.graphon_flows": (
        "GraphonFlow",
        "graphon_flow",
    ),
    "designs.kernel_gradients": (
        "KernelGradient",
        "kernel_gradient",
    ),
    "designs.drawn_masks": (
        "DeadUnitsWarning",
        "sample_masks",
    ),
    "designs.objectives": ("objective",),
    "designs.transfers": (
        "Transfer",
        "transfer",
    ),
    "engine.densities": (
        "kernel_density",
        "marginals",
    ),
    "engine.kernel_operators": ("kernel_operator",),
    "engine.limits": ("limit_kernel",),
    "engine.nystrom_kernels": ("nystrom_kernel",),
    "pruning.laws": (
        "Saliency",
        "erk_densities",
        "magnitude_pruning",
        "n_m_pruning",
        "prune_globally",
        "random_pruning",
        "saliency_pruning",
        "unit_pruning",
    ),
    "pruning.saliency_networks": ("saliency_network",),
    "pruning.synflow_networks": (
        "Amplification",
        "SynFlowNetwork",
        "synflow_network",
    ),
    "estimation.coherences": (
        "Coherence",
        "CoherenceWarning",
        "coherence",
        "coherence_growth",
    ),
    "estimation.distances": (
        "align",
        "cut_distance",
        "cut_norm",
        "l2_distance",
        "operator_norm",
    ),
    "estimation.graphon_paths": (
        "graphon_path",
        "network_path",
    ),
    "estimation.mask_estimates": ("estimate_graphon",),
    "estimation.masks": ("PackedMask",),
    "estimation.network_estimates": (
        "WeightScaleWarning",
        "estimate_network",
    ),
    "estimation.units": ("trace_units",),
    "spectra.alignments": ("target_alignment",),
    "spectra.graphon_spectra": ("graphon_spectrum",),
    "spectra.kernel_spectra": (
        "extend",
        "spectrum",
    ),
    "spectra.spectrum_paths": ("spectrum_path",),
    "spectra.zonal_spectra": ("zonal_spectrum",),
    "exact.closed_forms": ("closed_form",),
    "exact.exact_graphons": (
        "exact_degrees",
        "exact_mean",
        "exact_product",
        "exact_spectrum",
    ),
    "exact.scalar_reductions": ("scalar_reduction",),
    "training.dynamics": (
        "best_stopping_time",
        "critical_learning_rate",
        "gradient_descent",
        "gradient_flow",
        "steps_to_loss",
        "time_to_loss",
    ),
    "training.divergence_rates": ("divergence_learning_rate",),
    "training.ensembles": ("training_ensemble",),
    "training.generalisation": (
        "LearningCurveWarning",
        "eigenlearning",
        "learning_curve",
        "measured_learning_curve",
    ),
    "training.regressions": (
        "kernel_regression",
        "nngp_posterior",
    ),
    "signals.initialisations": ("balanced",),
    "signals.variance_maps": ("criticality",),
    "reports.comparisons": (
        "compare_networks",
        "comparison_table",
    ),
    "reports.parameter_sweeps": ("sweep",),
}
# They load scikit-learn, an extra: `from graphon_theory import *` does without.
_WITH_SCIKIT_LEARN = {
    "estimators.kernel_estimators": (
        "GraphonKernel",
        "GraphonKernelClassifier",
        "GraphonKernelRegressor",
    ),
    "estimators.process_kernels": ("GraphonGPKernel",),
}
_HOME = {name: module for table in (_MODULES, _WITH_SCIKIT_LEARN) for module, names in table.items() for name in names}
_WINGS = (
    "errors",
    "plots",
    "datasets",
    "activations",
    "data",
    "designs",
    "engine",
    "estimation",
    "estimators",
    "exact",
    "graphons",
    "networks",
    "numerics",
    "pruning",
    "reports",
    "signals",
    "spectra",
    "training",
)

__all__ = [*sorted(name for names in _MODULES.values() for name in names), "__version__", "datasets", "plots"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _WINGS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What users call; wings and modules are there by their names all the same."""
    return sorted({*__all__, *_HOME})


if TYPE_CHECKING:
    from graphon_theory import datasets as datasets
    from graphon_theory import plots as plots
    from graphon_theory.activations.activation import Activation as Activation
    from graphon_theory.activations.activation import as_activation as as_activation
    from graphon_theory.designs.drawn_masks import DeadUnitsWarning as DeadUnitsWarning
    from graphon_theory.designs.drawn_masks import sample_masks as sample_masks
    from graphon_theory.designs.fits import Fit as Fit
    from graphon_theory.designs.fits import fit as fit
    from graphon_theory.designs.graphon_designs import Design as Design
    from graphon_theory.designs.graphon_designs import DesignWarning as DesignWarning
    from graphon_theory.designs.graphon_designs import design as design
    from graphon_theory.designs.graphon_flows import GraphonFlow as GraphonFlow
    from graphon_theory.designs.graphon_flows import graphon_flow as graphon_flow
    from graphon_theory.designs.kernel_gradients import KernelGradient as KernelGradient
    from graphon_theory.designs.kernel_gradients import kernel_gradient as kernel_gradient
    from graphon_theory.designs.objectives import objective as objective
    from graphon_theory.designs.transfers import Transfer as Transfer
    from graphon_theory.designs.transfers import transfer as transfer
    from graphon_theory.engine.densities import kernel_density as kernel_density
    from graphon_theory.engine.densities import marginals as marginals
    from graphon_theory.engine.kernel_operators import kernel_operator as kernel_operator
    from graphon_theory.engine.limits import limit_kernel as limit_kernel
    from graphon_theory.engine.nystrom_kernels import nystrom_kernel as nystrom_kernel
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
    from graphon_theory.estimation.coherences import Coherence as Coherence
    from graphon_theory.estimation.coherences import CoherenceWarning as CoherenceWarning
    from graphon_theory.estimation.coherences import coherence as coherence
    from graphon_theory.estimation.coherences import coherence_growth as coherence_growth
    from graphon_theory.estimation.distances import align as align
    from graphon_theory.estimation.distances import cut_distance as cut_distance
    from graphon_theory.estimation.distances import cut_norm as cut_norm
    from graphon_theory.estimation.distances import l2_distance as l2_distance
    from graphon_theory.estimation.distances import operator_norm as operator_norm
    from graphon_theory.estimation.graphon_paths import graphon_path as graphon_path
    from graphon_theory.estimation.graphon_paths import network_path as network_path
    from graphon_theory.estimation.mask_estimates import estimate_graphon as estimate_graphon
    from graphon_theory.estimation.masks import PackedMask as PackedMask
    from graphon_theory.estimation.network_estimates import WeightScaleWarning as WeightScaleWarning
    from graphon_theory.estimation.network_estimates import estimate_network as estimate_network
    from graphon_theory.estimation.units import trace_units as trace_units
    from graphon_theory.estimators.kernel_estimators import GraphonKernel as GraphonKernel
    from graphon_theory.estimators.kernel_estimators import GraphonKernelClassifier as GraphonKernelClassifier
    from graphon_theory.estimators.kernel_estimators import GraphonKernelRegressor as GraphonKernelRegressor
    from graphon_theory.estimators.process_kernels import GraphonGPKernel as GraphonGPKernel
    from graphon_theory.exact.closed_forms import closed_form as closed_form
    from graphon_theory.exact.exact_graphons import exact_degrees as exact_degrees
    from graphon_theory.exact.exact_graphons import exact_mean as exact_mean
    from graphon_theory.exact.exact_graphons import exact_product as exact_product
    from graphon_theory.exact.exact_graphons import exact_spectrum as exact_spectrum
    from graphon_theory.exact.scalar_reductions import scalar_reduction as scalar_reduction
    from graphon_theory.graphons.analytic import AnalyticGraphon as AnalyticGraphon
    from graphon_theory.graphons.callables import FunctionGraphon as FunctionGraphon
    from graphon_theory.graphons.conversions import as_graphon as as_graphon
    from graphon_theory.graphons.graphon import ConstantGraphon as ConstantGraphon
    from graphon_theory.graphons.graphon import Graphon as Graphon
    from graphon_theory.graphons.graphon import StepGraphon as StepGraphon
    from graphon_theory.networks.connectivity import Connectivity as Connectivity
    from graphon_theory.networks.connectivity import Known as Known
    from graphon_theory.networks.network import Network as Network
    from graphon_theory.networks.stages import Dense as Dense
    from graphon_theory.networks.stages import LayerNorm as LayerNorm
    from graphon_theory.networks.stages import Pointwise as Pointwise
    from graphon_theory.networks.stages import Residual as Residual
    from graphon_theory.pruning.laws import Saliency as Saliency
    from graphon_theory.pruning.laws import erk_densities as erk_densities
    from graphon_theory.pruning.laws import magnitude_pruning as magnitude_pruning
    from graphon_theory.pruning.laws import n_m_pruning as n_m_pruning
    from graphon_theory.pruning.laws import prune_globally as prune_globally
    from graphon_theory.pruning.laws import random_pruning as random_pruning
    from graphon_theory.pruning.laws import saliency_pruning as saliency_pruning
    from graphon_theory.pruning.laws import unit_pruning as unit_pruning
    from graphon_theory.pruning.saliency_networks import saliency_network as saliency_network
    from graphon_theory.pruning.synflow_networks import Amplification as Amplification
    from graphon_theory.pruning.synflow_networks import SynFlowNetwork as SynFlowNetwork
    from graphon_theory.pruning.synflow_networks import synflow_network as synflow_network
    from graphon_theory.reports.comparisons import compare_networks as compare_networks
    from graphon_theory.reports.comparisons import comparison_table as comparison_table
    from graphon_theory.reports.parameter_sweeps import sweep as sweep
    from graphon_theory.signals.initialisations import balanced as balanced
    from graphon_theory.signals.variance_maps import criticality as criticality
    from graphon_theory.spectra.alignments import target_alignment as target_alignment
    from graphon_theory.spectra.graphon_spectra import graphon_spectrum as graphon_spectrum
    from graphon_theory.spectra.kernel_spectra import extend as extend
    from graphon_theory.spectra.kernel_spectra import spectrum as spectrum
    from graphon_theory.spectra.spectrum_paths import spectrum_path as spectrum_path
    from graphon_theory.spectra.zonal_spectra import zonal_spectrum as zonal_spectrum
    from graphon_theory.training.divergence_rates import divergence_learning_rate as divergence_learning_rate
    from graphon_theory.training.dynamics import best_stopping_time as best_stopping_time
    from graphon_theory.training.dynamics import critical_learning_rate as critical_learning_rate
    from graphon_theory.training.dynamics import gradient_descent as gradient_descent
    from graphon_theory.training.dynamics import gradient_flow as gradient_flow
    from graphon_theory.training.dynamics import steps_to_loss as steps_to_loss
    from graphon_theory.training.dynamics import time_to_loss as time_to_loss
    from graphon_theory.training.ensembles import training_ensemble as training_ensemble
    from graphon_theory.training.generalisation import LearningCurveWarning as LearningCurveWarning
    from graphon_theory.training.generalisation import eigenlearning as eigenlearning
    from graphon_theory.training.generalisation import learning_curve as learning_curve
    from graphon_theory.training.generalisation import measured_learning_curve as measured_learning_curve
    from graphon_theory.training.regressions import kernel_regression as kernel_regression
    from graphon_theory.training.regressions import nngp_posterior as nngp_posterior
