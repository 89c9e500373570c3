"""Kernel regression and classification with limit kernels, and the kernels themselves, as scikit-learn has them.

Parameters are kept as they are given and read by ``fit``, so that ``clone``, ``set_params`` and GridSearchCV work; what
fitting learned ends in an underscore. X may be a DataFrame, whose columns are then asked for by name.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from graphon_theory.arrays import FloatArray
from graphon_theory.data.checks import instance, one_of, positive_number, share_kept, whole_number
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError, NetworkError
from graphon_theory.graphons.conversions import as_graphon
from graphon_theory.graphons.graphon import ConstantGraphon, StepGraphon
from graphon_theory.graphons.scaled import RowScaled
from graphon_theory.networks.network import Network
from graphon_theory.training.linear_training import LinearTraining

_BLOCK = 256  # new inputs whose variances are taken together: kernels between them are computed, diagonals kept

_DEEPEST = 10_000  # layers, far beyond what is trained


class _KernelOfNetwork(BaseEstimator):
    """What the estimators share: a network by its parameters, and its kernel."""

    def __init__(
        self,
        graphon: Any = None,
        density: float | None = None,
        *,
        depth: int = 3,
        activation: Any = "relu",
        weight_variance: Any = 2.0,
        bias_variance: Any = 0.1,
        network: Network | None = None,
        kernel: str = "ntk",
    ) -> None:
        self.graphon = graphon
        self.density = density
        self.depth = depth
        self.activation = activation
        self.weight_variance = weight_variance
        self.bias_variance = bias_variance
        self.network = network
        self.kernel = kernel

    def _network(self) -> Network:
        """The network that the parameters describe. Raises InputError and NetworkError where they do not."""
        if self.network is not None:
            if self.graphon is not None or self.density is not None:
                raise InputError("network: it has layers of its own; leave graphon and density out, or network.")
            given = instance("network", self.network, Network)
            if given.outputs != 1:
                raise NetworkError(
                    f"network: expected one output, whose kernel all targets share, got {given.outputs}; "
                    "dataclasses.replace(network, outputs=1)."
                )
            return given
        depth = whole_number("depth", self.depth, 2, _DEEPEST)
        if depth == 2 and (self.graphon is not None or self.density is not None):
            raise InputError("depth: with 2 there is no layer between hidden ones to hold graphon and density; take 3.")
        layers = [1.0, *[_mask(self.graphon, self.density)] * (depth - 2), 1.0]
        return Network(layers, self.activation, self.weight_variance, self.bias_variance)

    def _kernel(self, x: FloatArray, x2: FloatArray | None = None, network: Network | None = None) -> Any:
        name = one_of("kernel", self.kernel, ("ntk", "nngp"))
        return limit_kernel(network or self.network_, x, x2, progress=False)[name]

    def _checked(self, X: Any, y: Any = "no_validation", *, fitting: bool = False, **rules: Any) -> Any:
        """X (and y) as float64 arrays, held against what was seen when fitting."""
        given: dict[str, Any] = {"X": X, "y": y, "reset": fitting, "dtype": np.float64, **rules}
        try:
            from sklearn.utils.validation import validate_data
        except ImportError:  # before scikit-learn 1.6
            return self._validate_data(**given)
        return validate_data(self, **given)


def _mask(graphon: Any, density: Any) -> Any:
    """W of the layers between hidden ones: the graphon, brought to a mean where a density is asked for."""
    if density is None:
        return 1.0 if graphon is None else graphon
    share = share_kept("density", density)
    if graphon is None:
        return share
    shape = as_graphon(graphon)
    mean = shape.mean()
    if not mean > 0:
        raise InputError(f"graphon: expected a mean above 0 to be brought to density {share:g}, got {mean:g}.")
    factor = share / mean
    largest = factor * shape.extremes()[1]
    if largest > 1 + 1e-12:
        raise InputError(
            f"density: {share:g} would take this graphon to {largest:.4g}, and a mask holds at most 1; the densest of "
            f"its shape has {share / largest:.4g}."
        )
    if isinstance(shape, ConstantGraphon):
        return share
    if isinstance(shape, StepGraphon):
        return StepGraphon(np.minimum(factor * shape.values, 1.0), shape.u_edges, shape.v_edges)
    return RowScaled(shape, _Constant(factor))


class _Constant:
    """The same number at every position; a class, so that fitted estimators pickle."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, u: FloatArray) -> FloatArray:
        return np.full_like(u, self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constant) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


class _Ridge(_KernelOfNetwork):
    """Kernel ridge regression on targets: what regressor and classifier share."""

    def __init__(
        self,
        graphon: Any = None,
        density: float | None = None,
        *,
        depth: int = 3,
        activation: Any = "relu",
        weight_variance: Any = 2.0,
        bias_variance: Any = 0.1,
        network: Network | None = None,
        kernel: str = "ntk",
        ridge: float = 1e-6,
    ) -> None:
        super().__init__(
            graphon,
            density,
            depth=depth,
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=bias_variance,
            network=network,
            kernel=kernel,
        )
        self.ridge = ridge

    def _learn(self, x: FloatArray, targets: FloatArray) -> None:
        self.network_ = self._network()
        ridge = positive_number("ridge", self.ridge, zero=True)
        problem = LinearTraining.of(self._kernel(x), targets)
        self._response = problem.at_the_end(ridge).response
        self._functions = problem.functions
        self.X_fit_ = x
        dual = problem.functions @ (self._response[:, None] * problem.coefficients) / problem.size
        self.dual_coef_ = dual.reshape(len(x), *problem.shape)

    def _outputs(self, x: FloatArray, cross: FloatArray | None = None) -> FloatArray:
        return np.asarray((self._cross(x) if cross is None else cross) @ self.dual_coef_)

    def _cross(self, x: FloatArray) -> FloatArray:
        return np.asarray(self._kernel(x, self.X_fit_).values)


class GraphonKernelRegressor(MultiOutputMixin, RegressorMixin, _Ridge):
    """Kernel ridge regression with the limit kernel of a sparse network: training for infinite time, from f_0 = 0.

        f(x) = Theta(x, X) (Theta(X, X) + N ridge)^-1 y,

    as :func:`graphon_theory.kernel_regression` (THEORY §7).

    Parameters
    ----------
    graphon:
        W of every layer between hidden ones, what ``as_graphon`` takes; None is constant. First and last layer are
        dense. See ``network`` for whatever else.
    density:
        The mean of W: the graphon is multiplied by density / mean(W). None leaves it as it is (1 without one).
    depth:
        L, the number of weight layers, at least 2; 3 for a graphon or density.
    activation, weight_variance, bias_variance:
        As in :class:`graphon_theory.Network`. A bias_variance of 0 with "relu" leaves f homogeneous: f(2x) = 2 f(x).
    network:
        A Network with one output, in place of all above: other masks, laws (W, V, D), stages.
    kernel:
        "ntk" (all layers trained) or "nngp" (the last alone; the mean of the Gaussian process posterior).
    ridge:
        At least 0, in units of the operator Theta / N, as in `kernel_regression`.

    Attributes: ``network_``, ``X_fit_`` (N, d), ``dual_coef_`` (N,) or (N, k), ``n_features_in_``,
    ``feature_names_in_``.

    Inputs are taken as they are: standardise them before. The kernel takes N^2 numbers, fitting O(N^3) steps. Raises
    InputError and NetworkError (both ValueError) where parameters do not fit together. Targets (N, k) share the kernel.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn targets y (N,) or (N, k) at inputs X (N, d)."""
        x, targets = self._checked(X, y, fitting=True, multi_output=True, y_numeric=True)
        self._learn(x, targets)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """f(x) of new inputs, (M,) or (M, k); with ``return_std`` also the posterior's deviation (M,).

            var(x) = K(x, x) - K(x, X) (K + N ridge)^-1 K(X, x)

        is that of the function without noise, and stands for kernel="nngp" alone: the NTK is the covariance of no
        posterior. Raises InputError otherwise.
        """
        check_is_fitted(self)
        x = self._checked(X)
        if return_std and self.kernel != "nngp":
            raise InputError(
                'return_std: the NTK is no posterior\'s covariance; take kernel="nngp", or training_ensemble for the '
                "spread over networks."
            )
        cross = self._cross(x)
        mean = self._outputs(x, cross)
        if not return_std:
            return mean
        blocks = (x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK))
        prior = np.concatenate([np.diagonal(self._kernel(block).values) for block in blocks])
        explained = (cross @ self._functions / len(self.X_fit_)) ** 2 @ self._response
        return mean, np.sqrt(np.maximum(prior - explained, 0.0))  # rounding below zero only


class GraphonKernelClassifier(ClassifierMixin, _Ridge):
    """Classes by kernel ridge regression on targets of -1 and 1, one per class: the largest output wins.

    Parameters as in :class:`GraphonKernelRegressor`. Attributes: ``classes_``, ``network_``, ``X_fit_``,
    ``dual_coef_`` (N,) for two classes, (N, k) for more. Squared loss gives no probabilities: there is
    ``decision_function``, and ``sklearn.calibration.CalibratedClassifierCV`` makes some of it.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn classes y (N,), numbers or words, at inputs X (N, d)."""
        x, labels = self._checked(X, y, fitting=True)
        check_classification_targets(labels)
        coder = LabelBinarizer(neg_label=-1)
        targets = coder.fit_transform(labels).astype(np.float64)
        self.classes_ = coder.classes_
        if len(self.classes_) < 2:
            raise InputError(f"y: expected at least two classes, got 1 class, {self.classes_[0]!s:.40}.")
        self._learn(x, targets[:, 0] if targets.shape[1] == 1 else targets)
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """The outputs: (M,) for two classes, above 0 for the second, else (M, k)."""
        check_is_fitted(self)
        return self._outputs(self._checked(X))

    def predict(self, X: Any) -> Any:
        """The classes of new inputs, (M,)."""
        found = self.decision_function(X)
        return self.classes_[(found > 0).astype(int) if found.ndim == 1 else found.argmax(axis=1)]


class GraphonKernel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _KernelOfNetwork):
    """The limit kernel as a transformer: ``transform(X)`` is K(X, X_fit), (M, N).

    In a pipeline before ``SVC(kernel="precomputed")``, ``KernelRidge(kernel="precomputed")`` or ``KernelPCA``:
    ``fit_transform`` gives the square kernel of the training inputs, ``transform`` that of new by training inputs.
    Parameters as in :class:`GraphonKernelRegressor`. Attributes: ``network_``, ``X_fit_`` (N, d).
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Keep the inputs X (N, d) that kernels are taken with; y is not looked at."""
        self.X_fit_ = self._checked(X, fitting=True)
        self.network_ = self._network()
        one_of("kernel", self.kernel, ("ntk", "nngp"))
        return self

    def transform(self, X: Any) -> FloatArray:
        """K(X, X_fit), (M, N)."""
        check_is_fitted(self)
        return np.asarray(self._kernel(self._checked(X), self.X_fit_).values)

    @property
    def _n_features_out(self) -> int:
        return len(self.X_fit_)
