"""A limit kernel as the covariance of scikit-learn's Gaussian processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import as_inputs, instance, one_of
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.networks.network import Network

_BLOCK = 256  # inputs whose variances are taken together: kernels between them are computed, diagonals kept
_STEP = 1e-3  # in the logarithm of a variance
_DIFFERENCES = ((2, -1 / 12), (1, 2 / 3), (-1, -2 / 3), (-2, 1 / 12))  # of fourth order


class GraphonGPKernel(Kernel):
    """The limit kernel of a sparse network as a kernel of ``sklearn.gaussian_process``.

    K(x, x') = NNGP(x, x'), the covariance of the outputs of wide networks at the start, or the NTK, with the variances
    of weights and biases as hyperparameters: ``GaussianProcessRegressor(GraphonGPKernel(network), alpha=noise)`` finds
    those that make the targets most likely, as :func:`graphon_theory.fit` does.

    Parameters
    ----------
    network:
        A plain Network with one output, of which layers and activations are taken; None: a dense one with two hidden
        ReLU layers.
    weight_variance, bias_variance:
        sigma_w^2 and sigma_b^2, in place of the network's: one number for all layers, or one a layer. Biases that are
        all 0 stay away.
    kernel:
        "nngp" or "ntk".
    weight_variance_bounds, bias_variance_bounds:
        (least, largest), one pair or one a layer, or "fixed".

    ``theta`` holds natural logarithms, as everywhere in scikit-learn. ``eval_gradient`` gives the kernel's derivative
    in them by differences of fourth order, right to about 1e-10 where graphons are constant or steps: scikit-learn asks
    for it pair by pair, while :func:`graphon_theory.kernel_gradient`, on which `fit` and ``gv.GraphonGPyTorchKernel``
    stand, is exact for a sum over pairs. A homogeneous activation without biases leaves only the product of the weight
    variances to be found.

    Raises InputError and NetworkError, when it is called, where parameters do not fit together.
    """

    def __init__(
        self,
        network: Network | None = None,
        weight_variance: Any = 2.0,
        bias_variance: Any = 0.1,
        *,
        kernel: str = "nngp",
        weight_variance_bounds: Any = (1e-3, 1e3),
        bias_variance_bounds: Any = (1e-3, 1e3),
    ) -> None:
        self.network = network
        self.weight_variance = weight_variance
        self.bias_variance = bias_variance
        self.kernel = kernel
        self.weight_variance_bounds = weight_variance_bounds
        self.bias_variance_bounds = bias_variance_bounds

    @property
    def hyperparameter_weight_variance(self) -> Hyperparameter:
        """sigma_w^2 as scikit-learn moves it."""
        return _hyperparameter("weight_variance", self.weight_variance, self.weight_variance_bounds)

    @property
    def hyperparameter_bias_variance(self) -> Hyperparameter:
        """sigma_b^2 as scikit-learn moves it; fixed where biases are 0."""
        bounds = "fixed" if not np.any(self.bias_variance) else self.bias_variance_bounds
        return _hyperparameter("bias_variance", self.bias_variance, bounds)

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False) -> Any:
        """K(X, Y), (N, M); with ``eval_gradient``, for Y None, also dK / d theta (N, N, hyperparameters)."""
        if eval_gradient and Y is not None:
            raise InputError("eval_gradient: the gradient is that of the kernel of one set of inputs; leave Y out.")
        x = as_inputs(X, "X")
        network = self._network()
        value = self._values(network, x, None if Y is None else as_inputs(Y, "Y", like=x))
        return (value, self._gradient(network, x)) if eval_gradient else value

    def diag(self, X: ArrayLike) -> FloatArray:
        """K(x, x) of every input, (N,)."""
        x, network = as_inputs(X, "X"), self._network()
        blocks = (x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK))
        return np.concatenate([np.diagonal(self._values(network, block)) for block in blocks])

    def is_stationary(self) -> bool:
        """False: the kernel knows lengths of inputs."""
        return False

    def __repr__(self) -> str:
        return f"GraphonGPKernel({self.kernel}, {self.weight_variance!s:.40}, {self.bias_variance!s:.40})"

    def _network(self) -> Network:
        """The network at the variances that stand. Raises InputError and NetworkError where there is none."""
        one_of("kernel", self.kernel, ("nngp", "ntk"))
        base = Network([1.0, 1.0, 1.0]) if self.network is None else instance("network", self.network, Network)
        if base.outputs != 1:
            raise NetworkError(
                f"network: expected one output, whose kernel all targets share, got {base.outputs}; "
                "dataclasses.replace(network, outputs=1)."
            )
        scales = {name: np.asarray(getattr(self, name)).tolist() for name in ("weight_variance", "bias_variance")}
        return base.changed(**scales)

    def _values(self, network: Network, x: FloatArray, x2: FloatArray | None = None) -> FloatArray:
        return np.asarray(limit_kernel(network, x, x2, progress=False)[self.kernel].values)

    def _gradient(self, network: Network, x: FloatArray) -> FloatArray:
        columns = []
        for one in self.hyperparameters:
            if one.fixed:
                continue
            values = np.atleast_1d(np.asarray(getattr(self, one.name), dtype=float))
            for place in range(one.n_elements):
                total = np.zeros((len(x), len(x)))
                for steps, weight in _DIFFERENCES:
                    moved = values.copy()
                    moved[place] *= np.exp(steps * _STEP)
                    given = moved.tolist() if one.n_elements > 1 else float(moved[0])
                    total += weight / _STEP * self._values(network.changed(**{one.name: given}), x)
                columns.append(total)
        return np.stack(columns, axis=2) if columns else np.empty((len(x), len(x), 0))


def _hyperparameter(name: str, value: Any, bounds: Any) -> Hyperparameter:
    """Of one number, or of one a layer."""
    numbers = np.atleast_1d(np.asarray(value, dtype=float))
    if numbers.ndim != 1 or not (np.isfinite(numbers).all() and (numbers >= 0).all()):
        raise InputError(f"{name}: expected a number of at least 0, or one a layer, got {value!s:.60}.")
    if not isinstance(bounds, str) and not (numbers > 0).all():
        raise InputError(f"{name}: some layers have 0, which has no logarithm to be moved; give {name}_bounds='fixed'.")
    return Hyperparameter(name, "numeric", bounds, len(numbers))
