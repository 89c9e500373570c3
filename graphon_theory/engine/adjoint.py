"""The recursion read backwards: what each layer, and each place in it, contributes to the NTK (THEORY §3).

    B^L(u) = k 1[u = o],      B^l(v) = Cdot^l(v) sigma_w^2 int V^{l+1}(u,v) B^{l+1}(u) du
    NTK_l = sigma_w^2 iint B^l(u) W^l(u,v) C^{l-1}(v) + sigma_b^2 int B^l(u),      NTK = sum_l NTK_l

and where positions tell of what comes back (``returns``), B / Cdot gets its share. In matrices beta_i = w_i B(u_i) is
what the transposed operators carry, so the sum equals the forward result to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.steps import Same, Visit
from graphon_theory.engine.threads import Progress, run_tiles
from graphon_theory.engine.tiles import Tile


class Backward:
    """The forward pass on a block of pairs, with what the way back needs of every step."""

    def __init__(self, recursion: Recursion, x1: FloatArray, x2: FloatArray) -> None:
        self.recursion = recursion
        one, two = (recursion.diagonal(x, pairs=np.float64) for x in (x1, x2))
        same = Same(*np.nonzero((x1[:, None, :] == x2[None, :, :]).all(axis=2)))  # to the last bit
        tile = Tile(0, len(x1), 0, len(x2), upper=False)
        self.pairs = len(x1) * len(x2)
        self.traces, field = [], None
        for step, f1, f2 in zip(recursion.steps, one.features, two.features, strict=True):
            field, trace = step.traced(field, f1, f2, tile, same)
            self.traces.append(trace)
        places = () if recursion.returns is None else recursion.returns.places
        self.returned = {
            place: back.products(too, tile).reshape(*back.mean.shape[:2], self.pairs)
            for place, back, too in zip(places, one.returned, two.returned, strict=True)
        }

    def read(self, output: int, visit: Visit) -> None:
        """Go back from one output; ``visit`` is shown every weight layer from the last to the first.

        It gets the layer's number from 1, beta (receiving nodes, pairs) and C below (sending nodes, pairs).
        """
        beta = np.zeros((self.recursion.outputs, self.pairs))
        beta[output] = 1.0
        for place in range(len(self.traces) - 1, -1, -1):
            if place in self.returned:
                beta = beta + self.returned[place][output]
            beta = self.recursion.steps[place].back(beta, self.traces[place], visit)

    def contributions(self) -> FloatArray:
        """NTK_l of every layer: (L, outputs, pairs)."""
        operators = self.recursion.operators
        out = np.empty((len(operators), self.recursion.outputs, self.pairs))
        gradients: dict[int, FloatArray] = {}  # of the parameters of a layer's receivers, whatever the output

        for output in range(self.recursion.outputs):

            def visit(number: int, beta: FloatArray, below: FloatArray, output: int = output) -> None:
                if number not in gradients:
                    op = operators[number - 1]
                    gradients[number] = op.mask_matrix @ below + op.trained_bias
                out[number - 1, output] = np.einsum("up,up->p", beta, gradients[number])

            self.read(output, visit)
        return out


def layer_contributions(
    recursion: Recursion,
    x: FloatArray,
    x2: FloatArray | None,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> FloatArray:
    """NTK_l for all pairs: (L, outputs, N, N2)."""
    other = x if x2 is None else x2
    out = np.empty((len(recursion.operators), recursion.outputs, len(x), len(other)))
    values = sum(len(op.variance) for op in recursion.operators) + x.shape[1]
    side = int(max(4, min(128, np.sqrt(4e6 / (4 * values)))))

    def tiles() -> Iterator[tuple[int, int]]:
        return ((i, j) for i in range(0, len(x), side) for j in range(0, len(other), side))

    def one(_: None, tile: tuple[int, int]) -> int:
        i, j = tile
        a, b = x[i : i + side], other[j : j + side]
        block = Backward(recursion, a, b).contributions()
        out[:, :, i : i + side, j : j + side] = block.reshape(*block.shape[:2], len(a), len(b))
        return len(a) * len(b)

    total = len(x) * len(other)
    run_tiles(tiles(), one, lambda: None, threads, None if progress is None else lambda done: progress(done, total))
    return out
