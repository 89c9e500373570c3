"""Closed forms of dual activations (THEORY §4).

    C = E[phi(f) phi(f')],   Cdot = E[phi'(f) phi'(f')],   (f, f') ~ N(0, [[q11, q12], [q12, q22]])

Each one once as a NumPy function of exact moments, with the determinant by two-products, and once as a compiled pass
over blocks of the recursion. Sources: rectifiers [CS], erf [W]; the others by Gaussian integration, with the formula in
the docstring of their block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf, ndtr

from graphon_theory.activations.closed import bivariate_normals as bivariate
from graphon_theory.activations.closed import rectifier_blocks as rectified
from graphon_theory.activations.closed import slope_blocks as slopes
from graphon_theory.activations.closed import smooth_blocks as blocks
from graphon_theory.arrays import EPS, FloatArray
from graphon_theory.numerics import determinants

Moments = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
Features = Callable[[ArrayLike, FloatArray], FloatArray]


@dataclass(frozen=True)
class ClosedForm:
    """Duals in closed form: about zero (``moments``, ``features``, ``block``), and about any mean where known.

    ``features(mean, q)`` of shape (P, F, N) is what a block needs of every input. ``about_means`` replaces the block
    where means are not zero; it is the same one where that takes means anyway, and None where no closed form is known.
    ``mean(mean, q)`` is E[phi], ``mean_slopes(mean, q)`` its derivatives in q and in the mean. ``back`` is the way back
    through the block, with its own parameters. E[phi^2] overflows, or is infinite, where ``stretch``^2 times the
    variance, plus ``stretch`` times the mean if that counts, reaches ``largest``.
    """

    moments: Moments
    features: Features
    block: Callable[..., None]
    mean: Callable[[FloatArray, FloatArray], FloatArray]
    back: Callable[..., None]
    back_parameters: tuple[float, ...]
    mean_slopes: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
    parameters: tuple[float, ...] = ()
    about_means: ClosedForm | None = None
    takes_means: bool = False
    largest: float = math.inf
    stretch: float = 1.0

    def holds(self, mean: float, variance: float) -> bool:
        """Whether E[phi^2] is finite for means and variances up to these."""
        shift = self.stretch * mean if self.takes_means else 0.0
        return math.isinf(self.largest) or shift + self.stretch**2 * variance < self.largest


def on_pairs(
    form: ClosedForm, mean1: FloatArray, mean2: FloatArray, q12: FloatArray, q11: FloatArray, q22: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """C and Cdot of single pairs, arrays of one shape, by the compiled block: every pair a position of its own."""
    shape, count = q12.shape, q12.size
    state = np.ones((count, 2, 1, 1))
    state[:, 0, 0, 0] = q12.ravel()
    out, none = np.empty_like(state), np.zeros((count, 1, 1))
    f1, f2 = (
        np.ascontiguousarray(form.features(m.reshape(-1, 1), q.reshape(-1, 1))) for m, q in ((mean1, q11), (mean2, q22))
    )
    form.block(state, none, False, 0.0, 0.0, f1, f2, 0, 0, out, np.array([4 * EPS, *form.parameters]))
    return out[:, 0].reshape(shape), out[:, 1].reshape(shape)


def determinant(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> FloatArray:
    """q11 q22 - q12^2 to rounding of its exact value, by two-products (Veltkamp and Dekker); at least 0."""
    if q12 is q11 and q12 is q22:  # inputs with themselves
        return np.zeros_like(q12)
    value, _, _, exponent = determinants.scaled(q12, q11, q22)
    return np.ldexp(value, exponent)


def inverse_root(q: FloatArray) -> FloatArray:
    """1 / sqrt(q), 0 where q = 0."""
    root = np.sqrt(q)
    return np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)


def _stack(*parts: ArrayLike) -> FloatArray:
    return np.stack(np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in parts)), axis=1)


def _angle(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    """sqrt(q11 q22) sin(theta) and (pi - theta) / 2 pi, with theta the angle whose cosine is the correlation."""
    sine = np.sqrt(determinant(q12, q11, q22))
    theta = np.arctan2(sine, q12)
    theta = np.where((sine == 0) & (q12 == 0), np.pi / 2, theta)
    return sine, (np.pi - theta) / (2 * np.pi)


# --- rectifiers and the step ------------------------------------------------------------------------------------------


def rectifier(alpha: float, beta: float) -> ClosedForm:
    """phi(z) = beta z for z > 0 and alpha z for z < 0."""
    linear, bent = alpha * beta, (beta - alpha) ** 2

    def moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
        sine, ratio = _angle(q12, q11, q22)
        return linear * q12 + bent * (sine / (2 * np.pi) + ratio * q12), linear + bent * ratio

    def mean(mu: FloatArray, q: FloatArray) -> FloatArray:
        return alpha * mu + (beta - alpha) * _rectified(mu, q)[0]

    def mean_slopes(mu: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        return 0.5 * (beta - alpha) * _density_at_zero(mu, q), alpha + (beta - alpha) * _rectified(mu, q)[1]

    own = (alpha, beta - alpha, 0.0)
    about_means = ClosedForm(
        moments,
        _rectified_features,
        bivariate.rectifier_about_means,
        mean,
        slopes.rectifier_about_means_back,
        own,
        mean_slopes,
        own,
        takes_means=True,
    )
    return ClosedForm(
        moments,
        lambda mu, q: _stack(np.sqrt(q), inverse_root(q)),
        rectified.rectifier_block,
        mean,
        slopes.rectifier_back,
        (linear, bent),
        mean_slopes,
        (linear, bent),
        about_means,
    )


def _rectified(mean: ArrayLike, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """E[z+] and P(z > 0); at zero variance a mean at the kink counts half."""
    mean, s = np.broadcast_arrays(np.asarray(mean, dtype=float), np.sqrt(q))
    h = np.divide(mean, s, out=np.zeros_like(s), where=s > 0)
    opened = np.where(s > 0, ndtr(h), 0.5 * (1 + np.sign(mean)))
    density = np.exp(-0.5 * h * h) / math.sqrt(2 * math.pi)
    return np.where(s > 0, mean * opened + s * density, np.maximum(mean, 0.0)), opened


def _density_at_zero(mean: FloatArray, q: FloatArray) -> FloatArray:
    """The density of N(mean, q) at 0; 0 where q = 0."""
    inverse = inverse_root(q)
    return np.asarray(np.exp(-0.5 * (mean * inverse) ** 2) * (inverse / math.sqrt(2 * math.pi)))


def _rectified_features(mean: ArrayLike, q: FloatArray) -> FloatArray:
    return _stack(mean, np.sqrt(q), *_rectified(mean, q))


def _step_moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    alive = (q11 > 0) & (q22 > 0)
    return np.where(alive, _angle(q12, q11, q22)[1], 0.0), np.zeros_like(q12)


def _step_mean(mean: FloatArray, q: FloatArray) -> FloatArray:
    return np.where(q > 0, _rectified(mean, q)[1], np.asarray(mean) > 0)


def _step_mean_slopes(mean: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    density = _density_at_zero(mean, q)
    return -0.5 * density * mean * inverse_root(q) ** 2, density


STEP = ClosedForm(
    _step_moments,
    lambda mu, q: _stack(inverse_root(q)),
    blocks.step_block,
    _step_mean,
    slopes.step_back,
    (),
    _step_mean_slopes,
    (),
    ClosedForm(
        _step_moments,
        _rectified_features,
        bivariate.rectifier_about_means,
        _step_mean,
        slopes.rectifier_about_means_back,
        (0.0, 1.0, 1.0),
        _step_mean_slopes,
        (0.0, 1.0, 1.0),
        takes_means=True,
    ),
)


IDENTITY = ClosedForm(
    lambda q12, q11, q22: (q12, np.ones_like(q12)),
    lambda mu, q: q[:, None],
    rectified.identity_block,
    lambda mu, q: mu + 0.0 * q,
    slopes.identity_back,
    (),
    lambda mu, q: (0.0 * q, 1.0 + 0.0 * q),
)


# --- smooth ones ------------------------------------------------------------------------------------------------------


def _erf_moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    cosine = np.sqrt(1 + 2 * (q11 + q22) + 4 * determinant(q12, q11, q22))
    return (2 / np.pi) * np.arctan2(2 * q12, cosine), (4 / np.pi) / cosine


def _erf_mean_slopes(mean: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    a = 1 + 2 * q
    slope = (2 / math.sqrt(math.pi)) * np.exp(-mean * mean / a) / np.sqrt(a)
    return -slope * mean / a, slope


ERF = ClosedForm(
    _erf_moments,
    lambda mu, q: _stack(q, inverse_root(q), 1 / np.sqrt(1 + 2 * q)),
    rectified.erf_block,
    lambda mu, q: np.asarray(erf(mu / np.sqrt(1 + 2 * q))),
    slopes.smooth_back,
    (slopes.ERF,),
    _erf_mean_slopes,
)


def _gelu_moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    det = 1 + (q11 + q22) + determinant(q12, q11, q22)
    root, both = np.sqrt(det), (1 + q11) * (1 + q22)
    gate = np.arctan2(root, -q12) / (2 * np.pi)
    density = 1 / (2 * np.pi * both * root)
    c = q12 * gate + (q11 * q22 * det + q12 * q12) * density
    return c, gate + q12 * (3 + q11 + q22 + q12 * q12 / det) * density


def _gelu_mean(mean: FloatArray, q: FloatArray) -> FloatArray:
    root = np.sqrt(1 + q)
    h = mean / root
    return mean * ndtr(h) + q / root * np.exp(-0.5 * h * h) / math.sqrt(2 * math.pi)


def _gelu_mean_slopes(mean: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """E[phi''] / 2 and E[phi'], with phi'' = (2 - z^2) n(z)."""
    a = 1 + q
    h = mean / np.sqrt(a)
    density = np.exp(-0.5 * h * h) / np.sqrt(2 * math.pi * a)
    return 0.5 * density * (2 - q / a - (mean / a) ** 2), ndtr(h) + density * mean / a


GELU = ClosedForm(
    _gelu_moments,
    lambda mu, q: _stack(q, inverse_root(q), 1 / np.sqrt(1 + q)),
    blocks.gelu_block,
    _gelu_mean,
    slopes.smooth_back,
    (slopes.GELU,),
    _gelu_mean_slopes,
)


def _waves(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    """E[sin sin] and E[cos cos] about zero."""
    size = np.abs(q12)
    near = np.exp(-0.5 * ((q11 - size) + (q22 - size)))
    lost = -near * np.expm1(-2 * size)
    return 0.5 * np.where(q12 >= 0, lost, -lost), near - 0.5 * lost


def _wave_features(mean: ArrayLike, q: FloatArray) -> FloatArray:
    return _stack(np.sqrt(q), inverse_root(q), np.cos(mean), np.sin(mean))


SIN = ClosedForm(
    _waves,
    _wave_features,
    blocks.wave_block,
    lambda mu, q: np.sin(mu) * np.exp(-0.5 * q),
    slopes.smooth_back,
    (slopes.SIN,),
    lambda mu, q: (-0.5 * np.sin(mu) * np.exp(-0.5 * q), np.cos(mu) * np.exp(-0.5 * q)),
    (0.0,),
    takes_means=True,
)
COS = ClosedForm(
    lambda q12, q11, q22: _waves(q12, q11, q22)[::-1],
    _wave_features,
    blocks.wave_block,
    lambda mu, q: np.cos(mu) * np.exp(-0.5 * q),
    slopes.smooth_back,
    (slopes.COS,),
    lambda mu, q: (-0.5 * np.cos(mu) * np.exp(-0.5 * q), -np.sin(mu) * np.exp(-0.5 * q)),
    (1.0,),
    takes_means=True,
)


def _exponential_moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    c = np.exp(0.5 * ((q11 + q12) + (q22 + q12)))
    return c, c.copy()


EXP = ClosedForm(
    _exponential_moments,
    lambda mu, q: _stack(np.asarray(mu) + 0.5 * q),
    blocks.exponential_block,
    lambda mu, q: np.exp(mu + 0.5 * q),
    slopes.smooth_back,
    (slopes.EXP,),
    lambda mu, q: (0.5 * np.exp(mu + 0.5 * q), np.exp(mu + 0.5 * q)),
    takes_means=True,
    largest=350.0,  # C of an input with itself is exp(2 mu + 2 q)
)


def _gaussian_moments(q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
    det = 1 + (q11 + q22) + determinant(q12, q11, q22)
    c = 1 / np.sqrt(det)
    return c, c * q12 / det


def _gaussian_mean_slopes(mean: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    n = mean / (1 + q)
    value = np.exp(-0.5 * mean * n) / np.sqrt(1 + q)
    return 0.5 * value * (n * n - 1 / (1 + q)), -n * value


GAUSSIAN = ClosedForm(
    _gaussian_moments,
    lambda mu, q: _stack(q, inverse_root(q), mu),
    blocks.gaussian_block,
    lambda mu, q: np.exp(-0.5 * mu * mu / (1 + q)) / np.sqrt(1 + q),
    slopes.smooth_back,
    (slopes.GAUSSIAN,),
    _gaussian_mean_slopes,
    takes_means=True,
)


def _growing_mean(mean: FloatArray, q: FloatArray) -> FloatArray:
    return np.exp(0.5 * mean * mean / (1 + q)) / np.sqrt(1 + q)


# exp(+z^2 / 2), as the Gaussian at variances below 0: with D = det(1 - Q), C = D^(-1/2) while every q < 1/2
GROWING = ClosedForm(
    _gaussian_moments,
    lambda mu, q: _stack(q, inverse_root(-q), mu),
    blocks.gaussian_block,
    _growing_mean,
    slopes.smooth_back,
    (slopes.GAUSSIAN,),
    _gaussian_mean_slopes,  # about zero, where signs of squares of means do not matter
    largest=0.5,
)
