"""Results on the laws of pruning, SynFlow's, SNIP's and what the sign test says of all rules: read, and written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

MASKS = ("kept", "inner", "alive", "row_spread", "column_spread")
SHOWN = {"inputs": 784, "hidden": 4, "width": 1024, "density": 0.1, "rounds": 100}
NAMES = ("(W, V)", "drift", "no limit")
WITHIN, APART = 0.1, 0.015  # of a trace's ratio from 1, and between energies


# --- reading ----------------------------------------------------------------------------------------------------------


def _ratio(one: DataArray, other: DataArray) -> list[float]:
    """Mean over mean over seeds, and its error."""
    ratio = float(one.mean("seed") / other.mean("seed"))
    parts = [float(x.std("seed", ddof=1) / x.mean("seed")) / x.sizes["seed"] ** 0.5 for x in (one, other)]
    return [ratio, ratio * float(np.hypot(*parts))]


def read_synflow(found: Dataset) -> dict[str, Any]:
    """What ``synflow_law_experiment`` found, by setting."""
    settings = []
    for i in range(found.sizes["setting"]):
        one = found.isel(setting=i)
        layers = int(one.hidden) + 1
        mean = one.mean("seed")
        row: dict[str, Any] = {name: one[name].values.item() for name in SHOWN}
        for name in MASKS:
            row[name] = mean[name].sel(kind=["own", "law"]).isel(layer=slice(layers)).values.tolist()
        block = mean.block.sel(kind=["own", "law"]).isel(layer=slice(1, layers - 1)).transpose("kind", ...).values
        size = block[0].mean((-2, -1), keepdims=True) if block.size else 1.0
        row["block"] = float(np.max(np.abs(block[1] - block[0]) / size, initial=0.0))
        apart = one.block.sel(kind="own") - one.block.sel(kind="law")
        score = apart.mean("seed") / (apart.std("seed", ddof=1) / apart.sizes["seed"] ** 0.5)
        sizes = np.abs(score.values[1 : layers - 1])
        row["block_score"] = float(np.median(sizes[np.isfinite(sizes)])) if np.isfinite(sizes).any() else None
        # the law's mean over signs is that of its draws, and fluctuates less
        own, law, plain = (one.trace.sel(kind=kind) for kind in ("own", "over signs", "(W, V)"))
        row["trace"], row["plain"] = _ratio(own, law), _ratio(own, plain)
        spread = one.energy.sel(kind=["own", "law"]).std("seed", ddof=1)
        row["energy_error"] = float(np.hypot(*spread.values)) / one.sizes["seed"] ** 0.5
        row["energy"] = mean.energy.sel(kind=["own", "law", "(W, V)", "over signs"]).values.tolist()
        settings.append(row)
    return {"seeds": found.sizes["seed"], "settings": settings}


def read_upstream(found: Dataset) -> dict[str, Any]:
    """What ``upstream_experiment`` found beside networks, by density and width."""
    rows = []
    for density in found.density.values:
        for width in found.width.values:
            one = found.sel(density=density, width=width)
            row: dict[str, Any] = {"density": float(density), "width": int(width)}
            for name in ("ratio", "ratio_with", "whole", "whole_with", "square"):
                row[name] = np.stack([one[name].values, one[f"{name}_error"].values], -1).tolist()
            rows.append(row)
    kept = ("data", "activation", "loss", "hidden", "positions")
    return {**{name: found.attrs[name] for name in kept}, "seeds": found.sizes["seed"], "rows": rows}


def read_labels(found: Dataset) -> dict[str, Any]:
    """What ``label_experiment`` found, by density and width."""
    from graphon_validation.experiments.label_experiments import own_over_labels

    said = own_over_labels(found)
    rows = []
    for density in found.density.values:
        for width in found.width.values:
            one = said.sel(density=density, width=width)
            row: dict[str, Any] = {"density": float(density), "width": int(width)}
            row |= {name: [float(one[name]), float(one[f"{name}_error"])] for name in ("whole", "square")}
            row["each"] = np.stack([one.each.values, one.each_error.values], 1).tolist()
            rows.append(row)
    kept = {name: found.attrs[name] for name in ("data", "hidden", "activation", "loss")}
    return {**kept, "hidden": int(kept["hidden"]), "seeds": found.sizes["seed"], "rows": rows}


def read_verdicts(found: Dataset) -> dict[str, Any]:
    """What ``verdict_experiment`` found, by rule."""
    rules = {}
    for rule in found.rule.values:
        one = found.sel(rule=rule)
        counts = {
            name: np.bincount(one[name].values.astype(int), minlength=len(NAMES)).tolist()
            for name in ("small", "large", "both")
        }
        growth = one.gain_growth.sel(layer=slice(2, None)).values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a layer none of whose gains differs from 1
            parts = np.nanmean(growth, 0), np.nanstd(growth, 0)
        rules[str(rule)] = {
            **counts,
            "cause": one.cause.values.astype(int).tolist(),
            "factor": [float(one.factor.mean()), float(one.factor.std(ddof=1)) / one.sizes["seed"] ** 0.5],
            "growth": [
                [float(mean), float(error)] if np.isfinite(mean) else None for mean, error in zip(*parts, strict=True)
            ],
            "reasons": sorted({str(text) for text in one.reason.values if str(text)}),
        }
    kept = ("widths", "density", "hidden", "data")
    settings = {name: found.attrs[name] for name in kept}
    settings["widths"] = [int(n) for n in settings["widths"]]
    return {**settings, "seeds": found.sizes["seed"], "rules": rules}


# --- writing ----------------------------------------------------------------------------------------------------------


def _number(pair: Sequence[float], digits: int = 2) -> str:
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def _apart(rows: Sequence[Mapping[str, Any]], name: str, *, absolute: bool = False) -> float:
    """The largest difference of means of own and law, relative to own where not ``absolute``."""
    worst = 0.0
    for row in rows:
        own, law = np.array(row[name])
        size = 1.0 if absolute else own
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.abs(law - own) / size
        worst = max(worst, float(np.nanmax(off[np.isfinite(off)], initial=0.0)))
    return worst


def write_synflow(store: Mapping[str, Any]) -> str:
    """How far masks are apart by density, rounds and depth, and traces by width."""
    found = store["synflow-law"]
    rows = found["settings"]
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        groups.setdefault((row["hidden"], row["rounds"], row["density"]), []).append(row)
    order = sorted(groups, key=lambda one: (one[0], one[1], -one[2]))
    masks = [
        "| hidden, rounds, density | densities | among the alive | shares alive | spread of rows | blocks (score) |",
        "|---|---|---|---|---|---|",
    ]
    for key in order:
        some = groups[key]
        cells = [f"{_apart(some, name):.0%}" for name in ("kept", "inner")]
        cells += [f"{_apart(some, 'alive', absolute=True):.3f}", f"{_apart(some, 'row_spread'):.0%}"]
        scores = [row["block_score"] for row in some if row["block_score"] is not None]
        cells.append(f"{max(row['block'] for row in some):.0%}" + (f" ({np.median(scores):.1f})" if scores else ""))
        masks.append(f"| {key[0]}, {key[1]}, {key[2]:g} | {' | '.join(cells)} |")
    widths = sorted({row["width"] for row in rows})
    traces = [
        f"| inputs, hidden layers, rounds, density | {' | '.join(f'n = {n:,}' for n in widths)} |",
        "|---|" + "---|" * len(widths),
    ]
    by_key = {(row["inputs"], row["hidden"], row["rounds"], row["density"], row["width"]): row for row in rows}
    for key in sorted({key[:4] for key in by_key}, key=lambda one: (*one[:3], -one[3])):
        cells = []
        for n in widths:
            row = by_key.get((*key, n))
            if row is None:
                cells.append("")
                continue
            energy = row["energy"]
            apart = [energy[k] - energy[0] for k in (1, 3)]
            cells.append(f"{_number(row['trace'])} ({_number(row['plain'])}); {apart[0]:+.3f} ({apart[1]:+.3f})")
        traces.append(f"| {key[0]}, {key[1]}, {key[2]}, {key[3]:g} | {' | '.join(cells)} |")
    sound = [row for row in rows if _close(row["plain"], row["energy"][2] - row["energy"][0])]
    good = [row for row in sound if _close(row["trace"], row["energy"][1] - row["energy"][0])]
    said = (
        "(W, V) of the masks themselves has its trace within 10% (and two errors) and its top-10 energy within .015 of "
        f"the networks' in {len(sound)} of {len(rows)} settings; there the law has both in {len(good)}."
    )
    others = [row for row in sound if row not in good]
    if others:
        said += f" The others, inputs, hidden layers, rounds, density, n: {'; '.join(map(_off, others))}."
    parts = ["\n".join(masks), "\n".join(traces), said]
    shown = next((row for row in rows if all(row[name] == value for name, value in SHOWN.items())), None)
    if shown is not None:
        parts.append(_example(shown))
    return "\n\n".join(parts)


def _off(row: Mapping[str, Any]) -> str:
    """A setting, and by what the law is off."""
    energy = [row["energy"][1] - row["energy"][0], row["energy_error"]]
    name = f"{row['inputs']}, {row['hidden']}, {row['rounds']}, {row['density']:g}, {row['width']:,}"
    return f"{name}: trace {_number(row['trace'])}, energy {_number(energy, 3)}"


def _close(ratio: Sequence[float], energy: float) -> bool:
    return abs(ratio[0] - 1) < WITHIN + 2 * ratio[1] and abs(energy) < APART


def _example(row: Mapping[str, Any]) -> str:
    titles = ("density", "among the alive", "alive above", "spread of rows", "spread of columns")
    lines = [
        f"{row['inputs']} inputs, {row['hidden']} hidden layers of {row['width']:,}, density {row['density']:g}, "
        f"{row['rounds']} rounds, by layer, network / law:",
        "",
        f"| | {' | '.join(f'layer {n}' for n in range(1, row['hidden'] + 2))} |",
        "|---|" + "---|" * (row["hidden"] + 1),
    ]
    for name, title in zip(MASKS, titles, strict=True):
        pairs = zip(*row[name], strict=True)
        lines.append(f"| {title} | {' | '.join(f'{own:.3f} / {law:.3f}' for own, law in pairs)} |")
    return "\n".join(lines)


def write_snip(store: Mapping[str, Any]) -> str:
    """Own trace over limit without and with the channel upstream, of all layers and by layer."""
    found = [one for name, one in store.items() if name.startswith("upstream")]
    rows = [(one, row) for one in found for row in one["rows"]]
    rows.sort(key=lambda both: (both[0]["hidden"], both[0]["data"], both[0]["activation"], both[1]["width"]))
    lines = [
        "| data, hidden layers, activation | density, n | without | with | by layer, with | by layer, without | f² |",
        "|---|---|---|---|---|---|---|",
    ]
    for one, row in rows:
        layers = [", ".join(_number(pair) for pair in row[name][:-1]) for name in ("ratio_with", "ratio")]
        cells = [_number(row[name]) for name in ("whole", "whole_with")]
        lines.append(
            f"| {one['data']}, {one['hidden']}, {one['activation']} | {row['density']:g}, {row['width']:,} | "
            f"{' | '.join([*cells, *layers, _number(row['square'])])} |"
        )
    seeds = sorted({one["seeds"] for one in found})
    parts = ["\n".join(lines), f"{' or '.join(map(str, seeds))} networks and limits each."]
    fits = [fit for one in found for fit in _over_widths(one)]
    if fits:
        parts.append(f"All layers, with, as 1 + c / n (least squares by the errors): {'; '.join(fits)}.")
    return "\n\n".join(parts)


def write_labels(store: Mapping[str, Any]) -> str:
    """Own trace over its mean given the labels, of all layers and by layer."""
    found = [one for name, one in store.items() if name.startswith("labels")]
    rows = [(one, row) for one in found for row in one["rows"]]
    rows.sort(key=lambda both: (both[0]["data"], both[0]["activation"], -both[1]["density"], both[1]["width"]))
    lines = ["| data, hidden layers, activation | density, n | all layers | by layer | f² |", "|---|---|---|---|---|"]
    for one, row in rows:
        cells = _number(row["whole"]), ", ".join(map(_number, row["each"])), _number(row["square"])
        name = f"{one['data']}, {one['hidden']}, {one['activation']}"
        lines.append(f"| {name} | {row['density']:g}, {row['width']:,} | {' | '.join(cells)} |")
    seeds = sorted({one["seeds"] for one in found})
    return "\n".join(lines) + f"\n\n{' or '.join(map(str, seeds))} networks each."


def _over_widths(one: Mapping[str, Any]) -> list[str]:
    """What own trace over limit is due to width, of every density at which several widths were run."""
    fits = []
    for density in sorted({row["density"] for row in one["rows"]}, reverse=True):
        rows = [row for row in one["rows"] if row["density"] == density]
        if len(rows) < 3:
            continue
        n = np.array([row["width"] for row in rows], float)
        ratio, error = np.array([row["whole_with"] for row in rows]).T
        weight = np.sum((n * error) ** -2.0)
        c = np.sum((ratio - 1) / (n * error**2)) / weight
        square = np.sum(((ratio - 1 - c / n) / error) ** 2)
        widths = f"{n.min():,.0f} to {n.max():,.0f}"
        fits.append(f"{one['data']} at {density:g} c = {c:.0f} ± {weight**-0.5:.0f} (χ² {square:.1f}, n = {widths})")
    return fits


def write_verdicts(store: Mapping[str, Any]) -> str:
    """Verdicts by rule, and why two widths and one network differ where they do."""
    found = store["verdicts"]
    small, large = sorted(found["widths"])
    causes = ("", "masks", "masks and training", "training")
    lines = [
        f"| rule | n = {small:,} | n = {large:,} | two widths | cause | trace over (W, V) | growth, layers 2 on |",
        "|---|---|---|---|---|---|---|",
    ]
    for rule, one in found["rules"].items():
        cells = [_verdict(one[name]) for name in ("small", "large", "both")]
        cause = causes[int(np.bincount(one["cause"]).argmax())]
        growth = ", ".join("none" if pair is None else _number(pair) for pair in one["growth"])
        lines.append(f"| {rule} | {' | '.join(cells)} | {cause} | {_number(one['factor'])} | {growth} |")
    tail = f"Density {found['density']:g}, {found['hidden']} hidden layers, {found['seeds']} networks each; growth is "
    said = [f"- {rule}: {one['reasons'][0]}." for rule, one in found["rules"].items() if one["reasons"]]
    parts = ["\n".join(lines), f"{tail}that of gain - 1, ± its spread over networks."]
    if said:
        parts += ["What the verdict of two widths says of itself, of one network of each rule:", "\n".join(said)]
    return "\n\n".join(parts)


def _verdict(counts: Sequence[int]) -> str:
    return ", ".join(f"{NAMES[i]} ({n})" for i, n in enumerate(counts) if n)


LAW_READERS = {"synflow-law": (read_synflow, ()), "verdicts": (read_verdicts, ())}
LAW_WRITERS = {
    "synflow-law": write_synflow,
    "snip-limit": write_snip,
    "snip-labels": write_labels,
    "verdicts": write_verdicts,
}
