"""Texts and symbols that no argument expects, and the file that one of them would make if it were run."""

from __future__ import annotations

from typing import Any

import sympy as sp

MARK = "WAS_RUN"  # the file that hostile text would make
CODE = f"__import__('os').system('touch {MARK}')"

TEXTS: tuple[str, ...] = (
    CODE,
    f"open('{MARK}', 'w')",
    f"exec(\"open('{MARK}', 'w')\")",
    f"(lambda: open('{MARK}', 'w'))()",
    f"[open('{MARK}', 'w') for _ in (1,)]",
    "u.__class__.__base__.__subclasses__()",
    "z.free_symbols",
    "lambda u, v: u",
    "9**9**9",
    "9**9**9**9*u",
    "((2**64)**64)**64*z",
    "exp(exp(exp(exp(9))))",
    "(" * 100_000 + "u" + ")" * 100_000,
    "(" * 150 + "u" + ")" * 150,
    "+".join(["u"] * 100_000),
    "u" + "+u" * 400,
    "-" * 900 + "u",
    "9" * 5_000,
    "1e999",
    "ｕ + ﬁ",
    "𝐮*𝐯",
    "u\0v",
    "\ud800",
    "u; v",
    "0.5 if u else v",
    "factorial(10**9)",
    "Integral(u, (u, 0, 1))",
    "Symbol('u')",
    "",
    " ",
    "nan",
    "1/0",
    "a" * 100_000,
)
_U = sp.Symbol("u", real=True)


class OwnInteger(sp.Integer):
    """A class of SymPy's with methods of its own, where a number is due."""

    def __float__(self) -> float:
        raise ZeroDivisionError("a method of its own")

    __int__ = __index__ = __bool__ = __len__ = __array__ = __float__

    def _eval_evalf(self, *_: Any) -> Any:
        raise ZeroDivisionError("a method of its own")


class OwnSymbol(sp.Symbol):
    """The same of a symbol."""

    def __float__(self) -> float:
        raise ZeroDivisionError("a method of its own")

    def __iter__(self) -> Any:
        raise ZeroDivisionError("a method of its own")


def _symbols() -> tuple[Any, ...]:
    deep, shared = _U, _U
    for _ in range(300):
        deep = sp.sin(deep)
    for _ in range(40):
        shared = sp.sin(shared) + sp.cos(shared)
    return (
        sp.Symbol(CODE),
        _U + sp.Symbol(CODE),
        sp.Function(CODE)(_U),
        sp.Lambda(_U, _U),
        sp.Integral(_U, (_U, 0, 1)),
        sp.Derivative(sp.sin(_U), _U),
        sp.Symbol("u", integer=True),
        sp.Dummy("u"),
        sp.Wild("u"),
        deep,
        shared,
        sp.Pow(9, sp.Pow(9, 9, evaluate=False), evaluate=False),
        sp.Add(*(sp.sin(k * _U) for k in range(3_000))),
        sp.nan,
        sp.oo,
        sp.zoo,
        sp.I,
        sp.true,
        sp.Eq(_U, 1),
        sp.Matrix([[_U]]),
        sp.ImmutableMatrix([[_U]]),
        sp.Integer(10) ** 4_000,
        sp.Rational(1, 3),
        sp.Float("1e400"),
        sp.Interval(0, 1),
        sp.Tuple(_U, _U),
        sp.Piecewise((1, _U > 0)),
        sp.MatrixSymbol("u", 2, 2),
        sp.IndexedBase("u")[0],
        OwnSymbol("u", real=True),
        sp.sin(OwnSymbol("u")),
        sp.Integer.__new__(OwnInteger, 3),
        sp.Pow(sp.Integer(2), sp.Pow(sp.Integer(2), sp.Pow(9, 9, evaluate=False), evaluate=False), evaluate=False),
        sp.exp(sp.exp(sp.exp(sp.exp(9)))),
    )


SYMBOLS = _symbols()
