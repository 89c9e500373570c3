"""What is kept of an experiment's Dataset in docs/results: the numbers that the page states, and no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

STEPS = (0, 10, 20, 30, 40, 50, 100, 150, 190, 200)  # of training, as the paper tables them


DESIGN = ("design_value", "design_value_with_rows", "evaluations", "holdout", "gain", "gain_error")


def over_seeds(values: DataArray) -> list[float]:
    """Mean and standard error; the error of one network alone is nothing."""
    count = values.sizes["seed"]
    mean = float(values.mean("seed"))
    return [mean, float(values.std("seed", ddof=1)) / count**0.5] if count > 1 else [mean]


def _spread(values: DataArray) -> list[float]:
    """Mean and standard deviation over seeds, as the paper prints them."""
    return [float(values.mean("seed")), float(values.std("seed", ddof=1))]


def _nested(values: DataArray, *dims: str) -> Any:
    """Numbers by the names of their coordinates."""
    if not dims:
        return values.values.tolist()
    first, *rest = dims
    return {_name(one): _nested(values.sel({first: one}), *rest) for one in values[first].values}


def _name(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_design(found: Dataset) -> dict[str, Any]:
    """What ``design_experiment`` found, by method."""
    methods = {}
    for name in found.pruning.values:
        one = found.sel(pruning=name)
        laws = {kind: float(one[kind].min("time")) for kind in ("predicted", "predicted_rows")}
        methods[str(name)] = {
            **{kind: None if math.isnan(law) else law for kind, law in laws.items()},
            "lazy": over_seeds(one.lazy.min("time")),
            "best": over_seeds(one.test_error.min("time")),
            "end": over_seeds(one.test_error.isel(time=-1)),
            "dead": float(one.dead.sum("hidden").mean()),
        }
    kept = ("task", "density", "width", "train", "steps", "share", "blocks", "starts", "iterations", "guess", "verdict")
    return {
        **{name: found.attrs[name] for name in kept},
        "seeds": found.sizes["seed"],
        "design": {name: float(found[name]) for name in DESIGN if name in found},
        "methods": methods,
    }


def read_transfer(found: Dataset) -> dict[str, Any]:
    """What ``transfer_experiment`` found: best rates over densities, and their drift, by optimizer, masks and rule."""
    rates = np.exp(np.log(found.best_rate).mean("seed"))
    drifts: dict[str, Any] = {}
    for optimizer in found.optimizer.values:
        for law in found.pruning.values:
            for rule in found.rule.values:
                at = {"optimizer": optimizer, "pruning": law, "rule": rule}
                drifts.setdefault(str(optimizer), {}).setdefault(str(law), {})[str(rule)] = {
                    "rates": rates.sel(at).values.tolist(),
                    "drift": float(found.drift.sel(at)),
                }
    return {
        **{name: found.attrs[name] for name in ("width", "steps", "train", "task", "verdict")},
        "densities": found.density.values.tolist(),
        "seeds": found.sizes["seed"],
        "drifts": drifts,
    }


def read_masks(found: Dataset) -> dict[str, Any]:
    """Distances by method, density and width, means over layers and seeds; how uneven the widest are."""
    densities = list(dict.fromkeys(found.density.values.tolist()))
    top = int(np.argmax(found.width.values))
    at, width, bins = float(found.density[top]), int(found.width[top]), found.sizes["u"]
    means = found.mean("seed").mean("layer")
    out: dict[str, Any] = {"largest": width, "at": at, "bins": bins, "seeds": found.sizes["seed"]}
    out["data"], out["verdict"] = found.attrs["data"], found.attrs["verdict"]
    for name in ("distance", "null", "between", "null_between"):
        out[name] = {
            str(method): {
                f"{density:g}": {
                    str(int(found.width[j])): float(means[name].sel(pruning=method)[j])
                    for j in np.flatnonzero(found.density.values == density)
                    if np.isfinite(means[name].sel(pruning=method)[j])
                }
                for density in densities
            }
            for method in found.pruning.values
        }
    last = found.isel(setting=top)
    off = ((last.table.astype(float) - last.table.mean(("u", "v"))) ** 2).mean(("u", "v")) ** 0.5
    p = last.kept.isel(weight_layer=slice(1, -1)).rename(weight_layer="layer").drop_vars("layer", errors="ignore")
    noise = (p * (1 - p) * (2 / width + bins**2 / width**2)) ** 0.5
    out["uneven"] = {
        str(m): float((off.sel(pruning=m).values / noise.sel(pruning=m).values).mean()) for m in found.pruning.values
    }
    out["kept"] = {str(m): last.kept.sel(pruning=m).mean("seed").values.tolist() for m in found.pruning.values}
    if "law_distance" in found:
        for name in ("law_distance", "to_law"):
            values = found[name].mean([one for one in found[name].dims if one != "setting"])
            out[name] = {
                str(int(found.width[j])): float(values[j])
                for j in np.flatnonzero(found.density.values == at)
                if np.isfinite(values[j])
            }
    return out


def read_spectrum(found: Dataset) -> dict[str, Any]:
    """Logarithms of the matrix's eigenvalues, energies and the rest by width, method, density and side."""
    out: dict[str, Any] = {"seeds": found.sizes["seed"], "data": found.attrs["data"], "init": found.attrs["init"]}
    out["samples"] = {str(int(w)): int(s) for w, s in zip(found.width.values, found.samples.values, strict=True)}
    out["verdict"] = found.attrs["verdict"]
    for width, samples in zip(found.width.values, found.samples.values, strict=True):
        few = int(min(found.attrs["few"], samples))
        sizes = {"finite": int(samples), "few": few, "limit": few}
        out[str(int(width))] = {
            str(method): {
                f"{density:g}": {
                    side: _of_spectrum(found.sel(width=width, pruning=method, density=density, side=side), sizes[side])
                    for side in sizes
                }
                for density in found.density.values
            }
            for method in found.pruning.values
        }
    return out


def _of_spectrum(one: Dataset, inputs: int) -> dict[str, Any]:
    return {
        "log": (one.log_eigenvalue.mean("seed") + math.log(inputs)).values.tolist(),
        **{name: _spread(one[name]) for name in ("energy5", "energy10")},
        **{name: float(one[name].mean()) for name in ("effective_rank", "gap", "decay")},
    }


def read_training(found: Dataset) -> dict[str, Any]:
    """Losses at the paper's steps, after the last by density, and what kernels at the start have to do with them."""
    from scipy import stats

    one = found.sel(width=found.width.values.max())
    steps = [step for step in STEPS if step in one.step.values]
    curve = one.curve.mean("seed").sel(step=steps)
    early = one.curve.isel(rate=0).sel(step=20)
    ranks = {
        name: {
            f"{p:g}": float(
                stats.spearmanr(one[name].sel(density=p).values.ravel(), early.sel(density=p).values.ravel())[0]
            )
            for p in found.density.values
        }
        for name in ("energy10", "trace")
    }
    last = one.curve.isel(step=-1)
    out: dict[str, Any] = {
        **{name: found.attrs[name] for name in ("hidden", "init", "batch_size", "inputs", "data")},
        "width": int(one.width),
        "seeds": found.sizes["seed"],
        "steps": steps,
        "curve": _nested(curve, "rate", "pruning", "density"),
        "last": {
            f"{rate:g}": {
                str(m): {f"{p:g}": _spread(last.sel(rate=rate, pruning=m, density=p)) for p in found.density.values}
                for m in found.pruning.values
            }
            for rate in found.rate.values
        },
        "ranks": ranks,
        **{name: _nested(one[name].mean("seed"), "pruning", "density") for name in ("trace", "energy5", "energy10")},
        "test": _nested(one.test_accuracies.isel(rate=0).mean("seed"), "pruning", "density"),
    }
    if "dense" in one:
        out["dense"] = {
            f"{rate:g}": {
                "curve": one.dense.sel(rate=rate, step=steps).mean("seed").values.tolist(),
                "last": _spread(one.dense.sel(rate=rate).isel(step=-1)),
            }
            for rate in found.rate.values
        }
    return out


def read_kernels(found: Dataset) -> dict[str, Any]:
    """Fits over widths by method and protocol, and the powers of the spread."""
    names = ("fitted", "fitted_error", "bias", "bias_error", "fitted_z", "spread_slope", "spread_slope_error")
    return {
        **{name: found.attrs[name] for name in ("kept", "seeds", "spread_seeds", "hidden", "inputs", "verdict")},
        "widths": found.width.values.tolist(),
        "by_protocol": {
            str(m): {
                str(p): {name: float(found[name].sel(pruning=m, protocol=p)) for name in names}
                for p in found.protocol.values
            }
            for m in found.pruning.values
        },
        "exponent": {
            str(fit): {
                str(power): [float(found[name].sel(fit=fit, power=power)) for name in ("exponent", "exponent_error")]
                for power in found.power.values
            }
            for fit in found.fit.values
        },
        "spread": _nested(found.trace_spread.transpose("density", "drawn_width"), "density"),
        "drawn_widths": found.drawn_width.values.tolist(),
    }


def read_descent(found: Dataset) -> dict[str, Any]:
    """Changes of the kernel and distances of the loss, means over seeds."""
    names = ("said", "changed", "off_own", "off_limit")
    return {
        **{name: found.attrs[name] for name in ("width", "density", "steps", "verdict")},
        "seeds": found.sizes["seed"],
        "cases": {
            str(m): {
                f"{s:g}": {name: float(found[name].sel(pruning=m, scale=s).mean()) for name in names}
                for s in found.scale.values
            }
            for m in found.pruning.values
        },
    }


def read_motion(found: Dataset) -> dict[str, Any]:
    """Changes of the kernel by setting: said, measured and its error, by width."""
    from graphon_validation.experiments.motion_experiments import compared

    one = compared(found).transpose("set", "layers", "variance", "density", "width")
    cases = {
        str(name): {
            _name(row): _nested(one[name].sel(set=row), "layers", "variance", "density") for row in one["set"].values
        }
        for name in ("said", "changed", "error")
    }
    kept = {name: found.attrs[name] for name in ("inputs", "left", "verdict")}
    return {**kept, "seeds": found.sizes["seed"], "widths": [int(width) for width in found.width.values], **cases}


def read_cross_entropy(found: Dataset) -> dict[str, Any]:
    """Losses of networks and limits at some steps, and how far apart they are beside the networks' spread."""
    from graphon_validation.experiments.cross_entropy_experiments import apart

    steps = [step for step in (0, 1, 3, 10, 30, 100, 200) if step in found.step.values]
    off, spread = apart(found)
    places = [int(np.flatnonzero(found.step.values == step)[0]) for step in steps]
    means = found.mean("seed")
    curves = []
    for (v, variance), (k, kind) in product(enumerate(found.variance.values), enumerate(found.kind.values)):
        one = means.isel(variance=v, kind=k)
        curves.append(
            {
                "variance": float(variance),
                "kind": str(kind),
                **{name: one[name].sel(step=steps).values.tolist() for name in ("loss", "limit")},
                "off": off[v, k, places].tolist(),
                "spread": spread[v, k, places].tolist(),
                "changed": float(one.changed),
                "trace": float(one.trace),
            }
        )
    return {
        **{name: found.attrs[name] for name in ("width", "density", "steps", "positions", "verdict")},
        "seeds": found.sizes["seed"],
        "shown": steps,
        "curves": curves,
    }


def read_sequel(found: Dataset) -> dict[str, Any]:
    """Energy and complexity by strength and density, limit and networks."""
    names = ("energy5", "energy10", "complexity", "target_energy", "effective_rank")
    return {
        **{name: found.attrs[name] for name in ("inputs", "width", "seeds", "noise", "verdict")},
        "densities": found.density.values.tolist(),
        **{name: _nested(found[name], "strength", "density", "side") for name in names},
        "turn": {
            f"{s:g}": float(found.density[int(np.argmin(found.complexity.sel(strength=s, side="limit").values))])
            for s in found.strength.values
        },
    }


def read_paths(found: Dataset) -> dict[str, Any]:
    """Masks in time, means over layers and seeds."""
    means = found.mean("seed").mean("layer")
    names = ("density", "step", "noise", "changed", "uneven", "energy", "limit_energy", "trace")
    return {
        **{name: found.attrs[name] for name in ("width", "kept", "steps", "verdict")},
        "seeds": found.sizes["seed"],
        "times": found.time.values.tolist(),
        **{name: _nested(means[name], "kind") for name in names},
    }


def _ends(values: DataArray) -> list[float]:
    """Least and largest; of seeds that were not run nothing is known."""
    return [float(values.min()), float(values.max())]


def read_rates(found: Dataset) -> dict[str, Any]:
    """What ``bench_learning_rates`` found: the rates of a network; the least and largest survived."""
    networks = {}
    for name in found.network.values:
        one = found.sel(network=name)
        survived = {
            str(loss): {str(size): _ends(one.survived.sel(loss=loss, batch=size)) for size in found.batch.values}
            for loss in found.loss.values
        }
        rates: dict[str, Any] = {"critical": float(one.critical), "divergence": float(one.divergence)}
        rates["expected"] = {str(size): float(one.expected.sel(batch=size)) for size in found.batch.values}
        networks[str(name)] = {**rates, "pruned": float(one.pruned), "survived": survived}
    return {**{name: found.attrs[name] for name in ("steps", "train")}, "networks": networks}


READERS: Mapping[str, tuple[Callable[[Dataset], dict[str, Any]], tuple[str, ...]]] = {
    "rates": (read_rates, ()),
    # by the name of the file: the reader, and the figures beside that the page shows
    "transfer": (read_transfer, ()),
    "mask-convergence": (read_masks, ("mask-convergence.png", "mask-distances.png")),
    "spectrum": (read_spectrum, ("spectrum.png",)),
    "training": (read_training, ("training.png",)),
    "kernel-convergence": (read_kernels, ("kernel-convergence.png",)),
    "descent": (read_descent, ("descent.png",)),
    "kernel-motion": (read_motion, ()),
    "cross-entropy": (read_cross_entropy, ("cross-entropy.png",)),
    "sequel": (read_sequel, ("sequel.png",)),
    "graphon-paths": (read_paths, ("graphon-paths.png",)),
}
