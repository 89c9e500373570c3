"""Values: things that are what they were made from. They do not change, equal their like, and travel as their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from types import MappingProxyType
from typing import Any, Self, cast

import numpy as np


class Value:
    """What is defined by the arguments that make it.

    Two of one class are equal when their arguments are: arrays by shape, type and entries, ``functools.partial`` by
    its parts, everything else as it compares itself. Copies are the thing itself, pickles hold the arguments and make
    it again, so that caches stay behind and checks are made once more.
    """

    __slots__ = ()

    @property
    def _arguments(self) -> tuple[Any, ...]:
        """Positional arguments that make it again."""
        raise NotImplementedError

    @property
    def _key(self) -> tuple[Any, ...]:
        """What two equal ones share."""
        return type(self), *map(comparable, self._arguments)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value):
            return NotImplemented
        return self is other or self._key == other._key

    def __hash__(self) -> int:
        try:
            return hash(self._key)
        except TypeError:  # callables of some classes have no hash
            return hash(type(self))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class Record(Value):
    """A Value that is a frozen dataclass (``eq=False``): arrays in it are read-only, lists are tuples."""

    def __post_init__(self) -> None:
        for one in fields(cast(Any, self)):
            object.__setattr__(self, one.name, sealed(getattr(self, one.name)))

    @property
    def _arguments(self) -> tuple[Any, ...]:
        held = (getattr(self, one.name) for one in fields(cast(Any, self)))
        return tuple(dict(one) if isinstance(one, MappingProxyType) else one for one in held)


def sealed(thing: Any) -> Any:
    """``thing`` for reading only: views of arrays and dicts, tuples of lists; others as they are."""
    if isinstance(thing, np.ndarray):
        view = thing.view()
        view.setflags(write=False)
        return view
    if type(thing) in (list, tuple):
        return tuple(map(sealed, thing))
    return MappingProxyType(thing) if isinstance(thing, dict) else thing


def comparable(thing: Any) -> Any:
    """What equals its like and has a hash, if the things inside have one."""
    if isinstance(thing, np.ndarray):
        # 0.0 and -0.0 are one number
        return thing.shape, thing.dtype.str, (thing + 0.0 if thing.dtype.kind == "f" else thing).tobytes()
    if isinstance(thing, list | tuple):
        return tuple(map(comparable, thing))
    if isinstance(thing, Mapping):
        return tuple((key, comparable(thing[key])) for key in sorted(thing, key=str))
    if isinstance(thing, partial):
        return partial, *map(comparable, (thing.func, thing.args, thing.keywords))
    return thing
