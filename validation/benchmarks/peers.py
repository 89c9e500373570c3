"""A process of another library that computes kernels on request, so that it can take turns with the engine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from benchmarks.common import FloatArray
from benchmarks.step_networks import StepNetwork

_SCRIPT = Path(__file__).with_name("peer_neural_tangents.py")


class Peer:
    """neural-tangents in the environment of ``python``, compiled for the given cases (network, inputs)."""

    def __init__(self, python: str, cases: Mapping[str, tuple[StepNetwork, FloatArray]], folder: Path) -> None:
        path = folder / "cases.npz"
        arrays: dict[str, FloatArray] = {}
        for name, (net, x) in cases.items():
            arrays |= {f"{name}/x": x, f"{name}/variances": np.array([net.weight_variance, net.bias_variance])}
            arrays |= {f"{name}/{index}": matrix for index, matrix in enumerate(net.operators)}
        np.savez(path, **arrays)  # type: ignore[arg-type]
        self._process = subprocess.Popen(
            [python, str(_SCRIPT), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "peer.log").open("w"),
            text=True,
        )
        self.version = self._answer()
        if not self.version:
            raise RuntimeError(f"--peer-python {python}: {(folder / 'peer.log').read_text()[-2000:]}")
        with np.load(folder / "cases-peer.npz") as archive:
            self.values = dict(archive)

    def kernels(self, name: str) -> tuple[FloatArray, FloatArray]:
        """NNGP and NTK of a case."""
        return self.values[f"{name}/nngp"], self.values[f"{name}/ntk"]

    def run(self, name: str) -> float:
        """Compute a case once more; seconds, as the peer sees them."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its input, upon which it ends
