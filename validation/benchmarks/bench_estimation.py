"""From masks to graphons: distances beside their nulls, and what estimation costs.

    python validation/benchmarks/bench_estimation.py [--large 10000] [--draws 20]

Prints, as tables for the documentation: distances of 64 x 64 block densities at several widths to those at 10,000,
for masks of a saliency law and for random ones; time and memory of one large layer in each mask format; bounds of cut
norms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray

import graphon_theory as gt
from benchmarks.common import machine, markdown_table
from graphon_theory.estimation.cut_norms import enumerate_cut_norm, relax_cut_norm

WIDTHS = (100, 500, 1000, 2000)
DENSITY = 0.2
BINS = 64
HUBS = ("exp(3*(u - 1/2))", "exp(2*(v - 1/2))")  # a smooth uneven pattern, as SNIP leaves it
PUBLISHED = {"SNIP [GL]": (17.16, 4.52, 1.52, 0.21), "GraSP [GL]": (17.82, 2.56, 2.22, 2.23)}


def random_mask(n_out: int, n_in: int, density: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Drawn by runs of rows, so that no float array of the mask's size exists."""
    mask = np.empty((n_out, n_in), dtype=bool)
    for start in range(0, n_out, 256):
        run = mask[start : start + 256]
        run[...] = rng.random(run.shape, dtype=np.float32) < density
    return mask


def convergence(large: int, draws: int) -> str:
    """Frobenius distance of block densities at width n to those at the large width, mean +- deviation over masks."""
    rng = np.random.default_rng(0)
    law = gt.saliency_pruning(*HUBS, DENSITY).mask
    truth = law.to_step(BINS)

    def estimate(graphon: gt.Graphon | None, n: int) -> gt.StepGraphon:
        mask = random_mask(n, n, DENSITY, rng) if graphon is None else graphon.sample(n, n, rng, positions="random")
        return gt.estimate_graphon(mask, BINS, draws=0)

    rows = [[name, *(f"{value:.2f}" for value in values)] for name, values in PUBLISHED.items()]
    for name, graphon in (("random (the null)", None), ("saliency law", law)):
        last = estimate(graphon, large)
        to_last, to_truth = [], []
        for n in WIDTHS:
            found = [estimate(graphon, n) for _ in range(draws)]
            away = [BINS * gt.l2_distance(one, last) for one in found]
            to_last.append(f"{np.mean(away):.2f} ± {np.std(away, ddof=1):.2f}")
            error = [BINS * gt.l2_distance(one, DENSITY if graphon is None else truth) for one in found]
            to_truth.append(f"{np.mean(error):.2f}")
        rows += [[name, *to_last], [f"{name}: to the true graphon", *to_truth]]
    spread = BINS * gt.l2_distance(truth, DENSITY)
    head = markdown_table(["distance to n = " + f"{large:,}", *(f"n = {n}" for n in WIDTHS)], rows)
    return f"{head}\nDistance of the saliency law to a constant: {spread:.2f}.\n"


def large_layer(kind: str, n: int) -> str:
    """One row: seconds and peak of newly allocated memory of sorting and averaging a layer, in a process of its own."""
    import scipy.sparse as sp

    dense = random_mask(n, n, DENSITY, np.random.default_rng(0))
    mask: object = dense
    if kind == "packed":
        mask = gt.PackedMask.pack(dense)
    elif kind == "sparse":
        mask = sp.csr_array(dense)
    del dense
    wall, cpu = time.perf_counter(), time.process_time()
    found = gt.estimate_graphon(mask, BINS)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tracemalloc.start()
    gt.estimate_graphon(mask, BINS)
    more = tracemalloc.get_traced_memory()[1] / 2**30
    tracemalloc.stop()
    assert found.null is not None
    return f"{kind}|{wall:.2f} s|{cpu:.2f} s|{more:.3f} GiB|{found.null.z:+.1f}"


def speed(n: int) -> str:
    rows = []
    for kind in ("dense", "packed", "sparse"):
        command = [sys.executable, __file__, "--layer", kind, "--large", str(n)]
        rows.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("|"))
    return markdown_table(["mask", "time", "CPU time", "memory beyond the mask", "z of the null"], rows)


def cut_norms(n: int = 2000) -> str:
    rng, widths, exact = np.random.default_rng(1), [], 0
    for seed in range(200):
        matrix = rng.standard_normal(tuple(rng.integers(1, 13, 2)))
        truth = sum(enumerate_cut_norm(matrix)[:2]) / 2
        lower, upper, _ = relax_cut_norm(matrix, np.random.default_rng(seed), 32)
        widths.append((upper - lower) / truth)
        exact += lower > (1 - 1e-12) * truth
    rows = [["200 Gaussian matrices up to 12 x 12", f"{np.mean(widths):.3f} (at most {max(widths):.3f})", ""]]
    noise = [random_mask(n, n, DENSITY, rng) for _ in range(2)]
    tilted = rng.random((n, n)) < np.linspace(0.1, 0.3, n)[:, None]
    for name, (a, b) in (("two random masks", noise), ("a tilted mask and a random one", (tilted, noise[0]))):
        start = time.perf_counter()
        found = gt.cut_norm(a, b)
        seconds = time.perf_counter() - start
        bounds = f"{found.relative_width:.3f} [{found[0]:.5f}, {found[1]:.5f}]"
        rows.append([f"{name}, {n} x {n}", bounds, f"{seconds:.1f} s"])
    table = markdown_table(["cut norm of", "relative width", "time"], rows)
    return f"{table}\nThe lower bound of the small matrices is exact in {exact} of 200.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--layer", choices=("dense", "packed", "sparse"), help="measure one mask format alone")
    options = parser.parse_args()
    if options.layer:
        print(large_layer(options.layer, options.large))
        return
    print(machine(), "", convergence(options.large, options.draws), speed(options.large), cut_norms(), sep="\n")


if __name__ == "__main__":
    main()
