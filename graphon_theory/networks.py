"""Network: the layers from input to output and the scales between them, checked once (THEORY §1)."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tomli_w

from graphon_theory import expressions
from graphon_theory.activations import Activation, as_activation
from graphon_theory.connectivity import Connectivity, Known, as_connectivity
from graphon_theory.errors import GraphonError, NetworkError, SpecError
from graphon_theory.graphons import AnalyticGraphon, ConstantGraphon, Graphon, StepGraphon

_MAX_TABLE = 4_096  # entries of an array written to TOML


@dataclass(frozen=True, init=False)
class Network:
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

    Raises NetworkError naming the argument. Immutable.
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
        put(self, "bias_variance", _number("bias_variance", bias_variance, least=0.0))
        if parameterization not in ("ntk", "standard"):
            raise NetworkError(f'parameterization: expected "ntk" or "standard", got {parameterization!r}.')
        put(self, "parameterization", parameterization)
        put(self, "widths", _widths(widths, depth, parameterization))
        put(self, "outputs", _count("outputs", outputs))

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
        return Network(
            made,
            activation=self.activation,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
            parameterization=self.parameterization,
            widths=self.widths,
            outputs=self.outputs,
        )

    def to_toml(self) -> str:
        """The network as TOML text that :meth:`from_toml` reads back.

        Raises SpecError for callables, arrays over 4,096 entries and what is ``Known`` of single units: text would not
        hold them.
        """
        return tomli_w.dumps(_to_dict(self, _spec, _activation_spec, _known_spec))

    @classmethod
    def from_toml(cls, text: str) -> Network:
        """Read a network from TOML text; everything in it is data, nothing is evaluated as code.

        Raises SpecError for unreadable text or unknown keys, and the error of the part that is wrong otherwise.
        """
        try:
            data = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise SpecError(f"text: not valid TOML ({error}).") from None
        known = {"activation", "weight_variance", "bias_variance", "parameterization", "widths", "outputs", "layer"}
        _known_keys(data, known, "network")
        if not isinstance(data.get("layer"), list) or not data["layer"]:
            raise SpecError("layer: expected at least one [[layer]] table, from input to output.")
        if "activation" in data:
            data["activation"] = _activation_from_spec(data["activation"])
        layers = []
        for number, table in enumerate(data.pop("layer"), 1):
            _known_keys(table, {"mask", "variance", "drift"}, f"layer {number}")
            if "mask" not in table:
                raise SpecError(f"layer {number}: the mask is missing; write mask = 0.5, text or a table of values.")
            parts: dict[str, Any] = {key: _from_spec(v, f"layer {number}, {key}") for key, v in table.items()}
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
        return tomli_w.dumps(_to_dict(self, _summary, _activation_summary, _known_summary))

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


def _number(name: str, value: Any, *, least: float, strict: bool = False) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, (bool, str)) or not math.isfinite(number) or number < least or (strict and number == least):
        raise NetworkError(f"{name}: expected a finite number {'>' if strict else '>='} {least:g}, got {value!r}.")
    return number


def _variances(value: Any, depth: int) -> tuple[float, ...]:
    several = np.ndim(value) == 1 and not isinstance(value, str)
    many = list(value) if several else [value] * depth
    if len(many) != depth:
        raise NetworkError(f"weight_variance: expected one number or {depth} (one per layer), got {len(many)}.")
    return tuple(_number("weight_variance", v, least=0.0, strict=True) for v in many)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise NetworkError(f"{name}: expected a positive whole number, got {value!r}.")
    return int(value)


def _widths(widths: Any, depth: int, parameterization: str) -> tuple[int, ...] | None:
    if widths is None:
        if parameterization == "standard":
            raise NetworkError(
                f'widths: parameterization="standard" needs the {depth} fan-ins (n_0, ..., n_{depth - 1}), got none.'
            )
        return None
    if not isinstance(widths, (Sequence, np.ndarray)) or len(widths) != depth:
        raise NetworkError(f"widths: expected {depth} fan-ins (n_0, ..., n_{depth - 1}), got {widths!r}.")
    return tuple(_count("widths", n) for n in widths)


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


def _activation_spec(activation: Activation) -> Any:
    """An activation as TOML data: its name, or a table with its expression."""
    if activation.named:
        return activation.name
    if activation.expression is None:
        raise SpecError(f"activation: {activation!r}: a callable cannot be written as text; use an expression in z.")
    return {"expression": expressions.text(activation.expression)}


def _activation_summary(activation: Activation) -> str:
    return activation.name


def _activation_from_spec(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    _known_keys(value, {"expression"}, "activation")
    if not isinstance(value.get("expression"), str):
        raise SpecError('activation: expected a name, or a table such as {expression = "Max(z, z**2/10)"}.')
    return Activation(value["expression"])


def _spec(graphon: Graphon) -> Any:
    """A graphon as TOML data: a number, an expression's text, or a table of values and edges."""
    if isinstance(graphon, ConstantGraphon):
        return graphon.p
    if isinstance(graphon, StepGraphon):
        if graphon.values.size > _MAX_TABLE:
            raise SpecError(
                f"{graphon!r}: {graphon.values.size} entries, at most {_MAX_TABLE} are written as text; "
                "save the array itself."
            )
        return {key: getattr(graphon, key).tolist() for key in ("values", "u_edges", "v_edges")}
    if isinstance(graphon, AnalyticGraphon):
        text = expressions.text(graphon.expr)
        try:
            expressions.parse(text, ("u", "v"))
        except GraphonError as error:
            raise SpecError(f"the expression cannot be written as text that would be read back: {error}") from None
        return text
    raise SpecError(f"{graphon!r}: a callable cannot be written as text; use an AnalyticGraphon or a StepGraphon.")


def _summary(graphon: Graphon) -> Any:
    try:
        return _spec(graphon)
    except SpecError:
        return _short(graphon)


def _short(graphon: Graphon) -> str:
    """A step function by shape and hash, others as they show themselves."""
    if not isinstance(graphon, StepGraphon):
        return repr(graphon)
    data = b"".join(a.tobytes() for a in (graphon.values, graphon.u_edges, graphon.v_edges))
    return f"step function, shape {graphon.values.shape}, sha256 {hashlib.sha256(data).hexdigest()[:16]}"


def _known_spec(known: Known) -> Any:
    raise SpecError(
        f"{known!r}: what is known of single units is not written as text; keep what the network came from."
    )


def _known_summary(known: Known) -> Any:
    digest = hashlib.sha256()
    for graphon in known.graphons:
        digest.update(str(_short(graphon)).encode())
    return f"{len(known.profiles)} profiles, sha256 {digest.hexdigest()[:16]}"


def _from_spec(value: Any, where: str) -> Graphon:
    try:
        if isinstance(value, dict):
            _known_keys(value, {"values", "u_edges", "v_edges"}, where)
            if "values" not in value:
                raise SpecError("values are missing from the step function")
            return StepGraphon(**value)
        if isinstance(value, str):
            return AnalyticGraphon(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return ConstantGraphon(value)
        if isinstance(value, list):
            return StepGraphon(value)
    except GraphonError as error:
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}: {error}.") from None
    raise SpecError(f"{where}: expected a number, an expression's text or a table of values, got {value!r}.")


def _known_keys(table: Any, known: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise SpecError(f"{where}: expected a table, got {table!r}.")
    unknown = sorted(set(table) - known)
    if unknown:
        raise SpecError(f"{where}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
