"""Compiled loops: the arctangent to a few ulp, and the same numbers with the compiler switched off."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest

from graphon_theory.activations.closed.arctangents import acute_ratio, arctangent_ratio

mp = mpmath.MPContext()
mp.dps = 40


def test_arctangent_ratio_is_right_to_four_ulp() -> None:
    """A(y) = arctan(sqrt(y)) / sqrt(y) on [0, 1], ends and tiny arguments included."""
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [
            [0.0, 5e-324, 1e-300, 1e-16, np.nextafter(1, 0), 1.0],
            10.0 ** rng.uniform(-18, 0, 300),
            rng.random(700),
            (1 - np.cos(np.pi * np.arange(1, 200) / 200)) / 2,
        ]
    )
    for y in points.tolist():
        root = mp.sqrt(mp.mpf(y))
        exact = mp.atan(root) / root if y else mp.mpf(1)
        assert abs(arctangent_ratio(y) - exact) <= 4 * math.ulp(float(exact)), y


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.1, 0.5, math.pi / 4])
def test_arctangent_ratio_gives_angles(angle: float) -> None:
    tangent = math.tan(angle)
    assert tangent * arctangent_ratio(tangent * tangent) == pytest.approx(angle, rel=1e-15)


def test_acute_ratio_is_right_to_two_ulp() -> None:
    """2 arccos(c / 2) / sqrt(1 - c^2 / 4) on [sqrt(2), 2], its end included."""
    rng = np.random.default_rng(0)
    low = math.sqrt(2.0)
    points = np.concatenate([[low, 2.0, np.nextafter(2, 0)], 2.0 - 10.0 ** rng.uniform(-16, -0.3, 300)])
    for c in np.append(points, rng.uniform(low, 2.0, 700)).tolist():
        half = mp.mpf(c) / 2
        exact = 2 * mp.acos(half) / mp.sqrt(1 - half * half) if c < 2.0 else mp.mpf(2)
        assert abs(acute_ratio(c) - exact) <= 2 * math.ulp(float(exact)), c


SCRIPT = """
import json
import sys

import numba
import numpy as np
import graphon_theory as gt

x = np.array([[1.0, 0.5, -0.2], [0.3, -1.0, 0.8], [1.0, 0.5, -0.2], [0.0, 0.0, 0.0], [-2.0, -1.0, 0.4]])
layers = [gt.Connectivity([[0.9, 0.1], [0.2, 0.6]], [[1.9, 0.4], [0.3, 0.7]]), [[0.5, 1.0, 0.2], [0.3, 0.4, 0.9]], 1.0]
kernels = []
for activation, bias in (("relu", 0.0), ("relu", 0.1), ("erf", 0.1), ("identity", 0.2)):
    net = gt.Network(layers, activation, [2.0, 1.5, 1.0], bias)
    both = gt.limit_kernel(net, x, threads=1)
    kernels.append([both.nngp.values.tolist(), both.ntk.values.tolist()])
json.dump({"disabled": bool(numba.config.DISABLE_JIT), "kernels": kernels}, sys.stdout)
"""


def test_the_compiler_only_makes_it_faster() -> None:
    """NUMBA_DISABLE_JIT=1 runs the same source in Python: equal to rounding."""

    def run(disabled: str) -> dict[str, object]:
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        answer: dict[str, object] = json.loads(done.stdout)
        assert answer["disabled"] is (disabled == "1")
        return answer

    plain, compiled = (np.array(run(disabled)["kernels"]) for disabled in ("1", "0"))
    assert plain.shape == (4, 2, 5, 5)
    scale = np.sqrt(np.einsum("knii->kni", compiled))
    assert (np.abs(plain - compiled) <= 2e-15 * scale[..., :, None] * scale[..., None, :]).all()
    assert compiled[1, 1].min() > 0
