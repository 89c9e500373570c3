"""Experiments by name: ``python -m graphon_validation EXPERIMENT --out DIR``."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphon_theory.cli.exits import exit_status
from graphon_theory.cli.options import number_or_word
from graphon_theory.data.checks import MOST_DRAWS, whole_number
from graphon_theory.data.files import file_path
from graphon_theory.errors import InputError
from graphon_validation.experiments import (
    cross_entropy_experiments,
    descent_experiments,
    design_experiments,
    kernel_experiments,
    label_experiments,
    mask_experiments,
    mask_path_experiments,
    motion_experiments,
    path_experiments,
    protocol_experiments,
    saliency_experiments,
    sequel_experiments,
    sign_experiments,
    spectrum_experiments,
    stage_experiments,
    sweep_experiments,
    synflow_experiments,
    training_experiments,
    transfer_experiments,
    upstream_experiments,
    verdict_experiments,
)
from graphon_validation.experiments.contenders import CONTENDERS, PRUNED
from graphon_validation.experiments.idx_data import WARPED, load_data
from graphon_validation.experiments.labelled_data import SETS, labelled_data
from graphon_validation.experiments.parts import ONLY
from graphon_validation.experiments.sweep_experiments import DENSITY
from graphon_validation.experiments.tasks import TASKS
from graphon_validation.experiments.verdict_experiments import RULES
from graphon_validation.pruning.scores import one_shot_methods
from graphon_validation.studies.checkpoint_estimates import estimate_checkpoint
from graphon_validation.training.trainers import OPTIMIZERS

_IMAGES, _QUICK_IMAGES = 300, 200  # for the batch and the inputs of kernels; for a look at training
_MOST_LAYERS = 1_000
_MOST_UNITS = 1_000_000  # and inputs, rounds, steps: of any count
_REPEATABLE = ("activations", "samples")  # one a layer, one a width
_LEAST_DENSITY = 1e-6
ONE_SHOT = one_shot_methods()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    chosen = _parser().parse_args(arguments)

    def run() -> None:
        _check_options(chosen)
        chosen.run(chosen)

    return exit_status("error", run)


def _check_options(chosen: argparse.Namespace) -> None:
    """Counts within their bounds, densities that are shares, nothing asked for twice. Raises InputError otherwise."""
    bounds = {"seeds": (getattr(chosen, "least_seeds", 1), MOST_DRAWS), "hidden": (1, _MOST_LAYERS)}
    for name, value in vars(chosen).items():
        option, many = f"--{name.replace('_', '-')}", value if isinstance(value, list | tuple) else [value]
        least, most = bounds.get(name, (1, _MOST_UNITS))
        counts = [one for one in many if isinstance(one, int) and not isinstance(one, bool)]
        for one in counts:
            whole_number(option, one, least, most, expected=f"a whole number from {least} to {most:,}")
        for one in many if name in ("density", "densities") else ():
            if not _LEAST_DENSITY <= one <= 1:
                raise InputError(f"{option}: expected a share kept, {_LEAST_DENSITY:g} to 1, got {one:g}.")
        if name not in _REPEATABLE and len(set(map(str, many))) < len(many):
            raise InputError(f"{option}: expected different {'integers' if counts else 'ones'}, got {many}.")


def _ask_snip(parser: argparse.ArgumentParser) -> None:
    """What networks pruned by SNIP are, and the data that they are pruned on."""
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--loss", choices=["cross_entropy", "squared"], default="cross_entropy")
    parser.add_argument("--device", help="where networks are pruned, such as cuda")
    parser.add_argument("--data", default="digits", help=f"{', '.join(SETS)}, or idx:FOLDER for MNIST's files")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m graphon_validation", description=__doc__)
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")

    def command(
        name: str, text: str, run: Callable[[argparse.Namespace], object], widths: list[int], seeds: int, least: int = 3
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text)
        made.add_argument("--out", type=_path, required=True, help="folder for the results")
        made.add_argument("--widths", type=int, nargs="+", default=widths, help="hidden widths")
        made.add_argument("--seeds", type=int, default=seeds, help=f"networks per width (at least {least})")
        if run is not _quickstart:
            made.add_argument("--quick", action="store_true", help="a size that takes seconds, to see that it runs")
        made.set_defaults(run=run, least_seeds=least)
        return made

    text = "drawn and pruned networks against their limits"
    widths = [128, 256, 512, 1024, 2048]
    command("width-sweep", text, _width_sweep, widths, 32)
    text = "networks drawn from three-block (W, V) and (W, V, D)"
    command("three-blocks", text, _three_blocks, [256, 1024, 4096], 32)
    text = "networks with shortcuts and LayerNorm drawn from three-block (W, V)"
    command("stages", text, _stages, [256, 1024, 4096], 32)
    text = "eigenvalues under magnitude pruning over those under random"
    command("magnitude-gap", text, _magnitude_gap, [1024], 24)
    quick = command("quickstart-sweep", "a short sweep of a network given as TOML", _quickstart, [64, 256], 8)
    quick.add_argument("--network", type=_path, required=True, help="TOML file of the network")
    quick.add_argument("--inputs", type=_path, required=True, help="(samples, inputs) as .npy, .npz, .csv or .txt")

    text = "pruned networks: four protocols against every theory"
    protocols = command("protocols", text, _protocols, [256, 512, 1024], 8)
    protocols.add_argument("--method", choices=ONE_SHOT, default="magnitude")
    protocols.add_argument("--density", type=float, default=DENSITY)
    protocols.add_argument("--blocks", type=int, default=8, help="blocks of units per hidden layer")
    protocols.add_argument("--hidden", type=int, default=3, help="hidden layers")
    protocols.add_argument("--prune-input", action="store_true", help="prune the input layer too")

    text = "networks pruned by SNIP against gt.saliency_network"
    saliency = command("saliency", text, _saliency, [512, 1024, 2048], 8)
    saliency.add_argument("--density", type=float, default=DENSITY)
    saliency.add_argument("--loss", choices=["cross_entropy", "squared"], default="cross_entropy")
    saliency.add_argument("--activation", default="relu")
    saliency.add_argument("--bias-variance", type=float, default=0.0)
    saliency.add_argument("--hidden", type=int, default=3, help="hidden layers")
    saliency.add_argument("--positions", type=int, default=512, help="units drawn per hidden layer")

    text = "scores of the sign test on layers whose masks know nothing"
    scores = command("sign-scores", text, _sign_scores, [128], 4000)
    text = "the sign test on every way to prune"
    signs = command("sign-test", text, _sign_test, [512, 1024], 2, least=1)
    signs.add_argument(
        "--methods", nargs="+", choices=ONE_SHOT, default=["random", "magnitude", "synflow", "snip", "grasp"]
    )
    signs.add_argument("--densities", type=float, nargs="+", default=[DENSITY])
    signs.add_argument("--hidden", type=int, nargs="+", default=[3], help="hidden layers")
    text = "verdicts on every way to prune, of one network and of two widths"
    verdicts = command("verdicts", text, _verdicts, [256, 1024], 3, least=1)
    verdicts.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    verdicts.add_argument("--density", type=float, default=0.1)
    verdicts.add_argument("--hidden", type=int, default=3, help="hidden layers")
    verdicts.add_argument("--device", help="where networks are pruned and trained, such as cuda")
    text = "traces as sums over paths, beside (W, V) with V = 1 in dense layers"
    paths = command("path-sums", text, _path_sums, [512, 1024], 6)
    paths.add_argument("--method", choices=ONE_SHOT, default="synflow")
    text = "what the channel upstream adds to the limit of SNIP"
    upstream = command("upstream", text, _upstream, [1024], 8)
    upstream.add_argument("--densities", type=float, nargs="+", default=[DENSITY, 0.05])
    upstream.add_argument("--positions", type=int, default=512, help="units drawn per hidden layer")
    upstream.add_argument("--hidden", type=int, default=3, help="hidden layers")
    upstream.add_argument("--networks", action="store_true", help="draw and prune as many networks, and compare")
    _ask_snip(upstream)

    text = "SNIP's networks over their means given the labels of their units, at their own width"
    labels = command("snip-labels", text, _snip_labels, [512, 1024], 12)
    labels.add_argument("--densities", type=float, nargs="+", default=[0.1, 0.03])
    labels.add_argument("--hidden", type=int, default=4, help="hidden layers")
    _ask_snip(labels)

    text = "networks pruned by SynFlow against gt.synflow_network"
    synflow = command("synflow-law", text, _synflow_law, [256, 512, 1024, 2048], 4)
    synflow.add_argument("--densities", type=float, nargs="+", default=[0.3, 0.1, 0.03, 0.01])
    synflow.add_argument("--rounds", type=int, nargs="+", default=[10, 30, 100])
    synflow.add_argument("--hidden", type=int, nargs="+", default=[2, 4], help="hidden layers")
    synflow.add_argument("--inputs", type=int, nargs="+", default=[64, 784])
    synflow.add_argument("--device", help="where masks are pruned, such as cuda")
    synflow.add_argument("--finished", action="store_true", help="gather what is complete in the folder, and no more")

    text = "pruned networks trained by Adam, beside their kernels at the start"
    training = command("training", text, _training, [1024], 3, least=2)
    training.add_argument("--methods", nargs="+", choices=ONE_SHOT, default=PRUNED)
    training.add_argument("--densities", type=float, nargs="+", default=training_experiments.DENSITIES)
    training.add_argument("--learning-rate", type=float, nargs="+", default=[1e-3, 5e-3, 1e-2], help="one or several")
    training.add_argument("--no-dense", action="store_true", help="leave the dense networks out")
    training.add_argument("--init", default="he", help="law of the dense weights (gv.dense)")
    training.add_argument("--hidden", type=int, default=4, help="hidden layers")
    _add_estimate(commands.add_parser("estimate", help="the network of graphons of a torch model's file"))
    text = "designed masks against those of every other method: predicted and measured test errors"
    designs = command("design", text, _design, [1024], 5, least=1)
    designs.add_argument("--task", choices=TASKS, default="relevant")
    designs.add_argument("--density", type=float, default=0.1)
    designs.add_argument("--methods", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    designs.add_argument("--steps", type=int, default=200, help="of gradient descent")
    text = "the best learning rate over densities: with no rule, 1/density, gt.transfer"
    transfers = command("transfer", text, _transfer, [512], 2, least=1)
    transfers.add_argument("--laws", nargs="+", choices=transfer_experiments.LAWS, default=transfer_experiments.LAWS)
    transfers.add_argument("--densities", type=float, nargs="+", default=transfer_experiments.DENSITIES)
    transfers.add_argument("--steps", type=int, default=40, help="of training at every rate")
    transfers.add_argument("--train", type=int, default=200, help="inputs to train on")
    transfers.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=OPTIMIZERS)
    text = "spectra of pruned networks' kernels over densities, beside their limits"
    spectra = command("spectrum", text, _spectrum, list(spectrum_experiments.WIDTHS), 3, least=1)
    spectra.add_argument("--methods", nargs="+", choices=ONE_SHOT, default=PRUNED)
    spectra.add_argument("--densities", type=float, nargs="+", default=spectrum_experiments.DENSITIES)
    spectra.add_argument("--hidden", type=int, default=4, help="hidden layers")
    spectra.add_argument(
        "--samples", type=int, nargs="+", default=spectrum_experiments.SAMPLES, help="inputs, a number for each width"
    )
    spectra.add_argument("--rounds", type=int, help="of SynFlow, 100 if left out")
    text = "block densities of masks over widths, beside those of a constant graphon and the law of SynFlow"
    masks = command("mask-convergence", text, _masks, list(mask_experiments.WIDTHS), 3, least=2)
    masks.add_argument("--methods", nargs="+", choices=ONE_SHOT, default=mask_experiments.PRUNED)
    masks.add_argument("--densities", type=float, nargs="+", default=mask_experiments.DENSITIES)
    masks.add_argument(
        "--largest", type=int, default=mask_experiments.LARGEST, help="width that distances are taken to"
    )
    masks.add_argument("--at", type=float, default=mask_experiments.AT, help="the density at which it is drawn")
    masks.add_argument("--hidden", type=int, default=4, help="hidden layers")
    masks.add_argument("--bins", type=int, default=mask_experiments.BINS, help="blocks of units a side")
    masks.add_argument("--positions", type=int, default=256, help="units drawn per hidden layer in SynFlow's law")
    text = "bias and spread of kernels over widths, by protocol; what of width and density sets the spread"
    kernels = command("kernel-convergence", text, _kernels, list(kernel_experiments.WIDTHS), 24)
    kernels.add_argument(
        "--methods", nargs="+", choices=list(kernel_experiments.LAWS), default=list(kernel_experiments.LAWS)
    )
    kernels.add_argument("--densities", type=float, nargs="+", default=kernel_experiments.DENSITIES, help="drawn")
    kernels.add_argument("--spread-widths", type=int, nargs="+", default=kernel_experiments.SPREAD_WIDTHS)
    kernels.add_argument("--spread-seeds", type=int, default=64, help="drawn networks per width and density")
    kernels.add_argument("--device", help="where networks live, such as cuda")
    text = "gradient descent against the curves that kernels predict, lazy and not"
    descents = command("descent", text, _descent, [1024], 3, least=1)
    descents.add_argument("--methods", nargs="+", choices=ONE_SHOT, default=PRUNED)
    descents.add_argument("--density", type=float, default=DENSITY)
    descents.add_argument("--scales", type=float, nargs="+", default=descent_experiments.SCALES, help="of the targets")
    descents.add_argument("--steps", type=int, default=200)
    descents.add_argument("--device", help="where networks live, such as cuda")
    text = "how far kernels of drawn networks move in training, beside what is said beforehand"
    motions = command("kernel-motion", text, _motions, [128, 512], 4, least=2)
    motions.add_argument("--sets", nargs="+", choices=motion_experiments.SETS, default=list(motion_experiments.SETS))
    motions.add_argument("--variances", type=float, nargs="+", default=[2.0, 4.0, 10.0], help="of the weights")
    motions.add_argument("--densities", type=float, nargs="+", default=[1.0, 0.5, 0.2])
    motions.add_argument("--layers", type=int, nargs="+", default=[2, 3], help="of weights")
    text = "cross-entropy of wide networks, beside that of their limits"
    entropies = command("cross-entropy", text, _cross_entropy, [2048], 6, least=2)
    entropies.add_argument(
        "--kinds", nargs="+", choices=cross_entropy_experiments.KINDS, default=list(cross_entropy_experiments.KINDS)
    )
    entropies.add_argument("--density", type=float, default=0.2)
    entropies.add_argument(
        "--variances",
        type=float,
        nargs="+",
        default=list(cross_entropy_experiments.VARIANCES),
        help="of the weights of all layers; the larger, the lazier",
    )
    entropies.add_argument("--steps", type=int, default=200)
    entropies.add_argument("--positions", type=int, default=512, help="units drawn per hidden layer in SNIP's limit")
    entropies.add_argument("--device", help="where networks live, such as cuda")
    text = "factorised saliency over densities: where concentration turns into collapse"
    sequel = command("sequel", text, _sequel, [1024], 3, least=1)
    sequel.add_argument("--densities", type=float, nargs="+", default=sequel_experiments.DENSITIES)
    sequel.add_argument(
        "--strengths", type=float, nargs="+", default=sequel_experiments.STRENGTHS, help="of the factors"
    )
    sequel.add_argument("--samples", type=int, default=150, help="inputs of the kernels")
    text = "masks in time: SynFlow's rounds, iterative magnitude, SET and RigL, and spectra along the way"
    mask_paths = command("graphon-paths", text, _mask_paths, [256], 2, least=1)
    mask_paths.add_argument(
        "--kinds", nargs="+", choices=list(mask_path_experiments.LABELS), default=list(mask_path_experiments.LABELS)
    )
    mask_paths.add_argument("--density", type=float, default=0.1)
    mask_paths.add_argument("--steps", type=int, default=400, help="of training")
    for one in (designs, transfers):
        one.add_argument("--device", default="cpu", help="where networks train, as torch names it (cuda)")
    for one in (protocols, saliency, scores, signs, verdicts, paths):
        one.add_argument("--data", default="digits", help="digits, digits28, or idx:FOLDER for MNIST's files")
    for one in (masks, spectra, training):
        one.add_argument("--data", default=WARPED, help="digits28 (warped digits), digits, or idx:FOLDER for MNIST's")
        one.add_argument("--device", help="where networks live, such as cuda")
        one.add_argument("--only", choices=ONLY, help="keep these, and leave the rest to another run")
    return parser


def _path(text: str) -> Path:
    try:
        return file_path("path", text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_estimate(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=_path, help=".pt, .pth or .safetensors")
    command.add_argument("--out", type=_path, required=True, help="network to write, .toml or .npz")
    command.add_argument("--blocks", default="16", help='blocks a hidden layer, or "auto"')
    command.add_argument("--inputs", type=int, help="group the inputs, in their order")
    command.add_argument("--no-drift", action="store_true", help="leave the drift D out")
    command.add_argument("--activations", nargs="+", help="one name, or one for every layer but the last")
    command.add_argument("--init", default="torch", help="law of the weights before training, or their deviation")
    command.add_argument("--zeros-pruned", action="store_true", help="weights that are exactly 0 were pruned")
    command.set_defaults(run=_estimate)


def _estimate(chosen: argparse.Namespace) -> None:
    try:
        init: str | float = float(chosen.init)
    except ValueError:
        init = chosen.init
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        rows = estimate_checkpoint(
            chosen.source,
            chosen.out,
            blocks=number_or_word(chosen.blocks),
            inputs=chosen.inputs,
            drift=not chosen.no_drift,
            activations=chosen.activations,
            init=init,
            zeros_pruned=chosen.zeros_pruned,
        )
    print(json.dumps(rows))


def _options(chosen: argparse.Namespace, *names: str, quick: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of these names, "width" the only one of --widths; where --quick was asked for, what ``quick`` says.

    Raises InputError for several widths where one is due.
    """
    found = {name: getattr(chosen, name) for name in names if name != "width"}
    if "width" in names:
        if len(chosen.widths) > 1:
            raise InputError(f"--widths: {chosen.experiment} takes one width, got {chosen.widths}.")
        found["width"] = chosen.widths[0]
    return {**found, **(quick if quick is not None and chosen.quick else {})}


def _width_sweep(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "widths", "seeds", quick=sweep_experiments.QUICK)
    sweep_experiments.width_sweep_experiment(chosen.out, **options)


def _three_blocks(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "widths", "seeds", quick=sweep_experiments.QUICK)
    sweep_experiments.three_block_experiment(chosen.out, **options)


def _stages(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "widths", "seeds", quick=stage_experiments.QUICK)
    stage_experiments.stage_experiment(chosen.out, **options)


def _magnitude_gap(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "widths", "seeds", quick=sweep_experiments.GAP_QUICK)
    sweep_experiments.magnitude_gap_experiment(chosen.out, **options)


def _quickstart(chosen: argparse.Namespace) -> None:
    sweep_experiments.quickstart_sweep(chosen.network, chosen.inputs, chosen.widths, chosen.seeds, chosen.out)


def _images(chosen: argparse.Namespace) -> dict[str, Any]:
    """The data of --data, and what they are called in what is kept."""
    return {"data": load_data(chosen.data, least=_IMAGES), "source": chosen.data}


def _protocols(chosen: argparse.Namespace) -> None:
    names = ("method", "density", "widths", "seeds", "blocks", "hidden", "prune_input")
    options = _options(chosen, *names, quick=protocol_experiments.QUICK)
    if options["hidden"] < 2 and not chosen.prune_input:
        raise InputError("--hidden: with one hidden layer only the input layer is left to prune; add --prune-input.")
    protocol_experiments.protocol_experiment(chosen.out, **_images(chosen), **options)


def _saliency(chosen: argparse.Namespace) -> None:
    names = ("density", "widths", "seeds", "hidden", "activation", "bias_variance", "loss", "positions")
    options = _options(chosen, *names, quick=saliency_experiments.QUICK)
    saliency_experiments.saliency_experiment(chosen.out, **_images(chosen), **options)


def _synflow_law(chosen: argparse.Namespace) -> None:
    names = ("widths", "seeds", "densities", "rounds", "hidden", "inputs", "device", "finished")
    options = _options(chosen, *names, quick=synflow_experiments.QUICK)
    synflow_experiments.synflow_law_experiment(chosen.out, **options)


def _sign_scores(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "widths", "seeds", quick=sign_experiments.SCORES_QUICK)
    sign_experiments.sign_score_experiment(chosen.out, **_images(chosen), **options)


def _sign_test(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "methods", "densities", "widths", "hidden", "seeds", quick=sign_experiments.QUICK)
    sign_experiments.sign_test_experiment(chosen.out, **_images(chosen), **options)


def _verdicts(chosen: argparse.Namespace) -> None:
    names = ("rules", "widths", "seeds", "density", "hidden", "device")
    options = _options(chosen, *names, quick=verdict_experiments.QUICK)
    verdict_experiments.verdict_experiment(chosen.out, **_images(chosen), **options)


def _path_sums(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "widths", "seeds", "method", quick=path_experiments.QUICK)
    path_experiments.path_sum_experiment(chosen.out, **_images(chosen), **options)


def _labelled(chosen: argparse.Namespace) -> dict[str, Any]:
    """Labelled data by the name of a set, or MNIST's files, and that name."""
    data = labelled_data(chosen.data) if chosen.data in SETS else load_data(chosen.data, least=_IMAGES)
    return {"data": data, "source": chosen.data}


def _upstream(chosen: argparse.Namespace) -> None:
    names = ("densities", "widths", "seeds", "positions", "hidden", "networks", "activation", "loss", "device")
    options = _options(chosen, *names, quick=upstream_experiments.QUICK)
    upstream_experiments.upstream_experiment(chosen.out, **_labelled(chosen), **options)


def _snip_labels(chosen: argparse.Namespace) -> None:
    names = ("densities", "widths", "seeds", "hidden", "activation", "loss", "device")
    options = _options(chosen, *names, quick=label_experiments.QUICK)
    label_experiments.label_experiment(chosen.out, **_labelled(chosen), **options)


def _training(chosen: argparse.Namespace) -> None:
    names = ("methods", "densities", "widths", "seeds", "hidden", "learning_rate", "init", "device", "only")
    options = _options(chosen, *names, quick=training_experiments.QUICK)
    count = _QUICK_IMAGES if chosen.quick else None
    options["data"] = load_data(chosen.data, count, 2 * training_experiments.HELD_OUT)
    options["source"] = f"{chosen.data}, {count}" if chosen.quick else chosen.data
    training_experiments.training_experiment(chosen.out, unpruned=not chosen.no_dense, **options)


def _design(chosen: argparse.Namespace) -> None:
    names = ("task", "density", "methods", "width", "seeds", "steps", "device")
    options = _options(chosen, *names, quick=design_experiments.QUICK)
    design_experiments.design_experiment(chosen.out, **options)


def _transfer(chosen: argparse.Namespace) -> None:
    names = ("laws", "optimizers", "width", "seeds", "densities", "steps", "train", "device")
    options = _options(chosen, *names, quick=transfer_experiments.QUICK)
    transfer_experiments.transfer_experiment(chosen.out, **options)


def _spectrum(chosen: argparse.Namespace) -> None:
    names = ("methods", "densities", "widths", "samples", "seeds", "hidden", "rounds", "device", "only")
    options = _options(chosen, *names, quick=spectrum_experiments.QUICK)
    spectrum_experiments.spectrum_experiment(chosen.out, source=chosen.data, **options)


def _masks(chosen: argparse.Namespace) -> None:
    sizes = ("widths", "seeds", "densities", "largest", "at", "hidden", "bins", "positions")
    options = _options(chosen, "methods", *sizes, "device", "only", quick=mask_experiments.QUICK)
    mask_experiments.mask_convergence_experiment(chosen.out, source=chosen.data, **options)


def _kernels(chosen: argparse.Namespace) -> None:
    names = ("methods", "widths", "seeds", "densities", "spread_widths", "spread_seeds", "device")
    options = _options(chosen, *names, quick=kernel_experiments.QUICK)
    kernel_experiments.kernel_convergence_experiment(chosen.out, **options)


def _descent(chosen: argparse.Namespace) -> None:
    names = ("methods", "scales", "width", "density", "seeds", "steps", "device")
    options = _options(chosen, *names, quick=descent_experiments.QUICK)
    descent_experiments.descent_experiment(chosen.out, **options)


def _motions(chosen: argparse.Namespace) -> None:
    names = ("sets", "widths", "seeds", "variances", "densities", "layers")
    options = _options(chosen, *names, quick=motion_experiments.QUICK)
    motion_experiments.kernel_motion_experiment(chosen.out, **options)


def _cross_entropy(chosen: argparse.Namespace) -> None:
    names = ("kinds", "width", "seeds", "density", "variances", "steps", "positions", "device")
    options = _options(chosen, *names, quick=cross_entropy_experiments.QUICK)
    cross_entropy_experiments.cross_entropy_experiment(chosen.out, **options)


def _sequel(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "width", "seeds", "densities", "strengths", quick=sequel_experiments.QUICK)
    sequel_experiments.sequel_experiment(chosen.out, **{"inputs": chosen.samples, **options})


def _mask_paths(chosen: argparse.Namespace) -> None:
    options = _options(chosen, "kinds", "width", "seeds", "density", "steps", quick=mask_path_experiments.QUICK)
    mask_path_experiments.mask_path_experiment(chosen.out, **options)
