"""Experiments by name: ``python -m graphon_validation EXPERIMENT --out DIR``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from graphon_theory.cli import as_path, exit_status
from graphon_theory.data.checks import MOST_DRAWS, axes_of, whole_number, whole_numbers
from graphon_theory.errors import InputError
from graphon_validation.experiments.idx_files import load_data
from graphon_validation.experiments.path_experiments import path_sum_experiment
from graphon_validation.experiments.protocol_experiments import protocol_experiment
from graphon_validation.experiments.saliency_experiments import saliency_experiment
from graphon_validation.experiments.sign_experiments import sign_score_experiment, sign_test_experiment
from graphon_validation.experiments.sweep_experiments import (
    DENSITY,
    magnitude_gap_experiment,
    quickstart_sweep,
    three_block_experiment,
    width_sweep_experiment,
)
from graphon_validation.experiments.training_experiments import HELD_OUT, training_experiment
from graphon_validation.experiments.training_experiments import METHODS as TRAINED
from graphon_validation.experiments.upstream_experiments import upstream_experiment
from graphon_validation.pruning.scores import METHODS

_IMAGES = 300  # for the batch and the inputs of kernels
_MOST_LAYERS = 1_000
_LEAST_DENSITY = 1e-6
ONE_SHOT = sorted(set(METHODS) - {"imp"})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    chosen = _parser().parse_args(arguments)

    def run() -> None:
        whole_numbers("--widths", chosen.widths, distinct=True)
        expected = f"{chosen.least_seeds} to {MOST_DRAWS:,} networks"
        whole_number("--seeds", chosen.seeds, chosen.least_seeds, MOST_DRAWS, expected=expected)
        for density in [*getattr(chosen, "densities", []), getattr(chosen, "density", 1.0)]:
            if not _LEAST_DENSITY <= density <= 1:
                raise InputError(f"--density: expected a share kept, {_LEAST_DENSITY:g} to 1, got {density:g}.")
        densities = getattr(chosen, "densities", [])
        if len(set(densities)) < len(densities):
            raise InputError(f"--densities: expected different ones, got {densities}.")
        if hasattr(chosen, "hidden"):
            whole_numbers("--hidden", chosen.hidden if axes_of(chosen.hidden) else [chosen.hidden], 1, _MOST_LAYERS)
        chosen.run(chosen)

    return exit_status("error", run, mendable=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m graphon_validation", description=__doc__)
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")

    def command(
        name: str, text: str, run: Callable[[argparse.Namespace], object], widths: list[int], seeds: int, least: int = 3
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text)
        made.add_argument("--out", type=as_path, required=True, help="folder for the results")
        made.add_argument("--widths", type=int, nargs="+", default=widths, help="hidden widths")
        made.add_argument("--seeds", type=int, default=seeds, help=f"networks per width (at least {least})")
        made.set_defaults(run=run, least_seeds=least)
        return made

    text = "drawn and pruned networks against their limits"
    widths = [128, 256, 512, 1024, 2048]
    command("width-sweep", text, lambda c: width_sweep_experiment(c.out, c.widths, c.seeds), widths, 32)
    text = "networks drawn from three-block (W, V) and (W, V, D)"
    command("three-blocks", text, lambda c: three_block_experiment(c.out, c.widths, c.seeds), [256, 1024, 4096], 32)
    text = "eigenvalues under magnitude pruning over those under random"
    command("magnitude-gap", text, lambda c: magnitude_gap_experiment(c.out, c.widths, c.seeds), [1024], 24)
    quick = command("quickstart-sweep", "a short sweep of a network given as TOML", _quickstart, [64, 256], 8)
    quick.add_argument("--network", type=as_path, required=True, help="TOML file of the network")
    quick.add_argument("--inputs", type=as_path, required=True, help="(samples, inputs) as .npy, .npz, .csv or .txt")

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
    text = "traces as sums over paths, beside (W, V) with V = 1 in dense layers"
    paths = command("path-sums", text, _path_sums, [512, 1024], 6)
    paths.add_argument("--method", choices=ONE_SHOT, default="synflow")
    text = "what the channel upstream adds to the limit of SNIP"
    upstream = command("upstream", text, _upstream, [1024], 8)
    upstream.add_argument("--densities", type=float, nargs="+", default=[DENSITY, 0.05])
    upstream.add_argument("--positions", type=int, default=512, help="units drawn per hidden layer")

    text = "pruned networks trained by Adam, beside their kernels at the start"
    training = command("training", text, _training, [1024], 3, least=2)
    training.add_argument("--methods", nargs="+", choices=ONE_SHOT, default=TRAINED)
    training.add_argument("--densities", type=float, nargs="+", default=[DENSITY])
    training.add_argument("--learning-rate", type=float, default=1e-3)
    training.add_argument("--init", default="he", help="law of the dense weights (gv.dense)")
    training.add_argument("--hidden", type=int, default=4, help="hidden layers")
    for one in (protocols, saliency, scores, signs, paths, upstream, training):
        one.add_argument("--data", default="digits", help="digits, or idx:FOLDER for MNIST's files")
    return parser


def _quickstart(chosen: argparse.Namespace) -> None:
    quickstart_sweep(chosen.network, chosen.inputs, chosen.widths, chosen.seeds, chosen.out)


def _protocols(chosen: argparse.Namespace) -> None:
    if chosen.hidden < 2 and not chosen.prune_input:
        raise InputError("--hidden: with one hidden layer only the input layer is left to prune; add --prune-input.")
    options = {"blocks": chosen.blocks, "hidden": chosen.hidden, "prune_input": chosen.prune_input}
    data = load_data(chosen.data, least=_IMAGES)
    protocol_experiment(chosen.out, chosen.method, chosen.density, chosen.widths, chosen.seeds, data=data, **options)


def _saliency(chosen: argparse.Namespace) -> None:
    names = ("hidden", "activation", "bias_variance", "loss", "positions")
    options = {name: getattr(chosen, name) for name in names}
    data = load_data(chosen.data, least=_IMAGES)
    saliency_experiment(chosen.out, chosen.density, chosen.widths, chosen.seeds, data=data, **options)


def _sign_scores(chosen: argparse.Namespace) -> None:
    sign_score_experiment(chosen.out, chosen.widths, chosen.seeds, data=load_data(chosen.data, least=_IMAGES))


def _sign_test(chosen: argparse.Namespace) -> None:
    whole_numbers("hidden", chosen.hidden, distinct=True)
    over = (chosen.methods, chosen.densities, chosen.widths, chosen.hidden)
    sign_test_experiment(chosen.out, *over, chosen.seeds, data=load_data(chosen.data, least=_IMAGES))


def _path_sums(chosen: argparse.Namespace) -> None:
    path_sum_experiment(
        chosen.out, chosen.widths, chosen.seeds, method=chosen.method, data=load_data(chosen.data, least=_IMAGES)
    )


def _upstream(chosen: argparse.Namespace) -> None:
    options = {"positions": chosen.positions, "data": load_data(chosen.data, least=_IMAGES)}
    upstream_experiment(chosen.out, chosen.densities, chosen.widths, chosen.seeds, **options)


def _training(chosen: argparse.Namespace) -> None:
    options = {name: getattr(chosen, name) for name in ("hidden", "learning_rate", "init")}
    data = load_data(chosen.data, least=2 * HELD_OUT)
    training_experiment(chosen.out, chosen.methods, chosen.densities, chosen.widths, chosen.seeds, data=data, **options)
