"""One mask to a step graphon, each estimate beside what random masks of its density give (THEORY §8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.data.checks import MOST_DRAWS, as_generator, one_of, positive_number, whole_number, whole_numbers
from graphon_theory.errors import InputError, shown
from graphon_theory.estimation.clusters import Seen
from graphon_theory.estimation.masks import Mask, as_mask, edges_of, refuse_dead
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.values import sealed

_DRAWS = 200  # random masks behind a null that needs only their degrees
_FEW = 20  # and behind one that estimates each of them
_PAIRS = 6000  # units a side beyond which distances between all pairs of units take too much memory


class Null(NamedTuple):
    """How far an estimate is from a constant, and how far estimates of random masks of its density and shape are.

    ``distance`` is the L2 distance of the estimate to its own mean, ``mean`` and ``std`` are those of the same distance
    over random masks, ``z`` = (distance - mean) / std.
    """

    distance: float
    mean: float
    std: float
    z: float


class GraphonEstimate(StepGraphon):
    """An estimated StepGraphon that knows its ``null`` (None if not asked for) and the ``method``.

    ``row_labels`` and ``column_labels`` give every unit's block. As a graphon it equals any other of its values.
    """

    def __init__(
        self,
        values: ArrayLike,
        u_edges: ArrayLike,
        v_edges: ArrayLike,
        method: str,
        row_labels: IntArray,
        column_labels: IntArray,
        null: Null | None = None,
    ) -> None:
        super().__init__(values, u_edges, v_edges)
        self.method, self.null = method, null
        self.row_labels, self.column_labels = sealed(row_labels), sealed(column_labels)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return *super()._arguments, self.method, self.row_labels, self.column_labels, self.null

    @property
    def T(self) -> GraphonEstimate:
        sides = self.v_edges, self.u_edges, self.method, self.column_labels, self.row_labels
        return GraphonEstimate(self.values.T, *sides, self.null)


Found = tuple[IntArray, IntArray, FloatArray]  # labels of both sides, and the table of values


def estimate_graphon(
    mask: Any,
    bins: int | tuple[int, int] | None = 64,
    method: str = "sas",
    *,
    smoothing: float = 0.0,
    draws: int | None = None,
    rng: np.random.Generator | int = 0,
) -> GraphonEstimate:
    """A step graphon from one mask (receiving, sending units), rectangular and directed.

    ``method``:

    "sas"            sort both sides by degree, average over bins; ``smoothing`` > 0 smooths by total variation (weight
                     of scikit-image's ``denoise_tv_chambolle``) [CA]
    "sba"            blocks of units within a radius of pivots (Airoldi, Costa and Chan 2013); the radius is the least
                     that gives no more than ``bins`` blocks
    "usvt"           singular values above 1.01 sqrt(p (1 - p)) (sqrt n_out + sqrt n_in), values taken to [0, 1]
                     (Chatterjee 2015), then sorted and averaged
    "neighbourhood"  mean over the nearest share sqrt(log n / n) of units, by rows and by columns (Zhang, Levina and Zhu
                     2017), then sorted and averaged

    "sba" and "neighbourhood" compare units i, i' by the mean square over third units k of <A_i - A_i', A_k> / n, which
    one mask determines without the bias of <A_i, A_i> (the papers take the maximum, or several masks).

    ``bins`` is a number, a pair (rows, columns), or None for floor(sqrt(units)) on each side: there the noise of block
    means is just below that of sorting. Bins are of equal size up to one unit, and edges lie between units.

    Sorting makes structure of noise. ``result.null`` holds the distance of the estimate to its mean beside that of
    random masks of the same density and shape, ``draws`` of them (200 for "sas", whose null needs only their degrees
    and block noise; 20 for the others and with smoothing; 0 for none). A layer sorted on its own says nothing of how it
    composes with the next: see :func:`estimate_network`.

    Raises InputError for what is no mask, a mask of density 0, more bins than units, and an unknown method. THEORY §8.
    """
    checked = as_mask(mask)
    p = refuse_dead(checked, "mask") / (checked.shape[0] * checked.shape[1])
    shape = check_bins(bins, checked.shape)
    one_of("method", method, _METHODS)
    expected = "a weight >= 0 of the total variation"
    smoothing = positive_number("smoothing", smoothing, zero=True, expected=expected)
    by_degrees = method == "sas" and not smoothing
    count = (_DRAWS if by_degrees else _FEW) if draws is None else draws
    expected = f"0 for no null, or at least 2 (and at most {MOST_DRAWS:,}) random masks"
    count = whole_number("draws", count, 0, MOST_DRAWS, expected=expected)
    if count == 1:
        raise InputError(f"draws: expected {expected}, got 1.")
    generator = as_generator(rng)
    rows, columns, table = _estimate(checked, shape, method, smoothing, generator)
    null = None
    if count:
        if by_degrees:
            found = sorted_distances(checked.shape, p, shape, count, generator)
        else:
            found = _drawn_distances(checked.shape, p, shape, method, smoothing, count, generator)
        distance = _to_mean(rows, columns, table)
        mean, std = float(found.mean()), float(found.std(ddof=1))
        null = Null(distance, mean, std, (distance - mean) / std if std > 1e-15 else 0.0)
    u_edges, v_edges = (edges_of(np.bincount(one)) for one in (rows, columns))
    return GraphonEstimate(table, u_edges, v_edges, method, rows, columns, null)


def sorted_distances(
    shape: tuple[int, int], p: float, bins: tuple[int, int], draws: int, rng: np.random.Generator
) -> FloatArray:
    """L2 distances to their mean of SAS estimates of ``draws`` random masks, without drawing the masks.

    For many bins the mean square is p (1 - p) (1/n_in + 1/n_out + B^2 / (n_in n_out)).
    """
    u, v = (np.diff(cuts(n, b)) / n for n, b in zip(shape, bins, strict=True))
    return np.array([math.sqrt(u @ table**2 @ v) for table in sorted_noise(shape, p, bins, draws, rng)])


def sorted_noise(
    shape: tuple[int, int], p: float, bins: tuple[int, int], draws: int, rng: np.random.Generator
) -> Iterator[FloatArray]:
    """What SAS estimates of ``draws`` random masks are off their density p, without drawing the masks.

    Degrees are binomial, nearly independent of each other and of what is left of the block means, which is Gaussian:

            block (a, b) - p = r_a + c_b + (1 - 2p) / (p (1 - p)) r_a c_b + e_ab,   var e_ab = p (1 - p) / (n_a n_b),

    r_a and c_b the means over a and b of sorted deviations of row and column densities, e_ab with weighted means 0
    along rows and columns. The product is there since given degrees log-odds add up, not densities; it matters for few
    bins of sparse masks.
    """
    n_out, n_in = shape
    rows, columns = (np.diff(cuts(n, b)) for n, b in zip(shape, bins, strict=True))
    deviation = np.sqrt(p * (1 - p) / np.outer(rows, columns))
    u, v = rows / n_out, columns / n_in
    bend = (1 - 2 * p) / (p * (1 - p)) if p < 1 else 0.0
    for _ in range(draws):
        r = _binned(np.sort(rng.binomial(n_in, p, n_out)) / n_in, rows)
        c = _binned(np.sort(rng.binomial(n_out, p, n_in)) / n_out, columns)
        e = deviation * rng.standard_normal(bins)
        e -= (e @ v)[:, None]
        e -= u @ e
        r -= u @ r
        c -= v @ c
        yield r[:, None] + c + e + bend * np.outer(r, c)


def cuts(units: int, bins: int) -> IntArray:
    """First units of bins of equal size (up to one), and the number of units."""
    return (np.arange(bins + 1) * units) // bins


def _estimate(mask: Mask, bins: tuple[int, int], method: str, smoothing: float, rng: np.random.Generator) -> Found:
    rows, columns, table = _METHODS[method](mask, bins, rng)
    return rows, columns, _smooth(table, smoothing) if smoothing else table


def _drawn_distances(
    shape: tuple[int, int],
    p: float,
    bins: tuple[int, int],
    method: str,
    smoothing: float,
    draws: int,
    rng: np.random.Generator,
) -> FloatArray:
    def distance() -> float:
        kept = np.zeros(shape, dtype=bool)
        kept.ravel()[rng.choice(kept.size, round(p * kept.size), replace=False)] = True
        return _to_mean(*_estimate(as_mask(kept), bins, method, smoothing, rng))

    return np.array([distance() for _ in range(draws)])


def _to_mean(rows: IntArray, columns: IntArray, table: FloatArray) -> float:
    u, v = (np.diff(edges_of(np.bincount(one))) for one in (rows, columns))
    return math.sqrt(u @ (table - u @ table @ v) ** 2 @ v)


def _sas(mask: Mask, bins: tuple[int, int], rng: np.random.Generator) -> Found:
    rows, columns = (by_rank(degree, b) for degree, b in zip(mask.degrees(), bins, strict=True))
    return rows, columns, block_means(mask, rows, columns)


def _sba(mask: Mask, bins: tuple[int, int], rng: np.random.Generator) -> Found:
    dense = _dense(mask, "sba")
    rows, columns = (
        _by_level(_pivots(_distances(side), b, rng), degree)
        for side, b, degree in zip((dense, dense.T), bins, mask.degrees(), strict=True)
    )
    return rows, columns, block_means(mask, rows, columns)


def _usvt(mask: Mask, bins: tuple[int, int], rng: np.random.Generator) -> Found:
    left, right = Seen([mask], *(np.ones(n, dtype=bool) for n in mask.shape)).singular
    dense = _dense(mask, "usvt")
    p = float(dense.mean(dtype=np.float64))
    if not left.shape[1]:  # nothing is missing, so nothing is noise
        return _sas(mask, bins, rng)
    # left and right come times their values over the noise's deviation: one of the two factors goes again
    scale = np.linalg.norm(right, axis=0)
    estimate = np.clip(np.sqrt(p * (1 - p)) * (left / scale) @ right.T, 0.0, 1.0)
    return _sorted(estimate, bins)


def _neighbourhood(mask: Mask, bins: tuple[int, int], rng: np.random.Generator) -> Found:
    dense = _dense(mask, "neighbourhood")
    smooth = (_near(_distances(dense)) @ dense + (_near(_distances(dense.T)) @ dense.T).T) / 2
    return _sorted(smooth, bins)


_METHODS: dict[str, Callable[[Mask, tuple[int, int], np.random.Generator], Found]] = {
    "sas": _sas,
    "sba": _sba,
    "usvt": _usvt,
    "neighbourhood": _neighbourhood,
}


def _dense(mask: Mask, method: str) -> Any:
    if max(mask.shape) > _PAIRS:
        raise InputError(
            f"method: {method!r} compares or decomposes all units, at most {_PAIRS} a side, got shape {mask.shape}; "
            'use "sas".'
        )
    return mask.dense().astype(np.float32)


def _distances(rows: Any) -> Any:
    """Mean square over third rows k of <A_i - A_j, A_k> / n, for all pairs of rows."""
    count, n = rows.shape
    products = rows @ rows.T / np.float32(n)
    np.fill_diagonal(products, 0.0)
    squares = (products * products).sum(axis=1)
    between = squares[:, None] + squares - 2 * (products @ products.T) - 2 * products * products
    np.fill_diagonal(between, 0.0)
    return np.maximum(between, 0.0) / max(count - 2, 1)


def _near(distances: Any) -> Any:
    """Weights of the mean over every row's nearest share sqrt(log n / n) of rows."""
    n = len(distances)
    count = min(n, max(2, math.ceil(math.sqrt(n * math.log(n)))) if n > 1 else 1)
    chosen = np.argpartition(distances, count - 1, axis=1)[:, :count]
    weights = np.zeros(distances.shape, dtype=np.float32)
    np.put_along_axis(weights, chosen, np.float32(1 / count), axis=1)
    return weights


def _pivots(distances: Any, bins: int, rng: np.random.Generator) -> IntArray:
    """Blocks of rows within a radius of pivots taken in random order: at most ``bins``, by the least radius."""
    order = rng.permutation(len(distances))
    low, high = -1.0, float(distances.max())
    for _ in range(40):
        middle = (max(low, 0.0) + high) / 2
        if _cover(distances, order, middle, bins) is None:
            low = middle
        else:
            high = middle
    labels = _cover(distances, order, high, bins)
    assert labels is not None  # one ball of the largest distance holds all
    return labels


def _cover(distances: Any, order: IntArray, radius: float, bins: int) -> IntArray | None:
    labels = np.full(len(order), -1, dtype=np.intp)
    blocks = 0
    for pivot in order:
        if labels[pivot] >= 0:
            continue
        if blocks == bins:
            return None
        labels[(labels < 0) & (distances[pivot] <= radius)] = blocks
        labels[pivot] = blocks
        blocks += 1
    return labels


def _by_level(labels: IntArray, degrees: FloatArray) -> IntArray:
    """Blocks renumbered by mean degree."""
    means = np.bincount(labels, weights=degrees) / np.bincount(labels)
    return np.argsort(np.argsort(means, kind="stable"))[labels]


def by_rank(degrees: FloatArray, bins: int) -> IntArray:
    """Bin of every unit when units are sorted by degree, ascending, ties by index."""
    labels = np.empty(len(degrees), dtype=np.intp)
    labels[np.argsort(degrees, kind="stable")] = np.repeat(np.arange(bins), np.diff(cuts(len(degrees), bins)))
    return labels


def block_means(mask: Mask, rows: IntArray, columns: IntArray) -> FloatArray:
    """Densities between blocks of rows and of columns."""
    sizes = np.bincount(rows), np.bincount(columns)
    return mask.block_counts(rows, len(sizes[0]), columns, len(sizes[1])) / np.outer(*sizes)


def _sorted(matrix: Any, bins: tuple[int, int]) -> Found:
    """A matrix of probabilities sorted by its row and column means and averaged over bins."""
    rows, columns = (by_rank(matrix.mean(axis=1 - axis, dtype=np.float64), b) for axis, b in enumerate(bins))
    over, across = (np.argsort(one, kind="stable") for one in (rows, columns))
    starts = (cuts(n, b)[:-1] for n, b in zip(matrix.shape, bins, strict=True))
    ordered = matrix[np.ix_(over, across)].astype(float)
    for axis, start in enumerate(starts):
        ordered = np.add.reduceat(ordered, start, axis=axis)
    return rows, columns, ordered / np.outer(np.bincount(rows), np.bincount(columns))


def _binned(values: FloatArray, sizes: IntArray) -> FloatArray:
    return np.add.reduceat(values, np.concatenate([[0], np.cumsum(sizes)[:-1]])) / sizes


def _smooth(table: FloatArray, weight: float) -> FloatArray:
    try:
        from skimage.restoration import denoise_tv_chambolle
    except ImportError:
        raise InputError(
            "smoothing: total variation needs scikit-image; pip install 'graphon-theory[estimation]', or leave it 0."
        ) from None
    return np.asarray(denoise_tv_chambolle(table, weight=weight), dtype=float)


def check_bins(bins: Any, shape: tuple[int, int]) -> tuple[int, int]:
    """Numbers of bins (rows, columns); see :func:`estimate_graphon`."""
    if bins is None:
        return math.isqrt(shape[0]), math.isqrt(shape[1])
    expected = "a positive whole number, a pair of them (rows, columns) or None"
    pair = whole_numbers("bins", bins if isinstance(bins, Sequence | np.ndarray) else (bins, bins), expected=expected)
    if len(pair) != 2:
        raise InputError(f"bins: expected {expected}, got {shown(bins)}.")
    if pair[0] > shape[0] or pair[1] > shape[1]:
        raise InputError(
            f"bins: a mask of shape {shape} cannot fill {pair[0]} x {pair[1]} bins; pass bins=(rows, columns) with at "
            "most one bin a unit, or bins=None for the square root of the units."
        )
    return pair[0], pair[1]
