"""Kernels that are singular to rounding, in sixty digits: a null mode counts unless ridge 0 and infinite time cut it.

Inputs that nearly coincide have modes below rounding level, along which new inputs still differ: without them the
predictions below are off by 1e-5 at ridge 1e-6 or time 1e6, and by 1e-2 at 1e-9 and 1e9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory as gt

Array = NDArray[np.float64]
EPS = float(np.finfo(float).eps)
NETWORK = gt.Network([1.0, [[0.9, 0.1], [0.2, 0.6]], 1.0], activation="erf", bias_variance=0.1)


class Problem(NamedTuple):
    kernel: Array
    cross: Array
    own: Array
    y: Array

    @property
    def size(self) -> int:
        return len(self.y)


def inputs(name: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((9, 3)), rng.standard_normal((4, 3))
    if name == "one near pair":
        return np.vstack([x, x[:1] + 1e-9 * rng.standard_normal(3)]), new
    if name == "near pairs":
        return np.vstack([x, x[:4] + 1e-7 * rng.standard_normal((4, 3))]), new
    if name == "copies":
        return np.vstack([x, x[:3]]), new
    if name == "near clusters":
        return np.vstack([x[:3] + 1e-12 * rng.standard_normal((3, 3)) for _ in range(4)]), new
    return np.linspace(-1, 1, 14)[:, None], rng.uniform(-1, 1, (4, 1))  # "smooth": eigenvalues fall to rounding


NAMES = ["one near pair", "near pairs", "copies", "near clusters", "smooth"]


@cache
def problem(name: str, kind: str = "ntk") -> Problem:
    x, new = inputs(name)
    kernel, cross, own = (gt.limit_kernel(NETWORK, a, b)[kind].values for a, b in ((x, None), (new, x), (new, None)))
    return Problem(kernel, cross, np.diagonal(own).copy(), np.random.default_rng(1).standard_normal(len(x)))


@cache
def modes_of(name: str, kind: str = "ntk") -> Modes:
    return Modes(name, kind)


class Modes:
    """Eigenvalues and vectors of the very matrix in floating point, in sixty digits."""

    def __init__(self, name: str, kind: str = "ntk") -> None:
        given = problem(name, kind)
        with mp.workdps(60):
            values, self.vectors = mp.eigsy(mp.matrix(given.kernel.tolist()))
            # a matrix of copies has eigenvalues that are 0 but for the sixtieth digit
            self.values = [v if abs(v) > mp.mpf(10) ** -45 else mp.mpf(0) for v in values]
            self.given = given

    def apply(self, response: Callable[[Any], Any], right: Array | None = None) -> tuple[Array, Array]:
        """K h(K) y and K(x, X) h(K) y, with h a function of the matrix's eigenvalue."""
        with mp.workdps(60):
            y = mp.matrix((self.given.y if right is None else right).tolist())
            weights = self.vectors.T * y
            alpha = self.vectors * mp.matrix([response(v) * w for v, w in zip(self.values, weights, strict=True)])
            return tuple(  # type: ignore[return-value]
                np.array([float(v) for v in mp.matrix(one.tolist()) * alpha])
                for one in (self.given.kernel, self.given.cross)
            )


def check(found: tuple[Any, Any], wanted: tuple[Array, Array], damping: float, size: int) -> None:
    """Within roundings of the kernels, magnified by 1 / ridge or by the time; at the training inputs by N more."""
    for one, right, factor in zip(found, wanted, (size, 1), strict=True):
        np.testing.assert_allclose(one, right, rtol=0, atol=1e-13 + 32 * factor * EPS * damping)


def exact_flow(time: float, size: int, ridge: float = 0.0) -> Callable[[Any], Any]:
    def response(value: Any) -> Any:
        rate = value / size + mp.mpf(ridge)
        return (mp.mpf(time) if rate == 0 else -mp.expm1(-rate * time) / rate) / size

    return response


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ridge", [1e-3, 1e-6, 1e-9])
def test_a_ridge_keeps_every_mode(name: str, ridge: float) -> None:
    given = problem(name)
    found = gt.kernel_regression(given.kernel, given.y, given.cross, ridge=ridge)
    wanted = modes_of(name).apply(lambda value: 1 / (value + given.size * mp.mpf(ridge)))
    check((found.prediction, found.test_prediction), wanted, 1 / ridge, 1)


def test_two_inputs_1e_9_apart() -> None:
    given = problem("one near pair")
    found = gt.kernel_regression(given.kernel, given.y, given.cross, ridge=1e-6)
    solved = np.linalg.solve(given.kernel + given.size * 1e-6 * np.eye(given.size), given.y)
    np.testing.assert_allclose(found.test_prediction, given.cross @ solved, rtol=0, atol=1e-10)
    assert found.attrs["null_modes"] == 1
    cut = gt.kernel_regression(given.kernel, given.y, given.cross)  # the pseudo-inverse is another answer
    assert float(np.abs(cut.test_prediction - found.test_prediction).max()) > 1e-6


def test_a_kernel_with_a_small_negative_eigenvalue_is_solved_as_it_is() -> None:
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    kernel = (basis * np.array([8, 4, 2, 1, 0.5, 0.1, 0.0, -3e-10])) @ basis.T
    kernel, cross, y = (kernel + kernel.T) / 2, rng.standard_normal((3, 8)), rng.standard_normal(8)
    found = gt.kernel_regression(kernel, y, cross, ridge=1e-6)
    solved = np.linalg.solve(kernel + 8e-6 * np.eye(8), y)
    np.testing.assert_allclose(found.test_prediction, cross @ solved, rtol=1e-9)
    np.testing.assert_allclose(found.prediction, kernel @ solved, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("time", [1e3, 1e6, 1e9])
def test_finite_time_keeps_every_mode(name: str, time: float) -> None:
    given = problem(name)
    found = gt.gradient_flow(given.kernel, given.y, [time], test_kernel=given.cross)
    wanted = modes_of(name).apply(exact_flow(time, given.size))
    check((found.prediction[0], found.test_prediction[0]), wanted, time, given.size)


@pytest.mark.parametrize("name", NAMES)
def test_a_ridge_and_finite_time(name: str) -> None:
    given = problem(name)
    found = gt.gradient_flow(given.kernel, given.y, [1e7], test_kernel=given.cross, ridge=1e-7, learning_rate=2.0)
    wanted = modes_of(name).apply(exact_flow(2e7, given.size, 1e-7))
    check((found.prediction[0], found.test_prediction[0]), wanted, 1e7, 1)


@pytest.mark.parametrize("name", ["one near pair", "copies"])
@pytest.mark.parametrize(("beta", "nesterov"), [(0.0, False), (0.9, False), (0.6, True)])
def test_descent_keeps_every_mode(name: str, beta: float, nesterov: bool) -> None:
    given = problem(name)
    rate = 0.5 * gt.critical_learning_rate(given.kernel, momentum=beta, nesterov=nesterov)
    counts = [1, 2, 5, 3000]
    found = gt.gradient_descent(
        given.kernel, given.y, counts, learning_rate=rate, momentum=beta, nesterov=nesterov, test_kernel=given.cross
    )

    def response(steps: int) -> Callable[[Any], Any]:
        """(f_k) by torch.optim.SGD's own recursion, divided by the eigenvalue: it starts at 0 and is driven by 1."""

        def steppings(value: Any) -> Any:
            learned, buffer, step = mp.mpf(0), mp.mpf(0), mp.mpf(rate)
            for number in range(steps):
                slope = (value * learned - 1) / given.size
                buffer = slope if number == 0 else beta * buffer + slope
                learned -= step * (slope + beta * buffer if nesterov else buffer)
            return learned

        return steppings

    modes = modes_of(name)
    for row, count in enumerate(counts):
        wanted = modes.apply(response(count))
        check((found.prediction[row], found.test_prediction[row]), wanted, 20 * rate * count, given.size)
    late = gt.gradient_descent(given.kernel, given.y, [10**8], learning_rate=rate, test_kernel=given.cross)
    flow = gt.gradient_flow(given.kernel, given.y, [10**8], learning_rate=rate, test_kernel=given.cross)
    check((late.prediction[0], late.test_prediction[0]), (flow.prediction[0], flow.test_prediction[0]), 1e8 * rate, 10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise", [1e-2, 1e-6])
def test_noise_keeps_every_mode_of_the_posterior(name: str, noise: float) -> None:
    given = problem(name, "nngp")
    found = gt.nngp_posterior(given.kernel, given.y, given.cross, given.own, noise=noise)
    modes = modes_of(name, "nngp")
    wanted = modes.apply(lambda value: 1 / (value + mp.mpf(noise)))
    check((found["mean"], found["mean"]), (wanted[1], wanted[1]), 1 / noise, 1)
    explained = [modes.apply(lambda value: 1 / (value + mp.mpf(noise)), row)[1][k] for k, row in enumerate(given.cross)]
    np.testing.assert_allclose(found.variance, np.maximum(given.own - explained, 0), rtol=0, atol=20 * EPS / noise)
    with mp.workdps(60):
        c = modes.vectors.T * mp.matrix(given.y.tolist())
        scale = [value + mp.mpf(noise) for value in modes.values]
        fit = sum(w**2 / s for w, s in zip(c, scale, strict=True))
        evidence = -(fit + sum(mp.log(2 * mp.pi * s) for s in scale)) / 2
    assert found.attrs["log_evidence"] == pytest.approx(float(evidence), rel=40 * EPS / noise)


def test_the_ensemble_keeps_every_mode() -> None:
    ntk, nngp = problem("one near pair"), problem("one near pair", "nngp")
    pairs = ((ntk.kernel, nngp.kernel), (ntk.cross, nngp.cross))
    kernels, test = (xr.Dataset({"ntk": (("x", "x2"), a), "nngp": (("x", "x2"), b)}) for a, b in pairs)
    time = 1e6
    law = gt.training_ensemble(kernels, ntk.y, [time], test=test, test_variance=nngp.own)
    modes = modes_of("one near pair")
    check((law["mean"][0], law.test_mean[0]), modes.apply(exact_flow(time, ntk.size)), time, ntk.size)
    # A = Theta(x, X) h(Theta), column by column
    columns = [modes.apply(exact_flow(time, ntk.size), unit) for unit in np.eye(ntk.size)]
    a = np.stack([one[1] for one in columns], axis=1)
    variance = nngp.own - 2 * np.sum(a * nngp.cross, axis=1) + np.einsum("mi,ij,mj->m", a, nngp.kernel, a)
    np.testing.assert_allclose(law.test_std[0] ** 2, variance, rtol=0, atol=100 * EPS * time)


def test_the_best_stop_sees_every_mode() -> None:
    given = problem("near pairs")
    target = modes_of("near pairs").apply(exact_flow(3e5, given.size))[1]
    time, loss = gt.best_stopping_time(given.kernel, given.y, given.cross, target)
    assert time == pytest.approx(3e5, rel=1e-3)
    assert loss < 1e-15
    # copies tell nothing that grows with time: the end is best where it is
    copies = problem("copies")
    end = gt.kernel_regression(copies.kernel, copies.y, copies.cross).test_prediction
    assert gt.best_stopping_time(copies.kernel, copies.y, copies.cross, end)[0] == math.inf


@pytest.mark.parametrize("name", NAMES)
def test_losses_fall_and_late_times_end_in_the_pseudo_inverse(name: str) -> None:
    given = problem(name)
    times = [0.0, *np.logspace(-3, 18, 43), 1e300, math.inf]
    flow = gt.gradient_flow(given.kernel, given.y, times, test_kernel=given.cross)
    losses = flow.loss.values
    assert (np.diff(losses) <= 0).all()
    cut = np.linalg.pinv(given.kernel, rcond=given.size * EPS, hermitian=True) @ given.y
    scale = float(np.abs(given.cross @ cut).max())
    for late in (-2, -1):
        np.testing.assert_allclose(flow.test_prediction[late], given.cross @ cut, rtol=0, atol=1e-2 * scale)
    # the loss is what its modes say, null ones included
    left = flow.floor.values + (1 - flow.floor.values) * np.exp(-flow.rate.values * times[20])
    assert losses[20] == pytest.approx(float(flow.target_power.values @ left**2), rel=1e-12)


def test_left_out_inputs_with_a_ridge() -> None:
    given = problem("near clusters")
    ridge, rest = 1e-6, given.size - 1
    found = gt.kernel_regression(given.kernel, given.y, given.cross, ridge=ridge).left_out.values
    for i in range(given.size):
        others = np.delete(np.arange(given.size), i)
        with mp.workdps(40):
            matrix = mp.matrix(given.kernel[np.ix_(others, others)].tolist()) + rest * mp.mpf(ridge) * mp.eye(rest)
            alpha = mp.lu_solve(matrix, mp.matrix(given.y[others].tolist()))
            wanted = float((mp.matrix([given.kernel[i, others].tolist()]) * alpha)[0])
        assert found[i] == pytest.approx(wanted, abs=40 * EPS / ridge)
