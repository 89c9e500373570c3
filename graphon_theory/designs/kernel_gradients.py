"""kernel_gradient: how the kernels of a network change with its graphons and scales (THEORY §12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, as_kernel, real_array, refuse_infinite
from graphon_theory.data.labels import (
    OUTPUT,
    Labels,
    U,
    V,
    Variables,
    X,
    by_kernel,
    dataset,
    inputs_of,
    labels_of,
    refuse_other_labels,
    samples_of,
)
from graphon_theory.engine.cotangents import LayerSums
from graphon_theory.engine.discretisation import Discretisation, check_problem, discretise, layers_of
from graphon_theory.engine.gradients import operator_gradients
from graphon_theory.engine.operators import Layer
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.samples import distinct
from graphon_theory.engine.steps import DualStep, Field
from graphon_theory.engine.threads import single_threaded_blas
from graphon_theory.errors import ActivationError, InputError, NetworkError
from graphon_theory.graphons.conversions import as_graphon
from graphon_theory.graphons.graphon import Graphon, StepGraphon
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Weights, dense_stages
from graphon_theory.numerics.quadratures import Panels
from graphon_theory.values import Record

if TYPE_CHECKING:
    import xarray as xr

_PARTS = ("mask", "variance", "drift")


def kernel_gradient(
    network: Network,
    x: ArrayLike | xr.DataArray,
    x2: ArrayLike | xr.DataArray | None = None,
    *,
    ntk: ArrayLike | xr.DataArray | None = None,
    nngp: ArrayLike | xr.DataArray | None = None,
    rtol: float = 1e-10,
    threads: int | None = None,
) -> KernelGradient:
    """The exact derivative of J = sum_ij ntk_ij NTK(x_i, x2_j) + sum_ij nngp_ij NNGP(x_i, x2_j) in all that makes them.

    With cotangents t' = ``ntk`` and k' = ``nngp`` at the outputs, downward per pair, E = Cdot and F = dE/dK:

        S' = sigma_w^2 int V(u, .) t'(u) du,   C' = sigma_w^2 int [V k' + W t'] du,   T' = E S',   K' = C' E + (S' T) F
        dJ/dV(u, v) = sigma_w^2 sum_pairs [k'(u) C(v) + t'(u) S(v)],   dJ/dW(u, v) = sigma_w^2 sum_pairs t'(u) C(v)

    and what the variances and means of single inputs get goes down their own recursion (THEORY §12). It takes a few
    times as long as :func:`limit_kernel`, and memory for a tile of pairs.

    Parameters
    ----------
    network, x, x2, rtol, threads:
        As in :func:`limit_kernel`; x2 None means x. The derivative is that of the discretised kernel, which for
        constant and step graphons is the kernel itself.
    ntk, nngp:
        Cotangents (N, N2), with a leading axis of outputs if the network has several; None means zero. They need not
        be symmetric where x2 is None; the kernels are.

    Returns
    -------
    A :class:`KernelGradient`. V is held fixed where W varies and the other way round: where the two are one graphon,
    its derivative is the sum of both.

    Raises InputError for cotangents of another shape or none at all, NetworkError for a network whose positions tell of
    their units' parameters (``Known``), ActivationError for a phi that jumps and is not "step"; otherwise as
    :func:`limit_kernel`. At a position that nothing reaches, or an input of variance 0, a kinked phi has no derivative
    in that variance; it is held at 0 there.
    """
    inputs = as_inputs(x, "x")
    second = None if x2 is None else as_inputs(x2, "x2", like=x)
    check_problem(network, inputs, second, rtol)
    if ntk is None and nngp is None:
        raise InputError("ntk, nngp: expected the cotangents of one kernel at least, got none.")
    cotangents = [
        _cotangent(name, values, network.outputs, x, x2, (len(inputs), len(inputs if second is None else second)))
        for name, values in (("nngp", nngp), ("ntk", ntk))
    ]
    if second is not None:  # pairs within a set have no cotangent, and tiles without any take no time
        cotangents = [None if one is None else _between(one) for one in cotangents]
        inputs = np.concatenate([inputs, second])
    check_differentiable(network)
    with single_threaded_blas():
        grid = discretise(network, distinct(inputs), float(rtol))
        recursion = Recursion(grid.operators, network.outline, inputs, weights=grid.weights)
        sums = operator_gradients(recursion, inputs, *cotangents, threads=threads)
    return KernelGradient.of(network, grid, inputs.shape[1], sums, _still(recursion, inputs))


def check_differentiable(network: Network) -> None:
    """Refuse what the way back is not derived for."""
    for number, layer in enumerate(network.layers, 1):
        if layer.known is not None:
            raise NetworkError(
                f"layer {number}: known: kernel gradients are not derived for positions that tell of their units' "
                "parameters; estimate the network without them (V, W and D alone)."
            )
    for activation in network.activations:
        if activation.jumps and activation.route != "closed form":
            raise ActivationError(
                f"activation {activation.name!r} jumps: its kernel's derivative is not E[phi' phi'], and only "
                '"step" has it in closed form; smooth the jump.'
            )


def _cotangent(
    name: str, values: object, outputs: int, x: object, x2: object, shape: tuple[int, int]
) -> FloatArray | None:
    if values is None:
        return None
    if outputs == 1:
        matrix = as_kernel(values, name, square=x2 is None)  # type: ignore[arg-type]
        if x2 is None:
            refuse_other_labels(inputs_of(values, name), samples_of(x), "inputs")
        else:
            arranged = by_kernel(values)
            refuse_other_labels(Labels(name, labels_of(arranged, 0)), samples_of(x), "rows")
            refuse_other_labels(Labels(name, labels_of(arranged, 1)), samples_of(x2, "x2"), "columns")
        matrix = matrix[None]
    else:
        dims = getattr(values, "dims", None)
        ordered = values.transpose(OUTPUT, X, ...) if dims and OUTPUT in dims and X in dims else values  # type: ignore[attr-defined]
        matrix = real_array(name, ordered).astype(np.float64, copy=False)
        refuse_infinite(name, matrix, "a cotangent must be finite", what="entries ")
    if matrix.shape != (outputs, *shape):
        expected = shape if outputs == 1 else (outputs, *shape)
        got = matrix.shape[1:] if outputs == 1 else matrix.shape
        raise InputError(f"{name}: expected cotangents of shape {expected}, as the kernel has, got {got}.")
    return matrix


def _between(cotangent: FloatArray) -> FloatArray:
    """Of all inputs, those of the rows first, from that of rows with columns."""
    outputs, rows, columns = cotangent.shape
    out = np.zeros((outputs, rows + columns, rows + columns))
    out[:, :rows, rows:] = cotangent
    return out


def _still(recursion: Recursion, x: FloatArray) -> int | None:
    """The first weight layer that leaves an input's variance at 0 at some position before an activation."""
    field, number = Field.of_inputs(x), 0
    for step in recursion.steps:
        if isinstance(step, DualStep):
            number += 1
            if not (field.second > 0).all():
                return number
        field = step.on_inputs(field)
    return None


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a layer's matrix takes its values: receiving points or cells of outputs, and what sends."""

    points: FloatArray | None  # None: the outputs' cells
    weights: FloatArray  # of the receiving nodes
    panels: Panels | None  # None: the inputs' cells
    sending: int
    nodes: tuple[FloatArray, FloatArray]

    def matrix(self, graphon: Graphon) -> FloatArray:
        """Rows of weights of an integral over what sends, without the layer's scale."""
        edges = np.linspace(0.0, 1.0, self.sending + 1)
        if self.points is None:
            panels = Panels.constant(edges) if self.panels is None else self.panels
            return graphon.averaged_rows(np.linspace(0.0, 1.0, len(self.weights) + 1), panels)
        if self.panels is None:
            return graphon.row_means(self.points, edges) / self.sending
        return graphon.row_integrals(self.points, self.panels)

    def rows(self, edges: FloatArray) -> FloatArray:
        """Share of every receiving node that lies in every block: (nodes, blocks)."""
        blocks = StepGraphon(np.eye(len(edges) - 1), edges, edges)
        if self.points is None:
            panels = Panels.constant(edges)
            shares: FloatArray = blocks.averaged_rows(np.linspace(0.0, 1.0, len(self.weights) + 1), panels)
            return shares / np.diff(edges)
        return blocks(self.points[:, None], ((edges[:-1] + edges[1:]) / 2)[None, :])

    def columns(self, edges: FloatArray) -> FloatArray:
        """The integral of every block over what sends, as a functional of the nodes' values: (blocks, nodes)."""
        count = len(edges) - 1
        blocks = StepGraphon(np.eye(count), np.linspace(0.0, 1.0, count + 1), edges)
        middles = (np.arange(count) + 0.5) / count
        if self.panels is None:
            return blocks.row_means(middles, np.linspace(0.0, 1.0, self.sending + 1)) / self.sending
        return blocks.row_integrals(middles, self.panels)


@dataclass(frozen=True, eq=False)
class KernelGradient(Record):
    """The derivative of a sum over kernels in a network's graphons and scales, as :func:`kernel_gradient` returns it.

    ``mask``, ``variance``, ``drift``: one entry a weight layer, the derivative in every value of a step (or constant)
    graphon, in the shape of ``values``; None where the graphon is of another kind (use :meth:`density` or
    :meth:`along`). ``weight_variance`` (L,): in sigma_w^2 of every layer; ``trained_bias_variance`` (L,): in what
    biases add to T alone. ``quadrature_error``: of the kernels.
    """

    network: Network
    mask: list[FloatArray | None]
    variance: list[FloatArray | None]
    drift: list[FloatArray | None]
    weight_variance: FloatArray
    trained_bias_variance: FloatArray
    quadrature_error: float
    _bias_variance: FloatArray = field(repr=False)
    _still: int | None = field(repr=False)
    _places: list[_Place] = field(repr=False)
    _matrices: list[dict[str, FloatArray]] = field(repr=False)  # by part, without the layer's scale

    @classmethod
    def of(
        cls, network: Network, grid: Discretisation, d: int, sums: Sequence[LayerSums], still: int | None
    ) -> KernelGradient:
        """From the cotangents of the operators' matrices to those of what they were made of."""
        layers, places = layers_of(network), _places(network, grid, d)
        matrices, weight, bias, in_ntk = [], [], [], network.parameterization == "ntk"
        for layer, place, got, stage in zip(layers, places, sums, dense_stages(network.stages), strict=True):
            parts, scale = _unscaled(layer, place, got, in_ntk)
            matrices.append(parts)
            weight.append(scale)
            tied = in_ntk and stage.trained_bias_variance is None  # a bias of T that is not sigma_b^2 stays
            bias.append(got.bias + (got.trained_bias if tied else 0.0))
        steps: dict[str, list[FloatArray | None]] = {
            part: [
                _step_values(place, got[part], getattr(layer.connectivity, part))
                for layer, place, got in zip(layers, places, matrices, strict=True)
            ]
            for part in _PARTS
        }
        trained = np.array([got.trained_bias for got in sums])
        return cls(
            network,
            steps["mask"],
            steps["variance"],
            steps["drift"],
            np.array(weight),
            trained,
            grid.error,
            np.array(bias),
            still,
            places,
            matrices,
        )

    @property
    def bias_variance(self) -> FloatArray:
        """(L,): the derivative in sigma_b^2 of every layer, and with it in what biases add to T unless that is given.

        One-sided where it is 0.

        Raises NetworkError where the biases are 0 and so is the variance of an input at some position: a kinked phi has
        no derivative there.
        """
        if self._still is not None:
            raise NetworkError(
                f"bias_variance: without biases an input has variance 0 somewhere in layer {self._still}, where the "
                "kernel need have no derivative in it; drop inputs that are 0 and rows without connections, or give "
                "bias_variance > 0."
            )
        return self._bias_variance

    def along(self, layer: int, direction: object, part: str = "mask") -> float:
        """The derivative as ``part`` of weight layer 1..L moves by a graphon: d/de J(part + e direction) at e = 0.

        ``direction``: anything :func:`as_graphon` takes, so that the coefficient of any basis gets its derivative.
        Exact for the discretised kernel on the network's nodes; a direction that is rougher than they resolve is seen
        through them.
        """
        number = self._layer(layer, part)
        values = self._places[number].matrix(as_graphon(direction))
        return float((self._matrices[number][part] * values).sum())

    def density(self, layer: int, part: str = "mask") -> xr.Dataset:
        """The functional derivative g(u, v) of weight layer 1..L on its nodes: dJ = iint g(u, v) dW(u, v) du dv.

        Returns a Dataset: ``density`` ("u", "v") and the weights ``u_weight``, ``v_weight`` of the nodes, which are the
        coordinates. At the input layer v runs over the d inputs, at the last u over the outputs.
        """
        number = self._layer(layer, part)
        place, got = self._places[number], self._matrices[number][part]
        u, v = place.nodes
        v_weight = np.full(place.sending, 1 / place.sending) if place.panels is None else place.panels.weights()
        variables: Variables = {
            "density": ((U, V), got / place.weights[:, None]),
            "u_weight": ((U,), place.weights),
            "v_weight": ((V,), v_weight),
        }
        attrs = {
            "network": self.network.describe(),
            "quadrature_error": self.quadrature_error,
            "layer": layer,
            "part": part,
        }
        return dataset(variables, {U: u, V: v}, attrs)

    def _layer(self, layer: int, part: str) -> int:
        if not isinstance(layer, (int, np.integer)) or not 1 <= layer <= self.network.depth:
            raise NetworkError(f"layer: expected 1..{self.network.depth}, got {layer!r}.")
        if part not in _PARTS:
            raise InputError(f"part: expected one of {', '.join(map(repr, _PARTS))}, got {part!r}.")
        return int(layer) - 1


def _places(network: Network, grid: Discretisation, d: int) -> list[_Place]:
    k = network.outputs
    inputs, outputs = ((np.arange(n) + 0.5) / n for n in (d, k))
    out = []
    for part in grid.outline:
        if not isinstance(part, Weights):
            continue
        below, receiving = (grid.places[place] for place in (part.source, part.place))
        points = None if receiving is None else receiving.nodes()
        weights = np.full(k, 1 / k) if receiving is None else receiving.weights()
        nodes = (outputs if points is None else points, inputs if below is None else below.nodes())
        out.append(_Place(points, weights, below, len(nodes[1]), nodes))
    return out


def _unscaled(layer: Layer, place: _Place, got: LayerSums, in_ntk: bool) -> tuple[dict[str, FloatArray], float]:
    """Cotangents of the graphons' own matrices, and the derivative in sigma_w^2."""
    s, connectivity = layer.scales, layer.connectivity
    variance, mask = place.matrix(connectivity.variance), place.matrix(connectivity.mask)
    of_mask, of_variance, of_drift = s.mask * got.mask, s.variance * got.variance, np.sqrt(s.variance) * got.drift
    left = variance
    weight = 0.0
    if connectivity.has_drift:
        drift = place.matrix(connectivity.drift)
        weight += 0.5 * float((got.drift * drift).sum()) / np.sqrt(s.variance)
        if place.panels is None:  # at the inputs, where operator holds V - D^2 / d
            left = variance - drift**2
            of_drift = of_drift - 2 * of_variance * drift
    weight += float((got.variance * left).sum())
    if in_ntk:  # in standard parameterization the fan-in stands in the place of sigma_w^2
        weight += float((got.mask * mask).sum())
    return {"mask": of_mask, "variance": of_variance, "drift": of_drift}, weight


def _step_values(place: _Place, got: FloatArray, graphon: Graphon) -> FloatArray | None:
    """The derivative in the values of a step graphon."""
    if not isinstance(graphon, StepGraphon):
        return None
    return place.rows(graphon.u_edges).T @ got @ place.columns(graphon.v_edges).T
