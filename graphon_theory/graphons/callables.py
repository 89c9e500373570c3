"""Graphons given by any vectorised Python callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import truth
from graphon_theory.data.function_checks import check_elementwise, real_values
from graphon_theory.errors import GraphonError
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.graphons.positions import edges_of
from graphon_theory.numerics.features import SampledFeatures
from graphon_theory.values import Record


class FunctionGraphon(Graphon):
    """W(u, v) given by any vectorised Python callable of two arrays.

    Smoothness cannot be read off a callable: declare ``u_edges`` and ``v_edges`` (where it jumps or kinks at a
    fixed u or v) and ``diagonal=True`` (a kink or jump along u = v). Undeclared ones are found by samples at 211 x 211
    positions and by bisection; a feature narrower than 1/200 in u or v may be missed without a warning.
    """

    def __init__(
        self,
        f: Callable[[FloatArray, FloatArray], Any],
        u_edges: ArrayLike = (0, 1),
        v_edges: ArrayLike = (0, 1),
        diagonal: bool = False,
    ) -> None:
        if not callable(f):
            raise GraphonError(f"f: expected a callable of (u, v), got {type(f).__name__}.")
        self.f = f
        self.u_breaks = edges_of(u_edges, None, "u_edges")
        self.v_breaks = edges_of(v_edges, None, "v_edges")
        self.diagonal = truth("diagonal", diagonal, error=GraphonError)
        self.switches = (_diagonal,) if self.diagonal else ()
        _check_vectorised(f)
        if isinstance(f, OfOne):
            self.constant_in_u, self.constant_in_v = f.of_v, not f.of_v

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        return real_values("f", self.f, self.f(u, v), GraphonError)

    @cached_property
    def _features(self) -> SampledFeatures:
        return SampledFeatures(self.f, diagonal=self.diagonal)

    @cached_property
    def _marks(self) -> tuple[FloatArray, FloatArray]:
        return self._features.fixed(of_v=False), self._features.fixed(of_v=True)

    def marks(self, *, of_v: bool) -> FloatArray:
        return self._marks[of_v]

    def creases(self, u: FloatArray, *, flanks: bool = False) -> FloatArray:
        return np.concatenate([self.v_roots(u), self._features.curves(u, of_v=True, flanks=flanks)], axis=1)

    @property
    def creased(self) -> bool:
        return bool(self.switches) or self._features.any_curves

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.f, self.u_breaks, self.v_breaks, self.diagonal

    @property
    def T(self) -> FunctionGraphon:
        return self._transposed

    @cached_property
    def _transposed(self) -> FunctionGraphon:
        return FunctionGraphon(_swapped(self.f), self.v_breaks, self.u_breaks, self.diagonal)

    def __repr__(self) -> str:
        return f"FunctionGraphon({_name(self.f)})"

    def _latex(self) -> str:
        return rf"\mathtt{{{_name(self.f)}}}(u, v)".replace("_", r"\_")


@dataclass(frozen=True, eq=False)
class OfOne(Record):
    """(u, v) -> f(u), or f(v)."""

    f: Callable[[FloatArray], Any]
    of_v: bool

    @property
    def __name__(self) -> str:
        return _name(self.f)

    def __call__(self, u: FloatArray, v: FloatArray) -> Any:
        return self.f(v if self.of_v else u)


@dataclass(frozen=True, eq=False)
class _Swapped(Record):
    """f with its two arguments exchanged."""

    f: Callable[[FloatArray, FloatArray], Any]

    @property
    def __name__(self) -> str:
        return f"{_name(self.f)}.T"

    def __call__(self, u: FloatArray, v: FloatArray) -> Any:
        return self.f(v, u)


def _swapped(f: Callable[[FloatArray, FloatArray], Any]) -> Callable[[FloatArray, FloatArray], Any]:
    if isinstance(f, OfOne):
        return OfOne(f.f, not f.of_v)
    return f.f if isinstance(f, _Swapped) else _Swapped(f)


def _name(f: Callable[..., Any]) -> str:
    return str(getattr(f, "__name__", type(f).__name__))


def _check_vectorised(f: Callable[[FloatArray, FloatArray], Any]) -> None:
    u, v = np.array([[0.3137], [0.6863]]), np.array([[0.7219, 0.2781, 0.5391]])
    check_elementwise("f", f, tuple(np.broadcast_arrays(u, v)), GraphonError, constant=True)


def _diagonal(u: FloatArray, v: FloatArray) -> FloatArray:
    return u - v
