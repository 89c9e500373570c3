"""Sweeps: every network's own kernel in its place, and files that are taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import graphon_theory as gt

X = np.random.default_rng(0).standard_normal((12, 3))
PARAMETERS: dict[str, list[Any]] = {"density": [0.2, 0.7], "depth": [2, 3, 4], "phi": ["relu", "erf"]}


def made(density: float, depth: int, phi: str) -> gt.Network:
    return gt.Network([density] * depth, phi)


def test_parameters_are_dimensions() -> None:
    x = xr.DataArray(X, dims=("x", "d"), coords={"x": np.arange(12) + 3})
    found = gt.sweep(made, x, PARAMETERS)
    assert found.ntk.dims == ("density", "depth", "phi", "x", "x2")
    assert found.sizes["depth"] == 3
    assert found.attrs["computed"] == 12
    for density, depth, phi in ((0.2, 4, "erf"), (0.7, 2, "relu")):
        one = gt.limit_kernel(made(density, depth, phi), x)
        here = found.sel(density=density, depth=depth, phi=phi)
        for name in ("nngp", "ntk", "mean"):
            np.testing.assert_array_equal(here[name], one[name])
        assert float(here.quadrature_error) == one.attrs["quadrature_error"]
    assert list(found.x2[:2]) == [3, 4]


def test_networks_by_name_and_measures() -> None:
    networks = {"thin": made(0.1, 3, "relu"), "full": made(1.0, 3, "relu")}
    found = gt.sweep(networks, X, count=4)
    assert found.eigenvalue.dims == ("network", "mode")
    expected = gt.spectrum(gt.limit_kernel(networks["full"], X).ntk, 4)
    np.testing.assert_array_equal(found.eigenvalue.sel(network="full"), expected.eigenvalue)

    def rate(network: gt.Network, kernels: xr.Dataset) -> xr.Dataset:
        return xr.Dataset({"rate": gt.critical_learning_rate(kernels.ntk)})

    rates = gt.sweep(networks, X, measure=rate)
    assert float(rates.rate.sel(network="thin")) == gt.critical_learning_rate(gt.limit_kernel(networks["thin"], X).ntk)
    cross = gt.sweep(networks, X[:5], x2=X)
    assert cross.ntk.shape == (2, 5, 12)


def test_a_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    calls: list[int] = []

    def depths(network: gt.Network, kernels: xr.Dataset) -> xr.Dataset:
        calls.append(network.depth)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return kernels[["ntk"]]

    with pytest.raises(KeyboardInterrupt):
        gt.sweep(made, X, PARAMETERS, measure=depths, store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    some = next(tmp_path.iterdir())
    some.write_bytes(some.read_bytes()[:-100])  # a file that was damaged is computed again
    found = gt.sweep(made, X, PARAMETERS, measure=depths, store=tmp_path)
    assert found.attrs["computed"] == 12 - 4
    np.testing.assert_array_equal(found.ntk, gt.sweep(made, X, PARAMETERS).ntk)
    again = gt.sweep(made, X, PARAMETERS, measure=depths, store=tmp_path)
    assert again.attrs["computed"] == 0
    xr.testing.assert_equal(again, found)
    assert gt.sweep(made, X + 1e-9, PARAMETERS, measure=depths, store=tmp_path).attrs["computed"] == 12


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_shared_gram_matrices_change_no_bit(dtype: str) -> None:
    x, x2 = np.random.default_rng(1).standard_normal((2, 8, 260))
    rows = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]], v_edges=[0.0, 0.5, 1.0])
    networks = {
        "constant": gt.Network([0.3, 0.7, 1.0]),
        "another": gt.Network([0.6, 0.2, 0.7, 1.0], "erf", bias_variance=0.2),
        "blocks": gt.Network([rows, 0.5, 1.0], bias_variance=0.1),
        "more blocks": gt.Network([0.3, gt.StepGraphon(np.eye(3)), 1.0], bias_variance=0.1),
    }
    for other in (None, x2):
        found = gt.sweep(networks, x, x2=other, dtype=dtype)
        for name, network in networks.items():
            one = gt.limit_kernel(network, x, other, dtype=dtype)
            for key in ("nngp", "ntk", "mean"):
                np.testing.assert_array_equal(found[key].sel(network=name), one[key])


def test_lazy_sweeps() -> None:
    pytest.importorskip("dask")
    lazy = gt.sweep({"a": made(0.5, 3, "relu"), "b": made(0.9, 3, "relu")}, X, chunks=5)
    assert lazy.ntk.chunks is not None
    expected = gt.limit_kernel(made(0.9, 3, "relu"), X).ntk
    np.testing.assert_allclose(lazy.ntk.sel(network="b"), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("networks", "options", "message"),
    [
        ({}, {}, "networks: expected at least one"),
        (3, {}, "networks: expected networks by name"),
        ({"a": 3}, {}, "expected a Network for network=a"),
        ({"a": made(0.5, 2, "relu")}, {"parameters": {"b": [1]}}, "parameters: they are those of a function"),
        (made, {}, "parameters: expected lists"),
        (made, {"parameters": {"density": 0.5}}, "parameters: expected a list of values for density"),
        (made, {"parameters": {"x": [1]}}, "expected names other than"),
        (made, {"parameters": {"density": [0.5, 0.5]}}, "not all different"),
        (made, {"parameters": {"density": [[0.5]]}}, "expected numbers or names"),
        (made, {"parameters": {**PARAMETERS, "density": [0.5, 2.0]}}, "density=2.0"),
        (made, {"parameters": PARAMETERS, "count": 13}, "count"),
        (made, {"parameters": PARAMETERS, "count": 3, "x2": X}, "count: .* x2"),
        (made, {"parameters": PARAMETERS, "kernel": "both"}, "kernel"),
        (made, {"parameters": PARAMETERS, "measure": 3}, "measure: expected a function"),
        (made, {"parameters": PARAMETERS, "store": "a\0b"}, "store: expected the path of a folder"),
        (made, {"parameters": PARAMETERS, "measure": lambda *_: 3}, "measure: expected a function that returns"),
    ],
)
def test_what_is_refused(networks: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.sweep(networks, X, **options)


def test_measures_of_different_sizes_are_refused() -> None:
    with pytest.raises(gt.InputError, match="same variables and sizes"):
        gt.sweep(made, X, PARAMETERS, measure=lambda network, kernels: kernels[["ntk"]].isel(x=slice(network.depth)))
