"""Training finite networks: gradient descent to hold against predicted curves, Adam to hold against practice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from xarray import Dataset

from graphon_theory.data import files, labels
from graphon_theory.data.checks import checked_dataset, one_of, one_or_each, positive_number, truth, whole_number
from graphon_theory.errors import InputError
from graphon_validation.networks.masked_layers import autograd
from graphon_validation.networks.masked_mlps import MaskedMLP, checked_model
from graphon_validation.training.losses import Data, as_data, loss_sum
from graphon_validation.training.rewirings import Rewiring, check_rewiring, rewire

OPTIMIZERS = ("gd", "adam")
_LARGEST = 1e-3  # of the dtype's numbers: a rate; Adam's first step is ten times it, and rates move numbers of size 1


@autograd()
def train(
    model: MaskedMLP,
    data: Data | None,
    *,
    steps: int,
    learning_rate: float | Sequence[float],
    loss: str = "squared",
    optimizer: str = "gd",
    batch_size: int | None = None,
    test: Data | None = None,
    rewiring: Rewiring | None = None,
    record: int | None = None,
    predictions: bool = False,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
    progress: bool = True,
) -> Dataset:
    """Train ``model`` in place for ``steps`` steps and return what was seen on the way.

    - ``optimizer="gd"``: full-batch gradient descent. With ``loss="squared"``, L = 1/(2N) sum (f - y)^2 as in
      ``gt.gradient_flow``: for small learning rates the loss follows its curve for the kernel at the start, with
      f(0) taken off (pass y + f(0) as targets), as far as the kernel stands still (THEORY §7).
    - ``optimizer="adam"``: Adam on minibatches of ``batch_size`` (128 if None), every epoch in a new order.

    ``learning_rate``: one number, or one per weight layer, which its biases share (the factors of ``gt.transfer`` times
    a rate). ``loss`` is "squared" or "cross_entropy". Pruned weights have gradient 0; parameters with ``requires_grad``
    False stay. ``rewiring`` changes the masks as it says; Adam forgets what it knew of new connections. Batches and
    draws depend on ``seed`` and the step alone.

    ``record``: steps between recordings of the loss over all the data (None: about 100 in all), the first before
    the first step and the last after the last. ``test``: other data to record the loss on. ``predictions``: keep
    the outputs too.

    ``checkpoint``: a file to which the state goes every ``checkpoint_every`` steps and at the end. If it is there
    already, training goes on from it, and ends bit by bit where it would have ended without the break; ``model`` is to
    be as it was at the start of that training, or where the checkpoint left it. ``steps`` may be raised later.

    Returns a Dataset over "time" (steps): ``loss``, with cross-entropy ``accuracy``, with ``test`` ``test_loss``
    (, ``test_accuracy``), with ``predictions`` ``prediction`` ("time", "x", "target"), and with ``rewiring``
    the mask history: ``updated`` ("update",), the step, ``grown`` ("update", "layer"), the number of new
    connections, and the bits of each layer's masks (:func:`mask_history`).

    Raises InputError for data or options that do not fit, a checkpoint of other data or options, and a loss that
    is not finite (the message names the step).
    """
    if data is None:
        raise InputError("data: training needs (x, labels) or (x, targets).")
    checked_model(model)
    _check(steps, optimizer, batch_size, record, checkpoint_every)
    rates = _rates(learning_rate, len(model.linears), model.linears[0].weight.dtype)
    seed = whole_number("seed", seed, 0)
    truth("predictions", predictions)
    if rewiring is not None:
        check_rewiring(model, rewiring)
    inputs, targets = as_data(model, data, loss)
    held_out = None if test is None else as_data(model, test, loss, data[0])
    size = len(inputs) if optimizer == "gd" else min(batch_size or 128, len(inputs))
    groups = [
        {"params": trained, "lr": rate}
        for layer, rate in zip(model.linears, rates, strict=True)
        if (trained := [p for p in layer.parameters() if p.requires_grad])
    ]
    if not groups:
        raise InputError("model: no parameter trains; see choose_trained.")
    engine = torch.optim.SGD(groups) if optimizer == "gd" else torch.optim.Adam(groups)
    interval = record or max(1, steps // 100)
    state = _State(model, engine)
    path = None if checkpoint is None else files.file_path("checkpoint", checkpoint)
    options = (rates, loss, optimizer, size, seed, rewiring, record, predictions)
    mark = "" if path is None else _fingerprint(model, [inputs, targets, *(held_out or ())], options)
    if path is not None and path.exists():
        state.load(path, mark)
        if state.step > steps:
            raise InputError(f"checkpoint: {path} is at step {state.step} already, beyond steps = {steps}.")
    else:
        state.start = "" if path is None else digest(model.state_dict())
        if rewiring is not None:
            state.remember([mask.sum() for mask in model.masks])

    def observe() -> None:
        seen = {"loss": (inputs, targets)} | ({} if held_out is None else {"test_loss": held_out})
        outputs = {name: _outputs(model, x) for name, (x, _) in seen.items()}
        found = {name: float(loss_sum(outputs[name], y, loss)) / len(x) for name, (x, y) in seen.items()}
        if not np.isfinite(found["loss"]):
            raise InputError(
                f"learning_rate: the loss is {found['loss']} at step {state.step}; take less than {max(rates):g} "
                "(gradient descent on squared loss is stable below gt.critical_learning_rate of the kernel)."
            )
        if loss == "cross_entropy":
            for name, (_, y) in seen.items():
                found[name.replace("loss", "accuracy")] = float((outputs[name].argmax(1) == y).double().mean())
        state.observations.append({"time": float(state.step), **found})
        if predictions:
            state.predictions.append(outputs["loss"].cpu())

    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("training", total=steps, completed=state.step)
        while True:
            due = state.step % interval == 0 or state.step == steps
            if due and (not state.observations or state.observations[-1]["time"] < state.step):
                observe()
            if path is not None and (state.step == steps or (state.step and state.step % checkpoint_every == 0)):
                state.save(path, mark)
            if state.step == steps:
                break
            batch = _batch(len(inputs), size, seed, state.step)
            x, y = (inputs, targets) if batch is None else (inputs[batch], targets[batch])
            if rewiring is not None and rewiring.due(state.step):
                rng = np.random.default_rng([seed, state.step, 1])
                gradients = _dense_gradients(model, x, y, loss) if rewiring.method == "rigl" else None
                grown = rewire(model, rewiring, state.step, gradients, rng)
                _forget(engine, model, grown)
                state.remember([new.sum() for new in grown])
            engine.zero_grad(set_to_none=True)
            (loss_sum(model(x), y, loss) / len(x)).backward()
            engine.step()
            state.step += 1
            bar.advance(task)
    shown_rate = rates[0] if len(set(rates)) == 1 else list(rates)
    return state.dataset(data[0], loss, {"learning_rate": shown_rate, "optimizer": optimizer, "seed": seed})


def mask_history(found: Dataset, model: MaskedMLP) -> list[list[NDArray[np.bool_]]]:
    """The masks of every layer at the start and after every update: [update][layer] -> bool (out, in).

    Raises InputError where ``found`` is not what :func:`train` returned for this network with ``rewiring``.
    """
    checked_model(model)
    checked_dataset("found", found, (), "gv.train(..., rewiring=...)")
    bytes_of = [-(-mask.numel() // 8) for mask in model.masks]
    if [found.sizes.get(f"byte_{index + 1}") for index in range(len(bytes_of))] != bytes_of:
        raise InputError("found: expected what train returned for this network with rewiring=....")
    names = [f"masks_{index + 1}" for index in range(len(bytes_of))]
    checked_dataset("found", found, names, "gv.train(..., rewiring=...)")
    if any(found[one].dtype != np.uint8 or found[one].dims[:1] != ("update",) for one in names):
        raise InputError("found: expected the bits of masks over updates, as gv.train(..., rewiring=...) returns them.")
    return [
        [
            np.unpackbits(found[f"masks_{index + 1}"].values[update], count=mask.numel())
            .reshape(tuple(mask.shape))
            .astype(bool)
            for index, mask in enumerate(model.masks)
        ]
        for update in range(found.sizes["update"])
    ]


@dataclass
class _State:
    """All that changes in training, and can be written down and taken up again."""

    model: MaskedMLP
    engine: torch.optim.Optimizer
    step: int = 0
    observations: list[dict[str, float]] = field(default_factory=list)
    predictions: list[Tensor] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    start: str = ""  # digest of the network before the first step

    def remember(self, grown: list[Tensor]) -> None:
        bits = [torch.from_numpy(np.packbits(mask.cpu().numpy())) for mask in self.model.masks]
        self.history.append({"step": self.step, "grown": [int(count) for count in grown], "bits": bits})

    def save(self, path: Path, mark: str) -> None:
        parts = {
            "mark": mark,
            "start": self.start,
            "model": self.model.state_dict(),
            "engine": self.engine.state_dict(),
            "step": self.step,
            "observations": self.observations,
            "predictions": self.predictions,
            "history": self.history,
        }
        with files.whole_file(path) as part:
            torch.save(_on_cpu(parts), part)

    def load(self, path: Path, mark: str) -> None:
        try:
            parts = torch.load(path, weights_only=True)
        except Exception as error:
            raise InputError(f"checkpoint: {path} cannot be read ({error}); delete it to start anew.") from None
        known = isinstance(parts, dict) and parts.get("mark") == mark
        if not known or digest(self.model.state_dict()) not in (parts["start"], digest(parts["model"])):
            raise InputError(
                f"checkpoint: {path} belongs to other data, another network or other options; name another file."
            )
        self.model.load_state_dict(parts["model"])
        self.engine.load_state_dict(parts["engine"])
        self.step, self.observations = parts["step"], parts["observations"]
        self.predictions, self.history = parts["predictions"], parts["history"]
        self.start = parts["start"]

    def dataset(self, x: Any, loss: str, attrs: dict[str, Any]) -> Dataset:
        names = [name for name in self.observations[0] if name != "time"]
        variables: labels.Variables = {
            name: ((labels.TIME,), np.array([one[name] for one in self.observations])) for name in names
        }
        coords: dict[str, Any] = {labels.TIME: np.array([one["time"] for one in self.observations])}
        if self.predictions:
            values = torch.stack(self.predictions).double().numpy()
            variables["prediction"] = ((labels.TIME, labels.X, labels.TARGET), values)
            coords |= labels.coords_of(labels.by_rows(x), labels.X)
        if self.history:
            variables["updated"] = (("update",), np.array([one["step"] for one in self.history]))
            variables["grown"] = (("update", labels.LAYER), np.array([one["grown"] for one in self.history]))
            for index in range(len(self.model.linears)):
                bits = torch.stack([one["bits"][index] for one in self.history]).cpu().numpy()
                variables[f"masks_{index + 1}"] = (("update", f"byte_{index + 1}"), bits)
        return labels.dataset(variables, coords, {"training_loss": loss, **attrs})


def _rates(given: Any, depth: int, dtype: torch.dtype) -> tuple[float, ...]:
    """One learning rate a weight layer, a step of which the dtype can hold."""
    many = one_or_each(given, depth)
    if len(many) != depth:
        raise InputError(f"learning_rate: expected one number or {depth}, one a weight layer, got {len(many)}.")
    rates = tuple(float(positive_number("learning_rate", one)) for one in many)
    most = _LARGEST * torch.finfo(dtype).max
    if max(rates) > most:
        raise InputError(
            f"learning_rate: expected at most {most:g}, beyond which {dtype} overflows, got {max(rates):g}."
        )
    return rates


def _check(steps: int, optimizer: str, batch_size: int | None, record: int | None, every: int) -> None:
    one_of("optimizer", optimizer, OPTIMIZERS)
    for name, value in (("steps", steps), ("batch_size", batch_size), ("record", record), ("checkpoint_every", every)):
        if value is not None:
            whole_number(name, value, 1, 2**53)
    if optimizer == "gd" and batch_size is not None:
        raise InputError('batch_size: optimizer="gd" takes all the data in every step; leave batch_size out.')


def _batch(count: int, size: int, seed: int, step: int) -> Tensor | None:
    """Indices of the step's batch: a new order every epoch, found from the step alone. None: all."""
    if size >= count:
        return None
    per_epoch = count // size  # what is left over sits out until the next epoch's order
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return torch.from_numpy(order[place * size : (place + 1) * size])


@torch.no_grad()
def _outputs(model: MaskedMLP, x: Tensor, rows: int = 1024) -> Tensor:
    return torch.cat([model(part) for part in x.split(rows)])


def _dense_gradients(model: MaskedMLP, x: Tensor, y: Tensor, loss: str) -> list[Tensor]:
    """dL/d(m w) of every connection, pruned ones included."""
    products = [(layer.weight * layer.mask).detach().requires_grad_() for layer in model.linears]
    return list(torch.autograd.grad(loss_sum(model.forward_with(x, products), y, loss) / len(x), products))


def _forget(engine: torch.optim.Optimizer, model: MaskedMLP, grown: list[Tensor]) -> None:
    """Moments of new connections start at zero, not where an older connection in the same place left them."""
    for weight, new in zip(model.weights, grown, strict=True):
        for value in engine.state.get(weight, {}).values():
            if isinstance(value, Tensor) and value.shape == new.shape:
                value.masked_fill_(new, 0.0)


def _on_cpu(part: Any) -> Any:
    """The same with all tensors on the CPU: a checkpoint of one device goes on at any other."""
    if isinstance(part, Tensor):
        return part.cpu()
    if isinstance(part, dict):
        return {key: _on_cpu(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(_on_cpu(value) for value in part)
    return part


def _fingerprint(model: MaskedMLP, data: Sequence[Tensor], options: tuple[object, ...]) -> str:
    """Of all that stays during training: shapes, scales, what trains, data and options."""
    kinds = [
        (
            *(one.parameterization, one.weight_variance, one.bias_variance, one.trained_bias_variance),
            *(one.weight.requires_grad, str(one.weight.dtype)),
        )
        for one in model.linears
    ]
    named = {str(number): tensor for number, tensor in enumerate(data)}
    return digest(named, repr((model.widths, model.outline, kinds, options)))


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Of names, values and a text."""
    found = hashlib.sha256(text.encode())
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return found.hexdigest()
