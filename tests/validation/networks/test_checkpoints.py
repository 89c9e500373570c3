"""Torch models come in with their masks, weights, biases and activations, and go out again, computing the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError, NetworkError
from graphon_validation.networks.checkpoints import ZerosWarning
from tests.validation.helpers import inputs

X = torch.from_numpy(inputs(6, 7)).float()


def pruned() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, 20), nn.Tanh())
    model.append(nn.Linear(20, 3))
    layers = [(layer, "weight") for layer in model if isinstance(layer, nn.Linear)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.7)
    return model.eval()


def masks_of(model: nn.Sequential) -> list[Tensor]:
    return [layer.get_buffer("weight_mask").bool() for layer in model if isinstance(layer, nn.Linear)]


def test_a_pruned_module_comes_in_whole() -> None:
    source = pruned()
    model = gv.from_torch(source)
    torch.testing.assert_close(model(X), source(X))
    assert model.activations == ("relu", "tanh")
    assert all(torch.equal(a, b) for a, b in zip(model.masks, masks_of(source), strict=True))
    held = [layer.get_parameter("weight_orig") for layer in source if isinstance(layer, nn.Linear)]
    assert all(torch.equal(a, b) for a, b in zip(model.weights, held, strict=True))
    for layer, n in zip(model.linears, (7, 30, 20), strict=True):
        assert layer.weight_variance == pytest.approx(1 / 3)
        assert layer.bias_variance == pytest.approx(1 / (3 * n))
        assert layer.parameterization == "standard"


def _state(model: nn.Sequential, path: Path) -> Any:
    return model.state_dict()


def _pt(model: nn.Sequential, path: Path) -> Any:
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, path / "model.pt")
    return path / "model.pt"


def _safetensors(model: nn.Sequential, path: Path) -> Any:
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path / "model.safetensors")
    return str(path / "model.safetensors")


@pytest.mark.parametrize("written", [_state, _pt, _safetensors])
def test_states_and_files_hold_the_same(written: Callable[[nn.Sequential, Path], Any], tmp_path: Path) -> None:
    source = pruned()
    model = gv.from_torch(written(source, tmp_path), activations=["relu", "tanh"])
    torch.testing.assert_close(model(X), source(X))
    assert all(torch.equal(a, b) for a, b in zip(model.masks, masks_of(source), strict=True))


def test_zeros_are_masks_if_asked() -> None:
    source = pruned()
    for layer in source:
        if isinstance(layer, nn.Linear):
            prune.remove(layer, "weight")
    with pytest.warns(ZerosWarning, match="zeros_pruned=True"):
        assert all(mask.all() for mask in gv.from_torch(source).masks)
    model = gv.from_torch(source, zeros_pruned=True)
    assert sum(int(mask.sum()) for mask in model.masks) == round(0.3 * (7 * 30 + 30 * 20 + 20 * 3))
    torch.testing.assert_close(model(X), source(X))


def test_they_go_back_and_come_in_again() -> None:
    network = gt.Network([1.0, 0.3, 0.5, 1.0], ["erf", "relu", "gelu"], bias_variance=0.1)
    model = gv.build(network, (7, 20, 30, 10, 1), 0)
    back = gv.to_torch(model)
    x = X.double()
    torch.testing.assert_close(back(x), model(x))
    again = gv.from_torch(back)
    assert again.activations == model.activations
    assert all(torch.equal(a, b) for a, b in zip(again.masks, model.masks, strict=True))
    normed = gv.build(gt.Network([gt.Dense(1.0), gt.LayerNorm(), gt.Pointwise("relu"), gt.Dense(1.0)]), (7, 9, 1), 0)
    torch.testing.assert_close(gv.from_torch(gv.to_torch(normed))(x), normed(x))


def test_what_comes_in_is_estimated_measured_and_held_against_its_limit() -> None:
    model = gv.from_torch(pruned())
    x = inputs(6, 7)
    assert gv.empirical_kernel(model, x, outputs=[0]).ntk.shape == (1, 6, 6)
    assert "A" in gv.applicability(model, x)
    limit = gt.limit_kernel(gv.theories(model, blocks=2, names=("(W, V)",))["(W, V)"], x)
    assert np.isfinite(limit.ntk.values).all()


class Turned(nn.Module):
    """Registered in another order than used."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.act, self.first = nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.act(self.first(x)))
        return found


def test_one_activation_may_stand_in_several_places_and_order_is_checked() -> None:
    act = nn.ReLU()
    shared = nn.Sequential(nn.Linear(7, 5), act, nn.Linear(5, 5), act, nn.Linear(5, 2))
    assert gv.from_torch(shared).activations == ("relu", "relu")
    with pytest.raises(InputError, match="in the order in which they were registered"):
        gv.from_torch(Turned())
    tied = nn.Linear(7, 7)
    with pytest.raises(InputError, match="stands in two places"):
        gv.from_torch(nn.Sequential(tied, act, tied))


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (nn.Sequential(nn.Conv1d(1, 1, 1), nn.Linear(7, 2)), {}, "Conv1d is none of the modules"),
        (nn.Sequential(nn.Linear(7, 2), nn.GELU("tanh"), nn.Linear(2, 1)), {}, "with other settings"),
        (nn.Sequential(nn.Linear(7, 2), nn.ReLU()), {}, "behind the last Linear"),
        (nn.Sequential(nn.Linear(7, 2), nn.ReLU(), nn.Tanh(), nn.Linear(2, 1)), {}, "two activations"),
        (nn.Sequential(nn.Linear(7, 2), nn.LayerNorm(2), nn.ReLU(), nn.Linear(2, 1)), {}, "trained scale"),
        (nn.Sequential(nn.Linear(7, 2), nn.ReLU(), nn.Linear(2, 1)), {"activations": "relu"}, "holds its own"),
        (nn.Sequential(nn.ReLU()), {}, "at least one Linear"),
        (OrderedDict(w=torch.ones(3)), {}, "belongs to no Linear"),
        ({"a.weight": torch.ones(3, 2), "b.weight": torch.ones(1, 3)}, {}, "activations: the source does not say"),
        ({"a.weight": torch.ones(3, 2), "b.bias": torch.ones(1)}, {}, "b has no weight"),
        ({"a.weight": torch.ones(3, 2).long()}, {}, "real weights"),
        ({"a.weight": 3}, {}, "a.weight' is int"),
        ({}, {}, "it is empty"),
        ("model.bin", {}, "ends in .pt, .pth or .safetensors"),
        ("missing.pt", {}, "cannot be read as weights"),
        (3, {}, "expected a torch module"),
        ({"a.weight": torch.ones(3, 2)}, {"init": "magic"}, "init: expected one of"),
        ({"a.weight": torch.ones(3, 2)}, {"init": [0.1, 0.2]}, "expected one deviation, or 1"),
    ],
)
def test_what_is_no_such_network_is_said(source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gv.from_torch(source, **options)


def test_layers_that_do_not_chain_and_shortcuts_are_refused() -> None:
    with pytest.raises(NetworkError, match="layer 1 has 3 units, but layer 2 takes 4"):
        gv.from_torch({"a.weight": torch.ones(3, 2), "b.weight": torch.ones(1, 4)}, activations="relu")
    residual = gt.Network(
        [gt.Dense(1.0), gt.Residual(gt.Pointwise("relu"), gt.Dense(1.0)), gt.Pointwise("relu"), gt.Dense(1.0)]
    )
    with pytest.raises(NetworkError, match="no shortcuts"):
        gv.to_torch(gv.build(residual, (3, 4, 1), 0))


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("length", [0, 5, 40, 300])
def test_damaged_files_are_said(kind: str, length: int, tmp_path: Path) -> None:
    path = {"pt": _pt, "safetensors": _safetensors}[kind](pruned(), tmp_path)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:length])
    with pytest.raises(InputError, match="source: "):
        gv.from_torch(path, activations=["relu", "tanh"])


# words that a reader of pickles takes for commands to a stack, which is empty
@pytest.mark.parametrize(
    "content", [b"a = [[", b"a = {a", b"sin", b"bytes", b"set()", b"range(0, 3)", b"tensor([[[1.0"]
)
@pytest.mark.parametrize("kind", ["pt", "pth", "safetensors"])
def test_text_is_no_model(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model.{kind}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"source: .*(cannot be read as weights|is no safetensors file) \(."):
        gv.from_torch(path, activations="relu")


def test_pickles_run_nothing(tmp_path: Path) -> None:
    torch.save(pruned(), tmp_path / "model.pt")  # a whole module
    with pytest.raises(InputError, match="Save a state dict"):
        gv.from_torch(tmp_path / "model.pt", activations="relu")
