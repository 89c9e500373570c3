"""Spectra against closed forms, LAPACK against Lanczos, and what must be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from graphon_theory.errors import InputError, KernelError
from graphon_theory.spectra import eigensolvers
from graphon_theory.spectra.kernel_spectra import extend, spectrum

Array = NDArray[np.float64]


def rotation(size: int, seed: int = 0) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def with_eigenvalues(values: Array, seed: int = 0) -> Array:
    """A symmetric matrix with these eigenvalues."""
    basis = rotation(len(values), seed)
    matrix = basis * values @ basis.T
    return np.asarray((matrix + matrix.T) / 2)


def brownian(x: Array, x2: Array) -> Array:
    return np.minimum.outer(x, x2)


def midpoints(size: int) -> Array:
    return (np.arange(size) + 0.5) / size


@pytest.fixture(scope="module")
def smooth() -> Array:
    """A kernel of a smooth function on 1,200 points: large enough for Lanczos."""
    x = np.random.default_rng(3).uniform(-1, 1, (1200, 3))
    return np.exp(-((x[:, None] - x) ** 2).sum(-1))


def test_known_eigenvalues_energy_and_figures() -> None:
    values = np.array([12.0, 6.0, 3.0, 2.0, 1.0, 0.0])
    modes = spectrum(with_eigenvalues(values))
    np.testing.assert_allclose(modes.eigenvalue, values / 6, atol=1e-15)
    np.testing.assert_allclose(modes.energy, np.cumsum(values) / 24, atol=1e-15)
    np.testing.assert_array_equal(modes.mode, [1, 2, 3, 4, 5, 6])
    assert modes.attrs["effective_rank"] == pytest.approx(2.0, rel=1e-13)
    assert modes.attrs["participation"] == pytest.approx(
        modes.eigenvalue.values.sum() ** 2 / (modes.eigenvalue.values**2).sum(), rel=1e-12
    )
    assert modes.attrs["gap"] == pytest.approx(2.0, rel=1e-13)
    assert float(modes.residual.max()) < 1e-14


def test_eigenfunctions_are_those_of_the_operator() -> None:
    matrix = with_eigenvalues(np.linspace(1, 9, 40))
    modes = spectrum(matrix, 7)
    functions = modes.eigenfunction.values
    np.testing.assert_allclose(functions.T @ functions / 40, np.eye(7), atol=1e-13)
    np.testing.assert_allclose(matrix @ functions / 40, functions * modes.eigenvalue.values, atol=1e-13)
    assert modes.eigenfunction.dims == ("x", "mode")


def test_brownian_kernel_has_its_continuous_spectrum() -> None:
    # The midpoint sample is a second-order rule: doubling it must quarter the error of every eigenvalue.
    exact = 1 / ((np.arange(1, 6) - 0.5) * np.pi) ** 2
    errors = []
    for size in (200, 400):
        x = midpoints(size)
        errors.append(np.abs(spectrum(brownian(x, x), 5).eigenvalue.values - exact))
    np.testing.assert_allclose(errors[0] / errors[1], 4.0, rtol=0.05)
    # The same fit to (k - 1/2)^-2 itself: 2.08, since that law is k^-2 only far from the first modes.
    fitted = spectrum(brownian(midpoints(800), midpoints(800)))
    np.testing.assert_array_equal(fitted.attrs["decay_range"], (2, 80))
    law = np.polyfit(np.log(np.arange(2, 81)), -2 * np.log(np.arange(2, 81) - 0.5), 1)[0]
    assert fitted.attrs["decay_exponent"] == pytest.approx(-law, abs=0.01)


def test_decay_exponent_of_an_exact_power_law() -> None:
    values = np.concatenate([[50.0], np.arange(2.0, 101.0) ** -1.5])
    assert spectrum(with_eigenvalues(values)).attrs["decay_exponent"] == pytest.approx(1.5, abs=1e-10)
    assert "decay_exponent" not in spectrum(with_eigenvalues(values), 3).attrs


def test_lanczos_and_lapack_agree(smooth: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    lanczos = spectrum(smooth, 25)
    assert lanczos.attrs["solver"] == "lanczos"
    monkeypatch.setattr(eigensolvers, "_LANCZOS_SIZE", 10**9)
    lapack = spectrum(smooth, 25)
    assert lapack.attrs["solver"] == "lapack"
    whole = spectrum(smooth).isel(mode=slice(25))
    for other in (lapack, whole):
        scale = float(whole.eigenvalue[0])
        np.testing.assert_allclose(lanczos.eigenvalue, other.eigenvalue, rtol=0, atol=1e-13 * scale)
        np.testing.assert_allclose(lanczos.energy, other.energy, rtol=1e-12)
        for figure in ("effective_rank", "participation", "gap", "rounding_level"):
            assert lanczos.attrs[figure] == pytest.approx(other.attrs[figure], rel=1e-12)
        # the projectors on the first five (well separated) modes, which no sign or rotation changes
        ours, theirs = (np.asarray(m.eigenfunction[:, :5].values) for m in (lanczos, other))
        np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-10)
    assert float(lanczos.residual.max()) < 1e-13


def test_lanczos_gives_the_same_numbers_every_time(smooth: Array) -> None:
    xr.testing.assert_identical(spectrum(smooth, 8), spectrum(smooth, 8))


def test_signs_do_not_depend_on_the_solver(smooth: Array) -> None:
    functions = spectrum(smooth, 5).eigenfunction.values
    largest = functions[np.abs(functions).argmax(axis=0), np.arange(5)]
    assert (largest > 0).all()
    # an antisymmetric function has two entries of largest magnitude: the first one decides
    x = np.array([-1.0, -0.5, 0.5, 1.0])
    np.testing.assert_allclose(spectrum(np.outer(x, x), 1).eigenfunction[:, 0], -x / np.sqrt(np.mean(x**2)), rtol=1e-14)


def test_one_input() -> None:
    modes = spectrum([[4.0]])
    assert modes.eigenvalue.values == [4.0]
    assert modes.eigenfunction.values == [[1.0]]
    assert modes.attrs["gap"] == float("inf")
    assert modes.attrs["effective_rank"] == 1.0


def test_labels_travel() -> None:
    kernel = xr.DataArray(with_eigenvalues(np.array([3.0, 2.0, 1.0])), dims=("x", "x2"), coords={"x": ["a", "b", "c"]})
    modes = spectrum(kernel)
    assert list(modes.x.values) == ["a", "b", "c"]
    assert modes.attrs["graphon_theory"]


def test_extension_at_the_training_inputs_is_the_eigenfunction() -> None:
    x = midpoints(60)
    modes = spectrum(brownian(x, x), 12)
    again = extend(modes, brownian(x, x))
    assert again.dims == ("x", "mode")
    np.testing.assert_allclose(again, modes.eigenfunction, atol=1e-11)


def test_extension_of_the_brownian_modes_to_new_points() -> None:
    # phi_k(x) = sqrt(2) sin((k - 1/2) pi x), up to the sign and the O(N^-2) error of the midpoint sample
    new = np.array([0.12, 0.5, 0.77])  # on edges of the cells of either grid
    errors = []
    for size in (300, 600):
        x = midpoints(size)
        modes = spectrum(brownian(x, x), 3)
        extended = extend(modes, brownian(new, x)).values
        exact = np.sqrt(2) * np.sin(np.outer(new, (np.arange(1, 4) - 0.5) * np.pi))
        sign = np.sign(np.sum(extended * exact, axis=0))
        errors.append(float(np.abs(sign * extended - exact).max()))
    assert errors[1] < 5e-5
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.3)


def test_extension_refuses_modes_at_rounding_level() -> None:
    values = np.array([3.0, 2.0, 1.0, 0.0, 0.0])
    matrix = with_eigenvalues(values)
    modes = spectrum(matrix)
    with pytest.raises(KernelError, match=r"2 of 5 eigenvalues are at rounding level .* keep the first 3"):
        extend(modes, matrix)
    np.testing.assert_allclose(extend(modes.isel(mode=slice(3)), matrix), modes.eigenfunction[:, :3], atol=1e-13)
    with pytest.raises(KernelError, match=r"cross_kernel: expected 5 columns.*\(5, 3\)"):
        extend(modes.isel(mode=slice(3)), matrix[:, :3])
    with pytest.raises(InputError, match="modes: expected the Dataset that spectrum"):
        extend(modes.drop_vars("eigenvalue"), matrix)


def test_refuses_what_is_no_kernel() -> None:
    good = with_eigenvalues(np.linspace(1, 4, 6))
    with pytest.raises(KernelError, match=r"expected a square matrix, got shape \(6, 4\)"):
        spectrum(good[:, :4])
    with pytest.raises(KernelError, match="1 of 36 entries are not finite"):
        spectrum(np.where(np.arange(36).reshape(6, 6) == 8, np.nan, good))
    crooked = good.copy()
    crooked[1, 4] += 1e-6
    with pytest.raises(KernelError, match=r"expected a symmetric matrix, but \[1, 4\] and \[4, 1\] differ by 1e-06"):
        spectrum(crooked)
    with pytest.raises(KernelError, match="every entry is zero"):
        spectrum(np.zeros((3, 3)))


@pytest.mark.parametrize("count", [0, 7, -1, 2.0, True, "3"])
def test_refuses_counts(count: Any) -> None:
    with pytest.raises(InputError, match="count: expected a whole number from 1 to 6"):
        spectrum(np.eye(6), count)


@pytest.mark.parametrize("count", [None, 2], ids=["all modes", "some modes"])
def test_refuses_negative_eigenvalues_beyond_rounding(count: int | None) -> None:
    indefinite = with_eigenvalues(np.array([5.0, 4.0, 1.0, 0.5, -1e-7]))
    with pytest.raises(KernelError, match=r"smallest eigenvalue is -1e-07 and its largest 5 "):
        spectrum(indefinite, count)
    with pytest.raises(KernelError, match=r"smallest eigenvalue is -2 and its largest -1 "):
        spectrum(-np.diag([2.0, 1.5, 1.0]), count)
    rounding = with_eigenvalues(np.array([5.0, 4.0, 1.0, 0.5, -1e-12]))
    np.testing.assert_allclose(spectrum(rounding, count).eigenvalue[:2], [1.0, 0.8], rtol=1e-13)


def test_refuses_negative_eigenvalues_by_lanczos_too(smooth: Array) -> None:
    lowered = smooth - 1e-5 * np.eye(len(smooth))
    with pytest.raises(KernelError, match="smallest eigenvalue is -1e-05"):
        spectrum(lowered, 5)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("lowest", "sure", "sound"), [(1e-2, True, True), (0.0, False, True), (-1e-9, False, False)])
def test_positive_by_single_precision_only_where_it_can_tell(
    order: Any, lowest: float, sure: bool, sound: bool
) -> None:
    matrix = np.asarray(with_eigenvalues(np.append(np.linspace(1, 0.1, 399), lowest)), order=order)
    before = matrix.copy()
    assert eigensolvers._surely_positive(matrix) is sure
    if sound:
        eigensolvers.check_positive(matrix, np.ones(5), 1e-10)
    else:
        with pytest.raises(KernelError, match="smallest eigenvalue is -1e-09"):
            eigensolvers.check_positive(matrix, np.ones(5), 1e-10)
    np.testing.assert_array_equal(matrix, before)


def test_lanczos_reads_rows_or_columns(smooth: Array) -> None:
    by_rows, by_columns = spectrum(smooth, 5), spectrum(np.asfortranarray(smooth), 5)
    assert by_columns.attrs["solver"] == "lanczos"
    np.testing.assert_allclose(by_columns.eigenvalue, by_rows.eigenvalue, rtol=1e-12)


def test_a_single_precision_kernel_is_judged_by_its_own_rounding() -> None:
    values = np.linspace(0, 4, 30)
    single = with_eigenvalues(values).astype(np.float32)
    single[0, 1] = np.nextafter(single[0, 1], np.float32(9))
    np.testing.assert_allclose(spectrum(single).eigenvalue[0], 4 / 30, rtol=1e-6)
    with pytest.raises(KernelError, match="expected a symmetric matrix"):
        spectrum(single.astype(np.float64))


def test_weights_are_multiplicities() -> None:
    x = np.random.default_rng(4).standard_normal((20, 3))
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    times = 1 + np.arange(20) % 3
    repeated = np.repeat(np.arange(20), times)
    weighted = spectrum(kernel, 6, weights=times)
    plain = spectrum(kernel[np.ix_(repeated, repeated)], 6)
    np.testing.assert_allclose(weighted.eigenvalue, plain.eigenvalue, rtol=1e-13)
    np.testing.assert_allclose(weighted.energy, plain.energy, rtol=1e-13)
    np.testing.assert_allclose(weighted.eigenfunction.values[repeated], plain.eigenfunction, atol=1e-11)
    np.testing.assert_allclose(weighted.weight, times / times.sum(), rtol=1e-15)
    cross = np.exp(-((x[:4, None] + 0.1 - x) ** 2).sum(-1))
    np.testing.assert_allclose(extend(weighted, cross), extend(plain, cross[:, repeated]), atol=1e-10)
    np.testing.assert_allclose(
        spectrum(kernel, 6, weights=np.full(20, 7.0)).eigenvalue, spectrum(kernel, 6).eigenvalue, rtol=1e-13
    )


def test_a_gaussian_law_by_gauss_hermite_weights() -> None:
    # exp(-(x - x')^2 / (2 l^2)) under N(0, 1): Mehler's eigenvalues sqrt(2a/A) (b/A)^k
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    kept = weights > 1e-30
    nodes, weights = nodes[kept], weights[kept]
    ell = 1.3
    modes = spectrum(np.exp(-((nodes[:, None] - nodes) ** 2) / (2 * ell**2)), 8, weights=weights)
    a, b = 0.25, 1 / (2 * ell**2)
    total = a + b + np.sqrt(a * a + 2 * a * b)
    np.testing.assert_allclose(modes.eigenvalue, np.sqrt(2 * a / total) * (b / total) ** np.arange(8), rtol=1e-11)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"expected 3 numbers, one an input, got shape \(2,\)"),
        ([1.0, 0.0, 2.0], r"1 of 3 are not, the first is 0.0 at \[1\]"),
        ([1.0, np.nan, 2.0], r"the first is nan at \[1\]"),
        (["a", "b", "c"], "expected 3 numbers"),
    ],
)
def test_refuses_weights(weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^weights: .*{message}"):
        spectrum(np.eye(3), weights=weights)


def test_the_fit_of_the_decay_has_a_range_and_an_error() -> None:
    rng = np.random.default_rng(2)
    k = np.arange(1, 101)
    slopes, errors = [], []
    for _ in range(30):
        values = np.sort(k**-1.5 * np.exp(0.05 * rng.standard_normal(100)))[::-1]
        fitted = spectrum(np.diag(values), fit_range=(5, 60)).attrs
        slopes.append(fitted["decay_exponent"])
        errors.append(fitted["decay_error"])
    np.testing.assert_array_equal(fitted["decay_range"], (5, 60))
    assert abs(np.mean(slopes) - 1.5) < 4 * np.std(slopes) / np.sqrt(30)
    # sorting makes neighbours dependent, so the scatter about one line understates the spread a little
    assert 0.5 < np.mean(errors) / np.std(slopes, ddof=1) < 1.5
    for bad in ((5, 6), (0, 10), (5, 101), "all"):
        with pytest.raises(InputError, match="fit_range: expected"):
            spectrum(np.diag(values), fit_range=bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fit_range: mode 4 is at rounding level"):
        spectrum(np.diag([3.0, 2.0, 1.0, 0.0, 0.0]), fit_range=(1, 5))


@pytest.mark.parametrize("copies", [30, 300])
def test_lanczos_finds_every_copy_of_an_eigenvalue(copies: int) -> None:
    size, count = 1200, 25  # more copies wanted than a block of 16 can see at once
    values = np.concatenate([np.full(copies, 5.0), np.linspace(1, 0, size - copies)])
    modes = spectrum(with_eigenvalues(values), count)
    assert modes.attrs["solver"] == "lanczos"
    np.testing.assert_allclose(modes.eigenvalue, values[:count] / size, rtol=1e-12)


def test_lanczos_on_a_low_rank() -> None:
    values = np.concatenate([np.arange(20.0, 0, -1), np.zeros(1180)])
    modes = spectrum(with_eigenvalues(values), 30)
    assert modes.attrs["solver"] == "lanczos"
    np.testing.assert_allclose(modes.eigenvalue, values[:30] / 1200, atol=1e-15)
    functions = modes.eigenfunction.values
    np.testing.assert_allclose(functions.T @ functions / 1200, np.eye(30), atol=1e-12)


@pytest.mark.parametrize(("size", "rank", "count"), [(1500, 40, 75), (2000, 25, 100)])
def test_lanczos_stays_orthogonal_beyond_the_rank(size: int, rank: int, count: int) -> None:
    x = np.random.default_rng(4).standard_normal((size, rank))
    modes = spectrum(x @ x.T, count)
    assert modes.attrs["solver"] == "lanczos"
    functions = modes.eigenfunction.values
    np.testing.assert_allclose(functions.T @ functions / size, np.eye(count), atol=1e-12)
    assert float(modes.residual.max()) < 1e-12


@pytest.mark.parametrize("scale", [1e40, 2.0])
def test_large_entries_off_the_diagonal_are_no_kernel(scale: float) -> None:
    matrix = np.eye(6)
    matrix[0, 2] = matrix[2, 0] = scale
    with pytest.raises(KernelError, match="positive semi-definite"):
        spectrum(matrix, 2)


def test_tiny_kernels_are_judged_too() -> None:
    with pytest.raises(KernelError, match="positive semi-definite"):
        spectrum(np.kron(np.eye(3), [[1.0, 2.0], [2.0, 1.0]]) * 1e-310, 2)


def test_a_kernel_whose_squares_are_no_numbers_shares_its_trace_alike() -> None:
    rng = np.random.default_rng(5)
    factor = rng.standard_normal((6, 8))
    kernel = factor @ factor.T
    tiny = spectrum(1e-170 * kernel).attrs["participation"]
    assert tiny == pytest.approx(spectrum(kernel).attrs["participation"], rel=1e-12)
