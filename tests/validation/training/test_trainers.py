"""Training follows its predicted curve, can be interrupted, and moves masks only as it says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.data import files
from graphon_theory.errors import InputError
from graphon_validation.training.rewirings import rewire
from tests.validation.helpers import inputs, random_model

QUIET: dict[str, Any] = {"progress": False}


def same(one: gv.MaskedMLP, two: gv.MaskedMLP) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def targets(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sin(x[:, 0]) + 0.5 * x[:, 1]


def classes(count: int = 60) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    x = inputs(count, 6)
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)


def test_gradient_descent_follows_the_predicted_curve() -> None:
    """Against gradient flow of the network's own kernel at the start; its motion is O(1/n) (THEORY §7)."""
    x = inputs(12, 4)
    rate, steps = 0.2, 60
    gaps = []
    for width in (64, 256, 1024):
        network = gt.Network([1.0, 0.3, 1.0], "erf", weight_variance=1.5)
        model = gv.build(network, (4, width, width, 1), seed=width)
        with torch.no_grad():
            start = model(torch.from_numpy(x)).numpy()[:, 0]
        kernel = gv.empirical_kernel(model, x).ntk
        seen = gv.train(
            model, (x, targets(x) + start), steps=steps, learning_rate=rate, record=20, predictions=True, **QUIET
        )
        assert list(seen.time.values) == [0, 20, 40, 60]
        flow = gt.gradient_flow(kernel, targets(x), seen.time.values, learning_rate=rate)
        moved = seen.prediction.values[:, :, 0] - start
        gaps.append(np.abs(moved - flow.prediction.values).max())
        assert float(seen.loss[0]) == pytest.approx(float(flow.loss[0]))
        assert float(seen.loss[-1]) < 0.5 * float(seen.loss[0])
    assert gaps[2] < gaps[1] < gaps[0]
    # gradient descent's own step error is below 1% here; what is left is the kernel's motion
    assert gaps[2] < 0.02 * np.abs(targets(x)).max()


def test_one_step_of_gradient_descent_by_hand() -> None:
    model, x = random_model((4, 8, 5, 2), (1.0, 0.5, 0.7)), inputs(7, 4)
    y = np.stack([targets(x), x[:, 2]], axis=1)
    before = copy.deepcopy(model)
    loss = (before(torch.from_numpy(x)) - torch.from_numpy(y)).square().sum() / (2 * len(x))
    loss.backward()
    found = gv.train(model, (x, y), steps=1, learning_rate=0.1, **QUIET)
    assert float(found.loss[0]) == pytest.approx(loss.item())
    for old, new in zip(before.parameters(), model.parameters(), strict=True):
        assert old.grad is not None
        torch.testing.assert_close(new.detach(), old.detach() - 0.1 * old.grad, rtol=1e-13, atol=1e-15)
    for weight, earlier, mask in zip(model.weights, before.weights, model.masks, strict=True):
        assert torch.equal(weight[~mask], earlier[~mask])  # pruned weights have gradient 0


def test_adam_learns_and_reports_accuracy_on_other_data() -> None:
    x, labels = classes(300)
    model = gv.prune(gv.dense((6, 60, 60, 3), 0), "magnitude", 0.3)
    found = gv.train(
        model,
        (x[:200], labels[:200]),
        steps=300,
        learning_rate=0.01,
        loss="cross_entropy",
        optimizer="adam",
        batch_size=32,
        test=(x[200:], labels[200:]),
        **QUIET,
    )
    assert float(found.accuracy[-1]) > 0.97
    assert float(found.test_accuracy[-1]) > 0.8
    assert float(found.loss[-1]) < 0.2 * float(found.loss[0])
    with torch.no_grad():
        right = model(torch.from_numpy(x[200:])).argmax(1).numpy() == labels[200:]
    assert float(found.test_accuracy[-1]) == right.mean()


def test_every_epoch_sees_every_input_once() -> None:
    from graphon_validation.training.trainers import _batch

    epochs = [[_batch(20, 5, 3, step) for step in range(4 * epoch, 4 * epoch + 4)] for epoch in range(3)]
    orders = [torch.cat([b for b in batches if b is not None]).tolist() for batches in epochs]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert _batch(20, 20, 3, 7) is None


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_a_break_changes_nothing(tmp_path: Path, optimizer: str) -> None:
    data = classes()
    plan = gv.Rewiring("rigl", every=7, until=40, fraction=0.3)
    options: dict[str, Any] = {
        "learning_rate": 0.02,
        "loss": "cross_entropy",
        "optimizer": optimizer,
        "record": 5,
        "rewiring": plan,
        "predictions": True,
        "seed": 4,
        **QUIET,
    }
    if optimizer == "adam":
        options["batch_size"] = 16

    def fresh() -> gv.MaskedMLP:
        return gv.prune(gv.dense((6, 20, 20, 3), 1), "random", 0.4, rng=0)

    whole, broken = fresh(), fresh()
    expected = gv.train(whole, data, steps=50, **options)
    path = tmp_path / "state.pt"
    gv.train(broken, data, steps=23, checkpoint=path, checkpoint_every=10, **options)
    again = fresh()
    found = gv.train(again, data, steps=50, checkpoint=path, **options)
    assert same(again, whole)
    for name in ("prediction", "updated", "grown", "masks_2"):
        np.testing.assert_array_equal(found[name].values[-1], expected[name].values[-1])
    np.testing.assert_array_equal(found.loss.sel(time=slice(25, 50)), expected.loss.sel(time=slice(25, 50)))
    with pytest.raises(InputError, match="other data"):
        gv.train(fresh(), (data[0] + 1, data[1]), steps=50, checkpoint=path, **options)
    with pytest.raises(InputError, match="beyond steps"):
        gv.train(fresh(), data, steps=30, checkpoint=path, **options)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="cannot be read"):
        gv.train(fresh(), data, steps=50, checkpoint=path, **options)


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_rewiring_keeps_counts_and_the_history_tells_all(method: str) -> None:
    data = classes()
    model = gv.prune(gv.dense((6, 20, 20, 3), 1), "random", 0.4, rng=0)
    counts = [int(mask.sum()) for mask in model.masks]
    first = [mask.numpy().copy() for mask in model.masks]
    plan = gv.Rewiring(method, every=5, until=26, fraction=0.3, layers=(0, 1))
    found = gv.train(
        model, data, steps=30, learning_rate=0.01, loss="cross_entropy", optimizer="adam", rewiring=plan, **QUIET
    )
    assert list(found.updated.values) == [0, 5, 10, 15, 20, 25]
    history = gv.mask_history(found, model)
    assert all((a == b).all() for a, b in zip(history[0], first, strict=True))
    assert all((a == b.numpy()).all() for a, b in zip(history[-1], model.masks, strict=True))
    for before, after, grown in zip(history, history[1:], found.grown.values[1:], strict=False):
        for index in range(3):
            assert int(after[index].sum()) == counts[index]
            assert int((after[index] & ~before[index]).sum()) == grown[index]
        assert grown[2] == 0
    assert found.grown.values[1, :2].min() > 0


def test_rigl_drops_the_smallest_and_grows_by_the_dense_gradient() -> None:
    model = gv.prune(random_model((5, 12, 10, 3), (1.0, 1.0, 1.0)), "random", 0.3, rng=0)
    x, labels = inputs(20, 5), np.arange(20) % 3
    before = copy.deepcopy(model)
    gates = [torch.ones_like(w).requires_grad_() for w in model.weights]
    products = [(w.detach() * m).requires_grad_() for w, m in zip(model.weights, model.masks, strict=True)]
    a = torch.from_numpy(x).T
    for layer, product, gate in zip(model.linears, products, gates, strict=True):
        assert layer.bias is not None
        h = layer.scale * (gate * product) @ a + layer.bias_scale * layer.bias.detach()[:, None]
        a = torch.erf(h)
    loss = torch.nn.functional.cross_entropy(h.T, torch.from_numpy(labels))
    gradients = list(torch.autograd.grad(loss, products))
    plan = gv.Rewiring("rigl", every=1, until=10**9, fraction=0.4, regrow=False)
    rewire(model, plan, 1, gradients, np.random.default_rng(0))
    for index, mask in enumerate(model.masks):
        old = before.masks[index]
        count = round(0.4 * int(old.sum()))
        sizes = before.weights[index].detach().abs()[old].sort().values
        dropped = before.weights[index].detach().abs()[old & ~mask].sort().values
        assert torch.equal(dropped, sizes[:count])
        scores = gradients[index].abs()[~old].sort(descending=True).values
        grown = gradients[index].abs()[mask & ~old].sort(descending=True).values
        assert torch.equal(grown, scores[:count])
        assert (model.weights[index][mask & ~old] == 0).all()
        assert torch.equal(model.weights[index][mask & old], before.weights[index][mask & old])


def test_what_regrows_at_once_keeps_its_weight() -> None:
    model = gv.prune(random_model((5, 12, 10, 3), (1.0, 1.0, 1.0)), "random", 0.5, rng=0)
    before = copy.deepcopy(model)
    # the gradient is largest on the smallest weights: they are dropped and grow again
    gradients = [1 / weight.detach().abs() * mask for weight, mask in zip(model.weights, model.masks, strict=True)]
    grown = rewire(model, gv.Rewiring("rigl", fraction=0.3), 1, gradients, np.random.default_rng(0))
    assert all(not new.any() for new in grown)
    assert same(model, before)


def test_set_grows_at_random_with_weights_of_the_dense_law() -> None:
    model = gv.prune(gv.dense((5, 200, 200, 3), 0, init="torch"), "random", 0.3, rng=0)
    before = copy.deepcopy(model)
    grown = rewire(model, gv.Rewiring("set", fraction=0.3), 1, None, np.random.default_rng(0))
    new = model.weights[1].detach()[grown[1]] / model.linears[1].dense_std
    assert len(new) > 1000
    assert abs(float(new.mean())) < 4 / len(new) ** 0.5
    assert float(new.abs().max()) <= 3**0.5
    rows = grown[1].sum(1).double()
    assert float(rows.var()) < 2 * float(rows.mean())  # spread over units as evenly as chance does
    assert torch.equal(model.masks[1].sum(), before.masks[1].sum())


def test_a_grown_connection_starts_without_momentum() -> None:
    data = classes()
    model = gv.prune(gv.dense((6, 20, 3), 1), "random", 0.4, rng=0)
    from graphon_validation.training.trainers import _forget

    engine = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        engine.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.from_numpy(data[0])), torch.from_numpy(data[1])).backward()
        engine.step()
    grown = [torch.rand(mask.shape) < 0.2 for mask in model.masks]
    _forget(engine, model, grown)
    for weight, new, mask in zip(model.weights, grown, model.masks, strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert (engine.state[weight][name][new] == 0).all()
            assert (engine.state[weight][name][~new & mask] != 0).any()


def test_iterative_magnitude_rewinds() -> None:
    data = classes()
    model = gv.dense((6, 30, 30, 3), 2)
    gv.train(model, data, steps=5, learning_rate=0.01, loss="cross_entropy", optimizer="adam", **QUIET)
    before = [weight.detach().clone() for weight in model.weights]
    options: dict[str, Any] = {"steps": 60, "learning_rate": 0.02, "loss": "cross_entropy", "optimizer": "adam"}
    gv.prune(model, "imp", 0.2, data, rounds=3, rng=0, **options)
    assert all(torch.equal(a, b) for a, b in zip(before, model.weights, strict=True))
    total = sum(mask.numel() for mask in model.masks)
    assert sum(int(mask.sum()) for mask in model.masks) == round(0.2 * total)
    # the ticket is not the plain magnitude mask of the weights rewound to
    plain = gv.prune(copy.deepcopy(model), "magnitude", 0.2)
    fresh = gv.dense((6, 30, 30, 3), 2)
    gv.train(fresh, data, steps=5, learning_rate=0.01, loss="cross_entropy", optimizer="adam", **QUIET)
    magnitude = gv.prune(fresh, "magnitude", 0.2)
    assert same(plain, model)
    assert any(not torch.equal(a, b) for a, b in zip(magnitude.masks, model.masks, strict=True))


def test_what_cannot_train_is_refused() -> None:
    data = classes()
    model = gv.dense((6, 8, 3), 0)

    def attempt(**options: Any) -> None:
        gv.train(model, data, **{"steps": 2, "learning_rate": 0.1, "loss": "cross_entropy", **QUIET, **options})

    with pytest.raises(InputError, match="optimizer: expected one of gd, adam"):
        attempt(optimizer="sgd")
    with pytest.raises(InputError, match="learning_rate: expected a positive"):
        attempt(learning_rate=0.0)
    with pytest.raises(InputError, match="steps: expected"):
        attempt(steps=0)
    with pytest.raises(InputError, match="leave batch_size out"):
        attempt(batch_size=4)
    x = inputs(9, 6)
    with pytest.raises(InputError, match=r"the loss is .* at step"):
        gv.train(gv.dense((6, 50, 1), 0), (x, targets(x)), steps=400, learning_rate=1e6, **QUIET)
    with pytest.raises(InputError, match="no parameter trains"):
        gv.train(gv.choose_trained(gv.dense((6, 8, 1), 0), ["none", "none"]), (x, targets(x)), steps=1, learning_rate=1)
    with pytest.raises(InputError, match="method: expected one of set, rigl"):
        gv.Rewiring("random")
    with pytest.raises(InputError, match="every, until, fraction"):
        gv.Rewiring("set", fraction=1.5)
    with pytest.raises(InputError, match="data: training needs"):
        gv.train(model, None, steps=1, learning_rate=0.1)


def test_a_checkpoint_belongs_to_its_network_and_all_its_data(tmp_path: Path) -> None:
    x = inputs(20, 4)
    data, path = (x, np.arange(20) % 3), tmp_path / "state.pt"
    options: dict[str, Any] = {"learning_rate": 0.05, "loss": "cross_entropy", "checkpoint": path, **QUIET}

    def network(seed: int, **changes: Any) -> gv.MaskedMLP:
        return gv.prune(gv.dense((4, 12, 3), seed, **changes), "random", 0.5, rng=0)

    model = network(0)
    gv.train(model, data, steps=4, test=data, **options)
    gv.train(model, data, steps=6, test=data, **options)  # as the checkpoint left it
    whole = gv.train(network(0), data, steps=8, test=data, **options)  # as it was at the start
    assert whole.time[-1] == 8
    for other, changes in (
        (network(1), {"test": data}),
        (network(0, init="he"), {"test": data}),
        (gv.choose_trained(network(0), ["none", "all"]), {"test": data}),
        (network(0), {}),
        (network(0), {"test": (x, (np.arange(20) + 1) % 3)}),
        (network(0), {"test": data, "predictions": True}),
    ):
        with pytest.raises(InputError, match="another network"):
            gv.train(other, data, steps=9, **options, **changes)
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(InputError, match="another network"):
        gv.train(network(0), data, steps=9, test=data, **options)


def test_rewiring_that_does_nothing_is_refused() -> None:
    data = (inputs(6, 4), np.zeros((6, 3)))
    pruned = gv.prune(gv.dense((4, 12, 3), 0), "random", 0.5, rng=0)
    for model, plan, message in (
        (pruned, gv.Rewiring("set", layers=(7,)), r"expected layers in 0..1, got \(7,\)"),
        (pruned, "rigl", "expected a Rewiring, got 'rigl'"),
        (gv.dense((4, 12, 3), 0), gv.Rewiring("set"), "none of its layers has pruned connections"),
    ):
        with pytest.raises(InputError, match=message):
            gv.train(model, data, steps=2, learning_rate=0.1, rewiring=plan, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="whole steps"):
        gv.Rewiring("set", every=1.5)  # type: ignore[arg-type]
    found = gv.train(pruned, data, steps=2, learning_rate=0.1, **QUIET)
    with pytest.raises(InputError, match="found: expected what train returned"):
        gv.mask_history(found, pruned)


@pytest.mark.parametrize("seed", [3, 2**40])
def test_a_history_of_masks_is_kept_in_a_file(seed: int, tmp_path: Path) -> None:
    model = gv.prune(gv.dense((6, 20, 20, 3), 1), "random", 0.4, rng=0)
    plan = gv.Rewiring("set", every=5, until=20)
    found = gv.train(model, classes(), steps=20, learning_rate=0.01, loss="cross_entropy", optimizer="adam",
                     rewiring=plan, seed=seed, **QUIET)  # fmt: skip
    files.save_dataset(found, tmp_path / "history.nc")
    back = files.load_dataset(tmp_path / "history.nc")
    assert back.attrs["seed"] == seed
    for name, variable in found.variables.items():
        assert back[name].dtype == variable.dtype
        np.testing.assert_array_equal(back[name].values, variable.values)
    for ours, theirs in zip(gv.mask_history(back, model), gv.mask_history(found, model), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_targets_and_columns_with_other_labels_are_refused() -> None:
    x, y = classes(12)
    frame = pd.DataFrame(x, [f"row {k}" for k in range(12)], list("abcdef"))
    model = random_model((6, 8, 3), (0.5, 1.0))
    options: dict[str, Any] = {"steps": 1, "learning_rate": 0.1, "loss": "cross_entropy", **QUIET}
    labels = pd.Series(y, frame.index)
    gv.train(model, (frame, labels), test=(frame, labels), **options)
    with pytest.raises(InputError, match="data: targets: the labels of its rows differ from those of the inputs"):
        gv.train(model, (frame, labels[::-1]), **options)
    with pytest.raises(InputError, match="data: the labels of its columns differ from those of x"):
        gv.train(model, (frame, labels), test=(frame.iloc[:, ::-1], labels), **options)
    assert gv.empirical_kernel(model, frame).x.values.tolist() == frame.index.tolist()
    with pytest.raises(InputError, match="x2: the labels of its columns differ from those of x"):
        gv.empirical_kernel(model, frame, frame.iloc[:, ::-1])


def test_every_layer_has_its_own_rate() -> None:
    """One step by hand, and one number is the same rate everywhere."""
    x, y = inputs(8, 4), np.linspace(-1, 1, 8)
    rates = [0.3, 0.05, 0.2]
    model = random_model((4, 6, 5, 1), (0.7, 0.6, 1.0))
    before = copy.deepcopy(model)
    (0.5 * (before(torch.from_numpy(x))[:, 0] - torch.from_numpy(y)).square().mean()).backward()
    gv.train(model, (x, y), steps=1, learning_rate=rates, **QUIET)
    for layer, old, rate in zip(model.linears, before.linears, rates, strict=True):
        assert old.weight.grad is not None
        assert old.bias is not None
        assert old.bias.grad is not None
        assert layer.bias is not None
        torch.testing.assert_close(layer.weight, old.weight - rate * old.weight.grad, rtol=1e-12, atol=0)
        torch.testing.assert_close(layer.bias, old.bias - rate * old.bias.grad, rtol=1e-12, atol=0)
    one, many = (random_model((4, 6, 5, 1), (0.7, 0.6, 1.0)) for _ in range(2))
    seen = gv.train(one, (x, y), steps=5, learning_rate=0.1, optimizer="adam", **QUIET)
    again = gv.train(many, (x, y), steps=5, learning_rate=[0.1] * 3, optimizer="adam", **QUIET)
    assert same(one, many)
    assert seen.identical(again)
    with pytest.raises(InputError, match="learning_rate: expected one number or 3, one a weight layer, got 2"):
        gv.train(one, (x, y), steps=1, learning_rate=[0.1, 0.1], **QUIET)
    with pytest.raises(InputError, match="learning_rate"):
        gv.train(one, (x, y), steps=1, learning_rate=[0.1, 0.0, 0.1], **QUIET)
