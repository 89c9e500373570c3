"""Regression tasks on which masks are compared: inputs and targets to train on, and others to be judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import graphon_theory as gt
from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import check_installed, one_of
from graphon_theory.errors import InputError
from graphon_validation.experiments.digits import digits

TEACHER_UNITS = 16  # of the hidden layer of the network that sets the task "teacher"
MOST_TESTED = 1000


@dataclass(frozen=True)
class Task:
    """Inputs (N, d) and targets (N, m), targets centred on the training mean; classes as one-hot rows."""

    name: str
    x: FloatArray
    y: FloatArray
    x_test: FloatArray
    y_test: FloatArray
    classes: bool = False

    @property
    def guess(self) -> float:
        """The test error, mean of squares summed over targets, of the training mean."""
        return float((self.y_test**2).sum(1).mean())

    @property
    def mean_square(self) -> float:
        """Of the training inputs."""
        return float((self.x**2).mean())


def task(name: str, seed: int = 0, train: int = 300) -> Task:
    """A task by name; its inputs, or their order, are drawn from ``seed``.

    - "relevant": 40 normal inputs of which 5 matter, y = sign(x0 x1) + x2 x3 + max(x4, 0);
    - "groups": 20 normal inputs in five groups of four, y = sum over groups of tanh(2 sum of group) sign(its first);
    - "teacher": 100 normal inputs of which a network with one hidden layer of 16 tanh units sees 3, y of variance 1;
    - "isotropic": 20 normal inputs, y drawn from the Gaussian process of the dense network that is designed (two
      hidden ReLU layers, bias variance 0.1): all directions are alike, so no mask can help, and none should claim to;
    - "breast_cancer", "digits": scikit-learn's, standardised inputs and centred images, classes one-hot.

    ``train`` inputs to train on, up to 1,000 others to judge by. Raises InputError for another name, and where a data
    set has too few inputs.
    """
    one_of("task", name, sorted(_TASKS))
    x, y = _TASKS[name](np.random.default_rng(seed), train + MOST_TESTED)
    if not 2 <= train < len(x):
        raise InputError(f"train: expected 2 to {len(x) - 1} inputs of {name!r} to train on, got {train}.")
    y = y.reshape(len(x), -1)
    y = y - y[:train].mean(axis=0)
    return Task(name, x[:train], y[:train], x[train:], y[train:], classes=name in ("breast_cancer", "digits"))


_Pair = tuple[FloatArray, FloatArray]


def _relevant(rng: np.random.Generator, count: int) -> _Pair:
    x = rng.standard_normal((count, 40))
    return x, np.sign(x[:, 0] * x[:, 1]) + x[:, 2] * x[:, 3] + np.maximum(x[:, 4], 0)


def _groups(rng: np.random.Generator, count: int) -> _Pair:
    x = rng.standard_normal((count, 20))
    groups = x.reshape(count, 5, 4)
    return x, (np.tanh(2 * groups.sum(2)) * np.sign(groups[:, :, 0])).sum(1)


def _teacher(rng: np.random.Generator, count: int) -> _Pair:
    x = rng.standard_normal((count, 100))
    inner, outer = rng.standard_normal((3, TEACHER_UNITS)), rng.standard_normal(TEACHER_UNITS)
    y = np.tanh(x[:, :3] @ inner) @ outer
    return x, (y - y.mean()) / y.std()


def _isotropic(rng: np.random.Generator, count: int) -> _Pair:
    x = rng.standard_normal((count, 20))
    dense = gt.balanced(gt.Network([1.0, 1.0, 1.0], bias_variance=0.1))
    kernel = gt.limit_kernel(dense, x).nngp.values
    values, vectors = np.linalg.eigh(kernel)
    return x, vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(count))


def _breast_cancer(rng: np.random.Generator, count: int) -> _Pair:
    check_installed("breast_cancer", {"scikit-learn": "sklearn"}, "examples")
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    order = rng.permutation(len(data.data))[:count]
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    return x[order], np.eye(2)[data.target[order]]


def _digits(rng: np.random.Generator, count: int) -> _Pair:
    x, labels = digits()
    order = rng.permutation(len(x))[:count]
    return x[order], np.eye(10)[labels[order]]


_TASKS: dict[str, Callable[[np.random.Generator, int], _Pair]] = {
    "relevant": _relevant,
    "groups": _groups,
    "teacher": _teacher,
    "isotropic": _isotropic,
    "breast_cancer": _breast_cancer,
    "digits": _digits,
}
TASKS = tuple(_TASKS)
