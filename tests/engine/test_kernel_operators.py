"""Products of kernels that are never held whole, against the kernels held whole."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

import graphon_theory as gt
from graphon_theory.engine import kernel_operators

Array = NDArray[np.float64]

NETWORKS = {
    "blocks": gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5]),
    "smooth": gt.Network([1.0, gt.AnalyticGraphon("exp(-(u - v)**2)"), 1.0], "erf", 1.5, 0.1),
    "constant": gt.Network([0.5, 0.5, 0.5]),  # 330^2 pairs: the zonal route
}
SIZE, SIDE = 330, 64
BLOCKS = NETWORKS["blocks"]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_operators, "_SIDES", (SIDE,))


def inputs(size: int, seed: int = 0) -> Array:
    x = np.random.default_rng(seed).standard_normal((size, 4))
    x[size // 2] = x[0]  # coincident ones,
    x[-1] = x[1] + 1e-9  # and some so close that covariances do not tell them apart
    return x


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_products_are_those_of_the_matrix(name: str, kernel: str) -> None:
    x, v = inputs(SIZE), np.random.default_rng(1).standard_normal((SIZE, 3))
    whole = gt.limit_kernel(NETWORKS[name], x)
    operator = gt.kernel_operator(NETWORKS[name], x, kernel=kernel, memory=1e9)
    matrix = whole[kernel].values
    scale = np.abs(matrix).max() * np.sqrt(SIZE)
    for _ in range(2):  # made, and kept
        np.testing.assert_allclose(operator @ v, matrix @ v, rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(operator @ v[:, 0], matrix @ v[:, 0], rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(operator.T @ v, matrix @ v, rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(operator.diagonal(), np.diagonal(matrix), rtol=1e-14)
    assert operator.trace == pytest.approx(np.trace(matrix), rel=1e-13)
    np.testing.assert_allclose(operator.columns(np.array([3, 0, 300])), matrix[:, [3, 0, 300]], rtol=1e-12)
    np.testing.assert_allclose(operator.dense(), matrix, rtol=1e-13, atol=1e-15)
    assert operator.attrs["network"] == whole.attrs["network"]
    assert operator.attrs["quadrature_error"] == whole.attrs["quadrature_error"]


@pytest.mark.parametrize("name", NETWORKS)
def test_products_between_two_sets(name: str) -> None:
    x, new, rng = inputs(SIZE), inputs(150, 2), np.random.default_rng(1)
    matrix = gt.limit_kernel(NETWORKS[name], new, x).ntk.values
    operator = gt.kernel_operator(NETWORKS[name], new, x, memory=1e9)
    v, w = rng.standard_normal((SIZE, 2)), rng.standard_normal((150, 2))
    assert operator.shape == matrix.shape
    np.testing.assert_allclose(operator @ v, matrix @ v, rtol=0, atol=1e-12)
    np.testing.assert_allclose(operator.T @ w, matrix.T @ w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(operator.H @ w[:, 0], matrix.T @ w[:, 0], rtol=0, atol=1e-12)
    turned = v[:, 0] + 1j * v[:, 1]  # both parts are multiplied
    np.testing.assert_allclose(operator @ turned, matrix @ turned, rtol=0, atol=1e-12)
    with pytest.raises(gt.InputError, match="diagonal"):
        operator.diagonal()


def test_float32_tiles_are_added_in_float64() -> None:
    x, v = inputs(SIZE), np.random.default_rng(1).standard_normal((SIZE, 2))
    matrix = gt.limit_kernel(BLOCKS, x, dtype="float32").ntk.values
    operator = gt.kernel_operator(BLOCKS, x, dtype="float32", memory=1e9)
    assert (operator @ v).dtype == np.float64
    exact = matrix.astype(np.float64) @ v
    np.testing.assert_allclose(operator @ v, exact, rtol=0, atol=1e-13 * np.abs(matrix).max() * SIZE)


def test_the_numbers_depend_on_neither_threads_nor_memory() -> None:
    x, v = inputs(SIZE), np.random.default_rng(1).standard_normal((SIZE, 2))
    least = 1e9 - gt.kernel_operator(BLOCKS, x, memory=1e9, threads=1)._room  # what the tile at work takes
    kept = gt.kernel_operator(BLOCKS, x, memory=1e9, threads=1)
    some = gt.kernel_operator(BLOCKS, x, memory=least + 5 * 8 * SIDE**2, threads=1)
    none = gt.kernel_operator(BLOCKS, x, memory=least, threads=1)
    many = gt.kernel_operator(BLOCKS, x, memory=1e9, threads=3)
    expected = kept @ v
    for operator in (some, none, many):
        for _ in range(2):
            np.testing.assert_array_equal(operator @ v, expected)
    assert (kept.keeps_all, some.keeps_all, none.keeps_all) == (True, False, False)
    assert (kept.kept_share, none.kept_share) == (1, 0)
    assert 5 <= some.kept_share * 21 < 7
    assert none.pairs_computed == 2 * kept.pairs_computed


def test_the_bound_of_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_operators, "_SIDES", (256, 128))
    x, v = inputs(1000), np.ones((1000, 2))
    gt.kernel_operator(BLOCKS, x[:300], memory=1e9) @ v[:300]  # compiled code is loaded
    shares = []
    for bound in (11.5e6, 14e6, 40e6):
        operator = gt.kernel_operator(BLOCKS, x, memory=bound, threads=1)
        tracemalloc.start()
        for _ in range(2):
            operator @ v
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= bound
        shares.append(operator.kept_share)
    assert shares[0] < 1
    assert shares[-1] == 1


def test_labels_and_errors() -> None:
    x = inputs(30)
    with pytest.raises(gt.InputError, match="memory: 1,000 bytes are less"):
        gt.kernel_operator(BLOCKS, x, memory=1000)
    with pytest.raises(gt.InputError, match="memory"):
        gt.kernel_operator(BLOCKS, x, memory=-1)
    with pytest.raises(gt.InputError, match="kernel: expected one of ntk, nngp"):
        gt.kernel_operator(BLOCKS, x, kernel="both")
    with pytest.raises(gt.NetworkError, match="one output"):
        gt.kernel_operator(BLOCKS.changed(outputs=2), x)
    with pytest.raises(gt.KernelError, match="without x2"):
        gt.spectrum(gt.kernel_operator(BLOCKS, x, x))
    with pytest.raises(gt.KernelError, match="not finite"):
        gt.spectrum(aslinearoperator(np.full((4, 4), np.nan)))
