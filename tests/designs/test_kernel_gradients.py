"""kernel_gradient against central differences of limit_kernel, and against facts of THEORY §3 and §12."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.designs.kernel_gradients import KernelGradient
from graphon_theory.engine import gradients
from graphon_theory.errors import ActivationError, InputError, KernelError, NetworkError

ACTIVATIONS = ("relu", "erf", "tanh", "leaky_relu", "gelu", "sin")


def random_network(seed: int, d: int = 4) -> gt.Network:
    """Asymmetric step graphons of unequal blocks, V != W, and by turns drift, biases, several outputs."""
    rng = np.random.default_rng(seed)
    drifting = (seed + seed // 6) % 2
    depth = int(rng.integers(2, 5))
    blocks = [*rng.integers(1, 4, depth), 1]
    edges = [np.sort(np.append(rng.uniform(0.1, 0.9, n - 1), [0.0, 1.0])) for n in blocks]
    layers = []
    for into, below in zip(edges[1:], edges, strict=False):
        mask = rng.uniform(0.2, 0.9, (len(into) - 1, len(below) - 1))
        variance = mask * rng.uniform(0.7, 1.4, mask.shape)
        drift = rng.uniform(-0.4, 0.4, mask.shape) * drifting
        layers.append(gt.Connectivity(*(gt.StepGraphon(g, into, below) for g in (mask, variance, drift))))
    return gt.Network(
        layers,
        activation=ACTIVATIONS[seed % len(ACTIVATIONS)],
        weight_variance=list(rng.uniform(0.8, 2.0, depth)),
        bias_variance=float(rng.uniform(0.05, 0.3)) if seed % 3 else 0.0,
        outputs=1 + seed % 2,
    )


def kernels(network: gt.Network, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    kern = gt.limit_kernel(network, x)
    return kern.ntk.values, kern.nngp.values


def difference(value: Callable[[float], float], step: float) -> float:
    """Of fourth order, at 0, of a function of one number."""
    a, b, c, d = (value(k * step) for k in (-2, -1, 1, 2))
    return float((8 * (c - b) - (d - a)) / (12 * step))


def moved(
    network: gt.Network, directions: dict[str, list[FloatArray]], scales: FloatArray, bias: float, e: float
) -> gt.Network:
    layers = []
    for number, layer in enumerate(network.layers):
        parts = [
            gt.StepGraphon(g.values + e * directions[name][number], g.u_edges, g.v_edges)
            for name, g in (("mask", layer.mask), ("variance", layer.variance), ("drift", layer.drift))
            if isinstance(g, gt.StepGraphon)
        ]
        layers.append(gt.Connectivity(*parts))
    return network.changed(
        layers=tuple(layers),
        weight_variance=tuple(np.array(network.weight_variance) + e * scales),
        bias_variance=network.bias_variance + e * bias,
    )


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(k, marks=pytest.mark.slow) for k in range(12, 20))])
def test_every_parameter_at_once_against_central_differences(seed: int) -> None:
    network = random_network(seed)
    rng = np.random.default_rng(100 + seed)
    x = rng.standard_normal((5, 4))
    x[4] = x[1]  # coincident
    shape = (5, 5) if network.outputs == 1 else (network.outputs, 5, 5)
    ntk, nngp = rng.standard_normal((2, *shape))
    got = gt.kernel_gradient(network, x, ntk=ntk, nngp=nngp)
    directions: dict[str, list[FloatArray]] = {"mask": [], "variance": [], "drift": []}
    for layer in network.layers:
        for name in directions:
            values = getattr(layer, name).values
            kept = 0.0 if name == "drift" and not layer.has_drift else 1.0
            directions[name].append(kept * 0.1 * rng.standard_normal(values.shape))
    scales, bias = rng.standard_normal(network.depth), 0.1 * float(network.bias_variance > 0)

    def value(e: float) -> float:
        t, k = kernels(moved(network, directions, scales, bias, e), x)
        return float((ntk * t).sum() + (nngp * k).sum())

    expected = difference(value, 1e-3)
    by_hand = sum(
        float((part * step).sum())
        for name, steps in directions.items()
        for part, step in zip(getattr(got, name), steps, strict=True)
        if step.any()
    )
    found = by_hand + float(got.weight_variance @ scales) + (bias and float(got.bias_variance.sum()) * bias)
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-7 * np.abs(ntk).sum())


def test_zero_opposite_and_close_inputs() -> None:
    network = gt.Network(
        [gt.StepGraphon([[0.9, 0.2, 0.4], [0.1, 0.6, 0.3]]), gt.StepGraphon([[0.5, 0.3], [0.2, 0.9]]), 0.7]
    )
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 3))
    x[1], x[2], x[3], x[4] = 0.0, -x[0], 2.0 * x[0], x[0] * (1 + 1e-9)
    ntk = rng.standard_normal((6, 6))
    got = gt.kernel_gradient(network, x, ntk=ntk)
    values = [layer.mask.values for layer in network.layers if isinstance(layer.mask, gt.StepGraphon)]
    direction = [rng.uniform(-0.1, 0.1, w.shape) for w in values]

    def value(e: float) -> float:
        layers = [gt.StepGraphon(w + e * step) for w, step in zip(values, direction, strict=True)]
        return float((ntk * kernels(network.with_layers(layers), x)[0]).sum())

    both = zip(got.mask, got.variance, direction, strict=True)
    found = sum(float(((m + v) * s).sum()) for m, v, s in both if m is not None and v is not None)
    assert found == pytest.approx(difference(value, 1e-3), rel=1e-7)
    with pytest.raises(NetworkError, match="variance 0 somewhere in layer 1"):
        _ = got.bias_variance


def test_shortcuts_and_layers_of_their_own() -> None:
    """Residual stages nested, an activation and biases of its own for every layer, biases that start at 0 and train."""
    rng = np.random.default_rng(12)
    d, p = 4, 3
    edges = np.array([0.0, 0.3, 0.6, 1.0])
    shapes = [(p, d), (p, p), (p, p), (p, p), (1, p)]
    masks = [rng.uniform(0.2, 0.9, shape) for shape in shapes]
    variances = [mask * rng.uniform(0.7, 1.4, mask.shape) for mask in masks]
    sigmas, biases, trained = rng.uniform(0.5, 1.5, 5), rng.uniform(0.05, 0.3, 5), rng.uniform(0.2, 0.6, 5)

    def network(w: list[FloatArray], v: list[FloatArray], s: FloatArray, b: FloatArray, t: FloatArray) -> gt.Network:
        layers = []
        for k, (mask, variance) in enumerate(zip(w, v, strict=True)):
            u, below = (edges if mask.shape[0] == p else None), (edges if k else None)
            layer = gt.Connectivity(gt.StepGraphon(mask, u, below), gt.StepGraphon(variance, u, below))
            layers.append(gt.Dense(layer, float(s[k]), float(b[k]), trained_bias_variance=float(t[k])))
        inner = gt.Residual(gt.Pointwise(gt.as_activation("tanh")), layers[2], scale=0.5)
        return gt.Network(
            [
                layers[0],
                gt.Residual(
                    gt.Pointwise(gt.as_activation("relu")),
                    layers[1],
                    inner,
                    gt.Pointwise(gt.as_activation("gelu")),
                    layers[3],
                    scale=0.7,
                ),
                gt.Pointwise(gt.as_activation("erf")),
                layers[4],
            ]
        )

    x = rng.standard_normal((5, d))
    ntk, nngp = rng.standard_normal((2, 5, 5))
    got = gt.kernel_gradient(network(masks, variances, sigmas, biases, trained), x, ntk=ntk, nngp=nngp)
    steps = [[0.1 * rng.standard_normal(m.shape) for m in masks] for _ in range(2)]
    scales, shifts, own = rng.standard_normal((3, 5)) * 0.1

    def value(e: float) -> float:
        w, v = (
            [m + e * step for m, step in zip(given, moves, strict=True)]
            for given, moves in zip((masks, variances), steps, strict=True)
        )
        t, k = kernels(network(w, v, sigmas + e * scales, biases + e * shifts, trained + e * own), x)
        return float((ntk * t).sum() + (nngp * k).sum())

    found = float(got.weight_variance @ scales + got.bias_variance @ shifts + got.trained_bias_variance @ own)
    for parts, moves in zip((got.mask, got.variance), steps, strict=True):
        found += sum(float((part * step).sum()) for part, step in zip(parts, moves, strict=True) if part is not None)
    assert found == pytest.approx(difference(value, 1e-3), rel=1e-7)


def along(part: FloatArray | None, graphon: gt.Graphon) -> float:
    assert part is not None
    assert isinstance(graphon, gt.StepGraphon)
    return float((part * graphon.values).sum())


def test_euler_for_a_homogeneous_network() -> None:
    """Without biases a ReLU network is homogeneous of degree 1 in V of every layer for NNGP, L together for the NTK."""
    network = random_network(0)
    network = network.changed(activation=gt.as_activation("relu"), bias_variance=0.0, outputs=1)
    x = np.random.default_rng(5).standard_normal((7, 4))
    ntk, nngp = np.random.default_rng(6).standard_normal((2, 7, 7))
    t, k = kernels(network, x)
    got = gt.kernel_gradient(network, x, nngp=nngp)
    for number, layer in enumerate(network.layers):
        share = along(got.variance[number], layer.variance)
        assert share == pytest.approx(float((nngp * k).sum()), rel=1e-11)
    got = gt.kernel_gradient(network, x, ntk=ntk)
    both = [
        along(part, g)
        for number, layer in enumerate(network.layers)
        for part, g in ((got.mask[number], layer.mask), (got.variance[number], layer.variance))
    ]
    assert sum(both) == pytest.approx(network.depth * float((ntk * t).sum()), rel=1e-11)
    np.testing.assert_allclose(
        got.weight_variance * np.array(network.weight_variance), np.add(both[0::2], both[1::2]), rtol=1e-11
    )


def test_smooth_graphons_give_a_function_on_the_nodes() -> None:
    network = gt.Network(
        [1.0, "0.8*exp(-3*(u - v)**2)*(1 - u/2)", "0.5 + 0.4*u*v", 1.0], activation="erf", bias_variance=0.1
    )
    x = np.random.default_rng(7).standard_normal((4, 6))
    ntk = np.random.default_rng(8).standard_normal((4, 4))
    got = gt.kernel_gradient(network, x, ntk=ntk)
    assert got.mask[1] is None
    assert got.variance[1] is None
    direction = "0.2*cos(2*u)*v"
    base, step = network.layers[1].mask, gt.as_graphon(direction)

    def value(e: float) -> float:
        changed = gt.AnalyticGraphon(base.expr + e * step.expr)  # type: ignore[attr-defined]
        return float(
            (ntk * kernels(network.with_layers([*network.layers[:1], changed, *network.layers[2:]]), x)[0]).sum()
        )

    expected = difference(value, 1e-2)
    assert got.along(2, direction) + got.along(2, direction, "variance") == pytest.approx(expected, rel=1e-8)
    for part in ("mask", "variance"):
        density = got.density(2, part)
        at = step(density.u.values[:, None], density.v.values)
        integral = density.u_weight.values @ (density.density.values * at) @ density.v_weight.values
        assert integral == pytest.approx(got.along(2, direction, part), rel=1e-9)


@pytest.mark.parametrize("outputs", [1, 2])
def test_kernels_between_two_sets(outputs: int) -> None:
    network = random_network(5).changed(outputs=outputs)
    rng = np.random.default_rng(12)
    x, x2 = rng.standard_normal((3, 4)), rng.standard_normal((4, 4))
    x2[1] = x[2]  # one input in both
    shape = (3, 4) if outputs == 1 else (outputs, 3, 4)
    ntk, nngp = rng.standard_normal((2, *shape))
    got = gt.kernel_gradient(network, x, x2, ntk=ntk, nngp=nngp)

    def value(e: float) -> float:
        changed = network.changed(weight_variance=tuple(v + e for v in network.weight_variance))
        kern = gt.limit_kernel(changed, x, x2)
        return float((ntk * kern.ntk.values).sum() + (nngp * kern.nngp.values).sum())

    assert float(got.weight_variance.sum()) == pytest.approx(difference(value, 1e-3), rel=1e-7)
    everything, padded = np.concatenate([x, x2]), np.zeros((2, *shape[:-2], 7, 7))
    padded[..., :3, 3:] = ntk, nngp
    together = gt.kernel_gradient(network, everything, ntk=padded[0], nngp=padded[1])
    for one, other in zip([*got.mask, *got.variance], [*together.mask, *together.variance], strict=True):
        assert one is not None
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match=r"ntk: expected cotangents of shape \((2, )?3, 4\)"):
        gt.kernel_gradient(network, x, x2, ntk=np.swapaxes(ntk, -1, -2))


def test_numbers_do_not_depend_on_threads_or_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    network, rng = random_network(3), np.random.default_rng(9)
    x = rng.standard_normal((70, 4))
    ntk = rng.standard_normal((2, 70, 70))

    def flat(got: KernelGradient) -> FloatArray:
        return np.concatenate([part.ravel() for name in ("mask", "variance", "drift") for part in getattr(got, name)])

    monkeypatch.setattr(gradients, "_SIDES", (8, 16))
    alone = gt.kernel_gradient(network, x, ntk=ntk, threads=1)
    several = gt.kernel_gradient(network, x, ntk=ntk, threads=4)
    assert flat(alone).tobytes() == flat(several).tobytes()
    assert alone.weight_variance.tobytes() == several.weight_variance.tobytes()
    monkeypatch.setattr("graphon_theory.engine.recursion._FEATURES", 3000)  # several blocks of inputs
    monkeypatch.setattr("graphon_theory.engine.recursion._LOADINGS", 3000)
    np.testing.assert_allclose(flat(gt.kernel_gradient(network, x, ntk=ntk)), flat(alone), rtol=1e-10)


def test_standard_parameterization_has_its_own_scales() -> None:
    network = random_network(1).changed(parameterization="standard", widths=(4, 30, 20, 10)[: random_network(1).depth])
    x = np.random.default_rng(10).standard_normal((4, 4))
    ntk = np.random.default_rng(11).standard_normal((2, 4, 4))
    got = gt.kernel_gradient(network, x, ntk=ntk)

    def value(e: float) -> float:
        variances = tuple(v + e for v in network.weight_variance)
        changed = network.changed(weight_variance=variances, bias_variance=network.bias_variance + 0.1 * e)
        return float((ntk * kernels(changed, x)[0]).sum())

    found = float(got.weight_variance.sum() + 0.1 * got.bias_variance.sum())
    assert found == pytest.approx(difference(value, 1e-3), rel=1e-7)


def test_what_is_refused() -> None:
    network, x = gt.Network([0.5, 0.5]), np.ones((3, 2))
    with pytest.raises(InputError, match="at least, got none"):
        gt.kernel_gradient(network, x)
    with pytest.raises(InputError, match=r"ntk: expected cotangents of shape \(3, 3\)"):
        gt.kernel_gradient(network, x, ntk=np.ones((2, 2)))
    with pytest.raises(KernelError, match="nngp"):
        gt.kernel_gradient(network, x, nngp=np.full((3, 3), np.nan))
    with pytest.raises(InputError, match=r"shape \(2, 3, 3\)"):
        gt.kernel_gradient(network.changed(outputs=2), x, ntk=np.ones((3, 3)))
    told = gt.Connectivity(0.5, 0.5, 0.1, known=gt.Known([0.1]))
    with pytest.raises(NetworkError, match="layer 1: known"):
        gt.kernel_gradient(network.with_layers([told, 0.5]), x, ntk=np.ones((3, 3)))
    jumping = gt.Activation("Heaviside(z - 1/2)")
    with pytest.raises(ActivationError, match="jumps"):
        gt.kernel_gradient(network.changed(activation=jumping), x, ntk=np.ones((3, 3)))
    got = gt.kernel_gradient(network, x, ntk=np.ones((3, 3)))
    with pytest.raises(NetworkError, match=r"layer: expected 1\.\.2"):
        got.along(3, 1.0)
    with pytest.raises(InputError, match="part: expected one of"):
        got.density(1, "mean")
