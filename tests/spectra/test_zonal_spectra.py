"""Zonal spectra against mpmath, against the Gauss-Hermite and Monte Carlo samples they are limits of, and refusals."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from numpy.typing import NDArray

from graphon_theory.data.files import load_dataset, save_dataset
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.graphons.analytic import AnalyticGraphon
from graphon_theory.graphons.graphon import StepGraphon
from graphon_theory.networks.connectivity import Connectivity
from graphon_theory.networks.network import Network
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.spectra.zonal_spectra import zonal_spectrum

Array = NDArray[np.float64]
BLOCKS = StepGraphon([[0.9, 0.1], [0.2, 0.6]], [0, 0.3, 1], [0, 0.5, 1])


def dense_relu_ntk(theta: Any, depth: int) -> Any:
    """NTK of a dense bias-free ReLU network with ``depth`` weight layers, weight variance 2, |x|^2 = d."""
    nngp = ntk = 2 * mp.cos(theta)
    for _ in range(depth - 1):
        angle = mp.acos(min(mp.mpf(1), max(mp.mpf(-1), nngp / 2)))
        ntk = ntk * (mp.pi - angle) / mp.pi
        nngp = 2 * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / mp.pi
        ntk += nngp
    return ntk


def funk_hecke(d: int, degree: int, depth: int) -> Any:
    """The eigenvalue by 30-digit quadrature with mpmath's own Gegenbauer (Legendre) polynomials."""
    with mp.workdps(30):
        order = mp.mpf(d - 2) / 2
        at_one = mp.gegenbauer(degree, order, 1)

        def integrand(theta: Any) -> Any:
            value = mp.gegenbauer(degree, order, mp.cos(theta)) / at_one
            return dense_relu_ntk(theta, depth) * value * mp.sin(theta) ** (d - 2)

        whole = mp.quad(lambda t: mp.sin(t) ** (d - 2), [0, mp.pi / 2, mp.pi])
        return mp.quad(integrand, [0, mp.pi / 2, mp.pi]) / whole


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("d", [3, 10])
def test_dense_relu_against_mpmath(d: int, depth: int) -> None:
    found = zonal_spectrum(Network([1.0] * depth), d, 7)
    exact = np.array([float(funk_hecke(d, degree, depth)) for degree in range(7)])
    miss = np.abs(found.eigenvalue - exact)
    assert (miss <= found.error).all()
    assert float(miss.max()) < 1e-13 * exact[0]


def test_multiplicities_are_those_of_spherical_harmonics() -> None:
    np.testing.assert_array_equal(zonal_spectrum(Network([1.0, 1.0]), 2, 4).multiplicity, [1, 2, 2, 2])
    np.testing.assert_array_equal(zonal_spectrum(Network([1.0, 1.0]), 3, 5).multiplicity, 2 * np.arange(5) + 1)
    np.testing.assert_array_equal(zonal_spectrum(Network([1.0, 1.0]), 10, 4).multiplicity, [1, 10, 54, 210])


@pytest.mark.parametrize("d", [2, 3, 10])
def test_all_degrees_make_up_the_trace(d: int) -> None:
    # erf: analytic in the angle, so that few degrees hold the whole trace
    found = zonal_spectrum(Network([1.0, BLOCKS, 1.0], activation="erf", bias_variance=0.1), d, 40)
    assert float(found.energy[-1]) == pytest.approx(1.0, abs=1e-9)
    assert (np.diff(found.energy) > -1e-15).all()


@pytest.mark.parametrize("d", [3, 10])
def test_samples_converge_to_it(d: int) -> None:
    network, rng, size, draws = Network([1.0, BLOCKS, 1.0], bias_variance=0.1), np.random.default_rng(d), 600, 12
    found = zonal_spectrum(network, d, 3)
    first = np.cumsum([0, *found.multiplicity.values])
    means = []
    for _ in range(draws):
        x = rng.standard_normal((size, d))
        x *= np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)
        values = spectrum(limit_kernel(network, x).ntk, int(first[-1])).eigenvalue.values
        means.append([values[a:b].mean() for a, b in pairwise(first)])
    miss = np.mean(means, axis=0) - found.eigenvalue
    error = np.std(means, axis=0, ddof=1) / np.sqrt(draws)
    # a sample of N lifts an eigenvalue by about lambda N_k / N and K(x, x) / N of what lies below: allow it, no more
    lift = (found.eigenvalue * found.multiplicity + 1.5 * found.attrs["trace"] * (1 - found.energy)) / size
    assert (miss > -4 * error).all()
    assert (miss < 4 * error + lift).all()


def test_normal_inputs_without_bias_have_the_spectrum_of_the_sphere() -> None:
    # K = |x| |x'| kappa(theta) / d: one mode a degree, E |x|^2 / d = 1 times the sphere's eigenvalue
    network = Network([1.0, BLOCKS, 1.0])
    normal, sphere = zonal_spectrum(network, 4, 5, law="gaussian", radial=2), zonal_spectrum(network, 4, 5)
    np.testing.assert_allclose(normal.eigenvalue[:, 0], sphere.eigenvalue, rtol=1e-12)
    assert float(normal.eigenvalue[:, 1].max()) < 1e-14
    assert normal.eigenvalue.dims == ("degree", "radial")


def test_normal_inputs_with_bias_against_gauss_hermite() -> None:
    # d = 2 on a product grid: an independent way to the same operator; erf, so that the grid converges
    network = Network([1.0, BLOCKS, 1.0], activation="erf", weight_variance=0.4, bias_variance=0.3)
    found = zonal_spectrum(network, 2, 4, law="gaussian", radial=2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    law = np.outer(weights, weights).ravel()
    kept = law > 1e-14 * law.max()
    modes = spectrum(limit_kernel(network, x[kept]).ntk, 8, weights=law[kept])
    every = np.sort(np.repeat(found.eigenvalue.values, found.multiplicity.values, axis=0).ravel())[::-1]
    np.testing.assert_allclose(modes.eigenvalue[:6], every[:6], atol=2e-7 * every[0])
    assert float(modes.eigenvalue.sum()) < found.attrs["trace"]


def test_kinds_and_outputs() -> None:
    readout = StepGraphon([[1.0, 0.2], [0.3, 0.9]])
    network = Network([1.0, BLOCKS, readout], bias_variance=0.1, outputs=2)
    both = [zonal_spectrum(network, 5, 4, output=o) for o in (0, 1)]
    assert abs(float(both[0].eigenvalue[0] / both[1].eigenvalue[0]) - 1) > 0.05
    assert float(zonal_spectrum(network, 5, 4, kind="nngp").eigenvalue[0]) < float(both[0].eigenvalue[0])


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Network(["exp(-3*(u - v)**2)", 1.0]), "mask .* treats the 4 inputs differently .* at u ="),
        (Network([StepGraphon([[0.5, 0.1]]), 1.0]), r"\(from 0.1 to 0.5 at u ="),
        (Network([Connectivity(0.5, variance="0.2 + v"), 1.0]), "variance .* treats the 4 inputs differently"),
        (Network(["0.5 + v/4"]), "mask .* at output 0"),
        (Network([Connectivity(0.5, drift=0.3), 1.0]), "drift"),
    ],
)
def test_says_why_a_kernel_is_not_zonal(network: Network, reason: str) -> None:
    with pytest.raises(NetworkError, match=f"network: not zonal: the input layer's .*{reason}"):
        zonal_spectrum(network, 4)


def test_rows_may_differ_from_each_other() -> None:
    by_row = Network([AnalyticGraphon("0.2 + u/2"), BLOCKS, 1.0], bias_variance=0.1)
    assert float(zonal_spectrum(by_row, 6, 30).energy[-1]) > 0.9
    # as constant over the six inputs, though not over v
    fine = StepGraphon([[0.4, 0.6] * 6])
    np.testing.assert_allclose(
        zonal_spectrum(Network([fine, 1.0]), 6, 3).eigenvalue, zonal_spectrum(Network([0.5, 1.0]), 6, 3).eigenvalue
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 1}, r"dimension: expected a whole number of at least 2 \(and at most 10,000,000\), got 1"),
        ({"count": 0}, "count: expected a whole number of at least 1"),
        ({"law": "cube"}, "law: expected one of"),
        ({"kind": "ntk2"}, "kind: expected one of"),
        ({"output": 1}, "output: expected 0..0, got 1"),
        ({"law": "gaussian", "radial": 99}, "radial: at most 12 modes"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zonal_spectrum(Network([1.0, 1.0]), **{"dimension": 4, **options})


def test_as_many_inputs_as_pixels(tmp_path: Path) -> None:
    """Multiplicities beyond 64 bits, written and read again; sum of eigenvalues by degree = trace."""
    found = zonal_spectrum(Network([1.0, 1.0, 1.0], bias_variance=0.1), 784, 12)
    assert float(found.multiplicity[11]) == pytest.approx(math.comb(794, 11) - math.comb(792, 9), rel=1e-14)
    assert 0.9 < float(found.energy[-1]) <= 1 + 1e-12
    save_dataset(found, tmp_path / "modes.nc")
    assert load_dataset(tmp_path / "modes.nc").multiplicity.equals(found.multiplicity)


def test_many_inputs_need_no_more_than_a_plane_of_them() -> None:
    """Where rows are one number two inputs do for all: as with a row of equal numbers, which is not known to be one."""
    for dimension in (5, 30):
        known = zonal_spectrum(Network([0.5, 1.0], "erf"), dimension, 4)
        met = zonal_spectrum(Network([[[0.5, 0.5]], 1.0], "erf"), dimension, 4)
        np.testing.assert_allclose(known.eigenvalue, met.eigenvalue, rtol=1e-10, atol=1e-14)
