"""Laws of initial weights, of unit variance: how many exceed a threshold, and with what second moment (THEORY §2)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf, erfc, erfcinv, erfcx, erfinv, ndtri_exp

from graphon_theory.arrays import FloatArray
from graphon_theory.errors import ConnectivityError, shown

_FAR = 40.0  # beyond it exp(-t^2 / 2) is 0 in double precision


class WeightLaw(ABC):
    """A symmetric law of a weight w with mean 0 and variance 1."""

    name: str
    kinks: tuple[float, ...] = ()  # thresholds at which the functions below are not smooth

    @abstractmethod
    def survival(self, t: ArrayLike) -> FloatArray:
        """P(|w| > t), t >= 0."""

    @abstractmethod
    def second_moment(self, t: ArrayLike) -> FloatArray:
        """E[w^2; |w| > t], t >= 0."""

    @abstractmethod
    def threshold(self, p: float) -> float:
        """The t with P(|w| > t) = p, p in (0, 1]."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Independent weights."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.name)

    def kept_second_moment(self, p: float) -> float:
        """E[w^2; |w| > t] at the t that keeps a share p in (0, 1]."""
        return 1.0 if p == 1.0 else float(self.second_moment(self.threshold(p)))

    def __repr__(self) -> str:
        return f"<{self.name} weights of variance 1>"


class Normal(WeightLaw):
    """w ~ N(0, 1):  P(|w| > t) = erfc(t / sqrt 2),  E[w^2; |w| > t] = that + 2 t phi(t)."""

    name = "normal"

    def survival(self, t: ArrayLike) -> FloatArray:
        return np.asarray(erfc(np.asarray(t, dtype=float) / math.sqrt(2)))

    def second_moment(self, t: ArrayLike) -> FloatArray:
        s = np.minimum(np.asarray(t, dtype=float), _FAR)
        return np.asarray(erfc(s / math.sqrt(2)) + math.sqrt(2 / math.pi) * s * np.exp(-s * s / 2))

    def threshold(self, p: float) -> float:
        return -float(ndtri_exp(math.log(p) - math.log(2)))

    def kept_second_moment(self, p: float) -> float:
        if p == 1.0:
            return 1.0
        t = self.threshold(p)
        # p (1 + t phi(t) / Phi(-t)) by the scaled erfc: small densities (large t) keep full precision
        mills = math.sqrt(math.pi / 2) * float(erfcx(t / math.sqrt(2)))  # Phi(-t) / phi(t)
        return p * (1 + t / mills)

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        return rng.standard_normal(size)


class Uniform(WeightLaw):
    """w uniform on [-sqrt 3, sqrt 3]:  P(|w| > t) = 1 - t / sqrt 3,  E[w^2; |w| > t] = 1 - (t / sqrt 3)^3."""

    name = "uniform"
    kinks = (math.sqrt(3),)

    def survival(self, t: ArrayLike) -> FloatArray:
        return np.asarray(1 - np.minimum(np.asarray(t, dtype=float) / math.sqrt(3), 1.0))

    def second_moment(self, t: ArrayLike) -> FloatArray:
        p = self.survival(t)  # 1 - (1 - p)^3 without the cancellation
        return np.asarray(p * (3 - 3 * p + p * p))

    def threshold(self, p: float) -> float:
        return math.sqrt(3) * (1 - p)

    def kept_second_moment(self, p: float) -> float:
        return p * (3 - 3 * p + p * p)

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        return rng.uniform(-math.sqrt(3), math.sqrt(3), size)


class TruncatedNormal(WeightLaw):
    """z ~ N(0, 1) given |z| <= a, divided by its deviation s, a = 2 as deep-learning libraries truncate.

    With x = s t:  P(|w| > t) = (erfc(x / sqrt 2) - erfc(a / sqrt 2)) / erf(a / sqrt 2)  and
    E[w^2; |w| > t] = (the same differences of erfc(x / sqrt 2) + 2 x phi(x)) / (s^2 erf(a / sqrt 2)).
    """

    name = "truncated_normal"

    def __init__(self, a: float = 2.0) -> None:
        self.a = a
        self._mass = float(erf(a / math.sqrt(2)))
        self._deviation = math.sqrt(1 - math.sqrt(2 / math.pi) * a * math.exp(-a * a / 2) / self._mass)
        self.kinks = (a / self._deviation,)

    def survival(self, t: ArrayLike) -> FloatArray:
        x = np.minimum(np.asarray(t, dtype=float) * self._deviation, self.a)
        return np.asarray((erfc(x / math.sqrt(2)) - erfc(self.a / math.sqrt(2))) / self._mass)

    def second_moment(self, t: ArrayLike) -> FloatArray:
        x = np.minimum(np.asarray(t, dtype=float) * self._deviation, self.a)
        density = math.sqrt(2 / math.pi) * (x * np.exp(-x * x / 2) - self.a * math.exp(-self.a * self.a / 2))
        tail = erfc(x / math.sqrt(2)) - erfc(self.a / math.sqrt(2))
        return np.asarray((tail + density) / (self._mass * self._deviation**2))

    def threshold(self, p: float) -> float:
        tail = p * self._mass + float(erfc(self.a / math.sqrt(2)))
        return math.sqrt(2) * float(erfcinv(min(tail, 1.0))) / self._deviation

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        # by the inverse distribution: no rejection, so a fixed number of draws
        share = rng.uniform(-self._mass, self._mass, size)
        return np.asarray(math.sqrt(2) * erfinv(share) / self._deviation)


LAWS: dict[str, WeightLaw] = {law.name: law for law in (Normal(), Uniform(), TruncatedNormal())}


def weight_law(weights: object) -> WeightLaw:
    """A WeightLaw from its name, or itself. Raises ConnectivityError for an unknown one."""
    if isinstance(weights, WeightLaw):
        return weights
    if isinstance(weights, str) and weights in LAWS:
        return LAWS[weights]
    raise ConnectivityError(
        f"weights: expected the law of the initial weights, one of {', '.join(LAWS)}, got {shown(weights)}."
    )
