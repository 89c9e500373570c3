"""Limit kernels on a device of torch: the recursion of ``graphon_theory.limit_kernel`` in tiles on a GPU.

Nodes, error estimate, diagonals and close pairs are those of the engine, on the CPU, once; what costs N^2 runs here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike
from torch import Tensor
from xarray import DataArray, Dataset

from graphon_theory.activations.activation import Activation, as_activation
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, checked_dtype, whole_number
from graphon_theory.data.labels import OUTPUT, X2, Variables, X, coords_of_inputs, dataset
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.engine.angles import AngularForm
from graphon_theory.engine.discretisation import check_problem
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.errors import NetworkError
from graphon_theory.networks.network import Network
from graphon_validation.networks.masked_mlps import checked_place

_HELD = 2**26  # numbers of one field of a tile, positions times pairs, of which a few are held at once
_LARGEST_TILE = 16_384

# C and Cdot from K and the roots of K(x, x), K(x', x') at the positions of a layer
_Duals = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def device_kernel(
    network: Network,
    x: ArrayLike | DataArray,
    x2: ArrayLike | DataArray | None = None,
    *,
    device: str | torch.device = "cuda",
    rtol: float = 1e-10,
    dtype: DTypeLike = np.float32,
    tile: int | None = None,
) -> Dataset:
    """``graphon_theory.limit_kernel`` on a device: the same Dataset, its pairs computed by torch.

    For plain networks without drift whose activations are rectifiers (relu, leaky_relu, abs, identity) or erf; step
    graphons, constants and any others, through their nodes. In float32 sums of products have about eight digits, and
    an angle theta of two inputs is known to 1e-7 / theta, as in the engine's float32; float64 is as precise as the
    engine. Close pairs are put right by the engine in either.

    Args:
        network, x, x2, rtol, dtype: as in ``limit_kernel``; float32 is the default here.
        device: as torch names it: "cuda", "cuda:1", "cpu".
        tile: rows and columns that are computed together, chosen by the number of positions if left out.

    Returns the Dataset of ``limit_kernel``, on the CPU, whose attrs name the ``device``.

    Raises as ``limit_kernel``, NetworkError for networks of other kinds, and InputError for a device that is not there.
    """
    first = as_inputs(x, "x")
    second = None if x2 is None else as_inputs(x2, "x2", like=x)
    check_problem(network, first, second, rtol)
    kind = checked_dtype(dtype)
    checked_place(device, torch.float32)
    side = None if tile is None else whole_number("tile", tile, 1)
    if not network.is_plain or network.has_drift:
        raise NetworkError("network: expected weight layers and activations alone, without drift; use gt.limit_kernel.")
    duals = [_duals_of(one) for one in network.activations]
    rows, columns = len(first), len(first if second is None else second)
    what = f"two kernels of {rows:,} x {columns:,} inputs"
    refuse_beyond_memory("x", 2 * network.outputs * rows * columns * kind.itemsize, what, "take fewer inputs")
    ready = PreparedKernel.of(network, first, second, float(rtol), kind)
    if ready.recursion.returns is not None:
        raise NetworkError("network: expected layers that hand nothing back, as SNIP's do; use gt.limit_kernel.")
    nngp, ntk = (np.empty((network.outputs, rows, columns), dtype=kind) for _ in range(2))
    run = _Run(ready.recursion.operators, duals, device, torch.float32 if kind == np.float32 else torch.float64)
    _fill(run, first, second, nngp, ntk, side or run.side)
    if second is None:
        every = np.arange(rows)
        nngp[:, every, every], ntk[:, every, every] = ready.diagonal("nngp"), ready.diagonal("ntk")
    ready.close.refine(nngp, ntk, None)
    single = network.outputs == 1
    dims: tuple[str, ...] = (X, X2) if single else (OUTPUT, X, X2)
    pick: Any = 0 if single else slice(None)
    variables: Variables = {"nngp": (dims, nngp[pick]), "ntk": (dims, ntk[pick])}
    variables["mean"] = (dims[:-1], np.zeros((network.outputs, rows))[pick])
    return dataset(variables, coords_of_inputs(x, x2), {**ready.attrs, "route": "device", "device": str(device)})


def _fill(run: _Run, x: FloatArray, x2: FloatArray | None, nngp: FloatArray, ntk: FloatArray, side: int) -> None:
    left = [(at, run.ready(x[at])) for at in _slices(len(x), side)]
    right = left if x2 is None else [(at, run.ready(x2[at])) for at in _slices(len(x2), side)]
    for i, (rows, one) in enumerate(left):
        for j, (columns, other) in enumerate(right):
            if x2 is None and j < i:
                continue
            found = [values.cpu().numpy() for values in run.pairs(one, other)]
            for whole, values in zip((nngp, ntk), found, strict=True):
                whole[:, rows, columns] = values
                if x2 is None and j > i:
                    whole[:, columns, rows] = values.swapaxes(1, 2)


def _slices(size: int, side: int) -> Iterator[slice]:
    return (slice(start, min(start + side, size)) for start in range(0, size, side))


class _Run:
    """The operators of a network on a device."""

    def __init__(
        self, operators: tuple[LayerOperator, ...], duals: list[_Duals], device: Any, dtype: torch.dtype
    ) -> None:
        self.device, self.dtype, self.duals = device, dtype, duals
        if any(op.conditioning is not None for op in operators):
            raise NetworkError("network: expected layers of unknown parameters; use gt.limit_kernel.")
        self.layers = [
            (self._on(op.variance), None if op.mask is None else self._on(op.mask), op.bias, op.trained_bias)
            for op in operators
        ]
        most = max(len(op.variance) for op in operators)
        self.side = max(256, min(_LARGEST_TILE, math.isqrt(_HELD // most)))

    def _on(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, self.dtype)

    def ready(self, x: FloatArray) -> tuple[Tensor, list[Tensor]]:
        """Inputs on the device, and the roots of K(x, x) at the positions of every hidden layer, (positions, n)."""
        inputs, roots = self._on(x), []
        square = (inputs * inputs).T
        for (variance, _, bias, _), duals in zip(self.layers, self.duals, strict=False):
            root = (variance @ square + bias).clamp_min(0).sqrt()
            roots.append(root)
            square = duals(root * root, root, root)[0]
        return inputs, roots

    def pairs(self, left: tuple[Tensor, list[Tensor]], right: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, Tensor]:
        """NNGP and NTK (outputs, n, n2).

        K = V C + sigma_b^2,   T = W C + t_b + V S,   S = Cdot T,   with C = x x' and no S below the first layer.
        """
        second = tangent = None
        for number, (variance, mask, bias, trained) in enumerate(self.layers):
            if number == 0:
                k = _first(variance, left[0], right[0])
                own = k if mask is None else _first(mask, left[0], right[0])
            else:
                assert second is not None
                k = torch.tensordot(variance, second, 1)
                own = k if mask is None else torch.tensordot(mask, second, 1)
            t = own + trained
            if tangent is not None:
                t += torch.tensordot(variance, tangent, 1)
            k = k + bias
            if number < len(self.duals):
                second, slope = self.duals[number](k, left[1][number][:, :, None], right[1][number][:, None, :])
                tangent = slope * t
        return k, t


def _first(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """sum_j w_uj x_j y_j (positions, n, n2); positions of the same weights are one product."""
    rows, place = torch.unique(weights, dim=0, return_inverse=True)
    return torch.stack([(x * row) @ y.T for row in rows])[place]


def _duals_of(activation: Activation) -> _Duals:
    form = AngularForm.of(activation)
    if form is not None and not form.jumps:
        return lambda k, a, b: _rectified(form.first, form.second, k, a, b)
    if activation == as_activation("identity"):
        return lambda k, a, b: (k, torch.ones_like(k))
    if activation == as_activation("erf"):
        return _erf
    raise NetworkError(f"activation: expected relu, leaky_relu, abs, identity or erf, got {activation.name}.")


def _rectified(first: float, second: float, k: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Lines of two slopes [Cho and Saul 2009]: with cos theta = K / (a b),

    C = first K + second (a b sin theta + (pi - theta) K) / (2 pi),   Cdot = first + second (pi - theta) / (2 pi).
    """
    scale = a * b
    rho = torch.where(scale > 0, k / scale, torch.zeros_like(k)).clamp(-1, 1)
    share = (math.pi - torch.acos(rho)) * (second / (2 * math.pi))
    root = ((1 - rho) * (1 + rho)).clamp_min(0).sqrt()
    return k * (first + share) + scale * root * (second / (2 * math.pi)), first + share


def _erf(k: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """[Williams 1997], s^2 = (1 + 2 a^2)(1 + 2 b^2): C = (2/pi) arcsin(2 K / s), Cdot = (4/pi) / sqrt(s^2 - 4 K^2)."""
    s = ((1 + 2 * a * a) * (1 + 2 * b * b)).sqrt()
    return torch.asin((2 * k / s).clamp(-1, 1)) * (2 / math.pi), (4 / math.pi) / ((s - 2 * k) * (s + 2 * k)).sqrt()
