"""Numbers m 2^e with an exponent of their own: for values that are numbers where steps on the way to them are not.

exp(z) overflows from z = 710 on, and with it z / (1 + exp(-z)) and log(1 + exp(z)), which are as plain as z. Here
nothing overflows: the exponent is a float64 that holds whole numbers, up to 2^53.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from graphon_theory.arrays import FloatArray

_LN2_HIGH = float.fromhex("0x1.62e42fp-1")  # of 25 bits, so that multiples of up to 28 bits are exact
_LN2_LOW = float.fromhex("0x1.df473de6af279p-26")
_FAR = 2**53


class Wide(NamedTuple):
    """``mantissa`` 2^``exponent``, the mantissa from 1/2 to 1 in size, or 0, or infinite or NaN at exponent 0."""

    mantissa: FloatArray
    exponent: FloatArray

    @classmethod
    def of(cls, values: Any, exponent: Any = 0.0) -> Wide:
        """``values`` 2^``exponent``."""
        mantissa, more = np.frexp(np.asarray(values, dtype=float))
        plain = (mantissa == 0) | ~np.isfinite(mantissa)
        return cls(mantissa, np.where(plain, 0.0, more + exponent))

    @property
    def plain(self) -> FloatArray:
        """As float64: infinite or 0 where beyond."""
        return np.ldexp(self.mantissa, np.clip(self.exponent, -4_000, 4_000).astype(int))


def add(a: Wide, b: Wide) -> Wide:
    top = np.where(
        a.mantissa == 0, b.exponent, np.where(b.mantissa == 0, a.exponent, np.maximum(a.exponent, b.exponent))
    )
    parts = [np.ldexp(one.mantissa, np.clip(one.exponent - top, -4_000, 0).astype(int)) for one in (a, b)]
    return Wide.of(parts[0] + parts[1], top)


def multiply(a: Wide, b: Wide) -> Wide:
    return Wide.of(a.mantissa * b.mantissa, a.exponent + b.exponent)


def whole_power(a: Wide, n: int) -> Wide:
    if n < 0:
        return whole_power(Wide.of(1 / a.mantissa, -a.exponent), -n)
    out, square = Wide.of(np.ones_like(a.mantissa)), a
    while n:
        if n & 1:
            out = multiply(out, square)
        n >>= 1
        square = multiply(square, square) if n else square
    return out


def root(a: Wide) -> Wide:
    odd = a.exponent % 2
    return Wide.of(np.sqrt(np.ldexp(a.mantissa, odd.astype(int))), (a.exponent - odd) / 2)


def inverse_root(a: Wide) -> Wide:
    return whole_power(root(a), -1)


def power(a: Wide, b: Wide) -> Wide:
    """Of a base that is not negative; NaN otherwise, as a root would be."""
    raised = exp(multiply(b, log(a)))
    dead = a.mantissa == 0
    return Wide(np.where(dead, np.power(0.0, b.plain), raised.mantissa), np.where(dead, 0.0, raised.exponent))


def exp(a: Wide) -> Wide:
    x = a.plain
    n = np.where(np.abs(x) < _FAR, np.rint(x / math.log(2)), 0.0)
    return Wide.of(np.exp((x - n * _LN2_HIGH) - n * _LN2_LOW), n)


def log(a: Wide) -> Wide:
    """Near 1 as it is, to keep its digits."""
    near = np.abs(a.exponent) < 1_000
    return Wide.of(np.where(near, np.log(a.plain), np.log(a.mantissa) + a.exponent * math.log(2)))


def cosh(a: Wide) -> Wide:
    return multiply(Wide.of(0.5), add(exp(a), exp(_negative(a))))


def sinh(a: Wide) -> Wide:
    small = np.abs(a.plain) < 1
    grown = multiply(Wide.of(0.5), add(exp(a), _negative(exp(_negative(a)))))
    near = Wide.of(np.sinh(np.where(small, a.plain, 0.0)))
    return _where(small, near, grown)


def absolute(a: Wide) -> Wide:
    return Wide(np.abs(a.mantissa), a.exponent)


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function on wide numbers that it need not tell from infinity."""

    def of_wide(*args: Any) -> Any:
        found = function(*[one.plain if isinstance(one, Wide) else one for one in args])
        return found if np.asarray(found).dtype == bool else Wide.of(found)

    return of_wide


def folded(function: Callable[[Wide, Wide], Wide]) -> Callable[..., Wide]:
    return lambda *args: reduce(function, args)


def pieces(*args: Any) -> Wide:
    """The first value whose condition holds, of value, condition, value, condition, ..."""
    out = Wide.of(np.nan)
    for value, condition in zip(args[-2::-2], args[::-2], strict=True):
        out = _where(np.asarray(condition), value, out)
    return out


def _where(condition: Any, a: Wide, b: Wide) -> Wide:
    return Wide(np.where(condition, a.mantissa, b.mantissa), np.where(condition, a.exponent, b.exponent))


def _negative(a: Wide) -> Wide:
    return Wide(-a.mantissa, a.exponent)
