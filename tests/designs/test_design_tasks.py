"""What design reaches with its defaults on tasks of known structure: values, errors at new inputs, evaluations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.arrays import FloatArray

Target = Callable[[FloatArray, np.random.Generator], FloatArray]

SAMPLES, TESTS = 300, 1000


def relevant(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Five of 40 inputs."""
    return np.asarray(np.sign(x[:, 0] * x[:, 1]) + x[:, 2] * x[:, 3] + np.maximum(x[:, 4], 0))


def grouped(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Five groups of 4 of 20 inputs."""
    return np.asarray(sum(np.tanh(2 * x[:, k : k + 4].sum(axis=1)) * np.sign(x[:, k]) for k in range(0, 20, 4)))


def chance(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Nothing that inputs tell."""
    return rng.standard_normal(len(x))


def designed(target: Target, inputs: int, seed: int) -> tuple[gt.Design, float, float]:
    """The design, and the errors of it and of even masks at new inputs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((SAMPLES + TESTS, inputs))
    y = target(x, rng)
    y = y - y[:SAMPLES].mean()
    template = gt.Network([1.0, 1.0, 1.0], bias_variance=0.1)
    found = gt.design(template, x[:SAMPLES], y[:SAMPLES], density=0.1, widths=(inputs, 1024, 1024, 1), rng=seed)
    errors = []
    for network in (found.network, gt.balanced(template, by="position")):
        kern = gt.limit_kernel(network, x, x[:SAMPLES]).ntk.values
        ridge = 1e-3 * np.trace(kern[:SAMPLES]) / SAMPLES
        alpha = np.linalg.solve(kern[:SAMPLES] + ridge * np.eye(SAMPLES), y[:SAMPLES])
        errors.append(float(((kern[SAMPLES:] @ alpha - y[SAMPLES:]) ** 2).mean()))
    return found, errors[0], errors[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "inputs", "seed", "value", "error"),
    [(relevant, 40, 0, 0.25, 0.4), (grouped, 20, 2, 1.5, 2.0)],
    ids=["few", "groups"],
)
def test_structure_is_found_from_a_random_start(
    target: Target, inputs: int, seed: int, value: float, error: float
) -> None:
    found, own, even = designed(target, inputs, seed)
    assert found.value <= value
    assert own <= error
    assert own < 0.7 * even
    assert found.evaluations <= 1000
    sizes = [inputs * 1024, 1024 * 1024, 1024]
    assert sum(n * p for n, p in zip(sizes, found.densities, strict=True)) == pytest.approx(0.1 * sum(sizes), rel=1e-12)


@pytest.mark.slow
def test_no_gain_is_claimed_where_there_is_none() -> None:
    found, own, even = designed(chance, 30, 0)
    assert found.value < found.baseline_value
    assert not found.helps
    assert own > 0.9 * even
