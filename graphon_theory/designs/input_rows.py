"""Rows of the input mask: what units of few inputs hear, and what a design is worth with them (THEORY §9).

The limit of the means lets every unit of a block hear all inputs that the block may hear, with the block's densities as
scales. A finite unit hears some of them, and wide networks tend to the mean over such rows. With many inputs a unit the
two agree, to one over their number; with few they do not, and densities between 0 and 1 promise what no mask keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphon_theory.designs.cells import Cells
from graphon_theory.designs.drawn_masks import drawn_rows
from graphon_theory.designs.searches import Step, Task
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network
from graphon_theory.signals.initialisations import balanced

_DRAWN = 128  # rows that stand for all that a mask may draw
_FLOOR = 0.02  # of the objective: rows that make less of a difference are not looked at along a search
_LOOKS = 16  # steps of a search that are looked at


@dataclass(frozen=True)
class InputRows:
    """Rows as masks of these inputs have them; ``q``: mean square of the inputs."""

    inputs: int
    q: float

    def drawn(self, network: Network) -> Network:
        """The network with rows drawn from its input mask as positions, every one at variance 1; the same every time.

        They are drawn as :func:`sample_masks` draws them, so that rows of one block hear as many inputs, but for one.
        """
        mask = drawn_rows(network.layers[0].mask, _DRAWN, self.inputs, np.random.default_rng(0))
        rows = StepGraphon(mask.astype(float))
        return balanced(network.with_layers([rows, *network.layers[1:]]), self.q, by="position")

    def judged(self, task: Task, cells: Cells, steps: Sequence[Step], samples: int) -> list[Step]:
        """Steps along a search with value and errors of networks with rows; all as they are where rows matter little.

        The longer a search goes on, the more it lives on densities that no mask keeps: which step is best, rows tell.
        """
        if not steps:
            return []
        seen = task.seen[:samples]
        last = cells.at(cells.values(steps[-1].z))
        means = task.value(last, seen)
        if abs(task.value(self.drawn(last), seen) - means) <= _FLOOR * abs(means):
            return list(steps)
        found = []
        for k in np.unique(np.linspace(0, len(steps) - 1, _LOOKS).round().astype(int)).tolist():
            network = self.drawn(cells.at(cells.values(steps[k].z)))
            errors = task.errors(network, task.held) if len(task.held) else steps[k].errors
            found.append(replace(steps[k], value=task.value(network, seen), errors=errors))
        return found
