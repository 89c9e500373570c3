"""The GPyTorch kernel: its values, its gradients by finite differences, its process against nngp_posterior and fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import graphon_theory as gt
import graphon_validation as gv
from graphon_theory.errors import InputError, NetworkError

gpytorch = pytest.importorskip("gpytorch")

RNG = np.random.default_rng(4)
X, NEW = (torch.as_tensor(RNG.standard_normal((size, 3))) for size in (10, 4))
Y = torch.sin(X[:, 0]) + 0.5
NETWORK = gt.Network([1.0, gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]]), 1.0], "erf", 1.5, 0.2)


class Process(gpytorch.models.ExactGP):  # type: ignore[name-defined]
    def __init__(self, kernel: Any, likelihood: Any) -> None:
        super().__init__(X, Y, likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x: Any) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def process(kernel: Any) -> tuple[Any, Any]:
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = 0.05
    likelihood.raw_noise.requires_grad_(False)
    return Process(kernel, likelihood), likelihood


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_values_and_gradients(kind: str) -> None:
    kernel = gv.GraphonGPyTorchKernel(NETWORK, kind)
    np.testing.assert_allclose(kernel(X).to_dense().detach(), gt.limit_kernel(NETWORK, X.numpy())[kind], rtol=1e-12)
    cross = gt.limit_kernel(NETWORK, X.numpy(), NEW.numpy())[kind]
    np.testing.assert_allclose(kernel(X, NEW).to_dense().detach(), cross, rtol=1e-12)
    np.testing.assert_allclose(kernel(X, diag=True).detach(), np.diagonal(kernel(X).to_dense().detach()), rtol=1e-12)
    cotangent = torch.as_tensor(RNG.standard_normal((len(X), len(NEW))))
    (cotangent * kernel(X, NEW).to_dense()).sum().backward()
    for name in kernel.names:
        raw = getattr(kernel, f"raw_{name}")
        for place in range(3):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    raw[place] += step
                    values.append(float((cotangent * kernel(X, NEW).to_dense()).sum()))
                    raw[place] -= step
            assert float(raw.grad[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6, abs=1e-8)


def test_the_posterior_is_ours() -> None:
    model, _ = process(gv.GraphonGPyTorchKernel(NETWORK))
    model.eval()
    with torch.no_grad():
        found = model(NEW)
    kernels = gt.limit_kernel(NETWORK, X.numpy()).nngp, gt.limit_kernel(NETWORK, NEW.numpy(), X.numpy()).nngp
    prior = np.diagonal(gt.limit_kernel(NETWORK, NEW.numpy()).nngp)
    expected = gt.nngp_posterior(kernels[0], Y.numpy(), kernels[1], prior, noise=0.05)
    np.testing.assert_allclose(found.mean, expected["mean"], rtol=1e-6)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-5)


def test_training_raises_the_evidence_towards_that_of_fit() -> None:
    kernel = gv.GraphonGPyTorchKernel(NETWORK)
    model, likelihood = process(kernel)
    model.train()
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    engine = torch.optim.LBFGS([p for p in model.parameters() if p.requires_grad], line_search_fn="strong_wolfe")

    def closure() -> Any:
        engine.zero_grad()
        loss = -evidence(model(X), Y)
        loss.backward()
        return loss

    start = -float(closure().detach()) * len(X)
    for _ in range(2):
        engine.step(closure)
    found = gt.fit(NETWORK, X.numpy(), Y.numpy(), noise=0.05)
    assert start == pytest.approx(found.start, abs=1e-4)
    ended = -float(closure().detach()) * len(X)
    assert start + 0.5 * (found.log_evidence - start) < ended < found.log_evidence + 1e-3


def test_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="network: expected a Network"):
        gv.GraphonGPyTorchKernel("relu")  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="one output"):
        gv.GraphonGPyTorchKernel(NETWORK.changed(outputs=2))
    with pytest.raises(NetworkError, match="bias_variance of every layer must be above 0"):
        gv.GraphonGPyTorchKernel(NETWORK.changed(bias_variance=[0.1, 0.0, 0.1]))
    kernel = gv.GraphonGPyTorchKernel(NETWORK.changed(bias_variance=0.0))
    assert float(kernel.bias_variance.abs().max()) == 0
    assert kernel.names == ("weight_variance",)
    assert kernel.network == NETWORK.changed(bias_variance=0.0)
    with pytest.raises(InputError, match="no gradient in its inputs"):
        kernel(X.clone().requires_grad_()).to_dense()
    with pytest.raises(InputError, match="batches are not taken"):
        kernel(X[None]).to_dense()
