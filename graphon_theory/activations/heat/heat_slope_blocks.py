"""The way back through duals by heat flows; signature as in ``closed/slope_blocks``, table as in ``heat/heat_blocks``.

With f = mu + s z and y = f - mu, Gaussian integration by parts, E[y g(f) h(f')] = q E[g' h] + K E[g h'], gives every
derivative from integrals over the line of ``heat_blocks`` and from derivatives in x of what its table holds:

    E[phi phi''] = int phi S1_x,     E[phi' phi''] = int phi' S1_x,     E[phi' phi'''] = int phi' S1_xx
    E[phi'' phi] = (E[y phi' phi] - K E) / q,            E[phi'' phi'] = (E[y phi' phi'] - K E[phi' phi'']) / q
    E[phi'' phi''] = (E[y phi' phi''] - K E[phi' phi''']) / q
    E[phi''' phi'] = (E[y^2 phi' phi'] - q E - 2 q K E[phi'' phi''] - K^2 E[phi' phi''']) / q^2

dC/dK = E, dE/dK = E[phi'' phi''], dC/dq = E[phi'' phi] / 2, dE/dq = E[phi''' phi'] / 2, dC/dmu = E[phi' phi],
dE/dmu = E[phi'' phi'] (Price's theorem).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphon_theory.activations.heat.heat_blocks import (
    FLAT,
    NODES,
    STEEPEST,
    TERMS,
    WIDEST,
    enter,
    entry_of,
    find,
    gauss_nodes,
    slab_of,
    values_at,
)
from graphon_theory.arrays import FloatArray
from graphon_theory.numerics.compilation import njit

_SMALLEST_GAP = 2.0**-46  # of 1 - |rho|: closer pairs are taken to be this far apart, which smoothed kinks resolve
_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


@njit(**_options)
def _differentiated(poly: FloatArray, out: FloatArray) -> None:
    """S1_x and S1_xx in the places of S and S1, from both polynomials of :func:`enter`."""
    scale = poly[2 * TERMS + 1]
    for j in range(TERMS):
        out[j] = (j + 1) * scale * poly[TERMS + j + 1] if j + 1 < TERMS else 0.0
    for j in range(TERMS):
        out[TERMS + j] = (j + 1) * scale * out[j + 1] if j + 1 < TERMS else 0.0
    out[2 * TERMS], out[2 * TERMS + 1] = poly[2 * TERMS], scale


@njit(**_options)
def _integrals(
    table: FloatArray,
    mean1: float,
    s1: float,
    mean2: float,
    s2: float,
    direction: int,
    size: float,
    sigma: float,
    poly: FloatArray,
    work: FloatArray,
    out: FloatArray,
) -> None:
    """The walk of ``heat_blocks`` at rho = direction * size, s1 <= s2; with z the normalised first variable, out =

    E[phi' phi'], E[phi' phi], E[phi phi'], E[z phi' phi], E[phi phi''], E[phi' phi''], E[phi' phi'''],
    E[z phi' phi'], E[z phi' phi''], E[z^2 phi' phi'].
    """
    entry1, entry2 = entry_of(table, s1), entry_of(table, s2)
    c0 = min(table[entry1] if direction > 0 else -table[entry1 + 1], table[entry2])
    end = max(table[entry1 + 1] if direction > 0 else -table[entry1], table[entry2 + 1])
    tau = s2 * sigma
    slab = slab_of(table, entry2, tau)
    tau = tau if slab > 0 else 0.0
    start1, count1 = int(table[entry1 + 2]), int(table[entry1 + 3])
    start2, count2 = int(table[entry2 + 2 + 2 * slab]), int(table[entry2 + 3 + 2 * slab])
    slope1, slope2 = direction * s1, size * s2
    inverse1, inverse2 = 1.0 / slope1, 1.0 / slope2
    first, last = int(table[start2]), int(table[start2 + count2 - 1])  # beyond its list S is not known
    c0 = max(c0, (table[first] + table[first + 1] * tau - mean2) * inverse2)
    end = min(end, (table[last + 2] + table[last + 3] * tau - mean2) * inverse2)
    i = find(table, start1, count1, mean1 + slope1 * c0, 0.0)
    j = find(table, start2, count2, mean2 + slope2 * c0, tau)
    c, weights, phi, dphi, s, ds = work[0], work[1], work[2], work[3], work[4], work[5]
    once, twice = work[6], work[7]
    poly1, poly2, poly3 = poly[0], poly[1], poly[2]
    out[:] = 0.0
    edge1 = edge2 = c0
    while True:
        while edge1 <= c0:
            cell = int(table[start1 + i])
            edge1 = (table[cell + 1 + direction] - mean1) * inverse1
            if i == (count1 - 1 if direction > 0 else 0):
                edge1 = math.inf
            if edge1 > c0:
                enter(table, cell, 0.0, poly1)
            i += direction
        while edge2 <= c0:
            cell = int(table[start2 + j])
            edge2 = (table[cell + 2] + table[cell + 3] * tau - mean2) * inverse2
            if j == count2 - 1:
                edge2 = math.inf
            if edge2 > c0:
                enter(table, cell, tau, poly2)
                _differentiated(poly2, poly3)
            j += 1
        c1 = min(edge1, edge2, end)
        widest = min(WIDEST, STEEPEST / abs(c0)) if abs(c0) > FLAT else WIDEST
        if c1 - c0 > widest:
            c1 = c0 + (c1 - c0) / math.ceil((c1 - c0) / widest)
        gauss_nodes(c0, c1, c, weights)
        values_at(poly1, mean1, slope1, c, phi, dphi)
        values_at(poly2, mean2, slope2, c, s, ds)
        values_at(poly3, mean2, slope2, c, once, twice)
        for k in range(NODES):
            w, z = weights[k], direction * c[k]
            wf, wg = w * phi[k], w * dphi[k]
            out[0] += wg * ds[k]
            out[1] += wg * s[k]
            out[2] += wf * ds[k]
            out[3] += z * wg * s[k]
            out[4] += wf * once[k]
            out[5] += wg * once[k]
            out[6] += wg * twice[k]
            out[7] += z * wg * ds[k]
            out[8] += z * wg * once[k]
            out[9] += z * z * wg * ds[k]
        if c1 >= end:
            return
        c0 = c1


@njit(**_options)
def heat_flow_back(
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
    """Any phi, by its heat flow. Features as in ``heat_flow_block``; below its least s, C and E are powers of s."""
    positions, _, n1, n2 = state.shape
    poly, work, got = np.empty((3, 2 * TERMS + 2)), np.empty((8, NODES)), np.empty(10)
    for p in range(positions):
        for i in range(n1):
            mean_i, s_i = f1[p, 0, i0 + i], f1[p, 1, i0 + i]
            for j in range(n2):
                mean_j, s_j, k = f2[p, 0, j0 + j], f2[p, 1, j0 + j], state[p, 0, i, j]
                c = above[p, 0, i, j] * (f1[p, 5, i0 + i] * f2[p, 5, j0 + j])
                s = above[p, 1, i, j] * (f1[p, 6, i0 + i] * f2[p, 6, j0 + j])
                e = s * state[p, 1, i, j]
                if s_i == 0.0 or s_j == 0.0:  # f is its mean there, and does not move
                    slope = f1[p, 3, i0 + i] * f2[p, 3, j0 + j]
                    sums1[p, 1, i] += c * f1[p, 3, i0 + i] * f2[p, 2, j0 + j]
                    sums2[p, 1, j] += c * f1[p, 2, i0 + i] * f2[p, 3, j0 + j]
                    above[p, 0, i, j] = c * slope
                    above[p, 1, i, j] = s * slope
                    continue
                rho = k * (f1[p, 4, i0 + i] * f2[p, 4, j0 + j])
                gap = max(1.0 - abs(rho), _SMALLEST_GAP)
                direction, sigma = 1 if rho >= 0.0 else -1, math.sqrt(gap * (2.0 - gap))
                size = max(1.0 - gap, 1e-18)
                k = direction * size * s_i * s_j
                swapped = s_i > s_j
                if swapped:
                    _integrals(parameters, mean_j, s_j, mean_i, s_i, direction, size, sigma, poly, work, got)
                else:
                    _integrals(parameters, mean_i, s_i, mean_j, s_j, direction, size, sigma, poly, work, got)
                root = min(s_i, s_j)
                q = root * root
                slope = got[0]
                bend = (root * got[8] - k * got[6]) / q  # E[phi'' phi'']
                c_1, c_2 = 0.5 * (root * got[3] - k * slope) / q, 0.5 * got[4]
                e_1 = 0.5 * (got[9] - slope - 2.0 * k * bend - k * k * got[6] / q) / q
                e_2 = 0.5 * got[6]
                m_1, m_2 = (root * got[7] - k * got[5]) / q, got[5]  # of E
                one, two = c * c_1 + e * e_1, c * c_2 + e * e_2
                mean_one, mean_two = c * got[1] + e * m_1, c * got[2] + e * m_2
                sums1[p, 0, i] += two if swapped else one
                sums2[p, 0, j] += one if swapped else two
                sums1[p, 1, i] += mean_two if swapped else mean_one
                sums2[p, 1, j] += mean_one if swapped else mean_two
                above[p, 0, i, j] = c * slope + e * bend
                above[p, 1, i, j] = s * slope


@njit(**_options)
def slope_expectations(table: FloatArray, mean: FloatArray, s: FloatArray, out: FloatArray) -> None:
    """Rows of out: E[z phi'], E[phi phi'], E[z phi phi'], E[z phi'^2], E[(z^2 - 1) phi'^2] at each N(mean, s^2)."""
    poly, work = np.empty(2 * TERMS + 2), np.empty((4, NODES))
    c, weights, phi, dphi = work[0], work[1], work[2], work[3]
    for n in range(mean.size):
        for r in range(5):
            out[r, n] = 0.0
        if s[n] == 0.0:
            continue
        entry = entry_of(table, s[n])
        start, count = int(table[entry + 2]), int(table[entry + 3])
        c0, end = table[entry], table[entry + 1]
        i = find(table, start, count, mean[n] + s[n] * c0, 0.0)
        edge = c0
        while True:
            while edge <= c0:
                cell = int(table[start + i])
                edge = (table[cell + 2] - mean[n]) / s[n]
                if i == count - 1:
                    edge = math.inf
                if edge > c0:
                    enter(table, cell, 0.0, poly)
                i += 1
            c1 = min(edge, end)
            widest = min(WIDEST, STEEPEST / abs(c0)) if abs(c0) > FLAT else WIDEST
            if c1 - c0 > widest:
                c1 = c0 + (c1 - c0) / math.ceil((c1 - c0) / widest)
            gauss_nodes(c0, c1, c, weights)
            values_at(poly, mean[n], s[n], c, phi, dphi)
            for k in range(NODES):
                w, z = weights[k], c[k]
                out[0, n] += w * z * dphi[k]
                out[1, n] += w * phi[k] * dphi[k]
                out[2, n] += w * z * phi[k] * dphi[k]
                out[3, n] += w * z * dphi[k] * dphi[k]
                out[4, n] += w * (z * z - 1.0) * dphi[k] * dphi[k]
            if c1 >= end:
                break
            c0 = c1
