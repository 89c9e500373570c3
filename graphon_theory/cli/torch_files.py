"""Files of torch models: read by ``graphon_validation`` in a process of its own, for the theory never imports torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from graphon_theory.data.checks import check_installed
from graphon_theory.errors import InputError, shown_text

CHECKPOINTS = (".pt", ".pth", ".safetensors")


def estimate_checkpoint(
    model: Path,
    out: Path,
    blocks: int | str,
    inputs: int | None,
    no_drift: bool,
    activations: list[str],
    init: str | None,
    zeros_pruned: bool,
) -> list[dict[str, Any]]:
    """Estimate the network of a torch model and write it to ``out``; what is shown of its layers.

    Raises GraphonError where torch is missing, InputError with what the other process said.
    """
    needed = {"torch": "torch"} | ({"safetensors": "safetensors"} if model.suffix.lower() == ".safetensors" else {})
    check_installed(f"estimate {model.name}", needed, "validation")
    command = [sys.executable, "-m", "graphon_validation", "estimate", str(model), "--out", str(out)]
    command += ["--blocks", str(blocks)]
    if inputs is not None:
        command += ["--inputs", str(inputs)]
    if activations:
        command += ["--activations", *activations]
    if init is not None:
        command += ["--init", init]
    command += ["--no-drift"] * no_drift + ["--zeros-pruned"] * zeros_pruned
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines():
        if "warning: " in line:
            print(f"graphon-theory: {shown_text(line, 1000)}", file=sys.stderr)
    try:
        if done.returncode == 0:
            return list(json.loads(done.stdout))
    except ValueError:
        pass
    told = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
    reason = told.removeprefix("error: ").removeprefix("source: ")
    raise InputError(f"{model}: {shown_text(reason, 1000)}")
