"""Expressions from users: one whitelist, one evaluator, and where an expression is not smooth.

Text is parsed with :mod:`ast` and built node by node; a SymPy object is walked and checked against the same
table. Neither ever becomes code: evaluation walks the tree with NumPy functions.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce
from itertools import islice
from numbers import Integral
from typing import Any

import numpy as np
import sympy as sp
from scipy.special import erf as _erf
from sympy.functions.elementary.piecewise import ExprCondPair

from graphon_theory.errors import ExpressionError
from graphon_theory.numerics import wide_numbers
from graphon_theory.numerics.wide_numbers import Wide

MAX_TEXT = 2_000  # characters of a text
MAX_DEPTH = 60  # nesting of an expression
MAX_NODES = 2_000  # size of an expression
MAX_INTEGER = 2**256  # numerators and denominators
MAX_EXPONENT = 64  # of powers
MAX_CHOICES = 24  # arguments of one Min or Max: SymPy compares all pairs of them

_NUMPY: dict[Any, Callable[..., Any]] = {
    sp.exp: np.exp,
    sp.log: np.log,
    sp.sin: np.sin,
    sp.cos: np.cos,
    sp.tan: np.tan,
    sp.sinh: np.sinh,
    sp.cosh: np.cosh,
    sp.tanh: np.tanh,
    sp.erf: _erf,
    sp.Abs: np.abs,
    sp.sign: np.sign,
    sp.Heaviside: lambda x, at_zero=0.5: np.heaviside(x, at_zero),
    sp.StrictLessThan: np.less,
    sp.LessThan: np.less_equal,
    sp.StrictGreaterThan: np.greater,
    sp.GreaterThan: np.greater_equal,
    sp.Equality: np.equal,
    sp.Unequality: np.not_equal,
    sp.Not: np.logical_not,
}
_FOLDS: dict[Any, Callable[..., Any]] = {
    sp.Add: np.add,
    sp.Mul: np.multiply,
    sp.Min: np.minimum,
    sp.Max: np.maximum,
    sp.And: np.logical_and,
    sp.Or: np.logical_or,
}
_WIDE: dict[Any, Callable[..., Any]] = {  # others need not be told from infinity
    sp.Add: wide_numbers.add,
    sp.Mul: wide_numbers.multiply,
    sp.exp: wide_numbers.exp,
    sp.log: wide_numbers.log,
    sp.sinh: wide_numbers.sinh,
    sp.cosh: wide_numbers.cosh,
    sp.Abs: wide_numbers.absolute,
}
_NUMBERS = (sp.Integer, sp.Rational, sp.Float, *(type(n) for n in (sp.Rational(1, 2), *map(sp.Integer, (-1, 0, 1)))))
_CONSTANTS = (type(sp.pi), type(sp.E), type(sp.true), type(sp.false))
# Exact types: a subclass could bring methods of its own, which SymPy would run.
_CLASSES: frozenset[Any] = frozenset(
    (*_NUMPY, *_FOLDS, sp.Pow, sp.Piecewise, ExprCondPair, sp.Symbol, sp.Dummy, *_NUMBERS, *_CONSTANTS)
)
_ALLOWED = (
    "numbers, pi, E, + - * / **, comparisons, exp log sqrt sin cos tan sinh cosh tanh erf, Abs/abs, sign, "
    "Min/min, Max/max, Heaviside, Piecewise"
)
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh, sp.erf)},
    "sqrt": sp.sqrt,
    "Abs": sp.Abs,
    "abs": sp.Abs,
    "Min": sp.Min,
    "min": sp.Min,
    "Max": sp.Max,
    "max": sp.Max,
    "Heaviside": sp.Heaviside,
    "sign": sp.sign,
    "Ne": sp.Ne,
    "Eq": sp.Eq,
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.BitAnd: sp.And,
    ast.BitOr: sp.Or,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: sp.Eq,
    ast.NotEq: sp.Ne,
}


def symbol(name: str) -> sp.Symbol:
    """The canonical (real) symbol of that name."""
    return sp.Symbol(name, real=True)


def parse(source: str | sp.Basic, names: tuple[str, ...]) -> sp.Expr:
    """Turn text or a SymPy object into a checked expression in the canonical symbols ``names``.

    Raises ExpressionError for anything outside the whitelist, for over-long, over-deep or over-large input,
    and for an expression without a finite real value.
    """
    expr = _Builder(source, names).build() if isinstance(source, str) else _as_basic(source)
    _check(expr, names, source)
    replaced = expr.xreplace({s: symbol(s.name) for s in expr.free_symbols})
    if not isinstance(replaced, sp.Expr):
        raise ExpressionError(f"{_show(source)}: expected a value, got the condition {replaced}; use Piecewise.")
    return replaced


def text(expr: sp.Basic) -> str:
    """Text that :func:`parse` reads back to the same expression, floats to the last digit."""
    return _Printer().doprint(expr)


class _Printer(sp.printing.str.StrPrinter):
    def _print_Float(self, expr: sp.Float) -> str:
        return repr(float(expr))


def _as_basic(source: object) -> sp.Basic:
    if isinstance(source, sp.Basic):
        return source
    if isinstance(source, Integral) and not isinstance(source, bool):
        return sp.Integer(int(source))
    if isinstance(source, float | np.floating):
        return sp.Float(float(source))
    raise ExpressionError(
        f"expected a SymPy expression or its text, got {type(source).__name__}, which is not allowed."
    )


def _show(source: object) -> str:
    if isinstance(source, sp.Basic):
        nodes = list(islice(_walk(source), 100))
        if len(nodes) == 100:
            return f"expression ({type(source).__name__} of many terms)"  # shared parts could print for ever
        if not all(type(node) in _CLASSES for node, _ in nodes):  # they would print themselves
            return f"expression ({type(source).__name__})"
    try:
        shown = str(source)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "expression with a huge integer"
    return f"expression {shown[:80]!r}{'...' if len(shown) > 80 else ''}"


def _beyond(exponent: Any) -> bool:
    """Whether a numeric exponent is too large, or no real number at all; others pass."""
    if not getattr(exponent, "is_number", False):
        return False
    try:
        return not abs(evaluate(exponent, {})) <= MAX_EXPONENT
    except (TypeError, ValueError, KeyError, ArithmeticError):
        return True


def _exact_terms(exponent: Any) -> Any:
    """The exponent with its constant as a fraction: of exp(3000*u - 2331.0) SymPy makes exp(-2331.0) exp(3000*u)."""
    if not (isinstance(exponent, sp.Add) and any(term.is_Float for term in exponent.args)):
        return exponent
    terms = [sp.Rational(repr(float(term))) if term.is_Float else term for term in exponent.args]
    large = any(isinstance(term, sp.Rational) and max(abs(term.p), term.q) > MAX_INTEGER for term in terms)
    return exponent if large else sp.Add(*terms)


class _Builder:
    """Build a SymPy expression from text, one whitelisted syntax node at a time."""

    def __init__(self, source: str, names: tuple[str, ...]) -> None:
        self.source, self.names = source, names

    def refuse(self, what: str) -> ExpressionError:
        return ExpressionError(
            f"{_show(self.source)}: {what} is not allowed; expected {', '.join(self.names)}, {_ALLOWED}."
        )

    def build(self) -> Any:
        if len(self.source) > MAX_TEXT:
            raise ExpressionError(
                f"{_show(self.source)}: {len(self.source)} characters, at most {MAX_TEXT} are read; "
                "write a FunctionGraphon or a callable instead."
            )
        try:
            tree = ast.parse(self.source.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"{_show(self.source)}: not a readable expression ({error}).") from None
        return self.node(tree.body, 0)

    def node(self, node: ast.AST, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"{_show(self.source)}: nested deeper than {MAX_DEPTH}; simplify it.")

        def down(child: ast.AST) -> Any:
            return self.node(child, depth + 1)

        match node:
            case ast.Constant(value=bool() as value):
                return sp.true if value else sp.false
            case ast.Constant(value=int() as value):
                return self.bounded(sp.Integer(value))
            case ast.Constant(value=float() as value):
                return sp.Float(value)
            case ast.Name(id=name) if name in self.names:
                return symbol(name)
            case ast.Name(id="pi"):
                return sp.pi
            case ast.Name(id="E"):
                return sp.E
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return self.apply(operator.neg, down(inner))
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return down(inner)
            case ast.UnaryOp(op=ast.Invert(), operand=inner):
                return self.apply(sp.Not, down(inner))
            case ast.BinOp(op=op) if type(op) in _BINARY:
                return self.chain(node, down)
            case ast.Compare(left=left, ops=ops, comparators=right) if all(type(o) in _COMPARE for o in ops):
                terms = [down(left), *map(down, right)]
                pairs = zip(ops, terms, terms[1:], strict=False)
                return sp.And(*[self.apply(_COMPARE[type(o)], a, b) for o, a, b in pairs])
            case ast.Call(func=ast.Name(id="Piecewise"), args=args, keywords=[]) if args:
                return self.apply(sp.Piecewise, *[self.piece(arg, down) for arg in args])
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
                if len(args) > MAX_CHOICES:
                    raise self.refuse(f"{name} of {len(args)} arguments (beyond {MAX_CHOICES})")
                return self.apply(_FUNCTIONS[name], *map(down, args))
            case ast.Name(id=name):
                raise self.refuse(f"the name {name!r}")
            case ast.Call():
                raise self.refuse(f"the call {ast.unparse(node)[:40]!r}")
        raise self.refuse(f"{type(node).__name__}")

    def chain(self, node: ast.AST, down: Callable[[ast.AST], Any]) -> Any:
        """a + b - c ... from left to right, without recursion: a sum of many terms is long, not deep."""
        steps: list[ast.BinOp] = []
        while isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            steps.append(node)
            node = node.left
        value = down(node)
        for step in reversed(steps):
            right = down(step.right)
            if isinstance(step.op, ast.Pow) and _beyond(right):
                raise self.refuse(f"the exponent {right} (beyond {MAX_EXPONENT})")
            value = self.apply(_BINARY[type(step.op)], value, right)
        return value

    def piece(self, node: ast.AST, down: Callable[[ast.AST], Any]) -> tuple[Any, Any]:
        if not isinstance(node, ast.Tuple) or len(node.elts) != 2:
            raise self.refuse("a Piecewise branch that is not (value, condition)")
        return down(node.elts[0]), down(node.elts[1])

    def apply(self, function: Callable[..., Any], *args: Any) -> Any:
        if function is sp.exp or (function is operator.pow and args[0] == sp.E):
            args = (*args[:-1], _exact_terms(args[-1]))
        try:
            return self.bounded(function(*args))
        except ExpressionError:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, NotImplementedError) as error:
            raise ExpressionError(f"{_show(self.source)}: cannot be built ({error}).") from None

    def bounded(self, value: Any) -> Any:
        if isinstance(value, sp.Rational) and max(abs(value.p), value.q) > MAX_INTEGER:
            raise ExpressionError(f"{_show(self.source)}: an integer beyond 2**256; write it as a float.")
        # SymPy compares numbers digit by digit: exp(exp(exp(19))) would keep it busy for ever
        if isinstance(value, sp.Expr) and value.is_number and not value.is_Atom:
            number = evaluate(value, {})
            if not np.isfinite(number):
                raise ExpressionError(f"{_show(self.source)}: the number {value} is {number}; it must be finite.")
        return value


# What may be known of a symbol: that it is real, and of positions that they are positive.
_KNOWN = {name: symbol(name).assumptions0 for name in ("z",)} | {
    name: sp.Symbol(name, positive=True).assumptions0 | sp.Symbol(name, nonnegative=True).assumptions0 for name in "uv"
}


def _assumed(node: sp.Symbol) -> str | None:
    """The assumption with which a symbol leaves out a part of the real line, or of [0, 1], if it does."""
    known = _KNOWN[node.name]
    wrong = {fact: value for fact, value in node.assumptions0.items() if known.get(fact) is not value}
    # rather than what follows from them
    told = ("positive", "negative", "nonnegative", "nonpositive", "integer", "imaginary")
    shown = sorted((fact for fact in (*told, *wrong) if fact in wrong), key=lambda fact: not wrong[fact])
    return f"{shown[0]}={wrong[shown[0]]}" if shown else None


def _walk(expr: Any) -> Iterator[tuple[Any, int]]:
    """All nodes with their depths, from the outermost on, without recursion; below what is not known nothing."""
    stack: list[tuple[Any, int]] = [(expr, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        if type(node) in _CLASSES:
            stack.extend((child, depth + 1) for child in node.args)


def _check(expr: Any, names: tuple[str, ...], source: object) -> None:
    """Refuse whatever is not in the table: first the types of all nodes and how many there are, then what they say."""
    nodes = []
    for node, depth in _walk(expr):
        nodes.append(node)
        if depth > 2 * MAX_DEPTH or len(nodes) > MAX_NODES:
            raise ExpressionError(f"{_show(source)}: more than {MAX_NODES} nodes or too deep; simplify it.")
        if type(node) not in _CLASSES:
            raise ExpressionError(
                f"{_show(source)}: {type(node).__name__} is not allowed; expected {', '.join(names)}, {_ALLOWED}."
            )
    for node in nodes:
        if isinstance(node, sp.Symbol):
            if type(node.name) is not str or node.name not in names:
                raise ExpressionError(
                    f"{_show(source)}: the symbol {str.__str__(node.name)!r} is not allowed; expected "
                    f"{', '.join(names)}."
                )
            wrong = _assumed(node)
            if wrong is not None:
                raise ExpressionError(
                    f"{_show(source)}: the symbol {node.name!r} is assumed to be {wrong}, which leaves out a part of "
                    f"where it is needed; make it by Symbol({node.name!r}, real=True), or pass the text."
                )
        elif isinstance(node, (sp.Rational, sp.Float)):
            large = max(abs(node.p), node.q) > MAX_INTEGER if isinstance(node, sp.Rational) else False
            if large or not np.isfinite(float(node)):
                raise ExpressionError(f"{_show(source)}: a number in it is not finite or too large.")
        elif isinstance(node, sp.Pow):
            if _beyond(node.exp):
                raise ExpressionError(
                    f"{_show(source)}: an exponent is beyond {MAX_EXPONENT}; write it as exp(n*log(x))."
                )
        elif isinstance(node, (sp.Min, sp.Max)) and len(node.args) > MAX_CHOICES:
            raise ExpressionError(f"{_show(source)}: {node.func.__name__} of more than {MAX_CHOICES} arguments.")
        # SymPy would write powers out, digit by digit, and mpmath fails at towers of exponentials
        if isinstance(node, sp.Pow | sp.exp) and not node.free_symbols and not np.isfinite(evaluate(node, {})):
            raise ExpressionError(f"{_show(source)}: a number in it is not finite or too large.")


def evaluate(expr: sp.Basic, values: Mapping[str, Any]) -> Any:
    """The value of a checked expression with NumPy arrays in place of its symbols (branches not taken may be NaN)."""
    return Program(expr)(values)


class Program:
    """A checked expression as a list of NumPy functions, each applied to results before it: :func:`evaluate`, often.

    Where the result is not finite, it is taken again by numbers that do not overflow on the way (``wide_numbers``).
    """

    def __init__(self, expr: sp.Basic) -> None:
        self._start: list[Any] = []  # constants, in the places of their results
        self._symbols: list[tuple[int, str]] = []
        self._steps: list[tuple[int, Callable[..., Any], Callable[..., Any], tuple[int, ...]]] = []
        self._places: dict[Any, int] = {}
        self._result = self._place(expr)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        results = self._start.copy()
        for place, name in self._symbols:
            results[place] = values[name]
        with np.errstate(all="ignore"):
            for place, function, _, args in self._steps:
                results[place] = function(*[results[arg] for arg in args])
            found = results[self._result]
            if not self._steps or np.isfinite(found).all():
                return found
            names = [name for _, name in self._symbols]
            whole, *given = np.broadcast_arrays(found, *(values[name] for name in names))
            wrong = ~np.isfinite(whole)
            again = self._widely({name: one[wrong] for name, one in zip(names, given, strict=True)})
        out = np.array(whole, dtype=float)
        out[wrong] = again
        return out if out.ndim else out[()]

    def _widely(self, values: Mapping[str, Any]) -> Any:
        """The same by wide numbers, which take longer."""
        results: list[Any] = [one if isinstance(one, bool) or one is None else Wide.of(one) for one in self._start]
        for place, name in self._symbols:
            results[place] = Wide.of(values[name])
        for place, _, wide, args in self._steps:
            results[place] = wide(*[results[arg] for arg in args])
        found = results[self._result]
        return found.plain if isinstance(found, Wide) else found

    def _place(self, node: Any) -> int:
        if node not in self._places:
            self._places[node] = self._new(node)
        return self._places[node]

    def _new(self, node: Any) -> int:
        if isinstance(node, sp.Symbol):
            self._start.append(None)
            self._symbols.append((len(self._start) - 1, node.name))
        elif node in (sp.true, sp.false):
            self._start.append(bool(node))
        elif node.is_Atom:
            self._start.append(float(node))
        else:
            function, wide, inner = _step(node)
            args = tuple(self._place(arg) for arg in inner)
            self._start.append(None)
            self._steps.append((len(self._start) - 1, function, wide, args))
        return len(self._start) - 1


def _step(node: Any) -> tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]:
    """The NumPy function of a node, the same of wide numbers, and the nodes that it takes."""
    if isinstance(node, sp.Pow):
        if node.exp.is_Integer:
            n = int(node.exp)
            return partial(_whole_power, exponent=n), partial(wide_numbers.whole_power, n=n), (node.base,)
        if node.exp == sp.Rational(1, 2):
            return np.sqrt, wide_numbers.root, (node.base,)
        if node.exp == sp.Rational(-1, 2):
            return lambda base: 1.0 / np.sqrt(base), wide_numbers.inverse_root, (node.base,)
        return lambda base, exponent: np.power(np.asarray(base, dtype=float), exponent), wide_numbers.power, node.args
    if isinstance(node, sp.Piecewise):
        return _pieces, wide_numbers.pieces, tuple(part for piece in node.args for part in piece.args)
    if node.func in _FOLDS:
        fold = _FOLDS[node.func]

        def folded(*args: Any) -> Any:
            return reduce(fold, args)

        wide = wide_numbers.folded(_WIDE[node.func]) if node.func in _WIDE else wide_numbers.plainly(folded)
        return folded, wide, node.args
    plain = _NUMPY[node.func]
    return plain, _WIDE.get(node.func) or wide_numbers.plainly(plain), node.args


def _whole_power(base: Any, exponent: int) -> Any:
    return np.float64(1.0) / np.asarray(base) ** -exponent if exponent < 0 else np.asarray(base) ** exponent


def _pieces(*args: Any) -> Any:
    """The first value whose condition holds, of value, condition, value, condition, ..."""
    out: Any = np.nan
    for value, condition in zip(args[-2::-2], args[::-2], strict=True):
        out = np.where(condition, value, out)
    return out


def switches(expr: sp.Basic) -> list[sp.Expr]:
    """The functions whose zero sets hold every place where ``expr`` may fail to be smooth.

    |s|, sign(s), Heaviside(s), min and max (differences of arguments), the conditions of a Piecewise, and powers that
    are not natural numbers or logarithms (their argument at zero).
    """
    found: dict[sp.Expr, None] = {}
    for node in sp.preorder_traversal(expr):
        if isinstance(node, (sp.Abs, sp.Heaviside, sp.sign, sp.log)):
            found[node.args[0]] = None
        elif isinstance(node, (sp.Min, sp.Max)):
            args = node.args
            found.update({args[i] - args[j]: None for i in range(len(args)) for j in range(i)})
        elif isinstance(node, sp.core.relational.Relational):
            found[node.lhs - node.rhs] = None
        elif isinstance(node, sp.Pow) and not (node.exp.is_Integer and node.exp > 0) and node.base.free_symbols:
            found[node.base] = None
    return [s for s in found if s.free_symbols]
