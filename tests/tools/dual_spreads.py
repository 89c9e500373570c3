"""How errors of the duals grow on their way through a network (docs/quadrature.md), measured and bounded.

    python -m tests.tools.dual_spreads

prints the table of docs/quadrature.md: the largest move of NNGP and NTK, relative to sqrt(K_ii K_jj), when C and Cdot
of a layer are wrong by a small share of sqrt(C11 C22) and sqrt(Cdot11 Cdot22), over the signs that this can have, in
units of that share: of the layer that matters most, the mean over layers, and that mean as :func:`spread` bounds it.
Then, for activations that have a closed form and are made to do without it, what is really wrong, what the kernel
reports and what the bound is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.recursion import Recursion

FloatArray = NDArray[np.float64]
SMALL = 1e-9  # share by which duals are moved: small enough to be first order but at kinks of close pairs


# --- the bound --------------------------------------------------------------------------------------------------------


def spread(recursion: Recursion, x: FloatArray, errors: Sequence[float] | None = None) -> float:
    """What errors of the duals come to at the outputs: a bound of first order, on the pairs of ``x`` (N, d).

    ``errors``: of every hidden layer, relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22) (of means: to sqrt(C11)); those
    of the passes if None. With absolute bounds dK and dT of the layer below, dK = dT = 0 at the first one,

        dC    = e sqrt(C11 C22) + |C moved by K12 +- dK12| + |by K11 +- dK11| + |by K22 +- dK22|
        dCdot = e sqrt(Cdot11 Cdot22) + the same of Cdot
        dK'   = sigma_w^2 int V dC,     dT' = sigma_w^2 int [W dC + V (dCdot |T| + |Cdot| dT)]

    where an input meets itself K11 = K22 = K12 moves as one. Means and what is known of the parameters are moved
    likewise. Displacements are those of the bounds themselves, not derivatives: where phi has a kink and two inputs are
    close, Cdot moves like the root of dK.

    Returns the largest of dK and dT over sqrt(K_ii K_jj) and sqrt(T_ii T_jj).
    """
    errors = [duals.error for duals in recursion.passes] if errors is None else errors
    diagonal = recursion.diagonal(x)
    c = (x[:, None, :] * x[None, :, :]).transpose(2, 0, 1)  # (positions, N, N): of the layer below
    dot_t, d_dot_t, d_c = np.zeros_like(c), np.zeros_like(c), np.zeros_like(c)
    d_m = np.zeros(c.shape[:2])
    for layer, op in enumerate(recursion.operators):
        k, t = _through(op.variance, c) + op.bias, _through(op.own_matrix, c) + op.own_bias
        d_k, d_t = _through(np.abs(op.variance), d_c), _through(np.abs(op.own_matrix), d_c)
        if layer:
            t, d_t = t + _through(op.variance, dot_t), d_t + _through(np.abs(op.variance), d_dot_t)
        known = diagonal.shares[layer]
        if known is not None and op.known is not None:
            moved = np.einsum("rup,pi->uri", np.abs(op.known.profiles), d_m)
            k = k - np.matmul(known.transpose(0, 2, 1), known)
            one = np.matmul(np.abs(known).transpose(0, 2, 1), moved)
            d_k = d_k + one + one.transpose(0, 2, 1)
        if layer == len(recursion.passes):
            return max(_relative(d_k, k), _relative(d_t, t))
        q, mu, duals = diagonal.variances[layer], diagonal.means[layer], recursion.passes[layer]
        d_q = np.einsum("pii->pi", d_k)
        d_mu = np.zeros_like(mu) if op.drift is None else np.abs(op.drift) @ d_m
        # what every displacement makes of (C, Cdot) of pairs, of (C, Cdot) of inputs with themselves, and of m
        pairs = _pairs(recursion, layer, k, (mu, q), (mu, q))
        alone = np.stack(duals.diagonal(mu, q))
        mean = duals.mean(mu, q)
        by_k = _most(_pairs(recursion, layer, moved_k, (mu, q), (mu, q)) - pairs for moved_k in (k - d_k, k + d_k))
        signs = list(itertools.product((-1.0, 1.0), (-1.0, 1.0) if d_mu.any() else (0.0,)))
        ends = [(mu + b * d_mu, np.maximum(q + a * d_q, 0.0)) for a, b in signs]
        by_one = _most(_pairs(recursion, layer, k, end, (mu, q)) - pairs for end in ends)
        by_both = _most(np.stack(duals.diagonal(*end)) - alone for end in ends)
        scale = np.sqrt(np.maximum(alone, 0.0))
        moves = by_k + by_one + by_one.transpose(0, 1, 3, 2)
        np.einsum("cpii->cpi", moves)[:] = by_both
        np.einsum("cpii->cpi", pairs)[:] = alone
        moves += errors[layer] * scale[..., :, None] * scale[..., None, :]
        if op.drift is not None:
            d_m = _most(duals.mean(*end) - mean for end in ends) + errors[layer] * scale[0]
        else:
            d_m = np.zeros_like(mu)
        c, d_c = pairs[0], moves[0]
        dot_t, d_dot_t = pairs[1] * t, moves[1] * np.abs(t) + np.abs(pairs[1]) * d_t
    raise AssertionError("a network ends with a weight layer")


def _through(matrix: FloatArray, field: FloatArray) -> FloatArray:
    return np.tensordot(matrix, field, 1)


def _most(moves: Iterable[FloatArray]) -> FloatArray:
    """The largest of several moves, entry by entry."""
    return np.max([np.abs(move) for move in moves], axis=0)


def _pairs(
    recursion: Recursion,
    layer: int,
    k: FloatArray,
    one: tuple[FloatArray, FloatArray],
    two: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """(C, Cdot) of all pairs (2, positions, N, N) by the engine's own compiled pass."""
    duals = recursion.passes[layer]
    state = np.ones((len(k), 2, *k.shape[1:]))
    state[:, 0] = k
    out, none = np.empty_like(state), np.zeros_like(k)
    f1, f2 = (np.ascontiguousarray(duals.features(*each)) for each in (one, two))
    duals.block(state, none, False, 0.0, 0.0, f1, f2, 0, 0, out, recursion.parameters[layer])
    return np.ascontiguousarray(out.transpose(1, 0, 2, 3))


def _relative(error: FloatArray, kernel: FloatArray) -> float:
    root = np.sqrt(np.einsum("pii->pi", kernel))
    scale = root[:, :, None] * root[:, None, :]
    return float(np.divide(error, scale, out=np.zeros_like(error), where=scale > 0).max())


# --- the measurement --------------------------------------------------------------------------------------------------

Signs = tuple[FloatArray, FloatArray]  # of the errors of C and Cdot (N, N)


@dataclass(frozen=True)
class Blocks:
    """A network of blocks as matrices, (W, V) of every layer with the weights of their integrals."""

    activation: gt.Activation
    layers: tuple[tuple[FloatArray, FloatArray], ...]
    weight_variance: float
    bias_variance: float

    @classmethod
    def random(
        cls,
        activation: gt.Activation,
        depth: int,
        inputs: int,
        weight_variance: float,
        bias_variance: float,
        rng: np.random.Generator,
        blocks: int = 1,
    ) -> Blocks:
        """``blocks`` equal blocks in hidden layers, W uniform in [0.1, 0.9] and V = W times [0.5, 2]; dense if one."""
        sizes, layers = [inputs, *[blocks] * (depth - 1), 1], []
        for below, above in itertools.pairwise(sizes):
            w = np.ones((above, below)) if blocks == 1 else rng.uniform(0.1, 0.9, (above, below))
            v = w if blocks == 1 else w * rng.uniform(0.5, 2.0, w.shape)
            layers.append((w / below, v / below))
        return cls(activation, tuple(layers), weight_variance, bias_variance)

    @property
    def network(self) -> gt.Network:
        layers = [gt.Connectivity(w * w.shape[1], v * w.shape[1]) for w, v in self.layers]
        return gt.Network(layers, self.activation, self.weight_variance, self.bias_variance)

    def recursion(self, x: FloatArray) -> Recursion:
        return Recursion(discretise(self.network, x, 1e-10).operators, self.activation, x)

    def kernels(self, x: FloatArray, moved: dict[int, Signs] | None = None, share: float = SMALL) -> list[FloatArray]:
        """NNGP and NTK (1, N, N) in plain arrays, the duals of hidden layers moved by signs times the share."""
        s, b = self.weight_variance, self.bias_variance
        c = (x[:, None, :] * x[None, :, :]).transpose(2, 0, 1)
        dot_t = np.zeros_like(c)
        for layer, (w, v) in enumerate(self.layers):
            k, t = s * _through(v, c) + b, s * (_through(w, c) + _through(v, dot_t)) + b
            if layer == len(self.layers) - 1:
                return [k, t]
            q = np.einsum("pii->pi", k)
            q1, q2 = (np.broadcast_to(each, k.shape) for each in (q[:, :, None], q[:, None, :]))
            both = [np.array(v) for v in self.activation.duals(np.clip(k, -np.sqrt(q1 * q2), np.sqrt(q1 * q2)), q1, q2)]
            if moved is not None and layer in moved:
                for dual, signs in zip(both, moved[layer], strict=True):
                    root = np.sqrt(np.maximum(np.einsum("pii->pi", dual), 0.0))
                    dual += share * signs * root[:, :, None] * root[:, None, :]
            c, dot_t = both[0], both[1] * t
        raise AssertionError("a network ends with a weight layer")

    def moves(self, x: FloatArray, several: Iterable[dict[int, Signs]], share: float = SMALL) -> list[float]:
        """The largest relative move of either kernel, in units of the share, for each of several sets of signs."""
        still = self.kernels(x)
        return [
            max(
                _relative(np.abs(new - old), old) for new, old in zip(self.kernels(x, moved, share), still, strict=True)
            )
            / share
            for moved in several
        ]


def patterns(n: int) -> list[Signs]:
    """Signs of errors that work together: those of inputs with themselves one way, of pairs the same or the other."""
    same = np.eye(n)
    return [
        (a * same + c * (1 - same), b * same + d * (1 - same))
        for a, b, c, d in itertools.product((1.0,), (1.0, -1.0), (1.0, -1.0), (1.0, -1.0))
    ]


def measured(blocks: Blocks, x: FloatArray, share: float = SMALL) -> list[float]:
    """By hidden layer: the most that errors of its duals alone come to."""
    hidden = range(len(blocks.layers) - 1)
    return [max(blocks.moves(x, [{layer: signs} for signs in patterns(len(x))], share)) for layer in hidden]


def inputs(near: float | None, d: int = 6) -> FloatArray:
    """Three normal inputs, the last one ``near`` the first (relative) unless that is None."""
    x = np.random.default_rng(0).standard_normal((3, d))
    if near is not None:
        x[2] = x[0] + near * x[2]
    return x


CASES = (  # sigma_w^2, sigma_b^2
    ("tanh", 1.0, 0.0),
    ("tanh", 2.0, 0.1),
    ("tanh", 4.0, 0.0),
    ("silu", 2.0, 0.1),
    ("softplus", 2.0, 0.1),
    ("elu", 2.0, 0.1),
    ("Max(-1, Min(1, z))", 2.0, 0.1),
)
DEPTHS = (3, 5, 9)


@cache  # tables take seconds
def unknown(name: str) -> gt.Activation:
    """The named activation, whose closed form the package does not recognise: erf by a series, relu by tables."""
    return gt.Activation("erf(z)") if name == "erf" else gt.Activation(lambda z: np.maximum(z, 0.0), kinks=(0,))


REAL = (("erf", 9.0, 0.1), ("relu", 2.0, 0.0))


def real(name: str, depth: int, weight_variance: float, bias_variance: float, x: FloatArray) -> tuple[float, ...]:
    """The kernels' largest relative error against the closed form, what they report, and the bound of the duals."""
    made, exact = (
        Blocks.random(activation, depth, x.shape[1], weight_variance, bias_variance, np.random.default_rng(0))
        for activation in (unknown(name), as_activation(name))
    )
    got, want = gt.limit_kernel(made.network, x), gt.limit_kernel(exact.network, x)
    pairs = [(got[key].values[None], want[key].values[None]) for key in ("nngp", "ntk")]
    error = max(_relative(np.abs(one - other), other) for one, other in pairs)
    return error, float(got.attrs["quadrature_error"]), spread(made.recursion(x), x)


def main() -> None:
    head = [
        "activation",
        "sigma_w^2, sigma_b^2",
        "inputs",
        *(f"L = {depth}: most, mean, bound" for depth in DEPTHS),
    ]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for text, sw2, sb2 in CASES:
        activation = gt.Activation(text) if "(" in text else as_activation(text)
        for near in (None, 1e-2):
            x, cells = inputs(near), []
            for depth in DEPTHS:
                blocks = Blocks.random(activation, depth, x.shape[1], sw2, sb2, np.random.default_rng(0))
                each = measured(blocks, x)
                bound = spread(blocks.recursion(x), x, [SMALL] * (depth - 1)) / SMALL
                cells.append(f"{max(each):.3g}, {np.mean(each):.3g}, {bound / len(each):.3g}")
            place = "random" if near is None else f"two at {near:g}"
            print(f"| {text} | {sw2:g}, {sb2:g} | {place} | " + " | ".join(cells) + " |", flush=True)
    head = [
        "activation",
        "sigma_w^2, sigma_b^2",
        "inputs",
        *(f"L = {depth}: error, reported, bound" for depth in DEPTHS),
    ]
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, sw2, sb2 in REAL:
        for near in (1e-2, 1e-4, 1e-6):
            cells = [", ".join(f"{v:.0e}" for v in real(name, depth, sw2, sb2, inputs(near))) for depth in DEPTHS]
            print(f"| {name} | {sw2:g}, {sb2:g} | two at {near:g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
