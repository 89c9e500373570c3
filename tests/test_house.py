"""The house: no circle of modules or wings, no two modules of one name, no file too long to be one thing."""

from __future__ import annotations

from collections import Counter

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
