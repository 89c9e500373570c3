"""Exact empirical tangent kernels of masked networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from xarray import DataArray, Dataset

from graphon_theory.data import labels
from graphon_theory.data.checks import truth, whole_number, whole_numbers
from graphon_theory.errors import InputError
from graphon_validation.kernels.grams import Side, masked_gram
from graphon_validation.networks.masked_mlps import MaskedMLP, as_tensor, checked_model
from graphon_validation.networks.torch_activations import value_and_derivative


def empirical_kernel(
    model: MaskedMLP,
    x: ArrayLike | DataArray,
    x2: ArrayLike | DataArray | None = None,
    *,
    per_layer: bool = False,
    outputs: Sequence[int] | None = None,
    memory: int = 1 << 28,
) -> Dataset:
    """The tangent kernel of one finite network, exactly.

    With g^l_i = d f_o / d h^l_i, layer l of output o contributes

        NTK_l(x, x') = scale_l^2 sum_ij M_ij g_i(x) g_i(x') a_j(x) a_j(x') + bias_scale^2 sum_i g_i(x)
        g_i(x')

    A pruned connection has gradient 0 and no share, and neither has a parameter that does not train (see
    :func:`graphon_validation.choose_trained`). Signals and gradients come from one forward and one backward
    pass written out by hand; the sum gathers the surviving connections (:mod:`graphon_validation.kernels.grams`), in
    the model's dtype and on its device.

    ``x`` has shape (N, d), ``x2`` (N2, d) or None for ``x`` itself. ``outputs`` names some of several outputs, whose
    kernels alone are then computed. ``memory`` bounds, in bytes, each
    working array that is not the result, a weight matrix or one layer's signals.

    Returns a Dataset with ``ntk`` ("x", "x2"), a leading "output" if the network has several outputs (each
    output's own kernel; between outputs nothing is computed), and with ``per_layer`` also ``ntk_layer``
    with a "layer" dimension, 1..L from the input.

    Raises InputError for inputs that are not finite, or whose number of columns is not n_0, for ``outputs`` that the
    network does not have, and for kernels that are not finite (weights or signals overflow).
    """
    checked_model(model)
    truth("per_layer", per_layer)
    whole_number("memory", memory, expected="a positive number of bytes")
    chosen = _checked_outputs(outputs, model.widths[-1])
    left = as_tensor(model, x, "x")
    right = None if x2 is None else as_tensor(model, x2, "x2", x)
    layers = _layer_kernels(model, left, right, chosen, per_layer, memory)
    if not np.isfinite(layers).all():
        raise InputError("model: its tangent kernel is not finite; look for weights or signals that overflow.")
    ntk = layers.sum(1)
    lead = (labels.OUTPUT,) if model.widths[-1] > 1 else ()
    pick = slice(None) if lead else 0
    pair = (labels.X, labels.X2)
    variables: dict[str, tuple[tuple[str, ...], Any]] = {"ntk": ((*lead, *pair), ntk[pick])}
    coords = labels.coords_of_inputs(x, x2)
    if per_layer:
        variables["ntk_layer"] = ((*lead, labels.LAYER, *pair), layers[pick])
        coords[labels.LAYER] = np.arange(1, layers.shape[1] + 1)
    if outputs is not None and lead:
        coords[labels.OUTPUT] = np.array(chosen)
    dtype = str(model.weights[0].dtype).removeprefix("torch.")
    return labels.dataset(variables, coords, {"widths": list(model.widths), "dtype": dtype})


@torch.no_grad()
def _layer_kernels(
    model: MaskedMLP, x: Tensor, x2: Tensor | None, outputs: Sequence[int], per_layer: bool, memory: int
) -> np.ndarray:
    """(outputs, L, N, N2) as float64 NumPy; (outputs, 1, N, N2) of all layers together without ``per_layer``."""
    depth = len(model.linears)
    n2 = len(x) if x2 is None else len(x2)
    out = np.zeros((len(outputs), depth if per_layer else 1, len(x), n2))
    weights = [layer.effective_weight() for layer in model.linears]
    signals = [_forward(model, weights, inputs) for inputs in (x, x2) if inputs is not None]
    widest = max(model.widths[1:])
    block = max(1, memory // (widest * (len(x) + n2) * x.element_size()))
    for start in range(0, len(outputs), block):
        chosen = slice(start, start + block)
        gradients = [_one_hot(outputs[chosen], model.widths[-1], a[0]) for a, _ in signals]
        for index in reversed(range(depth)):
            layer = model.linears[index]
            sides = [Side(g, a[index]) for g, (a, _) in zip(gradients, signals, strict=True)]
            right = sides[1] if x2 is not None else None
            kernel = sides[0].a.new_zeros(len(gradients[0]), len(x), n2)
            if layer.weight.requires_grad:
                kernel += layer.scale**2 * masked_gram(layer.mask, sides[0], right, memory)
            if layer.bias is not None and layer.bias.requires_grad:
                kernel += layer.bias_scale**2 * gradients[0].transpose(1, 2) @ gradients[-1]
            if x2 is None:
                kernel = torch.tril(kernel) + torch.tril(kernel, -1).transpose(1, 2)
            out[chosen, index if per_layer else 0] += kernel.double().cpu().numpy()
            if index > 0:
                back = weights[index].T
                gradients = [slopes[index - 1] * (back @ g) for g, (_, slopes) in zip(gradients, signals, strict=True)]
    return out


def _checked_outputs(outputs: Sequence[int] | None, count: int) -> list[int]:
    if outputs is None:
        return list(range(count))
    expected = f"different indices in 0..{count - 1}"
    return list(whole_numbers("outputs", outputs, 0, count - 1, distinct=True, expected=expected))


def _one_hot(chosen: Sequence[int], outputs: int, like: Tensor) -> Tensor:
    """d f_o / d h^L for the chosen outputs: (len(chosen), outputs, N)."""
    eye = torch.from_numpy(np.eye(outputs)[list(chosen)]).to(like.device, like.dtype)
    return eye[:, :, None].expand(-1, -1, like.shape[1]).contiguous()


def _forward(model: MaskedMLP, weights: list[Tensor], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Activations a^0..a^{L-1} and slopes phi'(h^1)..phi'(h^{L-1}), each (units, N)."""
    signals, slopes = [x.T.contiguous()], []
    for layer, weight in zip(model.linears[:-1], weights, strict=False):
        h = weight @ signals[-1]
        if layer.bias is not None:
            h += layer.bias_scale * layer.bias[:, None]
        value, slope = value_and_derivative(model.phi, h)
        signals.append(value)
        slopes.append(slope)
    return signals, slopes
