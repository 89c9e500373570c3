"""Pruning laws: the (W, V, D) that a way of scoring weights leaves behind (THEORY §2)."""

from __future__ import annotations

import math

from scipy.special import erfcx, ndtri_exp

from graphon_theory.connectivity import Connectivity
from graphon_theory.errors import ConnectivityError


def random_pruning(density: float) -> Connectivity:
    """Random pruning: W = V = density, D = 0 (mask independent of the weights).

    ``density`` is the share of weights kept, in (0, 1]. Raises ConnectivityError otherwise. THEORY §2; [GL].
    """
    return Connectivity(_density(density))


def magnitude_pruning(density: float) -> Connectivity:
    """Magnitude pruning of normal weights: the largest |w| survive.

        W = p,   V = 2 [t phi(t) + Phi(-t)],   t = Phi^{-1}(1 - p/2),   D = 0,

    p = ``density``, phi and Phi the standard normal density and distribution. V > W: the surviving weights are
    the large ones, which is why magnitude and random pruning share a graphon and differ in their kernels.

    Raises ConnectivityError for a density outside (0, 1]. THEORY §2.
    """
    p = _density(density)
    if p == 1.0:
        return Connectivity(1.0)
    t = -float(ndtri_exp(math.log(p) - math.log(2)))
    return Connectivity(p, p * mean_square_beyond(t))


def mean_square_beyond(t: float) -> float:
    """E[w^2 given |w| > t] = 1 + t phi(t) / Phi(-t) of a standard normal w.

    By the scaled complementary error function, so that small densities (large t) keep full precision.
    """
    mills = math.sqrt(math.pi / 2) * float(erfcx(t / math.sqrt(2)))  # Phi(-t) / phi(t)
    return 1 + t / mills


def _density(density: float) -> float:
    try:
        p = float(density)
    except (TypeError, ValueError):
        p = math.nan
    if isinstance(density, (bool, str)) or not 0.0 < p <= 1.0:
        raise ConnectivityError(
            f"density: expected the share of weights kept, in (0, 1], got {density!r}; a sparsity s is density 1 - s."
        )
    return p
