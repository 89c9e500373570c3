"""The recursion's two forms, its matrices and its tiles; its numbers are held against references elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.engine import recursion
from graphon_theory.engine.discretisation import discretise
from graphon_theory.engine.products import truncated
from graphon_theory.engine.recursion import Recursion

FloatArray = NDArray[np.float64]


@pytest.mark.parametrize("activation", ["relu", "erf", "identity"])
@pytest.mark.parametrize("sizes", [(4, 4, 4), (1, 7, 5), (3, 2, 13)])
def test_narrow_and_wide_tiles_agree(
    activation: str, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled recursion against matrix products, V and W apart, several outputs, on and off the diagonal."""
    rng = np.random.default_rng(sum(sizes))
    masks = [rng.uniform(0.1, 0.9, shape) for shape in ((sizes[0], 9), sizes[1::-1], sizes[:0:-1], (3, sizes[2]))]
    layers = [gt.Connectivity(m, m * rng.uniform(0.5, 3, m.shape)) if n % 2 else m for n, m in enumerate(masks)]
    network = gt.Network(layers, activation, 1.5, 0.2, outputs=3)
    x = rng.standard_normal((150, 9))
    x[7], x[9] = x[3], -x[3]

    def both() -> list[FloatArray]:
        square, cross = gt.limit_kernel(network, x, threads=2), gt.limit_kernel(network, x[:20], x[15:])
        return [k[key].values for k in (square, cross) for key in ("nngp", "ntk")]

    monkeypatch.setattr(recursion, "_STRIP", 200)  # several strips a row
    narrow = both()
    monkeypatch.setattr(recursion, "_NARROW", 0)
    for got, want in zip(narrow, both(), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=4e-15 * np.abs(want).max())


def test_inputs_taken_in_blocks_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 7))
    x[280] = x[5]
    blocks = rng.uniform(0.1, 0.9, (4, 4))
    network = gt.Network([blocks, blocks, blocks], bias_variance=0.1, outputs=2)
    monkeypatch.setattr(recursion, "_STRIP", 64)
    whole = gt.limit_kernel(network, x)
    monkeypatch.setattr(recursion, "_FEATURES", 1)  # a block is a tile
    parts, cross = gt.limit_kernel(network, x), gt.limit_kernel(network, x, x[:170])
    for key in ("nngp", "ntk"):
        np.testing.assert_allclose(parts[key].values, whole[key].values, rtol=1e-13)
        np.testing.assert_allclose(cross[key].values, whole[key].values[:, :, :170], rtol=1e-13)


def test_the_input_layer_takes_the_cheapest_form() -> None:
    """Blocks of equal neighbouring columns, rows, or a basis of them; all give the same Gram matrices."""
    rng = np.random.default_rng(0)
    blocks = rng.uniform(0.1, 0.9, (6, 4))
    cases = [
        (blocks, 64, [16] * 4),
        (blocks, 30, [7, 1, 7, 7, 1, 7]),  # a cell across a break is a block of its own
        (rng.uniform(0.1, 0.9, (4, 20)), 20, None),
        ("exp(-(u - v)**2/2)", 64, None),
    ]
    for layer, d, supports in cases:
        x = np.random.default_rng(1).standard_normal((9, d))
        network = gt.Network([layer, blocks[:, :2], 0.5])
        r = Recursion(discretise(network, x, 1e-10).operators, network.activation, x)
        first = r.input_step.layer
        assert (None if first.supports is None else [s.stop - s.start for s in first.supports]) == supports
        assert len(first.profiles) <= 10
        gram = np.empty((len(first.profiles), 9, 5))
        first.gram(x, x[:5], gram)
        direct = np.einsum("pd,id,jd->pij", r.operators[0].variance, x, x[:5])
        np.testing.assert_allclose(np.tensordot(first.variance_weights, gram, 1), direct, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "rank"), [("smooth", 20), ("separable", 1), ("two", 2), ("kinked", None), ("noisy", None)]
)
def test_large_matrices_are_cut_without_a_full_decomposition(name: str, rank: int | None) -> None:
    u, v = np.linspace(0, 1, 700)[:, None], np.linspace(0, 1, 600)
    rng = np.random.default_rng(0)
    smooth = np.exp(-2 * (u - v) ** 2)
    matrix = {
        "smooth": smooth,
        "separable": (1 + u) * np.exp(v),
        "two": 1e8 * (u < 0.5) * np.cos(v) + (u >= 0.5) * np.sin(v),  # each row to its own scale
        "kinked": np.minimum(u, v),
        "noisy": smooth * (1 + 1e-9 * rng.random((700, 600))),
    }[name]
    left, right = truncated(matrix)
    scale = np.abs(matrix).max(axis=1, keepdims=True)
    assert (np.abs(left @ right - matrix) <= 1e-13 * scale).all()
    if rank is None:
        assert len(right) == 600
    else:
        assert len(right) <= rank


def test_tiles_shrink_as_positions_grow() -> None:
    """No tile holds more state, or asks for more arithmetic, than an interrupt may wait for."""
    for positions in (16, 300, 1200):
        values = np.full((positions, positions), 0.5)
        values[0, 0] = 0.6
        x = np.random.default_rng(0).standard_normal((3, 2))
        network = gt.Network([values[:, :2], values, values, 1.0], bias_variance=0.1)
        r = Recursion(discretise(network, x, 1e-10).operators, network.activation, x)
        plan = r.plan(4000, 4000)
        pairs = plan.rows * plan.columns
        assert pairs * positions <= 3e6 / 8
        assert 2 * pairs * positions**2 <= 2.5e9
        assert pairs >= 49
