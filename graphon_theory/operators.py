"""From graphons and node sets to the matrices of the recursion (THEORY §5).

A layer's operators, V (signals), W (a parameter's own gradient) and D (means), become matrices from the node values of
the layer below to receiving points; weights of the integral, sigma_w^2 and the parameterization are inside. First and
last layers differ in what they hold: inputs and outputs are atoms, so theirs are cell means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphon_theory.connectivity import Connectivity
from graphon_theory.errors import ConnectivityError, QuadratureError
from graphon_theory.graphons import Graphon
from graphon_theory.rules import FloatArray, Panels


@dataclass(frozen=True)
class LayerOperator:
    """K = variance @ C + bias, own term = own @ C + own_bias and mu = drift @ m of one layer, at its receiving points.

    ``own`` is None where it equals ``variance`` (V = W in NTK parameterization), ``drift`` where D = 0. At the input
    layer ``variance`` holds V - D^2 / d: what is left of the second moment when the mean is known (THEORY §3).
    """

    variance: FloatArray
    own: FloatArray | None
    bias: float
    own_bias: float
    drift: FloatArray | None = None

    @property
    def own_matrix(self) -> FloatArray:
        return self.variance if self.own is None else self.own


@dataclass(frozen=True)
class Scales:
    """What multiplies the integrals of one layer."""

    variance: float  # sigma_w^2
    own: float  # the same in NTK parameterization; the fan-in in standard
    bias: float  # sigma_b^2
    own_bias: float  # the same in NTK parameterization; 1 in standard, 0 without biases

    @classmethod
    def of(cls, weight_variance: float, bias_variance: float, fan_in: int | None) -> Scales:
        """``fan_in`` is None in NTK parameterization (THEORY §3, standard parameterization)."""
        if fan_in is None:
            return cls(weight_variance, weight_variance, bias_variance, bias_variance)
        return cls(weight_variance, float(fan_in), bias_variance, 1.0 if bias_variance > 0 else 0.0)


class Layer:
    """One layer's graphons with its scales: makes operator matrices at whatever points are asked for."""

    def __init__(self, connectivity: Connectivity, scales: Scales, number: int) -> None:
        self.connectivity, self.scales, self.number = connectivity, scales, number
        self._shares = connectivity.variance is connectivity.mask

    @property
    def graphons(self) -> tuple[Graphon, ...]:
        """V, W unless it is the same, D if there is any."""
        both = (self.connectivity.variance, self.connectivity.mask)
        drift = (self.connectivity.drift,) if self.connectivity.has_drift else ()
        return (both[:1] if self._shares else both) + drift

    @property
    def constant_in_u(self) -> bool:
        """Whether all graphons are constant in u between their breaks, so that one node a panel is exact."""
        return all(g.constant_in_u and not g.switches for g in self.graphons)

    @property
    def u_edges(self) -> FloatArray:
        return np.unique(np.concatenate([g.u_breaks for g in self.graphons]))

    def from_inputs(self, points: FloatArray, d: int) -> LayerOperator:
        """The first layer at receiving ``points``: cell means over the d input atoms, weight 1/d each."""
        edges = np.linspace(0.0, 1.0, d + 1)
        return self._operator([self._guard(g, "row_means", points, edges) / d for g in self.graphons], d)

    def hidden(self, points: FloatArray, panels: Panels) -> LayerOperator:
        """A hidden layer at receiving ``points``, from the panels of the layer below."""
        return self._operator([self._guard(g, "row_integrals", points, panels) for g in self.graphons])

    def to_outputs(self, outputs: int, panels: Panels) -> LayerOperator:
        """The last layer: means over the cells of the outputs."""
        return self._operator(self._averaged(outputs, panels))

    def inputs_to_outputs(self, outputs: int, d: int) -> LayerOperator:
        """The only layer of a network without hidden ones."""
        return self._operator(self._averaged(outputs, Panels.constant(np.linspace(0.0, 1.0, d + 1))), d)

    def _averaged(self, outputs: int, panels: Panels) -> list[FloatArray]:
        edges = np.linspace(0.0, 1.0, outputs + 1)
        return [self._guard(g, "averaged_rows", edges, panels) for g in self.graphons]

    def _guard(self, graphon: Graphon, method: str, *args: object) -> FloatArray:
        try:
            out: FloatArray = getattr(graphon, method)(*args)
        except QuadratureError as error:
            raise QuadratureError(f"layer {self.number}: {error}") from None
        return out

    def _operator(self, matrices: list[FloatArray], d: int | None = None) -> LayerOperator:
        """From V, (W), (D) as rows of weights; ``d`` is the number of inputs where those are what is below."""
        s = self.scales
        drift = matrices.pop() if self.connectivity.has_drift else None
        variance, mask = matrices[0], matrices[-1]
        own = None
        if not (self._shares and s.own == s.variance and (d is None or drift is None)):
            own = s.own * mask
        if drift is not None and d is not None:
            self._check_drift(mask, variance, drift, d)
            variance = variance - drift**2  # entries are V / d and D / d
        drift = None if drift is None else np.sqrt(s.variance) * drift
        return LayerOperator(s.variance * variance, own, s.bias, s.own_bias, drift)

    def _check_drift(self, mask: FloatArray, variance: FloatArray, drift: FloatArray, d: int) -> None:
        """(E[m w])^2 <= E[m] E[m w^2] for every input atom (THEORY §2)."""
        excess = drift**2 - d * mask * variance * (1 + 1e-9)
        if (excess > 1e-15).any():
            i, j = (int(k) for k in np.unravel_index(int(np.argmax(excess)), excess.shape))
            raise ConnectivityError(
                f"layer {self.number}: drift: D^2 must not exceed d W V at the input layer, got D = "
                f"{d * drift[i, j]:.6g} at input {j}, where d W V = {d**3 * mask[i, j] * variance[i, j]:.6g}; a mean "
                f"that large over d = {d} inputs is more than the second moment allows."
            )
