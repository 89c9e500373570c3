"""What the table of problems is made of: specifications of graphons, layers, inputs, problems with known kernels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import graphon_theory as gt

DATA = Path(__file__).parent / "data" / "problems.npz"

FloatArray = NDArray[np.float64]
Edges = tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """A step graphon: values[i][j] on row block i, column block j; equal blocks if the edges are left out."""

    values: tuple[tuple[float, ...], ...]
    u_edges: Edges | None = None
    v_edges: Edges | None = None


@dataclass(frozen=True)
class BlackBox:
    """A callable of which the package is told nothing but declared edges: written here as text."""

    text: str
    u_edges: Edges = (0.0, 1.0)
    v_edges: Edges = (0.0, 1.0)
    diagonal: bool = False

    def __call__(self, u: Any, v: Any) -> FloatArray:
        """Values in float64, as a user's own function gives them."""
        from tests.tools.brute_force import function_of

        return np.asarray(function_of(self.text)(u, v), dtype=np.float64)


Spec = float | Step | str | BlackBox  # a constant, a step graphon, the text of an expression in u and v, a callable


@dataclass(frozen=True)
class Layer:
    """(W, V) of one layer; V = W if left out."""

    mask: Spec
    variance: Spec | None = None


@dataclass(frozen=True)
class Problem:
    """One network of the table, with its inputs and its known kernels."""

    name: str
    shows: str  # which difficulty the problem is in the table for
    layers: tuple[Spec | Layer, ...]  # from input to output
    inputs: str = "four"  # a key of INPUTS
    activation: str = "relu"
    weight_variance: float | tuple[float, ...] = 2.0
    bias_variance: float = 0.0
    parameterization: str = "ntk"
    widths: tuple[int, ...] | None = None
    outputs: int = 1

    @property
    def x(self) -> FloatArray:
        """Inputs (6, d)."""
        return np.array(INPUTS[self.inputs])

    @property
    def connectivities(self) -> tuple[Layer, ...]:
        """The layers, each with its V spelled out."""
        full = (layer if isinstance(layer, Layer) else Layer(layer) for layer in self.layers)
        return tuple(Layer(layer.mask, layer.mask if layer.variance is None else layer.variance) for layer in full)

    @property
    def weight_variances(self) -> tuple[float, ...]:
        """sigma_w^2, one per layer."""
        given = self.weight_variance
        return given if isinstance(given, tuple) else (given,) * len(self.layers)

    def network(self) -> gt.Network:
        """The network as a user writes it."""
        import graphon_theory as gt

        layers: list[Any] = []
        for layer in self.layers:
            if isinstance(layer, Layer):
                variance = None if layer.variance is None else graphon(layer.variance)
                layers.append(gt.Connectivity(graphon(layer.mask), variance))
            else:
                layers.append(graphon(layer))
        return gt.Network(
            layers,
            activation=self.activation,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
            parameterization=self.parameterization,
            widths=self.widths,
            outputs=self.outputs,
        )

    @property
    def fingerprint(self) -> str:
        """Names the problem's content. The data file holds it: a changed problem needs new references."""
        content = (replace(self, shows=""), INPUTS[self.inputs])
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]

    @property
    def nngp(self) -> FloatArray:
        """Reference K^L: (6, 6), or (outputs, 6, 6) if there are several outputs."""
        return self._reference("nngp")

    @property
    def ntk(self) -> FloatArray:
        """Reference T^L, shaped as :attr:`nngp`."""
        return self._reference("ntk")

    @property
    def ntk_layer(self) -> FloatArray:
        """Reference NTK_l, the layers leading: (L, 6, 6) or (L, outputs, 6, 6)."""
        return self._reference("ntk_layer")

    @property
    def resolution_error(self) -> float:
        """How far two different resolutions of the reference are apart, relative to sqrt(K_ii K_jj)."""
        return float(_data()[f"{self.name}/resolution_error"])

    def _reference(self, key: str) -> FloatArray:
        full: FloatArray = _data()[f"{self.name}/{key}"]
        return full if self.outputs > 1 else full.reshape(*full.shape[:-3], *full.shape[-2:])


def graphon(spec: Spec) -> Any:
    """A specification as the package's own object; numbers stay numbers."""
    import graphon_theory as gt

    if isinstance(spec, Step):
        return gt.StepGraphon(spec.values, u_edges=spec.u_edges, v_edges=spec.v_edges)
    if isinstance(spec, BlackBox):
        return gt.FunctionGraphon(spec, u_edges=spec.u_edges, v_edges=spec.v_edges, diagonal=spec.diagonal)
    return gt.AnalyticGraphon(spec) if isinstance(spec, str) else spec


@cache
def _data() -> dict[str, NDArray[Any]]:
    with np.load(DATA) as archive:
        return dict(archive)


# Rows 0-2 are general, row 3 duplicates row 0, row 4 opposes row 1, row 5 is zero. The numbers are short
# binary fractions, so that products and Gram determinants of inputs are exact in float64.
INPUTS: dict[str, tuple[tuple[float, ...], ...]] = {
    "one": ((1.0,), (0.5,), (-0.75,), (1.0,), (-0.5,), (0.0,)),
    "three": (
        (1.0, -0.5, 0.75),
        (0.5, 1.25, -0.75),
        (-0.875, 0.375, 1.0),
        (1.0, -0.5, 0.75),
        (-0.5, -1.25, 0.75),
        (0.0, 0.0, 0.0),
    ),
    "four": (
        (1.0, -0.5, 0.25, 0.75),
        (0.5, 1.25, -0.75, 0.125),
        (-0.875, 0.375, 1.0, 0.5),
        (1.0, -0.5, 0.25, 0.75),
        (-0.5, -1.25, 0.75, -0.125),
        (0.0, 0.0, 0.0, 0.0),
    ),
    # The first entries that are not zero stand in different places: the rank of the input grows with u where
    # the input layer is Heaviside(u - v).
    "staggered": (
        (1.0, -0.5, 0.25, 0.75),
        (0.0, 1.25, -0.75, 0.125),
        (0.0, 0.0, 1.0, 0.5),
        (-0.75, 0.25, 0.5, 1.0),
        (-1.0, 0.5, -0.25, -0.75),
        (0.0, 0.0, 0.0, 0.0),
    ),
    # Row 0 moved by 2^-9 and 2^-17, opposed up to 2^-13, doubled, and one general row.
    "close": (
        (1.0, -0.5, 0.25, 0.75),
        (1.0, -0.5, 0.25 + 2.0**-9, 0.75),
        (1.0 + 2.0**-17, -0.5, 0.25, 0.75),
        (-1.0, 0.5 + 2.0**-13, -0.25, -0.75),
        (2.0, -1.0, 0.5, 1.5),
        (0.5, 1.25, -0.75, 0.125),
    ),
}
