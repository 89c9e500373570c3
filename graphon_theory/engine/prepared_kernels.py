"""A network made ready for its inputs once: its kernels then come whole or block by block, with one error estimate.

Blocks are computed as the whole is, with the same nodes, duals and radius of close pairs, so that it does not matter
which of them were asked for, where, or when.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.data.versions import __version__
from graphon_theory.engine.close_pairs import ClosePairs
from graphon_theory.engine.discretisation import FLOOR, discretise
from graphon_theory.engine.recursion import Recursion, kernels
from graphon_theory.engine.reductions import reduced_operators
from graphon_theory.engine.samples import distinct
from graphon_theory.engine.shared_grams import SharedGrams
from graphon_theory.engine.spreads import spread
from graphon_theory.engine.threads import single_threaded_blas
from graphon_theory.engine.zonal import ZonalKernel
from graphon_theory.networks.network import Network

_ZONAL = 100_000  # pairs from which tabulating the network pays
_SPREAD = 4.0  # times an error of the duals of one layer is taken at the least; it may grow more on its way: spreads
_RECOMPUTED = {8: 1_000_000_000, 4: 2_000_000}  # multiplications that all pairs by their angles may cost, by the bytes
# of a result: seconds for what is to be right, and no time where float32 is asked for to save it
_ALONE = 300  # multiplications that a pair costs by its angle beside those of its signals
_PROBES = np.linspace(-3.0, 3.0, 25)  # where activations are read to tell them apart


@dataclass(frozen=True)
class PreparedKernel:
    """The kernels of ``network`` between inputs ``x`` (N, d) and ``x2`` (x itself where None), not yet computed."""

    network: Network
    x: FloatArray
    x2: FloatArray | None
    recursion: Recursion
    zonal: ZonalKernel | None
    close: ClosePairs
    route: str
    sizes: tuple[int, ...]  # nodes per hidden layer
    error: float  # of both kernels, relative to sqrt(K_ii K_jj)
    rtol: float

    @classmethod
    def of(
        cls, network: Network, x: FloatArray, x2: FloatArray | None, rtol: float, dtype: DTypeLike
    ) -> PreparedKernel:
        """Of arguments that have been checked. Raises QuadratureError where ``rtol`` is not reached."""
        with single_threaded_blas():
            everything = x if x2 is None else np.concatenate([x, x2])
            grid = discretise(network, distinct(everything), rtol)
            reduced = reduced_operators(network, grid.operators)
            recursion = Recursion(reduced or grid.operators, network.outline, everything, dtype, grid.weights)
            pairs = len(x) * len(x if x2 is None else x2)
            zonal = ZonalKernel.of(recursion, everything) if pairs >= _ZONAL else None
            close = ClosePairs(recursion, x, x2)
            with np.errstate(over="ignore", invalid="ignore"):  # what no number holds is refused where it is computed
                rounding = close.left_over()
            duals = recursion.dual_error
            if duals:
                duals = max(_SPREAD * duals, spread(recursion, distinct(everything)))
            if (
                rounding > rtol
                and close.angular
                and pairs * (recursion.work + _ALONE) <= _RECOMPUTED[np.dtype(dtype).itemsize]
            ):
                close, rounding = ClosePairs(recursion, x, x2, radius=math.pi), 0.0
        error = max(grid.error, rounding, 0.0 if zonal is None else zonal.error, recursion.norm_error) + duals
        error = max(error, FLOOR * network.depth * float(np.finfo(recursion.dtype).eps) / EPS)
        route = "zonal" if zonal is not None else "scalar" if reduced is not None else "general"
        return cls(network, x, x2, recursion, zonal, close, route, grid.sizes, error, rtol)

    def __reduce__(self) -> tuple[Any, ...]:
        """Compiled and tabulated parts do not travel: a copy makes itself ready again, in the same way."""
        return PreparedKernel.of, (self.network, self.x, self.x2, self.rtol, self.recursion.dtype)

    @property
    def attrs(self) -> dict[str, Any]:
        """What results say of themselves."""
        return {
            "network": self.network.describe(),
            "quadrature_error": self.error,
            "nodes": list(self.sizes),
            "rtol": self.rtol,
            "route": self.route,
        }

    @property
    def columns(self) -> FloatArray:
        """The inputs that count columns."""
        return self.x if self.x2 is None else self.x2

    def whole(
        self, shares: Callable[[], FloatArray] | None = None, *, grams: SharedGrams | None = None, **options: Any
    ) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        """NNGP and NTK (outputs, N, N2), and what ``shares`` computes: the NTK of layers (L, outputs, N, N2).

        ``grams``: Gram tiles of exactly these inputs, from other networks and for them.
        """
        recursion = self.recursion if grams is None else self.recursion.sharing(grams)
        with single_threaded_blas():
            nngp, ntk = self._computed(recursion, self.x, self.x2, **options)
            layers = None if shares is None else shares()
            self.close.refine(nngp, ntk, layers, threads=options.get("threads"))
        return nngp, ntk, layers

    def block(
        self, rows: slice | IntArray, columns: slice | IntArray, *, threads: int | None = 1
    ) -> tuple[FloatArray, FloatArray]:
        """NNGP and NTK (outputs, n, n2) of some rows and columns."""
        alike = self.x2 is None and isinstance(rows, slice) and isinstance(columns, slice) and rows == columns
        x, x2 = self.x[rows], None if alike else self.columns[columns]
        with single_threaded_blas():
            nngp, ntk = self._computed(self.recursion, x, x2, threads=threads)
            ClosePairs(self.recursion, x, x2, self.close.neighbours.radius).refine(nngp, ntk, None, threads=threads)
        return nngp, ntk

    def _computed(
        self, recursion: Recursion, x: FloatArray, x2: FloatArray | None, **options: Any
    ) -> tuple[FloatArray, FloatArray]:
        return (kernels if self.zonal is None else self.zonal.kernels)(recursion, x, x2, **options)

    def diagonal(self, kernel: str) -> FloatArray:
        """The kernel of every input of ``x`` with itself, (outputs, N), in float64."""
        held = self.recursion.held_inputs
        parts = [self.recursion.diagonal(self.x[i : i + held]) for i in range(0, len(self.x), held)]
        return np.concatenate([getattr(part, kernel) for part in parts], axis=1)

    @property
    def scratch(self) -> int:
        """Bytes that computing a block takes beside its results, about."""
        recursion = self.recursion
        held = sum(step.held for step in recursion.steps) * 8
        features = 2 * min(held * len(self.x), recursion.held_inputs * held)
        return (8 << 20) + features

    def identity(self) -> str:
        """A hash of all that the numbers depend on: network, inputs, precision and version."""
        found = hashlib.sha256()
        recursion = self.recursion
        words = (__version__, self.network.describe(), str(recursion.dtype), self.route, repr(self.rtol))
        found.update(repr(self.close.neighbours.radius).encode())
        found.update(repr(words).encode())
        for op in recursion.operators:
            known = op.conditioning
            told = (None,) if known is None else (known.profiles, known.bias, known.bias_mean, known.table)
            sent = (None,) if op.returning is None else (op.returning.modes, op.returning.coordinates)
            if op.returning is not None and op.returning.single is not None:
                sent = (*sent, op.returning.single.slope)
            for part in (op.variance, op.mask, op.drift, *told, *sent):
                found.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
            found.update(repr((op.bias, op.trained_bias)).encode())
        for activation in self.network.activations:
            found.update(np.asarray(activation(_PROBES), dtype=np.float64).tobytes())
        for inputs in (self.x, self.x2):
            found.update(b"none" if inputs is None else repr(inputs.shape).encode() + inputs.tobytes())
        return found.hexdigest()
