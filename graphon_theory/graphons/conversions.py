"""What can be taken for a graphon: numbers, arrays, expressions, callables."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import cast

import numpy as np
import sympy as sp

from graphon_theory.errors import GraphonError
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.callables import FunctionGraphon
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon, StepGraphon
from graphon_theory.graphons.positions import real_positions

_LARGEST = 1e150  # of values whose squares are integrated


def as_graphon(obj: object) -> Graphon:
    """A Graphon from a number, a 2-D array, a SymPy expression, its text, a callable, or a Graphon itself.

    Raises GraphonError for anything else, and as the kind of graphon does that it becomes.
    """
    if isinstance(obj, Graphon):
        return obj
    if isinstance(obj, (str, sp.Basic)):
        return AnalyticGraphon(obj)
    if isinstance(obj, Real) and not isinstance(obj, bool):
        return ConstantGraphon(cast(float, obj))
    if isinstance(obj, (np.ndarray, Sequence)):
        array = real_positions(obj, "values")
        return ConstantGraphon(float(array)) if array.ndim == 0 else StepGraphon(array)
    if callable(obj):
        return FunctionGraphon(obj)
    raise GraphonError(
        f"expected a number, a 2-D array, a SymPy expression or its text, a callable or a Graphon, got "
        f"{type(obj).__name__}."
    )


def check_squares(graphon: Graphon, name: str) -> Graphon:
    """Refuse values so large that integrals of their squares are no numbers; return the graphon."""
    largest = max(map(abs, graphon.extremes()))
    if largest > _LARGEST:
        raise GraphonError(
            f"{name}: values of size {largest:.3g}, whose squares are no numbers; divide the graphon by them."
        )
    return graphon
