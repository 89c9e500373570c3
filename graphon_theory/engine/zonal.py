"""The zonal route: when every position shares one correlation, the whole network is one function of it.

The input layer's rows of V and W must be multiples of one column profile c. With g(x, x') = sum_j c_j x_j x'_j and
rho = g(x, x') / sqrt(g(x, x) g(x', x')) there are two cases.

*Homogeneous* (scalar reduction, THEORY §3): no drift, no bias, phi positively homogeneous of degree 1. Every K^l(u)
is sqrt(g g') a^l(u) rho_l with the same rho_l, and

    NNGP = sqrt(g g') a^L rho_L,      NTK_l = sqrt(g g') s_l kappa1(rho_{l-1}) prod_{k=l}^{L-1} kappa0(rho_k),

s_l the path integral of W^l between V^1.. and ..V^L. In w = cos(theta/2) - sin(theta/2), rho = cos theta, both are
analytic on [-1, 1] with singularities no nearer than |w| = sqrt 2: one polynomial each, tabulated in 30-digit
arithmetic until its own error is at rounding level.

*Equal norms*: g(x, x) is the same for all inputs; then for any phi and biases every K^l(u) is a function of rho. The
general route tabulates it at Chebyshev points in w, and the polynomial is held against it at other points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import mpmath as mp
import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.recursion import Recursion, all_pairs, kernels
from graphon_theory.engine.reductions import path_integrals
from graphon_theory.engine.tiles import Plan, Tile
from graphon_theory.engine.workspaces import Buffers
from graphon_theory.engine.zonal_loops import chebyshev_tile, zonal_tile

_DEGREES = (14, 21, 28, 35, 42, 49, 56, 63, 77)  # tried in turn; coefficients fill whole passes of the compiled loop
_DIGITS = 30
_ERROR = {8: 1e-16, 4: 1e-9}  # of the polynomials, relative to their value at coincidence, by the bytes of a result
_CANCELLED = 16  # times the layers: what coefficients may add up to in size, times the value at coincidence; their
# roundings then stay far below the least error estimate (deep networks have coefficients of 1e10 and alternating signs)
_SERIES = (32, 48, 64, 96, 128)  # degrees tried for inputs of equal norms
_SIDE = 192  # of a tile: three of them stay close to a core
_EQUAL = 2e-15  # relative spread of norms that counts as rounding
_CERTIFIED = 2e-13  # largest distance from the general route
_POSITIONS = 8  # of all hidden layers together, from which the polynomial is cheaper than the general route


@dataclass(frozen=True)
class ZonalKernel:
    """The network as a function of rho alone: coefficients (outputs, 2, n) of NNGP and NTK in w, highest first.

    Monomials times sqrt(g g') in the homogeneous case, Chebyshev polynomials for inputs of equal norms.
    """

    profile: FloatArray  # (d,)
    coefficients: FloatArray
    homogeneous: bool = True
    error: float = 0.0  # of the polynomials against the general route, relative to the values at coincidence

    @classmethod
    def of(cls, recursion: Recursion, inputs: FloatArray) -> ZonalKernel | None:
        """The zonal form of a discretised network on ``inputs`` (N, d), or None where the premises fail."""
        if recursion.has_drift:
            return None
        return cls._homogeneous(recursion) or cls._equal_norms(recursion, inputs)

    @classmethod
    def _homogeneous(cls, recursion: Recursion) -> ZonalKernel | None:
        activation, profiles = recursion.activation, recursion.input_step.layer.profiles
        if activation is None:
            return None
        biased = any(op.bias or op.trained_bias for op in recursion.operators)
        if not activation.homogeneous or biased or len(profiles) != 1 or not recursion.hidden:
            return None
        linear, bent = activation.parameters or (1.0, 0.0)
        table = _table(linear, bent, len(recursion.operators), _ERROR[recursion.dtype.itemsize])
        if table is None:
            return None
        gain = float(activation.moments(*np.ones((3, 1)))[0][0])  # kappa1(1) = kappa0(1) for degree 1
        scalars, last = path_integrals(recursion.operators, int(profiles[0].argmax()), gain)
        out = np.empty((recursion.outputs, 2, table.shape[1]))
        out[:, 0] = last[:, None] * table[0]
        out[:, 1] = scalars.T @ table[1:]
        return cls(profiles[0], out)

    @classmethod
    def _equal_norms(cls, recursion: Recursion, inputs: FloatArray) -> ZonalKernel | None:
        layer = recursion.input_step.layer
        positions = sum(len(op.variance) for op in recursion.operators[:-1])
        if len(layer.profiles) != 1 or positions < _POSITIONS:
            return None
        profile = layer.profiles[0]
        column = int(profile.argmax())
        norms = (inputs * inputs) @ profile
        norm = float(norms.mean())
        if not norm > 0 or np.ptp(norms) > _EQUAL * norm:
            return None
        # the same network on the two-dimensional inputs sqrt(g) (cos theta, sin theta)
        one = np.array([[np.sqrt(norm), 0.0]])
        first = recursion.operators[0]
        mask = None if first.mask is None else first.mask[:, [column] * 2] / profile[column]
        flat = replace(first, variance=first.variance[:, [column] * 2] / profile[column], mask=mask)
        plane = Recursion((flat, *recursion.hidden), recursion.outline, one, weights=recursion.weights)

        def exact(w: FloatArray) -> FloatArray:
            points = np.sqrt(norm) * np.stack([w * np.sqrt(2 - w * w), 1 - w * w], axis=1)
            return np.stack(kernels(plane, one, points, threads=1))[:, :, 0]

        scale = np.abs(exact(np.ones(1)))
        check = np.cos(np.linspace(0.01, 3.13, 50))
        for degree in _SERIES:
            nodes = np.cos(np.pi * (2 * np.arange(degree + 1) + 1) / (2 * degree + 2))
            coefficients = np.polynomial.chebyshev.chebfit(nodes, exact(nodes).reshape(-1, degree + 1).T, degree)
            fitted = np.polynomial.chebyshev.chebval(check, coefficients).reshape(2, recursion.outputs, -1)
            error = float((np.abs(fitted - exact(check)) / np.where(scale > 0, scale, 1.0)).max())
            if error <= _CERTIFIED:
                table = coefficients[::-1].T.reshape(2, recursion.outputs, degree + 1).transpose(1, 0, 2)
                return cls(profile, np.ascontiguousarray(table), homogeneous=False, error=error)
        return None

    def kernels(
        self, recursion: Recursion, x: FloatArray, x2: FloatArray | None, **options: Any
    ) -> tuple[FloatArray, FloatArray]:
        """NNGP and NTK (outputs, N, N2), as :func:`graphon_theory.engine.recursion.kernels`."""
        outputs, _, _ = self.coefficients.shape
        plan = Plan(min(_SIDE, len(x)), min(_SIDE, len(x if x2 is None else x2)), len(x) + len(x if x2 is None else x2))
        inner = recursion.dtype if self.homogeneous else np.dtype(np.float64)
        coefficients, tolerance = self.coefficients.astype(inner), float(recursion.dual_steps[0].parameters[0])
        evaluate = zonal_tile if self.homogeneous else chebyshev_tile
        left = x.astype(recursion.dtype, copy=False), self._roots(x).astype(inner, copy=False)
        right = left if x2 is None else (x2.astype(recursion.dtype, copy=False), self._roots(x2).astype(inner))

        def workspace() -> tuple[Buffers, FloatArray]:
            return Buffers(recursion.dtype), np.empty(5 * plan.columns, inner)

        def one(work: tuple[Buffers, FloatArray], tile: Tile) -> FloatArray:
            gram = recursion.input_step.gram(left[0], right[0], tile, work[0])[0]
            out = work[0].view("state", outputs, 2, *gram.shape)
            for o in range(outputs):
                places = left[1], right[1], tile.i0, tile.j0, tile.upper
                evaluate(gram, *places, coefficients[o], tolerance, out[o], work[1])
            return out

        return all_pairs(recursion, x, x2, plan, lambda *_: one, workspace, **options)

    def _roots(self, x: FloatArray) -> FloatArray:
        root = np.sqrt((x * x) @ self.profile)
        return np.stack([root, np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)])


@cache
def _table(linear: float, bent: float, depth: int, error: float) -> FloatArray | None:
    """Monomial coefficients in w, highest first, of rho_L and of every layer's factor: (L + 1, n).

    None where no degree leaves less than ``error``, or coefficients cancel (deep networks, whose functions steepen at
    coincidence).
    """
    with mp.workdps(_DIGITS):
        for degree in _DEGREES:
            nodes = [mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2)) for k in range(degree + 1)]
            values = [_contributions(w, depth, linear, bent) for w in nodes]
            before, now = [mp.mpf(1)] * (degree + 1), nodes
            chebyshev = [[mp.mpf(0)] * (degree + 1) for _ in range(depth + 1)]
            for n in range(degree + 1):  # discrete orthogonality of T_n on the nodes
                for f in range(depth + 1):
                    total = mp.fsum(t * row[f] for t, row in zip(before, values, strict=True))
                    chebyshev[f][n] = (2 if n else 1) * total / (degree + 1)
                before, now = now, [2 * w * t - s for w, t, s in zip(nodes, now, before, strict=True)]
            table = np.array([[float(c) for c in _to_monomials(series)][::-1] for series in chebyshev])
            if (np.abs(table).sum(axis=1) > _CANCELLED * depth * np.abs(table.sum(axis=1))).any():
                return None  # and more of them would cancel more
            if max(abs(c) for series in chebyshev for c in series[-2:]) <= error:
                return table
    return None


def _contributions(w: mp.mpf, depth: int, linear: float, bent: float) -> list[mp.mpf]:
    """rho_L, then  kappa1(rho_{l-1}) prod kappa0(rho_k)  for l = 1..L, at one w."""
    rho = w * mp.sqrt(2 - w * w)
    theta = mp.acos(rho)
    signal, derivatives = [rho], []
    one = linear + mp.mpf(bent) / 2
    for _ in range(depth - 1):
        rest = (mp.pi - theta) / (2 * mp.pi)
        derivatives.append((linear + bent * rest) / one)
        signal.append((linear * mp.cos(theta) + bent * (mp.sin(theta) / (2 * mp.pi) + rest * mp.cos(theta))) / one)
        theta = mp.acos(min(signal[-1], mp.mpf(1)))
    return [signal[-1]] + [signal[layer] * mp.fprod(derivatives[layer:]) for layer in range(depth)]


def _to_monomials(series: list[mp.mpf]) -> list[mp.mpf]:
    """Chebyshev to monomial coefficients, lowest first."""
    zero = mp.mpf(0)
    before, now = [mp.mpf(1)], [zero, mp.mpf(1)]
    total = [zero] * len(series)
    total[0] += series[0]
    for n in range(1, len(series)):
        for k, c in enumerate(now):
            total[k] += series[n] * c
        after = [zero] + [2 * c for c in now]
        for k, c in enumerate(before):
            after[k] -= c
        before, now = now, after
    return total
