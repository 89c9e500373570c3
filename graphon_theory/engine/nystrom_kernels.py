"""Landmarks in place of a kernel: for inputs too many for any product of it, with an error measured on pairs held out.

    Theta(x, x') ~ k(x) K^-1 k(x')^T,      k(x) = Theta(x, landmarks),  K = Theta(landmarks, landmarks)

(Nystrom; Williams and Seeger 2001). What is missed, R = Theta - k K^-1 k^T, is a kernel itself: |R(x, x')|^2 is at most
R(x, x) R(x', x').
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.sparse.linalg import LinearOperator

from graphon_theory.arrays import EPS, FloatArray, IntArray
from graphon_theory.data.checks import as_generator, as_inputs, one_of, whole_number
from graphon_theory.data.memory import refuse_beyond_memory
from graphon_theory.engine.kernel_operators import kernel_operator
from graphon_theory.errors import InputError
from graphon_theory.networks.network import Network

if TYPE_CHECKING:
    import xarray as xr

_MOST = 20_000  # landmarks
_PAIRS = 1_000_000  # held out, at most
_BLOCK = 256  # pairs computed together: so many rows by as many columns, of which the diagonal is read
_DROPPED = 1e-12  # share of the largest eigenvalue of K below which directions of landmarks are left out


class NystromKernel(LinearOperator):
    """F F^T for the factor F (N, r) of a kernel by landmarks; `nystrom_kernel` makes it.

    ``error`` and ``standard_error``: root mean square of what is missed, relative to sqrt(K_ii K_jj), over pairs held
    out, and its standard error. ``attrs`` hold both and what `limit_kernel` says of the network.
    """

    def __init__(
        self, network: Network, options: dict[str, Any], landmarks: FloatArray, turn: FloatArray, factor: FloatArray
    ) -> None:
        super().__init__(np.dtype(np.float64), (len(factor), len(factor)))
        self.network, self.options, self.landmarks, self.turn, self.factor = network, options, landmarks, turn, factor
        self.attrs: dict[str, Any] = {}

    @property
    def error(self) -> float:
        return float(self.attrs["error"])

    @property
    def standard_error(self) -> float:
        return float(self.attrs["standard_error"])

    def diagonal(self) -> FloatArray:
        """Of F F^T, (N,)."""
        return np.asarray(np.einsum("nr,nr->n", self.factor, self.factor))

    @property
    def trace(self) -> float:
        """The sum of the diagonal."""
        return float(self.diagonal().sum())

    def features(self, x: ArrayLike | xr.DataArray) -> FloatArray:
        """The factor (M, r) at other inputs. Raises InputError where they are none of this network."""
        new, wanted = as_inputs(x), self.landmarks.shape[1]
        if new.shape[1] != wanted:
            raise InputError(f"x: expected {wanted} inputs like those of the kernel, got shape {new.shape}.")
        return np.asarray(_columns(self.network, new, self.landmarks, self.options) @ self.turn)

    def between(self, x: ArrayLike | xr.DataArray) -> LinearOperator:
        """The operator (M, N) of other inputs with these: a test kernel."""
        new = self.features(x)
        shape = len(new), len(self.factor)
        return LinearOperator(
            shape,
            dtype=np.float64,
            matvec=lambda v: new @ (self.factor.T @ np.ravel(v)),
            matmat=lambda v: new @ (self.factor.T @ v),
            rmatvec=lambda v: self.factor @ (new.T @ np.ravel(v)),
        )

    def columns(self, chosen: IntArray) -> FloatArray:
        """Some columns (N, k)."""
        return np.asarray(self.factor @ self.factor[chosen].T)

    def _matvec(self, v: FloatArray) -> FloatArray:
        return np.asarray(self.factor @ (self.factor.T @ np.ravel(v)))

    def _matmat(self, v: FloatArray) -> FloatArray:
        return np.asarray(self.factor @ (self.factor.T @ v))

    def _adjoint(self) -> LinearOperator:
        return self

    def _transpose(self) -> LinearOperator:
        return self


def nystrom_kernel(
    network: Network,
    x: ArrayLike | xr.DataArray,
    landmarks: int = 1000,
    *,
    kernel: str = "ntk",
    pairs: int = 2000,
    rng: np.random.Generator | int = 0,
    rtol: float = 1e-10,
    dtype: DTypeLike = np.float64,
    threads: int | None = None,
) -> NystromKernel:
    """The limit kernel of very many inputs by landmarks among them: F F^T with F (N, r), and its measured error.

    Costs N r pairs of the engine and N r numbers of memory, whatever N is. Directions of the landmarks' kernel below
    1e-12 of its largest eigenvalue are left out, so that r may be less than ``landmarks``.

    Args:
        network, x, rtol, dtype, threads: as in `limit_kernel`; the network has one output.
        landmarks: how many inputs, drawn evenly.
        kernel: "ntk" or "nngp".
        pairs: how many pairs of inputs that are no landmarks are held out and computed exactly.

    Returns a linear operator (N, N) with ``error`` (root mean square over the pairs held out, relative to sqrt(K_ii
    K_jj)), ``standard_error``, ``factor``, ``features(x_new)`` and ``between(x_new)``; `spectrum`, `gradient_flow` and
    `kernel_regression` take it and its ``between``. The error is that of a pair drawn evenly: single pairs can be
    worse, and close ones mostly are.

    Raises as `limit_kernel`, and InputError where fewer than two inputs are left to hold out.
    """
    first = as_inputs(x, "x")
    size = len(first)
    count = whole_number("landmarks", landmarks, 1, _MOST)
    if count > size - 2:
        raise InputError(f"landmarks: {count} leave fewer than 2 of {size} inputs to hold out; take fewer.")
    number = whole_number("pairs", pairs, 2, _PAIRS)
    one_of("kernel", kernel, ("ntk", "nngp"))
    random = as_generator(rng, expected="a seed or a numpy Generator")
    refuse_beyond_memory("landmarks", 16.0 * size * count, f"a factor of {size:,} x {count:,}", "take fewer of them")
    options: dict[str, Any] = {"kernel": kernel, "rtol": rtol, "dtype": dtype, "threads": threads}
    order = random.permutation(size)
    chosen, rest = np.sort(order[:count]), order[count:]
    among = _columns(network, first[chosen], first[chosen], options)
    values, vectors = np.linalg.eigh((among + among.T) / 2)
    floor = max(_DROPPED, 8 * count * float(np.finfo(dtype).eps) if np.dtype(dtype) == np.float32 else count * EPS)
    kept = values > floor * float(values[-1])
    turn = vectors[:, kept] / np.sqrt(values[kept])
    factor = _columns(network, first, first[chosen], options) @ turn
    made = NystromKernel(network, options, first[chosen], turn, factor)
    missed = _missed(made, first, rest, number, random)
    square = missed**2
    error = float(np.sqrt(square.mean()))
    spread = float(square.std(ddof=1) / np.sqrt(len(square)))  # of the mean square; by the delta method of its root
    exact = kernel_operator(network, first[chosen[:2]], **options)
    about = {name: value for name, value in exact.attrs.items() if name != "memory"}
    made.attrs = {
        **about,
        "error": error,
        "standard_error": spread / (2 * error) if error > 0 else 0.0,
        "pairs": number,
    }
    return made


def _columns(network: Network, x: FloatArray, landmarks: FloatArray, options: dict[str, Any]) -> FloatArray:
    between = kernel_operator(network, x, landmarks, **options)
    return between.columns(np.arange(len(landmarks)))


def _missed(made: NystromKernel, x: FloatArray, rest: IntArray, number: int, random: np.random.Generator) -> FloatArray:
    """Kernel less its estimate at random pairs of different inputs, relative to the roots of their diagonals."""
    left = random.integers(len(rest), size=number)
    right = (left + random.integers(1, len(rest), size=number)) % len(rest)
    i, j = rest[left], rest[right]
    between = kernel_operator(made.network, x[i], x[j], **made.options)
    exact = np.concatenate([between.entries(start, min(start + _BLOCK, number)) for start in range(0, number, _BLOCK)])
    scale = [kernel_operator(made.network, x[one], **made.options).diagonal() for one in (i, j)]
    found = np.einsum("nr,nr->n", made.factor[i], made.factor[j])
    return np.asarray((exact - found) / np.sqrt(scale[0] * scale[1]))
