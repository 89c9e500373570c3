"""The largest step that gradient descent of a finite network survives, about (THEORY §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_kernel, instance
from graphon_theory.data.output_kernels import each_kernel
from graphon_theory.errors import KernelError, NetworkError
from graphon_theory.networks.network import Network
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.spectra.linear_operators import as_operator, is_operator

if TYPE_CHECKING:
    import xarray as xr

_ROUNDING = 1e-9  # share of the diagonal by which kernels in single precision may miss the biases' own


def divergence_learning_rate(kernel: ArrayLike | xr.DataArray, network: Network) -> float:
    """The largest step that plain gradient descent on the loss of `gradient_flow` survives, about (THEORY §7).

        2 / lambda_1(R / L + b),    R = Theta - b,

    with L the number of weight layers and b what the output's own bias adds to every entry of Theta. Above
    `critical_learning_rate`, 2 / lambda_1(Theta), the loss rises first; the rise shrinks the weights, and with them R,
    while eta lambda < 2L, as <theta, df/dtheta> = L f for homogeneous activations. The kernel of the output's bias is a
    constant, which nothing shrinks. Between the two rates a network trains, but not as its kernel says.

    Args:
        kernel: the NTK of the training inputs (N, N), also with an axis of outputs, of which the largest counts, or a
            linear operator; network: what `limit_kernel` computed it of, without shortcuts and LayerNorm.

    It is an estimate, without a bound of its error, for squared loss: how near it comes to what SGD survives stands in
    docs/results.md. Rectifier networks whose kernel is hardly that of their biases survive more, a kernel that grows
    while it learns lets them survive less, and cross-entropy has no sharp limit. `nn.MSELoss` is a mean over k outputs,
    without the half: times k / 2.

    Raises NetworkError for shortcuts or LayerNorm, KernelError for a kernel that is less than the network's own bias
    makes it, else as `spectrum`.
    """
    given = instance("network", network, Network)
    if not given.is_plain:
        raise NetworkError("network: the rate is derived for plain layers; leave shortcuts and LayerNorm out.")
    bias, depth = float(given.trained_bias_variances[-1]), given.depth
    constant = bias * (1 - 1 / depth)
    if is_operator(kernel):
        found: list[tuple[FloatArray, Any]] = [(as_operator(kernel).diagonal(), _Shrunk(kernel, 1 / depth, constant))]
    else:
        found = []
        for one in each_kernel(kernel):
            matrix, single = as_kernel(one), str(getattr(one, "dtype", "")).endswith("float32")
            shrunk = matrix / depth + constant
            shrunk = shrunk.astype(np.float32) if single else shrunk  # whose eigenvalues round below 0
            found.append((np.diagonal(matrix), shrunk))
    least = min(float(diagonal.min()) for diagonal, _ in found)
    if least < bias * (1 - _ROUNDING):
        raise KernelError(
            f"kernel: its diagonal falls to {least:.6g}, below the {bias:.6g} of this network's output bias; pass the "
            "NTK that limit_kernel computed of the same network."
        )
    return min(2 / float(spectrum(shrunk, 1).eigenvalue[0]) for _, shrunk in found)


class _Shrunk(LinearOperator):
    """share K + constant, as an operator with a diagonal."""

    def __init__(self, kernel: Any, share: float, constant: float) -> None:
        super().__init__(dtype=np.dtype(np.float64), shape=kernel.shape)
        self.kernel, self.share, self.constant = kernel, share, constant

    def _matmat(self, block: FloatArray) -> FloatArray:
        return np.asarray(self.share * (self.kernel @ block) + self.constant * block.sum(axis=0, keepdims=True))

    def diagonal(self) -> FloatArray:
        return self.share * as_operator(self.kernel).diagonal() + self.constant
