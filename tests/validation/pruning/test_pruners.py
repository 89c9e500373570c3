"""Exact densities, deterministic ties, and masks that follow the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphon_validation as gv
from graphon_theory.errors import InputError
from graphon_validation.networks.selections import _bisected, _threshold, keep_best
from graphon_validation.pruning.scores import METHODS, Method
from tests.validation.helpers import random_model

SPECIAL = [0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1.7e308, -1.7e308, 1 + 2.3e-16, 0.1, 0.1 + 1.4e-17]


@settings(deadline=None)
@given(
    scores=st.lists(
        st.sampled_from(SPECIAL) | st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=60
    ),
    hidden=st.lists(st.booleans(), min_size=60, max_size=60),
    cut=st.integers(1, 2),
    share=st.floats(0, 1),
)
def test_keep_best_is_a_sort(scores: list[float], hidden: list[bool], cut: int, share: float) -> None:
    candidates = [not h for h in hidden[: len(scores)]]
    order = sorted((scores[i] for i, c in enumerate(candidates) if c), reverse=True)
    count = max(1, round(share * len(order)))
    if not order:
        return
    split = [torch.tensor(scores[:cut], dtype=torch.float64), torch.tensor(scores[cut:], dtype=torch.float64)]
    allowed = [torch.tensor(candidates[:cut]), torch.tensor(candidates[cut:])]
    masks, cut_off = keep_best(split, allowed, count)
    kept = torch.cat(masks)
    assert not (kept & ~torch.cat(allowed)).any()
    assert sorted((scores[i] for i in kept.nonzero()[:, 0].tolist()), reverse=True) == order[:count]
    assert cut_off.threshold == order[count - 1]
    assert cut_off.tied == order.count(order[count - 1])
    assert cut_off.taken == order[:count].count(order[count - 1])
    assert _bisected(split, allowed, count) == _threshold(split, allowed, count)
    again, _ = keep_best(split, allowed, count)
    assert all(torch.equal(one, two) for one, two in zip(masks, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_keep_best_around_zero(dtype: torch.dtype, count: int) -> None:
    least = float(torch.tensor(5e-324 if dtype is torch.float64 else 1e-45, dtype=dtype))
    values = [0.0, least, -least, -0.0, -1.0]
    masks, cut = keep_best([torch.tensor(values, dtype=dtype)], [torch.ones(5, dtype=torch.bool)], count)
    order = sorted(values, reverse=True)
    assert sorted((values[i] for i in masks[0].nonzero()[:, 0].tolist()), reverse=True) == order[:count]
    assert (cut.threshold, cut.tied) == (order[count - 1], order.count(order[count - 1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keep_best_of_many(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    scores = [torch.randn(40, 50, generator=rng, dtype=dtype), torch.randn(30, 40, generator=rng, dtype=dtype)]
    full = [torch.ones_like(s, dtype=torch.bool) for s in scores]
    flat = torch.cat([s.flatten() for s in scores])
    for count in (1, 17, 1600, 3199, 3200):
        assert _bisected(scores, full, count) == _threshold(scores, full, count)
        kept = torch.cat([k.flatten() for k in keep_best(scores, full, count)[0]])
        assert int(kept.sum()) == count
        assert flat[kept].min() >= flat[~kept].max() if count < 3200 else True


@pytest.mark.parametrize("method", ["random", "magnitude"])
@pytest.mark.parametrize("density", [1.0, 0.5, 0.137, 0.03])
def test_density_is_exact(method: str, density: float) -> None:
    model = random_model((10, 33, 27, 3), (1, 1, 1))
    assert gv.prune(model, method, density, rng=0) is model
    total = sum(mask.numel() for mask in model.masks)
    assert sum(int(mask.sum()) for mask in model.masks) == round(density * total)

    model = random_model((10, 33, 27, 3), (1, 1, 1))
    gv.prune(model, method, 0.2, scope="layer", rng=0)
    for mask in model.masks:
        assert int(mask.sum()) == round(0.2 * mask.numel())


def test_magnitude_keeps_the_largest() -> None:
    model = random_model((10, 33, 27, 3), (1, 1, 1))
    gv.prune(model, "magnitude", 0.3, layers=[0, 1])
    assert model.masks[2].all()
    size = torch.cat([weight.detach().abs().flatten() for weight in model.weights[:2]])
    kept = torch.cat([mask.flatten() for mask in model.masks[:2]])
    assert size[kept].min() > size[~kept].max()


def test_random_is_uniform_over_connections() -> None:
    counts = torch.zeros(6, 5, dtype=torch.float64)
    runs = 600
    for seed in range(runs):
        model = random_model((5, 6), (1.0,))
        counts += gv.prune(model, "random", 0.3, rng=seed).masks[0]
    z = (counts / runs - 0.3) / (0.3 * 0.7 / runs) ** 0.5
    assert z.abs().max() < 4
    assert z.abs().max() > 0.5


def test_random_follows_its_seed() -> None:
    def mask(seed: int) -> torch.Tensor:
        return gv.prune(random_model((5, 40, 1), (1.0, 1.0)), "random", 0.3, rng=seed).masks[0]

    assert torch.equal(mask(1), mask(1))
    assert not torch.equal(mask(1), mask(2))


def test_many_equal_scores_are_drawn_among_and_reported() -> None:
    """Four fifths of the weights are 0: no quarter of the rows may be favoured, and the same draw comes again."""
    masks = []
    for _ in range(2):
        model = gv.dense((40, 80, 3), 0)
        with torch.no_grad():
            model.weights[0][:, 8:] = 0.0
        with pytest.warns(gv.TiedScoresWarning, match=r"2,560 connections share the score 0 of method 'magnitude'"):
            gv.prune(model, "magnitude", 0.5, layers=[0])
        masks.append(model.masks[0])
    assert torch.equal(*masks)
    assert int(masks[0].sum()) == 1600
    assert masks[0][:, :8].all()
    quarters = masks[0][:, 8:].reshape(4, -1).double().mean(1)
    assert float((quarters - 960 / 2560).abs().max()) < 4 * (0.375 * 0.625 / 640) ** 0.5


def test_a_refusal_leaves_the_masks_as_they_were() -> None:
    data = (np.random.default_rng(0).standard_normal((20, 5)), np.eye(3)[np.arange(20) % 3])
    model = gv.dense((5, 30, 3), 0)
    before = [mask.clone() for mask in model.masks]
    with pytest.raises(InputError, match="the loss is"):
        gv.prune(model, "imp", 0.1, data, steps=40, learning_rate=1e6)
    assert all(torch.equal(one, two) for one, two in zip(before, model.masks, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": "0.2"}, "density: expected a number"),
        ({"rounds": 2.5}, "rounds: expected a whole number"),
        ({"layers": 1.0}, "layers: expected different indices"),
        ({"layers": ["a"]}, "layers: expected different indices"),
        ({"temperature": 3.0}, "options: method 'magnitude' has none, got temperature"),
        (
            {"method": "grasp", "temprature": 3.0},
            "options: method 'grasp' has batch_size, loss, temperature, got tempr",
        ),
        ({"method": "imp"}, "options: method 'imp' trains, and needs learning_rate and steps"),
        ({"method": "imp", "steps": 1, "learning_rate": 1.0, "checkpoint": "x"}, "got checkpoint"),
        ({"method": "snip", "data": (np.ones((3, 5)),)}, "data: expected"),
    ],
)
def test_options_are_checked(arguments: dict[str, Any], message: str) -> None:
    given = {"method": "magnitude", "density": 0.5, "data": (np.ones((3, 5)), np.arange(3)), **arguments}
    with pytest.raises(InputError, match=message):
        gv.prune(gv.dense((5, 30, 3), 0), **given)


def test_half_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected float32 or float64, got torch\.float16"):
        gv.prune(gv.dense((5, 30, 3), 0, dtype=torch.float16), "magnitude", 0.5)


def test_pruned_connections_stay_pruned() -> None:
    model = random_model((10, 33, 27, 3), (0.6, 0.6, 0.6))
    before = [mask.clone() for mask in model.masks]
    gv.prune(model, "random", 0.3, rng=0)
    assert all(not (mask & ~old).any() for mask, old in zip(model.masks, before, strict=True))
    gv.prune(model, "random", 0.3, rng=1)
    assert sum(int(m.sum()) for m in model.masks) == round(0.3 * sum(m.numel() for m in model.masks))


def test_rounds_follow_the_exponential_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(model: gv.MaskedMLP, *_: object) -> list[torch.Tensor]:
        seen.append(sum(int(mask.sum()) for mask in model.masks))
        return [weight.detach().abs() for weight in model.weights]

    monkeypatch.setitem(METHODS, "watched", Method(watched))
    model = random_model((10, 40, 15), (1.0, 1.0))
    gv.prune(model, "watched", 1 / 16, rounds=4)
    assert seen == [1000, 500, 250, 125]
    assert sum(int(mask.sum()) for mask in model.masks) == round(1000 / 16)


def test_collapse_is_reported() -> None:
    model = random_model((5, 6, 1), (1.0, 1.0))
    model.weights[1].data.mul_(1e-9)
    with pytest.warns(gv.LayerCollapseWarning, match="layer 1 lost all its connections"):
        gv.prune(model, "magnitude", 0.5)
    assert not model.masks[1].any()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("magnitude", 0.0), {}, r"density: expected a number in \(0, 1\].*got 0.0"),
        (("magnitude", 1.5), {}, "density"),
        (("magnitude", float("nan")), {}, "density"),
        (("magnitude", 0.001), {}, "keeps none"),
        (("magnitude", 0.9), {}, "expected at most 0.5"),
        (("lottery", 0.5), {}, "method: expected one of .*magnitude.*got 'lottery'"),
        (("magnitude", 0.5), {"scope": "row"}, "scope"),
        (("magnitude", 0.5), {"layers": [2]}, r"layers: expected different indices in 0..1"),
        (("magnitude", 0.5), {"layers": []}, "layers"),
        (("magnitude", 0.5), {"rounds": 0}, "rounds"),
    ],
)
def test_bad_arguments_are_refused_before_anything_changes(
    arguments: tuple[str, float], options: dict[str, object], message: str
) -> None:
    model = random_model((10, 10, 2), (1.0, 1.0))
    gv.prune(model, "random", 0.5, scope="layer", rng=0)
    before = [mask.clone() for mask in model.masks]
    with pytest.raises(InputError, match=message):
        gv.prune(model, *arguments, **options)  # type: ignore[arg-type]
    assert all(torch.equal(mask, old) for mask, old in zip(model.masks, before, strict=True))


def test_scores_that_are_not_finite_are_refused() -> None:
    model = random_model((5, 6, 1), (1.0, 1.0))
    model.weights[1].data[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite in layer 1"):
        gv.prune(model, "magnitude", 0.5)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_derivatives_are_taken_where_they_are_turned_off(context: Any) -> None:
    """Masks by every method, a tangent kernel and a training curve are the same bit by bit."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal(6)
    options: dict[str, dict[str, Any]] = {
        "imp": {"steps": 2, "learning_rate": 0.1, "loss": "squared"},
        **{name: {"loss": "squared"} for name in ("snip", "grasp")},
    }

    def made() -> tuple[list[torch.Tensor], np.ndarray, np.ndarray]:
        masks = []
        for name, method in METHODS.items():
            model = gv.dense((3, 8, 8, 1), 0, activation="tanh")
            data = (x, y) if method.needs_data else None
            gv.prune(model, name, 0.5, data, rounds=2, rng=0, **options.get(name, {}))
            masks += model.masks
        losses = gv.train(model, (x, y), steps=3, learning_rate=0.1, progress=False).loss.values
        return masks, gv.empirical_kernel(model, x).ntk.values, losses

    wanted = made()
    with context():
        found = made()
    assert all(torch.equal(one, other) for one, other in zip(found[0], wanted[0], strict=True))
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_array_equal(found[2], wanted[2])
