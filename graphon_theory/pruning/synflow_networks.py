"""Networks pruned in rounds by SynFlow's score, as a law: positions told by path masses (THEORY §14).

No network is drawn. The first hidden layer's positions carry rows of weights from the few inputs, the last one's
columns of weights to the few outputs; between them a connection is kept where |w| exceeds every threshold so far, and
sums over a unit's many connections are Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_generator, axes_of, instance, share_kept, truth, whole_number, whole_numbers
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import ConnectivityError, NetworkError, shown
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.pruning.laws import solve_threshold
from graphon_theory.pruning.synflow_layers import Between, Ends
from graphon_theory.values import Record

_ROUNDS = 1_000
_TOLERANCE = 1e-9  # of a threshold's logarithm, and nearly of the share kept
_TIMES = 24  # thresholds tried in a round
_FIRST, _FARTHEST = 0.1, 10.0  # the least threshold to start from, and the most by which it follows the last change
_LEAST = 1e-290  # a threshold that only connections without a path do not pass
_EVEN_POSITIONS = 64  # of the run without fluctuations, whose middle is the same at every position


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


class _Pruning:
    """A network between rounds: the thresholds that connections of every layer have had to pass so far."""

    def __init__(self, counts: Sequence[float], positions: int, rng: np.random.Generator, *, even: bool) -> None:
        units = [int(counts[0]), *[positions] * (len(counts) - 2), int(counts[-1])]
        self.layers: list[Ends | Between] = []
        for number, (sending, receiving) in enumerate(pairwise(units), 1):
            if number in (1, len(units) - 1):
                self.layers.append(Ends(receiving, sending, rng))
            else:
                noise = None if even else rng
                self.layers.append(Between(positions, counts[number], counts[number - 1], noise))
        self.ends = units[0], units[-1]
        self.tau, self.step = 0.0, 1.0
        self.counts = _connections(counts)

    def flows(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """Path masses of |w|, of what sends to every layer and of what receives from it."""
        below, above = [np.ones(self.ends[0])], [np.ones(self.ends[1])]
        for layer in self.layers[:-1]:
            below.append(layer.up(below[-1]))
        for layer in self.layers[:0:-1]:
            above.append(layer.down(above[-1]))
        return below, above[::-1]

    def paths(self) -> tuple[list[FloatArray], list[FloatArray], float]:
        """The flows, and the mass R_1 of whole paths. Raises ConnectivityError where there are none."""
        below, above = self.flows()
        total = float((self.layers[-1].up(below[-1]) * above[-1]).mean())
        if not total > 0:
            raise ConnectivityError(
                "density: no path of surviving connections leads from the inputs to the outputs at these widths; use a "
                "higher density or more rounds."
            )
        return below, above, total

    def prune(self, share: float) -> tuple[list[FloatArray], list[FloatArray]]:
        """One round, after which ``share`` of all connections is left; the masses that it scored by."""
        below, above, total = self.paths()
        for layer, count, b, a in zip(self.layers, self.counts, above, below, strict=True):
            layer.begin(total * count, a, b)

        def kept(tau: float) -> float:
            return float(np.dot(self.counts, [layer.share(tau) for layer in self.layers]) / self.counts.sum())

        before, self.tau = self.tau, max(self.tau * self.step, _FIRST)
        left = math.inf
        for _ in range(_TIMES):
            for layer, a, b in zip(self.layers, below, above, strict=True):
                layer.rise(self.tau, a, b)
            last, left = left, kept(self.tau)
            tau, self.tau = self.tau, solve_threshold(kept, min(share, kept(_LEAST)), _TOLERANCE, self.tau)
            if abs(self.tau - tau) <= 2 * _TOLERANCE * tau or abs(left - last) <= _TOLERANCE * share:
                break
        # thresholds rise by like factors from round to round
        self.step = min(max(self.tau / before, 1 / _FARTHEST), _FARTHEST) if before else 1.0
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
    ten (density .01 at n = 256), shares alive and degrees are off by more than their errors; so are they where units
    lose fewer than one (densities above 1 - 1/n, of which about 1 - 1/n is left). Deviations of different units are
    independent, and correlations at order 1/n between rows and columns are left out. Rounds leave their density at the
    masses that they score by; with those behind the last one it is off by a percent or so (ten rounds, n = 300), by
    less with more rounds.

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
    below, above, _ = pruning.paths()
    layers = [layer.connectivity(a, b) for layer, a, b in zip(pruning.layers, below, above, strict=True)]
    amplification = _amplification(counts, shares, generator)
    if signs:
        first = pruning.layers[0]
        assert isinstance(first, Ends)
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
                if isinstance(layer, Between)
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
    refuse_beyond_memory(
        "positions", 72.0 * len(counts) * positions**2, f"tables of {positions:,} positions", "take fewer"
    )
    return (finite[0], *[math.inf] * (len(counts) - 2), finite[-1]) if endless else finite
