"""Graphons derived from another: rows multiplied by a function of their position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphon_theory.arrays import FloatArray
from graphon_theory.graphons.graphon import Graphon


class RowScaled(Graphon):
    """W(u, v) g(u), with the breaks of W; ``g`` is smooth between them."""

    def __init__(self, base: Graphon, gain: Callable[[FloatArray], FloatArray], of_v: bool = False) -> None:
        self.base, self.gain, self.of_v = base, gain, of_v
        self.u_breaks, self.v_breaks, self.switches = base.u_breaks, base.v_breaks, base.switches
        self.constant_in_u, self.constant_in_v = base.constant_in_u and of_v, base.constant_in_v and not of_v

    def _values(self, u: FloatArray, v: FloatArray) -> FloatArray:
        return self.base(u, v) * self.gain(v if self.of_v else u)

    @property
    def T(self) -> RowScaled:
        return RowScaled(self.base.T, self.gain, of_v=not self.of_v)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.base, self.gain, self.of_v

    def __repr__(self) -> str:
        return f"RowScaled({self.base!r})"

    def _latex(self) -> str:
        return rf"g({'v' if self.of_v else 'u'})\, {self.base._latex()}"
