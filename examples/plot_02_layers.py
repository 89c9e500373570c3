"""
What pruning leaves: W, V and D
===============================

Which connections survive (W), how strong they are (V), and whether their mean is zero (D): one layer of each kind.
"""

import matplotlib.pyplot as plt
import numpy as np

import graphon_theory as gt

# %%
# Random and magnitude pruning share W and differ in V: strong weights are left.

for layer in (gt.random_pruning(0.2), gt.magnitude_pruning(0.2)):
    print(layer.mask.mean(), layer.variance.mean())

# %%
# A saliency with factors of its own: receivers near 0 and senders near 1 keep more.

saliency = gt.saliency_pruning("exp(-2*u)", "1 + v", density=0.2)
ax = gt.plots.connectivity(saliency)

# %%
# How V / W falls with density.

densities = np.linspace(0.02, 1, 60)
ratios = [gt.magnitude_pruning(p).variance.mean() / p for p in densities]
figure, ax = plt.subplots(figsize=(4.6, 3.2), layout="constrained")
ax.plot(densities, ratios, color="#0072B2")
ax.set(xlabel="density", ylabel="V / W of magnitude pruning", xscale="log")
