"""Models that others made: torch modules, state dicts and files in, masked networks out, and back again."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from graphon_theory.activations.activation import as_activation
from graphon_theory.data import checks
from graphon_theory.data.files import file_path
from graphon_theory.errors import InputError, NetworkError, shown, shown_text
from graphon_theory.networks.stages import Fork, Norm, Outline, Phi, Weights
from graphon_theory.pruning.laws import INITS
from graphon_validation.networks.masked_layers import MaskedLinear
from graphon_validation.networks.masked_mlps import MaskedMLP, checked_model
from graphon_validation.networks.torch_activations import torch_activation

_SHARE = 0.01  # of exact zeros in an unmasked layer, beyond which somebody has pruned it
_LARGEST = 1e100  # deviation of weights: its square, times a fan-in, is a number
_PASSED_OVER = (nn.Flatten, nn.Dropout, nn.Identity)
_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.GELU: "gelu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Softplus: "softplus",
    nn.ELU: "elu",
}


class ZerosWarning(UserWarning):
    """A layer holds many weights that are exactly 0, and no mask."""


@dataclass(frozen=True)
class _Layer:
    """A Linear as it was found: its name, weights (out, in) before the mask, mask and biases, where there are any."""

    name: str
    weight: Tensor
    mask: Tensor | None
    bias: Tensor | None


_Part = _Layer | str | Norm  # a weight layer, the name of an activation, a LayerNorm


def from_torch(
    source: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    activations: str | Sequence[str] | None = None,
    init: str | float | Sequence[float] = "torch",
    zeros_pruned: bool = False,
) -> MaskedMLP:
    """A masked network with the weights, masks, biases and activations of a torch model.

    ``source`` is

    - a module whose leaves, in the order in which they were registered, are Linear layers, activations, LayerNorms
      without trained scale (``elementwise_affine=False``), and Flatten, Dropout and Identity, which are passed over
      (a MaskedMLP computes what the model does in ``eval`` mode);
    - a state dict of such a module, or the path of a ``.pt`` or ``.pth`` file that holds one (read with
      ``weights_only=True``: nothing in it is run), or of a ``.safetensors`` file (needs ``safetensors``).

    Masks are those of ``torch.nn.utils.prune`` (``weight_orig``, ``weight_mask``), or, with ``zeros_pruned``, the
    weights that are not exactly 0; else everything survives, and ZerosWarning says where zeros look like pruning.

    ``activations``: one name, or one for every layer but the last, where the source does not hold them (state dicts
    never do). ``init``: the law of the weights before training and pruning, which sets the unit of V in
    :func:`theories`: a name of ``graphon_theory.pruning.INITS`` ("torch" is what ``nn.Linear`` draws, biases
    included), or the deviation of the weights, one or one per layer. Biases train.

    The result is in the standard parameterization: h = W a + b. Raises InputError for what cannot be read or is no
    such network, naming the module or the key; NetworkError where layers do not chain.
    """
    parts = list(_parts(source))
    layers = [part for part in parts if isinstance(part, _Layer)]
    if not layers:
        raise InputError("source: expected at least one Linear layer (a weight of two dimensions), found none.")
    dtypes = {layer.weight.dtype for layer in layers}
    if len(dtypes) > 1 or not layers[0].weight.is_floating_point():
        raise InputError(f"source: expected real weights of one dtype, got {', '.join(sorted(map(str, dtypes)))}.")
    laws = _laws(init, layers)
    made = [
        _masked(layer, *law, zeros_pruned=checks.truth("zeros_pruned", zeros_pruned))
        for layer, law in zip(layers, laws, strict=True)
    ]
    model = MaskedMLP(made, outline=_outline(parts, activations))
    if isinstance(source, nn.Module):
        _refuse_another_function(source, model)
    return model


@torch.no_grad()
def _refuse_another_function(source: nn.Module, model: MaskedMLP) -> None:
    """Modules may be used in another order than they were registered in, and more than once."""
    weight = model.weights[0]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, weight.shape[1], generator=generator, dtype=torch.float64).to(weight.device, weight.dtype)
    training = source.training
    try:
        wanted = source.eval()(x)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = shown_text(str(error).partition("\n")[0])
        raise InputError(f"source: the module takes no inputs of shape {tuple(x.shape)} ({reason}).") from None
    finally:
        source.train(training)
    found = model(x)
    size = 1e-4 * float(found.abs().max())
    if (
        not isinstance(wanted, Tensor)
        or wanted.shape != found.shape
        or not bool(((wanted - found).abs() <= size).all())
    ):
        raise InputError(
            "source: the module computes something else than its layers one after another, in the order in which they "
            "were registered; pass an nn.Sequential of them."
        )


def to_torch(model: MaskedMLP) -> nn.Sequential:
    """The model as an ``nn.Sequential`` of Linear layers and activations that computes the same.

    Weights and biases are multiplied by their scales, so that it is in torch's own parameterization; layers that are
    not full carry masks as ``torch.nn.utils.prune.custom_from_mask`` makes them. LayerNorms have no trained scale.

    Raises NetworkError for residual branches, which no Sequential holds.
    """
    checked_model(model)
    if any(isinstance(part, Fork) for part in model.outline):
        raise NetworkError("model: an nn.Sequential holds no shortcuts; this network has residual branches.")
    layers = model.linears
    found: list[nn.Module] = []
    for part in model.outline:
        if isinstance(part, Weights):
            layer = layers[part.number - 1]
            found.append(_linear(layer))
        elif isinstance(part, Phi):
            found.append(_module(part.activation.name))
        elif isinstance(part, Norm):
            width = model.widths[part.place]
            found.append(nn.LayerNorm(width, part.epsilon, elementwise_affine=False))
    return nn.Sequential(*found)


class Elementwise(nn.Module):
    """An activation that torch has no module of, by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch_activation(name)
        self.name = name

    def forward(self, z: Tensor) -> Tensor:
        return torch_activation(self.name)(z)

    def extra_repr(self) -> str:
        return self.name


# --- what a source holds ----------------------------------------------------------------------------------------------


def _parts(source: Any) -> Iterator[_Part]:
    if isinstance(source, MaskedMLP):
        raise InputError("source: this is a MaskedMLP already; use it as it is.")
    if isinstance(source, nn.Module):
        yield from _of_module(source)
    elif isinstance(source, Mapping):
        yield from _of_state(source)
    elif isinstance(source, str | os.PathLike):
        yield from _of_state(_read(source))
    else:
        raise InputError(
            f"source: expected a torch module, its state dict or the path of a file, got {type(source).__name__}."
        )


def _of_module(module: nn.Module) -> Iterator[_Part]:
    met = set()
    for name, leaf in module.named_modules(remove_duplicate=False):
        if isinstance(leaf, nn.Linear):
            if id(leaf) in met:
                raise InputError(f"source: {name}: a Linear that stands in two places; weights are tied, copy it.")
            met.add(id(leaf))
            mask = getattr(leaf, "weight_mask", None)
            weight = leaf.weight if mask is None else leaf.get_parameter("weight_orig")
            yield _Layer(name or "weight", weight.detach(), mask, None if leaf.bias is None else leaf.bias.detach())
        elif isinstance(leaf, nn.LayerNorm):
            if leaf.elementwise_affine or len(leaf.normalized_shape) != 1:
                raise InputError(
                    f"source: {name}: a LayerNorm with a trained scale, or over several axes, has no limit here; make "
                    "it LayerNorm(width, elementwise_affine=False)."
                )
            yield Norm(leaf.eps, 0, before=True)
        elif isinstance(leaf, Elementwise):
            yield leaf.name
        elif type(leaf) in _NAMES:
            yield _named(name, leaf)
        elif next(leaf.children(), None) is None and not isinstance(leaf, _PASSED_OVER):
            raise InputError(
                f"source: {name}: {type(leaf).__name__} is none of the modules that are read: Linear, LayerNorm, "
                f"{', '.join(sorted(kind.__name__ for kind in _NAMES))}."
            )


def _named(where: str, leaf: nn.Module) -> str:
    """The activation's name, if the module computes the named one."""
    name = _NAMES[type(leaf)]
    z = torch.linspace(-3, 3, 25, dtype=torch.float64)
    with torch.no_grad():
        same = torch.allclose(leaf(z.clone()), torch_activation(name)(z), rtol=1e-12, atol=1e-12)
    if not same:
        raise InputError(f"source: {where}: {leaf!r} is not the {name} known here, but one with other settings.")
    return name


def _of_state(state: Mapping[Any, Any]) -> Iterator[_Part]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state.get(key), Mapping):
            state = state[key]
            break
    wrong = [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if wrong or not state:
        what = f"{shown(wrong[0])} is {type(state[wrong[0]]).__name__}" if wrong else "it is empty"
        raise InputError(f"source: expected a state dict, names and their tensors; {what}.")
    endings = ("weight", "weight_orig", "weight_mask", "bias")
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, ending = key.rpartition(".")
        if ending not in endings or value.ndim != (1 if ending == "bias" else 2):
            raise InputError(
                f"source: {shown_text(key)} of shape {tuple(value.shape)} belongs to no Linear layer; expected keys "
                f"that end in {', '.join(endings)}."
            )
        layers.setdefault(name, {})[ending] = value
    for name, found in layers.items():
        weight = found.get("weight_orig", found.get("weight"))
        if weight is None:
            raise InputError(f"source: {shown_text(name)} has no weight.")
        yield _Layer(name, weight, found.get("weight_mask"), found.get("bias"))


def _read(path: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    place = file_path("source", path)
    kind = place.suffix.lower()
    if kind not in (".pt", ".pth", ".safetensors"):
        raise InputError(f"source: expected a file that ends in .pt, .pth or .safetensors, got {shown(str(path))}.")
    if kind == ".safetensors":
        checks.check_installed("reading .safetensors files", {"safetensors": "safetensors"}, "validation")
    try:
        if kind == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(place)
        else:
            found = torch.load(place, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can break its readers anywhere
        reason = shown_text(str(error).partition("\n")[0] or type(error).__name__)
        if type(error).__module__.startswith("safetensors"):
            raise InputError(f"source: {shown_text(str(path))} is no safetensors file ({reason}).") from None
        raise InputError(
            f"source: {shown_text(str(path))} cannot be read as weights ({reason}). Save a state dict: "
            "torch.save(model.state_dict(), path)."
        ) from None
    if not isinstance(found, Mapping):
        raise InputError(f"source: {shown_text(str(path))} holds a {type(found).__name__}, not a state dict.")
    return found


# --- what is made of it -----------------------------------------------------------------------------------------------


def _laws(init: Any, layers: Sequence[_Layer]) -> list[tuple[float, str, bool]]:
    """Of every layer: the deviation of its dense weights, their law, and whether biases are drawn as torch does."""
    if isinstance(init, str):
        law, deviation = INITS[checks.one_of("init", init, INITS)]
        return [(deviation(*reversed(one.weight.shape)), law, init == "torch") for one in layers]
    several = list(init) if isinstance(init, list | tuple) else [init] * len(layers)
    if len(several) != len(layers):
        raise InputError(f"init: expected one deviation, or {len(layers)} (one per layer), got {len(several)}.")
    expected = "a name of a law, or positive deviations of the dense weights"
    deviations = [checks.positive_number("init", one, expected=expected) for one in several]
    if max(deviations) > _LARGEST:
        raise InputError(f"init: expected {expected} of at most {_LARGEST:g}, got {max(deviations):g}.")
    return [(one, "normal", False) for one in deviations]


def _masked(layer: _Layer, deviation: float, law: str, like_torch: bool, *, zeros_pruned: bool) -> MaskedLinear:
    weight = layer.weight.detach().clone()
    zeros = float((weight == 0).double().mean())
    mask = layer.mask
    if mask is not None:
        if mask.shape != weight.shape or not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(f"source: {layer.name}: expected a mask of zeros and ones of shape {tuple(weight.shape)}.")
        mask = mask.bool().clone()
    elif zeros_pruned:
        mask = weight != 0
    elif zeros > _SHARE:
        warnings.warn(
            f"from_torch: {zeros:.1%} of the weights of {layer.name} are exactly 0, and it has no mask; pass "
            "zeros_pruned=True if these are pruned.",
            ZerosWarning,
            stacklevel=4,
        )
    fan_in = weight.shape[1]
    biased = layer.bias is not None
    return MaskedLinear(
        weight,
        mask,
        layer.bias.detach().clone() if layer.bias is not None else None,
        weight_variance=fan_in * deviation**2,
        bias_variance=1 / (3 * fan_in) if biased and like_torch else 0.0,
        trained_bias_variance=1.0 if biased else None,
        parameterization="standard",
        law=law,
        bias_law="uniform" if biased and like_torch else "normal",
    )


def _outline(parts: Sequence[_Part], activations: str | Sequence[str] | None) -> Outline:
    """Weight layers with what stands between them; ``activations`` where nothing does."""
    count = sum(isinstance(part, _Layer) for part in parts)
    held = any(isinstance(part, str) for part in parts)
    if held and activations is not None:
        raise InputError("activations: the module holds its own; leave them out.")
    if not held and activations is None and count > 1:
        raise InputError(
            f"activations: the source does not say what stands between its {count} layers; pass a name, such as "
            f"'relu', or {count - 1} of them."
        )
    names = [] if held or activations is None else _listed(activations, count - 1)
    found: list[Any] = []
    number, place, before = 0, 0, False
    for part in parts:
        if isinstance(part, _Layer):
            if number and names:
                found.append(Phi(as_activation(names[number - 1]), place))
            elif number and before:
                found.append(Phi(as_activation("identity"), place))
            found.append(Weights(number + 1, place, place + 1))
            number, place, before = number + 1, place + 1, True
        elif number == 0 or number == count:
            where = "before the first" if number == 0 else "behind the last"
            raise InputError(f"source: an activation or LayerNorm stands {where} Linear layer; take it off.")
        elif isinstance(part, str):
            if not before:
                raise InputError("source: two activations follow one another; compose them in one function.")
            found.append(Phi(as_activation(part), place))
            before = False
        else:
            found.append(Norm(part.epsilon, place, before))
    return tuple(found)


def _listed(activations: Any, count: int) -> list[str]:
    if not isinstance(activations, str | list | tuple):
        raise InputError(f"activations: expected one name or {count} in a list, got {shown(activations)}.")
    names = [activations] * count if isinstance(activations, str) else list(activations)
    if len(names) != count:
        raise InputError(f"activations: expected one name or {count}, got {len(names)}.")
    for name in names:
        torch_activation(name)
    return names


def _linear(layer: MaskedLinear) -> nn.Linear:
    n_out, n_in = layer.weight.shape
    made = nn.Linear(n_in, n_out, layer.bias is not None, layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        made.weight.copy_(layer.weight * layer.scale)
        if layer.bias is not None:
            made.bias.copy_(layer.bias * layer.bias_scale)
    if not bool(layer.mask.all()):
        prune.custom_from_mask(made, "weight", layer.mask)
    return made


def _module(name: str) -> nn.Module:
    kinds = {known: kind for kind, known in _NAMES.items() if known != "softplus"}  # torch's turns linear at 20
    if name == "identity":
        return nn.Identity()
    return kinds[name]() if name in kinds else Elementwise(name)
