"""The errors that README's table states, measured against the tests' own oracles.

Errors are relative to sqrt(K_ii K_jj) unless said otherwise, the worst over NNGP and NTK and all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import mpmath
import numba
import numpy as np
import threadpoolctl

import graphon_theory as gt
from tests.oracle import CASES, X2, Case, X, network_of
from tests.problem_parts import Problem
from tests.problems import PROBLEMS, SLOW
from tests.reference import EPS, classical_ntk, coincidence_inputs, relative_error

DEPTHS = (1, 2, 3, 4)  # weight layers
CLOSE = 8  # rows of coincidence_inputs from here on are nearly coincident or nearly opposite
DENSITY = 0.2
# Those of every kind that take a fraction of a second
QUICK = (
    "constant",
    "step_unequal",
    "separable_erf",
    "smooth",
    "close_inputs",
    "dead_edge",
    "kinked_input_minimum",
    "one_layer_outputs",
    "three_outputs",
    "standard_no_bias",
)


def rounding() -> dict[str, str]:
    """What decides how this machine rounds: two that agree here give the same errors to the last bit."""
    blas = sorted({f"{one['internal_api']} {one['architecture']}" for one in _libraries()})
    return {"numpy": np.__version__, "numba": numba.__version__, "blas": ", ".join(blas)}


def _libraries() -> list[dict[str, str]]:
    return [one for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas" and "architecture" in one]


def classical() -> dict[str, float]:
    """W = V = 1 against [J] in 50 digits: inputs "apart" (random, duplicate, scaled, opposite, zero) and "close"."""
    x = coincidence_inputs(4, seed=1)
    worst = {"apart": 0.0, "close": 0.0}
    for activation in ("relu", "erf"):
        for bias in (0.0, 0.25):
            for depth in DEPTHS:
                kernel = gt.limit_kernel(gt.Network([1.0] * depth, activation, bias_variance=bias), x)
                exact = classical_ntk(x, depth, bias_variance=bias, activation=activation)
                for key, want in zip(("nngp", "ntk"), exact, strict=True):
                    error = relative_error(kernel[key].values, want)
                    worst["apart"] = max(worst["apart"], error[:CLOSE, :CLOSE].max())
                    worst["close"] = max(worst["close"], error[CLOSE:].max())
    return {name: float(error) for name, error in worst.items()}


def step_networks() -> dict[str, float]:
    """Every network of the other library: the worst of every entry's own relative error, (X, X) and (X, X2)."""
    return {name: _own_error(case) for name, case in CASES.items()}


def _own_error(case: Case) -> float:
    network, worst = network_of(case), 0.0
    for x2, suffix in ((None, ""), (X2, "_x2")):
        kernel = gt.limit_kernel(network, X, x2)
        for key in ("nngp", "ntk"):
            want = case.arrays[key + suffix]
            worst = max(worst, float(np.max(np.abs(kernel[key].values - want) / np.abs(want))))
    return worst


def problems(chosen: Iterable[Problem] = PROBLEMS) -> dict[str, dict[str, float]]:
    """Every network of the table of problems: ``error``, and the ``estimate`` reported beside it."""
    found = {}
    for problem in chosen:
        kernel = gt.limit_kernel(problem.network(), problem.x)
        error = max(relative_error(kernel[key].values, getattr(problem, key)).max() for key in ("nngp", "ntk"))
        found[problem.name] = {"error": float(error), "estimate": float(kernel.attrs["quadrature_error"])}
    return found


def quick_problems() -> list[Problem]:
    chosen = [problem for problem in PROBLEMS if problem.name in QUICK]
    assert len(chosen) == len(QUICK)
    assert not SLOW & set(QUICK)
    return chosen


def magnitude_ratio() -> dict[str, float]:
    """``ratio`` V/W of magnitude pruning at density 0.2 in 40 digits, and the ``error`` of NTK = ratio^(L-1) times
    that of random pruning (all L = 2..5 layers pruned, no bias, ReLU)."""
    mp = mpmath.MPContext()
    mp.dps = 40
    threshold = mp.sqrt(2) * mp.erfinv(1 - mp.mpf(str(DENSITY)))  # P(|z| > threshold) = density
    ratio = (2 * threshold * mp.npdf(threshold) + mp.mpf(str(DENSITY))) / mp.mpf(str(DENSITY))
    x, worst = coincidence_inputs(5, seed=0), 0.0
    for depth in range(2, 6):
        magnitude, random = (
            gt.limit_kernel(gt.Network([law(DENSITY)] * depth), x).ntk.values
            for law in (gt.magnitude_pruning, gt.random_pruning)
        )
        worst = max(worst, float(relative_error(magnitude, float(ratio ** (depth - 1)) * random).max()))
    return {"ratio": float(ratio), "error": worst}


def rounded_up(error: float) -> str:
    """Two digits, never less than the error: what the page prints. 0 becomes half a unit of rounding."""
    error = max(error, EPS / 2)
    unit = 10.0 ** (math.floor(math.log10(error)) - 1)
    return f"{math.ceil(error / unit * (1 - 1e-12)) * unit:.1e}"


def claim_holds(claimed: float, measured: float, *, same_rounding: bool) -> bool:
    """Whether a page may print ``claimed`` (rounded up) where ``measured`` is what comes out now.

    No better than measured: rounded up to two digits it is at least what is measured. Where another machine rounds
    otherwise, twice that and four units of rounding are granted, since what is left at this size is rounding.
    No ten times worse: it is at most ten times what is measured (and one unit of rounding).
    """
    printed = float(rounded_up(claimed))
    most = printed if same_rounding else 2 * printed + 4 * EPS
    return measured <= most and printed <= 10 * max(measured, EPS)
