"""Heat maps show the numbers they were given, where they belong."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import graphon_theory as gt
from graphon_theory import plots
from graphon_theory.errors import InputError

STEP = gt.StepGraphon([[0.9, 0.1, 0.3], [0.2, 0.6, 0.0]], u_edges=[0, 0.3, 1], v_edges=[0, 0.25, 0.5, 1])
LAYER = gt.Connectivity([[0.5, 0.2]], [[0.3, 0.4]], [[0.1, -0.2]])
NETWORK = gt.Network([1.0, STEP, 1.0], bias_variance=0.1)
X = np.random.default_rng(0).standard_normal((6, 3))


def mesh_of(axes: Any) -> QuadMesh:
    (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    return mesh


def edges_of(axes: Any) -> tuple[np.ndarray, np.ndarray]:
    corners = np.asarray(mesh_of(axes).get_coordinates())
    return corners[:, 0, 1], corners[0, :, 0]


def maps_of(holder: Any) -> list[Any]:
    return [one for one in holder.figure.axes if one.collections and one.get_label() != "<colorbar>"]


def test_steps_stand_on_their_edges() -> None:
    axes = plots.graphon(STEP, ax=Figure())
    u, v = edges_of(axes)
    np.testing.assert_array_equal(u, STEP.u_edges)
    np.testing.assert_array_equal(v, STEP.v_edges)
    np.testing.assert_array_equal(np.asarray(mesh_of(axes).get_array()), STEP.values)
    assert axes.get_ylim() == (1.0, 0.0)  # receiving units downwards, as in a mask
    assert "sending" in axes.get_xlabel()
    assert "receiving" in axes.get_ylabel()
    bar = axes.figure.axes[1]
    assert bar.get_ylabel() == "$W(u, v)$"
    assert mesh_of(axes).get_clim() == (0.0, 0.9)


def test_other_kinds_are_parted_at_their_breaks() -> None:
    graphon = gt.as_graphon("Heaviside(u - 0.3337)*v")
    axes = plots.graphon(graphon, ax=Figure(), limits=(0, 2))
    u, v = edges_of(axes)
    assert 0.3337 in u
    middles = (u[1:] + u[:-1]) / 2, (v[1:] + v[:-1]) / 2
    np.testing.assert_array_equal(np.asarray(mesh_of(axes).get_array()), graphon(middles[0][:, None], middles[1]))
    assert mesh_of(axes).get_clim() == (0.0, 2.0)


def test_signs_are_symmetric_about_white() -> None:
    mesh = mesh_of(plots.graphon([[0.5, -0.2]], ax=Figure()))
    assert mesh.get_clim() == (-0.5, 0.5)
    assert np.allclose(mesh.get_cmap()(0.5), mpl.colormaps["PuOr"](0.5))


def test_all_layers_and_kinds_are_drawn_with_their_means() -> None:
    holder = plots.connectivity(gt.Network([1.0, LAYER, STEP, LAYER, LAYER, 1.0]), ax=Figure())
    drawn = maps_of(holder)
    assert len(drawn) == 18
    titles = [one.get_title() for one in drawn]
    assert titles.count("layer 2\nmean $W$ = 0.35") == 1
    assert titles.count("layer 2\nmean $V$ = 0.35") == 1
    assert titles.count("layer 2\nmean $D$ = -0.05") == 1
    variance = next(one for one in drawn if one.get_title() == "layer 2\nmean $V$ = 0.35")
    np.testing.assert_array_equal(np.asarray(mesh_of(variance).get_array()), LAYER.variance(0.5, [[0.2, 0.7]]))
    bars = [one.get_ylabel() for one in holder.figure.axes if one.get_label() == "<colorbar>"]
    assert sorted(set(bars)) == ["density of connections $W$", "drift $D$", "weight variance $V$"]


def test_one_plain_layer_is_one_panel() -> None:
    axes = plots.connectivity(gt.Connectivity(STEP), ax=Figure())
    assert maps_of(axes) == [axes]
    assert len(maps_of(plots.connectivity(LAYER, ax=Figure()))) == 3


def test_estimates_are_lists_of_layers() -> None:
    masks = [STEP.sample(40, 20, 0), STEP.sample(1, 40, 1)]
    found = gt.estimate_network(masks, blocks=4)
    drawn = maps_of(plots.connectivity(found, ax=Figure()))
    np.testing.assert_array_equal(np.asarray(mesh_of(drawn[0]).get_array()), found[0].mask.values)  # type: ignore[attr-defined]


def test_designs_name_their_inputs() -> None:
    options: dict[str, Any] = {"density": 0.4, "widths": (3, 20, 1), "blocks": 2}
    found = gt.design(
        gt.Network([1.0, 1.0], bias_variance=0.1), X, X[:, 0], **options, starts=1, iterations=2, holdout=0
    )
    holder = plots.design(found, ["age", "height", "dose"], ax=Figure())
    first = maps_of(holder)[0]
    assert [one.get_text() for one in first.get_xticklabels()] == ["age", "height", "dose"]
    np.testing.assert_allclose(first.get_xticks(), [1 / 6, 1 / 2, 5 / 6])
    np.testing.assert_array_equal(
        np.asarray(mesh_of(first).get_array()),
        found.network.layers[0].mask.values,  # type: ignore[attr-defined]
    )
    with pytest.raises(InputError, match="names: expected 3"):
        plots.design(found, ["age"])
    with pytest.raises(InputError, match="names: expected a list"):
        plots.design(found, 3)  # type: ignore[arg-type]


def test_kernels_are_drawn_and_sorted() -> None:
    kern = gt.limit_kernel(NETWORK, X)
    axes = plots.kernel(kern, ax=Figure())
    np.testing.assert_array_equal(np.asarray(mesh_of(axes).get_array()), kern.ntk.values)
    assert axes.get_ylim() == (5.5, -0.5)
    labels = np.array([1, 0, 1, 0, 2, 0])
    axes = plots.kernel(kern, ax=Figure(), kind="nngp", order=labels)
    order = [1, 3, 5, 0, 2, 4]
    np.testing.assert_array_equal(np.asarray(mesh_of(axes).get_array()), kern.nngp.values[np.ix_(order, order)])
    assert [np.asarray(line.get_ydata())[0] for line in axes.lines[::2]] == [2.5, 4.5]
    named = kern.ntk.assign_coords(x=list("abcdef"))
    assert [one.get_text() for one in plots.kernel(named, ax=Figure()).get_yticklabels()] == list("abcdef")
    several = gt.limit_kernel(gt.Network([1.0, STEP], outputs=2), X)
    shown = mesh_of(plots.kernel(several, output=1, ax=Figure())).get_array()
    np.testing.assert_array_equal(np.asarray(shown), several.ntk.values[1])


def test_densities_have_their_marginals() -> None:
    density = gt.kernel_density(NETWORK, X[0], X[1], 2)
    holder = plots.density(density, ax=Figure())
    (centre,) = maps_of(holder)
    np.testing.assert_array_equal(np.asarray(mesh_of(centre).get_array()), density.density.values)
    assert centre.get_ylim() == (1.0, 0.0)
    sums = gt.marginals(density)
    for end, side in (("sending", sums.sending), ("receiving", sums.receiving)):
        (axes,) = [one for one in holder.figure.axes if one.get_title().endswith(end)]
        (steps,) = [one for one in axes.patches if isinstance(one, StepPatch)]
        np.testing.assert_array_equal(steps.get_data()[0], side.values)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plots.graphon(NETWORK), "graphon: expected one graphon, got a Network"),
        (lambda: plots.graphon("u +"), "graphon: "),
        (lambda: plots.graphon(STEP, limits=(1, 0)), "limits: expected two numbers"),
        (lambda: plots.graphon(STEP, ax=3), "ax: expected matplotlib Axes"),  # type: ignore[arg-type]
        (lambda: plots.connectivity(STEP), "layers: expected a Connectivity"),
        (lambda: plots.connectivity([]), "layers: expected a Connectivity"),
        (lambda: plots.design(NETWORK), "found: expected the Design"),  # type: ignore[arg-type]
        (lambda: plots.kernel(X[0]), "kernel: expected a matrix"),
        (lambda: plots.kernel([[np.nan]]), "kernel: 1 of 1"),
        (lambda: plots.kernel(X @ X.T, order=[1]), "order: expected 6 labels"),
        (lambda: plots.kernel(X @ X.T, kind="ntkk"), "kind: expected one of ntk, nngp"),
        (lambda: plots.density(gt.limit_kernel(NETWORK, X)), "density: expected the Dataset"),
    ],
)
def test_wrong_input_is_named(call: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        call()
