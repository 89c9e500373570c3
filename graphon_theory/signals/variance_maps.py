"""The variance of signals at every position, when layers amplify it, and the initialisation that keeps it (THEORY §3).

For inputs of mean square q, without drift,

    K^1(u) = sigma_w^2 q int V^1(u,v) dv + sigma_b^2
    K^l(u) = sigma_w^2 int V^l(u,v) E[phi(sqrt(K^{l-1}(v)) z)^2] dv + sigma_b^2

maps the variances of all positions together. A layer that is repeated has that map from a layer to itself, with a
fixed point K*, a Jacobian sigma_w^2 V(u,v) dE[phi^2]/dK and a susceptibility chi, the spectral radius of
sigma_w^2 V(u,v) E[phi'^2], there: nearby inputs converge below chi = 1 and diverge above (the edge of chaos).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import positive_number, real_array
from graphon_theory.data.labels import LAYER, REPEATED, Variables, dataset
from graphon_theory.data.labels import U as U_DIM
from graphon_theory.engine.discretisation import FLOOR, discretise, layers_of
from graphon_theory.engine.operators import Layer
from graphon_theory.errors import ActivationError, ConvergenceError, InputError, NetworkError
from graphon_theory.networks.network import Network
from graphon_theory.numerics.quadratures import LEFT, PLAIN, RIGHT, Panels
from graphon_theory.signals.block_maps import (
    SMALL,
    Moments,
    blocks,
    found_by_blocks,
    spectral_radius,
    step_at,
    step_to_outputs,
)

if TYPE_CHECKING:
    import xarray as xr

_POSITIONS = 64
_STEPS = 200  # of the plain iteration towards a fixed point, before Newton's
_NEWTON = 80
_STILL = 1e-13  # relative move that ends the iteration
_CRITICAL = 1e-9  # distance of a linear map's radius from 1 that counts as criticality


def criticality(
    network: Network, q: float = 1.0, *, positions: ArrayLike | None = None, rtol: float = 1e-10
) -> xr.Dataset:
    """Forward variances of all positions, and what becomes of each hidden layer if it is repeated.

    Parameters
    ----------
    network:
        Without drift.
    q:
        Mean square of the inputs, (1/d) sum_j x_j^2, the same for every input; positive.
    positions:
        Where variances are given, in [0, 1]; by default 64 cell middles.
    rtol:
        Tolerance of the quadrature.

    Returns
    -------
    Dataset: ``variance`` ("layer", "u"), K^l(u) of the hidden layers l = 1..L-1 as they stand; ``gradient`` ("layer"),
    int B^l(v) dv, the mean squared derivative of an output by the pre-activations (times the width). For every layer l
    between two hidden ones, as if repeated for ever ("repeated", 2..L-1): ``fixed_point`` ("repeated", "u"), reached
    from K^l, infinite where the variance grows without bound; ``jacobian_radius`` and ``chi``, the two spectral radii
    there.
    attrs: ``output_variance`` (mean NNGP of the outputs), ``quadrature_error`` (largest relative move of any of these
    on panels cut in half; activations without closed duals add their own tolerance).

    With stages, ``variance`` of a layer that comes back to a shortcut holds the sum, and ``repeated`` are the residual
    blocks between hidden layers, by the number of their last weight layer. A block's variance K + s^2 K_b grows with
    every repetition where its branch adds anything: ``fixed_point`` is infinite there. ``chi`` is the spectral radius
    of 1 + s^2 times the branch's, by which squared derivatives grow a block, and ``jacobian_radius`` that of the
    variances' own map, both at the variances that arrive: nearby inputs diverge where chi exceeds the growth of the
    variance itself. For ReLU without biases the two are one, at every scale.

    Radii belong to a layer whose rows and columns share their positions, as in a repeated layer; the product of
    different layers is in ``variance`` and ``gradient``, which relabelling a layer does not change.

    Raises NetworkError for drift, InputError for q or positions, ConvergenceError where no fixed point is found.
    """
    q = checked(network, q)
    points = _positions(positions)
    grid = discretise(network, np.full((1, 1), math.sqrt(q)), rtol)
    numbers = range(2, max(2, network.depth)) if network.is_plain else blocks(network.outline)
    exact = all(layer.constant_in_u for layer in layers_of(network)[:-1])
    if network.is_plain:
        coarse = _found(network, q, points, grid.panels, lambda panels: panels, rtol)
    else:
        coarse = found_by_blocks(network, q, points, grid.places)
    if exact:
        fine, error = coarse, 0.0
    else:
        if network.is_plain:
            fine = _found(network, q, points, tuple(map(_halved, grid.panels)), _halved, rtol)
        else:
            halved = tuple(None if panels is None else _halved(panels) for panels in grid.places)
            fine = found_by_blocks(network, q, points, halved)
        error = max((_move(a, b) for a, b in zip(coarse, fine, strict=True)), default=0.0)
    variance, gradient, output, fixed, radius, chi = fine
    variables: Variables = {
        "variance": ((LAYER, U_DIM), variance),
        "gradient": ((LAYER,), gradient),
        "fixed_point": ((REPEATED, U_DIM), fixed),
        "jacobian_radius": ((REPEATED,), radius),
        "chi": ((REPEATED,), chi),
    }
    coords = {LAYER: np.arange(1, network.depth), REPEATED: np.array(numbers, dtype=int), U_DIM: points}
    attrs = {
        "network": network.describe(),
        "q": float(q),
        "output_variance": float(output[0]),
        "quadrature_error": max(error, FLOOR * network.depth),
    }
    return dataset(variables, coords, attrs)


def checked(network: Network, q: float) -> float:
    """q as a number. Raises NetworkError and InputError for what has no variance map."""
    if not isinstance(network, Network):
        raise NetworkError(f"network: expected a Network, got {type(network).__name__}; wrap layers in gt.Network.")
    if network.has_drift:
        raise NetworkError("network: a layer carries drift D; the variance map here is about zero means. Leave it out.")
    return positive_number("q", q, expected="the positive mean square of the inputs")


def _positions(positions: ArrayLike | None) -> FloatArray:
    if positions is None:
        return (np.arange(_POSITIONS) + 0.5) / _POSITIONS
    points = np.atleast_1d(real_array("positions", positions, expected="numbers in [0, 1]").astype(float))
    if points.ndim != 1 or not points.size or not ((points >= 0) & (points <= 1)).all():
        raise InputError(f"positions: expected numbers in [0, 1], got an array of shape {points.shape}.")
    return points


def _move(a: FloatArray, b: FloatArray) -> float:
    finite = np.isfinite(a) & np.isfinite(b)
    scale = np.abs(b[finite]).max(initial=0.0)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / scale) if scale > 0 else 0.0


def _halved(panels: Panels) -> Panels:
    """Every panel cut in two; the half away from a graded end is plain."""
    whole = panels.m == 1  # constant there: nothing to cut
    parts = []
    for a, b, m, kind, keep in zip(panels.a, panels.b, panels.m, panels.kind, whole, strict=True):
        middle = 0.5 * (a + b)
        if keep:
            parts.append((a, b, m, kind))
        else:
            parts += [
                (a, middle, m, LEFT if kind == LEFT else PLAIN),
                (middle, b, m, RIGHT if kind == RIGHT else PLAIN),
            ]
    a, b, m, kind = (np.array(column) for column in zip(*parts, strict=True))
    return Panels(a, b, m.astype(np.intp), kind.astype(np.intp))


def _found(
    network: Network,
    q: float,
    points: FloatArray,
    panels: tuple[Panels, ...],
    refine: Callable[[Panels], Panels],
    rtol: float,
) -> tuple[FloatArray, ...]:
    """variance, gradient, output variance, fixed points, Jacobian radii and chi on given panels."""
    layers = layers_of(network)
    variance, transfer, derivatives, signals = [], [], [], [np.array([q])]  # signals: E[phi^2] on the panels below
    for number, layer in enumerate(layers[:-1]):
        below = panels[number - 1] if number else None
        variance.append(step_at(layer, points, below).covariance(signals[-1]))
        step = step_at(layer, panels[number].nodes(), below)
        signal, derivative = Moments(network.activations[number])(step.covariance(signals[-1]))
        transfer.append(step)
        signals.append(signal)
        derivatives.append(derivative)
    last = step_to_outputs(layers[-1], network.outputs, panels[-1] if panels else None)
    output = last.covariance(signals[-1])
    gradients = []
    beta = np.full(network.outputs, 1 / network.outputs)
    for step, derivative in zip([*transfer[1:], last][::-1], derivatives[::-1], strict=True):
        beta = derivative * step.transposed(beta)
        gradients.append(beta.sum())
    maps: list[Repeated] = []
    for number in range(1, network.depth - 1):
        alike = next((m for m in maps if m.repeats(network, number)), None)
        one = Repeated.of(network, number, rtol, refine) if alike is None else replace(alike, number=number)
        start = step_at(one.layer, one.panels.nodes(), panels[number - 1]).covariance(signals[number])
        maps.append(replace(one, start=start))
    found = [one.at_rest(points, variance[1 + i]) for i, one in enumerate(maps)]
    fixed = np.array([f[0] for f in found]).reshape(len(maps), len(points))
    radii = np.array([f[1:] for f in found]).reshape(len(maps), 2)
    rows = np.array(variance).reshape(network.depth - 1, len(points))
    return rows, np.array(gradients[::-1]), np.array([output.mean()]), fixed, radii[:, 0], radii[:, 1]


@dataclass(frozen=True)
class Repeated:
    """One hidden layer's map from a layer to itself."""

    layer: Layer
    panels: Panels
    matrix: FloatArray  # sigma_w^2 V with the weights of the integral
    moments: Moments
    start: FloatArray  # variances at the nodes
    number: int

    @classmethod
    def of(cls, network: Network, index: int, rtol: float, refine: Callable[[Panels], Panels]) -> Repeated:
        """Of layer ``index``, counted from 0, on panels that resolve four repetitions of it; started at variance 1."""
        repeated_layer, sigma = network.layers[index], network.weight_variance[index]
        layers, sigmas = [1.0, *[repeated_layer] * 4, 1.0], [1.0, *[sigma] * 4, 1.0]
        activation = network.activations[index - 1]  # what its senders apply
        repeated = Network(layers, activation, sigmas, network.bias_variances[index])
        panels = refine(discretise(repeated, np.ones((1, 1)), rtol).panels[-1])
        layer = layers_of(repeated)[1]
        matrix = step_at(layer, panels.nodes(), panels).operator.variance
        return cls(layer, panels, matrix, Moments(activation), np.ones(panels.size), index)

    def repeats(self, network: Network, index: int) -> bool:
        """Whether layer ``index`` of the network is this very one."""
        said = (network.layers, network.weight_variance, network.bias_variances, (None, *network.activations))
        return all(values[index] == values[self.number] for values in said)

    def __call__(self, k: FloatArray) -> FloatArray:
        out: FloatArray = self.matrix @ self.moments(k)[0] + self.layer.scales.bias
        return out

    def at_rest(self, points: FloatArray, arriving: FloatArray) -> tuple[FloatArray, float, float]:
        """K* at ``points``, the Jacobian's radius and chi."""
        k = self.fixed_point()
        if k is None:
            linear = self.moments.linear
            grown = np.where(arriving > 0, np.inf, 0.0)
            radius = math.inf if linear is None else linear * spectral_radius(self.matrix)
            return grown, radius, radius
        least = np.maximum(k, SMALL * max(float(self.start.max()), 1e-300))
        jacobian = spectral_radius(self.matrix * self.moments.derivative(least))
        chi = spectral_radius(self.matrix * self.moments(least)[1])
        there = step_at(self.layer, points, self.panels).covariance(self.moments(k)[0])
        return there, jacobian, chi

    def fixed_point(self) -> FloatArray | None:
        """The limit of the variances; None if they grow without bound."""
        if self.moments.linear is not None:
            return self._linear_limit(self.moments.linear)
        k = self.start
        try:
            for _ in range(_STEPS):
                after = self(k)
                move, k = np.abs(after - k).max(), after
                if not np.isfinite(k).all() or k.max() > 1e200:
                    return None
                if self._dies(k):
                    return np.zeros_like(k)
                if move <= _STILL * k.max():
                    return k
            k = self._newton(k)
            return np.zeros_like(k) if self._dies(k) else k
        except ActivationError:  # beyond what the Gaussian integrates
            return None

    def _dies(self, k: FloatArray) -> bool:
        """Whether k is as good as 0, and 0 stays 0."""
        return bool(k.max() <= 1e-15 * self.start.max() and not self(np.zeros_like(k)).any())

    def _linear_limit(self, gain: float) -> FloatArray | None:
        """phi homogeneous: K -> gain A K + sigma_b^2, whose fate is the radius of gain A."""
        step, bias = gain * self.matrix, self.layer.scales.bias
        radius = spectral_radius(step)
        if bias > 0:
            if radius >= 1 - _CRITICAL:
                return None
            out: FloatArray = np.linalg.solve(np.eye(len(step)) - step, np.full(len(step), bias))
            return out
        if radius > 1 + _CRITICAL:
            return None
        if radius < 1 - _CRITICAL:
            return np.zeros_like(self.start)
        k = self.start
        for _ in range(500 * _STEPS):
            after = step @ k / radius
            move, k = np.abs(after - k).max(), after
            if move <= _STILL * k.max():
                return k
        raise ConvergenceError(
            f"layer {self.number + 1}: at chi = 1 its variances do not settle; it acts like a cycle."
        )

    def _newton(self, k: FloatArray) -> FloatArray:
        """From where plain iteration is slow: the stable fixed point nearby."""
        scale = float(self.start.max())
        identity = np.eye(len(k))
        for _ in range(_NEWTON):
            least = np.maximum(k, SMALL * scale)
            jacobian = self.matrix * self.moments.derivative(least)
            step = np.linalg.solve(identity - jacobian, self(k) - k)
            k = np.maximum(k + step, 0.0)
            if np.abs(step).max() <= 10 * _STILL * max(float(k.max()), scale):
                if spectral_radius(self.matrix * self.moments.derivative(np.maximum(k, SMALL * scale))) > 1 + 1e-6:
                    break
                return k
        raise ConvergenceError(
            f"layer {self.number + 1}: no fixed point of the variance map was found from the variances that reach it; "
            "it is too close to criticality, or a cycle."
        )
