"""Kernels of a one-hidden-layer network with numerical duals by neural-tangents; run by bench_activations.py.

Environment as in peer_neural_tangents.py. Called with the path of an npz file that holds ``x`` (N, d). For every
activation and degree it writes ``NAME/DEGREE/nngp``, ``.../ntk`` and ``.../seconds`` (the least of five runs after
compiling) to that path with "-peer" added to its stem.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jax  # type: ignore[import-not-found]
import jax.numpy as jnp  # type: ignore[import-not-found]
import numpy as np
from neural_tangents import stax  # type: ignore[import-not-found]

FUNCTIONS = {"tanh": jnp.tanh, "silu": jax.nn.silu, "hard tanh": lambda z: jnp.clip(z, -1, 1)}
DEGREES = (25, 100)  # nodes a side of the Gauss-Hermite rule; 25 is the default


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    path = Path(sys.argv[1])
    with np.load(path) as archive:
        x = jnp.asarray(archive["x"])
    out: dict[str, np.ndarray] = {}
    for name, function in FUNCTIONS.items():
        for degree in DEGREES:
            layers = (stax.Dense(1, W_std=2**0.5), stax.ElementwiseNumerical(function, deg=degree))
            _, _, kernel = stax.serial(*layers, stax.Dense(1, W_std=2**0.5))
            compiled = jax.jit(lambda x, kernel=kernel: kernel(x, None, ("nngp", "ntk")))
            seconds = np.inf
            for _ in range(6):
                start = time.perf_counter()
                result = jax.block_until_ready(compiled(x))
                seconds = min(seconds, time.perf_counter() - start)
            out[f"{name}/{degree}/nngp"], out[f"{name}/{degree}/ntk"] = map(np.asarray, (result.nngp, result.ntk))
            out[f"{name}/{degree}/seconds"] = np.array(seconds)
    np.savez(path.with_name(f"{path.stem}-peer.npz"), **out)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
