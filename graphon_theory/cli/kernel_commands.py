"""The commands on kernels: computed, their spectrum, training with them, and networks side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from graphon_theory.cli.displays import plain, print_json, save, say, show, table, working
from graphon_theory.cli.options import (
    Inputs,
    Json,
    Kind,
    KindOption,
    Output,
    ParameterizationOption,
    ResultOut,
    SomeInputs,
    Source,
    Targets,
    Tolerance,
    Widths,
    path_of,
    written_as,
)
from graphon_theory.cli.sources import chosen_kernel, is_network, read_network_as
from graphon_theory.data.array_files import read_array
from graphon_theory.data.files import save_dataset
from graphon_theory.errors import InputError

Spec = Annotated[
    Path, typer.Argument(parser=path_of, metavar="NETWORK", help="The network, .toml or .npz, as Network.save writes.")
]
Specs = Annotated[
    list[Path], typer.Argument(parser=path_of, metavar="NETWORK...", help="Networks, .toml or .npz; a column a file.")
]
KernelOut = Annotated[Path, typer.Option(parser=written_as(".nc"), metavar="FILE.nc", help="netCDF file to write.")]
Against = Annotated[
    Path | None,
    typer.Option(parser=path_of, metavar="FILE", help="Second inputs: the kernel of the inputs with these."),
]
NewInputs = Annotated[
    Path | None, typer.Option(parser=path_of, metavar="FILE", help="New inputs, with --test-targets.")
]
NewTargets = Annotated[Path | None, typer.Option(parser=path_of, metavar="FILE", help="Their targets.")]


def kernel(
    spec: Spec,
    inputs: Inputs,
    out: KernelOut,
    against: Against = None,
    rtol: Tolerance = 1e-10,
    parameterization: ParameterizationOption = None,
    widths: Widths = None,
    as_json: Json = False,
) -> None:
    """Compute the limit kernels (NNGP and NTK) of a network on inputs."""
    from graphon_theory.engine.limits import limit_kernel

    network = read_network_as(spec, parameterization, widths)
    x, second = read_array(inputs, "x"), None if against is None else read_array(against, "x2", "x")
    with working("limit kernel") as shown:
        kernels = limit_kernel(network, x, second, rtol=rtol, progress=shown.report)
    save_dataset(kernels, out)
    error = float(kernels.attrs["quadrature_error"])
    if as_json:
        print_json({"out": str(out), "shape": kernels.ntk.shape, "quadrature_error": error})
        return
    shape = " x ".join(str(size) for size in kernels.ntk.shape)
    say(f"{out}: nngp and ntk, {shape}, quadrature error {error:.1e}")


def spectrum(
    source: Source,
    inputs: SomeInputs = None,
    count: Annotated[int | None, typer.Option(help="Modes to compute: 10, or all of fewer.")] = None,
    kind: KindOption = Kind.ntk,
    output: Output = None,
    rtol: Tolerance = 1e-10,
    parameterization: ParameterizationOption = None,
    widths: Widths = None,
    out: ResultOut = None,
    as_json: Json = False,
) -> None:
    """Show the eigenvalues of a kernel and how its energy concentrates."""
    from graphon_theory.spectra.kernel_spectra import spectrum as spectrum_of

    with working("spectrum") as shown:
        found = chosen_kernel(source, inputs, kind, output, rtol, parameterization, widths, shown.report)
        modes = spectrum_of(found, min(10, found.shape[-1]) if count is None else count)
    if as_json:
        print_json(modes)
    else:
        each = [modes] if "output" not in modes.dims else [modes.isel(output=o) for o in range(modes.sizes["output"])]
        for number, one in enumerate(each):
            _show_spectrum(one, kind, number if len(each) > 1 else None)
    save(modes, out, as_json)


def _show_spectrum(modes: Any, kind: Kind, output: int | None) -> None:
    whose = "" if output is None else f" of output {output}"
    made = table(f"Spectrum of {kind.value} / N{whose}", "mode", "eigenvalue", "ln", "energy (%)", "residual")
    for mode in modes["mode"].values:
        one = modes.sel(mode=mode)
        value = float(one.eigenvalue)
        log = f"{np.log(value):.4f}" if value > 0 else ""
        energy = f"{100 * float(one.energy):.2f}"
        made.add_row(str(mode), f"{value:.6g}", log, energy, f"{float(one.residual):.1e}")
    show(made)

    def figure(name: str) -> float:
        return float(modes.attrs[name] if name in modes.attrs else modes.get(name, np.nan))

    told = f"effective rank {figure('effective_rank'):.4g}, gap {figure('gap'):.4g}"
    if "decay_exponent" in modes.attrs:
        first, last = modes.attrs["decay_range"]
        told += f", decay exponent {modes.attrs['decay_exponent']:.4g} (modes {first} to {last})"
    say(told)
    say(f"modes that share the trace: {figure('participation'):.4g}")


def dynamics(
    source: Source,
    targets: Targets,
    inputs: SomeInputs = None,
    times: Annotated[
        list[float] | None,
        typer.Option(metavar="T...", help="Increasing times; inf is allowed. 0 1 10 100 1000 inf if left out."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of which time counts the steps.")] = 1.0,
    batch: Annotated[int | None, typer.Option(help="Inputs a minibatch, for the rate that SGD survives.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps that this SGD has; without end if left out.")] = None,
    kind: KindOption = Kind.ntk,
    output: Output = None,
    rtol: Tolerance = 1e-10,
    parameterization: ParameterizationOption = None,
    widths: Widths = None,
    out: ResultOut = None,
    as_json: Json = False,
) -> None:
    """Show loss and predictions of gradient flow in time, and the largest stable learning rate."""
    from graphon_theory.training.divergence_rates import divergence_learning_rate
    from graphon_theory.training.dynamics import critical_learning_rate, gradient_flow

    moments = times or [0.0, 1.0, 10.0, 100.0, 1000.0, np.inf]
    if batch is None and steps is not None:
        raise InputError("--steps: they are those of minibatches; say how many inputs these have, as --batch 32.")
    if batch is not None and not (is_network(source) and kind is Kind.ntk):
        raise InputError("--batch: the rate that SGD survives is told of a network by its NTK; pass it with --inputs.")
    with working("gradient flow") as shown:
        found = chosen_kernel(source, inputs, kind, output, rtol, parameterization, widths, shown.report)
        wanted = read_array(targets, "y")
        flow = gradient_flow(found, wanted, moments, learning_rate=learning_rate)
        rates = {"critical_learning_rate": critical_learning_rate(found)}
        if is_network(source) and kind is Kind.ntk:
            network = read_network_as(source, parameterization, widths)
            if network.is_plain:
                rates["divergence_learning_rate"] = divergence_learning_rate(
                    found, network, None if batch is None else wanted, batch=batch, steps=steps
                )
    if as_json:
        print_json({**plain(flow), **rates})
    else:
        made = table("Gradient flow", "time", "training loss")
        for time, loss in zip(flow["time"].values, flow.loss.values, strict=True):
            made.add_row(f"{time:.6g}", f"{loss:.6g}")
        show(made)
        say(f"time in steps of learning rate {learning_rate:g}, loss 1/(2N) sum (f - y)^2")
        say(f"largest stable learning rate of gradient descent: {rates['critical_learning_rate']:.6g}")
        if "divergence_learning_rate" in rates:
            survived = f"{rates['divergence_learning_rate']:.3g}"
            whose = "descent" if batch is None else f"SGD in batches of {batch}"
            say(f"above it the loss rises first; {whose} survives up to about {survived}")
    save(flow, out, as_json)


def compare(
    specs: Specs,
    inputs: Inputs,
    targets: Targets,
    test_inputs: NewInputs = None,
    test_targets: NewTargets = None,
    level: Annotated[float, typer.Option(help="Loss to reach, as a share of the first.")] = 0.1,
    count: Annotated[int | None, typer.Option(help="Eigenvalues to show: 10, or all of fewer.")] = None,
    ridge: Annotated[float, typer.Option(help="Ridge of the regression.")] = 0.0,
    kind: KindOption = Kind.ntk,
    parameterization: ParameterizationOption = None,
    widths: Widths = None,
    out: ResultOut = None,
    as_json: Json = False,
) -> None:
    """Compare networks on one data set: spectrum, speed and errors."""
    from graphon_theory.reports.comparisons import compare_networks, comparison_table

    networks = {}
    for path in specs:
        if path.stem in networks:
            raise InputError(f"{path}: a network is called by its file, and {path.stem} came before; rename one file.")
        networks[path.stem] = read_network_as(path, parameterization, widths)
    given = ((test_inputs, ("x_test", "x")), (test_targets, ("y_test", "y")))
    tests = [None if path is None else read_array(path, *names) for path, names in given]
    with working("comparison") as shown:
        found = compare_networks(
            networks,
            read_array(inputs, "x"),
            read_array(targets, "y"),
            *tests,
            level=level,
            count=count,
            ridge=ridge,
            kind=kind.value,
            progress=shown.report,
        )
    if as_json:
        print_json(found)
    else:
        for start in range(0, len(networks), _COLUMNS):
            show(comparison_table(found.isel(network=slice(start, start + _COLUMNS))))
    save(found, out, as_json)


_COLUMNS = 3  # networks beside each other in 80 columns
