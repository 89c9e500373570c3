"""Exact empirical tangent kernels of masked networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from xarray import DataArray, Dataset

from graphon_theory.data import labels
from graphon_theory.data.checks import real_array, truth, whole_number, whole_numbers
from graphon_theory.errors import InputError, shown
from graphon_validation.kernels.grams import Side, masked_gram
from graphon_validation.networks.masked_layers import autograd
from graphon_validation.networks.masked_mlps import MaskedMLP, Moments, as_tensor, checked_model, layer_moments, run

OUTPUT2 = "output2"  # outputs, columns of a kernel between outputs


@autograd()
def empirical_kernel(
    model: MaskedMLP,
    x: ArrayLike | DataArray,
    x2: ArrayLike | DataArray | None = None,
    *,
    per_layer: bool = False,
    outputs: Sequence[int] | str | None = None,
    memory: int = 1 << 28,
) -> Dataset:
    """The tangent kernel of one finite network, exactly.

    With g^l_i = d f_o / d h^l_i, layer l of output o contributes

        NTK_l(x, x') = scale_l^2 sum_ij M_ij g_i(x) g_i(x') a_j(x) a_j(x') + bias_scale^2 sum_i g_i(x)
        g_i(x')

    A pruned connection has gradient 0 and no share, and neither has a parameter that does not train (see
    :func:`graphon_validation.choose_trained`). Signals a and gradients g come from one forward pass and one backward
    pass per output by torch, through residual sums and the whole Jacobian of a LayerNorm where there are any; the sum
    gathers the surviving connections (:mod:`graphon_validation.kernels.grams`), in the model's dtype and on its device.

    ``x`` has shape (N, d), ``x2`` (N2, d) or None for ``x`` itself. ``outputs`` names some of several outputs, whose
    kernels alone are then computed; "all" asks for those between outputs too, <d f_o(x), d f_o'(x')>, which vanish like
    n^(-1/2) and are k times the work. ``memory`` bounds, in bytes, each
    working array that is not the result, a weight matrix or one layer's signals.

    Returns a Dataset with ``ntk`` ("x", "x2"), a leading "output" if the network has several outputs (each
    output's own kernel), or ("output", "output2", "x", "x2") with ``outputs="all"``, and with ``per_layer`` also
    ``ntk_layer`` with a "layer" dimension, 1..L from the input.

    Raises InputError for inputs that are not finite, or whose number of columns is not n_0, for ``outputs`` that the
    network does not have, and for kernels that are not finite (weights or signals overflow).
    """
    checked_model(model)
    truth("per_layer", per_layer)
    memory = whole_number("memory", memory, expected="a positive number of bytes")
    every = isinstance(outputs, str)
    if isinstance(outputs, str):
        if outputs != "all":
            raise InputError(f'outputs: expected indices of outputs, "all" or None, got {shown(outputs)}.')
        outputs = None
    chosen = _checked_outputs(outputs, model.widths[-1])
    left = as_tensor(model, x, "x")
    right = None if x2 is None else as_tensor(model, x2, "x2", x)
    if every:
        return _between_outputs(model, x, x2, left, right, per_layer, memory)
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


def _between_outputs(
    model: MaskedMLP, x: Any, x2: Any, left: Tensor, right: Tensor | None, per_layer: bool, memory: int
) -> Dataset:
    """The kernels of all pairs of outputs."""
    with torch.no_grad():
        weights = [layer.effective_weight() for layer in model.linears]
    passes = [Pass.of(model, weights, inputs) for inputs in (left, left if right is None else right)]
    count = model.widths[-1]
    one, two = (each.gradients(range(count)) for each in passes)
    found = np.zeros((len(model.linears), count, count, len(left), len(passes[1].signals[0][0])))
    with torch.no_grad():
        for index, layer in enumerate(model.linears):
            below = [each.signals[index] for each in passes]
            for o in range(count):
                g = one[index][o].expand(count, -1, -1)
                kernel = below[0].new_zeros(found.shape[2:])
                if layer.weight.requires_grad:
                    sides = Side(g.contiguous(), below[0]), Side(two[index], below[1])
                    kernel += layer.scale**2 * masked_gram(layer.mask, *sides, memory)
                if layer.bias is not None and layer.bias.requires_grad:
                    kernel += layer.bias_scale**2 * g.transpose(1, 2) @ two[index]
                found[index, o] = kernel.double().cpu().numpy()
    if not np.isfinite(found).all():
        raise InputError("model: its tangent kernel is not finite; look for weights or signals that overflow.")
    dims = (labels.OUTPUT, OUTPUT2, labels.X, labels.X2)
    variables: dict[str, tuple[tuple[str, ...], Any]] = {"ntk": (dims, found.sum(0))}
    coords = labels.coords_of_inputs(x, x2)
    if per_layer:
        variables["ntk_layer"] = ((labels.LAYER, *dims), found)
        coords[labels.LAYER] = np.arange(1, len(found) + 1)
    dtype = str(model.weights[0].dtype).removeprefix("torch.")
    return labels.dataset(variables, coords, {"widths": list(model.widths), "dtype": dtype})


def kernel_product(
    model: MaskedMLP, x: ArrayLike | DataArray, vectors: ArrayLike | DataArray, x2: ArrayLike | DataArray | None = None
) -> DataArray:
    """The tangent kernel of one finite network times vectors, without the kernel.

        (Theta v)_o(x) = sum over o' and x' of <d f_o(x), d f_o'(x')> v_o'(x') = J(x) J(x')^T v,

    one pass back over ``x2`` (None: ``x``) and one derivative of a pass back over ``x``, in the time and memory of
    training steps whatever the numbers of inputs and outputs. ``vectors``: (N2,) for a network of one output, or
    (N2, k). Parameters that do not train have no share.

    Returns a DataArray like ``vectors``, over the inputs ``x``. Raises InputError for vectors or inputs that do not
    fit, and for products that are not finite.
    """
    checked_model(model)
    left = as_tensor(model, x, "x")
    right = left if x2 is None else as_tensor(model, x2, "x2", x)
    given, count = real_array("vectors", vectors, expected="real numbers"), model.widths[-1]
    if given.shape not in ([(len(right), count), (len(right),)] if count == 1 else [(len(right), count)]):
        shape = f"({len(right)}, {count})"
        raise InputError(f"vectors: expected real numbers of shape {shape}, got {given.shape}.")
    start = torch.from_numpy(given.reshape(len(right), count).astype(float)).to(left.device, left.dtype)
    trained = [one for one in model.parameters() if one.requires_grad]
    product = np.zeros((len(left), count))
    if trained:
        with torch.enable_grad():
            pulled = torch.autograd.grad(model(right), trained, start)
            # J c is the derivative in u of <J^T u, c>, which is linear in u
            u = left.new_zeros(len(left), count, requires_grad=True)
            back = torch.autograd.grad(model(left), trained, u, create_graph=True)
            (moved,) = torch.autograd.grad(back, u, pulled)
        product = moved.double().cpu().numpy()
    if not np.isfinite(product).all():
        raise InputError("vectors: the product with the tangent kernel is not finite; look for signals that overflow.")
    dims = (labels.X,) if given.ndim == 1 else (labels.X, labels.OUTPUT)
    return DataArray(product.reshape(len(left), *given.shape[1:]), labels.coords_of(labels.by_rows(x), labels.X), dims)


def _layer_kernels(
    model: MaskedMLP, x: Tensor, x2: Tensor | None, outputs: Sequence[int], per_layer: bool, memory: int
) -> np.ndarray:
    """(outputs, L, N, N2) as float64 NumPy; (outputs, 1, N, N2) of all layers together without ``per_layer``."""
    depth = len(model.linears)
    n2 = len(x) if x2 is None else len(x2)
    out = np.zeros((len(outputs), depth if per_layer else 1, len(x), n2))
    with torch.no_grad():
        weights = [layer.effective_weight() for layer in model.linears]
    passes = [Pass.of(model, weights, inputs) for inputs in (x, x2) if inputs is not None]
    every = sum(model.widths[1:])
    block = max(1, memory // (every * (len(x) + n2) * x.element_size()))
    for start in range(0, len(outputs), block):
        chosen = slice(start, start + block)
        gradients = [one.gradients(outputs[chosen]) for one in passes]
        with torch.no_grad():
            for index in reversed(range(depth)):
                layer = model.linears[index]
                sides = [Side(g[index], one.signals[index]) for g, one in zip(gradients, passes, strict=True)]
                right = sides[1] if x2 is not None else None
                kernel = sides[0].a.new_zeros(len(sides[0].g), len(x), n2)
                if layer.weight.requires_grad:
                    kernel += layer.scale**2 * masked_gram(layer.mask, sides[0], right, memory)
                if layer.bias is not None and layer.bias.requires_grad:
                    kernel += layer.bias_scale**2 * sides[0].g.transpose(1, 2) @ sides[-1].g
                if x2 is None:
                    kernel = torch.tril(kernel) + torch.tril(kernel, -1).transpose(1, 2)
                out[chosen, index if per_layer else 0] += kernel.double().cpu().numpy()
    return out


@dataclass(frozen=True)
class Pass:
    """One pass of inputs: what every weight layer takes in and puts out (units, N), and the outputs (k, N)."""

    signals: list[Tensor]
    puts_out: list[Tensor]
    outputs: Tensor

    @classmethod
    def of(cls, model: MaskedMLP, weights: Sequence[Tensor], x: Tensor, moments: Moments = layer_moments) -> Pass:
        """Of inputs (N, d) through these weights, with ``moments`` of LayerNorms."""
        layers = model.linears
        signals: list[Tensor] = []
        puts_out: list[Tensor] = []

        def linear(index: int, a: Tensor) -> Tensor:
            layer = layers[index]
            h = weights[index] @ a
            if layer.bias is not None:
                h = h + layer.bias_scale * layer.bias.detach()[:, None]
            if not h.requires_grad:
                h.requires_grad_()
            signals.append(a.detach())
            puts_out.append(h)
            return h

        return cls(signals, puts_out, run(model.outline, x.T.contiguous(), linear, 0, moments))

    def gradients(self, outputs: Sequence[int]) -> list[Tensor]:
        """d f_o / d h^l of every weight layer l: (len(outputs), n_l, N)."""
        found = [torch.autograd.grad(self.outputs[o].sum(), self.puts_out, retain_graph=True) for o in outputs]
        return [torch.stack(layer) for layer in zip(*found, strict=True)]


def _checked_outputs(outputs: Sequence[int] | None, count: int) -> list[int]:
    if outputs is None:
        return list(range(count))
    expected = f"different indices in 0..{count - 1}"
    return list(whole_numbers("outputs", outputs, 0, count - 1, distinct=True, expected=expected))
