"""Graphons given by any vectorised Python callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import GraphonError
from graphon_theory.graphons.graphon import Graphon, _edges


class FunctionGraphon(Graphon):
    """W(u, v) given by any vectorised Python callable of two arrays.

    Smoothness cannot be read off a callable: declare ``u_edges`` and ``v_edges`` (where it jumps or kinks at a
    fixed u or v) and ``diagonal=True`` (a kink or jump along u = v). Undeclared ones are found by bisection
    where sampling sees them; a feature narrower than the sampling is missed.
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
        self.u_breaks = _edges(u_edges, None, "u_edges")
        self.v_breaks = _edges(v_edges, None, "v_edges")
        self.diagonal = bool(diagonal)
        self.switches = (_diagonal,) if diagonal else ()
        self._check_vectorised()

    def _check_vectorised(self) -> None:
        u, v = np.array([[0.3137], [0.6863]]), np.array([[0.7219, 0.2781, 0.5391]])
        try:
            value = np.asarray(self.f(*np.broadcast_arrays(u, v)))
        except (TypeError, ValueError) as error:
            raise GraphonError(
                f"f: {self._name} cannot take arrays ({error}); write it with NumPy functions or np.vectorize."
            ) from error
        if value.dtype.kind not in "biuf":
            raise GraphonError(f"f: {self._name} returns {value.dtype} values; it must return real numbers.")
        if value.shape not in ((), (2, 3)):
            raise GraphonError(
                f"f: {self._name} maps arrays of shape (2, 3) to shape {value.shape}; it must keep the shape."
            )

    @property
    def _name(self) -> str:
        return str(getattr(self.f, "__name__", type(self.f).__name__))

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        return np.asarray(self.f(u, v), dtype=float)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.f, self.u_breaks.tobytes(), self.v_breaks.tobytes(), self.diagonal

    @property
    def T(self) -> FunctionGraphon:
        f = self.f.f if isinstance(self.f, _Swapped) else _Swapped(self.f)
        return FunctionGraphon(f, self.v_breaks, self.u_breaks, self.diagonal)

    def __repr__(self) -> str:
        return f"FunctionGraphon({self._name})"

    def _latex(self) -> str:
        return rf"\mathtt{{{self._name}}}(u, v)".replace("_", r"\_")


class _Swapped:
    """f with its two arguments exchanged."""

    def __init__(self, f: Callable[[FloatArray, FloatArray], Any]) -> None:
        self.f = f
        self.__name__ = f"{getattr(f, '__name__', type(f).__name__)}.T"

    def __call__(self, u: FloatArray, v: FloatArray) -> Any:
        return self.f(v, u)


def _diagonal(u: FloatArray, v: FloatArray) -> FloatArray:
    return u - v
