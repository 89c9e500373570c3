"""Panels of one layer of units that resolve the fields read there, on the pairs of a sample (THEORY §5).

What has to be resolved is what is integrated over the layer, C(K(u)) and Cdot T(u), as a function of position. Panels
start at every place where that can lose smoothness:

- breaks in u of the graphons that lead to the layer,
- where a kink curve v = g(u) of theirs meets a break of the layer below, an end of [0, 1], or is born,
- for the first layer, where a curve meets an edge j/d of an input cell.

Then: more nodes, a square-root map towards one end, or a bisection, whichever resolves a panel first. A panel that is
resolved at its nodes is looked at beside them and at its ends, where a jump or a narrow feature can hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.operators import Arrivals, Layer
from graphon_theory.engine.probes import Probe, Reader
from graphon_theory.errors import QuadratureError
from graphon_theory.numerics.quadratures import (
    LEFT,
    MERGED,
    PLAIN,
    RIGHT,
    Panels,
    gauss,
    lagrange,
    legendre_transform,
    local,
    merged_edges,
    place,
)
from graphon_theory.numerics.roots import births

_DEPTH = 45  # bisections of one panel
_PANELS = 6_000  # panels of one layer
_BESIDE = (0.2137, 0.5872)  # shares of a panel at which it is looked at beside its nodes
_END = 1e-11  # and at this share of its ends,
_OFF = 1.5e-13  # but not nearer: edges are known to MERGED
_LEAST = 1e-12  # panels so short that what hides in them is nothing


_Piece = tuple[float, float, int]  # a, b, bisections behind it
_Settled = tuple[float, float, int, int, int]  # a, b, nodes, map, bisections behind it
_Met = dict[tuple[float, float], list[FloatArray]]  # C, Cdot T and m at the nodes of panels, by their ends


@dataclass
class _Look:
    """One reader, the scale of what it reads of every input (2, S), and what it read at the nodes of panels."""

    read: Reader
    scale: FloatArray
    met: _Met = field(default_factory=dict)


@dataclass(frozen=True)
class PanelChoice:
    """How panels are chosen: up to which coefficient (times the panel's length), and with which numbers of nodes."""

    target: float
    orders: tuple[int, ...]  # in order

    def panels(self, layer: Arrivals, edges: FloatArray, readers: Sequence[Reader], inputs: int) -> Panels:
        """Panels between ``edges`` that resolve what all readers read, on all pairs of so many inputs."""
        if layer.constant_in_u:
            return Panels.constant(layer.u_edges)
        looks = [_Look(read, np.zeros((2, inputs))) for read in readers]
        pending: list[_Piece] = [(a, b, 0) for a, b in pairwise(edges)]
        done: list[_Settled] = []
        while pending:
            for look in looks:
                look.met.clear()
            settled = self._settled(layer, pending, len(done), looks)
            seen = np.all([self._seen(settled, look) for look in looks], axis=0)
            done += [panel for panel, good in zip(settled, seen, strict=True) if good]
            pending = [
                half
                for (a, b, _, _, depth), good in zip(settled, seen, strict=True)
                if not good
                for half in _halves(a, b, depth)
            ]
        table = np.array(sorted(panel[:4] for panel in done))
        orders, kinds = table[:, 2:].astype(np.intp).T
        return Panels(table[:, 0], table[:, 1], orders, kinds)

    def _settled(self, layer: Arrivals, pending: list[_Piece], before: int, looks: list[_Look]) -> list[_Settled]:
        """Panels on the pieces that are resolved at their nodes; ``before`` of the layer stand already."""
        done: list[_Settled] = []
        low, mid, high = self.orders[:2], self.orders[1:3], self.orders[3:]
        while pending:
            if before + len(done) + len(pending) > _PANELS:
                raise QuadratureError(
                    f"layer {layer.number}: more than {_PANELS} panels are needed near u={pending[0][0]:.6g}; the "
                    "graphon is too rough in u there. Declare its breaks (u_edges, diagonal=True) or loosen rtol."
                )
            # orders and maps are tried in order of their cost; what none resolves is halved
            stages = [(PLAIN, m) for m in (*low, self.orders[2])]
            stages += [(kind, m) for m in mid for kind in (LEFT, RIGHT)]
            stages += [(PLAIN, m) for m in high]
            promising = np.ones(len(pending), dtype=bool)
            for kind, m in stages:
                if not pending:
                    break
                if kind == PLAIN and m in high:
                    trial = [piece for piece, good in zip(pending, promising, strict=True) if good]
                else:
                    trial = pending
                if not trial:
                    continue
                tails = np.max([self._tails(trial, kind, m, look) for look in looks], axis=0)
                lengths = np.array([b - a for a, b, _ in trial])
                fine = tails * lengths <= self.target
                settled = {piece for piece, good in zip(trial, fine, strict=True) if good}
                done += [(a, b, m, kind, depth) for a, b, depth in settled]
                if kind == PLAIN and m == self.orders[2]:
                    promising = tails * lengths <= 1e-4
                keep = [piece not in settled for piece in pending]
                promising = promising[keep]
                pending = [piece for piece, kept in zip(pending, keep, strict=True) if kept]
            halves: list[_Piece] = []
            for a, b, depth in pending:
                if depth >= _DEPTH or b - a < MERGED:
                    done.append((a, b, low[0], PLAIN, _DEPTH))
                else:
                    halves += _halves(a, b, depth)
            pending = halves
        return done

    def _seen(self, settled: list[_Settled], look: _Look) -> list[bool]:
        """Whether panels hold beside their nodes: at their ends, beyond the outermost nodes, and at two more points.

        A misfit is weighed by the length of the gap between nodes that it stands for.
        """
        watched = [panel for panel in settled if panel[1] - panel[0] >= _LEAST and panel[4] < _DEPTH]
        if not watched:
            return [True] * len(settled)
        points = [_beside(a, b) for a, b, *_ in watched]
        probe = look.read(np.concatenate(points))
        beside = (probe.state[:, 0], probe.state[:, 1], probe.mean)
        inverse = _inverse(look.scale, probe.mean.shape[1])
        noise = _noise(probe)
        count = len(points[0])
        bad = set()
        for index, (panel, at) in enumerate(zip(watched, points, strict=True)):
            a, b, m, kind, _ = panel
            rows = slice(index * count, (index + 1) * count)
            basis = lagrange(m, local(at, np.asarray(a), np.asarray(b), kind))
            gaps = _gaps(at, place(gauss(m)[0], a, b, kind))[:, None]
            fine = True
            for part, (values, nodes) in enumerate(zip(beside, look.met[a, b], strict=True)):
                misfit = np.abs(basis @ nodes - values[rows].reshape(count, -1)) * inverse[part]
                if part == 1 or (part == 0 and probe.jumps):
                    misfit[misfit <= noise[rows].reshape(count, -1)] = 0.0
                fine = fine and bool((misfit * gaps <= self.target).all())
            if not fine:
                bad.add(panel)
        return [panel not in bad for panel in settled]

    def _tails(self, pieces: list[_Piece], kind: int, m: int, look: _Look) -> FloatArray:
        """For each panel, the last Legendre coefficients of C, Cdot T and m, each pair relative to its inputs' scale.

        The scale of an input is the largest of its own (coincident) values met in the layer so far.
        """
        s, _ = gauss(m)
        probe = look.read(np.concatenate([place(s, a, b, kind) for a, b, _ in pieces]))
        scale, size = look.scale, look.scale.shape[1]
        parts = (probe.state[:, 0], probe.state[:, 1], probe.mean)
        values_of = [values.reshape(len(pieces), m, -1) for values in parts]
        look.met.update({(a, b): [values[i] for values in values_of] for i, (a, b, _) in enumerate(pieces)})
        noise = _noise(probe).reshape(len(pieces), m, -1)
        noise = noise.max(axis=1)[:, None, :]  # a panel's coefficients know no better
        transform = legendre_transform(m)[-2:]
        for index in range(2):
            coincident = np.abs(values_of[index][:, :, :: size + 1]).max(axis=(0, 1), initial=0.0)
            scale[index] = np.maximum(scale[index], coincident)
        worst = np.zeros(len(pieces))
        for index, (values, inverse) in enumerate(zip(values_of, _inverse(scale, probe.mean.shape[1]), strict=True)):
            coefficients = np.einsum("cm,kmp->kcp", transform, values)
            tails = np.abs(coefficients) * inverse
            if index == 1 or (index == 0 and probe.jumps):
                tails[tails <= noise] = 0.0
            worst = np.maximum(worst, tails.max(axis=(1, 2), initial=0.0))
        return worst


def _noise(probe: Probe) -> FloatArray:
    return np.broadcast_to(probe.noise, probe.state[:, 0].shape)


def _inverse(scale: FloatArray, means: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What C, Cdot T and m of every pair are measured by, inverted; 0 where there is nothing."""
    first, second = (np.outer(root, root).ravel() for root in np.sqrt(scale))
    bounds = (first, second, np.sqrt(scale[0])[:means])  # m, on the scale of sqrt(C)
    one, two, three = (np.divide(1.0, b, out=np.zeros_like(b), where=b > 0) for b in bounds)
    return one, two, three


def _halves(a: float, b: float, depth: int) -> list[_Piece]:
    middle = 0.5 * (a + b)
    return [(a, middle, depth + 1), (middle, b, depth + 1)]


def _beside(a: float, b: float) -> FloatArray:
    """Where a panel is looked at beside its nodes."""
    off = max(_END * (b - a), _OFF)
    return np.array([a + off, *(a + share * (b - a) for share in _BESIDE), b - off])


def _gaps(points: FloatArray, nodes: FloatArray) -> FloatArray:
    """The way from every point to the node nearest to it."""
    gaps: FloatArray = np.abs(points[:, None] - nodes).min(axis=1)
    return gaps


def start_edges(layer: Layer, below: FloatArray) -> FloatArray:
    """Where the state of ``layer`` can lose smoothness in u, given where the layer below does."""
    edges = [layer.u_edges]
    for graphon in layer.graphons:
        edges.append(graphon.marks(of_v=False))
        if graphon.creased:
            lines = merged_edges(np.concatenate([below, graphon.v_breaks, graphon.marks(of_v=True)]))
            edges.append(_finite(graphon.T.creases(lines)))
            edges.append(births(graphon.curves))
    return merged_edges(np.concatenate(edges))


def _finite(values: FloatArray) -> FloatArray:
    flat = values.ravel()
    return flat[np.isfinite(flat)]
