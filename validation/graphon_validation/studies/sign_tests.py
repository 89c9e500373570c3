"""Does (W, V) apply to these masks? The test of THEORY §10 on one network, in numbers and words."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from rich.table import Table
from torch import Tensor
from xarray import DataArray, Dataset

from graphon_theory.data import labels
from graphon_theory.data.checks import MOST_DRAWS, checked_dataset, whole_number
from graphon_theory.errors import InputError, NetworkError, shown
from graphon_theory.networks.stages import Fork, Join, Phi, Weights
from graphon_validation.networks.masked_layers import MaskedLinear
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor, checked_model, layer_moments
from graphon_validation.networks.torch_activations import torch_activation
from graphon_validation.studies.tables import table_of

# The verdicts, from harmless to hopeless.
PASSES = "(W, V) applies"
DRIFTS = "drift or saliency theory"
NO_LIMIT = "no limit kernel"
VERDICTS = (PASSES, DRIFTS, NO_LIMIT)

_FLAGGED = 3.0  # |z|
_ALIGNED = 1 / 3  # exponent of the signal's growth read off one network
_GROWING = 1 / 2  # exponent of gain - 1 between two widths: 0 is what a limit allows, 1 what signs by position give
_SURE = 2.0  # errors by which that exponent is told from it
_ENTRIES = 1 << 23  # weights whose signs are redrawn at a time


@dataclass(frozen=True)
class LayerSignal:
    """What one hidden layer shows (see :func:`applicability`).

    ``deviation``: the distance of its sum from the mean over signs in standard deviations; ``z``: the normal score of
    the same, which knows that the sum is skewed.
    """

    a: float
    a_error: float
    deviation: float
    z: float
    gain: float
    gain_error: float
    ceiling: float


def applicability(
    model: MaskedMLP,
    x: ArrayLike | DataArray,
    *,
    other: MaskedMLP | None = None,
    initial: MaskedMLP | None = None,
    redraws: int = 64,
    seed: int = 0,
) -> Dataset:
    """Hold each hidden layer's signal against the same weights with their signs drawn again (THEORY §10).

    For layer l, with c_i = sum_k (m w^2)_ki of the layer above and sums over the probe inputs ``x`` (N, d),

        A_l = sum_i c_i phi(h_i)^2 / E sum_i c_i phi(h_i)^2,    the mean over the signs of layer l's parameters.

    Masks that do not know the signs give A = 1 within sampling, and then, for one layer given those below, the
    network is one of the redrawn ones: ``z`` is that draw's normal score. Units are independent under redrawn
    signs, so mean, variance and skewness of the sum come from ``redraws`` of each unit; a lognormal law with these
    moments turns them into a score (the sum is skewed, and a plain z would flag twice as many sound layers).

    ``gain`` = sum c h^2 / sum c K, K the variance of h over signs: 1 for random signs, ``ceiling`` if all terms of
    every h had one sign. Drift at the scale that has a limit keeps gain = O(1) while the ceiling grows like the
    fan-in; a mask that picks signs by position makes gain grow like the ceiling. ``alignment`` = log gain / log
    ceiling is the exponent read off one network, 0 or 1 in wide ones.

    With ``other``, a network of another width pruned in the same way, two exponents in the fan-in n_{l-1} are measured
    with their errors: ``growth`` of A, which bounded activations keep from growing, and ``gain_growth`` of gain - 1,
    by which is decided: with a limit gain - 1 tends to a constant and its exponent to 0, where masks pick signs by
    position it grows like n. (NaN where neither gain differs from 1 by three errors: nothing is there to grow.) The
    first layer's fan-in is d, which does not grow.

    Verdicts ``verdict`` (per layer; the worst is attrs["verdict"]):

    - |z| < 3: "(W, V) applies";
    - otherwise, if l > 1 and the masks pick signs by position, "no limit kernel". With ``other`` that is gain_growth
      > 1/2, where it is told from 1/2 by two errors; else, and for one network, alignment > 1/3;
    - otherwise "drift or saliency theory". A then is about the layer's factor in the trace error of (W, V).

    One network's alignment is an indication: in small layers both regimes meet. Where two widths decide otherwise than
    it, or cannot, attrs["reason"] says so, layer by layer (else it is empty).

    Training alone, of random masks that nobody rewires, makes weights know each other, and the test sees it: it looks
    at weights, not at masks. With ``initial``, the network as it was before training, its weights are tested under the
    masks of ``model``, and attrs["cause"] is "none", "masks" where these fail too with the same verdict or a worse one,
    "training" where they pass, else "masks and training".

    With stages, every activation is looked at, under the number of the weight layer before it: the signs of all layers
    whose sums reach it over shortcuts are drawn again, while a LayerNorm keeps the moments that the network has.

    Returns a Dataset over "layer" (1..L-1 in plain networks): A, A_error (units as a sample), z, gain, gain_error,
    ceiling, alignment, verdict (, growth, growth_error, gain_growth, gain_growth_error).

    Raises NetworkError for a network without hidden layers or with a hidden layer that passes nothing on, InputError
    for inputs that do not fit or fewer than 8 ``redraws``.
    """
    checked_model(model)
    expected = "a whole number of at least 8, for a variance and a skewness,"
    redraws = whole_number("redraws", redraws, 8, MOST_DRAWS, expected=expected)
    seed = whole_number("seed", seed, 0, 2**63 - 1)
    if other is not None:
        checked_model(other, "other")
    found = layer_signals(model, x, redraws, seed)
    variables = {
        "A": [one.a for one in found],
        "A_error": [one.a_error for one in found],
        "z": [one.z for one in found],
        "gain": [one.gain for one in found],
        "gain_error": [one.gain_error for one in found],
        "ceiling": [one.ceiling for one in found],
        "alignment": [_alignment(one) for one in found],
    }
    limitless = alone = [value > _ALIGNED for value in variables["alignment"]]
    exponents: list[_Exponent | None] = [None] * len(found)
    if other is not None:
        pairs = list(zip(found, layer_signals(other, x, redraws, seed), strict=False))
        steps = _steps(model, other)
        variables["growth"] = [math.log(one.a / two.a) / step for (one, two), step in zip(pairs, steps, strict=True)]
        variables["growth_error"] = [
            math.hypot(one.a_error / one.a, two.a_error / two.a) / abs(step)
            for (one, two), step in zip(pairs, steps, strict=True)
        ]
        exponents = [_gain_growth(*pair, step) for pair, step in zip(pairs, steps, strict=True)]
        variables["gain_growth"] = [math.nan if one is None else one.value for one in exponents]
        variables["gain_growth_error"] = [math.nan if one is None else one.error for one in exponents]
        limitless = [
            one is not None and (one.value > _GROWING if one.sure else lone)
            for one, lone in zip(exponents, alone, strict=True)
        ]
    verdicts = [
        PASSES if abs(one.z) < _FLAGGED else NO_LIMIT if gate.source > 0 and grows else DRIFTS
        for gate, one, grows in zip(_gates(model), found, limitless, strict=True)
    ]
    return labels.dataset(
        {
            **{name: ((labels.LAYER,), np.array(values)) for name, values in variables.items()},
            "verdict": ((labels.LAYER,), np.array(verdicts)),
        },
        {labels.LAYER: np.array([gate.number for gate in _gates(model)])},
        {
            "verdict": max(verdicts, key=VERDICTS.index),
            "reason": _reason(_gates(model), verdicts, exponents, alone) if other is not None else "",
            **({} if initial is None else {"cause": _cause(model, initial, verdicts, x, redraws, seed)}),
            "redraws": redraws,
            "widths": list(model.widths),
        },
    )


class _Exponent(NamedTuple):
    value: float
    error: float

    @property
    def sure(self) -> bool:
        """Whether it is told from what decides."""
        return abs(self.value - _GROWING) > _SURE * self.error


def _gain_growth(one: LayerSignal, two: LayerSignal, step: float) -> _Exponent | None:
    """The exponent of gain - 1 between two fan-ins; None where neither gain differs from 1."""
    if math.isinf(step):
        return _Exponent(0.0, 0.0)
    if all(each.gain - 1 < 3 * each.gain_error for each in (one, two)):
        return None
    # a gain that is 1 within its error is taken as the error: the exponent is the least that is sure
    excess = [max(each.gain - 1, each.gain_error) for each in (one, two)]
    error = math.hypot(*(each.gain_error / size for each, size in zip((one, two), excess, strict=True)))
    return _Exponent(math.log(excess[0] / excess[1]) / step, error / abs(step))


def _reason(gates: list[Weights], verdicts: list[str], exponents: list[_Exponent | None], alone: list[bool]) -> str:
    """Where two widths and one network do not say the same, and why."""
    parts = []
    for gate, verdict, one, lone in zip(gates, verdicts, exponents, alone, strict=True):
        if verdict == PASSES or gate.source == 0:
            continue
        if one is None:
            parts.append(f"layer {gate.number}: A is not 1, but no gain is, so that nothing grows with the width")
        elif not one.sure:
            parts.append(
                f"layer {gate.number}: gain - 1 grows like n^({one.value:.2f} +- {one.error:.2f}), not told from "
                f"{_GROWING:g}, so that the alignment of one network decided"
            )
        elif lone != (verdict == NO_LIMIT):
            other = NO_LIMIT if lone else DRIFTS
            parts.append(
                f"layer {gate.number}: gain - 1 grows like n^({one.value:.2f} +- {one.error:.2f}); one network's "
                f'alignment alone would say "{other}"'
            )
    return "; ".join(parts)


def _cause(
    model: MaskedMLP, initial: MaskedMLP, verdicts: list[str], x: ArrayLike | DataArray, redraws: int, seed: int
) -> str:
    """What made the test fail: masks that also reject the weights at the start, training that did, or both."""
    checked_model(initial, "initial")
    if initial.widths != model.widths or [type(a) for a in initial.outline] != [type(a) for a in model.outline]:
        raise NetworkError(
            f"initial: expected the network before training, widths {model.widths}, got {initial.widths}."
        )
    worst = max(verdicts, key=VERDICTS.index)
    if worst == PASSES:
        return "none"
    start = copy.deepcopy(initial)
    for mask, now in zip(start.masks, model.masks, strict=True):
        mask.copy_(now)
    before = str(applicability(start, x, redraws=redraws, seed=seed).attrs["verdict"])
    if before == PASSES:
        return "training"
    return "masks" if VERDICTS.index(before) >= VERDICTS.index(worst) else "masks and training"


def applicability_table(found: Dataset, title: str) -> Table:
    """What :func:`applicability` found, for the terminal. Raises InputError for anything else."""
    if not isinstance(title, str):
        raise InputError(f"title: expected text, got {shown(title)}.")
    growth = ("gain_growth", "gain_growth_error") if "gain_growth" in getattr(found, "data_vars", ()) else ()
    numbers = ("A", "A_error", "z", "gain", "ceiling", "alignment", *growth)
    checked_dataset("found", found, dict.fromkeys(numbers, (labels.LAYER,)), "gv.applicability")
    if "verdict" not in found.attrs or labels.LAYER not in found.coords or "verdict" not in found:
        raise InputError("found: expected the Dataset that gv.applicability returns, with its layers and verdict.")
    said = [f"verdict: {found.attrs['verdict']}", *(str(found.attrs.get(name, "")) for name in ("reason",))]
    if found.attrs.get("cause"):
        said.append(f"cause: {found.attrs['cause']}")
    grown = ("growth of gain - 1",) if growth else ()
    heads = ("hidden layer", "A ± error", "z", "gain of ceiling", "alignment", *grown, "verdict")
    caption = "; ".join(filter(None, said))
    table = table_of(f"Does (W, V) apply? {title}", heads, words=["verdict"], caption=caption)
    for number in found[labels.LAYER].values:
        row = found.sel(layer=number)
        table.add_row(
            str(number),
            f"{float(row.A):.3g} ± {float(row.A_error):.2g}",
            f"{float(row.z):+.1f}",
            f"{float(row.gain):.3g} of {float(row.ceiling):.3g}",
            f"{float(row.alignment):.2f}",
            *((f"{float(row.gain_growth):+.2f} ± {float(row.gain_growth_error):.2f}",) if grown else ()),
            str(row.verdict.values),
        )
    return table


def normal_score(value: float, mean: float, variance: float, third: float, rounding: float = 1e-12) -> float:
    """The z whose normal probability is that of ``value`` under a lognormal of these moments.

    Mean, variance and third central moment of a sum of positive terms. The law is shifted to fit the third moment,
    but never so that it starts above 0, where the sum cannot fall. Deviations below ``rounding`` of the mean are none.
    """
    if mean <= 0 or variance <= (rounding * mean) ** 2:
        off = value - mean
        return 0.0 if abs(off) <= rounding * max(abs(value), abs(mean)) else math.copysign(math.inf, off)
    t, spread = (value - mean) / math.sqrt(variance), math.sqrt(variance) / mean
    skewness = min(third / variance**1.5, 3 * spread + spread**3)
    if skewness < 1e-6:
        return t
    s = 2 * math.sinh(math.asinh(skewness / 2) / 3)  # s^3 + 3 s = skewness, s^2 = exp(tau^2) - 1
    rest = 1 + s * t
    square = math.log1p(s * s)
    return (math.log(rest) + square / 2) / math.sqrt(square) if rest > 0 else -math.inf


def _alignment(layer: LayerSignal) -> float:
    return math.log(layer.gain) / math.log(layer.ceiling) if layer.ceiling > 1 else 0.0


def _steps(model: MaskedMLP, other: MaskedMLP) -> list[float]:
    """log(n / n') of the fan-ins before every activation; inf where these are the inputs, and nothing can grow."""
    if [type(part) for part in model.outline] != [type(part) for part in other.outline] or (
        other.widths[0] != model.widths[0]
    ):
        raise NetworkError(
            f"other: expected a network as deep, with as many inputs, got widths {other.widths} beside {model.widths}."
        )
    steps = []
    for one, two in zip(_gates(model), _gates(other), strict=True):
        if one.source == 0:
            steps.append(math.inf)
            continue
        if model.widths[one.source] == other.widths[two.source]:
            raise NetworkError(f"other: expected other hidden widths, got {other.widths} beside {model.widths}.")
        steps.append(math.log(model.widths[one.source] / other.widths[two.source]))
    return steps


def _gates(model: MaskedMLP) -> list[Weights]:
    """The last weight layer before every activation."""
    last, found = None, []
    for part in model.outline:
        last = part if isinstance(part, Weights) else last
        if isinstance(part, Phi) and last is not None:
            found.append(last)
    return found


class _Term(NamedTuple):
    """A weight layer's share of a field: ``factor`` (1, N), or one number, times W a + bias."""

    layer: MaskedLinear
    a: Tensor
    factor: Tensor | float


class _Field(NamedTuple):
    """Pre-activations h (units, N), the sum of their terms and of what a LayerNorm took off."""

    h: Tensor
    terms: tuple[_Term, ...]
    shift: Tensor | float

    def scaled(self, factor: Tensor | float, shift: Tensor | float) -> _Field:
        terms = tuple(term._replace(factor=term.factor * factor) for term in self.terms)
        return _Field(self.h * factor + shift, terms, self.shift * factor + shift)

    def plus(self, other: _Field) -> _Field:
        return _Field(self.h + other.h, self.terms + other.terms, self.shift + other.shift)


class _Gate(NamedTuple):
    """An activation: its field, what the next layer reads of pre-activations, and that layer's mass c of every unit."""

    number: int
    field: _Field
    reads: Callable[[Tensor], Tensor]
    mass: Tensor


def _gates_met(model: MaskedMLP, x: Tensor) -> Iterator[_Gate]:
    """Every activation as the signals of ``x`` (d, N) meet it."""
    layers = model.linears
    signal, field = x, _Field(x, (), 0.0)
    waiting: tuple[int, _Field, Callable[[Tensor], Tensor]] | None = None
    kept: list[_Field] = []
    number = 0
    for part in model.outline:
        if isinstance(part, Weights):
            layer = layers[part.number - 1]
            if waiting is not None:
                yield _Gate(*waiting, layer.effective_weight().square_().sum(0))
                waiting = None
            h = layer.effective_weight() @ signal
            if layer.bias is not None:
                h += (layer.bias_scale * layer.bias)[:, None]
            number, field = part.number, _Field(h, (_Term(layer, signal, 1.0),), 0.0)
        elif isinstance(part, Phi):
            phi = torch_activation(part.activation)
            signal, waiting = phi(field.h), (number, field, phi)
        elif isinstance(part, Fork):
            kept.append(field)
        elif isinstance(part, Join):
            field = kept.pop().plus(field.scaled(part.scale, 0.0))
        else:
            mean, deviation = layer_moments(part, field.h if part.before else signal, 0)
            if part.before:
                field = field.scaled(1 / deviation, -mean / deviation)
            elif waiting is not None:
                signal, waiting = (signal - mean) / deviation, (*waiting[:2], _normed(waiting[2], mean, deviation))


def _normed(phi: Callable[[Tensor], Tensor], mean: Tensor, deviation: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda h: (phi(h) - mean) / deviation


@torch.no_grad()
def layer_signals(model: MaskedMLP, x: ArrayLike | DataArray, redraws: int = 64, seed: int = 0) -> list[LayerSignal]:
    """What :func:`applicability` reads off every activation, under its name."""
    if not model.activations:
        raise NetworkError("model: a network without hidden layers has no gates that could know their masks.")
    a = as_tensor(model, x, "x").T.contiguous()
    generator = torch.Generator(a.device).manual_seed(seed)
    found = []
    for number, field, reads, mass in _gates_met(model, a):
        own = mass * reads(field.h).square().sum(1)
        moments, variance, ceiling = _redrawn(field, reads, mass, redraws, generator)
        mean, second, third = moments.T.double()
        expected = float(mean.sum())
        numbers = torch.stack([own, variance.to(own), (mass * field.h.square().sum(1)).to(own)])
        if not math.isfinite(expected) or not bool(torch.isfinite(numbers).all()):
            raise NetworkError(
                f"model: signals of hidden layer {number} are not finite; look for weights or inputs that overflow."
            )
        total_variance = float(variance.sum())
        if expected == 0 or total_variance == 0:
            raise NetworkError(
                f"model: hidden layer {number} takes in or passes on nothing (collapsed layers, or inputs all zero)."
            )
        ratio = float(own.double().sum()) / expected
        spread = own.double() - ratio * mean
        total, around = float(own.double().sum()), float(second.sum()) * (1 + 1 / redraws)
        rounding = 1e3 * torch.finfo(a.dtype).eps
        squares = mass * (field.h - field.shift).square().sum(1)
        gain = float(squares.sum()) / total_variance
        found.append(
            LayerSignal(
                ratio,
                float(spread.square().sum().sqrt()) / expected,
                normal_score(total, expected, around, 0.0, rounding),
                normal_score(total, expected, around, float(third.sum()), rounding),
                gain,
                float((squares - gain * variance).square().sum().sqrt()) / total_variance,
                float(ceiling) / total_variance,
            )
        )
    return found


def _redrawn(
    field: _Field, reads: Callable[[Tensor], Tensor], mass: Tensor, redraws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """(moments (units, 3) of c phi(h)^2 over signs, c K (units,), sum of c (sum_j |w_ij a_j|)^2)."""
    layers = [(term, term.layer.effective_weight().abs_(), _sizes_of_biases(term.layer)) for term in field.terms]
    moments = []
    variances, ceiling = [], mass.new_zeros(())
    height = max(1, _ENTRIES // max(size.shape[1] for _, size, _ in layers))
    for start in range(0, len(mass), height):
        rows = slice(start, start + height)
        c = mass[rows]
        parts = [(term, size[rows], None if bias is None else bias[rows]) for term, size, bias in layers]
        squares, sums = field.h.new_zeros(len(c), field.h.shape[1]), field.h.new_zeros(len(c), field.h.shape[1])
        for term, w, b in parts:
            square, total = w.square() @ term.a.square(), w @ term.a.abs()
            if b is not None:
                square += b**2
                total += b
            squares += (term.factor * square).mul_(term.factor)
            sums += total * (term.factor.abs() if isinstance(term.factor, Tensor) else abs(term.factor))
        variances.append(c * squares.sum(1))
        ceiling += (c * sums.square().sum(1)).sum()
        drawn = []
        for _ in range(redraws):
            h = torch.zeros_like(squares)
            for term, w, b in parts:
                share = (_signs(w, generator) * w) @ term.a
                if b is not None:
                    share += _signs(b, generator) * b
                h += term.factor * share
            drawn.append(c * reads(h + field.shift).square().sum(1))
        values = torch.stack(drawn)
        off = values - values.mean(0)
        r = redraws
        moments.append(
            torch.stack(
                [
                    values.mean(0),
                    off.square().sum(0) / (r - 1),
                    (off**3).sum(0) * r / ((r - 1) * (r - 2)),  # unbiased, like the variance
                ],
                dim=1,
            )
        )
    return torch.cat(moments), torch.cat(variances), ceiling


def _sizes_of_biases(layer: MaskedLinear) -> Tensor | None:
    return None if layer.bias is None else (layer.bias_scale * layer.bias).abs()[:, None]


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty_like(like).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
