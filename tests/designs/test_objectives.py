"""Objectives: values by plain loops, cotangents by central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.designs.objectives import Objective
from graphon_theory.errors import InputError, KernelError

N = 12
CASES: list[tuple[str, dict[str, Any]]] = [
    ("leave_one_out", {"ridge": 1e-2}),
    ("leave_one_out", {"ridge": 1e-3, "log": True}),
    ("leave_one_out", {"kernel": "nngp"}),
    ("k_fold", {"folds": 5, "ridge": 1e-2}),
    ("loss_at", {"steps": 1}),
    ("loss_at", {"steps": 7, "rate": 0.9}),
    ("loss_at", {"steps": 400}),
    ("test_loss_at", {"steps": 30, "rate": 0.7}),
    ("test_loss_at", {"steps": 31, "rate": 1.0, "share": 0.5}),
    ("alignment", {}),
    ("evidence", {"noise": 0.1}),
    ("evidence", {"noise": 0.3, "scaled": False, "kernel": "nngp"}),
    ("complexity", {}),
    ("energy", {"count": 3}),
    ("spectrum", {"target": [0.5, 0.25, 0.1]}),
]


def problem(seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, N, 2 * N))
    return a @ a.T / N, b @ b.T / N, rng.standard_normal((N, 2))


def plain(name: str, options: dict[str, Any]) -> Objective:
    return gt.objective(name, **options)


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: str(v))
def test_cotangents_are_derivatives(name: str, options: dict[str, Any]) -> None:
    ntk, nngp, y = problem()
    objective = plain(name, options)
    rng = np.random.default_rng(1)
    direction = rng.standard_normal((2, N, N))
    direction += direction.transpose(0, 2, 1)
    _, of_ntk, of_nngp = objective(ntk, nngp, y)
    found = sum(float((c * d).sum()) for c, d in zip((of_ntk, of_nngp), direction, strict=True) if c is not None)
    step = 1e-4
    a, b, c, d = (
        objective(ntk + k * step * direction[0], nngp + k * step * direction[1], y)[0] for k in (-2, -1, 1, 2)
    )
    assert found == pytest.approx((8 * (c - b) - (d - a)) / (12 * step), rel=1e-7, abs=1e-9)


def test_leave_one_out_and_k_fold_are_what_regression_on_the_others_misses() -> None:
    ntk, nngp, y = problem()
    shift = 1e-2 * np.trace(ntk) / N * np.eye(N)
    for folds, name in ((N, "leave_one_out"), (5, "k_fold")):
        total = 0.0
        for fold in range(folds):
            out = np.arange(fold, N, folds)
            kept = np.setdiff1d(np.arange(N), out)
            alpha = np.linalg.solve((ntk + shift)[np.ix_(kept, kept)], y[kept])
            total += float(((ntk[np.ix_(out, kept)] @ alpha - y[out]) ** 2).sum())
        options = {"ridge": 1e-2} if name == "leave_one_out" else {"ridge": 1e-2, "folds": folds}
        assert plain(name, options)(ntk, nngp, y)[0] == pytest.approx(total / N, rel=1e-10)


def test_losses_are_those_of_steps_taken_one_by_one() -> None:
    ntk, nngp, y = problem()

    def trained(kernel: FloatArray, y: FloatArray, steps: int, rate: float) -> FloatArray:
        eta, alpha = rate * 2 / np.linalg.eigvalsh(kernel)[-1], np.zeros_like(y)
        for _ in range(steps):
            alpha = alpha + eta * (y - kernel @ alpha)
        return alpha

    for steps, rate in ((1, 0.5), (6, 0.9), (301, 0.5)):
        wrong = y - ntk @ trained(ntk, y, steps, rate)
        found = gt.objective("loss_at", steps=steps, rate=rate)(ntk, nngp, y)[0]
        assert found == pytest.approx(float((wrong**2).sum()) / (2 * N), rel=1e-10)
        assert found == pytest.approx(
            float(gt.gradient_descent(ntk, y, [steps], learning_rate=rate * gt.critical_learning_rate(ntk)).loss[0]),
            rel=1e-9,
        )
        first = N - 3
        wrong = y[first:] - ntk[first:, :first] @ trained(ntk[:first, :first], y[:first], steps, rate)
        found = gt.objective("test_loss_at", steps=steps, rate=rate)(ntk, nngp, y)[0]
        assert found == pytest.approx(float((wrong**2).sum()) / 6, rel=1e-10)


def test_shapes_and_evidence_are_those_of_the_package() -> None:
    ntk, nngp, y = problem()
    aligned = float(gt.target_alignment(ntk, y).attrs["alignment"])
    assert gt.objective("alignment")(ntk, nngp, y)[0] == pytest.approx(1 - aligned, rel=1e-12)
    posterior = gt.nngp_posterior(nngp, y, nngp[:1], np.diagonal(nngp)[:1], noise=0.3)
    found = gt.objective("evidence", noise=0.3, scaled=False, kernel="nngp")(ntk, nngp, y)[0]
    assert found == pytest.approx(-posterior.attrs["log_evidence"] / N, rel=1e-10)
    best = gt.objective("evidence", noise=0.1)(ntk, nngp, y)[0]
    level = 0.1 * float(np.trace(ntk)) / N
    tried = [
        gt.objective("evidence", noise=s * level, scaled=False)(s * ntk, nngp, y)[0] for s in np.logspace(-2, 2, 400)
    ]
    assert best <= min(tried)
    assert best == pytest.approx(min(tried), abs=1e-3)
    energy = gt.spectrum(ntk).energy.values[2]
    assert gt.objective("energy", count=3)(ntk, nngp, y)[0] == pytest.approx(1 - energy, rel=1e-12)
    leading = np.linalg.eigvalsh(ntk)[::-1][:4]
    assert gt.objective("spectrum", target=7 * leading)(ntk, nngp, y)[0] == pytest.approx(0.0, abs=1e-20)


def test_the_scale_of_a_kernel_plays_no_part() -> None:
    ntk, nngp, y = problem()
    for name, options in CASES:
        if options.get("scaled", True):
            objective = plain(name, options)
            assert objective(1e3 * ntk, 1e3 * nngp, y)[0] == pytest.approx(objective(ntk, nngp, y)[0], rel=1e-9)


def test_what_is_refused() -> None:
    ntk, nngp, y = problem()
    with pytest.raises(InputError, match="objective: expected a callable or one of"):
        gt.objective("accuracy")
    with pytest.raises(InputError, match="kernel: expected"):
        gt.objective("alignment", kernel="both")
    with pytest.raises(InputError, match=r"objective 'loss_at'.*steps"):
        gt.objective("loss_at")
    with pytest.raises(InputError, match="unexpected keyword"):
        gt.objective("alignment", ridge=1.0)
    with pytest.raises(InputError, match="rate"):
        gt.objective("loss_at", steps=3, rate=1.5)
    with pytest.raises(KernelError, match="raise the ridge"):
        gt.objective("leave_one_out", ridge=0.0)(np.ones((N, N)), nngp, y)
    with pytest.raises(InputError, match="at most one an input"):
        gt.objective("k_fold", folds=N + 1)(ntk, nngp, y)
    with pytest.raises(InputError, match="target: 13 modes"):
        gt.objective("spectrum", target=np.ones(13))(ntk, nngp, y)
