"""One figure after another for many networks: parameters as dimensions, taken up again where a run ended."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from graphon_theory.data.checks import as_inputs, checked_dtype, checked_rtol, one_of, whole_number
from graphon_theory.data.files import file_path, load_dataset, save_dataset
from graphon_theory.data.grids import Axis, checked_axes, on_grid
from graphon_theory.data.labels import NETWORK, X2, X, coords_of_inputs
from graphon_theory.data.memory import available_memory
from graphon_theory.data.versions import __version__
from graphon_theory.engine.discretisation import check_problem
from graphon_theory.engine.lazy_kernels import row_chunks
from graphon_theory.engine.limits import check_memory, limit_kernel, whole_kernels
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.engine.shared_grams import SharedGrams
from graphon_theory.errors import GraphonError, InputError, NetworkError, shown_text
from graphon_theory.networks.network import Network
from graphon_theory.spectra.kernel_spectra import spectrum

if TYPE_CHECKING:
    import xarray as xr

Measure = Callable[[Network, "xr.Dataset"], "xr.Dataset"]

_MOST = 100_000  # networks of one sweep
_SHARE = 0.25  # of the memory that is free, which Gram matrices take at most
_TAKEN = (X, X2, "output", "mode", "layer")


def sweep(
    networks: Mapping[str, Network] | Callable[..., Network],
    x: ArrayLike | xr.DataArray,
    parameters: Mapping[str, Sequence[Any]] | None = None,
    *,
    x2: ArrayLike | xr.DataArray | None = None,
    measure: Measure | None = None,
    count: int | None = None,
    kernel: str = "ntk",
    store: str | os.PathLike[str] | None = None,
    rtol: float = 1e-10,
    dtype: DTypeLike = np.float64,
    chunks: int | None = None,
) -> xr.Dataset:
    """Limit kernels, or what is measured of them, of many networks on one data set.

    Kernels are bit for bit those of `limit_kernel`. Networks whose first layers have the same rows up to factors, as
    constants of any density, share the Gram matrices of the inputs: kept tile by tile while the sweep lasts, in no more
    memory than both kernels of one network take, nor than a quarter of what is free; what does not fit is formed by
    each network. Five networks of three hidden layers on 2,000 inputs of d = 784 then take a third less time (15 % less
    with 4 x 4 blocks in the first layer, which has four Gram matrices of a quarter of the inputs each). Below 128
    inputs a profile, as at d = 64, reading would cost what forming does, and nothing is shared; nor with ``chunks``.

    Args:
        networks: by name, which are then the dimension "network"; or a function of parameters by name that returns a
            Network, such as ``lambda density, depth: gt.Network([density] * depth)``.
        x, x2, rtol, dtype, chunks: as in `limit_kernel`; with ``chunks`` the kernels are Dask arrays.
        parameters: for a function, lists of values by parameter, in the order in which they become dimensions; all
            combinations are computed.
        measure: of (network, its kernels) a Dataset with the same dimensions for all; the kernels themselves if left
            out.
        count: instead of that, so many eigenvalues of ``kernel`` ("ntk" or "nngp") as `spectrum` returns them.
        store: a folder in which every network's result is a file, whole or not at all; a sweep that was ended goes on
            where it was. Files are known by network, inputs, options, version and the measure's name: give another
            folder where a measure of the same name has changed.

    Returns a Dataset over the parameters and the dimensions of what is measured, with ``quadrature_error`` over the
    parameters, and attrs ``computed``, how many were not in the store.

    Raises InputError, the errors of `limit_kernel` and `spectrum`, naming the parameters, and whatever ``measure``
    raises.
    """
    points, axes = _points(networks, parameters)
    inputs, other = as_inputs(x), None if x2 is None else as_inputs(x2, "x2", like=x)
    checked, rtol = checked_dtype(dtype), checked_rtol(rtol)
    if count is not None:
        if measure is not None:
            raise InputError("count: eigenvalues are a measure of their own; leave out count or measure.")
        whole_number("count", count, 1, len(inputs))
        if other is not None:
            raise InputError("count: eigenvalues are those of one set of inputs with itself; leave out count or x2.")
    one_of("kernel", kernel, ("ntk", "nngp"))
    if measure is not None and not callable(measure):
        raise InputError(f"measure: expected a function of (network, kernels), got {type(measure).__name__}.")
    if store is not None and chunks is not None and measure is None and count is None:
        raise InputError("chunks: a store would compute the kernels; leave out store or chunks, or measure something.")
    folder = None if store is None else _folder(store)
    about = (
        *(__version__, rtol, str(checked), count, kernel, getattr(measure, "__qualname__", repr(measure))),
        *(_hashed(one) for one in (inputs, other)),
        *(_hashed(np.asarray(one, dtype=str)) for one in _labels(x, x2)),
    )
    lazy = chunks is not None or any(row_chunks(one) for one in (x, x2))
    pairs = len(inputs) * len(inputs if other is None else other)
    both = 2.0 * pairs * checked.itemsize  # bytes of a network's kernels
    grams = SharedGrams(min(both, _SHARE * available_memory()))

    def kernels_of(network: Network) -> xr.Dataset:
        if lazy:
            return limit_kernel(network, x, x2, rtol=rtol, dtype=checked, chunks=chunks)
        check_problem(network, inputs, other, rtol)
        check_memory(network, inputs, other, checked)
        ready = PreparedKernel.of(network, inputs, other, rtol, checked)
        return whole_kernels(ready, coords_of_inputs(x, x2), grams=grams)

    parts, computed = [], 0
    for point in points:
        network = _made(networks, point)
        name = hashlib.sha256(repr((about, sorted(point.items(), key=str), network.describe())).encode()).hexdigest()
        part = None if folder is None else _loaded(folder / f"{name}.nc")
        if part is None:
            try:
                kernels = kernels_of(network)
                part = _measured(network, kernels, measure, count, kernel)
            except GraphonError as error:
                raise type(error)(f"{_named(point)}: {error}") from None
            part = part.assign(quadrature_error=float(kernels.attrs["quadrature_error"]))
            computed += 1
            if folder is not None:
                save_dataset(part, folder / f"{name}.nc")
        parts.append(part)
    return on_grid(parts, axes, {"computed": computed})


def _points(networks: Any, parameters: Any) -> tuple[list[dict[str, Any]], list[Axis]]:
    """The parameters of every network, and the axes that they lie on."""
    if isinstance(networks, Mapping):
        if parameters is not None:
            raise InputError("parameters: they are those of a function of networks; networks by name have none.")
        if not networks:
            raise InputError("networks: expected at least one network by name, got none.")
        axes = checked_axes({NETWORK: list(networks)}, _TAKEN, _MOST)
    elif callable(networks):
        if parameters is None:
            raise InputError("parameters: expected lists of values by name, which the function takes.")
        axes = checked_axes(parameters, _TAKEN, _MOST)
    else:
        raise InputError(
            f"networks: expected networks by name or a function of parameters, got {type(networks).__name__}."
        )
    names = [one.name for one in axes]
    return [dict(zip(names, each, strict=True)) for each in itertools.product(*(one.values for one in axes))], axes


def _made(networks: Any, point: dict[str, Any]) -> Network:
    try:
        made = networks[point[NETWORK]] if isinstance(networks, Mapping) else networks(**point)
    except GraphonError as error:
        raise type(error)(f"{_named(point)}: {error}") from None
    if not isinstance(made, Network):
        raise NetworkError(f"networks: expected a Network for {_named(point)}, got {type(made).__name__}.")
    return made


def _named(point: dict[str, Any]) -> str:
    return shown_text(", ".join(f"{name}={value}" for name, value in point.items()))


def _measured(network: Network, kernels: xr.Dataset, measure: Measure | None, count: int | None, kernel: str) -> Any:
    if count is not None:
        if network.outputs != 1:
            raise NetworkError(f"network: expected one output, got {network.outputs}; take the outputs one at a time.")
        return spectrum(kernels[kernel], count)[["eigenvalue", "energy"]]
    if measure is None:
        return kernels
    found = measure(network, kernels)
    if not hasattr(found, "data_vars"):
        raise InputError(f"measure: expected a function that returns a Dataset, got {type(found).__name__} from it.")
    return found


def _folder(store: Any) -> Path:
    folder = file_path("store", store, "a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"store: {shown_text(str(folder))} cannot be made ({error.strerror}).") from None
    return folder


def _loaded(path: Path) -> xr.Dataset | None:
    """What a file holds; None where it is not there or damaged, and is computed again."""
    if not path.exists():
        return None
    try:
        return load_dataset(path)
    except InputError:
        return None


def _hashed(values: Any) -> str:
    array = np.ascontiguousarray(values) if values is not None else np.zeros(0)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).hexdigest()


def _labels(*inputs: Any) -> list[Any]:
    from graphon_theory.data.labels import samples_of

    return ["" if one is None or samples_of(one).values is None else samples_of(one).values for one in inputs]
