"""What the channel upstream of THEORY §10, which the limit of saliency pruning leaves out, is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import ndtr
from xarray import Dataset

from graphon_theory.arrays import FloatArray
from graphon_theory.data.files import save_dataset
from graphon_theory.networks.network import Network
from graphon_theory.pruning.saliency_networks import Labels, labelled_network
from graphon_validation.experiments.digits import digits
from graphon_validation.experiments.summaries import wide_console
from graphon_validation.kernels.empirical_kernels import empirical_kernel
from graphon_validation.networks.masked_mlps import dense
from graphon_validation.pruning.pruners import prune
from graphon_validation.training.losses import Data

BATCH, PROBES, HIDDEN = 200, 40, 3
_TINY = 1e-24  # variance from which a unit counts as sure
_RANK = 1e-10  # of the largest singular value


@dataclass(frozen=True)
class Forward:
    """What comes up one weight layer to an input itself, and goes on: arrays (positions, inputs).

    ``features``: C below the layer; ``slope``: Cdot of its units, which for ReLU is E[phi'] too.
    """

    mask: FloatArray
    variance: FloatArray
    features: FloatArray
    slope: FloatArray


def forward_layers(network: Network, x: FloatArray) -> list[Forward]:
    """The recursion of THEORY §10 in plain arrays, for a bias-free ReLU network of ``saliency_network`` and (x, x)."""
    features, means, found = x.T**2, x.T, []
    for number, (layer, sigma) in enumerate(zip(network.layers, network.weight_variance, strict=True)):
        mask, variance, drift = (np.asarray(g.values) for g in (layer.mask, layer.variance, layer.drift))  # type: ignore[attr-defined]
        senders = mask.shape[1]
        mu = np.sqrt(sigma) * drift @ means / senders
        k = sigma * variance @ features / senders
        if number == 0:
            k -= sigma * drift**2 @ features / senders**2
        if layer.known is not None:
            for profile in layer.known.profiles:
                k -= sigma * (np.asarray(profile.values) @ means / senders) ** 2  # type: ignore[attr-defined]
        root = np.sqrt(np.maximum(k, _TINY))
        share, density = ndtr(mu / root), np.exp(-((mu / root) ** 2) / 2) / np.sqrt(2 * np.pi)
        found.append(Forward(mask, variance, features, share))
        features, means = (mu**2 + root**2) * share + mu * root * density, mu * share + root * density
    return found


def traces(network: Network, labels: Labels, x: FloatArray, *, channel: bool) -> FloatArray:
    """Traces of NTK_l over the inputs, meaned over outputs, by weight layer; with or without the channel upstream.

    With Gamma_s(u) the orthonormal modes of the gradients above and d_v the coordinates of unit v's own gradient in
    them, hidden layers below the last get

        B^l(v) / Cdot^l(v) = sigma_w^2 int V(u,v) B^{l+1}(u) du + nu_v^2 - sum_s l_vs^2,
        l_vs = sigma_w int V(u,v) Gamma_s(u) j_u du,    nu_v = sum_s d_vs l_vs,    j_u = E[phi'(h_u)] nu_u,

    from nu_v = sigma_w m w_ov at the last one, at each input with itself.
    """
    layers, sigmas = forward_layers(network, x), network.weight_variance
    outputs, inputs = len(layers[-1].mask), len(x)
    own = [sigma * f.mask @ f.features / f.mask.shape[1] for f, sigma in zip(layers, sigmas, strict=True)]
    found = np.empty(len(layers))
    found[-1] = own[-1].sum() / outputs
    last = layers[-1]
    back = np.repeat(sigmas[-1] * last.variance.T[:, :, None], inputs, 2)  # (units, outputs, inputs)
    nu = np.repeat(np.sqrt(sigmas[-1]) * (last.mask * labels.back[-1]).T[:, :, None], inputs, 2)
    for number in range(len(layers) - 2, -1, -1):
        slope = layers[number].slope[:, None]
        back, mean = slope * back, slope * nu
        units = len(back)
        found[number] = (back * own[number][:, None]).sum() / (units * outputs)
        if number == 0:
            break
        variance, sigma = layers[number].variance, sigmas[number]
        flat, through = mean.reshape(units, -1), variance.T @ back.reshape(units, -1)
        back = sigma * through.reshape(-1, outputs, inputs) / units
        nu = np.zeros_like(back)
        if channel:
            modes, sizes, _ = np.linalg.svd(labels.gradients[number], full_matrices=False)
            modes = modes[:, sizes > _RANK * sizes[0]]
            coordinates = labels.back[number - 1].T @ modes
            scale = np.sqrt(sigma / units)
            for v, d in enumerate(coordinates):
                shares = scale * (variance[:, v, None] * modes).T @ flat
                nu[v] = (d @ shares).reshape(outputs, inputs)
                back[v] += nu[v] ** 2 - (shares**2).sum(0).reshape(outputs, inputs)
    return found


def upstream_experiment(
    out: Path,
    densities: Sequence[float],
    widths: Sequence[int],
    seeds: int,
    *,
    hidden: int = HIDDEN,
    networks: bool = False,
    positions: int = 512,
    data: Data | None = None,
    console: Console | None = None,
) -> Dataset:
    """What the channel upstream adds to the trace of ``gt.saliency_network``, which has it at the last layer alone.

    Bias-free ReLU with ``hidden`` hidden layers pruned on 200 digits, cross-entropy, kernels of 40 others; ``seeds``
    limits with positions of their own for each width and density. Prints a table, writes ``upstream.nc``.

    Returns a Dataset over "density", "width" and "seed": ``added``, the share of the trace that the channel adds;
    and with "layer" ``factor``, what it multiplies the layer's own trace by. With ``networks`` as many are drawn and
    pruned, and over "density", "width" and "layer" there are ``ratio``, their mean trace over that of limits without
    the channel, ``ratio_with`` over that with it, and the errors ``ratio_error`` and ``ratio_with_error``.
    """
    console = console or wide_console()
    x, labels = digits() if data is None else data
    batch, probe = x[:BATCH], x[BATCH : BATCH + PROBES]
    classes = int(labels.max()) + 1
    unpruned = Network([1.0] * (hidden + 1), outputs=classes)
    both = np.empty((2, len(densities), len(widths), seeds, hidden + 1))
    own = np.empty(both.shape[1:])
    for where in np.ndindex(*both.shape[1:4]):
        density, width, seed = densities[where[0]], widths[where[1]], where[2]
        counts = (x.shape[1], *[width] * hidden, classes)
        rng = np.random.default_rng([seed, width])
        limit, drawn = labelled_network(unpruned, batch, labels[:BATCH], density, counts, positions=positions, rng=rng)
        both[(slice(None), *where)] = [traces(limit, drawn, probe, channel=channel) for channel in (False, True)]
        if networks:
            model = prune(dense(counts, [seed, width]), "snip", density, (batch, labels[:BATCH]))
            kernels = empirical_kernel(model, probe, per_layer=True).ntk_layer.transpose("layer", "output", "x", "x2")
            own[where] = np.einsum("loii->l", kernels.values) / classes
    over = ("density", "width", "seed")
    without, with_it = both.sum(-1)
    found = Dataset(
        {"added": (over, with_it / without - 1), "factor": ((*over, "layer"), both[1] / both[0])},
        {"density": list(densities), "width": list(widths), "layer": range(1, hidden + 2)},
        {"positions": positions, "hidden": hidden},
    )
    if networks:
        for name, limits in (("ratio", both[0]), ("ratio_with", both[1])):
            ratio, error = ratios(own, limits)
            found[name], found[f"{name}_error"] = (
                (("density", "width", "layer"), ratio),
                (("density", "width", "layer"), error),
            )
    save_dataset(found, out / "upstream.nc")
    table = Table(title=f"the channel upstream, {seeds} limits each", caption="added to the trace; factor by layer")
    for heading in ("density", "width", "added ± error", *(f"layer {n}" for n in range(1, hidden + 2))):
        table.add_column(heading, justify="right")
    for density in densities:
        for width in widths:
            row = found.sel(density=density, width=width)
            error = float(row.added.std("seed", ddof=1)) / seeds**0.5
            cells = [f"{factor:.3f}" for factor in row.factor.mean("seed").values]
            table.add_row(f"{density:g}", f"{width:,}", f"{float(row.added.mean()):+.2%} ± {error:.2%}", *cells)
            for name, title in (("ratio", "own / limit"), ("ratio_with", "with the channel")) if networks else ():
                pairs = zip(row[name].values, row[f"{name}_error"].values, strict=True)
                table.add_row("", "", title, *(f"{value:.2f} ± {error:.2f}" for value, error in pairs))
    console.print(table)
    return found


def ratios(own: FloatArray, limits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean over mean over seeds, the axis before the last, and its error."""
    ratio = own.mean(-2) / limits.mean(-2)
    parts = [values.std(-2, ddof=1) / values.mean(-2) / np.sqrt(values.shape[-2]) for values in (own, limits)]
    return ratio, np.abs(ratio) * np.hypot(*parts)
