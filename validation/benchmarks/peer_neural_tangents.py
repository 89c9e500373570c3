"""NNGP and NTK by neural-tangents, composed by hand for step graphons; run by bench_limit_kernel.py --peer-python.

It lives in an environment of its own, which this project does not depend on:

    python -m venv ENV
    ENV/bin/pip install jax==0.5.3 jaxlib==0.5.3 tf2jax==0.3.7 neural-tangents==0.6.5

Called with the path of an npz file that holds, for each case NAME, ``NAME/x`` (N, d), the operator matrices
``NAME/0``, ``NAME/1``, ... (first (m, d), then (m, m), last (1, m)) and ``NAME/variances`` (weight, bias). It compiles
all cases in float64, writes ``NAME/nngp`` and ``NAME/ntk`` to that path with "-peer" added to its stem, and prints a
line with its versions. Then, for every line with a name on stdin, it computes that case once and prints the seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax  # type: ignore[import-not-found]
import jax.numpy as jnp  # type: ignore[import-not-found]
import neural_tangents as nt  # type: ignore[import-not-found]
import numpy as np
from neural_tangents import stax


def constant(depth: int, weight: float) -> Callable[[Any], Any]:
    """The library's own way for a network without structure."""
    affine = stax.Dense(1, W_std=weight**0.5, b_std=None)
    _, _, kernel = stax.serial(*[affine, stax.Relu()] * depth, affine)
    return jax.jit(lambda x: kernel(x, None, ("nngp", "ntk")))


def step(operators: list[np.ndarray], weight: float, bias: float) -> Callable[[Any], Any]:
    """One Kernel a block; between layers, blocks are mixed by the operator matrix before the library's Dense."""
    _, _, affine = stax.Dense(1, W_std=weight**0.5, b_std=bias**0.5 if bias else None)
    _, _, rectify = stax.Relu()
    first, *others = operators
    roots = np.sqrt(first * first.shape[1])  # the library's Dense divides by d itself

    def mixed(row: np.ndarray, blocks: list[Any]) -> Any:
        def total(name: str) -> Any:
            return sum(a * getattr(block, name) for a, block in zip(row, blocks))  # noqa: B905

        return blocks[0].replace(nngp=total("nngp"), ntk=total("ntk"), cov1=total("cov1"))

    def kernel(x: Any) -> Any:
        blocks = [affine(root * x, None) for root in roots]
        for matrix in others:
            signals = [rectify(block) for block in blocks]
            blocks = [affine(mixed(row, signals)) for row in matrix]
        return blocks[0].nngp, blocks[0].ntk

    return jax.jit(kernel)


def finished(function: Callable[[Any], Any], x: Any) -> Any:
    """The result, waited for."""
    return jax.block_until_ready(function(x))


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    path = Path(sys.argv[1])
    with np.load(path) as archive:
        arrays = dict(archive)
    works: dict[str, Callable[[], Any]] = {}
    results: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(key.split("/")[0] for key in arrays):
        operators = [arrays[f"{name}/{i}"] for i in range(sum(k.startswith(f"{name}/") for k in arrays) - 2)]
        weight, bias = (float(value) for value in arrays[f"{name}/variances"])
        x = jnp.asarray(arrays[f"{name}/x"])
        plain = len(operators[0]) == 1
        function = constant(len(operators) - 1, weight) if plain else step(operators, weight, bias)
        works[name] = partial(finished, function, x)
        nngp, ntk = works[name]()
        results |= {f"{name}/nngp": np.asarray(nngp), f"{name}/ntk": np.asarray(ntk)}
    np.savez(path.with_name(f"{path.stem}-peer.npz"), **results)  # type: ignore[arg-type]
    results.clear()
    print(f"{nt.__version__} (jax {version('jax')})", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        done = works[line.strip()]()
        print(time.perf_counter() - start, flush=True)
        del done


if __name__ == "__main__":
    main()
