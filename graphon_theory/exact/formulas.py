"""Kernels as formulas in named quantities: how they print, and what they are at given inputs to 40 digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import mpmath as mp
import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, positive_number, whole_number
from graphon_theory.data.labels import OUTPUT, X2, Variables, X, coords_of_inputs, dataset
from graphon_theory.errors import ClosedFormError, InputError, shown, shown_text
from graphon_theory.exact.profiles import rational
from graphon_theory.exact.scalar_reductions import ScalarReduction
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.numerics import expressions
from graphon_theory.values import Record

if TYPE_CHECKING:
    import xarray as xr

_NODES = 100_000  # of an expression that is expanded
_DIGITS = 40  # of an evaluation: correlations within 1e-20 of 1 are known
_NEGATIVE = mp.mpf("1e-20")  # of a square: more than rounding


@dataclass(frozen=True, eq=False)
class Moments(Record):
    """Symbols of  q = (1/d) sum_j c_j x_j x'_j  at (x, x), (x, x'), (x', x'), for one input profile c."""

    symbols: tuple[sp.Symbol, sp.Symbol, sp.Symbol]
    graphon: Graphon = field(repr=False)  # (u, v) -> c(v)
    profile: sp.Expr


def _refuse_endless(name: str, expr: sp.Expr) -> None:
    """Refuse an expression that takes for ever to walk through: shared parts double its terms at every level."""
    if len(list(islice(sp.preorder_traversal(expr), _NODES))) == _NODES:
        raise ClosedFormError(f"{name}: expected a kernel of this form, got more than {_NODES:,} terms.")


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

    def __post_init__(self) -> None:
        whole_number("outputs", self.outputs, error=ClosedFormError)
        meanings = self.definitions.items() if isinstance(self.definitions, Mapping) else [(None, None)]
        if not all(isinstance(name, sp.Symbol) and isinstance(meaning, sp.Expr) for name, meaning in meanings):
            raise ClosedFormError("definitions: expected SymPy expressions by symbol; take the form from closed_form.")
        for title, kernel in (("nngp", self.nngp), ("ntk", self.ntk)):
            several = kernel if isinstance(kernel, list | tuple) else [kernel]
            if not all(isinstance(one, sp.Expr) for one in several) or len(several) != self.outputs:
                raise ClosedFormError(f"{title}: expected a SymPy expression for each output, got {shown(kernel)}.")
            for one in several:
                _refuse_endless(title, one)
        kinds = {"moments": (self.moments, Moments), "reduction": ([self.reduction], ScalarReduction | None)}
        for title, (held, kind) in kinds.items():
            if not isinstance(held, list | tuple) or not all(isinstance(one, kind) for one in held):
                raise ClosedFormError(f"{title}: expected what closed_form gives, got {shown(getattr(self, title))}.")
        super().__post_init__()

    def expanded(self, expr: sp.Expr) -> sp.Expr:
        """``expr`` with every name but the moments replaced by what it stands for.

        Raises ClosedFormError for anything but a SymPy expression: text is not read here.
        """
        if not isinstance(expr, sp.Expr):
            raise ClosedFormError(
                f"expr: expected a SymPy expression, got {type(expr).__name__}; pass form.ntk or form.nngp (one of "
                "them, for several outputs)."
            )
        _refuse_endless("expr", expr)
        if expr.has(sp.zoo, sp.nan):
            raise ClosedFormError(f"expr: expected finite terms, got {shown_text(str(expr))}.")
        try:
            for name, meaning in reversed(list(self.definitions.items())):
                expr = expr.xreplace({name: meaning})
        except RecursionError:
            raise ClosedFormError("expr: expected a kernel of this form, got one that is nested too deep.") from None
        return expr

    def at_equal_norms(self, q: float | str | sp.Expr = 1) -> ClosedForm:
        """The same in rho, for inputs of one moment: q11 = q22 = q and q12 = q rho.

        ``q`` is a positive number, or an expression in one symbol named q (or its text), which passes the whitelist of
        :mod:`graphon_theory.numerics.expressions`; in the result that symbol is ``Symbol("q", positive=True)``.

        Raises ClosedFormError where several input profiles give every input several moments, ExpressionError and
        InputError for another ``q``.
        """
        if len(self.moments) != 1:
            raise ClosedFormError(
                f"{len(self.moments)} profiles of the input layer weigh the inputs, so one rho does not do."
            )
        norm, rho = _moment(q), sp.Symbol("rho", real=True)
        q11, q12, q22 = self.moments[0].symbols
        at = {q11: norm, q12: norm * rho, q22: norm}

        def put(expr: Any) -> Any:
            return tuple(map(put, expr)) if isinstance(expr, tuple) else expr.subs(at)

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
        for title, expr in self._results():
            yield title, None, expr

    def _results(self) -> Iterator[tuple[str, sp.Expr]]:
        for title, found in (("NNGP", self.nngp), ("NTK", self.ntk)):
            for o, expr in enumerate(found if self.outputs > 1 else (found,)):
                yield title + (f"[{o}]" if self.outputs > 1 else ""), expr

    def __str__(self) -> str:
        return "\n".join(f"{title} = {meaning}" for title, _, meaning in self._lines())

    def _repr_latex_(self) -> str:
        rows = []
        for title, name, meaning in self._lines():
            left = rf"\mathrm{{{title}}}" if name is None else sp.latex(name)
            rows.append(rf"{left} &= {sp.latex(meaning)}")
        return r"$\displaystyle \begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}$"


class _Program:
    """The definitions as functions of multiprecision numbers, in order; the formulas are walked, never made code."""

    def __init__(self, form: ClosedForm) -> None:
        self.form = form
        self.names = [s for m in form.moments for s in m.symbols]
        self.homogeneous = form.reduction is not None
        known = set(self.names)
        for name, meaning in (*form.definitions.items(), *form._results()):
            unknown = sorted(map(str, meaning.free_symbols - known))
            if unknown:
                raise ClosedFormError(f"{name}: stands on {shown(unknown)}, which nothing defines before it.")
            known.add(name)
        self.steps = [(name, _function(meaning)) for name, meaning in form.definitions.items()]
        self.last = [_function(meaning) for _, meaning in form._results()]

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
        moments = (e for triple in zip(first, cross, second, strict=True) for e in triple)
        known = dict(zip(self.names, moments, strict=True))
        for name, step in self.steps:
            known[name] = step(known)
        return np.array([float(last(known)) for last in self.last]).reshape(2, -1)


_Values = Mapping[sp.Symbol, mp.mpf]


def _function(expr: sp.Expr) -> Callable[[_Values], mp.mpf]:
    """An expression as a function of the values of its symbols: closures, one a node, from a table of functions.

    Raises ClosedFormError for what is not in the table and not a number.
    """
    if isinstance(expr, sp.Symbol):
        return lambda known: known[expr]
    if not expr.free_symbols:  # integrals that stand unevaluated among them
        try:
            number = mp.mpf(sp.N(expr, _DIGITS))
        except (AttributeError, IndexError, TypeError, ValueError):
            raise ClosedFormError(f"{type(expr).__name__}: no number, and no formula of one.") from None
        return lambda known: number
    parts = [_function(one) for one in expr.args]
    if isinstance(expr, sp.Add):
        return lambda known: mp.fsum(part(known) for part in parts)
    if isinstance(expr, sp.Mul):
        return lambda known: mp.fprod(part(known) for part in parts)
    if isinstance(expr, sp.Pow) and abs(expr.exp) == sp.Rational(1, 2):
        base, inverse = parts[0], expr.exp < 0
        return lambda known: 1 / _root(base(known)) if inverse else _root(base(known))
    if expr.func not in _MPMATH:
        raise ClosedFormError(f"{expr.func}: no function that formulas of kernels are made of; use limit_kernel.")
    function = _MPMATH[expr.func]
    return lambda known: function(*(part(known) for part in parts))


def _moment(q: Any) -> sp.Expr:
    if isinstance(q, str | sp.Basic):
        norm = expressions.parse(q, ("q",)).xreplace({expressions.symbol("q"): sp.Symbol("q", positive=True)})
    else:
        norm = rational(positive_number("q", q, expected="a positive number, or an expression in q"))
    try:
        positive = not norm.is_number or norm.is_positive
    except ArithmeticError:  # of towers of powers, whose size mpmath does not hold
        positive = False
    if not positive:
        said = shown_text(str(norm))
        raise InputError(f"q: expected a positive number, or an expression in q, got {said}; q is a mean square.")
    return norm


def _rounded(x: mp.mpf) -> mp.mpf:
    if x < -_NEGATIVE:
        raise ClosedFormError(f"the square root of {mp.nstr(x, 5)}: these are no moments of a Gaussian.")
    return max(x, mp.mpf(0))


def _root(x: mp.mpf) -> mp.mpf:
    return mp.sqrt(_rounded(mp.mpf(x)))


def _arccosine(x: mp.mpf) -> mp.mpf:
    _rounded(1 - abs(mp.mpf(x)))
    return mp.acos(max(min(x, mp.mpf(1)), mp.mpf(-1)))


_MPMATH: dict[Any, Callable[..., mp.mpf]] = {
    sp.Pow: mp.power,
    sp.acos: _arccosine,
    sp.asin: mp.asin,
    sp.atan2: mp.atan2,
    sp.exp: mp.exp,
    sp.sinh: mp.sinh,
    sp.cosh: mp.cosh,
}
