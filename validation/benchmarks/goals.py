"""The goals that the page of benchmarks holds its rows against."""

from __future__ import annotations

from dataclasses import dataclass

MET, MISSED = "met", "**missed**"


@dataclass(frozen=True)
class Goal:
    """A bar for one figure of the page: at least (or at most) so much.

    Fractions are bars for a contender that may be faster than the engine: at least 1/3 of the engine's time.
    """

    bound: float
    at_most: bool = False

    def verdict(self, shown: str) -> str:
        """Whether ``shown``, the figure as the page prints it, meets the goal: what is printed decides, so that no
        page contradicts itself in the digits it leaves out."""
        figure = float(shown)
        return MET if (figure <= self.bound if self.at_most else figure >= self.bound) else MISSED

    def words(self) -> str:
        number = f"{self.bound:g}" if self.bound >= 1 else f"1/{1 / self.bound:g}"
        return f"at {'most' if self.at_most else 'least'} {number}"

    def cell(self, shown: str) -> str:
        return f"{self.words()}: {self.verdict(shown)}"


def cells(goals: tuple[Goal, ...], shown: str) -> str:
    """The cell of a row with several goals, empty without any."""
    return ", ".join(goal.cell(shown) for goal in goals)
