"""The rate that networks survive: closed forms, and bounds that descent of small networks keeps."""

from __future__ import annotations

import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.errors import InputError, KernelError, NetworkError

X = np.random.default_rng(3).standard_normal((9, 4))


def test_the_output_bias_keeps_its_kernel_and_the_rest_is_shared_by_layers() -> None:
    network = gt.Network([0.5, 0.4, 1.0], bias_variance=(0.0, 0.2, 0.7))
    kernel = gt.limit_kernel(network, X).ntk
    rest = np.array(kernel) - 0.7
    expected = 2 / np.linalg.eigvalsh(rest / 3 / len(X) + 0.7 / len(X))[-1]
    assert gt.divergence_learning_rate(kernel, network) == pytest.approx(expected, rel=1e-12)
    assert gt.divergence_learning_rate(kernel.values, network) == pytest.approx(expected, rel=1e-12)
    assert expected > gt.critical_learning_rate(kernel)


def test_without_an_output_bias_it_is_depth_times_the_critical_rate() -> None:
    network = gt.Network([1.0, 0.3, 1.0], bias_variance=(0.3, 0.3, 0.0))
    kernel = gt.limit_kernel(network, X).ntk
    assert gt.divergence_learning_rate(kernel, network) == pytest.approx(
        3 * gt.critical_learning_rate(kernel), rel=1e-12
    )


def test_of_several_outputs_the_largest_counts_and_operators_give_the_same() -> None:
    last = gt.StepGraphon([[0.9, 0.2], [0.1, 0.3]])
    network = gt.Network([1.0, 0.5, last], bias_variance=0.1, outputs=2)
    kernels = gt.limit_kernel(network, X).ntk
    rates = [gt.divergence_learning_rate(kernels.isel(output=o), network) for o in range(2)]
    assert gt.divergence_learning_rate(kernels, network) == pytest.approx(min(rates), rel=1e-12)
    turned = kernels.transpose("x", "x2", "output")
    assert gt.divergence_learning_rate(turned, network) == pytest.approx(min(rates), rel=1e-12)
    single = gt.Network([1.0, 0.5, 1.0], bias_variance=0.1)
    operator = gt.kernel_operator(single, X)
    dense = gt.divergence_learning_rate(gt.limit_kernel(single, X).ntk, single)
    assert gt.divergence_learning_rate(operator, single) == pytest.approx(dense, rel=1e-10)


def test_the_standard_parameterization_trains_the_output_bias_by_one() -> None:
    network = gt.Network([1.0, 0.5, 1.0], bias_variance=0.1, parameterization="standard", widths=(4, 64, 64))
    kernel = gt.limit_kernel(network, X).ntk
    expected = 2 / np.linalg.eigvalsh((np.array(kernel) - 1) / 3 / len(X) + 1 / len(X))[-1]
    assert gt.divergence_learning_rate(kernel, network) == pytest.approx(expected, rel=1e-12)


def test_two_linear_layers_of_one_unit_part_where_it_says() -> None:
    """f = u v x at one input, target 0: loss falls in the end below 4 / lambda, and overflows above."""
    network = gt.Network([1.0, 1.0], gt.Activation("z"), weight_variance=1.0, bias_variance=0.0)
    kernel = np.array([[50.0]])
    limit = gt.divergence_learning_rate(kernel, network)
    assert limit == pytest.approx(4 / 50)
    for share, falls in ((0.97, True), (1.03, False)):
        u, v = 7.0, 1.0  # lambda = u^2 + v^2 = 50
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(400):
                u, v = u - share * limit * u * v * v, v - share * limit * v * u * u
        assert (abs(u * v) < 1e-3) is falls


def test_kernels_in_single_precision_are_taken_as_they_round() -> None:
    x = np.random.default_rng(0).standard_normal((60, 1))  # a kernel of low rank
    network = gt.Network([1.0, 1.0], bias_variance=0.0)
    single = gt.limit_kernel(network, x, dtype="float32").ntk
    rate = gt.divergence_learning_rate(gt.limit_kernel(network, x).ntk, network)
    assert gt.divergence_learning_rate(single, network) == pytest.approx(rate, rel=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    network = gt.Network([1.0, 0.5, 1.0], bias_variance=0.1)
    kernel = gt.limit_kernel(network, X).ntk
    with pytest.raises(KernelError, match="output bias"):
        gt.divergence_learning_rate(0.01 * kernel, network)
    with pytest.raises(InputError, match="network: expected a Network"):
        gt.divergence_learning_rate(kernel, "relu")  # type: ignore[arg-type]
    stages = [gt.Dense(1.0), gt.Residual(gt.Pointwise("relu"), gt.Dense(1.0)), gt.Pointwise("relu"), gt.Dense(1.0)]
    with pytest.raises(NetworkError, match="plain layers"):
        gt.divergence_learning_rate(kernel, gt.Network(stages))
    with pytest.raises(KernelError):
        gt.divergence_learning_rate(np.ones((2, 3)), network)


def mean_alone(batch: int, share: float, size: int = 4000) -> tuple[float, np.ndarray]:
    """The rate of an output's bias alone, kernel 1, on labels of whose square ``share`` is their mean's; the labels."""
    network = gt.Network([1.0, 1.0], bias_variance=(0.0, 1.0), parameterization="standard", widths=(4, 64))
    y = np.sqrt(share) + np.sqrt(1 - share) * np.resize([1.0, -1.0], size)
    few = y[:40]
    kernel = np.ones((40, 40))
    return gt.divergence_learning_rate(kernel, network, few, batch=batch, steps=10**6), y


@pytest.mark.parametrize(("batch", "share"), [(4, 0.5), (32, 0.1), (128, 0.3)])
def test_where_only_the_mean_is_learned_minibatches_have_a_closed_form(batch: int, share: float) -> None:
    rate, _ = mean_alone(batch, share)
    g = share * batch  # r / (1 - g / batch) = r / (1 - share)
    assert rate == pytest.approx(2 * g / (1 + g), rel=1e-6)


def test_minibatches_of_a_bias_end_below_their_start_where_it_says() -> None:
    """300 runs at once of f = c on batches of labels."""
    batch, share = 8, 0.1
    limit, y = mean_alone(batch, share)
    rng = np.random.default_rng(5)
    start = 0.5 * np.mean(y**2)
    for factor, below in ((0.85, True), (1.15, False)):
        c, losses = np.zeros(300), []
        for step in range(400):
            drawn = rng.choice(y, (300, batch))
            losses += [0.5 * ((c[:, None] - drawn) ** 2).mean()] if step >= 100 else []
            c -= factor * limit * (c - drawn.mean(axis=1))
        error = np.std(np.reshape(losses, (30, 10)).mean(axis=1)) / np.sqrt(30)
        z = float((np.mean(losses) - start) / error)
        assert z < -5 if below else z > 5


def test_batches_that_learn_all_are_bound_by_noise_that_feeds_itself() -> None:
    """Isotropic features: g = N eta s / (2 - eta s) = batch; many inputs of a batch come to descent's rate."""
    network = gt.Network([1.0, 1.0], bias_variance=0.0)
    kernel = 6.0 * np.eye(12)
    s = 6.0 / 12 / 2
    for batch in (1, 10, 1000):
        found = gt.divergence_learning_rate(kernel, network, batch=batch)
        assert found == pytest.approx(2 * batch / (12 + batch) / s, rel=1e-9)
    y = np.arange(12.0)
    given = {"batch": 10, "steps": 10**7}
    assert gt.divergence_learning_rate(kernel, network, y, **given) == pytest.approx(2 * 10 / 22 / s, rel=1e-6)
    assert gt.divergence_learning_rate(kernel, network, y, batch=10) == pytest.approx(2 * 10 / 22 / s, rel=1e-6)
    at_rest = gt.divergence_learning_rate(kernel, network, y, initial=y, **given)
    assert at_rest == pytest.approx(2 * 10 / 22 / s, rel=1e-6)
    assert gt.divergence_learning_rate(kernel, network, y, batch=10, steps=1) < 2 * 10 / 22 / s


def test_minibatches_of_outputs_with_their_own_kernels_add_their_losses() -> None:
    last = gt.StepGraphon([[0.9, 0.2], [0.1, 0.3]])
    network = gt.Network([1.0, 0.5, last], bias_variance=0.1, outputs=2)
    kernels = gt.limit_kernel(network, X).ntk
    y = np.random.default_rng(0).standard_normal((9, 2))
    rate = gt.divergence_learning_rate(kernels, network, y, batch=5, steps=30)
    bias, ends = float(network.trained_bias_variances[-1]), 0.0
    for o in range(2):
        shrunk = (kernels.isel(output=o).values - bias) / 3 + bias
        values, functions = np.linalg.eigh(shrunk / 9)
        left = 0.5 / 9 * np.sum((functions.T @ y[:, o] * np.exp(-rate * values * 30)) ** 2)
        ends += left / (1 - np.sum(rate * values / (2 - rate * values)) / 5)
    assert ends == pytest.approx(0.5 * np.sum(y**2) / 9, rel=1e-6)


def test_what_is_said_of_minibatches_belongs_together() -> None:
    network = gt.Network([1.0, 0.5, 1.0], bias_variance=0.1)
    kernel, y = gt.limit_kernel(network, X).ntk, X[:, 0]
    for given, name in (({"y": y}, "y"), ({"batch": 4, "steps": 9}, "steps"), ({"batch": 4, "initial": y}, "initial")):
        with pytest.raises(InputError, match=f"^{name}: it goes with"):
            gt.divergence_learning_rate(kernel, network, **given)
    with pytest.raises(InputError, match="batch: expected a positive whole number"):
        gt.divergence_learning_rate(kernel, network, y, batch=0)
    with pytest.raises(KernelError, match="takes all eigenvalues"):
        gt.divergence_learning_rate(gt.kernel_operator(network, X), network, batch=4)
    with pytest.raises(InputError, match="the noise outweighs"):
        gt.divergence_learning_rate(10 * np.eye(9), gt.Network([1.0, 1.0], bias_variance=0.0), y, batch=1, steps=1)
