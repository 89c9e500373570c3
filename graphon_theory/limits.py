"""limit_kernel: the Graphon NTK and NNGP kernel of a network in the limit of width (THEORY §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.discretisation import discretise
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.networks import Network
from graphon_theory.recursion import Progress, Recursion, kernels
from graphon_theory.results import OUTPUT, X2, X, as_inputs, coords_of, dataset
from graphon_theory.rules import FloatArray

if TYPE_CHECKING:
    import xarray as xr

_WATCHED = 50_000_000  # pairs x positions beyond which progress is shown


def limit_kernel(
    network: Network,
    x: ArrayLike | xr.DataArray,
    x2: ArrayLike | xr.DataArray | None = None,
    *,
    rtol: float = 1e-10,
    threads: int | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """NNGP and NTK of the infinitely wide masked network, for all pairs of inputs.

        K^1(u) = sigma_w^2 (1/d) sum_j V^1(u,j) x_j x'_j + sigma_b^2
        K^l(u) = sigma_w^2 int V^l(u,v) C(K^{l-1}(v)) dv + sigma_b^2
        T^l(u) = sigma_w^2 int W^l(u,v) C dv + sigma_b^2 + sigma_w^2 int V^l(u,v) Cdot T^{l-1} dv

    ``nngp`` = K^L and ``ntk`` = T^L at the outputs [GL, with the own-layer mask factor; THEORY §3].

    Parameters
    ----------
    network:
        The :class:`Network`; its graphons must not carry drift.
    x, x2:
        Inputs (N, d) and (N2, d); x2 None means x.
    rtol:
        Tolerance of the quadrature, relative to sqrt(K_ii K_jj). Constant and step graphons are exact to rounding.
    threads:
        Number of threads; by default numba's (NUMBA_NUM_THREADS). The numbers do not depend on it.
    progress:
        Show a progress bar; by default only for long runs.

    Returns
    -------
    Dataset with ``nngp``, ``ntk`` over ("x", "x2"), a leading "output" if the network has several, and ``mean``
    ("x",), zero without drift. attrs: the network as text, ``quadrature_error`` (estimate, relative to
    sqrt(K_ii K_jj)), ``nodes`` per hidden layer.

    Raises InputError for bad data, NetworkError where data and network do not fit, QuadratureError where rtol is
    not reached.
    """
    first = as_inputs(x, "x")
    second = None if x2 is None else as_inputs(x2, "x2")
    _check(network, first, second, rtol)
    everything = first if second is None else np.concatenate([first, second])
    grid = discretise(network, _distinct(everything), float(rtol))
    recursion = Recursion(grid.operators, network.activation)
    work = len(first) * len(first if second is None else second) * sum((*grid.sizes, 1))
    shown = work > _WATCHED * 100 if progress is None else progress
    with _Bar(shown) as report:
        nngp, ntk = kernels(recursion, first, second, threads=threads, progress=report)
    if network.outputs == 1:
        nngp, ntk, dims = nngp[0], ntk[0], (X, X2)
        mean_dims: tuple[str, ...] = (X,)
        mean = np.zeros(len(first))
    else:
        dims = (OUTPUT, X, X2)  # type: ignore[assignment]
        mean_dims = (OUTPUT, X)
        mean = np.zeros((network.outputs, len(first)))
    coords = {**coords_of(x, X), **coords_of(x if x2 is None else x2, X2)}
    attrs = {
        "network": network.describe(),
        "quadrature_error": grid.error,
        "nodes": list(grid.sizes),
        "rtol": float(rtol),
    }
    return dataset({"nngp": (dims, nngp), "ntk": (dims, ntk), "mean": (mean_dims, mean)}, coords, attrs)


def _distinct(inputs: FloatArray) -> FloatArray:
    """Distinct rows in a fixed order, so that repeated inputs do not change the choice of nodes."""
    return np.unique(inputs, axis=0)


def _check(network: Network, x: FloatArray, x2: FloatArray | None, rtol: float) -> None:
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    if x2 is not None and x2.shape[1] != x.shape[1]:
        raise InputError(f"x2: expected {x.shape[1]} inputs like x, got shape {x2.shape}.")
    if not 1e-14 <= float(rtol) < 1:
        raise InputError(f"rtol: expected a tolerance between 1e-14 and 1, got {rtol!r}.")
    if network.has_drift:
        raise NetworkError(
            "network: a layer carries drift D, which this version of limit_kernel cannot carry through; leave drift "
            "out to get the (W, V) kernel, knowing that it is biased."
        )
    if network.parameterization == "standard":
        assert network.widths is not None
        if network.widths[0] != x.shape[1]:
            raise NetworkError(
                f"widths: n_0 must equal the number of inputs, got n_0 = {network.widths[0]} and d = {x.shape[1]}."
            )
    largest = float(np.abs(x).max(initial=0.0))
    if x2 is not None:
        largest = max(largest, float(np.abs(x2).max(initial=0.0)))
    if largest > 1e100:
        raise InputError(f"x: values up to {largest:.3g} overflow when squared; rescale the inputs.")


class _Bar:
    """A rich progress bar over pairs, or nothing."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.bar: Any = None

    def __enter__(self) -> Progress | None:
        if not self.shown:
            return None
        from rich.progress import Progress as RichProgress

        self.bar = RichProgress(transient=True)
        task = self.bar.add_task("limit kernel", total=1.0)
        self.bar.start()

        def report(done: int, total: int) -> None:
            self.bar.update(task, completed=done / max(total, 1))

        return report

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
