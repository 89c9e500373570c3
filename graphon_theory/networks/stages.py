"""What networks are made of: Dense, Pointwise, Residual and LayerNorm stages, and how fields pass them (THEORY §11).

A field is Gaussian *before* an activation and anything *behind* it; stages ask for one or the other, and mix units or
leave them in their layer. :func:`outline_of` writes nested stages as one flat list of parts, from the inputs to the
outputs, and refuses what has no limit kernel by these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from graphon_theory.activations.activation import Activation, as_activation
from graphon_theory.data.checks import finite_number, positive_number
from graphon_theory.errors import GraphonError, NetworkError, shown
from graphon_theory.networks.connectivity import Connectivity, as_connectivity
from graphon_theory.values import Record


@dataclass(frozen=True, init=False, eq=False)
class Dense(Record):
    """A weight layer, from the units below to units of its own: h_i = sigma_w / sqrt(n) sum_j M_ij w_ij a_j + bias.

    ``connectivity``: a :class:`Connectivity` or what ``as_graphon`` takes. ``weight_variance`` sigma_w^2 > 0,
    ``bias_variance`` sigma_b^2 >= 0: what biases add to K. ``trained_bias_variance`` >= 0: what they add to T, where
    that differs (biases that start at 0 and train: bias_variance=0, trained_bias_variance=1). None: the network's.

    Raises NetworkError naming the argument, and the error of a connectivity that is wrong.
    """

    connectivity: Connectivity
    weight_variance: float | None
    bias_variance: float | None
    trained_bias_variance: float | None

    def __init__(
        self,
        connectivity: object,
        weight_variance: float | None = None,
        bias_variance: float | None = None,
        trained_bias_variance: float | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "connectivity", as_connectivity(connectivity))
        put(self, "weight_variance", None if weight_variance is None else weight_variance_of(weight_variance))
        for name, number in (("bias_variance", bias_variance), ("trained_bias_variance", trained_bias_variance)):
            put(self, name, None if number is None else bias_variance_of(number, name))

    def __repr__(self) -> str:
        given = [f"{name}={getattr(self, name)!r}" for name in SCALES if getattr(self, name) is not None]
        return f"Dense({', '.join([layer_repr(self.connectivity), *given])})"


@dataclass(frozen=True, init=False, eq=False)
class Pointwise(Record):
    """An activation on every unit, by name or an :class:`Activation`; None: the network's.

    Raises ActivationError for anything else.
    """

    activation: Activation | None

    def __init__(self, activation: str | Activation | None = None) -> None:
        object.__setattr__(self, "activation", None if activation is None else as_activation(activation))

    def __repr__(self) -> str:
        return "Pointwise()" if self.activation is None else f"Pointwise({self.activation.name!r})"


@dataclass(frozen=True, init=False, eq=False)
class Residual(Record):
    """A branch beside a shortcut, y = x + scale branch(x): K + s^2 K_b, T + s^2 T_b, mu + s mu_b (THEORY §11).

    ``stages``: the branch, which starts from the pre-activations x and comes back to the same units through a Dense of
    its own. ``scale``: a finite number.

    The shortcut holds no weights: where the branch loses all of its own (V = 0), y = x.
    """

    stages: tuple[Stage, ...]
    scale: float

    def __init__(self, *stages: object, scale: float = 1.0) -> None:
        object.__setattr__(self, "stages", read_stages(stages, "Residual: "))
        object.__setattr__(self, "scale", finite_number("scale", scale, error=NetworkError))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Residual, scale=self.scale), self.stages

    def __repr__(self) -> str:
        scale = [] if self.scale == 1.0 else [f"scale={self.scale!r}"]
        return f"Residual({', '.join([*map(repr, self.stages), *scale])})"


@dataclass(frozen=True, eq=False)
class LayerNorm(Record):
    """Every input's field less its mean over the layer's units, over its deviation (THEORY §11).

        (h_i - M) / sqrt(q + epsilon),     M = mean of h,   q = mean of h^2 - M^2 over the layer

    for pre-activations or for what an activation sends on. No trained scale and shift. ``epsilon`` >= 0, a variance.
    """

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        expected = "a finite number >= 0"
        epsilon = positive_number("epsilon", self.epsilon, zero=True, error=NetworkError, expected=expected)
        object.__setattr__(self, "epsilon", epsilon)

    def __repr__(self) -> str:
        return f"LayerNorm({self.epsilon!r})"


Stage = Dense | Pointwise | Residual | LayerNorm
SCALES = ("weight_variance", "bias_variance", "trained_bias_variance")  # of a Dense
STAGES = (Dense, Pointwise, Residual, LayerNorm)


def weight_variance_of(value: Any) -> float:
    return positive_number("weight_variance", value, error=NetworkError, expected="a finite number > 0")


def bias_variance_of(value: Any, name: str = "bias_variance") -> float:
    return positive_number(name, value, zero=True, error=NetworkError, expected="a finite number >= 0")


def read_stages(things: Sequence[object], where: str = "layers: ") -> tuple[Stage, ...]:
    """Stages as they stand; what is none is a Dense."""
    out: list[Stage] = []
    for number, thing in enumerate(things, 1):
        if isinstance(thing, STAGES):
            out.append(thing)
            continue
        try:
            out.append(Dense(thing))
        except GraphonError as error:
            raise type(error)(f"{where}stage {number}: {error}") from None
    return tuple(out)


def layer_repr(layer: Connectivity) -> str:
    plain = layer.variance is layer.mask and not layer.has_drift
    return repr(layer.mask) if plain else repr(layer)


def dense_stages(stages: Sequence[Stage]) -> Iterator[Dense]:
    """The weight layers in the order in which signals meet them."""
    for stage in stages:
        if isinstance(stage, Dense):
            yield stage
        elif isinstance(stage, Residual):
            yield from dense_stages(stage.stages)


def pointwise_stages(stages: Sequence[Stage]) -> Iterator[Pointwise]:
    """The activations in the order in which signals meet them."""
    for stage in stages:
        if isinstance(stage, Pointwise):
            yield stage
        elif isinstance(stage, Residual):
            yield from pointwise_stages(stage.stages)


def is_plain(stages: Sequence[Stage]) -> bool:
    """Whether weight layers and activations alternate."""
    kinds = (Dense, Pointwise)
    return len(stages) % 2 == 1 and all(isinstance(stage, kinds[number % 2]) for number, stage in enumerate(stages))


def mapped(
    stages: Sequence[Stage], dense: Callable[[Dense], Dense], pointwise: Callable[[Pointwise], Pointwise]
) -> tuple[Stage, ...]:
    """The same architecture with other weight layers and activations, asked for in their order."""

    def one(stage: Stage) -> Stage:
        if isinstance(stage, Dense):
            return dense(stage)
        if isinstance(stage, Pointwise):
            return pointwise(stage)
        if isinstance(stage, Residual):
            return Residual(*map(one, stage.stages), scale=stage.scale)
        return stage

    return tuple(map(one, stages))


# --- the outline ------------------------------------------------------------------------------------------------------


class Weights(NamedTuple):
    """A weight layer, from one layer of units to another; these are counted from 0, the inputs."""

    number: int  # from 1
    source: int
    place: int


class Phi(NamedTuple):
    """An activation."""

    activation: Activation
    place: int


class Fork(NamedTuple):
    """Here a branch leaves: what stands here is kept for its Join."""

    place: int


class Join(NamedTuple):
    """Here it comes back, times ``scale``."""

    scale: float
    place: int


class Norm(NamedTuple):
    """LayerNorm, of a field before or behind an activation."""

    epsilon: float
    place: int
    before: bool


Part = Weights | Phi | Fork | Join | Norm
Outline = tuple[Part, ...]


def plain_outline(activations: Sequence[Activation]) -> Outline:
    """Weight layers with these activations between them."""
    parts: list[Part] = [Weights(1, 0, 1)]
    for number, activation in enumerate(activations, 1):
        parts += [Phi(activation, number), Weights(number + 1, number, number + 1)]
    return tuple(parts)


def outline_of(stages: Sequence[Stage]) -> Outline:
    """The parts of a network from inputs to outputs, with their layers of units.

    A Dense that reads pre-activations reads them as they are, through an identity. Raises NetworkError, with the
    reason, for stages that do not fit together.
    """
    return tuple(_Reader().read(stages))


class _Reader:
    """Where a walk along stages stands: the layer of units, and whether its field is Gaussian."""

    def __init__(self) -> None:
        self.number = 0
        self.place = 0
        self.places = 0
        self.before = False

    def read(self, stages: Sequence[Stage]) -> Iterator[Part]:
        yield from self._walk(stages, "")
        last = stages[-1]
        if not isinstance(last, Dense):
            raise NetworkError(f"stages: stage {len(stages)}: a network ends in a Dense; {_AT_OUTPUTS[type(last)]}")

    def _walk(self, stages: Sequence[Stage], where: str, start: int = 0) -> Iterator[Part]:
        for index, stage in enumerate(stages[start:], start + 1):
            name = f"{where}stage {index}"
            if isinstance(stage, Dense):
                yield from self._dense()
            elif self.place == 0:
                raise NetworkError(f"stages: {name}: {_AT_INPUTS[type(stage)]}")
            elif isinstance(stage, Pointwise):
                self._ask_gaussian(name, "an activation", "compose the two functions in one Activation")
                assert stage.activation is not None
                self.before = False
                yield Phi(stage.activation, self.place)
            elif isinstance(stage, LayerNorm):
                yield Norm(stage.epsilon, self.place, self.before)
            else:
                yield from self._residual(stage, name)

    def _dense(self, target: int | None = None) -> Iterator[Part]:
        if self.before:
            yield Phi(as_activation("identity"), self.place)
        self.number += 1
        source = self.place
        if target is None:
            self.places += 1
            target = self.places
        self.place, self.before = target, True
        yield Weights(self.number, source, target)

    def _residual(self, stage: Residual, name: str) -> Iterator[Part]:
        self._ask_gaussian(name, "a shortcut", "let it skip from pre-activations: put it before the activation")
        home = self.place
        dense = [index for index, inner in enumerate(stage.stages) if isinstance(inner, Dense)]
        if not dense:
            raise NetworkError(
                f"stages: {name}: the branch has no Dense of its own, so that it is not independent of its shortcut "
                f"and their sum is not Gaussian; got {shown(stage)}."
            )
        last = dense[-1]
        yield Fork(home)
        yield from self._walk(stage.stages[:last], f"{name}, ")
        yield from self._dense(home)
        yield from self._walk(stage.stages, f"{name}, ", last + 1)
        if not self.before:
            raise NetworkError(
                f"stages: {name}: the branch ends behind an activation, where nothing is Gaussian; end it in a Dense, "
                "which comes back to the units that it left."
            )
        yield Join(stage.scale, home)

    def _ask_gaussian(self, name: str, what: str, mend: str) -> None:
        if not self.before:
            raise NetworkError(
                f"stages: {name}: {what} of what stands behind an activation (or a LayerNorm there), which is not "
                f"Gaussian; {mend}."
            )


_AT_INPUTS = {
    Pointwise: "an activation of the inputs themselves makes no layer; apply it to x.",
    LayerNorm: "a LayerNorm of the inputs themselves makes no layer; normalise the rows of x.",
    Residual: "a shortcut from the inputs is not Gaussian; start with a Dense.",
}
_AT_OUTPUTS = {
    Pointwise: "behind an activation the outputs are not Gaussian; apply it to what the network says.",
    LayerNorm: "the k outputs are too few for the means over a layer that LayerNorm takes.",
    Residual: "the branch would start from the k outputs, which are too few to be a layer of units.",
}


def stages_of(outline: Outline, dense: Sequence[Dense]) -> tuple[Stage, ...]:
    """The stages that an outline was made of, with ``dense`` as its weight layers in their order."""
    found: list[list[Stage]] = [[]]
    for part in outline:
        if isinstance(part, Weights):
            found[-1].append(dense[part.number - 1])
        elif isinstance(part, Phi):
            found[-1].append(Pointwise(part.activation))
        elif isinstance(part, Norm):
            found[-1].append(LayerNorm(part.epsilon))
        elif isinstance(part, Fork):
            found.append([])
        else:
            branch = found.pop()
            found[-1].append(Residual(*branch, scale=part.scale))
    return tuple(found[0])


def trained_bias_variance_of(value: Any) -> float:
    """As `bias_variance_of`, of what biases add to T."""
    return bias_variance_of(value, "trained_bias_variance")


def has_trained_biases(stages: tuple[Stage, ...]) -> bool:
    """Whether any layer says for itself what its biases add to T."""
    return any(stage.trained_bias_variance is not None for stage in dense_stages(stages))


def trained_bias_of(stage: Dense, parameterization: str) -> float:
    """What the biases of a layer add to T."""
    if stage.trained_bias_variance is not None:
        return stage.trained_bias_variance
    variance = stage.bias_variance or 0.0
    return float(variance > 0) if parameterization == "standard" else variance


def with_trained_biases(stages: tuple[Stage, ...], parameterization: str) -> tuple[Stage, ...]:
    """Where any layer says what its biases add to T, all do."""
    if not has_trained_biases(stages):
        return stages
    return mapped(
        stages,
        lambda stage: replace(stage, trained_bias_variance=trained_bias_of(stage, parameterization)),
        lambda stage: stage,
    )
