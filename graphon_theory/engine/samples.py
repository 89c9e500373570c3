"""The few inputs whose pairs steer the choice of nodes, the extreme ones among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.engine.tiles import row_keys

SAMPLE = 20  # inputs whose pairs steer the refinement
_ANGLES = 256  # inputs among which angles are looked at

_NONE = (np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))


@dataclass(frozen=True)
class Sample:
    """A few inputs, the extreme ones among them, and all their pairs (row-major)."""

    inputs: FloatArray  # (S, d)
    close: tuple[IntArray, IntArray] = _NONE  # pairs that are close at some position of the first layer

    @classmethod
    def of(cls, inputs: FloatArray, closest: tuple[int, int] | None = None, most: int = SAMPLE) -> Sample:
        """Largest and smallest norms, the closest, the most opposed and the most orthogonal pair, then a spread.

        At most ``most`` inputs; ``closest`` is the closest pair of all where it is known, other angles are looked at
        among 256.
        """
        count = len(inputs)
        if count <= most:
            return cls(inputs)
        norms = np.linalg.norm(inputs, axis=1)
        some = np.unique(np.linspace(0, count - 1, min(count, _ANGLES)).astype(int))
        some = some[norms[some] > 0]
        unit = inputs[some] / norms[some, None]
        cosine = unit @ unit.T
        order = np.argsort(norms, kind="stable")
        chosen = dict.fromkeys(() if closest is None else closest)
        chosen |= dict.fromkeys(int(i) for i in (order[0], order[-1], *order[norms[order] > 0][:1]))
        if len(some) > 1:
            np.fill_diagonal(cosine, np.nan)
            for score in (-cosine, cosine, np.abs(cosine)):
                pair = np.unravel_index(int(np.nanargmin(score)), score.shape)
                chosen.update(dict.fromkeys(int(some[k]) for k in pair))
        for i in np.linspace(0, count - 1, most).astype(int):
            if len(chosen) < most:
                chosen[int(i)] = None
        return cls(inputs[sorted(chosen)])

    @property
    def size(self) -> int:
        return len(self.inputs)


def distinct(inputs: FloatArray) -> FloatArray:
    """Distinct rows in a fixed order, so that repeated inputs do not change the choice of nodes."""
    return inputs[np.unique(row_keys(inputs), return_index=True)[1]]
