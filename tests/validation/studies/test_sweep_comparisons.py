"""compare recovers what made-up sweeps were made from, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import graphon_validation as gv
from graphon_theory.errors import InputError
from graphon_validation.studies.sweep_comparisons import fit_line, norm_interval

WIDTHS = np.array([64, 128, 256, 512])
LIMIT = np.array([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 3.0]])
BIAS = np.array([[5.0, -2.0, 1.0], [-2.0, 3.0, 0.0], [1.0, 0.0, 4.0]])


def limit(matrix: np.ndarray = LIMIT) -> xr.Dataset:
    return xr.Dataset({"ntk": (("x", "x2"), matrix)})


def sweep(
    seeds: int = 400, noise: float = 2.0, exponent: float = -0.5, factor: float = 1.0, seed: int = 0
) -> xr.Dataset:
    """factor * limit + BIAS / n + noise n^exponent N(0, 1), symmetric."""
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((len(WIDTHS), seeds, 3, 3))
    draws = (draws + draws.swapaxes(-1, -2)) / 2
    n = WIDTHS[:, None, None, None].astype(float)
    values = factor * LIMIT + BIAS / n + noise * n**exponent * draws
    coords = {"width": WIDTHS, "seed": np.arange(seeds)}
    return xr.Dataset({"ntk": (("width", "seed", "x", "x2"), values)}, coords)


def test_means_errors_and_z_are_by_hand() -> None:
    real = sweep(seeds=5)
    found = gv.compare(real, limit(), [(0, 1)])
    sample = real.ntk.values[2, :, 0, 1]
    error = sample.std(ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(found["mean"].values[2, 0, 1], sample.mean())
    np.testing.assert_allclose(found["error"].values[2, 0, 1], sample.mean() - 0.5)
    np.testing.assert_allclose(found["standard_error"].values[2, 0, 1], error)
    np.testing.assert_allclose(found["z"].sel(quantity="[0, 1]").values[2], (sample.mean() - 0.5) / error)
    trace = np.trace(real.ntk.values[2], axis1=1, axis2=2)
    np.testing.assert_allclose(found["value"].sel(quantity="trace").values[2], trace.mean())
    assert float(found["limit"].sel(quantity="trace")) == 6.0
    assert found.attrs["seeds"] == 5


def test_the_bias_is_fitted_and_the_errors_are_honest() -> None:
    z, bias_z, residuals = [], [], []
    for seed in range(60):
        found = gv.compare(sweep(seeds=40, seed=seed), limit(), [(0, 1)]).sel(quantity="[0, 1]")
        z.append(float(found.fitted_z))
        bias_z.append((float(found.bias) + 2.0) / float(found.bias_error))
        residuals.append(float((found.residual_z**2).sum()))
    for scores in (z, bias_z):
        assert abs(np.mean(scores)) < 4 / np.sqrt(60)
        assert abs(np.mean(np.square(scores)) - 1) < 4 * np.sqrt(2 / 60)
    # four widths less two parameters; errors from 40 seeds make the tails a little heavier than chi^2
    assert abs(np.mean(residuals) - 2) < 4 * 2 / np.sqrt(60)


def test_intervals_cover_as_often_as_they_say() -> None:
    inside = []
    for seed in range(200):
        found = gv.compare(sweep(seeds=5, seed=seed), limit(), [(0, 1)]).sel(quantity="[0, 1]")
        truth = 0.5 - 2.0 / WIDTHS
        inside += list((found.interval[:, 0] < truth) & (truth < found.interval[:, 1]))
    assert abs(np.mean(inside) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(inside))


@pytest.mark.parametrize("seeds", [4, 12])
def test_scale_and_shape_intervals_cover(seeds: int) -> None:
    """Against the factor and the shape that the made-up sweeps have, 1.5 limit + BIAS / n."""
    expected = 1.5 * LIMIT + BIAS / WIDTHS[:, None, None]
    scale = (expected * LIMIT).sum((1, 2)) / (LIMIT**2).sum()
    left = expected - scale[:, None, None] * LIMIT
    shape = np.linalg.norm(left, axis=(1, 2)) / scale / np.linalg.norm(LIMIT)
    inside: dict[str, list[bool]] = {"scale": [], "shape": []}
    for seed in range(100):
        found = gv.compare(sweep(seeds=seeds, noise=0.5, factor=1.5, seed=seed), limit(), [(0, 1)])
        for name, truth in (("scale", scale), ("shape", shape)):
            low, high = found[f"{name}_interval"].values.T
            inside[name] += list((low <= truth) & (truth <= high))
    error = np.sqrt(0.95 * 0.05 / 400)
    assert abs(np.mean(inside["scale"]) - 0.95) < 4 * error
    assert 0.95 - 5 * error < np.mean(inside["shape"]) <= 1
    assert np.mean(inside["shape"]) < 1  # the interval is not all there is


@pytest.mark.slow
def test_the_shape_interval_leaves_zero_where_the_shape_differs_and_only_there() -> None:
    turned = LIMIT + np.array([[0.0, 0.4, 0.0], [0.4, 0.0, 0.0], [0.0, 0.0, 0.0]])
    scale = (LIMIT * turned).sum() / (turned**2).sum()
    truth = np.linalg.norm(LIMIT - scale * turned) / scale / np.linalg.norm(turned)
    above, different, inside = [], [], []
    for seed in range(100):
        pure = sweep(seeds=6, seed=seed)
        pure["ntk"] = pure.ntk - BIAS / WIDTHS[:, None, None, None]
        found = gv.compare(pure, limit(), [(0, 1)])
        above.append(found.shape_interval.values[:, 0] > 0)
        # noise alone has a shape error of its own; the interval knows
        assert (found.shape_interval.values[:, 0] < found.shape_error).all()
        low, high = gv.compare(pure, limit(turned), [(0, 1)]).shape_interval.values.T
        different.append(low > 0)
        inside.append((low <= truth) & (truth <= high))
    assert np.mean(above) < 0.05
    assert np.mean(different, axis=0)[-1] > 0.95  # where noise is a sixth of the difference
    assert 0.9 < np.mean(inside) < 1


def test_an_interval_in_one_dimension_is_students() -> None:
    rng = np.random.default_rng(2)
    sample = 5 + rng.standard_normal((6, 1))
    mean = sample.mean(0)
    low, high = norm_interval(mean, sample - mean)
    reach = stats.t.ppf(0.975, 5) * sample.std(ddof=1) / np.sqrt(6)
    np.testing.assert_allclose([low, high], [mean[0] - reach, mean[0] + reach], atol=0.1 * reach)
    assert norm_interval(np.zeros(2), np.zeros((4, 2))) == (0.0, 0.0)
    assert norm_interval(np.array([3.0, 4.0]), np.zeros((4, 2))) == pytest.approx((5.0, 5.0))


def test_a_wrong_limit_is_seen() -> None:
    found = gv.compare(sweep(), limit(1.2 * LIMIT))
    assert np.abs(found.fitted_z).min() > 5


@pytest.mark.parametrize("exponent", [-0.5, -0.25, -1.0])
def test_the_slope_of_the_spread_is_recovered(exponent: float) -> None:
    found = gv.compare(sweep(exponent=exponent), limit())
    assert abs(float(found.spread_slope) - exponent) < 4 * float(found.spread_slope_error)
    assert 0.005 < float(found.spread_slope_error) < 0.05
    # E |K - mean|^2 = 2^2 n^(2 exponent) (3 + 6/2) for three diagonal and six off-diagonal entries of variance 1/2
    expected = 2 * WIDTHS**exponent * np.sqrt(6) / np.linalg.norm(LIMIT)
    assert (np.abs(found.spread - expected) < 4 * found.spread_error).all()


@pytest.mark.slow
def test_the_spread_error_is_that_of_repeated_sweeps() -> None:
    repeats = [gv.compare(sweep(seeds=30, seed=seed), limit()) for seed in range(100)]
    scatter = np.std([one.spread.values for one in repeats], axis=0)
    claimed = np.mean([one.spread_error.values for one in repeats], axis=0)
    np.testing.assert_allclose(claimed, scatter, rtol=4 / np.sqrt(2 * 100))


def test_scale_and_shape_are_separate() -> None:
    scaled = gv.compare(sweep(factor=1.5, noise=0.1, seeds=50), limit())
    bias_scale = (BIAS * LIMIT).sum() / (LIMIT**2).sum() / WIDTHS
    assert (np.abs(scaled["scale"] - 1.5 - bias_scale) < 4 * scaled.scale_error).all()
    shape = BIAS / WIDTHS[:, None, None] - bias_scale[:, None, None] * LIMIT
    expected = np.linalg.norm(shape, axis=(1, 2)) / (1.5 + bias_scale) / np.linalg.norm(LIMIT)
    assert (np.abs(scaled.shape_error - expected) < 4 * scaled.shape_noise).all()
    # without bias nothing but noise is left, and shape_noise says how much
    pure = sweep(seeds=300)
    pure["ntk"] = pure.ntk - BIAS / WIDTHS[:, None, None, None]
    found = gv.compare(pure, limit())
    assert (found.shape_error < 2 * found.shape_noise).all()
    assert (found.shape_error > 0.3 * found.shape_noise).all()


def test_several_outputs() -> None:
    real, both = sweep(seeds=6), np.stack([LIMIT, 2 * LIMIT])
    values = np.stack([real.ntk.values, 2 * real.ntk.values], axis=2)
    real = xr.Dataset({"ntk": (("width", "seed", "output", "x", "x2"), values)}, real.coords)
    kern = xr.Dataset({"ntk": (("output", "x", "x2"), both)})
    found = gv.compare(real, kern, [(1, 0, 2)])
    assert list(found["quantity"].values) == ["trace", "[1, 0, 2]"]
    assert float(found["limit"].sel(quantity="trace")) == 18.0
    np.testing.assert_allclose(found.value.values[:, 1], values[:, :, 1, 0, 2].mean(1))


def test_cross_kernels_have_no_trace_and_one_width_no_fit() -> None:
    real = sweep(seeds=6).isel(x2=slice(0, 2), width=[1])
    found = gv.compare(real, limit(LIMIT[:, :2]))
    assert list(found["quantity"].values) == ["[0, 0]", "[0, 1]", "[1, 1]"]
    assert "fitted" not in found
    assert "spread_slope" not in found
    assert np.isfinite(found.z).all()


def test_fit_line_is_weighted_least_squares() -> None:
    x, y, error = np.array([1.0, 0.5, 0.1]), np.array([3.0, 2.2, 1.0]), np.array([0.1, 0.3, 0.2])
    design = np.stack([np.ones(3), x], axis=1)
    covariance = np.linalg.inv(design.T @ np.diag(error**-2) @ design)
    values, errors = fit_line(x, y, error)
    np.testing.assert_allclose(values, covariance @ design.T @ (y / error**2))
    np.testing.assert_allclose(errors, np.sqrt(np.diag(covariance)))


def test_what_does_not_fit_is_refused() -> None:
    real = sweep(seeds=5)
    with pytest.raises(InputError, match="compute both on the same inputs"):
        gv.compare(real, limit(LIMIT[:2, :2]))
    with pytest.raises(InputError, match=r"at least 3 seeds .*got 2"):
        gv.compare(real.isel(seed=[0, 1]), limit())
    for entry in ((0, 3), (-1, 0), (0,)):
        with pytest.raises(InputError, match="entries: expected indices"):
            gv.compare(real, limit(), [entry])
    still = real.copy(deep=True)
    still.ntk.values[..., 0, 0] = 0.0
    with pytest.raises(InputError, match=r"\[0, 0\] is the same for every seed"):
        gv.compare(still, limit(), [(0, 0)])
    with pytest.raises(InputError, match="zero everywhere"):
        gv.compare(real, limit(0 * LIMIT))
    with pytest.raises(InputError, match="finite"):
        gv.compare(real * np.inf, limit())
    labelled = limit().assign_coords(x=[1, 2, 3])
    with pytest.raises(InputError, match="'x' differs"):
        gv.compare(real.assign_coords(x=[0, 1, 2]), labelled)


def test_every_network_against_its_own_prediction() -> None:
    """Predictions that differ from network to network: their differences are tested, not their means alone."""
    real = sweep(seeds=40, noise=0.1)
    real["ntk"] = real.ntk - BIAS / WIDTHS[:, None, None, None]
    rng = np.random.default_rng(3)
    factors = rng.uniform(0.5, 2.0, real.ntk.shape[:2])[..., None, None]
    moved = real.assign(ntk=real.ntk + (factors - 1) * LIMIT)
    own = xr.Dataset({"ntk": (real.ntk.dims, factors * LIMIT)}, real.coords)
    paired = gv.compare(moved, own)
    plain = gv.compare(real, limit())
    np.testing.assert_allclose(paired.z, plain.z, atol=1e-9)
    np.testing.assert_allclose(paired.fitted_z, plain.fitted_z, atol=1e-9)
    per_width = factors.mean(1).ravel()
    np.testing.assert_allclose(paired.limit.sel(quantity="trace"), 6 * per_width)
    np.testing.assert_allclose(paired.spread * per_width, plain.spread)
    # half as large as predicted is a scale of 1/2 at every width, however predictions differ between widths
    predicted = factors * WIDTHS[:, None, None, None] * LIMIT
    half = real.assign(ntk=real.ntk * 1e-9 + predicted / 2)
    grown = xr.Dataset({"ntk": (real.ntk.dims, predicted)}, real.coords)
    np.testing.assert_allclose(gv.compare(half, grown)["scale"], 0.5, rtol=1e-6)
    assert np.abs(gv.compare(moved, limit()).spread).min() > 3 * np.abs(paired.spread).max()
    with pytest.raises(InputError, match="compute both on the same inputs"):
        gv.compare(moved, own.isel(seed=slice(5)))


def test_energies_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((2, 4, 15, 15))
    real = xr.Dataset(
        {"ntk": (("width", "seed", "x", "x2"), factors @ factors.swapaxes(-1, -2))},
        {"width": [8, 16], "seed": range(4)},
    )
    values = np.linalg.eigvalsh(real.ntk.values)
    shares = values[..., 5:].sum(-1) / values.sum(-1)
    found = gv.compare(real, xr.Dataset({"ntk": (("x", "x2"), np.diag(np.arange(1.0, 16)))}))
    np.testing.assert_allclose(found.energy, shares.mean(1))
    np.testing.assert_allclose(found.energy_error, shares.std(1, ddof=1) / 2)
    assert float(found.limit_energy) == pytest.approx(sum(range(6, 16)) / 120)
