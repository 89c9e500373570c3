"""Figures show the numbers they were given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle, StepPatch

from graphon_theory.engine.densities import kernel_density, marginals
from graphon_theory.engine.limits import limit_kernel
from graphon_theory.errors import InputError
from graphon_theory.networks.network import Network
from graphon_theory.reports.figures import contributions_figure, density_figure, save_figure

NETWORK = Network([1.0, [[0.9, 0.1, 0.3], [0.2, 0.6, 0.0]], 1.0], bias_variance=0.1)
X = np.random.default_rng(0).standard_normal((4, 3))


def test_contributions_are_shares_of_the_whole(tmp_path: Path) -> None:
    figure = contributions_figure(limit_kernel(NETWORK, X, contributions=True))
    (axes,) = figure.axes
    heights = np.array([bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]).reshape(2, 3)
    np.testing.assert_allclose(heights.sum(axis=1), 100, rtol=1e-12)
    shares = limit_kernel(NETWORK, X, contributions=True).ntk_layer.values
    np.testing.assert_allclose(heights[0], 100 * np.trace(shares, axis1=1, axis2=2) / np.trace(shares.sum(axis=0)))
    save_figure(figure, tmp_path / "shares.png")
    assert (tmp_path / "shares.png").stat().st_size > 1000
    with pytest.raises(InputError, match="contributions=True"):
        contributions_figure(limit_kernel(NETWORK, X))


def test_density_figure_draws_rows_downwards_and_its_marginals(tmp_path: Path) -> None:
    density = kernel_density(NETWORK, X[0], X[1], 2)
    figure = density_figure(density)
    centre, above, beside = figure.axes[:3]
    (mesh,) = [c for c in centre.collections if isinstance(c, QuadMesh)]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).ravel(), density.density.values.ravel())
    assert centre.get_ylim() == (1.0, 0.0)
    sums = marginals(density)
    for axes, side in ((above, sums.sending), (beside, sums.receiving)):
        (steps,) = [p for p in axes.patches if isinstance(p, StepPatch)]
        np.testing.assert_allclose(steps.get_data()[0], side.values)
    save_figure(figure, tmp_path / "density.png")
    assert (tmp_path / "density.png").stat().st_size > 1000


def test_contributions_need_the_inputs_with_themselves() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3))
    network = Network([1.0, 0.5, 1.0])
    for other in (x[:2], x + 1):
        with pytest.raises(InputError, match="inputs with themselves"):
            contributions_figure(limit_kernel(network, x, other, contributions=True))
    # orthogonal inputs of a linear network share nothing: the bar of pairs is left out
    alone = contributions_figure(limit_kernel(Network([1.0, 1.0], "identity"), np.eye(3), contributions=True))
    assert len(alone.axes[0].patches) == 2
