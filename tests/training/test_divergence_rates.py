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
