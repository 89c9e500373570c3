"""Finite masked networks in torch, held against the limit kernels of ``graphon_theory``.

    real = gv.width_sweep(net, x, widths=(256, 1024, 4096), seeds=range(8))
    gv.compare(real, gt.limit_kernel(net, x))

Everything here needs torch, which the theory package never imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(
        "graphon_validation builds finite networks with PyTorch, which is not installed; "
        "run: pip install 'graphon-theory[validation]'",
        name=__name__,  # by which `python -m graphon_validation` knows to say this in one line, without a traceback
    ) from error

from graphon_validation.experiments.design_experiments import design_experiment
from graphon_validation.kernels.device_kernels import device_kernel
from graphon_validation.kernels.empirical_kernels import empirical_kernel, kernel_product
from graphon_validation.networks.checkpoints import ZerosWarning, from_torch, to_torch
from graphon_validation.networks.masked_layers import MaskedLinear
from graphon_validation.networks.masked_mlps import MaskedMLP, build, choose_trained, dense
from graphon_validation.pruning.pruners import BranchLostWarning, LayerCollapseWarning, TiedScoresWarning, prune
from graphon_validation.studies.drawn_ensembles import compare_ensemble, trained_ensemble
from graphon_validation.studies.output_moments import sampled_nngp
from graphon_validation.studies.protocols import apply_protocol, law_network, mixture, theories
from graphon_validation.studies.sign_tests import applicability, applicability_table
from graphon_validation.studies.sweep_comparisons import compare
from graphon_validation.studies.sweeps import width_sweep
from graphon_validation.training.rewirings import Rewiring
from graphon_validation.training.trainers import mask_history, train

if TYPE_CHECKING:
    from graphon_validation.kernels.gpytorch_kernels import GraphonGPyTorchKernel as GraphonGPyTorchKernel

__all__ = [
    "BranchLostWarning",
    "LayerCollapseWarning",
    "MaskedLinear",
    "MaskedMLP",
    "Rewiring",
    "TiedScoresWarning",
    "ZerosWarning",
    "applicability",
    "applicability_table",
    "apply_protocol",
    "build",
    "choose_trained",
    "compare",
    "compare_ensemble",
    "dense",
    "design_experiment",
    "device_kernel",
    "empirical_kernel",
    "from_torch",
    "kernel_product",
    "law_network",
    "mask_history",
    "mixture",
    "prune",
    "sampled_nngp",
    "theories",
    "to_torch",
    "train",
    "trained_ensemble",
    "width_sweep",
]


def __getattr__(name: str) -> object:
    """What stands on GPyTorch, an extra: loaded where it is asked for."""
    if name != "GraphonGPyTorchKernel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from graphon_theory.data.checks import check_installed

    check_installed(name, {"gpytorch": "gpytorch"}, "gpytorch")
    from graphon_validation.kernels.gpytorch_kernels import GraphonGPyTorchKernel

    return GraphonGPyTorchKernel


def __dir__() -> list[str]:
    return sorted({*__all__, "GraphonGPyTorchKernel"})
