"""Expressions: what is let in, what is refused without being run, how it evaluates and prints, where it bends."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

import graphon_theory as gt
from graphon_theory.numerics import expressions
from graphon_theory.numerics.expressions import evaluate, parse, switches, symbol, text

UV = ("u", "v")
u, v = symbol("u"), symbol("v")
POINTS = np.array([[0.1, 0.5, 0.9], [0.9, 0.5, 0.2]])


def value(source: str | sp.Basic, **at: Any) -> Any:
    return evaluate(parse(source, UV), at or {"u": POINTS[0], "v": POINTS[1]})


# --- what is let in ---------------------------------------------------------------------------------------------------

SAMPLES: dict[str, Any] = {
    "0.25": lambda u, v: 0.25 + 0 * u,
    "pi*u + E*v": lambda u, v: np.pi * u + np.e * v,
    "u - v/3 + 2*u*v": lambda u, v: u - v / 3 + 2 * u * v,
    "-(+u)**2": lambda u, v: -(u**2),
    "u**0.5 + v**-2 + 2**u + u**v": lambda u, v: np.sqrt(u) + v**-2.0 + 2**u + u**v,
    "exp(-u) + log(v) + sqrt(u)": lambda u, v: np.exp(-u) + np.log(v) + np.sqrt(u),
    "sin(u) + cos(v) + tan(u*v)": lambda u, v: np.sin(u) + np.cos(v) + np.tan(u * v),
    "sinh(u) - cosh(v) + tanh(u + v)": lambda u, v: np.sinh(u) - np.cosh(v) + np.tanh(u + v),
    "erf(u - v)": lambda u, v: erf(u - v),
    "Abs(u - v) + abs(u - 1/2)": lambda u, v: np.abs(u - v) + np.abs(u - 0.5),
    "Min(u, v) + max(u, v, 1/2)": lambda u, v: np.minimum(u, v) + np.maximum(np.maximum(u, v), 0.5),
    "Heaviside(u - v)": lambda u, v: np.heaviside(u - v, 0.5),
    "Heaviside(u - v, 1)": lambda u, v: np.heaviside(u - v, 1.0),
    "Piecewise((u, u < v), (v**2, u > 0.7), (1, True))": lambda u, v: np.where(u < v, u, np.where(u > 0.7, v**2, 1.0)),
    "Piecewise((1, (u <= 0.5) & (v >= 0.5)), (0, True))": lambda u, v: ((u <= 0.5) & (v >= 0.5)) * 1.0,
    "Piecewise((1, (u < 0.2) | ~(v > 0.3)), (0, True))": lambda u, v: ((u < 0.2) | ~(v > 0.3)) * 1.0,
    "Piecewise((2, 0.2 < u < 0.6), (3, Eq(u, v)), (4, True))": lambda u, v: np.where((u > 0.2) & (u < 0.6), 2.0, 4.0),
}


@pytest.mark.parametrize("source", SAMPLES)
def test_text_means_what_numpy_computes(source: str) -> None:
    np.testing.assert_allclose(value(source), SAMPLES[source](*POINTS), rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize("source", SAMPLES)
def test_printed_text_reads_back_to_the_same_expression(source: str) -> None:
    expr = parse(source, UV)
    assert parse(text(expr), UV) == expr


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_printing_to_the_last_digit(number: float) -> None:
    expr = parse(sp.Float(number) + 3 * u, UV)
    assert float(parse(text(expr), UV).subs(u, 0)) == number


def test_division_is_exact_and_powers_bind_to_the_right() -> None:
    assert parse("1/3", UV) == sp.Rational(1, 3)
    assert parse("2**3**2", UV) == 512
    assert parse("1 - 2 - 3*u", UV) == -1 - 3 * u


def test_symbols_of_any_assumption_become_the_canonical_ones() -> None:
    loose, positive = sp.Symbol("u"), sp.Symbol("u", positive=True)
    assert parse(loose + positive + sp.Symbol("v", nonnegative=True), UV) == 2 * u + v
    assert parse(sp.sqrt(loose**2), UV) == sp.Abs(u)


def test_assumptions_that_leave_out_a_part_are_refused() -> None:
    """SymPy has simplified by them before anything is seen: Max(z, 0) of a positive z is z."""
    for symbol_, fact, names in (
        (sp.Symbol("v", integer=True), "integer=True", UV),
        (sp.Symbol("u", negative=True), "negative=True", UV),
        (sp.Symbol("z", positive=True), "positive=True", ("z",)),
        (sp.Symbol("z", nonnegative=True), "nonnegative=True", ("z",)),
        (sp.Symbol("z", imaginary=True), "imaginary=True", ("z",)),
    ):
        with pytest.raises(gt.ExpressionError, match=rf"assumed to be {fact}.*Symbol\(.*, real=True\)"):
            parse(sp.cos(symbol_), names)
    assert parse(sp.exp(sp.Symbol("z", complex=True)), ("z",)) == sp.exp(symbol("z"))


def test_sign_is_read_and_jumps() -> None:
    expr = parse("sign(u - v)", UV)
    assert parse(text(expr), UV) == expr
    assert value("sign(u - v)", u=0.2, v=0.5) == -1.0
    assert len(gt.AnalyticGraphon("0.5 + 0.2*sign(u - 0.3)").u_breaks) == 3


def test_names_are_those_asked_for() -> None:
    assert parse("tanh(z)", ("z",)) == sp.tanh(symbol("z"))
    with pytest.raises(gt.ExpressionError, match=r"the name 'u' is not allowed; expected z"):
        parse("u", ("z",))


def test_long_sums_are_not_deep() -> None:
    """A Fourier series of SymPy prints as a long chain of sums; it must read back."""
    expr = parse(sum(sp.cos(k * u) / k for k in range(1, 91)), UV)
    assert parse(text(expr), UV) == expr
    assert value("+".join(["u"] * 900), u=0.5) == pytest.approx(450.0, rel=1e-14)


def test_branches_not_taken_may_be_undefined() -> None:
    got = value("Piecewise((log(u - 1/2), u > 1/2), (0, True))")
    np.testing.assert_allclose(got, [0.0, 0.0, math.log(0.4)], rtol=1e-14)


# --- what is refused, and never run -----------------------------------------------------------------------------------

CODE = [
    "__import__('os').system('touch {file}')",
    'exec(\'open("{file}", "w")\')',
    "open('{file}', 'w')",
    "(lambda: open('{file}', 'w'))()",
    "[open('{file}', 'w') for x in (1,)]",
    "(x := open('{file}', 'w'))",
    "u.__class__.__base__.__subclasses__()",
    'f\'{{open("{file}", "w")}}\'',
    "u if open('{file}', 'w') else v",
    "sympify(\"open('{file}', 'w')\")",
    "exp(open('{file}', 'w'))",
    "exp(u, evaluate=open('{file}', 'w'))",
    "exp(*[open('{file}', 'w')])",
]


@pytest.mark.parametrize("code", CODE)
def test_code_in_text_is_refused_and_not_run(code: str, tmp_path: Path) -> None:
    file = tmp_path / "was_run"
    source = code.format(file=file)
    with pytest.raises(gt.ExpressionError, match="not allowed; expected u, v, numbers"):
        gt.AnalyticGraphon(source)
    with pytest.raises(gt.ExpressionError, match="layer 1: mask: expression"):
        gt.Network([source])
    assert not file.exists()


@pytest.mark.parametrize("code", CODE[:4])
def test_code_in_toml_is_refused_and_not_run(code: str, tmp_path: Path) -> None:
    file = tmp_path / "was_run"
    quoted = code.format(file=file).replace("\\", "\\\\").replace('"', '\\"')
    with pytest.raises(gt.ExpressionError, match=r"layer 1, mask: expression .* is not allowed"):
        gt.Network.from_toml(f'[[layer]]\nmask = "{quoted}"\n')
    assert not file.exists()


@pytest.mark.parametrize("code", CODE[:4])
def test_code_as_the_name_of_a_symbol_or_function_is_refused_and_not_run(code: str, tmp_path: Path) -> None:
    file = tmp_path / "was_run"
    name = code.format(file=file)
    with pytest.raises(gt.ExpressionError, match=r"the symbol .* is not allowed; expected u, v\."):
        gt.AnalyticGraphon(u + sp.Symbol(name))
    with pytest.raises(gt.ExpressionError, match="is not allowed; expected u, v, numbers"):
        gt.as_graphon(sp.Function(name)(u))
    assert not file.exists()


def test_nothing_reaches_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> int:
        pytest.fail("an expression was run")

    monkeypatch.setattr(os, "system", run)
    attack = "__import__('os').system('x')"
    for source in (attack, sp.Symbol(attack), sp.Symbol("u") * sp.Symbol(attack), sp.Function(attack)(sp.Symbol("u"))):
        with pytest.raises(gt.ExpressionError):
            gt.as_graphon(source)


class Hostile(sp.Symbol):
    """A symbol that runs code of its own wherever SymPy prints, differentiates or replaces it."""

    def _run(self, *_: Any, **__: Any) -> Any:
        pytest.fail("a method of a user's class was run")

    _sympystr = _latex = _eval_derivative = _eval_subs = _eval_evalf = _xreplace = _numpycode = _run


class HostileSine(sp.sin):
    _sympystr = _latex = fdiff = _eval_derivative = _eval_evalf = _xreplace = Hostile._run


class HostileName(str):
    def __eq__(self, other: object) -> bool:
        pytest.fail("the name of a symbol was asked")

    __hash__ = str.__hash__


def _tower() -> sp.Expr:
    """2^60^60..., which SymPy would write out as soon as it builds a product of it."""
    out = sp.Integer(2)
    for _ in range(6):
        out = sp.Pow(out, 60, evaluate=False)
    return sp.Mul(out, u, evaluate=False)


@pytest.mark.parametrize(
    "source",
    [
        Hostile("u"),
        Hostile("u") + 1,
        sp.sin(Hostile("u")),
        HostileSine(u),
        u * HostileSine(v, evaluate=False),
        sp.Symbol(HostileName("u")),
        sp.Lambda(u, u),
        sp.Derivative(sp.sin(u), u),
        sp.Wild("u"),
        sp.IndexedBase("u")[0],
        sp.MatrixSymbol("u", 2, 2),
        _tower(),
    ],
    ids=range(12),
)
def test_objects_with_methods_of_their_own_are_refused_and_not_asked(source: Any) -> None:
    for door in (gt.AnalyticGraphon, gt.as_graphon, gt.Activation, lambda one: gt.saliency_pruning(one, 1.0, 0.5)):
        with pytest.raises(gt.GraphonError, match=r"not allowed|too large|expected"):
            door(source)
    with pytest.raises(gt.GraphonError, match=r"not allowed|too large|expected"):
        gt.closed_form(gt.Network([1.0])).at_equal_norms(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("w", "the name 'w' is not allowed; expected u, v, numbers"),
        ("gamma(u)", r"the call 'gamma\(u\)' is not allowed"),
        ("u % v", "BinOp is not allowed"),
        ("1j*u", "Constant is not allowed"),
        ("'u'", "Constant is not allowed"),
        ("u and v", "BoolOp is not allowed"),
        ("u[0]", "Subscript is not allowed"),
        ("", "not a readable expression"),
        ("u +", "not a readable expression"),
        ("u v", "not a readable expression"),
        ("\0", "not a readable expression"),
        ("exp(u, v)", "cannot be built"),
        ("(u < v)*2", "cannot be built"),
        ("u < v", "expected a value, got the condition u < v; use Piecewise"),
        ("Piecewise(u, v)", r"a Piecewise branch that is not \(value, condition\)"),
        ("sqrt(-1)*u", "ImaginaryUnit is not allowed"),
        ("1/0", "ComplexInfinity is not allowed"),
        ("(0/0)*u", "NaN is not allowed"),
        ("1e400", "Infinity is not allowed"),
        ("(-8)**(1/3)", r"the number .* is nan; it must be finite"),
        ("u + 9.9**9.9**9.9", "the exponent .* is not allowed"),
        ("((9.9**64)**64)**64*u", "not finite"),
    ],
)
def test_what_is_not_in_the_table_is_named(source: str, message: str) -> None:
    with pytest.raises(gt.ExpressionError, match=message):
        parse(source, UV)


@pytest.mark.parametrize(
    "source",
    [sp.oo, sp.nan, sp.I * u, sp.Integral(u, (u, 0, 1)), sp.floor(u), sp.Eq(u, v), sp.Matrix([[u]]), sp.gamma(u)],
    ids=str,
)
def test_sympy_objects_pass_the_same_table(source: Any) -> None:
    with pytest.raises(gt.ExpressionError, match=r"not allowed|expected a value"):
        parse(source, UV)


@pytest.mark.parametrize("source", [None, [1, 2], object(), np.ones((2, 2)), b"u"])
def test_what_is_neither_text_nor_sympy_is_refused(source: Any) -> None:
    with pytest.raises(gt.ExpressionError, match="expected a SymPy expression or its text, got"):
        parse(source, UV)


# --- no text keeps the parser busy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("u" + " " * expressions.MAX_TEXT, "characters, at most 2000 are read"),
        ("abs(" * 70 + "u" + ")" * 70, "nested deeper than 60"),
        ("-" * 70 + "u", "nested deeper than 60"),
        ("(" * 1000 + "u" + ")" * 1000, "not a readable expression|characters"),
        ("9" * 300, r"an integer beyond 2\*\*256"),
        ("2**64**64", r"an integer beyond 2\*\*256"),
        ("((2**64)**64)**64", r"an integer beyond 2\*\*256"),
        ("((u**64)**64)**64", "an exponent is beyond 64"),
        ("u**(0/0)", "the exponent nan"),
        ("u**65", r"the exponent 65 \(beyond 64\)"),
        ("Piecewise((1, exp(exp(exp(19))) < 1), (0, True))", "the number .* is inf; it must be finite"),
        ("min(u, exp(exp(exp(19))))", "the number .* is inf"),
        (f"max({', '.join(f'sin({i}*u)' for i in range(120))})", r"max of 120 arguments \(beyond 24\)"),
    ],
)
def test_oversized_text_is_refused_before_it_costs_anything(source: str, message: str) -> None:
    with pytest.raises(gt.ExpressionError, match=message):
        parse(source, UV)


def test_oversized_sympy_objects_are_refused_too() -> None:
    shared: sp.Expr = u
    for _ in range(40):  # 2^40 nodes if written out
        shared = sp.sin(shared) + sp.cos(shared)
    deep: sp.Expr = u
    for _ in range(130):
        deep = sp.sin(deep)
    for source, message in (
        (shared, "more than 2000 nodes or too deep"),
        (deep, "more than 2000 nodes or too deep"),
        (v ** (10**9), "an exponent is beyond 64"),
        (u * sp.Integer(2) ** 20_000, "a number in it is not finite or too large"),
        (sp.Max(*(u * k - v for k in range(25))), "Max of more than 24 arguments"),
    ):
        with pytest.raises(gt.ExpressionError, match=message):
            parse(source, UV)


# --- where an expression may fail to be smooth ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("exp(-3*(u - v)**2) + u**3/(1 + 4)", []),
        ("abs(u - v)", [u - v]),
        ("Heaviside(2*u - v)", [2 * u - v]),
        ("sqrt(u*v)", [u, v]),
        ("log(u + v)", [u + v]),
        ("u**v", [u]),
        ("1/(u + v)", [u + v]),
        ("Piecewise((1, u**2 < v), (0, True))", [u**2 - v]),
    ],
)
def test_switches_are_found(source: str, expected: list[sp.Expr]) -> None:
    found = switches(parse(source, UV))
    # sqrt(u*v) may or may not be split into sqrt(u)*sqrt(v): either shows the same zero sets
    product = sp.prod(found) if found else sp.Integer(1)
    assert sp.expand(product**2 - (sp.prod(expected) if expected else sp.Integer(1)) ** 2) == 0


def test_every_pair_of_a_minimum_is_a_switch() -> None:
    found = switches(parse("Min(u, v, 1 - u)", UV))
    wanted = {u - v, 2 * u - 1, u + v - 1}
    assert {min(sp.expand(s), sp.expand(-s), key=str) for s in found} == {
        min(sp.expand(s), sp.expand(-s), key=str) for s in wanted
    }
