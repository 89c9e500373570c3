"""Four ways to give a pruned network its weights, and the theories each is held against (THEORY §9).

What a pruning rule did to a network splits into what its masks look like, how large the surviving weights are, and
what their signs know. The protocols take these apart on one mask; the theories put them back one at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_generator, one_of, truth, whole_number
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.errors import InputError, NetworkError, shown
from graphon_theory.graphons.graphon import ConstantGraphon, StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.networks.stages import Dense, Weights, stages_of
from graphon_theory.pruning.laws import magnitude_pruning, random_pruning
from graphon_theory.pruning.weight_laws import weight_law
from graphon_validation.networks.masked_mlps import MaskedMLP, Seed, build, checked_model, checked_network
from graphon_validation.pruning.scores import METHODS

PROTOCOLS = ("drawn", "redrawn", "signs", "own")
THEORIES = ("layers", "(W, W)", "(W, V)", "(W, V, D)")


def apply_protocol(model: MaskedMLP, protocol: str, rng: Seed, network: Network | None = None) -> MaskedMLP:
    """A copy of a pruned network with its weights (or masks) given anew.

    =========  ===============================================  =====================================
    protocol   what is kept                                     theory that should hold
    =========  ===============================================  =====================================
    drawn      nothing: masks and weights drawn from            that of ``network``
               ``network``'s graphons
    redrawn    the masks; all weights and biases drawn again    (W, W)
    signs      masks and |w|; signs drawn again                 (W, V)
    own        everything                                       (W, V, D), as far as second order goes
    =========  ===============================================  =====================================

    What the last leaves over is dependence beyond second order.

    Raises InputError for another name, or "drawn" without a ``network``.
    """
    checked_model(model)
    one_of("protocol", protocol, PROTOCOLS)
    generator = as_generator(rng)
    if protocol == "drawn":
        if network is None:
            raise InputError('network: protocol "drawn" draws masks from graphons; pass the Network that holds them.')
        first = model.weights[0]
        return build(network, model.widths, generator.spawn(1)[0], first.device, first.dtype)
    made = copy.deepcopy(model)
    # One level below the streams that build and dense spawn: the same seed here must not draw the same weights.
    (generator,) = generator.spawn(1)
    for layer, stream in zip(made.linears, generator.spawn(len(made.linears)), strict=True):
        if protocol == "redrawn":
            layer.draw_again(stream)
        elif protocol == "signs":
            layer.draw_signs_again(stream)
    return made


def theories(
    model: MaskedMLP,
    *,
    blocks: int = 16,
    names: Sequence[str] = THEORIES,
    input_rows: bool = False,
    rng: np.random.Generator | int = 0,
    **options: Any,
) -> dict[str, Network]:
    """Networks whose limit kernels predict ``model``'s, from coarse to fine.

    - "layers": every layer's density and mean square, constant over the layer;
    - "(W, W)", "(W, V)", "(W, V, D)": step graphons from ``estimate_network`` (``blocks`` and further ``options`` go
      there), one position per unit, that of a residual stream in all layers that write to it or read it.

    Layers with a full mask have W = 1: nobody pruned them. But a unit's block is known from the masks around it, and
    these may know the sizes and signs of its dense weights (SynFlow keeps more of what leads to large ones), so that
    V and D of dense layers depend on the block as well. In "layers" and "(W, W)" they are dense, V = W = 1.

    ``input_rows`` gives every unit of the first hidden layer its own row of the input mask as its position, for (W, V)
    with the sizes of its weights and new signs, for (W, V, D) with the weights themselves. At finite d the limit is the
    mean of duals over these rows, not the dual of their means; :func:`mixture` does the same for a network that is not
    yet drawn.

    Raises InputError for other names and what ``estimate_network`` refuses.
    """
    checked_model(model)
    if not isinstance(names, list | tuple):
        raise InputError(f"names: expected a list of names from {', '.join(THEORIES)}, got {shown(names)}.")
    names = [one_of("names", name, THEORIES) for name in names]
    truth("input_rows", input_rows)
    masks = [mask.cpu().numpy() for mask in model.masks]
    weights = [weight.detach().double().cpu().numpy() for weight in model.weights]
    stds = [layer.dense_std for layer in model.linears]
    found: dict[str, Network] = {}
    estimate: Any = None
    for name in names:
        if name == "layers":
            layers = [_constants(*layer) for layer in zip(masks, weights, stds, strict=True)]
        else:
            if estimate is None:
                places = [(part.source, part.place) for part in model.outline if isinstance(part, Weights)]
                estimate = gt.estimate_network(masks, weights, blocks, stds, rng=rng, places=places, **options)
            layers = [_reduced(layer, name, full=bool(mask.all())) for mask, layer in zip(masks, estimate, strict=True)]
            if input_rows and not masks[0].all():
                order = np.argsort(estimate.positions[1])
                signs = np.random.default_rng(rng).spawn(1)[0]
                layers[0] = rows_as_positions(masks[0][order], weights[0][order] / stds[0], name, signs)
        found[name] = network_like(model, layers)
    return found


def law_network(model: MaskedMLP, method: str) -> Network | None:
    """The limit of ``method`` at the model's own layer densities by its pruning law; None where there is no law.

    Raises InputError for what is no model and for unknown methods.
    """
    checked_model(model)
    law = {"random": random_pruning, "magnitude": magnitude_pruning}.get(one_of("method", method, METHODS))
    if law is None:
        return None
    options = [{} if method == "random" else {"weights": layer.law} for layer in model.linears]
    layers = [law(float(mask.double().mean()), **option) for mask, option in zip(model.masks, options, strict=True)]
    return network_like(model, layers)


def network_like(model: MaskedMLP, layers: Sequence[object]) -> Network:
    """A Network with ``layers`` and everything else as in ``model``: stages, activations, scales and biases."""
    linears = model.linears
    kinds = {layer.parameterization for layer in linears}
    if len(kinds) > 1:
        raise NetworkError(f"model: expected one parameterization in all layers, got {sorted(kinds)}.")
    dense = [
        Dense(
            connectivity,
            weight_variance=layer.weight_variance,
            bias_variance=layer.bias_variance,
            trained_bias_variance=layer.trained_bias_variance,
        )
        for connectivity, layer in zip(layers, linears, strict=True)
    ]
    standard = kinds == {"standard"}
    return Network(
        stages_of(model.outline, dense),
        activation=model.default_activation,
        parameterization="standard" if standard else "ntk",
        widths=[layer.weight.shape[1] for layer in linears] if standard else None,
        outputs=model.widths[-1],
    )


def mixture(network: Network, inputs: int, rows: int = 1024, *, weights: str | None = None, rng: Seed = 0) -> Network:
    """``network`` with sampled rows of its input layer as the positions of the first hidden layer (THEORY §9).

    ``rows`` rows over ``inputs`` columns are drawn at the positions (i + 1/2) / rows. With few inputs the kernel of
    wide networks tends to the mean over such rows, which differs from ``limit_kernel(network)`` by O(1/d): the floor
    below which no width brings the two together. It is itself sampled, with an error of order rows^(-1/2).

    Without ``weights`` rows of the mask are drawn from W^1, and surviving weights are taken to be Gaussian with second
    moment V / W and the mean that D gives them: what :func:`build` draws. Masks that choose by |w| leave no Gaussian
    weights, and of few of them the sum is not Gaussian either. With the law of the dense ``weights`` ("normal",
    "uniform") whole rows of weights are drawn and those survive that exceed the threshold of W; nothing is random any
    more at a position.

    Returns ``network`` itself where the input mask is full. Raises InputError where V is not what survives of
    ``weights`` by magnitude, with drift beside them, or where the input layer has more than W, V and D.
    """
    inputs = whole_number("inputs", inputs)
    rows = whole_number("rows", rows, expected="a whole number of at least 1")
    refuse_beyond_memory("rows", 64.0 * rows * inputs, f"{rows} rows of {inputs} inputs", "take fewer rows")
    first = checked_network(network).layers[0]
    if first.known is not None:
        raise InputError(
            "network: positions of its input layer know their units' weights (known): they are rows already."
        )
    edges, u = np.linspace(0, 1, inputs + 1), (np.arange(rows) + 0.5) / rows
    w, v, d = (graphon.row_means(u, edges) for graphon in (first.mask, first.variance, first.drift))
    if (w >= 1).all():
        return network
    generator = as_generator(rng)
    if weights is None:
        mask = generator.random(w.shape) < w
        safe = np.where(mask, w, 1.0)
        drift = StepGraphon(np.where(mask, d / safe, 0.0)) if first.has_drift else None
        sampled = Connectivity(StepGraphon(mask.astype(float)), StepGraphon(np.where(mask, v / safe, 0.0)), drift)
    else:
        sampled = _largest(weights, w, v, d, generator)
    return network.with_layers([sampled, *network.layers[1:]])


def _largest(weights: str, w: FloatArray, v: FloatArray, d: FloatArray, rng: np.random.Generator) -> Connectivity:
    """Rows of weights of which the largest survive, a share w of each."""
    law = weight_law(weights)
    values, places = np.unique(w, return_inverse=True)
    threshold = np.array([law.threshold(p) if p > 0 else np.inf for p in np.minimum(values, 1.0)])
    kept = np.array([law.kept_second_moment(p) if p > 0 else 0.0 for p in np.minimum(values, 1.0)])
    if not np.allclose(v, kept[places].reshape(w.shape), rtol=1e-6) or d.any():
        raise InputError(
            f"weights: the input layer's V (and D) are not what magnitude pruning leaves of {weights} weights; leave "
            "weights out, or name the law that the network was made from."
        )
    drawn = law.draw(rng, w.size).reshape(w.shape)
    return rows_as_positions(np.abs(drawn) > threshold[places].reshape(w.shape), drawn, "(W, V, D)")


def rows_as_positions(mask: NDArray[np.bool_], weights: FloatArray, theory: str, rng: Seed = 0) -> Connectivity:
    """An input layer with one position per row; ``weights`` in units of the dense deviation.

    For (W, V, D) a position knows its surviving weights w, D = sqrt(d) w and V = w^2, which leaves nothing random:
    V - D^2/d = 0. For (W, V) it knows their sizes, and signs are drawn from ``rng``: with few inputs a sum of weights
    of given sizes is not Gaussian.
    """
    w = StepGraphon(mask.astype(float))
    if theory == "(W, W)":
        return Connectivity(w)
    kept = np.where(mask, weights, 0.0)
    if theory == "(W, V)":
        kept *= 2.0 * np.random.default_rng(rng).integers(2, size=kept.shape) - 1
    return Connectivity(w, StepGraphon(kept**2), StepGraphon(np.sqrt(mask.shape[1]) * kept))


def _reduced(layer: Connectivity, theory: str, *, full: bool) -> Connectivity:
    mask = ConstantGraphon(1.0) if full else layer.mask
    if theory == "(W, W)":
        return Connectivity(mask)
    return Connectivity(mask, layer.variance, layer.drift if theory == "(W, V, D)" else None)


def _constants(mask: NDArray[np.bool_], weights: FloatArray, std: float) -> Connectivity:
    if mask.all():
        return Connectivity(1.0)
    variance = float(np.mean(np.square(weights, where=mask, out=np.zeros_like(weights)))) / std**2
    return Connectivity(ConstantGraphon(float(mask.mean())), ConstantGraphon(variance))
