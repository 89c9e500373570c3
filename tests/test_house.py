"""The house: no circle of modules or wings, no two modules of one name, no file too long to be one thing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import pytest

from tests.tools.house import PACKAGES, ROOT, House, circles

HOUSES = {place: House.of(ROOT / place) for place in PACKAGES}


@pytest.mark.parametrize("place", PACKAGES)
def test_no_import_closes_a_circle(place: str) -> None:
    house = HOUSES[place]
    assert len(house.arrows) > 50
    assert circles(house.arrows) == []
    assert circles(house.wing_arrows) == []


def test_circles_are_found() -> None:
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")}) == [{"a", "b", "c"}]


def test_no_two_modules_have_one_name() -> None:
    names = [name.rsplit(".", 1)[1] for house in HOUSES.values() for name in house.lines if "." in name]
    wings = {name for house in HOUSES.values() for name in house.wings}  # folders of the two packages correspond
    twice = [name for name, count in Counter(names).items() if count > 1 and name not in wings | {"__main__"}]
    assert twice == []
    modules = [name for name in names if name not in wings]
    assert not set(modules) & wings


@pytest.mark.parametrize("place", PACKAGES)
def test_files_are_of_one_thing(place: str) -> None:
    assert HOUSES[place].longest[1] <= 500


RUNS_TEXT = """import sympy
import sympy as sp
from sympy import lambdify

found = [
    eval("1"),
    sp.sympify("1"),
    sympy.S("1"),
    sp.simplify("1"),
    lambdify((), "1"),
    sp.parse_expr("1"),
    sp.parsing.sympy_parser.parse_expr("1"),
    sp.core.sympify.sympify("1"),
    sp.utilities.lambdify.lambdify((), "1"),
]
exec("1")
"""


@pytest.mark.parametrize("place", ["graphon_theory/exact/some.py", "validation/graphon_validation/some.py"])
def test_what_runs_text_as_code_is_forbidden_by_the_linter(place: str) -> None:
    if find_spec("ruff") is None:
        return  # the oldest packages are tested without it; `make test` is not
    command = [sys.executable, "-m", "ruff", "check", "--output-format=json", "--stdin-filename", place, "-"]
    found = subprocess.run(command, input=RUNS_TEXT, capture_output=True, text=True, cwd=ROOT, check=False)
    told = {one["location"]["row"] for one in json.loads(found.stdout) if one["code"] in ("TID251", "S102", "S307")}
    assert told == {3, *range(6, 15), 16} - {10}  # lambdify's line 10 is told where it is imported, in line 3
