"""Learning rates of the commands in torch's own parameterization, against a torch network's own tangent kernel."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graphon_theory import cli


@pytest.mark.parametrize("rule", ["random", "magnitude"])
def test_the_largest_stable_rate_of_a_pruned_torch_network(
    rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch.nn.Linear as it comes, without biases; the default parameterization said 1,000 times more.

    Of the last layer some 300 weights survive, whose mean square alone is known to 8%.
    """
    torch.manual_seed(0)
    widths = (8, 1024, 1024, 1)
    layers = [nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in itertools.pairwise(widths)]
    rng = np.random.default_rng(1)
    weights = [layer.weight.detach().numpy() for layer in layers]
    masks = [np.ones(weights[0].shape), *(rng.random(w.shape) < 0.3 for w in weights[1:])]
    if rule == "magnitude":
        masks[1] = np.abs(weights[1]) > np.quantile(np.abs(weights[1]), 0.7)
    x = rng.standard_normal((20, widths[0]))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.sin(x[:, 0]))
    np.savez(tmp_path / "masks.npz", *masks)
    np.savez(tmp_path / "weights.npz", *weights)
    spec = tmp_path / "net.toml"
    files = (tmp_path / "masks.npz", "--weights", tmp_path / "weights.npz", "--blocks", "1", "--out", spec)
    standard = ("--parameterization", "standard", "--weight-variance", 1 / 3)
    data = ("--inputs", tmp_path / "x.npy", "--targets", tmp_path / "y.npy")

    def run(*arguments: object) -> str:
        assert cli.main([str(one) for one in arguments]) == 0
        return capsys.readouterr().out

    run("estimate", *files, *standard)
    told = re.search(r"gradient descent: (\S+)", run("dynamics", spec, *data))
    assert told is not None

    # its tangent kernel: gradients of every surviving weight, written out
    effective = [torch.from_numpy(w * m).requires_grad_() for w, m in zip(weights, masks, strict=True)]
    rows = []
    for one in torch.from_numpy(x):
        signal = one
        for number, weight in enumerate(effective):
            signal = weight @ (torch.relu(signal) if number else signal)
        gradients = torch.autograd.grad(signal[0], effective)
        rows.append(np.concatenate([(g.numpy() * m).ravel() for g, m in zip(gradients, masks, strict=True)]))
    jacobian = np.array(rows)
    own = 2 * len(x) / float(np.linalg.eigvalsh(jacobian @ jacobian.T)[-1])
    assert float(told[1]) == pytest.approx(own, rel=0.25)
    wrong = re.search(r"gradient descent: (\S+)", run("dynamics", spec, *data, "--parameterization", "ntk"))
    assert wrong is not None
    assert float(wrong[1]) > 500 * own
