"""Checks of functions that users write: real numbers, place by place, whatever comes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import GraphonError

Error = type[GraphonError]


def real_values(what: str, function: Callable[..., Any], values: Any, refusal: Error) -> FloatArray:
    """What ``function`` returned, as float64. Raises ``refusal`` for masked, complex and other values."""
    found, wrong = np.asarray(values), ""
    if isinstance(values, np.ma.MaskedArray):
        wrong = "a masked array; fill it, .filled(0.0), or leave the mask out"
    elif found.dtype.kind not in "biuf":
        wrong = f"{found.dtype} values; it must return real numbers"
    if wrong:
        raise refusal(f"{what}: {_name(function)} returns {wrong}.")
    return np.asarray(found, dtype=float)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def check_elementwise(
    what: str,
    function: Callable[..., Any],
    places: tuple[FloatArray, ...],
    refusal: Error,
    *,
    constant: bool = False,
) -> None:
    """Raise ``refusal`` unless ``function`` maps float64 arrays like ``places`` to real numbers, place by place.

    ``constant``: one number for all is taken too. It is called with every place in front once: what chooses its type by
    the first value, as np.vectorize does without otypes, rounds the others to whole numbers where that is one.
    """
    name = _name(function)
    shape, size = places[0].shape, places[0].size
    types = set()
    for first in range(size):
        turned = tuple(np.roll(one.ravel(), -first).reshape(shape) for one in places)
        try:
            with np.errstate(all="ignore"):
                values = function(*turned)
        except (TypeError, ValueError) as error:
            raise refusal(
                f"{what}: {name} cannot take arrays ({error}); write it with NumPy functions (np.tanh, np.where), or "
                "wrap it: np.vectorize(f, otypes=[float])."
            ) from error
        real = real_values(what, function, values, refusal)
        if real.shape != shape and not (constant and real.shape == ()):
            raise refusal(
                f"{what}: {name} maps arrays of shape {shape} to shape {real.shape}; it must be vectorised, and "
                "keep the shape."
            )
        types.add(np.asarray(values).dtype.kind in "biu")
        if len(types) > 1:
            raise refusal(
                f"{what}: {name} returns whole numbers or others by what comes first, and rounds the rest; say "
                "np.vectorize(f, otypes=[float]), or return floats everywhere."
            )
