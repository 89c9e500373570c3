"""Coherence of surviving weights: how far their mean is from 0, in units in which it matters (THEORY §2)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import real_array
from graphon_theory.errors import InputError, shown
from graphon_theory.estimation.masks import Mask, as_mask, as_weights, map_runs, refuse_dead


class CoherenceWarning(UserWarning):
    """Surviving weights have a mean: a kernel from (W, V) alone is biased, or has no limit at all."""


class Coherence(NamedTuple):
    """D / sqrt(V) of one layer, its null, and what varies from unit to unit.

    ``value`` = sqrt(n_in) E[m w] / sqrt(E[m w^2]) over the layer, ``null`` its standard deviation when signs are fair,
    ``z`` = value / null. ``rows`` is the root mean square of the coherence of single receiving units beyond what
    fair signs give (0 if there is none), ``rows_z`` its z-score, ``columns`` and ``columns_z`` those of sending units.
    """

    value: float
    null: float
    z: float
    rows: float
    rows_z: float
    columns: float
    columns_z: float

    @property
    def verdict(self) -> str:
        """One sentence: what follows for kernels."""
        worst = max(abs(self.z), self.rows_z, self.columns_z)
        if worst < 3:
            return (
                f"no mean of the surviving weights is seen (largest z {worst:.1f}); this does not prove that (W, V) is "
                "enough: dependence beyond the mean shows on data only (THEORY §10)."
            )
        return (
            f"the surviving weights have a mean (coherence {self.value:.3g}, z {self.z:.1f}; by receivers "
            f"{self.rows:.3g}, z {self.rows_z:.1f}; by senders {self.columns:.3g}, z {self.columns_z:.1f}): kernels "
            "from (W, V) alone are biased, use the drift D."
        )


def coherence(mask: Any, weights: Any) -> Coherence:
    """Coherence of a layer's surviving weights and its null.

        value = sqrt(n_in) mean(m w) / sqrt(mean(m w^2)) = T / sqrt(n_out),    T = sum m w / sqrt(sum m w^2)

    Given the surviving |w| and fair independent signs, T has mean 0 and variance 1 exactly, so the null of the value is
    n_out^(-1/2). A mean of either sign in each row cancels in the value: single rows have coherence
    T_i = sum_j m w / sqrt(sum_j m w^2) with null 1, and T_i^2 - 1 has null variance 2 (1 - sum w^4 / (sum w^2)^2);
    columns likewise with n_out / n_in. ``mask`` and ``weights`` have shape (receiving, sending units); the scale of the
    weights does not matter.

    Raises InputError for masks and weights that are not such, and for a layer without connections. THEORY §2.
    """
    checked = as_mask(mask)
    refuse_dead(checked, "mask")
    return layer_coherence(checked, as_weights(weights, checked.shape))


def layer_coherence(mask: Mask, weights: Any) -> Coherence:
    n_out, n_in = mask.shape
    rows, columns = np.zeros((3, n_out)), np.zeros((3, n_in))  # sums of w, w^2, w^4

    def add(run: slice, w: FloatArray) -> None:
        square = w * w
        for k, power in enumerate((w, square, square * square)):
            rows[k, run] = power.sum(axis=1)
            columns[k] += power.sum(axis=0)

    map_runs(mask, weights, add)
    total, square = rows[0].sum(), rows[1].sum()
    if square == 0.0:
        raise InputError("weights: every surviving weight is 0, so their coherence is not defined; pass the weights.")
    t = float(total / math.sqrt(square))
    by_row, row_z = _excess(rows)
    by_column, column_z = _excess(columns)
    null = 1 / math.sqrt(n_out)
    return Coherence(t * null, null, t, by_row, row_z, by_column * math.sqrt(n_in / n_out), column_z)


def _excess(sums: FloatArray) -> tuple[float, float]:
    """Root of the mean of T^2 - 1 over units with weights, and its z-score under fair signs."""
    first, second, fourth = sums[:, sums[1] > 0]
    excess = first**2 / second - 1
    variance = 2 * (1 - fourth / second**2).clip(min=0.0).sum()
    z = float(excess.sum() / math.sqrt(variance)) if variance > 1e-12 else 0.0
    return math.sqrt(max(0.0, float(excess.mean()))), z


def coherence_growth(values: Sequence[Coherence], widths: Sequence[float]) -> tuple[float, float]:
    """Exponent a of |coherence| ~ width^a over networks of several widths, and its standard error.

    A weighted fit of ln |value| on ln width, each weighed by its null: SNIP keeps a = 0 (a limit with drift exists),
    GraSP has a = 1/2 (the mean signal grows without bound: no limit kernel). Warns CoherenceWarning when a > 0 by
    three standard errors.

    Raises InputError for fewer than two widths and where a coherence is within three nulls of 0: noise has no exponent.
    """
    if not isinstance(values, list | tuple) or not all(isinstance(one, Coherence) for one in values):
        raise InputError(f"values: expected a list of what gt.coherence returns, got {shown(values)}.")
    given = real_array("widths", widths, expected="positive widths")
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log(given.astype(float).reshape(-1))
    widths = given.reshape(-1).tolist()
    if len(x) != len(values) or len(set(x)) < 2 or not np.isfinite(x).all():
        raise InputError(
            f"widths: expected one positive width for each of {len(values)} coherences, two of them different, got "
            f"{list(widths)!r}."
        )
    weak = [float(w) for w, c in zip(widths, values, strict=True) if abs(c.z) < 3]
    if weak:
        raise InputError(
            f"values: at widths {weak} the coherence is within three nulls of 0; it has no exponent there."
        )
    y = np.log([abs(c.value) for c in values])
    weight = np.array([c.z**2 for c in values])  # var ln |c| = 1 / z^2
    centre = x - np.average(x, weights=weight)
    spread = float(weight @ centre**2)
    exponent, error = float(weight @ (centre * y)) / spread, 1 / math.sqrt(spread)
    if exponent > 3 * error:
        warnings.warn(
            f"coherence grows like width^{exponent:.2f} (standard error {error:.2f}): the mean of the signal grows "
            "without bound and there is no limit kernel at this scaling.",
            CoherenceWarning,
            stacklevel=2,
        )
    return exponent, error
