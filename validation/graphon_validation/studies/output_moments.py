"""Mean and covariance of the output over draws of finite networks: the NNGP by sampling (THEORY §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from xarray import DataArray, Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.data import checks, labels
from graphon_theory.errors import InputError, shown
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.network import Network
from graphon_theory.networks.unit_values import check_widths, midpoints
from graphon_validation.networks.masked_layers import MaskedLinear
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor, build, run
from graphon_validation.studies.protocols import apply_protocol

READOUTS = ("integrated", "drawn")
PROTOCOLS = ("redrawn", "signs")


def sampled_nngp(
    source: Network | MaskedMLP,
    x: ArrayLike | DataArray,
    x2: ArrayLike | DataArray | None = None,
    *,
    seeds: Sequence[int],
    widths: Sequence[int] | None = None,
    protocol: str = "redrawn",
    readout: str = "integrated",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Dataset:
    """Mean and covariance of the outputs f(x) (N, d), f(x2) (N2, d) over networks drawn at finite width.

    From a Network, draw s is ``build(network, widths, SeedSequence([s, *widths]))`` with all unit counts ``widths``
    = (n_0, ..., n_L). From a MaskedMLP, whose masks stay, it is ``apply_protocol(model, protocol, s)``: all weights
    "redrawn", or |w| kept and "signs" drawn again; the law is then that of networks with these masks (and sizes).

    ``readout="integrated"`` draws all layers but the last and takes the mean over the last one exactly. Given the
    features a = a^{L-1} of one draw, f = sigma_w / sqrt(n) sum_j m_j w_j a_j + sigma_b b has over m, w and b of
    output o

        mean   sigma_w / n sum_j D_oj a_j,
        covariance   sigma_w^2 / n sum_j (V_oj - D_oj^2 / n) a_j a'_j + sigma_b^2;

    for a model's own masks V = m (redrawn) or m w^2 (signs, w in dense deviations) and D = 0, and with signs the bias
    keeps its own square. ``"drawn"`` takes the outputs as they are, pooled over outputs that share one law (the same
    rows of W, V and D). Both estimate the same values; the errors of the first are far smaller.

    Returns a Dataset over ("x", "x2"), with a leading "output" if there are several: ``nngp``, the covariance of f
    over draws, which tends to ``limit_kernel``'s, ``second_moment`` = E[f f'] = nngp + mean mean', and over "x"
    ``mean``; each unbiased for networks of these widths (O(1/n) from the limit), with its standard error over draws
    under ``..._error``. Draws are streamed: memory does not grow with their number.

    Raises InputError for fewer than 3 seeds or repeated ones, other names, and ``widths`` given with a model or
    left out with a Network; what :func:`build` raises.
    """
    expected = "at least 3 different integers of at least 0"
    numbers = checks.whole_numbers("seeds", seeds, 0, distinct=True, expected=expected)
    if len(numbers) < 3:
        raise InputError(f"seeds: expected {expected}, got {list(numbers)}.")
    checks.one_of("readout", readout, READOUTS)
    draw, law = _sources(source, widths, protocol, device, dtype)
    chosen, groups = _groups(law)
    sums = _Sums()
    for seed in numbers:
        model = draw(seed)
        left = _features(model, as_tensor(model, x, "x"))
        right = left if x2 is None else _features(model, as_tensor(model, x2, "x2", x))
        if readout == "integrated":
            sums.add(*_integrated(model.linears[-1], chosen, left, right))
        else:
            sums.add(*_drawn(model.linears[-1], groups, left, right))
    pick: Any = groups if len(groups) > 1 else 0
    lead = (labels.OUTPUT,) if len(groups) > 1 else ()
    variables: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name, (value, error) in sums.estimates().items():
        dims = (*lead, labels.X) if name == "mean" else (*lead, labels.X, labels.X2)
        variables |= {name: (dims, value[pick]), f"{name}_error": (dims, error[pick])}
    coords = labels.coords_of_inputs(x, x2)
    attrs = {"draws": len(numbers), "widths": list(model.widths), "readout": readout}
    return labels.dataset(variables, coords, attrs)


class _Readout(NamedTuple):
    """The law of the last layer: W, V, D (outputs, n_{L-1}) and the variance of the bias (outputs, 1)."""

    mask: FloatArray
    variance: FloatArray
    drift: FloatArray
    bias: FloatArray


def _sources(
    source: Network | MaskedMLP,
    widths: Sequence[int] | None,
    protocol: str,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> tuple[Callable[[int], MaskedMLP], _Readout]:
    """How to draw a network from a seed, and the law of its last layer."""
    if isinstance(source, Network):
        if widths is None:
            raise InputError("widths: networks are drawn at finite width; give all unit counts (n_0, ..., n_L).")
        _check_protocol(protocol)
        counts = check_widths(source, widths)
        law = _of_graphons(source, counts)
        return lambda seed: build(source, counts, np.random.SeedSequence([seed, *counts]), device, dtype), law
    if not isinstance(source, MaskedMLP):
        raise InputError(f"source: expected a Network or a MaskedMLP, got {type(source).__name__}; see gv.build.")
    if widths is not None or device is not None or dtype is not None:
        raise InputError("widths, device, dtype: a model has its own; leave them out.")
    _check_protocol(protocol)
    return lambda seed: apply_protocol(source, protocol, seed), _of_model(source.linears[-1], protocol)


def _check_protocol(protocol: str) -> None:
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        raise InputError(
            f"protocol: expected one of {', '.join(PROTOCOLS)}, got {shown(protocol)}; to draw masks, pass their "
            "Network."
        )


def _of_graphons(network: Network, widths: Sequence[int]) -> _Readout:
    """Where :func:`build` takes them: at the units' positions and over the outputs' cells."""
    n, outputs = check_widths(network, widths)[-2:]
    edges = np.linspace(0, 1, outputs + 1)

    def rows(graphon: Graphon) -> FloatArray:
        if network.depth == 1:
            return graphon.cell_means(edges, np.linspace(0, 1, n + 1))
        return graphon.T.row_means(midpoints(n), edges).T

    last = network.layers[-1]
    bias = np.full((outputs, 1), network.bias_variances[-1])
    return _Readout(rows(last.mask), rows(last.variance), rows(last.drift), bias)


def _of_model(last: MaskedLinear, protocol: str) -> _Readout:
    mask = last.mask.double().cpu().numpy()
    squares, bias = mask, np.full((len(mask), 1), last.bias_variance)
    if protocol == "signs":
        squares = mask * (last.weight.detach().double().cpu().numpy() / last.dense_std) ** 2
        if last.bias is not None:
            bias = (last.bias_scale * last.bias.detach().double().cpu().numpy()[:, None]) ** 2
    return _Readout(mask, squares, np.zeros_like(mask), bias)


def _groups(law: _Readout) -> tuple[_Readout, NDArray[np.intp]]:
    """The different laws among the outputs, and which of them each output has."""
    _, first, groups = np.unique(np.concatenate(law, axis=1), axis=0, return_index=True, return_inverse=True)
    return _Readout(*(part[first] for part in law)), groups.reshape(-1)


@torch.no_grad()
def _features(model: MaskedMLP, x: Tensor) -> Tensor:
    """a^{L-1}, (N, n_{L-1})."""
    layers = model.linears
    return run(model.outline[:-1], x, lambda index, a: layers[index](a))


# Covariance (groups, N, N2) and means (groups, N), (groups, N2) of the outputs of one draw.
Moments = tuple[FloatArray, FloatArray, FloatArray]


def _integrated(last: MaskedLinear, law: _Readout, left: Tensor, right: Tensor) -> Moments:
    """Over the law of the last layer, given the features."""
    n = left.shape[1]
    unit = last.scale * last.dense_std  # sigma_w / sqrt(n)
    drift = torch.from_numpy(law.drift).to(left) * (unit / np.sqrt(n))
    variance = torch.from_numpy(law.variance - law.drift**2 / n).to(left) * unit**2
    bias = torch.from_numpy(law.bias).to(left)[:, :, None]
    covariance = torch.stack([(left * row) @ right.T for row in variance]) + bias
    return _arrays(covariance, drift @ left.T, drift @ right.T, left is right)


@torch.no_grad()
def _drawn(last: MaskedLinear, groups: NDArray[np.intp], left: Tensor, right: Tensor) -> Moments:
    """Over the outputs of every group, as they were drawn."""
    one = last(left).T
    two = one if left is right else last(right).T
    members = [torch.from_numpy(np.flatnonzero(groups == group)).to(one.device) for group in range(groups.max() + 1)]
    mean, mean2 = (torch.stack([f[chosen].mean(0) for chosen in members]) for f in (one, two))
    off = [(one[m] - a, two[m] - b) for m, a, b in zip(members, mean, mean2, strict=True)]
    covariance = torch.stack([a.T @ b / len(a) for a, b in off])
    return _arrays(covariance, mean, mean2, left is right)


def _arrays(covariance: Tensor, left: Tensor, right: Tensor, symmetric: bool) -> Moments:
    if symmetric:
        covariance = torch.tril(covariance) + torch.tril(covariance, -1).transpose(1, 2)
    return covariance.double().cpu().numpy(), left.double().cpu().numpy(), right.double().cpu().numpy()


class _Sums:
    """Running sums over draws of m, m', q = c + m m' and their products; all about the first draw's, for digits."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, c: FloatArray, left: FloatArray, right: FloatArray) -> None:
        if self.count == 0:
            self.origin = c, left, right
            self.sums = [np.zeros_like(part) for part in (left, right, c, left, right, c, c, c, c)]
        self.count += 1
        one, two = left - self.origin[1], right - self.origin[2]
        column, row = one[:, :, None], two[:, None, :]
        q = c - self.origin[0] + column * row
        for total, term in zip(
            self.sums, (one, two, q, one**2, two**2, column * row, q**2, q * column, q * row), strict=True
        ):
            total += term

    def estimates(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """(value, standard error) of mean, nngp and second_moment."""
        size = self.count
        one, two, q, *squares = (total / size for total in self.sums)
        column, row = one[:, :, None], two[:, None, :]
        ll, rr, lr, qq, ql, qr = (
            square - product
            for square, product in zip(
                squares, (one * one, two * two, column * row, q * q, q * column, q * row), strict=True
            )
        )

        def error(a: FloatArray, b: FloatArray) -> FloatArray:
            """Of the mean of q + a m' + m b', by its variance over draws; negative only by rounding."""
            variance = qq + b**2 * ll[:, :, None] + a**2 * rr[:, None, :] + 2 * (a * qr + b * ql + a * b * lr)
            return np.sqrt(np.maximum(variance, 0.0) / (size - 1))

        c, start, end = self.origin
        first, last = start[:, :, None], end[:, None, :]
        # the product of the two means is lr / (size - 1) above that of the expectations
        nngp = c + q - column * row + lr / (size - 1)
        second = c + q + first * row + column * last + first * last
        return {
            "mean": (start + one, np.sqrt(np.maximum(ll, 0.0) / (size - 1))),
            "nngp": (nngp, error(-column, -row)),
            "second_moment": (second, error(first, last)),
        }
