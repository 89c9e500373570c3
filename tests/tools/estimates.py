"""Estimates beside true errors, of random networks of the kinds in which estimates have failed.

    python -m tests.tools.estimates [networks of each kind]

prints for each kind how often the reported ``quadrature_error`` lay below the true error (never), the
largest true error, and the median and the largest of reported over true, the latter taken as 1e-16 at the least.

- *close*: close, parallel and opposite inputs, kinked phi, step networks of up to 5 layers; against 60-digit loops.
- *unseen*: callables with undeclared jumps, kinks, stripes, boxes and bumps; against the same with breaks declared.
- *narrow*: formulas with bumps, edges and tops at random places and widths; against graded Gauss sums.
- *tails*: densities that tend to 0 smoothly (a logistic curve); against graded Gauss sums.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from tests.engine.test_close_pairs import blocks, errors
from tests.engine.test_features import KINDS, ONE, SMOOTH, X, function, graded, reference, undeclared

Outcome = tuple[float, float]  # true error, reported


def outcome(layers: list[Any], nngp: FloatArray, ntk: FloatArray) -> Outcome:
    found = gt.limit_kernel(gt.Network(layers, bias_variance=0.1), X)
    worst = 0.0
    for got, want in ((found.nngp.values, nngp), (found.ntk.values, ntk)):
        root = np.sqrt(np.diag(want))
        worst = max(worst, float((np.abs(got - want) / np.outer(root, root)).max()))
    return worst, float(found.attrs["quadrature_error"])


def close(rng: np.random.Generator) -> Outcome:
    name = str(rng.choice(["relu", "abs", "leaky_relu", "step"]))
    x = rng.standard_normal((4, 4))
    x[1] = x[0] + 10 ** rng.uniform(-13, -3) * rng.standard_normal(4)
    x[2] = rng.choice([-1.0, 1.0]) * 10 ** rng.uniform(-1, 1) * x[0]
    sizes = [4, *(int(n) for n in rng.integers(1, 4, int(rng.integers(2, 5)))), 1]
    return errors(blocks(rng, *sizes), name, 1.7, float(rng.choice([0.0, 0.1])), x)


def unseen(rng: np.random.Generator) -> Outcome:
    a, b = rng.random(2)
    width = float(np.exp(rng.uniform(np.log(0.006), np.log(0.3))))
    f, in_u, in_v = undeclared(str(rng.choice(KINDS)), a, b, width)
    edges = [sorted({0.0, 1.0, *(e for e in breaks if 0 < e < 1)}) for breaks in (in_u, in_v)]
    position = int(rng.integers(2))
    layers: list[Any] = ["0.5 + 0.3*u*v", "0.4 + 0.5*u*v", 1.0]
    told = [*layers]
    layers[position], told[position] = gt.FunctionGraphon(f), gt.FunctionGraphon(f, edges[0], edges[1])
    wanted = gt.limit_kernel(gt.Network(told, bias_variance=0.1), X)
    return outcome(layers, wanted.nngp.values, wanted.ntk.values)


def formula(text: str, in_u: tuple[float, ...], in_v: tuple[float, ...], first: bool) -> Outcome:
    f, cells = function(text), (0.25, 0.5, 0.75)
    if first:
        wanted = reference([f, SMOOTH, ONE], [graded(*in_v, *cells), graded(*in_u), graded(*in_u)])
        return outcome([text, "0.5 + 0.3*u*v", 1.0], *wanted)
    wanted = reference([SMOOTH, f, ONE], [graded(*cells), graded(*in_v), graded(*in_u)])
    return outcome(["0.5 + 0.3*u*v", text, 1.0], *wanted)


def narrow(rng: np.random.Generator) -> Outcome:
    a, b = (round(float(c), 4) for c in rng.random(2))
    w = round(float(np.exp(rng.uniform(np.log(0.002), np.log(0.3)))), 4)
    text = str(
        rng.choice(
            [
                f"0.1 + 0.8*exp(-((u - {a})/{w})**2)",
                f"0.1 + 0.8*exp(-((u - {a})/{w})**2 - ((v - {b})/{w})**2)",
                f"0.5 + 0.4*tanh((u - {a})/{w})*tanh((v - {b})/{w})",
                f"0.1 + 0.5/(1 + ((u - {a})/{w})**2)",
                f"0.5 + 0.3*erf((v - {b})/{w})*(1 - u/2)",
            ]
        )
    )
    return formula(text, (a,), (b,), bool(rng.integers(2)))


def tails(rng: np.random.Generator) -> Outcome:
    a, k = round(float(rng.uniform(0.1, 0.6)), 4), round(float(rng.uniform(10, 80)), 2)
    return formula(f"1/(1 + exp({k}*(u - {a})))*(0.5 + 0.5*v)", (a,), (), bool(rng.integers(2)))


KIND: dict[str, Callable[[np.random.Generator], Outcome]] = {
    "close": close,
    "unseen": unseen,
    "narrow": narrow,
    "tails": tails,
}


def outcomes(kind: str, count: int) -> Iterator[Outcome]:
    for seed in range(count):
        yield KIND[kind](np.random.default_rng([seed, len(kind)]))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print("| kind | networks | below the error | largest error | median ratio | largest ratio |\n" + "|---" * 6 + "|")
    for kind in KIND:
        table = np.array(list(outcomes(kind, count)))
        ratio = table[:, 1] / np.maximum(table[:, 0], 1e-16)
        below = int((table[:, 1] < table[:, 0]).sum())
        cells = (kind, count, below, f"{table[:, 0].max():.1e}", f"{np.median(ratio):.1e}", f"{ratio.max():.1e}")
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
