"""limit_kernel: the Graphon NTK and NNGP kernel of a network in the limit of width (THEORY §3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, checked_dtype, truth
from graphon_theory.data.fingerprints import fingerprint
from graphon_theory.data.labels import LAYER, OUTPUT, X2, Variables, X, coords_of_inputs, dataset
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.engine.adjoint import layer_contributions
from graphon_theory.engine.discretisation import check_problem
from graphon_theory.engine.kernel_stores import filled_store
from graphon_theory.engine.lazy_kernels import cut, lazy_kernels, row_chunks
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.engine.shared_grams import SharedGrams
from graphon_theory.engine.threads import Progress, ProgressBar, checked_progress, checked_threads
from graphon_theory.errors import InputError
from graphon_theory.networks.network import Network

if TYPE_CHECKING:
    import xarray as xr


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
    store: str | os.PathLike[str] | None = None,
    tile: int | None = None,
    chunks: int | None = None,
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
        float64, or float32 for half the memory of the results and, for rectifiers and erf, about half the time: errors
        are then about 1e-6 relative to sqrt(K_ii K_jj), and for nearly coincident inputs of the order of
        sqrt(4 + d) eps / sqrt(1 - rho^2) of float32; ``quadrature_error`` is estimated for both.
    threads:
        Number of threads; by default numba's (NUMBA_NUM_THREADS). The numbers do not depend on it.
    progress:
        Show a progress bar on standard error; by default one that comes after two seconds, on a terminal. Or a function
        that is called with the pairs done and those in all.
    store, tile:
        The path of a folder, as in "kernel.zarr": tiles of ``tile`` rows and columns (2,048) are written there as they
        are done, and the results read them when they are asked for, so that memory holds no more than a tile for each
        thread. After any end of a run the same call goes on where it was: tiles that are whole, by their digests, are
        not computed again, others are. A store of another network, other inputs, another dtype, rtol, tile or version
        is refused. Both kernels take 2 N N2 numbers of disk. Needs the extra "scale".
    chunks:
        Give Dask arrays in blocks of so many inputs, computed when they are asked for by whatever scheduler Dask has;
        Dask-backed ``x`` give them in their own blocks. The inputs themselves are read here, and go to every worker.
        Every block runs on one thread, also on a cluster (dask.distributed). Needs the extra "scale".

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
    dtype, threads = checked_dtype(dtype), checked_threads(threads)
    truth("contributions", contributions)
    if store is not None and contributions:
        raise InputError("contributions: a store holds both kernels alone; leave out one of the two.")
    if tile is not None and store is None:
        raise InputError("tile: tiles are those of a store; give one, or leave it out.")
    own = row_chunks(x), None if x2 is None else row_chunks(x2)
    lazy = chunks is not None or any(own)
    if lazy and (store is not None or contributions):
        raise InputError(
            "chunks: Dask arrays hold both kernels alone, and no store; leave out store and contributions."
        )
    if store is None and not lazy:
        check_memory(network, first, second, dtype, contributions)
    progress = checked_progress(progress)
    ready = PreparedKernel.of(network, first, second, float(rtol), dtype)

    coords = coords_of_inputs(x, x2)
    if lazy:
        dims, pick = _form(network)
        rows, columns = (cut(chunks, len(one), had) for one, had in zip((first, ready.columns), own, strict=True))
        mean = ready.recursion.means(first)
        parts = [(dims, one[pick]) for one in lazy_kernels(ready, rows, columns)]
        blocks = {"nngp": parts[0], "ntk": parts[1], "mean": (dims[:-1], mean[pick])}
        return dataset(blocks, coords, ready.attrs)

    if store is None:
        return whole_kernels(ready, coords, contributions, threads=threads, progress=progress)
    with ProgressBar(progress) as report:
        return filled_store(ready, store, tile, threads, report).dataset(coords)


def whole_kernels(
    ready: PreparedKernel,
    coords: dict[str, Any],
    contributions: bool = False,
    *,
    grams: SharedGrams | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> xr.Dataset:
    """Both kernels in memory, as `limit_kernel` returns them; ``grams``: see `PreparedKernel.whole`."""
    dims, pick = _form(ready.network)

    def shares() -> FloatArray:
        return layer_contributions(ready.recursion, ready.x, ready.x2, threads=threads)

    with ProgressBar(progress) as report:
        made = ready.whole(shares if contributions else None, grams=grams, threads=threads, progress=report)
    nngp, ntk, layers = made
    mean = ready.recursion.means(ready.x)
    variables: Variables = {"nngp": (dims, nngp[pick]), "ntk": (dims, ntk[pick]), "mean": (dims[:-1], mean[pick])}
    if layers is not None:
        variables["ntk_layer"] = ((LAYER, *dims), layers[:, pick])
        coords = {**coords, LAYER: np.arange(1, ready.network.depth + 1)}
    found = dataset(variables, coords, ready.attrs)
    if ready.x2 is None:
        for name in ("nngp", "ntk"):
            found[name].attrs.update(fingerprint(found[name].values))
    return found


def _form(network: Network) -> tuple[tuple[str, ...], Any]:
    """Dimensions of the kernels, and what is picked of arrays with a leading output."""
    return ((X, X2), 0) if network.outputs == 1 else ((OUTPUT, X, X2), slice(None))


def check_memory(
    network: Network, x: FloatArray, x2: FloatArray | None, dtype: DTypeLike, contributions: bool = False
) -> None:
    """Refuse kernels in memory that there is not."""
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
