"""Fields at any positions, on all pairs of the inputs that steer the choice of nodes: what discretisation looks at.

A walk along a network's outline leaves a reader at every part: a function of points that gives the field there. Weight
layers integrate what they read over the panels of the layer of units below; shortcuts, activations and LayerNorm are
taken point by point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from graphon_theory.activations.activation import Activation
from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.engine.angles import AngularForm, first_gaps, gaps_above, gaps_of_sum
from graphon_theory.engine.operators import LayerOperator
from graphon_theory.engine.samples import Sample
from graphon_theory.engine.stage_steps import Normal, NormStep
from graphon_theory.engine.steps import Before, Behind, DenseStep, DualStep, Field, Fresh, atoms
from graphon_theory.engine.tiles import Tile
from graphon_theory.networks.stages import Norm, Outline, Phi

_ROUNDING = 16.0  # roundings of a covariance that its sums are taken to gather


@dataclass
class Probe:
    """A field at points on the sample's pairs, before an activation or behind it; at the inputs over their atoms."""

    pairs: Before | Behind
    mean: FloatArray  # (positions, S); no inputs behind an activation in a network that asks for no means
    noise: FloatArray  # of the field relative to its scale (positions, S, S): what covariances do not know
    terms: int = 1  # products that its moments sum
    jumps: bool = False  # whether C itself is as rough as its noise
    gaps: FloatArray | None = None  # of close pairs: 1 - |rho| before, gamma behind an activation (positions, pairs)
    opposite: FloatArray | None = None  # 1 where rho is negative
    roots: FloatArray | None = None  # of C(x, x) or K(x, x) (positions, S)
    inputs: bool = False

    @property
    def state(self) -> FloatArray:
        """K or C, T or S (positions, 2, S, S)."""
        return self.pairs.state

    @property
    def own(self) -> Field:
        """Every input with itself."""
        second, tangent = (np.diagonal(self.state[:, part], axis1=1, axis2=2) for part in (0, 1))
        return Field(second, tangent, self.mean)


Points = FloatArray | int  # positions, or the number of outputs
Reader = Callable[[Points], Probe]


def remembered(read: Reader) -> Reader:
    """The same reader, which knows its last points again: others stand on it."""
    last: list[tuple[Points, Probe]] = []

    def reader(points: Points) -> Probe:
        if not last or last[0][0] is not points:
            last[:] = [(points, read(points))]
        return last[0][1]

    return reader


class Probes:
    """The parts of one network on one sample, by the engine's own steps."""

    def __init__(self, outline: Outline, sample: Sample, drifting: bool) -> None:
        self.sample = sample
        self.tile = Tile(0, sample.size, 0, sample.size, upper=False)
        forms = [AngularForm.of(part.activation) for part in outline if isinstance(part, Phi)]
        behind = any(isinstance(part, Norm) and not part.before for part in outline)
        self.means = drifting or behind
        self.angular = not self.means and all(form is not None for form in forms) and len(sample.close[0]) > 0

    def inputs(self) -> Probe:
        x = self.sample.inputs
        return Probe(atoms(x, x), x.T, np.zeros((1, self.sample.size, self.sample.size)), inputs=True)

    def before(self, op: LayerOperator, below: Probe) -> Probe:
        """K and T at the receiving points of a weight layer."""
        told = op.told(below.mean)
        step = DenseStep.of(op, factored=False)
        assert isinstance(below.pairs, Behind)
        pairs = step.on_pairs(below.pairs, told, told, self.tile, Fresh()).settle()
        points, size = len(pairs.state), self.sample.size
        mean = op.means(below.mean) if self.means else np.zeros((points, size))
        handed = below.noise.max(axis=0, keepdims=True) if below.jumps else np.zeros((1, size, size))
        probe = Probe(pairs, mean, handed, 1 if below.inputs else len(below.state))
        if self.angular:
            i, j = self.sample.close
            probe.roots = np.sqrt(np.maximum(probe.own.second, 0.0))
            if below.gaps is None or below.roots is None:
                probe.gaps, probe.opposite = first_gaps(op, self.sample.inputs, i, j)
            else:
                (probe.gaps,) = gaps_above(op, below.roots, probe.roots, (below.gaps,), i, j)
                probe.opposite = np.zeros_like(probe.gaps)
        return probe

    def behind(self, activation: Activation, below: Probe) -> Probe:
        """C and S; those of close pairs by their angles, where phi allows."""
        assert isinstance(below.pairs, Before)
        points, size = len(below.state), self.sample.size
        inputs = below.own
        step = DualStep(activation, points, below.terms, means=self.means).for_field(inputs)
        features = step.features(inputs, np.float64)
        noise = self._noise(below, inputs.second) if activation.kinked else np.zeros((points, size, size))
        pairs = step.on_pairs(below.pairs, features, features, self.tile, Fresh())
        first = step.first_moments(inputs) if self.means else np.zeros((points, 0))
        probe = Probe(pairs, first, noise, below.terms, activation.jumps)
        form = AngularForm.of(activation) if self.angular else None
        if form is not None and below.gaps is not None and below.opposite is not None:
            self._by_angles(form, below.gaps, below.opposite, below, probe)
        return probe

    def _by_angles(self, form: AngularForm, gaps: FloatArray, opposite: FloatArray, below: Probe, probe: Probe) -> None:
        """Close pairs of a field behind an activation, in place."""
        i, j = self.sample.close
        probe.roots = roots = np.sqrt(np.maximum(probe.own.second, 0.0))
        probe.gaps, dots = form.duals(gaps, opposite)
        second = roots[:, i] * roots[:, j] * (1.0 - probe.gaps)
        tangent = dots * below.state[:, 1, i, j]
        for a, b in ((i, j), (j, i)):
            probe.state[:, 0, a, b], probe.state[:, 1, a, b] = second, tangent
            probe.noise[:, a, b] = 0.0

    def _noise(self, below: Probe, variance: FloatArray) -> FloatArray:
        """What a kinked phi makes of the rounding of covariances: an angle theta is known to eps / sin theta.

        Where phi jumps, C itself is as rough as the angle, and hands its noise on to the layer above.
        """
        scale = np.sqrt(np.maximum(variance[:, :, None] * variance[:, None, :], 0.0))
        rho = np.divide(below.state[:, 0], scale, out=np.zeros_like(scale), where=scale > 0)
        square = np.maximum(1.0 - rho * rho, EPS)
        rounding = _ROUNDING * EPS + below.noise
        noise = np.minimum(rounding / np.sqrt(square), 1.0)
        inputs = np.arange(self.sample.size)
        noise[:, inputs, inputs] = 0.0
        return noise

    def joined(self, kept: Probe, branch: Probe, scale: float) -> Probe:
        """The branch, times its scale, on the shortcut."""
        state = kept.state + scale * scale * branch.state
        mean = kept.mean + scale * branch.mean
        probe = Probe(
            Before(state, settled=True), mean, np.maximum(kept.noise, branch.noise), kept.terms + branch.terms
        )
        if self.angular and kept.gaps is not None and branch.gaps is not None:
            assert kept.roots is not None
            assert branch.roots is not None
            assert kept.opposite is not None
            probe.roots = np.sqrt(np.maximum(probe.own.second, 0.0))
            gaps = np.where(kept.opposite > 0, 2.0 - kept.gaps, kept.gaps), branch.gaps
            probe.gaps = gaps_of_sum((kept.roots, abs(scale) * branch.roots), probe.roots, gaps, *self.sample.close)
            probe.opposite = np.zeros_like(probe.gaps)
        return probe

    def normal(self, part: Norm, weights: FloatArray, below: Probe) -> Normal:
        """What a LayerNorm takes of every input, from the field on the nodes."""
        return NormStep(weights, part.epsilon, part.before).normal(below.own)

    def normed(self, part: Norm, normal: Normal, below: Probe) -> Probe:
        step = NormStep(np.zeros(0), part.epsilon, part.before)
        factor, center, _ = normal
        here = Normal(factor, center, None if part.before else below.mean)
        pairs = replace(below.pairs, state=below.state.copy())
        pairs = step.on_pairs(pairs, here, here, self.tile, Fresh())
        mean = (below.mean - center) * factor if self.means else below.mean
        roots = None if below.roots is None else below.roots * factor
        return replace(below, pairs=pairs, mean=mean, roots=roots)
