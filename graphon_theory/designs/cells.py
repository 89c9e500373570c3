"""What a design moves: one logit a cell of every free layer, under budgets that hold exactly (THEORY §13)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.designs.kernel_gradients import KernelGradient
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.signals.block_maps import Moments
from graphon_theory.signals.initialisations import balanced

_FAN_IN = 16.0  # expected connections that every receiver keeps where that is little beside the budget
_LEAST = 0.01  # of the mean density: no cell is emptier, unless its share of _FAN_IN is less
_LEAST_INPUT = 0.001  # the same of the first layer, where every input let in is noise to those that are chosen
_POOR = 1.5  # expected connections below which a receiver is held to be poor
_READ = 0.25  # of the units below outputs, which no layer averages over: what they read less of is poor too
_FARTHEST = 60.0  # logits beyond those of all cells at which a shift is looked for


@dataclass(frozen=True)
class FreeLayer:
    """The cells of one free layer: equal blocks of receivers, blocks or groups of senders."""

    number: int  # of the weight layer, from 0
    columns: FloatArray  # shares of the senders, adding to 1
    where: IntArray | None  # the group of every input; None where senders are blocks
    shape: tuple[int, int]
    target: float  # what sigma_w^2 int V E[phi^2] is to be, in units of what multiplies V
    size: int  # connections of the unpruned layer
    senders: int  # units
    waves: tuple[FloatArray | None, FloatArray | None] = (None, None)  # of receivers and senders; None: all are free

    @property
    def weights(self) -> FloatArray:
        """Connections of the unpruned layer that every cell holds."""
        return np.broadcast_to(self.columns * (self.size / self.shape[0]), self.shape)

    @property
    def count(self) -> int:
        """Of what moves: cells, or coefficients of waves."""
        return math.prod(n if one is None else one.shape[1] for n, one in zip(self.shape, self.waves, strict=True))

    def spread(self, z: FloatArray) -> FloatArray:
        """The logits of all cells."""
        rows, columns = self.waves
        z = z.reshape(self.shape[0] if rows is None else rows.shape[1], -1)
        z = z if rows is None else rows @ z
        return (z if columns is None else z @ columns.T).ravel()

    def gathered(self, slope: FloatArray) -> FloatArray:
        """The derivative in what moves, from that in the logits of all cells."""
        rows, columns = self.waves
        slope = slope.reshape(self.shape)
        slope = slope if rows is None else rows.T @ slope
        return (slope if columns is None else slope @ columns).ravel()

    def connectivity(self, cells: FloatArray) -> Connectivity:
        """W, and V = W g(u) with g so that every receiver's signal has variance 1."""
        variance = cells * (self.target / (cells @ self.columns))[:, None]
        if self.where is None:
            return Connectivity(StepGraphon(cells), StepGraphon(variance))
        return Connectivity(StepGraphon(cells[:, self.where]), StepGraphon(variance[:, self.where]))

    def pulled(self, cells: FloatArray, mask: FloatArray, variance: FloatArray) -> FloatArray:
        """The derivative in the cells, from those in the values of W and of V."""
        if self.where is not None:
            mask, variance = (_grouped(values, self.where, self.shape[1]) for values in (mask, variance))
        mass = cells @ self.columns
        gain = self.target / mass
        lost = (variance * cells).sum(axis=1) / mass
        return mask + gain[:, None] * (variance - lost[:, None] * self.columns)


def _grouped(values: FloatArray, where: IntArray, groups: int) -> FloatArray:
    out = np.zeros((groups, len(values)))
    np.add.at(out, where, values.T)
    return out.T


class Cells:
    """All free cells of a network as one vector of logits, or of coefficients of smooth logits, and back.

    W = least + (1 - least) sigmoid(z + s), with one shift s for every budget, so that the sum of weights x W is what
    the budget leaves. Weight variances make up for a receiver's connections, however few, and the kernel does not see
    that no finite network would have any: the least density keeps some.
    """

    def __init__(self, network: Network, free: Sequence[FreeLayer], budgets: Sequence[tuple[list[int], float]]) -> None:
        self.network, self.free, self.budgets = network, tuple(free), tuple(budgets)
        sizes = [layer.shape[0] * layer.shape[1] for layer in self.free]
        self.ends = np.concatenate([[0], np.cumsum(sizes)])
        self.cuts = np.cumsum([layer.count for layer in self.free])[:-1]
        self.weights = np.concatenate([layer.weights.ravel() for layer in self.free])
        self.groups = [
            (np.concatenate([np.arange(self.ends[k], self.ends[k + 1]) for k in members]), total)
            for members, total in self.budgets
        ]
        self.least = np.empty(int(self.ends[-1]))
        for (members, total), (which, _) in zip(self.budgets, self.groups, strict=True):
            mean = total / float(self.weights[which].sum())
            for k in members:
                layer = self.free[k]
                self.least[self.ends[k] : self.ends[k + 1]] = min(
                    _FAN_IN / layer.senders, (_LEAST if layer.number else _LEAST_INPUT) * mean
                )

    @property
    def count(self) -> int:
        """Of what moves."""
        return sum(layer.count for layer in self.free)

    def logits(self, z: FloatArray) -> FloatArray:
        """Of all cells, before budgets shift them."""
        return np.concatenate(
            [layer.spread(part) for layer, part in zip(self.free, np.split(z, self.cuts), strict=True)]
        )

    def values(self, z: FloatArray) -> FloatArray:
        """W of every cell; the budgets hold to rounding."""
        z = self.logits(z)
        out = np.empty_like(z)
        for which, total in self.groups:
            logits, least = z[which], self.least[which]
            weights = self.weights[which] * (1 - least)
            rest = total - float(self.weights[which] @ least)

            def excess(shift: float, z: FloatArray = logits, w: FloatArray = weights, rest: float = rest) -> float:
                return float(w @ expit(z + shift)) / rest - 1.0

            low, high = -float(logits.max()) - _FARTHEST, -float(logits.min()) + _FARTHEST
            shares = expit(logits + brentq(excess, low, high, xtol=1e-14, rtol=1e-15))
            out[which] = least + (1 - least) * shares
        return out

    def split(self, values: FloatArray) -> list[FloatArray]:
        """The vector as one array a free layer."""
        return [
            values[a:b].reshape(layer.shape) for a, b, layer in zip(self.ends, self.ends[1:], self.free, strict=False)
        ]

    def at(self, values: FloatArray) -> Network:
        """The network whose free layers have these cells."""
        layers = list(self.network.layers)
        for layer, cells in zip(self.free, self.split(values), strict=True):
            layers[layer.number] = layer.connectivity(cells)
        return self.network.with_layers(layers)

    def poverty(self, values: FloatArray) -> tuple[float, FloatArray]:
        """How far receivers are from having ``_POOR`` expected connections, and the derivative in the cells.

        The mean over a layer's receivers of log(_POOR / fan-in)^2 where that is positive, of all layers together: a
        kernel does not see that units without connections are dead in every finite network. Outputs are to read a
        quarter of the units below: few connections of the budget, and what they read is all that a finite network has
        to average over.
        """
        total, parts = 0.0, []
        for layer, cells in zip(self.free, self.split(values), strict=True):
            fan_in = layer.senders * (cells @ layer.columns)
            outputs = 0 < layer.number == self.network.depth - 1  # that read units, not inputs
            lack = np.maximum(np.log((max(_POOR, _READ * layer.senders) if outputs else _POOR) / fan_in), 0.0)
            total += float((lack**2).mean())
            slope = -2 * lack / (len(lack) * fan_in) * layer.senders
            parts.append((slope[:, None] * layer.columns).ravel())
        return total, np.concatenate(parts)

    def slope(self, values: FloatArray, gradient: KernelGradient) -> FloatArray:
        """dJ/dW of every cell, with V = W g(u) moving along."""
        parts = []
        for layer, cells in zip(self.free, self.split(values), strict=True):
            mask, variance = gradient.mask[layer.number], gradient.variance[layer.number]
            assert mask is not None
            assert variance is not None
            parts.append(layer.pulled(cells, mask, variance).ravel())
        return np.concatenate(parts)

    def pulled(self, values: FloatArray, slope: FloatArray) -> FloatArray:
        """dJ/dz at fixed budgets, through the shifts, from dJ/dW."""
        bend = np.maximum(values - self.least, 0.0) * (1 - values) / (1 - self.least)
        out = slope * bend
        for which, _ in self.groups:
            weighted = self.weights[which] * bend[which]
            out[which] -= weighted * (out[which].sum() / max(float(weighted.sum()), 1e-300))
        return np.concatenate([layer.gathered(part) for layer, part in zip(self.free, self.split(out), strict=True)])


def cells_of(
    network: Network,
    widths: tuple[int, ...],
    density: float | Sequence[float],
    blocks: Sequence[int],
    layers: Sequence[int],
    groups: IntArray | None,
    q: float,
    smooth: int | None = None,
) -> Cells:
    """The free cells of ``layers`` (from 0), with ``blocks`` of every hidden layer, under ``density``.

    ``q``: mean square of the inputs. ``smooth``: terms of the cosine series in a hidden layer's position that logits
    are; None leaves every cell its own. Raises InputError for a budget that cannot be met.
    """
    sizes = [a * b for a, b in zip(widths[1:], widths, strict=False)]
    base = _with_balanced_rest(network, layers, q)
    biases = network.bias_variances
    sent = [q, *(float(Moments(phi)(np.ones(1))[0][0]) for phi in network.activations)]  # E[phi^2] at variance 1
    where = np.arange(widths[0]) if groups is None else groups
    shares = np.bincount(where) / widths[0]
    free = []
    for number in layers:
        rows = 1 if number == network.depth - 1 else blocks[number]
        columns = shares if number == 0 else np.full(blocks[number - 1], 1 / blocks[number - 1])
        waves = (
            None if number == network.depth - 1 else _waves(rows, smooth),
            None if number == 0 else _waves(len(columns), smooth),
        )
        target = (1 - biases[number]) / (network.weight_variance[number] * sent[number])
        free.append(
            FreeLayer(
                number,
                columns,
                where if number == 0 else None,
                (rows, len(columns)),
                target,
                sizes[number],
                widths[number],
                waves,
            )
        )
    return Cells(base, free, _budgets(base, free, sizes, density))


def _waves(blocks: int, smooth: int | None) -> FloatArray | None:
    """cos(pi k u) at the middles of the blocks, k = 0, 1, ...; (blocks, terms), None for all cells free."""
    if smooth is None:
        return None
    middles = (np.arange(blocks) + 0.5) / blocks
    waves: FloatArray = np.cos(np.pi * middles[:, None] * np.arange(min(smooth, blocks)))
    return waves


def _budgets(
    network: Network, free: Sequence[FreeLayer], sizes: Sequence[int], density: float | Sequence[float]
) -> list[tuple[list[int], float]]:
    """Which free layers share a budget, and the connections it leaves them."""
    if not isinstance(density, (int, float)):
        budgets = [([k], density[layer.number] * layer.size) for k, layer in enumerate(free)]
        for (k,), kept in budgets:
            if kept < 1:
                raise InputError(f"density: of layer {free[k].number + 1} not one connection is kept; raise it.")
        return budgets
    numbers = [layer.number for layer in free]
    fixed = sum(size * network.layers[n].mask.mean() for n, size in enumerate(sizes) if n not in numbers)
    left, room = density * sum(sizes) - fixed, sum(sizes[n] for n in numbers)
    if not 1 <= left <= room:
        raise InputError(
            f"density: {density:g} of {sum(sizes)} connections cannot be met: the layers that are not free hold "
            f"{fixed:.6g}, and the free ones can hold from 1 to {room}; change density, or free other layers."
        )
    return [(list(range(len(free))), left)]


def _with_balanced_rest(network: Network, layers: Sequence[int], q: float) -> Network:
    """The network with the variances of its other layers by position, where these have V = W and can be balanced."""
    plain = [n for n, layer in enumerate(network.layers) if n not in layers and layer.variance is layer.mask]
    if network.has_drift or not plain:
        return network
    try:
        even = balanced(
            network.with_layers([1.0 if n in layers else layer for n, layer in enumerate(network.layers)]),
            q,
            by="position",
        )
    except NetworkError:
        return network
    return network.with_layers([even.layers[n] if n in plain else layer for n, layer in enumerate(network.layers)])
