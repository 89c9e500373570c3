"""Statements of pages about finite networks: the command whose results each is read from, and its words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

Figures = Mapping[str, Any]
VALIDATION, THEORY, README = "docs/validation.md", "docs/theory.md", "README.md"
SOUND = ("random", "magnitude", "synflow")
LABEL = {"random": "random", "magnitude": "magnitude", "synflow": "SynFlow", "snip": "SNIP", "grasp": "GraSP"}
LINE = 120


@dataclass(frozen=True)
class Statement:
    """What one command measures: the files it writes, the figures read from them, and by marker (page, words)."""

    name: str
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    read: Callable[..., dict[str, Any]]
    writes: Mapping[str, tuple[str, Callable[[Figures], str]]]

    @property
    def command(self) -> str:
        return " ".join(("python -m graphon_validation", *self.arguments))


def paragraph(text: str) -> str:
    """Folded as pages are."""
    return textwrap.fill(" ".join(text.split()), LINE, break_long_words=False, break_on_hyphens=False)


def signed(value: float, digits: int) -> str:
    """With a sign in front, a true minus; nothing before a zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def at_most(value: float) -> str:
    """Two decimals, rounded up."""
    return f"{math.ceil(100 * value) / 100:.2f}"


def at_least(value: float) -> str:
    """Two decimals, rounded down."""
    return f"{math.floor(100 * value) / 100:.2f}"


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _ends(values: DataArray) -> list[float]:
    return [float(values.min()), float(values.max())]


def _with_errors(means: DataArray, errors: DataArray) -> list[list[float]]:
    return [list(pair) for pair in zip(means.values.tolist(), errors.values.tolist(), strict=True)]


# --- the score of sound layers --------------------------------------------------------------------


def _read_scores(found: Dataset) -> dict[str, Any]:
    from graphon_validation.experiments.sign_experiments import beyond

    return {
        "width": int(found.width[0]),
        "layers": int(found.z.size),
        **{name: list(beyond(found[name].values)) for name in ("deviation", "z")},
    }


def _write_scores(found: Figures) -> str:
    (above, below), (z_above, z_below) = found["deviation"], found["z"]
    return paragraph(
        f"The sum has few effective terms and is skewed: as a score against mean and deviation alone, "
        f"{_percent(above)} of {found['layers']:,} sound layers ({found['width']} wide; `sign-scores`) lie above $+3$ "
        f"and {_percent(below)} below $-3$, where 0.135% each are due; with the lognormal law of three moments that "
        f"`applicability` uses it is {_percent(z_above)} and {_percent(z_below)}."
    )


def _write_scores_short(found: Figures) -> str:
    return f"{sum(found['deviation']):.1%}"


# --- the sign test on every way to prune ----------------------------------------------------------

_APPLIES, _DRIFTS, _NO_LIMIT = range(3)  # in VERDICTS


def _read_signs(found: Dataset) -> dict[str, Any]:
    from graphon_validation.studies.sign_tests import VERDICTS

    methods = {}
    for method in found["pruning"].values:
        one = found.sel(pruning=method).isel(density=0, hidden=0)
        later = one.sel(layer=slice(2, None))
        # the rule of applicability for one width
        if bool((abs(one.z) < 3).all()):
            verdict = _APPLIES
        else:
            verdict = _NO_LIMIT if bool((later.alignment > 1 / 3).any()) else _DRIFTS
        errors = np.sqrt((later.growth_error**2).mean("seed") / one.sizes["seed"])
        methods[str(method)] = {
            "A": [one.A.sel(width=width).values.tolist() for width in one.width],
            "z": [_ends(one.z.sel(width=width)) for width in one.width],
            "gain": _ends(one.gain),
            "alignment": _ends(later.alignment),
            "growth": _with_errors(later.growth.mean("seed"), errors),
            "verdict": VERDICTS[verdict],
        }
    return {"widths": found.width.values.tolist(), "methods": methods}


def _write_signs(found: Figures) -> str:
    heads = [f"n = {width:,}: A per layer, z" for width in found["widths"]]
    rows = [f"| | {' | '.join(heads)} | verdict |", "|---|" + "---|" * (len(heads) + 1)]
    for method, one in found["methods"].items():
        cells = []
        for factors, ends in zip(one["A"], one["z"], strict=True):
            if method in SOUND:
                values = [a for network in factors for a in network]
                shown = f"{min(values):.2f}–{max(values):.2f}"
            else:
                shown = " and ".join(" ".join(f"{a:#.3g}".rstrip(".") for a in network) for network in factors)
            low, high = (signed(z, 1).lstrip("+") for z in ends)
            cells.append(f"{shown}, z from {low} to {high}")
        rows.append(f"| {LABEL[method]} | {' | '.join(cells)} | {one['verdict']} |")
    return "\n".join(rows)


def _growth(one: Figures) -> str:
    return " and ".join(f"{signed(mean, 2)} ± {error:.2f}" for mean, error in one["growth"])


def _write_signs_below(found: Figures) -> str:
    snip, grasp = found["methods"]["snip"], found["methods"]["grasp"]
    first, last = found["widths"][0], found["widths"][-1]
    (low, high), (least, most) = grasp["alignment"], snip["gain"]
    return paragraph(
        f"Alignment in the hidden layers beyond the first: at most {at_most(snip['alignment'][1])} for SNIP, "
        f"{at_least(low)}–{at_most(high)} for GraSP; "
        f"the bound is 1/3. Growth from {first:,} to {last:,} in layers 2 and 3: SNIP {_growth(snip)}; GraSP "
        f"{_growth(grasp)} (in the first layer the fan-in is d, and nothing grows). For ReLU A cannot exceed 2 × gain, "
        f"and SNIP's gain is {at_least(least)}–{at_most(most)}: its masks choose on which side of zero a unit is, and "
        f"leave the size of its signal as it was."
    )


# --- alignment over densities, depths and widths --------------------------------------------------

_ALIGNMENTS = "sign-test --methods snip grasp --densities 0.05 0.1 0.2 0.5 --hidden 2 3 4 --widths 256 512 --seeds 4"


def _read_alignments(found: Dataset) -> dict[str, Any]:
    """The largest alignment beyond the first layer of every network: its ends over SNIP's and over GraSP's networks."""
    largest = found.alignment.sel(layer=slice(2, None)).max("layer")
    return {
        **{name: found[name].values.tolist() for name in ("density", "hidden", "width")},
        "networks": int(largest.sel(pruning="snip").size),
        **{str(method): _ends(largest.sel(pruning=method)) for method in found["pruning"].values},
    }


def _write_alignments(found: Figures) -> str:
    widths, densities, hidden = found["width"], found["density"], found["hidden"]
    return paragraph(
        f"Over widths {widths[0]} and {widths[-1]}, densities {densities[0]:g} to {densities[-1]:g} and {hidden[0]} to "
        f"{hidden[-1]} hidden layers ({found['networks']} networks of each; `{_ALIGNMENTS}`) alignment is at most "
        f"{at_most(found['snip'][1])} in SNIP's layers, and the largest of a GraSP network's layers at least "
        f"{at_least(found['grasp'][0])}."
    )


# --- sums over paths ------------------------------------------------------------------------------

PATHS = {
    "whole": "sum over paths",
    "flat": "the same, squares of 1 in both dense layers",
    "with output": "weights of the output layer, squares of 1 in the input layer",
    "with input": "weights of the input layer, squares of 1 in the output layer",
    "(W, V), 4 blocks": "(W, V) with V of the dense layers, 4 blocks",
    "(W, V), 16 blocks": "the same with 16 blocks, over its own with V = 1",
    "own": "networks, own weights",
    "signs": "networks, mean over eight redraws of signs each",
}


def _read_paths(found: Dataset) -> dict[str, Any]:
    means, errors = found.factor.mean("seed"), found.factor.std("seed", ddof=1) / found.sizes["seed"] ** 0.5
    return {
        "widths": found.width.values.tolist(),
        "networks": int(found.sizes["seed"]),
        "factors": {str(kind): _with_errors(means.sel(of=kind), errors.sel(of=kind)) for kind in found["of"].values},
    }


def _write_paths(found: Figures) -> str:
    of = f"trace over that of (W, V) with V = 1 in both dense layers, 4 blocks; {found['networks']} networks"
    rows = [
        " | ".join((f"| {of}", *(f"n = {width:,}" for width in found["widths"]))) + " |",
        "|---|" + "---|" * len(found["widths"]),
    ]
    for kind, label in PATHS.items():
        cells = [f"{mean:.3f} ± {error:.3f}" for mean, error in found["factors"][kind]]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(rows)


# --- the channel upstream -------------------------------------------------------------------------


def _read_upstream(found: Dataset) -> dict[str, Any]:
    one = found.added.isel(width=0)
    return {
        "width": int(found.width[0]),
        "limits": int(found.sizes["seed"]),
        "density": found.density.values.tolist(),
        "added": _with_errors(one.mean("seed"), one.std("seed", ddof=1) / one.sizes["seed"] ** 0.5),
    }


def _write_upstream_short(found: Figures) -> str:
    return " and ".join(
        f"{100 * mean:.1f} ± {100 * error:.1f}% at density {density:g}"
        for density, (mean, error) in zip(found["density"], found["added"], strict=True)
    )


def _write_upstream(found: Figures) -> str:
    limits = f"{found['limits']} limits at n = {found['width']:,}; `upstream`"
    return f"{_write_upstream_short(found)}: {limits}"


# --- drawn and pruned networks against their limits -----------------------------------------------


def _read_sweep(*found: Dataset) -> dict[str, Any]:
    drawn, magnitude, unpaired = found
    return {
        "widths": drawn.width.values.tolist(),
        "networks": int(drawn.sizes["seed"]),
        **{
            name: {
                "z": np.abs(one.fitted_z.values).tolist(),
                "slope": [float(one.spread_slope), float(one.spread_slope_error)],
            }
            for name, one in (("drawn", drawn), ("magnitude", magnitude), ("magnitude as random", unpaired))
        },
    }


def _listed(scores: Sequence[float]) -> str:
    *most, last = (f"{z:.1f}" for z in scores)
    return f"{', '.join(most)} and {last}"


def _slope(one: Figures) -> str:
    slope, error = one["slope"]
    return f"slope {slope:.3f} ± {error:.3f}"


def _write_sweep(found: Figures) -> str:
    drawn, magnitude, unpaired = found["drawn"], found["magnitude"], found["magnitude as random"]
    return paragraph(
        f"Drawn networks (dense input layer, three-block hidden layers, erf, bias; widths {found['widths'][0]} to "
        f"{found['widths'][-1]}, {found['networks']} seeds; `python -m graphon_validation width-sweep`): the fitted "
        f"limit of the trace and of three entries named beforehand is {_listed(drawn['z'])} standard errors from the "
        f"theory, and the spread falls with {_slope(drawn)}. With magnitude masks and their own weights: "
        f"{_listed(magnitude['z'])} standard errors from (W, V), {_slope(magnitude)}, and {min(unpaired['z']):.0f} to "
        f"{max(unpaired['z']):.0f} standard errors from (W, W), which ignores what the mask did to the weights."
    )


# --- all of them ---------------------------------------------------------------------------------

STATEMENTS = (
    Statement(
        "sign-scores",
        ("sign-scores",),
        ("sign-scores.nc",),
        _read_scores,
        {"sign-scores": (VALIDATION, _write_scores), "sign-scores-short": (THEORY, _write_scores_short)},
    ),
    Statement(
        "sign-test",
        ("sign-test",),
        ("sign-test.nc",),
        _read_signs,
        {"sign-test": (VALIDATION, _write_signs), "sign-test-below": (VALIDATION, _write_signs_below)},
    ),
    Statement(
        "alignments",
        tuple(_ALIGNMENTS.split()),
        ("sign-test.nc",),
        _read_alignments,
        {"alignments": (VALIDATION, _write_alignments)},
    ),
    Statement(
        "path-sums",
        ("path-sums",),
        ("path-sums-synflow.nc",),
        _read_paths,
        {"path-sums": (VALIDATION, _write_paths)},
    ),
    Statement(
        "upstream",
        ("upstream",),
        ("upstream.nc",),
        _read_upstream,
        {"upstream": (VALIDATION, _write_upstream), "upstream-short": (THEORY, _write_upstream_short)},
    ),
    Statement(
        "width-sweep",
        ("width-sweep",),
        tuple(f"width-sweep-{name}.nc" for name in ("drawn", "magnitude", "magnitude-as-random")),
        _read_sweep,
        {"width-sweep": (README, _write_sweep)},
    ),
)
BY_NAME = {statement.name: statement for statement in STATEMENTS}
