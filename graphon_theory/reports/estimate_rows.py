"""What is shown of an estimated network, layer by layer."""

from __future__ import annotations

from typing import Any

from graphon_theory.estimation.network_estimates import NetworkEstimate


def estimate_rows(found: NetworkEstimate) -> list[dict[str, Any]]:
    """Units and blocks (sending, receiving), dead receiving units, density, that of connections on paths from input to
    output, V / W, and the coherence of signs with its z where there are weights."""
    rows = []
    for k, layer in enumerate(found):
        sign = None if found.coherence is None else found.coherence[k]
        rows.append(
            {
                "layer": k + 1,
                "units": [len(found.labels[k]), len(found.labels[k + 1])],
                "dead": int(found.units.dead[k + 1]),
                "blocks": [int(found.blocks[k]), int(found.blocks[k + 1])],
                "density": float(found.units.density[k]),
                "effective_density": float(found.units.effective_density[k]),
                "variance_ratio": float(layer.variance.mean() / layer.mask.mean()),
                "coherence": None if sign is None else float(sign.value),
                "z": None if sign is None else float(sign.z),
            }
        )
    return rows
