"""Masked networks, and how they are drawn from a Network (THEORY §1, §2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from xarray import DataArray

from graphon_theory.activations.activation import as_activation
from graphon_theory.arrays import FloatArray
from graphon_theory.data import checks
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import ConnectivityError, InputError, NetworkError, shown, shown_text
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Fork, Join, Norm, Outline, Phi, Weights, plain_outline
from graphon_theory.networks.unit_values import Evaluator, check_widths, midpoints, unit_values
from graphon_theory.pruning.laws import INITS
from graphon_validation.networks.masked_layers import MaskedLinear
from graphon_validation.networks.torch_activations import TorchActivation, torch_activation

Seed = int | Sequence[int] | np.random.SeedSequence | np.random.Generator

# Entries of a layer drawn at a time: probabilities, uniforms and normals of a wide layer never exist at once.
_CHUNK = 1 << 21


class MaskedMLP(nn.Module):
    """A multilayer perceptron of MaskedLinear layers; phi after each but the last, or as an ``outline`` says.

    ``activation``: a name or an Activation, or one for every layer but the last. ``outline``: the parts that signals
    pass (``graphon_theory/networks/stages.py``: weight layers by number, activations, forks and joins of residual
    branches, LayerNorms), with activations of their own; None: weight layers with activations between them.

    ``positions[p]`` holds the positions in [0, 1] of the units of layer p, from the inputs, 0, to the outputs: one
    position per unit, which is its row in masks below it and its column in masks above it. Inputs and outputs are
    cells, and their positions are the middles.

    Raises NetworkError when the layers do not fit on each other, ActivationError for an unknown activation.
    """

    def __init__(
        self,
        layers: Sequence[MaskedLinear],
        activation: Any = "relu",
        positions: Sequence[FloatArray] | None = None,
        outline: Outline | None = None,
    ) -> None:
        super().__init__()
        listed = list(layers) if isinstance(layers, list | tuple | nn.ModuleList | nn.Sequential) else []
        if not listed or not all(isinstance(layer, MaskedLinear) for layer in listed):
            kinds = ", ".join(type(layer).__name__ for layer in listed) or shown(layers)
            raise NetworkError(f"layers: expected a list of MaskedLinear layers, at least one, got {kinds}.")
        layers = listed
        if outline is None:
            several = isinstance(activation, Sequence) and not isinstance(activation, str)
            if several and len(activation) != len(layers) - 1:
                wanted = len(layers) - 1
                raise NetworkError(f"activation: expected {wanted}, one between layers, got {len(activation)}.")
            given = list(activation) if several else [activation] * max(1, len(layers) - 1)
            for one in given:
                torch_activation(one)  # refuses what torch does not know
            named = [as_activation(one if isinstance(one, str) else one.name) for one in given]
            outline = plain_outline(named[: len(layers) - 1])
            self.default_activation: str = named[0].name
        else:
            for part in outline:
                if isinstance(part, Phi):
                    torch_activation(part.activation)
            self.default_activation = next((part.activation.name for part in outline if isinstance(part, Phi)), "relu")
        self.outline = outline
        self.widths = _unit_counts(layers, outline)
        self.layers = nn.ModuleList(layers)
        self.positions = tuple(map(midpoints, self.widths) if positions is None else _positions(positions, self.widths))

    @property
    def activations(self) -> tuple[str, ...]:
        """The names of the activations in the order in which signals meet them."""
        return tuple(part.activation.name for part in self.outline if isinstance(part, Phi))

    @property
    def activation(self) -> str:
        """The one activation's name; NetworkError where there are several, which are in ``activations``."""
        if len(set(self.activations)) > 1:
            raise NetworkError(f"model: one activation is asked for, and this network has several: {self.activations}.")
        return self.default_activation

    @property
    def phi(self) -> TorchActivation:
        """The torch function of ``activation``."""
        return torch_activation(self.activation)

    @property
    def is_plain(self) -> bool:
        """Whether weight layers and activations alternate."""
        return not any(isinstance(part, Fork | Norm) for part in self.outline)

    @property
    def linears(self) -> list[MaskedLinear]:
        """The weight layers in the order in which signals meet them, with their type known."""
        return [layer for layer in self.layers if isinstance(layer, MaskedLinear)]

    @property
    def masks(self) -> list[Tensor]:
        """The masks, bool (out, in); changing one in place changes the network."""
        return [layer.mask for layer in self.linears]

    @property
    def weights(self) -> list[Tensor]:
        """The weight parameters (out, in), unmasked: a pruned weight keeps its value and gets no
        gradient."""
        return [layer.weight for layer in self.linears]

    def forward_with(self, x: Tensor, products: Sequence[Tensor]) -> Tensor:
        """The outputs with ``products`` in place of every layer's masked weight M * w.

        Derivatives by them exist for pruned connections too, which the masked parameters never see.
        """
        layers = self.linears

        def linear(index: int, a: Tensor) -> Tensor:
            layer = layers[index]
            bias = None if layer.bias is None else layer.bias_scale * layer.bias
            return nn.functional.linear(a * layer.scale, products[index], bias)

        return run(self.outline, x, linear)

    def forward(self, x: Tensor) -> Tensor:
        layers = self.linears
        return run(self.outline, x, lambda index, a: layers[index](a))


Moments = Callable[[Norm, Tensor, int], tuple[Tensor, Tensor]]


def layer_moments(part: Norm, x: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Mean over the layer's units, and sqrt(variance + epsilon)."""
    return x.mean(axis, keepdim=True), (x.var(axis, unbiased=False, keepdim=True) + part.epsilon).sqrt()


def run(
    outline: Outline,
    x: Tensor,
    linear: Callable[[int, Tensor], Tensor],
    axis: int = -1,
    moments: Moments = layer_moments,
) -> Tensor:
    """Signals ``x``, units along ``axis``, through all parts; ``linear(index, a)`` is weight layer index = 0..L-1.

    ``moments``: mean and deviation by which a LayerNorm centres and divides.
    """
    kept: list[Tensor] = []
    for part in outline:
        if isinstance(part, Weights):
            x = linear(part.number - 1, x)
        elif isinstance(part, Phi):
            x = torch_activation(part.activation)(x)
        elif isinstance(part, Fork):
            kept.append(x)
        elif isinstance(part, Join):
            x = kept.pop() + part.scale * x
        else:
            mean, deviation = moments(part, x, axis)
            x = (x - mean) / deviation
    return x


def _unit_counts(layers: Sequence[MaskedLinear], outline: Outline) -> tuple[int, ...]:
    """Of every layer of units, from the inputs to the outputs."""
    counts: dict[int, tuple[int, int]] = {}
    parts = [part for part in outline if isinstance(part, Weights)]
    if len(parts) != len(layers):
        raise NetworkError(f"layers: expected {len(parts)}, the weight layers of the outline, got {len(layers)}.")
    for part, layer in zip(parts, layers, strict=True):
        n_out, n_in = layer.weight.shape
        for place, count, verb in ((part.source, n_in, "takes"), (part.place, n_out, "has")):
            other, number = counts.setdefault(place, (count, part.number))
            if other != count:
                raise NetworkError(f"layers: layer {number} has {other} units, but layer {part.number} {verb} {count}.")
    return tuple(counts[place][0] for place in sorted(counts))


def _positions(positions: Any, widths: Sequence[int]) -> Iterator[FloatArray]:
    expected = f"positions in [0, 1] of all units, arrays of lengths {tuple(widths)}"
    if not isinstance(positions, Sequence) or len(positions) != len(widths):
        raise NetworkError(f"positions: expected {expected}, got {shown(positions)}.")
    for layer, (one, count) in enumerate(zip(positions, widths, strict=True)):
        array = checks.real_array(f"positions[{layer}]", one, error=NetworkError, expected=expected).astype(float)
        if array.shape != (count,) or not ((array >= 0) & (array <= 1)).all():
            raise NetworkError(f"positions[{layer}]: expected {expected}, got {shown(array)}.")
        yield array


def checked_model(model: Any, name: str = "model") -> MaskedMLP:
    """The model itself. Raises InputError for anything but a MaskedMLP."""
    hint = "pass gv.from_torch(model), or draw one by gv.build or gv.dense"
    return checks.instance(name, model, MaskedMLP, hint)


def checked_network(network: Any, name: str = "network") -> Network:
    """The network itself. Raises NetworkError for anything but a Network."""
    return checks.instance(name, network, Network, "wrap layers in gt.Network", error=NetworkError)


def checked_place(device: Any, dtype: Any) -> torch.dtype:
    """The dtype, float64 if left out. Raises InputError for what is none, and for a device that is not there."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype: expected a torch dtype of real numbers, such as torch.float32, got {shown(dtype)}.")
    try:
        if not (device is None or isinstance(device, str | int | torch.device)):
            raise TypeError("no name of a device")
        torch.empty(0, device=device)
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"device: expected one that torch has here, such as 'cpu', got {shown(device)} ({shown_text(str(error))})."
        ) from None
    return dtype or torch.float64


def choose_trained(model: MaskedMLP, parts: Sequence[str]) -> MaskedMLP:
    """Say which parameters train, one of "all", "weights", "biases", "none" for each layer; in place.

    Sets ``requires_grad``: what does not train has no share in :func:`empirical_kernel` and stays in training.
    In the limit, ``limit_kernel(..., contributions=True).ntk_layer`` holds each layer's share.

    Raises InputError for other words, or where they are not one a layer.
    """
    choices = {"all": (True, True), "weights": (True, False), "biases": (False, True), "none": (False, False)}
    layers = checked_model(model).linears
    listed = isinstance(parts, list | tuple) and all(isinstance(part, str) for part in parts)
    if not listed or len(parts) != len(layers) or not set(parts) <= set(choices):
        raise InputError(
            f"parts: expected {len(layers)} of {', '.join(choices)}, one for each layer, got {shown(parts)}."
        )
    for layer, part in zip(layers, parts, strict=True):
        weights, biases = choices[part]
        layer.weight.requires_grad_(weights)
        if layer.bias is not None:
            layer.bias.requires_grad_(biases)
    return model


def as_tensor(
    model: MaskedMLP, x: ArrayLike | DataArray, name: str, like: ArrayLike | DataArray | None = None
) -> Tensor:
    """Inputs (N, d) in the model's dtype and on its device, columns labelled as those of ``like`` are.

    Raises InputError where they do not fit.
    """
    checked_model(model)
    array = checks.as_inputs(x, name, like=like)
    if array.shape[1] != model.widths[0]:
        raise InputError(
            f"{name}: the network takes {model.widths[0]} inputs, got {array.shape[1]} columns; "
            "build the network with n_0 equal to the number of columns."
        )
    weight = model.weights[0]
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(weight.device, weight.dtype)


def build(
    network: Network,
    widths: Sequence[int],
    seed: Seed,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    *,
    masks: Sequence[ArrayLike] | None = None,
) -> MaskedMLP:
    """Draw one finite network from the (W, V, D) of every layer.

    ``widths`` are all unit counts (n_0, ..., n_L). Hidden units sit at (i + 1/2)/n, one position for both
    of a unit's masks; inputs and outputs are cells, over which W, V and D are averaged. Connections survive
    independently with probability W; the surviving weights are Gaussian with

        mean D / (sqrt(n_{l-1}) W)   and   second moment V / W

    in units of the dense standard deviation (1, or sigma_w/sqrt(n_{l-1}) in the standard parameterization),
    so N(0, V/W) without drift and N(0, 1) for V = W. Pruned weights are drawn from the dense law: they take
    no part. With ``masks``, one (n_l, n_{l-1}) of booleans a layer, these are the connections that survive (those of
    ``gt.sample_masks``, which meet budgets exactly), and weights are drawn as above.

    The same seed gives the same network on every device; each layer's mask, weights and biases have streams
    of their own, so changing one leaves the others as they were. float64 unless ``dtype`` says otherwise.

    Raises NetworkError when ``widths`` or ``masks`` do not fit the network, ConnectivityError where D^2 > n_{l-1} W V
    (the width is too small for that drift: no law has such moments), where a layer holds more than W, V and D
    (``known``), and for masks that keep a connection where W = 0.
    """
    counts = check_widths(checked_network(network), widths)
    given = _given_masks(masks, network.depth)
    streams = checks.as_generator(seed, name="seed").spawn(3 * network.depth)
    dtype = checked_place(device, dtype)
    _refuse_weights_beyond_memory(
        (counts[part.place], counts[part.source]) for part in network.outline if isinstance(part, Weights)
    )
    layers = []
    parts = [part for part in network.outline if isinstance(part, Weights)]
    for index, (part, connectivity) in enumerate(zip(parts, network.layers, strict=True)):
        mask_rng, weight_rng, bias_rng = streams[3 * index : 3 * index + 3]
        n_in, n_out = counts[part.source], counts[part.place]
        weight_variance = network.weight_variance[index]
        standard = network.parameterization == "standard"
        values = unit_values(n_out, n_in, first=part.source == 0, last=part.place == len(counts) - 1)
        try:
            mask, weight = _draw(connectivity, values, (n_out, n_in), mask_rng, weight_rng, given[index])
        except ConnectivityError as error:
            raise ConnectivityError(f"layer {index + 1}: {error}") from None
        if standard:
            weight *= math.sqrt(weight_variance / n_in)
        starts, trains = network.bias_variances[index], network.trained_bias_variances[index]
        layer = MaskedLinear(
            torch.from_numpy(weight).to(device, dtype),
            torch.from_numpy(mask).to(device),
            torch.empty(n_out, dtype=dtype, device=device) if starts > 0 or trains > 0 else None,
            weight_variance=weight_variance,
            bias_variance=starts,
            trained_bias_variance=trains,
            parameterization=network.parameterization,
        )
        layer.draw_biases_again(bias_rng)
        layers.append(layer)
    return MaskedMLP(layers, positions=[midpoints(n) for n in counts], outline=network.outline)


def dense(
    widths: Sequence[int],
    seed: Seed,
    *,
    init: str = "ntk",
    activation: Any = "relu",
    weight_variance: float = 2.0,
    bias_variance: float | Sequence[float] | None = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> MaskedMLP:
    """A dense network with one of the usual initial laws, ready to be pruned.

    ==============  ==========================================  ===================
    ``init``        law of w                                    parameterization
    ==============  ==========================================  ===================
    "ntk"           N(0, 1), h scaled by sigma_w / sqrt(n_in)   ntk
    "he"            N(0, 2 / n_in)                              standard
    "lecun"         N(0, 1 / n_in)                              standard
    "torch"         U(-1, 1) / sqrt(n_in), variance 1/(3 n_in)  standard
    ==============  ==========================================  ===================

    and the others of ``graphon_theory.pruning.INITS``. sigma_w^2 = ``weight_variance`` belongs to "ntk" only.
    Biases are N(0, ``bias_variance``), one number or one per layer, none where 0; None: the biases that go with the
    law, U(-1, 1) / sqrt(n_in) for "torch" (what ``torch.nn.Linear`` draws), and for the others biases that start at 0
    and train. ``activation``: one or one per hidden layer. In the standard parameterization a global threshold on |w|
    compares layers of different fan-in; in the ntk one all layers have the same law. Residual and normalised dense
    networks: :func:`build` of a Network of stages with density 1.

    Raises NetworkError for an unknown law and unit counts that are not positive integers.
    """
    expected = "unit counts (n_0, ..., n_L), positive integers"
    counts = checks.whole_numbers("widths", widths, error=NetworkError, expected=expected)
    if len(counts) < 2:
        raise NetworkError(f"widths: expected {expected}, got {counts}.")
    law, deviation = INITS[checks.one_of("init", init, INITS, error=NetworkError)]
    dtype = checked_place(device, dtype)
    own = bias_variance is None
    _refuse_weights_beyond_memory(itertools.pairwise(counts))
    starts = _bias_variances(0.0 if bias_variance is None else bias_variance, len(counts) - 1)
    layers = []
    for rng, (n_in, n_out), start in zip(
        checks.as_generator(seed, name="seed").spawn(len(counts) - 1), itertools.pairwise(counts), starts, strict=True
    ):
        uniform = own and init == "torch"
        layer = MaskedLinear(
            torch.empty(n_out, n_in, dtype=dtype, device=device),
            bias=torch.empty(n_out, dtype=dtype, device=device) if start > 0 or own else None,
            mask=torch.ones(n_out, n_in, dtype=torch.bool, device=device),
            weight_variance=weight_variance if init == "ntk" else n_in * deviation(n_in, n_out) ** 2,
            bias_variance=1 / (3 * n_in) if uniform else start,
            trained_bias_variance=1.0 if own else None,
            parameterization="ntk" if init == "ntk" else "standard",
            law=law,
            bias_law="uniform" if uniform else "normal",
        )
        layer.draw_again(rng)
        layers.append(layer)
    return MaskedMLP(layers, activation)


def _refuse_weights_beyond_memory(shapes: Iterable[tuple[int, int]]) -> None:
    """Weights are drawn in float64, beside masks of a byte."""
    count = sum(one * other for one, other in shapes)
    refuse_beyond_memory("widths", 9.0 * count, f"{count:,} weights and masks", "take fewer units", error=NetworkError)


def _bias_variances(given: Any, depth: int) -> list[float]:
    values = checks.one_or_each(given, depth)
    if len(values) != depth:
        raise NetworkError(f"bias_variance: expected one number or {depth}, one per layer, got {len(values)}.")
    return [checks.positive_number("bias_variance", one, zero=True, error=NetworkError) for one in values]


def _given_masks(masks: Any, depth: int) -> list[NDArray[np.bool_] | None]:
    if masks is None:
        return [None] * depth
    listed = list(masks) if isinstance(masks, list | tuple) else []
    if len(listed) != depth:
        raise NetworkError(f"masks: expected a list of {depth}, one a layer, got {shown(masks)}.")
    found: list[NDArray[np.bool_] | None] = []
    for number, mask in enumerate(listed):
        array = checks.real_array(f"masks[{number}]", mask, error=NetworkError, expected="booleans (out, in)")
        if array.dtype != bool:
            raise NetworkError(f"masks[{number}]: expected booleans (out, in), got {array.dtype}.")
        found.append(array)
    return found


def _draw(
    connectivity: Connectivity,
    values: Evaluator,
    shape: tuple[int, int],
    mask_rng: np.random.Generator,
    weight_rng: np.random.Generator,
    given: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.bool_], FloatArray]:
    """Mask and weights of one layer, weights in units of the dense standard deviation."""
    n_out, n_in = shape
    if given is not None and given.shape != shape:
        raise ConnectivityError(f"masks: expected a mask of shape {shape}, got {given.shape}.")
    mask = np.empty(shape, dtype=np.bool_)
    weight = np.empty(shape)
    has_drift = connectivity.has_drift
    if connectivity.known is not None:
        raise ConnectivityError(
            "known: weights given what positions tell of their units are not drawn here; draw a dense network and "
            "prune it (gv.dense, gv.prune)."
        )
    height = max(1, _CHUNK // n_in)
    for start in range(0, n_out, height):
        rows = slice(start, min(start + height, n_out))
        probability = values(connectivity.mask, rows)
        if given is None:
            kept = mask_rng.random((rows.stop - start, n_in)) < probability
        else:
            kept = given[rows]
            if not probability[kept].all():
                raise ConnectivityError(
                    "masks: a connection is kept where W is 0, and no law says its variance; sample masks from this "
                    "network (gt.sample_masks)."
                )
        drawn = weight_rng.standard_normal(kept.shape)
        if connectivity.variance is not connectivity.mask or has_drift:
            p = probability[kept]
            second = values(connectivity.variance, rows)[kept] / p
            if has_drift:
                mean = values(connectivity.drift, rows)[kept] / (math.sqrt(n_in) * p)
                drawn[kept] = mean + np.sqrt(_variance(second, mean, n_in)) * drawn[kept]
            else:
                drawn[kept] *= np.sqrt(second)
        mask[rows], weight[rows] = kept, drawn
    return mask, weight


def _variance(second: FloatArray, mean: FloatArray, n_in: int) -> FloatArray:
    """second - mean^2, refused where negative; rounding of an exact equality is not a refusal."""
    variance = second - mean**2
    if (variance < -1e-12 * second).any():
        ratio = float((mean**2 / np.maximum(second, np.finfo(float).tiny)).max())
        raise ConnectivityError(
            f"drift: with {n_in} sending units D^2 / (n W V) reaches {ratio:.3g}, and no weights have a mean "
            f"square above their second moment; take at least {math.ceil(n_in * ratio)} units or less drift."
        )
    return np.maximum(variance, 0.0)
