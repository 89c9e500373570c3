"""limit_kernel: the Graphon NTK and NNGP kernel of a network in the limit of width (THEORY §3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.data.checks import as_inputs, truth
from graphon_theory.data.labels import LAYER, OUTPUT, X2, Variables, X, coords_of_inputs, dataset
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.engine.adjoint import layer_contributions
from graphon_theory.engine.close_pairs import ClosePairs
from graphon_theory.engine.discretisation import FLOOR, check_problem, discretise
from graphon_theory.engine.recursion import Recursion, kernels
from graphon_theory.engine.reductions import reduced_operators
from graphon_theory.engine.samples import distinct
from graphon_theory.engine.spreads import spread
from graphon_theory.engine.threads import Progress, checked_threads, single_threaded_blas
from graphon_theory.engine.zonal import ZonalKernel
from graphon_theory.errors import InputError, shown
from graphon_theory.networks.network import Network

if TYPE_CHECKING:
    import xarray as xr

_ZONAL = 100_000  # pairs from which tabulating the network pays
_SPREAD = 4.0  # times an error of the duals of one layer is taken at the least; it may grow more on its way: spreads
_RECOMPUTED = 10_000_000_000  # multiplications that all pairs by their angles may cost
_PATIENCE = 2.0  # seconds from which progress is shown, whatever they are spent on


def limit_kernel(
    network: Network,
    x: ArrayLike | xr.DataArray,
    x2: ArrayLike | xr.DataArray | None = None,
    *,
    rtol: float = 1e-10,
    contributions: bool = False,
    dtype: DTypeLike = np.float64,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> xr.Dataset:
    """NNGP and NTK of the infinitely wide masked network, for all pairs of inputs.

        K^1(u) = sigma_w^2 (1/d) sum_j V^1(u,j) x_j x'_j + sigma_b^2
        K^l(u) = sigma_w^2 int V^l(u,v) C(K^{l-1}(v)) dv + sigma_b^2
        T^l(u) = sigma_w^2 int W^l(u,v) C dv + sigma_b^2 + sigma_w^2 int V^l(u,v) Cdot T^{l-1} dv

    ``nngp`` = K^L and ``ntk`` = T^L at the outputs [GL, with the own-layer mask factor; THEORY §3].

    Parameters
    ----------
    network:
        The :class:`Network`; with drift D the means mu^l(u) = sigma_w int D^l m^{l-1} dv are carried along, the duals
        are taken about them, and K^1 holds V - D^2/d.
    x, x2:
        Inputs (N, d) and (N2, d); x2 None means x. Labels of samples become coordinates; of columns they must agree.
    rtol:
        Tolerance of the quadrature, relative to sqrt(K_ii K_jj). Constant and step graphons are exact to rounding.
    contributions:
        Add ``ntk_layer`` ("layer", ..., "x", "x2"): the share of every weight layer, by the adjoint recursion.
        They add up to ``ntk``.
    dtype:
        float64, or float32 for half the memory of the results: errors are then about 1e-6 relative to
        sqrt(K_ii K_jj), and 2 eps / sqrt(1 - rho^2) of float32 for nearly coincident inputs.
    threads:
        Number of threads; by default numba's (NUMBA_NUM_THREADS). The numbers do not depend on it.
    progress:
        Show a progress bar on standard error; by default one that comes after two seconds, on a terminal. Or a function
        that is called with the pairs done and those in all.

    Returns
    -------
    Dataset with ``nngp``, ``ntk`` over ("x", "x2"), a leading "output" if the network has several, and ``mean``
    ("x",) of the outputs on ``x``, zero without drift. attrs: the network as text, ``quadrature_error`` (estimate,
    relative to sqrt(K_ii K_jj)), ``nodes`` per hidden layer, ``route``: "scalar" where the dense kernel and a number
    per layer do (scalar_reduction), "zonal" where one tabulated function of the correlation serves all positions,
    else "general".

    Raises InputError for bad data, NetworkError where data and network do not fit, QuadratureError where rtol is
    not reached.
    """
    first = as_inputs(x, "x")
    second = None if x2 is None else as_inputs(x2, "x2", like=x)
    check_problem(network, first, second, rtol)
    dtype, threads = _checked_dtype(dtype), checked_threads(threads)
    truth("contributions", contributions)
    _check_memory(network, first, second, dtype, contributions)
    if progress is not None and not callable(progress):
        truth("progress", progress)
    with single_threaded_blas():
        everything = first if second is None else np.concatenate([first, second])
        grid = discretise(network, distinct(everything), float(rtol))
        reduced = reduced_operators(network, grid.operators)
        recursion = Recursion(reduced or grid.operators, network.outline, everything, dtype, grid.weights)
        pairs = len(first) * len(first if second is None else second)
        zonal = ZonalKernel.of(recursion, everything) if pairs >= _ZONAL else None
        with _Bar(progress) as report:
            if zonal is None:
                nngp, ntk = kernels(recursion, first, second, threads=threads, progress=report)
            else:
                nngp, ntk = zonal.kernels(recursion, first, second, threads=threads, progress=report)
            layers = layer_contributions(recursion, first, second, threads=threads) if contributions else None
            close = ClosePairs(recursion, first, second)
            rounding = close.left_over()
            duals = recursion.dual_error
            if duals:
                duals = max(_SPREAD * duals, spread(recursion, distinct(everything)))
            if rounding > rtol and close.angular and pairs * recursion.work <= _RECOMPUTED:
                close, rounding = ClosePairs(recursion, first, second, radius=np.pi), 0.0
            close.refine(nngp, ntk, layers, threads=threads)
    single = network.outputs == 1
    dims: tuple[str, ...] = (X, X2) if single else (OUTPUT, X, X2)
    pick = 0 if single else slice(None)
    mean = recursion.means(first)
    variables: Variables = {"nngp": (dims, nngp[pick]), "ntk": (dims, ntk[pick]), "mean": (dims[:-1], mean[pick])}
    coords = coords_of_inputs(x, x2)
    if layers is not None:
        variables["ntk_layer"] = ((LAYER, *dims), layers[:, pick])
        coords[LAYER] = np.arange(1, network.depth + 1)
    error = max(grid.error, rounding, 0.0 if zonal is None else zonal.error, recursion.norm_error) + duals
    attrs = {
        "network": network.describe(),
        "quadrature_error": max(error, FLOOR * network.depth * float(np.finfo(recursion.dtype).eps) / EPS),
        "nodes": list(grid.sizes),
        "rtol": float(rtol),
        "route": "zonal" if zonal is not None else "scalar" if reduced is not None else "general",
    }
    return dataset(variables, coords, attrs)


def _check_memory(
    network: Network, x: FloatArray, x2: FloatArray | None, dtype: DTypeLike, contributions: bool
) -> None:
    rows, columns = len(x), len(x if x2 is None else x2)
    kernels = 2 + network.depth * bool(contributions)
    numbers = kernels * network.outputs * rows * columns
    half = " or dtype=numpy.float32," if dtype == np.float64 else ""
    refuse_beyond_memory(
        "x",
        numbers * np.dtype(dtype).itemsize,
        f"{kernels} kernels of {rows:,} x {columns:,} inputs and {network.outputs:,} outputs",
        f"take fewer inputs,{half} or pass blocks of inputs as x and x2",
    )


def _checked_dtype(dtype: Any) -> Any:
    try:
        found = np.dtype(dtype) if isinstance(dtype, str | type | np.dtype) else None
    except (TypeError, ValueError):  # a name of none
        found = None
    if found not in (np.float64, np.float32):
        raise InputError(f"dtype: expected float64 or float32, got {shown(dtype) if found is None else found}.")
    return found


class _Bar:
    """A rich progress bar over pairs on standard error: at once (True), never (False), or after a while (None).

    Entering gives the function to report to, which may be the caller's own.
    """

    def __init__(self, shown: bool | Progress | None) -> None:
        self.shown = shown
        self.bar: Any = None
        self.began = time.perf_counter()

    def __enter__(self) -> Progress | None:
        if callable(self.shown):
            return self.shown
        return None if self.shown is False else self._report

    def _report(self, done: int, total: int) -> None:
        if self.bar is None:
            if self.shown is None and time.perf_counter() - self.began < _PATIENCE:
                return
            from rich.console import Console
            from rich.progress import Progress as RichProgress

            where = Console(stderr=True)
            self.bar = RichProgress(console=where, transient=True, disable=not (self.shown or where.is_terminal))
            self.bar.add_task("limit kernel", total=1.0)
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=done / max(total, 1))

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
