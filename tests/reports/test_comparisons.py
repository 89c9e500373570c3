"""The comparison of networks against the calls it stands for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.network import Network
from graphon_theory.reports.comparisons import compare_networks, comparison_table
from graphon_theory.spectra.alignments import target_alignment
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.training.divergence_rates import divergence_learning_rate
from graphon_theory.training.dynamics import (
    best_stopping_time,
    critical_learning_rate,
    gradient_flow,
    steps_to_loss,
    time_to_loss,
)
from graphon_theory.training.regressions import kernel_regression

Array = NDArray[np.float64]
NETWORKS = {
    "dense": Network([1.0, 1.0, 1.0], bias_variance=0.1),
    "blocks": Network([1.0, [[0.9, 0.1], [0.2, 0.6]], 1.0], bias_variance=0.1),
}


OWN_KERNELS = Network([1.0, StepGraphon([[0.9], [0.3]])], outputs=2)


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((60, 4)), rng.standard_normal((25, 4))

    def targets(inputs: Array) -> Array:
        return np.eye(3)[np.argmax(inputs[:, :3], axis=1)] - 1 / 3

    return {"x": x, "y": targets(x), "x_test": new, "y_test": targets(new)}


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_every_figure_is_that_of_its_own_function(data: dict[str, Any], ridge: float) -> None:
    found = compare_networks(NETWORKS, **data, ridge=ridge, level=0.3)
    y, y_test = data["y"], data["y_test"]
    for name, network in NETWORKS.items():
        one = found.sel(network=name)
        kernel = limit_kernel(network, data["x"]).ntk
        cross = limit_kernel(network, data["x_test"], data["x"]).ntk
        modes = spectrum(kernel)
        np.testing.assert_allclose(one.log_eigenvalue, np.log(modes.eigenvalue[:10]), atol=1e-10)
        for key, value in (("energy_5", modes.energy[4]), ("energy_10", modes.energy[9])):
            assert float(one[key]) == pytest.approx(float(value), rel=1e-12)
        for key in ("effective_rank", "gap", "decay_exponent"):
            assert float(one[key]) == pytest.approx(modes.attrs[key], rel=1e-10)
        assert float(one.participation) == pytest.approx(
            np.trace(kernel.values) ** 2 / np.sum(kernel.values**2), rel=1e-10
        )
        ridged = kernel.values + len(y) * ridge * np.eye(len(y))
        norm = np.trace(kernel.values) * np.sum(y * np.linalg.solve(ridged, y)) / len(y) ** 2
        assert float(one.complexity) == pytest.approx(norm, rel=1e-8)
        assert float(one.learning_rate) == pytest.approx(critical_learning_rate(kernel, ridge=ridge) / 2, rel=1e-10)
        assert float(one.alignment) == pytest.approx(target_alignment(kernel, y).attrs["alignment"], rel=1e-10)
        critical = critical_learning_rate(kernel, ridge=ridge)
        assert float(one.critical_learning_rate) == pytest.approx(critical, rel=1e-10)
        survived = np.nan if ridge else divergence_learning_rate(kernel, network)
        np.testing.assert_allclose(one.divergence_learning_rate, survived, rtol=1e-10)
        flow = gradient_flow(kernel, y, [*found.time.values, np.inf], test_kernel=cross, y_test=y_test, ridge=ridge)
        start = 0.5 * np.mean(np.sum(y**2, axis=1))
        assert float(one.time_to_loss) == pytest.approx(time_to_loss(flow, 0.3 * start), rel=1e-9)
        np.testing.assert_allclose(one.loss, flow.loss[:-1] / start, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(one.test_error_in_time, 2 * flow.test_loss[:-1], rtol=1e-9)
        regression = kernel_regression(kernel, y, cross, ridge=ridge)
        error = np.mean(np.sum((regression.test_prediction.values - y_test) ** 2, axis=1))
        assert float(one.test_error) == pytest.approx(error, rel=1e-9)
        alone = np.mean(np.sum((regression.left_out.values - y) ** 2, axis=1))
        assert float(one.predicted_error) == pytest.approx(alone, rel=1e-9)
        right = regression.test_prediction.values.argmax(axis=1) == y_test.argmax(axis=1)
        assert float(one.accuracy) == pytest.approx(right.mean())
        best = best_stopping_time(kernel, y, cross, y_test, ridge=ridge)
        assert (float(one.best_time), float(one.best_error)) == pytest.approx((best[0], 2 * best[1]), rel=1e-6)
        assert 0.99 * float(flow.test_loss.min()) <= best[1] <= float(flow.test_loss.min()) * (1 + 1e-12)
        assert float(one.steps_to_loss) == steps_to_loss(kernel, y, 0.3 * start, critical / 2, ridge=ridge)


def test_the_table_shows_every_network(data: dict[str, Any]) -> None:
    found = compare_networks(NETWORKS, **data, count=3)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(comparison_table(found))
    text = console.export_text()
    for piece in ("dense", "blocks", "ln eigenvalue 3", "steps to 10% of the loss", "test accuracy", "leave one out"):
        assert piece in text
    assert "ln eigenvalue 4" not in text


def test_without_test_data_and_with_one_target(data: dict[str, Any]) -> None:
    found = compare_networks(NETWORKS, data["x"], data["y"][:, 0], kind="nngp")
    assert "test_error" not in found
    assert "accuracy" not in found
    assert np.isfinite(found.predicted_error).all()
    comparison_table(found)


def test_ranks_and_how_sure_they_are(data: dict[str, Any]) -> None:
    networks = {"dense": NETWORKS["dense"], "same": NETWORKS["dense"], "blocks": NETWORKS["blocks"]}
    found = compare_networks(networks, **data)
    np.testing.assert_array_equal(
        found["rank"].sel(network=["dense", "same"]), 1 + (found.test_error[2] < found.test_error[0])
    )
    regression = {
        name: kernel_regression(
            limit_kernel(one, data["x"]).ntk, data["y"], limit_kernel(one, data["x_test"], data["x"]).ntk
        ).test_prediction.values
        for name, one in NETWORKS.items()
    }
    errors = {name: np.sum((value - data["y_test"]) ** 2, axis=1) for name, value in regression.items()}
    for name, value in errors.items():  # a mean of 25 errors, drawn 400 times: its deviation is known within 20%
        expected = value.std() / np.sqrt(len(value))
        assert float(found.error_spread.sel(network=name)) == pytest.approx(expected, rel=0.2)
    assert (found.rank_low <= found["rank"]).all()
    assert (found["rank"] <= found.rank_high).all()


def test_seeds_of_a_method_are_averaged(data: dict[str, Any]) -> None:
    both = list(NETWORKS.values())
    found = compare_networks({"method": both, **NETWORKS}, **data)
    for key in ("energy_5", "predicted_error", "test_error", "complexity", "time_to_loss"):
        one, *rest = found[key].values
        assert one == pytest.approx(np.mean(rest), rel=1e-12)
    assert found.seeds.values.tolist() == [2, 1, 1]


def test_a_network_without_a_limit_kernel_is_left_out(data: dict[str, Any]) -> None:
    verdicts = {"blocks": "no limit kernel", "dense": "(W, V) applies"}
    found = compare_networks(NETWORKS, **data, verdicts=verdicts)
    alone = compare_networks({"dense": NETWORKS["dense"]}, **data)
    assert np.isnan(found.predicted_error.sel(network="blocks"))
    assert np.isnan(found["rank"].sel(network="blocks"))
    assert float(found["rank"].sel(network="dense")) == 1
    np.testing.assert_array_equal(found.loss.sel(network="dense"), alone.loss.sel(network="dense"))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(comparison_table(found))
    assert "no limit kernel" in console.export_text()


def test_targets_in_null_modes_have_no_finite_norm() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    network = {"one": Network([1.0, 1.0], bias_variance=0.1)}
    assert np.isinf(compare_networks(network, x, np.array([1.0, -1.0, 0.5])).complexity[0])
    assert np.isfinite(compare_networks(network, x, np.array([1.0, 1.0, 0.5])).complexity[0])
    assert np.isfinite(compare_networks(network, x, np.array([1.0, -1.0, 0.5]), ridge=0.1).complexity[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"verdicts": {"other": "no limit kernel"}}, InputError, "verdicts: 'other' is none of the networks dense"),
        ({"verdicts": dict.fromkeys(NETWORKS, "no limit kernel")}, InputError, "there is none left to compare"),
        ({"verdicts": {"dense": 3}}, InputError, r"verdicts\['dense'\]: expected what gv.applicability returns"),
        ({"verdicts": ["no limit kernel"]}, InputError, "verdicts: expected a dict"),
        ({"networks": {"none": []}}, InputError, "expected a Network, or one a seed, got none"),
        ({"networks": []}, InputError, "networks: expected a dict of networks by name"),
        (
            {"networks": {"two": OWN_KERNELS}},
            InputError,
            "networks\\['two'\\]: y: expected shape .* for each output",
        ),
        ({"x_test": None}, InputError, "x_test, y_test: give both, or neither"),
        ({"y_test": np.ones(25)}, InputError, r"y_test: expected targets like y's \(3,\), got \(\)"),
        ({"level": 0.0}, InputError, "level: expected a positive number"),
        ({"count": 61}, InputError, "count: expected a whole number from 1 to 60"),
        ({"kind": "mean"}, InputError, "kind: expected"),
        ({"y": np.zeros((60, 3))}, InputError, "y: every target is zero"),
    ],
)
def test_refuses(data: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compare_networks(**{"networks": NETWORKS, **data, **options})


def test_progress_is_told_over_all_kernels(data: dict[str, Any]) -> None:
    seen: list[tuple[int, int]] = []
    compare_networks(NETWORKS, **data, progress=lambda done, total: seen.append((done, total)))
    size, new = len(data["x"]), len(data["x_test"])
    assert {total for _, total in seen} == {len(NETWORKS) * (size * (size + 1) // 2 + size * new)}
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(InputError, match="progress"):
        compare_networks(NETWORKS, **data, progress="yes")  # type: ignore[arg-type]
