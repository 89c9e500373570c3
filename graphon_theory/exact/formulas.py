"""Kernels as formulas in named quantities: how they print, and what they are at given inputs to 40 digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import mpmath as mp
import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs
from graphon_theory.data.labels import OUTPUT, X2, Variables, X, coords_of_inputs, dataset
from graphon_theory.errors import ClosedFormError, InputError
from graphon_theory.exact.scalar_reductions import ScalarReduction
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.values import Record

if TYPE_CHECKING:
    import xarray as xr

_DIGITS = 40  # of an evaluation: correlations within 1e-20 of 1 are known
_NEGATIVE = mp.mpf("1e-20")  # of a square: more than rounding


@dataclass(frozen=True, eq=False)
class Moments(Record):
    """Symbols of  q = (1/d) sum_j c_j x_j x'_j  at (x, x), (x, x'), (x', x'), for one input profile c."""

    symbols: tuple[sp.Symbol, sp.Symbol, sp.Symbol]
    graphon: Graphon = field(repr=False)  # (u, v) -> c(v)
    profile: sp.Expr


@dataclass(frozen=True, eq=False)
class ClosedForm(Record):
    """The kernels of a network as expressions in named quantities.

    ``nngp`` and ``ntk``: expressions, or tuples of them for several outputs. ``definitions``: every name but the
    moments of the inputs, in an order in which each needs only earlier ones. ``moments``: the input moments. Prints
    as text and as LaTeX.
    """

    nngp: Any
    ntk: Any
    definitions: Mapping[sp.Symbol, sp.Expr]
    moments: tuple[Moments, ...]
    outputs: int = 1
    reduction: ScalarReduction | None = None

    def expanded(self, expr: sp.Expr) -> sp.Expr:
        """``expr`` with every name but the moments replaced by what it stands for."""
        for name, meaning in reversed(list(self.definitions.items())):
            expr = expr.subs(name, meaning)
        return expr

    def at_equal_norms(self, q: object = 1) -> ClosedForm:
        """The same in rho, for inputs of one moment: q11 = q22 = q and q12 = q rho.

        Raises ClosedFormError where several input profiles give every input several moments.
        """
        if len(self.moments) != 1:
            raise ClosedFormError(
                f"{len(self.moments)} profiles of the input layer weigh the inputs, so one rho does not do."
            )
        norm, rho = sp.sympify(q), sp.Symbol("rho", real=True)
        q11, q12, q22 = self.moments[0].symbols
        at = {q11: norm, q12: norm * rho, q22: norm}

        def put(expr: Any) -> Any:
            return tuple(map(put, expr)) if isinstance(expr, tuple) else sp.sympify(expr).subs(at)

        meanings = {name: put(meaning) for name, meaning in self.definitions.items()}
        return replace(self, nngp=put(self.nngp), ntk=put(self.ntk), definitions=meanings, moments=())

    def evaluate(self, x: ArrayLike | xr.DataArray, x2: ArrayLike | xr.DataArray | None = None) -> xr.Dataset:
        """``nngp`` and ``ntk`` at inputs (N, d), (N2, d), as limit_kernel gives them, pair by pair with 40 digits.

        A check of formulas, not an engine: milliseconds a pair. Raises InputError for bad data.
        """
        if not self.moments:
            raise InputError("x: this form is in rho and takes no inputs; evaluate the form it came from.")
        first = as_inputs(x, "x")
        second = first if x2 is None else as_inputs(x2, "x2", like=x)
        if first.shape[1] != second.shape[1]:
            raise InputError(f"x2: expected {first.shape[1]} inputs like x, got shape {second.shape}.")
        shape = (2, self.outputs, len(first), len(second))
        with mp.workdps(_DIGITS):
            program = _Program(self)
            left = program.weighted(first)
            norms1, norms2 = program.norms(first), program.norms(second)
            values = np.empty(shape)
            for i, j in np.ndindex(shape[2:]):
                cross = [mp.fdot(row, map(mp.mpf, second[j])) for row in left[i]]
                values[:, :, i, j] = program(norms1[i], cross, norms2[j])
        single = self.outputs == 1
        dims: tuple[str, ...] = (X, X2) if single else (OUTPUT, X, X2)
        pick = 0 if single else slice(None)
        variables: Variables = {"nngp": (dims, values[0, pick]), "ntk": (dims, values[1, pick])}
        return dataset(variables, coords_of_inputs(x, x2))

    def _lines(self) -> Iterator[tuple[str, sp.Symbol | None, Any]]:
        for name, meaning in self.definitions.items():
            yield str(name), name, meaning
        for title, found in (("NNGP", self.nngp), ("NTK", self.ntk)):
            for o, expr in enumerate(found if self.outputs > 1 else (found,)):
                yield title + (f"[{o}]" if self.outputs > 1 else ""), None, expr

    def __str__(self) -> str:
        return "\n".join(f"{title} = {meaning}" for title, _, meaning in self._lines())

    def _repr_latex_(self) -> str:
        rows = []
        for title, name, meaning in self._lines():
            left = rf"\mathrm{{{title}}}" if name is None else sp.latex(name)
            rows.append(rf"{left} &= {sp.latex(meaning)}")
        return r"$\displaystyle \begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}$"


class _Program:
    """The definitions as functions of multiprecision numbers, in order."""

    def __init__(self, form: ClosedForm) -> None:
        self.form = form
        self.names = [s for m in form.moments for s in m.symbols]
        self.homogeneous = form.reduction is not None
        known = list(self.names)
        functions = [{"sqrt": _root, "acos": _arccosine}, "mpmath"]
        self.steps = []
        for name, meaning in form.definitions.items():
            self.steps.append(sp.lambdify(known, _numbers(meaning), modules=functions))
            known.append(name)
        results = [e for k in (form.nngp, form.ntk) for e in (k if form.outputs > 1 else (k,))]
        self.last = sp.lambdify(known, [_numbers(e) for e in results], modules=functions)

    def _means(self, d: int) -> list[FloatArray]:
        edges = np.linspace(0.0, 1.0, d + 1)
        return [m.graphon.row_means(np.array([0.5]), edges)[0] / d for m in self.form.moments]

    def weighted(self, x: FloatArray) -> list[list[list[mp.mpf]]]:
        """c_j x_j / d by input and profile."""
        means = self._means(x.shape[1])
        return [[[mp.mpf(c) * mp.mpf(e) for c, e in zip(m, row, strict=True)] for m in means] for row in x]

    def norms(self, x: FloatArray) -> list[list[mp.mpf]]:
        rows = zip(self.weighted(x), x, strict=True)
        return [[mp.fdot(w, map(mp.mpf, row)) for w in several] for several, row in rows]

    def __call__(self, first: list[mp.mpf], cross: list[mp.mpf], second: list[mp.mpf]) -> FloatArray:
        """NNGP and NTK (2, outputs) of one pair."""
        if self.homogeneous and not all(a > 0 and b > 0 for a, b in zip(first, second, strict=True)):
            return np.zeros((2, self.form.outputs))
        values = [e for triple in zip(first, cross, second, strict=True) for e in triple]
        for step in self.steps:
            values.append(step(*values))
        return np.array([float(e) for e in self.last(*values)]).reshape(2, -1)


def _numbers(expr: Any) -> sp.Expr:
    """Integrals that stand unevaluated in an expression, as numbers."""
    found = sp.sympify(expr)
    return found.xreplace({i: i.evalf(_DIGITS) for i in found.atoms(sp.Integral)})


def _rounded(x: mp.mpf) -> mp.mpf:
    if x < -_NEGATIVE:
        raise ClosedFormError(f"the square root of {mp.nstr(x, 5)}: these are no moments of a Gaussian.")
    return max(x, mp.mpf(0))


def _root(x: mp.mpf) -> mp.mpf:
    return mp.sqrt(_rounded(mp.mpf(x)))


def _arccosine(x: mp.mpf) -> mp.mpf:
    _rounded(1 - abs(mp.mpf(x)))
    return mp.acos(max(min(x, mp.mpf(1)), mp.mpf(-1)))
