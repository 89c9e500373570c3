"""Numerical dual activations, speed AND error, beside neural-tangents' numerical fallback.

    python validation/benchmarks/bench_activations.py [--inputs N] [--peer-python PATH]

One hidden layer, Gaussian inputs. Errors of NNGP and NTK relative to sqrt(K_ii K_jj), on pairs whose duals are known
from brute force: panelled Gauss-Legendre in both variables, split at every kink. Without --peer-python only the engine
runs. The peer's memory grows as N^2 times the square of its nodes: 2.4 GB at 100 inputs and 100 nodes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import graphon_theory as gt
from benchmarks.common import FloatArray, fastest, kernel_scale, machine, markdown_table

PAIRS = 40
MANY = 1000  # inputs, for the engine alone
PEER = Path(__file__).with_name("peer_activations.py")
Function = Callable[[FloatArray], Any]
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
CASES: dict[str, tuple[gt.Activation, Function, Function, tuple[float, ...]]] = {
    "tanh": (gt.as_activation("tanh"), np.tanh, lambda z: 1 / np.cosh(z) ** 2, ()),
    "silu": (
        gt.as_activation("silu"),
        lambda z: z / (1 + np.exp(-z)),
        lambda z: (1 + np.exp(-z) * (1 + z)) / (1 + np.exp(-z)) ** 2,
        (),
    ),
    "hard tanh": (
        gt.Activation("Max(-1, Min(1, z))"),
        lambda z: np.clip(z, -1, 1),
        lambda z: np.asarray(np.abs(z) < 1, dtype=np.float64),
        (-1.0, 1.0),
    ),
}


def rule(splits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and Gaussian weights (rows, n) on half-unit panels of [-9, 9] that each row's splits (rows, k) cut."""
    units = np.broadcast_to(np.linspace(-9.0, 9.0, 37), (len(splits), 37))
    edges = np.sort(np.concatenate([units, np.clip(splits, -9.0, 9.0)], axis=1), axis=1)
    half, middle = np.diff(edges)[:, :, None] / 2, (edges[:, 1:] + edges[:, :-1])[:, :, None] / 2
    z = (middle + half * NODES).reshape(len(splits), -1)
    return z, (half * WEIGHTS).reshape(len(splits), -1) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def brute(function: Function, kinks: tuple[float, ...], q12: float, q11: float, q22: float) -> float:
    """E[f(z) f(z')]: z first, z' given z."""
    places, s1 = np.array(kinks), np.sqrt(q11)
    if q22 * q11 - q12 * q12 <= 1e-12 * q11 * q22:
        z, w = rule((places / s1)[None])
        return float((function(s1 * z) ** 2 * w).sum())
    z, w = rule(np.concatenate([places / s1, places * s1 / q12])[None])
    rest, centre = np.sqrt(q22 - q12 * q12 / q11), q12 / s1 * z[0]
    y, v = rule((places - centre[:, None]) / rest)
    return float((function(s1 * z[0]) * w[0] * (function(centre[:, None] + rest * y) * v).sum(1)).sum())


def exact(name: str, q: tuple[float, float, float]) -> tuple[float, float]:
    """NNGP and NTK of the network for the moments of its hidden layer."""
    _, phi, slope, kinks = CASES[name]
    nngp = 2 * brute(phi, kinks, *q)
    return nngp, nngp + 2 * brute(slope, kinks, *q) * q[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--peer-python")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((chosen.inputs, 10))
    i, j = (rng.integers(0, len(x), PAIRS) for _ in range(2))
    entries = len(x) * (len(x) + 1) / 2
    peer = _peer(chosen.peer_python, x) if chosen.peer_python else {}
    rows = []
    for name, (activation, *_) in CASES.items():
        network = gt.Network([1.0, 1.0], activation)
        kernel = gt.limit_kernel(network, x)
        scales = [kernel_scale(kernel[key].values)[i, j] for key in ("nngp", "ntk")]
        moments = 0.2 * x @ x.T
        want = np.array([exact(name, (moments[a, b], moments[a, a], moments[b, b])) for a, b in zip(i, j, strict=True)])

        def error(nngp: FloatArray, ntk: FloatArray, want: FloatArray = want, scales: Any = scales) -> float:
            pairs = zip((nngp, ntk), want.T, scales, strict=True)
            return max(float((np.abs(k[i, j] - w) / s).max()) for k, w, s in pairs)

        sets = {"few": x, "many": rng.standard_normal((MANY, 10))}
        work = {key: lambda y=y, network=network: gt.limit_kernel(network, y) for key, y in sets.items()}
        seconds = fastest(work, 5)
        bound = f"{kernel.attrs['quadrature_error']:.0e}"
        found = error(kernel.nngp.values, kernel.ntk.values)
        rows.append(
            [
                name,
                f"engine, {activation.route}",
                f"{found:.0e}",
                bound,
                f"{1e9 * seconds['few'] / entries:.0f}",
                f"{2e9 * seconds['many'] / MANY**2:.0f}",
            ]
        )
        for degree in (25, 100) if peer else ():
            at = f"{name}/{degree}"
            found, spent = error(peer[f"{at}/nngp"], peer[f"{at}/ntk"]), float(peer[f"{at}/seconds"])
            rows.append(
                [name, f"neural-tangents, {degree} nodes", f"{found:.0e}", "none", f"{1e9 * spent / entries:.0f}", ""]
            )
    print(machine())
    print(f"\n{len(x)} inputs; time per entry of the upper triangle, set-up of series and tables not counted\n")
    print(markdown_table(["activation", "by", "error", "reported bound", "ns per entry", f"at {MANY} inputs"], rows))


def _peer(python: str, x: FloatArray) -> dict[str, FloatArray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, x=x)
        subprocess.run([python, str(PEER), str(path)], check=True)
        with np.load(path.with_name("inputs-peer.npz")) as archive:
            return dict(archive)


if __name__ == "__main__":
    main()
