"""Network: the layers from input to output and the scales between them, checked once (THEORY §1)."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tomli_w

from graphon_theory.activations.activation import Activation, as_activation
from graphon_theory.data.checks import positive_number, whole_number
from graphon_theory.errors import GraphonError, NetworkError, SpecError, shown
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.connectivity import Connectivity, as_connectivity
from graphon_theory.networks.specs import (
    activation_from_spec,
    activation_spec,
    activation_summary,
    graphon_from_spec,
    graphon_spec,
    graphon_summary,
    known_spec,
    known_summary,
    refuse_unknown,
)
from graphon_theory.values import Record

_OUTPUTS = 1_000_000  # a kernel each: more are a slip of the pen


@dataclass(frozen=True, init=False, eq=False)
class Network(Record):
    """A masked MLP in the limit of width: what limit_kernel computes and what ``graphon_validation`` builds.

        h^l = sigma_w / sqrt(n_{l-1}) (M^l * w^l) phi(h^{l-1}) + sigma_b b^l,   l = 1..L

    Parameters
    ----------
    layers:
        The L weight layers from input to output, each a :class:`Connectivity` or what ``as_graphon`` takes.
        The number of inputs d comes with the data; input position j is the cell [j/d, (j+1)/d].
    activation:
        A name or an Activation; applied after every layer but the last.
    weight_variance:
        sigma_w^2, one number or one per layer; positive.
    bias_variance:
        sigma_b^2 >= 0; 0 means that there are no bias parameters.
    parameterization:
        "ntk" (above) or "standard" (w ~ N(0, sigma_w^2 / n_{l-1}), no factor in h; the NTK depends on the widths).
    widths:
        Fan-ins (n_0, ..., n_{L-1}), needed for "standard" only; n_0 must equal d.
    outputs:
        Number k of outputs; output o is the cell [o/k, (o+1)/k] of the last graphon's rows.

    Raises NetworkError naming the argument. Immutable: ``dataclasses.replace(network, bias_variance=0.1)`` makes
    another, checked anew. Networks are equal when their parts are (see :class:`Graphon`). All can be pickled but those
    that hold callables which cannot, such as lambdas.
    """

    layers: tuple[Connectivity, ...]
    activation: Activation
    weight_variance: tuple[float, ...]
    bias_variance: float
    parameterization: str
    widths: tuple[int, ...] | None
    outputs: int

    def __init__(
        self,
        layers: Sequence[object],
        activation: str | Activation = "relu",
        weight_variance: float | Sequence[float] = 2.0,
        bias_variance: float = 0.0,
        parameterization: str = "ntk",
        widths: Sequence[int] | None = None,
        outputs: int = 1,
    ) -> None:
        made = _layers(layers)
        depth = len(made)
        put = object.__setattr__
        put(self, "layers", made)
        put(self, "activation", as_activation(activation))
        put(self, "weight_variance", _variances(weight_variance, depth))
        put(self, "bias_variance", _bias_variance(bias_variance))
        if not isinstance(parameterization, str) or parameterization not in ("ntk", "standard"):
            raise NetworkError(f'parameterization: expected "ntk" or "standard", got {shown(parameterization)}.')
        put(self, "parameterization", parameterization)
        put(self, "widths", _widths(widths, depth, parameterization))
        put(self, "outputs", whole_number("outputs", outputs, 1, _OUTPUTS, error=NetworkError))

    @property
    def depth(self) -> int:
        """L, the number of weight layers."""
        return len(self.layers)

    @property
    def has_drift(self) -> bool:
        return any(layer.has_drift for layer in self.layers)

    def with_layers(self, layers: Sequence[object]) -> Network:
        """The same network with other layers, as many."""
        made = _layers(layers)
        if len(made) != self.depth:
            raise NetworkError(f"layers: expected {self.depth}, as many as there are, got {len(made)}.")
        return replace(self, layers=made)

    def to_toml(self) -> str:
        """The network as TOML text that :meth:`from_toml` reads back.

        Raises SpecError for callables, arrays over 4,096 entries and what is ``Known`` of single units: text would not
        hold them.
        """
        return tomli_w.dumps(_to_dict(self, graphon_spec, activation_spec, known_spec))

    @classmethod
    def from_toml(cls, text: str) -> Network:
        """Read a network from TOML text; everything in it is data, nothing is evaluated as code.

        Raises SpecError for unreadable text or unknown keys, and the error of the part that is wrong otherwise.
        """
        if not isinstance(text, str):
            raise SpecError(f"text: expected TOML text, got {type(text).__name__}; read a file with Path.read_text.")
        try:
            data = tomllib.loads(text)
        except (RecursionError, ValueError) as error:
            raise SpecError(f"text: not valid TOML ({error}).") from None
        known = {"activation", "weight_variance", "bias_variance", "parameterization", "widths", "outputs", "layer"}
        refuse_unknown(data, known, "network")
        if not isinstance(data.get("layer"), list) or not data["layer"]:
            raise SpecError("layer: expected at least one [[layer]] table, from input to output.")
        if "activation" in data:
            data["activation"] = activation_from_spec(data["activation"])
        layers = []
        for number, table in enumerate(data.pop("layer"), 1):
            refuse_unknown(table, {"mask", "variance", "drift"}, f"layer {number}")
            if "mask" not in table:
                raise SpecError(f"layer {number}: the mask is missing; write mask = 0.5, text or a table of values.")
            parts: dict[str, Any] = {key: graphon_from_spec(v, f"layer {number}, {key}") for key, v in table.items()}
            try:
                layers.append(Connectivity(**parts))
            except GraphonError as error:
                raise type(error)(f"layer {number}: {error}") from None
        return cls(layers, **data)

    def describe(self) -> str:
        """Text for result attributes: TOML where possible, callables by name and large arrays by shape and hash."""
        return self._description

    @cached_property
    def _description(self) -> str:
        return tomli_w.dumps(_to_dict(self, graphon_summary, activation_summary, known_summary))

    def __repr__(self) -> str:
        parts = [f"[{', '.join(_layer_repr(layer) for layer in self.layers)}]", f"activation={self.activation.name!r}"]
        parts.append(f"weight_variance={_one_or_many(self.weight_variance)}")
        parts.append(f"bias_variance={self.bias_variance}")
        if self.parameterization != "ntk":
            parts.append(f"parameterization={self.parameterization!r}, widths={self.widths}")
        if self.outputs != 1:
            parts.append(f"outputs={self.outputs}")
        return f"Network({', '.join(parts)})"


def _layers(layers: Any) -> tuple[Connectivity, ...]:
    if isinstance(layers, (str, Graphon, Connectivity)) or not isinstance(layers, Sequence):
        raise NetworkError(f"layers: expected a sequence of layers from input to output, got {type(layers).__name__}.")
    if not layers:
        raise NetworkError("layers: expected at least one layer, got none.")
    made = []
    for number, layer in enumerate(layers, 1):
        try:
            made.append(as_connectivity(layer))
        except GraphonError as error:
            raise type(error)(f"layers: layer {number}: {error}") from None
    return tuple(made)


def _variances(value: Any, depth: int) -> tuple[float, ...]:
    several = np.ndim(value) == 1 and not isinstance(value, str)
    many = value if several else [value] * depth
    if len(many) != depth:
        raise NetworkError(f"weight_variance: expected one number or {depth} (one per layer), got {len(many)}.")
    expected = "a finite number > 0"
    return tuple(positive_number("weight_variance", v, error=NetworkError, expected=expected) for v in many)


def _bias_variance(value: Any) -> float:
    return positive_number("bias_variance", value, zero=True, error=NetworkError, expected="a finite number >= 0")


def _widths(widths: Any, depth: int, parameterization: str) -> tuple[int, ...] | None:
    if widths is None:
        if parameterization == "standard":
            raise NetworkError(
                f'widths: parameterization="standard" needs the {depth} fan-ins (n_0, ..., n_{depth - 1}), got none.'
            )
        return None
    if not isinstance(widths, (Sequence, np.ndarray)) or np.ndim(widths) != 1 or len(widths) != depth:
        raise NetworkError(f"widths: expected {depth} fan-ins (n_0, ..., n_{depth - 1}), got {shown(widths)}.")
    return tuple(whole_number("widths", n, error=NetworkError) for n in widths)


def _one_or_many(values: tuple[float, ...]) -> Any:
    return values[0] if len(set(values)) == 1 else list(values)


def _layer_repr(layer: Connectivity) -> str:
    plain = layer.variance is layer.mask and not layer.has_drift
    return repr(layer.mask) if plain else repr(layer)


def _to_dict(network: Network, graphon: Any, activation: Any, known: Any) -> dict[str, Any]:
    out: dict[str, Any] = {
        "activation": activation(network.activation),
        "weight_variance": _one_or_many(network.weight_variance),
        "bias_variance": network.bias_variance,
        "parameterization": network.parameterization,
        "outputs": network.outputs,
    }
    if network.widths is not None:
        out["widths"] = list(network.widths)
    out["layer"] = []
    for layer in network.layers:
        table = {"mask": graphon(layer.mask)}
        if layer.variance is not layer.mask:
            table["variance"] = graphon(layer.variance)
        if layer.has_drift:
            table["drift"] = graphon(layer.drift)
        if layer.known is not None:
            table["known"] = known(layer.known)
        out["layer"].append(table)
    return out
