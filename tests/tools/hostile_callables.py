"""Callables that raise, or say what they should not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator


class Lied(Exception):
    """What a hostile callable raises: whoever calls it may let it through."""


def _raises(*_: Any, **__: Any) -> Any:
    raise Lied("a callable that raises")


def _now_and_then(counter: list[int]) -> Callable[..., Any]:
    def function(*args: Any) -> Any:
        counter[0] += 1
        return np.asarray(args[0], dtype=float) * (np.nan if counter[0] % 3 == 0 else 0.5)

    return function


def hostile_callable(rng: Rng, _: Any) -> Any:
    """A callable that raises, or says what it should not."""
    fixed = rng.standard_normal(3)
    return [
        _raises,
        lambda *a: "text",
        lambda *a: None,
        lambda *a: np.nan,
        lambda *a: np.full(np.shape(a[0]), np.nan),
        lambda *a: np.full(np.shape(a[0]), np.inf),
        lambda *a: fixed,
        lambda *a: np.zeros((2, 2, 2)),
        lambda *a: np.asarray(a[0]) + 1j,
        lambda *a: [],
        lambda *a: "1" * np.size(a[0]),
        lambda *a: np.ma.masked_all(np.shape(a[0])),
        lambda *a: np.asarray(a[0], dtype=object),
        lambda *a: rng.random(np.shape(a[0])),
        lambda a: np.where(np.asarray(a) > 0.37, np.nan, 0.5),
        lambda *a: 1.0 if a[0] > 0.5 else 0.0,
        lambda: 1.0,
        lambda *a: -np.ones(np.shape(a[0])),
        lambda *a: 1e200 * np.exp(np.abs(np.asarray(a[0]))),
        _now_and_then([0]),
        max,
        len,
        dict,
    ][rng.integers(23)]
