"""Results on a grid of parameters as one Dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphon_theory.errors import InputError, shown

if TYPE_CHECKING:
    import xarray as xr


class Axis(NamedTuple):
    """A parameter and its values."""

    name: str
    values: list[Any]


def checked_axes(parameters: Any, taken: Sequence[str], most: int) -> list[Axis]:
    """Parameters by name as axes. Raises InputError for names that are ``taken``, and more than ``most`` points."""
    if not isinstance(parameters, Mapping) or not parameters:
        raise InputError(f"parameters: expected lists of values by name, got {shown(parameters)}.")
    axes = []
    for name, values in parameters.items():
        if not isinstance(name, str) or name in taken:
            raise InputError(f"parameters: expected names other than {', '.join(taken)}, got {shown(name)}.")
        many = values.tolist() if isinstance(values, np.ndarray) else values
        if isinstance(many, str | bytes) or not isinstance(many, Sequence | range) or not len(many):
            raise InputError(f"parameters: expected a list of values for {name}, got {shown(values)}.")
        if not all(isinstance(one, bool | int | float | str | np.number) for one in many):
            raise InputError(f"parameters: expected numbers or names as values of {name}, got {shown(values)}.")
        if len(set(many)) < len(many):
            raise InputError(f"parameters: the values of {name} are not all different: {shown(values)}.")
        axes.append(Axis(name, list(many)))
    points = math.prod(len(one.values) for one in axes)
    if points > most:
        raise InputError(f"parameters: {points:,} combinations are more than {most:,}; sweep over parts of them.")
    return axes


def on_grid(parts: Sequence[xr.Dataset], axes: Sequence[Axis], attrs: dict[str, Any]) -> xr.Dataset:
    """Datasets of all combinations, the last parameter changing first, along a dimension for each parameter.

    Raises InputError where they do not have the same variables and sizes.
    """
    from graphon_theory import __version__

    first = parts[0]
    for part in parts:
        if set(part.data_vars) != set(first.data_vars) or any(part[v].shape != first[v].shape for v in first.data_vars):
            raise InputError(
                "measure: expected the same variables and sizes for all parameters, got "
                f"{ {str(v): part[v].shape for v in part.data_vars} } beside "
                f"{ {str(v): first[v].shape for v in first.data_vars} }."
            )
    return _joined(list(parts), list(axes)).assign_attrs({**attrs, "graphon_theory": __version__})


def _joined(parts: list[xr.Dataset], axes: list[Axis]) -> xr.Dataset:
    import xarray as xr

    if not axes:
        return parts[0].drop_attrs()
    (name, values), step = axes[0], len(parts) // len(axes[0].values)
    inner = [_joined(parts[i : i + step], axes[1:]) for i in range(0, len(parts), step)]
    along = xr.DataArray(values, dims=name, name=name)
    return xr.concat(inner, dim=along, coords="minimal", compat="override", join="override")
