"""Limit kernels as scikit-learn estimators: the one wing that stands on scikit-learn (extra ``examples``)."""

from graphon_theory.data.checks import check_installed

check_installed("estimators and kernels for scikit-learn", {"scikit-learn": "sklearn"}, "examples")
