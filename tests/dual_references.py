"""Brute-force duals of activations at a few moments and means, as stored in ``tests/data/duals.npz``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sympy as sp

DATA = Path(__file__).parent / "data" / "duals.npz"

# (q11, q22, rho)
MOMENTS = (
    (1.0, 1.0, 0.5),
    (1.0, 1.0, -0.9),
    (0.1, 3.0, 0.3),
    (1e-6, 1e-4, 0.7),
    (4.0, 9.0, -0.5),
    (25.0, 25.0, 0.99),
    (1e4, 1e6, 0.5),
    (1.0, 1.0, 0.999),
    (1.0, 1.2, 1 - 1e-6),
    (2.0, 3.0, -(1 - 1e-4)),
    (1e-12, 1.0, 0.4),
    (1e6, 1e6, -0.3),
)
MEANS = ((0.0, 0.0), (0.7, -1.2), (-2.5, -1.5))
NAMED = (
    "relu", "leaky_relu", "abs", "step", "identity", "erf", "gelu", "sin", "cos", "gaussian",
    "tanh", "sigmoid", "silu", "softplus", "elu",
)  # fmt: skip
CUSTOM = {
    "hard tanh": "Max(-1, Min(1, z))",
    "bent": "Max(z, z**2/10 - 1)",
    "swish with a jump": "Piecewise((z/(1 + exp(-z)), z < 1/2), (1, True))",
    "cubic": "z**3 - z",
}
# 0 for |z| < 1 or z < 1: at small variances every moment is exponentially small
DEAD = {
    "soft threshold": "Max(z - 1, 0) - Max(-z - 1, 0)",
    "hard shrink": "z*(Heaviside(z - 1) + Heaviside(-z - 1))",
    "step at 1": "Heaviside(z - 1)",
}
WRITTEN = CUSTOM | DEAD
DEAD_MOMENTS = (
    (1e-3, 1e-3, 0.5),
    (1e-3, 1e-3, 1.0),
    (1e-3, 1e-3, -1.0),
    (1e-3, 4e-3, 0.9),
    (1e-3, 1e-2, 1 - 1e-6),
    (1e-2, 1e-2, 0.999),
    (1e-2, 1e-2, 0.0),
    (0.03, 0.1, -0.8),
    (0.1, 0.1, 1.0),
    (1.0, 1.0, 0.5),
    (1.0, 1.0, -1.0),
    (0.3, 30.0, 0.6),
    (100.0, 1e-3, 0.7),
    (100.0, 100.0, 0.9),
    (100.0, 100.0, 1.0),
    (100.0, 100.0, -1.0),
)
DEAD_MEANS = ((0.0, 0.0), (0.7, -1.2), (-2.5, -1.5), (0.2, 1.0))
KINKS = {
    **dict.fromkeys(("relu", "leaky_relu", "abs", "step", "elu"), (0.0,)),
    "hard tanh": (-1.0, 1.0),
    "bent": tuple(float(r) for r in sp.Poly("z**2 - 10*z - 10").nroots()),
    "swish with a jump": (0.5,),
    "soft threshold": (-1.0, 1.0),
    "hard shrink": (-1.0, 1.0),
    "step at 1": (1.0,),
}


def moments(q11: float, q22: float, rho: float) -> tuple[float, float, float]:
    """(q12, q11, q22) in floats; the reference takes the rounded q12 as it is."""
    if abs(rho) == 1 and q11 == q22:
        return rho * q11, q11, q22
    return float(rho * np.sqrt(q11) * np.sqrt(q22)), q11, q22


def points(name: str = "") -> list[tuple[tuple[float, float], tuple[float, float, float]]]:
    """((mean1, mean2), (q12, q11, q22)); those of dead zones where the name is of one."""
    chosen = (DEAD_MEANS, DEAD_MOMENTS) if name in DEAD else (MEANS, MOMENTS)
    return [(means, moments(*m)) for means in chosen[0] for m in chosen[1]]


def load() -> dict[str, np.ndarray]:
    """By name: (points, 4) of C, Cdot, sqrt(C11 C22), sqrt(Cdot11 Cdot22); "NAME error": its resolution (points,)."""
    with np.load(DATA) as data:
        return dict(data)
