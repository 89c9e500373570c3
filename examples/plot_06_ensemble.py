"""
Mean and spread over initialisations
====================================

A finite network starts from a random function. What is left of that start, at any time, is a band about the mean.
"""

import matplotlib.pyplot as plt
import numpy as np

import graphon_theory as gt

circle = np.linspace(-np.pi, np.pi, 121)
new = np.stack([np.cos(circle), np.sin(circle)], axis=1)
x, y = new[10:111:20], np.array([0.5, -1.0, 0.8, -0.6, 1.0, 0.2])

network = gt.Network([1.0, [[0.9, 0.1], [0.1, 0.5]], 1.0], activation="erf", bias_variance=0.1)
kernels, cross = gt.limit_kernel(network, x), gt.limit_kernel(network, new, x)
prior = np.diagonal(gt.limit_kernel(network, new).nngp)
band = gt.training_ensemble(kernels, y, [0.0, 10.0, 1000.0], test=cross, test_variance=prior)

# %%
# Before, during and after training.

figure, axes = plt.subplots(1, 3, figsize=(9.5, 3), sharey=True, layout="constrained")
for ax, time in zip(axes, band.time.values, strict=True):
    mean, std = band.test_mean.sel(time=time), band.test_std.sel(time=time)
    ax.plot(circle, mean, color="#0072B2")
    ax.fill_between(circle, mean - 2 * std, mean + 2 * std, color="#0072B2", alpha=0.2, linewidth=0)
    ax.plot(circle[10:111:20], y, "o", color="#D55E00", markersize=4)
    ax.set(title=f"t = {time:g}", xlabel="angle")

# %%
# The same band in time, for a few of the new inputs.

ax = gt.plots.training(band, inputs=[20, 60])
