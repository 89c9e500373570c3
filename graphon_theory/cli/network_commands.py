"""The commands that make networks: estimated from masks and weights, or designed for data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from graphon_theory.cli.displays import print_json, say, show, table, working
from graphon_theory.cli.kernel_commands import Spec
from graphon_theory.cli.options import NETWORKS, Inputs, Json, Parameterization, number_or_word, path_of, written_as
from graphon_theory.cli.sources import read_network_as
from graphon_theory.cli.torch_files import CHECKPOINTS, estimate_checkpoint
from graphon_theory.data.array_files import read_array, read_arrays
from graphon_theory.errors import InputError, SpecError

Masks = Annotated[
    list[Path],
    typer.Argument(
        parser=path_of,
        metavar="MODEL|MASKS...",
        help="A torch model (.pt, .pth or .safetensors), or masks (receiving, sending units) from input to output: a "
        ".npy or scipy.sparse .npz a layer, one .npz with all, or a folder of them.",
    ),
]
NetworkOut = Annotated[
    Path,
    typer.Option(
        parser=written_as(*NETWORKS), metavar="NETWORK", help="Network to write: .toml, or .npz for large ones."
    ),
]


def estimate(
    masks: Masks,
    out: NetworkOut,
    weights: Annotated[
        list[Path] | None,
        typer.Option(parser=path_of, metavar="FILE...", help="Weights, as the masks: gives V and D."),
    ] = None,
    blocks: Annotated[str, typer.Option(metavar="N|auto", help='Blocks a hidden layer, or "auto".')] = "16",
    inputs: Annotated[
        int | None, typer.Option(metavar="GROUPS", help="Group the inputs, in their order; each by itself if left out.")
    ] = None,
    dense_std: Annotated[
        list[float] | None, typer.Option(metavar="X...", help="Deviation of dense weights: one, or one a layer.")
    ] = None,
    no_drift: Annotated[bool, typer.Option("--no-drift", help="Leave the drift D out.")] = False,
    activation: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME...", help="Activation, or one for each layer but the last; relu if left out."),
    ] = None,
    weight_variance: Annotated[
        float, typer.Option(help="sigma_w^2; torch.nn.Linear starts at 1/3. A model's is known.")
    ] = 2.0,
    bias_variance: Annotated[float, typer.Option(help="sigma_b^2. A model's is known.")] = 0.0,
    parameterization: Annotated[
        Parameterization,
        typer.Option(
            help='"standard": weights of variance sigma_w^2 / fan-in and no factor beside them, as in torch.nn.Linear; '
            "what --weights are divided by unless --dense-std says otherwise, and whose learning rates later commands "
            "give."
        ),
    ] = Parameterization.ntk,
    widths: Annotated[
        list[int] | None,
        typer.Option(metavar="N...", help="Fan-ins n_0 ... n_(L-1); for standard the masks' if left out."),
    ] = None,
    init: Annotated[
        str | None, typer.Option(metavar="LAW", help="A model's law of weights before training; torch if left out.")
    ] = None,
    zeros_pruned: Annotated[
        bool, typer.Option("--zeros-pruned", help="In a model, weights that are exactly 0 were pruned.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Estimate a network of graphons from a pruned torch model, or from masks (and weights)."""
    count = number_or_word(blocks)
    names = [word for one in activation or [] for word in one.split(",")]
    if any(path.suffix.lower() in CHECKPOINTS for path in masks):
        if len(masks) > 1 or weights or dense_std or widths:
            raise InputError(
                f"{masks[0]}: a model holds its masks, weights, widths and scales; pass it alone, with --init and "
                "--activation where it does not say."
            )
        with working("estimate"):
            rows = estimate_checkpoint(masks[0], out, count, inputs, no_drift, names, init, zeros_pruned)
        _show_estimate(rows, out, as_json)
        return
    if init or zeros_pruned:
        raise InputError("--init, --zeros-pruned: these are said of a torch model, and masks came; leave them out.")
    from graphon_theory.estimation.network_estimates import estimate_network
    from graphon_theory.networks.network import Network
    from graphon_theory.reports.estimate_rows import estimate_rows

    found_masks, held = _layers(masks, "mask")
    found_weights = _layers(weights, "weight")[0] if weights else held
    scales: Any = dense_std[0] if dense_std and len(dense_std) == 1 else dense_std or None
    standard = parameterization is Parameterization.standard
    if standard and scales is None and found_weights is not None:
        found_weights = _in_units(found_weights, found_masks, weight_variance)
    with working("estimate"):
        found = estimate_network(found_masks, found_weights, count, scales, inputs=inputs, drift=not no_drift)
    fan_ins = tuple(len(labels) for labels in found.labels[:-1]) if standard else None
    network = Network(
        list(found),
        activation=(names[0] if len(names) == 1 else names) if names else "relu",
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        parameterization=parameterization.value,
        widths=widths or fan_ins,
        outputs=len(found.labels[-1]),
    )
    try:
        network.save(out)
    except SpecError as error:
        way_out = "write it to a name in .npz, take fewer --blocks, or group the inputs by --inputs 64."
        raise SpecError(f"{error} On the command line: {way_out}") from None
    _show_estimate(estimate_rows(found), out, as_json)


def _show_estimate(rows: list[dict[str, Any]], out: Path, as_json: bool) -> None:
    if as_json:
        print_json({"out": str(out), "layers": rows})
        return
    signs = any(row.get("z") is not None for row in rows)
    # "effective" counts connections on paths from input to output; two tables would be read past each other
    made = table("Estimated network", "layer", "units", "dead", "blocks", "density", "effective", "V / W")
    if signs:
        for name in ("coherence", "z"):
            made.add_column(name, justify="right", overflow="fold")
    made.padding = (0, 0, 0, 1)
    for row in rows:
        told = [
            str(row["layer"]),
            f"{row['units'][0]}-{row['units'][1]}",
            str(row["dead"]),
            f"{row['blocks'][0]}-{row['blocks'][1]}",
            f"{row['density']:.4f}",
            f"{row['effective_density']:.4f}",
            f"{row['variance_ratio']:.4f}",
        ]
        made.add_row(*told, *([f"{row['coherence']:.3f}", f"{row['z']:.1f}"] if signs else []))
    show(made)
    say(f"written to {out}")


def _in_units(weights: list[Any], masks: list[Any], variance: float) -> list[Any]:
    """Weights of the standard parameterization in units of the deviation they were drawn with."""
    if len(weights) != len(masks):
        return weights  # refused by name elsewhere
    pairs = zip(weights, masks, strict=True)
    return [w / np.sqrt(variance / m.shape[-1]) if m.ndim and w.dtype.kind in "fiu" else w for w, m in pairs]


def _layers(paths: Sequence[Path], word: str) -> tuple[list[Any], list[Any] | None]:
    """Matrices of all layers: one a file or all those of a .npz, files of a folder by the numbers in their names.

    In a folder with masks and weights, these are told by how their names begin; the others of the two are returned too.
    """
    files: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        held = sorted((one for one in path.iterdir() if one.suffix.lower() in (".npy", ".npz")), key=_in_order)
        if not held:
            raise InputError(f"{path}: expected a folder of .npy or .npz files, one a layer, found none.")
        named = [one for one in held if one.name.lower().startswith(word)]
        files += named or held
        if named and word == "mask":
            others += [one for one in held if one.name.lower().startswith("weight")]
    found = [array for path in files for array in read_arrays(path, "layers as .npy or .npz").values()]
    rest = [array for path in others for array in read_arrays(path, "layers as .npy or .npz").values()]
    return found, rest or None


def _in_order(path: Path) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.stem))


def design(
    spec: Spec,
    inputs: Inputs,
    density: Annotated[
        list[float], typer.Option(metavar="X...", help="Share of all connections kept, or one a layer.")
    ],
    widths: Annotated[list[int], typer.Option(metavar="N...", help="All unit counts n_0 ... n_L; n_0 is the inputs'.")],
    out: NetworkOut,
    targets: Annotated[
        Path | None,
        typer.Option(parser=path_of, metavar="FILE", help="Targets, one row an input, where the objective needs them."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="leave_one_out, alignment, evidence, energy or loss_at.")
    ] = "leave_one_out",
    blocks: Annotated[str, typer.Option(metavar="N|auto", help='Blocks a hidden layer, or "auto".')] = "8",
    layers: Annotated[
        list[int] | None, typer.Option(metavar="L...", help="Weight layers that are free, from 1; all if left out.")
    ] = None,
    ridge: Annotated[float, typer.Option(help="Ridge of the regression.")] = 1e-3,
    starts: Annotated[int, typer.Option(help="Random starts.")] = 8,
    iterations: Annotated[int, typer.Option(help="Iterations of each start at most.")] = 100,
    holdout: Annotated[float, typer.Option(help="Share of the inputs held out.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the random starts.")] = 0,
    history: Annotated[
        Path | None,
        typer.Option(parser=written_as(".nc"), metavar="FILE.nc", help="Where to write the search, over iterations."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Design the graphon that learns the data best under a budget of connections."""
    from graphon_theory.data.files import save_dataset
    from graphon_theory.designs.graphon_designs import design as design_of

    with working("design") as shown:
        found = design_of(
            read_network_as(spec),
            read_array(inputs, "x"),
            None if targets is None else read_array(targets, "y"),
            density=density[0] if len(density) == 1 else density,
            widths=widths,
            objective=objective,
            blocks=number_or_word(blocks),
            layers=layers or None,
            ridge=ridge,
            starts=starts,
            iterations=iterations,
            holdout=holdout,
            rng=seed,
            progress=shown.report,
        )
    found.network.save(out)
    if history is not None:
        save_dataset(found.history, history)
    densities = [layer.mask.mean() for layer in found.network.layers]
    if as_json:
        figures = {"value": found.value, "value_with_rows": found.value_with_rows, "baseline": found.baseline_value}
        print_json({"out": str(out), **figures, "helps": found.helps, "densities": densities})
        return
    made = table("Designed network", "layer", "density", "largest", "smallest")
    for number, (layer, share) in enumerate(zip(found.network.layers, densities, strict=True), 1):
        low, high = layer.mask.extremes()
        made.add_row(str(number), f"{share:.4f}", f"{high:.4f}", f"{low:.4f}")
    show(made)
    say(f"{objective}: {found.value:.6g}, of random pruning at this budget {found.baseline_value:.6g}")
    if found.value_with_rows is not None:
        say(f"with rows drawn from the input mask, as wide networks have them: {found.value_with_rows:.6g}")
    say("helps on inputs held out" if found.helps else "does not help on inputs held out: take the random mask")
    say(f"written to {out}")
