"""Pictures, readers of files and scikit-learn's estimators, for :mod:`tests.tools.fuzz`."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import graphon_theory as gt
from tests.tools.fuzz_problems import (
    NEW,
    STEP,
    Entries,
    X,
    Y,
    a_comparison,
    a_density,
    a_flow,
    a_kernel,
    a_network,
    kernels,
    modes,
)

FOLDER = Path("read")
_READERS = {"idx": "digits-idx2-ubyte", "npy": "x.npy", "zarr": "x.zarr"}


def pictures() -> Entries:
    """``gt.plots``, but for the quickstart's figure, of its own Dataset. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

    entry = Entries("plots.")

    def one(name: str, plain: Callable[[], dict[str, Any]]) -> None:
        def drawn(**arguments: Any) -> Any:
            try:
                return getattr(gt.plots, name)(**arguments)
            finally:
                plt.close("all")

        entry(name, drawn, (Axes, np.ndarray, list, tuple, type(None)), plain)

    one("comparison", lambda: {"found": a_comparison(), "ax": None})
    one("connectivity", lambda: {"layers": a_network(), "ax": None})
    one("contributions", lambda: {"kernels": _contributions(), "ax": None, "output": 0})
    one("density", lambda: {**a_density(), "ax": None})
    one("design", lambda: {"found": _design(), "names": ["a", "b"], "ax": None})
    one("draw", lambda: {"result": a_network(), "ax": None})
    one("energy", lambda: {"found": modes(), "ax": None, "modes": (1, 2)})
    one("graphon", lambda: {"graphon": gt.StepGraphon(STEP), "ax": None, "limits": (0.0, 1.0)})
    one("kernel", lambda: {"kernel": kernels(), "ax": None, "kind": "ntk", "output": 0, "order": [2, 0, 1]})
    one("learning_curve", lambda: {"found": _curve(), "ax": None})
    one("save", lambda: {"result": modes(), "path": "made.png"})
    one("spectrum", lambda: {"modes": modes(), "ax": None})
    one("training", lambda: {"path": a_flow(), "ax": None, "quantity": "loss", "inputs": None})
    return entry


@cache
def _contributions() -> xr.Dataset:
    return gt.limit_kernel(a_network(), X, contributions=True)


@cache
def _design() -> gt.Design:
    x = np.random.default_rng(0).standard_normal((12, 2))
    options: dict[str, Any] = {"blocks": 2, "starts": 1, "iterations": 1}
    return gt.design(a_network(), x, x[:, 0], density=0.5, widths=[2, 8, 8, 1], **options)


@cache
def _curve() -> xr.Dataset:
    return gt.learning_curve(a_kernel(), Y, [1, 2], ridge=0.1)


def readers() -> Entries:
    """``gt.datasets``. What is spoilt is the path, or the bytes of the file at it."""
    entry = Entries("datasets.")
    sizes = {"size": 8, "count": 5, "rng": 0, "warp": 0.5}
    entry("digits", lambda **options: gt.datasets.digits(**options)[0], (np.ndarray,), lambda: dict(sizes))
    for name in ("idx", "npy"):

        def read(path: Any, content: Any, name: str = name) -> Any:
            FOLDER.mkdir(exist_ok=True)
            if isinstance(content, bytes | bytearray):
                (FOLDER / _READERS[name]).write_bytes(content)
            return getattr(gt.datasets, name)(path)

        plain = {"path": str(FOLDER / _READERS[name]), "content": _bytes(name)}
        entry(name, read, (np.ndarray,), lambda plain=plain: dict(plain))  # type: ignore[misc]
    return entry


def _bytes(name: str) -> bytes:
    if name == "idx":
        return bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])
    import io

    file = io.BytesIO()
    np.save(file, X)
    return file.getvalue()


def estimators() -> Entries:
    """Fit and predict. Raises ImportError without scikit-learn, whose own refusals are refusals."""
    import sklearn  # noqa: F401

    entry = Entries()
    options: dict[str, Any] = {
        "graphon": STEP,
        "density": None,
        "depth": 3,
        "activation": "relu",
        "weight_variance": 2.0,
    }
    options |= {"bias_variance": 0.1, "network": None, "kernel": "ntk", "x": X, "y": Y, "new": NEW}

    def one(name: str, targets: Any, **more: Any) -> None:
        def predicted(x: Any, y: Any, new: Any, **parameters: Any) -> Any:
            try:
                return getattr(gt, name)(**parameters).fit(x, y).predict(new)
            except Exception as error:
                if any("sklearn" in frame.filename for frame in traceback.extract_tb(error.__traceback__)):
                    raise gt.InputError(str(error)[:300] or repr(error)[:300]) from None
                raise

        entry(name, predicted, (np.ndarray,), lambda: {**options, "y": targets, **more})

    one("GraphonKernelRegressor", Y, ridge=0.1)
    one("GraphonKernelClassifier", np.array([0, 1, 1]), ridge=0.1)
    return entry
