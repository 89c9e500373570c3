"""The recursion read backwards: what each layer, and each place in it, contributes to the NTK (THEORY §3).

    B^L(u) = k 1[u = o],      B^l(v) = Cdot^l(v) sigma_w^2 int V^{l+1}(u,v) B^{l+1}(u) du
    NTK_l = sigma_w^2 iint B^l(u) W^l(u,v) C^{l-1}(v) + sigma_b^2 int B^l(u),      NTK = sum_l NTK_l

In matrices beta_i = w_i B(u_i) is what the transposed operators carry, so the sum equals the forward result to
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphon_theory.arrays import FloatArray
from graphon_theory.engine.recursion import Recursion
from graphon_theory.engine.threads import Progress, run_tiles


class Backward:
    """C and Cdot of every hidden layer on a block of pairs, and beta of every layer for each output."""

    def __init__(self, recursion: Recursion, x1: FloatArray, x2: FloatArray) -> None:
        self.recursion = recursion
        n1, n2 = len(x1), len(x2)
        diagonal, other = recursion.diagonal(x1), recursion.diagonal(x2)
        f1, f2 = recursion.features(x1, diagonal), recursion.features(x2, other)
        i, j = np.nonzero((x1[:, None, :] == x2[None, :, :]).all(axis=2))  # identical inputs, to the last bit
        # duals[l] is C below weight layer l (counted from 0): the input products first
        self.duals = [(x1[:, None, :] * x2[None, :, :]).reshape(n1 * n2, -1).T]
        self.derivatives: list[FloatArray] = []
        for layer, op in enumerate(recursion.operators[:-1]):
            k = op.variance @ self.duals[-1] + op.bias
            state = np.ones((len(k), 2, n1, n2))
            state[:, 0] = k.reshape(-1, n1, n2)
            one, two = diagonal.shares[layer], other.shares[layer]
            if one is not None and two is not None:
                state[:, 0] -= np.matmul(one.transpose(0, 2, 1), two)
            state[:, 0, i, j] = diagonal.variances[layer][:, i]
            out = np.empty_like(state)
            none = np.zeros((len(k), n1, n2))
            block, parameters = recursion.passes[layer].block, recursion.parameters[layer]
            block(state, none, False, 0.0, 0.0, f1[layer], f2[layer], 0, 0, out, parameters)
            self.duals.append(out[:, 0].reshape(len(k), -1))
            self.derivatives.append(out[:, 1].reshape(len(k), -1))

    def betas(self, output: int) -> list[FloatArray]:
        """beta (receiving nodes, pairs) of every weight layer, input first, for one output."""
        pairs = self.duals[0].shape[1]
        operators = self.recursion.operators
        beta = np.zeros((len(operators[-1].variance), pairs))
        beta[output] = 1.0
        betas = [beta]
        for op, derivative in zip(operators[:0:-1], self.derivatives[::-1], strict=True):
            beta = derivative * (op.variance.T @ beta)
            betas.append(beta)
        return betas[::-1]

    def contributions(self) -> FloatArray:
        """NTK_l of every layer: (L, outputs, pairs)."""
        operators = self.recursion.operators
        out = np.empty((len(operators), self.recursion.outputs, self.duals[0].shape[1]))
        own = [op.own_matrix @ c + op.own_bias for op, c in zip(operators, self.duals, strict=True)]
        for o in range(self.recursion.outputs):
            for layer, beta in enumerate(self.betas(o)):
                out[layer, o] = np.einsum("up,up->p", beta, own[layer])
        return out


def layer_contributions(
    recursion: Recursion,
    x: FloatArray,
    x2: FloatArray | None,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> FloatArray:
    """NTK_l for all pairs: (L, outputs, N, N2)."""
    other = x if x2 is None else x2
    out = np.empty((len(recursion.operators), recursion.outputs, len(x), len(other)))
    values = sum(len(op.variance) for op in recursion.operators) + x.shape[1]
    side = int(max(4, min(128, np.sqrt(4e6 / (4 * values)))))

    def tiles() -> Iterator[tuple[int, int]]:
        return ((i, j) for i in range(0, len(x), side) for j in range(0, len(other), side))

    def one(_: None, tile: tuple[int, int]) -> int:
        i, j = tile
        a, b = x[i : i + side], other[j : j + side]
        block = Backward(recursion, a, b).contributions()
        out[:, :, i : i + side, j : j + side] = block.reshape(*block.shape[:2], len(a), len(b))
        return len(a) * len(b)

    total = len(x) * len(other)
    run_tiles(tiles(), one, lambda: None, threads, None if progress is None else lambda done: progress(done, total))
    return out
