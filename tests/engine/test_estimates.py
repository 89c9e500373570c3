"""Estimates never below the true error, on random networks of the kinds in which they might be."""

from __future__ import annotations

import pytest

from tests.tools.estimates import outcomes

HELD = ["close", "unseen", "narrow", "tails"]


@pytest.mark.parametrize("kind", HELD)
def test_estimates_hold_on_some(kind: str) -> None:
    for error, reported in outcomes(kind, 3):
        assert error <= reported <= 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("kind", HELD)
def test_estimates_hold_on_a_hundred(kind: str) -> None:
    for error, reported in outcomes(kind, 100):
        assert error <= reported
