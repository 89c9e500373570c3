"""Rows of the input mask: what networks of few inputs are worth, and which step of a search they make the best."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.designs.cells import cells_of
from graphon_theory.designs.drawn_masks import drawn_rows
from graphon_theory.designs.input_rows import InputRows
from graphon_theory.designs.searches import Step, Task


def data(count: int, d: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, d))
    return x, np.sign(x[:, 0]) * np.tanh(x[:, :3].sum(1))


def template(first: object) -> gt.Network:
    return gt.Network([first, 1.0], bias_variance=0.1)


def by_loops(x: FloatArray, rows: FloatArray, q: float) -> FloatArray:
    """The NNGP of one hidden ReLU layer: the mean over rows, each heard with variance 1 at inputs of mean square q."""
    out = np.zeros((len(x), len(x)))
    for row in rows:
        scale = 0.9 / (q * row.sum())
        for i, a in enumerate(x):
            for j, b in enumerate(x):
                kij, kii, kjj = (scale * float((row * s * t).sum()) + 0.1 for s, t in ((a, b), (a, a), (b, b)))
                c = min(1.0, kij / math.sqrt(kii * kjj))
                duals = math.sqrt(kii * kjj) * (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / (2 * math.pi)
                out[i, j] += 1.8 * duals / len(rows)
    return out + 0.1


def test_networks_with_rows_are_means_over_them() -> None:
    x, q = data(5, 4)[0], 1.3
    network = template(gt.StepGraphon([[1.0, 0.3, 0.3, 0.0], [0.0, 0.2, 1.0, 0.9]]))
    found = InputRows(4, q).drawn(network)
    rows = drawn_rows(network.layers[0].mask, 128, 4, np.random.default_rng(0))
    assert set(rows[:64].sum(axis=1)) == {1, 2}  # of one block, all alike but for one
    np.testing.assert_allclose(gt.limit_kernel(found, x).nngp, by_loops(x, rows.astype(float), q), rtol=1e-10)


def test_masks_without_chance_and_with_many_inputs_have_no_floor() -> None:
    x = np.random.default_rng(1).standard_normal((6, 400))
    firm = gt.balanced(template(gt.StepGraphon(np.kron(np.eye(2), np.ones((1, 200))))), by="position")
    even = gt.balanced(template(0.5), by="position")
    for network, bound in ((firm, 1e-12), (even, 0.02)):
        one, two = (gt.limit_kernel(n, x).ntk.values for n in (InputRows(400, 1.0).drawn(network), network))
        assert float(np.linalg.norm(one - two) / np.linalg.norm(two)) < bound


def test_rows_say_which_step_is_best() -> None:
    x, y = data(30, 6)
    cells = cells_of(template(1.0), (6, 60, 1), 0.5, (2,), [0, 1], None, 1.0)
    everything = np.arange(30)
    task = Task(x, y[:, None], everything[:24], everything[24:], gt.objective("leave_one_out"), 1e-3)
    rng = np.random.default_rng(2)
    steps = [Step(0, 2, k, k, 0.0, np.zeros(6), 2 * rng.standard_normal(cells.count)) for k in range(3)]
    rows = InputRows(6, 1.0)
    found = rows.judged(task, cells, steps, 1000)
    assert [step.iteration for step in found] == [0, 1, 2]
    for step in found:
        drawn = rows.drawn(cells.at(cells.values(step.z)))
        kernel = gt.limit_kernel(drawn, x[:24]).ntk.values
        assert step.value == pytest.approx(task.objective(kernel, kernel, y[:24, None])[0], rel=1e-9)
        np.testing.assert_allclose(step.errors, task.errors(drawn, everything[24:]))
    firm = [Step(0, 2, 0, 1, 0.5, np.ones(6), np.where(np.arange(cells.count) % 2, 15.0, -15.0))]
    assert rows.judged(task, cells, firm, 1000) == firm
    assert rows.judged(task, cells, [], 1000) == []


def test_a_design_says_what_it_is_worth_with_rows() -> None:
    x, y = data(40, 6)
    options = {"density": 0.3, "widths": (6, 40, 1), "blocks": 2, "starts": 2, "iterations": 8}
    found = gt.design(template(1.0), x, y, **options)  # type: ignore[arg-type]
    drawn = gt.limit_kernel(InputRows(6, float((x**2).mean())).drawn(found.network), x).ntk.values
    assert found.value_with_rows == pytest.approx(gt.objective("leave_one_out")(drawn, drawn, y)[0], rel=1e-9)
    assert f"{found.value_with_rows:.4g} with rows" in repr(found)
    assert gt.design(template(1.0), x, y, layers=[2], **{**options, "density": 0.9}).value_with_rows is None  # type: ignore[arg-type]
