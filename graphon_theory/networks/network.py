"""Network: the stages from input to output and the scales in them, checked once (THEORY §1, §11)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from graphon_theory.activations.activation import Activation, as_activation
from graphon_theory.data.checks import axes_of, whole_number
from graphon_theory.data.files import file_path
from graphon_theory.errors import GraphonError, NetworkError, SpecError, shown
from graphon_theory.graphons.graphon import Graphon
from graphon_theory.networks.connectivity import Connectivity, as_connectivity
from graphon_theory.networks.network_files import named_after, parsed, read_network, write_network
from graphon_theory.networks.specs import (
    SHORT_SUMMARIES,
    SPECS,
    SUMMARIES,
    Writers,
    activation_from_spec,
    connectivity_from_spec,
    connectivity_spec,
    refuse_unknown,
    stage_from_spec,
    stage_spec,
    toml_text,
)
from graphon_theory.networks.stage_tables import stage_table
from graphon_theory.networks.stages import (
    SCALES,
    STAGES,
    Dense,
    Fork,
    Norm,
    Outline,
    Pointwise,
    Stage,
    Weights,
    bias_variance_of,
    dense_stages,
    has_trained_biases,
    is_plain,
    layer_repr,
    mapped,
    outline_of,
    pointwise_stages,
    read_stages,
    trained_bias_of,
    trained_bias_variance_of,
    weight_variance_of,
    with_trained_biases,
)
from graphon_theory.values import Record


class _LeftOutName(str):
    """A name that stands where none was given."""


class _LeftOutNumber(float):
    """A number that stands where none was given."""


_RELU, _TWO, _ZERO = _LeftOutName("relu"), _LeftOutNumber(2.0), _LeftOutNumber(0.0)
_NO_LAYERS: tuple[object, ...] = ()
_READABLE = 8_000  # characters of a network in the attributes of results


@dataclass(frozen=True, init=False, eq=False)
class Network(Record):
    """A masked network in the limit of width: what limit_kernel computes and what ``graphon_validation`` builds.

        h^l = sigma_w / sqrt(n_{l-1}) (M^l * w^l) phi(h^{l-1}) + sigma_b b^l,   l = 1..L

    Parameters
    ----------
    layers:
        The L weight layers from input to output, each a :class:`Connectivity` or what ``as_graphon`` takes, with
        ``activation`` between them. Where any stands in the list, stages (:class:`Dense`, :class:`Pointwise`,
        :class:`Residual`, :class:`LayerNorm`) are read as they stand, and what is none is a Dense.
        The number of inputs d comes with the data; input position j is the cell [j/d, (j+1)/d].
    activation:
        A name or an Activation, applied after every layer but the last, or a list of them, one for every such layer.
    weight_variance:
        sigma_w^2, one number or one per layer; positive.
    bias_variance:
        sigma_b^2 >= 0, one number or one per layer; 0 means that biases add nothing to K.
    parameterization:
        "ntk" (above) or "standard" (w ~ N(0, sigma_w^2 / n_{l-1}), no factor in h; the NTK depends on the widths).
    widths:
        Fan-ins (n_0, ..., n_{L-1}), needed for "standard" only; n_0 must equal d.
    outputs:
        Number k of outputs; output o is the cell [o/k, (o+1)/k] of the last graphon's rows.
    trained_bias_variance:
        What biases add to T, one number or one per layer, where it differs from what they add to K: biases that start
        at 0 and train have bias_variance=0 and trained_bias_variance=1. None: sigma_b^2 for "ntk"; for "standard" 1,
        or 0 without biases.
    stages:
        Those of another network, in which whatever else is given takes its place; ``dataclasses.replace`` passes them.

    What a stage says for itself goes before these. Raises NetworkError naming the argument, and the reason where stages
    do not fit together. Immutable: ``dataclasses.replace(network, bias_variance=0.1)`` makes another, checked anew.
    Networks are equal when their parts are (see :class:`Graphon`). All can be pickled but those that hold callables
    which cannot, such as lambdas.
    """

    stages: tuple[Stage, ...]
    parameterization: str
    widths: tuple[int, ...] | None
    outputs: int
    default_activation: Activation  # that of the first Pointwise; without any, the one that was given

    def __init__(
        self,
        layers: Sequence[object] = _NO_LAYERS,
        activation: str | Activation | Sequence[str | Activation] = _RELU,
        weight_variance: float | Sequence[float] = _TWO,
        bias_variance: float | Sequence[float] = _ZERO,
        parameterization: str = "ntk",
        widths: Sequence[int] | None = None,
        outputs: int = 1,
        *,
        trained_bias_variance: float | Sequence[float] | None = None,
        stages: tuple[Stage, ...] | None = None,
        default_activation: Activation | None = None,
    ) -> None:
        if not isinstance(parameterization, str) or parameterization not in ("ntk", "standard"):
            raise NetworkError(f'parameterization: expected "ntk" or "standard", got {shown(parameterization)}.')
        made, changed = (_stages(layers), 0) if stages is None else (stages, sum(1 for _ in dense_stages(stages)))
        if changed and layers is not _NO_LAYERS:
            made = _with_layers(made, layers)
        made = _with_activations(made, activation, changed)
        made = _with_scales(made, "weight_variance", weight_variance, weight_variance_of, changed)
        made = _with_scales(made, "bias_variance", bias_variance, bias_variance_of, changed)
        if trained_bias_variance is not None:
            made = _with_scales(made, "trained_bias_variance", trained_bias_variance, trained_bias_variance_of, changed)
        put = object.__setattr__
        put(self, "stages", with_trained_biases(made, parameterization))
        put(self, "parameterization", parameterization)
        put(self, "widths", _widths(widths, self.outline, self.depth, parameterization))
        put(self, "outputs", whole_number("outputs", outputs, error=NetworkError))
        if default_activation is None or activation is not _RELU:
            default_activation = as_activation(activation) if isinstance(activation, str | Activation) else None
        put(self, "default_activation", next(iter(self.activations), default_activation))

    @property
    def depth(self) -> int:
        """L, the number of weight layers."""
        return len(self.layers)

    @cached_property
    def outline(self) -> Outline:
        """The stages as one flat list of parts (``networks/stages.py``)."""
        return outline_of(self.stages)

    @property
    def is_plain(self) -> bool:
        """Whether weight layers and activations alternate."""
        return is_plain(self.stages)

    @cached_property
    def layers(self) -> tuple[Connectivity, ...]:
        """The weight layers in the order in which signals meet them."""
        return tuple(stage.connectivity for stage in dense_stages(self.stages))

    @cached_property
    def activations(self) -> tuple[Activation, ...]:
        """The activations in the order in which signals meet them."""
        return tuple(stage.activation for stage in pointwise_stages(self.stages) if stage.activation is not None)

    @property
    def activation(self) -> Activation:
        """The one activation; NetworkError where there are several, which are in ``activations``."""
        if any(other != self.default_activation for other in self.activations):
            names = ", ".join(dict.fromkeys(activation.name for activation in self.activations))
            raise NetworkError(f"activation: one is asked for, and this network has several ({names}): .activations.")
        return self.default_activation

    @cached_property
    def weight_variance(self) -> tuple[float, ...]:
        """sigma_w^2 of every weight layer."""
        return tuple(stage.weight_variance or 0.0 for stage in dense_stages(self.stages))

    @cached_property
    def bias_variances(self) -> tuple[float, ...]:
        """sigma_b^2 of every weight layer: what its biases add to K."""
        return tuple(stage.bias_variance or 0.0 for stage in dense_stages(self.stages))

    @property
    def bias_variance(self) -> float:
        """The one sigma_b^2; NetworkError where layers have their own, which are in ``bias_variances``."""
        if len(set(self.bias_variances)) > 1:
            raise NetworkError(
                "bias_variance: one is asked for, and layers have their own, "
                f"{list(self.bias_variances)}: .bias_variances."
            )
        return self.bias_variances[0]

    @cached_property
    def trained_bias_variances(self) -> tuple[float, ...]:
        """What the biases of every weight layer add to T."""
        return tuple(trained_bias_of(stage, self.parameterization) for stage in dense_stages(self.stages))

    @property
    def has_biases(self) -> bool:
        """Whether biases add anything, to K or to T."""
        return any(self.bias_variances) or any(self.trained_bias_variances)

    @property
    def has_drift(self) -> bool:
        """Whether signals have means, by the drift of any layer."""
        return any(layer.has_drift for layer in self.layers)

    def ask_plain(self, why: str) -> None:
        """Raise NetworkError unless weight layers and activations alternate; ``why`` says what for."""
        for part in self.outline:
            if isinstance(part, Fork | Norm):
                stage = "a Residual" if isinstance(part, Fork) else "a LayerNorm"
                raise NetworkError(f"network: it has {stage} stage, for which this is not derived ({why}).")

    def with_layers(self, layers: Sequence[object]) -> Network:
        """The same network with other layers, as many."""
        made = _layers(layers)
        if len(made) != self.depth:
            raise NetworkError(f"layers: expected {self.depth}, as many as there are, got {len(made)}.")
        return self.changed(layers=made)

    def changed(self, **arguments: Any) -> Network:
        """The same network with other arguments, checked anew; what ``dataclasses.replace`` does."""
        return replace(self, **arguments)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return tuple(getattr(self, one.name) for one in fields(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **{one.name: getattr(self, one.name) for one in fields(self)}), ()

    def to_toml(self) -> str:
        """The network as TOML text that :meth:`from_toml` reads back.

        Raises SpecError for callables, arrays over 4,096 entries and what is ``Known`` of single units: text would not
        hold them; :meth:`save` holds all but callables.
        """
        return toml_text(_to_dict(self, SPECS))

    @classmethod
    def from_toml(cls, text: str) -> Network:
        """Read a network from TOML text; everything in it is data, nothing is evaluated as code.

        Weight layers are [[layer]] tables, with the activation between them, or stages are [[stage]] tables of a kind:
        "dense" (mask, variance, drift and scales), "pointwise" (activation), "residual" (scale, and stages of its own)
        and "layer_norm" (epsilon).

        Raises SpecError for unreadable text or unknown keys, and the error of the part that is wrong otherwise.
        """
        if not isinstance(text, str):
            raise SpecError(
                f"text: not valid TOML (expected text, got {type(text).__name__}; read a file with Path.read_text)."
            )
        return cls._of(parsed(text))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file, whole or not at all: as TOML (.toml), or with its arrays beside that (.npz).

        A .npz holds step functions of any size and what is ``Known``, to the last bit. Raises SpecError for callables,
        for other names, and in .toml as :meth:`to_toml`.
        """
        write_network(path, partial(_to_dict, self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Network:
        """Read what :meth:`save` wrote, of either kind. Nothing is run, and no more is read than the file is long.

        Raises SpecError as :meth:`from_toml` and for damaged files, with the file's name; OSError where there is none.
        """
        place = file_path("path", path, error=SpecError)
        try:
            return cls._of(read_network(place))
        except GraphonError as error:
            raise named_after(place, error) from None

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Network:
        kind = "stage" if "stage" in data and "layer" not in data else "layer"
        refuse_unknown(data, {*_KEYS, kind}, "network")
        if not isinstance(data.get(kind), list) or not data[kind]:
            raise SpecError(f"{kind}: expected at least one [[{kind}]] table, from input to output.")
        if "activation" in data:
            data["activation"] = activation_from_spec(data["activation"])
        read = stage_from_spec if kind == "stage" else connectivity_from_spec
        layers = [read(table, f"{kind} {number}") for number, table in enumerate(data.pop(kind), 1)]
        return cls(layers, **data)

    def describe(self) -> str:
        """Text for result attributes: TOML where possible, callables by name and large arrays by shape and hash.

        Of texts beyond 8,000 characters, which :meth:`from_toml` would read and nobody else, all tables of over 36
        entries are given by shape and hash: keep the network itself, by :meth:`to_toml` or a pickle.
        """
        return self._description

    @cached_property
    def _description(self) -> str:
        text = toml_text(_to_dict(self, SUMMARIES))
        return text if len(text) <= _READABLE else toml_text(_to_dict(self, SHORT_SUMMARIES))

    def _repr_html_(self) -> str:
        """A table of the stages, with small heat maps of their graphons, as HTML and inline SVG."""
        outputs = f"{self.outputs} output{'s' if self.outputs > 1 else ''}"
        layers = f"{self.depth} weight layer{'s' if self.depth > 1 else ''}"
        return stage_table(f"Network: {layers}, {outputs}, {self.parameterization} parameterization", self.stages)

    def __repr__(self) -> str:
        if self.is_plain:
            parts = [f"[{', '.join(map(layer_repr, self.layers))}]"]
            names = [activation.name for activation in self.activations] or [self.default_activation.name]
            parts.append(f"activation={_one_or_many(names)!r}")
            parts.append(f"weight_variance={_one_or_many(self.weight_variance)}")
            parts.append(f"bias_variance={_one_or_many(self.bias_variances)}")
            if has_trained_biases(self.stages):
                parts.append(f"trained_bias_variance={_one_or_many(self.trained_bias_variances)}")
        else:
            parts = [f"[{', '.join(map(repr, self.stages))}]"]
        if self.parameterization != "ntk":
            parts.append(f"parameterization={self.parameterization!r}, widths={self.widths}")
        if self.outputs != 1:
            parts.append(f"outputs={self.outputs}")
        return f"Network({', '.join(parts)})"


_KEYS = (
    *("activation", "weight_variance", "bias_variance", "trained_bias_variance"),
    *("parameterization", "widths", "outputs"),
)


_MOST_LAYERS = 100_000  # deeper than any, and read in seconds


def _sequence(layers: Any) -> Sequence[object]:
    if isinstance(layers, (str, Graphon, Connectivity, *STAGES)) or not isinstance(layers, Sequence):
        raise NetworkError(f"layers: expected a sequence of layers from input to output, got {type(layers).__name__}.")
    if not layers:
        raise NetworkError("layers: expected at least one layer, got none.")
    if len(layers) > _MOST_LAYERS:
        raise NetworkError(f"layers: expected at most {_MOST_LAYERS:,}, got {len(layers):,}.")
    return layers


def _layers(layers: Any) -> tuple[Connectivity, ...]:
    made = []
    for number, layer in enumerate(_sequence(layers), 1):
        try:
            made.append(as_connectivity(layer))
        except GraphonError as error:
            raise type(error)(f"layers: layer {number}: {error}") from None
    return tuple(made)


def _stages(layers: Any) -> tuple[Stage, ...]:
    """Stages as they stand where there is any; else weight layers, and activations that are the network's."""
    if any(isinstance(one, STAGES) for one in _sequence(layers)):
        return read_stages(layers)
    return _alternating([*map(Dense, _layers(layers))], Pointwise())


def _alternating(layers: list[Dense], between: Pointwise) -> tuple[Stage, ...]:
    first, *others = layers
    return (first, *(stage for dense in others for stage in (between, dense)))


def _with_layers(stages: tuple[Stage, ...], layers: Any) -> tuple[Stage, ...]:
    """The same stages with other connectivities, as many; stages themselves where ``layers`` holds any."""
    if any(isinstance(one, STAGES) for one in _sequence(layers)):
        return read_stages(layers)
    made, held = _layers(layers), sum(1 for _ in dense_stages(stages))
    if len(made) == held:
        each = iter(made)
        return mapped(stages, lambda stage: replace(stage, connectivity=next(each)), lambda stage: stage)
    if not is_plain(stages):
        raise NetworkError(f"layers: expected {held}, as many as there are in the stages, got {len(made)}.")
    first, *_ = old = [*dense_stages(stages)]
    shared = {name: getattr(first, name) for name in SCALES if len({getattr(one, name) for one in old}) == 1}
    activations = {stage.activation for stage in pointwise_stages(stages)}
    between = Pointwise(*activations) if len(activations) == 1 else Pointwise()
    return _alternating([Dense(one, **shared) for one in made], between)


def _with_activations(stages: tuple[Stage, ...], value: Any, changed: int) -> tuple[Stage, ...]:
    """With ``value`` where a Pointwise has no activation; in place of all where layers are ``changed``."""
    if changed and value is _RELU:
        if any(stage.activation is None for stage in pointwise_stages(stages)):
            raise NetworkError("activation: other layers need activations of their own, got none for them.")
        return stages
    count = sum(1 for _ in pointwise_stages(stages))
    if isinstance(value, list | tuple):
        if len(value) != count:
            raise NetworkError(
                f"activation: expected one or {count} (one for every layer but the last), got {len(value)}."
            )
        each: Iterator[Activation] = iter([as_activation(one) for one in value])
    else:
        each = iter([as_activation(value)] * count)

    def pointwise(stage: Pointwise) -> Pointwise:
        activation = next(each)
        return Pointwise(activation) if stage.activation is None or changed else stage

    return mapped(stages, lambda stage: stage, pointwise)


def _with_scales(
    stages: tuple[Stage, ...], name: str, value: Any, checked: Callable[[Any], float], changed: int
) -> tuple[Stage, ...]:
    """With ``value``, one or one per layer, where a Dense has no number; in place of all those ``changed``."""
    depth = sum(1 for _ in dense_stages(stages))
    if changed and isinstance(value, _LeftOutNumber):
        if any(getattr(stage, name) is None for stage in dense_stages(stages)):
            raise NetworkError(f"{name}: expected one number or {depth} (one per layer), got {changed}.")
        return stages
    several = axes_of(value) == 1 and not isinstance(value, str)
    many = value if several else [value] * depth
    if len(many) != depth:
        raise NetworkError(f"{name}: expected one number or {depth} (one per layer), got {len(many)}.")
    each = iter([float(checked(one)) for one in many])

    def dense(stage: Dense) -> Dense:
        number: Any = next(each)
        return replace(stage, **{name: number}) if changed or getattr(stage, name) is None else stage

    return mapped(stages, dense, lambda stage: stage)


def _widths(widths: Any, outline: Outline, depth: int, parameterization: str) -> tuple[int, ...] | None:
    if widths is None:
        if parameterization == "standard":
            raise NetworkError(
                f'widths: parameterization="standard" needs the {depth} fan-ins (n_0, ..., n_{depth - 1}), got none.'
            )
        return None
    if not isinstance(widths, (Sequence, np.ndarray)) or axes_of(widths) != 1 or len(widths) != depth:
        raise NetworkError(f"widths: expected {depth} fan-ins (n_0, ..., n_{depth - 1}), got {shown(widths)}.")
    checked = tuple(whole_number("widths", n, error=NetworkError) for n in widths)
    units: dict[int, tuple[int, int]] = {}  # of every layer of units: who read it first, and its width
    for part in outline:
        if isinstance(part, Weights):
            number, width = units.setdefault(part.source, (part.number, checked[part.number - 1]))
            if width != checked[part.number - 1]:
                raise NetworkError(
                    f"widths: weight layers {number} and {part.number} read the same layer of units, to which a branch "
                    f"comes back, got n_{number - 1} = {width} and n_{part.number - 1} = {checked[part.number - 1]}."
                )
    return checked


def _one_or_many(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else list(values)


def _to_dict(network: Network, write: Writers) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if network.is_plain:
        activations = network.activations or (network.default_activation,)
        out["activation"] = _one_or_many([write.activation(activation) for activation in activations])
        out["weight_variance"] = _one_or_many(network.weight_variance)
        out["bias_variance"] = _one_or_many(network.bias_variances)
        if has_trained_biases(network.stages):
            out["trained_bias_variance"] = _one_or_many(network.trained_bias_variances)
    out["parameterization"] = network.parameterization
    out["outputs"] = network.outputs
    if network.widths is not None:
        out["widths"] = list(network.widths)
    if network.is_plain:
        out["layer"] = [connectivity_spec(layer, write) for layer in network.layers]
    else:
        out["stage"] = [stage_spec(stage, write) for stage in network.stages]
    return out
