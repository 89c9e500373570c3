"""One rule for labels: where both sides carry them along an axis and they differ, an error; else positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory as gt

Array = NDArray[np.float64]
SIZE = 6
NETWORK = gt.Network([1.0, 1.0], bias_variance=0.1)
ROWS, NEW_ROWS, COLUMNS, TARGETS = list("abcdef"), list("uvwxyz"), ["p", "q", "r"], ["one", "two"]
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.standard_normal((SIZE, 3)), ROWS, COLUMNS)
NEW = pd.DataFrame(RNG.standard_normal((SIZE, 3)), NEW_ROWS, COLUMNS)
Y = pd.DataFrame(RNG.standard_normal((SIZE, 2)), ROWS, TARGETS)
Y_NEW = pd.DataFrame(RNG.standard_normal((SIZE, 2)), NEW_ROWS, TARGETS)


def labelled(frame: pd.DataFrame, rows: str = "sample", columns: str = "feature") -> xr.DataArray:
    coords = {rows: list(frame.index), columns: list(frame.columns)}
    return xr.DataArray(frame.to_numpy(), dims=(rows, columns), coords=coords)


@pytest.fixture(scope="module")
def kernels() -> xr.Dataset:
    return gt.limit_kernel(NETWORK, FRAME)


@pytest.fixture(scope="module")
def test() -> xr.Dataset:
    return gt.limit_kernel(NETWORK, NEW, FRAME)


@pytest.mark.parametrize("form", [lambda frame: frame, labelled])
def test_labels_travel_with_the_results(form: Callable[[pd.DataFrame], Any]) -> None:
    x, new, y = form(FRAME), form(NEW), form(Y)
    kernel, cross = gt.limit_kernel(NETWORK, x).ntk, gt.limit_kernel(NETWORK, new, x).ntk
    assert kernel.x.values.tolist() == kernel.x2.values.tolist() == cross.x2.values.tolist() == ROWS
    assert cross.x.values.tolist() == NEW_ROWS
    for found in (
        gt.gradient_flow(kernel, y, [1.0], test_kernel=cross, y_test=form(Y_NEW)),
        gt.kernel_regression(kernel, y, cross),
    ):
        assert found.x.values.tolist() == ROWS
        assert found.x_test.values.tolist() == NEW_ROWS
        assert found.target.values.tolist() == TARGETS
    assert gt.spectrum(kernel).x.values.tolist() == ROWS
    assert gt.extend(gt.spectrum(kernel, 2), cross).x.values.tolist() == NEW_ROWS
    # of a plain kernel, they are those of the targets
    assert gt.gradient_flow(kernel.values, y, [1.0]).x.values.tolist() == ROWS


def permuted(frame: pd.DataFrame, axis: int = 0) -> pd.DataFrame:
    return frame.iloc[::-1] if axis == 0 else frame.iloc[:, ::-1]


OTHER = permuted(Y)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda k, t: gt.gradient_flow(k.ntk, OTHER, [1.0]), "y"),
        (lambda k, t: gt.gradient_flow(k.ntk, labelled(OTHER), [1.0]), "y"),
        (lambda k, t: gt.gradient_flow(k.ntk, Y.reset_index(drop=True), [1.0]), "y"),
        (lambda k, t: gt.gradient_flow(k.ntk, Y, [1.0], initial=OTHER), "initial"),
        (lambda k, t: gt.gradient_flow(k.ntk, Y, [1.0], initial=permuted(Y, 1)), "initial"),
        (lambda k, t: gt.gradient_flow(k.ntk, Y, [1.0], test_kernel=t.ntk, y_test=permuted(Y_NEW)), "y_test"),
        (lambda k, t: gt.gradient_flow(k.ntk, Y, [1.0], test_kernel=t.ntk, y_test=permuted(Y_NEW, 1)), "y_test"),
        (lambda k, t: gt.gradient_flow(k.ntk, Y, [1.0], test_kernel=t.ntk[:, ::-1]), "test_kernel"),
        (
            lambda k, t: gt.gradient_flow(
                k.ntk, Y, [1.0], test_kernel=t.ntk, initial=Y, test_initial=permuted(Y_NEW)
            ),
            "test_initial",
        ),
        (lambda k, t: gt.gradient_descent(k.ntk, OTHER, [1], learning_rate=0.1), "y"),
        (lambda k, t: gt.steps_to_loss(k.ntk, OTHER, 0.1, 0.1), "y"),
        (lambda k, t: gt.best_stopping_time(k.ntk, Y, t.ntk, Y), "y_test"),
        (lambda k, t: gt.kernel_regression(k.ntk, OTHER, t.ntk), "y"),
        (lambda k, t: gt.kernel_regression(k.ntk, Y, t.ntk[:, ::-1]), "test_kernel"),
        (lambda k, t: gt.nngp_posterior(k.nngp, Y, t.nngp[:, ::-1], np.full(SIZE, 9.0)), "test_nngp"),
        (lambda k, t: gt.nngp_posterior(k.nngp, Y, t.nngp, pd.Series(9.0, ROWS)), "test_variance"),
        (lambda k, t: gt.training_ensemble(k, OTHER, [1.0]), "y"),
        (lambda k, t: gt.training_ensemble(k, Y, [1.0], test=t.isel(x2=[1, 0, 2, 3, 4, 5]), test_variance=np.ones(6)),
         "test.ntk"),
        (lambda k, t: gt.training_ensemble(k, Y, [1.0], test=t, test_variance=pd.Series(9.0, ROWS)), "test_variance"),
        (lambda k, t: gt.learning_curve(k.ntk, OTHER, [2]), "y"),
        (lambda k, t: gt.measured_learning_curve(k.ntk, OTHER, [2]), "y"),
        (lambda k, t: gt.target_alignment(k.ntk, OTHER), "y"),
        (lambda k, t: gt.target_alignment(k.ntk, Y, weights=pd.Series(1.0, ROWS[::-1])), "weights"),
        (lambda k, t: gt.spectrum(k.ntk, weights=pd.Series(1.0, ROWS[::-1])), "weights"),
        (lambda k, t: gt.spectrum(k.ntk.assign_coords(x2=ROWS[::-1])), "kernel"),
        (lambda k, t: gt.spectrum(pd.DataFrame(k.ntk.values, ROWS, ROWS[::-1])), "kernel"),
        (lambda k, t: gt.extend(gt.spectrum(k.ntk, 2), t.ntk[:, ::-1]), "cross_kernel"),
        (lambda k, t: gt.compare_networks({"one": NETWORK}, FRAME, OTHER), "y"),
        (lambda k, t: gt.compare_networks({"one": NETWORK}, FRAME, Y, NEW, Y), "y_test"),
        (lambda k, t: gt.compare_networks({"one": NETWORK}, FRAME, Y, NEW, permuted(Y_NEW, 1)), "y_test"),
        (lambda k, t: gt.compare_networks({"one": NETWORK}, FRAME, Y, permuted(NEW, 1), Y_NEW), "x_test"),
        (lambda k, t: gt.limit_kernel(NETWORK, permuted(NEW, 1), FRAME), "x2"),
        (lambda k, t: gt.limit_kernel(NETWORK, labelled(NEW), labelled(permuted(FRAME, 1))), "x2"),
        (lambda k, t: gt.closed_form(NETWORK).evaluate(permuted(NEW, 1)[:1], FRAME[:1]), "x2"),
        (lambda k, t: gt.saliency_network(NETWORK, FRAME, OTHER["one"], 0.5, (3, 8, 1), loss="squared"), "y"),
        (
            lambda k, t: gt.eigenlearning(
                xr.DataArray([1.0, 0.5], dims="mode", coords={"mode": [1, 2]}),
                xr.DataArray([1.0, 0.5], dims="mode", coords={"mode": [2, 1]}),
                [1],
            ),
            "target_power",
        ),
    ],
)  # fmt: skip
def test_other_labels_are_refused(
    call: Callable[[xr.Dataset, xr.Dataset], Any], name: str, kernels: xr.Dataset, test: xr.Dataset
) -> None:
    with pytest.raises(gt.InputError, match=rf"^{name}: the labels of its .* differ from those of"):
        call(kernels, test)


def test_the_loss_is_not_that_of_shuffled_targets(kernels: xr.Dataset) -> None:
    right = gt.gradient_flow(kernels.ntk, Y, [10.0]).loss.item()
    wrong = gt.gradient_flow(kernels.ntk, OTHER.to_numpy(), [10.0]).loss.item()
    assert wrong != pytest.approx(right, rel=1e-3)  # by position, as plain values go
    assert gt.gradient_flow(kernels.ntk, OTHER.loc[ROWS], [10.0]).loss.item() == right


def test_one_side_without_labels_goes_by_position(kernels: xr.Dataset, test: xr.Dataset) -> None:
    right = gt.gradient_flow(kernels.ntk, Y, [2.0], test_kernel=test.ntk).test_prediction.values
    for kernel, y, cross in (
        (kernels.ntk.values, Y, test.ntk),
        (kernels.ntk, Y.to_numpy(), test.ntk),
        (kernels.ntk, Y, test.ntk.values),
    ):
        found = gt.gradient_flow(kernel, y, [2.0], test_kernel=cross).test_prediction.values
        np.testing.assert_array_equal(found, right)
    np.testing.assert_array_equal(gt.limit_kernel(NETWORK, NEW.to_numpy(), FRAME).ntk, test.ntk)


def test_axes_are_put_in_order_by_name(kernels: xr.Dataset, test: xr.Dataset) -> None:
    right = gt.gradient_flow(kernels.ntk, Y, [2.0], test_kernel=test.ntk)
    for cross in (
        test.ntk.T,  # (x2, x), square
        test.ntk.rename(x="x_test", x2="x").T,
        test.ntk.rename(x="x_new", x2="x").T,
        test.ntk.drop_vars(["x", "x2"]).T,
    ):
        found = gt.gradient_flow(kernels.ntk, Y, [2.0], test_kernel=cross)
        np.testing.assert_array_equal(found.test_prediction, right.test_prediction)
        extended = gt.extend(gt.spectrum(kernels.ntk, 2), cross)
        np.testing.assert_array_equal(extended, gt.extend(gt.spectrum(kernels.ntk, 2), test.ntk))
    turned = xr.DataArray(Y.to_numpy().T, dims=("target", "x"), coords={"target": TARGETS, "x": ROWS})
    np.testing.assert_array_equal(gt.gradient_flow(kernels.ntk, turned, [2.0]).prediction, right.prediction)
    features = xr.DataArray(FRAME.to_numpy().T, dims=("feature", "x"), coords={"x": ROWS})
    np.testing.assert_array_equal(gt.limit_kernel(NETWORK, features).ntk, kernels.ntk)
    # names of one's own say which axis is which beside another array with the same
    swapped = gt.limit_kernel(NETWORK, labelled(NEW), labelled(FRAME).T)
    np.testing.assert_array_equal(swapped.ntk, test.ntk)
    assert swapped.x2.values.tolist() == ROWS


def test_the_kernel_the_other_way_round_is_refused(kernels: xr.Dataset) -> None:
    other = gt.limit_kernel(NETWORK, FRAME, NEW).ntk  # training inputs by new ones, square
    with pytest.raises(gt.InputError, match="test_kernel: the labels of its columns, the training inputs, differ"):
        gt.gradient_flow(kernels.ntk, Y, [1.0], test_kernel=other)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([1.0, np.nan], [1, np.nan], True),
        (["1", "2"], [1, 2], False),
        (np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-01"], "M8[ns]"), True),
        ([("a", 1), ("b", 2)], [("a", 1), ("b", 2)], True),
        ([("a", 1), ("b", 2)], [("a", 1), ("b", 3)], False),
        ([True, False], [1, 0], True),
        ([None, "a"], [None, "a"], True),
        ([pd.NA, "a"], ["b", "a"], False),
    ],
)
def test_what_counts_as_the_same_label(ours: Any, theirs: Any, same: bool) -> None:
    def index(values: Any) -> pd.Index:
        return pd.MultiIndex.from_tuples(values) if isinstance(values[0], tuple) else pd.Index(values)

    kernel = pd.DataFrame(np.eye(len(ours)), index(ours), index(ours))
    y = pd.Series(1.0, index(theirs))
    if same:
        assert gt.target_alignment(kernel, y).sizes["mode"] == len(ours)
    else:
        with pytest.raises(gt.InputError, match="y: the labels of its rows differ"):
            gt.target_alignment(kernel, y)
