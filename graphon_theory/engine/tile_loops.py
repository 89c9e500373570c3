"""Compiled work on whole tiles of input pairs: the recursion of narrow networks, and the placing of results.

Where layers have few positions a matrix product is too small for BLAS to be worth calling. There the recursion runs
on strips of pairs so short that the state of all positions stays in the first-level cache from input to output.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import boolean, float64, from_dtype, intp, types, void
from numba.core.dispatcher import Dispatcher

from graphon_theory.arrays import FloatArray, IntArray
from graphon_theory.numerics.compilation import njit

LANES = 8  # numbers of a vector: strips start at multiples of it
_MIRRORED = 16  # columns mirrored together: whole lines of the cache in either precision

_options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


def default_threads() -> int:
    """Threads that work on tiles unless said otherwise: numba's (NUMBA_NUM_THREADS)."""
    return int(vars(numba.config)["NUMBA_NUM_THREADS"])


def is_compiled(block: Any) -> bool:
    """Whether a block kernel is machine code, which can be passed on as a pointer (it is not with the JIT off)."""
    return isinstance(block, Dispatcher)


def _block_type(real: Any) -> Any:
    """The signature of every block kernel of ``activations/closed/rectifier_blocks`` for one floating type."""
    three, four = real[:, :, ::1], real[:, :, :, ::1]
    return void(four, three, boolean, float64, float64, three, three, intp, intp, four, float64[::1])


@njit(**_options)
def _multiply(matrix: FloatArray, start: int, values: FloatArray, length: int, out: FloatArray) -> None:
    """out = A @ values on the first ``length`` columns; A is what ``matrix`` holds from ``start`` on, row by row."""
    below = len(values)
    whole = below // 4 * 4
    for p in range(len(out)):
        row, total = start + p * below, out[p]
        for q in range(0, whole, 4):  # one store for four products
            a, b, c, d = matrix[row + q], matrix[row + q + 1], matrix[row + q + 2], matrix[row + q + 3]
            x, y, z, w = values[q], values[q + 1], values[q + 2], values[q + 3]
            if q:
                for j in range(length):
                    total[j] += (a * x[j] + b * y[j]) + (c * z[j] + d * w[j])
            else:
                for j in range(length):
                    total[j] = (a * x[j] + b * y[j]) + (c * z[j] + d * w[j])
        for q in range(whole, below):
            a, x = matrix[row + q], values[q]
            if q:
                for j in range(length):
                    total[j] += a * x[j]
            else:
                for j in range(length):
                    total[j] = a * x[j]


class _Pointer(types.WrapperAddressProtocol):
    """A block kernel, compiled for one floating type, as a function pointer that costs little to pass on."""

    def __init__(self, block: Any, real: Any) -> None:
        self.type = _block_type(real)
        compiled = block.get_compile_result(self.type)
        self.address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)
        self.library = compiled.library  # keeps the code alive

    def __wrapper_address__(self) -> int:
        return self.address

    def signature(self) -> Any:
        return self.type


@cache
def _pointer(block: Any, real: Any) -> _Pointer:
    return _Pointer(block, real)


def narrow_tile(block: Any, *arguments: Any) -> None:
    """:func:`_narrow_tile` with the compiled block kernel ``block``."""
    _narrow_tile(_pointer(block, from_dtype(arguments[-1].dtype)), *arguments)


@njit(**_options)
def _narrow_tile(
    block: Any,
    sizes: IntArray,
    shared: np.ndarray[Any, np.dtype[np.bool_]],
    matrices: FloatArray,
    biases: FloatArray,
    parameters: FloatArray,
    gram: FloatArray,
    f1: FloatArray,
    f2: FloatArray,
    i0: int,
    j0: int,
    upper: bool,
    work: FloatArray,
    out: FloatArray,
) -> None:
    """NNGP and NTK (outputs, 2, n1, n2) of a tile, from its Gram matrices (profiles, n1, n2), by THEORY §3.

    For every weight layer: ``sizes``, the receiving positions; in ``matrices``, one after the other and row by row, the
    matrix of V, and that of W where ``shared`` does not say that the two agree; ``biases`` (K's, T's own). For every
    hidden layer: ``parameters`` of the block kernel ``block``. Features ``f1``, ``f2`` hold all hidden layers, one
    after the other. ``upper``: the tile lies on the diagonal, and nothing below it is needed. ``work``: scratch, whose
    size sets the length of the strips.
    """
    profiles, n1, n2 = gram.shape
    most, last = max(profiles, sizes.max()), len(sizes) - 1
    strip = max(LANES, len(work) // (5 * most) // LANES * LANES)
    for left in range(0, n2, strip):
        right, pairs = min(left + strip, n2), 0
        for i in range(n1):
            j = max(left, (i0 + i - j0) // LANES * LANES) if upper else left
            if j >= right:
                break
            if pairs != right - j:  # the same scratch for all rows, as far as they are equally long
                pairs = right - j
                room = 2 * most * pairs
                duals = work[:room].reshape(most, 2, 1, pairs)
                state = work[room : 2 * room].reshape(most, 2, 1, pairs)
                masked = work[2 * room : 2 * room + most * pairs].reshape(most, 1, pairs)
                flat_duals, flat_state = duals.reshape(most, 2 * pairs), state.reshape(most, 2 * pairs)
                flat_masked = masked.reshape(most, pairs)
            for r in range(profiles):
                source, product = gram[r, i, j:right], flat_duals[r]
                for c in range(pairs):
                    product[c] = source[c]
            below, matrix, position = profiles, 0, 0
            for layer in range(last + 1):
                n, bias, trained_bias = sizes[layer], biases[layer, 0], biases[layer, 1]
                if layer:
                    _multiply(matrices, matrix, flat_duals[:below], 2 * pairs, flat_state[:n])
                else:  # products of inputs carry no tangent
                    _multiply(matrices, matrix, flat_duals[:below], pairs, flat_state[:n])
                    flat_state[:n, pairs:] = 0.0
                matrix += n * below
                if not shared[layer]:
                    _multiply(matrices, matrix, flat_duals[:below], pairs, flat_masked[:n])
                    matrix += n * below
                if layer < last:
                    block(
                        state[:n],
                        masked[:n],
                        shared[layer],
                        bias,
                        trained_bias,
                        f1[position : position + n],
                        f2[position : position + n],
                        i0 + i,
                        j0 + j,
                        duals[:n],
                        parameters[layer],
                    )
                    below, position = n, position + n
            for o in range(sizes[last]):
                k, t, nngp, ntk = state[o, 0, 0], state[o, 1, 0], out[o, 0, i, j:right], out[o, 1, i, j:right]
                product = k if shared[last] else masked[o, 0]
                for c in range(pairs):
                    ntk[c] = t[c] + (product[c] + trained_bias)
                    nngp[c] = k[c] + bias


@njit(**_options)
def place(values: FloatArray, nngp: FloatArray, ntk: FloatArray, i0: int, j0: int, mirrored: bool) -> None:
    """Copy a tile (outputs, 2, n1, n2) to rows from i0 and columns from j0 of the results (outputs, N, N2).

    ``mirrored``: what is above the diagonal goes to its transposed place too, and nothing below it is read.
    """
    outputs, _, n1, n2 = values.shape
    for o in range(outputs):
        for part in range(2):
            tile = values[o, part]
            kernel = nngp[o] if part == 0 else ntk[o]
            for i in range(n1):
                first = max(0, i0 + i - j0) if mirrored else 0
                if first < n2:
                    kernel[i0 + i, j0 + first : j0 + n2] = tile[i, first:]
            if mirrored:  # a few columns at a time: their lines in the results stay in the cache, whatever N is
                for left in range(0, n2, _MIRRORED):
                    for i in range(min(n1, left + _MIRRORED + j0 - i0)):
                        first = max(left, i0 + i - j0)
                        row = tile[i, first : min(left + _MIRRORED, n2)]
                        for j in range(len(row)):
                            kernel[j0 + first + j, i0 + i] = row[j]
