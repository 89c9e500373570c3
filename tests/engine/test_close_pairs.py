"""Nearly coincident, parallel and opposite inputs against 60-digit recursions: values right, estimates never below."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.engine.neighbours import Neighbours
from graphon_theory.engine.operators import LayerOperator

mp = mpmath.MPContext()
mp.dps = 60

Layers = list[tuple[FloatArray, FloatArray]]  # (V, W) of every layer, equal blocks

SLOPES = {"relu": (0, 1), "abs": (-1, 1), "leaky_relu": (mp.mpf(0.01), 1)}


def duals(name: str, a: Any, c: Any, b: Any) -> tuple[Any, Any]:
    """C and Cdot at variances a, b and covariance c; a variance of 0 is at a right angle to everything."""
    dead = a == 0 or b == 0
    sine = mp.mpf(0) if dead else mp.sqrt(max(a * b - c**2, mp.mpf(0)))
    theta = mp.pi / 2 if dead else mp.atan2(sine, c)
    share = (mp.pi - theta) / (2 * mp.pi)
    if name == "step":
        return (mp.mpf(0) if dead else share), mp.mpf(0)
    low, high = SLOPES[name]
    linear, bent = low * high, (high - low) ** 2
    return linear * c + bent * (sine / (2 * mp.pi) + share * c), linear + bent * share


def reference(layers: Layers, name: str, sigma: float, bias: float, x: FloatArray, y: FloatArray) -> tuple[Any, Any]:
    """NNGP and NTK of one pair at every output, in nested loops."""
    s, b = mp.mpf(sigma), mp.mpf(bias)
    pairs = {key: [mp.mpf(float(p)) * mp.mpf(float(q)) for p, q in zip(*both, strict=True)]
             for key, both in {"xx": (x, x), "xy": (x, y), "yy": (y, y)}.items()}  # fmt: skip

    def mean(rows: FloatArray, values: list[Any]) -> list[Any]:
        return [
            s * mp.fsum(mp.mpf(float(m)) * v for m, v in zip(row, values, strict=True)) / len(values) for row in rows
        ]

    variance, mask = layers[0]
    k = {key: [value + b for value in mean(variance, pairs[key])] for key in pairs}
    t = [value + b for value in mean(mask, pairs["xy"])]
    for variance, mask in layers[1:]:
        positions = range(len(t))
        c = {key: [duals(name, k[key][v], k[key][v], k[key][v])[0] for v in positions] for key in ("xx", "yy")}
        both = [duals(name, k["xx"][v], k["xy"][v], k["yy"][v]) for v in positions]
        c["xy"] = [one for one, _ in both]
        carried = [dot * t[v] for v, (_, dot) in enumerate(both)]
        t = [p + b + q for p, q in zip(mean(mask, c["xy"]), mean(variance, carried), strict=True)]
        k = {key: [value + b for value in mean(variance, c[key])] for key in k}
    return k["xy"], t


def errors(layers: Layers, name: str, sigma: float, bias: float, x: FloatArray) -> tuple[float, float]:
    """The largest error of NNGP and NTK on all pairs, relative to the diagonal's roots, and the reported one."""
    made = [gt.Connectivity(gt.StepGraphon(mask), gt.StepGraphon(variance)) for variance, mask in layers]
    network = gt.Network(made, name, sigma, bias, outputs=len(layers[-1][0]))
    found = gt.limit_kernel(network, x, contributions=True)
    np.testing.assert_allclose(found.ntk_layer.sum("layer").values, found.ntk.values, rtol=1e-12, atol=1e-14)
    kernels = [found[key].values.reshape(-1, len(x), len(x)) for key in ("nngp", "ntk")]
    worst = 0.0
    for i in range(len(x)):
        for j in range(i, len(x)):
            for kernel, want in zip(kernels, reference(layers, name, sigma, bias, x[i], x[j]), strict=True):
                for o, value in enumerate(want):
                    scale = np.sqrt(kernel[o, i, i] * kernel[o, j, j])
                    worst = max(worst, abs(float(kernel[o, i, j] - value)) / (scale or 1.0))
                    assert kernel[o, i, j] == kernel[o, j, i]
    return worst, float(found.attrs["quadrature_error"])


def blocks(rng: np.random.Generator, *sizes: int) -> Layers:
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    return [(rng.uniform(0.1, 0.9, shape), rng.uniform(0.1, 0.9, shape)) for shape in shapes]


@pytest.mark.parametrize("name", ["relu", "abs", "leaky_relu", "step"])
@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("distance", [1e-6, 1.3e-8, 1e-13])
def test_close_inputs_and_float32_copies(name: str, bias: float, distance: float) -> None:
    rng = np.random.default_rng(int(-np.log10(distance)))
    x = rng.standard_normal((4, 5))
    x[1] = x[0] + distance * rng.standard_normal(5)
    x[3] = x[2].astype(np.float32)
    error, reported = errors(blocks(rng, 5, 3, 4, 2), name, 1.7, bias, x)
    assert error <= 2e-15
    assert error <= reported <= 1e-12


@pytest.mark.parametrize("name", ["relu", "abs", "leaky_relu", "step"])
@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_parallel_and_opposite_inputs(name: str, bias: float) -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((5, 6))
    x[1], x[2], x[3], x[4] = 3 * x[0], -x[0], 0.1 * x[0], -(1 + 1e-9) * x[0]
    error, reported = errors(blocks(rng, 6, 3, 4, 2), name, 1.7, bias, x)
    assert error <= 2e-15
    assert error <= reported <= 1e-12


@pytest.mark.parametrize("name", ["relu", "step"])
def test_years_as_inputs(name: str) -> None:
    """One input far from 0: with a bias, neighbours lie 5e-8 apart in angle."""
    x = np.arange(1990.0, 2002.0)[:, None]
    one = np.ones((1, 1))
    error, reported = errors([(one, one)] * 3, name, 2.0, 0.1, x)
    assert error <= 1e-15
    assert error <= reported <= 1e-10


def test_close_at_some_positions_only() -> None:
    """Positions that do not see the input in which two rows differ much."""
    rng = np.random.default_rng(3)
    layers = blocks(rng, 6, 4, 3, 1)
    layers[0][0][:2, :3] = layers[0][1][:2, :3] = 0.0
    x = rng.standard_normal((3, 6))
    x[1] = x[0] + np.array([1.0, -0.5, 0.3, 1e-9, 2e-9, -1e-9])
    error, reported = errors(layers, "relu", 2.0, 0.0, x)
    assert error <= 1e-15
    assert error <= reported


@pytest.mark.parametrize(("name", "sigma", "bias"), [("step", 3.0, 0.05), ("relu", 1.0, 1.0), ("abs", 0.9, 0.5)])
def test_depth_compounds(name: str, sigma: float, bias: float) -> None:
    """Thirty layers: angles that shrink from layer to layer, and jumps that take their roots."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 6))
    x[1] = x[0] + 1e-9
    error, reported = errors(blocks(rng, 6, *[3] * 30, 1), name, sigma, bias, x)
    assert error <= 1e-14
    assert error <= reported


@pytest.mark.parametrize("name", ["relu", "abs", "step"])
@pytest.mark.parametrize("distance", [1e-4, 1e-6, 1e-8])
def test_smooth_graphons_are_resolved_for_close_inputs(name: str, distance: float) -> None:
    """Two close inputs alone, and among others that force finer panels, say the same within the reported error."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3))
    x[1] = x[0] + distance * rng.standard_normal(3)
    others = np.concatenate([x, rng.standard_normal((8, 3))])
    for layers in (["0.5+0.5*u*v", "0.5+0.5*u*v", 1.0], ["0.5+0.5*u*v", "Min(u,v)", "Abs(u-v)", 1.0]):
        network = gt.Network(layers, name, 2.0, 0.1)
        alone, among = gt.limit_kernel(network, x), gt.limit_kernel(network, others, rtol=1e-12)
        for key in ("nngp", "ntk"):
            scale = float(among[key][0, 0])
            move = np.abs(alone[key].values - among[key].values[:2, :2]).max() / scale
            assert move <= alone.attrs["quadrature_error"] + among.attrs["quadrature_error"]


def test_every_close_pair_is_found() -> None:
    rng = np.random.default_rng(2)
    for d, bias, weights in ((1, 0.1, (0.5,)), (3, 0.0, (0.2, 0.9, 0.4)), (40, 0.2, (0.0, *[0.5] * 39))):
        first = LayerOperator(np.array([weights, np.full(d, 0.3)]), None, bias, bias)
        x = rng.standard_normal((300, d)) + 5.0 * (d == 1)
        x[150:] = (1.0 if bias else rng.uniform(0.5, 2, (150, 1))) * x[:150] + 1e-4 * rng.standard_normal((150, d))
        for other in (None, x[::2]):
            search = Neighbours(first, x, other)
            y = x if other is None else other
            found = {
                (int(i), int(j)) for rows, columns, _ in search.batches() for i, j in zip(rows, columns, strict=True)
            }
            i, j = (k.ravel() for k in np.indices((len(x), len(y))))
            near = search.gaps(i, j) <= 0.5 * search.radius**2
            near &= (x[i] != y[j]).any(axis=1)
            want = {(int(a), int(b)) for a, b in zip(i[near], j[near], strict=True)}
            if other is None:
                found |= {(b, a) for a, b in found}
            assert want
            assert found == want


@pytest.mark.parametrize("bias", [0.0, 0.05])
@pytest.mark.parametrize("first", [1.0, "blocks"])
def test_sums_of_many_products_in_float32(first: Any, bias: float) -> None:
    """784 products lose more of rho than a few do, and so many close pairs are too many to compute by angles."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((330, 784))
    for k, distance in enumerate((1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6)):
        x[20 * k : 20 * k + 10] = x[320] + distance * rng.standard_normal((10, 784))
        x[20 * k + 10 : 20 * k + 20] = -x[321] + distance * rng.standard_normal((10, 784))
    network = gt.Network([rng.uniform(0.1, 0.9, (4, 4)) if first == "blocks" else first, 0.5], bias_variance=bias)
    single, double = (gt.limit_kernel(network, x, dtype=dtype) for dtype in ("float32", "float64"))
    for key in ("nngp", "ntk"):
        root = np.sqrt(np.diag(double[key]))
        error = (np.abs(single[key].values - double[key].values) / np.outer(root, root)).max()
        assert error <= single.attrs["quadrature_error"] <= 1e-3


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1.0), ("float32", 1e4), ("float32", 1e12), ("float64", 1e9)])
def test_smooth_but_steep(dtype: str, size: float) -> None:
    """erf of so large a variance is a step to rounding: what is lost of close pairs is said, and nothing overflows."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((22, 3))
    x[:11] = x[11:] + np.geomspace(1e-7, 1e-1, 11)[:, None] * rng.standard_normal((11, 3))
    network = gt.Network([0.5, 0.5], "erf", bias_variance=0.1)
    found = gt.limit_kernel(network, size * x, dtype=dtype)
    for key, kernel in exact_erf(network, size * x).items():
        root = np.sqrt(np.diag(kernel))
        error = (np.abs(found[key].values - kernel) / np.outer(root, root)).max()
        assert error <= found.attrs["quadrature_error"]
        assert size > 1 or found.attrs["quadrature_error"] < 1e-4


def exact_erf(network: gt.Network, x: FloatArray) -> dict[str, FloatArray]:
    """Both kernels of two layers of mask 1/2, by Williams' formula in 60 digits."""
    b, out = mp.mpf(0.1), {key: np.empty((len(x), len(x))) for key in ("nngp", "ntk")}
    rows = [[mp.mpf(float(value)) for value in row] for row in x]
    k = [[mp.fsum(p * q for p, q in zip(one, other, strict=True)) / 3 + b for other in rows] for one in rows]
    for i, j in np.ndindex(len(x), len(x)):
        one, other = 1 + 2 * k[i][i], 1 + 2 * k[j][j]
        dual = 2 / mp.pi * mp.asin(2 * k[i][j] / mp.sqrt(one * other))
        slope = 4 / mp.pi / mp.sqrt(one * other - 4 * k[i][j] ** 2)
        out["nngp"][i, j], out["ntk"][i, j] = dual + b, dual + b + slope * k[i][j]
    return out
