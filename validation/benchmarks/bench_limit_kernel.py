"""The limit kernel's speed and error, side by side with what one would use instead.

    python validation/benchmarks/bench_limit_kernel.py [--quick] [--peer-python PATH] [--out docs]

Contenders take turns within one run, the least time of several rounds counts, and every call allocates its own
results. Errors are against 30-digit arithmetic, relative to sqrt(K_ii K_jj). Writes benchmarks.md, where every row
with a goal says whether it is met, and images/benchmarks.png. ``--peer-python``: the interpreter of an environment with
neural-tangents (peer_neural_tangents.py says how to make one). ``--quick``: sizes that only show that everything runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import graphon_theory as gt
from benchmarks.common import (
    FloatArray,
    duration,
    fastest,
    kernel_scale,
    machine,
    markdown_table,
    relative_error,
)
from benchmarks.goals import Goal, cells
from benchmarks.growth import BIAS, Growth, draw, measure_growth
from benchmarks.peers import Peer
from benchmarks.step_networks import StepNetwork, dense, equal_blocks, exact_pairs, plain_numpy, random_blocks

ENGINE = "graphon-theory"
PRODUCT = "NumPy X @ X.T"
PLAIN = "plain NumPy"
PEER = "neural-tangents"
_HERE = Path(__file__).resolve().parent
_D = 64
Kernels = tuple[FloatArray, FloatArray]
Goals = dict[str, tuple[Goal, ...]]

# What a contender's time is to be in units of the engine's: the product of the inputs is all that no kernel can do
# without, and of neural-tangents' and NumPy's ways the engine is to be worth its code.
DENSE_GOALS: Goals = {PRODUCT: (Goal(1 / 3), Goal(1 / 2)), PEER: (Goal(12),)}
BLOCK_GOALS: Goals = {PEER: (Goal(14),), PLAIN: (Goal(20),)}
RATE_GOALS = {64: Goal(5, at_most=True)}  # ns per entry, hidden layer and position, by positions
PROCESS_GOALS = {  # seconds, then MiB
    "import": Goal(1, at_most=True),
    "first": Goal(3, at_most=True),
    "cold": Goal(20, at_most=True),
    "memory": Goal(64, at_most=True),
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    dense: int = 4000
    blocks: int = 1000
    finite_inputs: int = 100
    finite_width: int = 4096
    counts: tuple[int, ...] = (250, 500, 1000, 2000, 4000)
    rival_limit: int = 2000
    growth_inputs: int = 1000
    depths: tuple[int, ...] = (2, 3, 4, 6, 8, 10)
    positions: tuple[int, ...] = (1, 4, 16, 64)
    rounds: int = 7
    process: bool = True


QUICK = Sizes(330, 330, 10, 64, (20, 40), 20, 20, (2, 3), (1, 4), 1, False)


@dataclass(frozen=True)
class Row:
    """One contender: least seconds, and largest error (None where there is nothing to compare)."""

    name: str
    seconds: float
    error: float | None


@dataclass(frozen=True)
class Comparison:
    """Contenders on one problem, the engine first, with goals by contender and what there is to say."""

    title: str
    rows: list[Row]
    goals: Goals
    text: str = ""

    def markdown(self) -> str:
        own = self.rows[0].seconds
        names = ["", "time", f"times {ENGINE}'s", *(["goal"] if self.goals else []), "largest error"]
        lines = []
        for row in self.rows:
            times = f"{row.seconds / own:.3g}"
            goal = [cells(self.goals.get(row.name, ()), times)] if self.goals else []
            error = "" if row.error is None else f"{row.error:.1e}"
            lines.append([row.name, duration(row.seconds), times, *goal, error])
        left_out = [
            f"Not measured here: {name} ({', '.join(goal.words() for goal in goals)})."
            for name, goals in self.goals.items()
            if name not in {row.name for row in self.rows}
        ]
        text = "".join(f"\n{line}\n" for line in (*left_out, self.text) if line)
        return f"### {self.title}\n\n{markdown_table(names, lines)}{text}"


def checked_pairs(x: FloatArray) -> list[tuple[int, int]]:
    """Pairs to check: an input with itself, the most alike, the most opposed, and three others."""
    some = x[:400] / np.linalg.norm(x[:400], axis=1, keepdims=True)
    cosine = some @ some.T
    np.fill_diagonal(cosine, 0.0)
    n = len(some)
    return [(0, 0), divmod(int(cosine.argmax()), n), divmod(int(cosine.argmin()), n), (0, 1), (2, n - 1), (n // 2, 5)]


def compare(
    title: str, goals: Goals, net: StepNetwork, x: FloatArray, rounds: int, case: str, peer: Peer | None
) -> Comparison:
    """Engine, plain NumPy and the peer on one network; also against X @ X.T where there is a goal for that."""
    network = net.network
    kernel = gt.limit_kernel(network, x)
    works: dict[str, Callable[[], object]] = {
        f"{ENGINE}, {kernel.attrs['route']} route": lambda: gt.limit_kernel(network, x)
    }
    values: list[Kernels | None] = [(kernel.nngp.values, kernel.ntk.values)]
    if PRODUCT in goals:
        works[PRODUCT] = lambda: x @ x.T
        values.append(None)
    works[PLAIN] = lambda: plain_numpy(net, x)
    values.append(plain_numpy(net, x))
    if peer is not None:
        works[PEER] = lambda: peer.run(case)
        values.append(peer.kernels(case))
    pairs = checked_pairs(x)
    exact = exact_pairs(net, x, pairs)
    errors = [None if v is None else _error(v, exact, pairs) for v in values]
    del values, kernel
    times = fastest(works, rounds)
    rows = [Row(name, seconds, error) for (name, seconds), error in zip(times.items(), errors, strict=True)]
    return Comparison(title, rows, goals)


def _error(kernels: Kernels, exact: FloatArray, pairs: Sequence[tuple[int, int]]) -> float:
    i, j = np.array(pairs).T
    errors = []
    for kernel, reference in zip(kernels, exact, strict=True):
        root = np.sqrt(np.diagonal(kernel))
        errors.append(relative_error(kernel[i, j], reference, root[i] * root[j]))
    return max(errors)


def finite_width(net: StepNetwork, x: FloatArray, width: int, rounds: int) -> Comparison:
    """One finite network drawn, and its empirical kernel, against the limit it stands for."""
    from graphon_validation import build, empirical_kernel

    network = net.network
    limit = gt.limit_kernel(network, x).ntk.values
    widths = (x.shape[1], *[width] * (len(net.layers) - 1), 1)

    def empirical() -> FloatArray:
        values: FloatArray = empirical_kernel(build(network, widths, seed=0), x).ntk.values
        return values

    pairs = checked_pairs(x)
    i, j = np.array(pairs).T
    scale = kernel_scale(limit)
    own = relative_error(limit[i, j], exact_pairs(net, x, pairs)[1], scale[i, j])
    finite = relative_error(empirical(), limit, scale)
    times = fastest({ENGINE: lambda: gt.limit_kernel(network, x), f"one seed at width {width:,}": empirical}, rounds)
    rows = [Row(name, seconds, error) for (name, seconds), error in zip(times.items(), (own, finite), strict=True)]
    text = (
        "The finite network is drawn and its exact NTK taken (`build`, `empirical_kernel`); its error is its distance "
        "from the limit, the largest over all pairs."
    )
    return Comparison(f"Against the empirical NTK of one wide network, N = {len(x)}", rows, {}, text)


def new_process(repetitions: int, *, cold: bool, memory: bool) -> dict[str, float]:
    """What fresh_process.py reports: ``import``, ``first`` (least of the repetitions), ``cold``, memory."""

    def run(environment: dict[str, str], *arguments: str) -> dict[str, float]:
        command = [sys.executable, str(_HERE / "fresh_process.py"), *arguments]
        answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        found: dict[str, float] = json.loads(answer)
        return found

    report: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = dict(os.environ)
        if cold:
            environment["NUMBA_CACHE_DIR"] = cache
            report["cold"] = run(environment)["first"]
        warm = [run(environment) for _ in range(repetitions)]
        report |= {name: min(one[name] for one in warm) for name in ("import", "first")}
        if memory:
            report |= {k: v for k, v in run(environment, "memory").items() if k not in report}
    return report


def process_markdown(found: dict[str, float]) -> str:
    names = {
        "import": "`import graphon_theory`",
        "first": "import and first kernel, compiled code in the cache",
        "cold": "import and first kernel, nothing compiled yet",
    }
    rows = [
        [
            text,
            duration(found[name]),
            f"{PROCESS_GOALS[name].words()} s: {PROCESS_GOALS[name].verdict(f'{found[name]:.3g}')}",
        ]
        for name, text in names.items()
        if name in found
    ]
    most = PROCESS_GOALS["memory"]
    rows += [
        [
            f"memory beyond inputs and results, N = 2,000, {name}",
            f"{found[name]:.0f} MiB",
            f"{most.words()} MiB: {most.verdict(f'{found[name]:.0f}')}",
        ]
        for name in ("dense", "64 positions")
        if name in found
    ]
    text = (
        "Time is counted from the first line of a new Python process; the first kernel is of N = 100 on 4 blocks. "
        "Memory is the growth of the peak resident set after a call for N = 100.\n"
    )
    return f"### A new process\n\n{markdown_table(['', 'measured', 'goal'], rows)}\n{text}"


def growth_markdown(growth: Growth) -> str:
    names = list(growth.seconds)
    rows = [[name, *(duration(s) for s in growth.seconds[name].values())] for name in names]
    widest = max(len(row) for row in rows)
    rows = [[*row, *["–"] * (widest - len(row))] for row in rows]
    times = markdown_table(["N", *(f"{n:,}" for n in growth.seconds["dense"])], rows)

    def rates(title: str, found: dict[str, dict[int, float]], goals: dict[int, Goal]) -> str:
        held = {key: goal for key, goal in goals.items() if key in found["relu"]}
        lines = [
            [
                name,
                *(f"{v:.2f}" for v in points.values()),
                *(goal.cell(f"{points[key]:.2f}") for key, goal in held.items()),
            ]
            for name, points in found.items()
        ]
        return markdown_table([title, *(str(key) for key in found["relu"]), *(f"goal at {key}" for key in held)], lines)

    return (
        f"### Growth\n\n![Time against N, depth and positions](images/benchmarks.png)\n\n{times}\n"
        f"Nanoseconds per computed entry (N (N + 1) / 2 of them), hidden layer and position, N = {growth.inputs:,}, "
        "structured input layer and bias, 4 positions when depth varies, 3 hidden layers when positions do (the goal "
        "is for two cores):\n\n"
        f"{rates('hidden layers', growth.by_depth, {})}\n{rates('positions', growth.by_positions, RATE_GOALS)}"
    )


def run(sizes: Sizes, out: Path, peer_python: str | None = None) -> list[Comparison]:
    """Measure everything and write the page and the figure into ``out``; the comparisons."""
    rng = np.random.default_rng(0)
    large, small = rng.standard_normal((sizes.dense, _D)), rng.standard_normal((sizes.blocks, _D))
    few = rng.standard_normal((sizes.finite_inputs, _D))
    plain_net = dense(3, _D)
    common_net = random_blocks(4, 3, _D, 1, common_inputs=True)
    general_net = random_blocks(4, 3, _D, 2, bias_variance=BIAS)
    equal_net = equal_blocks(4, 3, _D, 3)
    left_out = []
    with contextlib.ExitStack() as stack:
        peer = None
        if peer_python is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            cases = {"dense": (plain_net, large), "common": (common_net, small), "general": (general_net, small)}
            cases["equal"] = (equal_net, small)
            peer = stack.enter_context(Peer(peer_python, cases, folder))
        else:
            left_out.append(f"{PEER} is left out: `--peer-python` was not given.")
        blocks = f"4 blocks, asymmetric and unequal, 3 hidden layers, N = {sizes.blocks:,}"
        comparisons = [
            compare(
                f"Dense, 3 hidden layers, d = {_D}, N = {sizes.dense:,}",
                DENSE_GOALS,
                plain_net,
                large,
                sizes.rounds,
                "dense",
                peer,
            ),
            compare(
                f"{blocks}: no bias, one input profile", BLOCK_GOALS, common_net, small, sizes.rounds, "common", peer
            ),
            compare(
                f"{blocks}: bias, structured inputs", BLOCK_GOALS, general_net, small, sizes.rounds, "general", peer
            ),
            compare(
                f"The same 4 x 4 blocks in every layer, 3 hidden layers, N = {sizes.blocks:,}: no bias",
                BLOCK_GOALS,
                equal_net,
                small,
                sizes.rounds,
                "equal",
                peer,
            ),
        ]
        extra = {} if peer is None else {PEER: peer.version}
    if find_spec("torch") is not None:
        comparisons.append(finite_width(general_net, few, sizes.finite_width, min(3, sizes.rounds)))
    else:
        left_out.append("The finite network is left out: torch is not installed.")
    growth = measure_growth(
        sizes.counts, sizes.rival_limit, sizes.growth_inputs, sizes.depths, sizes.positions, sizes.rounds
    )
    memory = sizes.process and Path("/proc/self/status").exists()
    process = new_process(3 if sizes.process else 1, cold=sizes.process, memory=memory)

    (out / "images").mkdir(parents=True, exist_ok=True)
    others = {
        f"{PEER}, {label}": (count, row.seconds)
        for label, count, comparison in (
            ("dense", sizes.dense, comparisons[0]),
            ("4 blocks", sizes.blocks, comparisons[2]),
        )
        for row in comparison.rows
        if row.name == PEER
    }
    draw(growth, out / "images" / "benchmarks.png", others)
    parts = [
        "# Benchmarks\n\nWritten by `validation/benchmarks/bench_limit_kernel.py`, which `make bench` runs: NNGP and "
        "NTK of ReLU networks in float64. Contenders take turns within one run and the least of "
        f"{sizes.rounds} times counts; ratios are worth more than times. Errors are against 30-digit arithmetic on "
        "a few pairs, the most alike, the most opposed and coincident ones among them, relative to "
        "$\\sqrt{K_{ii} K_{jj}}$. Goals beside a contender are for its time in units of the engine's, and are held "
        f"against what is printed.\n\n{machine(extra)}\n",
        *(f"{line}\n" for line in left_out),
        *(comparison.markdown() for comparison in comparisons),
        growth_markdown(growth),
        process_markdown(process),
    ]
    (out / "benchmarks.md").write_text("\n".join(parts), encoding="utf-8")
    return comparisons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs")
    parser.add_argument("--peer-python", metavar="PATH", help="interpreter of an environment with neural-tangents")
    parser.add_argument("--out", type=Path, help="folder of benchmarks.md (default: docs; build/benchmarks if quick)")
    options = parser.parse_args()
    root = _HERE.parents[1]
    out = options.out or (root / "build" / "benchmarks" if options.quick else root / "docs")
    for comparison in run(QUICK if options.quick else Sizes(), out, options.peer_python):
        print(comparison.markdown())
    print(f"Written: {out / 'benchmarks.md'} and {out / 'images' / 'benchmarks.png'}")


if __name__ == "__main__":
    main()
