"""Write ``tests/data/problems.npz``: the references of the table of problems.

    python -m tests.tools.make_problem_references [NAME ...]

Each problem is resolved twice, with different orders, gradings and panels; the finer result is stored, and
the distance between the two as its ``resolution_error``. With names, only those are computed and merged into
the file.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.problem_parts import DATA
from tests.problems import BY_NAME
from tests.reference import relative_error
from tests.tools.brute_force import Curve, Hints, Kernels, Resolution, resolve

COARSE = Resolution(order=20, ratio=0.5, levels=36, pieces=1)
FINE = Resolution(order=32, ratio=0.25, levels=18, pieces=2)

DIAGONAL: tuple[Curve, ...] = ((lambda u: u, lambda v: v),)
SHIFTED: tuple[Curve, ...] = ((lambda u: u - 0.25, lambda v: v + 0.25),)
PARABOLA: tuple[Curve, ...] = ((lambda u: u * u, np.sqrt),)
ANTIDIAGONAL: tuple[Curve, ...] = ((lambda u: 1 - u, lambda v: 1 - v),)
CIRCLE: tuple[Curve, ...] = ((lambda u: np.sqrt(1 - u * u), lambda v: np.sqrt(1 - v * v)),)
BESIDE: tuple[Curve, ...] = (
    (lambda u: u - 0.0625, lambda v: v + 0.0625),
    (lambda u: u + 0.0625, lambda v: v - 0.0625),
)
QUARTERS = (0.25, 0.5, 0.75)
THIRDS = (1 / 3, 2 / 3)
FINELY = tuple(i / 32 for i in range(1, 32))
START, END = (0.0,), (1.0,)

# Edges and singular points per hidden layer, kink curves per weight layer; what is not listed is smooth. A
# relu layer with bias whose W(u, .) vanishes at u = 0 (or 1) has K = sigma_b^2 for every pair there, so rho
# reaches 1 and Cdot leaves 1/2 like a root of u: that end is singular for it, and for what a diagonal kink
# carries it to.
HINTS: dict[str, Hints] = {
    "step_equal": Hints(edges=((0.5,), (0.5,), (0.5,))),
    "step_unequal": Hints(edges=((0.3, 0.5), (0.25, 0.6, 0.35), (0.7, 0.1, 0.9)), input_edges=(0.5,)),
    "step_variance": Hints(edges=((0.3, 0.4, 0.5, 0.6, 0.8), (0.2,))),
    "step_input_cells": Hints(edges=((0.45,), ()), input_edges=(0.3,)),
    "dead_block": Hints(edges=((0.3, 0.5), (0.25, 0.75), (0.5,)), input_edges=(0.5,)),
    "minimum": Hints(singular=((), START, START), curves=((), DIAGONAL, DIAGONAL, ())),
    "minimum_identity": Hints(curves=((), DIAGONAL, DIAGONAL, ())),
    "distance": Hints(curves=((), DIAGONAL, DIAGONAL, ())),
    "heaviside": Hints(singular=((), START, START), curves=((), DIAGONAL, DIAGONAL, ())),
    "heaviside_up": Hints(curves=((), DIAGONAL, DIAGONAL, ())),
    "piecewise": Hints(curves=((), DIAGONAL, DIAGONAL, ())),
    "variance_kink": Hints(singular=((), (), START), curves=((), (), DIAGONAL, ())),
    "erf_bias_kink": Hints(curves=((), DIAGONAL, DIAGONAL, ())),
    "identity_asymmetric": Hints(curves=((), DIAGONAL, (), ())),
    "kink_after_jump": Hints(
        edges=((), (0.375,), (0.375,), (0.375,)),
        singular=((), (), START, START),
        curves=((), (), DIAGONAL, DIAGONAL, ()),
    ),
    "jump_travels_far": Hints(
        edges=((0.3,), (0.3,), (0.3,), (0.3, 0.6)),
        singular=((), START, START, (0.0, 1.0)),
        curves=((), DIAGONAL, DIAGONAL, DIAGONAL, ()),
    ),
    "step_between_kinks": Hints(
        edges=((), (0.55,), (0.2,), (0.2,)),
        singular=((), START, (), START),
        curves=((), DIAGONAL, (), DIAGONAL, ()),
    ),
    "dead_corner": Hints(edges=((0.25,), (0.5,), (0.25, 0.75)), curves=((), (), SHIFTED, ())),
    "dead_corner_erf": Hints(edges=((0.25,), (0.5,), (0.25, 0.75)), curves=((), (), SHIFTED, ())),
    "dead_edge": Hints(edges=((), (0.25,), (0.25,)), curves=((), (), DIAGONAL, ())),
    "dead_readout": Hints(edges=((), (0.625,)), singular=((), START), curves=((), DIAGONAL, ())),
    "smooth_input_under_kink": Hints(curves=((), DIAGONAL, ())),
    "kinked_input_minimum": Hints(edges=(QUARTERS, ()), curves=(DIAGONAL, (), ())),
    "kinked_input_distance": Hints(edges=(THIRDS, THIRDS, ()), curves=(DIAGONAL, DIAGONAL, (), ())),
    "rank_transition": Hints(edges=(QUARTERS, ()), singular=((0.25, 0.5), ()), curves=(DIAGONAL, (), ())),
    "rank_transition_deep": Hints(
        edges=(QUARTERS,) * 3, singular=((0.25, 0.5),) * 3, curves=(DIAGONAL, DIAGONAL, DIAGONAL, ())
    ),
    "rank_transition_erf": Hints(edges=(QUARTERS,) * 2, curves=(DIAGONAL, DIAGONAL, ())),
    "one_input": Hints(curves=(DIAGONAL, (), ())),
    "one_input_bias": Hints(singular=((), START), curves=((), DIAGONAL, ())),
    "one_layer": Hints(curves=(DIAGONAL,), output_edges=QUARTERS),
    "one_layer_outputs": Hints(curves=(DIAGONAL,), output_edges=QUARTERS),
    "deep": Hints(curves=((), (), DIAGONAL, (), DIAGONAL, ())),
    "three_outputs": Hints(edges=((), THIRDS), curves=((), (), DIAGONAL)),
    "two_outputs_kinked": Hints(edges=((), (0.5,)), curves=((), DIAGONAL, DIAGONAL)),
    "standard_parameterization": Hints(singular=((), (), START), curves=((), (), DIAGONAL, ())),
    "sqrt_singular": Hints(singular=(START, START, START)),
    "kink_parabola": Hints(singular=((), END, END), curves=((), PARABOLA, PARABOLA, ())),
    "kink_antidiagonal": Hints(
        edges=((), (0.375,), (0.625,), (0.625,)),
        singular=((), (), (), START),
        curves=((), (), ANTIDIAGONAL, DIAGONAL, ()),
    ),
    "circle_arc": Hints(singular=((), END, (0.0, 1.0)), curves=((), CIRCLE, CIRCLE, ())),
    "box_oscillating": Hints(edges=(FINELY, FINELY), singular=((), START)),
    "box_arc": Hints(singular=((), END), curves=((), CIRCLE, ())),
    "box_capped": Hints(edges=((), (0.0625, 0.9375)), curves=((), BESIDE, ())),
    "box_diagonal": Hints(singular=((), START), curves=((), DIAGONAL, ())),
    "box_edges": Hints(edges=((0.75,), (0.375,))),
}


def distance(a: Kernels, b: Kernels) -> float:
    """The largest move of any kernel between two resolutions, relative to sqrt(K_ii K_jj)."""
    moves = [relative_error(a.nngp, b.nngp).max(), relative_error(a.ntk, b.ntk).max()]
    scale = np.einsum("...ii->...i", b.ntk)
    scale = np.sqrt(scale[..., :, None] * scale[..., None, :])
    layer = np.abs(a.ntk_layer - b.ntk_layer)
    moves.append(
        np.divide(layer, scale, out=np.where(layer == 0, 0, np.inf).astype(scale.dtype), where=scale > 0).max()
    )
    return float(max(moves))


def reference(name: str) -> tuple[Kernels, float]:
    """The finer of two resolutions of one problem, and their distance."""
    problem, hints = BY_NAME[name], HINTS.get(name, Hints())
    fine = resolve(problem, hints, FINE)
    return fine, distance(resolve(problem, hints, COARSE), fine)


def main(names: list[str]) -> None:
    """Compute the named problems (all if none is named) and replace the data file in one move."""
    arrays: dict[str, NDArray[Any]] = {}
    if names:
        with np.load(DATA) as archive:
            arrays.update({key: archive[key] for key in archive.files if key.split("/")[0] in BY_NAME})
    for problem in BY_NAME.values():
        if names and problem.name not in names:
            continue
        start = time.perf_counter()
        kernels, error = reference(problem.name)
        seconds = time.perf_counter() - start
        print(f"{problem.name:26s} nodes {kernels.nodes!s:28s} moved {error:.1e}  {seconds:5.1f} s", flush=True)
        for key in ("nngp", "ntk", "ntk_layer"):
            arrays[f"{problem.name}/{key}"] = getattr(kernels, key).astype(np.float64)
        arrays[f"{problem.name}/resolution_error"] = np.array(error)
        arrays[f"{problem.name}/fingerprint"] = np.array(problem.fingerprint)
    temporary = DATA.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, allow_pickle=False, **arrays)
    os.replace(temporary, DATA)
    print(f"{DATA.name}: {len(arrays) // 5} problems")


if __name__ == "__main__":
    main(sys.argv[1:])
