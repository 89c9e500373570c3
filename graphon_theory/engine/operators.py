"""From graphons and node sets to the matrices of the recursion (THEORY §5).

A layer's operators, V (signals), W (a parameter's own gradient) and D (means), become matrices from the node values of
the layer below to receiving points; weights of the integral, sigma_w^2 and the parameterization are inside. First and
last layers differ in what they hold: inputs and outputs are atoms, so theirs are cell means.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.errors import ConnectivityError, QuadratureError
from graphon_theory.graphons.graphon import ConstantGraphon, Graphon
from graphon_theory.networks.connectivity import Connectivity, Known
from graphon_theory.numerics.quadratures import Panels

_Matrix = Callable[[Graphon], FloatArray]

_KNOWN_SLACK = 1e-3


@dataclass(frozen=True)
class Conditioning:
    """What positions tell of a layer's parameters at its receiving points (THEORY §10).

    Coordinate r loads the signal by L_r = profiles[r] @ m + bias[r], which leaves K - sum_r L_r L_r'. Where senders are
    single units, what is known of each one's weight takes ``table`` @ (m m') out besides.
    """

    profiles: FloatArray  # (r, receiving, sending)
    bias: FloatArray  # (r, receiving)
    bias_mean: FloatArray  # (receiving,)
    table: FloatArray | None = None  # (receiving, sending), where senders are single units

    def loadings(self, below: FloatArray) -> FloatArray:
        """L (receiving, r, inputs) from the means m (sending, inputs) below."""
        moved = self.profiles @ below + self.bias[:, :, None]
        return np.ascontiguousarray(moved.transpose(1, 0, 2))

    def told(self, below: FloatArray, dtype: DTypeLike) -> Told:
        """What pairs need of these, and of the means themselves where senders are single units."""
        means = None if self.table is None else below.astype(dtype, copy=False)
        return Told(self.loadings(below).astype(dtype, copy=False), means)

    def squares(self, below: FloatArray) -> FloatArray:
        """What is taken out of every input's own K (receiving, N), from the means below."""
        known: FloatArray = (self.loadings(below) ** 2).sum(axis=1)
        return known if self.table is None else known + self.table @ below**2

    def products(self, left: Told, right: Told, rows: slice, columns: slice) -> FloatArray:
        """The same of the pairs of some inputs of either side (receiving, n1, n2)."""
        found: FloatArray = np.matmul(left.loadings[:, :, rows].transpose(0, 2, 1), right.loadings[:, :, columns])
        if self.table is not None and left.means is not None and right.means is not None:
            found += np.tensordot(self.table, left.means[:, rows, None] * right.means[:, None, columns], 1)
        return found


class Told(NamedTuple):
    """What positions tell of some inputs' signals: the loadings, and the means of single senders where these count."""

    loadings: FloatArray  # (receiving, r, N)
    means: FloatArray | None  # (sending, N)


@dataclass(frozen=True)
class Returning:
    """What positions tell of what comes back to them through a layer (THEORY §10)."""

    modes: FloatArray  # Gamma (receiving, q)
    coordinates: FloatArray  # d (sending, q)
    weights: FloatArray  # of the integral over the sending points
    deviation: float  # sigma_w
    single: Single | None = None  # where senders and receivers are single units


@dataclass(frozen=True)
class Single:
    """Of the way back through single units, each (receiving, sending): instead of V sum_s Gamma_s d_s, of V beside the
    modes, and what a single unit's own mean takes out."""

    drift: FloatArray
    slope: FloatArray
    table: FloatArray


@dataclass(frozen=True)
class LayerOperator:
    """One layer at its receiving points: V, W and D with the weights of the integral, and biases.

        K = variance @ C + bias,   T = mask @ C + trained_bias + variance @ S,   mu = drift @ m

    ``mask`` is None where it equals ``variance`` (V = W in NTK parameterization), ``drift`` where signals have no
    means. ``trained_bias`` is what the gradients of biases add to T. At the input layer ``variance`` holds V - D^2 / d,
    what is left of the second moment when the mean is known (THEORY §3). ``conditioning`` takes more out of K alone (so
    ``mask`` is given beside it), and adds the biases' means, where positions tell of their units' parameters;
    ``returning`` is what they tell of what comes back.
    """

    variance: FloatArray
    mask: FloatArray | None
    bias: float
    trained_bias: float
    drift: FloatArray | None = None
    conditioning: Conditioning | None = None
    returning: Returning | None = None

    @property
    def mask_matrix(self) -> FloatArray:
        return self.variance if self.mask is None else self.mask

    @property
    def coordinates(self) -> int:
        """Numbers that positions tell of one input: r at every receiving point, and single senders' means."""
        if self.conditioning is None:
            return 0
        table = self.conditioning.table
        return self.conditioning.bias.size + (0 if table is None else table.shape[1])

    def means(self, below: FloatArray) -> FloatArray:
        """mu (receiving, inputs) from the means m (sending, inputs) below; zeros without drift."""
        if self.drift is None:
            return np.zeros((len(self.variance), below.shape[1]))
        mean: FloatArray = self.drift @ below
        return mean if self.conditioning is None else mean + self.conditioning.bias_mean[:, None]

    def loadings(self, below: FloatArray) -> FloatArray | None:
        """L (receiving, r, inputs) of what positions tell, from the means below; None where they tell nothing."""
        return None if self.conditioning is None else self.conditioning.loadings(below)

    def told(self, below: FloatArray, dtype: DTypeLike = np.float64) -> Told | None:
        """What K is left without, from the means below; None where positions tell nothing."""
        return None if self.conditioning is None else self.conditioning.told(below, dtype)


@dataclass(frozen=True)
class Scales:
    """What multiplies the integrals of one layer."""

    variance: float  # sigma_w^2
    mask: float  # the same in NTK parameterization; the fan-in in standard
    bias: float  # sigma_b^2, what biases add to K
    trained_bias: float  # what they add to T: by default the same in NTK parameterization, 1 in standard with biases

    @classmethod
    def of(
        cls, weight_variance: float, bias_variance: float, fan_in: int | None, trained: float | None = None
    ) -> Scales:
        """``fan_in`` is None in NTK parameterization (THEORY §3); ``trained``: that of a Network."""
        if trained is None:
            trained = bias_variance if fan_in is None else float(bias_variance > 0)
        return cls(weight_variance, weight_variance if fan_in is None else float(fan_in), bias_variance, trained)


class Layer:
    """One layer's graphons with its scales: makes operator matrices at whatever points are asked for."""

    def __init__(self, connectivity: Connectivity, scales: Scales, number: int) -> None:
        self.connectivity, self.scales, self.number = connectivity, scales, number
        self._one = connectivity.variance is connectivity.mask

    @property
    def graphons(self) -> tuple[Graphon, ...]:
        """V, W unless it is the same, D if signals have means, and those of what is known."""
        connectivity = self.connectivity
        moments = (connectivity.variance,) if self._one else (connectivity.variance, connectivity.mask)
        drift = (connectivity.drift,) if connectivity.has_drift else ()
        return (*moments, *drift, *(() if connectivity.known is None else connectivity.known.graphons))

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
        return self._operator(lambda g: self._guard(g, "row_means", points, edges) / d, _values_at(points), d)

    def hidden(self, points: FloatArray, panels: Panels) -> LayerOperator:
        """A hidden layer at receiving ``points``, from the panels of the layer below."""
        return self._operator(lambda g: self._guard(g, "row_integrals", points, panels), _values_at(points))

    def to_outputs(self, outputs: int, panels: Panels) -> LayerOperator:
        """The last layer: means over the cells of the outputs."""
        return self._operator(self._averages(outputs, panels), self._output_values(outputs))

    def inputs_to_outputs(self, outputs: int, d: int) -> LayerOperator:
        """The only layer of a network without hidden ones."""
        panels = Panels.constant(np.linspace(0.0, 1.0, d + 1))
        return self._operator(self._averages(outputs, panels), self._output_values(outputs), d)

    def _averages(self, outputs: int, panels: Panels) -> _Matrix:
        edges = np.linspace(0.0, 1.0, outputs + 1)
        return lambda g: self._guard(g, "averaged_rows", edges, panels)

    def _output_values(self, outputs: int) -> _Matrix:
        average = self._averages(outputs, Panels.constant(np.array([0.0, 1.0])))
        return lambda g: average(g)[:, 0]

    def _guard(self, graphon: Graphon, method: str, *args: object) -> FloatArray:
        try:
            out: FloatArray = getattr(graphon, method)(*args)
        except QuadratureError as error:
            raise QuadratureError(f"layer {self.number}: {error}") from None
        return out

    def _operator(self, matrix: _Matrix, at: _Matrix, d: int | None = None) -> LayerOperator:
        """From what makes a graphon's rows of weights, and a function's values, at the receiving points.

        ``d`` is the number of inputs where those are what is below.
        """
        s, connectivity = self.scales, self.connectivity
        variance = matrix(connectivity.variance)
        mask = variance if self._one else matrix(connectivity.mask)
        if not connectivity.has_drift:
            trained = None if self._one and s.mask == s.variance else s.mask * mask
            return LayerOperator(s.variance * variance, trained, s.bias, s.trained_bias)
        drift, left, conditioning, trained = matrix(connectivity.drift), variance, None, s.mask * mask
        returning, deviation = None, float(np.sqrt(s.variance))
        if d is not None:
            self._check_drift(mask, variance, drift, d)
            left = variance - drift**2  # entries are V / d and D / d
            left[np.abs(left) <= 8 * EPS * variance] = 0.0  # known for sure: what rounding leaves is no variance
        elif self._one and s.mask == s.variance and connectivity.known is None:
            trained = None
        if connectivity.known is not None:
            conditioning = self._conditioning(connectivity.known, matrix, at, left, drift, d is not None)
            if connectivity.known.gradients:
                weights = matrix(ConstantGraphon(1.0))[0]
                modes = np.stack([at(g) for g in connectivity.known.gradients], axis=1)
                shares = np.zeros((len(weights), modes.shape[1]))
                for number, g in enumerate(connectivity.known.coordinates):
                    shares[:, number] = matrix(g)[0] / weights
                returning = Returning(modes, shares, weights, deviation)
                if connectivity.known.returning is not None:
                    slope = matrix(connectivity.known.returning) / weights
                    returning = replace(returning, single=self._single(variance, drift, slope, returning.modes))
        moments = (s.variance * left, trained, s.bias, s.trained_bias, deviation * drift)
        return LayerOperator(*moments, conditioning, returning)

    def _conditioning(
        self, known: Known, matrix: _Matrix, at: _Matrix, variance: FloatArray, drift: FloatArray, inputs: bool
    ) -> Conditioning:
        empty = np.zeros((0, *variance.shape))
        profiles = np.stack([matrix(g) for g in known.profiles]) if known.profiles else empty
        bias = np.stack([at(g) for g in known.bias]) if known.bias else empty[:, :, 0]
        single = np.zeros_like(drift)
        if known.senders is not None:
            self._check_senders(known.senders, matrix(ConstantGraphon(1.0))[0], inputs)
            single = drift**2 - (profiles**2).sum(axis=0)
        self._check_known(profiles, bias, variance - single, inputs)
        deviation, bias_deviation = np.sqrt(self.scales.variance), np.sqrt(self.scales.bias)
        table = None if known.senders is None else self.scales.variance * single
        return Conditioning(deviation * profiles, bias_deviation * bias, bias_deviation * at(known.bias_mean), table)

    def _single(self, variance: FloatArray, drift: FloatArray, slope: FloatArray, modes: FloatArray) -> Single:
        """From V and D with the weights of the integral below, and what stands for V beside the modes."""
        receiving, sending = drift.shape
        known = slope**2 * ((modes**2).sum(axis=1) / receiving)[:, None]
        table = (sending * drift) ** 2 / sending - known
        left = sending * variance - table
        share = np.divide(slope**2, left, out=np.zeros_like(left), where=left > 0)
        most = float((modes.T**2 @ share / receiving).max(initial=0.0))
        if most > 1 + _KNOWN_SLACK:
            raise ConnectivityError(
                f"layer {self.number}: known: a mode of the gradients explains {most:.6g} times the variance that the "
                "weights have; returning is H with covariances H Gamma_s of weights and coordinates of variance 1."
            )
        return Single(sending * math.sqrt(receiving / sending) * drift, slope, table)

    def _check_senders(self, senders: int, weights: FloatArray, inputs: bool) -> None:
        """Single units below are cells of equal size, and as many as the layer's fan-in."""
        if inputs:
            raise ConnectivityError(f"layer {self.number}: known: inputs are single units already; leave senders out.")
        if len(weights) != senders or float(np.ptp(weights)) > 1e-9 / senders:
            raise ConnectivityError(
                f"layer {self.number}: known: expected the graphons of {senders} single units as step functions of as "
                f"many equal cells, got {len(weights)} points below."
            )
        if self.scales.mask not in (self.scales.variance, senders):
            raise ConnectivityError(
                f"layer {self.number}: known: expected as many single units as the network's widths say, "
                f"{self.scales.mask:g}, got {senders}."
            )

    def _check_known(self, profiles: FloatArray, bias: FloatArray, variance: FloatArray, inputs: bool) -> None:
        """sum_r G_r G_r' must not take more than V out of any combination of weights: int G_r G_s / V + g_r g_s <= 1.

        Rows are those of the quadrature. Where these are products with a basis (kinks) the weights of the integral
        cancel between G G and V up to the basis's error alone, hence the slack.
        """
        root = np.sqrt(np.maximum(variance, 0.0))
        scaled = np.divide(profiles, root, out=np.zeros_like(profiles), where=root > 0)
        gram = np.einsum("ruv,suv->urs", scaled, scaled) + np.einsum("ru,su->urs", bias, bias)
        most = float(np.linalg.eigvalsh(gram).max(initial=0.0)) if gram.size else 0.0
        if inputs and (np.abs(profiles[:, root == 0]) > 1e-14).any():
            most = np.inf  # the drift alone says all there is to say of that weight
        if most > 1 + _KNOWN_SLACK:
            raise ConnectivityError(
                f"layer {self.number}: known: the coordinates explain {most:.6g} times the variance that the weights "
                "have; G_r and g_r are covariances with coordinates of variance 1 that are uncorrelated."
            )

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


@dataclass(frozen=True)
class Arrivals:
    """The weight layers that lead to one layer of units."""

    layers: tuple[Layer, ...]

    @property
    def number(self) -> int:
        """Of the first."""
        return self.layers[0].number

    @property
    def constant_in_u(self) -> bool:
        """Whether one node a panel is exact."""
        return all(layer.constant_in_u for layer in self.layers)

    @property
    def u_edges(self) -> FloatArray:
        first, *others = (layer.u_edges for layer in self.layers)
        return np.unique(np.concatenate([first, *others])) if others else first


def _values_at(points: FloatArray) -> _Matrix:
    """Values of graphons that are functions of u alone."""
    return lambda graphon: graphon(points, np.full(len(points), 0.5))
