"""The papers' claims beside what is stored: one row each in docs/results/claims.toml, written into docs/results.md.

A row names what is claimed and the published figure, what networks and limits gave here, a verdict and the command
(or several, with "; " between).
Numbers of ours are never typed: ``{NAME/KEY/KEY|FORMAT}`` is replaced by what docs/results/NAME.json holds there, a
list by its numbers with spaces between; ``{NAME/KEY - NAME/KEY|FORMAT}`` by the difference.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
CLAIMS = "docs/results/claims.toml"
VERDICTS = (
    "explained",
    "only with V",
    "only with D or saliency theory",
    "finite width",
    "not explained",
    "not run",
)
FIELDS = ("group", "claim", "published", "finite", "limit", "verdict", "why", "command")
LABELS = {
    "random": "random",
    "magnitude": "magnitude",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "set": "SET",
    "rigl": "RigL",
    "imp": "iterative magnitude",
}
_PLACE = re.compile(r"\{([^{}|]+)\|([^{}]*)\}")

Figures = Mapping[str, Any]


def rows() -> list[dict[str, str]]:
    """All claims in the order of the page."""
    return list(tomllib.loads((ROOT / CLAIMS).read_text(encoding="utf-8"))["row"])


def found_at(store: Figures, path: str) -> Any:
    """What the store holds at NAME/KEY/KEY; of a list by number. Raises KeyError with the path."""
    value: Any = store
    for key in path.strip().split("/"):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(f"{path}: nothing is stored there") from None
    return value


def resolved(store: Figures, text: str) -> str:
    """The text with stored numbers in place of their paths."""

    def number(found: re.Match[str]) -> str:
        values = [found_at(store, path) for path in found[1].split(" - ")]
        parts = [list(one) if isinstance(one, list) else [one] for one in values]
        taken = [a - sum(rest) for a, *rest in zip(*parts, strict=True)] if len(parts) > 1 else parts[0]
        return " ".join(format(one, found[2]) for one in taken)

    return _PLACE.sub(number, text)


def answered(store: Figures, row: Mapping[str, str]) -> dict[str, str]:
    """A row with its numbers; one whose experiment is not stored is not run, whatever it would say."""
    try:
        return {name: resolved(store, text) for name, text in row.items()}
    except KeyError:
        return {**row, "finite": "", "limit": "", "verdict": "not run", "why": ""}


def write_claims(store: Figures) -> str:
    """A table for each group of claims."""
    parts: list[str] = []
    for group in dict.fromkeys(row["group"] for row in rows()):
        parts += [f"**{group}**"]
        table = ["| claim | published | networks | limit | verdict |", "|---|---|---|---|---|"]
        commands = []
        for row in (one for one in rows() if one["group"] == group):
            said = answered(store, row)
            cells = (said[name] for name in ("claim", "published", "finite", "limit"))
            table.append(f"| {' | '.join(cells)} | *{said['verdict']}*{': ' + said['why'] if said['why'] else ''} |")
            commands += [f"`{command}`" for command in row["command"].split("; ")]
        parts += ["\n".join(table), "; ".join(dict.fromkeys(commands))]
    return "\n\n".join(parts)


def _label(name: str) -> str:
    return LABELS.get(name, name)


def _picture(name: str, text: str) -> str:
    return f"![{text}](images/results-{name}.png)"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|---|" + "---:|" * (len(heads) - 1)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def write_masks(store: Figures) -> str:
    one = store["mask-convergence"]
    at = f"{one['at']:g}"
    parts = [_distances(one, at)]
    parts += [_distances(one, density) for density in one["distance"]["random"] if density != at]
    uneven = ", ".join(f"{_label(method)} {value:.1f}" for method, value in one["uneven"].items())
    kept = "; ".join(f"{_label(m)} {' '.join(f'{p:.3f}' for p in values)}" for m, values in one["kept"].items())
    return "\n\n".join(
        [
            *parts,
            f"Distance of the widest network's tables to a constant, over that of random masks: {uneven}. Densities of "
            f"its layers, from the inputs: {kept}.",
            one["verdict"],
            *([_picture("mask-distances", "distances over widths")] if len(one["between"]["random"][at]) > 2 else []),
            _picture("mask-convergence", "block densities of every layer"),
        ]
    )


def _distances(one: Figures, density: str) -> str:
    """Distances at one density, by method and width, to the widest networks there are of it."""
    top = max(map(int, one["between"]["random"][density]))
    widths = list(one["distance"]["random"][density])
    lines = []
    for method in one["distance"]:
        for text, name in ((f"{_label(method)}, to {top:,}", "distance"), ("constant graphon", "null")):
            lines.append([text, *(f"{one[name][method][density][width]:.2f}" for width in widths)])
        lines.append(["two draws of one width", *(f"{one['between'][method][density][width]:.2f}" for width in widths)])
    if "law_distance" in one and density == f"{one['at']:g}":
        for text, name in (
            ("SynFlow's law, to itself at the widest", "law_distance"),
            ("SynFlow to its law", "to_law"),
        ):
            lines.append([text, *(f"{one[name][width]:.2f}" for width in widths)])
    return _table([f"density {density}, width", *(f"{int(width):,}" for width in widths)], lines)


def write_spectrum(store: Figures) -> str:
    one = store["spectrum"]
    parts = []
    for width, samples in one["samples"].items():
        methods = one[width]
        densities = list(next(iter(methods.values())))
        lines = []
        for method, found in methods.items():
            for side, text in (("finite", ""), ("few", ", few"), ("limit", ", limit")):
                energies = (f"{found[p][side]['energy5'][0]:.3f}" for p in densities)
                lines.append([f"{_label(method)}{text}", *energies])
        parts.append(f"Top-5 energy, width {int(width):,}, {samples:,} inputs (few and limit: on the first 128).")
        parts.append(
            _table([f"sparsity (%), width {int(width):,}", *(f"{100 * (1 - float(p)):g}" for p in densities)], lines)
        )
    width = next(iter(one["samples"]))
    lines = [
        [_label(method), *(f"{value:.2f}" for value in found["0.2"]["finite"]["log"])]
        for method, found in one[width].items()
    ]
    parts.append(f"Logarithms of the ten largest eigenvalues at density 0.2, width {int(width):,}, of networks.")
    parts.append(_table(["masks", *map(str, range(1, 11))], lines))
    return "\n\n".join([*parts, one["verdict"], _picture("spectrum", "spectra over densities")])


def write_training(store: Figures) -> str:
    parts = []
    for kind in ("torch", "torch-rates", "he", "he-rates"):
        one = store.get(f"training-{kind}")
        if one is None:
            continue
        rate = next(iter(one["curve"]))
        densities = list(next(iter(one["curve"][rate].values())))
        density = "0.2" if "0.2" in densities else densities[0]
        lines = [
            [_label(method), *(f"{value:.3g}" for value in found[density])]
            for method, found in one["curve"][rate].items()
        ]
        if "dense" in one:
            lines.append(["dense", *(f"{value:.3g}" for value in one["dense"][rate]["curve"])])
        init, settings = one["init"], f"width {one['width']:,}, {one['inputs']:,} inputs, {one['seeds']} seeds"
        parts.append(f"Loss over steps, law of initial weights `{init}`, rate {rate}, density {density}; {settings}.")
        parts.append(_table(["steps of Adam", *map(str, one["steps"])], lines))
        lines = [
            [f"{_label(method)}, rate {r}", *(" ± ".join(f"{v:.3g}" for v in found[p]) for p in densities)]
            for r, methods in one["last"].items()
            for method, found in methods.items()
        ]
        parts.append(f"Loss after {one['steps'][-1]} steps over sparsity, ± standard deviation.")
        parts.append(_table(["sparsity (%)", *(f"{100 * (1 - float(p)):g}" for p in densities)], lines))
        parts.append(_picture(f"training-{kind}", f"losses over steps, {kind}"))
    return "\n\n".join(parts)


def write_kernels(store: Figures) -> str:
    one = store["kernel-convergence"]
    lines = [
        [
            f"{_label(method)}, {protocol}",
            f"{found['fitted']:.4f} ± {found['fitted_error']:.4f}",
            f"{found['bias']:+.2f} ± {found['bias_error']:.2f}",
            f"{found['spread_slope']:+.3f} ± {found['spread_slope_error']:.3f}",
        ]
        for method, protocols in one["by_protocol"].items()
        for protocol, found in protocols.items()
    ]
    spread = [
        [p, *(f"{value * n**0.5:.2f}" for value, n in zip(values, one["drawn_widths"], strict=True))]
        for p, values in one["spread"].items()
    ]
    return "\n\n".join(
        [
            f"Traces over their limits at density {one['kept']:g}, fitted by k + c/n over widths "
            f"{', '.join(f'{n:,}' for n in one['widths'])}, {one['seeds']} networks each, and the slope of the spread.",
            _table(["masks, protocol", "k", "c", "slope"], lines),
            f"Deviation of the trace over its mean, times n^(1/2), of {one['spread_seeds']} drawn networks each.",
            _table(["density, width", *(f"{n:,}" for n in one["drawn_widths"])], spread),
            one["verdict"],
            _picture("kernel-convergence", "bias and spread over widths"),
        ]
    )


def write_descent(store: Figures) -> str:
    one = store["descent"]
    lines = [
        [
            f"{_label(method)}, targets times {scale}",
            f"{found['said']:.2g}",
            f"{found['changed']:+.2g}",
            f"{found['off_own']:.2g}",
            f"{found['off_limit']:.2g}",
        ]
        for method, scales in one["cases"].items()
        for scale, found in scales.items()
    ]
    heads = ["masks", "change of the kernel: said", "measured", "loss off own kernel's curve", "off the limit's"]
    return "\n\n".join(
        [_table(heads, lines), one["verdict"], _picture("descent", "gradient descent and its predictions")]
    )


def write_motion(store: Figures) -> str:
    """A row for each data set, depth and variance, said / measured for each density and width."""
    one = store["kernel-motion"]
    widths = one["widths"]
    densities = one["said"]
    for _ in range(3):  # the names within sets, depths and variances
        densities = next(iter(densities.values()))
    heads = ["inputs, weight layers, variance", *(f"density {p}, n = {n:,}" for p in densities for n in widths)]
    lines = [
        [
            f"{name}, {layers}, {variance}",
            *(
                f"{said:.2g} / {_number(changed, error)}"
                for p in densities
                for said, changed, error in zip(
                    *(one[kind][name][layers][variance][p] for kind in ("said", "changed", "error")), strict=True
                )
            ),
        ]
        for name, depths in one["said"].items()
        for layers, variances in depths.items()
        for variance in variances
    ]
    return "\n\n".join([_table(heads, lines), f"{one['seeds']} networks each; {one['verdict']}"])


def _number(value: float, error: float) -> str:
    """A figure with its error, to the error's first digit."""
    digits = max(0, min(6, -math.floor(math.log10(error)))) if error > 0 else 3
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def write_cross_entropy(store: Figures) -> str:
    """Losses of networks over steps beside those of the limits."""
    one = store["cross-entropy"]
    heads = ["networks / limits", "variance", *(f"step {step}" for step in one["shown"]), "kernel moved", "trace"]
    lines = [
        [
            _label(found["kind"]),
            f"{found['variance']:g}",
            *(f"{loss:.3f} / {limit:.3f}" for loss, limit in zip(found["loss"], found["limit"], strict=True)),
            f"{found['changed']:+.3f}",
            f"{found['trace']:.3f}",
        ]
        for found in one["curves"]
    ]
    size = f"Width {one['width']:,}, density {one['density']:g}, {one['seeds']} networks each."
    picture = _picture("cross-entropy", "cross-entropy over steps, networks and limits")
    return "\n\n".join([_table(heads, lines), f"{size} {one['verdict']}", picture])


def write_sequel(store: Figures) -> str:
    one = store["sequel"]
    densities = [f"{p:g}" for p in one["densities"]]
    lines = [
        [f"s = {s}, {text}", *(f"{one[name][s][p]['limit']:.3g}" for p in densities)]
        for s in one["complexity"]
        for name, text in (("energy10", "top-10 energy"), ("complexity", "complexity"))
    ]
    return "\n\n".join(
        [_table(["density (limit)", *densities], lines), one["verdict"], _picture("sequel", "energy and complexity")]
    )


def write_paths(store: Figures) -> str:
    one = store["graphon-paths"]
    heads = ["masks", "density", "uneven, end", "changed a step", "top-10 energy", "(W, V)"]
    lines = [
        [
            _label(kind),
            f"{one['density'][kind][0]:.2g} to {one['density'][kind][-1]:.2g}",
            f"{one['uneven'][kind][-1]:.2f}",
            f"{one['changed'][kind][-1]:.3f}",
            f"{one['energy'][kind][0]:.3f} to {one['energy'][kind][-1]:.3f}",
            f"{one['limit_energy'][kind][0]:.3f} to {one['limit_energy'][kind][-1]:.3f}",
        ]
        for kind in one["density"]
    ]
    return "\n\n".join([_table(heads, lines), one["verdict"], _picture("graphon-paths", "masks in time")])


def _if_stored(name: str, write: Callable[[Figures], str]) -> Callable[[Figures], str]:
    return lambda store: write(store) if any(one.startswith(name) for one in store) else "Not run yet."


SECTIONS: dict[str, Callable[[Figures], str]] = {
    section: _if_stored(name, write)
    for section, name, write in (
        ("masks", "mask-convergence", write_masks),
        ("spectra", "spectrum", write_spectrum),
        ("training", "training-", write_training),
        ("kernels", "kernel-convergence", write_kernels),
        ("descent", "descent", write_descent),
        ("motion", "kernel-motion", write_motion),
        ("entropy", "cross-entropy", write_cross_entropy),
        ("sequel", "sequel", write_sequel),
        ("mask-paths", "graphon-paths", write_paths),
    )
}
