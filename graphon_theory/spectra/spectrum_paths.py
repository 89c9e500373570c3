"""The spectrum of the limit kernel along a path of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from graphon_theory.data.labels import LAYER, MODE, TIME, dataset
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, shown
from graphon_theory.estimation.graphon_paths import checked_clock
from graphon_theory.networks.network import Network
from graphon_theory.spectra.kernel_spectra import spectrum

if TYPE_CHECKING:
    import xarray as xr


def spectrum_path(
    networks: Sequence[Any], x: Any, times: Sequence[float] | None = None, count: int = 10, **options: Any
) -> xr.Dataset:
    """The spectrum of the limit NTK along a path of networks.

    ``networks`` is what :func:`network_path` returns, or any sequence of lists of layers or of Networks; ``options`` go
    to :class:`Network` (activation, outputs, ...). The kernel is that of the first output. Returns ``eigenvalue`` and
    ``energy`` ("time", "mode"), ``trace`` ("time"; mean of the kernel's diagonal), and ``density`` ("time", "layer").

    Raises InputError (no networks, unknown options, times that do not fit), and as :func:`limit_kernel` and
    :func:`spectrum` do.
    """
    if not isinstance(networks, Sequence) or isinstance(networks, str) or not networks:
        raise InputError(f"networks: expected a list of networks, got {shown(networks)}.")
    unknown = sorted(set(options) - {one.name for one in fields(Network)} | {"layers"} & set(options))
    if unknown:
        raise InputError(f"options: expected arguments of gt.Network, got {', '.join(unknown)}.")
    clock = checked_clock(times, len(networks))
    nets = [one if isinstance(one, Network) else Network(one, **options) for one in networks]
    eigenvalues, energies, traces = [], [], []
    for net in nets:
        kernel = limit_kernel(net, x).ntk
        kernel = kernel.isel(output=0) if "output" in kernel.dims else kernel
        modes = spectrum(kernel, count)
        eigenvalues.append(modes.eigenvalue.values)
        energies.append(modes.energy.values)
        traces.append(float(np.diagonal(kernel.values).mean()))
    density = np.array([[layer.mask.mean() for layer in net.layers] for net in nets])
    return dataset(
        {
            "eigenvalue": ((TIME, MODE), np.stack(eigenvalues)),
            "energy": ((TIME, MODE), np.stack(energies)),
            "trace": ((TIME,), np.array(traces)),
            "density": ((TIME, LAYER), density),
        },
        {TIME: clock, MODE: np.arange(1, len(eigenvalues[0]) + 1), LAYER: np.arange(1, density.shape[1] + 1)},
    )
