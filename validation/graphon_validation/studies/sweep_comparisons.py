"""Finite networks against their limit: bias, spread, scale and shape, each with its error (THEORY §7,
§9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from xarray import DataArray, Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.data import labels
from graphon_theory.data.checks import checked_dataset
from graphon_theory.errors import InputError, shown

Entry = tuple[int, ...]

# Draws of the noise of a mean, taken with both signs.
_MULTIPLIERS = 2000


_LARGEST = 1e100  # of kernels; sums of squares of their products are numbers


def compare(real: Dataset, kern: Dataset, entries: Sequence[Entry] | None = None) -> Dataset:
    """Hold a width sweep against the limit kernel.

    ``real`` is what :func:`width_sweep` returns, S seeds at each width n; ``kern`` what ``limit_kernel``
    returns on the same inputs, or predictions for every network, over ("width", "seed", ...) like real's:
    then each network is held against its own, by taking off the sample how far its prediction departs from
    their mean over seeds; ``limit`` is that mean, one for every width, and k and c are fitted to the
    differences. ``entries`` are the kernel entries to test, (row, column), with several outputs (output,
    row, column); name them before looking. Left out: the first diagonal entry, the first row's last, and
    the middle row's last. A kernel of one input set also gets its "trace".

    Entry by entry ("width", "x", "x2"): ``mean`` over seeds, ``error`` = mean - limit, ``standard_error``.

    Per tested ``quantity``: ``value`` with ``value_error``, its ``limit``, ``z`` = (value - limit) / error at
    each width, and ``interval`` (..., "end"), 95% by Student's t. With two widths or more the means are fitted
    by k + c / n, weighted by their errors: ``fitted`` k and ``bias`` c with ``fitted_error`` and
    ``bias_error``, ``fitted_z`` = (k - limit) / error, the verdict after the O(1/n) bias is taken off, and
    ``residual_z`` = (value - k - c/n) / value_error at each width, which shows whether 1/n is enough.

    Per width: ``scale``, the factor of the limit closest to the mean kernel in the Frobenius norm, with
    ``scale_error`` and ``scale_interval``, 95% by Student's t; ``shape_error``, what the best factor leaves,
    relative to it, beside ``shape_noise``, what seeds alone would leave, and ``shape_interval``, 95% for what
    infinitely many seeds would leave: it starts above 0 where the shape differs (:func:`norm_interval`), and ends
    below shape_error where that is mostly noise; ``spread``, the root mean square distance of one network from the
    mean relative to the limit's norm, with ``spread_error`` by the jackknife; for a kernel of one input set
    ``energy``, the share of the trace in the ten largest eigenvalues (mean over seeds) with ``energy_error``,
    beside ``limit_energy``. ``spread_slope`` and ``spread_slope_error``: its slope against n in log-log, expected
    at -1/2.

    Errors come from S seeds: with few of them a z is a Student t with S - 1 degrees of freedom.

    Raises InputError when the two do not fit together, with fewer than 3 seeds, for entries out of range
    and for entries that do not vary over seeds (whose z is undefined).
    """
    sample, limit, dims = _arrays(real, kern)
    seeds = sample.shape[1]
    widths = np.asarray(real["width"].values, dtype=float)
    mean = sample.mean(1)
    standard_error = sample.std(1, ddof=1) / np.sqrt(seeds)
    variables: dict[str, tuple[tuple[str, ...], Any]] = {
        "mean": (("width", *dims), mean),
        "error": (("width", *dims), mean - limit),
        "standard_error": (("width", *dims), standard_error),
    }
    names, chosen, limits = _quantities(sample, limit, entries)
    variables |= _tested(widths, chosen, limits, names)
    variables |= _per_width(widths, sample.reshape(*sample.shape[:2], -1), limit.reshape(len(limit), -1))
    if "seed" not in kern["ntk"].dims:
        variables["limit"] = (("quantity",), limits[0])
    if _is_symmetric(limit):
        own = _energies(real["ntk"].values.astype(float))
        predicted = _energies(kern["ntk"].values.astype(float))
        variables |= {
            "energy": (("width",), own.mean(1)),
            "energy_error": (("width",), own.std(1, ddof=1) / np.sqrt(seeds)),
            "limit_energy": ((("width",), predicted.mean(1)) if predicted.ndim else ((), predicted)),
        }
    coords = {**{str(k): v for k, v in kern.ntk.coords.items() if k != "seed"}, "width": real["width"].values}
    return labels.dataset(variables, {**coords, "quantity": names}, {"seeds": seeds})


def fit_line(x: FloatArray, y: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k, c) of y = k + c x weighted by 1/error^2, and their standard errors as known errors imply them."""
    design = np.stack([np.ones_like(x), x], axis=1) / error[:, None]
    q, r = np.linalg.qr(design)
    inverse = np.linalg.inv(r)
    return inverse @ (q.T @ (y / error)), np.sqrt((inverse**2).sum(1))


def norm_interval(mean: FloatArray, residuals: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Interval for |E X| from the mean (p,) and the residuals (S, p) of a sample; p may exceed S.

    |mean| is biased up by noise, which a percentile bootstrap would add once more. So tests are inverted: t is inside
    unless |mean| is in an outer (1 - level) / 2 of the law of |t mean/|mean| + e|, where the noise

        e = sqrt((S - 1) / chi^2_{S-1}) sum_s g_s r_s / sqrt(S (S - 1)),   g_s ~ N(0, 1),

    comes from normal multipliers. For p = 1 and normal samples away from 0 that is Student's t; the lower end is 0
    where |mean| is what noise alone leaves. Above p = 1 it is approximate, since the direction of E X is taken to be
    that of the mean: of normal samples with 1 to 400 dimensions, signals from 0 to 10 times the noise, at 95% it
    covered 0.87 to 1.00 with 4 to 20 seeds and 0.85 at worst with 3. The draws are the same at every call.
    """
    seeds = len(residuals)
    size = float(np.linalg.norm(mean))
    rng = np.random.default_rng(0)
    g = rng.standard_normal((_MULTIPLIERS, seeds)) / np.sqrt(seeds * rng.chisquare(seeds - 1, (_MULTIPLIERS, 1)))
    square = np.einsum("ds,st,dt->d", g, residuals @ residuals.T, g)
    along = g @ (residuals @ mean) / size if size > 0 else np.zeros(len(g))
    square, along = np.tile(square, 2), np.concatenate([along, -along])

    def quantile(t: float, share: float) -> float:
        return float(np.sqrt(np.quantile(np.maximum(t**2 + 2 * t * along + square, 0.0), share)))

    def crossing(share: float) -> float:
        """The t whose quantile is the observed size; 0 where even t = 0 is above it."""
        if quantile(0.0, share) >= size:
            return 0.0
        high = size + 1.0001 * quantile(0.0, 1.0)
        while quantile(high, share) < size:
            high *= 2
        return float(brentq(lambda t: quantile(t, share) - size, 0.0, high, xtol=1e-9 * high))

    outside = (1 - level) / 2
    return crossing(1 - outside), crossing(outside)


def _arrays(real: Dataset, kern: Dataset) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    checked_dataset("real", real, ("ntk",), "gv.width_sweep")
    checked_dataset("kern", kern, ("ntk",), "gt.limit_kernel (or another sweep)")
    if any(one["ntk"].dtype.kind not in "fiu" for one in (real, kern)):
        raise InputError(f"real, kern: expected real numbers, got {real['ntk'].dtype} and {kern['ntk'].dtype}.")
    limit = kern["ntk"]
    if limit.ndim < 2 or "width" not in real.coords:
        raise InputError(f"kern: expected ntk over two sets of inputs, got dimensions {limit.dims}; see gv.compare.")
    paired = "seed" in limit.dims
    dims = tuple(map(str, limit.dims))[2 if paired else 0 :]
    found: DataArray = real["ntk"]
    shape = limit.shape[2:] if paired else limit.shape
    if found.dims != ("width", "seed", *dims) or found.shape[2:] != shape or (paired and found.shape != limit.shape):
        raise InputError(
            f"real: expected ntk over ('width', 'seed', *{dims}) with kernels of shape {limit.shape} as in "
            f"kern, got {found.dims} of shape {found.shape}; compute both on the same inputs."
        )
    for name in found.dims if paired else dims:
        if name in found.coords and name in limit.coords and not np.array_equal(found[name].values, limit[name].values):
            raise InputError(f"kern: coordinate {name!r} differs from real's; use the same inputs in both.")
    if 0 in found.shape:
        raise InputError(f"real: expected at least one width and one input, got shape {found.shape}.")
    if found.sizes["seed"] < 3:
        raise InputError(f"real: expected at least 3 seeds for standard errors, got {found.sizes['seed']}.")
    sample, value = found.values.astype(float), limit.values.astype(float)
    if not (np.isfinite(sample).all() and np.isfinite(value).all()):
        raise InputError("real, kern: expected finite kernels; look for networks that overflow.")
    if (np.diff(np.sort(real["width"].values.astype(float))) <= 0).any() or not (real["width"].values > 0).all():
        raise InputError(f"real: expected different positive widths, got {shown(real['width'].values.tolist())}.")
    if max(np.abs(sample).max(), np.abs(value).max()) > _LARGEST:
        raise InputError(f"real, kern: expected entries up to {_LARGEST:g}, whose squares are numbers; rescale both.")
    if not value.any():
        raise InputError("kern: the limit kernel is zero everywhere, so nothing is relative to it.")
    if paired:
        centre = value.mean(1)
        return sample - (value - centre[:, None]), centre, dims
    return sample, np.broadcast_to(value, (len(sample), *value.shape)), dims


def _is_symmetric(limit: FloatArray) -> bool:
    return limit.shape[-1] == limit.shape[-2] and np.allclose(limit, limit.swapaxes(-1, -2), rtol=1e-12, atol=0.0)


def _energies(kernels: FloatArray, count: int = 10) -> FloatArray:
    """Share of the trace in the largest eigenvalues, kernel by kernel; mean over outputs."""
    values = np.linalg.eigvalsh(kernels)[..., ::-1]
    share: FloatArray = values[..., :count].sum(-1) / values.sum(-1)
    return share.mean(-1) if kernels.ndim in (3, 5) else share  # over outputs


def _quantities(
    sample: FloatArray, limit: FloatArray, entries: Sequence[Entry] | None
) -> tuple[list[str], FloatArray, FloatArray]:
    """Names, values (width, seed, quantity) and limits of what is tested."""
    rows, columns = limit.shape[-2:]
    shape = limit.shape[1:]
    names, chosen, limits = [], [], []
    if _is_symmetric(limit):
        names.append("trace")
        axes = tuple(range(2, sample.ndim - 1))
        chosen.append(np.diagonal(sample, axis1=-2, axis2=-1).sum(axes))
        limits.append(np.diagonal(limit, axis1=-2, axis2=-1).sum(tuple(range(1, limit.ndim - 1))))
    if entries is None:
        pairs = dict.fromkeys([(0, 0), (0, columns - 1), (rows // 2, columns - 1)])
        entries = [(*(0,) * (len(shape) - 2), *pair) for pair in pairs]
    listed = isinstance(entries, list | tuple) and all(isinstance(one, list | tuple) for one in entries)
    if not listed or not all(isinstance(i, int | np.integer) for entry in entries for i in entry):
        raise InputError(f"entries: expected a list of indices (i, j) into a kernel, got {shown(entries)}.")
    for entry in entries:
        inside = len(entry) == len(shape) and all(0 <= i < n for i, n in zip(entry, shape, strict=True))
        if not inside:
            raise InputError(f"entries: expected indices into a kernel of shape {shape}, got {entry}.")
        if str(list(entry)) in names:
            raise InputError(f"entries: {entry} is named twice.")
        names.append(str(list(entry)))
        flat = np.ravel_multi_index(entry, shape)
        chosen.append(sample.reshape(*sample.shape[:2], -1)[..., flat])
        limits.append(limit.reshape(len(limit), -1)[:, flat])
    values = np.stack(chosen, axis=-1)
    still = (values.std(1) <= 1e-14 * np.abs(values).max(1)).any(0)
    if still.any():
        raise InputError(
            f"entries: {names[int(np.argmax(still))]} is the same for every seed and has no z-score; take "
            "entries of inputs that are not zero."
        )
    return names, values, np.stack(limits, axis=-1)


def _tested(
    widths: FloatArray, chosen: FloatArray, limits: FloatArray, names: list[str]
) -> dict[str, tuple[tuple[str, ...], FloatArray]]:
    value = chosen.mean(1)
    error = chosen.std(1, ddof=1) / np.sqrt(chosen.shape[1])
    reach = float(stats.t.ppf(0.975, chosen.shape[1] - 1)) * error
    out: dict[str, tuple[tuple[str, ...], FloatArray]] = {
        "limit": (("width", "quantity"), limits),
        "value": (("width", "quantity"), value),
        "value_error": (("width", "quantity"), error),
        "z": (("width", "quantity"), (value - limits) / error),
        "interval": (("width", "quantity", "end"), np.stack([value - reach, value + reach], axis=-1)),
    }
    if len(widths) > 1:
        off = value - limits
        fits = [fit_line(1 / widths, off[:, i], error[:, i]) for i in range(len(names))]
        (k, c), (k_error, c_error) = (np.array([fit[part] for fit in fits]).T for part in (0, 1))
        residual = off - k - c / widths[:, None]
        out |= {
            "fitted": (("quantity",), limits.mean(0) + k),
            "fitted_error": (("quantity",), k_error),
            "fitted_z": (("quantity",), k / k_error),
            "bias": (("quantity",), c),
            "bias_error": (("quantity",), c_error),
            "residual_z": (("width", "quantity"), residual / error),
        }
    return out


def _per_width(widths: FloatArray, sample: FloatArray, limit: FloatArray) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Scale, shape and spread; ``sample`` is (width, seed, entries), ``limit`` (width, entries)."""
    seeds = sample.shape[1]
    norm = np.linalg.norm(limit, axis=1)
    scales = np.einsum("wse,we->ws", sample, limit) / norm[:, None] ** 2
    scale = scales.mean(1)
    off = sample - scales[..., None] * limit[:, None]
    # E |mean of off|^2 from seeds alone is (their variance) / S
    noise = np.sqrt(off.var(1, ddof=1).sum(1) / seeds)
    distance = ((sample - sample.mean(1, keepdims=True)) ** 2).sum(2)
    spread = np.sqrt(distance.sum(1) / (seeds - 1)) / norm
    # leaving seed s out takes distance_s S / (S - 1) from the sum of squares about the new mean
    left = distance.sum(1, keepdims=True) - distance * seeds / (seeds - 1)
    logs = 0.5 * np.log(left / (seeds - 2))
    log_error = np.sqrt((seeds - 1) / seeds * ((logs - logs.mean(1, keepdims=True)) ** 2).sum(1))
    scale_error = scales.std(1, ddof=1) / np.sqrt(seeds)
    reach = float(stats.t.ppf(0.975, seeds - 1)) * scale_error
    mean = off.mean(1)
    # of mean / scale to first order: the factor has its own error
    residuals = off - (scales / scale[:, None])[..., None] * mean[:, None]
    shape = [norm_interval(m, r) for m, r in zip(mean, residuals, strict=True)]
    out: dict[str, tuple[tuple[str, ...], Any]] = {
        "scale": (("width",), scale),
        "scale_error": (("width",), scale_error),
        "scale_interval": (("width", "end"), np.stack([scale - reach, scale + reach], axis=-1)),
        "shape_interval": (("width", "end"), np.array(shape) / (np.abs(scale) * norm)[:, None]),
        "shape_error": (("width",), np.linalg.norm(mean, axis=1) / (np.abs(scale) * norm)),
        "shape_noise": (("width",), noise / (np.abs(scale) * norm)),
        "spread": (("width",), spread),
        "spread_error": (("width",), spread * log_error),
    }
    if len(widths) > 1:
        (_, slope), (_, slope_error) = fit_line(np.log(widths), np.log(spread), log_error)
        out |= {"spread_slope": ((), np.float64(slope)), "spread_slope_error": ((), np.float64(slope_error))}
    return out
