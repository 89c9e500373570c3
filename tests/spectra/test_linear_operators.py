"""Spectra of linear operators and of kernels that carry a fingerprint, against those of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

import graphon_theory as gt
from graphon_theory.data import fingerprints
from graphon_theory.spectra import eigensolvers, kernel_spectra
from graphon_theory.spectra.linear_operators import unseen

Array = NDArray[np.float64]
NETWORK = gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5], "erf")
SIZE = 330


@pytest.fixture(autouse=True)
def lanczos_for_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eigensolvers, "_LANCZOS_SIZE", 100)


@pytest.fixture(scope="module")
def x() -> Array:
    return np.random.default_rng(0).standard_normal((SIZE, 2))


class Plain(LinearOperator):
    """A matrix that shows its diagonal."""

    def __init__(self, matrix: Array) -> None:
        super().__init__(matrix.dtype, matrix.shape)
        self.matrix = matrix

    def _matvec(self, v: Array) -> Array:
        return np.asarray(self.matrix @ v)

    def _matmat(self, v: Array) -> Array:
        return np.asarray(self.matrix @ v)

    def diagonal(self) -> Array:
        return self.matrix.diagonal()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [3, 12, SIZE])  # by products, and by the matrix
def test_spectra_of_operators_are_those_of_matrices(x: Array, weighted: bool, count: int) -> None:
    matrix = gt.limit_kernel(NETWORK, x).ntk
    options: dict[str, Any] = {"weights": np.random.default_rng(1).random(SIZE) + 0.5} if weighted else {}
    expected = gt.spectrum(matrix, count, **options)
    for operator in (gt.kernel_operator(NETWORK, x), Plain(matrix.values)):
        found = gt.spectrum(operator, count, **options)
        top = float(expected.eigenvalue[0])
        np.testing.assert_allclose(found.eigenvalue, expected.eigenvalue, rtol=0, atol=1e-12 * top)
        np.testing.assert_allclose(found.energy, expected.energy, rtol=0, atol=1e-12)
        assert float(found.residual.max()) < 1e-10
        for name in ("effective_rank", "gap"):
            assert found.attrs[name] == pytest.approx(expected.attrs[name], rel=1e-10)


def test_few_products_where_each_costs_the_kernel() -> None:
    x = np.random.default_rng(0).standard_normal((700, 2))
    kept = gt.kernel_operator(NETWORK, x, threads=1)
    none = gt.kernel_operator(NETWORK, x, threads=1, memory=kept.memory - kept._room)
    assert kept.keeps_all
    assert not none.keeps_all
    ours, theirs = gt.spectrum(none, 12), gt.spectrum(kept, 12)
    np.testing.assert_allclose(ours.eigenvalue, theirs.eigenvalue, rtol=1e-10)
    assert ours.attrs["products"] < theirs.attrs["products"]


def test_labels_of_an_operator(x: Array) -> None:
    labelled = xr.DataArray(x, dims=("x", "pixel"), coords={"x": np.arange(SIZE) + 7})
    assert list(gt.spectrum(gt.kernel_operator(NETWORK, labelled), 3).x[:2]) == [7, 8]


def test_modes_are_extended_by_products(x: Array) -> None:
    modes, new = gt.spectrum(gt.kernel_operator(NETWORK, x), 3), xr.DataArray(x[:9] + 0.1, dims=("x", "d"))
    new = new.assign_coords(x=np.arange(9) + 4)
    expected = gt.extend(modes, gt.limit_kernel(NETWORK, new, x).ntk)
    found = gt.extend(modes, gt.kernel_operator(NETWORK, new, x))
    xr.testing.assert_allclose(found, expected, rtol=1e-11)
    assert list(found.x[:2]) == [4, 5]
    with pytest.raises(gt.KernelError, match="cross_kernel: expected 330 columns"):
        gt.extend(modes, gt.kernel_operator(NETWORK, x, new))


def test_refuses_operators_that_are_no_kernels() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((400, 400)))[0]
    values = 0.7 ** np.arange(400.0)
    matrix = (turn * values) @ turn.T
    with pytest.raises(gt.KernelError, match="symmetric operator"):
        gt.spectrum(Plain(matrix + 1e-3 * rng.standard_normal((400, 400))), 3)
    with pytest.raises(gt.KernelError, match="positive semi-definite operator"):
        gt.spectrum(Plain(matrix - 0.02 * np.outer(turn[:, -1], turn[:, -1])), 3)
    with pytest.raises(gt.KernelError, match="positive semi-definite"):
        gt.spectrum(Plain(-matrix), 3)
    with pytest.raises(gt.KernelError, match="diagonal"):
        gt.spectrum(LinearOperator((400, 400), matvec=lambda v: matrix @ v, dtype=float), 3)
    with pytest.raises(gt.KernelError, match="not finite"):
        gt.spectrum(Plain(np.full((400, 400), np.nan)), 3)


def test_the_least_value_is_seen_as_often_as_is_said() -> None:
    """Single starts at the epsilon of one failure in ten: the share that miss is no larger, by its standard error."""
    size, steps, draws = 60, 8, 400
    epsilon = (np.log(1.648 * np.sqrt(size) / 0.1) / (2 * steps - 1)) ** 2
    values = np.linspace(0.0, 1.0, size)  # lambda_min = 0, lambda_max = 1
    missed = 0
    for seed in range(draws):
        start = np.random.default_rng(seed).standard_normal(size)
        basis = np.linalg.qr(values[:, None] ** np.arange(steps) * start[:, None])[0]
        missed += float(np.linalg.eigvalsh(basis.T * values @ basis)[0]) > epsilon
    assert missed / draws <= 0.1 + 3 * np.sqrt(0.09 / draws)
    assert unseen(20_000, 40) < unseen(20_000, 20) < 1
    assert unseen(10**9, 1) == 1


def test_a_kernel_with_its_fingerprint_is_not_factorised(x: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_LEAST", 300)
    seen: list[int] = []
    monkeypatch.setattr(kernel_spectra, "check_positive", lambda matrix, *_: seen.append(len(matrix)))
    for dtype in ("float64", "float32"):
        kernel = gt.limit_kernel(NETWORK, x, dtype=dtype).ntk
        gt.spectrum(kernel, 3)
        gt.spectrum(kernel, 3, weights=np.arange(1.0, SIZE + 1))
        assert not seen
        slack = 1e-3 if dtype == "float32" else 1e-9
        for i, j in ((0, 0), (5, 200), (329, 328)):
            edited = kernel.copy()
            edited[i, j] += slack * float(kernel.max())
            edited[j, i] = edited[i, j]
            gt.spectrum(edited, 3)
            gt.spectrum(kernel[:310, :310], 3)  # keeps the attribute, which is not its own
        assert seen == [SIZE, 310] * 3
        seen.clear()
    gt.spectrum(gt.limit_kernel(NETWORK, x).ntk.values, 3)  # a plain array carries nothing
    assert seen == [SIZE]


def test_small_kernels_carry_no_fingerprint(x: Array) -> None:
    kernels = gt.limit_kernel(NETWORK, x)
    assert not kernels.ntk.attrs
    assert not kernels.nngp.attrs


@pytest.mark.parametrize("weighted", [False, True])
def test_alignments_with_operators(x: Array, weighted: bool) -> None:
    rng = np.random.default_rng(2)
    y = rng.standard_normal((SIZE, 2))
    options: dict[str, Any] = {"weights": rng.random(SIZE) + 0.5} if weighted else {}
    matrix = gt.limit_kernel(NETWORK, x).ntk
    expected = gt.target_alignment(matrix, y, 5, **options)
    for operator in (gt.kernel_operator(NETWORK, x), Plain(matrix.values)):
        found = gt.target_alignment(operator, y, 5, **options)
        np.testing.assert_allclose(found.target_power, expected.target_power, rtol=1e-7)
        assert found.attrs["alignment"] == pytest.approx(expected.attrs["alignment"], rel=1e-12)
        with pytest.raises(gt.KernelError, match="centred"):
            gt.target_alignment(operator, y, 5, centred=True)
