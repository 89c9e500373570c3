"""``graphon-theory``: the steps of the library from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from graphon_theory import __version__
from graphon_theory.data.array_files import ARRAYS, read_array, read_arrays
from graphon_theory.data.checks import file_path
from graphon_theory.data.files import load_dataset, save_dataset, whole_file
from graphon_theory.data.labels import MODE, TIME
from graphon_theory.errors import GraphonError, InputError, SpecError

if TYPE_CHECKING:
    import xarray as xr

    from graphon_theory.networks.network import Network

_SOURCE = "a network (.toml, with --inputs) or a kernel file (.nc) written by `graphon-theory kernel`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    chosen = _parser().parse_args(arguments)

    def run() -> None:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            chosen.run(chosen, Console())

    return exit_status("graphon-theory", run)


def exit_status(name: str, run: Callable[[], object], mendable: int = 2) -> int:
    """Run a command and return its exit status: 0, ``mendable`` for what the user can mend, 130 after Ctrl-C.

    What went wrong is told in one line on standard error, after the command's ``name``.
    """
    try:
        run()
    except GraphonError as error:
        told = str(error)
    except OSError as error:
        told = f"{error.filename or 'file'}: {error.strerror or error}"
    except MemoryError as error:
        told = f"{error or 'there is not enough memory'}; take fewer inputs."
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    else:
        return 0
    print(f"{name}: {told}", file=sys.stderr)
    return mendable


def as_path(text: str) -> Path:
    """A path as argparse reads it."""
    try:
        return file_path("path", text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    print(f"graphon-theory: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="graphon-theory", description="Limit kernels of sparse neural networks, from graphons."
    )
    parser.add_argument("--version", action="version", version=f"graphon-theory {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    quickstart = commands.add_parser("quickstart", help="the main job on handwritten digits, in about a minute")
    quickstart.add_argument("--out", type=as_path, default=Path("quickstart-results"), help="folder for the results")
    quickstart.set_defaults(run=_quickstart)

    kernel = commands.add_parser("kernel", help="limit kernels (NNGP and NTK) of a network")
    kernel.add_argument("spec", type=as_path, metavar="SPEC.toml", help="the network, as Network.to_toml() writes it")
    _add_inputs(kernel, required=True)
    _add_parameterization(kernel)
    kernel.add_argument("--against", type=as_path, metavar="FILE", help="second inputs: kernel of INPUTS with these")
    kernel.add_argument("--out", type=as_path, required=True, metavar="FILE.nc", help="netCDF file to write")
    kernel.set_defaults(run=_kernel)

    spectrum = commands.add_parser("spectrum", help="eigenvalues and energy concentration of a kernel")
    _add_source(spectrum)
    spectrum.add_argument("--count", type=int, help="modes to compute (default 10, or all of fewer)")
    spectrum.set_defaults(run=_spectrum)

    dynamics = commands.add_parser("dynamics", help="loss and predictions of gradient flow in time")
    _add_source(dynamics)
    dynamics.add_argument("--targets", type=as_path, required=True, metavar="FILE", help="targets, one row an input")
    dynamics.add_argument(
        "--times",
        type=float,
        nargs="+",
        default=[0, 1, 10, 100, 1000, np.inf],
        help="increasing; inf is allowed",
    )
    dynamics.add_argument("--learning-rate", type=float, default=1.0)
    dynamics.set_defaults(run=_dynamics)

    compare = commands.add_parser("compare", help="several networks on one data set: spectrum, speed, errors")
    compare.add_argument("specs", type=as_path, nargs="+", metavar="SPEC.toml", help="networks; a column a file")
    compare.add_argument(
        "--inputs",
        type=as_path,
        required=True,
        metavar="FILE",
        help="(samples, inputs) as .npy, .npz, .csv or .txt",
    )
    compare.add_argument("--targets", type=as_path, required=True, metavar="FILE", help="targets, one row an input")
    compare.add_argument("--test-inputs", type=as_path, metavar="FILE", help="new inputs, with --test-targets")
    compare.add_argument("--test-targets", type=as_path, metavar="FILE", help="their targets")
    compare.add_argument("--level", type=float, default=0.1, help="loss to reach, share of the first (default 0.1)")
    compare.add_argument("--count", type=int, help="eigenvalues to show (default 10, or all of fewer)")
    compare.add_argument("--ridge", type=float, default=0.0, help="ridge of the regression (default 0)")
    compare.add_argument("--kind", choices=("ntk", "nngp"), default="ntk", help="which kernel (default ntk)")
    _add_parameterization(compare)
    compare.add_argument("--out", type=as_path, metavar="FILE.nc", help="netCDF file to write")
    compare.set_defaults(run=_compare)

    estimate = commands.add_parser(
        "estimate", help="a network of graphons from the masks (and weights) of a pruned one"
    )
    _add_estimate(estimate)
    estimate.set_defaults(run=_estimate)
    return parser


def _add_inputs(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument(
        "--inputs",
        type=as_path,
        required=required,
        metavar="FILE",
        help="(samples, inputs) as .npy, .npz, .csv or .txt",
    )
    command.add_argument("--rtol", type=float, default=1e-10, help="quadrature tolerance (default 1e-10)")


def _add_parameterization(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--parameterization",
        choices=("ntk", "standard"),
        help='whose learning rates: "standard" is that of torch.nn.Linear (default: as the file of the network says)',
    )
    command.add_argument(
        "--widths", type=int, nargs="+", metavar="N", help="fan-ins n_0 ... n_(L-1), which standard needs"
    )


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=as_path, metavar="SPEC.toml|KERNEL.nc", help=_SOURCE)
    _add_inputs(command, required=False)
    command.add_argument("--kind", choices=("ntk", "nngp"), default="ntk", help="which kernel (default ntk)")
    command.add_argument("--output", type=int, default=0, help="which output of the network (default 0)")
    _add_parameterization(command)
    command.add_argument("--out", type=as_path, metavar="FILE.nc", help="netCDF file to write")


def _add_estimate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "masks",
        type=as_path,
        nargs="+",
        metavar="MASKS",
        help="masks (receiving, sending units) from input to output: a .npy a layer, or one .npz with all of them",
    )
    command.add_argument(
        "--weights", type=as_path, nargs="+", metavar="FILE", help="weights, as the masks: gives V and D"
    )
    command.add_argument("--blocks", default="16", help='blocks a hidden layer, or "auto" (default 16)')
    command.add_argument(
        "--inputs", type=int, metavar="GROUPS", help="group the inputs, in their order (default: none)"
    )
    command.add_argument("--dense-std", type=float, nargs="+", help="deviation of dense weights: one, or one a layer")
    command.add_argument("--no-drift", action="store_true", help="leave the drift D out")
    command.add_argument("--activation", default="relu", help="default relu")
    command.add_argument(
        "--weight-variance", type=float, default=2.0, help="sigma_w^2 (default 2; torch.nn.Linear starts at 1/3)"
    )
    command.add_argument("--bias-variance", type=float, default=0.0, help="default 0")
    command.add_argument(
        "--parameterization",
        choices=("ntk", "standard"),
        default="ntk",
        help='"standard": weights of variance sigma_w^2 / fan-in and no factor beside them, as in torch.nn.Linear; '
        "what --weights are divided by unless --dense-std says otherwise, and whose learning rates later commands give",
    )
    command.add_argument(
        "--widths", type=int, nargs="+", metavar="N", help="fan-ins n_0 ... n_(L-1) (default for standard: the masks')"
    )
    command.add_argument("--out", type=as_path, required=True, metavar="SPEC.toml", help="network to write")


def _quickstart(chosen: argparse.Namespace, console: Console) -> None:
    from graphon_theory.reports.quickstart import run

    run(chosen.out, console)


def _kernel(chosen: argparse.Namespace, console: Console) -> None:
    kernels = _limit_kernel(chosen)
    save_dataset(kernels, chosen.out)
    shape = " x ".join(str(size) for size in kernels.ntk.shape)
    error = f"{float(kernels.attrs['quadrature_error']):.1e}"
    _say(console, f"{chosen.out}: nngp and ntk, {shape}, quadrature error {error}")


def _spectrum(chosen: argparse.Namespace, console: Console) -> None:
    from graphon_theory.spectra.kernel_spectra import spectrum

    kernel = _chosen_kernel(chosen)
    modes = spectrum(kernel, min(10, len(kernel)) if chosen.count is None else chosen.count)
    table = _table(f"Spectrum of {chosen.kind} / N", "mode", "eigenvalue", "ln", "energy (%)", "residual")
    for mode in modes[MODE].values:
        one = modes.sel({MODE: mode})
        value = float(one.eigenvalue)
        log = f"{np.log(value):.4f}" if value > 0 else ""
        energy = f"{100 * float(one.energy):.2f}"
        table.add_row(str(mode), f"{value:.6g}", log, energy, f"{float(one.residual):.1e}")
    console.print(table)
    told = f"effective rank {modes.attrs['effective_rank']:.4g}, gap {modes.attrs['gap']:.4g}"
    if "decay_exponent" in modes.attrs:
        first, last = modes.attrs["decay_range"]
        told += f", decay exponent {modes.attrs['decay_exponent']:.4g} (modes {first} to {last})"
    _say(console, told)
    _save(modes, chosen.out, console)


def _dynamics(chosen: argparse.Namespace, console: Console) -> None:
    from graphon_theory.training.dynamics import critical_learning_rate, gradient_flow

    kernel = _chosen_kernel(chosen)
    targets = read_array(chosen.targets, "y")
    flow = gradient_flow(kernel, targets, chosen.times, learning_rate=chosen.learning_rate)
    table = _table("Gradient flow", "time", "training loss")
    for time, loss in zip(flow[TIME].values, flow.loss.values, strict=True):
        table.add_row(f"{time:.6g}", f"{loss:.6g}")
    console.print(table)
    _say(console, f"time in steps of learning rate {chosen.learning_rate:g}, loss 1/(2N) sum (f - y)^2")
    _say(console, f"largest stable learning rate of gradient descent: {critical_learning_rate(kernel):.6g}")
    _save(flow, chosen.out, console)


def _compare(chosen: argparse.Namespace, console: Console) -> None:
    from graphon_theory.reports.comparisons import compare_networks, comparison_table

    networks = {}
    for path in chosen.specs:
        if path.stem in networks:
            raise InputError(f"{path}: a network is called by its file, and {path.stem} came before; rename one file.")
        networks[path.stem] = _network(path, chosen)
    given = ((chosen.test_inputs, ("x_test", "x")), (chosen.test_targets, ("y_test", "y")))
    tests = [None if path is None else read_array(path, *names) for path, names in given]
    found = compare_networks(
        networks,
        read_array(chosen.inputs, "x"),
        read_array(chosen.targets, "y"),
        *tests,
        level=chosen.level,
        count=chosen.count,
        ridge=chosen.ridge,
        kind=chosen.kind,
    )
    console.print(comparison_table(found))
    _save(found, chosen.out, console)


def _estimate(chosen: argparse.Namespace, console: Console) -> None:
    from graphon_theory.estimation.network_estimates import estimate_network
    from graphon_theory.networks.network import Network

    masks = _layers(chosen.masks)
    weights = None if chosen.weights is None else _layers(chosen.weights)
    scales = chosen.dense_std[0] if chosen.dense_std and len(chosen.dense_std) == 1 else chosen.dense_std
    blocks = int(chosen.blocks) if chosen.blocks.isdecimal() else chosen.blocks
    standard = chosen.parameterization == "standard"
    if standard and scales is None and weights is not None:
        weights = _in_units(weights, masks, chosen.weight_variance)
    found = estimate_network(masks, weights, blocks, scales, inputs=chosen.inputs, drift=not chosen.no_drift)
    fan_ins = tuple(len(labels) for labels in found.labels[:-1]) if standard else None
    network = Network(
        list(found),
        activation=chosen.activation,
        weight_variance=chosen.weight_variance,
        bias_variance=chosen.bias_variance,
        parameterization=chosen.parameterization,
        widths=chosen.widths or fan_ins,
        outputs=len(found.labels[-1]),
    )
    try:
        text = network.to_toml()
    except SpecError as error:
        raise SpecError(f"{error} On the command line: fewer --blocks, or group the inputs by --inputs 64.") from None
    table = _table(
        "Estimated network", "layer", "units", "dead", "blocks", "density", "effective", "V / W", "coherence", "z"
    )
    for k, layer in enumerate(found):
        signs = (
            ("", "") if found.coherence is None else (f"{found.coherence[k].value:.3f}", f"{found.coherence[k].z:.1f}")
        )
        table.add_row(
            str(k + 1),
            f"{len(found.labels[k])} -> {len(found.labels[k + 1])}",
            str(found.units.dead[k + 1]),
            f"{found.blocks[k]} -> {found.blocks[k + 1]}",
            f"{found.units.density[k]:.4f}",
            f"{found.units.effective_density[k]:.4f}",
            f"{layer.variance.mean() / layer.mask.mean():.4f}",
            *signs,
        )
    console.print(table)
    with whole_file(chosen.out) as part:
        part.write_text(text, encoding="utf-8")
    _say(console, f"written to {chosen.out}")


def _in_units(weights: list[Any], masks: list[Any], variance: float) -> list[Any]:
    """Weights of the standard parameterization in units of the deviation they were drawn with."""
    if len(weights) != len(masks):
        return weights  # refused by name elsewhere
    pairs = zip(weights, masks, strict=True)
    return [w / np.sqrt(variance / m.shape[-1]) if m.ndim and w.dtype.kind in "fiu" else w for w, m in pairs]


def _layers(paths: Sequence[Path]) -> list[Any]:
    """Matrices of all layers: one a .npy file, all those of a .npz file in the order they were saved."""
    return [array for path in paths for array in read_arrays(path, "layers as .npy or .npz").values()]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _save(data: xr.Dataset, out: Path | None, console: Console) -> None:
    if out is not None:
        save_dataset(data, out)
        _say(console, f"written to {out}")


def _network(spec: Path, chosen: argparse.Namespace) -> Network:
    """The network of a file, in the parameterization that was asked for."""
    from graphon_theory.networks.network import Network

    try:
        network = Network.from_toml(spec.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SpecError(f"{spec}: expected a network as TOML text, but this is no UTF-8 text.") from None
    except GraphonError as error:
        raise type(error)(f"{spec}: {error}") from None
    asked = {name: getattr(chosen, name) for name in ("parameterization", "widths") if getattr(chosen, name)}
    return dataclasses.replace(network, **asked) if asked else network


def _limit_kernel(chosen: argparse.Namespace) -> xr.Dataset:
    from graphon_theory.engine.limits import limit_kernel

    network = _network(getattr(chosen, "spec", None) or chosen.source, chosen)
    against = getattr(chosen, "against", None)
    second = None if against is None else read_array(against, "x2", "x")
    return limit_kernel(network, read_array(chosen.inputs, "x"), second, rtol=chosen.rtol)


def _chosen_kernel(chosen: argparse.Namespace) -> xr.DataArray:
    """The kernel matrix of a file, or of a network on inputs."""
    suffix = chosen.source.suffix.lower()
    if suffix in ARRAYS:
        what = "expected a netCDF-3 file of a kernel, or a network as .toml, but it holds arrays"
        raise InputError(f"{chosen.source}: {what}; inputs go beside a network, as --inputs.")
    if suffix == ".toml":
        if chosen.inputs is None:
            raise InputError(f"--inputs: {chosen.source} is a network, so it needs --inputs FILE as well.")
        kernels = _limit_kernel(chosen)
    elif chosen.parameterization or chosen.widths:
        raise InputError(
            f"--parameterization: {chosen.source} holds a kernel, whose parameterization is settled; pass the network."
        )
    else:
        kernels = load_dataset(chosen.source)
    if chosen.kind not in kernels:
        has = ", ".join(map(str, kernels.data_vars))
        raise InputError(f"{chosen.source}: holds no {chosen.kind}, only {has}; pass {_SOURCE}.")
    kernel = kernels[chosen.kind]
    outputs = kernel.sizes.get("output", 1)
    if not 0 <= chosen.output < outputs:
        raise InputError(f"--output: expected 0 to {outputs - 1}, got {chosen.output}.")
    return kernel.isel(output=chosen.output) if "output" in kernel.dims else kernel
