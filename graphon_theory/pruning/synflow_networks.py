"""Networks pruned in rounds by SynFlow's score, as a law: positions told by path masses (THEORY §14).

No network is drawn. The first hidden layer's positions carry rows of weights from the few inputs, the last one's
columns of weights to the few outputs; between them a connection is kept where |w| exceeds every threshold so far, and
sums over a unit's many connections are Gaussian.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_generator, axes_of, instance, share_kept, truth, whole_number, whole_numbers
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import ConnectivityError, NetworkError, shown
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.pruning.laws import solve_threshold
from graphon_theory.pruning.weight_laws import Normal
from graphon_theory.values import Record

_LAW = Normal()
_FAR = 40.0  # no weight exceeds it: exp(-t^2 / 2) is 0
_NONE = 1e-32  # a share of connections that no network has one of; of products of such shares no number is left
_RARE = 8.5  # connections past this threshold, 2 Phi(-8.5) = 2e-17, are not counted
_ROUNDS = 1_000
_TOLERANCE = 1e-6  # of a threshold's logarithm, and nearly of the share kept
_TIMES, _CHANGE = 8, 1e-3  # at most so often in a round, until the connections counted change by less
_EVEN_POSITIONS = 64  # of the run without fluctuations, whose middle is the same at every position
_EDGES = np.append(np.linspace(0.0, 6.0, 129), _FAR)  # thresholds at which fluctuations are known


@dataclass(frozen=True, eq=False)
class Amplification(Record):
    """By what the rounds multiply the fluctuations of units in the middle of a network (THEORY §14).

    A unit that receives a little less keeps fewer of its connections upward in the next round, and with them fewer of
    those that it receives: its own loop multiplies deviations by T^2 per round, T its layers' threshold. ``gains``: the
    product of max(1, T^2) over the rounds, of every hidden layer but the first and the last, whose positions are told
    by weights of inputs and outputs at every width.
    """

    gains: tuple[float, ...]

    @property
    def gain(self) -> float:
        """G, the largest of the gains; 1 where there is no hidden layer but the first and the last."""
        return max(self.gains, default=1.0)

    @property
    def even_width(self) -> float:
        """G^2: only networks much wider have even layers in the middle; in others fluctuations make the graphon."""
        return self.gain**2

    def __str__(self) -> str:
        return f"fluctuations amplified {self.gain:.3g} times; even in the middle for widths >> {self.even_width:.3g}"


@dataclass(frozen=True, init=False, eq=False)
class SynFlowNetwork(Network):
    """A Network that :func:`synflow_network` made, with the ``amplification`` of its rounds."""

    amplification: Amplification

    def __init__(self, *arguments: Any, amplification: Amplification, **named: Any) -> None:
        object.__setattr__(self, "amplification", amplification)
        super().__init__(*arguments, **named)

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.amplification}"


@dataclass
class _Ends:
    """A layer whose positions carry their own weights: rows from the inputs, or columns to the outputs."""

    sizes: FloatArray  # |w|
    thresholds: FloatArray  # broadcasts to them
    excess = 1.0

    def count(self, below: FloatArray, above: FloatArray) -> float:
        """The change of ``excess``: masks are what they are."""
        return 0.0

    def share(self, units: FloatArray) -> Callable[[float], float]:
        """What is left where thresholds rise to tau * units, as a function of tau."""
        left = self.sizes > self.thresholds
        with np.errstate(divide="ignore"):
            reach = np.sort(self.sizes[left] / units[left])
        return lambda tau: float(len(reach) - np.searchsorted(reach, tau, "right")) / left.size

    def up(self, below: FloatArray) -> FloatArray:
        return (self.sizes * (self.sizes > self.thresholds)) @ below / len(below)

    def down(self, above: FloatArray) -> FloatArray:
        return above @ (self.sizes * (self.sizes > self.thresholds)) / len(above)

    def connectivity(self, below: FloatArray, above: FloatArray) -> Connectivity:
        mask = self.sizes > self.thresholds
        return Connectivity(StepGraphon(mask.astype(float)), StepGraphon(np.where(mask, self.sizes**2, 0.0)))

    def drift(self, rng: np.random.Generator) -> StepGraphon:
        """D = sqrt(n_in) w, with signs drawn for the weights that are kept."""
        kept = np.where(self.sizes > self.thresholds, self.sizes, 0.0)
        return StepGraphon(math.sqrt(kept.shape[1]) * kept * (2.0 * rng.integers(2, size=kept.shape) - 1))


class _Between:
    """A layer between drawn positions: W = 2 Phi(-T) and what its units' many weights fluctuate by."""

    def __init__(self, positions: int, receiving: float, sending: float, rng: np.random.Generator | None) -> None:
        self.thresholds = np.zeros((positions, positions))
        self.excess = 1.0  # of the connections that units keep over 2 Phi(-T): units that keep many have more to keep
        self.rows = None if rng is None else _Fluctuations(positions, sending, rng)
        self.columns = None if rng is None else _Fluctuations(positions, receiving, rng)

    def share(self, units: FloatArray) -> Callable[[float], float]:
        """What is left where thresholds rise to tau * units, as a function of tau and of ``excess`` as it is then."""
        left = self.thresholds < _RARE
        before, unit = self.thresholds[left], units[left]

        def kept(tau: float) -> float:
            with np.errstate(over="ignore"):
                return float(_LAW.survival(np.maximum(before, tau * unit)).sum()) / left.size * self.excess

        return kept

    def count(self, below: FloatArray, above: FloatArray) -> float:
        """Measure ``excess`` at these masses; its change."""
        before, plain = self.excess, float(_LAW.survival(self.thresholds).mean())
        self.excess = float(self.mask(below, above).mean()) / plain if plain > 0 else 1.0
        return abs(self.excess - before)

    def up(self, below: FloatArray) -> FloatArray:
        return _mass(self.rows, self.thresholds, below)

    def down(self, above: FloatArray) -> FloatArray:
        return _mass(self.columns, self.thresholds.T, above)

    def loop(self, below: FloatArray, above: FloatArray) -> tuple[FloatArray, FloatArray]:
        """T^2 of every sender and every receiver, by what |w| carries there."""
        sizes = _size(self.thresholds)
        squares = sizes * self.thresholds**2
        return _share(above @ squares, above @ sizes), _share(squares @ below, sizes @ below)

    def mask(self, below: FloatArray, above: FloatArray) -> FloatArray:
        """W, given what units deviate by."""
        w = _LAW.survival(self.thresholds)
        odds = np.exp(self._tilts(0, below, above))
        tilted: FloatArray = w * odds / (1 - w + w * odds)
        return tilted

    def variance(self, below: FloatArray, above: FloatArray) -> FloatArray:
        """V, given what units deviate by."""
        squares: FloatArray = _LAW.second_moment(self.thresholds) * np.exp(self._tilts(2, below, above))
        return squares

    def _tilts(self, power: int, below: FloatArray, above: FloatArray) -> FloatArray:
        if self.rows is None or self.columns is None:
            return np.zeros((1, 1))
        rows = self.rows.tilts(power, self.thresholds, below)
        return rows[:, None] + self.columns.tilts(power, self.thresholds.T, above)

    def connectivity(self, below: FloatArray, above: FloatArray) -> Connectivity:
        mask = self.mask(below, above)
        mask[mask < _NONE] = 0.0
        return Connectivity(StepGraphon(mask), StepGraphon(np.where(mask > 0, self.variance(below, above), 0.0)))


class _Fluctuations:
    """What sums over the ``count`` weights of each of some units deviate by, as a function of a threshold.

    Sums over v of alpha_v f(|w_v|) 1[|w_v| > T_v], f = 1, |w| and w^2, are Gaussian, with the variance of the
    thresholds and factors that they have and, at one threshold, the correlations that sums of the same weights have at
    different thresholds: those of the empirical law of |w|, drawn here in bins.
    """

    def __init__(self, units: int, count: float, rng: np.random.Generator) -> None:
        self.count = count
        shares = -np.diff(_LAW.survival(_EDGES))
        sizes = -np.diff(_size(_EDGES)) / np.maximum(shares, np.finfo(float).tiny)
        noise = rng.standard_normal((units, len(shares))) * np.sqrt(shares)
        noise -= shares * noise.sum(1, keepdims=True)
        self.scores = [self._above(noise, shares, sizes**power) for power in range(3)]

    @staticmethod
    def _above(noise: FloatArray, shares: FloatArray, values: FloatArray) -> FloatArray:
        """Normal scores of the sums of ``values`` above every edge but the last (units, edges)."""
        sums = np.cumsum((noise * values)[:, ::-1], 1)[:, ::-1]
        mean, square = (np.cumsum((shares * values**power)[::-1])[::-1] for power in (1, 2))
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
        # of counts above 0 there is no deviation
        scores: FloatArray = np.divide(
            sums, deviation, out=np.zeros_like(sums), where=deviation > 1e-6 * deviation.max()
        )
        return scores

    def at(self, power: int, thresholds: FloatArray, weights: FloatArray) -> FloatArray:
        """The score of every unit's sum of |w|^power, at the one threshold at which as much of |w| is kept."""
        kept = _size(thresholds) @ weights / (weights.sum() * _size(np.zeros(1)))
        one = np.sqrt(-2 * np.log(np.clip(kept, np.exp(-(_EDGES[-2] ** 2) / 2), 1.0)))
        place = np.clip(np.searchsorted(_EDGES, one) - 1, 0, len(_EDGES) - 3)
        part = (one - _EDGES[place]) / np.diff(_EDGES)[place]
        scores, unit = self.scores[power], np.arange(len(one))
        found: FloatArray = scores[unit, place] * (1 - part) + scores[unit, place + 1] * part
        return found

    def tilts(self, power: int, thresholds: FloatArray, weights: FloatArray) -> FloatArray:
        """By what a unit's log odds of a connection (``power`` 0) or the logarithm of its squares (2) is off."""
        if power == 0:
            w = _LAW.survival(thresholds)
            variance = mean = (w * (1 - w)).mean(1)
        else:
            v = _LAW.second_moment(thresholds)
            variance, mean = (_fourth(thresholds) - v**2).mean(1), v.mean(1)
        # a lognormal factor of mean 1
        square = np.log1p(_share(variance, self.count * mean**2))
        found: FloatArray = self.at(power, thresholds, weights) * np.sqrt(square) - square / 2
        return found


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _size(t: FloatArray) -> FloatArray:
    """E[|w|; |w| > t]."""
    return math.sqrt(2 / math.pi) * np.exp(-t * t / 2)


def _fourth(t: FloatArray) -> FloatArray:
    """E[w^4; |w| > t]."""
    return 3 * _LAW.second_moment(t) + t**3 * _size(t)


def _mass(fluctuations: _Fluctuations | None, thresholds: FloatArray, masses: FloatArray) -> FloatArray:
    """mean_v E[|w| m] mass_v of every unit, and what it deviates by."""
    sizes = _size(thresholds)
    mean: FloatArray = sizes @ masses / len(masses)
    if fluctuations is None or not masses.any():
        return mean
    variance = (_LAW.second_moment(thresholds) - sizes**2) @ masses**2 / len(masses)
    scores = fluctuations.at(1, thresholds, masses)
    return np.maximum(mean + scores * np.sqrt(variance / fluctuations.count), 0.0)


class _Pruning:
    """A network between rounds: the thresholds that connections of every layer have had to pass so far."""

    def __init__(self, counts: Sequence[float], positions: int, rng: np.random.Generator, *, even: bool) -> None:
        units = [int(counts[0]), *[positions] * (len(counts) - 2), int(counts[-1])]
        self.layers: list[_Ends | _Between] = []
        for number, (sending, receiving) in enumerate(pairwise(units), 1):
            if number in (1, len(units) - 1):
                self.layers.append(_Ends(np.abs(rng.standard_normal((receiving, sending))), np.zeros((1, 1))))
            else:
                noise = None if even else rng
                self.layers.append(_Between(positions, counts[number], counts[number - 1], noise))
        self.ends = units[0], units[-1]
        self.tau = 1.0
        self.counts = _connections(counts)

    def flows(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """Path masses of |w|, of what sends to every layer and of what receives from it."""
        below, above = [np.ones(self.ends[0])], [np.ones(self.ends[1])]
        for layer in self.layers[:-1]:
            below.append(layer.up(below[-1]))
        for layer in self.layers[:0:-1]:
            above.append(layer.down(above[-1]))
        return below, above[::-1]

    def prune(self, share: float) -> tuple[list[FloatArray], list[FloatArray]]:
        """One round, after which ``share`` of all connections is left; the masses that it scored by."""
        below, above = self.flows()
        total = float((self.layers[-1].up(below[-1]) * above[-1]).mean())
        if not total > 0:
            raise ConnectivityError(
                "density: no path of surviving connections leads from the inputs to the outputs at these widths; use a "
                "higher density or more rounds."
            )
        units = [total * count * _inverse(b, a) for count, b, a in zip(self.counts, above, below, strict=True)]

        before = [layer.thresholds for layer in self.layers]
        shares = [layer.share(unit) for layer, unit in zip(self.layers, units, strict=True)]

        def kept(tau: float) -> float:
            return float(np.dot(self.counts, [of(tau) for of in shares]) / self.counts.sum())

        for _ in range(_TIMES):
            now = functools.cache(kept)  # until connections are counted anew
            self.tau = solve_threshold(now, min(share, now(0.0)), _TOLERANCE, self.tau or 1.0)
            for layer, thresholds, unit in zip(self.layers, before, units, strict=True):
                with np.errstate(over="ignore"):
                    layer.thresholds = np.maximum(thresholds, np.minimum(self.tau * unit, _FAR))
            if max(layer.count(a, b) for layer, a, b in zip(self.layers, below, above, strict=True)) < _CHANGE:
                break
        return below, above


def _connections(counts: Sequence[float]) -> FloatArray:
    """n_l n_{l-1} of every layer over the largest; with infinite widths, the ends are nothing beside other layers."""
    if math.isinf(max(counts)):
        order = [sum(map(math.isinf, pair)) for pair in pairwise(counts)]
        finite = [math.prod(n for n in pair if not math.isinf(n)) for pair in pairwise(counts)]
        made = np.where(np.array(order) == max(order), finite, 0.0)
    else:
        made = np.array([float(a) * float(b) for a, b in pairwise(counts)])
    return made / made.max()


def _inverse(above: FloatArray, below: FloatArray) -> FloatArray:
    """1 / (b_u a_v), as large as numbers are where there is no path."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.minimum(1 / above[:, None] / below, np.finfo(float).max)


def synflow_network(
    network: Network,
    density: float,
    widths: Sequence[float],
    *,
    rounds: int = 100,
    positions: int = 256,
    signs: bool = False,
    rng: np.random.Generator | int = 0,
) -> SynFlowNetwork:
    """The network that SynFlow's rounds leave of a dense one, at these widths (THEORY §14; Tanaka et al., 2020).

    Round r = 1..R keeps the share density^(r/R) of all connections, those of the largest scores

        |w| a_v b_u / (R_1 n_l n_{l-1}),    a_v the mass of |w| on paths from the inputs, b_u on paths to the outputs

    through what is left, R_1 that of whole paths, with one threshold tau_r for all layers. Between hidden positions

        T(u,v) = max_r tau_r R_1 n_l n_{l-1} / (b_u a_v),   W = 2 Phi(-T),   V = 2 [T phi(T) + Phi(-T)],   D = 0.

    Inputs and outputs are few, so that a position of the first hidden layer carries its unit's own weights from the
    inputs, one of the last hidden layer those to the outputs: there W and V are the mask and the squares. Sums over a
    unit's many weights deviate from their means by order n^(-1/2), and the rounds amplify that
    (:class:`Amplification`): every unit's mass has its own Gaussian deviations, as a function of its threshold, and so
    have the rows and columns of W and V, the numbers of connections that a unit keeps included. The graphon therefore
    depends on the widths, and at those in use it is an alive core and dead units. ``inf`` for the hidden widths is
    their limit at this number of rounds: dense ends, and layers between that are even but for the first and last.

    SynFlow sees neither data, activations, biases nor variances: they do not change the masks, and are carried over to
    the result, whose kernels know them. Biases are not pruned. Magnitudes of weights, not signs, choose: D = 0.

    Args:
        network: the dense network: all masks 1, weight layers and activations in turn, any number of outputs; the
            weights' law is normal.
        density: share of all weights kept, in (0, 1].
        widths: all unit counts (n_0, ..., n_L), hidden ones all finite or all ``math.inf``.
        rounds: R, as in ``gv.prune(model, "synflow", density, rounds=R)``; 1 prunes once.
        positions: units drawn per hidden layer, whatever the widths. Means over them err like positions^(-1/2), and the
            kernel with them; time grows like rounds * positions^2.
        signs: whether a position of the first hidden layer knows the signs of its weights too, drawn at random:
            D = sqrt(d) w there, V - D^2/d = 0. Without them the kernel is the mean over signs. At low densities few
            units are alive (40 of 512 with 784 inputs at density .03), and the kernel of one network is a sum over
            these: its largest eigenvalues hold more than those of the mean. ``positions`` = n with signs fluctuates
            like one network.
        rng: a Generator or a seed, for weights at the ends and for deviations.

    Returns a Network for :func:`limit_kernel` and ``gv.build``, with the ``amplification`` of the rounds as an
    attribute, which it prints with itself.

    When it fails: sums are Gaussian, so a unit needs many connections, or none: where the alive keep fewer than about
    ten (density .01 at n = 256), shares alive and degrees are off by more than their errors. Deviations of different
    units are independent, and correlations at order 1/n between rows and columns are left out.

    Raises NetworkError for a network that is not dense, has other stages, or ``widths`` that do not fit;
    ConnectivityError for a density outside (0, 1], or one at which no path is left.
    """
    counts = _checked(network, density, widths, rounds, positions)
    truth("signs", signs)
    generator = as_generator(rng)
    shares = [float(density) ** (number / rounds) for number in range(1, rounds + 1)]
    pruning = _Pruning(counts, positions, generator, even=math.isinf(max(counts)))
    for share in shares if density < 1 else ():
        pruning.prune(share)
    below, above = pruning.flows()
    layers = [layer.connectivity(a, b) for layer, a, b in zip(pruning.layers, below, above, strict=True)]
    amplification = _amplification(counts, shares, generator)
    if signs:
        first = pruning.layers[0]
        assert isinstance(first, _Ends)
        layers[0] = Connectivity(layers[0].mask, layers[0].variance, first.drift(generator))
    made = network.with_layers(layers)
    return SynFlowNetwork(amplification=amplification, **{one.name: getattr(made, one.name) for one in fields(made)})


def _amplification(counts: Sequence[float], shares: Sequence[float], rng: np.random.Generator) -> Amplification:
    """From the same rounds without fluctuations."""
    even = _Pruning(counts, _EVEN_POSITIONS, rng, even=True)
    logs = np.zeros(max(len(counts) - 4, 0))
    if len(logs):
        for share in shares if shares[-1] < 1 else ():
            below, above = even.prune(share)
            loops = [
                layer.loop(a, b)
                for layer, a, b in zip(even.layers, below, above, strict=True)
                if isinstance(layer, _Between)
            ]
            rounds = [math.sqrt(up[1].mean() * down[0].mean()) for up, down in pairwise(loops)]
            logs += np.maximum(np.log(np.maximum(rounds, 1.0)), 0.0)
    return Amplification(tuple(np.exp(logs).tolist()))


def _checked(
    network: Network, density: float, widths: Sequence[float], rounds: int, positions: int
) -> tuple[float, ...]:
    """All unit counts (n_0, ..., n_L) of a dense network; hidden ones may be infinite."""
    instance("network", network, Network, "wrap layers in gt.Network", error=NetworkError)
    network.ask_plain("paths around layers have another mass")
    for number, layer in enumerate(network.layers, 1):
        if layer != Connectivity(1.0):
            raise NetworkError(
                f"network: expected a dense network, but layer {number} is {layer!r}; rounds start with all "
                "connections, so give every layer the mask 1.0."
            )
    expected = f"{network.depth + 1} unit counts (n_0, ..., n_{network.depth}) to {network.outputs} outputs"
    expected += ", hidden ones all finite or all inf"
    counts = list(islice(widths, network.depth + 2)) if axes_of(widths) == 1 else [0]
    wide = [isinstance(one, float | np.floating) and one == math.inf for one in counts]
    endless = any(wide) and all(wide[1:-1]) and not (wide[0] or wide[-1])
    finite = whole_numbers(
        "widths", [counts[0], counts[-1]] if endless else counts, error=NetworkError, expected=expected
    )
    if len(counts) != network.depth + 1 or finite[-1] != network.outputs:
        raise NetworkError(f"widths: expected {expected}, got {shown(widths)}.")
    if network.widths is not None and not endless and finite[:-1] != network.widths:
        raise NetworkError(f"widths: expected the network's own {network.widths} and outputs, got {shown(widths)}.")
    share_kept("density", density, error=ConnectivityError)
    whole_number("rounds", rounds, 1, _ROUNDS)
    whole_number("positions", positions)
    refuse_beyond_memory("positions", 64.0 * positions**2, f"tables of {positions:,} positions", "take fewer")
    return (finite[0], *[math.inf] * (len(counts) - 2), finite[-1]) if endless else finite
