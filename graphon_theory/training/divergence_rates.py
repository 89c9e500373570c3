"""The largest step that gradient descent of a finite network survives, about (THEORY §7)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_kernel, instance, whole_number
from graphon_theory.data.output_kernels import each_kernel
from graphon_theory.errors import InputError, KernelError, NetworkError
from graphon_theory.networks.network import Network
from graphon_theory.spectra.kernel_spectra import spectrum
from graphon_theory.spectra.linear_operators import as_operator, is_operator
from graphon_theory.training.linear_training import LinearTraining

if TYPE_CHECKING:
    import xarray as xr

_ROUNDING = 1e-9  # share of the diagonal by which kernels in single precision may miss the biases' own
_LEAST, _RATES, _CLOSE = 1e-4, 200, 1e-12  # of minibatches: the least rate looked at, of descent's; tries; the answer's


def divergence_learning_rate(
    kernel: ArrayLike | xr.DataArray,
    network: Network,
    y: ArrayLike | xr.DataArray | None = None,
    *,
    batch: int | None = None,
    steps: int | None = None,
    initial: ArrayLike | xr.DataArray | None = None,
) -> float:
    """The largest step that plain gradient descent on the loss of `gradient_flow` survives, about (THEORY §7).

        2 / lambda_1(S),    S = R / L + b,    R = Theta - b,

    with L the number of weight layers and b what the output's own bias adds to every entry of Theta. Above
    `critical_learning_rate`, 2 / lambda_1(Theta), the loss rises first; the rise shrinks the weights, and with them R,
    while eta lambda < 2L, as <theta, df/dtheta> = L f for homogeneous activations. The kernel of the output's bias is a
    constant, which nothing shrinks. Between the two rates a network trains, but not as its kernel says.

    With a ``batch`` it is the largest step after which minibatches of so many inputs end below the loss that they began
    with. Their draws keep every mode moving, the more the nearer to 2 it is, so that a loss r that is still to be
    learned comes to

        r(eta) / (1 - g(eta) / batch),    g(eta) = sum_k eta s_k / (2 - eta s_k),    s_k the eigenvalues of S / N,

    summed over outputs with kernels of their own. Without ``y`` nothing is left, and the step is that with g = batch,
    from which on the noise feeds itself; with ``y`` r is what flow by S leaves of them in so many ``steps``. A network
    that has hardly begun to learn bears little noise.

    Args:
        kernel: the NTK of the training inputs (N, N), also with an axis of outputs, of which the largest counts, or a
            linear operator, without ``batch``; network: what `limit_kernel` computed it of, without shortcuts and
            LayerNorm.
        y: targets, and ``initial``: outputs at the start (0 if left out), as in `gradient_flow`; ``batch``: inputs of a
            minibatch; ``steps``: how many there are, without end if left out.

    It is an estimate, without a bound of its error, for squared loss: how near it comes to what SGD survives stands in
    docs/results.md. Rectifier networks whose kernel is hardly that of their biases survive more; bounded activations,
    which are not homogeneous, and kernels that grow while they learn survive less; cross-entropy has no sharp limit.
    `nn.MSELoss` is a mean over k outputs, without the half: times k / 2.

    Raises NetworkError for shortcuts or LayerNorm, KernelError for a kernel that is less than the network's own bias
    makes it, InputError for targets, starts or steps without what they belong to, and where no rate ends below the
    start, else as `spectrum` and `gradient_flow`.
    """
    given = instance("network", network, Network)
    if not given.is_plain:
        raise NetworkError("network: the rate is derived for plain layers; leave shortcuts and LayerNorm out.")
    bias, depth = float(given.trained_bias_variances[-1]), given.depth
    constant = bias * (1 - 1 / depth)
    checked = _checked_batches(kernel, y, batch, steps, initial)
    shrunk: Any
    if is_operator(kernel):
        diagonals, shrunk = [as_operator(kernel).diagonal()], _Shrunk(kernel, 1 / depth, constant)
    else:
        diagonals = [np.diagonal(as_kernel(one)) for one in each_kernel(kernel)]
        shrunk = kernel if hasattr(kernel, "dims") else np.asarray(kernel)
        shrunk = shrunk / depth + constant
    least = min(float(diagonal.min()) for diagonal in diagonals)
    if least < bias * (1 - _ROUNDING):
        raise KernelError(
            f"kernel: its diagonal falls to {least:.6g}, below the {bias:.6g} of this network's output bias; pass the "
            "NTK that limit_kernel computed of the same network."
        )
    if checked is not None:
        return _rate_of_batches(shrunk, len(diagonals), y, initial, *checked)
    kernels = [shrunk] if is_operator(kernel) else each_kernel(shrunk)
    return min(2 / float(spectrum(one, 1).eigenvalue[0]) for one in kernels)


def _checked_batches(kernel: Any, y: Any, batch: Any, steps: Any, initial: Any) -> tuple[int, float] | None:
    """Inputs of a minibatch and steps. Raises InputError for what is given without what it belongs to."""
    needs = (("y", y, "batch", batch), ("steps", steps, "y", y), ("initial", initial, "y", y))
    for name, value, other, there in needs:
        if value is not None and there is None:
            raise InputError(f"{name}: it goes with {other}=, which is left out; give both, or neither.")
    if batch is None:
        return None
    if is_operator(kernel):
        raise KernelError("kernel: batch= takes all eigenvalues; pass the kernel itself, or leave batch out.")
    return whole_number("batch", batch), math.inf if steps is None else float(whole_number("steps", steps))


def _rate_of_batches(shrunk: Any, kernels: int, y: Any, initial: Any, batch: int, steps: float) -> float:
    """The largest rate at which minibatches end below the start, looked for from that of descent downwards."""
    if y is None:
        size = shrunk.shape[-1]  # nothing to learn
        y = np.zeros(size if kernels == 1 else (size, kernels))
    problem = LinearTraining.of(shrunk, y, initial)
    parts = problem.parts or (problem,)
    start = float(problem.power.sum())

    def ends_below(rate: float) -> bool:
        ends = 0.0
        for part in parts:
            moving = rate * np.maximum(part.values, 0.0)
            kept = 1 - float(np.sum(moving / (2 - moving))) / batch if moving[0] < 2 else 0.0
            if kept <= 0:
                return False
            ends += float((1 - part.flow(np.array([steps]), rate).fraction[0]) ** 2 @ part.power) / kept
        return ends <= start

    rates = 2 / problem.values[0] * np.geomspace(1, _LEAST, _RATES)
    below = next((k for k, rate in enumerate(rates) if ends_below(rate)), None)
    if below is None:
        raise InputError(
            f"batch, steps: in {steps:g} steps with batches of {batch} the noise outweighs what is learned at every "
            "rate; take more of either."
        )
    low, high = float(rates[below]), float(rates[max(below - 1, 0)])
    while high - low > _CLOSE * low:
        middle = (low + high) / 2
        low, high = (middle, high) if ends_below(middle) else (low, middle)
    return low


class _Shrunk(LinearOperator):
    """share K + constant, as an operator with a diagonal."""

    def __init__(self, kernel: Any, share: float, constant: float) -> None:
        super().__init__(dtype=np.dtype(np.float64), shape=kernel.shape)
        self.kernel, self.share, self.constant = kernel, share, constant

    def _matmat(self, block: FloatArray) -> FloatArray:
        return np.asarray(self.share * (self.kernel @ block) + self.constant * block.sum(axis=0, keepdims=True))

    def diagonal(self) -> FloatArray:
        return self.share * as_operator(self.kernel).diagonal() + self.constant
