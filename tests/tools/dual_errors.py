"""Print the table of docs/activations.md: worst errors of the duals and the bounds reported beside them.

    python -m tests.tools.dual_errors

Against the brute-force references of ``tests/data/duals.npz``, relative to sqrt(C11 C22) and sqrt(Cdot11 Cdot22).
"""

from __future__ import annotations

import numpy as np

import graphon_theory as gt
from graphon_theory.activations.activation import as_activation
from tests.dual_references import NAMED, WRITTEN, load, points


def main() -> None:
    stored = load()
    print("| activation | about 0: route | error | bound | about means: error | bound |\n|---|---|---|---|---|---|")
    for name in (*NAMED, *WRITTEN):
        activation = gt.Activation(WRITTEN[name]) if name in WRITTEN else as_activation(name)
        worst, bound = np.zeros(2), np.zeros(2)
        for (means, q), row, unresolved in zip(points(name), stored[name], stored[f"{name} error"], strict=True):
            if unresolved > 1e-13:
                continue
            about = int(any(means))
            try:
                got = np.array([float(value) for value in activation.duals(*q, *means)])
            except gt.ActivationError:  # a formula that overflows at the largest variances
                continue
            scale = np.where(row[2:] > 0, row[2:], 1.0)
            if about:  # about means phi counts down to 1e-20
                scale = np.maximum(scale, 1e-40)
            worst[about] = max(worst[about], float((np.abs(got - row[:2]) / scale).max()))
            made = activation.prepared(max(map(abs, means)), max(q[1:]))
            bound[about] = max(bound[about], made.error)
        cells = [f"{worst[k]:.0e} | {bound[k]:.0e}" if bound[k] else f"{worst[k]:.0e} | rounding" for k in (0, 1)]
        print(f"| {name} | {activation.route} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
