"""What positions tell of what comes back to them: against plain sums, refined positions, files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.engine.adjoint import Backward
from graphon_theory.engine.prepared_kernels import PreparedKernel
from graphon_theory.errors import ConnectivityError
from graphon_theory.networks.connectivity import Known

RNG = np.random.default_rng(3)
SIZES, OUTPUTS, MODES = (2, 3, 2), 2, 2  # positions of three hidden layers
LENGTHS = ((0.25, 0.75), (0.5, 0.25, 0.25), (0.75, 0.25))
MASKS = [RNG.uniform(0.3, 0.9, shape) for shape in ((2, 4), (3, 2), (2, 3), (OUTPUTS, 2))]
GAMMAS = [RNG.standard_normal((MODES, size)) for size in (3, 2, OUTPUTS)]  # of weight layers 2 to 4
SENT = [RNG.standard_normal((MODES, size)) for size in (2, 3, 2)]
X = RNG.standard_normal((4, 4))
SIGMA = (1.5, 2.0, 1.2, 0.8)


def network(repeats: list[list[int]] | None = None, told: tuple[int, ...] = (0, 1, 2)) -> gt.Network:
    """With uneven blocks, or, given ``repeats``, with each block as so many even ones."""
    sides = [None, *range(3), None]

    def edges(side: int | None) -> np.ndarray | None:
        return None if side is None or repeats else np.cumsum([0.0, *LENGTHS[side]])

    def spread(values: np.ndarray, rows: int | None, columns: int | None) -> gt.StepGraphon:
        if repeats:
            values = values if rows is None or len(values) == 1 else np.repeat(values, repeats[rows], 0)
            values = values if columns is None or values.shape[1] == 1 else np.repeat(values, repeats[columns], 1)
            return gt.StepGraphon(values)
        of_u, of_v = (edges(s) if values.shape[axis] > 1 else None for axis, s in enumerate((rows, columns)))
        return gt.StepGraphon(values, of_u, of_v)

    layers = []
    for n, mask in enumerate(MASKS):
        rows, columns = sides[n + 1], sides[n]
        known = None
        if n - 1 in told:
            gammas = [spread(one[:, None], rows, None) for one in GAMMAS[n - 1]]
            known = Known([], gradients=gammas, coordinates=[spread(one[None], None, columns) for one in SENT[n - 1]])
        layers.append(gt.Connectivity(spread(mask, rows, columns), known=known))
    return gt.Network(layers, "erf", SIGMA, 0.3, outputs=OUTPUTS)


def plain_sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NTK (outputs,) of one pair, position by position; erf's duals from [W]."""
    weights = [np.full(4, 0.25), *(np.array(one) for one in LENGTHS)]
    pairs = ((x, x), (x, y), (y, y))
    c = [one * two for one, two in pairs]
    below, cdots, tangents, slopes = c, [], [], []
    t = np.zeros(4)
    for n, mask in enumerate(MASKS):
        over = weights[n] if n < len(weights) else None
        assert over is not None
        k = [SIGMA[n] * mask @ (over * one) + 0.3 for one in below]
        own = SIGMA[n] * mask @ (over * below[1]) + 0.3
        t = own + SIGMA[n] * mask @ (over * t)
        if n == len(MASKS) - 1:
            break
        roots = [np.sqrt((1 + 2 * one) * (1 + 2 * two)) for one, two in ((k[0], k[0]), (k[0], k[2]), (k[2], k[2]))]
        below = [2 / np.pi * np.arcsin(2 * one / root) for one, root in zip(k, roots, strict=True)]
        cdots.append(4 / np.pi / np.sqrt((1 + 2 * k[0]) * (1 + 2 * k[2]) - 4 * k[1] ** 2))
        slopes.append([2 / np.sqrt(np.pi * (1 + 2 * one)) for one in (k[0], k[2])])
        tangents.append(t)
        t = cdots[-1] * t
    found = t
    for o in range(OUTPUTS):
        j = [np.sqrt(OUTPUTS) * np.eye(OUTPUTS)[o]] * 2
        over = np.full(OUTPUTS, 1 / OUTPUTS)
        for n in (3, 2, 1):
            parts = [[np.sqrt(SIGMA[n]) * MASKS[n].T @ (over * g * one) for g in GAMMAS[n - 1]] for one in j]
            nu = [sum(d * part for d, part in zip(SENT[n - 1], both, strict=True)) for both in parts]
            if n < 3:
                extra = nu[0] * nu[1] - sum(a * b for a, b in zip(*parts, strict=True))
                found[o] += weights[n] @ (extra * cdots[n - 1] * tangents[n - 1])
            over = weights[n]
            j = [slope * one for slope, one in zip(slopes[n - 1], nu, strict=True)]
    return found


def test_plain_sums() -> None:
    found = gt.limit_kernel(network(), X, contributions=True)
    want = np.array([[plain_sums(x, y) for y in X] for x in X]).transpose(2, 0, 1)
    np.testing.assert_allclose(found.ntk, want, rtol=1e-11)
    np.testing.assert_allclose(found.ntk_layer.sum("layer"), want, rtol=1e-11)
    without = gt.limit_kernel(network(told=()), X)
    assert np.abs(found.ntk - without.ntk).max() > 1e-2 * np.abs(without.ntk).max()
    np.testing.assert_allclose(found.nngp, without.nngp, rtol=1e-13)
    # below a layer that tells nothing there is nothing to go on from, and the last alone says no more than its V
    assert np.array_equal(gt.limit_kernel(network(told=(2,)), X).ntk, without.ntk)
    assert np.array_equal(gt.limit_kernel(network(told=(0, 2)), X).ntk, without.ntk)


def _reach(net: gt.Network) -> float:
    """int B of weight layer 2 at output 1 and the first two inputs: what its biases' variance is multiplied by."""
    recursion = PreparedKernel.of(net, X[:2], None, 1e-10, np.float64).recursion
    seen: dict[int, np.ndarray] = {}
    Backward(recursion, X[:1], X[1:2]).read(1, lambda number, beta, below: seen.update({number: beta}))
    return float(seen[2].sum())


def test_every_way_through_the_engine() -> None:
    net = network()
    whole = gt.limit_kernel(net, X).ntk.values
    np.testing.assert_allclose(gt.limit_kernel(net, X[:2], X).ntk, whole[:, :2], rtol=1e-12)
    np.testing.assert_allclose(gt.limit_kernel(net, X, dtype=np.float32).ntk, whole, rtol=1e-5)
    density = gt.kernel_density(net, X[0], X[1], layer=2, output=1)
    total = float((density.density * density.u_weight * density.v_weight).sum())
    unbiased = total + 0.3 * _reach(net)
    layers = gt.limit_kernel(net, X[:2], contributions=True).ntk_layer
    assert float(layers[1, 1, 0, 1]) == pytest.approx(unbiased, rel=1e-10)


def test_blocks_may_be_refined() -> None:
    fine = network([[1, 3], [2, 1, 1], [3, 1]])
    np.testing.assert_allclose(gt.limit_kernel(fine, X).ntk, gt.limit_kernel(network(), X).ntk, rtol=1e-11)


def test_files_and_equality(tmp_path: Path) -> None:
    net = network()
    net.save(tmp_path / "known.npz")
    again = gt.Network.load(tmp_path / "known.npz")
    assert again.layers == net.layers != network(told=()).layers
    assert again.describe() == net.describe() != network(told=()).describe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinates": [1.0]}, "coordinates: expected 2 functions of v, one a mode of the gradients, got 1"),
        ({"gradients": ["u * v", 1.0]}, r"gradients\[0\]: expected a function of u alone"),
        ({"coordinates": ["u", 1.0]}, r"coordinates\[0\]: expected a function of v alone"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConnectivityError, match=message):
        Known([], **({"gradients": ["u", 1.0], "coordinates": ["v", 1.0]} | change))
