"""Duals of phi(z) = gain f(stretch z + shift) + offset from the closed form of f (THEORY §4).

With a = stretch^2 and m_f = E[f], f taken about stretch mu + shift,

    C = gain^2 C_f(a Q) + gain offset (m_f + m'_f) + offset^2,   Cdot = gain^2 a Cdot_f(a Q)

so that phi's block is that of f between two scalings. An imaginary stretch, a < 0, makes exp(z^2 / 2) of exp(-z^2 / 2);
a shift needs an f whose block takes means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.activations.closed.closed_duals import ClosedForm, on_pairs
from graphon_theory.arrays import FloatArray, Function


@dataclass(frozen=True, eq=False)
class _Affine:
    """The scalings, and phi itself, which decides at variance 0 (f may have another value at a jump)."""

    form: ClosedForm
    phi: Function
    gain: float
    stretch: float  # its size where it is imaginary
    square: float  # stretch^2
    offset: float
    shift: float = 0.0

    def centre(self, mean: ArrayLike) -> FloatArray:
        """The mean of what f is applied to."""
        return self.stretch * np.asarray(mean, dtype=float) + self.shift

    def inner_mean(self, mean: ArrayLike, q: FloatArray) -> FloatArray:
        """E[f]."""
        return np.asarray(self.form.mean(self.centre(mean), self.square * q), dtype=float)

    def mean(self, mean: ArrayLike, q: FloatArray) -> FloatArray:
        """E[phi]."""
        mu = np.broadcast_to(np.asarray(mean, dtype=float), np.shape(q))
        return np.where(q > 0, self.gain * self.inner_mean(mu, q) + self.offset, self.phi(mu))

    def mean_slopes(self, mean: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The derivatives of E[phi] in q and in the mean."""
        in_q, in_mean = self.form.mean_slopes(self.centre(mean), self.square * q)
        return self.gain * self.square * in_q, self.gain * self.stretch * in_mean

    def _half(self, mean: ArrayLike, q: FloatArray) -> FloatArray:
        """What either input adds to C."""
        return self.offset * (self.gain * self.inner_mean(mean, q) + 0.5 * self.offset)

    def features(self, mean: ArrayLike, q: FloatArray) -> FloatArray:
        """(P, F, N): those of f; what the offset adds, after its slopes in q and mu; E[phi]; and 1 where q = 0."""
        mu = np.broadcast_to(np.asarray(mean, dtype=float), q.shape)
        inner = self.form.features(self.centre(mu), self.square * q)
        in_q, in_mean = self.mean_slopes(mu, q)
        more = np.stack(
            [self.offset * in_q, self.offset * in_mean, self._half(mu, q), self.mean(mu, q), (q == 0).astype(float)],
            axis=1,
        )
        return np.concatenate([inner, more], axis=1)

    def moments(self, q12: FloatArray, q11: FloatArray, q22: FloatArray) -> tuple[FloatArray, FloatArray]:
        """C and Cdot about zero."""
        a, squared = self.square, self.gain * self.gain
        if self.shift:
            centre = np.full(q12.shape, self.shift)
            c, dot = on_pairs(self.form, centre, centre, a * q12, a * q11, a * q22)
        else:
            c, dot = self.form.moments(a * q12, a * q11, a * q22)
        zero = np.zeros_like(q12)
        means = self.mean(zero, q11) * self.mean(zero, q22)
        c = np.where((q11 > 0) & (q22 > 0), squared * c + (self._half(zero, q11) + self._half(zero, q22)), means)
        return c, squared * a * dot

    def block(
        self,
        state: FloatArray,
        masked: FloatArray,
        shared: bool,
        bias: float,
        trained_bias: float,
        f1: FloatArray,
        f2: FloatArray,
        i0: int,
        j0: int,
        out: FloatArray,
        parameters: FloatArray,
    ) -> None:
        """As the blocks of ``rectifier_blocks``, around that of f, which reads its own features and parameters."""
        _, _, n1, n2 = state.shape
        squared = self.gain * self.gain
        scaled = np.empty_like(state)
        k, t = scaled[:, 0], scaled[:, 1]
        np.add(state[:, 0], bias, out=k)
        k *= self.square
        np.add(state[:, 1], state[:, 0] if shared else masked, out=t)
        t += trained_bias
        t *= squared * self.square
        self.form.block(scaled, np.zeros_like(masked), False, 0.0, 0.0, f1, f2, i0, j0, out, parameters)
        left, right = f1[:, -3:, i0 : i0 + n1, None], f2[:, -3:, None, j0 : j0 + n2]
        c = out[:, 0]
        c *= squared
        if self.offset:
            c += left[:, 0] + right[:, 0]
        if left[:, 2].any() or right[:, 2].any():
            dead = (left[:, 2] > 0) | (right[:, 2] > 0)
            np.copyto(c, (left[:, 1] * right[:, 1]).astype(c.dtype, copy=False), where=dead)

    def back(
        self,
        state: FloatArray,
        f1: FloatArray,
        f2: FloatArray,
        i0: int,
        j0: int,
        above: FloatArray,
        sums1: FloatArray,
        sums2: FloatArray,
        parameters: FloatArray,
    ) -> None:
        """As the ways back of ``slope_blocks``, around that of f."""
        _, _, n1, n2 = state.shape
        squared = self.gain * self.gain
        if self.offset:
            left, right = f1[:, -5:-3, i0 : i0 + n1], f2[:, -5:-3, j0 : j0 + n2]
            sums1 += above[:, 0].sum(axis=2)[:, None] * left
            sums2 += above[:, 0].sum(axis=1)[:, None] * right
        scales = np.array([self.square, squared * self.square])[:, None, None]  # of K and T
        above[:, 0] *= squared
        inner1, inner2 = np.zeros_like(sums1), np.zeros_like(sums2)
        self.form.back(scales * state, f1, f2, i0, j0, above, inner1, inner2, parameters)
        above *= scales
        inward = np.array([self.square, self.stretch])[:, None]  # of q and mu
        sums1 += inward * inner1
        sums2 += inward * inner2


def affine(
    form: ClosedForm,
    phi: Function,
    gain: float,
    stretch: float,
    offset: float,
    shift: float = 0.0,
    *,
    imaginary: bool = False,
) -> ClosedForm:
    """The closed form of ``phi`` = gain f(stretch z + shift) + offset from that of f (``imaginary``: f(i stretch z)).

    A ``shift`` needs a form that takes means.
    """
    one = _Affine(form, phi, gain, stretch, -stretch * stretch if imaginary else stretch * stretch, offset, shift)
    about = form.about_means
    return replace(
        form,
        moments=one.moments,
        features=one.features,
        block=one.block,
        mean=one.mean,
        back=one.back,
        mean_slopes=one.mean_slopes,
        about_means=None if about is None else affine(about, phi, gain, stretch, offset, shift, imaginary=imaginary),
        stretch=abs(stretch),
    )
