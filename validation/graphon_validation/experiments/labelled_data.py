"""Small data sets by name for experiments that prune on labels: scikit-learn's, standardised, and a linear teacher."""

from __future__ import annotations

import numpy as np

from graphon_theory.data.checks import check_installed, one_of
from graphon_validation.experiments.digits import digits
from graphon_validation.training.losses import Data

SETS = ("digits", "breast_cancer", "wine", "iris", "classification", "teacher")
COUNT = 400  # inputs of the sets that are drawn


def labelled_data(name: str, seed: int = 0) -> Data:
    """Inputs (N, d) in an order drawn from ``seed`` (digits in their own), with labels (N,) or targets (N, k).

    "classification": 20 inputs, 8 of which tell three classes (scikit-learn's make_classification); "teacher": 15
    normal inputs and three linear targets of variance 1, for the squared loss. Raises InputError for another name.
    """
    one_of("data", name, SETS)
    if name == "digits":
        return digits()
    rng = np.random.default_rng(seed)
    if name == "teacher":
        x = rng.standard_normal((COUNT, 15))
        return x, x @ rng.standard_normal((15, 3)) / np.sqrt(15)
    check_installed(name, {"scikit-learn": "sklearn"}, "examples")
    from sklearn import datasets

    if name == "classification":
        x, labels = datasets.make_classification(
            COUNT, n_features=20, n_informative=8, n_classes=3, random_state=np.random.RandomState(seed)
        )
    else:
        x, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = rng.permutation(len(x))
    return ((x - x.mean(0)) / x.std(0))[order], labels[order]
