"""Write ``tests/data/duals.npz``: duals of activations by brute force.

    python -m tests.tools.make_dual_references [NAME ...]

Nested composite Gauss-Legendre in 80-bit floats, f first and f' given f, with panels graded geometrically towards every
kink (and towards 0, where smooth activations bend) of either; at two resolutions, whose distance is stored.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erf, ndtr

from tests.dual_references import CUSTOM, DATA, DEAD, KINKS, NAMED, points

Long = Any  # arrays of np.longdouble
REACH = 14.0
DEAD_REACH = 60.0  # where phi vanishes over 31 standard deviations


def rectified(alpha: float, beta: float) -> tuple[Callable[[Long], Long], Callable[[Long], Long]]:
    return lambda z: np.where(z > 0, beta * z, alpha * z), lambda z: np.where(z > 0, beta, alpha) + 0 * z


def logistic(z: Long) -> Long:
    return 1 / (1 + np.exp(-z))


def density(z: Long) -> Long:
    return np.exp(-z * z / 2) / np.sqrt(2 * np.longdouble(np.pi))


def in_double(f: Callable[[Any], Any]) -> Callable[[Long], Long]:
    return lambda z: np.asarray(f(z.astype(float)), dtype=np.longdouble)


BENT = KINKS["bent"]
FUNCTIONS: dict[str, tuple[Callable[[Long], Long], Callable[[Long], Long]]] = {
    "relu": rectified(0, 1),
    "leaky_relu": rectified(0.01, 1),
    "abs": rectified(-1, 1),
    "step": (lambda z: (z > 0) * np.longdouble(1), lambda z: 0 * z),
    "identity": (lambda z: z, np.ones_like),
    "erf": (in_double(erf), lambda z: 2 * np.exp(-z * z) / np.sqrt(np.longdouble(np.pi))),
    "gelu": (in_double(lambda z: z * ndtr(z)), in_double(lambda z: ndtr(z) + z * density(z))),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda z: -np.sin(z)),
    "gaussian": (lambda z: np.exp(-z * z / 2), lambda z: -z * np.exp(-z * z / 2)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (logistic, lambda z: logistic(z) * logistic(-z)),
    "silu": (lambda z: z * logistic(z), lambda z: logistic(z) * (1 + z * logistic(-z))),
    "softplus": (lambda z: np.logaddexp(0, z), logistic),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0))),
    "hard tanh": (lambda z: np.clip(z, -1, 1), lambda z: (abs(z) < 1) * np.longdouble(1)),
    "bent": (
        lambda z: np.maximum(z, z * z / 10 - 1),
        lambda z: np.where((z < BENT[0]) | (z > BENT[1]), z / 5, 1),
    ),
    "swish with a jump": (
        lambda z: np.where(z < 0.5, z * logistic(z), 1),
        lambda z: np.where(z < 0.5, logistic(z) * (1 + z * logistic(-z)), 0),
    ),
    "soft threshold": (
        lambda z: np.maximum(z - 1, 0) - np.maximum(-z - 1, 0),
        lambda z: (abs(z) > 1) * np.longdouble(1),
    ),
    "hard shrink": (lambda z: z * (abs(z) > 1), lambda z: (abs(z) > 1) * np.longdouble(1)),
    "step at 1": (lambda z: (z > 1) * np.longdouble(1), lambda z: 0 * z),
    "cubic": (lambda z: z**3 - z, lambda z: 3 * z * z - 1),
}


def rule(splits: Long, order: int, ratio: float, levels: int, reach: float) -> tuple[Long, Long]:
    """Nodes and Gaussian weights on [-reach, reach], (rows, n): graded towards each row's splits (rows, k)."""
    steps = np.concatenate([[0.0], ratio ** np.arange(levels, -1, -1.0)]).astype(np.longdouble)
    steps = np.concatenate([-steps[::-1], steps[1:]])
    edges = (splits[:, :, None] + steps).reshape(len(splits), -1)
    units = np.linspace(-reach, reach, 2 * int(reach) + 1, dtype=np.longdouble)
    units = np.broadcast_to(units, (len(splits), len(units)))
    edges = np.concatenate([edges, units], axis=1)
    edges = np.sort(np.clip(edges, -reach, reach), axis=1)
    edges = edges[:, np.diff(edges, axis=1, append=np.inf).max(0) > 0]  # panels that are empty in all rows go
    x, w = (a.astype(np.longdouble) for a in np.polynomial.legendre.leggauss(order))
    x, w = polished(x, order)
    half, middle = np.diff(edges, axis=1)[:, :, None] / 2, (edges[:, 1:] + edges[:, :-1])[:, :, None] / 2
    z, weights = (middle + half * x).reshape(len(splits), -1), (half * w).reshape(len(splits), -1)
    return z, weights * density(z)


def polished(x: Long, order: int) -> tuple[Long, Long]:
    """Legendre nodes to 80 bits by one Newton step, and their weights."""
    for _ in range(2):
        before, now = np.ones_like(x), x
        for n in range(1, order):
            before, now = now, ((2 * n + 1) * x * now - n * before) / (n + 1)
        slope = order * (x * now - before) / (x * x - 1)
        x = x - now / slope
    return x, 2 / ((1 - x * x) * slope**2)


def pair(name: str, means: tuple[float, float], q: tuple[float, float, float], fine: int) -> tuple[Long, Long]:
    """(C, Cdot)."""
    reach = DEAD_REACH if name in DEAD else REACH
    grid = ((16, 0.25, 12, reach), (20, 0.2, 11, reach))[fine]
    places = np.array(sorted({*KINKS.get(name, ()), 0.0}), dtype=np.longdouble)
    q12, q11, q22 = (np.longdouble(value) for value in q)
    (m1, m2), (s1, s2) = (np.longdouble(m) for m in means), (np.sqrt(q11), np.sqrt(q22))
    slope = q12 / q11
    rest = np.sqrt(max(q22 - q12 * q12 / q11, np.longdouble(0)))
    own = (places - m1) / s1
    if rest * rest <= 1e-17 * q22:  # coincident or opposite
        z, w = rule(np.concatenate([own, np.sign(q12) * (places - m2) / s2])[None], *grid)
        values = [(g(m1 + s1 * z) * g(m2 + np.sign(q12) * s2 * z) * w).sum() for g in FUNCTIONS[name]]
        return values[0], values[1]
    near = (places - m2) / (slope * s1) if slope else places[:0]
    z, w = rule(np.concatenate([own, near])[None], *grid)
    totals = [np.longdouble(0), np.longdouble(0)]
    counts = w[0] * abs(FUNCTIONS[name][0](m1 + s1 * z[0])) if name in DEAD else w[0]
    kept = np.flatnonzero(counts > 1e-45 * counts.max() if name in DEAD else w[0] > 1e-45)
    for part in np.array_split(kept, max(1, len(kept) // 50)) if len(kept) else ():
        f = m1 + s1 * z[0, part]
        middle = m2 + slope * (f - m1)
        y, v = rule((places - middle[:, None]) / rest, *grid)
        other = middle[:, None] + rest * y
        for k, g in enumerate(FUNCTIONS[name]):
            totals[k] += (g(f) * w[0, part] * (g(other) * v).sum(1)).sum()
    return totals[0], totals[1]


def row(name: str, means: tuple[float, float], q: tuple[float, float, float]) -> tuple[list[float], float]:
    both = [np.array(pair(name, means, q, fine)) for fine in (0, 1)]
    tops = [pair(name, (m, m), (v, v, v), 1) for m, v in zip(means, q[1:], strict=True)]
    scales = [np.sqrt(a * b) for a, b in zip(*tops, strict=True)]
    error = max(abs(a - b) / (s or 1) for a, b, s in zip(*both, scales, strict=True))
    return [float(value) for value in (*both[1], *scales)], float(error)


def main(names: list[str]) -> None:
    with np.errstate(all="ignore"):
        stored = dict(np.load(DATA)) if DATA.exists() and names else {}
        for name in names or [*NAMED, *CUSTOM, *DEAD]:
            start = time.perf_counter()
            rows, errors = zip(*itertools.starmap(lambda m, q, n=name: row(n, m, q), points(name)), strict=True)
            stored[name], stored[f"{name} error"] = np.array(rows), np.array(errors)
            print(f"{name:20s} resolution {max(errors):.1e}  {time.perf_counter() - start:.0f} s", flush=True)
            np.savez_compressed(DATA, **stored)


if __name__ == "__main__":
    main(sys.argv[1:])
