"""design: budgets, derivatives through them, refusals, and that it finds what is there and claims no more."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.designs.cells import Cells, cells_of
from graphon_theory.designs.searches import Search, Step, Task, patient, pick, sound, waiting
from graphon_theory.errors import InputError, NetworkError

WIDTHS = (6, 40, 30, 1)


def template(**options: Any) -> gt.Network:
    return gt.Network([1.0, 1.0, 1.0], bias_variance=0.1, **options)


def problem(count: int = 24, d: int = 6) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, d))
    return x, np.sign(x[:, 0] * x[:, 1]) + np.maximum(x[:, 2], 0)


def cells(**options: Any) -> Cells:
    given: dict[str, Any] = {"density": 0.3, "blocks": (3, 2), "layers": [0, 1, 2], "groups": None, "q": 1.0, **options}
    return cells_of(given.pop("network", template()), WIDTHS, **given)


def kept(network: gt.Network) -> float:
    sizes = [a * b for a, b in zip(WIDTHS[1:], WIDTHS, strict=False)]
    return sum(n * layer.mask.mean() for n, layer in zip(sizes, network.layers, strict=True))


@pytest.mark.parametrize("density", [0.02, 0.3, 0.97])
def test_budgets_hold_and_signals_have_variance_one(density: float) -> None:
    free = cells(density=density)
    z = 3 * np.random.default_rng(1).standard_normal(free.count)
    values = free.values(z)
    assert values.min() >= 0
    assert values.max() <= 1
    network = free.at(values)
    assert kept(network) == pytest.approx(density * (240 + 1200 + 30), rel=1e-12)
    x = np.ones((1, 6))
    assert float(gt.limit_kernel(network, x).nngp[0, 0]) == pytest.approx(1.0, rel=1e-12)


def test_a_budget_a_layer_groups_and_layers_that_stay() -> None:
    each = cells(density=[0.2, 0.5, 0.9])
    network = each.at(each.values(np.random.default_rng(2).standard_normal(each.count)))
    assert [layer.mask.mean() for layer in network.layers] == pytest.approx([0.2, 0.5, 0.9], rel=1e-12)
    grouped = cells(groups=np.array([0, 1, 0, 1, 2, 2]), layers=[0], density=0.9)
    assert grouped.count == 3 * 3
    mask = grouped.at(grouped.values(np.random.default_rng(3).standard_normal(9)) * 0.1).layers[0].mask
    assert isinstance(mask, gt.StepGraphon)
    np.testing.assert_array_equal(mask.values[:, [0, 1, 4]], mask.values[:, [2, 3, 5]])
    smooth = template().with_layers([1.0, "exp(-2*(u - v)**2)/4", 1.0])
    some = cells(network=smooth, density=0.3, layers=[0, 2])
    network = some.at(some.values(np.random.default_rng(4).standard_normal(some.count)))
    assert network.layers[1].mask == smooth.layers[1].mask
    assert kept(network) == pytest.approx(0.3 * 1470, rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"groups": np.array([0, 1, 0, 1, 2, 2])},
        {"layers": [0, 2], "density": 0.9},
        {"density": [0.2, 0.5, 0.9]},
        {"blocks": (5, 4), "smooth": 3},
    ],
    ids=["all", "groups", "layers", "densities", "smooth"],
)
def test_the_derivative_in_logits_is_that_of_central_differences(options: dict[str, Any]) -> None:
    x, y = problem()
    free, rng = cells(**options), np.random.default_rng(5)
    rows = np.arange(len(x))
    task = Task(x, y[:, None], rows, rows[:0], gt.objective("leave_one_out"), 1e-3, price=0.3)
    z, direction = rng.standard_normal((2, free.count))
    _, slope = task.evaluate(free, z, rows)
    a, b, c, d = (task.evaluate(free, z + k * 1e-3 * direction, rows)[0] for k in (-2, -1, 1, 2))
    assert float(slope @ direction) == pytest.approx((8 * (c - b) - (d - a)) / 12e-3, rel=1e-7)


def test_smooth_logits_are_cosine_series_in_positions() -> None:
    free = cells(blocks=(7, 6), smooth=3)
    assert free.count == 3 * 6 + 3 * 3 + 3
    values = free.values(np.random.default_rng(10).standard_normal(free.count))
    shares = [part.reshape(layer.shape) for part, layer in zip(free.split(values), free.free, strict=True)]
    least = free.split(free.least)
    for k, (rows, columns) in enumerate([(7, None), (6, 7), (None, 6)]):
        logits = np.log((shares[k] - least[k]) / (1 - shares[k]))
        for count, table in ((rows, logits), (columns, logits.T)):
            if count is not None:
                waves = np.cos(np.pi * np.outer((np.arange(count) + 0.5) / count, np.arange(3)))
                np.testing.assert_allclose(waves @ np.linalg.lstsq(waves, table)[0], table, atol=1e-9)
    x, y = problem()
    options: dict[str, Any] = {"density": 0.3, "widths": WIDTHS, "blocks": 7, "starts": 1, "iterations": 5}
    found = gt.design(template(), x, y, smooth=2, **options)
    assert found.value < found.baseline_value
    assert kept(found.network) == pytest.approx(0.3 * 1470, rel=1e-12)


def test_of_many_starts_the_best_two_go_on() -> None:
    x, y = problem()
    options: dict[str, Any] = {"density": 0.3, "widths": WIDTHS, "blocks": 2, "holdout": 0.0}
    found = gt.design(template(), x, y, starts=4, iterations=20, layers=[2, 3], **options)  # all hear all inputs
    lengths = np.bincount(found.history.start.values.astype(int))
    ends = [found.history.value.values[found.history.start.values == k][min(15, n - 1)] for k, n in enumerate(lengths)]
    assert len(found.spread) == 4
    assert set(np.flatnonzero(lengths > 16)) == set(np.argsort(ends)[:2])
    assert min(found.spread) >= found.value - 1e-12  # which has no price in it


def test_receivers_with_next_to_nothing_cost_something() -> None:
    free, rng = cells(density=0.1), np.random.default_rng(9)
    values = rng.uniform(0.001, 0.2, free.count)
    total, slope = free.poverty(values)
    fan_in = [n * (c @ layer.columns) for n, c, layer in zip(WIDTHS, free.split(values), free.free, strict=False)]
    poor = (1.5, 1.5, 30 / 4)  # outputs are to read a quarter of the units below
    lacks = (np.maximum(np.log(p / f), 0) for p, f in zip(poor, fan_in, strict=True))
    assert total == pytest.approx(sum(float((lack**2).mean()) for lack in lacks), rel=1e-12)
    assert total > 0
    direction = rng.uniform(-1e-4, 1e-4, free.count)
    a, b = (free.poverty(values + k * direction)[0] for k in (-1, 1))
    assert float(slope @ direction) == pytest.approx((b - a) / 2, rel=1e-3)
    assert free.poverty(np.full(free.count, 0.9))[0] == 0


def test_it_finds_the_inputs_that_matter_and_shows_it() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((220, 10))
    y = np.sign(x[:, 0] * x[:, 1]) + x[:, 2]
    options: dict[str, Any] = {"density": 0.15, "widths": (10, 100, 1), "blocks": 4, "starts": 2, "iterations": 18}
    found = gt.design(gt.Network([1.0, 1.0], bias_variance=0.1), x[:150], y[:150], **options)
    assert found.helps
    assert found.value < 0.7 * found.baseline_value
    mask = found.network.layers[0].mask
    assert isinstance(mask, gt.StepGraphon)
    assert mask.values[:, :3].sum() > mask.values[:, 3:].sum()
    # the claim holds on inputs that it has never seen
    errors = []
    for network in (found.network, gt.balanced(gt.Network([0.15, 0.15], bias_variance=0.1), by="position")):
        kern = gt.limit_kernel(network, x).ntk.values
        alpha = np.linalg.solve(kern[:150, :150] + 1e-3 * np.trace(kern[:150, :150]) / 150 * np.eye(150), y[:150])
        errors.append(float(((kern[150:, :150] @ alpha - y[150:]) ** 2).mean()))
    assert errors[0] < 0.7 * errors[1]
    assert len(found.spread) == 2
    assert found.evaluations >= int(found.history.evaluations.values[-1])
    again = gt.design(gt.Network([1.0, 1.0], bias_variance=0.1), x[:150], y[:150], **options)
    assert again.network == found.network
    assert min(found.least_fan_in) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gt.DeadUnitsWarning)  # ten inputs are few
        masks = found.masks(rng=1)
    assert sum(int(m.sum()) for m in masks) == pytest.approx(0.15 * 1100, abs=1)


def test_where_there_is_nothing_to_learn_it_claims_nothing() -> None:
    rng = np.random.default_rng(7)
    claims = 0
    for _ in range(3):
        x, y = rng.standard_normal((80, 8)), rng.standard_normal(80)
        found = gt.design(
            gt.Network([1.0, 1.0], bias_variance=0.1),
            x,
            y,
            density=0.2,
            widths=(8, 50, 1),
            blocks=4,
            starts=1,
            iterations=15,
        )
        claims += bool(found.helps)
        assert found.value < found.baseline_value  # on what it has seen
        assert "no gain is shown" in repr(found) or found.helps
    assert claims == 0


def test_blocks_are_chosen_and_large_sets_are_taken_in_parts() -> None:
    x, y = problem(60)
    options: dict[str, Any] = {"density": 0.3, "widths": WIDTHS, "iterations": 6, "starts": 1}
    chosen = gt.design(template(), x, y, blocks="auto", **options)
    assert chosen.blocks[0] in (4, 8, 16)
    assert set(chosen.history.blocks.values) == {4, 8, 16}
    parts = gt.design(template(), x, y, blocks=2, samples=20, holdout=0.0, **options)
    assert parts.holdout is None
    assert parts.helps is None
    assert kept(parts.network) == pytest.approx(0.3 * 1470, rel=1e-12)


@pytest.mark.parametrize("name", ["alignment", "evidence", "energy", "callable"])
def test_other_objectives(name: str) -> None:
    x, y = problem()
    goal: Any = name

    if name == "callable":

        def goal(ntk: FloatArray, nngp: FloatArray, y: FloatArray) -> tuple[float, FloatArray, None]:
            return (
                float(ntk[0, 1] / ntk[0, 0]),
                np.eye(len(ntk))[[0]].T
                * (np.eye(len(ntk))[1] / ntk[0, 0] - ntk[0, 1] / ntk[0, 0] ** 2 * np.eye(len(ntk))[0]),
                None,
            )

    targets = None if name in ("energy", "callable") else y
    options: dict[str, Any] = {"density": 0.3, "widths": WIDTHS, "blocks": 2, "iterations": 5, "starts": 1}
    found = gt.design(template(), x, targets, objective=goal, **options)
    assert found.value < found.baseline_value


def test_an_interrupt_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem()
    evaluate = Task.evaluate
    calls = 0

    def interrupted(self: Task, *arguments: Any) -> tuple[float, FloatArray]:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return evaluate(self, *arguments)

    monkeypatch.setattr(Task, "evaluate", interrupted)
    found = gt.design(template(), x, y, density=0.3, widths=WIDTHS, blocks=2, holdout=0.0)
    assert found.interrupted
    assert "interrupted" in repr(found)
    assert found.value <= found.history.value.values.min()  # which has the price of poor receivers in it
    assert found.value < found.baseline_value


def test_what_is_refused() -> None:
    x, y = problem()
    good: dict[str, Any] = {"density": 0.3, "widths": WIDTHS, "blocks": 2, "iterations": 2, "starts": 1}

    def refused(match: str, error: type[Exception] = InputError, **options: Any) -> None:
        given = {"network": template(), "x": x, "y": y, **good, **options}
        with pytest.raises(error, match=match):
            gt.design(given.pop("network"), given.pop("x"), given.pop("y"), **given)

    refused("y: objective 'leave_one_out' needs targets", y=None)
    refused("1 of 24 values are not finite", y=np.where(np.arange(24) == 3, np.nan, y))
    refused("not finite", x=np.full((24, 6), np.nan))
    refused("there is nothing to design", NetworkError, layers=[])
    refused("layers: expected", NetworkError, layers=[4])
    refused("cannot be met", network=template().with_layers([1.0, 0.9, 1.0]), layers=[1], density=0.05)
    refused("cannot be met", network=template().with_layers([1.0, 0.1, 1.0]), layers=[3], density=0.9)
    refused("density", density=0.0)
    refused("density: expected one number, or one a layer", density=[[0.1], [0.2, 0.3]])
    refused("one a layer, that is 3, got 2", density=[0.1, 0.2])
    refused(r"widths: expected 4 unit counts", widths=(5, 40, 30, 1))
    refused("expected one output", NetworkError, network=template(outputs=2))
    refused("blocks: expected one number, or one a hidden layer", blocks=[2, 2, 2])
    refused("groups: expected a label for each of 6 inputs", groups=[0, 1])
    refused("objective: expected a callable or one of", objective="accuracy")
    refused("smooth: expected", smooth=0)
    refused("all inputs are 0", x=np.zeros((24, 6)))
    refused("expected finite cotangents", objective=lambda ntk, nngp, y: (0.0, np.ones(3), None))
    with pytest.warns(gt.DesignWarning, match=r"cells for 24 target values"):
        gt.design(template(), x, y, **{**good, "blocks": 10, "iterations": 1})


def test_a_search_stops_where_it_sees_no_progress() -> None:
    x, y = problem(40)
    free, rows = cells(), np.arange(40)
    task = Task(x, y[:, None], rows[:20], rows[20:], gt.objective("leave_one_out"), 1e-3)
    search = Search(task, free, 0, 3, 500, 4, 1000, np.random.default_rng(0), lambda step: None)
    search.run(np.random.default_rng(8).standard_normal(free.count))
    assert len(search.steps) < 100
    values = [step.value for step in search.steps]
    worse = all(waiting(search.steps, half) >= 4 for half in (slice(0, None, 2), slice(1, None, 2)))
    assert worse or min(values[:-4]) - min(values) <= 0.005 * (values[0] - min(values))


def test_errors_held_out_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(11)
    common = rng.exponential(10.0, 40)  # hard inputs are hard for all
    shifts, values = [1.0, 0.5, 0.0, 0.01, 0.8, 0.9], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    noise = 0.1 * rng.standard_normal((6, 40))
    steps = [Step(0, 1, k, k, values[k], common + shifts[k] + noise[k], np.zeros(1)) for k in range(6)]
    assert sound(steps) == [False, False, True, True, False, False]
    assert pick(steps) is steps[3]
    assert waiting(steps) == 2
    assert len(patient(steps, 1, slice(None))) == 5
    assert len(patient(steps, 3, slice(None))) == 6
    bare = [Step(0, 1, k, k, values[k], np.empty(0), np.zeros(1)) for k in (2, 4, 3)]
    assert pick(bare) is bare[1]
    assert waiting(bare) == 1
