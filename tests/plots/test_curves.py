"""Curves and bars show the numbers they were given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import graphon_theory as gt
from graphon_theory import plots
from graphon_theory.errors import InputError

STEP = gt.StepGraphon([[0.9, 0.1, 0.3], [0.2, 0.6, 0.0]])
NETWORK = gt.Network([1.0, STEP, 1.0], bias_variance=0.1)
RNG = np.random.default_rng(0)
X, NEW = RNG.standard_normal((40, 3)), RNG.standard_normal((5, 3))
Y = np.sin(X[:, 0])
KERNELS, CROSS = gt.limit_kernel(NETWORK, X), gt.limit_kernel(NETWORK, NEW, X)
MODES = gt.spectrum(KERNELS.ntk)
FLOW = gt.gradient_flow(KERNELS.ntk, Y, [0, 1, 10, 1000, np.inf], test_kernel=CROSS.ntk, y_test=np.sin(NEW[:, 0]))


def x_of(line: Any) -> Any:
    return np.asarray(line.get_xdata())


def y_of(line: Any) -> Any:
    return np.asarray(line.get_ydata())


def corners_of(axes: Any) -> Any:
    return axes.collections[0].get_paths()[0].vertices


def labels_of(axes: Any) -> list[str]:
    return [one.get_text() for one in axes.get_legend().get_texts()]


def heights_of(axes: Any, groups: int) -> np.ndarray:
    bars = [one for one in axes.patches if isinstance(one, Rectangle)]
    return np.array([one.get_height() for one in bars]).reshape(groups, -1)


def test_spectra_and_the_line_of_least_squares() -> None:
    axes = plots.spectrum(MODES, ax=Figure())
    values, fit = axes.lines
    np.testing.assert_array_equal(y_of(values), MODES.eigenvalue)
    np.testing.assert_array_equal(x_of(values), MODES.mode)
    first, last = MODES.attrs["decay_range"]
    k = np.arange(first, last + 1)
    slope, height = np.polyfit(np.log(k), np.log(MODES.eigenvalue.values[first - 1 : last]), 1)
    np.testing.assert_allclose(np.log(y_of(fit)), height + slope * np.log([first, last]), rtol=1e-10)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "mode"


def test_noise_is_left_out_of_a_spectrum() -> None:
    modes = gt.spectrum(X @ X.T)  # of rank 3
    assert len(y_of(plots.spectrum(modes, ax=Figure()).lines[0])) == 3


def test_other_spectra() -> None:
    several = plots.spectrum({"one": MODES, "half": MODES.assign(eigenvalue=MODES.eigenvalue / 2)}, ax=Figure())
    assert labels_of(several)[::2] == ["one", "half"]
    graphon = gt.graphon_spectrum("min(u, v)", 3)
    axes = plots.spectrum(graphon, ax=Figure())
    np.testing.assert_array_equal(y_of(axes.lines[0]), graphon.singular_value)
    assert axes.get_ylabel() == "singular value"
    zonal = gt.zonal_spectrum(gt.Network([1.0, STEP, 1.0], bias_variance=0.1), 3, 4)
    axes = plots.spectrum(zonal, ax=Figure())
    np.testing.assert_array_equal(x_of(axes.lines[0]), np.arange(4))
    assert "degree" in axes.get_xlabel()
    with pytest.raises(InputError, match="spectra of one kind"):
        plots.spectrum({"a": MODES, "b": graphon}, ax=Figure())


def test_losses_and_what_is_at_infinity() -> None:
    axes = plots.training(FLOW, ax=Figure())
    finite = np.isfinite(FLOW.time.values)
    np.testing.assert_array_equal(y_of(axes.lines[0]), FLOW.loss.values[finite])
    tested = next(line for line in axes.lines if line.get_label() == "test")
    np.testing.assert_array_equal(y_of(tested), FLOW.test_loss.values[finite])
    assert y_of(axes.lines[-1]).tolist() == [FLOW.test_loss.values[-1]] * 2  # the level at infinity
    assert labels_of(axes) == ["training", "test"]
    assert axes.get_xscale() == "symlog"
    assert axes.get_xlim()[0] == 0


def test_bands_are_two_deviations() -> None:
    prior = np.diagonal(gt.limit_kernel(NETWORK, NEW).nngp)
    band = gt.training_ensemble(KERNELS, Y, [0.1, 1, 10], test=CROSS, test_variance=prior)
    axes = plots.training(band, ax=Figure(), inputs=[2])
    np.testing.assert_array_equal(y_of(axes.lines[0]), band.test_mean[:, 2])
    edge = corners_of(axes)
    for low_or_high in (-2, 2):
        wanted = (band.test_mean + low_or_high * band.test_std)[:, 2].values
        assert all(np.isclose(edge[:, 1], value, rtol=1e-12).any() for value in wanted)
    assert labels_of(axes) == ["input 2"]


def test_bands_over_seeds() -> None:
    runs = RNG.standard_normal((6, 3, 4))
    found = xr.Dataset({"prediction": (("seed", "time", "x"), runs)}, {"time": [1.0, 2.0, 3.0]})
    axes = plots.training(found, ax=Figure(), inputs=[1])
    np.testing.assert_allclose(y_of(axes.lines[0]), runs.mean(axis=0)[:, 1], rtol=1e-13)
    edge = corners_of(axes)
    top = (runs.mean(axis=0) + 2 * runs.std(axis=0, ddof=1))[:, 1]
    assert all(np.isclose(edge[:, 1], value, rtol=1e-12).any() for value in top)


def test_runs_by_name_share_the_axes() -> None:
    descent = gt.gradient_descent(KERNELS.ntk, Y, [0, 1, 10], learning_rate=0.1)
    axes = plots.training({"flow": FLOW[["loss"]], "descent": descent}, ax=Figure())
    assert labels_of(axes) == ["flow", "descent"]
    assert plots.training(descent, ax=axes) is axes
    assert len({line.get_color() for line in axes.lines[:2]}) == 2


def test_accuracy_in_time() -> None:
    labels, new = (X[:, 0] > 0).astype(int), (NEW[:, 0] > 0).astype(int)
    flow = gt.gradient_flow(
        KERNELS.ntk, labels, [0.1, 1.0, 10.0], loss="cross_entropy", test_kernel=CROSS.ntk, y_test=new
    )
    axes = plots.training(flow, ax=Figure(), quantity="accuracy")
    np.testing.assert_array_equal(y_of(axes.lines[0]), flow.accuracy)
    np.testing.assert_array_equal(y_of(axes.lines[1]), flow.test_accuracy)
    assert "learning rate" in axes.get_xlabel()


def test_energy_against_sparsity() -> None:
    path = [gt.Network([1.0, gt.random_pruning(p), 1.0], bias_variance=0.1) for p in (1.0, 0.5, 0.2)]
    found = gt.spectrum_path(path, X)
    axes = plots.energy(found, ax=Figure(), modes=(1, 5))
    np.testing.assert_allclose(x_of(axes.lines[0]), [0, 0.5, 0.8], atol=1e-15)
    np.testing.assert_array_equal(y_of(axes.lines[1]), 100 * found.energy[:, 4])
    assert "sparsity" in axes.get_xlabel()
    axes = plots.energy({0.9: MODES, 0.5: MODES}, ax=Figure(), modes=(2,))
    np.testing.assert_array_equal(x_of(axes.lines[0]), [0.5, 0.9])
    np.testing.assert_array_equal(y_of(plots.energy(MODES, ax=Figure()).lines[0]), 100 * MODES.energy)
    with pytest.raises(InputError, match="modes: expected some of at most 10"):
        plots.energy(found, ax=Figure(), modes=(11,))


def test_networks_compared() -> None:
    found = gt.compare_networks({"step": NETWORK, "dense": gt.Network([1.0, 1.0])}, X, Y, NEW, np.sin(NEW[:, 0]))
    holder = plots.comparison(found, ax=Figure())
    left, right = [one for one in holder.figure.axes if one is not holder]
    np.testing.assert_array_equal(y_of(left.lines[1]), found.loss[1])
    np.testing.assert_array_equal(y_of(right.lines[0]), found.test_error_in_time[0])
    assert labels_of(left) == ["step", "dense"]
    bars = heights_of(plots.energy(found, ax=Figure()), 2)
    np.testing.assert_allclose(bars, 100 * np.array([found.energy_5, found.energy_10]), rtol=1e-14)


def test_finite_networks_against_the_limit() -> None:
    value, error, limit = np.array([[3.0, 1.0], [2.2, 1.1]]), np.array([[0.3, 0.1], [0.1, 0.1]]), np.array([2.0, 1.0])
    found = xr.Dataset(
        {
            "value": (("width", "quantity"), value),
            "value_error": (("width", "quantity"), error),
            "limit": (("quantity",), limit),
            "fitted": (("quantity",), [2.1, 1.1]),
            "bias": (("quantity",), [3.0, -1.0]),
        },
        {"width": [10, 100], "quantity": ["trace", "[0, 1]"]},
        {"seeds": 7},
    )
    axes = plots.comparison(found, ax=Figure())
    assert labels_of(axes) == ["trace", "[0, 1]"]
    for number, drawn in enumerate(axes.containers):
        off = 100 * (value[:, number] / limit[number] - 1)
        np.testing.assert_allclose(y_of(drawn[0]), off, rtol=1e-12)
        ends = np.array([one[:, 1] for one in drawn[2][0].get_segments()])
        np.testing.assert_allclose(np.diff(ends)[:, 0] / 2, 100 * error[:, number] / limit[number], rtol=1e-12)
    fits = [line for line in axes.lines if len(np.asarray(x_of(line))) == 100]
    np.testing.assert_allclose(np.asarray(y_of(fits[0]))[[0, -1]], [100 * 0.4 / 2, 100 * 0.13 / 2], rtol=1e-12)
    assert "7" in axes.get_ylabel()


def test_contributions_are_shares_of_the_whole() -> None:
    kernels = gt.limit_kernel(NETWORK, X[:4], contributions=True)
    bars = heights_of(plots.contributions(kernels, ax=Figure()), 2)
    np.testing.assert_allclose(bars.sum(axis=1), 100, rtol=1e-12)
    shares = kernels.ntk_layer.values
    np.testing.assert_allclose(bars[0], 100 * np.trace(shares, axis1=1, axis2=2) / np.trace(shares.sum(axis=0)))
    with pytest.raises(InputError, match="contributions=True"):
        plots.contributions(KERNELS)
    for other in (X[:2], X[:4] + 1):
        with pytest.raises(InputError, match="inputs with themselves"):
            plots.contributions(gt.limit_kernel(NETWORK, X[:4], other, contributions=True))
    # orthogonal inputs of a linear network share nothing: the bar of pairs is left out
    alone = gt.limit_kernel(gt.Network([1.0, 1.0], "identity"), np.eye(3), contributions=True)
    assert len(plots.contributions(alone, ax=Figure()).patches) == 2


def test_outputs_with_kernels_of_their_own() -> None:
    kernels = gt.limit_kernel(gt.Network([1.0, STEP], outputs=2), X[:6], contributions=True)
    modes = gt.spectrum(kernels.ntk)
    for axes in (plots.spectrum(modes, ax=Figure()), plots.energy(modes, ax=Figure())):
        assert labels_of(axes) == ["output 0", "output 1"]
    np.testing.assert_array_equal(y_of(plots.spectrum(modes, ax=Figure()).lines[1]), modes.eigenvalue[1])
    bars = heights_of(plots.contributions(kernels, ax=Figure(), output=1), 2)
    traces = np.trace(kernels.ntk_layer.values[:, 1], axis1=1, axis2=2)
    np.testing.assert_allclose(bars[0], 100 * traces / traces.sum(), rtol=1e-12)


def test_learning_curves() -> None:
    curve, truth = (f(KERNELS.ntk, Y, [5, 20]) for f in (gt.learning_curve, gt.measured_learning_curve))
    axes = plots.learning_curve({"predicted": curve, "measured": truth}, ax=Figure())
    np.testing.assert_array_equal(y_of(axes.lines[0]), curve.test_error)
    np.testing.assert_array_equal(y_of(axes.containers[0][0]), truth.test_error)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plots.spectrum(KERNELS, ax=Figure()), "modes: expected the Dataset that gt.spectrum"),
        (lambda: plots.spectrum({}), "modes: expected at least one"),
        (lambda: plots.training(MODES), "path: expected what gt.gradient_flow"),
        (lambda: plots.training(FLOW, quantity="accuracies"), "quantity: expected one of"),
        (lambda: plots.training(FLOW, quantity="prediction", inputs=[40], ax=Figure()), "inputs: "),
        (lambda: plots.training(3), "path: expected the Dataset"),  # type: ignore[arg-type]
        (lambda: plots.energy(KERNELS), "found: expected the Dataset"),
        (lambda: plots.comparison(KERNELS), "found: expected the Dataset"),
        (lambda: plots.learning_curve(KERNELS, ax=Figure()), "found: expected the Dataset"),
    ],
)
def test_wrong_input_is_named(call: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        call()
