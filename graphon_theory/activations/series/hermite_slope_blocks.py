"""The way back through Hermite series, on blocks; signature as in ``closed/slope_blocks``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(**_options)
def _mixed(
    one: FloatArray, two: FloatArray, shift: int, weights: FloatArray, step: FloatArray, out: FloatArray
) -> None:
    """Rows of out: sum_r w_r one_(r + shift) two_r x^r and its derivative in x, for all columns of ``two``."""
    value, slope = out[0], out[1]
    value[:] = 0.0
    slope[:] = 0.0
    for r in range(len(one) - shift - 1, -1, -1):
        c, row = weights[r] * one[r + shift], two[r]
        for j in range(len(step)):
            slope[j] = slope[j] * step[j] + value[j]
            value[j] = value[j] * step[j] + c * row[j]


@njit(**_options)
def _mixed_back(
    one: FloatArray, two: FloatArray, shift: int, weights: FloatArray, step: FloatArray, out: FloatArray
) -> None:
    """The same with the shift on the other side: sum_r w_r one_r two_(r + shift) x^r."""
    value, slope = out[0], out[1]
    value[:] = 0.0
    slope[:] = 0.0
    for r in range(len(one) - shift - 1, -1, -1):
        c, row = weights[r] * one[r], two[r + shift]
        for j in range(len(step)):
            slope[j] = slope[j] * step[j] + value[j]
            value[j] = value[j] * step[j] + c * row[j]


@njit(**_options)
def hermite_back(
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
    """With the coefficients c_n of ``hermite_block``, P = sum c_n c'_n rho^n and

        U = sum_n sqrt((n + 2) (n + 3)) c_(n+2) c'_n rho^n,      M = sum_n sqrt(n + 2) c_(n+1) c'_n rho^n

    (s E[phi'' h_n] is the next coefficient of phi', so no second derivative of phi is asked for):

        E = (rho P)',   dE/dK = E' / s s',   dC/dq = (sqrt(2) c_1 m' + s' rho U) / 2 s,   dE/dq = (rho U)' / 2 q,
        dC/dmu = c_0 m' + s' rho M,          dE/dmu = (rho M)' / s.

    Own parameters: stride and offset of the coefficients kept, and whether there are means.
    """
    positions, _, n1, n2 = state.shape
    coincident, stride, offset, means = parameters[0], int(parameters[1]), int(parameters[2]), parameters[3] > 0.5
    terms = f1.shape[1] - 3
    shift = 2 // stride
    first = 1 if stride == 1 else (0 if offset == 1 else -1)  # where c_1 is kept
    n = offset + stride * np.arange(terms)
    two_on, one_on = np.sqrt((n + 2.0) * (n + 3.0)), np.sqrt(n + 2.0)
    rho, step, lift = np.empty(n2), np.empty(n2), np.empty(n2)
    plain, bend = np.empty((2, n2)), np.empty(n2)
    there, back = np.empty((2, n2)), np.empty((2, n2))
    mean_there, mean_back = np.zeros((2, n2)), np.zeros((2, n2))
    row, column = np.empty(terms), np.empty((terms, n2))
    for p in range(positions):
        for r in range(terms):
            for j in range(n2):
                column[r, j] = f2[p, 3 + r, j0 + j]
        for i in range(n1):
            mean_i, root_i, inverse_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i], f1[p, 2, i0 + i]
            for r in range(terms):
                row[r] = f1[p, 3 + r, i0 + i]
            for j in range(n2):
                r_j = state[p, 0, i, j] * (inverse_i * f2[p, 2, j0 + j])
                size = 1.0 if 1.0 - abs(r_j) <= coincident else abs(r_j)
                rho[j] = size if r_j >= 0.0 else -size
                step[j] = rho[j] if stride == 1 else rho[j] * rho[j]
                lift[j] = rho[j] if offset == 1 else 1.0
                bend[j] = 0.0
            plain[:] = 0.0
            for r in range(terms - 1, -1, -1):
                c, values = row[r], column[r]
                for j in range(n2):
                    x = step[j]
                    bend[j] = bend[j] * x + plain[1, j]  # half the second derivative
                    plain[1, j] = plain[1, j] * x + plain[0, j]
                    plain[0, j] = plain[0, j] * x + c * values[j]
            _mixed(row, column, shift, two_on, step, there)
            _mixed_back(row, column, shift, two_on, step, back)
            if means:
                _mixed(row, column, 1, one_on, step, mean_there)
                _mixed_back(row, column, 1, one_on, step, mean_back)
            c1_i = math.sqrt(2.0) * row[first] if first >= 0 else 0.0
            for j in range(n2):
                mean_j, root_j, inverse_j = f2[p, 0, j0 + j], f2[p, 1, j0 + j], f2[p, 2, j0 + j]
                c1_j = math.sqrt(2.0) * column[first, j] if first >= 0 else 0.0
                x, up = step[j], lift[j]
                # E = rho^offset e(x)
                e = (1.0 + offset) * plain[0, j] + stride * x * plain[1, j]
                e_x = (1.0 + offset + stride) * plain[1, j] + 2.0 * stride * x * bend[j]
                turn = e_x if stride == 1 else (e + 2.0 * x * e_x if offset == 1 else 2.0 * rho[j] * e_x)
                slope = e * up
                e_k = turn * inverse_i * inverse_j
                u_there, u_back = up * there[0, j], up * back[0, j]
                e_1 = 0.5 * inverse_i * inverse_i * up * ((1.0 + offset) * there[0, j] + stride * x * there[1, j])
                e_2 = 0.5 * inverse_j * inverse_j * up * ((1.0 + offset) * back[0, j] + stride * x * back[1, j])
                c_1 = 0.5 * inverse_i * (c1_i * mean_j + root_j * rho[j] * u_there)
                c_2 = 0.5 * inverse_j * (c1_j * mean_i + root_i * rho[j] * u_back)
                c, s = above[p, 0, i, j], above[p, 1, i, j]
                d = s * state[p, 1, i, j]
                sums1[p, 0, i] += c * c_1 + d * e_1
                sums2[p, 0, j] += c * c_2 + d * e_2
                if means:
                    sums1[p, 1, i] += c * (row[0] * mean_j + root_j * rho[j] * mean_there[0, j]) + d * inverse_i * (
                        mean_there[0, j] + x * mean_there[1, j]
                    )
                    sums2[p, 1, j] += c * (
                        column[0, j] * mean_i + root_i * rho[j] * mean_back[0, j]
                    ) + d * inverse_j * (mean_back[0, j] + x * mean_back[1, j])
                above[p, 0, i, j] = c * slope + d * e_k
                above[p, 1, i, j] = s * slope
