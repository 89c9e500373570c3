"""
Residual branches and initialisation
====================================

A shortcut keeps signals alive in sparse branches; without one, variances fall layer by layer.
"""

import matplotlib.pyplot as plt
import numpy as np

import graphon_theory as gt

sparse = gt.StepGraphon([[0.6, 0.2], [0.2, 0.05]])
plain = gt.Network([1.0, *[sparse] * 6, 1.0])
branch = gt.Residual(gt.Pointwise("relu"), gt.Dense(sparse), scale=0.7)
residual = gt.Network([gt.Dense(1.0), *[branch] * 6, gt.Pointwise("relu"), gt.Dense(1.0)])
residual

# %%
# Variances of signals, layer by layer; `balanced` keeps them at 1 with one weight variance a layer.

figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
for name, network in (("plain", plain), ("residual", residual), ("plain, balanced", gt.balanced(plain))):
    variance = gt.criticality(network, q=1.0).variance
    ax.semilogy(np.arange(1, variance.sizes["layer"] + 1), variance.mean("u"), marker="o", label=name)
ax.set(xlabel="layer of units", ylabel="mean variance of signals")
ax.legend()
