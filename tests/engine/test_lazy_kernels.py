"""Kernels as Dask arrays: equal to those in memory, on threads and on a cluster that loses a worker."""

from __future__ import annotations

import os
import pickle
import signal
import time
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import graphon_theory as gt
from graphon_theory.engine.prepared_kernels import PreparedKernel

da = pytest.importorskip("dask.array")

Array = NDArray[np.float64]
NETWORK = gt.Network([0.5, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 0.5])
X = np.random.default_rng(0).standard_normal((90, 4))
NEW = np.random.default_rng(1).standard_normal((40, 4))


def close(found: xr.Dataset, expected: xr.Dataset) -> None:
    for name in ("nngp", "ntk", "mean"):
        assert found[name].dims == expected[name].dims
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-13, atol=1e-14)
    assert found.attrs == expected.attrs


@pytest.mark.parametrize("outputs", [1, 2])
def test_blocks_are_those_of_the_whole(outputs: int) -> None:
    network = NETWORK.changed(outputs=outputs)
    labelled = xr.DataArray(X, dims=("x", "pixel"), coords={"x": np.arange(90) + 5})
    lazy = gt.limit_kernel(network, labelled, chunks=32)
    assert lazy.ntk.chunks[-2:] == ((32, 32, 26), (32, 32, 26))
    close(lazy, gt.limit_kernel(network, labelled))
    assert list(lazy.x2[:2]) == [5, 6]
    close(gt.limit_kernel(network, NEW, X, chunks=32), gt.limit_kernel(network, NEW, X))


def test_dask_in_dask_out() -> None:
    x = da.from_array(X, chunks=(40, 2))
    lazy = gt.limit_kernel(NETWORK, x)
    assert lazy.ntk.chunks == ((40, 40, 10),) * 2
    close(lazy, gt.limit_kernel(NETWORK, X))
    labelled = xr.DataArray(x, dims=("x", "pixel"), coords={"x": np.arange(90)})
    assert gt.limit_kernel(NETWORK, labelled).ntk.chunks == ((40, 40, 10),) * 2
    cross = gt.limit_kernel(NETWORK, NEW, x)
    assert cross.ntk.chunks == ((40,), (40, 40, 10))
    close(cross, gt.limit_kernel(NETWORK, NEW, X))
    modes = gt.spectrum(lazy.ntk, 3)  # what takes kernels takes these
    np.testing.assert_allclose(modes.eigenvalue, gt.spectrum(gt.limit_kernel(NETWORK, X).ntk, 3).eigenvalue, rtol=1e-10)


def test_nothing_is_computed_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[slice, slice]] = []
    block = PreparedKernel.block

    def counted(self: PreparedKernel, rows: slice, columns: slice) -> tuple[Array, Array]:
        asked.append((rows, columns))
        return block(self, rows, columns)

    monkeypatch.setattr(PreparedKernel, "block", counted)
    lazy = gt.limit_kernel(NETWORK, X, chunks=32)
    assert not asked
    np.asarray(lazy.ntk[:10, 40:50])
    assert asked == [(slice(0, 32), slice(32, 64))]
    asked.clear()
    np.asarray(lazy.ntk)
    assert len(asked) == 6  # the others are these, turned


def test_a_copy_makes_itself_ready_again() -> None:
    ready = PreparedKernel.of(NETWORK, X, None, 1e-10, np.dtype(np.float32))
    copy = pickle.loads(pickle.dumps(ready))
    assert copy.identity() == ready.identity()
    rows, columns = slice(3, 20), slice(30, 70)
    np.testing.assert_array_equal(copy.block(rows, columns), ready.block(rows, columns))


def test_refuses_what_it_does_not_take(tmp_path: Any) -> None:
    for chunks in (0, -1, 2.5, "auto", (3, 4), True):
        with pytest.raises(gt.InputError, match="chunks"):
            gt.limit_kernel(NETWORK, X, chunks=chunks)  # type: ignore[arg-type]
    for options in ({"contributions": True}, {"store": tmp_path / "kernel.zarr"}):
        with pytest.raises(gt.InputError, match="chunks: Dask arrays hold both kernels alone"):
            gt.limit_kernel(NETWORK, X, chunks=32, **options)
    unknown = da.from_array(X, chunks=(40, 4))
    with pytest.raises(gt.InputError, match="chunks of known sizes"):
        gt.limit_kernel(NETWORK, unknown[unknown[:, 0] > 0])
    with pytest.raises(gt.InputError, match="not finite"):
        gt.limit_kernel(NETWORK, da.from_array(np.where(X > 2, np.nan, X), chunks=(40, 4)))


@pytest.mark.slow
def test_on_a_cluster_that_loses_a_worker() -> None:
    distributed = pytest.importorskip("distributed")
    x = np.random.default_rng(2).standard_normal((1500, 20))
    expected = gt.limit_kernel(NETWORK, x)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", death_timeout=120
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        lazy = gt.limit_kernel(NETWORK, x, chunks=150)
        close(lazy.compute(), expected)
        client.restart()
        running = client.compute(lazy.ntk)
        pids = client.run(os.getpid)
        while not any(client.has_what().values()):  # until something is done
            time.sleep(0.01)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        np.testing.assert_allclose(running.result(timeout=300), expected.ntk, rtol=1e-13)
