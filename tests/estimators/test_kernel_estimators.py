"""Estimators: scikit-learn's own checks, and the numbers of kernel_regression and nngp_posterior."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import graphon_theory as gt

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

Array = NDArray[np.float64]
STEP = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]], u_edges=[0, 0.3, 1], v_edges=[0, 0.5, 1])
RNG = np.random.default_rng(8)
X, NEW = RNG.standard_normal((30, 4)), RNG.standard_normal((7, 4))
Y = np.sin(X[:, 0]) + X[:, 1]


@pytest.mark.parametrize("estimator", [gt.GraphonKernelRegressor(), gt.GraphonKernelClassifier(), gt.GraphonKernel()])
@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks warn of what they try
def test_scikit_learns_checks(estimator: Any) -> None:
    check_estimator(estimator)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_the_regressor_is_kernel_regression(kernel: str, ridge: float) -> None:
    made = gt.GraphonKernelRegressor(STEP, 0.3, depth=4, activation="erf", kernel=kernel, ridge=ridge).fit(X, Y)
    scaled = gt.StepGraphon(STEP.values * 0.3 / STEP.mean(), STEP.u_edges, STEP.v_edges)
    network = gt.Network([1.0, scaled, scaled, 1.0], "erf", 2.0, 0.1)
    kernels = gt.limit_kernel(network, X)[kernel], gt.limit_kernel(network, NEW, X)[kernel]
    wanted = gt.kernel_regression(kernels[0], Y, kernels[1], ridge=ridge)
    np.testing.assert_allclose(made.predict(NEW), wanted.test_prediction, rtol=1e-8)
    np.testing.assert_allclose(made.predict(X), wanted.prediction, rtol=1e-7)
    both = clone(made).fit(X, np.column_stack([Y, -2 * Y])).predict(NEW)
    np.testing.assert_allclose(both, np.outer(wanted.test_prediction, [1, -2]), rtol=1e-8)


def test_the_deviation_is_that_of_the_posterior() -> None:
    made = gt.GraphonKernelRegressor(density=0.5, kernel="nngp", ridge=1e-2).fit(X, Y)
    network = gt.Network([1.0, 0.5, 1.0], bias_variance=0.1)
    nngp, cross = gt.limit_kernel(network, X).nngp, gt.limit_kernel(network, NEW, X).nngp
    prior = np.diagonal(gt.limit_kernel(network, NEW).nngp)
    wanted = gt.nngp_posterior(nngp, Y, cross, prior, noise=1e-2 * len(X))
    mean, deviation = made.predict(NEW, return_std=True)
    np.testing.assert_allclose(mean, wanted["mean"], rtol=1e-9)
    np.testing.assert_allclose(deviation**2, wanted.variance, rtol=1e-8)
    with pytest.raises(gt.InputError, match='take kernel="nngp"'):
        clone(made).set_params(kernel="ntk").fit(X, Y).predict(NEW, return_std=True)


def test_the_classifier_takes_the_largest_output() -> None:
    words = np.array(["a", "b", "c"])[np.digitize(Y, [-0.5, 0.5])]
    made = gt.GraphonKernelClassifier(STEP, ridge=1e-4).fit(X, words)
    kernels = gt.GraphonKernel(STEP).fit(X)
    targets = np.where(words[:, None] == made.classes_, 1.0, -1.0)
    wanted = gt.kernel_regression(kernels.transform(X), targets, kernels.transform(NEW), ridge=1e-4).test_prediction
    np.testing.assert_allclose(made.decision_function(NEW), wanted, rtol=1e-7)
    assert list(made.predict(NEW)) == [made.classes_[k] for k in np.argmax(wanted.values, axis=1)]
    two = clone(made).fit(X, Y > 0)
    assert two.decision_function(NEW).shape == (7,)
    np.testing.assert_array_equal(two.predict(NEW), two.decision_function(NEW) > 0)
    with pytest.raises(gt.InputError, match="at least two classes"):
        clone(made).fit(X, np.ones(30, dtype=int))


def test_the_kernel_serves_precomputed_machines() -> None:
    network = gt.Network([1.0, gt.Connectivity(0.4, 0.9), 1.0], "gelu", 1.5, 0.2)
    kernel = gt.GraphonKernel(network=network, kernel="nngp")
    np.testing.assert_allclose(kernel.fit_transform(X), gt.limit_kernel(network, X).nngp, rtol=1e-12)
    np.testing.assert_allclose(kernel.transform(NEW), gt.limit_kernel(network, NEW, X).nngp, rtol=1e-12)
    piped = make_pipeline(StandardScaler(), kernel, SVC(kernel="precomputed", C=100.0)).fit(X, Y > 0)
    assert piped.score(X, Y > 0) == 1.0


@pytest.mark.parametrize("graphon", [gt.AnalyticGraphon("exp(-3*(u - v)**2)"), gt.ConstantGraphon(0.9)])
def test_a_density_is_the_mean_of_the_mask(graphon: gt.Graphon) -> None:
    made = gt.GraphonKernelRegressor(graphon, 0.2).fit(X, Y)
    mask = made.network_.layers[1].mask
    assert mask.mean() == pytest.approx(0.2, rel=1e-10)
    np.testing.assert_allclose(mask(0.2, 0.7), 0.2 / graphon.mean() * graphon(0.2, 0.7), rtol=1e-10)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).predict(NEW), made.predict(NEW))


def test_a_grid_over_densities_and_graphons() -> None:
    grid = {"density": [0.1, 0.3], "graphon": [None, STEP], "ridge": [1e-3, 1.0]}
    found = GridSearchCV(gt.GraphonKernelRegressor(), grid, cv=2, error_score="raise").fit(X, Y)
    assert len(found.cv_results_["params"]) == 8
    assert found.best_params_["ridge"] == 1e-3
    score = found.cv_results_["mean_test_score"][found.best_index_]
    halves = [(slice(15, 30), slice(0, 15)), (slice(0, 15), slice(15, 30))]
    alone = gt.GraphonKernelRegressor(**found.best_params_)
    assert score == pytest.approx(np.mean([clone(alone).fit(X[a], Y[a]).score(X[b], Y[b]) for a, b in halves]))


def test_data_frames_go_by_their_columns() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    made = gt.GraphonKernelRegressor().fit(frame, pd.Series(Y))
    assert list(made.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(made.predict(frame), gt.GraphonKernelRegressor().fit(X, Y).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        made.predict(frame[list("bacd")])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"density": 0.9, "graphon": STEP}, "the densest of its shape has 0.4778"),
        ({"density": 0.0}, "density: expected a share of weights kept"),
        ({"density": 0.5, "depth": 2}, "depth: with 2 there is no layer between hidden ones"),
        ({"depth": 1}, "depth: expected"),
        ({"graphon": 0.0, "density": 0.5}, "graphon: expected a mean above 0"),
        ({"kernel": "ntks"}, "did you mean 'ntk'"),
        ({"ridge": -1.0}, "ridge: expected a number of at least 0"),
        ({"network": gt.Network([1.0, 1.0]), "density": 0.5}, "network: it has layers of its own"),
        ({"network": gt.Network([1.0, 1.0], outputs=2)}, "network: expected one output"),
        ({"network": 3}, "network: expected a Network, got int"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_when_fitting(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(gt.GraphonError, match=message):
        gt.GraphonKernelRegressor(**parameters).fit(X, Y)
    with pytest.raises(NotFittedError):
        gt.GraphonKernelRegressor(**parameters).predict(X)


def test_without_scikit_learn_the_names_say_what_they_need() -> None:
    script = """
import sys
sys.modules["sklearn"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "sklearn" else find(name, package)
import graphon_theory as gt
try:
    gt.GraphonKernelRegressor
except gt.GraphonError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {name for name in gt.__all__ if name.startswith("GraphonKernel")}  # `import *` does without
    assert "needs scikit-learn, not installed here; run: pip install 'graphon-theory[examples]'" in done.stdout
